//! Recovering files that were deleted, overwritten or cut off.
//!
//! A deletion appends a tag to a metadata log. Earlier commits stay in the log until it is
//! compacted, and in the other half of the pair until the compaction after that. Blocks of files
//! stay until they are used again. [`recover`] replays every log that is left, commit by commit,
//! follows every list that an entry ever had, and grades how reliable each file is ([`Grade`]).
//! [`save`] writes the files to a directory. Nothing is ever written to the image.
//!
//! `docs/recover.md` describes how a grade is decided, and how much can usually be recovered.

mod carve;
mod geometry;
mod history;
mod lists;
#[cfg(feature = "serde")]
mod manifest;
mod open;
mod paths;
mod proof;
mod save;
mod version1;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::bd::BlockDevice;
use crate::convention::{AttrUsage, Codec, Convention};
use crate::disk::{List, ListIndex, ctz};
use crate::error::{Result, Unsupported};
use crate::image::Dialect;
use carve::carve;
use history::{Content, Version};
use lists::{Chain, Lists};
use paths::Paths;
use proof::{Proofs, Standing};
use world::{Timeline, World};

#[cfg(feature = "serde")]
pub use manifest::Manifest;
pub use open::{Remains, open};
pub use save::{SaveError, Saved, save};

/// How reliable a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Grade {
    /// The content is in a commit whose CRC is correct.
    Checked,
    /// A commit has the head and the size of its list, every block of the list exists, and the
    /// remaining logs show that no commit used one of the blocks again.
    Complete,
    /// Anything else: a part is missing, or nothing proves that the content is unchanged.
    Partial,
}

/// The place of a result's entry in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Origin {
    /// The metadata block.
    pub block: u32,
    /// The revision of that block.
    pub revision: u32,
    /// The number of the commit in the block, from 1 on.
    pub commit: usize,
    /// The two blocks of the pair, if something names the pair.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub pair: Option<[u32; 2]>,
    /// The place of the commit in the history of the pair. Of two results of one pair, the one with
    /// the greater number is newer. Numbers of different pairs cannot be compared.
    pub state: usize,
    /// The first later place in that history at which the entry no longer had this content, if that
    /// place is known.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub ended: Option<usize>,
}

/// The content of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bytes.
    Inline(Box<[u8]>),
    /// The known blocks of a list, by index. Very many results may share them.
    Blocks(Arc<[Option<u32>]>),
}

/// One version of a file that is no longer in the filesystem.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The former path, from the root on, without `/` at the start. The part up to the name is the
    /// present path of the directory. `None` if no entry is left.
    pub path: Option<Vec<u8>>,
    /// Whether the directory in that path is known. If not, the path has a directory that had these
    /// blocks at another time, or may have had them, or it has a made-up name. The name of the file itself is always as reliable
    /// as the grade.
    pub placed: bool,
    /// How reliable it is.
    pub grade: Grade,
    /// The size of the file in bytes; if no entry is left, the number of bytes that were found.
    pub size: u64,
    /// The place of the entry; `None` if no entry is left.
    pub origin: Option<Origin>,
    /// The last block of its list, if it has one.
    pub head_block: Option<u32>,
    /// Ranges of bytes that are missing: at most 256. If more would be necessary, the last one also
    /// covers bytes that exist.
    pub missing: Arc<[Range<u64>]>,
    /// Why it has no better grade, or, for a complete result, what the grade relies on. Each is one
    /// sentence.
    pub reasons: Vec<&'static str>,
    /// The time of the last change, in nanoseconds since 1970, if attributes hold it.
    pub modified: Option<i64>,
    /// The content.
    pub source: Source,
}

/// The outcome of a search.
#[derive(Debug)]
pub struct Recovery {
    /// The block size in bytes.
    pub block_size: u32,
    /// How many blocks were searched.
    pub block_count: u32,
    /// Whether there is a filesystem now. If not, everything that was found is listed.
    pub has_filesystem: bool,
    /// How many metadata blocks have a valid commit.
    pub metadata_blocks: usize,
    /// How many of them do not belong to the present filesystem.
    pub lost_metadata_blocks: usize,
    /// The results, by path; the newest version of a path comes first.
    pub files: Vec<Recovered>,
}

impl Recovery {
    /// Call nothing complete that is in blocks of its own: the device may not have the blocks of
    /// the filesystem at their places. What a CRC covers stays checked.
    pub fn distrust_blocks(&mut self) {
        for file in self.files.iter_mut().filter(|file| file.grade == Grade::Complete) {
            file.grade = Grade::Partial;
            file.reasons.push(DOUBTFUL);
        }
    }
}

