//! The commands, used as users use them, on images of chamelon.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::{TIME, once_free, output, value};
use littlefs::fs::{At, Fs, Node, OpenOptions, ROOT};
use littlefs::image::{self, Dialect, Opened, Reason};
use littlefs::kv;
use testkit::chamelon::{Chamelon, manifest, sha1, written};

/// The exit code, standard output and standard error.
fn littlefs(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    let out = output(command.args(args));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (out.status.code().expect("no signal"), text(out.stdout), text(out.stderr))
}

fn file(image: &[u8]) -> (NamedTempFile, String) {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), image).expect("written");
    let name = file.path().to_str().expect("UTF-8").to_owned();
    (file, name)
}

fn open(image: &str) -> Opened {
    once_free(|| match image::open(Path::new(image), &image::Options::default()) {
        Err(e) if matches!(e.reason, Reason::InUse(_)) => None,
        opened => Some(opened.expect("opens")),
    })
}

fn damaged() -> Vec<u8> {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("old", &value(1, 2000));
    c.restart();
    c.set("new", &value(2, 2000));
    c.image
}

#[test]
fn maps_and_trees() {
    let (_file, image) = file(&written());
    let (code, out, err) = littlefs(&["map", "--json", &image]);
    assert_eq!((code, &*err), (0, ""));
    let map: Value = serde_json::from_str(&out).expect("JSON");
    let count = |class: &str| map["classes"][class].as_u64().unwrap_or(0);
    assert_eq!(count("erased") + count("written") + count("stale"), 80, "{map}");
    assert_eq!(
        count("superblock-live") + count("live"),
        count("superblock-other") + count("other")
    );
    let (code, out, _) = littlefs(&["inspect", "--json", &image, "tree"]);
    let tree: Value = serde_json::from_str(&out).expect("JSON");
    let files = tree[0]["entries"].as_array().expect("entries");
    let files = files.iter().filter(|entry| entry["type"] == "REG");
    assert_eq!((code, files.count()), (0, 36), "{tree}");
    // there is none in this dialect
    let (_, text, _) = littlefs(&["inspect", &image, "tree"]);
    assert!(text.starts_with("pairs:\n") && !text.contains("thread"), "{text}");
    assert!(tree[0]["thread_whole"].is_null() && tree[0]["pairs"][0]["threaded"].is_null());
    let (code, _, err) = littlefs(&["inspect", &image, "gstate"]);
    assert!(code == 1 && err.contains("chamelon keeps no global state"), "{err}");
}

/// Pairs are shown by their tags and values by their lists, in the forms that chamelon has for
/// both.
#[test]
fn what_stands_in_pairs_and_lists() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("gone", &value(1, 20));
    c.set("large", &value(2, 9 * 512));
    c.remove("gone");
    c.set("kept", &value(3, 20));
    let (_file, image) = file(&c.image);
    let json = |args: &[&str]| -> Value {
        let (code, out, err) = littlefs(&[&["inspect", "--json", &image], args].concat());
        assert_eq!((code, &*err), (0, ""), "{args:?}");
        let reports: Value = serde_json::from_str(&out).expect("JSON");
        reports[0].clone()
    };
    let pair = json(&["pair", "0,1"]);
    let entries = pair["entries"].as_array().expect("entries");
    let named: Vec<(u64, &str)> = entries
        .iter()
        .map(|e| (e["id"].as_u64().expect("an id"), e["name"].as_str().expect("a name")))
        .collect();
    // ids never shift
    assert_eq!(named, [(2, "large"), (3, "kept")], "{pair:#}");
    let states: Vec<&Value> =
        pair["halves"].as_array().expect("two").iter().map(|half| &half["state"]).collect();
    assert_eq!(states, ["live", "superseded"]);
    let tags = pair["halves"][0]["commits"].as_array().expect("commits").iter();
    let tags: Vec<&Value> = tags.flat_map(|c| c["tags"].as_array().expect("tags")).collect();
    let effect = |name: &str, id: u64| {
        let found = tags.iter().find(|tag| tag["name"] == name && tag["id"] == id);
        found.map(|tag| tag["effect"].as_str().expect("text"))
    };
    assert_eq!((effect("REG", 1), effect("REG", 2)), (Some("past"), Some("live")), "{pair:#}");
    let large = json(&["file", "large"]);
    let blocks = large["blocks"].as_array().expect("blocks");
    let mut content = Vec::new();
    for block in blocks.iter().rev() {
        let number = |key: &str| block[key].as_u64().expect("a number") as usize;
        assert!(block["agrees"] == true && number("position") == content.len(), "{block}");
        let at = number("block") * 512 + number("data_offset");
        content.extend_from_slice(&c.image[at..at + number("bytes")]);
    }
    assert!(content == value(2, 9 * 512), "not the content");
    assert_eq!(json(&["log", "kept"])["steps"][0]["id"], 3);
    assert_eq!(json(&["superblock"])["copies"][0]["disk_version"], "2.0");
    let block = json(&["block", "0"]);
    assert_eq!(block["used_as"], "the live half of pair {0x0, 0x1} of directory /");
}

