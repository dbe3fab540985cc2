//! `resize`: files are rebuilt and renamed, devices are resized in place, and mounts grow.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use testkit::clfs::{CError, CLfs, Config};
use testkit::desk::Desk;
use testkit::tree::{Entry, Tree, diff};
use testkit::v1::V1;

/// The type of the user attributes in these tests.
const ATTR: [u8; 1] = [0x55];

fn made(config: &Config) -> (Vec<u8>, Tree) {
    let mut c = CLfs::fresh(&Config { block_cycles: 1, ..config.clone() }).expect("a new image");
    for i in 0..60_u8 {
        // the superblock stays behind, and its copy with it
        c.write_file(b"small", &[i; 30]).expect("written");
        c.setattr(b"small", 0x55, &[i; 8]).expect("an attribute");
    }
    c.mkdir(b"dir").expect("mkdir");
    c.write_file(b"dir/large", &[1; 20_000]).expect("written");
    let tree = c.tree(&ATTR).expect("readable");
    (c.unmount(), tree)
}

/// What drivers read that have a fixed number of blocks, and what drivers read that accept any.
fn read_by_c(image: &[u8], config: &Config, count: u32, tree: &Tree) {
    for block_count in [0, count] {
        let config = Config { block_count, strict_erase: false, ..config.clone() };
        let mut c = CLfs::mount(image.to_vec(), &config).expect("C mounts");
        diff("C", &c.tree(&ATTR).expect("C reads"), "before", tree).unwrap();
        match c.write_file(b"new", &[2; 3000]) {
            Ok(()) | Err(CError::NoSpc) => {}
            Err(e) => panic!("C writes: {e}"),
        }
    }
}

#[test]
fn a_file_grows_and_shrinks() {
    let config = Config::new(512, 128, 16);
    let (image, tree) = made(&config);
    let desk = Desk::new();
    desk.file("a.img", &image);
    for (size, count) in [("128K", 256), ("48K", 96), ("65536", 128)] {
        let told = desk.ok(&["resize", "--size", size, "a.img"]);
        assert!(told.text().starts_with(&format!("a.img: {count} blocks of 512")), "{told:?}");
        assert_eq!(told.stderr, "");
        let now = desk.read("a.img");
        assert_eq!(now.len(), count * 512);
        read_by_c(&now, &config, count as u32, &tree);
        desk.check("a.img");
    }
    let least = desk.ok(&["resize", "--size", "min", "--json", "a.img"]).json();
    let count = least["block_count"].as_u64().expect("a number") as u32;
    assert_eq!(
        (least["blocks_free"].as_u64(), desk.read("a.img").len()),
        (Some(0), 512 * count as usize)
    );
    let before = desk.read("a.img");
    let less = (512 * (count - 1)).to_string();
    let enough = format!("--size {}", 512 * count);
    desk.fails(&["resize", "--size", &less, "a.img"], 1, &["does not fit", &enough]);
    desk.fails(&["resize", "--size", "100", "a.img"], 1, &["not a multiple of the block size 512"]);
    let profile = ["resize", "--size", "1M", "--check-profile", "esp-idf", "a.img"];
    desk.fails(&profile, 1, &["profile esp-idf would refuse", "nothing was written"]);
    assert!(desk.read("a.img") == before && desk.names(".") == ["a.img"]);

    // and back
    desk.ok(&["resize", "-q", "--size", "64K", "--backup", "undo", "a.img"]);
    read_by_c(&desk.read("a.img"), &config, 128, &tree);
    desk.ok(&["undo", "undo", "a.img"]);
    assert!(desk.read("a.img") == before, "not as it was");
}

/// Everything around the filesystem stays, and nothing that follows it is overwritten unless this
/// is requested.
#[test]
fn inside_of_a_dump() {
    let config = Config::new(512, 128, 16);
    let (image, tree) = made(&config);
    let desk = Desk::new();
    let (before, behind) = (vec![0x55; 4096], [vec![0xff; 8192], vec![0xaa; 5000]].concat());
    desk.file("dump.bin", &[&before[..], &image, &behind].concat());
    let resize = |size: &str, more: &[&str]| {
        desk.run(&[&["resize", "--offset", "4096", "dump.bin", "--size", size], more].concat())
    };
    let within = |dump: &[u8], count: usize, rest: &[u8]| {
        assert!(dump[..4096] == before && dump[4096 + count * 512..] == *rest, "{count} blocks");
        read_by_c(&dump[4096..4096 + count * 512], &config, count as u32, &tree);
    };
    assert_eq!(resize("72K", &[]).code, 0);
    within(&desk.read("dump.bin"), 144, &behind[8192..]);
    let refused = resize("max", &[]);
    assert!(refused.code == 1 && refused.stderr.contains("--force overwrites it"), "{refused:?}");
    let refused = resize("1M", &["--force"]);
    assert!(refused.code == 1 && refused.stderr.contains("beyond the end"), "{refused:?}");
    assert_eq!(resize("48K", &[]).code, 0);
    let rest = [vec![0xff; (144 - 96) * 512], behind[8192..].to_vec()].concat();
    within(&desk.read("dump.bin"), 96, &rest);
    assert_eq!(resize("max", &["--force"]).code, 0);
    let dump = desk.read("dump.bin");
    assert_eq!(dump.len(), 4096 + image.len() + behind.len());
    let count = (image.len() + behind.len()) / 512;
    within(&dump, count, &behind[behind.len() - (image.len() + behind.len()) % 512..]);
}

