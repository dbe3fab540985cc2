//! A device in a plain file or a block special file, at an offset.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::{BlockDevice, Geometry, IoResult, SECTOR, byte_offset, check_range, read_each};
use crate::error::{IoError, IoOp, Shortened};
use crate::files;
use crate::sys;

/// The bytes that an erase writes in one call.
static ERASED: [u8; 64 << 10] = [0xff; 64 << 10];

/// Blocks in a file. The lock on the file is released when this is dropped.
pub struct FileDevice {
    /// Holds the lock.
    file: File,
    /// The same file, if it was opened for writing after it had been opened for reading.
    writer: OnceLock<File>,
    /// Whether the lock was lost, so that others may write.
    is_lost: AtomicBool,
    /// Byte position of block 0 in the file.
    offset: u64,
    geometry: Geometry,
    /// The minimum size of the file, in bytes: its size when it was opened, or more after writes.
    end: AtomicU64,
    /// Whether the file lacks free blocks at its end; they are added before anything is written.
    is_compacted: Mutex<bool>,
}

/// Fail if the file is now shorter than `before` bytes.
///
/// # Errors
/// [`Shortened`] if it is, and the error of the system if its size is not known.
pub(crate) fn check_size(size: io::Result<u64>, before: u64) -> io::Result<()> {
    match size? {
        size if size < before => Err(Shortened { size, before }.into()),
        _ => Ok(()),
    }
}

impl FileDevice {
    /// A device over `file`, whose block 0 starts at byte `offset`. If the file is shorter than the
    /// geometry, the missing bytes read as erased, until they are written.
    pub fn new(file: File, offset: u64, geometry: Geometry) -> Self {
        let size = container_size(&file).unwrap_or(0);
        let end = size.min(offset.saturating_add(geometry.size()));
        let (writer, is_lost) = (OnceLock::new(), AtomicBool::new(false));
        let is_compacted = Mutex::new(false);
        Self { file, writer, is_lost, offset, geometry, end: end.into(), is_compacted }
    }

    /// Like [`Self::new`], for an image whose file ends after the last block in use. Before
    /// anything is written, the file is made as long as its filesystem, with bytes of 0xFF, like
    /// erased flash.
    pub fn compacted(file: File, offset: u64, geometry: Geometry) -> Self {
        Self { is_compacted: Mutex::new(true), ..Self::new(file, offset, geometry) }
    }

    /// Add the missing blocks to a compacted file. If this fails, the file stays as it was.
    fn pad(&self) -> io::Result<()> {
        let mut is_compacted = self.is_compacted.lock();
        if !*is_compacted {
            return Ok(());
        }
        let from = self.end.load(Ordering::Relaxed);
        let to = self.offset.saturating_add(self.geometry.size());
        let file = self.writer();
        let len = to.saturating_sub(from);
        // this notices a full disk before anything is written
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, len.max(1)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
        if let Err(e) = fill(file, from, len) {
            // the first error is the important one
            let _ = file.set_len(from);
            return Err(e);
        }
        self.end.fetch_max(to, Ordering::Relaxed);
        *is_compacted = false;
        Ok(())
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn writer(&self) -> &File {
        self.writer.get().unwrap_or(&self.file)
    }

    /// Make the shared lock exclusive. If others share it, it becomes shared again.
    fn upgrade_lock(&self) -> io::Result<()> {
        let refused = match self.file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => io::Error::new(
                ErrorKind::WouldBlock,
                "other processes are reading the image ('lslocks' lists the processes that hold a \
                 lock on it)",
            ),
            Err(TryLockError::Error(e)) => e,
        };
        // flock(2) releases the old lock before it finds out that it cannot get the new one. As
        // long as another reader has the lock, nobody can get an exclusive lock in between.
        if self.file.try_lock_shared().is_err() {
            self.is_lost.store(true, Ordering::Release);
            log::error!("another process has locked the image, so it is not read any more");
        }
        Err(refused)
    }

    fn check_whole(&self, op: IoOp, block: Option<u32>) -> IoResult<()> {
        check_size(container_size(&self.file), self.end.load(Ordering::Relaxed))
            .map_err(|source| IoError { op, block, source })
    }

