//! Histories of metadata pairs of littlefs version 1, in which each block is one commit.
//!
//! A commit writes the block of a pair that is not live, with the next revision. Only a new pair
//! begins in another way: its driver reads the first word of one block, whatever that block holds,
//! and writes the other block with that number plus two as its revision. So if the revisions of two
//! blocks of a pair follow each other, they are two successive commits of one directory. If the
//! revision of one block is the first word of the other plus two, it is the first commit of its
//! pair.

use std::collections::HashSet;

use super::history::{CHANGES_MAX, Content, First, Half, History, Joint, Span, Version};
use super::world::Meta;
use crate::disk::superblock::probe_version1;
use crate::disk::{List, Pair, Superblock, Tail, read_u32_le};
use crate::v1::block::{self, Block, DIRECTORY, FILE};

/// A block of a pair, and its bytes.
type Bytes<'b> = (u32, &'b [u8]);

/// The state in a block, in short, if it is valid.
pub fn meta(bytes: &[u8]) -> Option<Meta> {
    let (rev, block) = block::of_bytes(bytes)?;
    Some(Meta { rev, tail: tail(&block), superblock: None })
}

/// The superblock in a block, and the first pair of the root.
pub fn superblock(bytes: &[u8]) -> Option<(Superblock, Pair)> {
    let (superblock, _) = probe_version1(bytes)?;
    let (_, block) = block::of_bytes(bytes)?;
    Some((superblock, Pair(block.entries.first()?.words())))
}

/// The first pairs of the directories that a valid block names, including entries that are being
/// moved.
pub fn directories(bytes: &[u8]) -> Vec<Pair> {
    let Some((_, block)) = block::of_bytes(bytes) else { return Vec::new() };
    let mut seen = HashSet::new();
    let dirs = block.entries.iter().filter(|entry| entry.kind == DIRECTORY && entry.data_len >= 8);
    dirs.map(|entry| Pair(entry.words())).filter(|pair| seen.insert(pair.0)).collect()
}

/// Whether a block of this revision is the first commit of its pair, whose other block is `other`.
pub fn is_creation(rev: u32, other: &[u8]) -> bool {
    read_u32_le(other, 0).is_some_and(|number| number.wrapping_add(2) == rev)
}

/// The single state in a block; `None` if it is not valid.
pub fn history_of_block(block: u32, bytes: &[u8]) -> Option<History> {
    let (rev, state) = block::of_bytes(bytes)?;
    Some(history(vec![Half { block, rev, first: 0 }], &[state]))
}

/// The states in two blocks, the second of which has the next revision. If it is only supposed that
/// the blocks belong to one pair, they must have a file or a directory in common.
pub fn history_of_blocks(older: Bytes<'_>, newer: Bytes<'_>, is_supposed: bool) -> Joint {
    let (Some((old_rev, old)), Some((new_rev, new))) =
        (block::of_bytes(older.1), block::of_bytes(newer.1))
    else {
        return Joint::None;
    };
    if old_rev.wrapping_add(1) != new_rev {
        return Joint::None;
    }
    let (before, after) = (entries(&old), entries(&new));
    let names = |entries: &[(Box<[u8]>, Content)]| -> HashSet<Box<[u8]>> {
        entries.iter().map(|(name, _)| name.clone()).collect()
    };
    let changes = names(&before).symmetric_difference(&names(&after)).count();
    let same = |entry: &&(Box<[u8]>, Content)| !entry.1.is_empty() && after.contains(entry);
    let shared = before.iter().take(SHARED_TRIED).filter(same).count();
    if changes > CHANGES_MAX {
        return Joint::None;
    }
    if is_supposed && shared == 0 {
        return Joint::Unclear;
    }
    let halves = vec![
        Half { block: older.0, rev: old_rev, first: 0 },
        Half { block: newer.0, rev: new_rev, first: 1 },
    ];
    Joint::One(Box::new(history(halves, &[old, new])))
}

/// How many entries are looked up in the other block. A few are enough, because the first ones are
/// in both blocks.
const SHARED_TRIED: usize = 64;

fn tail(block: &Block) -> Option<Tail> {
    block.next().map(|pair| Tail { pair, hard: block.continues })
}

/// The files and directories in a block.
fn entries(block: &Block) -> Vec<(Box<[u8]>, Content)> {
    let named = block.entries.iter().filter(|entry| entry.data_len >= 8);
    let content = |entry: &block::Entry| {
        let [first, second] = entry.words();
        Some(match entry.kind {
            FILE if second == 0 => Content::Inline(Box::default()),
            FILE => Content::List(List { head: first, size: second }),
            DIRECTORY => Content::Directory(Pair([first, second])),
            _ => return None,
        })
    };
    named.filter_map(|entry| Some((entry.name.clone(), content(entry)?))).collect()
}

/// The history that consists of one state, or of two.
fn history(halves: Vec<Half>, states: &[Block]) -> History {
    let mut history = History { halves, states: states.len(), ..History::default() };
    let mut versions: Vec<HashSet<(Box<[u8]>, Content)>> = Vec::new();
    let mut pairs: Vec<HashSet<Pair>> = Vec::new();
    for (number, state) in states.iter().enumerate() {
        let entries = entries(state);
        history.tail = tail(state);
        history.hardtails.extend(history.tail.filter(|tail| tail.hard).map(|tail| tail.pair));
        if number == 0 {
            let has_tail = history.tail.is_some();
            history.first = First { entries: entries.len(), has_tail };
        }
        let dirs = entries.iter().filter_map(|(_, content)| match content {
            Content::Directory(pair) => Some(*pair),
            _ => None,
        });
        pairs.push(dirs.chain(history.tail.map(|tail| tail.pair)).collect());
        versions.push(entries.into_iter().collect());
    }
    let lists: Vec<HashSet<List>> = versions
        .iter()
        .map(|entries| {
            let lists = entries.iter().filter_map(|(_, content)| match content {
                Content::List(list) => Some(*list),
                _ => None,
            });
            lists.collect()
        })
        .collect();
    history.lists = spans(&lists);
    history.pairs = spans(&pairs);
    history.versions = spans(&versions)
        .into_iter()
        .map(|span| {
            let (name, content) = span.what;
            Version {
                name,
                content,
                attrs: Vec::new(),
                named: span.from,
                from: span.from,
                until: span.until,
                damaged: false,
            }
        })
        .collect();
    history
}

/// The range of states of each element: the first state with it, and the first later one without
/// it.
fn spans<T: Clone + Eq + std::hash::Hash + Ord>(states: &[HashSet<T>]) -> Vec<Span<T>> {
    let mut spans = Vec::new();
    for (from, state) in states.iter().enumerate() {
        let before = from.checked_sub(1).and_then(|before| states.get(before));
        let mut new: Vec<&T> = state
            .iter()
            .filter(|what| before.is_none_or(|before| !before.contains(*what)))
            .collect();
        // sorted, so that the order is always the same
        new.sort_unstable();
        for what in new {
            let gone = states.iter().skip(from).position(|state| !state.contains(what));
            spans.push(Span { what: what.clone(), from, until: gone.map(|after| from + after) });
        }
    }
    spans
}
