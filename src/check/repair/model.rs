//! The content of an image, as far as pointers can be followed: pairs, directories, the thread, and
//! their damage.

use std::collections::{HashMap, HashSet};

use super::editor::EntryEdit;
use crate::bd::BlockDevice;
use crate::check::{InThread, renewed};
use crate::disk::entry::{self, Content};
use crate::disk::log::RawEntry;
use crate::disk::{GState, List, Pair, Superblock, Tail, tag};
use crate::error::{Corrupt, Error, Result, SuperblockFault};
use crate::mdir::store::{self, Fetched};

/// A metadata pair.
pub(super) struct Node {
    /// The active block, then the other one.
    pub pair: Pair,
    pub tail: Option<Tail>,
    pub gdelta: GState,
    pub superblock: bool,
    /// Whether it belongs to the superblock chain: blocks 0 and 1, and all pairs to which hardtails
    /// lead from there.
    pub chain: bool,
    /// Whether one of its blocks cannot be read.
    pub unreadable: bool,
    /// Whether its log holds tags that no driver writes.
    pub odd: bool,
    /// Why it shows an older state, if it has commits behind a damaged one.
    pub hides: Option<Corrupt>,
    /// Whether some of its ids have no name.
    pub unused: bool,
    /// How many ids it has.
    ids: usize,
    /// Whether its tail is a hardtail to the null pair.
    pub null_tail: bool,
    /// Whether the walk along the thread met it.
    pub threaded: bool,
    /// Whether a hardtail leads here.
    pub continues: bool,
    pub dir: Option<u32>,
    /// The pair before it in the thread.
    prev: Option<usize>,
    /// Whether it has a hardtail that leads to no pair which can belong to its directory.
    pub cut: bool,
    /// Whether it is the old copy of a pair that was relocated. It must not be written: its other
    /// block may be the live one of the new copy.
    pub replaced: bool,
    /// Whether it is the new copy of such a pair.
    pub is_newer: bool,
}

/// A directory. It may have lost its name.
pub(super) struct Dir {
    pub parent: u32,
    pub name: Box<[u8]>,
    pub chain: Vec<usize>,
}

/// An entry that cannot stay as it is.
pub(super) struct BadEntry {
    pub node: usize,
    pub id: u16,
    pub path: String,
    pub code: &'static str,
    pub why: String,
    /// How it is repaired. It is removed if its struct makes no sense, or leads nowhere.
    pub edit: EntryEdit,
    /// The directory that it names, if that cannot be read, or the blocks that it names are old.
    lost: Option<LostDir>,
}

/// A directory whose first pair cannot be read, or is an old one.
struct LostDir {
    parent: u32,
    name: Box<[u8]>,
    pair: Pair,
}

/// An entry whose content is a list of blocks.
pub(super) struct ListEntry {
    pub node: usize,
    pub id: u16,
    pub list: List,
    /// Whether the entry is a file. Other entries matter only for the map of free blocks.
    pub is_file: bool,
}

pub(super) struct Model<'a> {
    dev: &'a dyn BlockDevice,
    pub nodes: Vec<Node>,
    by_block: HashMap<u32, usize>,
    pub dirs: Vec<Dir>,
    /// The pairs of the thread, as far as it can be followed.
    pub thread: Vec<usize>,
    /// The pair at which the thread breaks off, because it cannot be read or was there before;
    /// `None` if the thread is whole.
    pub thread_break: Option<Pair>,
    /// Whether the thread comes back to one of its pairs.
    pub thread_loops: bool,
    /// Whether the thread names old blocks of a directory that has been relocated.
    pub half_orphans: bool,
    /// The sum of the deltas. A pair that was relocated counts with its new content.
    pub gstate: GState,
    /// The sum of the deltas along the thread as it is on disk.
    on_disk: GState,
    /// Whether a damaged entry of the tree may once have named a directory.
    doubtful: bool,
    /// Whether directories without a name may have been removed or may have lost their name, and it
    /// is unknown which.
    ambiguous: bool,
    /// The first pairs of directories that have lost their names.
    pub orphans: HashSet<usize>,
    pub bad: Vec<BadEntry>,
    /// The lists in the order of the walk. Entries in the tree come first.
    pub lists: Vec<ListEntry>,
    /// Pairs to which a pointer leads, whether they can be read or not.
    pub named: Vec<Pair>,
    /// Pairs that are named by entries which are not directories.
    pub stray: Vec<Pair>,
    /// The superblock in force, which is the root's.
    pub superblock: Superblock,
}

