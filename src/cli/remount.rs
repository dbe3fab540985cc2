//! `-o remount`: changing the flags of a mount. The kernel can do this while the daemon continues.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use super::table::{self, Entry};
use super::{CliError, exit, status};
use crate::show::{Show, cause};
use crate::sys;

/// The flags of a mount, each with the option that sets it and the option that clears it.
const FLAGS: [(&str, &str, libc::c_ulong); 6] = [
    ("ro", "rw", libc::MS_RDONLY),
    ("nosuid", "suid", libc::MS_NOSUID),
    ("nodev", "dev", libc::MS_NODEV),
    ("noexec", "exec", libc::MS_NOEXEC),
    ("noatime", "atime", libc::MS_NOATIME),
    ("nodiratime", "diratime", libc::MS_NODIRATIME),
];

/// Whether the options ask for a change of an existing mount.
pub fn is_asked_for(lists: &[String]) -> bool {
    options(lists).any(|option| option == "remount")
}

fn options(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split(','))
}

/// Change the flags of the mount on `mountpoint`. Its other options stay as they are. Naming them
/// is no error, because mount(8) repeats the options of fstab. Flags that are not named stay, too,
/// unless mount(8) gave the options (`by_mount`): mount(8) names all flags that must be set, but
/// does not name the flags that must be cleared.
///
/// # Errors
/// If there is no littlefs mount there, or the change is impossible.
pub fn run(mountpoint: &Path, lists: &[String], by_mount: bool) -> Result<ExitCode, CliError> {
    let shown = mountpoint.show();
    let entry = table::mounted_on(mountpoint).map_err(failure)?;
    let entry = entry
        .filter(|entry| entry.is_littlefs)
        .ok_or_else(|| failure(format_args!("{shown}: no littlefs is mounted there")))?;
    let flags = wanted(if by_mount { 0 } else { current(&entry) }, lists);
    for option in options(lists) {
        if option.contains('=') && !option.starts_with("x-") && !option.starts_with("X-") {
            log::info!(
                "{shown}: '{option}' cannot be changed by a remount; unmount, and mount again"
            );
        }
    }
    if entry.has("ro") && flags & libc::MS_RDONLY == 0 {
        become_writable(&entry)?;
    }
    change(&entry, flags)?;
    Ok(ExitCode::SUCCESS)
}

/// `flags` after the options.
fn wanted(mut flags: libc::c_ulong, lists: &[String]) -> libc::c_ulong {
    for option in options(lists) {
        for (on, off, flag) in FLAGS {
            match option {
                _ if option == on => flags |= flag,
                _ if option == off => flags &= !flag,
                _ => {}
            }
        }
    }
    flags
}

/// Let the daemon accept changes. From then on, only the kernel refuses them.
fn become_writable(entry: &Entry) -> Result<(), CliError> {
    let shown = entry.mountpoint.show();
    if sys::effective_uid() != 0 {
        return Err(failure(format_args!("{shown}: cannot remount: only root can do that")));
    }
    let refused = |why: &dyn Display| {
        failure(format_args!(
            "{shown}: was mounted read-only, and cannot become writable now: {why}; when this \
             reason no longer holds, unmount it, and mount it again with -o rw"
        ))
    };
    let root = File::open(&entry.mountpoint).map_err(|e| refused(&e))?;
    let about = status::ask_file(&root).map_err(|e| refused(&e))?.about;
    if about.read_only.is_none() {
        return Ok(());
    }
    match crate::fuse::status::become_writable(&root) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(refused(&why)),
        Err(e) => Err(refused(&e)),
    }
}

/// Make a mount read-only, after all changes are in the image.
///
/// # Errors
/// When that is impossible, for example because files are open for writing.
pub fn make_read_only(entry: &Entry) -> Result<(), CliError> {
    change(entry, current(entry) | libc::MS_RDONLY)
}

fn failure(e: impl Display) -> CliError {
    CliError::new(exit::MOUNT_FAILURE, e)
}

fn current(entry: &Entry) -> libc::c_ulong {
    FLAGS.iter().filter(|(on, _, _)| entry.has(on)).fold(0, |flags, (_, _, flag)| flags | flag)
}

fn change(entry: &Entry, flags: libc::c_ulong) -> Result<(), CliError> {
    let shown = entry.mountpoint.show();
    let flush = || File::open(&entry.mountpoint).and_then(|root| root.sync_all());
    let unwritten = |e: std::io::Error| {
        let why = cause(&e);
        failure(format_args!("{shown}: its last changes cannot be written: {why}"))
    };
    let read_only = flags & libc::MS_RDONLY != 0;
    if read_only {
        flush().map_err(unwritten)?;
    }
    // If no flag for access times is given, the kernel keeps its present ones.
    let flags_now = flags | libc::MS_REMOUNT | libc::MS_RELATIME;
    sys::mount(&entry.source, &entry.mountpoint, flags_now, "").map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::ResourceBusy => {
                "files are open for writing ('fuser -vm DIR' lists the processes)".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => "only root can do that".to_owned(),
            _ => e.to_string(),
        };
        failure(format_args!("{shown}: cannot remount: {why}"))
    })?;
    // After this change, the kernel has sent all data that it had held back to the daemon.
    if read_only { flush().map_err(unwritten) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_not_named_stay_or_get_the_default_of_mount() {
        let list = |text: &str| vec![text.to_owned()];
        let old = libc::MS_NOSUID | libc::MS_NODEV;
        let noexec = list("remount,noexec,suid");
        assert_eq!(wanted(old, &noexec), libc::MS_NODEV | libc::MS_NOEXEC);
        assert_eq!(wanted(0, &list("rw,nodev,relatime,remount,user_id=0")), libc::MS_NODEV);
        assert_eq!(
            wanted(0, &list("rw,remount,ro,nosuid,atime")),
            libc::MS_NOSUID | libc::MS_RDONLY
        );
    }
}
