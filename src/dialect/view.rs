//! A read-only device that shows an image of another dialect as a sound littlefs with a thread.
//!
//! Metadata is encoded again and kept in memory, each pair at its blocks in the image. All other
//! blocks are numbered in ascending order. This number is the rank of a block. A value has as many
//! consecutive ranks as its list in littlefs has blocks, so the pointers of the list are known
//! without reading anything. The data of the list is read from the blocks of the image when it is
//! needed. The blocks of the image may have another size than the blocks of the view.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Lists as ListFormat;
use super::tree::{Content, Dir, Entry, Tree};
use crate::bd::{BLOCK_COUNT_MAX, BlockDevice, Geometry, IoResult, check_range, read_each};
use crate::check::{Recorder, Severity, show};
use crate::disk::commit::{CRC_SIZE, Commit, Layout};
use crate::disk::superblock::MAGIC;
use crate::disk::{GState, List, ListIndex, Pair, Part, Superblock, Tail, ctz};
use crate::error::{Error, IoError, IoOp, Result, Suspicion, Unsupported};
use crate::mdir::{self, Attr, COUNT_MAX, Data, Kind, Mdir, Select};

/// How many bytes of a pair its entries cannot use: revision, tail and CRC.
const OVERHEAD: u32 = 4 + 12 + CRC_SIZE;
/// The revision count of all pairs.
const REVISION: u32 = 1;
/// The head of a list that cannot be read. No image has a block of this number.
const NOWHERE: u32 = BLOCK_COUNT_MAX;
/// How many block numbers of lists are kept in memory. A single list may have more.
const LISTS_MAX: usize = 4 << 20;

/// Where the bytes of a value are.
enum Source {
    /// In a list of blocks in the image.
    List { head: u32, size: u32 },
    /// In memory. In the image, the value is inline, but in littlefs it is too large for that.
    Memory(Vec<u8>),
}

/// The blocks of a value.
struct Run {
    /// The rank of its first block.
    rank: u64,
    /// How many blocks it has.
    len: u32,
    source: Source,
}

/// The lists that were read so far, by the index of their run.
#[derive(Default)]
struct Lists {
    known: HashMap<usize, Arc<Vec<u32>>>,
    /// How many block numbers they have together.
    len: usize,
}

/// A littlefs that shows an image of another dialect.
pub struct View {
    source: Arc<dyn BlockDevice>,
    geometry: Geometry,
    /// The commits, by the numbers of their blocks.
    commits: HashMap<u32, Vec<u8>>,
    /// The blocks of pairs, in ascending order. They have no rank.
    pairs: Vec<u32>,
    /// The runs, in ascending order of their ranks.
    runs: Vec<Run>,
    lists: Mutex<Lists>,
    format: &'static dyn ListFormat,
    suspect: Option<Suspicion>,
}

impl View {
    /// The first directory to which other entries may belong than those that are shown.
    pub fn suspect(&self) -> Option<&Suspicion> {
        self.suspect.as_ref()
    }

    /// Show the image on `source`, which holds `tree`. The version and the limits of the view are
    /// those of `superblock`.
    ///
    /// # Errors
    /// If the content does not fit into any littlefs.
    pub(crate) fn new(
        source: Arc<dyn BlockDevice>,
        superblock: Superblock,
        tree: Tree,
        recorder: &mut Recorder,
    ) -> Result<Self> {
        Builder::new(source, &tree, recorder).build(tree, superblock)
    }

    /// The rank of a block; `None` if the block belongs to a pair.
    fn rank(&self, block: u32) -> Option<u64> {
        match self.pairs.binary_search(&block) {
            Ok(_) => None,
            Err(before) => Some(u64::from(block) - before as u64),
        }
    }

    /// The index of the run to which this rank belongs.
    fn run_at(&self, rank: u64) -> Option<usize> {
        let after = self.runs.partition_point(|run| run.rank <= rank);
        let i = after.checked_sub(1)?;
        let run = self.runs.get(i)?;
        (rank - run.rank < u64::from(run.len)).then_some(i)
    }

