//! What a put costs the device: counts that do not depend on the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::kv;

use crate::{BATCH, key, value};
use testkit::bench::{self, BLOCK_SIZE, options};
use testkit::random::Random;

/// A device in memory that counts calls and written bytes.
struct Counting {
    dev: RamDevice,
    reads: AtomicU64,
    programs: AtomicU64,
    erases: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Counting {
    fn counts(&self) -> [u64; 5] {
        [&self.reads, &self.programs, &self.erases, &self.bytes, &self.syncs]
            .map(|count| count.load(Relaxed))
    }
}

impl BlockDevice for Counting {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.reads.fetch_add(1, Relaxed);
        self.dev.read(block, off, buf)
    }
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.programs.fetch_add(1, Relaxed);
        self.bytes.fetch_add(data.len() as u64, Relaxed);
        self.dev.prog(block, off, data)
    }
    fn erase(&self, block: u32) -> IoResult<()> {
        self.erases.fetch_add(1, Relaxed);
        self.bytes.fetch_add(u64::from(BLOCK_SIZE), Relaxed);
        self.dev.erase(block)
    }
    fn barrier(&self) -> IoResult<()> {
        self.sync()
    }
    fn sync(&self) -> IoResult<()> {
        self.syncs.fetch_add(1, Relaxed);
        self.dev.sync()
    }
}

/// Run `fill` on a new store, and print what each of its `count` puts costs.
fn row(name: &str, count: usize, durable: bool, fill: impl FnOnce(&kv::Store)) {
    let geometry = Geometry::new(BLOCK_SIZE, (count / 4).max(4096) as u32).expect("geometry");
    let new = || AtomicU64::new(0);
    let dev = Arc::new(Counting {
        dev: RamDevice::new(geometry),
        reads: new(),
        programs: new(),
        erases: new(),
        bytes: new(),
        syncs: new(),
    });
    kv::Store::format(&*dev).expect("format");
    let options = kv::Options {
        durable,
        inline_max: options().inline_max,
        prog_size: options().prog_size,
        ..kv::Options::default()
    };
    let store = kv::Store::connect(dev.clone(), &options).expect("connect");
    let before = dev.counts();
    fill(&store);
    store.sync().expect("sync");
    let each = dev.counts().into_iter().zip(before).map(|(now, before)| {
        let each = (now - before) as f64 / count as f64;
        if each < 10.0 { format!("{each:.2}") } else { format!("{each:.0}") }
    });
    bench::row(&[name.to_owned()].into_iter().chain(each).collect::<Vec<_>>());
}

/// Print what each put costs in the loads that fill a store.
pub fn table(count: usize) {
    let shuffled = Random(7).shuffled(count);
    let in_order: Vec<usize> = (0..count).collect();
    let put = |store: &kv::Store, i: usize| {
        store.set(&kv::Key::new(key(i)).expect("a key"), &value(i, 0)).expect("set");
    };
    let put_all = |store: &kv::Store, order: &[usize]| {
        for some in order.chunks(BATCH) {
            let done = store.batch(|b| {
                let mut each = some.iter();
                each.try_for_each(|&i| b.set(&kv::Key::new(key(i))?, &value(i, 0)))
            });
            done.expect("batch");
        }
    };
    let title = format!("{count} entries, calls and bytes for each put");
    bench::head(&title, &["load", "reads", "programs", "erases", "bytes written", "syncs"]);
    for (order, what) in [(&in_order, "in order"), (&shuffled, "at random")] {
        let each = |store: &kv::Store| order.iter().for_each(|&i| put(store, i));
        row(&format!("{what}, each synced"), count, true, each);
        row(&format!("{what}, by batches, each synced"), count, true, |s| put_all(s, order));
        row(&format!("{what}, synced at the end"), count, false, each);
    }
}
