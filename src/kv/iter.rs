//! Iterating over a dictionary without holding the lock of the store.

use super::read::is_hidden;
use super::{Error, Key, Kind, Result, Store};
use crate::fs::{Node, Row, Rows, Shown, Value};

/// The position of an iterator in its dictionary.
struct Cursor<'a> {
    store: &'a Store,
    key: Key,
    reverse: bool,
    with_values: bool,
    rows: std::vec::IntoIter<Row>,
    /// The last name that was looked at.
    from: Option<Box<[u8]>>,
    done: bool,
}

/// The entries of a dictionary, without their values. No lock is held between two steps.
///
/// They come in the order of the image: by bytes, except that a name comes before its own prefixes.
/// An entry that exists all the time is returned once; an entry that is made, removed or changed in
/// the meantime may be returned or not.
pub struct Entries<'a>(Cursor<'a>);

/// The values directly in a dictionary, with their keys. In all other respects like [`Entries`].
pub struct Values<'a>(Cursor<'a>);

impl Store {
    /// Iterate over the entries of the dictionary `key`.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if it is a value.
    pub fn entries(&self, key: &Key) -> Result<Entries<'_>> {
        Ok(Entries(self.cursor(key, false, false)?))
    }

    /// Like [`Store::entries`], from the end to the start.
    ///
    /// # Errors
    /// Those of [`Store::entries`].
    pub fn entries_reversed(&self, key: &Key) -> Result<Entries<'_>> {
        Ok(Entries(self.cursor(key, true, false)?))
    }

    /// Iterate over the values directly in the dictionary `key`.
    ///
    /// # Errors
    /// Those of [`Store::entries`].
    pub fn values(&self, key: &Key) -> Result<Values<'_>> {
        Ok(Values(self.cursor(key, false, true)?))
    }

    /// Like [`Store::values`], from the end to the start.
    ///
    /// # Errors
    /// Those of [`Store::entries`].
    pub fn values_reversed(&self, key: &Key) -> Result<Values<'_>> {
        Ok(Values(self.cursor(key, true, true)?))
    }

    fn cursor(&self, key: &Key, reverse: bool, with_values: bool) -> Result<Cursor<'_>> {
        self.core().dictionary_at(key)?;
        Ok(Cursor {
            store: self,
            key: key.clone(),
            reverse,
            with_values,
            rows: Vec::new().into_iter(),
            from: None,
            done: false,
        })
    }
}

impl Store {
    /// Call `each` with the name and the content of every value directly in the dictionary `key`,
    /// in the order of [`Entries`], or with `reverse` in the opposite order. This is the fastest
    /// way to read a whole dictionary: no memory is allocated for each value, and values that were
    /// not cached before do not displace others from the cache. No lock is held while `each` runs.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if it is a value. An error of `each` ends the walk and
    /// is returned.
    pub fn scan(
        &self,
        key: &Key,
        reverse: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut rows = Rows::default();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let mut core = self.core();
            let dir = match core.dictionary_at(key) {
                // the dictionary was removed in the meantime
                Err(Error::NotFound(_) | Error::DictionaryExpected(_)) if from.is_some() => {
                    return Ok(());
                }
                dir => dir?,
            };
            core.fs.rows_into(dir, from.as_deref(), reverse, &mut rows)?;
            drop(core);
            let Some(last) = rows.last_name() else { return Ok(()) };
            let from = from.get_or_insert_default();
            from.clear();
            from.extend_from_slice(last);
            for (name, shown) in rows.iter().filter(|(name, _)| !is_hidden(dir, name)) {
                match shown {
                    Shown::Inline(value) => each(name, value)?,
                    Shown::Dir => {}
                    Shown::Blocks => {
                        if let Some(value) = self.get_if_there(&key.child(name))? {
                            each(name, &value)?;
                        }
                    }
                }
            }
        }
    }

    /// The value of `key`, unless it was removed or replaced in the meantime.
    fn get_if_there(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        match self.get(key) {
            Ok(value) => Ok(Some(value)),
            Err(Error::NotFound(_) | Error::ValueExpected(_) | Error::DictionaryExpected(_)) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

impl Cursor<'_> {
    /// The next visible entry. `None` at the end, or if the dictionary does not exist any more.
    fn next(&mut self) -> Option<Result<Row>> {
        while !self.done {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            if let Err(e) = self.load() {
                self.done = true;
                return match e {
                    Error::NotFound(_) | Error::DictionaryExpected(_) => None,
                    e => Some(Err(e)),
                };
            }
        }
        None
    }

    fn load(&mut self) -> Result<()> {
        let mut core = self.store.core();
        let dir = core.dictionary_at(&self.key)?;
        let from = self.from.as_deref();
        let mut rows = if self.with_values {
            core.fs.rows(dir, from, self.reverse)?
        } else {
            let nodes = core.fs.nodes(dir, from, self.reverse)?;
            let content = |node| match node {
                Node::File { size } => Value::Blocks { size },
                Node::Dir(dir) => Value::Dir(dir),
            };
            nodes.into_iter().map(|(name, node)| (name, content(node))).collect()
        };
        drop(core);
        match rows.last() {
            Some((last, _)) => self.from = Some(last.clone()),
            None => self.done = true,
        }
        rows.retain(|(name, _)| !is_hidden(dir, name));
        self.rows = rows.into_iter();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Key, Kind)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.next()?;
        Some(row.map(|(name, value)| {
            let kind = match value {
                Value::Dir(_) => Kind::Dictionary,
                Value::Inline(_) | Value::Blocks { .. } => Kind::Value,
            };
            (self.0.key.child(&name), kind)
        }))
    }
}

impl Iterator for Values<'_> {
    type Item = Result<(Key, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (name, value) = match self.0.next()? {
                Ok(row) => row,
                Err(e) => return Some(Err(e)),
            };
            let key = self.0.key.child(&name);
            match value {
                Value::Inline(bytes) => return Some(Ok((key, bytes))),
                Value::Dir(_) => {}
                Value::Blocks { .. } => match self.0.store.get_if_there(&key) {
                    Ok(Some(bytes)) => return Some(Ok((key, bytes))),
                    Ok(None) => {}
                    Err(e) => return Some(Err(e)),
                },
            }
        }
    }
}
