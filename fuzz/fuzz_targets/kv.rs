//! Operations on a key-value store in any image. Values that were set must be read, even after
//! connecting again, and no new kind of error may appear.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::kv::{Key, Kind, Options, Result, Store};
use littlefs_fuzz::errors;

const KEYS: [&str; 8] = ["a", "b", "d/x", "d/y", "d/e/z", "d", "file1", "d0/file0"];

/// The values that were set and have not been changed since.
type Known = BTreeMap<Key, Vec<u8>>;

fn key(byte: u8) -> Key {
    Key::new(KEYS[usize::from(byte) % KEYS.len()]).expect("a key")
}

/// Forget the values at `key` and inside it, because they may have changed.
fn forget(known: &mut Known, key: &Key) {
    known.retain(|k, _| !k.starts_with(key));
}

fn step(store: &Store, op: u8, of: u8, size: u8, known: &mut Known) -> Result<()> {
    let at = key(of);
    let value = vec![size; usize::from(size) * 9];
    match op % 6 {
        0 => {
            store.set(&at, &value)?;
            known.insert(at, value);
        }
        1 => {
            store.remove(&at)?;
            forget(known, &at);
        }
        2 => {
            let to = key(size);
            forget(known, &at);
            forget(known, &to);
            store.rename(&at, &to)?;
        }
        3 => {
            let other = key(size);
            store.batch(|b| {
                b.set(&at, &value)?;
                b.set(&other, b"other")
            })?;
            known.insert(at, value);
            known.insert(other, b"other".to_vec());
        }
        4 => {
            store.set_partial(&at, u64::from(size), &value)?;
            forget(known, &at);
        }
        _ => {
            let all = store.list(&Key::root())?;
            for (key, kind) in all.into_iter().filter(|(_, kind)| *kind == Kind::Value) {
                let _ = (store.get(&key)?, store.last_modified(&key)?, kind);
            }
            for entry in store.values(&Key::root())? {
                let _ = entry?;
            }
        }
    }
    Ok(())
}

fn holds(store: &Store, known: &Known) {
    for (key, value) in known {
        let found = store.get(key);
        assert!(found.as_ref().is_ok_and(|found| found == value), "{key}: {found:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    // the number of operations, then the operations (three bytes each), then an image or nothing
    let Some((&count, rest)) = data.split_first() else { return };
    let (script, image) = rest.split_at((usize::from(count) * 3).min(rest.len()));
    let dev = littlefs_fuzz::device(image).unwrap_or_else(|| {
        let dev = RamDevice::new(Geometry::new(512, 64).expect("possible"));
        Store::format(&dev).expect("format");
        dev.into()
    });
    let Ok(before) = check(dev.clone()) else { return };
    let image = dev.image();
    let read_only = Options { read_only: true, ..Options::default() };
    if let Ok(store) = Store::connect(dev.clone(), &read_only) {
        let _ = store.list(&Key::root());
        assert!(store.set(&key(0), b"x").is_err());
    }
    assert!(dev.image() == image, "reading changed the image");

    let mut known = Known::new();
    let Ok(store) = Store::connect(dev.clone(), &Options::default()) else { return };
    for op in script.chunks_exact(3) {
        let _ = step(&store, op[0], op[1], op[2], &mut known);
    }
    holds(&store, &known);
    let closed = store.disconnect();
    let after = check(dev.clone()).expect("examined as before");
    assert!(errors(&after).is_subset(&errors(&before)), "{closed:?}: {:#?}", after.findings);
    if closed.is_ok() {
        holds(&Store::connect(dev, &read_only).expect("connects again"), &known);
    }
});
