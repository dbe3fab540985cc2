//! Batches are made completely or not at all. They see their own changes, and others do not see
//! these.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::bd::emu::{EmuDevice, Event};
use littlefs::fs::{Fs, OpenOptions, ROOT};
use littlefs::kv::{Error, Key, Kind, Options, Store};

use super::helpers::{bytes, connect, content, fails, fresh, geometry, key};

#[test]
fn a_batch_sees_its_own_changes_and_others_do_not() {
    let (store, _) = fresh(512, 200);
    store.set(&key("d/old"), b"old").expect("set");
    store.set(&key("d/e/f"), b"f").expect("set");
    store
        .batch(|b| {
            b.set(&key("d/new"), b"new")?;
            b.set_partial(&key("d/old"), 3, b"er")?;
            assert_eq!(b.get(&key("d/new"))?, b"new");
            assert_eq!(b.get(&key("d/old"))?, b"older");
            assert_eq!(store.get(&key("d/old"))?, b"old");
            b.rename(&key("d"), &key("g"))?;
            assert_eq!(b.exists(&key("d"))?, None);
            assert_eq!(b.exists(&key("g/e"))?, Some(Kind::Dictionary));
            assert_eq!(b.get(&key("g/e/f"))?, b"f");
            b.remove(&key("g/e/f"))?;
            assert_eq!(b.exists(&key("g/e"))?, None, "empty");
            b.allocate(&key("d"), 5, None)?;
            assert_eq!(b.get(&key("d"))?, [0; 5]);
            assert!(matches!(b.set(&key("d/x"), b""), Err(Error::DictionaryExpected(_))));
            assert!(matches!(b.set(&key("g"), b""), Err(Error::ValueExpected(_))));
            let listed = b.list(&key("g"))?;
            assert_eq!(listed, [(key("g/new"), Kind::Value), (key("g/old"), Kind::Value)]);
            assert_eq!(b.list(&Key::root())?.len(), 2);
            assert_eq!(store.list(&Key::root())?.len(), 1);
            Ok(())
        })
        .expect("batch");
    let expected = [("d", &[0; 5][..]), ("g/new", b"new"), ("g/old", b"older")];
    let expected = expected.map(|(path, value)| (key(path), value.to_vec()));
    assert_eq!(content(&store), expected.into());
}

#[test]
fn a_batch_that_fails_changes_nothing() {
    let (store, dev) = fresh(512, 200);
    store.set(&key("a"), b"1").expect("set");
    let before = dev.image();
    let failed = store.batch(|b| {
        b.set(&key("a"), b"2")?;
        b.set(&key("b"), &bytes(1, 3000))?;
        b.get(&key("nothing"))
    });
    fails(failed, "NotFound", "/nothing");
    assert_eq!(store.get(&key("a")).expect("get"), b"1");
    assert!(dev.image() == before, "nothing was written");
    assert_eq!(store.batch(|_| Ok(7)).expect("an empty one"), 7);
    assert!(dev.image() == before);
}

#[test]
fn a_batch_runs_again_when_others_come_between() {
    let (store, _) = fresh(512, 200);
    store.set(&key("count"), b"0").expect("set");
    let mut runs = 0;
    store
        .batch(|b| {
            runs += 1;
            let count = b.get(&key("count"))?;
            if runs < 4 {
                store.set(&key("count"), &[count[0] + 1])?;
            }
            b.set(&key("seen"), &count)
        })
        .expect("batch");
    assert_eq!((runs, store.get(&key("seen")).expect("get")), (4, b"3".to_vec()));
    let mut runs = 0;
    let result = store.batch(|b| {
        runs += 1;
        b.list(&Key::root())?;
        store.set(&key("other"), b"")?;
        b.set(&key("never"), b"")
    });
    assert!(matches!(result, Err(Error::TooManyRetries)), "{result:?}");
    assert_eq!((runs, store.exists(&key("never")).expect("exists")), (13, None));
    // what only sets and removes need not know what was there
    let mut runs = 0;
    store
        .batch(|b| {
            runs += 1;
            b.set(&key("blind"), b"")?;
            store.set(&key("other"), b"1")?;
            b.remove(&key("other"))
        })
        .expect("batch");
    assert_eq!((runs, store.exists(&key("other")).expect("exists")), (1, None));
    // unless it is a dictionary by now
    let mut runs = 0;
    let result = store.batch(|b| {
        runs += 1;
        b.set(&key("becomes"), b"")?;
        store.set(&key("becomes/a dictionary"), b"")
    });
    fails(result, "ValueExpected", "/becomes");
    assert_eq!(runs, 2);
}

