//! Which filesystem a superblock belongs to, and how certain that is.
//!
//! Both superblocks of a filesystem hold its block size, so two that are exactly one block apart
//! belong together. If there is only one superblock, it may be the first or the second one: the
//! filesystem starts there, or one block before. The wrong choice would show an empty filesystem,
//! and a write to that filesystem would destroy the real one. So a single superblock is accepted
//! only if something else in the file shows which of the two it is.

use std::collections::HashSet;
use std::fmt;

use super::copies::{Rival, rival};
use super::evidence::Evidence;
use super::half::{Budget, Half, Remains, are_neighbours};
use super::{Label, ReadAt, Scan};
use crate::bd::Geometry;
use crate::disk::Superblock;

/// How many filesystems and single superblocks are examined. No file that is in use has more.
const CANDIDATES_MAX: usize = 32;

/// A filesystem that was found by one or both of its superblocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The position of its block 0 in bytes.
    pub at: u64,
    /// The valid superblock of the first pair; the newer one if both are valid.
    pub superblock: Superblock,
    /// Which block, 0 or 1, has no valid superblock, if one has none.
    pub lost: Option<u32>,
    /// Why it may not be the filesystem that it seems to be. If there is a doubt, it must not be
    /// written to.
    pub doubt: Option<Doubt>,
    /// How much of its tree is in the right place.
    pub evidence: Evidence,
    /// The name of the partition that begins there.
    pub label: Option<Label>,
}

/// Why a superblock is not trusted. Positions are in bytes from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// It is one of the two valid superblocks of the filesystem that starts at this position.
    PartOf(u64),
    /// The pairs and lists that it leads to are in the right places if the filesystem starts at
    /// this position.
    BetterAt(u64),
    /// It could just as well be the other superblock of a filesystem that starts at this position.
    EitherAt(u64),
    /// The file may lack the first block of the filesystem.
    Beheaded,
    /// The other superblock of the filesystem is at this position: the two blocks are further apart
    /// than the superblock says.
    Stretched(u64),
    /// Its superblocks look like copies that belong to the filesystem that starts at this position.
    CopiesOf(u64),
    /// It seems to be empty, but an intact filesystem starts inside its blocks, at this position.
    Covers(u64),
    /// None of the pairs and lists that it leads to is in its place.
    LeadsNowhere,
    /// The two superblocks belong to different filesystems.
    Disagreeing,
}

impl Doubt {
    /// What to do about it, as the end of a sentence. An image with a doubt is never written or
    /// repaired, but it can always be read.
    pub fn remedy(self) -> String {
        const READ: &str = "'littlefs extract' copies what can be read";
        match self {
            Self::PartOf(at) | Self::BetterAt(at) | Self::CopiesOf(at) | Self::Covers(at) => {
                format!(
                    "--offset {at} (-o offset={at} for a mount) opens that filesystem, and {READ} \
                     here"
                )
            }
            Self::Stretched(_) => {
                format!(
                    "if it is such a dump, give the size of its pages with --page (-o page= for a \
                     mount), else {READ}"
                )
            }
            Self::EitherAt(_) | Self::Beheaded | Self::LeadsNowhere | Self::Disagreeing => {
                READ.to_owned()
            }
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartOf(at) => write!(
                f,
                "its only superblock belongs to the filesystem at offset={at} ({at:#x}), which is \
                 whole"
            ),
            Self::BetterAt(at) => write!(
                f,
                "one of its superblocks is lost, and the other one belongs to a filesystem at \
                 offset={at} ({at:#x})"
            ),
            Self::EitherAt(at) => write!(
                f,
                "one of its two superblocks is lost, and it is not certain whether the other one \
                 belongs to a filesystem here or to one at offset={at} ({at:#x})"
            ),
            Self::Beheaded => f.write_str(
                "one of its two superblocks is lost, and the filesystem may start one block before \
                 the start of this file",
            ),
            Self::Stretched(at) => write!(
                f,
                "its second superblock is at byte {at} ({at:#x}) of the file, and not at the place \
                 that its block size requires, as in a dump of NAND flash with spare bytes"
            ),
            Self::CopiesOf(at) => write!(
                f,
                "its superblocks may be copies that belong to the filesystem at offset={at} \
                 ({at:#x}), which has lost one of its own"
            ),
            Self::Covers(at) => write!(
                f,
                "it looks empty, but another filesystem, which is whole, starts inside it at \
                 offset={at} ({at:#x})"
            ),
            Self::LeadsNowhere => f.write_str(
                "its superblock leads to nothing that exists: the filesystem does not start here, \
                 or it is old and was overwritten",
            ),
            Self::Disagreeing => f.write_str(
                "its two superblocks belong to different filesystems, and it is not certain which \
                 of them is the right one",
            ),
        }
    }
}

