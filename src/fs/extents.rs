//! The dirty ranges of a file, in memory.

use std::collections::BTreeMap;

/// A range grows by appending to at most this many bytes.
const EXTENT_MAX: usize = 128 << 10;

/// Ranges of bytes that do not overlap, by their offset in the file.
#[derive(Debug, Default)]
pub(super) struct Extents {
    map: BTreeMap<u32, Vec<u8>>,
    bytes: usize,
}

impl Extents {
    /// How many bytes there are in all ranges.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset of the first byte in any range.
    pub fn first(&self) -> Option<u32> {
        self.map.keys().next().copied()
    }

    /// Put `data` at offset `off`, over the old bytes.
    pub fn write(&mut self, off: u32, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = off + data.len() as u32;
        if let Some((&start, extent)) = self.map.range_mut(..=off).next_back() {
            let at = (off - start) as usize;
            if at + data.len() <= extent.len() {
                extent[at..at + data.len()].copy_from_slice(data);
                return;
            }
            let room = extent.len() < EXTENT_MAX && at + data.len() <= 2 * EXTENT_MAX;
            if at <= extent.len() && room {
                let tail = start + extent.len() as u32;
                let clear = self.map.range(start + 1..end).next().is_none();
                if clear {
                    let extent = self.map.entry(start).or_default();
                    let before = extent.len();
                    extent.truncate(at);
                    extent.extend_from_slice(data);
                    self.bytes += extent.len() - before;
                    debug_assert!(end > tail);
                    return;
                }
            }
        }
        self.remove(off, end);
        self.bytes += data.len();
        self.map.insert(off, data.to_vec());
    }

    /// Remove the bytes `from..to`.
    pub fn remove(&mut self, from: u32, to: u32) {
        if from >= to {
            return;
        }
        let first = self.map.range(..from).next_back().map(|(&s, _)| s).unwrap_or(from);
        let hit: Vec<u32> = self.map.range(first..to).map(|(&s, _)| s).collect();
        for start in hit {
            let Some(mut extent) = self.map.remove(&start) else { continue };
            self.bytes -= extent.len();
            let end = start + extent.len() as u32;
            if end > to {
                let rest = extent.split_off((to.max(start) - start) as usize);
                self.bytes += rest.len();
                self.map.insert(to.max(start), rest);
            }
            if start < from {
                extent.truncate((from - start) as usize);
                self.bytes += extent.len();
                self.map.insert(start, extent);
            }
        }
    }

    /// Remove everything from offset `size`.
    pub fn truncate(&mut self, size: u32) {
        self.remove(size, u32::MAX);
    }

    /// Whether there is any byte of `from..to` in a range.
    pub fn overlaps(&self, from: u32, to: u32) -> bool {
        from < to
            && self.map.range(..to).next_back().is_some_and(|(&s, e)| s + e.len() as u32 > from)
    }

    /// Copy the bytes of `off..off + buf.len()` that are in a range into `buf`, and leave the
    /// others of `buf` as they are.
    pub fn overlay(&self, off: u32, buf: &mut [u8]) {
        let end = off + buf.len() as u32;
        let first = self.map.range(..=off).next_back().map(|(&s, _)| s).unwrap_or(off);
        for (&start, extent) in self.map.range(first..end) {
            let from = start.max(off);
            let to = (start + extent.len() as u32).min(end);
            if from < to {
                buf[(from - off) as usize..(to - off) as usize]
                    .copy_from_slice(&extent[(from - start) as usize..(to - start) as usize]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_an_array(ops in prop::collection::vec((0u32..300, 0usize..80, any::<u8>(), 0u8..3), 1..60)) {
            let mut e = Extents::default();
            let mut model = vec![None; 400];
            for (off, len, byte, kind) in ops {
                let (from, to) = (off as usize, off as usize + len);
                match kind {
                    0 | 1 => {
                        e.write(off, &vec![byte; len]);
                        model[from..to].fill(Some(byte));
                    }
                    _ => {
                        e.remove(off, to as u32);
                        model[from..to].fill(None);
                    }
                }
                prop_assert_eq!(e.bytes(), model.iter().flatten().count());
                prop_assert_eq!(e.first(), model.iter().position(Option::is_some).map(|i| i as u32));
                prop_assert_eq!(e.overlaps(off, to as u32), model[from..to].iter().any(Option::is_some));
                let mut buf = [0xee; 400];
                e.overlay(0, &mut buf);
                for (b, m) in buf.iter().zip(&model) {
                    prop_assert_eq!(*b, m.unwrap_or(0xee));
                }
            }
        }
    }
}
