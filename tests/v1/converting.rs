//! Converted images: they have the tree that lfs_migrate of the C driver makes, are sound for C
//! littlefs, and never have less than the old image.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, abort};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Model, content, file, littlefs, sample, superblock_of, tree};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::convert::{Failure, Job, Step, convert};
use littlefs::disk::superblock::VERSION_2_1;
use littlefs::image;
use testkit::clfs::{CLfs, Config};
use testkit::tree::{Tree, diff};
use testkit::v1::{Entry, MOVED, V1};

/// A program that runs lfs_migrate on a file. It is built from the sources of the C driver that the
/// other tests use.
fn migrate_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let text = |out: Vec<u8>| String::from_utf8(out).expect("UTF-8");
        let rustc = Command::new("rustc").arg("-vV").output().expect("rustc starts");
        let about = text(rustc.stdout);
        let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut metadata = Command::new(cargo);
        // only what is needed here is sure to be there
        metadata.args(["metadata", "--format-version", "1", "--offline"]);
        metadata.args(["--filter-platform", host, "--manifest-path"]);
        let out = metadata.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output();
        let out = out.expect("cargo starts");
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo metadata");
        let packages = json["packages"].as_array().expect("packages");
        let sys = packages.iter().find(|package| package["name"] == "littlefs2-sys");
        let manifest = sys.expect("a dependency")["manifest_path"].as_str().expect("a path");
        let sources = Path::new(manifest).parent().expect("a directory").join("littlefs");
        let program =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("migrate-{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-w", "-DLFS_MIGRATE", "-DLFS_NO_DEBUG", "-DLFS_NO_WARN"]);
        cc.arg("-DLFS_NO_ERROR").arg("-I").arg(&sources).arg("-o").arg(&program);
        cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/v1/migrate.c"));
        cc.arg(sources.join("lfs.c")).arg(sources.join("lfs_util.c"));
        assert!(cc.status().expect("a C compiler").success(), "{cc:?}");
        program
    })
}

/// An image after lfs_migrate, as the C driver shows it.
pub fn migrated(image: &[u8]) -> Tree {
    let sb = superblock_of(image);
    let (_dir, path) = file(image);
    let mut command = Command::new(migrate_program());
    let numbers = [sb.block_size, sb.block_count].map(|n| n.to_string());
    let status = command.arg(&path).args(numbers).status().expect("starts");
    assert_eq!(status.code(), Some(0), "lfs_migrate");
    c_tree(&fs::read(&path).expect("readable"))
}

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

fn c_tree(image: &[u8]) -> Tree {
    c_driver(image).tree(&[]).expect("readable")
}

/// Check that the image is a sound littlefs of version 2 with this tree, also for C littlefs, and
/// can be written.
fn verify(new: &[u8], expected: &Tree) {
    let sb = superblock_of(new);
    let geometry = Geometry::new(sb.block_size, sb.block_count).expect("possible");
    let device = RamDevice::from_image(geometry, new.to_vec());
    let report = littlefs::check::check(std::sync::Arc::new(device)).expect("can be examined");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let mut c = c_driver(new);
    diff("C littlefs", &c.tree(&[]).expect("readable"), "expected", expected).unwrap();
    c.write_file(b"new", &content(1, 300)).expect("C littlefs writes");
    let mut after = c.tree(&[]).expect("readable");
    after.remove(&b"new"[..]);
    diff("after a write", &after, "expected", expected).unwrap();
}

/// Interrupted renames and a removed directory.
fn unsettled(block_size: u32) -> V1 {
    let mut v1 = sample(block_size);
    v1.entry("large").kind |= MOVED;
    v1.entry("a/b/file1").kind |= MOVED;
    let mut new = v1.entry("a/b/file1").clone();
    new.kind &= !MOVED;
    new.name = b"renamed".to_vec();
    let at = v1.last_pair("e");
    v1.append(at, new);
    v1.directory();
    v1
}

