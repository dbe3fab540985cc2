//! Which filesystem in a file is meant: the only sound one, or the one that the user names.

use crate::generators::*;
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

/// Two filesystems in one flash, each in its own partition.
fn two() -> Vec<u8> {
    let table = [
        partition("nvs", (1, 2), 0x9000, 0x5000, 0),
        partition("app0", (0, 0x10), 0x1_0000, 0x10_0000, 0),
        partition("conf", (1, 0x83), 0x11_0000, 0x4_0000, 0),
        partition("vfs", (1, 0x81), 0x20_0000, 0x4_0000, 0),
    ];
    let (conf, vfs) = (image_with(b"conf\n"), image_with(b"vfs\n"));
    flash(0x40_0000, &[(0x8000, &table.concat()), (0x11_0000, &conf), (0x20_0000, &vfs)])
}

#[test]
fn the_only_one_is_used_and_said() {
    let desk = Desk::new();
    desk.file("esp.bin", &esp32(&image()));
    let ran = desk.ok(&["ls", "esp.bin"]);
    assert!(ran.stderr.contains("offset=2686976 (0x290000), partition spiffs"), "{}", ran.stderr);
    // what is given is not said again
    for args in [["--offset", "0x290000"], ["--partition", "spiffs"], ["--partition", "1"]] {
        let ran = desk.ok(&[&["ls"][..], &args, &["esp.bin"]].concat());
        assert_eq!(ran.stderr, "", "{args:?}");
    }
    // a change goes there, says so, and nothing else changes
    let before = desk.read("esp.bin");
    desk.file("new", b"new");
    for args in [
        &["kv", "esp.bin", "set", "a", "b"][..],
        &["put", "esp.bin", "new", "/"],
        &["rm", "esp.bin", "new"],
        &["put", "-n", "esp.bin", "new", "/"],
        &["diff", "esp.bin", "esp.bin"],
    ] {
        let ran = desk.ok(args);
        assert!(ran.stderr.contains("starts at offset=2686976 (0x290000)"), "{args:?}: {ran:?}");
    }
    let after = desk.read("esp.bin");
    assert!(before[..0x29_0000] == after[..0x29_0000] && before[0x2d_0000..] == after[0x2d_0000..]);
    assert!(before != after);
    assert_eq!(desk.ok(&["cat", "esp.bin", "a"]).stdout, b"b");
}

#[test]
fn one_of_several_must_be_chosen() {
    let desk = Desk::new();
    desk.file("two.bin", &two());
    let words = ["offset=1114112 (0x110000)", "partition conf", "offset=2097152", "partition vfs"];
    desk.fails(&["ls", "two.bin"], 1, &words);
    desk.fails(&["kv", "two.bin", "set", "a", "b"], 1, &words);
    for (choice, content) in [("conf", "conf\n"), ("vfs", "vfs\n"), ("1", "conf\n"), ("2", "vfs\n")]
    {
        let ran = desk.ok(&["cat", "--partition", choice, "two.bin", "hello.txt"]);
        assert_eq!(ran.text(), content, "{choice}");
    }
    let ran = desk.ok(&["cat", "--offset", "0x200000", "two.bin", "hello.txt"]);
    assert_eq!(ran.text(), "vfs\n");
    let ran = desk.fails(&["ls", "--partition", "data", "two.bin"], 1, &["no partition is called"]);
    assert!(
        ran.stderr.contains("nvs app0 conf vfs; 'littlefs scan FILE' lists 2 filesystems"),
        "{}",
        ran.stderr
    );
    desk.fails(
        &["ls", "--partition", "3", "two.bin"],
        1,
        &["there is no filesystem with the number 3"],
    );
    desk.fails(&["ls", "--partition", "nvs", "two.bin"], 1, &["partition nvs holds no littlefs"]);
    desk.fails(&["ls", "--partition", "a name too long for it", "two.bin"], 1, &["1 to 16 bytes"]);
}

/// Neither the name nor the subtype in a partition table shows what is in the partition.
#[test]
fn what_a_partition_holds_counts_and_not_what_it_is_called() {
    let desk = Desk::new();
    for (label, subtype) in [("vfs", 0x81), ("ffat", 0x81), ("storage", 0x83), ("any", 0x06)] {
        let entry = partition(label, (1, subtype), 0x29_0000, 0x4_0000, 0);
        let table = table(&entry);
        // a FAT by its boot sector in the one called littlefs
        let fat = partition("littlefs", (1, 0x83), 0x30_0000, 0x4_0000, 0);
        let mut sector = vec![0; 512];
        sector[54..62].copy_from_slice(b"FAT12   ");
        let bytes = flash(
            0x40_0000,
            &[(0x8000, &[table, fat].concat()), (0x29_0000, &image()), (0x30_0000, &sector)],
        );
        desk.file("esp.bin", &bytes);
        let ran = desk.ok(&["ls", "esp.bin"]);
        assert!(ran.stderr.contains(&format!("partition {label}")), "{}", ran.stderr);
        desk.fails(&["ls", "--partition", "littlefs", "esp.bin"], 1, &["holds no littlefs"]);
    }
}