impl Found {
    /// The length of the filesystem in bytes.
    pub fn len(&self) -> u64 {
        self.superblock.size()
    }

    /// Whether it has no blocks, which is impossible for a filesystem.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it may well exist although there is a doubt. Then what starts inside it may be the
    /// content of a file.
    pub(super) fn may_hold_others(&self) -> bool {
        use Doubt::{Beheaded, Covers, Disagreeing, EitherAt, Stretched};
        matches!(self.doubt, Some(EitherAt(_) | Beheaded | Stretched(_) | Covers(_) | Disagreeing))
    }

    pub(super) fn covers(&self, at: u64) -> bool {
        at >= self.at && at - self.at < self.len()
    }
}

/// The two superblocks of one filesystem.
struct Halves {
    at: u64,
    block_size: u32,
    halves: [Option<Half>; 2],
}

impl Halves {
    fn read(source: &dyn ReadAt, at: u64, block_size: u32, budget: &mut Budget) -> Self {
        let halves = [0, 1].map(|block| {
            let at = at.checked_add(block * u64::from(block_size))?;
            Half::read(source, at, budget).filter(|half| half.superblock.block_size == block_size)
        });
        Self { at, block_size, halves }
    }

    /// Both superblocks, if they belong together.
    fn whole(&self) -> Option<[Half; 2]> {
        match self.halves {
            [Some(a), Some(b)] if a.agrees_with(&b) => Some([a, b]),
            _ => None,
        }
    }
}

/// The filesystem at byte `at` with blocks of `block_size` bytes. `None` if neither of its
/// superblocks is valid.
///
/// `scan` returns all superblocks of the file. It is called only if one of the two is lost.
pub fn judge<'s>(
    source: &dyn ReadAt,
    at: u64,
    block_size: u32,
    scan: impl Fn() -> &'s Scan,
) -> Option<Found> {
    let mut budget = Budget(u64::MAX);
    let here = Halves::read(source, at, block_size, &mut budget);
    let (half, lost) = match here.halves {
        [Some(a), Some(b)] => (a.newer(b), None),
        [Some(a), None] => (a, Some(1)),
        [None, Some(b)] => (b, Some(0)),
        [None, None] => return None,
    };
    let superblock = half.superblock;
    let mut found =
        Found { at, superblock, lost, doubt: None, evidence: Evidence::default(), label: None };
    if let Some(pair) = here.whole() {
        let rival = rival(source, at, &pair, &[]).filter(|rival| rival.certain);
        found.doubt = rival.map(|rival| Doubt::CopiesOf(rival.at));
        return Some(found);
    }
    found.evidence = Evidence::gather(source, at, &superblock);
    let supported = found.evidence.good >= 2 && found.evidence.bad == 0;
    found.doubt = match lost {
        None if supported => None,
        None => Some(Doubt::Disagreeing),
        Some(lost) => doubt_of_one_half(source, &here, &found, half, lost, scan),
    };
    Some(found)
}

/// The two places where a filesystem with only one superblock left may start: here, or at the place
/// where the remaining superblock would be the other one of the two.
struct Places {
    /// The other place; `None` if it is before the start of the file.
    other: Option<u64>,
    /// Whether the whole filesystem is inside the file if it starts here, and if it starts at the
    /// other place. `None` without the other place.
    fits: Option<(bool, bool)>,
    /// Whether the file has room for it only here.
    only_here: bool,
}

