//! A walk over the whole filesystem that continues after damage. It covers the thread, the tree,
//! and the user of each block.

mod foreign;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use crate::bd::{BlockDevice, Geometry};
use crate::disk::entry::Content;
use crate::disk::list::{self, Broken, List, Met, Place};
use crate::disk::log::Log;
use crate::disk::{GState, Pair, Superblock, Tail, tag};
use crate::mdir::store::{self, Fetched};
use crate::show::{self, Show, count, path_from_end};

/// How many problems are kept; further ones are only counted.
const PROBLEMS_MAX: usize = 200;
/// The limit for following lists that share blocks: this many of their blocks for each block of the
/// filesystem. Without it, following many lists over the same blocks would take very long.
const SHARED_PER_BLOCK: u64 = 8;
/// How often the walk starts again because it found relocated pairs.
const ROUNDS_MAX: usize = 8;

/// A metadata pair that the walk has reached.
#[derive(Debug, Clone)]
pub struct SeenPair {
    /// The two blocks, the live one first.
    pub pair: Pair,
    /// Revision of the live block.
    pub rev: u32,
    /// The revision in the first bytes of the other block.
    pub twin_rev: u32,
    /// End of the last valid commit in the live block, in bytes.
    pub used: u32,
    /// Ids in use.
    pub ids: usize,
    /// The tail, if the pair has one.
    pub tail: Option<Tail>,
    /// Its contribution to the global state.
    pub delta: GState,
    /// Whether it is in the thread.
    pub threaded: bool,
    /// Whether it holds a superblock entry.
    pub superblock: Option<Superblock>,
    /// The directory it belongs to, as an index of [`Survey::nodes`].
    pub dir: Option<usize>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory, with its pairs as indices of [`Survey::pairs`].
    Dir {
        /// The pairs that could be read, in their order.
        pairs: Vec<usize>,
    },
    /// A file whose content is stored in its pair.
    Inline {
        /// Bytes of content.
        size: u32,
    },
    /// A file with blocks of its own.
    List {
        /// The last block.
        head: u32,
        /// Bytes of content.
        size: u32,
    },
    /// An entry of a type that this library does not know, or without a usable struct.
    Other,
}

/// An entry of the tree; the first one is the root.
#[derive(Debug, Clone)]
pub struct Node {
    /// The directory that holds it; `None` for the root and for directories that nothing names.
    pub parent: Option<usize>,
    /// Its name, without the path.
    pub name: Box<[u8]>,
    /// The pair that holds its entry, as an index of [`Survey::pairs`], and the id of the entry in
    /// the pair. In version 1, entries have no ids, so it is the number of the entry in its block,
    /// from 0 on.
    pub entry: Option<(usize, u16)>,
    /// The type of its name tag.
    pub name_type: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a block is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The live block of a pair, as an index of [`Survey::pairs`].
    Live(usize),
    /// The other block of a pair.
    Twin(usize),
    /// A block of a file's list: the file, as an index of [`Survey::nodes`], and the index of the
    /// block in the list.
    Data(usize, u32),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Problem {
    /// The place: a path, a pair or a block.
    pub place: String,
    /// What it means.
    pub message: String,
}

/// The numbers of paths. The key of a path is the number of its directory's path, and the name in
/// that directory.
pub type PathNumbers<'a> = HashMap<(Option<usize>, &'a [u8]), usize>;

/// What the walk found.
#[derive(Debug)]
pub struct Survey {
    /// Size and number of blocks.
    pub geometry: Geometry,
    /// The superblock in force: the last one in the thread.
    pub superblock: Option<Superblock>,
    /// All pairs: first those of the thread, in its order.
    pub pairs: Vec<SeenPair>,
    /// All entries: first the root, and each directory before its content.
    pub nodes: Vec<Node>,
    /// The sum of the deltas of all pairs in the thread.
    pub gstate: GState,
    /// Whether the thread could be followed to its end; `None` in a dialect without a thread.
    pub thread_whole: Option<bool>,
    /// What is wrong, in the order in which it was found.
    pub problems: Vec<Problem>,
    /// How many more problems were found.
    pub more_problems: u64,
    uses: HashMap<u32, Use>,
    shared: HashMap<u32, Use>,
}

