//! Changing the content of files, and writing it to new blocks.

use std::sync::Arc;

use super::dir::Place;
use super::extents::Extents;
use super::file::read_merged;
use super::list::Growing;
use super::open_files::{Body, Ctz};
use super::{FileId, Fs, Hold};
use crate::disk::{BLOCK_NULL, List, ListIndex, ctz};
use crate::error::{Error, Result};
use crate::mdir::Data;

/// How many bytes are written at a time.
const BATCH: usize = 1 << 20;

impl Fs {
    /// Put `data` at offset `off`. A gap before it reads as zeros. After an error, the file is
    /// unchanged.
    ///
    /// # Errors
    /// [`Error::Closed`] if the file was closed. Also if the file would become too large, or if
    /// there is no space.
    pub fn write(&mut self, id: FileId, off: u64, data: &[u8]) -> Result<()> {
        let _running = self.begin()?;
        self.opened(id)?;
        if data.is_empty() {
            return Ok(());
        }
        let end = off.saturating_add(data.len() as u64);
        if end > u64::from(self.superblock.file_max) {
            return Err(Error::FileTooLarge);
        }
        let (off, end) = (off as u32, end as u32);
        let size = self.file(id).size.max(end);
        self.with_room(|fs| {
            fs.keep_saved(id)?;
            fs.make_room(id, size, off)
        })?;
        if self.files.update_list(id, |c| c.dirty.write(off, data)).is_some() {
            self.files.update(id, |f| f.size = size);
            self.files.mark_dirty(id);
            return self.keep_data_within_budget();
        }
        self.edit_inline(id, |d| {
            if d.len() < end as usize {
                d.resize(end as usize, 0);
            }
            d[off as usize..end as usize].copy_from_slice(data);
        })
    }

    /// Set the size. Bytes that are added are zeros. After an error, the file is unchanged.
    ///
    /// # Errors
    /// Those of [`Fs::write`].
    pub fn truncate(&mut self, id: FileId, size: u64) -> Result<()> {
        let _running = self.begin()?;
        self.opened(id)?;
        if size > u64::from(self.superblock.file_max) {
            return Err(Error::FileTooLarge);
        }
        let size = size as u32;
        let old = self.file(id).size;
        if size == old {
            return Ok(());
        }
        if size < old && size <= self.inline_max && matches!(self.file(id).body, Body::Ctz(_)) {
            return self.with_room(|fs| {
                fs.keep_saved(id)?;
                fs.pull_inline(id, size)
            });
        }
        self.with_room(|fs| {
            fs.keep_saved(id)?;
            fs.make_room(id, size, old.min(size))
        })?;
        let shortened = self.files.update_list(id, |c| {
            c.dirty.truncate(size);
            c.valid = c.valid.min(size);
        });
        if shortened.is_some() {
            self.files.update(id, |f| f.size = size);
            self.files.mark_dirty(id);
            return Ok(());
        }
        self.edit_inline(id, |d| d.resize(size as usize, 0))
    }

    fn ctz(&self, id: FileId) -> &Ctz {
        match &self.file(id).body {
            Body::Ctz(c) => c,
            // callers have checked that the file is in blocks
            _ => panic!("file {id:?} is not in blocks"),
        }
    }

    /// Make sure that there is room for a change from byte `from` which leaves the file with `size`
    /// bytes: in the pair of the entry, or in blocks.
    fn make_room(&mut self, id: FileId, size: u32, from: u32) -> Result<()> {
        let bs = self.layout.block_size;
        let old = self.file(id).size;
        match &self.file(id).body {
            Body::Inline | Body::Detached(_) if size <= self.inline_max => {
                if let Some((dir, name)) = self.file(id).link.clone() {
                    self.room_to_grow(dir, &name, size.saturating_sub(old))?;
                }
                Ok(())
            }
            Body::Inline | Body::Detached(_) => {
                self.need_map()?;
                let blocks = ctz::blocks(bs, size);
                if !self.space.reserve(0, blocks) {
                    return Err(Error::NoSpace);
                }
                match self.push_out(id) {
                    Ok(()) => self.set_reserved(id, blocks),
                    Err(e) => {
                        self.space.shrink_promise(blocks, 0);
                        return Err(e);
                    }
                }
                Ok(())
            }
            Body::Ctz(c) => {
                let mut first = c.changed_from(old).unwrap_or(old).min(from);
                if size > old {
                    first = first.min(c.valid.min(old));
                }
                let needed = ctz::blocks_from(bs, size, first);
                let reserved = c.reserved;
                // the blocks that will be replaced must be known, so that they can be freed
                c.durable.find(self.durable.dev(), ctz::locate(bs, first.min(size)).0)?;
                self.need_map()?;
                if !self.space.reserve(reserved, needed) {
                    return Err(Error::NoSpace);
                }
                self.set_reserved(id, needed);
                Ok(())
            }
        }
    }

