//! `unwrap` and `wrap`: an image is taken out of a format and put back. Bytes that do not change
//! stay the same.

use crate::generators::*;
use testkit::desk::Desk;

/// Two regions that are far apart: a program, and the filesystem.
const FIRMWARE: u32 = 0x1000_0000;
const FILESYSTEM: u32 = 0x1800_0000;

#[test]
fn what_did_not_change_keeps_every_byte() {
    let desk = Desk::new();
    let image = image();
    desk.file("added", &[9; 50_000]);
    for (name, bytes) in [
        ("a.uf2", uf2(&image, 0x1010_0000)),
        ("b.uf2", joined(&uf2_blocks(&image, 64).into_iter().rev().collect::<Vec<_>>())),
        ("a.hex", intel_hex(&image, 0x1000_8000)),
        ("a.srec", srec(&image, 0x0800_0000)),
        ("a.dfu", dfuse(&[(0x0800_0000, &image[..9001]), (0x0800_0000 + 9001, &image[9001..])])),
    ] {
        desk.file(name, &bytes);
        desk.ok(&["unwrap", "--force", name, "raw"]);
        assert!(desk.read("raw") == image, "{name}");
        let ran = desk.ok(&["wrap", "--force", "--like", name, "raw", "new"]);
        assert!(ran.text().contains("0 records changed, 0 added"), "{name}: {}", ran.text());
        assert!(desk.read("new") == bytes, "{name}");

        // a change through the image taken out
        desk.ok(&["put", "-q", "raw", "added", "/added"]);
        desk.ok(&["wrap", "--force", "--like", name, "raw", "new"]);
        desk.check("new");
        assert!(desk.ok(&["cat", "new", "added"]).stdout == [9; 50_000], "{name}");
        desk.ok(&["unwrap", "--force", "new", "again"]);
        let (raw, again) = (desk.read("raw"), desk.read("again"));
        assert!(again == raw || raw[..again.len()] == again, "{name}");
    }
}

/// Each record whose content does not change stays the same, and stays in its place.
#[test]
fn only_records_that_change_are_written() {
    let desk = Desk::new();
    let bytes = uf2(&image(), 0x1010_0000);
    desk.file("a.uf2", &bytes);
    desk.ok(&["unwrap", "a.uf2", "raw"]);
    desk.ok(&["kv", "raw", "set", "small", "value"]);
    let ran = desk.ok(&["wrap", "--like", "a.uf2", "raw", "new.uf2"]);
    let new = desk.read("new.uf2");
    let changed = bytes.chunks(512).zip(new.chunks(512)).filter(|(a, b)| a != b).count();
    assert!((1..=20).contains(&changed), "{changed}");
    let records = if changed == 1 { "record" } else { "records" };
    let said = format!("{changed} {records} changed, 0 added");
    assert!(ran.text().contains(&said), "{}", ran.text());
}

/// Text keeps the case of its letters, its line ends and its order.
#[test]
fn the_style_of_text_is_kept() {
    let desk = Desk::new();
    let text = srec(&image(), 0).to_ascii_lowercase();
    let text: Vec<u8> = text
        .split_inclusive(|&b| b == b'\n')
        .flat_map(|line| [b"S", &line[1..line.len() - 1], b" \r\n"].concat())
        .collect();
    desk.file("a.srec", &text);
    desk.ok(&["unwrap", "a.srec", "raw"]);
    desk.ok(&["kv", "raw", "set", "a", "b"]);
    desk.ok(&["wrap", "--like", "a.srec", "raw", "new.srec"]);
    let new = desk.read("new.srec");
    assert_eq!(new.len(), text.len());
    assert!(new.iter().all(|b| !matches!(b, b'A'..=b'F')));
    assert_eq!(desk.ok(&["kv", "new.srec", "get", "a"]).stdout, b"b");
}

