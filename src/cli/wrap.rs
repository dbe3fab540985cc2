//! `littlefs unwrap` and `littlefs wrap`: images out of UF2, hex, DFU and compressed files, and back.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::info::bytes;
use super::{CliError, parse_bytes, parse_bytes_u32};
use crate::image::{self, Kind, Options, Page, WrapTarget, uf2_family};
use crate::show::Show;

/// Take the image out of a UF2, hex, DFU or compressed file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs unwrap flash.uf2 flash.bin            an image that can be changed
  littlefs mount flash.bin /mnt                  ...
  littlefs wrap --like flash.uf2 flash.bin new.uf2

  littlefs unwrap backup.bin.gz flash.bin        unpacks gzip, xz and zstd, too
  littlefs unwrap --page 2048+64 nand.bin raw    leaves the spare bytes out

What a file has no bytes for is written as erased (0xFF).")]
pub struct UnwrapArgs {
    /// The file that the image is in
    file: PathBuf,

    /// The file to make
    raw: PathBuf,

    /// The address to begin with, where the file holds several stretches that are far apart
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bytes)]
    base: Option<u64>,

    /// FILE is a dump of NAND flash with spare bytes: bytes of a page and of its spare, like
    /// 2048+64 [default: as it is recognised]
    #[arg(long, value_name = "PAGE", value_parser = Page::parse)]
    page: Option<Page>,

    /// Unpack so many bytes at most [default: 4G]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    unpack_limit: Option<u64>,

    /// Overwrite RAW
    #[arg(long)]
    force: bool,
}

/// Put an image into a UF2, hex or DFU file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs wrap --like flash.uf2 flash.bin new.uf2       as flash.uf2, with what was changed
  littlefs wrap --format uf2 --family rp2040 --base 0x101c0000 fs.img fs.uf2
  littlefs wrap --format hex --base 0xed000 fs.img fs.hex

With --like, format, addresses, family and everything else come from that file; what does not change
stays as it is, byte by byte, and records are added only where there were none.")]
pub struct WrapArgs {
    /// The image
    raw: PathBuf,

    /// The file to make
    file: PathBuf,

    /// The format
    #[arg(long, value_name = "NAME", required_unless_present = "like", conflicts_with = "like")]
    format: Option<Format>,

    /// The address of the first byte; with --like, the one that was given to unwrap [default: 0, or
    /// as in the file given with --like]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bytes_u32)]
    base: Option<u32>,

    /// The family of processors a UF2 file is for: rp2040, esp32s3, nrf52840..., or its number
    #[arg(long, value_name = "NAME", value_parser = uf2_family, conflicts_with = "like")]
    family: Option<u32>,

    /// Make a file like this one, which the image was unwrapped from
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,

    /// Overwrite FILE
    #[arg(long)]
    force: bool,
}

/// A format that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Blocks for USB mass storage boot loaders
    Uf2,
    /// Intel HEX
    Hex,
    /// Motorola's S-records
    Srec,
    /// ST's format for USB download (DfuSe)
    Dfu,
}

impl From<Format> for Kind {
    fn from(format: Format) -> Self {
        match format {
            Format::Uf2 => Self::Uf2,
            Format::Hex => Self::IntelHex,
            Format::Srec => Self::Srec,
            Format::Dfu => Self::DfuSe,
        }
    }
}

/// Run `unwrap`.
///
/// # Errors
/// When there is nothing to take out, or a file cannot be read or written.
pub fn run_unwrap(args: &UnwrapArgs) -> Result<ExitCode, CliError> {
    let options =
        Options { page: args.page, unpack_limit: args.unpack_limit, ..Options::default() };
    let taken = image::take_out(&args.file, &args.raw, args.base, args.force, &options)
        .map_err(CliError::failure)?;
    for note in &taken.notes {
        log::warn!("{}: {note}", args.file.show());
    }
    let formats: Vec<&str> = taken.formats.iter().map(|kind| kind.name()).collect();
    let base = match taken.base {
        0 => String::new(),
        base => format!(", from address {base:#x}"),
    };
    let (raw, size) = (args.raw.show(), bytes(taken.size));
    writeln!(io::stdout(), "{raw}: {size}{base}, taken out of {}", formats.join(", "))?;
    Ok(ExitCode::SUCCESS)
}

/// Run `wrap`.
///
/// # Errors
/// When a file cannot be read or written, or the image does not fit the format.
pub fn run_wrap(args: &WrapArgs) -> Result<ExitCode, CliError> {
    let WrapArgs { raw, file, base, force, .. } = args;
    let shown = file.show();
    match (&args.like, args.format) {
        (Some(like), _) => {
            let base = base.map(u64::from);
            let replaced =
                image::put_back(raw, like, base, file, *force).map_err(CliError::failure)?;
            let (changed, added) = (replaced.changed, replaced.added);
            writeln!(io::stdout(), "{shown}: {changed} records changed, {added} added")?;
        }
        (None, Some(format)) => {
            if args.family.is_some() && format != Format::Uf2 {
                return Err(CliError::failure("only UF2 files have a family"));
            }
            let kind = Kind::from(format);
            let target = WrapTarget { kind, base: base.unwrap_or(0), family: args.family };
            image::wrap_up(raw, target, file, *force).map_err(CliError::failure)?;
            writeln!(io::stdout(), "{shown}: {kind}, from address {:#x}", target.base)?;
        }
        (None, None) => return Err(CliError::failure("give --format or --like")),
    }
    Ok(ExitCode::SUCCESS)
}
