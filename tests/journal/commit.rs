//! Commits of a journal that are interrupted at any moment, and finished.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::journal::{Journal, Mode, Why, commit_to};
use littlefs::transactions::{At, Reason};
use parking_lot::Mutex;

use crate::fixture::{Fixture, MemoryFile, assert_same, geometry, last};
use crate::program::fails;
use crate::states::random_call;
use testkit::calls::{Call, Model, Subject};
use testkit::clfs::{CLfs, Config};
use testkit::mounted::{littlefs, output, run, wait_until};
use testkit::random::Random;
use testkit::tree::Tree;

/// A device that records what is written.
struct Recorder {
    ram: RamDevice,
    writes: Mutex<Vec<(u32, u32, Vec<u8>)>>,
}

impl Recorder {
    fn new(g: Geometry, image: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { ram: RamDevice::from_image(g, image), writes: Mutex::default() })
    }
}

impl BlockDevice for Recorder {
    fn geometry(&self) -> Geometry {
        self.ram.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.ram.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.writes.lock().push((block, off, data.to_vec()));
        self.ram.prog(block, off, data)
    }

    fn erase(&self, _block: u32) -> IoResult<()> {
        unreachable!("a commit copies bytes")
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        Ok(())
    }
}

/// An image with some content, a journal over it, what the image will become, and the tree in that.
struct Case {
    fixture: Fixture,
    journal: Arc<MemoryFile>,
    to_be: Vec<u8>,
    tree: Tree,
}

impl Case {
    fn new(g: Geometry, seed: u64) -> Self {
        let mut rng = Random(seed);
        let mut model = Model::new(255);
        let mut fill = |fixture: Fixture, flushes: usize| {
            let file = fixture.journal();
            let (dev, mut ours) = fixture.live(&file);
            for _ in 0..flushes {
                for _ in 0..8 {
                    let call: Call = random_call(&mut rng, model.tree());
                    let mut next = model.clone();
                    if next.apply(&call).is_ok() && ours.apply(&call).is_ok() {
                        model = next;
                    }
                }
                ours.fs.flush().expect("flush");
            }
            let mut to_be = vec![0; g.size() as usize];
            dev.read(0, 0, &mut to_be).expect("read");
            Self { fixture, journal: file, to_be, tree: model.tree().clone() }
        };
        let first = fill(Fixture::new(g), 4);
        fill(Fixture::over(g, first.to_be), 4)
    }
}

fn open(path: &Path, bytes: &[u8]) -> Journal {
    fs::write(path, bytes).expect("write");
    // A program that another test starts just now may hold a copy of a lock until it runs.
    let mut journal = None;
    wait_until("the lock to be free", || {
        journal = match Journal::open(path, Mode::Write) {
            Err(e) if matches!(e.why, Why::InUse(_)) => None,
            journal => Some(journal.expect("sound")),
        };
        journal.is_some()
    });
    journal.expect("open")
}

/// Whether everything except a commit refuses the two files.
fn is_refused(path: &Path, base: &dyn BlockDevice) -> bool {
    let journal = Journal::open(path, Mode::Read).expect("sound");
    match journal.check(base, 0) {
        Ok(()) => false,
        Err(e) => {
            assert!(matches!(e.why, Why::Journal(Reason::CommitBegun)), "{e}");
            assert!(e.to_string().contains("littlefs journal commit"), "{e}");
            true
        }
    }
}