impl<'a> Model<'a> {
    /// Follow all pointers on `dev`.
    ///
    /// # Errors
    /// If no superblock can be read. All other damage is in the model.
    pub fn build(dev: &'a dyn BlockDevice) -> Result<Self> {
        let mut m = Self {
            dev,
            nodes: Vec::new(),
            by_block: HashMap::new(),
            dirs: Vec::new(),
            thread: Vec::new(),
            thread_break: None,
            thread_loops: false,
            half_orphans: false,
            gstate: GState::default(),
            on_disk: GState::default(),
            doubtful: false,
            ambiguous: false,
            orphans: HashSet::new(),
            bad: Vec::new(),
            lists: Vec::new(),
            named: Vec::new(),
            stray: Vec::new(),
            superblock: crate::fs::root_superblock(dev)?,
        };
        m.walk_thread()?;
        m.on_disk = m.gstate;
        let root = m.thread.iter().copied().rfind(|&i| m.nodes[i].superblock);
        let why = SuperblockFault::NoEntry;
        let root = root.ok_or(Corrupt::BadSuperblock { pair: Pair::SUPERBLOCK, why })?;
        m.walk_from(root, 0, Box::default());
        if m.thread_break.is_some() {
            m.follow_tails();
        }
        m.walk_orphans();
        Ok(m)
    }

    /// Whether a pair shows an older state, because one of its commits is damaged.
    pub fn hides_commits(&self) -> bool {
        self.nodes.iter().any(|n| !n.replaced && n.hides.is_some())
    }

    /// Whether there is damage to directories or to the thread that the filesystem does not mend
    /// itself.
    pub fn is_damaged(&self) -> bool {
        self.thread_break.is_some()
            || self.bad.iter().any(|b| b.code != "bad-struct")
            || self.nodes.iter().any(|n| !n.replaced && (n.cut || n.unreadable))
            || self.hides_commits()
            || self.ambiguous
            || self.misnames_move()
            || self.disputes_move()
    }

    /// Whether directories without a name count as removed.
    fn removing(&self) -> bool {
        self.thread_break.is_none() && self.on_disk.needs_sync()
    }

    /// Whether a pending move names the superblock, or two blocks that are not a pair.
    /// Such a move must not be finished, because that would delete an entry that was not moved.
    pub fn misnames_move(&self) -> bool {
        let Some((pair, id)) = self.gstate.pending_move() else { return false };
        let Some(at) = self.known(pair) else { return false };
        let is_pair = || self.nodes.iter().any(|n| !n.replaced && n.pair.same(pair));
        (id == 0 && self.nodes[at].superblock) || !is_pair()
    }

    /// Whether the thread on disk names a move that the newer copies of relocated pairs do not
    /// name, although its entry is still there. If its pair was relocated, the newer copy may have
    /// ended the move.
    pub fn disputes_move(&self) -> bool {
        let Some((pair, id)) = self.on_disk.pending_move() else { return false };
        let holds = |n: &Node| !n.is_newer && n.pair.overlaps(pair) && usize::from(id) < n.ids;
        self.gstate.pending_move().is_none() && self.thread.iter().any(|&i| holds(&self.nodes[i]))
    }

