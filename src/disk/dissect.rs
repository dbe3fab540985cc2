//! Every tag of a metadata block, in its place: the tags of valid commits, and what follows them.
//!
//! [`super::log`] computes what a block holds in the end. This module keeps every step that led to
//! that content.

mod behind;
#[cfg(feature = "inspect")]
mod effects;

use std::ops::Range;

use super::num::{saturate, widen};
use super::{Tag, crc, read_u32_be, read_u32_le, tag};
pub use behind::reveal;

/// A tag and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Offset of the tag in the block, in bytes. Its data begins 4 bytes later.
    pub off: u32,
    /// The tag, after the XOR with the tag before it was undone.
    pub tag: Tag,
}

impl Placed {
    /// The places of its data, in bytes from the start of the block. `None` if there is no such
    /// place in any block.
    fn range(self) -> Option<Range<u32>> {
        let start = self.off.checked_add(4)?;
        Some(start..start.checked_add(self.tag.size())?)
    }

    /// The data of the tag in `block`, the block that holds it. Empty if the data does not fit
    /// there.
    pub fn data(self, block: &[u8]) -> &[u8] {
        let range = self.range().map(|range| widen(range.start)..widen(range.end));
        range.and_then(|range| block.get(range)).unwrap_or_default()
    }
}

/// A forward CRC: the checksum that the bytes behind a commit must have for a driver to append
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// How many bytes it covers, from the end of the commit.
    pub size: u32,
    /// The CRC in the tag.
    pub stored: u32,
    /// The CRC of the bytes that are there now; `None` if they reach beyond the block.
    pub computed: Option<u32>,
}

impl Forward {
    /// Whether the bytes that it covers are still those that were there when the commit was written.
    pub fn matches(self) -> bool {
        self.computed == Some(self.stored)
    }

    /// Whether the bytes that it covers are in the block, and were erased when the commit was
    /// written.
    fn was_erased(self) -> bool {
        self.computed.is_some() && self.stored == crc::erased(self.size)
    }

    /// Whether the bytes that it covers were erased when the commit was written, but are not now:
    /// whatever is there was written later.
    fn is_overwritten(self) -> bool {
        !self.matches() && self.was_erased()
    }
}

/// Tags up to and including a CRC tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Offset of its first byte. For the first commit, this is 0, the offset of the revision count.
    pub start: u32,
    /// Offset of the byte after its padding.
    pub end: u32,
    /// All tags, the CRC tag last.
    pub tags: Vec<Placed>,
    /// The CRC that is stored.
    pub stored: u32,
    /// The CRC of the bytes that are there.
    pub computed: u32,
    /// Its forward CRC, if it has one.
    pub forward: Option<Forward>,
    /// The tag whose bytes have changed, if it is known. `tags` holds it as it was written.
    pub changed: Option<Changed>,
}

/// A tag whose bytes have changed. With the right bytes, the CRC of its commit matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Offset of the tag in the block, in bytes.
    pub off: u32,
    /// The four bytes that were written there.
    pub word: [u8; 4],
}

impl Commit {
    /// The commit that starts at offset `start` and has these tags, the CRC tag last. `None` if
    /// its CRC is not in the block.
    fn of(start: u32, tags: Vec<Placed>, bytes: &[u8]) -> Option<Self> {
        let Range { start: crc_at, end } = tags.last()?.range()?;
        let stored = read_u32_le(bytes, widen(crc_at))?;
        let computed = crc::crc(crc::SEED, bytes.get(widen(start)..widen(crc_at))?);
        let forward = forward(&tags, bytes, widen(end));
        Some(Self { start, end, tags, stored, computed, forward, changed: None })
    }

    /// Whether its CRC matches its bytes.
    pub fn is_valid(&self) -> bool {
        self.stored == self.computed
    }
}

/// Why no further commit was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// There is no room for another tag.
    Full,
    /// The next tag is invalid: nothing was written there.
    Invalid,
    /// The next tag reaches beyond the block.
    TooLong,
    /// The CRC of a commit does not match its bytes. Its tags are at the end of `open`.
    Mismatch {
        /// The CRC that is stored.
        stored: u32,
        /// The CRC of the bytes that are there.
        computed: u32,
    },
    /// A commit creates more entries than there are ids.
    TooManyIds,
}

/// A metadata block, divided into its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissection {
    /// The revision count in its first bytes.
    pub rev: u32,
    /// The valid commits, in their order.
    pub commits: Vec<Commit>,
    /// The tags behind the valid commits, which no valid CRC covers.
    pub open: Vec<Placed>,
    /// The tag among `open` whose bytes have changed, if it is known.
    pub changed: Option<Changed>,
    /// Why there are no more commits.
    pub stop: Stop,
    /// The commits behind the first damaged one, up to the last one whose own CRC matches. No
    /// driver reads them.
    pub behind: Vec<Commit>,
    /// Where the last valid commit ends, in bytes from the start of the block; 0 if there is none.
    pub end: u32,
    /// The first offset, at or after `end`, from which all bytes read 0xFF.
    pub erased_from: u32,
}

