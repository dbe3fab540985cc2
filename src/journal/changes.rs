//! What a transaction changed, by path: the trees of two states are compared.
//!
//! Only metadata pairs are read. From one state to the next, only those are read whose blocks the
//! transaction wrote. File data is read only when two files of the same size have to be compared.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::error::at;
use super::{Journal, JournalError};
use crate::bd::BlockDevice;
use crate::disk::list::{self, Broken};
use crate::disk::log::{Log, RawEntry};
use crate::disk::{List, Pair, entry, tag};
use crate::error::{Error, Result};
use crate::fs::read_list;
use crate::image;
use crate::mdir::store;
use crate::transactions::{At, JournalDevice, Reason, Transaction};

/// How many bytes of two files are compared at a time.
const CHUNK: usize = 64 << 10;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Kind {
    /// It is new.
    #[cfg_attr(feature = "serde", serde(rename = "A"))]
    Added,
    /// Its content or its attributes have changed.
    #[cfg_attr(feature = "serde", serde(rename = "M"))]
    Modified,
    /// It does not exist any more.
    #[cfg_attr(feature = "serde", serde(rename = "D"))]
    Deleted,
    /// It had another name.
    #[cfg_attr(feature = "serde", serde(rename = "R"))]
    Renamed,
}

impl Kind {
    /// The letter that stands for it in output.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Deleted => 'D',
            Self::Renamed => 'R',
        }
    }
}

/// A path that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path, which begins with a slash. That of a directory ends with a slash, too.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: Kind,
    /// Its former path, if it was renamed.
    pub from: Option<Vec<u8>>,
}

/// Paths are serialised as text. For a path that is not UTF-8, its bytes are given as well.
#[cfg(feature = "serde")]
impl serde::Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("path", &String::from_utf8_lossy(&self.path))?;
        if let Some(bytes) = crate::show::base64_unless_text(&self.path) {
            map.serialize_entry("path_base64", &bytes)?;
        }
        map.serialize_entry("change", &self.kind)?;
        if let Some(from) = &self.from {
            map.serialize_entry("from", &String::from_utf8_lossy(from))?;
            if let Some(bytes) = crate::show::base64_unless_text(from) {
                map.serialize_entry("from_base64", &bytes)?;
            }
        }
        map.end()
    }
}

/// Content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Inline(Box<[u8]>),
    List(List),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir(Pair),
    File(Content),
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    name: Box<[u8]>,
    node: Node,
    attrs: BTreeMap<u8, Box<[u8]>>,
}

/// The content of a metadata pair that matters here.
#[derive(Debug, PartialEq, Eq)]
struct PairState {
    items: Vec<Item>,
    /// The next pair of the directory.
    next: Option<Pair>,
}

/// One of the two states.
struct Side {
    dev: JournalDevice,
    /// The pairs, by their two blocks in ascending order.
    pairs: HashMap<[u32; 2], Rc<PairState>>,
    /// The pairs that were read since this list was last emptied.
    loaded: Vec<[u32; 2]>,
}

/// Goes from one state to the next, and reports what has changed.
pub struct Changes {
    old: Side,
    new: Side,
    /// For each block, the pairs that contain it.
    by_block: HashMap<u32, Vec<[u32; 2]>>,
}

/// Entries that exist only on one side, by path.
type Lone = BTreeMap<Vec<u8>, Item>;

/// The directories still to be compared, and the differences found so far.
#[derive(Default)]
struct Work {
    /// Directories to compare: the path, and the first pair on either side.
    todo: Vec<(Vec<u8>, Pair, Pair)>,
    seen: HashSet<[u32; 2]>,
    /// For each side, directories that exist only there and whose entries are in `deleted` or
    /// `added`.
    opened: [HashSet<[u32; 2]>; 2],
    deleted: Lone,
    added: Lone,
    /// Entries that exist on both sides and differ, as they are on the new side.
    modified: Lone,
    found: Vec<Change>,
}

