//! `scan` lists everything that is in files.

use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::generators::*;
use testkit::desk::Desk;

#[test]
fn everything_is_listed_with_the_command_that_opens_it() {
    let desk = Desk::new();
    let spiffs = partition("spiffs", (1, 0x82), 0x29_0000, 0x4_0000, 0);
    let bytes = flash(
        0x40_0000,
        &[(0x8000, &table(&spiffs)), (0x29_0000, &image()), (0x30_0058, &image_with(b"odd\n"))],
    );
    desk.file("my dump.bin", &bytes);
    let ran = desk.ok(&["scan", "--json", "my dump.bin"]);
    let report = ran.json();
    let file = &report["files"][0];
    assert_eq!((&file["file"], &file["size"]), (&json!("my dump.bin"), &json!(0x40_0000)));
    assert_eq!(
        file["filesystems"][0],
        json!({
            "number": 1, "offset": 0x29_0000, "size": 0x4_0000, "version": "2.1", "block_size": 4096,
            "block_count": 64, "partition": "spiffs", "sound": true,
            "command": "littlefs mount -o offset=0x290000 'my dump.bin' DIR",
        })
    );
    assert_eq!(
        (&file["filesystems"][1]["offset"], &file["filesystems"][1]["sound"]),
        (&json!(0x30_0058), &json!(true))
    );
    let table = &file["partition_tables"][0];
    assert_eq!((&table["offset"], &table["md5"]), (&json!(0x8000), &json!(null)));
    assert_eq!(
        table["partitions"][3],
        json!({
            "label": "spiffs", "type": 1, "subtype": 0x82, "subtype_name": "spiffs",
            "offset": 0x29_0000, "size": 0x4_0000, "encrypted": false,
        })
    );
    let text = desk.ok(&["scan", "my dump.bin"]);
    for words in ["partition table at 0x8000", "1: offset 2686976 (0x290000), partition spiffs"] {
        assert!(text.text().contains(words), "{}", text.text());
    }
    // the offsets that are named open
    for offset in ["0x290000", "0x300058"] {
        desk.ok(&["ls", "--offset", offset, "my dump.bin"]);
    }
}

#[test]
fn what_is_doubtful_or_cut_short_is_marked() {
    let desk = Desk::new();
    let image = image();
    let mut lost = image.clone();
    lost[..4096].fill(0xff);
    desk.file("lost.img", &lost);
    // without free blocks at its end it is whole; without one that is in use it is not
    let cut = (2..64).rev().find(|&blocks| {
        desk.file("cut.img", &image[..blocks * 4096]);
        let report = desk.run(&["scan", "--json", "cut.img"]).json();
        report["files"][0]["filesystems"][0]["sound"] == false
    });
    let missing = (64 - cut.expect("some blocks are in use")) * 4096;
    let report = desk.ok(&["scan", "--json", "cut.img", "lost.img"]).json();
    let cut = &report["files"][0]["filesystems"][0];
    assert_eq!(cut["remark"], format!("truncated: it lacks {missing} bytes at its end"));
    assert_eq!(cut["command"], "littlefs mount -o ro,offset=0x0 cut.img DIR");
    let lost = &report["files"][1]["filesystems"][0];
    assert_eq!((&lost["sound"], &lost["offset"]), (&json!(true), &json!(0)));
    assert_eq!(lost["remark"], "the superblock in block 0 is lost");
}

#[test]
fn nothing_found_or_not_readable_is_told_by_the_exit_status() {
    let desk = Desk::new();
    desk.file("blank", &[0xff; 65536]).file("empty", b"").file("good.img", &image());
    desk.file("bad.uf2", &{
        let mut bytes = uf2(&image(), 0);
        bytes[512 + 16] = 0xff;
        bytes[512 + 17] = 0xff;
        bytes
    });
    let ran = desk.run(&["scan", "blank"]);
    assert_eq!((ran.code, ran.text().contains("no littlefs")), (1, true));
    let ran = desk.fails(&["scan", "good.img", "empty"], 1, &["empty: not a littlefs image"]);
    assert!(ran.text().contains("good.img"), "the others are listed: {}", ran.text());
    let ran =
        desk.fails(&["scan", "--json", "missing", "bad.uf2", "good.img"], 1, &["no such file"]);
    let files = &ran.json()["files"];
    assert!(files[0]["error"].as_str().is_some_and(|e| e.contains("no such file")), "{files}");
    assert!(files[1]["error"].as_str().is_some_and(|e| e.contains("block 1")), "{files}");
    assert_eq!(files[2]["filesystems"][0]["number"], 1);
    desk.ok(&["scan", "good.img"]);
}

/// What was found in other formats, and the options that open it.
#[test]
fn wrapped_files_are_looked_through() {
    let desk = Desk::new();
    let rp2040 = flash(0x20_0000, &[(0, &[7; 256]), (0x1c_0000, &image())]);
    desk.file("a.uf2.gz", &compressed("gzip", &uf2(&rp2040, 0x1000_0000)));
    let report = desk.ok(&["scan", "--json", "a.uf2.gz"]).json();
    let file = &report["files"][0];
    assert_eq!((&file["formats"], &file["base"]), (&json!(["gzip", "UF2"]), &json!(0x1000_0000)));
    assert_eq!(
        file["filesystems"][0]["command"],
        "littlefs mount -o ro,offset=0x1c0000 a.uf2.gz DIR"
    );
}

/// A file of 256 GiB which is nearly all a hole. Reading the hole would take hours.
#[test]
fn holes_are_passed_over() {
    let desk = Desk::new();
    desk.file("sparse", b"");
    let file = std::fs::OpenOptions::new().write(true).open(desk.path("sparse")).expect("a file");
    file.write_all_at(&image(), 100 << 30).expect("room");
    file.set_len(256 << 30).expect("a hole");
    let report = desk.ok(&["scan", "--json", "sparse"]).json();
    let found = &report["files"][0]["filesystems"];
    assert_eq!((&found[0]["offset"], &found[1]), (&json!(100_u64 << 30), &json!(null)));
    assert_eq!(desk.ok(&["cat", "sparse", "hello.txt"]).text(), "hi\n");
    file.set_len(0).and_then(|()| file.set_len(256 << 30)).expect("a hole");
    let ran = desk.run(&["scan", "sparse"]);
    assert_eq!((ran.code, ran.text().contains("no littlefs")), (1, true), "{ran:?}");
}
