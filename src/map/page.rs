//! The map as one HTML page, which needs no other file.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use minijinja::{Environment, context};
use sha2::{Digest, Sha256};

use super::Map;
use super::columns::{Labels, Listed};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/data.js"),
    include_str!("page/picture.js"),
    include_str!("page/page.js")
);

/// A filesystem of at most this many bytes has a small page.
const SMALL: u64 = 16 << 20;
/// The largest sizes in bytes: of a small page, and of any other page.
const SIZES: [usize; 2] = [300 << 10, 3 << 20];
/// How many times the list of entries is shortened if the page is too large.
const TRIES: u32 = 8;

/// The page of one map, or of two maps that were compared with each other.
///
/// A page has at most 300 KiB if each filesystem has at most 16 MiB; otherwise it has at most 3
/// MiB. If the page would be larger with all names, only the names nearest to the root are listed,
/// and the others are counted. Blocks are never left out, however much space they take.
///
/// # Errors
/// A sentence for people, if the page cannot be made.
pub fn html(maps: &[(&Map, Labels)]) -> Result<String, String> {
    let is_small = maps.iter().all(|(map, _)| map.geometry.size() <= SMALL);
    let [small, large] = SIZES;
    let around = TEMPLATE.len() + STYLE.len() + SCRIPT.len() + (1 << 10);
    let room = if is_small { small } else { large }.saturating_sub(around);
    // four characters hold three bytes
    let room = room / 4 * 3 / maps.len().max(1);
    let images: Vec<String> = maps
        .iter()
        .map(|(map, labels)| packed(map, labels, room).map(|bytes| BASE64_STANDARD.encode(bytes)))
        .collect::<std::io::Result<_>>()
        .map_err(|e| e.to_string())?;
    let titles: Vec<&str> = maps.iter().map(|(_, labels)| &*labels.title).collect();
    let mut environment = Environment::empty();
    environment.add_filter("safe", minijinja::value::Value::from_safe_string);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
    let context = context! {
        title => titles.join(" and "),
        style => STYLE,
        style_hash => hash(STYLE),
        script => SCRIPT,
        script_hash => hash(SCRIPT),
        images,
    };
    environment.render_str(TEMPLATE, context).map_err(|e| e.to_string())
}

/// The columns of a map, compressed. Names are left out to keep them within `room` bytes, if that
/// is possible.
fn packed(map: &Map, labels: &Labels, room: usize) -> std::io::Result<Vec<u8>> {
    let summary = map.summary();
    let mut listed = Listed::all(map);
    for left in (0..TRIES).rev() {
        let packed = deflate(&listed.columns(labels, &summary))?;
        if packed.len() <= room || listed.len() <= 1 {
            return Ok(packed);
        }
        // only the names get smaller, not the rest, so the first guess may still be too large
        let kept = listed.len() as u64 * room as u64 / packed.len() as u64;
        listed.truncate(if left > 1 { kept as usize * 9 / 10 } else { 1 });
    }
    deflate(&listed.columns(labels, &summary))
}

fn deflate(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The hash by which the page allows its own style or script. Nothing else runs, whatever the names
/// contain.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}
