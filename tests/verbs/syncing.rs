//! `put --sync`: only what differs is written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use littlefs::disk::Tail;
use testkit::builder::{Builder, put_inline};
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

#[test]
fn only_what_differs_is_written() {
    let desk = Desk::with_image();
    let said = desk.ok(&["put", "--sync", "new.img", "data", "/"]);
    assert_eq!(said.text(), "0 files, 0 new directories, 0 bytes; 4 unchanged, 0 removed\n");
    let before = desk.read("new.img");
    // new times alone are no difference
    desk.file("data/www/js/app.js", &[b'j'; 9000]);
    desk.ok(&["put", "-q", "--sync", "--delete", "new.img", "data", "/"]);
    assert!(desk.read("new.img") == before);
    // the same size, another content; a new directory; a file that is gone here
    desk.file("data/etc/config.txt", b"colour = pink\n").file("data/new/file", b"x");
    fs::remove_file(desk.path("data/www/.hidden")).expect("it goes");
    let would = desk.ok(&["put", "-n", "--sync", "--delete", "new.img", "data", "/"]);
    assert_eq!(
        would.text(),
        "would be removed: /www/.hidden\nwould be created: /new\n\
         would be changed: /etc/config.txt\nwould be created: /new/file\n\
         would be written: 2 files, 1 new directory, 15 bytes; 2 unchanged, 1 removed\n"
    );
    assert!(desk.read("new.img") == before);
    let said = desk.ok(&["put", "--json", "--sync", "new.img", "data", "/"]).json();
    assert_eq!(
        (&said["files"], &said["unchanged"], &said["removed"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert_eq!(said["changes"][1]["change"], "changed");
    assert_eq!(desk.ok(&["ls", "-a", "new.img", "www"]).text(), ".hidden\nindex.html\njs\n");
    desk.ok(&["put", "--sync", "--delete", "--atomic", "new.img", "data", "/"]);
    desk.ok(&["diff", "new.img", "data"]);
    desk.check("new.img");
    let mut driver =
        CLfs::mount(desk.read("new.img"), &Config::new(4096, 64, 16)).expect("it mounts");
    assert_eq!(driver.read_file(b"etc/config.txt").expect("a file"), b"colour = pink\n");
    assert_eq!(driver.read_file(b"www/js/app.js").expect("a file"), [b'j'; 9000]);
    // what the driver changed is seen
    driver.write_at(b"www/js/app.js", 8000, b"!").expect("a write");
    driver.remove(b"empty").expect("it goes");
    desk.file("new.img", &driver.unmount());
    let said = desk.ok(&["put", "--sync", "--delete", "new.img", "data", "/"]);
    assert_eq!(said.text(), "1 file, 1 new directory, 9000 bytes; 3 unchanged, 0 removed\n");
    desk.ok(&["diff", "new.img", "data"]);
}

#[test]
fn what_is_excluded_is_not_deleted() {
    let desk = Desk::with_image();
    desk.file("www/index.html", b"new").file("www/skip.log", b"x");
    desk.file("data/log", b"x").file("deep", b"kept");
    desk.ok(&["mkdir", "-p", "new.img", "www/a/b", "www/c/d"]);
    desk.ok(&["put", "-q", "new.img", "deep", "www/a/b/kept.log"]);
    desk.ok(&["put", "-q", "--sync", "--delete", "--exclude", "*.log", "new.img", "www", "/www"]);
    let left = desk.ok(&["ls", "-R", "--json", "new.img", "www"]).json();
    let left: Vec<&str> = left["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["path"].as_str())
        .collect();
    assert_eq!(left, ["/www/a", "/www/index.html", "/www/a/b", "/www/a/b/kept.log"]);
    // what is outside of the directory stays, and a new directory is made
    assert_eq!(desk.ok(&["cat", "new.img", "etc/config.txt"]).stdout, b"colour = blue\n");
    desk.ok(&["put", "-q", "--sync", "--delete", "new.img", "www", "etc/www"]);
    assert_eq!(desk.ok(&["cat", "new.img", "etc/www/index.html"]).stdout, b"new");
}

#[test]
fn kinds_and_modes_are_made_the_same() {
    let desk = Desk::with_image();
    desk.file("here/etc", b"a file now").file("here/www/index.html/x", b"a directory now");
    let before = desk.read("new.img");
    desk.fails(
        &["put", "--sync", "new.img", "here", "/"],
        1,
        &["2 entries cannot be stored in the image", "etc: a directory", "index.html: a file"],
    );
    assert!(desk.read("new.img") == before);
    desk.ok(&["put", "--sync", "--delete", "new.img", "here", "/"]);
    desk.ok(&["diff", "new.img", "here"]);
    desk.check("new.img");
    // owners and modes count where they are kept
    desk.ok(&["create", "-q", "--force", "--size", "256K", "--attrs", "unix", "new.img", "data"]);
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(desk.path("data/www/index.html"), mode).expect("a mode");
    let said = desk.ok(&["put", "--sync", "new.img", "data", "/"]);
    assert_eq!(said.text(), "1 file, 0 new directories, 0 bytes; 3 unchanged, 0 removed\n");
    let stat = desk.ok(&["stat", "--json", "new.img", "www/index.html"]).json();
    assert_eq!(stat["entries"][0]["mode"], "0711");
    // links, which are compared as such
    std::os::unix::fs::symlink("etc", desk.path("data/link")).expect("a link");
    for (changed, words) in [("1 file,", "4 unchanged"), ("0 files,", "5 unchanged")] {
        let said = desk.ok(&["put", "--sync", "--links", "store", "new.img", "data", "/"]);
        assert!(said.text().starts_with(changed), "{}", said.text());
        assert!(said.text().contains(words), "{}", said.text());
    }
}

#[test]
fn what_cannot_be_synced_changes_nothing() {
    let desk = Desk::with_image();
    desk.file("large/large", &[3; 300_000]).file("file", b"x");
    let before = desk.read("new.img");
    desk.fails(
        &["put", "--sync", "--delete", "new.img", "large", "/"],
        1,
        &["no space", "nothing was changed"],
    );
    desk.fails(&["put", "--sync", "new.img", "file", "/"], 1, &["file: is not a directory"]);
    desk.fails(
        &["put", "--sync", "new.img", "data", "large", "/"],
        1,
        &["exactly two directories"],
    );
    desk.fails(&["put", "--sync", "new.img", "data", "etc/config.txt"], 1, &["not a directory"]);
    desk.fails(&["put", "--sync", "new.img", "data", "no/where"], 1, &["no such file"]);
    desk.fails(&["put", "--delete", "new.img", "data", "/"], 1, &["--sync"]);
    assert!(desk.read("new.img") == before);
    // a full image: what is removed makes room for what comes
    desk.file("one/a", &[1; 56 * 4000]).file("two/b", &[2; 56 * 4000]);
    desk.ok(&["create", "-q", "--force", "--size", "256K", "new.img", "one"]);
    desk.ok(&["put", "-q", "--sync", "--delete", "new.img", "two", "/"]);
    desk.ok(&["diff", "new.img", "two"]);
    desk.check("new.img");
    // an entry that no path leads to
    let mut b = Builder::new();
    b.root(Tail::END, |w| put_inline(w, 1, b"sl/ash", b"3"));
    desk.file("odd.img", &b.bytes);
    desk.fails(
        &["put", "--sync", "--delete", "odd.img", "data", "/"],
        1,
        &["sl/ash: cannot be removed"],
    );
}
