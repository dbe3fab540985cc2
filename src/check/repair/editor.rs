//! Writing below the filesystem: the log of a pair as one commit, and the blocks of a file.
//!
//! The new log of a pair is written to the pair's other block. So no block has to be allocated, and
//! after a crash either the old log or the new one is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alloc::Alloc;
use crate::bd::BlockDevice;
use crate::disk::commit::{Commit, Layout, Writer};
use crate::disk::entry::Content;
use crate::disk::log::{self, Log, RawEntry};
use crate::disk::{GState, List, ListIndex, Pair, Superblock, Tail, ctz, superblock, tag};
use crate::error::{Error, Result};
use crate::fs::put_log;
use crate::mdir::store;

/// How many bytes a disk writes atomically.
const SECTOR: usize = 512;

/// A change of one entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum EntryEdit {
    /// The entry is removed.
    Remove,
    /// The entry gets this type of name.
    Retype(u16),
    /// The content of the entry becomes this CTZ list.
    List(List),
    /// The entry becomes the entry of the directory that begins with this pair.
    Dir(Pair),
}

/// All changes of one pair. One commit makes them.
#[derive(Debug, Default)]
pub(super) struct PairEdit {
    /// The changes of entries, by the ids of the entries before any of the changes.
    pub entries: BTreeMap<u16, EntryEdit>,
    pub tail: Option<Tail>,
    pub gdelta: Option<GState>,
}

impl PairEdit {
    /// The same changes for entries that are first put into another order. `order` lists their
    /// present ids in that order.
    fn in_order(self, order: &[u16]) -> Self {
        let new = |id: u16| order.iter().position(|&o| o == id).map_or(id, |new| new as u16);
        let entries = self.entries.into_iter().map(|(id, edit)| (new(id), edit)).collect();
        Self { entries, ..self }
    }

    fn apply(&self, log: &mut Log) {
        // from the highest id down, because a removal shifts the ids above it
        for (&id, edit) in self.entries.iter().rev() {
            let Some(e) = log.entries.get_mut(usize::from(id)) else { continue };
            match *edit {
                EntryEdit::Remove => _ = log.entries.remove(usize::from(id)),
                EntryEdit::Retype(ty) => e.name_type = Some(ty),
                EntryEdit::List(list) => e.data = Content::List(list).to_struct(),
                EntryEdit::Dir(pair) => e.data = Content::Dir(pair).to_struct(),
            }
        }
        if let Some(tail) = self.tail {
            log.tail = Some(tail);
        }
        if let Some(delta) = self.gdelta {
            log.gdelta = delta;
        }
    }
}

/// Writes to the device of one image.
pub(super) struct Editor {
    pub dev: Arc<dyn BlockDevice>,
    pub layout: Layout,
}

impl Editor {
    /// Change `pair` with one commit. The change is durable on return.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the new log does not fit into a block, and the errors of the device.
    /// The old log is in force then.
    pub fn commit(&self, pair: Pair, mut edit: PairEdit) -> Result<()> {
        let dev = &*self.dev;
        let fetched = store::fetch(dev, pair)?;
        let mut log = fetched.log;
        let mut bytes = vec![0; dev.geometry().block_size as usize];
        dev.read(fetched.pair.0[0], 0, &mut bytes)?;
        if let Some(order) = log::order_as_c(&log, &bytes) {
            // the C driver must still find the same entry under each name
            edit = edit.in_order(&order);
            log.reorder(&order);
        }
        edit.apply(&mut log);
        let commit = self.compact(&log)?;
        let twin = fetched.pair.0[1];
        // What the change relies on must be durable before it. The erased block must be durable
        // before the commit in it, because otherwise a crash could leave old bytes of that block
        // behind the commit.
        dev.barrier()?;
        store::erase_checked(dev, twin)?;
        dev.barrier()?;
        store::write_commit(dev, twin, &commit)?;
        Ok(dev.sync()?)
    }

