//! Metadata blocks on the device: reading a pair, and writing one of its blocks.

#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::arithmetic_side_effects))]

use std::sync::Arc;

use super::LogEnd;
use crate::bd::{BlockDevice, Geometry, IoResult};
use crate::disk::commit::Commit;
use crate::disk::crc;
use crate::disk::dissect::Dissection;
use crate::disk::log::{self, Log, LogFault, Packed, Parsed};
use crate::disk::num::widen;
use crate::disk::{Pair, Superblock, read_u32_le, rev_newer};
use crate::error::{Corrupt, Error, IoError, IoOp, Result};

/// How many bytes of a metadata block are read first.
const FIRST_READ: usize = 4096;
/// How many bytes are read at a time if a whole block is examined.
const CHUNK: usize = 64 << 10;

/// A metadata pair that was read.
pub struct Fetched<L = Log> {
    /// The active block, then the other block.
    pub pair: Pair,
    /// Content of the active block.
    pub log: L,
    /// Whether the other block holds a valid commit, too.
    pub twin_valid: bool,
    /// Why one block could not be read. It may hold newer content.
    pub unreadable: Option<IoError>,
}

impl Fetched<Log<Packed>> {
    /// The same pair, with a list of the entries.
    pub fn unpack(self) -> Fetched {
        let Self { pair, log, twin_valid, unreadable } = self;
        Fetched { pair, log: log.unpack(), twin_valid, unreadable }
    }
}

/// Bytes per block.
fn block_size(dev: &dyn BlockDevice) -> usize {
    widen(dev.geometry().block_size)
}

/// Whether both addresses are blocks of the image, and are different.
///
/// # Errors
/// [`Corrupt::PairOutOfRange`] if they are not.
pub fn check_pair(g: Geometry, pair: Pair) -> Result<(), Corrupt> {
    let [a, b] = pair.0;
    if a == b || a >= g.block_count || b >= g.block_count {
        return Err(Corrupt::PairOutOfRange(pair));
    }
    Ok(())
}

/// Fill `bytes` from byte `off` of a metadata block. If a truncated image ends within the block,
/// the bytes that it lacks read as erased: its log shows by its checksums which commits are there.
///
/// # Errors
/// Those of the device.
pub fn read(dev: &dyn BlockDevice, block: u32, off: u32, bytes: &mut [u8]) -> IoResult<()> {
    let Err(e) = dev.read(block, off, bytes) else { return Ok(()) };
    match e.present().and_then(|present| bytes.split_at_mut_checked(present)) {
        Some((there, missing)) if off > 0 || !there.is_empty() => {
            dev.read(block, off, there)?;
            missing.fill(0xff);
            Ok(())
        }
        _ => Err(e),
    }
}

/// Read the metadata log in `block`; `None` if no commit is valid.
///
/// # Errors
/// Those of the device.
pub fn read_log(dev: &dyn BlockDevice, block: u32) -> IoResult<Option<Log>> {
    Ok(read_packed(dev, block)?.ok().map(Log::unpack))
}

/// Like [`read_log`], for callers that may not need the entries.
fn read_packed(dev: &dyn BlockDevice, block: u32) -> IoResult<Result<Log<Packed>, LogFault>> {
    let mut bytes = vec![0; FIRST_READ.min(block_size(dev))];
    read(dev, block, 0, &mut bytes)?;
    let log = parse_log(dev, block, bytes)?;
    if log.is_err() {
        // if the end of a truncated image is in this block, a commit may be missing
        let end = dev.geometry().block_size.saturating_sub(1);
        dev.read(block, end, &mut [0])
            .or_else(|e| if e.present().is_some() { Err(e) } else { Ok(()) })?;
    }
    Ok(log)
}

/// Read the active block of `pair` again, up to the commit that ends at `end`. Bytes after that are
/// ignored, because a failed write may have left them.
///
/// # Errors
/// [`Corrupt::LogChanged`] if the log does not end with that commit any more.
pub fn read_known(dev: &dyn BlockDevice, pair: Pair, end: LogEnd) -> Result<Log<Packed>> {
    // The last tag may give a length that is up to four bytes shorter than its CRC. One more tag
    // could fit into that space, but not its CRC, so no further commit is read.
    let len = dev.geometry().block_size.min(end.off.saturating_add(4));
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, widen(len)).collect();
    if let Some(bytes) = Arc::get_mut(&mut bytes) {
        read(dev, pair.0[0], 0, bytes)?;
    }
    let log = log::parse_shared(bytes).filter(|log| LogEnd::of(log) == end);
    log.ok_or_else(|| Corrupt::LogChanged(pair).into())
}