/// The maximum number of ranges of missing bytes in a result.
const MISSING_MAX: usize = 256;

const UNPROVED: &str =
    "its blocks were free for a time, and logs of that time are lost, so it may have other content";
const UNCOMMITTED_V1: &str = "its blocks were free for a time; a driver of version 1 often writes \
     to such blocks, and leaves no trace if the power fails before the commit";
const UNCOMMITTED: &str = "no commit used its blocks again; only a write of the same length that \
     was interrupted before its commit could have changed them";
const UNREAD: &str = "the log of a directory ends with commits that cannot be read, or with an \
     interrupted one; these may have used its blocks again";
const MISSING: &str = "some of its blocks were reused";
const LOST_PAIR: &str = "nothing names its directory any more, so later changes are not known";
const HIDDEN: &str = "its commit is behind a damaged one, so nothing proves that its blocks are \
     unchanged";
const DAMAGED: &str = "its commit, or one between the commit that gave it its name and its own, is \
     damaged: any byte of it may be wrong, or it may belong to another name";
const DOUBTFUL: &str = "a superblock or a part of the file is lost, so its blocks may not be at \
     their places";
const NESTED: &str = "its metadata may be part of a file that holds an image";
const NO_ENTRY: &str = "no entry is left, so it is not known how large the file was, or whether \
     its blocks belonged to one file";

/// Search the whole device for files that are no longer in its filesystem. `progress` is called
/// with the number of blocks that were read.
///
/// # Errors
/// If no block of the device can be read.
pub fn recover(dev: &dyn BlockDevice, progress: &dyn Fn(u64)) -> Result<Recovery> {
    recover_from(dev, Dialect::Littlefs, progress)
}

/// The same for a device whose filesystem is, or was, written in this dialect: littlefs of version
/// 2 or of version 1.
///
/// # Errors
/// Those of [`recover`], and an error if images of the dialect cannot be searched.
pub fn recover_from(
    dev: &dyn BlockDevice,
    dialect: Dialect,
    progress: &dyn Fn(u64),
) -> Result<Recovery> {
    if !matches!(dialect, Dialect::Littlefs | Dialect::V1) {
        let what = format!("what {} leaves of removed entries", dialect.name());
        return Err(Unsupported::Geometry(what).into());
    }
    let world = World::new(dev, dialect, progress)?;
    let mut lists = Lists::new(&world);
    for span in world.timelines.iter().flat_map(|t| &t.history.lists) {
        lists.follow(span.what);
    }
    let proofs = Proofs::new(&world, &lists);
    let finder = Finder {
        world: &world,
        lists: &lists,
        proofs: &proofs,
        codec: codec(&world),
        left: RefCell::default(),
    };
    let mut files = finder.named();
    files.extend(finder.nameless());
    let of = |live: bool| {
        // a history with hidden commits has the same blocks as the one without them
        let histories = world.timelines.iter().filter(move |t| t.live == live && !t.hidden);
        histories.map(|t| t.history.halves.len()).sum::<usize>()
    };
    Ok(Recovery {
        block_size: world.geometry.block_size,
        block_count: world.geometry.block_count,
        has_filesystem: world.superblock.is_some(),
        metadata_blocks: of(true) + of(false),
        lost_metadata_blocks: of(false),
        files,
    })
}

struct Finder<'a> {
    world: &'a World<'a>,
    lists: &'a Lists<'a>,
    proofs: &'a Proofs<'a>,
    codec: Option<Codec>,
    /// The known blocks of lists that are not proved. They are kept here, because very many entries
    /// can have the same list.
    left: RefCell<HashMap<(List, bool), Left>>,
}

/// The known blocks of a list, without those that present files use.
#[derive(Clone)]
struct Left {
    blocks: Arc<[Option<u32>]>,
    missing: Arc<[Range<u64>]>,
}

