//! The history of an entry: what each commit that still exists did to it.

use std::collections::HashMap;

use serde::Serialize;

use super::half::{Effect, HalfReport, HalfState, TagReport};
use super::{Inspector, Report, Unanswered};
use crate::disk::log::{Log, Parsed, parse};
use crate::disk::tag;
use crate::image::Dialect;

/// One step of a history: a tag.
#[derive(Debug, Clone, Serialize)]
pub struct LogStep {
    /// The block that holds it.
    pub block: u32,
    /// The revision of that block.
    pub revision: u32,
    /// The number of the commit in the block, from 0 on.
    pub commit: usize,
    /// The tag, with the id that the entry had at that time.
    #[serde(flatten)]
    pub tag: TagReport,
}

/// The history of an entry, as far as the halves of its pair still hold it.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// The path of the entry.
    pub path: String,
    /// The metadata pair that holds it, the live half first.
    pub pair: [u32; 2],
    /// The id of the entry in the pair.
    pub id: u16,
    /// The steps, oldest first: those in the superseded half, then those in the live half.
    pub steps: Vec<LogStep>,
}

impl Report for LogReport {
    fn is_damaged(&self) -> bool {
        false
    }
}

impl Inspector {
    /// The histories of the entries at `path`. There are several if a directory holds a name more
    /// than once.
    ///
    /// # Errors
    /// If there is none, or it is the root directory.
    pub fn log(&self, path: &[u8]) -> Result<Vec<LogReport>, Unanswered> {
        let survey = self.survey();
        let mut reports = Vec::new();
        // several entries with one name are usually in the same pair
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

/// The id of the entry with that name.
fn find(log: &Log, name: &[u8]) -> Option<u16> {
    let is_it = |entry: &crate::disk::log::RawEntry| {
        *entry.name == *name && entry.name_type.is_some_and(|ty| ty != tag::SUPERBLOCK)
    };
    log.entries.iter().position(is_it).map(|id| id as u16)
}

/// Add the tags of the entry that has this id after the last commit. Ids shift with each creation
/// and deletion, so the tags are followed backwards. In chamelon's dialect, ids never shift.
fn history(half: &HalfReport, id: u16, ids_shift: bool, steps: &mut Vec<LogStep>) {
    let first = steps.len();
    let mut id = id;
    'commits: for (commit, report) in half.commits.iter().enumerate().rev() {
        if !report.valid || report.hidden {
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
