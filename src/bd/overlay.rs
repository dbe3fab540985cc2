//! A device that drops its changes in the end, to find out what a change would do.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{BlockDevice, FileDevice, Geometry, IoResult, check_range};
use crate::error::{IoError, IoOp};
use crate::files;

/// The blocks of another device, which stays as it is. Written blocks are kept in a nameless
/// temporary file until this is dropped.
pub struct OverlayDevice {
    base: Arc<dyn BlockDevice>,
    scratch: FileDevice,
    /// The blocks that are in the temporary file.
    changed: RwLock<HashSet<u32>>,
}

impl OverlayDevice {
    /// An overlay over `base`.
    ///
    /// # Errors
    /// When no temporary file can be made.
    pub fn new(base: Arc<dyn BlockDevice>) -> io::Result<Self> {
        let file: File = files::temporary().map_err(|e| io::Error::other(files::no_room(&e)))?;
        let scratch = FileDevice::new(file, 0, base.geometry());
        Ok(Self { base, scratch, changed: RwLock::new(HashSet::new()) })
    }

    /// A failure of the temporary file is not a failure of the image, so the error says where that
    /// file is.
    fn kept(result: IoResult<()>) -> IoResult<()> {
        result.map_err(|e| IoError { source: io::Error::other(files::no_room(&e.source)), ..e })
    }

    /// Copy the content of `block` to the temporary file, so that part of it can be overwritten.
    fn take_over(&self, block: u32) -> IoResult<()> {
        if self.changed.read().contains(&block) {
            return Ok(());
        }
        let mut content = vec![0; self.geometry().block_size as usize];
        self.base.read(block, 0, &mut content)?;
        Self::kept(self.scratch.prog(block, 0, &content))?;
        self.changed.write().insert(block);
        Ok(())
    }
}

impl BlockDevice for OverlayDevice {
    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let g = self.geometry();
        check_range(g, IoOp::Read, block, off, buf.len())?;
        let (mut block, mut off) = (block + off / g.block_size, off % g.block_size);
        let mut rest = buf;
        while !rest.is_empty() {
            let here = ((g.block_size - off) as usize).min(rest.len());
            let (part, behind) = rest.split_at_mut(here);
            if self.changed.read().contains(&block) {
                self.scratch.read(block, off, part)?;
            } else {
                self.base.read(block, off, part)?;
            }
            (block, off, rest) = (block + 1, 0, behind);
        }
        Ok(())
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let g = self.geometry();
        check_range(g, IoOp::Prog, block, off, data.len())?;
        let (mut block, mut off) = (block + off / g.block_size, off % g.block_size);
        let mut rest = data;
        while !rest.is_empty() {
            let here = ((g.block_size - off) as usize).min(rest.len());
            let (part, behind) = rest.split_at(here);
            self.take_over(block)?;
            Self::kept(self.scratch.prog(block, off, part))?;
            (block, off, rest) = (block + 1, 0, behind);
        }
        Ok(())
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        Self::kept(self.scratch.erase(block))?;
        self.changed.write().insert(block);
        Ok(())
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bd::RamDevice;

    #[test]
    fn changes_show_and_the_base_stays_as_it_is() {
        let g = Geometry::new(128, 8).expect("a geometry");
        let base = Arc::new(RamDevice::new(g));
        base.erase(2).expect("an erase");
        base.prog(2, 4, b"base").expect("a prog");
        let before = base.image();
        let over = OverlayDevice::new(base.clone()).expect("an overlay");
        over.prog(2, 8, b"over").expect("a prog");
        over.erase(3).expect("an erase");
        over.rewrite(4, &[7; 200]).expect("a rewrite");
        let mut read = [0; 12];
        over.read(2, 4, &mut read[..8]).expect("a read");
        assert_eq!(&read[..8], b"baseover");
        over.read(4, 126, &mut read[..4]).expect("a read over the end of a block");
        assert_eq!(&read[..4], [7; 4]);
        over.read(2, 124, &mut read).expect("a read over the end of a block");
        assert_eq!(read[4..], [0xff; 8]);
        assert!(over.read(7, 120, &mut read).is_err(), "outside");
        assert_eq!(base.image(), before);
    }
}
