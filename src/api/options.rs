//! Opening an image or a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Littlefs, ReadOnlyReason, Told};
#[cfg(feature = "transfer")]
use crate::bd::OverlayDevice;
use crate::bd::{BlockDevice, Prefix};
use crate::convention::{Choice, Codec};
use crate::error::{Error, Result, Suspicion};
use crate::fs::{self, Durability, Fs, root_superblock};
#[cfg(feature = "transfer")]
use crate::image::OpenError;
use crate::image::{self, Dialect, Doubt, Source};
use crate::journal::{self, Named};
use crate::profile::Profile;
use crate::show::Show;
use crate::transactions::At;

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
    /// Options for reading and writing, if the image allows that. Everything else is taken from the
    /// image.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuse changes, and never write. Several users can read the same image at the same time.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.image.read_only = read_only;
        self
    }

    /// The position in the file, in bytes, at which the filesystem starts.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.image.place = image::Place::At(offset);
        self
    }

    /// Where the filesystem is in the file. The default is the first byte.
    #[must_use]
    pub fn place(mut self, place: image::Place) -> Self {
        self.image.place = place;
        self
    }

    /// The page layout of a dump of NAND flash that includes the spare bytes. Such a dump is only
    /// read. If no page layout is given, it is recognised if only one is possible.
    #[must_use]
    pub fn page(mut self, page: image::Page) -> Self {
        self.image.page = Some(page);
        self
    }

    /// How many bytes of a compressed or wrapped image may be unpacked. The default is 4 GiB.
    #[must_use]
    pub fn unpack_limit(mut self, bytes: u64) -> Self {
        self.image.unpack_limit = Some(bytes);
        self
    }

    /// Require this block size, in bytes, instead of taking the one in the image.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.image.block_size = Some(block_size);
        self
    }

    /// Require this number of blocks.
    #[must_use]
    pub fn block_count(mut self, block_count: u32) -> Self {
        self.image.block_count = Some(block_count);
        self
    }

    /// Require this dialect, instead of recognising one.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.image.dialect = Some(dialect);
        self
    }

    /// Write as a family of devices does, except for values that are given separately.
    #[must_use]
    pub fn profile(mut self, profile: &'static Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// The convention by which user attributes store times, owners and modes.
    #[must_use]
    pub fn convention(mut self, choice: Choice) -> Self {
        self.convention = Some(choice);
        self
    }

    /// The program size of the device in bytes, instead of the one that is inferred from the image.
    #[must_use]
    pub fn prog_size(mut self, prog_size: u32) -> Self {
        self.engine.prog_size = Some(prog_size);
        self
    }

    /// The largest inline file in bytes, instead of the value that is inferred from the image. It
    /// is at most an eighth of a block.
    #[must_use]
    pub fn inline_max(mut self, inline_max: u32) -> Self {
        self.engine.inline_max = Some(inline_max);
        self
    }

    /// The number of erases after which a metadata pair moves to other blocks. By default, no pair
    /// moves.
    #[must_use]
    pub fn block_cycles(mut self, block_cycles: u32) -> Self {
        self.engine.block_cycles = Some(block_cycles);
        self
    }

    /// Limits the memory for cached and unwritten data, in bytes. If there is more data, changes
    /// are written early, and unchanged data is read again when it is needed. The default is 40
    /// MiB, and less than 256 KiB counts as 256 KiB.
    #[must_use]
    pub fn cache(mut self, bytes: u64) -> Self {
        self.engine.cache = Some(bytes);
        self
    }

    /// What a flush waits for that happens only because there are too many changes in memory.
    /// [`Littlefs::flush`] and [`File::sync_all`](super::File::sync_all) always wait until
    /// everything is on the medium.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.engine.durability = durability;
        self
    }

    /// Put the journal at `path` over the image. Changes are appended to the journal, which is
    /// created if it does not exist, and the image does not change.
    #[must_use]
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// With [`Self::journal`]: open the image in this state of the journal, for reading only.
    #[must_use]
    pub fn at(mut self, state: At) -> Self {
        self.at = Some(state);
        self
    }

    /// Open the image for reading only, but allow changes, to find out what they would do. They are
    /// kept in a temporary file, and are dropped in the end. This works only with [`Self::open`].
    #[cfg(feature = "transfer")]
    #[must_use]
    pub fn discard_changes(mut self, discard: bool) -> Self {
        self.discard = discard;
        self
    }

    /// The time that every change gets, instead of the time of the clock. So the same changes
    /// always make the same image.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Open the image in the file or on the block device at `path`.
    ///
    /// # Errors
    /// Those of [`Littlefs::open`]. [`Error::Journal`] says what is wrong with the journal.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Littlefs> {
        self.open_source(&Source::find(path.as_ref())?)
    }

    /// Like [`OpenOptions::open`], for an image that was found before.
    ///
    /// # Errors
    /// Those of [`OpenOptions::open`].
    pub fn open_source(&self, source: &Source) -> Result<Littlefs> {
        let options = self.image_options();
        if !options.read_only {
            journal::finish_interrupted(source)?;
        }
        match &self.journal {
            // a new journal would be empty, and with `discard` none is created
            Some(journal) if self.discard && journal.symlink_metadata().is_err() => {
                self.open_found(image::open_found(source, &options)?)
            }
            Some(journal) => self.open_over(&mut Named::find(journal)?, source),
            None if self.at.is_some() => {
                Err(Error::Invalid("a past state can be chosen only together with a journal"))
            }
            None => {
                let mut opened = image::open_found(source, &options)?;
                if let Some(interruption) = journal::interruption(source.path()) {
                    opened.notes.push(interruption.to_string());
                    opened.suspicions.push(Suspicion::of_image(interruption));
                }
                self.open_found(opened)
            }
        }
    }

    /// Open the image with a journal over it, which is created if it does not exist.
    pub(crate) fn open_over(&self, journal: &mut Named, source: &Source) -> Result<Littlefs> {
        let options = self.image_options();
        self.open_found(journal::attach(journal, source, &options, self.at.as_ref())?.image)
    }

    fn image_options(&self) -> image::Options {
        image::Options { read_only: self.image.read_only || self.discard, ..self.image }
    }

    /// Options for opening the file of an image that will be changed. `None` if changes go
    /// elsewhere or are refused.
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
            // no conversion accepts a truncated image
            () if opened.missing > 0 && opened.doubt.is_none() => {
                Some(ReadOnlyReason::Truncated(opened.missing))
            }
            () if opened.dialect == Dialect::V1 => Some(ReadOnlyReason::Version1),
            () if opened.dialect == Dialect::Chamelon => Some(ReadOnlyReason::Dialect),
            () if opened.doubt.is_some() => {
                let why = |doubt: Doubt| format!("{doubt}; {}", doubt.remedy());
                opened.doubt.map(|doubt| ReadOnlyReason::Doubtful(why(doubt)))
            }
            () if opened.read_only && !self.discard => Some(ReadOnlyReason::WriteProtected),
            () => None,
        };
        let told = Told { notes: opened.notes, suspicions: opened.suspicions };
        #[cfg(feature = "transfer")]
        if self.discard {
            let device = OverlayDevice::new(opened.device)
                .map_err(|e| OpenError { path: opened.path, reason: e.into() })?;
            return self.over(Arc::new(device), reason, told);
        }
        self.over(opened.device, reason, told)
    }

    /// Open the filesystem on `device`, which starts at block 0. The offset, the geometry, the
    /// dialect and the journal in the options are ignored.
    ///
    /// # Errors
    /// Those of [`Littlefs::open_device`].
    pub fn open_device(&self, device: Arc<dyn BlockDevice>) -> Result<Littlefs> {
        let superblock = root_superblock(&*device)?;
        let device = Prefix::of(device, superblock.block_count);
        self.over(device, self.image.read_only.then_some(ReadOnlyReason::Asked), Told::default())
    }

    fn over(
        &self,
        device: Arc<dyn BlockDevice>,
        refused: Option<ReadOnlyReason>,
        told: Told,
    ) -> Result<Littlefs> {
        let mut engine = self.engine(device.geometry().block_size);
        engine.read_only = refused.is_some();
        Littlefs::new(Fs::open_to_change(device, &engine)?, self, refused, told)
    }

    /// The options of the engine for an image with this block size in bytes.
    pub(crate) fn engine(&self, block_size: u32) -> fs::OpenOptions {
        let of_profile = |get: &dyn Fn(&Profile) -> Option<u32>| self.profile.and_then(get);
        fs::OpenOptions {
            read_only: self.image.read_only,
            prog_size: self.engine.prog_size.or(of_profile(&|p| p.prog_size)),
            inline_max: self.engine.inline_max.or(of_profile(&|p| p.inline_max(block_size))),
            block_cycles: self.engine.block_cycles,
            durability: self.engine.durability,
            cache: self.engine.cache,
            // `Littlefs::warnings` returns them instead
            quiet: true,
        }
    }

    /// What the user should know before changes if a convention was requested, and the attributes
    /// of the image follow another one.
    pub(super) fn note_on_convention(&self, fs: &Fs) -> Option<String> {
        let Some(Choice::By(asked)) = self.convention.filter(|_| !fs.is_read_only()) else {
            return None;
        };
        asked.note_on(fs.attr_usage())
    }

    /// How the image stores times, owners and modes, if it does.
    ///
    /// # Errors
    /// If a convention was requested, and its attributes are larger than the image allows.
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
        // if no convention was requested, attributes that do not fit are left as they are
        if asked { Err(Error::AttrTooLarge) } else { Ok(None) }
    }
}
