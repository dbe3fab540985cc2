//! Open files: content as it is to become, over content as it is on disk.

use std::sync::Arc;

use super::dir::Place;
use super::extents::Extents;
use super::space::Retired;
use super::{DirId, FileId, Fs};
use crate::bd::BlockDevice;
use crate::disk::{BLOCK_NULL, ctz};
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{Data, Entry, Kind};

/// Largest single read of consecutive blocks, in bytes.
const RUN_MAX: usize = 1 << 20;

/// A CTZ list on disk and what was changed since.
#[derive(Debug, Default)]
pub(super) struct Ctz {
    /// Block addresses by index: on disk, committed or not.
    pub list: Arc<Vec<u32>>,
    /// Bytes of `list` that count; beyond are dirty ranges and zeros.
    pub valid: u32,
    /// The list that the entry on disk names.
    pub durable: Arc<Vec<u32>>,
    /// How many blocks `list` and `durable` have in common at the start.
    pub shared: u32,
    /// Dirty ranges.
    pub dirty: Extents,
    /// Blocks promised by the allocator for writing this out.
    pub reserved: u32,
}

/// Where a file's content is.
#[derive(Debug)]
pub(super) enum Body {
    /// In its entry.
    Inline,
    /// It was inline when it was unlinked.
    Detached(Vec<u8>),
    /// In blocks.
    Ctz(Ctz),
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    /// Where its entry is; none once unlinked.
    pub link: Option<(DirId, Box<[u8]>)>,
    /// How often it is open; a dirty file outlives its last close until it is flushed.
    pub opens: u32,
    /// Bytes.
    pub size: u32,
    pub body: Body,
}

impl Ctz {
    /// Where writing out has to begin; `None` if no byte changed.
    pub fn changed_from(&self, size: u32) -> Option<u32> {
        let gap = (size > self.valid).then_some(self.valid);
        match (self.dirty.first(), gap) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Blocks that writing out will take.
    pub fn blocks_needed(&self, block_size: u32, size: u32) -> u32 {
        match self.changed_from(size) {
            Some(from) => ctz::blocks(block_size, size) - ctz::locate(block_size, from).0,
            None => 0,
        }
    }
}

/// A read of file data, to be done without the filesystem's lock.
pub struct ReadPlan {
    dev: Arc<dyn BlockDevice>,
    /// Bytes known already, or none.
    bytes: Option<Vec<u8>>,
    list: Arc<Vec<u32>>,
    off: u32,
    len: usize,
}

impl ReadPlan {
    /// Bytes that [`Self::run`] yields.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the read is at or behind the end of the file.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Read.
    pub fn run(self) -> Result<Vec<u8>> {
        match self.bytes {
            Some(bytes) => Ok(bytes),
            None => {
                let mut buf = vec![0; self.len];
                read_list(&*self.dev, &self.list, self.off, &mut buf)?;
                Ok(buf)
            }
        }
    }
}

/// Fill `buf` from byte `off` of the CTZ list `list`; consecutive blocks are read at once.
pub(crate) fn read_list(
    dev: &dyn BlockDevice,
    list: &[u32],
    off: u32,
    buf: &mut [u8],
) -> Result<()> {
    let bs = dev.geometry().block_size;
    let mut done = 0;
    let mut run = Vec::new();
    while done < buf.len() {
        let (i, at) = ctz::locate(bs, off + done as u32);
        let Some(&block) = list.get(i as usize) else {
            return Err(
                Corrupt::CtzOutOfRange { head: BLOCK_NULL, index: i, block: BLOCK_NULL }.into()
            );
        };
        let here = ((bs - at) as usize).min(buf.len() - done);
        if here == buf.len() - done {
            dev.read(block, at, &mut buf[done..done + here])?;
            return Ok(());
        }
        // as many blocks as lie one behind the other on the device and in the file
        let mut count = 1;
        let mut bytes = here;
        while bytes < buf.len() - done
            && list.get(i as usize + count) == Some(&(block + count as u32))
            && (count + 1) * bs as usize <= RUN_MAX
        {
            bytes += (bs - ctz::data_offset(i + count as u32)) as usize;
            count += 1;
        }
        if count == 1 {
            dev.read(block, at, &mut buf[done..done + here])?;
            done += here;
            continue;
        }
        run.resize(count * bs as usize - at as usize, 0);
        dev.read(block, at, &mut run)?;
        let mut from = 0;
        for k in 0..count {
            let skip = if k == 0 { 0 } else { ctz::data_offset(i + k as u32) as usize };
            let end = (k + 1) * bs as usize - at as usize;
            let n = (end - from - skip).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&run[from + skip..from + skip + n]);
            done += n;
            from = end;
        }
    }
    Ok(())
}

