//! The command, used as users use it, and images with false information.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::recover::{Grade, recover, save};
use serde_json::Value;
use tempfile::TempDir;

use crate::histories::{Past, Shape};
use testkit::clfs::{CLfs, Config};
use testkit::random::Random;

const ROOMY: Shape = Shape {
    block_size: 512,
    block_count: 64,
    prog_size: 16,
    dirs: 2,
    names: 6,
    same_size: false,
    block_cycles: -1,
    power_cuts: 0,
};

struct Desk(TempDir);

impl Desk {
    fn with(image: &[u8]) -> Self {
        let desk = Self(tempfile::tempdir().expect("a directory"));
        fs::write(desk.0.path().join("dump.bin"), image).expect("an image");
        desk
    }

    fn run(&self, args: &[&str], code: i32) -> Output {
        self.run_to(args, &[code])
    }

    /// Run another command, which must succeed.
    fn littlefs(&self, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        let status = command.args(args).current_dir(self.0.path()).status();
        assert!(status.expect("it starts").success(), "{args:?}");
    }

    /// Run it. It must end with one of these exit codes, and must not change the image.
    fn run_to(&self, args: &[&str], codes: &[i32]) -> Output {
        let before = fs::read(self.0.path().join("dump.bin")).expect("the image");
        let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        command.args(["recover", "dump.bin"]).args(args).current_dir(self.0.path());
        let out = command.env_remove("RUST_LOG").output().expect("it starts");
        let text = String::from_utf8_lossy(&out.stderr);
        let code = out.status.code().expect("no signal should end it");
        assert!(codes.contains(&code), "{args:?}: {code}: {text}");
        let after = fs::read(self.0.path().join("dump.bin")).expect("the image");
        assert!(before == after, "the image was changed");
        out
    }

