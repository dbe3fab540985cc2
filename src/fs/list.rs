//! Block lists of files: the addresses of a CTZ list, by index. They are read when they are needed.
//!
//! An entry names only the last block of a list, and pointers lead backwards from it (SPEC: `0x202`
//! CTZSTRUCT). So addresses are found for one chunk at a time: long pointers lead to the last block
//! of the chunk, and from there the list is followed block by block.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, OnceLock};

use crate::bd::{BlockDevice, Geometry};
use crate::disk::list::{self, AllWays, Broken, Circle, Met, Place};
use crate::disk::{BLOCK_NULL, List, ListIndex, ctz};
use crate::error::{Corrupt, Error, IoError, Result};

/// The addresses of this many bytes of a file are found at once.
const CHUNK_BYTES: u32 = 1 << 20;
/// The smallest and the largest number of blocks in a chunk.
const CHUNK_BLOCKS: (u32, u32) = (16, 1024);

/// The addresses of consecutive indices. They are filled in when the first of them is needed.
type Chunk = OnceLock<Box<[u32]>>;

/// The blocks of a CTZ list according to all of its pointers.
pub(super) struct Readings {
    /// The blocks found by the pointers from each block to the one before, the last block first.
    pub list: Vec<u32>,
    /// Other blocks to which pointers lead, if pointers disagree. A device that follows these
    /// pointers takes these blocks for blocks of the file.
    pub others: Vec<u32>,
}

/// How many pointers may be looked at for each block of the image when a list is followed whose
/// pointers disagree. This limits the time for lists whose pointers lead to very many blocks.
const LOOKS_PER_BLOCK: u64 = 8;

/// Read a whole list with all its pointers.
///
/// # Errors
/// If the list leads out of the image, has more blocks than the image, or comes back to a block; if
/// its pointers disagree in more ways than can be followed; and the errors of the device.
pub(super) fn read_all_ways(dev: &dyn BlockDevice, list: List) -> Result<Readings> {
    let g = dev.geometry();
    let mut blocks = Vec::new();
    let mut agree = true;
    let mut circle = Circle::default();
    let mut repeated = None;
    let visit = |met: Met<'_>| {
        match met {
            Met::Block(at) if circle.closes(at.block) => {
                repeated = Some(at.block);
                return ControlFlow::Break(());
            }
            Met::Block(at) => blocks.push(at.block),
            Met::Pointers { agrees, .. } => agree &= agrees,
        }
        ControlFlow::Continue(())
    };
    list::follow(g, list, reader(dev), visit).map_err(|broken| Error::of_list(list, broken))?;
    if let Some(block) = repeated {
        return Err(Corrupt::CtzLoop { head: list.head, block }.into());
    }
    let mut others = Reached::new(g.block_count);
    if !agree {
        others.add(dev, list)?;
    }
    Ok(Readings { list: blocks, others: others.blocks.into_iter().collect() })
}

/// Everything that any pointer of some lists leads to.
pub(super) struct Reached {
    /// The blocks.
    pub blocks: HashSet<u32>,
    ways: AllWays,
}

impl Reached {
    pub fn new(block_count: u32) -> Self {
        let ways = AllWays::new(LOOKS_PER_BLOCK * u64::from(block_count));
        Self { blocks: HashSet::new(), ways }
    }

    /// Add everything that a list leads to, unless it has more blocks than the image.
    ///
    /// # Errors
    /// [`Corrupt`] if the lists lead to more places than may be looked at, and the errors of the
    /// device.
    pub fn add(&mut self, dev: &dyn BlockDevice, list: List) -> Result<()> {
        let too_many = self.ways.follow(dev.geometry(), list, |at| {
            self.blocks.insert(at.block);
            list::read_pointers(at, reader(dev))
        })?;
        match too_many {
            Some(at) => Err(Corrupt::CtzLoop { head: list.head, block: at.block }.into()),
            None => Ok(()),
        }
    }
}