impl Survey {
    /// Walk the filesystem on `dev`.
    pub fn new(dev: &dyn BlockDevice) -> Self {
        let mut relocated = HashMap::new();
        for _ in 0..ROUNDS_MAX {
            let known = relocated.len();
            let walk = Walk::new(dev, relocated);
            if walk.relocated.len() == known {
                return walk.survey;
            }
            relocated = walk.relocated;
        }
        Walk::new(dev, relocated).survey
    }

    /// A survey of a filesystem whose root cannot be read.
    pub(super) fn without_root(geometry: Geometry, why: &dyn std::fmt::Display) -> Self {
        let (place, message) = ("/".to_owned(), why.to_string());
        let root = Node::directory(None, Box::default(), None);
        Self {
            nodes: vec![root],
            problems: vec![Problem { place, message }],
            ..Self::empty(geometry)
        }
    }

    fn empty(geometry: Geometry) -> Self {
        Self {
            geometry,
            superblock: None,
            pairs: Vec::new(),
            nodes: Vec::new(),
            gstate: GState::default(),
            thread_whole: Some(false),
            problems: Vec::new(),
            more_problems: 0,
            uses: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    /// What `block` is used for, if anything.
    pub fn use_of(&self, block: u32) -> Option<Use> {
        self.uses.get(&block).copied()
    }

    /// What else uses `block`, although only one thing should.
    pub fn shared_with(&self, block: u32) -> Option<Use> {
        self.shared.get(&block).copied()
    }

    /// How many blocks are used.
    pub fn used(&self) -> usize {
        self.uses.len()
    }

    /// The path of an entry for people, from `/` on, shortened like [`Survey::path_bytes`].
    pub fn path(&self, node: usize) -> String {
        self.path_bytes(node).show().to_string()
    }

    /// The path of an entry as it is stored, from `/` on. If it has more than about 400 bytes, only
    /// its end is returned, after `.../`.
    pub fn path_bytes(&self, node: usize) -> Vec<u8> {
        path_from_end(self.upward(node).map(|node| &*node.name))
    }

    /// An entry, and the directories that it is in, up to the root.
    fn upward(&self, node: usize) -> impl Iterator<Item = &Node> {
        let above = |node: &&Node| node.parent.and_then(|at| self.nodes.get(at));
        std::iter::successors(self.nodes.get(node), above)
    }

    /// The entries at `path`, in which slashes separate the names. There are several if a directory
    /// holds a name more than once.
    pub fn find(&self, path: &[u8]) -> Vec<usize> {
        let parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && part != b".");
        let parts: Vec<&[u8]> = parts.collect();
        // for each entry, how many names of `path` lead to it; `None` if the path of the entry
        // differs
        let mut matched: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            // each directory comes before its content
            let above = node.parent.and_then(|up| matched.get(up).copied().flatten());
            let is_next = |&at: &usize| parts.get(at).is_some_and(|part| *node.name == **part);
            matched.push(match matched.is_empty() {
                true => Some(0),
                false => above.filter(is_next).map(|at| at + 1),
            });
        }
        let is_it = |at: &usize| matched.get(*at) == Some(&Some(parts.len()));
        (0..self.nodes.len()).filter(is_it).collect()
    }

    /// A number for the path of each entry. The same path has the same number in all surveys that
    /// use the same `numbers`; new paths are added to it.
    pub fn path_numbers<'a>(&'a self, numbers: &mut PathNumbers<'a>) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let above = node.parent.and_then(|up| all.get(up).copied());
            let next = numbers.len();
            all.push(*numbers.entry((above, &*node.name)).or_insert(next));
        }
        all
    }

    /// The pair to which `block` belongs.
    pub fn pair_of(&self, block: u32) -> Option<&SeenPair> {
        match self.use_of(block)? {
            Use::Live(pair) | Use::Twin(pair) => self.pairs.get(pair),
            Use::Data(..) => None,
        }
    }

    /// What uses a block, in words.
    pub fn describe(&self, of: Use) -> String {
        let pair = |at: usize| match self.pairs.get(at) {
            // in version 1, the root has a pair of its own
            Some(SeenPair { pair, superblock: Some(superblock), .. })
                if superblock.is_version1() =>
            {
                format!("superblock pair {pair}")
            }
            Some(SeenPair { pair, dir: Some(dir), .. }) => {
                format!("pair {pair} of directory {}", self.path(*dir))
            }
            Some(SeenPair { pair, superblock: Some(_), .. }) => format!("superblock pair {pair}"),
            Some(SeenPair { pair, .. }) => format!("pair {pair}, which no directory names"),
            None => "a pair".to_owned(),
        };
        match of {
            Use::Live(at) => format!("the live half of {}", pair(at)),
            Use::Twin(at) => format!("the other half of {}", pair(at)),
            Use::Data(node, index) => format!("block {index} of file {}", self.path(node)),
        }
    }
}

