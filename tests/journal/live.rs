//! Journals under real mounts: time travel, savepoints from inside, locks, kills.

use std::fs;

use crate::program::{Journaled, fails};
use testkit::mounted::{Mounted, littlefs, noise, output, python, run, wait_until, walk};

/// Set an extended attribute of the root. Returns the errno, or 0.
fn setxattr(j: &Mounted, name: &str, value: &str) -> i32 {
    let script = format!(
        "import os, sys\ntry: os.setxattr('.', '{name}', b'{value}')\n\
         except OSError as e: print(e.errno)\nelse: print(0)"
    );
    python(&j.dir(), &script).trim().parse().expect("a number")
}

#[test]
fn the_image_never_changes_and_nothing_synced_is_lost() {
    let mut j = Journaled::new("4M");
    fs::create_dir(j.m.path("d")).expect("mkdir");
    for i in 0..50 {
        fs::write(j.m.path(&format!("d/f{i}")), noise(200 * i as usize, i)).expect("write");
        if i % 10 == 0 {
            j.flush();
            j.assert_unchanged();
        }
    }
    j.flush();
    let shown = walk(&j.m.dir());
    assert!(j.reserve() > 0, "so that a sync need not change the length");
    run(std::process::Command::new("kill").arg("-9").arg(j.m.daemon()));
    run(std::process::Command::new("fusermount3").arg("-uz").arg(j.m.dir()));
    j.m.unmounted_elsewhere();
    j.assert_unchanged();
    j.mount("");
    assert_eq!(walk(&j.m.dir()), shown);
    fs::write(j.m.path("later"), b"unmounting flushes").expect("write");
    j.m.remount();
    assert_eq!(fs::read(j.m.path("later")).expect("read"), b"unmounting flushes");
    let image = j.m.image();
    j.m.unmount();
    assert_eq!(j.reserve(), 0);
    j.assert_unchanged();
    j.run("commit", &[image.to_str().expect("simple")]);
    let mut all = shown;
    let entry = testkit::tree::Entry::file(b"unmounting flushes".to_vec());
    all.insert(b"later".to_vec(), entry);
    j.m.compare(&all);
}

#[test]
fn past_states_are_mounted_beside_the_live_one() {
    let mut j = Journaled::new("1M");
    let mut trees = vec![walk(&j.m.dir())];
    for i in 0..3 {
        j.write(&format!("f{i}"), &noise(5000, i));
        trees.push(walk(&j.m.dir()));
    }
    assert_eq!(setxattr(&j.m, "user.littlefs.savepoint", "three"), 0);
    let dirs: Vec<_> = (0..5).map(|i| j.m.beside(&format!("past{i}"))).collect();
    let states = ["0", "1", "2", "3", "three"];
    for (dir, at) in dirs.iter().zip(states) {
        fs::create_dir(dir).expect("mkdir");
        let options = format!("journal={},at={at}", j.file().display());
        run(littlefs().args(["mount", "-o", &options]).arg(j.m.image()).arg(dir));
    }
    // the live one goes on
    fs::remove_file(j.m.path("f0")).expect("unlink");
    j.write("f1", b"changed");
    for (i, dir) in dirs.iter().enumerate() {
        assert_eq!(walk(dir), trees[i.min(3)], "{}", states[i]);
        let e = fs::write(dir.join("x"), b"").expect_err("read-only");
        assert_eq!(e.raw_os_error(), Some(libc::EROFS));
    }
    let status = run(littlefs().arg("status").arg(&dirs[1]));
    assert!(status.contains("past state") && status.contains("/j\n"), "{status}");
    let status = run(littlefs().arg("status").arg(j.m.dir()));
    assert!(status.contains("read and write") && status.contains("journal  "), "{status}");
    // unmounting waits for the journal, not for who reads the image
    let live = walk(&j.m.dir());
    j.m.remount();
    assert_eq!(walk(&j.m.dir()), live);
    // nor does committing go behind their backs
    j.m.unmount();
    j.fails(1, "commit", &[j.m.image().to_str().expect("simple")], &["in use"]);
    for dir in &dirs {
        run(littlefs().arg("umount").arg(dir));
    }
    j.assert_unchanged();
}

