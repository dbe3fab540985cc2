//! `littlefs rm`: remove entries of an image.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::{NamesArgs, edit};
use super::{CliError, ImageArgs};
use crate::edit::{self, Paths};

/// Remove files and directories in an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs rm dump.bin etc/config.txt
  littlefs rm -n dump.bin 'log/*.txt'        what would be removed?
  littlefs rm -r --atomic dump.bin www log   directories; both or none

Everything is checked before anything is written, so a command that cannot be carried out changes
nothing. Patterns are expanded inside the image: quote them. If an entry is called exactly like the
pattern, only that entry is meant. -v prints each change.

Exit status: 0, 1 if it failed, 128+N if signal N interrupted it after a part was written."
)]
pub struct RmArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// Remove directories with everything in them
    #[arg(short, long, short_alias = 'R')]
    recursive: bool,

    /// Ignore paths and patterns that match nothing
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    names: NamesArgs,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &RmArgs) -> Result<ExitCode, CliError> {
    let asked = args.image.asked(&args.paths);
    let paths = Paths { may_miss: args.force, ..args.names.paths(&asked) };
    edit(&args.image, &args.change, &mut |image, stop| {
        edit::remove(image, paths, args.recursive, stop)
    })
}
