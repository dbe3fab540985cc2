//! `clone`: the C driver finds in the copy what it has written to the original.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testkit::chamelon::Chamelon;
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;
use testkit::tree::{Entry, Tree, diff};
use testkit::v1::V1;

/// The types of the user attributes in these tests. They have no meaning elsewhere.
const ATTRS: [u8; 3] = [0x00, 0x74, 0xff];

/// An image after some use on a device: with overwritten and removed files, and attributes
/// everywhere.
fn used(config: &Config) -> (Vec<u8>, Tree) {
    let mut c = CLfs::fresh(config).expect("a new image");
    for dir in [&b"a"[..], b"a/b", b"empty"] {
        c.mkdir(dir).expect("mkdir");
    }
    for round in 0..4_u8 {
        for (i, path) in [&b"small"[..], b"a/inline", b"a/b/large", b"gone"].iter().enumerate() {
            let len = [12, 40, 9000, 5000][i];
            c.write_file(path, &vec![round ^ i as u8; len]).expect("written");
            c.setattr(path, 0x74, &[round; 4]).expect("an attribute");
        }
    }
    c.remove(b"gone").expect("removed");
    c.setattr(b"", 0xff, b"of the root").expect("an attribute");
    c.setattr(b"empty", 0x00, b"").expect("an attribute");
    c.setattr(b"a/b", 0xff, &[9; 30]).expect("an attribute");
    let tree = c.tree(&ATTRS).expect("readable");
    (c.unmount(), tree)
}

fn read_by_c(image: Vec<u8>, config: &Config) -> Tree {
    let config = Config { strict_erase: false, ..config.clone() };
    CLfs::mount(image, &config).expect("C mounts").tree(&ATTRS).expect("C reads")
}

#[test]
fn any_geometry_to_any_other() {
    for (block_size, block_count) in [(512, 128), (4096, 32)] {
        let config = Config::new(block_size, block_count, 16);
        let (image, tree) = used(&config);
        let desk = Desk::new();
        desk.file("old.img", &image);
        let made = desk.ok(&["clone", "old.img", "same.img"]);
        assert!(made.text().contains("3 files, 3 directories"), "{}", made.text());
        assert_eq!(made.stderr, "");
        let same = desk.read("same.img");
        assert_eq!(same.len(), image.len());
        diff("the copy", &read_by_c(same.clone(), &config), "the original", &tree).unwrap();
        // the same once more, and a copy of the copy
        desk.ok(&["clone", "-q", "old.img", "again.img"]);
        desk.ok(&["clone", "-q", "same.img", "third.img"]);
        assert!(desk.read("again.img") == same && desk.read("third.img") == same);
        // revisions are those of a new image
        let inspected = desk.ok(&["inspect", "same.img", "superblock", "--json"]).json();
        for copy in inspected[0]["copies"].as_array().expect("copies") {
            assert!(copy["revision"].as_u64().expect("a number") < 8, "{copy}");
        }
        for (new_size, size, version) in [(256, "128K", "2.0"), (1024, "96K", "2.1")] {
            let shape = ["--block-size", &new_size.to_string(), "--disk-version", version];
            let args = [&["clone", "--force", "--size", size], &shape[..], &["old.img", "o.img"]];
            desk.ok(&args.concat());
            let other = desk.read("o.img");
            let config = Config::new(new_size, other.len() as u32 / new_size, 16);
            diff("the copy", &read_by_c(other, &config), "the original", &tree).unwrap();
            desk.check("o.img");
            let info = desk.ok(&["info", "--json", "o.img"]).json();
            assert_eq!(info["disk_version"], version);
        }
        assert!(desk.read("old.img") == image, "the original was changed");
        assert!(!desk.names(".").iter().any(|name| name.starts_with(".littlefs")));
    }
}

#[test]
fn as_small_as_possible_and_smaller() {
    let desk = Desk::new();
    let (image, tree) = used(&Config::new(512, 128, 16));
    desk.file("old.img", &image);
    let least = desk.ok(&["clone", "--json", "--size", "min", "old.img", "min.img"]).json();
    let blocks = least["block_count"].as_u64().expect("a number") as u32;
    assert_eq!((least["blocks_free"].as_u64(), least["files"].as_u64()), (Some(0), Some(3)));
    let config = Config::new(512, blocks, 16);
    diff("the copy", &read_by_c(desk.read("min.img"), &config), "the original", &tree).unwrap();
    let less = ((blocks - 1) * 512).to_string();
    let enough = format!("--size {}", blocks * 512);
    desk.fails(&["clone", "--size", &less, "old.img", "x.img"], 1, &["does not fit", &enough]);
    desk.fails(&["clone", "--attr-max", "20", "old.img", "x.img"], 1, &["  a/b: a user attribute"]);
    desk.fails(
        &["clone", "--name-max", "4", "old.img", "x.img"],
        1,
        &["  empty: the name", "allows only 4"],
    );
    let profile = ["clone", "--check-profile", "esp-idf", "old.img", "x.img"];
    desk.fails(&profile, 1, &["profile esp-idf would refuse", "nothing was written"]);
    assert!(!desk.path("x.img").exists());
}

