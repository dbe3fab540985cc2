//! Files that hold an image in another form: recognised before anything is said about what is in
//! them, and never written.

use crate::bench::*;

/// Records of a UF2 file with the image at an address.
pub fn uf2(image: &[u8], address: u32) -> Vec<u8> {
    let count = image.len().div_ceil(256) as u32;
    let block = |(i, data): (usize, &[u8])| {
        let i = i as u32;
        let words =
            [0x0a32_4655, 0x9e5d_5157, 0x2000, address + i * 256, 256, i, count, 0xe48b_ff56_u32];
        let mut block: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        block.extend(data);
        block.resize(508, 0);
        block.extend(0x0ab1_6f30_u32.to_le_bytes());
        block
    };
    image.chunks(256).enumerate().flat_map(block).collect()
}

pub fn intel_hex(image: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    let mut record = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
        let sum = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_sub(*b));
        text += &format!(":{digits}{sum:02X}\r\n");
    };
    for (i, data) in image.chunks(16).enumerate() {
        let at = i * 16;
        if at % 0x1_0000 == 0 {
            record(&[2, 0, 0, 4, 0x10, (at >> 16) as u8]);
        }
        record(&[&[data.len() as u8, (at >> 8) as u8, at as u8, 0], data].concat());
    }
    record(&[0, 0, 0, 1]);
    text.into_bytes()
}

pub fn srec(image: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    let mut record = |kind: u8, bytes: &[u8]| {
        let bytes = [&[bytes.len() as u8 + 1], bytes].concat();
        let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
        let sum = !bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        text += &format!("S{kind}{digits}{sum:02X}\n");
    };
    record(0, b"\0\0HDR");
    for (i, data) in image.chunks(32).enumerate() {
        record(3, &[&(0x0800_0000 + i as u32 * 32).to_be_bytes()[..], data].concat());
    }
    record(7, &[8, 0, 0, 0]);
    text.into_bytes()
}

pub fn dfuse(image: &[u8], address: u32) -> Vec<u8> {
    let mut target = b"Target\0\x01\0\0\0".to_vec();
    let mut name = b"flash".to_vec();
    name.resize(255, 0);
    target.extend(name);
    target.extend((image.len() as u32 + 8).to_le_bytes());
    target.extend(1_u32.to_le_bytes());
    target.extend(address.to_le_bytes());
    target.extend((image.len() as u32).to_le_bytes());
    target.extend(image);
    let mut file = b"DfuSe\x01".to_vec();
    file.extend((target.len() as u32 + 11).to_le_bytes());
    file.push(1);
    file.extend(target);
    with_dfu_suffix(file)
}

pub fn with_dfu_suffix(mut file: Vec<u8>) -> Vec<u8> {
    file.extend([0, 0, 0x11, 0xdf, 0x83, 0x04, 0x1a, 0x01]);
    file.extend(b"UFD\x10");
    let sum = littlefs::disk::crc::crc(littlefs::disk::crc::SEED, &file);
    file.extend(sum.to_le_bytes());
    file
}

/// The image stored as it is, so that its bytes could be found in there.
fn stored(magic: &[u8], image: &[u8]) -> Vec<u8> {
    [magic, &[0; 30], image].concat()
}

#[test]
fn wrapped_images_are_named_and_no_place_in_them() {
    let image = with_tree(&flash());
    let mut flash_chip = vec![0xff; 1 << 20];
    flash_chip[(1 << 20) - image.len()..].copy_from_slice(&image);
    let tar = {
        let mut header = vec![0; 512];
        header[257..262].copy_from_slice(b"ustar");
        [header, image.clone()].concat()
    };
    for (name, bytes) in [
        ("UF2", uf2(&image, 0x1010_0000)),
        ("UF2", uf2(&flash_chip, 0x1000_0000)),
        ("Intel HEX", intel_hex(&image)),
        ("S-records", srec(&image)),
        ("DfuSe", dfuse(&image, 0x0800_0000)),
        ("DFU", with_dfu_suffix(image.clone())),
        ("gzip", stored(b"\x1f\x8b\x08\0", &image)),
        ("zstd", stored(b"\x28\xb5\x2f\xfd", &image)),
        ("xz", stored(b"\xfd7zXZ\0", &image)),
        ("bzip2", stored(b"BZh91AY&SY", &image)),
        ("lz4", stored(b"\x04\x22\x4d\x18", &image)),
        ("zip", stored(b"PK\x03\x04", &image)),
        ("ELF", stored(b"\x7fELF", &image)),
        ("tar", tar),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(&format!("in the format {name}, not an image")), "{name}: {said}");
        assert!(!said.contains("offset"), "{name}: {said}");
        assert!(!said.contains("version 1"), "{name}: {said}");
        // insisting on a place does not help
        let start = bytes.windows(8).position(|w| w == b"littlefs").unwrap_or(8) as u64 - 8;
        for offset in [start, 32, 512] {
            assert!(open_at(&bytes, offset).is_err(), "{name} at {offset}");
        }
    }
}

/// Images and dumps that begin with some of these bytes by chance.
#[test]
fn what_only_begins_like_one_is_an_image() {
    let config = small();
    let image = with_tree(&config);
    for start in [&b"UF2\n"[..], b"\x1f\x8b\x08\0", b"\x7fELF", b"PK\x03\x04", b":100"] {
        // the first four bytes are the revision of block 0
        let mut image = image.clone();
        image[..4].copy_from_slice(&start[..4]);
        let opened = open_at(&image, 0).expect("opens");
        assert_eq!(opened.superblock.block_count, config.block_count);
    }
    for start in [&b":not a record\n"[..], b"S9", b"UF2\n\x57\x51\x5d\x9e", b"\x1f\x8b\x07"] {
        let mut dump = start.to_vec();
        dump.resize(4096, 0);
        let said = refusal(&[dump, image.clone()].concat());
        assert!(said.contains("offset=4096"), "{said}");
    }
}
