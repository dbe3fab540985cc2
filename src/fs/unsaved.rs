//! The changes of one open file, separate from the changes of other files: making only these
//! durable, or dropping them.
//!
//! For this, each open file keeps the content that its entry had before the first change that is
//! not durable. A flush of one file sets the changes of all other open files aside: during the
//! flush, their entries have their earlier content, and the flush commits this content.

use std::sync::Arc;

use super::dir::Place;
use super::list::BlockList;
use super::open_files::{Body, Ctz};
use super::pairs::PairIx;
use super::{FileId, Fs};
use crate::disk::{ListIndex, Part};
use crate::error::{Error, Result};
use crate::mdir::{Attr, Data, Entry};

/// The content that the entry of an open file had before the changes that are not durable.
#[derive(Debug)]
pub(super) struct Saved {
    data: Data,
    attrs: Part<Attr>,
    /// Whether the entry must be written to have this content again.
    dirty: bool,
    /// The block list of `data`. As long as it is held here, its blocks are not freed.
    list: Option<Arc<BlockList>>,
    /// Whether a flush has failed since then. If so, it is not known whether the disk has this
    /// content.
    uncertain: bool,
}

impl Saved {
    /// Put this content into `e`, and return the content that was there.
    fn put_into(&self, e: &mut Entry) -> (Data, Part<Attr>) {
        let data = std::mem::replace(&mut e.data, self.data.clone());
        let attrs = std::mem::replace(&mut e.attrs, self.attrs.clone());
        e.dirty = self.dirty || self.uncertain;
        if self.uncertain {
            // all attributes are written, because it is not known which of them are on disk
            let added = attrs.iter().filter(|a| !self.attrs.iter().any(|old| old.ty == a.ty));
            e.attrs.change(|attrs| {
                attrs.iter_mut().for_each(|a| a.dirty = true);
                attrs.extend(added.map(|a| Attr { ty: a.ty, data: None, dirty: true }));
            });
        }
        (data, attrs)
    }
}

/// The changes of a file that were set aside.
struct SetAside {
    id: FileId,
    data: Data,
    attrs: Part<Attr>,
    /// Whether content in blocks was waiting to be written.
    unwritten: bool,
    saved: Saved,
}

impl Fs {
    /// Let open files keep the content that their entries had before their changes, for
    /// [`Fs::flush_file`] and [`Fs::revert_file`].
    pub fn track_unsaved(&mut self) {
        self.files.track_unsaved();
    }

    /// Called before the open file changes. Keeps the present content of its entry, unless content
    /// from before an earlier change is kept already.
    pub(super) fn keep_saved(&mut self, id: FileId) -> Result<()> {
        let file = self.file(id);
        if !self.files.tracks_unsaved() || file.link.is_none() || file.is_unsaved() {
            return Ok(());
        }
        let list = match &file.body {
            Body::Ctz(c) => Some(Arc::clone(&c.durable)),
            Body::Inline | Body::Detached(_) => None,
        };
        let place = self.place_of(id)?;
        let e = self.entry(place)?;
        // the copy may live longer than the rest of its pair
        let mut then = e.clone();
        then.detach();
        let Entry { data, attrs, dirty, .. } = then;
        self.files.keep_saved(id, Saved { data, attrs, dirty, list, uncertain: false });
        Ok(())
    }

    /// Note that everything is durable.
    pub(super) fn all_is_saved(&mut self) {
        for id in self.files.unsaved().clone() {
            self.files.take_saved(id);
            if self.file(id).opens == 0 && !self.files.is_dirty(id) {
                self.forget_file(id);
            }
        }
    }

    /// Note that a flush has failed, so the content on disk may be old or new.
    pub(super) fn saved_is_uncertain(&mut self) {
        self.files.each_saved(|saved| saved.uncertain = true);
    }

    /// Make one open file durable. Other open files keep their earlier content on disk. Everything
    /// else that has changed (names, directories, closed files) becomes durable, too. If the
    /// earlier content of another open file does not fit into its directory any more, the changes
    /// of that file are written as well.
    ///
    /// # Errors
    /// Those of [`Fs::flush`], and [`Error::Closed`] if the file was closed.
    pub fn flush_file(&mut self, id: FileId) -> Result<()> {
        self.writable()?;
        let _running = self.run();
        self.opened(id)?;
        let unsaved = self.files.unsaved().iter().copied();
        let others: Vec<FileId> = unsaved.filter(|&f| f != id && self.file(f).opens > 0).collect();
        let mut aside = Vec::new();
        for other in others {
            aside.extend(self.set_aside_changes(other)?);
        }
        let flushed = self.flush_and_sync();
        for changes in aside {
            self.put_back(changes, flushed.is_ok())?;
        }
        flushed
    }

