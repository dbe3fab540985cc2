//! The exact map of free blocks: one bit a block.

/// Which blocks are in use, and where the search for a free one goes on.
///
/// Blocks are marked as the filesystem's structures are found; until every structure has been
/// seen the map is not `complete` and nothing may be allocated.
#[derive(Debug, Clone)]
pub struct Alloc {
    words: Vec<u64>,
    count: u32,
    used: u32,
    reserved: u32,
    cursor: u32,
    complete: bool,
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
        }
    }

    /// Whether every structure has been marked.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Every structure has been marked.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Whether `block` is in use.
    pub fn is_used(&self, block: u32) -> bool {
        self.words.get(block as usize / 64).is_some_and(|w| w >> (block % 64) & 1 != 0)
    }

    /// Take `block` into use; false if it was already, or lies outside.
    pub fn mark(&mut self, block: u32) -> bool {
        if block >= self.count || self.is_used(block) {
            return false;
        }
        self.words[block as usize / 64] |= 1 << (block % 64);
        self.used += 1;
        true
    }

    /// Give `block` back.
    pub fn free(&mut self, block: u32) {
        if self.is_used(block) {
            self.words[block as usize / 64] &= !(1 << (block % 64));
            self.used -= 1;
        }
    }

    /// Blocks in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Blocks free and not promised to dirty files.
    pub fn available(&self) -> u32 {
        (self.count - self.used).saturating_sub(self.reserved)
    }

    /// Change a promise of `old` blocks to one of `new`; false, and no change, if there are not
    /// enough.
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

    #[test]
    fn promises_are_kept_apart() {
        let mut a = Alloc::new(10, 0);
        assert!(a.reserve(0, 9) && a.available() == 1);
        assert!(!a.reserve(9, 11) && a.available() == 1);
        assert!(a.reserve(9, 10) && a.available() == 0);
        assert!(a.reserve(10, 0) && a.available() == 10);
    }
}
