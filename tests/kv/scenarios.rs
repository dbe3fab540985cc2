//! What the interface promises, call by call.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::disk::{Pair, tag};
use littlefs::fs::{Fs, OpenOptions, ROOT};
use littlefs::kv::{Key, Kind, Options, Store};

use super::helpers::{
    assert_sound, bytes, connect, connect_with, content, fails, fresh, geometry, key, read_by_c,
};

use testkit::clfs::Config as CConfig;
use testkit::surgery::Surgeon;

fn get(store: &Store, path: &str) -> Vec<u8> {
    store.get(&key(path)).unwrap_or_else(|e| panic!("get: {e}"))
}

fn set(store: &Store, path: &str, value: impl AsRef<[u8]>) {
    store.set(&key(path), value.as_ref()).unwrap_or_else(|e| panic!("set: {e}"));
}

fn listed(store: &Store, path: &str) -> Vec<(String, Kind)> {
    let list = store.list(&key(path)).unwrap_or_else(|e| panic!("list: {e}"));
    list.into_iter().map(|(key, kind)| (key.to_string(), kind)).collect()
}

fn exists(store: &Store, path: &str) -> Option<Kind> {
    store.exists(&key(path)).expect("exists")
}

#[test]
fn a_new_store_is_empty() {
    let (store, _) = fresh(512, 80);
    assert_eq!(listed(&store, "/"), []);
    assert_eq!(exists(&store, "/"), Some(Kind::Dictionary));
    assert_eq!(store.size(&Key::root()).expect("size"), 0);
}

#[test]
fn what_is_set_is_got() {
    for (path, value) in [
        ("get set to get wet", "hell yeah let's do this!!!".as_bytes()),
        ("camel emoji", "🔋".as_bytes()),
        ("🔋", b"camel"),
        ("binary", &[0, 255, 10, 13, 0]),
        ("empty", b""),
    ] {
        let (store, dev) = fresh(512, 80);
        set(&store, path, value);
        assert_eq!(get(&store, path), value);
        assert_eq!(store.list(&Key::root()).expect("list"), [(key(path), Kind::Value)]);
        // durable without more ado
        drop(store);
        assert_eq!(get(&connect(&dev), path), value);
        assert_eq!(read_by_c(geometry(512, 80), dev.image())[&key(path)], value);
    }
}

#[test]
fn the_root_is_no_value() {
    let (store, _) = fresh(512, 80);
    fails(store.set(&Key::root(), b"camel"), "ValueExpected", "/");
    fails(store.get(&Key::root()), "ValueExpected", "/");
    fails(store.set_partial(&Key::root(), 0, b"x"), "ValueExpected", "/");
    fails(store.allocate(&Key::root(), 1, None), "AlreadyPresent", "/");
}

#[test]
fn names_too_long_are_refused() {
    let (store, dev) = fresh(512, 80);
    let long = key(&"A".repeat(500));
    for name in ["A".repeat(500), "A".repeat(256), format!("d/{}/x", "A".repeat(256))] {
        fails(store.set(&key(&name), b":D"), "InvalidKey", &format!("/{name}"));
        fails(store.allocate(&key(&name), 5, None), "InvalidKey", &format!("/{name}"));
    }
    fails(store.rename(&key("x"), &long), "InvalidKey", &long.to_string());
    assert_eq!(exists(&store, &"A".repeat(500)), None);
    assert_eq!(listed(&store, "/"), [], "a refused set leaves nothing behind");
    set(&store, &"A".repeat(255), "fits");
    // a block of 128 bytes holds less
    let (store, _) = fresh(128, 80);
    let path = format!("/d/{}", "B".repeat(120));
    fails(store.set(&key(&path), b""), "InvalidKey", &path);
    assert_eq!(listed(&store, "/"), []);
    drop(dev);
}

