//! Walking through the values of a directory pair by pair, without a search and without a separate
//! allocation for each value.

use super::pairs::PairIx;
use super::value::Value;
use super::{DirId, Fs};
use crate::disk::entry::Content;
use crate::disk::log::{Log, Packed};
use crate::disk::{Pair, name, tag};
use crate::error::{Error, Result};
use crate::mdir::{Data, Kind, Mdir, store};

/// What an entry refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The content of a file that is stored in its entry.
    Inline(&'a [u8]),
    /// A file in blocks, which must be opened to read it.
    Blocks,
    /// A directory.
    Dir,
}

/// What a row of [`Rows`] refers to.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// The bytes after its name, up to this position.
    Inline(usize),
    Blocks,
    Dir,
}

/// Some entries of a directory, with their content in one piece of memory, which can be reused.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// For each row: where its name is, and what it refers to.
    rows: Vec<(std::ops::Range<usize>, Held)>,
    /// The pair that was read last, if it was read as a whole, and the end of its log at that time:
    /// revision, offset, and tag.
    whole: Option<(Pair, [u32; 3])>,
}

impl Rows {
    /// The rows: the name of each, and what it refers to.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Shown<'_>)> {
        let part = |range| self.bytes.get(range).unwrap_or_default();
        self.rows.iter().map(move |(name, held)| {
            let shown = match *held {
                Held::Inline(end) => Shown::Inline(part(name.end..end)),
                Held::Blocks => Shown::Blocks,
                Held::Dir => Shown::Dir,
            };
            (part(name.clone()), shown)
        })
    }

    /// The name of the last row.
    pub fn last_name(&self) -> Option<&[u8]> {
        self.rows.last().and_then(|(name, _)| self.bytes.get(name.clone()))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }

    fn push(&mut self, name: &[u8], shown: Shown<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let end = self.bytes.len();
        let held = match shown {
            Shown::Inline(content) => {
                self.bytes.extend_from_slice(content);
                Held::Inline(self.bytes.len())
            }
            Shown::Blocks => Held::Blocks,
            Shown::Dir => Held::Dir,
        };
        self.rows.push((start..end, held));
    }
}

/// Selects the names after `from`, or with `reverse` before it.
#[derive(Clone, Copy)]
struct Beyond<'a> {
    from: Option<&'a [u8]>,
    reverse: bool,
}

impl Beyond<'_> {
    fn includes(self, candidate: &[u8]) -> bool {
        self.from.is_none_or(|from| match self.reverse {
            true => name::cmp(candidate, from).is_lt(),
            false => name::cmp(candidate, from).is_gt(),
        })
    }
}

impl Fs {
    /// Like [`Fs::rows`], but reuses the memory of `rows`. A pair that is not in memory is not kept
    /// there after reading, unless there is much room.
    ///
    /// # Errors
    /// Those of [`Fs::rows`].
    pub fn rows_into(
        &mut self,
        dir: DirId,
        from: Option<&[u8]>,
        reverse: bool,
        rows: &mut Rows,
    ) -> Result<()> {
        let _running = self.run();
        rows.clear();
        let before = rows.whole.take();
        let beyond = Beyond { from, reverse };
        let d = self.dir(dir)?;
        if !d.sorted {
            return self.rows_one_by_one(dir, beyond, rows);
        }
        let count = d.pairs.len();
        let mut next = match from {
            Some(from) => Some(self.index_of_pair(dir, from)?),
            None if reverse => count.checked_sub(1),
            None => Some(0),
        };
        while let Some(i) = next.filter(|&i| i < count && rows.rows.is_empty()) {
            let ix = self.dir(dir)?.pairs[i];
            let p = self.pair(ix);
            let now = (p.blocks, [p.end.rev, p.end.off, p.end.etag]);
            let is_as_before = before == Some(now) && !self.thread.dirty().contains(&ix);
            if !is_as_before {
                if !self.rows_of_pair(ix, beyond, rows)? {
                    rows.clear();
                    return self.rows_one_by_one(dir, beyond, rows);
                }
                rows.whole = Some(now);
            }
            next = if reverse { i.checked_sub(1) } else { Some(i + 1) };
        }
        if rows.rows.is_empty() {
            self.dirs.check_end(dir)?;
        }
        if reverse {
            rows.rows.reverse();
        }
        Ok(())
    }

