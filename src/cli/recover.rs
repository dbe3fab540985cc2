//! `littlefs recover`: recover files that were deleted, overwritten or formatted over.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::not_stdio;
use super::progress::Progress;
use super::{CliError, ImageArgs, date, exit, print_json};
use crate::files;
use crate::image::Blocks;
use crate::recover::{Manifest, Remains, open, recover_from, save};
use crate::show::{self, Show};

/// The name of the file with the list of results.
const MANIFEST: &str = "MANIFEST";

/// Bring back files that were deleted, overwritten or formatted over
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs recover dump.bin -C found                      everything that was lost
  littlefs recover --block-size 4096 damaged.bin -C found  if no superblock is left

IMAGE is only read. In DIR, the file MANIFEST lists all results, with their origin and how reliable
they are; 'files' has the files under their former paths, and older versions with a number at the
end; 'lists' has content without a name. A result is

  checked   if the content is in a commit whose CRC is correct
  complete  if the blocks of the file are known, and the logs show that none of them was used again
  partial   if parts are missing, or nothing proves that the content is unchanged; MANIFEST says
            which

Files that are in the filesystem now are left out: 'littlefs extract' copies those. If the
superblocks are lost or were formatted over, everything that is found is a result. If something was
lost on a device, stop writing to the device at once: each write can destroy what is left.

Exit status: 0 if something was found, 1 if nothing was found (then nothing is written) or the
command failed, 2 if some results are partial.")]
pub struct RecoverArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Write into this directory, which must be empty; made if it does not exist
    #[arg(short = 'C', long, value_name = "DIR", value_parser = not_stdio())]
    directory: PathBuf,

    /// Do not print what was found
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be read, or the directory cannot be written.
pub fn run(args: &RecoverArgs) -> Result<ExitCode, CliError> {
    let shown = args.image.image.show();
    let Remains { blocks: Blocks { device, notes, .. }, dialect, doubtful } =
        open_image(&args.image)?;
    for note in notes {
        log::warn!("{note}");
    }
    let device = &*device;
    let block_size = u64::from(device.geometry().block_size);
    let bar = Progress::new("looking", device.geometry().size(), args.quiet);
    let mut recovery = recover_from(device, dialect, &|blocks| bar.at(blocks * block_size))
        .map_err(|e| CliError::failure(format_args!("{shown}: {e}")))?;
    drop(bar);
    if doubtful {
        recovery.distrust_blocks();
    }
    if recovery.files.is_empty() {
        if args.json {
            print_json(&Manifest::new(&recovery, &[], &date::utc))?;
        }
        return Err(CliError::failure(format_args!(
            "{shown}: nothing of any file was found, so nothing is written to {}",
            args.directory.show()
        )));
    }

    let failed = |e: &dyn std::fmt::Display| {
        CliError::failure(format_args!("{}: {e}", args.directory.show()))
    };
    let (directory, saved) = save(&recovery, device, &args.directory).map_err(|e| failed(&e))?;
    let manifest = Manifest::new(&recovery, &saved, &date::utc);
    files::create_in(std::os::fd::AsFd::as_fd(&directory), MANIFEST.as_bytes())
        .map_err(io::Error::from)
        .and_then(|mut file| write!(file, "littlefs recover {shown}\n\n{manifest}"))
        .map_err(|e| {
            let e = show::cause(&e);
            failed(&format_args!(
                "the results were written, but their list {MANIFEST} was not: {e}"
            ))
        })?;
    let Manifest { checked, complete, partial, .. } = manifest;
    let count = checked + complete + partial;
    if args.json {
        print_json(&manifest)?;
    } else if !args.quiet {
        let count = show::count(count, "result", "results");
        let list = args.directory.join(MANIFEST);
        writeln!(
            io::stdout(),
            "{count}: {checked} checked, {complete} complete, {partial} partial; {} lists them",
            list.show()
        )?;
    }
    Ok(ExitCode::from(if partial == 0 { exit::SUCCESS } else { exit::LEFT_OUT }))
}

/// The blocks to be searched: with a journal, those of the requested state.
fn open_image(args: &ImageArgs) -> Result<Remains, CliError> {
    let mut found = args.find()?;
    if args.journal.is_none() {
        return open(&found.image, &args.options(true)).map_err(CliError::failure);
    }
    Ok(found.open_as(true)?.into())
}
