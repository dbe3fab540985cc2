//! The tree of files and the thread of pairs, and the global state.

use serde::Serialize;

use super::half::gstate_words;
use super::survey::{Kind, Problem, SeenPair, Survey};
use super::{Inspector, Report, Unanswered, hex};
use crate::disk::log::RawEntry;
use crate::disk::{Tag, ctz};
use crate::show::{Show, base64_unless_text};

/// A pair, in short.
#[derive(Debug, Clone, Serialize)]
pub struct PairSummary {
    /// The two blocks, the live one first.
    pub pair: [u32; 2],
    /// Their revisions.
    pub revisions: [u32; 2],
    /// The path of its directory; `None` if nothing in the tree names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Whether it holds a superblock entry.
    pub superblock: bool,
    /// Ids in use.
    pub ids: usize,
    /// Bytes of the live block up to the end of its last commit.
    pub used_bytes: u32,
    /// The next pair in the thread; `None` at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<[u32; 2]>,
    /// Whether the next pair belongs to the same directory.
    pub hard: bool,
    /// Whether it is in the thread; `None` in a dialect without a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threaded: Option<bool>,
}

/// An entry, in short.
#[derive(Debug, Clone, Serialize)]
pub struct TreeEntry {
    /// Its path.
    pub path: String,
    /// The bytes of its name, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// The name in SPEC.md of the type of its name tag, without `LFS_TYPE_`.
    pub r#type: &'static str,
    /// The pair that holds its entry, the live half first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<[u32; 2]>,
    /// The id of the entry in the pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Size in bytes.
    pub size: u32,
    /// How its content is stored: `inline`, `list`, `pairs` or `unknown`.
    pub storage: &'static str,
    /// For a list: its last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u32>,
    /// The number of blocks of a list, or of pairs of a directory.
    pub count: u32,
}

/// The whole filesystem.
#[derive(Debug, Clone, Serialize)]
pub struct TreeReport {
    /// All pairs: first those of the thread, in its order, then the others.
    pub pairs: Vec<PairSummary>,
    /// All entries, each after its directory.
    pub entries: Vec<TreeEntry>,
    /// Whether the thread could be followed to its end; `None` in a dialect without a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_whole: Option<bool>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub more_problems: u64,
}

/// A directory.
#[derive(Debug, Clone, Serialize)]
pub struct DirReport {
    /// Its path.
    pub path: String,
    /// The pair that holds its own entry, the live half first; `None` for the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_pair: Option<[u32; 2]>,
    /// The id of that entry in the pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Its own pairs, in their order.
    pub pairs: Vec<PairSummary>,
    /// Its entries.
    pub entries: Vec<TreeEntry>,
    /// Entries in its pairs that are being moved to another place: a rename was interrupted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<MovedEntry>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// An entry that is being moved. In version 1, the entry itself is marked; in version 2, the global
/// state names it.
#[derive(Debug, Clone, Serialize)]
pub struct MovedEntry {
    /// Its name.
    pub name: String,
    /// The pair that holds it, the live half first.
    pub pair: [u32; 2],
    /// The id of the entry in the pair.
    pub id: u16,
}

/// The global state, and the pairs that contribute to it.
#[derive(Debug, Clone, Serialize)]
pub struct GStateReport {
    /// The sum of all deltas, as stored: three little-endian words.
    pub sum_hex: String,
    /// Whether an interrupted operation may have left orphans.
    pub needs_sync: bool,
    /// The entry that was moved elsewhere, and must still be deleted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_move: Option<PendingMove>,
    /// The sum, in words.
    pub value: String,
    /// The pairs whose delta is not zero.
    pub contributions: Vec<Contribution>,
    /// Whether the thread could be followed to its end. If not, the sum has no meaning.
    pub thread_whole: bool,
}

/// An entry that must be deleted because it was moved.
#[derive(Debug, Clone, Serialize)]
pub struct PendingMove {
    /// The pair that holds it.
    pub pair: [u32; 2],
    /// The id of the entry in the pair.
    pub id: u16,
}

/// The contribution of a pair to the global state.
#[derive(Debug, Clone, Serialize)]
pub struct Contribution {
    /// The pair, the live half first.
    pub pair: [u32; 2],
    /// The path of its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The delta, as stored.
    pub delta_hex: String,
}

impl Report for TreeReport {
    fn is_damaged(&self) -> bool {
        !self.problems.is_empty()
    }
}

impl Report for DirReport {
    fn is_damaged(&self) -> bool {
        !self.problems.is_empty()
    }
}

impl Report for GStateReport {
    fn is_damaged(&self) -> bool {
        !self.thread_whole
    }
}

impl Survey {
    fn summary(&self, seen: &SeenPair) -> PairSummary {
        let tail = seen.tail.filter(|tail| !tail.pair.is_null());
        PairSummary {
            pair: seen.pair.0,
            revisions: [seen.rev, seen.twin_rev],
            directory: seen.dir.map(|dir| self.path(dir)),
            superblock: seen.superblock.is_some(),
            ids: seen.ids,
            used_bytes: seen.used,
            tail: tail.map(|tail| tail.pair.0),
            hard: tail.is_some_and(|tail| tail.hard),
            threaded: self.thread_whole.map(|_| seen.threaded),
        }
    }

