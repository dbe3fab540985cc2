//! Images of littlefs version 1, made here by the rules of its SPEC.md. This is independent of the
//! code under test.

use std::collections::BTreeMap;

use crate::tree::{Kind, Tree, split};

pub const FILE: u8 = 0x11;
pub const DIRECTORY: u8 = 0x22;
pub const MOVED: u8 = 0x80;
const NULL: u32 = u32::MAX;

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: u8,
    pub name: Vec<u8>,
    /// Head and size of a file, or the pair of a directory.
    pub words: [u32; 2],
    pub attrs: Vec<u8>,
}

/// A metadata pair.
#[derive(Clone, Debug)]
pub struct Pair {
    pub blocks: [u32; 2],
    pub rev: u32,
    pub entries: Vec<Entry>,
    /// Whether the directory continues in the next pair of the thread.
    pub continues: bool,
}

/// An image that is being made: its pairs in the order of the thread, with the root first.
#[derive(Clone)]
pub struct V1 {
    pub block_size: u32,
    pub block_count: u32,
    pub thread: Vec<Pair>,
    /// The pair that the superblock names.
    pub root: [u32; 2],
    /// Blocks of files.
    data: BTreeMap<u32, Vec<u8>>,
    next: u32,
}

/// CRC-32 as in the specification: polynomial 0x04c11db7, reflected, with the seed ffffffff, and
/// not inverted at the end.
pub fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

impl V1 {
    /// An empty image.
    pub fn new(block_size: u32, block_count: u32) -> Self {
        let root = Pair { blocks: [2, 3], rev: 1, entries: Vec::new(), continues: false };
        let thread = vec![root];
        Self { block_size, block_count, thread, root: [2, 3], data: BTreeMap::new(), next: 4 }
    }

    /// An image with this tree, without its attributes.
    pub fn of(block_size: u32, block_count: u32, tree: &Tree) -> Self {
        let mut image = Self::new(block_size, block_count);
        for (path, entry) in tree {
            let Some((dir, name)) = split(path) else { continue };
            let (kind, words) = match &entry.kind {
                Kind::File(bytes) => (FILE, image.list(bytes)),
                Kind::Dir => (DIRECTORY, image.directory()),
            };
            let dir = String::from_utf8(dir.into()).expect("names of tests are text");
            let at = image.last_pair(&dir);
            image.append(at, Entry { kind, name: name.into(), words, attrs: Vec::new() });
        }
        image
    }

    /// Add a directory at the end of the thread, without a name. Returns its pair.
    pub fn directory(&mut self) -> [u32; 2] {
        let blocks = self.allocate_pair();
        self.thread.push(Pair { blocks, rev: 7, entries: Vec::new(), continues: false });
        blocks
    }

    /// The number of the last pair of a directory.
    pub fn last_pair(&self, dir: &str) -> usize {
        let mut at = 0;
        if !dir.is_empty() {
            let (pair, i) = self.find(dir);
            at = self.position(self.thread[pair].entries[i].words);
        }
        while self.thread[at].continues {
            at += 1;
        }
        at
    }

    fn position(&self, blocks: [u32; 2]) -> usize {
        self.thread.iter().position(|pair| pair.blocks == blocks).expect("in the thread")
    }

    /// Put an entry into pair number `at` of the thread. If that pair is full, put it into a new
    /// pair behind it. Returns the number of the pair that has it.
    pub fn append(&mut self, at: usize, entry: Entry) -> usize {
        self.thread[at].entries.push(entry);
        if self.size(at) <= self.block_size as usize {
            return at;
        }
        let entry = self.thread[at].entries.pop().expect("just put there");
        let blocks = self.allocate_pair();
        self.thread[at].continues = true;
        let new = Pair { blocks, rev: 3, entries: vec![entry], continues: false };
        assert!(16 + 4 + new.entries[0].size() <= self.block_size as usize, "too long a name");
        self.thread.insert(at + 1, new);
        at + 1
    }

    fn size(&self, at: usize) -> usize {
        16 + 4 + self.thread[at].entries.iter().map(Entry::size).sum::<usize>()
    }

    /// A block that nothing uses.
    pub fn allocate(&mut self) -> u32 {
        let block = self.next;
        assert!(block < self.block_count, "the test needs more blocks");
        self.next += 1;
        block
    }

    /// Two unused blocks, the second one first, as the driver has them after a write.
    fn allocate_pair(&mut self) -> [u32; 2] {
        let [a, b] = [self.allocate(), self.allocate()];
        [b, a]
    }

