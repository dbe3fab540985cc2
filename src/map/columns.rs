//! The blocks and the tree of a map as columns of numbers, in the form that its page reads.
//!
//! A number is stored in seven bits of each byte, the lowest bits first; the eighth bit says that
//! another byte follows. A number that can be negative is doubled, and a negative one is stored as
//! an odd number. The runs of equal blocks come first, then the entries. `data.js` reads them in
//! the same order.

use serde::Serialize;

use super::{Block, Class, Map, Summary};
use crate::inspect::Problem;
use crate::inspect::survey::{Kind, Node};
use crate::show::Show;

/// The texts that a page shows about an image as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Labels {
    /// The label of the image on a page that shows two images.
    pub label: &'static str,
    /// Its name.
    pub title: String,
    /// The beginning of the command that shows more about the image: everything up to the name of
    /// the image, and a space.
    pub command: String,
}

/// Kinds of entries, by their numbers.
const KINDS: [&str; 4] = ["dir", "inline", "list", "other"];

#[derive(Serialize)]
struct Header<'a> {
    #[serde(flatten)]
    labels: &'a Labels,
    block_size: u32,
    block_count: u32,
    present: usize,
    runs: usize,
    nodes: usize,
    classes: Vec<ClassWords>,
    kinds: [&'static str; 4],
    summary: &'a Summary,
    problems: &'a [Problem],
    more_problems: u64,
}

#[derive(Serialize)]
struct ClassWords {
    id: Class,
    name: &'static str,
    letter: char,
    revision: bool,
}

/// Consecutive blocks that are equal in all respects. In a file, each is the next block of the
/// list.
struct Run {
    first: Block,
    count: u64,
    /// The number of the entry that they belong to, from 1 on.
    owner: u64,
}

/// The entries that are listed: those nearest to the root.
pub(super) struct Listed<'a> {
    map: &'a Map,
    /// Indices of the survey's nodes.
    order: Vec<u32>,
    /// How many of `order` are listed.
    kept: usize,
}

impl<'a> Listed<'a> {
    /// All entries.
    pub fn all(map: &'a Map) -> Self {
        let nodes = &map.survey.nodes;
        let mut depths: Vec<u32> = Vec::with_capacity(nodes.len());
        for node in nodes {
            // each directory comes before its content
            let above = node.parent.and_then(|up| depths.get(up));
            depths.push(above.map_or(0, |depth| depth + 1));
        }
        let mut order: Vec<u32> = (0..nodes.len() as u32).collect();
        order.sort_by_key(|&node| depths.get(node as usize));
        Self { map, kept: order.len(), order }
    }

    /// How many entries are listed.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// List only the first `kept` entries.
    pub fn truncate(&mut self, kept: usize) {
        self.kept = self.kept.min(kept).max(1);
    }

    /// The whole map in columns.
    pub fn columns(&self, labels: &Labels, summary: &Summary) -> Vec<u8> {
        let map = self.map;
        let (numbers, hidden) = self.numbers();
        let runs = runs(map, &numbers);
        let words = |class: Class| ClassWords {
            id: class,
            name: class.name(),
            letter: class.letter(),
            revision: has_revision(class),
        };
        let header = Header {
            labels,
            block_size: map.geometry.block_size,
            block_count: map.geometry.block_count,
            present: map.blocks.len(),
            runs: runs.len(),
            nodes: self.kept.min(self.order.len()),
            classes: Class::ALL.into_iter().map(words).collect(),
            kinds: KINDS,
            summary,
            problems: &map.survey.problems,
            more_problems: map.survey.more_problems,
        };
        // numbers and text can always be written as JSON
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let mut out = Vec::new();
        number(&mut out, header.len() as u64);
        out.extend(header);
        write_runs(&mut out, &runs);
        self.write_nodes(&mut out, &numbers, &hidden);
        out
    }

    /// The number of each node, from 1 on. A node that is not listed has the number of a directory
    /// above it. The second list says how many such nodes each number stands for.
    fn numbers(&self) -> (Vec<u32>, Vec<u32>) {
        let nodes = &self.map.survey.nodes;
        let mut numbers = vec![0; nodes.len()];
        let mut hidden = vec![0; self.kept + 1];
        for (at, &node) in self.order.iter().enumerate() {
            let parent = nodes.get(node as usize).and_then(|node| node.parent);
            let number = match at < self.kept {
                true => at as u32 + 1,
                false => parent.and_then(|up| numbers.get(up).copied()).unwrap_or(0),
            };
            if at >= self.kept
                && let Some(hidden) = hidden.get_mut(number as usize)
            {
                *hidden += 1;
            }
            if let Some(slot) = numbers.get_mut(node as usize) {
                *slot = number;
            }
        }
        (numbers, hidden)
    }

