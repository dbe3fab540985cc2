//! What is checked for every crash image: by both filesystems and by the verifier.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::check::{Severity, check};
use littlefs::fs::{Fs, OpenOptions};
use littlefs::image::{Located, locate};

use super::script::{ATTR, ID, NAME_MAX, Setup};
use testkit::calls::{Call, Fail, Model, Subject, pattern};
use testkit::clfs::{CError, CLfs, Info};
use testkit::ours::Ours;
use testkit::tree::{Entry, Tree, diff, join, show};

/// Notes that the first write must have removed.
const PENDING: [&str; 4] = ["sync-pending", "move-pending", "half-orphan", "orphan"];

/// Fail if there are errors, or if the image as a file would not be opened for writing; and if
/// `settled`, also if there is anything unfinished.
pub fn sound(setup: &Setup, image: &[u8], settled: bool) -> Result<(), String> {
    recognised(image)?;
    let dev = Arc::new(RamDevice::from_image(setup.geometry(), image.to_vec()));
    let report = check(dev).map_err(|e| format!("check: {e}"))?;
    match report
        .findings
        .iter()
        .find(|f| f.severity == Severity::Error || (settled && PENDING.contains(&f.code)))
    {
        Some(f) => Err(format!("check: {} at {}: {}", f.code, f.place, f.message)),
        None => Ok(()),
    }
}

/// Fail unless the superblocks that a crash left show without doubt that the filesystem starts at
/// byte 0.
fn recognised(image: &[u8]) -> Result<(), String> {
    match locate(&image, 0, u64::MAX) {
        Ok(Located::Superblock(found)) if found.at == 0 && found.doubt.is_none() => Ok(()),
        other => Err(format!("recognising: {other:?}")),
    }
}

/// What this library reads from an image.
pub fn read(setup: &Setup, image: &[u8]) -> Result<Tree, String> {
    Ours::open(setup.geometry(), image.to_vec(), &setup.options(true))
        .and_then(|mut ours| ours.tree())
        .map_err(|e| format!("reading: {e}"))
}

/// Calls that are possible on any image: creating, renaming from directory to directory, removing.
fn more_calls(tree: &Tree) -> Vec<Call> {
    let mut calls = vec![
        Call::Create(b"~new".to_vec()),
        Call::Write { path: b"~new".to_vec(), off: 0, len: 9, seed: 7 },
        Call::Mkdir(b"~dir".to_vec()),
    ];
    let mut files = tree.iter().filter(|(_, e)| !e.is_dir()).map(|(path, _)| path);
    if let Some(path) = files.next_back() {
        let to = b"~dir/moved".to_vec();
        calls.push(Call::Rename { from: path.clone(), to, no_replace: false });
    }
    if let Some(path) = files.next() {
        calls.push(Call::Unlink(path.clone()));
    }
    if let Some(path) = files.next() {
        calls.push(Call::Write { path: path.clone(), off: 5, len: 150, seed: 9 });
    }
    calls
}

fn apply(ours: &mut Ours, model: &mut Model, call: &Call) -> Result<(), String> {
    let mut next = model.clone();
    match (ours.apply(call), next.apply(call)) {
        (Ok(()), Ok(())) => *model = next,
        (Err(Fail::NoSpace), _) | (Err(_), Err(_)) => {}
        (got, expected) => return Err(format!("{call:?}: {got:?}, not {expected:?}")),
    }
    Ok(())
}

/// Create `~new`, and with `further` do more. Everything in `tree` must stay, and what was
/// unfinished must be finished.
pub fn goes_on(setup: &Setup, image: &[u8], tree: &Tree, further: bool) -> Result<(), String> {
    let mut ours = Ours::open(setup.geometry(), image.to_vec(), &setup.options(false))
        .map_err(|e| format!("opening: {e}"))?;
    if ours.fs.is_read_only() {
        return Err(format!("opened read-only: {:?}", ours.fs.warnings()));
    }
    let mut model = Model::from_tree(tree.clone(), NAME_MAX);
    let calls = more_calls(tree);
    let (first, rest) = calls.split_at(2);
    for calls in [first, if further { rest } else { &[] }] {
        if calls.is_empty() {
            break;
        }
        for call in calls {
            apply(&mut ours, &mut model, call)?;
        }
        match ours.fs.flush() {
            Ok(()) => {}
            Err(littlefs::Error::NoSpace) => return sound(setup, &ours.image(), false),
            Err(e) => return Err(format!("flush: {e}")),
        }
        let changed = model.tree().len() != tree.len();
        sound(setup, &ours.image(), changed)?;
        let found = read(setup, &ours.image())?;
        diff("what was written", model.tree(), "the image", &found)?;
    }
    Ok(())
}

