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
//! [`fingerprint`] (32), a CRC-32 for each earlier record (4), and a CRC-32 of the head (4). While
//! the image is being restored after a complete change, an empty record with the position `BEGUN`
//! follows: the image may then hold a mixture of old and new content, so it is not compared with
//! the checksums.
//!
//! After an interrupted change, the last records may be incomplete. After a complete change, every
//! record was durable. So if there is a last record, anything wrong before it is damage, and
//! nothing is restored: half of the old content would be worse than none.

mod undo;

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::undo::{UndoError, Undone, undo};

use crate::bd::{BlockDevice, FileDevice, Geometry, IoResult};
use crate::error::{IoError, IoOp};
use crate::files::{self, Place};
use crate::journal::fingerprint;

/// How an undo file begins.
const MAGIC: &[u8; 16] = b"littlefs undo 1\n";
/// Bytes of the head.
const HEAD: usize = MAGIC.len() + 8;
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
        end.extend(crc_at(&state.file, 0, HEAD as u32)?.to_le_bytes());
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

#[cfg(test)]
mod tests {
    use super::undo::Kept;
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

    /// Whichever byte of the undo file of a complete change is wrong, either everything is
    /// restored, or nothing is written to either file.
    #[test]
    fn a_damaged_undo_file_never_restores_a_part() {
        let lab = Lab::new();
        let before = lab.read("image");
        let (backup, device) = lab.device();
        for block in [2, 4, 5] {
            device.rewrite(block, &[block as u8; 128]).expect("a change");
        }
        let file = File::open(lab.path("image")).expect("the image");
        backup.finish(&file, 256, device.geometry()).expect("finished");
        let (after, whole) = (lab.read("image"), lab.read("undo"));
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(lab.path("image"), &after).expect("a write");
            std::fs::write(lab.path("undo"), &damaged).expect("a write");
            if undo(&lab.path("undo"), &lab.path("image"), false).is_ok() {
                assert_eq!(lab.read("image"), before, "byte {at}");
                continue;
            }
            refused += 1;
            assert_eq!(lab.read("image"), after, "byte {at}");
            assert_eq!(lab.read("undo"), damaged, "byte {at}");
        }
        // only the length of the last record can make it look incomplete
        assert!(refused >= whole.len() - 4, "{refused} of {}", whole.len());
    }

    /// Without a last record, a damaged record may be the last one before a power cut.
    #[test]
    fn a_damaged_record_of_an_interrupted_change_is_doubtful() {
        let lab = Lab::new();
        let before = lab.read("image");
        let (_, device) = lab.device();
        device.rewrite(2, &[1; 128]).expect("a change");
        let whole = lab.read("undo").len();
        device.rewrite(4, &[2; 128]).expect("a change");
        let after = lab.read("image");
        let mut undo_file = lab.read("undo");
        undo_file[whole + 40] ^= 1;
        std::fs::write(lab.path("undo"), &undo_file).expect("a write");
        let undone = |force| undo(&lab.path("undo"), &lab.path("image"), force);
        assert!(matches!(undone(false), Err(UndoError::Doubtful(at)) if at == whole as u64));
        assert_eq!(lab.read("image"), after);
        undone(true).expect("forced");
        assert_eq!(lab.read("image")[256 + 2 * 128..][..128], before[256 + 2 * 128..][..128]);
        assert_eq!(lab.read("undo"), undo_file, "it is still there to try again");
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
