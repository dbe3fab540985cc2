//! `shell`: with a script, and on a terminal that script(1) provides.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use testkit::desk::{Desk, Ran};

fn script(desk: &Desk, lines: &str) -> Ran {
    desk.fed(&["shell", "new.img"], lines.as_bytes())
}

#[test]
fn a_script_works_in_the_image() {
    let desk = Desk::with_image();
    desk.file("here/new.txt", b"new");
    let ran = script(
        &desk,
        "# what was there\n\
         pwd\n\
         cd www\n\
         ls\n\
         mkdir 'a b'   # quoted\n\
         cd a\\ b/../js\n\
         pwd\n\
         cat app.js\n\
         cd\n\
         lcd here\n\
         put new.txt etc/\n\
         cp -r etc www/copy\n\
         rm www/copy/*.txt\n\
         cd /www; \n",
    );
    // `;` is no separator
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("line 14 failed"), "{}", ran.stderr);
    let jjj = "j".repeat(9000);
    let expected = format!("/\nindex.html\njs\n/www/js\n{jjj}1 file, 0 new directories, 3 bytes\n");
    assert_eq!(ran.text(), expected);
    desk.check("new.img");
    assert_eq!(desk.ok(&["ls", "new.img", "www", "etc"]).text().matches("new.txt").count(), 1);
    assert_eq!(desk.ok(&["ls", "new.img", "www/copy"]).text(), "");
    assert_eq!(desk.ok(&["ls", "new.img", "www/a b"]).text(), "");
}

#[test]
fn a_script_ends_at_the_first_error() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let ran = script(&desk, "cat gone\nrm -r www\n");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("/gone") && ran.stderr.contains("line 1 failed"), "{}", ran.stderr);
    assert!(desk.read("new.img") == before);
    // the exit status is that of the last command
    assert_eq!(script(&desk, "cat etc/config.txt gone\n").code, 2);
    assert_eq!(script(&desk, "exit\ncat gone\n").code, 0);
    assert_eq!(script(&desk, "").code, 0);
    assert_eq!(script(&desk, "! exit 7").code, 7);
    for (line, why) in [
        ("rm 'www", "a quote is not closed"),
        ("mount x", "mount: not a command of this shell"),
        ("cd etc/config.txt", "not a directory"),
        ("cd gone", "no such file"),
        ("lcd gone", "gone"),
        ("ls --nonsense", "--nonsense"),
        ("put", "required"),
        ("rm -r .", "'.' cannot be removed"),
        ("rm -r ..", "'.' cannot be removed"),
        ("rm -r /", "root directory"),
    ] {
        let ran = script(&desk, &format!("{line}\nrm -r www\n"));
        assert!(ran.code != 0 && ran.stderr.contains(why), "{line}: {} {}", ran.code, ran.stderr);
        assert!(desk.read("new.img") == before, "{line}");
    }
    // what a command could read is not the script
    let ran = script(&desk, "attr set etc/config.txt 0x80\nrm -r www\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(desk.ok(&["attr", "new.img", "get", "etc/config.txt", "0x80"]).stdout, b"");
    assert_eq!(desk.ok(&["ls", "new.img"]).text(), "empty\netc\n");
}

#[test]
fn a_shell_can_be_read_only_and_in_any_place() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    desk.file("dump.bin", &[&[0x55; 8192][..], &before].concat());
    for line in ["rm -r www", "touch x", "rm -n -r www", "check --repair", "attr set / 1 x"] {
        let args = ["shell", "--read-only", "--offset", "8K", "dump.bin"];
        let ran = desk.fed(&args, format!("cat etc/config.txt\n{line}\n").as_bytes());
        assert_eq!(ran.text().lines().next(), Some("colour = blue"), "{line}: {}", ran.stderr);
        // a sound image needs no repair
        if line != "check --repair" {
            assert!(ran.code == 1 && ran.stderr.contains("--read-only"), "{line}: {}", ran.stderr);
        }
    }
    assert!(desk.read("dump.bin")[8192..] == before);
    desk.ok(&["touch", "--journal", "j", "new.img", "new"]);
    let args = ["shell", "--journal", "j", "new.img"];
    assert_eq!(desk.fed(&args, b"lcd data\ncd www\nrm index.html\nls").code, 0);
    assert!(desk.read("new.img") == before);
    assert_eq!(desk.ok(&["ls", "--journal", "j", "new.img", "www"]).text(), "js\n");
    desk.fails(&["shell", "gone.img"], 1, &["gone.img"]);
    desk.fails(&["shell", "-"], 1, &["IMAGE must be the name of a file"]);
    desk.ok(&["mkdir", "new.img", "a*", "dot."]);
    assert_eq!(script(&desk, "cd dot.\ntouch x\ncd ..\nls dot.").text(), "x\n");
    let ran = script(&desk, "cd a*\n");
    assert!(ran.code == 1 && ran.stderr.contains("patterns"), "{}", ran.stderr);
}