impl Fs {
    /// Open the file `name` in `dir`; the same object while it is open already.
    pub fn open_file(&mut self, dir: DirId, name: &[u8]) -> Result<FileId> {
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let blocks = self.pair(place.pair).blocks;
        let e = self.entry(place)?;
        if e.kind != Kind::File {
            return Err(Error::IsDirectory);
        }
        if let Some(file) = e.file {
            self.file_mut(file).opens += 1;
            return Ok(file);
        }
        let (size, body) = match e.data {
            Data::Inline(ref d) => (d.len() as u32, Body::Inline),
            Data::Ctz { head, size } => {
                let list = Arc::new(self.load_list(head, size)?);
                let shared = list.len() as u32;
                let durable = Arc::clone(&list);
                let ctz = Ctz { list, valid: size, durable, shared, ..Ctz::default() };
                (size, Body::Ctz(ctz))
            }
            _ => return Err(Corrupt::BadStruct { pair: blocks, id: place.at as u16 }.into()),
        };
        let file = File { link: Some((dir, name.into())), opens: 1, size, body };
        let id = match self.vacant_files.pop() {
            Some(id) => {
                self.files[id.0 as usize] = Some(file);
                id
            }
            None => {
                self.files.push(Some(file));
                FileId(self.files.len() as u32 - 1)
            }
        };
        // not a change: the pair stays clean
        self.mdir(place.pair)?.update(place.at, |e| e.file = Some(id));
        Ok(id)
    }

    /// Close once. The last close of an unlinked file frees its blocks.
    pub fn close_file(&mut self, id: FileId) {
        let dirty = self.dirty_files.contains(&id);
        let file = self.file_mut(id);
        file.opens = file.opens.saturating_sub(1);
        if file.opens == 0 && !dirty {
            self.drop_file(id);
        }
    }

    /// Forget a file object that is neither open nor dirty.
    pub(super) fn drop_file(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.vacant_files.push(id);
        match file.link {
            Some((dir, name)) => {
                if let Ok(Some(Place { pair, at })) = self.find(dir, &name)
                    && let Ok(mdir) = self.mdir(pair)
                {
                    mdir.update(at, |e| e.file = None);
                }
            }
            None => {
                if let Body::Ctz(ctz) = file.body {
                    self.dirty_bytes -= ctz.dirty.bytes();
                    self.alloc.reserve(ctz.reserved, 0);
                    self.retire_lists(ctz.list, ctz.durable, ctz.shared);
                }
            }
        }
    }

    pub(super) fn file(&self, id: FileId) -> &File {
        match self.files.get(id.0 as usize) {
            Some(Some(f)) => f,
            // ids are given out by open_file and end with close_file
            _ => panic!("stale file id {id:?}"),
        }
    }

    pub(super) fn file_mut(&mut self, id: FileId) -> &mut File {
        match self.files.get_mut(id.0 as usize) {
            Some(Some(f)) => f,
            _ => panic!("stale file id {id:?}"),
        }
    }

    /// Bytes of an open file.
    pub fn file_size(&self, id: FileId) -> u32 {
        self.file(id).size
    }

    /// An open file's entry has a new name.
    pub(super) fn relink_file(&mut self, id: FileId, dir: DirId, name: &[u8]) {
        self.file_mut(id).link = Some((dir, name.into()));
    }

