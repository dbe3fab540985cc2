//! All copies of the superblock.

use serde::Serialize;

use super::half::HalfState;
use super::survey::Problem;
use super::text::superblock_words;
use super::{Inspector, Report};
use crate::disk::log::{Parsed, parse};
use crate::disk::{Pair, Superblock};

/// One copy of the superblock.
#[derive(Debug, Clone, Serialize)]
pub struct SuperblockCopy {
    /// The block that holds it.
    pub block: u32,
    /// The revision of that block.
    pub revision: u32,
    /// Whether that block is the live half of its pair.
    pub live: bool,
    /// Whether this is the copy in force: the one in the root's pair.
    pub counts: bool,
    /// `2.0` or `2.1`; for version 1, `1.0` or `1.1`.
    pub disk_version: String,
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in the filesystem.
    pub block_count: u32,
    /// For version 1: the first pair of the root directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<[u32; 2]>,
    /// Longest name, in bytes.
    pub name_max: u32,
    /// Largest file, in bytes.
    pub file_max: u32,
    /// Largest user attribute, in bytes.
    pub attr_max: u32,
    /// All of these, in words.
    #[serde(skip)]
    pub(super) words: String,
}

/// The superblock.
#[derive(Debug, Clone, Serialize)]
pub struct SuperblockReport {
    /// The block size in bytes with which the image was opened.
    pub block_size: u32,
    /// The number of blocks with which the image was opened.
    pub block_count: u32,
    /// All copies: first those in blocks 0 and 1, then those in the later pairs of the chain.
    pub copies: Vec<SuperblockCopy>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Report for SuperblockReport {
    fn is_damaged(&self) -> bool {
        !self.problems.is_empty()
    }
}

impl Inspector {
    /// Every copy of the superblock.
    pub fn superblock(&self) -> SuperblockReport {
        let (survey, g) = (self.survey(), self.geometry());
        let mut report = SuperblockReport {
            block_size: g.block_size,
            block_count: g.block_count,
            copies: Vec::new(),
            problems: Vec::new(),
        };
        let holds = survey.pairs.iter().filter(|seen| seen.superblock.is_some());
        let root = holds.clone().next_back().map(|seen| seen.pair);
        let mut pairs: Vec<(Pair, Option<u32>)> = vec![(Pair::SUPERBLOCK, None)];
        match survey.pairs.first() {
            Some(first) => pairs[0].1 = Some(first.pair.0[0]),
            None => report.problems.extend(survey.problems.first().cloned()),
        }
        let behind = holds.filter(|seen| !seen.pair.same(Pair::SUPERBLOCK));
        pairs.extend(behind.map(|seen| (seen.pair, Some(seen.pair.0[0]))));
        for (pair, live) in pairs {
            for block in pair.0 {
                let is_live = live == Some(block);
                let counts = is_live && root.is_some_and(|root| root.same(pair));
                match self.copy(block, is_live, counts) {
                    Ok(Some(copy)) => report.copies.push(copy),
                    Ok(None) => {}
                    Err(message) => {
                        report
                            .problems
                            .push(Problem { place: format!("block {block:#x}"), message });
                    }
                }
            }
        }
        if let Some(counts) = report.copies.iter().find(|copy| copy.counts)
            && (counts.block_size, counts.block_count) != (g.block_size, g.block_count)
        {
            let place = format!("block {:#x}", counts.block);
            let message = "gives another block size or block count than the image was opened \
                           with"
                .to_owned();
            report.problems.push(Problem { place, message });
        }
        report
    }

    fn copy(&self, block: u32, live: bool, counts: bool) -> Result<Option<SuperblockCopy>, String> {
        let (half, bytes) = self.half(block);
        if half.state == HalfState::Unreadable {
            return Err(format!("cannot be read: {}", half.error.unwrap_or_default()));
        }
        let Parsed::Log(log) = parse(&bytes, bytes.len()) else {
            return Err("holds no valid commit".to_owned());
        };
        let Some(superblock) = Superblock::of(&log) else {
            return if live { Err("holds no superblock".to_owned()) } else { Ok(None) };
        };
        Ok(Some(SuperblockCopy {
            block,
            revision: log.rev,
            live,
            counts,
            disk_version: version(&superblock),
            block_size: superblock.block_size,
            block_count: superblock.block_count,
            root: None,
            name_max: superblock.name_max,
            file_max: superblock.file_max,
            attr_max: superblock.attr_max,
            words: superblock_words(&superblock),
        }))
    }
}

/// The version in the usual form.
pub(super) fn version(superblock: &Superblock) -> String {
    format!("{}.{}", superblock.version >> 16, superblock.version & 0xffff)
}

/// The meaning of the data of a superblock entry, in words.
pub(super) fn words(data: &[u8]) -> Option<String> {
    Superblock::from_bytes(data).map(|superblock| superblock_words(&superblock))
}
