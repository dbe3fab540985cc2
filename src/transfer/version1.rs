//! Making an image of littlefs version 1 from a manifest.
//!
//! Everything gets its place before anything is written: pairs and lists follow each other in the
//! order of the manifest. So the number of necessary blocks is known, and the same manifest always
//! gives the same bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Progress;
use super::build::{Refusal, refusals};
use super::create::{Created, Creation, Failure, Size, unwritable};
use super::manifest::{Item, Kind, Manifest};
use crate::bd::Geometry;
use crate::bd::file::fill;
use crate::disk::superblock::{FILE_MAX, MAGIC, VERSION_1_1};
use crate::disk::{BLOCK_NULL, List, ListIndex, Pair, crc, ctz};
use crate::error::Error;
use crate::v1::block::{CONTINUES, CRC, DIRECTORY, FILE, FIXED, HEADER, SUPERBLOCK};

/// The longest name in bytes. The format has one byte for the length.
const NAME_MAX: u32 = 255;
/// The revision of all pairs. The superblock in block 0 has the next one.
const REVISION: u32 = 1;

/// Writes a block, given its number and its first bytes.
type Put<'a> = dyn Fn(u32, &[u8]) -> Result<(), Failure> + 'a;

/// A directory: its items, and the pairs that hold their entries.
#[derive(Default)]
struct Dir {
    items: Vec<usize>,
    /// For each pair, its first block and the number of its items. Its second block directly
    /// follows the first one.
    pairs: Vec<(u32, usize)>,
}

/// The place of everything in the image.
struct Layout<'a> {
    manifest: &'a Manifest,
    block_size: u32,
    /// The directories: the root first, then the others in the order of the manifest.
    dirs: Vec<Dir>,
    /// For an item that is a directory, the index of this directory.
    dir_of: HashMap<usize, usize>,
    /// For each item that is a file, the first block of its list.
    lists: Vec<u32>,
    /// The first block after all used ones.
    end: u64,
}

/// The longest possible name in an image of version 1, in bytes. An entry must fit into one block.
pub(crate) fn name_max(block_size: u32) -> u32 {
    NAME_MAX.min(block_size.saturating_sub((HEADER + FIXED + CRC) as u32))
}

/// Write an image of version 1, as [`super::create_in`] does.
pub(super) fn create_in(
    file: &File,
    offset: u64,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let block_size = how.geometry(4)?.block_size;
    if how.format.keeps_attributes() || !how.root_attrs.is_empty() {
        return Err(Failure::NoAttributes);
    }
    let attributes = |path: &[u8], attrs: Result<Vec<_>, Error>| match attrs?.is_empty() {
        true => Ok(()),
        false => Err(Failure::HasAttributes(path.to_vec())),
    };
    attributes(b"", manifest.root_attrs())?;
    manifest.items.iter().try_for_each(|item| attributes(&item.path, manifest.attrs(item)))?;
    let name_max = name_max(block_size);
    let refused: Vec<Refusal> = refusals(manifest, name_max, FILE_MAX, false);
    if !refused.is_empty() {
        return Err(Failure::Refused(refused));
    }
    let layout = Layout::new(manifest, block_size);
    let needed = u32::try_from(layout.end).unwrap_or(u32::MAX);
    let block_count = match how.size {
        Size::Blocks(count) => count,
        Size::Least { free } => {
            let free = free.div_ceil(u64::from(block_size));
            u32::try_from(layout.end + free).unwrap_or(u32::MAX)
        }
        Size::AsBefore => return Err(Failure::NoSize),
    };
    let geometry = how.geometry(block_count)?;
    if needed > block_count {
        return Err(Failure::NoSpace { geometry, needed: Some(needed) });
    }
    let end = if how.compact { needed } else { block_count };
    let image_size = u64::from(end) * u64::from(block_size);
    fill(file, offset, image_size).map_err(unwritable)?;
    layout.write(file, offset, geometry, progress)?;
    file.sync_all().map_err(unwritable)?;
    let directories = layout.dirs.len() as u64 - 1;
    Ok(Created {
        geometry,
        blocks_used: needed,
        files: manifest.items.len() as u64 - directories,
        directories,
        bytes: manifest.bytes(),
        image_size,
        misfits: Vec::new(),
        warnings: Vec::new(),
    })
}

impl<'a> Layout<'a> {
    fn new(manifest: &'a Manifest, block_size: u32) -> Self {
        let mut dirs = vec![Dir::default()];
        let mut dir_of = HashMap::new();
        let mut by_path: HashMap<&[u8], usize> = HashMap::from([(&[][..], 0)]);
        for (i, item) in manifest.items.iter().enumerate() {
            let (parent, _) = item.split();
            // parents come before their children
            let parent = by_path.get(parent).copied().unwrap_or(0);
            dirs[parent].items.push(i);
            if item.kind == Kind::Dir {
                by_path.insert(&item.path, dirs.len());
                dir_of.insert(i, dirs.len());
                dirs.push(Dir::default());
            }
        }
        let lists = vec![BLOCK_NULL; manifest.items.len()];
        let mut layout = Self { manifest, block_size, dirs, dir_of, lists, end: 2 };
        layout.place();
        layout
    }

