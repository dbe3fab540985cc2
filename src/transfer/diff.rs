//! Comparing two trees, each of which can be an image, a directory or a tar stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::{self, Read};

use super::manifest::{Content, Item, Kind as ItemKind, Manifest, Stat};
use super::pattern::Patterns;
use crate::check::show;
use crate::convention::device_content;
use crate::journal::{Change, ChangeKind};
use crate::show::cause;
use crate::time::nanos;
use crate::{FileType, Littlefs, Metadata, PathError};

/// How many bytes are compared at a time.
const PIECE: usize = 256 << 10;
const NANOS: i64 = 1_000_000_000;

/// One of the two trees.
pub enum Side {
    /// The content of an image, or of a state of its journal.
    Image(Littlefs),
    /// Entries that were collected on the host: see [`gather`](super::gather()).
    Host(Manifest),
}

/// The rules of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The entries to be left out on both sides.
    pub exclude: Patterns,
    /// Whether owners, modes and times are compared if one side is the host. Two images are always
    /// compared with all their user attributes.
    pub metadata: bool,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// How the path changed from the first tree to the second.
    pub change: Change,
    /// For a path in both trees: whether the content differs.
    pub content: bool,
    /// For a path in both trees: whether attributes, owners, modes or times differ.
    pub metadata: bool,
}

/// Why two trees cannot be compared.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiffError {
    /// A part of an image cannot be read.
    Image(PathError),
    /// A file or directory of the host cannot be read.
    Host(Vec<u8>, io::Error),
}

impl fmt::Display for DiffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(e) => write!(f, "/{}: {}", show(&e.path), e.error),
            Self::Host(path, e) => {
                write!(f, "{}: cannot be read: {}", show(path), cause(e))
            }
        }
    }
}

impl std::error::Error for DiffError {}

impl From<PathError> for DiffError {
    fn from(e: PathError) -> Self {
        Self::Image(e)
    }
}

/// Compare two trees. The differences are in the order of their paths. If a file was removed at one
/// path, and a new file with the same content is at another path, the file counts as renamed,
/// unless several pairs match.
///
/// # Errors
/// When a part of either side cannot be read.
pub fn diff(a: &Side, b: &Side, how: &Comparison) -> Result<Vec<Difference>, DiffError> {
    let (old, new) = (a.entries(how)?, b.entries(how)?);
    let both_images = matches!((a, b), (Side::Image(_), Side::Image(_)));
    let mut found = Vec::new();
    let (mut gone, mut added) = (BTreeSet::new(), BTreeSet::new());
    for (path, entry) in &old {
        let Some(other) = new.get(path) else {
            gone.insert(&path[..]);
            continue;
        };
        if entry.file_type != other.file_type {
            gone.insert(path);
            added.insert(&path[..]);
            continue;
        }
        let content = entry.file_type != FileType::Dir
            && (entry.size != other.size || !same_content(a, path, entry, b, path, other)?);
        let metadata = match both_images {
            true => entry.attrs != other.attrs,
            false => how.metadata && !entry.told.agrees(&other.told),
        };
        if content || metadata {
            let change = change(ChangeKind::Modified, path, entry.file_type);
            found.push(Difference { change, content, metadata });
        }
    }
    added.extend(new.keys().filter(|&path| !old.contains_key(path)).map(|path| &path[..]));
    match_renamed((a, &old), (b, &new), &mut gone, &mut added, &mut found)?;
    for (paths, entries, kind) in
        [(gone, &old, ChangeKind::Deleted), (added, &new, ChangeKind::Added)]
    {
        let of = |path| entries.get(path).map(|entry: &Entry<'_>| entry.file_type);
        found.extend(paths.into_iter().map(|path| Difference {
            change: change(kind, path, of(path).unwrap_or(FileType::File)),
            content: false,
            metadata: false,
        }));
    }
    found.sort_unstable();
    Ok(found)
}

/// Find files that were removed at one path and are new at another one, with the same content.
fn match_renamed<'p>(
    (a, old): (&Side, &'p Entries<'_>),
    (b, new): (&Side, &'p Entries<'_>),
    gone: &mut BTreeSet<&'p [u8]>,
    added: &mut BTreeSet<&'p [u8]>,
    found: &mut Vec<Difference>,
) -> Result<(), DiffError> {
    // compare type and size first, which does not need the content; content is read only if a
    // single pair matches
    let mut pairs: HashMap<(FileType, u64), [Vec<&[u8]>; 2]> = HashMap::new();
    for (side, (paths, entries)) in [(&*gone, old), (&*added, new)].into_iter().enumerate() {
        for path in paths {
            let Some(entry) = entries.get(*path) else { continue };
            if entry.file_type != FileType::Dir && entry.size > 0 {
                let both = pairs.entry((entry.file_type, entry.size)).or_default();
                if let Some(paths) = both.get_mut(side) {
                    paths.push(path);
                }
            }
        }
    }
    for [from, to] in pairs.into_values().filter(|[from, to]| !from.is_empty() && !to.is_empty()) {
        let digest = |side, entries: &Entries<'_>, path: &[u8]| match entries.get(path) {
            Some(entry) => digest(side, path, entry),
            None => Ok(0),
        };
        let mut by_digest: HashMap<u32, [Vec<&[u8]>; 2]> = HashMap::new();
        for path in from {
            by_digest.entry(digest(a, old, path)?).or_default()[0].push(path);
        }
        for path in to {
            by_digest.entry(digest(b, new, path)?).or_default()[1].push(path);
        }
        for [from, to] in by_digest.into_values() {
            let (&[from], &[to]) = (&from[..], &to[..]) else { continue };
            let (Some(was), Some(is)) = (old.get(from), new.get(to)) else { continue };
            if from != to && same_content(a, from, was, b, to, is)? {
                gone.remove(from);
                added.remove(to);
                let mut change = change(ChangeKind::Renamed, to, is.file_type);
                change.from = Some([b"/", from].concat());
                found.push(Difference { change, content: false, metadata: false });
            }
        }
    }
    Ok(())
}

