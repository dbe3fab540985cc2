//! A key-value store in a littlefs image: values and dictionaries, with the operations of
//! MirageOS's `Mirage_kv.RW` (mirage-kv 6), and batches. `docs/kv.md` describes it.
//!
//! A value is a file, a dictionary a directory. Several threads may use a store at once. One mutex
//! guards it; it is not held while values are read from blocks, or while the function of a batch
//! runs.
//!
//! ```
//! # fn main() -> Result<(), littlefs::kv::Error> {
//! use std::sync::Arc;
//!
//! use littlefs::bd::{Geometry, RamDevice};
//! use littlefs::kv::{self, Key, Store};
//!
//! let dev = Arc::new(RamDevice::new(Geometry::new(4096, 64).expect("a geometry")));
//! Store::format(&*dev)?;
//! let store = Store::connect(dev, &kv::Options::default())?;
//! store.set(&Key::new("boot/count")?, b"1")?;
//! store.batch(|b| {
//!     let count = b.get(&Key::new("boot/count")?)?;
//!     b.set(&Key::new("boot/last")?, &count)?;
//!     b.set(&Key::new("boot/count")?, b"2")
//! })?;
//! assert_eq!(store.get(&Key::new("boot/last")?)?, b"1");
//! store.disconnect()
//! # }
//! ```

mod batch;
mod create;
mod error;
mod iter;
mod key;
mod read;
mod redo;
mod shadow;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};

use crate::bd::BlockDevice;
use crate::convention::{Choice, Codec, Meta, Target};
use crate::error::Error as CoreError;
use crate::fs::{Attrs, DirId, FormatOptions, Fs, Node, OpenOptions, ROOT};
use crate::sys;

pub use crate::fs::Durability;

pub use batch::Batch;
pub use error::{Error, Result};
pub use iter::{Entries, Values};
pub use key::Key;

use create::Fresh;
use shadow::Shadow;

/// The value in the root that holds the changes of a batch, or the removal of a dictionary, until
/// they are applied.
const REDO: &[u8] = b".kv-batch";

/// The largest number of dictionaries whose directory ids are remembered.
const DIRS_MAX: usize = 4096;

/// The kind of thing that a key refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Value,
    /// A dictionary.
    Dictionary,
}

/// How to connect to a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Refuse changes, and never write. A batch that a crash interrupted is shown as if it was
    /// applied.
    pub read_only: bool,
    /// If true, each change is flushed before it returns. If false, changes stay in memory until
    /// [`Store::sync`] or [`Store::disconnect`], or until memory is full. Only a batch, and the
    /// removal of a dictionary, are always flushed. [`Self::durability`] says what a flush
    /// promises.
    pub durable: bool,
    /// What a flush promises. With [`Durability::Full`], everything is on the medium when the flush
    /// returns. With [`Durability::Ordered`], it may not be there yet. In this case a crash of the
    /// system can undo the newest changes, but if it undoes one change, it undoes all later
    /// changes, too. [`Store::sync`] and [`Store::disconnect`] always wait for the medium.
    pub durability: Durability,
    /// The convention for storing times in user attributes.
    pub times: Choice,
    /// The time of the last change for values that have none in the image; usually the time of the
    /// image file.
    pub changed: SystemTime,
    /// The largest value that is stored inline, in the metadata pair of its dictionary, in bytes;
    /// at most an eighth of a block. By default, it is inferred from the image.
    pub inline_max: Option<u32>,
    /// The program size of the device in bytes; by default, it is inferred.
    pub prog_size: Option<u32>,
    /// The number of erases after which a metadata pair moves; by default, pairs never move.
    pub block_cycles: Option<u32>,
    /// The limit on memory for cached and unwritten data, in bytes. The default is 40 MiB, and the
    /// minimum is 256 KiB.
    pub cache: Option<u64>,
}

impl Default for Options {
    /// Options for a store that is writable and durable, with times in the convention of the image.
    fn default() -> Self {
        Self {
            read_only: false,
            durable: true,
            durability: Durability::Full,
            times: Choice::AsImage,
            changed: SystemTime::now(),
            inline_max: None,
            prog_size: None,
            block_cycles: None,
            cache: None,
        }
    }
}

/// A key-value store.
pub struct Store {
    core: Mutex<Core>,
}

