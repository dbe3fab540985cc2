//! Journals and their images: opening both, and what can be done with the two.
//!
//! `bd/journal.rs` is the device; `docs/journal.md` tells how it is used and what is promised.

mod changes;
mod commit;
mod error;
mod fingerprint;
mod squash;

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::bd::journal::format::Header;
use crate::bd::journal::scan::{Scan, scan, scan_part};
use crate::bd::journal::{At, History, JournalDevice, Reason};
use crate::bd::{BlockDevice, Geometry};
use crate::image::{self, Dialect, OpenError, holder};
use crate::time::now;

use error::at;

pub use changes::{Change, Changes, Kind as ChangeKind};
pub use commit::{Committed, commit, commit_to};
pub use error::{JournalError, Why};
pub use fingerprint::fingerprint;
pub use squash::{Squashed, export, squash};

/// Whether a journal is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside whoever writes it: what it holds at this moment.
    Read,
    /// With nobody else writing it.
    Write,
}

/// A journal file, read and sound.
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    scan: Scan,
    history: History,
    mode: Mode,
}

impl Journal {
    /// Open the journal at `path`, and lock it if it is to be written.
    ///
    /// # Errors
    /// When it is missing, no journal, damaged, or in use.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, JournalError> {
        Self::load(path, open_file(path, mode).map_err(at(path))?, mode)
    }

    /// Open the journal at `path` for writing, or make one for the image, which is at
    /// `image_path`.
    ///
    /// # Errors
    /// As [`Journal::open`], and when the file or the image's metadata cannot be read or written.
    pub fn open_or_create(
        path: &Path,
        image: &image::Opened,
        image_path: &Path,
    ) -> Result<Self, JournalError> {
        match open_file(path, Mode::Write) {
            Ok(file) => {
                // what mktemp(1) makes
                if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
                    let header = new_header(image, image_path).map_err(at(image_path))?;
                    (&file).write_all(&header.to_bytes()).map_err(at(path))?;
                    file.sync_all().map_err(at(path))?;
                }
                Self::load(path, file, Mode::Write)
            }
            Err(Why::Journal(Reason::Io(e))) if e.kind() == ErrorKind::NotFound => {
                let header = new_header(image, image_path).map_err(at(image_path))?;
                let file = begin(path, &header).and_then(|file| {
                    file.persist_noclobber(path).map_err(|e| e.error).map_err(Why::from)
                });
                let file = file.map_err(at(path))?;
                sync_directory(path).map_err(at(path))?;
                Self::load(path, file, Mode::Write)
            }
            Err(why) => Err(at(path)(why)),
        }
    }

    /// Open what is whole of the journal at `path` for reading, and say what damage follows it.
    ///
    /// # Errors
    /// When it is missing, or no journal at all.
    pub fn open_damaged(path: &Path) -> Result<(Self, Option<Reason>), JournalError> {
        let file = open_file(path, Mode::Read).map_err(at(path))?;
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
        let scan = scan(&file).map_err(at(path))?;
        let history = History::of(&scan).map_err(at(path))?;
        if scan.torn > 0 && mode == Mode::Write {
            log::info!("{}: {} bytes of a torn entry are cut off", path.display(), scan.torn);
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), scan, history, mode })
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How the file was read.
    pub fn scanned(&self) -> &Scan {
        &self.scan
    }

    /// Where the image was when the journal was made.
    pub fn image_path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsStr::from_bytes(&self.scan.header.path))
    }

    /// How to open the image of this journal.
    pub fn image_options(&self) -> image::Options {
        let Header { geometry, offset, .. } = self.scan.header;
        image::Options {
            block_size: Some(geometry.block_size),
            block_count: None,
            offset,
            read_only: true,
            dialect: Some(Dialect::Littlefs),
            exclusive: false,
        }
    }

    /// Open the image at `path`, or where it was when the journal was made, for reading only, and
    /// see whether the journal belongs to it.
    ///
    /// # Errors
    /// When it cannot be opened, and as [`Journal::check`].
    pub fn open_image(&self, path: Option<&Path>) -> Result<image::Opened, JournalError> {
        self.check_not_begun().map_err(at(&self.path))?;
        let recorded = self.image_path();
        let image = image::open(path.unwrap_or(&recorded), &self.image_options())?;
        self.check(&*image.device, image.offset)?;
        Ok(image)
    }

    /// Whether the journal goes on from the filesystem on `dev`, which starts at byte `offset` of
    /// its image, as it is.
    ///
    /// # Errors
    /// [`Reason::OtherGeometry`], [`Reason::OtherImage`], [`Reason::CommitBegun`].
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
        Reason::OtherImage { path: self.image_path().display().to_string() }
    }

    /// A state over its image, for reading only.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn past(
        &self,
        base: Arc<dyn BlockDevice>,
        at_state: &At,
    ) -> Result<JournalDevice, JournalError> {
        let number = self.history.find(at_state).map_err(at(&self.path))?;
        JournalDevice::past(base, self.file.clone(), &self.history, number).map_err(at(&self.path))
    }

    /// Its last state over its image, to go on from.
    ///
    /// # Errors
    /// When the file cannot be read or written, or was not opened for writing.
    pub fn live(self, base: Arc<dyn BlockDevice>) -> Result<JournalDevice, JournalError> {
        if self.mode == Mode::Read {
            return Err(at(&self.path)(io::Error::from(ErrorKind::PermissionDenied)));
        }
        JournalDevice::live(base, self.file, &self.scan, self.history).map_err(at(&self.path))
    }

    /// Drop everything after a state, by one more entry.
    ///
    /// # Errors
    /// When the state cannot be reached, or the file not be written.
    pub fn revert(self, to: &At) -> Result<u64, JournalError> {
        let path = self.path.clone();
        self.check_not_begun().map_err(at(&path))?;
        let number = self.history.find(to).map_err(at(&path))?;
        self.entries()?.revert(number).map_err(at(&path))?;
        Ok(number)
    }

    /// Name the last state.
    ///
    /// # Errors
    /// When a savepoint cannot have that name, or the file not be written.
    pub fn save(self, name: &str) -> Result<u64, JournalError> {
        let path = self.path.clone();
        self.check_not_begun().map_err(at(&path))?;
        let number = self.history.last();
        self.entries()?.save(name).map_err(at(&path))?;
        Ok(number)
    }

    /// A device to append entries with that change no bytes: nothing is read through it.
    fn entries(self) -> Result<JournalDevice, JournalError> {
        let geometry = self.scan.header.geometry;
        self.live(Arc::new(Nothing(geometry)))
    }
}