/// A walk in progress.
struct Walk<'a> {
    dev: &'a dyn BlockDevice,
    survey: Survey,
    /// The content of pairs that the walk over the tree has not reached yet.
    logs: HashMap<usize, Log>,
    by_block: HashMap<u32, usize>,
    budget: u64,
    /// The new blocks of each pair of which the thread still names the old blocks. These change the
    /// global state and the tails, so the walk starts again when it finds one.
    relocated: HashMap<[u32; 2], Pair>,
    /// For each pair that was read from its new blocks, the old ones.
    old_blocks: HashMap<usize, Pair>,
}

/// The blocks of a pair in ascending order.
fn sorted(pair: Pair) -> [u32; 2] {
    let [a, b] = pair.0;
    [a.min(b), a.max(b)]
}

impl<'a> Walk<'a> {
    fn new(dev: &'a dyn BlockDevice, relocated: HashMap<[u32; 2], Pair>) -> Self {
        let survey = Survey::empty(dev.geometry());
        let budget = SHARED_PER_BLOCK * u64::from(survey.geometry.block_count.min(1 << 20));
        let (logs, by_block, old_blocks) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut walk = Self { dev, survey, logs, by_block, budget, relocated, old_blocks };
        walk.thread();
        walk.tree();
        walk
    }
}

