//! The table of what uses each block.

/// How many blocks share one chunk of the table.
const CHUNK: usize = 1024;

/// What uses a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The metadata pair, as an index in the walk. For a file, it is the pair that holds the file's
    /// entry.
    pub pair: usize,
    /// For a file, the id of its entry in the pair.
    pub file: Option<u16>,
}

impl Owner {
    /// The number that the table stores for it. It is never 0, which means that nothing uses the
    /// block.
    fn pack(self) -> u64 {
        (self.pair as u64 + 1) << 16 | u64::from(self.file.unwrap_or(u16::MAX))
    }

    fn unpack(word: u64) -> Option<Self> {
        let pair = usize::try_from(word >> 16).ok()?.checked_sub(1)?;
        let file = word as u16;
        Some(Self { pair, file: (file != u16::MAX).then_some(file) })
    }
}

/// A table of owners. It takes memory only for chunks with used blocks, because an image may claim
/// any size.
pub(super) struct Owners {
    chunks: Vec<Option<Box<[u64; CHUNK]>>>,
    used: u64,
}

impl Owners {
    pub fn new(block_count: u32) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with((block_count as usize).div_ceil(CHUNK), || None);
        Self { chunks, used: 0 }
    }

    /// How many blocks are in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Note that `owner` uses `block`. If the block has an owner already, that owner is kept and
    /// returned.
    pub fn claim(&mut self, block: u32, owner: Owner) -> Option<Owner> {
        let chunk = self.chunks.get_mut(block as usize / CHUNK)?;
        let chunk = chunk.get_or_insert_with(|| Box::new([0; CHUNK]));
        let word = &mut chunk[block as usize % CHUNK];
        if let Some(other) = Owner::unpack(*word) {
            return Some(other);
        }
        *word = owner.pack();
        self.used += 1;
        None
    }

    /// Note that nothing uses `block`.
    pub fn release(&mut self, block: u32) {
        if let Some(Some(chunk)) = self.chunks.get_mut(block as usize / CHUNK)
            && std::mem::take(&mut chunk[block as usize % CHUNK]) != 0
        {
            self.used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_owner_stays() {
        let mut o = Owners::new(3000);
        let (pair, file) = (Owner { pair: 0, file: None }, Owner { pair: 7, file: Some(3) });
        assert_eq!(o.claim(2999, pair), None);
        assert_eq!(o.claim(2999, file), Some(pair));
        assert_eq!(o.claim(0, file), None);
        assert_eq!((o.claim(0, pair), o.used()), (Some(file), 2));
        o.release(2999);
        o.release(2999);
        assert_eq!((o.claim(2999, file), o.used()), (None, 2));
    }
}
