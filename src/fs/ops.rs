//! Creating and removing entries.

use super::attempt::Attempt;
use super::dir::Place;
use super::dirs::Dir;
use super::leaving::Removed;
use super::pairs::{Fate, PairInfo, PairIx};
use super::thread::WaysBack;
use super::{DirId, Fs, Node, ROOT};
use crate::disk::{Part, name};
use crate::error::{Error, Result};
use crate::mdir::{Attr, Data, Double, Entry, Kind, Role};

/// A removed directory is searched for in the thread among this many pairs after its parent.
const THREAD_LOOKAHEAD: usize = 1024;

impl Fs {
    /// Create an empty file.
    ///
    /// # Errors
    /// Those of [`Fs::create_with_attrs`].
    pub fn create(&mut self, dir: DirId, name: &[u8]) -> Result<()> {
        self.create_with_attrs(dir, name, &[])
    }

    /// Create an empty file with these attributes: type and data of each.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InvalidName`] and [`Error::NameTooLong`] because of the name;
    /// [`Error::NotFound`] if `dir` was removed; [`Error::AttrTooLarge`], [`Error::NoSpace`],
    /// [`Error::ReadOnly`]; and the errors of the device.
    pub fn create_with_attrs(
        &mut self,
        dir: DirId,
        name: &[u8],
        attrs: &[(u8, Vec<u8>)],
    ) -> Result<()> {
        let _running = self.begin()?;
        let attrs = self.new_attrs(attrs)?;
        self.attempt(|fs| {
            let mut e = Entry::new(name, Kind::File, Data::Inline(Part::default()));
            e.attrs = attrs[..].into();
            let Attempt::Done(place) = fs.room_for_new(dir, &e)? else {
                return Ok(Attempt::FlushFirst);
            };
            fs.insert_at(place, e).map(Attempt::Done)
        })
    }

    /// Create an empty directory.
    ///
    /// # Errors
    /// Those of [`Fs::create_with_attrs`].
    pub fn mkdir(&mut self, dir: DirId, name: &[u8]) -> Result<DirId> {
        self.mkdir_with_attrs(dir, name, &[])
    }

    /// Create an empty directory with these attributes: type and data of each.
    ///
    /// # Errors
    /// Those of [`Fs::create_with_attrs`].
    pub fn mkdir_with_attrs(
        &mut self,
        dir: DirId,
        name: &[u8],
        attrs: &[(u8, Vec<u8>)],
    ) -> Result<DirId> {
        let _running = self.begin()?;
        let attrs = self.new_attrs(attrs)?;
        self.attempt(|fs| fs.try_mkdir(dir, name, &attrs))
    }

    fn try_mkdir(&mut self, dir: DirId, name: &[u8], attrs: &[Attr]) -> Result<Attempt<DirId>> {
        let mut e =
            Entry::new(name, Kind::Dir, Data::Dir { pair: crate::disk::Pair::NULL, dir: None });
        e.attrs = attrs.into();
        let Attempt::Done(place) = self.room_for_new(dir, &e)? else {
            return Ok(Attempt::FlushFirst);
        };
        let prev = self.last_threaded(dir)?;
        let blocks = self.take_pair_blocks()?;
        let id = self.dirs.insert(Dir::new(dir, name.into(), Vec::new()));
        let head = self.thread.add(PairInfo::new(blocks, Some(id), false));
        self.dirs[id].pairs.push(head);
        self.thread.link_after(prev, head);
        self.thread.mark_dirty(head);
        self.dirs.set_head(id, blocks);
        e.data = Data::Dir { pair: blocks, dir: Some(id) };
        self.insert_at(place, e)?;
        Ok(Attempt::Done(id))
    }

    /// Check that `e` can be created in `dir`, and make room for it.
    fn room_for_new(&mut self, dir: DirId, e: &Entry) -> Result<Attempt<Place>> {
        self.dir(dir)?;
        self.check_name(&e.name)?;
        if self.find(dir, &e.name)?.is_some() {
            return Err(Error::Exists);
        }
        if self.is_shadowed(dir, &e.name)? {
            return Ok(Attempt::FlushFirst);
        }
        self.room_for(dir, &e.name, e.size_on_disk())
    }

