//! Every command that takes an image, run on images with false information. It ends in bounded time
//! and memory with a documented exit status, and if that is not 0, it says why.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cases;
use littlefs::disk::Tail;
use testkit::builder::{Builder, put_inline};
use testkit::mutate;

/// A shell script that runs the program with limits on address space (in KiB) and processor time
/// (in seconds). A hang that uses no processor time is ended by timeout(1).
const BOUNDED: &str = r#"ulimit -v 1048576 -t 20; exec timeout 120 "$0" "$@""#;

/// The commands: the arguments, in which `I` is the image, `O` an unused name and `D` a directory;
/// the documented exit statuses; and whether the image may be changed.
const COMMANDS: &[(&str, &[i32], bool)] = &[
    ("info I", &[0, 1, 2], false),
    ("ls -laR I", &[0, 1, 2], false),
    ("tree I", &[0, 1, 2], false),
    ("du -a I", &[0, 1, 2], false),
    ("cat I good dir/file", &[0, 1, 2], false),
    ("stat I / good dir/file", &[0, 1, 2], false),
    ("extract -q I -C O", &[0, 1, 2], false),
    ("extract -q I --to-tar O", &[0, 1, 2], false),
    ("get -r I / O", &[0, 1, 2], false),
    ("diff I I", &[0, 1, 2], false),
    ("diff I D", &[1, 2], false),
    ("inspect I tree", &[0, 1, 2], false),
    ("inspect --json I superblock", &[0, 1, 2], false),
    ("inspect --json I pair 0,1", &[0, 1, 2], false),
    ("inspect I gstate", &[0, 1, 2], false),
    ("inspect I block 2", &[0, 1, 2], false),
    ("inspect I file good", &[0, 1, 2], false),
    ("inspect --raw I file good", &[0, 1, 2], false),
    ("inspect I dir /", &[0, 1, 2], false),
    ("inspect --json I log good", &[0, 1, 2], false),
    ("map I", &[0, 1, 2], false),
    ("map --json I I", &[0, 1, 2], false),
    ("map --format svg I", &[0, 1, 2], false),
    ("map --format html -o O I I", &[0, 1, 2], false),
    ("scan I", &[0, 1], false),
    ("unwrap I O", &[0, 1], false),
    ("wrap --format uf2 --family rp2040 I O", &[0, 1], false),
    ("recover -C O I", &[0, 1, 2], false),
    ("recover --json --block-size 512 -C O I", &[0, 1, 2], false),
    ("kv I list", &[0, 1], false),
    ("convert --from v1 I O", &[0, 1], false),
    ("check I", &[0, 4, 8], false),
    ("check -y --backup O I", &[0, 1, 4, 8], true),
    ("put -r I D /put", &[0, 1], true),
    ("put --atomic -r I D /put", &[0, 1], true),
    ("cp I good copy", &[0, 1], true),
    ("mv I good moved", &[0, 1], true),
    ("rm -r I dir", &[0, 1], true),
    ("mkdir I new", &[0, 1], true),
    ("touch I good new", &[0, 1], true),
    ("truncate -s 5 I good", &[0, 1], true),
    ("create -q --into I D", &[0, 1], true),
];

/// Run one command on an image. Returns what is wrong with the result.
fn run(dir: &Path, image: &[u8], command: &(&str, &[i32], bool)) -> Result<(), String> {
    let (line, allowed, changes) = command;
    let (out, file) = (dir.join("O"), dir.join("I"));
    let _ = (fs::remove_dir_all(&out), fs::remove_file(&out));
    fs::write(&file, image).expect("write");
    let mut shell = Command::new("bash");
    shell.args(["-c", BOUNDED, env!("CARGO_BIN_EXE_littlefs")]).args(line.split(' '));
    let output = shell.current_dir(dir).stdin(Stdio::null()).env_remove("RUST_LOG").output();
    let output = output.expect("bash");
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = |what: &str| Err(format!("{line}: {what}: {}: {said}", output.status));
    match output.status.code() {
        _ if said.contains("panicked") || output.status.signal().is_some() => problem("crashed"),
        Some(124) => problem("hung"),
        Some(code) if !allowed.contains(&code) => problem("an exit status that is not documented"),
        // check and diff say it on standard output
        Some(1..) if said.is_empty() && output.stdout.is_empty() => problem("says nothing"),
        _ if !changes && fs::read(&file).expect("read") != image => problem("changed the image"),
        _ => Ok(()),
    }
}

