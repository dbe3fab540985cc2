//! `littlefs run`: the exit status of a program decides whether its changes are kept.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::mounted::{Mounted, c_tree, is_mounted, littlefs, noise, output, run, wait_until};

/// An image with a file in it.
struct Image {
    m: Mounted,
    bytes: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let mut m = Mounted::unmounted("1M");
        m.mount("rw");
        fs::write(m.path("kept"), b"as it was").expect("write");
        m.unmount();
        let bytes = fs::read(m.image()).expect("read");
        Self { m, bytes }
    }

    fn assert_unchanged(&self) {
        assert!(fs::read(self.m.image()).expect("read") == self.bytes, "the image was changed");
    }

    fn own_journal(&self) -> PathBuf {
        self.m.beside("image.run")
    }

    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = littlefs();
        // a shell cannot trap what the tests were started to ignore
        let sh = ["--", "env", "--default-signal", "sh", "-c", script];
        command.arg("run").args(options).arg(self.m.image()).args(sh);
        // where what a killed one leaves is removed
        command.env("TMPDIR", self.m.image().parent().expect("a directory"));
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Output {
        output(&mut self.command(options, script))
    }

    fn file(&self, name: &[u8]) -> Option<Vec<u8>> {
        let tree = c_tree(&self.m.image());
        tree.get(name).map(|entry| match &entry.kind {
            testkit::tree::Kind::File(bytes) => bytes.clone(),
            testkit::tree::Kind::Dir => Vec::new(),
        })
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn success_commits_and_anything_else_reverts() {
    let image = Image::new();
    let out =
        image.run(&[], "test \"$PWD\" = \"$LITTLEFS_ROOT\" && rm kept && echo half > new; exit 3");
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    image.assert_unchanged();
    assert!(!image.own_journal().exists());
    let out = image.run(&[], "echo half > new; kill -TERM $$");
    assert_eq!(out.status.code(), Some(128 + 15), "{}", said(&out));
    image.assert_unchanged();

    let out = image.run(&[], "echo whole > new; mkdir d; mv kept d; echo out; echo err >&2");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!((&out.stdout[..], &out.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(image.file(b"new").as_deref(), Some(&b"whole\n"[..]));
    assert_eq!(image.file(b"d/kept").as_deref(), Some(&b"as it was"[..]));
    assert!(!image.own_journal().exists());
    run(littlefs().arg("check").arg(image.m.image()));
    // nothing at all is fine, too
    assert_eq!(image.run(&[], "true").status.code(), Some(0));
    let big =
        image.run(&["-o", "writeback"], "dd if=/dev/urandom of=big bs=4k count=50 2>/dev/null");
    assert_eq!(big.status.code(), Some(0), "{}", said(&big));
    assert_eq!(image.file(b"big").map(|b| b.len()), Some(50 << 12));
}

#[test]
fn pages_that_were_mapped_are_committed() {
    let image = Image::new();
    let script = "python3 -c \"
import mmap, os
f = open('kept', 'r+b')
m = mmap.mmap(f.fileno(), 9)
m[0:2] = b'AS'
\"";
    let out = image.run(&[], script);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(image.file(b"kept").as_deref(), Some(&b"AS it was"[..]));
}

#[test]
fn a_journal_that_is_named_is_kept_and_goes_on() {
    let image = Image::new();
    let journal = image.m.beside("j");
    let j = journal.to_str().expect("simple");
    let last = || {
        let log = run(littlefs().args(["journal", "log", "--json"]).arg(&journal));
        let log: serde_json::Value = serde_json::from_str(&log).expect("JSON");
        (log["base"].as_u64().expect("base"), log["last"].as_u64().expect("last"))
    };
    assert_eq!(image.run(&["--journal", j], "echo 1 > a").status.code(), Some(0));
    assert_eq!(last(), (1, 1));
    // what was there before counts for it, and stays when it fails
    run(littlefs().args(["mount", "--journal", j]).arg(image.m.image()).arg(image.m.dir()));
    fs::write(image.m.path("b"), b"2").expect("write");
    run(littlefs().arg("umount").arg(image.m.dir()));
    assert_eq!(last(), (1, 2));
    let out = image.run(&["--journal", j], "test -e a && test -e b && rm a; exit 1");
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert_eq!(last(), (1, 2));
    assert_eq!(image.file(b"b"), None);
    // a mount in between is no interrupted run
    run(littlefs().args(["mount", "--journal", j]).arg(image.m.image()).arg(image.m.dir()));
    fs::write(image.m.path("c"), b"3").expect("write");
    run(littlefs().arg("umount").arg(image.m.dir()));
    let out = image.run(&["--journal", j], "true");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(image.file(b"b").is_some() && image.file(b"c").is_some());
    assert_eq!(last().0, last().1);
}

/// Start it, and wait until its program runs.
fn started(image: &Image, options: &[&str], traps: &str, script: &str) -> std::process::Child {
    let there = image.m.beside("there");
    let script = format!("{traps}echo x > half; sync half; touch {}; {script}", there.display());
    let mut command = image.command(options, &script);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("the program should start");
    wait_until("the program to run", || there.exists());
    fs::remove_file(there).expect("unlink");
    child
}

fn kill(pid: u32, signal: &str) {
    run(Command::new("kill").args([signal, &pid.to_string()]));
}

#[test]
fn signals_are_passed_on() {
    let image = Image::new();
    for (signal, code) in [("-TERM", 7), ("-INT", 8)] {
        let traps = "trap 'exit 7' TERM; trap 'exit 8' INT; ";
        let child = started(&image, &[], traps, "while :; do sleep 0.02; done");
        kill(child.id(), signal);
        let out = child.wait_with_output().expect("ended");
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        image.assert_unchanged();
    }
    // whoever takes care of the signal decides
    let traps = "trap 'echo x > done; exit 0' TERM; ";
    let child = started(&image, &[], traps, "while :; do sleep 0.02; done");
    kill(child.id(), "-TERM");
    assert_eq!(child.wait_with_output().expect("ended").status.code(), Some(0));
    assert!(image.file(b"done").is_some() && image.file(b"half").is_some());
}

#[test]
fn a_run_that_is_killed_did_not_happen() {
    let image = Image::new();
    let journal = image.m.beside("j");
    let j = journal.to_str().expect("simple");
    for options in [&[][..], &["--journal", j]] {
        let child = started(&image, options, "", "exec sleep 60 >/dev/null 2>&1");
        let children = run(Command::new("pgrep").args(["-P", &child.id().to_string()]));
        kill(child.id(), "-KILL");
        let out = child.wait_with_output();
        assert_eq!(out.expect("ended").status.signal(), Some(9));
        for pid in children.split_whitespace() {
            // the daemon ends by itself, the program would go on without its files
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.starts_with("sleep") {
                kill(pid.parse().expect("a number"), "-KILL");
            }
        }
        wait_until("the image to be free", || image.m.is_free());
        image.assert_unchanged();
    }
    // one is forgotten, the other one asks
    let out = image.run(&["--journal", j], "true");
    assert_eq!(out.status.code(), Some(125));
    assert!(said(&out).contains("changes of a run that was interrupted"), "{}", said(&out));
    run(littlefs().args(["journal", "revert", "--to", "littlefs-run"]).arg(&journal));
    let out = image.run(&["--journal", j], "test ! -e half && echo > a");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(image.own_journal().exists());
    let out = image.run(&[], "test ! -e half && test -e a && echo > b");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(!image.own_journal().exists() && image.file(b"b").is_some());
}

#[test]
fn what_stays_in_the_background_loses_the_mount() {
    let image = Image::new();
    let beside = image.m.beside("late");
    let script = format!(
        "echo x > new; (exec 3> held; touch {0}; while test -e {0}; do sleep 0.02; done; \
         echo late >&3) >/dev/null 2>&1 & while ! test -e {0}; do sleep 0.02; done; true",
        beside.display()
    );
    let start = Instant::now();
    let out = image.run(&[], &script);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(start.elapsed() < Duration::from_secs(20), "nobody is waited for");
    fs::remove_file(beside).expect("unlink");
    assert_eq!(image.file(b"new").as_deref(), Some(&b"x\n"[..]));
    assert_eq!(image.file(b"held").as_deref(), Some(&b""[..]));
    run(littlefs().arg("check").arg(image.m.image()));
}

#[test]
fn our_own_failures_have_their_own_exit_codes() {
    let image = Image::new();
    let code = |command: &mut Command| {
        let out = output(command);
        (out.status.code().expect("no signal"), said(&out))
    };
    let with = |args: &[&str]| {
        let mut command = littlefs();
        command.arg("run").arg(image.m.image()).args(args);
        command
    };
    let (found, text) = code(&mut with(&["--", "no-such-program"]));
    assert!(found == 127 && text.contains("no-such-program"), "{found} {text}");
    let plain = image.m.beside("plain");
    fs::write(&plain, noise(10, 1)).expect("write");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(code(&mut with(&["--", plain.to_str().expect("simple")])).0, 126);
    assert_eq!(code(&mut with(&[])).0, 125);
    assert_eq!(code(&mut with(&["-o", "ro", "--", "true"])).0, 125);
    assert_eq!(code(&mut with(&["-o", "frobnicate", "--", "true"])).0, 125);
    image.assert_unchanged();
    assert!(!image.own_journal().exists());
    // in use
    run(littlefs().args(["mount", "-o", "ro"]).arg(image.m.image()).arg(image.m.dir()));
    let (found, text) = code(&mut with(&["--", "sh", "-c", "echo > a"]));
    assert!(
        found == 125 && text.contains("nothing was changed") && text.contains("in use"),
        "{text}"
    );
    run(littlefs().arg("umount").arg(image.m.dir()));
    assert!(!is_mounted(&image.m.dir()));
    image.assert_unchanged();
    assert!(!image.own_journal().exists());
    let mut missing = littlefs();
    missing.args(["run", "/nowhere/image", "--", "true"]);
    assert_eq!(code(&mut missing).0, 125);
}
