//! What can be recovered from images of version 1. They are made by a small driver of version 1
//! that keeps every version of every file, and commits, allocates and renames as SPEC.md and the
//! driver 1.7.2 do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use littlefs::bd::{Geometry, RamDevice};
use littlefs::disk::{ListIndex, ctz};
use littlefs::image::Dialect;
use littlefs::recover::{Grade, Recovery, recover_from};

use testkit::random::Random;
use testkit::v1::{DIRECTORY, Entry, FILE, MOVED, V1, metadata};

const NULL: u32 = u32::MAX;

/// A directory of one pair. The block that counts is first.
#[derive(Clone)]
struct Dir {
    pair: [u32; 2],
    rev: u32,
    tail: [u32; 2],
    entries: Vec<Entry>,
}

/// A filesystem, and everything that it has ever held.
struct Driver {
    image: Vec<u8>,
    block_size: usize,
    /// In the order of the thread, with the root first.
    dirs: Vec<(String, Dir)>,
    /// Where the allocator searches next.
    next: u32,
    random: Random,
    versions: HashMap<String, HashSet<Vec<u8>>>,
}

impl Driver {
    fn new(block_size: u32, block_count: u32, seed: u64) -> Self {
        let image = V1::new(block_size, block_count).image();
        let root = Dir { pair: [2, 3], rev: 1, tail: [NULL; 2], entries: Vec::new() };
        Self {
            image,
            block_size: block_size as usize,
            dirs: vec![(String::new(), root)],
            next: 4,
            random: Random(seed),
            versions: HashMap::new(),
        }
    }

    fn block_count(&self) -> u32 {
        (self.image.len() / self.block_size) as u32
    }

    fn word(&self, block: u32, at: usize) -> u32 {
        let at = block as usize * self.block_size + at;
        u32::from_le_bytes(self.image[at..at + 4].try_into().expect("four bytes"))
    }

    fn put(&mut self, block: u32, bytes: &[u8]) {
        let at = block as usize * self.block_size;
        self.image[at..at + self.block_size].fill(0xff);
        self.image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn list(&self, words: [u32; 2]) -> Vec<u32> {
        let count = ctz::blocks(self.block_size as u32, words[1]);
        let mut blocks = Vec::new();
        let mut block = words[0];
        for index in (0..count).rev() {
            blocks.push(block);
            if index > 0 {
                block = self.word(block, 0);
            }
        }
        blocks.reverse();
        blocks
    }

    fn used(&self) -> BTreeSet<u32> {
        let mut used = BTreeSet::from([0, 1]);
        for (_, dir) in &self.dirs {
            used.extend(dir.pair);
            for entry in dir.entries.iter().filter(|entry| entry.kind & !MOVED == FILE) {
                used.extend(self.list(entry.words));
            }
        }
        used
    }

    /// This many free blocks, in the order of the allocator. `None` if there are not so many.
    fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        let (used, all) = (self.used(), self.block_count());
        let order = (0..all).map(|i| (self.next + i) % all).filter(|block| !used.contains(block));
        let blocks: Vec<u32> = order.take(count).collect();
        if let Some(last) = blocks.last() {
            self.next = (last + 1) % all;
        }
        (blocks.len() == count).then_some(blocks)
    }

    /// Write the content from block `kept.len()` of its list to free blocks. Returns head and size.
    fn write_list(&mut self, kept: &[u32], bytes: &[u8]) -> Option<[u32; 2]> {
        let size = bytes.len() as u32;
        let count = ctz::blocks(self.block_size as u32, size) as usize;
        let new = self.allocate(count - kept.len())?;
        let blocks = [kept, &new[..]].concat();
        for index in kept.len()..count {
            let mut block = Vec::new();
            for x in (0..32).take_while(|x| index > 0 && index.is_multiple_of(1 << x)) {
                block.extend(blocks[index - (1 << x)].to_le_bytes());
            }
            let start = ctz::start(self.block_size as u32, ListIndex(index as u32)) as usize;
            let n = (bytes.len() - start).min(self.block_size - block.len());
            block.extend(&bytes[start..start + n]);
            self.put(blocks[index], &block);
        }
        Some([blocks.last().copied().unwrap_or(NULL), size])
    }

