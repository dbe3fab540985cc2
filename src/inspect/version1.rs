//! Metadata of littlefs version 1. Each of the two blocks of a pair is one commit.

mod text;

use serde::Serialize;

use super::half::HalfState;
use super::superblock::{SuperblockCopy, SuperblockReport, version};
use super::survey::Problem;
use super::text::snippet;
use super::{Inspector, Report, Unanswered, hex};
use crate::disk::superblock::probe_version1;
use crate::disk::{Pair, read_u32_le};
use crate::image::Dialect;
use crate::show::{self, Show, base64_unless_text};
use crate::v1::block::{self, DIRECTORY, Dissection, FILE, SUPERBLOCK};

/// How many bytes of an entry come before its data: its type and three lengths.
const LENGTHS: usize = 4;

/// An entry, as it is stored in its block.
#[derive(Debug, Clone, Serialize)]
pub struct EntryReport {
    /// Its number in the block, from 0 on.
    pub id: u16,
    /// Its offset in the block, in bytes.
    pub offset: u32,
    /// The name of its type in SPEC.md, without `LFS_TYPE_`; `None` if SPEC.md has no such type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// The byte that holds its type, with bit 0x80 if it is marked as moved.
    pub type_byte: u8,
    /// Whether it is marked as moved.
    pub moved: bool,
    /// Bytes of data.
    pub entry_length: u8,
    /// Bytes of attributes.
    pub attribute_length: u8,
    /// Bytes of name.
    pub name_length: usize,
    /// Its name.
    pub name: String,
    /// The bytes of the name, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// What the data means, in words.
    pub content: String,
    /// The data.
    pub data_hex: String,
    /// The attributes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub attributes_hex: String,
    #[serde(skip)]
    raw_name: Box<[u8]>,
}

/// One block of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct HalfReport {
    /// Its address.
    pub block: u32,
    /// Its state within the pair.
    pub state: HalfState,
    /// Its revision count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// How many bytes are in use according to the block itself, including the CRC.
    pub size: u32,
    /// Whether the top bit of that number says that the directory continues in the pair of the
    /// tail.
    pub continues: bool,
    /// The next pair of the thread; `None` at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<[u32; 2]>,
    /// The CRC that is stored; `None` if the size is impossible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_stored: Option<u32>,
    /// The CRC of the bytes as they are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_computed: Option<u32>,
    /// The entries, in their order. If the CRC does not match, none of them is valid.
    pub entries: Vec<EntryReport>,
    /// The offset of an entry that extends beyond the end of the block. The entries after it are
    /// lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<usize>,
    /// How many bytes follow the CRC, up to the last byte that does not read 0xFF. No driver erases
    /// them.
    pub trailing: u32,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
    /// What is wrong with it.
    pub damage: Vec<String>,
}

/// An entry in one block of its pair.
#[derive(Debug, Clone, Serialize)]
pub struct LogStep {
    /// The block.
    pub block: u32,
    /// The state of the block within the pair.
    pub state: HalfState,
    /// The revision of the block.
    pub revision: u32,
    /// The entry of that name in the block; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryReport>,
}

/// The history of an entry, as far as the blocks of its pair still hold it.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// The path of the entry.
    pub path: String,
    /// The metadata pair that holds it, the live half first.
    pub pair: [u32; 2],
    /// Its number in the live half.
    pub id: u16,
    /// The entry in each block, the older block first.
    pub steps: Vec<LogStep>,
}

impl Report for PairReport {
    fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

impl Report for LogReport {
    fn is_damaged(&self) -> bool {
        false
    }
}

impl HalfReport {
    /// A report about a block that holds these bytes.
    fn new(block: u32, bytes: &[u8]) -> Self {
        let mut half = Self {
            block,
            state: HalfState::Invalid,
            revision: None,
            size: 0,
            continues: false,
            tail: None,
            crc_stored: None,
            crc_computed: None,
            entries: Vec::new(),
            broken_at: None,
            trailing: 0,
            error: None,
        };
        let Some(taken) = Dissection::of(bytes) else { return half };
        if taken.is_valid() {
            half.state = HalfState::Superseded;
        }
        half.revision = Some(taken.rev);
        half.size = taken.size;
        half.continues = taken.content.continues;
        half.tail = taken.content.next().map(|next| next.0);
        (half.crc_stored, half.crc_computed) = taken.crcs.unzip();
        let entries = (0..).zip(&taken.content.entries);
        half.entries = entries.map(|(id, entry)| EntryReport::new(id, entry, bytes)).collect();
        half.broken_at = taken.content.broken;
        let end = if taken.crcs.is_some() { taken.size } else { 0 };
        let written = bytes.iter().rposition(|&b| b != 0xff).map_or(0, |at| at as u32 + 1);
        half.trailing = written.saturating_sub(end);
        half
    }