#[test]
fn names_kept_by_the_store_are_neither_seen_nor_given() {
    let (store, dev) = fresh(512, 80);
    for name in ["/.kv-batch", "/.kv-batch/x"] {
        fails(store.set(&key(name), b""), "InvalidKey", name);
        fails(store.remove(&key(name)), "InvalidKey", name);
        fails(store.rename(&key("a"), &key(name)), "InvalidKey", name);
        fails(store.batch(|b| b.set(&key(name), b"")), "InvalidKey", name);
        assert_eq!(exists(&store, name), None);
        fails(store.get(&key(name)), "NotFound", name);
    }
    set(&store, "d/.kv-batch", "elsewhere it is a name like any other");
    // a removal is like a batch, and takes no other name for itself
    set(&store, ".kv-trash/mine", "kept");
    store.remove(&key("d")).expect("remove a dictionary");
    assert_eq!(get(&store, ".kv-trash/mine"), b"kept");
    store.disconnect().expect("disconnect");
    // what is not from a store is not touched, and the error says what to do
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
    fs.create(ROOT, b".kv-batch").expect("create");
    fs.flush().expect("flush");
    drop(fs);
    for read_only in [false, true] {
        let options = Options { read_only, ..Options::default() };
        let e = Store::connect(dev.clone(), &options).err().expect("refused");
        assert!(e.to_string().contains("another name with 'littlefs mv'"), "{e}");
    }
}

#[test]
fn set_makes_the_dictionaries_on_the_way() {
    let (store, dev) = fresh(512, 80);
    set(&store, "/set/deep/fs/filesystem", "arglebarglefargle");
    assert_eq!(get(&store, "set/deep/fs/filesystem"), b"arglebarglefargle");
    assert_eq!(listed(&store, "/"), [("/set".to_string(), Kind::Dictionary)]);
    assert_eq!(
        listed(&store, "/set/deep/fs"),
        [("/set/deep/fs/filesystem".to_string(), Kind::Value)]
    );
    fails(
        store.set(&key("set/deep/fs/filesystem/x"), b""),
        "DictionaryExpected",
        "/set/deep/fs/filesystem",
    );
    fails(store.set(&key("set/deep"), b""), "ValueExpected", "/set/deep");
    drop(store);
    assert_sound(dev);
}

#[test]
fn get_says_what_is_wrong() {
    let (store, _) = fresh(512, 80);
    fails(store.get(&key("/snapglefring")), "NotFound", "/snapglefring");
    fails(store.get(&key("/littlefs")), "NotFound", "/littlefs");
    set(&store, "/hooplemorg/bleeplefroop", "");
    fails(store.get(&key("/hooplemorg")), "ValueExpected", "/hooplemorg");
    fails(store.get(&key("/hooplemorg/x/y")), "NotFound", "/hooplemorg/x/y");
    let below = key("/hooplemorg/bleeplefroop/below");
    fails(store.get(&below), "DictionaryExpected", "/hooplemorg/bleeplefroop");
    fails(
        store.list(&key("/hooplemorg/bleeplefroop")),
        "DictionaryExpected",
        "/hooplemorg/bleeplefroop",
    );
    fails(store.list(&key("/nowhere")), "NotFound", "/nowhere");
    fails(store.size(&below), "DictionaryExpected", "/hooplemorg/bleeplefroop");
    fails(store.digest(&key("/nowhere/x")), "NotFound", "/nowhere/x");
    assert_eq!(store.exists(&below).expect("no error"), None);
}

#[test]
fn get_partial_is_short_at_the_end() {
    let (store, _) = fresh(512, 80);
    for path in ["/wisdom", "/files/more files/some more files/file"] {
        set(&store, path, "on opposite day, the sky is red");
        let part =
            |offset, length| store.get_partial(&key(path), offset, length).expect("get_partial");
        assert_eq!(part(17, 14), b"the sky is red");
        assert_eq!(part(17, 100), b"the sky is red");
        assert_eq!(part(0, usize::MAX), get(&store, path));
        assert_eq!(part(31, 1), b"");
        assert_eq!(part(41, 1), b"");
        assert_eq!(part(u64::MAX, usize::MAX), b"");
        assert_eq!(part(5, 0), b"");
    }
    fails(store.get_partial(&key("files"), 0, 1), "ValueExpected", "/files");
    fails(store.get_partial(&key("nothing"), 0, 1), "NotFound", "/nothing");
}

