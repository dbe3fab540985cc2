//! The inode table: the inodes that the kernel refers to, and those that must be kept longer.
//!
//! The key of a file is its directory and name. The key of a directory is its [`DirId`], which no
//! rename changes and which determines its number. An inode without references stays only if a new
//! look-up would give another answer: its times were changed during this mount, or its number does
//! not follow from its key.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use hashbrown::HashTable;

use super::InodeCache;
use crate::fs::{At, DirId, FileId, ROOT};

/// The number that FUSE gives to the root directory.
pub const ROOT_INO: u64 = 1;

/// What is added to the number of a directory, other than the root, to get the number of its inode.
const DIRS: u64 = 2;
/// The bit in the numbers of files that were found in the image. The number is a hash of the key,
/// so each look-up gives the same number. These numbers have 49 bits, so programs that keep inode
/// numbers in a double lose nothing.
const HASHED: u64 = 1 << 48;
/// The bit in the numbers of files that were created during this mount. These numbers count up.
const COUNTED: u64 = 1 << 49;
/// How many clean files are kept open in the core, so that a read need not look the file up again.
const MAX_OPEN: usize = 1024;
/// How many inodes without references are kept for their times. If there are more, the older half
/// is dropped.
const MAX_RETAINED: usize = 1 << 18;

/// Times in nanoseconds since 1970. littlefs itself does not store them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Last access.
    pub atime: i64,
    /// Last change of the content.
    pub mtime: i64,
    /// Last change of the inode.
    pub ctime: i64,
}

impl Times {
    /// The same time for all three.
    pub fn all(time: i64) -> Self {
        Self { atime: time, mtime: time, ctime: time }
    }
}

/// Owner and mode, if the image stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The number of a device, as the kernel encodes it.
    pub rdev: u32,
}

/// The metadata that the attributes of an entry store, if they do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    pub times: Option<Times>,
    pub owner: Option<Owner>,
}

/// Where the entry of an inode is.
pub(super) enum Entry {
    /// The entry of this directory.
    Dir(DirId),
    /// The entry with this name in a directory, for a file.
    File(DirId, Box<[u8]>),
}

impl Entry {
    pub fn at(&self) -> At<'_> {
        match self {
            Self::Dir(dir) => At::Dir(*dir),
            Self::File(dir, name) => At::Entry(*dir, name),
        }
    }

    /// The name of a file, for messages.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Dir(_) => None,
            Self::File(_, name) => Some(name.escape_ascii().to_string()),
        }
    }
}

/// What an inode stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file: its size in bytes, and the file object of the core while it is open.
    File { size: u32, open: Option<FileId> },
    /// A directory.
    Dir(DirId),
}

/// One inode. It must be small, because there is one for each file that the kernel has in its
/// cache.
pub(super) struct Inode {
    pub kind: Kind,
    pub times: Times,
    /// Owner and mode, if they are not those of the mount. They are only in memory if the image
    /// cannot store them.
    pub owner: Option<Box<Owner>>,
    /// How many references the kernel holds.
    lookups: u64,
    /// Together with `name`, this is the key of a linked file. It is not used for directories.
    parent: DirId,
    name: Box<[u8]>,
    /// Whether an entry still names it.
    pub linked: bool,
    /// Whether a new look-up would give other times or another number.
    changed: bool,
    /// Whether it was used since the clock of open files last passed it.
    recent: bool,
}

impl Inode {
    /// Where its entry is, if it still has one.
    pub fn entry(&self) -> Option<Entry> {
        self.linked.then(|| match self.kind {
            Kind::Dir(dir) => Entry::Dir(dir),
            Kind::File { .. } => Entry::File(self.parent, self.name.clone()),
        })
    }

    /// Set the modification time and the change time. They stay for the rest of the mount.
    pub fn modified(&mut self, now: i64) {
        self.times.mtime = now;
        self.status_changed(now);
    }

    /// Clear the set-id bits of a regular file after a change of its content or its owner: the
    /// set-user-id bit, and the set-group-id bit, unless the latter means mandatory locking.
    /// Callers who may keep these bits do not call this.
    pub fn clear_set_ids(&mut self) {
        if let Some(owner) = &mut self.owner {
            owner.mode = without_set_ids(owner.mode);
        }
    }

    /// Set the change time. It stays for the rest of the mount.
    pub fn status_changed(&mut self, now: i64) {
        self.times.ctime = now;
        self.changed = true;
    }
}

