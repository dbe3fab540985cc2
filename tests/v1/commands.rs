//! The commands, used as users use them.

use std::fs;

use serde_json::Value;

use super::{file, littlefs, sample, varied};
use testkit::tree::Kind;
use testkit::v1::V1;

#[test]
fn info_tells_the_version() {
    let (_dir, image) = file(&sample(128).image());
    let (code, out, err) = littlefs(&["info", &image]);
    assert_eq!((code, &*err), (0, ""));
    for line in
        ["dialect       v1 (mounts are read-only", "disk version  1.1", "200 blocks of 128 bytes"]
    {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
    assert!(out.contains("files         47") && !out.contains("prog size"), "{out}");
    let (_, out, _) = littlefs(&["info", "--json", &image]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&json["dialect"], &json["disk_version"]), (&"v1".into(), &"1.1".into()));
    assert_eq!((&json["directories"], &json["attr_max"]), (&6.into(), &0.into()));
    let used = json["blocks_used"].as_u64().expect("a number");
    assert_eq!(json["blocks_free"], 200 - used);
    let (_, out, _) = littlefs(&["check", "--json", &image]);
    let check: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(check["totals"]["blocks_used"], used);
}

/// Every block is shown as what the thread and the lists of the driver use it for.
#[test]
fn maps_and_trees() {
    let v1 = sample(512);
    let (_dir, image) = file(&v1.image());
    let (code, out, err) = littlefs(&["map", "--json", &image]);
    assert_eq!((code, &*err), (0, ""));
    let map: Value = serde_json::from_str(&out).expect("JSON");
    let (_, out, _) = littlefs(&["info", "--json", &image]);
    let info: Value = serde_json::from_str(&out).expect("JSON");
    let count = |class: &str| map["classes"][class].as_u64().unwrap_or(0);
    let free = count("erased") + count("written") + count("stale");
    assert_eq!(info["blocks_free"], free, "{map}");
    assert_eq!((count("superblock-live"), count("superblock-other")), (1, 1));
    assert!(
        count("live") == count("other") && count("live") > 5 && count("unreachable") == 0,
        "{map}"
    );
    // the blocks of a file, in its order, hold its content
    let Kind::File(bytes) = &varied(512)[&b"large"[..]].kind else { unreachable!() };
    let runs = map["runs"].as_array().expect("runs");
    let mut blocks = Vec::new();
    for run in runs.iter().filter(|run| run["path"] == "/large") {
        let number = |key: &str| run[key].as_u64().expect("a number") as usize;
        blocks.extend((0..number("count")).map(|i| (number("index") + i, number("start") + i)));
    }
    blocks.sort_unstable();
    let image_bytes = v1.image();
    let mut content = Vec::new();
    for (index, block) in blocks {
        let pointers = if index == 0 { 0 } else { 4 * (index.trailing_zeros() as usize + 1) };
        content.extend(&image_bytes[block * 512 + pointers..(block + 1) * 512]);
    }
    assert!(content.starts_with(bytes), "the blocks of /large are others");
    let (code, out, _) = littlefs(&["inspect", "--json", &image, "tree"]);
    let tree: Value = serde_json::from_str(&out).expect("JSON");
    let entries = tree[0]["entries"].as_array().expect("entries");
    assert!(
        code == 0 && entries.iter().any(|e| e["path"] == "/large" && e["size"] == bytes.len()),
        "{out}"
    );
    let (code, out, _) = littlefs(&["inspect", &image, "dir", "a"]);
    assert!(code == 0 && out.contains("file0"), "{out}");
    let (code, _, err) = littlefs(&["inspect", &image, "gstate"]);
    assert!(code == 1 && err.contains("version 1 has no global state"), "{err}");
}

/// Deleted files come back, even if no superblock is left to show what the image is.
#[test]
fn deleted_files_come_back() {
    let mut v1 = sample(512);
    let bytes = v1.image();
    let Kind::File(expected) = &varied(512)[&b"e/file4"[..]].kind else { unreachable!() };
    // the older block has what was there before, the newer one has one file less
    v1.thread[0].rev = 5;
    let (root, gone) = v1.find("large");
    assert_eq!(root, 0, "it is to be in the root");
    let before = v1.block(0);
    v1.thread[0].entries.remove(gone);
    v1.thread[0].rev = 6;
    let mut deleted = v1.image();
    let at = v1.thread[0].blocks[1] as usize * 512;
    deleted[at..at + before.len()].copy_from_slice(&before);
    let (dir, image) = file(&deleted);
    let out = dir.path().join("found");
    let found = out.to_str().expect("UTF-8");
    let (code, text, err) = littlefs(&["recover", "--json", &image, "-C", found]);
    assert_eq!((code, &*err), (2, ""), "{text}");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let large = json["results"].as_array().expect("results").iter();
    let large: Vec<&Value> = large.filter(|r| r["path"] == "/large").collect();
    assert_eq!((large.len(), &large[0]["grade"]), (1, &"partial".into()), "{json:#}");
    let Kind::File(content) = &varied(512)[&b"large"[..]].kind else { unreachable!() };
    assert!(&fs::read(out.join("files/large.partial")).expect("written") == content);
    assert!(fs::read(&image).expect("readable") == deleted, "the image was changed");

    for block_size in [&["--block-size", "512"][..], &[]] {
        let mut headless = bytes.clone();
        headless[..1024].fill(0);
        let (dir, image) = file(&headless);
        let out = dir.path().join("found");
        let found = out.to_str().expect("UTF-8");
        let (code, text, _) =
            littlefs(&[&["recover", "--json", &image, "-C", found], block_size].concat());
        assert!([0, 2].contains(&code), "{text}");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&json["block_size"], &json["has_filesystem"]), (&512.into(), &false.into()));
        let file = json["results"].as_array().expect("results").iter();
        let file = { file }.find(|r| r["path"] == "/e/file4").expect("found");
        let place = out.join(file["file"].as_str().expect("written"));
        assert!(&fs::read(place).expect("written") == expected, "{file:#}");
    }
}