    /// Store a list of blocks. Returns its head and its size.
    pub fn list(&mut self, bytes: &[u8]) -> [u32; 2] {
        let mut blocks: Vec<u32> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let index = blocks.len();
            let mut content = Vec::new();
            // block n has a pointer to n - 2^x for every x that divides it
            for x in (0..32).take_while(|x| index > 0 && index.is_multiple_of(1 << x)) {
                content.extend(blocks[index - (1 << x)].to_le_bytes());
            }
            let n = rest.len().min(self.block_size as usize - content.len());
            content.extend(&rest[..n]);
            rest = &rest[n..];
            let block = self.allocate();
            self.data.insert(block, content);
            blocks.push(block);
        }
        [blocks.last().copied().unwrap_or(NULL), bytes.len() as u32]
    }

    /// The pair number and the index of the entry of a path.
    pub fn find(&self, path: &str) -> (usize, usize) {
        let mut at = 0;
        let mut names = path.split('/').peekable();
        loop {
            let name = names.next().expect("a path");
            let i = loop {
                let pair = &self.thread[at];
                if let Some(i) = pair.entries.iter().position(|e| e.name == name.as_bytes()) {
                    break i;
                }
                assert!(pair.continues, "{path} is not there");
                at += 1;
            };
            if names.peek().is_none() {
                return (at, i);
            }
            at = self.position(self.thread[at].entries[i].words);
        }
    }

    /// The entry of a path.
    pub fn entry(&mut self, path: &str) -> &mut Entry {
        let (pair, i) = self.find(path);
        &mut self.thread[pair].entries[i]
    }

    /// The bytes of the newer block of a pair.
    pub fn block(&self, at: usize) -> Vec<u8> {
        let pair = &self.thread[at];
        let tail = self.thread.get(at + 1).map_or([NULL; 2], |next| next.blocks);
        let entries = pair.entries.iter().flat_map(Entry::bytes).collect();
        metadata(pair.rev, pair.continues, tail, entries)
    }

    fn superblock(&self, rev: u32) -> Vec<u8> {
        let mut entry = vec![0x2e, 20, 0, 8];
        let [a, b] = self.root;
        for word in [a, b, self.block_size, self.block_count, 0x0001_0001] {
            entry.extend(word.to_le_bytes());
        }
        entry.extend(b"littlefs");
        let tail = self.thread.first().map_or([NULL; 2], |pair| pair.blocks);
        metadata(rev, false, tail, entry)
    }

    /// The image.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0xff; (self.block_size * self.block_count) as usize];
        let mut put = |block: u32, bytes: &[u8]| {
            let start = (block * self.block_size) as usize;
            image[start..start + bytes.len()].copy_from_slice(bytes);
        };
        for (block, bytes) in &self.data {
            put(*block, bytes);
        }
        put(0, &self.superblock(3));
        put(1, &self.superblock(2));
        for (at, pair) in self.thread.iter().enumerate() {
            put(pair.blocks[0], &self.block(at));
            if pair.rev > 1 {
                // what was there before
                let older = metadata(pair.rev - 1, false, [NULL; 2], Vec::new());
                put(pair.blocks[1], &older);
            }
        }
        image
    }
}

impl Entry {
    pub fn size(&self) -> usize {
        12 + self.attrs.len() + self.name.len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, 8, self.attrs.len() as u8, self.name.len() as u8];
        bytes.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(&self.attrs);
        bytes.extend(&self.name);
        bytes
    }
}

/// A metadata block.
pub fn metadata(rev: u32, continues: bool, tail: [u32; 2], entries: Vec<u8>) -> Vec<u8> {
    let size = 20 + entries.len() as u32;
    let mut block = Vec::new();
    for word in [rev, size | u32::from(continues) << 31, tail[0], tail[1]] {
        block.extend(word.to_le_bytes());
    }
    block.extend(entries);
    block.extend(crc(&block).to_le_bytes());
    block
}

/// Correct the CRC of a metadata block, whatever the block holds.
pub fn mend(block: &mut [u8]) {
    let size = u32::from_le_bytes(block[4..8].try_into().expect("four bytes")) & 0x7fff_ffff;
    let size = size as usize;
    if (20..=block.len()).contains(&size) {
        let sum = crc(&block[..size - 4]);
        block[size - 4..size].copy_from_slice(&sum.to_le_bytes());
    }
}
