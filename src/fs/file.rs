//! Open files: the content as it is in memory, over the content as it is on disk.

use std::io::IoSliceMut;
use std::sync::Arc;

use super::dir::Place;
use super::list::BlockList;
use super::open_files::{Body, Ctz, File};
use super::{DirId, FileId, Fs};
use crate::bd::{BlockDevice, Geometry, IoResult};
use crate::disk::{BLOCK_NULL, List, ListIndex, ctz};
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{Data, Entry, Kind};

/// How many consecutive blocks are read at once. A system call accepts no more than 1024 parts.
const RUN_BLOCKS_MAX: usize = 64;
/// The most bytes that the pointers of a block can take: 4 for each bit of the index.
const POINTERS_SIZE_MAX: usize = 4 * 32;

/// A read of file data, which is done without the lock of the filesystem.
pub struct ReadPlan {
    dev: Arc<dyn BlockDevice>,
    /// The bytes, if they are known already.
    bytes: Option<Vec<u8>>,
    list: Arc<BlockList>,
    off: u32,
    len: usize,
}

impl ReadPlan {
    /// How many bytes [`Self::run`] returns.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the read begins at or after the end of the file.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Read into new memory.
    ///
    /// # Errors
    /// Those of [`Self::run_into`].
    pub fn run(self) -> Result<Vec<u8>> {
        let mut buf = vec![0; self.len];
        self.run_into(&mut buf, || ())?;
        Ok(buf)
    }

    /// Read into the first [`Self::len`] bytes of `buf`. `will_wait` is called before the read has
    /// to wait for storage.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the block list is damaged, and the errors of the device.
    pub fn run_into(self, buf: &mut [u8], will_wait: impl FnOnce()) -> Result<()> {
        let buf = &mut buf[..self.len];
        if let Some(bytes) = self.bytes {
            buf.copy_from_slice(&bytes);
            return Ok(());
        }
        let mut will_wait = Some(will_wait);
        let dev = &*self.dev;
        let mut read = |block, at, parts: &mut [IoSliceMut<'_>]| {
            if dev.read_parts(block, at, parts, true)? {
                return Ok(());
            }
            if let Some(call) = will_wait.take() {
                call();
            }
            read_all(dev, block, at, parts)
        };
        let (first, end) = span(dev, self.off, buf.len());
        let blocks = self.list.addresses(dev, first, end)?;
        read_runs(dev.geometry(), &mut read, &blocks, self.off, buf)
    }
}

/// Fill `buf` from byte `off` of a file. `list` has the addresses of its blocks, by index.
pub(crate) fn read_list(
    dev: &dyn BlockDevice,
    list: &[u32],
    off: u32,
    buf: &mut [u8],
) -> Result<()> {
    let (first, end) = span(dev, off, buf.len());
    let blocks = list.get(first.as_usize()..end.as_usize()).unwrap_or_default();
    read_runs(dev.geometry(), &mut |b, at, parts| read_all(dev, b, at, parts), blocks, off, buf)
}

fn read_all(
    dev: &dyn BlockDevice,
    block: u32,
    at: u32,
    parts: &mut [IoSliceMut<'_>],
) -> IoResult<()> {
    dev.read_parts(block, at, parts, false).map(|_| ())
}

/// The indices of the blocks that hold `len` bytes from byte `off` of a file.
fn span(dev: &dyn BlockDevice, off: u32, len: usize) -> (ListIndex, ListIndex) {
    let bs = dev.geometry().block_size;
    let end = match (len as u32).checked_sub(1) {
        Some(last) => ctz::locate(bs, off + last).0 + 1,
        None => ListIndex::FIRST,
    };
    (ctz::locate(bs, off).0.min(end), end)
}

/// Reads from a block, at an offset, into several buffers, one after the other.
type Read<'a> = dyn FnMut(u32, u32, &mut [IoSliceMut<'_>]) -> IoResult<()> + 'a;

