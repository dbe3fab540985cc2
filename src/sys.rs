//! System calls that the standard library does not have: in the safe form of rustix where there is
//! one, otherwise those of the C library. This is the only place with `unsafe`.
//!
//! rustix is used rather than nix, because nix lacks most of what is needed here: statx, pidfds,
//! and vectored reads with flags. What remains for the C library are the system log, signals with
//! information about their sender, and calls between fork and exec; for these, nix would replace
//! only the masks of signals.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSliceMut, PipeReader};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Advice, AtFlags, FileType, MemfdFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions,
};
use rustix::thread::LinkNameSpaceType;

/// Which side of a [`fork`] this is.
pub enum Fork {
    /// The parent, with the child's process id.
    Parent(i32),
    /// The child.
    Child,
}

/// Severity of a [`syslog`] message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something failed.
    Error,
    /// Something is suspicious.
    Warning,
    /// Information only.
    Info,
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A process number. 0 and negative numbers mean groups of processes, and are refused.
fn pid_of(number: i32) -> io::Result<Pid> {
    let pid = if number > 0 { Pid::from_raw(number) } else { None };
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The group this process acts as.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// The file mode creation mask of the process. If /proc does not show it, this is a mask that gives
/// nobody else access. The only other way to read the mask would change it for a moment, for all
/// threads.
pub fn umask() -> u16 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u16::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077) & 0o777
}

/// Make future threads share one heap. Otherwise each thread has its own heap, which keeps the
/// memory that this thread allocated and other threads freed. In the end, the heaps are many times
/// as large as the memory in use.
pub fn share_heap() {
    // SAFETY: this only sets a number in the C library, and has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Write back everything cached for the filesystem that holds `file`, and wait for it.
///
/// # Errors
/// The errors of the system.
pub fn syncfs(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Fill `parts`, one after the other, from byte `offset` of `file`; with `now`, only from the page
/// cache. Returns the number of bytes read.
///
/// # Errors
/// The errors of the system: with `now`, EAGAIN if the read would have to wait for storage, and
/// EOPNOTSUPP if the filesystem does not support this.
pub fn read_parts(
    file: &File,
    offset: u64,
    parts: &mut [IoSliceMut<'_>],
    now: bool,
) -> io::Result<usize> {
    let flags = if now { ReadWriteFlags::NOWAIT } else { ReadWriteFlags::empty() };
    Ok(rustix::io::preadv2(file, parts, offset, flags)?)
}

/// Tell the system that `len` bytes from `offset` of `file` will be read; only a hint. A length of
/// 0 means everything up to the end.
pub fn will_read(file: &File, offset: u64, len: u64) {
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), Advice::WillNeed);
}

/// How many processors are in use by the system; at least one.
#[cfg(feature = "mount")]
pub fn processors() -> u32 {
    // SAFETY: the call only returns a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// Whether a read from `fd` would return at once, with data or an error.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    is_readable_within(fd, Duration::ZERO)
}

/// Like [`is_readable`], but wait for up to `limit`. A signal may end the wait early.
pub fn is_readable_within(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    !poll(fd, limit).is_empty()
}

/// Whether the other side of `fd` is gone; for a FUSE device, whether its filesystem has ended.
pub fn is_disconnected(fd: BorrowedFd<'_>) -> bool {
    poll(fd, Duration::ZERO).contains(PollFlags::ERR)
}

/// The events that poll(2) reports for `fd`; none if nothing happens within `limit`.
fn poll(fd: BorrowedFd<'_>, limit: Duration) -> PollFlags {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    // If the limit is too long for the kernel, wait without a limit.
    let limit = Timespec::try_from(limit).ok();
    match rustix::event::poll(&mut polled, limit.as_ref()) {
        Ok(_) => polled[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nobody uses the filesystem.
    Unused,
    /// Take the filesystem out of the tree now, and end it when nobody uses it any more.
    Lazily,
    /// First, all requests to the daemon of the filesystem fail, and the daemon gets no more
    /// requests. Then unmount, but only if nobody uses the filesystem.
    ByForce,
}

/// Unmount the filesystem that is mounted on `path`.
///
/// # Errors
/// The errors of the system: EPERM for ordinary users, EBUSY while somebody uses the filesystem.
pub fn unmount(path: &Path, how: Unmount) -> io::Result<()> {
    let how = match how {
        Unmount::Unused => UnmountFlags::empty(),
        Unmount::Lazily => UnmountFlags::DETACH,
        Unmount::ByForce => UnmountFlags::FORCE,
    };
    Ok(rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | how)?)
}

/// Mount a FUSE filesystem, or change the mount that is there.
///
/// # Errors
/// The errors of the system.
pub fn mount(source: &Path, target: &Path, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let flags = u32::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    let data = CString::new(data)?;
    let flags = MountFlags::from_bits_retain(flags);
    Ok(rustix::mount::mount(source, target, c"fuse", flags, data.as_c_str())?)
}

/// Enter the mount namespace from which `namespace` was opened. This must be called before any
/// thread is started.
///
/// # Errors
/// The errors of the system.
pub fn enter_mount_namespace(namespace: &File) -> io::Result<()> {
    let mount = Some(LinkNameSpaceType::Mount);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), mount)?)
}

