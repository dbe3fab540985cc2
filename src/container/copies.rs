//! Superblocks that are copies of others in the same filesystem.
//!
//! If blocks 0 and 1 are written too often, the root continues in another pair, which gets a
//! superblock entry, too (the superblock chain). When such a pair moves, its former blocks still hold
//! copies. So two blocks that are next to each other may look like blocks 0 and 1 of a filesystem,
//! although they are later blocks of one that starts before them, and that has lost one of its own
//! superblocks.

use super::ReadAt;
use super::evidence::Evidence;
use super::half::{Budget, Half, Remains, are_neighbours};

/// How many other starts are compared with a pair of superblocks.
const RIVALS_MAX: usize = 4;

/// Another start of the filesystem to which a pair of superblocks belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// The position of its block 0 in bytes.
    pub at: u64,
    /// Whether all evidence is in favour of that start. If not, either start may be the right one.
    pub certain: bool,
}

/// A place at which the filesystem of `own` may start instead of at byte `at`. `None` if it starts at
/// `at`. `own` are one or both of the superblocks that it has if it does.
///
/// `others` are superblocks of the same source that are not known to belong to another filesystem.
/// Without any, only the case is examined that the first superblock of a pair is block 1.
pub fn rival(source: &dyn ReadAt, at: u64, own: &[Half], others: &[Half]) -> Option<Rival> {
    let first = own.first()?;
    // in version 1, the root is another pair than the superblock from the beginning
    if first.is_version1() {
        return None;
    }
    let (block, size) = (u64::from(first.superblock.block_size), first.superblock.size());
    let as_second = at.checked_sub(block).filter(|_| own.len() == 2).map(|start| (start, *first));
    let of_others = others.iter().filter(|half| !own.contains(half)).flat_map(|half| {
        let starts = [half.at.checked_sub(block), Some(half.at)];
        starts.into_iter().flatten().map(|start| (start, *half))
    });
    let may_have_copies = |(start, half): &(u64, Half)| {
        *start < at
            && half.superblock.size() == size
            && u64::from(half.superblock.block_size) == block
            && (at - start).is_multiple_of(block)
            && own.iter().all(|copy| copy.at.saturating_add(block) <= start.saturating_add(size))
            && !is_whole(source, *start, *half)
    };
    let end = at.saturating_add(size);
    let mut inside = others.iter().filter(|half| half.at > at && half.at < end);
    let has_copies = inside.any(|half| !own.contains(half));
    let rivals = as_second.into_iter().chain(of_others).filter(may_have_copies);
    let mut rivals = rivals.take(RIVALS_MAX);
    rivals.find_map(|rival| compare(source, (at, own), has_copies, rival))
}

/// Whether the filesystem that starts at byte `at`, and has `half` as one of its superblocks, also
/// has the other one.
fn is_whole(source: &dyn ReadAt, at: u64, half: Half) -> bool {
    let block = u64::from(half.superblock.block_size);
    let twin = if half.at == at { at.saturating_add(block) } else { at };
    let twin = Half::read(source, twin, &mut Budget(u64::MAX));
    twin.is_some_and(|twin| twin.agrees_with(&half))
}

/// Compare the filesystem that starts at byte `at` with the superblocks `own` to the one that starts at
/// byte `start`, and that has `half` as its only superblock. `has_copies` says whether there are
/// other superblocks in the first one.
fn compare(
    source: &dyn ReadAt,
    (at, own): (u64, &[Half]),
    has_copies: bool,
    (start, half): (u64, Half),
) -> Option<Rival> {
    let newest = own.iter().copied().reduce(Half::newer)?;
    let here = Evidence::gather(source, at, &newest.superblock);
    let there = Evidence::gather(source, start, &half.superblock);
    // the blocks of one pair have revisions next to each other; a copy may have any
    let is_pair = matches!(own, [a, b] if are_neighbours(a.rev, b.rev));
    let good_here = here.good + if is_pair { 2 } else { 1 };
    // a lost superblock that looks as if the power failed while it was written counts, too
    let block = u64::from(half.superblock.block_size);
    let lost_at = if half.at == start { start.saturating_add(block) } else { start };
    let is_torn = Remains::of(source, lost_at, half.rev, block) == Remains::Torn;
    let good_there = there.good + if is_torn { 2 } else { 1 };
    let size = source.size().unwrap_or(u64::MAX);
    let fits = |at: u64| at.saturating_add(half.superblock.size()) <= size;
    let is_only_there = (fits(at), fits(start)) == (false, true);
    // without a tree, both look alike; but a filesystem whose root has not moved has no other
    // superblocks
    let is_shown = here.good >= 2 || !has_copies;
    let is_first = own.contains(&half);
    let is_better_here = if is_pair && is_first {
        here.bad == 0 && is_shown && (good_here > good_there || there.bad > 0)
    } else {
        good_here > good_there && there.bad > 0
    };
    if is_better_here && !is_only_there {
        return None;
    }
    let is_better_there = good_there > good_here || good_there == good_here && is_only_there;
    Some(Rival { at: start, certain: there.bad == 0 && is_better_there })
}
