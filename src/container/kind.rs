//! Recognising the format of a file that is not simply the bytes of a filesystem, by the file's
//! content.

use std::fmt;
use std::io;

use super::dumps::Numbers;
use super::half::has_signature;
use super::records::decode_hex;
use super::{ReadAt, read_lenient};

/// How many bytes are looked at.
const LOOKED_AT: usize = 4096;
/// Bytes of the suffix at the end of files for USB download (DFU).
const DFU_SUFFIX: usize = 16;

/// A format that stores an image in another form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Blocks for USB mass storage boot loaders.
    Uf2,
    /// Intel's hexadecimal records.
    IntelHex,
    /// Motorola's S-records.
    Srec,
    /// ST's format for download over USB.
    DfuSe,
    /// An image with a DFU suffix. The suffix has a CRC, which a write to the image would break.
    Dfu,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// LZ4 frames.
    Lz4,
    /// An executable.
    Elf,
    /// A zip archive.
    Zip,
    /// A 7-Zip archive.
    SevenZip,
    /// A tar archive.
    Tar,
    /// A disk image of QEMU.
    Qcow2,
    /// A sparse image of Android.
    AndroidSparse,
    /// A dump of NAND flash with its spare bytes.
    Nand,
    /// What xxd prints.
    HexDump,
    /// What `hexdump -C` prints.
    HexDumpColumns,
    /// What hexdump and od print with other options.
    NumberDump,
    /// Only hexadecimal digits.
    HexDigits,
}

/// Formats that can be recognised by fixed bytes, and the position of these bytes.
const MAGICS: &[(Kind, usize, &[u8])] = &[
    (Kind::DfuSe, 0, b"DfuSe\x01"),
    (Kind::Zstd, 0, b"\x28\xb5\x2f\xfd"),
    (Kind::Xz, 0, b"\xfd7zXZ\0"),
    (Kind::Lz4, 0, b"\x04\x22\x4d\x18"),
    (Kind::Elf, 0, b"\x7fELF"),
    (Kind::Zip, 0, b"PK\x03\x04"),
    (Kind::SevenZip, 0, b"7z\xbc\xaf\x27\x1c"),
    (Kind::Tar, 257, b"ustar"),
    (Kind::Qcow2, 0, b"QFI\xfb"),
    (Kind::AndroidSparse, 0, b"\x3a\xff\x26\xed"),
];

impl Kind {
    /// The format of the file behind `source`; `None` if the file can be a plain image.
    ///
    /// # Errors
    /// If the size of the source cannot be determined.
    pub fn of(source: &dyn ReadAt) -> io::Result<Option<Self>> {
        // bytes that cannot be read are no evidence
        let (start, _) = read_lenient(source, 0, LOOKED_AT);
        // the first four bytes of an image are a revision count and can be anything
        if has_signature(&start) {
            return Ok(has_dfu_suffix(source)?.then_some(Self::Dfu));
        }
        let by_magic = || {
            let is = |(_, at, magic): &&(Self, usize, &[u8])| {
                start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
            };
            MAGICS.iter().find(is).map(|(kind, ..)| *kind)
        };
        let kind = if is_uf2(&start) {
            Some(Self::Uf2)
        } else if is_gzip(&start) {
            Some(Self::Gzip)
        } else if start.starts_with(b"BZh") && start.get(4..10) == Some(b"1AY&SY") {
            Some(Self::Bzip2)
        } else if let Some(kind) = text_records(&start).or_else(|| text_dump(&start)) {
            Some(kind)
        } else {
            by_magic()
        };
        match kind {
            None if has_dfu_suffix(source)? => Ok(Some(Self::Dfu)),
            kind => Ok(kind),
        }
    }

