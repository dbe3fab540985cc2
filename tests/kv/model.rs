//! A model of the interface, and random operations on the model and on a store.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::kv::{Batch, Error, Key, Kind, Options, Store};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::helpers::{
    Content, assert_sound, bytes, connect_with, content, geometry, key, name, read_by_c,
};

/// An operation that changes a store.
#[derive(Clone, Debug)]
pub enum Op {
    Set(Key, usize, usize),
    SetPartial(Key, usize, usize, usize),
    Allocate(Key, usize),
    Remove(Key),
    Rename(Key, Key),
    /// Several changes, and whether they should be made.
    Batch(Vec<Op>, bool),
}

/// The interface in memory. A dictionary exists as long as there is a value in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model(pub Content);

type Done = Result<(), &'static str>;

impl Model {
    pub fn kind(&self, key: &Key) -> Option<Kind> {
        if self.0.contains_key(key) {
            return Some(Kind::Value);
        }
        let is_prefix = key.is_root() || self.0.keys().any(|k| k.starts_with(key));
        is_prefix.then_some(Kind::Dictionary)
    }

    fn is_below_a_value(&self, key: &Key) -> bool {
        let mut above = key.clone();
        while !above.is_root() {
            above = above.parent();
            if self.0.contains_key(&above) {
                return true;
            }
        }
        false
    }

    fn put(&mut self, key: &Key, value: Vec<u8>) -> Done {
        if self.is_below_a_value(key) {
            return Err("DictionaryExpected");
        }
        if self.kind(key) == Some(Kind::Dictionary) {
            return Err("ValueExpected");
        }
        self.0.insert(key.clone(), value);
        Ok(())
    }

    pub fn apply(&mut self, op: &Op) -> Done {
        match op {
            Op::Set(key, seed, len) => self.put(key, bytes(*seed, *len)),
            Op::SetPartial(key, offset, seed, len) => {
                let mut value = self.0.get(key).cloned().unwrap_or_default();
                let offset = (*offset).min(value.len());
                value.resize(value.len().max(offset + len), 0);
                value[offset..offset + len].copy_from_slice(&bytes(*seed, *len));
                self.put(key, value)
            }
            Op::Allocate(key, size) => {
                if self.is_below_a_value(key) {
                    return Err("DictionaryExpected");
                }
                match self.kind(key) {
                    Some(_) => Err("AlreadyPresent"),
                    None => self.put(key, vec![0; *size]),
                }
            }
            Op::Remove(key) if key.is_root() => Err("InvalidKey"),
            Op::Remove(key) if self.is_below_a_value(key) => Err("DictionaryExpected"),
            Op::Remove(key) => {
                self.0.retain(|k, _| !k.starts_with(key));
                Ok(())
            }
            Op::Rename(source, dest) => self.rename(source, dest),
            Op::Batch(ops, make) => {
                let mut next = self.clone();
                ops.iter().try_for_each(|op| next.apply(op))?;
                if *make {
                    *self = next;
                }
                Ok(())
            }
        }
    }

    fn rename(&mut self, source: &Key, dest: &Key) -> Done {
        if self.is_below_a_value(source) {
            return Err("DictionaryExpected");
        }
        let is_dictionary = self.kind(source).ok_or("NotFound")? == Kind::Dictionary;
        if is_dictionary && dest.starts_with(source) {
            return Err("RenameSourcePrefix");
        }
        if self.is_below_a_value(dest) {
            return Err("DictionaryExpected");
        }
        let inside = match self.kind(dest) {
            Some(Kind::Dictionary) => dest.join(source.basename()).expect("a key"),
            _ => dest.clone(),
        };
        if inside == *source {
            return Ok(());
        }
        match self.kind(&inside) {
            Some(Kind::Dictionary) => return Err("AlreadyPresent"),
            Some(Kind::Value) if is_dictionary => return Err("ValueExpected"),
            _ => {}
        }
        let depth = source.segments().count();
        let moved: Vec<Key> = self.0.keys().filter(|k| k.starts_with(source)).cloned().collect();
        for from in moved {
            let mut to = inside.clone();
            for segment in from.segments().skip(depth) {
                to = to.join(segment).expect("a key");
            }
            let value = self.0.remove(&from).expect("it is there");
            self.0.insert(to, value);
        }
        Ok(())
    }
}

