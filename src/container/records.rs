//! Records of hexadecimal digits: Intel HEX and Motorola's S-records.

use std::io::{BufRead, BufReader};

use super::reader::Stream;
use super::trouble::{Remarks, Trouble};
use super::{Kind, ReadAt};

/// The most characters of a line. The longest record has fewer.
const LINE_MAX: usize = 1024;
/// How many bytes of content a new record gets.
const DATA_LEN: usize = 16;

/// A record with content.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Address of the content.
    pub address: u32,
    /// The content.
    pub data: &'a [u8],
    /// Byte position in the file of the first digit of the content. The checksum follows it.
    pub at: u64,
}

/// The meaning of a line.
enum Line {
    Data { address: u32, skip: usize },
    End,
    Other,
}

/// Read all records, and pass those with content to `visit`. Returns the position, in bytes, of the
/// records that end the file.
///
/// # Errors
/// If the file cannot be read, a record is damaged, or `visit` fails.
pub fn read(
    source: &dyn ReadAt,
    kind: Kind,
    remarks: &mut Remarks,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), Trouble>,
) -> Result<u64, Trouble> {
    let mut text = BufReader::with_capacity(64 << 10, Stream::new(source));
    let (mut at, mut number, mut base) = (0_u64, 0_u64, 0_u32);
    let mut end = None;
    let (mut line, mut bytes) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut text, LINE_MAX as u64);
        let read = limited.read_until(b'\n', &mut line).map_err(Trouble::Io)?;
        if read == 0 {
            break;
        }
        number += 1;
        let damaged = |what: &str| Trouble::Damaged(format!("line {number}: {what}"));
        let start = at;
        at += read as u64;
        let lead = line.len() - line.trim_ascii_start().len();
        let record = line.trim_ascii();
        if record.is_empty() {
            continue;
        }
        let marks = if kind == Kind::IntelHex { 1 } else { 2 };
        let digits = record.get(marks..).unwrap_or_default();
        decode_hex(digits, &mut bytes).ok_or_else(|| damaged("is not a record"))?;
        let parsed = match (kind, record) {
            (Kind::IntelHex, [b':', ..]) => intel(&bytes, &mut base),
            (Kind::Srec, [b'S', digit, ..]) => motorola(*digit, &bytes),
            _ => Err("is not a record"),
        };
        match parsed.map_err(damaged)? {
            Line::Data { address, skip } => {
                let data = bytes.get(skip..bytes.len() - 1).unwrap_or_default();
                let at = start + (lead + marks + 2 * skip) as u64;
                end = None;
                visit(Record { address, data, at })?;
            }
            // a record with a count may come before the last one, and other files may follow
            Line::End => _ = end.get_or_insert(start + lead as u64),
            Line::Other => {}
        }
    }
    if end.is_none() {
        remarks.damaged("its last record is missing, so it may be cut short");
    }
    Ok(end.unwrap_or(at))
}

/// A record of Intel HEX: length, 16 bits of address, type, content, checksum.
fn intel(bytes: &[u8], base: &mut u32) -> Result<Line, &'static str> {
    let &[len, high, low, ty, ref rest @ ..] = bytes else { return Err("is cut short") };
    if rest.len() != usize::from(len) + 1 {
        return Err("is not as long as it says");
    }
    if bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)) != 0 {
        return Err("its checksum is wrong");
    }
    let word = || match rest {
        [a, b, _] => Ok(u32::from(*a) << 8 | u32::from(*b)),
        _ => Err("has no address of two bytes"),
    };
    match ty {
        0 => {
            let address = base.wrapping_add(u32::from(high) << 8 | u32::from(low));
            Ok(Line::Data { address, skip: 4 })
        }
        1 => Ok(Line::End),
        2 => {
            *base = word()? << 4;
            Ok(Line::Other)
        }
        4 => {
            *base = word()? << 16;
            Ok(Line::Other)
        }
        3 | 5 => Ok(Line::Other),
        _ => Err("is of an unknown type"),
    }
}