/// An anonymous file in memory that shows as `/memfd:NAME` in /proc.
///
/// # Errors
/// The errors of the system.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// A descriptor of a process. It becomes readable when the process has ended.
///
/// # Errors
/// The errors of the system.
pub fn process(pid: i32) -> io::Result<File> {
    Ok(rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::empty())?.into())
}

/// A copy of the descriptor `fd` of another process; only root may take one.
///
/// # Errors
/// The errors of the system.
pub fn take_descriptor(pid: i32, fd: i32) -> io::Result<File> {
    Ok(rustix::process::pidfd_getfd(process(pid)?, fd, PidfdGetfdFlags::empty())?.into())
}

/// Bytes of the answer to [`STATUS_REQUEST`]. Every kernel accepts this size in an ioctl.
pub const STATUS_SIZE: usize = 8191;
/// The ioctl that asks a littlefs mount for its state.
pub const STATUS_REQUEST: libc::Ioctl = libc::_IOR::<[u8; STATUS_SIZE]>(b'l' as u32, 0xf5);

/// Ask the mount that `file` is on for its state. The answer is JSON.
///
/// # Errors
/// The errors of the system: ENOTTY if no daemon of this program answers.
pub fn status(file: &File) -> io::Result<Vec<u8>> {
    let mut answer = vec![0_u8; STATUS_SIZE];
    // SAFETY: the descriptor is open for the whole call. The call writes at most as many bytes as
    // the request says, and the buffer has that many.
    let len = unsafe { libc::ioctl(file.as_raw_fd(), STATUS_REQUEST, answer.as_mut_ptr()) };
    answer.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    Ok(answer)
}

/// The ioctl that asks the daemon of a read-only mount to allow changes from now on. The answer is
/// empty if it does, and otherwise a sentence that says why it cannot.
pub const WRITE_REQUEST: libc::Ioctl = libc::_IOR::<[u8; WRITE_SIZE]>(b'l' as u32, 0xf6);
/// Bytes of the answer to [`WRITE_REQUEST`], at most.
pub const WRITE_SIZE: usize = 1024;

/// Ask the daemon of the mount that `file` is on to allow changes from now on. Returns `None` if it
/// does, and otherwise why it cannot.
///
/// # Errors
/// The errors of the system: ENOTTY if the daemon does not know the request.
pub fn become_writable(file: &File) -> io::Result<Option<String>> {
    let mut answer = vec![0_u8; WRITE_SIZE];
    // SAFETY: as in `status`.
    let len = unsafe { libc::ioctl(file.as_raw_fd(), WRITE_REQUEST, answer.as_mut_ptr()) };
    answer.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    let why = String::from_utf8_lossy(&answer).into_owned();
    Ok(Some(why).filter(|why| !why.is_empty()))
}

/// The identity of a file: the number of its filesystem's device, and its inode number. For a block
/// device, it is the number of that device. This uses only what the kernel has in memory, so it
/// never waits, whatever filesystem `path` is on.
///
/// # Errors
/// The errors of the system.
pub fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let (flags, mask) = (AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO);
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, mask)?;
    if FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice {
        // No filesystem has this device number, so this is not the identity of any other file.
        return Ok((u64::MAX, libc::makedev(found.stx_rdev_major, found.stx_rdev_minor)));
    }
    Ok((libc::makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

/// How many names a plain file has; `None` for other files. Like [`identity`], this never waits.
///
/// # Errors
/// The errors of the system.
pub fn link_count(path: &Path) -> io::Result<Option<u32>> {
    let (flags, mask) = (AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::NLINK);
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, mask)?;
    let is_plain = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile;
    Ok(is_plain.then_some(found.stx_nlink))
}

/// Fork a process that keeps none of the parent's files open, so that nobody has to wait until it
/// ends. The parent gets its process number, and a pipe from which its standard output can be read.
/// The child gets `None`, and must not use any open file of the parent. This must be called while
/// there is only one thread.
///
/// # Errors
/// The errors of the system, in the parent.
pub fn fork_apart() -> io::Result<Option<(i32, PipeReader)>> {
    let (reader, writer) = io::pipe()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    if let Fork::Parent(pid) = fork()? {
        return Ok(Some((pid, reader)));
    }
    let detached = new_session()
        .and_then(|()| Ok(rustix::stdio::dup2_stdin(&null)?))
        .and_then(|()| Ok(rustix::stdio::dup2_stderr(&null)?))
        .and_then(|()| Ok(rustix::stdio::dup2_stdout(&writer)?));
    // The files of the parent are closed below; they must not be closed a second time.
    std::mem::forget((reader, writer, null));
    // SAFETY: nobody in this process uses the descriptors that are closed; see above.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if detached.is_err() || closed < 0 {
        // This process cannot report the error; the parent notices that there is no answer.
        std::process::exit(1);
    }
    Ok(None)
}

/// Send a signal to a process.
///
/// # Errors
/// The errors of the system.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(pid_of(pid)?, signal)?)
}