    fn commit(&mut self, at: usize) {
        let dir = &mut self.dirs[at].1;
        dir.pair.reverse();
        dir.rev = dir.rev.wrapping_add(1);
        let (block, rev, tail) = (dir.pair[0], dir.rev, dir.tail);
        let entries = dir.entries.iter().flat_map(Entry::bytes).collect();
        self.put(block, &metadata(rev, false, tail, entries));
    }

    fn fits(&self, at: usize, name: &str) -> bool {
        let used: usize = self.dirs[at].1.entries.iter().map(Entry::size).sum();
        20 + used + 12 + name.len() <= self.block_size
    }

    fn note(&mut self, path: &str, bytes: &[u8]) {
        self.versions.entry(path.to_owned()).or_default().insert(bytes.to_vec());
    }

    fn path(&self, at: usize, name: &str) -> String {
        match &*self.dirs[at].0 {
            "" => name.to_owned(),
            dir => format!("{dir}/{name}"),
        }
    }

    fn position(&self, at: usize, name: &str) -> Option<usize> {
        self.dirs[at].1.entries.iter().position(|entry| entry.name == name.as_bytes())
    }

    fn read(&self, words: [u32; 2]) -> Vec<u8> {
        let mut content = Vec::new();
        for (index, block) in self.list(words).into_iter().enumerate() {
            let at = block as usize * self.block_size;
            let from = at + ctz::data_offset(ListIndex(index as u32)) as usize;
            content.extend_from_slice(&self.image[from..at + self.block_size]);
        }
        content.truncate(words[1] as usize);
        content
    }

    /// Create or overwrite a file. The blocks for the first `keep` bytes of its old content stay.
    fn write(&mut self, at: usize, name: &str, bytes: &[u8], kept: &[u32]) {
        let path = self.path(at, name);
        if self.position(at, name).is_none() {
            if !self.fits(at, name) {
                return;
            }
            let entry =
                Entry { kind: FILE, name: name.into(), words: [NULL, 0], attrs: Vec::new() };
            self.dirs[at].1.entries.push(entry);
            self.commit(at);
            self.note(&path, b"");
        }
        let Some(words) = self.write_list(kept, bytes) else { return };
        // without power in between nobody knows of it
        if self.random.below(12) == 0 {
            return;
        }
        let i = self.position(at, name).expect("made");
        self.dirs[at].1.entries[i].words = words;
        self.commit(at);
        self.note(&path, bytes);
    }

    fn append(&mut self, at: usize, i: usize, more: &[u8]) {
        let entry = self.dirs[at].1.entries[i].clone();
        let blocks = self.list(entry.words);
        let mut content = self.read(entry.words);
        let size = content.len() as u32;
        content.extend(more);
        // the last block is copied unless it is full
        let whole = ctz::start(self.block_size as u32, ListIndex(blocks.len() as u32));
        let kept =
            if u64::from(size) == whole { blocks.len() } else { blocks.len().saturating_sub(1) };
        let name = String::from_utf8(entry.name).expect("text");
        self.write(at, &name, &content, &blocks[..kept]);
    }

    fn rename(&mut self, at: usize, i: usize, to: usize, name: &str) {
        if self.position(to, name).is_some() || !self.fits(to, name) {
            return;
        }
        let content = self.read(self.dirs[at].1.entries[i].words);
        let path = self.path(to, name);
        if at == to {
            self.dirs[at].1.entries[i].name = name.into();
            self.commit(at);
        } else {
            self.dirs[at].1.entries[i].kind |= MOVED;
            self.commit(at);
            let mut entry = self.dirs[at].1.entries[i].clone();
            (entry.kind, entry.name) = (FILE, name.into());
            self.dirs[to].1.entries.push(entry);
            self.commit(to);
            self.dirs[at].1.entries.remove(i);
            self.commit(at);
        }
        self.note(&path, &content);
    }

