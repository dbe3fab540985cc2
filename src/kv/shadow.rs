//! A device whose writes stay in memory. Interrupted operations can be finished there without
//! changing the image below.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::bd::{BlockDevice, Geometry, IoResult};

pub(super) struct Shadow {
    below: Arc<dyn BlockDevice>,
    /// The blocks that were written.
    blocks: Mutex<HashMap<u32, Vec<u8>>>,
}

impl Shadow {
    pub fn new(below: Arc<dyn BlockDevice>) -> Self {
        Self { below, blocks: Mutex::new(HashMap::new()) }
    }

    /// Divide `len` bytes at offset `off` of `block` into pieces, one for each block. A piece has
    /// the block, the offset in it, and the range.
    fn pieces(
        &self,
        block: u32,
        off: u32,
        len: usize,
    ) -> Vec<(u32, usize, std::ops::Range<usize>)> {
        let block_size = self.geometry().block_size as usize;
        let (mut block, mut off, mut done) =
            (block + off / block_size as u32, off as usize % block_size, 0);
        let mut pieces = Vec::new();
        while done < len {
            let some = (block_size - off).min(len - done);
            pieces.push((block, off, done..done + some));
            (block, off, done) = (block + 1, 0, done + some);
        }
        pieces
    }
}

impl BlockDevice for Shadow {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        for (block, off, range) in self.pieces(block, off, buf.len()) {
            let part = &mut buf[range];
            match self.blocks.lock().get(&block) {
                Some(bytes) => part.copy_from_slice(&bytes[off..off + part.len()]),
                None => self.below.read(block, off as u32, part)?,
            }
        }
        Ok(())
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        for (block, off, range) in self.pieces(block, off, data.len()) {
            let mut blocks = self.blocks.lock();
            let bytes = match blocks.entry(block) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(place) => {
                    let mut bytes = vec![0; self.geometry().block_size as usize];
                    self.below.read(block, 0, &mut bytes)?;
                    place.insert(bytes)
                }
            };
            bytes[off..off + range.len()].copy_from_slice(&data[range]);
        }
        Ok(())
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.blocks.lock().insert(block, vec![0xff; self.geometry().block_size as usize]);
        Ok(())
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}
