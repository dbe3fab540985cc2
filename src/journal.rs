//! Opening journals and the images that they belong to, and operations on them.
//!
//! The device that combines both is in [`crate::transactions`]. `docs/journal.md` describes how a
//! journal is used and what it guarantees.

mod changes;
mod commit;
mod error;
mod fingerprint;
mod named;
mod own;
mod squash;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bd::{BlockDevice, Geometry};
use crate::image::{self, Dialect, Source};
use crate::show::Show;
use crate::sys;
use crate::time::now;
use crate::transactions::format::Header;
use crate::transactions::scan::{Scan, scan, scan_part};
use crate::transactions::{At, History, JournalDevice, Reason};

use error::at;

pub use changes::{Change, Changes, Kind as ChangeKind};
pub use commit::{Committed, commit, commit_found, commit_to};
pub use error::{JournalError, Why};
pub use fingerprint::fingerprint;
pub use named::{Named, Unfit};
pub use own::{OwnJournal, finish_interrupted, interruption};
pub use squash::{Squashed, export, squash};

/// What a journal is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reading its present content. Another process may be writing to it.
    Read,
    /// Writing. No other process may write to it at the same time.
    Write,
}

/// A journal file that was read and found sound.
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    scan: Scan,
    history: History,
    mode: Mode,
}

