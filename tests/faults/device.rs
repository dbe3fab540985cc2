//! A device in memory in which every call can be made to fail.

use std::sync::Arc;

use littlefs::bd::emu::EmuDevice;
use littlefs::bd::{BlockDevice, Geometry, IoResult};
use littlefs::error::IoOp;

use super::geometry;

/// Is asked before each call of the device: the kind of the call, and the block that it names.
type Before = dyn Fn(IoOp, Option<u32>) -> IoResult<()> + Send + Sync;

/// A device that asks a judge before each call.
pub struct Judged {
    pub dev: EmuDevice,
    before: Box<Before>,
}

impl Judged {
    pub fn new(
        image: Vec<u8>,
        before: impl Fn(IoOp, Option<u32>) -> IoResult<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let dev = EmuDevice::unrecorded(geometry(), image, false);
        Arc::new(Self { dev, before: Box::new(before) })
    }
}

impl BlockDevice for Judged {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        (self.before)(IoOp::Read, Some(block))?;
        self.dev.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        (self.before)(IoOp::Prog, Some(block))?;
        self.dev.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        (self.before)(IoOp::Erase, Some(block))?;
        self.dev.erase(block)
    }

    fn barrier(&self) -> IoResult<()> {
        (self.before)(IoOp::Sync, None)?;
        self.dev.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        (self.before)(IoOp::Sync, None)?;
        self.dev.sync()
    }
}
