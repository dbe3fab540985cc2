//! A scenario that starts again after each power loss, at any point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::check::{Severity, check};
use littlefs::error::{Error, IoError, IoOp, Result};
use littlefs::fs::{FormatOptions, Fs, Node, OpenOptions};

use testkit::clfs::{CLfs, Config};
use testkit::ours::Ours;
use testkit::tree::{diff, split};

use super::fixture::{ATTR_TYPES, find_dir, geometry};

/// How many power losses are tried for one scenario. They are spread over all its writes.
const CUTS_MAX: u64 = 120;
/// After this many power losses, a run may finish.
const CUTS_EACH: u64 = 3;

/// A device that loses its power after a number of writes.
struct CutDevice {
    ram: RamDevice,
    left: AtomicU64,
    writes: AtomicU64,
    /// Whether only a part of the last write reaches the medium, up to a sector of 512 bytes.
    torn: bool,
}

impl CutDevice {
    fn new(geometry: Geometry, image: Vec<u8>, writes: u64, torn: bool) -> Self {
        let ram = RamDevice::from_image(geometry, image);
        Self { ram, left: writes.into(), writes: 0.into(), torn }
    }

    fn is_dead(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Whether a write takes place. The first one that does not is the end.
    fn spend(&self) -> bool {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let spent =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        spent.is_ok_and(|before| before > 1)
    }

    fn dead(op: IoOp) -> IoError {
        IoError { op, block: None, source: std::io::Error::other("no power") }
    }
}

impl BlockDevice for CutDevice {
    fn geometry(&self) -> Geometry {
        self.ram.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.ram.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let was_dead = self.is_dead();
        if self.spend() {
            return self.ram.prog(block, off, data);
        }
        let sectors = data.len() / 2 / 512 * 512;
        if self.torn && !was_dead && sectors > 0 {
            self.ram.prog(block, off, &data[..sectors])?;
        }
        Err(Self::dead(IoOp::Prog))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        if self.spend() { self.ram.erase(block) } else { Err(Self::dead(IoOp::Erase)) }
    }

    fn barrier(&self) -> IoResult<()> {
        if self.is_dead() { Err(Self::dead(IoOp::Sync)) } else { Ok(()) }
    }

    fn sync(&self) -> IoResult<()> {
        self.barrier()
    }
}

/// A filesystem by path, which is synced when the scenario asks for it.
pub struct World {
    pub fs: Fs,
}

impl World {
    fn place<'a>(&mut self, path: &'a str) -> Result<(littlefs::fs::DirId, &'a [u8])> {
        let (parent, name) = split(path.as_bytes()).expect("not the root");
        Ok((find_dir(&mut self.fs, parent)?, name))
    }

    /// What is at a path, if anything.
    pub fn stat(&mut self, path: &str) -> Result<Option<Node>> {
        let (dir, name) = match self.place(path) {
            Err(Error::NotFound) => return Ok(None),
            place => place?,
        };
        match self.fs.lookup(dir, name) {
            Ok(node) => Ok(Some(node)),
            Err(Error::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn has(&mut self, path: &str) -> bool {
        self.stat(path).expect("lookups work").is_some()
    }

    /// Create a directory, unless it exists.
    pub fn mkdir(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.place(path)?;
        match self.fs.mkdir(dir, name) {
            Ok(_) | Err(Error::Exists) => self.sync(),
            Err(e) => Err(e),
        }
    }

    /// Remove a file or an empty directory.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.place(path)?;
        match self.fs.lookup(dir, name)? {
            Node::Dir(_) => self.fs.rmdir(dir, name)?,
            Node::File { .. } => self.fs.unlink(dir, name)?,
        }
        self.sync()
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (to_dir, to_name) = self.place(to)?;
        let (dir, name) = self.place(from)?;
        self.fs.rename(dir, name, to_dir, to_name, false)?;
        self.sync()
    }

    /// Change a file without syncing it. If it does not exist, it is created.
    pub fn edit(
        &mut self,
        path: &str,
        body: impl FnOnce(&mut Fs, littlefs::fs::FileId) -> Result<()>,
    ) -> Result<()> {
        let (dir, name) = self.place(path)?;
        match self.fs.create(dir, name) {
            Ok(()) | Err(Error::Exists) => {}
            Err(e) => return Err(e),
        }
        let file = self.fs.open_file(dir, name)?;
        let result = body(&mut self.fs, file);
        self.fs.close_file(file);
        result
    }

    /// Replace the content of a file in one step.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.edit(path, |fs, file| {
            fs.truncate(file, 0)?;
            fs.write(file, 0, bytes)
        })?;
        self.sync()
    }

    /// The content of a file; `None` if it does not exist.
    pub fn get(&mut self, path: &str) -> Option<Vec<u8>> {
        let (dir, name) = self.place(path).ok()?;
        let file = self.fs.open_file(dir, name).ok()?;
        let plan = self.fs.read(file, 0, usize::MAX).expect("read");
        self.fs.close_file(file);
        Some(plan.run().expect("read"))
    }

    pub fn list(&mut self, path: &str) -> Vec<String> {
        let dir = find_dir(&mut self.fs, path.as_bytes()).expect("a directory");
        let names = self.fs.list(dir).expect("list");
        names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect()
    }

    pub fn sync(&mut self) -> Result<()> {
        self.fs.flush()
    }
}

