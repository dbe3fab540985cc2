//! Images and journals that are deleted, replaced or moved while they are mounted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::status::status;
use testkit::mounted::{Mounted, c_tree, is_mounted, littlefs, output, run, wait_until};

/// Ask for an unmount. Returns the exit status and the messages.
fn umount(m: &Mounted, flags: &[&str]) -> (i32, String) {
    let out = output(littlefs().arg("umount").args(flags).arg(m.dir()));
    (out.status.code().expect("an exit"), String::from_utf8(out.stderr).expect("UTF-8"))
}

/// The mount must not end. Returns the file that is still open, as `umount` and `status` name it.
fn kept(m: &Mounted, what: &str) -> PathBuf {
    let facts = status(&m.dir());
    let stray = &facts["strays"][0];
    assert_eq!((&stray["file"], &stray["state"]), (&what.into(), &"deleted".into()), "{facts}");
    let file = stray["descriptor"].as_str().expect("a path");
    let text = run(littlefs().arg("status").arg(m.dir()));
    let saves = format!("'sync {} && cp {file} NEWFILE'", m.dir().display());
    assert!(text.contains(&format!("the {what} was deleted or replaced")), "{text}");
    assert!(text.contains(&saves), "{text}");
    let (code, said) = umount(m, &[]);
    assert_eq!(code, 32, "{said}");
    let saves = format!("'cp {file} NEWFILE' saves it");
    for words in ["not unmounted", what, "deleted or replaced", &saves, "umount -f"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(is_mounted(&m.dir()));
    file.into()
}

/// End the mount all the same. There must be an image at its path again.
fn discard(mut m: Mounted) {
    // a program that another test starts just now may hold a copy of an open file
    wait_until("the unmount", || umount(&m, &["-f"]).0 == 0);
    m.unmounted_elsewhere();
}

fn is_in_place(m: &Mounted) -> bool {
    status(&m.dir()).get("strays").is_none()
}

#[test]
fn an_image_without_a_name_is_not_lost_by_an_unmount() {
    let delete = |m: &Mounted| fs::remove_file(m.image()).expect("a removal");
    let replace = |m: &Mounted| {
        fs::write(m.beside("new"), b"another file").expect("a file");
        fs::rename(m.beside("new"), m.image()).expect("a rename");
    };
    for (spoil, flag) in [(&delete as &dyn Fn(&Mounted), "-f"), (&replace, "-l")] {
        let mut m = Mounted::with_options("1M", "commit=3600");
        assert!(is_in_place(&m));
        fs::write(m.path("late"), b"x").expect("write");
        spoil(&m);
        let file = kept(&m, "image");
        fs::write(m.path("later"), b"x").expect("the mount goes on");
        kept(&m, "image");
        fs::copy(&file, m.image()).expect("a copy");
        run(littlefs().arg("check").arg(m.image()));
        let saved = c_tree(&m.image());
        assert!(saved.contains_key(&b"late"[..]) && saved.contains_key(&b"later"[..]));
        wait_until("the unmount", || umount(&m, &[flag]).0 == 0);
        m.unmounted_elsewhere();
    }
}

#[test]
fn a_journal_mount_needs_both_files() {
    for gone in ["journal", "image"] {
        let mut m = Mounted::unmounted("1M");
        m.mount(&format!("journal={}", m.beside("j").display()));
        fs::write(m.path("late"), b"x").expect("write");
        assert!(is_in_place(&m));
        let path = if gone == "journal" { m.beside("j") } else { m.image() };
        fs::remove_file(&path).expect("a removal");
        let file = kept(&m, gone);
        fs::copy(file, &path).expect("a copy");
        run(littlefs().args(["journal", "verify"]).arg(m.beside("j")));
        let names = littlefs().args(["ls", "--journal"]).arg(m.beside("j")).arg(m.image()).output();
        assert_eq!(names.expect("a list").stdout, b"late\n");
        discard(m);
    }
}

/// Nothing is lost by these unmounts.
#[test]
fn a_file_that_has_a_name_or_no_changes_does_not_keep_a_mount() {
    let moved = |m: &Mounted| m.beside("moved");
    type Change = fn(&Path, &Path);
    let rename: Change = |image, other| fs::rename(image, other).expect("a rename");
    let link: Change = |image, other| {
        fs::hard_link(image, other).expect("a link");
        fs::remove_file(image).expect("a removal");
    };
    for (change, words) in [(rename, "moved to "), (link, "moved to an unknown path")] {
        let mut m = Mounted::new("1M");
        fs::write(m.path("f"), b"x").expect("write");
        change(&m.image(), &moved(&m));
        assert_eq!(status(&m.dir())["strays"][0]["state"], "moved");
        let mut said = String::new();
        wait_until("the unmount", || {
            let (code, text) = umount(&m, &[]);
            said = text;
            code == 0
        });
        assert!(said.contains(words), "{said}");
        fs::rename(moved(&m), m.image()).expect("a rename");
        m.unmounted_elsewhere();
        assert!(c_tree(&m.image()).contains_key(&b"f"[..]));
    }
    // a new version of an image replaces the one that is mounted for reading
    let mut m = Mounted::with_options("1M", "ro");
    fs::copy(m.image(), moved(&m)).expect("a copy");
    fs::rename(moved(&m), m.image()).expect("a rename");
    assert_eq!(status(&m.dir())["strays"][0]["state"], "deleted");
    let mut said = String::new();
    wait_until("the unmount", || {
        let (code, text) = umount(&m, &[]);
        said = text;
        code == 0
    });
    // another test may have a copy of the mount in its mount namespace, of which a warning tells
    assert!(!said.contains("while it was mounted"), "{said}");
    m.unmounted_elsewhere();
}
