//! `littlefs cat`: write the content of files in an image to standard output.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::problems::Problems;
use super::{CliError, ImageArgs};
use crate::{Error, File, Littlefs};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// Write the content of files in an image to standard output
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs cat dump.bin etc/config.txt
  littlefs cat dump.bin 'log/*.txt' | less

Patterns are expanded inside the image: quote them.

Exit status: 0, 1 if nothing could be read, 2 if something was left out because it is damaged or
does not exist, or if what was read may be wrong.")]
pub struct CatArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files in the image, or patterns
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the output cannot be written.
pub fn run(args: &CatArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let paths = problems.expand(&image, &args.image.asked(&args.paths));
    write_files(&image, &paths, problems)
}

/// Write the content of the files at `paths` to standard output.
///
/// # Errors
/// When it cannot be written. What cannot be read is added to the `problems`.
pub(super) fn write_files(
    image: &Littlefs,
    paths: &[Vec<u8>],
    mut problems: Problems,
) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    let mut anything = false;
    for path in paths {
        match write_file(image, path, &mut out)? {
            Ok(file) => {
                anything = true;
                if let Err(e) = file.check() {
                    problems.add_suspect(path, format_args!("its content may be wrong: {e}"));
                }
            }
            Err(e) => problems.add(path, e),
        }
    }
    out.flush()?;
    Ok(problems.status(anything))
}

/// Write the content of a file. The outer error is about the output, and the inner one about the
/// image.
fn write_file(
    image: &Littlefs,
    path: &[u8],
    out: &mut impl Write,
) -> io::Result<Result<File, Error>> {
    let file = match image.open_file(path) {
        Ok(file) => file,
        Err(e) => return Ok(Err(e)),
    };
    let mut buf = vec![0; PIECE.min(usize::try_from(file.len()).unwrap_or(PIECE))];
    let mut at = 0;
    loop {
        match file.read_at(&mut buf, at) {
            Ok(0) => return Ok(Ok(file)),
            Ok(read) => {
                out.write_all(&buf[..read])?;
                at += read as u64;
            }
            Err(e) => return Ok(Err(e)),
        }
    }
}