    /// The name that people use for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uf2 => "UF2",
            Self::IntelHex => "Intel HEX",
            Self::Srec => "S-records",
            Self::DfuSe => "DfuSe",
            Self::Dfu => "DFU",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
            Self::Elf => "ELF",
            Self::Zip => "zip",
            Self::SevenZip => "7-Zip",
            Self::Tar => "tar",
            Self::Qcow2 => "qcow2",
            Self::AndroidSparse => "Android sparse image",
            Self::Nand => "NAND dump with spare bytes",
            Self::HexDump | Self::HexDumpColumns => "hex dump",
            Self::NumberDump => "dump by hexdump or od",
            Self::HexDigits => "hexadecimal digits",
        }
    }

    /// Whether it is compressed and can be unpacked here.
    pub fn is_compressed(self) -> bool {
        matches!(self, Self::Gzip | Self::Zstd | Self::Xz)
    }

    /// Whether it holds pieces at addresses. The gaps between the pieces read as erased.
    pub fn has_addresses(self) -> bool {
        self.can_be_made()
    }

    /// Whether this program can write it, too.
    pub fn can_be_made(self) -> bool {
        matches!(self, Self::Uf2 | Self::IntelHex | Self::Srec | Self::DfuSe)
    }

    /// How to get the image out of a file of this format, if this program cannot read it. This is
    /// an example command, to be adapted.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Elf => "'objcopy -O binary FILE RAW' makes a raw image",
            Self::Gzip => "'gzip -d -c FILE > RAW' unpacks it",
            Self::Zstd => "'zstd -d FILE -o RAW' unpacks it",
            Self::Xz => "'xz -d -c FILE > RAW' unpacks it",
            Self::Bzip2 => "'bzip2 -d -c FILE > RAW' unpacks it",
            Self::Lz4 => "'lz4 -d FILE RAW' unpacks it",
            Self::Zip => "'unzip FILE' unpacks it",
            Self::SevenZip => "'7z x FILE' unpacks it",
            Self::Tar => "'tar -xf FILE' unpacks it",
            Self::Qcow2 => "'qemu-img convert -O raw FILE RAW' makes a raw image",
            Self::AndroidSparse => "'simg2img FILE RAW' makes a raw image",
            _ => "'littlefs unwrap FILE RAW' makes a raw image",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A UF2 block has two magic words at its start and one at its end.
fn is_uf2(start: &[u8]) -> bool {
    start.starts_with(b"UF2\n\x57\x51\x5d\x9e") && start.get(508..512) == Some(b"\x30\x6f\xb1\x0a")
}

/// A gzip file has the magic, the only compression method that exists, and no undefined flags.
fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(b"\x1f\x8b\x08") && start.get(3).is_some_and(|flags| flags & 0xe0 == 0)
}

/// The format of a file of hexadecimal records. The first record must have the right length and
/// checksum.
fn text_records(start: &[u8]) -> Option<Kind> {
    let text = start.trim_ascii_start();
    let line = text.split(|&b| b == b'\n' || b == b'\r').next()?.trim_ascii_end();
    let (kind, digits) = match line {
        [b':', digits @ ..] => (Kind::IntelHex, digits),
        [b'S', b'0'..=b'9', digits @ ..] => (Kind::Srec, digits),
        _ => return None,
    };
    let mut bytes = Vec::new();
    decode_hex(digits, &mut bytes)?;
    let sum = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
    let (&len, rest) = bytes.split_first()?;
    let is_record = match kind {
        Kind::IntelHex => rest.len() == usize::from(len) + 4 && sum == 0,
        _ => rest.len() == usize::from(len) && sum == 0xff,
    };
    is_record.then_some(kind)
}

/// The format of a text dump. Its first line shows the first bytes.
fn text_dump(start: &[u8]) -> Option<Kind> {
    let text = start.trim_ascii_start();
    let line = text.split(|&b| b == b'\n').next()?.trim_ascii_end();
    let all_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    let is_byte = |word: &[u8]| word.len() == 2 && all_digits(word);
    let mut words = line.split(|&b| b == b' ').filter(|word| !word.is_empty());
    let address = words.next()?;
    let first = words.next();
    match (address, first) {
        ([digits @ .., b':'], Some(first)) if digits.len() >= 4 && all_digits(digits) => {
            all_digits(first).then_some(Kind::HexDump)
        }
        (digits, Some(first))
            if digits.len() >= 7 && all_digits(digits) && line.ends_with(b"|") =>
        {
            is_byte(first).then_some(Kind::HexDumpColumns)
        }
        (digits, None) => (digits.len() >= 32 && all_digits(digits)).then_some(Kind::HexDigits),
        // single bytes, as od prints them without addresses
        (byte, Some(first)) if is_byte(byte) => {
            let is_dump = is_byte(first) && words.clone().all(is_byte) && words.count() >= 6;
            is_dump.then_some(Kind::HexDigits)
        }
        _ => Numbers::of(text).map(|_| Kind::NumberDump),
    }
}

/// Whether the file ends with a DFU suffix: its length, `UFD`, and the CRC of everything before.
/// The CRC is computed as in littlefs, without inversion at the end.
fn has_dfu_suffix(source: &dyn ReadAt) -> io::Result<bool> {
    let Some(at) = source.size()?.checked_sub(DFU_SUFFIX as u64) else { return Ok(false) };
    let (suffix, _) = read_lenient(source, at, DFU_SUFFIX);
    Ok(suffix.get(8..12) == Some(b"UFD\x10"))
}
