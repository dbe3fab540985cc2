//! What chamelon sees in an image: directories from the root down, with their entries.

use super::list::LISTS;
use super::log::{self, Doubt, Log};
use crate::bd::BlockDevice;
use crate::check::Recorder;
use crate::dialect::Tree;
use crate::dialect::tree::{Candidate, Content, Entry, Names, Reader, Walk};
use crate::disk::{List, Pair, entry, read_u32_le, tag};
use crate::error::Error;

/// Program size in bytes if no commit shows another one. It is chamelon's default.
const PROG_SIZE_DEFAULT: u32 = 16;

/// Read all metadata of the image on `dev`. Damaged parts are left out and reported as findings.
///
/// # Errors
/// If the first pair of the root cannot be read.
pub(super) fn read(dev: &dyn BlockDevice, recorder: &mut Recorder) -> Result<Tree, Error> {
    let g = dev.geometry();
    let mut pairs = Pairs { dev, ends: 0 };
    let dirs = Walk::run(&mut pairs, Pair::SUPERBLOCK, g.block_count, recorder)?;
    let unit = match pairs.ends.trailing_zeros() {
        32.. => PROG_SIZE_DEFAULT,
        n => 1 << n.min(31),
    };
    let fits = g.block_size.is_multiple_of(unit);
    let prog_size = if fits { unit } else { PROG_SIZE_DEFAULT };
    Ok(Tree { dirs, prog_size, block_size: g.block_size, lists: &LISTS })
}

/// The time of the last change according to the attributes, in days and picoseconds.
pub(super) fn modified(attrs: &[(u8, Box<[u8]>)]) -> Option<(u32, u64)> {
    let (_, data) = attrs.iter().find(|(ty, _)| *ty == super::TIME)?;
    let picos = data.get(4..12)?.try_into().ok()?;
    Some((read_u32_le(data, 0)?, u64::from_le_bytes(picos)))
}

/// Reads the pairs of directories.
struct Pairs<'a> {
    dev: &'a dyn BlockDevice,
    /// Bitwise OR of the ends of all commits.
    ends: u32,
}

impl Reader for Pairs<'_> {
    fn read(
        &mut self,
        walk: &mut Walk<'_>,
        dir: usize,
        number: usize,
        pair: Pair,
        names: &mut Names,
    ) -> Result<Option<Pair>, Error> {
        let fetched = log::fetch(self.dev, pair)?;
        doubt(walk, dir, pair, fetched.doubt.as_ref());
        self.ends |= fetched.log.ends;
        gather(walk, dir, number, &fetched.log, names);
        Ok(fetched.log.hardtail)
    }
}

fn doubt(walk: &mut Walk<'_>, dir: usize, pair: Pair, doubt: Option<&Doubt>) {
    match doubt {
        None => {}
        Some(Doubt::Torn) => walk.note_torn(pair),
        Some(Doubt::Cut) => {
            let of = walk.dir_path(dir);
            walk.suspect(
                dir,
                "commit-broken",
                pair,
                format_args!("its last commit is damaged: its changes in {of} are lost"),
            );
        }
        Some(Doubt::Unreadable(e)) => walk.suspect_unreadable(dir, pair, e),
    }
}

/// Add the entries of one pair. If a name occurs several times, the entry in the later pair counts,
/// and within a pair the entry with the higher id.
fn gather(walk: &mut Walk<'_>, dir: usize, number: usize, log: &Log, names: &mut Names) {
    for (id, ty, name) in log.names() {
        // an entry may have one struct of each type
        let (mut list, mut inline, mut pair) = (None, None, None);
        for (ty, data) in log.range(id, tag::STRUCT, tag::STRUCT | 0xff) {
            match entry::Content::decode(ty, data) {
                entry::Content::Inline(data) => inline = Some(Content::Inline(data.into())),
                entry::Content::List(List { head, size }) => {
                    list = Some(Content::List { head, size });
                }
                entry::Content::Dir(first) => pair = Some(first),
                _ => {}
            }
        }
        let value = list.or(inline);
        // if there are both a value and a pair, the type of the name decides
        let (content, below) = match (value, pair) {
            (Some(value), None) => (value, None),
            (Some(value), Some(_)) if ty == tag::REG => (value, None),
            (_, Some(pair)) => (Content::Nothing, Some(pair)),
            (None, None) => (Content::Nothing, None),
        };
        let attrs = log.range(id, tag::USERATTR, tag::USERATTR | 0xff);
        let attrs = attrs.map(|(ty, data)| (ty as u8, data.into())).collect();
        let entry = Entry { name: name.into(), content, attrs, place: (number, id) };
        let new = Candidate { entry, dir: below };
        if let Some(old) = names.insert(name.into(), new) {
            replaced(walk, dir, number, &old, below.is_some());
        }
    }
}

/// Report that an entry was replaced by a later one of the same name. Either may be a dictionary.
fn replaced(walk: &mut Walk<'_>, dir: usize, number: usize, old: &Candidate, by_dir: bool) {
    let place = walk.path(dir, &old.entry.name);
    if old.dir.is_some() || by_dir {
        walk.error(
            "name-duplicate",
            place,
            "stands for two things, at least one of them a dictionary; the last one is used",
        );
    } else if old.entry.place.0 == number {
        walk.error("name-duplicate", place, "stands for two values; the last one is used");
    } else {
        // chamelon leaves the old value if the directory was split since that value was written
        walk.note(
            "value-outdated",
            place,
            "an older value still exists beside the one that is used",
        );
    }
}
