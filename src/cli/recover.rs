//! `littlefs recover`: bring back what was deleted, overwritten or cut off.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::progress::Progress;
use super::{CliError, ImageArgs, date, exit, print_json};
use crate::files;
use crate::image::{Blocks, Opened};
use crate::recover::{Manifest, Remains, open, recover_from, save};
use crate::show::Show;

/// The name of the list in the directory.
const MANIFEST: &str = "MANIFEST";

/// Bring back what was deleted, overwritten or cut off
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs recover dump.bin -C found                      everything that is not in it any more
  littlefs recover --block-size 4096 damaged.bin -C found  where no superblock is left

IMAGE is only read. DIR gets a file MANIFEST, which says of each result where it is from and how sure
it is; 'files', by the paths that they had, older versions of a file with a number behind it; and
'lists', content of which no name is left. Results are

  checked   the content stood in a commit, whose CRC is good
  complete  the blocks of the file are known, and the logs show that none was written again
  partial   parts are missing, or nothing shows that it still is what it was; MANIFEST says which

What is in the filesystem now is left out: 'littlefs extract' copies that. Where the superblocks are
lost or were formatted over, everything that is found is a result. Stop writing to a device at once
when something was lost: each write can take what is left of it.

Exit status: 0 if something was found, 1 if nothing was or it failed, 2 if some of it is partial.")]
pub struct RecoverArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Write into this directory, which has to be empty and is made if it is not there
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: PathBuf,

    /// Do not say what was found
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be read, or the directory not be written.
pub fn run(args: &RecoverArgs) -> Result<ExitCode, CliError> {
    let shown = args.image.image.show();
    let Remains { blocks: Blocks { device, notes }, dialect } = open_image(&args.image)?;
    for note in notes {
        log::warn!("{note}");
    }
    let device = &*device;
    let block_size = u64::from(device.geometry().block_size);
    let bar = Progress::new("looking", device.geometry().size(), args.quiet);
    let recovery = recover_from(device, dialect, &|blocks| bar.at(blocks * block_size))
        .map_err(|e| CliError::failure(format_args!("{shown}: {e}")))?;
    drop(bar);

    let failed = |e: &dyn std::fmt::Display| {
        CliError::failure(format_args!("{}: {e}", args.directory.show()))
    };
    let (directory, saved) = save(&recovery, device, &args.directory).map_err(|e| failed(&e))?;
    let manifest = Manifest::new(&recovery, &saved, &date::utc);
    files::create_in(std::os::fd::AsFd::as_fd(&directory), MANIFEST.as_bytes())
        .map_err(io::Error::from)
        .and_then(|mut file| write!(file, "littlefs recover {shown}\n\n{manifest}"))
        .map_err(|e| failed(&e))?;
    let Manifest { checked, complete, partial, .. } = manifest;
    if args.json {
        print_json(&manifest)?;
    } else if !args.quiet {
        writeln!(io::stdout(), "{checked} checked, {complete} complete, {partial} partial")?;
    }
    Ok(ExitCode::from(match (checked + complete, partial) {
        (0, 0) => exit::FAILURE,
        (_, 0) => exit::SUCCESS,
        _ => exit::LEFT_OUT,
    }))
}

/// The blocks to look through: with a journal, those of the state that is meant.
fn open_image(args: &ImageArgs) -> Result<Remains, CliError> {
    let mut found = args.find()?;
    if args.journal.is_none() {
        return open(&found.image, &args.options(true)).map_err(CliError::failure);
    }
    let Opened { stored, notes, dialect, .. } = found.open_as(true)?;
    Ok(Remains { blocks: Blocks { device: stored, notes }, dialect })
}
