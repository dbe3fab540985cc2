//! One directory of a littlefs image: a file of its own for every key.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use littlefs::Error;
use littlefs::bd::{FileDevice, Geometry};
use littlefs::fs::{DirId, FormatOptions, Fs, ROOT};

use crate::support::{BLOCK_SIZE, options};
use crate::{Key, Store, Value};

struct Lfs {
    fs: Fs,
    dir: DirId,
    synced: bool,
}

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
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let mut fs = Fs::open(dev, &options()).expect("open");
    let dir = fs.mkdir(ROOT, b"kv").expect("mkdir");
    Box::new(Lfs { fs, dir, synced })
}

impl Store for Lfs {
    fn put(&mut self, key: &Key, value: &Value) {
        let Self { fs, dir, .. } = self;
        let id = match fs.open_file(*dir, key) {
            Err(Error::NotFound) => {
                fs.create(*dir, key).expect("create");
                fs.open_file(*dir, key)
            }
            other => other,
        };
        let id = id.expect("open");
        fs.write(id, 0, value).expect("write");
        fs.close_file(id);
        if self.synced {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.fs.flush().expect("flush");
    }

    fn get(&mut self, key: &Key) -> Value {
        let id = self.fs.open_file(self.dir, key).expect("open");
        let value = self.fs.read(id, 0, size_of::<Value>()).expect("read").run().expect("read");
        self.fs.close_file(id);
        value.try_into().expect("a value of 100 bytes")
    }

    fn scan(&mut self) -> usize {
        let names = self.fs.list(self.dir).expect("list");
        let mut last = Key::default();
        for name in &names {
            let key: Key = (**name).try_into().expect("a key of 16 bytes");
            assert!(last < key, "out of order");
            std::hint::black_box(self.get(&key));
            last = key;
        }
        names.len()
    }
}
