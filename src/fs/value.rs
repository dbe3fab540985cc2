//! Whole values: reading or setting the content and the attributes of a file with a single search
//! for its name.

use super::attempt::Attempt;
use super::dir::Place;
use super::extents::Extents;
use super::open_files::{Body, Ctz, File};
use super::{DirId, Fs, Node};
use crate::disk::{ctz, name};
use crate::error::{Error, Result};
use crate::mdir::{Data, Entry, Kind};

/// What a name refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The content of a file that is stored in its entry.
    Inline(Vec<u8>),
    /// A file in blocks, which must be opened to read it.
    Blocks {
        /// The size in bytes.
        size: u32,
    },
    /// A directory.
    Dir(DirId),
}

/// A name, and what it refers to.
pub type Row = (Box<[u8]>, Value);

/// The attributes of an entry: type and data of each.
pub type Attrs<'a> = dyn Iterator<Item = (u8, &'a [u8])> + 'a;

/// Computes the attributes to change from the attributes that an entry has. `None` stands for an
/// entry that will be created.
pub type Changes<'a> = dyn Fn(Option<&mut Attrs<'_>>) -> Vec<(u8, Vec<u8>)> + 'a;

/// A value for [`Fs::set_values_at_once`]: its name, and its new content, or `None` to remove it.
pub type Assignment<'a> = (&'a [u8], Option<&'a [u8]>);

/// The new content of a value.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// This many zeros.
    Zeros(u64),
}

impl Content<'_> {
    fn len(self) -> u64 {
        match self {
            Self::Bytes(data) => data.len() as u64,
            Self::Zeros(len) => len,
        }
    }
}

/// The result of a search for a name.
enum Probe {
    /// Its entry.
    Found(Place),
    /// There is an entry with this name that is being removed. A flush is needed first.
    Shadowed,
    /// There is no entry. A new one would go to this place.
    Free(Place),
}

impl Fs {
    /// What `name` in `dir` refers to.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`].
    pub fn value(&mut self, dir: DirId, name: &[u8]) -> Result<Value> {
        let _running = self.run();
        if let Some(content) = self.content_in_passing(dir, name)? {
            return Ok(Value::Inline(content));
        }
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        self.value_at(place)
    }

    fn value_at(&mut self, place: Place) -> Result<Value> {
        if let Entry { kind: Kind::File, data: Data::Inline(d), .. } = self.entry(place)? {
            return Ok(Value::Inline(d.to_vec()));
        }
        Ok(match self.node(place)? {
            Node::Dir(dir) => Value::Dir(dir),
            Node::File { size } => Value::Blocks { size },
        })
    }