/// Gaps stay gaps as long as their content is erased. Otherwise, records are added.
#[test]
fn gaps_stay_gaps() {
    let desk = Desk::new();
    let image = image();
    let blocks: Vec<Uf2> = uf2_blocks(&image, FILESYSTEM)
        .into_iter()
        .filter(|block| block.data.iter().any(|&b| b != 0xff))
        .collect();
    let count = blocks.len() as u32;
    let blocks: Vec<Uf2> = blocks
        .into_iter()
        .enumerate()
        .map(|(i, block)| Uf2 { number: i as u32, count, ..block })
        .collect();
    let elements: Vec<(u32, &[u8])> = vec![(0, &image[..0x2000]), (0x8000, &image[0x8000..])];
    for (name, bytes) in
        [("a.uf2", joined(&blocks)), ("a.hex", intel_hex(&image, 0)), ("a.dfu", dfuse(&elements))]
    {
        desk.file(name, &bytes);
        desk.ok(&["unwrap", "--force", name, "raw"]);
        desk.ok(&["wrap", "--force", "--like", name, "raw", "new"]);
        assert!(desk.read("new") == bytes, "{name}");
        // all blocks are filled
        let mut raw = desk.read("raw");
        raw.iter_mut().enumerate().filter(|(_, b)| **b == 0xff).for_each(|(i, b)| *b = i as u8 | 1);
        desk.file("raw", &raw);
        let ran = desk.ok(&["wrap", "--force", "--like", name, "raw", "new"]);
        assert!(!ran.text().contains(" 0 added"), "{name}: {}", ran.text());
        let ran = desk.ok(&["unwrap", "--force", "new", "again"]);
        assert_eq!(ran.stderr, "", "{name}: sound again");
        assert!(desk.read("again") == raw, "{name}");
    }
}

/// If there are several regions, the one with the filesystem is taken, or the one that was named.
#[test]
fn stretches_far_apart_are_told_apart() {
    let desk = Desk::new();
    let (image, firmware) = (image(), vec![0x11; 0x8000]);
    let bytes = [uf2(&firmware, FIRMWARE), uf2(&image, FILESYSTEM)].concat();
    desk.file("both.uf2", &bytes);
    let ran = desk.ok(&["unwrap", "both.uf2", "raw"]);
    assert!(ran.text().contains("from address 0x18000000"), "{}", ran.text());
    assert!(desk.read("raw") == image);
    desk.ok(&["kv", "raw", "set", "a", "b"]);
    desk.ok(&["wrap", "--like", "both.uf2", "raw", "new.uf2"]);
    let new = desk.read("new.uf2");
    let firmware_len = firmware.len() * 2;
    assert!(new[..firmware_len] == bytes[..firmware_len], "the program is as it was");
    assert_eq!(desk.ok(&["cat", "new.uf2", "a"]).stdout, b"b");

    desk.ok(&["unwrap", "--base", "0x10000000", "both.uf2", "firmware"]);
    assert!(desk.read("firmware") == firmware);
    desk.fails(&["unwrap", "--base", "0x20000000", "both.uf2", "x"], 1, &["nothing at address"]);
    let none = [uf2(&firmware, FIRMWARE), uf2(&firmware, FILESYSTEM)].concat();
    desk.file("none.uf2", &none);
    let words = ["--base 0x10000000 (32768 bytes) or --base 0x18000000"];
    desk.fails(&["unwrap", "none.uf2", "x"], 1, &words);
}

