//! Which lists of the past are as they were.
//!
//! The format keeps no checksum of file data, and a block that is free can be written by anything.
//! A driver lists the same free blocks in the same order again and again, so a new file often has the
//! very blocks, and the very pointers, of a deleted one: that pointers agree shows nothing. What does
//! show that a block was not written again since:
//!
//! - Every state since then had it in use, at the same place of a list: of the same file, which went
//!   on with it. No driver writes to a block that is in use.
//! - Or it became free, and every state of every pair since then is still there, and none has the
//!   block in use. Only writes that no commit ever told of, because of a loss of power or of lack of
//!   space, could have hit it; [`World::fills`] and [`Proofs::is_continued`] see nearly all of them.

use std::collections::{HashMap, HashSet};

use super::history::{First, Span};
use super::lists::{Chain, Lists};
use super::world::{Look, Timeline, World};
use crate::disk::{List, Pair};

/// What is known of a list of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its blocks are as they were.
    Proved,
    /// Nothing shows that they are not, but nothing shows that they are, either.
    Unproved,
    /// Some are not there any more.
    Broken,
}

/// Which histories use a block: none, one, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    One(usize),
    More,
}

/// The judgement of all lists.
pub struct Proofs<'a> {
    world: &'a World<'a>,
    lists: &'a Lists<'a>,
    users: HashMap<u32, Users>,
    /// Blocks of the files that are there now, with the list.
    live: HashMap<u32, List>,
    /// Pairs of the filesystem as it is now.
    pairs: HashSet<[u32; 2]>,
    /// Blocks that hold data, are in no list that was followed, and say that this block is before
    /// them.
    continued: HashSet<u32>,
    /// The histories of the filesystem as it is now of which no two lists have a block in a way that
    /// cannot have been.
    consistent: HashSet<usize>,
    standings: HashMap<(usize, List, usize), Standing>,
}

/// Since when a block is in use without a gap, and at which index of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    since: usize,
    index: u32,
}

impl<'a> Proofs<'a> {
    /// Judge all lists of the world, which were all followed.
    pub fn new(world: &'a World<'a>, lists: &'a Lists<'a>) -> Self {
        let mut proofs = Self {
            world,
            lists,
            users: HashMap::new(),
            live: HashMap::new(),
            pairs: HashSet::new(),
            continued: HashSet::new(),
            consistent: HashSet::new(),
            standings: HashMap::new(),
        };
        proofs.note_uses();
        // What each history says by itself. Were a list taken for one that it is not any more, the
        // one that was written over it last would show it, by a block that both have.
        let is_consistent = |&(i, t): &(usize, &Timeline)| {
            let judged = proofs.judge(i, t, &|_| true);
            judged.iter().all(|(_, standing)| *standing == Standing::Proved)
        };
        proofs.consistent = proofs.live().filter(is_consistent).map(|(i, _)| i).collect();
        let mut standings = HashMap::new();
        for (i, timeline) in proofs.live() {
            let quiet = |state| proofs.is_quiet(i, timeline, state);
            let judged = proofs.judge(i, timeline, &quiet);
            standings
                .extend(judged.into_iter().map(|(s, standing)| ((i, s.what, s.from), standing)));
        }
        // what was lost at once, with the root, was untouched up to then
        for i in proofs.old_thread() {
            let Some(timeline) = world.timelines.get(i) else { continue };
            let judged = proofs.judge(i, timeline, &|_| false);
            standings
                .extend(judged.into_iter().map(|(s, standing)| ((i, s.what, s.from), standing)));
        }
        Self { standings, ..proofs }
    }

