//! Images that lack blocks in use at their end. Files that are complete are read; a file that lacks
//! bytes is named, and never read as if it held something else.

use std::collections::BTreeMap;

use littlefs::{Error, OpenOptions};

use testkit::chamelon::Chamelon;
use testkit::desk::Desk;
use testkit::tree::{Entry, Tree};
use testkit::v1::V1;

/// Files of all sizes, whose content shows the file and the place of each byte.
fn files() -> BTreeMap<String, Vec<u8>> {
    let content = |i: usize, len: usize| (0..len).map(|at| (at / 3 + 41 * i) as u8).collect();
    let sizes = [700, 100, 1, 2000, 128, 5000, 900, 256, 1500];
    let name = |i| if i % 3 == 0 { format!("dir/f{i}") } else { format!("f{i}") };
    (0..).zip(sizes).map(|(i, len)| (name(i), content(i, len))).collect()
}

/// A desk with the images `v2.img`, `v1.img` and `chamelon.img` of [`files`].
fn desk() -> Desk {
    let desk = Desk::new();
    let mut tree = Tree::from([(Vec::new(), Entry::dir()), (b"dir".to_vec(), Entry::dir())]);
    for (name, bytes) in files() {
        desk.file(&format!("data/{name}"), &bytes);
        tree.insert(name.into_bytes(), Entry::file(bytes));
    }
    let args = ["create", "-q", "--block-size", "256", "--size", "32K", "v2.img", "data"];
    desk.ok(&args);
    desk.file("v1.img", &V1::of(256, 128, &tree).image());
    let mut chamelon = Chamelon::format(256, 128, 16);
    chamelon.mkdir("dir");
    for (name, bytes) in files() {
        chamelon.set(&name, &bytes);
    }
    desk.file("chamelon.img", &chamelon.image);
    desk
}

/// Read every file of `cut.img`, which must have its content or fail. Returns how many could be
/// read, or `None` if the image cannot be opened.
fn read_all(desk: &Desk, about: &str) -> Option<usize> {
    let image = OpenOptions::new().read_only(true).open(desk.path("cut.img")).ok()?;
    let mut whole = 0;
    for (name, expected) in files() {
        match image.read(&name) {
            Ok(bytes) => {
                assert!(bytes == expected, "{about}: {name} has another content");
                whole += 1;
            }
            Err(Error::Io(e)) => {
                assert!(e.source.to_string().contains("the image is truncated"), "{about}: {e:?}");
            }
            // its directory is missing, or its entry
            Err(Error::NotFound | Error::Corrupt(_)) => {}
            Err(e) => panic!("{about}: {name}: {e}"),
        }
    }
    Some(whole)
}

#[test]
fn a_file_is_read_whole_or_not_at_all() {
    let desk = desk();
    for image in ["v2.img", "v1.img", "chamelon.img"] {
        let bytes = desk.read(image);
        let (mut last, mut counts) = (0, Vec::new());
        for len in (256..=bytes.len()).step_by(64) {
            desk.file("cut.img", &bytes[..len]);
            let about = format!("{image}, {len} bytes");
            let Some(whole) = read_all(&desk, &about) else { continue };
            assert!(whole >= last, "{about}: {whole} files instead of {last}");
            if whole > last {
                counts.push(whole);
            }
            last = whole;
        }
        assert_eq!(last, files().len(), "{image}");
        assert!(counts.len() > 4, "{image}: {counts:?} files are too few steps");
    }
}

/// `cut.img`: v2.img up to somewhere in the blocks of f5, the largest file.
fn cut() -> (Desk, Vec<u8>) {
    let desk = desk();
    let stat = desk.ok(&["stat", "--json", "v2.img", "f5"]).json();
    let head = stat["entries"][0]["head_block"].as_u64().expect("a block");
    let bytes = desk.read("v2.img")[..head as usize * 256 - 1000].to_vec();
    desk.file("cut.img", &bytes);
    (desk, bytes)
}

