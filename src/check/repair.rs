//! Repair. Damage that keeps the filesystem code from working is repaired first, directly on the
//! blocks. The rest is repaired with the operations of the filesystem.
//!
//! Which blocks may be written is known only after all pointers have been followed as far as
//! possible: see [`lists`]. `docs/check.md` describes how each kind of damage is repaired.
//!
//! | what is damaged | where it is repaired |
//! |---|---|
//! | superblocks that are missing | here |
//! | blocks that several files use | [`files`] |
//! | directories and the thread, with `-y` | [`structure`], on the pairs that [`model`] has found |
//! | the global state, orphans, names | `fs/repair.rs`, with the operations of the filesystem |
//! | files whose list is broken, with `-y` | `fs/salvage.rs` |
//! | several entries of one name, with `-y` | `fs/doubles.rs` |
//! | the order of entries | `fs/sort.rs` |

mod editor;
mod files;
mod lists;
mod model;
mod structure;

use std::fmt::Display;
use std::sync::Arc;

use crate::bd::BlockDevice;
use crate::disk::log::Log;
use crate::disk::{Pair, Superblock};
use crate::error::{Error, Result};
use crate::fs::{Fs, NameFault, OpenOptions};
use crate::mdir::store;

use editor::{Editor, EntryEdit, PairEdit};
use lists::{Census, Fault};
use model::Model;

/// How far the repair may go, as for fsck(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `-p`: only repairs that lose nothing and guess nothing.
    Preen,
    /// `-y`: also repairs that lose something.
    Yes,
}

/// One thing that repair did.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Repair {
    /// The code of the finding that was repaired.
    pub code: &'static str,
    /// Where it was repaired: a path or a pair.
    pub place: String,
    /// What was done there, for people.
    pub message: String,
    /// Whether something was lost by the repair.
    pub given_up: bool,
}

impl Repair {
    fn new(code: &'static str, place: impl Display, message: impl Display) -> Self {
        let clean = |text: String| super::show(text.as_bytes());
        let (place, message) = (clean(place.to_string()), clean(message.to_string()));
        Self { code, place, message, given_up: false }
    }

    fn given_up(code: &'static str, place: impl Display, message: impl Display) -> Self {
        Self { given_up: true, ..Self::new(code, place, message) }
    }
}

/// What was done, and what stopped the repair, if something did.
#[derive(Debug, Default)]
pub struct Repairs {
    /// The repairs, in the order in which they were made.
    pub done: Vec<Repair>,
    /// Why further damage was left as it was; `None` if the repair was not stopped.
    pub stopped: Option<String>,
}

/// Repair the littlefs on `dev`, as far as `mode` allows.
///
/// # Errors
/// If the image cannot be opened.
pub fn repair(dev: Arc<dyn BlockDevice>, mode: Mode) -> Result<Repairs> {
    let layout = Fs::open(Arc::clone(&dev), &quietly())?.layout();
    let mut run = Run { editor: Editor { dev, layout }, mode, repairs: Repairs::default() };
    if let Err(e) = run.steps() {
        match e {
            Error::NoSpace => run.stop_without_space("the repair needs free blocks"),
            e => run.stop(&e.to_string()),
        }
    }
    Ok(run.repairs)
}

/// Options to open an image without warnings, because the check has already reported everything.
fn quietly() -> OpenOptions {
    OpenOptions { quiet: true, ..OpenOptions::default() }
}

/// What is said of a thread that has other tails now.
const RETHREADED: &str = "now leads through the directories of the tree, and no others";

struct Run {
    editor: Editor,
    mode: Mode,
    repairs: Repairs,
}

impl Run {
    fn steps(&mut self) -> Result<()> {
        if !self.mend_blocks()? {
            return Ok(());
        }
        // Below a directory that has got a name, others may be missing in the thread, or damaged.
        while self.mend_tree()? {}
        Ok(())
    }

    /// Repair the tree with the operations of the filesystem. Returns whether a directory without a
    /// name has got one.
    fn mend_tree(&mut self) -> Result<bool> {
        let half_orphans = Model::build(&*self.editor.dev)?.half_orphans;
        let mut fs = self.open()?;
        let any_named = self.place_directories(&mut fs, half_orphans)?;
        self.mend_entries(&mut fs)?;
        if self.mode == Mode::Yes {
            self.salvage(fs)?;
            fs = self.open()?;
        }
        self.mend_order(&mut fs)?;
        if self.mode == Mode::Yes {
            self.shorten_files(&mut fs)?;
        }
        fs.flush()?;
        Ok(any_named)
    }

