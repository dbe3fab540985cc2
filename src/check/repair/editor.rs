//! Writing below the filesystem: a pair's log as one commit, and the blocks of a file.
//!
//! A pair is rewritten into its own second block, so nothing is allocated, and a crash leaves the
//! old log or the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alloc::Alloc;
use crate::bd::BlockDevice;
use crate::disk::commit::{Commit, Layout, Writer};
use crate::disk::entry::Content;
use crate::disk::log::{self, Log, RawEntry};
use crate::disk::{GState, List, Pair, Superblock, Tail, ctz, superblock, tag};
use crate::error::{Error, Result};
use crate::fs::put_log;
use crate::mdir::store;

/// Bytes that a disk writes as a whole.
const SECTOR: usize = 512;

/// A change of one entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum EntryEdit {
    /// It goes.
    Remove,
    /// It is of this type.
    Retype(u16),
    /// Its content is this CTZ list.
    List(List),
}

/// All changes of one pair.
#[derive(Debug, Default)]
pub(super) struct PairEdit {
    /// By the ids before any of them.
    pub entries: BTreeMap<u16, EntryEdit>,
    pub tail: Option<Tail>,
    pub gdelta: Option<GState>,
}

impl PairEdit {
    /// The same where the entries are put into another order, given as ids before.
    fn in_order(self, order: &[u16]) -> Self {
        let new = |id: u16| order.iter().position(|&o| o == id).map_or(id, |new| new as u16);
        let entries = self.entries.into_iter().map(|(id, edit)| (new(id), edit)).collect();
        Self { entries, ..self }
    }

    fn apply(&self, log: &mut Log) {
        // from the last on: a removal shifts the ids behind it
        for (&id, edit) in self.entries.iter().rev() {
            let Some(e) = log.entries.get_mut(usize::from(id)) else { continue };
            match *edit {
                EntryEdit::Remove => _ = log.entries.remove(usize::from(id)),
                EntryEdit::Retype(ty) => e.name_type = Some(ty),
                EntryEdit::List(list) => e.data = Content::List(list).to_struct(),
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
    /// Change `pair` by one commit, durable on return.
    pub fn commit(&self, pair: Pair, mut edit: PairEdit) -> Result<()> {
        let dev = &*self.dev;
        let fetched = store::fetch(dev, pair)?;
        let mut log = fetched.log;
        let mut bytes = vec![0; dev.geometry().block_size as usize];
        dev.read(fetched.pair.0[0], 0, &mut bytes)?;
        if let Some(order) = log::order_as_c(&log, &bytes) {
            // the C driver is to find what it found
            edit = edit.in_order(&order);
            log.reorder(&order);
        }
        edit.apply(&mut log);
        let commit = self.compact(&log)?;
        let twin = fetched.pair.0[1];
        // what the change relies on is durable before, and the erase before what it makes room for
        dev.barrier()?;
        store::erase_checked(dev, twin)?;
        dev.barrier()?;
        store::write_commit(dev, twin, &commit)?;
        Ok(dev.sync()?)
    }

    /// The log as the first commit of the other block.
    fn compact(&self, log: &Log) -> Result<Commit> {
        let mut w = Writer::compact(self.layout, log.rev.wrapping_add(1));
        put_log(log, &mut w);
        w.finish().map_err(|_| Error::NoSpace)
    }

    /// Put `sb` into `pair`, in the place of a damaged superblock or before what is there.
    ///
    /// The other block of the pair may hold the last copy by which anybody finds the filesystem, in
    /// its first bytes. So it is not erased first: its first sector goes from the old content to
    /// the new by a single write, when all behind that is erased.
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

/// Writes a CTZ list to free blocks from its beginning on; nothing names it yet.
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

    /// Append `data`.
    pub fn push(&mut self, map: &mut Alloc, mut data: &[u8]) -> Result<()> {
        let block_size = self.dev.geometry().block_size as usize;
        while !data.is_empty() {
            if self.block.is_empty() {
                for target in ctz::targets(self.blocks.len() as u32) {
                    let to = self.blocks[target as usize];
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

    /// Write the rest; what the entry is to name.
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

    /// Let go what was written.
    pub fn give_back(self, map: &mut Alloc) {
        self.blocks.into_iter().for_each(|b| map.free(b));
    }
}