    /// Write to the file, unless it has become shorter.
    fn write(
        &self,
        op: IoOp,
        block: u32,
        (start, len): (u64, u64),
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> IoResult<()> {
        self.check_whole(op, Some(block))?;
        let failed = |source| IoError { op, block: Some(block), source };
        self.pad().map_err(failed)?;
        write(self.writer()).map_err(failed)?;
        self.end.fetch_max(start.saturating_add(len), Ordering::Relaxed);
        Ok(())
    }

    fn range(&self, op: IoOp, block: u32, off: u32, len: usize) -> IoResult<u64> {
        let start = check_range(self.geometry, op, block, off, len)?;
        if self.is_lost.load(Ordering::Acquire) {
            let source = io::Error::other("another process has locked the image");
            return Err(IoError { op, block: Some(block), source });
        }
        self.offset.checked_add(start).ok_or_else(|| IoError {
            op,
            block: Some(block),
            source: ErrorKind::InvalidInput.into(),
        })
    }

    fn sync_data(&self) -> IoResult<()> {
        self.writer().sync_data().map_err(|source| IoError {
            op: IoOp::Sync,
            block: None,
            source,
        })?;
        self.check_whole(IoOp::Sync, None)
    }
}

impl BlockDevice for FileDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let start = self.range(IoOp::Read, block, off, buf.len())?;
        let failed = |source| IoError { op: IoOp::Read, block: Some(block), source };
        let read = read_up_to(&self.file, start, buf).map_err(failed)?;
        if read < buf.len() {
            // Bytes that were missing at the start read as erased; bytes that are missing since
            // then are lost.
            let here = start.saturating_add(read as u64);
            let before = self.end.load(Ordering::Relaxed);
            if here < before {
                return Err(failed(Shortened { size: here, before }.into()));
            }
            buf[read..].fill(0xff);
        }
        Ok(())
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        let len = parts.iter().map(|part| part.len()).sum();
        let start = self.range(IoOp::Read, block, off, len)?;
        if sys::read_parts(&self.file, start, parts, now).is_ok_and(|n| n == len) {
            return Ok(true);
        }
        if now {
            return Ok(false);
        }
        // If the cause was not a truncated image, it appears as an error here.
        read_each(self, block, off, parts)?;
        Ok(true)
    }

    fn will_read(&self, block: u32, count: u32) {
        let count = count.min(self.geometry.block_count.saturating_sub(block));
        // for the system, a length of 0 would mean everything
        if count > 0 {
            let len = u64::from(count) * u64::from(self.geometry.block_size);
            let start = byte_offset(self.geometry, block, 0).saturating_add(self.offset);
            sys::will_read(&self.file, start, len);
        }
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let start = self.range(IoOp::Prog, block, off, data.len())?;
        let range = (start, data.len() as u64);
        self.write(IoOp::Prog, block, range, |file| file.write_all_at(data, start))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let len = u64::from(self.geometry.block_size);
        let start = self.range(IoOp::Erase, block, 0, self.geometry.block_size as usize)?;
        self.write(IoOp::Erase, block, (start, len), |file| fill(file, start, len))
    }

    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        self.prog(block, 0, data)
    }

    fn barrier(&self) -> IoResult<()> {
        self.sync_data()
    }

    fn sync(&self) -> IoResult<()> {
        self.sync_data()
    }

    fn sector(&self, block: u32, off: u32) -> Option<u64> {
        Some(self.offset.checked_add(byte_offset(self.geometry, block, off))? / SECTOR)
    }

    fn still_whole(&self) -> IoResult<()> {
        self.check_whole(IoOp::Sync, None)
    }

    fn become_writable(&self) -> io::Result<()> {
        let meta = self.file.metadata()?;
        if is_write_protected(&meta) {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it is write-protected"));
        }
        let flags = for_writing(meta.file_type().is_block_device());
        let writer = files::reopen(&self.file, Path::new(""), flags)?;
        self.upgrade_lock()?;
        // only the first one is kept; all of them are equivalent
        let _ = self.writer.set(writer);
        Ok(())
    }
}

/// Whether a file or device is write-protected. If nobody has the right to write a file, it must
/// stay as it is, although root could write to it. A device may have a write-protect switch. Then
/// opening it for writing succeeds, and only writing fails.
pub(crate) fn is_write_protected(meta: &Metadata) -> bool {
    if meta.is_file() {
        return meta.mode() & 0o222 == 0;
    }
    let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
    fs::read(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|ro| ro.starts_with(b"1"))
}

