//! Several threads at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use littlefs::bd::RamDevice;
use littlefs::kv::{Error, Key, Options, Store};

use super::helpers::{assert_sound, bytes, connect, connect_with, content, geometry, key};

const THREADS: usize = 4;
const ROUNDS: usize = 150;

fn store() -> (Store, Arc<RamDevice>) {
    let dev = Arc::new(RamDevice::new(geometry(512, 4000)));
    Store::format(&*dev).expect("format");
    (connect(&dev), dev)
}

/// The value that a thread sets in a round. Its first bytes give its length.
fn value(thread: usize, round: usize) -> Vec<u8> {
    let len = 2 + [10, 70, 600, 1500][(thread + round) % 4];
    let mut value = bytes(thread, len);
    value[..2].copy_from_slice(&(len as u16).to_le_bytes());
    value
}

#[test]
fn values_are_whole_and_changes_are_not_lost() {
    let (store, dev) = store();
    thread::scope(|s| {
        for t in 0..THREADS {
            let store = &store;
            s.spawn(move || {
                for round in 0..ROUNDS {
                    let own = key(&format!("own/{t}/{}", round % 10));
                    store.set(&own, &value(t, round)).expect("set");
                    assert_eq!(store.get(&own).expect("get"), value(t, round));
                    // one that all of them set
                    let shared = key(&format!("shared/{}", round % 3));
                    store.set(&shared, &value(t, round)).expect("set");
                    match store.get(&shared) {
                        Ok(found) => {
                            let len = u16::from_le_bytes([found[0], found[1]]);
                            assert_eq!(found.len(), usize::from(len), "a mixture");
                        }
                        Err(Error::NotFound(_)) => {}
                        Err(e) => panic!("{e}"),
                    }
                    if round % 7 == t {
                        store.remove(&shared).expect("remove");
                    }
                    if round % 20 == 0 {
                        store.list(&key("own")).expect("list");
                        store.digest(&Key::root()).expect("digest");
                    }
                }
            });
        }
    });
    for t in 0..THREADS {
        for round in ROUNDS - 10..ROUNDS {
            let own = key(&format!("own/{t}/{}", round % 10));
            assert_eq!(store.get(&own).expect("get"), value(t, round));
        }
    }
    let expected = content(&store);
    drop(store);
    assert_eq!(content(&connect(&dev)), expected);
    assert_sound(dev);
}

#[test]
fn batches_of_all_threads_count() {
    let (store, _) = store();
    let retries = AtomicUsize::new(0);
    let counts = [key("counts/a"), key("counts/b"), key("far/away")];
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                let mut done = 0;
                while done < 25 {
                    let one_more = store.batch(|b| {
                        for key in &counts {
                            let count = match b.get(key) {
                                Err(Error::NotFound(_)) => 0,
                                count => u32::from_le_bytes(count?.try_into().expect("4 bytes")),
                            };
                            b.set(key, &(count + 1).to_le_bytes())?;
                        }
                        Ok(())
                    });
                    match one_more {
                        Ok(()) => done += 1,
                        Err(Error::TooManyRetries) => _ = retries.fetch_add(1, Ordering::Relaxed),
                        Err(e) => panic!("{e}"),
                    }
                }
            });
        }
    });
    let total = (THREADS as u32 * 25).to_le_bytes();
    for key in &counts {
        assert_eq!(store.get(key).expect("get"), total);
    }
}

/// Iterators hold no lock: the thread that iterates changes the dictionary, and other threads do,
/// too.
#[test]
fn iterators_give_what_is_there_all_the_time() {
    let (store, _) = store();
    let stays: BTreeSet<Key> = (0..300).map(|i| key(&format!("d/stays{i:03}"))).collect();
    for key in &stays {
        store.set(key, &value(0, 0)).expect("set");
    }
    store.set(&key("d/sub/value"), b"").expect("set");
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            for round in 0.. {
                let comes = key(&format!("d/{:03}comes", round * 37 % 300));
                store.set(&comes, &value(1, round)).expect("set");
                store.remove(&comes).expect("remove");
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for round in 0..20 {
            let (mut seen, mut last) = (Vec::new(), None);
            let values = match round % 2 {
                0 => store.values(&key("d")),
                _ => store.values_reversed(&key("d")),
            };
            for entry in values.expect("iterator") {
                let (key, value) = entry.expect("an entry");
                assert_eq!(value.len(), usize::from(u16::from_le_bytes([value[0], value[1]])));
                let in_order = last.is_none_or(|last| (last < key) == (round % 2 == 0));
                assert!(in_order, "{key}");
                last = Some(key.clone());
                if stays.contains(&key) {
                    // changing what it goes through
                    store.set(&key, &value).expect("set");
                    seen.push(key);
                }
            }
            assert_eq!(seen.len(), 300, "each once");
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), stays);
        }
        done.store(true, Ordering::Relaxed);
    });
    let kinds = store.entries(&key("d")).expect("iterator").map(|e| e.expect("an entry"));
    assert_eq!(kinds.count(), 301);
    let back: Vec<Key> =
        store.entries_reversed(&key("d")).expect("iterator").map(|e| e.expect("entry").0).collect();
    assert_eq!((back.len(), &back[0]), (301, &key("d/sub")));
    // the dictionary goes meanwhile
    let mut values = store.values(&key("d")).expect("iterator");
    assert!(values.next().is_some());
    store.remove(&key("d")).expect("remove");
    assert!(values.count() < 300);
    fails_to_iterate(&store);
}

fn fails_to_iterate(store: &Store) {
    super::helpers::fails(store.entries(&key("d")).map(|_| ()), "NotFound", "/d");
}

/// The order of the image, in which a longer name comes before its prefix.
#[test]
fn iterators_keep_the_order_of_the_image() {
    let (store, dev) = store();
    for name in ["b", "a", "ab", "abc", "aa", "c"] {
        store.set(&key(name), name.as_bytes()).expect("set");
    }
    let names = |keys: Vec<Key>| -> String {
        keys.iter().map(|k| k.to_string()).collect::<String>().replace('/', " ")
    };
    let forward = store.values(&Key::root()).expect("iterator").map(|e| e.expect("entry").0);
    assert_eq!(names(forward.collect()), " aa abc ab a b c");
    let back = store.entries_reversed(&Key::root()).expect("iterator").map(|e| e.expect("entry").0);
    assert_eq!(names(back.collect()), " c b a ab abc aa");
    let list = store.list(&Key::root()).expect("list").into_iter().map(|(key, _)| key);
    assert_eq!(names(list.collect()), " a aa ab abc b c");
    store.disconnect().expect("disconnect");
    let options = Options { read_only: true, ..Options::default() };
    assert_eq!(connect_with(&dev, &options).values(&Key::root()).expect("iterator").count(), 6);
}
