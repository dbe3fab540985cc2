//! The history of a metadata pair, as far as its two blocks still hold it. There is one state for
//! each commit.
//!
//! Ids shift with every creation and deletion. So the commits are replayed one by one, and a name
//! is combined only with the content that it had at the end of a commit, never with content from
//! the middle of one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::disk::log::{Parsed, RawEntry, Replay, Step, replay};
use crate::disk::{List, Pair, Tag, Tail, entry, tag};

/// The longest attributes that are kept, in bytes. No known convention for times has longer ones.
const ATTR_MAX: usize = 40;
/// How many entries a compaction, which is one commit, can remove or add. A rename over another
/// entry changes three.
pub const CHANGES_MAX: usize = 3;

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// The bytes themselves, which the CRC of the commit covers.
    Inline(Box<[u8]>),
    /// A list of blocks.
    List(List),
    /// The first pair of a directory.
    Directory(Pair),
}

impl Content {
    fn of(entry: &RawEntry) -> Option<Self> {
        match (entry.name_type?, entry::Content::of(entry)) {
            (tag::SUPERBLOCK, _) => None,
            (tag::DIR, entry::Content::Dir(pair)) => Some(Self::Directory(pair)),
            (tag::DIR, _) => None,
            (_, entry::Content::Inline(bytes)) => Some(Self::Inline(bytes.into())),
            // an empty list has no blocks; no driver writes one
            (_, entry::Content::List(list)) if list.size > 0 => Some(Self::List(list)),
            _ => None,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Inline(bytes) if bytes.is_empty())
    }

    fn held(&self) -> Option<Held> {
        match self {
            Self::Inline(_) => None,
            Self::List(list) => Some(Held::List(*list)),
            Self::Directory(pair) => Some(Held::Pair(*pair)),
        }
    }
}

/// The blocks that the states of a pair name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Held {
    List(List),
    Pair(Pair),
}

/// A fact that was true from one state up to another, or up to the last one.
#[derive(Debug, Clone, Copy)]
pub struct Span<T> {
    /// The fact.
    pub what: T,
    /// The first state in which it was true.
    pub from: usize,
    /// The first later state in which it was not true any more.
    pub until: Option<usize>,
}

/// A name with the content that it had.
#[derive(Debug, Clone)]
pub struct Version {
    /// The name.
    pub name: Box<[u8]>,
    /// The content of the entry.
    pub content: Content,
    /// Its short user attributes, with their last values.
    pub attrs: Vec<(u8, Box<[u8]>)>,
    /// The state in which the entry got this name.
    pub named: usize,
    /// The first state that had this version.
    pub from: usize,
    /// The first later state that no longer had it.
    pub until: Option<usize>,
    /// Whether its content or its name comes from a commit whose CRC does not match, or one between
    /// these two commits does not match.
    pub damaged: bool,
}

/// One of the blocks of a history.
#[derive(Debug, Clone, Copy)]
pub struct Half {
    /// Its address.
    pub block: u32,
    /// Its revision.
    pub rev: u32,
    /// The state after the first commit of the block.
    pub first: usize,
}

/// What is known about the first state of a history.
#[derive(Debug, Clone, Copy, Default)]
pub struct First {
    /// How many entries have a name, without the superblock entry.
    pub entries: usize,
    /// Whether it has a tail that leads to another pair.
    pub has_tail: bool,
}

/// The states of one metadata log, or of two logs that follow each other.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its blocks, the older one first.
    pub halves: Vec<Half>,
    /// Every combination of a name and a content.
    pub versions: Vec<Version>,
    /// Every list of an entry.
    pub lists: Vec<Span<List>>,
    /// Every pair that an entry or a tail named.
    pub pairs: Vec<Span<Pair>>,
    /// The pairs in which this directory continued.
    pub hardtails: Vec<Pair>,
    /// The tail in the last state.
    pub tail: Option<Tail>,
    /// How many states there are.
    pub states: usize,
    /// The first state.
    pub first: First,
    /// Whether it contains a superblock entry.
    pub superblock: bool,
}

impl History {
    /// The history in one block; `None` if no commit in it is valid.
    pub fn of_block(block: u32, bytes: &[u8]) -> Option<Self> {
        let mut builder = Builder::default();
        builder.add(block, bytes).then(|| builder.finish())
    }

    /// The history in two blocks, if the second one, which has the next revision, continues the
    /// state at the end of the first one.
    pub fn of_blocks(older: (u32, &[u8]), newer: (u32, &[u8])) -> Joint {
        let mut builder = Builder::default();
        if !builder.add(older.0, older.1) || !builder.add(newer.0, newer.1) {
            return Joint::None;
        }
        match (builder.changes <= CHANGES_MAX, builder.shared > 0) {
            (true, true) => Joint::One(Box::new(builder.finish())),
            (true, false) => Joint::Unclear,
            (false, _) => Joint::None,
        }
    }

