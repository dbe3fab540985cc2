//! Renaming.
//!
//! If an entry stays in its pair, or is not on disk yet, its rename is a removal and an insertion
//! in memory, and one commit writes both. An entry that is on disk and changes its pair cannot be
//! renamed in one commit, because a commit concerns one pair. On disk, it stays in its old pair
//! until the flush moves it with two commits (SPEC: `0x7ff` MOVESTATE). Until then, the entry in
//! the new pair has the role `Arriving`, and the entry in the old pair has the role `Leaving`.
//!
//! After a crash, exactly one of the two names must exist. So the first commit writes the entry in
//! the new pair, together with the global state, which hides the old entry. The second commit
//! deletes the old entry. In the other order, a crash between them would lose the entry. These two
//! commits cannot express every combination of changes. Changes that do not fit are flushed first
//! ([`Attempt::FlushFirst`]), so that every move starts from what is on disk.

use super::attempt::Attempt;
use super::dir::Place;
use super::moves::Move;
use super::{DirId, Fs, ROOT};
use crate::error::{Error, Result};
use crate::mdir::{Data, Double, Entry, Kind, Role};

/// The entry that is renamed.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub dir: DirId,
    pub name: &'a [u8],
    /// Selects the entry among those of this name. There can be several if the image is damaged.
    pub is_it: fn(&Entry) -> bool,
}

impl Fs {
    /// Rename `name` in `dir` to `to_name` in `to`, as rename(2) does. A file replaces a file, and
    /// a directory replaces an empty directory; with `no_replace`, an existing `to_name` is an
    /// error. Files stay open under the new name.
    ///
    /// # Errors
    /// Those of rename(2): [`Error::NotFound`], [`Error::Exists`], [`Error::NotEmpty`],
    /// [`Error::IsDirectory`], [`Error::NotDirectory`], and [`Error::Invalid`] if a directory would
    /// be moved below itself; those of [`Fs::create_with_attrs`] because of the new name. After an
    /// error, nothing is changed.
    pub fn rename(
        &mut self,
        dir: DirId,
        name: &[u8],
        to: DirId,
        to_name: &[u8],
        no_replace: bool,
    ) -> Result<()> {
        self.rename_one(Source { dir, name, is_it: Entry::is_visible }, to, to_name, no_replace)
    }

    /// Like [`Fs::rename`], for the entry that `source` selects.
    pub(super) fn rename_one(
        &mut self,
        source: Source<'_>,
        to: DirId,
        to_name: &[u8],
        no_replace: bool,
    ) -> Result<()> {
        let _running = self.begin()?;
        self.dir(source.dir)?;
        self.dir(to)?;
        self.attempt(|fs| fs.try_rename(source, to, to_name, no_replace))
    }

    fn try_rename(
        &mut self,
        from: Source<'_>,
        to: DirId,
        to_name: &[u8],
        no_replace: bool,
    ) -> Result<Attempt<()>> {
        let Source { dir, name, .. } = from;
        let (_, e) = self.source(from)?;
        self.check_name(to_name)?;
        if dir == to && name == to_name {
            return if no_replace { Err(Error::Exists) } else { Ok(Attempt::Done(())) };
        }
        let checked = self.check_rename(&e, dir, to, to_name, no_replace)?;
        let Attempt::Done(target) = checked else { return Ok(Attempt::FlushFirst) };
        let mut new = self.renamed(&e, to_name, target)?;
        let room = self.room_for_renamed(&new, to, target)?;
        let Attempt::Done(place) = room else { return Ok(Attempt::FlushFirst) };
        // making room may have split a pair and changed both places
        let (source, e) = self.source(from)?;
        let target = self.find(to, to_name)?;
        // an entry takes part in one move at a time
        if matches!(e.role, Role::Arriving(_)) {
            return Ok(Attempt::FlushFirst);
        }
        if source.pair != place.pair && (e.did.is_some() || e.inherited) {
            if let Attempt::FlushFirst = self.check_move(&e, source, place, target)? {
                return Ok(Attempt::FlushFirst);
            }
            self.start_move(source, place, target, new)?;
        } else {
            // If the old name is on disk, it is in this pair. Until a flush has deleted it there,
            // the entry must not be moved to another pair like a new one: a crash between the
            // commits of the two pairs could show both names or none.
            new.inherited = e.did.is_some() || e.inherited;
            self.move_in_memory(source, place, target, new, to)?;
        }
        if e.double == Double::Found {
            self.show_next_double(dir, name)?;
        }
        self.follow_rename(&e, from, to, to_name);
        Ok(Attempt::Done(()))
    }

