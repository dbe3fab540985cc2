//! Metadata blocks as chamelon reads them.
//!
//! The key of an entry is its id, type and chunk, and the last entry of a key counts. A DELETE tag
//! removes the entries of its id and does not shift other ids. chamelon does not check checksums,
//! because it writes the same content to both blocks of a pair. Here, only commits with the right
//! checksum count, so that an interrupted write or a flipped bit is not taken for content.

use std::collections::BTreeMap;

use crate::bd::BlockDevice;
use crate::disk::{Pair, Tag, crc, read_u32_le, tag};
use crate::error::{Corrupt, Error, IoError, Result};
use crate::mdir::store;

/// The values that end a block for chamelon, as a tag before or after the XOR.
const ENDS: [u32; 2] = [0, 0xffff_ffff];
/// The only type that chamelon does not know. It ends the block, too.
const UNKNOWN: u16 = 0x100;

/// Where the data of a tag is in the block.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    len: usize,
}

/// One metadata block, replayed.
#[derive(Debug)]
pub(super) struct Log {
    block: Vec<u8>,
    /// Entries by id and type.
    entries: BTreeMap<(u16, u16), Place>,
    /// The next pair of the directory.
    pub hardtail: Option<Pair>,
    /// How many commits have the right checksum.
    pub commits: u32,
    /// Bitwise OR of the ends of commits that have entries. Its trailing zeros show the program
    /// size.
    pub ends: u32,
    /// Whether everything that chamelon reads in the block is in valid commits.
    whole: bool,
}

impl Log {
    /// Replay `block`. `each` is called for every tag that counts, with the number of its commit.
    pub fn parse(block: Vec<u8>, each: &mut dyn FnMut(u32, Tag)) -> Self {
        let (mut entries, mut hardtail) = (BTreeMap::new(), None);
        let (mut commits, mut ends) = (0, 0);
        // Where the current commit starts, and its tags. They are applied only when its checksum is
        // right.
        let (mut start, mut tags) = (0, Vec::new());
        let (mut at, mut last) = (4, tag::FIRST);
        while let Some((t, next)) = read_tag(&block, at, last) {
            let place = Place { at: at + 4, len: t.size() as usize };
            (at, last) = (next, t.0);
            // the chunk may have any value, because chamelon ends a commit at each CCRC tag
            if t.type1() != tag::CCRC {
                tags.push((t, place));
                continue;
            }
            let sum = crc::crc(crc::SEED, &block[start..place.at]);
            if place.len < 4 || read_u32_le(&block, place.at) != Some(sum) {
                break;
            }
            for (t, place) in &tags {
                each(commits, *t);
                apply(&mut entries, *t, *place);
            }
            let tail = tags.iter().find(|(t, _)| t.type3() == tag::HARDTAIL);
            if let Some((_, place)) = tail {
                hardtail = hardtail.or(Pair::from_bytes(bytes_at(&block, *place)));
            } else {
                ends |= next as u32;
            }
            (start, commits) = (next, commits + 1);
            // chamelon does not read on after an empty commit
            if tags.is_empty() {
                break;
            }
            tags.clear();
        }
        let whole = tags.is_empty();
        Self { block, entries, hardtail, commits, ends, whole }
    }

    /// The data of entry `id` that has type `ty`.
    pub fn get(&self, id: u16, ty: u16) -> Option<&[u8]> {
        self.entries.get(&(id, ty)).map(|&place| bytes_at(&self.block, place))
    }

    /// The types of entry `id` from `first` to `last`, in ascending order, with their data.
    pub fn range(&self, id: u16, first: u16, last: u16) -> impl Iterator<Item = (u16, &[u8])> {
        let found = self.entries.range((id, first)..=(id, last));
        found.map(|(&(_, ty), &place)| (ty, bytes_at(&self.block, place)))
    }

    /// The ids, types and names of values and dictionaries, in ascending order of the ids.
    pub fn names(&self) -> impl Iterator<Item = (u16, u16, &[u8])> {
        let named = |ty| matches!(ty, tag::REG | tag::DIR);
        let names = self.entries.iter().filter(move |&(&(_, ty), _)| named(ty));
        names.map(|(&(id, ty), &place)| (id, ty, bytes_at(&self.block, place)))
    }

