//! The processes that serve a mount, as other processes see them: this finds them, watches them and
//! waits for them, without sending them a request.
//!
//! A daemon is found by the connection that its descriptor of /dev/fuse serves. The kernel shows
//! this in `/proc/PID/fdinfo/FD`. Nothing that the mount or its daemon says about itself is
//! trusted.
//!
//! A daemon that has been told to end may need time, because its last flush may write to a slow
//! card. So the caller waits as long as the daemon makes progress. Progress is any change in
//!
//! - the processor time it has used (`/proc/PID/stat`),
//! - the bytes that it has read and written (`/proc/PID/io`),
//! - the requests that have been completed by the disks which hold its open files
//!   (`/sys/dev/block/*/stat`). They count only while one of its threads waits for storage (state
//!   D): a single fdatasync(2) may take minutes.
//!
//! A process that is stopped, hangs in a lock, or waits for a server that is gone shows none of
//! these.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

/// How often the progress of a daemon is checked.
const INTERVAL: Duration = Duration::from_millis(100);
/// A daemon of another user could pretend to make progress for ever. So the longest wait for it is
/// this many times the wait for a daemon without progress.
const OTHERS_SHARE: u32 = 10;

/// A process that serves a FUSE connection.
pub struct Daemon {
    /// Its process id.
    pub pid: i32,
    /// The name of its program; the process can choose any name.
    pub name: String,
    /// Readable once the process has ended.
    process: File,
    /// The number of its descriptor of the FUSE device.
    device: i32,
    /// The connection; `None` if the kernel does not show it.
    connection: Option<u64>,
    /// Whether it belongs to root or to the user of this process.
    is_trusted: bool,
}

impl Daemon {
    /// The processes that serve the filesystem with this device number (in the form of
    /// [`connection_of`]), as far as this process can see them. It does not see processes in other
    /// containers, and ordinary users do not see those of other users.
    pub fn serving(connection: u64) -> Vec<Self> {
        let own = processes().filter(|&pid| pid.cast_unsigned() != std::process::id());
        let mut daemons: Vec<Self> =
            own.filter_map(|pid| Self::open(pid, Some(connection))).collect();
        // The number of a connection is used again when its filesystem is gone, although its
        // daemon may still be there, for example because it was stopped.
        let states: Vec<_> = match daemons.len() {
            0 | 1 => Vec::new(),
            _ => daemons.iter().map(Self::is_connected).collect(),
        };
        if states.contains(&Some(true)) {
            let mut states = states.into_iter();
            daemons.retain(|_| states.next() != Some(Some(false)));
        }
        daemons
    }

    /// The process `pid`, which the mount names as its daemon. This is for kernels that do not show
    /// connections. It is accepted if it has the FUSE device open.
    pub fn named(pid: i32) -> Option<Self> {
        is_proc_ours().then(|| Self::open(pid, None)).flatten()
    }

    fn open(pid: i32, connection: Option<u64>) -> Option<Self> {
        device_of(pid, connection)?;
        let process = sys::process(pid).ok()?;
        // Check again, now that the process number cannot be reused by another process.
        let device = device_of(pid, connection)?;
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_trusted = [Some(0), Some(sys::effective_uid())].contains(&effective_uid(pid));
        let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
        Some(Self { pid, name, process, device, connection, is_trusted })
    }

    /// Whether its filesystem still exists, because another mount of it is left. `None` if that
    /// cannot be found out.
    pub fn is_connected(&self) -> Option<bool> {
        let device = sys::take_descriptor(self.pid, self.device).ok()?;
        // A daemon that is about to end may have closed the descriptor, and its number may belong
        // to another file.
        let own = std::process::id().cast_signed();
        let is_device = serves(own, device.as_raw_fd(), self.connection);
        is_device.then(|| !sys::is_disconnected(device.as_fd()))
    }

    /// Whether it has the file with this `sys::identity` open.
    pub fn has_open(&self, file: (u64, u64)) -> bool {
        descriptors(self.pid).any(|fd| {
            sys::identity(&Path::new("/proc").join(format!("{}/fd/{fd}", self.pid)))
                .is_ok_and(|identity| identity == file)
        })
    }

    /// Its table of mounts, which differs from ours in another mount namespace.
    pub fn mount_table(&self) -> PathBuf {
        format!("/proc/{}/mountinfo", self.pid).into()
    }

