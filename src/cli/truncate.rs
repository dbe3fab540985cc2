//! `littlefs truncate`: set the size of files in an image.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::{NamesArgs, edit};
use super::{CliError, ImageArgs, parse_bytes};
use crate::edit::{self, Length};

/// Set the size of files in an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs truncate -s 0 dump.bin log.txt      empty it
  littlefs truncate -s 64K dump.bin blank      make it 64 KiB long, with zeros
  littlefs truncate -s -100 dump.bin log.txt   cut off its last 100 bytes

Bytes that are added to a file are zeros, and use space in the image.

Exit status: 0, 1 if it failed; then nothing was changed."
)]
pub struct TruncateArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files in the image, or patterns that match existing ones
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// New size of the files in bytes; with '+' or '-' in front, grow or shrink them by this much
    #[arg(short, long, value_name = "[+-]BYTES", allow_hyphen_values = true,
          value_parser = parse_length)]
    size: Length,

    /// Make no files
    #[arg(short = 'c', long)]
    no_create: bool,

    #[command(flatten)]
    names: NamesArgs,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &TruncateArgs) -> Result<ExitCode, CliError> {
    let asked = args.image.asked(&args.paths);
    edit(&args.image, &args.change, &mut |image, _| {
        edit::truncate(image, args.names.paths(&asked), !args.no_create, args.size)
    })
}

fn parse_length(text: &str) -> Result<Length, String> {
    match text.as_bytes().first() {
        Some(b'+') => Ok(Length::Grow(parse_bytes(&text[1..])?)),
        Some(b'-') => Ok(Length::Shrink(parse_bytes(&text[1..])?)),
        _ => Ok(Length::To(parse_bytes(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_signs() {
        assert_eq!(parse_length("4K"), Ok(Length::To(4096)));
        assert_eq!(parse_length("+1"), Ok(Length::Grow(1)));
        assert_eq!(parse_length("-0x10"), Ok(Length::Shrink(16)));
        for wrong in ["", "+", "--1", "+-1", "x"] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }
}
