//! Our key-value store, on a littlefs image in a file.

use std::path::Path;
use std::sync::Arc;

use littlefs::bd::{FileDevice, Geometry};
use littlefs::kv;

use crate::{Durable, Key, Store, Use, Value};
use testkit::bench::{BLOCK_SIZE, options};

struct Lfs<'a>(&'a kv::Store);

pub fn with(dir: &Path, count: usize, durable: Durable, run: Use<'_>) {
    // twice the space of half-full pairs whose entries have 124 bytes
    let blocks = (count / 4).max(4096) as u32;
    let geometry = Geometry::new(BLOCK_SIZE, blocks).expect("geometry");
    let options = kv::Options {
        inline_max: options().inline_max,
        prog_size: options().prog_size,
        ..kv::Options::default()
    };
    let path = dir.join("image");
    match durable {
        Durable::AtTheEnd => {
            let made = kv::Store::create(&path, geometry, &options, |store| {
                run(&mut Lfs(store));
                Ok(())
            });
            made.expect("create");
        }
        Durable::Each => {
            let mut file = std::fs::File::options();
            file.read(true).write(true).create_new(true);
            let file = file.open(path).expect("image file");
            file.set_len(geometry.size()).expect("set_len");
            let dev = Arc::new(FileDevice::new(file, 0, geometry));
            kv::Store::format(&*dev).expect("format");
            let store = kv::Store::connect(dev, &options).expect("connect");
            run(&mut Lfs(&store));
            store.disconnect().expect("disconnect");
        }
    }
}

fn key(key: &Key) -> kv::Key {
    kv::Key::new(key).expect("a key")
}

impl Store for Lfs<'_> {
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
        let mut count = 0;
        let done = self.0.scan(&root, reverse, |key, value| {
            let key: Key = key.try_into().expect("a key of 16 bytes");
            let value: Value = value.try_into().expect("a value of 100 bytes");
            std::hint::black_box((key, value));
            count += 1;
            Ok(())
        });
        done.expect("scan");
        count
    }
}