    /// Whether the newer copies of relocated pairs clear the sync bit. A driver that relocates a pair
    /// sets it, and clears it only after the thread names the new blocks.
    pub fn disputes_sync(&self) -> bool {
        self.half_orphans && !self.gstate.needs_sync()
    }

    /// Whether a pending move names an entry that does not exist.
    pub fn loses_move(&self) -> bool {
        let hidden = self.gstate.pending_move();
        let at = hidden.and_then(|(pair, id)| Some((self.known(pair)?, id)));
        hidden.is_some() && at.is_none_or(|(i, id)| usize::from(id) >= self.nodes[i].ids)
    }

    /// The pair in the thread, and the id, of the entry that a pending move hides.
    pub fn moved_away(&self) -> Option<(usize, u16)> {
        let (pair, id) = self.gstate.pending_move().filter(|_| !self.misnames_move())?;
        Some((self.known(pair).filter(|&i| self.nodes[i].threaded)?, id))
    }

    pub fn known(&self, pair: Pair) -> Option<usize> {
        pair.0.iter().find_map(|b| self.by_block.get(b)).copied()
    }

    fn take(&mut self, f: Fetched, threaded: bool, continues: bool, prev: Option<usize>) -> usize {
        let i = self.nodes.len();
        self.by_block.extend(f.pair.0.map(|b| (b, i)));
        let hides = store::hidden_commits(self.dev, f.pair, &f.log);
        self.nodes.push(Node {
            pair: f.pair,
            tail: f.log.tail.filter(|t| !t.pair.is_null()),
            gdelta: f.log.gdelta,
            superblock: Superblock::of(&f.log).is_some(),
            chain: false,
            unreadable: f.unreadable.is_some(),
            odd: f.log.oddity.is_some(),
            hides,
            ids: f.log.entries.len(),
            unused: f.log.entries.iter().any(|e| e.name_type.is_none()),
            null_tail: f.log.tail.is_some_and(|t| t.hard && t.pair.is_null()),
            threaded,
            continues,
            dir: None,
            prev,
            cut: false,
            replaced: false,
            is_newer: false,
        });
        i
    }

    fn walk_thread(&mut self) -> Result<()> {
        let mut tail = Tail { pair: Pair::SUPERBLOCK, hard: false };
        loop {
            self.named.push(tail.pair);
            if self.known(tail.pair).is_some() {
                (self.thread_break, self.thread_loops) = (Some(tail.pair), true);
                break;
            }
            let prev = self.thread.last().copied();
            let i = match store::fetch(self.dev, tail.pair) {
                Ok(f) => self.take(f, true, tail.hard, prev),
                Err(e) if prev.is_none() => return Err(e),
                Err(_) => {
                    self.thread_break = Some(tail.pair);
                    break;
                }
            };
            self.gstate = self.gstate.xor(self.nodes[i].gdelta);
            self.nodes[i].chain =
                prev.is_none_or(|p| self.nodes[p].chain && self.nodes[i].continues);
            self.thread.push(i);
            match self.nodes[i].tail {
                Some(t) => tail = t,
                None => break,
            }
        }
        if !self.has_sum() {
            // a sum that lacks some of the deltas, or has outdated ones, has no meaning
            self.gstate = GState::default();
        }
        Ok(())
    }

    /// The path of `name` in directory `dir`.
    pub fn path(&self, dir: u32, name: &[u8]) -> String {
        let mut parts = vec![super::super::show(name)];
        let mut at = dir;
        // more levels than this do not help the user
        while at != 0 && parts.len() < 32 {
            parts.push(super::super::show(&self.dirs[at as usize].name));
            at = self.dirs[at as usize].parent;
        }
        parts.push(if at == 0 { String::new() } else { "...".to_owned() });
        parts.reverse();
        parts.join("/")
    }