#[test]
fn set_partial_writes_over_and_appends() {
    let (store, dev) = fresh(512, 200);
    let item = key("d/item");
    store.set_partial(&item, 7, b"here's some stuff").expect("it makes what is not there");
    let mut expected = b"here's some stuff".to_vec();
    for (offset, len) in [(1, 11), (17, 5), (400, 3), (10, 60), (60, 3000), (2999, 1), (5000, 700)]
    {
        let data = bytes(offset, len);
        store.set_partial(&item, offset as u64, &data).expect("set_partial");
        let at = offset.min(expected.len());
        expected.resize(expected.len().max(at + len), 0);
        expected[at..at + len].copy_from_slice(&data);
        assert_eq!(get(&store, "d/item"), expected, "{len} bytes at {offset}");
    }
    fails(store.set_partial(&key("d"), 0, b"x"), "ValueExpected", "/d");
    fails(store.set_partial(&key("d/item/x"), 0, b"x"), "DictionaryExpected", "/d/item");
    drop(store);
    assert_eq!(get(&connect(&dev), "d/item"), expected);
}

#[test]
fn allocate_makes_zeros_where_nothing_is() {
    let (store, dev) = fresh(512, 200);
    for size in [0, 1, 64, 65, 512, 2048, 30_000] {
        let path = format!("reserved/for/future use {size}");
        store.allocate(&key(&path), size, None).expect("allocate");
        assert_eq!(get(&store, &path), vec![0; size as usize]);
        fails(store.allocate(&key(&path), size, None), "AlreadyPresent", &format!("/{path}"));
    }
    fails(store.allocate(&key("reserved/for"), 1, None), "AlreadyPresent", "/reserved/for");
    fails(
        store.allocate(&key("too large"), 1 << 20, None).map_err(|e| match e {
            littlefs::kv::Error::NoSpace => littlefs::kv::Error::NotFound(key("no space")),
            e => e,
        }),
        "NotFound",
        "/no space",
    );
    assert_eq!(exists(&store, "too large"), None);
    let expected = content(&store);
    drop(store);
    assert_eq!(content(&connect(&dev)), expected);
    assert_eq!(read_by_c(geometry(512, 200), dev.image()), expected);
}

#[test]
fn size_is_that_of_the_values() {
    let (store, _) = fresh(512, 80);
    let size = |path: &str| store.size(&key(path));
    fails(size("/thedeep/filenotfound"), "NotFound", "/thedeep/filenotfound");
    let text = "a string of known size";
    set(&store, "/smallfile", text);
    assert_eq!(size("/smallfile").expect("size"), 22);
    set(&store, "/files/boring/taxes/2013/receipts/the good stuff", "secrets");
    set(&store, "/files/boring/taxes/2014/receipts/the good stuff", "secrets");
    assert_eq!(size("/files/boring").expect("size"), 14);
    assert_eq!(size("/").expect("size"), 36);
    set(&store, "/f0", bytes(1, 256));
    assert_eq!(size("/f0").expect("size"), 256);
    set(&store, "/f0", bytes(1, 10));
    assert_eq!((size("/f0").expect("size"), size("/").expect("size")), (10, 46));
    let (store, _) = fresh(512, 80);
    for len in [0x0f, 0xff, 0x1ff] {
        set(&store, "/d0/f", bytes(2, len));
        assert_eq!(get(&store, "/d0/f").len(), len);
        store.remove(&key("/d0/f")).expect("remove");
    }
    fails(store.size(&key("/d0")), "NotFound", "/d0");
    assert_eq!(exists(&store, "/d0"), None, "no value is in it any more");
    assert_eq!(store.size(&Key::root()).expect("size"), 0);
}