/// A mode without the bits that must be cleared when somebody changes the file.
pub(super) fn without_set_ids(mode: u32) -> u32 {
    if mode & libc::S_IFMT != libc::S_IFREG {
        return mode;
    }
    let group = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !(libc::S_ISUID | group)
}

/// How to reach the content of a file.
pub(super) enum Handle {
    /// The file is open in the core.
    Open(FileId),
    /// The file must be opened by this key.
    Key(DirId, Box<[u8]>),
}

/// A hasher for keys that are already hashes or numbers.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // Multiplying by an odd constant distributes the number into the high bits, which the map
        // uses first.
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

pub(super) struct InodeTable {
    by_ino: NumberMap<u64, Inode>,
    /// The linked files by their key: the hash of the key, and the number of the inode, which has
    /// the key itself.
    by_key: HashTable<(u64, u64)>,
    /// It has a random key, so that nobody can make an image whose names collide.
    hasher: RandomState,
    next_counted: u64,
    /// Inodes with an open file object, in the order in which the clock passes them.
    open_clock: VecDeque<u64>,
    retained: usize,
    orphans: usize,
    default_time: i64,
    /// How often a file was needed, and how often it was not open.
    wanted: u64,
    closed: u64,
}

impl InodeTable {
    /// A table that holds the root. Unchanged inodes show `default_time`.
    pub fn new(default_time: i64) -> Self {
        let mut table = Self {
            by_ino: NumberMap::default(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
            next_counted: COUNTED,
            open_clock: VecDeque::new(),
            retained: 0,
            orphans: 0,
            default_time,
            wanted: 0,
            closed: 0,
        };
        table.insert(ROOT_INO, ROOT, Box::default(), Kind::Dir(ROOT));
        // The kernel's reference to the root is never forgotten.
        table.reference(ROOT_INO);
        table
    }

    pub fn get(&self, ino: u64) -> Option<&Inode> {
        self.by_ino.get(&ino)
    }

    pub fn get_mut(&mut self, ino: u64) -> Option<&mut Inode> {
        self.by_ino.get_mut(&ino)
    }

    /// The inode of a directory, if it has one.
    pub fn dir_mut(&mut self, dir: DirId) -> Option<&mut Inode> {
        self.by_ino.get_mut(&Self::dir_number(dir))
    }

    /// The inode of a linked file, if it has one.
    pub fn find_file(&self, dir: DirId, name: &[u8]) -> Option<u64> {
        let hash = self.hash_key(dir, name);
        let has_key =
            |ino| self.get(ino).is_some_and(|inode| inode.parent == dir && *inode.name == *name);
        let found = self.by_key.find(hash, |&(other, ino)| other == hash && has_key(ino));
        found.map(|&(_, ino)| ino)
    }

    /// The number that a look-up of this file would return.
    pub fn file_number(&self, dir: DirId, name: &[u8]) -> u64 {
        self.find_file(dir, name).unwrap_or_else(|| self.hashed(self.hash_key(dir, name)))
    }

    /// The number of a directory.
    pub fn dir_number(dir: DirId) -> u64 {
        if dir == ROOT { ROOT_INO } else { DIRS + dir.number() }
    }

    /// The inode of a file that was found in the image with this size. `stored` is used if the
    /// inode was not known before.
    pub fn enter_file(&mut self, dir: DirId, name: &[u8], size: u32, stored: &Stored) -> u64 {
        if let Some(ino) = self.find_file(dir, name) {
            if let Some(Inode { kind: Kind::File { size: known, .. }, .. }) = self.get_mut(ino) {
                *known = size;
            }
            return ino;
        }
        let ino = self.hashed(self.hash_key(dir, name));
        self.insert(ino, dir, name.into(), Kind::File { size, open: None });
        self.link(ino);
        self.adopt(ino, stored);
        ino
    }

    /// The inode of a directory that was found in the image. `stored` is used if the inode was not
    /// known before.
    pub fn enter_dir(&mut self, dir: DirId, stored: &Stored) -> u64 {
        let ino = Self::dir_number(dir);
        if !self.by_ino.contains_key(&ino) {
            self.insert(ino, dir, Box::default(), Kind::Dir(dir));
            self.adopt(ino, stored);
        }
        ino
    }

    /// Give an inode the metadata that is stored for it.
    pub fn adopt(&mut self, ino: u64, stored: &Stored) {
        if let Some(inode) = self.by_ino.get_mut(&ino) {
            inode.times = stored.times.unwrap_or(inode.times);
            inode.owner = stored.owner.map(Box::new);
        }
    }

    /// Make an inode for a new file. It gets a number that was never used, because an older inode
    /// may have had that name before it was removed or renamed, and may still exist.
    pub fn create_file(
        &mut self,
        dir: DirId,
        name: &[u8],
        size: u32,
        owner: Option<Owner>,
        now: i64,
    ) -> u64 {
        self.next_counted += 1;
        let ino = self.next_counted;
        self.insert(ino, dir, name.into(), Kind::File { size, open: None });
        self.link(ino);
        self.born(ino, owner, now);
        ino
    }

    /// Make an inode for a new directory.
    pub fn create_dir(&mut self, dir: DirId, owner: Option<Owner>, now: i64) -> u64 {
        let ino = self.enter_dir(dir, &Stored::default());
        self.born(ino, owner, now);
        ino
    }

    /// Count one reference of the kernel.
    pub fn reference(&mut self, ino: u64) -> Option<&Inode> {
        let inode = self.by_ino.get_mut(&ino)?;
        if inode.lookups == 0 && inode.changed {
            self.retained = self.retained.saturating_sub(1);
        }
        inode.lookups += 1;
        Some(inode)
    }

    /// Whether the kernel holds a reference.
    pub fn is_referenced(&self, ino: u64) -> bool {
        self.get(ino).is_some_and(|inode| inode.lookups > 0)
    }

    /// Drop `count` references of the kernel. Returns the file object to close if these were the
    /// last ones.
    pub fn forget(&mut self, ino: u64, count: u64) -> Option<FileId> {
        if ino == ROOT_INO {
            return None;
        }
        let inode = self.by_ino.get_mut(&ino)?;
        let before = inode.lookups;
        inode.lookups = before.saturating_sub(count);
        if before == 0 || inode.lookups > 0 {
            return None;
        }
        let file = take_file(inode);
        if inode.linked && inode.changed {
            self.retained += 1;
            if self.retained > MAX_RETAINED {
                self.drop_older_half();
            }
        } else {
            self.remove(ino);
        }
        file
    }

    /// Note that a file has lost its entry. The inode is kept while the kernel refers to it.
    /// Otherwise this returns the file object to close, if there is one.
    pub fn unlink_file(&mut self, dir: DirId, name: &[u8], now: i64) -> Option<FileId> {
        let ino = self.find_file(dir, name)?;
        self.unlink_key(ino);
        self.orphan(ino, now)
    }

    /// Note that a directory was removed.
    pub fn unlink_dir(&mut self, dir: DirId, now: i64) {
        self.orphan(Self::dir_number(dir), now);
    }

    /// Note that a file got another directory or name. An entry that had this name before has been
    /// unlinked.
    pub fn rename_file(&mut self, from: (DirId, &[u8]), to: (DirId, &[u8]), now: i64) {
        let Some(ino) = self.find_file(from.0, from.1) else { return };
        self.unlink_key(ino);
        if let Some(inode) = self.by_ino.get_mut(&ino) {
            inode.parent = to.0;
            inode.name = to.1.into();
            inode.status_changed(now);
        }
        self.link(ino);
    }

    /// How to reach the content of file `ino`. `None` if it is not a file, or does not exist any
    /// more.
    pub fn handle(&mut self, ino: u64) -> Option<Handle> {
        let inode = self.by_ino.get_mut(&ino)?;
        let Kind::File { open, .. } = inode.kind else { return None };
        inode.recent = true;
        self.wanted += 1;
        if open.is_none() {
            self.closed += 1;
        }
        match open {
            Some(file) => Some(Handle::Open(file)),
            None if inode.linked => Some(Handle::Key(inode.parent, inode.name.clone())),
            None => None,
        }
    }

    /// How many inodes there are, and how often a needed file was open already.
    pub fn cache(&self) -> InodeCache {
        let is_open = |ino| {
            let inode = self.get(ino);
            matches!(inode, Some(Inode { kind: Kind::File { open: Some(_), .. }, .. }))
        };
        InodeCache {
            known: self.by_ino.len() as u64,
            open_files: self.open_clock.iter().filter(|&&ino| is_open(ino)).count() as u64,
            hits: self.wanted - self.closed,
            misses: self.closed,
        }
    }

    /// Note the file object of `ino`. Returns the objects to close in exchange, usually none.
    pub fn opened(&mut self, ino: u64, file: FileId) -> Vec<FileId> {
        let mut close = Vec::new();
        match self.by_ino.get_mut(&ino) {
            Some(Inode { kind: Kind::File { open, .. }, .. }) => {
                *open = Some(file);
                self.open_clock.push_back(ino);
            }
            _ => close.push(file),
        }
        while self.open_clock.len() > MAX_OPEN {
            let Some(ino) = self.open_clock.pop_front() else { break };
            let Some(inode) = self.by_ino.get_mut(&ino) else { continue };
            // only its open object keeps the content of an unlinked file
            if !inode.linked {
                continue;
            }
            if inode.recent {
                inode.recent = false;
                self.open_clock.push_back(ino);
            } else {
                close.extend(take_file(inode));
            }
        }
        close
    }

    /// The number of inodes without an entry.
    pub fn orphans(&self) -> usize {
        self.orphans
    }

    fn hash_key(&self, dir: DirId, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        dir.hash(&mut hasher);
        hasher.write(name);
        hasher.finish()
    }

    /// The number for a hash. In the very rare case that this number is taken, it is the next free
    /// number.
    fn hashed(&self, hash: u64) -> u64 {
        let mut ino = HASHED | (hash & (HASHED - 1));
        while self.by_ino.contains_key(&ino) {
            ino = HASHED | ((ino + 1) & (HASHED - 1));
        }
        ino
    }

    fn insert(&mut self, ino: u64, parent: DirId, name: Box<[u8]>, kind: Kind) {
        let inode = Inode {
            kind,
            times: Times::all(self.default_time),
            owner: None,
            lookups: 0,
            parent,
            name,
            linked: true,
            changed: false,
            recent: false,
        };
        self.by_ino.insert(ino, inode);
    }

    fn born(&mut self, ino: u64, owner: Option<Owner>, now: i64) {
        if let Some(inode) = self.by_ino.get_mut(&ino) {
            inode.owner = owner.map(Box::new);
            inode.times.atime = now;
            inode.modified(now);
            self.retained += 1;
        }
    }

    /// Add the key of a file to the index.
    fn link(&mut self, ino: u64) {
        let Some(inode) = self.by_ino.get(&ino) else { return };
        let hash = self.hash_key(inode.parent, &inode.name);
        self.by_key.insert_unique(hash, (hash, ino), |&(hash, _)| hash);
    }

    /// Remove the key of a file from the index.
    fn unlink_key(&mut self, ino: u64) {
        let Some(inode) = self.by_ino.get(&ino) else { return };
        let hash = self.hash_key(inode.parent, &inode.name);
        if let Ok(entry) = self.by_key.find_entry(hash, |&(_, other)| other == ino) {
            entry.remove();
        }
    }

    /// Note that an inode has lost its entry. If there are no references to it, it is removed at
    /// once.
    fn orphan(&mut self, ino: u64, now: i64) -> Option<FileId> {
        let inode = self.by_ino.get_mut(&ino)?;
        inode.linked = false;
        inode.name = Box::default();
        if inode.lookups > 0 {
            inode.times.ctime = now;
            self.orphans += 1;
            return None;
        }
        if inode.changed {
            self.retained = self.retained.saturating_sub(1);
        }
        let file = take_file(inode);
        self.by_ino.remove(&ino);
        file
    }

    /// Remove an inode from the table and from the index.
    fn remove(&mut self, ino: u64) {
        let Some(inode) = self.by_ino.get(&ino) else { return };
        match inode.kind {
            _ if !inode.linked => self.orphans = self.orphans.saturating_sub(1),
            Kind::File { .. } => self.unlink_key(ino),
            Kind::Dir(_) => {}
        }
        self.by_ino.remove(&ino);
    }

    fn drop_older_half(&mut self) {
        let kept = |inode: &Inode| inode.lookups == 0 && inode.changed;
        let mut ages: Vec<i64> =
            self.by_ino.values().filter(|i| kept(i)).map(|i| i.times.ctime).collect();
        if ages.is_empty() {
            return;
        }
        let middle = ages.len() / 2;
        let limit = *ages.select_nth_unstable(middle).1;
        let old = self.by_ino.iter().filter(|(_, i)| kept(i) && i.times.ctime <= limit);
        for ino in old.map(|(&ino, _)| ino).collect::<Vec<_>>() {
            self.remove(ino);
        }
        self.retained = self.by_ino.values().filter(|i| kept(i)).count();
    }
}

fn take_file(inode: &mut Inode) -> Option<FileId> {
    match &mut inode.kind {
        Kind::File { open, .. } => open.take(),
        Kind::Dir(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: i64 = 1_000;
    const NOW: i64 = 2_000;
    const NOTHING: Stored = Stored { times: None, owner: None };

    #[test]
    fn numbers_survive_forgetting() {
        let mut t = InodeTable::new(THEN);
        let ino = t.enter_file(ROOT, b"a", 7, &NOTHING);
        assert_eq!(t.file_number(ROOT, b"a"), ino);
        t.reference(ino);
        assert_eq!(t.forget(ino, 1), None);
        assert!(t.get(ino).is_none(), "an untouched inode is dropped");
        assert_eq!(t.enter_file(ROOT, b"a", 7, &NOTHING), ino);
        assert_eq!(t.by_key.len(), 1);
    }

    #[test]
    fn changed_times_survive_forgetting() {
        let mut t = InodeTable::new(THEN);
        let ino = t.create_file(ROOT, b"a", 0, None, NOW);
        t.reference(ino);
        t.forget(ino, 1);
        assert_eq!(t.retained, 1);
        assert_eq!(t.enter_file(ROOT, b"a", 3, &NOTHING), ino);
        assert_eq!(t.get(ino).expect("kept").times, Times::all(NOW));
        assert_eq!(t.unlink_file(ROOT, b"a", NOW), None);
        assert!(t.get(ino).is_none() && t.retained == 0 && t.by_key.is_empty());
    }

    #[test]
    fn an_unlinked_inode_stays_until_forgotten_and_its_number_is_not_reused() {
        let mut t = InodeTable::new(THEN);
        let old = t.enter_file(ROOT, b"a", 7, &NOTHING);
        t.reference(old);
        t.unlink_file(ROOT, b"a", NOW);
        assert_eq!(t.orphans(), 1);
        assert!(t.handle(old).is_none(), "its name may mean another file by now");
        let new = t.create_file(ROOT, b"a", 0, None, NOW);
        assert_ne!(old, new);
        assert_eq!(t.find_file(ROOT, b"a"), Some(new));
        t.forget(old, 1);
        assert!(t.get(old).is_none() && t.orphans() == 0);
        assert_eq!(t.find_file(ROOT, b"a"), Some(new));
    }

    #[test]
    fn a_renamed_file_keeps_its_inode() {
        let mut t = InodeTable::new(THEN);
        let a = t.enter_file(ROOT, b"a", 1, &NOTHING);
        let b = t.enter_file(ROOT, b"b", 2, &NOTHING);
        t.reference(a);
        t.reference(b);
        t.unlink_file(ROOT, b"b", NOW);
        t.rename_file((ROOT, b"a"), (ROOT, b"b"), NOW);
        assert_eq!(t.find_file(ROOT, b"b"), Some(a));
        assert_eq!(t.find_file(ROOT, b"a"), None);
        assert!(!t.get(b).expect("still referenced").linked);
        t.forget(a, 1);
        assert_eq!(t.enter_file(ROOT, b"b", 1, &NOTHING), a, "the number stays after the rename");
    }

    #[test]
    fn files_with_equal_hashes_are_distinguished() {
        let mut t = InodeTable::new(THEN);
        let inos: Vec<u64> = (0..3u8).map(|n| t.enter_file(ROOT, &[n], 0, &NOTHING)).collect();
        // Pretend that all three names have the hash of the name in the middle.
        let hash = t.hash_key(ROOT, &[1]);
        t.by_key.clear();
        for &ino in &inos {
            t.by_key.insert_unique(hash, (hash, ino), |&(hash, _)| hash);
        }
        assert_eq!(t.find_file(ROOT, &[1]), Some(inos[1]));
        t.unlink_key(inos[1]);
        assert_eq!(t.find_file(ROOT, &[1]), None);
        let mut left: Vec<u64> = t.by_key.iter().map(|&(_, ino)| ino).collect();
        left.sort_unstable();
        let mut others = vec![inos[0], inos[2]];
        others.sort_unstable();
        assert_eq!(left, others);
    }

    #[test]
    fn retained_inodes_are_bounded() {
        let mut t = InodeTable::new(THEN);
        for n in 0..=MAX_RETAINED as u64 {
            let ino = t.create_file(ROOT, &n.to_le_bytes(), 0, None, NOW + n as i64);
            t.reference(ino);
            t.forget(ino, 1);
        }
        assert!(t.retained <= MAX_RETAINED / 2 + 1, "{}", t.retained);
        assert!(t.by_ino.len() <= MAX_RETAINED / 2 + 2);
        assert!(t.find_file(ROOT, &(MAX_RETAINED as u64).to_le_bytes()).is_some());
    }

    #[test]
    fn inodes_are_small() {
        assert!(size_of::<(u64, Inode)>() <= 96, "{}", size_of::<(u64, Inode)>());
    }
}