    fn set_reserved(&mut self, id: FileId, blocks: u32) {
        self.files.update_list(id, |c| c.reserved = blocks);
    }

    /// Change the content of an inline file. The room for it was made before.
    fn edit_inline(&mut self, id: FileId, edit: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        if let Body::Detached(_) = &self.file(id).body {
            self.files.update(id, |file| {
                if let Body::Detached(d) = &mut file.body {
                    edit(d);
                    file.size = d.len() as u32;
                }
            });
            return Ok(());
        }
        let Place { pair, at } = self.place_of(id)?;
        let size = self.mdir_mut(pair)?.update(at, |e| {
            e.dirty = true;
            match &mut e.data {
                Data::Inline(d) => {
                    d.change(edit);
                    d.len() as u32
                }
                _ => 0,
            }
        });
        self.files.update(id, |f| f.size = size);
        Ok(())
    }

    /// The place of the entry of an open file; `NotFound` if the file was unlinked.
    pub(super) fn place_of(&mut self, id: FileId) -> Result<Place> {
        let (dir, name) = self.file(id).link.clone().ok_or(Error::NotFound)?;
        self.find(dir, &name)?.ok_or(Error::NotFound)
    }

    /// Turn an inline file into a file in blocks. All of its content is then dirty.
    fn push_out(&mut self, id: FileId) -> Result<()> {
        let detached = self.files.update(id, |file| match &mut file.body {
            Body::Detached(d) => Some(std::mem::take(d)),
            _ => None,
        });
        let content = match detached {
            Some(content) => content,
            None => {
                let (dir, name) = self.file(id).link.clone().ok_or(Error::NotFound)?;
                let empty = Data::EMPTY_LIST;
                // a CTZ struct takes 8 bytes, which may be more than the inline content took
                let extra = 8u32.saturating_sub(self.file(id).size);
                let Place { pair, at } = self.room_to_grow(dir, &name, extra)?;
                self.mdir_mut(pair)?.update(at, |e| {
                    e.dirty = true;
                    match std::mem::replace(&mut e.data, empty) {
                        Data::Inline(d) => d.into_vec(),
                        _ => Vec::new(),
                    }
                })
            }
        };
        let mut dirty = Extents::default();
        dirty.write(0, &content);
        self.files.update(id, |f| f.body = Body::Ctz(Ctz { dirty, ..Ctz::default() }));
        self.files.mark_dirty(id);
        Ok(())
    }

    /// Turn a file in blocks into an inline file with its first `size` bytes.
    fn pull_inline(&mut self, id: FileId, size: u32) -> Result<()> {
        let mut content = vec![0; size as usize];
        read_merged(self.durable.dev(), self.ctz(id), 0, &mut content)?;
        if let Some((dir, name)) = self.file(id).link.clone() {
            let Place { pair, at } = self.room_to_grow(dir, &name, size.saturating_sub(8))?;
            self.mdir_mut(pair)?.update(at, |e| {
                e.dirty = true;
                e.data = Data::Inline(content.into());
            });
            self.replace_body(id, Body::Inline);
        } else {
            self.replace_body(id, Body::Detached(content));
        }
        self.files.update(id, |f| f.size = size);
        Ok(())
    }

    fn replace_body(&mut self, id: FileId, body: Body) {
        let was = self.files.update(id, |f| std::mem::replace(&mut f.body, body));
        if let Body::Ctz(c) = was {
            self.space.shrink_promise(c.reserved, 0);
            self.space.retire_lists(c.list, c.durable, c.shared);
        }
        self.files.mark_clean(id);
    }