/// A device of version 1 that was formatted with version 2 still has its old files, which are
/// searched for if that is asked for; and the other way round.
#[test]
fn files_of_the_version_before_are_recovered() {
    let Kind::File(expected) = &varied(512)[&b"e/file4"[..]].kind else { unreachable!() };
    let old = sample(512).image();
    let (dir, image) = file(&old);
    // a device writes only to blocks 0 and 1
    let new = dir.path().join("new.img");
    let path = new.to_str().expect("UTF-8");
    let (code, _, err) = littlefs(&["mkfs", "--block-size", "512", "--block-count", "200", path]);
    assert_eq!(code, 0, "{err}");
    let formatted = fs::read(&new).expect("made");
    fs::write(&image, [&formatted[..1024], &old[1024..]].concat()).expect("written");
    let out = dir.path().join("found");
    let found = out.to_str().expect("UTF-8");
    let recover = |dialect: &[&str]| {
        littlefs(&[&["recover", "--json", &image, "-C", found], dialect].concat())
    };
    let (code, text, err) = recover(&["--dialect", "v1"]);
    assert_eq!(code, 2, "{text}{err}");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let results = json["results"].as_array().expect("results").iter();
    let files: Vec<&Value> = results.filter(|r| r["path"] == "/e/file4").collect();
    // nothing proves that the new filesystem did not write there
    assert_eq!(files.iter().map(|r| &r["grade"]).collect::<Vec<_>>(), ["partial"], "{json:#}");
    let place = out.join(files[0]["file"].as_str().expect("written"));
    assert!(&fs::read(place).expect("written") == expected);

    // the blocks of the old filesystem of version 2 that the sample of version 1 leaves alone
    let (_dir, image) = file(&old);
    let (code, text, err) =
        littlefs(&["recover", "--dialect", "littlefs", &image, "-C", &format!("{found}2")]);
    assert!([1, 2].contains(&code) && !err.contains("version 1"), "{text}{err}");
}

/// Only blocks that are in use are compared.
#[test]
fn dumps_are_compared_with_images() {
    let v1 = sample(512);
    let bytes = v1.image();
    let (dir, image) = file(&bytes);
    let dump = dir.path().join("dump.bin");
    let verify = |changed: &[usize], args: &[&str]| -> (i32, String) {
        let mut bytes = [vec![0x55; 4096 * usize::from(!args.is_empty())], bytes.clone()].concat();
        let start = bytes.len() - 200 * 512;
        changed.iter().for_each(|&at| bytes[start + at] ^= 0x20);
        fs::write(&dump, bytes).expect("written");
        let path = dump.to_str().expect("UTF-8");
        let (code, out, _) = littlefs(&[&["verify", &image, path], args].concat());
        (code, out)
    };
    let (code, out) = verify(&[], &[]);
    assert!(code == 0 && out.starts_with("same: "), "{out}");
    assert_eq!(verify(&[], &["--dump-offset", "auto"]).0, 0);
    assert_eq!(verify(&[], &["--dump-offset", "4096"]).0, 0);
    let (pair, i) = v1.find("large");
    let [live, other] = v1.thread[pair].blocks.map(|block| block as usize * 512);
    let head = v1.thread[pair].entries[i].words[0] as usize * 512;
    // Of two blocks with the same revision, the second counts, in both images.
    let mut twins = bytes.clone();
    for pair in [0, 1] {
        let [live, other] = v1.thread[pair].blocks.map(|block| block as usize * 512);
        twins.copy_within(live..live + 512, other);
    }
    let (_dir, same) = file(&twins);
    let (code, out, err) = littlefs(&["verify", &same, &same]);
    assert!(code == 0 && out.starts_with("same: "), "{out}{err}");
    // free blocks, the older half, what stands behind the end of a block in use
    assert_eq!(verify(&[199 * 512, other + 8, live + v1.block(pair).len()], &[]).0, 0);
    let (code, out) = verify(&[head + 9], &[]);
    assert!(code == 1 && out.starts_with("/large: its content differs: block "), "{out}");
    let (code, out) = verify(&[live + 20], &[]);
    assert!(code == 1 && out.contains("cannot be read in the dump"), "{out}");
    let (code, out, _) = littlefs(&["ls", "--offset", "auto", &image]);
    assert!(code == 0 && out.contains("large"), "{out}");
    let (code, _, err) = littlefs(&["ls", "--offset", "somewhere", &image]);
    assert!(code == 1 && err.contains("or auto"), "{err}");
}