    fn entry(&self, at: usize) -> Option<TreeEntry> {
        let node = self.nodes.get(at)?;
        let place = node.entry.and_then(|(pair, id)| Some((self.pairs.get(pair)?.pair.0, id)));
        let (storage, head, count) = match &node.kind {
            Kind::Dir { pairs } => ("pairs", None, pairs.len() as u32),
            Kind::Inline { .. } => ("inline", None, 0),
            Kind::List { head, size } => {
                ("list", Some(*head), ctz::blocks(self.geometry.block_size, *size))
            }
            Kind::Other => ("unknown", None, 0),
        };
        Some(TreeEntry {
            path: self.path(at),
            name_base64: base64_unless_text(&node.name),
            r#type: Tag::new(node.name_type, 0, 0).name(),
            pair: place.map(|(pair, _)| pair),
            id: place.map(|(_, id)| id),
            size: node.size(),
            storage,
            head,
            count,
        })
    }

    /// All entries, each directory before its content.
    fn listing(&self) -> Vec<usize> {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut todo = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            match node.parent.and_then(|parent| children.get_mut(parent)) {
                Some(siblings) => siblings.push(at),
                None => todo.push(at),
            }
        }
        todo.reverse();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(at) = todo.pop() {
            order.push(at);
            let below = children.get_mut(at).map(std::mem::take).unwrap_or_default();
            todo.extend(below.into_iter().rev());
        }
        order
    }
}

impl Inspector {
    /// All pairs and all entries.
    pub fn tree(&self) -> TreeReport {
        let survey = self.survey();
        TreeReport {
            pairs: survey.pairs.iter().map(|seen| survey.summary(seen)).collect(),
            entries: survey.listing().into_iter().filter_map(|at| survey.entry(at)).collect(),
            thread_whole: survey.thread_whole,
            problems: survey.problems.clone(),
            more_problems: survey.more_problems,
        }
    }

    /// The directories at `path`. There are several if a directory holds a name more than once.
    ///
    /// # Errors
    /// If there is none.
    pub fn dir(&self, path: &[u8]) -> Result<Vec<DirReport>, Unanswered> {
        let survey = self.survey();
        let found = self.find(path)?;
        let report = |&at: &usize| {
            let node = survey.nodes.get(at)?;
            let Kind::Dir { pairs } = &node.kind else { return None };
            let pairs: Vec<&SeenPair> =
                pairs.iter().filter_map(|&at| survey.pairs.get(at)).collect();
            let entries: Vec<TreeEntry> = (0..survey.nodes.len())
                .filter(|&n| survey.nodes.get(n).is_some_and(|n| n.parent == Some(at)))
                .filter_map(|child| survey.entry(child))
                .collect();
            let path = survey.path(at);
            let below = if path == "/" { path.clone() } else { format!("{path}/") };
            let concerns = |Problem { place, .. }: &&Problem| {
                *place == path
                    || place.strip_prefix(&below).is_some_and(|name| !name.contains('/'))
                    // both paths are shortened in the same way if they are long
                    || entries.iter().any(|entry| entry.path == *place)
                    || pairs.iter().any(|seen| *place == seen.pair.to_string())
            };
            let holder =
                node.entry.and_then(|(pair, id)| Some((survey.pairs.get(pair)?.pair.0, id)));
            Some(DirReport {
                entry_pair: holder.map(|(pair, _)| pair),
                id: holder.map(|(_, id)| id),
                pairs: pairs.iter().map(|seen| survey.summary(seen)).collect(),
                problems: survey.problems.iter().filter(concerns).cloned().collect(),
                moved: pairs.iter().flat_map(|seen| self.moved(seen)).collect(),
                entries,
                path,
            })
        };
        let dirs: Vec<DirReport> = found.iter().filter_map(report).collect();
        if dirs.is_empty() { Err(Unanswered::NotADirectory) } else { Ok(dirs) }
    }

    /// The entries of a pair that are being moved.
    fn moved(&self, seen: &SeenPair) -> Vec<MovedEntry> {
        let pair = seen.pair.0;
        if let Some(version1) = self.version1() {
            let moved = version1.moved(pair[0]).into_iter();
            return moved.map(|(id, name)| MovedEntry { name, pair, id }).collect();
        }
        let pending = self.survey().gstate.pending_move();
        let Some((_, id)) = pending.filter(|(of, _)| seen.pair.overlaps(*of)) else {
            return Vec::new();
        };
        let entries = self.entries_in(pair[0]);
        let entry = entries.get(&id).filter(|entry| entry.name_type.is_some());
        let moved = |entry: &RawEntry| MovedEntry { name: entry.name.show().to_string(), pair, id };
        entry.map(moved).into_iter().collect()
    }

    /// The global state.
    pub fn gstate(&self) -> GStateReport {
        let survey = self.survey();
        let contributes = |seen: &&SeenPair| seen.threaded && !seen.delta.is_zero();
        let contribution = |seen: &SeenPair| Contribution {
            pair: seen.pair.0,
            directory: seen.dir.map(|dir| survey.path(dir)),
            delta_hex: hex(&seen.delta.to_bytes()),
        };
        GStateReport {
            sum_hex: hex(&survey.gstate.to_bytes()),
            needs_sync: survey.gstate.needs_sync(),
            pending_move: (survey.gstate.pending_move())
                .map(|(pair, id)| PendingMove { pair: pair.0, id }),
            value: gstate_words(survey.gstate),
            contributions: survey.pairs.iter().filter(contributes).map(contribution).collect(),
            thread_whole: survey.thread_whole == Some(true),
        }
    }
}
