//! A store is not limited by the size of the image or of a dictionary, and not by blocks that wear
//! out or fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use littlefs::bd::emu::{BadBlock, EmuDevice};
use littlefs::bd::{BlockDevice, FileDevice, Geometry, IoResult, RamDevice};
use littlefs::kv::{Key, Kind, Options, Store};
use parking_lot::Mutex;

use super::helpers::{assert_sound, bytes, content, geometry, key};
use super::model::{Model, Op, apply};

/// A device that counts calls, and erases of each block, and remembers the last block that was
/// written.
struct Watched<D> {
    dev: D,
    calls: AtomicU64,
    last: AtomicU32,
    erases: Mutex<std::collections::HashMap<u32, u32>>,
}

impl<D: BlockDevice> Watched<D> {
    fn new(dev: D) -> Arc<Self> {
        Store::format(&dev).expect("format");
        Arc::new(Self {
            dev,
            calls: AtomicU64::new(0),
            last: AtomicU32::new(0),
            erases: Mutex::default(),
        })
    }

    fn connect(self: &Arc<Self>, options: &Options) -> Store
    where
        D: 'static,
    {
        Store::connect(self.clone(), options).expect("connect")
    }

    /// How many device calls `op` makes.
    fn during(&self, op: impl FnOnce()) -> u64 {
        let before = self.calls.load(Ordering::Relaxed);
        op();
        self.calls.load(Ordering::Relaxed) - before
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl<D: BlockDevice> BlockDevice for Watched<D> {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.count();
        self.dev.read(block, off, buf)
    }
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.count();
        self.last.fetch_max(block, Ordering::Relaxed);
        self.dev.prog(block, off, data)
    }
    fn erase(&self, block: u32) -> IoResult<()> {
        self.count();
        *self.erases.lock().entry(block).or_default() += 1;
        self.dev.erase(block)
    }
    fn barrier(&self) -> IoResult<()> {
        self.count();
        self.dev.barrier()
    }
    fn sync(&self) -> IoResult<()> {
        self.count();
        self.dev.sync()
    }
}

/// 256 GiB, as a file with holes.
#[test]
fn images_are_larger_than_64_gib() {
    const BLOCK_SIZE: u32 = 4096;
    let geometry = geometry(BLOCK_SIZE, 1 << 26);
    let file = tempfile::tempfile().expect("a file");
    file.set_len(geometry.size()).expect("room for holes");
    let dev = Watched::new(FileDevice::new(file, 0, geometry));
    let store = dev.connect(&Options::default());
    let value = bytes(1, 3_000_000);
    for i in 0..6 {
        store.set(&key(&format!("d{i}/large")), &value).expect("set");
        store.set(&key(&format!("d{i}/small")), b"small").expect("set");
    }
    store.disconnect().expect("disconnect");
    let at = u64::from(dev.last.load(Ordering::Relaxed)) * u64::from(BLOCK_SIZE);
    assert!(at > 64 << 30, "nothing is written behind {at}");
    let store = dev.connect(&Options::default());
    for i in 0..6 {
        assert!(store.get(&key(&format!("d{i}/large"))).expect("get") == value);
        assert_eq!(store.get(&key(&format!("d{i}/small"))).expect("get"), b"small");
    }
}

/// Keys that are set one after the other are not next to each other in the dictionary.
fn scattered(i: usize) -> Key {
    key(&format!("d/{:08}", i as u64 * 7_654_321 % 100_000_007))
}

