//! Whether an image suits a family of devices.

use std::fmt;
use std::sync::Arc;

use super::dir::PathError;
use super::{FormatOptions, Littlefs};
use crate::bd::{Geometry, RamDevice};
use crate::check::show;
use crate::disk::superblock::{ATTR_MAX, VERSION_2_1};
use crate::disk::tag;
use crate::error::Result;
use crate::fs::Storage;
use crate::profile::Profile;

/// The longest name, in bytes, that a driver with default settings supports.
const NAME_MAX: u32 = 255;
/// How many files are named. Further ones are only counted.
const NAMED_MAX: usize = 10;

/// Something in an image that does not suit a family of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// The driver is configured for another block size, in bytes, and does not mount the image.
    BlockSize {
        /// The block size of the image.
        image: u32,
        /// The block size of the devices.
        device: u32,
    },
    /// The driver does not support names as long as the image allows, in bytes, and does not mount
    /// the image.
    NameMax {
        /// The longest name that the image allows.
        image: u32,
        /// The longest name that the devices support.
        device: u32,
    },
    /// The driver does not support user attributes as long as the image allows, in bytes, and does
    /// not mount the image.
    AttrMax {
        /// The largest attribute that the image allows.
        image: u32,
        /// The largest attribute that the devices support.
        device: u32,
    },
    /// The driver does not support the version of the format (major number in the high 16 bits),
    /// and does not mount the image.
    DiskVersion {
        /// The version of the image.
        image: u32,
        /// The version of the devices.
        device: u32,
    },
    /// There are inline files that are larger than the driver's cache, in bytes. The driver cannot
    /// read them.
    Inline {
        /// How many there are.
        files: u64,
        /// The paths of the first of them.
        paths: Vec<Vec<u8>>,
        /// The cache size of the devices.
        cache: u32,
    },
}

impl Misfit {
    /// Whether the devices refuse to mount the image.
    pub fn is_refused(&self) -> bool {
        !matches!(self, Self::Inline { .. })
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockSize { image, device } => {
                write!(f, "its blocks have {image} bytes, but those of the devices have {device}")
            }
            Self::NameMax { image, device } => write!(
                f,
                "it allows names of {image} bytes, but the devices only allow {device}; make it \
                 with --name-max {device}"
            ),
            Self::AttrMax { image, device } => write!(
                f,
                "it allows attributes of {image} bytes, but the devices only allow {device}; make \
                 it with --attr-max {device}"
            ),
            Self::DiskVersion { image, device } => write!(
                f,
                "it has version {0} of the format, but the devices only read versions up to {1}; \
                 make it with --disk-version {1}",
                dotted(*image),
                dotted(*device)
            ),
            Self::Inline { files, paths, cache } => {
                let stored = match files {
                    1 => "1 file is stored in its directory",
                    _ => &format!("{files} files are stored in their directory"),
                };
                write!(
                    f,
                    "{stored} and larger than the devices' cache of {cache} bytes; the devices \
                     read only a part of such a file:"
                )?;
                paths.iter().try_for_each(|path| write!(f, " /{}", show(path)))?;
                if *files > paths.len() as u64 {
                    f.write_str(" ...")?;
                }
                Ok(())
            }
        }
    }
}

fn dotted(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}

impl FormatOptions {
    /// The properties of a new, empty image that do not suit the devices of a family. The number of
    /// blocks does not matter.
    ///
    /// # Errors
    /// If the format does not allow the options.
    pub fn misfits(&self, profile: &Profile) -> Result<Vec<Misfit>> {
        let device = RamDevice::new(Geometry::new(self.chosen_block_size(), 2)?);
        Ok(self.open_new(Arc::new(device))?.misfits(profile)?)
    }
}

impl Littlefs {
    /// The properties of the image that do not suit the devices of a family. The settings of the
    /// devices are assumed to be the defaults of the family; those of a board may differ.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn misfits(&self, profile: &Profile) -> Result<Vec<Misfit>, PathError> {
        let (geometry, limits) = (self.geometry(), self.limits());
        let mut found = Vec::new();
        if let Some(device) = profile.block_size.filter(|&size| size != geometry.block_size) {
            found.push(Misfit::BlockSize { image: geometry.block_size, device });
        }
        let device = profile.name_max.unwrap_or(NAME_MAX);
        if limits.name_max > device {
            found.push(Misfit::NameMax { image: limits.name_max, device });
        }
        let device = profile.attr_max.unwrap_or(ATTR_MAX);
        if limits.attr_max > device {
            found.push(Misfit::AttrMax { image: limits.attr_max, device });
        }
        let device = profile.disk_version.unwrap_or(VERSION_2_1);
        if limits.disk_version > device {
            found.push(Misfit::DiskVersion { image: limits.disk_version, device });
        }
        if let Some(cache) = profile.cache_size.filter(|&cache| cache > 0) {
            found.extend(self.large_inline_files(cache)?);
        }
        Ok(found)
    }

    fn large_inline_files(&self, cache: u32) -> Result<Option<Misfit>, PathError> {
        let (mut files, mut paths) = (0, Vec::new());
        let located = |path: &[u8], error| PathError { path: path.to_vec(), error };
        for entry in self.walk("").map_err(|e| located(b"", e))? {
            let entry = entry?;
            // a larger file does not fit into a tag, so it is not inline and need not be looked up
            let len = entry.metadata().len();
            if entry.metadata().is_dir() || len <= u64::from(cache) || len > u64::from(tag::LEN_MAX)
            {
                continue;
            }
            let path = entry.path();
            if self.storage(path).map_err(|e| located(path, e))? == Storage::Inline {
                files += 1;
                if paths.len() < NAMED_MAX {
                    paths.push(path.to_vec());
                }
            }
        }
        Ok((files > 0).then_some(Misfit::Inline { files, paths, cache }))
    }
}
