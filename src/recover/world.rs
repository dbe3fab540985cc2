//! The content of each block, which is examined once; also the present filesystem, and all
//! histories.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::{Half, History, Joint};
use super::version1;
use crate::bd::{BlockDevice, Geometry};
use crate::disk::dissect::{Dissection, reveal};
use crate::disk::log::{Parsed, parse};
use crate::disk::{Pair, Superblock, Tag, Tail, read_u32_le, rev_newer, tag};
use crate::error::Result;
use crate::image::Dialect;

/// How many blocks with the previous revision are tried as the other half of a block that no pair
/// names.
const JOINS_MAX: usize = 4;
/// How many bytes are read at a time.
const CHUNK: usize = 1 << 20;
/// How many bytes at the start of the device are searched for a superblock.
const SUPERBLOCK_MAX: u64 = 128 << 10;

/// The kind of a block according to its content alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every byte is 0xFF.
    Blank,
    /// Every byte is zero. Such a block was erased by another kind of device, is a hole in the
    /// image file, or is the first block of a file that begins with zeros.
    Zeros,
    /// It holds a valid commit.
    Metadata,
    /// Anything else.
    Data,
    /// It cannot be read.
    Unreadable,
}

/// The newest state of a metadata block, in short.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// The revision.
    pub rev: u32,
    /// The tail.
    pub tail: Option<Tail>,
    /// The superblock of version 2 in it.
    pub superblock: Option<Superblock>,
}

/// A history, and its relation to the present filesystem.
#[derive(Debug)]
pub struct Timeline {
    /// The states.
    pub history: History,
    /// The pair, if something names it.
    pub pair: Option<Pair>,
    /// Whether it belongs to the present filesystem, and ends with the present state of its pair.
    pub live: bool,
    /// Whether it is known to begin with the creation of the pair.
    pub full: bool,
    /// Whether its last state is known to be the last one of the pair.
    pub to_the_end: bool,
    /// Whether it contains commits that no driver reads, because they are behind a damaged one.
    pub hidden: bool,
    /// Whether it may lack later commits: one of its blocks goes on behind the last valid commit,
    /// or the other block of its pair has no valid commit although the pair is not new.
    pub unread: bool,
}

impl Timeline {
    /// The history of blocks that nothing names.
    fn new(history: History) -> Self {
        Self {
            history,
            pair: None,
            live: false,
            full: false,
            to_the_end: false,
            hidden: false,
            unread: false,
        }
    }
}

/// Everything that is known about an image before lists are followed.
pub struct World<'a> {
    /// The image.
    pub dev: &'a dyn BlockDevice,
    /// Its version: 2 or 1.
    dialect: Dialect,
    /// The first pair of the root directory.
    pub root: Pair,
    /// Its geometry.
    pub geometry: Geometry,
    /// The kind of each block.
    pub looks: Vec<Look>,
    /// The first word of each block. In a list, it leads to the block before.
    pub words: Vec<u32>,
    /// The superblock of the present filesystem, if there is one.
    pub superblock: Option<Superblock>,
    /// Whether a filesystem of another geometry or dialect exists now, which may have written
    /// anywhere.
    pub replaced: bool,
    /// Whether the thread of the present filesystem is sound, and every block can be read.
    pub whole: bool,
    /// Whether a log of the present filesystem may have commits that cannot be read.
    pub unread: bool,
    /// All histories. Those of the present filesystem come first, and the root's is the first of
    /// all.
    pub timelines: Vec<Timeline>,
}