impl Places {
    fn of(source: &dyn ReadAt, here: &Halves, len: u64, lost: u32) -> Self {
        let block = u64::from(here.block_size);
        let other = match lost {
            0 => here.at.checked_add(block),
            _ => here.at.checked_sub(block),
        };
        let size = source.size().unwrap_or(u64::MAX);
        let behind = |at: u64| size.checked_sub(at.checked_add(len)?);
        let fits = other.map(|other| (behind(here.at).is_some(), behind(other).is_some()));
        let only_here = match fits {
            Some(fits) => fits == (true, false),
            // if the file lacks the first block of the filesystem, it may continue behind the
            // filesystem
            None => behind(here.at).is_some_and(|behind| behind < block),
        };
        Self { other, fits, only_here }
    }
}

/// Why a filesystem with only one superblock left may start at another position.
fn doubt_of_one_half<'s>(
    source: &dyn ReadAt,
    here: &Halves,
    found: &Found,
    half: Half,
    lost: u32,
    scan: impl Fn() -> &'s Scan,
) -> Option<Doubt> {
    let places = Places::of(source, here, found.len(), lost);
    let evidence = found.evidence;
    // The power failed while the other superblock was written, and there is room only here.
    let block = u64::from(here.block_size);
    let lost_at = here.at.saturating_add(u64::from(lost) * block);
    let is_torn = Remains::of(source, lost_at, half.rev, block) == Remains::Torn;
    if places.fits == Some((true, false)) && evidence.bad == 0 && is_torn {
        return None;
    }
    let there = places.other.map(|at| {
        let mut budget = Budget(u64::MAX);
        Halves::read(source, at, here.block_size, &mut budget)
    });
    if let Some(pair) = there.as_ref().and_then(Halves::whole) {
        let at = pair[0].at;
        match rival(source, at, &pair, &[]).filter(|rival| rival.at == here.at) {
            None => return Some(Doubt::PartOf(at)),
            Some(Rival { certain: false, .. }) => return Some(Doubt::EitherAt(at)),
            Some(Rival { certain: true, .. }) => {}
        }
    }
    let evidence_there = match places.other {
        Some(at) => Evidence::gather(source, at, &half.superblock),
        None => Evidence::default(),
    };
    // If only one of the two fits into the file, it ends exactly with the file. That counts for
    // more than how much of a damaged tree is in the right place. But if the tree is damaged, and
    // at least as much of it is in the right place for the other start, then the file may be a
    // piece of a dump that starts a block early and ends a block early.
    let is_better_here =
        evidence.bad == 0 || evidence_there.bad > 0 && evidence.good > evidence_there.good;
    match (places.fits, places.other) {
        (Some((true, false)), _) if evidence.good > 0 && is_better_here => return None,
        (Some((false, true)), Some(other)) if evidence_there.good > 0 => {
            return Some(Doubt::BetterAt(other));
        }
        _ => {}
    }
    if let Some(other) = places.other.filter(|_| evidence_there.good > evidence.good) {
        return Some(Doubt::BetterAt(other));
    }
    if let Some(other) = places.other.filter(|_| evidence_there.good > 0 && !is_better_here) {
        return Some(Doubt::EitherAt(other));
    }
    // if the other start is before the file, nothing of the tree can be looked up from there
    let is_compared = match places.other {
        Some(_) => evidence_there.bad > evidence.bad,
        None => evidence.bad == 0,
    };
    if evidence.good >= 2 && evidence.good > evidence_there.good && is_compared {
        return None;
    }
    if let Some(at) = displaced_twin(here, half, scan()) {
        return Some(Doubt::Stretched(at));
    }
    doubt_without_tree(source, here, found, half, &places, scan)
}

