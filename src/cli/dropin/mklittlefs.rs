//! `mklittlefs`, which the Arduino cores for ESP8266, ESP32 and RP2040 and PlatformIO call.

use std::fs;
use std::io::{self, Write};
use std::num::IntErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{ArgGroup, Parser};

use super::super::gathering::source_date_epoch;
use super::super::{CliError, date};
use super::{gathering, make, open, unpack};
use crate::check::show;
use crate::convention::Choice;
use crate::disk::superblock::VERSION_2_0;
use crate::image::Place;
use crate::transfer::{Creation, Input, Kind, Links, Size, gather};
use crate::{FormatOptions, Littlefs, OpenOptions, time};

/// The name limit of the builds for ESP8266, in bytes. Their devices refuse images that allow
/// longer names.
const SHORT_NAME_MAX: u32 = 32;
/// The name limit of other builds, in bytes.
const LONG_NAME_MAX: u32 = 255;
/// Names that are left out of images unless `-a` is given.
const IGNORED: [&str; 4] = [".DS_Store", ".git", ".gitignore", ".gitmodules"];
/// The lowest level of `-d` at which the used space is printed.
const DEBUG_SPACE: u32 = 4;

/// Make, unpack or list a littlefs image, as mklittlefs does
#[derive(Parser, Debug)]
#[command(
    name = "mklittlefs",
    version = concat!(
        "ver. 4.1.0 as littlefs-progs ", env!("CARGO_PKG_VERSION"),
        "\nLittleFS configuration:\n  LFS_NAME_MAX: 255\n  LFS_FILE_MAX: 2147483647\n  LFS_ATTR_MAX: 1022"
    ),
    group = ArgGroup::new("action").required(true),
    after_help = "\
Numbers are decimal, hexadecimal with 0x, or octal with a leading 0. This is littlefs-progs under
the name of mklittlefs; 'littlefs create' and 'littlefs extract' can do more."
)]
pub struct Mklittlefs {
    /// Make an image from the content of this directory
    #[arg(short, long, value_name = "DIR", group = "action")]
    create: Option<PathBuf>,

    /// Unpack the image into this directory
    #[arg(short, long, value_name = "DIR", group = "action")]
    unpack: Option<PathBuf>,

    /// List the content of the image
    #[arg(short, long, group = "action")]
    list: bool,

    /// Size of the image in bytes; required with -c
    #[arg(short, long, value_name = "N", default_value = "0", value_parser = parse_number)]
    size: u32,

    /// Block size in bytes [default: 4096; with -u and -l that of the image]
    #[arg(short, long, value_name = "N", value_parser = parse_number)]
    block: Option<u32>,

    /// Accepted, without effect
    #[arg(short, long, value_name = "N", value_parser = parse_number)]
    page: Option<u32>,

    /// Smallest number of bytes that the device reads and writes
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = parse_number)]
    read: u32,

    /// Size of the device's cache, a multiple of -r; larger files are not stored in their directory
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = parse_number)]
    memory: u32,

    /// Accepted, without effect: nothing wears out while an image is made
    #[arg(short, long, value_name = "N", value_parser = parse_number)]
    erase: Option<u32>,

    /// Accepted, without effect: how far the device looks ahead for free blocks
    #[arg(short = 't', long, value_name = "N", value_parser = parse_number)]
    prefetch: Option<u32>,

    /// Keep .DS_Store, .git, .gitignore and .gitmodules
    #[arg(short, long)]
    all_files: bool,

    /// With -c: store only the files that are listed in FILE, one path below DIR on each line
    #[arg(short = 'T', long, value_name = "FILE")]
    from_file: Option<PathBuf>,

    /// Debug level; from 4 on, print how many bytes are in use
    #[arg(short, long, value_name = "N", default_value = "0", value_parser = parse_number)]
    debug: u32,

    /// The image
    image: PathBuf,
}

/// Parse a number in the notation of C.
fn parse_number(text: &str) -> Result<u32, String> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
    let number = match (hex, octal) {
        (Some(digits), _) => u32::from_str_radix(digits, 16),
        (None, Some(digits)) => u32::from_str_radix(digits, 8),
        (None, None) => text.parse(),
    };
    number.map_err(|e| match e.kind() {
        IntErrorKind::PosOverflow => format!("'{text}' is too large"),
        _ => format!("'{text}' is not a number like 4096 or 0x1000"),
    })
}

impl Mklittlefs {
    /// Run the command.
    ///
    /// # Errors
    /// If the command fails; the error says why.
    pub fn run(&self) -> Result<ExitCode, CliError> {
        match (&self.create, &self.unpack) {
            (Some(dir), _) => self.pack(dir),
            (None, Some(dir)) => self.unpack(dir),
            (None, None) => self.list(),
        }
    }

    fn pack(&self, dir: &Path) -> Result<ExitCode, CliError> {
        if self.size == 0 {
            return Err(CliError::failure("give the size of the image: -s BYTES"));
        }
        if self.read == 0 || !self.memory.is_multiple_of(self.read) {
            return Err(CliError::failure(format_args!(
                "the cache (-m {}) must be a multiple of the read size (-r {})",
                self.memory, self.read
            )));
        }
        if !fs::metadata(dir).is_ok_and(|meta| meta.is_dir()) {
            let dir = dir.display();
            return Err(CliError::failure(format_args!("{dir}: no such directory")));
        }
        let latest = source_date_epoch()?;
        let exclude = if self.all_files { &[][..] } else { &IGNORED };
        let how = gathering(Links::FollowToFiles, exclude, latest)?;
        let input = match &self.from_file {
            None => Input::Path(dir.to_owned()),
            Some(list) => Input::Listed { directory: dir.to_owned(), paths: read_list(list)? },
        };
        let mut manifest = gather(vec![input], &how).map_err(CliError::failure)?;
        manifest.retain(|item| matches!(item.kind, Kind::Dir | Kind::File));
        manifest.drop_empty_directories();
        let items = manifest.items();
        let longest = items.iter().map(|item| item.split().1.len()).max().unwrap_or(0);
        let fits = longest <= SHORT_NAME_MAX as usize;
        let creation = self.creation(if fits { SHORT_NAME_MAX } else { LONG_NAME_MAX }, latest);
        let created = make(&self.image, &manifest, &creation)?;
        let mut out = io::stdout().lock();
        for item in items.iter().filter(|item| item.kind == Kind::File) {
            writeln!(out, "/{}", show(&item.path))?;
        }
        self.say_space(
            &mut out,
            created.geometry.block_size,
            created.geometry.block_count,
            || Ok(created.blocks_used),
        )?;
        Ok(ExitCode::SUCCESS)
    }

