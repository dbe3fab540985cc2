//! The superblock entry (SPEC: `0x0ff` SUPERBLOCK), the inline data of id 0 of the root.
//!
//! ```text
//! bytes  0-3   version, major in the high half
//! bytes  4-7   block size in bytes
//! bytes  8-11  block count
//! bytes 12-15  longest name in bytes
//! bytes 16-19  largest file in bytes
//! bytes 20-23  largest user attribute in bytes
//! ```

use super::log::{self, Log, Parsed};
use super::{read_u32_le, tag};

/// Name of the superblock entry.
pub const MAGIC: &[u8; 8] = b"littlefs";
/// Disk version 2.0.
pub const VERSION_2_0: u32 = 0x0002_0000;
/// Disk version 2.1, which adds forward CRCs.
pub const VERSION_2_1: u32 = 0x0002_0001;
/// Longest name the format can hold, in bytes.
pub const NAME_MAX: u32 = 1022;
/// Largest file, in bytes.
pub const FILE_MAX: u32 = 0x7fff_ffff;
/// Largest user attribute, in bytes.
pub const ATTR_MAX: u32 = 1022;

/// What the superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Disk version, major in the high 16 bits.
    pub version: u32,
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks in the filesystem.
    pub block_count: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
    /// Largest file, in bytes.
    pub file_max: u32,
    /// Largest user attribute, in bytes.
    pub attr_max: u32,
}

impl Superblock {
    /// Bytes on disk.
    pub const SIZE: usize = 24;

    /// The superblock in `b`; limits of 0 mean the format's own, larger ones are capped by it.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let limit = |off, max| {
            Some(match read_u32_le(b, off)? {
                0 => max,
                n => n.min(max),
            })
        };
        Some(Self {
            version: read_u32_le(b, 0)?,
            block_size: read_u32_le(b, 4)?,
            block_count: read_u32_le(b, 8)?,
            name_max: limit(12, NAME_MAX)?,
            file_max: limit(16, FILE_MAX)?,
            attr_max: limit(20, ATTR_MAX)?,
        })
    }

    /// The superblock that a log's first entry holds, if it is one.
    pub fn of(log: &Log) -> Option<Self> {
        let e = log.entries.first()?;
        match &e.data {
            Some((tag::INLINESTRUCT, d))
                if e.name_type == Some(tag::SUPERBLOCK) && *e.name == MAGIC[..] =>
            {
                Self::from_bytes(d)
            }
            _ => None,
        }
    }

    /// As stored.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let words = [
            self.version,
            self.block_size,
            self.block_count,
            self.name_max,
            self.file_max,
            self.attr_max,
        ];
        let mut out = [0; Self::SIZE];
        for (chunk, w) in out.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&w.to_le_bytes());
        }
        out
    }

    /// Whether commits carry forward CRCs.
    pub fn has_fcrc(self) -> bool {
        self.version >= VERSION_2_1
    }

    /// Whether this library can serve the version.
    pub fn is_supported(self) -> bool {
        matches!(self.version, VERSION_2_0 | VERSION_2_1)
    }
}

/// The superblock of the newest valid commit of the log that starts at `block[0]`, with the log's
/// revision. `block` may run on past the metadata block.
pub fn probe(block: &[u8]) -> Option<(Superblock, u32)> {
    let Parsed::Log(log) = log::parse(block, block.len()) else { return None };
    Some((Superblock::of(&log)?, log.rev))
}
