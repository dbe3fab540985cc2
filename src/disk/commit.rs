//! Writing a commit: tags, padding, forward CRC and CRC (SPEC: `0x5xx` CRC, `0x5ff` FCRC).

use super::num::{low16, low32, widen};
use super::{GState, Tag, Tail, align_up, crc, tag};

/// Bytes that every commit keeps free for its last CRC tag and the CRC.
pub const CRC_SIZE: u32 = 8;
/// Bytes of a tag.
const TAG_SIZE: u32 = 4;
/// Bytes of the end of a commit: the FCRC tag with its 8 bytes of data, the CRC tag, and the CRC.
const END_SIZE: u32 = 20;

/// What a writer must know about the image.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes per block.
    pub block_size: u32,
    /// Commits end on multiples of this many bytes.
    pub prog_size: u32,
    /// Whether commits carry forward CRCs (disk version 2.1).
    pub fcrc: bool,
}

/// The bytes of a finished commit.
#[derive(Debug)]
pub struct Commit {
    /// Offset in the block of the first byte.
    pub start: u32,
    /// Tags, data, CRC and padding, up to the next multiple of the program size.
    pub bytes: Vec<u8>,
    /// The value with which the first tag of the next commit is XORed.
    pub etag: u32,
}

/// Memory for the bytes of a commit that is appended. Few commits are longer.
const USUAL_SIZE: usize = 256;
/// Memory for the bytes of the first commit of a block.
const COMPACTED_SIZE: u32 = 4096;

impl Commit {
    /// Offset of the byte after the commit.
    pub fn end(&self) -> u32 {
        self.start.saturating_add(low32(self.bytes.len()))
    }
}

/// The error that a commit does not fit into the rest of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFull;

/// Builds one commit.
pub struct Writer {
    layout: Layout,
    start: u32,
    bytes: Vec<u8>,
    /// How many bytes may come before the last CRC tag, which must always fit.
    limit: usize,
    ptag: u32,
    full: bool,
}

impl Writer {
    /// Begin a commit behind others, at byte `off`. `etag` is that of the commit before it.
    pub fn append(layout: Layout, off: u32, etag: u32) -> Self {
        Self::new(layout, off, etag, Vec::with_capacity(USUAL_SIZE))
    }

    /// Begin the first commit of an erased block. It starts with the revision count.
    pub fn compact(layout: Layout, rev: u32) -> Self {
        let mut bytes = Vec::with_capacity(widen(layout.block_size.min(COMPACTED_SIZE)));
        bytes.extend_from_slice(&rev.to_le_bytes());
        Self::new(layout, 0, tag::FIRST, bytes)
    }

    fn new(layout: Layout, start: u32, ptag: u32, bytes: Vec<u8>) -> Self {
        let limit = layout.block_size.checked_sub(CRC_SIZE).and_then(|end| end.checked_sub(start));
        let full = limit.is_none();
        Self { layout, start, bytes, limit: widen(limit.unwrap_or(0)), ptag, full }
    }

    /// Offset in the block of the next byte.
    fn off(&self) -> u32 {
        self.start.saturating_add(low32(self.bytes.len()))
    }

    /// Add a tag with its data. `type3` is its 11-bit type.
    pub fn tag(&mut self, type3: u16, id: u16, data: &[u8]) {
        debug_assert!(data.len() <= widen(tag::LEN_MAX));
        self.put(Tag::new(type3, id, low16(low32(data.len()))), data);
    }

    /// Mark the user attribute `ty` of `id` as deleted.
    pub fn delete_attr(&mut self, id: u16, ty: u8) {
        self.put(Tag::new(tag::USERATTR + u16::from(ty), id, tag::LEN_DELETED), &[]);
    }

    /// Add a tail tag.
    pub fn tail(&mut self, tail: Tail) {
        let ty = if tail.hard { tag::HARDTAIL } else { tag::SOFTTAIL };
        self.tag(ty, tag::ID_NONE, &tail.pair.to_bytes());
    }

    /// Add this pair's delta of the global state.
    pub fn gdelta(&mut self, delta: GState) {
        self.tag(tag::MOVESTATE, tag::ID_NONE, &delta.to_bytes());
    }

