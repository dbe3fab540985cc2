//! Making a store in a new image.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::{Error, Options, Result, Store};
use crate::bd::Geometry;
use crate::bd::fresh::FreshDevice;
use crate::error::{Error as CoreError, IoError, IoOp};
use crate::files::Place;
use crate::sys;

impl Store {
    /// Make a new image file at `path`, let `fill` fill the store in it, and give the file its name
    /// when everything is on the medium. Until then, nobody can open the image, so the order of
    /// writes does not matter: changes are written when memory is full, batches have no redo value,
    /// and only [`Store::sync`] and the end of this function wait for the medium. A failure or a
    /// crash leaves no file at `path`.
    ///
    /// [`Options::durable`] and [`Options::durability`] do not matter here. A batch that fails is
    /// undone, as in any store; if that is not possible, no image is made.
    ///
    /// # Errors
    /// `Create` if the file exists already or cannot be made; the error of `fill`; `NoSpace` or
    /// `Core` if the changes of `fill` cannot be written.
    pub fn create<T>(
        path: &Path,
        geometry: Geometry,
        options: &Options,
        fill: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let failed = |source| Error::Create(path.to_owned(), source);
        if path.symlink_metadata().is_ok() {
            return Err(failed(io::Error::new(
                ErrorKind::AlreadyExists,
                "the file exists already",
            )));
        }
        let place = Place::new(path).map_err(failed)?;
        let new = place.begin().map_err(failed)?;
        new.file().set_len(geometry.size()).map_err(failed)?;
        let file = new.file().try_clone().map_err(failed)?;
        let again = file.try_clone().map_err(failed)?;
        let device = Arc::new(FreshDevice::new(again, 0, geometry));
        Self::format(&*device)?;
        let options = Options { durable: false, read_only: false, ..options.clone() };
        let store = Self::connect(device, &options)?;
        store.core().fresh = Some(Fresh { file, is_broken: false });
        let filled = fill(&store)?;
        store.disconnect()?;
        let mode = 0o666 & !u32::from(sys::umask());
        new.file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        new.put(None).map_err(failed)?;
        Ok(filled)
    }
}

/// An image that has no name yet.
pub(super) struct Fresh {
    file: File,
    /// Whether a part of a batch that failed is in the image.
    pub is_broken: bool,
}

impl Fresh {
    /// Wait until everything in the file is on the medium.
    ///
    /// # Errors
    /// If a failed batch has left the image broken, so that it can never get its name, or if the
    /// file cannot be synced.
    pub fn sync(&self) -> Result<()> {
        let failed = |source| CoreError::from(IoError { op: IoOp::Sync, block: None, source });
        if self.is_broken {
            return Err(failed(io::Error::other(
                "a batch has failed and cannot be undone, so the new store is incomplete; make it \
                 again",
            ))
            .into());
        }
        Ok(self.file.sync_all().map_err(failed)?)
    }
}
