//! The verifier, and repair.
//!
//! [`check`] only reads. It walks over the thread and the tree itself, and accounts for every
//! block. It shares the parser with the filesystem but none of the filesystem's state, so it can
//! judge what the filesystem has written. Time and memory are proportional to the size of the
//! image, whatever the image holds. `docs/check.md` lists every code.

mod files;
mod owners;
mod repair;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use crate::bd::{BlockDevice, Geometry};
use crate::disk::{GState, Pair, Superblock, Tail, crc};
use crate::error::Result;
use crate::mdir::COUNT_MAX;
use crate::mdir::store::{self, Fetched, Hidden};
use crate::show::{self, Show, path_from_end};

use owners::Owners;

pub(crate) use files::code_of as list_code;
pub use repair::{Mode, Repair, Repairs, repair};

/// How many findings of one code are kept. Further ones are only counted.
const FINDINGS_MAX: u64 = 1000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Severity {
    /// The image breaks the format.
    Error,
    /// A device copes with it. The next write or a repair may remove the cause, or nothing needs to
    /// be done. If the note says that an older state is used, later changes may be lost.
    Note,
}

/// One thing found.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, as a code for programs. Codes do not change between versions.
    pub code: &'static str,
    /// Where it was found: a path, a pair, a block, or a part such as "global state", "the file" or
    /// "the image's end".
    pub place: String,
    /// What the finding means, in words.
    pub message: String,
}

/// What is in the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Totals {
    /// Files that the walk reached.
    pub files: u64,
    /// Directories that the walk reached, without the root.
    pub directories: u64,
    /// Blocks of metadata pairs and files. All other blocks are free.
    pub blocks_used: u64,
    /// Blocks in the filesystem.
    pub block_count: u32,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Report {
    /// The findings, in the order in which they were made; no more than a thousand of each code.
    pub findings: Vec<Finding>,
    /// For each code, how many more findings there were.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub omitted: BTreeMap<&'static str, u64>,
    /// What is in the image.
    pub totals: Totals,
}

impl Report {
    /// Whether none of the findings is an error.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Error)
    }
}

/// A pair that the walk has met. Its entries are read again when they are needed.
struct Seen {
    pair: Pair,
    tail: Option<Tail>,
    gdelta: GState,
    threaded: bool,
    /// Whether a hardtail leads here.
    continues: bool,
    /// Whether the pair belongs to the superblock chain: blocks 0 and 1, and all pairs to which
    /// hardtails lead from there.
    chain: bool,
    /// How many ids the pair has.
    ids: usize,
    /// The directory that the pair belongs to, once the walk over the tree has reached it.
    dir: Option<u32>,
    superblock: Option<Superblock>,
    /// Whether it is the newer copy of a pair that the thread names by its old blocks.
    is_newer: bool,
}

/// A directory that the walk has met. Its path is found through its parents.
struct Dir {
    parent: u32,
    name: Box<[u8]>,
}

/// A report that is being made.
#[derive(Default)]
pub(crate) struct Recorder {
    pub report: Report,
    counts: HashMap<&'static str, u64>,
}

impl Recorder {
    /// Add a finding, or only count it if there are already many of its code.
    pub fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: impl Display,
        message: impl Display,
    ) {
        let count = self.counts.entry(code).or_default();
        *count += 1;
        if *count > FINDINGS_MAX {
            *self.report.omitted.entry(code).or_default() += 1;
            return;
        }
        let (place, message) = (place.to_string(), message.to_string());
        self.report.findings.push(Finding { severity, code, place, message });
    }
}

struct Checker<'a> {
    dev: Arc<dyn BlockDevice>,
    g: Geometry,
    /// Whether the device is a truncated image.
    is_truncated: bool,
    recorder: Recorder,
    pairs: Vec<Seen>,
    by_block: HashMap<u32, usize>,
    /// The pairs of the thread, in its order.
    thread: Vec<usize>,
    dirs: Vec<Dir>,
    owners: Owners,
    /// The superblock in force, which is the root's.
    limits: Option<Superblock>,
    /// The sum of the deltas. A pair that was relocated counts with its new content.
    gstate: GState,
    /// The sum of the deltas along the thread as it is on disk.
    on_disk: GState,
    thread_broken: bool,
    /// Whether a pair of the thread shows an older state, because one of its commits is damaged.
    hides_commits: bool,
    /// Whether some damaged entry of the tree may once have named a directory.
    doubtful: bool,
    /// Whether commits should have forward CRCs (disk version 2.1).
    fcrc: bool,
    /// Called with the number of blocks that have been accounted for.
    progress: &'a dyn Fn(u64),
}

/// Verify the littlefs on `dev`. Nothing is changed.
///
/// # Errors
/// If the superblock pair cannot be read, so that nothing can be examined. All other damage is in
/// the report.
pub fn check(dev: Arc<dyn BlockDevice>) -> Result<Report> {
    check_with(dev, &|_| ())
}

