//! Functions that only a mounted volume needs: numbers that can be shown at any time without
//! waiting for the device, and a map of free blocks that is made in the background.

use super::{Fs, Usage};

/// The cache of metadata pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct PairCache {
    /// Metadata pairs of the filesystem.
    pub pairs: u64,
    /// How many of them have their content in memory.
    pub cached: u64,
    /// How many bytes this content takes.
    pub bytes: u64,
    /// How many bytes of unchanged content are kept at most.
    pub bytes_max: u64,
    /// How often content was needed and was in memory.
    pub hits: u64,
    /// How often content was needed and had to be read.
    pub misses: u64,
}

impl Fs {
    /// Let operations that need the map of free blocks fail with [`Error::MapUnfinished`] until it
    /// is complete, instead of completing it themselves. The caller then completes it with
    /// [`Fs::unmapped`] and [`Fs::mark`].
    pub fn defer_map(&mut self) {
        self.space.defer();
    }

    /// The cache of metadata pairs.
    pub fn pair_cache(&self) -> PairCache {
        let (wanted, loaded) = self.thread.lookups();
        PairCache {
            pairs: self.thread.iter().count() as u64,
            cached: self.thread.iter().filter(|(_, p)| p.is_in_memory()).count() as u64,
            bytes: self.thread.cached_bytes() as u64,
            bytes_max: self.thread.cache_max() as u64,
            hits: wanted - loaded,
            misses: loaded,
        }
    }

    /// How many blocks are used and free. Nothing is read: for files whose blocks are not in the
    /// map of free blocks yet, their sizes are counted.
    pub fn usage_so_far(&self) -> Usage {
        self.space.usage_so_far()
    }
}