    /// The removed entry `e` of a file takes its content along, or lets it live on in the open
    /// file.
    pub(super) fn let_go(&mut self, e: Entry) {
        let Some(id) = e.file else {
            if let Data::Ctz { head, size } = e.data
                && head != BLOCK_NULL
            {
                self.retired.push(Retired::List { head, size });
            }
            return;
        };
        self.dirty_files.remove(&id);
        let file = self.file_mut(id);
        file.link = None;
        if let (Body::Inline, Data::Inline(d)) = (&file.body, e.data) {
            file.body = Body::Detached(d);
        }
        if file.opens == 0 {
            self.drop_file(id);
        }
    }

    /// The block addresses of a CTZ list, by index.
    pub(crate) fn load_list(&self, head: u32, size: u32) -> Result<Vec<u32>> {
        let g = self.dev.geometry();
        let count = ctz::blocks(g.block_size, size);
        if count > g.block_count {
            return Err(Corrupt::CtzTooLong { head, size }.into());
        }
        // from the head to the start; a loop comes back to the block noted last (Brent)
        let mut list = Vec::new();
        let mut noted = BLOCK_NULL;
        let mut put = |list: &mut Vec<u32>, block| -> Result<u32, Corrupt> {
            let index = count - 1 - list.len() as u32;
            if block >= g.block_count {
                return Err(Corrupt::CtzOutOfRange { head, index, block });
            }
            if block == noted {
                return Err(Corrupt::CtzLoop { head, block });
            }
            list.push(block);
            if list.len().is_power_of_two() {
                noted = block;
            }
            Ok(index)
        };
        let mut block = head;
        while list.len() < count as usize {
            let index = put(&mut list, block)?;
            if index == 0 {
                break;
            }
            // an even index has a second pointer, two blocks back: every other block is read
            let mut ptrs = [0; 8];
            let len = if index.is_multiple_of(2) { 8 } else { 4 };
            self.dev.read(block, 0, &mut ptrs[..len])?;
            let ptr =
                |k: usize| u32::from_le_bytes([ptrs[k], ptrs[k + 1], ptrs[k + 2], ptrs[k + 3]]);
            block = ptr(0);
            if len == 8 {
                put(&mut list, block)?;
                block = ptr(4);
            }
        }
        list.reverse();
        Ok(list)
    }

    /// Plan to read `len` bytes at `off`, or up to the end of the file.
    pub fn read(&mut self, id: FileId, off: u64, len: usize) -> Result<ReadPlan> {
        let file = self.file(id);
        let off = off.min(u64::from(file.size)) as u32;
        let len = len.min((file.size - off) as usize);
        let mut plan =
            ReadPlan { dev: Arc::clone(&self.dev), bytes: None, list: Arc::default(), off, len };
        let range = off as usize..off as usize + len;
        match &file.body {
            Body::Detached(d) => plan.bytes = Some(d.get(range).unwrap_or_default().to_vec()),
            Body::Inline => {
                let (dir, name) = file.link.clone().ok_or(Error::NotFound)?;
                let place = self.find(dir, &name)?.ok_or(Error::NotFound)?;
                if let Data::Inline(d) = &self.entry(place)?.data {
                    plan.bytes = Some(d.get(range).unwrap_or_default().to_vec());
                }
            }
            Body::Ctz(c) => {
                let end = off + len as u32;
                if end <= c.valid && !c.dirty.overlaps(off, end) {
                    plan.list = Arc::clone(&c.list);
                } else {
                    let mut bytes = vec![0; len];
                    read_merged(&*self.dev, c, off, &mut bytes)?;
                    plan.bytes = Some(bytes);
                }
            }
        }
        Ok(plan)
    }
}

/// Fill `buf` from `off` with content as it is to become: blocks, zeros behind them, dirty ranges
/// over both.
pub(super) fn read_merged(dev: &dyn BlockDevice, c: &Ctz, off: u32, buf: &mut [u8]) -> Result<()> {
    let on_disk = (c.valid.saturating_sub(off) as usize).min(buf.len());
    let (stored, gap) = buf.split_at_mut(on_disk);
    if !stored.is_empty() {
        read_list(dev, &c.list, off, stored)?;
    }
    gap.fill(0);
    c.dirty.overlay(off, buf);
    Ok(())
}