/// A path in the form of a change: with a leading slash, and for a directory with a slash at the
/// end.
fn change(kind: ChangeKind, path: &[u8], file_type: FileType) -> Change {
    let end: &[u8] = if file_type == FileType::Dir { b"/" } else { b"" };
    Change { path: [b"/", path, end].concat(), kind, from: None }
}

/// The facts about an entry that are known without reading its content.
struct Entry<'a> {
    file_type: FileType,
    size: u64,
    /// All user attributes, if the entry is in an image.
    attrs: Vec<(u8, Vec<u8>)>,
    told: Told,
    item: Option<&'a Item>,
}

type Entries<'a> = BTreeMap<Vec<u8>, Entry<'a>>;

/// The metadata that one side has for an entry.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    /// The time of the last change, in nanoseconds since 1970.
    modified: Option<i64>,
}

impl Told {
    fn of_image(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.permissions(),
            owner: metadata.uid().zip(metadata.gid()),
            modified: metadata.modified().map(nanos),
        }
    }

    fn of_host(stat: &Stat) -> Self {
        Self {
            mode: Some(stat.mode & 0o7777),
            owner: Some((stat.uid, stat.gid)),
            modified: stat.mtime,
        }
    }

    /// Whether the metadata agrees, as far as both sides have it. Many images only store whole
    /// seconds, so times are compared only to the second if one of them is whole.
    fn agrees(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(a: Option<T>, b: Option<T>, is_same: impl Fn(T, T) -> bool) -> bool {
            a.zip(b).is_none_or(|(a, b)| is_same(a, b))
        }
        let same_time = |a: i64, b: i64| {
            let is_whole = a.rem_euclid(NANOS) == 0 || b.rem_euclid(NANOS) == 0;
            a == b || is_whole && a.div_euclid(NANOS) == b.div_euclid(NANOS)
        };
        same(self.mode, other.mode, |a, b| a == b)
            && same(self.owner, other.owner, |a, b| a == b)
            && same(self.modified, other.modified, same_time)
    }
}

impl Side {
    fn entries(&self, how: &Comparison) -> Result<Entries<'_>, DiffError> {
        match self {
            Self::Image(image) => image_entries(image, how),
            Self::Host(manifest) => {
                let items = manifest.items().iter();
                let items = items.filter(|item| !how.exclude.matches_any(&item.path));
                Ok(items.map(|item| (item.path.to_vec(), host_entry(item))).collect())
            }
        }
    }

    fn open<'s>(&'s self, path: &[u8], entry: &Entry<'s>) -> Result<Stream<'s>, DiffError> {
        match (self, entry.item) {
            (Self::Host(_), Some(Item { kind: ItemKind::Special { rdev }, .. })) => {
                Ok(Stream::Bytes(io::Cursor::new(special_content(*rdev))))
            }
            (Self::Host(manifest), Some(item)) => {
                let content = manifest.open(item);
                content.map(Stream::Host).map_err(|e| DiffError::Host(path.to_vec(), e))
            }
            (Self::Image(image), _) if entry.file_type == FileType::File => {
                let file = image.open_file(path).map_err(|error| located(path, error))?;
                Ok(Stream::Image(file, 0))
            }
            // the content of links and devices is small
            (Self::Image(image), _) => {
                let bytes = image.read(path).map_err(|error| located(path, error))?;
                Ok(Stream::Bytes(io::Cursor::new(bytes)))
            }
            (Self::Host(_), None) => Ok(Stream::Bytes(io::Cursor::default())),
        }
    }
}

