//! Copying files and directories of the host into an existing image.

use std::fmt;
use std::io;

use super::Progress;
use super::build::Refusal;
use super::manifest::{Item, Kind, Manifest, split};
use crate::check::show;
use crate::error::{Error, Trouble};
use crate::time::system_time;
use crate::{FileType, Littlefs, PathError, SetMetadata};

/// Files of at most this many bytes are read as a whole.
const WHOLE_MAX: u64 = 1 << 20;
/// How many bytes of a larger file are read at a time.
pub(super) const PIECE: usize = 1 << 20;

/// Why files could not be put into an image.
#[derive(Debug)]
#[non_exhaustive]
pub enum PutError {
    /// All entries that the image cannot store, or that conflict with existing entries.
    Refused(Vec<Refusal>),
    /// The content of an entry cannot be read on the host.
    Unreadable(Vec<u8>, io::Error),
    /// Access to the image failed.
    Image(PathError),
    /// The operation was told to stop after this much was done.
    Stopped(Put),
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(entries) => {
                let count = crate::show::count(entries.len(), "entry", "entries");
                writeln!(f, "{count} cannot be stored in the image:")?;
                let mut rest = entries.iter().peekable();
                while let Some(refusal) = rest.next() {
                    write!(f, "  {refusal}")?;
                    if rest.peek().is_some() {
                        writeln!(f)?;
                    }
                }
                Ok(())
            }
            Self::Unreadable(path, e) => {
                write!(f, "{}: cannot be read: {}", show(path), crate::show::cause(e))
            }
            Self::Image(e) => write!(f, "/{}: {}", show(&e.path), e.error),
            Self::Stopped(done) => write!(
                f,
                "interrupted after {} and {}",
                crate::show::files(done.files),
                crate::show::directories(done.directories)
            ),
        }
    }
}

impl std::error::Error for PutError {}

impl From<PathError> for PutError {
    fn from(e: PathError) -> Self {
        Self::Image(e)
    }
}

impl Trouble for PutError {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::Image(e) if e.is_no_space())
    }
}

/// What was put into an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Put {
    /// Files, new or replaced.
    pub files: u64,
    /// New directories.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// The destination in an image for the entries of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Below this directory, under their paths.
    Into(Vec<u8>),
    /// The first component of their paths, which is the same for all, becomes this path.
    As(Vec<u8>),
}

impl Destination {
    /// The destination as for cp(1): if `path` is a directory of the image, everything goes below
    /// it. Otherwise `path` is the new name of the single source.
    ///
    /// # Errors
    /// When `path` is not a directory and there are several sources, or the parent directory of
    /// `path` does not exist.
    pub fn like_cp(image: &Littlefs, path: &[u8], sources: usize) -> Result<Self, PathError> {
        let clean = clean(path);
        match is_dir(image, &clean)? {
            Some(true) => Ok(Self::Into(clean)),
            _ => Self::named(image, path, sources),
        }
    }

    /// The single source gets the name `path`, even if that is a directory.
    ///
    /// # Errors
    /// When there are several sources, or the parent directory of `path` does not exist.
    pub fn named(image: &Littlefs, path: &[u8], sources: usize) -> Result<Self, PathError> {
        let clean = clean(path);
        let failed = |path: &[u8], error| Err(PathError { path: path.to_vec(), error });
        if sources > 1 || path.ends_with(b"/") {
            let is_missing = is_dir(image, &clean)?.is_none();
            return failed(&clean, if is_missing { Error::NotFound } else { Error::NotDirectory });
        }
        let (parent, _) = split(&clean);
        match is_dir(image, parent)? {
            Some(true) => Ok(Self::As(clean)),
            Some(false) => failed(parent, Error::NotDirectory),
            None => failed(parent, Error::NotFound),
        }
    }

    /// The destination of the entry with the path `path`.
    pub fn of(&self, path: &[u8]) -> Vec<u8> {
        match self {
            Self::Into(dir) if dir.is_empty() => path.to_vec(),
            Self::Into(dir) => [dir, &b"/"[..], path].concat(),
            Self::As(name) => {
                let first = path.iter().position(|&b| b == b'/').unwrap_or(path.len());
                [&name[..], path.get(first..).unwrap_or_default()].concat()
            }
        }
    }
}

/// A path without empty components and `.`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// Whether the entry at `path` is a directory; `None` if there is no entry.
fn is_dir(image: &Littlefs, path: &[u8]) -> Result<Option<bool>, PathError> {
    match image.metadata(path) {
        Ok(metadata) => Ok(Some(metadata.is_dir())),
        Err(Error::NotFound) => Ok(None),
        Err(Error::NotDirectory) => {
            // name the file that stands in place of a directory
            let above = std::iter::successors(Some(path), |path| Some(split(path).0));
            let exists = |path: &&[u8]| path.is_empty() || image.metadata(path).is_ok();
            let file = above.skip(1).find(exists).unwrap_or_default();
            Err(PathError { path: file.to_vec(), error: Error::NotDirectory })
        }
        Err(error) => Err(PathError { path: path.to_vec(), error }),
    }
}

