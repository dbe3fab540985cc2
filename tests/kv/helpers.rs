//! Helpers that the tests of the store share.

use std::collections::BTreeMap;
use std::sync::Arc;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Severity, check};
use littlefs::kv::{Error, Key, Kind, Options, Store};

use testkit::clfs::{CLfs, Config};
use testkit::tree::Kind as TreeKind;

/// All values by their keys.
pub type Content = BTreeMap<Key, Vec<u8>>;

pub fn key(path: &str) -> Key {
    Key::new(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub fn geometry(block_size: u32, block_count: u32) -> Geometry {
    Geometry::new(block_size, block_count).expect("a geometry")
}

/// A new store in memory, and its device.
pub fn fresh(block_size: u32, block_count: u32) -> (Store, Arc<RamDevice>) {
    let dev = Arc::new(RamDevice::new(geometry(block_size, block_count)));
    Store::format(&*dev).expect("format");
    (connect(&dev), dev)
}

pub fn connect(dev: &Arc<RamDevice>) -> Store {
    connect_with(dev, &Options::default())
}

pub fn connect_with(dev: &Arc<RamDevice>, options: &Options) -> Store {
    Store::connect(dev.clone(), options).expect("connect")
}

/// Bytes that depend on `seed` and on the position.
pub fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (seed * 31 + i * 7 + i / 251) as u8).collect()
}

/// Every value of a store.
pub fn content(store: &Store) -> Content {
    let mut content = Content::new();
    // the walk that reads pair by pair must find the same
    let mut scanned = Content::new();
    let mut todo = vec![Key::root()];
    while let Some(dictionary) = todo.pop() {
        let add = |name: &[u8], value: &[u8]| {
            scanned.insert(dictionary.join(name)?, value.to_vec());
            Ok(())
        };
        store.scan(&dictionary, false, add).expect("scan");
        for (key, kind) in store.list(&dictionary).expect("list") {
            match kind {
                Kind::Dictionary => todo.push(key),
                Kind::Value => {
                    let value = store.get(&key).expect("get");
                    content.insert(key, value);
                }
            }
        }
    }
    assert!(scanned == content, "{scanned:?}, not {content:?}");
    content
}

/// Fails unless `check` finds no errors in an image.
pub fn assert_sound(dev: Arc<dyn BlockDevice>) {
    let report = check(dev).expect("check");
    let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// What C littlefs reads from an image: all files by their paths.
pub fn read_by_c(geometry: Geometry, image: Vec<u8>) -> Content {
    let mut config = Config::new(geometry.block_size, geometry.block_count, 16);
    config.strict_erase = false;
    let mut c = CLfs::mount(image, &config).expect("C mounts");
    // what is behind an entry that moves it does not see before
    c.mkconsistent().expect("C finishes a move");
    let tree = c.tree(&[]).expect("C reads");
    let values = tree.into_iter().filter_map(|(path, entry)| match entry.kind {
        TreeKind::File(bytes) => Some((Key::new(path).expect("a key"), bytes)),
        TreeKind::Dir => None,
    });
    values.collect()
}

/// The name of an error, for comparing errors.
pub fn name(e: &Error) -> &'static str {
    match e {
        Error::NotFound(_) => "NotFound",
        Error::DictionaryExpected(_) => "DictionaryExpected",
        Error::ValueExpected(_) => "ValueExpected",
        Error::AlreadyPresent(_) => "AlreadyPresent",
        Error::RenameSourcePrefix(..) => "RenameSourcePrefix",
        Error::NoSpace => "NoSpace",
        Error::TooManyRetries => "TooManyRetries",
        Error::InvalidKey(..) => "InvalidKey",
        Error::Core(_) => "Core",
        _ => panic!("an error without a name here: {e}"),
    }
}

/// Fails unless `result` is an error with this name and this key.
#[track_caller]
pub fn fails<T: std::fmt::Debug>(result: Result<T, Error>, expected: &str, about: &str) {
    let e = result.expect_err(expected);
    assert_eq!(name(&e), expected, "{e}");
    let found = match &e {
        Error::NotFound(key)
        | Error::DictionaryExpected(key)
        | Error::ValueExpected(key)
        | Error::AlreadyPresent(key)
        | Error::RenameSourcePrefix(key, _)
        | Error::InvalidKey(key, _) => Some(key),
        _ => None,
    };
    assert_eq!(found.map(ToString::to_string).as_deref(), Some(about), "{e}");
}
