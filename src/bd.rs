//! Block devices: the interface between the engine and storage.

pub mod emu;
pub mod file;
pub mod fresh;
#[cfg(feature = "transfer")]
pub mod overlay;
mod prefix;
pub mod ram;
mod units;

use std::io::{self, IoSliceMut};

use crate::error::{IoError, IoOp, Unsupported};

pub use file::FileDevice;
#[cfg(feature = "transfer")]
pub use overlay::OverlayDevice;
pub use ram::RamDevice;
pub use units::WholeUnits;

pub(crate) use prefix::Prefix;

/// Result of a device call.
pub type IoResult<T> = Result<T, IoError>;

/// The smallest block size in bytes at which every block of a 2 GiB file has room for its pointers
/// (SPEC: CTZ struct).
pub const BLOCK_SIZE_MIN: u32 = 104;
/// Largest supported block size, in bytes.
pub const BLOCK_SIZE_MAX: u32 = 16 << 20;
/// Largest supported number of blocks.
pub const BLOCK_COUNT_MAX: u32 = 1 << 31;

/// Size of the blocks in bytes, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks in the filesystem.
    pub block_count: u32,
}

impl Geometry {
    /// A geometry that the format allows.
    ///
    /// # Errors
    /// [`Unsupported::Geometry`] says what the format forbids.
    pub fn new(block_size: u32, block_count: u32) -> Result<Self, Unsupported> {
        if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
            return Err(Unsupported::Geometry(format!(
                "block size {block_size} is not between {BLOCK_SIZE_MIN} and {BLOCK_SIZE_MAX} bytes"
            )));
        }
        if !block_size.is_multiple_of(4) {
            return Err(Unsupported::Geometry(format!(
                "block size {block_size} is not a multiple of 4 bytes"
            )));
        }
        if !(2..=BLOCK_COUNT_MAX).contains(&block_count) {
            return Err(Unsupported::Geometry(format!(
                "block count {block_count} is not between 2 and {BLOCK_COUNT_MAX}"
            )));
        }
        Ok(Self { block_size, block_count })
    }

    /// The geometry of a filesystem of `size` bytes.
    ///
    /// # Errors
    /// [`Unsupported::Geometry`] says what the format forbids, or which sizes near `size` are whole
    /// numbers of blocks.
    pub fn of_size(block_size: u32, size: u64) -> Result<Self, Unsupported> {
        let unit = u64::from(block_size.max(1));
        if !size.is_multiple_of(unit) {
            let (below, above) = (size - size % unit, (size - size % unit).saturating_add(unit));
            let possible = match below / unit {
                // every filesystem has at least two blocks
                0 | 1 => format!("the smallest size is {}", 2 * unit),
                _ => format!("{below} and {above} are"),
            };
            return Err(Unsupported::Geometry(format!(
                "size {size} is not a multiple of the block size {block_size}; {possible}"
            )));
        }
        Self::new(block_size, u32::try_from(size / unit).unwrap_or(u32::MAX))
    }

    /// Bytes in the filesystem.
    pub fn size(self) -> u64 {
        u64::from(self.block_size) * u64::from(self.block_count)
    }
}

/// Storage in erasable blocks.
///
/// Reads and programs may go beyond the end of a block into the next ones, because consecutive
/// blocks are consecutive bytes. Calls may come from several threads at once; the engine never
/// programs bytes that another call is reading.
pub trait BlockDevice: Send + Sync {
    /// Size and number of blocks.
    fn geometry(&self) -> Geometry;

    /// Fill `buf` from byte `off` of `block`.
    ///
    /// # Errors
    /// When the bytes cannot be read, or are not on the device.
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()>;

