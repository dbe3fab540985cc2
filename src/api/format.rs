//! Making an empty filesystem.

use std::path::Path;
use std::sync::Arc;

use super::{Littlefs, OpenOptions};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::convention::Choice;
#[cfg(feature = "transfer")]
use crate::disk::Superblock;
use crate::disk::superblock::VERSION_2_1;
use crate::error::{Error, Result};
use crate::files::Place;
use crate::fs::{self, Fs};
use crate::image::{Container, OpenError};
use crate::profile::Profile;

/// The default block size in bytes.
const BLOCK_SIZE: u32 = 4096;

/// The geometry and the limits of a new filesystem.
///
/// ```
/// # fn main() -> littlefs::Result<()> {
/// use std::sync::Arc;
///
/// use littlefs::FormatOptions;
/// use littlefs::bd::{Geometry, RamDevice};
///
/// let device = Arc::new(RamDevice::new(Geometry::new(4096, 64)?));
/// let fs = FormatOptions::new().name_max(64).open_new(device)?;
/// assert_eq!(fs.limits().name_max, 64);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct FormatOptions {
    profile: Option<&'static Profile>,
    block_size: Option<u32>,
    block_count: Option<u32>,
    size: Option<u64>,
    disk_version: Option<u32>,
    name_max: Option<u32>,
    file_max: Option<u32>,
    attr_max: Option<u32>,
    prog_size: Option<u32>,
    inline_max: Option<u32>,
    convention: Option<Choice>,
}

impl FormatOptions {
    /// Options for blocks of 4096 bytes, with the limits of the C driver.
    pub fn new() -> Self {
        Self::default()
    }

    /// Take all values that are not given from a family of devices.
    #[must_use]
    pub fn profile(mut self, profile: &'static Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// The number of bytes in a block. It must be a multiple of 4.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.block_size = Some(block_size);
        self
    }

    /// The number of blocks. It is given instead of [`Self::size`].
    #[must_use]
    pub fn block_count(mut self, block_count: u32) -> Self {
        self.block_count = Some(block_count);
        self
    }

    /// The size of the filesystem in bytes. It must be a multiple of the block size.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// The version of the format, with the major number in the high 16 bits: 0x00020000 or
    /// 0x00020001.
    #[must_use]
    pub fn disk_version(mut self, disk_version: u32) -> Self {
        self.disk_version = Some(disk_version);
        self
    }

    /// The longest name in bytes; at most 1022.
    #[must_use]
    pub fn name_max(mut self, name_max: u32) -> Self {
        self.name_max = Some(name_max);
        self
    }

    /// The largest file in bytes; at most 2147483647.
    #[must_use]
    pub fn file_max(mut self, file_max: u32) -> Self {
        self.file_max = Some(file_max);
        self
    }

    /// The largest user attribute in bytes; at most 1022.
    #[must_use]
    pub fn attr_max(mut self, attr_max: u32) -> Self {
        self.attr_max = Some(attr_max);
        self
    }

    /// The program size of the device in bytes. Commits end on multiples of it.
    #[must_use]
    pub fn prog_size(mut self, prog_size: u32) -> Self {
        self.prog_size = Some(prog_size);
        self
    }

    /// The largest inline file in bytes. This is an option for opening the new filesystem, because
    /// the image does not store it.
    #[must_use]
    pub fn inline_max(mut self, inline_max: u32) -> Self {
        self.inline_max = Some(inline_max);
        self
    }

    /// The convention by which user attributes store times, owners and modes. This is an option for
    /// opening the new filesystem. The default is the convention of the profile; without a profile,
    /// there is none.
    #[must_use]
    pub fn convention(mut self, choice: Choice) -> Self {
        self.convention = Some(choice);
        self
    }

    /// The same options, with missing values taken from an existing filesystem.
    #[cfg(feature = "transfer")]
    pub(crate) fn filled_from(self, there: &Superblock) -> Self {
        let profile = self.profile;
        let of_profile = |get: fn(&Profile) -> Option<u32>| profile.and_then(get);
        Self {
            block_size: self.block_size.or(of_profile(|p| p.block_size)).or(Some(there.block_size)),
            disk_version: self
                .disk_version
                .or(of_profile(|p| p.disk_version))
                .or(Some(there.version)),
            name_max: self.name_max.or(of_profile(|p| p.name_max)).or(Some(there.name_max)),
            file_max: self.file_max.or(Some(there.file_max)),
            attr_max: self.attr_max.or(of_profile(|p| p.attr_max)).or(Some(there.attr_max)),
            ..self
        }
    }

