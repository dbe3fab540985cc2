//! The commands: log, show, diff, commit, revert, squash, verify, export, save; and what they
//! refuse.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use testkit::mounted::{Mounted, c_tree, littlefs, noise, output, run, walk};
use testkit::tree::Tree;

/// A mount over a journal beside the image.
pub struct Journaled {
    pub m: Mounted,
    image: Vec<u8>,
}

impl Journaled {
    pub fn new(size: &str) -> Self {
        let mut m = Mounted::unmounted(size);
        // something in the image itself
        m.mount("rw");
        fs::create_dir(m.path("old")).expect("mkdir");
        fs::write(m.path("old/file"), noise(10_000, 7)).expect("write");
        m.unmount();
        let image = fs::read(m.image()).expect("read");
        let mut this = Self { m, image };
        this.mount("");
        this
    }

    pub fn file(&self) -> PathBuf {
        self.m.beside("j")
    }

    pub fn mount(&mut self, more: &str) {
        self.m.mount(&format!("journal={},{more}", self.file().display()));
    }

    pub fn assert_unchanged(&self) {
        assert!(fs::read(self.m.image()).expect("read") == self.image, "the image was changed");
    }

    /// `littlefs journal ACTION FILE ARGS...`, expecting success.
    pub fn run(&self, action: &str, args: &[&str]) -> String {
        run(littlefs().args(["journal", action]).arg(self.file()).args(args))
    }

    /// Run it. It must fail with this exit code, and its one error must contain these words.
    pub fn fails(&self, code: i32, action: &str, args: &[&str], words: &[&str]) {
        let mut command = littlefs();
        command.args(["journal", action]).arg(self.file()).args(args);
        fails(&mut command, code, words);
    }

    pub fn json(&self, action: &str, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        serde_json::from_str(&self.run(action, &all)).expect("JSON")
    }

    /// The bytes after the last entry.
    pub fn reserve(&self) -> u64 {
        self.json("verify", &[])["torn_bytes"].as_u64().expect("a number")
    }

    /// Make a change, which is on disk when this returns.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.m.path(name), bytes).expect("write");
        self.flush();
    }

    pub fn flush(&self) {
        fs::File::open(self.m.dir()).expect("open").sync_all().expect("fsync");
    }
}