/// Do the same in a store.
pub fn apply(store: &Store, op: &Op) -> Result<(), Error> {
    match op {
        Op::Set(key, seed, len) => store.set(key, &bytes(*seed, *len)),
        Op::SetPartial(key, offset, seed, len) => {
            store.set_partial(key, *offset as u64, &bytes(*seed, *len))
        }
        Op::Allocate(key, size) => store.allocate(key, *size as u64, None),
        Op::Remove(key) => store.remove(key),
        Op::Rename(source, dest) => store.rename(source, dest),
        Op::Batch(ops, make) => {
            let done = store.batch(|b| {
                ops.iter().try_for_each(|op| in_batch(b, op))?;
                // an error that nothing else gives
                if *make { Ok(()) } else { Err(Error::TooManyRetries) }
            });
            match done {
                Err(Error::TooManyRetries) if !make => Ok(()),
                done => done,
            }
        }
    }
}

fn in_batch(batch: &mut Batch<'_>, op: &Op) -> Result<(), Error> {
    match op {
        Op::Set(key, seed, len) => batch.set(key, &bytes(*seed, *len)),
        Op::SetPartial(key, offset, seed, len) => {
            batch.set_partial(key, *offset as u64, &bytes(*seed, *len))
        }
        Op::Allocate(key, size) => batch.allocate(key, *size as u64, None),
        Op::Remove(key) => batch.remove(key),
        Op::Rename(source, dest) => batch.rename(source, dest),
        Op::Batch(ops, _) => ops.iter().try_for_each(|op| in_batch(batch, op)),
    }
}

fn keys() -> impl Strategy<Value = Key> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "c", "long-segment-of-a-key", "ü"]);
    prop::collection::vec(segment, 0..4).prop_map(|segments| key(&segments.join("/")))
}

fn changes() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![4 => 0..70_usize, 1 => 0..2500_usize];
    prop_oneof![
        6 => (keys(), 0..99_usize, len()).prop_map(|(k, seed, len)| Op::Set(k, seed, len)),
        2 => (keys(), 0..300_usize, 0..99_usize, len())
            .prop_map(|(k, offset, seed, len)| Op::SetPartial(k, offset, seed, len)),
        1 => (keys(), len()).prop_map(|(k, size)| Op::Allocate(k, size)),
        2 => keys().prop_map(Op::Remove),
        3 => (keys(), keys()).prop_map(|(a, b)| Op::Rename(a, b)),
    ]
}

pub fn ops() -> impl Strategy<Value = Op> {
    let batch = (prop::collection::vec(changes(), 0..8), prop::bool::weighted(0.8))
        .prop_map(|(ops, make)| Op::Batch(ops, make));
    prop_oneof![5 => changes(), 2 => batch]
}

/// Check that a store returns what the model returns, in every way of asking.
fn compare(store: &Store, model: &Model) {
    assert_eq!(content(store), model.0);
    let all: u64 = model.0.values().map(|v| v.len() as u64).sum();
    assert_eq!(store.size(&Key::root()).expect("size"), all);
    for (key, value) in &model.0 {
        assert_eq!(store.exists(key).expect("exists"), Some(Kind::Value));
        assert_eq!(store.exists(&key.parent()).expect("exists"), Some(Kind::Dictionary));
        assert_eq!(store.size(key).expect("size"), value.len() as u64);
        let (at, len) = (value.len() / 3, value.len() / 2 + 1);
        let part = store.get_partial(key, at as u64, len).expect("get_partial");
        assert_eq!(part, value[at..(at + len).min(value.len())]);
    }
}

