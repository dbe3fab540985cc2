//! The state of a volume, for people and monitoring.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Volume;
use crate::fs::{Flushes, Fs, PairCache, Unwritten, Usage};

/// How long to wait for the lock of the filesystem, which a flush may hold for a long time.
const PATIENCE: Duration = Duration::from_millis(50);

/// The state of a volume; the field names are the JSON keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Seconds since it was mounted.
    pub uptime: f64,
    /// Bytes per block.
    pub block_size: u32,
    /// The convention by which user attributes are used, if any.
    pub attrs: Option<String>,
    /// The filesystem; `None` while it is busy, for example with a flush.
    pub filesystem: Option<Filesystem>,
    /// How long a flush has been running, in seconds.
    pub flushing: Option<f64>,
    /// How long the oldest unwritten change has waited, in seconds.
    pub dirty_since: Option<f64>,
    /// The inodes.
    pub inodes: InodeCache,
}

/// Facts about the filesystem that are known without I/O.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filesystem {
    /// Version of the format: `2.1`.
    pub disk_version: String,
    /// Blocks of the image.
    pub block_count: u32,
    /// Bytes that commits are aligned to.
    pub prog_size: u32,
    /// Largest inline file, in bytes.
    pub inline_max: u32,
    /// Blocks in use.
    pub blocks_used: u32,
    /// Blocks that can still be filled.
    pub blocks_free: u32,
    /// What is not in the image yet.
    pub unwritten: Unwritten,
    /// The flushes that had something to write.
    pub flushes: Flushes,
    /// The cache of metadata pairs.
    pub pair_cache: PairCache,
}

/// Facts about an image of another dialect, which is shown as a littlefs that differs from it in
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The version of the format, as a superblock has it.
    pub version: u32,
    /// How many blocks are used and free.
    pub usage: Usage,
}

/// The inodes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InodeCache {
    /// Inodes that the kernel knows, or whose changed times are kept.
    pub known: u64,
    /// Files with their block list in memory.
    pub open_files: u64,
    /// How often a needed file was open.
    pub hits: u64,
    /// How often a needed file had to be looked up.
    pub misses: u64,
}

impl Filesystem {
    /// The facts about `fs`, which shows an image of another dialect if there are facts about that.
    pub fn of(fs: &Fs, stored: Option<&Stored>) -> Self {
        let superblock = fs.superblock();
        let usage = stored.map_or_else(|| fs.usage_so_far(), |stored| stored.usage);
        Self {
            disk_version: disk_version(stored.map_or(superblock.version, |stored| stored.version)),
            block_count: superblock.block_count,
            prog_size: fs.prog_size(),
            inline_max: fs.inline_max(),
            blocks_used: usage.blocks_used,
            blocks_free: usage.blocks_free,
            unwritten: fs.unwritten(),
            flushes: fs.flushes(),
            pair_cache: fs.pair_cache(),
        }
    }
}

fn disk_version(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}

impl Volume {
    /// The state of the volume, and why it became read-only, if nobody requested that. Nothing is
    /// read or written for this.
    pub fn condition(&self) -> (Condition, Option<String>) {
        let core = self.core.try_lock().or_else(|| {
            self.will_wait();
            self.core.try_lock_for(PATIENCE)
        });
        let filesystem = core.as_deref().map(|fs| Filesystem::of(fs, self.options.stored.as_ref()));
        let turned = core.as_deref().and_then(Fs::turned_read_only).map(str::to_owned);
        drop(core);
        let seconds = |since: Duration| since.as_secs_f64();
        let condition = Condition {
            uptime: seconds(self.clock.uptime()),
            block_size: self.block_size,
            attrs: self.options.convention.map(|c| c.name.to_owned()),
            filesystem,
            flushing: self.clock.flushing_for().map(seconds),
            dirty_since: self.clock.dirty_for().map(seconds),
            inodes: self.inodes.lock().cache(),
        };
        (condition, turned)
    }
}
