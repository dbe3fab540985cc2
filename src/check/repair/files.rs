//! Making files sound. A file that shares blocks with another gets a copy of them. If the list of a
//! file is broken, the content that can be found is kept.
//!
//! All copies are on disk before an entry changes, because a commit may erase a block that a
//! damaged file reads from.

use std::collections::BTreeMap;

use super::editor::{Editor, EntryEdit, ListWriter, PairEdit};
use super::lists::{Census, Damaged, Fault, chain, reach};
use super::model::Model;
use super::{Mode, Repair};
use crate::alloc::Alloc;
use crate::disk::{ListIndex, ctz};
use crate::error::{Error, Result};
use crate::fs::{Fs, read_list};

/// How many bytes are copied at once.
const CHUNK: usize = 64 << 10;
/// How many free blocks are left for directories that have to grow.
const SPARE: u32 = 4;

/// Changes of entries that are committed together.
#[derive(Default)]
struct Edits {
    by_node: BTreeMap<usize, PairEdit>,
    done: Vec<Repair>,
}

impl Edits {
    fn put(&mut self, d: &Damaged, edit: EntryEdit, repair: Repair) {
        self.by_node.entry(d.node).or_default().entries.insert(d.id, edit);
        self.done.push(repair);
    }

    fn commit(self, editor: &Editor, model: &Model, done: &mut Vec<Repair>) -> Result<()> {
        for (node, edit) in self.by_node {
            editor.commit(model.nodes[node].pair, edit)?;
        }
        done.extend(self.done);
        Ok(())
    }
}

/// Give files that share blocks with others blocks of their own. Files whose pointers disagree are
/// left, because it is not certain which content they have; but with [`Mode::Yes`], all of them get
/// blocks of their own, and are read as most of their pointers say. Returns false if there was no
/// space for some of them.
pub(super) fn separate(
    editor: &Editor,
    fs: &Fs,
    model: &Model,
    census: &mut Census,
    mode: Mode,
    done: &mut Vec<Repair>,
) -> Result<bool> {
    let mut edits = Edits::default();
    let mut all = true;
    // this bounds the time for many long lists that overlap
    let most = 8 * u64::from(model.superblock.block_count);
    let code = |d: &Damaged| match d.fault {
        Fault::Shared { agrees } if agrees || mode == Mode::Yes => Some("block-shared"),
        Fault::Pointers if mode == Mode::Yes => Some("ctz-pointer"),
        _ => None,
    };
    // A copy must not overwrite a block that one of these files reads. All lists are read before
    // the first copy is written, so that no list can lead into a copy.
    let mut looks = most;
    let mut work = Vec::new();
    for d in &census.damaged {
        let Some(code) = code(d) else { continue };
        let Some(rest) = looks.checked_sub(d.list.blocks(editor.layout.block_size).into()) else {
            all = false;
            continue;
        };
        looks = rest;
        // a list that cannot be read is salvaged later
        let Some(blocks) = reading(editor, fs, d, &census.metadata) else { continue };
        blocks.iter().for_each(|&block| _ = census.used.mark(block));
        work.push((d, code, blocks));
    }
    for (d, code, blocks) in work {
        match copy(editor, d.list.size, &blocks, &mut census.used)? {
            Ok(edit) => {
                // content has no checksums, so it is not known which file the blocks belonged to
                let message =
                    "now has blocks of its own; some of its bytes may be those of another file";
                let repair = Repair::new(code, model.path_of(d), message);
                edits.put(d, edit, repair);
            }
            Err(no_space) => all &= !no_space,
        }
    }
    if all || mode == Mode::Yes {
        edits.commit(editor, model, done)?;
    }
    Ok(all)
}

/// The blocks from which a file is read at present. `None` if they cannot be found.
fn reading(editor: &Editor, fs: &Fs, d: &Damaged, metadata: &Alloc) -> Option<Vec<u32>> {
    match d.fault {
        Fault::Pointers | Fault::Shared { agrees: false } => chain(&*editor.dev, d.list, metadata),
        _ => fs.load_list(d.list).ok(),
    }
}

