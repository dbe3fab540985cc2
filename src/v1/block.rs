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

/// Bytes before the entries: revision, size and tail.
pub const HEADER: usize = 16;
/// Bytes of the CRC.
pub const CRC: usize = 4;
/// The bit of a block's size which says that the directory goes on in another pair.
pub const CONTINUES: u32 = 0x8000_0000;
/// Bytes that the driver reads of each entry at once: its lengths and 8 bytes of data.
pub const FIXED: usize = 12;
/// The bit of an entry's type which says that it was moved.
pub const MOVED: u8 = 0x80;
/// Type of a file's entry.
pub const FILE: u8 = 0x11;
/// Type of a directory's entry.
pub const DIRECTORY: u8 = 0x22;
/// Type of the superblock's entry.
pub const SUPERBLOCK: u8 = 0x2e;

/// An entry as it stands in a block.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stands in its block, in bytes.
    #[cfg_attr(not(feature = "inspect"), allow(dead_code))]
    pub at: u32,
    /// [`FILE`], [`DIRECTORY`], or something else, without [`MOVED`].
    pub kind: u8,
    /// Whether it is marked as moved.
    pub moved: bool,
    /// The first 8 bytes of its data: head and size of a file, or a directory's pair.
    pub data: [u8; 8],
    /// Length of its data in bytes: 8, of files and directories.
    pub data_len: u8,
    /// Length of its attributes in bytes: the driver writes none.
    pub attr_len: u8,
    /// Its name.
    pub name: Box<[u8]>,
}

impl Entry {
    /// Whether the driver shows it unless it was moved.
    pub fn is_named(&self) -> bool {
        matches!(self.kind, FILE | DIRECTORY)
    }

    /// Both words of its data.
    pub fn words(&self) -> [u32; 2] {
        Pair::from_bytes(&self.data).unwrap_or(Pair::NULL).0
    }
}

/// The newer valid block of a pair.
#[derive(Debug)]
pub struct Block {
    /// The next pair of the thread, which may be null.
    pub tail: Pair,
    /// Whether the directory goes on there.
    pub continues: bool,
    /// Its entries, in the order in which they stand.
    pub entries: Vec<Entry>,
    /// Where an entry leaves the block: nothing behind that byte is read.
    pub broken: Option<usize>,
    /// What is wrong with the other block of the pair.
    pub doubt: Option<Doubt>,
}

/// What is wrong with the other block of a pair that can be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Doubt {
    /// It would be newer, and was not written to its end.
    Torn,
    /// It cannot be read, and may be newer.
    Unreadable(IoError),
}

impl Block {
    /// The next pair of the thread.
    pub fn next(&self) -> Option<Pair> {
        Some(self.tail).filter(|tail| !tail.is_null())
    }
}

/// The revision of a block, and what stands in it, if it is valid.
///
/// # Errors
/// When reading fails.
pub fn read_one(dev: &dyn BlockDevice, block: u32) -> Result<Option<(u32, Block)>, IoError> {
    let (rev, bytes) = read(dev, block)?;
    Ok(bytes.map(|bytes| (rev, parse(&bytes, None))))
}

/// The revision of the block that these bytes are, and what stands in it, if it is valid.
pub fn of_bytes(bytes: &[u8]) -> Option<(u32, Block)> {
    let size = read_u32_le(bytes, 4)? & !CONTINUES;
    let used = bytes.get(..size as usize).filter(|used| used.len() >= HEADER + CRC)?;
    (crc::crc(crc::SEED, used) == 0).then(|| (read_u32_le(used, 0).unwrap_or(0), parse(used, None)))
}

/// Read both blocks of a pair, and take the one that the driver takes: the newer of those whose CRC
/// holds; of two with one revision, the second.
///
/// # Errors
/// When neither is valid.
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
            None => Corrupt::NoValidCommit(pair).into(),
        });
    };
    // a write begins with the revision; before the first one anything may stand there
    let torn = invalid.is_some_and(|other| other == rev.wrapping_add(1));
    let doubt = failed.map(Doubt::Unreadable).or(torn.then_some(Doubt::Torn));
    Ok(parse(&bytes, doubt))
}

/// Which block of a pair [`fetch`] takes, and the bytes of it that are in use; none if neither is valid.
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

/// The revision of a block, and its bytes up to the end of the CRC if that holds.
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

/// What stands in a valid block.
fn parse(bytes: &[u8], doubt: Option<Doubt>) -> Block {
    let continues = read_u32_le(bytes, 4).is_some_and(|size| size & CONTINUES != 0);
    let tail = bytes.get(8..).and_then(Pair::from_bytes).unwrap_or(Pair::NULL);
    let end = bytes.len().saturating_sub(CRC);
    let mut block = Block { tail, continues, entries: Vec::new(), broken: None, doubt };
    let mut at = HEADER;
    // fewer bytes than that at the end are no entry for the driver
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

/// The entry at the start of `bytes`, and its length; none where it goes on behind them.
fn parse_entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let &[kind, data_len, attr_len, name_len, ..] = bytes else { return None };
    let name_at = 4 + usize::from(data_len) + usize::from(attr_len);
    let len = name_at + usize::from(name_len);
    let name = bytes.get(name_at..len)?.into();
    let data = bytes.get(4..FIXED)?.try_into().ok()?;
    let moved = kind & MOVED != 0;
    Some((Entry { at: 0, kind: kind & !MOVED, moved, data, data_len, attr_len, name }, len))
}

/// Everything that stands in a block, whether it is valid or not.
#[cfg(feature = "inspect")]
#[derive(Debug)]
pub struct Dissection {
    /// Its revision.
    pub rev: u32,
    /// Bytes of it that are in use by its own word, those of the CRC included.
    pub size: u32,
    /// The CRC that is stored, and that of the bytes; none where the size is impossible.
    pub crcs: Option<(u32, u32)>,
    /// What stands in it as far as it says that bytes are in use.
    pub content: Block,
}

#[cfg(feature = "inspect")]
impl Dissection {
    /// Take apart the whole block `bytes`; none if it is too small.
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

    /// Whether its CRC holds.
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
    fn the_example_of_the_specification() {
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
