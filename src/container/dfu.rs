//! DFU: files for USB download, plain or in ST's format (DfuSe).
//!
//! ```text
//! DfuSe    "DfuSe", 1, bytes of the file without suffix (u32), targets (u8)
//! target   "Target", number (u8), named (u32), name[255], bytes (u32), elements (u32)
//! element  address (u32), bytes (u32), content
//! suffix   device, product, vendor, version (u16 each), "UFD", 16, CRC-32 of all before
//! ```

use super::ReadAt;
use super::content::Group;
use super::reader::Stream;
use super::trouble::{Remarks, Trouble};
use crate::disk::{crc, read_u32_le};

/// Bytes of the suffix at the end of both kinds.
pub const SUFFIX: u64 = 16;
const PREFIX: u64 = 11;
const TARGET: u64 = 274;
const ELEMENT: u64 = 8;
/// Bytes of content given out at a time.
const CHUNK: usize = 64 << 10;

/// Receives content: its position in the file, the target it is for, its address, and its bytes.
pub type Visit<'v> = dyn FnMut(u64, &Group, u32, &[u8]) -> Result<(), Trouble> + 'v;

/// Read all elements, and pass the content of each to `visit`.
///
/// # Errors
/// If the file cannot be read, lengths in it are impossible, or `visit` fails.
pub fn read(
    source: &dyn ReadAt,
    remarks: &mut Remarks,
    visit: &mut Visit<'_>,
) -> Result<(), Trouble> {
    let size = source.size().map_err(Trouble::Io)?;
    let prefix = bytes_at(source, 0, PREFIX)?;
    let targets = prefix.last().copied().unwrap_or(0);
    let mut at = PREFIX;
    let mut chunk = vec![0; CHUNK];
    for _ in 0..targets {
        let header = bytes_at(source, at, TARGET)?;
        if !header.starts_with(b"Target") {
            return Err(Trouble::Damaged(format!("no target starts at byte {at}")));
        }
        let number = header.get(6).copied().unwrap_or(0);
        let group = if targets == 1 { Group::Only } else { Group::Memory(number) };
        let elements = read_u32_le(&header, 270).unwrap_or(0);
        at += TARGET;
        for _ in 0..elements {
            let header = bytes_at(source, at, ELEMENT)?;
            let address = read_u32_le(&header, 0).unwrap_or(0);
            let len = u64::from(read_u32_le(&header, 4).unwrap_or(0));
            at += ELEMENT;
            if at.saturating_add(len) > size {
                return Err(Trouble::Damaged(format!(
                    "the {len} bytes at byte {at} extend beyond its end"
                )));
            }
            let mut done = 0;
            while done < len {
                let n = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
                let part = &mut chunk[..n];
                read_exactly(source, at + done, part)?;
                visit(at + done, &group, address.wrapping_add(done as u32), part)?;
                done += n as u64;
            }
            at += len;
        }
    }
    if checksum(source)?.is_some_and(|(found, right)| found != right) {
        remarks.damaged("its checksum is wrong, so any part of it may be damaged");
    }
    Ok(())
}

/// The position of the last target.
///
/// # Errors
/// If the file cannot be read, or lengths in it are impossible.
pub fn last_target(source: &dyn ReadAt) -> Result<u64, Trouble> {
    let targets = bytes_at(source, 0, PREFIX)?.last().copied().unwrap_or(0);
    let mut at = PREFIX;
    for _ in 1..targets {
        let len = read_u32_le(&bytes_at(source, at, TARGET)?, 266).unwrap_or(0);
        at += TARGET + u64::from(len);
    }
    Ok(at)
}

/// The CRC in the suffix, and the right one. `None` if there is no suffix.
///
/// # Errors
/// If the file cannot be read.
pub fn checksum(source: &dyn ReadAt) -> Result<Option<(u32, u32)>, Trouble> {
    let size = source.size().map_err(Trouble::Io)?;
    let Some(at) = size.checked_sub(SUFFIX) else { return Ok(None) };
    let suffix = bytes_at(source, at, SUFFIX)?;
    if suffix.get(8..11) != Some(b"UFD") {
        return Ok(None);
    }
    let mut stream = std::io::Read::take(Stream::new(source), size - 4);
    let (mut sum, mut chunk) = (crc::SEED, vec![0; CHUNK]);
    loop {
        let n = std::io::Read::read(&mut stream, &mut chunk).map_err(Trouble::Io)?;
        if n == 0 {
            break;
        }
        sum = crc::crc(sum, chunk.get(..n).unwrap_or_default());
    }
    Ok(read_u32_le(&suffix, 12).map(|found| (found, sum)))
}

fn bytes_at(source: &dyn ReadAt, at: u64, len: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = vec![0; len as usize];
    read_exactly(source, at, &mut bytes)?;
    Ok(bytes)
}

fn read_exactly(source: &dyn ReadAt, at: u64, buf: &mut [u8]) -> Result<(), Trouble> {
    let read = source.read_up_to(at, buf).map_err(Trouble::Io)?;
    if read < buf.len() {
        return Err(Trouble::Damaged(format!("it ends at byte {}", at + read as u64)));
    }
    Ok(())
}

/// A file with one target that consists of these pieces: address and content of each.
pub fn encode(pieces: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut elements = Vec::new();
    for (address, data) in pieces {
        elements.extend(address.to_le_bytes());
        elements.extend((data.len() as u32).to_le_bytes());
        elements.extend(data);
    }
    let mut file = b"DfuSe\x01".to_vec();
    let all = PREFIX + TARGET + elements.len() as u64;
    file.extend((all as u32).to_le_bytes());
    file.push(1);
    file.extend(b"Target\0");
    file.extend(1_u32.to_le_bytes());
    let mut name = b"littlefs".to_vec();
    name.resize(255, 0);
    file.extend(name);
    file.extend((elements.len() as u32).to_le_bytes());
    file.extend((pieces.len() as u32).to_le_bytes());
    file.extend(elements);
    file.extend([0xff, 0xff, 0xff, 0xff, 0x83, 0x04, 0x1a, 0x01]);
    file.extend(b"UFD\x10");
    let sum = crc::crc(crc::SEED, &file);
    file.extend(sum.to_le_bytes());
    file
}