    /// The path of a file.
    pub fn path_of(&self, d: &super::lists::Damaged) -> String {
        let n = &self.nodes[d.node];
        let log = store::read_log(self.dev, n.pair.0[0]).ok().flatten();
        let name = log.as_ref().and_then(|l| l.entries.get(usize::from(d.id)));
        self.path(n.dir.unwrap_or(0), name.map_or(&[], |e| &*e.name))
    }

    /// Walk over a directory that no entry in the tree names, and over everything below it.
    fn walk_from(&mut self, head: usize, parent: u32, name: Box<[u8]>) {
        let mut todo = vec![(head, self.add_dir(head, parent, name))];
        while let Some((head, dir)) = todo.pop() {
            let mut at = head;
            loop {
                self.nodes[at].dir = Some(dir);
                self.dirs[dir as usize].chain.push(at);
                self.walk_entries(at, dir, &mut todo);
                let Some(t) = self.nodes[at].tail.filter(|t| t.hard) else {
                    self.nodes[at].cut |= self.nodes[at].null_tail;
                    break;
                };
                match self.follow(t.pair, at) {
                    Some(next) => at = next,
                    None => {
                        self.nodes[at].cut = true;
                        break;
                    }
                }
            }
        }
    }

    /// Add the directory that begins with the node `head`.
    fn add_dir(&mut self, head: usize, parent: u32, name: Box<[u8]>) -> u32 {
        let dir = self.dirs.len() as u32;
        self.dirs.push(Dir { parent, name, chain: Vec::new() });
        self.nodes[head].dir = Some(dir);
        dir
    }

    fn walk_entries(&mut self, at: usize, dir: u32, todo: &mut Vec<(usize, u32)>) {
        let pair = self.nodes[at].pair;
        let Ok(Some(log)) = store::read_log(self.dev, pair.0[0]) else { return };
        let hidden = self.gstate.pending_move().filter(|(p, _)| p.overlaps(pair)).map(|(_, id)| id);
        for (id, e) in log.entries.into_iter().enumerate() {
            let id = id as u16;
            let Some(ty) = e.name_type else {
                self.doubtful = true;
                self.walk_nameless(at, id, &e);
                continue;
            };
            let content = Content::of(&e);
            self.doubtful |= ty != tag::SUPERBLOCK && (ty == tag::DIR) != content.is_of_directory();
            let superblock = ty == tag::SUPERBLOCK;
            if hidden == Some(id) || (superblock && id == 0 && self.nodes[at].superblock) {
                continue;
            }
            let is_known = matches!(ty, tag::REG | tag::DIR);
            let bad = |m: &Self, code, why, kind: Option<u16>| {
                let path = m.path(dir, &e.name);
                let edit = kind.map_or(EntryEdit::Remove, EntryEdit::Retype);
                BadEntry { node: at, id, path, code, why, edit, lost: None }
            };
            let kind = match content {
                Content::Inline(_) | Content::List(_) => Some(tag::REG),
                Content::Dir(_) => Some(tag::DIR),
                Content::Short { .. } | Content::Unknown { .. } | Content::Missing => None,
            };
            if superblock {
                let b = bad(self, "bad-struct", "a superblock where none belongs".into(), None);
                self.bad.push(b);
            } else if is_known && kind != Some(ty) {
                let b = bad(self, "bad-struct", "nothing says where its content is".into(), kind);
                self.bad.push(b);
            }
            match content {
                Content::List(list) => {
                    let is_file = ty == tag::REG;
                    self.lists.push(ListEntry { node: at, id, list, is_file });
                }
                Content::Dir(child) if ty == tag::DIR => match self.child(child) {
                    Ok(head) => todo.push((head, self.add_dir(head, dir, e.name.to_box()))),
                    Err(why) => {
                        let is_lost = matches!(
                            &why,
                            Error::Corrupt(c) if !matches!(c, Corrupt::PairReachedTwice(_))
                        );
                        let lost = LostDir { parent: dir, name: e.name.to_box(), pair: child };
                        let b = bad(self, code_of_lost(&why), why.to_string(), None);
                        self.bad.push(BadEntry { lost: is_lost.then_some(lost), ..b });
                    }
                },
                Content::Dir(child) => {
                    self.named.push(child);
                    self.stray.push(child);
                }
                _ => {}
            }
        }
    }