    /// Put the content that the entry of an open file had before its changes back into the entry.
    /// Returns `None` if there is no room for it.
    fn set_aside_changes(&mut self, id: FileId) -> Result<Option<SetAside>> {
        let Some(saved) = self.files.take_saved(id) else { return Ok(None) };
        let Place { pair, at } = self.place_of(id)?;
        if !self.has_room_for(pair, at, &saved)? {
            self.files.keep_saved(id, saved);
            return Ok(None);
        }
        let unwritten = self.files.mark_clean(id);
        let (data, attrs) = self.mdir_mut(pair)?.update(at, |e| saved.put_into(e));
        Ok(Some(SetAside { id, data, attrs, unwritten, saved }))
    }

    /// Whether the pair has room for the earlier content of one of its entries.
    fn has_room_for(&mut self, pair: PairIx, at: usize, saved: &Saved) -> Result<bool> {
        let hard = self.hard_limit();
        let m = self.mdir(pair)?;
        let Some(e) = m.entries.get(at) else { return Ok(false) };
        let then = Entry { data: saved.data.clone(), attrs: saved.attrs.clone(), ..e.clone() };
        let extra = then.size_on_disk().saturating_sub(e.size_on_disk());
        Ok(extra == 0 || m.size() + extra <= hard)
    }

    /// Put the changes that were set aside back into the entry, after a flush that has `succeeded`
    /// or failed.
    fn put_back(&mut self, changes: SetAside, succeeded: bool) -> Result<()> {
        let SetAside { id, data, mut attrs, unwritten, mut saved } = changes;
        if succeeded {
            saved.dirty = false;
            saved.uncertain = false;
            saved.attrs.change(|attrs| {
                attrs.retain(|a| a.data.is_some());
                attrs.iter_mut().for_each(|a| a.dirty = false);
            });
        } else {
            saved.uncertain = true;
        }
        let same = |a: &Attr| saved.attrs.iter().any(|old| old.ty == a.ty && old.data == a.data);
        for a in attrs.make_mut() {
            a.dirty = !succeeded || !same(a);
        }
        let Place { pair, at } = self.place_of(id)?;
        self.mdir_mut(pair)?.update(at, |e| {
            e.dirty = true;
            e.data = data;
            e.attrs = attrs;
        });
        self.files.keep_saved(id, saved);
        if unwritten {
            self.files.mark_dirty(id);
        }
        Ok(())
    }

    /// Drop the changes of an open file that are not durable: of its content and its attributes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file was unlinked, [`Error::Closed`] if it was closed,
    /// [`Error::NoSpace`] if the earlier content does not fit into its directory any more. Then
    /// nothing is changed.
    pub fn revert_file(&mut self, id: FileId) -> Result<()> {
        self.writable()?;
        let _running = self.run();
        if self.opened(id)?.link.is_none() {
            return Err(Error::NotFound);
        }
        let Some(saved) = self.files.take_saved(id) else { return Ok(()) };
        let Place { pair, at } = self.place_of(id)?;
        if !self.has_room_for(pair, at, &saved)? {
            self.files.keep_saved(id, saved);
            return Err(Error::NoSpace);
        }
        self.mdir_mut(pair)?.update(at, |e| saved.put_into(e));
        let (size, body) = match (saved.data, saved.list) {
            (Data::Ctz(stored), Some(list)) => {
                // the list may have been retired, because the file had become a small one
                self.space.keep(&list);
                let (durable, shared) = (Arc::clone(&list), list.len());
                let valid = stored.size;
                (valid, Body::Ctz(Ctz { list, valid, durable, shared, ..Ctz::default() }))
            }
            (Data::Inline(d), _) => (d.len() as u32, Body::Inline),
            _ => (0, Body::Inline),
        };
        let was = self.files.update(id, |file| {
            file.size = size;
            std::mem::replace(&mut file.body, body)
        });
        self.files.mark_clean(id);
        if let Body::Ctz(c) = was {
            self.space.shrink_promise(c.reserved, 0);
            // blocks that were written already become free only after a flush, because a failed
            // flush may have written metadata that names them
            self.space.retire_list(c.list, ListIndex(c.shared));
        }
        Ok(())
    }
}