/// Like [`check`], and call `progress` repeatedly with the number of blocks that have been
/// accounted for.
///
/// # Errors
/// Those of [`check`].
pub fn check_with(dev: Arc<dyn BlockDevice>, progress: &dyn Fn(u64)) -> Result<Report> {
    let g = dev.geometry();
    let last = dev.read(g.block_count.saturating_sub(1), g.block_size - 1, &mut [0]);
    let is_truncated = last.is_err_and(|e| e.present().is_some());
    let mut c = Checker {
        dev,
        g,
        is_truncated,
        recorder: Recorder::default(),
        pairs: Vec::new(),
        by_block: HashMap::new(),
        thread: Vec::new(),
        dirs: Vec::new(),
        owners: Owners::new(g.block_count),
        limits: None,
        gstate: GState::default(),
        on_disk: GState::default(),
        thread_broken: false,
        hides_commits: false,
        doubtful: false,
        fcrc: false,
        progress,
    };
    c.walk_thread()?;
    if c.thread_broken || c.hides_commits {
        // a sum that lacks some of the deltas, or has outdated ones, has no meaning
        c.gstate = GState::default();
    }
    c.on_disk = c.gstate;
    c.walk_tree();
    c.check_gstate();
    c.check_orphans();
    let mut report = c.recorder.report;
    report.totals.blocks_used = c.owners.used();
    report.totals.block_count = g.block_count;
    Ok(report)
}

/// The path of `name` in a form for people. `up` gives the names of the directories above it
/// without the root, the nearest first. The beginning of a long path is left out.
pub(crate) fn show_path<'a>(name: &'a [u8], up: impl Iterator<Item = &'a [u8]>) -> String {
    let root: &[u8] = b"";
    path_from_end([name].into_iter().chain(up).chain([root])).show().to_string()
}