pub fn fails(command: &mut std::process::Command, code: i32, words: &[&str]) {
    let out = output(command);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{command:?}: {said}");
    assert!(said.starts_with("littlefs: ") && said.lines().count() == 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{command:?}: no {word:?} in {said}");
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a simple name").to_owned()
}

/// The changes of a transaction in the form `KIND PATH`.
fn changes(t: &Value) -> Vec<String> {
    let all = t["changes"].as_array().expect("changes");
    all.iter()
        .map(|c| {
            let from = c["from"].as_str().map(|from| format!("{from} -> ")).unwrap_or_default();
            let (kind, path) = (c["change"].as_str(), c["path"].as_str());
            format!("{} {from}{}", kind.expect("kind"), path.expect("path"))
        })
        .collect()
}

#[test]
fn log_show_and_diff_tell_the_paths() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    j.write("big", &noise(20_000, 1));
    fs::create_dir_all(j.m.path("d/e")).expect("mkdir");
    j.write("d/e/f", b"deep");
    fs::rename(j.m.path("big"), j.m.path("old/big")).expect("rename");
    j.write("a", b"two");
    fs::rename(j.m.path("d"), j.m.path("dd")).expect("rename");
    j.flush();
    fs::remove_file(j.m.path("a")).expect("unlink");
    fs::remove_file(j.m.path("old/file")).expect("unlink");
    j.flush();
    let mut changed = noise(20_000, 1);
    changed[15_000] ^= 1;
    j.write("old/big", &changed);
    // as it was, in another place
    j.write("old/big", &noise(20_000, 1));
    fs::remove_file(j.m.path("dd/e/f")).expect("unlink");
    fs::remove_dir(j.m.path("dd/e")).expect("rmdir");
    fs::remove_dir(j.m.path("dd")).expect("rmdir");
    j.flush();
    let log = j.json("log", &[]);
    let found: Vec<_> =
        log["transactions"].as_array().expect("array").iter().map(changes).collect();
    assert_eq!(
        found,
        [
            vec!["A /a"],
            vec!["A /big"],
            vec!["A /d/", "A /d/e/", "A /d/e/f"],
            vec!["M /a", "R /big -> /old/big"],
            vec!["R /d/ -> /dd/"],
            vec!["D /a", "D /old/file"],
            vec!["M /old/big"],
            vec!["M /old/big"],
            vec!["D /dd/", "D /dd/e/", "D /dd/e/f"],
        ]
    );
    assert_eq!((&log["base"], &log["last"]), (&0.into(), &9.into()));
    let shown = j.run("log", &[]);
    assert!(
        shown.contains("     4  20") && shown.contains("        R /big -> /old/big\n"),
        "{shown}"
    );
    assert!(j.run("show", &["5"]).ends_with("        R /d/ -> /dd/\n"));
    assert_eq!(changes(&j.json("show", &["9"])).len(), 3);
    let diff = |from, to| j.run("diff", &[from, to]);
    assert_eq!(diff("0", "9"), "A /old/big\nD /old/file\n");
    assert_eq!(diff("6", "8"), "", "changed there and back");
    assert_eq!(diff("3", "2"), "D /d/\nD /d/e/\nD /d/e/f\n");
    assert_eq!(j.json("diff", &["0", "1"])[0]["path"], "/a");
    j.fails(1, "show", &["10"], &["no transaction 10", "the last one is 9"]);
    j.fails(1, "show", &["0"], &["image itself"]);
    j.fails(1, "diff", &["0", "nowhere"], &["no savepoint 'nowhere'"]);
    j.m.unmount();
    j.assert_unchanged();
    // without the image there still is a list
    let away = j.m.beside("away");
    fs::rename(j.m.image(), &away).expect("rename");
    let out = output(littlefs().args(["journal", "log", "--json"]).arg(j.file()));
    let warned = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success()
            && warned.contains(
                "paths that changed are not listed, because that needs the image (--image"
            ),
        "{warned}"
    );
    let log: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let all = log["transactions"].as_array().expect("array");
    assert!(all.len() == 9 && all.iter().all(|t| t["changes"].is_null()));
    assert!(j.run("log", &["--image", &text(&away)]).contains("A /big"));
}

#[test]
fn commit_makes_the_image_what_the_mount_showed() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    j.write("b", &noise(50_000, 2));
    let shown = walk(&j.m.dir());
    let image = text(&j.m.image());
    j.fails(1, "commit", &[&image], &["in use", "unmount it first"]);
    j.m.unmount();
    j.assert_unchanged();
    let exported = j.m.beside("exported");
    j.run("export", &[&text(&exported), "--at", "2"]);
    assert!(j.run("commit", &[&image]).contains("committed state 2"));
    j.m.compare(&shown);
    assert!(fs::read(&image).expect("read") == fs::read(&exported).expect("read"));
    assert!(j.run("commit", &[&image]).contains("0 bytes written"), "nothing is left to do");

    // the journal goes on from there
    j.mount("");
    assert_eq!(walk(&j.m.dir()), shown);
    j.write("c", b"three");
    let shown = walk(&j.m.dir());
    j.fails(1, "diff", &["1", "3"], &["state 1", "committed to the image"]);
    assert_eq!(j.run("diff", &["2", "3"]), "A /c\n");
    j.m.unmount();
    let log = j.json("log", &[]);
    assert_eq!((&log["base"], &log["last"]), (&2.into(), &3.into()));
    assert_eq!(log["transactions"][0]["fate"], "committed");
    j.run("commit", &[&image]);
    j.m.compare(&shown);
}

