//! Converted images: the same content, sound for C littlefs, and never less than the old image.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output, abort};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::{Store, TIME, device, is_recognised, output, shown, superblock_of, value, varied};
use littlefs::check::check;
use littlefs::convert::{Job, Step, convert};
use littlefs::disk::superblock::VERSION_2_1;
use littlefs::image;
use testkit::chamelon::{Chamelon, manifest, sha1, written};
use testkit::clfs::{CLfs, Config, V2_0};
use testkit::tree::{Tree, diff};

fn littlefs(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    command.env_remove("RUST_LOG").args(args);
    command
}

fn run(command: &mut Command) -> Output {
    let out = output(command);
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// What a failing command prints.
fn refusal(command: &mut Command) -> String {
    refused(command, output)
}

/// What it prints if somebody else uses the file.
fn refusal_in_use(command: &mut Command) -> String {
    refused(command, |command| command.output().expect("starts"))
}

fn refused(command: &mut Command, output: impl Fn(&mut Command) -> Output) -> String {
    let out = output(command);
    assert_eq!(out.status.code(), Some(1), "{command:?}: {out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A directory with an image in it, `kv.img`.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn with(image: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("kv.img"), image).expect("written");
        Self(dir)
    }

    fn name(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn convert(&self, more: &[&str]) -> Command {
        let mut command = littlefs(&["convert", "--from", "chamelon", &self.name("kv.img")]);
        command.args(more);
        command
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.name(name)).expect("readable")
    }

    /// The names of all files here.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).expect("listed");
        let names = names.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// C littlefs over an image.
fn c_driver(image: &[u8]) -> CLfs {
    let sb = superblock_of(image);
    let config = Config {
        disk_version: sb.version,
        erased: 0,
        strict_erase: false,
        ..Config::new(sb.block_size, sb.block_count, 16)
    };
    CLfs::mount(image.to_vec(), &config).expect("C littlefs mounts it")
}

/// Check that the image is a sound littlefs with the content that `old` shows, for C littlefs as
/// well, and that it can be changed.
fn verify(old: &[u8], new: &[u8]) -> Tree {
    assert!(!is_recognised(new));
    let report = check(device(new)).expect("can be examined");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let expected = testkit::ours::tree_of(&mut shown(old)).expect("readable");
    let mut c = c_driver(new);
    diff("C littlefs", &c.tree(&[TIME]).expect("readable"), "shown", &expected).unwrap();
    for i in 0..20 {
        c.write_file(format!("new{i}").as_bytes(), &value(i, 40 * i)).expect("C littlefs writes");
    }
    let mut after = c.tree(&[TIME]).expect("readable");
    after.retain(|path, _| !path.starts_with(b"new"));
    diff("after writes", &after, "shown", &expected).unwrap();
    expected
}

#[test]
fn what_chamelon_wrote_in_place() {
    let s = Scratch::with(&written());
    let (image, link) = (s.name("kv.img"), s.name("link"));
    symlink("kv.img", &link).expect("linked");
    fs::set_permissions(&image, Permissions::from_mode(0o640)).expect("set");
    chown(&image, Some(12), Some(34)).expect("the tests run as root");
    let out = run(&mut littlefs(&["convert", "--from", "chamelon", &link]));
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("littlefs 2.1, 128 blocks of 4096 bytes: 36 files"), "{said}");
    assert!(out.stderr.is_empty(), "{out:?}");
    let meta = fs::metadata(&image).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 12, 34));
    assert_eq!(s.files(), ["kv.img", "link"]);
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());

    let new = s.read("kv.img");
    assert_eq!(new.len(), 512 << 10);
    verify(&written(), &new);
    let mut c = c_driver(&new);
    for (path, (size, sum)) in manifest() {
        let bytes = c.read_file(path.as_bytes()).expect("readable");
        assert_eq!((bytes.len() as u64, sha1(&bytes)), (size, sum), "{path}");
    }
    // what it needed to be written to is gone
    let said = refusal(&mut s.convert(&[]));
    assert!(said.contains("is already a littlefs"), "{said}");
}