/// A name in a form for people.
pub(crate) fn show(name: &[u8]) -> String {
    name.show().to_string()
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Error, code, place, message);
    }

    fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Note, code, place, message);
    }

    /// The path of `name` in directory `dir`.
    fn path(&self, dir: u32, name: &[u8]) -> String {
        let mut at = dir;
        let up = std::iter::from_fn(|| {
            let d = self.dirs.get(at as usize).filter(|_| at != 0)?;
            at = d.parent;
            Some(&*d.name)
        });
        show_path(name, up)
    }

    fn walk_thread(&mut self) -> Result<()> {
        let mut next = Pair::SUPERBLOCK;
        let mut continues = false;
        let mut chain = true;
        loop {
            if next.0.iter().any(|b| self.by_block.contains_key(b)) {
                self.thread_broken = true;
                self.error("thread-loop", next, "the thread leads back to this pair");
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
            if self.pairs.is_empty() {
                self.fcrc = Superblock::of(&fetched.log).is_some_and(Superblock::has_fcrc);
            }
            self.gstate = self.gstate.xor(fetched.log.gdelta);
            chain &= continues || self.pairs.is_empty();
            let i = self.take(fetched, true, continues);
            self.thread.push(i);
            self.pairs[i].chain = chain;
            match self.pairs[i].tail {
                Some(t) if !t.pair.is_null() => (next, continues) = (t.pair, t.hard),
                _ => return Ok(()),
            }
        }
    }

    /// Check a pair, and add it to those that were seen. Returns its index among them.
    fn take(&mut self, fetched: Fetched, threaded: bool, continues: bool) -> usize {
        let i = self.pairs.len();
        for b in fetched.pair.0 {
            self.by_block.insert(b, i);
            self.claim(b, i, None);
        }
        self.check_pair(&fetched);
        let Fetched { pair, log, .. } = fetched;
        let superblock = Superblock::of(&log);
        let (tail, ids) = (log.tail, log.entries.len());
        let dir = None;
        self.pairs.push(Seen {
            pair,
            tail,
            gdelta: log.gdelta,
            threaded,
            continues,
            chain: false,
            ids,
            dir,
            superblock,
            is_newer: false,
        });
        i
    }

    /// The checks that need only the pair itself.
    fn check_pair(&mut self, fetched: &Fetched) {
        let Fetched { pair, log, twin_valid, unreadable } = fetched;
        if unreadable.is_some() {
            self.error(
                "pair-unreadable",
                pair,
                "one of its blocks cannot be read, and that block may be the newer one",
            );
        } else if !twin_valid {
            self.note(
                "pair-half-dead",
                pair,
                "the newer block holds no valid commit; the older one is used, so later changes may \
                 be lost",
            );
            self.note_hidden(*pair, pair.0[1]);
        }
        let active = pair.0[0];
        if !store::is_erased_from(&*self.dev, active, log.off) {
            self.note(
                "debris",
                pair,
                "the bytes after the last commit are not erased; the next write compacts the pair",
            );
            match store::hidden_commits(&*self.dev, *pair, log) {
                Some(e) => {
                    self.hides_commits = true;
                    self.error("commits-hidden", pair, e);
                }
                None => self.note_hidden(*pair, active),
            }
        } else if self.fcrc && !self.continues_by_fcrc(log.off, log.fcrc, log.ends) {
            self.note(
                "commit-closed",
                pair,
                "the last commit has no matching forward CRC: a device compacts here instead of \
                 appending",
            );
        }
        if let Some(oddity) = log.oddity {
            let message = format_args!(
                "holds {oddity}, which no driver writes: a device may not be able to read the pair"
            );
            self.error("log-odd", pair, message);
        }
        if log.entries.len() > COUNT_MAX {
            self.note(
                "ids-many",
                pair,
                format_args!(
                    "holds {} entries, more than any driver puts there",
                    log.entries.len()
                ),
            );
        }
    }

    /// Look for commits in `block` that no driver reads, because the one before them is damaged. A
    /// power loss does not leave them, unless the device does not erase blocks: old commits may be
    /// behind a torn one there. So this is only a note.
    fn note_hidden(&mut self, pair: Pair, block: u32) {
        let Some(Hidden { at, count, .. }) = store::hidden_in(&*self.dev, block) else { return };
        let count = show::count(count, "valid commit", "valid commits");
        let message = format_args!(
            "no driver reads {count} of block {block:#x}, because a commit before them is damaged \
             (byte {at:#x}): later changes may be lost; 'littlefs recover' finds their files"
        );
        self.note("commits-hidden", pair, message);
    }

    /// Whether a driver of disk version 2.1 would append after the last commit, which ends at
    /// `off`. All bytes from there on are known to be 0xFF.
    fn continues_by_fcrc(&self, off: u32, fcrc: Option<(u32, u32)>, ends: u32) -> bool {
        let rest = self.g.block_size - off;
        match fcrc {
            Some((size, sum)) => size <= rest && sum == crc::erased(size),
            // the last commit needs no forward CRC if there is no room for another commit
            None => rest < 1 << ends.trailing_zeros().min(31),
        }
    }

    fn check_gstate(&mut self) {
        if self.on_disk.needs_sync() {
            self.note(
                "sync-pending",
                "global state",
                "an operation was interrupted; the next write finishes it",
            );
        }
        if let Some((pair, id)) = self.disputed_move() {
            let message = format_args!(
                "the thread names a move of entry {id}, but the newer copy of a relocated pair \
                 does not: it is not known whether the entry was moved"
            );
            self.error("move-lost", pair, message);
        }
        let Some((pair, id)) = self.gstate.pending_move() else { return };
        let at = pair.0.iter().find_map(|b| self.by_block.get(b));
        if at.is_some() && !self.pairs.iter().any(|seen| seen.pair.same(pair)) {
            let message = format_args!(
                "a pending move names entry {id} of these two blocks, but they are not a pair: a \
                 device may delete an entry that was not moved"
            );
            return self.error("move-lost", pair, message);
        }
        match at {
            Some(&i) if id == 0 && self.pairs[i].superblock.is_some() => self.error(
                "move-lost",
                pair,
                "a pending move names the superblock: a device will delete it",
            ),
            Some(&i) if usize::from(id) < self.pairs[i].ids => self.note(
                "move-pending",
                pair,
                format_args!("entry {id} was moved away; the next write deletes it here"),
            ),
            _ => self.error(
                "move-lost",
                pair,
                format_args!("a pending move names entry {id}, which is not in the thread"),
            ),
        }
    }

    /// A move that the thread on disk names, but not the newer copies of relocated pairs. Its entry
    /// is still there. If its pair was relocated, the newer copy may have ended the move.
    fn disputed_move(&self) -> Option<(Pair, u16)> {
        let (pair, id) = self.on_disk.pending_move()?;
        let holds =
            |seen: &Seen| !seen.is_newer && seen.pair.overlaps(pair) && usize::from(id) < seen.ids;
        let is_disputed = self.gstate.pending_move().is_none()
            && self.thread.iter().any(|&i| holds(&self.pairs[i]));
        is_disputed.then_some((pair, id))
    }

    /// Whether the newer copies of relocated pairs clear the sync bit. A driver that relocates a pair
    /// sets it, and clears it only after the thread names the new blocks. So it is not known whether
    /// directories without a name were removed.
    fn disputes_sync(&self) -> bool {
        self.pairs.iter().any(|seen| seen.is_newer) && !self.gstate.needs_sync()
    }
}

/// The parts of a pair in the thread that matter for the global state.
#[derive(Clone, Copy)]
struct InThread {
    pair: Pair,
    tail: Option<Tail>,
    gdelta: GState,
}

/// The global state with the newer copy `new` of a pair in the place of `old`, which is followed in
/// the thread by the pairs `behind`. The thread on disk still names the old copy, but the new copy
/// counts: if it has ended a move, the id of that move refers to another entry by now. The pairs
/// that its tail passes over do not count any more, because it has taken over their deltas.
fn renewed(
    gstate: GState,
    old: InThread,
    new: InThread,
    behind: impl Iterator<Item = InThread>,
) -> GState {
    let next = new.tail.filter(|tail| !tail.pair.is_null());
    let replaced = gstate.xor(old.gdelta).xor(new.gdelta);
    let mut passed = replaced;
    for pair in behind {
        if next.is_some_and(|next| next.pair.same(pair.pair)) {
            return passed;
        }
        passed = passed.xor(pair.gdelta);
    }
    // without a next pair, the tail passes over all of them; otherwise it leads out of the thread
    if next.is_none() { passed } else { replaced }
}
