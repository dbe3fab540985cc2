//! Undo files, which save the content of an image before parts of it are rewritten in place.
//!
//! An undo file begins with a head. Records follow, and each holds the bytes at one position of the
//! image file as they were before the first change. A record is durable before the image is changed
//! there, so the undo file can restore the image after an interruption at any moment. When the
//! change is complete, a last record follows, with a checksum of the new content of each place.
//! With these checksums, [`undo`] notices if somebody else has changed the image since.
//!
//! All numbers are little-endian; their sizes in bytes are in parentheses. The head: `MAGIC`, the
//! size of the image in bytes (8). A record: position (8), length (4), the bytes, and a CRC-32 of
//! all this (4). The last record has the position `END`. Its bytes are the new size of the image
//! (8), the position of the filesystem (8), its block size (4) and block count (4), its
//! [`fingerprint`] (32), and a CRC-32 for each earlier record (4). While the image is being
//! restored, an empty record with the position `BEGUN` follows: the image may then hold a mixture
//! of old and new content, so it is not compared with the checksums.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::bd::{BlockDevice, FileDevice, Geometry, IoResult};
use crate::error::{IoError, IoOp};
use crate::files::{self, Place};
use crate::image::{Container, Reason};
use crate::journal::fingerprint;

/// How an undo file begins.
const MAGIC: &[u8; 16] = b"littlefs undo 1\n";
/// The position that stands for the last record.
const END: u64 = u64::MAX;
/// The position that means that the image is being restored.
const BEGUN: u64 = u64::MAX - 1;
/// The most bytes of the image that one record holds.
const PIECE: u32 = 1 << 20;
/// The most bytes in the last record: a checksum for each block of a large image.
const END_MAX: u32 = 64 << 20;
/// Bytes of a record before its data.
const RECORD_HEAD: usize = 12;

/// An undo file that is being written.
pub struct Backup {
    state: Mutex<State>,
}

struct State {
    file: File,
    end: u64,
    /// Position and length of each record.
    saved: Vec<(u64, u32)>,
}

impl Backup {
    /// Make the undo file at `path` for an image file of `size` bytes. It gets the owner and mode
    /// of the image.
    ///
    /// # Errors
    /// When a file exists there already, or cannot be made.
    pub fn create(path: &Path, size: u64, image: &Metadata) -> io::Result<Self> {
        let place = Place::new(path)?;
        let new = place.begin()?;
        let file = new.file().try_clone()?;
        let head = [&MAGIC[..], &size.to_le_bytes()].concat();
        file.write_all_at(&head, 0)?;
        if image.is_file() {
            files::take_access(&file, image)?;
        }
        file.sync_all()?;
        new.put(None)?;
        let state = State { file, end: head.len() as u64, saved: Vec::new() };
        Ok(Self { state: Mutex::new(state) })
    }

    /// Save bytes of the image, each piece with its position. They are durable when this returns.
    ///
    /// # Errors
    /// When the undo file cannot be written.
    pub fn save(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        for &(at, bytes) in pieces {
            state.append(at, bytes)?;
            state.saved.push((at, bytes.len() as u32));
        }
        state.file.sync_data()
    }

    /// Save the whole image.
    ///
    /// # Errors
    /// When the image cannot be read, or the undo file cannot be written.
    pub fn save_all(&self, image: &File, size: u64) -> io::Result<()> {
        let mut at = 0;
        let mut buf = vec![0; PIECE as usize];
        while at < size {
            let len = u64::from(PIECE).min(size - at) as usize;
            let Some(piece) = buf.get_mut(..len) else { break };
            image.read_exact_at(piece, at)?;
            let mut state = self.state.lock();
            state.append(at, piece)?;
            state.saved.push((at, len as u32));
            at += len as u64;
        }
        self.state.lock().file.sync_data()
    }