    fn write_nodes(&self, out: &mut Vec<u8>, numbers: &[u32], hidden: &[u32]) {
        let survey = &self.map.survey;
        let nodes = || {
            let listed = self.order.iter().take(self.kept);
            listed.filter_map(|&node| survey.nodes.get(node as usize))
        };
        for (at, node) in nodes().enumerate() {
            let above = node.parent.and_then(|up| numbers.get(up));
            number(out, above.map_or(0, |&above| (at as u64 + 1).saturating_sub(above.into())));
        }
        out.extend(nodes().map(kind));
        nodes().for_each(|node| number(out, node.size().into()));
        let mut last = 0;
        for node in nodes() {
            let pair = node.entry.and_then(|(at, _)| survey.pairs.get(at));
            let block = pair.map_or(0, |seen| i64::from(seen.pair.0[0]) + 1);
            signed(out, block - last);
            last = block;
        }
        (1..=self.kept).for_each(|n| number(out, hidden.get(n).copied().unwrap_or(0).into()));
        let names: Vec<String> = nodes().map(|node| node.name.show().to_string()).collect();
        names.iter().for_each(|name| number(out, name.len() as u64));
        names.iter().for_each(|name| out.extend(name.as_bytes()));
    }
}

fn kind(node: &Node) -> u8 {
    match node.kind {
        Kind::Dir { .. } => 0,
        Kind::Inline { .. } => 1,
        Kind::List { .. } => 2,
        Kind::Other => 3,
    }
}

/// Whether a block of this kind may have a revision.
fn has_revision(class: Class) -> bool {
    !matches!(class, Class::Erased | Class::Written | Class::Data)
}

/// How much of a block is written, in percent.
fn percent(block: &Block) -> u8 {
    (u16::from(block.fill) * 100).div_ceil(255) as u8
}

fn runs(map: &Map, numbers: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &block in &map.blocks {
        let owner = block.owner.and_then(|at| numbers.get(at as usize)).copied().unwrap_or(0);
        let goes_on = |run: &Run| {
            let first = &run.first;
            let index = match block.class {
                Class::Data => u64::from(first.index) + run.count,
                _ => block.index.into(),
            };
            (first.class, first.change, first.owner) == (block.class, block.change, block.owner)
                && percent(first) == percent(&block)
                && u64::from(block.index) == index
                && (first.revision, block.revision) == (None, None)
        };
        match runs.last_mut() {
            Some(run) if goes_on(run) => run.count += 1,
            _ => runs.push(Run { first: block, count: 1, owner: owner.into() }),
        }
    }
    runs
}

fn write_runs(out: &mut Vec<u8>, runs: &[Run]) {
    runs.iter().for_each(|run| number(out, run.count));
    out.extend(runs.iter().map(|run| run.first.class as u8));
    out.extend(runs.iter().map(|run| run.first.change as u8));
    out.extend(runs.iter().map(|run| percent(&run.first)));
    let mut last = 0;
    for run in runs {
        signed(out, run.owner as i64 - last);
        last = run.owner as i64;
    }
    // each index is stored as its difference from the index that would be next in the file
    let mut next = std::collections::HashMap::new();
    for run in runs {
        if run.first.class != Class::Data {
            signed(out, 0);
            continue;
        }
        let index = i64::from(run.first.index);
        signed(out, index - next.get(&run.owner).copied().unwrap_or(0));
        next.insert(run.owner, index + run.count as i64);
    }
    let mut last = 0;
    for run in runs.iter().filter(|run| has_revision(run.first.class)) {
        let Some(revision) = run.first.revision else {
            number(out, 0);
            continue;
        };
        number(out, 1 + folded(i64::from(revision) - last));
        last = revision.into();
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The form of a number that can be negative: doubled, and odd if it is negative.
fn folded(value: i64) -> u64 {
    match value < 0 {
        true => value.unsigned_abs() * 2 - 1,
        false => value.unsigned_abs() * 2,
    }
}

fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, folded(value));
}