    /// Repair what keeps the filesystem code from working, directly on the blocks. False if the
    /// repair has to stop here.
    fn mend_blocks(&mut self) -> Result<bool> {
        let dev = Arc::clone(&self.editor.dev);
        let model = Model::build(&*dev)?;
        let damaged = model.is_damaged();
        if damaged && self.mode == Mode::Preen {
            self.stop(
                "directories or the thread are damaged; -y repairs that, and reports what is lost by \
                 it; before you use -y, run 'littlefs recover', or add --backup",
            );
            return Ok(false);
        }
        let model = if self.restore_superblocks(&model)? { Model::build(&*dev)? } else { model };
        if !self.separate(&model)? && self.mode == Mode::Preen {
            self.stop_without_space("files share blocks, and copies need free blocks");
            return Ok(false);
        }
        if !damaged {
            let (code, place, message) = if model.loses_move() {
                ("move-lost", "global state", "an interrupted operation was finished")
            } else if model.half_orphans && model.gstate.is_zero() {
                ("half-orphan", "the thread", RETHREADED)
            } else {
                ("sync-pending", "global state", "an interrupted operation was finished")
            };
            drop(model);
            if self.open()?.finish_interrupted()? {
                self.done(code, place, message);
            }
        }
        if self.mode == Mode::Yes {
            structure::mend(&self.editor, &mut self.repairs.done)?;
        }
        for pair in self.open()?.align_superblocks()? {
            self.done(
                "superblock-size",
                pair,
                "now has the number of blocks of the root's superblock",
            );
        }
        self.rewrite_logs()?;
        self.renew_superblock_twin()?;
        Ok(true)
    }

    /// Give new names to entries that no device could open by their present names.
    fn mend_entries(&mut self, fs: &mut Fs) -> Result<()> {
        if self.mode == Mode::Yes {
            for (path, new) in fs.set_doubles_aside()? {
                let message =
                    format!("a device opens another entry of that name; this one is now {new}");
                self.done("name-duplicate", path, &message);
            }
        }
        for (path, fault) in fs.mend_names()? {
            let (code, message) = match fault {
                NameFault::Impossible => (
                    "name-impossible",
                    "is the new name of an entry whose old name is impossible on Linux",
                ),
                NameFault::TooLong => {
                    ("name-too-long", "is the new name of an entry whose old name was too long")
                }
            };
            self.done(code, path, message);
        }
        Ok(())
    }

    fn mend_order(&mut self, fs: &mut Fs) -> Result<()> {
        let (shortened, sorted) = fs.sort_directories()?;
        for path in shortened {
            self.done("pair-empty", path, "its empty pairs were taken out");
        }
        for path in sorted {
            self.done("name-order", path, "its entries are now in order");
        }
        fs.flush()
    }

    fn shorten_files(&mut self, fs: &mut Fs) -> Result<()> {
        for (path, rest) in fs.shorten_files()? {
            let message = match rest {
                Some(rest) => format!("was cut to file_max; the bytes after that are in {rest}"),
                None => "was cut to file_max; the bytes after that are lost".to_owned(),
            };
            self.repairs.done.push(Repair::given_up("file-too-large", path, message));
        }
        Ok(())
    }

    /// Write the superblock of the root into those pairs of the superblock chain that have none.
    /// Returns whether there were any.
    fn restore_superblocks(&mut self, model: &Model) -> Result<bool> {
        let root = model.thread.iter().rposition(|&i| model.nodes[i].superblock).unwrap_or(0);
        let mut any = false;
        for n in model.thread[..root].iter().map(|&i| &model.nodes[i]) {
            if n.chain && !n.superblock {
                self.editor.restore_superblock(n.pair, model.superblock)?;
                self.done("superblock-damaged", n.pair, "now has the superblock of the root");
                any = true;
            }
        }
        Ok(any)
    }

    /// Rewrite pairs whose logs hold tags that no driver writes.
    fn rewrite_logs(&mut self) -> Result<()> {
        let dev = Arc::clone(&self.editor.dev);
        let model = Model::build(&*dev)?;
        for n in model.nodes.iter().filter(|n| !n.replaced && (n.odd || n.unused)) {
            let mut edit = PairEdit::default();
            for (id, e) in store::fetch(&*dev, n.pair)?.log.entries.iter().enumerate() {
                if e.name_type.is_none() {
                    // An id that has content is kept. It gets a name later, together with all
                    // others that have no name.
                    let kept =
                        model.kind_of_nameless(e).map_or(EntryEdit::Remove, EntryEdit::Retype);
                    edit.entries.insert(id as u16, kept);
                }
            }
            self.editor.commit(n.pair, edit)?;
            let code = if n.odd { "log-odd" } else { "id-unused" };
            self.done(code, n.pair, "was rewritten");
        }
        Ok(())
    }