fn run(block_size: u32, block_count: u32, ops: &[Op], durable: bool) {
    let dev = Arc::new(RamDevice::new(geometry(block_size, block_count)));
    Store::format(&*dev).expect("format");
    let options = Options { durable, ..Options::default() };
    let mut store = connect_with(&dev, &options);
    let mut model = Model::default();
    for (i, op) in ops.iter().enumerate() {
        let mut next = model.clone();
        let expected = next.apply(op);
        match (apply(&store, op).map_err(|e| name(&e)), expected) {
            (Ok(()), Ok(())) => model = next,
            (Err("NoSpace"), _) => {}
            (got, expected) => assert_eq!(got, expected, "{op:?} on {model:?}"),
        }
        compare(&store, &model);
        if i % 8 == 7 {
            store.disconnect().expect("disconnect");
            store = connect_with(&dev, &options);
            compare(&store, &model);
        }
    }
    store.disconnect().expect("disconnect");
    assert_sound(dev.clone());
    if block_size >= 128 {
        assert_eq!(read_by_c(geometry(block_size, block_count), dev.image()), model.0);
    }
}

/// Check that a batch reads what the model has with the changes of the batch.
fn compare_in_batch(batch: &mut Batch<'_>, model: &Model) {
    for text in ["", "a", "b", "a/b", "a/b/c", "ab", "ab/c", "c/a", "ü", "long-segment-of-a-key"] {
        let key = key(text);
        let kind = model.kind(&key);
        assert_eq!(batch.exists(&key).expect("exists"), kind, "{key} in {:?}", model.0.keys());
        let expected = match kind {
            Some(Kind::Value) => Ok(model.0[&key].clone()),
            Some(Kind::Dictionary) => Err("ValueExpected"),
            None if model.is_below_a_value(&key) => Err("DictionaryExpected"),
            None => Err("NotFound"),
        };
        let got = batch.get(&key).map_err(|e| name(&e));
        assert_eq!(got, expected, "{key} in {:?}", model.0.keys());
    }
}

proptest! {
    #![proptest_config(Config { cases: 1000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn as_the_model_does(
        ops in prop::collection::vec(ops(), 1..40),
        (block_size, block_count) in prop::sample::select(
            vec![(128, 500), (512, 300), (4096, 100), (104, 600), (512, 24), (128, 40)]),
        durable: bool,
    ) {
        run(block_size, block_count, &ops, durable);
    }

    #[test]
    fn a_batch_reads_what_it_has_changed(
        before in prop::collection::vec(changes(), 0..8),
        inside in prop::collection::vec(changes(), 1..12),
    ) {
        let dev = Arc::new(RamDevice::new(geometry(512, 300)));
        Store::format(&*dev).expect("format");
        let store = connect_with(&dev, &Options::default());
        let mut model = Model::default();
        for op in &before {
            let mut next = model.clone();
            if next.apply(op).is_ok() {
                apply(&store, op).expect("as the model");
                model = next;
            }
        }
        let end = store.batch(|batch| {
            let mut now = model.clone();
            for op in &inside {
                let mut next = now.clone();
                let expected = next.apply(op);
                let got = in_batch(batch, op).map_err(|e| name(&e));
                assert_eq!(got, expected, "{op:?} in {:?}", now.0.keys());
                if got.is_ok() {
                    now = next;
                }
                compare_in_batch(batch, &now);
            }
            Ok(now)
        });
        assert_eq!(content(&store), end.expect("it fits").0);
    }
}

/// A batch that cannot be made without a flush in between, and for which there is not enough space
/// after that flush, changes nothing.
#[test]
fn a_batch_that_finds_no_space_after_a_flush_changes_nothing() {
    let long = "long-segment-of-a-key";
    let inside = |key_inside: &str| key(&format!("{long}/{key_inside}"));
    let ops = [
        Op::SetPartial(inside("ab/a"), 0, 0, 0),
        Op::Allocate(key("c/a"), 0),
        Op::Allocate(key("a/a"), 17),
        Op::Set(key("a/b/a"), 0, 17),
        Op::Rename(key("c"), inside("a/a")),
        Op::SetPartial(key(&format!("a/{long}/a")), 0, 0, 17),
        Op::Set(key("b/a"), 0, 17),
        Op::Batch(vec![Op::Rename(key(long), key("ü/a/a"))], true),
    ];
    run(512, 24, &ops, false);
}
