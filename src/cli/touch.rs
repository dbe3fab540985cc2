//! `littlefs touch`: make empty files in an image, and set times.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::{NamesArgs, edit};
use super::{CliError, ImageArgs, date};
use crate::edit;
use crate::time::system_time;

/// Make empty files in an image, or set the times of existing entries
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs touch dump.bin log/new.txt
  littlefs touch -c -d 2026-03-14T15:09:26Z dump.bin 'www/*'

Times are set if the image stores times (--attrs); otherwise existing entries stay as they are.

Exit status: 0, 1 if it failed; then nothing was changed."
)]
pub struct TouchArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns that match existing ones
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// Make no files
    #[arg(short = 'c', long)]
    no_create: bool,

    /// Set this time, like 2026-03-14T15:09:26Z, '2026-03-14 15:09' or @1773500966, instead of the
    /// current time
    #[arg(short, long, value_name = "TIME", value_parser = date::parse)]
    date: Option<i64>,

    #[command(flatten)]
    names: NamesArgs,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &TouchArgs) -> Result<ExitCode, CliError> {
    let asked = args.image.asked(&args.paths);
    let time = args.date.map(system_time);
    edit(&args.image, &args.change, &mut |image, _| {
        edit::touch(image, args.names.paths(&asked), !args.no_create, time)
    })
}
