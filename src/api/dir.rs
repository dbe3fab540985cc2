//! Listing directories, and whole trees.

use std::collections::VecDeque;
use std::fmt;

use super::metadata::Metadata;
use super::path::{PATH_MAX, components};
use super::{Core, Littlefs};
use crate::error::{Error, Result, Trouble};
use crate::fs::{DirId, Node};

/// An entry of a directory.
#[derive(Debug, Clone)]
pub struct DirEntry {
    name: Box<[u8]>,
    metadata: Result<Metadata>,
}

impl DirEntry {
    /// Its name, as it is in the image: any bytes except `/` and NUL.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its metadata. Nothing is read for this.
    ///
    /// # Errors
    /// When the entry is damaged.
    pub fn metadata(&self) -> Result<Metadata> {
        self.metadata.clone()
    }
}

/// An error about one path among several.
#[derive(Debug, Clone)]
pub struct PathError {
    /// The path from the root on, without a leading slash.
    pub path: Vec<u8>,
    /// What is wrong there.
    pub error: Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.escape_ascii(), self.error)
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Trouble for PathError {
    fn is_no_space(&self) -> bool {
        self.error.is_no_space()
    }
}

impl From<PathError> for Error {
    fn from(e: PathError) -> Self {
        e.error
    }
}

/// A position in a directory. It is a name, so entries that are added or removed in the meantime do
/// not invalidate it.
struct Cursor {
    dir: DirId,
    /// The entries that were read but not returned yet, with the ids of directories among them.
    ready: VecDeque<(DirEntry, Option<DirId>)>,
    /// The last name that was read; `None` at the start.
    last: Option<Box<[u8]>>,
    done: bool,
}

impl Cursor {
    fn new(dir: DirId) -> Self {
        Self { dir, ready: VecDeque::new(), last: None, done: false }
    }

    fn next(&mut self, fs: &Littlefs) -> Result<Option<(DirEntry, Option<DirId>)>> {
        if self.ready.is_empty() && !self.done {
            let read = fs.core().entries(self.dir, self.last.as_deref());
            // After an error, the listing ends.
            self.done = read.as_ref().map_or(true, Vec::is_empty);
            self.ready = read?.into();
            self.last = self.ready.back().map(|(entry, _)| entry.name.clone());
        }
        Ok(self.ready.pop_front())
    }
}

impl Core {
    /// Some entries of `dir` after the name `from`; an empty list at the end.
    fn entries(
        &mut self,
        dir: DirId,
        from: Option<&[u8]>,
    ) -> Result<Vec<(DirEntry, Option<DirId>)>> {
        let codec = self.codec.as_ref();
        let rows = self.fs.entries(dir, from, &mut |node, attrs| {
            let child = match node {
                Ok(Node::Dir(child)) => Some(child),
                _ => None,
            };
            (node.map(|node| Metadata::new(codec, node, attrs)), child)
        })?;
        let entry = |(name, (metadata, child))| (DirEntry { name, metadata }, child);
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// The entries of a directory, in the order of names that the format uses: by bytes, except that a
/// longer name comes before its own prefix. Made by [`Littlefs::read_dir`].
///
/// Entries are read one metadata pair at a time, with their metadata. Changes in the meantime are
/// seen if they are after the current position.
pub struct ReadDir {
    fs: Littlefs,
    cursor: Cursor,
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(&self.fs).map(|next| next.map(|(entry, _)| entry)).transpose()
    }
}

/// An entry that a walk has met.
#[derive(Debug, Clone)]
pub struct WalkEntry {
    path: Vec<u8>,
    depth: usize,
    metadata: Metadata,
}

impl WalkEntry {
    /// Its path from the root on, without a leading slash.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The number of directories between the start of the walk and this entry: 0 for the entries of
    /// the first directory.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Its metadata. Nothing is read for this.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Everything below a directory, each directory before its entries. Made by [`Littlefs::walk`].
///
/// If something cannot be read, the walk returns an error with its path, and continues after it.
/// For an entry whose name is impossible (it contains `/` or NUL, or is `.` or `..`), it returns
/// [`Error::InvalidName`], and for one whose path is longer than 4096 bytes,
/// [`Error::PathTooLong`].
pub struct Walk {
    fs: Littlefs,
    /// The directories on the way down, each with the length of its path.
    open: Vec<(Cursor, usize)>,
    /// The path of the innermost one, which begins with the paths of all others.
    path: Vec<u8>,
    /// Errors of the innermost directory that are returned before its entries.
    told_first: VecDeque<PathError>,
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    [dir, slash, name].concat()
}

impl Walk {
    /// Skip the rest of the current directory. Directly after the walk has returned a directory,
    /// this skips the whole content of that directory.
    pub fn skip_dir(&mut self) {
        self.told_first.clear();
        self.leave();
    }

    /// Continue in the directory above.
    fn leave(&mut self) {
        self.open.pop();
        self.path.truncate(self.open.last().map_or(0, |&(_, len)| len));
    }

    /// Continue in the directory at `path`, beginning with the errors for impossible names.
    fn enter(&mut self, dir: DirId, path: Vec<u8>) {
        // if the directory cannot be read, its cursor returns the error
        let names = self.fs.core().fs.impossible_names(dir).unwrap_or_default();
        let error =
            |name: Box<[u8]>| PathError { path: join(&path, &name), error: Error::InvalidName };
        self.told_first.extend(names.into_iter().map(error));
        self.open.push((Cursor::new(dir), path.len()));
        self.path = path;
    }
}

impl Iterator for Walk {
    type Item = Result<WalkEntry, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.told_first.pop_front() {
                return Some(Err(error));
            }
            let depth = self.open.len().checked_sub(1)?;
            let (cursor, _) = self.open.last_mut()?;
            let (entry, child) = match cursor.next(&self.fs) {
                Ok(Some(next)) => next,
                Ok(None) => {
                    self.leave();
                    continue;
                }
                Err(error) => {
                    let path = self.path.clone();
                    self.leave();
                    return Some(Err(PathError { path, error }));
                }
            };
            let path = join(&self.path, &entry.name);
            if path.len() > PATH_MAX {
                return Some(Err(PathError { path, error: Error::PathTooLong }));
            }
            return Some(match entry.metadata {
                Ok(metadata) => {
                    if let Some(child) = child {
                        self.enter(child, path.clone());
                    }
                    Ok(WalkEntry { path, depth, metadata })
                }
                Err(error) => Err(PathError { path, error }),
            });
        }
    }
}

impl Littlefs {
    /// The entries of the directory at `path`.
    ///
    /// # Errors
    /// When there is no such directory. If the directory cannot be read, the iterator returns an
    /// error, and ends.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        let dir = self.core().dir(path.as_ref())?;
        Ok(ReadDir { fs: self.clone(), cursor: Cursor::new(dir) })
    }

    /// Everything below the directory at `path`, with paths from the root on.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn walk(&self, path: impl AsRef<[u8]>) -> Result<Walk> {
        let dir = self.core().dir(path.as_ref())?;
        let start: Vec<&[u8]> = components(path.as_ref())?.collect();
        let mut walk = Walk {
            fs: self.clone(),
            open: Vec::new(),
            path: Vec::new(),
            told_first: VecDeque::new(),
        };
        walk.enter(dir, start.join(&b'/'));
        Ok(walk)
    }
}
