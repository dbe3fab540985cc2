//! The program as users see it: `mkfs`, `info`, `check`, and every error of opening an image.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use littlefs::disk::crc;
use littlefs::image::{self, Options, Reason};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The result of a run.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Run `littlefs` with `args`.
fn littlefs<const N: usize>(args: [&str; N]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_littlefs"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program should start");
    Ran {
        code: status.code().expect("no signal should end it"),
        stdout: String::from_utf8(stdout).expect("stdout should be UTF-8"),
        stderr: String::from_utf8(stderr).expect("stderr should be UTF-8"),
    }
}

/// Run it, expecting success.
fn ok<const N: usize>(args: [&str; N]) -> Ran {
    let ran = littlefs(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    ran
}

/// Run it. It must fail with this exit code, and its one error in our form must contain all of
/// these words.
fn fails<const N: usize>(args: [&str; N], code: i32, words: &[&str]) {
    let ran = littlefs(args);
    assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
    assert!(ran.stderr.starts_with("littlefs: "), "{args:?}: {}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{args:?}: no {word:?} in {}", ran.stderr);
    }
}

fn info(image: &str) -> Value {
    serde_json::from_str(&ok(["info", "--json", image]).stdout).expect("JSON")
}

/// A directory for images.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8 path").to_owned()
    }

    /// Make a file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("write");
        self.name(name)
    }

    /// Make a new image.
    fn image(&self, name: &str, size: &str) -> String {
        let image = self.name(name);
        ok(["mkfs", "--size", size, &image]);
        image
    }

    /// Make an image of 16 blocks, all of which are in use.
    fn full_image(&self, name: &str) -> String {
        let (image, content) = (self.name(name), self.file("content", &[1; 57_000]));
        ok(["create", "-q", "--size", "min", &image, &content]);
        assert_eq!(fs::metadata(&image).expect("metadata").len(), 65536);
        image
    }
}

fn edit(image: &str) -> File {
    OpenOptions::new().read(true).write(true).open(image).expect("open")
}

fn overwrite(image: &str, at: u64, bytes: &[u8]) {
    edit(image).write_all_at(bytes, at).expect("overwrite");
}

/// The metadata block of a superblock with one valid commit. It may name the next pair.
fn superblock(version: u32, block_size: u32, block_count: u32, next: Option<[u32; 2]>) -> Vec<u8> {
    let mut block = 1_u32.to_le_bytes().to_vec();
    let mut previous = u32::MAX;
    let mut tag = |block: &mut Vec<u8>, tag: u32| {
        block.extend((tag ^ previous).to_be_bytes());
        previous = tag;
    };
    tag(&mut block, 0x0ff0_0008);
    block.extend(b"littlefs");
    tag(&mut block, 0x2010_0018);
    for word in [version, block_size, block_count, 255, 0x7fff_ffff, 1022] {
        block.extend(word.to_le_bytes());
    }
    if let Some(pair) = next {
        tag(&mut block, 0x601f_fc08);
        block.extend(pair.iter().flat_map(|b| b.to_le_bytes()));
    }
    tag(&mut block, 0x500f_fc04);
    let sum = crc::crc(crc::SEED, &block);
    block.extend(sum.to_le_bytes());
    block.resize(block_size as usize, 0xff);
    block
}

/// Two such blocks. The rest is erased.
fn image_of(version: u32, block_size: u32, block_count: u32) -> Vec<u8> {
    let mut bytes = superblock(version, block_size, block_count, None).repeat(2);
    bytes.resize((block_size * block_count) as usize, 0xff);
    bytes
}

#[test]
fn mkfs_makes_a_file_that_info_describes() {
    let dir = Scratch::new();
    let image = dir.name("new.img");
    let ran = ok(["mkfs", "--size", "1M", &image]);
    assert_eq!(ran.stdout, format!("{image}: littlefs 2.1, 256 blocks of 4096 bytes\n"));
    assert_eq!(ran.stderr, "");
    let meta = fs::metadata(&image).expect("metadata");
    assert_eq!(meta.len(), 1 << 20);
    assert!(meta.blocks() * 512 < 1 << 18, "free blocks should stay holes");
    assert_eq!(
        info(&image),
        json!({
            "dialect": "littlefs", "disk_version": "2.1", "block_size": 4096, "block_count": 256,
            "blocks_used": 2, "blocks_free": 254,
            "name_max": 255, "file_max": 2_147_483_647, "attr_max": 1022,
            "files": 0, "directories": 0, "prog_size": 16, "formats": [], "offset": 0,
            "image_size": 1 << 20,
        })
    );
    let text = ok(["info", &image]).stdout;
    assert!(text.contains("256 blocks of 4096 bytes (1 MiB)"), "{text}");
}

