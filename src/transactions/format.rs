//! The bytes of a journal file. The functions here do no input or output. All numbers are
//! little-endian.
//!
//! The file begins with a header, and entries follow it without gaps:
//!
//! ```text
//! header                                    entry
//!  0  8  "lfs-jrnl"                          0  4  "lfsE"
//!  8  4  version of the format: 1            4  1  kind: T, S, R, I or D
//! 12  4  bytes in the header                 5  3  0
//! 16  8  id of the journal                   8  8  sequence: 1, 2, 3...
//! 24  8  when it was made                   16  8  number of a transaction
//! 32  4  bytes per block                    24  8  when it was written
//! 36  4  number of blocks                   32  8  id of the journal
//! 40  8  where block 0 is in the image      40  4  checksum of the entry before
//! 48  8  bytes in the image                 44  4  CRC of bytes 0-43
//! 56 32  fingerprint of the image           48     body
//! 88  8  the state the image is in              4  checksum: CRC of bytes 0-43 and the body
//! 96  8  greatest number given before
//! 104 2  length of the image's path
//! 106    path, then the CRC of all before
//! ```
//!
//! | kind | number | body |
//! |---|---|---|
//! | T, transaction | its own, greater than all before (the first: than the image's state) | records, then the word `f0000000` |
//! | S, savepoint | the last transaction's | length (2 bytes) and bytes of the name |
//! | R, revert | of the transaction whose state counts again | nothing |
//! | I, commit begun | the last transaction's | fingerprint of the image to be |
//! | D, commit done | the same | the same |
//!
//! A record begins with a word: the kind is in its highest 4 bits, and the length in the others.
//! Then come the block and the offset of its place (4 bytes each). A record may extend beyond the
//! end of a block into the next one.
//!
//! | kind | what follows |
//! |---|---|
//! | 1, data | the bytes |
//! | 2, erased | nothing: all bytes are 0xFF |
//! | 3, zeros | nothing: all bytes are 0 |
//! | 4, again | position in this file (8 bytes), before this entry, of the bytes |
//!
//! The CRC is the usual CRC-32. A checksum does not include the CRC of the head: if it did, it
//! would not depend on anything before that CRC. Each entry holds the checksum of the previous
//! entry, so entries cannot change places.

use super::extents::Source;
use crate::bd::{Geometry, byte_offset};

/// The bytes at the start of a journal file.
pub const MAGIC: &[u8; 8] = b"lfs-jrnl";
/// The version of the format that is read and written.
pub const VERSION: u32 = 1;
/// Bytes of the header before the path.
pub const HEADER_FIXED: usize = 106;
/// Longest path of an image that is kept, in bytes.
pub const PATH_MAX: usize = 4096;
/// Bytes of an entry before its body.
pub const HEAD_SIZE: usize = 48;
/// The bytes at the start of an entry.
pub const ENTRY_MAGIC: &[u8; 4] = b"lfsE";
/// Longest name of a savepoint, in bytes.
pub const NAME_MAX: usize = 255;
/// The longest record that is written, in bytes of the image.
pub const RECORD_MAX: usize = 1 << 20;

const LENGTH_MASK: u32 = (1 << 28) - 1;
const DATA: u32 = 1;
const ERASED: u32 = 2;
const ZEROS: u32 = 3;
const AGAIN: u32 = 4;
const END: u32 = 15;

/// SHA-256 over those parts of an image that change whenever a file changes.
pub type Fingerprint = [u8; 32];

/// The start of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The id that distinguishes this journal from others.
    pub id: u64,
    /// When it was made, in nanoseconds since 1970.
    pub time: i64,
    /// The geometry of the filesystem in the image.
    pub geometry: Geometry,
    /// Byte position of block 0 in the image.
    pub offset: u64,
    /// Bytes in the whole image file, for information.
    pub image_size: u64,
    /// The fingerprint of the image when the journal was made.
    pub fingerprint: Fingerprint,
    /// The number of the state that the image has: 0, except after a squash.
    pub base: u64,
    /// The greatest number that any transaction ever had.
    pub given: u64,
    /// Path of the image, for information.
    pub path: Vec<u8>,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changed bytes.
    Transaction,
    /// A name for the state.
    Savepoint,
    /// The journal went back to a former state.
    Revert,
    /// From here on, the image is being written.
    CommitBegun,
    /// The last state is completely in the image.
    CommitDone,
}

const KINDS: [(Kind, u8); 5] = [
    (Kind::Transaction, b'T'),
    (Kind::Savepoint, b'S'),
    (Kind::Revert, b'R'),
    (Kind::CommitBegun, b'I'),
    (Kind::CommitDone, b'D'),
];

/// The start of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Its sequence number: its place among all entries.
    pub sequence: u64,
    /// The number of the transaction, or of the transaction that the entry is about.
    pub number: u64,
    /// When it was written, in nanoseconds since 1970.
    pub time: i64,
    /// The id of the journal.
    pub id: u64,
    /// Checksum of the entry before it, or of the header.
    pub previous: u32,
}