/// An S-record of Motorola: length, address, content, checksum.
fn motorola(digit: u8, bytes: &[u8]) -> Result<Line, &'static str> {
    let Some((&len, rest)) = bytes.split_first() else { return Err("is cut short") };
    if rest.len() != usize::from(len) {
        return Err("is not as long as it says");
    }
    if bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)) != 0xff {
        return Err("its checksum is wrong");
    }
    let address_len = match digit {
        b'1' => 2,
        b'2' => 3,
        b'3' => 4,
        // these records hold the number of records with content, or the start address
        b'5'..=b'9' => return Ok(Line::End),
        b'0' | b'4' => return Ok(Line::Other),
        _ => return Err("is of an unknown type"),
    };
    let address = rest.get(..address_len).filter(|_| rest.len() > address_len);
    let address = address.ok_or("is cut short")?;
    let address = address.iter().fold(0, |sum, b| sum << 8 | u32::from(*b));
    Ok(Line::Data { address, skip: 1 + address_len })
}

/// Decode pairs of hexadecimal digits.
pub fn decode_hex(digits: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    bytes.clear();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    for pair in digits.chunks_exact(2) {
        bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(())
}

/// Add a line with these bytes and their checksum.
fn line(mark: &str, bytes: &[u8], is_intel: bool, out: &mut Vec<u8>) {
    let sum = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
    let check = if is_intel { sum.wrapping_neg() } else { !sum };
    out.extend(mark.bytes());
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes.iter().chain([&check]) {
        out.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
    out.push(b'\n');
}

/// Add records with these bytes at an address. Further calls can add more; [`encode_end`] completes
/// the file.
pub fn encode(kind: Kind, address: u32, bytes: &[u8], out: &mut Vec<u8>) {
    let mut upper = None;
    let mut address = address;
    let mut rest = bytes;
    while !rest.is_empty() {
        // a record of Intel HEX must not cross a multiple of 64 KiB
        let room = 0x1_0000 - (address & 0xffff) as usize;
        let (data, behind) = rest.split_at(DATA_LEN.min(room).min(rest.len()));
        let [a, b, c, d] = address.to_be_bytes();
        if kind == Kind::IntelHex {
            if upper != Some([a, b]) {
                line(":", &[2, 0, 0, 4, a, b], true, out);
                upper = Some([a, b]);
            }
            line(":", &[&[data.len() as u8, c, d, 0], data].concat(), true, out);
        } else {
            line("S3", &[&[data.len() as u8 + 5, a, b, c, d], data].concat(), false, out);
        }
        address = address.wrapping_add(data.len() as u32);
        rest = behind;
    }
}

/// The records that end a file of S-records, with `added` more records in their count.
pub fn with_raised_count(end: &[u8], added: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = Vec::new();
    for text in end.split_inclusive(|&b| b == b'\n') {
        let digits = match text.trim_ascii() {
            [b'S' | b's', b'5' | b'6', digits @ ..] => digits,
            _ => {
                out.extend(text);
                continue;
            }
        };
        let is_record = decode_hex(digits, &mut bytes).is_some();
        let Some([_, count @ .., _]) = bytes.get(..).filter(|_| is_record) else { continue };
        let count = count.iter().fold(0_u32, |sum, b| sum << 8 | u32::from(*b));
        // a count that does not fit into three bytes is left out, because nothing needs it
        match count.saturating_add(added).to_be_bytes() {
            [0, 0, a, b] => line("S5", &[3, a, b], false, &mut out),
            [0, a, b, c] => line("S6", &[4, a, b, c], false, &mut out),
            _ => {}
        }
    }
    out
}

/// The record that ends a file.
pub fn encode_end(kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::IntelHex => line(":", &[0, 0, 0, 1], true, out),
        _ => line("S7", &[5, 0, 0, 0, 0], false, out),
    }
}
