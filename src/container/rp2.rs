//! What a program for RP2040 or RP2350 tells about itself in flash: the checksum of its boot
//! loader, and its binary info. Binary info can name block devices, as a partition table does;
//! MicroPython uses this.
//!
//! ```text
//! header   F2 EB 88 71, address of the first pointer, address behind the last, 4 bytes,
//!          90 A3 1A E7; in the first 4 KiB
//! pointer  address of an entry
//! entry    type, tag (u16 each); of a block device (type 7): address of its name, its address and
//!          its bytes (u32 each)
//! ```

use std::io;

use super::partitions::{Label, Origin, Partition, Table};
use super::{ReadAt, read_lenient};
use crate::disk::read_u32_le;

/// The address at which the flash begins.
const FLASH: u32 = 0x1000_0000;
/// The header of binary info, and the block that the boot ROM of the RP2350 looks for, are within
/// this many bytes from the start.
const HEAD: usize = 4096;
/// Bytes of the second stage boot loader of the RP2040, with its checksum.
const BOOT2: usize = 256;
/// How the header of binary info begins and ends.
const MARKERS: (u32, u32) = (0x7188_ebf2, 0xe71a_a390);
/// How a block for the boot ROM of the RP2350 begins.
const BLOCK_MARKER: u32 = 0xffff_ded3;
/// The type of an entry about a block device, and the length of the entry in bytes.
const BLOCK_DEVICE: (u16, usize) = (7, 22);
/// How many entries are looked at.
const ENTRIES_MAX: u32 = 1024;
/// How many bytes of a name are looked at.
const NAME_MAX: usize = 16;

/// Whether the flash begins with the boot loader of an RP2040. Its checksum must be right, because
/// the boot ROM demands this, too.
pub fn has_boot2(head: &[u8]) -> bool {
    let Some(bytes) = head.get(..BOOT2 - 4) else { return false };
    let is_blank = bytes.iter().all(|b| *b == bytes[0]);
    !is_blank && read_u32_le(head, BOOT2 - 4) == Some(checksum(bytes))
}

/// CRC-32 with the polynomial of Ethernet, from the highest bit to the lowest, without inversion at
/// the end.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| match crc >> 31 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x04c1_1db7,
        })
    })
}

/// Whether the first bytes contain a block for the boot ROM of the RP2350.
pub fn has_block(head: &[u8]) -> bool {
    words(head).any(|(_, word)| word == BLOCK_MARKER)
}

fn words(head: &[u8]) -> impl Iterator<Item = (usize, u32)> {
    let head = head.get(..HEAD).unwrap_or(head);
    (0..head.len()).step_by(4).filter_map(|at| Some((at, read_u32_le(head, at)?)))
}

/// The block devices that the program at the start of a source names.
///
/// # Errors
/// If the size of the source cannot be determined.
pub fn find(source: &dyn ReadAt) -> io::Result<Option<Table>> {
    let (head, _) = read_lenient(source, 0, HEAD);
    let header = words(&head).find_map(|(at, word)| {
        let is_one = word == MARKERS.0 && read_u32_le(&head, at + 16) == Some(MARKERS.1);
        let pointers = read_u32_le(&head, at + 4).zip(read_u32_le(&head, at + 8));
        is_one.then(|| pointers.map(|pointers| (at, pointers))).flatten()
    });
    let Some((at, (from, to))) = header else { return Ok(None) };
    let count = to.saturating_sub(from) / 4;
    let (Some(from), 1..=ENTRIES_MAX) = (position(from), count) else { return Ok(None) };
    let (pointers, _) = read_lenient(source, from, count as usize * 4);
    let entries = pointers.chunks_exact(4).filter_map(|pointer| read_u32_le(pointer, 0));
    let partitions: Vec<Partition> =
        entries.filter_map(|address| block_device(source, position(address)?)).collect();
    let origin = Origin::BinaryInfo;
    let table = Table { origin, at: at as u64, partitions, md5: None };
    Ok((!table.partitions.is_empty()).then_some(table))
}

/// The position of an address in the flash.
fn position(address: u32) -> Option<u64> {
    address.checked_sub(FLASH).map(u64::from)
}

/// The block device that the entry at this position describes.
fn block_device(source: &dyn ReadAt, at: u64) -> Option<Partition> {
    let (ty, len) = BLOCK_DEVICE;
    let (entry, _) = read_lenient(source, at, len);
    if entry.get(..2)? != ty.to_le_bytes() {
        return None;
    }
    let word = |at| read_u32_le(&entry, at);
    let (name, address, len) = (word(4)?, word(8)?, word(12)?);
    let (name, _) = read_lenient(source, position(name)?, NAME_MAX);
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let is_text = !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    // as picotool does: an address below the flash counts from the start of the flash
    let at = position(address).unwrap_or(address.into());
    (is_text && len > 0).then_some(Partition {
        label: Label::new(name)?,
        ty: 1,
        subtype: 0x06,
        at,
        len: len.into(),
        encrypted: false,
    })
}
