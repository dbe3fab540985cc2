//! Restoring an image from its undo file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::{
    After, BEGUN, END, END_MAX, HEAD, MAGIC, RECORD_HEAD, crc_at, fingerprint_of, record, size_of,
};
use crate::files::{self, Place};
use crate::image::{self, Container, Reason};
use crate::show::cause;

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
    /// The change was completed, but something before the last record of the undo file is damaged,
    /// or a record names bytes beyond the size of the image.
    Damaged,
    /// The undo file has no last record, and the record at this byte is damaged. It may be the last
    /// one before a power cut.
    Doubtful(u64),
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
            Self::Unreadable(e) => write!(f, "the undo file cannot be read: {}", cause(e)),
            Self::Unwritable(e) => write!(f, "the undo file cannot be written: {}", cause(e)),
            Self::NotUndo => f.write_str("the file is not an undo file; --backup makes such files"),
            Self::Damaged => f.write_str("the undo file is damaged; nothing was changed"),
            Self::Doubtful(at) => write!(
                f,
                "the record at byte {at} of the undo file is damaged; if a power cut interrupted \
                 the change, restore the records before it with --force; nothing was changed"
            ),
            Self::Image(reason) => reason.fmt(f),
            Self::WriteProtected => f.write_str(image::WRITE_PROTECTED),
            Self::Changed => f.write_str(
                "the image was changed since the undo file was made; --force restores what the \
                 undo file holds, and leaves the rest as it is",
            ),
            Self::Io(e) => write!(f, "{}; run 'littlefs undo' again to continue", cause(e)),
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
    if let Some(at) = kept.damaged_at.filter(|_| !force) {
        return Err(UndoError::Doubtful(at));
    }
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
pub(super) struct Kept {
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
    /// The position of a damaged record behind the whole ones, if the change was not completed.
    damaged_at: Option<u64>,
}