#[test]
fn the_tree_that_lfs_migrate_makes() {
    for block_size in [128, 256, 512, 4096] {
        for v1 in [sample(block_size), unsettled(block_size)] {
            let old = v1.image();
            let expected = migrated(&old);
            diff("shown", &tree(&old), "lfs_migrate", &expected).unwrap();
            for version in ["2.0", "2.1"] {
                let (dir, path) = file(&old);
                let new = dir.path().join("new.img");
                let new = new.to_str().expect("UTF-8");
                let from = ["convert", "--from", "v1", "--disk-version", version];
                let (code, out, err) = littlefs(&[&from[..], &[&path, new]].concat());
                assert_eq!((code, &*err), (0, ""), "{out}");
                assert!(out.contains(&format!("littlefs {version}, 200 blocks")), "{out}");
                verify(&fs::read(new).expect("readable"), &expected);
                assert!(fs::read(&path).expect("readable") == old, "the old image was changed");
            }
            let (dir, path) = file(&old);
            let (code, _, err) = littlefs(&["convert", "--from", "v1", &path]);
            assert_eq!((code, &*err), (0, ""));
            verify(&fs::read(&path).expect("readable"), &expected);
            assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
            // and again
            let (code, _, err) = littlefs(&["convert", "--from", "v1", &path]);
            assert!(code == 1 && err.contains("is already a littlefs of version 2"), "{err}");
        }
    }
}

#[test]
fn as_littlefs_fuse_does_it() {
    let old = unsettled(512).image();
    let (dir, path) = file(&old);
    let lfs = dir.path().join("lfs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_littlefs"), &lfs).expect("linked");
    let out = Command::new(&lfs).args(["--migrate", "-b=512", &path]).output().expect("starts");
    assert!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
    verify(&fs::read(&path).expect("readable"), &migrated(&old));
    let out = Command::new(&lfs).args(["--migrate", "-b=512", &path]).output().expect("starts");
    assert_eq!(out.status.code(), Some(1));
}

/// In a dump, what is around the filesystem stays.
#[test]
fn inside_of_a_dump() {
    let old = sample(512).image();
    let dump = [vec![0x55; 4096], old.clone(), vec![0xaa; 1000]].concat();
    let (_dir, path) = file(&dump);
    let (code, _, err) = littlefs(&["convert", "--from", "v1", "--offset", "4096", &path]);
    assert_eq!((code, &*err), (0, ""));
    let new = fs::read(&path).expect("readable");
    assert_eq!(new.len(), dump.len());
    let end = 4096 + old.len();
    assert!(new[..4096] == dump[..4096] && new[end..] == dump[end..]);
    verify(&new[4096..end], &migrated(&old));
}

#[test]
fn other_blocks() {
    let old = sample(128).image();
    let (dir, path) = file(&old);
    let new = dir.path().join("new.img");
    let new = new.to_str().expect("UTF-8");
    let larger = ["--to-block-size", "512", "--block-count", "100"];
    let convert = ["convert", "--from", "v1"];
    let (code, out, err) = littlefs(&[&convert[..], &larger, &[&path, new]].concat());
    assert_eq!((code, &*err), (0, ""));
    assert!(out.contains("100 blocks of 512 bytes"), "{out}");
    verify(&fs::read(new).expect("readable"), &migrated(&old));
    let (code, _, err) = littlefs(&[&convert[..], &larger, &[&*path]].concat());
    assert!(code != 0 && err.contains("<OUT>"), "{err}");
}

/// What does not fit is refused with numbers, and these are correct.
#[test]
fn too_much_and_too_long() {
    let mut model = Model::new();
    for i in 0..30 {
        model.file(&format!("file-{i:03}"), content(i, 100));
    }
    let old = V1::of(128, 48, &model.0).image();
    let (dir, path) = file(&old);
    let new = dir.path().join("new.img");
    let new = new.to_str().expect("UTF-8");
    let convert = |more: &[&str]| littlefs(&[&["convert", "--from", "v1"], more].concat());
    let (code, out, err) = convert(&[&path]);
    let text = "a littlefs of 48 blocks of 128 bytes; it needs ";
    assert!(code == 1 && err.contains(text) && err.contains("larger --block-count"), "{out}{err}");
    let needed = err.split(text).nth(1).and_then(|rest| rest.split(' ').next()).expect("a number");
    let (code, _, err) = convert(&["--block-count", needed, &path, new]);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(c_tree(&fs::read(new).expect("readable")), model.0);

    let mut model = Model::new();
    model.dir("dir").file(&format!("dir/{}", "n".repeat(73)), content(1, 100));
    let old = V1::of(128, 64, &model.0).image();
    let (dir, path) = file(&old);
    let new = dir.path().join("new.img");
    let new = new.to_str().expect("UTF-8");
    let (code, _, err) = convert(&[&path]);
    assert!(code == 1 && err.contains("the name has 73 bytes"), "{err}");
    assert!(err.contains("names have at most 72 bytes") && err.contains("--to-block-size 256"));
    assert!(fs::read(&path).expect("readable") == old, "the old image was changed");
    let (code, _, err) = convert(&["--to-block-size", "256", &path, new]);
    assert_eq!((code, &*err), (0, ""));
    verify(&fs::read(new).expect("readable"), &model.0);
}

