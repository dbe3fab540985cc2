//! When an image cannot be changed, the error names what to do, and that works.

use testkit::desk::Desk;

const BLOCK: usize = 4096;

/// Each way to ask for a change of this image.
fn changes(image: &str) -> [Vec<&str>; 7] {
    [
        vec!["put", image, "data/etc/config.txt", "/new"],
        vec!["put", "-n", image, "data/etc/config.txt", "/new"],
        vec!["put", "--atomic", image, "data/etc/config.txt", "/new"],
        vec!["rm", image, "etc"],
        vec!["mkdir", image, "new"],
        vec!["kv", image, "set", "new", "1"],
        vec!["resize", "--size", "512K", image],
    ]
}

/// Bytes in which nothing is a valid commit.
fn noise(bytes: &mut [u8]) {
    let mut state = 1_u32;
    for byte in bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
}

/// Doubt forbids repairs as well, even if there is damage, too.
#[test]
fn a_doubtful_image_can_be_extracted() {
    let desk = Desk::with_image();
    let mut image = desk.read("new.img");
    noise(&mut image[..BLOCK]);
    noise(&mut image[2 * BLOCK..]);
    desk.file("new.img", &image);
    for change in changes("new.img") {
        let ran = desk.fails(&change, 1, &["leads to nothing", "'littlefs extract' copies"]);
        assert!(!ran.stderr.contains("littlefs check"), "{change:?}: {}", ran.stderr);
    }
    for mode in ["-p", "-y"] {
        desk.fails(&["check", mode, "new.img"], 4, &["was repaired", "'littlefs extract' copies"]);
    }
    assert_eq!(desk.read("new.img"), image);
    desk.fails(&["extract", "new.img", "-C", "out"], 2, &["etc: cannot be read"]);
    assert_eq!(desk.names("out"), ["empty", "etc", "www"]);
}

#[test]
fn the_place_that_is_named_can_be_changed() {
    let desk = Desk::with_image();
    let mut flash = vec![0; 4 * BLOCK];
    noise(&mut flash);
    flash.extend(desk.read("new.img"));
    desk.file("flash.bin", &flash);
    let image = &["--offset", "12288", "flash.bin"];
    let change = [&["mkdir"], &image[..], &["new"]].concat();
    desk.fails(&change, 1, &["--offset 16384 (-o offset=16384 for a mount) opens that filesystem"]);
    desk.ok(&["mkdir", "--offset", "16384", "flash.bin", "new"]);
}

#[test]
fn a_damaged_image_can_be_repaired() {
    let desk = Desk::with_image();
    let mut image = desk.read("new.img");
    noise(&mut image[2 * BLOCK..4 * BLOCK]);
    for change in changes("new.img") {
        desk.file("new.img", &image);
        if change[0] != "resize" {
            desk.fails(&change, 1, &["metadata pair", "'littlefs check -y' repairs the rest"]);
        }
        desk.fails(&["check", "-y", "new.img"], 1, &[]);
        if change[0] != "rm" {
            desk.ok(&change);
        }
    }
}

/// Whoever mixes up the arguments must not lose the image.
#[test]
fn no_output_replaces_what_is_read() {
    let desk = Desk::with_image();
    desk.file("in/new.img", b"a file with the name of the image");
    desk.ok(&["create", "-q", "--size", "256K", "outer.img", "in"]);
    std::fs::create_dir(desk.path("sub")).expect("a directory");
    std::fs::copy(desk.path("outer.img"), desk.path("sub/new.img")).expect("a copy");
    std::os::unix::fs::symlink("new.img", desk.path("link")).expect("a link");
    let (before, inner) = (desk.read("new.img"), desk.read("sub/new.img"));
    let own = "this file is read or made by the command";
    for output in ["new.img", "./new.img", "link"] {
        desk.fails(&["extract", "--to-tar", output, "new.img"], 1, &[own]);
        desk.fails(&["map", "--format", "html", "-o", output, "new.img"], 1, &[own]);
    }
    let name = "the image or its journal has this name";
    desk.fails(&["get", "new.img", "etc/config.txt", "new.img"], 1, &[name]);
    desk.fails(&["get", "sub/new.img", "new.img", "sub"], 1, &[name]);
    desk.fails(&["extract", "sub/new.img", "-C", "sub"], 1, &[name]);
    desk.fails(&["create", "--size", "256K", "--depfile", "made", "made", "in"], 1, &[own]);
    let source = "in/new.img";
    desk.fails(&["create", "--size", "256K", "--depfile", source, "made2", "in"], 1, &[own]);
    desk.ok(&["put", "-q", "--journal", "j", "new.img", "in", "/", "-r"]);
    let journal = desk.read("j");
    for output in ["j", "new.img"] {
        let export = ["journal", "export", "--force", "--at", "1", "j", output];
        desk.fails(&export, 1, &["is the journal or its image"]);
        let tar = ["extract", "--journal", "j", "--to-tar", output, "new.img"];
        desk.fails(&tar, 1, &[own]);
    }
    assert!(desk.read("j") == journal && desk.read("new.img") == before);
    assert!(desk.read("sub/new.img") == inner && !desk.path("made").exists());
    assert_eq!(desk.read(source), b"a file with the name of the image");
}

/// What cannot be done as asked is an error, and changes nothing.
#[test]
fn what_would_silently_do_something_else_fails() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    let touch = ["touch", "-d", "2020-01-01", "new.img", "etc/config.txt"];
    desk.fails(&touch, 1, &["/etc/config.txt: ", "stores no times", "--attrs"]);
    let get = ["get", "new.img", "etc/config.txt", "no/such/copy"];
    desk.fails(&get, 1, &["no/such: no such directory"]);
    desk.fails(&["map", "-o", "map.png", "new.img"], 1, &["map.png: ", ".svg", "--format"]);
    desk.fails(&["mkfs", "--size", "5000", "new"], 1, &["the smallest size is 8192"]);
    desk.fails(&["mkfs", "--size", "9000", "new"], 1, &["8192 and 12288 are"]);
    desk.fails(
        &["put", "new.img", "data/etc", "/etc/config.txt/x", "-r"],
        1,
        &["new.img: /etc/config.txt: not a directory"],
    );
    desk.ok(&["check", "-y", "--backup", "undo", "new.img"]);
    let ran = desk.ok(&["check", "-y", "--backup", "undo", "new.img"]);
    assert!(ran.stderr.contains("undo: no undo file was made"), "{}", ran.stderr);
    assert!(!["no", "map.png", "new", "undo"].iter().any(|name| desk.path(name).exists()));
    assert!(desk.read("new.img") == before);
}
