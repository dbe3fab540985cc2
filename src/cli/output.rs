//! The file that a command writes its output to, if the user names one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::CliError;
use crate::files::{self, NewFile, Output};
use crate::image::{OpenError, Reason};
use crate::show::Show;
use crate::sys;

/// What the user names as the output: a plain file, or something that takes a stream of bytes.
pub(super) struct Target<'a> {
    path: &'a Path,
    to: To,
}

enum To {
    /// A plain file. It gets its name when it is complete, so after an error, the name refers to
    /// what was there before.
    File(Output),
    /// A pipe, a device, or standard output under whatever name; it is written to directly.
    Stream { file: File, is_stdout: bool },
}

impl<'a> Target<'a> {
    /// The output at `path`, which must not be one of the `inputs`. A file or a block device that
    /// exists is overwritten only with `force`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn find(
        path: &'a Path,
        force: bool,
        inputs: &[Option<(u64, u64)>],
    ) -> Result<Self, CliError> {
        refuse_inputs(path, inputs)?;
        let to = To::find(path, force)
            .map_err(|reason| CliError::failure(OpenError { path: path.to_owned(), reason }))?;
        Ok(Self { path, to })
    }

    /// Standard output, which the user names as `path`.
    ///
    /// # Errors
    /// If it is closed.
    pub fn stdout(path: &'a Path) -> Result<Self, CliError> {
        let file = files::stdout()?;
        Ok(Self { path, to: To::Stream { file, is_stdout: true } })
    }

    /// Whether this is the standard output of this process.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to, To::Stream { is_stdout: true, .. })
    }

    /// Begin to write.
    ///
    /// # Errors
    /// If no file can be made in the directory.
    pub fn begin(&self) -> Result<Begun<'_>, CliError> {
        let file = match &self.to {
            To::File(output) => Writer::New(output.begin().map_err(|e| self.failed(e))?, output),
            To::Stream { file, .. } => Writer::Stream(file),
        };
        Ok(Begun { target: self, file })
    }

    fn failed(&self, e: io::Error) -> CliError {
        match e.kind() {
            // the reader of the stream has closed it
            io::ErrorKind::BrokenPipe => CliError::from(e),
            _ => CliError::of_file(self.path, &e),
        }
    }
}

impl To {
    fn find(path: &Path, force: bool) -> Result<Self, Reason> {
        let found = match files::look(path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let place = files::Place::new(path).map_err(Reason::of_new)?;
                return Ok(Self::File(Output::new(place, None)));
            }
            Err(e) => return Err(e.into()),
        };
        let metadata = found.metadata()?;
        // without standard output, no path leads to it
        let stdout = files::stdout().and_then(|file| Ok((file.metadata()?, file)));
        match stdout {
            Ok((own, file)) if files::same(&own, &metadata) => {
                return Ok(Self::Stream { file, is_stdout: true });
            }
            _ => {}
        }
        let kind = metadata.file_type();
        if (kind.is_file() || kind.is_block_device()) && !force {
            return Err(io::Error::other("exists already; --force overwrites it").into());
        }
        let file = files::open_to_write(&found, path)?;
        match kind.is_file() {
            true => Ok(Self::File(Output::new(files::Place::of(&file, path)?, Some(file)))),
            false => Ok(Self::Stream { file, is_stdout: false }),
        }
    }
}

/// An output that is being written. If it is dropped before [`Begun::finish`], a plain file is as
/// it was before.
pub(super) struct Begun<'a> {
    target: &'a Target<'a>,
    file: Writer<'a>,
}

enum Writer<'a> {
    New(NewFile<'a>, &'a Output),
    Stream(&'a File),
}

impl Begun<'_> {
    /// The file to write to.
    pub fn file(&self) -> &File {
        match &self.file {
            Writer::New(new, _) => new.file(),
            Writer::Stream(file) => file,
        }
    }

    /// The error if this file cannot be written.
    pub fn failed(&self, e: io::Error) -> CliError {
        self.target.failed(e)
    }

    /// Give the complete file its name.
    ///
    /// # Errors
    /// The errors of the system, and an error if another file has got the name in the meantime.
    pub fn finish(self) -> Result<(), CliError> {
        match self.file {
            Writer::New(new, output) => output.put(new).map_err(|e| self.target.failed(e)),
            Writer::Stream(_) => Ok(()),
        }
    }
}

/// Refuse to write output over a file that the command reads or makes.
///
/// # Errors
/// If `output` is one of these files, under whatever name.
pub(super) fn refuse_inputs(output: &Path, inputs: &[Option<(u64, u64)>]) -> Result<(), CliError> {
    match sys::identity(output) {
        Ok(there) if inputs.contains(&Some(there)) => Err(CliError::failure(format_args!(
            "{}: this file is read or made by the command; give another name for the output",
            output.show()
        ))),
        _ => Ok(()),
    }
}
