//! `littlefs mkdir`: make directories in an image.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::edit;
use super::{CliError, ImageArgs};
use crate::edit;

/// Make directories in an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs mkdir dump.bin log
  littlefs mkdir -p dump.bin etc/app www/js

Exit status: 0, 1 if it failed; then nothing was changed."
)]
pub struct MkdirArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// The directories to make, as paths in the image
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// Also make missing parent directories; it is not an error if a directory exists
    #[arg(short, long)]
    parents: bool,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &MkdirArgs) -> Result<ExitCode, CliError> {
    let asked = args.image.asked(&args.paths);
    edit(&args.image, &args.change, &mut |image, _| edit::make_dirs(image, &asked, args.parents))
}