    fn mkdir(&mut self, name: &str) {
        if self.position(0, name).is_some() || !self.fits(0, name) {
            return;
        }
        let Some(blocks) = self.allocate(2) else { return };
        let rev = self.word(blocks[0], 0).wrapping_add(1);
        let tail = self.dirs[0].1.tail;
        let dir = Dir { pair: [blocks[0], blocks[1]], rev, tail, entries: Vec::new() };
        self.dirs.insert(1, (name.to_owned(), dir));
        self.commit(1);
        let pair = self.dirs[1].1.pair;
        let root = &mut self.dirs[0].1;
        root.tail = pair;
        let entry = Entry { kind: DIRECTORY, name: name.into(), words: pair, attrs: Vec::new() };
        root.entries.push(entry);
        self.commit(0);
    }

    fn rmdir(&mut self, at: usize) {
        if !self.dirs[at].1.entries.is_empty() {
            return;
        }
        let (name, dir) = self.dirs[at].clone();
        let i = self.position(0, &name).expect("it has a name");
        self.dirs[0].1.entries.remove(i);
        self.commit(0);
        self.dirs.remove(at);
        self.dirs[at - 1].1.tail = dir.tail;
        self.commit(at - 1);
    }

    /// Do one more operation.
    fn step(&mut self, dirs: usize, same_size: bool) {
        let at = self.random.below(self.dirs.len());
        let files: Vec<usize> = (0..self.dirs[at].1.entries.len())
            .filter(|&i| self.dirs[at].1.entries[i].kind == FILE)
            .collect();
        let file = files.get(self.random.below(files.len())).copied();
        let size = match self.random.below(4) {
            _ if same_size => 2 * self.block_size + self.block_size / 2,
            0 => self.random.below(20),
            _ => self.random.below(4 * self.block_size),
        };
        let seed = self.random.below(256);
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 + seed + i / 255) as u8).collect();
        match self.random.below(12) {
            0..5 => {
                let name = format!("f{}", self.random.below(4));
                self.write(at, &name, &bytes, &[]);
            }
            5..7 => {
                if let Some(i) = file {
                    self.dirs[at].1.entries.remove(i);
                    self.commit(at);
                }
            }
            7 | 8 => {
                if let Some(i) = file {
                    self.append(at, i, &bytes[..size / 2]);
                }
            }
            9 => {
                if let Some(i) = file {
                    let to = self.random.below(self.dirs.len());
                    let name = format!("f{}", self.random.below(4));
                    self.rename(at, i, to, &name);
                }
            }
            10 if dirs > 0 => {
                let name = format!("d{}", self.random.below(dirs));
                self.mkdir(&name);
            }
            11 if at > 0 => self.rmdir(at),
            _ => self.next = self.random.below(self.block_count() as usize) as u32,
        }
    }

    fn recover(&self, image: Vec<u8>) -> (Recovery, RamDevice) {
        let geometry = Geometry::new(self.block_size as u32, self.block_count()).expect("possible");
        let device = RamDevice::from_image(geometry, image);
        (recover_from(&device, Dialect::V1, &|_| ()).expect("readable"), device)
    }

    /// What is wrong with what is found in an image of this history, and how many results are
    /// certain.
    fn faults(&self, image: Vec<u8>) -> (Vec<String>, usize) {
        let (recovery, device) = self.recover(image);
        let mut faults = Vec::new();
        let sure = recovery.files.iter().filter(|file| file.grade != Grade::Partial);
        for file in sure.clone() {
            let path = String::from_utf8(file.path.clone().expect("a path")).expect("text");
            let bytes = file.content(&device).expect("readable");
            let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
            let had = match file.placed {
                true => self.versions.get(&path).is_some_and(|v| v.contains(&bytes)),
                false => {
                    self.versions.iter().any(|(p, v)| name(p) == name(&path) && v.contains(&bytes))
                }
            };
            if !had {
                faults.push(format!("{path}, {}: {:?}", file.grade, file.origin));
            }
        }
        (faults, sure.filter(|file| file.grade == Grade::Complete).count())
    }
}