    /// The family of devices that the filesystem is for, if one was given.
    #[cfg(feature = "transfer")]
    pub(crate) fn chosen_profile(&self) -> Option<&'static Profile> {
        self.profile
    }

    /// Whether a convention for user attributes was requested.
    #[cfg(feature = "transfer")]
    pub(crate) fn keeps_attributes(&self) -> bool {
        match self.convention {
            Some(choice) => matches!(choice, Choice::By(_)),
            None => self.profile.is_some_and(|p| p.convention().is_some()),
        }
    }

    /// The number of bytes in a block: the given value, the value of the profile, or 4096.
    pub fn chosen_block_size(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.block_size);
        self.block_size.or(of_profile).unwrap_or(BLOCK_SIZE)
    }

    /// The version of the format: the given value, the one that the devices of the profile need, or
    /// 2.1 (0x00020001).
    pub fn chosen_disk_version(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.disk_version);
        self.disk_version.or(of_profile).unwrap_or(VERSION_2_1)
    }

    /// The largest user attribute in bytes: the given value, the value of the profile, or 1022.
    #[cfg(feature = "transfer")]
    pub(crate) fn chosen_attr_max(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.attr_max);
        self.attr_max.or(of_profile).unwrap_or(fs::FormatOptions::default().attr_max)
    }

    /// The requested geometry; `None` if neither a block count nor a size was given.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the format does not allow it.
    pub fn geometry(&self) -> Result<Option<Geometry>> {
        let block_size = self.chosen_block_size();
        let geometry = match (self.block_count, self.size) {
            (Some(block_count), _) => Geometry::new(block_size, block_count)?,
            (None, Some(size)) => Geometry::of_size(block_size, size)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(geometry))
    }

    /// Write an empty filesystem to `device`, whatever the device holds. The filesystem is as large
    /// as the device.
    ///
    /// # Errors
    /// If the format does not allow the limits, or the device fails.
    pub fn format(&self, device: &dyn BlockDevice) -> Result<()> {
        let default = fs::FormatOptions::default();
        let of_profile = |get: fn(&Profile) -> Option<u32>| self.profile.and_then(get);
        let options = fs::FormatOptions {
            disk_version: self.chosen_disk_version(),
            name_max: self.name_max.or(of_profile(|p| p.name_max)).unwrap_or(default.name_max),
            file_max: self.file_max.unwrap_or(default.file_max),
            attr_max: self.attr_max.or(of_profile(|p| p.attr_max)).unwrap_or(default.attr_max),
            prog_size: self.prog_size.or(of_profile(|p| p.prog_size)),
        };
        Fs::format(device, &options)
    }

    /// Options for opening a filesystem that was made with these options.
    pub fn open_options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        if let Some(profile) = self.profile {
            options = options.profile(profile);
        }
        if let Some(prog_size) = self.prog_size {
            options = options.prog_size(prog_size);
        }
        if let Some(inline_max) = self.inline_max {
            options = options.inline_max(inline_max);
        }
        if let Some(choice) = self.convention {
            options = options.convention(choice);
        }
        options
    }

    /// Write an empty filesystem to `device`, and open it.
    ///
    /// # Errors
    /// Those of [`Self::format`].
    pub fn open_new(&self, device: Arc<dyn BlockDevice>) -> Result<Littlefs> {
        self.format(&*device)?;
        self.open_options().open_device(device)
    }

    /// Make a new image file at `path`, and open the filesystem in it.
    ///
    /// # Errors
    /// [`Error::Image`] if the file exists already or cannot be made, [`Error::Invalid`] if neither
    /// a block count nor a size was given, and the errors of [`Self::format`]. After an error,
    /// there is no new file.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Littlefs> {
        let path = path.as_ref();
        let geometry =
            self.geometry()?.ok_or(Error::Invalid("a new image needs a size or block count"))?;
        let at = |reason| OpenError { path: path.to_owned(), reason };
        let container = Container::create(path).map_err(at)?;
        let file = container.file.try_clone().map_err(|e| at(e.into()))?;
        let made =
            container.file.set_len(geometry.size()).map_err(|e| at(e.into()).into()).and_then(
                |()| self.open_new(Arc::new(FileDevice::new(container.file, 0, geometry))),
            );
        if made.is_err() {
            // the first error is the one to return
            let _ = Place::new(path).and_then(|place| place.remove(&file));
        }
        made
    }
}
