//! `littlefs ln -s`: make symbolic links in an image.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::edit;
use super::{CliError, ImageArgs};
use crate::edit;

/// Make a symbolic link in an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs ln -s dump.bin config-2.txt etc/config.txt
  littlefs ln -s --attrs unix new.img ../shared shared   in an image that has no attributes yet

littlefs itself has no links. They are stored as files whose user attributes mark them as links, as
'littlefs mount -o attrs=unix' does. Only programs that know these attributes follow them. TARGET is
stored as it is, and need not exist.

Exit status: 0, 1 if it failed; then nothing was changed."
)]
pub struct LnArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// The path to which the link leads
    target: OsString,

    /// The path of the link, or a directory of the image; there, the link gets the last part of
    /// TARGET as its name
    link: OsString,

    /// Make a symbolic link; required, because littlefs has no hard links
    #[arg(short, long, required = true)]
    symbolic: bool,

    /// Replace an existing file
    #[arg(short, long)]
    force: bool,

    /// LINK is the path of the link, even if it is a directory
    #[arg(short = 'T', long)]
    no_target_directory: bool,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &LnArgs) -> Result<ExitCode, CliError> {
    let link = args.image.inside(&args.link);
    edit(&args.image, &args.change, &mut |image, _| {
        let target = args.target.as_bytes();
        edit::link(image, target, &link, args.no_target_directory, args.force)
    })
}