    pub(super) fn keep_data_within_budget(&mut self) -> Result<()> {
        if self.files.dirty_bytes() <= self.budget.content() {
            return Ok(());
        }
        match self.spill() {
            // a flush frees blocks that were taken when content was written out earlier
            Err(Error::NoSpace) if self.held == Hold::Nothing => self.flush(),
            r => r.map_err(|e| self.judge(e)),
        }
    }

    /// Write full blocks of changed files until no more content is in memory than is allowed.
    fn spill(&mut self) -> Result<()> {
        let mut big = self.files.by_dirty_bytes();
        big.sort_unstable();
        while self.files.dirty_bytes() > self.budget.content() / 2 {
            let Some((_, id)) = big.pop() else { break };
            self.write_out(id, true)?;
        }
        Ok(())
    }

    /// Write a file, from its first changed block on, to new blocks. Each block is written only
    /// once. With `full_only`, a last block that is not full stays in memory.
    ///
    /// Nothing on disk names the new blocks until the flush commits the entry of the file. So a
    /// crash before that commit leaves the old content.
    pub(super) fn write_out(&mut self, id: FileId, full_only: bool) -> Result<()> {
        let bs = self.layout.block_size;
        let file = self.file(id);
        let size = file.size;
        let Body::Ctz(c) = &file.body else { return Ok(()) };
        let Some(from) = c.changed_from(size) else { return Ok(()) };
        let first = ctz::locate(bs, from).0;
        let blocks = ctz::blocks(bs, size);
        let end = if full_only { ctz::locate(bs, size).0 } else { ListIndex(blocks) };
        if first >= end {
            return Ok(());
        }
        let mut list = Growing::new(self.durable.dev(), &c.list, first.0)?;
        let mut i = first;
        while i < end {
            let n = ((BATCH / bs as usize).max(1) as u32).min(end - i);
            if let Err(e) = self.write_blocks(id, &mut list, i, n, size) {
                for b in list.take_from(first) {
                    self.space.free(b);
                }
                return Err(e);
            }
            i += n;
        }
        self.durable.note_content();

        let valid = if end.0 == blocks { size } else { ctz::start(bs, end) as u32 };
        let list = Arc::new(list.finish());
        let written = self.files.update_list(id, |c| {
            c.dirty.remove(0, valid);
            // blocks that were written before and never committed are not needed any more
            let stale = c.list.known(first.max(ListIndex(c.shared)));
            let guard = std::mem::replace(&mut c.list, list);
            c.shared = c.shared.min(first.0);
            c.valid = valid;
            let needed = c.blocks_needed(bs, size);
            (stale, guard, std::mem::replace(&mut c.reserved, needed), needed)
        });
        if let Some((stale, guard, reserved, needed)) = written {
            self.space.shrink_promise(reserved, needed);
            self.space.discard(stale, guard);
        }
        Ok(())
    }

