//! The times of the last changes of values.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use littlefs::bd::RamDevice;
use littlefs::convention::CONVENTIONS;
use littlefs::convention::Choice;
use littlefs::fs::{At, Fs, OpenOptions, ROOT};
use littlefs::kv::{Key, Options, Store};

use super::helpers::{connect, connect_with, content, fails, fresh, key, read_by_c};

fn options(times: &str) -> Options {
    let changed = UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    Options { times: Choice::parse(times).expect(times), changed, ..Options::default() }
}

/// The attributes of a value, as types and data.
fn attrs(dev: &Arc<RamDevice>, name: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
    let at = At::Entry(ROOT, name);
    let types = fs.list_attrs(at).expect("attributes");
    types.into_iter().map(|ty| (ty, fs.get_attr(at, ty).expect("an attribute"))).collect()
}

#[test]
fn a_value_tells_when_it_was_set() {
    let (store, dev) = fresh(512, 80);
    store.disconnect().expect("disconnect");
    let path = key("get set to get wet");
    let store = connect_with(&dev, &options("chamelon"));
    let before = SystemTime::now();
    store.set(&path, b"hell yeah let's do this!!!").expect("set");
    let first = store.last_modified(&path).expect("time");
    let between = SystemTime::now();
    assert!(before <= first && first <= between);
    store.set(&path, b"do it again!!").expect("set");
    let second = store.last_modified(&path).expect("time");
    assert!(between <= second && second <= SystemTime::now());
    store.disconnect().expect("disconnect");
    // 4 bytes of days since 1970, 8 of picoseconds of the day
    let found = attrs(&dev, b"get set to get wet");
    assert_eq!((found.len(), found[0].0, found[0].1.len()), (1, b't', 12));
    let days = u32::from_le_bytes(found[0].1[..4].try_into().expect("4 bytes"));
    let picos = u64::from_le_bytes(found[0].1[4..].try_into().expect("8 bytes"));
    let told = Duration::from_secs(u64::from(days) * 86_400) + Duration::from_nanos(picos / 1000);
    assert_eq!(UNIX_EPOCH + told, second);
    // an image that has them goes on having them, and C reads it
    let store = connect(&dev);
    assert_eq!(store.last_modified(&path).expect("time"), second);
    store.set(&path, b"x").expect("set");
    assert!(store.last_modified(&path).expect("time") > second);
    store.set_partial(&path, 1, &[7; 2000]).expect("set_partial");
    let third = store.last_modified(&path).expect("time");
    store.set_partial(&path, 5, b"blocks, too").expect("set_partial");
    assert!(store.last_modified(&path).expect("time") > third);
    let expected = content(&store);
    store.disconnect().expect("disconnect");
    assert_eq!(attrs(&dev, b"get set to get wet")[0].1.len(), 12);
    assert_eq!(read_by_c(super::helpers::geometry(512, 80), dev.image()), expected);
}

#[test]
fn a_dictionary_is_as_new_as_the_values_in_it() {
    let (store, dev) = fresh(512, 80);
    store.disconnect().expect("disconnect");
    let store = connect_with(&dev, &options("chamelon"));
    let time = |path: &str| store.last_modified(&key(path)).expect("time");
    store.set(&key("/cheeses/edam"), b"delicious").expect("set");
    store.set(&key("/cheeses/cheddar"), b"delicious").expect("set");
    assert_eq!(time("/cheeses/cheddar"), time("/cheeses"));
    // one level deep, not more
    store.set(&key("/cheeses/soft/brie"), b"delicious").expect("set");
    assert_eq!(time("/cheeses/cheddar"), time("/cheeses"));
    assert!(time("/cheeses/soft") > time("/cheeses"));
}

#[test]
fn asking_for_the_time_of_nothing_fails() {
    let (store, _) = fresh(512, 80);
    fails(
        store.last_modified(&key("/financial information")),
        "NotFound",
        "/financial information",
    );
    store.set(&key("/d0/d1"), b"I'm a file").expect("set");
    fails(store.last_modified(&key("/d0/d1/f1")), "DictionaryExpected", "/d0/d1");
}

#[test]
fn without_attributes_it_is_the_image_that_tells() {
    for times in ["auto", "none"] {
        let (_, dev) = fresh(512, 80);
        let store = connect_with(&dev, &options(times));
        let time = |path: &str| store.last_modified(&key(path)).expect("time");
        assert_eq!(time("/"), options(times).changed);
        let before = SystemTime::now();
        store.set(&key("a"), b"").expect("set");
        assert!(time("a") >= before && time("/") >= before);
        store.disconnect().expect("disconnect");
        assert_eq!(attrs(&dev, b"a"), []);
        let store = connect_with(&dev, &options(times));
        assert_eq!(store.last_modified(&key("a")).expect("time"), options(times).changed);
    }
}

#[test]
fn every_convention_is_kept() {
    for convention in CONVENTIONS {
        let (_, dev) = fresh(512, 200);
        let store = connect_with(&dev, &options(convention.name));
        let then = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
        store.allocate(&key("a"), 5, Some(then)).expect("allocate");
        store.set(&key("d/b"), b"").expect("set");
        let found = store.last_modified(&key("a")).expect("time");
        store.disconnect().expect("disconnect");
        let given = attrs(&dev, b"a");
        assert!(!given.is_empty(), "{}", convention.name);
        if convention.name == "nanoframework" {
            // it has no times
            continue;
        }
        assert_eq!(found, then, "{}", convention.name);
        // the image tells by itself how it does it; set again, what it has is as wide as before
        let store = connect(&dev);
        assert_eq!(store.last_modified(&key("a")).expect("time"), then, "{}", convention.name);
        store.set(&key("a"), b"again").expect("set");
        assert!(store.last_modified(&key("a")).expect("time") > then, "{}", convention.name);
        store.disconnect().expect("disconnect");
        let again = attrs(&dev, b"a");
        let shape = |attrs: &[(u8, Vec<u8>)]| -> Vec<(u8, usize)> {
            attrs.iter().map(|(ty, data)| (*ty, data.len())).collect()
        };
        assert_eq!(shape(&given), shape(&again), "{}", convention.name);
    }
}

#[test]
fn other_attributes_stay() {
    let (store, dev) = fresh(512, 80);
    store.set(&key("a"), b"1").expect("set");
    store.disconnect().expect("disconnect");
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
    fs.set_attr(At::Entry(ROOT, b"a"), 0x77, b"kept").expect("set_attr");
    fs.flush().expect("flush");
    drop(fs);
    let store: Store = connect_with(&dev, &options("unix"));
    store.set(&key("a"), &[2; 1000]).expect("set");
    store.batch(|b| b.set(&key("a"), b"3")).expect("batch");
    store.rename(&key("a"), &key("b")).expect("rename");
    store.disconnect().expect("disconnect");
    let found = attrs(&dev, b"b");
    assert!(found.contains(&(0x77, b"kept".to_vec())), "{found:?}");
    assert!(found.iter().any(|(ty, data)| *ty == b'T' && data.len() == 24), "{found:?}");
    assert_eq!(connect(&dev).list(&Key::root()).expect("list").len(), 1);
}

#[test]
fn names_of_conventions_are_checked() {
    let e = Choice::parse("sundial").expect_err("no convention");
    assert!(e.contains("sundial") && e.contains("chamelon") && e.contains("none"), "{e}");
}
