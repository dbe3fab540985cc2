//! What only a mounted volume asks of the filesystem: numbers to show at any time, without waiting
//! for the device, and the map of free blocks made in the background.

use super::pairs::CACHE_MAX;
use super::{Fs, Usage};

/// The cache of metadata pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct PairCache {
    /// Metadata pairs of the filesystem.
    pub pairs: u64,
    /// Those whose content is in memory.
    pub cached: u64,
    /// Bytes of that content.
    pub bytes: u64,
    /// Bytes of clean content that are kept at most.
    pub bytes_max: u64,
    /// How often content was needed and there.
    pub hits: u64,
    /// How often it had to be read.
    pub misses: u64,
}

impl Fs {
    /// Let operations that need the map of free blocks fail with [`Error::MapUnfinished`] until it
    /// is complete, instead of completing it themselves; whoever calls this completes it with
    /// [`Fs::unmapped`] and [`Fs::mark`].
    pub fn defer_map(&mut self) {
        self.space.defer();
    }

    /// The cache of metadata pairs.
    pub fn pair_cache(&self) -> PairCache {
        let (wanted, loaded) = self.thread.lookups();
        PairCache {
            pairs: self.thread.iter().count() as u64,
            cached: self.thread.iter().filter(|(_, p)| p.mdir.is_some()).count() as u64,
            bytes: self.thread.cached_bytes() as u64,
            bytes_max: CACHE_MAX as u64,
            hits: wanted - loaded,
            misses: loaded,
        }
    }

    /// Blocks used and free. Nothing is read for it: of files that the map of free blocks does not
    /// hold yet, their sizes tell.
    pub fn usage_so_far(&self) -> Usage {
        self.space.usage_so_far()
    }
}
