//! The read-only verifier: walks thread and tree by itself and accounts for every block.
//!
//! It shares the parser with the filesystem but none of its state, so it can judge what the
//! filesystem wrote.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;

use crate::bd::{BlockDevice, Geometry};
use crate::disk::Superblock;
use crate::disk::log::Log;
use crate::disk::{GState, Pair, ctz, name, read_u32_le, tag};
use crate::error::{Error, Result};
use crate::mdir::store::{self, Fetched};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The image breaks the format.
    Error,
    /// Worth knowing, and harmless: the next write mends it.
    Note,
}

/// One thing found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What, for programs: stable over versions.
    pub code: &'static str,
    /// Where: a path, a pair, a block.
    pub place: String,
    /// What it means, for people.
    pub message: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether no finding is an error.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Error)
    }
}

/// A pair of the walk.
struct Seen {
    pair: Pair,
    log: Log,
    threaded: bool,
    continues: bool,
    in_tree: bool,
    superblock: Option<Superblock>,
}

struct Checker {
    dev: Arc<dyn BlockDevice>,
    g: Geometry,
    report: Report,
    pairs: Vec<Seen>,
    by_block: HashMap<u32, usize>,
    /// Who uses a block, by description index.
    owners: HashMap<u32, u32>,
    owner_names: Vec<String>,
    gstate: GState,
    thread_broken: bool,
}

/// Verify the littlefs on `dev` without changing anything.
///
/// # Errors
/// Only when nothing can be examined: the superblock pair cannot be read.
pub fn check(dev: Arc<dyn BlockDevice>) -> Result<Report> {
    let g = dev.geometry();
    let mut c = Checker {
        dev,
        g,
        report: Report::default(),
        pairs: Vec::new(),
        by_block: HashMap::new(),
        owners: HashMap::new(),
        owner_names: Vec::new(),
        gstate: GState::default(),
        thread_broken: false,
    };
    c.walk_thread()?;
    c.check_gstate();
    c.walk_tree();
    c.check_orphans();
    Ok(c.report)
}

