//! `littlefs-python`, which ESP-IDF projects call through esp_littlefs.

use std::io::{self, Write};
use std::num::IntErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::super::CliError;
use super::{ARGPARSE_USAGE, gathering, make, open, unpack};
use crate::check::show;
use crate::files;
use crate::image::Place;
use crate::transfer::{Creation, Input, Kind, Links, Manifest, Size, gather};
use crate::{FormatOptions, Littlefs, OpenOptions};

/// The default limit for user attributes, in bytes.
const ATTR_MAX: u32 = 1022;

/// Make, extract and list littlefs images, as littlefs-python does
#[derive(Parser, Debug)]
#[command(
    name = "littlefs-python",
    version = concat!("0.19.0 as littlefs-progs ", env!("CARGO_PKG_VERSION")),
    after_help = "\
This is littlefs-progs under the name of littlefs-python; 'littlefs create', 'littlefs extract' and
'littlefs ls' can do more."
)]
pub struct LittlefsPython {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make an image from a file, or from the content of a directory
    Create(Create),
    /// Extract the content of an image to a directory
    Extract(Extract),
    /// List the content of an image
    List(List),
}

#[derive(Args, Debug)]
struct Common {
    /// Print what is done
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Longest file name, in bytes
    #[arg(long, value_name = "N", default_value = "255", value_parser = parse_size_u32)]
    name_max: u32,

    /// Largest user attribute, in bytes [default: 1022]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attr_max: u32,

    /// Largest file, in bytes [default: 2147483647]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    file_max: u32,

    /// Largest file that is stored in the blocks of its directory, in bytes
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_size_u32,
          hide_default_value = true)]
    inline_max: u32,

    /// Encoding of the names in the image; only utf-8 is possible
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    filename_encoding: Option<()>,

    /// Bytes of a block
    #[arg(long, value_name = "BYTES", value_parser = parse_size_u32)]
    block_size: u32,
}

#[derive(Args, Debug)]
struct Create {
    #[command(flatten)]
    common: Common,

    /// File, or directory with files
    source: PathBuf,

    /// The image
    #[arg(default_value = "lfs.bin")]
    destination: PathBuf,

    /// Store everything in the first blocks; always done
    #[arg(long)]
    compact: bool,

    /// With --compact: leave out the free blocks at the end
    #[arg(long)]
    no_pad: bool,

    /// Number of blocks
    #[arg(long, value_name = "N", required_unless_present = "fs_size", conflicts_with = "fs_size")]
    block_count: Option<u32>,

    /// Bytes of the filesystem, like 1MB or 1048576
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    fs_size: Option<u64>,
}

#[derive(Args, Debug)]
struct Extract {
    #[command(flatten)]
    common: Common,

    /// The image
    source: PathBuf,

    /// Directory to write into; made if it does not exist
    #[arg(default_value = ".")]
    destination: PathBuf,
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    common: Common,

    /// The image
    source: PathBuf,
}

/// A number of bytes: decimal or 0x hexadecimal, with an optional b, kb, mb or gb.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a number of bytes (like 4096, 0x1000, 4kb or 1mb)");
    let lower = text.to_lowercase();
    let (number, radix) = match lower.strip_prefix("0x") {
        Some(rest) => (rest, 16),
        None => (&lower[..], 10),
    };
    let units = [("kb", 10), ("mb", 20), ("gb", 30), ("b", 0)];
    // a hexadecimal number may end in the digit b; the original takes that digit for the unit, too
    let (number, shift) = units
        .iter()
        .find_map(|&(unit, shift)| Some((number.strip_suffix(unit)?, shift)))
        .unwrap_or((number, 0));
    let large = || format!("'{text}' is too large");
    let value = u64::from_str_radix(number, radix).map_err(|e| match e.kind() {
        IntErrorKind::PosOverflow => large(),
        _ => wrong(),
    })?;
    value.checked_mul(1 << shift).ok_or_else(large)
}

fn parse_size_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?).map_err(|_| format!("'{text}' is too large"))
}

fn parse_encoding(name: &str) -> Result<(), String> {
    match name.to_lowercase().replace('_', "-").as_str() {
        "utf-8" | "utf8" => Ok(()),
        _ => Err("only utf-8 is possible, because names are stored as they are".to_owned()),
    }
}

impl LittlefsPython {
    /// Run the command.
    ///
    /// # Errors
    /// If the command fails; the error says why.
    pub fn run(&self) -> Result<ExitCode, CliError> {
        match &self.command {
            Command::Create(args) => args.run(),
            Command::Extract(args) => args.run(),
            Command::List(args) => args.run(),
        }
    }
}

impl Common {
    /// Open an existing image.
    fn open(&self, source: &Path) -> Result<Littlefs, CliError> {
        if !source.is_file() {
            let source = source.display();
            let message = format!("Source image '{source}' does not exist.");
            return Err(CliError::new(ARGPARSE_USAGE, message));
        }
        let options = OpenOptions::new().place(Place::Auto).block_size(self.block_size);
        let image = open(source, options)?;
        if self.verbose > 0 {
            self.say(image.geometry().block_count, source)?;
        }
        Ok(image)
    }

