//! UF2 as tools and devices write it: in any order, with repeated blocks, with blocks of others,
//! and several files in one.

use crate::generators::*;
use testkit::desk::Desk;

/// The place of the filesystem in these files.
const AT: u32 = 0x101c_0000;

fn reads(desk: &Desk, bytes: &[u8], what: &str) -> String {
    desk.file("a.uf2", bytes);
    let ran = desk.ok(&["cat", "a.uf2", "www/big.bin"]);
    assert_eq!(ran.stdout, big(), "{what}");
    ran.stderr
}

#[test]
fn blocks_may_be_in_any_order_and_repeated() {
    let desk = Desk::new();
    let mut blocks = uf2_blocks(&image(), AT);
    blocks.reverse();
    assert_eq!(reads(&desk, &joined(&blocks), "backwards"), "");
    let twice = [&blocks[..], &blocks[5..90]].concat();
    assert_eq!(reads(&desk, &joined(&twice), "some of them twice"), "");
    let mut other = blocks[7].clone();
    other.data[3] ^= 1;
    desk.file("a.uf2", &[joined(&blocks), other.bytes()].concat());
    desk.fails(&["ls", "a.uf2"], 1, &["two contents for address"]);
}

#[test]
fn what_is_not_for_the_flash_is_passed_over() {
    let desk = Desk::new();
    let mut blocks = uf2_blocks(&image(), AT);
    let stray = |flags, family, address| Uf2 {
        flags,
        address,
        data: vec![0x55; 256],
        number: 0,
        count: 1,
        family,
    };
    // not for the main flash; the block that RP2350 needs at the end of its flash
    blocks.insert(0, stray(1, RP2040, AT));
    blocks.insert(9, stray(0x2000, 0xe48b_ff57, 0x10ff_ff00));
    assert_eq!(reads(&desk, &joined(&blocks), "strays"), "");
    // of another family, which has the filesystem of another device at the same addresses
    let foreign: Vec<Uf2> = uf2_blocks(&vec![0x55; 0x8000], AT)
        .into_iter()
        .map(|block| Uf2 { family: 0xada5_2840, ..block })
        .collect();
    let said = reads(&desk, &joined(&[foreign, blocks].concat()), "another family first");
    assert!(said.contains("several contents; the one of family rp2040 is used"), "{said}");
}

#[test]
fn files_of_families_unknown_or_without_one_are_read() {
    let desk = Desk::new();
    for (flags, family) in [(0, 0), (0, 0x4_0000), (0x2000, 0x239a_0029)] {
        let blocks: Vec<Uf2> = uf2_blocks(&image(), AT)
            .into_iter()
            .map(|block| Uf2 { flags, family, ..block })
            .collect();
        assert_eq!(reads(&desk, &joined(&blocks), "family"), "");
    }
}

#[test]
fn several_files_in_one_are_read_together() {
    let desk = Desk::new();
    let firmware = uf2(&vec![0x11; 0x1_0000], 0x1000_0000);
    let bytes = [firmware, uf2(&image(), AT)].concat();
    let said = reads(&desk, &bytes, "firmware and filesystem");
    assert!(said.contains("its filesystem starts at offset=1835008"), "{said}");
    assert!(!said.contains("missing"), "{said}");
    desk.ok(&["ls", "--offset", "0x1c0000", "a.uf2"]);
}

/// Files of esptool: 452 bytes and an MD5 of the content in each block, numbered for each file.
#[test]
fn blocks_with_checksums_and_tags_are_read() {
    use md5::{Digest, Md5};
    let desk = Desk::new();
    let image = image();
    let count = image.len().div_ceil(452) as u32;
    let block = |(i, data): (usize, &[u8])| {
        let address = 0x29_0000 + i as u32 * 452;
        let block = Uf2 {
            flags: 0x6000,
            address,
            data: data.to_vec(),
            number: i as u32,
            count,
            family: 0x1c5f_21b0,
        };
        let mut bytes = block.bytes();
        let sum = [&address.to_le_bytes()[..], &(data.len() as u32).to_le_bytes()].concat();
        bytes[484..492].copy_from_slice(&sum);
        bytes[492..508].copy_from_slice(&Md5::digest(data));
        bytes
    };
    let bytes: Vec<u8> = image.chunks(452).enumerate().flat_map(block).collect();
    assert_eq!(reads(&desk, &bytes, "esptool"), "");
    // taken out, changed, and put back: the sums are right
    desk.ok(&["unwrap", "a.uf2", "raw"]);
    desk.ok(&["kv", "raw", "set", "new", "value"]);
    desk.ok(&["wrap", "--like", "a.uf2", "raw", "b.uf2"]);
    let changed = desk.read("b.uf2");
    assert_eq!(changed.len(), bytes.len());
    for block in changed.chunks(512) {
        let len = u32::from_le_bytes(block[16..20].try_into().expect("4")) as usize;
        assert_eq!(block[492..508], Md5::digest(&block[32..32 + len])[..]);
    }
    assert_eq!(desk.ok(&["kv", "b.uf2", "get", "new"]).stdout, b"value");
}