/// `verify` compares the blocks that are in use, and shows where each block of a list has its
/// pointers.
#[test]
fn dumps_are_compared_with_images() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("large", &value(2, 9 * 512));
    let (_file, image) = file(&c.image);
    let (_, out, _) = littlefs(&["inspect", "--json", &image, "file", "large"]);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let number = |value: &Value, key: &str| value[key].as_u64().expect("a number") as usize;
    let head = &report[0]["blocks"][0];
    let end = number(head, "data_offset") + number(head, "bytes");
    let start = number(head, "block") * 512;
    for (changed, code, words) in [
        (None, 0, "same: "),
        (Some(127 * 512), 0, "same: "),
        (Some(start + end), 0, "same: "),
        (Some(start + end - 1), 1, "/large: its content differs"),
    ] {
        let mut bytes = c.image.clone();
        changed.into_iter().for_each(|at| bytes[at] ^= 0x20);
        let (_dump, dump) = file(&bytes);
        let (found, out, err) = littlefs(&["verify", &image, &dump]);
        assert!(found == code && out.starts_with(words), "{changed:?}: {found} {out}{err}");
    }
    let (code, _, err) = littlefs(&["recover", &image, "-C", "/nonexistent"]);
    assert!(code == 1 && err.contains("written by chamelon"), "{err}");
}

/// The command that a finding names shows the place of the finding.
#[test]
fn findings_can_be_looked_at() {
    let (_file, image) = file(&damaged());
    let (code, out, _) = littlefs(&["check", &image]);
    assert_eq!(code, 4, "{out}");
    let commands: Vec<&str> = out.lines().filter_map(|l| l.strip_prefix("  see: ")).collect();
    assert!(!commands.is_empty(), "{out}");
    for command in commands {
        let args: Vec<String> = command.split(' ').map(|arg| arg.replace('\'', "")).collect();
        let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        let (code, out, err) = littlefs(&args);
        assert!(code == 2 && out.contains("damage: "), "{command}: {code} {out}{err}");
    }
}

