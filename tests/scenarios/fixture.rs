//! An image of this library, a model of its content, and the judges after each power cycle.

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::error::{Error, Result};
use littlefs::fs::{DirId, FileId, FormatOptions, Fs, Node, OpenOptions, ROOT};

use testkit::calls::{Call, Fail, Model, Subject};
use testkit::clfs::{CLfs, Config};
use testkit::ours::Ours;
use testkit::tree::{Kind, Tree, diff, split};

/// The types of attributes that the scenarios use.
pub const ATTR_TYPES: [u8; 4] = *b"ABCD";

/// The filesystem of this library that is tested.
pub struct Fixture {
    pub config: Config,
    options: OpenOptions,
    pub ours: Ours,
    pub model: Model,
    /// Notes of the verifier that are allowed for this image.
    pub notes: &'static [&'static str],
}

/// Geometries that most scenarios run over: block size, block count, prog size.
pub const GEOMETRIES: [(u32, u32, u32); 4] =
    [(512, 1024, 16), (512, 1024, 512), (4096, 256, 256), (8192, 128, 64)];

/// Run a scenario on a new image of each geometry. The judges check the result.
pub fn on_each_geometry(scenario: impl Fn(&mut Fixture)) {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut fixture = Fixture::new(Config::new(block_size, block_count, prog_size));
        scenario(&mut fixture);
        fixture.power_cycle();
    }
}

impl Fixture {
    /// A fresh image.
    pub fn new(config: Config) -> Self {
        let options = OpenOptions { prog_size: Some(config.prog_size), ..OpenOptions::default() };
        Self::with(config, options)
    }

    /// A fresh image whose pairs move after this many erases.
    pub fn with_cycles(config: Config, cycles: u32) -> Self {
        let prog_size = Some(config.prog_size);
        let options =
            OpenOptions { prog_size, block_cycles: Some(cycles), ..OpenOptions::default() };
        Self::with(config, options)
    }

    /// A fresh image, opened like this.
    pub fn with(config: Config, options: OpenOptions) -> Self {
        let format =
            FormatOptions { disk_version: config.disk_version, ..FormatOptions::default() };
        let image = Ours::format(geometry(&config), &format).expect("format");
        let ours = Ours::open(geometry(&config), image, &options).expect("open");
        Self { config, options, ours, model: Model::new(255), notes: &[] }
    }

    /// An image from elsewhere with this tree.
    pub fn over(config: Config, image: Vec<u8>, tree: Tree) -> Self {
        let options = OpenOptions { prog_size: Some(config.prog_size), ..OpenOptions::default() };
        let ours = Ours::open(geometry(&config), image, &options).expect("open");
        let model = Model::from_tree(tree, 255);
        let mut fixture = Self { config, options, ours, model, notes: &[] };
        fixture.compare("when opened");
        fixture
    }

    /// Perform a call in this library and in the model. The results must agree.
    pub fn apply(&mut self, call: &Call) -> std::result::Result<(), Fail> {
        let mut next = self.model.clone();
        let expected = next.apply(call);
        let outcome = self.ours.apply(call);
        match (&expected, &outcome) {
            (Ok(()), Ok(())) => self.model = next,
            (_, Err(Fail::NoSpace)) => {}
            _ => assert_eq!(outcome, expected, "{call:?}"),
        }
        outcome
    }

    pub fn ok(&mut self, call: Call) {
        self.apply(&call).unwrap_or_else(|e| panic!("{call:?}: {e:?}"));
    }

    pub fn fails(&mut self, call: Call, why: Fail) {
        assert_eq!(self.apply(&call), Err(why), "{call:?}");
    }

    pub fn mkdir(&mut self, path: &str) {
        self.ok(mkdir(path));
    }

    pub fn create(&mut self, path: &str) {
        self.ok(create(path));
    }

    /// Write into an existing file.
    pub fn write(&mut self, path: &str, off: u32, len: u32, seed: u8) {
        self.ok(write(path, off, len, seed));
    }

    /// Replace the content of a file. If the file does not exist, it is created.
    pub fn fill(&mut self, path: &str, len: u32, seed: u8) {
        if self.model.tree().contains_key(path.as_bytes()) {
            self.truncate(path, 0);
        } else {
            self.create(path);
        }
        self.write(path, 0, len, seed);
    }

    pub fn truncate(&mut self, path: &str, size: u32) {
        self.ok(truncate(path, size));
    }

    pub fn unlink(&mut self, path: &str) {
        self.ok(unlink(path));
    }

    pub fn rmdir(&mut self, path: &str) {
        self.ok(rmdir(path));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.ok(rename(from, to));
    }

    /// The names in a directory, in the order in which this library lists them.
    pub fn names(&mut self, path: &str) -> Vec<String> {
        let dir = find_dir(&mut self.ours.fs, path.as_bytes()).expect("a directory");
        let names = self.ours.fs.list(dir).expect("list");
        names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect()
    }

