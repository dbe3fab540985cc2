//! `littlefs cp`: copy entries inside an image.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::changing::{ChangeArgs, of_writer};
use super::editing::{NamesArgs, edit};
use super::{CliError, ImageArgs};
use crate::edit::{self, Target};

/// Copy files and directories inside an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs cp dump.bin config.txt etc/       into a directory
  littlefs cp dump.bin config.txt old.txt    under another name
  littlefs cp -r dump.bin www www.old        directories, too

As with cp, DEST is a directory into which the entries are copied, or the path of a single copy. An
existing file is replaced; the entries of a directory are added to an existing directory. A copy has
the attributes of its source, including its times. 'put' and 'get' copy into an image and out of it.

Everything is checked before anything is written, so a command that cannot be carried out changes
nothing. Patterns are expanded inside the image: quote them. If an entry is called exactly like the
pattern, only that entry is meant. -v prints each change.

Exit status: 0, 1 if it failed, 128+N if signal N interrupted it after a part was written."
)]
pub struct CpArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Entries of the image, or patterns
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// The destination in the image
    dest: OsString,

    /// Copy directories with everything in them
    #[arg(short, long, short_alias = 'R')]
    recursive: bool,

    /// DEST is the path of the copy, even if it is a directory
    #[arg(short = 'T', long)]
    no_target_directory: bool,

    #[command(flatten)]
    names: NamesArgs,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be changed in this way.
pub fn run(args: &CpArgs) -> Result<ExitCode, CliError> {
    let (sources, dest) = (args.image.asked(&args.paths), args.image.inside(&args.dest));
    let target = Target { path: &dest, exact: args.no_target_directory };
    edit(&args.image, &args.change, &mut |image, stop| {
        edit::copy(image, args.names.paths(&sources), target, args.recursive, stop)
    })
}