    /// Whether `dir` has no visible entries.
    ///
    /// # Errors
    /// Those of [`Fs::list`].
    pub fn is_empty(&mut self, dir: DirId) -> Result<bool> {
        let _running = self.run();
        for i in 0..self.dir(dir)?.pairs.len() {
            let ix = self.dir(dir)?.pairs[i];
            if self.mdir(ix)?.entries.iter().any(Entry::is_visible) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Some entries of `dir` after the name `from`, or with `reverse` before it; at least one if
    /// there are any. Without `from`, they begin at the start of the directory, or with `reverse`
    /// at its end. They come in the order of the C driver, or in reverse order, without gaps.
    ///
    /// In the order of the C driver, bytes compare as usual, but if one name is a prefix of
    /// another, the longer one comes first.
    ///
    /// # Errors
    /// Those of [`Fs::list`], and [`Error::Corrupt`] if one of the entries is damaged.
    pub fn rows(&mut self, dir: DirId, from: Option<&[u8]>, reverse: bool) -> Result<Vec<Row>> {
        self.rows_by(dir, from, reverse, Self::value_at)
    }

    /// Like [`Fs::rows`], without content.
    ///
    /// # Errors
    /// Those of [`Fs::rows`].
    pub fn nodes(
        &mut self,
        dir: DirId,
        from: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Vec<(Box<[u8]>, Node)>> {
        self.rows_by(dir, from, reverse, Self::node)
    }

    /// Some entries of `dir` after the name `from`, in the order of [`Fs::rows`]: the name of each,
    /// and the result of `read` for what it refers to and its attributes. For a damaged entry,
    /// `read` gets the error.
    ///
    /// # Errors
    /// If the directory does not exist any more, or cannot be read.
    pub fn entries<T>(
        &mut self,
        dir: DirId,
        from: Option<&[u8]>,
        read: &mut dyn FnMut(Result<Node>, &mut Attrs<'_>) -> T,
    ) -> Result<Vec<(Box<[u8]>, T)>> {
        self.rows_by(dir, from, false, |fs, place| {
            let node = fs.node(place);
            Ok(read(node, &mut fs.entry(place)?.present()))
        })
    }

    /// The whole content of the file `name` in `dir` as it is in memory. The file is not opened, so
    /// nothing may change the filesystem in the meantime. The exclusive borrow ensures this.
    ///
    /// # Errors
    /// If there is no such file, or its content cannot be read.
    pub fn read_value(&mut self, dir: DirId, name: &[u8]) -> Result<Vec<u8>> {
        let _running = self.run();
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let blocks = self.pair(place.pair).blocks;
        let e = self.entry(place)?;
        match (e.kind, e.file, &e.data) {
            (Kind::Dir, ..) => Err(Error::IsDirectory),
            (Kind::File, Some(file), _) => self.plan_read(file, 0, usize::MAX)?.run(),
            (Kind::File, None, Data::Inline(d)) => Ok(d.to_vec()),
            (Kind::File, None, &Data::Ctz(list)) => self.read_stored(list),
            _ => Err(e.bad_struct(blocks, place.at as u16).into()),
        }
    }

    fn rows_by<T>(
        &mut self,
        dir: DirId,
        from: Option<&[u8]>,
        reverse: bool,
        mut read: impl FnMut(&mut Self, Place) -> Result<T>,
    ) -> Result<Vec<(Box<[u8]>, T)>> {
        let _running = self.run();
        let d = self.dir(dir)?;
        let (count, sorted) = (d.pairs.len(), d.sorted);
        let mut next = match from {
            _ if !sorted => Some(0),
            Some(from) => Some(self.index_of_pair(dir, from)?),
            None if reverse => count.checked_sub(1),
            None => Some(0),
        };
        let mut rows = Vec::new();
        // in an unsorted directory, any pair may hold the next name, so all pairs are read
        while let Some(i) = next.filter(|&i| i < count && (rows.is_empty() || !sorted)) {
            let pair = self.dir(dir)?.pairs[i];
            for at in 0..self.mdir(pair)?.entries.len() {
                let place = Place { pair, at };
                let e = self.entry(place)?;
                let beyond = from.is_none_or(|from| match reverse {
                    true => name::cmp(&e.name, from).is_lt(),
                    false => name::cmp(&e.name, from).is_gt(),
                });
                if beyond && e.is_visible() {
                    let name = e.name.to_box();
                    rows.push((name, read(self, place)?));
                }
            }
            next = if reverse && sorted { i.checked_sub(1) } else { Some(i + 1) };
        }
        if rows.is_empty() {
            self.dirs.check_end(dir)?;
        }
        if !sorted {
            rows.sort_by(|(a, _), (b, _)| name::cmp(a, b));
        }
        if reverse {
            rows.reverse();
        }
        Ok(rows)
    }

    /// Set the content of the file `name` in `dir`, and change its attributes as `changes` says. If
    /// the file does not exist, it is created. Users who have the file open keep the old content.
    ///
    /// After an error, the file is as it was. After a crash, it has either its old or its new
    /// content.
    ///
    /// # Errors
    /// [`Error::FileTooLarge`], [`Error::IsDirectory`] if the name is that of a directory, and the
    /// errors of [`Fs::create_with_attrs`].
    pub fn set_value(
        &mut self,
        dir: DirId,
        name: &[u8],
        content: Content<'_>,
        changes: &Changes<'_>,
    ) -> Result<()> {
        let _running = self.begin()?;
        self.dir(dir)?;
        self.check_name(name)?;
        if content.len() > u64::from(self.superblock.file_max) {
            return Err(Error::FileTooLarge);
        }
        self.attempt(|fs| fs.try_set_value(dir, name, content, changes))?;
        self.keep_data_within_budget()
    }

    fn try_set_value(
        &mut self,
        dir: DirId,
        name: &[u8],
        content: Content<'_>,
        changes: &Changes<'_>,
    ) -> Result<Attempt<()>> {
        // this is at most file_max
        let size = content.len() as u32;
        if size <= self.inline_max {
            let data = match content {
                Content::Bytes(data) => data.to_vec(),
                Content::Zeros(_) => vec![0; size as usize],
            };
            let placed = self.place_value(dir, name, Data::Inline(data.into()), changes)?;
            return Ok(placed.map(|_| ()));
        }
        self.need_map()?;
        let blocks = ctz::blocks(self.layout.block_size, size);
        if !self.space.reserve(0, blocks) {
            return Err(Error::NoSpace);
        }
        let empty = Data::EMPTY_LIST;
        let place = match self.place_value(dir, name, empty, changes) {
            Ok(Attempt::Done(place)) => place,
            other => {
                self.space.shrink_promise(blocks, 0);
                return other.map(|attempt| attempt.map(|_| ()));
            }
        };
        let mut dirty = Extents::default();
        if let Content::Bytes(data) = content {
            dirty.write(0, data);
        }
        let body = Body::Ctz(Ctz { dirty, reserved: blocks, ..Ctz::default() });
        let id = self.files.insert(File::new((dir, name.into()), size, body));
        self.mdir(place.pair)?.update(place.at, |e| e.file = Some(id));
        self.files.mark_dirty(id);
        Ok(Attempt::Done(()))
    }

    /// Put `content` into the entry of `name`, and return its place.
    fn place_value(
        &mut self,
        dir: DirId,
        name: &[u8],
        content: Data,
        changes: &Changes<'_>,
    ) -> Result<Attempt<Place>> {
        let place = match self.probe(dir, name)? {
            Probe::Found(place) => return self.replace_value(dir, name, place, content, changes),
            Probe::Shadowed => return Ok(Attempt::FlushFirst),
            Probe::Free(place) => place,
        };
        let e = self.successor(None, name, content, changes)?;
        let size = e.size_on_disk();
        let soft = self.soft_limit();
        let fits = self.mdir(place.pair)?.takes(1, size, soft);
        let place = if fits {
            place
        } else {
            match self.room_for(dir, name, size)? {
                Attempt::Done(place) => place,
                Attempt::FlushFirst => return Ok(Attempt::FlushFirst),
            }
        };
        self.insert_at(place, e)?;
        Ok(Attempt::Done(place))
    }

    /// The new entry `name`, which replaces the entry at `old`.
    fn successor(
        &mut self,
        old: Option<Place>,
        name: &[u8],
        data: Data,
        changes: &Changes<'_>,
    ) -> Result<Entry> {
        let (mut attrs, changed) = match old {
            Some(place) => {
                let e = self.entry(place)?;
                (e.attrs.to_vec(), changes(Some(&mut e.present())))
            }
            None => (Vec::new(), changes(None)),
        };
        for new in self.new_attrs(&changed)? {
            match attrs.iter_mut().find(|a| a.ty == new.ty) {
                Some(a) => *a = new,
                None => attrs.push(new),
            }
        }
        Ok(Entry { attrs: attrs.into(), ..Entry::new(name, Kind::File, data) })
    }

    fn replace_value(
        &mut self,
        dir: DirId,
        name: &[u8],
        mut place: Place,
        content: Data,
        changes: &Changes<'_>,
    ) -> Result<Attempt<Place>> {
        let e = self.entry(place)?;
        if e.kind != Kind::File {
            return Err(Error::IsDirectory);
        }
        let had = e.size_on_disk();
        let then = self.successor(Some(place), name, content, changes)?;
        let extra = then.size_on_disk().saturating_sub(had);
        while extra > 0 && !self.grow_in_place(place.pair, extra)? {
            place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        }
        let Entry { data, attrs, .. } = then;
        let (old, file) = self.mdir_mut(place.pair)?.update(place.at, |e| {
            e.dirty = true;
            e.attrs = attrs;
            (std::mem::replace(&mut e.data, data), e.file.take())
        });
        self.release_content(old, file);
        Ok(Attempt::Done(place))
    }

    /// Look for `name` in `dir`. In a sorted directory, this needs only one search.
    fn probe(&mut self, dir: DirId, name: &[u8]) -> Result<Probe> {
        if !self.dir(dir)?.sorted {
            return Ok(match self.find(dir, name)? {
                Some(place) => Probe::Found(place),
                None if self.is_shadowed(dir, name)? => Probe::Shadowed,
                None => Probe::Free(self.place_for(dir, name)?),
            });
        }
        let free = self.place_for(dir, name)?;
        let mdir = self.mdir(free.pair)?;
        let mut namesakes =
            mdir.entries[free.at..].iter().take_while(|e| *e.name == *name).peekable();
        if namesakes.peek().is_none() {
            return Ok(Probe::Free(free));
        }
        Ok(match namesakes.position(Entry::is_visible) {
            Some(i) => Probe::Found(Place { at: free.at + i, ..free }),
            None => Probe::Shadowed,
        })
    }

    /// Set and remove values of `dir` so that one commit of the next flush contains all these
    /// changes. Then a crash leaves all of them or none. If this is impossible, nothing is changed,
    /// and this returns false. It is possible if everything else is on disk, and the values are
    /// small enough for their entries, are in one metadata pair, and fit into it.
    ///
    /// # Errors
    /// Those of [`Fs::set_value`].
    pub fn set_values_at_once(
        &mut self,
        dir: DirId,
        assignments: &[Assignment<'_>],
        changes: &Changes<'_>,
    ) -> Result<bool> {
        let _running = self.begin()?;
        if self.is_dirty() || !self.moves.is_empty() || !self.dir(dir)?.sorted {
            return Ok(false);
        }
        if !self.is_for_one_pair(dir, assignments, changes)? {
            return Ok(false);
        }
        for (name, value) in assignments {
            match value {
                Some(data) => self.set_value(dir, name, Content::Bytes(data), changes)?,
                None => match self.unlink(dir, name) {
                    Ok(()) | Err(Error::NotFound) => {}
                    Err(e) => return Err(e),
                },
            }
        }
        Ok(true)
    }

    /// Whether all these values are small enough for their entries, are in one metadata pair, and
    /// fit into it.
    fn is_for_one_pair(
        &mut self,
        dir: DirId,
        assignments: &[Assignment<'_>],
        changes: &Changes<'_>,
    ) -> Result<bool> {
        let mut pair = None;
        let (mut grown, mut added, mut left) = (0, 0, 0);
        for (name, value) in assignments {
            self.check_name(name)?;
            let (place, old) = match self.probe(dir, name)? {
                Probe::Found(place) => (place, Some(place)),
                Probe::Free(place) => (place, None),
                Probe::Shadowed => return Ok(false),
            };
            let (kind, had) = match old {
                Some(place) => {
                    let e = self.entry(place)?;
                    (e.kind, e.size_on_disk())
                }
                None => (Kind::File, 0),
            };
            if kind != Kind::File {
                return Err(Error::IsDirectory);
            }
            match value {
                Some(data) if data.len() as u64 > u64::from(self.inline_max) => return Ok(false),
                Some(data) => {
                    let then = self.successor(old, name, Data::Inline((*data).into()), changes)?;
                    grown += then.size_on_disk().saturating_sub(had);
                    added += usize::from(old.is_none());
                }
                None if old.is_some() => left += 1,
                None => continue,
            }
            if pair.is_some_and(|p| p != place.pair) {
                return Ok(false);
            }
            pair = Some(place.pair);
        }
        let Some(pair) = pair else { return Ok(true) };
        let soft = self.soft_limit();
        let mdir = self.mdir(pair)?;
        // a pair without entries would leave the thread, which needs a commit to another pair
        let stays = mdir.entries.len() > left;
        Ok(stays && mdir.takes(added, grown, soft))
    }
}
