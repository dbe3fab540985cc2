//! `littlefs undo`, and the option `--backup` of the commands that rewrite an image in place.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use super::output::not_stdio;
use crate::backup::{Backup, BackupDevice, UndoError, undo};
use crate::bd::{BlockDevice, Geometry};
use crate::image::Opened;
use crate::show::{self, Show};

/// Undo a repair, a conversion or a resize that was made with --backup
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs check -y --backup before dump.bin     repair, and save what is changed
  littlefs undo before dump.bin                  undo the repair

If somebody has changed the image since then, undo refuses, because the content that it would
restore no longer fits the rest of the image. A repair that was interrupted can also be undone, and
so can a repair that was undone only in part.

Exit status: 0, or 1 if it failed.")]
pub struct UndoArgs {
    /// The file that --backup made
    #[arg(value_parser = not_stdio())]
    file: PathBuf,

    /// The image that was changed
    #[arg(value_parser = not_stdio())]
    image: PathBuf,

    /// Undo even if the image was changed since then, or if the end of the undo file is damaged, as
    /// by a power cut. What the undo file holds is restored, and the rest of the image stays as it
    /// is, so check the image afterwards
    #[arg(long)]
    force: bool,

    /// Do not print what was done
    #[arg(short, long)]
    quiet: bool,
}

/// Run the command.
///
/// # Errors
/// When the image was changed since then, or cannot be written.
pub fn run(args: &UndoArgs) -> Result<ExitCode, CliError> {
    let done = undo(&args.file, &args.image, args.force).map_err(|e| {
        let about_file = matches!(
            e,
            UndoError::Unreadable(_)
                | UndoError::Unwritable(_)
                | UndoError::NotUndo
                | UndoError::Damaged
                | UndoError::Doubtful(_)
        );
        let path = if about_file { &args.file } else { &args.image };
        CliError::failure(format_args!("{}: {e}", path.show()))
    })?;
    if !args.quiet {
        let change = if done.interrupted { "the interrupted change" } else { "the change" };
        writeln!(
            io::stdout(),
            "{}: {change} is undone, {} written",
            args.image.show(),
            show::bytes(done.bytes)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An image that is about to be rewritten, with its undo file if one was asked for.
pub struct Backing<'a> {
    image: &'a Opened,
    kept: Option<(&'a Path, Arc<Backup>)>,
}

impl<'a> Backing<'a> {
    /// Make the undo file.
    ///
    /// # Errors
    /// When a file exists there already, or cannot be made.
    pub fn begin(path: Option<&'a Path>, image: &'a Opened) -> Result<Self, CliError> {
        let make = |path: &'a Path| match Backup::create(path, image.image_size, &image.metadata) {
            Ok(backup) => Ok((path, Arc::new(backup))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let path = path.show();
                Err(CliError::failure(format_args!(
                    "{path}: exists already; give a new name for the undo file"
                )))
            }
            Err(e) => Err(CliError::of_file(path, &e)),
        };
        Ok(Self { image, kept: path.map(make).transpose()? })
    }

    /// The device of the image, which saves old content before it is overwritten.
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        let device = Arc::clone(&self.image.device);
        match &self.kept {
            Some((_, backup)) => {
                Arc::new(BackupDevice::new(device, self.image.offset, Arc::clone(backup)))
            }
            None => device,
        }
    }

    /// Save the whole image, which will be replaced.
    ///
    /// # Errors
    /// When it cannot be read, or the undo file cannot be written.
    pub fn keep_all(&self) -> Result<(), CliError> {
        let Some((path, backup)) = &self.kept else { return Ok(()) };
        backup
            .save_all(&self.image.file, self.image.image_size)
            .map_err(|e| CliError::of_file(path, &e))
    }

    /// Whether nothing was saved, because nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.kept.as_ref().is_none_or(|(_, backup)| backup.is_empty())
    }

    /// Remove the undo file, because nothing was changed in the end.
    pub fn discard(self) {
        if let Some((path, backup)) = self.kept
            && let Some(Err(e)) = Arc::into_inner(backup).map(|backup| backup.remove(path))
        {
            log::warn!("{}: cannot remove the empty undo file: {}", path.show(), show::cause(&e));
        }
    }

    /// Complete the undo file after the image was rewritten. An undo file that holds nothing is
    /// removed.
    ///
    /// # Errors
    /// When the undo file cannot be completed.
    pub fn end(self) -> Result<(), CliError> {
        let (file, geometry) = (self.image.file.try_clone(), self.image.device.geometry());
        self.end_with_file(file, geometry)
    }

    /// The same for an image that was replaced by another file at `path`.
    ///
    /// # Errors
    /// When the undo file cannot be completed.
    pub fn end_with(self, path: &Path, geometry: Geometry) -> Result<(), CliError> {
        self.end_with_file(File::open(path), geometry)
    }

    fn end_with_file(self, file: io::Result<File>, geometry: Geometry) -> Result<(), CliError> {
        let Some((path, backup)) = self.kept else { return Ok(()) };
        if backup.is_empty() {
            let removed = Arc::into_inner(backup).map_or(Ok(()), |backup| backup.remove(path));
            return removed.map_err(|e| CliError::of_file(path, &e));
        }
        file.and_then(|file| backup.finish(&file, self.image.offset, geometry))
            .map_err(|e| CliError::of_file(path, &e))
    }
}
