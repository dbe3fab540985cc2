//! Deciding which former lists still have their content.
//!
//! The format has no checksums for file data, and free blocks may be written at any time. A driver
//! allocates the same free blocks in the same order again and again. So a new file often has
//! exactly the blocks of a deleted one, with the same pointers, and pointers that agree prove
//! nothing. The logs alone prove nothing either, because a write that loses power before its commit
//! leaves no trace in them.
//!
//! A list is *proved* if every state since then had all of its blocks in use, at the same index of
//! a list of the same file. No driver writes to a block that is in use.
//!
//! If a log of the present filesystem has commits that cannot be read, no list is proved or quiet,
//! because these commits may have freed and used any block.
//!
//! A list is *quiet* if some of its blocks became free, but every later state of every pair can
//! still be read, and none of them uses one of the blocks. In this case only a write that was never
//! committed can have changed it. [`World::fills`] and [`Proofs::is_continued`] notice such a
//! write, unless the new content has exactly the length of the old content.

use std::collections::{HashMap, HashSet};

use super::history::{First, Span};
use super::lists::{Chain, Lists};
use super::world::{Look, Timeline, World};
use crate::disk::{List, ListIndex, Pair};

/// What is known about a former list, the best case first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its blocks were in use all the time, so they still hold its content.
    Proved,
    /// Some blocks became free, but no commit used one of them again.
    Quiet,
    /// It is unknown whether its blocks still hold its content.
    Unproved,
    /// Some blocks were used again.
    Broken,
}

/// The histories that use a block or a list: one, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    One(usize),
    More,
}

impl Users {
    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::More }
    }
}

/// The states in which an entry had a list, and what is known about that list.
type Judged = (Span<List>, Standing);

/// The results for all lists.
pub struct Proofs<'a> {
    world: &'a World<'a>,
    lists: &'a Lists<'a>,
    users: HashMap<u32, Users>,
    /// The blocks of present files, with their lists.
    live: HashMap<u32, List>,
    /// The pairs of the present filesystem.
    pairs: HashSet<[u32; 2]>,
    /// The blocks that another block names as the one before it. That other block holds data, and
    /// is in no list that was followed.
    continued: HashSet<u32>,
    /// The histories of the present filesystem in which no two lists use a block in a way that
    /// contradicts each other.
    consistent: HashSet<usize>,
    /// The live histories that may be incomplete: some of their states are lost, or they do not
    /// begin with the creation of their pair.
    obscure: HashSet<usize>,
    /// For each list of each history: what is known about it in each range of states in which an
    /// entry had it.
    standings: HashMap<(usize, List), Vec<Judged>>,
}

/// The use of a block by a list: the state in which this use began, the index of the block in the
/// list, and what is known about the list.
#[derive(Debug, Clone, Copy)]
struct Use {
    since: usize,
    index: ListIndex,
    standing: Standing,
}

impl<'a> Proofs<'a> {
    /// Judge all lists. Each of them must have been followed before.
    pub fn new(world: &'a World<'a>, lists: &'a Lists<'a>) -> Self {
        let mut proofs = Self {
            world,
            lists,
            users: HashMap::new(),
            live: HashMap::new(),
            pairs: HashSet::new(),
            continued: HashSet::new(),
            consistent: HashSet::new(),
            obscure: HashSet::new(),
            standings: HashMap::new(),
        };
        proofs.note_uses();
        // First judge each history alone. If one of its lists had been overwritten by another one,
        // this would show, because both would have a block in common.
        let is_consistent = |&(i, t): &(usize, &Timeline)| {
            let judged = proofs.judge(i, t, &|_| true);
            judged.iter().all(|(_, standing)| *standing <= Standing::Quiet)
        };
        proofs.consistent = proofs.live().filter(is_consistent).map(|(i, _)| i).collect();
        let begins = |i: usize, t: &Timeline| t.full || (i == 0 && begins_bare(t));
        let is_obscure = |&(i, t): &(usize, &Timeline)| !(begins(i, t) && proofs.is_known(i, t));
        proofs.obscure = proofs.live().filter(is_obscure).map(|(i, _)| i).collect();
        let mut judged: Vec<(usize, Span<List>, Standing)> = Vec::new();
        // commits that cannot be read may have freed the blocks of any list, and used them again
        let best = if world.unread { Standing::Unproved } else { Standing::Proved };
        for (i, timeline) in proofs.live() {
            let quiet = |state| proofs.is_quiet(i, timeline, state);
            let all = proofs.judge(i, timeline, &quiet);
            judged.extend(all.into_iter().map(|(span, standing)| (i, span, standing.max(best))));
        }
        // everything that was lost together with the root was untouched up to that moment
        for i in proofs.old_thread() {
            let Some(timeline) = world.timelines.get(i) else { continue };
            let all = proofs.judge(i, timeline, &|_| false);
            let best = if proofs.is_untouched() { Standing::Proved } else { Standing::Quiet };
            judged.extend(all.into_iter().map(|(span, standing)| (i, span, standing.max(best))));
        }
        judged.sort_by_key(|(_, span, _)| span.from);
        for (i, span, standing) in judged {
            proofs.standings.entry((i, span.what)).or_default().push((span, standing));
        }
        proofs
    }