impl Journal {
    /// Open the journal at `path`, and lock it if it is opened for writing.
    ///
    /// # Errors
    /// If it does not exist, is not a journal, is damaged, or is in use. When opened for writing,
    /// also if it belongs neither to the caller nor to the owner of its image, or if others may
    /// write to it.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, JournalError> {
        let journal = Self::open_found(&Named::find(path)?, mode)?;
        if mode == Mode::Write {
            let owner = journal.image_path().metadata().map(|meta| meta.uid());
            journal.adopt(owner.unwrap_or_else(|_| sys::effective_uid()))?;
        }
        Ok(journal)
    }

    /// Like [`Journal::open`], for a journal that was found before. The caller checks the owner of
    /// the image.
    ///
    /// # Errors
    /// Those of [`Journal::open`], and an error if another file has its name now.
    pub fn open_found(named: &Named, mode: Mode) -> Result<Self, JournalError> {
        let path = named.path();
        Self::load(path, named.open(mode).map_err(at(path))?, mode)
    }

    /// Check that the journal may be used for an image that belongs to the user `owner`: it must
    /// belong to that user or to the caller, and nobody else may be allowed to write to it.
    ///
    /// # Errors
    /// [`Why::Unfit`] if it may not be used.
    pub fn adopt(&self, owner: u32) -> Result<(), JournalError> {
        let meta = self.file.metadata().map_err(at(&self.path))?;
        named::adopt(&meta, owner).map_err(at(&self.path))
    }

    /// Open the undamaged part of the journal at `path` for reading. Also returns the damage that
    /// follows that part, if there is any.
    ///
    /// # Errors
    /// If there is no journal at `path`.
    pub fn open_damaged(path: &Path) -> Result<(Self, Option<Reason>), JournalError> {
        let file = Named::find(path)?.open(Mode::Read).map_err(at(path))?;
        let (scan, mut damage) = scan_part(&file).map_err(at(path))?;
        let history = History::of(&scan).unwrap_or_else(|reason| {
            damage = Some(reason);
            History::new(&scan.header)
        });
        let this =
            Self { path: path.to_owned(), file: Arc::new(file), scan, history, mode: Mode::Read };
        Ok((this, damage))
    }

    fn load(path: &Path, file: File, mode: Mode) -> Result<Self, JournalError> {
        let this = Self::load_quietly(path, file, mode)?;
        // while a journal is mounted, those who read it find the space that the mount reserves
        let is_usual = mode == Mode::Read && this.scan.reserved;
        if let Some(torn) = this.scan.about_torn().filter(|_| !is_usual) {
            log::warn!("{}: {torn}", path.show());
        }
        Ok(this)
    }

    /// Like [`Journal::open_found`], for a caller that only looks whether a commit was interrupted:
    /// there is no warning about a part of an entry at the end.
    fn open_quietly(named: &Named, mode: Mode) -> Result<Self, JournalError> {
        let path = named.path();
        Self::load_quietly(path, named.open(mode).map_err(at(path))?, mode)
    }

    fn load_quietly(path: &Path, file: File, mode: Mode) -> Result<Self, JournalError> {
        let scan = scan(&file).map_err(at(path))?;
        let history = History::of(&scan).map_err(at(path))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), scan, history, mode })
    }

    /// The history that the journal holds.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The result of reading the file.
    pub fn scanned(&self) -> &Scan {
        &self.scan
    }

    /// The path that the image had when the journal was made.
    pub fn image_path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsStr::from_bytes(&self.scan.header.path))
    }

    /// Options for opening the image of this journal.
    pub fn image_options(&self) -> image::Options {
        let Header { geometry, offset, .. } = self.scan.header;
        image::Options {
            block_size: Some(geometry.block_size),
            place: image::Place::At(offset),
            read_only: true,
            dialect: Some(Dialect::Littlefs),
            ..image::Options::default()
        }
    }

    /// Open the image at `path` for reading only, and check that the journal belongs to it. Without
    /// `path`, the path is used that the image had when the journal was made.
    ///
    /// # Errors
    /// If the image cannot be opened, and the errors of [`Journal::adopt`] and [`Journal::check`].
    pub fn open_image(&self, path: Option<&Path>) -> Result<image::Opened, JournalError> {
        self.check_not_begun().map_err(at(&self.path))?;
        let recorded = self.image_path();
        let source = Source::find(path.unwrap_or(&recorded))?;
        self.adopt(source.metadata().uid())?;
        let image = image::open_found(&source, &self.image_options())?;
        if let Some(&kind) = image.wrapped.first() {
            return Err(source.refused(image::Reason::Wrapped(kind)).into());
        }
        self.check(&*image.device, image.offset)?;
        Ok(image)
    }

    /// Check that the journal continues from the present state of the filesystem on `dev`, which
    /// starts at byte `offset` of its image.
    ///
    /// # Errors
    /// [`Reason::OtherGeometry`] or [`Reason::OtherImage`] if it does not, and
    /// [`Reason::CommitBegun`] if a commit was interrupted.
    pub fn check(&self, dev: &dyn BlockDevice, offset: u64) -> Result<(), JournalError> {
        self.try_check(dev, offset).map_err(at(&self.path))
    }

    fn try_check(&self, dev: &dyn BlockDevice, offset: u64) -> Result<(), Reason> {
        self.check_not_begun()?;
        self.check_geometry(dev.geometry(), offset)?;
        if fingerprint(dev)? == self.history.fingerprint { Ok(()) } else { Err(self.other_image()) }
    }

    fn check_not_begun(&self) -> Result<(), Reason> {
        if self.history.begun.is_some() { Err(Reason::CommitBegun) } else { Ok(()) }
    }

    fn check_geometry(&self, geometry: Geometry, offset: u64) -> Result<(), Reason> {
        let journal = (self.scan.header.geometry, self.scan.header.offset);
        let image = (geometry, offset);
        if journal == image { Ok(()) } else { Err(Reason::OtherGeometry { journal, image }) }
    }

    fn other_image(&self) -> Reason {
        Reason::OtherImage { path: self.image_path().show().to_string() }
    }

    /// The image in one of the states of the journal, for reading only.
    ///
    /// # Errors
    /// If the journal has no such state.
    pub fn past(
        &self,
        base: Arc<dyn BlockDevice>,
        at_state: &At,
    ) -> Result<JournalDevice, JournalError> {
        let number = self.history.find(at_state).map_err(at(&self.path))?;
        JournalDevice::past(base, self.file.clone(), &self.history, number).map_err(at(&self.path))
    }

    /// The image in the last state of the journal, for reading and writing.
    ///
    /// # Errors
    /// If the journal cannot be read or written, or was not opened for writing.
    pub fn live(self, base: Arc<dyn BlockDevice>) -> Result<JournalDevice, JournalError> {
        if self.mode == Mode::Read {
            return Err(at(&self.path)(io::Error::from(ErrorKind::PermissionDenied)));
        }
        JournalDevice::live(base, self.file, &self.scan, self.history).map_err(at(&self.path))
    }

    /// Return to an earlier state, by appending an entry to the journal. Returns the number of that
    /// earlier state.
    ///
    /// # Errors
    /// If the journal has no such state, or cannot be written.
    pub fn revert(self, to: &At) -> Result<u64, JournalError> {
        let path = self.path.clone();
        self.check_not_begun().map_err(at(&path))?;
        let number = self.history.find(to).map_err(at(&path))?;
        self.entries()?.revert(number).map_err(at(&path))?;
        Ok(number)
    }

    /// Give the last state a name. Returns the number of that state.
    ///
    /// # Errors
    /// If a savepoint cannot have that name, or the journal cannot be written.
    pub fn save(self, name: &str) -> Result<u64, JournalError> {
        let path = self.path.clone();
        self.check_not_begun().map_err(at(&path))?;
        let number = self.history.last();
        self.entries()?.save(name).map_err(at(&path))?;
        Ok(number)
    }

    /// A device for appending entries that do not change bytes. Nothing is read through it.
    fn entries(self) -> Result<JournalDevice, JournalError> {
        let geometry = self.scan.header.geometry;
        self.live(Arc::new(Nothing(geometry)))
    }
}

