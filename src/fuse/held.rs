//! Where the files of a mount are now: somebody may have removed or renamed the image or the
//! journal while it was mounted.
//!
//! A daemon locks its image and its journal, and the kernel shows in `/proc/PID/fdinfo/FD` which
//! descriptor holds a lock. The daemon is not asked, and no file is opened.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::daemon::{Daemon, descriptors};
use crate::show::Show;
use crate::sys;

/// The kernel adds this to the last path of a file if that path no longer leads to the file.
const DELETED: &[u8] = b" (deleted)";

/// An image or a journal that is no longer at its path.
#[derive(Debug, PartialEq, Eq)]
pub struct Stray {
    /// The descriptor of the daemon that refers to the file; other programs can open this path.
    pub descriptor: PathBuf,
    /// Whether it is the journal.
    pub is_journal: bool,
    /// Whether the mount is writable. Then the unmount of a file without a name loses changes.
    pub writes: bool,
    /// Where it is now.
    pub now: Now,
}

/// Where a file is now.
#[derive(Debug, PartialEq, Eq)]
pub enum Now {
    /// It was deleted, or another file was renamed to its path. It has no name any more, and is
    /// gone when the daemon ends.
    Nowhere,
    /// It was renamed to this path.
    At(PathBuf),
    /// It has a name, but the kernel does not show which.
    Somewhere,
}

/// A file that a daemon has locked.
struct Locked {
    descriptor: PathBuf,
    identity: (u64, u64),
    names: u32,
    is_exclusive: bool,
}

impl Stray {
    /// The files of a daemon that are no longer at one of `paths`, the paths of its image and its
    /// journal.
    pub fn of(daemon: &Daemon, paths: &[&Path]) -> Vec<Self> {
        let locked: Vec<Locked> =
            descriptors(daemon.pid).filter_map(|fd| Locked::find(daemon.pid, fd)).collect();
        let at: Vec<_> = paths.iter().filter_map(|path| sys::identity(path).ok()).collect();
        let stray = locked.iter().filter(|file| file.names == 0 || !at.contains(&file.identity));
        stray.filter_map(|file| file.stray(paths, &locked)).collect()
    }
}

impl Locked {
    /// The plain file of a descriptor, if the descriptor holds a lock.
    fn find(pid: i32, fd: i32) -> Option<Self> {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let lock = info.lines().find(|line| line.starts_with("lock:") && line.contains("FLOCK"))?;
        let descriptor = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
        let names = sys::link_count(&descriptor).ok()??;
        let identity = sys::identity(&descriptor).ok()?;
        Some(Self { descriptor, identity, names, is_exclusive: lock.contains("WRITE") })
    }

    /// Describe a file that is at none of `paths`; `all` are all files of the mount. `None` if the
    /// kernel shows one of `paths` as its path.
    fn stray(&self, paths: &[&Path], all: &[Self]) -> Option<Stray> {
        let link = fs::read_link(&self.descriptor).ok()?;
        let former = link.as_os_str().as_bytes().strip_suffix(DELETED);
        let path = former.map_or(&*link, |former| Path::new(OsStr::from_bytes(former)));
        let now = match (self.names, former) {
            (0, _) => Now::Nowhere,
            (_, None) if paths.contains(&path) => return None,
            (_, None) => Now::At(link.clone()),
            (_, Some(_)) => Now::Somewhere,
        };
        // with a journal, the image is locked only for reading
        let is_journal = match self.is_exclusive {
            true => all.iter().any(|file| !file.is_exclusive),
            false => paths.first().is_none_or(|image| *image != path),
        };
        let writes = all.iter().any(|file| file.is_exclusive);
        Some(Stray { descriptor: self.descriptor.clone(), is_journal, writes, now })
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.now {
            Now::Nowhere => f.write_str("deleted or replaced by another file"),
            Now::At(path) => write!(f, "moved to {}", path.show()),
            Now::Somewhere => f.write_str("moved to an unknown path"),
        }
    }
}