#[test]
fn digests_are_of_content() {
    let (store, dev) = fresh(512, 200);
    let digest = |path: &str| {
        let digest = store.digest(&key(path)).expect("digest");
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(digest("/"), of_nothing);
    set(&store, "trans", "");
    set(&store, "rights", "");
    assert_eq!((digest("trans"), digest("rights")), (of_nothing.into(), of_nothing.into()));
    let before = digest("/");
    set(&store, "/digest/deep/dictionary", "abc");
    let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest("/digest/deep/dictionary"), of_abc);
    let deep = digest("/digest/deep");
    assert!(digest("/") != before && deep != of_abc);
    set(&store, "/digest/deep/dictionary", "morglemoop");
    assert!(digest("/digest/deep") != deep);
    set(&store, "/digest/deep/dictionary", "abc");
    set(&store, "smorgleforg", "clinglefrimp");
    assert_eq!(digest("/digest/deep"), deep);
    // the record of the documentation: sha256sum of 'v' 0a000000 'dictionary' and the value's
    let record = [
        &b"v\x0a\0\0\0dictionary"[..],
        &store.digest(&key("digest/deep/dictionary")).expect("digest"),
    ]
    .concat();
    let (other, _) = fresh(512, 80);
    set(&other, "record", &record);
    assert_eq!(
        other.digest(&key("record")).expect("digest"),
        store.digest(&key("digest/deep")).expect("digest")
    );
    // neither the order of what came nor the geometry counts; names do
    let (other, _) = fresh(4096, 64);
    for path in ["smorgleforg", "rights", "digest/deep/dictionary", "trans"] {
        set(&other, path, get(&store, path));
    }
    assert_eq!(
        other.digest(&Key::root()).expect("digest"),
        store.digest(&Key::root()).expect("digest")
    );
    other.rename(&key("trans"), &key("trains")).expect("rename");
    assert!(
        other.digest(&Key::root()).expect("digest") != store.digest(&Key::root()).expect("digest")
    );
    set(&store, "large", bytes(3, 20_000));
    let large = digest("large");
    store.disconnect().expect("disconnect");
    let again = connect(&dev).digest(&key("large")).expect("digest");
    assert_eq!(again.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), large);
}

#[test]
fn rename_moves_a_value_over_another() {
    let (store, dev) = fresh(512, 80);
    set(&store, "location_1", "we must go to next location");
    store.rename(&key("location_1"), &key("second_location")).expect("rename");
    assert_eq!(exists(&store, "location_1"), None);
    assert_eq!(get(&store, "second_location"), b"we must go to next location");
    set(&store, "far/away", bytes(1, 1000));
    store.rename(&key("far/away"), &key("second_location")).expect("rename");
    assert_eq!(get(&store, "second_location"), bytes(1, 1000));
    assert_eq!(exists(&store, "far"), None);
    store.rename(&key("second_location"), &key("second_location")).expect("to itself");
    store.rename(&key("second_location"), &key("new/dictionaries/too")).expect("rename");
    assert_eq!(get(&store, "new/dictionaries/too"), bytes(1, 1000));
    fails(store.rename(&key("nothing"), &key("x/y")), "NotFound", "/nothing");
    fails(
        store.rename(&key("new/dictionaries/too"), &key("new/dictionaries/too/x")),
        "DictionaryExpected",
        "/new/dictionaries/too",
    );
    assert_eq!(exists(&store, "x"), None);
    drop(store);
    assert_eq!(content(&connect(&dev)).len(), 1);
    assert_sound(dev);
}