    /// The entry to be renamed as it is now, and its place.
    fn source(&mut self, from: Source<'_>) -> Result<(Place, Entry)> {
        let place = self.find_by(from.dir, from.name, from.is_it)?.ok_or(Error::NotFound)?;
        Ok((place, self.entry(place)?.clone()))
    }

    /// Check that the entry `e` of `dir` may get the name `to_name` in `to`, and that this can be
    /// flushed together with the changes that wait for a flush. Returns the place of the entry that
    /// it replaces, if there is one.
    fn check_rename(
        &mut self,
        e: &Entry,
        dir: DirId,
        to: DirId,
        to_name: &[u8],
        no_replace: bool,
    ) -> Result<Attempt<Option<Place>>> {
        if let Data::Dir { dir: Some(child), .. } = e.data {
            self.check_not_below(child, to)?;
            // Parents must come before their children in the thread. After a crash, the C driver
            // goes along the thread once to drop directories that no entry names, and would not
            // drop one whose dropped parent comes later. A new directory is in the thread behind
            // the parent in which it was made, so it is flushed before it gets another parent.
            let head = self.dirs[child].pairs[0];
            if dir != to && !self.pair(head).on_disk {
                return Ok(Attempt::FlushFirst);
            }
        }
        let target = self.find(to, to_name)?;
        if let Some(target) = target {
            if no_replace {
                return Err(Error::Exists);
            }
            if let Attempt::FlushFirst = self.check_replaceable(e.kind, target)? {
                return Ok(Attempt::FlushFirst);
            }
        }
        // there is a hidden entry of that name, for example one whose removal is not on disk yet
        Ok(match self.is_shadowed(to, to_name)? {
            true => Attempt::FlushFirst,
            false => Attempt::Done(target),
        })
    }

    /// The entry `e` with its new name, under which it replaces the entry at `target`. All of it
    /// has to be written in its new place.
    fn renamed(&mut self, e: &Entry, to_name: &[u8], target: Option<Place>) -> Result<Entry> {
        let mut new = e.clone();
        new.name = to_name.into();
        new.double = match target {
            Some(target) => self.entry(target)?.double,
            None => Double::No,
        };
        new.did = None;
        new.dirty = true;
        new.inherited = false;
        new.attrs.change(|attrs| {
            attrs.iter_mut().for_each(|a| a.dirty = true);
            attrs.retain(|a| a.data.is_some());
        });
        Ok(new)
    }

    /// Make room in `to` for the entry `new`. It may use the room of the entry at `target`, which
    /// it replaces.
    fn room_for_renamed(
        &mut self,
        new: &Entry,
        to: DirId,
        target: Option<Place>,
    ) -> Result<Attempt<Place>> {
        let size = new.size_on_disk();
        let Some(target) = target else {
            return self.room_for(to, &new.name, size);
        };
        let old = self.entry(target)?.size_on_disk();
        self.room_to_grow(to, &new.name, size.saturating_sub(old)).map(Attempt::Done)
    }

    /// Check that the entry `e`, which is on disk, may move from `source` to the pair of `place`,
    /// where it replaces the entry at `target`. The two commits of a move refer to entries as they
    /// are on disk, so an entry with changes is flushed first.
    fn check_move(
        &mut self,
        e: &Entry,
        source: Place,
        place: Place,
        target: Option<Place>,
    ) -> Result<Attempt<()>> {
        let is_unwritten = |fs: &Self, e: &Entry| e.file.is_some_and(|f| fs.files.is_dirty(f));
        let source_waits = e.inherited || e.is_dirty() || is_unwritten(self, e);
        // Until the moved entry arrives, the entry that it replaces stays on disk as it is. If that
        // entry were not on disk in its pair, it might itself replace an older entry there, which a
        // crash must not lose.
        let target_waits = match target.map(|t| self.entry(t).cloned()).transpose()? {
            Some(t) => t.inherited || t.did.is_none() || t.is_dirty() || is_unwritten(self, &t),
            None => false,
        };
        if source_waits || target_waits {
            return Ok(Attempt::FlushFirst);
        }
        let joined = if self.pair(source.pair).threaded && self.pair(place.pair).threaded {
            false
        } else {
            // the move needs the global state, and the delta of a pair outside the thread is not
            // part of it
            self.join_thread(source.pair)? | self.join_thread(place.pair)?
        };
        Ok(if joined { Attempt::FlushFirst } else { Attempt::Done(()) })
    }

