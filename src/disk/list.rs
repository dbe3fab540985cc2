//! CTZ lists on disk (SPEC: `0x202` CTZSTRUCT, DESIGN: CTZ skip-lists): the struct that names a
//! list, the pointers in its blocks, and the ways to follow it. [`ctz`] has the arithmetic.
//!
//! An entry names only the last block of a list, its head. Pointers lead backwards from there.
//! [`follow`] reads every pointer, as a check does. [`descend`] finds only the addresses, and
//! therefore reads only every other block. [`seek`] goes straight to one block. Code that must find
//! blocks even if pointers disagree follows the pointers in its own order, and reads them with
//! [`read_pointers`].
//!
//! All of these functions take a function `read`, which fills a buffer from an offset in a block.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::num::widen;
use super::{BLOCK_NULL, ListIndex, ctz, read_u32_le};
use crate::bd::Geometry;

/// A CTZ list, as an entry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct List {
    /// Address of its last block, from which it is followed.
    pub head: u32,
    /// Bytes of content.
    pub size: u32,
}

impl List {
    /// The bytes on disk: both numbers little-endian.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.size) << 32 | u64::from(self.head)).to_le_bytes()
    }

    /// The list in the first 8 bytes of `b`; `None` if `b` is shorter.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        Some(Self { head: read_u32_le(b, 0)?, size: read_u32_le(b, 4)? })
    }

    /// How many blocks the list has.
    pub fn blocks(self, block_size: u32) -> u32 {
        ctz::blocks(block_size, self.size)
    }
}

/// A block of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its index in the list; the head has the highest.
    pub index: ListIndex,
    /// Its address.
    pub block: u32,
}

/// What [`follow`] passes to `visit`: for each block, first the block and then its pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met<'a> {
    /// A block inside the filesystem. It has not been read yet.
    Block(Place),
    /// The pointers of that block.
    Pointers {
        /// The block.
        at: Place,
        /// The addresses at its start. The k-th is the address of the block `2^k` places before
        /// this one.
        pointers: &'a [u32],
        /// Whether this block, and each block that it points to, has the address that pointers of
        /// later blocks gave for it.
        agrees: bool,
    },
}

/// Why a list could not be followed to its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken<E> {
    /// It would have more blocks than the filesystem.
    TooLong {
        /// How many it claims.
        blocks: u32,
    },
    /// The address of a block is outside the filesystem.
    Outside(Place),
    /// A pointer leads back to a block that the walk has already met.
    Loop {
        /// Address of that block.
        block: u32,
    },
    /// The pointers of a block cannot be read.
    Unreadable {
        /// The block.
        at: Place,
        /// Why.
        error: E,
    },
}

/// The largest number of pointers in a block.
const POINTERS_MAX: usize = 32;

/// Addresses that pointers of later blocks have given for blocks which the walk has not reached
/// yet.
///
/// A pointer over `2^k` blocks leads from a multiple of `2^k` to the next lower multiple, where the
/// next pointer over `2^k` blocks starts. So at any time, at most one address is outstanding for
/// each `k`.
struct Named([Place; POINTERS_MAX]);

impl Named {
    fn new() -> Self {
        Self([Place { index: ListIndex(u32::MAX), block: BLOCK_NULL }; POINTERS_MAX])
    }

    /// Whether `at` has the address that was given for its index.
    fn agrees(&self, at: Place) -> bool {
        self.0.iter().all(|named| named.index != at.index || named.block == at.block)
    }

    /// Note that pointer `k` of a block leads to `to`. Returns whether earlier pointers gave the
    /// same address. If they did not, the latest one counts.
    fn name(&mut self, k: usize, to: Place) -> bool {
        let mut agrees = true;
        for named in self.0.iter_mut().filter(|named| named.index == to.index) {
            agrees &= named.block == to.block;
            *named = to;
        }
        if let Some(named) = self.0.get_mut(k) {
            *named = to;
        }
        agrees
    }
}

/// The pointers in `bytes`, the first bytes of block `index` of a list.
pub fn pointers(index: ListIndex, bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.chunks_exact(4).take(widen(ctz::pointers(index)));
    words.map_while(|word| read_u32_le(word, 0))
}