    /// Wait until it has ended, as long as it makes progress, and for `patience` after the last
    /// progress. Returns whether it has ended.
    #[must_use]
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        // Wait for the end of the process, not for the end of the connection: the daemon closes its
        // device before its last flush.
        wait_for(self.process.as_fd(), std::slice::from_ref(self), patience)
    }

    /// Whether it is stopped, for example by SIGSTOP or a debugger.
    pub fn is_stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| matches!(stat_fields(&stat).next(), Some("T" | "t")))
    }
}

/// Wait until `fd` can be read, as long as one of `daemons` makes progress, and for `patience`
/// after the last progress. Returns whether it can be read.
#[must_use]
pub fn wait_for(fd: BorrowedFd<'_>, daemons: &[Daemon], patience: Duration) -> bool {
    let end = (daemons.iter().any(|daemon| !daemon.is_trusted))
        .then(|| Instant::now() + patience * OTHERS_SHARE);
    let mut since = Instant::now();
    // Usually the wait is over before there is any progress to watch.
    if sys::is_readable_within(fd, INTERVAL.min(patience)) {
        return true;
    }
    let seen = || daemons.iter().map(|daemon| Work::of(daemon.pid)).collect::<Vec<_>>();
    let mut last = seen();
    loop {
        let left = patience.saturating_sub(since.elapsed());
        if sys::is_readable_within(fd, INTERVAL.min(left)) {
            return true;
        }
        let now = seen();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() >= patience || end.is_some_and(|end| Instant::now() >= end) {
            return false;
        }
    }
}

/// The work that a process has done so far; see the module. A number that cannot be read counts as
/// unchanged.
#[derive(PartialEq, Eq)]
struct Work {
    ticks: u64,
    io: String,
    storage: u64,
}

impl Work {
    fn of(pid: i32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // utime and stime. Fields are counted from the state, which is field 0 here.
        let ticks = stat_fields(&stat).skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
        Self {
            ticks: ticks.sum(),
            io: fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default(),
            storage: if waits_for_storage(pid) { storage_work(pid) } else { 0 },
        }
    }
}

/// The fields of `/proc/PID/stat` from the state on. (The name before the state may contain
/// anything.)
fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

/// The user as which a process acts. The owner of its directory in /proc is not used, because a
/// process can make root appear there.
fn effective_uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    value_of(&status, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

fn waits_for_storage(pid: i32) -> bool {
    numbers(&format!("/proc/{pid}/task")).any(|thread| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"))
            .is_ok_and(|stat| stat_fields(&stat).next() == Some("D"))
    })
}

/// How many requests were completed by the disks that hold the open files of a process, and by the
/// disks that it has open itself.
fn storage_work(pid: i32) -> u64 {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mounts: HashMap<&str, Vec<&str>> = table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter_map(|fields| Some((*fields.first()?, fields)))
        .collect();
    let mut disks = BTreeSet::new();
    for fd in descriptors(pid) {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let on = value_of(&info, "mnt_id:").and_then(|id| mounts.get(id));
        disks.extend(on.and_then(|fields| Some((*fields.get(2)?).to_owned())));
        // btrfs and similar filesystems have device numbers of their own; the mount table names the
        // disk.
        let source = on.and_then(|fields| {
            fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 2))
        });
        disks.extend(source.and_then(|source| block_device(Path::new(source))));
        let opened = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        disks.extend(opened.ok().and_then(|path| block_device(&path)));
    }
    let completed = |disk: &String| {
        let stat = fs::read_to_string(format!("/sys/dev/block/{disk}/stat")).unwrap_or_default();
        let fields: Vec<u64> = stat.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // Reads, writes, and (since kernel 5.5) flushes.
        [0, 4, 15].iter().filter_map(|&i| fields.get(i)).sum::<u64>()
    };
    disks.iter().map(completed).sum()
}

/// `major:minor` of a block device below /dev. Only paths below /dev are looked at, because another
/// filesystem could hang.
fn block_device(path: &Path) -> Option<String> {
    let meta = path.starts_with("/dev").then(|| fs::symlink_metadata(path).ok()).flatten()?;
    let device = meta.file_type().is_block_device().then(|| meta.rdev())?;
    Some(format!("{}:{}", libc::major(device), libc::minor(device)))
}

/// The connection of the filesystem whose device number is `major:minor`, as `fdinfo` writes it.
pub fn connection_of(major: u64, minor: u64) -> u64 {
    major << 20 | minor
}

/// The number of a descriptor of the FUSE device in a process. If `connection` is given, the
/// descriptor serves it.
fn device_of(pid: i32, connection: Option<u64>) -> Option<i32> {
    descriptors(pid).find(|&fd| serves(pid, fd, connection))
}

