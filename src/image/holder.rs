//! Locks on images and journals, and which process holds one.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use crate::show::Show;

/// How many times the list of all locks is read before the search ends without a result.
const LOOKS: u32 = 5;

/// After each change, udev reads a block device for a moment and holds its lock.
const DEVICE_LOCK_TRIES: u32 = 20;
/// A lock without a known holder is usually released soon: a program that this process or another
/// one is starting holds it for a moment. Then the kernel names the process that took the lock,
/// although that process has closed the file.
const FILE_LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a file cannot be locked.
pub(crate) enum LockError {
    /// Another process holds the lock, which is named here if it is known.
    Held(Option<Holder>),
    /// The system failed.
    Io(io::Error),
}

/// Lock a file or device, exclusively or together with others, and be patient with locks that are
/// usually released soon.
///
/// # Errors
/// If another process holds the lock, or the system fails.
pub(crate) fn lock(file: &File, exclusive: bool, is_device: bool) -> Result<(), LockError> {
    let mut tries = if is_device { DEVICE_LOCK_TRIES } else { FILE_LOCK_TRIES };
    loop {
        match if exclusive { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(LockError::Io(e)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = holder(file);
        let is_another = holder.as_ref().is_some_and(|holder| holder.pid != std::process::id());
        tries -= 1;
        if tries == 0 || (is_another && !is_device) {
            return Err(LockError::Held(holder));
        }
        thread::sleep(LOCK_PAUSE);
    }
}

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

/// Says that a process, which is named if it is known, uses a file, and what to do about it.
pub(crate) struct InUse<'a>(pub Option<&'a Holder>);

impl fmt::Display for InUse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("in use by ")?;
        match self.0 {
            Some(holder) => holder.fmt(f)?,
            None => f.write_str("another mount or tool")?,
        }
        f.write_str(
            "; if that is a mount, unmount it first ('littlefs umount IMAGE'), and otherwise wait \
             until it ends",
        )
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

    /// As between fork(2) and execve(2), when a thread of this process starts a program.
    #[test]
    fn a_program_that_inherits_a_lock_for_a_moment_is_waited_for() {
        let named = tempfile::NamedTempFile::new().expect("temporary file");
        let open = || File::options().write(true).open(named.path()).expect("open");
        let locked = open();
        locked.try_lock().expect("lock");
        rustix::io::fcntl_setfd(&locked, rustix::io::FdFlags::empty()).expect("fcntl");
        let mut child = std::process::Command::new("sleep").arg("0.1").spawn().expect("sleep");
        drop(locked);
        let again = open();
        assert!(again.try_lock().is_err(), "the program still has it");
        assert!(lock(&again, true, false).is_ok());
        child.wait().expect("its end");
    }

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
