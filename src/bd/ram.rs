//! A device in memory, for tests, benchmarks and building images.

use std::io::IoSliceMut;

use parking_lot::RwLock;

use super::{BlockDevice, Geometry, IoResult, byte_offset, check_range};
use crate::error::IoOp;

/// Blocks in memory, erased to 0xFF.
pub struct RamDevice {
    geometry: Geometry,
    bytes: RwLock<Vec<u8>>,
}

impl RamDevice {
    /// An erased device.
    pub fn new(geometry: Geometry) -> Self {
        let bytes = vec![0xff; geometry.size() as usize];
        Self { geometry, bytes: RwLock::new(bytes) }
    }

    /// A device over `image`, padded with 0xFF to the geometry's size.
    pub fn from_image(geometry: Geometry, mut image: Vec<u8>) -> Self {
        image.resize(geometry.size() as usize, 0xff);
        Self { geometry, bytes: RwLock::new(image) }
    }

    /// A copy of all bytes.
    pub fn image(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }
}

impl BlockDevice for RamDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let start = check_range(self.geometry, IoOp::Read, block, off, buf.len())? as usize;
        buf.copy_from_slice(&self.bytes.read()[start..start + buf.len()]);
        Ok(())
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        _now: bool,
    ) -> IoResult<bool> {
        let len = parts.iter().map(|part| part.len()).sum();
        let start = check_range(self.geometry, IoOp::Read, block, off, len)? as usize;
        let bytes = self.bytes.read();
        let mut rest = &bytes[start..start + len];
        for part in parts {
            let (here, behind) = rest.split_at(part.len());
            part.copy_from_slice(here);
            rest = behind;
        }
        Ok(true)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let start = check_range(self.geometry, IoOp::Prog, block, off, data.len())? as usize;
        self.bytes.write()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let len = self.geometry.block_size as usize;
        check_range(self.geometry, IoOp::Erase, block, 0, len)?;
        let start = byte_offset(self.geometry, block, 0) as usize;
        self.bytes.write()[start..start + len].fill(0xff);
        Ok(())
    }

    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        self.prog(block, 0, data)
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}
