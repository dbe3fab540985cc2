//! Metadata blocks of version 1 (SPEC.md of version 1: Directories / Metadata pairs, Entries).
//!
//! ```text
//! bytes 0-3    revision
//! bytes 4-7    size in bytes up to the end of the CRC; bit 31: the directory goes on at the tail
//! bytes 8-15   tail: the next pair of the thread
//! bytes 16-    entries: type, length of data, of attributes, of name (one byte each), and these
//! last 4       CRC-32, which makes the CRC of everything zero
//! ```

use crate::bd::BlockDevice;
use crate::disk::{Pair, crc, read_u32_le, rev_newer};
use crate::error::{Corrupt, Error, IoError, Result};
use crate::mdir::store;

/// Bytes before the entries: the revision, the size and the tail.
pub const HEADER: usize = 16;
/// Bytes of the CRC.
pub const CRC: usize = 4;
/// The bit in the size of a block which says that the directory continues in another pair.
pub const CONTINUES: u32 = 0x8000_0000;
/// How many bytes of each entry the driver reads together: its type, its lengths, and 8 bytes of
/// data.
pub const FIXED: usize = 12;
/// The bit in the type of an entry which says that the entry was moved.
pub const MOVED: u8 = 0x80;
/// Type of a file's entry.
pub const FILE: u8 = 0x11;
/// Type of a directory's entry.
pub const DIRECTORY: u8 = 0x22;
/// Type of the superblock's entry.
pub const SUPERBLOCK: u8 = 0x2e;

/// An entry as it is stored in a block.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The offset of the entry in its block, in bytes.
    #[cfg_attr(not(feature = "inspect"), allow(dead_code))]
    pub at: u32,
    /// Its type without [`MOVED`]: [`FILE`], [`DIRECTORY`] or something else.
    pub kind: u8,
    /// Whether it is marked as moved.
    pub moved: bool,
    /// The first 8 bytes of its data: head and size of a file, or the pair of a directory.
    pub data: [u8; 8],
    /// Length of its data in bytes. Files and directories have 8.
    pub data_len: u8,
    /// Length of its attributes in bytes. The driver does not write any.
    pub attr_len: u8,
    /// Its name.
    pub name: Box<[u8]>,
}

impl Entry {
    /// Whether the driver shows the entry, unless it was moved.
    pub fn is_named(&self) -> bool {
        matches!(self.kind, FILE | DIRECTORY)
    }

    /// The two words of its data.
    pub fn words(&self) -> [u32; 2] {
        Pair::from_bytes(&self.data).unwrap_or(Pair::NULL).0
    }
}

/// The newer valid block of a pair.
#[derive(Debug)]
pub struct Block {
    /// The next pair of the thread, which may be null.
    pub tail: Pair,
    /// Whether the directory continues in that pair.
    pub continues: bool,
    /// Its entries, in the order in which they are stored.
    pub entries: Vec<Entry>,
    /// The offset of the first entry that does not fit into the block. Nothing from there on is
    /// read.
    pub broken: Option<usize>,
    /// What is wrong with the other block of the pair, if anything.
    pub doubt: Option<Doubt>,
}

/// What is wrong with the other block of a pair, although the pair can be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Doubt {
    /// Its revision is newer, but it was not written to its end.
    Torn,
    /// It cannot be read, and might be newer.
    Unreadable(IoError),
}

impl Block {
    /// The next pair of the thread.
    pub fn next(&self) -> Option<Pair> {
        Some(self.tail).filter(|tail| !tail.is_null())
    }
}

/// The revision of a block, and what it holds. `None` if it is not valid.
///
/// # Errors
/// If the block cannot be read.
pub fn read_one(dev: &dyn BlockDevice, block: u32) -> Result<Option<(u32, Block)>, IoError> {
    let (rev, bytes) = read(dev, block)?;
    Ok(bytes.map(|bytes| (rev, parse(&bytes, None))))
}

/// The revision of the block with these bytes, and what it holds. `None` if it is not valid.
pub fn of_bytes(bytes: &[u8]) -> Option<(u32, Block)> {
    let size = read_u32_le(bytes, 4)? & !CONTINUES;
    let used = bytes.get(..size as usize).filter(|used| used.len() >= HEADER + CRC)?;
    (crc::crc(crc::SEED, used) == 0).then(|| (read_u32_le(used, 0).unwrap_or(0), parse(used, None)))
}

/// Read both blocks of a pair, and take the one that the driver takes: the newer one of those with
/// a right CRC. If the revisions are equal, this is the second block.
///
/// # Errors
/// If neither block is valid.
pub fn fetch(dev: &dyn BlockDevice, pair: Pair) -> Result<Block> {
    store::check_pair(dev.geometry(), pair)?;
    let mut failed = None;
    let mut newest: Option<(u32, Vec<u8>)> = None;
    let mut invalid = None;
    for block in pair.0 {
        match read(dev, block) {
            Ok((rev, Some(bytes))) => {
                if newest.as_ref().is_none_or(|&(newest, _)| !rev_newer(newest, rev)) {
                    newest = Some((rev, bytes));
                }
            }
            Ok((rev, None)) => invalid = Some(rev),
            Err(e) => failed = Some(e),
        }
    }
    let Some((rev, bytes)) = newest else {
        return Err(match failed {
            Some(e) => Error::Io(e),
            None => Corrupt::no_valid_commit(pair).into(),
        });
    };
    // A write begins with the revision, so a torn block has the next one. Any other invalid block
    // may never have been written.
    let torn = invalid.is_some_and(|other| other == rev.wrapping_add(1));
    let doubt = failed.map(Doubt::Unreadable).or(torn.then_some(Doubt::Torn));
    Ok(parse(&bytes, doubt))
}

