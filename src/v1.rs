//! littlefs of version 1, as the driver 1.7.2 writes and reads it.
//!
//! Lists of blocks and the CRC are the same as in version 2. Metadata differs:
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | a metadata block | a log of commits | one commit, written anew as a whole |
//! | entries | sorted, inline data, attributes | in any order; head and size of a list, or a pair |
//! | a rename | global state names the old entry | the old entry is marked as moved |
//! | the root | blocks 0 and 1 | a pair that the superblock in blocks 0 and 1 names |
//!
//! For the layers above, [`show`] presents an image as a sound littlefs of version 2. [`check`]
//! checks it by the rules of version 1, and [`usage`] counts its blocks. None of them changes the
//! image. `docs/v1.md` describes everything about version 1.

pub(crate) mod block;
mod check;
mod tree;

#[cfg(feature = "inspect")]
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::bd::BlockDevice;
use crate::check::{Recorder, Report};
use crate::dialect::View;
#[cfg(any(feature = "cli", feature = "internals", feature = "mount"))]
use crate::dialect::tree::Content;
#[cfg(feature = "inspect")]
use crate::dialect::{LivePair, Reading};
use crate::disk::Superblock;
#[cfg(any(feature = "cli", feature = "internals", feature = "mount"))]
use crate::disk::ctz;
use crate::disk::superblock::{ATTR_MAX, VERSION_2_0};
#[cfg(feature = "inspect")]
use crate::disk::{List, Pair, Part, Tail, entry, log::RawEntry, tag};
use crate::error::Result;

pub use check::check;

/// Show the image on `source`, which has this superblock, as a littlefs of version 2.0. Also
/// returns what was found while reading it.
///
/// # Errors
/// If the root cannot be read, or if its content does not fit into any littlefs.
pub fn show(source: Arc<dyn BlockDevice>, superblock: Superblock) -> Result<(View, Report)> {
    let mut recorder = Recorder::default();
    let volume = tree::read(&*source, &mut recorder)?;
    let superblock = Superblock { version: VERSION_2_0, attr_max: ATTR_MAX, ..superblock };
    let view = View::new(source, superblock, volume.tree, &mut recorder)?;
    Ok((view, recorder.report))
}

/// Read the directories of the image on `dev`, and its thread.
///
/// # Errors
/// If the superblock or the root cannot be read.
#[cfg(feature = "inspect")]
pub(crate) fn read(dev: &dyn BlockDevice) -> Result<Reading> {
    let volume = tree::read(dev, &mut Recorder::default())?;
    Ok(Reading { tree: volume.tree, thread: Some(volume.thread) })
}

/// The active block of a pair, and what it holds. `None` if neither block is valid.
#[cfg(feature = "inspect")]
pub(crate) fn pair(dev: &dyn BlockDevice, pair: Pair) -> Option<LivePair> {
    let (live, used) = block::newest(dev, pair)?;
    let block = block::fetch(dev, pair).ok()?;
    let tail = block.next().map(|next| Tail { pair: next, hard: block.continues });
    let pair = if pair.0[0] == live { pair } else { Pair([live, pair.0[0]]) };
    Some(LivePair { pair, used, entries: block.entries.len(), tail })
}

/// The entries in block `block`, in the form of version 2, by their numbers in the block. Empty if
/// the block is not valid.
#[cfg(feature = "inspect")]
pub(crate) fn entries(dev: &dyn BlockDevice, block: u32) -> BTreeMap<u16, RawEntry> {
    let entry = |entry: block::Entry| {
        let [first, second] = entry.words();
        let (name_type, content) = match entry.kind {
            block::FILE => (tag::REG, entry::Content::List(List { head: first, size: second })),
            block::DIRECTORY => (tag::DIR, entry::Content::Dir(Pair([first, second]))),
            _ => return RawEntry::default(),
        };
        let data = content.to_struct();
        RawEntry {
            name_type: Some(name_type),
            name: entry.name.into(),
            data,
            attrs: Part::default(),
        }
    };
    let found = block::read_one(dev, block).ok().flatten();
    found.map_or_else(BTreeMap::new, |(_, block)| {
        (0..).zip(block.entries.into_iter().map(entry)).collect()
    })
}

/// How many blocks of the image on `dev` are in use: those of metadata pairs, including orphans,
/// and those of files that the tree names.
///
/// # Errors
/// If the root cannot be read.
#[cfg(any(feature = "cli", feature = "internals", feature = "mount"))]
pub fn usage(dev: &dyn BlockDevice) -> Result<u32> {
    let volume = tree::read(dev, &mut Recorder::default())?;
    let g = dev.geometry();
    let entries = volume.tree.dirs.iter().flat_map(|dir| &dir.entries);
    let of_files = entries.map(|entry| match entry.content {
        Content::List { size, .. } => u64::from(ctz::blocks(g.block_size, size)),
        _ => 0,
    });
    let used = volume.pair_blocks().len() as u64 + of_files.sum::<u64>();
    Ok(u32::try_from(used).unwrap_or(u32::MAX).min(g.block_count))
}

/// What the user can do to write to `image`, which has version 1.
pub fn remedy(image: &dyn fmt::Display) -> String {
    format!(
        "it can only be read here; to write to it, convert it to version 2 with 'littlefs convert \
         --from v1 {image}'"
    )
}