    /// Fill `buf` with the bytes from offset `off` of one block.
    fn read_block(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        buf.fill(0xff);
        if let Some(commit) = self.commits.get(&block) {
            copy(commit, off, buf);
            return Ok(());
        }
        let found = self.rank(block).and_then(|rank| Some((rank, self.run_at(rank)?)));
        let Some((rank, i)) = found else { return Ok(()) };
        let Some(run) = self.runs.get(i) else { return Ok(()) };
        let index = ListIndex((rank - run.rank) as u32);
        let block_size = self.geometry.block_size;
        let header = ctz::data_offset(index);
        if off < header {
            let pointers: Vec<u8> = ctz::targets(index)
                .map(|target| run.rank + u64::from(target.0))
                .flat_map(|rank| block_of(&self.pairs, rank).to_le_bytes())
                .collect();
            copy(&pointers, off, buf);
        }
        let skipped = (header.saturating_sub(off) as usize).min(buf.len());
        let at = off.max(header) - header;
        let pos = ctz::start(block_size, index) + u64::from(at);
        self.read_data(i, run, pos, &mut buf[skipped..])
    }

    /// Fill `buf` with the bytes of a value from position `pos`, as far as there are any.
    fn read_data(&self, i: usize, run: &Run, pos: u64, buf: &mut [u8]) -> IoResult<()> {
        let (head, size) = match &run.source {
            Source::Memory(data) => {
                copy(data, u32::try_from(pos).unwrap_or(u32::MAX), buf);
                return Ok(());
            }
            Source::List { head, size } => (*head, *size),
        };
        let wanted = u64::from(size).saturating_sub(pos).min(buf.len() as u64);
        let buf = &mut buf[..wanted as usize];
        if buf.is_empty() {
            return Ok(());
        }
        let blocks = self.list(i, head, size)?;
        let block_size = self.source.geometry().block_size;
        let mut done = 0;
        while done < buf.len() {
            let pos = pos + done as u64;
            let (index, off) = self.format.locate(block_size, pos as u32);
            let n = (buf.len() - done).min((block_size - off) as usize);
            let Some(&block) = blocks.get(index.as_usize()) else { break };
            self.source.read(block, off, &mut buf[done..done + n])?;
            done += n;
        }
        Ok(())
    }

    /// The blocks of the image that hold the data of run `i`.
    fn list(&self, i: usize, head: u32, size: u32) -> IoResult<Arc<Vec<u32>>> {
        if let Some(list) = self.lists.lock().known.get(&i) {
            return Ok(Arc::clone(list));
        }
        let list = self.format.load(&*self.source, head, size).map_err(|e| match e {
            Error::Io(e) => e,
            e => {
                let source = io::Error::new(ErrorKind::InvalidData, e.to_string());
                IoError { op: IoOp::Read, block: Some(head), source }
            }
        })?;
        let list = Arc::new(list);
        let mut lists = self.lists.lock();
        if lists.len + list.len() > LISTS_MAX {
            *lists = Lists::default();
        }
        if lists.known.insert(i, Arc::clone(&list)).is_none() {
            lists.len += list.len();
        }
        Ok(list)
    }

    fn refuse(op: IoOp, block: Option<u32>) -> IoError {
        IoError { op, block, source: ErrorKind::ReadOnlyFilesystem.into() }
    }
}

/// Copy the bytes of `from` from offset `off` to the start of `to`, as many as fit.
fn copy(from: &[u8], off: u32, to: &mut [u8]) {
    let rest = from.get(off as usize..).unwrap_or_default();
    let n = rest.len().min(to.len());
    to[..n].copy_from_slice(&rest[..n]);
}