    pub(super) fn check_name(&self, name: &[u8]) -> Result<()> {
        if !name::is_presentable(name) {
            return Err(Error::InvalidName);
        }
        if name.len() as u32 > self.superblock.name_max {
            return Err(Error::NameTooLong);
        }
        Ok(())
    }

    /// The pair after which a new directory in `dir` is put into the thread. It is the last pair of
    /// the parent, so that parents come before their children. If the parent is not in the thread,
    /// it is the last pair of the root.
    fn last_threaded(&self, dir: DirId) -> Result<PairIx> {
        let last = |d: &Dir| d.pairs.last().copied().ok_or(Error::NotFound);
        let ix = last(self.dir(dir)?)?;
        if self.pair(ix).threaded { Ok(ix) } else { last(self.dir(ROOT)?) }
    }

    /// Remove a file. If the file is open, its content stays until it is closed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`], [`Error::ReadOnly`], and the errors of the
    /// device.
    pub fn unlink(&mut self, dir: DirId, name: &[u8]) -> Result<()> {
        let _running = self.begin()?;
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        if self.entry(place)?.kind == Kind::Dir {
            return Err(Error::IsDirectory);
        }
        let e = self.remove_entry(place)?;
        self.release(e);
        Ok(())
    }

    /// Remove the visible entry at `place`, and the other entries that belong to a pending move of
    /// it.
    pub(super) fn remove_entry(&mut self, place: Place) -> Result<Entry> {
        let dir = self.pair(place.pair).dir;
        let e = self.remove_entry_only(place)?;
        if let (Double::Found, Some(dir)) = (e.double, dir) {
            self.show_next_double(dir, &e.name)?;
        }
        Ok(e)
    }

    fn remove_entry_only(&mut self, place: Place) -> Result<Entry> {
        if let Role::Arriving(m) = self.entry(place)?.role {
            if let Some(mv) = self.moves.end(m) {
                self.remove_hidden(mv.source, Role::Leaving(m))?;
                self.remove_hidden(place.pair, Role::Replaced(m))?;
            }
            // the entry that it replaces stands next to it
            let mdir = self.mdir(place.pair)?;
            let at = mdir
                .entries
                .iter()
                .position(|e| e.role == Role::Arriving(m))
                .ok_or(Error::NotFound)?;
            return self.remove_at(Place { pair: place.pair, at });
        }
        self.remove_at(place)
    }

    /// Remove the hidden entry with this role in `pair`.
    fn remove_hidden(&mut self, pair: PairIx, role: Role) -> Result<()> {
        let mdir = self.mdir_mut(pair)?;
        if let Some(at) = mdir.entries.iter().position(|e| e.role == role) {
            mdir.remove(at);
        }
        self.thread.refresh_first(pair);
        Ok(())
    }

    /// Remove an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NotEmpty`], [`Error::ReadOnly`], and
    /// the errors of the device.
    pub fn rmdir(&mut self, dir: DirId, name: &[u8]) -> Result<()> {
        let _running = self.begin()?;
        self.attempt(|fs| {
            let place = fs.find(dir, name)?.ok_or(Error::NotFound)?;
            let Node::Dir(child) = fs.node(place)? else { return Err(Error::NotDirectory) };
            if let Attempt::FlushFirst = fs.check_removable(child)? {
                return Ok(Attempt::FlushFirst);
            }
            let entry_pair = match fs.entry(place)?.role {
                Role::Arriving(m) => fs.moves.source(m).unwrap_or(place.pair),
                _ => place.pair,
            };
            fs.remove_entry(place)?;
            fs.detach_dir(child, entry_pair, false);
            Ok(Attempt::Done(()))
        })
    }