impl<'a> World<'a> {
    /// Examine the whole device. `progress` is called with the number of blocks that were read.
    ///
    /// # Errors
    /// If no block can be read.
    pub fn new(dev: &'a dyn BlockDevice, dialect: Dialect, progress: &dyn Fn(u64)) -> Result<Self> {
        let geometry = dev.geometry();
        let mut world = Self {
            dev,
            dialect,
            root: Pair::SUPERBLOCK,
            geometry,
            looks: Vec::with_capacity(geometry.block_count as usize),
            words: Vec::with_capacity(geometry.block_count as usize),
            superblock: None,
            replaced: false,
            whole: false,
            unread: false,
            timelines: Vec::new(),
        };
        let mut metas = world.scan(progress)?;
        let live = match dialect {
            Dialect::V1 => world.walk_version1(&mut metas),
            _ => world.walk(&metas),
        };
        world.build(metas, &live);
        world.replaced = world.superblock.is_none() && world.begins_with_superblock();
        Ok(world)
    }

    /// Whether the device begins with a superblock of any block size, version or dialect.
    fn begins_with_superblock(&self) -> bool {
        let mut bytes = vec![0; SUPERBLOCK_MAX.min(self.geometry.size()) as usize];
        if self.dev.read(0, 0, &mut bytes).is_err() {
            return false;
        }
        let is_log = match parse(&bytes, bytes.len()) {
            Parsed::Log(log) => Superblock::of(&log).is_some(),
            _ => false,
        };
        is_log || version1::superblock(&bytes).is_some()
    }

    fn scan(&mut self, progress: &dyn Fn(u64)) -> Result<BTreeMap<u32, Meta>> {
        let mut metas = BTreeMap::new();
        let block_size = self.geometry.block_size as usize;
        let count = self.geometry.block_count as usize;
        let mut bytes = vec![0; (CHUNK / block_size).max(1) * block_size];
        let mut failed = None;
        while self.looks.len() < count {
            let first = self.looks.len();
            let len = (bytes.len() / block_size).min(count - first) * block_size;
            let chunk = bytes.get_mut(..len).unwrap_or_default();
            let whole = self.dev.read(first as u32, 0, chunk).is_ok();
            for (block, bytes) in (first as u32..).zip(chunk.chunks_mut(block_size)) {
                // if a chunk cannot be read as a whole, some of its blocks may be readable
                let read = if whole { Ok(()) } else { self.dev.read(block, 0, bytes) };
                if let Err(e) = read {
                    failed = Some(e);
                    bytes.fill(0xff);
                    self.looks.push(Look::Unreadable);
                } else {
                    let look = self.look_at(block, bytes, &mut metas);
                    self.looks.push(look);
                }
                self.words.push(read_u32_le(bytes, 0).unwrap_or(u32::MAX));
            }
            progress(self.looks.len() as u64);
        }
        match failed {
            Some(e) if self.looks.iter().all(|&look| look == Look::Unreadable) => Err(e.into()),
            _ => Ok(metas),
        }
    }

    fn look_at(&self, block: u32, bytes: &[u8], metas: &mut BTreeMap<u32, Meta>) -> Look {
        // whether all bytes are the same
        let is_uniform = || bytes.get(1..) == bytes.get(..bytes.len().saturating_sub(1));
        match bytes.first() {
            Some(0) if is_uniform() => return Look::Zeros,
            Some(0xff) if is_uniform() => return Look::Blank,
            _ => {}
        }
        match self.meta(bytes) {
            Some(meta) => {
                metas.insert(block, meta);
                Look::Metadata
            }
            None => Look::Data,
        }
    }

    /// The newest state of a block, if it holds metadata.
    fn meta(&self, bytes: &[u8]) -> Option<Meta> {
        if self.dialect == Dialect::V1 {
            return version1::meta(bytes);
        }
        let Parsed::Log(log) = parse(bytes, bytes.len()) else { return None };
        Some(Meta { rev: log.rev, tail: log.tail, superblock: Superblock::of(&log) })
    }

