//! The places of filesystems in a file: all filesystems are found at any byte, and named by where
//! they start.

use crate::fixture::*;
use littlefs::image::{Options, Place};
use testkit::clfs::{CLfs, Config};

/// Bytes that do not contain a filesystem.
fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

/// The offsets that are named when these bytes are refused.
fn hints(bytes: &[u8]) -> Vec<u64> {
    let said = refusal(bytes);
    let named = said.split("offset=").skip(1);
    named.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn a_filesystem_is_found_at_any_byte() {
    for config in [small(), flash()] {
        for image in [with_tree(&config), without_tree(&config)] {
            for before in [1, 88, 293, 1000, 4096, 65_537, (1 << 20) - 9, 1 << 20] {
                let bytes = [filler(before), image.clone(), filler(77)].concat();
                assert_eq!(hints(&bytes), [before as u64], "{config:?}");
                let opened = open_at(&bytes, before as u64).expect("opens there");
                assert!(!opened.read_only && opened.notes.is_empty());
            }
        }
    }
}

#[test]
fn all_of_them_are_named_and_only_sound_ones() {
    let (a, b) = (with_tree(&small()), with_tree(&flash()));
    let old = version1(512, 32);
    let mut stale = with_tree(&flash());
    stale[2 * 4096..].fill(0);
    let parts = [&filler(88)[..], &a, &filler(5), &b, &filler(3), &old, &filler(9), &stale];
    let bytes = parts.concat();
    let second = 88 + a.len() + 5;
    let third = second + b.len() + 3;
    assert_eq!(hints(&bytes), [88, second as u64, third as u64]);
    assert!(refusal(&bytes).contains("littlefs 1.1, 32 blocks of 512 bytes"));
    // where nothing starts, the same are named
    let said = open_at(&bytes, 40).err().expect("refused").to_string();
    assert!(said.contains("offset=88 (0x58)"), "{said}");
}

/// Without directories and lists, a filesystem looks empty. An image in one of its files, which has a
/// single block, looks like a newer filesystem then.
#[test]
fn what_may_be_a_file_is_not_opened_unless_it_is_named() {
    let mut c = CLfs::fresh(&Config::new(128, 16, 16)).expect("format");
    c.mkdir(b"dir").expect("mkdir");
    let inner = c.unmount();
    let mut c = CLfs::fresh(&flash()).expect("format");
    c.write_file(b"inner.img", &inner).expect("write");
    let outer = c.unmount();
    let at = outer.windows(inner.len()).position(|w| w == inner).expect("in one block") as u64;
    let mut lost = outer.clone();
    lost[..4096].fill(0);
    let automatic = Options { place: Place::Auto, ..Options::default() };
    for (outer, before) in [(&outer, 12_288), (&lost, 12_288), (&lost, 4103)] {
        let bytes = [&vec![0xff; before][..], outer].concat();
        let said = open(&bytes, &automatic).err().expect("refused").to_string();
        assert!(said.contains(&format!("offset={} ", before as u64 + at)), "{said}");
        assert!(said.contains("doubtful: it looks empty"), "{said}");
        assert!(!open_at(&bytes, before as u64 + at).expect("opens").read_only);
    }
    // at the first byte, the outer one is meant
    let opened = open(&outer, &automatic).expect("opens");
    assert_eq!(opened.offset, 0);
    let opened = open(&lost, &automatic).expect("opens");
    assert_eq!((opened.offset, opened.read_only), (0, opened.doubt.is_some()));
}

/// An image that is a file in another filesystem belongs to the content of that one.
#[test]
fn an_image_inside_of_an_image_is_not_named() {
    let inner = without_tree(&Config::new(512, 16, 16));
    let config = flash();
    let mut c = CLfs::fresh(&config).expect("format");
    c.write_file(b"inner.img", &inner).expect("write");
    c.mkdir(b"dir").expect("mkdir");
    let outer = c.unmount();
    let at = outer.windows(inner.len()).position(|w| w == inner);
    // pointers of the list stand between blocks, the first block is whole
    assert!(at.is_some() || outer.windows(1024).any(|w| w == &inner[..1024]));
    assert_eq!(hints(&[filler(512), outer].concat()), [512]);
}

#[test]
fn version_1_is_judged_by_every_field() {
    let image = version1(512, 32);
    let is_version1 = |bytes: &[u8]| {
        open_at(bytes, 0).is_ok_and(|opened| opened.superblock.is_version1() && opened.read_only)
    };
    assert!(is_version1(&image));
    for lost in [0, 1] {
        let mut image = image.clone();
        image[lost * 512..][..512].fill(0xff);
        assert!(is_version1(&image), "by the other half");
    }
    // revision, length, tail, type, lengths, root, geometry, version, magic, CRC
    for at in [0, 4, 7, 8, 16, 17, 18, 19, 20, 28, 31, 32, 36, 38, 40, 47, 48] {
        let mut broken = image.clone();
        broken[at] ^= 0x10;
        broken[512 + at] ^= 0x10;
        assert!(!is_version1(&broken), "byte {at}");
    }
    // right by its CRC, and still none
    for (at, value) in [(28, 4), (28, 0x7fff_ffff), (32, 1), (36, 0x0001_0002), (20, 99)] {
        let mut block = version1_block(1, 512, 32);
        block[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        let sum = littlefs::disk::crc::crc(littlefs::disk::crc::SEED, &block[..48]);
        block[48..52].copy_from_slice(&sum.to_le_bytes());
        let mut bytes = image.clone();
        bytes[..1024].copy_from_slice(&block.repeat(2));
        assert!(!is_version1(&bytes), "byte {at} = {value}");
    }
}

/// The word in the strings of a firmware, cut superblocks, and many of both.
#[test]
fn what_only_looks_like_one_is_not_named() {
    let words = b"esp_littlefs: mount failed\0littlefs\0".repeat(3000);
    assert_eq!(hints(&words), [0; 0]);
    let mut broken = with_tree(&small());
    for block in 0..2 {
        broken[block * 512 + 20] ^= 1;
    }
    let said = refusal(&[filler(100), broken.clone()].concat());
    assert!(!said.contains("offset=1"), "{said}");
    assert!(refusal(&broken).contains("both superblocks are damaged"));
    // a hostile file costs no more than a search
    let signature = b"\x01\0\0\0\xf0\x0f\xff\xf7littlefs".repeat(1 << 20);
    let started = std::time::Instant::now();
    refusal(&signature);
    assert!(started.elapsed().as_secs() < 30);
}

#[test]
fn nothing_is_said_that_was_not_done() {
    // the superblock's entry is gone, the rest of its pair is there; or both blocks are erased
    for image in [with_tree(&flash()), without_tree(&flash())] {
        let mut wiped = image;
        wiped[..2 * 4096].fill(0xff);
        let said = refusal(&wiped);
        assert!(said.contains("not a littlefs image: there is no superblock"), "{said}");
        assert!(said.contains(&format!("(searched: {} bytes)", wiped.len())), "{said}");
        assert!(!said.contains("tried"), "{said}");
    }
}
