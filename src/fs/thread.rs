//! The thread of metadata pairs: the table of them, their order, which of them changed, and the
//! cache of their content.
//!
//! [`Thread`] owns all of that. What must hold:
//!
//! 1. `next` and `prev` of the pairs agree, and are the thread as it is to become; `disk_tail` of
//!    a pair is what the image says. The flush makes the second the first, and may do so in
//!    several steps ([`View`]).
//! 2. A [`PairIx`] is valid until its pair is forgotten, and its place is used again afterwards.
//!    So whoever keeps one (directories, moves, lists of pairs in [`super::Fs`]) lets go of it
//!    before another pair can get the place.
//! 3. The content of a changed pair is in memory until it is on disk, and so is that of a pair in
//!    which entries wait for a move, are open, or have a name twice: the log does not tell these.
//! 4. The bytes of cached content are counted. Whoever changes content counts the pair again, at
//!    the latest when it is committed.

use std::collections::{BTreeSet, HashMap};

use super::dirs::Directories;
use super::pairs::{CACHE_MAX, Fate, PairInfo, PairIx, View};
use crate::bd::BlockDevice;
use crate::disk::{Tail, name};
use crate::error::{Corrupt, Result};
use crate::mdir::{Double, Kind, Mdir, Role, store};

/// Where walks back along the thread ended: pairs in a row share one walk.
pub(super) type WaysBack = HashMap<PairIx, Option<PairIx>>;

/// The metadata pairs.
#[derive(Debug)]
pub(super) struct Thread {
    pairs: Vec<Option<PairInfo>>,
    vacant: Vec<PairIx>,
    /// Pairs that changed.
    dirty: BTreeSet<PairIx>,
    /// Pairs whose content is counted as cached, and perhaps some that are gone.
    cached: Vec<PairIx>,
    /// Bytes of their content; of changed pairs, as it was before.
    cached_bytes: usize,
    /// Bytes of content that are kept before some of it is evicted.
    cache_max: usize,
    /// Bytes of content at which some is evicted.
    evict_at: usize,
    /// Counts uses of pairs, to tell which was used last.
    tick: u32,
    /// How often content was asked for.
    wanted: u64,
    /// How often it had to be read for that.
    loaded: u64,
}

impl Thread {
    pub fn new() -> Self {
        Self {
            pairs: Vec::new(),
            vacant: Vec::new(),
            dirty: BTreeSet::new(),
            cached: Vec::new(),
            cached_bytes: 0,
            cache_max: CACHE_MAX,
            evict_at: CACHE_MAX,
            tick: 0,
            wanted: 0,
            loaded: 0,
        }
    }

    /// A pair that is known to be there.
    pub fn get(&self, ix: PairIx) -> &PairInfo {
        match self.find(ix) {
            Some(p) => p,
            // whoever keeps an index lets go of it with the pair
            None => panic!("stale pair index {ix:?}"),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, ix: PairIx) -> &mut PairInfo {
        match self.pairs.get_mut(ix.0 as usize) {
            Some(Some(p)) => p,
            _ => panic!("stale pair index {ix:?}"),
        }
    }

    /// The pair at a place, if there is one.
    pub fn find(&self, ix: PairIx) -> Option<&PairInfo> {
        self.pairs.get(ix.0 as usize)?.as_ref()
    }

    /// Every pair.
    pub fn iter(&self) -> impl Iterator<Item = (PairIx, &PairInfo)> {
        let place = |(i, p)| (PairIx(i as u32), p);
        self.pairs.iter().enumerate().map(place).filter_map(|(ix, p)| Some((ix, p.as_ref()?)))
    }

    /// Every pair that there is now, for walks that change some.
    pub fn ids(&self) -> Vec<PairIx> {
        self.iter().map(|(ix, _)| ix).collect()
    }

    /// The content of every pair that is in memory.
    pub fn contents(&mut self) -> impl Iterator<Item = &mut Mdir> {
        self.pairs.iter_mut().flatten().filter_map(|p| p.mdir.as_deref_mut())
    }

    /// How many places the table has.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.pairs.len()
    }

    /// Add a pair, which nothing leads to yet.
    pub fn add(&mut self, p: PairInfo) -> PairIx {
        match self.vacant.pop() {
            Some(ix) => {
                self.pairs[ix.0 as usize] = Some(p);
                ix
            }
            None => {
                self.pairs.push(Some(p));
                PairIx(self.pairs.len() as u32 - 1)
            }
        }
    }

    /// Forget a pair that is out of the thread.
    pub fn forget(&mut self, ix: PairIx) {
        self.dirty.remove(&ix);
        if let Some(p) = self.pairs[ix.0 as usize].take() {
            self.cached_bytes -= p.counted;
            self.vacant.push(ix);
        }
    }

