//! Telling images of chamelon apart from sound littlefs images.
//!
//! A write to an image of chamelon damages it if the image is treated as a littlefs, so images of
//! chamelon must be recognised. On the other hand, no sound littlefs may be mistaken for one,
//! whatever it holds; other programs keep times of 12 bytes, too. So an image counts as chamelon's
//! only if all of this is true for the root's first pair, which every change to the root rewrites:
//!
//! 1. The superblock says what chamelon always writes: version 2.0, names of 32 bytes, files of
//!    2147483647, attributes of 1022.
//! 2. There is no tag that chamelon never writes: CREATE, a soft tail, global state, a forward CRC,
//!    an attribute other than its time. littlefs drivers cannot do without these tags: a new name
//!    comes with CREATE, and a directory with a soft tail.
//! 3. Every value has its time.
//! 4. There is something that no littlefs driver leaves behind: two equal blocks (a driver writes
//!    them in turn, with ascending revisions), a name for an id behind the last one without CREATE,
//!    a DELETE in the first commit of its block, a directory although no tail leads on, or names
//!    out of order.
//!
//! An image that chamelon has only formatted lacks the evidence of the last point. It is taken for
//! a littlefs. This is harmless, because it holds nothing that could be damaged.

use std::collections::HashSet;

use super::log::Log;
use super::{TIME, TIME_LEN};
use crate::bd::BlockDevice;
use crate::disk::entry::Content;
use crate::disk::superblock::{ATTR_MAX, FILE_MAX, VERSION_2_0};
use crate::disk::{Pair, Superblock, Tag, name, tag};

/// The longest name, in bytes, in superblocks that chamelon writes.
const NAME_MAX: u32 = 32;

/// Whether chamelon wrote the image on `dev`, which has this superblock. A block that cannot be
/// read is no evidence.
pub fn recognise(dev: &dyn BlockDevice, superblock: &Superblock) -> bool {
    let Superblock { version, name_max, file_max, attr_max, .. } = *superblock;
    if (version, name_max, file_max, attr_max) != (VERSION_2_0, NAME_MAX, FILE_MAX, ATTR_MAX) {
        return false;
    }
    let mut evidence = Evidence::default();
    let mut logs = Vec::new();
    for block in Pair::SUPERBLOCK.0 {
        let mut bytes = vec![0; dev.geometry().block_size as usize];
        if dev.read(block, 0, &mut bytes).is_err() {
            continue;
        }
        let mut ids = Ids::default();
        let log = Log::parse(bytes, &mut |commit, t| evidence.weigh(&mut ids, commit, t));
        if log.commits > 0 {
            evidence.foreign |= lacks_times(&log);
            evidence.own |= lacks_thread(&log) || !is_sorted(&log);
            logs.push(log);
        }
    }
    if let [a, b] = &logs[..] {
        evidence.own |= a.bytes() == b.bytes();
    }
    evidence.own && !evidence.foreign
}

/// The evidence that was found.
#[derive(Default)]
struct Evidence {
    /// Something that no littlefs driver writes.
    own: bool,
    /// Something that chamelon never writes.
    foreign: bool,
}

/// How many ids a block has by the rules of littlefs.
#[derive(Default)]
struct Ids {
    count: u16,
}

impl Evidence {
    /// Take into account a tag of commit number `commit` of a block.
    fn weigh(&mut self, ids: &mut Ids, commit: u32, t: Tag) {
        match t.type3() {
            tag::REG | tag::DIR | tag::SUPERBLOCK => {
                // a compaction numbers the ids without gaps, and in later commits a new id needs a
                // CREATE tag
                self.own |= t.id() > ids.count || (commit > 0 && t.id() == ids.count);
                ids.count = ids.count.max(t.id().saturating_add(1));
            }
            tag::DELETE => {
                // a compaction leaves out deleted entries
                self.own |= commit == 0;
                ids.count = ids.count.saturating_sub(u16::from(t.id() < ids.count));
            }
            tag::HARDTAIL => {}
            ty if Content::is_known(ty) => {}
            ty => self.foreign |= ty != tag::USERATTR | u16::from(TIME) || t.size() != TIME_LEN,
        }
    }
}

/// Whether there is a directory although no tail leads on from this pair.
fn lacks_thread(log: &Log) -> bool {
    log.hardtail.is_none() && log.names().any(|(_, ty, _)| ty == tag::DIR)
}

/// Whether the names are in the order that drivers rely on when they search.
fn is_sorted(log: &Log) -> bool {
    log.names().map(|(.., name)| name).is_sorted_by(|a, b| name::cmp(a, b).is_le())
}

/// Whether there is a value without a time.
fn lacks_times(log: &Log) -> bool {
    let time = tag::USERATTR | u16::from(TIME);
    let values: HashSet<u16> =
        log.names().filter(|&(_, ty, _)| ty == tag::REG).map(|(id, ..)| id).collect();
    values.into_iter().any(|id| log.get(id, time).is_none())
}
