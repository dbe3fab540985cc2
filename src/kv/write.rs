//! Changing a store: the operations of `Mirage_kv.RW`.

use std::sync::Arc;
use std::time::SystemTime;

use super::redo::{self, Change, Changes};
use super::shadow::Shadow;
use super::{Core, Error, Found, Key, REDO, Result, Store, is_reserved};
use crate::bd::BlockDevice;
use crate::convention::Target;
use crate::error::Error as CoreError;
use crate::fs::{At, Content, DirId, Fs, Hold, Node, ROOT, Value};
use crate::time::{self, nanos};

impl Store {
    /// Set `key` to `value`. Missing dictionaries are made. After a crash, the key has either its
    /// whole old value or its whole new value.
    ///
    /// # Errors
    /// `ValueExpected` if `key` is a dictionary; `DictionaryExpected` if a segment before the last
    /// is a value; `InvalidKey` if the image does not allow the key; `NoSpace`; `Core` if the store
    /// is read-only, or the device fails.
    pub fn set(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.change(|core| core.set(key, Content::Bytes(value), core.now()))
    }

    /// Write `data` at byte `offset` of the value of `key`, or at its end if the value is shorter.
    /// The bytes after `data` are kept. If there is no value, or dictionaries are missing, this is
    /// the same as [`Store::set`].
    ///
    /// # Errors
    /// Those of [`Store::set`].
    pub fn set_partial(&self, key: &Key, offset: u64, data: &[u8]) -> Result<()> {
        self.change(|core| core.set_partial(key, offset, data))
    }

    /// Set `key`, which must not exist, to `size` zeros. Its time of the last change becomes
    /// `last_modified`, or the current time.
    ///
    /// # Errors
    /// `AlreadyPresent` if it exists, and the errors of [`Store::set`].
    pub fn allocate(&self, key: &Key, size: u64, last_modified: Option<SystemTime>) -> Result<()> {
        self.change(|core| {
            core.check(key)?;
            match core.find(key)? {
                Found::Root | Found::At(..) => Err(Error::AlreadyPresent(key.clone())),
                Found::Nothing => {
                    let time = last_modified.map_or_else(|| core.now(), nanos);
                    core.set(key, Content::Zeros(size), time)
                }
            }
        })
    }

    /// Remove the value or dictionary of `key`, if there is one. A dictionary is removed with
    /// everything in it. After a crash, either all of it exists or none of it. Dictionaries that
    /// become empty are removed as well.
    ///
    /// # Errors
    /// `InvalidKey` for the top-level dictionary; `DictionaryExpected` if a segment before the last
    /// is a value; `Core` if the store is read-only, or the device fails.
    pub fn remove(&self, key: &Key) -> Result<()> {
        self.change(|core| core.remove(key))
    }

    /// Rename `source` to `dest`. A value may replace a value. If `dest` is a dictionary, `source`
    /// is moved into it, under its own last segment. Missing dictionaries of `dest` are made, and
    /// dictionaries that become empty without `source` are removed. After a crash, exactly one of
    /// the two keys exists.
    ///
    /// # Errors
    /// `NotFound` if there is no `source`; `ValueExpected` if `source` is a dictionary and would
    /// replace a value; `RenameSourcePrefix` if `source` is a dictionary and `dest` is inside it;
    /// `AlreadyPresent` if `source` would be moved into `dest`, where a dictionary of its name
    /// exists already; and the errors of [`Store::set`] for `dest`.
    pub fn rename(&self, source: &Key, dest: &Key) -> Result<()> {
        self.change(|core| core.rename(source, dest))
    }

    /// Do `op`, and flush it if the options say so. If it fails, its partial changes are
    /// dropped.
    fn change<T>(&self, op: impl FnOnce(&mut Core) -> Result<T>) -> Result<T> {
        let mut core = self.core();
        core.begin()?;
        let result = op(&mut core);
        core.version += 1;
        if result.is_ok() {
            core.changed = SystemTime::now();
        }
        if core.durable && core.fs.is_dirty() {
            core.flush_or_reload()?;
        }
        result
    }
}

