//! Where in a file a filesystem is: recognising the format of the file, and finding superblocks in
//! it.
//!
//! This layer only reads. Time and memory are bounded, whatever the file holds.

pub mod candidate;
pub mod content;
mod copies;
pub mod dfu;
pub mod dumps;
pub mod esp32;
pub mod evidence;
pub mod half;
pub mod kind;
pub mod layouts;
pub mod moved;
pub mod nand;
#[cfg(feature = "compression")]
mod packed;
pub mod partitions;
mod reader;
pub mod records;
pub mod rp2;
pub mod scan;
pub mod survey;
pub mod trouble;
pub mod uf2;
pub mod unwrap;
pub mod wrap;

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::bd::file::{container_size, read_up_to};
use crate::bd::{BLOCK_SIZE_MAX, BlockDevice, Geometry, IoResult, check_range};
use crate::error::{IoError, IoOp, Missing};

pub use candidate::{Doubt, Found};
pub use evidence::Evidence;
pub use half::Half;
pub use kind::Kind;
pub use layouts::{Area, Layout};
pub use nand::{Nand, Page};
pub use partitions::{Label, Origin, Partition, Table};
pub use scan::Scan;
pub use survey::Survey;
pub use trouble::Trouble;
pub use unwrap::Unwrapped;

/// How many bytes of a plain file are searched for filesystems.
pub const SEARCH_FILE: u64 = 256 << 20;
/// How many bytes of a block device are searched: up to the last place where block 1 can be.
pub const SEARCH_DEVICE: u64 = BLOCK_SIZE_MAX as u64 + 4096;

/// If a read fails, its range is read again in pieces of this many bytes.
const PIECE: usize = 4096;
/// After this many failed pieces, reading ends, because a dead device takes a long time to fail
/// each read.
const FAILURES_MAX: usize = 16;

/// Bytes at positions: a file, a block device, or the content wrapped in one of them.
pub trait ReadAt: Send + Sync {
    /// The size in bytes.
    ///
    /// # Errors
    /// If the system cannot tell.
    fn size(&self) -> io::Result<u64>;

    /// Fill `buf` with the bytes from position `start`, as far as there are any. Returns how many
    /// were read.
    ///
    /// # Errors
    /// If reading fails.
    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The first position from `start` that is not in a gap. All bytes in a gap are the same.
    fn data_from(&self, start: u64) -> Option<u64> {
        Some(start)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(start).ok().and_then(|start| self.get(start..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Arc<S> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_up_to(start, buf)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        (**self).data_from(start)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_up_to(start, buf)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        (**self).data_from(start)
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        container_size(self)
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        read_up_to(self, start, buf)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        // Holes read as zeros, which cannot be a superblock. If the system cannot tell where holes
        // are, everything counts as data.
        match rustix::fs::seek(self, rustix::fs::SeekFrom::Data(start)) {
            Ok(at) => Some(at.max(start)),
            Err(rustix::io::Errno::NXIO) => None,
            Err(_) => Some(start),
        }
    }
}

/// Up to `len` bytes from position `start`; fewer if the source ends before. If some bytes cannot
/// be read, they are returned as zeros, which cannot be a superblock, together with the error.
pub fn read_lenient(source: &dyn ReadAt, start: u64, len: usize) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = vec![0; len];
    if let Ok(read) = source.read_up_to(start, &mut bytes) {
        bytes.truncate(read);
        return (bytes, None);
    }
    let (mut failed, mut failures, mut end) = (None, 0, len);
    for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let at = i * PIECE;
        match source.read_up_to(start.saturating_add(at as u64), piece) {
            Ok(read) if read == piece.len() => {}
            Ok(read) => {
                end = at + read;
                break;
            }
            Err(e) => {
                piece.fill(0);
                failed = Some(e);
                failures += 1;
                if failures == FAILURES_MAX {
                    end = at;
                    break;
                }
            }
        }
    }
    bytes.truncate(end);
    (bytes, failed)
}

/// A device for reading only: the blocks of a filesystem that starts at a position in a source.
pub struct Window<S> {
    source: S,
    /// The position of block 0 in bytes.
    at: u64,
    geometry: Geometry,
    /// Whether bytes after the end of the source are missing, and not only left out.
    is_truncated: bool,
}

impl<S: ReadAt> Window<S> {
    /// A device with the blocks that start at byte `at` of `source`. Bytes after the end of the
    /// source read as erased.
    pub fn new(source: S, at: u64, geometry: Geometry) -> Self {
        Self { source, at, geometry, is_truncated: false }
    }

    /// Like [`Self::new`], for a source that lacks blocks in use. It is an error to read bytes
    /// after its end, because a file must not seem to hold bytes that nobody has.
    pub fn truncated(source: S, at: u64, geometry: Geometry) -> Self {
        Self { is_truncated: true, ..Self::new(source, at, geometry) }
    }

    fn read_only(op: IoOp, block: Option<u32>) -> IoResult<()> {
        Err(IoError { op, block, source: io::ErrorKind::ReadOnlyFilesystem.into() })
    }
}

impl<S: ReadAt> BlockDevice for Window<S> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let start = check_range(self.geometry, IoOp::Read, block, off, buf.len())?;
        let failed = |source| IoError { op: IoOp::Read, block: Some(block), source };
        let read = self.source.read_up_to(self.at.saturating_add(start), buf).map_err(failed)?;
        if self.is_truncated && read < buf.len() {
            return Err(failed(Missing { present: read }.into()));
        }
        buf[read..].fill(0xff);
        Ok(())
    }

    fn prog(&self, block: u32, _off: u32, _data: &[u8]) -> IoResult<()> {
        Self::read_only(IoOp::Prog, Some(block))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        Self::read_only(IoOp::Erase, Some(block))
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}