#[test]
fn a_commit_interrupted_at_any_write_is_finished() {
    for (g, seed) in [(geometry(512, 256), 5), (geometry(4096, 64), 6)] {
        let case = Case::new(g, seed);
        let before = case.fixture.base.image();
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("j");
        let synced = case.journal.bytes();
        let base = Recorder::new(g, before.clone());
        let done = commit_to(open(&path, &synced), &base).expect("committed");
        assert_eq!((done.number, done.resumed), (last(&case.journal), false));
        assert!(base.ram.image() == case.to_be, "the image is what the journal said");
        let writes = std::mem::take(&mut *base.writes.lock());
        let after = fs::read(&path).expect("read");
        // the entries that begin and end it: head, fingerprint, checksum
        let entry = 48 + 32 + 4;
        assert_eq!(after.len(), synced.len() + 2 * entry);
        let begun = &after[..synced.len() + entry];

        let mut rng = Random(seed);
        let finish = |image: Vec<u8>, journal: &[u8], is_begun: bool| {
            let base = Recorder::new(g, image);
            fs::write(&path, journal).expect("write");
            assert_eq!(is_refused(&path, &*base), is_begun);
            let done = commit_to(open(&path, journal), &base).expect("finished");
            assert_eq!(done.resumed, is_begun);
            assert!(base.ram.image() == case.to_be, "the image is what the journal said");
            let journal = Journal::open(&path, Mode::Read).expect("sound");
            assert_eq!(journal.history().base, done.number);
            journal.check(&*base, 0).expect("goes on from there");
        };
        // while it begins
        for len in (synced.len()..begun.len()).step_by(7) {
            finish(before.clone(), &after[..len], false);
        }
        // after each write, and within it
        for k in (0..=writes.len()).step_by(writes.len().div_ceil(60)) {
            let mut image = before.clone();
            for (block, off, data) in &writes[..k] {
                apply(&mut image, g, *block, *off, data);
            }
            finish(image.clone(), begun, true);
            if let Some((block, off, data)) = writes.get(k) {
                // a sector is written as a whole
                let at = u64::from(*block) * u64::from(g.block_size) + u64::from(*off);
                let cut = (512 - at as usize % 512).min(data.len());
                apply(&mut image, g, *block, *off, &data[..cut]);
                finish(image, begun, true);
            }
        }
        // any of the writes in any order
        for _ in 0..40 {
            let mut image = before.clone();
            for (block, off, data) in writes.iter().filter(|_| rng.below(2) == 0) {
                apply(&mut image, g, *block, *off, data);
            }
            finish(image, begun, true);
        }
        // while it ends
        for len in (begun.len()..after.len()).step_by(7) {
            finish(case.to_be.clone(), &after[..len], true);
        }
        // another image is not touched
        let mut other = before.clone();
        // the newer superblock
        other[g.block_size as usize + 4] ^= 1;
        let other = Recorder::new(g, Fixture::over(g, other).base.image());
        let e = commit_to(open(&path, &synced), &other).expect_err("another image");
        assert!(matches!(e.why, Why::Journal(Reason::OtherImage { .. })), "{e}");
        let zeros = Recorder::new(g, vec![0; g.size() as usize]);
        let e = commit_to(open(&path, begun), &zeros).expect_err("another image");
        assert!(matches!(e.why, Why::Journal(Reason::OtherImage { .. })), "{e}");
        assert!(other.writes.lock().is_empty() && zeros.writes.lock().is_empty());

        // and C reads it
        let config = Config::new(g.block_size, g.block_count, 16);
        let mut c = CLfs::mount(case.to_be.clone(), &config).expect("C mounts it");
        assert_same("C", &case.tree, &c.tree(&[0x74]).expect("C reads it"));
    }
}

fn apply(image: &mut [u8], g: Geometry, block: u32, off: u32, data: &[u8]) {
    let at = (u64::from(block) * u64::from(g.block_size) + u64::from(off)) as usize;
    image[at..at + data.len()].copy_from_slice(data);
}

#[test]
fn until_it_is_finished_every_command_says_so() {
    let case = Case::new(geometry(4096, 64), 9);
    let scratch = tempfile::tempdir().expect("a directory");
    let (path, image) = (scratch.path().join("j"), scratch.path().join("image"));
    let base = Recorder::new(geometry(4096, 64), case.fixture.base.image());
    let synced = case.journal.bytes();
    commit_to(open(&path, &synced), &base).expect("committed");
    let journal = fs::read(&path).expect("read");
    fs::write(&path, &journal[..synced.len() + 84]).expect("write");
    // not even the superblock can be read
    let mut torn = case.fixture.base.image();
    torn[..8192].fill(0);
    fs::write(&image, &torn).expect("write");
    let words = ["its commit to the image was interrupted", "run 'littlefs journal commit'"];
    for mount in ["rw", "ro", "at=1"] {
        let mut command = littlefs();
        let options = format!("{mount},journal={}", path.display());
        command.args(["mount", "-o", &options]).arg(&image).arg(scratch.path());
        fails(&mut command, 32, &words);
    }
    for args in [
        vec!["show", "1"],
        vec!["diff", "0", "1"],
        vec!["revert"],
        vec!["squash"],
        vec!["save", "x"],
    ] {
        let mut command = littlefs();
        command.args(["journal", args[0]]).arg(&path).args(&args[1..]);
        if args[0] != "revert" && args[0] != "save" {
            command.arg("--image").arg(&image);
        }
        fails(&mut command, 1, &words);
    }
    let mut export = littlefs();
    export.args(["journal", "export", "--at", "1", "--image"]).arg(&image).arg(&path);
    fails(export.arg(scratch.path().join("out")), 1, &words);
    let said = output(littlefs().args(["journal", "verify"]).arg(&path));
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains(words[0]));
    let said = run(littlefs().args(["journal", "log"]).arg(&path));
    assert!(said.contains("whose commit was interrupted"), "{said}");
    // what was torn is in the journal only where it changed
    fs::write(&image, case.fixture.base.image()).expect("write");
    let said = run(littlefs().args(["journal", "commit"]).arg(&path).arg(&image));
    assert!(said.contains("finished committing"), "{said}");
    assert!(fs::read(&image).expect("read") == case.to_be);
    let journal = Journal::open(&path, Mode::Read).expect("sound");
    assert_eq!(journal.history().find(&At::Last).expect("there"), journal.history().base);
}
