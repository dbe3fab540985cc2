//! The entries to put into an image, as a list in a fixed order.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk::name;
use crate::{Error, Littlefs, PathError};

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link, whose content is its target.
    Symlink,
    /// A device, FIFO or socket: only the mode and, for a device, its number.
    Special {
        /// The device number as the kernel encodes it; 0 for a FIFO or a socket.
        rdev: u32,
    },
}

/// The metadata of an entry on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Last change of the content, in nanoseconds since 1970; `None` for a directory that occurs in
    /// a tar stream only in the paths of other entries.
    pub mtime: Option<i64>,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where the content of an entry is read from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// There is no content.
    Nothing,
    /// The file of the host with the path of the item, below this root.
    Below(u32),
    /// This root itself.
    Root(u32),
    /// Bytes of the spooled tar stream, from this position on.
    Spool(u64),
    /// These bytes: the target of a link.
    Bytes(Box<[u8]>),
    /// The entry of the same path in the image from which the manifest was made.
    Image,
}

/// One entry to be stored.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its path in the image: components joined by `/`, without a leading one. The path of the root
    /// directory is empty.
    pub path: Box<[u8]>,
    /// Its kind.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Its metadata on the host.
    pub stat: Stat,
    pub(super) source: Source,
}

impl Item {
    /// The path of its directory, and its name there.
    pub fn split(&self) -> (&[u8], &[u8]) {
        split(&self.path)
    }
}

/// The directory and the name of a path without a leading `/`.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// The entries to put into an image. Parents come before children, and the entries of a directory
/// are together, in the order of the C driver.
#[derive(Debug, Default)]
pub struct Manifest {
    pub(super) items: Vec<Item>,
    pub(super) roots: Vec<PathBuf>,
    /// The content of a tar stream.
    pub(super) spool: Option<File>,
    /// The image from which everything is copied, if the content does not come from the host.
    pub(super) image: Option<Littlefs>,
    /// The metadata of the root directory on the host, if there is any.
    pub root: Option<Stat>,
}

/// A stat without information.
const NO_STAT: Stat = Stat { mtime: None, mode: 0, uid: 0, gid: 0 };

impl Manifest {
    /// The whole content of an image, to be copied unchanged: content and all user attributes,
    /// which are not interpreted. So the image must have been opened without a convention
    /// ([`Choice::None`](crate::convention::Choice::None)).
    ///
    /// # Errors
    /// When a directory cannot be read, or an entry has a name that is impossible for a file.
    pub fn of_image(image: &Littlefs) -> Result<Self, PathError> {
        let located = |error| PathError { path: Vec::new(), error };
        if image.convention().is_some() {
            return Err(located(Error::Invalid("the image was opened with a convention")));
        }
        let mut items = Vec::new();
        for entry in image.walk("").map_err(located)? {
            let entry = entry?;
            let metadata = entry.metadata();
            let kind = if metadata.is_dir() { Kind::Dir } else { Kind::File };
            let (path, size) = (entry.path().into(), metadata.len());
            items.push(Item { path, kind, size, stat: NO_STAT, source: Source::Image });
        }
        let mut manifest = Self { items, image: Some(image.clone()), ..Self::default() };
        manifest.sort();
        Ok(manifest)
    }