    /// The pairs of the directories in an image of version 1, to which entries and hard tails lead,
    /// the root first. The pair of the superblock has no states that matter, and is left out.
    fn walk_version1(&mut self, metas: &mut BTreeMap<u32, Meta>) -> Vec<Pair> {
        let superblock = newer(metas, Pair::SUPERBLOCK)
            .and_then(|(block, _)| version1::superblock(&self.read(block)?))
            .filter(|(superblock, _)| superblock.block_size == self.geometry.block_size);
        self.superblock = superblock.map(|(superblock, _)| superblock);
        // without a superblock, the root is where a driver puts it in a new filesystem
        self.root = superblock.map_or(Pair([2, 3]), |(_, root)| root);
        if self.superblock.is_none() {
            return Vec::new();
        }
        for block in Pair::SUPERBLOCK.0 {
            metas.remove(&block);
        }
        let (mut live, mut seen, mut is_sound) = (Vec::new(), HashSet::new(), true);
        let mut todo = vec![self.root];
        while let Some(pair) = todo.pop() {
            let found =
                newer(metas, pair).and_then(|(block, meta)| Some((meta, self.read(block)?)));
            let is_new = pair.0[0] != pair.0[1] && pair.0.iter().all(|&block| seen.insert(block));
            let Some((meta, bytes)) = found.filter(|_| is_new) else {
                is_sound = false;
                continue;
            };
            live.push(pair);
            todo.extend(version1::directories(&bytes));
            todo.extend(meta.tail.filter(|tail| tail.hard).map(|tail| tail.pair));
        }
        self.whole =
            is_sound && !self.looks.contains(&Look::Unreadable) && self.is_thread_of(metas, &live);
        live
    }

    /// Whether the thread of an image of version 1 has exactly these pairs.
    fn is_thread_of(&self, metas: &BTreeMap<u32, Meta>, live: &[Pair]) -> bool {
        let mut left: HashSet<[u32; 2]> = live.iter().map(|pair| sorted(*pair)).collect();
        let mut next = self.root;
        while !next.is_null() {
            let Some((_, meta)) = newer(metas, next) else { return false };
            if !left.remove(&sorted(next)) {
                return false;
            }
            next = meta.tail.map_or(Pair::NULL, |tail| tail.pair);
        }
        left.is_empty()
    }

    /// The pairs along the thread, found through their newer halves.
    fn walk(&mut self, metas: &BTreeMap<u32, Meta>) -> Vec<Pair> {
        let mut live = Vec::new();
        let mut seen = HashSet::new();
        let mut pair = Pair::SUPERBLOCK;
        let superblock = newer(metas, pair).and_then(|(_, meta)| meta.superblock);
        let same_size = |s: &Superblock| s.block_size == self.geometry.block_size;
        self.superblock = superblock.filter(|s| s.is_supported() && same_size(s));
        if self.superblock.is_none() {
            return live;
        }
        self.whole = loop {
            if pair.is_null() {
                break !self.looks.contains(&Look::Unreadable);
            }
            let Some((_, meta)) = newer(metas, pair) else { break false };
            if !pair.0.iter().all(|&block| seen.insert(block)) {
                break false;
            }
            live.push(pair);
            pair = meta.tail.map_or(Pair::NULL, |tail| tail.pair);
        };
        live
    }

    fn build(&mut self, mut metas: BTreeMap<u32, Meta>, live: &[Pair]) {
        let mut used = HashSet::new();
        for &pair in live {
            for timeline in self.of_pair(&metas, pair, true) {
                used.extend(timeline.history.halves.iter().map(|half| half.block));
                self.timelines.push(timeline);
            }
        }
        self.forget_content(&mut metas, &used);
        // pairs that some state names, if both of their halves are left
        let others: Vec<u32> = metas.keys().copied().filter(|b| !used.contains(b)).collect();
        let mut named: Vec<Pair> = self.named();
        let mut singles = Vec::new();
        for &block in &others {
            singles.extend(self.of_block(block));
        }
        named.extend(singles.iter().flat_map(|t| &t.history.pairs).map(|span| span.what));
        named.retain(|pair| pair.0.iter().all(|b| metas.contains_key(b) && !used.contains(b)));
        for pair in named {
            if pair.0.iter().any(|block| used.contains(block)) {
                continue;
            }
            let timelines = self.of_pair(&metas, pair, false);
            used.extend(pair.0);
            self.timelines.extend(timelines);
        }
        singles.retain(|t| !t.history.halves.iter().any(|half| used.contains(&half.block)));
        let singles = self.join(singles);
        self.timelines.extend(singles);
        if self.dialect == Dialect::Littlefs {
            let unread: Vec<bool> = self.timelines.iter().map(|t| self.is_unread(t)).collect();
            for (timeline, unread) in self.timelines.iter_mut().zip(unread) {
                timeline.unread = unread;
            }
            self.unread = self.timelines.iter().any(|t| t.live && t.unread);
            let mut hidden: Vec<_> = self.timelines.iter().filter_map(|t| self.hidden(t)).collect();
            hidden.extend(self.timelines.iter().filter_map(|t| self.hidden_before(t)));
            self.timelines.extend(hidden);
        }
    }