/// Files in a UF2 file: one of them holds a filesystem.
#[test]
fn a_file_in_a_container_of_files_is_read() {
    let desk = Desk::new();
    let named = |name: &str, bytes: &[u8]| -> Vec<u8> {
        let blocks = uf2_blocks(bytes, 0).into_iter().map(|block| Uf2 {
            flags: 0x1001,
            family: bytes.len() as u32,
            ..block
        });
        blocks
            .flat_map(|block| {
                let mut bytes = block.bytes();
                bytes[32 + 256..][..name.len()].copy_from_slice(name.as_bytes());
                bytes
            })
            .collect()
    };
    let bytes = [named("index.htm", &[b'x'; 1024]), named("fs.bin", &image())].concat();
    let said = reads(&desk, &bytes, "files");
    assert!(said.contains("the file \"fs.bin\" is used"), "{said}");
}

#[test]
fn missing_blocks_read_as_erased_and_are_counted() {
    let desk = Desk::new();
    let blocks = uf2_blocks(&image(), AT);
    // erased blocks at the end of the filesystem
    let some = [&blocks[..700], &blocks[710..]].concat();
    desk.file("a.uf2", &joined(&some));
    let ran = desk.run(&["cat", "a.uf2", "www/big.bin"]);
    assert!(ran.code == 2 && ran.stdout == big(), "ten fewer: {}", ran.stderr);
    let said = ran.stderr;
    assert!(said.contains("10 of its blocks are missing, and read as erased"), "{said}");
    // a file that is cut short
    desk.file("a.uf2", &joined(&blocks[..40]));
    let ran = desk.run(&["ls", "a.uf2"]);
    assert!(ran.stderr.contains("984 of its blocks are missing"), "{}", ran.stderr);
    assert!(ran.stderr.contains("truncated: the file lacks the last"), "{}", ran.stderr);
    // no complete file can be made from it, and what is made of its content is incomplete, too
    desk.ok(&["unwrap", "a.uf2", "raw"]);
    let like = ["wrap", "--like", "a.uf2", "raw", "new.uf2"];
    desk.fails(&like, 1, &["984 of its blocks are missing", "give --like a complete file"]);
    desk.file("cut", &image()[..40 * 256]);
    let ran = desk.ok(&["wrap", "--format", "uf2", "--base", "0x101c0000", "cut", "cut.uf2"]);
    assert!(ran.stderr.contains("the filesystem at byte 0 is truncated"), "{}", ran.stderr);
    // something else between the blocks
    let mut bytes = joined(&blocks);
    bytes.splice(512..512, [0; 512]);
    let said = reads(&desk, &bytes, "a gap");
    assert!(said.contains("1 of its blocks is not a UF2 block"), "{said}");
}

/// Without its first blocks, the content begins where their numbers say, and not at the first block
/// that is there.
#[test]
fn missing_first_blocks_leave_everything_in_its_place() {
    let desk = Desk::new();
    let blocks = uf2_blocks(&image(), AT);
    for (n, words) in [
        (1, "its first block is missing, and reads as erased"),
        (16, "its first 16 blocks are missing, and read as erased"),
    ] {
        let mut backwards = blocks[n..].to_vec();
        backwards.reverse();
        // in any order, and behind another file
        let firmware = uf2(&vec![0x11; 0x1000], AT + 0x10_0000);
        let after = [joined(&blocks[n..]), firmware].concat();
        for bytes in [joined(&blocks[n..]), joined(&backwards), after] {
            desk.file("a.uf2", &bytes);
            let ran = desk.fails(&["cat", "a.uf2", "www/big.bin"], 2, &[words]);
            assert_eq!(ran.stdout, big(), "{n}");
            assert!(!ran.stderr.contains("offset"), "{}", ran.stderr);
            desk.ok(&["unwrap", "--force", "--base", "0x101c0000", "a.uf2", "raw"]);
            let raw = desk.read("raw");
            assert!(raw[..n * 256].iter().all(|&byte| byte == 0xff), "{n}");
            assert!(raw[n * 256..].starts_with(&image()[n * 256..]), "{n}");
        }
    }
    // if superblocks are missing, the message says what may be the cause
    desk.file("a.uf2", &joined(&blocks[20..]));
    desk.fails(&["ls", "a.uf2"], 1, &["its first 20 blocks are missing", "not a littlefs image"]);
}

/// A conversion would make a sound image of it, from which nobody sees that something is missing.
#[test]
fn a_damaged_container_is_converted_only_on_request() {
    let desk = Desk::new();
    desk.file("data/file", b"content");
    desk.ok(&["create", "-q", "--size", "64K", "--disk-version", "1", "v1.img", "data"]);
    let mut blocks = uf2_blocks(&desk.read("v1.img"), AT);
    blocks.remove(200);
    desk.file("a.uf2", &joined(&blocks));
    let told = "1 of its blocks is missing";
    desk.fails(&["convert", "--from", "v1", "a.uf2", "new.img"], 1, &[told]);
    assert!(!desk.path("new.img").exists());
    let ran = desk.ok(&["convert", "--from", "v1", "--salvage", "a.uf2", "new.img"]);
    assert!(ran.stderr.contains(told) || ran.text().contains(told), "{}", ran.stderr);
    assert_eq!(desk.ok(&["cat", "new.img", "file"]).stdout, b"content");
}