/// A record without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The position in the filesystem of the first byte that it changes.
    pub start: u64,
    /// How many bytes it changes.
    pub len: u64,
    /// The new content; for [`Next::Data`], the caller replaces this with the place of the data.
    pub source: Source,
}

/// What the word at the start of a record announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A record whose data follow it.
    Data(u32),
    /// A record of one byte, repeated.
    Byte(u8, u32),
    /// A record whose bytes are elsewhere in the file.
    Again(u32),
    /// There are no more records.
    End,
}

impl Next {
    /// What a word announces, if anything.
    pub fn of(word: u32) -> Option<Self> {
        let len = word & LENGTH_MASK;
        match (word >> 28, len) {
            (END, 0) => Some(Self::End),
            (_, 0) => None,
            (DATA, _) => Some(Self::Data(len)),
            (ERASED, _) => Some(Self::Byte(0xff, len)),
            (ZEROS, _) => Some(Self::Byte(0, len)),
            (AGAIN, _) => Some(Self::Again(len)),
            _ => None,
        }
    }
}

/// The byte of the filesystem at which a record of `len` bytes belongs; `None` if that is not
/// inside the filesystem.
pub fn place(g: Geometry, place: [u8; 8], len: u32) -> Option<u64> {
    let (block, off) = (read_u32_le(&place, 0)?, read_u32_le(&place, 4)?);
    if block >= g.block_count || off >= g.block_size {
        return None;
    }
    let start = byte_offset(g, block, off);
    (start + u64::from(len) <= g.size()).then_some(start)
}

fn put_record(out: &mut Vec<u8>, g: Geometry, kind: u32, start: u64, len: usize) {
    debug_assert!((1..=RECORD_MAX).contains(&len));
    let block_size = u64::from(g.block_size);
    out.extend((kind << 28 | len as u32).to_le_bytes());
    out.extend(((start / block_size) as u32).to_le_bytes());
    out.extend(((start % block_size) as u32).to_le_bytes());
}

/// Append a record of data, at most [`RECORD_MAX`] bytes.
pub fn put_data(out: &mut Vec<u8>, g: Geometry, start: u64, data: &[u8]) {
    put_record(out, g, DATA, start, data.len());
    out.extend(data);
}

/// Append a record of `len` times the byte 0xFF or 0.
pub fn put_byte(out: &mut Vec<u8>, g: Geometry, start: u64, len: usize, byte: u8) {
    put_record(out, g, if byte == 0 { ZEROS } else { ERASED }, start, len);
}

/// Append a record of `len` bytes that are at position `at` in the file.
pub fn put_again(out: &mut Vec<u8>, g: Geometry, start: u64, len: usize, at: u64) {
    put_record(out, g, AGAIN, start, len);
    out.extend(at.to_le_bytes());
}

/// Append the end of the records.
pub fn put_end(out: &mut Vec<u8>) {
    out.extend((END << 28).to_le_bytes());
}

/// The bytes of an entry that is not a transaction, and its checksum.
pub fn entry(head: &Head, body: &[u8]) -> (Vec<u8>, u32) {
    let mut out = head.to_bytes().to_vec();
    let mut sum = head.hasher();
    sum.update(body);
    let sum = sum.finalize();
    out.extend(body);
    out.extend(sum.to_le_bytes());
    (out, sum)
}

impl Kind {
    fn code(self) -> u8 {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, code)| *code)
    }
}

impl Head {
    fn fields(&self) -> [u8; HEAD_SIZE - 4] {
        let mut out = [0; HEAD_SIZE - 4];
        out[..4].copy_from_slice(ENTRY_MAGIC);
        out[4] = self.kind.code();
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.time.to_le_bytes());
        out[32..40].copy_from_slice(&self.id.to_le_bytes());
        out[40..].copy_from_slice(&self.previous.to_le_bytes());
        out
    }

    /// The bytes as they are stored in the file.
    pub fn to_bytes(&self) -> [u8; HEAD_SIZE] {
        let mut out = [0; HEAD_SIZE];
        let fields = self.fields();
        out[..fields.len()].copy_from_slice(&fields);
        out[fields.len()..].copy_from_slice(&crc32fast::hash(&fields).to_le_bytes());
        out
    }

    /// The head in these bytes; `None` if they are not a head.
    pub fn from_bytes(b: &[u8; HEAD_SIZE]) -> Option<Self> {
        let (fields, sum) = b.split_at(HEAD_SIZE - 4);
        if !fields.starts_with(ENTRY_MAGIC) || sum != crc32fast::hash(fields).to_le_bytes() {
            return None;
        }
        let &[_, _, _, _, code, 0, 0, 0, ..] = fields else { return None };
        Some(Self {
            kind: KINDS.iter().find(|(_, c)| *c == code)?.0,
            sequence: read_u64_le(fields, 8)?,
            number: read_u64_le(fields, 16)?,
            time: read_u64_le(fields, 24)?.cast_signed(),
            id: read_u64_le(fields, 32)?,
            previous: read_u32_le(fields, 40)?,
        })
    }

    /// The checksum of its entry, computed so far over the head.
    pub fn hasher(&self) -> crc32fast::Hasher {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.fields());
        sum
    }
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadHeader {
    /// It is not a header.
    NotJournal,
    /// It has another version.
    Version(u32),
    /// Its checksum or its content is wrong.
    Damaged,
}