/// The same if the tree does not show where the filesystem starts: it is damaged, or the filesystem
/// is empty, or all of its files are in the root.
fn doubt_without_tree<'s>(
    source: &dyn ReadAt,
    here: &Halves,
    found: &Found,
    half: Half,
    places: &Places,
    scan: impl Fn() -> &'s Scan,
) -> Option<Doubt> {
    let block = u64::from(here.block_size);
    let remains = |lost: u64| Remains::of(source, lost, half.rev, block);
    // the lost superblock is next to the one that is left
    let is_first = half.at == here.at;
    let lost_here = remains(if is_first { half.at + block } else { here.at });
    // A dump that lacks its first block may have been filled up to the right size. Then the last of
    // its files may lead to erased bytes. What is in the place of the lost superblock tells less: a
    // crash may have left any part of a commit there.
    let may_be_shifted = places.other.is_none() && found.evidence.erased > 0;
    let only_here = places.only_here && (lost_here == Remains::Torn || !may_be_shifted);
    // If there is room only here, and the lost superblock looks as if power was cut while it was
    // written, then the filesystem starts here, however damaged its tree is.
    if found.evidence.bad > 0 && !(only_here && lost_here >= Remains::Erased) {
        return Some(Doubt::LeadsNowhere);
    }
    if found.evidence.good == 0
        && let Some(at) = whole_inside(source, found, scan())
    {
        return Some(Doubt::Covers(at));
    }
    if only_here {
        return None;
    }
    // an erased block is no evidence, because free blocks are erased, too
    let Some(other) = places.other else {
        return (lost_here != Remains::Torn).then_some(Doubt::Beheaded);
    };
    if places.fits == Some((false, true)) {
        return Some(Doubt::BetterAt(other));
    }
    let lost_there = remains(if is_first { other } else { half.at + block });
    let is_torn_only_here = lost_here == Remains::Torn && lost_there != Remains::Torn;
    (!is_torn_only_here).then_some(Doubt::EitherAt(other))
}

/// The other superblock of `half`, if it is at a wrong position, where no block of the filesystem
/// starts. (In a block of the filesystem, a superblock is the copy of a root that moved, or an old
/// copy.)
fn displaced_twin(here: &Halves, half: Half, scan: &Scan) -> Option<u64> {
    let expected = here.halves.iter().position(Option::is_none).unwrap_or(0) as u64;
    let expected = here.at.saturating_add(expected * u64::from(here.block_size));
    let belongs = |other: &&Half| {
        other.at != half.at
            && other.at != expected
            && !other.at.abs_diff(half.at).is_multiple_of(u64::from(here.block_size))
            && other.superblock == half.superblock
            && are_neighbours(other.rev, half.rev)
    };
    scan.halves.iter().find(belongs).map(|twin| twin.at)
}

/// A filesystem with both superblocks that starts inside this one. (A root that moved looks like
/// one. But its superblock has the size of the whole filesystem, which does not fit behind it.)
fn whole_inside(source: &dyn ReadAt, found: &Found, scan: &Scan) -> Option<u64> {
    let mut budget = Budget(u64::MAX);
    let size = source.size().unwrap_or(u64::MAX);
    let ends_behind = |half: &Half| half.at.saturating_add(half.superblock.size()) > size;
    let inside = scan.halves.iter().filter(|half| found.covers(half.at) && half.at != found.at);
    let mut whole = inside.filter_map(|half| {
        let halves = Halves::read(source, half.at, half.superblock.block_size, &mut budget);
        let is_moved_root = half.superblock == found.superblock && ends_behind(half);
        halves.whole().filter(|_| !is_moved_root).map(|_| half.at)
    });
    whole.next()
}