    fn note_uses(&mut self) {
        // A list can have very many entries, so its blocks are noted only once.
        let mut users: HashMap<List, (Users, bool)> = HashMap::new();
        for (i, timeline) in self.world.timelines.iter().enumerate() {
            if let Some(pair) = timeline.pair.filter(|_| timeline.live) {
                self.pairs.insert(sorted(pair.0));
            }
            for span in &timeline.history.lists {
                let (of, is_live) = users.entry(span.what).or_insert((Users::One(i), false));
                *of = of.and(Users::One(i));
                *is_live |= timeline.live && span.until.is_none();
            }
        }
        for (list, (of, is_live)) in users {
            for (_, block) in self.lists.get(list).into_iter().flat_map(Chain::known) {
                let users = self.users.entry(block).or_insert(of);
                *users = users.and(of);
                if is_live {
                    self.live.insert(block, list);
                }
            }
        }
        for (block, &word) in self.world.words.iter().enumerate() {
            let block = block as u32;
            if self.world.look(block) == Look::Data && !self.users.contains_key(&block) {
                self.continued.insert(word);
            }
        }
    }

    /// What is known about a list that an entry of this history had from `state` on.
    pub fn standing(&self, timeline: usize, list: List, state: usize) -> Standing {
        let judged = self.standings.get(&(timeline, list)).map_or(&[][..], Vec::as_slice);
        let begun = judged.partition_point(|(span, _)| span.from <= state);
        let last = begun.checked_sub(1).and_then(|at| judged.get(at));
        match last.filter(|(span, _)| span.until.is_none_or(|until| state < until)) {
            Some(&(_, standing)) => standing,
            None if self.lists.get(list).is_some_and(|chain| chain.sound) => Standing::Unproved,
            None => Standing::Broken,
        }
    }

    /// The list of a present file that has this block.
    pub fn taken(&self, block: u32) -> Option<List> {
        self.live.get(&block).copied()
    }

    /// Whether any list of any state has this block.
    pub fn is_used(&self, block: u32) -> bool {
        self.users.contains_key(&block)
    }

    /// Judge the lists of a history of the present filesystem, from its end backwards. `quiet` says
    /// for a state whether all later states still exist, in other histories, too.
    fn judge(
        &self,
        number: usize,
        timeline: &Timeline,
        quiet: &dyn Fn(usize) -> bool,
    ) -> Vec<Judged> {
        let mut spans = timeline.history.lists.clone();
        // lists that exist now come first, then those that ended last
        spans.sort_by_key(|span| std::cmp::Reverse(span.until.unwrap_or(usize::MAX)));
        let mut uses: HashMap<u32, Use> = HashMap::new();
        // the last state at which a list began that is not certain to be intact
        let mut unknown_from = 0;
        let mut judged = Vec::with_capacity(spans.len());
        for together in spans.chunk_by(|a, b| a.until == b.until) {
            let shared = self.shared(together);
            let is_shared = |(_, block): (ListIndex, u32)| shared.contains(&block);
            let mut known = Vec::new();
            let unknown_before = unknown_from;
            for span in together {
                let Some(chain) = self.lists.get(span.what) else { continue };
                let is_quiet = |until| unknown_before <= until && quiet(until);
                let standing = match !shared.is_empty() && chain.known().any(is_shared) {
                    true => Standing::Broken,
                    false => self.judge_one(number, span, chain, &uses, &is_quiet),
                };
                judged.push((*span, standing));
                match standing {
                    Standing::Proved | Standing::Quiet => known.push((span, chain, standing)),
                    _ => unknown_from = unknown_from.max(span.from),
                }
            }
            for (span, chain, standing) in known {
                let since = span.from;
                let of = |(index, block)| (block, Use { since, index, standing });
                uses.extend(chain.known().map(of));
            }
        }
        judged
    }