#[test]
fn generated_images_to_a_file_of_their_own() {
    for (block_size, block_count, prog_size) in [(512, 400, 16), (1024, 200, 64), (4096, 64, 16)] {
        let store = varied(block_size, block_count, prog_size);
        let s = Scratch::with(&store.chamelon.image);
        let new = s.name("new.img");
        let out = run(&mut s.convert(&["--json", "--disk-version", "2.0", &new]));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(json["disk_version"], "2.0");
        assert_eq!(json["block_count"], block_count);
        assert_eq!(json["doubts"], serde_json::json!([]));
        assert!(s.read("kv.img") == store.chamelon.image, "the old image was changed");
        let mut shown = verify(&store.chamelon.image, &s.read("new.img"));
        shown.values_mut().for_each(|e| e.attrs.clear());
        diff("shown", &shown, "stored", &store.model).unwrap();
        assert_eq!(superblock_of(&s.read("new.img")).version, V2_0);
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let s = Scratch::with(&written());
    let (image, new) = (s.name("kv.img"), s.name("new.img"));
    let said = refusal(&mut s.convert(&[&image]));
    assert!(said.contains("is the image itself; leave OUT out"), "{said}");
    fs::write(&new, b"precious").expect("written");
    let said = refusal(&mut s.convert(&[&new]));
    assert!(said.contains("new.img: exists; --force overwrites it"), "{said}");
    assert_eq!(s.read("new.img"), b"precious");
    let said = refusal(&mut s.convert(&["--force", &s.name("")]));
    assert!(said.contains("neither a plain file"), "{said}");

    // in use: for readers there is OUT
    let reader = File::open(&image).expect("opens");
    reader.lock_shared().expect("locked");
    let said = refusal_in_use(&mut s.convert(&[]));
    assert!(said.contains("kv.img: in use by"), "{said}");
    run(&mut s.convert(&["--force", &new]));
    verify(&written(), &s.read("new.img"));
    drop(reader);

    // what is overwritten must not be in use, either
    let user = File::open(&new).expect("opens");
    user.lock_shared().expect("locked");
    let said = refusal_in_use(&mut s.convert(&["--force", &new]));
    assert!(said.contains("new.img: in use by"), "{said}");
    drop(user);

    fs::set_permissions(&image, Permissions::from_mode(0o444)).expect("set");
    let said = refusal(&mut s.convert(&[]));
    assert!(said.contains("cannot be written; give OUT"), "{said}");
    assert!(s.read("kv.img") == written() && s.files() == ["kv.img", "new.img"]);

    fs::write(&new, [0; 8192]).expect("written");
    let said = refusal(&mut littlefs(&["convert", "--from", "chamelon", &new]));
    assert!(said.contains("not a littlefs image"), "{said}");
    run(&mut littlefs(&["mkfs", "--force", "--size", "64K", &new]));
    let said = refusal(&mut littlefs(&["convert", "--from", "chamelon", &new]));
    assert!(said.contains("give --dialect chamelon"), "{said}");
}

/// What is around the filesystem in the file stays.
#[test]
fn inside_a_larger_file() {
    let store = varied(512, 400, 16);
    let (before, behind) = (value(1, 8192), value(2, 777));
    let whole = [&before[..], &store.chamelon.image, &behind].concat();
    let s = Scratch::with(&whole);
    run(&mut s.convert(&["--offset", "8192"]));
    let new = s.read("kv.img");
    assert_eq!(new.len(), whole.len());
    let end = 8192 + store.chamelon.image.len();
    assert!(new[..8192] == before && new[end..] == behind);
    verify(&store.chamelon.image, &new[8192..end]);
}

#[test]
fn without_room_nothing_changes() {
    let mut store = Store::new(512, 18, 16);
    for i in 0..3 {
        store.mkdir(&format!("d{i}"));
        // in littlefs only an eighth of a block is kept in its directory
        store.set(&format!("d{i}/v"), value(i, 128));
    }
    store.set("large", value(9, 4000));
    let s = Scratch::with(&store.chamelon.image);
    let said = refusal(&mut s.convert(&[]));
    assert!(said.contains("does not fit into a littlefs of 18 blocks of 512 bytes"), "{said}");
    assert!(said.contains("--block-count"), "{said}");
    assert_eq!(s.files(), ["kv.img"]);
    assert!(s.read("kv.img") == store.chamelon.image);
    let new = s.name("new.img");
    run(&mut s.convert(&[&new, "--block-count", "80"]));
    assert_eq!(s.read("new.img").len(), 80 * 512);
    verify(&store.chamelon.image, &s.read("new.img"));
}

/// The host may run out of space at any point.
#[test]
fn a_host_without_space_changes_nothing() {
    let s = Scratch::with(&written());
    let limited = |kib: u32| {
        let mut sh = Command::new("sh");
        sh.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &(2 * kib).to_string()]);
        sh.arg(env!("CARGO_BIN_EXE_littlefs"));
        sh.args(["convert", "--from", "chamelon", &s.name("kv.img")]);
        sh
    };
    for kib in [0, 4, 8, 40, 160, 300, 511] {
        let said = refusal(&mut limited(kib));
        assert!(said.contains("kv.img: ") && said.contains("file too large"), "{said}");
        assert!(s.read("kv.img") == written() && s.files() == ["kv.img"]);
    }
    run(&mut limited(512));
    verify(&written(), &s.read("kv.img"));
}

/// Names the image for `converting::ends_at_a_step`, when the test below runs that.
const IMAGE: &str = "LITTLEFS_TEST_IMAGE";
/// The call of `step` at which it ends.
const STEP: &str = "LITTLEFS_TEST_STEP";

