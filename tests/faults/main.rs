//! Failing hardware: an error at each device call in turn, bad blocks of every kind, and devices
//! that fail completely.

mod device;
mod failing_device;
mod moves;
mod panics;

use std::sync::Arc;

use littlefs::bd::emu::{BadBlock, Call as DeviceCall, EmuDevice};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::error::{Error, IoOp};
use littlefs::fs::{FormatOptions, Fs, OpenOptions};
use testkit::calls::{Call, Fail, Model, Subject};
use testkit::clfs::{CLfs, Config};
use testkit::ours::Ours;
use testkit::tree::{Tree, diff};

const BLOCK_SIZE: u32 = 512;
const BLOCK_COUNT: u32 = 64;
const PROG_SIZE: u32 = 16;

fn geometry() -> Geometry {
    Geometry::new(BLOCK_SIZE, BLOCK_COUNT).expect("geometry")
}

fn options() -> OpenOptions {
    OpenOptions { prog_size: Some(PROG_SIZE), ..OpenOptions::default() }
}

/// The content of the image before the faults.
fn prepared() -> (Vec<u8>, Model) {
    let image = Ours::format(geometry(), &FormatOptions::default()).expect("format");
    let mut ours = Ours::open(geometry(), image, &options()).expect("open");
    let mut model = Model::new(255);
    let mut calls = vec![Call::Mkdir(b"d".into()), Call::Mkdir(b"e".into())];
    for i in 0..12 {
        let path = format!("d/file-{i:02}").into_bytes();
        calls.push(Call::Create(path.clone()));
        calls.push(Call::Write { path, off: 0, len: 5 + 60 * i, seed: 1 + i as u8 });
    }
    for call in &calls {
        ours.apply(call).expect("preparing");
        model.apply(call).expect("preparing");
    }
    ours.fs.flush().expect("flush");
    (ours.image(), model)
}

/// Calls of all kinds, with a flush after each inner list.
fn workload() -> Vec<Vec<Call>> {
    let path = |s: &str| s.as_bytes().to_vec();
    let rename =
        |from: &str, to: &str| Call::Rename { from: path(from), to: path(to), no_replace: false };
    let write = |p: &str, off, len| Call::Write { path: path(p), off, len, seed: 77 };
    vec![
        vec![Call::Create(path("d/new")), write("d/new", 0, 1500), write("d/file-11", 600, 400)],
        vec![rename("d/file-03", "e/moved"), write("d/file-01", 3, 30), Call::Mkdir(path("e/f"))],
        vec![Call::Unlink(path("d/file-05")), rename("d/file-07", "d/file-00")],
        vec![rename("e/f", "d/f"), Call::Truncate { path: path("d/file-11"), size: 9 }],
        vec![
            Call::SetAttr { path: path("d/new"), ty: 1, len: 40, seed: 3 },
            Call::Rmdir(path("d/f")),
        ],
    ]
}

/// An image that both filesystems accept, and its content.
fn sound(image: &[u8], what: &str) -> Tree {
    let dev = Arc::new(RamDevice::from_image(geometry(), image.to_vec()));
    let report = check(dev).expect("check");
    assert!(report.is_clean(), "{what}: {:#?}", report.findings);
    let mut config = Config::new(BLOCK_SIZE, BLOCK_COUNT, PROG_SIZE);
    config.strict_erase = false;
    let mut c = CLfs::mount(image.to_vec(), &config).expect("C mounts");
    c.mkconsistent().expect("C mkconsistent");
    let theirs = c.tree(&[1]).expect("C reads");
    let read_only = OpenOptions { read_only: true, ..options() };
    let mut ours = Ours::open(geometry(), image.to_vec(), &read_only).expect("open");
    let tree = ours.tree().expect("tree");
    diff("we", &tree, "C", &theirs).unwrap_or_else(|e| panic!("{what}: {e}"));
    tree
}

/// This library over a device that fails.
fn mount(dev: &Arc<EmuDevice>, image: &[u8]) -> Result<Ours, Error> {
    let mut ours = Ours::open(geometry(), image.to_vec(), &options()).expect("open");
    ours.fs = Fs::open(dev.clone(), &options())?;
    Ok(ours)
}

/// The result of the workload.
struct Outcome {
    errors: Vec<String>,
    ours: Ours,
    model: Model,
}

/// Run the workload. Calls that fail are not made in the model.
fn run(mut ours: Ours, mut model: Model, op: Option<IoOp>) -> Outcome {
    let mut errors = Vec::new();
    for calls in workload() {
        for call in &calls {
            let mut next = model.clone();
            match (ours.apply(call), next.apply(call)) {
                (Ok(()), Ok(())) => model = next,
                (Ok(()), Err(e)) => panic!("{call:?} succeeds, not {e:?}"),
                (Err(Fail::Other(e)), _) => errors.push(e),
                (Err(e), expected) => assert_eq!(Err(e), expected, "{call:?}"),
            }
        }
        match ours.fs.flush() {
            Ok(()) => {}
            Err(Error::Io(e)) => {
                assert_eq!(Some(e.op), op, "{e:?}");
                errors.push(format!("{e:?}"));
            }
            Err(Error::ReadOnly) => errors.push("read-only".into()),
            Err(e) => panic!("flush: {e}"),
        }
    }
    Outcome { errors, ours, model }
}