#[test]
fn reverts_savepoints_and_squashes() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    j.m.unmount();
    j.run("save", &["first"]);
    j.fails(1, "save", &["7"], &["'7' is not possible: the name of a savepoint must"]);
    j.fails(1, "save", &["a,b"], &["must not contain spaces, commas"]);
    j.fails(1, "save", &["--", "-x"], &["must not be a number or begin with '-'"]);
    j.mount("");
    let first = walk(&j.m.dir());
    j.write("b", &noise(30_000, 3));
    j.write("a", b"more");
    let here = text(&j.m.dir());
    j.fails(
        1,
        "save",
        &["second"],
        &["is mounted on", &here, "setfattr -n user.littlefs.savepoint"],
    );
    j.fails(1, "revert", &[], &["in use by process", "unmount it first"]);
    j.fails(1, "squash", &[], &["in use by process"]);
    j.m.unmount();
    assert!(j.run("revert", &["--to", "first"]).contains("back at state 1"));
    j.fails(1, "diff", &["0", "3"], &["transaction 3 was dropped by a revert"]);
    j.mount("");
    assert_eq!(walk(&j.m.dir()), first);
    // numbers are never used again
    j.write("c", b"new");
    assert_eq!(j.json("log", &[])["last"], 4);
    j.write("c", b"newer");
    let last = walk(&j.m.dir());
    j.m.unmount();
    j.run("save", &["now"]);
    let before = fs::metadata(j.file()).expect("journal").len();
    j.run("squash", &[]);
    let after = fs::metadata(j.file()).expect("journal").len();
    assert!(after < before, "{after} of {before}");
    let log = j.json("log", &[]);
    assert_eq!(log["transactions"].as_array().map(Vec::len), Some(1));
    assert_eq!(changes(&log["transactions"][0]), ["A /a", "A /c"]);
    assert_eq!(
        (&log["last"], &log["transactions"][0]["savepoints"][0]),
        (&5.into(), &"now".into())
    );
    j.fails(1, "diff", &["1", "5"], &["no transaction 1"]);
    j.mount("");
    assert_eq!(walk(&j.m.dir()), last);
    j.write("d", b"");
    assert_eq!(j.json("log", &[])["last"], 6);
    j.m.unmount();
    j.run("revert", &[]);
    j.run("squash", &[]);
    assert_eq!(j.json("log", &[])["last"], 0);
    j.mount("");
    assert_eq!(walk(&j.m.dir()).len(), 3);
    j.write("e", b"");
    assert_eq!(j.json("log", &[])["last"], 7, "not even after all that");
    j.m.unmount();
    j.assert_unchanged();
}

#[test]
fn export_writes_any_state_and_overwrites_only_by_force() {
    let mut j = Journaled::new("1M");
    let mut trees: Vec<Tree> = vec![walk(&j.m.dir())];
    for i in 0..4 {
        j.write(&format!("f{i}"), &noise(9000, i));
        trees.push(walk(&j.m.dir()));
    }
    // while it is mounted
    for (i, tree) in trees.iter().enumerate() {
        let out = j.m.beside(&format!("at{i}"));
        j.run("export", &[&text(&out), "--at", &i.to_string()]);
        run(littlefs().arg("check").arg(&out));
        assert_eq!(&c_tree(&out), tree, "state {i}");
    }
    assert!(fs::read(j.m.beside("at0")).expect("read") == fs::read(j.m.image()).expect("read"));
    let out = text(&j.m.beside("at1"));
    j.fails(1, "export", &[&out, "--at", "2"], &["at1", "exists"]);
    j.run("export", &[&out, "--at", "2", "--force"]);
    assert_eq!(c_tree(Path::new(&out)), trees[2]);
    j.fails(1, "export", &[&text(&j.m.dir()), "--at", "2", "--force"], &["mnt"]);
    j.m.unmount();
}

