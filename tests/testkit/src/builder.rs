//! Images made of raw bytes: everything that the format can express, whether it makes sense or not.

use littlefs::bd::Geometry;
use littlefs::disk::commit::{Layout, Writer};
use littlefs::disk::superblock::{MAGIC, VERSION_2_1};
use littlefs::disk::{GState, ListIndex, Pair, Superblock, Tail, ctz, tag};

/// Bytes per block.
pub const BLOCK: u32 = 512;
/// The number of blocks. Together, they have 64 KiB.
pub const COUNT: u32 = 128;
/// The root, which is also the only superblock.
pub const ROOT: Pair = Pair([0, 1]);

/// An image that is being made. The blocks from 2 on can be used.
#[derive(Clone)]
pub struct Builder {
    pub geometry: Geometry,
    pub bytes: Vec<u8>,
}

/// A tail that leads to a pair of another directory.
pub fn soft(pair: [u32; 2]) -> Tail {
    Tail { pair: Pair(pair), hard: false }
}

/// A tail that leads to the next pair of the same directory.
pub fn hard(pair: [u32; 2]) -> Tail {
    Tail { pair: Pair(pair), hard: true }
}

/// A superblock that fits the geometry.
pub fn superblock(g: Geometry) -> Superblock {
    Superblock {
        version: VERSION_2_1,
        block_size: g.block_size,
        block_count: g.block_count,
        name_max: 255,
        file_max: 0x7fff_ffff,
        attr_max: 1022,
    }
}

/// The entry with which every root and superblock pair starts.
pub fn put_superblock(w: &mut Writer, sb: Superblock) {
    w.tag(tag::SUPERBLOCK, 0, MAGIC);
    w.tag(tag::INLINESTRUCT, 0, &sb.to_bytes());
}

/// A file with its content in its entry.
pub fn put_inline(w: &mut Writer, id: u16, name: &[u8], content: &[u8]) {
    w.tag(tag::REG, id, name);
    w.tag(tag::INLINESTRUCT, id, content);
}

/// A file with its content in blocks.
pub fn put_ctz(w: &mut Writer, id: u16, name: &[u8], head: u32, size: u32) {
    w.tag(tag::REG, id, name);
    w.tag(tag::CTZSTRUCT, id, &Pair([head, size]).to_bytes());
}

/// A directory.
pub fn put_dir(w: &mut Writer, id: u16, name: &[u8], pair: [u32; 2]) {
    w.tag(tag::DIR, id, name);
    w.tag(tag::DIRSTRUCT, id, &Pair(pair).to_bytes());
}

impl Builder {
    /// An erased image of the usual geometry.
    pub fn new() -> Self {
        Self::with_geometry(BLOCK, COUNT)
    }

    /// An erased image.
    pub fn with_geometry(block_size: u32, block_count: u32) -> Self {
        let geometry = Geometry::new(block_size, block_count).expect("a possible geometry");
        Self { geometry, bytes: vec![0xff; geometry.size() as usize] }
    }

    pub fn layout(&self) -> Layout {
        Layout { block_size: self.geometry.block_size, prog_size: 16, fcrc: true }
    }

    pub fn block_mut(&mut self, block: u32) -> &mut [u8] {
        let bs = self.geometry.block_size as usize;
        &mut self.bytes[block as usize * bs..][..bs]
    }

    /// Write one commit to the first block of a pair. The second block stays erased, unless the
    /// pair is the root: like every driver, this writes the superblock into both blocks.
    pub fn pair(&mut self, pair: [u32; 2], content: impl Fn(&mut Writer)) -> &mut Self {
        self.half(pair[0], 1, &content);
        if pair == ROOT.0 {
            self.half(pair[1], 0, &content);
        }
        self
    }

    fn half(&mut self, block: u32, revision: u32, content: impl Fn(&mut Writer)) {
        let mut w = Writer::compact(self.layout(), revision);
        content(&mut w);
        let commit = w.finish().expect("fits");
        self.block_mut(block)[..commit.bytes.len()].copy_from_slice(&commit.bytes);
    }

    /// Write the root: a superblock, the entries that `content` adds from id 1, and a tail.
    pub fn root(&mut self, tail: Tail, content: impl Fn(&mut Writer)) -> &mut Self {
        let sb = superblock(self.geometry);
        self.pair(ROOT.0, |w| {
            put_superblock(w, sb);
            content(w);
            w.tail(tail);
        })
    }

    /// Write the pair of a directory with a file `file` and a tail.
    pub fn small_dir(&mut self, pair: [u32; 2], tail: Tail) -> &mut Self {
        self.pair(pair, |w| {
            put_inline(w, 0, b"file", b"content");
            w.tail(tail);
        })
    }

    /// Fill the blocks of a CTZ list, in the order of the list: each gets its pointers and data.
    pub fn list(&mut self, blocks: &[u32]) -> &mut Self {
        for (i, &block) in blocks.iter().enumerate() {
            let n = ctz::pointers(ListIndex(i as u32)) as usize;
            let bytes = self.block_mut(block);
            bytes.fill(i as u8);
            for k in 0..n {
                bytes[4 * k..4 * k + 4].copy_from_slice(&blocks[i - (1 << k)].to_le_bytes());
            }
        }
        self
    }

    /// Let block `block` of a list point to `to`.
    pub fn point(&mut self, block: u32, to: u32) -> &mut Self {
        self.block_mut(block)[..4].copy_from_slice(&to.to_le_bytes());
        self
    }

    /// The size in bytes of a file that fills `blocks` blocks.
    pub fn size_of(&self, blocks: u32) -> u32 {
        let end = ListIndex(blocks);
        ctz::start(self.geometry.block_size, end) as u32 - ctz::data_offset(end)
    }
}

/// The global state for a pending move of entry `id` of `pair`.
pub fn moving(pair: [u32; 2], id: u16) -> GState {
    GState::default().with_move(Some((Pair(pair), id)))
}
