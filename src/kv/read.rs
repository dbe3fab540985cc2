//! Reading from a store: the operations of `Mirage_kv.RO`.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{Core, Error, Found, Key, Kind, Result, Store, is_reserved};
use crate::error::Error as CoreError;
use crate::fs::{DirId, Fs, Node, ROOT, Value};
use crate::time::system_time;

/// How many bytes of a value are in memory while its digest is computed.
const PIECE: usize = 1 << 20;

impl From<Node> for Kind {
    fn from(node: Node) -> Self {
        match node {
            Node::File { .. } => Self::Value,
            Node::Dir(_) => Self::Dictionary,
        }
    }
}

impl Store {
    /// What `key` refers to, if anything.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn exists(&self, key: &Key) -> Result<Option<Kind>> {
        match self.kind(key) {
            Err(Error::DictionaryExpected(_)) => Ok(None),
            kind => kind,
        }
    }

    /// Like [`Store::exists`], but it is an error if a segment before the last is a value.
    pub(super) fn kind(&self, key: &Key) -> Result<Option<Kind>> {
        if is_reserved(key) {
            return Ok(None);
        }
        Ok(match self.core().find(key)? {
            Found::Root => Some(Kind::Dictionary),
            Found::At(_, node) => Some(node.into()),
            Found::Nothing => None,
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// `NotFound` if there is no such key; `ValueExpected` if it is a dictionary;
    /// `DictionaryExpected` if a segment before the last is a value; `Core` if the value cannot be
    /// read.
    pub fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.read(key, 0, usize::MAX)
    }

    /// At most `length` bytes of the value of `key`, from byte `offset`. There are fewer, or none,
    /// if the value ends before.
    ///
    /// # Errors
    /// Those of [`Store::get`].
    pub fn get_partial(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.read(key, offset, length)
    }

    fn read(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        loop {
            let mut core = self.core();
            let (dir, name) = core.value_place(key)?;
            match core.fs.value(dir, name) {
                Ok(Value::Inline(mut bytes)) => {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.drain(..start);
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Ok(Value::Blocks { .. }) => {}
                Ok(Value::Dir(_)) => return Err(Error::ValueExpected(key.clone())),
                Err(e) => return Err(not_found(e, key)),
            }
            // the file is opened, so that its blocks stay in use while they are read without the
            // lock
            let life = core.life;
            let file = core.fs.open_file(dir, name)?;
            let plan = core.fs.read(file, offset, length);
            drop(core);
            let bytes = plan.and_then(crate::fs::ReadPlan::run);
            let mut core = self.core();
            if core.life == life {
                core.fs.close_file(file);
                return Ok(bytes?);
            }
        }
    }

    /// The entries of the dictionary `key`, sorted: the keys, and what they refer to.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if it is a value.
    pub fn list(&self, key: &Key) -> Result<Vec<(Key, Kind)>> {
        let mut core = self.core();
        let dir = core.dictionary_at(key)?;
        let names = core.names(dir)?;
        Ok(names.into_iter().map(|(name, node)| (key.child(&name), node.into())).collect())
    }

    /// The time at which the value of `key` was last changed. For a dictionary, this is the latest
    /// time of the values directly in it. If there are none, it is the time that the image stores
    /// for the dictionary.
    ///
    /// If the image stores no time, this is the time of the last change of the store, or
    /// [`super::Options::changed`] before the first change. No value was changed later than that.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if a segment before the last is a value.
    pub fn last_modified(&self, key: &Key) -> Result<SystemTime> {
        let mut core = self.core();
        let dir = match core.found(key)? {
            Found::Root => ROOT,
            Found::At(_, Node::Dir(dir)) => dir,
            Found::At(dir, Node::File { .. }) => return core.time_of(dir, key.basename()),
            Found::Nothing => return Err(Error::NotFound(key.clone())),
        };
        let mut latest = None;
        for (name, node) in core.names(dir)? {
            if matches!(node, Node::File { .. }) {
                latest = latest.max(Some(core.time_of(dir, &name)?));
            }
        }
        Ok(latest.unwrap_or(core.changed))
    }

    /// The SHA-256 of the value of `key`.
    ///
    /// For a dictionary, this is the SHA-256 of one record for each entry, sorted by the bytes of
    /// their names: the byte `v` for a value or `d` for a dictionary, the length of the name (32
    /// bits, little-endian), the name, and the digest of the entry. For an empty dictionary, it is
    /// the SHA-256 of no bytes.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if a segment before the last is a value.
    pub fn digest(&self, key: &Key) -> Result<[u8; 32]> {
        let mut core = self.core();
        match core.found(key)? {
            Found::Root => core.digest_of_dictionary(ROOT),
            Found::At(_, Node::Dir(dir)) => core.digest_of_dictionary(dir),
            Found::At(dir, Node::File { .. }) => digest_of_value(&mut core.fs, dir, key.basename()),
            Found::Nothing => Err(Error::NotFound(key.clone())),
        }
    }

    /// The size of the value of `key` in bytes; for a dictionary, the total of all values in it, at
    /// any depth.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if a segment before the last is a value.
    pub fn size(&self, key: &Key) -> Result<u64> {
        let mut core = self.core();
        let mut todo = match core.found(key)? {
            Found::Root => vec![ROOT],
            Found::At(_, Node::Dir(dir)) => vec![dir],
            Found::At(_, Node::File { size }) => return Ok(u64::from(size)),
            Found::Nothing => return Err(Error::NotFound(key.clone())),
        };
        let mut sum = 0;
        while let Some(dir) = todo.pop() {
            core.for_each_node(dir, |_, node| match node {
                Node::File { size } => sum += u64::from(size),
                Node::Dir(dir) => todo.push(dir),
            })?;
        }
        Ok(sum)
    }
}

impl Core {
    /// What `key` leads to. A key that is reserved for the store leads to nothing.
    pub(super) fn found(&mut self, key: &Key) -> Result<Found> {
        if is_reserved(key) { Err(Error::NotFound(key.clone())) } else { self.find(key) }
    }

    /// The directory and the name under which the value `key` would be.
    fn value_place<'k>(&mut self, key: &'k Key) -> Result<(DirId, &'k [u8])> {
        if key.is_root() {
            return Err(Error::ValueExpected(key.clone()));
        }
        if is_reserved(key) {
            return Err(Error::NotFound(key.clone()));
        }
        self.place(key)
    }

    /// The directory of the dictionary `key`.
    pub(super) fn dictionary_at(&mut self, key: &Key) -> Result<DirId> {
        if is_reserved(key) {
            return Err(Error::NotFound(key.clone()));
        }
        self.dictionary(key.as_bytes())
    }

    /// Call `with` for every visible entry of `dir`, in the order of the image.
    fn for_each_node(&mut self, dir: DirId, mut with: impl FnMut(Box<[u8]>, Node)) -> Result<()> {
        let mut from: Option<Box<[u8]>> = None;
        loop {
            let nodes = self.fs.nodes(dir, from.as_deref(), false)?;
            let Some((last, _)) = nodes.last() else { return Ok(()) };
            from = Some(last.clone());
            for (name, node) in nodes {
                if !is_hidden(dir, &name) {
                    with(name, node);
                }
            }
        }
    }

    /// The visible names in `dir`, sorted by their bytes.
    pub(super) fn names(&mut self, dir: DirId) -> Result<Vec<(Box<[u8]>, Node)>> {
        let mut names = Vec::new();
        self.for_each_node(dir, |name, node| names.push((name, node)))?;
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    fn time_of(&mut self, dir: DirId, name: &[u8]) -> Result<SystemTime> {
        let Some(codec) = &self.codec else { return Ok(self.changed) };
        let (_, meta) = self.fs.lookup_with_attrs(dir, name, |attrs| codec.read(attrs))?;
        let time = meta.mtime.or(meta.birth).or(meta.ctime).or(meta.atime);
        Ok(time.map_or(self.changed, system_time))
    }

    fn digest_of_dictionary(&mut self, dir: DirId) -> Result<[u8; 32]> {
        struct Level {
            dir: DirId,
            hasher: Sha256,
            /// The remaining names, the last one first.
            rest: Vec<(Box<[u8]>, Node)>,
            /// Its name in the level above.
            name: Box<[u8]>,
        }
        let level = |core: &mut Self, dir, name| -> Result<Level> {
            let mut rest = core.names(dir)?;
            rest.reverse();
            Ok(Level { dir, hasher: Sha256::new(), rest, name })
        };
        let record = |hasher: &mut Sha256, kind: u8, name: &[u8], digest: [u8; 32]| {
            hasher.update([kind]);
            hasher.update((name.len() as u32).to_le_bytes());
            hasher.update(name);
            hasher.update(digest);
        };
        // no recursion, because directories can be nested to any depth
        let mut above = Vec::new();
        let mut here = level(self, dir, Box::default())?;
        loop {
            match here.rest.pop() {
                Some((name, Node::File { .. })) => {
                    let digest = digest_of_value(&mut self.fs, here.dir, &name)?;
                    record(&mut here.hasher, b'v', &name, digest);
                }
                Some((name, Node::Dir(dir))) => {
                    above.push(std::mem::replace(&mut here, level(self, dir, name)?));
                }
                None => {
                    let digest = here.hasher.finalize().into();
                    let Some(mut outer) = above.pop() else { return Ok(digest) };
                    record(&mut outer.hasher, b'd', &here.name, digest);
                    here = outer;
                }
            }
        }
    }
}

/// Whether `name` in `dir` is reserved for the store.
pub(super) fn is_hidden(dir: DirId, name: &[u8]) -> bool {
    dir == ROOT && name == super::REDO
}

/// The error for a failed look-up of `key`.
pub(super) fn not_found(e: CoreError, key: &Key) -> Error {
    match e {
        CoreError::NotFound => Error::NotFound(key.clone()),
        e => e.into(),
    }
}

fn digest_of_value(fs: &mut Fs, dir: DirId, name: &[u8]) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    read_pieces(fs, dir, name, |piece| hasher.update(piece))?;
    Ok(hasher.finalize().into())
}

/// Pass the content of the file `name` to `with`, piece by piece.
fn read_pieces(fs: &mut Fs, dir: DirId, name: &[u8], mut with: impl FnMut(&[u8])) -> Result<()> {
    let file = fs.open_file(dir, name)?;
    let size = u64::from(fs.file_size(file)?);
    let mut at = 0;
    let mut result = Ok(());
    while at < size && result.is_ok() {
        result =
            fs.read(file, at, PIECE).and_then(crate::fs::ReadPlan::run).map(|piece| with(&piece));
        at += PIECE as u64;
    }
    fs.close_file(file);
    Ok(result?)
}
