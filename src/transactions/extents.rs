//! A map of the bytes of a filesystem that are not in the image, but somewhere else.

use std::collections::BTreeMap;

/// A value that stands for a range of bytes and can be cut at the front.
pub trait Piece: Clone {
    /// The same piece without its first `by` bytes.
    fn skip(&self, by: u64) -> Self;
}

/// The place of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the journal, from this byte on.
    File(u64),
    /// All bytes have this value.
    Byte(u8),
}

impl Piece for Source {
    fn skip(&self, by: u64) -> Self {
        match *self {
            Self::File(at) => Self::File(at.saturating_add(by)),
            byte @ Self::Byte(_) => byte,
        }
    }
}

/// Ranges of bytes that do not overlap. The key is the start, and the value is the length and the
/// piece. Each takes about 40 bytes of memory.
#[derive(Debug, Clone)]
pub struct Extents<P>(BTreeMap<u64, (u64, P)>);

impl<P> Default for Extents<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P: Piece> Extents<P> {
    /// Map `len` bytes from `start` on to `piece`.
    pub fn insert(&mut self, start: u64, len: u64, piece: P) {
        self.remove(start, len);
        if len > 0 {
            self.0.insert(start, (len, piece));
        }
    }

    /// Remove `len` bytes from `start` on.
    fn remove(&mut self, start: u64, len: u64) {
        let end = start + len;
        if let Some((&at, &(had, ref piece))) = self.0.range(..start).next_back()
            && at + had > start
        {
            if at + had > end {
                let rest = piece.skip(end - at);
                self.0.insert(end, (at + had - end, rest));
            }
            if let Some((len, _)) = self.0.get_mut(&at) {
                *len = start - at;
            }
        }
        while let Some((&at, &(had, ref piece))) = self.0.range(start..end).next() {
            if at + had > end {
                let rest = piece.skip(end - at);
                self.0.insert(end, (at + had - end, rest));
            }
            self.0.remove(&at);
        }
    }

    /// The parts of the `len` bytes from `start` on, in order: start, length, and the piece, or
    /// `None` for bytes that are not in the map.
    pub fn segments(&self, start: u64, len: u64) -> Vec<(u64, u64, Option<P>)> {
        let end = start + len;
        let mut found = Vec::new();
        let mut at = start;
        let before = self.0.range(..start).next_back();
        for (&s, (had, piece)) in before.into_iter().chain(self.0.range(start..end)) {
            let (from, to) = (s.max(start), (s + had).min(end));
            if from >= to {
                continue;
            }
            if from > at {
                found.push((at, from - at, None));
            }
            found.push((from, to - from, Some(piece.skip(from - s))));
            at = to;
        }
        if at < end {
            found.push((at, end - at, None));
        }
        found
    }

    /// All ranges in order: start, length, piece.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &P)> {
        self.0.iter().map(|(&start, (len, piece))| (start, *len, piece))
    }

    /// Whether there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extents_behave_like_an_array_of_bytes(
            writes in prop::collection::vec((0_u64..60, 0_u64..20, any::<bool>()), 1..40),
            from in 0_u64..60,
            len in 0_u64..30,
        ) {
            let mut extents = Extents::default();
            let mut model = [None; 100];
            for (i, &(start, len, in_file)) in writes.iter().enumerate() {
                let at = 1000 * i as u64;
                let source = if in_file { Source::File(at) } else { Source::Byte(i as u8) };
                extents.insert(start, len, source);
                for b in start..start + len {
                    model[b as usize] = Some(source.skip(b - start));
                }
            }
            let mut at = from;
            for (start, len, piece) in extents.segments(from, len) {
                prop_assert_eq!(start, at);
                for b in start..start + len {
                    prop_assert_eq!(piece.map(|p| p.skip(b - start)), model[b as usize]);
                }
                at += len;
            }
            prop_assert_eq!(at, from + len);
            let mut end = 0;
            for (start, len, _) in extents.iter() {
                prop_assert!(start >= end && len > 0);
                end = start + len;
            }
        }
    }
}
