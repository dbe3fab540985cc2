//! The key-value store of a littlefs image in a file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use littlefs::bd::{FileDevice, Geometry};
use littlefs::kv;

use crate::support::{BLOCK_SIZE, options};
use crate::{Key, Store, Value};

struct Lfs(kv::Store);

pub fn make(dir: &Path, count: usize, synced: bool) -> Box<dyn Store> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("image"))
        .expect("image file");
    // twice what half-full pairs of 124 bytes an entry take
    let blocks = (count / 4).max(4096) as u32;
    let geometry = Geometry::new(BLOCK_SIZE, blocks).expect("geometry");
    file.set_len(geometry.size()).expect("set_len");
    let dev = Arc::new(FileDevice::new(file, 0, geometry));
    kv::Store::format(&*dev).expect("format");
    let options = kv::Options {
        durable: synced,
        inline_max: options().inline_max,
        prog_size: options().prog_size,
        ..kv::Options::default()
    };
    Box::new(Lfs(kv::Store::connect(dev, &options).expect("connect")))
}

fn key(key: &Key) -> kv::Key {
    kv::Key::new(key).expect("a key")
}

impl Store for Lfs {
    fn put(&mut self, k: &Key, value: &Value) {
        self.0.set(&key(k), value).expect("set");
    }

    fn put_all(&mut self, entries: &[(Key, Value)]) {
        let done = self.0.batch(|b| entries.iter().try_for_each(|(k, v)| b.set(&key(k), v)));
        done.expect("batch");
    }

    fn sync(&mut self) {
        self.0.sync().expect("sync");
    }

    fn get(&mut self, k: &Key) -> Value {
        self.0.get(&key(k)).expect("get").try_into().expect("a value of 100 bytes")
    }

    fn scan(&mut self, reverse: bool) -> usize {
        let root = kv::Key::root();
        let values = if reverse { self.0.values_reversed(&root) } else { self.0.values(&root) };
        values.expect("iterator").map(|e| std::hint::black_box(e.expect("entry").1[0])).count()
    }
}