impl Dissection {
    /// Divide the whole block `bytes` into its tags. `None` if it is too small for a revision
    /// count.
    ///
    /// The valid commits are exactly those that [`super::log::parse`] replays.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let rev = read_u32_le(bytes, 0)?;
        let mut commits: Vec<Commit> = Vec::new();
        let mut ids = Ids::default();
        let mut reader = Reader::new(bytes);
        let mut open: Vec<Placed> = Vec::new();
        let mut changed = None;
        let mut behind = Vec::new();
        let mut stop = loop {
            let before = reader;
            match reader.read_commit(&mut open) {
                Ok(commit) if commit.is_valid() && !ids.take(&commit.tags) => {
                    open = commit.tags;
                    break Stop::TooManyIds;
                }
                Ok(commit) if commit.is_valid() => commits.push(commit),
                outcome => {
                    behind = before.read_behind();
                    break match outcome {
                        Ok(Commit { stored, computed, tags, .. }) => {
                            open = tags;
                            Stop::Mismatch { stored, computed }
                        }
                        Err(stop) => stop,
                    };
                }
            }
        };
        if !behind.is_empty() {
            let damaged = behind.remove(0);
            (open, changed) = (damaged.tags, damaged.changed);
            stop = Stop::Mismatch { stored: damaged.stored, computed: damaged.computed };
        }
        let end = commits.last().map_or(0, |commit| commit.end);
        let written =
            bytes.iter().rposition(|&b| b != 0xff).map_or(0, |at| saturate(at).saturating_add(1));
        Some(Self { rev, commits, open, changed, stop, behind, end, erased_from: written.max(end) })
    }

    /// How many valid commits no driver reads, because they are behind a damaged one.
    pub fn hidden_count(&self) -> usize {
        self.behind.iter().filter(|commit| commit.is_valid()).count()
    }

    /// Whether everything behind the valid commits was certainly written after them, and is not
    /// what an older log has left there.
    pub fn is_later(&self) -> bool {
        let forward = self.commits.last().and_then(|commit| commit.forward);
        forward.is_some_and(Forward::is_overwritten)
    }

    /// Whether something was written after the valid commits: a commit that was interrupted, or one
    /// that is damaged. If the forward CRC cannot exclude that what is behind them is older, this is
    /// true as well.
    pub fn is_written_on(&self) -> bool {
        let is_blank = self.erased_from == self.end;
        match self.commits.last().and_then(|commit| commit.forward) {
            Some(forward) if forward.was_erased() => !is_blank,
            Some(forward) => !forward.matches(),
            None => !is_blank,
        }
    }

    /// The damaged commit before the hidden ones. `None` if there are none.
    fn damaged(&self, bytes: &[u8]) -> Option<Commit> {
        let commit = Commit::of(self.end, self.open.clone(), bytes)?;
        (!self.behind.is_empty()).then_some(Commit { changed: self.changed, ..commit })
    }
}

/// The place in a log up to which it was read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// The whole block.
    bytes: &'a [u8],
    /// Offset of the next tag.
    off: u32,
    /// Offset of the first byte of the next commit.
    start: u32,
    /// The value with which the next tag is XORed.
    ptag: u32,
    /// Whether the next commit was certainly written after the one before it.
    is_later: bool,
}

impl<'a> Reader<'a> {
    /// The first commit of a block. The revision count is a part of it.
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, off: 4, start: 0, ptag: tag::FIRST, is_later: false }
    }

    /// The place behind `commit`. `None` if that has no tags.
    fn after(bytes: &'a [u8], commit: &Commit) -> Option<Self> {
        let last = commit.tags.last()?.tag;
        let ptag = last.0 ^ (u32::from(last.chunk() & 1) << 31);
        let is_later = commit.forward.is_some_and(Forward::is_overwritten);
        Some(Self { bytes, off: commit.end, start: commit.end, ptag, is_later })
    }

    /// Read the tags up to the next CRC tag, whether or not that CRC matches. If there is none, the
    /// tags before the place where the log stops are left in `open`.
    fn read_commit(&mut self, open: &mut Vec<Placed>) -> Result<Commit, Stop> {
        let bytes = self.bytes;
        loop {
            let word = read_u32_be(bytes, widen(self.off)).ok_or(Stop::Full)?;
            let t = Tag(word ^ self.ptag);
            if !t.is_valid() {
                return Err(Stop::Invalid);
            }
            let placed = Placed { off: self.off, tag: t };
            let next = placed.range().ok_or(Stop::TooLong)?.end;
            if widen(next) > bytes.len() {
                return Err(Stop::TooLong);
            }
            open.push(placed);
            (self.off, self.ptag) = (next, t.0);
            if t.is_ccrc() {
                let tags = std::mem::take(open);
                let commit = Commit::of(self.start, tags, bytes).ok_or(Stop::TooLong)?;
                *self = Self::after(bytes, &commit).ok_or(Stop::TooLong)?;
                return Ok(commit);
            }
        }
    }
}

