//! Checking that a dump has the same content as an image: every block that the filesystem of the
//! image uses must have the same bytes. Unused space is not compared.

use std::collections::BTreeMap;

use super::CHUNK;
use crate::bd::BlockDevice;
use crate::dialect::LivePair;
use crate::disk::log::{Parsed, RawEntry, parse};
use crate::disk::superblock::probe_version1;
use crate::disk::{ListIndex, Pair, Superblock, ctz, tag};
use crate::error::{Corrupt, Result};
use crate::image::Dialect;
use crate::inspect::survey::{SeenPair, Survey, Use};
use crate::mdir::store::{self, Fetched};
use crate::show::base64_unless_text;
use crate::{chamelon, v1};

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many blocks the image uses.
    pub blocks: u32,
    /// How many bytes of these blocks were compared; the others are not in use.
    pub bytes: u64,
    /// What differs, by path. If several metadata pairs of a directory differ, there are several
    /// differences.
    pub differences: Vec<Difference>,
}

/// A path that differs between the image and the dump.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The path from the root on, in bytes, beginning with a slash.
    pub path: Vec<u8>,
    /// The kind of the difference.
    pub kind: Kind,
    /// The blocks that differ, in the order of the dump.
    pub blocks: Vec<BlockDifference>,
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Blocks of its content have other bytes.
    Content,
    /// Its entry in its directory differs: in inline content, in the places of its blocks, or in
    /// its user attributes. For the root, the superblock differs.
    Entry,
    /// It is in the image, but not in the directory of the dump.
    Missing,
    /// It is in the directory of the dump, but not in the image.
    Added,
    /// The metadata pair of a directory was written again, with the same entries.
    Rewritten,
    /// The metadata pair of a directory holds no valid commit in the dump, so none of its entries
    /// can be read there.
    Lost,
}

/// A block that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct BlockDifference {
    /// The number of the block.
    pub block: u32,
    /// The first byte that differs, counted from the start of the block.
    pub offset: u32,
    /// How many of the bytes that the image uses in this block differ.
    pub bytes: u32,
}

/// Paths are serialized as text. If a path is not UTF-8, its bytes are added.
impl serde::Serialize for Difference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("path", &String::from_utf8_lossy(&self.path))?;
        if let Some(bytes) = base64_unless_text(&self.path) {
            map.serialize_entry("path_base64", &bytes)?;
        }
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("blocks", &self.blocks)?;
        map.end()
    }
}

/// Compare the blocks that the filesystem on `image` uses with the same blocks of `dump`, which has
/// the same geometry. The filesystem in the dump need not be sound.
///
/// A metadata pair is the same if its live block is the same one, and holds the same commits. The
/// other block is treated as unused. The content of a file is compared up to its end.
///
/// # Errors
/// A sentence for people, if the image is damaged, so that it is unknown which blocks it uses, or
/// if a block of the image cannot be read.
pub fn verify(
    image: &dyn BlockDevice,
    dump: &dyn BlockDevice,
) -> std::result::Result<Verdict, String> {
    verify_dialect(Dialect::Littlefs, None, image, dump)
}

/// The same, for an image of this dialect, whose rules decide which metadata is in force. If the
/// dialect is not littlefs, the superblock must be given.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_dialect(
    dialect: Dialect,
    superblock: Option<Superblock>,
    image: &dyn BlockDevice,
    dump: &dyn BlockDevice,
) -> std::result::Result<Verdict, String> {
    let survey = Survey::of_dialect(image, dialect, superblock).map_err(|e| e.to_string())?;
    if let Some(problem) = survey.problems.first() {
        return Err(format!(
            "it is damaged, so it is not known which blocks it uses: {}: {}",
            problem.place, problem.message
        ));
    }
    let blocks = u32::try_from(survey.used()).unwrap_or(u32::MAX);
    let mut work = Work {
        dialect,
        image,
        dump,
        survey: &survey,
        bytes: 0,
        content: BTreeMap::new(),
        found: Vec::new(),
        buffers: [vec![0; CHUNK], vec![0; CHUNK]],
    };
    work.pairs().and_then(|()| work.lists()).map_err(|e| e.to_string())?;
    let (bytes, mut differences) = (work.bytes, work.found);
    for (node, blocks) in work.content {
        differences.push(Difference { path: survey.path_bytes(node), kind: Kind::Content, blocks });
    }
    differences.sort_unstable();
    Ok(Verdict { blocks, bytes, differences })
}