/// The block list of one version of a file. Versions share the chunks that they have in common at
/// their beginning.
#[derive(Debug, Default)]
pub(super) struct BlockList {
    /// How many blocks there are.
    len: u32,
    /// The address of the last block, unless the list is empty.
    head: u32,
    /// How many blocks a chunk has. The last chunk may have fewer.
    chunk_len: u32,
    chunks: Vec<Arc<Chunk>>,
}

/// How lists are read from a device.
pub(super) fn reader(
    dev: &dyn BlockDevice,
) -> impl Fn(u32, u32, &mut [u8]) -> std::result::Result<(), IoError> + '_ {
    |block, off, bytes| dev.read(block, off, bytes)
}

fn chunk_len(block_size: u32) -> u32 {
    let (least, most) = CHUNK_BLOCKS;
    // a power of two, because long pointers lead to its multiples
    1 << (CHUNK_BYTES / block_size).clamp(least, most).ilog2()
}

impl BlockList {
    /// The list that an entry names. Nothing is read yet.
    ///
    /// # Errors
    /// If the list has more blocks than the image, or its head is outside the image.
    pub fn new(g: Geometry, list: List) -> Result<Self, Corrupt> {
        let List { head, size } = list;
        let len = list.blocks(g.block_size);
        if len > g.block_count {
            return Err(Corrupt::CtzTooLong { head, size });
        }
        if len > 0 && head >= g.block_count {
            return Err(Corrupt::CtzOutOfRange { head, index: len - 1, block: head });
        }
        let chunk_len = chunk_len(g.block_size);
        let chunks = (0..len.div_ceil(chunk_len)).map(|_| Arc::default()).collect();
        Ok(Self { len, head, chunk_len, chunks })
    }

    /// How many blocks there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The chunk that has the address at `index`, and the place of the address in it.
    fn chunk_of(&self, index: ListIndex) -> (u32, usize) {
        (index.0 / self.chunk_len, (index.0 % self.chunk_len) as usize)
    }

    /// The indices of chunk `c`.
    fn span(&self, c: u32) -> Range<ListIndex> {
        let start = c * self.chunk_len;
        ListIndex(start)..ListIndex((start + self.chunk_len).min(self.len))
    }

    /// The address at `index`.
    ///
    /// # Errors
    /// [`Corrupt`] if the list is damaged or shorter, and the errors of the device.
    pub fn get(&self, dev: &dyn BlockDevice, index: ListIndex) -> Result<u32> {
        let none = Corrupt::CtzOutOfRange { head: self.head, index: index.0, block: BLOCK_NULL };
        let end = ListIndex(self.len);
        if index + 1 == end {
            return Ok(self.head);
        }
        if index >= end {
            return Err(none.into());
        }
        let (c, place) = self.chunk_of(index);
        Ok(*self.load(dev, c)?.get(place).ok_or(none)?)
    }

    /// The addresses of the indices `from..to`, or up to the end of the list.
    ///
    /// # Errors
    /// [`Corrupt`] if the list is damaged, and the errors of the device.
    pub fn addresses(
        &self,
        dev: &dyn BlockDevice,
        from: ListIndex,
        to: ListIndex,
    ) -> Result<Vec<u32>> {
        let to = to.min(ListIndex(self.len));
        let mut all = Vec::with_capacity(to.0.saturating_sub(from.0) as usize);
        let mut at = from;
        while at < to {
            let (c, place) = self.chunk_of(at);
            let (span, chunk) = (self.span(c), self.load(dev, c)?);
            let end = to.min(span.end);
            all.extend_from_slice(
                chunk.get(place..(end - span.start) as usize).unwrap_or_default(),
            );
            at = end;
        }
        Ok(all)
    }

    /// Read the addresses from index `from`, so that [`Self::known`] has them.
    ///
    /// # Errors
    /// Those of [`Self::addresses`].
    pub fn find(&self, dev: &dyn BlockDevice, from: ListIndex) -> Result<()> {
        // in reverse order, because the search for a chunk begins in the chunk after it
        for c in (from.0 / self.chunk_len.max(1)..self.chunks.len() as u32).rev() {
            self.load(dev, c)?;
        }
        Ok(())
    }

