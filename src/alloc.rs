//! The exact map of free blocks: one bit for each block.
//!
//! It also decides whether single blocks are bad or the whole device fails. A block that cannot be
//! written stays in use, and another one is tried. But if no block can be written, the device has
//! failed: this is not reported as a lack of space.

use std::collections::HashSet;

use crate::error::{Error, IoError, IoOp, Result};

/// If this many blocks in a row cannot be written, the device counts as failing.
const SPOILED_MAX: usize = 256;

/// Which blocks are in use, and where the next search for a free block starts.
///
/// Blocks are marked when the structures of the filesystem are found. Until every structure has
/// been found, the map is not `complete`, and nothing may be allocated.
#[derive(Debug, Clone)]
pub struct Alloc {
    words: Vec<u64>,
    count: u32,
    used: u32,
    reserved: u32,
    cursor: u32,
    complete: bool,
    /// Blocks that could not be written since the last successful write.
    spoiled: Vec<u32>,
    /// Why the last one could not be written: operation, block and errno.
    cause: Option<(IoOp, u32, i32)>,
    /// Whether a block was written since the device last counted as failing.
    proven: bool,
    /// Blocks that are never freed.
    pinned: HashSet<u32>,
}

impl Alloc {
    /// A map of `count` blocks, all free; the search starts at `seed % count`, so that wear
    /// spreads over mounts.
    pub fn new(count: u32, seed: u32) -> Self {
        Self {
            words: vec![0; (count as usize).div_ceil(64)],
            count,
            used: 0,
            reserved: 0,
            cursor: seed % count,
            complete: false,
            spoiled: Vec::new(),
            cause: None,
            proven: false,
            pinned: HashSet::new(),
        }
    }

    /// Let the next search start at `block`, which is in the map.
    #[cfg(feature = "transfer")]
    pub fn search_from(&mut self, block: u32) {
        self.cursor = block % self.count;
    }

    /// Whether every structure has been marked.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Note that every structure has been marked.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Whether `block` is in use.
    pub fn is_used(&self, block: u32) -> bool {
        self.words.get(block as usize / 64).is_some_and(|w| w >> (block % 64) & 1 != 0)
    }

    /// Mark `block` as used. Returns false if it was marked already, or is outside the map.
    pub fn mark(&mut self, block: u32) -> bool {
        if block >= self.count || self.is_used(block) {
            return false;
        }
        self.words[block as usize / 64] |= 1 << (block % 64);
        self.used += 1;
        true
    }

    /// Mark `block` as used for as long as this map exists, because it is not known what uses it.
    pub fn pin(&mut self, block: u32) {
        self.mark(block);
        if block < self.count {
            self.pinned.insert(block);
        }
    }

    /// Whether `block` is never freed.
    pub fn is_pinned(&self, block: u32) -> bool {
        self.pinned.contains(&block)
    }

    /// Free `block`.
    pub fn free(&mut self, block: u32) {
        if self.is_used(block) && !self.pinned.contains(&block) {
            self.words[block as usize / 64] &= !(1 << (block % 64));
            self.used -= 1;
        }
    }

    /// Blocks in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// The block after the last one in use.
    pub fn end(&self) -> u32 {
        let last = self.words.iter().rposition(|&word| word != 0);
        last.map_or(0, |at| (at as u32 + 1) * 64 - self.words[at].leading_zeros())
    }

    /// Blocks that are free and not promised to dirty files.
    pub fn available(&self) -> u32 {
        (self.count - self.used).saturating_sub(self.reserved)
    }

    /// Change a promise of `old` blocks to one of `new` blocks. If there are not enough, this
    /// changes nothing and returns false.
    pub fn reserve(&mut self, old: u32, new: u32) -> bool {
        if new > old && new - old > self.available() {
            return false;
        }
        self.reserved = self.reserved - old + new;
        true
    }

    /// Take the next free block, whether promised or not. The caller has checked
    /// [`Self::available`] or consumes its own promise.
    pub fn take(&mut self) -> Option<u32> {
        let start = self.cursor;
        let block = self.next_free(start, self.count).or_else(|| self.next_free(0, start))?;
        self.mark(block);
        self.cursor = if block + 1 == self.count { 0 } else { block + 1 };
        Some(block)
    }

    /// [`Self::take`], for a block that is written at once.
    ///
    /// # Errors
    /// `NoSpace`; or, if no block is left because blocks could not be written, the error of these
    /// writes.
    pub fn take_to_write(&mut self) -> Result<u32> {
        match self.take() {
            Some(block) => Ok(block),
            // a device that has written other blocks does not count as failing after a single bad
            // block
            None if self.spoiled.len() > 1 || !self.proven => Err(self.give_up()),
            None => Err(Error::NoSpace),
        }
    }

