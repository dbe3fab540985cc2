//! A walk over an image of another dialect. It shows the content that the dialect's own reader
//! finds, and the blocks that hold this content.

use std::collections::HashMap;

use super::{Kind, Node, PROBLEMS_MAX, Problem, SHARED_PER_BLOCK, SeenPair, Survey, Use};
use crate::bd::BlockDevice;
use crate::check::Severity;
use crate::dialect::tree::{Content, Dir};
use crate::dialect::{LivePair, Reading, Tree};
use crate::disk::{GState, Pair, Superblock, ctz, tag};
use crate::error::Result;
use crate::image::Dialect;
use crate::mdir::store;
use crate::{chamelon, v1};

impl Survey {
    /// Walk the filesystem on `dev`, which is written in `dialect`, and has this superblock, if it
    /// is known.
    ///
    /// # Errors
    /// If its root cannot be read.
    pub fn of_dialect(
        dev: &dyn BlockDevice,
        dialect: Dialect,
        superblock: Option<Superblock>,
    ) -> Result<Self> {
        // `check` decides what counts as damage
        let (reading, report) = match dialect {
            Dialect::Littlefs => return Ok(Self::new(dev)),
            Dialect::V1 => (v1::read(dev)?, v1::check(dev, &|_| ())?),
            Dialect::Chamelon => (chamelon::read(dev)?, chamelon::check(dev, &|_| ())?),
        };
        let mut walk =
            Walk { dev, dialect, survey: Self::empty(dev.geometry()), by_pair: HashMap::new() };
        let Reading { tree, thread } = reading;
        walk.survey.superblock = superblock;
        walk.survey.thread_whole = (dialect != Dialect::Chamelon).then_some(true);
        for finding in report.findings.into_iter().filter(|f| f.severity == Severity::Error) {
            walk.problem(finding.place, finding.message);
        }
        for &pair in thread.iter().flatten() {
            walk.pair(pair, true);
        }
        walk.tree(&tree);
        Ok(walk.survey)
    }
}

struct Walk<'a> {
    dev: &'a dyn BlockDevice,
    dialect: Dialect,
    survey: Survey,
    by_pair: HashMap<[u32; 2], usize>,
}

impl Walk<'_> {
    /// The number of a pair. A new pair is added.
    fn pair(&mut self, pair: Pair, threaded: bool) -> usize {
        let mut key = pair.0;
        key.sort_unstable();
        let at = self.survey.pairs.len();
        if let Some(&known) = self.by_pair.get(&key) {
            return known;
        }
        self.by_pair.insert(key, at);
        let look = match self.dialect {
            Dialect::V1 => v1::pair(self.dev, pair),
            Dialect::Littlefs | Dialect::Chamelon => chamelon::pair(self.dev, pair),
        };
        let LivePair { pair, used, entries, tail } =
            look.unwrap_or(LivePair { pair, used: 0, entries: 0, tail: None });
        let [live, twin] = pair.0;
        for (block, of) in [(live, Use::Live(at)), (twin, Use::Twin(at))] {
            if !threaded && self.is_outdated(block) {
                self.survey.uses.remove(&block);
            }
            self.claim(block, of);
        }
        self.survey.pairs.push(SeenPair {
            pair,
            rev: store::read_rev(self.dev, live),
            twin_rev: store::read_rev(self.dev, twin),
            used,
            ids: entries,
            tail,
            delta: GState::default(),
            threaded,
            superblock: self.survey.superblock.filter(|_| pair.same(Pair::SUPERBLOCK)),
            dir: None,
        });
        at
    }

    fn problem(&mut self, place: String, message: String) {
        if self.survey.problems.len() < PROBLEMS_MAX {
            self.survey.problems.push(Problem { place, message });
        } else {
            self.survey.more_problems += 1;
        }
    }

    /// Whether a block is in a pair that only the thread names. If a driver of version 1 is
    /// interrupted after it has replaced a block of a directory's pair, the thread still names the
    /// old pair. In this case the block belongs to the directory.
    fn is_outdated(&self, block: u32) -> bool {
        let pair = self.survey.pair_of(block);
        pair.is_some_and(|seen| seen.threaded && seen.dir.is_none() && seen.superblock.is_none())
    }

    fn claim(&mut self, block: u32, of: Use) {
        if block >= self.survey.geometry.block_count {
            return;
        }
        if let Some(&other) = self.survey.uses.get(&block) {
            if other != of {
                self.survey.shared.entry(block).or_insert(of);
            }
            return;
        }
        self.survey.uses.insert(block, of);
    }

    fn tree(&mut self, tree: &Tree) {
        let mut nodes: HashMap<usize, usize> = HashMap::from([(0, 0)]);
        self.survey.nodes.push(Node::directory(None, Box::default(), None));
        let per_block = SHARED_PER_BLOCK + 1;
        let mut budget = per_block * u64::from(self.survey.geometry.block_count);
        for (number, dir) in tree.dirs.iter().enumerate() {
            // each directory comes before the directories in it
            let Some(&at) = nodes.get(&number) else { continue };
            let pairs = self.pairs_of(dir, at);
            for entry in &dir.entries {
                let node = self.survey.nodes.len();
                let (name_type, kind) = match entry.content {
                    Content::Dir(below) => {
                        nodes.insert(below as usize, node);
                        (tag::DIR, Kind::Dir { pairs: Vec::new() })
                    }
                    Content::Lost(_) => (tag::DIR, Kind::Dir { pairs: Vec::new() }),
                    Content::Inline(ref bytes) => {
                        (tag::REG, Kind::Inline { size: bytes.len() as u32 })
                    }
                    Content::List { head, size } => (tag::REG, Kind::List { head, size }),
                    Content::Nothing => (tag::REG, Kind::Other),
                };
                let (name, (pair, number)) = (entry.name.clone(), entry.place);
                let entry_at = pairs.get(pair).map(|&pair| (pair, number));
                self.survey.nodes.push(Node {
                    parent: Some(at),
                    name,
                    entry: entry_at,
                    name_type,
                    kind,
                });
                if let Content::List { head, size } = entry.content {
                    self.list(tree, node, (head, size), &mut budget);
                }
            }
        }
    }

    /// Note the pairs of a directory, and return their numbers.
    fn pairs_of(&mut self, dir: &Dir, at: usize) -> Vec<usize> {
        let numbers: Vec<usize> = dir.pairs.iter().map(|&pair| self.pair(pair, false)).collect();
        for &number in &numbers {
            if let Some(seen) = self.survey.pairs.get_mut(number) {
                seen.dir = Some(at);
            }
        }
        if let Some(Node { kind: Kind::Dir { pairs }, .. }) = self.survey.nodes.get_mut(at) {
            pairs.clone_from(&numbers);
        }
        numbers
    }

    /// Note that a file uses its blocks, unless too many files use them already.
    fn list(&mut self, tree: &Tree, node: usize, (head, size): (u32, u32), budget: &mut u64) {
        let blocks = u64::from(ctz::blocks(self.survey.geometry.block_size, size));
        if blocks > *budget {
            return;
        }
        *budget -= blocks;
        let loaded = tree.lists.load(self.dev, head, size);
        for (index, block) in loaded.unwrap_or_default().into_iter().enumerate() {
            self.claim(block, Use::Data(node, index as u32));
        }
    }
}