#[test]
fn a_sound_filesystem_at_the_first_byte_wins() {
    let desk = Desk::new();
    // with another image and a partition table among its files
    let config = Config::new(4096, 256, 128);
    let mut c = CLfs::fresh(&config).expect("format");
    c.write_file(b"backup.img", &esp32(&image())[0x28_0000..0x2d_0000]).expect("write");
    c.write_file(b"table.bin", &two()[0x8000..0x9000]).expect("write");
    desk.file("outer.img", &c.unmount());
    let ran = desk.ok(&["ls", "outer.img"]);
    assert_eq!((ran.text().matches("backup.img").count(), &ran.stderr[..]), (1, ""));
    let scan = desk.ok(&["scan", "--json", "outer.img"]).json();
    assert_eq!(scan["files"][0]["filesystems"].as_array().map(Vec::len), Some(1), "{scan}");
}

/// Things that look like filesystems: overwritten copies, the start of an old filesystem, the word
/// in a string.
#[test]
fn what_is_left_of_old_ones_does_not_win() {
    let desk = Desk::new();
    let mut stale = image();
    stale[2 * 4096..].fill(0);
    let bytes = flash(0x40_0000, &[(0x10_0000, &stale), (0x20_0000, &image())]);
    desk.file("old.bin", &bytes);
    let ran = desk.ok(&["ls", "old.bin"]);
    assert!(ran.stderr.contains("offset=2097152"), "{}", ran.stderr);
    // two of equal standing without a table, the older of which a table does not name
    let spiffs = partition("spiffs", (1, 0x82), 0x29_0000, 0x4_0000, 0);
    let parts: &[(usize, &[u8])] =
        &[(0x8000, &table(&spiffs)), (0x20_0000, &image_with(b"old\n")), (0x29_0000, &image())];
    desk.file("moved.bin", &flash(0x40_0000, parts));
    assert_eq!(desk.ok(&["cat", "moved.bin", "hello.txt"]).stdout, b"hi\n");
    // a block early it looks like an empty filesystem; named, it is only read
    desk.file("esp.bin", &esp32(&image()));
    let ran = desk.ok(&["ls", "--offset", "0x28f000", "esp.bin"]);
    assert!(ran.stderr.contains("offset=2686976 (0x290000), which is whole"), "{}", ran.stderr);
    desk.fails(&["kv", "--offset", "0x28f000", "esp.bin", "set", "a", "b"], 1, &["which is whole"]);
}