impl Finder<'_> {
    /// The versions of files whose entries are left.
    fn named(&self) -> Vec<Recovered> {
        let paths = Paths::new(self.world);
        let (mut live_lists, mut live_inline) = (HashSet::new(), HashSet::new());
        let mut live_names = HashSet::new();
        for (number, timeline) in self.world.timelines.iter().enumerate().filter(|(_, t)| t.live) {
            for version in present(timeline) {
                match &version.content {
                    Content::List(list) => _ = live_lists.insert(*list),
                    content => _ = live_inline.insert((&version.name, content)),
                }
                live_names.insert((paths.number(number), &version.name));
            }
        }
        let mut found: BTreeMap<(Vec<u8>, Option<usize>), Vec<Recovered>> = BTreeMap::new();
        for (number, timeline) in self.world.timelines.iter().enumerate() {
            let dir = paths.path(number);
            for version in &timeline.history.versions {
                let is_lost = match &version.content {
                    Content::Directory(_) => false,
                    Content::List(list) => !live_lists.contains(list),
                    // every file is empty at first, so an empty version is lost only if its name is
                    content if content.is_empty() => {
                        !live_names.contains(&(paths.number(number), &version.name))
                    }
                    content => !live_inline.contains(&(&version.name, content)),
                };
                if is_lost {
                    let file = self.result(number, timeline, version, dir.as_deref());
                    let path = file.path.clone().unwrap_or_default();
                    found.entry((path, paths.number(number))).or_default().push(file);
                }
            }
        }
        found.into_values().flat_map(distinct).collect()
    }

    fn result(
        &self,
        number: usize,
        timeline: &Timeline,
        version: &Version,
        dir: Option<&[u8]>,
    ) -> Recovered {
        let made_up = || {
            let blocks = match timeline.pair {
                Some(pair) => pair.0.to_vec(),
                None => timeline.history.halves.iter().map(|half| half.block).collect(),
            };
            let words: Vec<String> = blocks.iter().map(u32::to_string).collect();
            format!("lost-directory-{}", words.join("-")).into_bytes()
        };
        let mut path = dir.map_or_else(made_up, <[u8]>::to_vec);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&version.name);
        let meta = self
            .codec
            .as_ref()
            .map(|codec| codec.read(version.attrs.iter().map(|(ty, data)| (*ty, &data[..]))));
        let mut file = Recovered {
            path: Some(path),
            // commits that cannot be read may have put another directory there
            placed: timeline.live && (number == 0 || !self.world.unread),
            grade: Grade::Checked,
            size: 0,
            origin: origin(timeline, version),
            head_block: None,
            missing: Arc::default(),
            reasons: Vec::new(),
            modified: meta.and_then(|meta| meta.mtime),
            source: Source::Blocks(Arc::default()),
        };
        match &version.content {
            Content::Inline(bytes) => {
                file.size = bytes.len() as u64;
                file.source = Source::Inline(bytes.clone());
                if self.may_be_nested(timeline) {
                    file.grade = Grade::Partial;
                    file.reasons.push(NESTED);
                }
            }
            Content::List(list) => self.grade_list(&mut file, number, *list, version.from),
            Content::Directory(_) => {}
        }
        if version.damaged {
            file.grade = Grade::Partial;
            file.reasons.push(DAMAGED);
        }
        file
    }

    /// Whether a history may be the content of a file that holds a littlefs image. The file may
    /// have been deleted in the meantime.
    fn may_be_nested(&self, timeline: &Timeline) -> bool {
        let mut blocks = timeline.history.halves.iter().map(|half| half.block);
        let is_root = |block| block < 2;
        !timeline.live
            && (blocks.clone().any(|b| self.lists.had(b))
                || (timeline.history.superblock && !blocks.any(is_root)))
    }

    fn grade_list(&self, file: &mut Recovered, number: usize, list: List, state: usize) {
        file.size = u64::from(list.size);
        file.head_block = Some(list.head);
        let standing = self.proofs.standing(number, list, state);
        if standing <= Standing::Quiet {
            file.grade = Grade::Complete;
            if standing == Standing::Quiet {
                file.reasons.push(UNCOMMITTED);
            }
            let blocks = self.lists.get(list).map(|chain| chain.blocks.clone());
            file.source = Source::Blocks(blocks.unwrap_or_default());
            return;
        }
        file.grade = Grade::Partial;
        let timeline = self.world.timelines.get(number);
        let is_hidden = timeline.is_some_and(|t| t.hidden);
        let Left { blocks, missing } = self.left(list, is_hidden);
        let is_live = timeline.is_some_and(|t| t.live);
        file.reasons.push(match missing.is_empty() {
            false => MISSING,
            true if is_hidden => HIDDEN,
            true if is_live && self.world.unread => UNREAD,
            true if is_live && !self.world.shows_uncommitted_writes() => UNCOMMITTED_V1,
            true if is_live => UNPROVED,
            true => LOST_PAIR,
        });
        file.missing = missing;
        file.source = Source::Blocks(blocks);
    }

    /// The known blocks of a list. Blocks that present files use belong to those files, so they are
    /// left out, unless the list is newer than the present state.
    fn left(&self, list: List, is_newer: bool) -> Left {
        let find = || {
            let chain = self.lists.get(list).map_or(&[][..], |chain| &chain.blocks);
            let is_left = |&block: &u32| is_newer || self.proofs.taken(block).is_none();
            let blocks: Arc<[_]> = chain.iter().map(|block| block.filter(is_left)).collect();
            let missing = self.missing(list, &blocks).into();
            Left { blocks, missing }
        };
        self.left.borrow_mut().entry((list, is_newer)).or_insert_with(find).clone()
    }

    /// The bytes of a list that are in no known block.
    fn missing(&self, list: List, blocks: &[Option<u32>]) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        if blocks.is_empty() {
            missing.push(0..u64::from(list.size));
        }
        let unknown = blocks.iter().enumerate().filter(|(_, block)| block.is_none());
        for (i, _) in unknown {
            let (piece, start) = self.world.piece(list.size, ListIndex(i as u32));
            let end = start + u64::from(piece.end - piece.start);
            let is_full = missing.len() >= MISSING_MAX;
            match missing.last_mut() {
                Some(last) if last.end == start || is_full => last.end = end,
                _ => missing.push(start..end),
            }
        }
        missing
    }

    /// Lists without an entry.
    fn nameless(&self) -> Vec<Recovered> {
        carve(self.world, self.proofs).into_iter().filter_map(|chain| self.carved(chain)).collect()
    }

    fn carved(&self, chain: Chain) -> Option<Recovered> {
        let last = ListIndex::last_of(chain.blocks.len() as u32)?;
        let head = chain.blocks.last().copied().flatten()?;
        let block_size = self.world.geometry.block_size;
        let mut bytes = vec![0; block_size as usize];
        self.world.dev.read(head, 0, &mut bytes).ok()?;
        let content = bytes.get(ctz::data_offset(last) as usize..)?;
        let used = content.iter().rposition(|&b| b != 0xff).map_or(0, |at| at as u64 + 1);
        Some(Recovered {
            path: None,
            placed: false,
            grade: Grade::Partial,
            size: ctz::start(block_size, last) + used,
            origin: None,
            head_block: Some(head),
            missing: Arc::default(),
            reasons: vec![NO_ENTRY],
            modified: None,
            source: Source::Blocks(chain.blocks),
        })
    }
}

