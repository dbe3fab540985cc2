//! Random histories of filesystems, made by the C driver. Every version of every file is known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Finding, Severity, check};
use littlefs::disk::GState;
use littlefs::disk::log::{Parsed, parse};
use littlefs::recover::{Grade, Recovered, Recovery, recover};

use testkit::clfs::{CError, CLfs, Config, V2_1};
use testkit::random::Random;

/// The content of a file.
fn content(random: &mut Random, len: usize) -> Vec<u8> {
    // some content is mostly erased bytes, or zeros, or small numbers like pointers
    let kind = random.below(8);
    (0..len)
        .map(|i| match kind {
            0 if random.below(20) > 0 => 0xff,
            1 => 0,
            2 if i % 4 > 0 => 0,
            2 => random.below(64) as u8,
            _ => random.below(256) as u8,
        })
        .collect()
}

/// The parameters of a history.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub block_size: u32,
    pub block_count: u32,
    pub prog_size: u32,
    /// How many directories there are, without the root.
    pub dirs: usize,
    /// How many names of files there are in each directory.
    pub names: usize,
    /// Whether all larger files have the same size. Then new files get exactly the blocks of old
    /// ones.
    pub same_size: bool,
    /// The erases after which a pair moves; -1 for never.
    pub block_cycles: i32,
    /// One of how many operations is interrupted by a loss of power; 0 for none.
    pub power_cuts: usize,
}

/// A filesystem, and everything that it has ever held.
pub struct Past {
    pub c: CLfs,
    pub config: Config,
    shape: Shape,
    random: Random,
    /// For each path, every content that it has had.
    pub versions: HashMap<Vec<u8>, HashSet<Vec<u8>>>,
    pub present: BTreeMap<Vec<u8>, Vec<u8>>,
    dirs: BTreeSet<Vec<u8>>,
    /// Whether the power fails during the present operation, or did.
    cut: bool,
    /// The paths that this operation changes.
    touched: Vec<Vec<u8>>,
    /// How many operations were interrupted.
    pub interrupted: u64,
    /// Whether the image was damaged.
    damaged: bool,
    /// Whether the driver cannot read what is there, so that nothing can be compared. Without
    /// damage, this was seen with a file that it had just truncated.
    pub spoilt: bool,
}