/// Like [`read_log`], if the first bytes of the block are known.
fn parse_log(
    dev: &dyn BlockDevice,
    block: u32,
    mut bytes: Vec<u8>,
) -> IoResult<Result<Log<Packed>, LogFault>> {
    let block_size = block_size(dev);
    loop {
        match log::parse_packed(&bytes, block_size) {
            Parsed::NeedMore => bytes.resize(bytes.len().saturating_mul(4).min(block_size), 0),
            Parsed::Empty(why) => return Ok(Err(why)),
            Parsed::Log(log) => return Ok(Ok(log)),
        }
        read(dev, block, 0, &mut bytes)?;
    }
}

/// Read a pair: the block with the newer revision, or the other block if that one holds no valid
/// commit.
///
/// # Errors
/// Those of [`fetch_packed`].
pub fn fetch(dev: &dyn BlockDevice, pair: Pair) -> Result<Fetched> {
    Ok(fetch_packed(dev, pair, &mut Vec::new())?.unpack())
}

/// Like [`fetch`], for callers that read many pairs and may not need their entries. `buffer`
/// receives the bytes. The result does not refer to it.
///
/// # Errors
/// [`Corrupt::PairOutOfRange`] and [`Corrupt::NoValidCommit`]; the error of the device if a block
/// cannot be read and the other one holds no valid commit.
pub fn fetch_packed(
    dev: &dyn BlockDevice,
    pair: Pair,
    buffer: &mut Vec<u8>,
) -> Result<Fetched<Log<Packed>>> {
    check_pair(dev.geometry(), pair)?;
    if let Some(fetched) = fetch_at_once(dev, pair, buffer) {
        return Ok(fetched);
    }
    let [a, b] = pair.0;
    let mut failed = None;
    let (mut first, mut second) = (a, b);
    let revs = [a, b].map(|block| try_read_rev(dev, block).map_err(|e| failed = Some(e)));
    if let [Ok(ra), Ok(rb)] = revs
        && rev_newer(rb, ra)
    {
        (first, second) = (b, a);
    }
    let mut faults = [None; 2];
    for (block, other, twin_valid) in [(first, second, true), (second, first, false)] {
        match read_packed(dev, block) {
            Ok(Err(why)) => faults[usize::from(block == b)] = Some(why),
            Ok(Ok(log)) => {
                let pair = Pair([block, other]);
                return Ok(Fetched { pair, log, twin_valid, unreadable: failed });
            }
            Err(e) => failed = Some(e),
        }
    }
    Err(match failed {
        Some(e) => Error::Io(e),
        None => Error::Corrupt(Corrupt::NoValidCommit { pair, faults }),
    })
}

/// Read a pair that must belong to a directory below the root. It must not hold a superblock,
/// because the last pair in the thread with a superblock is the root.
///
/// # Errors
/// Those of [`fetch_dir_packed`].
pub fn fetch_dir(dev: &dyn BlockDevice, pair: Pair) -> Result<Fetched> {
    Ok(fetch_dir_packed(dev, pair)?.unpack())
}

/// Like [`fetch_dir`], for callers that may not need the entries.
///
/// # Errors
/// [`Corrupt::StraySuperblock`] if the pair holds a superblock, and the errors of [`fetch_packed`].
pub fn fetch_dir_packed(dev: &dyn BlockDevice, pair: Pair) -> Result<Fetched<Log<Packed>>> {
    let f = fetch_packed(dev, pair, &mut Vec::new())?;
    match Superblock::decode_packed(&f.log) {
        Ok(_) => Err(Corrupt::StraySuperblock(pair).into()),
        Err(_) => Ok(f),
    }
}

/// Read the new blocks `pair` of a directory that has been relocated. `old` are the blocks that the
/// thread still names, the active one first.
///
/// # Errors
/// [`Corrupt::PairOutdated`] if the state in the new blocks is older, and the errors of
/// [`fetch_dir_packed`].
pub fn fetch_relocated(
    dev: &dyn BlockDevice,
    pair: Pair,
    old: Pair,
) -> Result<Fetched<Log<Packed>>> {
    let fetched = fetch_dir_packed(dev, pair)?;
    if rev_newer(read_rev(dev, old.0[0]), fetched.log.rev) {
        return Err(Corrupt::PairOutdated(pair).into());
    }
    Ok(fetched)
}