/// Run a scenario to its end, on an empty image that it formats. The power is lost after each
/// number of writes (or of a sample of numbers, if there are many), and then twice more.
///
/// The scenario checks what it finds, because it cannot know how far it came before.
pub fn reentrant(
    config: &Config,
    cycles: Option<u32>,
    scenario: impl Fn(&mut World) -> Result<()>,
) {
    let options = OpenOptions {
        prog_size: Some(config.prog_size),
        block_cycles: cycles,
        ..OpenOptions::default()
    };
    let blank = vec![0xff; geometry(config).size() as usize];
    let run = |image: Vec<u8>, writes: u64, torn: bool| {
        let dev = Arc::new(CutDevice::new(geometry(config), image, writes, torn));
        let outcome = start(dev.clone(), &options).and_then(|fs| scenario(&mut World { fs }));
        if let Err(e) = &outcome {
            assert!(dev.is_dead(), "with power: {e}");
        }
        // A full drive of cut power is an outcome only if nothing was written afterwards.
        (outcome.is_ok(), dev.ram.image(), dev.writes.load(Ordering::Relaxed))
    };
    let (_, _, total) = run(blank.clone(), u64::MAX, false);
    for cut in (1..=total).step_by(total.div_ceil(CUTS_MAX) as usize) {
        let mut image = blank.clone();
        for round in 1.. {
            let writes = if round <= CUTS_EACH { cut / round + 1 } else { u64::MAX };
            let (finished, after, _) = run(image, writes, cut % 2 == 0);
            image = after;
            let name = format!("{config:?}, cut {cut} of {total}, round {round}");
            inspect(config, &image, &name);
            if finished {
                break;
            }
        }
    }
}

/// Open the image. If there is none, format it.
fn start(dev: Arc<CutDevice>, options: &OpenOptions) -> Result<Fs> {
    match Fs::open(dev.clone(), options) {
        Err(Error::Corrupt(_)) => {
            Fs::format(&*dev, &FormatOptions::default())?;
            Fs::open(dev, options)
        }
        other => other,
    }
}

/// Check after a power loss that nothing is broken, and that this library sees what C sees.
fn inspect(config: &Config, image: &[u8], name: &str) {
    let dev = Arc::new(RamDevice::from_image(geometry(config), image.to_vec()));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut ours = match Ours::open(geometry(config), image.to_vec(), &options) {
        Ok(ours) => ours,
        // Formatting was interrupted: there never was anything.
        Err(Error::Corrupt(_)) => return,
        Err(e) => panic!("{name}: {e}"),
    };
    let report = check(dev).expect("check");
    let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
    let mut c = CLfs::mount(image.to_vec(), config).unwrap_or_else(|e| panic!("{name}: {e}"));
    c.mkconsistent().unwrap_or_else(|e| panic!("{name}: {e}"));
    let theirs = c.tree(&ATTR_TYPES).unwrap_or_else(|e| panic!("{name}: {e}"));
    let tree = ours.tree().unwrap_or_else(|e| panic!("{name}: {e}"));
    diff("C", &theirs, "ours", &tree).unwrap_or_else(|lines| panic!("{name}:\n{lines}"));
}