/// The block with this rank. `pairs` are the blocks without a rank, in ascending order.
fn block_of(pairs: &[u32], rank: u64) -> u32 {
    // the number of blocks with a rank below pairs[i] is pairs[i] - i
    let (mut low, mut high) = (0, pairs.len());
    while low < high {
        let middle = low.midpoint(high);
        if u64::from(pairs[middle]) - middle as u64 <= rank {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    u32::try_from(rank + low as u64).unwrap_or(NOWHERE)
}

impl BlockDevice for View {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let g = self.geometry;
        check_range(g, IoOp::Read, block, off, buf.len())?;
        let (mut block, mut off, mut rest) = (block + off / g.block_size, off % g.block_size, buf);
        while !rest.is_empty() {
            let n = rest.len().min((g.block_size - off) as usize);
            let (part, more) = rest.split_at_mut(n);
            self.read_block(block, off, part)?;
            (block, off, rest) = (block + 1, 0, more);
        }
        Ok(())
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        // a list that is not known yet must be read from storage first
        if now {
            return Ok(false);
        }
        read_each(self, block, off, parts)?;
        Ok(true)
    }

    fn prog(&self, block: u32, _off: u32, _data: &[u8]) -> IoResult<()> {
        Err(Self::refuse(IoOp::Prog, Some(block)))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        Err(Self::refuse(IoOp::Erase, Some(block)))
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}

/// Builds a view.
struct Builder<'a> {
    recorder: &'a mut Recorder,
    source: Arc<dyn BlockDevice>,
    pairs: Vec<u32>,
    runs: Vec<Run>,
    /// The next rank that is free.
    rank: u64,
    /// How many ranks values may use: twice the number of blocks. Only values that claim a wrong
    /// size, or share blocks, could need so many.
    rank_max: u64,
    layout: Layout,
}

/// A pair of the view: its blocks, the first of which is the active one, and its entries.
struct Laid {
    pair: Pair,
    mdir: Mdir,
    /// Whether it belongs to the same directory as the pair before it.
    continues: bool,
}

impl<'a> Builder<'a> {
    fn new(source: Arc<dyn BlockDevice>, tree: &Tree, recorder: &'a mut Recorder) -> Self {
        let g = source.geometry();
        let lost = tree.dirs.iter().flat_map(|d| &d.entries).filter_map(|e| match e.content {
            Content::Lost(pair) => Some(pair),
            _ => None,
        });
        let held = tree.dirs.iter().flat_map(|d| d.pairs.iter().copied());
        let mut pairs: Vec<u32> =
            held.chain(lost).flat_map(|pair| pair.0).filter(|&b| b < g.block_count).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let Tree { block_size, prog_size, .. } = *tree;
        let layout = Layout { block_size, prog_size, fcrc: false };
        let rank_max = 2 * u64::from(g.block_count);
        Self { recorder, source, pairs, runs: Vec::new(), rank: 0, rank_max, layout }
    }

    fn build(mut self, tree: Tree, superblock: Superblock) -> Result<View> {
        let g = self.source.geometry();
        let heads: Vec<Option<Pair>> = tree.dirs.iter().map(|d| d.pairs.first().copied()).collect();
        let (format, suspect) = (tree.lists, tree.suspect());
        let mut name_max = superblock.name_max;
        let mut laid = Vec::new();
        for (i, dir) in tree.dirs.into_iter().enumerate().filter(|(_, d)| !d.pairs.is_empty()) {
            let longest = dir.entries.iter().map(|e| e.name.len()).max().unwrap_or(0);
            name_max = name_max.max(longest as u32);
            self.lay_out(dir, i == 0, &heads, &mut laid);
        }
        let last = block_of(&self.pairs, self.rank.max(1) - 1).saturating_add(1);
        let block_count = g.block_count.max(last);
        let geometry = Geometry::new(self.layout.block_size, block_count)?;
        let Geometry { block_size, .. } = geometry;
        let superblock = Superblock { block_size, block_count, name_max, ..superblock };
        let root = mdir::Entry::new(
            MAGIC,
            Kind::Superblock,
            Data::Inline(Part::from(&superblock.to_bytes()[..])),
        );
        if let Some(first) = laid.first_mut() {
            first.mdir.insert(0, root);
        }
        let mut commits = HashMap::with_capacity(laid.len());
        for (i, at) in laid.iter().enumerate() {
            let tail = match laid.get(i + 1) {
                Some(next) => Tail { pair: next.pair, hard: next.continues },
                None => Tail::END,
            };
            commits.insert(at.pair.0[0], self.encode(&at.mdir, tail)?.bytes);
        }
        let Self { source, pairs, runs, .. } = self;
        let lists = Mutex::default();
        Ok(View { source, geometry, commits, pairs, runs, lists, format, suspect })
    }

    fn encode(&self, mdir: &Mdir, tail: Tail) -> Result<Commit> {
        let none = GState::default();
        mdir.encode_compact(self.layout, REVISION, &Select::ALL, tail, none).map_err(|_| {
            Unsupported::Geometry("no room for an entry in a metadata block".to_owned()).into()
        })
    }

    /// Distribute the entries of a directory over pairs: first its own pairs, then additional ones.
    fn lay_out(&mut self, dir: Dir, is_root: bool, heads: &[Option<Pair>], laid: &mut Vec<Laid>) {
        let room = self.layout.block_size - OVERHEAD;
        let mut own = dir.pairs.into_iter();
        let mut at = Laid {
            pair: own.next().unwrap_or(Pair::NULL),
            mdir: Mdir::default(),
            continues: false,
        };
        // leave room for the superblock, which is inserted last
        let mut left =
            if is_root { room - 4 * 2 - (MAGIC.len() + Superblock::SIZE) as u32 } else { room };
        for entry in dir.entries {
            let Some(entry) = self.translate(entry, room, heads) else { continue };
            let size = entry.size_on_disk();
            if size > left || at.mdir.entries.len() + 2 > COUNT_MAX {
                let pair = own.next().unwrap_or_else(|| self.new_pair());
                let next = Laid { pair, mdir: Mdir::default(), continues: true };
                laid.push(std::mem::replace(&mut at, next));
                left = room;
            }
            left = left.saturating_sub(size);
            at.mdir.insert(at.mdir.entries.len(), entry);
        }
        laid.push(at);
    }

    fn new_pair(&mut self) -> Pair {
        self.rank += 2;
        Pair([2, 1].map(|back| block_of(&self.pairs, self.rank - back)))
    }

    /// The entry in the form of littlefs. `None` if it does not fit into `room` bytes in any way.
    fn translate(
        &mut self,
        entry: Entry,
        room: u32,
        heads: &[Option<Pair>],
    ) -> Option<mdir::Entry> {
        let (kind, data) = match entry.content {
            Content::Inline(data) => (Kind::File, Data::Inline(data.into())),
            Content::List { head, size } => {
                (Kind::File, self.value(size, Source::List { head, size }))
            }
            Content::Dir(i) => match heads.get(i as usize) {
                Some(&Some(pair)) => (Kind::Dir, Data::Dir { pair, dir: None }),
                _ => (Kind::Dir, Data::Missing),
            },
            Content::Lost(pair) => (Kind::Dir, Data::Dir { pair, dir: None }),
            Content::Nothing => (Kind::File, Data::Missing),
        };
        let mut new = mdir::Entry::new(&entry.name, kind, data);
        let attr = |(ty, data): (u8, Box<[u8]>)| Attr { ty, data: Some(data.into()), dirty: false };
        new.attrs = entry.attrs.into_iter().map(attr).collect::<Vec<_>>().into();
        if new.size_on_disk() > room
            && let Data::Inline(data) = &mut new.data
        {
            let data = std::mem::take(data).into_vec();
            new.data = self.value(data.len() as u32, Source::Memory(data));
        }
        if new.size_on_disk() > room {
            let place = show(&new.name);
            let what = "its name and attributes are too long for a metadata block of littlefs";
            self.recorder.add(Severity::Error, "entry-too-large", place, what);
            return None;
        }
        Some(new)
    }

    /// A list for a value, with new ranks. If there are not enough ranks, its head is `NOWHERE`.
    fn value(&mut self, size: u32, source: Source) -> Data {
        if size == 0 {
            return Data::Inline(Part::default());
        }
        let len = ctz::blocks(self.layout.block_size, size);
        let count = self.source.geometry().block_count;
        if len > count || self.rank + u64::from(len) > self.rank_max {
            return Data::Ctz(List { head: NOWHERE, size });
        }
        self.runs.push(Run { rank: self.rank, len, source });
        self.rank += u64::from(len);
        Data::Ctz(List { head: block_of(&self.pairs, self.rank - 1), size })
    }
}
