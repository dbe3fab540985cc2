//! What a daemon tells of its mount to whoever asks.
//!
//! The question is an ioctl(2) on any file or directory of the mount, so it goes where the mount
//! goes, and whoever may look into the mount may ask. The answer is one JSON object of at most
//! [`SIZE_MAX`] bytes, whose length the call returns.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::serving::Served;
use crate::sys::STATUS_SIZE;
use crate::vfs::{Condition, Volume};

pub use crate::sys::status as ask;

/// Longest answer, in bytes.
pub const SIZE_MAX: usize = STATUS_SIZE;

/// What whoever mounted knows, and the volume does not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Version of the program.
    pub program: String,
    /// The daemon.
    pub pid: u32,
    /// Seconds since 1970 when it was mounted.
    pub mounted_at: u64,
    /// Where the filesystem starts in the image, in bytes.
    pub offset: u64,
    /// The family of devices it writes like, if one was named.
    pub profile: Option<String>,
    /// The journal that changes go to instead of the image, if there is one.
    pub journal: Option<PathBuf>,
    /// Why it was mounted read-only, if it was.
    pub read_only: Option<String>,
}

/// The state of a mount; the field names are the JSON keys. What another version of the program
/// does not tell is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What was known when it was mounted. Its `read_only` may have become more since.
    #[serde(flatten)]
    pub about: About,
    /// The volume.
    #[serde(flatten)]
    pub volume: Condition,
    /// Requests served, by what was asked.
    pub operations: BTreeMap<String, u64>,
    /// Errors answered, by the name of the errno.
    pub errors: BTreeMap<String, u64>,
}

impl Status {
    pub(super) fn of(served: &Served<'_>, about: &About) -> Self {
        let volume: &Volume = served;
        let mut about = about.clone();
        let (volume, turned) = volume.condition();
        about.read_only = about.read_only.or(turned);
        let (operations, errors) = served.counted();
        Self { about, volume, operations, errors }
    }
}
