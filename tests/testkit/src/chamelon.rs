//! Images like those of chamelon 0.2.1, made here by the rules in docs/chamelon.md, and one that
//! chamelon wrote itself. This is independent of the code under test.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The types of tags.
const VALUE: u16 = 0x001;
const DICTIONARY: u16 = 0x002;
const SUPERBLOCK: u16 = 0x0ff;
const DIRSTRUCT: u16 = 0x200;
const INLINE: u16 = 0x201;
const CTZ: u16 = 0x202;
const TIME: u16 = 0x374;
const DELETE: u16 = 0x4ff;
const CRC: u32 = 0x500;
const HARDTAIL: u16 = 0x601;
const NO_ID: u16 = 0x3ff;

/// An entry of a commit: id, type and data.
type Entry = (u16, u16, Vec<u8>);
/// The blocks of a metadata pair.
type Pair = (u32, u32);

/// A pair as chamelon reads it.
#[derive(Clone, Default)]
struct Log {
    rev: u32,
    commits: Vec<Vec<Entry>>,
    hardtail: Option<Pair>,
}

/// An image, and what chamelon knows about it.
#[derive(Clone)]
pub struct Chamelon {
    pub image: Vec<u8>,
    pub block_size: usize,
    pub block_count: u32,
    prog_size: usize,
    logs: HashMap<Pair, Log>,
    used: HashSet<u32>,
    cursor: u32,
    next: VecDeque<u32>,
    /// The time of the next change, in milliseconds since 1970.
    pub now: u64,
}

const ROOT: Pair = (0, 1);

impl Chamelon {
    /// An empty image.
    pub fn format(block_size: usize, block_count: u32, prog_size: usize) -> Self {
        let mut c = Self {
            image: vec![0; block_size * block_count as usize],
            block_size,
            block_count,
            prog_size,
            logs: HashMap::new(),
            used: HashSet::from([0, 1]),
            cursor: 2,
            next: VecDeque::new(),
            now: 1_700_000_000_000,
        };
        let words = [0x2_0000, block_size as u32, block_count, 32, 0x7fff_ffff, 1022];
        let superblock: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        let entries = vec![(0, SUPERBLOCK, b"littlefs".to_vec()), (0, INLINE, superblock)];
        for rev in [1, 2] {
            let log = Log { rev, commits: vec![entries.clone()], hardtail: None };
            let (bytes, _) = c.serialise(&log);
            c.put(rev - 1, &bytes);
            c.logs.insert(ROOT, log);
        }
        c
    }

