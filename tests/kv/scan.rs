//! Walking through a dictionary pair by pair.

use littlefs::kv::{Error, Options, Store};

use super::helpers::{Content, bytes, connect_with, content, fresh, key};

/// The names and values of a walk, in its order.
fn walk(store: &Store, reverse: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let add = |name: &[u8], value: &[u8]| {
        found.push((name.to_vec(), value.to_vec()));
        Ok(())
    };
    store.scan(&key("d"), reverse, add).expect("scan");
    found
}

/// What the iterator finds.
fn values(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let values = store.values(&key("d")).expect("values").map(|row| row.expect("a value"));
    values.map(|(key, value)| (key.basename().to_vec(), value)).collect()
}

/// A dictionary of many pairs, most of which do not fit into the memory of the store.
#[test]
fn a_walk_finds_what_the_iterator_finds() {
    let (store, dev) = fresh(512, 8000);
    store
        .batch(|b| (0..9000).try_for_each(|i| b.set(&key(&format!("d/{i:05}")), &bytes(i, 25))))
        .expect("batch");
    for i in (0..9000).step_by(500) {
        store.set(&key(&format!("d/{i:05}")), &bytes(i, 900)).expect("in blocks");
        store.set(&key(&format!("d/{i:05}x")), b"longer name").expect("set");
        store.set(&key(&format!("d/sub{i}/value")), b"deeper").expect("set");
        store.remove(&key(&format!("d/{:05}", i + 1))).expect("remove");
    }
    store.disconnect().expect("disconnect");
    for cache in [1, 64 << 20] {
        let store = connect_with(&dev, &Options { cache: Some(cache), ..Options::default() });
        let found = walk(&store, false);
        assert_eq!(found.len(), 9000);
        assert!(found == values(&store), "cache of {cache} bytes");
        let mut backwards = walk(&store, true);
        backwards.reverse();
        assert!(found == backwards, "backwards, cache of {cache} bytes");
        // single values are read without keeping their pairs
        for (name, value) in found.iter().step_by(37) {
            let name = String::from_utf8(name.clone()).expect("a name");
            assert!(store.get(&key(&format!("d/{name}"))).expect("get") == *value, "{name}");
            let missing = store.get(&key(&format!("d/{name}-")));
            assert!(matches!(missing, Err(Error::NotFound(_))), "{name}: {missing:?}");
        }
        assert!(matches!(store.get(&key("d/sub500")), Err(Error::ValueExpected(_))));
        let all: Content = content(&store);
        assert_eq!(all.len(), 9000 + 18);
    }
}

/// The store changes during a walk. What exists all the time is found exactly once, with its value
/// at some moment.
#[test]
fn a_walk_during_changes_finds_what_stays() {
    let (store, dev) = fresh(512, 8000);
    store
        .batch(|b| (0..6000).try_for_each(|i| b.set(&key(&format!("d/{i:05}")), &bytes(i, 25))))
        .expect("batch");
    store.disconnect().expect("disconnect");
    for (cache, reverse) in [(1, false), (1, true), (64 << 20, false), (64 << 20, true)] {
        let store = connect_with(&dev, &Options { cache: Some(cache), ..Options::default() });
        let (mut found, mut step) = (Vec::new(), 0);
        let each = |name: &[u8], value: &[u8]| {
            let name = String::from_utf8(name.to_vec()).expect("a name");
            if name.len() == 5 {
                let i: usize = name.parse().expect("a number");
                assert!(value == bytes(i, 25) || value == bytes(i, 26), "{name}");
                found.push(i);
            }
            step += 1;
            if step % 7 == 0 {
                // here, behind and ahead, so that pairs are changed, split and compacted
                for i in [step % 6000, (step * 31) % 6000, 5999 - step % 6000] {
                    store.set(&key(&format!("d/{i:05}")), &bytes(i, 25 + step % 2))?;
                    store.set(&key(&format!("d/{i:05}-new")), b"new")?;
                    store.remove(&key(&format!("d/{:05}-new", (i + 3000) % 6000)))?;
                }
            }
            Ok(())
        };
        store.scan(&key("d"), reverse, each).expect("scan");
        if reverse {
            found.reverse();
        }
        let wrong = found.iter().zip(0..6000).find(|(found, i)| *found != i);
        assert_eq!((wrong, found.len()), (None, 6000), "cache of {cache}, reverse: {reverse}");
        for i in 0..6000 {
            store.set(&key(&format!("d/{i:05}")), &bytes(i, 25)).expect("set");
            store.remove(&key(&format!("d/{i:05}-new"))).expect("remove");
        }
        store.disconnect().expect("disconnect");
    }
}

#[test]
fn a_walk_ends_with_the_first_error() {
    let (store, _) = fresh(512, 100);
    assert!(matches!(store.scan(&key("d"), false, |_, _| Ok(())), Err(Error::NotFound(_))));
    (0..50).for_each(|i| store.set(&key(&format!("d/{i:02}")), b"value").expect("set"));
    assert!(matches!(
        store.scan(&key("d/07"), false, |_, _| Ok(())),
        Err(Error::DictionaryExpected(_))
    ));
    let mut seen = 0;
    let each = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 20 { Err(Error::NoSpace) } else { Ok(()) }
    };
    assert!(matches!(store.scan(&key("d"), false, each), Err(Error::NoSpace)));
    assert_eq!(seen, 20);
    // the dictionary is removed during the walk
    let mut seen = 0;
    let each = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 1 { store.remove(&key("d")) } else { Ok(()) }
    };
    store.scan(&key("d"), false, each).expect("scan");
    assert!((1..50).contains(&seen), "{seen}");
}