    /// Note that the change is complete, with checksums of the new content.
    ///
    /// # Errors
    /// When the image cannot be read, or the undo file cannot be written. The undo file can still
    /// be used in both cases.
    pub fn finish(&self, image: &File, offset: u64, geometry: Geometry) -> io::Result<()> {
        let mut state = self.state.lock();
        let after = After {
            size: size_of(image)?,
            offset,
            geometry,
            fingerprint: fingerprint_of(image, offset, geometry)?,
        };
        let mut end = after.to_bytes();
        for &(at, len) in &state.saved {
            end.extend(crc_at(image, at, len)?.to_le_bytes());
        }
        state.append(END, &end)?;
        state.file.sync_data()
    }

    /// Whether nothing was saved, because nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.state.lock().saved.is_empty()
    }

    /// Remove the undo file from `path`.
    ///
    /// # Errors
    /// When something else has taken its place there, or it cannot be removed.
    pub fn remove(self, path: &Path) -> io::Result<()> {
        Place::new(path)?.remove(&self.state.into_inner().file)
    }
}

impl State {
    fn append(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let record = record(at, bytes);
        self.file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        Ok(())
    }
}

fn record(at: u64, bytes: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEAD + bytes.len() + 4);
    record.extend(at.to_le_bytes());
    record.extend((bytes.len() as u32).to_le_bytes());
    record.extend(bytes);
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record
}

/// What is known about the image after the change, in addition to the places that were changed.
struct After {
    size: u64,
    offset: u64,
    geometry: Geometry,
    fingerprint: [u8; 32],
}

impl After {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_le_bytes().to_vec();
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.geometry.block_size.to_le_bytes());
        bytes.extend(self.geometry.block_count.to_le_bytes());
        bytes.extend(self.fingerprint);
        bytes
    }

    /// The reverse of `to_bytes`. Returns the bytes that follow, too.
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (block_size, rest) = rest.split_first_chunk()?;
        let (block_count, rest) = rest.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let block_size = u32::from_le_bytes(*block_size);
        let geometry = Geometry::new(block_size, u32::from_le_bytes(*block_count)).ok()?;
        let (size, offset) = (u64::from_le_bytes(*size), u64::from_le_bytes(*offset));
        Some((Self { size, offset, geometry, fingerprint: *fingerprint }, rest))
    }
}

/// The fingerprint of the current state of a filesystem; zeros if its superblock cannot be read.
fn fingerprint_of(image: &File, offset: u64, geometry: Geometry) -> io::Result<[u8; 32]> {
    let device = FileDevice::new(image.try_clone()?, offset, geometry);
    Ok(fingerprint(&device).unwrap_or_default())
}

/// The size of a file or block device.
fn size_of(file: &File) -> io::Result<u64> {
    io::Seek::seek(&mut file.try_clone()?, io::SeekFrom::End(0))
}

/// The CRC-32 of a part of a file; bytes after its end count as zeros.
fn crc_at(file: &File, at: u64, len: u32) -> io::Result<u32> {
    let mut buf = vec![0; len as usize];
    crate::bd::file::read_up_to(file, at, &mut buf)?;
    Ok(crc32fast::hash(&buf))
}

/// A device that saves the old content of each block before its first change.
pub struct BackupDevice {
    base: Arc<dyn BlockDevice>,
    /// Where the device begins in the image file, in bytes.
    offset: u64,
    backup: Arc<Backup>,
    kept: Mutex<HashSet<u32>>,
}

impl BackupDevice {
    /// Make such a device over `base`, which begins at byte `offset` of the image file.
    pub fn new(base: Arc<dyn BlockDevice>, offset: u64, backup: Arc<Backup>) -> Self {
        Self { base, offset, backup, kept: Mutex::default() }
    }

