//! The walk over the tree: directories, their pairs, and the entries in them.

use std::collections::{HashMap, HashSet};

use super::{Checker, Dir, InThread, Seen, renewed, show};
use crate::disk::entry::{self, Content};
use crate::disk::log::RawEntry;
use crate::disk::{Pair, Superblock, name, tag};
use crate::mdir::store;
use crate::show::count;

/// What the walk over a directory remembers from one pair to the next.
#[derive(Default)]
struct Names {
    /// The greatest name so far.
    last: Option<Box<[u8]>>,
    /// The names so far. True if a file or a directory has the name, false if only entries of
    /// unknown types have it.
    seen: HashMap<Box<[u8]>, bool>,
}

/// An entry that names a directory.
struct Child {
    pair: Pair,
    name: Box<[u8]>,
}

impl Checker<'_> {
    pub(super) fn walk_tree(&mut self) {
        let chain: Vec<usize> =
            (0..self.pairs.len()).filter(|&i| self.pairs[i].superblock.is_some()).collect();
        let Some(&root) = chain.last() else {
            self.error("superblock-missing", Pair::SUPERBLOCK, "no pair holds a superblock entry");
            return;
        };
        self.check_superblocks(&chain);
        let bare = |p: &&Seen| p.chain && p.superblock.is_none();
        let bare: Vec<Pair> = self.pairs[..root].iter().filter(bare).map(|p| p.pair).collect();
        for pair in bare {
            self.error(
                "superblock-damaged",
                pair,
                "a pair of the superblock chain has no superblock: if no copy is left, a program \
                 may not find the filesystem",
            );
        }
        self.walk_from(root, Box::default());
    }

    /// Walk over a directory that has no parent, and over everything below it.
    fn walk_from(&mut self, head: usize, name: Box<[u8]>) {
        let top = self.dirs.len() as u32;
        self.dirs.push(Dir { parent: 0, name });
        let mut todo = vec![(head, top)];
        while let Some((head, dir)) = todo.pop() {
            let mut at = head;
            let mut names = Names::default();
            loop {
                self.pairs[at].dir = Some(dir);
                for child in self.check_entries(at, dir, &mut names) {
                    let path = self.path(dir, &child.name);
                    if let Some(head) = self.child(&path, child.pair) {
                        let new = self.dirs.len() as u32;
                        self.dirs.push(Dir { parent: dir, name: child.name });
                        // The directory is marked when it is first met, so that a second entry that
                        // names it is noticed.
                        self.pairs[head].dir = Some(new);
                        todo.push((head, new));
                    }
                }
                match self.pairs[at].tail {
                    Some(t) if t.hard && !t.pair.is_null() => match self.follow(t.pair, at, dir) {
                        Some(next) => at = next,
                        None => break,
                    },
                    Some(t) if t.hard => {
                        let path = self.dir_path(dir);
                        self.error(
                            "directory-broken",
                            path,
                            "the pointer to its next pair is null",
                        );
                        break;
                    }
                    _ => break,
                }
            }
        }
    }

    /// Report the directories in the thread that nothing in the tree names.
    pub(super) fn check_orphans(&mut self) {
        if self.thread_broken {
            return;
        }
        let mut heads: Vec<(usize, usize)> = Vec::new();
        let mut named = HashSet::new();
        let mut inside = false;
        for (i, p) in self.pairs.iter().enumerate() {
            let orphan = p.threaded && p.dir.is_none() && !p.chain && p.superblock.is_none();
            match heads.last_mut() {
                Some((_, ids)) if orphan && inside && p.continues => *ids += p.ids,
                _ if orphan => heads.push((i, p.ids)),
                _ => {}
            }
            inside = orphan;
            if orphan && let Ok(Some(log)) = store::read_log(&*self.dev, p.pair.0[0]) {
                named.extend(entry::dirs(&log.entries).flat_map(|pair| pair.0));
            }
        }
        // a directory that another orphan names is found in the walk below that orphan
        let is_inner = |c: &Self, i: usize| c.pairs[i].pair.0.iter().any(|b| named.contains(b));
        let (inner, outer): (Vec<_>, Vec<_>) = heads.iter().partition(|(i, _)| is_inner(self, *i));
        let holds = heads.iter().any(|(_, ids)| *ids > 0);
        let is_doubtful = self.doubtful || self.disputes_sync();
        let removed = self.on_disk.needs_sync() && !(holds && is_doubtful);
        for (i, ids) in outer.into_iter().chain(inner) {
            let pair = self.pairs[i].pair;
            if removed {
                self.note("orphan", pair, "was removed; the next write takes it out of the thread");
            } else if self.pairs[i].dir.is_none() {
                self.error(
                    "orphan",
                    pair,
                    format_args!(
                        "a directory of {} has lost its name",
                        count(ids, "entry", "entries")
                    ),
                );
                self.walk_from(i, format!("directory {pair}").into_bytes().into());
            }
        }
    }

    fn check_superblocks(&mut self, chain: &[usize]) {
        let root = chain.last().and_then(|&i| self.pairs[i].superblock);
        let Some(root) = root else { return };
        self.limits = Some(root);
        for &i in chain {
            let Some(copy) = self.pairs[i].superblock.filter(|&copy| copy != root) else {
                continue;
            };
            if copy.block_count != root.block_count {
                self.note(
                    "superblock-size",
                    self.pairs[i].pair,
                    format_args!(
                        "says {} blocks, but the root's superblock, which takes precedence, says \
                         {}: a driver that is configured for either number refuses the image",
                        copy.block_count, root.block_count
                    ),
                );
            }
            if copy != (Superblock { block_count: copy.block_count, ..root }) {
                self.note(
                    "superblock-outdated",
                    self.pairs[i].pair,
                    "differs from the root's superblock, which takes precedence",
                );
            }
        }
        if root.block_size != self.g.block_size || root.block_count != self.g.block_count {
            self.error(
                "geometry",
                "superblock",
                format_args!("says {} blocks of {} bytes", root.block_count, root.block_size),
            );
        }
    }

    fn dir_path(&self, dir: u32) -> String {
        match self.dirs.get(dir as usize) {
            Some(d) if dir != 0 => self.path(d.parent, &d.name),
            _ => "/".to_owned(),
        }
    }

    /// Find the pair that a hardtail of `dir` leads to.
    fn follow(&mut self, pair: Pair, from: usize, dir: u32) -> Option<usize> {
        if let Some(&i) = pair.0.iter().find_map(|b| self.by_block.get(b)) {
            let p = &self.pairs[i];
            if p.dir.is_none() && p.continues && !p.chain && !p.pair.same(pair) {
                // the first pair of the directory has been relocated, so this one may have been,
                // too
                let path = self.dir_path(dir);
                return self.half_orphan(&path, i, pair);
            }
            if p.dir.is_some() || !p.pair.same(pair) {
                let path = self.dir_path(dir);
                self.error("tree-loop", path, format_args!("pair {pair} occurs in it twice"));
                return None;
            }
            return Some(i);
        }
        match store::fetch_dir(&*self.dev, pair) {
            Ok(f) => {
                let threaded = self.pairs[from].threaded;
                Some(self.take(f, threaded, true))
            }
            Err(e) => {
                let message = format!("the entries from here on are lost: {e}");
                self.error("directory-broken", self.dir_path(dir), message);
                None
            }
        }
    }

    /// Find the first pair of the directory `path`.
    fn child(&mut self, path: &str, pair: Pair) -> Option<usize> {
        let known: Vec<usize> =
            pair.0.iter().filter_map(|b| self.by_block.get(b).copied()).collect();
        match known[..] {
            [a, b]
                if a == b
                    && self.pairs[a].dir.is_none()
                    && !self.pairs[a].continues
                    && !self.pairs[a].chain
                    && self.pairs[a].superblock.is_none() =>
            {
                Some(a)
            }
            [] => match store::fetch_dir(&*self.dev, pair) {
                Ok(f) => {
                    self.error(
                        "unthreaded",
                        path,
                        format_args!(
                            "pair {pair} is not in the thread: a device will reuse its blocks"
                        ),
                    );
                    Some(self.take(f, false, false))
                }
                Err(e) => {
                    self.error("directory-broken", path, format_args!("cannot be read: {e}"));
                    None
                }
            },
            [old]
                if self.pairs[old].dir.is_none()
                    && !self.pairs[old].continues
                    && !self.pairs[old].chain =>
            {
                self.half_orphan(path, old, pair)
            }
            _ => {
                self.error(
                    "tree-loop",
                    path,
                    format_args!("its pair {pair} also belongs to another directory"),
                );
                None
            }
        }
    }

    /// Handle a pair that has been relocated: the tree names its new blocks, but the thread still
    /// names the old ones. The content of the new blocks takes the place of the old content.
    fn half_orphan(&mut self, path: &str, old: usize, pair: Pair) -> Option<usize> {
        let place = self.pairs[old].pair;
        match store::fetch_relocated(&*self.dev, pair, place) {
            Ok(f) => {
                let message =
                    format!("{path} has moved to {pair}; the thread names its old blocks");
                if self.on_disk.needs_sync() {
                    self.note("half-orphan", place, message);
                } else {
                    self.error("half-orphan", place, message);
                }
                for b in place.0 {
                    self.owners.release(b);
                }
                self.pairs[old].dir = Some(0);
                let new = self.take(f.unpack(), true, self.pairs[old].continues);
                self.renew(old, new);
                Some(new)
            }
            Err(e) => {
                self.error("directory-broken", path, format_args!("cannot be read: {e}"));
                None
            }
        }
    }

    /// Let the pair `new` take the place of `old` in the thread, and in the global state.
    fn renew(&mut self, old: usize, new: usize) {
        let Some(at) = self.thread.iter().position(|&i| i == old) else { return };
        let in_thread = |&i: &usize| {
            let Seen { pair, tail, gdelta, .. } = self.pairs[i];
            InThread { pair, tail, gdelta }
        };
        if !self.thread_broken && !self.hides_commits {
            let behind = self.thread.iter().skip(at + 1).map(in_thread);
            self.gstate = renewed(self.gstate, in_thread(&old), in_thread(&new), behind);
        }
        self.thread[at] = new;
        self.pairs[new].is_newer = true;
    }

    /// Check the entries of one pair. Returns the directories among them.
    fn check_entries(&mut self, i: usize, dir: u32, names: &mut Names) -> Vec<Child> {
        let pair = self.pairs[i].pair;
        if self.pairs[i].continues && self.pairs[i].ids == 0 {
            self.error(
                "pair-empty",
                pair,
                "a pair inside a directory is empty: the C driver cannot list what follows it",
            );
        }
        let Ok(Some(log)) = store::read_log(&*self.dev, pair.0[0]) else { return Vec::new() };
        let hidden = self.gstate.pending_move().filter(|(p, _)| p.overlaps(pair)).map(|(_, id)| id);
        let mut children = Vec::new();
        for (id, e) in log.entries.into_iter().enumerate() {
            let id = id as u16;
            if hidden == Some(id) {
                continue;
            }
            match e.name_type {
                None => {
                    let message = format_args!("id {id} has no name: a device may stop there");
                    self.error("id-unused", pair, message);
                    self.doubtful = true;
                    if let Content::List(list) = Content::of(&e) {
                        // drivers count the blocks of this list as used
                        self.check_file(&format!("id {id} of {pair}"), i, id, list);
                    }
                }
                Some(tag::SUPERBLOCK) if id == 0 && self.pairs[i].superblock.is_some() => {}
                Some(tag::SUPERBLOCK) => {
                    let message = "there is a superblock at a wrong place: a device may mount that";
                    self.error("bad-struct", pair, message);
                }
                Some(ty) => children.extend(self.check_entry(i, id, dir, ty, e, names)),
            }
        }
        children
    }

    fn check_entry(
        &mut self,
        i: usize,
        id: u16,
        dir: u32,
        ty: u16,
        e: RawEntry,
        names: &mut Names,
    ) -> Option<Child> {
        self.check_name(dir, &e.name, ty, names);
        let content = Content::of(&e);
        let points = content.is_of_directory();
        self.doubtful |= (ty == tag::DIR) != points;
        match (ty, content) {
            (tag::DIR, Content::Dir(pair)) => {
                self.recorder.report.totals.directories += 1;
                return Some(Child { pair, name: e.name.to_box() });
            }
            (tag::DIR, Content::Short { .. }) if points => {
                self.recorder.report.totals.directories += 1;
                self.bad_struct(dir, &e.name, "a directory's struct is too short");
            }
            (tag::REG, Content::Inline(_)) => self.recorder.report.totals.files += 1,
            (tag::REG, Content::List(list)) => {
                self.recorder.report.totals.files += 1;
                let path = self.path(dir, &e.name);
                self.check_file(&path, i, id, list);
            }
            (tag::REG, Content::Short { .. }) if !points => {
                self.recorder.report.totals.files += 1;
                self.bad_struct(dir, &e.name, "a file's struct is too short");
            }
            (tag::REG | tag::DIR, _) => {
                self.bad_struct(dir, &e.name, "no struct tells where its content is");
            }
            _ => {
                let path = self.path(dir, &e.name);
                self.note("type-unknown", path, format_args!("has the unknown type {ty:#05x}"));
            }
        }
        None
    }

    fn bad_struct(&mut self, dir: u32, name: &[u8], message: &str) {
        self.error("bad-struct", self.path(dir, name), message);
    }

    fn check_name(&mut self, dir: u32, name: &[u8], ty: u16, names: &mut Names) {
        let hidden = names.last.as_deref().is_some_and(|l| name::cmp(l, name).is_gt());
        let is_known = matches!(ty, tag::REG | tag::DIR);
        let before = names.seen.get(name).copied();
        names.seen.insert(name.into(), is_known || before == Some(true));
        if !hidden {
            names.last = Some(name.into());
        }
        // a device may open the entry of an unknown type instead of a file or directory of that
        // name
        let is_double = before.is_some_and(|was_known| was_known || is_known);
        if is_double {
            self.error(
                "name-duplicate",
                self.path(dir, name),
                "the directory has several entries of this name: a device opens the one that is \
                 last in the log of its pair",
            );
        }
        if !is_known {
            return;
        }
        if !name::is_presentable(name) {
            let message = format!("Linux cannot hold the name \"{}\": it is not shown", show(name));
            self.error("name-impossible", self.path(dir, name), message);
        }
        if self.limits.is_some_and(|s| name.len() as u32 > s.name_max) {
            self.error(
                "name-too-long",
                self.path(dir, name),
                format_args!("{} bytes: a device cannot open it", name.len()),
            );
        }
        if hidden && !is_double {
            self.error(
                "name-order",
                self.path(dir, name),
                "is out of order, so a device does not find it",
            );
        }
    }
}
