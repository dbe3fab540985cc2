//! Batches: several changes that are made completely or not at all.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::SystemTime;

use super::redo::{Change, Changes};
use super::{Core, Error, Found, Key, Kind, Result, Store};
use crate::fs::Node;
use crate::time::nanos;

/// How many times the function of a batch is run before giving up.
const TRIES: usize = 13;

/// The changes of a batch so far. Reads see the content of the store with these changes applied.
///
/// The changes, and their values, are in memory until the end of the batch. The same holds for the
/// content of a dictionary that the batch renames.
pub struct Batch<'a> {
    store: &'a Store,
    changes: Changes,
    /// The version of the store from which everything was read; `None` until something is read.
    version: Option<u64>,
    /// Whether another change came between two reads.
    torn: bool,
    /// The conditions that were checked for keys that are set and removed without being read. They
    /// must still hold at the end.
    expected: Vec<(Key, Expected)>,
    /// The version of the store during all these checks; `None` if there were several.
    checked: Option<u64>,
}

/// The condition under which a key can be changed, whatever its present content is.
enum Expected {
    /// None of the segments before the last is a value.
    Reachable,
    /// None of the segments before the last is a value, and the key is not a dictionary.
    NoDictionary,
}

/// What a batch knows about a key from its own changes.
enum Own<'a> {
    /// It is set.
    Set(&'a [u8]),
    /// It is removed, or is inside a removed dictionary.
    Gone,
    /// The changes say nothing about it, so the store must be asked.
    Unknown,
}

impl Store {
    /// Run `f`, and make either all of its changes or none, even if there is a crash. When this
    /// returns, they are flushed. [`Options::durability`](super::Options::durability) says whether
    /// a flush means that they are on the medium.
    ///
    /// Other threads can use the store in the meantime. If they change anything after `f` has read
    /// something, `f` is run again from the start. So `f` should make changes only through its
    /// argument. A batch that only sets and removes keys is run again only if one of these changes
    /// is no longer possible.
    ///
    /// # Errors
    /// The error that `f` returns; in this case nothing is changed. `TooManyRetries` after thirteen
    /// runs. `NoSpace`, possibly even if there is space for the changes one by one, because the
    /// changes of a batch need their space twice until the end. If the device fails, the next
    /// [`Store::connect`] may finish the batch.
    pub fn batch<T>(&self, mut f: impl FnMut(&mut Batch<'_>) -> Result<T>) -> Result<T> {
        for _ in 0..TRIES {
            let mut batch = Batch {
                store: self,
                changes: Changes::new(),
                version: None,
                torn: false,
                expected: Vec::new(),
                checked: None,
            };
            let result = f(&mut batch);
            let Batch { changes, version, torn, expected, checked, .. } = batch;
            if torn {
                continue;
            }
            let value = result?;
            let mut core = self.core();
            let is_as_checked = checked == Some(core.version) || core.holds(&expected)?;
            if version.is_some_and(|v| v != core.version) || !is_as_checked {
                continue;
            }
            core.run_batch(&changes)?;
            return Ok(value);
        }
        Err(Error::TooManyRetries)
    }
}

impl Core {
    fn holds(&mut self, expected: &[(Key, Expected)]) -> Result<bool> {
        for (key, expected) in expected {
            match (self.find(key), expected) {
                (Err(Error::DictionaryExpected(_)), _)
                | (Ok(Found::Root | Found::At(_, Node::Dir(_))), Expected::NoDictionary) => {
                    return Ok(false);
                }
                (Err(e), _) => return Err(e),
                _ => {}
            }
        }
        Ok(true)
    }
}

impl Batch<'_> {
    /// Like [`Store::exists`], with the changes of the batch.
    ///
    /// # Errors
    /// Those of [`Store::exists`].
    pub fn exists(&mut self, key: &Key) -> Result<Option<Kind>> {
        match self.lookup(key) {
            Err(Error::DictionaryExpected(_)) => Ok(None),
            found => found,
        }
    }

    /// Like [`Store::get`], with the changes of the batch.
    ///
    /// # Errors
    /// Those of [`Store::get`].
    pub fn get(&mut self, key: &Key) -> Result<Vec<u8>> {
        match self.own(key)? {
            Own::Set(data) => return Ok(data.to_vec()),
            Own::Unknown if self.inside(key).next().is_none() => {
                return self.read(|store| store.get(key));
            }
            // the changes of keys inside it show whether it is a dictionary
            Own::Unknown | Own::Gone => {}
        }
        match self.lookup(key)? {
            Some(_) => Err(Error::ValueExpected(key.clone())),
            None => Err(Error::NotFound(key.clone())),
        }
    }

    /// Like [`Store::list`], with the changes of the batch.
    ///
    /// # Errors
    /// Those of [`Store::list`].
    pub fn list(&mut self, key: &Key) -> Result<Vec<(Key, Kind)>> {
        match self.lookup(key)? {
            Some(Kind::Dictionary) => self.children(key),
            Some(Kind::Value) => Err(Error::DictionaryExpected(key.clone())),
            None => Err(Error::NotFound(key.clone())),
        }
    }

