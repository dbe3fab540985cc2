//! Images from standard input, images with damage, and names that no file of the host can have: what
//! the commands say about them and do with them.

use littlefs::disk::Tail;
use testkit::builder::{Builder, put_ctz, put_dir, put_inline, soft};
use testkit::desk::Desk;

#[test]
fn standard_input_is_an_image_to_be_read() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    for args in [
        &["ls", "-R"][..],
        &["tree"],
        &["du"],
        &["info", "--json"],
        &["stat", "-", "www"],
        &["cat", "-", "etc/config.txt"],
    ] {
        let named: Vec<&str> =
            args.iter().map(|&arg| if arg == "-" { "new.img" } else { arg }).collect();
        let (named, piped) = match args.contains(&"-") {
            true => (named, args.to_vec()),
            false => ([&named[..], &["new.img"]].concat(), [args, &["-"]].concat()),
        };
        let (named, piped) = (desk.ok(&named), desk.fed(&piped, &image));
        assert_eq!((piped.code, &*piped.stderr), (0, ""), "{args:?}");
        assert_eq!(piped.stdout, named.stdout, "{args:?}");
    }
    assert_eq!(desk.fed(&["check", "-"], &image).code, 0);
    assert_eq!(desk.fed(&["extract", "-q", "-", "-C", "out"], &image).code, 0);
    assert_eq!(desk.read("out/etc/config.txt"), b"colour = blue\n");
    assert_eq!(desk.fed(&["get", "-q", "-", "www/js/app.js", "app.js"], &image).code, 0);
    assert_eq!(desk.read("app.js"), [b'j'; 9000]);
    let cut = desk.fed(&["ls", "-"], &image[..5000]);
    assert!(cut.stderr.contains("standard input"), "{}", cut.stderr);
    let put = desk.fed(&["put", "-", "app.js", "/"], &image);
    assert_eq!(put.code, 1);
    assert!(put.stderr.contains("can only be read"), "{}", put.stderr);
    assert!(!desk.path("-").exists());
}

#[test]
fn what_opening_finds_is_told_once() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_inline(w, 1, b"two", b"1");
        put_inline(w, 2, b"two", b"2");
    });
    let desk = Desk::new();
    desk.file("odd.img", &b.bytes).file("new", b"new");
    for args in [
        &["ls", "odd.img"][..],
        &["cat", "odd.img", "two"],
        &["diff", "odd.img", "."],
        &["put", "-n", "odd.img", "new", "/"],
        &["rm", "-n", "odd.img", "two"],
        &["kv", "odd.img", "list"],
    ] {
        let ran = desk.run(args);
        let told = ran.stderr.matches("holds \"two\" more than once").count();
        assert_eq!(told, 1, "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn names_that_no_file_can_have_are_reported() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_inline(w, 1, b"..", b"1");
        put_inline(w, 2, b"good", b"good");
        put_inline(w, 3, b"nul\0", b"2");
        put_inline(w, 4, b"sl/ash", b"3");
    });
    let desk = Desk::new();
    desk.file("odd.img", &b.bytes);
    let ran = desk.fails(&["extract", "odd.img", "-C", "out"], 2, &["no file on Linux can have"]);
    for name in ["/..", "/nul", "/sl/ash"] {
        assert!(ran.stderr.contains(name), "no {name} in {}", ran.stderr);
    }
    assert_eq!(desk.names("out"), ["good"]);
    assert_eq!(desk.names("."), ["odd.img", "out"]);
    let tar = desk.run(&["extract", "-q", "odd.img", "--to-tar", "-"]);
    assert_eq!(tar.code, 2, "{}", tar.stderr);
    assert_eq!(tar::Archive::new(&tar.stdout[..]).entries().expect("entries").count(), 1);
    desk.fails(&["get", "-r", "odd.img", "/", "got"], 2, &["/sl/ash"]);
    desk.run(&["check", "-p", "odd.img"]);
    desk.ok(&["extract", "odd.img", "-C", "mended"]);
    assert_eq!(desk.names("mended").len(), 4);
}

/// A commit to the directory would overwrite the content of the file.
#[test]
fn a_list_in_the_blocks_of_a_pair_forbids_changes() {
    let mut b = Builder::new();
    b.small_dir([2, 3], Tail::END).root(soft([2, 3]), |w| {
        put_dir(w, 1, b"d", [2, 3]);
        put_ctz(w, 2, b"f", 3, 100);
    });
    let desk = Desk::new();
    desk.file("odd.img", &b.bytes).file("new", b"new");
    let content = desk.ok(&["cat", "odd.img", "f"]).stdout;
    for args in [
        &["put", "odd.img", "new", "d/"][..],
        &["put", "--atomic", "odd.img", "new", "d/"],
        &["mkdir", "odd.img", "d/sub"],
        &["touch", "odd.img", "d/new"],
        &["rm", "-r", "odd.img", "d"],
        &["kv", "odd.img", "set", "d/key", "value"],
    ] {
        desk.fails(args, 1, &["its block 0x3 is also used by something else"]);
        assert!(desk.read("odd.img") == b.bytes, "{args:?}");
    }
    assert_eq!(desk.ok(&["cat", "odd.img", "f"]).stdout, content);
}