    /// The user attributes of an item in the image from which it is copied.
    pub(super) fn attrs(&self, item: &Item) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        match (&item.source, &self.image) {
            (Source::Image, Some(image)) => image.attrs(&item.path),
            _ => Ok(Vec::new()),
        }
    }

    /// The same for the root directory.
    pub(super) fn root_attrs(&self) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        self.image.as_ref().map_or_else(|| Ok(Vec::new()), |image| image.attrs(""))
    }

    /// The entries, without the root directory.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Bytes of content in all files.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    /// Keep only the entries for which `keep` is true. If a directory is left out, the caller must
    /// also leave out its content.
    pub fn retain(&mut self, keep: impl FnMut(&Item) -> bool) {
        self.items.retain(keep);
    }

    /// Leave out directories that contain no file at any depth.
    pub fn drop_empty_directories(&mut self) {
        let mut needed: HashSet<Box<[u8]>> = HashSet::new();
        for item in self.items.iter().filter(|item| item.kind != Kind::Dir) {
            let (mut dir, _) = item.split();
            while !dir.is_empty() && needed.insert(dir.into()) {
                (dir, _) = split(dir);
            }
        }
        self.items.retain(|item| item.kind != Kind::Dir || needed.contains(&item.path));
    }

    /// The files and directories of the host from which the content comes, for the dependencies of
    /// a build.
    pub fn host_paths(&self) -> Vec<PathBuf> {
        let of_items = self.items.iter().filter_map(|item| self.host_path(item));
        let all: BTreeSet<PathBuf> = self.roots.iter().cloned().chain(of_items).collect();
        all.into_iter().collect()
    }

    fn host_path(&self, item: &Item) -> Option<PathBuf> {
        let root = |i: u32| self.roots.get(i as usize);
        match item.source {
            Source::Below(i) => Some(root(i)?.join(OsStr::from_bytes(&item.path))),
            Source::Root(i) => root(i).cloned(),
            Source::Nothing | Source::Spool(_) | Source::Bytes(_) | Source::Image => None,
        }
    }

    /// The entry with that path. The entries must be in order.
    pub(super) fn find(&self, path: &[u8]) -> Option<&Item> {
        let at = self.items.binary_search_by(|item| compare(&item.path, path)).ok()?;
        self.items.get(at)
    }

    /// Put the entries in order.
    pub(super) fn sort(&mut self) {
        self.items.sort_by(|a, b| compare(&a.path, &b.path));
    }

    /// The content of an item, to be read.
    pub(super) fn open<'a>(&'a self, item: &'a Item) -> io::Result<Content<'a>> {
        let origin = match &item.source {
            Source::Nothing => Origin::Bytes(&[]),
            Source::Bytes(bytes) => Origin::Bytes(bytes),
            Source::Spool(at) => {
                Origin::Spool(self.spool.as_ref().ok_or(ErrorKind::NotFound)?, *at)
            }
            Source::Below(_) | Source::Root(_) => {
                let path = self.host_path(item).ok_or(ErrorKind::NotFound)?;
                let mut file = open_regular(&path)?;
                if item.size == 0 && file.read(&mut [0])? > 0 {
                    // as the files of /proc do
                    return Err(io::Error::other(
                        "it says that it is empty, but has content; give a copy of it",
                    ));
                }
                Origin::Host(file)
            }
            Source::Image => {
                let image = self.image.as_ref().ok_or(ErrorKind::NotFound)?;
                Origin::Image(image.open_file(&item.path).map_err(io::Error::other)?)
            }
        };
        Ok(Content { origin, left: item.size })
    }
}

/// The order of a manifest: by directory, and within a directory in the order of the C driver. The
/// entry of a directory comes before its content, because the path of its parent is shorter.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let ((dir_a, name_a), (dir_b, name_b)) = (split(a), split(b));
    dir_a.cmp(dir_b).then_with(|| name::cmp(name_a, name_b))
}

/// Open a regular file of the host. Opening does not block, whatever may have replaced the file
/// since it was examined.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "is no longer a regular file"))
    }
}

/// The origin of bytes.
enum Origin<'a> {
    Bytes(&'a [u8]),
    Host(File),
    Image(crate::File),
    Spool(&'a File, u64),
}

/// The content of an item. It gives exactly as many bytes as the item has, or an error.
pub(super) struct Content<'a> {
    origin: Origin<'a>,
    left: u64,
}

impl Content<'_> {
    /// Fill `buf` with the next bytes; fewer only at the end of the content.
    ///
    /// # Errors
    /// When the source fails, or is now shorter than the item.
    pub fn fill(&mut self, buf: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let want = usize::try_from(self.left).unwrap_or(most).min(most);
        buf.resize(want, 0);
        match &mut self.origin {
            Origin::Bytes(bytes) => bytes.read_exact(buf)?,
            Origin::Image(file) => file.read_exact(buf)?,
            Origin::Host(file) => file.read_exact(buf).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => {
                    io::Error::new(e.kind(), "became shorter while it was read")
                }
                _ => e,
            })?,
            Origin::Spool(file, at) => {
                file.read_exact_at(buf, *at)?;
                *at += want as u64;
            }
        }
        self.left -= want as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children_and_directories_stay_together() {
        let mut paths: Vec<&[u8]> =
            vec![b"b", b"a/x", b"a-b/z", b"a", b"a/xy", b"a-b", b"a/x/deep", b"ab"];
        paths.sort_by(|a, b| compare(a, b));
        let expected: [&[u8]; 8] =
            [b"a-b", b"ab", b"a", b"b", b"a/xy", b"a/x", b"a-b/z", b"a/x/deep"];
        assert_eq!(paths, expected);
        for (i, path) in paths.iter().enumerate() {
            let (dir, _) = split(path);
            assert!(dir.is_empty() || paths[..i].contains(&dir), "{i}");
        }
    }
}