    fn json(&self, args: &[&str], code: i32) -> Value {
        serde_json::from_slice(&self.run(args, code).stdout).expect("JSON")
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn fresh(block_size: u32, block_count: u32) -> (CLfs, Config) {
    let config = Config::new(block_size, block_count, 16);
    (CLfs::fresh(&config).expect("a filesystem"), config)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"0123456789abcdef\n"[i % 17]).collect()
}

/// A case in which a public tool is wrong: ids shift when a file is deleted.
#[test]
fn a_deleted_file_has_its_own_content() {
    let (mut c, _) = fresh(4096, 64);
    for (path, bytes) in [(&b"a.txt"[..], &b"content of a"[..]), (b"b.txt", b"content of b")] {
        c.write_file(path, bytes).expect("written");
    }
    c.write_file(b"large.bin", &text(20_000)).expect("written");
    c.write_file(b"log.txt", b"first").expect("written");
    c.write_file(b"log.txt", b"second").expect("written");
    for path in [&b"a.txt"[..], b"large.bin"] {
        c.remove(path).expect("removed");
    }
    let desk = Desk::with(&c.unmount());
    let json = desk.json(&["-C", "found", "--json"], 0);
    assert_eq!((json["checked"].as_u64(), json["complete"].as_u64()), (Some(2), Some(1)), "{json}");
    assert_eq!(desk.read("found/files/a.txt"), b"content of a");
    assert_eq!(desk.read("found/files/large.bin"), text(20_000));
    assert_eq!(desk.read("found/files/log.txt"), b"first");
    assert!(!desk.0.path().join("found/files/b.txt").exists(), "it is still there");
    let manifest = String::from_utf8(desk.read("found/MANIFEST")).expect("text");
    for words in ["3 results: 2 checked, 1 complete, 0 partial", "files/a.txt", "from     commit "]
    {
        assert!(manifest.contains(words), "no {words:?} in {manifest}");
    }
    assert!(manifest.contains("because  no commit used its blocks again"), "{manifest}");
    // what is there is not touched
    desk.run(&["-C", "found"], 1);
}

#[test]
fn an_image_of_which_nothing_was_lost_gives_nothing() {
    let (mut c, _) = fresh(512, 64);
    c.mkdir(b"d").expect("made");
    c.write_file(b"d/a", b"content").expect("written");
    let desk = Desk::with(&c.unmount());
    let json = desk.json(&["-C", "found", "--json"], 1);
    assert_eq!(json["results"], Value::Array(Vec::new()), "{json}");
    assert!(!desk.0.path().join("found").exists(), "nothing is left that was not there before");
    std::fs::create_dir(desk.0.path().join("mine")).expect("made");
    desk.run(&["-C", "mine"], 1);
    let mut left = std::fs::read_dir(desk.0.path().join("mine")).expect("still there");
    assert!(left.next().is_none(), "an empty directory stays empty");
}

#[test]
fn a_file_that_holds_an_image_is_not_taken_for_metadata() {
    let (mut inner, _) = fresh(512, 8);
    inner.write_file(b"inner", b"of another filesystem").expect("written");
    inner.remove(b"inner").expect("removed");
    let nested = inner.unmount();
    for is_deleted in [false, true] {
        let (mut c, _) = fresh(512, 64);
        c.write_file(b"nested.img", &nested).expect("written");
        if is_deleted {
            c.remove(b"nested.img").expect("removed");
        }
        let geometry = Geometry::new(512, 64).expect("possible");
        let device = RamDevice::from_image(geometry, c.unmount());
        let found = recover(&device, &|_| ()).expect("readable").files;
        let wrong = found.iter().find(|file| {
            file.path.as_deref().is_some_and(|path| path.ends_with(b"inner"))
                && file.grade != Grade::Partial
        });
        assert!(wrong.is_none(), "{wrong:?}");
    }
}

#[test]
fn what_was_formatted_over_comes_back() {
    let (mut c, config) = fresh(512, 64);
    for dir in [&b"etc"[..], b"www"] {
        c.mkdir(dir).expect("made");
    }
    for (path, bytes) in [
        (&b"etc/config"[..], text(30)),
        (b"etc/hosts", text(40)),
        (b"www/index.html", text(3000)),
        (b"www/app.js", text(1700)),
        (b"top.bin", text(2500)),
    ] {
        c.write_file(path, &bytes).expect("written");
    }
    let before = c.unmount();
    let (formatted, done) = CLfs::interrupted_format(before.clone(), &config, u64::MAX);
    assert!(done);
    // and without the superblocks altogether
    let mut erased = before;
    erased[..1024].fill(0xff);
    for image in [formatted, erased] {
        let desk = Desk::with(&image);
        let json = desk.json(&["-C", "found", "--json"], 2);
        let results = json["results"].as_array().expect("a list");
        let grade = |name: &str| {
            let is_it = |r: &&Value| r["path"].as_str().is_some_and(|path| path.ends_with(name));
            results.iter().find(is_it).map(|r| r["grade"].as_str().expect("a grade"))
        };
        for (name, expected) in [
            ("/config", Some("checked")),
            ("/hosts", Some("checked")),
            ("/index.html", Some("complete")),
            ("/app.js", Some("complete")),
            ("/top.bin", None),
        ] {
            assert_eq!(grade(name), expected, "{name}: {json:#}");
        }
        // of the root only the list is left
        let lists = results.iter().filter(|r| r["path"].is_null());
        let files: Vec<&str> = lists.map(|r| r["file"].as_str().expect("written")).collect();
        assert!(files.iter().any(|f| desk.read(&format!("found/{f}")) == text(2500)), "{json:#}");
    }
}

/// The present filesystem has written to blocks of the one before it, about which it knows nothing.
#[test]
fn nothing_is_complete_below_a_filesystem_of_other_blocks() {
    let (mut c, _) = fresh(512, 64);
    c.mkdir(b"d").expect("made");
    for name in [&b"d/a"[..], b"d/b"] {
        c.write_file(name, &text(5 * 512)).expect("written");
    }
    let mut image = c.unmount();
    let is_complete = |image: &[u8]| {
        let geometry = Geometry::new(512, 64).expect("possible");
        let device = RamDevice::from_image(geometry, image.to_vec());
        let found = recover(&device, &|_| ()).expect("readable");
        found.files.iter().any(|file| file.grade == Grade::Complete)
    };
    let mut erased = image.clone();
    erased[..2048].fill(0xff);
    assert!(is_complete(&erased));
    let (c, _) = fresh(1024, 32);
    image[..2048].copy_from_slice(&c.unmount()[..2048]);
    assert!(!is_complete(&image));
}

/// Blocks that are not where the filesystem had them, or that the container lacks.
#[test]
fn nothing_is_complete_if_blocks_may_be_others() {
    let (mut c, _) = fresh(512, 64);
    for (path, len) in [(&b"kept"[..], 900), (b"gone", 400), (b"long", 2000), (b"last", 700)] {
        c.write_file(path, &text(len)).expect("written");
    }
    for path in [&b"gone"[..], b"long"] {
        c.remove(path).expect("removed");
    }
    let whole = c.unmount();
    let headless = whole[512..].to_vec();
    let padded = [&headless[..], &[0xff; 512]].concat();
    let desk = Desk::with(&whole);
    desk.littlefs(&["wrap", "--format", "uf2", "dump.bin", "dump.uf2"]);
    let uf2 = desk.read("dump.uf2");
    // without 1 KiB in the middle, in which no block is used
    let incomplete = [&uf2[..50 * 1024], &uf2[52 * 1024..]].concat();
    for (image, complete, doubtful) in [
        (&whole, 2, 0),
        (&uf2, 2, 0),
        // these have no complete result anyway
        (&headless, 0, 0),
        (&padded, 0, 0),
        (&incomplete, 0, 2),
    ] {
        let desk = Desk::with(image);
        let out = desk.run_to(&["-C", "found", "--json"], &[0, 2]);
        let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(json["complete"], complete, "{json}");
        let words = "may not be at their places";
        assert_eq!(json.to_string().matches(words).count(), doubtful, "{json}");
    }
}

#[test]
fn the_block_size_is_found_without_a_superblock() {
    for block_size in [128, 256, 1024, 4096] {
        let (mut c, _) = fresh(block_size, 64);
        c.mkdir(b"d").expect("made");
        c.write_file(b"d/small", b"a few bytes").expect("written");
        c.write_file(b"d/list", &text(3 * block_size as usize)).expect("written");
        let mut image = c.unmount();
        image[..2 * block_size as usize].fill(0);
        let desk = Desk::with(&image);
        let out = desk.run_to(&["-C", "found", "--json"], &[0, 2]);
        let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(json["block_size"], block_size, "{json}");
        assert_eq!(json["checked"], 1, "{json}");
        // another one that is insisted on finds what it can
        desk.run_to(&["-C", "other", "--block-size", "512"], &[0, 2]);
    }
    let desk = Desk::with(&[0xff; 4096]);
    let out = desk.run(&["-C", "found"], 1);
    assert!(String::from_utf8_lossy(&out.stderr).contains("littlefs"), "{out:?}");
}

/// Files that contain an image are opened as by every other command, with a superblock or without
/// one.
#[test]
fn wrapped_images_and_those_inside_of_dumps_are_looked_through() {
    let (mut c, _) = fresh(512, 64);
    c.mkdir(b"d").expect("made");
    c.write_file(b"d/gone", b"a few bytes").expect("written");
    c.remove(b"d/gone").expect("removed");
    let whole = c.unmount();
    let mut headless = whole.clone();
    headless[..1024].fill(0xff);
    let (mut c, _) = fresh(512, 64);
    c.write_file(b"gone", b"a few bytes").expect("written");
    c.remove(b"gone").expect("removed");
    let truncated = c.unmount();
    let inside = [vec![0; 8192], whole.clone(), vec![0xff; 4096]].concat();
    let wrapped = |image: &[u8]| {
        let desk = Desk::with(image);
        desk.littlefs(&["wrap", "--format", "hex", "dump.bin", "dump.hex"]);
        desk.read("dump.hex")
    };
    for (image, args, path) in [
        (wrapped(&whole), &[][..], "d/gone"),
        (wrapped(&headless), &[], "gone"),
        (wrapped(&headless), &["--block-size", "512"], "gone"),
        (inside.clone(), &[], "d/gone"),
        (inside, &["--partition", "1"], "d/gone"),
        (truncated[..20 * 512].to_vec(), &[], "gone"),
    ] {
        let desk = Desk::with(&image);
        let json = desk.json(&[args, &["-C", "found", "--json"]].concat(), 0);
        assert_eq!(json["checked"], 1, "{args:?}: {json}");
        let found = json["results"][0]["path"].as_str().expect("a path");
        assert!(found.ends_with(path), "{args:?}: {found}");
    }
}

#[test]
fn a_state_of_a_journal_is_looked_through() {
    let (mut c, _) = fresh(512, 64);
    c.write_file(b"gone", b"a few bytes").expect("written");
    let desk = Desk::with(&c.unmount());
    desk.littlefs(&["kv", "--journal", "changes", "dump.bin", "remove", "gone"]);
    desk.run(&["-C", "before"], 1);
    let json = desk.json(&["--journal", "changes", "-C", "after", "--json"], 0);
    assert_eq!((&json["checked"], &json["results"][0]["path"]), (&1.into(), &"/gone".into()));
}

/// Names in an image never lead out of the directory, also not through existing links.
#[test]
fn nothing_is_written_outside_of_the_directory() {
    let mut past = Past::new(ROOMY, 3);
    past.write(b"a", b"one");
    past.remove(b"a");
    let mut image = past.c.image();
    // the name becomes `/`: the CRC is made good
    let geometry = Geometry::new(512, 64).expect("possible");
    for block in image.chunks_exact_mut(512).take(2) {
        rename_in_block(block, b'a', b'/');
    }
    let device = RamDevice::from_image(geometry, image);
    let recovery = recover(&device, &|_| ()).expect("readable");
    assert!(recovery.files.iter().any(|file| file.path.as_deref() == Some(b"/")), "{recovery:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).expect("made");
    symlink(&real, &link).expect("linked");
    // the user's own path may be a link
    save(&recovery, &device, &link).expect("saved");
    let names = |dir: &std::path::Path| {
        let mut names: Vec<_> =
            fs::read_dir(dir).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), ["link", "real"]);
    assert_eq!(names(&real), ["files"]);
}

/// Change names of one byte in a metadata block, and correct the CRCs.
fn rename_in_block(block: &mut [u8], from: u8, to: u8) {
    use littlefs::disk::{Tag, crc, tag};
    let (mut ptag, mut off, mut start) = (tag::FIRST, 4, 0);
    while let Some(raw) = block.get(off..off + 4) {
        let t = Tag(u32::from_be_bytes(raw.try_into().expect("four bytes")) ^ ptag);
        let end = off + 4 + t.size() as usize;
        if !t.is_valid() || end > block.len() {
            return;
        }
        if t.type3() == tag::REG && block[off + 4..end] == [from] {
            block[off + 4] = to;
        }
        ptag = t.0;
        if t.is_ccrc() {
            let sum = crc::crc(crc::SEED, &block[start..off + 4]);
            block[off + 4..off + 8].copy_from_slice(&sum.to_le_bytes());
            ptag ^= u32::from(t.chunk() & 1) << 31;
            start = end;
        }
        off = end;
    }
}

/// Whatever the bytes are, there is an answer, and the output is bounded.
#[test]
fn hostile_images_are_saved_in_bounds() {
    let mut random = Random(5);
    for round in 0..40 {
        let mut past = Past::new(ROOMY, round);
        (0..60).for_each(|_| past.step());
        let mut image = past.c.image();
        for _ in 0..30 {
            let at = random.below(image.len());
            image[at] = random.below(256) as u8;
        }
        let device = RamDevice::from_image(Geometry::new(512, 64).expect("possible"), image);
        let recovery = recover(&device, &|_| ()).expect("readable");
        let dir = tempfile::tempdir().expect("a directory");
        let (_, saved) = save(&recovery, &device, dir.path()).expect("saved");
        assert_eq!(saved.len(), recovery.files.len());
        let size = device.geometry().size();
        let all: u64 = recovery.files.iter().map(|file| file.present()).sum();
        assert!(all < 4096 * size, "{all} bytes");
    }
}
