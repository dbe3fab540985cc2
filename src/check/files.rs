//! Checking CTZ lists, and accounting for the user of each block.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Checker;
use super::owners::Owner;
use crate::bd::BlockDevice;
use crate::disk::list::{self, Broken, Met, Place};
use crate::disk::{List, ListIndex, ctz};
use crate::error::Error;
use crate::mdir::store;

/// How many blocks are accounted for between two reports of progress.
const PROGRESS_STEP: u64 = 1024;

impl Checker<'_> {
    /// Note that `block` is used by pair `pair`, or by the file of its entry `file`. If something
    /// else uses the block already, this is reported as an error, and the result is false.
    pub(super) fn claim(&mut self, block: u32, pair: usize, file: Option<u16>) -> bool {
        let owner = Owner { pair, file };
        let Some(other) = self.owners.claim(block, owner) else {
            if self.owners.used().is_multiple_of(PROGRESS_STEP) {
                (self.progress)(self.owners.used());
            }
            return true;
        };
        // the blocks of a pair are claimed before the pair is in the table
        let here = match self.pairs.get(pair) {
            Some(_) => self.describe(owner),
            None => "another metadata pair".to_owned(),
        };
        let message = format!(
            "is used by {} and by {here}: a write to one damages the other",
            self.describe(other)
        );
        self.error("block-shared", format_args!("block {block:#x}"), message);
        false
    }

    fn describe(&self, owner: Owner) -> String {
        let Some(p) = self.pairs.get(owner.pair) else { return "a metadata pair".to_owned() };
        let Some(id) = owner.file else { return format!("metadata pair {}", p.pair) };
        let log = store::read_log(&*self.dev, p.pair.0[0]);
        match log.ok().flatten().as_ref().and_then(|l| l.entries.get(usize::from(id))) {
            Some(e) => format!("file {}", self.path(p.dir.unwrap_or(0), &e.name)),
            None => format!("entry {id} of {}", p.pair),
        }
    }

    /// Follow the CTZ list of entry `id` of pair `pair`, with all its pointers.
    pub(super) fn check_file(&mut self, path: &str, pair: usize, id: u16, list: List) {
        let size = list.size;
        if self.limits.is_some_and(|s| size > s.file_max) {
            self.error("file-too-large", path, format_args!("{size} bytes exceed file_max"));
        }
        let (g, dev) = (self.g, Arc::clone(&self.dev));
        let (is_truncated, mut sound, mut missing) = (self.is_truncated, true, None);
        let visit = |met: Met<'_>| {
            if let Met::Block(at) = met
                && is_truncated
                && let Some(bytes) = missing_of(&*dev, at, size)
            {
                missing = Some(bytes);
            }
            match met {
                // The blocks before this one are shared, too, or the list is a loop. One finding is
                // enough.
                Met::Block(at) if !self.claim(at.block, pair, Some(id)) => {
                    return ControlFlow::Break(());
                }
                Met::Pointers { at, agrees: false, .. } if sound => {
                    sound = false;
                    let message = format_args!(
                        "the pointers of block {} of its list disagree: after a seek, other data \
                         may be read",
                        at.index
                    );
                    self.error("ctz-pointer", path, message);
                }
                Met::Block(_) | Met::Pointers { .. } => {}
            }
            ControlFlow::Continue(())
        };
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        let Err(broken) = list::follow(g, list, read, visit) else {
            if let Some(bytes) = missing {
                let message = format_args!("the image is truncated, and lacks {bytes} of the file");
                self.error("ctz-unreadable", path, message);
            }
            return;
        };
        let code = code_of(&broken);
        let lost = |index| bytes_of(g.block_size, index, size).to;
        match broken {
            Broken::TooLong { .. } => {
                self.error(code, path, format_args!("claims {size} bytes, more than the image has"))
            }
            Broken::Outside(Place { index, block }) => {
                let message = format_args!(
                    "block {index} of its list is {block:#x}, outside the image: some or all of \
                     the file's first {} bytes are lost",
                    lost(index)
                );
                self.error(code, path, message);
            }
            Broken::Unreadable { at: Place { index, block }, error } => {
                let message = format_args!(
                    "block {index} of its list, {block:#x}, cannot be read: {}; some or all of the \
                     file's first {} bytes are lost",
                    error.source,
                    lost(index)
                );
                self.error(code, path, message);
            }
            other @ Broken::Loop { .. } => self.error(code, path, Error::of_list(list, other)),
        }
    }
}

/// Which bytes of a file of `size` bytes a truncated image lacks in the block `at` of its list.
fn missing_of(dev: &dyn BlockDevice, at: Place, size: u32) -> Option<Bytes> {
    let block_size = dev.geometry().block_size;
    let bytes = bytes_of(block_size, at.index, size);
    let start = ctz::data_offset(at.index);
    let last = u64::from(start) + bytes.to.checked_sub(bytes.from + 1)?;
    // only the last byte is read
    let e = dev.read(at.block, u32::try_from(last).ok()?, &mut [0]).err()?;
    e.present()?;
    let mut there = vec![0; (bytes.to - bytes.from) as usize];
    let present = dev.read(at.block, start, &mut there).err().and_then(|e| e.present());
    Some(Bytes { from: bytes.from + present.unwrap_or(0) as u64, ..bytes })
}

/// The code of the finding that a list could not be followed to its beginning.
pub(crate) fn code_of<E>(broken: &Broken<E>) -> &'static str {
    match broken {
        Broken::TooLong { .. } => "ctz-too-long",
        Broken::Outside(_) | Broken::Loop { .. } => "ctz-range",
        Broken::Unreadable { .. } => "ctz-unreadable",
    }
}

/// A half-open range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes {
    from: u64,
    to: u64,
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {} to {}", self.from, self.to.saturating_sub(1))
    }
}

/// The range of a file of `size` bytes that its block `i` holds.
fn bytes_of(block_size: u32, i: ListIndex, size: u32) -> Bytes {
    let to = ctz::start(block_size, i + 1).min(u64::from(size));
    Bytes { from: ctz::start(block_size, i), to }
}
