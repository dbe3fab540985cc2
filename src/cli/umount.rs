//! `littlefs umount`: write all changes, unmount, and wait until the image is complete. All waiting
//! here is bounded: see [`crate::fuse::daemon`]. With `--lazy` and `--force`, no request is sent to
//! the daemon.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::table::{self, Entry};
use super::{CliError, exit, remount, status};
use crate::fuse::daemon::Daemon;
use crate::fuse::held::{Now, Stray};
use crate::fuse::{do_aside, unmount};
use crate::show::{Show, cause};
use crate::sys::{self, Unmount};

/// How long to wait for a daemon that makes no progress, when its last changes are given up.
const PATIENCE_FORCED: Duration = Duration::from_secs(1);
/// How long the answer to a request that needs no access to the image may take, unless the daemon
/// is busy.
const PATIENCE_STATFS: Duration = Duration::from_secs(5);

/// Unmount, and wait until everything is in the image
#[derive(Args, Debug)]
#[command(after_help = "\
When this returns, everything is in the image, and you can flash or copy it at once:

  littlefs umount /mnt && esptool write-flash 0x100000 dump.bin

If littlefs-progs is installed (scripts/install.sh, or the Debian package), a plain 'umount' does
the same. If the last changes cannot be written, the mount stays, so that you can copy its content
elsewhere. A writable mount also stays if its image or journal was deleted, or replaced by another
file, because the unmount would delete what is mounted; the message says how to save it.

The command waits for the process that serves the mount while that process uses the processor, reads
or writes, or waits for a disk that is working. After 30 seconds without such progress
('--timeout'), the exit status is 32, and the message names the process. The command does not wait
for a filesystem that is still mounted elsewhere (a bind mount, or in a container), nor for a
process that cannot be seen from here; in the latter case it prints a warning.")]
pub struct UmountArgs {
    /// Directory the image is mounted on, or the image
    pub(super) target: PathBuf,

    /// Unmount even if the last changes cannot be written, the image was deleted, or the daemon
    /// does not answer; what cannot be written is lost
    #[arg(short, long)]
    pub(super) force: bool,

    /// Detach the mount now, even if the daemon does not answer, and wait for nothing. Programs
    /// that use the mount can go on; the daemon writes the rest and ends after the last of them
    #[arg(short, long)]
    pub(super) lazy: bool,

    /// Succeed silently if nothing is mounted there
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Give up if the daemon makes no progress for this time
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) timeout: u32,
}

/// Run the command.
///
/// # Errors
/// If there is no littlefs mount there, or it cannot be unmounted.
pub fn run(args: &UmountArgs) -> Result<ExitCode, CliError> {
    run_or_read_only(args, false)
}

