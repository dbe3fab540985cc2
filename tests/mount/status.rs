//! `littlefs status`: its numbers change with what they count.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fuser::{Config, Filesystem, MountOption};
use serde_json::Value;

use testkit::mounted::{Mounted, littlefs, noise, output, run, wait_until};

/// The status of a mount.
pub fn status(target: &Path) -> Value {
    let text = run(littlefs().args(["status", "--json"]).arg(target));
    serde_json::from_str(&text).expect("JSON")
}

/// What it prints for `target`.
fn shown(target: &Path) -> String {
    run(littlefs().arg("status").arg(target))
}

#[track_caller]
fn refused(target: &Path, words: &[&str]) {
    let out = output(littlefs().arg("status").arg(target));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

#[test]
fn what_is_unwritten_is_written_by_fsync() {
    let m = Mounted::with_options("1M", "commit=3600");
    let fresh = status(&m.dir());
    assert_eq!(fresh["filesystem"]["unwritten"]["bytes"], 0);
    assert!(fresh["filesystem"]["flushes"]["last"].is_null(), "{fresh}");
    // A pause, which this test may be made to take, writes it earlier.
    let mut seen = Value::Null;
    wait_until("unwritten bytes", || {
        fs::write(m.path("large"), noise(50_000, 1)).expect("write");
        fs::write(m.path("small"), noise(30, 1)).expect("write");
        seen = status(&m.dir());
        seen["filesystem"]["unwritten"]["bytes"] == 50_030
    });
    assert_eq!(seen["filesystem"]["unwritten"]["files"], 1, "{seen}");
    assert!(seen["filesystem"]["unwritten"]["pairs"].as_u64() >= Some(1), "{seen}");
    assert!(seen["dirty_since"].is_f64(), "{seen}");
    assert!(shown(&m.dir()).contains("unwritten     48.9 KiB of content, 1 large file, "));
    let before = seen["filesystem"]["flushes"]["done"].as_u64();

    File::open(m.path("small")).and_then(|f| f.sync_all()).expect("fsync");
    let after = status(&m.dir());
    for key in ["bytes", "files", "pairs"] {
        assert_eq!(after["filesystem"]["unwritten"][key], 0, "{key}");
    }
    assert!(after["dirty_since"].is_null(), "{after}");
    let flushes = &after["filesystem"]["flushes"];
    assert!(flushes["done"].as_u64() > before, "{flushes}");
    assert_eq!(flushes["failed"], 0);
    assert!(flushes["last"]["error"].is_null() && flushes["last"]["ago"].is_f64(), "{flushes}");
    assert!(flushes["last"]["at"].as_u64() >= after["mounted_at"].as_u64());
    let text = shown(&m.dir());
    assert!(text.contains("unwritten     nothing\n") && text.contains(": done\n"), "{text}");
    // Space as df has it.
    let df = run(Command::new("stat").args(["-f", "-c", "%f"]).arg(m.dir()));
    assert_eq!(after["filesystem"]["blocks_free"].to_string(), df.trim());
    m.finish();
}

#[test]
fn asking_is_no_reason_to_write_and_none_not_to() {
    let m = Mounted::with_options("1M", "commit=3600");
    fs::write(m.path("f"), b"x").expect("write");
    // Asked all the time, the pause that triggers a flush comes all the same.
    wait_until("the flush", || status(&m.dir())["filesystem"]["unwritten"]["pairs"] == 0);
    let image = fs::read(m.image()).expect("read");
    let flushes = status(&m.dir())["filesystem"]["flushes"]["done"].clone();
    for _ in 0..20 {
        status(&m.dir());
    }
    assert_eq!(status(&m.dir())["filesystem"]["flushes"]["done"], flushes);
    assert!(fs::read(m.image()).expect("read") == image);
    m.finish();
}

#[test]
fn operations_errors_and_hits_are_counted() {
    let m = Mounted::new("1M");
    let count = |kind: &str, name: &str| status(&m.dir())[kind][name].as_u64().unwrap_or(0);
    for i in 0..10 {
        fs::create_dir(m.path(&format!("d{i}"))).expect("mkdir");
        assert_eq!(count("operations", "mkdir"), i + 1);
    }
    fs::write(m.path("d0/f"), b"x").expect("write");
    assert_eq!(count("errors", "ENOTEMPTY"), 0);
    for i in 0..3 {
        let refused = fs::remove_dir(m.path("d0")).expect_err("not empty");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
        assert_eq!(count("errors", "ENOTEMPTY"), i + 1);
    }
    let asked = count("operations", "status");
    assert_eq!(count("operations", "status"), asked + 1);
    let text = shown(&m.dir());
    assert!(text.contains("mkdir 10") && text.contains("errors        3: ENOTEMPTY 3"), "{text}");

    // The first use of a file looks it up, the next ones find it open.
    let inodes = || status(&m.dir())["inodes"].clone();
    let number = |inodes: &Value, key: &str| inodes[key].as_u64().expect("a number");
    fs::write(m.path("d1/g"), noise(5000, 1)).expect("write");
    let before = inodes();
    for i in 0..5 {
        fs::write(m.path("d1/g"), noise(5000, i)).expect("write");
    }
    let after = inodes();
    assert_eq!(number(&after, "misses"), number(&before, "misses"));
    assert!(number(&after, "hits") >= number(&before, "hits") + 5, "{before} {after}");
    assert!(number(&after, "known") > 10 && number(&after, "open_files") > 0, "{after}");
    m.finish();
}

/// Metadata that does not fit into the cache is read again.
#[test]
fn misses_of_the_pair_cache_show() {
    let mut m = Mounted::new("64M");
    // Files of 60 bytes are kept in their directory: more of them than the cache has room for.
    for d in 0..100 {
        fs::create_dir(m.path(&format!("d{d}"))).expect("mkdir");
        for f in 0..500 {
            fs::write(m.path(&format!("d{d}/f{f}")), noise(60, f)).expect("write");
        }
    }
    m.unmount();
    m.mount("cache=4M");
    let cache = |m: &Mounted| status(&m.dir())["filesystem"]["pair_cache"].clone();
    let before = cache(&m);
    let pairs = before["pairs"].as_u64().expect("a number");
    assert!(before["cached"].as_u64() < Some(pairs), "{before}");
    for d in 0..100 {
        assert_eq!(fs::read_dir(m.path(&format!("d{d}"))).expect("list").count(), 500);
    }
    let after = cache(&m);
    assert!(after["misses"].as_u64() > before["misses"].as_u64(), "{before} {after}");
    assert!(after["hits"].as_u64() > before["hits"].as_u64(), "{before} {after}");
    assert!(after["bytes"].as_u64() <= after["bytes_max"].as_u64(), "{after}");
    m.unmount();
}

#[test]
fn the_mount_is_described() {
    let mut m = Mounted::unmounted("1M");
    m.mount("ro,profile=zephyr");
    let pid: u64 = m.daemon().parse().expect("a number");
    fn string<'a>(status: &'a Value, key: &str) -> &'a str {
        status[key].as_str().expect(key)
    }
    let now = status(&m.dir());
    assert_eq!(Path::new(string(&now, "image")), m.image());
    assert_eq!(Path::new(string(&now, "mountpoint")), m.dir());
    assert_eq!(
        (string(&now, "read_only"), string(&now, "profile")),
        ("as asked (-o ro)", "zephyr")
    );
    assert_eq!((&now["pid"], &now["offset"]), (&pid.into(), &0.into()));
    let fs = &now["filesystem"];
    assert_eq!((string(fs, "disk_version"), &fs["block_count"]), ("2.1", &256.into()));
    assert_eq!((&now["block_size"], &fs["prog_size"]), (&4096.into(), &16.into()));
    let text = shown(&m.dir());
    for words in ["littlefs 2.1, 256 blocks of 4096 bytes", "access        read-only: as asked"] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    m.unmount();

    fs::set_permissions(m.image(), Permissions::from_mode(0o444)).expect("chmod");
    run(littlefs().arg("mount").args([m.image(), m.dir()]));
    assert_eq!(string(&status(&m.dir()), "read_only"), "the image file cannot be written");
    m.unmount();
    fs::set_permissions(m.image(), Permissions::from_mode(0o644)).expect("chmod");
    m.mount("attrs=unix");
    let now = status(&m.dir());
    assert!(now["read_only"].is_null() && now["attrs"] == "unix", "{now}");
    m.finish();
}

