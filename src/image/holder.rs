//! Which process holds the lock on an image.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::show::Show;

/// How many times the list of all locks is read before the search ends without a result.
const LOOKS: u32 = 5;

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name.show())
    }
}

/// The process that holds a flock(2) on the file, if it can be found. It cannot be found if it is
/// in another container, or if the filesystem reports another device number than the kernel uses
/// for locks.
pub fn holder(file: &File) -> Option<Holder> {
    let meta = file.metadata().ok()?;
    let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    // The kernel returns the list in pieces, and lines can be lost if the list changes in between.
    let look = |_| find(&fs::read_to_string("/proc/locks").ok()?, &file);
    let pid = (0..LOOKS).find_map(look)?;
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder { pid, name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned() })
}

/// Find the process in lines like `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`. The line of a
/// process that waits for the lock contains `->`.
fn find(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, held, ..] if held == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_waiting_processes() {
        let locks = "1: -> FLOCK  ADVISORY  WRITE 7 fe:00:12 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 8 fe:00:12 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 9 fe:00:123 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 10 fe:00:12 0 EOF\n";
        assert_eq!(find(locks, "fe:00:12"), Some(10));
        assert_eq!(find(locks, "fe:01:12"), None);
        assert_eq!(find("\n1:", "fe:01:12"), None);
    }
}
