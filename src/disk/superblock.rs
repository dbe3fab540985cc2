//! The superblock entry (SPEC: `0x0ff` SUPERBLOCK). It is the inline data of id 0 of the root.
//!
//! ```text
//! bytes  0-3   version, major in the high half
//! bytes  4-7   block size in bytes
//! bytes  8-11  block count
//! bytes 12-15  longest name in bytes
//! bytes 16-19  largest file in bytes
//! bytes 20-23  largest user attribute in bytes
//! ```

use super::entry::Content;
#[cfg(any(test, feature = "internals"))]
use super::log::{self, Parsed};
use super::log::{Log, Packed};
use super::num::widen;
use super::{crc, read_u32_le, tag};
use crate::bd::{self, Geometry};
use crate::error::SuperblockFault;

/// Name of the superblock entry.
pub const MAGIC: &[u8; 8] = b"littlefs";
/// Disk version 2.0.
pub const VERSION_2_0: u32 = 0x0002_0000;
/// Disk version 2.1, which adds forward CRCs.
pub const VERSION_2_1: u32 = 0x0002_0001;
/// Disk version 1.1, the last of version 1, which has another format.
pub const VERSION_1_1: u32 = 0x0001_0001;
/// Longest name the format can hold, in bytes.
pub const NAME_MAX: u32 = 1022;
/// Largest size of a file, in bytes.
pub const FILE_MAX: u32 = 0x7fff_ffff;
/// Largest size of a user attribute, in bytes.
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
    /// Largest size of a file, in bytes.
    pub file_max: u32,
    /// Largest size of a user attribute, in bytes.
    pub attr_max: u32,
}

impl Superblock {
    /// Bytes on disk.
    pub const SIZE: usize = 24;

    /// The size of the filesystem in bytes.
    pub fn size(&self) -> u64 {
        let &Self { block_size, block_count, .. } = self;
        Geometry { block_size, block_count }.size()
    }

    /// The superblock in `b`. A limit that is 0 or above the limit of the format becomes the limit
    /// of the format.
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

    /// The superblock in the first entry of a log, if it is one.
    pub fn of(log: &Log) -> Option<Self> {
        Self::decode(log).ok()
    }

    /// The superblock in the first entry of a log.
    ///
    /// # Errors
    /// Why the entry is not a valid superblock.
    pub fn decode(log: &Log) -> Result<Self, SuperblockFault> {
        let first = log.entries.first().ok_or(SuperblockFault::NoEntry)?;
        Self::of_entry(first.name_type, &first.name, Content::of(first))
    }

    /// Like [`Self::decode`], for a log whose entries are packed.
    ///
    /// # Errors
    /// Why the entry is not a valid superblock.
    pub fn decode_packed(log: &Log<Packed>) -> Result<Self, SuperblockFault> {
        let first = log.entries.get(0).ok_or(SuperblockFault::NoEntry)?;
        Self::of_entry(first.name_type(), first.name(), first.content())
    }

    fn of_entry(
        name_type: Option<u16>,
        name: &[u8],
        content: Content<'_>,
    ) -> Result<Self, SuperblockFault> {
        if name_type != Some(tag::SUPERBLOCK) {
            return Err(SuperblockFault::NoEntry);
        }
        if name != MAGIC {
            return Err(SuperblockFault::Magic);
        }
        match content {
            Content::Inline(data) => Self::from_bytes(data).ok_or(SuperblockFault::TooShort),
            _ => Err(SuperblockFault::NotInline),
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

    /// Whether the version is 1, which has another format.
    pub fn is_version1(self) -> bool {
        (VERSION_1_1 & 0xffff_0000..=VERSION_1_1).contains(&self.version)
    }

    /// Whether this library supports the version.
    pub fn is_supported(self) -> bool {
        matches!(self.version, VERSION_2_0 | VERSION_2_1)
    }
}

/// The superblock after the last valid commit of the log that starts at `block[0]`, and the
/// revision of the log. `block` may be longer than the metadata block.
#[cfg(any(test, feature = "internals"))]
pub fn probe(block: &[u8]) -> Option<(Superblock, u32)> {
    let Parsed::Log(log) = log::parse(block, block.len()) else { return None };
    Some((Superblock::of(&log)?, log.rev))
}

/// Where the entry of the superblock starts in a block of version 1, in bytes: after the revision,
/// the size and the tail pair.
const V1_ENTRY_AT: usize = 16;
/// The first bytes of that entry: its type, and the lengths of its data, its attributes and its
/// name.
pub const V1_ENTRY: [u8; 4] = [0x2e, 20, 0, 8];
/// Where that entry ends.
const V1_ENTRY_END: usize = 48;
/// Where the CRC ends if it follows directly.
const V1_LEN_MIN: u32 = 52;
/// The bit in the size of a block which says that the directory continues in another pair.
const V1_CONTINUES: u32 = 0x8000_0000;
/// The smallest block size that the driver of version 1 supports, in bytes.
const V1_BLOCK_SIZE_MIN: u32 = 104;

/// How many bytes the CRC covers in the block of version 1 that begins with `block`. `None` if the
/// bytes before the CRC cannot be a superblock.
pub fn version1_len(block: &[u8]) -> Option<usize> {
    let entry = block.get(V1_ENTRY_AT..V1_ENTRY_END)?;
    let word = |at| read_u32_le(entry, at);
    let (block_size, block_count, version) = (word(12)?, word(16)?, word(20)?);
    let len = read_u32_le(block, 4)? & !V1_CONTINUES;
    let plausible = entry.starts_with(&V1_ENTRY)
        && entry.ends_with(MAGIC)
        && version >> 16 == 1
        && version <= VERSION_1_1
        && (V1_BLOCK_SIZE_MIN..=bd::BLOCK_SIZE_MAX).contains(&block_size)
        && (2..=bd::BLOCK_COUNT_MAX).contains(&block_count)
        && (V1_LEN_MIN..=block_size).contains(&len)
        && [word(4)?, word(8)?].iter().all(|&root| root < block_count);
    plausible.then_some(widen(len))
}

/// The superblock of version 1 in a block, and the revision of the block. All fields must be right:
/// lengths, version, geometry, root pair and CRC (SPEC.md of version 1).
pub fn probe_version1(block: &[u8]) -> Option<(Superblock, u32)> {
    let covered = block.get(..version1_len(block)?)?;
    // the CRC is the last word, so the CRC of everything including it is zero
    if crc::crc(crc::SEED, covered) != 0 {
        return None;
    }
    let superblock = Superblock {
        version: read_u32_le(block, 36)?,
        block_size: read_u32_le(block, 28)?,
        block_count: read_u32_le(block, 32)?,
        name_max: 255,
        file_max: FILE_MAX,
        attr_max: 0,
    };
    Some((superblock, read_u32_le(block, 0)?))
}