    /// Follow all pointers of the list on the device, and not only those that lead to the
    /// addresses.
    ///
    /// # Errors
    /// [`Corrupt::CtzPointers`] if pointers disagree; if the list cannot be followed to its
    /// beginning; and the errors of the device.
    pub fn check(&self, dev: &dyn BlockDevice) -> Result<()> {
        let g = dev.geometry();
        let Some(last) = ListIndex::last_of(self.len) else { return Ok(()) };
        // the smallest size with as many blocks
        let size = ctz::start(g.block_size, last) as u32 + 1;
        let list = List { head: self.head, size };
        let (mut circle, mut found) = (Circle::default(), None);
        let visit = |met: Met<'_>| {
            found = match met {
                Met::Block(at) if circle.closes(at.block) => {
                    Some(Corrupt::CtzLoop { head: list.head, block: at.block })
                }
                Met::Pointers { at, agrees: false, .. } => {
                    Some(Corrupt::CtzPointers { head: list.head, index: at.index.0 })
                }
                Met::Block(_) | Met::Pointers { .. } => return ControlFlow::Continue(()),
            };
            ControlFlow::Break(())
        };
        list::follow(g, list, reader(dev), visit).map_err(|broken| self.broken(broken))?;
        found.map_or(Ok(()), |corrupt| Err(corrupt.into()))
    }

    /// The addresses from index `from` that have been read, or were written during this mount.
    pub fn known(&self, from: ListIndex) -> Vec<u32> {
        let mut all = Vec::new();
        for c in from.0 / self.chunk_len.max(1)..self.chunks.len() as u32 {
            let skip = from.0.saturating_sub(self.span(c).start.0) as usize;
            if let Some(chunk) = self.chunks[c as usize].get() {
                all.extend(chunk.iter().skip(skip));
            }
        }
        all
    }

    fn load(&self, dev: &dyn BlockDevice, c: u32) -> Result<&[u32]> {
        let chunk = &self.chunks[c as usize];
        if let Some(found) = chunk.get() {
            return Ok(found);
        }
        let span = self.span(c);
        let last = span.end - 1;
        let block = match self.chunks.get(c as usize + 1).and_then(|next| next.get()) {
            _ if span.end == ListIndex(self.len) => self.head,
            Some(next) => {
                let block = next.first().copied().unwrap_or(BLOCK_NULL);
                self.seek(dev, Place { index: span.end, block }, last)?
            }
            None => {
                let head = Place { index: ListIndex(self.len) - 1, block: self.head };
                self.seek(dev, head, last)?
            }
        };
        let len = span.end - span.start;
        if len == 1 {
            return Ok(chunk.get_or_init(|| Box::new([block])));
        }
        // usually the blocks of a file are consecutive, so its data is probably in these blocks
        dev.will_read(block.saturating_sub(len - 1), len);
        let mut found = Vec::with_capacity(len as usize);
        let (read, last) = (reader(dev), Place { index: last, block });
        list::descend(dev.geometry(), last, span.start, read, |block| found.push(block))
            .map_err(|broken| self.broken(broken))?;
        found.reverse();
        // so that the device reads the next chunk while this one is used
        dev.will_read(block.saturating_add(1), self.chunk_len.min(ListIndex(self.len) - span.end));
        Ok(chunk.get_or_init(|| found.into()))
    }

    /// The address at index `target`, found by long pointers from a block with a higher index
    /// (DESIGN: CTZ skip-lists).
    fn seek(&self, dev: &dyn BlockDevice, from: Place, target: ListIndex) -> Result<u32> {
        list::seek(dev.geometry(), from, target, reader(dev)).map_err(|broken| self.broken(broken))
    }

    fn broken(&self, broken: Broken<IoError>) -> Error {
        // the size is not known here, but only the error for a list that is too long needs it
        Error::of_list(List { head: self.head, size: 0 }, broken)
    }

    /// A list of the first `len` blocks. The address of the last of these blocks must have been
    /// read.
    pub fn shortened(&self, len: u32) -> Self {
        let head = ListIndex::last_of(len).and_then(|last| {
            let (c, place) = self.chunk_of(last);
            self.chunks.get(c as usize)?.get()?.get(place).copied()
        });
        let Some(head) = head else {
            return Self {
                len: 0,
                head: BLOCK_NULL,
                chunk_len: self.chunk_len,
                chunks: Vec::new(),
            };
        };
        let mut chunks = self.chunks[..len.div_ceil(self.chunk_len) as usize].to_vec();
        let rest = (len % self.chunk_len) as usize;
        if let Some(last) = chunks.last_mut().filter(|_| rest > 0) {
            *last = Arc::new(match last.get().and_then(|found| found.get(..rest)) {
                Some(found) => OnceLock::from(Box::from(found)),
                None => OnceLock::new(),
            });
        }
        Self { len, head, chunk_len: self.chunk_len, chunks }
    }
}

