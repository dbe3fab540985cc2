//! `bench`: it measures, and leaves nothing behind.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use testkit::desk::Desk;

/// The names of the steps. Each of them was done.
fn steps(of: &Value) -> Vec<&str> {
    let steps = of.as_array().expect("steps");
    assert!(steps.iter().all(|step| step["operations"].as_u64() > Some(0)), "{of}");
    steps.iter().map(|step| step["name"].as_str().expect("a name")).collect()
}

const WRITING: [&str; 9] = [
    "create and sync",
    "list",
    "read small files",
    "rename",
    "remove",
    "write and sync",
    "read",
    "overwrite and sync",
    "sync",
];

#[test]
fn an_image_is_only_read() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    desk.dir("temporary");
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    command.args(["bench", "--json", "new.img"]).current_dir(desk.path("."));
    let out = command.env("TMPDIR", desk.path("temporary")).output().expect("it starts");
    assert!(out.status.success(), "{out:?}");
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(steps(&json["reading"]), ["open", "walk the tree", "read files"]);
    assert_eq!(steps(&json["writing"]), WRITING);
    assert_eq!(json["reading"][1]["operations"], 8, "{json}");
    assert_eq!(json["reading"][2]["bytes"], 9030, "{json}");
    assert_eq!(
        (&json["target"]["block_size"], &json["target"]["block_count"]),
        (&4096.into(), &64.into())
    );
    for key in ["version", "kernel", "processor", "processors", "memory", "load", "optimised"] {
        assert!(!json["environment"][key].is_null(), "no {key}: {json}");
    }
    assert!(before == desk.read("new.img"), "the image was changed");
    assert!(desk.names("temporary").is_empty());
    let text = desk.ok(&["bench", "new.img"]).text().to_owned();
    for words in
        ["littlefs-progs ", "image of 64 blocks of 4096 bytes (littlefs), on ", "per second"]
    {
        assert!(text.contains(words), "no {words}: {text}");
    }
    desk.fails(&["bench", "gone.img"], 1, &["gone.img"]);
    desk.file("empty", b"");
    desk.fails(&["bench", "empty"], 1, &["empty"]);
    // there is no space for all of it, and that is no failure
    desk.ok(&["create", "-q", "--size", "min", "full.img", "data"]);
    let full = desk.run(&["bench", "--json", "full.img"]);
    assert!(matches!(full.code, 0 | 2), "{full:?}");
    let full = full.json();
    assert!(!steps(&full["writing"]).contains(&"write and sync"), "{full}");
}

#[test]
fn one_directory_is_made_and_removed() {
    let desk = Desk::new();
    desk.file("dir/kept", b"kept");
    let json = desk.ok(&["bench", "--json", "dir"]).json();
    assert_eq!(steps(&json["writing"]), WRITING);
    assert_eq!(desk.names("dir"), ["kept"]);
    // also when somebody ends it
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    command.args(["bench", "dir"]).current_dir(desk.path(".")).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let made = || fs::read_dir(desk.path("dir")).expect("listed").count() > 1;
    while !made() && child.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(status.is_ok());
    let code = child.wait().expect("it ends").code();
    // on a fast machine it may have come to its end
    assert!(code == Some(128 + 15) || code == Some(0), "{code:?}");
    assert_eq!(desk.names("dir"), ["kept"]);
}
