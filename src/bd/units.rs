//! An adapter for devices that can only read and write whole units.

use std::io;

use super::{BlockDevice, Geometry, IoResult, check_range};
use crate::error::{IoOp, Unsupported};

/// A device over one that can only read and program whole units, like pages of flash or sectors of
/// a disk.
///
/// The device below gets reads and programs that start and end on multiples of its units, which
/// divide its block size. In all other respects, it must work like any [`BlockDevice`].
///
/// A program that does not fill its units is extended with the bytes that they already hold. A unit
/// of flash with error correction must not be programmed twice between erases. For such flash, open
/// the filesystem with the unit as its [`prog_size`](crate::OpenOptions::prog_size). Then no
/// program has to be extended.
///
/// ```
/// # fn main() -> littlefs::Result<()> {
/// use std::sync::Arc;
///
/// use littlefs::FormatOptions;
/// use littlefs::bd::{Geometry, RamDevice, WholeUnits};
///
/// # let flash = RamDevice::new(Geometry::new(4096, 64)?);
/// // Reads of 512 bytes, programs of 256.
/// let device = Arc::new(WholeUnits::new(flash, 512, 256)?);
/// let fs = FormatOptions::new().prog_size(256).open_new(device)?;
/// fs.write("hello", "world")?;
/// fs.flush()
/// # }
/// ```
pub struct WholeUnits<D> {
    below: D,
    read_unit: u32,
    prog_unit: u32,
}

/// A range that was widened to whole units.
struct Widened {
    block: u32,
    /// Where it starts in the block, in bytes.
    off: u32,
    /// Bytes in it.
    len: usize,
    /// Number of bytes before the requested ones.
    before: usize,
}

impl<D: BlockDevice> WholeUnits<D> {
    /// An adapter over `below`, which reads only multiples of `read_unit` bytes and programs only
    /// multiples of `prog_unit` bytes.
    ///
    /// # Errors
    /// When one of them does not divide the block size.
    pub fn new(below: D, read_unit: u32, prog_unit: u32) -> Result<Self, Unsupported> {
        let block_size = below.geometry().block_size;
        for unit in [read_unit, prog_unit] {
            if unit == 0 || !block_size.is_multiple_of(unit) {
                return Err(Unsupported::Geometry(format!(
                    "units of {unit} bytes do not divide blocks of {block_size}"
                )));
            }
        }
        Ok(Self { below, read_unit, prog_unit })
    }

    /// The device below.
    pub fn into_inner(self) -> D {
        self.below
    }

    fn widen(&self, unit: u32, block: u32, off: u32, len: usize) -> Widened {
        let block_size = self.geometry().block_size;
        let (block, off) = (block + off / block_size, off % block_size);
        let before = off % unit;
        let len = (before as usize + len).next_multiple_of(unit as usize);
        Widened { block, off: off - before, len, before: before as usize }
    }
}

impl<D: BlockDevice> BlockDevice for WholeUnits<D> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        check_range(self.geometry(), IoOp::Read, block, off, buf.len())?;
        let wide = self.widen(self.read_unit, block, off, buf.len());
        if wide.len == buf.len() {
            return self.below.read(wide.block, wide.off, buf);
        }
        let mut units = vec![0; wide.len];
        self.below.read(wide.block, wide.off, &mut units)?;
        buf.copy_from_slice(&units[wide.before..wide.before + buf.len()]);
        Ok(())
    }

    fn will_read(&self, block: u32, count: u32) {
        self.below.will_read(block, count);
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        check_range(self.geometry(), IoOp::Prog, block, off, data.len())?;
        let wide = self.widen(self.prog_unit, block, off, data.len());
        if wide.len == data.len() {
            return self.below.prog(wide.block, wide.off, data);
        }
        let mut units = vec![0; wide.len];
        self.read(wide.block, wide.off, &mut units)?;
        units[wide.before..wide.before + data.len()].copy_from_slice(data);
        self.below.prog(wide.block, wide.off, &units)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.below.erase(block)
    }

    fn barrier(&self) -> IoResult<()> {
        self.below.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.below.sync()
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::FormatOptions;
    use crate::bd::RamDevice;

    const READ: u32 = 64;
    const PROG: u32 = 32;

    /// A device that accepts only whole units. With `once`, it refuses to program a unit twice
    /// between erases.
    struct Strict {
        ram: RamDevice,
        once: bool,
        written: Mutex<HashSet<(u32, u32)>>,
    }

    impl Strict {
        fn new(once: bool) -> Self {
            let geometry = Geometry::new(512, 128).expect("a geometry");
            Self { ram: RamDevice::new(geometry), once, written: Mutex::default() }
        }
    }

    impl BlockDevice for Strict {
        fn geometry(&self) -> Geometry {
            self.ram.geometry()
        }

        fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
            assert!(off.is_multiple_of(READ) && buf.len().is_multiple_of(READ as usize));
            self.ram.read(block, off, buf)
        }

        fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
            assert!(off.is_multiple_of(PROG) && data.len().is_multiple_of(PROG as usize));
            for unit in 0..data.len() as u32 / PROG {
                let place = block * 512 + off + unit * PROG;
                let fresh = self.written.lock().insert((place / 512, place % 512));
                assert!(fresh || !self.once, "unit at byte {place} is programmed again");
            }
            self.ram.prog(block, off, data)
        }

        fn erase(&self, block: u32) -> IoResult<()> {
            self.written.lock().retain(|&(b, _)| b != block);
            self.ram.erase(block)
        }

        fn barrier(&self) -> IoResult<()> {
            Ok(())
        }

        fn sync(&self) -> IoResult<()> {
            Ok(())
        }
    }

    fn exercise(device: WholeUnits<Strict>, options: &FormatOptions) {
        let device = Arc::new(device);
        let fs = options.open_new(device.clone()).expect("format");
        for i in 0..60_usize {
            fs.write(format!("f{}", i % 13), vec![i as u8; i * 37 % 1500]).expect("write");
            if i % 5 == 0 {
                fs.flush().expect("flush");
            }
        }
        fs.close().expect("close");
        let report = crate::check::check(device.clone()).expect("check");
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let fs = options.open_options().open_device(device).expect("open");
        for i in 47..60_usize {
            let content = fs.read(format!("f{}", i % 13)).expect("read");
            assert_eq!(content, vec![i as u8; i * 37 % 1500]);
        }
    }

    #[test]
    fn every_call_takes_whole_units() {
        let device = |once| WholeUnits::new(Strict::new(once), READ, PROG).expect("units");
        exercise(device(true), &FormatOptions::new().prog_size(PROG));
        exercise(device(false), &FormatOptions::new().prog_size(4));
    }

    #[test]
    fn units_must_divide_blocks() {
        for (read, prog) in [(0, 4), (4, 0), (48, 32), (32, 1024)] {
            assert!(WholeUnits::new(Strict::new(true), read, prog).is_err(), "{read}, {prog}");
        }
        let device = WholeUnits::new(Strict::new(true), READ, PROG).expect("units");
        assert!(device.read(127, 500, &mut [0; 20]).is_err(), "outside of the device");
        assert!(device.prog(128, 0, &[0]).is_err());
    }
}
