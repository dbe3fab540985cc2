//! Mounting, and serving requests until the end of the mount.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fuser::{Config, Generation, SessionACL};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::gate::Gate;
use super::invalidate::{self, Stale};
use super::serving::Server;
use super::status::About;
use super::{Adapter, fusermount};
use crate::files::Directory;
use crate::show::Show;
use crate::sys::{self, Unmount};
use crate::vfs::Volume;

/// The path of the FUSE device.
pub const DEVICE: &str = "/dev/fuse";
/// The number of threads that serve requests. This is also how many requests can wait for the image
/// at the same time.
const EVENT_LOOPS: usize = 4;

/// Who may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user who mounts.
    Owner,
    /// The user who mounts, and root.
    OwnerAndRoot,
    /// Everybody, as far as the permission bits allow.
    Everybody,
}

/// Flags that the kernel keeps with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// Refuse changes.
    pub read_only: bool,
    /// Honour device nodes.
    pub dev: bool,
    /// Honour set-user-id bits.
    pub suid: bool,
    /// Let programs be run.
    pub exec: bool,
    /// Keep access times.
    pub atime: bool,
}

/// What to mount, where, and how.
#[derive(Debug)]
pub struct MountRequest<'a> {
    /// Absolute path of the image: the source in the mount table.
    pub source: &'a Path,
    /// The directory.
    pub mountpoint: &'a Directory,
    /// Who may use it.
    pub access: Access,
    /// Flags for the kernel.
    pub flags: MountFlags,
    /// Let the kernel check permission bits.
    pub default_permissions: bool,
    /// Let the kernel gather writes.
    pub writeback: bool,
    /// How long to poll for the next request before sleeping. If this is zero, do not poll.
    pub poll: Duration,
    /// What the mount reports about itself.
    pub about: About,
}

/// A mount that is ready to serve. When this is dropped, the mount does not answer requests any
/// more.
pub struct Session {
    session: fuser::Session<Adapter>,
    /// Ranges that the kernel must forget.
    stale: Receiver<Stale>,
    end: End,
}

impl Session {
    /// Serve requests in new threads, until the filesystem is unmounted. The returned value tells
    /// when that happens.
    ///
    /// # Errors
    /// When no thread can be started. Then the mount does not answer requests.
    pub fn run(self) -> io::Result<End> {
        invalidate::start(self.session.notifier(), self.stale)?;
        // The threads continue. fuser did not mount the filesystem, so dropping this does not
        // unmount it.
        drop(self.session.spawn()?);
        Ok(self.end)
    }
}

/// Tells when there are no requests any more: the filesystem is unmounted, and the adapter does not
/// use the volume any more.
#[derive(Clone, Default)]
pub struct End(Arc<(Mutex<bool>, Condvar)>);

impl End {
    /// Wait for the end.
    pub fn wait(&self) {
        let (reached, signal) = &*self.0;
        let mut reached = reached.lock();
        while !*reached {
            signal.wait(&mut reached);
        }
    }

    /// Whether the end has come.
    pub fn is_reached(&self) -> bool {
        *self.0.0.lock()
    }
}

/// Signals the end when it is dropped.
pub(super) struct Alive(End);

impl Drop for Alive {
    fn drop(&mut self) {
        let (reached, signal) = &*self.0.0;
        *reached.lock() = true;
        signal.notify_all();
    }
}

/// The arguments for mount(2).
#[derive(Serialize, Deserialize, Debug)]
pub struct KernelMount {
    /// The path of the image. It need not be UTF-8.
    source: OsString,
    user: u32,
    group: u32,
    flags: MountFlags,
    allow_other: bool,
    default_permissions: bool,
}

impl KernelMount {
    /// The arguments in the form that the kernel expects.
    pub fn new(request: &MountRequest<'_>) -> Self {
        Self {
            source: request.source.as_os_str().to_owned(),
            user: sys::effective_uid(),
            group: sys::effective_gid(),
            flags: request.flags,
            allow_other: request.access != Access::Owner,
            default_permissions: request.default_permissions,
        }
    }

    /// The same request with `nosuid` and `nodev`, which protect the system.
    pub fn harmless(mut self) -> Self {
        self.flags.dev = false;
        self.flags.suid = false;
        self
    }

