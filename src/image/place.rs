//! Which one of the filesystems in a file is meant.

use std::ops::Range;

use super::locate::{at_block_size, at_root, locate};
use super::{Options, Reason};
use crate::container::{Found, Label, Partition, ReadAt, SEARCH_FILE, Survey};
use crate::disk::Superblock;

/// Where in a file the filesystem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this byte.
    At(u64),
    /// At the first byte, or at the only place with a sound filesystem.
    Auto,
    /// In the partition with this name. A number may also mean the filesystem with this number in
    /// the file, counted from 1.
    Partition(Label),
}

impl Default for Place {
    fn default() -> Self {
        Self::At(0)
    }
}

impl Place {
    /// The place for the name of a partition, or for a number.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the name.
    pub fn partition(name: &str) -> Result<Self, String> {
        match Label::new(name.as_bytes()) {
            Some(label) if !name.is_empty() => Ok(Self::Partition(label)),
            _ => Err(format!(
                "'{name}' cannot be the name of a partition: such names have 1 to 16 bytes"
            )),
        }
    }
}

/// A filesystem that was found.
#[derive(Debug)]
pub(super) struct Chosen {
    pub found: Found,
    /// The superblock of the root.
    pub superblock: Superblock,
    /// Whether the place was found by a search, and not given by the user.
    pub automatic: bool,
}

/// Find the filesystem that is meant. Its version and geometry must fit the options. The first
/// `limit` bytes are searched.
pub(super) fn find(source: &dyn ReadAt, limit: u64, options: &Options) -> Result<Chosen, Reason> {
    match options.place {
        Place::At(offset) => at(source, offset, limit, options),
        Place::Partition(label) => in_partition(source, label, limit, options),
        Place::Auto => anywhere(source, limit, options),
    }
}

fn at(source: &dyn ReadAt, offset: u64, limit: u64, options: &Options) -> Result<Chosen, Reason> {
    let size = source.size()?;
    if offset >= size {
        return Err(Reason::OffsetBeyondEnd { offset, size });
    }
    let search = || locate(source, offset, limit)?.into_found();
    let found = match options.block_size {
        Some(given) => match at_block_size(source, offset, given, limit) {
            Some(found) => found,
            None => match search()? {
                found if found.superblock.block_size != given => {
                    let found = found.superblock.block_size;
                    return Err(Reason::WrongBlockSize { given, found });
                }
                found => found,
            },
        },
        None => search()?,
    };
    let superblock = at_root(source, offset, supported(found.superblock)?);
    supported(superblock)?;
    match options.block_count {
        Some(given) if given != superblock.block_count => {
            Err(Reason::WrongBlockCount { given, found: superblock.block_count })
        }
        _ => Ok(Chosen { found, superblock, automatic: false }),
    }
}

fn supported(superblock: Superblock) -> Result<Superblock, Reason> {
    if superblock.is_supported() || superblock.is_version1() {
        Ok(superblock)
    } else {
        Err(Reason::UnknownVersion(superblock.version))
    }
}

/// Find a filesystem for [`Place::Auto`]. The filesystem at the first byte is used, unless it is
/// doubtful. If there is none, or if it is doubtful, the only sound filesystem elsewhere is used.
fn anywhere(source: &dyn ReadAt, limit: u64, options: &Options) -> Result<Chosen, Reason> {
    let first = at(source, 0, limit, options);
    match &first {
        Ok(chosen) if chosen.found.doubt.is_none() => return first,
        Err(Reason::Elsewhere(_) | Reason::NotLittlefs { .. } | Reason::SuperblocksDamaged) => {}
        Err(_) => return first,
        Ok(_) => {}
    }
    let survey = Survey::new(source, limit)?;
    let meant = survey.meant();
    let readable = |found: &&&Found| supported(found.superblock).is_ok();
    let readable: Vec<&Found> = meant.iter().filter(readable).copied().collect();
    match (&readable[..], &meant[..]) {
        ([only], _) => {
            let chosen = at(source, only.at, limit, options)?;
            let found = Found { label: only.label, ..chosen.found };
            Ok(Chosen { found, automatic: true, ..chosen })
        }
        ([], []) => first.map_err(|reason| match reason {
            Reason::NotLittlefs { .. } | Reason::Elsewhere(_) if !survey.found.is_empty() => {
                Reason::Elsewhere(survey.found)
            }
            reason => encrypted(&survey).unwrap_or(reason),
        }),
        _ => Err(Reason::Elsewhere(meant.into_iter().cloned().collect())),
    }
}