    /// Like [`Store::set`], as part of the batch.
    ///
    /// # Errors
    /// Those of [`Store::set`].
    pub fn set(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.put(key, value.to_vec(), None)
    }

    /// Like [`Store::set_partial`], as part of the batch.
    ///
    /// # Errors
    /// Those of [`Store::set_partial`].
    pub fn set_partial(&mut self, key: &Key, offset: u64, data: &[u8]) -> Result<()> {
        let mut value = match self.get(key) {
            Err(Error::NotFound(_)) => Vec::new(),
            value => value?,
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(value.len());
        let end = start + data.len();
        value.resize(value.len().max(end), 0);
        value[start..end].copy_from_slice(data);
        self.put(key, value, None)
    }

    /// Like [`Store::allocate`], as part of the batch.
    ///
    /// # Errors
    /// Those of [`Store::allocate`].
    pub fn allocate(
        &mut self,
        key: &Key,
        size: u64,
        last_modified: Option<SystemTime>,
    ) -> Result<()> {
        if self.lookup(key)?.is_some() {
            return Err(Error::AlreadyPresent(key.clone()));
        }
        // checked first, because a value of this size takes that much memory
        let file_max = u64::from(self.store.core().fs.superblock().file_max);
        let size = usize::try_from(size.min(file_max + 1)).unwrap_or(usize::MAX);
        if size as u64 > file_max {
            return Err(crate::Error::FileTooLarge.into());
        }
        self.put(key, vec![0; size], last_modified.map(nanos))
    }

    /// Like [`Store::remove`], as part of the batch.
    ///
    /// # Errors
    /// Those of [`Store::remove`].
    pub fn remove(&mut self, key: &Key) -> Result<()> {
        if key.is_root() {
            return Err(Error::InvalidKey(
                key.clone(),
                "the top-level dictionary cannot be removed or renamed",
            ));
        }
        self.store.core().check(key)?;
        if let Own::Unknown = self.own(key)? {
            self.check(key, Expected::Reachable)?;
        }
        self.replace(key, Change::Gone);
        Ok(())
    }

    /// Like [`Store::rename`], as part of the batch.
    ///
    /// # Errors
    /// Those of [`Store::rename`].
    pub fn rename(&mut self, source: &Key, dest: &Key) -> Result<()> {
        self.store.core().check(source)?;
        self.store.core().check(dest)?;
        let kind = self.lookup(source)?.ok_or_else(|| Error::NotFound(source.clone()))?;
        let is_dictionary = kind == Kind::Dictionary;
        if is_dictionary && dest.starts_with(source) {
            return Err(Error::RenameSourcePrefix(source.clone(), dest.clone()));
        }
        let inside = match self.lookup(dest)? {
            Some(Kind::Dictionary) => dest.child(source.basename()),
            Some(Kind::Value) | None => dest.clone(),
        };
        if inside == *source {
            return Ok(());
        }
        match self.lookup(&inside)? {
            Some(Kind::Dictionary) => return Err(Error::AlreadyPresent(inside)),
            Some(Kind::Value) if is_dictionary => return Err(Error::ValueExpected(source.clone())),
            Some(Kind::Value) | None => {}
        }
        let mut moved = Vec::new();
        let mut todo = vec![(source.clone(), inside)];
        while let Some((from, to)) = todo.pop() {
            match self.lookup(&from)? {
                Some(Kind::Value) => {
                    let time = match self.changes.get(&from) {
                        Some(Change::Set { time, .. }) => *time,
                        _ => Some(nanos(self.read(|store| store.last_modified(&from))?)),
                    };
                    moved.push((to, self.get(&from)?, time));
                }
                Some(Kind::Dictionary) => {
                    for (child, _) in self.children(&from)? {
                        let to = to.child(child.basename());
                        todo.push((child, to));
                    }
                }
                None => {}
            }
        }
        self.replace(source, Change::Gone);
        moved.into_iter().try_for_each(|(key, data, time)| self.put(&key, data, time))
    }

    fn put(&mut self, key: &Key, data: Vec<u8>, time: Option<i64>) -> Result<()> {
        let core = self.store.core();
        core.check(key)?;
        if data.len() as u64 > u64::from(core.fs.superblock().file_max) {
            return Err(crate::Error::FileTooLarge.into());
        }
        drop(core);
        let is_unknown = match self.own(key)? {
            Own::Set(_) => false,
            Own::Gone => {
                if self.lookup(key)? == Some(Kind::Dictionary) {
                    return Err(Error::ValueExpected(key.clone()));
                }
                false
            }
            Own::Unknown => true,
        };
        let change = Change::Set { data, time };
        if is_unknown {
            let changed_inside = self.inside(key).next().is_some();
            // the batch may have removed all of its content
            if (changed_inside || !self.check(key, Expected::NoDictionary)?)
                && self.lookup(key)? == Some(Kind::Dictionary)
            {
                return Err(Error::ValueExpected(key.clone()));
            }
            if !changed_inside {
                self.changes.insert(key.clone(), change);
                return Ok(());
            }
        }
        self.replace(key, change);
        Ok(())
    }

    /// Check in the store that `key` meets the condition `expected`, and note that it must still do
    /// so at the end. Returns whether it does.
    ///
    /// # Errors
    /// `DictionaryExpected` if one of the segments before the last is a value.
    fn check(&mut self, key: &Key, expected: Expected) -> Result<bool> {
        let mut core = self.store.core();
        let found = core.find(key)?;
        let version = core.version;
        drop(core);
        let is_dictionary = matches!(found, Found::Root | Found::At(_, Node::Dir(_)));
        if is_dictionary && matches!(expected, Expected::NoDictionary) {
            return Ok(false);
        }
        let is_first = self.expected.is_empty();
        self.checked = (is_first || self.checked == Some(version)).then_some(version);
        self.expected.push((key.clone(), expected));
        Ok(true)
    }

    /// Replace all changes of `key`, and of keys inside it, with `change`.
    fn replace(&mut self, key: &Key, change: Change) {
        let inside: Vec<Key> = self.inside(key).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.changes.remove(&key);
        }
        self.changes.insert(key.clone(), change);
    }

