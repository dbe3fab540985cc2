//! The first blocks of a larger device.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use super::{BlockDevice, Geometry, IoResult, check_range};
use crate::error::IoOp;

/// A device that has only the first blocks of another one.
pub(crate) struct Prefix {
    below: Arc<dyn BlockDevice>,
    geometry: Geometry,
}

impl Prefix {
    /// The first `block_count` blocks of `device`; the device itself if it has no more than that.
    pub fn of(device: Arc<dyn BlockDevice>, block_count: u32) -> Arc<dyn BlockDevice> {
        let geometry = device.geometry();
        if block_count >= geometry.block_count {
            return device;
        }
        Arc::new(Self { below: device, geometry: Geometry { block_count, ..geometry } })
    }

    fn check(&self, op: IoOp, block: u32, off: u32, len: usize) -> IoResult<()> {
        check_range(self.geometry, op, block, off, len).map(|_| ())
    }
}

impl BlockDevice for Prefix {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.check(IoOp::Read, block, off, buf.len())?;
        self.below.read(block, off, buf)
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        self.check(IoOp::Read, block, off, parts.iter().map(|part| part.len()).sum())?;
        self.below.read_parts(block, off, parts, now)
    }

    fn will_read(&self, block: u32, count: u32) {
        self.below.will_read(block, count.min(self.geometry.block_count.saturating_sub(block)));
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.check(IoOp::Prog, block, off, data.len())?;
        self.below.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.check(IoOp::Erase, block, 0, self.geometry.block_size as usize)?;
        self.below.erase(block)
    }

    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        self.check(IoOp::Prog, block, 0, data.len())?;
        self.below.rewrite(block, data)
    }

    fn barrier(&self) -> IoResult<()> {
        self.below.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.below.sync()
    }

    fn sector(&self, block: u32, off: u32) -> Option<u64> {
        self.below.sector(block, off)
    }

    fn still_whole(&self) -> IoResult<()> {
        self.below.still_whole()
    }

    fn become_writable(&self) -> io::Result<()> {
        self.below.become_writable()
    }

    fn wants_read_back(&self) -> bool {
        self.below.wants_read_back()
    }
}
