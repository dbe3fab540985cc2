//! Partition tables of ESP-IDF. Arduino, MicroPython and others on the ESP32 have them, too.
//!
//! ```text
//! entry   AA 50, type, subtype (u8 each), offset, bytes (u32 each), label[16], flags (u32)
//! MD5     EB EB, 14 times FF, MD5 of all entries before it
//! end     32 times FF
//! ```
//!
//! The table is at 0x8000 of the flash unless it was configured to be elsewhere, so every multiple
//! of its alignment is searched for it. Neither the label nor the subtype says for certain what a
//! partition holds.

use std::io;

use md5::{Digest, Md5};
use memchr::memmem;

use super::partitions::{Label, Origin, Partition, Table};
use super::{Found, ReadAt, read_lenient};
use crate::disk::read_u32_le;

/// Bytes of an entry.
const ENTRY: usize = 32;
/// The largest number of entries in a table.
const ENTRIES_MAX: usize = 95;
/// Bytes of a table.
const TABLE: usize = (ENTRIES_MAX + 2) * ENTRY;
/// How an entry begins.
const MAGIC: &[u8] = &[0xaa, 0x50];
/// How the entry with the MD5 begins.
const MD5_MAGIC: [u8; 16] =
    [0xeb, 0xeb, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
/// Where the table is on flash by default.
const DEFAULT_AT: u64 = 0x8000;
/// Offsets of partitions are multiples of this.
const ALIGNMENT: u32 = 0x1000;
/// How many bytes are searched at a time.
const CHUNK: usize = 1 << 20;
/// How many tables are kept.
const TABLES_MAX: usize = 16;
/// How many places that look like an entry are examined.
const LOOKS_MAX: usize = 1 << 16;
/// The flag that the content is encrypted if flash encryption is on.
const ENCRYPTED: u32 = 1;

/// The tables in the first `limit` bytes of a source.
///
/// # Errors
/// If the size of the source cannot be determined.
pub fn find(source: &dyn ReadAt, limit: u64) -> io::Result<Vec<Table>> {
    let end = source.size()?.min(limit);
    let finder = memmem::Finder::new(MAGIC);
    let mut tables: Vec<Table> = Vec::new();
    let (mut start, mut looks, mut behind) = (0, 0, 0);
    while start < end {
        start = match source.data_from(start) {
            Some(at) => at,
            None => break,
        };
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(CHUNK).min(CHUNK);
        // a table may begin in one chunk and end in the next
        let (bytes, _) = read_lenient(source, start, len + TABLE);
        for p in finder.find_iter(bytes.get(..len.min(bytes.len())).unwrap_or_default()) {
            let at = start + p as u64;
            if at < behind {
                continue;
            }
            looks += 1;
            if looks > LOOKS_MAX || tables.len() == TABLES_MAX {
                return Ok(tables);
            }
            let rest = bytes.get(p..).unwrap_or_default();
            if let Some((table, len)) = parse(rest.get(..TABLE).unwrap_or(rest), at) {
                behind = at + len as u64;
                tables.push(table);
            }
        }
        if bytes.len() < len {
            break;
        }
        start += len as u64;
    }
    Ok(tables)
}

/// The table that begins with these bytes, and its length. Offsets are relative to byte 0 of the
/// source.
fn parse(bytes: &[u8], at: u64) -> Option<(Table, usize)> {
    let mut table = Table { origin: Origin::EspIdf, at, partitions: Vec::new(), md5: None };
    let mut len = 0;
    for entry in bytes.chunks_exact(ENTRY) {
        if entry.starts_with(&MD5_MAGIC) {
            let sum = Md5::digest(bytes.get(..len)?);
            table.md5 = Some(entry.get(16..) == Some(&sum[..]));
            len += ENTRY;
            break;
        }
        if entry.iter().all(|&b| b == 0xff) || !entry.starts_with(MAGIC) {
            break;
        }
        table.partitions.push(partition(entry)?);
        len += ENTRY;
    }
    let is_one = !table.partitions.is_empty() && table.partitions.len() <= ENTRIES_MAX;
    is_one.then_some((table, len))
}

/// Move the positions of the partitions if more filesystems begin at a partition after that: a dump
/// may start later in the flash, or have other bytes before it.
pub fn fit(table: &mut Table, all: &[Found]) {
    let from = |base: u64, at: u64| (base + at).checked_sub(DEFAULT_AT);
    let base = table.at;
    if table.hits(all, |at| from(base, at)) > table.hits(all, Some) {
        table.partitions.retain_mut(|partition| match from(base, partition.at) {
            Some(at) => {
                partition.at = at;
                true
            }
            // this one would be before the start of the dump
            None => false,
        });
    }
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let word = |at| read_u32_le(entry, at);
    let (&ty, &subtype) = (entry.get(2)?, entry.get(3)?);
    let (at, len, flags) = (word(4)?, word(8)?, word(28)?);
    let name = entry.get(12..28)?;
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let plausible = at.is_multiple_of(ALIGNMENT)
        && len > 0
        && at.checked_add(len).is_some()
        && flags <= 3
        && (ty <= 3 || (0x40..0xff).contains(&ty))
        && !name.is_empty()
        && name.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    let label = Label::new(name).filter(|_| plausible)?;
    let encrypted = flags & ENCRYPTED != 0;
    Some(Partition { label, ty, subtype, at: at.into(), len: len.into(), encrypted })
}