    /// The changes of keys inside the dictionary `key`.
    fn inside<'s>(&'s self, key: &'s Key) -> impl Iterator<Item = (&'s Key, &'s Change)> {
        // keys inside `key` come after it
        let is_last = self.changes.last_key_value().is_none_or(|(last, _)| last <= key);
        let from = (!is_last).then(|| self.changes.range::<Key, _>((Excluded(key), Unbounded)));
        from.into_iter().flatten().take_while(|(k, _)| k.starts_with(key))
    }

    /// What the batch knows about `key` from its own changes.
    ///
    /// # Errors
    /// `DictionaryExpected` if one of the segments before the last is a value.
    fn own(&self, key: &Key) -> Result<Own<'_>> {
        if self.changes.is_empty() {
            return Ok(Own::Unknown);
        }
        let mut own = Own::Unknown;
        // the top-level dictionary itself is never changed
        for above in key.ancestors().skip(1) {
            match self.changes.get(&above) {
                Some(Change::Set { .. }) => return Err(Error::DictionaryExpected(above)),
                Some(Change::Gone) => own = Own::Gone,
                None => {}
            }
        }
        Ok(match self.changes.get(key) {
            Some(Change::Set { data, .. }) => Own::Set(data),
            Some(Change::Gone) => Own::Gone,
            None => own,
        })
    }

    /// What `key` refers to.
    ///
    /// # Errors
    /// `DictionaryExpected` if one of the segments before the last is a value.
    fn lookup(&mut self, key: &Key) -> Result<Option<Kind>> {
        let is_unknown = match self.own(key)? {
            Own::Set(_) => return Ok(Some(Kind::Value)),
            Own::Gone => false,
            Own::Unknown => true,
        };
        if key.is_root() || self.inside(key).any(|(_, c)| matches!(c, Change::Set { .. })) {
            return Ok(Some(Kind::Dictionary));
        }
        if !is_unknown {
            return Ok(None);
        }
        let found = self.read(|store| store.kind(key))?;
        if found == Some(Kind::Dictionary)
            && self.inside(key).next().is_some()
            && self.children(key)?.is_empty()
        {
            // the batch has removed everything in the dictionary
            return Ok(None);
        }
        Ok(found)
    }

    /// The entries of the dictionary `key`, sorted.
    fn children(&mut self, key: &Key) -> Result<Vec<(Key, Kind)>> {
        let mut keys = BTreeSet::new();
        if !matches!(self.own(key)?, Own::Gone) {
            match self.read(|store| store.list(key)) {
                Ok(list) => keys.extend(list.into_iter().map(|(key, _)| key)),
                // this batch creates the dictionary
                Err(Error::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        let depth = key.segments().count();
        let own = self.inside(key).filter_map(|(k, _)| k.segments().nth(depth));
        keys.extend(own.map(|segment| key.child(segment)).collect::<Vec<_>>());
        let mut list = Vec::new();
        for key in keys {
            if let Some(kind) = self.lookup(&key)? {
                list.push((key, kind));
            }
        }
        Ok(list)
    }

    /// Read from the store, and note whether the store has the same version as at the earlier
    /// reads.
    fn read<T>(&mut self, read: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        let before = self.store.core().version;
        let version = *self.version.get_or_insert(before);
        let value = read(self.store);
        if version != before || self.store.core().version != before {
            self.torn = true;
            return Err(Error::TooManyRetries);
        }
        value
    }
}