    /// Let `new`, which nothing leads to, take the place of `old` in the table and in the thread.
    pub fn replace(&mut self, old: PairIx, new: PairIx) {
        let Some(mut p) = self.pairs[new.0 as usize].take() else { return };
        self.vacant.push(new);
        let o = self.get(old);
        (p.threaded, p.next, p.prev, p.listed) = (o.threaded, o.next, o.prev, o.listed);
        p.continues = o.continues;
        self.cached_bytes -= o.counted;
        self.pairs[old.0 as usize] = Some(p);
        self.count(old);
    }

    /// A pair changed.
    pub fn mark_dirty(&mut self, ix: PairIx) {
        self.dirty.insert(ix);
    }

    /// A pair has no changes that a flush would write.
    pub fn mark_clean(&mut self, ix: PairIx) {
        self.dirty.remove(&ix);
    }

    /// Pairs that changed.
    pub fn dirty(&self) -> &BTreeSet<PairIx> {
        &self.dirty
    }

    /// Put `ix` behind `prev` in the thread, or in `prev`'s unthreaded chain.
    pub fn link_after(&mut self, prev: PairIx, ix: PairIx) {
        let next = self.get_mut(prev).next.replace(ix);
        let threaded = self.get(prev).threaded;
        let p = self.get_mut(ix);
        p.prev = Some(prev);
        p.next = next;
        p.threaded = threaded;
        if let Some(next) = next {
            self.get_mut(next).prev = Some(ix);
        }
    }

    /// `ix` is out of the thread.
    pub fn unlink(&mut self, ix: PairIx) {
        let p = self.get_mut(ix);
        let (prev, next) = (p.prev.take(), p.next.take());
        if let Some(prev) = prev {
            self.get_mut(prev).next = next;
        }
        if let Some(next) = next {
            self.get_mut(next).prev = prev;
        }
    }

    /// Whether `ix` is passed over by the tails of `view`.
    fn is_skipped(&self, ix: PairIx, view: View) -> bool {
        let p = self.get(ix);
        p.deferred
            || match (p.fate, view) {
                (Fate::Stays, _) => false,
                (Fate::Emptied, _) | (Fate::Removed, View::Final) => true,
                (Fate::Removed, View::Stubbed) => p.continues,
                (Fate::Removed, View::Grown) => false,
            }
    }

    /// The pairs that `view` leaves out behind `ix`, and the one it goes on with.
    pub fn skip_from(&self, ix: PairIx, view: View) -> (Vec<PairIx>, Option<PairIx>) {
        let mut skipped = Vec::new();
        let mut next = self.get(ix).next;
        while let Some(n) = next.filter(|&n| self.is_skipped(n, view)) {
            skipped.push(n);
            next = self.get(n).next;
        }
        (skipped, next)
    }

    /// The tail that `ix` has in `view`.
    pub fn tail_in(&self, ix: PairIx, view: View) -> Tail {
        let (skipped, next) = self.skip_from(ix, view);
        match next {
            Some(n) => Tail { pair: self.get(n).blocks, hard: self.get(n).continues },
            None if self.get(ix).threaded => Tail::END,
            // whatever the last pair of an unthreaded directory points at stays
            None => {
                let last = self.get(skipped.last().copied().unwrap_or(ix)).disk_tail;
                if last.hard { Tail::END } else { last }
            }
        }
    }

    /// Whether the tail on disk leads where `view` wants it to.
    pub fn tail_is_right(&self, ix: PairIx, view: View) -> bool {
        let (want, have) = (self.tail_in(ix, view), self.get(ix).disk_tail);
        (want.pair.is_null() && have.pair.is_null())
            || (want.hard == have.hard && want.pair.same(have.pair))
    }

    /// The nearest pair from `ix` backwards whose commit makes `ix` reachable: itself, if durable
    /// metadata reaches it.
    pub fn publisher(&self, ix: PairIx, ways: &mut WaysBack) -> PairIx {
        self.back_to(ix, |p| p.on_disk && p.fate != Fate::Emptied, ways).unwrap_or(ix)
    }

    /// The nearest pair from `ix` backwards, itself included, that `is_it`. While nothing of that
    /// changes, `ways` may be used again.
    pub fn back_to(
        &self,
        ix: PairIx,
        is_it: impl Fn(&PairInfo) -> bool,
        ways: &mut WaysBack,
    ) -> Option<PairIx> {
        let mut passed = Vec::new();
        let mut at = Some(ix);
        let found = loop {
            let Some(here) = at else { break None };
            if let Some(&known) = ways.get(&here) {
                break known;
            }
            let p = self.get(here);
            if is_it(p) {
                break Some(here);
            }
            passed.push(here);
            at = p.prev;
        };
        ways.extend(passed.into_iter().map(|p| (p, found)));
        found
    }