/// The reason why nothing is found in a dump of flash with encrypted partitions.
fn encrypted(survey: &Survey) -> Option<Reason> {
    let mut partitions = survey.tables.iter().flat_map(|table| &table.partitions);
    partitions.find(|p| p.encrypted && p.ty == 1).map(|p| Reason::Encrypted(p.label))
}

/// Find where the filesystem that is meant begins, or should begin. A broken filesystem is not an
/// error if its place is known. Returns the position, and the superblock of the filesystem that was
/// found there.
pub(super) fn position(
    source: &dyn ReadAt,
    limit: u64,
    options: &Options,
) -> Result<(u64, Option<Superblock>), Reason> {
    let reason = match find(source, limit, options) {
        Ok(chosen) => return Ok((chosen.found.at, Some(chosen.superblock))),
        Err(reason @ (Reason::OffsetBeyondEnd { .. } | Reason::Encrypted(_) | Reason::Io(_))) => {
            return Err(reason);
        }
        Err(reason) => reason,
    };
    match (options.place, reason) {
        (Place::At(offset), _) => Ok((offset, None)),
        (Place::Auto, reason @ Reason::Elsewhere(_)) => Err(reason),
        (Place::Auto, _) => Ok((0, None)),
        (Place::Partition(label), _) => match named(source, label, limit)? {
            Named::Partition(partition) => Ok((partition.at, None)),
            Named::Filesystem(found) => Ok((found.at, None)),
        },
    }
}

/// What a name or a number refers to in the tables and filesystems of a source.
enum Named {
    Partition(Partition),
    Filesystem(Found),
}

fn named(source: &dyn ReadAt, label: Label, limit: u64) -> Result<Named, Reason> {
    let survey = Survey::new(source, limit)?;
    let all = survey.tables.iter().flat_map(|table| &table.partitions);
    let mut partitions: Vec<&Partition> = all.filter(|p| p.label == label).collect();
    partitions.sort_by_key(|p| p.at);
    partitions.dedup_by_key(|p| p.at);
    match partitions[..] {
        [] => {}
        [partition] => return Ok(Named::Partition(partition.clone())),
        _ => {
            let places = partitions.iter().map(|p| p.at).collect();
            return Err(Reason::SeveralPartitions(label, places));
        }
    }
    let number = std::str::from_utf8(label.as_bytes()).ok().and_then(|n| n.parse::<usize>().ok());
    match number.and_then(|n| survey.found.get(n.checked_sub(1)?)) {
        Some(found) => Ok(Named::Filesystem(found.clone())),
        None => {
            Err(Reason::NoPartition { label, labels: survey.labels(), count: survey.found.len() })
        }
    }
}

fn in_partition(
    source: &dyn ReadAt,
    label: Label,
    limit: u64,
    options: &Options,
) -> Result<Chosen, Reason> {
    match named(source, label, limit)? {
        Named::Partition(partition) => {
            let chosen = at(source, partition.at, limit, options);
            let chosen = chosen.map_err(|reason| match reason {
                Reason::Elsewhere(_) | Reason::NotLittlefs { .. } if partition.encrypted => {
                    Reason::Encrypted(label)
                }
                Reason::Elsewhere(_) | Reason::NotLittlefs { .. } => Reason::OtherContent(label),
                reason => reason,
            })?;
            let found = Found { label: Some(label), ..chosen.found };
            Ok(Chosen { found, ..chosen })
        }
        Named::Filesystem(found) => {
            let chosen = at(source, found.at, limit, options)?;
            Ok(Chosen { found: Found { label: found.label, ..chosen.found }, ..chosen })
        }
    }
}

/// The bytes of a source that belong to a place, and that a new filesystem may use: the bytes of
/// the partition, the bytes of the filesystem that is there, or everything from that byte on.
///
/// # Errors
/// If there is no such partition, or if its content is encrypted.
pub fn space_of(source: &dyn ReadAt, place: Place) -> Result<Range<u64>, Reason> {
    let label = match place {
        Place::At(offset) => return Ok(offset..u64::MAX),
        Place::Auto => return Ok(0..u64::MAX),
        Place::Partition(label) => label,
    };
    let (at, len) = match named(source, label, SEARCH_FILE)? {
        Named::Partition(partition) if partition.encrypted => {
            return Err(Reason::Encrypted(label));
        }
        Named::Partition(partition) => (partition.at, partition.len),
        Named::Filesystem(found) => (found.at, found.len()),
    };
    Ok(at..at.saturating_add(len))
}
