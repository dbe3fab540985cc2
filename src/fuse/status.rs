//! What a daemon reports about its mount.
//!
//! The request is an ioctl(2) on any file or directory of the mount. So it works wherever the mount
//! is visible, and everybody who has access to the mount may send it. The answer is one JSON object
//! of at most [`SIZE_MAX`] bytes, and the call returns its length.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::serving::Served;
use crate::show::base64_unless_text;
use crate::sys::STATUS_SIZE;
use crate::vfs::{Condition, Volume};

#[cfg(feature = "cli")]
pub use crate::sys::{become_writable, status as ask};

/// Longest answer, in bytes.
pub const SIZE_MAX: usize = STATUS_SIZE;

/// The reason that is given for a mount that is read-only only because of an option. Such a mount
/// can be made writable.
pub const AS_ASKED: &str = "as asked (-o ro)";

/// Facts that are known when the image is mounted, but not to the volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Version of the program.
    pub program: String,
    /// The process id of the daemon.
    pub pid: u32,
    /// The time of the mount, in seconds since 1970.
    pub mounted_at: u64,
    /// Where the filesystem starts in the image, in bytes.
    pub offset: u64,
    /// The name of the profile with which it writes, if one was given.
    pub profile: Option<String>,
    /// The journal that receives the changes instead of the image, if there is one.
    #[serde(flatten)]
    pub journal: Journal,
    /// Why the image was mounted read-only, if it was.
    pub read_only: Option<String>,
}

/// The path of a journal. It need not be UTF-8.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    journal: Option<String>,
    /// Its bytes, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_base64: Option<String>,
}

impl Journal {
    /// The journal at `path`; empty if there is none.
    pub fn new(path: Option<&Path>) -> Self {
        Self {
            journal: path.map(|path| path.to_string_lossy().into_owned()),
            journal_base64: path.and_then(|path| base64_unless_text(path.as_os_str().as_bytes())),
        }
    }

    /// Its path, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        let bytes = self.journal_base64.as_ref().and_then(|text| STANDARD.decode(text).ok());
        let text = self.journal.clone().map(String::into_bytes);
        bytes.or(text).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// The state of a mount; the field names are the JSON keys. Fields that another version of the
/// program does not send are empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What was known at the time of the mount. Its `read_only` may have changed since.
    #[serde(flatten)]
    pub about: About,
    /// What the volume reports.
    #[serde(flatten)]
    pub volume: Condition,
    /// How many requests of each kind were served.
    pub operations: BTreeMap<String, u64>,
    /// How many errors were answered, by the name of the errno.
    pub errors: BTreeMap<String, u64>,
}

/// Make a read-only mount writable. The answer is empty, or the reason if this is impossible.
pub(super) fn answer_to_writing(served: &Served<'_>, about: &About) -> String {
    match about.read_only.as_deref() {
        None => String::new(),
        Some(AS_ASKED) => {
            let volume: &Volume = served;
            volume.become_writable().err().map_or(String::new(), |e| e.to_string())
        }
        Some(why) => why.to_owned(),
    }
}

impl Status {
    /// The state of the mount. `writes` says that it was made writable after it had been read-only.
    pub(super) fn of(served: &Served<'_>, about: &About, writes: bool) -> Self {
        let volume: &Volume = served;
        let mut about = about.clone();
        about.read_only = about.read_only.filter(|_| !writes);
        let (volume, turned) = volume.condition();
        about.read_only = about.read_only.or(turned);
        let (operations, errors) = served.counted();
        Self { about, volume, operations, errors }
    }
}
