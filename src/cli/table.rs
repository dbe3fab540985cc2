//! The mount table of this process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::fuse::daemon;

/// The path of the mount table.
pub const MOUNT_TABLE: &str = "/proc/self/mountinfo";
/// The file system type of littlefs mounts.
const FS_TYPE: &[u8] = b"fuse.littlefs";

/// A line of the mount table.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of the mount.
    pub id: u64,
    /// The device number of the filesystem, major and minor; all its mounts have the same number.
    pub device: (u64, u64),
    /// The directory on which it is mounted.
    pub mountpoint: PathBuf,
    /// The image.
    pub source: PathBuf,
    /// Its type.
    pub fs_type: String,
    /// Whether it is a littlefs mount.
    pub is_littlefs: bool,
    /// The options of the mount itself: `ro`, `nosuid`...
    pub options: Vec<String>,
}

impl Entry {
    /// Whether it has an option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// The number of its FUSE connection.
    pub fn connection(&self) -> u64 {
        let (major, minor) = self.device;
        daemon::connection_of(major, minor)
    }
}

/// The topmost mount on a directory.
///
/// # Errors
/// When the mount table cannot be read.
pub fn mounted_on(dir: &Path) -> io::Result<Option<Entry>> {
    let dir = absolute(dir);
    Ok(entries(&read()?).rev().find(|entry| entry.mountpoint == dir))
}

/// The littlefs mounts that name `image` as their source. This proves nothing: every user can give
/// any source to a mount.
///
/// # Errors
/// When the mount table cannot be read.
pub fn claiming(image: &Path) -> io::Result<Vec<Entry>> {
    let image = absolute(image);
    Ok(all()?.into_iter().filter(|entry| entry.source == image).collect())
}

/// The numbers of the mounts of a filesystem, from the mount table of a process at `path`; none if
/// the table cannot be read.
pub fn mounts_of(device: (u64, u64), path: &Path) -> Vec<u64> {
    let table = fs::read(path).unwrap_or_default();
    entries(&table).filter(|entry| entry.device == device).map(|entry| entry.id).collect()
}

/// The topmost mount on a directory, or of an image.
///
/// # Errors
/// When the mount table cannot be read.
pub fn lookup(target: &Path) -> io::Result<Option<Entry>> {
    Ok(find(&read()?, &absolute(target)))
}

/// The mount that holds `path`.
///
/// # Errors
/// When the mount table cannot be read.
pub fn holding(path: &Path) -> io::Result<Option<Entry>> {
    Ok(find_holding(&read()?, &absolute(path)))
}

/// The littlefs mounts.
///
/// # Errors
/// When the mount table cannot be read.
pub fn all() -> io::Result<Vec<Entry>> {
    let table = read()?;
    Ok(entries(&table).filter(|entry| entry.is_littlefs).collect())
}

fn read() -> io::Result<Vec<u8>> {
    fs::read(MOUNT_TABLE).map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::NotFound => "; 'mount -t proc proc /proc' as root makes it available",
            _ => "",
        };
        let text = format!("the table of mounts in {MOUNT_TABLE} cannot be read: {e}{hint}");
        io::Error::new(e.kind(), text)
    })
}

/// The path without symbolic links. A mount whose daemon has died cannot be resolved itself. This
/// must not trigger an automount, because the image may be about to be mounted there. So nothing is
/// opened, and statfs is not called.
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

fn entries(table: &[u8]) -> impl DoubleEndedIterator<Item = Entry> {
    table.split(|&b| b == b'\n').filter_map(parse)
}

fn find(table: &[u8], target: &Path) -> Option<Entry> {
    let entries = || entries(table).rev();
    let mounted_on = entries().find(|entry| entry.mountpoint == target);
    mounted_on.or_else(|| entries().find(|entry| entry.is_littlefs && entry.source == target))
}

fn find_holding(table: &[u8], path: &Path) -> Option<Entry> {
    let above = entries(table).filter(|entry| path.starts_with(&entry.mountpoint));
    // The deepest mount. If several mounts are on the same directory, it is the topmost one, which
    // comes last.
    above.max_by_key(|entry| entry.mountpoint.components().count())
}

/// Parse a line of mountinfo (proc(5)): `id parent device root mountpoint options [optional...] -
/// type source options`.
fn parse(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let rest = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let options = String::from_utf8_lossy(fields.get(5)?);
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let device = fields.get(2)?;
    let colon = device.iter().position(|&b| b == b':')?;
    Some(Entry {
        id: number(fields.first()?)?,
        device: (number(device.get(..colon)?)?, number(device.get(colon + 1..)?)?),
        mountpoint: unescape(fields.get(4)?),
        source: unescape(fields.get(rest + 2)?),
        fs_type: String::from_utf8_lossy(fields.get(rest + 1)?).into_owned(),
        is_littlefs: *fields.get(rest + 1)? == FS_TYPE,
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// Undo the kernel's escapes `\ooo` for spaces and similar characters.
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
        assert_eq!((entry.id, entry.device), (30, (0, 40)));
        assert!(entry.is_littlefs && entry.has("nosuid") && !entry.has("ro"));
        assert_eq!(find(TABLE, Path::new("/tmp/my image")), Some(entry));
        assert_eq!(find(TABLE, Path::new("/mnt")), None);
    }

    #[test]
    fn the_topmost_mount_is_found() {
        assert!(!find(TABLE, Path::new("/mnt/ro")).expect("there").is_littlefs);
        assert!(find(TABLE, Path::new("/tmp/x")).expect("there").has("ro"));
    }

    #[test]
    fn a_path_is_held_by_the_deepest_mount_above_it() {
        let held = |path: &str| find_holding(TABLE, Path::new(path)).expect("there").fs_type;
        assert_eq!(held("/mnt/a b/c/d"), "fuse.littlefs");
        assert_eq!(held("/mnt/a b"), "fuse.littlefs");
        assert_eq!(held("/mnt/a bc"), "ext4");
        assert_eq!(held("/mnt/ro/x"), "tmpfs");
    }

    #[test]
    fn odd_lines_are_skipped() {
        for line in [
            &b""[..],
            b"22 1 8:1 / /",
            b"- - - - - - - -",
            b"1 2 x:y 4 5 6 - fuse a rw",
            b"1 2 3 4 5 6 - fuse",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
        assert_eq!(unescape(b"a\\04"), Path::new("a\\04"));
        assert_eq!(unescape(b"a\\999b"), Path::new("a\\999b"));
    }
}