impl Changes {
    /// Begin with the state of the image without the journal.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn new(journal: &Journal, image: &image::Opened) -> Result<Self, JournalError> {
        let dev = || JournalDevice::at_base(image.device.clone(), journal.file.clone());
        let mut this = Self::of(dev(), dev());
        this.old.load_all().map_err(|e| at(&journal.path)(Reason::from(e)))?;
        for key in std::mem::take(&mut this.old.loaded) {
            this.know(key);
        }
        this.new.pairs.clone_from(&this.old.pairs);
        Ok(this)
    }

    fn of(old: JournalDevice, new: JournalDevice) -> Self {
        let side = |dev| Side { dev, pairs: HashMap::new(), loaded: Vec::new() };
        Self { old: side(old), new: side(new), by_block: HashMap::new() }
    }

    /// What changed from one state to another.
    ///
    /// # Errors
    /// If a state does not exist or cannot be read.
    pub fn between(
        journal: &Journal,
        image: &image::Opened,
        from: &At,
        to: &At,
    ) -> Result<Vec<Change>, JournalError> {
        let old = journal.past(image.device.clone(), from)?;
        let new = journal.past(image.device.clone(), to)?;
        Self::of(old, new).compare().map_err(|e| at(&journal.path)(Reason::from(e)))
    }

    /// What the next transaction changes. It must be a transaction that was not dropped later by
    /// going back to an earlier state.
    ///
    /// # Errors
    /// If the journal or the image cannot be read.
    pub fn next(&mut self, t: &Transaction) -> std::result::Result<Vec<Change>, Reason> {
        let runs = self.new.dev.advance(t)?;
        let block_size = u64::from(self.new.dev.geometry().block_size);
        let mut touched = HashSet::new();
        for (start, len) in runs {
            touched.extend(start / block_size..(start + len).div_ceil(block_size));
        }
        let mut stale = Vec::new();
        for block in touched {
            // the block is inside the filesystem, so its number fits
            stale.extend(self.by_block.remove(&(block as u32)).unwrap_or_default());
        }
        for key in &stale {
            self.new.pairs.remove(key);
        }
        let found = self.compare()?;
        self.old.dev.advance(t)?;
        for key in &stale {
            self.old.pairs.remove(key);
        }
        for key in std::mem::take(&mut self.new.loaded) {
            if let Some(state) = self.new.pairs.get(&key) {
                self.old.pairs.insert(key, Rc::clone(state));
            }
            self.know(key);
        }
        Ok(found)
    }

    fn know(&mut self, key: [u32; 2]) {
        for block in key {
            self.by_block.entry(block).or_default().push(key);
        }
    }

    fn compare(&mut self) -> Result<Vec<Change>> {
        let mut work = Work::default();
        work.todo.push((b"/".to_vec(), Pair::SUPERBLOCK, Pair::SUPERBLOCK));
        loop {
            while let Some((path, old, new)) = work.todo.pop() {
                if work.seen.insert(key(new)) {
                    self.compare_dirs(&mut work, &path, old, new)?;
                }
            }
            if !match_dirs(&mut work) && !self.open_dirs(&mut work)? {
                break;
            }
        }
        self.match_files(&mut work)?;
        let Work { deleted, added, modified, mut found, .. } = work;
        for (lone, kind) in
            [(deleted, Kind::Deleted), (added, Kind::Added), (modified, Kind::Modified)]
        {
            let change = |path| Change { path, kind, from: None };
            found.extend(lone.into_keys().map(change));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Compare the entries of a directory on both sides.
    fn compare_dirs(&mut self, work: &mut Work, path: &[u8], old: Pair, new: Pair) -> Result<()> {
        let (old, new) = (self.old.chain(old)?, self.new.chain(new)?);
        if old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| Rc::ptr_eq(a, b)) {
            for item in new.iter().flat_map(|state| &state.items) {
                if let Node::Dir(pair) = item.node {
                    work.todo.push((join(path, item), pair, pair));
                }
            }
            return Ok(());
        }
        let mut before: BTreeMap<&[u8], &Item> = BTreeMap::new();
        before.extend(old.iter().flat_map(|state| &state.items).map(|item| (&*item.name, item)));
        for item in new.iter().flat_map(|state| &state.items) {
            let path = join(path, item);
            match before.remove(&*item.name) {
                None => _ = work.added.insert(path, item.clone()),
                Some(was) => match (&was.node, &item.node) {
                    (Node::Dir(old), Node::Dir(new)) => {
                        if was.attrs != item.attrs {
                            work.modified.insert(path.clone(), item.clone());
                        }
                        work.todo.push((path, *old, *new));
                    }
                    (Node::File(a), Node::File(b)) => {
                        if was.attrs != item.attrs || !self.same_content(a, b)? {
                            work.modified.insert(path, item.clone());
                        }
                    }
                    _ => {
                        work.deleted.insert(join_name(&path, was), was.clone());
                        work.added.insert(path, item.clone());
                    }
                },
            }
        }
        for was in before.into_values() {
            work.deleted.insert(join(path, was), was.clone());
        }
        Ok(())
    }

    /// Add the entries of directories that exist only on one side, one level deep. Returns whether
    /// there was such a directory that had not been opened before.
    fn open_dirs(&mut self, work: &mut Work) -> Result<bool> {
        let mut any = false;
        let (deleted, added) = (&mut work.deleted, &mut work.added);
        let [opened_old, opened_new] = &mut work.opened;
        for (lone, side, opened) in
            [(deleted, &mut self.old, opened_old), (added, &mut self.new, opened_new)]
        {
            let mut below = Lone::new();
            for (path, item) in lone.iter() {
                let Node::Dir(pair) = item.node else { continue };
                if !opened.insert(key(pair)) {
                    continue;
                }
                let chain = side.chain(pair)?;
                let items = chain.iter().flat_map(|state| &state.items);
                below.extend(items.map(|item| (join(path, item), item.clone())));
            }
            any |= !below.is_empty();
            lone.extend(below);
        }
        Ok(any)
    }

    /// Find files that were renamed: a file that is gone, and a file with the same content that is
    /// new or has replaced another one.
    fn match_files(&mut self, work: &mut Work) -> Result<()> {
        let mut gone: HashMap<Identity, Vec<Vec<u8>>> = HashMap::new();
        for (path, item) in &work.deleted {
            if let Some(key) = identity(item) {
                gone.entry(key).or_default().push(path.clone());
            }
        }
        let targets: Vec<(Vec<u8>, Item)> =
            work.added.iter().chain(&work.modified).map(|(p, i)| (p.clone(), i.clone())).collect();
        for (path, item) in targets {
            let Some(from) = identity(&item).and_then(|key| gone.get_mut(&key)) else { continue };
            // if several such files are gone, it is unknown which of them was renamed
            let [only] = &from[..] else { continue };
            let was = work.deleted.get(only).map(|was| was.node.clone());
            if let (Some(Node::File(a)), Node::File(b)) = (was, &item.node)
                && self.same_content(&a, b)?
            {
                let only = only.clone();
                from.clear();
                work.deleted.remove(&only);
                work.added.remove(&path);
                work.modified.remove(&path);
                work.found.push(Change { path, kind: Kind::Renamed, from: Some(only) });
            }
        }
        Ok(())
    }

    fn same_content(&self, old: &Content, new: &Content) -> Result<bool> {
        if old.size() != new.size() {
            return Ok(false);
        }
        if let (Content::Inline(a), Content::Inline(b)) = (old, new) {
            return Ok(a == b);
        }
        let size = old.size();
        let (Some(a), Some(b)) = (old.list(&self.old.dev)?, new.list(&self.new.dev)?) else {
            return Ok(false);
        };
        let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut off = 0;
        while off < size {
            let n = CHUNK.min((size - off) as usize);
            old.read(&self.old.dev, &a, off, &mut left[..n])?;
            new.read(&self.new.dev, &b, off, &mut right[..n])?;
            if left[..n] != right[..n] {
                return Ok(false);
            }
            off += n as u32;
        }
        Ok(true)
    }
}