/// The block of a pair that [`fetch`] takes, and how many bytes of it are in use. `None` if neither
/// block is valid.
#[cfg(feature = "inspect")]
pub fn newest(dev: &dyn BlockDevice, pair: Pair) -> Option<(u32, u32)> {
    store::check_pair(dev.geometry(), pair).ok()?;
    let mut newest: Option<(u32, u32, u32)> = None;
    for block in pair.0 {
        if let Ok((rev, Some(bytes))) = read(dev, block)
            && newest.is_none_or(|(newest, ..)| !rev_newer(newest, rev))
        {
            newest = Some((rev, block, bytes.len() as u32));
        }
    }
    newest.map(|(_, block, used)| (block, used))
}

/// The revision of a block, and its bytes up to the end of the CRC if the CRC is right.
fn read(dev: &dyn BlockDevice, block: u32) -> Result<(u32, Option<Vec<u8>>), IoError> {
    let block_size = dev.geometry().block_size;
    let mut header = [0; HEADER];
    dev.read(block, 0, &mut header)?;
    let word = |at| read_u32_le(&header, at).unwrap_or(0);
    let (rev, len) = (word(0), word(4) & !CONTINUES);
    if !((HEADER + CRC) as u32..=block_size).contains(&len) {
        return Ok((rev, None));
    }
    let mut bytes = vec![0; len as usize];
    dev.read(block, 0, &mut bytes)?;
    let valid = crc::crc(crc::SEED, &bytes) == 0;
    Ok((rev, valid.then_some(bytes)))
}

/// The content of a valid block.
fn parse(bytes: &[u8], doubt: Option<Doubt>) -> Block {
    let continues = read_u32_le(bytes, 4).is_some_and(|size| size & CONTINUES != 0);
    let tail = bytes.get(8..).and_then(Pair::from_bytes).unwrap_or(Pair::NULL);
    let end = bytes.len().saturating_sub(CRC);
    let mut block = Block { tail, continues, entries: Vec::new(), broken: None, doubt };
    let mut at = HEADER;
    // the driver does not treat fewer bytes than this at the end as an entry
    while at + FIXED <= end {
        let Some((entry, len)) = bytes.get(at..end).and_then(parse_entry) else {
            block.broken = Some(at);
            break;
        };
        block.entries.push(Entry { at: at as u32, ..entry });
        at += len;
    }
    block
}

/// The entry at the start of `bytes`, and its length. `None` if the entry is longer than `bytes`.
fn parse_entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let &[kind, data_len, attr_len, name_len, ..] = bytes else { return None };
    let name_at = 4 + usize::from(data_len) + usize::from(attr_len);
    let len = name_at + usize::from(name_len);
    let name = bytes.get(name_at..len)?.into();
    let data = bytes.get(4..FIXED)?.try_into().ok()?;
    let moved = kind & MOVED != 0;
    Some((Entry { at: 0, kind: kind & !MOVED, moved, data, data_len, attr_len, name }, len))
}

/// Everything in a block, whether the block is valid or not.
#[cfg(feature = "inspect")]
#[derive(Debug)]
pub struct Dissection {
    /// The revision of the block.
    pub rev: u32,
    /// How many bytes are in use according to the block, including the CRC.
    pub size: u32,
    /// The stored CRC, and the CRC of the bytes. `None` if the size is impossible.
    pub crcs: Option<(u32, u32)>,
    /// The content of the bytes that are in use according to the block.
    pub content: Block,
}

#[cfg(feature = "inspect")]
impl Dissection {
    /// Decode the whole block `bytes`. `None` if it is too short.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let rev = read_u32_le(bytes, 0)?;
        let size = read_u32_le(bytes, 4)? & !CONTINUES;
        let header = bytes.get(..HEADER)?;
        let used = bytes.get(..size as usize).filter(|used| used.len() >= HEADER + CRC);
        let crcs = used.and_then(|used| {
            let (covered, _) = used.split_at(used.len() - CRC);
            Some((read_u32_le(used, covered.len())?, crc::crc(crc::SEED, covered)))
        });
        Some(Self { rev, size, crcs, content: parse(used.unwrap_or(header), None) })
    }

    /// Whether its CRC is right.
    pub fn is_valid(&self) -> bool {
        self.crcs.is_some_and(|(stored, computed)| stored == computed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory that SPEC.md of version 1 gives as an example.
    const EXAMPLE: &str = "0a0000009a0000002500000024000000220800030500000004000000746561220800\
        060700000006000000636f66666565220800040900000008000000736f6461220800051d0000001c0000006d\
        696c6b31220800051f0000001e0000006d696c6b3222080005210000002000000\
        06d696c6b332208000523000000220000006d696c6b34220800052500000024000000\
        6d696c6b3506316ec8";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn the_example_in_the_specification_is_decoded() {
        let bytes = bytes(EXAMPLE);
        assert_eq!(crc::crc(crc::SEED, &bytes), 0);
        let block = parse(&bytes, None);
        assert_eq!((block.tail, block.continues), (Pair([37, 36]), false));
        assert!(block.broken.is_none());
        let names: Vec<_> = block.entries.iter().map(|e| (&*e.name, e.words())).collect();
        assert_eq!(names[..2], [(&b"tea"[..], [5, 4]), (b"coffee", [7, 6])]);
        assert_eq!(names.len(), 8);
        assert!(block.entries.iter().all(|e| e.kind == DIRECTORY && !e.moved));
    }
}
