//! The filesystem is compared with a simple model, and verified after every flush.

use std::collections::BTreeMap;
use std::sync::Arc;

use littlefs::Error;
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::fs::{DirId, FormatOptions, Fs, Node, OpenOptions, ROOT};
use testkit::random::Random;

/// The names that lead to an entry from the root.
type Path = Vec<String>;

/// The content of each file, and `None` for each directory.
type Tree = BTreeMap<Path, Option<Vec<u8>>>;

fn dir_of(fs: &mut Fs, path: &[String]) -> Result<DirId, Error> {
    let mut dir = ROOT;
    for name in path {
        match fs.lookup(dir, name.as_bytes())? {
            Node::Dir(d) => dir = d,
            Node::File { .. } => return Err(Error::NotDirectory),
        }
    }
    Ok(dir)
}

fn read_tree(fs: &mut Fs) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for name in fs.list(dir).expect("list") {
            let mut p: Vec<String> = path.clone();
            p.push(String::from_utf8(name.to_vec()).expect("ascii names"));
            match fs.lookup(dir, &name).expect("listed names are found") {
                Node::Dir(d) => {
                    assert!(tree.insert(p.clone(), None).is_none(), "{p:?} twice");
                    todo.push((d, p));
                }
                Node::File { size } => {
                    let f = fs.open_file(dir, &name).expect("open");
                    let data = fs.read(f, 0, usize::MAX).expect("read").run().expect("run");
                    fs.close_file(f);
                    assert_eq!(data.len() as u32, size);
                    assert!(tree.insert(p.clone(), Some(data)).is_none(), "{p:?} twice");
                }
            }
        }
    }
    tree
}

/// A filesystem, and the model that it is compared with.
struct Trial {
    dev: Arc<RamDevice>,
    options: OpenOptions,
    fs: Fs,
    model: Tree,
    random: Random,
    /// The seed, and everything that was done.
    log: Vec<String>,
}

fn run(block_size: u32, block_count: u32, prog_size: u32, seed: u64, steps: usize) {
    let g = Geometry::new(block_size, block_count).expect("geometry");
    let dev = Arc::new(RamDevice::new(g));
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let options = OpenOptions { prog_size: Some(prog_size), ..OpenOptions::default() };
    let fs = Fs::open(dev.clone(), &options).expect("open");
    let (model, random, log) = (Tree::new(), Random(seed), vec![format!("seed {seed}")]);
    let mut trial = Trial { dev, options, fs, model, random, log };
    for _ in 0..steps {
        match trial.random.below(20) {
            0..=4 => trial.write(),
            5..=7 => trial.mkdir(),
            8..=11 => trial.remove(),
            12..=15 => trial.rename(),
            16 => trial.truncate(),
            _ => trial.flush(),
        }
    }
    assert_eq!(read_tree(&mut trial.fs), trial.model);
}

impl Trial {
    /// The path of an entry that may exist, in a directory that exists.
    fn some_path(&mut self) -> Path {
        let is_dir = |(path, entry): (&Path, &Option<_>)| entry.is_none().then(|| path.clone());
        let mut dirs = vec![Vec::new()];
        dirs.extend(self.model.iter().filter_map(is_dir));
        let mut path = dirs.swap_remove(self.random.below(dirs.len()));
        let start = ["a", "bb", "c", "longer-name-"][self.random.below(4)];
        path.push(format!("{start}{}", self.random.below(12)));
        path
    }

    /// The path of an entry that exists, if there is one.
    fn existing(&mut self) -> Option<Path> {
        let n = self.random.below(self.model.len());
        self.model.keys().nth(n).cloned()
    }

    /// The directory of an entry.
    fn parent(&mut self, path: &[String]) -> DirId {
        dir_of(&mut self.fs, &path[..path.len() - 1]).expect("the directories of the model exist")
    }

    /// Create a file if it does not exist, and write to it.
    fn write(&mut self) {
        let path = self.some_path();
        let size = [0, 3, 20, 60, 100, 300, 5000][self.random.below(7)];
        let data: Vec<u8> = (0..size).map(|_| self.random.below(256) as u8).collect();
        self.log.push(format!("write {path:?} {size}"));
        if self.model.get(&path) == Some(&None) {
            return;
        }
        let (parent, last) = (self.parent(&path), last(&path));
        match self.fs.create(parent, last) {
            Ok(()) => drop(self.model.insert(path.clone(), Some(Vec::new()))),
            Err(Error::Exists) => assert!(self.model.contains_key(&path)),
            Err(Error::NoSpace) => return,
            Err(e) => panic!("{e}"),
        }
        let file = self.fs.open_file(parent, last).expect("open");
        let off = self.random.below(2) * self.random.below(200);
        match self.fs.write(file, off as u64, &data) {
            Ok(()) if !data.is_empty() => {
                let held = self.model.get_mut(&path).and_then(Option::as_mut).expect("a file");
                if held.len() < off + data.len() {
                    held.resize(off + data.len(), 0);
                }
                held[off..off + data.len()].copy_from_slice(&data);
            }
            Ok(()) | Err(Error::NoSpace) => {}
            Err(e) => panic!("{e}"),
        }
        self.fs.close_file(file);
    }

