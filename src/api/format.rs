//! Making an empty filesystem.

use std::path::Path;
use std::sync::Arc;

use super::{Littlefs, OpenOptions};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::convention::Choice;
#[cfg(feature = "transfer")]
use crate::disk::Superblock;
use crate::disk::superblock::VERSION_2_1;
use crate::error::{Error, Result, Unsupported};
use crate::files::Place;
use crate::fs::{self, Fs};
use crate::image::{Container, OpenError};
use crate::profile::Profile;

/// Bytes in a block, unless something else is asked for.
const BLOCK_SIZE: u32 = 4096;

/// What a new filesystem is to be like: geometry and limits.
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
    /// Blocks of 4096 bytes, and the limits of the C driver.
    pub fn new() -> Self {
        Self::default()
    }

    /// As a family of devices makes its images, in all that is not set by itself.
    #[must_use]
    pub fn profile(mut self, profile: &'static Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Bytes in a block: a multiple of 4.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.block_size = Some(block_size);
        self
    }

    /// Number of blocks; instead of [`Self::size`].
    #[must_use]
    pub fn block_count(mut self, block_count: u32) -> Self {
        self.block_count = Some(block_count);
        self
    }

    /// Bytes in the filesystem: a multiple of the block size.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Version of the format, major in the high 16 bits: 0x00020000 or 0x00020001.
    #[must_use]
    pub fn disk_version(mut self, disk_version: u32) -> Self {
        self.disk_version = Some(disk_version);
        self
    }

    /// Longest name in bytes, at most 1022.
    #[must_use]
    pub fn name_max(mut self, name_max: u32) -> Self {
        self.name_max = Some(name_max);
        self
    }

    /// Largest file in bytes, at most 2147483647.
    #[must_use]
    pub fn file_max(mut self, file_max: u32) -> Self {
        self.file_max = Some(file_max);
        self
    }

    /// Largest user attribute in bytes, at most 1022.
    #[must_use]
    pub fn attr_max(mut self, attr_max: u32) -> Self {
        self.attr_max = Some(attr_max);
        self
    }

    /// The device's program size in bytes: commits end on its multiples.
    #[must_use]
    pub fn prog_size(mut self, prog_size: u32) -> Self {
        self.prog_size = Some(prog_size);
        self
    }

    /// The largest file that is stored in its directory's blocks, in bytes; for the filesystem that
    /// is opened, since the image does not keep it.
    #[must_use]
    pub fn inline_max(mut self, inline_max: u32) -> Self {
        self.inline_max = Some(inline_max);
        self
    }

    /// By which convention user attributes keep times, owners and modes; for the filesystem that is
    /// opened. That of the profile unless given, and without a profile none.
    #[must_use]
    pub fn convention(mut self, choice: Choice) -> Self {
        self.convention = Some(choice);
        self
    }

    /// The same, with what is not given taken from a filesystem that is there.
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

    /// The family of devices that it is for, if one was given.
    #[cfg(feature = "transfer")]
    pub(crate) fn chosen_profile(&self) -> Option<&'static Profile> {
        self.profile
    }

    /// Whether a convention for user attributes was asked for.
    #[cfg(feature = "transfer")]
    pub(crate) fn keeps_attributes(&self) -> bool {
        match self.convention {
            Some(choice) => matches!(choice, Choice::By(_)),
            None => self.profile.is_some_and(|p| p.convention().is_some()),
        }
    }

    /// Bytes in a block, as given, by the profile, or else 4096.
    pub fn chosen_block_size(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.block_size);
        self.block_size.or(of_profile).unwrap_or(BLOCK_SIZE)
    }

    /// Version of the format, as given, as the profile's devices need it, or else 2.1 (0x00020001).
    pub fn chosen_disk_version(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.disk_version);
        self.disk_version.or(of_profile).unwrap_or(VERSION_2_1)
    }

    /// Largest user attribute in bytes, as given, as the profile's devices have it, or else 1022.
    #[cfg(feature = "transfer")]
    pub(crate) fn chosen_attr_max(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.attr_max);
        self.attr_max.or(of_profile).unwrap_or(fs::FormatOptions::default().attr_max)
    }

    /// The geometry that was asked for; `None` if neither a block count nor a size was given.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the format does not allow it.
    pub fn geometry(&self) -> Result<Option<Geometry>> {
        let block_size = self.chosen_block_size();
        let block_count = match (self.block_count, self.size) {
            (Some(block_count), _) => u64::from(block_count),
            (None, Some(size)) => {
                let unit = u64::from(block_size.max(1));
                if size % unit != 0 {
                    let below = size - size % unit;
                    let why = format!(
                        "size {size} is not a multiple of the block size {block_size}; {below} and \
                         {} are",
                        below.saturating_add(unit)
                    );
                    return Err(Unsupported::Geometry(why).into());
                }
                size / unit
            }
            (None, None) => return Ok(None),
        };
        let block_count = u32::try_from(block_count).unwrap_or(u32::MAX);
        Ok(Some(Geometry::new(block_size, block_count)?))
    }

    /// Write an empty filesystem to `device`, whatever it holds, as large as the device.
    ///
    /// # Errors
    /// When the limits are outside of what the format allows, or the device fails.
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

    /// How to open a filesystem made by these options.
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
    /// As [`Self::format`].
    pub fn open_new(&self, device: Arc<dyn BlockDevice>) -> Result<Littlefs> {
        self.format(&*device)?;
        self.open_options().open_device(device)
    }

    /// Make a new image file at `path`, and open the filesystem in it.
    ///
    /// # Errors
    /// [`Error::Image`] if the file exists already or cannot be made, [`Error::Invalid`] without a
    /// block count or size, and as [`Self::format`]. No file is left behind.
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
            // the first error is the one that matters
            let _ = Place::new(path).and_then(|place| place.remove(&file));
        }
        made
    }
}
