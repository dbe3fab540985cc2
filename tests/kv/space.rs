//! Stores that are full.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::kv::{Error, Key, Kind, Options, Store};

use super::helpers::{
    assert_sound, bytes, connect, connect_with, content, fresh, geometry, key, read_by_c,
};

/// Set keys until there is no space. Returns how many were set.
fn fill(store: &Store, key_of: impl Fn(usize) -> Key, value: impl Fn(usize) -> Vec<u8>) -> usize {
    for n in 0.. {
        match store.set(&key_of(n), &value(n)) {
            Ok(()) => {}
            Err(Error::NoSpace) => return n,
            Err(e) => panic!("{n}: {e}"),
        }
    }
    unreachable!()
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    let (store, dev) = fresh(512, 80);
    let blorp = vec![b'a'; 512];
    let count = fill(&store, |n| key(&n.to_string()), |_| blorp.clone());
    assert!(count >= 80 - 18, "{count} blocks of 80");
    assert_eq!(store.list(&Key::root()).expect("list").len(), count);
    let before = content(&store);
    // each of these needs more than there is, and leaves no trace
    let large = vec![b'b'; 20 * 512];
    for result in [
        store.set(&key("0"), &large),
        store.set(&key("made/on/the/way"), &large),
        store.allocate(&key("more/zeros"), 100_000, None),
        store.set_partial(&key("1"), 300, &large),
        store.batch(|b| {
            b.set(&key("2"), b"small")?;
            b.set(&key("new/one"), &large)?;
            b.remove(&key("3"))
        }),
    ] {
        assert!(matches!(result, Err(Error::NoSpace)), "{result:?}");
        assert_eq!(content(&store), before);
        assert_eq!(store.exists(&key("made")).expect("exists"), None);
    }
    drop(store);
    assert_eq!(read_by_c(geometry(512, 80), dev.image()), before);
    let store = connect(&dev);
    assert_eq!(content(&store), before);
    assert_eq!(store.exists(&key("made")).expect("exists"), None, "nor on disk");
    // removing makes room, in as many rounds as there are
    for n in 0..20 {
        store.remove(&key(&n.to_string())).expect("remove");
    }
    store.set(&key("0"), &vec![b'c'; 10 * 512]).expect("set");
    store.batch(|b| b.set(&key("1"), &[1; 700])).expect("batch");
    store.disconnect().expect("disconnect");
    assert_sound(dev);
}

#[test]
fn values_until_no_space_is_left() {
    for (block_size, block_count) in [(512, 80), (128, 200), (4096, 10)] {
        let (store, dev) = fresh(block_size, block_count);
        let value = |i: usize| format!("number {i}").into_bytes();
        let count = fill(&store, |n| key(&n.to_string()), value);
        assert!(count > 40, "{count}");
        drop(store);
        let store = connect(&dev);
        for n in 0..count {
            assert_eq!(store.get(&key(&n.to_string())).expect("get"), value(n));
        }
        assert_eq!(store.list(&Key::root()).expect("list").len(), count);
        assert_sound(dev);
    }
}

#[test]
fn dictionaries_until_no_space_is_left() {
    let (store, dev) = fresh(512, 80);
    let state = key("state");
    let count = fill(&store, |n| key(&n.to_string()).append(&state), |_| b"i'm a key :D".to_vec());
    assert!(count > 20, "{count}");
    let before = store.list(&Key::root()).expect("list");
    assert_eq!(before.len(), count, "the failed one made no dictionary");
    let last = key(&(count - 1).to_string());
    store.remove(&last).expect("remove");
    assert_eq!(store.exists(&last).expect("exists"), None);
    assert_eq!(store.exists(&last.append(&state)).expect("exists"), None);
    assert_eq!(store.list(&Key::root()).expect("list").len(), count - 1);
    drop(store);
    let store = connect(&dev);
    assert_eq!(store.list(&Key::root()).expect("list").len(), count - 1);
    assert_sound(dev);
}

#[test]
fn a_dictionary_can_be_removed_from_a_full_store() {
    for block_count in 20..60 {
        for (len, blocks) in [(3, "small"), (40, "in between"), (700, "large")] {
            let (store, dev) = fresh(512, block_count);
            fill(&store, |n| key(&format!("d{}/k{n}", n % 3)), |n| bytes(n, len));
            let mut expected = content(&store);
            let d0 = key("d0");
            store.remove(&d0).unwrap_or_else(|e| panic!("{block_count}, {blocks}: {e}"));
            expected.retain(|key, _| !key.starts_with(&d0));
            assert_eq!(content(&store), expected);
            drop(store);
            assert_eq!(content(&connect(&dev)), expected);
        }
    }
}

/// Random sets and removals in a store that is too small for them. The store holds exactly what was
/// confirmed.
#[test]
fn what_is_told_is_what_is_there() {
    for (seed, durable) in [(1, true), (2, false), (3, true)] {
        let dev = Arc::new(RamDevice::new(geometry(512, 26)));
        Store::format(&*dev).expect("format");
        let options = Options { durable, ..Options::default() };
        let mut store = connect_with(&dev, &options);
        let mut expected = std::collections::BTreeMap::new();
        let mut state: u64 = seed;
        let mut random = move |n: usize| {
            state = (state * 1_103_515_245 + 12_345) % (1 << 31);
            (state >> 8) as usize % n
        };
        let mut full = 0;
        for round in 0..400 {
            let key = key(&format!("d{}/k{}", random(3), random(8)));
            if random(4) == 0 {
                match store.remove(&key) {
                    Ok(()) => _ = expected.remove(&key),
                    Err(Error::NoSpace) => full += 1,
                    Err(e) => panic!("{e}"),
                }
            } else {
                let value = bytes(round, [3, 60, 300, 1400][random(4)]);
                match store.set(&key, &value) {
                    Ok(()) => _ = expected.insert(key, value),
                    Err(Error::NoSpace) => full += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            if durable {
                drop(store);
                store = connect_with(&dev, &options);
            }
            assert_eq!(content(&store), expected, "round {round} of {seed}");
        }
        assert!(full > 20, "{full} times full");
        let all = store.exists(&Key::root()).expect("exists");
        assert_eq!(all, Some(Kind::Dictionary));
        assert_sound(dev);
    }
}