    /// Whether a history may lack later commits, which can have used any free block.
    ///
    /// An interrupted commit at its end looks like a damaged one, so this is true for both.
    fn is_unread(&self, timeline: &Timeline) -> bool {
        let halves = &timeline.history.halves;
        let goes_on = |half: &Half| {
            let taken = self.read(half.block).and_then(|bytes| Dissection::of(&bytes));
            taken.is_none_or(|taken| taken.is_written_on())
        };
        let is_without_commit = |block: u32| {
            let is_other = halves.iter().all(|half| half.block != block);
            is_other && matches!(self.look(block), Look::Data | Look::Zeros | Look::Unreadable)
        };
        let mut pair = timeline.pair.filter(|_| !timeline.full).into_iter().flat_map(|p| p.0);
        halves.iter().any(goes_on) || pair.any(is_without_commit)
    }

    /// The history of the same pair with the commits that no driver reads, because they are behind
    /// a damaged one.
    fn hidden(&self, timeline: &Timeline) -> Option<Timeline> {
        let halves = &timeline.history.halves;
        let last = *halves.last()?;
        let before = halves.len().checked_sub(2).and_then(|at| halves.get(at));
        // if the first commit of the newer block is damaged, the history ends in the older block
        let twin = timeline.pair.into_iter().flat_map(|pair| pair.0).find(|&block| {
            let is_newer = self.words.get(block as usize).is_some_and(|&w| rev_newer(w, last.rev));
            block != last.block && is_newer && self.look(block) == Look::Data
        });
        let in_twin = twin.and_then(|twin| self.revealed(timeline.pair, Some(last), twin));
        in_twin.or_else(|| self.revealed(timeline.pair, before.copied(), last.block))
    }

    /// The history of the older block of a pair with its hidden commits, if a driver has written
    /// the pair after they were damaged.
    fn hidden_before(&self, timeline: &Timeline) -> Option<Timeline> {
        let [older, _] = timeline.history.halves[..] else { return None };
        self.revealed(timeline.pair, None, older.block)
    }

    /// The history of a block with its hidden commits, if it has some. It begins in the block
    /// `older` if that one belongs to it.
    fn revealed(&self, pair: Option<Pair>, older: Option<Half>, block: u32) -> Option<Timeline> {
        let mut bytes = self.read(block)?;
        let damaged = reveal(&mut bytes)?;
        let joint = older.and_then(|older| {
            let old = self.read(older.block)?;
            Some(History::of_blocks((older.block, &old), (block, &bytes)))
        });
        let mut history = match joint {
            Some(Joint::One(history)) => *history,
            _ => History::of_block(block, &bytes)?,
        };
        history.mark_damaged(&damaged);
        Some(Timeline { pair, hidden: true, unread: true, ..Timeline::new(history) })
    }

