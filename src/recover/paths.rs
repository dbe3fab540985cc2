//! The directory to which each history belongs, and the path of that directory.

use std::collections::{HashMap, HashSet};

use super::history::Content;
use super::world::{Timeline, World};
use crate::show::path_from_end;

/// The directories of all histories. A directory is known if an entry names it, or named it in the
/// past.
pub struct Paths<'w> {
    /// For each history, the number of its directory.
    of: Vec<Option<usize>>,
    /// The parent of each directory, and its name there. The root has the number 0.
    dirs: Vec<(usize, &'w [u8])>,
}

/// The entry or the tail that names a block.
struct Parent<'w> {
    timeline: usize,
    /// The name of the entry. A tail continues the same directory.
    name: Option<&'w [u8]>,
}

impl<'w> Paths<'w> {
    /// Find the directories of all histories. Each history is visited once, even if it is very
    /// deep.
    pub fn new(world: &'w World<'_>) -> Self {
        let names = names(world);
        let parent = |t: &Timeline| own(t).iter().find_map(|block| names.get(block));
        let is_root = |t: &Timeline| own(t).iter().all(|block| world.root.0.contains(block));
        let mut paths = Self { of: Vec::new(), dirs: vec![(0, b"")] };
        let mut numbers: HashMap<(usize, &[u8]), usize> = HashMap::new();
        // `None` until a history has been visited
        let mut known: Vec<Option<Option<usize>>> = vec![None; world.timelines.len()];
        for start in 0..world.timelines.len() {
            // the histories on the way up to the root, each with its name in the next one
            let mut way: Vec<(usize, Option<&[u8]>)> = Vec::new();
            let mut seen = HashSet::new();
            let mut at = start;
            let top = loop {
                if let Some(Some(found)) = known.get(at) {
                    break *found;
                }
                let Some(timeline) = world.timelines.get(at).filter(|_| seen.insert(at)) else {
                    break None;
                };
                if is_root(timeline) {
                    way.push((at, None));
                    break Some(0);
                }
                let Some(parent) = parent(timeline) else {
                    way.push((at, None));
                    break None;
                };
                way.push((at, parent.name));
                at = parent.timeline;
            };
            let mut dir = top;
            for (timeline, name) in way.into_iter().rev() {
                if let (Some(above), Some(name)) = (dir, name) {
                    let next = paths.dirs.len();
                    let number = *numbers.entry((above, name)).or_insert(next);
                    if number == next {
                        paths.dirs.push((above, name));
                    }
                    dir = Some(number);
                }
                if let Some(slot) = known.get_mut(timeline) {
                    *slot = Some(dir);
                }
            }
        }
        paths.of = known.into_iter().map(Option::flatten).collect();
        paths
    }

    /// The number of the directory of a history. Histories with the same path have the same number.
    pub fn number(&self, timeline: usize) -> Option<usize> {
        self.of.get(timeline).copied().flatten()
    }

    /// The path of that directory, without `/` at the start. If the path is long, only the last
    /// names are returned, after `.../`.
    pub fn path(&self, timeline: usize) -> Option<Vec<u8>> {
        let above = |&at: &usize| self.dirs.get(at).map(|&(above, _)| above);
        let upward = std::iter::successors(self.number(timeline), above);
        let names = upward.take_while(|&at| at != 0).filter_map(|at| self.dirs.get(at));
        Some(path_from_end(names.map(|&(_, name)| name)))
            .filter(|_| self.number(timeline).is_some())
    }
}

/// The blocks of a history.
fn own(timeline: &Timeline) -> Vec<u32> {
    match timeline.pair {
        Some(pair) => pair.0.to_vec(),
        None => timeline.history.halves.iter().map(|half| half.block).collect(),
    }
}

/// The entry or the tail that names each block. Present ones are preferred to former ones.
fn names<'w>(world: &'w World<'_>) -> HashMap<u32, Parent<'w>> {
    let mut names = HashMap::new();
    for past in [false, true] {
        for (i, timeline) in world.timelines.iter().enumerate() {
            let now = |until: Option<usize>| timeline.live && until.is_none();
            let dirs = timeline.history.versions.iter().filter_map(|v| match &v.content {
                Content::Directory(pair) => Some((*pair, v)),
                _ => None,
            });
            let mut add = |pair: crate::disk::Pair, name| {
                for block in pair.0 {
                    names.entry(block).or_insert(Parent { timeline: i, name });
                }
            };
            dirs.filter(|(_, v)| now(v.until) != past)
                .for_each(|(pair, v)| add(pair, Some(&v.name[..])));
            let tail = timeline.history.tail.filter(|tail| tail.hard && timeline.live);
            match past {
                false => tail.iter().for_each(|tail| add(tail.pair, None)),
                true => timeline.history.hardtails.iter().for_each(|&pair| add(pair, None)),
            }
        }
    }
    names
}
