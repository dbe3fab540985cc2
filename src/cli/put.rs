//! `littlefs put`: copy files of the host into an image.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::changing::{ChangeArgs, Changing, Ended};
use super::gathering::GatherArgs;
use super::progress::Progress;
use super::{CliError, ImageArgs, print_json};
use crate::transfer::{self, Destination, Input, Put, PutError};

/// Copy files and directories into an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs put dump.bin config.txt etc/           into a directory of the image
  littlefs put dump.bin new.txt etc/config.txt    under another name
  littlefs put -r dump.bin www logo.png /         directories, too

As with cp, DEST is a directory of the image that takes the files, or the new name of a single one. What
is there is replaced; directories are filled up.

Everything is checked before anything is written. Until then an interruption changes nothing, and so
does lack of space. With --atomic nothing is changed by whatever happens until everything is complete in
a journal beside the image; a power cut after that is made good by the next command that changes IMAGE,
or by 'littlefs journal commit IMAGE.run IMAGE'.

Exit status: 0, 1 if it failed, 128+N if signal N came after part of it was written.")]
pub struct PutArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories here, and last the destination in the image
    #[arg(value_name = "LOCAL", required = true, num_args = 2..)]
    paths: Vec<OsString>,

    /// Copy directories with all that is in them
    #[arg(short, long)]
    recursive: bool,

    #[command(flatten)]
    gather: GatherArgs,

    #[command(flatten)]
    change: ChangeArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    files: u64,
    directories: u64,
    bytes: u64,
    dry_run: bool,
}

/// Run the command.
///
/// # Errors
/// When a file cannot be read, or the image not be changed.
pub fn run(args: &PutArgs) -> Result<ExitCode, CliError> {
    let Some((dest, sources)) = args.paths.split_last() else {
        return Err(CliError::failure("nothing to copy"));
    };
    let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    if !args.recursive
        && let Some(dir) = sources.iter().find(|source| source.is_dir())
    {
        let dir = dir.display();
        return Err(CliError::failure(format_args!(
            "{dir}: is a directory; -r copies directories"
        )));
    }
    let how = args.gather.options()?;
    let inputs = sources.iter().cloned().map(Input::Named).collect();
    let manifest = transfer::gather(inputs, &how).map_err(CliError::failure)?;
    let bar = Progress::new("writing", manifest.bytes(), args.change.quiet);
    let done = Changing::begin(&args.image, &args.change)?.run(&mut |image, stop| {
        let dest = Destination::like_cp(image, dest.as_bytes(), sources.len())?;
        transfer::check(image, &manifest, &dest)?;
        transfer::put(image, &manifest, &dest, &|bytes| bar.at(bytes), stop)
    })?;
    drop(bar);
    let Put { files, directories, bytes } = done;
    if args.change.json {
        print_json(&Output { files, directories, bytes, dry_run: args.change.dry_run })?;
    } else if !args.change.quiet {
        let would = if args.change.dry_run { "would be written: " } else { "" };
        writeln!(
            io::stdout(),
            "{would}{files} files, {directories} new directories, {bytes} bytes"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Ended for PutError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}
