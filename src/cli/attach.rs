//! Mounting on behalf of a daemon that must not mount: a service that is isolated from the rest of
//! the system cannot call mount(2), and nobody else would see a mount in its namespace.
//!
//! The daemon (`littlefs mount --unattached`) opens /dev/fuse, writes the parameters of the mount
//! that it offers into a file in memory, and waits for SIGUSR1. `littlefs attach PID DIR`, which
//! runs beside it with root's rights, takes a copy of that descriptor, mounts, and sends the
//! signal. The daemon is trusted only with its own mount: it cannot choose the directory, and the
//! mount is always `nosuid` and `nodev`.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::umount::detach_dead;
use super::{CliError, exit};
use crate::files::Directory;
use crate::fuse::{self, KernelMount, MountRequest};
use crate::show::{Show, cause};
use crate::sys;

const OFFER: &CStr = c"littlefs-mount";
/// The name of [`OFFER`] in /proc/PID/fd.
const OFFER_LINK: &str = "/memfd:littlefs-mount (deleted)";

/// Mount the filesystem that 'littlefs mount --unattached' offers (for littlefs@.service)
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// Process id of the daemon
    pid: i32,

    /// Directory to mount it on
    mountpoint: PathBuf,
}

/// A FUSE device that waits to be mounted; dropping it withdraws the offer.
pub struct Unattached {
    /// The device.
    pub device: File,
    _offer: File,
}

/// Offer a mount to whoever runs `littlefs attach`.
///
/// # Errors
/// The errors of the system.
pub fn offer(request: &MountRequest<'_>) -> io::Result<Unattached> {
    let device = fuse::open_device()?;
    let mut file = sys::memory_file(OFFER)?;
    file.write_all(&serde_json::to_vec(&KernelMount::new(request))?)?;
    Ok(Unattached { device, _offer: file })
}

/// Run the command.
///
/// # Errors
/// When there is no such daemon, or mounting fails.
pub fn run(args: &AttachArgs) -> Result<ExitCode, CliError> {
    let shown = args.mountpoint.show();
    attach(args).map_err(|e| {
        CliError::new(exit::MOUNT_FAILURE, format_args!("cannot mount on {shown}: {}", cause(&e)))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn attach(args: &AttachArgs) -> io::Result<()> {
    let (device, offer) = find(args.pid)?;
    detach_dead(&args.mountpoint)?;
    let mountpoint = Directory::find(&args.mountpoint)?;
    offer.harmless().mount(&device, &mountpoint)?;
    // from here on, only the daemon keeps the filesystem alive
    drop(device);
    sys::kill(args.pid, libc::SIGUSR1)?;
    // this returns only when the daemon serves the mount
    sys::statfs(&mountpoint.path())
}

/// Find the device and the offer among a daemon's open files.
fn find(pid: i32) -> io::Result<(File, KernelMount)> {
    let (mut device, mut offer) = (None, None);
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        match fs::read_link(&path) {
            Ok(link) if link == Path::new(fuse::DEVICE) => device = descriptor(&path),
            Ok(link) if link == Path::new(OFFER_LINK) => offer = Some(fs::read(&path)?),
            _ => {}
        }
    }
    match (device, offer) {
        (Some(fd), Some(offer)) => {
            Ok((sys::take_descriptor(pid, fd)?, serde_json::from_slice(&offer)?))
        }
        _ => Err(io::Error::other(format!(
            "process {pid} offers no mount; only 'littlefs mount -f --unattached' does"
        ))),
    }
}

fn descriptor(path: &Path) -> Option<i32> {
    path.file_name()?.to_str()?.parse().ok()
}
