//! `put`, and the common behaviour of all commands that change an image.

use std::fs;
use std::process::{Command, Stdio};

use testkit::desk::Desk;

#[test]
fn put_copies_as_cp_does() {
    let desk = Desk::with_image();
    desk.file("new.txt", b"new").file("dir/inner", b"inner").dir("dir/empty");
    desk.ok(&["put", "new.img", "new.txt", "/"]);
    desk.ok(&["put", "new.img", "new.txt", "etc/config.txt"]);
    desk.ok(&["put", "new.img", "new.txt", "etc/other.txt"]);
    desk.ok(&["put", "-r", "new.img", "dir", "new.txt", "www"]);
    desk.ok(&["put", "-r", "new.img", "dir", "renamed"]);
    desk.check("new.img");
    assert_eq!(
        desk.ok(&["cat", "new.img", "new.txt", "etc/config.txt", "etc/other.txt"]).stdout,
        b"newnewnew"
    );
    assert_eq!(
        desk.ok(&["cat", "new.img", "www/dir/inner", "renamed/inner"]).stdout,
        b"innerinner"
    );
    assert_eq!(desk.ok(&["ls", "new.img", "renamed"]).text(), "empty\ninner\n");
    let said = desk.ok(&["put", "--json", "new.img", "new.txt", "/"]).json();
    assert_eq!(
        (&said["files"], &said["bytes"], &said["dry_run"]),
        (&1.into(), &3.into(), &false.into())
    );
}

#[test]
fn what_cannot_be_put_changes_nothing() {
    let desk = Desk::with_image();
    desk.file("file", b"x").file("dir/etc", b"a file").file("large", &[3; 300_000]);
    let before = desk.read("new.img");
    desk.fails(&["put", "new.img", "dir", "/"], 1, &["dir", "-r"]);
    desk.fails(&["put", "new.img", "file", "no/where"], 1, &["/no", "no such file"]);
    desk.fails(&["put", "new.img", "file", "large", "here"], 1, &["/here", "no such file"]);
    desk.fails(
        &["put", "-r", "new.img", "dir/etc", "/"],
        1,
        &["a directory in the image has this name"],
    );
    desk.fails(&["put", "new.img", "large", "/"], 1, &["no space", "nothing was changed"]);
    desk.fails(&["put", "new.img", "gone", "/"], 1, &["gone"]);
    let long = "n".repeat(256);
    desk.fails(&["put", "new.img", "file", &long], 1, &["too long"]);
    desk.fails(&["put", "new.img", "file", "../x"], 1, &[]);
    assert_eq!(desk.read("new.img"), before);
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let desk = Desk::with_image();
    desk.file("file", b"x").file("large", &[3; 300_000]);
    let before = desk.read("new.img");
    let said = desk.ok(&["put", "-n", "new.img", "file", "/"]);
    assert!(said.text().starts_with("would be written: 1 file,"), "{}", said.text());
    desk.fails(&["put", "--dry-run", "new.img", "large", "/"], 1, &["no space"]);
    assert_eq!(desk.read("new.img"), before);
}

/// Each new file is written before the old one is given up, so there is not enough space for all at
/// once. The space that the first one frees is used for the next.
#[test]
fn space_that_a_replaced_file_frees_is_used() {
    let desk = Desk::new();
    let fill = |byte: u8| {
        for name in ["a", "b", "c"] {
            desk.file(&format!("data/{name}"), &[byte; 14 * 4000]);
        }
    };
    fill(1);
    desk.ok(&["create", "-q", "--size", "256K", "full.img", "data"]);
    fill(2);
    desk.ok(&["put", "full.img", "data/a", "data/b", "data/c", "/"]);
    desk.check("full.img");
    assert_eq!(desk.ok(&["cat", "full.img", "c"]).stdout, [2; 14 * 4000]);
    desk.file("data/c", &[3; 40 * 4000]);
    let before = desk.read("full.img");
    desk.fails(&["put", "full.img", "data/c", "/"], 1, &["no space", "nothing was changed"]);
    assert_eq!(desk.read("full.img"), before);
    assert_eq!(desk.names("."), ["data", "full.img"]);
}