    /// Give every pair and every list its blocks.
    fn place(&mut self) {
        let mut next = 2_u64;
        let block = |next: u64| u32::try_from(next).unwrap_or(BLOCK_NULL);
        let room = self.block_size as usize - HEADER - CRC;
        for dir in &mut self.dirs {
            let mut pairs = vec![(block(next), 0)];
            next += 2;
            let mut left = room;
            for &i in &dir.items {
                let size = FIXED + self.manifest.items[i].split().1.len();
                if size > left {
                    pairs.push((block(next), 0));
                    next += 2;
                    left = room;
                }
                left = left.saturating_sub(size);
                if let Some((_, count)) = pairs.last_mut() {
                    *count += 1;
                }
            }
            dir.pairs = pairs;
            for &i in &dir.items {
                let item = &self.manifest.items[i];
                let size = u32::try_from(item.size).unwrap_or(u32::MAX);
                if item.kind == Kind::File && size > 0 {
                    self.lists[i] = block(next);
                    next += u64::from(ctz::blocks(self.block_size, size));
                }
            }
        }
        self.end = next;
    }

    fn write(
        &self,
        file: &File,
        offset: u64,
        geometry: Geometry,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let put = |block: u32, bytes: &[u8]| -> Result<(), Failure> {
            let at = offset + u64::from(block) * u64::from(self.block_size);
            file.write_all_at(bytes, at).map_err(unwritable)
        };
        let mut stored = 0;
        for (i, item) in self.manifest.items.iter().enumerate() {
            if item.kind == Kind::File {
                let unreadable = |e| Failure::Unreadable(item.path.to_vec(), e);
                self.write_list(item, self.lists[i], &put, &unreadable)?;
                stored += item.size;
                progress(stored);
            }
        }
        // the pairs in the order of the thread, each as its directory and its number there
        let pairs: Vec<(&Dir, usize)> = self
            .dirs
            .iter()
            .flat_map(|dir| (0..dir.pairs.len()).map(move |number| (dir, number)))
            .collect();
        for (at, &(dir, number)) in pairs.iter().enumerate() {
            let next = pairs.get(at + 1);
            let tail = next.map_or(Pair::NULL, |&(dir, number)| pair_at(dir.pairs[number].0));
            let continues = number + 1 < dir.pairs.len();
            let before: usize = dir.pairs[..number].iter().map(|&(_, count)| count).sum();
            let (first, count) = dir.pairs[number];
            let items = &dir.items[before..before + count];
            let entries = items.iter().flat_map(|&i| self.entry(i)).collect();
            put(first, &metadata(REVISION, continues, tail, entries))?;
        }
        let root = pair_at(self.dirs[0].pairs[0].0);
        for (block, rev) in [(1, REVISION), (0, REVISION + 1)] {
            put(block, &metadata(rev, false, root, superblock(root, geometry)))?;
        }
        Ok(())
    }

    /// Write the list of a file, in consecutive blocks from `first`.
    fn write_list(
        &self,
        item: &Item,
        first: u32,
        put: &Put<'_>,
        unreadable: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let size = u32::try_from(item.size).unwrap_or(u32::MAX);
        let mut content = self.manifest.open(item).map_err(unreadable)?;
        let mut data = Vec::new();
        for index in (0..ctz::blocks(self.block_size, size)).map(ListIndex) {
            let pointers = ctz::targets(index).map(|target| first + target.0);
            let mut block: Vec<u8> = pointers.flat_map(u32::to_le_bytes).collect();
            content.fill(&mut data, self.block_size as usize - block.len()).map_err(unreadable)?;
            block.extend_from_slice(&data);
            put(first + index.0, &block)?;
        }
        Ok(())
    }

    /// The bytes of the entry of an item.
    fn entry(&self, i: usize) -> Vec<u8> {
        let item = &self.manifest.items[i];
        let (kind, data) = match self.dir_of.get(&i) {
            Some(&dir) => (DIRECTORY, pair_at(self.dirs[dir].pairs[0].0).to_bytes()),
            None => {
                let size = u32::try_from(item.size).unwrap_or(u32::MAX);
                let blocks = ctz::blocks(self.block_size, size);
                let head = blocks.checked_sub(1).map_or(BLOCK_NULL, |last| self.lists[i] + last);
                (FILE, List { head, size }.to_bytes())
            }
        };
        let (_, name) = item.split();
        let mut entry = vec![kind, 8, 0, name.len() as u8];
        entry.extend(data);
        entry.extend_from_slice(name);
        entry
    }
}

fn pair_at(first: u32) -> Pair {
    Pair([first, first.saturating_add(1)])
}

/// The entry of the superblock (SPEC.md of version 1: Superblock).
fn superblock(root: Pair, geometry: Geometry) -> Vec<u8> {
    let mut entry = vec![SUPERBLOCK, 20, 0, MAGIC.len() as u8];
    entry.extend(root.to_bytes());
    for word in [geometry.block_size, geometry.block_count, VERSION_1_1] {
        entry.extend(word.to_le_bytes());
    }
    entry.extend_from_slice(MAGIC);
    entry
}

/// A metadata block (SPEC.md of version 1: Directories / Metadata pairs).
fn metadata(rev: u32, continues: bool, tail: Pair, entries: Vec<u8>) -> Vec<u8> {
    let size = (HEADER + entries.len() + CRC) as u32;
    let mut block = rev.to_le_bytes().to_vec();
    block.extend((if continues { size | CONTINUES } else { size }).to_le_bytes());
    block.extend(tail.to_bytes());
    block.extend(entries);
    block.extend(crc::crc(crc::SEED, &block).to_le_bytes());
    block
}
