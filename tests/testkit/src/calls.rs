//! Operations by path, which every filesystem in a comparison performs, and the model that says
//! what they should do.

use std::fmt;

use crate::tree::{Entry, Kind, Tree, join, show, split};

/// One operation with all its parameters. A list of them reproduces a failure.
#[derive(Clone)]
pub enum Call {
    /// Create an empty file.
    Create(Vec<u8>),
    /// Write `pattern(seed, len)` into an existing file; a gap before `off` becomes zeros.
    Write {
        path: Vec<u8>,
        off: u32,
        len: u32,
        seed: u8,
    },
    /// Shorten an existing file, or extend it with zeros.
    Truncate {
        path: Vec<u8>,
        size: u32,
    },
    Mkdir(Vec<u8>),
    /// Remove a file.
    Unlink(Vec<u8>),
    /// Remove an empty directory.
    Rmdir(Vec<u8>),
    /// Rename as POSIX does. With `no_replace`, the new name must not exist.
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
        no_replace: bool,
    },
    /// Set an attribute to `pattern(seed, len)`.
    SetAttr {
        path: Vec<u8>,
        ty: u8,
        len: u32,
        seed: u8,
    },
    RemoveAttr {
        path: Vec<u8>,
        ty: u8,
    },
}

/// Why a call has changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fail {
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    NameTooLong,
    NoAttr,
    NoSpace,
    TooLarge,
    /// A directory cannot be moved into itself.
    Loop,
    /// An error that a sound filesystem never returns.
    Other(String),
}

/// A filesystem that performs calls.
pub trait Subject {
    /// Perform the call, or change nothing.
    fn apply(&mut self, call: &Call) -> Result<(), Fail>;
}

/// Bytes that depend on the position and the seed. With seed 0, all of them are 0xFF, which looks
/// like erased flash.
pub fn pattern(seed: u8, len: u32) -> Vec<u8> {
    if seed == 0 {
        return vec![0xff; len as usize];
    }
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(path) => write!(f, "create {}", show(path)),
            Self::Write { path, off, len, seed } => {
                write!(f, "write {} at {off}: {len} bytes of pattern {seed}", show(path))
            }
            Self::Truncate { path, size } => write!(f, "truncate {} to {size}", show(path)),
            Self::Mkdir(path) => write!(f, "mkdir {}", show(path)),
            Self::Unlink(path) => write!(f, "unlink {}", show(path)),
            Self::Rmdir(path) => write!(f, "rmdir {}", show(path)),
            Self::Rename { from, to, no_replace } => {
                let how = if *no_replace { " (no replace)" } else { "" };
                write!(f, "rename {} to {}{how}", show(from), show(to))
            }
            Self::SetAttr { path, ty, len, seed } => {
                write!(f, "setattr {} {ty:#04x}: {len} bytes of pattern {seed}", show(path))
            }
            Self::RemoveAttr { path, ty } => write!(f, "removeattr {} {ty:#04x}", show(path)),
        }
    }
}

/// The content of a filesystem that does not need blocks.
#[derive(Clone)]
pub struct Model {
    tree: Tree,
    name_max: usize,
}

impl Model {
    /// An empty filesystem.
    pub fn new(name_max: usize) -> Self {
        Self { tree: Tree::from([(Vec::new(), Entry::dir())]), name_max }
    }