#[test]
fn nothing_wrong_is_called_checked_or_complete() {
    let rounds: u64 = std::env::var("RECOVER_ROUNDS").map_or(40, |n| n.parse().expect("a number"));
    let (mut faults, mut complete) = (Vec::new(), BTreeMap::new());
    for (shape, (block_size, count, dirs, same_size)) in
        [(128, 60, 0, false), (128, 48, 0, true), (256, 64, 2, false), (512, 40, 1, true)]
            .into_iter()
            .enumerate()
    {
        for seed in 0..rounds {
            let mut driver = Driver::new(block_size, count, 7 * seed + shape as u64);
            for step in 0..60 {
                driver.step(dirs, same_size);
                let mut headless = driver.image.clone();
                headless[..2 * block_size as usize].fill(0xff);
                let kinds = [("whole", driver.image.clone()), ("headless", headless)];
                for (kind, image) in kinds {
                    let (found, sure) = driver.faults(image);
                    *complete.entry((shape, kind)).or_insert(0) += sure;
                    let when = format!("shape {shape}, {kind}, seed {seed}, step {step}");
                    faults.extend(found.into_iter().map(|fault| format!("{when}: {fault}")));
                }
            }
        }
    }
    println!("complete: {complete:?}");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let headless = complete.iter().filter(|((_, kind), _)| *kind == "headless");
    assert!({ headless }.all(|(_, &n)| n > 0), "{complete:?}");
}

#[test]
fn deleted_overwritten_and_lost_files() {
    let text =
        |seed: usize, len: usize| -> Vec<u8> { (0..len).map(|i| (i * seed) as u8).collect() };
    let mut driver = Driver::new(256, 64, 0);
    let write = |driver: &mut Driver, at: usize, name: &str, bytes: &[u8]| {
        // until power stays
        while driver.versions.get(&driver.path(at, name)).is_none_or(|v| !v.contains(bytes)) {
            driver.write(at, name, bytes, &[]);
        }
    };
    write(&mut driver, 0, "kept", &text(3, 900));
    write(&mut driver, 0, "gone", &text(5, 1000));
    let before = driver.image.clone();
    let i = driver.position(0, "gone").expect("there");
    driver.dirs[0].1.entries.remove(i);
    driver.commit(0);
    let (recovery, device) = driver.recover(driver.image.clone());
    assert!(recovery.has_filesystem);
    let gone: Vec<_> = recovery.files.iter().filter(|f| f.path.is_some()).collect();
    assert_eq!(gone.len(), 1, "{gone:#?}");
    // a write of which nobody knows may have hit its blocks
    assert_eq!((gone[0].path.as_deref(), gone[0].grade), (Some(&b"gone"[..]), Grade::Partial));
    assert!(gone[0].missing.is_empty(), "{gone:#?}");
    assert!(gone[0].content(&device).expect("readable") == text(5, 1000), "not its content");
    assert_eq!(gone[0].origin.as_ref().map(|o| (o.commit, o.state)), Some((1, 0)));

    // what a longer file went on with never was free
    let full = text(11, 256);
    write(&mut driver, 0, "log", &full);
    let i = driver.position(0, "log").expect("there");
    while driver.dirs[0].1.entries[i].words[1] == 256 {
        driver.append(0, i, b"more");
    }
    let (recovery, device) = driver.recover(driver.image.clone());
    let log = recovery.files.iter().find(|f| f.path.as_deref() == Some(b"log")).expect("found");
    assert_eq!((log.grade, log.size), (Grade::Complete, 256), "{log:#?}");
    assert!(log.content(&device).expect("readable") == full, "not its content");

    // without the superblock everything is a result
    let mut lost = before;
    lost[..512].fill(0);
    let (recovery, device) = driver.recover(lost);
    assert!(!recovery.has_filesystem);
    for (name, bytes) in [("kept", text(3, 900)), ("gone", text(5, 1000))] {
        let is_it = |file: &&littlefs::recover::Recovered| {
            file.path.as_deref().is_some_and(|path| path.ends_with(name.as_bytes()))
        };
        let file = recovery.files.iter().filter(is_it).find(|file| file.size > 0).expect(name);
        assert_eq!(file.grade, Grade::Complete, "{file:#?}");
        assert!(file.content(&device).expect("readable") == bytes, "{name}: not its content");
    }

    // blocks that were written again
    write(&mut driver, 0, "new", &text(7, 300));
    driver.next = 0;
    (0..8).for_each(|n| write(&mut driver, 0, "new", &text(9 + 2 * n, 4000)));
    let (recovery, _) = driver.recover(driver.image.clone());
    assert!(recovery.files.iter().all(|file| file.path.as_deref() != Some(b"gone")));
}