#[test]
fn verify_tells_what_is_whole() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    let first = fs::metadata(j.file()).expect("journal").len();
    j.write("b", b"two");
    j.write("c", b"three");
    j.m.unmount();
    let image = text(&j.m.image());
    assert!(
        j.run("verify", &["--image", &image])
            .starts_with(&format!("{}: sound\nit has ", text(&j.file())))
    );
    let whole = fs::read(j.file()).expect("read");
    fs::write(j.file(), [&whole[..], b"torn"].concat()).expect("write");
    let found = j.json("verify", &[]);
    assert_eq!(
        (&found["sound"], &found["torn_bytes"], &found["last"]),
        (&true.into(), &4.into(), &3.into())
    );
    // every command says so, because the last entry may also have been damaged later
    let told = "there is a part of an entry (4 bytes): a crash interrupted it, it was damaged, or";
    assert!(j.run("verify", &[]).contains(told));
    let journal = text(&j.file());
    for command in [
        &["journal", "log", &journal][..],
        &["journal", "diff", &journal, "1", "2"],
        &["ls", "--journal", &journal, &image],
        &["journal", "save", &journal, "here"],
    ] {
        let out = output(littlefs().args(command));
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains(told), "{command:?}: {said}");
        assert_eq!(said.matches("part of an entry").count(), 1, "{command:?}: {said}");
    }
    // the last command has cut it off
    let out = output(littlefs().args(["journal", "log", &journal]));
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    // zeros are not a part of an entry for those who read: a mount reserves space
    fs::write(j.file(), [&whole[..], &[0; 4096]].concat()).expect("write");
    let out = output(littlefs().args(["journal", "log", &journal]));
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let out = output(littlefs().args(["journal", "commit", &journal, &image]));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("part of an entry"), "{said}");
    fs::write(j.m.image(), &j.image).expect("write");
    fs::write(j.file(), &whole).expect("write");
    let mut bad = whole.clone();
    bad[first as usize + 60] ^= 4;
    fs::write(j.file(), &bad).expect("write");
    let out = output(littlefs().args(["journal", "verify", "--json"]).arg(j.file()));
    assert_eq!(out.status.code(), Some(4));
    let found: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(
        (&found["sound"], &found["last"], &found["bytes"]),
        (&false.into(), &1.into(), &first.into())
    );
    let damage = found["damage"].as_str().expect("text");
    assert!(damage.contains("entry 2 is damaged") && damage.contains("entry 3"), "{damage}");
    let words = ["the journal is damaged: entry 2", "bytes are sound, and 'head -c "];
    j.fails(1, "log", &[], &words);
    let mut mount = littlefs();
    mount.args(["mount", "--journal"]).arg(j.file()).arg(j.m.image()).arg(j.m.dir());
    fails(&mut mount, 32, &words);
    // the remedy that it names
    fs::write(j.file(), &bad[..first as usize]).expect("write");
    j.mount("");
    assert_eq!(fs::read(j.m.path("a")).expect("read"), b"one");
    assert!(!j.m.path("b").exists());
    j.m.unmount();
    fs::write(j.file(), b"something else").expect("write");
    j.fails(8, "verify", &[], &["not a journal"]);
}

#[test]
fn a_journal_and_another_image_do_not_belong_together() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    j.m.unmount();
    let image = fs::read(j.m.image()).expect("read");
    let mount = |options: &str| {
        let mut mount = littlefs();
        let options = format!("journal={},{options}", j.file().display());
        mount.args(["mount", "-o", &options]).arg(j.m.image()).arg(j.m.dir());
        mount
    };
    let words = ["does not belong to this image as it is now", "littlefs journal commit"];
    // changed by another mount
    run(littlefs().arg("mount").arg(j.m.image()).arg(j.m.dir()));
    fs::write(j.m.path("new"), b"x").expect("write");
    run(littlefs().arg("umount").arg(j.m.dir()));
    for options in ["rw", "ro", "at=1", "at=0"] {
        fails(&mut mount(options), 32, &words);
    }
    let path = text(&j.m.image());
    for (action, args) in [
        ("log", vec![]),
        ("diff", vec!["0", "1"]),
        ("commit", vec![path.as_str()]),
        ("squash", vec![]),
        ("verify", vec!["--image", &path]),
    ] {
        if action == "log" {
            continue;
        }
        j.fails(if action == "verify" { 8 } else { 1 }, action, &args, &words);
    }
    // of another size
    run(littlefs().args(["mkfs", "--force", "--size", "512K"]).arg(j.m.image()));
    fails(&mut mount("rw"), 32, &["256 blocks of 4096 bytes", "128"]);
    // as it was
    fs::write(j.m.image(), image).expect("write");
    fails(&mut mount("at=9"), 32, &["no transaction 9"]);
    fails(&mut mount("at=nowhere"), 32, &["no savepoint 'nowhere'"]);
    let mut alone = littlefs();
    alone.args(["mount", "-o", "at=1"]).arg(j.m.image()).arg(j.m.dir());
    fails(&mut alone, 1, &["'at' needs 'journal=FILE'"]);
    j.mount("");
    assert_eq!(fs::read(j.m.path("a")).expect("read"), b"one");
    j.m.unmount();
    // a missing journal is not made for reading
    fs::remove_file(j.file()).expect("unlink");
    let mut read_only = littlefs();
    let options = format!("ro,journal={}", j.file().display());
    read_only.args(["mount", "-o", &options]).arg(j.m.image()).arg(j.m.dir());
    fails(&mut read_only, 32, &["/j: "]);
    assert!(!j.file().exists());
}