/// How many entries there are after the commits so far.
#[derive(Default)]
struct Ids {
    count: usize,
}

impl Ids {
    /// Count a commit. Returns false if it creates more entries than there are ids.
    fn take(&mut self, tags: &[Placed]) -> bool {
        let created = tags.iter().filter(|p| p.tag.type3() == tag::CREATE).count();
        if created.saturating_add(self.count) > usize::from(tag::ID_NONE) {
            return false;
        }
        for t in tags.iter().map(|placed| placed.tag) {
            let id = usize::from(t.id());
            let has_id = t.id() != tag::ID_NONE;
            match (t.type1(), t.type3()) {
                (tag::NAME, _) if has_id => self.count = self.count.max(id + 1),
                (_, tag::CREATE) if has_id && self.count < usize::from(tag::ID_NONE) => {
                    self.count = self.count.max(id).saturating_add(1);
                }
                (_, tag::DELETE) if id < self.count => self.count = self.count.saturating_sub(1),
                _ => {}
            }
        }
        true
    }
}

/// The forward CRC among the tags of a commit that ends at offset `end`.
fn forward(tags: &[Placed], bytes: &[u8], end: usize) -> Option<Forward> {
    let placed = tags.iter().rev().find(|placed| placed.tag.type3() == tag::FCRC)?;
    let data = placed.data(bytes);
    let (size, stored) = (read_u32_le(data, 0)?, read_u32_le(data, 4)?);
    let behind = bytes.get(end..).and_then(|rest| rest.get(..widen(size)));
    Some(Forward { size, stored, computed: behind.map(|rest| crc::crc(crc::SEED, rest)) })
}

#[cfg(test)]
mod tests {
    use super::super::commit::{Layout, Writer};
    use super::super::{GState, Tail};
    use super::*;

    pub const LAYOUT: Layout = Layout { block_size: 512, prog_size: 16, fcrc: true };

    /// A block with two commits: the first creates two files, and the second deletes the first
    /// file.
    pub fn block() -> Vec<u8> {
        let mut writer = Writer::compact(LAYOUT, 5);
        writer.tag(tag::REG, 0, b"gone");
        writer.tag(tag::INLINESTRUCT, 0, b"1");
        writer.tag(tag::REG, 1, b"kept");
        writer.tag(tag::INLINESTRUCT, 1, b"2");
        writer.tail(Tail::END);
        let first = writer.finish().expect("fits");
        let mut writer = Writer::append(LAYOUT, first.end(), first.etag);
        writer.tag(tag::DELETE, 0, &[]);
        writer.tag(tag::INLINESTRUCT, 0, b"3");
        writer.gdelta(GState::default().with_sync(true));
        let second = writer.finish().expect("fits");
        let mut block = [first.bytes, second.bytes].concat();
        block.resize(512, 0xff);
        block
    }

    #[test]
    fn torn_commits_are_distinguished_from_unwritten_bytes() {
        let mut block = block();
        let whole = Dissection::of(&block).expect("a revision");
        // a byte behind the first tag of the second commit
        let at = whole.commits[1].start as usize + 9;
        block[at] ^= 1;
        let torn = Dissection::of(&block).expect("a revision");
        assert_eq!(torn.commits.len(), 1);
        assert!(matches!(torn.stop, Stop::Mismatch { .. }), "{:?}", torn.stop);
        assert_eq!(torn.open.len(), whole.commits[1].tags.len());
        assert!(torn.end < torn.erased_from && torn.erased_from <= whole.end);
        assert!(torn.behind.is_empty() && reveal(&mut block).is_none());
        let blank = Dissection::of(&[0xff; 512]).expect("a revision");
        assert_eq!((blank.commits.len(), blank.end, blank.erased_from), (0, 0, 0));
    }

    #[test]
    fn commits_behind_a_damaged_one_are_found() {
        let mut block = block();
        let whole = Dissection::of(&block).expect("a revision");
        // a byte of the name in the first commit
        block[8] ^= 1;
        let damaged = Dissection::of(&block).expect("a revision");
        assert!(matches!(damaged.stop, Stop::Mismatch { .. }), "{:?}", damaged.stop);
        assert!(damaged.commits.is_empty());
        assert_eq!(damaged.open, whole.commits[0].tags);
        assert_eq!(damaged.behind, whole.commits[1..]);
        assert_eq!(damaged.hidden_count(), 1);
        assert_eq!(reveal(&mut block), Some(vec![0]));
        let revealed = Dissection::of(&block).expect("a revision");
        assert_eq!((revealed.commits.len(), revealed.end), (2, whole.end));
    }
}