    /// Check that `child` is empty, and can be removed before a flush.
    ///
    /// When the C driver finds an interrupted flush, it goes along the thread once and drops each
    /// directory that no entry names. Suppose that a removed directory still has an entry on disk
    /// for another removed directory, which comes before it in the thread. Then the C driver finds
    /// a parent for the other one, and keeps it. So parents must come first. And if a directory of
    /// several pairs is dropped, the entries in its later pairs would reappear elsewhere. So of two
    /// nested removed directories, only one may have several pairs.
    pub(super) fn check_removable(&mut self, child: DirId) -> Result<Attempt<()>> {
        let pairs = self.dir(child)?.pairs.clone();
        for &ix in &pairs {
            let mdir = self.mdir(ix)?;
            if mdir.entries.iter().any(|e| matches!(e.role, Role::Live | Role::Arriving(_))) {
                return Err(Error::NotEmpty);
            }
            if !mdir.is_vacant() {
                return Ok(Attempt::FlushFirst);
            }
        }
        let head = pairs[0];
        let gone: Vec<DirId> =
            self.leaving.removed().iter().filter(|r| r.parent == child).map(|r| r.dir).collect();
        for sub in gone {
            let Some(&sub_head) = self.dirs[sub].pairs.first() else { continue };
            if self.dirs[sub].pairs.len() > 1 && pairs.len() > 1 {
                return Ok(Attempt::FlushFirst);
            }
            let mut at = Some(head);
            let found = (0..THREAD_LOOKAHEAD).any(|_| {
                at = at.and_then(|ix| self.pair(ix).next);
                at == Some(sub_head)
            });
            if !found {
                return Ok(Attempt::FlushFirst);
            }
        }
        Ok(Attempt::Done(()))
    }

    /// Forget a pair that nothing on disk names.
    pub(super) fn forget_new(&mut self, ix: PairIx) {
        let blocks = self.pair(ix).blocks;
        self.hand_on_entries(ix);
        self.thread.unlink(ix);
        self.thread.forget(ix);
        blocks.0.into_iter().for_each(|b| self.space.free(b));
        self.dirs.remove_head(blocks);
    }

    /// Called before `ix` is forgotten. If `ix` held entries of removed directories, these are
    /// deleted on disk by the commit of the pair before it from now on.
    pub(super) fn hand_on_entries(&mut self, ix: PairIx) {
        if self.leaving.held_entries(ix) {
            let before = self.pair(ix).prev.unwrap_or(PairIx(0));
            let publisher = self.thread.publisher(before, &mut WaysBack::new());
            self.leaving.hand_on_entries(ix, publisher);
        }
    }