    /// Save the content of `count` blocks from `block` on. The lock is held during this, so that no
    /// other thread changes a block before it is saved.
    fn keep(&self, block: u32, count: u32) -> IoResult<()> {
        let block_size = self.base.geometry().block_size;
        let mut kept = self.kept.lock();
        let mut contents = Vec::new();
        for block in block..block.saturating_add(count) {
            if !kept.contains(&block) {
                let mut content = vec![0; block_size as usize];
                self.base.read(block, 0, &mut content)?;
                contents.push((block, content));
            }
        }
        let at = |block: u32| self.offset + u64::from(block) * u64::from(block_size);
        let pieces: Vec<(u64, &[u8])> =
            contents.iter().map(|(block, content)| (at(*block), &content[..])).collect();
        self.backup.save(&pieces).map_err(|e| {
            let source = io::Error::new(e.kind(), format!("the undo file cannot be written: {e}"));
            IoError { op: IoOp::Prog, block: Some(block), source }
        })?;
        kept.extend(contents.iter().map(|(block, _)| block));
        Ok(())
    }

    /// The number of blocks that contain `len` bytes from byte `off` of a block on.
    fn blocks(&self, off: u32, len: usize) -> u32 {
        let block_size = u64::from(self.base.geometry().block_size);
        u32::try_from((u64::from(off) + len as u64).div_ceil(block_size)).unwrap_or(u32::MAX)
    }
}

impl BlockDevice for BackupDevice {
    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.base.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.keep(block, self.blocks(off, data.len()))?;
        self.base.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.keep(block, 1)?;
        self.base.erase(block)
    }

    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        self.keep(block, self.blocks(0, data.len()))?;
        self.base.rewrite(block, data)
    }

    fn barrier(&self) -> IoResult<()> {
        self.base.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.base.sync()
    }

    fn still_whole(&self) -> IoResult<()> {
        self.base.still_whole()
    }

    fn wants_read_back(&self) -> bool {
        self.base.wants_read_back()
    }
}

/// Why an image was not restored.
#[derive(Debug)]
#[non_exhaustive]
pub enum UndoError {
    /// The undo file cannot be read.
    Unreadable(io::Error),
    /// The undo file cannot be written. It must be written to note that the image is being
    /// restored.
    Unwritable(io::Error),
    /// The file is not an undo file.
    NotUndo,
    /// The undo file ends within its head, or a record names bytes beyond the size of the image.
    Damaged,
    /// The image cannot be opened.
    Image(Reason),
    /// The file of the image cannot be written.
    WriteProtected,
    /// Somebody has changed the image since.
    Changed,
    /// The image cannot be read or written. Undoing again continues from there.
    Io(io::Error),
}

impl fmt::Display for UndoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(e) => write!(f, "the undo file cannot be read: {e}"),
            Self::Unwritable(e) => write!(f, "the undo file cannot be written: {e}"),
            Self::NotUndo => f.write_str("the file is not an undo file; --backup makes such files"),
            Self::Damaged => f.write_str("the undo file is damaged; nothing was changed"),
            Self::Image(reason) => reason.fmt(f),
            Self::WriteProtected => f.write_str("the file cannot be written"),
            Self::Changed => f.write_str(
                "the image was changed since the undo file was made; --force restores what the \
                 undo file holds, and leaves the rest as it is",
            ),
            Self::Io(e) => write!(f, "{e}; run 'littlefs undo' again to continue"),
        }
    }
}

impl std::error::Error for UndoError {}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// Bytes that were written.
    pub bytes: u64,
    /// Whether the change had been interrupted.
    pub interrupted: bool,
}

/// Restore the state of an image before the change for which `undo_file` was made. This may be
/// interrupted and started again. With `force`, an image that was changed since is restored as
/// well.
///
/// # Errors
/// One [`UndoError`] for each reason.
pub fn undo(undo_file: &Path, image: &Path, force: bool) -> Result<Undone, UndoError> {
    let kept = Kept::read(undo_file)?;
    let container = Container::open(image, false).map_err(UndoError::Image)?;
    if !container.writable {
        return Err(UndoError::WriteProtected);
    }
    let file = &container.file;
    if !force {
        kept.check(file, container.size)?;
    }
    kept.begin().map_err(UndoError::Unwritable)?;
    let mut bytes = 0;
    let mut buf = Vec::new();
    for record in &kept.records {
        kept.content(record, &mut buf)?;
        file.write_all_at(&buf, record.at).map_err(UndoError::Io)?;
        bytes += buf.len() as u64;
    }
    if !container.is_device && container.size != kept.size {
        file.set_len(kept.size).map_err(UndoError::Io)?;
    }
    file.sync_all().map_err(UndoError::Io)?;
    kept.end().map_err(UndoError::Unwritable)?;
    Ok(Undone { bytes, interrupted: kept.after.is_none() })
}