#[test]
fn of_version_1_and_what_is_refused() {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    tree.insert(b"file".to_vec(), Entry::file(vec![7; 700]));
    let desk = Desk::new();
    desk.file("v1.img", &V1::of(256, 64, &tree).image());
    fs::copy(desk.path("v1.img"), desk.path("same.img")).expect("copied");
    desk.ok(&["resize", "--size", "8K", "v1.img"]);
    assert_eq!(desk.ok(&["info", "--json", "v1.img"]).json()["disk_version"], "1.1");
    assert_eq!(desk.read("v1.img").len(), 8192);
    desk.ok(&["diff", "same.img", "v1.img"]);
    desk.fails(&["resize", "--size", "512", "v1.img"], 1, &["--size", "min"]);
    desk.file("none.img", &[0; 4096]);
    desk.fails(&["resize", "--size", "8K", "none.img"], 1, &["none.img"]);
    desk.fails(&["resize", "--size", "8K", "-"], 1, &["standard input"]);
}

/// Run a script as root with these arguments. Returns its standard output.
fn as_root(script: &str, args: &[&str]) -> String {
    let out = Command::new("sh").args(["-ec", script, "sh"]).args(args).output().expect("starts");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned()
}

/// A loop device, which exists as long as this value.
struct Loop(String);

impl Loop {
    fn over(path: &std::path::Path) -> Self {
        Self(as_root(r#"losetup --show -f "$1""#, &[path.to_str().expect("UTF-8")]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        as_root(r#"losetup -d "$1""#, &[&self.0]);
    }
}

#[test]
fn a_device_is_resized_where_it_is() {
    let config = Config::new(512, 128, 16);
    let (image, tree) = made(&config);
    let desk = Desk::new();
    desk.file("disk", &[&image[..], &vec![0x77; 32 << 10]].concat());
    let inode = fs::metadata(desk.path("disk")).expect("there").ino();
    let device = Loop::over(&desk.path("disk"));
    let size = |size: &str, more: &[&str]| {
        desk.run(&[&["resize", "--size", size, &device.0], more].concat())
    };
    let now = |count: usize| {
        let bytes = desk.read("disk");
        read_by_c(&bytes[..count * 512], &config, count as u32, &tree);
        desk.check(&device.0);
    };
    let grown = size("max", &["--backup", "undo"]);
    assert_eq!(grown.code, 0, "{}", grown.stderr);
    assert!(grown.text().contains(": 192 blocks of 512"), "{}", grown.text());
    now(192);
    let beyond = size("1M", &[]);
    assert!(beyond.code == 1 && beyond.stderr.contains("beyond the end"), "{beyond:?}");
    desk.ok(&["undo", "undo", &device.0]);
    assert!(desk.read("disk")[..image.len()] == image, "not as it was");
    let shrunk = size("40K", &[]);
    assert_eq!(shrunk.code, 0, "{}", shrunk.stderr);
    now(80);
    let before = desk.read("disk");
    let refused = size("20K", &[]);
    assert!(refused.code == 1 && refused.stderr.contains("it needs"), "{refused:?}");
    assert!(desk.read("disk") == before, "something was changed");
    let needed = refused.stderr.split("--size ").nth(1).and_then(|rest| rest.split(',').next());
    let needed = needed.expect("the least size").to_owned();
    let least = size("min", &["--json"]);
    assert_eq!(least.code, 0, "{}", least.stderr);
    let count = least.json()["block_count"].as_u64().expect("a number");
    assert_eq!((count * 512).to_string(), needed);
    now(count as usize);
    assert_eq!(fs::metadata(desk.path("disk")).expect("there").ino(), inode);
}
