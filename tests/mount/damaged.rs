//! Mounts of damaged images: what can be read is shown, and the rest is reported.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::fs::{DirId, Fs, Node, OpenOptions, ROOT, Storage};

use testkit::mounted::{Mounted, littlefs, output, python, run};

/// How many blocks the file `large` has.
const LARGE: u64 = 10;

/// An image with files, and a directory with another directory and a file in it. It is not mounted.
fn image() -> Mounted {
    let mut m = Mounted::new("1M");
    fs::create_dir_all(m.path("d/sub")).expect("mkdir");
    fs::write(m.path("d/inside"), b"inside").expect("write");
    for name in ["large", "other"] {
        fs::write(m.path(name), vec![7; 40_000]).expect("write");
    }
    m.unmount();
    m
}

/// Let `change` change the image. It gets the places of everything.
fn damage(m: &Mounted, change: impl FnOnce(&mut Fs, &File)) {
    let bytes = fs::read(m.image()).expect("read");
    let g = Geometry::new(4096, 256).expect("a geometry");
    let dev = Arc::new(RamDevice::from_image(g, bytes));
    let mut fs = Fs::open(dev, &OpenOptions::default()).expect("open");
    change(&mut fs, &File::options().write(true).open(m.image()).expect("open"));
}

fn directory(fs: &mut Fs, dir: DirId, name: &[u8]) -> DirId {
    match fs.lookup(dir, name) {
        Ok(Node::Dir(dir)) => dir,
        other => panic!("{other:?}"),
    }
}

/// How many blocks are in use according to statfs(2).
fn used(m: &Mounted) -> u64 {
    let script = "import os; s = os.statvfs('.'); print(s.f_blocks - s.f_bfree)";
    python(&m.dir(), script).trim().parse().expect("a number")
}

fn is_eio(e: &std::io::Error) -> bool {
    e.raw_os_error() == Some(libc::EIO)
}

#[test]
fn a_damaged_directory_is_a_directory() {
    let mut m = image();
    damage(&m, |fs, image| {
        let d = directory(fs, ROOT, b"d");
        let Ok(Storage::Pairs { first, .. }) = fs.storage_of_dir(d) else { panic!("no pair") };
        for block in first {
            image.write_all_at(&[0; 4096], u64::from(block) * 4096).expect("write");
        }
    });
    for options in ["ro", "rw"] {
        m.mount(options);
        let d = m.path("d");
        assert!(fs::metadata(&d).expect("stat").is_dir(), "{options}");
        let entries = fs::read_dir(m.dir()).expect("readdir");
        let types = entries.map(|e| e.expect("entry")).map(|e| {
            (e.file_name().into_string().expect("UTF-8"), e.file_type().expect("type").is_dir())
        });
        let mut types: Vec<(String, bool)> = types.collect();
        types.sort();
        let want = [("d", true), ("large", false), ("other", false)];
        assert_eq!(types, want.map(|(name, dir)| (name.to_owned(), dir)), "{options}");
        let listed = fs::read_dir(&d).and_then(|mut entries| entries.next().transpose());
        assert!(is_eio(&listed.expect_err("damaged")), "{options}");
        assert!(is_eio(&fs::metadata(d.join("inside")).expect_err("damaged")), "{options}");
        assert!(fs::remove_dir(&d).is_err() && fs::rename(&d, m.path("e")).is_err());
        assert!(fs::metadata(&d).expect("stat").is_dir(), "{options}");
        assert_eq!(fs::read(m.path("large")).expect("read"), [7; 40_000]);
        assert_eq!(used(&m), 2 + 2 * LARGE, "{options}: the root, and two files");
        m.unmount();
    }
}

/// A program that lists a directory gets an error after the entries, if some are missing.
#[test]
fn a_directory_that_ends_early_is_no_whole_one() {
    let mut m = Mounted::new("1M");
    fs::create_dir(m.path("many")).expect("mkdir");
    for i in 0..400 {
        fs::write(m.path(&format!("many/entry-{i:03}")), b"content").expect("write");
    }
    m.unmount();
    let told = run(littlefs().args(["inspect", "--json"]).arg(m.image()).args(["dir", "/many"]));
    let found: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let pair = found[0]["pairs"][2]["pair"].as_array().expect("a third pair").clone();
    damage(&m, |_, image| {
        for block in pair {
            let at = block.as_u64().expect("a number") * 4096;
            image.write_all_at(&[0; 4096], at).expect("write");
        }
    });
    m.mount("rw");
    let mut names = 0;
    let last = fs::read_dir(m.path("many")).expect("opens").find_map(|entry| {
        names += 1;
        entry.err()
    });
    assert!(is_eio(&last.expect("an error at the end")), "{names} names");
    assert!((50..400).contains(&names), "{names} names");
    assert_eq!(fs::read(m.path("many/entry-000")).expect("read"), b"content");
    assert!(is_eio(&fs::read(m.path("many/entry-399")).expect_err("missing")));
    m.unmount();
}

#[test]
fn what_is_used_is_told_where_nothing_can_be_written() {
    let mut m = image();
    let whole = 2 + 2 * 2 + 2 * LARGE;
    m.mount("ro");
    assert_eq!(used(&m), whole);
    m.unmount();
    damage(&m, |fs, image| {
        let Ok(Storage::List { head: Some(head), .. }) = fs.storage(ROOT, b"large") else {
            panic!("no list")
        };
        image.write_all_at(&[0xee; 4], u64::from(head) * 4096).expect("write");
    });
    for options in ["ro", "rw"] {
        m.mount(options);
        let used = used(&m);
        // the list that leads nowhere counts according to its size
        assert_eq!(used, whole, "{options}");
        assert!(fs::write(m.path("new"), b"x").is_err(), "{options}");
        m.unmount();
    }
}

/// If more is requested than the filesystem allows, its limit is used, and the image is mounted.
#[test]
fn too_much_inline_is_told_and_mounted() {
    let mut m = image();
    let mut command = littlefs();
    command.args(["mount", "-o", "inline_max=1M"]).arg(m.image()).arg(m.dir());
    let out = output(&mut command);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    m.adopt("inline_max=1M");
    assert!(said.contains("inline_max=1048576") && said.contains("up to 512 bytes"), "{said}");
    let before = used(&m);
    fs::write(m.path("inline"), [1; 512]).expect("write");
    m.remount();
    assert_eq!(used(&m), before);
    m.finish();
}
