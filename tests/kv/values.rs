//! Values of every size that might be special.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::disk::{ListIndex, ctz};
use littlefs::fs::{Fs, OpenOptions};
use littlefs::kv::{Options, Store};

use super::helpers::{
    Content, assert_sound, bytes, connect, content, fresh, geometry, key, read_by_c,
};

/// Sizes near the limit for inline values and near the size of a block, and near the starts of the
/// first blocks of a list and of blocks around powers of two, where the number of pointers changes.
fn sizes(block_size: u32, inline_max: u32) -> BTreeSet<usize> {
    let mut around = vec![inline_max, block_size];
    for index in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 32, 33] {
        around.push(u32::try_from(ctz::start(block_size, ListIndex(index))).expect("a size"));
    }
    let near = |n: u32| (n.saturating_sub(2)..=n + 2).map(|n| n as usize);
    let few = [0, 1, 2, 3, 4, 5, 7, 8, 9];
    around.into_iter().flat_map(near).chain(few).collect()
}

#[test]
fn every_size_around_the_boundaries() {
    for (block_size, block_count) in
        [(128, 900), (512, 900), (1024, 700), (4096, 600), (16384, 400)]
    {
        let (_, dev) = fresh(block_size, block_count);
        let inline_max = Fs::open(dev.clone(), &OpenOptions::default()).expect("open").inline_max();
        let mut store = connect(&dev);
        let mut expected = Content::new();
        let sizes: Vec<usize> = sizes(block_size, inline_max).into_iter().collect();
        for (i, &size) in sizes.iter().enumerate() {
            let key = key(&format!("sizes/{size}"));
            let before = bytes(i, sizes[(i * 7 + 3) % sizes.len()]);
            let value = bytes(size, size);
            // whatever it was before: inline or in blocks, longer or shorter
            store.set(&key, &before).expect("set");
            store.set(&key, &value).expect("set");
            assert_eq!(store.get(&key).expect("get"), value, "{size} of {block_size}");
            assert_eq!(store.size(&key).expect("size"), size as u64);
            if i % 4 != 0 {
                store.remove(&key).expect("remove");
            } else {
                expected.insert(key, value);
            }
        }
        store.disconnect().expect("disconnect");
        store = connect(&dev);
        assert_eq!(content(&store), expected, "blocks of {block_size}");
        store.disconnect().expect("disconnect");
        assert_eq!(read_by_c(geometry(block_size, block_count), dev.image()), expected);
        assert_sound(dev);
    }
}

/// A device that counts the bytes read from it.
struct Counted {
    dev: RamDevice,
    read: AtomicU64,
}

impl BlockDevice for Counted {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.dev.read(block, off, buf)
    }
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.dev.prog(block, off, data)
    }
    fn erase(&self, block: u32) -> IoResult<()> {
        self.dev.erase(block)
    }
    fn barrier(&self) -> IoResult<()> {
        self.dev.barrier()
    }
    fn sync(&self) -> IoResult<()> {
        self.dev.sync()
    }
}

/// The beginning and the end of a value that fills half of an image, and a part across two blocks.
#[test]
fn partial_reads_read_what_they_need() {
    let dev = RamDevice::new(geometry(512, 16_384));
    Store::format(&dev).expect("format");
    let dev = Arc::new(Counted { dev, read: AtomicU64::new(0) });
    let store = Store::connect(dev.clone(), &Options::default()).expect("connect");
    let file = key("/file");
    let value: Vec<u8> = (0..4 << 20).map(|i| (i % 128) as u8).collect();
    store.set(&file, &value).expect("set");
    store.disconnect().expect("disconnect");
    let store = Store::connect(dev.clone(), &Options::default()).expect("connect");
    let part = |offset: u64, length| {
        dev.read.store(0, Ordering::Relaxed);
        let part = store.get_partial(&file, offset, length).expect("get_partial");
        (part, dev.read.load(Ordering::Relaxed))
    };
    for (offset, length) in
        [(0, 128), (4 << 20, 257), ((4 << 20) - 128, 257), (511, 3), (2_000_000, 128)]
    {
        let (found, read) = part(offset, length);
        let start = offset as usize;
        assert_eq!(found, value[start..(start + length).min(value.len())]);
        assert!(read < 200_000, "{read} bytes for {length} at {offset}");
    }
}
