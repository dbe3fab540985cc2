//! `littlefs unwrap` and `littlefs wrap`: extract images from UF2, hex, DFU and compressed files,
//! and put them back.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::info::bytes;
use super::output::{check_is_file, not_stdio};
use super::{CliError, of_input, parse_bytes, parse_bytes_u32, source};
use crate::image::{self, Kind, Options, Page, WrapTarget, uf2_family};
use crate::show::{self, Show};

/// Extract the image from a UF2, hex, DFU or compressed file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs unwrap flash.uf2 flash.bin            an image that can be changed
  littlefs mount flash.bin /mnt                  ...
  littlefs wrap --like flash.uf2 flash.bin new.uf2

  littlefs unwrap backup.bin.gz flash.bin        unpacks gzip, xz and zstd, too
  littlefs unwrap --page 2048+64 nand.bin raw    leaves out the spare bytes

Gaps in the file are written as erased bytes (0xFF).")]
pub struct UnwrapArgs {
    /// The file with the image; '-' is standard input
    file: PathBuf,

    /// The file to make
    #[arg(value_parser = not_stdio())]
    raw: PathBuf,

    /// The address to begin with, if the file has several regions that are far apart
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bytes)]
    base: Option<u64>,

    /// Page and spare bytes, like 2048+64, if FILE is a dump of NAND flash with spare bytes
    /// [default: recognised automatically]
    #[arg(long, value_name = "PAGE", value_parser = Page::parse)]
    page: Option<Page>,

    /// Unpack at most this much, and read at most this much from standard input [default: 4G]
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
  littlefs wrap --like flash.uf2 flash.bin new.uf2       like flash.uf2, with the changes
  littlefs wrap --format uf2 --family rp2040 --base 0x101c0000 fs.img fs.uf2
  littlefs wrap --format hex --base 0xed000 fs.img fs.hex

With --like, the format, the addresses, the family and everything else come from that file. Records
whose content did not change stay the same, byte for byte; records are added only for gaps.")]
pub struct WrapArgs {
    /// The image
    raw: PathBuf,

    /// The file to make
    #[arg(value_parser = not_stdio())]
    file: PathBuf,

    /// The format
    #[arg(long, value_name = "NAME", required_unless_present = "like", conflicts_with = "like")]
    format: Option<Format>,

    /// The address of the first byte; with --like, the value of --base that you gave to 'unwrap'
    /// [default: 0, or as in the file of --like]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bytes_u32)]
    base: Option<u32>,

    /// The processor family of a UF2 file: rp2040, esp32s3, nrf52840..., or its number
    #[arg(long, value_name = "NAME", value_parser = uf2_family, conflicts_with = "like")]
    family: Option<u32>,

    /// Make a file like this one, from which the image was unwrapped
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
/// When the file has no image, or a file cannot be read or written.
pub fn run_unwrap(args: &UnwrapArgs) -> Result<ExitCode, CliError> {
    check_is_file(&args.raw)?;
    let options =
        Options { page: args.page, unpack_limit: args.unpack_limit, ..Options::default() };
    let source = source(&args.file, args.unpack_limit).map_err(of_input);
    let source = source.map_err(CliError::failure)?;
    let taken = image::take_out(&source, &args.raw, args.base, args.force, &options)
        .map_err(CliError::failure)?;
    for note in &taken.notes {
        log::warn!("{}: {note}", source.path().show());
    }
    let formats: Vec<&str> = taken.formats.iter().map(|kind| kind.name()).collect();
    let base = match taken.base {
        0 => String::new(),
        base => format!(", from address {base:#x}"),
    };
    let (raw, size) = (args.raw.show(), bytes(taken.size));
    writeln!(io::stdout(), "{raw}: {size}{base}, extracted from {}", formats.join(", "))?;
    Ok(ExitCode::SUCCESS)
}

/// Run `wrap`.
///
/// # Errors
/// When a file cannot be read or written, or the image does not fit the format.
pub fn run_wrap(args: &WrapArgs) -> Result<ExitCode, CliError> {
    let WrapArgs { raw, file, base, force, .. } = args;
    let shown = file.show();
    check_is_file(file)?;
    let failed = |e| CliError::failure(of_input(e));
    for note in image::cut_short(raw).map_err(failed)? {
        log::warn!("{}: {note}", raw.show());
    }
    match (&args.like, args.format) {
        (Some(like), _) => {
            let base = base.map(u64::from);
            let replaced = image::put_back(raw, like, base, file, *force).map_err(failed)?;
            let (changed, added) = (replaced.changed, replaced.added);
            let changed = show::count(changed, "record", "records");
            writeln!(io::stdout(), "{shown}: {changed} changed, {added} added")?;
        }
        (None, Some(format)) => {
            if args.family.is_some() && format != Format::Uf2 {
                return Err(CliError::failure("--family is only for UF2 files"));
            }
            let kind = Kind::from(format);
            let target = WrapTarget { kind, base: base.unwrap_or(0), family: args.family };
            image::wrap_up(raw, target, file, *force).map_err(failed)?;
            writeln!(io::stdout(), "{shown}: {kind}, from address {:#x}", target.base)?;
        }
        (None, None) => return Err(CliError::failure("give --format NAME or --like FILE")),
    }
    Ok(ExitCode::SUCCESS)
}