#[test]
fn rename_moves_dictionaries_and_into_them() {
    let (store, dev) = fresh(512, 200);
    set(&store, "a/1", "one");
    set(&store, "a/deep/2", "two");
    set(&store, "b/3", "three");
    set(&store, "v", "value");
    assert_eq!(get(&store, "a/deep/2"), b"two");
    store.rename(&key("a"), &key("c")).expect("rename");
    assert_eq!((exists(&store, "a"), get(&store, "c/deep/2")), (None, b"two".to_vec()));
    store.rename(&key("c"), &key("b")).expect("a dictionary is there: inside of it");
    assert_eq!(get(&store, "b/c/deep/2"), b"two");
    store.rename(&key("v"), &key("b/c")).expect("a value inside of it, too");
    assert_eq!(get(&store, "b/c/v"), b"value");
    store.rename(&key("b/c/v"), &Key::root()).expect("the root is a dictionary");
    assert_eq!(get(&store, "v"), b"value");
    store.rename(&key("v"), &Key::root()).expect("where it is already");
    fails(store.rename(&key("b"), &key("b/c/x")), "RenameSourcePrefix", "/b");
    fails(store.rename(&key("b"), &key("b")), "RenameSourcePrefix", "/b");
    fails(store.rename(&Key::root(), &key("x")), "RenameSourcePrefix", "/");
    fails(store.rename(&key("b"), &key("v")), "ValueExpected", "/b");
    set(&store, "b/v", "old");
    store.rename(&key("v"), &key("b")).expect("over the value inside of it");
    assert_eq!(get(&store, "b/v"), b"value");
    set(&store, "x/c/y", "");
    fails(store.rename(&key("b/c"), &key("x")), "AlreadyPresent", "/x/c");
    set(&store, "y/c", "a value");
    fails(store.rename(&key("b/c"), &key("y")), "ValueExpected", "/b/c");
    let expected = content(&store);
    drop(store);
    assert_eq!(content(&connect(&dev)), expected);
    assert_eq!(read_by_c(geometry(512, 200), dev.image()), expected);
    assert_sound(dev);
}

#[test]
fn the_root_stays() {
    let (store, _) = fresh(512, 80);
    set(&store, "a", "");
    fails(store.remove(&Key::root()), "InvalidKey", "/");
    fails(store.batch(|b| b.remove(&Key::root())), "InvalidKey", "/");
    assert_eq!(exists(&store, "a"), Some(Kind::Value));
}

#[test]
fn removals_take_all_that_is_inside() {
    let (store, dev) = fresh(512, 200);
    for path in ["d/a", "d/e/b", "d/e/f/c", "d/e/f/d", "other"] {
        set(&store, path, bytes(1, 700));
    }
    store.remove(&key("d/e")).expect("remove");
    assert_eq!(content(&store).keys().map(Key::to_string).collect::<Vec<_>>(), ["/d/a", "/other"]);
    store.remove(&key("d/e")).expect("nothing is there any more");
    fails(store.remove(&key("other/x")), "DictionaryExpected", "/other");
    store.remove(&key("d/a")).expect("remove");
    assert_eq!(listed(&store, "/"), [("/other".to_string(), Kind::Value)]);
    set(&store, "d/again", "");
    drop(store);
    let used = Fs::open(dev.clone(), &OpenOptions::default()).and_then(|mut fs| fs.usage());
    // two pairs, two blocks of the value
    assert_eq!(used.expect("usage").blocks_used, 6);
    assert_sound(dev);
}

#[test]
fn writes_around_a_split() {
    let (store, _) = fresh(512, 80);
    set(&store, "d0/f0", bytes(1, 67));
    set(&store, "d0/f1", bytes(2, 127));
    for value in [[1], [0]] {
        set(&store, "d0/f1", value);
        assert_eq!(get(&store, "d0/f1"), value);
    }
    let (store, _) = fresh(512, 80);
    for (name, len) in
        [("f2", 0x400), ("f0", 0x300), ("f3", 0x7f), ("f0", 0x3e), ("f1", 5), ("f3", 0x7f)]
    {
        set(&store, name, bytes(len, len));
    }
    assert_eq!(exists(&store, "f1"), Some(Kind::Value));
    assert_eq!(listed(&store, "/").len(), 4);
}

