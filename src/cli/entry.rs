//! The form in which commands print entries, for people and for programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::date;
use crate::time::nanos;
use crate::{FileType, Littlefs, Metadata, Storage};

/// An entry in JSON; docs/json.md describes the keys.
#[derive(Debug, Serialize)]
pub struct EntryJson {
    /// The path from the root on, with a leading `/`.
    pub path: String,
    /// The bytes of the path, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `block-device` or `char-device`.
    pub r#type: &'static str,
    /// Bytes of content.
    pub size: u64,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accessed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Permission bits, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

impl EntryJson {
    /// The entry at `path`. Its content is only read to find the target of a link.
    pub fn new(image: &Littlefs, path: &[u8], metadata: &Metadata) -> Self {
        let time = |time: Option<std::time::SystemTime>| time.map(|time| date::utc(nanos(time)));
        let target = metadata.is_symlink().then(|| image.read(path).ok()).flatten();
        let shown = [b"/", path].concat();
        Self {
            path: text(&shown),
            path_base64: base64(&shown),
            r#type: type_name(metadata.file_type()),
            size: metadata.len(),
            target: target.as_deref().map(text),
            target_base64: target.as_deref().and_then(base64),
            modified: time(metadata.modified()),
            accessed: time(metadata.accessed()),
            changed: time(metadata.changed()),
            created: time(metadata.created()),
            mode: metadata.permissions().map(|mode| format!("{mode:04o}")),
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }
}

/// Bytes as text; bytes that are not UTF-8 are replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bytes in base64 if they are not UTF-8, so that nothing is lost; otherwise `None`.
pub fn base64(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes))
}

/// The name of a type of entry in JSON.
pub fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::File => "file",
        FileType::Dir => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::BlockDevice => "block-device",
        FileType::CharDevice => "char-device",
    }
}

/// How content is stored, in one word.
pub fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::Inline => "inline",
        Storage::List { .. } => "blocks",
        Storage::Pairs { .. } => "pairs",
    }
}

/// Type and permissions in the form of `ls -l`: `-rw-r--r--`. Permissions that the image does not
/// store are question marks.
pub fn mode_string(metadata: &Metadata) -> String {
    let kind = match metadata.file_type() {
        FileType::File => '-',
        FileType::Dir => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::BlockDevice => 'b',
        FileType::CharDevice => 'c',
    };
    let Some(mode) = metadata.permissions() else { return format!("{kind}?????????") };
    let mut out = String::from(kind);
    for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => set,
            (false, true) => set.to_ascii_uppercase(),
        });
    }
    out
}
