//! Directories of another dialect, read from the root down.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::Lists;
use crate::check::{Recorder, Severity, show_path};
use crate::disk::{Pair, name};
use crate::error::Error;

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The content of a file, which stands in its metadata pair.
    Inline(Box<[u8]>),
    /// A file in a list of blocks, by its last block and its size in bytes.
    List {
        /// Last block.
        head: u32,
        /// Bytes.
        size: u32,
    },
    /// A directory: its index in [`Tree::dirs`].
    Dir(u32),
    /// A directory that cannot be read, and its pair.
    Lost(Pair),
    /// A name without anything.
    Nothing,
}

/// An entry of a directory, by a name that is its own and that Linux can hold.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name.
    pub name: Box<[u8]>,
    /// What it stands for.
    pub content: Content,
    /// User attributes: type and data, types ascending.
    pub attrs: Vec<(u8, Box<[u8]>)>,
    /// The number of its pair in its directory, and its own number in that pair, both from 0.
    pub place: (usize, u16),
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    /// The directory above; the root's own index, 0, for the root.
    pub parent: u32,
    /// Its name there.
    pub name: Box<[u8]>,
    /// Its metadata pairs, in order.
    pub pairs: Vec<Pair>,
    /// Its entries, in littlefs's order of names.
    pub entries: Vec<Entry>,
}

/// All directories, the root first, parents before children.
pub struct Tree {
    /// The directories.
    pub dirs: Vec<Dir>,
    /// In a view of it, commits end on multiples of this many bytes.
    pub prog_size: u32,
    /// Bytes of a block of a view of it.
    pub block_size: u32,
    /// Where the bytes of its files are.
    pub lists: &'static dyn Lists,
}

/// An entry, and where it leads.
pub struct Candidate {
    /// The entry. The content of a directory is nothing yet.
    pub entry: Entry,
    /// The first pair of a directory.
    pub dir: Option<Pair>,
}

/// The entries of a directory by name, as they stand in it.
pub type Names = HashMap<Box<[u8]>, Candidate>;

/// A dialect's way of storing entries in pairs.
pub trait Reader {
    /// Read pair number `number` of directory `dir`, add its entries to `names`, and tell the next
    /// pair of the directory, if there is one.
    ///
    /// # Errors
    /// When the pair cannot be read.
    fn read(
        &mut self,
        walk: &mut Walk<'_>,
        dir: usize,
        number: usize,
        pair: Pair,
        names: &mut Names,
    ) -> Result<Option<Pair>, Error>;
}

/// The walk from the root down.
pub struct Walk<'a> {
    recorder: &'a mut Recorder,
    block_count: u32,
    dirs: Vec<Dir>,
    /// First pairs of the directories that were met, by their index.
    heads: Vec<Pair>,
    /// Blocks of pairs that were met.
    met: HashSet<u32>,
    /// Directories that cannot be read.
    lost: HashSet<u32>,
}

impl Tree {
    /// The path of `name` in directory `dir`, for people.
    pub fn path(&self, dir: usize, name: &[u8]) -> String {
        path(&self.dirs, dir, name)
    }

    /// The path of directory `dir`, for people.
    pub fn dir_path(&self, dir: usize) -> String {
        dir_path(&self.dirs, dir)
    }
}

impl Dir {
    fn new(parent: u32, name: Box<[u8]>) -> Self {
        Self { parent, name, pairs: Vec::new(), entries: Vec::new() }
    }
}

fn path(dirs: &[Dir], dir: usize, name: &[u8]) -> String {
    let mut at = dir;
    let up = std::iter::from_fn(|| {
        let d = dirs.get(at).filter(|_| at != 0)?;
        at = d.parent as usize;
        Some(&*d.name)
    });
    show_path(name, up)
}

fn dir_path(dirs: &[Dir], dir: usize) -> String {
    match dirs.get(dir) {
        Some(d) if dir != 0 => path(dirs, d.parent as usize, &d.name),
        _ => "/".to_owned(),
    }
}

impl<'a> Walk<'a> {
    /// Read all directories of an image of so many blocks, whose root begins with the pair `root`.
    /// What is damaged is left out, with a finding.
    ///
    /// # Errors
    /// When the first pair of the root cannot be read.
    pub(crate) fn run(
        reader: &mut dyn Reader,
        root: Pair,
        block_count: u32,
        recorder: &'a mut Recorder,
    ) -> Result<Vec<Dir>, Error> {
        let mut walk = Self {
            recorder,
            block_count,
            dirs: vec![Dir::new(0, Box::default())],
            heads: vec![root],
            met: HashSet::from(Pair::SUPERBLOCK.0),
            lost: HashSet::new(),
        };
        if root != Pair::SUPERBLOCK && !walk.meet(root) {
            return Err(crate::error::Corrupt::NoValidCommit(root).into());
        }
        let mut at = 0;
        while at < walk.dirs.len() {
            match walk.read_dir(reader, at) {
                Ok(()) => {}
                Err(e) if at == 0 => return Err(e),
                Err(e) => walk.lose(at, &e),
            }
            at += 1;
        }
        let Walk { mut dirs, heads, lost, .. } = walk;
        for entry in dirs.iter_mut().flat_map(|d| &mut d.entries) {
            if let Content::Dir(i) = entry.content
                && lost.contains(&i)
            {
                entry.content = Content::Lost(heads[i as usize]);
            }
        }
        Ok(dirs)
    }