#[test]
fn large_values_survive_a_reconnect() {
    const LEN: usize = 2 << 20;
    let (store, dev) = fresh(512, 131_072);
    set(&store, "md5s", vec![1; LEN]);
    set(&store, "sha512s", vec![2; LEN]);
    store.disconnect().expect("disconnect");
    let store = connect(&dev);
    set(&store, "md5s", vec![3; LEN + 2048]);
    assert_eq!(get(&store, "md5s"), vec![3; LEN + 2048]);
    assert_eq!(get(&store, "sha512s"), vec![2; LEN]);
    store.disconnect().expect("disconnect");
    let store = connect(&dev);
    assert_eq!(get(&store, "sha512s"), vec![2; LEN]);
    assert_eq!(get(&store, "md5s"), vec![3; LEN + 2048]);
}

/// A directory entry that names the root's own pair.
#[test]
fn a_cycle_is_not_followed() {
    let (store, dev) = fresh(512, 80);
    set(&store, "self/x", "");
    store.disconnect().expect("disconnect");
    let mut surgeon = Surgeon::new(&CConfig::new(512, 80, 16), dev.image());
    let (pair, id, _) = surgeon.find("self");
    let root = Pair::SUPERBLOCK.to_bytes();
    surgeon.commit(pair, |w| w.tag(tag::DIRSTRUCT, id, &root));
    let dev = Arc::new(RamDevice::from_image(geometry(512, 80), surgeon.image));
    let store = connect_with(&dev, &Options { read_only: true, ..Options::default() });
    assert!(!store.warnings().is_empty());
    assert!(store.list(&key("self")).is_err());
    assert!(store.set(&key("a"), b"").is_err(), "damaged: read-only");
}

#[test]
fn a_hundred_of_each() {
    let (mut store, dev) = fresh(512, 20_480);
    let names: Vec<String> = (1..=100).map(|i| i.to_string()).collect();
    for (path, kind) in [("N/N", Kind::Dictionary), ("N", Kind::Value)] {
        for n in &names {
            set(&store, &path.replace('N', n), n);
        }
        store.disconnect().expect("disconnect");
        store = connect(&dev);
        let list = listed(&store, "/");
        for n in &names {
            assert_eq!(list.iter().filter(|e| **e == (format!("/{n}"), kind)).count(), 1);
        }
        assert_eq!(list.len(), 100);
        for n in &names {
            store.remove(&key(n)).expect("remove");
        }
        store.disconnect().expect("disconnect");
        store = connect(&dev);
        assert_eq!(listed(&store, "/"), []);
    }
    assert_sound(dev);
}

#[test]
fn without_durability_changes_wait_for_a_sync() {
    let (store, dev) = fresh(512, 80);
    store.disconnect().expect("disconnect");
    let options = Options { durable: false, ..Options::default() };
    let store = connect_with(&dev, &options);
    set(&store, "a", "synced");
    store.sync().expect("sync");
    set(&store, "b", "disconnected");
    store.disconnect().expect("disconnect");
    let store = connect_with(&dev, &options);
    set(&store, "c", "lost");
    drop(store);
    assert_eq!(listed(&connect(&dev), "/").len(), 2);
    let options = Options { read_only: true, ..Options::default() };
    let store = connect_with(&dev, &options);
    assert_eq!(get(&store, "a"), b"synced");
    for result in [
        store.set(&key("a"), b""),
        store.remove(&key("a")),
        store.rename(&key("a"), &key("c")),
        store.batch(|b| b.set(&key("a"), b"")),
    ] {
        let e = result.expect_err("read-only");
        assert!(e.to_string().contains("read-only"), "{e}");
    }
    store.disconnect().expect("nothing to write");
}