    /// The blocks that several of these lists have in common.
    fn shared(&self, spans: &[Span<List>]) -> HashSet<u32> {
        if spans.len() < 2 {
            return HashSet::new();
        }
        let mut seen = HashSet::new();
        let chains = spans.iter().filter_map(|span| self.lists.get(span.what));
        chains.flat_map(Chain::known).map(|(_, block)| block).filter(|b| !seen.insert(*b)).collect()
    }

    fn judge_one(
        &self,
        number: usize,
        span: &Span<List>,
        chain: &Chain,
        uses: &HashMap<u32, Use>,
        quiet: &dyn Fn(usize) -> bool,
    ) -> Standing {
        if !chain.sound {
            return Standing::Broken;
        }
        let Some(until) = span.until else {
            let alone = |block| self.users.get(&block) == Some(&Users::One(number));
            let is_live = self.world.timelines.get(number).is_some_and(|t| t.live);
            let proved = chain.known().all(|(_, block)| alone(block))
                && (is_live || self.looks_untouched(span.what, chain));
            return if proved { Standing::Proved } else { Standing::Unproved };
        };
        let mut standing = Standing::Proved;
        let mut freed = false;
        for (index, block) in chain.known() {
            match uses.get(&block) {
                Some(now) if (now.since, now.index) == (until, index) => {
                    standing = standing.max(now.standing);
                }
                Some(_) => return Standing::Broken,
                None if self.users.get(&block) != Some(&Users::One(number)) => {
                    let taken = self.taken(block).is_some();
                    return if taken { Standing::Broken } else { Standing::Unproved };
                }
                None => freed = true,
            }
        }
        match freed {
            false => standing,
            true if quiet(until) && self.looks_untouched(span.what, chain) => Standing::Quiet,
            true => Standing::Unproved,
        }
    }

    fn looks_untouched(&self, list: List, chain: &Chain) -> bool {
        !self.is_continued(list, chain) && self.world.fills(list, chain)
    }

    /// Whether a block that is in no list names the head of this list, or its first block, as the
    /// block before it. If so, a longer file had the same blocks, and no commit of that file is
    /// left.
    fn is_continued(&self, list: List, chain: &Chain) -> bool {
        let first = chain.blocks.first().copied().flatten();
        self.continued.contains(&list.head) || first.is_some_and(|b| self.continued.contains(&b))
    }

    /// Whether everything that was committed after this state of a history can still be read.
    fn is_quiet(&self, number: usize, timeline: &Timeline, state: usize) -> bool {
        // Unless this is the history of the root, either its own first states must be known, or
        // those of the root.
        let root = self.world.timelines.first();
        let others = self.obscure.len() - usize::from(self.obscure.contains(&number));
        let last = timeline.history.states.saturating_sub(1);
        self.world.whole
            && self.world.shows_uncommitted_writes()
            && self.gone(timeline).all(|span| span.until.is_some_and(|until| until <= state))
            && !(last > state && is_unwritten(timeline))
            && others == 0
            && (number == 0 || timeline.full || root.is_some_and(|root| root.full))
    }

    fn live(&self) -> impl Iterator<Item = (usize, &'a Timeline)> {
        self.world.timelines.iter().enumerate().filter(|(_, t)| t.live)
    }

    /// The pairs that a history names, and that do not belong to the present filesystem.
    fn gone<'t>(&'t self, timeline: &'t Timeline) -> impl Iterator<Item = &'t Span<Pair>> {
        let pairs = timeline.history.pairs.iter();
        pairs.filter(|span| !self.pairs.contains(&sorted(span.what.0)))
    }

