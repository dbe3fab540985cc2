//! The file that a new image is written to before it gets its name.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Failure;
use crate::image::{Container, Reason};
use crate::sys;

/// How the names of files begin that an interruption may leave behind.
const PREFIX: &str = ".littlefs-convert-";

/// A file without its final name; removed on drop.
pub(super) struct Target {
    temp: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
    /// Keeps others from what is overwritten.
    _locked: Option<Container>,
}

impl Target {
    /// A file to become `path`, with mode and owner of the one that is there.
    pub fn instead_of(path: &Path, old: &Metadata) -> Result<Self, Failure> {
        // a link is followed: what it leads to is replaced
        let path = fs::canonicalize(path)?;
        let temp = beside(&path)?;
        let new = temp.as_file().metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(temp.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        temp.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        Ok(Self { temp, path, overwrite: true, _locked: None })
    }

    /// A file to become `path`, which is not `source`; what is there is kept unless `overwrite`.
    pub fn new(path: &Path, source: &Path, overwrite: bool) -> Result<Self, Failure> {
        let old = match fs::metadata(path) {
            Ok(old) => old,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let temp = beside(path)?;
                let mode = 0o666 & !u32::from(sys::umask());
                temp.as_file().set_permissions(Permissions::from_mode(mode))?;
                return Ok(Self { temp, path: path.to_owned(), overwrite, _locked: None });
            }
            Err(e) => return Err(Failure::Target(e.into())),
        };
        let source = fs::metadata(source)?;
        if (source.dev(), source.ino()) == (old.dev(), old.ino()) {
            return Err(Failure::SameFile);
        }
        if !old.is_file() {
            return Err(Failure::Target(Reason::NotFileOrDevice));
        }
        if !overwrite {
            return Err(Failure::Exists);
        }
        let locked = Container::open(path, false).map_err(Failure::Target)?;
        if !locked.writable {
            return Err(Failure::Target(Reason::PermissionDenied));
        }
        Ok(Self { _locked: Some(locked), ..Self::instead_of(path, &old)? })
    }

    pub fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// Put everything on disk.
    pub fn make_durable(&self) -> io::Result<()> {
        self.file().sync_all()
    }

    /// Give the file its name, durably.
    pub fn put(self) -> Result<(), Failure> {
        let Self { temp, path, overwrite, _locked } = self;
        let put = if overwrite { temp.persist(&path) } else { temp.persist_noclobber(&path) };
        put.map_err(|e| match e.error.kind() {
            ErrorKind::AlreadyExists => Failure::Exists,
            _ => Failure::Io(e.error),
        })?;
        Ok(File::open(directory(&path))?.sync_all()?)
    }
}

/// A new file in the directory of `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PREFIX).tempfile_in(directory(path))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
