//! One block, whatever it holds.

use serde::Serialize;

use super::half::HalfReport;
use super::survey::Use;
use super::text::hexdump;
use super::{Inspector, Report, Unanswered, hex, version1};
use crate::disk::{ListIndex, read_u32_le};
use crate::image::Dialect;

/// How many bytes of a block are shown.
const SHOWN: usize = 256;

/// A block as half of a metadata pair.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum MetadataReport {
    /// Commits and tags.
    Log(HalfReport),
    /// The only commit of a block of version 1.
    Version1(version1::HalfReport),
}

impl MetadataReport {
    /// Whether it holds a valid commit.
    fn is_valid(&self) -> bool {
        match self {
            Self::Log(half) => half.end > 0,
            Self::Version1(half) => half.is_valid(),
        }
    }

    /// Why it cannot be read.
    fn error(&self) -> Option<&String> {
        match self {
            Self::Log(half) => half.error.as_ref(),
            Self::Version1(half) => half.error.as_ref(),
        }
    }
}

/// A block.
#[derive(Debug, Clone, Serialize)]
pub struct BlockReport {
    /// Its address.
    pub block: u32,
    /// Its first byte in the filesystem.
    pub position: u64,
    /// Its first byte in the image file, or in the content that is wrapped in it.
    pub image_position: u64,
    /// What it is used for, in words; `free` if nothing uses it.
    pub used_as: String,
    /// What else it is used for. This is damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
    /// How many bytes the block has up to the last one that does not read 0xFF.
    pub written: u32,
    /// If it is a block of a list: the addresses at its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pointers: Vec<u32>,
    /// If it is a metadata block: its commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataReport>,
    /// Its first bytes.
    pub head_hex: String,
    /// What is wrong with it.
    pub damage: Vec<String>,
    #[serde(skip)]
    pub(super) dump: String,
}

impl Report for BlockReport {
    fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

impl Inspector {
    /// What a block is used for, and what it holds.
    ///
    /// # Errors
    /// If the block is outside the filesystem.
    pub fn block(&self, block: u32) -> Result<BlockReport, Unanswered> {
        self.in_range(block)?;
        let survey = self.survey();
        let used = survey.use_of(block);
        let (metadata, bytes) = self.metadata(block, matches!(used, Some(Use::Live(_))));
        let written = bytes.iter().rposition(|&b| b != 0xff).map_or(0, |at| at as u32 + 1);
        let shown = bytes.get(..SHOWN.min(written as usize)).unwrap_or_default();
        let position = u64::from(block) * u64::from(self.geometry().block_size);
        let mut report = BlockReport {
            block,
            position,
            image_position: self.offset.saturating_add(position),
            used_as: used.map_or_else(|| "free".to_owned(), |of| survey.describe(of)),
            shared_with: survey.shared_with(block).map(|of| survey.describe(of)),
            written,
            pointers: Vec::new(),
            metadata: None,
            head_hex: hex(shown),
            damage: Vec::new(),
            dump: hexdump(shown),
        };
        if let Some(error) = metadata.error() {
            report.damage.push(format!("it cannot be read: {error}"));
        }
        if let Some(other) = &report.shared_with {
            report.damage.push(format!("it is {}, and {other}", report.used_as));
        }
        match used {
            Some(Use::Data(_, index)) => {
                let pointer = |k: u32| read_u32_le(&bytes, 4 * k as usize);
                let count = self.pointers(ListIndex(index));
                report.pointers = (0..count).filter_map(pointer).collect();
            }
            Some(Use::Live(_) | Use::Twin(_)) => report.metadata = Some(metadata),
            None if metadata.is_valid() => {
                report.used_as = match metadata {
                    MetadataReport::Log(_) => "free; it holds a metadata log that nothing names",
                    MetadataReport::Version1(_) => "free; it holds metadata that nothing names",
                }
                .to_owned();
                report.metadata = Some(metadata);
            }
            None if written == 0 && report.damage.is_empty() => {
                report.used_as = "free, erased".to_owned();
            }
            None => {}
        }
        Ok(report)
    }

    /// A report about a block as metadata, and the bytes of the block. `live` says whether it is
    /// the live half of its pair.
    fn metadata(&self, block: u32, live: bool) -> (MetadataReport, Vec<u8>) {
        if self.dialect == Dialect::V1 {
            let (mut half, bytes) = self.half_of_version1(block);
            half.make_live(live);
            return (MetadataReport::Version1(half), bytes);
        }
        let (mut half, bytes) = self.half(block);
        if live {
            half.make_live(&bytes, self.survey().superblock);
        }
        (MetadataReport::Log(half), bytes)
    }
}
