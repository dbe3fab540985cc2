//! The history of an entry: what each commit that is still there did to it.

use std::collections::HashMap;

use serde::Serialize;

use super::half::{Effect, HalfReport, HalfState, TagReport};
use super::{Inspector, Report, Unanswered};
use crate::disk::log::{Log, Parsed, parse};
use crate::disk::tag;
use crate::image::Dialect;

/// One tag of a history.
#[derive(Debug, Clone, Serialize)]
pub struct LogStep {
    /// The block it stands in.
    pub block: u32,
    /// That block's revision.
    pub revision: u32,
    /// Which commit of the block, from 0 on.
    pub commit: usize,
    /// The tag, with the id that the entry had then.
    #[serde(flatten)]
    pub tag: TagReport,
}

/// The history of an entry, as far as both halves of its pair hold it.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// The path of the entry.
    pub path: String,
    /// The metadata pair that it stands in, the live half first.
    pub pair: [u32; 2],
    /// Its id there.
    pub id: u16,
    /// What was written, the oldest first: first the superseded half, then the live one.
    pub steps: Vec<LogStep>,
}

impl Report for LogReport {
    fn is_damaged(&self) -> bool {
        false
    }
}

impl Inspector {
    /// The histories of the entries at `path`: more than one where a directory holds the name more
    /// than once.
    ///
    /// # Errors
    /// When there is none, or it is the root directory.
    pub fn log(&self, path: &[u8]) -> Result<Vec<LogReport>, Unanswered> {
        let survey = self.survey();
        let mut reports = Vec::new();
        // several entries of a name are mostly in one pair
        let mut read: HashMap<u32, (HalfReport, Vec<u8>)> = HashMap::new();
        for at in self.find(path)? {
            let Some(node) = survey.nodes.get(at) else { continue };
            let Some((pair_at, id)) = node.entry else { return Err(Unanswered::IsRoot) };
            let Some(seen) = survey.pairs.get(pair_at) else { continue };
            let mut steps = Vec::new();
            let [live, twin] = seen.pair.0;
            let (half, bytes) = &*read.entry(twin).or_insert_with(|| self.half(twin));
            let ids_shift = self.dialect == Dialect::Littlefs;
            if half.state == HalfState::Superseded
                && let Parsed::Log(log) = parse(bytes, bytes.len())
                && let Some(id) = if ids_shift { find(&log, &node.name) } else { Some(id) }
            {
                history(half, id, ids_shift, &mut steps);
            }
            let (half, _) = &*read.entry(live).or_insert_with(|| self.half(live));
            history(half, id, ids_shift, &mut steps);
            reports.push(LogReport { path: survey.path(at), pair: seen.pair.0, id, steps });
        }
        Ok(reports)
    }
}

/// The id of the entry of that name.
fn find(log: &Log, name: &[u8]) -> Option<u16> {
    let is_it = |entry: &crate::disk::log::RawEntry| {
        *entry.name == *name && entry.name_type.is_some_and(|ty| ty != tag::SUPERBLOCK)
    };
    log.entries.iter().position(is_it).map(|id| id as u16)
}

/// Add the tags of the entry which has this id in the end. Ids shift with each creation and deletion,
/// so the tags are followed backwards; in chamelon's dialect they never do.
fn history(half: &HalfReport, id: u16, ids_shift: bool, steps: &mut Vec<LogStep>) {
    let first = steps.len();
    let mut id = id;
    'commits: for (commit, report) in half.commits.iter().enumerate().rev() {
        if !report.valid {
            continue;
        }
        for tag in report.tags.iter().rev() {
            let Some(of) = tag.id else { continue };
            match tag.r#type {
                tag::DELETE if ids_shift && of <= id => id += 1,
                tag::CREATE if ids_shift && of < id => id -= 1,
                tag::CREATE if of == id => {
                    steps.push(step(half, commit, tag));
                    break 'commits;
                }
                tag::CREATE | tag::DELETE => {}
                _ if of == id => steps.push(step(half, commit, tag)),
                _ => {}
            }
        }
    }
    if let Some(added) = steps.get_mut(first..) {
        added.reverse();
    }
}

fn step(half: &HalfReport, commit: usize, tag: &TagReport) -> LogStep {
    let mut tag = tag.clone();
    if half.state != HalfState::Live && tag.effect == Effect::Live {
        tag.id_now = None;
    }
    LogStep { block: half.block, revision: half.revision.unwrap_or_default(), commit, tag }
}