    /// Print the configuration of the filesystem.
    fn say(&self, block_count: u32, image: &Path) -> io::Result<()> {
        let size = u64::from(block_count) * u64::from(self.block_size);
        let mut out = io::stdout().lock();
        writeln!(out, "LittleFS Configuration:")?;
        writeln!(out, "  Block Size:  {:9}  /  0x{:X}", self.block_size, self.block_size)?;
        writeln!(out, "  Image Size:  {size:9}  /  0x{size:X}")?;
        writeln!(out, "  Block Count: {block_count:9}")?;
        writeln!(out, "  Name Max:    {:9}", self.name_max)?;
        if self.inline_max > 0 {
            writeln!(out, "  Inline Max:  {:9}  /  0x{:X}", self.inline_max, self.inline_max)?;
        }
        for (what, limit) in [("Attr Max:", self.attr_max), ("File Max:", self.file_max)] {
            if limit > 0 {
                writeln!(out, "  {what:<12} {limit:9}")?;
            }
        }
        writeln!(out, "  Image:       {}", image.display())
    }

    /// The format of the original, which sets all sizes of the C driver to the block size.
    fn format(&self) -> FormatOptions {
        let attr_max = if self.attr_max == 0 { ATTR_MAX } else { self.attr_max };
        let inline_max = match self.inline_max {
            0 => self.block_size.min(attr_max).min(self.block_size / 8),
            given => given,
        };
        let mut format = FormatOptions::new()
            .block_size(self.block_size)
            .name_max(self.name_max)
            .prog_size(self.block_size)
            .inline_max(inline_max);
        if self.attr_max > 0 {
            format = format.attr_max(self.attr_max);
        }
        if self.file_max > 0 {
            format = format.file_max(self.file_max);
        }
        format
    }
}

impl Create {
    fn run(&self) -> Result<ExitCode, CliError> {
        let block_size = self.common.block_size;
        let block_count = self.block_count()?;
        if self.common.verbose > 0 {
            self.common.say(block_count, &self.destination)?;
        }
        let how = gathering(Links::Follow, &[], None)?;
        let input = Input::Path(self.source.clone());
        let manifest = gather(vec![input], &how).map_err(CliError::failure)?;
        if self.common.verbose > 0 {
            say_added(&manifest)?;
        }
        if let Some(parent) = self.destination.parent() {
            files::make_dirs(parent).map_err(|e| CliError::of_file(parent, &e))?;
        }
        let compact = self.compact && self.no_pad;
        let size = Size::Blocks(block_count);
        let creation = Creation { compact, ..Creation::new(self.common.format(), size) };
        let created = make(&self.destination, &manifest, &creation)?;
        if self.common.verbose > 0 && self.compact {
            let used = created.image_size.div_ceil(u64::from(block_size.max(1)));
            writeln!(io::stdout(), "Compacting... {used} / {block_count}")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn block_count(&self) -> Result<u32, CliError> {
        let Some(size) = self.fs_size else { return Ok(self.block_count.unwrap_or(0)) };
        let usage = |message: &str| CliError::new(ARGPARSE_USAGE, message);
        let block_size = u64::from(self.common.block_size);
        match size.checked_rem(block_size) {
            Some(0) => u32::try_from(size / block_size)
                .map_err(|_| usage("fs-size has too many blocks of this size.")),
            _ => Err(usage("fs-size must be a multiple of block-size.")),
        }
    }
}

fn say_added(manifest: &Manifest) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for item in manifest.items() {
        let what = if item.kind == Kind::Dir { "Directory:" } else { "File:     " };
        writeln!(out, "Adding {what} {}", show(&item.path))?;
    }
    Ok(())
}

impl Extract {
    fn run(&self) -> Result<ExitCode, CliError> {
        let image = self.common.open(&self.source)?;
        if self.destination.exists() && !self.destination.is_dir() {
            return Err(CliError::failure("Destination must be a directory."));
        }
        files::make_dirs(&self.destination)
            .map_err(|e| CliError::of_file(&self.destination, &e))?;
        let (_, code) = unpack(&image, &self.source, &self.destination)?;
        if self.common.verbose > 0 {
            let mut out = io::stdout().lock();
            for path in paths(&image)? {
                let target = self.destination.join(&path);
                writeln!(out, "/{path} {}", target.display())?;
            }
        }
        Ok(code)
    }
}

impl List {
    fn run(&self) -> Result<ExitCode, CliError> {
        let image = self.common.open(&self.source)?;
        let mut out = io::stdout().lock();
        for path in paths(&image)? {
            writeln!(out, "/{path}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every path in the image, in the order of the original: for each directory, first the directories
/// in it, then the files in it, and then the content of these directories.
fn paths(image: &Littlefs) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    let mut left = vec![Vec::new()];
    while let Some(dir) = left.pop() {
        let (mut dirs, mut files) = (Vec::new(), Vec::new());
        for entry in image.read_dir(&dir).map_err(CliError::failure)? {
            let entry = entry.map_err(CliError::failure)?;
            let path = match dir.is_empty() {
                true => entry.name().to_vec(),
                false => [&dir[..], b"/", entry.name()].concat(),
            };
            let is_dir = entry.metadata().map_err(CliError::failure)?.is_dir();
            if is_dir { dirs.push(path) } else { files.push(path) }
        }
        all.extend(dirs.iter().chain(&files).map(|path| show(path)));
        left.extend(dirs.into_iter().rev());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_the_original() {
        for (text, size) in [
            ("4096", 4096),
            ("4096b", 4096),
            ("0x1000", 4096),
            ("4kb", 4096),
            ("4KB", 4096),
            ("1MB", 1 << 20),
            ("2gb", 2 << 30),
            ("0x10kb", 16 << 10),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for wrong in ["", "4k", "kb", "-1", "1.5mb", "0x"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
