//! The bytes of littlefs v2 (SPEC.md). Nothing here does I/O.
//!
//! Tags are big-endian, everything else is little-endian.
//!
//! Most numbers here come from the bytes of an image, so conversions that may lose something and
//! arithmetic that may overflow do not compile. Where neither can happen, the code says why.

#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::arithmetic_side_effects))]

pub mod commit;
pub mod crc;
pub mod ctz;
pub mod dissect;
pub mod entry;
pub mod gstate;
pub mod list;
pub mod log;
pub mod name;
pub mod num;
pub mod part;
pub mod superblock;
pub mod tag;

use std::fmt;

pub use ctz::ListIndex;
pub use gstate::GState;
pub use list::List;
pub use part::Part;
pub use superblock::Superblock;
pub use tag::Tag;

/// The null block address.
pub const BLOCK_NULL: u32 = 0xffff_ffff;

/// Two blocks that hold one metadata log in turn (SPEC: Directories / Metadata pairs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair(pub [u32; 2]);

impl Pair {
    /// The null pair, which ends the thread.
    pub const NULL: Self = Self([BLOCK_NULL; 2]);
    /// The pair at which every image starts.
    pub const SUPERBLOCK: Self = Self([0, 1]);

    /// Whether this pair ends a chain of tails: one of its addresses is null.
    pub fn is_null(self) -> bool {
        self.0.contains(&BLOCK_NULL)
    }

    /// Whether the pairs have a block in common. Then they are the same metadata pair, perhaps
    /// before and after a relocation, which replaces one of the two blocks.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.iter().any(|b| other.0.contains(b))
    }

    /// Whether both hold the same two blocks, in either order.
    pub fn same(self, other: Self) -> bool {
        self == other || self.0 == [other.0[1], other.0[0]]
    }

    /// Both addresses, little-endian.
    pub fn to_bytes(self) -> [u8; 8] {
        let mut out = [0; 8];
        out[..4].copy_from_slice(&self.0[0].to_le_bytes());
        out[4..].copy_from_slice(&self.0[1].to_le_bytes());
        out
    }

    /// The pair in the first 8 bytes of `b`.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        Some(Self([read_u32_le(b, 0)?, read_u32_le(b, 4)?]))
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{:#x}, {:#x}}}", self.0[0], self.0[1])
    }
}

/// A tail tag: how the thread continues (SPEC: `0x6xx` TAIL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The next pair.
    pub pair: Pair,
    /// Whether the next pair belongs to the same directory (hardtail).
    pub hard: bool,
}

impl Tail {
    /// The end of the thread.
    pub const END: Self = Self { pair: Pair::NULL, hard: false };
}

/// The little-endian `u32` at offset `off`; `None` if `b` is too short.
pub fn read_u32_le(b: &[u8], off: usize) -> Option<u32> {
    b.get(off..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The big-endian `u32` at offset `off`; `None` if `b` is too short.
pub fn read_u32_be(b: &[u8], off: usize) -> Option<u32> {
    b.get(off..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// `n` rounded up to a multiple of `to`; the largest number if there is no such multiple.
pub fn align_up(n: u32, to: u32) -> u32 {
    n.checked_next_multiple_of(to).unwrap_or(u32::MAX)
}

/// Whether revision `a` is more recent than `b`. Revision counts wrap around (SPEC: metadata
/// pairs).
pub fn rev_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}