#[test]
fn an_image_in_use_is_refused_by_name() {
    let desk = Desk::with_image();
    desk.file("file", b"x");
    let holder = Command::new("flock")
        .arg(desk.path("new.img"))
        .args(["sh", "-c", "echo held; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn();
    let mut holder = holder.expect("flock");
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut said).expect("a word");
    let ran = desk.run(&["put", "new.img", "file", "/"]);
    let dry = desk.run(&["put", "-n", "new.img", "file", "/"]);
    holder.kill().expect("killed");
    holder.wait().expect("an end");
    assert_eq!((ran.code, dry.code), (1, 1));
    assert!(ran.stderr.contains("in use by process"), "{}", ran.stderr);
}

/// Whenever the signal comes, the image has either nothing of the change or all of it.
#[test]
fn a_signal_leaves_the_old_image_or_the_new_one() {
    let desk = Desk::with_image();
    for i in 0..20 {
        desk.file(&format!("many/{i}"), &[b'm'; 2000]);
    }
    let before = desk.read("new.img");
    for _ in 0..10 {
        let script =
            "\"$0\" put -q -r new.img many / & pid=$!; kill -TERM $pid; wait $pid; echo $?";
        let out = Command::new("bash")
            .args(["-c", script, env!("CARGO_BIN_EXE_littlefs")])
            .current_dir(desk.path("."))
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let code: i32 = said.trim().parse().expect("a status");
        let after = desk.read("new.img");
        match code {
            143 => assert!(after == before, "changed, though it was interrupted"),
            0 => assert!(desk.ok(&["ls", "new.img", "many"]).text().lines().count() == 20),
            code => panic!("{code}: {out:?}"),
        }
        fs::write(desk.path("new.img"), &before).expect("as before");
    }
}

#[test]
fn atomic_changes_are_made_as_a_whole_or_not_at_all() {
    let desk = Desk::with_image();
    for i in 0..20 {
        desk.file(&format!("many/{i}"), &[b'm'; 2000]);
    }
    desk.file("large", &[3; 300_000]);
    let before = desk.read("new.img");
    desk.fails(&["put", "--atomic", "new.img", "large", "/"], 1, &["nothing was changed"]);
    desk.ok(&["put", "--atomic", "-n", "-r", "new.img", "many", "/"]);
    desk.fails(&["put", "--atomic", "--journal", "j", "new.img", "large", "/"], 1, &["--journal"]);
    assert!(desk.read("new.img") == before);
    desk.ok(&["put", "--atomic", "-r", "new.img", "many", "/"]);
    assert_eq!(desk.ok(&["ls", "new.img", "many"]).text().lines().count(), 20);
    desk.check("new.img");
    assert!(!desk.path("new.img.run").exists());
    // killed at any moment: the next change drops it, or finishes it
    for delay in 0..10 {
        fs::write(desk.path("new.img"), &before).expect("as before");
        let script = format!(
            "\"$0\" put --atomic -q -r new.img many / & pid=$!; sleep 0.0{delay}; kill -KILL $pid; \
             wait $pid"
        );
        let shell = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_littlefs")])
            .current_dir(desk.path("."))
            .output();
        shell.expect("a shell");
        desk.ok(&["put", "--atomic", "-q", "new.img", "many/1", "/other"]);
        desk.check("new.img");
        let many = desk.run(&["ls", "new.img", "many"]).text().lines().count();
        assert!(many == 0 || many == 20, "{many}");
        assert!(!desk.path("new.img.run").exists());
    }
}

/// Make `new.img`, and interrupt a change of it. The image is shorter than its filesystem, and the
/// disk has no room to extend it, so the commit of a complete journal fails.
fn interrupt(desk: &Desk) {
    desk.file("file", b"x");
    let _ = fs::remove_file(desk.path("new.img.run"));
    desk.ok(&["create", "-q", "--force", "--no-pad", "--size", "256K", "new.img", "data"]);
    let script = "ulimit -f 100; exec \"$0\" put --atomic new.img file /first";
    let out = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_littlefs")])
        .current_dir(desk.path("."))
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("littlefs journal commit"), "{stderr}");
    assert!(desk.path("new.img.run").exists());
}

#[test]
fn an_interrupted_commit_is_finished_by_the_next_change() {
    let desk = Desk::with_image();
    for (next, is_there) in [
        (&["put", "--atomic", "new.img", "file", "/second"][..], true),
        (&["put", "new.img", "file", "/second"], true),
        (&["kv", "new.img", "set", "second", "x"], true),
        (&["touch", "new.img", "other"], false),
        (&["check", "-p", "new.img"], false),
        (&["check", "-y", "new.img"], false),
        (&["resize", "-q", "--size", "512K", "new.img"], false),
    ] {
        interrupt(&desk);
        let ran = desk.ok(next);
        assert!(ran.stderr.contains("finished a commit that was interrupted"), "{}", ran.stderr);
        assert_eq!(desk.ok(&["cat", "new.img", "first"]).stdout, b"x", "{next:?}");
        assert_eq!(desk.run(&["cat", "new.img", "second"]).stdout == b"x", is_there, "{next:?}");
        assert!(!desk.path("new.img.run").exists(), "{next:?}");
        desk.check("new.img");
    }
}

#[test]
fn an_interrupted_commit_is_told_to_readers() {
    let desk = Desk::with_image();
    interrupt(&desk);
    let (image, journal) = (desk.read("new.img"), desk.read("new.img.run"));
    for args in [
        &["ls", "new.img"][..],
        &["info", "new.img"],
        &["check", "new.img"],
        &["map", "new.img"],
        &["kv", "new.img", "list"],
        &["put", "-n", "new.img", "file", "/second"],
        &["diff", "new.img", "data"],
    ] {
        let ran = desk.run(args);
        let words = ["new.img.run: holds a change of the image that was interrupted", "commit"];
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{args:?}: {}", ran.stderr);
        assert!(args[0] != "ls" || ran.code == 2, "{args:?}: exit status {}", ran.code);
    }
    assert!(desk.read("new.img") == image && desk.read("new.img.run") == journal);
}

/// The new image must not be overwritten when somebody finishes the change later, not even if the
/// old image is gone.
#[test]
fn an_image_with_an_interrupted_commit_is_not_replaced() {
    let desk = Desk::with_image();
    desk.ok(&["create", "-q", "--size", "256K", "source.img", "data"]);
    for remove_first in [false, true] {
        for args in [
            &["create", "-q", "--force", "--size", "256K", "new.img", "data"][..],
            &["clone", "-q", "--force", "source.img", "new.img"],
            &["mkfs", "--force", "--size", "256K", "new.img"],
        ] {
            interrupt(&desk);
            if remove_first {
                fs::remove_file(desk.path("new.img")).expect("remove");
            }
            let told = "new.img.run: holds a change of the image that was interrupted";
            desk.fails(args, 1, &[told]);
            assert_eq!(desk.path("new.img").exists(), !remove_first);
            fs::remove_file(desk.path("new.img.run")).expect("remove");
            desk.ok(args);
        }
    }
}