    fn note_uses(&mut self) {
        for (i, timeline) in self.world.timelines.iter().enumerate() {
            if let Some(pair) = timeline.pair.filter(|_| timeline.live) {
                self.pairs.insert(sorted(pair.0));
            }
            for span in &timeline.history.lists {
                let Some(chain) = self.lists.get(span.what) else { continue };
                for (_, block) in chain.known() {
                    let users = self.users.entry(block).or_insert(Users::One(i));
                    if *users != Users::One(i) {
                        *users = Users::More;
                    }
                    if timeline.live && span.until.is_none() {
                        self.live.insert(block, span.what);
                    }
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

    /// What is known of a list that an entry of this history had from a state on.
    pub fn standing(&self, timeline: usize, list: List, state: usize) -> Standing {
        let spans = self.world.timelines.get(timeline).map(|t| &t.history.lists);
        let during = |span: &&Span<List>| {
            span.what == list && span.from <= state && span.until.is_none_or(|until| state < until)
        };
        let span = spans.and_then(|spans| spans.iter().find(during));
        let known = span.and_then(|span| self.standings.get(&(timeline, list, span.from)));
        match (known, self.lists.get(list)) {
            (Some(&standing), _) => standing,
            (None, Some(chain)) if chain.sound => Standing::Unproved,
            _ => Standing::Broken,
        }
    }

    /// The list of a file that is there now which has this block.
    pub fn taken(&self, block: u32) -> Option<List> {
        self.live.get(&block).copied()
    }

    /// Whether any list of any state has this block.
    pub fn is_used(&self, block: u32) -> bool {
        self.users.contains_key(&block)
    }

    /// Judge the lists of a history of the filesystem as it is now, from its end backwards. `quiet`
    /// tells whether all that came after a state, in other histories, too, is still there.
    fn judge(
        &self,
        number: usize,
        timeline: &Timeline,
        quiet: &dyn Fn(usize) -> bool,
    ) -> Vec<(Span<List>, Standing)> {
        let mut spans = timeline.history.lists.clone();
        // what is there now comes first, then what ended last
        spans.sort_by_key(|span| std::cmp::Reverse(span.until.unwrap_or(usize::MAX)));
        let mut uses: HashMap<u32, Use> = HashMap::new();
        // the last state in which a list began whose blocks are not all known
        let mut unknown_from = 0;
        let mut judged = Vec::with_capacity(spans.len());
        for together in spans.chunk_by(|a, b| a.until == b.until) {
            let shared = self.shared(together);
            let mut proved = Vec::new();
            for span in together {
                let Some(chain) = self.lists.get(span.what) else { continue };
                let is_quiet = |until| unknown_from <= until && quiet(until);
                let standing = match chain.known().any(|(_, block)| shared.contains(&block)) {
                    true => Standing::Broken,
                    false => self.judge_one(number, span, chain, &uses, &is_quiet),
                };
                judged.push((*span, standing));
                if standing == Standing::Proved {
                    proved.push((span, chain));
                }
            }
            for (span, _) in judged.iter().rev().take(together.len()) {
                if !proved.iter().any(|(p, _)| p.what == span.what && p.from == span.from) {
                    unknown_from = unknown_from.max(span.from);
                }
            }
            for (span, chain) in proved {
                let uses_of = chain.known().map(|(index, block)| (block, index));
                uses.extend(uses_of.map(|(block, index)| (block, Use { since: span.from, index })));
            }
        }
        judged
    }

    /// The blocks that several of these lists have.
    fn shared(&self, spans: &[Span<List>]) -> HashSet<u32> {
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
        let mut freed = false;
        for (index, block) in chain.known() {
            match uses.get(&block) {
                Some(&now) if now == (Use { since: until, index }) => {}
                Some(_) => return Standing::Broken,
                None if self.users.get(&block) != Some(&Users::One(number)) => {
                    let taken = self.taken(block).is_some();
                    return if taken { Standing::Broken } else { Standing::Unproved };
                }
                None => freed = true,
            }
        }
        let kept = !freed || (quiet(until) && self.looks_untouched(span.what, chain));
        if kept { Standing::Proved } else { Standing::Unproved }
    }

    fn looks_untouched(&self, list: List, chain: &Chain) -> bool {
        !self.is_continued(list, chain) && self.world.fills(list, chain)
    }

    /// Whether a block that is in no list says that the head of this one, or its first block, is
    /// before it: then a longer file, which no commit tells of, had the same blocks.
    fn is_continued(&self, list: List, chain: &Chain) -> bool {
        let first = chain.blocks.first().copied().flatten();
        self.continued.contains(&list.head) || first.is_some_and(|b| self.continued.contains(&b))
    }

    /// Whether all that was ever committed after this state of a history is still there to be read.
    fn is_quiet(&self, number: usize, timeline: &Timeline, state: usize) -> bool {
        // before the root had anything, no other pair was there
        let begins =
            |t: &Timeline, is_root: bool| t.full || (is_root && timeline.full && begins_bare(t));
        let others = self.live().filter(|(i, _)| *i != number);
        let last = timeline.history.states.saturating_sub(1);
        self.world.whole
            && self.world.shows_uncommitted_writes()
            && self.gone(timeline).all(|span| span.until.is_some_and(|until| until <= state))
            && !(last > state && is_unwritten(timeline))
            && { others }.all(|(i, other)| begins(other, i == 0) && self.is_known(i, other))
    }

    fn live(&self) -> impl Iterator<Item = (usize, &'a Timeline)> {
        self.world.timelines.iter().enumerate().filter(|(_, t)| t.live)
    }

    /// Pairs that a history names, and that are not of the filesystem as it is now.
    fn gone<'t>(&'t self, timeline: &'t Timeline) -> impl Iterator<Item = &'t Span<Pair>> {
        let pairs = timeline.history.pairs.iter();
        pairs.filter(|span| !self.pairs.contains(&sorted(span.what.0)))
    }

    /// Whether nothing that a history tells of hides anything else.
    fn is_known(&self, number: usize, timeline: &Timeline) -> bool {
        self.gone(timeline).next().is_none()
            && !is_unwritten(timeline)
            && self.consistent.contains(&number)
    }

    /// The histories of a filesystem whose root was formatted over, or is lost: if all metadata that is
    /// not of the present one makes up one thread, all of it was in use at that moment. Everything that
    /// was written since is to be known, too.
    fn old_thread(&self) -> Vec<usize> {
        // A root that begins with nothing was formatted: what is left of an emptied filesystem are
        // directories without entries, and those do not count below.
        let is_new = |i: usize, t: &Timeline| t.full || (i == 0 && begins_bare(t));
        let is_known = |(i, t): (usize, &Timeline)| is_new(i, t) && self.is_known(i, t);
        let nothing_since = self.world.superblock.is_none() && !self.world.replaced;
        if !(nothing_since || self.world.whole && self.live().all(is_known)) {
            return Vec::new();
        }
        let old = || self.world.timelines.iter().enumerate().filter(|(_, t)| !t.live);
        if !old().all(|(_, t)| t.to_the_end) {
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
            // both halves that are left are of one history
            a.or(b).filter(|&i| a.is_none_or(|a| a == i) && b.is_none_or(|b| b == i)).map(Some)
        };
        let followers: HashSet<usize> = old().filter_map(|(_, t)| next(t).flatten()).collect();
        let heads: Vec<usize> = old().map(|(i, _)| i).filter(|i| !followers.contains(i)).collect();
        let [head] = heads[..] else { return Vec::new() };
        // A pair that leaves the thread because its last entry was deleted still has that entry.
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

/// Whether the last commit made an empty file, whose content may have been on its way.
fn is_unwritten(timeline: &Timeline) -> bool {
    let last = timeline.history.states.saturating_sub(1);
    timeline.history.versions.iter().any(|version| {
        version.from == last && version.until.is_none() && version.content.is_empty()
    })
}

/// Whether nothing was in the pair, nor any other pair behind it, in its first state.
fn begins_bare(timeline: &Timeline) -> bool {
    let First { entries, has_tail } = timeline.history.first;
    entries == 0 && !has_tail
}

fn sorted(pair: [u32; 2]) -> [u32; 2] {
    [pair[0].min(pair[1]), pair[0].max(pair[1])]
}