/// Not a test by itself. It converts an image, and dies at a step.
#[test]
fn ends_at_a_step() {
    let Ok(path) = env::var(IMAGE) else { return };
    let last: u32 = env::var(STEP).expect("given").parse().expect("a number");
    let options = image::Options { exclusive: true, ..image::Options::default() };
    let source = image::open(Path::new(&path), &options).expect("opens");
    let job = Job {
        source: &source,
        out: None,
        overwrite: false,
        salvage: false,
        disk_version: VERSION_2_1,
        block_size: None,
        block_count: None,
    };
    let steps = AtomicU32::new(0);
    let outcome = convert(&job, &|_: Step| {
        if steps.fetch_add(1, Ordering::Relaxed) == last {
            abort();
        }
    });
    outcome.expect("converts");
}

/// A conversion that is killed at any step leaves the old image or the new one.
#[test]
fn killed_at_every_step() {
    let mut store = Store::new(512, 200, 16);
    for i in 0..6 {
        store.set(&format!("d{}/v{i}", i % 2), value(i, 300 * i));
    }
    let (mut old, mut new) = (0, 0);
    for step in 0.. {
        let s = Scratch::with(&store.chamelon.image);
        let mut child = Command::new(env::current_exe().expect("this program"));
        child.args(["--exact", "converting::ends_at_a_step"]);
        child.env(IMAGE, s.name("kv.img")).env(STEP, step.to_string());
        let done = child.output().expect("starts").status.success();
        let image = s.read("kv.img");
        if image == store.chamelon.image {
            old += 1;
            // and it can be done again, whatever was left behind
            run(&mut s.convert(&[]));
        } else {
            new += 1;
        }
        verify(&store.chamelon.image, &s.read("kv.img"));
        if done {
            assert_eq!(s.files(), ["kv.img"]);
            break;
        }
    }
    // the last step is after the rename, then it was not killed at all
    assert!(old > 10 && new == 2, "{old} old, {new} new");
}

/// Another file gets the name of the image during the conversion. That file stays, and it is not
/// read.
#[test]
fn an_image_that_loses_its_name_is_not_replaced() {
    let (s, victim) = (Scratch::with(&written()), Scratch::with(b"somebody else's"));
    let options = image::Options { exclusive: true, ..image::Options::default() };
    let swap: [&dyn Fn(); 2] =
        [&|| symlink(victim.name("kv.img"), s.name("kv.img")).expect("a link"), &|| {
            fs::write(s.name("kv.img"), "another").expect("written")
        }];
    for put_another in swap {
        let name = s.name("kv.img");
        // A program that another test starts has the descriptors of this one for a moment, and with
        // them the lock of the round before.
        let source = (0..1000).find_map(|_| {
            let opened = image::open(Path::new(&name), &options);
            opened.inspect_err(|_| thread::sleep(Duration::from_millis(10))).ok()
        });
        let source = source.expect("opens");
        let (out, overwrite, salvage) = (None, false, false);
        let (disk_version, block_size, block_count) = (VERSION_2_1, None, None);
        let job =
            Job { source: &source, out, overwrite, salvage, disk_version, block_size, block_count };
        let failure = convert(&job, &|step| {
            if step == Step::Written {
                fs::rename(&name, s.name("moved")).expect("renamed");
                put_another();
            }
        });
        let e = failure.expect_err("it has no name to replace").to_string();
        assert!(e.contains("in the meantime"), "{e}");
        assert_eq!(victim.read("kv.img"), b"somebody else's");
        assert_ne!(s.read("kv.img"), written());
        assert_eq!(s.files(), ["kv.img", "moved"]);
        fs::rename(s.name("moved"), &name).expect("renamed");
        assert_eq!(s.read("kv.img"), written());
    }
}

#[test]
fn damage_is_refused_or_given_up() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("kept", &value(1, 1000));
    c.set("d/lost", &value(2, 2000));
    c.set("e/f", &value(3, 10));
    let e = c.pairs("e")[0];
    c.point("d", "bad", 9999, 700);
    for block in [e.0, e.1] {
        c.image[block as usize * 512..][..512].fill(0x5a);
    }
    let s = Scratch::with(&c.image);
    let said = refusal(&mut s.convert(&[]));
    for word in ["/e: ", "/d/bad: ", "--salvage", "littlefs check"] {
        assert!(said.contains(word), "no {word} in {said}");
    }
    assert!(s.read("kv.img") == c.image && s.files() == ["kv.img"]);
    let out = run(&mut s.convert(&["--salvage"]));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("/e: left out") && said.contains("/d/bad: left out"), "{said}");
    let mut driver = c_driver(&s.read("kv.img"));
    let tree = driver.tree(&[]).expect("readable");
    let paths: Vec<_> = tree.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["", "d", "d/lost", "kept"]);
}

/// Values that chamelon itself has overwritten read as chamelon reads them, and are reported.
#[test]
fn overwritten_values_are_converted_as_they_are() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("old", &value(1, 2000));
    c.restart();
    c.set("new", &value(2, 2000));
    let s = Scratch::with(&c.image);
    let out = run(&mut s.convert(&[]));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("/old: bytes 0..512 are lost"), "{said}");
    let mut driver = c_driver(&s.read("kv.img"));
    assert_eq!(driver.read_file(b"new").expect("readable"), value(2, 2000));
    assert_eq!(driver.read_file(b"old").expect("readable")[512..], value(1, 2000)[512..]);
}