#[test]
fn savepoints_are_set_from_inside() {
    let mut j = Journaled::new("1M");
    let name = "user.littlefs.savepoint";
    // not asked before: the kernel learns that there are no attributes to get
    fs::write(j.m.path("a"), b"unflushed").expect("write");
    let get =
        "import os\ntry: print(os.getxattr('a', 'user.x'))\nexcept OSError as e: print(e.errno)";
    assert_eq!(python(&j.m.dir(), get), format!("{}\n", libc::ENOTSUP));
    assert_eq!(setxattr(&j.m, name, "one"), 0);
    let log = j.json("log", &[]);
    assert_eq!(log["savepoints"][0]["name"], "one");
    assert_eq!(log["last"], 1, "what was not flushed was flushed");
    fs::remove_file(j.m.path("a")).expect("unlink");
    assert_eq!(setxattr(&j.m, name, "two"), 0);
    assert_eq!(j.run("diff", &["one", "two"]), "D /a\n");
    assert_eq!(setxattr(&j.m, name, "12"), libc::EINVAL);
    assert_eq!(setxattr(&j.m, name, "with space"), libc::EINVAL);
    assert_eq!(setxattr(&j.m, name, ""), libc::EINVAL);
    assert_eq!(setxattr(&j.m, "user.other", "x"), libc::ENOTSUP);
    // a name again moves it; XATTR_CREATE says not to
    fs::write(j.m.path("b"), b"").expect("write");
    assert_eq!(setxattr(&j.m, name, "one"), 0);
    assert_eq!(j.run("diff", &["two", "one"]), "A /b\n");
    let create = format!(
        "import os\ntry: os.setxattr('.', '{name}', b'one', os.XATTR_CREATE)\n\
         except OSError as e: print(e.errno)"
    );
    assert_eq!(python(&j.m.dir(), &create), format!("{}\n", libc::EEXIST));
    // with extended attributes it can be read, too
    j.m.unmount();
    j.mount("user_xattr");
    let get = format!("import os\nprint(os.getxattr('.', '{name}').decode())");
    assert_eq!(python(&j.m.dir(), &get), "one\n");
    assert_eq!(setxattr(&j.m, name, "three"), 0);
    assert_eq!(python(&j.m.dir(), &get), "three\n");
    let other = "import os\nos.mkdir('s')\ntry: os.setxattr('s', 'user.littlefs.savepoint', b'x')\nexcept OSError as e: print(e.errno)";
    assert_eq!(python(&j.m.dir(), other), format!("{}\n", libc::ENOTSUP), "on the root only");
    j.m.unmount();
    // and without a journal there are none
    for options in ["rw", "user_xattr"] {
        j.m.mount(options);
        assert_eq!(setxattr(&j.m, name, "x"), libc::ENOTSUP);
        j.m.unmount();
    }
}

#[test]
fn one_writes_and_the_image_is_read_by_all() {
    let mut j = Journaled::new("1M");
    let other = Mounted::unmounted("64K");
    let mut second = littlefs();
    second.args(["mount", "--journal"]).arg(j.file()).arg(j.m.image()).arg(other.dir());
    fails(&mut second, 32, &["/j: in use by process", "(littlefs)"]);
    let mut plain = littlefs();
    plain.arg("mount").arg(j.m.image()).arg(other.dir());
    fails(&mut plain, 32, &["in use by process"]);
    // another journal of the same image is another world
    let beside = j.m.beside("j2");
    run(littlefs().args(["mount", "--journal"]).arg(&beside).arg(j.m.image()).arg(other.dir()));
    fs::write(other.path("there"), b"x").expect("write");
    fs::write(j.m.path("here"), b"x").expect("write");
    assert!(!j.m.path("there").exists() && !other.path("here").exists());
    run(littlefs().arg("info").arg(j.m.image()));
    run(littlefs().arg("umount").arg(other.dir()));
    let options = format!("ro,journal={}", j.file().display());
    j.flush();
    run(littlefs().args(["mount", "-o", &options]).arg(j.m.image()).arg(other.dir()));
    assert!(other.path("here").exists());
    run(littlefs().arg("umount").arg(other.dir()));
    j.m.unmount();
    j.assert_unchanged();
}

#[test]
fn through_mount_8_and_with_remount() {
    let mut j = Journaled::new("1M");
    j.m.unmount();
    let helper = j.m.beside("mount.littlefs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_littlefs"), &helper).expect("symlink");
    let options = format!("rw,noauto,journal={}", j.file().display());
    run(std::process::Command::new(&helper).arg(j.m.image()).arg(j.m.dir()).args(["-o", &options]));
    fs::write(j.m.path("a"), b"x").expect("write");
    if testkit::mounted::is_root() {
        let remount = |options: &str| {
            output(littlefs().args(["mount", "-o", options]).arg(j.m.image()).arg(j.m.dir()))
        };
        wait_until("no file is open for writing", || remount("remount,ro").status.success());
        fs::write(j.m.path("b"), b"x").expect_err("read-only");
        assert!(remount("remount,rw").status.success());
        fs::write(j.m.path("b"), b"x").expect("write");
    }
    run(littlefs().arg("umount").arg(j.m.image()));
    j.mount("");
    assert!(j.m.path("a").exists());
    j.m.unmount();
    j.assert_unchanged();
}