impl Checker {
    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: impl Display,
        message: impl Display,
    ) {
        let (place, message) = (place.to_string(), message.to_string());
        self.report.findings.push(Finding { severity, code, place, message });
    }

    fn error(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.add(Severity::Error, code, place, message);
    }

    fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.add(Severity::Note, code, place, message);
    }

    /// Count `block` as used by owner `who`; an error if it has another already.
    fn claim(&mut self, block: u32, who: u32) {
        if let Some(other) = self.owners.insert(block, who) {
            let name = |i: u32| self.owner_names.get(i as usize).cloned().unwrap_or_default();
            let (a, b) = (name(other), name(who));
            self.error(
                "block-shared",
                format_args!("block {block:#x}"),
                format_args!("is used by {a} and by {b}: a write to one damages the other"),
            );
        }
    }

    fn owner(&mut self, name: String) -> u32 {
        self.owner_names.push(name);
        self.owner_names.len() as u32 - 1
    }

    fn walk_thread(&mut self) -> Result<()> {
        let mut next = Pair::SUPERBLOCK;
        let mut continues = false;
        loop {
            if next.0.iter().any(|b| self.by_block.contains_key(b)) {
                self.thread_broken = true;
                self.error("thread-loop", next, "the thread comes back to this pair");
                return Ok(());
            }
            let fetched = match store::fetch(&*self.dev, next) {
                Ok(f) => f,
                Err(e) if self.pairs.is_empty() => return Err(e),
                Err(e) => {
                    self.thread_broken = true;
                    self.error("thread-broken", next, e);
                    return Ok(());
                }
            };
            let i = self.take(fetched, true, continues);
            self.gstate = self.gstate.xor(self.pairs[i].log.gdelta);
            match self.pairs[i].log.tail {
                Some(t) if !t.pair.is_null() => (next, continues) = (t.pair, t.hard),
                _ => return Ok(()),
            }
        }
    }

    /// Add a pair, with the checks that need nothing but itself.
    fn take(&mut self, fetched: Fetched, threaded: bool, continues: bool) -> usize {
        let Fetched { pair, log, twin_valid } = fetched;
        let i = self.pairs.len();
        let who = self.owner(format!("metadata pair {pair}"));
        for b in pair.0 {
            self.by_block.insert(b, i);
            self.claim(b, who);
        }
        if !twin_valid {
            self.note(
                "pair-half-dead",
                pair,
                "the newer block holds no valid commit; the older one serves",
            );
        }
        if !store::is_erased_from(&*self.dev, pair.0[0], log.off) {
            self.note(
                "debris",
                pair,
                "bytes behind the last commit are not erased; the next write compacts",
            );
        }
        let superblock = Superblock::of(&log);
        self.pairs.push(Seen { pair, log, threaded, continues, in_tree: false, superblock });
        i
    }

    fn check_gstate(&mut self) {
        if self.gstate.needs_sync() {
            self.note(
                "sync-pending",
                "global state",
                "an operation was interrupted; the next write finishes it",
            );
        }
        if let Some((pair, id)) = self.gstate.pending_move() {
            let known = pair.0.iter().any(|b| self.by_block.contains_key(b));
            if known {
                self.note(
                    "move-pending",
                    pair,
                    format_args!("entry {id} was moved away; the next write deletes it here"),
                );
            } else {
                self.error(
                    "move-lost",
                    pair,
                    "a pending move names a pair that is not in the thread",
                );
            }
        }
    }

    /// The entry that a pending move hides in pair `i`.
    fn hidden(&self, i: usize) -> Option<u16> {
        let (pair, id) = self.gstate.pending_move()?;
        self.pairs[i].pair.overlaps(pair).then_some(id)
    }

    fn walk_tree(&mut self) {
        let chain: Vec<usize> =
            (0..self.pairs.len()).filter(|&i| self.pairs[i].superblock.is_some()).collect();
        let Some(&root) = chain.last() else {
            self.error("superblock-missing", Pair::SUPERBLOCK, "no pair holds a superblock entry");
            return;
        };
        self.check_superblocks(&chain);
        let mut todo = vec![(root, "/".to_owned())];
        while let Some((head, path)) = todo.pop() {
            let mut at = head;
            let mut last: Option<Box<[u8]>> = None;
            let mut names = HashSet::new();
            loop {
                self.pairs[at].in_tree = true;
                for (name, pair, id) in self.check_entries(at, &path, &mut last, &mut names) {
                    let path = format!("{path}{}/", String::from_utf8_lossy(&name));
                    if let Some(child) = self.child(&path, pair, at, id) {
                        todo.push((child, path));
                    }
                }
                match self.pairs[at].log.tail {
                    Some(t) if t.hard && !t.pair.is_null() => {
                        match self.follow(t.pair, at, &path) {
                            Some(next) => at = next,
                            None => break,
                        }
                    }
                    _ => break,
                }
            }
        }
    }

    fn check_superblocks(&mut self, chain: &[usize]) {
        let root = chain.last().and_then(|&i| self.pairs[i].superblock);
        let Some(root) = root else { return };
        for &i in chain {
            if self.pairs[i].superblock != Some(root) {
                self.note(
                    "superblock-outdated",
                    self.pairs[i].pair,
                    "differs from the root's, which counts",
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

    /// The pair behind a hardtail.
    fn follow(&mut self, pair: Pair, from: usize, path: &str) -> Option<usize> {
        if let Some(&i) = pair.0.iter().find_map(|b| self.by_block.get(b)) {
            if self.pairs[i].in_tree || !self.pairs[i].pair.same(pair) {
                self.error("tree-loop", path, format_args!("pair {pair} is part of it twice"));
                return None;
            }
            return Some(i);
        }
        match store::fetch(&*self.dev, pair) {
            Ok(f) => {
                let threaded = self.pairs[from].threaded;
                Some(self.take(f, threaded, true))
            }
            Err(e) => {
                self.error("directory-broken", path, e);
                None
            }
        }
    }

    /// The first pair of the directory `path`, named by entry `id` of pair `parent`.
    fn child(&mut self, path: &str, pair: Pair, parent: usize, id: u16) -> Option<usize> {
        let known: Vec<usize> =
            pair.0.iter().filter_map(|b| self.by_block.get(b).copied()).collect();
        match known[..] {
            [a, b] if a == b && !self.pairs[a].in_tree && !self.pairs[a].continues => Some(a),
            [] => match store::fetch(&*self.dev, pair) {
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
                    self.error("directory-broken", path, e);
                    None
                }
            },
            [old] if !self.pairs[old].in_tree => {
                let place = self.pairs[old].pair;
                let message =
                    format_args!("{path} has moved to {pair}; the thread names its old blocks")
                        .to_string();
                if self.gstate.needs_sync() {
                    self.note("half-orphan", place, message);
                } else {
                    self.error("half-orphan", place, message);
                }
                match store::fetch(&*self.dev, pair) {
                    Ok(f) => {
                        // the tree's half takes the place of the thread's
                        for b in self.pairs[old].pair.0 {
                            self.owners.remove(&b);
                        }
                        self.pairs[old].in_tree = true;
                        Some(self.take(f, true, false))
                    }
                    Err(e) => {
                        self.error("directory-broken", path, e);
                        None
                    }
                }
            }
            _ => {
                let at = self.pairs[parent].pair;
                self.error(
                    "tree-loop",
                    path,
                    format_args!("pair {pair} (entry {id} of {at}) is reached twice"),
                );
                None
            }
        }
    }

    /// The entries of one pair; returns the directories among them.
    fn check_entries(
        &mut self,
        i: usize,
        path: &str,
        last: &mut Option<Box<[u8]>>,
        names: &mut HashSet<Box<[u8]>>,
    ) -> Vec<(Box<[u8]>, Pair, u16)> {
        let pair = self.pairs[i].pair;
        let hidden = self.hidden(i);
        if self.pairs[i].continues && self.pairs[i].log.entries.is_empty() {
            self.error(
                "pair-empty",
                pair,
                "an empty pair inside a directory: the C driver cannot list past it",
            );
        }
        let limits = self.pairs.iter().rev().find_map(|p| p.superblock);
        let entries = std::mem::take(&mut self.pairs[i].log.entries);
        let mut dirs = Vec::new();
        for (id, e) in entries.iter().enumerate() {
            let id = id as u16;
            let Some(ty) = e.name_type else {
                self.note("id-unused", pair, format_args!("id {id} has no name"));
                continue;
            };
            if ty == tag::SUPERBLOCK || hidden == Some(id) {
                continue;
            }
            let place = format!("{path}{}", String::from_utf8_lossy(&e.name));
            if !name::is_presentable(&e.name) {
                self.error("name-impossible", &place, "Linux cannot hold this name");
            }
            if limits.is_some_and(|s| e.name.len() as u32 > s.name_max) {
                self.error(
                    "name-too-long",
                    &place,
                    format_args!("{} bytes exceed name_max", e.name.len()),
                );
            }
            if last.as_deref().is_some_and(|l| name::cmp(l, &e.name).is_gt()) {
                self.error("name-order", &place, "stands where a device stops looking for it");
            }
            if !names.insert(e.name.clone()) {
                self.error("name-duplicate", &place, "the directory holds this name twice");
            }
            *last = Some(e.name.clone());
            match (ty, &e.data) {
                (tag::DIR, Some((tag::DIRSTRUCT, d))) => match Pair::from_bytes(d) {
                    Some(child) => dirs.push((e.name.clone(), child, id)),
                    None => self.error("bad-struct", &place, "the directory's struct is too short"),
                },
                (tag::REG, Some((tag::INLINESTRUCT, _))) => {}
                (tag::REG, Some((tag::CTZSTRUCT, d))) => match Pair::from_bytes(d) {
                    Some(Pair([head, size])) => self.check_file(&place, head, size, limits),
                    None => self.error("bad-struct", &place, "the file's struct is too short"),
                },
                (tag::REG | tag::DIR, _) => {
                    self.error("bad-struct", &place, "has no struct of its kind")
                }
                _ => {
                    self.note("type-unknown", &place, format_args!("is of unknown type {ty:#05x}"))
                }
            }
        }
        dirs
    }

    fn check_file(&mut self, path: &str, head: u32, size: u32, limits: Option<Superblock>) {
        if limits.is_some_and(|s| size > s.file_max) {
            self.error("file-too-large", path, format_args!("{size} bytes exceed file_max"));
        }
        let count = ctz::blocks(self.g.block_size, size);
        if count > self.g.block_count {
            self.error(
                "ctz-too-long",
                path,
                format_args!("claims {size} bytes, more than the image holds"),
            );
            return;
        }
        let who = self.owner(format!("file {path}"));
        // blocks already visited, by index, that a later pointer must agree with
        let mut expected: BTreeMap<u32, u32> = BTreeMap::new();
        let mut block = head;
        for i in (0..count).rev() {
            if block >= self.g.block_count {
                self.error(
                    "ctz-range",
                    path,
                    format_args!("block {i} of its list is {block:#x}, outside the image"),
                );
                return;
            }
            self.claim(block, who);
            if expected.remove(&i).is_some_and(|e| e != block) {
                self.error(
                    "ctz-pointer",
                    path,
                    format_args!("two pointers to block {i} of its list differ"),
                );
            }
            let n = ctz::pointers(i);
            let mut ptrs = vec![0; 4 * n as usize];
            if let Err(e) = self.dev.read(block, 0, &mut ptrs) {
                self.error("ctz-unreadable", path, Error::Io(e));
                return;
            }
            for k in 1..n {
                if let Some(p) = read_u32_le(&ptrs, 4 * k as usize)
                    && expected.insert(i - (1 << k), p).is_some_and(|e| e != p)
                {
                    self.error(
                        "ctz-pointer",
                        path,
                        format_args!("pointer {k} of block {i} of its list is wrong"),
                    );
                }
            }
            if let Some(p) = read_u32_le(&ptrs, 0) {
                block = p;
            }
        }
    }

    /// Pairs in the thread that nothing in the tree names.
    fn check_orphans(&mut self) {
        if self.thread_broken {
            return;
        }
        let orphans: Vec<Pair> = self
            .pairs
            .iter()
            .filter(|p| p.threaded && !p.in_tree && p.superblock.is_none())
            .map(|p| p.pair)
            .collect();
        for pair in orphans {
            let message = "is in the thread but belongs to no directory";
            if self.gstate.needs_sync() {
                self.note("orphan", pair, message);
            } else {
                self.error("orphan", pair, message);
            }
        }
    }
}