    fn put(&mut self, block: u32, bytes: &[u8]) {
        let at = block as usize * self.block_size;
        self.image[at..at + self.block_size].fill(0);
        self.image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Take the lowest block after the last one that counts as free.
    fn allocate(&mut self) -> u32 {
        if let Some(block) = self.next.pop_front() {
            self.used.insert(block);
            return block;
        }
        let blocks = (self.cursor..self.block_count).chain(2..self.cursor);
        let block = blocks.into_iter().find(|b| !self.used.contains(b)).expect("a free block");
        self.used.insert(block);
        self.cursor = block + 1;
        block
    }

    /// Take these blocks next, in this order.
    pub fn take_next(&mut self, blocks: impl IntoIterator<Item = u32>) {
        self.next.extend(blocks);
    }

    /// Do what chamelon does when it starts: forget the first block of every list.
    pub fn restart(&mut self) {
        self.used = HashSet::from([0, 1]);
        self.cursor = 2;
        let mut todo = vec![ROOT];
        while let Some(pair) = todo.pop() {
            self.used.extend([pair.0, pair.1]);
            let log = self.logs[&pair].clone();
            todo.extend(log.hardtail);
            for (_, ty, data) in compact(&log.commits) {
                match ty {
                    DIRSTRUCT => todo.push(words(&data)),
                    CTZ => {
                        let (mut block, size) = words(&data);
                        for _ in 1..self.blocks(size as usize) {
                            self.used.insert(block);
                            block = word(&self.image, block as usize * self.block_size);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The bytes of the log of a pair, and the pair as it is read back.
    fn serialise(&self, log: &Log) -> (Vec<u8>, Log) {
        let mut out = log.rev.to_le_bytes().to_vec();
        let (mut last, mut start) = (0xffff_ffff_u32, 0);
        let mut read = Log { rev: log.rev, ..Log::default() };
        let mut stopped = false;
        let own = log.commits.iter().map(|c| (without_tail(c), false));
        let tail = log.hardtail.map(|pair| (vec![(NO_ID, HARDTAIL, pair_bytes(pair))], true));
        for (entries, is_tail) in own.chain(tail) {
            for (id, ty, data) in &entries {
                // the length is cut to the bits it has: chamelon's own mistake
                let tag = tag(u32::from(*ty), *id, data.len());
                out.extend((tag ^ last).to_be_bytes());
                out.extend(data);
                last = tag;
            }
            // the tail's entry is not counted, so its commit ends off the program size
            let end = if is_tail { 8 } else { out.len() + 8 };
            let padding = end.next_multiple_of(self.prog_size) - end;
            let crc_tag = tag(CRC + u32::from(is_tail), NO_ID, 4 + padding);
            out.extend((crc_tag ^ last).to_be_bytes());
            let sum = crc32(&out[start..]);
            out.extend(sum.to_le_bytes());
            out.resize(out.len() + padding, 0xff);
            (last, start) = (crc_tag, out.len());
            stopped |= entries.is_empty();
            if !stopped {
                let found = entries.iter().find(|e| e.1 == HARDTAIL);
                read.hardtail = read.hardtail.or(found.map(|e| words(&e.2)));
                read.commits.push(entries);
            }
        }
        (out, read)
    }

    /// Add a commit to a pair, compacting and splitting as chamelon does.
    fn commit(&mut self, pair: Pair, entries: Vec<Entry>) {
        let mut log = self.logs[&pair].clone();
        log.rev += 1;
        log.commits.push(entries);
        let (mut bytes, mut read) = self.serialise(&log);
        if bytes.len() > self.block_size / 2 {
            let compacted = compact(&log.commits);
            log = Log { rev: log.rev + 1, commits: vec![compacted], hardtail: None };
            (bytes, read) = self.serialise(&log);
        }
        if bytes.len() > self.block_size / 2 {
            // the program takes blocks from the front of a list: the second comes first
            let (b, a) = (self.allocate(), self.allocate());
            self.new_pair((a, b));
            log.hardtail = Some((a, b));
            (bytes, read) = self.serialise(&log);
            assert!(bytes.len() <= self.block_size, "chamelon could not write this");
        }
        self.put(pair.0, &bytes);
        self.put(pair.1, &bytes);
        self.logs.insert(pair, read);
    }

    fn new_pair(&mut self, pair: Pair) {
        let (bytes, _) = self.serialise(&Log { rev: 1, commits: vec![vec![]], hardtail: None });
        self.put(pair.0, &bytes);
        self.put(pair.1, &bytes);
        self.logs.insert(pair, Log { rev: 1, ..Log::default() });
    }

    /// The pairs of a directory.
    fn chain(&self, head: Pair) -> Vec<Pair> {
        let mut chain = vec![head];
        while let Some(next) = self.logs[&chain[chain.len() - 1]].hardtail {
            chain.push(next);
        }
        chain
    }

    /// The pairs and ids with this name.
    fn find(&self, head: Pair, name: &str) -> Vec<(Pair, u16)> {
        let of_pair = |pair: &Pair| {
            let entries = compact(&self.logs[pair].commits);
            let named = |e: &&Entry| matches!(e.1, VALUE | DICTIONARY) && e.2 == name.as_bytes();
            entries.iter().rfind(named).map(|e| (*pair, e.0))
        };
        self.chain(head).iter().filter_map(of_pair).collect()
    }

    fn next_id(&self, pairs: &[Pair]) -> u16 {
        let ids = pairs.iter().flat_map(|p| self.logs[p].commits.iter().flatten()).map(|e| e.0);
        ids.filter(|&id| id < NO_ID).max().map_or(1, |id| id + 1)
    }

    /// The dictionary at `path`, which is created if it does not exist.
    pub fn mkdir(&mut self, path: &str) -> Pair {
        let mut head = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = self.find(head, name).last().copied();
            let dir = found.and_then(|(pair, id)| {
                let entries = compact(&self.logs[&pair].commits);
                entries.iter().find(|e| e.0 == id && e.1 == DIRSTRUCT).map(|e| words(&e.2))
            });
            head = dir.unwrap_or_else(|| {
                let last = *self.chain(head).last().expect("one pair");
                let (b, a) = (self.allocate(), self.allocate());
                self.new_pair((a, b));
                let id = self.next_id(&[last]);
                let name = (id, DICTIONARY, name.as_bytes().to_vec());
                self.commit(last, vec![name, (id, DIRSTRUCT, pair_bytes((a, b)))]);
                (a, b)
            });
        }
        head
    }

    /// Store a value.
    pub fn set(&mut self, path: &str, data: &[u8]) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let head = self.mkdir(dir);
        self.now += 1;
        let found = self.find(head, name);
        if found.is_empty() {
            self.set_from(head, name, data, vec![]);
        }
        for (pair, id) in found {
            self.set_from(pair, name, data, vec![(id, DELETE, vec![])]);
        }
    }

    /// Store a value in the last pair of a chain.
    fn set_from(&mut self, first: Pair, name: &str, data: &[u8], mut entries: Vec<Entry>) {
        let chain = self.chain(first);
        let id = self.next_id(&chain);
        let (days, millis) = (self.now / 86_400_000, self.now % 86_400_000);
        let picos = (millis * 1_000_000_000).to_le_bytes();
        let time = [&(days as u32).to_le_bytes()[..], &picos[..]].concat();
        let name = (id, VALUE, name.as_bytes().to_vec());
        let time = (id, TIME, time);
        if data.len() > self.block_size / 4 {
            let head = self.write_list(data);
            entries.extend([name, time, (id, CTZ, pair_bytes((head, data.len() as u32)))]);
        } else {
            entries.extend([time, name, (id, INLINE, data.to_vec())]);
        }
        self.commit(*chain.last().expect("one pair"), entries);
    }

    /// How many blocks the list of a value of `size` bytes has.
    fn blocks(&self, size: usize) -> usize {
        let mut left = size;
        for index in 0.. {
            let room = self.block_size - 4 * pointers(index);
            if left <= room {
                return index + 1;
            }
            left -= room;
        }
        unreachable!()
    }

    fn write_list(&mut self, data: &[u8]) -> u32 {
        let blocks: Vec<u32> = (0..self.blocks(data.len())).map(|_| self.allocate()).collect();
        let mut rest = data;
        for (index, &block) in blocks.iter().enumerate() {
            let targets = (0..pointers(index)).map(|k| if k == 0 { index - 1 } else { index >> k });
            let mut bytes: Vec<u8> = targets.flat_map(|i| blocks[i].to_le_bytes()).collect();
            let n = rest.len().min(self.block_size - bytes.len());
            bytes.extend(&rest[..n]);
            rest = &rest[n..];
            self.put(block, &bytes);
        }
        *blocks.last().expect("one block")
    }

    /// Remove a value or a dictionary.
    pub fn remove(&mut self, path: &str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let head = self.mkdir(dir);
        let (pair, id) = *self.find(head, name).first().expect("there");
        self.commit(pair, vec![(id, DELETE, vec![])]);
    }

    /// Make a dictionary of any pair.
    pub fn link(&mut self, dir: &str, name: &str, pair: Pair) {
        self.forge(dir, DICTIONARY, name, DIRSTRUCT, pair);
    }

    /// Make a value of any list.
    pub fn point(&mut self, dir: &str, name: &str, head: u32, size: u32) {
        self.forge(dir, VALUE, name, CTZ, (head, size));
    }

    fn forge(&mut self, dir: &str, kind: u16, name: &str, ty: u16, words: Pair) {
        let head = self.mkdir(dir);
        let pair = *self.chain(head).last().expect("one pair");
        let id = self.next_id(&[pair]);
        let name = (id, kind, name.as_bytes().to_vec());
        self.commit(pair, vec![name, (id, ty, pair_bytes(words))]);
    }

    /// The names that chamelon lists in the directory at `path`.
    pub fn names(&mut self, path: &str) -> BTreeSet<String> {
        let pairs = self.pairs(path);
        let entries = pairs.iter().flat_map(|pair| compact(&self.logs[pair].commits));
        let names = entries.filter(|e| matches!(e.1, VALUE | DICTIONARY));
        names.map(|e| String::from_utf8(e.2).expect("UTF-8")).collect()
    }

    /// The pairs of the directory at `path`.
    pub fn pairs(&mut self, path: &str) -> Vec<Pair> {
        let head = self.mkdir(path);
        self.chain(head)
    }
}

/// The last entry of each id and type, including deletions, as chamelon keeps them.
fn compact(commits: &[Vec<Entry>]) -> Vec<Entry> {
    let mut map: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
    for (id, ty, data) in commits.iter().flatten() {
        if *ty == DELETE {
            map.retain(|(other, _), _| other != id);
        }
        map.insert((*id, *ty), data.clone());
    }
    map.into_iter().map(|((id, ty), data)| (id, ty, data)).collect()
}

fn without_tail(commit: &[Entry]) -> Vec<Entry> {
    commit.iter().filter(|e| e.1 != HARDTAIL).cloned().collect()
}

/// How many pointers block `index` of a list has.
fn pointers(index: usize) -> usize {
    match index {
        0 => 0,
        1 => 1,
        i if i & (i - 1) == 0 => i.trailing_zeros() as usize,
        _ => 1,
    }
}

fn tag(ty: u32, id: u16, len: usize) -> u32 {
    ty << 20 | u32::from(id) << 10 | (len as u32 & 0x3ff)
}

fn pair_bytes((a, b): Pair) -> Vec<u8> {
    [a.to_le_bytes(), b.to_le_bytes()].concat()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn words(bytes: &[u8]) -> Pair {
    (word(bytes, 0), word(bytes, 4))
}

/// CRC-32, reflected, with the polynomial 0x04c11db7, a seed of ones, and not inverted.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xffff_ffff, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// An image that chamelon 0.2.1 wrote: blocks of 4096 bytes, 128 of them.
pub fn written() -> Vec<u8> {
    let file = directory().join("written-4096x128.img.gz");
    let out = Command::new("gzip").args(["-d", "-c"]).arg(file).output().expect("gzip");
    assert!(out.status.success() && out.stdout.len() == 4096 * 128);
    out.stdout
}

/// Path, size and SHA-1 of every value in it, as chamelon reads it.
pub fn manifest() -> BTreeMap<String, (u64, String)> {
    let text = fs::read(directory().join("written-4096x128.json")).expect("the manifest");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let all = json.as_object().expect("an object").iter();
    let value = |v: &serde_json::Value| {
        let sum = v["sha1"].as_str().expect("a sum").to_owned();
        (v["size"].as_u64().expect("a size"), sum)
    };
    all.map(|(path, v)| (path.trim_start_matches('/').to_owned(), value(v))).collect()
}

/// The SHA-1 of `bytes`.
pub fn sha1(bytes: &[u8]) -> String {
    use std::io::Write;
    let pipe = || Stdio::piped();
    let mut child = Command::new("sha1sum").stdin(pipe()).stdout(pipe()).spawn().expect("sha1sum");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("written");
    let out = child.wait_with_output().expect("sha1sum");
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().expect("a sum").to_owned()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chamelon")
}
