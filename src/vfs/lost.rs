//! Content that the kernel's page cache had accepted, but that could not be stored afterwards.
//!
//! A program that writes through a mapping has no call that could fail, and with a write-back cache
//! its write(2) has returned long ago: the kernel sends the pages later. If there is no space for
//! them at that time, the kernel reports this once for each open file, and continues to show the
//! pages as if they were stored. So lost content is remembered here, by inode and range, until the
//! range is written again or cut off, or until the kernel forgets the inode. Until then, every
//! fsync of the file fails.

use std::collections::BTreeMap;
use std::fmt;

use super::inode::NumberMap;
use super::{VfsError, VfsResult, Volume};
use crate::error::Error;

/// Why content was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The image is full.
    NoSpace,
    /// The file would become longer than the format allows.
    TooLarge,
    /// Anything else; the log has the details.
    Failed,
}

impl Loss {
    fn of(e: &VfsError) -> Self {
        match e {
            VfsError::Core(Error::NoSpace) => Self::NoSpace,
            VfsError::Core(Error::FileTooLarge) => Self::TooLarge,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::NoSpace => "there was no space",
            Self::TooLarge => "the file would have become too large",
            Self::Failed => "writing failed",
        };
        write!(f, "data that was written through the page cache is lost, because {why}")
    }
}

/// What one file lost.
struct FileLoss {
    /// Why the last part was lost.
    why: Loss,
    /// Start and end of each range, in bytes. The ranges do not overlap.
    ranges: BTreeMap<u64, u64>,
}

impl FileLoss {
    /// Note that the bytes of `from..to` were written again, or are not part of the file any more.
    fn clear(&mut self, from: u64, to: u64) {
        let first = self.ranges.range(..from).next_back().map_or(from, |(&start, _)| start);
        let hit: Vec<(u64, u64)> = self.ranges.range(first..to).map(|(&s, &e)| (s, e)).collect();
        for (start, end) in hit {
            if end <= from {
                continue;
            }
            self.ranges.remove(&start);
            if start < from {
                self.ranges.insert(start, from);
            }
            if end > to {
                self.ranges.insert(to, end);
            }
        }
    }
}

/// The lost content of each file, by the number of its inode.
#[derive(Default)]
pub(super) struct LostContent(NumberMap<u64, FileLoss>);

impl LostContent {
    /// Note that the bytes of `from..to` are lost. Returns true if the file had not lost any
    /// before.
    fn add(&mut self, ino: u64, from: u64, to: u64, why: Loss) -> bool {
        let first = !self.0.contains_key(&ino);
        let empty = || FileLoss { why, ranges: BTreeMap::new() };
        let file = self.0.entry(ino).or_insert_with(empty);
        file.why = why;
        file.clear(from, to);
        file.ranges.insert(from, to);
        first
    }

    /// Note that the bytes of `from..to` were written again, or are not part of the file any more.
    pub fn clear(&mut self, ino: u64, from: u64, to: u64) {
        let Some(file) = self.0.get_mut(&ino) else { return };
        file.clear(from, to);
        if file.ranges.is_empty() {
            self.0.remove(&ino);
        }
    }

    /// Note that the kernel has forgotten the inode, and the lost content with it.
    pub fn forget(&mut self, ino: u64) {
        self.0.remove(&ino);
    }

    fn of(&self, ino: u64) -> Option<Loss> {
        self.0.get(&ino).map(|file| file.why)
    }
}

impl Volume {
    /// Note that `len` bytes at `offset` could not be stored. The kernel had accepted them from a
    /// program before it sent them. `e` is the answer to the kernel; this must be called before the
    /// answer is sent.
    pub fn lose(&self, ino: u64, offset: u64, len: u64, e: &VfsError) {
        let why = Loss::of(e);
        if !self.lost.lock().add(ino, offset, offset.saturating_add(len), why) {
            return;
        }
        let name = self.inodes.lock().get(ino).and_then(|inode| inode.entry()?.name());
        let name = name.unwrap_or_else(|| "a file that was removed".to_owned());
        log::error!(
            "{name}: {why}; every fsync of the file reports this until the data is written again"
        );
    }

    /// Make everything durable, as [`Volume::fsync`] does, and report what this file lost.
    ///
    /// # Errors
    /// Those of [`Volume::fsync`], and what this file has lost.
    pub fn fsync_file(&self, ino: u64) -> VfsResult<()> {
        self.fsync()?;
        self.lost.lock().of(ino).map_or(Ok(()), |why| Err(VfsError::Lost(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(lost: &LostContent) -> Vec<(u64, u64)> {
        let file = lost.0.get(&7);
        file.map_or(Vec::new(), |file| file.ranges.iter().map(|(&s, &e)| (s, e)).collect())
    }

    #[test]
    fn a_loss_lasts_until_all_of_it_is_written_again() {
        let mut lost = LostContent::default();
        assert!(lost.add(7, 100, 200, Loss::NoSpace));
        assert!(!lost.add(7, 300, 400, Loss::NoSpace));
        lost.clear(8, 0, 1000);
        lost.clear(7, 0, 100);
        lost.clear(7, 200, 300);
        assert_eq!(ranges(&lost), [(100, 200), (300, 400)]);
        lost.clear(7, 120, 130);
        assert_eq!(ranges(&lost), [(100, 120), (130, 200), (300, 400)]);
        lost.clear(7, 110, 310);
        assert_eq!(ranges(&lost), [(100, 110), (310, 400)]);
        assert_eq!((lost.of(7), lost.of(8)), (Some(Loss::NoSpace), None));
        // The file is truncated to 50 bytes.
        lost.clear(7, 50, u64::MAX);
        assert_eq!(lost.of(7), None);
    }

    #[test]
    fn ranges_that_are_lost_twice_count_once() {
        let mut lost = LostContent::default();
        lost.add(7, 0, 100, Loss::NoSpace);
        lost.add(7, 50, 150, Loss::Failed);
        lost.add(7, 20, 30, Loss::NoSpace);
        assert_eq!(ranges(&lost), [(0, 20), (20, 30), (30, 50), (50, 150)]);
        lost.clear(7, 0, 150);
        assert_eq!(lost.of(7), None);
        lost.add(7, 0, 100, Loss::Failed);
        lost.forget(7);
        assert_eq!(lost.of(7), None);
    }
}