#[test]
fn any_path_in_the_mount_will_do() {
    let m = Mounted::new("1M");
    fs::create_dir_all(m.path("d/e")).expect("mkdir");
    fs::write(m.path("d/e/f"), b"x").expect("write");
    std::os::unix::fs::symlink(m.path("d"), m.beside("link")).expect("symlink");
    let pid = &status(&m.dir())["pid"];
    for target in [m.path("d/e"), m.path("d/e/f"), m.image(), m.beside("link"), m.path("d/..")] {
        assert_eq!(&status(&target)["pid"], pid, "{}", target.display());
    }
    // All mounts, this one among them. The exit status is not looked at: other tests' daemons, dead
    // by intent, may be among the others.
    let all = output(littlefs().args(["status", "--json"])).stdout;
    let all: Value = serde_json::from_slice(&all).expect("JSON");
    assert!(all.as_array().expect("an array").iter().any(|one| &one["pid"] == pid), "{all}");
    let lines = output(littlefs().arg("status")).stdout;
    let lines = String::from_utf8_lossy(&lines);
    let ours = lines.lines().find(|line| line.contains(&m.dir().display().to_string()));
    assert!(ours.is_some_and(|line| line.contains(&format!("process {pid}, read and write, "))));

    refused(&m.beside(""), &["not in a littlefs mount", "'littlefs status' lists"]);
    refused(&m.beside("none"), &["none: no such file"]);
    m.finish();
}

#[test]
fn a_dead_daemon_is_said_to_be() {
    let mut m = Mounted::new("1M");
    run(Command::new("kill").args(["-KILL", &m.daemon()]));
    wait_until("the daemon's end", || m.is_free());
    refused(&m.dir(), &["the daemon of this mount has died", "'littlefs umount"]);
    // The others are listed all the same, and the exit code tells.
    let out = output(littlefs().arg("status"));
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("has died"));
    run(littlefs().arg("umount").arg(m.dir()));
    m.unmounted_elsewhere();
}

/// A filesystem that has only a root.
pub struct Other;
impl Filesystem for Other {}

#[test]
fn another_driver_is_not_taken_for_ours() {
    let m = Mounted::unmounted("1M");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("some.img".to_owned()),
        MountOption::CUSTOM("subtype=littlefs".to_owned()),
    ];
    let session = fuser::spawn_mount(Other, m.dir(), &config).expect("mount");
    refused(
        &m.dir(),
        &["does not answer this question", "another littlefs driver (such as littlefs-fuse)"],
    );
    drop(session);
}
