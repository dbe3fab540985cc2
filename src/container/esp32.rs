//! Partition tables of ESP-IDF, which Arduino, MicroPython and others on ESP32 have, too.
//!
//! ```text
//! entry   AA 50, type, subtype (u8 each), offset, bytes (u32 each), label[16], flags (u32)
//! MD5     EB EB, 14 times FF, MD5 of all entries before it
//! end     32 times FF
//! ```
//!
//! The table is at 0x8000 of the flash unless it was configured otherwise, so it is looked for at
//! every multiple of its alignment. Neither label nor subtype tells what a partition holds.

use std::fmt;
use std::io;

use md5::{Digest, Md5};
use memchr::memmem;

use super::{Found, ReadAt, read_lenient};
use crate::disk::read_u32_le;

/// Bytes of an entry.
const ENTRY: usize = 32;
/// Entries of a table.
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
/// What offsets of partitions are multiples of.
const ALIGNMENT: u32 = 0x1000;
/// Bytes searched at a time.
const CHUNK: usize = 1 << 20;
/// Tables that are kept.
const TABLES_MAX: usize = 16;
/// Places that look like an entry and are looked into.
const LOOKS_MAX: usize = 1 << 16;
/// The content is ciphertext if flash encryption is on.
const ENCRYPTED: u32 = 1;

/// The name of a partition: at most 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label {
    bytes: [u8; 16],
    len: u8,
}

impl Label {
    /// A label of these bytes, if they are not too many.
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes, len: name.len() as u8 })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub label: Label,
    /// Type: 0 a program, 1 data.
    pub ty: u8,
    /// Subtype.
    pub subtype: u8,
    /// Byte position in the source.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// Whether its content is ciphertext where flash encryption is on.
    pub encrypted: bool,
}

impl Partition {
    /// What the subtype says is in it.
    pub fn subtype_name(&self) -> Option<&'static str> {
        Some(match (self.ty, self.subtype) {
            (0, _) => "app",
            (1, 0x00) => "ota",
            (1, 0x01) => "phy",
            (1, 0x02) => "nvs",
            (1, 0x03) => "coredump",
            (1, 0x04) => "nvs_keys",
            (1, 0x05) => "efuse",
            (1, 0x06) => "undefined",
            (1, 0x80) => "esphttpd",
            (1, 0x81) => "fat",
            (1, 0x82) => "spiffs",
            (1, 0x83) => "littlefs",
            (1, 0x8f) => "romfs",
            _ => return None,
        })
    }
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Byte position in the source.
    pub at: u64,
    /// Its entries.
    pub partitions: Vec<Partition>,
    /// Whether its MD5 is right; nothing if it has none.
    pub md5: Option<bool>,
}

/// The tables in the first `limit` bytes of a source.
///
/// # Errors
/// When its size cannot be found out.
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
            if let Some((table, len)) = Table::parse(rest.get(..TABLE).unwrap_or(rest), at) {
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

impl Table {
    /// The table that begins with these bytes, and its length; offsets count from byte 0.
    fn parse(bytes: &[u8], at: u64) -> Option<(Self, usize)> {
        let mut table = Self { at, partitions: Vec::new(), md5: None };
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

    /// Count positions from another start of the flash than byte 0, if more filesystems begin where
    /// a partition does then: a dump may begin later in the flash, or hold something before it.
    pub fn fit(&mut self, all: &[Found]) {
        let from = |base: u64, at: u64| (base + at).checked_sub(DEFAULT_AT);
        let hits = |base: u64| {
            let begins = |found: &&Found| {
                self.partitions.iter().any(|p| from(base, p.at) == Some(found.at))
            };
            all.iter().filter(begins).count()
        };
        if hits(self.at) > hits(DEFAULT_AT) {
            let base = self.at;
            self.partitions.retain_mut(|partition| match from(base, partition.at) {
                Some(at) => {
                    partition.at = at;
                    true
                }
                // before the dump
                None => false,
            });
        }
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