#[test]
fn other_commands_look_at_any_state() {
    let mut j = Journaled::new("1M");
    j.write("a", b"one");
    fs::remove_file(j.m.path("a")).expect("unlink");
    j.write("b", b"two");
    let (file, image) = (text(&j.file()), text(&j.m.image()));
    let command = |args: &[&str]| {
        let mut command = littlefs();
        command.args(args);
        command
    };
    let files = |more: &[&str]| {
        let mut args = vec!["info", "--json"];
        args.extend(more);
        args.push(&image);
        let info: Value = serde_json::from_str(&run(&mut command(&args))).expect("JSON");
        info["files"].as_u64().expect("a number")
    };
    // while it is mounted
    assert_eq!(files(&[]), 1);
    assert_eq!(files(&["--journal", &file]), 2);
    assert_eq!(files(&["--journal", &file, "--at", "1"]), 2);
    assert_eq!(files(&["--journal", &file, "--at", "0"]), 1);
    run(&mut command(&["check", "--journal", &file, "--at", "2", &image]));
    let get = |at: &str, key: &str| {
        run(&mut command(&["kv", "--journal", &file, "--at", at, &image, "get", key]))
    };
    assert_eq!((get("1", "a").trim(), get("2", "b").trim()), ("one", "two"));
    let mut set = command(&["kv", "--journal", &file, "--at", "1", &image, "set", "c", "3"]);
    fails(&mut set, 1, &["state 1 is a past state"]);
    j.m.unmount();
    run(&mut command(&["kv", "--journal", &file, &image, "set", "c", "three"]));
    assert_eq!(j.run("diff", &["2", "3"]), "A /c\n");
    run(&mut command(&["check", "--repair", "--journal", &file, &image]));
    assert!(!output(&mut command(&["info", "--at", "1", &image])).status.success(), "of what?");
    let none = text(&j.m.beside("none"));
    for args in [
        &["ls", "--journal", &none, &image][..],
        &["kv", "--journal", &none, &image, "get", "c"],
        &["journal", "log", &none],
        &["journal", "commit", &none, &image],
    ] {
        fails(&mut command(args), 1, &[&none, "no such journal; 'littlefs mount --journal"]);
    }
    j.assert_unchanged();
}

#[test]
fn a_squash_leaves_out_what_is_free() {
    let mut j = Journaled::new("4M");
    for i in 0..5 {
        j.write("big", &noise(500_000, i));
    }
    j.write("small", b"x");
    fs::remove_file(j.m.path("big")).expect("unlink");
    j.flush();
    let shown = walk(&j.m.dir());
    j.m.unmount();
    let size = |j: &Journaled| fs::metadata(j.file()).expect("journal").len();
    assert!(size(&j) > 2_500_000);
    j.run("squash", &[]);
    assert!(size(&j) < 20_000, "{}", size(&j));
    j.run("commit", &[&text(&j.m.image())]);
    j.m.compare(&shown);
}