    /// Add the entries of one pair. Returns false if one of them must be looked up in the usual
    /// way.
    fn rows_of_pair(&mut self, ix: PairIx, beyond: Beyond<'_>, rows: &mut Rows) -> Result<bool> {
        let has_room = self.thread.cached_bytes() < self.thread.cache_max() / 2;
        if has_room || self.pair(ix).is_in_memory() {
            return Ok(add_content(self.mdir(ix)?, beyond, rows));
        }
        Ok(add_log(&self.read_again(ix)?, beyond, rows))
    }

    /// The log of a pair that is not in memory, as it was read or written last.
    fn read_again(&self, ix: PairIx) -> Result<Log<Packed>> {
        let p = self.pair(ix);
        store::read_known(self.durable.dev(), p.blocks, p.end)
    }

    /// The content of the file `name` in `dir`, if it is stored in its entry and the pair of the
    /// entry is read without being kept in memory. In the other cases this returns `None`, and the
    /// entry must be looked up.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the pair was read and does not have the name.
    pub(super) fn content_in_passing(
        &mut self,
        dir: DirId,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if !self.dir(dir)?.sorted {
            return Ok(None);
        }
        let index = self.index_of_pair(dir, name)?;
        let ix = self.dir(dir)?.pairs[index];
        if self.pair(ix).is_in_memory() || self.thread.keeps_next() {
            return Ok(None);
        }
        let log = self.read_again(ix)?;
        let mut entries = log.entries.iter();
        let Some(e) = entries.find(|e| e.name_type().is_some() && e.name() == name) else {
            return Err(Error::NotFound);
        };
        Ok(match (e.name_type(), e.content()) {
            (Some(tag::REG), Content::Inline(content)) if name::is_presentable(name) => {
                Some(content.to_vec())
            }
            _ => None,
        })
    }

    fn rows_one_by_one(&mut self, dir: DirId, beyond: Beyond<'_>, rows: &mut Rows) -> Result<()> {
        for (name, value) in self.rows(dir, beyond.from, beyond.reverse)? {
            match value {
                Value::Inline(content) => rows.push(&name, Shown::Inline(&content)),
                Value::Blocks { .. } => rows.push(&name, Shown::Blocks),
                Value::Dir(_) => rows.push(&name, Shown::Dir),
            }
        }
        Ok(())
    }
}

/// Add the entries of a pair that is in memory. Returns false if one of them must be looked up in
/// the usual way.
fn add_content(mdir: &Mdir, beyond: Beyond<'_>, rows: &mut Rows) -> bool {
    for e in mdir.entries.iter().filter(|e| e.is_visible() && beyond.includes(&e.name)) {
        let shown = match (e.kind, &e.data) {
            (Kind::File, Data::Inline(content)) => Shown::Inline(content),
            (Kind::File, Data::Ctz(_)) => Shown::Blocks,
            (Kind::Dir, Data::Dir { dir: Some(_), .. }) => Shown::Dir,
            _ => return false,
        };
        rows.push(&e.name, shown);
    }
    true
}

/// Add the entries of a pair that is not in memory. So none of them is open, waits for a move, or
/// has the same name as another one. Returns false if one of them must be looked up in the usual
/// way.
fn add_log(log: &Log<Packed>, beyond: Beyond<'_>, rows: &mut Rows) -> bool {
    for e in log.entries.iter() {
        match (e.name_type(), e.content()) {
            (Some(tag::SUPERBLOCK), _) | (None, Content::Missing) => {}
            (Some(tag::REG), content) if name::is_presentable(e.name()) => {
                let shown = match content {
                    Content::Inline(content) => Shown::Inline(content),
                    Content::List(_) => Shown::Blocks,
                    _ => return false,
                };
                if beyond.includes(e.name()) {
                    rows.push(e.name(), shown);
                }
            }
            _ => return false,
        }
    }
    true
}
