//! `-o remount`: what the kernel can change of a mount while the daemon goes on.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use super::table::{self, Entry};
use super::{CliError, exit, status};
use crate::image::{self, Dialect, OpenError, Reason};
use crate::sys;

/// The flags of a mount, each with the option that sets it and the one that takes it away.
const FLAGS: [(&str, &str, libc::c_ulong); 6] = [
    ("ro", "rw", libc::MS_RDONLY),
    ("nosuid", "suid", libc::MS_NOSUID),
    ("nodev", "dev", libc::MS_NODEV),
    ("noexec", "exec", libc::MS_NOEXEC),
    ("noatime", "atime", libc::MS_NOATIME),
    ("nodiratime", "diratime", libc::MS_NODIRATIME),
];

/// Whether a mount that exists is to be changed.
pub fn is_asked_for(lists: &[String]) -> bool {
    options(lists).any(|option| option == "remount")
}

fn options(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split(','))
}

/// Change the flags of the mount on `mountpoint`; its other options stay as they are, and asking
/// for them is no error, because mount(8) repeats what fstab says.
///
/// # Errors
/// When nothing of ours is mounted there, or the change is impossible.
pub fn run(mountpoint: &Path, lists: &[String]) -> Result<ExitCode, CliError> {
    let shown = mountpoint.display();
    let entry = table::lookup(mountpoint).map_err(failure)?;
    let entry = entry
        .filter(|entry| entry.is_littlefs)
        .ok_or_else(|| failure(format_args!("{shown}: no littlefs is mounted there")))?;
    let mut flags = current(&entry);
    for option in options(lists) {
        if let Some((_, _, flag)) = FLAGS.iter().find(|(on, _, _)| *on == option) {
            flags |= flag;
        } else if let Some((_, _, flag)) = FLAGS.iter().find(|(_, off, _)| *off == option) {
            flags &= !flag;
        } else if option.contains('=') && !option.starts_with("x-") && !option.starts_with("X-") {
            log::info!(
                "{shown}: '{option}' stays as it is until it is unmounted and mounted again"
            );
        }
    }
    if entry.has("ro") && flags & libc::MS_RDONLY == 0 && !is_writable(&entry) {
        let options = image::Options { read_only: true, ..image::Options::default() };
        let opened = image::open(&entry.source, &options);
        if opened.is_ok_and(|opened| opened.dialect == Dialect::Chamelon) {
            let (path, reason) = (entry.source, Reason::Chamelon);
            return Err(failure(OpenError { path, reason }));
        }
        return Err(failure(format_args!(
            "{shown}: was mounted read-only, so its image is shared with other readers; to write, \
             unmount it and mount it again with -o rw"
        )));
    }
    change(&entry, flags)?;
    Ok(ExitCode::SUCCESS)
}

/// Make a mount read-only, with everything in the image.
///
/// # Errors
/// When it cannot be, as while files are open for writing.
pub fn make_read_only(entry: &Entry) -> Result<(), CliError> {
    change(entry, current(entry) | libc::MS_RDONLY)
}

fn failure(e: impl std::fmt::Display) -> CliError {
    CliError::new(exit::MOUNT_FAILURE, e)
}

fn current(entry: &Entry) -> libc::c_ulong {
    FLAGS.iter().filter(|(on, _, _)| entry.has(on)).fold(0, |flags, (_, _, flag)| flags | flag)
}

/// Whether the daemon writes: then it does not share the image, or has a journal.
fn is_writable(entry: &Entry) -> bool {
    let about = status::ask(entry).map(|status| status.about);
    about.is_ok_and(|about| about.journal.is_some() && about.read_only.is_none())
        || File::open(&entry.source).is_ok_and(|image| image.try_lock_shared().is_err())
}

fn change(entry: &Entry, flags: libc::c_ulong) -> Result<(), CliError> {
    let shown = entry.mountpoint.display();
    let flush = || File::open(&entry.mountpoint).and_then(|root| root.sync_all());
    let unwritten = |e| failure(format_args!("{shown}: its last changes cannot be written: {e}"));
    let read_only = flags & libc::MS_RDONLY != 0;
    if read_only {
        flush().map_err(unwritten)?;
    }
    sys::mount(&entry.source, &entry.mountpoint, flags | libc::MS_REMOUNT, "").map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::ResourceBusy => {
                "files are open for writing ('fuser -vm DIR' lists who has them)".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => "only root can do that".to_owned(),
            _ => e.to_string(),
        };
        failure(format_args!("{shown}: cannot remount: {why}"))
    })?;
    // What the kernel held back came to the daemon with the change.
    if read_only { flush().map_err(unwritten) } else { Ok(()) }
}