/// Fill `buf` from byte `off` of a file with calls of `read`. `blocks` are the blocks that hold
/// these bytes. Blocks with consecutive addresses are read in one call.
fn read_runs(
    g: Geometry,
    read: &mut Read<'_>,
    blocks: &[u32],
    off: u32,
    buf: &mut [u8],
) -> Result<()> {
    let bs = g.block_size;
    let (first, mut at) = ctz::locate(bs, off);
    let mut rest = buf;
    // the pointers of a block lie between the data of the block before it and its own data
    let mut pointers = [[0; POINTERS_SIZE_MAX]; RUN_BLOCKS_MAX];
    let mut k = 0;
    while k < blocks.len() {
        // as many blocks as are consecutive both on the device and in the file
        let most = RUN_BLOCKS_MAX.min(blocks.len() - k);
        let count = (1..most).take_while(|&j| blocks[k + j] == blocks[k] + j as u32).count() + 1;
        let mut parts = Vec::with_capacity(2 * count);
        let mut room = bs - at;
        for (j, gap) in pointers.iter_mut().take(count).enumerate() {
            if j > 0 {
                let len = ctz::data_offset(first + (k + j) as u32);
                parts.push(IoSliceMut::new(&mut gap[..len as usize]));
                room = bs - len;
            }
            let (here, behind) = rest.split_at_mut((room as usize).min(rest.len()));
            parts.push(IoSliceMut::new(here));
            rest = behind;
        }
        read(blocks[k], at, &mut parts)?;
        k += count;
        at = ctz::data_offset(first + k as u32);
    }
    if rest.is_empty() {
        return Ok(());
    }
    let index = (first + blocks.len() as u32).0;
    Err(Corrupt::CtzOutOfRange { head: BLOCK_NULL, index, block: BLOCK_NULL }.into())
}

impl Fs {
    /// Open the file `name` in `dir`. If it is open already, this returns the same object.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, [`Error::IsDirectory`] if it is a directory,
    /// and [`Error::Corrupt`] if it is damaged.
    pub fn open_file(&mut self, dir: DirId, name: &[u8]) -> Result<FileId> {
        let _running = self.run();
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let blocks = self.pair(place.pair).blocks;
        let e = self.entry(place)?;
        if e.kind != Kind::File {
            return Err(Error::IsDirectory);
        }
        if let Some(file) = e.file {
            self.files.update(file, |f| f.opens += 1);
            return Ok(file);
        }
        let (size, body) = match e.data {
            Data::Inline(ref d) => (d.len() as u32, Body::Inline),
            Data::Ctz(stored) => {
                let list = Arc::new(BlockList::new(self.durable.dev().geometry(), stored)?);
                let shared = list.len();
                let durable = Arc::clone(&list);
                let ctz = Ctz { list, valid: stored.size, durable, shared, ..Ctz::default() };
                (stored.size, Body::Ctz(ctz))
            }
            _ => return Err(e.bad_struct(blocks, place.at as u16).into()),
        };
        let id = self.files.insert(File::new((dir, name.into()), size, body));
        self.files.update(id, |f| f.opens = 1);
        // this does not change the entry on disk, so the pair stays clean
        self.mdir(place.pair)?.update(place.at, |e| e.file = Some(id));
        Ok(id)
    }

    /// Close the file once. The last close of an unlinked file frees its blocks. Closing a file
    /// that was closed already has no effect.
    pub fn close_file(&mut self, id: FileId) {
        let _running = self.run();
        if self.files.close(id) {
            self.forget_file(id);
        }
    }