/// Damage, the image itself as the copy, an existing copy; and who may read the copy.
#[test]
fn what_is_refused_leaves_everything_as_it_was() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    desk.file("there.img", b"something");
    desk.fails(&["clone", "new.img", "there.img"], 1, &["there.img", "--force"]);
    desk.fails(&["clone", "--force", "new.img", "new.img"], 1, &["is the image itself"]);
    desk.fails(&["clone", "new.img", "nowhere/x.img"], 1, &["nowhere/x.img"]);
    let of_blocks = image.chunks(4096).position(|block| block.starts_with(b"jjjjjjjj"));
    let mut broken = image.clone();
    // the pointers of the file's last block
    let head = (of_blocks.expect("a list") + 2) * 4096;
    broken[head..head + 8].fill(0xee);
    desk.file("broken.img", &broken);
    desk.fails(&["clone", "broken.img", "x.img"], 1, &["app.js", "'littlefs check'"]);
    assert_eq!(desk.read("there.img"), b"something");
    assert!(desk.read("new.img") == image && !desk.path("x.img").exists());
    fs::set_permissions(desk.path("new.img"), fs::Permissions::from_mode(0o600)).expect("a mode");
    desk.ok(&["clone", "-q", "new.img", "mine.img"]);
    let mode = fs::metadata(desk.path("mine.img")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let fed = desk.fed(&["clone", "-", "piped.img"], &image);
    assert_eq!((fed.code, desk.read("piped.img")), (0, desk.read("mine.img")), "{}", fed.stderr);
}

/// Images of other dialects are copied through the view that shows them.
#[test]
fn of_version_1_and_of_chamelon() {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    tree.insert(b"dir".to_vec(), Entry::dir());
    tree.insert(b"dir/file".to_vec(), Entry::file(vec![7; 700]));
    tree.insert(b"empty".to_vec(), Entry::file(Vec::new()));
    let desk = Desk::new();
    desk.file("v1.img", &V1::of(256, 64, &tree).image());
    desk.ok(&["clone", "--block-size", "512", "v1.img", "larger.img"]);
    let info = desk.ok(&["info", "--json", "larger.img"]).json();
    assert_eq!((&info["disk_version"], &info["block_count"]), (&"1.1".into(), &32.into()));
    desk.ok(&["clone", "--disk-version", "2.1", "--size", "32K", "larger.img", "v2.img"]);
    let read = read_by_c(desk.read("v2.img"), &Config::new(512, 64, 16));
    diff("version 2", &read, "version 1", &tree).unwrap();
    desk.ok(&["clone", "--disk-version", "1", "v2.img", "back.img"]);
    desk.ok(&["diff", "v1.img", "back.img"]);
    desk.ok(&["create", "-q", "--attrs", "unix", "--size", "64K", "attrs.img", "v1.img"]);
    let to_v1 = ["clone", "--disk-version", "1", "attrs.img", "x.img"];
    desk.fails(&to_v1, 1, &["has user attributes, which version 1 cannot store"]);

    let mut chamelon = Chamelon::format(512, 64, 16);
    chamelon.mkdir("dir");
    chamelon.set("dir/file", &[7; 700]);
    chamelon.set("empty", b"");
    desk.file("chamelon.img", &chamelon.image);
    desk.ok(&["clone", "chamelon.img", "littlefs.img"]);
    let read = read_by_c(desk.read("littlefs.img"), &Config::new(512, 64, 16));
    let files = |tree: &Tree| tree.iter().map(|(path, e)| (path.clone(), e.kind.clone())).collect();
    let (read, expected): (Vec<_>, Vec<_>) = (files(&read), files(&tree));
    assert!(read == expected, "{:?}", read.iter().map(|(path, _)| path).collect::<Vec<_>>());
}

/// Blocks that an image only claims to have are not written. A superblock may claim 64 GiB.
#[test]
fn truncated_images_are_refused_and_compacted_ones_stay_compacted() {
    let desk = Desk::with_image();
    let whole = desk.read("new.img");
    desk.file("cut.img", &whole[..whole.len() / 16]);
    desk.fails(&["clone", "cut.img", "out.img"], 1, &["truncated"]);
    assert!(!desk.path("out.img").exists());

    desk.ok(&["create", "-q", "--no-pad", "--size", "256K", "short.img", "data"]);
    let before = desk.read("short.img");
    assert!(before.len() < 256 << 10);
    desk.ok(&["clone", "-q", "short.img", "copy.img"]);
    assert!(desk.read("copy.img").len() <= before.len());
    desk.ok(&["diff", "short.img", "copy.img"]);
    desk.ok(&["clone", "-q", "--size", "256K", "short.img", "whole.img"]);
    assert_eq!(desk.read("whole.img").len(), 256 << 10);
}

/// Without its free blocks, an image of version 1 would read as truncated.
#[test]
fn images_of_version_1_keep_their_free_blocks() {
    let desk = Desk::with_image();
    let create = ["create", "--no-pad", "--disk-version", "1", "--size", "256K", "one.img", "data"];
    desk.fails(&create, 1, &["--no-pad", "version 1"]);
    assert!(!desk.path("one.img").exists());
}