#[test]
fn encrypted_partitions_are_named_as_such() {
    let desk = Desk::new();
    let noise: Vec<u8> =
        (0..0x4_0000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let spiffs = partition("spiffs", (1, 0x82), 0x29_0000, 0x4_0000, 1);
    let bytes = flash(0x40_0000, &[(0x8000, &table(&spiffs)), (0x29_0000, &noise)]);
    desk.file("esp.bin", &bytes);
    let words = ["partition spiffs is marked as encrypted", "let the device read its own flash"];
    desk.fails(&["ls", "esp.bin"], 1, &words);
    desk.fails(&["ls", "--partition", "spiffs", "esp.bin"], 1, &words);
    let scan = desk.run(&["scan", "esp.bin"]);
    assert_eq!(scan.code, 1);
    assert!(scan.text().contains("0x290000+0x40000, encrypted"), "{}", scan.text());
    desk.file("data/a", b"a");
    let into = ["create", "--into", "--partition", "spiffs", "--force", "esp.bin", "data"];
    desk.fails(&into, 1, &words);
    // the flag alone does not make it unreadable: flash encryption may be off
    let bytes = flash(0x40_0000, &[(0x8000, &table(&spiffs)), (0x29_0000, &image())]);
    desk.file("esp.bin", &bytes).ok(&["ls", "--partition", "spiffs", "esp.bin"]);
}

/// Without directories and lists, a filesystem that has another superblock in its blocks may be copies
/// that belong to a filesystem which starts one block earlier. A table or the user settles this.
#[test]
fn a_table_settles_whether_superblocks_are_copies() {
    let mut c = CLfs::fresh(&Config::new(4096, 64, 128)).expect("format");
    c.write_file(b"hello.txt", b"hi\n").expect("write");
    let mut image = c.unmount();
    image.copy_within(..4096, 9 * 4096);
    let desk = Desk::new();
    desk.file("bare.bin", &flash(0x40_0000, &[(0x29_0000, &image)]));
    let refused = desk.run(&["ls", "bare.bin"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("may be copies"), "{}", refused.stderr);
    assert_eq!(desk.ok(&["ls", "--offset", "0x290000", "bare.bin"]).stdout, b"hello.txt\n");
    desk.file("esp.bin", &esp32(&image));
    assert_eq!(desk.ok(&["ls", "esp.bin"]).stdout, b"hello.txt\n");
    desk.ok(&["rm", "esp.bin", "hello.txt"]);
}

/// Tables at other places than 0x8000, with their MD5, and a dump that starts later in the flash.
#[test]
fn tables_are_found_wherever_they_are() {
    use md5::{Digest, Md5};
    let desk = Desk::new();
    let spiffs = partition("spiffs", (1, 0x82), 0x29_0000, 0x4_0000, 0);
    let mut table = table(&spiffs);
    let mut md5 = vec![0xeb, 0xeb];
    md5.resize(16, 0xff);
    md5.extend(Md5::digest(&table));
    table.extend(md5);
    for at in [0x8000, 0x9000, 0x1_0000, 0xd000] {
        desk.file("esp.bin", &flash(0x40_0000, &[(at, &table), (0x29_0000, &image())]));
        let scan = desk.ok(&["scan", "--json", "esp.bin"]).json();
        let found = &scan["files"][0]["partition_tables"][0];
        assert_eq!((&found["offset"], &found["md5"]), (&at.into(), &true.into()), "{scan}");
        assert_eq!(scan["files"][0]["filesystems"][0]["partition"], "spiffs", "{scan}");
    }
    table[5] ^= 1;
    desk.file("esp.bin", &flash(0x40_0000, &[(0x8000, &table), (0x29_0000, &image())]));
    assert!(desk.ok(&["scan", "esp.bin"]).text().contains("MD5 wrong"));
    table[5] ^= 1;
    // read from 0x1000 on, and with something before the flash
    let whole = flash(0x40_0000, &[(0x8000, &table), (0x29_0000, &image())]);
    for bytes in [whole[0x1000..].to_vec(), [&vec![0; 0x800][..], &whole].concat()] {
        desk.file("part.bin", &bytes);
        let ran = desk.ok(&["ls", "part.bin"]);
        assert!(ran.stderr.contains("partition spiffs"), "{}", ran.stderr);
        desk.ok(&["ls", "--partition", "spiffs", "part.bin"]);
    }
}

/// `create --into` with the name of a partition that has an old filesystem or is erased.
#[test]
fn a_partition_is_filled_by_name() {
    let desk = Desk::new();
    desk.file("data/page.html", b"<p>").file("two.bin", &two());
    let before = desk.read("two.bin");
    desk.ok(&["create", "-q", "--into", "--partition", "vfs", "two.bin", "data"]);
    let after = desk.read("two.bin");
    assert!(before[..0x20_0000] == after[..0x20_0000] && before[0x24_0000..] == after[0x24_0000..]);
    let cat = ["cat", "--partition", "vfs", "two.bin", "page.html"];
    assert_eq!(desk.ok(&cat).stdout, b"<p>");
    desk.ok(&["check", "--partition", "vfs", "two.bin"]);
    // an erased one is filled from its start to its end
    let mut bytes = two();
    bytes[0x20_0000..0x24_0000].fill(0xff);
    desk.file("two.bin", &bytes);
    desk.ok(&["create", "-q", "--into", "--partition", "vfs", "two.bin", "data"]);
    let info = desk.ok(&["info", "--json", "--partition", "vfs", "two.bin"]).json();
    assert_eq!((&info["offset"], &info["block_count"]), (&0x20_0000.into(), &64.into()));
    // never more than it, nor into what is something else
    let into = ["create", "--into", "--size", "512K", "--partition", "vfs", "two.bin", "data"];
    desk.fails(&into, 1, &["reach beyond the end"]);
    let mut bytes = two();
    bytes[0x9000..0xe000].fill(0x5a);
    desk.file("two.bin", &bytes);
    let into = ["create", "--into", "--partition", "nvs", "two.bin", "data"];
    desk.fails(&into, 1, &["something other than a littlefs"]);
    assert!(desk.read("two.bin") == bytes);
}