/// Read a pair of small blocks in one call, if they are next to each other, as most are. The result
/// is `None` if one call is not enough: the blocks are large or not neighbours, or something is
/// wrong with them.
fn fetch_at_once(
    dev: &dyn BlockDevice,
    pair: Pair,
    buffer: &mut Vec<u8>,
) -> Option<Fetched<Log<Packed>>> {
    let block_size = block_size(dev);
    let [a, b] = pair.0;
    if a.abs_diff(b) != 1 || block_size > FIRST_READ {
        return None;
    }
    buffer.resize(block_size.saturating_mul(2), 0);
    dev.read(a.min(b), 0, buffer).ok()?;
    let (low, high) = buffer.split_at(block_size);
    let (of_a, of_b) = if a < b { (low, high) } else { (high, low) };
    let newer = match (read_u32_le(of_a, 0), read_u32_le(of_b, 0)) {
        (Some(ra), Some(rb)) => rev_newer(rb, ra),
        _ => false,
    };
    let (pair, bytes) = if newer { (Pair([b, a]), of_b) } else { (pair, of_a) };
    match log::parse_packed(bytes, block_size) {
        Parsed::Log(log) => Some(Fetched { pair, log, twin_valid: true, unreadable: None }),
        Parsed::Empty(_) | Parsed::NeedMore => None,
    }
}

fn try_read_rev(dev: &dyn BlockDevice, block: u32) -> IoResult<u32> {
    let mut rev = [0; 4];
    dev.read(block, 0, &mut rev)?;
    Ok(u32::from_le_bytes(rev))
}

/// The revision in the first bytes of `block`; 0 if they cannot be read.
pub fn read_rev(dev: &dyn BlockDevice, block: u32) -> u32 {
    try_read_rev(dev, block).unwrap_or(0)
}

/// Whether every byte of `block` from `off` on reads 0xFF.
///
/// A commit may only be appended there, because a torn or reordered write leaves bytes behind that
/// a later commit would make valid.
pub fn is_erased_from(dev: &dyn BlockDevice, block: u32, off: u32) -> bool {
    let block_size = dev.geometry().block_size;
    let mut buf = vec![0; CHUNK.min(widen(block_size))];
    (off..block_size).step_by(CHUNK).all(|at| {
        let n = buf.len().min(widen(block_size.saturating_sub(at)));
        read(dev, block, at, &mut buf[..n]).is_ok() && buf[..n].iter().all(|&b| b == 0xff)
    })
}

/// Commits that no driver reads, because they are behind a damaged one.
pub struct Hidden {
    /// Offset of the damaged commit in its block, in bytes.
    pub at: u32,
    /// How many valid commits are behind it; at least one.
    pub count: usize,
    /// Whether they were certainly written after the commits that a driver reads.
    is_later: bool,
}

/// The hidden commits in a metadata block. They may be older than the damaged commit.
pub fn hidden_in(dev: &dyn BlockDevice, block: u32) -> Option<Hidden> {
    let mut bytes = vec![0; block_size(dev)];
    read(dev, block, 0, &mut bytes).ok()?;
    let taken = Dissection::of(&bytes)?;
    let count = taken.hidden_count();
    (count > 0).then_some(Hidden { at: taken.end, count, is_later: taken.is_later() })
}

/// The commits behind the end of a log, if they were certainly written after it: a commit between
/// them is damaged. `None` if there are none, or if they may be remains of an older log.
///
/// The forward CRC of the last commit tells the two cases apart (SPEC: `0x5ff` FCRC). If it is that
/// of erased bytes, the block was erased behind that commit. So whatever is there was written later.
pub fn hidden_commits<E>(dev: &dyn BlockDevice, pair: Pair, log: &Log<E>) -> Option<Corrupt> {
    let (size, sum) = log.fcrc?;
    // this costs no access to the device, and holds for nearly all logs
    let is_end = matches!(log.end, LogFault::Erased | LogFault::Full);
    if is_end || sum != crc::erased(size.min(dev.geometry().block_size)) {
        return None;
    }
    let block = pair.0[0];
    let Hidden { at, count, .. } = hidden_in(dev, block).filter(|hidden| hidden.is_later)?;
    Some(Corrupt::CommitsHidden { pair, block, at, count })
}

/// Write an encoded commit into `block`, and read it back if the device needs that.
///
/// # Errors
/// Those of [`prog_checked`].
pub fn write_commit(dev: &dyn BlockDevice, block: u32, commit: &Commit) -> IoResult<()> {
    prog_checked(dev, block, commit.start, &commit.bytes)
}

/// Erase a block that nothing names yet, and write its first commit. There is no barrier between
/// the two: whichever of them a crash keeps, nobody reads the block.
///
/// # Errors
/// Those of [`BlockDevice::erase`] and [`prog_checked`].
pub fn write_fresh(dev: &dyn BlockDevice, block: u32, commit: &Commit) -> IoResult<()> {
    dev.erase(block)?;
    prog_checked(dev, block, commit.start, &commit.bytes)
}