/// Number the blocks from `first` on, as some of `count`.
fn number(blocks: &mut [Uf2], first: u32, count: u32) {
    for (number, block) in (first..).zip(blocks) {
        (block.number, block.count) = (number, count);
    }
}

/// If a file leaves out what is erased, its addresses do not follow from the numbers of its blocks.
/// Then nobody knows where the filesystem begins.
#[test]
fn the_place_of_missing_first_blocks_may_be_unknown() {
    let desk = Desk::new();
    let mut blocks = uf2_blocks(&image(), AT);
    blocks.retain(|block| block.data.iter().any(|&byte| byte != 0xff));
    let count = blocks.len() as u32;
    number(&mut blocks, 0, count);
    reads(&desk, &joined(&blocks), "complete");
    desk.file("a.uf2", &joined(&blocks[1..]));
    let words =
        ["its first block is missing; offsets are counted from the first block that is there"];
    let ran = desk.fails(&["ls", "a.uf2"], 1, &words);
    assert!(ran.stderr.contains("doubtful"), "{}", ran.stderr);
    // a single block shows no pattern either
    desk.file("a.uf2", &joined(&blocks[3..4]));
    desk.fails(&["ls", "a.uf2"], 1, &["3 of them at its beginning", "nothing shows the addresses"]);
}

/// Blocks that are comments are numbered, too.
#[test]
fn comments_between_the_blocks_are_not_missed() {
    let desk = Desk::new();
    let mut blocks = uf2_blocks(&image(), AT);
    let count = blocks.len() as u32 + 2;
    number(&mut blocks, 1, count);
    let comment = |number| Uf2 {
        flags: 1,
        address: 0,
        data: b"// source".to_vec(),
        number,
        count,
        family: 0,
    };
    let all = [&[comment(0)], &blocks[..], &[comment(count - 1)]].concat();
    assert_eq!(reads(&desk, &joined(&all), "comments"), "");
}

/// What is read from a file that is known to be damaged is suspect, and it is not copied as if it
/// were whole.
#[test]
fn a_damaged_file_is_not_taken_for_a_sound_one() {
    let desk = Desk::new();
    let blocks = uf2_blocks(&image(), AT);
    desk.file("a.uf2", &joined(&[&blocks[..700], &blocks[701..]].concat()));
    let mut dfu = dfuse(&[(0, &image())]);
    *dfu.last_mut().expect("a checksum") ^= 1;
    desk.file("a.dfu", &dfu);
    let hex = intel_hex(&image(), 0);
    let end = hex.windows(3).rposition(|bytes| bytes == b":00").expect("the last record");
    desk.file("a.hex", &hex[..end]).file("sound.img", &image());
    for (file, what) in [
        ("a.uf2", "1 of its blocks is missing"),
        ("a.dfu", "its checksum is wrong"),
        ("a.hex", "its last record is missing"),
    ] {
        for args in [
            &["ls", file][..],
            &["tree", file],
            &["du", file],
            &["stat", file, "hello.txt"],
            &["cat", file, "hello.txt"],
            &["extract", file, "-C", "out"],
            &["get", file, "hello.txt", "."],
            &["info", file],
            &["map", file],
            &["diff", file, file],
            &["verify", file, file],
            &["verify", "sound.img", file],
        ] {
            desk.fails(args, 2, &[what]);
        }
        for (args, list) in [
            (&["ls", "--json", file][..], "errors"),
            (&["extract", "--json", file, "-C", "out"], "suspect"),
        ] {
            let told = &desk.fails(args, 2, &[]).json()[list][0];
            assert_eq!(told["path"], "/", "{args:?}: {told}");
            assert!(told["message"].to_string().contains(what), "{args:?}: {told}");
        }
        let bytes = desk.read(file);
        for repair in [&[][..], &["-p"], &["-y"]] {
            let args = [&["check", "--json"], repair, &[file]].concat();
            let ran = desk.fails(&args, 4, &[what]);
            let told = ran.json();
            assert_eq!(told["findings"][0]["code"], "container-damaged", "{args:?}: {told}");
            assert_eq!(told["findings"][0]["severity"], "error", "{args:?}: {told}");
            assert_eq!(told["exit"], 4, "{args:?}: {told}");
            let stopped = told["stopped"].to_string();
            assert_eq!(stopped.contains(what), !repair.is_empty(), "{args:?}: {told}");
        }
        assert!(desk.read(file) == bytes, "{file} was written");
        desk.fails(&["clone", file, "copy.img"], 1, &[what]);
        assert!(!desk.path("copy.img").exists());
    }
}
