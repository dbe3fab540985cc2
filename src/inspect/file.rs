//! One file: the place of its entry, and every block of its content.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use serde::Serialize;

use super::survey::{Kind, Use, show_broken};
use super::text::snippet;
use super::{Inspector, Report, Unanswered, hex};
use crate::disk::entry::Content;
use crate::disk::list::{self, List, Met, Place};
use crate::disk::log::RawEntry;
use crate::disk::{ListIndex, Part, Tag, ctz};
use crate::image::Dialect;
use crate::mdir::store;
use crate::show;
use crate::{chamelon, v1};

/// The entries of a metadata block, by their ids.
type Entries = BTreeMap<u16, RawEntry>;

/// A user attribute, as it is stored.
#[derive(Debug, Clone, Serialize)]
pub struct AttributeReport {
    /// Its type.
    pub r#type: u8,
    /// Bytes of its value.
    pub length: usize,
    /// The value.
    pub data_hex: String,
    #[serde(skip)]
    pub(super) words: String,
}

/// The attributes of an entry.
pub(super) fn attributes(entry: &RawEntry) -> Vec<AttributeReport> {
    let attribute = |(ty, data): &(u8, Part)| AttributeReport {
        r#type: *ty,
        length: data.len(),
        data_hex: hex(data),
        words: snippet(data),
    };
    entry.attrs.iter().map(attribute).collect()
}

/// One block of a file's list.
#[derive(Debug, Clone, Serialize)]
pub struct ListBlock {
    /// The index of the block in the list.
    pub index: u32,
    /// The address of the block.
    pub block: u32,
    /// Position of its first byte of content in the file.
    pub position: u64,
    /// How many bytes of content it holds.
    pub bytes: u64,
    /// Where its content begins in the block: after the pointers, in bytes.
    pub data_offset: u32,
    /// The addresses in its pointers, which lead to the blocks 1, 2, 4... before it in the list.
    pub pointers: Vec<u32>,
    /// Whether all pointers that lead to and from it agree.
    pub agrees: bool,
    /// What else uses the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
}

/// A file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// The metadata pair that holds its entry, the live half first.
    pub pair: [u32; 2],
    /// The id of its entry in the pair.
    pub id: u16,
    /// The name in SPEC.md of the type of its name tag, without `LFS_TYPE_`.
    pub r#type: &'static str,
    /// Size in bytes.
    pub size: u32,
    /// How it is stored, in words.
    pub storage: String,
    /// The content, if it is stored in the pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_hex: Option<String>,
    /// The blocks of its list, the head first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<ListBlock>,
    /// User attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeReport>,
    /// What is wrong with it.
    pub damage: Vec<String>,
}

impl Report for FileReport {
    fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

impl Inspector {
    /// The files at `path`. There are several if a directory holds a name more than once.
    ///
    /// # Errors
    /// If there is none.
    pub fn file(&self, path: &[u8]) -> Result<Vec<FileReport>, Unanswered> {
        // several entries with one name are usually in the same pair
        let mut read = HashMap::new();
        let found = self.find(path)?.into_iter();
        let files: Vec<FileReport> = found.filter_map(|at| self.file_at(at, &mut read)).collect();
        if files.is_empty() { Err(Unanswered::IsADirectory) } else { Ok(files) }
    }

    /// The entries in a metadata block; none if the block cannot be read.
    pub(super) fn entries_in(&self, block: u32) -> Entries {
        match self.dialect {
            Dialect::Littlefs => {
                let log = store::read_log(&*self.dev, block).ok().flatten();
                (0..).zip(log.map_or(Vec::new(), |log| log.entries)).collect()
            }
            Dialect::Chamelon => {
                self.bytes(block).map_or(Entries::new(), |bytes| chamelon::entries(bytes).1)
            }
            Dialect::V1 => v1::entries(&*self.dev, block),
        }
    }

