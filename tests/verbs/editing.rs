//! `cp`, `mv`, `rm`, `mkdir`, `touch`, `truncate` and `ln -s`: each against what the C driver then
//! reads.

use std::process::{Command, Stdio};

use littlefs::disk::Tail;
use testkit::builder::{Builder, put_inline};
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;
use testkit::tree::Tree;

const MTIME: u8 = b't';
const TYPES: &[u8] = &[MTIME, 0x80, b'U', b'T'];

fn config() -> Config {
    Config::new(4096, 64, 16)
}

/// The image as the C driver reads it. It must be sound.
fn tree(desk: &Desk) -> Tree {
    desk.check("new.img");
    let mut driver = CLfs::mount(desk.read("new.img"), &config()).expect("the driver takes it");
    driver.tree(TYPES).expect("a whole tree")
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// An image that the C driver made: a file with attributes, in blocks of its own, and directories.
fn by_the_driver() -> Desk {
    let mut driver = CLfs::fresh(&config()).expect("a filesystem");
    driver.mkdir(b"a").expect("a directory");
    driver.mkdir(b"a/b").expect("a directory");
    driver.mkdir(b"empty").expect("a directory");
    driver.write_file(b"a/b/large", &[7; 9000]).expect("a file");
    driver.write_file(b"a/small", b"small").expect("a file");
    driver.setattr(b"a/b/large", MTIME, &1_700_000_000_u64.to_le_bytes()).expect("an attribute");
    driver.setattr(b"a/b/large", 0x80, b"own").expect("an attribute");
    driver.setattr(b"a/b", 0x80, b"of a directory").expect("an attribute");
    let desk = Desk::new();
    desk.file("new.img", &driver.unmount());
    desk
}

#[test]
fn entries_move_with_all_they_have() {
    let desk = by_the_driver();
    let before = tree(&desk);
    desk.ok(&["mv", "new.img", "a/b", "/empty"]);
    desk.ok(&["mv", "new.img", "a", "renamed/"]);
    let after = tree(&desk);
    assert_eq!(
        paths(&after),
        ["", "empty", "empty/b", "empty/b/large", "renamed", "renamed/small"]
    );
    for (from, to) in
        [("a/b", "empty/b"), ("a/b/large", "empty/b/large"), ("a/small", "renamed/small")]
    {
        assert_eq!(before[from.as_bytes()], after[to.as_bytes()], "{to}");
    }
    // a file replaces a file, and an empty directory goes in the place of another
    desk.ok(&["mv", "new.img", "empty/b/large", "renamed/small"]);
    desk.ok(&["mkdir", "new.img", "x"]);
    desk.ok(&["mv", "-T", "new.img", "x", "empty/b"]);
    let after = tree(&desk);
    assert_eq!(paths(&after), ["", "empty", "empty/b", "renamed", "renamed/small"]);
    assert_eq!(after[&b"renamed/small"[..]], before[&b"a/b/large"[..]]);
}

#[test]
fn a_copy_is_what_its_source_is() {
    let desk = by_the_driver();
    let before = tree(&desk);
    desk.ok(&["cp", "-r", "new.img", "a", "copy"]);
    desk.ok(&["cp", "-r", "new.img", "a/b", "a/small", "empty"]);
    desk.ok(&["cp", "new.img", "a/b/large", "copy/small"]);
    let after = tree(&desk);
    for (from, to) in [
        ("a/b", "copy/b"),
        ("a/b/large", "copy/b/large"),
        ("a/b", "empty/b"),
        ("a/b/large", "empty/b/large"),
        ("a/small", "empty/small"),
        ("a/b/large", "copy/small"),
        ("a/b/large", "a/b/large"),
    ] {
        assert_eq!(before[from.as_bytes()], after[to.as_bytes()], "{to}");
    }
    // attributes that the source does not have are not left from what was there
    desk.ok(&["cp", "new.img", "a/small", "copy/b/large"]);
    assert_eq!(tree(&desk)[&b"copy/b/large"[..]], before[&b"a/small"[..]]);
    // a directory that is there is filled up
    desk.ok(&["cp", "-r", "new.img", "a", "/empty"]);
    desk.ok(&["cp", "-rT", "new.img", "a", "empty"]);
    assert_eq!(tree(&desk)[&b"empty/a/b/large"[..]], before[&b"a/b/large"[..]]);
}

#[test]
fn entries_are_removed_and_their_blocks_free() {
    let desk = by_the_driver();
    let free = |desk: &Desk| desk.ok(&["info", "--json", "new.img"]).json()["blocks_free"].as_u64();
    let before = free(&desk);
    let would = desk.ok(&["rm", "-n", "-r", "new.img", "a", "a/small"]);
    assert_eq!(
        would.text(),
        "would be removed: /a/small\nwould be removed: /a/b/large\nwould be removed: /a/b\nwould be removed: /a\n"
    );
    assert_eq!(paths(&tree(&desk)).len(), 6);
    let said = desk.ok(&["rm", "--json", "new.img", "a/b/*"]).json();
    assert_eq!(said["changes"][0]["path"], "/a/b/large");
    assert_eq!(
        (&said["changes"][0]["change"], &said["dry_run"]),
        (&"removed".into(), &false.into())
    );
    desk.ok(&["rm", "-r", "--atomic", "new.img", "/*"]);
    assert_eq!(paths(&tree(&desk)), [""]);
    assert!(free(&desk) > before, "{:?}", free(&desk));
    desk.ok(&["rm", "-f", "new.img", "gone", "not/there", "no*"]);
}

#[test]
fn files_and_directories_are_made_and_sized() {
    let desk = by_the_driver();
    desk.ok(&["mkdir", "new.img", "d", "d/e"]);
    desk.ok(&["mkdir", "-p", "new.img", "d/e/f/g", "d"]);
    desk.ok(&["truncate", "-s", "5000", "new.img", "a/small", "zeros"]);
    desk.ok(&["truncate", "-s", "+1K", "new.img", "zeros"]);
    desk.ok(&["truncate", "-s", "-8999", "new.img", "a/b/large"]);
    desk.ok(&["truncate", "-c", "-s", "1", "new.img", "gone"]);
    desk.ok(&["touch", "new.img", "d/new"]);
    desk.ok(&["touch", "-c", "new.img", "gone"]);
    desk.ok(&["touch", "-d", "2020-01-01T00:00:00Z", "new.img", "a/b/l*"]);
    let after = tree(&desk);
    assert!(after[&b"d/e/f/g"[..]].is_dir());
    assert!(!after.contains_key(&b"gone"[..]));
    let mut driver = CLfs::mount(desk.read("new.img"), &config()).expect("the driver takes it");
    assert_eq!(driver.read_file(b"zeros").expect("a file"), [0; 6024]);
    assert_eq!(driver.read_file(b"a/b/large").expect("a file"), [7]);
    assert_eq!(driver.read_file(b"a/small").expect("a file")[..6], *b"small\0");
    assert_eq!(driver.read_file(b"d/new").expect("a file"), b"");
    let time = after[&b"a/b/large"[..]].attrs[&MTIME].clone();
    assert_eq!(time, 1_577_836_800_u64.to_le_bytes());
    // and the driver goes on with it
    driver.remove(b"d/e/f/g").expect("it goes");
    driver.append(b"zeros", b"more").expect("a write");
    desk.file("new.img", &driver.unmount());
    desk.ok(&["rm", "-r", "new.img", "d", "zeros"]);
    assert_eq!(paths(&tree(&desk)), ["", "a", "a/b", "a/b/large", "a/small", "empty"]);
}

#[test]
fn links_are_files_with_attributes() {
    let desk = Desk::with_image();
    desk.fails(&["ln", "-s", "new.img", "etc/config.txt", "l"], 1, &["--attrs unix"]);
    desk.ok(&["ln", "-s", "--attrs", "unix", "new.img", "etc/config.txt", "l"]);
    desk.ok(&["ln", "-s", "new.img", "../shared/", "www"]);
    desk.fails(&["ln", "-s", "new.img", "other", "l"], 1, &["/l: file exists"]);
    desk.ok(&["ln", "-sf", "new.img", "other", "l"]);
    desk.fails(&["ln", "-s", "new.img", "", "empty-one"], 1, &["1 to 4095 bytes"]);
    desk.fails(&["ln", "-s", "new.img", &"x".repeat(4096), "long"], 1, &["1 to 4095 bytes"]);
    desk.fails(&["ln", "-s", "new.img", "..", "www"], 1, &["/www/.."]);
    desk.fails(&["ln", "new.img", "a", "b"], 1, &["--symbolic"]);
    let after = tree(&desk);
    let mode = |path: &[u8]| after[path].attrs[&b'U'][8..].to_vec();
    assert_eq!(mode(b"l"), 0o120_777_u32.to_le_bytes());
    assert_eq!(mode(b"www/shared"), 0o120_777_u32.to_le_bytes());
    let stat = desk.ok(&["stat", "--json", "new.img", "l", "www/shared"]).json();
    assert_eq!(stat["entries"][0]["target"], "other");
    assert_eq!(stat["entries"][1]["target"], "../shared/");
    // links are moved, copied and removed as they are
    desk.ok(&["cp", "new.img", "l", "copy"]);
    assert_eq!(tree(&desk)[&b"copy"[..]], after[&b"l"[..]]);
    desk.fails(&["truncate", "-s", "0", "new.img", "l"], 1, &["/l: is not a regular file"]);
    desk.ok(&["rm", "new.img", "l"]);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let desk = Desk::with_image();
    desk.ok(&["create", "-q", "--force", "--size", "256K", "--attrs", "unix", "new.img", "data"]);
    let before = desk.read("new.img");
    for (args, words) in [
        (&["rm", "new.img", "etc"][..], &["/etc: is a directory", "-r"][..]),
        (&["rm", "-r", "new.img", "/"], &["root directory"]),
        (&["rm", "-rf", "new.img", "//./"], &["root directory"]),
        (&["rm", "-r", "new.img", "www/."], &["'.' cannot be removed"]),
        (&["rm", "new.img", "www/../etc"], &["'..' is not allowed"]),
        (&["rm", "new.img", "etc/config.txt/"], &["not a directory"]),
        (&["rm", "new.img", "etc/config.txt", "a", "b*", "www"], &["3 of", "/a:", "/b*:", "/www:"]),
        (&["rm", "--literal", "new.img", "etc/*"], &["/etc/*: no such file"]),
        (&["mv", "new.img", "www", "www"], &["into itself"]),
        (&["mv", "new.img", "www", "www/js"], &["into itself"]),
        (&["mv", "new.img", "www", "www/js/new"], &["into itself"]),
        (&["mv", "new.img", "/", "etc"], &["root directory"]),
        (&["mv", "new.img", "etc/config.txt", "etc/config.txt"], &["the same"]),
        (
            &["mv", "-T", "new.img", "etc/config.txt", "www"],
            &["/www: a file cannot replace a directory"],
        ),
        (&["mv", "-T", "new.img", "etc", "www/index.html"], &["a directory cannot replace a file"]),
        (&["mv", "-T", "new.img", "etc", "www"], &["/www: directory not empty"]),
        (&["mv", "new.img", "etc", "www", "here"], &["/here: no such file"]),
        (&["mv", "new.img", "etc", "www", "www/index.html"], &["not a directory"]),
        (&["mv", "new.img", "etc/config.txt", "there/"], &["/there: no such file"]),
        (&["mv", "new.img", "etc", "no/where"], &["/no: no such file"]),
        (&["mv", "new.img", "www", "www/js", "etc"], &["/www/js: is in a directory"]),
        (&["mv", "new.img", "etc/config.txt", &"n".repeat(256)], &["too long"]),
        (&["cp", "new.img", "www", "copy"], &["/www: is a directory", "-r"]),
        (&["cp", "-r", "new.img", "www", "www/js"], &["into itself"]),
        (&["cp", "-r", "new.img", "/", "etc"], &["root directory"]),
        (&["cp", "new.img", "etc/config.txt", "etc"], &["the same"]),
        (&["cp", "new.img", "www/*.html", "no*", "copy"], &["/no*: nothing matches"]),
        (&["mkdir", "new.img", "etc"], &["/etc: file exists"]),
        (&["mkdir", "new.img", "a/b"], &["/a/b", "-p"]),
        (&["mkdir", "-p", "new.img", "etc/config.txt/x"], &["/etc/config.txt"]),
        (&["touch", "new.img", "a/b/c"], &["/a/b/c: the directory /a does not exist", "mkdir -p"]),
        (&["truncate", "-s", "1", "new.img", "etc/b/c"], &["the directory /etc/b does not exist"]),
        (&["ln", "-s", "--attrs", "unix", "new.img", "x", "a/b"], &["the directory /a does not"]),
        (&["touch", "new.img", "new", "new*x"], &["/new*x: nothing matches"]),
        (&["touch", "new.img", "new/"], &["not a directory"]),
        (&["truncate", "-s", "1M", "new.img", "etc/config.txt"], &["no space"]),
        (&["truncate", "-s", "3G", "new.img", "etc/config.txt"], &["too large"]),
        (&["truncate", "-s", "0", "new.img", "etc"], &["not a regular file"]),
        (&["rm", "-", "x"], &["can only be read"]),
        (&["rm", "--journal", "j", "--at", "1", "new.img", "x"], &["past state"]),
    ] {
        desk.fails(args, 1, words);
        let atomic = [&args[..1], &["--atomic"], &args[1..]].concat();
        if !args.contains(&"--journal") {
            desk.fails(&atomic, 1, words);
        }
        assert!(desk.read("new.img") == before, "{args:?} changed the image");
    }
    // two sources of one name
    desk.ok(&["mkdir", "-p", "new.img", "p/x", "q/x"]);
    desk.fails(
        &["mv", "new.img", "p/x", "q/x", "etc"],
        1,
        &["/q/x: another entry of the same name"],
    );
    desk.fails(&["cp", "-r", "new.img", "p/x", "q/x", "etc"], 1, &["/q/x: another"]);
    assert_eq!(desk.names("."), ["data", "new.img"]);
}

#[test]
fn odd_names_are_taken_as_they_are() {
    let desk = Desk::with_image();
    for name in ["-f", "a b", "*", "new\nline", "[x]", "\u{202e}", "\\"] {
        desk.ok(&["touch", "--literal", "new.img", "--", name]);
        desk.ok(&["cp", "--literal", "new.img", "--", name, "empty"]);
        desk.ok(&["mv", "new.img", "--", name, "etc/moved"]);
        let ran = desk.run(&["rm", "-v", "--literal", "new.img", "--", &format!("empty/{name}")]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains('\u{202e}'));
    }
    // an entry that has the name of the pattern is meant before all that match
    desk.ok(&["touch", "--literal", "new.img", "etc/*", "etc/x"]);
    desk.ok(&["rm", "new.img", "etc/*"]);
    assert_eq!(desk.ok(&["ls", "new.img", "etc"]).text(), "config.txt\nmoved\nx\n");
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_inline(w, 1, b"\xff", b"1");
        put_inline(w, 2, b"good", b"good");
        put_inline(w, 3, b"sl/ash", b"3");
    });
    desk.file("odd.img", &b.bytes);
    let said = desk.ok(&["rm", "-n", "--json", "odd.img", "?"]).json();
    assert_eq!(said["changes"][0]["path_base64"], "L/8=");
    desk.fails(&["cp", "-r", "odd.img", "/*", "copy"], 1, &["/copy"]);
}

