//! The filesystem as it is in memory.
//!
//! Operations change metadata pairs, files and the thread in memory. The metadata in the image
//! stays in the state of the last flush. Only [`Fs::flush`] writes metadata; `flush.rs` lists its
//! phases in their order.
//!
//! # Owners
//!
//! The state is divided among types. Each type has its own file and private fields, and the top of
//! its file lists its invariants:
//!
//! | type | file | what it owns |
//! |---|---|---|
//! | `Thread` | `thread.rs` | the metadata pairs, their order, their content in memory |
//! | `Directories` | `dirs.rs` | directories: their pairs, parents and names |
//! | `OpenFiles` | `open_files.rs` | open files, and changed ones until they are written |
//! | `Space` | `space.rs` | blocks: free, promised, retired |
//! | `Durable` | `durable.rs` | the device, the global state on it, which writes may not have reached it |
//! | `Moves` | `moves.rs` | entries on their way from one pair to another |
//! | `Leaving` | `leaving.rs` | pairs and directories on their way out of the thread |
//! | `Relocating` | `relocate.rs` | pairs on their way to other blocks |
//!
//! [`Fs`] has the operations, which usually concern several owners.
//!
//! # Words for giving up
//!
//! - To *remove* an entry is to delete it from its pair in memory. To *remove* anything else is to
//!   delete it from its table.
//! - To *release* content is to give it up when its entry was removed or replaced. If the file is
//!   open, the open file keeps the content; otherwise its blocks are retired.
//! - To *detach* a pair or a directory is to take it out of the tree in memory. It *leaves* the
//!   thread when a flush has written this change.
//! - To *forget* a pair, a directory or a file is to remove everything about it from memory, when
//!   nothing needs it any more.
//! - To *retire* blocks is to let them become free after the next flush. To *discard* blocks is to
//!   free them at once, which is possible if nothing on disk names them.
//! - To *evict* content is to remove an unchanged copy from the cache.
//!
//! A pair that moves to other blocks is *relocated*. Everything that names it is then
//! *readdressed*. The word *rename* always refers to the name of an entry.
//!
//! An `Fs` is used by one thread at a time: a volume keeps it behind a mutex. Only
//! [`ReadPlan::run`] reads file data without the mutex.

mod activity;
mod attempt;
mod attr;
mod budget;
mod commit;
mod dir;
mod dirs;
mod doubles;
mod durable;
mod edits;
mod extents;
mod file;
mod firsts;
mod flush;
mod format;
mod free_map;
mod leaving;
mod list;
#[cfg(feature = "mount")]
mod mounted;
mod moves;
mod open;
mod open_files;
mod ops;
mod pairs;
mod relocate;
mod rename;
mod repair;
#[cfg(feature = "transfer")]
mod resize;
mod running;
mod salvage;
mod scan;
mod sort;
mod space;
mod storage;
mod stray;
mod superblocks;
mod thread;
mod unsaved;
mod value;
mod write;

use std::collections::BTreeSet;

use crate::bd::Geometry;
use crate::convention::AttrUsage;
use crate::disk::Superblock;
use crate::disk::commit::Layout;
use crate::error::Result;
use crate::slots::SlotId;

pub use crate::mdir::{DirId, FileId};
pub use activity::{Flush, Flushes, Unwritten};
pub(crate) use attempt::Hold;
pub use attr::At;
pub use durable::Durability;
pub(crate) use edits::put_log;
pub use file::ReadPlan;
pub(crate) use file::read_list;
pub use format::FormatOptions;
pub use free_map::{Counts, Usage};
#[cfg(feature = "mount")]
pub use mounted::PairCache;
pub use open::{OpenOptions, root_superblock};
pub use repair::NameFault;
pub use scan::{Rows, Shown};
pub use storage::Storage;
pub(crate) use stray::blocks_behind;
pub use value::{Attrs, Content, Row, Value};

use activity::Tally;
use budget::Budget;
use dirs::{Dir, Directories};
use durable::Durable;
use leaving::Leaving;
use moves::Moves;
use open_files::OpenFiles;
use pairs::PairIx;
use relocate::Relocating;
use running::{Panicked, Running};
use space::Space;
use thread::Thread;

/// The root directory.
pub const ROOT: DirId = DirId(SlotId::FIRST);

/// What a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u32,
    },
    /// A directory.
    Dir(DirId),
}