/// Copy a file of `size` bytes that is read from the blocks of `list`. The inner error is true if
/// there was no space, and false if the file cannot be read.
fn copy(
    editor: &Editor,
    size: u32,
    list: &[u32],
    map: &mut Alloc,
) -> Result<Result<EntryEdit, bool>> {
    if list.len() as u32 + SPARE > map.available() {
        return Ok(Err(true));
    }
    let mut w = ListWriter::new(&*editor.dev);
    let mut buf = vec![0; CHUNK];
    let mut off = 0;
    while off < size {
        let piece = &mut buf[..CHUNK.min((size - off) as usize)];
        if read_list(&*editor.dev, list, off, piece).is_err() {
            w.give_back(map);
            return Ok(Err(false));
        }
        match w.push(map, piece) {
            Ok(()) => {}
            Err(Error::NoSpace) => {
                w.give_back(map);
                return Ok(Err(true));
            }
            Err(e) => return Err(e),
        }
        off += piece.len() as u32;
    }
    match w.finish(map) {
        Ok(edit) => Ok(Ok(edit)),
        Err(Error::NoSpace) => Ok(Err(true)),
        Err(e) => Err(e),
    }
}

/// Make the remaining lists sound. The content that can be found of broken lists is kept. Files
/// that could not get blocks of their own for lack of space are given up.
pub(super) fn salvage(
    editor: &Editor,
    model: &Model,
    census: &mut Census,
    done: &mut Vec<Repair>,
) -> Result<()> {
    let mut edits = Edits::default();
    let mut looks = 8 * u64::from(model.superblock.block_count);
    for d in &census.damaged {
        let path = model.path_of(d);
        let code = match d.fault {
            Fault::Broken(code) => code,
            Fault::Shared { .. } => "block-shared",
            // the file can be read, so it is left rather than given up for lack of space
            Fault::Pointers => continue,
        };
        let room = census.used.available().saturating_sub(SPARE);
        let is_shared = matches!(d.fault, Fault::Shared { .. });
        let crowded = is_shared && d.list.blocks(editor.layout.block_size) > room;
        let part = if crowded {
            None
        } else {
            let others = (&census.metadata, &census.owned);
            part_of(editor, d, others, &mut census.used, room, &mut looks)?
        };
        match part {
            Some((edit, from)) => {
                let (size, rest) = (d.list.size, d.list.size.saturating_sub(from));
                let message = match from {
                    0 => format!(
                        "still has all its {size} bytes, but those that cannot be read are zeros \
                         now"
                    ),
                    _ => format!(
                        "lost its first {from} bytes, and has the other {rest}; those of them that \
                         cannot be read are zeros now"
                    ),
                };
                edits.put(d, edit, Repair::given_up(code, path, message));
            }
            None => {
                let why =
                    if crowded { "no space for a copy" } else { "none of its content can be read" };
                let message = format!("was removed: {why}");
                edits.put(d, EntryEdit::Remove, Repair::given_up(code, path, message));
            }
        }
    }
    edits.commit(editor, model, done)
}

/// Copy the blocks of a broken list that can be found, from the first of them to the end of the
/// file, but no more than the last `room` blocks of the file. Blocks in between that were not found
/// become zeros. Also returns the position in the file at which the copy begins.
fn part_of(
    editor: &Editor,
    d: &Damaged,
    (metadata, owned): (&Alloc, &Alloc),
    map: &mut Alloc,
    room: u32,
    looks: &mut u64,
) -> Result<Option<(EntryEdit, u32)>> {
    let dev = &*editor.dev;
    let block_size = editor.layout.block_size;
    let mut found = BTreeMap::new();
    let (size, end) = (d.list.size, ListIndex(d.list.blocks(block_size)));
    reach(dev, d.list, metadata, owned, |i, block| {
        *looks = looks.saturating_sub(1);
        found.insert(i, block);
        *looks > 0 && end - i < room
    });
    let Some((&first, _)) = found.first_key_value() else { return Ok(None) };
    if room == 0 {
        return Ok(None);
    }
    let from = ctz::start(block_size, first.max(end - room.min(end.0))) as u32;
    let mut w = ListWriter::new(dev);
    let mut buf = vec![0; block_size as usize];
    let mut off = from;
    while off < size {
        let (i, at) = ctz::locate(block_size, off);
        let piece = &mut buf[..(block_size - at).min(size - off) as usize];
        let read = found.get(&i).is_some_and(|&b| dev.read(b, at, piece).is_ok());
        if !read {
            piece.fill(0);
        }
        off += piece.len() as u32;
        match w.push(map, piece) {
            Ok(()) => {}
            Err(Error::NoSpace) => {
                w.give_back(map);
                return Ok(None);
            }
            Err(e) => return Err(e),
        }
    }
    match w.finish(map) {
        Ok(edit) => Ok(Some((edit, from))),
        Err(Error::NoSpace) => Ok(None),
        Err(e) => Err(e),
    }
}
