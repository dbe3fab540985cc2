//! What chamelon sees in an image: directories from the root down, with their entries.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::log::{self, Doubt, Log};
use crate::bd::BlockDevice;
use crate::check::{Recorder, Severity, show_path};
use crate::disk::{Pair, name, read_u32_le, tag};
use crate::error::Error;

/// Program size where no commit tells another, in bytes: chamelon's default.
const PROG_SIZE_DEFAULT: u32 = 16;

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A value in its metadata pair.
    Inline(Box<[u8]>),
    /// A value in a list of blocks, by its last block and its size in bytes.
    List {
        /// Last block.
        head: u32,
        /// Bytes.
        size: u32,
    },
    /// A dictionary: its index in [`Tree::dirs`].
    Dir(u32),
    /// A dictionary that cannot be read, and its pair.
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
    /// Commits end on multiples of this many bytes.
    pub prog_size: u32,
}

/// The walk from the root down.
struct Walk<'a> {
    dev: &'a dyn BlockDevice,
    recorder: &'a mut Recorder,
    dirs: Vec<Dir>,
    /// First pairs of the directories that were met, by their index.
    heads: Vec<Pair>,
    /// Blocks of pairs that were met.
    met: HashSet<u32>,
    /// Directories that cannot be read.
    lost: HashSet<u32>,
    ends: u32,
}

/// An entry and the number of the pair in its directory that it is in.
struct Candidate {
    pair: usize,
    entry: Entry,
    dir: Option<Pair>,
}

impl Tree {
    /// Read all metadata of the image on `dev`. What is damaged is left out, with a finding.
    ///
    /// # Errors
    /// When the root's first pair cannot be read.
    pub(crate) fn read(dev: &dyn BlockDevice, recorder: &mut Recorder) -> Result<Self, Error> {
        let mut walk = Walk {
            dev,
            recorder,
            dirs: Vec::new(),
            heads: vec![Pair::SUPERBLOCK],
            met: HashSet::from(Pair::SUPERBLOCK.0),
            lost: HashSet::new(),
            ends: 0,
        };
        walk.dirs.push(Dir::new(0, Box::default()));
        let mut at = 0;
        while at < walk.dirs.len() {
            match walk.read_dir(at) {
                Ok(()) => {}
                Err(e) if at == 0 => return Err(e),
                Err(e) => walk.lose(at, &e),
            }
            at += 1;
        }
        let Walk { mut dirs, heads, lost, ends, .. } = walk;
        for entry in dirs.iter_mut().flat_map(|d| &mut d.entries) {
            if let Content::Dir(i) = entry.content
                && lost.contains(&i)
            {
                entry.content = Content::Lost(heads[i as usize]);
            }
        }
        let unit = match ends.trailing_zeros() {
            32.. => PROG_SIZE_DEFAULT,
            n => 1 << n.min(31),
        };
        let fits = dev.geometry().block_size.is_multiple_of(unit);
        let prog_size = if fits { unit } else { PROG_SIZE_DEFAULT };
        Ok(Self { dirs, prog_size })
    }

    /// The path of `name` in directory `dir`, for people.
    pub fn path(&self, dir: usize, name: &[u8]) -> String {
        path(&self.dirs, dir, name)
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

/// The last modification that attributes tell, as days and picoseconds.
pub(super) fn modified(attrs: &[(u8, Box<[u8]>)]) -> Option<(u32, u64)> {
    let (_, data) = attrs.iter().find(|(ty, _)| *ty == super::TIME)?;
    let picos = data.get(4..12)?.try_into().ok()?;
    Some((read_u32_le(data, 0)?, u64::from_le_bytes(picos)))
}

impl Walk<'_> {
    fn error(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Error, code, place, message);
    }

    fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Note, code, place, message);
    }

    fn dir_path(&self, dir: usize) -> String {
        match self.dirs.get(dir) {
            Some(d) if dir != 0 => path(&self.dirs, d.parent as usize, &d.name),
            _ => "/".to_owned(),
        }
    }

    /// Directory `at` cannot be read.
    fn lose(&mut self, at: usize, e: &Error) {
        let place = self.dir_path(at);
        self.error("directory-broken", place, e);
        self.lost.insert(at as u32);
    }

    /// Whether both blocks of a pair were met for the first time.
    fn meet(&mut self, pair: Pair) -> bool {
        let g = self.dev.geometry();
        let new = pair.0.iter().all(|b| !self.met.contains(b));
        self.met.extend(pair.0.iter().filter(|&&b| new && b < g.block_count));
        new
    }

    fn read_dir(&mut self, at: usize) -> Result<(), Error> {
        let mut names: HashMap<Box<[u8]>, Candidate> = HashMap::new();
        let mut pair = self.heads[at];
        loop {
            let number = self.dirs[at].pairs.len();
            let log = match log::fetch(self.dev, pair) {
                Ok(fetched) => {
                    self.doubt(at, pair, fetched.doubt.as_ref());
                    fetched.log
                }
                Err(e) if number == 0 => return Err(e),
                Err(e) => {
                    let place = self.dir_path(at);
                    self.error("directory-broken", place, format_args!("{e}; it ends before that"));
                    break;
                }
            };
            self.ends |= log.ends;
            self.dirs[at].pairs.push(pair);
            self.gather(at, number, &log, &mut names);
            match log.hardtail {
                Some(next) if self.meet(next) => pair = next,
                Some(next) => {
                    let place = self.dir_path(at);
                    let what = format!("its next pair {next} is in use already; it ends before");
                    self.error("tree-loop", place, what);
                    break;
                }
                None => break,
            }
        }
        self.settle(at, names);
        Ok(())
    }

    fn doubt(&mut self, dir: usize, pair: Pair, doubt: Option<&Doubt>) {
        match doubt {
            None => {}
            Some(Doubt::Torn) => self.note(
                "pair-half-dead",
                pair,
                "the newer block was not written to its end; the older one serves",
            ),
            Some(Doubt::Cut) => {
                let of = self.dir_path(dir);
                self.error(
                    "commit-broken",
                    pair,
                    format_args!("its last commit is damaged: what it changed in {of} is lost"),
                );
            }
            Some(Doubt::Unreadable(e)) => {
                let e = format!("{} failed: {}: it may be newer", e.op, e.source);
                self.error("pair-unreadable", pair, e);
            }
        }
    }

    /// The entries of one pair. A later pair counts before an earlier one, a higher id before a
    /// lower one.
    fn gather(
        &mut self,
        dir: usize,
        number: usize,
        log: &Log,
        names: &mut HashMap<Box<[u8]>, Candidate>,
    ) {
        for (id, ty, name) in log.names() {
            let list =
                log.get(id, tag::CTZSTRUCT).and_then(|d| read_u32_le(d, 0).zip(read_u32_le(d, 4)));
            let inline = log.get(id, tag::INLINESTRUCT);
            let pair = log.get(id, tag::DIRSTRUCT).and_then(Pair::from_bytes);
            let value = match (list, inline) {
                (Some((head, size)), _) => Some(Content::List { head, size }),
                (None, Some(data)) => Some(Content::Inline(data.into())),
                (None, None) => None,
            };
            // where both are there, the type of the name decides
            let (content, below) = match (value, pair) {
                (Some(value), None) => (value, None),
                (Some(value), Some(_)) if ty == tag::REG => (value, None),
                (_, Some(pair)) => (Content::Nothing, Some(pair)),
                (None, None) => (Content::Nothing, None),
            };
            let attrs = log.range(id, tag::USERATTR, tag::USERATTR | 0xff);
            let attrs = attrs.map(|(ty, data)| (ty as u8, data.into())).collect();
            let entry = Entry { name: name.into(), content, attrs };
            let new = Candidate { pair: number, entry, dir: below };
            if let Some(old) = names.insert(name.into(), new) {
                self.replaced(dir, number, &old, below.is_some());
            }
        }
    }

    /// An entry gives way to a later one of its name, a dictionary or not.
    fn replaced(&mut self, dir: usize, number: usize, old: &Candidate, by_dir: bool) {
        let place = path(&self.dirs, dir, &old.entry.name);
        if old.dir.is_some() || by_dir {
            self.error(
                "name-duplicate",
                place,
                "stands for two things, at least one of them a dictionary; the last one counts",
            );
        } else if old.pair == number {
            self.error("name-duplicate", place, "stands for two values; the last one counts");
        } else {
            // what chamelon does to a name whose directory was split since
            self.note("value-outdated", place, "an older value is left beside the one that counts");
        }
    }

    /// Give the entries of directory `at` names of their own, order them, and meet the directories
    /// among them.
    fn settle(&mut self, at: usize, names: HashMap<Box<[u8]>, Candidate>) {
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
                    format_args!("Linux cannot show it: {new} is it"),
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
            self.error("tree-loop", place, format_args!("its pair {pair} is in use already"));
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