/// The names in a directory, without those that the test itself has put there.
fn names(dir: &Path) -> BTreeSet<Vec<u8>> {
    let all = fs::read_dir(dir).expect("read_dir").map(|entry| entry.expect("entry").file_name());
    all.map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn every_command_survives_images_that_lie() {
    let scratch = tempfile::tempdir().expect("tempdir");
    let dir = scratch.path().join("work");
    fs::create_dir_all(dir.join("D/sub")).expect("create_dir");
    fs::write(dir.join("D/sub/file"), [7; 3000]).expect("write");
    let mut images: Vec<(String, Vec<u8>)> =
        cases::all().into_iter().map(|case| (case.name.to_owned(), case.image.bytes)).collect();
    for (base, geometry, image) in mutate::bases() {
        let bytes = mutate::corrupt(&image, geometry, 1);
        images.push((format!("{base}, corrupted"), bytes));
    }
    // Each image through some of the commands, so that each command meets many of them.
    let mut problems = Vec::new();
    for (i, (name, image)) in images.iter().enumerate() {
        for command in COMMANDS.iter().skip(i % 3).step_by(3) {
            if let Err(problem) = run(&dir, image, command) {
                problems.push(format!("{name}: {problem}"));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(names(scratch.path()), BTreeSet::from([b"work".to_vec()]), "something got out");
}

/// No name in an image leads out of the directory to which it is copied, or out of a line of a
/// list.
#[test]
fn names_that_lie_lead_nowhere() {
    let hostile: &[&[u8]] = &[
        b"..",
        b".",
        b"/absolute",
        b"../up",
        b"a/../../up",
        b"new\nline",
        b"\xff\xfe not text",
        b"esc\x1b[31m",
        b"-rf",
        b"*",
        b"nul\0byte",
        b"",
    ];
    let mut image = Builder::new();
    image.root(Tail::END, |w| {
        for (i, name) in hostile.iter().enumerate() {
            put_inline(w, 1 + i as u16, name, b"content");
        }
        put_inline(w, 1 + hostile.len() as u16, b"z good", b"good");
    });
    let scratch = tempfile::tempdir().expect("tempdir");
    let dir = scratch.path().join("work");
    fs::create_dir_all(dir.join("D")).expect("create_dir");
    fs::write(dir.join("D/file"), "x").expect("write");
    let mut problems = Vec::new();
    for command in COMMANDS {
        if let Err(problem) = run(&dir, &image.bytes, command) {
            problems.push(problem);
        }
        if command.0.starts_with("extract -q I -C") || command.0.starts_with("get -r") {
            let copied = names(&dir.join("O"));
            assert!(copied.contains(&b"z good"[..]), "{}: {copied:?}", command.0);
            assert!(copied.iter().all(|name| !name.contains(&b'/')), "{copied:?}");
        }
        let around = names(scratch.path());
        assert_eq!(around, BTreeSet::from([b"work".to_vec()]), "{}: something got out", command.0);
        let beside = names(&dir);
        let expected = ["D", "I", "O"].map(|name| name.as_bytes().to_vec());
        assert!(beside.is_subset(&BTreeSet::from(expected)), "{}: {beside:?}", command.0);
    }
    assert!(problems.is_empty(), "{problems:#?}");

    fs::write(dir.join("I"), &image.bytes).expect("write");
    let list = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        let output = command.args(args).arg("I").current_dir(&dir).output().expect("littlefs");
        output.stdout
    };
    let lines = list(&["ls", "-1"]);
    let lines: Vec<&[u8]> = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().any(|line| *line == b"z good"), "{lines:?}");
    let is_control = |line: &&[u8]| line.iter().any(|&b| b < b' ');
    assert!(!lines.iter().any(is_control), "a terminal would obey: {lines:?}");
}
