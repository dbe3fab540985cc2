//! A metadata pair: both of its halves, and its entries.

use serde::Serialize;

use super::file::{AttributeReport, attributes};
use super::half::{HalfReport, HalfState, gstate_words};
use super::text::snippet;
use super::{Inspector, Report, Unanswered};
use crate::chamelon;
use crate::disk::entry::Content;
use crate::disk::log::{Log, Parsed, RawEntry, parse};
use crate::disk::{List, Pair, Tag, Tail, rev_newer, tag};
use crate::image::Dialect;
use crate::show::{self, Show, base64_unless_text};

/// An entry, as it is stored in its pair.
#[derive(Debug, Clone, Serialize)]
pub struct EntryReport {
    /// The id.
    pub id: u16,
    /// The name in SPEC.md of the type of its name tag, without `LFS_TYPE_`; `None` if it has no
    /// name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// Its name.
    pub name: String,
    /// The bytes of the name, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// Where its content is.
    pub content: String,
    /// User attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeReport>,
}

/// A metadata pair.
#[derive(Debug, Clone, Serialize)]
pub struct PairReport {
    /// The two blocks, in the order in which the caller named them.
    pub pair: [u32; 2],
    /// What the pair is used for, in words, according to the walk over the filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_as: Option<String>,
    /// Both halves.
    pub halves: Vec<HalfReport>,
    /// The entries of the live half, by id.
    pub entries: Vec<EntryReport>,
    /// Where the thread continues, in words; in chamelon's dialect, where the directory continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<String>,
    /// What the pair contributes to the global state, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<String>,
    /// What is wrong with it.
    pub damage: Vec<String>,
}

impl Report for PairReport {
    fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

impl PairReport {
    /// The live half.
    pub fn live(&self) -> Option<&HalfReport> {
        self.halves.iter().find(|half| half.state == HalfState::Live)
    }
}

impl Inspector {
    /// Both halves of a metadata pair, tag by tag, whether or not something names the pair.
    ///
    /// # Errors
    /// If a block is outside the filesystem.
    pub fn pair(&self, pair: Pair) -> Result<PairReport, Unanswered> {
        let blocks = self.blocks_of_pair(pair)?;
        let mut report = PairReport {
            pair: pair.0,
            used_as: self.used_as(pair),
            halves: Vec::new(),
            entries: Vec::new(),
            tail: None,
            delta: None,
            damage: Vec::new(),
        };
        let mut contents = Vec::new();
        for block in blocks {
            let (half, bytes) = self.half(block);
            if let Some(error) = &half.error {
                report.damage.push(format!("block {block:#x} cannot be read: {error}"));
            }
            contents.push(bytes);
            report.halves.push(half);
        }
        if pair.0[0] == pair.0[1] {
            report.damage.push("both halves are the same block".to_owned());
        }
        let valid = |half: &HalfReport| half.state == HalfState::Superseded;
        let live = match &report.halves[..] {
            [a, b] if valid(a) && valid(b) => match (a.revision, b.revision) {
                (Some(a), Some(b)) if rev_newer(b, a) => Some(1),
                _ => Some(0),
            },
            halves => halves.iter().position(valid),
        };
        match live.and_then(|at| report.halves.get_mut(at).zip(contents.get(at))) {
            Some((half, bytes)) => match self.dialect {
                Dialect::Chamelon => {
                    half.state = HalfState::Live;
                    let (tail, entries) = chamelon::entries(bytes.clone());
                    report.tail = tail.map(tail_words);
                    report.hold(entries.iter().map(|(id, entry)| (*id, entry)));
                }
                _ => {
                    half.make_live(bytes, self.survey().superblock);
                    if let Parsed::Log(log) = parse(bytes, bytes.len()) {
                        report.hold_log(&log);
                    }
                }
            },
            None => report.damage.push("no commit is valid in either block".to_owned()),
        }
        Ok(report)
    }

    /// A report about a block as half of a pair, and the bytes of the block.
    pub(super) fn half(&self, block: u32) -> (HalfReport, Vec<u8>) {
        match self.bytes(block) {
            Ok(bytes) => (HalfReport::new(block, &bytes, self.dialect), bytes),
            Err(e) => (HalfReport::unreadable(block, e.source.to_string()), Vec::new()),
        }
    }

    /// What a pair is used for; `None` if nothing names it.
    pub(super) fn used_as(&self, pair: Pair) -> Option<String> {
        let survey = self.survey();
        let seen = pair.0.iter().find_map(|&block| survey.pair_of(block))?;
        let mut words = match (seen.dir, seen.superblock) {
            (_, Some(superblock)) if superblock.is_version1() => "of the superblock".to_owned(),
            (Some(dir), _) => format!("of directory {}", survey.path(dir)),
            (None, Some(_)) => "of the superblock chain".to_owned(),
            (None, None) => "which no directory names".to_owned(),
        };
        if !seen.pair.same(pair) {
            words += &format!("; with other blocks, {}", seen.pair);
        }
        // chamelon has no thread
        if !seen.threaded && self.dialect != Dialect::Chamelon {
            words += "; not in the thread";
        }
        Some(words)
    }
}

fn tail_words(tail: Tail) -> String {
    match tail {
        tail if tail.pair.is_null() => "end of the thread".to_owned(),
        tail if tail.hard => format!("{}, of the same directory", tail.pair),
        tail => format!("{}, of another directory", tail.pair),
    }
}

impl PairReport {
    /// Add the content of the live half.
    fn hold_log(&mut self, log: &Log) {
        if let Some(oddity) = log.oddity {
            self.damage.push(format!("it holds {oddity}, which no driver writes"));
        }
        self.tail = log.tail.map(tail_words);
        self.delta = (!log.gdelta.is_zero()).then(|| gstate_words(log.gdelta));
        self.hold((0..).zip(&log.entries));
    }

    fn hold<'a>(&mut self, entries: impl Iterator<Item = (u16, &'a RawEntry)>) {
        self.entries = entries.map(|(id, entry)| EntryReport::new(id, entry)).collect();
        for entry in self.entries.iter().filter(|entry| entry.r#type.is_none()) {
            self.damage.push(format!("id {} has no name", entry.id));
        }
    }
}

impl EntryReport {
    fn new(id: u16, entry: &RawEntry) -> Self {
        let is_superblock = entry.name_type == Some(tag::SUPERBLOCK);
        let content = match Content::of(entry) {
            Content::Inline(data) if is_superblock => {
                super::superblock::words(data).unwrap_or_else(|| snippet(data))
            }
            Content::Inline(data) => {
                format!("inline, {}: {}", show::bytes(data.len()), snippet(data))
            }
            Content::List(List { head, size }) => {
                format!("list, {}, head {head:#x}", show::bytes(size))
            }
            Content::Dir(pair) => format!("directory at {pair}"),
            Content::Short { ty } => format!("a struct of type {ty:#05x}, too short"),
            Content::Unknown { ty } => format!("a struct of unknown type {ty:#05x}"),
            Content::Missing => "no struct".to_owned(),
        };
        Self {
            id,
            r#type: entry.name_type.map(|ty| Tag::new(ty, id, 0).name()),
            name: entry.name.show().to_string(),
            name_base64: base64_unless_text(&entry.name),
            content,
            attributes: attributes(entry),
        }
    }
}