    /// Files and directories keep the time of their last change. The root directory gets the time
    /// at which the image was made.
    fn creation(&self, name_max: u32, latest: Option<i64>) -> Creation {
        let block_size = self.block.unwrap_or(4096);
        let now = latest.unwrap_or_else(|| time::now().div_euclid(1_000_000_000));
        let format = FormatOptions::new()
            .block_size(block_size)
            // all drivers can read this version
            .disk_version(VERSION_2_0)
            .name_max(name_max)
            .prog_size(self.read)
            // the limit of the C driver
            .inline_max(self.memory.min(block_size / 8))
            .convention(Choice::parse("arduino").unwrap_or(Choice::None));
        let stamp = now.to_le_bytes().to_vec();
        let root_attrs = vec![(b't', stamp.clone()), (b'c', stamp)];
        let size = Size::Blocks(self.size / block_size.max(1));
        Creation { root_attrs, ..Creation::new(format, size) }
    }

    fn open(&self) -> Result<Littlefs, CliError> {
        let convention = Choice::parse("arduino").unwrap_or(Choice::None);
        let mut options = OpenOptions::new().place(Place::Auto).convention(convention);
        if let Some(block_size) = self.block {
            options = options.block_size(block_size);
        }
        open(&self.image, options)
    }

    fn unpack(&self, dir: &Path) -> Result<ExitCode, CliError> {
        let image = self.open()?;
        if !dir.exists() {
            let dir = dir.display();
            writeln!(io::stdout(), "Directory {dir} does not exists. Try to create it.")?;
        }
        let (done, code) = unpack(&image, &self.image, dir)?;
        let mut out = io::stdout().lock();
        let failed = |path: &[u8]| done.left_out.iter().any(|left| left.path == path);
        for entry in image.walk("").into_iter().flatten().flatten() {
            if entry.metadata().is_file() && !failed(entry.path()) {
                let (path, size) = (show(entry.path()), entry.metadata().len());
                let place = dir.join(&path);
                writeln!(out, "/{path}\t > {}\tsize: {size} Bytes", place.display())?;
            }
        }
        Ok(code)
    }

    fn list(&self) -> Result<ExitCode, CliError> {
        let image = self.open()?;
        let fail = |e| CliError::failure(format_args!("{}: {e}", self.image.display()));
        let mut out = io::stdout().lock();
        for entry in image.walk("").map_err(fail)? {
            let entry = entry.map_err(CliError::failure)?;
            let metadata = entry.metadata();
            let first = match metadata.is_dir() {
                true => "<dir>".to_owned(),
                false => metadata.len().to_string(),
            };
            let when = metadata.modified().map(asctime).map(|when| format!("\t{when}"));
            writeln!(out, "{first}\t/{}{}", show(entry.path()), when.unwrap_or_default())?;
        }
        // the length of the attribute is that of a time on the system that made the image
        if let Ok(stamp) = image.attr("", b't') {
            let mut bytes = [0; 8];
            let len = stamp.len().min(bytes.len());
            bytes[..len].copy_from_slice(&stamp[..len]);
            writeln!(out, "Creation time:\t{}", date::asctime(i64::from_le_bytes(bytes)))?;
        }
        let geometry = image.geometry();
        self.say_space(&mut out, geometry.block_size, geometry.block_count, || {
            image.usage().map(|usage| usage.blocks_used).map_err(fail)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn say_space(
        &self,
        out: &mut impl Write,
        block_size: u32,
        blocks: u32,
        used: impl FnOnce() -> Result<u32, CliError>,
    ) -> Result<(), CliError> {
        if self.debug < DEBUG_SPACE {
            return Ok(());
        }
        let used = used()?;
        writeln!(out, "=== Filesystem space ===")?;
        for (what, blocks) in
            [("Total:", blocks), ("Used: ", used), ("Free: ", blocks.saturating_sub(used))]
        {
            let bytes = u64::from(blocks) * u64::from(block_size);
            writeln!(out, "  {what} {bytes} bytes ({blocks} blocks)")?;
        }
        Ok(())
    }
}

fn asctime(time: SystemTime) -> String {
    date::asctime(time::nanos(time).div_euclid(1_000_000_000))
}

/// The paths in a file, one on each line.
fn read_list(list: &Path) -> Result<Vec<Vec<u8>>, CliError> {
    let text = fs::read(list).map_err(|e| CliError::of_file(list, &e))?;
    let lines = text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        for (text, number) in
            [("0", Ok(0)), ("4096", Ok(4096)), ("0x1000", Ok(4096)), ("010", Ok(8))]
        {
            assert_eq!(parse_number(text), number, "{text}");
        }
        for wrong in ["", "4K", "0x", "-1", "09", "4294967296"] {
            assert!(parse_number(wrong).is_err(), "{wrong}");
        }
    }
}
