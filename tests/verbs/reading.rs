//! `ls`, `tree`, `du`, `cat`, `stat` and `get`.

use testkit::desk::Desk;

#[test]
fn ls_lists_directories_files_and_patterns() {
    let desk = Desk::with_image();
    assert_eq!(desk.ok(&["ls", "new.img"]).text(), "empty\netc\nwww\n");
    assert_eq!(desk.ok(&["ls", "new.img", "/www/"]).text(), "index.html\njs\n");
    assert_eq!(desk.ok(&["ls", "-a", "new.img", "www"]).text(), ".hidden\nindex.html\njs\n");
    assert_eq!(desk.ok(&["ls", "new.img", "www/*.html"]).text(), "www/index.html\n");
    assert_eq!(desk.ok(&["ls", "new.img", "**/*.js"]).text(), "www/js/app.js\n");
    // a dot at the beginning of a name has to be in the pattern
    let matched = |pattern: &str| -> Vec<String> {
        let told = desk.ok(&["stat", "new.img", pattern]);
        let paths = told.text().lines().filter_map(|line| line.strip_prefix("path "));
        paths.map(|path| path.trim().to_owned()).collect()
    };
    assert_eq!(matched("www/*"), ["/www/index.html", "/www/js"]);
    for pattern in ["www/.*", "**/.hid*", "www/{.,x}*"] {
        assert_eq!(matched(pattern), ["/www/.hidden"], "{pattern}");
    }
    let text = desk.ok(&["ls", "-R", "new.img"]).text().to_owned();
    assert_eq!(
        text,
        "/:\nempty\netc\nwww\n\n/empty:\n\n/etc:\nconfig.txt\n\n/www:\nindex.html\njs\n\n\
         /www/js:\napp.js\n"
    );
    let long = desk.ok(&["ls", "-l", "new.img", "www"]).text().to_owned();
    assert_eq!(long, "-????????? 16 - index.html\nd?????????  0 - js\n");
    desk.ok(&[
        "create", "-q", "--attrs", "unix", "--owner", "7:8", "--size", "256K", "unix.img", "data",
    ]);
    let long = desk.ok(&["ls", "-l", "unix.img", "etc"]).text().to_owned();
    assert!(long.starts_with("-rw-r--r-- 7:8 14 20"), "{long}");
}

#[test]
fn a_literal_name_wins_over_a_pattern() {
    let desk = Desk::new();
    desk.file("data/[x]", b"literal").file("data/x", b"pattern").file("data/a*", b"star");
    desk.ok(&["create", "-q", "--size", "64K", "new.img", "data"]);
    assert_eq!(desk.ok(&["cat", "new.img", "[x]"]).stdout, b"literal");
    assert_eq!(desk.ok(&["cat", "new.img", "a*"]).stdout, b"star");
    assert_eq!(desk.ok(&["cat", "new.img", "[xy]"]).stdout, b"pattern");
    assert_eq!(desk.ok(&["ls", "new.img", "{x,y}"]).text(), "x\n");
    desk.fails(&["ls", "new.img", "nothing*"], 1, &["nothing*", "matches"]);
    desk.fails(&["ls", "new.img", "a[*"], 1, &["a[*", "understood"]);
}

#[test]
fn what_is_missing_counts_in_the_exit_status() {
    let desk = Desk::with_image();
    for verb in ["ls", "stat", "du", "tree", "cat"] {
        desk.fails(&[verb, "new.img", "gone"], 1, &["new.img: /gone: no such file"]);
        let ran = desk.run(&[verb, "new.img", "gone", "etc/config.txt"]);
        assert_eq!(ran.code, 2, "{verb}: {}", ran.stderr);
        assert!(!ran.stdout.is_empty());
        desk.fails(&[verb, "gone.img", "x"], 1, &["gone.img"]);
    }
    desk.fails(&["cat", "new.img", "www"], 1, &["is a directory"]);
    let json = desk.run(&["ls", "--json", "new.img", "gone", "etc"]);
    assert_eq!(json.code, 2);
    assert_eq!(json.json()["errors"][0]["path"], "/gone");
    assert_eq!(json.json()["entries"][0]["path"], "/etc/config.txt");
}

#[test]
fn tree_du_and_stat_tell_what_is_there() {
    let desk = Desk::with_image();
    let tree = desk.ok(&["tree", "-s", "new.img", "www"]).text().to_owned();
    assert_eq!(
        tree,
        "/www\n├── index.html (16)\n└── js/\n    └── app.js (9000)\n\n1 directory, 2 files\n"
    );
    assert_eq!(desk.ok(&["tree", "-L", "1", "new.img"]).text().lines().count(), 6);
    let du = desk.ok(&["du", "--json", "-a", "new.img"]).json();
    let rows = du["entries"].as_array().expect("rows");
    let blocks = |path: &str| {
        let row = rows.iter().find(|row| row["path"] == path).expect("a row");
        row["blocks"].as_u64().expect("a number")
    };
    assert_eq!((blocks("/etc/config.txt"), blocks("/www/js/app.js"), blocks("/www/js")), (0, 3, 5));
    let info = desk.ok(&["info", "--json", "new.img"]).json();
    assert_eq!(info["blocks_used"], blocks("/"), "every block belongs to something");
    assert_eq!(desk.ok(&["du", "-s", "new.img", "www"]).text().lines().count(), 1);
    let stat = desk.ok(&["stat", "new.img", "www/js/app.js", "etc"]).text().to_owned();
    for words in ["size        9000 bytes", "3 blocks, the last one is block", "1 metadata pair,"] {
        assert!(stat.contains(words), "{stat}");
    }
    let json = desk.ok(&["stat", "--json", "new.img", "etc/config.txt"]).json();
    assert_eq!(
        (&json["entries"][0]["storage"], &json["entries"][0]["blocks"]),
        (&"inline".into(), &0.into())
    );
}

