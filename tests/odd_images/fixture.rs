//! The image that is made odd, and what is checked for each odd image.

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Report, Severity, check};
use littlefs::error::Error;
use littlefs::fs::{OpenOptions, ROOT};

use testkit::calls::{Call, Model, Subject, pattern};
use testkit::clfs::{CLfs, Config};
use testkit::ours::Ours;
use testkit::tree::{Tree, diff};

pub const ATTR_TYPES: [u8; 2] = [0x74, 0xff];

pub fn geometry(config: &Config) -> Geometry {
    Geometry::new(config.block_size, config.block_count).expect("possible")
}

/// The drivers whose images are made odd.
pub fn configs() -> Vec<Config> {
    vec![
        Config::new(512, 128, 16),
        Config { disk_version: testkit::clfs::V2_0, ..Config::new(512, 128, 64) },
        Config::new(512, 128, 512),
        Config::new(4096, 64, 256),
    ]
}

/// Directories of one pair and of many, files inline and in blocks, attributes.
pub fn make(config: &Config) -> CLfs {
    let mut c = CLfs::fresh(config).expect("format");
    for dir in ["a", "a/sub", "b", "many", "z"] {
        c.mkdir(dir.as_bytes()).expect("mkdir");
    }
    for (i, name) in
        ["a/file", "a/last", "a/sub/deep", "b/file", "z/file", "top"].iter().enumerate()
    {
        let bytes = pattern(i as u8 + 1, 30 + 600 * (i as u32 % 3));
        c.write_file(name.as_bytes(), &bytes).expect("write");
    }
    for i in 0..40 {
        let name = format!("many/entry-{i:02}");
        c.write_file(name.as_bytes(), &pattern(i, 20)).expect("write");
    }
    c.setattr(b"a/file", 0x74, b"time").expect("setattr");
    c.setattr(b"b", 0xff, b"directory").expect("setattr");
    c
}

pub fn open(config: &Config, image: &[u8], read_only: bool) -> Ours {
    let prog_size = Some(config.prog_size);
    let options = OpenOptions { read_only, prog_size, ..OpenOptions::default() };
    Ours::open(geometry(config), image.to_vec(), &options).expect("open")
}

pub fn report(config: &Config, image: &[u8]) -> Report {
    let dev = RamDevice::from_image(geometry(config), image.to_vec());
    check(Arc::new(dev)).expect("check")
}

/// The codes of the findings, each of them once.
pub fn codes(config: &Config, image: &[u8], severity: Severity) -> Vec<&'static str> {
    let findings = report(config, image).findings;
    let mut codes: Vec<_> =
        findings.iter().filter(|f| f.severity == severity).map(|f| f.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The tree that C reads after it has repaired what it finds.
pub fn c_tree(config: &Config, image: &[u8]) -> Tree {
    let mut c = CLfs::mount(image.to_vec(), config).expect("C mounts");
    c.mkconsistent().expect("mkconsistent");
    c.tree(&ATTR_TYPES).expect("C reads")
}

pub fn same(name: &str, want: &Tree, who: &str, found: &Tree) {
    diff("expected", want, who, found).unwrap_or_else(|lines| panic!("{name}: {who}:\n{lines}"));
}

/// Opened in either way, this library shows this tree and writes nothing.
pub fn check_reading(name: &str, config: &Config, image: &[u8], want: &Tree) {
    for read_only in [true, false] {
        let mut ours = open(config, image, read_only);
        same(name, want, "ours", &ours.tree().expect("we read"));
        assert_eq!(ours.fs.is_read_only(), read_only, "{name}: {:?}", ours.fs.warnings());
        if read_only {
            assert!(matches!(ours.fs.mkdir(ROOT, b"new"), Err(Error::ReadOnly)), "{name}");
        }
        ours.fs.flush().expect("nothing to flush");
        assert!(ours.image() == image, "{name}: reading changed the image");
    }
}

/// Changes in every part of the tree that `make` makes. Each of them can be the first write.
pub fn changes() -> Vec<Call> {
    let path = |p: &str| p.as_bytes().to_vec();
    let rename =
        |from: &str, to: &str| Call::Rename { from: path(from), to: path(to), no_replace: true };
    vec![
        Call::Create(path("a/new")),
        Call::Mkdir(path("many/new")),
        Call::Write { path: path("z/file"), off: 10, len: 1500, seed: 77 },
        rename("top", "z/moved"),
        Call::Unlink(path("many/entry-20")),
        Call::SetAttr { path: path("b"), ty: 0x74, len: 8, seed: 5 },
        Call::Truncate { path: path("b/file"), size: 5 },
        rename("z", "a/z"),
    ]
}

/// Each change is possible as the first write, and all of them are possible one after the other.
/// Afterwards, the verifier finds only these findings, and C reads the result and has nothing to
/// repair.
pub fn check_writing(name: &str, config: &Config, image: &[u8], tree: &Tree, notes: &[&str]) {
    let all = changes();
    let singles = all.iter().map(std::slice::from_ref);
    for calls in singles.chain([&all[..]]) {
        let name = &format!("{name}: {calls:?}");
        let mut ours = open(config, image, false);
        let mut model = Model::from_tree(tree.clone(), 255);
        for call in calls {
            let expected = model.apply(call);
            assert_eq!(ours.apply(call), expected, "{name}: {call:?}");
            ours.fs.flush().expect("flush");
        }
        let image = ours.image();
        same(name, model.tree(), "ours", &ours.tree().expect("we read"));
        let findings = report(config, &image);
        assert!(findings.is_clean(), "{name}: {:#?}", findings.findings);
        let unexpected: Vec<_> =
            findings.findings.iter().filter(|f| !notes.contains(&f.code)).collect();
        assert!(unexpected.is_empty(), "{name}: {unexpected:#?}");

        let mut c = CLfs::mount(image.clone(), config).expect("C mounts what we wrote");
        same(name, model.tree(), "C", &c.tree(&ATTR_TYPES).expect("C reads"));
        let used = c.fs_size().expect("size");
        let again = open(config, &image, false).fs.usage().expect("usage").blocks_used;
        assert_eq!(again, used, "{name}: blocks used");
        let kept = ours.fs.usage().expect("usage").blocks_used;
        assert_eq!(kept, used, "{name}: blocks kept until the next mount");
        c.mkconsistent().expect("mkconsistent");
        assert!(c.image() == image, "{name}: C found something left to repair");
        // C goes on writing where we wrote: this is where wrongly erased space shows.
        c.write_file(b"a/by C", &[9; 40]).expect("C writes");
        c.append(b"b/file", b"more").expect("C appends");
        let tree = c.tree(&ATTR_TYPES).expect("C reads");
        same(name, &tree, "ours at last", &open(config, &c.unmount(), true).tree().expect("read"));
    }
}
