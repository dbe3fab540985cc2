//! Outputs of commands: their name refers to a complete file, or to what was there before.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use super::{NewFile, Place, take_access};
use crate::sys;

/// The name for an output.
#[derive(Debug)]
pub struct Output {
    place: Place,
    /// The file that has the name now, and will be replaced.
    old: Option<File>,
}

impl Output {
    /// The name `place`. With `old`, it must refer to that file, which will be replaced; without,
    /// it must not be taken.
    pub fn new(place: Place, old: Option<File>) -> Self {
        Self { place, old }
    }

    /// A new file, which will get the name. It has the owner and the mode of the old file, or else
    /// those of any new file.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn begin(&self) -> io::Result<NewFile<'_>> {
        let new = self.place.begin()?;
        match &self.old {
            Some(old) => take_access(new.file(), &old.metadata()?)?,
            None => {
                let mode = 0o666 & !u32::from(sys::umask());
                new.file().set_permissions(Permissions::from_mode(mode))?;
            }
        }
        Ok(new)
    }

    /// Give the file, which is complete now, the name.
    ///
    /// # Errors
    /// The errors of the system, and an error if another file has got the name in the meantime.
    pub fn put(&self, new: NewFile<'_>) -> io::Result<()> {
        new.file().sync_all()?;
        new.put(self.old.as_ref())
    }
}