    /// Blocks of present files hold no metadata of this filesystem, even if they look like
    /// metadata: a file may hold an image.
    fn forget_content(&mut self, metas: &mut BTreeMap<u32, Meta>, used: &HashSet<u32>) {
        let geometry = self.geometry;
        let spans = self.timelines.iter().filter(|t| t.live).flat_map(|t| &t.history.lists);
        let mut budget = 2_000_000 + u64::from(geometry.block_count);
        let mut content = HashSet::new();
        for list in spans.filter(|span| span.until.is_none()).map(|span| span.what) {
            let mut block = list.head;
            for _ in 0..list.blocks(geometry.block_size) {
                let Some(&word) = self.words.get(block as usize).filter(|_| budget > 0) else {
                    break;
                };
                budget -= 1;
                content.insert(block);
                block = word;
            }
        }
        for block in content.difference(used) {
            if metas.remove(block).is_some()
                && let Some(look) = self.looks.get_mut(*block as usize)
            {
                *look = Look::Data;
            }
        }
    }

    fn named(&self) -> Vec<Pair> {
        let spans = self.timelines.iter().flat_map(|t| &t.history.pairs);
        spans.map(|span| span.what).collect()
    }

    /// The histories in a pair: one if its halves follow each other, otherwise two. The first one
    /// ends with the present content of the pair.
    fn of_pair(&self, metas: &BTreeMap<u32, Meta>, pair: Pair, live: bool) -> Vec<Timeline> {
        let Some((newer, meta)) = newer(metas, pair) else { return Vec::new() };
        let older = if newer == pair.0[0] { pair.0[1] } else { pair.0[0] };
        let follows = metas.get(&older).is_some_and(|m| m.rev.wrapping_add(1) == meta.rev);
        let timeline = |history, full, to_the_end| Timeline {
            pair: Some(pair),
            live,
            full,
            to_the_end,
            ..Timeline::new(history)
        };
        let is_version1 = self.dialect == Dialect::V1;
        let Some(new) = self.read(newer) else { return Vec::new() };
        let old = self.read(older);
        let joint = match old.as_deref().filter(|_| follows) {
            Some(old) if is_version1 => {
                version1::history_of_blocks((older, old), (newer, &new), false)
            }
            Some(old) => History::of_blocks((older, old), (newer, &new)),
            None => Joint::None,
        };
        let is_clear = !matches!(joint, Joint::Unclear);
        if let Joint::One(both) = joint {
            return vec![timeline(*both, false, true)];
        }
        let Some(history) = self.history(newer, &new) else { return Vec::new() };
        let full = if is_version1 {
            old.as_deref().is_some_and(|old| version1::is_creation(meta.rev, old))
        } else {
            !metas.contains_key(&older)
                && old.as_deref().is_some_and(|old| is_creation(&history, meta.rev, old))
                || metas.contains_key(&older) && is_clear && history.first.entries == 0
        };
        let mut timelines = vec![timeline(history, full, full || !is_version1)];
        if metas.contains_key(&older) {
            timelines.extend(self.of_block(older));
        }
        timelines
    }

    fn of_block(&self, block: u32) -> Option<Timeline> {
        let history = self.history(block, &self.read(block)?)?;
        let to_the_end = self.dialect != Dialect::V1;
        Some(Timeline { to_the_end, ..Timeline::new(history) })
    }

    fn history(&self, block: u32, bytes: &[u8]) -> Option<History> {
        match self.dialect {
            Dialect::V1 => version1::history_of_block(block, bytes),
            _ => History::of_block(block, bytes),
        }
    }