/// Run the command. If `read_only` is true, a mount becomes read-only if it cannot be unmounted
/// because it is in use.
///
/// # Errors
/// Those of [`run`].
pub fn run_or_read_only(args: &UmountArgs, read_only: bool) -> Result<ExitCode, CliError> {
    let shown = args.target.show();
    let Some(entry) = find(&args.target)? else {
        if args.quiet {
            return Ok(ExitCode::SUCCESS);
        }
        return Err(CliError::failure(format_args!("{shown}: not mounted")));
    };
    if !entry.is_littlefs {
        return Err(CliError::failure(format_args!("{shown}: not a littlefs mount")));
    }
    let mut mount = Mount::new(args, &entry);
    if !args.force && !args.lazy {
        mount.write_back()?;
    }
    let mut others = mount.mounts();
    others.remove(&entry.id);
    if !args.force && !args.lazy && !mount.is_dead && others.is_empty() {
        mount.keep_what_has_no_name()?;
    }
    match mount.unmount() {
        Err(e) if read_only && e.kind() == io::ErrorKind::ResourceBusy => {
            remount::make_read_only(&entry)?;
            log::warn!("{shown}: in use; it was made read-only instead");
            return Ok(ExitCode::SUCCESS);
        }
        Err(e) => return Err(refused(&e, &shown)),
        Ok(false) => return Err(mount.stuck("not unmounted")),
        Ok(true) => {}
    }
    if !args.lazy && !mount.is_dead {
        mount.wait_for_end(&others)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The mount that the argument names: by its directory, or by its image if the image is mounted
/// exactly once. The mount table is not trusted about images, because every user can give any
/// source to a mount. So the process that serves the mount must have the image open.
fn find(target: &Path) -> Result<Option<Entry>, CliError> {
    if let Some(entry) = table::mounted_on(target).map_err(CliError::failure)? {
        return Ok(Some(entry));
    }
    let shown = target.show();
    let claims = table::claiming(target).map_err(CliError::failure)?;
    if claims.is_empty() {
        return Ok(None);
    }
    let list = |entries: &[Entry]| {
        let dirs = entries.iter().map(|entry| entry.mountpoint.show().to_string());
        dirs.collect::<Vec<_>>().join(", ")
    };
    let claimed = list(&claims);
    let image = sys::identity(target).map_err(|e| {
        CliError::failure(format_args!("{shown}: {}; give the directory of the mount", cause(&e)))
    })?;
    let is_served = |entry: &Entry| {
        Daemon::serving(entry.connection()).iter().any(|daemon| daemon.has_open(image))
    };
    let mut served: Vec<Entry> = claims.into_iter().filter(is_served).collect();
    match served.len() {
        0 => Err(CliError::failure(format_args!(
            "{shown}: the mount on {claimed} names this as its image, but no visible process that \
             serves that mount has it open; to unmount that mount, give its directory"
        ))),
        1 => Ok(served.pop()),
        _ => Err(CliError::failure(format_args!(
            "{shown}: mounted on {}; give the directory to unmount",
            list(&served)
        ))),
    }
}

/// A mount that is being unmounted.
struct Mount<'a> {
    args: &'a UmountArgs,
    entry: &'a Entry,
    /// The processes that serve it, as far as they can be seen.
    daemons: Vec<Daemon>,
    /// Whether its daemon has died. In this case nobody notices that the mount is unmounted.
    is_dead: bool,
    patience: Duration,
}

impl<'a> Mount<'a> {
    fn new(args: &'a UmountArgs, entry: &'a Entry) -> Self {
        let given = Duration::from_secs(u64::from(args.timeout));
        let patience = if args.force { given.min(PATIENCE_FORCED) } else { given };
        let daemons = Daemon::serving(entry.connection());
        Self { args, entry, daemons, is_dead: false, patience }
    }

    /// Let the daemon write everything now, while it can still report a failure. The result of the
    /// flush after the end of the mount reaches nobody. A user without access to the mount gets no
    /// report.
    fn write_back(&mut self) -> Result<(), CliError> {
        let mountpoint = &self.entry.mountpoint;
        // If the kernel does not tell which process serves the mount, ask the daemon.
        let asks = self.daemons.is_empty();
        let written = do_aside(&self.daemons, self.patience, || {
            let root = match File::open(mountpoint) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(String::new()),
                root => root?,
            };
            // This makes the kernel send the data that it holds. Its result may be an old failure,
            // which close(2) or fsync(2) already reported. A failure to write to the image now is
            // reported by the next call.
            let _ = sys::syncfs(&root);
            root.sync_all()?;
            let pid = if asks { status::ask_file(&root).map_or(0, |s| s.about.pid) } else { 0 };
            Ok(pid.to_string())
        });
        let shown = self.args.target.show();
        match written {
            Ok(None) => return Err(self.stuck("not unmounted")),
            Ok(Some(pid)) => {
                let pid = pid.parse().ok().filter(|&pid| pid > 0);
                self.daemons.extend(pid.and_then(Daemon::named));
            }
            Err(e) if is_death(&e) => self.is_dead = true,
            Err(e) => {
                return Err(CliError::new(
                    exit::MOUNT_FAILURE,
                    format_args!(
                        "{shown}: not unmounted, because its last changes cannot be written: {}; \
                         'littlefs status {shown}' and the system's log have the details; \
                         'littlefs umount -f {shown}' discards the changes",
                        cause(&e)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuse to end a writable mount whose image or journal was deleted or replaced, because the
    /// unmount would delete the file. All changes are written already.
    fn keep_what_has_no_name(&self) -> Result<(), CliError> {
        let shown = self.args.target.show();
        let source = self.entry.source.as_path();
        let strays = self.daemons.iter().flat_map(|daemon| Stray::of(daemon, &[source]));
        for stray in strays.filter(|stray| stray.writes) {
            let what = match stray.is_journal {
                true => "its journal".to_owned(),
                false => format!("its image {}", source.show()),
            };
            match stray.now {
                Now::Nowhere => {
                    let copy = stray.descriptor.show();
                    let text = format!(
                        "{shown}: not unmounted, because {what} was {stray} while it was mounted. \
                         All changes are written, but the file has no name any more, and an \
                         unmount would delete it: 'cp {copy} NEWFILE' saves it; \
                         'littlefs umount -f {shown}' discards it"
                    );
                    return Err(CliError::new(exit::MOUNT_FAILURE, text));
                }
                // the mount table does not say where the journal should be
                _ if stray.is_journal => {}
                _ => log::warn!("{shown}: {what} was {stray} while it was mounted"),
            }
        }
        Ok(())
    }

    /// Unmount. Returns false if the kernel still waits for the daemon.
    fn unmount(&self) -> io::Result<bool> {
        let aside = |how| {
            let mountpoint = &self.entry.mountpoint;
            let done = do_aside(&self.daemons, self.patience, || {
                unmount(mountpoint, how).map(|()| String::new())
            });
            done.map(|done| done.is_some())
        };
        if self.args.lazy || self.is_dead {
            // The mount is detached at once, even if the kernel still waits for something.
            return Ok(aside(Unmount::Lazily)? || !self.mounts().contains(&self.entry.id));
        }
        Ok(aside(Unmount::Unused)? || self.args.force && aside(Unmount::ByForce)?)
    }

    /// The numbers of the mounts of this filesystem, in this mount namespace and in those of its
    /// daemons.
    fn mounts(&self) -> BTreeSet<u64> {
        let theirs = self.daemons.iter().map(Daemon::mount_table);
        let tables = theirs.chain([table::MOUNT_TABLE.into()]);
        tables.flat_map(|path| table::mounts_of(self.entry.device, &path)).collect()
    }

    /// Wait until the daemons have ended. After that, all changes are in the image. Do not wait if
    /// the filesystem is still mounted elsewhere; `others` are the other mounts that it had before.
    fn wait_for_end(&self, others: &BTreeSet<u64>) -> Result<(), CliError> {
        let shown = self.args.target.show();
        // The numbers of this mount and of its device may belong to another filesystem by now. The
        // numbers of the other mounts cannot be reused, as long as these mounts exist.
        if !self.mounts().is_disjoint(others) {
            return Ok(());
        }
        if self.daemons.iter().any(|daemon| daemon.is_connected() == Some(true)) {
            log::warn!(
                "{shown}: unmounted here, but still mounted in another mount namespace (a \
                 container?), so the image is still in use"
            );
            return Ok(());
        }
        if self.daemons.is_empty() {
            log::warn!(
                "{shown}: unmounted, but the process that serves it cannot be seen from here (it \
                 died, or belongs to another user or container), so it is not known whether \
                 everything is in the image"
            );
        }
        let ended = self.daemons.iter().all(|daemon| daemon.wait_for_end(self.patience));
        match ended {
            true => Ok(()),
            false if self.args.force => {
                log::warn!("{}", self.stuck("unmounted"));
                Ok(())
            }
            false => Err(self.stuck("unmounted, but its last changes may not be in the image")),
        }
    }

    /// The error if the daemon makes no progress. `state` says what has been done.
    fn stuck(&self, state: &str) -> CliError {
        let shown = self.args.target.show();
        let patience = match self.patience.as_secs() {
            1 => "a second".to_owned(),
            seconds => format!("{seconds} seconds"),
        };
        let who = self.daemons.iter().map(|daemon| {
            let stopped = if daemon.is_stopped() { ", which is stopped," } else { "" };
            format!("process {} ({}){stopped}", daemon.pid, daemon.name.show())
        });
        let who = match who.collect::<Vec<_>>().join(" and ") {
            none if none.is_empty() => "its daemon".to_owned(),
            who => who,
        };
        let has = if self.daemons.len() > 1 { "have" } else { "has" };
        CliError::new(
            exit::MOUNT_FAILURE,
            format_args!("{shown}: {state}: {who} {has} made no progress for {patience}"),
        )
    }
}

/// The error if the kernel does not unmount `shown`.
fn refused(e: &io::Error, shown: &dyn fmt::Display) -> CliError {
    let remedy = match e.kind() {
        io::ErrorKind::ResourceBusy => format!(
            ": 'fuser -vm {shown}' lists the processes that use it, and 'littlefs umount -l \
             {shown}' detaches it now, so that it ends when nobody uses it any more"
        ),
        _ => String::new(),
    };
    CliError::new(exit::MOUNT_FAILURE, format_args!("cannot unmount {shown}: {}{remedy}", cause(e)))
}

/// Whether this error means that the daemon of a mount has died. A request that was in progress
/// when it died is aborted.
fn is_death(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)
}

/// Unmount `path` if it is a littlefs mount whose daemon has died. This disturbs nobody, because
/// such a mount answers every call with ENOTCONN. Returns whether it was such a mount. This must be
/// called while there is only one thread.
///
/// # Errors
/// When the mount table cannot be read, or the mount cannot be unmounted.
pub(super) fn detach_dead(path: &Path) -> io::Result<bool> {
    let Some(entry) = table::mounted_on(path)?.filter(|entry| entry.is_littlefs) else {
        return Ok(false);
    };
    let daemons = Daemon::serving(entry.connection());
    let asked = do_aside(&daemons, PATIENCE_STATFS, || {
        sys::statfs(&entry.mountpoint).map(|()| String::new())
    });
    match asked {
        Err(e) if is_death(&e) => {}
        _ => return Ok(false),
    }
    unmount(&entry.mountpoint, Unmount::Lazily).map(|()| true).map_err(|e| {
        let what = "has the remains of a mount whose daemon has died";
        let (shown, why) = (path.show(), cause(&e));
        let text =
            format!("{what}, which cannot be unmounted: {why} (try 'umount -l {shown}' as root)");
        io::Error::new(e.kind(), text)
    })
}