    /// Let the pairs of the empty directory `child` leave the thread with the next flush. Its entry
    /// was in `entry_pair`.
    pub(super) fn detach_dir(&mut self, child: DirId, entry_pair: PairIx, by_move: bool) {
        let pairs = std::mem::take(&mut self.dirs[child].pairs);
        let mut kept = Vec::new();
        for &ix in &pairs {
            self.thread.mark_clean(ix);
            if self.pair(ix).on_disk {
                self.pair_mut(ix).fate = Fate::Removed;
                kept.push(ix);
            } else {
                self.forget_new(ix);
            }
        }
        if kept.is_empty() {
            self.dirs.remove(child);
            return;
        }
        let d = &mut self.dirs[child];
        d.alive = false;
        d.pairs = kept;
        let parent = d.parent;
        self.leaving.push_removed(Removed { dir: child, parent, entry_pair, by_move });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bd::{Geometry, RamDevice};
    use crate::fs::{At, FileId, FormatOptions, OpenOptions};

    fn empty() -> Fs {
        let g = Geometry::new(512, 64).expect("geometry");
        let dev = Arc::new(RamDevice::new(g));
        Fs::format(&*dev, &FormatOptions::default()).expect("format");
        Fs::open(dev, &OpenOptions::default()).expect("open")
    }

    /// However directories are created, replaced and removed, on disk or only in memory: they leave
    /// nothing in memory, and their ids are not valid any more.
    #[test]
    fn removed_directories_leave_nothing_behind() {
        let mut fs = empty();
        let mut stale = Vec::new();
        for round in 0..300 {
            let a = fs.mkdir(ROOT, b"a").expect("mkdir");
            let b = fs.mkdir(a, b"b").expect("mkdir");
            if round % 3 > 0 {
                fs.flush().expect("flush");
            }
            fs.rmdir(a, b"b").expect("rmdir");
            if round % 3 == 2 {
                fs.flush().expect("flush");
            }
            let c = fs.mkdir(ROOT, b"c").expect("mkdir");
            fs.rename(ROOT, b"c", ROOT, b"a", false).expect("rename");
            assert!(matches!(fs.lookup(ROOT, b"a"), Ok(Node::Dir(d)) if d == c));
            fs.rmdir(ROOT, b"a").expect("rmdir");
            if round % 5 > 0 {
                fs.flush().expect("flush");
            }
            stale.extend([a, b, c]);
            let [places, _, heads] = fs.dirs.sizes();
            let held = (places, fs.thread.capacity(), heads, fs.leaving.removed().len());
            assert!(held <= (12, 16, 16, 12), "round {round}: {held:?}");
        }
        fs.flush().expect("flush");
        let [_, dirs, heads] = fs.dirs.sizes();
        assert_eq!((dirs, fs.leaving.removed().len(), heads), (1, 0, 2));
        let new = fs.mkdir(ROOT, b"new").expect("mkdir");
        for dir in stale {
            assert_ne!(dir, new);
            assert!(matches!(fs.list(dir), Err(Error::NotFound)));
            assert!(matches!(fs.mkdir(dir, b"x"), Err(Error::NotFound)));
            assert!(matches!(fs.list_attrs(At::Dir(dir)), Err(Error::NotFound)));
            assert!(matches!(fs.rename(ROOT, b"new", dir, b"x", true), Err(Error::NotFound)));
            assert_eq!((fs.parent(dir), fs.dir_path(dir)), (None, Vec::new()));
        }
        assert_eq!(*fs.list(ROOT).expect("list"), [b"new"[..].into()]);
    }

    /// Check that every operation on a file that was closed is an error and changes nothing.
    fn is_closed(fs: &mut Fs, id: FileId) {
        let closed = |result: Result<()>| assert!(matches!(result, Err(Error::Closed)), "{id:?}");
        closed(fs.file_size(id).map(|_| ()));
        closed(fs.read(id, 0, 1).map(|_| ()));
        closed(fs.write(id, 0, b"x"));
        closed(fs.truncate(id, 0));
        closed(fs.flush_file(id));
        closed(fs.revert_file(id));
        closed(fs.list_attrs(At::File(id)).map(|_| ()));
        closed(fs.set_attr(At::File(id), 1, b"x"));
        assert!(!fs.is_linked(id) && fs.file_path(id).is_none());
        fs.close_file(id);
    }

    #[test]
    fn the_id_of_a_closed_file_is_not_valid_any_more() {
        let mut fs = empty();
        let mut stale = Vec::new();
        for name in [b"a", b"b"] {
            fs.create(ROOT, name).expect("create");
        }
        for round in 0..20 {
            // close the file before or after its change is on disk, or after it has lost its name
            let a = fs.open_file(ROOT, b"a").expect("open");
            fs.write(a, 0, &vec![round; 20 << (round % 6)]).expect("write");
            if round % 2 == 0 {
                fs.flush().expect("flush");
            }
            if round % 5 == 4 {
                fs.unlink(ROOT, b"a").expect("unlink");
                fs.create(ROOT, b"a").expect("create");
            }
            fs.close_file(a);
            is_closed(&mut fs, a);
            fs.flush().expect("flush");
            stale.push(a);
            let b = fs.open_file(ROOT, b"b").expect("open");
            assert!(!stale.contains(&b));
            for &id in &stale {
                is_closed(&mut fs, id);
            }
            assert_eq!(fs.file_size(b).expect("is open"), 0);
            fs.close_file(b);
            stale.push(b);
        }
        assert_eq!(fs.files.capacity(), 1, "places are used again");
    }
}