    /// Add an error to the report.
    pub fn error(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Error, code, place, message);
    }

    /// Add a note to the report.
    pub fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Note, code, place, message);
    }

    /// The path of directory `dir`, for people.
    pub fn dir_path(&self, dir: usize) -> String {
        dir_path(&self.dirs, dir)
    }

    /// The path of `name` in directory `dir`, for people.
    pub fn path(&self, dir: usize, name: &[u8]) -> String {
        path(&self.dirs, dir, name)
    }

    /// Directory `at` cannot be read.
    fn lose(&mut self, at: usize, e: &Error) {
        let place = self.dir_path(at);
        self.error("directory-broken", place, e);
        self.lost.insert(at as u32);
    }

    /// Whether both blocks of a pair were met for the first time.
    fn meet(&mut self, pair: Pair) -> bool {
        let new = pair.0.iter().all(|b| !self.met.contains(b));
        self.met.extend(pair.0.iter().filter(|&&b| new && b < self.block_count));
        new
    }

    fn read_dir(&mut self, reader: &mut dyn Reader, at: usize) -> Result<(), Error> {
        let mut names = Names::new();
        let mut pair = self.heads[at];
        loop {
            let number = self.dirs[at].pairs.len();
            let next = match reader.read(self, at, number, pair, &mut names) {
                Ok(next) => next,
                Err(e) if number == 0 => return Err(e),
                Err(e) => {
                    let place = self.dir_path(at);
                    self.error("directory-broken", place, format_args!("{e}; it ends before that"));
                    break;
                }
            };
            self.dirs[at].pairs.push(pair);
            match next {
                Some(next) if self.meet(next) => pair = next,
                Some(next) => {
                    let place = self.dir_path(at);
                    let what = format!("its next pair {next} is already in use; it ends before \
                                        that pair");
                    self.error("tree-loop", place, what);
                    break;
                }
                None => break,
            }
        }
        self.settle(at, names);
        Ok(())
    }

    /// Give the entries of directory `at` names of their own, order them, and meet the directories
    /// among them.
    fn settle(&mut self, at: usize, names: Names) {
        let mut taken: HashSet<Box<[u8]>> = names.keys().cloned().collect();
        let mut candidates: Vec<Candidate> = names.into_values().collect();
        candidates.sort_by(|a, b| name::cmp(&a.entry.name, &b.entry.name));
        // a name that comes a thousand times is not to be tried a million times
        let mut tried: HashMap<Vec<u8>, u32> = HashMap::new();
        for Candidate { mut entry, dir, .. } in candidates {
            if !name::is_presentable(&entry.name) {
                let place = path(&self.dirs, at, &entry.name);
                let wanted = name::presentable(&entry.name);
                let n = tried.entry(wanted.clone()).or_default();
                entry.name = unused(&wanted, n, &taken);
                taken.insert(entry.name.clone());
                let new = path(&self.dirs, at, &entry.name);
                self.note(
                    "name-impossible",
                    place,
                    format_args!("Linux cannot show this name; the entry is shown as {new}"),
                );
            }
            if let Some(pair) = dir {
                entry.content = self.enter(at, &entry.name, pair);
            } else if entry.content == Content::Nothing {
                let place = path(&self.dirs, at, &entry.name);
                self.error("bad-struct", place, "a name without a value");
            }
            self.dirs[at].entries.push(entry);
        }
        if !tried.is_empty() {
            self.dirs[at].entries.sort_by(|a, b| name::cmp(&a.name, &b.name));
        }
    }

    /// Meet a directory below directory `parent`, to be read later.
    fn enter(&mut self, parent: usize, name: &[u8], pair: Pair) -> Content {
        if !self.meet(pair) {
            let place = path(&self.dirs, parent, name);
            self.error("tree-loop", place, format_args!("its pair {pair} is already in use"));
            return Content::Lost(pair);
        }
        self.dirs.push(Dir::new(parent as u32, name.into()));
        self.heads.push(pair);
        Content::Dir(self.dirs.len() as u32 - 1)
    }
}

/// `name`, or the first of `name~1`, `name~2`... that is not taken, from number `n` on.
fn unused(name: &[u8], n: &mut u32, taken: &HashSet<Box<[u8]>>) -> Box<[u8]> {
    loop {
        let suffix = if *n == 0 { String::new() } else { format!("~{n}") };
        let new = [name, suffix.as_bytes()].concat().into();
        *n += 1;
        if !taken.contains(&new) {
            return new;
        }
    }
}