#[test]
fn reading_commands() {
    let (dir, image) = file(&sample(512).image());
    let (code, out, err) = littlefs(&["ls", &image, "a"]);
    assert_eq!((code, &*out, &*err), (0, "b\nfile0\n", ""));
    let Kind::File(bytes) = &varied(512)[&b"large"[..]].kind else { unreachable!() };
    let out = dir.path().join("out");
    fs::create_dir(&out).expect("made");
    let (code, _, err) = littlefs(&["extract", &image, "-C", out.to_str().expect("UTF-8")]);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(&fs::read(out.join("large")).expect("extracted"), bytes);
    assert!(out.join("a/b/c/d/file3").is_file() && out.join("empty").is_dir());
    for verb in [&["tree"][..], &["du"], &["stat"]] {
        let (code, out, err) = littlefs(&[verb, &[&image, "/"]].concat());
        assert_eq!((code, out.is_empty()), (0, false), "{verb:?}: {err}");
    }
}

#[test]
fn either_superblock_serves() {
    let image = sample(512).image();
    for lost in [0, 1] {
        let mut image = image.clone();
        image[lost * 512..][..512].fill(0xff);
        let (_dir, path) = file(&image);
        let (code, out, err) = littlefs(&["ls", &path, "a"]);
        assert_eq!((code, &*out), (0, "b\nfile0\n"));
        assert!(err.contains(&format!("the superblock in block {lost} is lost")), "{err}");
        let (code, out, _) = littlefs(&["check", &path]);
        assert!(code == 0 && out.contains("[superblock-lost]"), "{out}");
    }
}

/// The only superblock that is left belongs to the place where the blocks are to which it leads.
#[test]
fn a_dump_that_begins_too_late() {
    let image = sample(512).image();
    let (_dir, path) = file(&image[512..]);
    let (_, out, _) = littlefs(&["check", &path]);
    assert!(out.contains("[superblock-doubtful]"), "{out}");
}

#[test]
fn inside_of_a_dump() {
    let image = [vec![0x55; 4096 + 512], sample(512).image(), vec![0xaa; 1000]].concat();
    let (_dir, path) = file(&image);
    let (code, out, err) = littlefs(&["info", &path]);
    assert!(code == 0 && out.contains("disk version  1.1"), "{out}");
    assert!(err.contains("its filesystem starts at offset=4608 (0x1200)"), "{err}");
    let (code, out, err) = littlefs(&["ls", "--offset", "4608", &path, "a"]);
    assert_eq!((code, &*out, &*err), (0, "b\nfile0\n", ""));
}

#[test]
fn writing_in_place_is_refused_with_the_remedy() {
    let bytes = sample(512).image();
    let (_dir, image) = file(&bytes);
    let (code, _, err) = littlefs(&["kv", &image, "set", "a", "b"]);
    assert!(code == 1 && err.contains("littlefs convert --from v1"), "{err}");
    let (code, out, err) = littlefs(&["check", "-y", &image]);
    assert!(code == 0 && out.contains("clean"), "{out}{err}");
    assert!(fs::read(&image).expect("readable") == bytes, "the image was changed");
}

#[test]
fn the_dialect_can_be_given() {
    let (_dir, image) = file(&sample(512).image());
    let (code, _, err) = littlefs(&["info", "--dialect", "v1", &image]);
    assert_eq!((code, &*err), (0, ""));
    for other in ["littlefs", "chamelon"] {
        let (code, _, err) = littlefs(&["info", "--dialect", other, &image]);
        assert!(code == 1 && err.contains("a littlefs of version 1"), "{err}");
    }
    let (_dir, path) = file(&[]);
    let (code, _, err) = littlefs(&["mkfs", "--size", "64K", "--force", &path]);
    assert_eq!((code, &*err), (0, ""));
    let (code, _, err) = littlefs(&["info", "--dialect", "v1", &path]);
    assert!(code == 1 && err.contains("of version 2.1 and not of version 1"), "{err}");
}

#[test]
fn a_root_that_is_gone() {
    let mut image = V1::new(128, 32).image();
    image[2 * 128..4 * 128].fill(0);
    let (_dir, path) = file(&image);
    let (code, _, err) = littlefs(&["ls", &path]);
    assert!(code == 1 && err.contains("a littlefs of version 1: damaged"), "{err}");
    let (code, ..) = littlefs(&["check", &path]);
    assert_eq!(code, 8);
}
