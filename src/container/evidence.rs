//! How much of the tree of a filesystem is in the right place, if the filesystem starts at a given
//! position.
//!
//! Addresses on disk count blocks from the start of the filesystem. If the assumed start is off by
//! one block, two adjacent blocks that look like a pair are halves of two different pairs. The
//! names in them show this, and the pointers of lists are wrong.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use super::{ReadAt, Window};
use crate::bd::{BlockDevice, Geometry};
use crate::disk::list::{self, Met};
use crate::disk::log::Log;
use crate::disk::{List, Pair, Superblock, entry, rev_newer};
use crate::mdir::store;
use crate::v1::block;

use super::half::are_neighbours;

/// How many pairs are examined.
const PAIRS_MAX: u64 = 32;
/// How many lists of files are examined.
const LISTS_MAX: usize = 32;
/// How many blocks of a list are examined.
const STEPS_MAX: u32 = 16;
/// How many bytes of metadata are examined.
const BYTES_MAX: u64 = 16 << 20;
/// How many pairs are examined even if their blocks are large: the first one and one other.
const PAIRS_MIN: u64 = 2;

/// How many of the pairs and lists that a superblock leads to are in the right place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Blocks of pairs that hold what is expected. A list whose pointers agree counts as two.
    pub good: u32,
    /// Pairs and lists that are not in the right place.
    pub bad: u32,
    /// Files whose only block is erased. A file may hold nothing but bytes of 0xFF, so this says less
    /// than `bad`.
    pub erased: u32,
}

impl Evidence {
    /// Examine a part of the content of the filesystem at byte `at`.
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
            for list in node.lists {
                if lists > 0 {
                    lists -= 1;
                    evidence.weigh_list(&dev, list);
                }
            }
            queue.extend(node.pairs);
        }
        evidence
    }

    /// Count the valid blocks of a pair, and return what the newer one leads to. The first pair is
    /// no evidence, because its place is in question.
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
        let [mut a, mut b] = pair.0.map(|block| read(dev, block));
        if pair == Pair::SUPERBLOCK {
            for half in [&mut a, &mut b] {
                self.bad += u32::from(half.take_if(|node| !node.has_superblock).is_some());
            }
        }
        let names_itself = |node: &Node| node.pairs.iter().any(|next| next.same(pair));
        self.bad += u32::from([&a, &b].into_iter().flatten().any(names_itself));
        let (good, newest) = match (a, b) {
            (Some(a), Some(b)) => {
                // a new directory can have the blocks of an old one, and continues its revisions
                let [follows, alike] =
                    [are_neighbours(a.rev, b.rev), a.may_be_of_one_directory(&b)];
                let good = match (follows, alike) {
                    (true, true) => 2,
                    (true, false) | (false, true) => 1,
                    (false, false) => 0,
                };
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

    /// Examine some blocks of the list of a file.
    fn weigh_list(&mut self, dev: &dyn BlockDevice, list: List) {
        let geometry = dev.geometry();
        match list.blocks(geometry.block_size) {
            0 => {}
            _ if list.head >= geometry.block_count => self.bad += 1,
            // a single block has no pointers
            1 => self.erased += u32::from(store::is_erased_from(dev, list.head, 0)),
            _ if pointers_agree(dev, list) => self.good += 2,
            _ => self.bad += 1,
        }
    }
}

/// Whether the pointers in the last blocks of a list are possible and agree.
pub(super) fn pointers_agree(dev: &dyn BlockDevice, list: List) -> bool {
    let mut agree = true;
    let mut steps = 0;
    let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
    let visit = |met: Met<'_>| {
        if let Met::Pointers { pointers, agrees, .. } = met {
            // blocks 0 and 1 belong to the superblock
            agree &=
                agrees && pointers.iter().all(|to| (2..dev.geometry().block_count).contains(to));
            steps += 1;
        }
        if agree && steps < STEPS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    list::follow(dev.geometry(), list, read, visit).is_ok() && agree
}

/// What a valid metadata block leads to.
pub(super) struct Node {
    rev: u32,
    /// The names of its entries.
    names: HashSet<Box<[u8]>>,
    /// The lists of files.
    pub lists: Vec<List>,
    /// The other pairs.
    pub pairs: Vec<Pair>,
    has_superblock: bool,
}

impl Node {
    pub fn read(dev: &dyn BlockDevice, block: u32) -> Option<Self> {
        let log = store::read_log(dev, block).ok().flatten()?;
        let (lists, pairs) = (entry::lists(&log.entries).collect(), pairs_of(&log).collect());
        let names = log.entries.iter().map(|e| e.name.to_vec().into()).collect();
        let has_superblock = Superblock::of(&log).is_some();
        Some(Self { rev: log.rev, names, lists, pairs, has_superblock })
    }

    /// Whether this and the other block may be two states of one directory: they have a name in
    /// common, unless one of them has none.
    fn may_be_of_one_directory(&self, other: &Self) -> bool {
        let (a, b) = (&self.names, &other.names);
        a.is_empty() || b.is_empty() || !a.is_disjoint(b)
    }

    /// The newer block of a pair whose blocks are `moved` blocks before their right places.
    pub fn newest(dev: &dyn BlockDevice, pair: Pair, moved: u32) -> Option<Self> {
        let halves = pair.0.map(|block| Self::read(dev, block.checked_sub(moved)?));
        match halves {
            [Some(a), Some(b)] if rev_newer(b.rev, a.rev) => Some(b),
            [a, b] => a.or(b),
        }
    }

    fn read_v1(dev: &dyn BlockDevice, block: u32) -> Option<Self> {
        let (rev, block) = block::read_one(dev, block).ok().flatten()?;
        let of_kind =
            |kind| block.entries.iter().filter(move |e| e.kind == kind).map(|e| e.words());
        let lists = of_kind(block::FILE).map(|[head, size]| List { head, size }).collect();
        let dirs = of_kind(block::DIRECTORY).chain(of_kind(block::SUPERBLOCK)).map(Pair);
        let pairs = block.next().into_iter().chain(dirs).collect();
        let first = block.entries.first();
        let has_superblock = first.is_some_and(|entry| entry.kind == block::SUPERBLOCK);
        let names = block.entries.iter().map(|e| e.name.to_vec().into()).collect();
        Some(Self { rev, names, lists, pairs, has_superblock })
    }
}

/// The pairs that a log names.
fn pairs_of(log: &Log) -> impl Iterator<Item = Pair> {
    let tail = log.tail.map(|tail| tail.pair).filter(|pair| !pair.is_null());
    tail.into_iter().chain(entry::dirs(&log.entries))
}