#[test]
fn damage_is_refused_or_given_up() {
    let mut v1 = sample(512);
    v1.entry("large").words[0] = 10_000;
    let words = v1.list(b"second");
    v1.append(0, Entry { kind: 0x11, name: b"exact".to_vec(), words, attrs: Vec::new() });
    let old = v1.image();
    let (_dir, path) = file(&old);
    let (code, _, err) = littlefs(&["convert", "--from", "v1", &path]);
    assert!(code == 1 && err.contains("/large") && err.contains("--salvage"), "{err}");
    assert!(fs::read(&path).expect("readable") == old, "the old image was changed");
    // the check does not repair it, and names this command
    let (code, _, err) = littlefs(&["check", "-y", &path]);
    let told = format!("'littlefs convert --from v1 --salvage {path}'");
    assert!(code == 4 && err.contains(&told) && err.contains("'littlefs recover "), "{err}");
    assert!(fs::read(&path).expect("readable") == old, "the old image was changed");
    let (code, _, err) = littlefs(&["convert", "--from", "v1", "--salvage", &path]);
    assert!(code == 0 && err.contains("/large: left out"), "{err}");
    let mut expected = super::varied(512);
    expected.remove(&b"large"[..]);
    verify(&fs::read(&path).expect("readable"), &expected);
}

/// If the image is in another dialect than the given one, the error says so.
#[test]
fn the_wrong_origin() {
    let (_dir, path) = file(&sample(512).image());
    let (code, _, err) = littlefs(&["convert", "--from", "chamelon", &path]);
    assert!(code == 1 && err.contains("convert it with --from v1"), "{err}");
}

/// Names the image for `converting::ends_at_a_step`, when the test below runs that.
const IMAGE: &str = "LITTLEFS_TEST_IMAGE";
/// The call of `step` at which it ends.
const STEP: &str = "LITTLEFS_TEST_STEP";

fn convert_in_place(path: &str, step: &dyn Fn(Step)) -> Result<(), Failure> {
    let options = image::Options { exclusive: true, ..image::Options::default() };
    let source = image::open(Path::new(path), &options).expect("opens");
    let (out, overwrite, salvage) = (None, false, false);
    let (disk_version, block_size, block_count) = (VERSION_2_1, None, None);
    let job =
        Job { source: &source, out, overwrite, salvage, disk_version, block_size, block_count };
    convert(&job, step).map(|_| ())
}

/// Not a test by itself. It converts an image, and dies at a step.
#[test]
fn ends_at_a_step() {
    let Ok(path) = env::var(IMAGE) else { return };
    let last: u32 = env::var(STEP).expect("given").parse().expect("a number");
    let steps = AtomicU32::new(0);
    let converted = convert_in_place(&path, &|_| {
        if steps.fetch_add(1, Ordering::Relaxed) == last {
            abort();
        }
    });
    converted.expect("converts");
}

/// A conversion that is killed at any step leaves the old or the new image, and can be done again.
#[test]
fn killed_at_every_step() {
    let mut model = Model::new();
    for i in 0..6 {
        model.file(&format!("file{i}"), content(i, 200 * i));
    }
    let image = V1::of(512, 64, &model.0).image();
    let (mut old, mut new) = (0, 0);
    for step in 0.. {
        let (dir, path) = file(&image);
        let mut child = Command::new(env::current_exe().expect("this program"));
        child.args(["--exact", "converting::ends_at_a_step"]);
        child.env(IMAGE, &path).env(STEP, step.to_string());
        let done = child.output().expect("starts").status.success();
        if fs::read(&path).expect("readable") == image {
            old += 1;
            convert_in_place(&path, &|_| ()).expect("converts again");
        } else {
            new += 1;
        }
        verify(&fs::read(&path).expect("readable"), &model.0);
        if done {
            assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
            break;
        }
    }
    // the last step is after the rename, then it was not killed at all
    assert!(old > 5 && new == 2, "{old} old, {new} new");
}
