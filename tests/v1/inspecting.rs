//! Both blocks of a pair, lists with their pointers, and what is damaged in them.

use std::process::Command;

use serde_json::Value;

use super::{file, littlefs, sample, varied};
use testkit::tree::Kind;
use testkit::v1::{Entry, MOVED, V1};

/// The only report that `inspect` prints, with its exit status.
fn report(image: &str, args: &[&str]) -> (i32, Value) {
    let (code, out, err) = littlefs(&[&["inspect", "--json", image], args].concat());
    assert_eq!(err, "", "{args:?}");
    let reports: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(reports.as_array().map(Vec::len), Some(1), "{args:?}");
    (code, reports[0].clone())
}

fn sound(image: &str, args: &[&str]) -> Value {
    let (code, report) = report(image, args);
    assert_eq!(code, 0, "{args:?}: {report:#}");
    report
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}")) as usize
}

/// A list can claim any number of blocks. The blocks that exist are shown once.
#[test]
fn lists_that_go_in_circles_end() {
    let mut v1 = sample(512);
    let entry = v1.entry("large");
    let head = entry.words[0];
    entry.words[1] = 64 * 1024;
    let mut bytes = v1.image();
    // its first pointer leads to itself
    bytes[head as usize * 512..][..4].copy_from_slice(&head.to_le_bytes());
    let (_dir, image) = file(&bytes);
    let (code, file) = report(&image, &["file", "/large"]);
    assert_eq!((code, file["blocks"].as_array().map(Vec::len)), (2, Some(1)), "{file:#}");
    assert!(file["damage"].to_string().contains("goes in circles"), "{file:#}");
}

