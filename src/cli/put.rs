//! `littlefs put`: copy files of the host into an image.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::changing::{ChangeArgs, Changing, Ended, of_writer};
use super::editing::StepJson;
use super::gathering::GatherArgs;
use super::progress::Progress;
use super::{CliError, ImageArgs, print_json};
use crate::show::{self, Show};
use crate::transfer::{self, Destination, Gather, Input, Put, PutError, Synced};

/// Copy files and directories into an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs put dump.bin config.txt etc/           into a directory of the image
  littlefs put dump.bin new.txt etc/config.txt    under another name
  littlefs put -r dump.bin www logo.png /         directories, too
  littlefs put --sync --delete dump.bin www /www  make /www the same as www

As with cp, DEST is a directory of the image into which the files are copied, or the new name of a
single file. Existing files are replaced; entries are added to existing directories.

Everything is checked before anything is written: an interruption during the check, or too little
space, changes nothing. With --atomic, the whole change first goes into a journal beside the image.
If the power fails before the journal is complete, nothing is changed. If it fails later, the next
command that changes IMAGE finishes the change; 'littlefs journal commit IMAGE.run IMAGE' does so,
too.

Exit status: 0, 1 if it failed, 128+N if signal N interrupted it after a part was written."
)]
pub struct PutArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories of the host
    #[arg(value_name = "LOCAL", required = true)]
    sources: Vec<PathBuf>,

    /// The destination in the image
    dest: OsString,

    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,

    /// Make a directory of the image the same as a directory of the host; write only files whose
    /// content differs
    #[arg(long)]
    sync: bool,

    /// With --sync: remove entries that the directory of the host does not have; those that match
    /// --exclude stay
    #[arg(long, requires = "sync")]
    delete: bool,

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
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sync: Option<SyncOutput>,
}

/// What is printed in addition with `--sync`.
#[derive(Serialize)]
struct SyncOutput {
    unchanged: u64,
    removed: u64,
    changes: Vec<StepJson>,
}

/// Run the command.
///
/// # Errors
/// When a file cannot be read, or the image cannot be changed.
pub fn run(args: &PutArgs) -> Result<ExitCode, CliError> {
    let dest = args.image.inside(&args.dest);
    let how = args.gather.options()?;
    if args.sync {
        return sync(args, &args.sources, &dest, &how);
    }
    if !args.recursive
        && let Some(dir) = args.sources.iter().find(|source| source.is_dir())
    {
        let dir = dir.display();
        return Err(CliError::failure(format_args!(
            "{dir}: is a directory; give -r to copy directories"
        )));
    }
    let inputs = args.sources.iter().cloned().map(Input::Named).collect();
    let manifest = transfer::gather(inputs, &how).map_err(CliError::failure)?;
    let bar = Progress::new("writing", manifest.bytes(), args.change.quiet);
    let done = Changing::begin(&args.image, &args.change)?.run(&mut |image, stop| {
        let dest = Destination::like_cp(image, &dest, args.sources.len())?;
        transfer::check(image, &manifest, &dest)?;
        transfer::put(image, &manifest, &dest, &|bytes| bar.at(bytes), stop)
    })?;
    drop(bar);
    report(args, done, None)?;
    Ok(ExitCode::SUCCESS)
}

fn sync(
    args: &PutArgs,
    sources: &[PathBuf],
    dest: &[u8],
    how: &Gather,
) -> Result<ExitCode, CliError> {
    let [dir] = sources else {
        return Err(CliError::failure(
            "--sync needs exactly two directories: one of the host, and one in the image",
        ));
    };
    if !fs::metadata(dir).map_err(|e| CliError::of_file(dir, &e))?.is_dir() {
        let dir = dir.show();
        return Err(CliError::failure(format_args!("{dir}: is not a directory")));
    }
    let inputs = vec![Input::Path(dir.clone())];
    let manifest = transfer::gather(inputs, how).map_err(CliError::failure)?;
    let bar = Progress::new("comparing", manifest.bytes(), args.change.quiet);
    let delete = args.delete.then_some(&how.exclude);
    let done = Changing::begin(&args.image, &args.change)?.run(&mut |image, stop| {
        transfer::sync(image, &manifest, dest, delete, &|bytes| bar.at(bytes), stop)
    })?;
    drop(bar);
    let Synced { put, unchanged, removed, steps } = done;
    if args.change.dry_run && !args.change.json && !args.change.quiet {
        let mut out = io::BufWriter::new(io::stdout().lock());
        steps.iter().try_for_each(|step| writeln!(out, "would be {step}"))?;
        out.flush()?;
    } else {
        steps.iter().for_each(|step| log::info!("{step}"));
    }
    let changes = steps.iter().map(StepJson::from).collect();
    report(args, put, Some(SyncOutput { unchanged, removed, changes }))?;
    Ok(ExitCode::SUCCESS)
}

fn report(args: &PutArgs, done: Put, sync: Option<SyncOutput>) -> io::Result<()> {
    let Put { files, directories, bytes } = done;
    let dry_run = args.change.dry_run;
    if args.change.json {
        return print_json(&Output { files, directories, bytes, dry_run, sync });
    }
    if args.change.quiet {
        return Ok(());
    }
    let files = show::files(files);
    let directories = show::count(directories, "new directory", "new directories");
    let would = if dry_run { "would be written: " } else { "" };
    let rest = match sync {
        Some(sync) => format!("; {} unchanged, {} removed", sync.unchanged, sync.removed),
        None => String::new(),
    };
    let bytes = show::bytes(bytes);
    writeln!(io::stdout(), "{would}{files}, {directories}, {bytes}{rest}")
}

impl Ended for PutError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}