#[test]
fn names_that_are_no_text_are_shown_safely_and_kept_exactly() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    desk.dir("data");
    let raw: &[u8] = b"\xff\x1b[31m\n";
    std::fs::write(desk.path("data").join(OsStr::from_bytes(raw)), b"raw").expect("a file");
    desk.ok(&["create", "-q", "--size", "64K", "new.img", "data"]);
    let shown = desk.ok(&["ls", "new.img"]);
    assert!(
        !shown.stdout.contains(&0x1b) && shown.stdout.iter().filter(|&&b| b == b'\n').count() == 1
    );
    let entry = &desk.ok(&["ls", "--json", "new.img"]).json()["entries"][0];
    assert_eq!(entry["path_base64"], "L/8bWzMxbQo=");
    desk.ok(&["extract", "-q", "new.img", "-C", "out"]);
    assert_eq!(
        std::fs::read(desk.path("out").join(OsStr::from_bytes(raw))).expect("a file"),
        b"raw"
    );
}

#[test]
fn get_copies_as_cp_does() {
    let desk = Desk::with_image();
    desk.ok(&["get", "new.img", "etc/config.txt", "copy.txt"]);
    assert_eq!(desk.read("copy.txt"), b"colour = blue\n");
    desk.dir("into");
    desk.ok(&["get", "new.img", "etc/config.txt", "www/*.html", "into"]);
    assert_eq!(desk.names("into"), ["config.txt", "index.html"]);
    desk.fails(&["get", "new.img", "www", "into"], 1, &["/www", "-r"]);
    desk.ok(&["get", "-r", "new.img", "www", "into"]);
    assert_eq!(desk.names("into/www"), [".hidden", "index.html", "js"]);
    desk.ok(&["get", "-r", "new.img", "www", "renamed"]);
    assert_eq!(desk.read("renamed/js/app.js"), [b'j'; 9000]);
    desk.fails(&["get", "new.img", "etc/config.txt", "www/index.html", "nowhere"], 1, &["nowhere"]);
    let ran = desk.run(&["get", "new.img", "etc/config.txt", "gone", "into"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let desk = Desk::with_image();
    for args in [["ls", "-R"], ["tree", "-a"], ["du", "-a"]] {
        let mut command = desk.command(&args);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = command.arg("new.img").stdout(writer).output().expect("a run");
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

/// The content has no checksums, but a damaged pointer shows that something is wrong with a file.
#[test]
fn a_file_with_a_damaged_list_is_copied_with_a_warning() {
    let desk = Desk::with_image();
    let content: Vec<u8> = (0..60_000_u32).map(|at| (at / 7) as u8).collect();
    desk.file("large", &content);
    desk.ok(&["put", "-q", "new.img", "large", "/"]);
    let stat = desk.ok(&["stat", "--json", "new.img", "large"]).json();
    let head = stat["entries"][0]["head_block"].as_u64().expect("a block") as usize;
    let mut image = desk.read("new.img");
    // its third pointer leads to block 4 of the 15 blocks, which lie one after the other
    let at = (head - 14 + 8) * 4096 + 8;
    assert_eq!(image[at..at + 4], (head as u32 - 14 + 4).to_le_bytes());
    image[at] += 1;
    desk.file("new.img", &image);

    let ran = desk.run(&["check", "new.img"]);
    assert!(ran.code == 4 && ran.text().contains("ctz-pointer"), "{}", ran.text());
    let words = ["new.img: /large: ", "its content may be wrong", "of its list disagree"];
    assert!(desk.fails(&["cat", "new.img", "large"], 2, &words).stdout == content);
    let ran = desk.fails(&["get", "--json", "new.img", "large", "copy"], 2, &words).json();
    assert_eq!(ran["suspect"][0]["path"], "/large");
    assert!(ran["files"] == 1 && ran["left_out"].as_array().is_some_and(Vec::is_empty), "{ran}");
    assert!(desk.read("copy") == content);
    desk.fails(&["extract", "-q", "new.img", "-C", "out"], 2, &words);
    assert!(desk.read("out/large") == content);
    let tar = desk.fails(&["extract", "--to-tar", "-", "new.img"], 2, &words).stdout;
    assert!(tar.windows(content.len()).any(|window| window == content));
}
