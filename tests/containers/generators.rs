//! Containers, made byte by byte from the descriptions of their formats.

use std::io::Write;
use std::process::{Command, Stdio};

use littlefs::disk::crc;

use testkit::clfs::{CLfs, Config};

/// A filesystem by the C driver: 64 blocks of 4096 bytes with two files and a directory.
pub fn image() -> Vec<u8> {
    image_with(b"hi\n")
}

/// The same filesystem with other content in `hello.txt`.
pub fn image_with(hello: &[u8]) -> Vec<u8> {
    let mut c = CLfs::fresh(&Config::new(4096, 64, 128)).expect("format");
    c.mkdir(b"www").expect("mkdir");
    c.write_file(b"hello.txt", hello).expect("write");
    c.write_file(b"www/big.bin", &big()).expect("write");
    c.unmount()
}

/// The content of `www/big.bin`.
pub fn big() -> Vec<u8> {
    (0..=255).collect::<Vec<u8>>().repeat(60)
}

/// `size` erased bytes, with other bytes at some places.
pub fn flash(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut flash = vec![0xff; size];
    for (at, bytes) in parts {
        flash[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    flash
}

/// A block of UF2.
#[derive(Clone)]
pub struct Uf2 {
    pub flags: u32,
    pub address: u32,
    pub data: Vec<u8>,
    pub number: u32,
    pub count: u32,
    pub family: u32,
}

pub const RP2040: u32 = 0xe48b_ff56;

impl Uf2 {
    pub fn bytes(&self) -> Vec<u8> {
        let len = self.data.len() as u32;
        let words = [
            0x0a32_4655,
            0x9e5d_5157,
            self.flags,
            self.address,
            len,
            self.number,
            self.count,
            self.family,
        ];
        let mut block: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        block.extend(&self.data);
        block.resize(508, 0);
        block.extend(0x0ab1_6f30_u32.to_le_bytes());
        block
    }
}

/// The blocks of a UF2 file with these bytes at this address.
pub fn uf2_blocks(bytes: &[u8], address: u32) -> Vec<Uf2> {
    let count = bytes.len().div_ceil(256) as u32;
    let block = |(i, data): (usize, &[u8])| Uf2 {
        flags: 0x2000,
        address: address + i as u32 * 256,
        data: data.to_vec(),
        number: i as u32,
        count,
        family: RP2040,
    };
    bytes.chunks(256).enumerate().map(block).collect()
}

pub fn joined(blocks: &[Uf2]) -> Vec<u8> {
    blocks.iter().flat_map(Uf2::bytes).collect()
}

pub fn uf2(bytes: &[u8], address: u32) -> Vec<u8> {
    joined(&uf2_blocks(bytes, address))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// A record of Intel HEX with its checksum.
pub fn hex_record(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_sub(*b));
    format!(":{}{sum:02X}\r\n", digits(bytes))
}

/// Intel HEX with these bytes. Records that are completely erased are left out.
pub fn intel_hex(bytes: &[u8], address: u32) -> Vec<u8> {
    let mut text = String::new();
    let mut upper = None;
    for (i, data) in bytes.chunks(16).enumerate() {
        let at = address + i as u32 * 16;
        if data.iter().all(|&b| b == 0xff) && i > 0 {
            continue;
        }
        if upper != Some(at >> 16) {
            upper = Some(at >> 16);
            text += &hex_record(&[2, 0, 0, 4, (at >> 24) as u8, (at >> 16) as u8]);
        }
        text += &hex_record(&[&[data.len() as u8, (at >> 8) as u8, at as u8, 0], data].concat());
    }
    text += ":00000001FF\r\n";
    text.into_bytes()
}

pub fn srec(bytes: &[u8], address: u32) -> Vec<u8> {
    let mut text = String::new();
    let mut record = |kind: u8, bytes: &[u8]| {
        let bytes = [&[bytes.len() as u8 + 1], bytes].concat();
        let sum = !bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        text += &format!("S{kind}{}{sum:02X}\n", digits(&bytes).to_lowercase());
    };
    record(0, b"\0\0HDR");
    for (i, data) in bytes.chunks(32).enumerate() {
        record(3, &[&(address + i as u32 * 32).to_be_bytes()[..], data].concat());
    }
    record(7, &address.to_be_bytes());
    text.into_bytes()
}

/// DfuSe with one target that has these elements: address and content of each.
pub fn dfuse(elements: &[(u32, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (address, bytes) in elements {
        content.extend(address.to_le_bytes());
        content.extend((bytes.len() as u32).to_le_bytes());
        content.extend(*bytes);
    }
    let mut target = b"Target\0\x01\0\0\0".to_vec();
    let mut name = b"flash".to_vec();
    name.resize(255, 0);
    target.extend(name);
    target.extend((content.len() as u32).to_le_bytes());
    target.extend((elements.len() as u32).to_le_bytes());
    target.extend(content);
    let mut file = b"DfuSe\x01".to_vec();
    file.extend((target.len() as u32 + 11).to_le_bytes());
    file.push(1);
    file.extend(target);
    with_dfu_suffix(file)
}

pub fn with_dfu_suffix(mut file: Vec<u8>) -> Vec<u8> {
    file.extend([0, 0, 0x11, 0xdf, 0x83, 0x04, 0x1a, 0x01]);
    file.extend(b"UFD\x10");
    let sum = crc::crc(crc::SEED, &file);
    file.extend(sum.to_le_bytes());
    file
}

/// What a program writes to standard output if it gets these bytes.
pub fn filtered(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| {
        panic!("{program} is needed by the tests (scripts/deps.sh installs it): {e}")
    });
    let (mut stdin, bytes) = (child.stdin.take().expect("a pipe"), bytes.to_vec());
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("an end");
    feeder.join().expect("the feeder").expect("all is read");
    assert!(output.status.success(), "{program} {args:?}");
    output.stdout
}

pub fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    filtered(program, &["-c"], bytes)
}

/// One entry of a partition table of ESP-IDF.
pub fn partition(label: &str, ty: (u8, u8), at: u32, len: u32, flags: u32) -> Vec<u8> {
    let mut entry = vec![0xaa, 0x50, ty.0, ty.1];
    entry.extend(at.to_le_bytes());
    entry.extend(len.to_le_bytes());
    let mut name = label.as_bytes().to_vec();
    name.resize(16, 0);
    entry.extend(name);
    entry.extend(flags.to_le_bytes());
    entry
}

/// The usual table for an ESP32, with this partition for the filesystem.
pub fn table(filesystem: &[u8]) -> Vec<u8> {
    [
        partition("nvs", (1, 2), 0x9000, 0x5000, 0),
        partition("otadata", (1, 0), 0xe000, 0x2000, 0),
        partition("app0", (0, 0x10), 0x1_0000, 0x14_0000, 0),
        filesystem.to_vec(),
    ]
    .concat()
}

/// The whole flash of an ESP32: the boot loader, the partition table, a program that contains the
/// word littlefs, and the filesystem in a partition called `spiffs`.
pub fn esp32(image: &[u8]) -> Vec<u8> {
    let spiffs = partition("spiffs", (1, 0x82), 0x29_0000, 0x4_0000, 0);
    flash(
        0x40_0000,
        &[
            (0x1000, b"\xe9\x03\x02\x20"),
            (0x8000, &table(&spiffs)),
            (0x1_0000, b"\xe9\x06\x02\x20"),
            (0x2_0000, b"esp_littlefs: mount failed\0littlefs\0"),
            (0x29_0000, image),
        ],
    )
}

/// A dump of NAND flash, with spare bytes behind each page.
pub fn with_spare(bytes: &[u8], page: usize, spare: usize) -> Vec<u8> {
    bytes.chunks(page).flat_map(|page| [page, &vec![0xff; spare][..]].concat()).collect()
}
