//! The visible state of a filesystem, however it was read, and the differences between two such
//! states.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// User attributes of one entry, by type.
pub type Attrs = BTreeMap<u8, Vec<u8>>;

/// The kind of an entry.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file with this content.
    File(Vec<u8>),
}

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Directory or file.
    pub kind: Kind,
    /// Its attributes, of the requested types.
    pub attrs: Attrs,
}

impl Entry {
    /// An empty directory.
    pub fn dir() -> Self {
        Self { kind: Kind::Dir, attrs: Attrs::new() }
    }

    /// A file.
    pub fn file(bytes: Vec<u8>) -> Self {
        Self { kind: Kind::File(bytes), attrs: Attrs::new() }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }
}

/// All entries by path. The components of a path are joined by `/`, and the root is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// The path of `name` in the directory `dir`.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The directory of a path, and its last component. The root has neither.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    })
}

/// A path in a form for people.
pub fn show(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Dir => f.write_str("dir")?,
            Kind::File(bytes) => write!(f, "file of {} bytes", bytes.len())?,
        }
        for (ty, value) in &self.attrs {
            write!(f, ", attr {ty:#04x} of {} bytes", value.len())?;
        }
        Ok(())
    }
}

/// Empty if the trees are equal, and otherwise one line for each entry that differs.
pub fn diff(left_name: &str, left: &Tree, right_name: &str, right: &Tree) -> Result<(), String> {
    let mut out = String::new();
    for (path, l) in left {
        match right.get(path) {
            None => _ = writeln!(out, "{}: only in {left_name} ({l:?})", show(path)),
            Some(r) if l != r => {
                _ = writeln!(out, "{}: {left_name} has {l:?}, {right_name} has {r:?}", show(path));
                describe_change(&mut out, l, r);
            }
            Some(_) => {}
        }
    }
    for (path, r) in right.iter().filter(|(path, _)| !left.contains_key(*path)) {
        _ = writeln!(out, "{}: only in {right_name} ({r:?})", show(path));
    }
    if out.is_empty() { Ok(()) } else { Err(out) }
}

fn describe_change(out: &mut String, l: &Entry, r: &Entry) {
    if let (Kind::File(a), Kind::File(b)) = (&l.kind, &r.kind)
        && let Some(at) = a.iter().zip(b).position(|(x, y)| x != y)
    {
        _ = writeln!(out, "    first different byte: {at} ({:#04x}, {:#04x})", a[at], b[at]);
    }
    for (ty, value) in &l.attrs {
        if let Some(other) = r.attrs.get(ty)
            && other != value
        {
            _ = writeln!(
                out,
                "    attr {ty:#04x}: {}, {}",
                value.escape_ascii(),
                other.escape_ascii()
            );
        }
    }
}
