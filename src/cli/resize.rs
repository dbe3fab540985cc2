//! `littlefs resize`: change the size of a filesystem.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::changing::of_rewriter;
use super::create::{failed, report};
use super::output::not_stdio;
use super::progress::Progress;
use super::undo::Backing;
use super::{CliError, ImageArgs, parse_bytes};
use crate::image::{self, Reason, Source};
use crate::journal::finish_interrupted;
use crate::profile::Profile;
use crate::show::Show;
use crate::transfer::{NewSize, Resizing, resize};

/// Change the size of the filesystem in an image or on a device
#[derive(Args, Debug)]
#[command(
    mut_args(of_rewriter),
    after_help = "\
Examples:
  littlefs resize dump.bin --size 2M               grow or shrink it, and the file with it
  littlefs resize dump.bin --size min              as small as its content allows
  littlefs resize /dev/sdx1 --size max             as large as the device
  littlefs resize --partition spiffs flash.bin --size max
                                                   as large as its partition

For a plain file, a new, compacted filesystem is built in a temporary file beside it, which is
compared, checked and renamed. On a block device, the filesystem is resized in place: content moves
out of the blocks that will be cut off; then the superblocks are written. The superblock of the
root, which takes precedence, is written last. Whatever interrupts this, the filesystem is sound and
has the old size or the new one, and you can give the command again.

Inside a dump, everything around the filesystem stays as it is. Bytes after the filesystem are
overwritten only if they are in the same partition or erased, or with --force; those of another
partition never are.

Drivers that are configured for a certain number of blocks refuse an image with another number.

Exit status: 0, or 1 if it failed; then nothing was changed."
)]
pub struct ResizeArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// The new size: a multiple of the block size, like 65536, 512K or 1M; 'min' is the smallest
    /// size that holds everything; 'max' fills the file, device or partition
    #[arg(long, value_name = "BYTES|min|max", value_parser = parse_size)]
    size: NewSize,

    /// Change nothing if devices of this family would refuse the image
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    check_profile: Option<&'static Profile>,

    /// Save the old content in this new file, so that 'littlefs undo' can restore it
    #[arg(long, value_name = "FILE", value_parser = not_stdio())]
    backup: Option<PathBuf>,

    /// Overwrite content after the filesystem in a dump
    #[arg(long)]
    force: bool,

    /// Do not print what was made
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_size(text: &str) -> Result<NewSize, String> {
    match text {
        "min" => Ok(NewSize::Least),
        "max" => Ok(NewSize::Most),
        _ => parse_bytes(text)
            .map(NewSize::Bytes)
            .map_err(|e| format!("{e}, or 'min' for the smallest size, or 'max' for the largest")),
    }
}

/// Run the command.
///
/// # Errors
/// When the image is in use, damaged or read-only, when its content does not fit into the new size,
/// or when it cannot be written.
pub fn run(args: &ResizeArgs) -> Result<ExitCode, CliError> {
    let path = args.image.changeable()?;
    if args.image.journal.is_some() {
        return Err(CliError::failure(format_args!(
            "{}: an image with a journal cannot be resized; run 'littlefs journal commit' first",
            path.show()
        )));
    }
    let source = Source::find(path).map_err(CliError::failure)?;
    let options = image::Options { exclusive: true, ..args.image.options(false) };
    finish_interrupted(&source)?;
    let opened = image::open_found(&source, &options).map_err(CliError::failure)?;
    let refused = match (opened.wrapped.first(), opened.doubt) {
        (Some(&kind), _) => Some(Reason::Wrapped(kind)),
        (None, Some(doubt)) => Some(Reason::Doubtful(doubt)),
        (None, None) => None,
    };
    if let Some(reason) = refused {
        return Err(CliError::failure(source.refused(reason)));
    }
    if !opened.writable {
        let why = image::WRITE_PROTECTED;
        return Err(CliError::failure(format_args!("{}: cannot be changed: {why}", path.show())));
    }
    for note in &opened.notes {
        log::warn!("{note}");
    }
    if opened.metadata.is_file() && opened.metadata.nlink() > 1 {
        log::warn!("{}: has other hard links, which still refer to the old image", path.show());
    }
    let how = Resizing { size: args.size, overwrite: args.force, check: args.check_profile };
    let backup = Backing::begin(args.backup.as_deref(), &opened)?;
    if opened.metadata.is_file() {
        backup.keep_all()?;
    }
    let bar = Progress::new("resizing", opened.stored.geometry().size(), args.quiet);
    let resized = resize(&opened, backup.device(), &how, &|bytes| bar.at(bytes));
    drop(bar);
    let resized = match resized {
        Ok(resized) => resized,
        Err(e) => {
            // if a device failed in the middle of the change, the user may want to undo it
            if opened.metadata.is_file() || backup.is_empty() {
                backup.discard();
            }
            return Err(failed(path, e));
        }
    };
    backup.end_with(path, resized.geometry)?;
    report(path, &resized, args.quiet, args.json)?;
    Ok(ExitCode::SUCCESS)
}
