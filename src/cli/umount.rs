//! `littlefs umount`: write what is unwritten, unmount, and wait until the image is complete.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::mount::unmount;
use super::table::{self, Entry};
use super::{CliError, remount, status};
use crate::fuse::status::About;
use crate::sys;

/// How long a daemon that has nothing to write may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Unmount, and wait until everything is in the image
#[derive(Args, Debug)]
#[command(after_help = "\
When this returns, everything is in the image, which can be flashed or copied right away:

  littlefs umount /mnt && esptool write_flash 0x100000 dump.bin

Where littlefs is installed (scripts/install.sh, or the Debian package), a plain 'umount' does the
same. What cannot be written stays mounted, so that it can be copied elsewhere.")]
pub struct UmountArgs {
    /// Directory the image is mounted on, or the image
    pub(super) target: PathBuf,

    /// Unmount even what cannot be written, giving up the last changes
    #[arg(short, long)]
    pub(super) force: bool,

    /// Take it out of the tree now, and let the daemon finish when nobody uses it any more
    #[arg(short, long)]
    pub(super) lazy: bool,

    /// Succeed silently when nothing is mounted there
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Run the command.
///
/// # Errors
/// When nothing of ours is mounted there, or it cannot be unmounted.
pub fn run(args: &UmountArgs) -> Result<ExitCode, CliError> {
    run_or_read_only(args, false)
}

/// Run the command; what cannot be unmounted because it is in use becomes read-only, if
/// `read_only` says so.
///
/// # Errors
/// As [`run`].
pub fn run_or_read_only(args: &UmountArgs, read_only: bool) -> Result<ExitCode, CliError> {
    let shown = args.target.display();
    let Some(entry) = table::lookup(&args.target).map_err(CliError::failure)? else {
        if args.quiet {
            return Ok(ExitCode::SUCCESS);
        }
        return Err(CliError::failure(format_args!("{shown}: not mounted")));
    };
    if !entry.is_littlefs {
        return Err(CliError::failure(format_args!("{shown}: not a littlefs mount")));
    }
    let failure = |e: io::Error| CliError::failure(format_args!("cannot unmount {shown}: {e}"));
    // Of a dead mount nothing can be lost.
    let lazy = args.lazy || sys::is_dead_mount(&entry.mountpoint);
    if !args.force {
        write_back(&entry.mountpoint).map_err(|e| {
            CliError::failure(format_args!(
                "{shown}: not unmounted, because its last changes cannot be written: {e} (the \
                 system's log says more; 'littlefs umount -f {shown}' gives them up)"
            ))
        })?;
    }
    // A daemon that hangs would not answer, either: then `lazy` is what is left.
    let about = if lazy { About::default() } else { about(&entry) };
    let journal = about.journal.filter(|_| about.read_only.is_none());
    let daemon = i32::try_from(about.pid).ok().filter(|&pid| pid > 0).map(sys::process);
    match unmount(&entry.mountpoint, lazy) {
        Err(e) if read_only && e.kind() == io::ErrorKind::ResourceBusy => {
            remount::make_read_only(&entry)?;
            log::warn!("{shown}: in use, made read-only instead");
            return Ok(ExitCode::SUCCESS);
        }
        result => result.map_err(failure)?,
    }
    if !args.lazy {
        wait_for_daemon(&entry, journal.as_deref(), daemon.and_then(Result::ok))
            .map_err(|e| CliError::failure(format_args!("{}: {e}", entry.source.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Have the daemon write everything while it can still say that it fails: nobody hears of the
/// flush after the end of the mount. A user who may not look into the mount learns nothing.
fn write_back(mountpoint: &Path) -> io::Result<()> {
    match File::open(mountpoint) {
        Ok(root) => root.sync_all(),
        Err(_) => Ok(()),
    }
}

/// Whether `path` is a mount of ours whose daemon died; then it is unmounted, which nobody can
/// notice: all it answers is ENOTCONN.
///
/// # Errors
/// When it cannot be unmounted.
pub(super) fn detach_dead(path: &Path) -> io::Result<bool> {
    match table::lookup(path)? {
        Some(entry) if entry.is_littlefs && sys::is_dead_mount(&entry.mountpoint) => {
            unmount(&entry.mountpoint, true).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// What the daemon says of itself; nothing where it may not be asked.
fn about(entry: &Entry) -> About {
    status::ask(entry).map(|status| status.about).unwrap_or_default()
}

/// Wait until the daemon releases what it writes, image or journal, which it does last of all. A
/// read-only mount shares the image with others, and leaves nothing to be lost; but whoever wants
/// to write the image next is not to find it in use, so the end of the daemon is waited for.
fn wait_for_daemon(entry: &Entry, journal: Option<&Path>, daemon: Option<File>) -> io::Result<()> {
    let image = match File::open(journal.unwrap_or(&entry.source)) {
        Ok(image) => image,
        // Removed while mounted, or not ours to read: then nobody waits for its content.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !entry.has("ro") || journal.is_some() {
        return image.lock();
    }
    // It may have been made read-only with changes to write.
    image.lock_shared()?;
    let end = Instant::now() + PATIENCE;
    while daemon.as_ref().is_some_and(|daemon| !sys::is_readable(daemon.as_fd()))
        && Instant::now() < end
    {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