/// An image under a journal.
pub struct Attached {
    /// The image, whose device is the two together.
    pub image: image::Opened,
    /// That device.
    pub device: Arc<JournalDevice>,
}

/// Put the journal at `path` over the image at `image_path`; where there is none, one is made. A
/// state other than the last is for reading only, and so is everything with `read_only`.
///
/// # Errors
/// When one of them cannot be opened, or they do not belong together.
pub fn attach(
    path: &Path,
    image_path: &Path,
    options: &image::Options,
    at_state: Option<&At>,
) -> Result<Attached, JournalError> {
    let read_only = options.read_only || at_state.is_some();
    let options = image::Options { read_only: true, ..*options };
    let refused = |reason| OpenError { path: image_path.to_owned(), reason };
    let open_image = || {
        let image = image::open(image_path, &options)?;
        match image.dialect {
            Dialect::Littlefs => Ok(image),
            Dialect::Chamelon => Err(refused(image::Reason::Chamelon)),
        }
    };
    let (mut image, journal) = if read_only {
        let journal = Journal::open(path, Mode::Read)?;
        journal.check_not_begun().map_err(at(path))?;
        (open_image()?, journal)
    } else {
        let image = open_image().map_err(|e| match Journal::open(path, Mode::Read) {
            // an interrupted commit may leave no image that opens
            Ok(journal) => journal.check_not_begun().map_err(at(path)).err().unwrap_or(e.into()),
            Err(_) => e.into(),
        })?;
        if image.missing > 0 {
            let missing = image.missing;
            let geometry = image.device.geometry();
            let reason = image::Reason::Truncated { geometry, missing };
            return Err(refused(reason).into());
        }
        if let Some(doubt) = image.doubt {
            return Err(refused(image::Reason::Doubtful(doubt)).into());
        }
        let journal = Journal::open_or_create(path, &image, image_path)?;
        (image, journal)
    };
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

/// A device of erased blocks.
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

fn new_header(image: &image::Opened, image_path: &Path) -> Result<Header, Reason> {
    let path = std::path::absolute(image_path).unwrap_or_else(|_| image_path.to_owned());
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

/// A number that another journal hardly has.
fn new_id(fingerprint: &[u8]) -> u64 {
    let mut seed = fingerprint.to_vec();
    seed.extend(now().to_le_bytes());
    seed.extend(std::process::id().to_le_bytes());
    fingerprint::hash64(&seed)
}

/// Begin a journal in a file that has no name yet, locked.
fn begin(path: &Path, header: &Header) -> Result<NamedTempFile, Why> {
    let directory = directory(path);
    let mut file = tempfile::Builder::new()
        .prefix(".littlefs-")
        // less what the umask takes away, as for any new file
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)?;
    file.as_file().try_lock().map_err(|e| match e {
        TryLockError::Error(e) => Why::from(e),
        TryLockError::WouldBlock => Why::InUse(None),
    })?;
    file.write_all(&header.to_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Make names in the directory of `path` durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn open_file(path: &Path, mode: Mode) -> Result<File, Why> {
    loop {
        let meta = path.metadata()?;
        if !meta.is_file() {
            return Err(Reason::NotJournal.into());
        }
        let file = OpenOptions::new().read(true).write(mode == Mode::Write).open(path)?;
        if mode == Mode::Read {
            return Ok(file);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(e.into()),
            Err(TryLockError::WouldBlock) => return Err(Why::InUse(holder(path))),
        }
        // A squash may have put another file in its place meanwhile.
        let (locked, named) = (file.metadata()?, path.metadata()?);
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok(file);
        }
    }
}