/// What the mutex guards.
struct Core {
    fs: Fs,
    dev: Arc<dyn BlockDevice>,
    /// The options to be used when the image is opened again.
    open: OpenOptions,
    read_only: bool,
    durable: bool,
    codec: Option<Codec>,
    /// The time of the last change for values that have none in the image.
    changed: SystemTime,
    /// Dictionaries by their paths.
    dirs: HashMap<Box<[u8]>, DirId>,
    /// Incremented by each change.
    version: u64,
    /// Incremented on every reload. A `FileId` is valid only while this number stays the same.
    life: u64,
    /// The file of the image, if it has no name yet.
    fresh: Option<Fresh>,
    /// Whether there is a batch on disk that is not yet applied, or a removed dictionary whose
    /// content is not yet removed. The next change finishes this first.
    unfinished: bool,
}

/// What a key leads to.
enum Found {
    /// It leads to the top-level dictionary.
    Root,
    /// It leads to this node in this directory.
    At(DirId, Node),
    /// It leads to nothing.
    Nothing,
}

impl Store {
    /// Make an empty store on `dev`, whatever it holds.
    ///
    /// # Errors
    /// When the device fails.
    pub fn format(dev: &dyn BlockDevice) -> Result<()> {
        Ok(Fs::format(dev, &FormatOptions::default())?)
    }

    /// Connect to the store in the littlefs on `dev`, and finish a batch or a removal that a crash
    /// interrupted.
    ///
    /// # Errors
    /// `Core` if there is no littlefs; `InvalidKey` if a reserved name of the store belongs to
    /// something else; and any error that prevents the interrupted operation from being finished,
    /// such as `NoSpace`.
    pub fn connect(dev: Arc<dyn BlockDevice>, options: &Options) -> Result<Self> {
        let open = OpenOptions {
            read_only: options.read_only,
            prog_size: options.prog_size,
            inline_max: options.inline_max,
            block_cycles: options.block_cycles,
            durability: options.durability,
            cache: options.cache,
            ..OpenOptions::default()
        };
        let mut fs = Fs::open_to_change(dev.clone(), &open)?;
        let mut dev = dev;
        let has_redo = fs.lookup(ROOT, REDO).is_ok();
        if options.read_only && has_redo {
            // the interrupted operation is finished in memory, where only this store sees the
            // result
            dev = Arc::new(Shadow::new(dev));
            fs = Fs::open(dev.clone(), &OpenOptions { read_only: false, ..open })?;
        }
        let usage = fs.attr_usage();
        let codec = options.times.of(usage).map(|c| Codec::new(c, usage));
        // the inferred values must be the same if the image is opened again
        let open = OpenOptions {
            read_only: fs.is_read_only(),
            prog_size: Some(fs.prog_size()),
            inline_max: Some(fs.inline_max()),
            block_cycles: options.block_cycles,
            durability: options.durability,
            cache: options.cache,
            ..OpenOptions::default()
        };
        let mut core = Core {
            dev,
            open,
            read_only: options.read_only,
            durable: options.durable,
            codec,
            changed: options.changed,
            dirs: HashMap::new(),
            version: 0,
            life: 0,
            fresh: None,
            unfinished: has_redo,
            fs,
        };
        if !core.fs.is_read_only() {
            core.finish().inspect_err(log_unfinished)?;
        } else if has_redo {
            log::warn!(
                "a batch or a removal was interrupted, and cannot be finished in a damaged image"
            );
        }
        Ok(Self { core: Mutex::new(core) })
    }

    /// Make everything durable, and release the image.
    ///
    /// If the store is dropped instead, changes that are not durable may be lost.
    ///
    /// # Errors
    /// When the device fails or has no space. Earlier changes that were durable stay durable.
    pub fn disconnect(self) -> Result<()> {
        self.sync()
    }

    /// The damage, or the failed write, because of which changes are refused; `None` if no damage
    /// is known.
    pub fn damage(&self) -> Option<String> {
        self.core().fs.turned_read_only().map(str::to_owned)
    }

    /// Make everything durable.
    ///
    /// # Errors
    /// When the device fails or has no space. Earlier changes that were durable stay durable.
    pub fn sync(&self) -> Result<()> {
        let mut core = self.core();
        if core.read_only {
            return Ok(());
        }
        core.fs.flush_and_sync()?;
        core.fresh.as_ref().map_or(Ok(()), Fresh::sync)
    }

    /// The warnings from opening the image.
    pub fn warnings(&self) -> Vec<String> {
        self.core().fs.warnings().to_vec()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }
}

