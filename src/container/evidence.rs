//! What the tree behind a superblock says about where the filesystem starts.
//!
//! Addresses on disk count blocks from the start. Read from a wrong start, one of two adjacent
//! blocks of a pair still looks right; but not both, and not the pointers of a file's list.

use std::collections::{HashSet, VecDeque};

use super::{ReadAt, Window};
use crate::bd::{BlockDevice, Geometry};
use crate::disk::log::Log;
use crate::disk::{Pair, Superblock, ctz, read_u32_le, rev_newer, tag};
use crate::mdir::store;
use crate::v1::block;

use super::half::are_neighbours;

/// Pairs looked at.
const PAIRS_MAX: u64 = 32;
/// Lists of files looked at.
const LISTS_MAX: usize = 32;
/// Blocks of a list looked at.
const STEPS_MAX: u32 = 16;
/// Bytes of metadata looked at.
const BYTES_MAX: u64 = 16 << 20;
/// Pairs that are looked at however large their blocks are: one besides the first.
const PAIRS_MIN: u64 = 2;

/// How much of what a superblock leads to is where it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Blocks of pairs that hold what they should; two for each list whose pointers agree.
    pub good: u32,
    /// Pairs and lists that are not there.
    pub bad: u32,
}

impl Evidence {
    /// Look at some of what the filesystem at byte `at` holds.
    pub fn gather(source: &dyn ReadAt, at: u64, superblock: &Superblock) -> Self {
        let Ok(geometry) = Geometry::new(superblock.block_size, superblock.block_count) else {
            return Self::default();
        };
        let dev = Window::new(source, at, geometry);
        let affordable = BYTES_MAX / (2 * u64::from(geometry.block_size));
        let mut pairs = affordable.clamp(PAIRS_MIN, PAIRS_MAX);
        let mut lists = LISTS_MAX;
        let mut evidence = Self::default();
        let mut seen: HashSet<u32> = HashSet::new();
        let mut queue = VecDeque::from([Pair::SUPERBLOCK]);
        let read = if superblock.is_version1() { Node::read_v1 } else { Node::read };
        while let Some(pair) = queue.pop_front() {
            if !pair.0.map(|block| seen.insert(block)).contains(&true) {
                continue;
            }
            if pairs == 0 {
                break;
            }
            pairs -= 1;
            let Some(node) = evidence.weigh_pair(&dev, pair, read) else { continue };
            for (head, size) in node.lists {
                if lists > 0 {
                    lists -= 1;
                    evidence.weigh_list(&dev, head, size);
                }
            }
            queue.extend(node.pairs);
        }
        evidence
    }

    /// Count the valid blocks of a pair, and give what the newer one leads to. The first pair is what
    /// is in question and no evidence.
    fn weigh_pair(
        &mut self,
        dev: &dyn BlockDevice,
        pair: Pair,
        read: impl Fn(&dyn BlockDevice, u32) -> Option<Node>,
    ) -> Option<Node> {
        if store::check_pair(dev.geometry(), pair).is_err() {
            self.bad += 1;
            return None;
        }
        let [a, b] = pair.0.map(|block| read(dev, block));
        if pair == Pair::SUPERBLOCK {
            let strays = [&a, &b].into_iter().flatten().filter(|node| node.stray).count();
            self.bad += strays as u32;
        }
        let (good, newest) = match (a, b) {
            (Some(a), Some(b)) => {
                let good = if are_neighbours(a.rev, b.rev) { 2 } else { 1 };
                (good, Some(if rev_newer(b.rev, a.rev) { b } else { a }))
            }
            (Some(node), None) | (None, Some(node)) => (1, Some(node)),
            (None, None) => (0, None),
        };
        if pair != Pair::SUPERBLOCK {
            self.good += good;
            self.bad += u32::from(newest.is_none());
        }
        newest
    }