#[test]
fn a_full_image_can_still_be_tidied() {
    let desk = Desk::new();
    desk.file("data/large", &[1; 58 * 4000]).file("data/other", &[2; 600]);
    desk.ok(&["create", "-q", "--size", "256K", "new.img", "data"]);
    let before = desk.read("new.img");
    desk.fails(&["cp", "new.img", "large", "copy"], 1, &["no space", "nothing was changed"]);
    desk.fails(
        &["cp", "--atomic", "new.img", "large", "copy"],
        1,
        &["no space", "nothing was changed"],
    );
    assert!(desk.read("new.img") == before);
    desk.ok(&["mv", "new.img", "large", "small"]);
    desk.ok(&["truncate", "-s", "-100K", "new.img", "small"]);
    desk.ok(&["cp", "new.img", "other", "copy"]);
    desk.ok(&["rm", "new.img", "small", "other"]);
    assert_eq!(paths(&tree(&desk)), ["", "copy"]);
}

#[test]
fn journals_devices_and_places_are_as_with_put() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let would = desk.ok(&["rm", "-n", "--journal", "j", "-r", "new.img", "empty"]);
    assert_eq!((would.text(), desk.path("j").exists()), ("would be removed: /empty\n", false));
    desk.ok(&["rm", "--journal", "j", "-r", "new.img", "www"]);
    assert!(desk.read("new.img") == before);
    assert_eq!(desk.ok(&["ls", "--journal", "j", "new.img"]).text(), "empty\netc\n");
    desk.file("dump.bin", &[&[0x55; 8192][..], &before].concat());
    desk.ok(&["rm", "-r", "--offset", "8K", "dump.bin", "www"]);
    desk.ok(&["touch", "--profile", "esp-idf", "--offset", "8K", "dump.bin", "new"]);
    let stat = desk.ok(&["stat", "--json", "--offset", "8K", "dump.bin", "new"]).json();
    assert_eq!(stat["entries"][0]["attributes"][0]["type"], MTIME);
    let holder = Command::new("flock")
        .arg(desk.path("new.img"))
        .args(["sh", "-c", "echo held; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn();
    let mut holder = holder.expect("flock");
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut said).expect("a word");
    let ran = ["rm", "touch", "mkdir"].map(|verb| desk.run(&[verb, "new.img", "etc/config.txt"]));
    holder.kill().expect("killed");
    holder.wait().expect("an end");
    for ran in ran {
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("in use by process"), "{}", ran.stderr);
    }
    desk.fails(&["check", "--backup", "b", "new.img"], 16, &["--backup"]);
}