#[test]
fn superblocks_and_pairs() {
    let mut v1 = sample(512);
    v1.thread[0].rev = 5;
    v1.entry("exact").kind |= MOVED;
    v1.entry("large").attrs = vec![1, 2, 3];
    let bytes = v1.image();
    let (_dir, image) = file(&bytes);
    let superblock = sound(&image, &["superblock"]);
    let copies = superblock["copies"].as_array().expect("copies");
    assert_eq!((copies.len(), &copies[0]["counts"]), (2, &true.into()), "{superblock:#}");
    assert_eq!(copies[1]["root"], serde_json::json!(v1.root));

    let [a, b] = v1.thread[0].blocks;
    let pair = sound(&image, &["pair", &format!("{b},{a:#x}")]);
    assert_eq!(pair["used_as"], "of directory /");
    let [older, live] = [&pair["halves"][0], &pair["halves"][1]];
    assert_eq!((&older["state"], &live["state"]), (&"superseded".into(), &"live".into()));
    let stored = v1.block(0);
    let word = |at: usize| u32::from_le_bytes(stored[at..at + 4].try_into().expect("four"));
    assert_eq!(number(live, "size"), stored.len());
    assert_eq!(number(live, "crc_stored"), word(stored.len() - 4) as usize);
    assert_eq!(live["tail"], serde_json::json!([word(8), word(12)]));
    assert_eq!((&live["continues"], &live["crc_computed"]), (&false.into(), &live["crc_stored"]));
    let entries = live["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), v1.thread[0].entries.len());
    let mut at = 16;
    for (shown, entry) in entries.iter().zip(&v1.thread[0].entries) {
        let bytes = &stored[at..at + entry.size()];
        assert_eq!((number(shown, "offset"), number(shown, "type_byte")), (at, bytes[0].into()));
        let lengths = ["entry_length", "attribute_length", "name_length"];
        let lengths = lengths.map(|key| number(shown, key) as u8);
        assert_eq!(lengths, bytes[1..4], "{shown}");
        assert_eq!(shown["moved"], entry.kind & MOVED != 0);
        assert_eq!(shown["name"], String::from_utf8(entry.name.clone()).expect("text"));
        at += entry.size();
    }
    // nothing has its content under another name, so it is still there
    let root = sound(&image, &["dir", "/"]);
    let moved = root["moved"].as_array().expect("a list");
    assert_eq!((moved.len(), &moved[0]["name"]), (1, &"exact".into()), "{root:#}");
    assert_eq!(moved[0]["pair"], serde_json::json!([a, b]));
    let (_, text, _) = littlefs(&["inspect", &image, "dir", "/"]);
    assert!(text.contains("\"exact\": its rename was interrupted\n"), "{text}");
    let [block, index] = [v1.find("large").0, v1.find("large").1];
    assert_eq!((block, &entries[index]["attributes_hex"]), (0, &"010203".into()));
    let (_, text, _) = littlefs(&["inspect", &image, "pair", &format!("{b},{a}")]);
    for words in ["superseded, revision 4 ", "live, revision 5", "CRC matches", "m0x", " 91 REG "] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    let raw = command.args(["inspect", "--raw", &image, "pair", &format!("{b},{a}")]).output();
    let raw = raw.expect("starts").stdout;
    let block = |n: u32| &bytes[n as usize * 512..][..512];
    assert!(raw == [block(b), block(a)].concat(), "not the bytes of both");
    let block = sound(&image, &["block", &a.to_string()]);
    assert_eq!(block["metadata"]["state"], "live");
}

#[test]
fn files_and_their_history() {
    let mut v1 = sample(128);
    v1.thread.iter_mut().for_each(|pair| pair.rev = 9);
    let bytes = v1.image();
    let (_dir, image) = file(&bytes);
    let large = sound(&image, &["file", "large"]);
    let Kind::File(expected) = &varied(128)[&b"large"[..]].kind else { unreachable!() };
    let mut content = Vec::new();
    let blocks = large["blocks"].as_array().expect("blocks");
    assert!(blocks.len() > 8);
    for block in blocks.iter().rev() {
        assert!(block["agrees"] == true && number(block, "position") == content.len(), "{block}");
        let at = number(block, "block") * 128 + number(block, "data_offset");
        content.extend_from_slice(&bytes[at..at + number(block, "bytes")]);
    }
    assert!(&content == expected, "not the content");
    let (pair, index) = v1.find("large");
    assert_eq!(number(&large, "id"), index);
    assert_eq!(large["pair"], serde_json::json!(v1.thread[pair].blocks));
    let empty = sound(&image, &["file", "e/number-0"]);
    assert_eq!(empty["storage"], "empty, without a block");
    let log = sound(&image, &["log", "large"]);
    let steps = log["steps"].as_array().expect("steps");
    assert!(steps[0].get("entry").is_none() && steps[1]["entry"]["name"] == "large", "{log:#}");
    let (code, _, err) = littlefs(&["inspect", &image, "file", "gone"]);
    assert!(code == 1 && err.contains("no such file"), "{err}");
}

#[test]
fn what_is_torn_and_what_is_damaged() {
    let v1 = sample(512);
    let [a, b] = v1.thread[0].blocks.map(|block| block as usize);
    let pair = format!("{a},{b}");
    // the newer block was not written to its end
    let mut image = v1.image();
    let mut newer = v1.block(0);
    newer[0] += 1;
    image[b * 512..b * 512 + newer.len() - 4].copy_from_slice(&newer[..newer.len() - 4]);
    let (_dir, path) = file(&image);
    let torn = sound(&path, &["pair", &pair]);
    assert_eq!(
        (&torn["halves"][0]["state"], &torn["halves"][1]["state"]),
        (&"live".into(), &"invalid".into())
    );
    let (_, text, _) = littlefs(&["inspect", &path, "pair", &pair]);
    assert!(text.contains("not valid, revision 2") && text.contains("the bytes give"), "{text}");
    assert!(text.contains("!0x0010 "), "{text}");
    // neither is valid
    image[a * 512 + 20] ^= 1;
    let (_dir, path) = file(&image);
    let (code, text, _) =
        littlefs(&["inspect", "--dialect", "v1", "--block-size", "512", &path, "pair", &pair]);
    assert!(code == 2 && text.contains("damage: the CRC of neither block matches"), "{text}");
}

/// Each finding names the command that shows it, and that command does.
#[test]
fn findings_can_be_looked_at() {
    let mut short = sample(512);
    let words = short.list(b"x");
    short.append(0, Entry { kind: 0x11, name: b"twice".to_vec(), words, attrs: Vec::new() });
    short.append(0, Entry { kind: 0x11, name: b"twice".to_vec(), words, attrs: Vec::new() });
    let mut far = sample(512);
    far.entry("large").words[0] = 200;
    let mut shared = sample(512);
    shared.entry("large").words = shared.entry("exact").words;
    let mut lost = sample(512);
    lost.entry("e").words = [190, 191];
    let mut moved = sample(512);
    moved.entry("a/file0").kind |= MOVED;
    let mut images: Vec<Vec<u8>> =
        [short, far, shared, lost, moved].iter().map(V1::image).collect();
    let mut half = sample(512).image();
    half[..512].fill(0xff);
    images.push(half);
    for bytes in images {
        let (_dir, image) = file(&bytes);
        let (code, out, _) = littlefs(&["check", &image]);
        let findings: Vec<&str> = out.lines().collect();
        for (finding, see) in findings.iter().zip(&findings[1..]) {
            if !finding.ends_with(']') || finding.ends_with("[dialect]") {
                continue;
            }
            let command = see.strip_prefix("  see: littlefs ").unwrap_or_else(|| panic!("{out}"));
            let args: Vec<String> = command.split(' ').map(|arg| arg.replace('\'', "")).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (shown, text, err) = littlefs(&args);
            let is_error = finding.starts_with("error");
            // a name that is there twice is shown twice, and no damage by itself
            let expected =
                if is_error && !finding.ends_with("[name-duplicate]") { 2 } else { shown };
            assert!(shown == expected && !text.is_empty(), "{command}: {shown} {text}{err}");
            assert!([0, 2].contains(&shown), "{command}: {text}{err}");
        }
        assert!([0, 4].contains(&code), "{out}");
    }
}