/// Read the pointers at the start of the block `at` of a list. The first block has none, so it is
/// not read.
///
/// # Errors
/// Those of `read`.
pub fn read_pointers<E>(
    at: Place,
    read: impl FnOnce(u32, u32, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<u32>, E> {
    let mut bytes = [0; 4 * POINTERS_MAX];
    let bytes = bytes.get_mut(..widen(ctz::data_offset(at.index))).unwrap_or_default();
    if !bytes.is_empty() {
        read(at.block, 0, bytes)?;
    }
    Ok(pointers(at.index, bytes).collect())
}

/// Follows every pointer of some lists, also those that disagree.
///
/// The same blocks follow from a place in all lists, so each place is visited once.
#[derive(Debug)]
pub struct AllWays {
    met: HashSet<Place>,
    /// How many more places may be visited.
    looks: u64,
}

impl AllWays {
    /// Visit at most `looks` places.
    pub fn new(looks: u64) -> Self {
        Self { met: HashSet::new(), looks }
    }

    /// Call `visit` with each place to which a way from the head leads, unless it was visited
    /// before. `visit` returns the pointers there. A list with more blocks than the filesystem has
    /// no places. Returns the place that would have been one too many, if there is one.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn follow<E>(
        &mut self,
        g: Geometry,
        list: List,
        mut visit: impl FnMut(Place) -> Result<Vec<u32>, E>,
    ) -> Result<Option<Place>, E> {
        let count = list.blocks(g.block_size);
        let last = ListIndex::last_of(count).filter(|_| count <= g.block_count);
        let mut todo: Vec<Place> =
            last.map(|index| Place { index, block: list.head }).into_iter().collect();
        while let Some(at) = todo.pop() {
            if at.block >= g.block_count || !self.met.insert(at) {
                continue;
            }
            let Some(looks) = self.looks.checked_sub(1) else { return Ok(Some(at)) };
            self.looks = looks;
            let there = ctz::targets(at.index).zip(visit(at)?);
            todo.extend(there.map(|(index, block)| Place { index, block }));
        }
        Ok(None)
    }
}

/// Follow a list and all its pointers from its head, that is, from its last block to its first.
/// `visit` is called for each block before its pointers are read, and again with them. It may end
/// the walk.
///
/// Each block of the list is read once, except the first one, which is not read. The walk does not
/// notice when a list comes back to a block that it has met. A caller that must know this keeps the
/// blocks.
///
/// # Errors
/// If the list cannot be followed to its beginning. `visit` has then seen all blocks after that
/// place.
pub fn follow<E>(
    geometry: Geometry,
    list: List,
    mut read: impl FnMut(u32, u32, &mut [u8]) -> Result<(), E>,
    mut visit: impl FnMut(Met<'_>) -> ControlFlow<()>,
) -> Result<(), Broken<E>> {
    let blocks = list.blocks(geometry.block_size);
    if blocks > geometry.block_count {
        return Err(Broken::TooLong { blocks });
    }
    let mut named = Named::new();
    let mut block = list.head;
    for index in ListIndex::FIRST.up_to(ListIndex(blocks)).rev() {
        let at = Place { index, block };
        if block >= geometry.block_count {
            return Err(Broken::Outside(at));
        }
        if visit(Met::Block(at)).is_break() {
            return Ok(());
        }
        let mut bytes = [0; 4 * POINTERS_MAX];
        let bytes = bytes.get_mut(..widen(ctz::data_offset(index))).unwrap_or_default();
        if !bytes.is_empty() {
            read(block, 0, bytes).map_err(|error| Broken::Unreadable { at, error })?;
        }
        let mut found = [BLOCK_NULL; POINTERS_MAX];
        let mut agrees = named.agrees(at);
        let targets = ctz::targets(index).zip(pointers(index, bytes));
        for ((k, (target, pointer)), place) in targets.enumerate().zip(&mut found) {
            agrees &= named.name(k, Place { index: target, block: pointer });
            *place = pointer;
        }
        let pointers = found.get(..widen(ctz::pointers(index))).unwrap_or_default();
        if visit(Met::Pointers { at, pointers, agrees }).is_break() {
            return Ok(());
        }
        block = found[0];
    }
    Ok(())
}

/// Detects that a walk goes in a circle without keeping all blocks that it meets (Brent's
/// algorithm): sooner or later, the walk comes back to the block that was noted last.
#[derive(Debug, Default)]
pub struct Circle {
    noted: Option<u32>,
    seen: u32,
}

impl Circle {
    /// Whether the walk has gone in a circle, now that it meets `block`.
    pub fn closes(&mut self, block: u32) -> bool {
        if self.noted == Some(block) {
            return true;
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen.is_power_of_two() {
            self.noted = Some(block);
        }
        false
    }
}

/// Pass the addresses of a list to `put`, from block `from` down to index `to`. If a block has a
/// second pointer, this leads two blocks back, so the block between them need not be read.
///
/// # Errors
/// If an address is outside the filesystem, if the walk goes in a circle, and the errors of `read`.
pub fn descend<E>(
    geometry: Geometry,
    from: Place,
    to: ListIndex,
    mut read: impl FnMut(u32, u32, &mut [u8]) -> Result<(), E>,
    mut put: impl FnMut(u32),
) -> Result<(), Broken<E>> {
    let mut circle = Circle::default();
    let mut put = |at: Place| {
        if at.block >= geometry.block_count {
            return Err(Broken::Outside(at));
        }
        if circle.closes(at.block) {
            return Err(Broken::Loop { block: at.block });
        }
        put(at.block);
        Ok(())
    };
    let mut at = from;
    put(at)?;
    while at.index > to {
        let two = at.index.0.is_multiple_of(2) && at.index - to >= 2;
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..if two { 8 } else { 4 }];
        read(at.block, 0, bytes).map_err(|error| Broken::Unreadable { at, error })?;
        for block in pointers(at.index, bytes) {
            at = Place { index: at.index - 1, block };
            put(at)?;
        }
    }
    Ok(())
}

/// The addresses of a whole list, in the order of the file.
///
/// # Errors
/// The errors of [`descend`], and if the list has more blocks than the filesystem.
pub fn addresses<E>(
    geometry: Geometry,
    list: List,
    read: impl FnMut(u32, u32, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<u32>, Broken<E>> {
    let blocks = list.blocks(geometry.block_size);
    if blocks > geometry.block_count {
        return Err(Broken::TooLong { blocks });
    }
    let Some(last) = ListIndex::last_of(blocks) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let head = Place { index: last, block: list.head };
    descend(geometry, head, ListIndex::FIRST, read, |block| found.push(block))?;
    found.reverse();
    Ok(found)
}

/// The address of the block of index `target`. `from` is a block of the list at this index or a
/// higher one.
///
/// # Errors
/// If an address is outside the filesystem, and the errors of `read`.
pub fn seek<E>(
    geometry: Geometry,
    from: Place,
    target: ListIndex,
    mut read: impl FnMut(u32, u32, &mut [u8]) -> Result<(), E>,
) -> Result<u32, Broken<E>> {
    let mut at = from;
    while at.index > target {
        let skip = (at.index - target).ilog2().min(at.index.0.trailing_zeros());
        let mut bytes = [0; 4];
        let off = skip.saturating_mul(4);
        read(at.block, off, &mut bytes).map_err(|error| Broken::Unreadable { at, error })?;
        at = Place { index: at.index.target(skip), block: u32::from_le_bytes(bytes) };
        if at.block >= geometry.block_count {
            return Err(Broken::Outside(at));
        }
    }
    Ok(at.block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const GEOMETRY: Geometry = Geometry { block_size: 128, block_count: 64 };

    type Blocks = BTreeMap<u32, Vec<u8>>;

    /// A list in blocks 10, 11, 12... in this order.
    fn image(blocks: u32) -> Blocks {
        let pointers = |i| ctz::targets(i).flat_map(|to| (10 + to.0).to_le_bytes());
        (0..blocks).map(|i| (10 + i, pointers(ListIndex(i)).collect())).collect()
    }

    fn list(count: u32) -> List {
        List { head: 10 + count - 1, size: ctz::start(128, ListIndex(count)) as u32 }
    }

    fn reader(blocks: &Blocks) -> impl Fn(u32, u32, &mut [u8]) -> Result<(), ()> {
        |block, off, buf| {
            let bytes = blocks.get(&block).and_then(|b| b.get(off as usize..)).ok_or(())?;
            buf.copy_from_slice(bytes.get(..buf.len()).ok_or(())?);
            Ok(())
        }
    }

    type Walked = (Vec<(Place, bool)>, Result<(), Broken<()>>);

    /// What `follow` meets in a list of `count` blocks: each block, and whether its pointers agree.
    fn walk(blocks: &Blocks, count: u32) -> Walked {
        let mut steps = Vec::new();
        let mut announced = None;
        let outcome = follow(GEOMETRY, list(count), reader(blocks), |met| {
            match met {
                Met::Block(at) => announced = Some(at),
                Met::Pointers { at, pointers, agrees } => {
                    assert_eq!(announced, Some(at));
                    assert_eq!(pointers.len(), ctz::pointers(at.index) as usize);
                    steps.push((at, agrees));
                }
            }
            ControlFlow::Continue(())
        });
        (steps, outcome)
    }

    #[test]
    fn every_block_is_met_once_from_the_head_on() {
        let (steps, outcome) = walk(&image(20), 20);
        assert_eq!(outcome, Ok(()));
        let place = |i| Place { index: ListIndex(i), block: 10 + i };
        let expected = (0..20).rev().map(|i| (place(i), true));
        assert_eq!(steps, expected.collect::<Vec<_>>());
    }

    #[test]
    fn wrong_pointers_show_where_they_are_and_where_they_lead() {
        let mut blocks = image(20);
        // in block 16 of the list, the pointer to block 8 of the list
        blocks.get_mut(&26).expect("there")[12..16].copy_from_slice(&50_u32.to_le_bytes());
        let (steps, outcome) = walk(&blocks, 20);
        assert_eq!(outcome, Ok(()));
        let wrong: Vec<u32> = steps.iter().filter(|s| !s.1).map(|s| s.0.index.0).collect();
        assert_eq!(wrong, [12], "it names another block 8 than block 16 of the list");

        blocks.get_mut(&25).expect("there")[..4].copy_from_slice(&99_u32.to_le_bytes());
        let (steps, outcome) = walk(&blocks, 20);
        assert_eq!(outcome, Err(Broken::Outside(Place { index: ListIndex(14), block: 99 })));
        assert_eq!(steps.len(), 5);

        blocks.get_mut(&25).expect("there")[..4].copy_from_slice(&63_u32.to_le_bytes());
        let (_, outcome) = walk(&blocks, 20);
        let at = Place { index: ListIndex(14), block: 63 };
        assert_eq!(outcome, Err(Broken::Unreadable { at, error: () }));
        assert_eq!(walk(&blocks, 65).1, Err(Broken::TooLong { blocks: 65 }));
    }

    #[test]
    fn addresses_are_found_with_half_the_reads() {
        for count in 1..40 {
            let blocks = image(count);
            let mut reads = 0;
            let read = reader(&blocks);
            let counted = |block, off, buf: &mut [u8]| {
                reads += 1;
                read(block, off, buf)
            };
            let found = addresses(GEOMETRY, list(count), counted);
            assert_eq!(found, Ok((10..10 + count).collect()));
            assert!(reads <= count / 2 + 1, "{reads} reads for {count} blocks");
            let head = Place { index: ListIndex(count - 1), block: 10 + count - 1 };
            for target in 0..count {
                assert_eq!(seek(GEOMETRY, head, ListIndex(target), &read), Ok(10 + target));
            }
        }
        assert_eq!(addresses(GEOMETRY, List { head: 99, size: 0 }, reader(&image(0))), Ok(vec![]));
        let outside = addresses(GEOMETRY, List { head: 99, size: 1 }, reader(&image(0)));
        assert_eq!(outside, Err(Broken::Outside(Place { index: ListIndex::FIRST, block: 99 })));
        assert_eq!(
            addresses(GEOMETRY, list(65), reader(&image(0))),
            Err(Broken::TooLong { blocks: 65 })
        );
    }

    #[test]
    fn circles_end_the_search_for_addresses() {
        let mut blocks = image(20);
        // block 9 of the list points to block 12
        blocks.get_mut(&19).expect("there")[..4].copy_from_slice(&22_u32.to_le_bytes());
        blocks.get_mut(&20).expect("there")[4..8].copy_from_slice(&22_u32.to_le_bytes());
        let found = addresses(GEOMETRY, list(20), reader(&blocks));
        assert!(matches!(found, Err(Broken::Loop { .. })), "{found:?}");
        let back = |block: u32| if block == 3 { 9 } else { block - 1 };
        let mut circle = Circle::default();
        let mut block = 20;
        let met = (0..64).take_while(|_| {
            let goes_on = !circle.closes(block);
            block = back(block);
            goes_on
        });
        assert!(met.count() < 40);
    }
}