    fn put(&mut self, t: Tag, data: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        // data that is too long for a tag never fits
        if data.len() > widen(tag::LEN_MAX) || data.len().saturating_add(widen(TAG_SIZE)) > room {
            self.full = true;
            return;
        }
        self.bytes.extend_from_slice(&(t.0 ^ self.ptag).to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.ptag = t.0;
    }

    /// Close the commit with its CRC and padding, in the same steps as the C driver
    /// (`lfs_dir_commitcrc`).
    ///
    /// After a crash, a commit counts only if its CRC is right; a torn one leaves the commit before
    /// it in force. The length of the CRC tag includes the padding, but the CRC does not cover the
    /// padding. A tag has at most 1022 bytes, so a large program size needs several CRC tags. Each
    /// has the CRC of the bytes between the CRC tag before it and itself. If a whole program unit
    /// follows in the block, a forward CRC comes before the last CRC tag. With the forward CRC, the
    /// next driver can tell whether that unit is still erased (SPEC: `0x5ff` FCRC).
    ///
    /// # Errors
    /// [`BlockFull`] if the commit does not fit into the rest of the block.
    pub fn finish(mut self) -> Result<Commit, BlockFull> {
        let Layout { block_size, prog_size, fcrc } = self.layout;
        if self.full || self.bytes.len() > self.limit {
            return Err(BlockFull);
        }
        let end = align_up(self.off().saturating_add(END_SIZE).min(block_size), prog_size);
        let mut covered = 0;
        while self.off() < end {
            let mut next = end.min(self.off().saturating_add(TAG_SIZE + tag::LEN_MAX));
            // leave enough of the padding for the last CRC tag and the forward CRC
            if next < end {
                next = next.min(end.saturating_sub(END_SIZE));
            }
            if fcrc && next >= end && next.saturating_add(prog_size) <= block_size {
                let mut data = [0; 8];
                data[..4].copy_from_slice(&prog_size.to_le_bytes());
                data[4..].copy_from_slice(&crc::erased(prog_size).to_le_bytes());
                self.put(Tag::new(tag::FCRC, tag::ID_NONE, 8), &data);
            }
            // The lowest bit of this type is the valid bit that the next tag must have: 0. Bytes
            // that are not written read 0xFF here, so they never look like a valid tag.
            let len = next.saturating_sub(self.off()).saturating_sub(TAG_SIZE);
            let t = Tag::new(tag::CCRC, tag::ID_NONE, low16(len));
            self.bytes.extend_from_slice(&(t.0 ^ self.ptag).to_be_bytes());
            let sum = crc::crc(crc::SEED, &self.bytes[covered..]);
            self.bytes.extend_from_slice(&sum.to_le_bytes());
            self.bytes.resize(widen(next.saturating_sub(self.start)), 0xff);
            self.ptag = t.0;
            covered = self.bytes.len();
        }
        Ok(Commit { start: self.start, bytes: self.bytes, etag: self.ptag })
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::{Parsed, parse};
    use super::*;

    #[test]
    fn commits_are_read_back_as_written_at_every_prog_size() {
        for prog_size in [1, 16, 256, 2048, 4096] {
            for fcrc in [false, true] {
                let layout = Layout { block_size: 4096, prog_size, fcrc };
                let mut block = vec![0xff; 4096];
                let mut w = Writer::compact(layout, 7);
                w.tag(tag::REG, 0, b"name");
                w.tag(tag::INLINESTRUCT, 0, b"content");
                w.tail(Tail::END);
                let c = w.finish().expect("fits");
                assert_eq!(c.end() % prog_size, 0);
                block[..c.bytes.len()].copy_from_slice(&c.bytes);
                let Parsed::Log(log) = parse(&block, 4096) else { panic!("no log") };
                assert_eq!((log.rev, log.off, log.etag), (7, c.end(), c.etag));
                assert_eq!(&*log.entries[0].name, b"name");
                assert_eq!(log.tail, Some(Tail::END));
                assert_eq!(log.fcrc.is_some(), fcrc && c.end() < 4096);

                let mut w = Writer::append(layout, log.off, log.etag);
                w.tag(tag::DELETE, 0, &[]);
                match w.finish() {
                    Ok(c) => {
                        block[c.start as usize..c.end() as usize].copy_from_slice(&c.bytes);
                        let Parsed::Log(log) = parse(&block, 4096) else { panic!("no log") };
                        assert!(log.entries.is_empty() && log.off == c.end());
                    }
                    Err(BlockFull) => assert_eq!(prog_size, 4096),
                }
            }
        }
    }

    #[test]
    fn a_torn_commit_leaves_the_one_before_in_force() {
        let layout = Layout { block_size: 512, prog_size: 16, fcrc: true };
        let mut block = vec![0xff; 512];
        let mut w = Writer::compact(layout, 1);
        w.tag(tag::REG, 0, b"kept");
        let first = w.finish().expect("fits");
        block[..first.bytes.len()].copy_from_slice(&first.bytes);
        let mut w = Writer::append(layout, first.end(), first.etag);
        w.tag(tag::DELETE, 0, &[]);
        let second = w.finish().expect("fits");
        for torn in 0..second.bytes.len() {
            let at = second.start as usize;
            let mut b = block.clone();
            b[at..at + torn].copy_from_slice(&second.bytes[..torn]);
            let Parsed::Log(log) = parse(&b, 512) else { panic!("no log") };
            // once the CRC is there, only padding is missing
            assert!(log.off == first.end() || log.entries.is_empty());
        }
    }

    #[test]
    fn a_commit_that_does_not_fit_is_an_error() {
        let layout = Layout { block_size: 128, prog_size: 16, fcrc: false };
        for (off, fits) in [(112, true), (120, true), (121, false), (128, false), (144, false)] {
            assert_eq!(Writer::append(layout, off, 0).finish().is_ok(), fits, "at {off}");
        }
        let mut w = Writer::compact(layout, 1);
        w.tag(tag::REG, 0, &[b'x'; 113]);
        assert_eq!(w.finish().err(), Some(BlockFull));
        let mut w = Writer::compact(layout, 1);
        w.tag(tag::REG, 0, &[b'x'; 112]);
        assert!(w.finish().is_ok());
    }
}
