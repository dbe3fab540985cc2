//! Changing images below the filesystem, with commits and blocks that no driver would write.

use littlefs::disk::commit::{Layout, Writer};
use littlefs::disk::log::{Log, Parsed, RawEntry, parse};
use littlefs::disk::{GState, Pair, Superblock, Tail, rev_newer, tag};

use crate::clfs::{Config, V2_1};

/// An image that is being changed.
pub struct Surgeon {
    config: Config,
    pub image: Vec<u8>,
}

impl Surgeon {
    pub fn new(config: &Config, image: Vec<u8>) -> Self {
        Self { config: config.clone(), image }
    }

    fn layout(&self) -> Layout {
        let Config { block_size, prog_size, disk_version, .. } = self.config;
        Layout { block_size, prog_size, fcrc: disk_version >= V2_1 }
    }

    /// The bytes of a block.
    pub fn block(&mut self, block: u32) -> &mut [u8] {
        let size = self.config.block_size as usize;
        &mut self.image[block as usize * size..][..size]
    }

    /// The log in a block; `None` if no commit is valid.
    pub fn log(&self, block: u32) -> Option<Log> {
        let size = self.config.block_size as usize;
        let bytes = self.image.get(block as usize * size..)?.get(..size)?;
        match parse(bytes, size) {
            Parsed::Log(log) => Some(*log),
            _ => None,
        }
    }

    /// The pair with its active block first, and the content of that block.
    pub fn fetch(&self, pair: Pair) -> (Pair, Log) {
        let [a, b] = pair.0;
        match (self.log(a), self.log(b)) {
            (Some(x), Some(y)) if rev_newer(y.rev, x.rev) => (Pair([b, a]), y),
            (Some(x), _) => (pair, x),
            (None, Some(y)) => (Pair([b, a]), y),
            (None, None) => panic!("no valid commit in {pair}"),
        }
    }

    /// Append a commit to a pair.
    pub fn commit(&mut self, pair: Pair, build: impl FnOnce(&mut Writer)) {
        let (pair, log) = self.fetch(pair);
        let mut writer = Writer::append(self.layout(), log.off, log.etag);
        build(&mut writer);
        let commit = writer.finish().expect("room for a commit");
        self.block(pair.0[0])[commit.start as usize..][..commit.bytes.len()]
            .copy_from_slice(&commit.bytes);
    }

    /// Compact this content into the other block of a pair, with the next revision. Returns that
    /// block.
    pub fn rewrite(&mut self, pair: Pair, log: &Log) -> u32 {
        let (pair, old) = self.fetch(pair);
        let mut writer = Writer::compact(self.layout(), old.rev.wrapping_add(1));
        for (id, entry) in log.entries.iter().enumerate() {
            encode(&mut writer, id as u16, entry);
        }
        if let Some(tail) = log.tail {
            writer.tail(tail);
        }
        if !log.gdelta.is_zero() {
            writer.gdelta(log.gdelta);
        }
        let commit = writer.finish().expect("room for the pair");
        let erased = self.config.erased;
        let block = self.block(pair.0[1]);
        block.fill(erased);
        block[..commit.bytes.len()].copy_from_slice(&commit.bytes);
        pair.0[1]
    }

    /// Write an empty pair to blocks where there was none.
    pub fn write_new(&mut self, pair: Pair, tail: Tail) {
        let mut writer = Writer::compact(self.layout(), 1);
        writer.tail(tail);
        let commit = writer.finish().expect("room for a tail");
        let erased = self.config.erased;
        for block in pair.0 {
            self.block(block).fill(erased);
        }
        self.block(pair.0[0])[..commit.bytes.len()].copy_from_slice(&commit.bytes);
    }

    /// Give both blocks of a pair the content that they have in another image.
    pub fn restore(&mut self, pair: Pair, from: &Self) {
        let size = self.config.block_size as usize;
        for block in pair.0 {
            let at = block as usize * size;
            self.image[at..at + size].copy_from_slice(&from.image[at..at + size]);
        }
    }

    /// All pairs along the thread, each with its active block first.
    pub fn thread(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let mut next = Pair::SUPERBLOCK;
        while !next.is_null() {
            let (pair, log) = self.fetch(next);
            pairs.push(pair);
            next = log.tail.unwrap_or(Tail::END).pair;
        }
        pairs
    }

    /// The sum of the deltas of all pairs in the thread.
    pub fn gstate(&self) -> GState {
        self.thread()
            .into_iter()
            .fold(GState::default(), |sum, pair| sum.xor(self.fetch(pair).1.gdelta))
    }

    /// The pairs of a directory, beginning with its first one.
    pub fn pairs_of(&self, head: Pair) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let mut next = head;
        loop {
            let (pair, log) = self.fetch(next);
            pairs.push(pair);
            match log.tail {
                Some(tail) if tail.hard && !tail.pair.is_null() => next = tail.pair,
                _ => return pairs,
            }
        }
    }

    /// The first pair of the root, which is the last pair with a superblock.
    pub fn root(&self) -> Pair {
        let chain = self.pairs_of(Pair::SUPERBLOCK);
        let is_root = |pair: &&Pair| Superblock::of(&self.fetch(**pair).1).is_some();
        *chain.iter().rfind(is_root).expect("a superblock")
    }

    /// The pair and the id of an entry.
    pub fn find(&self, path: &str) -> (Pair, u16, RawEntry) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        for pair in self.pairs_of(self.dir(parent)) {
            let entries = self.fetch(pair).1.entries;
            if let Some(id) = entries.iter().position(|e| *e.name == *name.as_bytes()) {
                return (pair, id as u16, entries[id].clone());
            }
        }
        panic!("{path} is not in the image");
    }

    /// The first pair of a directory.
    pub fn dir(&self, path: &str) -> Pair {
        if path.is_empty() {
            return self.root();
        }
        match self.find(path).2.data {
            Some((tag::DIRSTRUCT, data)) => Pair::from_bytes(&data).expect("a pair"),
            other => panic!("{path} is no directory: {other:?}"),
        }
    }

    /// Let the thread pass over all pairs of a directory.
    pub fn unthread(&mut self, path: &str) {
        let pairs = self.pairs_of(self.dir(path));
        let (first, last) = (pairs[0], pairs[pairs.len() - 1]);
        for pair in &pairs {
            assert!(self.fetch(*pair).1.gdelta.is_zero(), "the global state must stay whole");
        }
        let tail = self.fetch(last).1.tail.unwrap_or(Tail::END);
        let thread = self.thread();
        let at = thread.iter().position(|pair| pair.same(first)).expect("in the thread");
        let mut log = self.fetch(thread[at - 1]).1;
        log.tail = Some(tail);
        self.rewrite(thread[at - 1], &log);
    }
}

fn encode(writer: &mut Writer, id: u16, entry: &RawEntry) {
    if let Some(ty) = entry.name_type {
        writer.tag(ty, id, &entry.name);
    }
    if let Some((ty, data)) = &entry.data {
        writer.tag(*ty, id, data);
    }
    for (ty, data) in &entry.attrs {
        writer.tag(tag::USERATTR + u16::from(*ty), id, data);
    }
}