impl Past {
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self::of_version(shape, V2_1, seed)
    }

    /// A history in this disk version.
    pub fn of_version(shape: Shape, disk_version: u32, seed: u64) -> Self {
        let mut config = Config::new(shape.block_size, shape.block_count, shape.prog_size);
        config.block_cycles = shape.block_cycles;
        config.disk_version = disk_version;
        let c = CLfs::fresh(&config).expect("a new filesystem");
        let dirs = BTreeSet::from([Vec::new()]);
        Self {
            c,
            config,
            shape,
            random: Random(seed),
            versions: HashMap::new(),
            present: BTreeMap::new(),
            dirs,
            cut: false,
            touched: Vec::new(),
            interrupted: 0,
            damaged: false,
            spoilt: false,
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let dirs: Vec<_> = self.dirs.iter().cloned().collect();
        let dir = dirs[self.random.below(dirs.len())].clone();
        let name = format!("f{}", self.random.below(self.shape.names));
        if dir.is_empty() { name.into_bytes() } else { [&dir[..], b"/", name.as_bytes()].concat() }
    }

    fn file(&mut self) -> Option<Vec<u8>> {
        let files: Vec<_> = self.present.keys().cloned().collect();
        files.get(self.random.below(files.len())).cloned()
    }

    fn size(&mut self) -> usize {
        let block_size = self.shape.block_size as usize;
        match self.random.below(4) {
            0 => self.random.below(24),
            _ if self.shape.same_size => block_size * 2 + block_size / 2,
            1 => block_size + self.random.below(3) * (block_size - 4) + self.random.below(2),
            _ => 24 + self.random.below(5 * block_size),
        }
    }

    /// Whether an operation ended as it may.
    fn expect(&mut self, done: Result<(), CError>) {
        match done {
            Ok(()) | Err(CError::NoSpc) => {}
            Err(CError::Io) if self.cut => {}
            Err(e) => self.spoil(e),
        }
    }

    /// Note an error that can happen only if something that the driver needs is damaged.
    fn spoil(&mut self, e: CError) {
        assert!(self.damaged || e == CError::Corrupt, "{e}");
        self.spoilt = true;
    }

    /// Note what is there now under a path; with the power gone, after the next start.
    fn note(&mut self, path: &[u8]) {
        if self.cut {
            return self.touched.push(path.to_vec());
        }
        match self.c.read_file(path) {
            Ok(bytes) => {
                self.versions.entry(path.to_vec()).or_default().insert(bytes.clone());
                self.present.insert(path.to_vec(), bytes);
            }
            Err(CError::NoEnt) => _ = self.present.remove(path),
            Err(e) => {
                self.present.remove(path);
                self.spoil(e);
            }
        }
    }

    /// Called during an operation whose power may fail, with the content that it writes to a path.
    /// If it is interrupted, that content may be in the commit of a new pair that nothing names
    /// yet.
    fn intend(&mut self, path: &[u8], bytes: Vec<u8>) {
        if self.cut {
            self.versions.entry(path.to_vec()).or_default().insert(bytes);
        }
    }

    pub fn write(&mut self, path: &[u8], bytes: &[u8]) {
        self.versions.entry(path.to_vec()).or_default().insert(Vec::new());
        self.intend(path, bytes.to_vec());
        let written = self.c.write_file(path, bytes);
        self.expect(written);
        self.note(path);
    }

    pub fn remove(&mut self, path: &[u8]) {
        let removed = self.c.remove(path);
        self.expect(removed);
        self.note(path);
    }

    /// One more operation, which a loss of power may interrupt.
    pub fn step(&mut self) {
        if self.shape.power_cuts > 0 && self.random.below(self.shape.power_cuts) == 0 {
            let writes = self.random.below(16) as u64;
            self.c.cut_power_after(writes);
            self.cut = true;
        }
        self.change();
        if std::mem::take(&mut self.cut) {
            self.interrupted += 1;
            self.remount();
            for path in std::mem::take(&mut self.touched) {
                self.note(&path);
            }
            self.find_dirs();
        }
    }

    fn change(&mut self) {
        match self.random.below(20) {
            0..8 => {
                let (path, size) = (self.path(), self.size());
                let bytes = content(&mut self.random, size);
                self.write(&path, &bytes);
            }
            8..13 => {
                if let Some(path) = self.file() {
                    self.remove(&path);
                }
            }
            13 | 14 => {
                if let Some(path) = self.file() {
                    let size = self.size();
                    let bytes = content(&mut self.random, size);
                    self.intend(&path, [&self.present[&path][..], &bytes].concat());
                    let appended = self.c.append(&path, &bytes);
                    self.expect(appended);
                    self.note(&path);
                }
            }
            15 => {
                if let Some(path) = self.file() {
                    let at = self.random.below(self.present[&path].len() + 1);
                    let bytes = content(&mut self.random, 17);
                    let mut content = self.present[&path].clone();
                    content.resize(content.len().max(at + bytes.len()), 0);
                    content[at..at + bytes.len()].copy_from_slice(&bytes);
                    self.intend(&path, content);
                    let written = self.c.write_at(&path, at as u32, &bytes);
                    self.expect(written);
                    self.note(&path);
                }
            }
            16 => {
                if let Some(path) = self.file() {
                    let to = self.random.below(self.present[&path].len() + 1);
                    self.intend(&path, self.present[&path][..to].to_vec());
                    let cut = self.c.truncate(&path, to as u32);
                    self.expect(cut);
                    self.note(&path);
                }
            }
            17 => {
                if let Some(from) = self.file() {
                    let to = self.path();
                    self.intend(&to, self.present[&from].clone());
                    let renamed = self.c.rename(&from, &to);
                    self.expect(renamed);
                    self.note(&from);
                    self.note(&to);
                }
            }
            18 => {
                if self.shape.dirs == 0 {
                    return;
                }
                let dir = format!("d{}", self.random.below(self.shape.dirs)).into_bytes();
                if !self.dirs.contains(&dir) && self.c.mkdir(&dir).is_ok() {
                    self.dirs.insert(dir);
                } else if self.c.remove(&dir).is_ok() {
                    self.dirs.remove(&dir);
                }
            }
            _ => self.remount(),
        }
    }

    /// Create all directories.
    pub fn make_dirs(&mut self) {
        for n in 0..self.shape.dirs {
            let dir = format!("d{n}").into_bytes();
            self.c.mkdir(&dir).expect("made");
            self.dirs.insert(dir);
        }
    }

    /// Do one more operation on files that were created without a name of their own, while
    /// directories stay.
    pub fn step_of_others(&mut self) {
        let others: BTreeMap<_, _> = { std::mem::take(&mut self.present) };
        let (named, rest) = others.into_iter().partition(|(path, _)| is_victim(path));
        self.present = rest;
        let dirs = std::mem::replace(&mut self.shape.dirs, 0);
        self.step();
        self.shape.dirs = dirs;
        let named: BTreeMap<_, _> = named;
        self.present.extend(named);
    }

    /// Cut the power and mount again. After that, the driver looks for free blocks in another
    /// place.
    fn remount(&mut self) {
        let image = self.c.image();
        match CLfs::mount(image, &self.config) {
            Ok(c) => self.c = c,
            Err(e) => self.spoil(e),
        }
    }

    /// Go on with a damaged image. Returns false if that could make assertions of the driver fail:
    /// if the image has errors besides commits that are hidden, or a part of a global state.
    pub fn go_on_with(&mut self, image: Vec<u8>) -> bool {
        let Ok(report) = check(Arc::new(device(image.clone(), self.shape))) else { return false };
        let is_hidden = |finding: &Finding| finding.code == "commits-hidden";
        let is_odd = report.findings.iter().any(|f| f.severity == Severity::Error && !is_hidden(f));
        let has_delta = |block: &[u8]| match parse(block, block.len()) {
            Parsed::Log(log) => log.gdelta != GState::default(),
            _ => false,
        };
        if is_odd || image.chunks(self.shape.block_size as usize).any(has_delta) {
            return false;
        }
        // a damaged byte may look erased, and then the driver writes over what is behind it
        self.config.strict_erase = false;
        let Ok(c) = CLfs::mount(image, &self.config) else { return false };
        self.c = c;
        self.damaged = true;
        let paths: Vec<_> = self.versions.keys().cloned().collect();
        for path in paths {
            match self.c.read_file(&path) {
                Ok(_) => self.note(&path),
                Err(_) => _ = self.present.remove(&path),
            }
        }
        self.find_dirs();
        true
    }

    /// Find the directories that are there now.
    fn find_dirs(&mut self) {
        let dirs = (0..self.shape.dirs).map(|n| format!("d{n}").into_bytes());
        self.dirs = dirs.filter(|dir| self.c.stat(dir).is_ok()).chain([Vec::new()]).collect();
    }

    /// Format over the present filesystem.
    pub fn format(&mut self) {
        let (image, done) = CLfs::interrupted_format(self.c.image(), &self.config, u64::MAX);
        assert!(done);
        self.present.clear();
        self.dirs = BTreeSet::from([Vec::new()]);
        self.c = CLfs::mount(image, &self.config).expect("mounts");
    }

    /// What is found now.
    pub fn recover(&mut self) -> (Recovery, RamDevice) {
        recovered(self.c.image(), self.shape)
    }

    /// Whether a path has ever had this content. If the directory is not known, only the name is
    /// compared.
    pub fn had(&self, path: &[u8], placed: bool, bytes: &[u8]) -> bool {
        if placed {
            return self.versions.get(path).is_some_and(|versions| versions.contains(bytes));
        }
        let name = |path: &[u8]| path.rsplit(|&b| b == b'/').next().map(<[u8]>::to_vec);
        let same = self.versions.iter().filter(|(p, _)| name(p) == name(path));
        { same }.any(|(_, versions)| versions.contains(bytes))
    }

    /// Recover, and return what is wrong with the results. Adds the numbers of checked and complete
    /// results to `sure`. After a loss of power, this leaves out the complete results that say that
    /// an interrupted write could have changed them.
    pub fn faults(&self, sure: &mut [usize; 2]) -> Vec<String> {
        self.faults_in(self.c.image(), sure)
    }

    /// The same for this image.
    pub fn faults_in(&self, image: Vec<u8>, sure: &mut [usize; 2]) -> Vec<String> {
        let (recovery, device) = recovered(image, self.shape);
        let mut faults = Vec::new();
        let was_cut = self.interrupted > 0;
        let relies = |file: &Recovered| {
            file.reasons.iter().any(|reason| reason.contains("interrupted before its commit"))
        };
        let all = recovery.files.iter().filter(|file| file.grade != Grade::Partial);
        for file in all.filter(|file| !(was_cut && relies(file))) {
            sure[usize::from(file.grade == Grade::Complete)] += 1;
            let path = file.path.as_deref().expect("a path");
            let bytes = file.content(&device).expect("readable");
            if !self.had(path, file.placed, &bytes) {
                let path = String::from_utf8_lossy(path);
                faults.push(format!("{path}, {}: {:?}", file.grade, file.origin));
            }
        }
        faults
    }
}

fn is_victim(path: &[u8]) -> bool {
    path.windows(6).any(|word| word == b"victim")
}

pub fn recovered(image: Vec<u8>, shape: Shape) -> (Recovery, RamDevice) {
    let device = device(image, shape);
    (recover(&device, &|_| ()).expect("readable"), device)
}

fn device(image: Vec<u8>, shape: Shape) -> RamDevice {
    let geometry = Geometry::new(shape.block_size, shape.block_count).expect("possible");
    RamDevice::from_image(geometry, image)
}