/// An undo file that was read.
struct Kept {
    file: File,
    /// The size of the image before the change, in bytes.
    size: u64,
    records: Vec<Record>,
    /// What is known about the image after the change, with a checksum for each record, if the
    /// change was completed.
    after: Option<(After, Vec<u32>)>,
    /// Where the last whole record ends in the undo file.
    end: u64,
    /// Whether the restoration was begun but not completed.
    begun: bool,
}

struct Record {
    /// Its position in the image, in bytes.
    at: u64,
    len: u32,
    /// Where its bytes are in the undo file.
    from: u64,
    crc: u32,
}

impl Kept {
    fn read(path: &Path) -> Result<Self, UndoError> {
        let file = files::open_plain(path).map_err(UndoError::Unreadable)?;
        let file = Place::of(&file, path)
            .and_then(|place| place.reopen(&file, OFlags::RDWR))
            .map_err(UndoError::Unreadable)?;
        let mut head = [0; MAGIC.len() + 8];
        let read = crate::bd::file::read_up_to(&file, 0, &mut head);
        let (magic, size) = head.split_at(MAGIC.len());
        if read.map_err(UndoError::Unreadable)? < head.len() || magic != MAGIC {
            return Err(UndoError::NotUndo);
        }
        let size = u64::from_le_bytes(size.try_into().map_err(|_| UndoError::NotUndo)?);
        let mut kept = Self { file, size, records: Vec::new(), after: None, end: 0, begun: false };
        let mut at = head.len() as u64;
        // If the last record is incomplete, the image was not yet changed at its place, because a
        // change waits until its record is durable.
        while let Some((record, bytes)) = kept.record(at)? {
            if record.at == BEGUN {
                kept.begun = true;
                break;
            }
            at = record.from + u64::from(record.len) + 4;
            if record.at == END {
                kept.after = after(&bytes, kept.records.len());
                continue;
            }
            // A record may extend beyond the image if the image ended within its last block.
            if record.at >= size {
                return Err(UndoError::Damaged);
            }
            kept.records.push(record);
        }
        kept.end = at;
        Ok(kept)
    }

    /// Note, durably, that the image is being restored.
    fn begin(&self) -> io::Result<()> {
        self.file.write_all_at(&record(BEGUN, &[]), self.end)?;
        self.file.sync_data()
    }

    /// Note that the image is restored.
    fn end(&self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_data()
    }

