//! The map as one page of HTML, which needs nothing else.

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

/// Filesystems up to this size have small pages, in bytes.
const SMALL: u64 = 16 << 20;
/// Bytes of a small page, and of any other.
const SIZES: [usize; 2] = [300 << 10, 3 << 20];
/// Times that fewer entries are tried where the page is too large.
const TRIES: u32 = 8;

/// The page of one map, or of two that were compared with each other.
///
/// A page is kept to 300 KiB where the filesystems have up to 16 MiB each, else to 3 MiB: where the names
/// would make it larger, only those nearest to the root are listed, and the others are counted. The blocks
/// are never left out, whatever they take.
///
/// # Errors
/// A sentence for people, when the page cannot be made.
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

/// The columns of a map, compressed to at most `room` bytes if leaving out names can do that.
fn packed(map: &Map, labels: &Labels, room: usize) -> std::io::Result<Vec<u8>> {
    let summary = map.summary();
    let mut listed = Listed::all(map);
    for left in (0..TRIES).rev() {
        let packed = deflate(&listed.columns(labels, &summary))?;
        if packed.len() <= room || listed.len() <= 1 {
            return Ok(packed);
        }
        // what is around the names does not get smaller, so the first guess may be too large
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

/// What the page allows as its style and its script: nothing else runs, whatever names hold.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}