    /// Note the pair or list of an id without a name. Its blocks are in use nevertheless.
    fn walk_nameless(&mut self, at: usize, id: u16, e: &RawEntry) {
        match Content::of(e) {
            Content::List(list) => {
                self.lists.push(ListEntry { node: at, id, list, is_file: false });
            }
            Content::Dir(pair) => {
                self.named.push(pair);
                self.stray.push(pair);
            }
            _ => {}
        }
    }

    /// The type that an id without a name should get: that of a file, or of a directory if nothing
    /// else names the directory. `None` if it has no content that can be kept.
    pub fn kind_of_nameless(&self, e: &RawEntry) -> Option<u16> {
        match Content::of(e) {
            Content::Inline(_) | Content::List(_) => Some(tag::REG),
            Content::Dir(pair) => {
                let head = self.known(pair)?;
                (self.orphans.contains(&head) && self.nodes[head].pair.same(pair))
                    .then_some(tag::DIR)
            }
            _ => None,
        }
    }

    /// Find the pair that a hardtail leads to.
    fn follow(&mut self, pair: Pair, from: usize) -> Option<usize> {
        self.named.push(pair);
        if let Some(i) = self.known(pair) {
            let n = &self.nodes[i];
            let fits = n.dir.is_none() && !n.superblock && n.pair.same(pair);
            return (fits && (!n.threaded || n.prev == Some(from))).then_some(i);
        }
        let threaded = self.nodes[from].threaded;
        let f = store::fetch_dir(self.dev, pair).ok()?;
        Some(self.take(f, threaded, true, Some(from)))
    }

    /// Find the first pair of the directory that an entry names.
    fn child(&mut self, pair: Pair) -> Result<usize> {
        self.named.push(pair);
        let known = pair.0.map(|b| self.by_block.get(&b).copied());
        let may_be = |i: usize| {
            let n = &self.nodes[i];
            n.dir.is_none() && !n.continues && !n.chain && !n.superblock
        };
        match known {
            [Some(a), Some(b)] if a == b && may_be(a) => Ok(a),
            [None, None] => {
                let f = store::fetch_dir(self.dev, pair)?;
                Ok(self.take(f, false, false, None))
            }
            // the pair was relocated and the thread still names its old blocks: the new ones take
            // their place
            [Some(old), None] | [None, Some(old)] if may_be(old) => {
                let f = store::fetch_relocated(self.dev, pair, self.nodes[old].pair)?.unpack();
                let (threaded, prev) = (self.nodes[old].threaded, self.nodes[old].prev);
                let new = self.take(f, threaded, false, prev);
                self.half_orphans = true;
                // the old content must not be taken for an orphan
                self.nodes[old].dir = Some(0);
                self.nodes[old].replaced = true;
                self.by_block.extend(self.nodes[old].pair.0.map(|b| (b, new)));
                self.renew(old, new);
                for n in self.nodes.iter_mut().filter(|n| n.prev == Some(old)) {
                    n.prev = Some(new);
                }
                Ok(new)
            }
            _ => Err(Corrupt::PairReachedTwice(pair).into()),
        }
    }

    /// Whether the sum of the deltas in the thread is the global state.
    fn has_sum(&self) -> bool {
        self.thread_break.is_none() && !self.hides_commits()
    }