#[test]
fn a_profile_gives_mkfs_its_defaults() {
    let dir = Scratch::new();
    let image = dir.name("new.img");
    let limits = |image: &str| {
        let info = info(image);
        ["block_size", "name_max", "attr_max"].map(|key| info[key].as_u64().expect("a number"))
    };
    ok(["mkfs", "--profile", "arduino-esp8266", "--size", "1000K", &image]);
    assert_eq!(limits(&image), [8192, 32, 1022]);
    ok(["mkfs", "--force", "--profile", "nanoframework", "--block-size", "512", &image]);
    assert_eq!(limits(&image), [512, 255, 4]);
    ok(["mkfs", "--force", "--profile", "esp-idf", "--name-max", "255", &image]);
    assert_eq!(limits(&image), [4096, 255, 1022]);
    fails(["mkfs", "--profile", "esp", "--size", "1M", &image], 1, &["'esp'", "esp-idf"]);
}

#[test]
fn mkfs_options_reach_the_superblock() {
    let dir = Scratch::new();
    let image = dir.name("new.img");
    ok([
        "mkfs",
        "--block-size",
        "512",
        "--block-count",
        "100",
        "--disk-version",
        "2.0",
        "--name-max",
        "32",
        "--file-max",
        "100000",
        "--attr-max",
        "4",
        &image,
    ]);
    let found = info(&image);
    for (key, value) in [
        ("disk_version", json!("2.0")),
        ("block_size", json!(512)),
        ("block_count", json!(100)),
        ("name_max", json!(32)),
        ("file_max", json!(100_000)),
        ("attr_max", json!(4)),
        ("image_size", json!(51200)),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    assert_eq!(ok(["check", &image]).stdout, format!("{image}: clean, 0 errors, 0 notes\n"));
}

#[test]
fn mkfs_uses_an_existing_file_as_far_as_it_goes() {
    let dir = Scratch::new();
    for fill in [0x00, 0xff] {
        let image = dir.file("blank.img", &vec![fill; 10 * 4096 + 100]);
        ok(["mkfs", &image]);
        assert_eq!(info(&image)["block_count"], 10);
        assert_eq!(fs::metadata(&image).expect("metadata").len(), 10 * 4096 + 100);
    }
    let image = dir.file("short.img", &[0xff; 100]);
    ok(["mkfs", "--size", "64K", &image]);
    assert_eq!(info(&image)["image_size"], 65536);
}

#[test]
fn mkfs_refuses_impossible_geometry_and_leaves_no_file() {
    let dir = Scratch::new();
    let image = dir.name("new.img");
    let gone = || !Path::new(&image).exists();
    for (size, words) in [
        ("100", "not between 104 and 16777216"),
        ("0", "not between 104 and 16777216"),
        ("32M", "not between 104 and 16777216"),
        ("4098", "not a multiple of 4"),
    ] {
        let words = &["impossible geometry", words];
        fails(["mkfs", "--block-size", size, "--block-count", "16", &image], 1, words);
        assert!(gone(), "{size}");
    }
    fails(["mkfs", "--block-count", "1", &image], 1, &["block count 1 is not between 2 and"]);
    fails(["mkfs", "--size", "10000", &image], 1, &["10000 is not a multiple", "8192 and 12288"]);
    fails(["mkfs", "--size", "1T", &image], 1, &["'1T' is not a number of bytes"]);
    fails(
        ["mkfs", "--name-max", "1023", "--size", "1M", &image],
        1,
        &["1023", "must be a number from 1 to 1022"],
    );
    fails(["mkfs", "--disk-version", "2.2", "--size", "1M", &image], 1, &["2.0, 2.1"]);
    fails(["mkfs", "--size", "1M", "--block-count", "2", &image], 1, &["cannot be used with"]);
    fails(["mkfs", &image], 1, &["no such file; give --size or --block-count"]);
    assert!(gone());
    // The host cannot hold it: what was begun is removed.
    fails(["mkfs", "--block-size", "16M", "--block-count", "2147483648", &image], 1, &[&image]);
    assert!(gone());
    let inside = dir.name("missing/new.img");
    fails(["mkfs", "--size", "1M", &inside], 1, &["the directory does not exist"]);
}

#[test]
fn mkfs_overwrites_only_by_force() {
    let dir = Scratch::new();
    let image = dir.image("old.img", "1M");
    let before = fs::read(&image).expect("read");
    fails(["mkfs", &image], 1, &["holds a littlefs already; --force overwrites it"]);
    assert_eq!(fs::read(&image).expect("read"), before);
    ok(["mkfs", "--force", "--block-size", "8192", &image]);
    assert_eq!(fs::metadata(&image).expect("image").len() % 8192, 0);
    assert_eq!(info(&image)["image_size"], fs::metadata(&image).expect("image").len());
    let needed = info(&image)["block_count"].as_u64().expect("a number") * 8192;
    assert!(fs::metadata(&image).expect("image").len() >= needed, "the file is whole");
    assert_eq!(info(&image)["block_size"], 8192);

    // Block 0 is erased, block 1 is all that is left, far behind.
    ok(["mkfs", "--force", "--block-size", "256K", "--block-count", "4", &image]);
    overwrite(&image, 0, &[0xff; 256 << 10]);
    fails(["mkfs", &image], 1, &["holds a littlefs already"]);

    let mut text = vec![0; 65536];
    text[65535] = b'x';
    let other = dir.file("other", &text);
    fails(["mkfs", &other], 1, &["holds something else already; --force overwrites it"]);
    ok(["mkfs", "--force", &other]);
    let behind = dir.file("behind", &[vec![0xff; 65536], vec![b'x'; 4096]].concat());
    ok(["mkfs", &behind]);
}

#[test]
fn forced_mkfs_lets_nothing_old_come_back() {
    let dir = Scratch::new();
    let image = dir.name("old.img");
    let old = image_of(0x0002_0001, 8192, 16);
    fs::write(&image, &old).expect("write");
    ok(["mkfs", "--force", &image]);
    assert_eq!(info(&image)["block_count"], 32);
    overwrite(&image, 0, &[0; 8192]);
    fails(["info", &image], 1, &["not a littlefs image"]);

    // The filesystem gets the start of a larger file, whose rest is somebody else's.
    fs::write(&image, [old, b"precious littlefs".to_vec()].concat()).expect("write");
    ok(["mkfs", "--force", "--size", "64K", &image]);
    assert_eq!(info(&image)["block_count"], 16);
    overwrite(&image, 0, &[0; 8192]);
    fails(["info", &image], 1, &["not a littlefs image"]);
    assert!(fs::read(&image).expect("read").ends_with(b"precious littlefs"));
}

#[test]
fn mkfs_fill_leaves_no_hole() {
    let dir = Scratch::new();
    let image = dir.name("flash.bin");
    ok(["mkfs", "--fill", "--size", "256K", &image]);
    let bytes = fs::read(&image).expect("read");
    assert_eq!(bytes.len(), 256 << 10);
    assert!(bytes[8192..].iter().all(|&b| b == 0xff));
    assert!(bytes[..8192].iter().filter(|&&b| b != 0xff).count() < 512, "the pair is erased too");
}

#[test]
fn either_superblock_is_enough_at_any_block_size() {
    let dir = Scratch::new();
    let image = dir.name("new.img");
    for size in [104, 128, 512, 4096, 8192, 65536, 131_072, 1 << 20, 16 << 20] {
        let _ = fs::remove_file(&image);
        let block_size = size.to_string();
        ok(["mkfs", "--block-size", &block_size, "--block-count", "5", &image]);
        let both = info(&image);
        assert_eq!(both["block_size"], size);
        for broken in 0..2 {
            let block = broken * size;
            let mut saved = [0; 64];
            edit(&image).read_exact_at(&mut saved, block).expect("read");
            overwrite(&image, block, &[0; 64]);
            assert_eq!(info(&image)["block_count"], 5, "block {broken} of {size} bytes");
            overwrite(&image, block, &saved);
        }
    }
}

#[test]
fn filesystem_is_found_at_an_offset() {
    let dir = Scratch::new();
    let image = dir.image("part.img", "64K");
    let flash =
        dir.file("flash.bin", &[vec![0x5a; 1000], fs::read(&image).expect("read")].concat());
    let ran = ok(["info", &flash]);
    assert!(ran.stderr.contains("its filesystem starts at offset=1000 (0x3e8)"), "{}", ran.stderr);
    let words = &["no littlefs starts here", "offset=1000 (0x3e8)"];
    fails(["info", "--offset", "0", &flash], 1, words);
    let found = ok(["info", "--json", "--offset", "1000", &flash]).stdout;
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((&found["offset"], &found["image_size"]), (&json!(1000), &json!(66536)));
    assert_eq!(found["block_count"], 16);
    ok(["check", "--offset", "0x3e8", &flash]);
    let words = &["offset=66536 is not inside the file, which has 66536 bytes"];
    fails(["info", "--offset", "66536", &flash], 1, words);
}

#[test]
fn files_that_are_no_image_are_told_apart() {
    let dir = Scratch::new();
    let missing = dir.name("missing.img");
    fails(["info", &missing], 1, &[&missing, "no such file", "littlefs mkfs"]);
    let directory = dir.name("");
    fails(["info", &directory], 1, &["is a directory, not an image"]);
    fails(["info", "/dev/null"], 1, &["is neither a plain file nor a block device"]);
    let empty = dir.file("empty", b"");
    fails(["info", &empty], 1, &["not a littlefs image: the file is empty"]);
    let text = dir.file("text", &b"what littlefs is not\n".repeat(1000));
    let words = &["not a littlefs image", "neither \"littlefs\" at byte 8 of block 0 or block 1"];
    fails(["info", &text], 1, words);
    fails(["mkfs", "--size", "1M", &directory], 1, &["is a directory"]);
}

#[test]
fn newer_and_unknown_versions_are_named() {
    let dir = Scratch::new();
    for version in ["2.2", "3.0"] {
        let (major, minor) = version.split_once('.').expect("a dot");
        let number =
            major.parse::<u32>().expect("major") << 16 | minor.parse::<u32>().expect("minor");
        let image = dir.file("newer.img", &image_of(number, 512, 8));
        let words = &[&format!("newer version {version}"), "knows 2.0 and 2.1", "littlefs-progs"];
        fails(["info", &image], 1, &words.map(|w| w as &str));
    }
    let image = dir.file("odd.img", &image_of(0x0001_0007, 512, 8));
    fails(["info", &image], 1, &["unknown version 1.7"]);
}

#[test]
fn wrong_geometry_given_is_answered_by_the_right_one() {
    let dir = Scratch::new();
    let image = dir.image("new.img", "64K");
    for wrong in ["512", "8192", "64K", "100", "1G"] {
        let words = &["is wrong: the image says 4096", "leave out the block size"];
        fails(["info", "--block-size", wrong, &image], 1, words);
    }
    ok(["info", "--block-size", "4096", &image]);
    let options = Options { block_count: Some(17), ..Options::default() };
    let error = image::open(Path::new(&image), &options).err().expect("should be refused");
    assert!(matches!(error.reason, Reason::WrongBlockCount { given: 17, found: 16 }));
    assert!(error.to_string().contains("block count 17 is wrong: the image says 16"));
}

#[test]
fn geometry_outside_the_format_is_refused() {
    let dir = Scratch::new();
    let image = dir.file("odd.img", &image_of(0x0002_0001, 512, 1));
    fails(["info", &image], 1, &["impossible geometry: block count 1 is not between"]);
}

#[test]
fn the_last_copy_of_an_expanded_superblock_counts() {
    let dir = Scratch::new();
    let mut bytes = superblock(0x0002_0001, 512, 8, Some([2, 3])).repeat(2);
    bytes.extend(superblock(0x0002_0001, 512, 12, None).repeat(2));
    bytes.resize(12 * 512, 0xff);
    let image = dir.file("grown.img", &bytes);
    let opened = image::open(Path::new(&image), &Options::default()).expect("should open");
    assert_eq!(opened.superblock.block_count, 12);
    assert_eq!(opened.device.geometry().block_count, 12);

    // a chain that bites its tail ends
    let looped = superblock(0x0002_0001, 512, 8, Some([0, 1])).repeat(2);
    let image = dir.file("looped.img", &[looped, vec![0xff; 6 * 512]].concat());
    let opened = image::open(Path::new(&image), &Options::default()).expect("should open");
    assert_eq!(opened.superblock.block_count, 8);
}

#[test]
fn truncated_images_open_read_only() {
    let dir = Scratch::new();
    let image = dir.full_image("short.img");
    edit(&image).set_len(65536 - 5000).expect("set_len");
    let error = image::open(Path::new(&image), &Options::default()).err().expect("refused");
    assert!(matches!(error.reason, Reason::Truncated { missing: 5000, .. }));
    for word in ["truncated", "16 blocks of 4096 bytes", "5000 bytes", "-o ro"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let ran = ok(["info", &image]);
    assert!(ran.stderr.starts_with("littlefs: warning: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("truncated: the file lacks the last 5000 of the 65536 bytes"),
        "{}",
        ran.stderr
    );
    let ran = littlefs(["check", &image]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stdout.contains("the filesystem lacks 5000 bytes"), "{}", ran.stdout);

    let options = Options { read_only: true, ..Options::default() };
    let opened = image::open(Path::new(&image), &options).expect("should open");
    assert!(opened.read_only);
    let mut end = [0; 16];
    let e = opened.device.read(15, 4080, &mut end).expect_err("missing");
    assert!(e.source.to_string().contains("the image is truncated"), "{e:?}");
}

#[test]
fn images_longer_than_their_filesystem_open() {
    let dir = Scratch::new();
    let image = dir.image("long.img", "64K");
    edit(&image).set_len(100_000).expect("set_len");
    assert_eq!(info(&image)["image_size"], 100_000);
    ok(["check", &image]);
}

#[test]
fn damaged_superblocks_are_named() {
    let dir = Scratch::new();
    let image = dir.image("broken.img", "64K");
    overwrite(&image, 20, &[0]);
    ok(["info", &image]);
    overwrite(&image, 4096 + 20, &[0]);
    let words = &["both superblocks are damaged", "read the image from the device again"];
    fails(["info", &image], 1, words);
    fails(["check", &image], 8, words);
    overwrite(&image, 0, &[0; 64]);
    fails(["info", &image], 1, words);
}

#[test]
fn an_image_in_use_is_refused_and_readers_share() {
    let dir = Scratch::new();
    let image = dir.image("busy.img", "64K");
    let other = edit(&image);
    other.lock().expect("lock");
    let words = &["in use by process", "littlefs umount IMAGE"];
    fails(["info", &image], 1, words);
    fails(["check", &image], 8, words);
    fails(["mkfs", "--force", &image], 1, words);
    other.lock_shared().expect("lock");
    ok(["info", &image]);
    fails(["mkfs", "--force", &image], 1, words);

    other.unlock().expect("unlock");
    let opened = image::open(Path::new(&image), &Options::default()).expect("should open");
    assert!(!opened.read_only);
    fails(["info", &image], 1, words);
    drop(opened);
    // A program that another test starts just now may hold a copy of the lock until it runs.
    let deadline = Instant::now() + Duration::from_secs(10);
    while littlefs(["info", &image]).code != 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    ok(["info", &image]);
}

#[test]
fn a_write_protected_file_opens_read_only() {
    let dir = Scratch::new();
    let image = dir.image("kept.img", "64K");
    fs::set_permissions(&image, Permissions::from_mode(0o444)).expect("chmod");
    let opened = image::open(Path::new(&image), &Options::default()).expect("should open");
    assert!(opened.read_only);
    assert_eq!(
        opened.notes,
        [format!("{image}: the file cannot be written, so it is opened read-only")]
    );
    fails(["mkfs", "--force", &image], 1, &["is write-protected"]);
}

/// Root may read every file, so this runs as an ordinary user.
#[test]
fn a_forbidden_file_is_named() {
    let dir = Scratch::new();
    let image = dir.image("secret.img", "64K");
    fs::set_permissions(&image, Permissions::from_mode(0o000)).expect("chmod");
    if File::open(&image).is_err() {
        fails(["info", &image], 1, &["permission denied: reading needs the read permission"]);
        return;
    }
    let program = dir.path("littlefs");
    // Not by this process: what it starts elsewhere meanwhile would hold the copy open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_littlefs")).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    fs::set_permissions(&dir.0, Permissions::from_mode(0o755)).expect("chmod");
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let ran = Command::new("setpriv").args(user).arg(&program).args(["info", &image]).output();
    let ran = ran.expect("setpriv is needed by the tests");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.starts_with("littlefs: ") && said.contains(&image), "{said}");
    assert!(said.contains("permission denied: reading needs the read permission"), "{said}");
}

#[test]
fn check_uses_the_exit_codes_of_fsck() {
    let dir = Scratch::new();
    let image = dir.image("new.img", "64K");
    let report: Value =
        serde_json::from_str(&ok(["check", "--json", &image]).stdout).expect("JSON");
    assert_eq!(report["findings"], json!([]));
    fails(["check", &dir.name("missing.img")], 8, &["no such file"]);
    fails(["check", &dir.file("text", b"text")], 8, &["not a littlefs image"]);
    fails(["check", "--nonsense", &image], 16, &["--nonsense"]);
    fails(["check"], 16, &["IMAGE"]);
    fails(["-v", "check"], 16, &["IMAGE"]);
}

#[test]
fn wrong_usage_is_an_error_in_our_form() {
    fails([], 1, &["no command given", "Usage: littlefs"]);
    fails(["frobnicate"], 1, &["frobnicate"]);
    fails(["info"], 1, &["IMAGE"]);
    fails(["info", "--block-size", "many", "x"], 1, &["'many' is not a number of bytes"]);
}

#[test]
fn help_teaches_by_examples() {
    assert!(ok(["--help"]).stdout.contains("littlefs mount dump.bin /mnt"));
    for command in ["mount", "umount", "status", "mkfs", "info", "check", "journal", "run"] {
        let help = ok([command, "--help"]).stdout;
        let example = format!("\n  littlefs {command} ");
        assert!(help.contains(&example), "{command}: {help}");
    }
    assert!(ok(["--version"]).stdout.starts_with("littlefs "));
}

/// The reader of the output may stop at any time, as `head` does.
#[test]
fn a_closed_pipe_is_a_success() {
    let scratch = Scratch::new();
    let image = scratch.image("image", "64K");
    let new = scratch.name("new.img");
    let old = scratch.file("old.img", include_bytes!("../corpus/half-orphan.img"));
    ok(["kv", &image, "set", "key", "value"]);
    let journal = scratch.name("j");
    ok(["kv", "--journal", &journal, &image, "set", "key", "other"]);
    let damaged = littlefs(["check", &old]);
    for (line, code) in [
        (vec!["--help"], 0),
        (vec!["help", "kv"], 0),
        (vec!["--version"], 0),
        (vec!["info", &image], 0),
        (vec!["info", "--json", &image], 0),
        (vec!["check", &image], 0),
        // what a check found is told by its status, too
        (vec!["check", &old], damaged.code),
        (vec!["kv", &image, "list"], 0),
        (vec!["kv", "--json", &image, "list"], 0),
        (vec!["kv", &image, "get", "key"], 0),
        (vec!["kv", &image, "digest"], 0),
        (vec!["journal", "log", &journal], 0),
        (vec!["journal", "log", "--json", &journal], 0),
        (vec!["journal", "show", &journal, "1"], 0),
        (vec!["journal", "diff", &journal, "0", "1"], 0),
        (vec!["journal", "verify", &journal], 0),
        (vec!["journal", "save", &journal, "here"], 0),
        (vec!["journal", "export", "--at", "1", &journal, &new], 0),
        (vec!["journal", "squash", &journal], 0),
        (vec!["journal", "revert", &journal], 0),
        (vec!["journal", "commit", &journal, &image], 0),
        (vec!["mkfs", "--force", "--size", "64K", &image], 0),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = Command::new(env!("CARGO_BIN_EXE_littlefs"))
            .args(&line)
            .env_remove("RUST_LOG")
            .stdout(writer)
            .output()
            .expect("the program should start");
        let said = String::from_utf8_lossy(&out.stderr);
        let warnings = if code == 0 { "" } else { &damaged.stderr };
        assert_eq!((out.status.code(), &*said), (Some(code), warnings), "{line:?}");
    }
    // another failure of the output is one
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    ok(["kv", &image, "set", "key", "value"]);
    for line in [vec!["info", &image], vec!["kv", &image, "get", "key"], vec!["check", &image]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        let out = command.args(&line).stdout(full.try_clone().expect("a copy")).output();
        let out = out.expect("the program should start");
        assert!(!out.status.success() && !out.stderr.is_empty(), "{line:?}: {out:?}");
    }
}