    /// Forget a file object that is neither open nor changed.
    pub(super) fn forget_file(&mut self, id: FileId) {
        let Some(file) = self.files.remove(id) else { return };
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
                    self.space.shrink_promise(ctz.reserved, 0);
                    self.space.retire_lists(ctz.list, ctz.durable, ctz.shared);
                }
            }
        }
    }

    /// The open file with this id.
    ///
    /// # Errors
    /// [`Error::Closed`] if it is not open.
    pub(super) fn opened(&self, id: FileId) -> Result<&File> {
        self.files.opened(id)
    }

    /// The file with this id, which the caller knows to exist.
    pub(super) fn file(&self, id: FileId) -> &File {
        self.files.get(id)
    }

    /// The size of an open file in bytes.
    ///
    /// # Errors
    /// [`Error::Closed`] if it was closed.
    pub fn file_size(&self, id: FileId) -> Result<u32> {
        Ok(self.opened(id)?.size)
    }

    /// Check the block list of an open file as it is on disk: all of its pointers must agree. The
    /// content has no checksums, so it is not checked.
    ///
    /// # Errors
    /// [`Error::Closed`] if the file was closed, [`Corrupt`] if the list is damaged, and the errors
    /// of the device.
    pub fn check_file(&self, id: FileId) -> Result<()> {
        match &self.opened(id)?.body {
            Body::Ctz(ctz) => ctz.durable.check(self.durable.dev()),
            Body::Inline | Body::Detached(_) => Ok(()),
        }
    }

    /// Note that the entry of an open file has a new name.
    pub(super) fn relink_file(&mut self, id: FileId, dir: DirId, name: &[u8]) {
        self.files.update(id, |f| f.link = Some((dir, name.into())));
    }

    /// Release the content of the removed entry `e`: retire its blocks, or let the open file keep
    /// it.
    pub(super) fn release(&mut self, e: Entry) {
        self.release_content(e.data, e.file);
    }

    /// Like [`Self::release`], for the content that an entry had before it was replaced.
    pub(super) fn release_content(&mut self, data: Data, file: Option<FileId>) {
        let Some(id) = file else {
            if let Data::Ctz(list) = data
                && list.head != BLOCK_NULL
            {
                self.space.retire_stored(list);
            }
            return;
        };
        self.files.mark_clean(id);
        // the file has lost its name, so none of its changes can be taken back any more
        self.files.take_saved(id);
        let opens = self.files.update(id, |file| {
            file.link = None;
            if let (Body::Inline, Data::Inline(d)) = (&file.body, data) {
                file.body = Body::Detached(d.into_vec());
            }
            file.opens
        });
        if opens == 0 {
            self.forget_file(id);
        }
    }

    /// The whole content of a CTZ list on disk, which an entry names.
    pub(super) fn read_stored(&self, stored: List) -> Result<Vec<u8>> {
        let list = Arc::new(BlockList::new(self.durable.dev().geometry(), stored)?);
        let len = stored.size as usize;
        ReadPlan { dev: self.durable.share(), bytes: None, list, off: 0, len }.run()
    }

    /// Whether a file is open and still has a name.
    pub fn is_linked(&self, id: FileId) -> bool {
        self.opened(id).is_ok_and(|file| file.link.is_some())
    }

    /// The path of an open file from the root, as long as it has a name. Components are separated
    /// by single slashes.
    pub fn file_path(&self, id: FileId) -> Option<Vec<u8>> {
        let (dir, name) = self.opened(id).ok()?.link.as_ref()?;
        let mut path = self.dir_path(*dir);
        path.extend_from_slice(name);
        Some(path)
    }

    /// The path of a directory from the root, with a slash after each component. It is empty for a
    /// directory that does not exist any more.
    pub fn dir_path(&self, dir: DirId) -> Vec<u8> {
        self.dirs.path(dir)
    }

    /// The addresses of the blocks of a CTZ list, by index, as reads find them.
    pub(crate) fn load_list(&self, stored: List) -> Result<Vec<u32>> {
        let list = BlockList::new(self.durable.dev().geometry(), stored)?;
        list.addresses(self.durable.dev(), ListIndex::FIRST, ListIndex(list.len()))
    }

    /// Plan to read `len` bytes at offset `off`, or up to the end of the file.
    ///
    /// # Errors
    /// [`Error::Closed`] if the file was closed, and if its content cannot be read.
    pub fn read(&mut self, id: FileId, off: u64, len: usize) -> Result<ReadPlan> {
        let _running = self.run();
        self.opened(id)?;
        self.plan_read(id, off, len)
    }

    /// Like [`Self::read`], for a file that may have been closed and is kept because it was
    /// changed.
    pub(super) fn plan_read(&mut self, id: FileId, off: u64, len: usize) -> Result<ReadPlan> {
        let file = self.file(id);
        let off = off.min(u64::from(file.size)) as u32;
        let len = len.min((file.size - off) as usize);
        let mut plan =
            ReadPlan { dev: self.durable.share(), bytes: None, list: Arc::default(), off, len };
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
                    read_merged(self.durable.dev(), c, off, &mut bytes)?;
                    plan.bytes = Some(bytes);
                }
            }
        }
        Ok(plan)
    }
}

/// Fill `buf` from `off` with the content as it is in memory: the blocks, zeros after them, and
/// over both the dirty ranges.
pub(super) fn read_merged(dev: &dyn BlockDevice, c: &Ctz, off: u32, buf: &mut [u8]) -> Result<()> {
    let on_disk = (c.valid.saturating_sub(off) as usize).min(buf.len());
    let (stored, gap) = buf.split_at_mut(on_disk);
    if !stored.is_empty() {
        let (first, end) = span(dev, off, stored.len());
        let blocks = c.list.addresses(dev, first, end)?;
        let mut read = |block, at, parts: &mut [IoSliceMut<'_>]| read_all(dev, block, at, parts);
        read_runs(dev.geometry(), &mut read, &blocks, off, stored)?;
    }
    gap.fill(0);
    c.dirty.overlay(off, buf);
    Ok(())
}
