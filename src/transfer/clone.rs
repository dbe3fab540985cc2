//! Making a compacted copy of an image: every file and attribute, in a new filesystem.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::Progress;
use super::create::{Created, Creation, Failure, Size};
use super::manifest::Manifest;
use super::place::{Placement, create_like};
use crate::check::{Finding, Severity};
use crate::convention::Choice;
use crate::disk::Superblock;
use crate::disk::superblock::{VERSION_1_1, VERSION_2_1};
use crate::fs::root_superblock;
use crate::image::{Dialect, OpenError, Opened, Reason, Source};
use crate::profile::Profile;
use crate::{FormatOptions, Limits, Littlefs, OpenOptions, files};

/// The form of a copy of an image.
#[derive(Debug, Clone, Default)]
pub struct Cloning {
    /// Block size, version and limits, by default those of the original. The size in these options
    /// is ignored.
    pub format: FormatOptions,
    /// Number of blocks; by default the number that fills the size of the original.
    pub size: Option<Size>,
    /// Make no image that the devices of this family would refuse.
    pub check: Option<&'static Profile>,
}

/// An image that will be rebuilt. It is only read, and is known to be sound.
pub struct Original {
    image: Littlefs,
    /// The superblock as it is shown: with version 2 even if the image is in another dialect.
    shown: Superblock,
    /// The superblock as it is stored in the image.
    superblock: Superblock,
    /// Whether free blocks at its end are left out.
    is_compacted: bool,
    /// The metadata of its file.
    metadata: Metadata,
}

impl Original {
    /// Examine an open image.
    ///
    /// # Errors
    /// [`Failure::Damaged`] if it is not sound; [`Failure::Target`] if a part of it is missing at its
    /// end, or if its container is damaged.
    pub fn new(opened: &Opened) -> Result<Self, Failure> {
        if let Some(what) = &opened.incomplete {
            return Err(Failure::Target(Reason::Incomplete(what.clone())));
        }
        if opened.missing > 0 {
            let (geometry, missing) = (opened.stored.geometry(), opened.missing);
            return Err(Failure::Target(Reason::Truncated { geometry, missing }));
        }
        let report = opened.dialect.check(&opened.stored, &|_| ())?;
        let damage = report.findings.into_iter().filter(|f| {
            f.severity == Severity::Error && !opened.dialect.harmless().contains(&f.code)
        });
        let damage: Vec<Finding> = damage.collect();
        if !damage.is_empty() {
            return Err(Failure::Damaged(damage));
        }
        let shown = root_superblock(&*opened.device)?;
        let superblock = Superblock {
            version: match opened.dialect {
                Dialect::Littlefs => shown.version,
                Dialect::V1 => VERSION_1_1,
                Dialect::Chamelon => VERSION_2_1,
            },
            ..opened.superblock
        };
        let metadata = opened.metadata.clone();
        let options = OpenOptions::new().read_only(true).convention(Choice::None);
        let image = options.open_device(Arc::clone(&opened.device))?;
        Ok(Self { image, shown, superblock, is_compacted: opened.compacted > 0, metadata })
    }

    /// The image, open for reading.
    pub(super) fn image(&self) -> &Littlefs {
        &self.image
    }

    /// Its version, major in the high 16 bits.
    pub(super) fn version(&self) -> u32 {
        self.superblock.version
    }

    /// Its whole content.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub fn manifest(&self) -> Result<Manifest, Failure> {
        Ok(Manifest::of_image(&self.image)?)
    }

    /// The same options, with missing values taken from the image.
    pub fn format(&self, format: &FormatOptions) -> FormatOptions {
        let Superblock { block_size, version, .. } = self.superblock;
        format.clone().filled_from(&Superblock { block_size, version, ..self.shown })
    }

    /// The form of a copy.
    pub(super) fn creation(&self, how: &Cloning) -> Creation {
        let block_size = self.superblock.block_size;
        let mut format = self.format(&how.format);
        let new_size = format.chosen_block_size();
        if format.chosen_profile().is_none() {
            // keep the program size of the device, and the size up to which files are inline
            let Limits { prog_size, inline_max, .. } = self.image.limits();
            let cap = (new_size / 8).min(format.chosen_attr_max());
            format = format
                .prog_size(prog_size.min(1 << new_size.trailing_zeros().min(31)))
                .inline_max(inline_max.min(cap));
        }
        let bytes = u64::from(self.superblock.block_count) * u64::from(block_size);
        let filling = bytes / u64::from(new_size.max(1));
        let size = how.size.unwrap_or(Size::Blocks(u32::try_from(filling).unwrap_or(u32::MAX)));
        // free blocks that are missing in the image are written only if a size was requested
        let compact = self.is_compacted && how.size.is_none();
        Creation { compact, check: how.check, ..Creation::new(format, size) }
    }
}

/// Make a copy of an image at `out`, with everything in `manifest`, the manifest of the original.
/// Metadata and block lists are written from scratch, without remains of overwritten content. The
/// copy is read back, compared and checked before it gets its name.
///
/// # Errors
/// One [`Failure`] for each reason. In all cases nothing was changed.
pub fn clone(
    original: &Original,
    manifest: &Manifest,
    out: &Path,
    overwrite: bool,
    how: &Cloning,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    match Source::find(out) {
        Ok(there) if files::same(there.metadata(), &original.metadata) => {
            return Err(Failure::SameFile);
        }
        Ok(_) | Err(OpenError { reason: Reason::NotFound, .. }) => {}
        Err(e) => return Err(Failure::Target(e.reason)),
    }
    // an image from standard input is in a nameless file, whose owner and mode have no meaning
    let like = Some(&original.metadata).filter(|metadata| metadata.nlink() > 0);
    let how = original.creation(how);
    create_like(out, Placement::New { overwrite }, like, manifest, &how, progress)
}