/// Whether a descriptor of a process refers to the FUSE device. If `connection` is given, it must
/// also serve it.
fn serves(pid: i32, fd: i32, connection: Option<u64>) -> bool {
    // In another mount namespace, the path may differ, but the name is the same.
    let is_fuse = fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .is_ok_and(|path| path.file_name().is_some_and(|name| name == "fuse"));
    let serves_it = |connection: u64| {
        fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))
            .is_ok_and(|info| value_of(&info, "fuse_connection:") == Some(&connection.to_string()))
    };
    is_fuse && connection.is_none_or(serves_it)
}

/// The value of a line of `fdinfo`.
fn value_of<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The processes in /proc, if /proc shows the PID namespace of this process.
fn processes() -> impl Iterator<Item = i32> {
    let shown = is_proc_ours().then(|| numbers("/proc"));
    shown.into_iter().flatten()
}

/// Whether /proc shows the PID namespace of this process. After 'umount -N', it may show another
/// one.
fn is_proc_ours() -> bool {
    fs::read_link("/proc/self")
        .is_ok_and(|link| link.to_str() == Some(&std::process::id().to_string()))
}

/// The numbers of its descriptors, as far as this process may see them.
pub(super) fn descriptors(pid: i32) -> impl Iterator<Item = i32> {
    numbers(&format!("/proc/{pid}/fd"))
}

/// The entries of a directory that are numbers.
fn numbers(dir: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(400);

    /// A process that stands for a daemon. It ends with the test.
    struct Process(Child);

    impl Process {
        fn new(script: &str) -> (Self, Daemon) {
            let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn();
            let child = child.expect("sh should start");
            let pid = child.id().cast_signed();
            let daemon = Daemon {
                pid,
                name: "sh".to_owned(),
                process: sys::process(pid).expect("pidfd"),
                device: 0,
                connection: None,
                is_trusted: true,
            };
            (Self(child), daemon)
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn waited(daemon: &Daemon) -> (bool, Duration) {
        let start = Instant::now();
        let daemons = std::slice::from_ref(daemon);
        (wait_for(daemon.process.as_fd(), daemons, PATIENCE), start.elapsed())
    }

    #[test]
    fn an_idle_daemon_is_given_up() {
        let (_process, daemon) = Process::new("read line");
        let (ended, took) = waited(&daemon);
        assert!(!ended && took >= PATIENCE, "{took:?}");
        assert!(!daemon.is_stopped());
        sys::kill(daemon.pid, libc::SIGSTOP).expect("kill");
        let end = Instant::now() + Duration::from_secs(30);
        while !daemon.is_stopped() && Instant::now() < end {}
        assert!(!waited(&daemon).0 && daemon.is_stopped());
    }

    #[test]
    fn a_working_daemon_is_awaited_until_it_ends() {
        // It writes now and then, or computes, for longer than the patience. Then it ends.
        for work in [
            "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo >/dev/null; done",
            "i=0; while [ $i -lt 1000000 ]; do i=$((i + 1)); done",
        ] {
            let (_process, daemon) = Process::new(work);
            assert!(waited(&daemon).0, "{work}");
        }
    }

    #[test]
    fn a_daemon_of_another_user_is_not_awaited_for_ever() {
        let (_process, mut daemon) = Process::new("while :; do :; done");
        daemon.is_trusted = false;
        let (ended, took) = waited(&daemon);
        assert!(!ended && took >= PATIENCE * OTHERS_SHARE, "{took:?}");
    }

    #[test]
    fn fields_and_values_are_found() {
        let stat = "7 (a) b) T 1 2 3 4 5 6 7 8 9 10 11 12 13";
        assert_eq!(stat_fields(stat).next(), Some("T"));
        assert_eq!(stat_fields("odd").next(), None);
        let info = "pos:\t0\nmnt_id:\t24\nfuse_connection:\t39\n";
        assert_eq!(value_of(info, "fuse_connection:"), Some("39"));
        assert_eq!(value_of(info, "ino:"), None);
        assert_eq!(connection_of(0, 39), 39);
        assert_eq!(connection_of(259, 5), 0x1030_0005);
    }

    #[test]
    fn open_files_are_recognised() {
        let (_process, daemon) = Process::new("exec 3</dev/null; read line");
        let own = sys::identity(Path::new("/dev/null")).expect("statx");
        let end = Instant::now() + Duration::from_secs(30);
        while !daemon.has_open(own) {
            assert!(Instant::now() < end, "never opened");
        }
        assert!(!daemon.has_open(sys::identity(Path::new("/dev/zero")).expect("statx")));
    }
}