impl Walk<'_> {
    fn problem(&mut self, place: impl ToString, message: impl ToString) {
        let survey = &mut self.survey;
        if survey.problems.len() >= PROBLEMS_MAX {
            survey.more_problems += 1;
            return;
        }
        let (place, message) = (place.to_string(), message.to_string());
        survey.problems.push(Problem { place, message });
    }

    fn thread(&mut self) {
        let mut next = Pair::SUPERBLOCK;
        loop {
            if next.0.iter().any(|block| self.by_block.contains_key(block)) {
                return self.problem(next, "the thread leads back to this pair");
            }
            let fetched = match store::fetch(self.dev, next) {
                Ok(fetched) => fetched,
                Err(e) => return self.problem(next, format_args!("the thread ends here: {e}")),
            };
            let old = fetched.pair;
            let new = self.relocated.get(&sorted(old));
            let new = new.and_then(|new| store::fetch_relocated(self.dev, *new, old).ok());
            let is_relocated = new.is_some();
            let fetched = new.map_or(fetched, |new| new.unpack());
            self.survey.gstate = self.survey.gstate.xor(fetched.log.gdelta);
            let at = self.take(fetched, true);
            if is_relocated {
                self.old_blocks.insert(at, old);
                for block in old.0 {
                    self.by_block.insert(block, at);
                    self.survey.uses.entry(block).or_insert(Use::Twin(at));
                }
            }
            let Some(pair) = self.survey.pairs.get(at) else { return };
            match pair.tail {
                Some(tail) if !tail.pair.is_null() => next = tail.pair,
                _ => break,
            }
        }
        self.survey.thread_whole = Some(true);
    }

    /// Add a pair, and return its index.
    fn take(&mut self, fetched: Fetched, threaded: bool) -> usize {
        let Fetched { pair, log, unreadable, .. } = fetched;
        let at = self.survey.pairs.len();
        if let Some(e) = unreadable {
            let message =
                format!("one of its blocks, which may be newer, cannot be read: {}", e.source);
            self.problem(pair, message);
        }
        if let Some(e) = store::hidden_commits(self.dev, pair, &log) {
            self.problem(pair, e.to_string());
        }
        if let Some(oddity) = log.oddity {
            self.problem(pair, format!("holds {oddity}, which no driver writes"));
        }
        for (block, of) in pair.0.into_iter().zip([Use::Live(at), Use::Twin(at)]) {
            self.by_block.insert(block, at);
            self.claim(block, of);
        }
        self.survey.pairs.push(SeenPair {
            pair,
            rev: log.rev,
            twin_rev: store::read_rev(self.dev, pair.0[1]),
            used: log.off,
            ids: log.entries.len(),
            tail: log.tail,
            delta: log.gdelta,
            threaded,
            superblock: Superblock::of(&log),
            dir: None,
        });
        self.logs.insert(at, log);
        at
    }

    /// Note what a block is used for. The result is false if something else already uses it.
    fn claim(&mut self, block: u32, of: Use) -> bool {
        let Some(&other) = self.survey.uses.get(&block) else {
            self.survey.uses.insert(block, of);
            return true;
        };
        self.survey.shared.entry(block).or_insert(of);
        let (one, two) = (self.survey.describe(other), self.survey.describe(of));
        self.problem(format_args!("block {block:#x}"), format_args!("is {one}, and {two}"));
        false
    }

    fn tree(&mut self) {
        let root = self.survey.pairs.iter().rposition(|pair| pair.superblock.is_some());
        let Some(root) = root else {
            self.survey.nodes.push(Node::directory(None, Box::default(), None));
            return self.problem(Pair::SUPERBLOCK, "no pair holds a superblock entry");
        };
        self.survey.superblock = self.survey.pairs.get(root).and_then(|pair| pair.superblock);
        self.directory(root, Node::directory(None, Box::default(), None));
        let lost: Vec<usize> = (0..self.survey.pairs.len())
            .filter(|&at| {
                let pair = &self.survey.pairs.get(at);
                pair.is_some_and(|pair| {
                    pair.dir.is_none() && pair.superblock.is_none() && at > root
                })
            })
            .collect();
        for at in lost {
            let Some(seen) = self.survey.pairs.get(at).filter(|pair| pair.dir.is_none()) else {
                continue;
            };
            let (pair, ids) = (seen.pair, seen.ids);
            if ids > 0 || !self.survey.gstate.needs_sync() {
                self.problem(
                    pair,
                    format_args!(
                        "a directory of {}, which nothing names",
                        count(ids, "entry", "entries")
                    ),
                );
            }
            let name = format!("directory {pair}").into_bytes().into();
            self.directory(at, Node::directory(None, name, None));
        }
        self.logs.clear();
    }

    /// Walk a directory and everything below it.
    fn directory(&mut self, head: usize, node: Node) {
        let mut todo = vec![(head, self.add(node))];
        if let Some(pair) = self.survey.pairs.get_mut(head) {
            pair.dir = todo.first().map(|&(_, dir)| dir);
        }
        while let Some((head, dir)) = todo.pop() {
            let mut next = Some(head);
            while let Some(at) = next {
                if let Some(Node { kind: Kind::Dir { pairs }, .. }) = self.survey.nodes.get_mut(dir)
                {
                    pairs.push(at);
                }
                let below = self.entries(at, dir);
                todo.extend(below.into_iter().rev());
                next = match self.survey.pairs.get(at).and_then(|pair| pair.tail) {
                    Some(tail) if tail.hard && !tail.pair.is_null() => self.enter(tail.pair, dir),
                    _ => None,
                };
            }
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.survey.nodes.push(node);
        self.survey.nodes.len() - 1
    }

    /// The pair at which the directory `dir` begins or continues. It now belongs to this directory.
    fn enter(&mut self, pair: Pair, dir: usize) -> Option<usize> {
        let path = |walk: &Self| walk.survey.path(dir);
        let known: HashSet<usize> =
            pair.0.iter().filter_map(|block| self.by_block.get(block).copied()).collect();
        let at = match known.iter().next() {
            Some(&at) => at,
            None => match store::fetch_dir(self.dev, pair) {
                Ok(fetched) => {
                    self.problem(path(self), format_args!("pair {pair} is not in the thread"));
                    self.take(fetched, false)
                }
                Err(e) => {
                    self.problem(path(self), format_args!("the entries after this are lost: {e}"));
                    return None;
                }
            },
        };
        let seen = self.survey.pairs.get_mut(at)?;
        if known.len() > 1 || seen.dir.is_some() || seen.superblock.is_some() {
            let message = format_args!("pair {pair} also belongs to another directory").to_string();
            self.problem(path(self), message);
            return None;
        }
        seen.dir = Some(dir);
        let here = seen.pair;
        if let Some(old) = self.old_blocks.get(&at).filter(|_| here.same(pair)) {
            let message = format!("has moved to {pair}; the thread names {old}");
            self.problem(path(self), message);
        } else if !here.same(pair) {
            match store::fetch_relocated(self.dev, pair, here) {
                Ok(_) => _ = self.relocated.insert(sorted(here), pair),
                Err(e) => {
                    let message = format!("its entry names {pair}, but the thread {here}: {e}");
                    self.problem(path(self), message);
                }
            }
        }
        Some(at)
    }

    /// Add the entries of one pair of the directory `dir`. Returns the directories among them, each
    /// with its first pair.
    fn entries(&mut self, at: usize, dir: usize) -> Vec<(usize, usize)> {
        let Some(log) = self.logs.remove(&at) else { return Vec::new() };
        let hidden = self.survey.gstate.pending_move().filter(|(pair, _)| {
            self.survey.pairs.get(at).is_some_and(|seen| seen.pair.overlaps(*pair))
        });
        let mut below = Vec::new();
        for (id, entry) in log.entries.iter().enumerate() {
            let id = id as u16;
            let Some(name_type) = entry.name_type else { continue };
            if name_type == tag::SUPERBLOCK || hidden.is_some_and(|(_, moved)| moved == id) {
                continue;
            }
            let content = Content::of(entry);
            let kind = match (name_type, content) {
                (tag::DIR, Content::Dir(_)) => Kind::Dir { pairs: Vec::new() },
                (tag::REG, Content::Inline(data)) => Kind::Inline { size: data.len() as u32 },
                (tag::REG, Content::List(List { head, size })) => Kind::List { head, size },
                _ => Kind::Other,
            };
            let usable = kind != Kind::Other || !matches!(name_type, tag::REG | tag::DIR);
            let name = entry.name.to_box();
            let node =
                self.add(Node { parent: Some(dir), name, entry: Some((at, id)), name_type, kind });
            if !usable {
                let path = self.survey.path(node);
                self.problem(path, "no struct tells where its content is");
            }
            match content {
                Content::Dir(pair) if name_type == tag::DIR => {
                    below.extend(self.enter(pair, node).map(|head| (head, node)));
                }
                Content::List(list) if name_type == tag::REG => self.list(node, list),
                _ => {}
            }
        }
        below
    }

    /// Note that a file uses the blocks of its list.
    fn list(&mut self, node: usize, list: List) {
        let (dev, geometry) = (self.dev, self.survey.geometry);
        let mut shared = 0_u64;
        let mut disagrees = None;
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        let visit = |met: Met<'_>| {
            let Met::Pointers { at, agrees, .. } = met else { return ControlFlow::Continue(()) };
            if !agrees && disagrees.is_none() {
                disagrees = Some(at.index);
            }
            let of = Use::Data(node, at.index.0);
            match self.survey.uses.get(&at.block) {
                None => {
                    self.survey.uses.insert(at.block, of);
                }
                Some(_) if self.budget == 0 => return ControlFlow::Break(()),
                // one finding for each list is enough
                Some(_) if shared == 0 => {
                    self.claim(at.block, of);
                    shared += 1;
                }
                Some(_) => {
                    self.survey.shared.entry(at.block).or_insert(of);
                    self.budget -= 1;
                }
            }
            ControlFlow::Continue(())
        };
        let outcome = list::follow(geometry, list, read, visit);
        if let Some(index) = disagrees {
            let path = self.survey.path(node);
            self.problem(
                path,
                format_args!("pointers to and from block {index} of its list disagree"),
            );
        }
        if let Err(broken) = outcome {
            let path = self.survey.path(node);
            self.problem(path, show_broken(&broken));
        }
    }
}

/// Why a list ends too early, in words.
pub fn show_broken(broken: &Broken<crate::error::IoError>) -> String {
    match broken {
        Broken::TooLong { blocks } => {
            format!("claims {}, more than the filesystem has", show::blocks(*blocks))
        }
        Broken::Outside(Place { index, block }) => {
            format!("block {index} of its list is {block:#x}, outside the filesystem")
        }
        Broken::Loop { block } => format!("comes back to block {block:#x}"),
        Broken::Unreadable { at: Place { index, block }, error } => {
            format!("block {index} of its list, {block:#x}, cannot be read: {}", error.source)
        }
    }
}

impl Node {
    fn directory(parent: Option<usize>, name: Box<[u8]>, entry: Option<(usize, u16)>) -> Self {
        Self { parent, name, entry, name_type: tag::DIR, kind: Kind::Dir { pairs: Vec::new() } }
    }

    /// Bytes of content; 0 for a directory.
    pub fn size(&self) -> u32 {
        match self.kind {
            Kind::Inline { size } | Kind::List { size, .. } => size,
            Kind::Dir { .. } | Kind::Other => 0,
        }
    }
}