    /// Fill `parts`, one after the other, from byte `off` of `block` on; with `now`, only if this
    /// does not have to wait for storage. Returns whether they were filled.
    ///
    /// # Errors
    /// As [`BlockDevice::read`].
    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        _now: bool,
    ) -> IoResult<bool> {
        read_each(self, block, off, parts)?;
        Ok(true)
    }

    /// A hint: `count` blocks from `block` on will be read soon. Blocks outside the device are
    /// ignored.
    fn will_read(&self, _block: u32, _count: u32) {}

    /// Write `data` at byte `off` of `block`, which is erased there.
    ///
    /// # Errors
    /// When it cannot be written. After EIO, EILSEQ or EBADMSG, the block counts as bad, and
    /// another one is used instead.
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()>;

    /// Make every byte of `block` read 0xFF.
    ///
    /// # Errors
    /// As [`BlockDevice::prog`].
    fn erase(&self, block: u32) -> IoResult<()>;

    /// Erase the blocks that `data` covers and program it from the start of `block` on. The rest of
    /// the last block may then have any content.
    ///
    /// # Errors
    /// As [`BlockDevice::prog`].
    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        let block_size = self.geometry().block_size as usize;
        for (i, piece) in data.chunks(block_size).enumerate() {
            self.erase(block + i as u32)?;
            self.prog(block + i as u32, 0, piece)?;
        }
        Ok(())
    }

    /// Order writes: everything that was written before this call reaches the disk before anything
    /// that is written after it.
    ///
    /// # Errors
    /// When that cannot be guaranteed; then the content of the device is unknown.
    fn barrier(&self) -> IoResult<()>;

    /// Make everything durable that was written before.
    ///
    /// # Errors
    /// When that cannot be guaranteed. Then the content of the device is unknown, and the call is
    /// not tried again.
    fn sync(&self) -> IoResult<()>;

    /// The number of the sector that holds byte `off` of `block`, if the medium writes sectors of
    /// 512 bytes as a whole: after a crash, a sector has all bytes that were written to it before
    /// some moment, and none that were written after it. `None` if nothing is known about that.
    fn sector(&self, _block: u32, _off: u32) -> Option<u64> {
        None
    }

    /// Check that the whole device still exists, so that synced data can be read.
    ///
    /// # Errors
    /// When it has become shorter, like a file that somebody truncated.
    fn still_whole(&self) -> IoResult<()> {
        Ok(())
    }

    /// Make a device writable that was opened read-only and shared with other readers.
    ///
    /// # Errors
    /// Why that is impossible. Then nothing is changed.
    fn become_writable(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it can only be read"))
    }

    /// Whether a program can fail without an error, so that the engine must read back what it
    /// wrote.
    fn wants_read_back(&self) -> bool {
        false
    }
}

/// Fill `parts`, one after the other, with one read for each.
pub(crate) fn read_each<D: BlockDevice + ?Sized>(
    dev: &D,
    block: u32,
    off: u32,
    parts: &mut [IoSliceMut<'_>],
) -> IoResult<()> {
    let block_size = dev.geometry().block_size;
    let (mut block, mut at) = (block, off);
    for part in parts {
        (block, at) = (block.saturating_add(at / block_size), at % block_size);
        dev.read(block, at, part)?;
        at += part.len() as u32;
    }
    Ok(())
}

/// Bytes that a disk writes as a whole, counted from the start of the file.
pub(crate) const SECTOR: u64 = 512;

/// Byte position of `off` in `block`; the sum cannot overflow within the geometry's limits.
pub(crate) fn byte_offset(g: Geometry, block: u32, off: u32) -> u64 {
    u64::from(block) * u64::from(g.block_size) + u64::from(off)
}

/// Report an access outside the device like a device failure, because bytes of an image must never
/// cause a panic.
pub(crate) fn check_range(
    g: Geometry,
    op: IoOp,
    block: u32,
    off: u32,
    len: usize,
) -> IoResult<u64> {
    let start = byte_offset(g, block, off);
    if start.saturating_add(len as u64) > g.size() {
        return Err(IoError {
            op,
            block: Some(block),
            source: io::Error::new(io::ErrorKind::InvalidInput, "outside the image"),
        });
    }
    Ok(start)
}