    /// Let the node `new` take the place of `old` in the thread, and in the global state.
    fn renew(&mut self, old: usize, new: usize) {
        let Some(at) = self.thread.iter().position(|&i| i == old) else { return };
        let in_thread = |&i: &usize| {
            let Node { pair, tail, gdelta, .. } = self.nodes[i];
            InThread { pair, tail, gdelta }
        };
        if self.has_sum() {
            let behind = self.thread.iter().skip(at + 1).map(in_thread);
            self.gstate = renewed(self.gstate, in_thread(&old), in_thread(&new), behind);
        }
        self.thread[at] = new;
        self.nodes[new].is_newer = true;
    }

    /// Add the pairs that tails lead to, and those that entries of other types name.
    fn follow_tails(&mut self) {
        let mut at = 0;
        loop {
            let (pair, hard) = if let Some(n) = self.nodes.get(at) {
                at += 1;
                match n.tail {
                    Some(t) => (t.pair, t.hard),
                    None => continue,
                }
            } else if let Some(pair) = self.stray.pop() {
                (pair, false)
            } else {
                return;
            };
            self.named.push(pair);
            if pair.0.iter().all(|b| !self.by_block.contains_key(b))
                && let Ok(f) = store::fetch_dir(self.dev, pair)
            {
                self.take(f, false, hard, None);
            }
        }
    }

    /// Walk over the directories that the tree does not name.
    fn walk_orphans(&mut self) {
        let orphans: Vec<usize> = (0..self.nodes.len())
            .filter(|&i| {
                let n = &self.nodes[i];
                n.dir.is_none() && !n.chain && !n.superblock
            })
            .collect();
        let holds = orphans.iter().any(|&i| self.nodes[i].ids > 0);
        self.ambiguous = self.removing() && holds && (self.doubtful || self.disputes_sync());
        if self.removing() && !self.ambiguous {
            // they were removed, and the next write takes them out of the thread
            return;
        }

        let mut inner: HashSet<u32> = HashSet::new();
        for &i in &orphans {
            let n = &self.nodes[i];
            inner.extend(n.tail.filter(|t| t.hard).iter().flat_map(|t| t.pair.0));
            if let Ok(Some(log)) = store::read_log(self.dev, n.pair.0[0]) {
                inner.extend(entry::dirs(&log.entries).flat_map(|pair| pair.0));
            }
        }
        let is_inner = |m: &Self, i: usize| m.nodes[i].pair.0.iter().any(|b| inner.contains(b));
        let (last, first): (Vec<usize>, Vec<usize>) =
            orphans.into_iter().partition(|&i| is_inner(self, i));
        for i in first.into_iter().chain(last) {
            if self.nodes[i].dir.is_some() {
                continue;
            }
            if let Some((parent, name)) = self.entry_of_moved(i) {
                self.walk_from(i, parent, name);
                continue;
            }
            self.orphans.insert(i);
            let name = format!("directory {}", self.nodes[i].pair);
            self.walk_from(i, 0, name.into_bytes().into());
        }
    }

    /// The parent and the name of a directory that nothing names, if the only entry that can be its
    /// own names its blocks from before it was relocated. This entry is repaired, too.
    ///
    /// Without that, the directory would become an orphan; and after an interruption the next
    /// repair could find it by this entry, because the first one may have written to the block that
    /// both pairs have.
    fn entry_of_moved(&mut self, head: usize) -> Option<(u32, Box<[u8]>)> {
        let pair = self.nodes[head].pair;
        let may_be =
            |bad: &&mut BadEntry| bad.lost.as_ref().is_some_and(|lost| lost.pair.overlaps(pair));
        let mut found = self.bad.iter_mut().filter(may_be);
        let (bad, None) = (found.next()?, found.next()) else { return None };
        let LostDir { parent, name, .. } = bad.lost.take()?;
        bad.edit = EntryEdit::Dir(pair);
        Some((parent, name))
    }
}

/// The code of the finding about a directory whose first pair cannot be used because of `e`.
fn code_of_lost(e: &Error) -> &'static str {
    match e {
        Error::Corrupt(Corrupt::PairReachedTwice(_)) => "tree-loop",
        _ => "directory-broken",
    }
}
