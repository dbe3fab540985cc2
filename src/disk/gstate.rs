//! Global state: the XOR of the deltas of every pair in the thread (SPEC: `0x7ff` MOVESTATE).

use super::{Pair, Tag, read_u32_le, tag};

/// Bit 31 of the tag: the thread needs checking.
const SYNC: u32 = 0x8000_0000;
/// The bits that are stored on disk. The length field exists only in memory.
const ON_DISK: u32 = !0x3ff;

/// The state, or one pair's delta of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GState {
    tag: u32,
    pair: [u32; 2],
}

impl GState {
    /// Bytes on disk.
    pub const SIZE: u16 = 12;

    /// Whether nothing is set.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The sum of two deltas, which is also their difference.
    pub fn xor(self, o: Self) -> Self {
        Self { tag: self.tag ^ o.tag, pair: [self.pair[0] ^ o.pair[0], self.pair[1] ^ o.pair[1]] }
    }

    /// Whether the sync bit is set: the thread may hold orphans.
    pub fn needs_sync(self) -> bool {
        self.tag & SYNC != 0
    }

    /// The same state with the sync bit set or cleared.
    pub fn with_sync(self, on: bool) -> Self {
        Self { tag: if on { self.tag | SYNC } else { self.tag & !SYNC }, ..self }
    }

    /// The entry that was moved and is still to be deleted: its pair and its id.
    pub fn pending_move(self) -> Option<(Pair, u16)> {
        let t = Tag(self.tag & !SYNC);
        (t.type1() != 0).then_some((Pair(self.pair), t.id()))
    }

    /// The same state with this pending move, or with none.
    pub fn with_move(self, source: Option<(Pair, u16)>) -> Self {
        let sync = self.tag & SYNC;
        match source {
            Some((pair, id)) => Self { tag: sync | Tag::new(tag::DELETE, id, 0).0, pair: pair.0 },
            None => Self { tag: sync, pair: [0, 0] },
        }
    }

    /// As stored: three little-endian words.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&(self.tag & ON_DISK).to_le_bytes());
        out[4..].copy_from_slice(&Pair(self.pair).to_bytes());
        out
    }

    /// The delta in the first 12 bytes of `b`.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        Some(Self {
            tag: read_u32_le(b, 0)? & ON_DISK,
            pair: [read_u32_le(b, 4)?, read_u32_le(b, 8)?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_and_the_sync_bit_do_not_affect_each_other() {
        let g = GState::default().with_sync(true).with_move(Some((Pair([7, 9]), 3)));
        assert!(g.needs_sync());
        assert_eq!(g.pending_move(), Some((Pair([7, 9]), 3)));
        assert_eq!(GState::from_bytes(&g.to_bytes()), Some(g));
        assert!(g.with_move(None).with_sync(false).is_zero());
        assert!(g.xor(g).is_zero());
    }
}
