//! Interrupted commands, and full disks: nothing half written is left.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use testkit::desk::Desk;

/// How many files the copied tree has, and how many bytes each has.
const FILES: usize = 300;
const SIZE: usize = 20_000;

/// A directory `data` that takes a moment to be copied, and `full.img` with it.
fn desk() -> Desk {
    let desk = Desk::new();
    for i in 0..FILES {
        desk.file(&format!("data/{}/{i}", i % 7), &[i as u8; SIZE]);
    }
    desk.ok(&["create", "-q", "--size", "8M", "full.img", "data"]);
    desk
}

/// Start the program, and send it `signal` after `micros`. Returns the signal that ended it, or
/// nothing if it was ready before.
fn interrupt(desk: &Desk, args: &[&str], signal: &str, micros: u64) -> Option<i32> {
    let mut command = desk.command(args);
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program should start");
    sleep(Duration::from_micros(micros));
    let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(kill.expect("kill").success(), "it is waited for below, so it is still there");
    let status = child.wait().expect("an end");
    assert!(status.success() || status.signal().is_some(), "{args:?}: {status}");
    status.signal()
}

/// Send every signal at moments from the start of the command to after its end.
fn at_every_stage(desk: &Desk, args: &[&str], mut look: impl FnMut()) {
    for round in 0..12 {
        let signal = ["INT", "TERM", "KILL"][round % 3];
        interrupt(desk, args, signal, 3000 * round as u64);
        look();
    }
}

#[test]
fn an_interrupted_create_leaves_no_image_or_a_whole_one() {
    let desk = desk();
    let args = ["create", "-q", "--size", "8M", "new.img", "data"];
    let expected = desk.read("full.img");
    at_every_stage(&desk, &args, || {
        let names = desk.names(".");
        if names.iter().any(|name| name == "new.img") {
            assert!(desk.read("new.img") == expected, "the image is not complete");
            std::fs::remove_file(desk.path("new.img")).expect("remove");
        } else {
            assert_eq!(names, ["data", "full.img"]);
        }
    });
    // what is replaced is the old one or the new one
    desk.file("other/file", b"x");
    desk.ok(&["create", "-q", "--size", "64K", "new.img", "other"]);
    let old = desk.read("new.img");
    let args = ["create", "-q", "--force", "--size", "8M", "new.img", "data"];
    at_every_stage(&desk, &args, || {
        let now = desk.read("new.img");
        assert!(now == old || now == expected, "the image is half of each");
        // Complete, it has this name for a moment, because only renaming replaces a file.
        let mut names = desk.names(".");
        names.retain(|name| !name.starts_with(".littlefs-"));
        assert_eq!(names, ["data", "full.img", "new.img", "other"]);
    });
}

#[test]
fn an_interrupted_extract_or_get_leaves_whole_files() {
    let desk = desk();
    for args in [
        &["extract", "-q", "full.img", "-C", "out"][..],
        &["get", "-q", "-r", "full.img", "/", "out"],
    ] {
        at_every_stage(&desk, args, || {
            if !desk.path("out").exists() {
                return;
            }
            for dir in desk.names("out") {
                for name in desk.names(&format!("out/{dir}")) {
                    let i: usize = name.parse().expect("a name of the image, and no other");
                    let content = desk.read(&format!("out/{dir}/{name}"));
                    assert!(content == [i as u8; SIZE], "{args:?}: {name}: {}", content.len());
                }
            }
            std::fs::remove_dir_all(desk.path("out")).expect("remove");
        });
    }
}

/// Run a shell script as root, with the program as `$1`, in a directory of 2 MiB that has `data`
/// (of 3 MiB) and `small.img`, which holds the file `old`. A user other than root needs sudo
/// without a password.
fn on_a_small_disk(desk: &Desk, script: &str) {
    let script = format!(
        "set -eu\nmount -t tmpfs -o size=2m none full\ncp small.img full/\ncd full\n{script}"
    );
    let is_root = rustix::process::geteuid().is_root();
    let mut shell = Command::new(if is_root { "unshare" } else { "sudo" });
    if !is_root {
        shell.args(["-n", "unshare"]);
    }
    shell.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_littlefs")).current_dir(desk.path("."));
    let out = shell.output().expect("unshare");
    assert!(
        out.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let desk = Desk::new();
    desk.dir("full").file("old/old", &[1; 50_000]).file("changed/old", &[2; 50_000]);
    for i in 0..150 {
        desk.file(&format!("data/{i}"), &[7; SIZE]);
    }
    desk.ok(&["create", "-q", "--size", "8M", "large.img", "data"]);
    desk.ok(&["create", "-q", "--size", "8M", "--no-pad", "small.img", "old"]);
    // A new image, and one in the place of another.
    on_a_small_disk(
        &desk,
        r#"
        if "$1" create -q --size 4M new.img ../data 2>../said; then exit 1; fi
        grep -qi 'no space left' ../said
        if "$1" create -q --force --size 4M small.img ../data 2>../said; then exit 1; fi
        grep -qi 'no space left' ../said
        cmp small.img ../small.img
        test "$(ls -A)" = small.img
        "#,
    );
    // Files: those that fit are whole, the others are not there, and each of them is named.
    on_a_small_disk(
        &desk,
        r#"
        for command in "extract ../large.img -C out" "get -r ../large.img / out"; do
            status=0
            "$1" $command >/dev/null 2>../said || status=$?
            test $status = 2 || { echo "$command: $status"; cat ../said; exit 1; }
            grep -qi 'no space left' ../said
            test "$(find out -type f | wc -l)" -gt 10
            test -z "$(find out -type f ! -size 20000c)"
            test -z "$(find . -name '.littlefs*')"
            rm -rf out
        done
        "#,
    );
    // Changes: each file is the old one or the new one, and with --atomic all of them are.
    on_a_small_disk(
        &desk,
        r#"
        if "$1" put --atomic -q -r small.img ../data / 2>../said; then exit 1; fi
        grep -qi 'no space left' ../said
        cmp small.img ../small.img
        test "$(ls -A)" = small.img
        if "$1" put -q -r small.img ../changed/old ../data / 2>../said; then exit 1; fi
        grep -qi 'no space left' ../said
        "$1" check small.img >/dev/null
        "$1" cat small.img old >../now
        cmp ../now ../old/old || cmp ../now ../changed/old
        "#,
    );
}