/// Erase `block`, and read it back if the device needs that.
///
/// # Errors
/// Those of [`BlockDevice::erase`], and an error if the block is not erased afterwards.
pub fn erase_checked(dev: &dyn BlockDevice, block: u32) -> IoResult<()> {
    dev.erase(block)?;
    if dev.wants_read_back() && !is_erased_from(dev, block, 0) {
        return Err(silent_failure(block));
    }
    Ok(())
}

/// Program `data`, and read it back if the device needs that.
///
/// # Errors
/// Those of [`BlockDevice::prog`], and an error if other bytes are read back.
pub fn prog_checked(dev: &dyn BlockDevice, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
    dev.prog(block, off, data)?;
    read_back(dev, block, off, data)
}

/// Write a whole block over its old content, in one call if the device can do that, and read it
/// back if the device needs that.
///
/// # Errors
/// Those of [`BlockDevice::rewrite`], and an error if other bytes are read back.
pub fn rewrite_checked(dev: &dyn BlockDevice, block: u32, data: &[u8]) -> IoResult<()> {
    dev.rewrite(block, data)?;
    read_back(dev, block, 0, data)
}

fn read_back(dev: &dyn BlockDevice, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
    if dev.wants_read_back() {
        let mut back = vec![0; data.len()];
        // if it cannot be read back, it counts as not written
        dev.read(block, off, &mut back).map_err(|_| silent_failure(block))?;
        if back != data {
            return Err(silent_failure(block));
        }
    }
    Ok(())
}

/// The error for bytes that the device reported as written, but that cannot be read back.
pub fn silent_failure(block: u32) -> IoError {
    IoError {
        op: IoOp::Prog,
        block: Some(block),
        source: std::io::Error::from_raw_os_error(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bd::RamDevice;
    use crate::disk::commit::{Layout, Writer};
    use crate::disk::tag;

    const PAIR: Pair = Pair([1, 0]);

    /// Append a commit with a file of this name, and return the log after it.
    fn append(dev: &RamDevice, end: Option<LogEnd>, id: u16, name: &[u8]) -> Log<Packed> {
        let layout = Layout { block_size: 512, prog_size: 16, fcrc: false };
        let mut w = match end {
            None => Writer::compact(layout, 7),
            Some(end) => Writer::append(layout, end.off, end.etag),
        };
        w.tag(tag::REG, id, name);
        write_commit(dev, PAIR.0[0], &w.finish().expect("it fits")).expect("write");
        read_packed(dev, PAIR.0[0]).expect("read").expect("a log")
    }

    #[test]
    fn a_known_log_is_read_again_only_if_it_is_unchanged() {
        let dev = RamDevice::new(Geometry::new(512, 4).expect("geometry"));
        let first = LogEnd::of(&append(&dev, None, 0, b"one"));
        let second = LogEnd::of(&append(&dev, Some(first), 1, b"two"));
        let names = |end| {
            let log = read_known(&dev, PAIR, end).map(Log::unpack);
            log.map(|log| log.entries.iter().map(|e| e.name.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(names(second).expect("as written"), [b"one", b"two"]);
        // the second commit may be what a failed write has left
        assert_eq!(names(first).expect("as known"), [b"one"]);
        let changed = |end| matches!(names(end), Err(Error::Corrupt(Corrupt::LogChanged(PAIR))));
        assert!(changed(LogEnd { off: second.off + 16, ..second }));
        assert!(changed(LogEnd { rev: 8, ..second }));
        assert!(changed(LogEnd::default()));
        // one more bit is lost
        let mut byte = [0];
        dev.read(1, second.off - 20, &mut byte).expect("read");
        dev.prog(1, second.off - 20, &[!byte[0]]).expect("prog");
        assert!(changed(second));
        assert_eq!(names(first).expect("not touched"), [b"one"]);
    }

    #[test]
    fn the_error_says_what_is_wrong_with_each_block() {
        let dev = RamDevice::new(Geometry::new(512, 4).expect("geometry"));
        append(&dev, None, 0, b"name");
        let fault = || fetch(&dev, PAIR).err().expect("no valid commit").to_string();
        let words = "damaged image: metadata pair {0x1, 0x0} holds no valid commit: block 0x1: ";
        let erased = "; block 0x0: it does not begin with a commit";
        let mut first = [0; 24];
        dev.read(1, 0, &mut first).expect("read");
        let cases = [
            // a byte of the name
            (8, 0x01, "the CRC of the first commit does not match its bytes"),
            // the bit of the first tag that says whether it is valid
            (4, 0x80, "it does not begin with a commit"),
            // a high bit of its length
            (6, 0x02, "a tag of the first commit reaches beyond the block"),
        ];
        for (at, bit, why) in cases {
            let mut bytes = first;
            bytes[at] ^= bit;
            dev.prog(1, 0, &bytes).expect("prog");
            assert_eq!(fault(), format!("{words}{why}{erased}"));
        }
    }
}