impl Header {
    /// The bytes as they are stored in the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let path = self.path.get(..PATH_MAX).unwrap_or(&self.path);
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(((HEADER_FIXED + path.len() + 4) as u32).to_le_bytes());
        out.extend(self.id.to_le_bytes());
        out.extend(self.time.to_le_bytes());
        out.extend(self.geometry.block_size.to_le_bytes());
        out.extend(self.geometry.block_count.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.image_size.to_le_bytes());
        out.extend(self.fingerprint);
        out.extend(self.base.to_le_bytes());
        out.extend(self.given.to_le_bytes());
        out.extend((path.len() as u16).to_le_bytes());
        out.extend(path);
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// The header at the start of `b`, its length in bytes and its checksum.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(b: &[u8]) -> Result<(Self, u64, u32), BadHeader> {
        if !b.starts_with(MAGIC) {
            return Err(BadHeader::NotJournal);
        }
        match read_u32_le(b, 8) {
            Some(VERSION) | None => {}
            Some(other) => return Err(BadHeader::Version(other)),
        }
        Self::checked(b).ok_or(BadHeader::Damaged)
    }

    fn checked(b: &[u8]) -> Option<(Self, u64, u32)> {
        let len = read_u32_le(b, 12)? as usize;
        let path_len = usize::from(u16::from_le_bytes(b.get(104..106)?.try_into().ok()?));
        let fields = b.get(..len.checked_sub(4)?)?;
        let sum = read_u32_le(b, fields.len())?;
        if len != HEADER_FIXED + path_len + 4 || sum != crc32fast::hash(fields) {
            return None;
        }
        let header = Self {
            id: read_u64_le(b, 16)?,
            time: read_u64_le(b, 24)?.cast_signed(),
            geometry: Geometry::new(read_u32_le(b, 32)?, read_u32_le(b, 36)?).ok()?,
            offset: read_u64_le(b, 40)?,
            image_size: read_u64_le(b, 48)?,
            fingerprint: b.get(56..88)?.try_into().ok()?,
            base: read_u64_le(b, 88)?,
            given: read_u64_le(b, 96)?,
            path: fields.get(HEADER_FIXED..)?.to_vec(),
        };
        Some((header, len as u64, sum))
    }
}

fn read_u64_le(b: &[u8], off: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(off..off.checked_add(8)?)?.try_into().ok()?))
}

fn read_u32_le(b: &[u8], off: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(off..off.checked_add(4)?)?.try_into().ok()?))
}

/// Whether a savepoint may have this name. It must need no quoting in a mount option, a shell or a
/// terminal, and must not be a number.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('-')
        && !name.bytes().all(|b| b.is_ascii_digit())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_headers_are_decoded_and_damage_is_noticed() {
        let head = Head {
            kind: Kind::Revert,
            sequence: 7,
            number: u64::MAX,
            time: -1,
            id: 0x0123_4567_89ab_cdef,
            previous: 99,
        };
        let bytes = head.to_bytes();
        assert_eq!(Head::from_bytes(&bytes), Some(head));
        let header = Header {
            id: 1,
            time: 2,
            geometry: Geometry::new(512, 64).expect("possible"),
            offset: 3,
            image_size: 4,
            fingerprint: [5; 32],
            base: 6,
            given: 7,
            path: b"/tmp/an image".to_vec(),
        };
        let all = header.to_bytes();
        let (back, len, _) = Header::from_bytes(&all).expect("sound");
        assert_eq!((back, len), (header, all.len() as u64));
        for i in 0..bytes.len() {
            let mut bad = bytes;
            bad[i] ^= 0x10;
            assert_eq!(Head::from_bytes(&bad), None, "{i}");
        }
        for i in 0..all.len() {
            let mut bad = all.clone();
            bad[i] ^= 0x10;
            assert!(Header::from_bytes(&bad).is_err(), "{i}");
            assert!(Header::from_bytes(&all[..i]).is_err(), "{i}");
        }
    }

    #[test]
    fn a_checksum_depends_on_the_entry_before() {
        let head = |previous| Head {
            kind: Kind::Savepoint,
            sequence: 1,
            number: 1,
            time: 1,
            id: 1,
            previous,
        };
        assert_ne!(entry(&head(1), b"body").1, entry(&head(2), b"body").1);
    }

    #[test]
    fn a_name_must_not_be_a_number() {
        for name in ["a", "before-upgrade", "v1.0", "1a", "ä"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "12", "a b", "a,b", "a\n", "-n", &"x".repeat(256)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
