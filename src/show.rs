//! Showing names and paths to people, and in logs.
//!
//! A name may hold any byte except NUL and `/`. Printed directly, it could control a terminal,
//! change the direction of the text around it, or end a line and begin a forged one. Everything
//! that is printed for people goes through here; JSON has its own escapes.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Text from an untrusted source that must be shown to people safely.
pub trait Show {
    /// Displays only visible characters: control characters, and bytes that are not UTF-8, are
    /// escaped as in a Rust string, like `\n`, `\u{1b}` and `\xff`.
    fn show(&self) -> Shown<'_>;
}

/// Displays bytes safely.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(&'a [u8]);

impl Show for [u8] {
    fn show(&self) -> Shown<'_> {
        Shown(self)
    }
}

impl Show for str {
    fn show(&self) -> Shown<'_> {
        Shown(self.as_bytes())
    }
}

impl Show for OsStr {
    fn show(&self) -> Shown<'_> {
        Shown(self.as_bytes())
    }
}

impl Show for Path {
    fn show(&self) -> Shown<'_> {
        Shown(self.as_os_str().as_bytes())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_harmless(c) { f.write_char(c)? } else { c.escape_default().fmt(f)? }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// If a path is longer than about this many bytes, reports show only its end. Directories can be
/// nested thousands of levels deep. If every path were shown in full, the report would grow with
/// the square of the depth.
const SHOWN_MAX: usize = 400;

/// A path for a report, made from its names, the last one first. If the path is long, only its last
/// names are shown, about 400 bytes, after `.../`.
pub fn path_from_end<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut len = 0;
    for name in names {
        if len >= SHOWN_MAX {
            parts.push(b"...");
            break;
        }
        len += name.len() + 1;
        parts.push(name);
    }
    parts.reverse();
    match parts[..] {
        // the root has an empty name
        [b""] => b"/".to_vec(),
        _ => parts.join(&b'/'),
    }
}

/// A number, followed by the word for one thing or for several.
pub fn count(number: impl TryInto<u64>, one: &str, several: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A number of bytes, in words.
pub fn bytes(number: impl TryInto<u64>) -> String {
    count(number, "byte", "bytes")
}

/// A number of blocks, in words.
#[cfg(feature = "inspect")]
pub fn blocks(number: impl TryInto<u64>) -> String {
    count(number, "block", "blocks")
}

/// A number of files, in words.
#[cfg(feature = "transfer")]
pub fn files(number: u64) -> String {
    count(number, "file", "files")
}

/// A number of directories, in words.
#[cfg(feature = "transfer")]
pub fn directories(number: u64) -> String {
    count(number, "directory", "directories")
}

/// Why the system refused something, as a part of a sentence, such as "no such file or directory".
pub fn cause(e: &io::Error) -> String {
    let text = e.to_string();
    let Some(errno) = e.raw_os_error() else { return text };
    // the number of an error says nothing to people
    let end = format!(" (os error {errno})");
    let mut chars = text.strip_suffix(&end).unwrap_or(&text).chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

/// Whether a terminal only draws this character: it is no command, and does not change the order of
/// the text.
fn is_harmless(c: char) -> bool {
    let changes_order = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !c.is_control() && !changes_order
}

/// A whole message, which may have several lines, made safe line by line.
#[cfg(feature = "cli")]
pub fn message(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            shown.push('\n');
        }
        // writing to a string does not fail
        let _ = write!(shown, "{}", line.show());
    }
    shown
}

/// The bytes of a name for JSON, in base64, if the name is not UTF-8.
#[cfg(feature = "serde")]
pub fn base64_unless_text(name: &[u8]) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    std::str::from_utf8(name).is_err().then(|| STANDARD.encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_no_numbers() {
        for (e, shown) in [
            (io::Error::from_raw_os_error(libc::ENOENT), "no such file or directory"),
            (io::Error::from_raw_os_error(libc::EACCES), "permission denied"),
            (io::Error::other("Its own text"), "Its own text"),
        ] {
            assert_eq!(cause(&e), shown);
        }
    }

    #[test]
    fn only_visible_characters_are_left() {
        for (name, shown) in [
            (&b"/srv/my image.bin"[..], "/srv/my image.bin"),
            ("grün 雪".as_bytes(), "grün 雪"),
            (b"a\nlittlefs: b\tc\0", "a\\nlittlefs: b\\tc\\u{0}"),
            (b"\x1b[31m\x7f", "\\u{1b}[31m\\u{7f}"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("gpj.\u{202e}exe\u{2066}".as_bytes(), "gpj.\\u{202e}exe\\u{2066}"),
            (b"\xffa\xc3", "\\xffa\\xc3"),
        ] {
            assert_eq!(name.show().to_string(), shown);
        }
        #[cfg(feature = "cli")]
        assert_eq!(message("one\ntwo\r\x1b\n"), "one\ntwo\\r\\u{1b}\n");
        #[cfg(feature = "serde")]
        assert_eq!(base64_unless_text(b"text"), None);
        #[cfg(feature = "serde")]
        assert_eq!(base64_unless_text(b"\xff").as_deref(), Some("/w=="));
    }
}
