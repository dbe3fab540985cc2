//! Mounting, and serving requests until the end of the mount.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fuser::{Config, MountOption, SessionACL};

use super::Adapter;
use super::gate::Gate;
use crate::sys;
use crate::vfs::Volume;

/// Threads that serve requests: as many can wait for the image at a time.
const EVENT_LOOPS: usize = 4;

/// Who may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user who mounts.
    Owner,
    /// The user who mounts, and root.
    OwnerAndRoot,
    /// Everybody, as the permission bits say.
    Everybody,
}

/// Flags the kernel keeps with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
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

/// What to mount, where and how.
#[derive(Debug)]
pub struct MountRequest<'a> {
    /// Absolute path of the image: the source in the mount table.
    pub source: &'a Path,
    /// An existing directory.
    pub mountpoint: &'a Path,
    /// Who may use it.
    pub access: Access,
    /// Flags for the kernel.
    pub flags: MountFlags,
    /// Let the kernel check permission bits.
    pub default_permissions: bool,
    /// Let the kernel gather writes.
    pub writeback: bool,
    /// How long to look for the next request before sleeping; not at all if zero.
    pub poll: Duration,
}

/// A mount that is ready to serve; dropping it unmounts.
pub struct Session {
    session: fuser::Session<Adapter>,
    /// Disconnected when the adapter is gone.
    ended: Receiver<()>,
}

impl Session {
    /// Serve requests until the filesystem is unmounted; the volume is no longer used then.
    ///
    /// # Errors
    /// When no thread can be started; the filesystem is unmounted.
    pub fn run(self) -> io::Result<()> {
        let background = self.session.spawn()?;
        // Somebody else unmounts. fuser would do so again at the end, and hit whatever is mounted
        // on the directory by then.
        mem::forget(background);
        // Nothing is ever sent: this waits for the adapter to be dropped.
        let _ = self.ended.recv();
        Ok(())
    }
}

/// Mount, by ourselves when we may, else through `fusermount3`, and agree with the kernel on the
/// protocol.
///
/// # Errors
/// The system's, or what `fusermount3` said.
pub fn mount(volume: Arc<Volume>, request: &MountRequest<'_>) -> io::Result<Session> {
    let flags = request.flags;
    let mut options = vec![
        MountOption::FSName(source_option(request.source)),
        // Not `MountOption::Subtype`: fuser hands that one to fusermount3 only.
        MountOption::CUSTOM("subtype=littlefs".to_owned()),
        if flags.read_only { MountOption::RO } else { MountOption::RW },
        if flags.dev { MountOption::Dev } else { MountOption::NoDev },
        if flags.suid { MountOption::Suid } else { MountOption::NoSuid },
        if flags.exec { MountOption::Exec } else { MountOption::NoExec },
    ];
    if !flags.atime {
        options.push(MountOption::NoAtime);
    }
    if request.default_permissions {
        options.push(MountOption::DefaultPermissions);
    }
    let mut config = Config::default();
    config.mount_options = options;
    config.acl = match request.access {
        Access::Owner => SessionACL::Owner,
        Access::OwnerAndRoot => SessionACL::RootAndOwner,
        Access::Everybody => SessionACL::All,
    };
    config.n_threads = Some(EVENT_LOOPS);
    let (alive, ended) = mpsc::channel();
    let gate = Arc::new(Gate::new(EVENT_LOOPS, request.poll));
    volume.on_wait({
        let gate = Arc::clone(&gate);
        move || gate.hand_on()
    });
    let writeback = request.writeback;
    let adapter = Adapter { volume, gate: Arc::clone(&gate), writeback, _alive: alive };
    let session = fuser::Session::new(adapter, request.mountpoint, &config)?;
    gate.watch(session.as_fd().try_clone_to_owned()?);
    Ok(Session { session, ended })
}

/// The source as a mount option: fusermount3 takes a comma for the end of the option unless it is
/// escaped, the system call does not.
fn source_option(source: &Path) -> String {
    let source = source.to_string_lossy();
    if sys::effective_uid() == 0 {
        return source.into_owned();
    }
    source.replace('\\', "\\\\").replace(',', "\\,")
}