/// Let each call of one kind fail in turn. `judge` gets the result.
fn each_fault(call: DeviceCall, errno: i32, judge: impl Fn(u64, &mut Outcome, &EmuDevice)) {
    let (image, model) = prepared();
    let mut n = 0;
    loop {
        let dev = Arc::new(EmuDevice::unrecorded(geometry(), image.clone(), false));
        dev.fail_after(call, n, errno);
        match mount(&dev, &image) {
            Err(Error::Io(e)) => assert_eq!(e.op, IoOp::Read),
            Err(e) => assert!(matches!(e, Error::Corrupt(_)), "open: {e}"),
            // damage was seen: nothing is written
            Ok(ours) if ours.fs.is_read_only() => {}
            Ok(ours) => {
                let op = match call {
                    DeviceCall::Read => IoOp::Read,
                    DeviceCall::Prog => IoOp::Prog,
                    DeviceCall::Erase => IoOp::Erase,
                    DeviceCall::Barrier | DeviceCall::Sync => IoOp::Sync,
                };
                let mut outcome = run(ours, model.clone(), Some(op));
                if dev.cancel_fault() {
                    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
                    break;
                }
                judge(n, &mut outcome, &dev);
            }
        }
        sound(&dev.image(), &format!("{call:?} {n} failed"));
        n += 1;
    }
    assert!(n > 3, "{n} calls");
    println!("{n} calls of {call:?} failed in turn");
}

fn all_is_there(what: &str, outcome: &mut Outcome, dev: &EmuDevice) {
    assert!(outcome.errors.is_empty(), "{what}: {:?}", outcome.errors);
    let tree = sound(&dev.image(), what);
    diff("the model", outcome.model.tree(), "the image", &tree)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
}

#[test]
fn a_bad_program_is_relocated_around() {
    each_fault(DeviceCall::Prog, libc::EIO, |n, outcome, dev| {
        all_is_there(&format!("prog {n}"), outcome, dev);
    });
}

#[test]
fn a_bad_erase_is_relocated_around() {
    each_fault(DeviceCall::Erase, libc::EIO, |n, outcome, dev| {
        all_is_there(&format!("erase {n}"), outcome, dev);
    });
}

#[test]
fn a_full_host_is_an_error_that_passes() {
    for call in [DeviceCall::Prog, DeviceCall::Erase] {
        each_fault(call, libc::ENOSPC, |n, outcome, dev| {
            assert!(!outcome.errors.is_empty(), "{call:?} {n}: nobody was told");
            if !outcome.ours.fs.is_read_only() {
                outcome.ours.fs.flush().expect("once there is space again");
                outcome.errors.clear();
                all_is_there(&format!("{call:?} {n}, then space"), outcome, dev);
            }
        });
    }
}

#[test]
fn a_failed_barrier_is_final() {
    for call in [DeviceCall::Barrier, DeviceCall::Sync] {
        each_fault(call, libc::EIO, |n, outcome, dev| {
            assert!(!outcome.errors.is_empty(), "{call:?} {n}: nobody was told");
            assert!(outcome.ours.fs.is_read_only(), "{call:?} {n}");
            let before = dev.image();
            outcome.ours.tree().expect("reads go on");
            assert!(outcome.ours.apply(&Call::Create(b"more".into())).is_err());
            assert!(dev.image() == before, "written after a failed {call:?}");
        });
    }
}

#[test]
fn a_failed_read_harms_nothing() {
    each_fault(DeviceCall::Read, libc::EIO, |n, outcome, dev| {
        if !outcome.ours.fs.is_read_only() {
            outcome.ours.fs.flush().unwrap_or_else(|e| panic!("read {n}: {e}"));
            outcome.errors.clear();
            all_is_there(&format!("read {n}"), outcome, dev);
        }
    });
}

#[test]
fn bad_blocks_are_relocated_around() {
    let (image, model) = prepared();
    for (how, read_back) in [
        (BadBlock::ProgError, false),
        (BadBlock::EraseError, false),
        (BadBlock::ProgNoop, true),
        (BadBlock::EraseNoop, true),
    ] {
        for block in 2..BLOCK_COUNT {
            let dev = Arc::new(EmuDevice::unrecorded(geometry(), image.clone(), read_back));
            dev.set_bad(block, how);
            let ours = mount(&dev, &image).expect("open");
            let mut outcome = run(ours, model.clone(), None);
            all_is_there(&format!("{how:?} at block {block:#x}"), &mut outcome, &dev);
        }
    }
}

#[test]
fn a_block_that_cannot_be_read_back_is_relocated_around() {
    let (image, model) = prepared();
    let mut ours = Ours::open(geometry(), image.clone(), &options()).expect("open");
    let free = ours.fs.usage().expect("usage").blocks_free;
    assert!(free > 8);
    let tree = model.tree().clone();
    for block in 2..BLOCK_COUNT {
        let dev = Arc::new(EmuDevice::unrecorded(geometry(), image.clone(), true));
        dev.set_bad(block, BadBlock::ReadError);
        // a block in use loses what it holds: nothing can be asked of it
        let Ok(mut ours) = mount(&dev, &image) else { continue };
        if ours.fs.is_read_only() || ours.tree().is_err() {
            continue;
        }
        let mut outcome = run(ours, Model::from_tree(tree.clone(), 255), Some(IoOp::Read));
        all_is_there(&format!("read error at block {block:#x}"), &mut outcome, &dev);
    }
}
