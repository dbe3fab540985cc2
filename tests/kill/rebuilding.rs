//! Commands that build an image beside the old one and rename it are killed at every call that
//! changes a file. The name always refers to the old image or the new one, with every byte of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::mounted::{littlefs, output, run};
use testkit::tree::{Entry, Tree};
use testkit::v1::V1;

/// System calls that change files or names. Not every architecture has those that begin with `?`.
const CALLS: [&str; 10] = [
    "write",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fallocate",
    "fsync",
    "fchmod",
    "?renameat",
    "renameat2",
    "unlinkat",
];
/// The largest number of kills for one call. Beyond that, only every tenth is tried.
const EACH_MAX: u32 = 60;

fn tree() -> Tree {
    let mut tree = Tree::from([(Vec::new(), Entry::dir()), (b"dir".to_vec(), Entry::dir())]);
    for (name, len) in [("dir/a", 700), ("dir/b", 20), ("c", 1500)] {
        tree.insert(name.into(), Entry::file(vec![len as u8; len]));
    }
    tree
}

/// Kill the command at every call. After that, `file` must have its old or its new content.
fn killed_everywhere(what: &str, dir: &Path, file: &str, args: &[&str]) {
    let path = dir.join(file);
    let old = fs::read(&path).ok();
    let whole = output(littlefs().current_dir(dir).args(args));
    assert!(whole.status.success(), "{what}: {}", String::from_utf8_lossy(&whole.stderr));
    let new = fs::read(&path).expect("made");
    assert!(old.as_ref() != Some(&new), "{what}: nothing was changed");
    let (mut kept, mut replaced) = (0, 0);
    for call in CALLS {
        let mut nth = 1;
        loop {
            match &old {
                Some(old) => fs::write(&path, old).expect("written"),
                None => fs::remove_file(&path).unwrap_or_default(),
            }
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            strace.arg(format!("inject={call}:signal=KILL:when={nth}"));
            strace.arg(env!("CARGO_BIN_EXE_littlefs")).args(args).current_dir(dir);
            strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let out = strace.output().expect("strace, which scripts/deps.sh installs");
            let said = String::from_utf8_lossy(&out.stderr);
            let found = fs::read(&path).ok();
            if out.status.signal() != Some(9) {
                // it has no more such calls
                assert!(out.status.success() && found.as_ref() == Some(&new), "{what}: {said}");
                break;
            }
            if found == old {
                kept += 1;
            } else {
                assert!(found.as_ref() == Some(&new), "{what}: a mixture at {call} {nth}");
                replaced += 1;
            }
            // an interruption may leave the file behind that was being written
            for entry in fs::read_dir(dir).expect("a directory") {
                let entry = entry.expect("an entry");
                if entry.file_name().to_string_lossy().starts_with(".littlefs-") {
                    fs::remove_file(entry.path()).expect("removed");
                }
            }
            nth += if nth < EACH_MAX { 1 } else { 10 };
        }
    }
    assert!(kept > 5 && replaced > 0, "{what}: {kept} times the old image, {replaced} the new one");
}

/// The new file is on disk before it gets the name, and the name is on disk before the command
/// ends.
fn is_durable(what: &str, dir: &Path, args: &[&str]) {
    let trace = dir.join("trace");
    let calls =
        "trace=write,pwrite64,ftruncate,fallocate,copy_file_range,fsync,?renameat,renameat2";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-e", calls, "-o"]).arg(&trace);
    run(strace.arg(env!("CARGO_BIN_EXE_littlefs")).args(args).current_dir(dir));
    let text = fs::read_to_string(&trace).expect("a trace");
    fs::remove_file(&trace).expect("removed");
    let lines: Vec<&str> = text.lines().collect();
    let is_sync = |line: &str| line.contains("fsync(");
    let renamed = lines.iter().position(|line| line.contains("rename")).expect("a rename");
    // it has no name until it is complete, or this one where files need a name
    let of_new = |line: &str| line.contains(">(deleted)") || line.contains("/.littlefs-");
    let before = &lines[..renamed];
    let written = before.iter().rposition(|line| of_new(line) && !is_sync(line));
    let synced = before.iter().rposition(|line| of_new(line) && is_sync(line));
    assert!(synced > written, "{what}: renamed before it was synced: {text}");
    let named = lines[renamed..].iter().any(|line| is_sync(line));
    assert!(named, "{what}: the name is not durable: {text}");
}

#[test]
fn copies_resizes_edits_and_conversions() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let v1 = V1::of(256, 48, &tree()).image();
    fs::write(dir.join("v1.img"), &v1).expect("written");
    let convert = ["convert", "-q", "--from", "v1", "v1.img", "v2.img"];
    run(littlefs().current_dir(dir).args(convert));
    let v2 = fs::read(dir.join("v2.img")).expect("made");
    fs::write(dir.join("new"), [7; 600]).expect("written");
    fs::write(dir.join("there.img"), b"something else").expect("written");

    killed_everywhere("clone", dir, "copy.img", &["clone", "-q", "v2.img", "copy.img"]);
    let over = ["clone", "-q", "--force", "--size", "min", "v2.img", "there.img"];
    killed_everywhere("clone --force", dir, "there.img", &over);
    killed_everywhere("resize", dir, "v2.img", &["resize", "-q", "v2.img", "--size", "16K"]);
    killed_everywhere("put", dir, "v1.img", &["put", "-q", "v1.img", "new", "/dir"]);
    fs::write(dir.join("v1.img"), &v1).expect("written");
    let in_place = ["convert", "-q", "--from", "v1", "v1.img"];
    killed_everywhere("convert", dir, "v1.img", &in_place);

    fs::write(dir.join("v2.img"), &v2).expect("written");
    is_durable("resize", dir, &["resize", "-q", "v2.img", "--size", "16K"]);
    fs::write(dir.join("v1.img"), &v1).expect("written");
    is_durable("put", dir, &["put", "-q", "v1.img", "new", "/dir"]);
    is_durable("convert", dir, &in_place);
    is_durable("clone", dir, &over);
}
