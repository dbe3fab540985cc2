//! Journals in memory, and filesystems over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use std::io;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::fs::{FormatOptions, OpenOptions};
use littlefs::journal::fingerprint;
use littlefs::transactions::format::Header;
use littlefs::transactions::scan::{Scan, scan};
use littlefs::transactions::{History, JournalDevice, JournalFile, Reason};
use parking_lot::Mutex;

use testkit::calls::Call;
use testkit::ours::Ours;
use testkit::tree::{Tree, diff};

/// A file in memory that records what is done to it.
#[derive(Default)]
pub struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    /// Where each write began, and its bytes.
    pub writes: Mutex<Vec<(u64, Vec<u8>)>>,
    pub syncs: AtomicU64,
    /// Writes fail when the file has this size.
    pub full_at: AtomicU64,
}

impl MemoryFile {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        let full_at = AtomicU64::new(u64::MAX);
        Arc::new(Self { bytes: Mutex::new(bytes), full_at, ..Self::default() })
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

impl JournalFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let rest = bytes.get(usize::try_from(at).expect("small")..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn read_now(&self, at: u64, part: &mut [u8]) -> bool {
        self.read(at, part).is_ok_and(|n| n == part.len())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock();
        assert_eq!(at, bytes.len() as u64, "only ever at the end");
        if at + data.len() as u64 > self.full_at.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        bytes.extend(data);
        self.writes.lock().push((at, data.to_vec()));
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().truncate(usize::try_from(len).expect("small"));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// An image that nothing may change.
pub struct Fixture {
    pub base: Arc<RamDevice>,
    image: Vec<u8>,
}

pub fn geometry(block_size: u32, block_count: u32) -> Geometry {
    Geometry::new(block_size, block_count).expect("possible")
}

pub fn options() -> OpenOptions {
    OpenOptions { prog_size: Some(16), ..OpenOptions::default() }
}

impl Fixture {
    /// A formatted image.
    pub fn new(g: Geometry) -> Self {
        Self::over(g, Ours::format(g, &FormatOptions::default()).expect("format"))
    }

    pub fn over(g: Geometry, image: Vec<u8>) -> Self {
        Self { base: Arc::new(RamDevice::from_image(g, image.clone())), image }
    }

    /// An empty journal.
    pub fn journal(&self) -> Arc<MemoryFile> {
        MemoryFile::new(self.header().to_bytes())
    }

    pub fn header(&self) -> Header {
        Header {
            id: 0x1234_5678,
            time: 0,
            geometry: self.base.geometry(),
            offset: 0,
            image_size: self.base.geometry().size(),
            fingerprint: fingerprint(&*self.base).expect("readable"),
            base: 0,
            given: 0,
            path: b"/image".to_vec(),
        }
    }

    /// The last state, for reading and writing.
    pub fn live(&self, file: &Arc<MemoryFile>) -> (Arc<JournalDevice>, Ours) {
        let (scan, history) = read(&**file).expect("sound");
        let dev = JournalDevice::live(self.base.clone(), file.clone(), &scan, history);
        let dev = Arc::new(dev.expect("readable"));
        (dev.clone(), Ours::on(dev, &options()).expect("a filesystem"))
    }

    /// The content of a state.
    pub fn tree_at(&self, file: &Arc<MemoryFile>, number: u64) -> Tree {
        let (_, history) = read(&**file).expect("sound");
        let dev = JournalDevice::past(self.base.clone(), file.clone(), &history, number);
        let dev: Arc<dyn BlockDevice> = Arc::new(dev.expect("can be reached"));
        let report = littlefs::check::check(dev.clone()).expect("can be examined");
        assert!(report.is_clean(), "state {number}: {:?}", report.findings);
        let options = OpenOptions { read_only: true, ..options() };
        Ours::on(dev, &options).expect("a filesystem").tree().expect("readable")
    }

    /// Check that the image is unchanged.
    pub fn assert_unchanged(&self) {
        assert!(self.base.image() == self.image, "the image was changed");
    }
}

pub fn read(file: &dyn JournalFile) -> Result<(Scan, History), Reason> {
    let scan = scan(file)?;
    let history = History::of(&scan)?;
    Ok((scan, history))
}

pub fn last(file: &Arc<MemoryFile>) -> u64 {
    read(&**file).expect("sound").1.last()
}

pub fn write(path: &str, off: u32, len: u32, seed: u8) -> Call {
    Call::Write { path: path.into(), off, len, seed }
}

pub fn create(path: &str) -> Call {
    Call::Create(path.into())
}

pub fn assert_same(what: &str, expected: &Tree, found: &Tree) {
    if let Err(difference) = diff("expected", expected, "found", found) {
        panic!("{what}:\n{difference}");
    }
}