    /// Follow a file's list for some blocks.
    fn weigh_list(&mut self, dev: &dyn BlockDevice, head: u32, size: u32) {
        let geometry = dev.geometry();
        let Some(last) = ctz::blocks(geometry.block_size, size).checked_sub(1) else { return };
        if head >= geometry.block_count || last >= geometry.block_count {
            self.bad += 1;
        } else if last > 0 {
            // a single block is all data, and says nothing
            match pointers_agree(dev, head, last) {
                true => self.good += 2,
                false => self.bad += 1,
            }
        }
    }
}

/// Whether the pointers of the list whose block `index` is `head` are possible, and agree.
pub(super) fn pointers_agree(dev: &dyn BlockDevice, head: u32, index: u32) -> bool {
    let (mut block, mut expected) = (head, None);
    for i in (index.saturating_sub(STEPS_MAX) + 1..=index).rev() {
        let mut bytes = [0; 8];
        if dev.read(block, 0, &mut bytes).is_err() {
            return false;
        }
        let pointer = |k: usize| {
            read_u32_le(&bytes, 4 * k).filter(|&p| (2..dev.geometry().block_count).contains(&p))
        };
        let Some(next) = pointer(0) else { return false };
        // block i - 1 was named by block i + 1, too, where that has a second pointer
        if expected.is_some_and(|e| e != next) {
            return false;
        }
        expected = None;
        if ctz::pointers(i) > 1 && i > 1 {
            match pointer(1) {
                // it leads to block i - 2, as the first pointer of block i - 1 must
                Some(p) => expected = Some(p),
                None => return false,
            }
        }
        block = next;
    }
    true
}

/// What a valid block of metadata leads to.
pub(super) struct Node {
    rev: u32,
    /// Head and size of the lists of files.
    pub lists: Vec<(u32, u32)>,
    /// Other pairs.
    pub pairs: Vec<Pair>,
    /// Whether it cannot be a superblock: with version 1, where the root is another pair.
    stray: bool,
}

impl Node {
    pub fn read(dev: &dyn BlockDevice, block: u32) -> Option<Self> {
        let log = store::read_log(dev, block).ok().flatten()?;
        let (lists, pairs) = (lists_of(&log).collect(), pairs_of(&log).collect());
        Some(Self { rev: log.rev, lists, pairs, stray: false })
    }

    /// The newer half of a pair, whose blocks stand so many blocks before their place.
    pub fn newest(dev: &dyn BlockDevice, pair: Pair, moved: u32) -> Option<Self> {
        let halves = pair.0.map(|block| Self::read(dev, block.checked_sub(moved)?));
        match halves {
            [Some(a), Some(b)] if rev_newer(b.rev, a.rev) => Some(b),
            [a, b] => a.or(b),
        }
    }

    fn read_v1(dev: &dyn BlockDevice, block: u32) -> Option<Self> {
        let (rev, block) = block::read_one(dev, block).ok().flatten()?;
        let of_kind = |kind| block.entries.iter().filter(move |e| e.kind == kind).map(|e| e.words());
        let lists = of_kind(block::FILE).map(|[head, size]| (head, size)).collect();
        let dirs = of_kind(block::DIRECTORY).chain(of_kind(block::SUPERBLOCK)).map(Pair);
        let pairs = block.next().into_iter().chain(dirs).collect();
        let stray = block.entries.first().is_none_or(|entry| entry.kind != block::SUPERBLOCK);
        Some(Self { rev, lists, pairs, stray })
    }
}

/// Head and size of the lists in a log.
fn lists_of(log: &Log) -> impl Iterator<Item = (u32, u32)> {
    log.entries.iter().filter_map(|entry| match &entry.data {
        Some((tag::CTZSTRUCT, d)) => read_u32_le(d, 0).zip(read_u32_le(d, 4)),
        _ => None,
    })
}

/// The pairs that a log names.
fn pairs_of(log: &Log) -> impl Iterator<Item = Pair> {
    let tail = log.tail.map(|tail| tail.pair).filter(|pair| !pair.is_null());
    let dirs = log.entries.iter().filter_map(|entry| match &entry.data {
        Some((tag::DIRSTRUCT, d)) => Pair::from_bytes(d),
        _ => None,
    });
    tail.into_iter().chain(dirs)
}