    /// Whether a history hides nothing: all pairs that it names belong to the present filesystem,
    /// its last commit made no empty file, and its lists do not contradict each other.
    fn is_known(&self, number: usize, timeline: &Timeline) -> bool {
        self.gone(timeline).next().is_none()
            && !is_unwritten(timeline)
            && self.consistent.contains(&number)
    }

    /// Whether no content can have been written since the root of the old filesystem was lost.
    /// Either there is no filesystem now, or it is unchanged since it was formatted. A driver
    /// writes content only to files, and makes the entry of a file before it writes its content.
    fn is_untouched(&self) -> bool {
        let is_new = |t: &Timeline| {
            t.history.versions.is_empty()
                && t.history.pairs.is_empty()
                && t.history.states == t.history.halves.len()
        };
        self.is_nothing_now() || self.live().all(|(_, t)| is_new(t))
    }

    /// Whether there is no filesystem now.
    fn is_nothing_now(&self) -> bool {
        self.world.superblock.is_none() && !self.world.replaced
    }

    /// The histories of a filesystem whose root was formatted over, or is lost. If all metadata
    /// that does not belong to the present filesystem forms one thread, all of it was in use at the
    /// moment of that loss. All later writes must be known, too.
    fn old_thread(&self) -> Vec<usize> {
        // A root that begins empty was formatted. The remains of a filesystem that was emptied are
        // directories without entries, and those do not count below.
        let is_new = |i: usize, t: &Timeline| t.full || (i == 0 && begins_bare(t));
        let is_known = |(i, t): (usize, &Timeline)| is_new(i, t) && self.is_known(i, t);
        if !(self.is_nothing_now() || self.world.whole && self.live().all(is_known)) {
            return Vec::new();
        }
        let old = || self.world.timelines.iter().enumerate().filter(|(_, t)| !t.live);
        if self.world.timelines.iter().any(|t| t.unread) || !old().all(|(_, t)| t.to_the_end) {
            return Vec::new();
        }
        let by_block: HashMap<u32, usize> = old()
            .flat_map(|(i, t)| t.history.halves.iter().map(move |half| (half.block, i)))
            .collect();
        let next = |t: &Timeline| -> Option<Option<usize>> {
            let Some(tail) = t.history.tail.filter(|tail| !tail.pair.is_null()) else {
                return Some(None);
            };
            let [a, b] = tail.pair.0.map(|block| by_block.get(&block).copied());
            // the halves of the next pair that are left must belong to one history
            a.or(b).filter(|&i| a.is_none_or(|a| a == i) && b.is_none_or(|b| b == i)).map(Some)
        };
        let followers: HashSet<usize> = old().filter_map(|(_, t)| next(t).flatten()).collect();
        let heads: Vec<usize> = old().map(|(i, _)| i).filter(|i| !followers.contains(i)).collect();
        let [head] = heads[..] else { return Vec::new() };
        // A single entry is not enough, because a pair that left the thread when its last entry was
        // deleted still holds that entry.
        let entries =
            |t: &Timeline| t.history.versions.iter().filter(|v| v.until.is_none()).count();
        if self.world.timelines.get(head).is_none_or(|t| entries(t) < 2) {
            return Vec::new();
        }
        let mut thread = vec![head];
        let mut seen = HashSet::from([head]);
        while let Some(timeline) = thread.last().and_then(|&i| self.world.timelines.get(i)) {
            match next(timeline) {
                Some(Some(i)) if seen.insert(i) => thread.push(i),
                Some(None) if thread.len() == old().count() => return thread,
                _ => return Vec::new(),
            }
        }
        thread
    }
}

/// Whether the last commit made an empty file. Its content may already have been written without a
/// commit.
fn is_unwritten(timeline: &Timeline) -> bool {
    let last = timeline.history.states.saturating_sub(1);
    timeline.history.versions.iter().any(|version| {
        version.from == last && version.until.is_none() && version.content.is_empty()
    })
}

/// Whether the first state of the pair was empty, and had no further pair after it.
fn begins_bare(timeline: &Timeline) -> bool {
    let First { entries, has_tail } = timeline.history.first;
    entries == 0 && !has_tail
}

fn sorted(pair: [u32; 2]) -> [u32; 2] {
    [pair[0].min(pair[1]), pair[0].max(pair[1])]
}
