//! A device for an image that nobody else knows yet.

use std::fs::File;
use std::io::IoSliceMut;

use super::{BlockDevice, FileDevice, Geometry, IoResult};

/// Blocks of a file that becomes an image only when everything is in it. So writes need no order,
/// and barriers and syncs do nothing. The caller syncs the file once, when it is complete and
/// before it gets its name.
pub struct FreshDevice {
    inner: FileDevice,
}

impl FreshDevice {
    /// A device over `file`, whose block 0 starts at byte `offset`.
    pub fn new(file: File, offset: u64, geometry: Geometry) -> Self {
        Self { inner: FileDevice::new(file, offset, geometry) }
    }
}

impl BlockDevice for FreshDevice {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.inner.read(block, off, buf)
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        self.inner.read_parts(block, off, parts, now)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.inner.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.inner.erase(block)
    }

    /// The rest of the last block is erased as well, so that the image does not depend on the
    /// former content of the file.
    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        let block_size = self.geometry().block_size as usize;
        let whole = data.len() - data.len() % block_size;
        if whole < data.len() {
            self.inner.erase(block + (whole / block_size) as u32)?;
        }
        self.inner.prog(block, 0, data)
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}
