//! Finding a journal by its name, and deciding whether it may be used.
//!
//! Whoever can write to a journal, or put a file in its place, decides what the image will contain.
//! So the file is trusted because of its owner, not because of its place.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::at;
use super::{JournalError, Mode, Why, new_header};
use crate::files::{self, NewFile, Place};
use crate::image::{self, LockError};
use crate::sys;
use crate::transactions::Reason;
use crate::transactions::format::Header;

/// Why a file must not be used as a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// It is a symbolic link.
    Link,
    /// It has other hard links.
    OtherNames,
    /// It belongs to this user, who is neither the caller nor the owner of the image.
    Owner(u32),
    /// Users other than its owner may write to it.
    Writable,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str(
                "is a symbolic link, which is not followed to a journal: give the name of the \
                 file itself",
            ),
            Self::OtherNames => f.write_str(
                "has several hard links, so it is not used as a journal: copy it, and use the copy",
            ),
            Self::Owner(uid) => write!(
                f,
                "belongs to user {uid}, who is neither you nor the owner of the image, so it is \
                 not used as a journal: remove it, or make it your own with chown if you trust it"
            ),
            Self::Writable => f.write_str(
                "users other than its owner can write to it, so it is not used as a journal: run \
                 'chmod go-w' on it if you trust it",
            ),
        }
    }
}

/// The name of a journal, and the file with that name, if there is one. The file is opened only
/// once, without following a link.
#[derive(Debug)]
pub struct Named {
    path: PathBuf,
    place: Place,
    file: Option<File>,
}

impl Named {
    /// Look for a journal at `path`.
    ///
    /// # Errors
    /// If there is something there that is not a plain file, or if it cannot be read.
    pub fn find(path: &Path) -> Result<Self, JournalError> {
        let place = Place::new(path).map_err(at(path))?;
        Self::at(place, path)
    }

    /// Look for the journal of one run of a program. It is beside the image, and its name is the
    /// name of the image followed by `suffix`.
    ///
    /// # Errors
    /// Those of [`Named::find`].
    pub fn beside(image: &image::Source, suffix: &str) -> Result<Self, JournalError> {
        let place = image.place().and_then(|place| place.with_suffix(suffix));
        let mut path = std::fs::canonicalize(image.path()).unwrap_or(image.path().to_owned());
        path.as_mut_os_string().push(suffix);
        Self::at(place.map_err(at(image.path()))?, &path)
    }

    /// The journal to which descriptor `number` of this process refers. It was found at `path`.
    ///
    /// # Errors
    /// Those of [`Named::find`].
    #[cfg(all(feature = "cli", feature = "mount"))]
    pub fn inherited(path: &Path, number: u32) -> Result<Self, JournalError> {
        let place = Place::new(path).map_err(at(path))?;
        let file = Some(files::inherited(number).map_err(at(path))?);
        Ok(Self { path: path.to_owned(), place, file })
    }

    fn at(place: Place, path: &Path) -> Result<Self, JournalError> {
        let file = match place.open() {
            Ok(file) => Some(file),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => {
                return Err(at(path)(match e.raw_os_error() {
                    Some(libc::ELOOP) => Why::Unfit(Unfit::Link),
                    Some(libc::ENXIO | libc::ENODEV) => Reason::NotJournal.into(),
                    _ => e.into(),
                }));
            }
        };
        let this = Self { path: path.to_owned(), place, file };
        if let Some(file) = &this.file
            && !file.metadata().map_err(at(path))?.is_file()
        {
            return Err(at(path)(Reason::NotJournal));
        }
        Ok(this)
    }

    /// The path that was searched for the journal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a journal.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// A descriptor of the file that programs inherit which this one starts.
    #[cfg(all(feature = "cli", feature = "mount"))]
    pub(crate) fn pass_on(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        files::pass_on(self.file.as_ref().ok_or(rustix::io::Errno::NOENT)?)
    }

