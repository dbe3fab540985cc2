//! The file that a command writes its output to, if the user names one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use rustix::fs::OFlags;

use super::CliError;
use crate::files::{self, NewFile, Output, Place};
use crate::image::{OpenError, Reason};
use crate::show::Show;
use crate::sys;

/// How many bytes of a file are read to find out whether it may be replaced.
const START: u64 = 64 << 10;

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

/// Which file or block device an output may replace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replaced {
    /// Any, if the user gave `--force`.
    ByForce(bool),
    /// Only a file that is empty, or that this says to be one of those which the command writes
    /// there. It gets the beginning of the content.
    Own(fn(&[u8]) -> bool),
}

impl<'a> Target<'a> {
    /// The output at `path`, which must not be one of the `inputs`; `-` is standard output.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn find(
        path: &'a Path,
        replaced: Replaced,
        inputs: &[Option<(u64, u64)>],
    ) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self { path, to: To::Stream { file: files::stdout()?, is_stdout: true } });
        }
        match sys::identity(path) {
            Ok(there) if inputs.contains(&Some(there)) => return Err(also_used(path)),
            _ => {}
        }
        let to = To::find(path, replaced)
            .map_err(|reason| CliError::failure(OpenError { path: path.to_owned(), reason }))?;
        Ok(Self { path, to })
    }

    /// Check that the output is not the file at `made`, which the command makes and which may not
    /// exist yet.
    ///
    /// # Errors
    /// If both are the same name.
    pub fn check_apart(&self, made: &Path) -> Result<(), CliError> {
        match (Place::new(self.path), Place::new(made)) {
            (Ok(own), Ok(made)) if own.is_same_as(&made).unwrap_or(false) => {
                Err(also_used(self.path))
            }
            _ => Ok(()),
        }
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
    fn find(path: &Path, replaced: Replaced) -> Result<Self, Reason> {
        let found = match files::look(path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let place = Place::free(path).map_err(Reason::of_new)?;
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
        if kind.is_file() || kind.is_block_device() {
            replaced.check(&found, path)?;
        }
        let file = files::open_to_write(&found, path)?;
        match kind.is_file() {
            true => Ok(Self::File(Output::new(Place::of(&file, path)?, Some(file)))),
            false => Ok(Self::Stream { file, is_stdout: false }),
        }
    }
}

impl Replaced {
    /// Check whether the file or block device `found` at `path` may be replaced.
    fn check(self, found: &File, path: &Path) -> io::Result<()> {
        let is_own = match self {
            Self::ByForce(true) => return Ok(()),
            Self::ByForce(false) => {
                return Err(io::Error::other("exists already; --force overwrites it"));
            }
            Self::Own(is_own) => is_own,
        };
        let mut start = Vec::new();
        if found.metadata()?.is_file() {
            files::reopen(found, path, OFlags::RDONLY)?.take(START).read_to_end(&mut start)?;
            if start.is_empty() || is_own(&start) {
                return Ok(());
            }
        }
        Err(io::Error::other(
            "exists already, and is not what this command writes there, so it is not overwritten; \
             remove it, or give another name",
        ))
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

/// A parser for the name of a file or directory that cannot be standard input or output, because it
/// cannot be read or written as a stream.
pub(super) fn not_stdio() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path == Path::new("-") {
        true => Err("standard input or output cannot be used for this; give a name, or './-' if \
                     the name is '-'"),
        false => Ok(path),
    })
}

/// Whether `path` is standard output: `-`, or a path that leads to the same pipe, terminal or file.
pub(super) fn is_stdout(path: &Path) -> bool {
    let same = || -> io::Result<bool> {
        Ok(files::same(&files::look(path)?.metadata()?, &files::stdout()?.metadata()?))
    };
    path == Path::new("-") || same().unwrap_or(false)
}

/// Check that an output which cannot be written as a stream can be made at `path`: there is nothing
/// yet, or a file or a block device that is not standard output.
///
/// # Errors
/// If something else is there.
pub(super) fn check_is_file(path: &Path) -> Result<(), CliError> {
    // all other errors are found when the file is made
    let Ok(there) = files::look(path).and_then(|found| found.metadata()) else { return Ok(()) };
    let kind = there.file_type();
    let what = if is_stdout(path) {
        "is standard output"
    } else if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        "is neither a plain file nor a block device"
    } else {
        return Ok(());
    };
    Err(CliError::failure(format_args!(
        "{}: {what}, but this output cannot be written as a stream; give the name of a file",
        path.show()
    )))
}

/// The error if `output` is a file that the command also reads or makes, under whatever name.
fn also_used(output: &Path) -> CliError {
    CliError::failure(format_args!(
        "{}: this file is read or made by the command; give another name for the output",
        output.show()
    ))
}