/// A directory that cannot be read is still shown as a directory. Its content is an error.
#[test]
fn a_damaged_directory_is_a_directory() {
    let desk = Desk::with_image();
    let pair = desk.ok(&["stat", "--json", "new.img", "www/js"]).json();
    let mut image = desk.read("new.img");
    for block in pair["entries"][0]["pair"].as_array().expect("a pair") {
        let at = block.as_u64().expect("a block") as usize * 4096;
        image[at..at + 4096].fill(0);
    }
    desk.file("new.img", &image);
    let entry = desk.run(&["stat", "--json", "new.img", "www/js"]);
    assert_eq!(entry.json()["entries"][0]["type"], "directory", "{}", entry.text());
    let listed = desk.fails(&["ls", "-l", "new.img", "www"], 2, &["new.img: /www/js: "]);
    assert!(
        listed.text().lines().any(|l| l.starts_with('d') && l.ends_with("js")),
        "{}",
        listed.text()
    );
    for args in [&["ls", "new.img", "www/js"][..], &["cat", "new.img", "www/js/app.js"]] {
        let ran = desk.run(args);
        assert!(ran.code != 0 && ran.stderr.contains("/www/js"), "{args:?}: {}", ran.stderr);
    }
    for args in [&["tree", "new.img"][..], &["du", "new.img"], &["extract", "new.img", "-C", "out"]]
    {
        let ran = desk.run(args);
        assert!(ran.code != 0 && ran.stderr.contains("/www/js"), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(desk.read("out/etc/config.txt"), b"colour = blue\n");
}

/// If more is requested than the filesystem can store inline, its limit is used, and this is
/// reported.
#[test]
fn too_much_inline_is_told_and_done() {
    let desk = Desk::with_image();
    let words = ["inline_max=1048576", "up to 512 bytes"];
    let create = ["create", "--size", "1M", "--inline-max", "1M", "more.img", "data"];
    let set = ["kv", "--inline-max", "1M", "more.img", "set", "key", "value"];
    for args in [&create[..], &set[..]] {
        let ran = desk.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert!(words.iter().all(|w| ran.stderr.contains(w)), "{args:?}: {}", ran.stderr);
    }
    desk.check("more.img");
}

/// The pointers of an erased block lead to the superblock, so the file seems to share a block with
/// it. `check -p` must not take the wrong way for the content.
#[test]
fn a_file_with_a_lost_block_is_not_copied_by_guesses() {
    let desk = Desk::new();
    let content: Vec<u8> = (0..20_487_u32).map(|i| ((i * 7919) >> 8) as u8 | 1).collect();
    desk.file("data/f", &content);
    desk.ok(&["create", "-q", "--size", "256K", "new.img", "data"]);
    let file = desk.ok(&["inspect", "--json", "new.img", "file", "/f"]).json();
    let blocks = file[0]["blocks"].as_array().expect("blocks").clone();
    // without the next to last block, there is no way to the blocks before it
    for lost in 1..blocks.len() - 2 {
        let of_index = |block: &&serde_json::Value| block["index"].as_u64() == Some(lost as u64);
        let block = blocks.iter().find(of_index).expect("the block");
        let at = block["block"].as_u64().expect("a number") as usize * 4096;
        let mut image = desk.read("new.img");
        image[at..at + 4096].fill(0);
        desk.file("bad.img", &image);
        desk.fails(&["check", "-p", "bad.img"], 4, &[]);
        assert!(desk.read("bad.img") == image, "block {lost}: -p changed the file");
        assert_eq!(desk.run(&["check", "-y", "bad.img"]).code, 1, "block {lost}");
        let found = desk.ok(&["cat", "bad.img", "f"]).stdout;
        assert_eq!(found.len(), content.len());
        let wrong = found.iter().zip(&content).filter(|(a, b)| a != b).count();
        // the block itself, and the one before it, to which only its pointers may have led
        assert!(wrong <= 2 * 4096, "block {lost}: {wrong} bytes are wrong");
        assert_eq!(found[..4000], content[..4000], "block {lost}");
    }
}

/// The files of /proc say that they are empty, but have content.
#[test]
fn a_file_that_hides_its_size_is_not_stored_as_empty() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let told = &["version: cannot be read", "says that it is empty, but has content"];
    desk.fails(&["put", "new.img", "/proc/version", "/"], 1, told);
    assert!(desk.read("new.img") == before);
    desk.dir("src").file("src/empty", b"");
    std::os::unix::fs::symlink("/proc/version", desk.path("src/version")).expect("link");
    let create = ["create", "--links", "follow", "--size", "64K", "v.img", "src"];
    desk.fails(&create, 1, &["version", "says that it is empty, but has content"]);
    assert!(!desk.path("v.img").exists());
}

/// A filesystem is found by its superblocks, so both of them are there again after a repair.
#[test]
fn a_lost_superblock_is_written_again() {
    let desk = Desk::with_image();
    let whole = desk.read("new.img");
    for (lost, kept) in [(0, 1), (1, 0)] {
        for filler in [0xff, 0, 0x5a] {
            let mut image = whole.clone();
            image[lost * 4096..][..4096].fill(filler);
            desk.file("half.img", &image).file("before.img", &image);
            let place = format!("block {lost}: ");
            let found = desk.ok(&["check", "half.img"]);
            assert!(found.text().contains(&format!("{place}holds no valid superblock")));
            assert!(desk.read("half.img") == image, "a check without -p has written");
            let mended = desk.run(&["check", "-p", "half.img"]);
            let told = format!("repaired: {place}holds a superblock again [superblock-lost]");
            assert!(mended.code == 1 && mended.text().contains(&told), "{}", mended.text());
            assert!(!desk.ok(&["check", "half.img"]).text().contains("superblock"));
            let mut mended = desk.read("half.img");
            mended[kept * 4096..][..4096].fill(filler);
            desk.file("other-half.img", &mended);
            desk.ok(&["diff", "other-half.img", "before.img"]);
        }
    }
}

/// What the damaged end of a directory held is missing. No command may pass over that in silence.
#[test]
fn a_directory_that_ends_early_is_reported() {
    let desk = Desk::new();
    for i in 0..400 {
        desk.file(&format!("data/many/entry-{i:03}"), b"content");
    }
    desk.file("data/other/file", b"content");
    desk.ok(&["create", "-q", "--size", "256K", "new.img", "data"]);
    let pairs = desk.ok(&["inspect", "--json", "new.img", "dir", "/many"]).json();
    let pairs = pairs[0]["pairs"].as_array().expect("pairs").clone();
    assert!(pairs.len() > 3, "the directory is too small");
    let mut image = desk.read("new.img");
    for block in pairs[2]["pair"].as_array().expect("two blocks") {
        let at = block.as_u64().expect("a number") as usize * 4096;
        image[at..at + 4096].fill(0);
    }
    desk.file("bad.img", &image);
    let told = &["bad.img: /many: ", "its entries from there on are missing"];
    for args in [&["ls", "-R", "bad.img"][..], &["ls", "bad.img", "many"], &["tree", "bad.img"]] {
        let text = desk.fails(args, 2, told).text().to_owned();
        assert!(text.contains("entry-000") && !text.contains("entry-399"), "{args:?}: {text}");
    }
    assert_eq!(desk.fails(&["du", "bad.img"], 2, told).stderr.matches("/many: ").count(), 1);
    for (args, out) in [(&["-C", "out"][..], "out"), (&["--to-tar", "out.tar"], "out.tar")] {
        let args = [&["extract", "--json", "bad.img"], args].concat();
        let found = desk.fails(&args, 2, &["/many: "]).json();
        assert_eq!(found["left_out"][0]["path"], "/many", "{found:#}");
        assert!(desk.path(out).exists());
    }
    assert!(desk.path("out/many/entry-000").exists() && desk.path("out/other/file").exists());
    desk.fails(&["get", "-r", "bad.img", "many", "copy"], 2, told);
    desk.fails(&["diff", "bad.img", "new.img"], 2, &["/many"]);
    // the name may be among the missing ones
    for name in ["many/entry-399", "many/never-there"] {
        desk.fails(&["cat", "bad.img", name], 1, &["entries from there on are missing"]);
    }
    desk.ok(&["cat", "bad.img", "many/entry-000"]);
}

/// A superblock in a block of a directory is taken for the root, by devices too. The repair brings
/// back what nothing leads to any more, and says when it is done.
#[test]
fn a_copied_superblock_in_a_directory_is_repaired() {
    let desk = Desk::new();
    for i in 0..60 {
        desk.file(
            &format!("data/big/f{i:02}"),
            format!("the content of file {i}, not short").as_bytes(),
        );
    }
    desk.ok(&["create", "-q", "--block-size", "512", "--size", "64K", "new.img", "data"]);
    let pairs = desk.ok(&["inspect", "--json", "new.img", "dir", "/big"]).json();
    let block = pairs[0]["pairs"][1]["pair"][0].as_u64().expect("a second pair") as usize;
    let mut image = desk.read("new.img");
    image.copy_within(0..512, block * 512);
    desk.file("bad.img", &image);
    desk.fails(&["check", "bad.img"], 4, &[]);
    let mended = desk.run(&["check", "-y", "bad.img"]);
    assert_eq!(mended.code, 1, "{}{}", mended.text(), mended.stderr);
    assert_eq!(mended.text().matches("now ends before").count(), 1, "{}", mended.text());
    desk.ok(&["check", "bad.img"]);
    assert!(desk.ok(&["ls", "-R", "bad.img"]).text().contains("f00"));
}
