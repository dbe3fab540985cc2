//! The program under the names of other tools, with links in a private directory.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use testkit::desk::Desk;
use testkit::python::python;

/// Run the program under a name.
fn called(desk: &Desk, name: &str, args: &[&str]) -> Output {
    let link = desk.path(&format!("bin/{name}"));
    if !link.exists() {
        desk.dir("bin");
        symlink(env!("CARGO_BIN_EXE_littlefs"), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command.args(args).current_dir(desk.path("."));
    command.env_remove("RUST_LOG").env_remove("SOURCE_DATE_EPOCH");
    command.output().expect("the program should start")
}

/// Run it. It must succeed. Returns what it prints.
fn said(desk: &Desk, name: &str, args: &[&str]) -> String {
    let out = called(desk, name, args);
    assert!(out.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// Run it. It must fail with this exit code and print these words on standard error.
fn fails(desk: &Desk, name: &str, args: &[&str], code: i32, words: &str) {
    let out = called(desk, name, args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{name} {args:?}: {stderr}");
    assert!(stderr.contains(words), "{name} {args:?}: no {words:?} in {stderr}");
}

fn same(a: &Path, b: &Path) {
    let out = Command::new("diff").arg("-r").args([a, b]).output().expect("diff");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// The directory of a sketch. Everything in it has the same time: 2023-11-14 22:13:20 UTC.
fn sketch() -> Desk {
    let desk = Desk::new();
    desk.file("data/index.html", b"<title>x</title>")
        .file("data/js/app.js", &[b'j'; 9000])
        .file("data/.gitignore", b"*")
        .file("data/js/.git/config", b"[core]")
        .file("elsewhere/large.txt", b"linked")
        .dir("data/empty/below");
    symlink("../elsewhere/large.txt", desk.path("data/link.txt")).expect("a link");
    symlink("../elsewhere", desk.path("data/linked")).expect("a link");
    symlink("nowhere", desk.path("data/dangling")).expect("a link");
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in ["data/index.html", "data/js/app.js", "elsewhere/large.txt", "data/js"] {
        File::open(desk.path(path)).and_then(|f| f.set_modified(then)).expect("a time");
    }
    desk
}

#[test]
fn mklittlefs_packs_lists_and_unpacks_as_platformio_calls_it() {
    let desk = sketch();
    let args = ["-c", "data", "-p", "256", "-b", "8192", "-s", "1024000", "fs.bin"];
    assert_eq!(said(&desk, "mklittlefs", &args), "/index.html\n/link.txt\n/js/app.js\n");
    assert_eq!(desk.read("fs.bin").len(), 1_024_000);
    desk.check("fs.bin");
    let info = desk.ok(&["info", "--json", "fs.bin"]).json();
    assert_eq!(info["disk_version"], "2.0");
    assert_eq!((&info["block_size"], &info["block_count"]), (&8192.into(), &125.into()));
    assert_eq!(info["name_max"], 32, "what the devices of ESP8266 take");

    let list = said(&desk, "mklittlefs", &["-l", "fs.bin"]);
    let lines: Vec<&str> = list.lines().collect();
    let when = "Tue Nov 14 22:13:20 2023";
    assert_eq!(lines[0], format!("16\t/index.html\t{when}"));
    assert_eq!(lines[1], format!("<dir>\t/js\t{when}"));
    assert_eq!(lines[2], format!("9000\t/js/app.js\t{when}"));
    assert_eq!(lines[3], format!("6\t/link.txt\t{when}"));
    assert!(lines[4].starts_with("Creation time:\t"), "{list}");
    assert_eq!(lines.len(), 5, "{list}");

    let unpacked = said(&desk, "mklittlefs", &["-u", "out", "fs.bin"]);
    assert!(unpacked.starts_with("Directory out does not exists. Try to create it.\n"));
    assert!(unpacked.contains("/js/app.js\t > out/js/app.js\tsize: 9000 Bytes\n"), "{unpacked}");
    assert_eq!(desk.names("out"), ["index.html", "js", "link.txt"]);
    assert_eq!(desk.read("out/link.txt"), b"linked");
    let time = fs::metadata(desk.path("out/index.html")).and_then(|m| m.modified()).expect("time");
    assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));

    // with -a nothing is left out but empty directories and what links lead to that is no file
    let args = ["-c", "data", "-a", "-s", "0x40000", "-d", "5", "all.bin"];
    let all = said(&desk, "mklittlefs", &args);
    assert!(all.starts_with("/.gitignore\n") && all.contains("/js/.git/config\n"), "{all}");
    assert!(all.contains("  Total: 262144 bytes (64 blocks)\n"), "{all}");
    desk.check("all.bin");
}

#[test]
fn mklittlefs_takes_a_list_of_files() {
    let desk = sketch();
    desk.file("list", b"/js/app.js\r\n\nindex.html\n");
    let args = ["-c", "data", "-T", "list", "-s", "65536", "fs.bin"];
    assert_eq!(said(&desk, "mklittlefs", &args), "/index.html\n/js/app.js\n");
    assert_eq!(desk.ok(&["ls", "-R", "-1", "fs.bin"]).text().matches("app.js").count(), 1);
    desk.file("list", b"../elsewhere/large.txt\n");
    fails(&desk, "mklittlefs", &args, 1, "leads out of the image");
    desk.file("list", b"none\n");
    fails(&desk, "mklittlefs", &args, 1, "none: no such file");
}

#[test]
fn a_failed_build_fails_and_changes_nothing() {
    let desk = sketch();
    desk.file("fs.bin", b"before").file("big/sub/file", &[7; 70_000]);
    let full = ["-c", "big", "-s", "65536", "fs.bin"];
    fails(&desk, "mklittlefs", &full, 1, "does not fit into 16 blocks");
    fails(&desk, "mklittlefs", &["-c", "none", "-s", "65536", "fs.bin"], 1, "no such directory");
    fails(&desk, "mklittlefs", &["-c", "data", "fs.bin"], 1, "-s BYTES");
    let wrong = ["-c", "data", "-s", "65536", "-r", "48", "fs.bin"];
    fails(&desk, "mklittlefs", &wrong, 1, "a multiple of the read size");
    fails(&desk, "mklittlefs", &["-l", "none.bin"], 1, "no such file");
    let args = ["create", "big", "fs.bin", "--block-size=4096", "--fs-size=64kb"];
    fails(&desk, "littlefs-python", &args, 1, "does not fit");
    let args = ["create", "data", "fs.bin", "--block-size=4096", "--fs-size=5000"];
    fails(&desk, "littlefs-python", &args, 2, "must be a multiple of block-size");
    fails(&desk, "littlefs-python", &["list", "none", "--block-size=4096"], 2, "does not exist");
    assert_eq!(desk.read("fs.bin"), b"before");
    assert!(!desk.path("none.bin").exists());
}

#[test]
fn littlefs_python_does_what_the_original_does() {
    let desk = Desk::with_image();
    desk.file("data/long name.txt", &[b'l'; 600]).file("data/b/c/d/e", &[b'e'; 5000]);
    let original = |args: &[&str]| {
        let mut command = Command::new(python());
        command.args(["-m", "littlefs"]).args(args).current_dir(desk.path("."));
        let out = command.output().expect("python");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let ours = |args: &[&str]| said(&desk, "littlefs-python", args);
    // as esp_littlefs calls it
    let geometry = ["--fs-size=0x40000", "--name-max=64", "--block-size=4096"];
    let create = |image| [&["create", "data", image, "-v"][..], &geometry].concat();
    let (theirs, our) = (original(&create("theirs.img")), ours(&create("ours.img")));
    let heads = |text: &str| text.lines().take(6).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(heads(&theirs)[..5], heads(&our)[..5]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let added = |text: &str| sorted(text).into_iter().filter(|l| l.starts_with("Adding")).count();
    assert_eq!(added(&theirs), added(&our));
    desk.check("ours.img");
    let info = |image| desk.ok(&["info", "--json", image]).json();
    let (mut a, mut b) = (info("theirs.img"), info("ours.img"));
    for key in ["blocks_used", "blocks_free"] {
        let (theirs, ours) = (a[key].take(), b[key].take());
        let difference = theirs.as_u64().expect("blocks").abs_diff(ours.as_u64().expect("blocks"));
        assert!(difference <= 2, "{key}: {theirs} and {ours}");
    }
    assert_eq!(a, b);
    for image in ["theirs.img", "ours.img"] {
        let list = ["list", image, "--block-size=4096"];
        assert_eq!(sorted(&original(&list)), sorted(&ours(&list)));
        let out = format!("out-{image}");
        original(&["extract", image, &format!("{out}-theirs"), "--block-size=4096"]);
        ours(&["extract", image, &format!("{out}-ours"), "--block-size=0x1000"]);
        same(&desk.path("data"), &desk.path(&format!("{out}-theirs")));
        same(&desk.path("data"), &desk.path(&format!("{out}-ours")));
    }
    // a compacted image is shorter than its filesystem; a single file goes to the root
    let compact = ["create", "data", "short.img", "--compact", "--no-pad"];
    ours(&[&compact[..], &geometry].concat());
    assert!(desk.read("short.img").len() < 0x20000);
    original(&["extract", "short.img", "out-short", "--block-size=4096"]);
    same(&desk.path("data"), &desk.path("out-short"));
    let single = ["create", "data/etc/config.txt", "sub/one.img"];
    ours(&[&single[..], &geometry].concat());
    assert_eq!(ours(&["list", "sub/one.img", "--block-size=4kb"]), "/config.txt\n");
}

#[test]
fn lfs_formats_describes_and_mounts() {
    let desk = Desk::new();
    desk.file("dev.img", &[0xff; 256 << 10]).dir("mnt");
    let format =
        ["--format", "-b=4096", "--block_count=64", "-d=lfs2.0", "--name_max=50", "dev.img"];
    assert_eq!(said(&desk, "lfs", &format), "");
    let stat = said(&desk, "lfs", &["--stat", "-b=4096", "dev.img"]);
    assert_eq!(
        stat,
        "disk_version: lfs2.0\nblock_size: 4096\nblock_count: 64\n  used: 2/64 (3.1%)\n  free: \
         62/64 (96.9%)\nname_max: 50\nfile_max: 2147483647\nattr_max: 1022\n"
    );
    assert_eq!(said(&desk, "lfs", &["-b=4096", "--read_size=16", "dev.img", "mnt"]), "");
    fs::write(desk.path("mnt/file"), b"through lfs").expect("a file on the mount");
    let umount = Command::new(env!("CARGO_BIN_EXE_littlefs"))
        .arg("umount")
        .arg(desk.path("mnt"))
        .output()
        .expect("umount");
    assert!(umount.status.success(), "{}", String::from_utf8_lossy(&umount.stderr));
    assert_eq!(desk.ok(&["cat", "dev.img", "file"]).stdout, b"through lfs");

    desk.file("noise.img", &[0x5a; 8192]);
    fails(&desk, "lfs", &["--stat", "noise.img"], 84, "noise.img: not a littlefs image");
    fails(&desk, "lfs", &["--stat", "none.img"], 2, "none.img: no such file");
    fails(&desk, "lfs", &["--stat", "-b=512", "dev.img"], 22, "512");
    fails(&desk, "lfs", &["--format", "noise.img"], 1, "-b=BYTES");
    fails(&desk, "lfs", &["--format", "-b=4096", "-d=3.0", "noise.img"], 1, "invalid disk version");
    assert_eq!(desk.read("noise.img"), [0x5a; 8192]);
}

/// scripts/install.sh refuses before it builds or installs anything.
#[test]
fn names_of_other_packages_are_not_taken() {
    let desk = Desk::new();
    let install = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh"));
    let run = |names: &str| {
        let mut command = Command::new(&install);
        command.args(["--prefix", "/usr", "--compat", names]).env("DESTDIR", desk.path("root"));
        command.output().expect("the script should start")
    };
    desk.file("root/usr/bin/lfs", b"Lustre's");
    for (names, words) in
        [("mklittlefs,lfs", "belongs to something else"), ("mkfs", "is not one of")]
    {
        let out = run(names);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    assert_eq!(desk.read("root/usr/bin/lfs"), b"Lustre's");
    assert_eq!(desk.names("root/usr/bin"), ["lfs"], "nothing else was installed");
}

/// Files that are not images, and places where nothing can be created: there is an error at once,
/// and nothing is left.
#[test]
fn odd_files_and_places_are_errors() {
    let desk = sketch();
    let fifo = desk.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    desk.file("empty", b"");
    let no_file = "neither a plain file nor a block device";
    let cases: [(&str, &[&str], i32, &str); 11] = [
        ("lfs", &["--format", "fifo"], 1, "not a block device"),
        ("lfs", &["--format", "-b=4096", "fifo"], 1, no_file),
        ("lfs", &["--stat", "fifo"], 84, no_file),
        ("mklittlefs", &["-l", "fifo"], 1, no_file),
        ("mklittlefs", &["-c", "data", "-s", "65536", "fifo"], 1, no_file),
        ("mklittlefs", &["-c", "fifo", "-s", "65536", "x.img"], 1, "no such directory"),
        ("mklittlefs", &["-c", "data", "-s", "65536", "gone/x.img"], 1, "directory does not exist"),
        ("mklittlefs", &["-c", "data", "-s", "4294967296", "x.img"], 1, "is too large"),
        ("mklittlefs", &["-l", "empty"], 1, "the file is empty"),
        ("littlefs-python", &["list", "fifo", "--block-size=4096"], 2, "does not exist"),
        (
            "littlefs-python",
            &["create", "data", "x.img", "--fs-size=99999999999999gb", "--block-size=4096"],
            2,
            "is too large",
        ),
    ];
    for (name, args, code, words) in cases {
        fails(&desk, name, args, code, words);
    }
    assert!(!desk.path("x.img").exists() && !desk.path("gone").exists());
}