/// A new version of a list, which is being written.
pub(super) struct Growing {
    old: Arc<BlockList>,
    chunk_len: u32,
    /// How many blocks are in chunks that are shared with `old`.
    shared: u32,
    /// The addresses of the blocks after the shared ones.
    rest: Vec<u32>,
}

impl Growing {
    /// A list that begins with the first `len` blocks of `old`.
    ///
    /// # Errors
    /// Those of [`BlockList::addresses`].
    pub fn new(dev: &dyn BlockDevice, old: &Arc<BlockList>, len: u32) -> Result<Self> {
        let chunk_len = chunk_len(dev.geometry().block_size);
        let len = len.min(old.len());
        let shared = len - len % chunk_len;
        let rest = old.addresses(dev, ListIndex(shared), ListIndex(len))?;
        Ok(Self { old: Arc::clone(old), chunk_len, shared, rest })
    }

    /// How many blocks there are so far.
    pub fn len(&self) -> u32 {
        self.shared + self.rest.len() as u32
    }

    /// The address at `index`.
    ///
    /// # Errors
    /// Those of [`BlockList::get`].
    pub fn get(&self, dev: &dyn BlockDevice, index: ListIndex) -> Result<u32> {
        match index.0.checked_sub(self.shared) {
            None => self.old.get(dev, index),
            Some(i) => Ok(self.rest.get(i as usize).copied().unwrap_or(BLOCK_NULL)),
        }
    }

    /// The last `n` blocks. They must have been added by [`Self::push`].
    pub fn last(&self, n: usize) -> &[u32] {
        &self.rest[self.rest.len().saturating_sub(n)..]
    }

    /// Add a block.
    pub fn push(&mut self, block: u32) {
        self.rest.push(block);
    }

    /// Remove the blocks from index `from`, and return them. They must have been added by
    /// [`Self::push`].
    pub fn take_from(&mut self, from: ListIndex) -> Vec<u32> {
        let keep = from.0.saturating_sub(self.shared) as usize;
        self.rest.split_off(keep.min(self.rest.len()))
    }