/// A comparison in progress.
struct Work<'a> {
    dialect: Dialect,
    image: &'a dyn BlockDevice,
    dump: &'a dyn BlockDevice,
    survey: &'a Survey,
    bytes: u64,
    /// For each file, as an index of the survey's nodes: the blocks of its content that differ.
    content: BTreeMap<usize, Vec<BlockDifference>>,
    found: Vec<Difference>,
    buffers: [Vec<u8>; 2],
}

impl Work<'_> {
    /// Compare the first `len` bytes of a block. A block that cannot be read in the dump counts as
    /// different.
    fn block(&mut self, block: u32, len: u32) -> Result<Option<BlockDifference>> {
        let [here, there] = &mut self.buffers;
        let mut found: Option<BlockDifference> = None;
        let mut off = 0;
        while off < len {
            let part = (len - off).min(CHUNK as u32);
            let (here, there) = (&mut here[..part as usize], &mut there[..part as usize]);
            self.image.read(block, off, here)?;
            let readable = read_up_to_end(self.dump, block, off, there);
            let differing =
                |(i, (a, b)): (usize, (&u8, &u8))| (i >= readable || a != b).then_some(i);
            let mut differing = here.iter().zip(&*there).enumerate().filter_map(differing);
            if let Some(first) = differing.next() {
                let offset = off + first as u32;
                let found = found.get_or_insert(BlockDifference { block, offset, bytes: 0 });
                found.bytes += 1 + differing.count() as u32;
            }
            off += part;
        }
        self.bytes += u64::from(len);
        Ok(found)
    }

    fn lists(&mut self) -> Result<()> {
        let geometry = self.survey.geometry;
        for block in 0..geometry.block_count {
            let Some(Use::Data(node, index)) = self.survey.use_of(block) else { continue };
            let size = self.survey.nodes.get(node).map_or(0, |node| u64::from(node.size()));
            let place = |index| match self.dialect {
                Dialect::Chamelon => chamelon::block_of_list(geometry.block_size, index),
                _ => (ctz::pointers(index), ctz::start(geometry.block_size, index)),
            };
            let index = ListIndex(index);
            let ((pointers, start), (_, end)) = (place(index), place(index + 1));
            let len = 4 * u64::from(pointers) + end.min(size).saturating_sub(start);
            let len = u32::try_from(len).unwrap_or(u32::MAX).min(geometry.block_size);
            if let Some(difference) = self.block(block, len)? {
                self.content.entry(node).or_default().push(difference);
            }
        }
        Ok(())
    }

    fn pairs(&mut self) -> Result<()> {
        let survey = self.survey;
        survey.pairs.iter().try_for_each(|pair| self.pair(pair))
    }

    fn pair(&mut self, seen: &SeenPair) -> Result<()> {
        let [live, other] = seen.pair.0;
        let differs = self.block(live, seen.used)?;
        let there = Held::of(self.dialect, self.dump, seen.pair);
        let same = |held: &Held| held.live == live && held.used == seen.used;
        if differs.is_none() && there.as_ref().is_some_and(same) {
            return Ok(());
        }
        // The dump may have the same commits and further ones after them, or newer commits in the
        // other block.
        let newer = there.as_ref().map(|there| match there.live {
            block if block == live => BlockDifference { block, offset: seen.used, bytes: 0 },
            _ => BlockDifference { block: other, offset: 0, bytes: 0 },
        });
        let blocks: Vec<BlockDifference> = differs.or(newer).into_iter().collect();
        let here = Held::of(self.dialect, self.image, seen.pair);
        let here = here.ok_or(Corrupt::no_valid_commit(seen.pair))?;
        let dir = match seen.dir {
            Some(dir) => self.survey.path_bytes(dir),
            None => b"/".to_vec(),
        };
        let Some(there) = there else {
            self.found.push(Difference {
                path: dir.clone(),
                kind: Kind::Lost,
                blocks: blocks.clone(),
            });
            let names = here.named().into_keys().map(|name| (name.to_vec(), Kind::Missing));
            self.report(&dir, names.collect(), &blocks);
            return Ok(());
        };
        let (old, new) = (here.named(), there.named());
        let mut names: Vec<(Vec<u8>, Kind)> = Vec::new();
        for (&name, entry) in &old {
            match new.get(name) {
                None => names.push((name.to_vec(), Kind::Missing)),
                Some(other) if !same_entry(entry, other) => {
                    names.push((name.to_vec(), Kind::Entry));
                }
                Some(_) => {}
            }
        }
        let added = new.keys().filter(|&name| !old.contains_key(name));
        names.extend(added.map(|name| (name.to_vec(), Kind::Added)));
        let has_names = !names.is_empty();
        self.report(&dir, names, &blocks);
        let kind = match here.superblock == there.superblock {
            true if has_names => return Ok(()),
            true => Kind::Rewritten,
            false => Kind::Entry,
        };
        self.found.push(Difference { path: dir, kind, blocks });
        Ok(())
    }

    /// The entries of the directory `dir`.
    fn report(&mut self, dir: &[u8], names: Vec<(Vec<u8>, Kind)>, blocks: &[BlockDifference]) {
        let dir = dir.strip_suffix(b"/").unwrap_or(dir);
        self.found.extend(names.into_iter().map(|(name, kind)| Difference {
            path: [dir, b"/", &name].concat(),
            kind,
            blocks: blocks.to_vec(),
        }));
    }
}

