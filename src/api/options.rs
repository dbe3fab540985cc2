//! Opening an image or a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Littlefs, ReadOnlyReason};
#[cfg(feature = "transfer")]
use crate::bd::OverlayDevice;
use crate::bd::journal::At;
use crate::bd::{BlockDevice, Prefix};
use crate::convention::{Choice, Codec};
use crate::error::{Error, Result};
use crate::fs::{self, Fs, root_superblock};
#[cfg(feature = "transfer")]
use crate::image::OpenError;
use crate::image::{self, Dialect, Source};
use crate::journal::{self, Named};
use crate::profile::Profile;
use crate::show::Show;

/// How to open a filesystem.
///
/// ```no_run
/// # fn main() -> littlefs::Result<()> {
/// let fs = littlefs::OpenOptions::new().read_only(true).offset(0x10_0000).open("flash.bin")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    image: image::Options,
    engine: fs::OpenOptions,
    profile: Option<&'static Profile>,
    convention: Option<Choice>,
    journal: Option<PathBuf>,
    at: Option<At>,
    discard: bool,
    pub(super) time: Option<SystemTime>,
}

impl OpenOptions {
    /// Reading and writing where the image allows it, everything else as it is found in the image.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuse changes, and never write. An image can be read by several at once.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.image.read_only = read_only;
        self
    }

    /// Where the filesystem starts in the file, in bytes.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.image.place = image::Place::At(offset);
        self
    }

    /// Where the filesystem is in the file; by default at its first byte.
    #[must_use]
    pub fn place(mut self, place: image::Place) -> Self {
        self.image.place = place;
        self
    }

    /// The pages of a dump of NAND flash that has its spare bytes, which is only read; where nothing
    /// else is possible they are recognised.
    #[must_use]
    pub fn page(mut self, page: image::Page) -> Self {
        self.image.page = Some(page);
        self
    }

    /// Unpack so many bytes of a compressed or wrapped image; by default 4 GiB.
    #[must_use]
    pub fn unpack_limit(mut self, bytes: u64) -> Self {
        self.image.unpack_limit = Some(bytes);
        self
    }

    /// Insist on this block size, in bytes, instead of what the image says.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.image.block_size = Some(block_size);
        self
    }

    /// Insist on this number of blocks.
    #[must_use]
    pub fn block_count(mut self, block_count: u32) -> Self {
        self.image.block_count = Some(block_count);
        self
    }

    /// Insist on this dialect, instead of the one that is recognised.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.image.dialect = Some(dialect);
        self
    }

    /// Write as a family of devices does, in all that is not set by itself.
    #[must_use]
    pub fn profile(mut self, profile: &'static Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// By which convention user attributes keep times, owners and modes.
    #[must_use]
    pub fn convention(mut self, choice: Choice) -> Self {
        self.convention = Some(choice);
        self
    }

    /// The device's program size, in bytes, instead of the one that is inferred from the image.
    #[must_use]
    pub fn prog_size(mut self, prog_size: u32) -> Self {
        self.engine.prog_size = Some(prog_size);
        self
    }

    /// The largest file that is stored in its directory's blocks, in bytes, instead of the one that
    /// is inferred from the image; at most an eighth of a block.
    #[must_use]
    pub fn inline_max(mut self, inline_max: u32) -> Self {
        self.engine.inline_max = Some(inline_max);
        self
    }

    /// After how many erases a metadata pair moves to other blocks; never by default.
    #[must_use]
    pub fn block_cycles(mut self, block_cycles: u32) -> Self {
        self.engine.block_cycles = Some(block_cycles);
        self
    }

    /// Put the journal at `path` over the image: changes are appended to that file, which is made if
    /// it is missing, and the image stays as it is.
    #[must_use]
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// With [`Self::journal`]: the image as it was at this state of the journal, for reading only.
    #[must_use]
    pub fn at(mut self, state: At) -> Self {
        self.at = Some(state);
        self
    }

    /// Open the image for reading only, but allow changes, which are kept in a temporary file and
    /// thrown away in the end: to find out what they would do. Only for [`Self::open`].
    #[cfg(feature = "transfer")]
    #[must_use]
    pub fn discard_changes(mut self, discard: bool) -> Self {
        self.discard = discard;
        self
    }

    /// The time that every change gets, instead of the clock's: the same changes give the same image.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Open the image in the file or on the block device at `path`.
    ///
    /// # Errors
    /// As [`Littlefs::open`]; [`Error::Journal`] says what is wrong with the journal.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Littlefs> {
        self.open_source(&Source::find(path.as_ref())?)
    }

    /// The same for an image that was found already.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open_source(&self, source: &Source) -> Result<Littlefs> {
        match &self.journal {
            // a new journal would have nothing in it, and a trial makes none
            Some(journal) if self.discard && journal.symlink_metadata().is_err() => {
                self.open_found(image::open_found(source, &self.image_options())?)
            }
            Some(journal) => self.open_over(&mut Named::find(journal)?, source),
            None if self.at.is_some() => {
                Err(Error::Invalid("a past state can be chosen only together with a journal"))
            }
            None => self.open_found(image::open_found(source, &self.image_options())?),
        }
    }

    /// The same with a journal over it, which is made if it is not there.
    pub(crate) fn open_over(&self, journal: &mut Named, source: &Source) -> Result<Littlefs> {
        let options = self.image_options();
        self.open_found(journal::attach(journal, source, &options, self.at.as_ref())?.image)
    }

    fn image_options(&self) -> image::Options {
        image::Options { read_only: self.image.read_only || self.discard, ..self.image }
    }

    /// How to open the file of an image that is to be changed; none where changes go elsewhere or are
    /// refused.
    #[cfg(feature = "transfer")]
    pub(crate) fn to_change(&self) -> Option<image::Options> {
        let changes = self.journal.is_none() && !self.image.read_only;
        changes.then_some(self.image)
    }

    fn open_found(&self, opened: image::Opened) -> Result<Littlefs> {
        let reason = match () {
            () if self.image.read_only => Some(ReadOnlyReason::Asked),
            () if self.at.is_some() => Some(ReadOnlyReason::PastState),
            () if !opened.wrapped.is_empty() => {
                let kind = opened.wrapped.first();
                kind.map(|&kind| {
                    ReadOnlyReason::Wrapped(image::of_wrapped(kind, &opened.path.show()))
                })
            }
            () if opened.dialect == Dialect::V1 => Some(ReadOnlyReason::Version1),
            () if opened.dialect == Dialect::Chamelon => Some(ReadOnlyReason::Dialect),
            () if opened.doubt.is_some() => {
                opened.doubt.map(|doubt| ReadOnlyReason::Doubtful(doubt.to_string()))
            }
            () if opened.read_only && !self.discard => Some(ReadOnlyReason::WriteProtected),
            () => None,
        };
        #[cfg(feature = "transfer")]
        if self.discard {
            let device = OverlayDevice::new(opened.device)
                .map_err(|e| OpenError { path: opened.path, reason: e.into() })?;
            return self.over(Arc::new(device), reason, opened.notes);
        }
        self.over(opened.device, reason, opened.notes)
    }

    /// Open the filesystem on `device`, whose block 0 is the filesystem's: the offset, the geometry,
    /// the dialect and the journal do not count.
    ///
    /// # Errors
    /// As [`Littlefs::open_device`].
    pub fn open_device(&self, device: Arc<dyn BlockDevice>) -> Result<Littlefs> {
        let superblock = root_superblock(&*device)?;
        let device = Prefix::of(device, superblock.block_count);
        self.over(device, self.image.read_only.then_some(ReadOnlyReason::Asked), Vec::new())
    }

    fn over(
        &self,
        device: Arc<dyn BlockDevice>,
        refused: Option<ReadOnlyReason>,
        notes: Vec<String>,
    ) -> Result<Littlefs> {
        let mut engine = self.engine(device.geometry().block_size);
        engine.read_only = refused.is_some();
        Littlefs::new(Fs::open_to_change(device, &engine)?, self, refused, notes)
    }

    /// How the engine opens an image of that block size, in bytes.
    pub(crate) fn engine(&self, block_size: u32) -> fs::OpenOptions {
        let of_profile = |get: &dyn Fn(&Profile) -> Option<u32>| self.profile.and_then(get);
        fs::OpenOptions {
            read_only: self.image.read_only,
            prog_size: self.engine.prog_size.or(of_profile(&|p| p.prog_size)),
            inline_max: self.engine.inline_max.or(of_profile(&|p| p.inline_max(block_size))),
            block_cycles: self.engine.block_cycles,
            // `Littlefs::warnings` tells them
            quiet: true,
        }
    }

    /// How the image keeps times, owners and modes, if it does.
    ///
    /// # Errors
    /// When a convention was asked for whose attributes the image does not allow.
    pub(crate) fn codec(&self, fs: &Fs) -> Result<Option<Codec>> {
        let usage = fs.attr_usage();
        let (convention, asked) = match (self.convention, self.profile) {
            (None, Some(profile)) => (profile.convention(), true),
            (choice, _) => {
                let choice = choice.unwrap_or_default();
                (choice.of(usage), !matches!(choice, Choice::AsImage))
            }
        };
        let Some(convention) = convention else { return Ok(None) };
        let codec = Codec::new(convention, usage);
        if codec.largest() <= fs.superblock().attr_max {
            return Ok(Some(codec));
        }
        // What the image has already is left alone rather than half understood.
        if asked { Err(Error::AttrTooLarge) } else { Ok(None) }
    }
}