/// Find directories that were renamed: one that is gone, and a new one that has a pair in common
/// with it. Returns whether there were any.
fn match_dirs(work: &mut Work) -> bool {
    let mut gone = HashMap::new();
    for (path, item) in &work.deleted {
        if let Node::Dir(pair) = item.node {
            gone.extend(pair.0.map(|block| (block, path.clone())));
        }
    }
    let mut any = false;
    for (path, item) in work.added.clone() {
        let Node::Dir(pair) = item.node else { continue };
        let Some(from) = pair.0.iter().find_map(|block| gone.get(block)).cloned() else { continue };
        let Some(Item { node: Node::Dir(was), .. }) = work.deleted.remove(&from) else { continue };
        work.added.remove(&path);
        // the entries of the two directories are compared with each other instead
        work.added.retain(|other, _| !other.starts_with(&path));
        work.deleted.retain(|other, _| !other.starts_with(&from));
        work.todo.push((path.clone(), was, pair));
        work.found.push(Change { path, kind: Kind::Renamed, from: Some(from) });
        any = true;
    }
    any
}

/// The key by which a removed and an added file are recognised as the same file: the head of the
/// list and its size, or the content of an inline file.
type Identity = (Option<u32>, Vec<u8>);

fn identity(item: &Item) -> Option<Identity> {
    match &item.node {
        Node::Dir(_) => None,
        Node::File(Content::Inline(bytes)) if bytes.is_empty() => None,
        Node::File(Content::Inline(bytes)) => Some((None, bytes.to_vec())),
        Node::File(Content::List(List { head, size })) => {
            Some((Some(*head), size.to_le_bytes().to_vec()))
        }
    }
}