    /// Note that the commits with these numbers, from 0 on, in the last block are damaged.
    ///
    /// A tag that has changed may have shifted the ids of all entries. So neither what begins in
    /// such a commit is certain, nor what a later commit writes to an entry that was named before.
    pub fn mark_damaged(&mut self, commits: &[usize]) {
        let first = self.halves.last().map_or(0, |half| half.first);
        for version in &mut self.versions {
            let span = version.named..=version.from;
            version.damaged = commits.iter().any(|n| span.contains(&(first + n)));
        }
    }

    /// The block that holds a state, and the number of its commit in the block, from 1 on.
    pub fn place(&self, state: usize) -> Option<(Half, usize)> {
        let half = self.halves.iter().rev().find(|half| half.first <= state)?;
        Some((*half, state - half.first + 1))
    }
}

/// Whether two blocks belong together. The revision does not decide this, because a new directory
/// in the place of an old one can have the next revision, too.
#[derive(Debug)]
pub enum Joint {
    /// The second begins with the entries with which the first ended, except for the changes of one
    /// commit.
    One(Box<History>),
    /// They have no entry in common, but so few entries that a single commit can have changed them
    /// all.
    Unclear,
    /// The second belongs to another directory, or to another time.
    None,
}

/// An id during the replay.
#[derive(Default)]
struct Slot {
    held: Option<Held>,
    version: Option<usize>,
    touched: bool,
    /// The state in which it got its name.
    named: usize,
}

#[derive(Default)]
struct Builder {
    history: History,
    slots: Vec<Slot>,
    /// The change, by the present commit, in the number of entries and tails that hold a list or
    /// pair.
    changed: HashMap<Held, i32>,
    /// The lists and pairs that are held: by how many entries and tails, and since which state.
    held: HashMap<Held, (i32, usize)>,
    /// Versions that the present commit ends.
    ending: Vec<usize>,
    /// At the first commit of the second block: the versions in the last state of the first block.
    carried: Option<HashMap<u64, usize>>,
    /// How many entries differ between the last state of the first block and the first state of the
    /// second.
    changes: usize,
    /// How many entries with content are in both.
    shared: usize,
    /// In how many pairs this directory continued at the end of the first block.
    hardtails: usize,
}

impl Builder {
    /// Replay a block. The result says whether it holds a valid commit.
    fn add(&mut self, block: u32, bytes: &[u8]) -> bool {
        let first = self.history.states;
        if first > 0 {
            self.carry();
        }
        let parsed = replay(bytes, bytes.len(), |log, step| match step {
            Step::Tag(t, _) => self.tag(t, log.id_count()),
            Step::Commit => self.commit(log),
        });
        let Parsed::Log(log) = parsed else { return false };
        self.history.halves.push(Half { block, rev: log.rev, first });
        self.history.tail = log.tail;
        true
    }

    /// Note that the next state is the first one of another block.
    fn carry(&mut self) {
        self.hardtails = self.history.hardtails.len();
        let mut carried = HashMap::new();
        for slot in std::mem::take(&mut self.slots) {
            if let Some(held) = slot.held {
                *self.changed.entry(held).or_default() -= 1;
            }
            let version = slot.version.and_then(|v| Some((v, self.history.versions.get(v)?)));
            if let Some((index, version)) = version {
                carried.insert(key(&version.name, &version.content), index);
            }
        }
        self.carried = Some(carried);
    }

    /// Apply the effect of a tag on the ids. After it, there are `len` ids.
    fn tag(&mut self, t: Tag, len: usize) {
        let id = usize::from(t.id());
        match t.type3() {
            tag::DELETE if len < self.slots.len() => {
                let slot = self.slots.remove(id.min(len));
                self.ending.extend(slot.version);
                if let Some(held) = slot.held {
                    *self.changed.entry(held).or_default() -= 1;
                }
            }
            tag::CREATE if len > self.slots.len() => {
                self.slots.resize_with(len - 1, Slot::default);
                self.slots.insert(id.min(len - 1), Slot::default());
            }
            _ => self.slots.resize_with(len, Slot::default),
        }
        if let tag::NAME | tag::STRUCT | tag::USERATTR = t.type1()
            && let Some(slot) = self.slots.get_mut(id)
        {
            slot.touched = true;
            if t.type1() == tag::NAME {
                slot.named = self.history.states;
            }
        }
    }