    /// The block itself.
    pub fn bytes(&self) -> &[u8] {
        &self.block
    }

    /// The revision. chamelon compares revisions as signed numbers.
    fn rev(&self) -> i32 {
        read_u32_le(&self.block, 0).unwrap_or(0).cast_signed()
    }
}

fn bytes_at(block: &[u8], place: Place) -> &[u8] {
    block.get(place.at..place.at + place.len).unwrap_or_default()
}

/// The tag at `at`, and where the next tag starts. `None` if chamelon ends the block here.
fn read_tag(block: &[u8], at: usize, last: u32) -> Option<(Tag, usize)> {
    let raw: [u8; 4] = block.get(at..at + 4)?.try_into().ok()?;
    let raw = u32::from_be_bytes(raw);
    let t = Tag(raw ^ last);
    if ENDS.contains(&raw) || ENDS.contains(&t.0) || t.type1() == UNKNOWN || t.is_deleted() {
        return None;
    }
    let next = at + 4 + t.size() as usize;
    (next <= block.len()).then_some((t, next))
}

fn apply(entries: &mut BTreeMap<(u16, u16), Place>, t: Tag, place: Place) {
    if t.type3() == tag::DELETE {
        let gone: Vec<_> = entries.range((t.id(), 0)..=(t.id(), u16::MAX)).map(|e| *e.0).collect();
        for key in gone {
            entries.remove(&key);
        }
    }
    entries.insert((t.id(), t.type3()), place);
}

/// A pair that was read.
pub(super) struct Fetched {
    /// The active block.
    pub log: Log,
    /// Why chamelon may use the other block, or find more in this one; `None` if it reads the same.
    pub doubt: Option<Doubt>,
}

/// What is wrong with a pair, although it can be read.
pub(super) enum Doubt {
    /// The newer block was not written to its end, so the older one is used.
    Torn,
    /// Neither block is whole, so the commits with the right checksum are used.
    Cut,
    /// One block cannot be read, so the other one is used.
    Unreadable(IoError),
}

/// Read both blocks of a pair, and decide which one is active: the one that chamelon takes for the
/// newer one, unless only the other one is whole.
pub(super) fn fetch(dev: &dyn BlockDevice, pair: Pair) -> Result<Fetched> {
    store::check_pair(dev.geometry(), pair)?;
    let mut failed = None;
    let mut logs: Vec<Log> = Vec::with_capacity(2);
    for block in pair.0 {
        let mut bytes = vec![0; dev.geometry().block_size as usize];
        match store::read(dev, block, 0, &mut bytes) {
            Ok(()) => logs.push(Log::parse(bytes, &mut |_, _| ())),
            Err(e) => failed = Some(e),
        }
    }
    if let [a, b] = &logs[..]
        && takes_second(a.rev(), b.rev())
    {
        logs.reverse();
    }
    let newest_is_whole = logs.first().is_some_and(|log| log.whole && log.commits > 0);
    // the sort is stable, so of equal blocks the newer one stays first
    logs.sort_by_key(|log| (log.commits == 0, !log.whole));
    let Some(log) = logs.into_iter().next().filter(|log| log.commits > 0) else {
        return Err(match failed {
            Some(e) => Error::Io(e),
            None => Corrupt::no_valid_commit(pair).into(),
        });
    };
    let doubt = match failed {
        Some(e) => Some(Doubt::Unreadable(e)),
        None if !log.whole => Some(Doubt::Cut),
        None if !newest_is_whole => Some(Doubt::Torn),
        None => None,
    };
    Ok(Fetched { log, doubt })
}

/// Whether chamelon uses the second block of a pair. `a` and `b` are the revisions of both.
fn takes_second(a: i32, b: i32) -> bool {
    const FAR: i32 = i32::MAX >> 1;
    (a < b && b.wrapping_sub(a) < FAR) || (a > b && a.wrapping_sub(b) > FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_compare_as_in_chamelon() {
        assert!(takes_second(1, 2) && !takes_second(2, 1) && !takes_second(3, 3));
        // if they are far apart, the smaller one is newer
        assert!(takes_second(i32::MAX, 5) && !takes_second(5, i32::MAX));
    }
}
