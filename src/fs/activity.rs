//! Counts of the changes in memory, and of flushes. They need no I/O, and keep nobody waiting.

use std::time::{Duration, Instant, SystemTime};

use super::Fs;
use crate::error::{Error, Result};
use crate::mdir::Data;

/// What is not in the image yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Unwritten {
    /// Bytes of content that are only in memory.
    pub bytes: u64,
    /// Changed files whose content is stored in blocks.
    pub files: u64,
    /// Changed metadata pairs.
    pub pairs: u64,
}

/// A flush that has ended.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Flush {
    /// The time at which it ended, in seconds since 1970.
    pub at: u64,
    /// How long ago it ended, in seconds.
    pub ago: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The flushes that had something to write.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Flushes {
    /// How many succeeded.
    pub done: u64,
    /// How many failed.
    pub failed: u64,
    /// The last one.
    pub last: Option<Flush>,
    /// The last one that failed.
    pub last_failed: Option<Flush>,
}

/// Like [`Flush`], with the clocks of this process.
#[derive(Debug, Clone)]
struct Ended {
    at: SystemTime,
    since: Instant,
    took: Duration,
    error: Option<String>,
}

impl Ended {
    fn tell(&self) -> Flush {
        let at = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Flush {
            at: at.as_secs(),
            ago: self.since.elapsed().as_secs_f64(),
            took: self.took.as_secs_f64(),
            error: self.error.clone(),
        }
    }
}

/// Counters of the filesystem.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: u64,
    failed: u64,
    last: Option<Ended>,
    last_failed: Option<Ended>,
}

impl Tally {
    /// Note that a flush, which began at `start`, has ended.
    pub fn flushed(&mut self, start: Instant, result: &Result<(), Error>) {
        let error = result.as_ref().err().map(ToString::to_string);
        let ended = Ended {
            at: SystemTime::now(),
            since: Instant::now(),
            took: start.elapsed(),
            error: error.clone(),
        };
        if error.is_some() {
            self.failed += 1;
            self.last_failed = Some(ended.clone());
        } else {
            self.done += 1;
        }
        self.last = Some(ended);
    }
}

impl Fs {
    /// What the next flush would write.
    pub fn unwritten(&self) -> Unwritten {
        let changed = self.thread.dirty().iter().filter_map(|&ix| self.pair(ix).mdir.as_ref());
        let inline = changed.flat_map(|m| &m.entries).filter(|e| e.dirty).map(|e| match &e.data {
            Data::Inline(d) => d.len(),
            _ => 0,
        });
        Unwritten {
            bytes: (self.files.dirty_bytes() + inline.sum::<usize>()) as u64,
            files: self.files.dirty().len() as u64,
            pairs: self.thread.dirty().len() as u64,
        }
    }

    /// How many metadata pairs the next flush would write.
    #[cfg(feature = "transfer")]
    pub(crate) fn dirty_pairs(&self) -> usize {
        self.thread.dirty().len()
    }

    /// The flushes so far.
    pub fn flushes(&self) -> Flushes {
        let Tally { done, failed, last, last_failed, .. } = &self.tally;
        Flushes {
            done: *done,
            failed: *failed,
            last: last.as_ref().map(Ended::tell),
            last_failed: last_failed.as_ref().map(Ended::tell),
        }
    }
}