    /// A filesystem with this content.
    pub fn from_tree(tree: Tree, name_max: usize) -> Self {
        Self { tree, name_max }
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The content of a file; `None` for everything else.
    pub fn bytes(&self, path: &[u8]) -> &[u8] {
        match self.tree.get(path) {
            Some(Entry { kind: Kind::File(bytes), .. }) => bytes,
            _ => &[],
        }
    }

    fn get(&self, path: &[u8]) -> Result<&Entry, Fail> {
        self.check_parent(path)?;
        self.tree.get(path).ok_or(Fail::NotFound)
    }

    fn get_mut(&mut self, path: &[u8]) -> Result<&mut Entry, Fail> {
        self.check_parent(path)?;
        self.tree.get_mut(path).ok_or(Fail::NotFound)
    }

    fn bytes_mut(&mut self, path: &[u8]) -> Result<&mut Vec<u8>, Fail> {
        match &mut self.get_mut(path)?.kind {
            Kind::File(bytes) => Ok(bytes),
            Kind::Dir => Err(Fail::IsDirectory),
        }
    }

    /// Check that every component before the last one is a directory.
    fn check_parent(&self, path: &[u8]) -> Result<(), Fail> {
        let Some((parent, name)) = split(path) else { return Ok(()) };
        if !self.get(parent)?.is_dir() {
            return Err(Fail::NotDirectory);
        }
        if name.len() > self.name_max { Err(Fail::NameTooLong) } else { Ok(()) }
    }

    fn has_children(&self, path: &[u8]) -> bool {
        self.tree.keys().any(|p| split(p).is_some_and(|(parent, _)| parent == path))
    }

    fn add(&mut self, path: &[u8], entry: Entry) -> Result<(), Fail> {
        self.check_parent(path)?;
        if self.tree.contains_key(path) {
            return Err(Fail::Exists);
        }
        self.tree.insert(path.to_vec(), entry);
        Ok(())
    }

    /// Every reason why a rename may fail, because filesystems may check them in any order.
    pub fn rename_faults(&self, from: &[u8], to: &[u8], no_replace: bool) -> Vec<Fail> {
        let mut faults = Vec::new();
        faults.extend(self.check_parent(to).err());
        let is_dir = match self.get(from) {
            Ok(entry) => entry.is_dir(),
            Err(e) => {
                faults.push(e);
                return faults;
            }
        };
        let target = self.tree.get(to);
        if no_replace && target.is_some() {
            faults.push(Fail::Exists);
        }
        if is_dir && to.starts_with(&join(from, b"")) {
            faults.push(Fail::Loop);
        }
        match target.map(Entry::is_dir) {
            _ if from == to => {}
            Some(true) if !is_dir => faults.push(Fail::IsDirectory),
            Some(false) if is_dir => faults.push(Fail::NotDirectory),
            Some(true) if self.has_children(to) => faults.push(Fail::NotEmpty),
            _ => {}
        }
        faults
    }

    fn rename(&mut self, from: &[u8], to: &[u8], no_replace: bool) -> Result<(), Fail> {
        if let Some(fault) = self.rename_faults(from, to, no_replace).into_iter().next() {
            return Err(fault);
        }
        let below = join(from, b"");
        let moved: Vec<_> =
            self.tree.keys().filter(|p| *p == from || p.starts_with(&below)).cloned().collect();
        for path in moved {
            let entry = self.tree.remove(&path).expect("the key was listed");
            self.tree.insert([to, &path[from.len()..]].concat(), entry);
        }
        Ok(())
    }
}

impl Subject for Model {
    fn apply(&mut self, call: &Call) -> Result<(), Fail> {
        match call {
            Call::Create(path) => self.add(path, Entry::file(Vec::new())),
            Call::Mkdir(path) => self.add(path, Entry::dir()),
            Call::Write { path, off, len, seed } => {
                let bytes = self.bytes_mut(path)?;
                let (start, end) = (*off as usize, (off + len) as usize);
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(&pattern(*seed, *len));
                Ok(())
            }
            Call::Truncate { path, size } => {
                self.bytes_mut(path)?.resize(*size as usize, 0);
                Ok(())
            }
            Call::Unlink(path) => {
                if self.get(path)?.is_dir() {
                    return Err(Fail::IsDirectory);
                }
                self.tree.remove(path);
                Ok(())
            }
            Call::Rmdir(path) => {
                if !self.get(path)?.is_dir() {
                    return Err(Fail::NotDirectory);
                }
                if self.has_children(path) {
                    return Err(Fail::NotEmpty);
                }
                self.tree.remove(path);
                Ok(())
            }
            Call::Rename { from, to, no_replace } => self.rename(from, to, *no_replace),
            Call::SetAttr { path, ty, len, seed } => {
                self.get_mut(path)?.attrs.insert(*ty, pattern(*seed, *len));
                Ok(())
            }
            Call::RemoveAttr { path, ty } => {
                self.get_mut(path)?.attrs.remove(ty).map(drop).ok_or(Fail::NoAttr)
            }
        }
    }
}