    /// If only one block of the superblock pair holds a superblock, write the pair into the other
    /// block, too. Without that, a filesystem whose last superblock gets lost cannot be found.
    fn renew_superblock_twin(&mut self) -> Result<()> {
        let dev = &*self.editor.dev;
        let fetched = store::fetch(dev, Pair::SUPERBLOCK)?;
        let twin = fetched.pair.0[1];
        let has_superblock = |log: &Log| Superblock::of(log).is_some();
        // a block that cannot be read cannot be trusted with new content either
        if fetched.unreadable.is_some()
            || !has_superblock(&fetched.log)
            || store::read_log(dev, twin)?.is_some_and(|log| has_superblock(&log))
        {
            return Ok(());
        }
        self.editor.commit(Pair::SUPERBLOCK, PairEdit::default())?;
        self.done("superblock-lost", format_args!("block {twin}"), "holds a superblock again");
        Ok(())
    }

    fn done(&mut self, code: &'static str, place: impl Display, message: &str) {
        self.repairs.done.push(Repair::new(code, place, message));
    }

    fn stop(&mut self, why: &str) {
        self.repairs.stopped = Some(why.to_owned());
    }

    /// Stop because there are not enough free blocks. A damaged image is not cloned or resized, so
    /// the only remedies are to copy what is left, and to remove something.
    fn stop_without_space(&mut self, why: &str) {
        self.stop(&format!(
            "no space left in the image: {why}; copy what can be read with 'littlefs extract', and \
             what was lost with 'littlefs recover'; then remove files that are not needed with \
             'littlefs rm', and repair again"
        ));
    }

    /// Find out which blocks are in use, and which lists are damaged. If blocks to which no pointer
    /// leads may hold lost content, only erased blocks count as free, except in the mode in which
    /// such content may be given up.
    fn census(&self, model: &Model) -> Census {
        let mut census = lists::census(&*self.editor.dev, model);
        if self.mode == Mode::Preen && census.is_uncertain() {
            census.keep_to_erased(&*self.editor.dev);
        }
        census
    }

    /// Open the filesystem, with a map of free blocks that takes damaged lists into account.
    fn open(&self) -> Result<Fs> {
        let mut fs = Fs::open(Arc::clone(&self.editor.dev), &quietly())?;
        if fs.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let model = Model::build(&*self.editor.dev)?;
        fs.adopt_map(self.census(&model).used);
        Ok(fs)
    }

    fn separate(&mut self, model: &Model) -> Result<bool> {
        let mut census = self.census(model);
        if !census.damaged.iter().any(|d| !matches!(d.fault, Fault::Broken(_))) {
            return Ok(true);
        }
        let fs = Fs::open(Arc::clone(&self.editor.dev), &quietly())?;
        files::separate(&self.editor, &fs, model, &mut census, self.mode, &mut self.repairs.done)
    }

    /// Put directories into the thread that are missing there, and give names to those that have
    /// lost theirs. Returns whether there were such directories without a name.
    fn place_directories(&mut self, fs: &mut Fs, half_orphans: bool) -> Result<bool> {
        for path in fs.thread_directories()? {
            self.done("unthreaded", path, "was put into the thread");
        }
        let (placed, rethreaded) = fs.place_orphans()?;
        let any_named = !placed.is_empty();
        for path in placed {
            self.done("orphan", path, "is the new name of a directory that had lost its name");
        }
        if rethreaded {
            let code = if half_orphans { "half-orphan" } else { "orphan" };
            self.done(code, "the thread", RETHREADED);
        }
        Ok(any_named)
    }

    /// Move files whose list is broken to `lost+found`, with a new list for the remaining content.
    fn salvage(&mut self, mut fs: Fs) -> Result<()> {
        let dev = Arc::clone(&self.editor.dev);
        let model = Model::build(&*dev)?;
        let census = self.census(&model);
        let broken: Vec<(u32, u16, &'static str)> = census
            .damaged
            .iter()
            .filter_map(|d| match d.fault {
                Fault::Broken(code) => Some((model.nodes[d.node].pair.0[0], d.id, code)),
                _ => None,
            })
            .collect();
        if census.damaged.is_empty() {
            return Ok(());
        }
        if census.damaged.iter().any(|d| d.fault == Fault::Pointers) {
            self.stop_without_space("files whose pointers disagree are rewritten into free blocks");
        }
        let places: Vec<(u32, u16)> = broken.iter().map(|&(b, id, _)| (b, id)).collect();
        for (moved, (_, _, code)) in fs.set_aside(&places)?.into_iter().zip(&broken) {
            if let Some((old, new)) = moved {
                let message = format!("the rest of it is now {new}");
                self.repairs.done.push(Repair::given_up(code, old, message));
            }
        }
        drop(fs);
        let model = Model::build(&*dev)?;
        let mut census = self.census(&model);
        files::salvage(&self.editor, &model, &mut census, &mut self.repairs.done)
    }
}
