//! Chips and their layouts: they give a name to what is found, and explain it.

use serde_json::{Value, json};

use crate::generators::*;
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

fn scan(desk: &Desk, name: &str) -> Value {
    desk.run(&["scan", "--json", name]).json()["files"][0].clone()
}

/// A filesystem of the C driver with one file.
fn filesystem(block_size: u32, blocks: u32) -> Vec<u8> {
    let mut c = CLfs::fresh(&Config::new(block_size, blocks, 64)).expect("format");
    c.write_file(b"hello.txt", b"hi\n").expect("write");
    c.unmount()
}

/// The header of a program for the ESP8266: magic, segments, mode, size and speed, entry point.
fn esp8266(size: u8) -> Vec<u8> {
    [&[0xe9, 1, 2, size << 4][..], &0x4010_f000_u32.to_le_bytes()].concat()
}

#[test]
fn maps_of_esp8266_are_named() {
    let desk = Desk::new();
    let places = [
        (4, 0x40_0000, 0x20_0000, 8192, 253, "4m2m"),
        (4, 0x40_0000, 0x30_0000, 8192, 125, "4m1m"),
        // several maps begin there: the one of that size
        (3, 0x20_0000, 0x10_0000, 8192, 125, "2m1m"),
        (4, 0x40_0000, 0x10_0000, 8192, 381, "4m3m"),
        (2, 0x10_0000, 0xd_b000, 4096, 32, "1m128"),
        // the header's size is wrong more often than not
        (2, 0x40_0000, 0x20_0000, 8192, 253, "4m2m"),
    ];
    for (size, flash_size, at, block_size, blocks, map) in places {
        let image = filesystem(block_size, blocks);
        desk.file("dump.bin", &flash(flash_size, &[(0, &esp8266(size)), (at, &image)]));
        let report = scan(&desk, "dump.bin");
        assert_eq!(report["chip"]["name"], "ESP8266");
        let layout = json!({ "name": map, "offset": at, "size": image.len() });
        assert_eq!(report["filesystems"][0]["layout"], layout, "{report}");
        desk.ok(&["ls", "dump.bin"]);
    }
    // a filesystem of another size there, and one elsewhere
    desk.file(
        "dump.bin",
        &flash(0x40_0000, &[(0, &esp8266(4)), (0x20_0000, &filesystem(4096, 16))]),
    );
    let text = desk.ok(&["scan", "dump.bin"]).text().to_owned();
    assert!(
        text.contains("where the layout 2m1m has") || text.contains(" has a filesystem of "),
        "{text}"
    );
    desk.file(
        "dump.bin",
        &flash(0x40_0000, &[(0, &esp8266(4)), (0x21_0000, &filesystem(4096, 16))]),
    );
    let report = scan(&desk, "dump.bin");
    assert_eq!(report["filesystems"][0]["layout"], Value::Null);
    // nothing is there: where it could be
    desk.file("dump.bin", &flash(0x40_0000, &[(0, &esp8266(4))]));
    let ran = desk.run(&["scan", "dump.bin"]);
    assert!(ran.text().contains("in the layout 4m3m, it would be at 0x100000"), "{}", ran.text());
    assert_eq!(ran.code, 1);
}