/// What is at a position of an undo file.
enum Next {
    /// A whole record, with its bytes if it is the last one.
    Whole(Record, Vec<u8>),
    /// The file ends before the end of the record.
    Incomplete,
    /// The checksum of the record does not match, or its length is impossible.
    Damaged,
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
    /// Read the undo file at `path`.
    ///
    /// # Errors
    /// [`UndoError::NotUndo`] if it is another kind of file, [`UndoError::Damaged`] if its records
    /// contradict each other, and [`UndoError::Unreadable`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Self, UndoError> {
        let file = files::open_plain(path).map_err(UndoError::Unreadable)?;
        let file = Place::of(&file, path)
            .and_then(|place| place.reopen(&file, OFlags::RDWR))
            .map_err(UndoError::Unreadable)?;
        let mut head = [0; HEAD];
        let read = crate::bd::file::read_up_to(&file, 0, &mut head);
        let (magic, size) = head.split_at(MAGIC.len());
        if read.map_err(UndoError::Unreadable)? < head.len() || magic != MAGIC {
            return Err(UndoError::NotUndo);
        }
        let size = u64::from_le_bytes(size.try_into().map_err(|_| UndoError::NotUndo)?);
        let mut kept = Self {
            file,
            size,
            records: Vec::new(),
            after: None,
            end: 0,
            begun: false,
            damaged_at: None,
        };
        let mut at = HEAD as u64;
        loop {
            let (record, bytes) = match kept.record(at)? {
                Next::Whole(record, bytes) => (record, bytes),
                _ if kept.after.is_some() => break,
                _ if kept.has_end()? => return Err(UndoError::Damaged),
                // The image was not yet changed at the place of an incomplete record, because a
                // change waits until its record is durable.
                Next::Incomplete => break,
                Next::Damaged => {
                    kept.damaged_at = Some(at);
                    break;
                }
            };
            if record.at == BEGUN {
                kept.begun = true;
                break;
            }
            at = record.from + u64::from(record.len) + 4;
            if record.at == END {
                let crc = crc32fast::hash(&head);
                kept.after = after(&bytes, kept.records.len(), crc);
                if kept.after.is_none() {
                    return Err(UndoError::Damaged);
                }
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

    /// Whether the file ends with a last record, which perhaps the note of a restoration follows.
    fn has_end(&self) -> Result<bool, UndoError> {
        let len = size_of(&self.file).map_err(UndoError::Unreadable)?;
        let start = len.saturating_sub(END_MAX.into());
        let mut tail = vec![0; (len - start) as usize];
        let read = crate::bd::file::read_up_to(&self.file, start, &mut tail);
        tail.truncate(read.map_err(UndoError::Unreadable)?);
        let begun = record(BEGUN, &[]);
        let tail = tail.strip_suffix(&begun[..]).unwrap_or(&tail);
        let is_end = |start: usize| {
            let bytes = tail.get(start..)?;
            let rest = bytes.strip_prefix(&END.to_le_bytes())?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let (data, crc) = rest.split_last_chunk::<4>()?;
            let has_len = data.len() == u32::from_le_bytes(*len) as usize;
            let whole = bytes.get(..bytes.len() - 4)?;
            (has_len && crc32fast::hash(whole) == u32::from_le_bytes(*crc)).then_some(())
        };
        Ok((0..tail.len()).any(|at| is_end(at).is_some()))
    }

    /// Note, durably, that the image is being restored. After an interrupted change, this is not
    /// needed, because the image is not compared with anything then. So the undo file stays as it
    /// is.
    ///
    /// # Errors
    /// If the undo file cannot be written.
    pub fn begin(&self) -> io::Result<()> {
        if self.after.is_none() {
            return Ok(());
        }
        self.file.write_all_at(&record(BEGUN, &[]), self.end)?;
        self.file.sync_data()
    }

    /// Note that the image is restored.
    fn end(&self) -> io::Result<()> {
        if self.after.is_none() {
            return Ok(());
        }
        self.file.set_len(self.end)?;
        self.file.sync_data()
    }

    /// The record at byte `at` of the undo file.
    fn record(&self, at: u64) -> Result<Next, UndoError> {
        let mut head = [0; RECORD_HEAD];
        let read = |at, buf: &mut [u8]| {
            crate::bd::file::read_up_to(&self.file, at, buf).map_err(UndoError::Unreadable)
        };
        if read(at, &mut head)? < head.len() {
            return Ok(Next::Incomplete);
        }
        let [p0, p1, p2, p3, p4, p5, p6, p7, l0, l1, l2, l3] = head;
        let position = u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let most = if position == END { END_MAX } else { crate::bd::BLOCK_SIZE_MAX };
        if len > most {
            return Ok(Next::Damaged);
        }
        // read only as many bytes as the file has, whatever the length says
        let from = at + RECORD_HEAD as u64;
        let mut bytes = Vec::new();
        let mut part = Part { file: &self.file, at: from, left: u64::from(len) + 4 };
        part.read_to_end(&mut bytes).map_err(UndoError::Unreadable)?;
        if bytes.len() as u64 != u64::from(len) + 4 {
            return Ok(Next::Incomplete);
        }
        let Some((bytes, crc)) = bytes.split_last_chunk::<4>() else { return Ok(Next::Damaged) };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(bytes);
        if hasher.finalize() != u32::from_le_bytes(*crc) {
            return Ok(Next::Damaged);
        }
        let crc = crc32fast::hash(bytes);
        let bytes = if position == END { bytes.to_vec() } else { Vec::new() };
        Ok(Next::Whole(Record { at: position, len, from, crc }, bytes))
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

/// What the last record says; `None` if it does not belong to this number of records and to the
/// head with this checksum. Older undo files have no checksum of the head.
fn after(bytes: &[u8], records: usize, head: u32) -> Option<(After, Vec<u32>)> {
    let (after, crcs) = After::split(bytes)?;
    let (crcs, rest) = crcs.as_chunks::<4>();
    let mut crcs: Vec<u32> = crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    let of_head = crcs.drain(crcs.len().min(records)..).collect::<Vec<u32>>();
    let whole = rest.is_empty() && crcs.len() == records;
    (whole && (of_head.is_empty() || of_head == [head])).then_some((after, crcs))
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
