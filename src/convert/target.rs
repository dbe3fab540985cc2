//! The file that a new image is written to before it gets its name.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Failure;
use crate::files::{self, NewFile, Place};
use crate::image::{Container, OpenError, Opened, Reason, Source};

/// The name for a new image.
pub(super) struct Target {
    place: Place,
    /// The file that has the name now, and will be replaced.
    old: Option<File>,
    /// The owner and mode for the new file.
    access: Metadata,
    /// A lock that keeps others from using the file to be replaced.
    _locked: Option<Container>,
}

impl Target {
    /// The name of the old image itself.
    ///
    /// # Errors
    /// [`Failure::Device`] if the old image is not a plain file.
    pub fn in_place(source: &Opened) -> Result<Self, Failure> {
        let access = source.metadata.clone();
        if !access.is_file() {
            return Err(Failure::Device);
        }
        let place = Place::of(&source.file, &source.path)?;
        Ok(Self { place, old: Some(source.file.try_clone()?), access, _locked: None })
    }

    /// The name `path`, which must not be that of `source`; an existing file is replaced only with
    /// `overwrite`.
    ///
    /// # Errors
    /// [`Failure::SameFile`], [`Failure::Exists`], and [`Failure::Target`] if the existing file
    /// cannot be replaced.
    pub fn new(path: &Path, source: &Opened, overwrite: bool) -> Result<Self, Failure> {
        let out = match Source::find(path) {
            Ok(out) => out,
            Err(OpenError { reason: Reason::NotFound, .. }) => {
                let access = source.metadata.clone();
                return Ok(Self { place: Place::free(path)?, old: None, access, _locked: None });
            }
            Err(OpenError { reason: Reason::Directory, .. }) => {
                return Err(Failure::Target(Reason::NotFileOrDevice));
            }
            Err(e) => return Err(Failure::Target(e.reason)),
        };
        if files::same(&source.metadata, out.metadata()) {
            return Err(Failure::SameFile);
        }
        if !out.metadata().is_file() {
            return Err(Failure::Target(Reason::NotFileOrDevice));
        }
        if !overwrite {
            return Err(Failure::Exists);
        }
        let locked = out.container(false).map_err(Failure::Target)?;
        if !locked.writable {
            return Err(Failure::Target(Reason::PermissionDenied));
        }
        let (place, access) = (out.place()?, out.metadata().clone());
        let old = Some(locked.file.try_clone()?);
        Ok(Self { place, old, access, _locked: Some(locked) })
    }

    /// A new file, which will get the name.
    ///
    /// # Errors
    /// [`Failure::Owner`] if the file cannot get the owner of the one that it replaces, and
    /// [`Failure::Io`] if it cannot be made.
    pub fn begin(&self) -> Result<NewFile<'_>, Failure> {
        let new = self.place.begin()?;
        files::take_access(new.file(), &self.access)?;
        if self.old.is_some() && new.file().metadata()?.uid() != self.access.uid() {
            return Err(Failure::Owner(self.access.uid()));
        }
        Ok(new)
    }

    /// Give the file its name, durably.
    ///
    /// # Errors
    /// [`Failure::Exists`] if another file got the name in the meantime, and [`Failure::Io`].
    pub fn put(&self, new: NewFile<'_>) -> Result<(), Failure> {
        new.put(self.old.as_ref()).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::Exists,
            _ => Failure::Io(e),
        })
    }
}
