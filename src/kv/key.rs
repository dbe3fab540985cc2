//! Keys: paths of segments.

use std::cmp::Ordering;
use std::fmt;

use super::{Error, Result};

/// A path of segments; the empty one is the top-level dictionary.
///
/// Segments are bytes, and `/` separates them. A `/` at the start or the end is ignored, and
/// several in a row count as one: `foo/bar`, `/foo/bar` and `/foo//bar/` are the same key. Keys are
/// ordered segment by segment, each by its bytes, so the content of a dictionary comes directly
/// after the dictionary.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// The segments with `/` between them.
    path: Box<[u8]>,
}

impl Key {
    /// The key of the top-level dictionary.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The key for a path.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if a segment cannot be the name of a directory entry on Linux: `.`,
    /// `..`, or one that contains NUL.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self> {
        let path = path.as_ref();
        let mut joined = Vec::with_capacity(path.len());
        for segment in path.split(|&b| b == b'/').filter(|s| !s.is_empty()) {
            let invalid = |why| Err(Error::InvalidKey(Self { path: path.into() }, why));
            if matches!(segment, b"." | b"..") {
                return invalid("'.' and '..' cannot be segments");
            }
            if segment.contains(&0) {
                return invalid("a segment cannot contain a NUL");
            }
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(segment);
        }
        Ok(Self { path: joined.into() })
    }

    /// The key `self/segment`.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if `segment` is empty or contains `/`, and the errors of [`Key::new`].
    pub fn join(&self, segment: impl AsRef<[u8]>) -> Result<Self> {
        let segment = segment.as_ref();
        if segment.is_empty() || segment.contains(&b'/') {
            return Err(Error::InvalidKey(
                self.child(segment),
                "a segment must not be empty, and cannot contain '/'",
            ));
        }
        Self::new(&self.child(segment).path)
    }

    /// The key `self/name`. The caller knows that `name` is a segment.
    pub(super) fn child(&self, name: &[u8]) -> Self {
        let slash: &[u8] = if self.is_root() { b"" } else { b"/" };
        Self { path: [&*self.path, slash, name].concat().into() }
    }

    /// The concatenated key `self/other`.
    #[must_use]
    pub fn append(&self, other: &Self) -> Self {
        if other.is_root() { self.clone() } else { self.child(&other.path) }
    }

    /// Its segments.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.path.split(|&b| b == b'/').filter(|s| !s.is_empty())
    }

    /// The last segment; empty for the top-level dictionary.
    #[must_use]
    pub fn basename(&self) -> &[u8] {
        self.split().1
    }

    /// The key without its last segment. For the top-level dictionary, this is the same key.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self { path: self.split().0.into() }
    }

    /// The path of the parent, and the last segment.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.path.iter().rposition(|&b| b == b'/') {
            Some(at) => (&self.path[..at], &self.path[at + 1..]),
            None => (b"", &self.path),
        }
    }

    /// Whether it is the key of the top-level dictionary.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// Whether it is `other`, or a key inside the dictionary `other`.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        let rest = self.path.strip_prefix(&*other.path);
        rest.is_some_and(|rest| other.is_root() || rest.is_empty() || rest[0] == b'/')
    }

    /// The dictionaries that contain it, beginning with the top-level dictionary.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = Self> {
        let slashes = self.path.iter().enumerate().filter(|(_, b)| **b == b'/');
        let root = (!self.is_root()).then(Self::root);
        root.into_iter().chain(slashes.map(|(at, _)| Self { path: self.path[..at].into() }))
    }

    /// The segments, separated by `/`, without one at the start.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.path
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        // `/` counts as 0, because the end of a segment sorts before every byte; no byte is NUL
        let rank = |b: u8| if b == b'/' { 0 } else { b };
        let (mut a, mut b) = (&*self.path, &*other.path);
        // batches compare keys very often, so eight bytes are compared at a time
        while let (Some((x, rest_of_a)), Some((y, rest_of_b))) =
            (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
        {
            let differing = u64::from_be_bytes(*x) ^ u64::from_be_bytes(*y);
            if differing != 0 {
                let at = (differing.leading_zeros() / 8) as usize;
                return rank(x[at]).cmp(&rank(y[at]));
            }
            (a, b) = (rest_of_a, rest_of_b);
        }
        a.iter().map(|&b| rank(b)).cmp(b.iter().map(|&b| rank(b)))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The path with a leading `/`. Bytes that are not UTF-8 are replaced.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.path).trim_start_matches('/'))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key::new(path).expect(path)
    }

    #[test]
    fn extra_slashes_are_ignored() {
        for same in ["/foo/bar", "foo/bar", "//foo//bar/"] {
            assert_eq!(key(same), key("foo/bar"));
            assert_eq!(key(same).to_string(), "/foo/bar");
        }
        assert!(key("/").is_root() && key("") == Key::root());
        assert_eq!(Key::root().to_string(), "/");
        assert_eq!(key("a/b/c").segments().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(Key::root().segments().count(), 0);
    }

    #[test]
    fn a_key_is_its_parent_and_its_basename() {
        for path in ["a", "a/b", "a/b/c"] {
            let key = key(path);
            assert_eq!(key.parent().join(key.basename()).expect("join"), key);
        }
        assert_eq!((Key::root().parent(), Key::root().basename()), (Key::root(), &b""[..]));
        assert_eq!(key("a").append(&key("b/c")), key("a/b/c"));
        assert_eq!(key("a").append(&Key::root()), key("a"));
        let above: Vec<Key> = key("a/b/c").ancestors().collect();
        assert_eq!(above, [Key::root(), key("a"), key("a/b")]);
        assert_eq!(Key::root().ancestors().count(), 0);
    }

    #[test]
    fn a_segment_that_cannot_be_an_entry_name_is_refused() {
        for wrong in ["..", "a/./b", "a/..", "a\0b"] {
            assert!(matches!(Key::new(wrong), Err(Error::InvalidKey(..))), "{wrong:?}");
        }
        for wrong in ["", "a/b", ".", "/"] {
            assert!(matches!(key("d").join(wrong), Err(Error::InvalidKey(..))), "{wrong:?}");
        }
        assert_eq!(key("...").basename(), b"...");
        assert_eq!(Key::new([0xff, b'/', 0x80]).expect("bytes").basename(), [0x80]);
    }

    #[test]
    fn the_content_of_a_dictionary_sorts_after_it() {
        let mut keys = ["b", "a/b", "a-b", "a", "a/b/c", "a0", ""].map(key);
        keys.sort();
        assert_eq!(keys, ["", "a", "a/b", "a/b/c", "a-b", "a0", "b"].map(key));
        // the same behind a prefix of any length
        for prefix in (0..20).map(|n| "p".repeat(n)) {
            let behind = |key: &Key| Key::new(format!("{prefix}x{key}")).expect("a key");
            let behind: Vec<Key> = keys.iter().map(behind).collect();
            assert!(behind.is_sorted_by(|a, b| a < b), "{behind:?}");
            let reverse = behind.iter().rev();
            assert!(reverse.is_sorted_by(|a, b| a > b));
        }
        assert!(key("a/b").starts_with(&key("a")) && key("a").starts_with(&key("a")));
        assert!(!key("ab").starts_with(&key("a")) && key("x").starts_with(&Key::root()));
    }
}