/// Check, without changing the image, that all entries of a manifest can be put into it.
///
/// # Errors
/// [`PutError::Refused`] with all entries that cannot be put, and [`PutError::Image`] when the
/// image cannot be read.
pub fn check(image: &Littlefs, manifest: &Manifest, dest: &Destination) -> Result<(), PutError> {
    let limits = image.limits();
    let special = image.convention().is_some_and(|c| c.special_files);
    let mut refused = super::build::refusals(manifest, limits.name_max, limits.file_max, special);
    for item in manifest.items() {
        let path = dest.of(&item.path);
        let why = match image.metadata(&path) {
            Ok(there) if there.is_dir() == (item.kind == Kind::Dir) => continue,
            Ok(there) if there.is_dir() => "a directory in the image has this name",
            Ok(_) => "a file in the image has the name of this directory",
            Err(Error::NotFound | Error::NotDirectory) => continue,
            Err(error) => return Err(PutError::Image(PathError { path, error })),
        };
        refused.push(Refusal { path, why: why.to_owned() });
    }
    if refused.is_empty() { Ok(()) } else { Err(PutError::Refused(refused)) }
}

/// Put every entry of `manifest` into the image, in memory. Existing files are replaced, and
/// entries are added to existing directories. `stop` is called before each entry.
///
/// # Errors
/// One [`PutError`] for each reason. The entries before the one that failed are already stored.
pub fn put(
    image: &Littlefs,
    manifest: &Manifest,
    dest: &Destination,
    progress: &Progress<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Put, PutError> {
    let mut done = Put::default();
    let mut buf = Vec::new();
    for item in manifest.items() {
        if stop() {
            return Err(PutError::Stopped(done));
        }
        let path = dest.of(&item.path);
        let is_new = put_item(image, manifest, item, &path, &mut buf, &|at| {
            progress(done.bytes + at);
        })?;
        match item.kind {
            Kind::Dir => done.directories += u64::from(is_new),
            _ => done.files += 1,
        }
        done.bytes += item.size;
        progress(done.bytes);
    }
    Ok(done)
}

/// Put one entry at `path`; false for a directory that exists already.
pub(super) fn put_item(
    image: &Littlefs,
    manifest: &Manifest,
    item: &Item,
    path: &[u8],
    buf: &mut Vec<u8>,
    progress: &Progress<'_>,
) -> Result<bool, PutError> {
    let failed = |error| PutError::Image(PathError { path: path.to_vec(), error });
    let set = set_metadata(item);
    match item.kind {
        Kind::Dir => match image.create_dir_with(path, &set) {
            Ok(()) => {}
            Err(Error::Exists) => return Ok(false),
            Err(e) => return Err(failed(e)),
        },
        Kind::Symlink | Kind::Special { .. } => {
            let content = read_whole(manifest, item, buf)?;
            match image.remove_file(path) {
                Ok(()) | Err(Error::NotFound) => {}
                Err(e) => return Err(failed(e)),
            }
            image.make_special(path, file_type(item), content, &set).map_err(failed)?;
        }
        Kind::File if item.size <= WHOLE_MAX => {
            let content = read_whole(manifest, item, buf)?;
            image.write_with(path, content, &set).map_err(failed)?;
        }
        Kind::File => {
            put_large(image, manifest, item, path, buf, progress)?;
            image.set_metadata(path, &set).map_err(failed)?;
        }
    }
    Ok(true)
}

fn read_whole<'b>(
    manifest: &Manifest,
    item: &Item,
    buf: &'b mut Vec<u8>,
) -> Result<&'b [u8], PutError> {
    let unreadable = |e| PutError::Unreadable(item.path.to_vec(), e);
    let mut content = manifest.open(item).map_err(unreadable)?;
    content.fill(buf, usize::try_from(item.size).unwrap_or(usize::MAX)).map_err(unreadable)?;
    Ok(buf)
}

fn put_large(
    image: &Littlefs,
    manifest: &Manifest,
    item: &Item,
    path: &[u8],
    buf: &mut Vec<u8>,
    progress: &Progress<'_>,
) -> Result<(), PutError> {
    let failed = |error| PutError::Image(PathError { path: path.to_vec(), error });
    let unreadable = |e| PutError::Unreadable(item.path.to_vec(), e);
    let mut content = manifest.open(item).map_err(unreadable)?;
    let file = image.create_file(path).map_err(failed)?;
    let mut at = 0;
    while at < item.size {
        content.fill(buf, PIECE).map_err(unreadable)?;
        file.write_at(buf, at).map_err(failed)?;
        at += buf.len() as u64;
        progress(at);
    }
    file.close().map_err(failed)
}

/// The type of an entry.
pub(super) fn file_type(item: &Item) -> FileType {
    match item.stat.mode & libc::S_IFMT {
        libc::S_IFREG => FileType::File,
        libc::S_IFDIR => FileType::Dir,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::Fifo,
    }
}

/// The metadata of an entry of the host. The image stores as much of it as it can.
pub(super) fn set_metadata(item: &Item) -> SetMetadata {
    let modified = item.stat.mtime.map(system_time);
    SetMetadata {
        modified,
        permissions: Some(item.stat.mode & 0o7777),
        uid: Some(item.stat.uid),
        gid: Some(item.stat.gid),
        ..SetMetadata::default()
    }
}