    /// Note that the directory or open file of the entry `e`, which was at `from`, has a new name.
    fn follow_rename(&mut self, e: &Entry, from: Source<'_>, to: DirId, to_name: &[u8]) {
        match e.data {
            Data::Dir { dir: Some(child), .. } => {
                let d = &mut self.dirs[child];
                (d.parent, d.name) = (to, to_name.into());
            }
            _ if e.kind == Kind::Dir => self.dirs.rename_broken(from.dir, from.name, to, to_name),
            _ => {}
        }
        if let Some(file) = e.file {
            self.relink_file(file, to, to_name);
        }
    }

    /// Check that a directory would not become its own descendant.
    fn check_not_below(&self, child: DirId, to: DirId) -> Result<()> {
        let mut d = to;
        loop {
            if d == child {
                return Err(Error::Invalid("a directory cannot move below itself"));
            }
            if d == ROOT {
                return Ok(());
            }
            d = self.dirs[d].parent;
        }
    }

    /// Check that an entry of `kind` may replace the one at `target`.
    fn check_replaceable(&mut self, kind: Kind, target: Place) -> Result<Attempt<()>> {
        let t = self.entry(target)?;
        if matches!(t.role, Role::Arriving(_)) {
            return Ok(Attempt::FlushFirst);
        }
        match (kind, t.kind, &t.data) {
            (Kind::Dir, Kind::Dir, Data::Dir { dir: Some(d), .. }) => {
                let d = *d;
                self.check_removable(d)
            }
            (Kind::Dir, Kind::Dir, _) => Err(Error::NotEmpty),
            (Kind::Dir, ..) => Err(Error::NotDirectory),
            (_, Kind::Dir, _) => Err(Error::IsDirectory),
            _ => Ok(Attempt::Done(())),
        }
    }

    /// Begin to move an entry that is on disk to another pair, where it may replace an entry. The
    /// flush carries out the move.
    pub(super) fn start_move(
        &mut self,
        source: Place,
        place: Place,
        target: Option<Place>,
        mut new: Entry,
    ) -> Result<()> {
        let m = self.moves.new_id();
        self.mdir_mut(source.pair)?.update(source.at, |e| {
            e.role = Role::Leaving(m);
            e.file = None;
        });
        let size = new.size_on_disk();
        if let Some(t) = target {
            let old = self.entry(t)?.clone();
            self.mdir_mut(t.pair)?.update(t.at, |e| {
                e.role = Role::Replaced(m);
                e.file = None;
                // one commit replaces this entry by the new one, so only the larger of the two is
                // counted
                e.discount = size.min(e.size_on_disk());
            });
            self.release_replaced(old, t, true);
        }
        new.role = Role::Arriving(m);
        self.insert_at(place, new)?;
        self.moves.insert(m, Move { source: source.pair, target: Some(place.pair) });
        Ok(())
    }

    /// Rename an entry in memory only. This is enough if it stays in its pair or is not on disk:
    /// the commit that makes the new name reachable also deletes the old one, if that is on disk.
    fn move_in_memory(
        &mut self,
        source: Place,
        place: Place,
        target: Option<Place>,
        new: Entry,
        to: DirId,
    ) -> Result<()> {
        let name = new.name.to_box();
        if let Some(t) = target {
            let old = self.remove_at(t)?;
            self.release_replaced(old, t, false);
        }
        let at = match target {
            Some(t) if t.pair == source.pair && t.at < source.at => source.at - 1,
            _ => source.at,
        };
        self.remove_at(Place { pair: source.pair, at })?;
        let sorted = self.dir(to)?.sorted;
        let mdir = self.mdir(place.pair)?;
        let at = if sorted {
            mdir.lower_bound(&name)
        } else {
            mdir.first_greater(&name).unwrap_or(mdir.entries.len())
        };
        self.insert_at(Place { pair: place.pair, at }, new)
    }

    /// Release the entry `old`, which was at `place` and has been replaced.
    fn release_replaced(&mut self, old: Entry, place: Place, by_move: bool) {
        match old.data {
            Data::Dir { dir: Some(d), .. } => self.detach_dir(d, place.pair, by_move),
            _ => self.release(old),
        }
    }
}