    /// Pairs of the thread whose tails do not lead yet where they are to lead in the end.
    pub fn with_wrong_tails(&self) -> Vec<PairIx> {
        let stays = self.iter().filter(|(_, p)| p.threaded && p.fate == Fate::Stays);
        stays.map(|(ix, _)| ix).filter(|&ix| !self.tail_is_right(ix, View::Final)).collect()
    }

    /// The content of a pair, read if need be.
    pub fn mdir(
        &mut self,
        dev: &dyn BlockDevice,
        dirs: &Directories,
        ix: PairIx,
    ) -> Result<&mut Mdir> {
        self.tick = self.tick.wrapping_add(1);
        self.wanted += 1;
        if self.get(ix).mdir.is_none() {
            self.loaded += 1;
            let PairInfo { blocks, dir, .. } = *self.get(ix);
            let Some(log) = store::read_log(dev, blocks.0[0])? else {
                return Err(Corrupt::NoValidCommit(blocks).into());
            };
            let mdir = dirs.resolve(dir, Mdir::from_log(log));
            self.evict();
            self.get_mut(ix).mdir = Some(Box::new(mdir));
            self.count(ix);
        }
        let tick = self.tick;
        let p = self.get_mut(ix);
        p.used = tick;
        Ok(p.mdir.get_or_insert_default())
    }

    /// Keep `first` in step with the content.
    ///
    /// It does not rise while the pair waits to be flushed: a name that was removed and comes back
    /// must meet its own pair, or a crash could show both or neither.
    pub fn refresh_first(&mut self, ix: PairIx) {
        let dirty = self.dirty.contains(&ix);
        let p = self.get_mut(ix);
        if let Some(m) = &p.mdir {
            let first = m.entries.iter().find(|e| e.kind != Kind::Superblock).map(|e| &*e.name);
            let rises = match (first, p.first.as_deref()) {
                (Some(new), Some(old)) => name::cmp(new, old).is_ge(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if !(dirty && rises) {
                p.first = first.map(Into::into);
            }
        }
    }

    /// Count the content of `ix` in the cache as large as it is now.
    pub fn count(&mut self, ix: PairIx) {
        let p = self.get_mut(ix);
        let bytes = p.mdir.as_ref().map_or(0, |m| m.footprint());
        let before = std::mem::replace(&mut p.counted, bytes);
        let listed = std::mem::replace(&mut p.listed, true);
        self.cached_bytes = self.cached_bytes - before + bytes;
        if !listed {
            self.cached.push(ix);
        }
    }

    /// Bytes of cached content; of changed pairs, as it was before.
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// How often content was asked for, and how often it had to be read for that.
    #[cfg(feature = "mount")]
    pub fn lookups(&self) -> (u64, u64) {
        (self.wanted, self.loaded)
    }

    /// Keep so many bytes of content in memory, where most of it is not asked for again.
    #[cfg(feature = "transfer")]
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache_max = bytes;
        self.evict_at = bytes;
    }

    /// Drop the content of pairs long unused until the cache is well under its budget; dirty ones
    /// and those of open files stay.
    pub fn evict(&mut self) {
        // indices are used again, so the list may name a pair more than once
        let is_long = self.cached.len() > 2 * self.pairs.len() + 1024;
        if self.cached_bytes <= self.evict_at && !is_long {
            return;
        }
        let mut listed = std::mem::take(&mut self.cached);
        listed.sort_unstable();
        listed.dedup();
        let mut clean: Vec<(u32, PairIx)> = Vec::new();
        let mut total = 0;
        for &ix in &listed {
            let Some(Some(p)) = self.pairs.get_mut(ix.0 as usize) else { continue };
            p.listed = false;
            let Some(m) = &p.mdir else { continue };
            let idle = m
                .entries
                .iter()
                .all(|e| e.file.is_none() && e.role == Role::Live && e.double == Double::No);
            if p.on_disk && idle && !self.dirty.contains(&ix) {
                clean.push((self.tick.wrapping_sub(p.used), ix));
            } else {
                total += p.counted;
                p.listed = true;
                self.cached.push(ix);
            }
        }
        // what cannot be dropped must not make every load look for something to drop
        self.evict_at = self.cache_max.max(total + self.cache_max / 4);
        let keep = self.cache_max / 4 * 3;
        clean.sort_unstable();
        for (_, ix) in clean {
            let p = self.get_mut(ix);
            if total + p.counted > keep {
                p.mdir = None;
                p.counted = 0;
            } else {
                total += p.counted;
                p.listed = true;
                self.cached.push(ix);
            }
        }
        self.cached_bytes = total;
    }
}