    /// Mount the FUSE device on a directory that is open, whatever its name leads to now.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn mount(&self, device: &File, mountpoint: &Directory) -> io::Result<()> {
        let Self { user, group, .. } = self;
        let (fd, mode) = (device.as_raw_fd(), mountpoint.metadata()?.mode());
        let mut data =
            format!("fd={fd},rootmode={mode:o},user_id={user},group_id={group},subtype=littlefs");
        for (set, option) in
            [(self.allow_other, ",allow_other"), (self.default_permissions, ",default_permissions")]
        {
            data.push_str(if set { option } else { "" });
        }
        let flags = [
            (self.flags.read_only, libc::MS_RDONLY),
            (!self.flags.dev, libc::MS_NODEV),
            (!self.flags.suid, libc::MS_NOSUID),
            (!self.flags.exec, libc::MS_NOEXEC),
            (!self.flags.atime, libc::MS_NOATIME),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        mountpoint.within(|| sys::mount(Path::new(&self.source), Path::new("."), flags, &data))
    }
}

/// Open the FUSE device, to which the kernel sends requests once it is mounted.
///
/// # Errors
/// The errors of the system.
pub fn open_device() -> io::Result<File> {
    File::options().read(true).write(true).open(DEVICE)
}

/// Mount directly if this process has the right, otherwise through `fusermount3`, and agree with
/// the kernel on the protocol.
///
/// # Errors
/// The error of the system, or the message of `fusermount3`.
pub fn mount(volume: Arc<Volume>, request: &MountRequest<'_>) -> io::Result<Session> {
    let direct = open_device().and_then(|device| {
        KernelMount::new(request).mount(&device, request.mountpoint).map(|()| device)
    });
    let device = match direct {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => fusermount::mount(request)?,
        direct => direct?.into(),
    };
    serve(volume, request, device).inspect_err(|_| unmount_dead(request.mountpoint))
}

/// Unmount a filesystem that no process serves.
pub(super) fn unmount_dead(mountpoint: &Directory) {
    let path = mountpoint.path();
    if let Err(e) = fusermount::unmount(&path, Unmount::Lazily) {
        log::warn!("cannot unmount {}: {e}", path.show());
    }
}

/// Serve a FUSE device that another process has mounted as `request` says. First, agree with the
/// kernel on the protocol.
///
/// # Errors
/// When the device is not mounted.
pub fn serve(
    volume: Arc<Volume>,
    request: &MountRequest<'_>,
    device: OwnedFd,
) -> io::Result<Session> {
    let config = config(request);
    let (adapter, ends) = adapter(volume, request);
    ends.into_session(fuser::Session::from_fd(adapter, device, config.acl, config)?)
}

fn config(request: &MountRequest<'_>) -> Config {
    let mut config = Config::default();
    config.acl = match request.access {
        Access::Owner => SessionACL::Owner,
        Access::OwnerAndRoot => SessionACL::RootAndOwner,
        Access::Everybody => SessionACL::All,
    };
    config.n_threads = Some(EVENT_LOOPS);
    config
}

/// The parts of the adapter that are kept when a session takes the adapter.
struct Ends {
    gate: Arc<Gate>,
    stale: Receiver<Stale>,
    end: End,
}

impl Ends {
    fn into_session(self, session: fuser::Session<Adapter>) -> io::Result<Session> {
        self.gate.watch(session.as_fd().try_clone_to_owned()?);
        Ok(Session { session, stale: self.stale, end: self.end })
    }
}

fn adapter(volume: Arc<Volume>, request: &MountRequest<'_>) -> (Adapter, Ends) {
    let end = End::default();
    let (stale, ranges) = mpsc::channel();
    let gate = Arc::new(Gate::new(EVENT_LOOPS, request.poll));
    volume.on_wait({
        let gate = Arc::clone(&gate);
        move || gate.hand_on()
    });
    let adapter = Adapter {
        server: Server::new(volume, Arc::clone(&gate)),
        about: request.about.clone(),
        writes: AtomicBool::new(false),
        writeback: request.writeback,
        // the kernel keeps only 32 bits of the generation
        generation: Generation(u64::from(RandomState::new().hash_one(()) as u32)),
        stale,
        _alive: Alive(end.clone()),
    };
    (adapter, Ends { gate, stale: ranges, end })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    /// `littlefs attach` reads what a daemon wrote.
    #[test]
    fn the_path_in_a_mount_request_need_not_be_utf8() {
        let flags = MountFlags { read_only: false, dev: true, suid: true, exec: true, atime: true };
        let source = OsString::from_vec(b"/srv/\xff\n".to_vec());
        let (user, group, allow_other, default_permissions) = (1, 2, true, false);
        let offered = KernelMount { source, user, group, flags, allow_other, default_permissions };
        let text = serde_json::to_vec(&offered).expect("JSON");
        let read: KernelMount = serde_json::from_slice(&text).expect("the same");
        assert_eq!(read.source, offered.source);
        let flags = read.harmless().flags;
        assert!(!flags.dev && !flags.suid && flags.exec);
    }
}