    /// The directory of the journal, and its name there.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The file of an existing journal. If it is opened for writing, it is locked.
    pub(super) fn open(&self, mode: Mode) -> Result<File, Why> {
        let found = self.file.as_ref().ok_or(Why::Missing)?;
        if mode == Mode::Read {
            return Ok(self.place.reopen(found, OFlags::RDONLY)?);
        }
        judge(&found.metadata()?)?;
        let file = self.place.reopen(found, OFlags::RDWR)?;
        lock(&file)?;
        // a squash may have replaced the file in the meantime
        if !self.place.holds(&file)? {
            return Err(files::replaced().into());
        }
        Ok(file)
    }

    /// Check that the journal may be used for an image that belongs to the user `owner`: it must
    /// belong to that user or to the caller, and nobody else may be allowed to write to it.
    ///
    /// # Errors
    /// [`Why::Unfit`] if it may not be used.
    pub fn adopt(&self, owner: u32) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        let meta = file.metadata().map_err(at(&self.path))?;
        adopt(&meta, owner).map_err(at(&self.path))
    }

    /// Check that the journal is not the image itself.
    pub(super) fn check_apart(&self, image: &image::Source) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        let meta = file.metadata().map_err(at(&self.path))?;
        match files::same(&meta, image.metadata()) {
            true => Err(at(&self.path)(Why::IsImage)),
            false => Ok(()),
        }
    }

    /// The file for writing. If there is none, it is created for the image.
    pub(super) fn open_or_create(&mut self, image: &image::Opened) -> Result<File, JournalError> {
        let path = self.path.clone();
        let header = || new_header(image).map_err(|e| at(&image.path)(e));
        if self.file.is_some() {
            let file = self.open(Mode::Write).map_err(at(&path))?;
            // an empty file, such as one from mktemp(1), becomes a journal
            if file.metadata().map_err(at(&path))?.len() == 0 {
                (&file).write_all(&header()?.to_bytes()).map_err(at(&path))?;
                file.sync_all().map_err(at(&path))?;
            }
            return Ok(file);
        }
        let new = begin(&self.place, &header()?, &image.metadata).map_err(at(&path))?;
        let file = new.file().try_clone().map_err(at(&path))?;
        new.put(None).map_err(at(&path))?;
        self.file = Some(self.place.reopen(&file, OFlags::RDONLY).map_err(at(&path))?);
        Ok(file)
    }

    /// Remove the journal.
    ///
    /// # Errors
    /// The errors of the system, and an error if another file has its name now.
    pub fn remove(&self) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        self.place.remove(file).map_err(at(&self.path))
    }
}

/// Begin a journal in a locked file without a name. `image` tells who owns the image.
pub(super) fn begin<'a>(
    place: &'a Place,
    header: &Header,
    image: &Metadata,
) -> Result<NewFile<'a>, Why> {
    let new = place.begin()?;
    files::take_access(new.file(), image)?;
    // the owner may write to the journal even if nobody may write to the image
    let mode = new.file().metadata()?.permissions().mode() | 0o600;
    new.file().set_permissions(PermissionsExt::from_mode(mode & 0o644))?;
    lock(new.file())?;
    new.file().write_all(&header.to_bytes())?;
    new.file().sync_all()?;
    Ok(new)
}

fn lock(file: &File) -> Result<(), Why> {
    image::lock(file, true, false).map_err(|e| match e {
        LockError::Held(holder) => Why::InUse(holder),
        LockError::Io(e) => e.into(),
    })
}

/// Check that nobody but its owner can have written to the journal.
fn judge(meta: &Metadata) -> Result<(), Unfit> {
    if meta.nlink() > 1 {
        Err(Unfit::OtherNames)
    } else if meta.mode() & 0o022 != 0 {
        Err(Unfit::Writable)
    } else {
        Ok(())
    }
}

/// Check that a journal may be used for an image that belongs to the user `owner`.
pub(super) fn adopt(meta: &Metadata, owner: u32) -> Result<(), Why> {
    judge(meta)?;
    if [owner, sys::effective_uid()].contains(&meta.uid()) {
        Ok(())
    } else {
        Err(Unfit::Owner(meta.uid()).into())
    }
}