    fn mkdir(&mut self) {
        let path = self.some_path();
        self.log.push(format!("mkdir {path:?}"));
        let parent = self.parent(&path);
        match self.fs.mkdir(parent, last(&path)) {
            Ok(_) => assert!(self.model.insert(path, None).is_none()),
            Err(Error::Exists) => assert!(self.model.contains_key(&path)),
            Err(Error::NoSpace) => {}
            Err(e) => panic!("{e}"),
        }
    }

    fn remove(&mut self) {
        let Some(path) = self.existing() else { return };
        self.log.push(format!("remove {path:?}"));
        let parent = self.parent(&path);
        if self.model[&path].is_some() {
            self.fs.unlink(parent, last(&path)).expect("unlink");
            self.model.remove(&path);
            return;
        }
        let is_below = |p: &Path| p.len() > path.len() && p.starts_with(&path);
        let is_empty = !self.model.keys().any(is_below);
        match self.fs.rmdir(parent, last(&path)) {
            Ok(()) => {
                assert!(is_empty);
                self.model.remove(&path);
            }
            Err(Error::NotEmpty) => assert!(!is_empty),
            Err(e) => panic!("{e}"),
        }
    }

    fn rename(&mut self) {
        let Some(from) = self.existing() else { return };
        let to = self.some_path();
        self.log.push(format!("rename {from:?} {to:?}"));
        let (from_dir, to_dir) = (self.parent(&from), self.parent(&to));
        let is_below = to.len() > from.len() && to.starts_with(&from);
        match self.fs.rename(from_dir, last(&from), to_dir, last(&to), false) {
            Ok(()) => {
                assert!(!is_below);
                if from != to {
                    self.moved(&from, &to);
                }
            }
            Err(Error::Invalid(what)) => assert!(is_below, "{what}\n{}", self.log.join("\n")),
            Err(Error::NotEmpty | Error::IsDirectory | Error::NotDirectory) => {
                assert!(self.model.contains_key(&to));
            }
            Err(Error::NoSpace) => {}
            Err(e) => panic!("{e}"),
        }
    }

    /// Give an entry, and everything below it, a new path in the model.
    fn moved(&mut self, from: &Path, to: &Path) {
        let of_it = |path: &&Path| path.starts_with(from);
        let paths: Vec<Path> = self.model.keys().filter(of_it).cloned().collect();
        self.model.remove(to);
        for path in paths {
            let entry = self.model.remove(&path).expect("there");
            self.model.insert([to, &path[from.len()..]].concat(), entry);
        }
    }

    fn truncate(&mut self) {
        let Some(path) = self.existing() else { return };
        let size = [0, 10, 70, 400, 3000][self.random.below(5)];
        self.log.push(format!("truncate {path:?} {size}"));
        if self.model[&path].is_none() {
            return;
        }
        let parent = self.parent(&path);
        let file = self.fs.open_file(parent, last(&path)).expect("open");
        match self.fs.truncate(file, size as u64) {
            Ok(()) => {
                let held = self.model.get_mut(&path).and_then(Option::as_mut).expect("a file");
                held.resize(size, 0);
            }
            Err(Error::NoSpace) => {}
            Err(e) => panic!("{e}"),
        }
        self.fs.close_file(file);
    }

    /// Flush. The image must be sound, and somebody who opens it must see what the model has.
    fn flush(&mut self) {
        self.log.push("flush".to_owned());
        let Self { dev, options, fs, model, log, .. } = self;
        fs.flush().unwrap_or_else(|e| panic!("flush: {e}\n{}", log.join("\n")));
        let report = check(dev.clone()).expect("check");
        assert!(report.findings.is_empty(), "{:#?}\n{}", report.findings, log.join("\n"));
        let mut again = Fs::open(dev.clone(), options).expect("open again");
        assert_eq!(read_tree(&mut again), *model, "{}", log.join("\n"));
        assert_eq!(
            again.usage().expect("usage").blocks_used,
            fs.usage().expect("usage").blocks_used,
            "blocks lost\n{}",
            log.join("\n")
        );
        if self.random.below(4) == 0 {
            self.fs = again;
        }
    }
}

/// The last name of a path.
fn last(path: &[String]) -> &[u8] {
    path.last().expect("not the root").as_bytes()
}

#[test]
fn small_blocks() {
    for seed in 0..60 {
        run(128, 400, 16, seed, 300);
    }
}

#[test]
fn small_blocks_programmed_whole() {
    for seed in 0..40 {
        run(128, 400, 128, seed, 300);
    }
}

#[test]
fn small_blocks_programmed_bytewise() {
    for seed in 0..60 {
        run(128, 160, 1, seed, 300);
    }
}

#[test]
fn ordinary_blocks() {
    for seed in 0..60 {
        run(512, 300, 16, seed, 400);
    }
}

#[test]
fn an_image_that_is_often_full() {
    for seed in 0..60 {
        run(512, 24, 16, seed, 400);
    }
}