    /// Join blocks that nothing names any more, if one block continues the state at the end of
    /// another.
    fn join(&self, singles: Vec<Timeline>) -> Vec<Timeline> {
        let half = |t: &Timeline| t.history.halves.first().copied();
        let mut by_rev: HashMap<u32, Vec<u32>> = HashMap::new();
        for half in singles.iter().filter_map(half) {
            by_rev.entry(half.rev).or_default().push(half.block);
        }
        let mut joined = Vec::new();
        let mut used = HashSet::new();
        for newer in singles.iter().filter_map(half) {
            let before = by_rev.get(&newer.rev.wrapping_sub(1)).map_or(&[][..], Vec::as_slice);
            for &older in before.iter().take(JOINS_MAX) {
                let (Some(old), Some(new)) = (self.read(older), self.read(newer.block)) else {
                    continue;
                };
                if used.contains(&older) || used.contains(&newer.block) {
                    continue;
                }
                let (older_half, newer_half) = ((older, &old[..]), (newer.block, &new[..]));
                let joint = match self.dialect {
                    Dialect::V1 => version1::history_of_blocks(older_half, newer_half, true),
                    _ => History::of_blocks(older_half, newer_half),
                };
                if let Joint::One(history) = joint {
                    used.extend([older, newer.block]);
                    let pair = Some(Pair([newer.block, older]));
                    joined.push(Timeline { pair, to_the_end: true, ..Timeline::new(*history) });
                }
            }
        }
        let is_left = |t: &Timeline| half(t).is_some_and(|half| !used.contains(&half.block));
        joined.extend(singles.into_iter().filter(is_left));
        joined
    }

    /// Whether a write that was not committed can be noticed in most cases. In version 1 it cannot:
    /// after each start, the driver allocates from the first free block on. So it often writes the
    /// new content of a file exactly over older content of the same file.
    pub fn shows_uncommitted_writes(&self) -> bool {
        self.dialect != Dialect::V1
    }

    /// The kind of a block.
    pub fn look(&self, block: u32) -> Look {
        self.looks.get(block as usize).copied().unwrap_or(Look::Unreadable)
    }

    fn read(&self, block: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.geometry.block_size as usize];
        self.dev.read(block, 0, &mut bytes).is_ok().then_some(bytes)
    }
}

fn sorted(pair: Pair) -> [u32; 2] {
    let mut blocks = pair.0;
    blocks.sort_unstable();
    blocks
}

/// Whether a history begins with the creation of its pair; `other` is the half without a valid
/// commit. A driver that creates a pair reads the number in that block as a revision, and continues
/// from it; only formatting writes both halves. But that half may also hide an earlier history, or
/// the present one, because its compaction was interrupted or because it is damaged. In this case
/// it is erased, has the next revision or a number from which no driver continues, or begins like a
/// log.
fn is_creation(history: &History, rev: u32, other: &[u8]) -> bool {
    let number = read_u32_le(other, 0).unwrap_or(u32::MAX);
    let first = rev.wrapping_sub(1);
    let follows = number == first;
    // a driver that levels wear rounds the number up to a multiple of an odd number
    let is_rounded =
        first.checked_sub(number).is_some_and(|up| first >> first.trailing_zeros().min(31) > up);
    let is_blank = other.iter().all(|&b| b == 0xff);
    let is_torn = number == rev.wrapping_add(1) || (is_blank && !follows);
    let is_like_log = other.get(4..8).and_then(|raw| raw.try_into().ok()).is_some_and(|raw| {
        let t = Tag(u32::from_be_bytes(raw) ^ tag::FIRST);
        let is_name = matches!(t.type3(), tag::REG | tag::DIR | tag::SUPERBLOCK);
        let is_other = matches!(t.type1(), tag::TAIL) || t.is_ccrc() || t.type3() == tag::MOVESTATE;
        !is_blank && t.is_valid() && (is_name || is_other)
    });
    let continues = follows || is_rounded && history.first.entries == 0;
    continues && !history.superblock && !is_torn && !is_like_log
}

/// The live half of a pair.
fn newer(metas: &BTreeMap<u32, Meta>, pair: Pair) -> Option<(u32, Meta)> {
    let half = |block: u32| metas.get(&block).map(|meta| (block, *meta));
    match (half(pair.0[0]), half(pair.0[1])) {
        (Some(a), Some(b)) => Some(if rev_newer(b.1.rev, a.1.rev) { b } else { a }),
        (a, b) => a.or(b),
    }
}