/// An image with a journal over it.
pub struct Attached {
    /// The image. Its device reads the image as the journal changes it.
    pub image: image::Opened,
    /// The same device, with the operations of a journal.
    pub device: Arc<JournalDevice>,
}

/// Put a journal over an image. If the journal does not exist, it is created. The result is
/// read-only if `read_only` asks for that, or if a state other than the last one is asked for.
///
/// # Errors
/// If the image or the journal cannot be opened, if the journal cannot be trusted, or if the two do
/// not belong together.
pub fn attach(
    named: &mut Named,
    source: &Source,
    options: &image::Options,
    at_state: Option<&At>,
) -> Result<Attached, JournalError> {
    let path = named.path().to_owned();
    let read_only = options.read_only || at_state.is_some();
    let options = image::Options { read_only: true, ..*options };
    let open_image = || {
        let image = image::open_found(source, &options)?;
        match (image.dialect.unwritable(), image.wrapped.first()) {
            (Some(reason), _) => Err(source.refused(reason)),
            (None, Some(&kind)) => Err(source.refused(image::Reason::Wrapped(kind))),
            (None, None) => Ok(image),
        }
    };
    named.check_apart(source)?;
    named.adopt(source.metadata().uid())?;
    let (mut image, journal) = if read_only {
        let journal = Journal::open_found(named, Mode::Read)?;
        journal.check_not_begun().map_err(at(&path))?;
        (open_image()?, journal)
    } else {
        let image = open_image().map_err(|e| match Journal::open_quietly(named, Mode::Read) {
            // if a commit was interrupted, the image may fail to open, and the interrupted commit
            // is the reason to report
            Ok(journal) => journal.check_not_begun().map_err(at(&path)).err().unwrap_or(e.into()),
            Err(_) => e.into(),
        })?;
        if image.missing > 0 {
            let missing = image.missing;
            let geometry = image.device.geometry();
            return Err(source.refused(image::Reason::Truncated { geometry, missing }).into());
        }
        if let Some(doubt) = image.doubt {
            return Err(source.refused(image::Reason::Doubtful(doubt)).into());
        }
        let file = named.open_or_create(&image)?;
        (image, Journal::load(&path, file, Mode::Write)?)
    };
    journal.adopt(source.metadata().uid())?;
    journal.check(&*image.device, image.offset)?;
    let base = image.device.clone();
    let device = Arc::new(match at_state {
        Some(at_state) => journal.past(base, at_state)?,
        None if read_only => journal.past(base, &At::Last)?,
        None => journal.live(base)?,
    });
    image.device = device.clone();
    image.stored = device.clone();
    image.read_only = read_only;
    Ok(Attached { image, device })
}

/// A device on which every block is erased.
struct Nothing(Geometry);

impl BlockDevice for Nothing {
    fn geometry(&self) -> Geometry {
        self.0
    }

    fn read(&self, _block: u32, _off: u32, buf: &mut [u8]) -> crate::bd::IoResult<()> {
        buf.fill(0xff);
        Ok(())
    }

    fn prog(&self, _block: u32, _off: u32, _data: &[u8]) -> crate::bd::IoResult<()> {
        Ok(())
    }

    fn erase(&self, _block: u32) -> crate::bd::IoResult<()> {
        Ok(())
    }

    fn barrier(&self) -> crate::bd::IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> crate::bd::IoResult<()> {
        Ok(())
    }
}

fn new_header(image: &image::Opened) -> Result<Header, Reason> {
    let path = std::path::absolute(&image.path).unwrap_or_else(|_| image.path.clone());
    let fingerprint = fingerprint(&*image.device)?;
    Ok(Header {
        id: new_id(&fingerprint),
        time: now(),
        geometry: image.device.geometry(),
        offset: image.offset,
        image_size: image.image_size,
        fingerprint,
        base: 0,
        given: 0,
        path: path.as_os_str().as_bytes().to_vec(),
    })
}

/// A number for a new journal. It is practically certain that no other journal has it.
fn new_id(fingerprint: &[u8]) -> u64 {
    let mut seed = fingerprint.to_vec();
    seed.extend(now().to_le_bytes());
    seed.extend(std::process::id().to_le_bytes());
    fingerprint::hash64(&seed)
}