/// What a terminal shows when these keys are pressed, each string at a prompt.
fn typed(desk: &Desk, keys: &[&str]) -> (i32, String) {
    let line = format!("exec '{}' shell new.img", env!("CARGO_BIN_EXE_littlefs"));
    let mut child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(desk.path(""))
        .env("XDG_STATE_HOME", desk.path("state"))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1)");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut shown = Vec::new();
    // with this the terminal is told that a line is read
    let prompt = b"\x1b[?2004h";
    let mut sent = 0;
    let mut buf = [0; 4096];
    loop {
        let read = stdout.read(&mut buf).expect("what is shown");
        if read == 0 {
            break;
        }
        shown.extend_from_slice(&buf[..read]);
        let prompts = shown.windows(prompt.len()).filter(|w| w == prompt).count();
        while sent < prompts.min(keys.len()) {
            stdin.write_all(keys[sent].as_bytes()).expect("keys");
            sent += 1;
        }
    }
    let code = child.wait().expect("an end").code().expect("no signal");
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(sent, keys.len(), "{shown}");
    (code, shown)
}

#[test]
fn a_terminal_completes_and_remembers() {
    let desk = Desk::with_image();
    desk.ok(&["mkdir", "new.img", "www/with space"]);
    // Tab completes commands, paths inside, and quotes what needs it
    let (code, shown) = typed(
        &desk,
        &["mkd\tetc/new\r", "cd ww\t\r", "rm -r wi\t\r", "touch j\tnew\r", "cat gone\r", "exit\r"],
    );
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("littlefs:/www"), "{shown}");
    assert_eq!(desk.ok(&["ls", "new.img", "etc"]).text(), "config.txt\nnew\n");
    assert_eq!(desk.ok(&["ls", "new.img", "www", "www/js"]).text().matches("new").count(), 1);
    assert!(!desk.ok(&["ls", "new.img", "www"]).text().contains("space"));
    // Ctrl-C drops the line and Ctrl-D ends; a line from last time comes by Up
    let (code, shown) =
        typed(&desk, &["rm -r etc\u{3}", "pwd\r", "\u{1b}[A\u{1b}[A\u{1b}[A\r", "\u{4}"]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.matches("no such file").count() == 1 && shown.contains("gone"), "{shown}");
    assert!(desk.ok(&["ls", "new.img"]).text().contains("etc"));
    let history = String::from_utf8(desk.read("state/littlefs/history")).expect("UTF-8");
    assert!(history.contains("touch js/new") && !history.contains("rm -r etc"), "{history}");
}

#[test]
fn exit_takes_a_status() {
    let desk = Desk::with_image();
    for (script, code, word) in [
        ("exit\nmkdir no\n", 0, ""),
        ("exit 5\nmkdir no\n", 5, ""),
        ("quit 0\nmkdir no\n", 0, ""),
        ("exit 256\nmkdir no\n", 1, "exit: '256' is not a status: give a number up to 255"),
        ("exit now\nmkdir no\n", 1, "exit: 'now' is not a status"),
    ] {
        let ran = desk.fed(&["shell", "new.img"], script.as_bytes());
        assert_eq!(ran.code, code, "{script}: {}", ran.stderr);
        assert!(ran.stderr.contains(word) && ran.stderr.is_empty() == word.is_empty());
    }
    assert!(!desk.ok(&["ls", "new.img"]).text().contains("no"));
}