/// The filesystems that the superblocks of a scan belong to.
pub fn gather(source: &dyn ReadAt, scan: &Scan) -> Vec<Found> {
    let mut all = whole_ones(source, scan);
    let alone: Vec<Half> = scan
        .halves
        .iter()
        .filter(|half| !all.iter().any(|found| is_part_of(half, found)))
        .take(CANDIDATES_MAX)
        .copied()
        .collect();
    for half in alone {
        let is_inside = |found: &Found| found.doubt.is_none() && found.covers(half.at);
        if all.iter().any(is_inside) {
            continue;
        }
        let block_size = half.superblock.block_size;
        let as_second = half.at.checked_sub(u64::from(block_size));
        let places = [Some(half.at), as_second];
        let judged =
            places.into_iter().flatten().filter_map(|at| judge(source, at, block_size, || scan));
        if let Some(found) = judged.min_by_key(|found| found.doubt.is_some()) {
            all.push(found);
        }
    }
    let copied: Vec<Found> =
        (0..all.len()).filter_map(|index| note_copies(source, scan, &mut all, index)).collect();
    all.extend(copied);
    all.sort_by_key(|found| found.at);
    all.dedup_by_key(|found| found.at);
    all
}

/// If the superblocks of a filesystem seem to be copies, note this, and return the filesystem that
/// has lost one of its own.
fn note_copies(source: &dyn ReadAt, scan: &Scan, all: &mut [Found], index: usize) -> Option<Found> {
    let found = all.get(index).filter(|found| found.doubt.is_none())?;
    let (at, block_size) = (found.at, found.superblock.block_size);
    let blocks = [Some(at), at.checked_add(u64::from(block_size))];
    let own: Vec<Half> = blocks.into_iter().flatten().filter_map(|at| scan.half_at(at)).collect();
    let is_taken = |half: &&Half| {
        let mut whole = all.iter().filter(|other| other.lost.is_none() && other.doubt.is_none());
        whole.any(|whole| whole.at != at && is_part_of(half, whole))
    };
    let others: Vec<Half> = scan.halves.iter().filter(|half| !is_taken(half)).copied().collect();
    let rival = rival(source, at, &own, &others)?;
    all.get_mut(index)?.doubt = Some(Doubt::CopiesOf(rival.at));
    judge(source, rival.at, block_size, || scan)
}

fn is_part_of(half: &Half, found: &Found) -> bool {
    let block_size = u64::from(found.superblock.block_size);
    half.at == found.at || Some(half.at) == found.at.checked_add(block_size)
}

/// The filesystems with both superblocks that are not inside the content of another one.
fn whole_ones(source: &dyn ReadAt, scan: &Scan) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    let mut used = HashSet::new();
    for half in &scan.halves {
        if all.len() == CANDIDATES_MAX {
            break;
        }
        let block_size = half.superblock.block_size;
        let twin = half.at.checked_add(u64::from(block_size)).and_then(|at| scan.half_at(at));
        let Some(twin) = twin.filter(|twin| twin.agrees_with(half) && !used.contains(&half.at))
        else {
            continue;
        };
        if Geometry::new(block_size, half.superblock.block_count).is_err() {
            continue;
        }
        used.insert(twin.at);
        let superblock = half.newer(twin).superblock;
        let evidence = Evidence::gather(source, half.at, &superblock);
        let leads_nowhere = evidence.good == 0 && evidence.bad > 0;
        let doubt = leads_nowhere.then_some(Doubt::LeadsNowhere);
        all.push(Found { at: half.at, superblock, lost: None, doubt, evidence, label: None });
    }
    drop_content(all)
}

/// Leave out filesystems that start inside a sound one, because they are its content. But a
/// filesystem that looks empty has no content: it is an old one, and a filesystem that starts
/// inside it is newer.
fn drop_content(all: Vec<Found>) -> Vec<Found> {
    let mut kept: Vec<Found> = Vec::new();
    for found in all {
        let outer = kept.iter_mut().find(|outer| outer.doubt.is_none() && outer.covers(found.at));
        match outer {
            Some(outer) if outer.evidence.good > 0 || outer.at == 0 || found.doubt.is_some() => {}
            Some(outer) => {
                if found.evidence.good > 0 {
                    outer.doubt = Some(Doubt::Covers(found.at));
                }
                kept.push(found);
            }
            None => kept.push(found),
        }
    }
    kept
}
