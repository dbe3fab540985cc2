//! A device on which every write fails, for example because of a loose cable. This is an error of
//! the device and not a lack of space, and everything is written when the device works again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use littlefs::bd::emu::{BadBlock, EmuDevice};
use littlefs::error::{Error, IoError, IoOp};
use littlefs::fs::{FormatOptions, Fs};
use littlefs::kv::{self, Key, Store};

use super::device::Judged;
use super::{BLOCK_COUNT, geometry, mount, options, prepared, sound, workload};
use testkit::calls::{Call, Fail, Model, Subject};
use testkit::ours::Ours;
use testkit::tree::diff;

/// A device on which `left` more writes succeed, and then none.
fn dying(image: Vec<u8>, left: &Arc<AtomicU64>) -> Arc<Judged> {
    let left = Arc::clone(left);
    Judged::new(image, move |op, block| {
        let dead = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err();
        if matches!(op, IoOp::Prog | IoOp::Erase) && dead() {
            let source = io::Error::from_raw_os_error(libc::EIO);
            return Err(IoError { op, block, source });
        }
        Ok(())
    })
}

#[track_caller]
fn is_device_error(what: &str, e: &Error) {
    let errno = match e {
        Error::Io(io) => io.source.raw_os_error(),
        _ => None,
    };
    assert_eq!(errno, Some(libc::EIO), "{what}: {e:?}");
}

/// Fill the image, except for `left` blocks.
fn fill(ours: &mut Ours, model: &mut Model, left: u32) {
    let call = Call::Create(b"filler".into());
    ours.apply(&call).and_then(|()| model.apply(&call)).expect("create");
    let mut off = 0;
    while ours.fs.usage().expect("usage").blocks_free > left {
        let call = Call::Write { path: b"filler".into(), off, len: 400, seed: 9 };
        ours.apply(&call).and_then(|()| model.apply(&call)).expect("write");
        ours.fs.flush().expect("flush");
        off += 400;
    }
}

#[test]
fn it_is_no_lack_of_space_and_nothing_is_lost() {
    for space in [u32::MAX, 12] {
        let (mut image, mut prepared) = prepared();
        if space < BLOCK_COUNT {
            let mut ours = Ours::open(geometry(), image, &options()).expect("open");
            fill(&mut ours, &mut prepared, space);
            image = ours.image();
        }
        let (mut failed, mut turned) = (0, 0);
        for n in 0.. {
            let what = &format!("{space} blocks free, write {n}");
            let left = Arc::new(AtomicU64::new(n));
            let dev = dying(image.clone(), &left);
            let mut ours = Ours::open(geometry(), image.clone(), &options()).expect("open");
            ours.fs = Fs::open(dev.clone(), &options()).expect("open");
            let mut model = prepared.clone();
            let mut told = false;
            for calls in workload() {
                for call in &calls {
                    let mut next = model.clone();
                    match (ours.apply(call), next.apply(call)) {
                        (Ok(()), Ok(())) => model = next,
                        (Err(Fail::Other(e)), _) => {
                            let right = ours.fs.is_read_only() || e.contains("input/output error");
                            assert!(right, "{what}: {call:?}: {e}");
                        }
                        // space: what was freed cannot be used before the next flush
                        (outcome, expected) => assert_eq!(outcome, expected, "{what}: {call:?}"),
                    }
                }
                // again and again: no attempt may use up what the next one needs
                for attempt in 0..3 {
                    match ours.fs.flush() {
                        Ok(()) => assert!(left.load(Relaxed) > 0 || !told, "{what}"),
                        Err(Error::ReadOnly) => assert!(ours.fs.is_read_only() && told),
                        Err(e) => {
                            is_device_error(&format!("{what}, attempt {attempt}"), &e);
                            told = true;
                        }
                    }
                }
            }
            sound(&dev.dev.image(), what);
            if !told {
                break;
            }
            failed += 1;
            left.store(u64::MAX, Relaxed);
            if ours.fs.is_read_only() {
                turned += 1;
                continue;
            }
            ours.fs.flush().unwrap_or_else(|e| panic!("{what}: working again: {e}"));
            let tree = sound(&dev.dev.image(), what);
            diff("the model", model.tree(), "the image", &tree)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        println!("{failed} times no write succeeded any more, {turned} times it was final");
        assert!(failed > 20 && turned == 0, "{failed} failed, {turned} final");
    }
}

/// Programs that change nothing and report success.
#[test]
fn silence_is_found_out() {
    let (image, _) = prepared();
    for how in [BadBlock::ProgNoop, BadBlock::EraseNoop] {
        let dev = Arc::new(EmuDevice::unrecorded(geometry(), image.clone(), true));
        let mut ours = mount(&dev, &image).expect("open");
        (0..BLOCK_COUNT).for_each(|block| dev.set_bad(block, how));
        for call in &workload()[0] {
            ours.apply(call).expect("in memory");
        }
        let e = ours.fs.flush().expect_err("nothing is written");
        is_device_error(&format!("{how:?}"), &e);
    }
}

#[test]
fn every_tool_says_so() {
    let (image, _) = prepared();
    let dead = || dying(image.clone(), &Arc::default());

    let e = Fs::format(&*dead(), &FormatOptions::default()).expect_err("no format");
    is_device_error("format", &e);

    let store = Store::connect(dead(), &kv::Options::default()).expect("connect");
    let key = |name: &str| Key::new(name).expect("key");
    let batch = |store: &Store| {
        store.batch(|b| {
            b.set(&key("d/a"), &[1; 900])?;
            b.set(&key("e/b"), b"2")
        })
    };
    for (what, result) in [
        ("set", store.set(&key("d/new"), b"value")),
        ("set of blocks", store.set(&key("d/large"), &[1; 3000])),
        ("remove", store.remove(&key("d/file-03"))),
        ("rename", store.rename(&key("d/file-04"), &key("e/file"))),
        ("batch", batch(&store)),
        ("sync", store.sync()),
    ] {
        match result.expect_err(what) {
            kv::Error::Core(e) => is_device_error(what, &e),
            e => panic!("{what}: {e}"),
        }
    }
}