    /// Keep a file open.
    pub fn open(&mut self, path: &str) -> FileId {
        self.ours.open_file(path.as_bytes()).expect("open a file")
    }

    /// The bytes `off..off + len` of a file, as far as there are any.
    pub fn read(&mut self, path: &str, off: u64, len: usize) -> Vec<u8> {
        let file = self.open(path);
        let plan = self.ours.fs.read(file, off, len).expect("read");
        self.ours.fs.close_file(file);
        plan.run().expect("read")
    }

    /// The bytes of a file in the model.
    pub fn expected(&self, path: &str) -> Vec<u8> {
        self.model.bytes(path.as_bytes()).to_vec()
    }

    /// How many blocks are free.
    pub fn free(&mut self) -> u32 {
        self.ours.fs.usage().expect("usage").blocks_free
    }

    /// Make everything durable.
    pub fn flush(&mut self) {
        self.ours.fs.flush().expect("flush");
        assert!(!self.ours.fs.is_dirty(), "dirty after a flush");
    }

    /// Compare the content of this library with the model.
    pub fn compare(&mut self, when: &str) {
        let tree = self.ours.tree().unwrap_or_else(|e| panic!("we cannot read {when}: {e}"));
        diff("the model", self.model.tree(), "ours", &tree)
            .unwrap_or_else(|lines| panic!("{when}, {:?}:\n{lines}", self.config));
    }

    /// Flush, let the judges check the image, and continue with it.
    pub fn power_cycle(&mut self) {
        self.compare("before a power cycle");
        self.flush();
        let image = self.ours.image();
        judge(&self.config, &image, self.model.tree(), self.notes);
        let used = self.ours.fs.usage().expect("usage").blocks_used;
        self.ours = Ours::open(geometry(&self.config), image, &self.options).expect("open again");
        assert!(self.ours.fs.warnings().is_empty(), "{:?}", self.ours.fs.warnings());
        assert_eq!(self.ours.fs.usage().expect("usage").blocks_used, used, "blocks used");
        self.compare("after a power cycle");
    }
}

/// The directory with this path. The path of the root is empty.
pub fn find_dir(fs: &mut Fs, path: &[u8]) -> Result<DirId> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty()).try_fold(ROOT, |dir, name| match fs
        .lookup(
        dir, name,
    )? {
        Node::Dir(dir) => Ok(dir),
        Node::File { .. } => Err(Error::NotDirectory),
    })
}

/// The geometry of a configuration.
pub fn geometry(config: &Config) -> Geometry {
    Geometry::new(config.block_size, config.block_count).expect("a possible geometry")
}

/// Check that the verifier finds only these notes, and that C reads this tree and has nothing to
/// repair.
pub fn judge(config: &Config, image: &[u8], want: &Tree, notes: &[&str]) {
    let dev = Arc::new(RamDevice::from_image(geometry(config), image.to_vec()));
    let report = check(dev).expect("check");
    let expected = report.is_clean() && report.findings.iter().all(|f| notes.contains(&f.code));
    assert!(expected, "{config:?}: {:#?}", report.findings);
    let mut c = CLfs::mount(image.to_vec(), config).expect("C mounts what we wrote");
    let tree = c.tree(&ATTR_TYPES).expect("C reads what we wrote");
    diff("expected", want, "C", &tree).unwrap_or_else(|lines| panic!("{config:?}:\n{lines}"));
    c.mkconsistent().expect("mkconsistent");
    assert_eq!(c.image(), image, "C found something to repair");
}

pub fn mkdir(path: &str) -> Call {
    Call::Mkdir(path.into())
}

pub fn create(path: &str) -> Call {
    Call::Create(path.into())
}

pub fn write(path: &str, off: u32, len: u32, seed: u8) -> Call {
    Call::Write { path: path.into(), off, len, seed }
}

pub fn truncate(path: &str, size: u32) -> Call {
    Call::Truncate { path: path.into(), size }
}

pub fn unlink(path: &str) -> Call {
    Call::Unlink(path.into())
}

pub fn rmdir(path: &str) -> Call {
    Call::Rmdir(path.into())
}

pub fn rename(from: &str, to: &str) -> Call {
    Call::Rename { from: from.into(), to: to.into(), no_replace: false }
}

/// The names of the entries of a directory in a tree, for comparing sets.
pub fn children(tree: &Tree, dir: &str) -> Vec<String> {
    tree.keys()
        .filter_map(|path| split(path))
        .filter(|(parent, _)| *parent == dir.as_bytes())
        .map(|(_, name)| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// The bytes of all files in a tree together.
pub fn data_bytes(tree: &Tree) -> usize {
    tree.values().map(|e| if let Kind::File(bytes) = &e.kind { bytes.len() } else { 0 }).sum()
}
