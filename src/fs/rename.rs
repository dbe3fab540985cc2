//! Renaming.
//!
//! Within a pair, and for what is not on disk yet, a rename is a removal and an insertion in one
//! commit. A durable entry that changes pairs stays where it is on disk until the flush moves it
//! in two commits of its own (SPEC: `0x7ff` MOVESTATE): meanwhile it is here as `Arriving` and
//! there as `Leaving`.

use super::dir::Place;
use super::attempt::Attempt;
use super::moves::Move;
use super::{DirId, Fs, ROOT};
use crate::error::{Error, Result};
use crate::mdir::{Data, Double, Entry, Kind, Role};

/// The entry that a rename takes away.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub dir: DirId,
    pub name: &'a [u8],
    /// Tells it from others of the same name.
    pub is_it: fn(&Entry) -> bool,
}

impl Fs {
    /// Rename `name` in `dir` to `to_name` in `to`, as rename(2): a file replaces a file, a
    /// directory an empty directory, unless `no_replace`. Open files follow.
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

    /// The same of whichever entry of that name `source` tells.
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
        if let Attempt::FlushFirst = self.check_rename(&e, dir, to, to_name, no_replace)? {
            return Ok(Attempt::FlushFirst);
        }
        let mut new = self.renamed(&e, to, to_name)?;
        let Attempt::Done(place) = self.room_for_renamed(&new, to)? else {
            return Ok(Attempt::FlushFirst);
        };
        // Making room may have split either pair, so both are looked up again.
        let (source, e) = self.source(from)?;
        let target = self.find(to, to_name)?;
        if matches!(e.role, Role::Arriving(_)) {
            return Ok(Attempt::FlushFirst);
        }
        if source.pair != place.pair && (e.did.is_some() || e.inherited) {
            if let Attempt::FlushFirst = self.check_move(&e, source, place, target)? {
                return Ok(Attempt::FlushFirst);
            }
            self.start_move(source, place, target, new)?;
        } else {
            // If its old name is durable, it may change pairs only once this is flushed.
            new.inherited = e.did.is_some() || e.inherited;
            self.move_in_memory(source, place, target, new, to)?;
        }
        if e.double == Double::Found {
            self.show_next_double(dir, name)?;
        }
        self.renamed_is_known_as(&e, from, to, to_name);
        Ok(Attempt::Done(()))
    }

    /// The entry to be renamed, as it is now, and where it is.
    fn source(&mut self, from: Source<'_>) -> Result<(Place, Entry)> {
        let place = self.find_by(from.dir, from.name, from.is_it)?.ok_or(Error::NotFound)?;
        Ok((place, self.entry(place)?.clone()))
    }

    /// Whether the entry `e` of `dir` may get the name `to_name` in `to`, and whether it may get it
    /// together with the changes that wait.
    fn check_rename(
        &mut self,
        e: &Entry,
        dir: DirId,
        to: DirId,
        to_name: &[u8],
        no_replace: bool,
    ) -> Result<Attempt<()>> {
        if let Data::Dir { dir: Some(child), .. } = e.data {
            self.check_not_below(child, to)?;
            // A pair that is not on disk yet must stay behind its parent in the thread, so it is
            // flushed before it gets another parent.
            let head = self.dirs[child].pairs[0];
            if dir != to && !self.pair(head).on_disk {
                return Ok(Attempt::FlushFirst);
            }
        }
        if let Some(target) = self.find(to, to_name)? {
            if no_replace {
                return Err(Error::Exists);
            }
            if let Attempt::FlushFirst = self.check_replaceable(e.kind, target)? {
                return Ok(Attempt::FlushFirst);
            }
        }
        Ok(match self.is_shadowed(to, to_name)? {
            true => Attempt::FlushFirst,
            false => Attempt::Done(()),
        })
    }

    /// The entry `e` as it will be under its new name. All of it has to be written there.
    fn renamed(&mut self, e: &Entry, to: DirId, to_name: &[u8]) -> Result<Entry> {
        let mut new = e.clone();
        new.name = to_name.into();
        new.double = match self.find(to, to_name)? {
            Some(target) => self.entry(target)?.double,
            None => Double::No,
        };
        new.did = None;
        new.dirty = true;
        new.inherited = false;
        new.attrs.iter_mut().for_each(|a| a.dirty = true);
        new.attrs.retain(|a| a.data.is_some());
        Ok(new)
    }

    /// Make room for the entry `new` in `to`, beside what it may replace.
    fn room_for_renamed(&mut self, new: &Entry, to: DirId) -> Result<Attempt<Place>> {
        let size = new.size_on_disk();
        let Some(target) = self.find(to, &new.name)? else {
            return self.room_for(to, &new.name, size);
        };
        let old = self.entry(target)?.size_on_disk();
        self.room_to_grow(to, &new.name, size.saturating_sub(old)).map(Attempt::Done)
    }

    /// Whether the durable entry `e` may move from `source` to the pair of `place`, replacing what
    /// is at `target`, together with the changes that wait. The two commits of a move name only
    /// what is durable, so neither entry may have changes of its own.
    fn check_move(
        &mut self,
        e: &Entry,
        source: Place,
        place: Place,
        target: Option<Place>,
    ) -> Result<Attempt<()>> {
        let is_unwritten = |fs: &Self, e: &Entry| e.file.is_some_and(|f| fs.files.is_dirty(f));
        let source_waits = e.inherited || e.is_dirty() || is_unwritten(self, e);
        // What is replaced stays on disk until the other arrives. If it is not on disk yet, it may
        // itself replace something that must not go before.
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
            // The global state of a pair outside the thread does not count.
            self.join_thread(source.pair)? | self.join_thread(place.pair)?
        };
        Ok(if joined { Attempt::FlushFirst } else { Attempt::Done(()) })
    }

    /// The directory or open file behind the entry `e`, which was at `from`, has a new name.
    fn renamed_is_known_as(&mut self, e: &Entry, from: Source<'_>, to: DirId, to_name: &[u8]) {
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

    /// A directory must not become its own descendant.
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

    /// Whether an entry of `kind` may replace the one at `target`.
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

    /// A durable entry changes pairs, perhaps to replace another: the flush will do it on disk.
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
                e.discount = size.min(e.size_on_disk());
            });
            self.release_replaced(old, t, true);
        }
        new.role = Role::Arriving(m);
        self.insert_at(place, new)?;
        self.moves.insert(m, Move { source: source.pair, target: Some(place.pair) });
        Ok(())
    }

    /// The rename is one commit of the target's pair, or of two pairs if only one is durable.
    fn move_in_memory(
        &mut self,
        source: Place,
        place: Place,
        target: Option<Place>,
        new: Entry,
        to: DirId,
    ) -> Result<()> {
        let name = new.name.clone();
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

    /// The entry `old`, which was at `place`, was replaced.
    fn release_replaced(&mut self, old: Entry, place: Place, by_move: bool) {
        match old.data {
            Data::Dir { dir: Some(d), .. } => self.detach_dir(d, place.pair, by_move),
            _ => self.release(old),
        }
    }
}
