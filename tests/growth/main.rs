//! The cost of an operation does not grow with what the image holds. This is checked by counting
//! device calls and memory, not by time (benches/growth.rs has the times).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::fs::{DirId, FormatOptions, Fs, OpenOptions, ROOT};

/// A device in memory that counts calls.
struct Counted {
    dev: RamDevice,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Counted {
    fn new(block_count: u32) -> Arc<Self> {
        let geometry = Geometry::new(4096, block_count).expect("geometry");
        let dev = RamDevice::new(geometry);
        Fs::format(&dev, &FormatOptions::default()).expect("format");
        Arc::new(Self { dev, reads: AtomicU64::new(0), writes: AtomicU64::new(0) })
    }

    fn open(self: &Arc<Self>) -> Fs {
        Fs::open(self.clone(), &OpenOptions::default()).expect("open")
    }

    /// How many reads and writes `op` makes.
    fn during(&self, op: impl FnOnce()) -> (u64, u64) {
        self.reads.store(0, Ordering::Relaxed);
        self.writes.store(0, Ordering::Relaxed);
        op();
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }
}

impl BlockDevice for Counted {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.dev.read(block, off, buf)
    }
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.dev.prog(block, off, data)
    }
    fn erase(&self, block: u32) -> IoResult<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.dev.erase(block)
    }
    fn barrier(&self) -> IoResult<()> {
        self.dev.barrier()
    }
    fn sync(&self) -> IoResult<()> {
        self.dev.sync()
    }
}

fn name(i: usize) -> Vec<u8> {
    // neighbours in time are not neighbours in the directory
    format!("{:08}", i as u64 * 7_654_321 % 100_000_007).into_bytes()
}

fn fill(fs: &mut Fs, dir: DirId, count: usize) {
    (0..count).for_each(|i| fs.create(dir, &name(i)).expect("create"));
    fs.flush().expect("flush");
}

#[test]
fn opening_reads_each_pair_once() {
    for count in [1_000, 20_000] {
        let dev = Counted::new(8192);
        let mut fs = dev.open();
        for i in 0..count / 500 {
            let dir = fs.mkdir(ROOT, &name(i)).expect("mkdir");
            fill(&mut fs, dir, 500);
        }
        let pairs = u64::from(fs.usage().expect("usage").blocks_used / 2);
        drop(fs);
        let (reads, writes) = dev.during(|| drop(dev.open()));
        assert_eq!((reads, writes), (pairs, 0), "{count} files");
    }
}

#[test]
fn what_is_cached_is_not_read_again() {
    let dev = Counted::new(8192);
    let mut fs = dev.open();
    let dir = fs.mkdir(ROOT, b"dir").expect("mkdir");
    fill(&mut fs, dir, 20_000);
    let (reads, _) = dev.during(|| {
        for i in 0..20_000 {
            fs.lookup(dir, &name(i)).expect("lookup");
        }
        fs.list(dir).expect("list");
        fs.usage().expect("usage");
    });
    assert_eq!(reads, 0);
}

#[test]
fn a_change_writes_as_much_in_a_large_directory() {
    let calls = |count: usize| {
        let dev = Counted::new(16384);
        let mut fs = dev.open();
        let dir = fs.mkdir(ROOT, b"dir").expect("mkdir");
        fill(&mut fs, dir, count);
        let (reads, writes) = dev.during(|| {
            for i in 0..200 {
                fs.create(dir, &name(count + i)).expect("create");
                fs.flush().expect("flush");
                fs.unlink(dir, &name(i)).expect("unlink");
                fs.flush().expect("flush");
            }
        });
        reads + writes
    };
    let (small, large) = (calls(1_000), calls(50_000));
    assert!(large <= 2 * small, "{large} device calls against {small}");
}

#[test]
fn content_made_in_memory_is_let_go() {
    let dev = Counted::new(16384);
    let mut fs = dev.open();
    let count = 300_000;
    let dir = fs.mkdir(ROOT, b"dir").expect("mkdir");
    for i in 0..count {
        fs.create(dir, &name(i)).expect("create");
        if i % 10_000 == 0 {
            fs.flush().expect("flush");
        }
    }
    fs.flush().expect("flush");
    let pairs = u64::from(fs.usage().expect("usage").blocks_used / 2);
    let (reads, _) = dev.during(|| assert_eq!(fs.list(dir).expect("list").len(), count));
    assert!(reads > pairs / 3, "{reads} of {pairs} pairs were read: the others fill memory");
}