fn located(path: &[u8], error: crate::Error) -> DiffError {
    DiffError::Image(PathError { path: path.to_vec(), error })
}

fn image_entries<'a>(image: &Littlefs, how: &Comparison) -> Result<Entries<'a>, DiffError> {
    let mut entries = Entries::new();
    let mut walk = image.walk("").map_err(|error| located(b"", error))?;
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let (path, metadata) = (entry.path().to_vec(), entry.metadata());
        if how.exclude.matches(&path) {
            if metadata.is_dir() {
                walk.skip_dir();
            }
            continue;
        }
        let mut attrs = image.attrs(&path).map_err(|error| located(&path, error))?;
        attrs.sort_unstable();
        let (file_type, size) = (metadata.file_type(), metadata.len());
        let told = Told::of_image(metadata);
        entries.insert(path, Entry { file_type, size, attrs, told, item: None });
    }
    Ok(entries)
}

fn host_entry(item: &Item) -> Entry<'_> {
    let file_type = match item.kind {
        ItemKind::Dir => FileType::Dir,
        ItemKind::File => FileType::File,
        ItemKind::Symlink => FileType::Symlink,
        ItemKind::Special { .. } => FileType::of_file(item.stat.mode),
    };
    let size = match item.kind {
        ItemKind::Special { rdev } => special_content(rdev).len() as u64,
        _ => item.size,
    };
    let told = Told::of_host(&item.stat);
    Entry { file_type, size, attrs: Vec::new(), told, item: Some(item) }
}

/// The content that an image has for a device, or for a FIFO or socket, which have no number.
fn special_content(rdev: u32) -> Vec<u8> {
    if rdev == 0 { Vec::new() } else { device_content(rdev).to_vec() }
}

/// The content of an entry.
enum Stream<'a> {
    /// A file of an image, and the position of the next byte.
    Image(crate::File, u64),
    Host(Content<'a>),
    Bytes(io::Cursor<Vec<u8>>),
}

impl Stream<'_> {
    /// Read the next bytes into `buf`: [`PIECE`] bytes, or fewer at the end.
    fn next(&mut self, path: &[u8], buf: &mut Vec<u8>) -> Result<(), DiffError> {
        let fail = |e| DiffError::Host(path.to_vec(), e);
        match self {
            Self::Host(content) => content.fill(buf, PIECE).map_err(fail),
            Self::Image(file, at) => {
                buf.resize(PIECE, 0);
                let read = file.read_at(buf, *at).map_err(|error| located(path, error))?;
                buf.truncate(read);
                *at += read as u64;
                Ok(())
            }
            Self::Bytes(bytes) => {
                buf.clear();
                bytes.take(PIECE as u64).read_to_end(buf).map_err(fail).map(|_| ())
            }
        }
    }
}

/// Whether two entries of the same size have the same content.
fn same_content<'s>(
    a: &'s Side,
    a_path: &[u8],
    a_entry: &Entry<'s>,
    b: &'s Side,
    b_path: &[u8],
    b_entry: &Entry<'s>,
) -> Result<bool, DiffError> {
    let (mut left, mut right) = (a.open(a_path, a_entry)?, b.open(b_path, b_entry)?);
    let (mut left_buf, mut right_buf) = (Vec::new(), Vec::new());
    loop {
        left.next(a_path, &mut left_buf)?;
        right.next(b_path, &mut right_buf)?;
        if left_buf != right_buf {
            return Ok(false);
        }
        if left_buf.is_empty() {
            return Ok(true);
        }
    }
}

/// A checksum of the content, by which candidates are found.
fn digest(side: &Side, path: &[u8], entry: &Entry<'_>) -> Result<u32, DiffError> {
    let mut stream = side.open(path, entry)?;
    let (mut crc, mut buf) = (crc32fast::Hasher::new(), Vec::new());
    loop {
        stream.next(path, &mut buf)?;
        if buf.is_empty() {
            return Ok(crc.finalize());
        }
        crc.update(&buf);
    }
}