#[test]
fn operations_cost_the_same_in_a_large_dictionary() {
    const OPS: usize = 100;
    let costs = |count: usize| {
        let dev = Watched::new(RamDevice::new(geometry(4096, 16_384)));
        let store = dev.connect(&Options { durable: false, ..Options::default() });
        for i in 0..count {
            store.set(&scattered(i), &i.to_le_bytes()).expect("set");
        }
        store.disconnect().expect("disconnect");
        let store = dev.connect(&Options::default());
        let all = |op: &dyn Fn(usize)| dev.during(|| (0..OPS).for_each(op));
        let costs = [
            (
                "get",
                all(&|i| {
                    assert_eq!(store.get(&scattered(i)).expect("get"), i.to_le_bytes());
                }),
            ),
            (
                "exists",
                all(&|i| {
                    assert_eq!(store.exists(&scattered(i)).expect("exists"), Some(Kind::Value));
                }),
            ),
            ("overwrite", all(&|i| store.set(&scattered(i), b"again").expect("set"))),
            ("set", all(&|i| store.set(&scattered(count + i), b"new").expect("set"))),
            (
                "rename",
                all(&|i| {
                    store.rename(&scattered(count + i), &scattered(2 * count + i)).expect("rename");
                }),
            ),
            ("remove", all(&|i| store.remove(&scattered(i)).expect("remove"))),
            (
                "batch",
                all(&|i| {
                    store
                        .batch(|b| {
                            b.set(&scattered(3 * count + i), b"new")?;
                            b.remove(&scattered(OPS + i))
                        })
                        .expect("batch");
                }),
            ),
        ];
        // one step of an iterator reads one pair
        let step = dev.during(|| {
            assert!(store.values(&key("d")).expect("iterator").next().is_some());
        });
        assert_eq!(store.list(&key("d")).expect("list").len(), count);
        (costs, step)
    };
    let (small, large) = (costs(1_000), costs(100_000));
    for ((op, small), (_, large)) in small.0.into_iter().zip(large.0) {
        println!("{op}: {small} device calls, {large} in the large one");
        // one pair more to be read for each operation, at most
        assert!(large <= 2 * small + 2 * OPS as u64, "{op}: {large} against {small}");
    }
    assert!(large.1 <= 1, "{} device calls for one step", large.1);
}

/// Blocks that fail in every possible way.
#[test]
fn bad_blocks_are_passed_by() {
    let geometry = geometry(512, 200);
    let modes =
        [BadBlock::ProgError, BadBlock::EraseError, BadBlock::ProgNoop, BadBlock::EraseNoop];
    for mode in modes {
        for offset in 0..3 {
            let dev = Arc::new(EmuDevice::unrecorded(geometry, Vec::new(), true));
            Store::format(&*dev).expect("format");
            for block in (5 + offset..200).step_by(3) {
                dev.set_bad(block, mode);
            }
            let store = Store::connect(dev.clone(), &Options::default()).expect("connect");
            let mut model = Model::default();
            for i in 0..60_usize {
                let path = |i: usize| key(&format!("d{}/{}", i % 3, i % 17));
                let op = match i % 6 {
                    0 => Op::Remove(path(i + 3)),
                    1 => Op::Rename(path(i - 1), path(i + 40)),
                    2 => {
                        Op::Batch(vec![Op::Set(path(i), i, 30), Op::Set(path(i + 1), i, 900)], true)
                    }
                    _ => Op::Set(path(i), i, i * 13 % 700),
                };
                let mut next = model.clone();
                if next.apply(&op).is_ok() {
                    apply(&store, &op).unwrap_or_else(|e| panic!("{mode:?}, {op:?}: {e}"));
                    model = next;
                }
            }
            assert_eq!(content(&store), model.0, "{mode:?}");
            store.disconnect().expect("disconnect");
            let image = dev.image();
            let dev = Arc::new(RamDevice::from_image(geometry, image));
            assert_eq!(content(&super::helpers::connect(&dev)), model.0, "{mode:?}");
            assert_sound(dev);
        }
    }
}

#[test]
fn a_value_set_again_and_again_wears_all_blocks() {
    let worn = |block_cycles| {
        let dev = Watched::new(RamDevice::new(geometry(512, 64)));
        let store = dev.connect(&Options { block_cycles, ..Options::default() });
        for i in 0..5000_u32 {
            store.set(&key("hot/value"), &i.to_le_bytes()).expect("set");
        }
        let erases = dev.erases.lock();
        (erases.values().copied().max().unwrap_or(0), erases.values().sum::<u32>())
    };
    let (most, all) = worn(None);
    assert!(most > all / 3, "two blocks take it all: {most} of {all}");
    let (most, all) = worn(Some(10));
    assert!(most < all / 16, "{most} of {all} erases in one block of 64");
}
