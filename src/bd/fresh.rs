//! A device for an image that nobody else knows yet.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

use super::file::fill;
use super::{BlockDevice, FileDevice, Geometry, IoResult, check_range};
use crate::error::{IoError, IoOp};

/// Blocks of a file that becomes an image only when it is complete. So writes need no order, and
/// barriers and syncs do nothing. The caller syncs the file once, when it is complete and before it
/// gets its name.
pub struct FreshDevice {
    inner: FileDevice,
    offset: u64,
}

impl FreshDevice {
    /// A device over `file`, whose block 0 starts at byte `offset`.
    pub fn new(file: File, offset: u64, geometry: Geometry) -> Self {
        Self { inner: FileDevice::new(file, offset, geometry), offset }
    }

    /// Write `len` bytes from byte `off` of `block` on. Nobody else can make the file shorter, so
    /// its size is not checked.
    fn write(
        &self,
        op: IoOp,
        (block, off, len): (u32, u32, usize),
        write: impl FnOnce(&File, u64) -> io::Result<()>,
    ) -> IoResult<()> {
        let start = check_range(self.geometry(), op, block, off, len)?;
        write(self.inner.file(), self.offset.saturating_add(start)).map_err(|source| IoError {
            op,
            block: Some(block),
            source,
        })
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
        self.write(IoOp::Prog, (block, off, data.len()), |file, at| file.write_all_at(data, at))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let len = self.geometry().block_size;
        self.write(IoOp::Erase, (block, 0, len as usize), |file, at| fill(file, at, len.into()))
    }

    /// The rest of the last block is erased as well, so that the image does not depend on the
    /// former content of the file.
    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        let block_size = self.geometry().block_size as usize;
        let whole = data.len() - data.len() % block_size;
        if whole < data.len() {
            self.erase(block + (whole / block_size) as u32)?;
        }
        self.prog(block, 0, data)
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}
