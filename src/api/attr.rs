//! User attributes as they are stored, without the interpretation of a convention.

use super::Littlefs;
use crate::error::Result;
use crate::fs::At;

impl Littlefs {
    /// The data of the user attribute `ty` of the entry at `path`.
    ///
    /// # Errors
    /// [`Error::NoAttr`](crate::Error::NoAttr) if it has none of that type. Also if there is no
    /// such entry.
    pub fn attr(&self, path: impl AsRef<[u8]>, ty: u8) -> Result<Vec<u8>> {
        let mut core = self.core();
        let at = core.place(path.as_ref())?.at();
        core.fs.get_attr(at, ty)
    }

    /// The user attributes of the entry at `path`, as types and data, in ascending order of the
    /// types.
    ///
    /// # Errors
    /// When there is no such entry.
    pub fn attrs(&self, path: impl AsRef<[u8]>) -> Result<Vec<(u8, Vec<u8>)>> {
        let mut core = self.core();
        let at = core.place(path.as_ref())?.at();
        core.attrs(at)
    }

    /// Set the user attribute `ty` of the entry at `path` to `data`.
    ///
    /// # Errors
    /// [`Error::AttrTooLarge`](crate::Error::AttrTooLarge) if `data` is longer than the image
    /// allows. Also if there is no such entry, the filesystem is read-only, or there is no space.
    pub fn set_attr(&self, path: impl AsRef<[u8]>, ty: u8, data: impl AsRef<[u8]>) -> Result<()> {
        let mut core = self.core();
        let at = core.place(path.as_ref())?.at();
        core.fs.set_attr(at, ty, data.as_ref())
    }

    /// Remove the user attribute `ty` of the entry at `path`.
    ///
    /// # Errors
    /// Those of [`Littlefs::attr`], and [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn remove_attr(&self, path: impl AsRef<[u8]>, ty: u8) -> Result<()> {
        let mut core = self.core();
        let at = core.place(path.as_ref())?.at();
        core.fs.remove_attr(at, ty)
    }
}

impl super::Core {
    /// All attributes at `at`, in ascending order of the types.
    ///
    /// # Errors
    /// If there is no such entry any more, or it cannot be read.
    pub fn attrs(&mut self, at: At<'_>) -> Result<Vec<(u8, Vec<u8>)>> {
        self.fs.with_attrs(at, |attrs| {
            let mut all: Vec<(u8, Vec<u8>)> = attrs.map(|(ty, data)| (ty, data.to_vec())).collect();
            all.sort_unstable();
            all
        })
    }
}
