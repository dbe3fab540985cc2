//! `edit`, with scripts as editors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use testkit::desk::Desk;

struct Edited {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Edit a file of `new.img` with a line of shell, in which `$1` is the copy.
fn edit(desk: &Desk, args: &[&str], editor: &str) -> Edited {
    desk.file("editor", format!("#!/bin/sh\n{editor}\n").as_bytes()).dir("tmp");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(desk.path("editor"), mode).expect("a mode");
    let mut command = desk.command(&[&["edit", "new.img"], args].concat());
    command.env_remove("VISUAL").env("TMPDIR", desk.path("tmp")).stdin(Stdio::null());
    // through sh, so that no process that was forked meanwhile holds the script open for writing
    command.env("EDITOR", format!("exec sh '{}'", desk.path("editor").display()));
    let out = command.output().expect("the program should start");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Edited {
        code: out.status.code().expect("no signal"),
        stdout: text(out.stdout),
        stderr: text(out.stderr),
    }
}

/// The copy that was kept, which a message names.
fn kept(desk: &Desk, edited: &Edited) -> Vec<u8> {
    let (_, path) = edited.stderr.trim_end().rsplit_once("is kept in ").expect("a place");
    let content = fs::read(path).expect("the copy");
    fs::remove_dir_all(desk.path("tmp")).expect("no more copies");
    content
}

#[test]
fn what_is_saved_is_written() {
    let desk = Desk::with_image();
    desk.ok(&["attr", "new.img", "set", "etc/config.txt", "0x80", "kept"]);
    let look = "stat -c %a \"$1\" \"${1%/*}\" > look; basename \"$1\" >> look; echo more >> \"$1\"";
    let done = edit(&desk, &["etc/config.txt"], look);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(desk.read("look"), b"600\n700\nconfig.txt\n");
    assert_eq!(desk.ok(&["cat", "new.img", "etc/config.txt"]).stdout, b"colour = blue\nmore\n");
    assert_eq!(desk.ok(&["attr", "new.img", "get", "etc/config.txt", "0x80"]).stdout, b"kept");
    // editors that put a new file in the place of the old one, and new files
    let done = edit(&desk, &["--atomic", "etc/config.txt"], "echo new > x; mv x \"$1\"");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(edit(&desk, &["etc/new one"], "printf '\\377' > \"$1\"").code, 0);
    assert_eq!(desk.ok(&["cat", "new.img", "etc/config.txt", "etc/new one"]).stdout, b"new\n\xff");
    desk.check("new.img");
    let done = edit(&desk, &["--json", "etc/config.txt"], "true");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let told: serde_json::Value = serde_json::from_str(&done.stdout).expect("one document");
    assert_eq!(told, serde_json::json!({ "changes": [], "dry_run": false }), "nothing changed");
    assert_eq!(desk.names("tmp"), Vec::<String>::new());
}

#[test]
fn nothing_is_written_for_nothing() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let done = edit(&desk, &["etc/config.txt"], "touch \"$1\"");
    assert_eq!((done.code, done.stdout.starts_with("unchanged")), (0, true), "{}", done.stderr);
    assert_eq!(edit(&desk, &["-q", "new.txt"], "true").stdout, "");
    let done = edit(&desk, &["-n", "etc/config.txt"], "echo x > \"$1\"");
    assert_eq!(done.stdout, "would be changed: /etc/config.txt\n");
    let done = edit(&desk, &["etc/config.txt"], "rm \"$1\"");
    assert_eq!(
        (done.code, done.stderr.contains("cannot read the edited file")),
        (1, true),
        "{}",
        done.stderr
    );
    let done = edit(&desk, &["etc/config.txt"], "exit 3");
    assert_eq!((done.code, done.stderr.contains("exit status 3")), (1, true), "{}", done.stderr);
    assert!(!done.stderr.contains("is kept"), "{}", done.stderr);
    // refused before the editor starts
    for (path, why) in [
        ("www", "/www: is not a regular file"),
        ("/", "/: is not a regular file"),
        ("no/where", "/no: no such file"),
        ("etc/config.txt/x", "not a directory"),
        ("../x", "'..' is not allowed"),
    ] {
        let done = edit(&desk, &[path], "echo ran > ran");
        assert_eq!((done.code, done.stderr.contains(why)), (1, true), "{path}: {}", done.stderr);
    }
    let mut vi = desk.command(&["edit", "new.img", "etc/config.txt"]);
    vi.env("EDITOR", "no-such-editor").env_remove("VISUAL");
    assert_eq!(vi.output().expect("an end").status.code(), Some(1));
    assert!(!desk.path("ran").exists() && desk.read("new.img") == before);
    assert_eq!(desk.names("tmp"), Vec::<String>::new());
}

#[test]
fn what_cannot_be_written_is_kept() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let done = edit(&desk, &["etc/config.txt"], "echo lost > \"$1\"; exit 1");
    assert_eq!(done.code, 1);
    assert_eq!(kept(&desk, &done), b"lost\n");
    let done = edit(&desk, &["etc/config.txt"], "head -c 400000 /dev/zero > \"$1\"");
    assert!(done.code == 1 && done.stderr.contains("no space"), "{}", done.stderr);
    assert_eq!(kept(&desk, &done), [0; 400_000]);
    assert!(desk.read("new.img") == before);
    // somebody else was faster
    let other = "echo mine > \"$1\"; echo theirs > theirs; \"$LITTLEFS\" put -q new.img theirs etc/config.txt";
    let other = other.replace("$LITTLEFS", env!("CARGO_BIN_EXE_littlefs"));
    let done = edit(&desk, &["etc/config.txt"], &other);
    assert!(done.code == 1 && done.stderr.contains("by somebody else"), "{}", done.stderr);
    assert_eq!(kept(&desk, &done), b"mine\n");
    assert_eq!(desk.ok(&["cat", "new.img", "etc/config.txt"]).stdout, b"theirs\n");
    // the image is in use when the editor ends
    let held = "echo mine > \"$1\"; (flock -x 9; touch held; sleep 3) 9< new.img & while [ ! -e held ]; do sleep 0.01; done";
    let done = edit(&desk, &["etc/config.txt"], held);
    assert!(done.code == 1 && done.stderr.contains("in use by"), "{}", done.stderr);
    assert_eq!(kept(&desk, &done), b"mine\n");
}

/// Ctrl-C in the editor reaches both processes, but is meant for the editor.
#[test]
fn an_interrupt_is_the_editors() {
    let desk = Desk::with_image();
    let done = edit(&desk, &["etc/config.txt"], "kill -INT $PPID; echo x > \"$1\"");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(desk.ok(&["cat", "new.img", "etc/config.txt"]).stdout, b"x\n");
    let done = edit(&desk, &["etc/config.txt"], "echo y > \"$1\"; kill -TERM $PPID");
    assert_eq!(done.code, 143, "{}", done.stderr);
    assert_eq!(kept(&desk, &done), b"y\n");
}