fn fail(what: &'static str) -> impl Fn(CError) -> String {
    move |e| format!("{what}: {e}")
}

/// Which of [`PENDING`] the verifier notes.
fn pending(setup: &Setup, image: &[u8]) -> Result<Vec<&'static str>, String> {
    let dev = Arc::new(RamDevice::from_image(setup.geometry(), image.to_vec()));
    let report = check(dev).map_err(|e| format!("check: {e}"))?;
    let codes = report.findings.iter().map(|finding| finding.code);
    Ok(codes.filter(|code| PENDING.contains(code)).collect())
}

/// How many blocks are in use according to this library.
fn blocks_used(setup: &Setup, image: &[u8]) -> Result<usize, String> {
    let dev = Arc::new(RamDevice::from_image(setup.geometry(), image.to_vec()));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let usage = Fs::open(dev, &options).and_then(|mut fs| fs.usage());
    usage.map(|u| u.blocks_used as usize).map_err(|e| format!("usage: {e}"))
}

/// Read every file that C lists. While a move is pending, the driver itself cannot open the entry
/// after the one that is moved.
fn read_all(c: &mut CLfs, moving: bool) -> Result<(), String> {
    let mut todo = vec![Vec::new()];
    while let Some(dir) = todo.pop() {
        let entries = match c.list(&dir) {
            Ok(entries) => entries,
            Err(CError::NoEnt) if moving => continue,
            Err(e) => return Err(format!("C littlefs, list {}: {e}", show(&dir))),
        };
        for (name, info) in entries {
            let path = join(&dir, &name);
            match info {
                Info::Dir => todo.push(path),
                Info::File { .. } => match c.read_file(&path) {
                    Ok(_) => {}
                    Err(CError::NoEnt) if moving => {}
                    Err(e) => return Err(format!("C littlefs, read {}: {e}", show(&path))),
                },
            }
        }
    }
    Ok(())
}

/// The C driver mounts the image, reads every file that it lists, and finishes what is unfinished
/// without losing anything.
pub fn c_goes_on(setup: &Setup, image: &[u8], tree: &Tree) -> Result<(), String> {
    let mut c = CLfs::mount(image.to_vec(), &setup.c_config()).map_err(fail("mount"))?;
    let pending = pending(setup, image)?;
    let moving = pending.contains(&"move-pending");
    // If nothing is unfinished, the driver changes nothing before everything is read below.
    if !pending.is_empty() {
        read_all(&mut c, moving)?;
    }
    // The driver does not see the entry behind one that moves, so neither its blocks: to finish the
    // move it may put a split over them. Nothing that is written here can prevent that.
    let blind = moving && c.blocks().map_err(fail("traverse"))?.len() < blocks_used(setup, image)?;
    match c.mkconsistent() {
        Ok(()) => {}
        Err(CError::NoSpc) => return Ok(()),
        Err(e) => return Err(fail("mkconsistent")(e)),
    }
    let found = c.tree(&[ID, ATTR]).map_err(fail("tree"))?;
    match diff("we", tree, "C littlefs", &found) {
        Err(_) if blind => return Ok(()),
        compared => compared?,
    }
    let mut expected = tree.clone();
    let bytes = pattern(3, 30);
    match c.write_file(b"~from-c", &bytes) {
        Ok(()) => _ = expected.insert(b"~from-c".to_vec(), Entry::file(bytes)),
        // without space for the name's commit, the driver blames the name
        Err(CError::NoSpc | CError::NameTooLong) => return Ok(()),
        Err(e) => return Err(fail("write")(e)),
    }
    // the attributes, which C looks up one by one, are compared below
    let found = c.tree(&[]).map_err(fail("tree after write"))?;
    let mut bare = expected.clone();
    bare.values_mut().for_each(|entry| entry.attrs.clear());
    diff("expected", &bare, "C littlefs after its write", &found)?;
    let image = c.unmount();
    sound(setup, &image, true)?;
    diff("expected", &expected, "we after a write by C", &read(setup, &image)?)
}