/// A store on a device that records its writes.
fn recorded(block_size: u32, block_count: u32) -> (Store, Arc<EmuDevice>) {
    let dev = Arc::new(EmuDevice::new(geometry(block_size, block_count), Vec::new()));
    Store::format(&*dev).expect("format");
    let store = Store::connect(dev.clone(), &Options::default()).expect("connect");
    (store, dev)
}

/// Small changes that are close together need only one commit, as a set does, and no redo value.
#[test]
fn a_batch_of_one_commit_needs_no_redo_value() {
    let (store, dev) = recorded(4096, 64);
    for name in ["a", "b", "c"] {
        store.set(&key(&format!("config/{name}")), b"old").expect("set");
    }
    let barriers = |op: &dyn Fn()| {
        dev.take_log();
        op();
        dev.take_log().iter().filter(|e| **e == Event::Barrier).count()
    };
    let one = barriers(&|| store.set(&key("config/a"), b"1").expect("set"));
    let batch = |names: [&str; 3]| {
        store.batch(|b| {
            b.set(&key(names[0]), b"2")?;
            b.set(&key(names[1]), b"2")?;
            b.remove(&key(names[2]))
        })
    };
    let some = barriers(&|| batch(["config/a", "config/new", "config/b"]).expect("batch"));
    assert_eq!((one, some), (1, 1));
    let apart = barriers(&|| batch(["config/a", "elsewhere", "config/c"]).expect("batch"));
    assert!(apart >= 3, "{apart}: redo value, changes, end");
    assert_eq!(store.list(&key("config")).expect("list").len(), 2);
    // durable: what was recorded is on disk
    assert!(dev.is_ordered());
}

/// The first of these barriers leaves a redo value and nothing else: others see a file, and the
/// store sees the batch.
#[test]
fn an_interrupted_batch_is_seen_and_finished() {
    let (store, dev) = recorded(512, 200);
    store.set(&key("a"), b"old").expect("set");
    store.set(&key("d/b"), b"old").expect("set");
    let mut image = dev.image();
    dev.take_log();
    store
        .batch(|b| {
            b.set(&key("a"), &bytes(1, 900))?;
            b.remove(&key("d"))?;
            b.set(&key("new/c"), b"new")
        })
        .expect("batch");
    let after = content(&store);
    // up to where the redo value is the only change
    let mut found = None;
    for event in dev.take_log() {
        match event {
            Event::Write { start, data } => image[start..start + data.len()].copy_from_slice(&data),
            Event::Barrier => {
                let ram = Arc::new(littlefs::bd::RamDevice::from_image(
                    geometry(512, 200),
                    image.clone(),
                ));
                let mut fs = Fs::open(ram.clone(), &OpenOptions::default()).expect("open");
                if fs.lookup(ROOT, b".kv-batch").is_ok() {
                    found = Some((ram, fs));
                    break;
                }
            }
        }
    }
    let (ram, mut fs) = found.expect("a redo value");
    assert!(fs.lookup(ROOT, b"new").is_err(), "not applied yet");
    assert_eq!(fs.list(ROOT).expect("list").len(), 3, "others see it");
    drop(fs);
    let before = ram.image();
    let read_only = Options { read_only: true, ..Options::default() };
    let store = Store::connect(ram.clone(), &read_only).expect("connect");
    assert_eq!(content(&store), after);
    assert!(store.set(&key("x"), b"").is_err());
    store.disconnect().expect("disconnect");
    assert!(ram.image() == before, "connected read-only: not written");
    let store = connect(&ram);
    assert_eq!(content(&store), after);
    store.disconnect().expect("disconnect");
    let mut fs = Fs::open(ram, &OpenOptions::default()).expect("open");
    assert!(fs.lookup(ROOT, b".kv-batch").is_err(), "finished");
}