    /// Note that a block that was taken could be written.
    pub fn written(&mut self) {
        self.spoiled.clear();
        self.proven = true;
    }

    /// Note that `block`, which was taken, could not be written because of `e`. It stays in use.
    ///
    /// # Errors
    /// `e`, if so many blocks could not be written that the device must be failing. Then these
    /// blocks are free again, because nothing is known about them.
    pub fn spoil(&mut self, block: u32, e: IoError) -> Result<()> {
        self.cause = e.source.raw_os_error().map(|errno| (e.op, block, errno));
        self.spoiled.push(block);
        if self.spoiled.len() < SPOILED_MAX {
            return Ok(());
        }
        self.give_up();
        Err(e.into())
    }

    /// Let the device count as failing. Its failed writes then prove nothing about single blocks,
    /// so these blocks become free again.
    fn give_up(&mut self) -> Error {
        for block in std::mem::take(&mut self.spoiled) {
            self.free(block);
        }
        self.proven = false;
        match self.cause.take() {
            Some((op, block, errno)) => {
                let source = std::io::Error::from_raw_os_error(errno);
                IoError { op, block: Some(block), source }.into()
            }
            None => Error::NoSpace,
        }
    }

    fn next_free(&self, from: u32, to: u32) -> Option<u32> {
        let mut block = from;
        while block < to {
            let free = !self.words[block as usize / 64] >> (block % 64);
            if free == 0 {
                block = (block / 64 + 1) * 64;
                continue;
            }
            block += free.trailing_zeros();
            return (block < to).then_some(block);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_handed_out_once_and_again_when_freed() {
        for count in [2, 63, 64, 65, 130] {
            let mut a = Alloc::new(count, 77);
            assert!(a.mark(0));
            assert!(!a.mark(0) && !a.mark(count));
            let mut got: Vec<u32> = std::iter::from_fn(|| a.take()).collect();
            got.sort_unstable();
            assert_eq!(got, (1..count).collect::<Vec<_>>());
            assert_eq!((a.used(), a.available()), (count, 0));
            a.free(1);
            assert_eq!(a.take(), Some(1));
        }
    }

    fn bad(block: u32) -> IoError {
        let source = std::io::Error::from_raw_os_error(libc::EIO);
        IoError { op: IoOp::Prog, block: Some(block), source }
    }

    #[test]
    fn without_bad_blocks_a_full_device_has_no_space() {
        let mut a = Alloc::new(2, 0);
        a.mark(0);
        a.mark(1);
        assert!(matches!(a.take_to_write(), Err(Error::NoSpace)));
        a.written();
        assert!(matches!(a.take_to_write(), Err(Error::NoSpace)));
    }

    #[test]
    fn a_bad_block_stays_in_use() {
        let mut a = Alloc::new(3, 0);
        let first = a.take_to_write().expect("free");
        a.written();
        let second = a.take_to_write().expect("free");
        a.spoil(second, bad(second)).expect("another may do");
        let third = a.take_to_write().expect("free");
        a.written();
        assert_eq!([first, second, third], [0, 1, 2]);
        assert!(matches!(a.take_to_write(), Err(Error::NoSpace)));
        a.free(third);
        a.take_to_write().expect("free");
        a.spoil(third, bad(third)).expect("nothing else is known to fail");
        assert!(matches!(a.take_to_write(), Err(Error::NoSpace)), "one bad block on a full device");
    }

    #[test]
    fn a_device_that_writes_nothing_fails() {
        for count in [1, 5, 10_000] {
            let mut a = Alloc::new(count, 0);
            for attempt in 0..3 {
                let e = loop {
                    let block = match a.take_to_write() {
                        Ok(block) => block,
                        Err(e) => break e,
                    };
                    if let Err(e) = a.spoil(block, bad(block)) {
                        break e;
                    }
                };
                assert!(matches!(e, Error::Io(_)), "{count} blocks, attempt {attempt}: {e}");
                assert_eq!(a.used(), 0, "nothing is known of any block");
            }
        }
    }

    #[test]
    fn pinned_blocks_are_never_freed() {
        let mut a = Alloc::new(3, 0);
        assert!(a.mark(1));
        (1..3).for_each(|b| a.pin(b));
        (0..3).for_each(|b| a.free(b));
        assert_eq!((a.used(), a.take(), a.take()), (2, Some(0), None));
    }

    #[test]
    fn promised_blocks_are_not_available() {
        let mut a = Alloc::new(10, 0);
        assert!(a.reserve(0, 9) && a.available() == 1);
        assert!(!a.reserve(9, 11) && a.available() == 1);
        assert!(a.reserve(9, 10) && a.available() == 0);
        assert!(a.reserve(10, 0) && a.available() == 10);
    }
}