    /// The complete list.
    pub fn finish(self) -> BlockList {
        let head = self.rest.last().copied().unwrap_or(BLOCK_NULL);
        let mut chunks = self.old.chunks[..(self.shared / self.chunk_len) as usize].to_vec();
        let len = self.len();
        let pieces = self.rest.chunks(self.chunk_len as usize);
        chunks.extend(pieces.map(|piece| Arc::new(OnceLock::from(Box::from(piece)))));
        BlockList { len, head, chunk_len: self.chunk_len, chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bd::RamDevice;

    const BLOCK_SIZE: u32 = 128;

    /// A device that holds a list of `len` blocks at scattered addresses, and these addresses.
    fn stored(len: u32) -> (RamDevice, Vec<u32>) {
        let count = len.next_power_of_two().max(2) * 2;
        let dev = RamDevice::new(Geometry::new(BLOCK_SIZE, count).expect("geometry"));
        let at: Vec<u32> = (0..len).map(|i| i.wrapping_mul(7919) % count).collect();
        for i in 1..len {
            for (k, to) in (0..).zip(ctz::targets(ListIndex(i))) {
                dev.prog(at[i as usize], 4 * k, &at[to.as_usize()].to_le_bytes()).expect("prog");
            }
        }
        (dev, at)
    }

    /// A list of `len` blocks, with one byte in the last block.
    fn list_of(head: u32, len: u32) -> List {
        List { head, size: ctz::start(BLOCK_SIZE, ListIndex(len - 1)) as u32 + 1 }
    }

    fn all_of(list: &BlockList, dev: &RamDevice) -> Result<Vec<u32>> {
        list.addresses(dev, ListIndex::FIRST, ListIndex(u32::MAX))
    }

    #[test]
    fn every_address_is_found_in_any_order() {
        for len in [1, 2, 3, 1023, 1024, 1025, 5000] {
            let (dev, at) = stored(len);
            let list = || {
                BlockList::new(dev.geometry(), list_of(at[len as usize - 1], len)).expect("list")
            };
            let l = list();
            for i in (0..len).step_by(997).chain([len - 1]) {
                assert_eq!(l.get(&dev, ListIndex(i)).expect("get"), at[i as usize], "{i} of {len}");
            }
            assert_eq!(all_of(&list(), &dev).expect("all"), at);
            let l = list();
            l.find(&dev, ListIndex::FIRST).expect("find");
            assert_eq!(l.known(ListIndex::FIRST), at);
            assert_eq!(l.known(ListIndex(len / 2)), at[len as usize / 2..]);
        }
    }

    #[test]
    fn new_versions_share_their_beginning() {
        let (dev, at) = stored(3000);
        let old = BlockList::new(dev.geometry(), list_of(at[2999], 3000)).expect("list");
        let old = Arc::new(old);
        let mut new = Growing::new(&dev, &old, 2500).expect("growing");
        assert_eq!((new.len(), new.get(&dev, ListIndex(7)).expect("get")), (2500, at[7]));
        (0..10).for_each(|b| new.push(b));
        assert_eq!(new.take_from(ListIndex(2505)), [5, 6, 7, 8, 9]);
        let new = new.finish();
        let all = all_of(&new, &dev).expect("all");
        assert_eq!(all[..2500], at[..2500]);
        assert_eq!(all[2500..], [0, 1, 2, 3, 4]);
        let short = new.shortened(1500);
        assert_eq!(all_of(&short, &dev).expect("all"), at[..1500]);
        assert_eq!(new.shortened(0).len(), 0);
    }

    #[test]
    fn damaged_lists_are_reported() {
        let (dev, at) = stored(600);
        dev.prog(at[599], 0, &u32::MAX.to_le_bytes()).expect("prog");
        let g = dev.geometry();
        let list = BlockList::new(g, list_of(at[599], 600)).expect("list");
        let corrupt = |r: Result<Vec<u32>>| matches!(r, Err(Error::Corrupt(_)));
        assert!(corrupt(all_of(&list, &dev)));
        dev.prog(at[10], 4, &at[12].to_le_bytes()).expect("prog");
        let list = BlockList::new(g, list_of(at[20], 21)).expect("list");
        assert!(corrupt(all_of(&list, &dev)), "a loop");
        assert!(list.check(&dev).is_err(), "a loop");
        // reading goes past this pointer, but a device may follow it
        let (dev, at) = stored(600);
        dev.prog(at[500], 4, &at[3].to_le_bytes()).expect("prog");
        let list = BlockList::new(g, list_of(at[599], 600)).expect("list");
        // the next pointer to the same block is in block 499
        let disagree = Corrupt::CtzPointers { head: at[599], index: 499 };
        assert!(matches!(list.check(&dev), Err(Error::Corrupt(c)) if c == disagree));
        BlockList::new(g, list_of(at[499], 500)).expect("list").check(&dev).expect("sound");
        assert!(BlockList::new(g, List { head: g.block_count, size: 1 }).is_err());
        assert!(BlockList::new(g, List { head: 0, size: u32::MAX }).is_err());
    }
}
