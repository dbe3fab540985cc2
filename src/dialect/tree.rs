//! The directories of another dialect, read from the root down.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::Lists;
use crate::check::{Recorder, Severity, show_path};
use crate::disk::{Pair, name};
use crate::error::{Error, IoError, Suspicion};
use crate::show;

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The content of a file that is stored in its metadata pair.
    Inline(Box<[u8]>),
    /// A file in a list of blocks.
    List {
        /// The last block of the list.
        head: u32,
        /// The size of the file in bytes.
        size: u32,
    },
    /// A directory: its index in [`Tree::dirs`].
    Dir(u32),
    /// A directory that cannot be read, with its pair.
    Lost(Pair),
    /// Nothing: there is only a name.
    Nothing,
}

/// An entry of a directory. Its name is unique in the directory, and Linux can show it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name.
    pub name: Box<[u8]>,
    /// The content.
    pub content: Content,
    /// User attributes: type and data, in ascending order of the types.
    pub attrs: Vec<(u8, Box<[u8]>)>,
    /// The number of its pair in its directory, and its own number in that pair. Both count from 0.
    pub place: (usize, u16),
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    /// The index of the directory above. For the root, its own index, 0.
    pub parent: u32,
    /// Its name in the directory above.
    pub name: Box<[u8]>,
    /// Its metadata pairs, in order.
    pub pairs: Vec<Pair>,
    /// Its entries, in the order of names in littlefs.
    pub entries: Vec<Entry>,
    /// Why other entries may belong to it than those that are found, if there is a reason.
    pub suspect: Option<String>,
}

/// All directories. The root is first, and parents come before their children.
pub struct Tree {
    /// The directories.
    pub dirs: Vec<Dir>,
    /// The program size of a view of this tree, in bytes.
    pub prog_size: u32,
    /// The block size of a view of this tree, in bytes.
    pub block_size: u32,
    /// How the content of its files is stored.
    pub lists: &'static dyn Lists,
}

/// An entry that was read, and what it names.
pub struct Candidate {
    /// The entry. The content of a directory is [`Content::Nothing`] at first.
    pub entry: Entry,
    /// The first pair, if the entry is a directory.
    pub dir: Option<Pair>,
}

/// The entries of a directory by name, as they were read.
pub type Names = HashMap<Box<[u8]>, Candidate>;

/// How a dialect stores entries in pairs.
pub trait Reader {
    /// Read pair number `number` of directory `dir`, and add its entries to `names`. Returns the
    /// next pair of the directory, if there is one.
    ///
    /// # Errors
    /// If the pair cannot be read.
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
    /// The first pairs of the directories that the walk has met, by the indices of the directories.
    heads: Vec<Pair>,
    /// The blocks of the pairs that the walk has met.
    met: HashSet<u32>,
    /// The directories that cannot be read.
    lost: HashSet<u32>,
}

impl Tree {
    /// The path of `name` in directory `dir`, in a form for people.
    pub fn path(&self, dir: usize, name: &[u8]) -> String {
        path(&self.dirs, dir, name)
    }

    /// The path of directory `dir`, in a form for people.
    pub fn dir_path(&self, dir: usize) -> String {
        dir_path(&self.dirs, dir)
    }

    /// The path of directory `dir` as bytes, without a leading slash.
    fn raw_path(&self, dir: usize) -> Vec<u8> {
        let mut at = dir;
        let up = std::iter::from_fn(|| {
            let d = self.dirs.get(at).filter(|_| at != 0)?;
            at = d.parent as usize;
            Some(&*d.name)
        });
        let mut names: Vec<&[u8]> = up.collect();
        names.reverse();
        names.join(&b'/')
    }

    /// The first directory to which other entries may belong than those that are found, and why.
    pub fn suspect(&self) -> Option<Suspicion> {
        let mut all = self.dirs.iter().enumerate();
        all.find_map(|(i, dir)| {
            dir.suspect.clone().map(|why| Suspicion { path: self.raw_path(i), why })
        })
    }
}

impl Dir {
    fn new(parent: u32, name: Box<[u8]>) -> Self {
        Self { parent, name, pairs: Vec::new(), entries: Vec::new(), suspect: None }
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
    /// Read all directories of an image that has `block_count` blocks, beginning with the pair
    /// `root`. Damaged parts are left out and reported as findings.
    ///
    /// # Errors
    /// If the first pair of the root cannot be read.
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
            return Err(crate::error::Corrupt::no_valid_commit(root).into());
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

    /// Add an error to the report because of which other entries may belong to directory `dir` than
    /// those that are found.
    pub fn suspect(
        &mut self,
        dir: usize,
        code: &'static str,
        place: impl Display,
        message: impl Display,
    ) {
        if let Some(dir) = self.dirs.get_mut(dir) {
            dir.suspect.get_or_insert_with(|| format!("{place}: {message}"));
        }
        self.error(code, place, message);
    }

    /// Add a note to the report.
    pub fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Note, code, place, message);
    }

    /// Note that the newer block of `pair` is not whole, so that the older one is used.
    pub fn note_torn(&mut self, pair: Pair) {
        let what = "the newer block was not written to its end; the older one is used, so later \
                    changes may be lost";
        self.note("pair-half-dead", pair, what);
    }

    /// Add an error to the report because one block of `pair`, which belongs to directory `dir`,
    /// cannot be read, so that the other one is used.
    pub fn suspect_unreadable(&mut self, dir: usize, pair: Pair, e: &IoError) {
        let why = show::cause(&e.source);
        let what = format!("one block cannot be read ({why}), and it may be the newer one");
        self.suspect(dir, "pair-unreadable", pair, what);
    }

    /// The path of directory `dir`, in a form for people.
    pub fn dir_path(&self, dir: usize) -> String {
        dir_path(&self.dirs, dir)
    }

    /// The path of `name` in directory `dir`, in a form for people.
    pub fn path(&self, dir: usize, name: &[u8]) -> String {
        path(&self.dirs, dir, name)
    }

    /// Note that directory `at` cannot be read.
    fn lose(&mut self, at: usize, e: &Error) {
        let place = self.dir_path(at);
        self.error("directory-broken", place, e);
        self.lost.insert(at as u32);
    }

    /// Note that the walk has met a pair. Returns whether both blocks are met for the first time.
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
                    let what = format_args!("{e}; it ends before that");
                    self.suspect(at, "directory-broken", place, what);
                    break;
                }
            };
            self.dirs[at].pairs.push(pair);
            match next {
                Some(next) if self.meet(next) => pair = next,
                Some(next) => {
                    let place = self.dir_path(at);
                    let what =
                        format!("its next pair {next} is already in use; it ends before that pair");
                    self.suspect(at, "tree-loop", place, what);
                    break;
                }
                None => break,
            }
        }
        self.settle(at, names);
        Ok(())
    }

    /// Give each entry of directory `at` a unique name that Linux can show, sort the entries, and
    /// note the directories among them.
    fn settle(&mut self, at: usize, names: Names) {
        let mut taken: HashSet<Box<[u8]>> = names.keys().cloned().collect();
        let mut candidates: Vec<Candidate> = names.into_values().collect();
        candidates.sort_by(|a, b| name::cmp(&a.entry.name, &b.entry.name));
        // the next number to try for each name, so that many equal names do not take quadratic time
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

    /// Note a directory below directory `parent`, which will be read later.
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

/// The first of `name`, `name~1`, `name~2`... that is not taken. On entry, `n` is the number to
/// begin with, and on return, the next one to try.
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