#[test]
fn info_tells_the_dialect() {
    let (_file, image) = file(&written());
    let (code, out, err) = littlefs(&["info", &image]);
    assert_eq!((code, &*err), (0, ""));
    for line in
        ["dialect       chamelon (mounts are read-only", "disk version  2.0", "files         36"]
    {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
    let (_, out, _) = littlefs(&["info", "--json", &image]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["dialect"], "chamelon");
    assert_eq!((&json["blocks_used"], &json["blocks_free"]), (&48.into(), &80.into()));
    assert_eq!((&json["name_max"], &json["directories"]), (&32.into(), &10.into()));

    let (_, out, _) = littlefs(&["info", "--json", "--dialect", "littlefs", &image]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["dialect"], "littlefs");
    let (code, _, err) = littlefs(&["info", "--dialect", "camel", &image]);
    assert!(code == 1 && err.contains("auto, littlefs, chamelon"), "{err}");
}

#[test]
fn check_exits_as_ever() {
    let (_file, image) = file(&written());
    for repair in ["-n", "--repair", "-p", "-y"] {
        let (code, out, _) = littlefs(&["check", repair, &image]);
        assert!(code == 0 && out.contains("clean, 0 errors, 1 note"), "{out}");
        assert!(out.contains("littlefs convert --from chamelon"), "{out}");
    }
    let (_file, image) = file(&damaged());
    let (code, out, _) = littlefs(&["check", &image]);
    assert_eq!(code, 4);
    assert!(out.contains("error: /old: bytes 0..512 are lost"), "{out}");
    for repair in ["--repair", "-p", "-y"] {
        let (code, out, err) = littlefs(&["check", repair, "--json", &image]);
        let json: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &json["exit"]), (4, &4.into()));
        let stopped = json["stopped"].as_str().expect("a reason");
        assert!(stopped.contains("littlefs convert --from chamelon"), "{stopped}");
        assert!(err.contains(stopped), "{err}");
        assert_eq!(json["findings"][1]["code"], "block-shared");
    }
    assert!(fs::read(&image).expect("readable") == damaged(), "the image was changed");
}

#[test]
fn a_key_value_store_as_chamelon_reads_it() {
    let (_file, image) = file(&written());
    let options = kv::Options { read_only: true, ..kv::Options::default() };
    let store = {
        let opened = open(&image);
        assert_eq!((opened.dialect, opened.read_only), (Dialect::Chamelon, true));
        kv::Store::connect(opened.device, &options).expect("connects")
    };
    for (path, (size, sum)) in manifest() {
        let key = kv::Key::new(&path).expect("a key");
        let bytes = store.get(&key).expect("readable");
        assert_eq!((bytes.len() as u64, sha1(&bytes)), (size, sum), "{path}");
        assert_eq!(store.size(&key).expect("there"), size);
    }
    let large = kv::Key::new("z-large").expect("a key");
    let time = store.last_modified(&large).expect("a time");
    assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::new(1_795_171_641, 250_772_215));
    drop(store);

    let (code, out, _) = littlefs(&["kv", &image, "list", "a/sub1"]);
    assert_eq!((code, &*out), (0, "/a/sub1/file0\n/a/sub1/file1\n/a/sub1/file2\n"));
    let remedy = format!("'littlefs convert --from chamelon {image}'");
    for change in [
        &["set", "a/new", "1"][..],
        &["set-partial", "z-large", "7", "1"],
        &["rename", "z-large", "z"],
        &["remove", "a"],
        &["allocate", "new", "7"],
        &["batch"],
    ] {
        let (code, _, err) = littlefs(&[&["kv", &image], change].concat());
        assert!(code == 1 && err.contains(&remedy), "{change:?}: {err}");
    }
    assert!(fs::read(&image).expect("readable") == written(), "the image was changed");

    // converted, it takes changes, with times of the same kind
    assert_eq!(littlefs(&["convert", "--from", "chamelon", &image]).0, 0);
    assert_eq!(littlefs(&["kv", &image, "set", "a/new", "1"]).0, 0);
    let (code, out, _) = littlefs(&["kv", &image, "last-modified", "z-large"]);
    assert_eq!((code, &*out), (0, "2026-11-20T10:47:21.250772215Z\n"));
    let opened = open(&image);
    assert_eq!((opened.dialect, opened.read_only), (Dialect::Littlefs, false));
    let mut fs = Fs::open(opened.device, &OpenOptions::default()).expect("opens");
    let Node::Dir(a) = fs.lookup(ROOT, b"a").expect("there") else { panic!("no directory") };
    assert_eq!(fs.get_attr(At::Entry(a, b"new"), TIME).expect("a time").len(), 12);
}