impl Core {
    /// This is called before any change.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.read_only || self.fs.is_read_only() {
            return Err(CoreError::ReadOnly.into());
        }
        if self.unfinished { self.finish() } else { Ok(()) }
    }

    pub(super) fn now(&self) -> i64 {
        time::now()
    }

    /// Flush. If there is no space for that, changes that are not on disk are dropped.
    fn flush_or_reload(&mut self) -> Result<()> {
        match self.fs.flush() {
            Err(CoreError::NoSpace) => {
                self.reload()?;
                Err(Error::NoSpace)
            }
            flushed => Ok(flushed?),
        }
    }

    /// Refuse keys that cannot be set.
    pub(super) fn check(&self, key: &Key) -> Result<()> {
        let name_max = self.fs.superblock().name_max as usize;
        if is_reserved(key) {
            return Err(Error::InvalidKey(
                key.clone(),
                "the store uses this name itself; choose another key",
            ));
        }
        if key.segments().any(|segment| segment.len() > name_max) {
            return Err(Error::InvalidKey(
                key.clone(),
                "a segment is longer than the image allows",
            ));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, key: &Key, content: Content<'_>, time: i64) -> Result<()> {
        if key.is_root() {
            return Err(Error::ValueExpected(key.clone()));
        }
        self.check(key)?;
        let (parent, name) = key.split();
        self.within(parent, |core, dir| {
            let changes = Self::changes(core.codec.as_ref(), time, Target::File);
            core.fs.set_value(dir, name, content, &changes).map_err(|e| match e {
                CoreError::IsDirectory => Error::ValueExpected(key.clone()),
                CoreError::NameTooLong => Error::InvalidKey(
                    key.clone(),
                    "its name does not fit into a block of the image",
                ),
                e => e.into(),
            })
        })
    }

    /// Do `op` in the dictionary at `path`, which is made if it does not exist, and removed again
    /// if `op` fails.
    fn within<T>(
        &mut self,
        path: &[u8],
        op: impl FnOnce(&mut Self, DirId) -> Result<T>,
    ) -> Result<T> {
        let mut made = Vec::new();
        let result = match self.dictionary(path) {
            Ok(dir) => Ok(dir),
            Err(Error::NotFound(_)) => self.make(path, &mut made),
            Err(e) => Err(e),
        };
        let result = result.and_then(|dir| op(self, dir));
        if result.is_err() && !made.is_empty() {
            self.dirs.clear();
            for (dir, name) in made.into_iter().rev() {
                self.fs.rmdir(dir, &name)?;
            }
        }
        result
    }

    /// Make the missing dictionaries of `path`, and add each to `made`.
    fn make(&mut self, path: &[u8], made: &mut Vec<(DirId, Box<[u8]>)>) -> Result<DirId> {
        let key = Key::new(path)?;
        let mut dir = ROOT;
        for segment in key.segments() {
            dir = match self.fs.lookup(dir, segment) {
                Ok(Node::Dir(dir)) => dir,
                // `dictionary` has already refused such a path
                Ok(Node::File { .. }) => return Err(Error::DictionaryExpected(key.clone())),
                Err(CoreError::NotFound) => {
                    let attrs = Self::changes(self.codec.as_ref(), self.now(), Target::Dir)(None);
                    let new = self.fs.mkdir_with_attrs(dir, segment, &attrs)?;
                    made.push((dir, segment.into()));
                    new
                }
                Err(e) => return Err(e.into()),
            };
        }
        self.remember(path, dir);
        Ok(dir)
    }

    fn set_partial(&mut self, key: &Key, offset: u64, data: &[u8]) -> Result<()> {
        self.check(key)?;
        let now = self.now();
        let (dir, size) = match self.find(key)? {
            Found::Root | Found::At(_, Node::Dir(_)) => {
                return Err(Error::ValueExpected(key.clone()));
            }
            Found::At(dir, Node::File { size }) => (dir, size),
            Found::Nothing => {
                return self.set(key, Content::Bytes(data), now);
            }
        };
        let name = key.basename();
        let offset = offset.min(u64::from(size));
        if let Value::Inline(mut bytes) = self.fs.value(dir, name)? {
            let (start, end) = (offset as usize, offset as usize + data.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
            return self.set(key, Content::Bytes(&bytes), now);
        }
        let file = self.fs.open_file(dir, name)?;
        let written = self.fs.write(file, offset, data);
        self.fs.close_file(file);
        written?;
        // the value is what matters, so a lack of space for the time is no failure
        if let Err(e) = self.touch(dir, name, now) {
            log::warn!("{key}: its time is not stored: {e}");
        }
        Ok(())
    }

    fn touch(&mut self, dir: DirId, name: &[u8], time: i64) -> Result<()> {
        let changes = Self::changes(self.codec.as_ref(), time, Target::File);
        let at = At::Entry(dir, name);
        let attrs = self.fs.with_attrs(at, |attrs| changes(Some(attrs)))?;
        for (ty, data) in attrs {
            self.fs.set_attr(at, ty, &data)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<()> {
        if key.is_root() {
            return Err(Error::InvalidKey(
                key.clone(),
                "the top-level dictionary cannot be removed or renamed",
            ));
        }
        self.check(key)?;
        match self.find(key)? {
            Found::At(dir, Node::File { .. }) => self.fs.unlink(dir, key.basename())?,
            Found::At(dir, Node::Dir(child)) if self.fs.is_empty(child)? => {
                self.dirs.clear();
                self.fs.rmdir(dir, key.basename())?;
            }
            // its content takes many commits, so a crash in between must be repaired like that of a
            // batch: the whole dictionary is visible, or no part of it
            Found::At(_, Node::Dir(_)) => {
                let changes = Changes::from([(key.clone(), Change::Gone)]);
                return self.apply_atomically(&changes, self.now());
            }
            Found::Root | Found::Nothing => return Ok(()),
        }
        self.prune(&key.parent())
    }

    /// Remove the dictionary at `key` and its parents, as far as they are empty.
    fn prune(&mut self, key: &Key) -> Result<()> {
        let mut key = key.clone();
        while !key.is_root() {
            let dir = match self.dictionary(key.as_bytes()) {
                Ok(dir) => dir,
                Err(Error::NotFound(_) | Error::DictionaryExpected(_)) => return Ok(()),
                Err(e) => return Err(e),
            };
            if !self.fs.is_empty(dir)? {
                return Ok(());
            }
            let (parent, name) = self.place(&key)?;
            self.fs.rmdir(parent, name)?;
            self.dirs.remove(key.as_bytes());
            key = key.parent();
        }
        Ok(())
    }

    fn rename(&mut self, source: &Key, dest: &Key) -> Result<()> {
        self.check(source)?;
        self.check(dest)?;
        let (dir, is_dictionary) = match self.find(source)? {
            Found::Root => {
                return Err(Error::RenameSourcePrefix(source.clone(), dest.clone()));
            }
            Found::At(dir, node) => (dir, matches!(node, Node::Dir(_))),
            Found::Nothing => return Err(Error::NotFound(source.clone())),
        };
        if is_dictionary && dest.starts_with(source) {
            return Err(Error::RenameSourcePrefix(source.clone(), dest.clone()));
        }
        let inside = match self.find(dest)? {
            Found::Root | Found::At(_, Node::Dir(_)) => dest.child(source.basename()),
            Found::At(_, Node::File { .. }) | Found::Nothing => dest.clone(),
        };
        if inside == *source {
            return Ok(());
        }
        match self.find(&inside)? {
            Found::Root | Found::At(_, Node::Dir(_)) => return Err(Error::AlreadyPresent(inside)),
            Found::At(_, Node::File { .. }) if is_dictionary => {
                return Err(Error::ValueExpected(source.clone()));
            }
            Found::At(_, Node::File { .. }) | Found::Nothing => {}
        }
        self.check(&inside)?;
        let (parent, name) = inside.split();
        self.within(parent, |core, to| {
            core.fs.rename(dir, source.basename(), to, name, false).map_err(|e| match e {
                CoreError::NameTooLong => Error::InvalidKey(
                    inside.clone(),
                    "its name does not fit into a block of the image",
                ),
                e => e.into(),
            })
        })?;
        if is_dictionary {
            self.dirs.clear();
        }
        if self.durable {
            // removing directories that become empty would cause a flush in any case
            self.flush_or_reload()?;
        }
        self.prune(&source.parent())
    }

    /// Finish the batch, or the removal of a dictionary, that a crash or a failure interrupted.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.fs.lookup(ROOT, REDO) {
            Ok(Node::File { .. }) => {
                let bytes = self.redo_value()?;
                let (changes, time) = redo::decode(&bytes).ok_or_else(not_ours)?;
                self.redo(&changes, time)?;
                self.drop_redo()?;
            }
            Ok(Node::Dir(_)) => return Err(not_ours()),
            Err(CoreError::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
        self.unfinished = false;
        Ok(())
    }

    /// Apply the changes of a redo value again, durably.
    ///
    /// They are first applied without a flush in between. If there is no space for that, a flush in
    /// between may free some. If even that fails, and it is certain that no change of the batch is
    /// on disk, the batch is dropped. This is allowed, because its caller was never told that it
    /// succeeded.
    fn redo(&mut self, changes: &Changes, time: i64) -> Result<()> {
        // parts of new directories that the crash has left behind take space until they are removed
        self.fs.finish_interrupted()?;
        match self.apply_held(changes, time, true) {
            Err(Error::NoSpace) => {
                self.reload()?;
                if self.nothing_is_made(changes)?
                    && let Err(Error::NoSpace) =
                        self.rehearse(|copy| copy.apply_and_flush(changes, time, true))
                {
                    log::warn!("an interrupted batch is dropped, because there is no space for it");
                    return Ok(());
                }
                self.apply_and_flush(changes, time, true)
            }
            applied => {
                applied?;
                Ok(self.fs.flush()?)
            }
        }
    }

    /// Apply `changes`, with flushes in between if they free space that is needed, and flush.
    fn apply_and_flush(&mut self, changes: &Changes, now: i64, repeat: bool) -> Result<()> {
        self.apply(changes, now, repeat)?;
        Ok(self.fs.flush()?)
    }

    /// Apply `changes` in memory only. This fails with `NoSpace` if it cannot be done without a
    /// flush in between.
    fn apply_held(&mut self, changes: &Changes, now: i64, repeat: bool) -> Result<()> {
        self.fs.hold(Hold::All);
        let applied = self.apply(changes, now, repeat);
        self.fs.hold(Hold::Nothing);
        applied
    }

    /// Make a change on a copy of the image in memory, to find out whether there is space for it.
    ///
    /// A success means that the change will succeed on the real image, because the filesystem code
    /// does the same on the same bytes.
    fn rehearse(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let copy: Arc<dyn BlockDevice> = Arc::new(Shadow::new(Arc::clone(&self.dev)));
        let fs = Fs::open_to_change(Arc::clone(&copy), &self.open)?;
        // the copy is complete, because the real filesystem has no unwritten changes in memory
        let real = (std::mem::replace(&mut self.dev, copy), std::mem::replace(&mut self.fs, fs));
        self.dirs.clear();
        let done = change(self);
        (self.dev, self.fs) = real;
        self.reload()?;
        done
    }

    /// Whether there is certainly enough space for `changes` and a redo value of `redo_len` bytes.
    fn has_plenty_of_space(&mut self, changes: &Changes, redo_len: usize) -> Result<bool> {
        let block_size = self.fs.geometry().block_size as usize;
        let inline_max = self.fs.inline_max() as usize;
        // twice the number of blocks for this many bytes, including the pointers of a list
        let blocks = |bytes: usize| 4 * (bytes / block_size + 1);
        let of_change = |(key, change): (&Key, &Change)| {
            let value = match change {
                Change::Set { data, .. } if data.len() > inline_max => blocks(data.len()),
                // a pair with large entries may have to be split several times
                Change::Set { data, .. } if data.len() > block_size / 8 => 8,
                Change::Set { .. } | Change::Gone => 0,
            };
            // Each segment may make a dictionary or split a pair, and a pair that is written may
            // move because its blocks are worn.
            value + 4 * key.segments().count()
        };
        let most = changes.iter().map(of_change).sum::<usize>() + blocks(redo_len) + 32;
        Ok(self.fs.usage()?.blocks_free as usize > most)
    }

    /// Whether it is certain that no change of a batch is on disk.
    fn nothing_is_made(&mut self, changes: &Changes) -> Result<bool> {
        for (key, change) in changes {
            if self.may_be_made(key, change)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a change of a batch is on disk, or may partly be there.
    fn may_be_made(&mut self, key: &Key, change: &Change) -> Result<bool> {
        Ok(match (change, self.find(key)?) {
            // the values in the dictionary are removed one by one, so some may be gone
            (_, Found::At(_, Node::Dir(_))) => true,
            (Change::Gone, found) => !matches!(found, Found::At(..)),
            (Change::Set { data, .. }, Found::At(dir, Node::File { size })) => {
                self.is_value(dir, key, size, data)?
            }
            (Change::Set { .. }, _) => false,
        })
    }

    /// Whether the value of `key`, which is in `dir` and has `size` bytes, is `data`.
    fn is_value(&mut self, dir: DirId, key: &Key, size: u32, data: &[u8]) -> Result<bool> {
        Ok(size as usize == data.len() && self.fs.read_value(dir, key.basename())? == data)
    }

    fn redo_value(&mut self) -> Result<Vec<u8>> {
        let file = self.fs.open_file(ROOT, REDO)?;
        let size = self.fs.file_size(file)? as usize;
        let bytes = self.fs.read(file, 0, size).and_then(crate::fs::ReadPlan::run);
        self.fs.close_file(file);
        Ok(bytes?)
    }

    /// Remove everything in `dir`.
    fn empty(&mut self, dir: DirId) -> Result<()> {
        // no recursion, because directories can be nested to any depth
        let mut todo = vec![(dir, None)];
        while let Some((dir, entry)) = todo.last().cloned() {
            let nodes = self.fs.nodes(dir, None, false)?;
            if nodes.is_empty() {
                todo.pop();
                if let Some((parent, name)) = entry {
                    let name: Box<[u8]> = name;
                    self.fs.rmdir(parent, &name)?;
                }
                continue;
            }
            for (name, node) in nodes {
                match node {
                    Node::File { .. } => self.fs.unlink(dir, &name)?,
                    Node::Dir(child) => todo.push((child, Some((dir, name)))),
                }
            }
        }
        Ok(())
    }

    /// Carry out a batch completely, or fail.
    pub(super) fn run_batch(&mut self, changes: &Changes) -> Result<()> {
        self.begin()?;
        if changes.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let done = match self.fresh.is_none() && self.apply_at_once(changes, now)? {
            true => self.flush_or_reload(),
            false => self.apply_atomically(changes, now),
        };
        self.version += 1;
        self.changed = SystemTime::now();
        done
    }

    /// Apply `changes`, which take more than one commit, completely or not at all.
    fn apply_atomically(&mut self, changes: &Changes, now: i64) -> Result<()> {
        match self.fresh.is_some() {
            true => self.apply_to_fresh(changes, now),
            false => self.apply_with_redo(changes, now),
        }
    }

    /// Apply `changes` to an image that has no name yet. If they may fail, all earlier changes are
    /// written first, and the image is read again after a failure.
    fn apply_to_fresh(&mut self, changes: &Changes, now: i64) -> Result<()> {
        if self.fits_certainly(changes)? {
            let applied = self.apply(changes, now, false);
            // only a failure of the device remains as a cause
            if let (Err(_), Some(fresh)) = (&applied, &mut self.fresh) {
                fresh.is_broken = true;
            }
            return applied;
        }
        self.fs.flush()?;
        let applied = self.apply_if_possible(changes, now);
        let is_partly_made = std::mem::take(&mut self.unfinished) && applied.is_err();
        if let (true, Some(fresh)) = (is_partly_made, &mut self.fresh) {
            fresh.is_broken = true;
        }
        applied
    }

    /// Apply `changes`, with flushes in between if necessary. If there is no space for them,
    /// nothing is changed. `unfinished` is set as soon as a part of them may be on disk.
    fn apply_if_possible(&mut self, changes: &Changes, now: i64) -> Result<()> {
        let Err(e) = self.apply_held(changes, now, false) else { return Ok(()) };
        self.reload()?;
        if !matches!(e, Error::NoSpace) {
            return Err(e);
        }
        self.rehearse(|copy| copy.apply_and_flush(changes, now, false))?;
        self.unfinished = true;
        self.apply(changes, now, false)
    }

    /// Whether `changes` only set small values without times in dictionaries that exist, and there
    /// is plenty of space.
    fn fits_certainly(&mut self, changes: &Changes) -> Result<bool> {
        let most = self.fs.geometry().block_size as usize / 8;
        for (key, change) in changes {
            let (parent, name) = key.split();
            let is_small = match change {
                Change::Set { data, .. } => {
                    data.len() <= self.fs.inline_max() as usize && name.len() + data.len() <= most
                }
                Change::Gone => false,
            };
            if !is_small || self.dictionary(parent).is_err() {
                return Ok(false);
            }
        }
        Ok(self.codec.is_none() && self.has_plenty_of_space(changes, 0)?)
    }

    /// Apply `changes` if one commit can hold them.
    fn apply_at_once(&mut self, changes: &Changes, now: i64) -> Result<bool> {
        let Some((first, _)) = changes.first_key_value() else { return Ok(true) };
        let (parent, _) = first.split();
        let mut assignments = Vec::new();
        for (key, change) in changes {
            let (dictionary, name) = key.split();
            match change {
                _ if dictionary != parent => return Ok(false),
                Change::Set { time: Some(_), .. } => return Ok(false),
                Change::Set { data, time: None } => assignments.push((name, Some(&data[..]))),
                Change::Gone => assignments.push((name, None)),
            }
        }
        let dir = match self.dictionary(parent) {
            Ok(dir) => dir,
            Err(Error::NotFound(_) | Error::DictionaryExpected(_)) => return Ok(false),
            Err(e) => return Err(e),
        };
        let attrs = Self::changes(self.codec.as_ref(), now, Target::File);
        match self.fs.set_values_at_once(dir, &assignments, &attrs) {
            Err(CoreError::IsDirectory) => Ok(false),
            done => Ok(done?),
        }
    }

    /// Write the redo value, make the changes, and remove the redo value. No part of a step reaches
    /// the medium before the whole step before it. If a crash loses the first step, the batch is
    /// dropped. Otherwise the next connect repeats it.
    fn apply_with_redo(&mut self, changes: &Changes, now: i64) -> Result<()> {
        // flush first, so that earlier changes are durable even if there is no space for this one
        self.fs.flush()?;
        let redo = redo::encode(changes, now)?;
        // A refused batch must not leave a redo value behind, not even if the program is killed.
        // The image may already look like the result of the batch, and in that case nobody could
        // tell whether the batch was begun.
        if !self.has_plenty_of_space(changes, redo.len())? {
            self.rehearse(|copy| {
                copy.write_redo(&redo)?;
                copy.apply_and_flush(changes, now, false)?;
                copy.drop_redo()
            })?;
        }
        self.write_redo(&redo)?;
        match self.apply_if_possible(changes, now) {
            // no part of the batch is on disk, so it is dropped
            Err(e) if !self.unfinished => {
                self.drop_redo()?;
                return Err(e);
            }
            applied => applied?,
        }
        self.unfinished = true;
        self.fs.flush()?;
        self.drop_redo()?;
        self.unfinished = false;
        Ok(())
    }

    fn write_redo(&mut self, redo: &[u8]) -> Result<()> {
        self.fs.set_value(ROOT, REDO, Content::Bytes(redo), &|_| Vec::new())?;
        let Err(e) = self.flush_or_reload() else { return Ok(()) };
        if self.fs.lookup(ROOT, REDO).is_ok() {
            self.drop_redo()?;
        }
        Err(e)
    }

    fn drop_redo(&mut self) -> Result<()> {
        self.fs.unlink(ROOT, REDO)?;
        Ok(self.fs.flush()?)
    }

    /// Set and remove keys as `changes` say. With `repeat`, values that are already there are not
    /// written again, because there may be no space for a second copy.
    fn apply(&mut self, changes: &Changes, now: i64, repeat: bool) -> Result<()> {
        for (key, change) in changes {
            let set = match change {
                Change::Gone => None,
                Change::Set { data, time } => Some((data, time.unwrap_or(now))),
            };
            if let Some((data, time)) = set.filter(|_| !repeat) {
                // this error means that the key is a dictionary, which must be removed first
                match self.set(key, Content::Bytes(data), time) {
                    Err(Error::ValueExpected(_)) => {}
                    done => {
                        done?;
                        continue;
                    }
                }
            }
            match self.find(key)? {
                Found::At(dir, Node::Dir(child)) => {
                    self.dirs.clear();
                    self.empty(child)?;
                    self.fs.rmdir(dir, key.basename())?;
                }
                Found::At(dir, Node::File { size }) => match set {
                    None => self.fs.unlink(dir, key.basename())?,
                    Some((data, time)) if repeat && self.is_value(dir, key, size, data)? => {
                        self.touch(dir, key.basename(), time)?;
                        continue;
                    }
                    Some(_) => {}
                },
                Found::Root | Found::Nothing => {}
            }
            if let Some((data, time)) = set {
                self.set(key, Content::Bytes(data), time)?;
            }
        }
        for (key, _) in changes.iter().filter(|(_, change)| **change == Change::Gone) {
            self.prune(&key.parent())?;
        }
        Ok(())
    }
}

/// The error about an entry of the reserved name that does not come from a store.
fn not_ours() -> Error {
    Error::InvalidKey(
        Key::root().child(REDO),
        "the store uses this name itself, but this entry was not made by a store; give the entry \
         another name with 'littlefs mv'",
    )
}
