//! What a path leads to.

use super::Core;
use crate::error::{Error, Result};
use crate::fs::{At, DirId, Node, ROOT};

/// The longest path in bytes, as on Linux. Directories can be nested thousands of levels deep.
/// Without this limit, the total size of all their paths would grow with the square of the depth.
pub(super) const PATH_MAX: usize = 4096;

/// What a path names.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    /// The root directory.
    Root,
    /// The entry with this name in a directory. It need not exist.
    Entry(DirId, &'p [u8]),
}

impl<'p> Place<'p> {
    /// Where the user attributes of the place are stored.
    pub fn at(self) -> At<'p> {
        match self {
            Self::Root => At::Root,
            Self::Entry(dir, name) => At::Entry(dir, name),
        }
    }

    /// The directory and the name, for operations that are not possible on the root directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the root directory.
    pub fn entry(self) -> Result<(DirId, &'p [u8])> {
        match self {
            Self::Root => Err(Error::Invalid("this is not possible for the root directory")),
            Self::Entry(dir, name) => Ok((dir, name)),
        }
    }
}

/// The components of a path. Empty ones and `.` are left out, and `..` is refused.
pub(super) fn components(path: &[u8]) -> Result<impl DoubleEndedIterator<Item = &[u8]> + Clone> {
    if path.len() > PATH_MAX {
        return Err(Error::PathTooLong);
    }
    let parts = path.split(|&b| b == b'/').filter(|part| !matches!(part, [] | [b'.']));
    // `..` is refused because programs do not agree on its meaning: the parent directory may be
    // another one than the component before it says.
    if parts.clone().any(|part| part == b"..") {
        return Err(Error::InvalidName);
    }
    Ok(parts)
}

impl Core {
    /// What `path` names.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::NotDirectory`] if a directory above it is missing or is a
    /// file; [`Error::PathTooLong`] and [`Error::InvalidName`] for an impossible path.
    pub fn place<'p>(&mut self, path: &'p [u8]) -> Result<Place<'p>> {
        let mut parts = components(path)?;
        let Some(name) = parts.next_back() else { return Ok(Place::Root) };
        let mut dir = ROOT;
        for part in parts {
            dir = self.child(dir, part)?;
        }
        Ok(Place::Entry(dir, name))
    }

    /// The directory that `path` names.
    ///
    /// # Errors
    /// Those of [`Self::place`], and [`Error::NotDirectory`] if the path names a file.
    pub fn dir(&mut self, path: &[u8]) -> Result<DirId> {
        match self.place(path)? {
            Place::Root => Ok(ROOT),
            Place::Entry(dir, name) => self.child(dir, name),
        }
    }

    /// The entry that `place` names.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, and an error if it is damaged or cannot be
    /// read.
    pub fn node(&mut self, place: Place<'_>) -> Result<Node> {
        match place {
            Place::Root => Ok(Node::Dir(ROOT)),
            Place::Entry(dir, name) => self.fs.lookup(dir, name),
        }
    }

    /// The directory called `name` in `dir`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, and [`Error::NotDirectory`] if it is a file.
    pub fn child(&mut self, dir: DirId, name: &[u8]) -> Result<DirId> {
        match self.fs.lookup(dir, name)? {
            Node::Dir(child) => Ok(child),
            Node::File { .. } => Err(Error::NotDirectory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_meaning() {
        let parts = |path: &'static str| components(path.as_bytes()).expect(path).count();
        for (path, count) in [("", 0), ("/", 0), (".", 0), ("//./", 0), ("a", 1), ("/a//b/./c/", 3)]
        {
            assert_eq!(parts(path), count, "{path}");
        }
        assert_eq!(parts("...") + parts("..a/.b"), 3);
        for path in ["..", "a/../b", "/..", "a/.."] {
            assert!(
                matches!(components(path.as_bytes()).err(), Some(Error::InvalidName)),
                "{path}"
            );
        }
    }
}
