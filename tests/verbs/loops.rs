//! Images in which a directory or the thread comes back to a pair that was met before. Everything is
//! shown once, and the exit status says that something is wrong.

use littlefs::disk::Tail;

use testkit::builder::{Builder, hard, put_dir, put_inline, soft};
use testkit::desk::Desk;
use testkit::tree::{Entry, Tree};
use testkit::v1::V1;

/// The commands that show a whole tree, without and with the list of problems in JSON.
const WALKS: [&[&str]; 8] = [
    &["ls", "-R", "a.img"],
    &["ls", "-R", "--json", "a.img"],
    &["tree", "a.img"],
    &["du", "a.img"],
    &["du", "--json", "a.img"],
    &["extract", "-C", "out", "--json", "a.img"],
    &["extract", "--to-tar", "-", "a.img"],
    &["get", "-r", "--json", "a.img", "/", "got"],
];

/// Run all commands of [`WALKS`]: each must end with status 2, and name the path `at`.
fn walks(desk: &Desk, about: &str, at: &str) {
    for args in WALKS {
        let ran = desk.fails(args, 2, &["is reached twice (a loop)"]);
        if args.contains(&"--json") {
            let told = ran.json();
            let lists = ["errors", "left_out", "suspect"].map(|list| told[list].as_array());
            let mut all = lists.into_iter().flatten().flatten();
            assert!(all.any(|problem| problem["path"] == at), "{about}: {args:?}: {told}");
        }
    }
}

/// A directory that two entries name is shown with its content only once.
#[test]
fn a_directory_with_two_names() {
    let desk = Desk::new();
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_dir(w, 2, b"evil", [2, 3]);
        put_inline(w, 3, b"good", b"good");
    });
    b.small_dir([2, 3], Tail::END);
    desk.file("a.img", &b.bytes);
    walks(&desk, "two names", "/evil");
    assert_eq!(desk.names("out/dir"), ["file"]);
    assert_eq!(desk.names("out/evil"), [""; 0]);
    // nothing below the directory is asked for, but it is among what is shown
    for args in [&["ls", "a.img"][..], &["tree", "-L", "1", "a.img"], &["ls", "a.img", "/"]] {
        let ran = desk.fails(args, 2, &["a.img: /evil: ", "is reached twice"]);
        assert!(ran.text().contains("evil") && ran.text().contains("dir"), "{}", ran.text());
    }
    let told = desk.fails(&["ls", "--json", "a.img"], 2, &[]).json();
    assert_eq!(told["errors"][0]["path"], "/evil", "{told}");
    // what does not lead through it is sound
    desk.ok(&["ls", "a.img", "dir"]);
    assert_eq!(desk.ok(&["cat", "a.img", "good"]).stdout, b"good");
}

/// If the thread comes back to an earlier pair, the global state is unknown, and with it whether
/// an entry was being moved.
#[test]
fn a_loop_in_the_thread() {
    for (about, of_root, of_dir) in [
        ("a tail to itself", soft([2, 3]), soft([2, 3])),
        ("a tail to the root", soft([2, 3]), soft([1, 0])),
        ("the root's tail to itself", soft([0, 1]), Tail::END),
    ] {
        let desk = Desk::new();
        let mut b = Builder::new();
        b.root(of_root, |w| {
            put_dir(w, 1, b"dir", [2, 3]);
            put_inline(w, 2, b"good", b"good");
        });
        b.small_dir([2, 3], of_dir);
        desk.file("a.img", &b.bytes);
        walks(&desk, about, "/");
        assert_eq!(desk.read("out/dir/file"), b"content", "{about}");
        let ran = desk.fails(&["ls", "--json", "a.img"], 2, &[]);
        let message = ran.json()["errors"][0]["message"].to_string();
        assert!(message.contains("may be shown under both names"), "{about}: {message}");
    }
}

/// A directory that goes on in a pair of its own ends there, and says so.
#[test]
fn a_loop_in_a_directory() {
    let desk = Desk::new();
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_inline(w, 2, b"good", b"good");
    });
    b.small_dir([2, 3], hard([2, 3]));
    desk.file("a.img", &b.bytes);
    walks(&desk, "a loop", "/dir");
    assert_eq!(desk.ok(&["cat", "a.img", "good"]).stdout, b"good");
}

/// In version 1, a directory that goes on in a pair of another one ends before that pair. What is shown of it may
/// not be all.
#[test]
fn a_directory_that_leads_into_another_is_suspect() {
    let desk = Desk::new();
    let tree = Tree::from([
        (Vec::new(), Entry::dir()),
        (b"a".to_vec(), Entry::dir()),
        (b"b".to_vec(), Entry::dir()),
        (b"a/x".to_vec(), Entry::file(b"1".to_vec())),
        (b"b/y".to_vec(), Entry::file(b"2".to_vec())),
    ]);
    let mut v1 = V1::of(512, 64, &tree);
    let at = v1.last_pair("a");
    v1.thread[at].continues = true;
    desk.file("a.img", &v1.image());
    for args in [
        &["ls", "-R", "a.img"][..],
        &["tree", "a.img"],
        &["du", "a.img"],
        &["extract", "a.img", "-C", "out"],
        &["extract", "--to-tar", "-", "a.img"],
    ] {
        desk.fails(args, 2, &["/a: its next pair", "already in use"]);
    }
    assert_eq!(desk.read("out/a/x"), b"1");
    assert_eq!(desk.read("out/b/y"), b"2");
    for (args, list) in [
        (&["ls", "--json", "a.img"][..], "errors"),
        (&["extract", "--json", "a.img", "-C", "out"], "suspect"),
    ] {
        let told = &desk.fails(args, 2, &[]).json()[list][0];
        assert_eq!(told["path"], "/a", "{args:?}: {told}");
    }
}