fn join(dir: &[u8], item: &Item) -> Vec<u8> {
    let slash: &[u8] = if matches!(item.node, Node::Dir(_)) { b"/" } else { b"" };
    [dir, &item.name, slash].concat()
}

/// `path`, whose last name is that of `item`, in the form for `item`: with a slash at the end if it
/// is a directory.
fn join_name(path: &[u8], item: &Item) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    join(&path[..path.len() - item.name.len().min(path.len())], item)
}

fn key(pair: Pair) -> [u32; 2] {
    let [a, b] = pair.0;
    [a.min(b), a.max(b)]
}

impl Content {
    fn size(&self) -> u32 {
        match self {
            Self::Inline(bytes) => bytes.len() as u32,
            Self::List(list) => list.size,
        }
    }

    /// The addresses of the blocks of its list; `None` if the list is damaged.
    fn list(&self, dev: &dyn BlockDevice) -> Result<Option<Vec<u32>>> {
        let Self::List(list) = *self else { return Ok(Some(Vec::new())) };
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        match list::addresses(dev.geometry(), list, read) {
            Ok(blocks) => Ok(Some(blocks)),
            Err(Broken::Unreadable { error, .. }) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    fn read(&self, dev: &dyn BlockDevice, list: &[u32], off: u32, out: &mut [u8]) -> Result<()> {
        match self {
            Self::Inline(bytes) => {
                let here = bytes.get(off as usize..off as usize + out.len()).unwrap_or_default();
                out[..here.len()].copy_from_slice(here);
                Ok(())
            }
            Self::List(_) => read_list(dev, list, off, out),
        }
    }
}

impl Side {
    fn load(&mut self, pair: Pair) -> Result<Rc<PairState>> {
        if let Some(state) = self.pairs.get(&key(pair)) {
            return Ok(Rc::clone(state));
        }
        let state = match store::fetch(&self.dev, pair) {
            Ok(fetched) => PairState::of(&fetched.log),
            // a damaged pair has no entries to compare
            Err(Error::Corrupt(_)) => PairState { items: Vec::new(), next: None },
            Err(e) => return Err(e),
        };
        let state = Rc::new(state);
        self.pairs.insert(key(pair), Rc::clone(&state));
        self.loaded.push(key(pair));
        Ok(state)
    }

    /// The pairs of the directory whose first pair is `first`.
    fn chain(&mut self, first: Pair) -> Result<Vec<Rc<PairState>>> {
        let (mut chain, mut seen) = (Vec::new(), HashSet::new());
        let mut next = Some(first);
        while let Some(pair) = next.filter(|pair| seen.insert(key(*pair))) {
            let state = self.load(pair)?;
            next = state.next;
            chain.push(state);
        }
        Ok(chain)
    }

    /// Load every pair of the tree.
    fn load_all(&mut self) -> Result<()> {
        let (mut todo, mut seen) = (vec![Pair::SUPERBLOCK], HashSet::new());
        while let Some(pair) = todo.pop() {
            if !seen.insert(key(pair)) {
                continue;
            }
            let state = self.load(pair)?;
            todo.extend(state.next);
            todo.extend(state.items.iter().filter_map(|item| match item.node {
                Node::Dir(pair) => Some(pair),
                Node::File(_) => None,
            }));
        }
        Ok(())
    }
}

impl PairState {
    fn of(log: &Log) -> Self {
        let next = log.tail.filter(|tail| tail.hard && !tail.pair.is_null()).map(|tail| tail.pair);
        Self { items: log.entries.iter().filter_map(Item::of).collect(), next }
    }
}

impl Item {
    /// The entry; `None` if it is neither a file nor a directory, or is damaged.
    fn of(e: &RawEntry) -> Option<Self> {
        let node = match (e.name_type?, entry::Content::of(e)) {
            (tag::DIR, entry::Content::Dir(pair)) => Node::Dir(pair),
            (tag::REG, entry::Content::Inline(data)) => Node::File(Content::Inline(data.into())),
            (tag::REG, entry::Content::List(list)) => Node::File(Content::List(list)),
            _ => return None,
        };
        let attrs = e.attrs.iter().map(|(ty, data)| (*ty, data.to_box())).collect();
        Some(Self { name: e.name.to_box(), node, attrs })
    }
}