/// An open littlefs.
pub struct Fs {
    durable: Durable,
    layout: Layout,
    superblock: Superblock,
    attr_usage: AttrUsage,
    inline_max: u32,
    block_cycles: Option<u32>,
    read_only: bool,
    /// Why the filesystem became read-only although the caller had not asked for that.
    turned_read_only: Option<String>,
    /// The first reason why the content may not be what was written last.
    suspect: Option<String>,
    panicked: Panicked,
    /// Whether warnings are not logged. This is used while the image is opened.
    quiet: bool,
    warnings: Vec<String>,

    budget: Budget,
    thread: Thread,
    dirs: Directories,
    files: OpenFiles,

    space: Space,
    flushing: bool,
    /// Which flushes the caller does not allow.
    held: Hold,

    moves: Moves,
    /// Whether an operation that an earlier mount did not finish must be finished before the first
    /// write.
    unfinished: bool,

    /// Pairs in the thread that have entries, but whose directory has lost its name by damage.
    nameless: Vec<PairIx>,

    leaving: Leaving,
    relocating: Relocating,
    /// New directories that a flush has put into the thread empty, and that no entry names yet.
    stubs: BTreeSet<DirId>,
    tally: Tally,
}

impl Fs {
    /// The superblock of the root. The other superblocks of the chain may be out of date.
    pub fn superblock(&self) -> Superblock {
        self.superblock
    }

    /// Size and number of blocks.
    pub fn geometry(&self) -> Geometry {
        self.durable.dev().geometry()
    }

    /// The layout of commits.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Commits end on multiples of this many bytes.
    pub fn prog_size(&self) -> u32 {
        self.layout.prog_size
    }

    /// Files of up to this many bytes are stored inline, in their metadata pair.
    pub fn inline_max(&self) -> u32 {
        self.inline_max
    }

    /// How many attributes of each type and length there were when the image was opened.
    pub fn attr_usage(&self) -> &AttrUsage {
        &self.attr_usage
    }

    /// Why the content may not be what was written last, if there is a reason: a block of a pair
    /// cannot be read, and may be the newer one, or the thread ends too early. Damage of single
    /// directories and files is no such reason, because their readers get an error.
    pub fn suspect(&self) -> Option<&str> {
        self.suspect.as_deref()
    }

    /// The warnings from opening the image.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether an operation that was interrupted must still be finished: a move, or a directory
    /// that was being added or removed. The first change finishes it.
    pub fn is_interrupted(&self) -> bool {
        self.unfinished
    }

    /// Whether anything is not on the medium yet: changes in memory, or writes that a flush has
    /// left to a later sync.
    pub fn is_dirty(&self) -> bool {
        self.has_changes() || self.durable.is_unsynced()
    }

    /// Whether there are changes in memory that were not written yet.
    fn has_changes(&self) -> bool {
        !self.thread.dirty().is_empty()
            || !self.files.dirty().is_empty()
            || !self.leaving.is_empty()
    }

    /// Choose which flushes are not allowed from now on. Flushes that the caller requests are
    /// always allowed. As long as nothing is flushed, opening the image again undoes all changes.
    pub(crate) fn hold(&mut self, held: Hold) {
        self.held = held;
    }

    /// The directory that holds `dir`. `None` for the root, and if `dir` does not exist any more.
    #[cfg(any(test, feature = "mount"))]
    pub fn parent(&self, dir: DirId) -> Option<DirId> {
        self.dirs.parent(dir)
    }

    /// Called before any change. This fails if the filesystem is read-only, finishes what an
    /// earlier mount did not finish, and flushes if too much is waiting for a flush.
    fn begin(&mut self) -> Result<Running> {
        let running = self.run();
        self.writable()?;
        if self.unfinished {
            self.recover()?;
        }
        self.thread.count_changed();
        if self.held != Hold::All && self.exceeds_budget() {
            self.flush()?;
        }
        Ok(running)
    }

    /// Whether too much is waiting for a flush.
    fn exceeds_budget(&self) -> bool {
        self.thread.dirty_bytes() > self.thread.cache_max() / 4 * 3
            || self.thread.dirty().len() > self.budget.changed_pairs()
            || self.leaving.removed().len() > self.budget.changed_pairs()
            || self.files.waiting() > self.budget.files()
    }

    /// The directory, unless it was removed or cannot be read.
    fn dir(&self, dir: DirId) -> Result<&Dir> {
        self.dirs.readable(dir)
    }
}