    /// Whether its CRC matches.
    pub fn is_valid(&self) -> bool {
        self.state.is_valid()
    }

    /// Note whether this is the live half of its pair.
    pub(super) fn make_live(&mut self, live: bool) {
        if live && self.is_valid() {
            self.state = HalfState::Live;
        }
    }

    /// The entry of that name.
    fn find(&self, name: &[u8]) -> Option<&EntryReport> {
        let is_named = |entry: &&EntryReport| matches!(entry.r#type, Some("REG" | "DIR"));
        self.entries.iter().filter(is_named).find(|entry| *entry.raw_name == *name)
    }
}

impl EntryReport {
    fn new(id: u16, entry: &block::Entry, bytes: &[u8]) -> Self {
        let data_at = entry.at as usize + LENGTHS;
        let attrs_at = data_at + usize::from(entry.data_len);
        let part = |at: usize, len: u8| bytes.get(at..at + usize::from(len)).unwrap_or_default();
        let data = part(data_at, entry.data_len);
        let [first, second] = entry.words();
        let is_short = entry.data_len < 8;
        let content = match entry.kind {
            FILE | DIRECTORY if is_short => "too short".to_owned(),
            FILE if second == 0 => format!("empty, head {first:#x}"),
            FILE => format!("list, {}, head {first:#x}", show::bytes(second)),
            DIRECTORY => format!("directory at {}", Pair([first, second])),
            SUPERBLOCK => superblock_words(data).unwrap_or_else(|| snippet(data)),
            _ => snippet(data),
        };
        let ty = match entry.kind {
            FILE => Some("REG"),
            DIRECTORY => Some("DIR"),
            SUPERBLOCK => Some("SUPERBLOCK"),
            _ => None,
        };
        Self {
            id,
            offset: entry.at,
            r#type: ty,
            type_byte: entry.kind | if entry.moved { block::MOVED } else { 0 },
            moved: entry.moved,
            entry_length: entry.data_len,
            attribute_length: entry.attr_len,
            name_length: entry.name.len(),
            name: entry.name.show().to_string(),
            name_base64: base64_unless_text(&entry.name),
            content,
            data_hex: hex(data),
            attributes_hex: hex(part(attrs_at, entry.attr_len)),
            raw_name: entry.name.clone(),
        }
    }
}

/// The meaning of the data of a superblock entry, in words.
fn superblock_words(data: &[u8]) -> Option<String> {
    let word = |n: usize| read_u32_le(data, 4 * n);
    let (root, version) = (Pair([word(0)?, word(1)?]), word(4)?);
    let (block_size, block_count) = (word(2)?, word(3)?);
    let (major, minor) = (version >> 16, version & 0xffff);
    Some(format!(
        "version {major}.{minor}, {block_count} blocks of {block_size} bytes, root at {root}"
    ))
}

impl Inspector {
    /// The inspector for an image of version 1; `None` if the image has another version.
    pub fn version1(&self) -> Option<Version1<'_>> {
        (self.dialect() == Dialect::V1).then_some(Version1(self))
    }

    /// A report about a block of version 1 as half of a pair, and the bytes of the block.
    pub(super) fn half_of_version1(&self, block: u32) -> (HalfReport, Vec<u8>) {
        match self.bytes(block) {
            Ok(bytes) => (HalfReport::new(block, &bytes), bytes),
            Err(e) => {
                let mut half = HalfReport::new(block, &[]);
                half.state = HalfState::Unreadable;
                half.error = Some(e.source.to_string());
                (half, Vec::new())
            }
        }
    }
}

/// An inspector of an image of version 1.
#[derive(Clone, Copy)]
pub struct Version1<'a>(&'a Inspector);