/// How an image is opened for reading and writing.
pub(crate) fn for_writing(is_device: bool) -> OFlags {
    // On a block device: fail while the kernel has it mounted.
    OFlags::RDWR | if is_device { OFlags::EXCL } else { OFlags::empty() }
}

/// Size in bytes of a file or block device (whose metadata says 0).
pub(crate) fn container_size(file: &File) -> io::Result<u64> {
    (&*file).seek(SeekFrom::End(0))
}

/// Fill `buf` from byte `start`, up to the end of the file. Returns the number of bytes read.
pub(crate) fn read_up_to(file: &File, start: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, start.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Copy the first `len` bytes of a file to another, in the same places.
pub(crate) fn copy(from: &File, to: &File, len: u64) -> io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let part = piece.len().min(usize::try_from(len - done).unwrap_or(usize::MAX));
        from.read_exact_at(&mut piece[..part], done)?;
        to.write_all_at(&piece[..part], done)?;
        done += part as u64;
    }
    Ok(())
}

/// Write 0xFF over `len` bytes from byte `start`.
pub(crate) fn fill(file: &File, start: u64, len: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let chunk = ERASED.len().min(usize::try_from(len - done).unwrap_or(usize::MAX));
        file.write_all_at(&ERASED[..chunk], start.saturating_add(done))?;
        done += chunk as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(len: u64, offset: u64, block_count: u32) -> FileDevice {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(len).expect("set_len");
        FileDevice::new(file, offset, Geometry::new(512, block_count).expect("geometry"))
    }

    #[test]
    fn erase_and_prog_stay_inside_their_block_and_offset() {
        let dev = device(100 + 4 * 512, 100, 4);
        dev.erase(1).expect("erase");
        dev.prog(1, 8, b"littlefs").expect("prog");
        let mut raw = vec![0; 100 + 4 * 512];
        assert_eq!(read_up_to(&dev.file, 0, &mut raw).expect("read"), raw.len());
        assert!(raw[..612].iter().chain(&raw[1124..]).all(|&b| b == 0));
        assert_eq!(&raw[620..628], b"littlefs");
        assert!(raw[612..620].iter().chain(&raw[628..1124]).all(|&b| b == 0xff));
    }

    #[test]
    fn missing_bytes_read_as_erased() {
        let dev = device(700, 0, 4);
        let mut buf = [1; 512];
        dev.read(1, 0, &mut buf).expect("read");
        assert!(buf[..188].iter().all(|&b| b == 0) && buf[188..].iter().all(|&b| b == 0xff));
        dev.read(3, 0, &mut buf).expect("read");
        assert_eq!(buf, [0xff; 512]);
    }

    #[test]
    fn a_file_that_became_shorter_is_not_used_any_more() {
        let gone = |e: IoError| {
            e.is_final() && e.source.to_string().contains("2000 of 2048 bytes are left")
        };
        let dev = device(4 * 512, 0, 4);
        dev.prog(3, 0, b"end").expect("prog");
        dev.file.set_len(2000).expect("truncate");
        dev.read(0, 0, &mut [0; 512]).expect("what is there");
        let mut buf = [0; 512];
        assert!(dev.read(3, 0, &mut buf).is_err_and(gone));
        let parts = &mut [IoSliceMut::new(&mut buf)];
        assert!(dev.read_parts(3, 0, parts, false).is_err_and(gone));
        // Not even a write that would make the file as long as before.
        assert!(dev.prog(3, 0, &[1; 512]).is_err_and(gone));
        assert!(dev.erase(3).is_err_and(gone) && dev.rewrite(3, &[1; 512]).is_err_and(gone));
        assert!(dev.prog(0, 0, b"x").is_err_and(gone));
        assert!(dev.barrier().is_err_and(gone) && dev.sync().is_err_and(gone));
        assert!(dev.still_whole().is_err_and(gone));
        assert_eq!(container_size(&dev.file).expect("size"), 2000);
        // Blocks that were written count like blocks that were there from the start.
        let dev = device(0, 0, 4);
        dev.still_whole().expect("nothing is missing");
        dev.prog(2, 0, b"x").expect("prog");
        dev.file.set_len(1000).expect("truncate");
        assert!(dev.read(2, 0, &mut [0]).is_err() && dev.still_whole().is_err());
    }

    #[test]
    fn a_compacted_file_gets_its_free_blocks_before_the_first_write() {
        let file = tempfile::tempfile().expect("temporary file");
        file.write_all_at(&[7; 1100], 0).expect("write");
        let geometry = Geometry::new(512, 4).expect("geometry");
        let dev = FileDevice::compacted(file, 100, geometry);
        let mut buf = [0; 512];
        dev.read(3, 0, &mut buf).expect("read");
        assert_eq!(buf, [0xff; 512]);
        dev.sync().expect("sync");
        assert_eq!(container_size(&dev.file).expect("size"), 1100, "nothing was written");
        dev.prog(0, 0, b"x").expect("prog");
        let mut raw = vec![0; 3000];
        assert_eq!(read_up_to(&dev.file, 0, &mut raw).expect("read"), 100 + 4 * 512);
        assert!(raw[100] == b'x' && raw[101..1100].iter().all(|&b| b == 7));
        assert!(raw[1100..2148].iter().all(|&b| b == 0xff));
        dev.file.set_len(2000).expect("truncate");
        assert!(dev.prog(0, 0, b"x").is_err(), "what it got belongs to it");
    }

    #[test]
    fn accesses_beyond_the_geometry_fail() {
        let dev = device(8192, 0, 4);
        assert!(dev.read(3, 1, &mut [0; 512]).is_err());
        assert!(dev.prog(u32::MAX, 0, &[0]).is_err());
        assert!(dev.erase(4).is_err());
    }

    #[test]
    fn cached_bytes_are_read_without_waiting() {
        let dev = device(8 * 512, 512, 4);
        dev.prog(1, 3, b"littlefs").expect("prog");
        dev.will_read(0, u32::MAX);
        let (mut a, mut b) = ([0; 3], [0; 5]);
        for now in [true, false] {
            let parts = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            assert!(dev.read_parts(1, 3, parts, now).expect("read"));
            assert!(dev.read_parts(4, 0, parts, now).is_err(), "outside");
            assert_eq!((&a, &b), (b"lit", b"tlefs"));
        }
    }

    /// If there is another reader, the device stays a reader, too, and nobody gets a lock in
    /// between.
    #[test]
    fn a_reader_becomes_the_writer_unless_there_are_others() {
        let named = tempfile::NamedTempFile::new().expect("temporary file");
        named.as_file().set_len(4 * 512).expect("set_len");
        let open = || File::open(named.path()).expect("open");
        let file = open();
        file.try_lock_shared().expect("lock");
        let dev = FileDevice::new(file, 0, Geometry::new(512, 4).expect("geometry"));
        assert!(dev.prog(1, 0, b"x").is_err(), "opened for reading");
        let other = open();
        other.try_lock_shared().expect("lock");
        let refused = dev.become_writable().expect_err("shared");
        assert!(refused.to_string().contains("other processes are reading the image"), "{refused}");
        assert!(open().try_lock().is_err() && dev.prog(1, 0, b"x").is_err());
        dev.read(1, 0, &mut [0; 4]).expect("read on");
        drop(other);
        assert!(open().try_lock().is_err(), "still locked");
        dev.become_writable().expect("alone");
        assert!(open().try_lock_shared().is_err(), "exclusively");
        dev.prog(1, 0, b"littlefs").expect("prog");
        dev.sync().expect("sync");
        let mut buf = [0; 8];
        dev.read(1, 0, &mut buf).expect("read");
        assert_eq!(&buf, b"littlefs");
    }

    #[test]
    fn a_write_protected_file_does_not_become_writable() {
        let named = tempfile::NamedTempFile::new().expect("temporary file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        named.as_file().set_permissions(mode).expect("chmod");
        let file = File::open(named.path()).expect("open");
        let dev = FileDevice::new(file, 0, Geometry::new(512, 4).expect("geometry"));
        let refused = dev.become_writable().expect_err("write-protected");
        assert!(refused.to_string().contains("write-protected"), "{refused}");
    }

    #[test]
    fn offsets_have_64_bits() {
        let dev = device(0, 5 << 30, 4);
        dev.prog(2, 0, b"far").expect("prog");
        assert_eq!(container_size(&dev.file).expect("size"), (5 << 30) + 1027);
    }
}
