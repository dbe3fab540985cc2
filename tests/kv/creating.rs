//! Making a store in a new image.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::kv::{Error, Options, Store};

use super::helpers::{
    Content, assert_sound, bytes, connect, content, geometry, key, name, read_by_c,
};

const GEOMETRY: (u32, u32) = (512, 400);

fn shape() -> Geometry {
    geometry(GEOMETRY.0, GEOMETRY.1)
}

/// Make an image with `fill`, and check that exactly this is in it.
fn create(path: &Path, fill: impl FnOnce(&Store) -> Content) {
    let expected =
        Store::create(path, shape(), &Options::default(), |store| Ok(fill(store))).expect("create");
    let dev = Arc::new(RamDevice::from_image(shape(), fs::read(path).expect("the image")));
    assert_sound(dev.clone());
    assert_eq!(content(&connect(&dev)), expected);
    assert_eq!(read_by_c(shape(), dev.image()), expected);
}

/// Fill a store with single values and batches. Returns what must be in it.
fn fill(store: &Store) -> Content {
    let mut expected = Content::new();
    for i in 0..60 {
        expected.insert(key(&format!("one/{i:02}")), bytes(i, i * 9));
        store.set(&key(&format!("one/{i:02}")), &bytes(i, i * 9)).expect("set");
    }
    for round in 0..10 {
        let entries = (0..50).map(|i| (key(&format!("d{}/{i:02}", i % 7)), bytes(round + i, 40)));
        let entries: Content = entries.collect();
        store
            .batch(|b| entries.iter().try_for_each(|(key, value)| b.set(key, value)))
            .expect("batch");
        expected.extend(entries);
    }
    store.remove(&key("one/07")).expect("remove");
    expected.remove(&key("one/07"));
    expected
}

#[test]
fn the_image_has_its_name_when_it_is_complete() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("new.img");
    create(&path, |store| {
        let expected = fill(store);
        assert!(!path.exists(), "the image has a name too early");
        store.sync().expect("sync");
        assert_eq!(content(store), expected);
        expected
    });
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "something was left behind");
}

#[test]
fn a_failure_leaves_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("new.img");
    let failed = Store::create(&path, shape(), &Options::default(), |store| {
        fill(store);
        store.get(&key("missing"))
    });
    assert!(matches!(failed, Err(Error::NotFound(_))), "{failed:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);

    fs::write(&path, "something else").expect("write");
    let refused = Store::create(&path, shape(), &Options::default(), |_| Ok(()));
    let refused = refused.expect_err("the file exists").to_string();
    assert!(refused.contains("new.img") && refused.contains("exists"), "{refused}");
    for impossible in ["missing/new.img", "new/"] {
        let path = dir.path().join(impossible);
        let refused = Store::create(&path, shape(), &Options::default(), |_| Ok(()));
        let refused = refused.expect_err("this cannot be made").to_string();
        assert!(refused.contains(impossible), "{refused}");
    }
    assert_eq!(fs::read(&path).expect("read"), b"something else");
}

/// A batch for which there is no space is undone, and what was there before stays.
#[test]
fn a_batch_without_space_is_undone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("new.img");
    create(&path, |store| {
        let expected = fill(store);
        let too_much = store.batch(|b| {
            b.remove(&key("one"))?;
            (0..50).try_for_each(|i| b.set(&key(&format!("more/{i}")), &bytes(i, 5000)))
        });
        assert_eq!(too_much.map_err(|e| name(&e)), Err("NoSpace"));
        assert_eq!(content(store), expected);
        expected
    });
}