impl Core {
    /// The directory of a dictionary.
    ///
    /// # Errors
    /// `NotFound`, or `DictionaryExpected` if one of the segments is a value.
    fn dictionary(&mut self, path: &[u8]) -> Result<DirId> {
        if path.is_empty() {
            return Ok(ROOT);
        }
        if let Some(&dir) = self.dirs.get(path) {
            return Ok(dir);
        }
        let key = Key::new(path)?;
        let mut dir = ROOT;
        let mut here = Key::root();
        for segment in key.segments() {
            here = here.child(segment);
            dir = match self.fs.lookup(dir, segment) {
                Ok(Node::Dir(dir)) => dir,
                Ok(Node::File { .. }) => return Err(Error::DictionaryExpected(here)),
                Err(CoreError::NotFound) => return Err(Error::NotFound(key.clone())),
                Err(e) => return Err(e.into()),
            };
        }
        self.remember(path, dir);
        Ok(dir)
    }

    fn remember(&mut self, path: &[u8], dir: DirId) {
        if self.dirs.len() >= DIRS_MAX {
            self.dirs.clear();
        }
        self.dirs.insert(path.into(), dir);
    }

    /// What `key` leads to.
    ///
    /// # Errors
    /// `DictionaryExpected` if one of the segments before the last is a value.
    fn find(&mut self, key: &Key) -> Result<Found> {
        if key.is_root() {
            return Ok(Found::Root);
        }
        let (parent, name) = key.split();
        let dir = match self.dictionary(parent) {
            Ok(dir) => dir,
            Err(Error::NotFound(_)) => return Ok(Found::Nothing),
            Err(e) => return Err(e),
        };
        match self.fs.lookup(dir, name) {
            Ok(node) => Ok(Found::At(dir, node)),
            Err(CoreError::NotFound) => Ok(Found::Nothing),
            Err(e) => Err(e.into()),
        }
    }

    /// The directory that holds `key`, and the name of `key` there.
    ///
    /// # Errors
    /// `NotFound` with `key`, or `DictionaryExpected` with the segment that is a value.
    fn place<'k>(&mut self, key: &'k Key) -> Result<(DirId, &'k [u8])> {
        let (parent, name) = key.split();
        match self.dictionary(parent) {
            Ok(dir) => Ok((dir, name)),
            Err(Error::NotFound(_)) => Err(Error::NotFound(key.clone())),
            Err(e) => Err(e),
        }
    }

    /// Drop the filesystem in memory, and open the one on disk again.
    fn reload(&mut self) -> Result<()> {
        // the newly opened filesystem does not know about writes that still wait for a barrier here
        self.fs.sync_written()?;
        self.dirs.clear();
        self.life += 1;
        self.fs = Fs::open_to_change(self.dev.clone(), &self.open)?;
        Ok(())
    }

    /// The attributes that a change at `time` gives to an entry of kind `target`.
    fn changes(
        codec: Option<&Codec>,
        time: i64,
        target: Target,
    ) -> impl Fn(Option<&mut Attrs<'_>>) -> Vec<(u8, Vec<u8>)> {
        move |attrs| {
            let Some(codec) = codec else { return Vec::new() };
            let meta = Meta { mtime: Some(time), ctime: Some(time), ..Meta::default() };
            match attrs {
                Some(attrs) => codec.write(attrs, &meta, target),
                None => codec.initial(&new_meta(codec, meta, target), target),
            }
        }
    }
}

/// The metadata of a new entry.
fn new_meta(codec: &Codec, changed: Meta, target: Target) -> Meta {
    let mut meta = Meta { atime: changed.mtime, birth: changed.mtime, ..changed };
    if codec.convention().has_owners() {
        meta.mode = Some(match target {
            Target::File => libc::S_IFREG | 0o644,
            Target::Dir | Target::Root => libc::S_IFDIR | 0o755,
        });
        (meta.uid, meta.gid) = (Some(sys::effective_uid()), Some(sys::effective_gid()));
    }
    meta
}

/// Whether `key` has a name that is reserved for the store, or is inside a dictionary with such a
/// name.
fn is_reserved(key: &Key) -> bool {
    key.segments().next().is_some_and(|first| first == REDO)
}

/// Tell why the interrupted change cannot be finished, and how to discard it.
fn log_unfinished(why: &Error) {
    // this error already says what to do: it is about an entry that does not belong to the store
    if !matches!(why, Error::InvalidKey(..)) {
        log::error!(
            "{why}, so the interrupted batch or removal cannot be finished; to discard it, mount \
             the image and remove .kv-batch"
        );
    }
}