/// Put a redo value with these records into an image.
fn put_redo(dev: &Arc<RamDevice>, records: &[u8]) {
    use littlefs::disk::crc;
    let mut redo = [b"KVBATCH1\0\0\0\0\0\0\0\0", records].concat();
    redo.extend(crc::crc(crc::SEED, &redo).to_le_bytes());
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
    fs.create(ROOT, b".kv-batch").expect("create");
    let file = fs.open_file(ROOT, b".kv-batch").expect("open");
    fs.write(file, 0, &redo).expect("write");
    fs.close_file(file);
    fs.flush().expect("flush");
}

/// If there is no space for a redo value, and nothing of it is made, the store opens without it.
#[test]
fn a_redo_value_without_space_is_dropped() {
    let dev = Arc::new(RamDevice::new(geometry(512, 16)));
    Store::format(&*dev).expect("format");
    let store = connect(&dev);
    store.set(&key("s"), b"hello").expect("set");
    store.disconnect().expect("disconnect");
    // "a" is set to 6000 bytes
    put_redo(&dev, &[&b"\x01\x01\0\0\0a\x70\x17\0\0"[..], &[7; 6000]].concat());
    let store = connect(&dev);
    assert_eq!(content(&store).len(), 1);
    store.set(&key("t"), &bytes(1, 700)).expect("the space of the redo value is free");
    store.disconnect().expect("disconnect");
    let mut fs = Fs::open(dev, &OpenOptions::default()).expect("open");
    assert!(fs.lookup(ROOT, b".kv-batch").is_err());
}

/// A redo value of another writer may contain impossible changes.
#[test]
fn a_redo_value_that_cannot_be_carried_out_is_an_error() {
    let (store, dev) = fresh(512, 200);
    store.set(&key("v"), b"a value").expect("set");
    store.disconnect().expect("disconnect");
    put_redo(&dev, b"\x01\x03\0\0\0v/x\x01\0\0\0y");
    fails(Store::connect(dev.clone(), &Options::default()).map(|_| ()), "DictionaryExpected", "/v");
    // who gives it up removes the file
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
    fs.unlink(ROOT, b".kv-batch").expect("unlink");
    fs.flush().expect("flush");
    drop(fs);
    assert_eq!(connect(&dev).get(&key("v")).expect("get"), b"a value");
}

#[test]
fn times_go_along_with_a_rename() {
    let (store, dev) = fresh(512, 200);
    store.disconnect().expect("disconnect");
    let chamelon = littlefs::convention::Choice::parse("chamelon").expect("a convention");
    let options = Options { times: chamelon, ..Options::default() };
    let store = Store::connect(dev, &options).expect("connect");
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    store.allocate(&key("d/a"), 5, Some(then)).expect("allocate");
    store
        .batch(|b| {
            b.rename(&key("d"), &key("e"))?;
            b.allocate(&key("d"), 3, Some(then))
        })
        .expect("batch");
    for path in ["e/a", "e", "d"] {
        assert_eq!(store.last_modified(&key(path)).expect("time"), then, "{path}");
    }
}

/// A batch for which there is no space writes nothing at all, so a crash during it leaves nothing
/// to finish, even if some of its changes are there already.
#[test]
fn a_batch_that_is_refused_writes_nothing() {
    let dev = Arc::new(RamDevice::new(geometry(512, 16)));
    Store::format(&*dev).expect("format");
    let store = connect(&dev);
    store.set(&key("s"), b"hello").expect("set");
    let before = dev.image();
    let refused = store.batch(|batch| {
        batch.remove(&key("nothing"))?;
        batch.set(&key("s"), b"hello")?;
        batch.set(&key("x/a"), &[b'a'; 2000])?;
        batch.set(&key("y/b"), &[b'a'; 300])?;
        batch.set(&key("z/b"), &[b'a'; 200])
    });
    assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
    assert!(dev.image() == before);
    store.set(&key("t"), b"fits").expect("set");
    store.disconnect().expect("disconnect");
    assert_eq!(content(&connect(&dev)).len(), 2);
}