    fn commit(&mut self, log: &Replay<'_>) {
        let state = self.history.states;
        let mut slots = std::mem::take(&mut self.slots);
        for (id, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.touched) {
            slot.touched = false;
            if let Some(entry) = log.entry(id) {
                self.update(slot, &entry);
            }
        }
        self.slots = slots;
        self.set_tail(log.tail());
        let has_superblock = log.name_type(0) == Some(tag::SUPERBLOCK);
        if let Some(carried) = self.carried.take() {
            // a pair keeps its superblock entry, and few pairs have one
            match (self.history.superblock, has_superblock) {
                (true, true) => self.shared += 1,
                (false, false) => {}
                _ => self.changes = CHANGES_MAX + 1,
            }
            // the entries that are missing at the start of the second block; after a split, they do
            // not count as changes, because it moves any number of entries to a new pair
            let tails = self.history.hardtails.len();
            if !(self.hardtails < tails && log.tail().is_some_and(|tail| tail.hard)) {
                self.changes += carried.len();
            }
            self.ending.extend(carried.into_values());
        }
        for index in self.ending.drain(..) {
            if let Some(version) = self.history.versions.get_mut(index) {
                version.until = Some(state);
            }
        }
        for (held, change) in self.changed.drain() {
            let (count, from) = self.held.get(&held).copied().unwrap_or((0, state));
            match count + change {
                0 if count > 0 => {
                    self.held.remove(&held);
                    self.history.span(held, from, Some(state));
                }
                now if now > 0 => _ = self.held.insert(held, (now, from)),
                _ => {}
            }
        }
        self.history.superblock |= has_superblock;
        if state == 0 {
            let types = (0..log.id_count()).filter_map(|id| log.name_type(id));
            self.history.first = First {
                entries: types.filter(|&ty| ty != tag::SUPERBLOCK).count(),
                has_tail: log.tail().is_some_and(|tail| !tail.pair.is_null()),
            };
        }
        self.history.states += 1;
    }

    fn update(&mut self, slot: &mut Slot, entry: &RawEntry) {
        let content = Content::of(entry);
        let held = content.as_ref().and_then(Content::held);
        if held != slot.held {
            for (held, change) in [(slot.held, -1), (held, 1)] {
                if let Some(held) = held {
                    *self.changed.entry(held).or_default() += change;
                }
            }
            slot.held = held;
        }
        let attrs = || {
            let short = entry.attrs.iter().filter(|(_, data)| data.len() <= ATTR_MAX);
            short.map(|(ty, data)| (*ty, data.to_box())).collect::<Vec<_>>()
        };
        let versions = &mut self.history.versions;
        let old = slot.version.and_then(|index| versions.get_mut(index));
        match (old, content) {
            (Some(old), Some(content)) if *old.name == *entry.name && old.content == content => {
                old.attrs = attrs();
            }
            (_, content) => {
                self.ending.extend(slot.version.take());
                let Some(content) = content else { return };
                if let Some(carried) = &mut self.carried {
                    slot.version = carried.remove(&key(&entry.name, &content));
                    if slot.version.is_some() {
                        self.shared += usize::from(!content.is_empty());
                        return;
                    }
                    self.changes += 1;
                }
                slot.version = Some(versions.len());
                versions.push(Version {
                    name: entry.name.to_box(),
                    content,
                    attrs: attrs(),
                    named: slot.named,
                    from: self.history.states,
                    until: None,
                    damaged: false,
                });
            }
        }
    }

    fn set_tail(&mut self, tail: Option<Tail>) {
        if tail == self.history.tail {
            return;
        }
        for (tail, change) in [(self.history.tail, -1), (tail, 1)] {
            if let Some(tail) = tail.filter(|tail| !tail.pair.is_null()) {
                *self.changed.entry(Held::Pair(tail.pair)).or_default() += change;
            }
        }
        if let Some(tail) = tail.filter(|tail| tail.hard && !tail.pair.is_null()) {
            self.history.hardtails.push(tail.pair);
        }
        self.history.tail = tail;
    }

    fn finish(mut self) -> History {
        for (held, (_, from)) in std::mem::take(&mut self.held) {
            self.history.span(held, from, None);
        }
        self.history
    }
}

impl History {
    fn span(&mut self, held: Held, from: usize, until: Option<usize>) {
        match held {
            Held::List(what) => self.lists.push(Span { what, from, until }),
            Held::Pair(what) => self.pairs.push(Span { what, from, until }),
        }
    }
}

fn key(name: &[u8], content: &Content) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, content).hash(&mut hasher);
    hasher.finish()
}