/// The versions that are in the filesystem now.
fn present(timeline: &Timeline) -> impl Iterator<Item = &Version> {
    timeline.history.versions.iter().filter(|version| version.until.is_none())
}

fn origin(timeline: &Timeline, version: &Version) -> Option<Origin> {
    let (half, commit) = timeline.history.place(version.from)?;
    Some(Origin {
        block: half.block,
        revision: half.rev,
        commit,
        pair: timeline.pair.map(|pair| pair.0),
        state: version.from,
        ended: version.until,
    })
}

/// For each path, keep one version of each content: one with the best grade. The versions are in
/// the order of the history that has the most of them, newest first. The empty state of a file
/// before its first content is left out.
fn distinct(mut files: Vec<Recovered>) -> Vec<Recovered> {
    let is_empty = |file: &Recovered| file.size == 0;
    if files.iter().any(|file| !is_empty(file)) {
        files.retain(|file| !is_empty(file));
    }
    let mut kept: Vec<Recovered> = Vec::new();
    let mut seen = HashSet::new();
    // newer states come first, but histories keep their order
    files.reverse();
    files.sort_by_key(|file| file.origin.as_ref().map(|origin| origin.pair));
    files.sort_by_key(|file| file.grade);
    for file in files {
        let inline = match &file.source {
            Source::Inline(bytes) => Some(bytes.clone()),
            Source::Blocks(_) => None,
        };
        if seen.insert((file.size, file.head_block, inline)) {
            kept.push(file);
        }
    }
    kept.sort_by_key(|file| {
        let origin = file.origin.as_ref();
        origin.map(|o| (o.pair.is_none(), o.pair, std::cmp::Reverse(o.state)))
    });
    kept
}

fn codec(world: &World<'_>) -> Option<Codec> {
    let mut usage = AttrUsage::new();
    for version in world.timelines.iter().flat_map(|t| &t.history.versions) {
        for (ty, data) in &version.attrs {
            *usage.entry((*ty, data.len() as u16)).or_default() += 1;
        }
    }
    Convention::recognise(&usage).map(|convention| Codec::new(convention, &usage))
}