#[test]
fn new_files_are_made_in_every_format() {
    let desk = Desk::new();
    let image = image();
    desk.file("fs.img", &image);
    for (format, base) in
        [("uf2", "0x101c0000"), ("hex", "0x7fff8"), ("srec", "0xed000"), ("dfu", "0")]
    {
        let name = format!("fs.{format}");
        let args = ["wrap", "--format", format, "--base", base, "fs.img", &name];
        let family: &[&str] = if format == "uf2" { &["--family", "rp2040"] } else { &[] };
        desk.ok(&[&args[..], family].concat());
        let report = desk.ok(&["scan", "--json", &name]).json();
        let wanted = u64::from_str_radix(base.trim_start_matches("0x"), 16).expect("hex");
        assert_eq!(report["files"][0]["base"], wanted, "{format}");
        assert_eq!(report["files"][0]["notes"], serde_json::json!([]), "{format}");
        desk.ok(&["unwrap", "--force", &name, "raw"]);
        assert!(desk.read("raw") == image, "{format}");
    }
    // as our own generators have them
    assert!(desk.read("fs.uf2") == uf2(&image, 0x101c_0000));
    let hex = String::from_utf8(desk.read("fs.hex")).expect("text");
    assert!(hex.starts_with(":020000040007F3\n:08FFF800"), "{}", &hex[..80]);
    assert!(hex.ends_with(":00000001FF\n"));
    let base = ["wrap", "--format", "hex", "--base", "0xffffff00", "fs.img", "x"];
    desk.fails(&base, 1, &["addresses of 32 bits"]);
    let family = ["wrap", "--format", "hex", "--family", "rp2040", "fs.img", "x"];
    desk.fails(&family, 1, &["--family is only for UF2 files"]);
    let family = ["wrap", "--format", "uf2", "--family", "none", "fs.img", "x"];
    desk.fails(&family, 1, &["rp2040", "nrf52840"]);
    desk.fails(&["wrap", "fs.img", "x"], 1, &["--format"]);
    assert!(!desk.path("x").exists(), "a failure leaves nothing");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let desk = Desk::new();
    desk.file("a.uf2", &uf2(&image(), 0)).file("raw", b"mine").file("plain.img", &image());
    desk.fails(&["unwrap", "a.uf2", "raw"], 1, &["raw: exists already; --force overwrites it"]);
    desk.fails(&["unwrap", "--force", "a.uf2", "a.uf2"], 1, &["is also the file that is read"]);
    let like = ["wrap", "--force", "--like", "a.uf2", "raw", "a.uf2"];
    desk.fails(&like, 1, &["is also the file that is read"]);
    // the rest of the old content would stay behind a shorter one
    desk.fails(&["wrap", "--like", "a.uf2", "raw", "new"], 1, &["raw: has 4 bytes, but"]);
    desk.fails(&["unwrap", "a.uf2", "no/such/directory"], 1, &["no/such/directory"]);
    desk.fails(&["unwrap", "plain.img", "new"], 1, &["there is nothing to unwrap"]);
    desk.fails(
        &["wrap", "--like", "plain.img", "raw", "new"],
        1,
        &["plain.img: is not a UF2", "--format"],
    );
    desk.file("a.gz", &compressed("gzip", &image()));
    desk.fails(&["wrap", "--like", "a.gz", "raw", "new"], 1, &["gzip cannot be made"]);
    assert_eq!(desk.read("raw"), b"mine");
    assert!(!desk.path("new").exists());
    desk.ok(&["unwrap", "--force", "a.uf2", "raw"]);
    assert!(desk.read("raw") == image());
}

#[test]
fn what_cannot_be_wrapped_or_put_there_is_told() {
    let desk = Desk::new();
    desk.file("a.img", &image()).file("empty", b"");
    desk.ok(&["wrap", "--format", "uf2", "a.img", "a.uf2"]);
    for format in ["uf2", "hex", "srec", "dfu"] {
        let wrap = ["wrap", "--format", format];
        desk.fails(&[&wrap[..], &["empty", "b"]].concat(), 1, &["no content"]);
        desk.fails(&[&wrap[..], &["a.img", "gone/b"]].concat(), 1, &["directory does not exist"]);
        let ran = desk.fails(
            &[&wrap[..], &["--base", "0xfffff000", "a.img", "b"]].concat(),
            1,
            &["from address 0xfffff000 on do not fit into addresses of 32 bits"],
        );
        assert!(!ran.stderr.contains("damaged"), "{}", ran.stderr);
    }
    desk.fails(&["unwrap", "a.uf2", "gone/b"], 1, &["gone/b: the directory does not exist"]);
    desk.fails(&["create", "--size", "64K", "gone/b", "."], 1, &["the directory does not exist"]);
    assert_eq!(desk.names("."), ["a.img", "a.uf2", "empty"]);
    let ran = desk.fails(&["put", "empty", "a.uf2", "/"], 1, &["empty: not a littlefs image"]);
    assert_eq!(ran.stderr.matches("empty: ").count(), 1, "{}", ran.stderr);
}