impl Version1<'_> {
    /// Both halves of a metadata pair, entry by entry, whether or not something names the pair.
    ///
    /// # Errors
    /// If a block is outside the filesystem.
    pub fn pair(self, pair: Pair) -> Result<PairReport, Unanswered> {
        let blocks = self.0.blocks_of_pair(pair)?;
        let halves: Vec<HalfReport> =
            blocks.into_iter().map(|block| self.0.half_of_version1(block).0).collect();
        let mut report =
            PairReport { pair: pair.0, used_as: self.0.used_as(pair), halves, damage: Vec::new() };
        for half in &report.halves {
            if let Some(error) = &half.error {
                report.damage.push(format!("block {:#x} cannot be read: {error}", half.block));
            }
        }
        if pair.0[0] == pair.0[1] {
            report.damage.push("both halves are the same block".to_owned());
        }
        let live = block::newest(&*self.0.dev, pair).map(|(live, _)| live);
        let live = report.halves.iter_mut().find(|half| Some(half.block) == live);
        let Some(live) = live else {
            report.damage.push("the CRC of neither block matches".to_owned());
            return Ok(report);
        };
        live.make_live(true);
        if let Some(at) = live.broken_at {
            report.damage.push(format!("the entry at {at:#x} leaves its block; the rest is lost"));
        }
        let is_named = |entry: &&EntryReport| entry.r#type.is_some() && entry.entry_length < 8;
        for entry in live.entries.iter().filter(is_named) {
            let (id, len) = (entry.id, show::bytes(entry.entry_length));
            report.damage.push(format!("entry {id} has {len} of data instead of 8"));
        }
        Ok(report)
    }

    /// The numbers of the entries in a block that are marked as moved.
    pub(super) fn moved(self, block: u32) -> Vec<(u16, String)> {
        let half = self.0.half_of_version1(block).0;
        let moved = half.entries.into_iter().filter(|entry| entry.moved && half.state.is_valid());
        moved.map(|entry| (entry.id, entry.name)).collect()
    }

    /// Both copies of the superblock.
    pub fn superblock(self) -> SuperblockReport {
        let g = self.0.geometry();
        let mut report = SuperblockReport {
            block_size: g.block_size,
            block_count: g.block_count,
            copies: Vec::new(),
            problems: Vec::new(),
        };
        let counts = block::newest(&*self.0.dev, Pair::SUPERBLOCK).map(|(live, _)| live);
        for block in Pair::SUPERBLOCK.0 {
            let place = format!("block {block:#x}");
            let mut problem = |message: String| {
                report.problems.push(Problem { place: place.clone(), message });
            };
            let (half, bytes) = self.0.half_of_version1(block);
            let Some((superblock, revision)) = probe_version1(&bytes) else {
                problem(match half.error {
                    Some(error) => format!("cannot be read: {error}"),
                    None => "holds no valid superblock".to_owned(),
                });
                continue;
            };
            let is_live = counts == Some(block);
            if is_live
                && (superblock.block_size, superblock.block_count) != (g.block_size, g.block_count)
            {
                problem(
                    "gives another block size or block count than the image was opened with"
                        .to_owned(),
                );
            }
            let words = half.entries.first().map_or(String::new(), |entry| entry.content.clone());
            let root = bytes.get(20..).and_then(Pair::from_bytes).unwrap_or(Pair::NULL);
            report.copies.push(SuperblockCopy {
                block,
                revision,
                live: is_live,
                counts: is_live,
                disk_version: version(&superblock),
                block_size: superblock.block_size,
                block_count: superblock.block_count,
                root: Some(root.0),
                name_max: superblock.name_max,
                file_max: superblock.file_max,
                attr_max: superblock.attr_max,
                words,
            });
        }
        report
    }

    /// The histories of the entries at `path`. There are several if a directory holds a name more
    /// than once.
    ///
    /// # Errors
    /// If there is none, or it is the root directory.
    pub fn log(self, path: &[u8]) -> Result<Vec<LogReport>, Unanswered> {
        let survey = self.0.survey();
        let mut reports = Vec::new();
        for at in self.0.find(path)? {
            let Some(node) = survey.nodes.get(at) else { continue };
            let Some((pair_at, id)) = node.entry else { return Err(Unanswered::IsRoot) };
            let Some(seen) = survey.pairs.get(pair_at) else { continue };
            let [live, twin] = seen.pair.0.map(|block| self.0.half_of_version1(block).0);
            let entry = live.entries.get(usize::from(id));
            let name = entry.map_or(Box::default(), |entry| entry.raw_name.clone());
            let step = |half: &HalfReport, state: HalfState, entry: Option<&EntryReport>| LogStep {
                block: half.block,
                state,
                revision: half.revision.unwrap_or_default(),
                entry: entry.cloned(),
            };
            let mut steps = Vec::new();
            if twin.is_valid() {
                steps.push(step(&twin, HalfState::Superseded, twin.find(&name)));
            }
            steps.push(step(&live, HalfState::Live, entry));
            reports.push(LogReport { path: survey.path(at), pair: seen.pair.0, id, steps });
        }
        Ok(reports)
    }
}