#[test]
fn commands_name_what_is_missing() {
    let (desk, bytes) = cut();
    let lost = "the image is truncated, and ends before these bytes";
    desk.fails(&["cat", "cut.img", "f5"], 1, &["cut.img: /f5: ", lost]);
    let ran = desk.fails(&["cat", "cut.img", "f4", "f5", "f1"], 2, &["/f5: ", lost]);
    assert_eq!(ran.stdout, [&files()["f4"][..], &files()["f1"]].concat());
    desk.fails(&["get", "cut.img", "f5", "."], 1, &["/f5: ", lost]);
    assert!(!desk.path("f5").exists(), "nothing is left of it");
    desk.fails(&["kv", "cut.img", "get", "f5"], 1, &[lost]);
    let ran = desk.fails(&["extract", "--json", "cut.img", "-C", "out"], 2, &["/f5: ", lost]);
    let left_out = ran.json()["left_out"].clone();
    let left_out = left_out.as_array().expect("a list");
    for (name, bytes) in files() {
        let path = format!("/{name}");
        match left_out.iter().any(|left| left["path"] == path.as_str()) {
            true => assert!(!desk.path(&format!("out/{name}")).exists(), "{name}"),
            false => assert!(desk.read(&format!("out/{name}")) == bytes, "{name}"),
        }
    }
    assert!((2..8).contains(&left_out.len()), "{left_out:?}");

    // the verifier names the same files
    let found = desk.run(&["check", "--json", "cut.img"]);
    assert_eq!(found.code, 4, "{}", found.stderr);
    let found = found.json();
    let mut places: Vec<&str> = found["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|finding| finding["code"] == "ctz-unreadable")
        .map(|finding| finding["place"].as_str().expect("a path"))
        .collect();
    let mut expected: Vec<&str> =
        left_out.iter().map(|left| left["path"].as_str().expect("a path")).collect();
    places.sort_unstable();
    expected.sort_unstable();
    assert_eq!(places, expected);

    // what is there counts, and so do the blocks that are missing
    let used = |image| desk.ok(&["info", "--json", image]).json()["blocks_used"].clone();
    assert_eq!(used("cut.img"), used("v2.img"));
    for args in [
        &["put", "cut.img", "data/f1", "/"][..],
        &["put", "-n", "cut.img", "data/f1", "/"],
        &["rm", "cut.img", "f1"],
        &["edit", "cut.img", "f1"],
        &["clone", "cut.img", "other.img"],
        &["resize", "cut.img", "--size", "max"],
    ] {
        desk.fails(args, 1, &["cut.img: ", "truncated", "from the device again"]);
    }
    assert!(desk.read("cut.img") == bytes, "nothing was written");
    // a conversion, which these dialects need, would refuse it as well
    for image in ["v1.img", "chamelon.img"] {
        let bytes = &desk.read(image)[..1000];
        desk.file("cut.img", bytes);
        let ran =
            desk.fails(&["check", "-p", "cut.img"], 4, &["nothing was repaired: truncated: "]);
        assert!(!ran.stderr.contains("convert"), "{}", ran.stderr);
        let opened = OpenOptions::new().read_only(false).open(desk.path("cut.img"));
        if let Ok(opened) = opened {
            let why = opened.read_only_reason().expect("a reason").to_string();
            assert!(why.starts_with("it is truncated"), "{image}: {why}");
        }
        assert!(desk.read("cut.img") == bytes);
    }
}

#[test]
fn a_mount_gives_an_error_for_what_is_missing() {
    let (desk, _) = cut();
    desk.dir("mnt");
    desk.fails(&["mount", "cut.img", "mnt"], 32, &["truncated", "mount -o ro"]);
    desk.ok(&["mount", "-q", "-o", "ro", "cut.img", "mnt"]);
    let read = |name: &str| std::fs::read(desk.path(&format!("mnt/{name}")));
    let (whole, lost) = (read("f4"), read("f5"));
    let space = desk.ok(&["status", "--json", "mnt"]).json();
    desk.ok(&["umount", "mnt"]);
    assert!(whole.is_ok_and(|bytes| bytes == files()["f4"]));
    assert_eq!(lost.expect_err("missing").raw_os_error(), Some(libc::EIO));
    assert_eq!(
        space["filesystem"]["blocks_used"],
        desk.ok(&["info", "--json", "v2.img"]).json()["blocks_used"]
    );
}

/// Some tools leave out the bytes of 0xFF at the end of a file. If they belong to a metadata block,
/// its checksums show that nothing is missing.
#[test]
fn erased_bytes_of_a_metadata_block_may_be_missing() {
    let desk = Desk::new();
    desk.file("data/a", b"inline");
    desk.ok(&["create", "-q", "--size", "64K", "whole.img", "data"]);
    let bytes = desk.read("whole.img");
    let len = bytes.iter().rposition(|&byte| byte != 0xff).expect("content") + 1;
    assert_ne!(len % 4096, 0, "the last block in use is not full");
    desk.file("cut.img", &bytes[..len]);
    assert_eq!(desk.ok(&["cat", "cut.img", "a"]).text(), "inline");
    let found = desk.run(&["check", "--json", "cut.img"]).json();
    let codes: Vec<_> = found["findings"].as_array().expect("a list").iter().collect();
    assert!(codes.len() == 1 && codes[0]["code"] == "truncated", "{found}");
}

/// If the end of the image is in the newer half of a pair, the older half may be outdated.
#[test]
fn a_half_that_is_cut_off_is_not_taken_for_an_empty_one() {
    let desk = Desk::new();
    desk.file("data/a", b"inline");
    desk.ok(&["create", "-q", "--size", "64K", "whole.img", "data"]);
    desk.file("cut.img", &desk.read("whole.img")[..4100]);
    for args in [&["ls", "cut.img"][..], &["extract", "cut.img", "-C", "out"]] {
        let ran = desk.run(args);
        let words = ["may be newer than shown", "read the image from the device again"];
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.code, 2, "{args:?}");
    }
    for (args, list) in [
        (&["ls", "--json", "cut.img"][..], "errors"),
        (&["attr", "cut.img", "list", "--json", "/"], "errors"),
        (&["extract", "--json", "cut.img", "-C", "out"], "suspect"),
    ] {
        let ran = desk.run(args);
        let told = &ran.json()[list][0];
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(told["path"], "/", "{args:?}: {told}");
    }
    assert_eq!(desk.run(&["map", "cut.img"]).code, 2);
    let ran = desk.run(&["check", "cut.img"]);
    assert!(ran.code == 4 && ran.text().contains("pair-unreadable"), "{}", ran.text());
}