    /// The record at byte `at` of the undo file, if it is whole.
    fn record(&self, at: u64) -> Result<Option<(Record, Vec<u8>)>, UndoError> {
        let mut head = [0; RECORD_HEAD];
        let read = |at, buf: &mut [u8]| {
            crate::bd::file::read_up_to(&self.file, at, buf).map_err(UndoError::Unreadable)
        };
        if read(at, &mut head)? < head.len() {
            return Ok(None);
        }
        let [p0, p1, p2, p3, p4, p5, p6, p7, l0, l1, l2, l3] = head;
        let position = u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let most = if position == END { END_MAX } else { crate::bd::BLOCK_SIZE_MAX };
        if len > most {
            return Ok(None);
        }
        // read only as many bytes as the file has, whatever the length says
        let from = at + RECORD_HEAD as u64;
        let mut bytes = Vec::new();
        let mut part = Part { file: &self.file, at: from, left: u64::from(len) + 4 };
        part.read_to_end(&mut bytes).map_err(UndoError::Unreadable)?;
        let Some((bytes, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(bytes);
        if bytes.len() != len as usize || hasher.finalize() != u32::from_le_bytes(*crc) {
            return Ok(None);
        }
        let crc = crc32fast::hash(bytes);
        let bytes = if position == END { bytes.to_vec() } else { Vec::new() };
        Ok(Some((Record { at: position, len, from, crc }, bytes)))
    }

    fn content(&self, record: &Record, buf: &mut Vec<u8>) -> Result<(), UndoError> {
        buf.resize(record.len as usize, 0);
        self.file.read_exact_at(buf, record.from).map_err(UndoError::Unreadable)?;
        // not beyond the end of the image, which may be within its last block
        buf.truncate(usize::try_from(self.size - record.at).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Check that the image is as it was before the change, or as it was after it. During a
    /// restoration, or after an interrupted change, it may be a mixture, which cannot be checked.
    fn check(&self, image: &File, size: u64) -> Result<(), UndoError> {
        let Some((after, crcs)) = self.after.as_ref().filter(|_| !self.begun) else {
            return Ok(());
        };
        let mut is_before = size == self.size;
        for (record, crc) in self.records.iter().zip(crcs) {
            let now = crc_at(image, record.at, record.len).map_err(UndoError::Io)?;
            is_before &= now == record.crc;
            if now != *crc && now != record.crc {
                return Err(UndoError::Changed);
            }
        }
        let fingerprint = || fingerprint_of(image, after.offset, after.geometry);
        if is_before
            || size == after.size && fingerprint().map_err(UndoError::Io)? == after.fingerprint
        {
            return Ok(());
        }
        Err(UndoError::Changed)
    }
}

/// What the last record says.
fn after(bytes: &[u8], records: usize) -> Option<(After, Vec<u32>)> {
    let (after, crcs) = After::split(bytes)?;
    let (crcs, rest) = crcs.as_chunks::<4>();
    let whole = rest.is_empty() && crcs.len() == records;
    let crcs = crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    whole.then_some((after, crcs))
}

/// A part of a file, to be read in order.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let read = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 * 128;

    struct Lab(tempfile::TempDir);

    impl Lab {
        fn new() -> Self {
            let lab = Self(tempfile::tempdir().expect("a directory"));
            let content: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
            std::fs::write(lab.path("image"), content).expect("an image");
            lab
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn read(&self, name: &str) -> Vec<u8> {
            std::fs::read(self.path(name)).expect("a file")
        }

        fn device(&self) -> (Arc<Backup>, BackupDevice) {
            let file = File::options().read(true).write(true).open(self.path("image"));
            let file = file.expect("the image");
            let meta = file.metadata().expect("metadata");
            let backup = Backup::create(&self.path("undo"), SIZE, &meta).expect("an undo file");
            let backup = Arc::new(backup);
            let geometry = Geometry::new(128, 14).expect("a geometry");
            let device = Arc::new(FileDevice::new(file, 256, geometry));
            (Arc::clone(&backup), BackupDevice::new(device, 256, backup))
        }

        /// The image after undoing, with copies of both files as they are now. The copy of the undo
        /// file is cut to `len` bytes.
        fn undone(&self, len: usize) -> Vec<u8> {
            // Use a new file each time: a child process that another test is just starting may hold
            // a copy of the previous file's lock until it executes its program.
            let _ = std::fs::remove_file(self.path("image2"));
            std::fs::write(self.path("image2"), self.read("image")).expect("a copy");
            let undo_file = self.read("undo");
            std::fs::write(self.path("undo2"), &undo_file[..len.min(undo_file.len())])
                .expect("a copy");
            undo(&self.path("undo2"), &self.path("image2"), false).expect("undone");
            self.read("image2")
        }
    }

    /// The interruption may come at any point, even within a record of the undo file.
    #[test]
    fn a_change_is_undone_after_an_interruption_at_any_point() {
        let lab = Lab::new();
        let before = lab.read("image");
        let (backup, device) = lab.device();
        let mut random = 7_u32;
        let mut next = |most: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % most
        };
        for _ in 0..60 {
            let len = lab.read("undo").len();
            let block = next(13);
            match next(3) {
                0 => device.erase(block),
                1 => device.prog(block, next(128), &[next(256) as u8; 100]),
                _ => device.rewrite(block, &[next(256) as u8; 200]),
            }
            .expect("a change");
            assert_eq!(lab.undone(usize::MAX), before);
            // before the image is changed, the undo file may hold any part of the appended record
            if lab.read("undo").len() > len {
                let now = lab.read("image");
                std::fs::write(lab.path("image"), &before).expect("a write");
                for cut in [len, len + 1, len + 12, len + 140] {
                    assert_eq!(lab.undone(cut), before, "{cut}");
                }
                std::fs::write(lab.path("image"), &now).expect("a write");
            }
        }
        let file = File::open(lab.path("image")).expect("the image");
        backup.finish(&file, 256, device.geometry()).expect("finished");
        assert_eq!(lab.undone(usize::MAX), before);
    }

    #[test]
    fn an_image_changed_afterwards_is_refused_but_a_half_undone_one_is_not() {
        let lab = Lab::new();
        let before = lab.read("image");
        let (backup, device) = lab.device();
        device.rewrite(2, &[1; 128]).expect("a change");
        device.rewrite(4, &[2; 128]).expect("a change");
        let file = File::open(lab.path("image")).expect("the image");
        backup.finish(&file, 256, device.geometry()).expect("finished");
        let after = lab.read("image");
        let (undo_file, image) = (lab.path("undo"), lab.path("image"));
        let mut other = after.clone();
        other[256 + 4 * 128 + 5] ^= 1;
        std::fs::write(&image, &other).expect("a write");
        let refused = undo(&undo_file, &image, false);
        assert!(matches!(refused, Err(UndoError::Changed)));
        assert_eq!(lab.read("image"), other);
        // interrupted: one block is restored, and another one half
        let mut half = after.clone();
        half[256..256 + 3 * 128 + 64].copy_from_slice(&before[256..256 + 3 * 128 + 64]);
        half[256 + 4 * 128 + 7] = before[256 + 4 * 128 + 7];
        std::fs::remove_file(&image).expect("removed");
        std::fs::write(&image, &half).expect("a write");
        let kept = Kept::read(&undo_file).unwrap_or_else(|e| panic!("{e}"));
        kept.begin().expect("noted");
        undo(&undo_file, &image, false).expect("undone");
        assert_eq!(lab.read("image"), before);
        // once the image is restored, it is compared with the checksums again
        std::fs::remove_file(&image).expect("removed");
        std::fs::write(&image, &other).expect("a write");
        assert!(undo(&undo_file, &image, false).is_err());
        std::fs::remove_file(&image).expect("removed");
        std::fs::write(&image, &other).expect("a write");
        undo(&undo_file, &image, true).expect("forced");
    }

    #[test]
    fn other_files_are_not_undo_files() {
        let lab = Lab::new();
        for content in [&b""[..], b"littlefs undo 1", &[0; 100], b"littlefs undo 2\n12345678"] {
            std::fs::write(lab.path("undo"), content).expect("a file");
            let refused = undo(&lab.path("undo"), &lab.path("image"), false);
            assert!(matches!(refused, Err(UndoError::NotUndo)), "{content:?}");
        }
        let head = [&MAGIC[..], &SIZE.to_le_bytes()].concat();
        let hostile = [head, record(SIZE, &[0; 4])].concat();
        std::fs::write(lab.path("undo"), hostile).expect("a file");
        let refused = undo(&lab.path("undo"), &lab.path("image"), true);
        assert!(matches!(refused, Err(UndoError::Damaged)));
    }
}
