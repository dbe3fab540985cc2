//! The blocks of a truncated image.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use super::{BlockDevice, Geometry, IoResult, check_range};
use crate::error::{IoError, IoOp, Missing};

/// A device for reading only, without its last bytes. Reading them is an error, because blocks in
/// use are among them: a file must not seem to hold bytes that nobody has.
pub(crate) struct Truncated {
    below: Arc<dyn BlockDevice>,
    /// How many bytes are left of the filesystem.
    present: u64,
}

impl Truncated {
    /// The first `present` bytes of `below`.
    pub fn new(below: Arc<dyn BlockDevice>, present: u64) -> Self {
        Self { below, present }
    }

    fn check(&self, block: u32, off: u32, len: usize) -> IoResult<()> {
        let start = check_range(self.below.geometry(), IoOp::Read, block, off, len)?;
        let present = usize::try_from(self.present.saturating_sub(start)).unwrap_or(usize::MAX);
        if present >= len {
            return Ok(());
        }
        Err(IoError { op: IoOp::Read, block: Some(block), source: Missing { present }.into() })
    }

    fn refuse(op: IoOp, block: Option<u32>) -> IoResult<()> {
        Err(IoError { op, block, source: io::ErrorKind::ReadOnlyFilesystem.into() })
    }
}

impl BlockDevice for Truncated {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.check(block, off, buf.len())?;
        self.below.read(block, off, buf)
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        self.check(block, off, parts.iter().map(|part| part.len()).sum())?;
        self.below.read_parts(block, off, parts, now)
    }

    fn will_read(&self, block: u32, count: u32) {
        self.below.will_read(block, count);
    }

    fn prog(&self, block: u32, _off: u32, _data: &[u8]) -> IoResult<()> {
        Self::refuse(IoOp::Prog, Some(block))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        Self::refuse(IoOp::Erase, Some(block))
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
    fn missing_bytes_cannot_be_read() {
        let geometry = Geometry::new(128, 4).expect("geometry");
        let below = RamDevice::new(geometry);
        below.prog(0, 0, &[7; 512]).expect("prog");
        let dev = Truncated::new(Arc::new(below), 200);
        let mut buf = [0; 128];
        dev.read(0, 0, &mut buf).expect("all there");
        dev.read(1, 0, &mut buf[..72]).expect("up to the end");
        for (block, off, len, present) in
            [(1, 0, 73, 72), (0, 100, 128, 100), (1, 72, 1, 0), (3, 0, 128, 0)]
        {
            let e = dev.read(block, off, &mut buf[..len]).expect_err("missing");
            assert_eq!(e.present(), Some(present), "{block} {off} {len}");
            let parts = &mut [IoSliceMut::new(&mut buf[..len])];
            let e = dev.read_parts(block, off, parts, false).expect_err("missing");
            assert_eq!(e.present(), Some(present), "{block} {off} {len}");
        }
        assert_eq!(dev.read(4, 0, &mut buf).expect_err("outside").present(), None);
        assert!(dev.prog(0, 0, &[1]).is_err() && dev.erase(0).is_err());
    }
}