    /// The log as the first commit of an erased block.
    fn compact(&self, log: &Log) -> Result<Commit> {
        let mut w = Writer::compact(self.layout, log.rev.wrapping_add(1));
        put_log(log, &mut w);
        w.finish().map_err(|_| Error::NoSpace)
    }

    /// Put `sb` into `pair`, in the place of a damaged superblock or before the first entry.
    ///
    /// The other block of the pair may hold the last copy by which the filesystem can be found, in
    /// its first bytes. So this block is not erased first: everything behind its first sector is
    /// cleared, and then a single write replaces the old content of that sector.
    ///
    /// # Errors
    /// Those of [`Self::commit`].
    pub fn restore_superblock(&self, pair: Pair, sb: Superblock) -> Result<()> {
        let dev = &*self.dev;
        let fetched = store::fetch(dev, pair)?;
        let mut log = fetched.log;
        if log.entries.first().is_none_or(|e| e.name_type != Some(tag::SUPERBLOCK)) {
            log.entries.insert(0, RawEntry::default());
        }
        if let Some(e) = log.entries.first_mut() {
            e.name_type = Some(tag::SUPERBLOCK);
            e.name = superblock::MAGIC.as_slice().into();
            e.data = Content::Inline(&sb.to_bytes()).to_struct();
        }
        let mut block = self.compact(&log)?.bytes;
        let block_size = dev.geometry().block_size as usize;
        block.resize(block_size, 0xff);
        let twin = fetched.pair.0[1];
        dev.barrier()?;
        if block_size > SECTOR {
            dev.prog(twin, SECTOR as u32, &vec![0xff; block_size - SECTOR])?;
            dev.barrier()?;
        }
        store::rewrite_checked(dev, twin, &block)?;
        Ok(dev.sync()?)
    }
}

/// Writes a CTZ list to free blocks, from its first block to its last. Nothing names the list yet.
pub(super) struct ListWriter<'a> {
    dev: &'a dyn BlockDevice,
    blocks: Vec<u32>,
    block: Vec<u8>,
    size: u32,
}

impl<'a> ListWriter<'a> {
    pub fn new(dev: &'a dyn BlockDevice) -> Self {
        Self { dev, blocks: Vec::new(), block: Vec::new(), size: 0 }
    }

    /// Append `data` to the content.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if no block is free, and the errors of the device.
    pub fn push(&mut self, map: &mut Alloc, mut data: &[u8]) -> Result<()> {
        let block_size = self.dev.geometry().block_size as usize;
        while !data.is_empty() {
            if self.block.is_empty() {
                for target in ctz::targets(ListIndex(self.blocks.len() as u32)) {
                    let to = self.blocks[target.as_usize()];
                    self.block.extend_from_slice(&to.to_le_bytes());
                }
            }
            let (now, later) = data.split_at(data.len().min(block_size - self.block.len()));
            self.block.extend_from_slice(now);
            self.size += now.len() as u32;
            data = later;
            if self.block.len() == block_size {
                self.write_block(map)?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self, map: &mut Alloc) -> Result<()> {
        loop {
            let block = map.take_to_write()?;
            let written = self
                .dev
                .erase(block)
                .and_then(|()| store::prog_checked(self.dev, block, 0, &self.block));
            match written {
                Ok(()) => {
                    map.written();
                    self.blocks.push(block);
                    self.block.clear();
                    return Ok(());
                }
                Err(e) if e.is_bad_block() => map.spoil(block, e)?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Write the last block. Returns the change by which an entry names the list.
    ///
    /// # Errors
    /// Those of [`Self::push`]. The blocks that were written are free again then.
    pub fn finish(mut self, map: &mut Alloc) -> Result<EntryEdit> {
        if !self.block.is_empty()
            && let Err(e) = self.write_block(map)
        {
            self.give_back(map);
            return Err(e);
        }
        let head = self.blocks.last().copied().ok_or(Error::NoSpace)?;
        Ok(EntryEdit::List(List { head, size: self.size }))
    }

    /// Free the blocks again that were written so far.
    pub fn give_back(self, map: &mut Alloc) {
        self.blocks.into_iter().for_each(|b| map.free(b));
    }
}
