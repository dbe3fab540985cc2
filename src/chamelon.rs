//! chamelon's dialect of littlefs, as chamelon 0.2.1 writes and reads it. This module only reads
//! it.
//!
//! chamelon is the key-value store of MirageOS. Its images look like littlefs 2.0, but differ from
//! it:
//!
//! | what | littlefs | chamelon |
//! |---|---|---|
//! | ids | shift when one is inserted or deleted | never shift; a new one is the highest seen + 1 |
//! | block `i` of a list | `ctz(i) + 1` pointers, the k-th to `i - 2^k` | `log2(i)` pointers where `i` is a power of two, else one; the k-th to `i / 2^k` |
//! | directories | in the thread of soft tails | only their entry leads to them |
//! | names | sorted | in any order |
//!
//! For the layers above, [`show`] presents an image as a sound littlefs. [`check`] checks an image
//! by chamelon's own rules. `docs/chamelon.md` describes the dialect.

mod check;
mod list;
mod log;
mod recognise;
mod tree;

#[cfg(feature = "inspect")]
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::bd::BlockDevice;
use crate::check::{Recorder, Report};
use crate::dialect::View;
#[cfg(feature = "inspect")]
use crate::dialect::{Lists, LivePair, Reading};
#[cfg(feature = "inspect")]
use crate::disk::ListIndex;
use crate::disk::Superblock;
#[cfg(feature = "inspect")]
use crate::disk::{
    Pair, Part, Tail,
    list::{Met, Place},
    log::RawEntry,
    read_u32_le, tag,
};
use crate::error::Result;
#[cfg(feature = "inspect")]
use crate::mdir::store;

pub use check::check;
pub use recognise::recognise;

/// The type of the attribute in which chamelon keeps the time of the last change: the days since
/// 1970 in 32 bits, and the picoseconds of the day in 64 bits.
const TIME: u8 = 0x74;
/// The length of that attribute in bytes.
const TIME_LEN: u32 = 12;

/// Show the image on `source`, which has this superblock, as a littlefs. Also returns what was
/// found while reading it.
///
/// # Errors
/// If the root cannot be read, or if its content does not fit into any littlefs.
pub fn show(source: Arc<dyn BlockDevice>, superblock: Superblock) -> Result<(View, Report)> {
    let mut recorder = Recorder::default();
    let tree = tree::read(&*source, &mut recorder)?;
    let view = View::new(source, superblock, tree, &mut recorder)?;
    Ok((view, recorder.report))
}

/// Read the directories of the image on `dev`. There is no thread through them.
///
/// # Errors
/// If the root cannot be read.
#[cfg(feature = "inspect")]
pub(crate) fn read(dev: &dyn BlockDevice) -> Result<Reading> {
    let tree = tree::read(dev, &mut Recorder::default())?;
    Ok(Reading { tree, thread: None })
}

/// The active block of a pair, and what it holds. `None` if neither block is valid. Both blocks
/// hold the same, unless a write was interrupted.
#[cfg(feature = "inspect")]
pub(crate) fn pair(dev: &dyn BlockDevice, pair: Pair) -> Option<LivePair> {
    let log = log::fetch(dev, pair).ok()?.log;
    let fetched = store::fetch(dev, pair).ok()?;
    let tail = log.hardtail.map(|next| Tail { pair: next, hard: true });
    Some(LivePair { pair: fetched.pair, used: fetched.log.off, entries: log.names().count(), tail })
}

/// What a metadata block holds: the next pair of its directory, and its entries by their ids.
#[cfg(feature = "inspect")]
pub(crate) fn entries(block: Vec<u8>) -> (Option<Tail>, BTreeMap<u16, RawEntry>) {
    let log = log::Log::parse(block, &mut |_, _| ());
    let mut entries: BTreeMap<u16, RawEntry> = BTreeMap::new();
    for (id, ty, name) in log.names() {
        let data = log.range(id, tag::STRUCT, tag::STRUCT | 0xff).last();
        let attrs = log.range(id, tag::USERATTR, tag::USERATTR | 0xff);
        entries.entry(id).or_insert_with(|| RawEntry {
            name_type: Some(ty),
            name: name.into(),
            data: data.map(|(ty, data)| (ty, data.into())),
            attrs: attrs.map(|(ty, data)| (ty as u8, Part::from(data))).collect::<Vec<_>>().into(),
        });
    }
    (log.hardtail.map(|pair| Tail { pair, hard: true }), entries)
}

/// Pass on every block of a list, the last one first, as
/// [`list::follow`](crate::disk::list::follow) does for littlefs.
///
/// # Errors
/// If a pointer leads out of the image, if the list has more blocks than the image, or if it cannot
/// be read.
#[cfg(feature = "inspect")]
pub(crate) fn follow(
    dev: &dyn BlockDevice,
    head: u32,
    size: u32,
    visit: &mut dyn FnMut(Met<'_>),
) -> Result<()> {
    let blocks = list::LISTS.load(dev, head, size)?;
    for (index, &block) in blocks.iter().enumerate().rev() {
        let index = index as u32;
        let mut bytes = vec![0; 4 * list::pointers(index) as usize];
        dev.read(block, 0, &mut bytes)?;
        let pointers: Vec<u32> =
            (0..bytes.len() / 4).filter_map(|k| read_u32_le(&bytes, 4 * k)).collect();
        let target = |k: usize| if k == 0 { index.checked_sub(1) } else { Some(index >> k) };
        let is_right = |(k, pointer): (usize, &u32)| {
            target(k).and_then(|target| blocks.get(target as usize)) == Some(pointer)
        };
        let agrees = pointers.iter().enumerate().all(is_right);
        let at = Place { index: ListIndex(index), block };
        visit(Met::Pointers { at, pointers: &pointers, agrees });
    }
    Ok(())
}

/// How many pointers there are at the start of block `index` of a list, and the position in the
/// file of the byte that follows them.
#[cfg(feature = "inspect")]
pub(crate) fn block_of_list(block_size: u32, index: ListIndex) -> (u32, u64) {
    (list::pointers(index.0), list::start(block_size, index.0))
}

/// What the user can do to write to `image`, which has this dialect.
pub fn remedy(image: &dyn fmt::Display) -> String {
    format!(
        "its dialect can only be read; to write to it, convert it with 'littlefs convert --from \
         chamelon {image}'"
    )
}
