//! A damaged commit hides valid ones behind it: the older state is only shown, until a repair accepts
//! it.

use std::process::Command;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Mode, Severity, check, repair};
use littlefs::fs::{Fs, OpenOptions};
use littlefs::recover::{Grade, recover};
use testkit::clfs::{CLfs, Config};

const BLOCK_SIZE: usize = 1024;

/// An image with the content that `write` makes, in which the first byte of the last `marker` is
/// wrong.
fn damaged(write: impl Fn(&mut CLfs), marker: &[u8]) -> Vec<u8> {
    let config = Config::new(BLOCK_SIZE as u32, 32, 16);
    let mut c = CLfs::fresh(&config).expect("a filesystem");
    write(&mut c);
    let mut image = c.unmount();
    let at = image.windows(marker.len()).rposition(|bytes| bytes == marker).expect("is there");
    image[at] ^= 1;
    image
}

fn device(image: &[u8]) -> Arc<RamDevice> {
    let geometry = Geometry::new(BLOCK_SIZE as u32, 32).expect("possible");
    Arc::new(RamDevice::from_image(geometry, image.to_vec()))
}

/// The codes of the errors, and the paths that C sees after the repair; the root is "".
fn repaired(image: &[u8]) -> (Vec<&'static str>, Vec<String>) {
    let dev = device(image);
    let report = check(dev.clone()).expect("examined");
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error);
    let codes = errors.map(|f| f.code).collect();
    let preen = repair(dev.clone(), Mode::Preen).expect("opens");
    assert!(preen.stopped.is_some() && preen.done.is_empty(), "{preen:?}");
    assert!(dev.image() == image, "-p changed the image");
    let yes = repair(dev.clone(), Mode::Yes).expect("opens");
    assert!(yes.stopped.is_none() && yes.done.iter().any(|r| r.given_up), "{yes:?}");
    let after = check(dev.clone()).expect("examined");
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    let mut c = CLfs::mount(dev.image(), &Config::new(BLOCK_SIZE as u32, 32, 16)).expect("mounts");
    let paths = c.tree(&[]).expect("C reads");
    (codes, paths.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect())
}

#[test]
fn the_older_state_is_read_only_and_suspect_until_a_repair_accepts_it() {
    let image = damaged(
        |c| {
            for (name, text) in [("first", "1"), ("second", "a damaged one"), ("third", "3")] {
                c.write_file(name.as_bytes(), text.as_bytes()).expect("written");
            }
        },
        b"a damaged one",
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("image");
    std::fs::write(&file, &image).expect("written");
    for (command, code) in [("ls", 2), ("info", 2), ("check", 4), ("mkdir", 1)] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        run.arg(command).arg(&file).args((command == "mkdir").then_some("new"));
        let output = run.output().expect("starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        assert!(command == "mkdir" || said.contains("littlefs recover"), "{command}: {said}");
    }
    assert!(std::fs::read(&file).expect("read") == image, "the image was changed");
    let fs = Fs::open(device(&image), &OpenOptions::default()).expect("opens");
    assert!(fs.is_read_only());
    assert!(fs.suspect().is_some_and(|why| why.contains("littlefs recover")), "{:?}", fs.suspect());
    drop(fs);
    let (codes, paths) = repaired(&image);
    assert_eq!(codes, ["commits-hidden"]);
    assert_eq!(paths, ["", "first", "second"], "the file was made before it was written");
}

#[test]
fn what_was_hidden_is_found_after_a_repair_too() {
    let write = |c: &mut CLfs| {
        for (name, text) in [("first", "1"), ("second", "a damaged one"), ("third", "3")] {
            c.write_file(name.as_bytes(), text.as_bytes()).expect("written");
        }
    };
    let dev = device(&damaged(write, b"a damaged one"));
    repair(dev.clone(), Mode::Yes).expect("opens");
    let found = recover(&*dev, &|_| ()).expect("readable").files;
    let third = found.iter().find(|file| file.path.as_deref() == Some(b"third"));
    assert_eq!(third.map(|file| file.grade), Some(Grade::Checked), "{found:?}");
}

#[test]
fn an_outdated_delta_does_not_hide_or_delete_an_entry_that_was_never_moved() {
    // The rename sets a delta in the root, and clears the sum by the delta of the directory, which
    // the damage hides.
    let write = |c: &mut CLfs| {
        c.mkdir(b"d").expect("made");
        c.write_file(b"d/kept", b"a damaged one").expect("written");
        for name in ["moved", "next", "other"] {
            c.write_file(name.as_bytes(), name.as_bytes()).expect("written");
        }
        c.rename(b"moved", b"d/moved").expect("renamed");
    };
    let image = damaged(write, b"a damaged one");
    let mut fs = Fs::open(device(&image), &OpenOptions::default()).expect("opens");
    let names = fs.list(littlefs::fs::ROOT).expect("listed");
    let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
    assert_eq!(names, ["d", "next", "other"]);
    drop(fs);
    let (codes, paths) = repaired(&image);
    assert_eq!(codes, ["commits-hidden"]);
    assert_eq!(paths, ["", "d", "d/kept", "next", "other"]);
}
