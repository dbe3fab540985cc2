//! `littlefs umount`: write what is unwritten, unmount, and wait until the image is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::mount::unmount;
use crate::sys;

/// The mount table of this process.
const MOUNT_TABLE: &str = "/proc/self/mountinfo";
/// File system type of our mounts.
const FS_TYPE: &[u8] = b"fuse.littlefs";

/// Unmount, and wait until everything is in the image
#[derive(Args, Debug)]
#[command(after_help = "\
A plain 'umount' returns before the daemon has written its last changes. This waits for the end
of the daemon, so that the image can be flashed or copied right away:

  littlefs umount /mnt && esptool write_flash 0x100000 dump.bin

What cannot be written stays mounted, so that it can be copied elsewhere; 'umount' gives it up.")]
pub struct UmountArgs {
    /// Directory the image is mounted on, or the image
    target: PathBuf,
}

/// Run the command.
///
/// # Errors
/// When nothing of ours is mounted there, or it cannot be unmounted.
pub fn run(args: &UmountArgs) -> Result<ExitCode, CliError> {
    let shown = args.target.display();
    let target = absolute(&args.target);
    let table =
        fs::read(MOUNT_TABLE).map_err(|e| CliError::failure(format_args!("{MOUNT_TABLE}: {e}")))?;
    let entry = find(&table, &target)
        .ok_or_else(|| CliError::failure(format_args!("{shown}: not mounted")))?;
    if !entry.is_littlefs {
        return Err(CliError::failure(format_args!("{shown}: not a littlefs mount")));
    }
    let failure = |e: io::Error| CliError::failure(format_args!("cannot unmount {shown}: {e}"));
    write_back(&entry.mountpoint).map_err(|e| {
        CliError::failure(format_args!(
            "{shown}: not unmounted, because its last changes cannot be written: {e} (the system's \
             log says more; 'umount {shown}' gives them up)"
        ))
    })?;
    unmount(&entry.mountpoint, false).map_err(failure)?;
    wait_for_daemon(&entry)
        .map_err(|e| CliError::failure(format_args!("{}: {e}", entry.source.display())))?;
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
    if !sys::is_dead_mount(path) {
        return Ok(false);
    }
    match find(&fs::read(MOUNT_TABLE)?, &absolute(path)) {
        Some(entry) if entry.is_littlefs => unmount(&entry.mountpoint, true).map(|()| true),
        _ => Ok(false),
    }
}

/// The path without symbolic links; a mount whose daemon died cannot be resolved itself.
fn absolute(path: &Path) -> PathBuf {
    let resolved = fs::canonicalize(path).or_else(|_| {
        let path = std::path::absolute(path)?;
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok::<_, io::Error>(fs::canonicalize(parent)?.join(name)),
            _ => Ok(path),
        }
    });
    resolved.unwrap_or_else(|_| path.to_owned())
}

/// A line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mountpoint: PathBuf,
    source: PathBuf,
    is_littlefs: bool,
    read_only: bool,
}

/// The topmost mount on a directory, or of an image.
fn find(table: &[u8], target: &Path) -> Option<Entry> {
    let entries = || table.split(|&b| b == b'\n').filter_map(parse).rev();
    let mounted_on = entries().find(|entry| entry.mountpoint == target);
    mounted_on.or_else(|| entries().find(|entry| entry.is_littlefs && entry.source == target))
}

/// Parse a line of mountinfo (proc(5)): `id parent device root mountpoint options [optional...] -
/// type source options`.
fn parse(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let rest = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let options = fields.get(5)?;
    Some(Entry {
        mountpoint: unescape(fields.get(4)?),
        source: unescape(fields.get(rest + 2)?),
        is_littlefs: *fields.get(rest + 1)? == FS_TYPE,
        read_only: options.split(|&b| b == b',').any(|option| option == b"ro"),
    })
}

/// Undo the kernel's `\ooo` for spaces and the like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Wait until the daemon releases the image, which it does last of all. A read-only mount shares
/// the image with others and leaves nothing to wait for.
fn wait_for_daemon(entry: &Entry) -> io::Result<()> {
    let image = match File::open(&entry.source) {
        Ok(image) => image,
        // Removed while mounted, or not ours to read: then nobody waits for its content.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if entry.read_only { image.lock_shared() } else { image.lock() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:40 / /mnt/a\\040b rw,nosuid,nodev - fuse.littlefs /tmp/my\\040image rw,user_id=0\n\
31 22 0:41 / /mnt/ro ro,nosuid shared:7 master:2 - fuse.littlefs /tmp/x ro\n\
32 31 0:42 / /mnt/ro rw - tmpfs tmpfs rw\n";

    #[test]
    fn mounts_are_found_by_directory_and_by_image() {
        let entry = find(TABLE, Path::new("/mnt/a b")).expect("there");
        assert_eq!(entry.source, Path::new("/tmp/my image"));
        assert!(entry.is_littlefs && !entry.read_only);
        assert_eq!(find(TABLE, Path::new("/tmp/my image")), Some(entry));
        assert_eq!(find(TABLE, Path::new("/mnt")), None);
    }

    #[test]
    fn the_topmost_mount_counts() {
        assert!(!find(TABLE, Path::new("/mnt/ro")).expect("there").is_littlefs);
        assert!(find(TABLE, Path::new("/tmp/x")).expect("there").read_only);
    }

    #[test]
    fn odd_lines_are_skipped() {
        for line in [&b""[..], b"22 1 8:1 / /", b"- - - - - - - -", b"1 2 3 4 5 6 - fuse"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
        assert_eq!(unescape(b"a\\04"), Path::new("a\\04"));
        assert_eq!(unescape(b"a\\999b"), Path::new("a\\999b"));
    }
}
