//! README.md: the command lines of a first session without a mount work, one after the other.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use testkit::desk::Desk;

const README: &str = include_str!("../../README.md");

/// Run each line of this section that begins with `$ `, in a shell that knows `littlefs`.
fn run_lines(desk: &Desk, section: &str, mut before: impl FnMut(&str)) -> usize {
    symlink(env!("CARGO_BIN_EXE_littlefs"), desk.path("littlefs")).expect("a link");
    let path = std::env::var("PATH").expect("PATH");
    let (_, text) = README.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = text.split("\n## ").next().unwrap_or(text);
    let lines = text.lines().filter_map(|line| line.strip_prefix("    $ "));
    let mut count = 0;
    for line in lines {
        before(line);
        let mut shell = Command::new("sh");
        shell.args(["-euc", line]).current_dir(desk.path(".")).env("EDITOR", "true");
        shell.env("PATH", format!("{}:{path}", desk.path(".").display())).env_remove("VISUAL");
        let output = shell.output().expect("sh");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // recover and inspect say by their status what they found
        let is_done = output.status.success() || line.contains(" recover ");
        assert!(is_done, "{line}: {}: {said}", output.status);
        count += 1;
    }
    count
}

#[test]
fn the_session_without_a_mount_works() {
    let desk = Desk::new();
    desk.file("data/www/index.html", b"<title>here</title>").file("data/log/old", b"old");
    desk.file("data/etc/config.txt", b"colour = red").file("config.txt", b"colour = blue");
    desk.file("www/index.html", b"<title>there</title>");
    let count = run_lines(&desk, "Without a mount", |line| {
        // in the place of the dump with which README.md begins
        if line.contains(" check ") {
            fs::copy(desk.path("new.img"), desk.path("dump.bin")).expect("a copy");
        }
        if line.contains(" diff ") {
            fs::remove_dir_all(desk.path("data")).expect("removed");
            fs::rename(desk.path("out"), desk.path("data")).expect("renamed");
        }
    });
    assert!(count >= 18, "{count} lines");
    assert_eq!(desk.ok(&["cat", "copy.img", "www/index.html"]).text(), "<title>there</title>");
}