/// Ask the filesystem at `path` for its free space. The answer never comes from a cache.
///
/// # Errors
/// The errors of the system: ENOTCONN on a FUSE mount whose daemon is gone.
pub fn statfs(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::statfs(path).map(drop)?)
}

/// Fork the process. This must be called before any thread is started.
///
/// # Errors
/// The errors of the system.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the program is single-threaded here, so the child may do anything.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => check(pid).map(|()| Fork::Parent(pid)),
    }
}

/// Make the program that `command` starts get SIGTERM when the thread that starts it ends.
pub fn end_with_parent(command: &mut Command) {
    let parent = Pid::from_raw(std::process::id().cast_signed());
    // SAFETY: between fork and exec only prctl and getppid are called, which are safe there.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            // the parent may have ended already
            if rustix::process::getppid() == parent { Ok(()) } else { Err(Errno::SRCH.into()) }
        });
    }
}

/// Wait until a child process has ended, without reaping it, so that its process number cannot be
/// reused yet.
///
/// # Errors
/// The errors of the system.
pub fn wait_for_end(child: &Child) -> io::Result<()> {
    let id = WaitId::Pid(pid_of(child.id().cast_signed())?);
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    retry_on_intr(|| rustix::process::waitid(id.clone(), how))?;
    Ok(())
}

/// Wait for the end of a child process.
///
/// # Errors
/// The errors of the system.
pub fn wait_for(pid: i32) -> io::Result<ExitStatus> {
    let pid = pid_of(pid)?;
    let ended = retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
    // Without NOHANG there always is a status.
    let (_, status) = ended.ok_or(Errno::CHILD)?;
    Ok(ExitStatus::from_raw(status.as_raw()))
}

/// Leave the terminal and process group of the caller.
///
/// # Errors
/// The errors of the system.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Send a line to the system's log.
pub fn syslog(severity: Severity, message: &str) {
    const IDENT: &CStr = c"littlefs";
    const FORMAT: &CStr = c"%s";
    let Ok(message) = CString::new(message.replace('\0', " ")) else { return };
    let priority = match severity {
        Severity::Error => libc::LOG_ERR,
        Severity::Warning => libc::LOG_WARNING,
        Severity::Info => libc::LOG_INFO,
    };
    // SAFETY: openlog keeps the pointer to IDENT, which is static; FORMAT takes one string, and
    // `message` is one, both NUL-terminated.
    unsafe {
        libc::openlog(IDENT.as_ptr(), libc::LOG_PID, libc::LOG_DAEMON);
        libc::syslog(priority, FORMAT.as_ptr(), message.as_ptr());
    }
}

/// The signals that the daemon waits for. They are blocked, so their default action does not
/// happen.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Block SIGTERM, SIGINT, SIGHUP and SIGUSR1, in this thread and the threads that it starts
    /// from now on.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn block() -> io::Result<Self> {
        Self::block_these(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1])
    }

    /// Block these signals, in this thread and the threads that it starts from now on. The programs
    /// that it starts have them blocked, too, unless [`Signals::leave_to`] is called for them.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn block_these(signals: &[libc::c_int]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set before anything else uses it; the others get
        // pointers to it, and null for the old mask, which may be null.
        let (set, result) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            let result = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            (set.assume_init(), result)
        };
        match result {
            0 => Ok(Self(set)),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Whether this process was started with SIGHUP ignored, as nohup(1) does.
    pub fn hangup_is_ignored() -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with a null new action, sigaction only writes the present action to `action`. All
        // zeros are a valid value of `action`, too.
        unsafe {
            libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }

    /// Unblock these signals in the program that `command` starts.
    pub fn leave_to(&self, command: &mut Command) {
        let set = self.0;
        // SAFETY: between fork and exec only pthread_sigmask is called, which is safe there; the
        // set is initialised, and the old mask may be null.
        unsafe {
            command.pre_exec(move || {
                match libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut())
                {
                    0 => Ok(()),
                    code => Err(io::Error::from_raw_os_error(code)),
                }
            });
        }
    }

    /// Wait for one of the signals. Returns its number, and whether the terminal sent it. The
    /// terminal sends a signal to the whole process group.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn wait_and_tell(&self) -> io::Result<(i32, bool)> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        loop {
            // SAFETY: the set is initialised, and `info` is valid for a write during the call.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.0, info.as_mut_ptr()) };
            match check(signal) {
                // SAFETY: zeros are a valid siginfo_t, and so is what the call wrote.
                Ok(()) => return Ok((signal, unsafe { info.assume_init() }.si_code > 0)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The number of one of the signals, if one has arrived already.
    pub fn pending(&self) -> Option<i32> {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set and the time are initialised, and the information may be null.
        let signal = unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &now) };
        (signal > 0).then_some(signal)
    }

    /// Wait for one of the signals. Returns its number.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: the set is initialised, and `signal` is valid for a write during the call.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_never_go_to_groups_of_processes() {
        for number in [0, -1, i32::MIN] {
            // If this signal is sent after all, it is ignored.
            let error = kill(number, libc::SIGURG).expect_err("no process has this number");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{number}");
        }
        kill(std::process::id().cast_signed(), libc::SIGURG).expect("this process");
    }
}
