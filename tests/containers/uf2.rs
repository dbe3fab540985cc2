//! UF2 as tools and devices write it: in any order, with repeated blocks, with blocks of others,
//! and several files in one.

use crate::desk::Desk;
use crate::make::*;

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
    desk.ok(&["unwrap", "--force", "a.uf2", "raw"]);
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
    let told = "10 of its blocks are missing, and read as erased";
    assert_eq!(desk.fails(&["cat", "a.uf2", "www/big.bin"], 2, &[told]).stdout, big());
    let found = desk.fails(&["ls", "--json", "a.uf2"], 2, &[told]).json();
    assert_eq!(
        (&found["errors"][0]["path"], &found["errors"][0]["message"]),
        (&"/".into(), &told.into())
    );
    for check in [&["check", "a.uf2"][..], &["check", "-y", "a.uf2"]] {
        let found = desk.fails(check, 4, &[told]).text().to_owned();
        assert!(found.contains("[container-damaged]"), "{found}");
    }
    desk.fails(&["clone", "a.uf2", "clone.img"], 1, &[told, "make it again"]);
    assert!(!desk.path("clone.img").exists());
    // without its first blocks, the numbers of the others tell where the filesystem starts
    for missing in [1, 4, 16] {
        desk.file("a.uf2", &joined(&blocks[missing..]));
        assert_eq!(desk.fails(&["cat", "a.uf2", "www/big.bin"], 2, &["missing"]).stdout, big());
        desk.ok(&["unwrap", "--force", "a.uf2", "raw"]);
        let mut whole = image();
        whole[..missing * 256].fill(0xff);
        assert!(desk.read("raw") == whole, "{missing} blocks are missing");
    }
    // a file that is cut short
    desk.file("a.uf2", &joined(&blocks[..40]));
    let ran = desk.fails(&["ls", "a.uf2"], 2, &[]);
    assert!(ran.stderr.contains("984 of its blocks are missing"), "{}", ran.stderr);
    assert!(ran.stderr.contains("truncated: the file lacks the last"), "{}", ran.stderr);
    // no complete file can be made from it, and what is made of its content is incomplete, too
    desk.ok(&["unwrap", "--force", "a.uf2", "raw"]);
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