    /// Build and write the blocks `i..i + n` of a file in this order, because the pointers of a
    /// block name blocks before it. Their addresses are appended to `list`.
    fn write_blocks(
        &mut self,
        id: FileId,
        list: &mut Growing,
        i: ListIndex,
        n: u32,
        size: u32,
    ) -> Result<()> {
        let bs = self.layout.block_size as usize;
        for _ in 0..n {
            list.push(self.space.take_to_write()?);
        }
        let buf = self.build_blocks(id, list, i, n, size)?;
        let fresh = list.last(n as usize).to_vec();
        let mut k = 0;
        while k < fresh.len() {
            let run = 1
                + (k + 1..fresh.len())
                    .take_while(|&j| fresh[j] == fresh[k] + (j - k) as u32)
                    .count();
            match self.durable.rewrite_checked(fresh[k], &buf[k * bs..(k + run) * bs]) {
                Ok(()) => {
                    self.space.written();
                    k += run;
                }
                Err(e) if e.is_bad_block() => {
                    // Write the blocks one by one. If a block is bad, use another one. The blocks
                    // after one that has moved are built again, because they name it.
                    let alone = match run {
                        1 => Err(e),
                        _ => self.durable.rewrite_checked(fresh[k], &buf[k * bs..(k + 1) * bs]),
                    };
                    drop(buf);
                    let done = k as u32 + u32::from(alone.is_ok());
                    let again = list.take_from(i + done);
                    self.give_back(again, alone.map_err(Error::Io))?;
                    return self.write_blocks(id, list, i + done, n - done, size);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The bytes of the blocks `i..i + n` of a file: the pointers, then the content as it is in
    /// memory.
    fn build_blocks(
        &self,
        id: FileId,
        list: &Growing,
        i: ListIndex,
        n: u32,
        size: u32,
    ) -> Result<Vec<u8>> {
        let bs = self.layout.block_size as usize;
        let mut buf = vec![0xff; n as usize * bs];
        for (index, block) in i.up_to(i + n).zip(buf.chunks_exact_mut(bs)) {
            let data_at = ctz::data_offset(index) as usize;
            for (slot, target) in block[..data_at].chunks_exact_mut(4).zip(ctz::targets(index)) {
                let to = list.get(self.durable.dev(), target)?;
                slot.copy_from_slice(&to.to_le_bytes());
            }
            let start = ctz::start(bs as u32, index) as u32;
            let len = (size - start).min((bs - data_at) as u32) as usize;
            let content = &mut block[data_at..data_at + len];
            read_merged(self.durable.dev(), self.ctz(id), start, content)?;
        }
        Ok(buf)
    }

    /// After a failure, give back the blocks that were taken but not written. `first` is the result
    /// of writing the first of `blocks` alone. If this failed, that block may be bad.
    fn give_back(&mut self, mut blocks: Vec<u32>, first: Result<()>) -> Result<()> {
        let bad = first.is_err().then(|| blocks.remove(0));
        blocks.into_iter().for_each(|b| self.space.free(b));
        match (first, bad) {
            (Err(Error::Io(e)), Some(block)) if e.is_bad_block() => {
                ::log::warn!("bad block {block:#x}: file data goes elsewhere");
                self.space.spoil(block, e)
            }
            (Err(e), bad) => {
                bad.into_iter().for_each(|b| self.space.free(b));
                Err(e)
            }
            (Ok(()), _) => {
                self.space.written();
                Ok(())
            }
        }
    }

    /// Let the entry of a file name the new list, which has been written.
    pub(super) fn publish_file(&mut self, id: FileId) -> Result<()> {
        let size = self.file(id).size;
        let Body::Ctz(c) = &self.file(id).body else { return Ok(()) };
        // a shorter file uses the beginning of the same list, so its head is an earlier block
        let head = match ListIndex::last_of(ctz::blocks(self.layout.block_size, size)) {
            Some(last) => c.list.get(self.durable.dev(), last)?,
            None => BLOCK_NULL,
        };
        let Place { pair, at } = self.place_of(id)?;
        let now = Data::Ctz(List { head, size });
        if self.mdir(pair)?.entries.get(at).is_some_and(|e| e.data != now) {
            self.mdir_mut(pair)?.update(at, |e| {
                e.data = now;
                e.dirty = true;
            });
        }
        Ok(())
    }

    /// Called when all of the file is durable. Retires the blocks that only its old list used.
    pub(super) fn settle_file(&mut self, id: FileId) {
        let size = self.file(id).size;
        let bs = self.layout.block_size;
        let stale = self.files.update_list(id, |c| {
            let keep = ctz::blocks(bs, size);
            let mut unused = (Arc::default(), 0);
            if c.list.len() > keep {
                let short = Arc::new(c.list.shortened(keep));
                unused = (std::mem::replace(&mut c.list, short), c.shared.max(keep));
                c.shared = c.shared.min(keep);
            }
            let from = std::mem::replace(&mut c.shared, c.list.len());
            [(std::mem::replace(&mut c.durable, Arc::clone(&c.list)), from), unused]
        });
        for (list, from) in stale.into_iter().flatten() {
            self.space.retire_list(list, ListIndex(from));
        }
        if self.file(id).opens == 0 {
            self.forget_file(id);
        }
    }

    /// The files with unwritten content.
    pub(super) fn dirty_file_ids(&self) -> Vec<FileId> {
        self.files.dirty().iter().copied().collect()
    }
}