/// The second stage of RP2040's boot loader: 252 bytes and their checksum.
fn boot2() -> Vec<u8> {
    let code: Vec<u8> = (0..252_u32).map(|i| (i * 7) as u8).collect();
    let mut crc = u32::MAX;
    for bit in code.iter().flat_map(|byte| (0..8).rev().map(move |k| u32::from(byte >> k & 1))) {
        let carry = crc >> 31 ^ bit;
        crc = crc << 1 ^ if carry == 1 { 0x04c1_1db7 } else { 0 };
    }
    [code, crc.to_le_bytes().to_vec()].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Binary info: header, pointers, an entry of another type, and a block device.
fn binary_info(name: &str, address: u32, size: u32) -> [(usize, Vec<u8>); 5] {
    let entry = [words(&[0x5052 << 16 | 7, 0x1000_2100, address, size, 0]), vec![0x13, 0]].concat();
    [
        (0x1d4, words(&[0x7188_ebf2, 0x1000_2000, 0x1000_2008, 0x1000_3000, 0xe71a_a390])),
        (0x2000, words(&[0x1000_2040, 0x1000_2080])),
        (0x2040, words(&[0x5052 << 16 | 6, 0x0203_1c86, 0x1000_2100])),
        (0x2080, entry),
        (0x2100, [name.as_bytes(), &[0]].concat()),
    ]
}

#[test]
fn block_devices_in_binary_info_are_partitions() {
    let desk = Desk::new();
    let (meant, other) = (image(), image_with(b"other\n"));
    let info = binary_info("MicroPython", 0x1010_0000, 0x10_0000);
    let boot = boot2();
    let mut parts: Vec<(usize, &[u8])> = info.iter().map(|(at, b)| (*at, &b[..])).collect();
    parts.extend([(0, &boot[..]), (0x10_0000, &meant), (0x18_0000, &other)]);
    let bytes = flash(0x20_0000, &parts);
    desk.file("rp2.bin", &bytes).file("rp2.uf2", &uf2(&bytes, 0x1000_0000));
    for name in ["rp2.bin", "rp2.uf2"] {
        let report = scan(&desk, name);
        assert_eq!(report["chip"]["name"], "RP2040");
        let table = &report["partition_tables"][0];
        assert_eq!((&table["kind"], &table["offset"]), (&json!("binary-info"), &json!(0x1d4)));
        let partition = &table["partitions"][0];
        assert_eq!(partition["label"], "MicroPython");
        assert_eq!(
            (&partition["offset"], &partition["size"]),
            (&json!(0x10_0000), &json!(0x10_0000))
        );
        // of two sound filesystems the named one is meant, as with any partition table
        assert_eq!(desk.ok(&["cat", name, "hello.txt"]).text(), "hi\n");
        let ran = desk.ok(&["cat", "--partition", "MicroPython", name, "hello.txt"]);
        assert_eq!(ran.text(), "hi\n");
        let ran = desk.ok(&["cat", "--partition", "2", name, "hello.txt"]);
        assert_eq!(ran.text(), "other\n");
    }
    let text = desk.ok(&["scan", "rp2.bin"]).text().to_owned();
    assert!(text.contains("binary info at 0x1d4\n    MicroPython "), "{text}");
}

/// Pointers that lead nowhere, tables without an end, and names without an end.
#[test]
fn broken_binary_info_is_no_table() {
    let desk = Desk::new();
    let headers = [
        words(&[0x7188_ebf2, 0x1000_2000, 0xffff_ffff, 0, 0xe71a_a390]),
        words(&[0x7188_ebf2, 0x2000, 0x2008, 0, 0xe71a_a390]),
        words(&[0x7188_ebf2, 0x1000_2008, 0x1000_2000, 0, 0xe71a_a390]),
        words(&[0x7188_ebf2, 0x1fff_fff0, 0x1fff_fff8, 0, 0xe71a_a390]),
        words(&[0x7188_ebf2]),
    ];
    for header in headers {
        desk.file("rp2.bin", &flash(0x20_0000, &[(0xff0, &header), (0x10_0000, &image())]));
        let report = scan(&desk, "rp2.bin");
        assert_eq!(report["partition_tables"], json!([]));
        desk.ok(&["ls", "rp2.bin"]);
    }
}

/// Bytes, and their position in the flash.
type Part<'a> = (usize, &'a [u8]);

#[test]
fn ends_of_rp2_and_places_of_nrf52_are_named() {
    let desk = Desk::new();
    let (boot, image) = (boot2(), image());
    let block = words(&[0xffff_ded3, 0x1021_0142, 0xff, 0, 0xab12_3579]);
    let softdevice = words(&[0x51b1_e5db]);
    let small = filesystem(128, 224);
    let cases: [(usize, Part<'_>, Part<'_>, &str, Value); 6] = [
        (0x20_0000, (0, &boot), (0x1c_0000, &image), "RP2040", json!("MicroPython")),
        (0x20_0000, (0, &boot), (0x1b_f000, &image), "RP2040", json!("arduino-pico")),
        (0x40_0000, (0x138, &block), (0x3b_e000, &image), "RP2350", json!("arduino-pico")),
        (0x20_0000, (0, &boot), (0x10_0000, &image), "RP2040", Value::Null),
        (
            0x10_0000,
            (0x3004, &softdevice),
            (0xe_d000, &small),
            "nRF52",
            json!("InternalFS of nRF52840"),
        ),
        (0x10_0000, (0x3004, &softdevice), (0xe_c000, &small), "nRF52", Value::Null),
    ];
    for (size, program, filesystem, chip, layout) in cases {
        desk.file("dump.bin", &flash(size, &[program, filesystem]));
        let report = scan(&desk, "dump.bin");
        assert_eq!(report["chip"]["name"], chip);
        assert_eq!(report["filesystems"][0]["layout"]["name"], layout, "{report}");
        assert_eq!(report["filesystems"][0]["offset"], filesystem.0);
    }
    // a filesystem at the first byte is no program
    desk.file("fs.img", &image);
    assert_eq!(scan(&desk, "fs.img")["chip"], Value::Null);
}