/// Read bytes of a block. Returns how many of them are there: fewer if a truncated dump ends before
/// the others, and none if they cannot be read.
fn read_up_to_end(dump: &dyn BlockDevice, block: u32, off: u32, bytes: &mut [u8]) -> usize {
    let present = match dump.read(block, off, bytes) {
        Ok(()) => return bytes.len(),
        Err(e) => e.present().unwrap_or(0),
    };
    let Some(start) = bytes.get_mut(..present) else { return 0 };
    if dump.read(block, off, start).is_ok() { present } else { 0 }
}

/// The content of a metadata pair.
struct Held {
    /// The live block.
    live: u32,
    /// How many bytes of the live block are in use.
    used: u32,
    entries: Vec<RawEntry>,
    superblock: Option<Superblock>,
}

impl Held {
    /// The content of a pair in this dialect; `None` if neither block is valid.
    fn of(dialect: Dialect, dev: &dyn BlockDevice, pair: Pair) -> Option<Self> {
        if dialect == Dialect::Littlefs {
            let Fetched { pair, log, .. } = store::fetch(dev, pair).ok()?;
            let superblock = Superblock::of(&log);
            return Some(Self { live: pair.0[0], used: log.off, entries: log.entries, superblock });
        }
        let LivePair { pair, used, .. } = match dialect {
            // The survey puts the live block first. The blocks are swapped, because version 1 uses
            // the second block if both have the same revision.
            Dialect::V1 => v1::pair(dev, Pair([pair.0[1], pair.0[0]]))?,
            _ => chamelon::pair(dev, pair)?,
        };
        let live = pair.0[0];
        let mut bytes = vec![0; dev.geometry().block_size as usize];
        dev.read(live, 0, &mut bytes).ok()?;
        let (entries, superblock) = match dialect {
            Dialect::V1 => (v1::entries(dev, live), probe_version1(&bytes).map(|(s, _)| s)),
            _ => {
                let superblock = match parse(&bytes, bytes.len()) {
                    Parsed::Log(log) => Superblock::of(&log),
                    _ => None,
                };
                (chamelon::entries(bytes).1, superblock)
            }
        };
        Some(Self { live, used, entries: entries.into_values().collect(), superblock })
    }

    /// The entries by name, without the superblock entry.
    fn named(&self) -> BTreeMap<&[u8], &RawEntry> {
        let is_path = |entry: &&RawEntry| entry.name_type.is_some_and(|ty| ty != tag::SUPERBLOCK);
        self.entries.iter().filter(is_path).map(|entry| (&*entry.name, entry)).collect()
    }
}

fn same_entry(a: &RawEntry, b: &RawEntry) -> bool {
    let attrs = |entry: &RawEntry| {
        let mut attrs = entry.attrs.to_vec();
        attrs.sort_unstable();
        attrs
    };
    (a.name_type, &a.data) == (b.name_type, &b.data) && attrs(a) == attrs(b)
}