    /// The file of a node; `None` if the node is a directory, or does not exist any more.
    fn file_at(&self, at: usize, read: &mut HashMap<u32, Entries>) -> Option<FileReport> {
        let survey = self.survey();
        let node = survey.nodes.get(at)?;
        let (pair_at, id) = node.entry.filter(|_| !matches!(node.kind, Kind::Dir { .. }))?;
        let pair = survey.pairs.get(pair_at)?.pair;
        let entries = read.entry(pair.0[0]).or_insert_with(|| self.entries_in(pair.0[0]));
        let entry = entries.get(&id)?;
        let mut report = FileReport {
            path: survey.path(at),
            pair: pair.0,
            id,
            r#type: Tag::new(node.name_type, id, 0).name(),
            size: node.size(),
            storage: String::new(),
            inline_hex: None,
            blocks: Vec::new(),
            attributes: attributes(entry),
            damage: Vec::new(),
        };
        match Content::of(entry) {
            Content::Inline(data) => {
                report.storage = format!("inline, in block {:#x}", pair.0[0]);
                report.inline_hex = Some(hex(data));
            }
            Content::List(list) => self.follow(&mut report, at, list),
            other => {
                report.storage = "unknown".to_owned();
                report
                    .damage
                    .push(format!("its struct does not tell where its content is: {other:?}"));
            }
        }
        Some(report)
    }

    fn follow(&self, report: &mut FileReport, node: usize, list: List) {
        let g = self.geometry();
        let List { head, size } = list;
        let mut damage = Vec::new();
        let mut visit = |met: Met<'_>| {
            let Met::Pointers { at: Place { index, block }, pointers, agrees } = met else {
                return;
            };
            let (_, position) = self.block_of_list(index);
            let end = self.block_of_list(index + 1).1.min(u64::from(size));
            let shared_with = self.other_use(block, node);
            if !agrees {
                damage.push(format!("pointers to and from block {index} of its list disagree"));
            }
            if let Some(other) = &shared_with {
                damage.push(format!("block {index} of its list, {block:#x}, is also {other}"));
            }
            report.blocks.push(ListBlock {
                index: index.0,
                block,
                position,
                bytes: end.saturating_sub(position),
                data_offset: 4 * self.pointers(index),
                pointers: pointers.to_vec(),
                agrees,
                shared_with,
            });
        };
        let broken = self.follow_list(list, &mut visit);
        report.damage.extend(damage);
        report.damage.extend(broken.err());
        let claimed = match self.dialect {
            Dialect::Chamelon => report.blocks.len() as u32,
            _ => list.blocks(g.block_size),
        };
        report.storage = match claimed {
            0 if report.damage.is_empty() => "empty, without a block".to_owned(),
            count => format!("a list of {}, head {head:#x}", show::blocks(count)),
        };
    }

    /// Call `visit` for each block of a list that can be found, and for the pointers in the block.
    ///
    /// # Errors
    /// If the rest of the list cannot be found. The error is the reason, in words.
    fn follow_list(&self, list: List, visit: &mut dyn FnMut(Met<'_>)) -> Result<(), String> {
        if self.dialect == Dialect::Chamelon {
            let followed = chamelon::follow(&*self.dev, list.head, list.size, visit);
            return followed.map_err(|e| e.to_string());
        }
        let read = |block, off, bytes: &mut [u8]| self.dev.read(block, off, bytes);
        // A list may claim any number of blocks, and may form a loop.
        let (mut seen, mut again) = (HashSet::new(), None);
        let visit = |met: Met<'_>| match met {
            Met::Block(at) if !seen.insert(at.block) => {
                again = Some(at);
                ControlFlow::Break(())
            }
            met => {
                visit(met);
                ControlFlow::Continue(())
            }
        };
        let followed = list::follow(self.geometry(), list, read, visit);
        match again {
            Some(Place { index, block }) => Err(format!(
                "block {index} of its list is {block:#x} again, so the list goes in circles"
            )),
            None => followed.map_err(|broken| show_broken(&broken)),
        }
    }

    /// The number of pointers at the start of block `index` of a list, and the position in the file
    /// of the first byte of content after them.
    fn block_of_list(&self, index: ListIndex) -> (u32, u64) {
        let block_size = self.geometry().block_size;
        match self.dialect {
            Dialect::Chamelon => chamelon::block_of_list(block_size, index),
            _ => (ctz::pointers(index), ctz::start(block_size, index)),
        }
    }

    /// The number of pointers at the start of block `index` of a list.
    pub(super) fn pointers(&self, index: ListIndex) -> u32 {
        self.block_of_list(index).0
    }

    /// What uses `block`, other than the file `node`.
    fn other_use(&self, block: u32, node: usize) -> Option<String> {
        let survey = self.survey();
        let uses = [survey.use_of(block), survey.shared_with(block)];
        let is_own = |of: &Use| matches!(*of, Use::Data(owner, _) if owner == node);
        let twice = uses.iter().flatten().filter(|of| is_own(of)).count() > 1;
        let other = uses.into_iter().flatten().find(|of| twice || !is_own(of))?;
        Some(survey.describe(other))
    }
}
