//! The comparison: this library and the C driver perform the same calls, each on its own image, and
//! exchange the images. The model says what both must hold.

use littlefs::bd::Geometry;
use littlefs::error::Error;
use littlefs::fs::{FileId, FormatOptions, OpenOptions};

use crate::calls::{Call, Fail, Model, Subject, pattern};
use crate::clfs::{CError, CLfs, CResult, Config, Info};
use crate::ours::Ours;
use crate::tree::{Tree, diff, join, show, split};

/// The longest name in bytes for which both sides are formatted.
const NAME_MAX: usize = 255;

/// A difference between two filesystems that should agree.
pub type Verdict<T = ()> = Result<T, String>;

/// What the filesystems under comparison have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The C driver, as some device is built with it.
    pub config: Config,
    /// Types of the attributes that are used.
    pub attr_types: Vec<u8>,
    /// Whether this library is told the program size, or infers it from the image.
    pub tell_prog_size: bool,
    /// The block cycles of this library.
    pub block_cycles: Option<u32>,
    /// The largest inline file of this library, if it is given.
    pub inline_max: Option<u32>,
}

impl Setup {
    /// Both sides with this configuration, and a few types of attributes.
    pub fn new(config: Config) -> Self {
        let attr_types =
            if config.block_size <= 128 { vec![0x74, 0xff] } else { vec![0x00, 0x74, 0xff] };
        Self { config, attr_types, tell_prog_size: true, block_cycles: None, inline_max: None }
    }

    pub fn geometry(&self) -> Geometry {
        Geometry::new(self.config.block_size, self.config.block_count)
            .expect("geometries of the tests are possible")
    }

    pub fn open(&self, image: Vec<u8>) -> Verdict<Ours> {
        let options = OpenOptions {
            prog_size: self.tell_prog_size.then_some(self.config.prog_size),
            block_cycles: self.block_cycles,
            inline_max: self.inline_max,
            ..OpenOptions::default()
        };
        Ours::open(self.geometry(), image, &options).map_err(|e| format!("we cannot open: {e}"))
    }

    pub fn format(&self) -> Verdict<Vec<u8>> {
        let options =
            FormatOptions { disk_version: self.config.disk_version, ..FormatOptions::default() };
        Ours::format(self.geometry(), &options).map_err(|e| format!("we cannot format: {e}"))
    }
}

/// Both sides and the model.
pub struct Comparison {
    setup: Setup,
    ours: Ours,
    c: CLfs,
    model: Model,
    held: Option<Held>,
    trace: bool,
}

/// A file that stays open in this library while its name changes.
struct Held {
    file: FileId,
    state: HeldState,
}

enum HeldState {
    /// It has this name now.
    Named(Vec<u8>),
    /// It has lost its name, and has this content.
    Nameless(Vec<u8>),
}

impl Comparison {
    /// Both sides, each formatted by itself.
    pub fn new(setup: Setup) -> Verdict<Self> {
        let ours = setup.open(setup.format()?)?;
        let c = CLfs::fresh(&setup.config).map_err(|e| format!("C cannot format: {e}"))?;
        let trace = std::env::var_os("LITTLEFS_TRACE").is_some();
        if trace {
            eprintln!("-- {setup:?}");
        }
        Ok(Self { setup, ours, c, model: Model::new(NAME_MAX), held: None, trace })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// If LITTLEFS_TRACE is set, print every call: an assertion of the C driver aborts the process,
    /// and then this is the only record.
    fn note(&self, what: impl std::fmt::Debug) {
        if self.trace {
            eprintln!("   {what:?}");
        }
    }

    /// Perform one call on both sides, and compare the results. Returns whether the call succeeded.
    pub fn call(&mut self, call: &Call) -> Verdict<bool> {
        self.note(call);
        let mut next = self.model.clone();
        let expected = next.apply(call);
        let ours = self.ours.apply(call);
        let c = CSubject(&mut self.c).apply(call);
        match (&expected, &ours, &c) {
            (Ok(()), Ok(()), Ok(())) => self.step_to(next, call),
            (Err(e), Err(o), Err(c)) => {
                let faults = match call {
                    Call::Rename { from, to, no_replace } => {
                        self.model.rename_faults(from, to, *no_replace)
                    }
                    _ => vec![e.clone()],
                };
                if !faults.contains(o) || !faults.contains(c) {
                    return Err(format!("{call:?}: expected one of {faults:?}, we {o:?}, C {c:?}"));
                }
            }
            // Filesystems may lawfully differ in when they are full. A full C driver may have
            // done half of the work, so it goes on with our image.
            (Ok(()), Err(Fail::NoSpace), Ok(()) | Err(Fail::NoSpace)) => {
                self.check_full(call, &next, c.is_ok())?;
                self.compare_ours("after an operation without space")?;
                self.give_ours_to_c()?;
            }
            (Ok(()), Ok(()), Err(Fail::NoSpace)) => {
                self.step_to(next, call);
                self.give_ours_to_c()?;
            }
            _ => {
                return Err(format!("{call:?}: the model says {expected:?}, we {ours:?}, C {c:?}"));
            }
        }
        Ok(expected.is_ok() && ours.is_ok())
    }

    /// Called after the call succeeded: update the model and the file that is held open.
    fn step_to(&mut self, next: Model, call: &Call) {
        let before = std::mem::replace(&mut self.model, next);
        let Some(Held { state, .. }) = &mut self.held else { return };
        let HeldState::Named(path) = state else { return };
        match call {
            Call::Unlink(gone) if gone == path => {
                *state = HeldState::Nameless(before.bytes(path).to_vec());
            }
            Call::Rename { from, to, .. } if from != to && to == path => {
                *state = HeldState::Nameless(before.bytes(path).to_vec());
            }
            Call::Rename { from, to, .. } if from == path || path.starts_with(&join(from, b"")) => {
                *path = [to, &path[from.len()..]].concat();
            }
            _ => {}
        }
    }

    /// Keep a file open in this library, instead of the one before.
    pub fn hold(&mut self, path: &[u8]) -> Verdict {
        self.note(format!("hold {}", show(path)));
        self.release();
        match self.ours.open_file(path) {
            Ok(file) => self.held = Some(Held { file, state: HeldState::Named(path.to_vec()) }),
            Err(Error::NotFound | Error::IsDirectory | Error::NotDirectory) => {}
            Err(e) => return Err(format!("hold {}: {e}", show(path))),
        }
        Ok(())
    }

    /// Close the file that is held open.
    pub fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.ours.fs.close_file(held.file);
        }
    }

    /// Write to the start and to the end of the file that is held open.
    pub fn write_held(&mut self, len: u32, seed: u8) -> Verdict {
        let Some(held) = &mut self.held else { return Ok(()) };
        let file = held.file;
        match &mut held.state {
            HeldState::Named(path) => {
                let path = path.clone();
                let found = self.ours.open_file(&path).map_err(|e| format!("open held: {e}"))?;
                self.ours.fs.close_file(found);
                if found != file {
                    return Err(format!("{} is not the file that is open", show(&path)));
                }
                let end = self.model.bytes(&path).len() as u32;
                self.call(&Call::Write { path: path.clone(), off: 0, len, seed })?;
                self.call(&Call::Write { path, off: end, len, seed })?;
            }
            HeldState::Nameless(bytes) => {
                let data = pattern(seed, len);
                match self.ours.fs.write(file, bytes.len() as u64, &data) {
                    Ok(()) => bytes.extend(data),
                    Err(Error::NoSpace) => {}
                    Err(e) => return Err(format!("write to a file without a name: {e}")),
                }
            }
        }
        Ok(())
    }

    fn compare_held(&mut self, when: &str) -> Verdict {
        let Some(Held { file, state }) = &self.held else { return Ok(()) };
        let bytes = self.ours.read(*file).map_err(|e| format!("we cannot read held: {e}"))?;
        let (name, want) = match state {
            HeldState::Named(path) => (show(path), self.model.bytes(path)),
            HeldState::Nameless(bytes) => ("without a name".into(), &bytes[..]),
        };
        if bytes != want {
            return Err(format!("the open file ({name}) differs from what was written, {when}"));
        }
        Ok(())
    }

    /// This library may be full earlier than C, but not by much more than the call needs.
    fn check_full(&mut self, call: &Call, next: &Model, c_had_space: bool) -> Verdict {
        let usage = self.ours.fs.usage().map_err(|e| format!("our usage: {e}"))?;
        let free = usage.blocks_free;
        let size = match call {
            Call::Write { path, .. } | Call::Truncate { path, .. } => next.bytes(path).len() as u32,
            _ => 0,
        };
        let needed = 2 * size.div_ceil(self.setup.config.block_size - 8) + 12;
        if c_had_space && free > needed {
            return Err(format!("{call:?}: no space with {free} blocks free"));
        }
        Ok(())
    }

    /// Make everything in this library durable.
    pub fn flush(&mut self) -> Verdict {
        self.note("flush");
        self.ours.fs.flush().map_err(|e| format!("our flush: {e}"))?;
        if self.ours.fs.is_dirty() {
            return Err("we are dirty after a flush".into());
        }
        Ok(())
    }

    /// Open both sides again, each with its own image.
    pub fn reopen(&mut self) -> Verdict {
        self.release();
        self.flush()?;
        self.note("reopen");
        self.ours = self.setup.open(self.ours.image())?;
        let image = self.c.image();
        self.mount_c(image)?;
        self.compare_ours("after reopening")
    }

    /// Compare both sides with the model in their present state.
    pub fn compare(&mut self) -> Verdict {
        self.note("compare");
        self.compare_ours("as it stands")?;
        self.compare_c("as it stands")
    }

    /// Let each side continue with the image of the other, and compare everything that can be
    /// compared.
    pub fn exchange(&mut self) -> Verdict {
        self.note("exchange");
        self.c.mkconsistent().map_err(|e| format!("C: mkconsistent of its own image: {e}"))?;
        let c_used = self.c_blocks_used()?;
        let c_image = self.c.image();
        self.give_ours_to_c()?;

        self.ours = self.setup.open(c_image.clone())?;
        if !self.ours.fs.warnings().is_empty() {
            return Err(format!("we warn about a sound image: {:?}", self.ours.fs.warnings()));
        }
        if self.ours.fs.is_read_only() {
            return Err("we do not want to write to a sound image".into());
        }
        self.compare_ours("in the image that C wrote")?;
        self.check_usage(c_used)?;
        self.check_superblock()?;
        if self.ours.image() != c_image {
            return Err("reading changed the image".into());
        }
        Ok(())
    }

    /// Let C continue with a copy of our image, which must not need a repair.
    fn give_ours_to_c(&mut self) -> Verdict {
        self.release();
        self.flush()?;
        let image = self.ours.image();
        self.mount_c(image.clone())?;
        self.compare_c("in the image that we wrote")?;
        let used = self.c_blocks_used()?;
        self.check_usage(used)?;
        self.c.mkconsistent().map_err(|e| format!("C: mkconsistent of our image: {e}"))?;
        if self.c.image() != image {
            return Err("C found something to repair in the image that we wrote".into());
        }
        Ok(())
    }

    fn mount_c(&mut self, image: Vec<u8>) -> Verdict {
        self.c = CLfs::mount(image, &self.setup.config).map_err(|e| format!("C mount: {e}"))?;
        Ok(())
    }

    /// How many blocks are in use according to C. Its two ways to count them must agree.
    fn c_blocks_used(&mut self) -> Verdict<u32> {
        let size = self.c.fs_size().map_err(|e| format!("C: fs_size: {e}"))?;
        let blocks = self.c.blocks().map_err(|e| format!("C: traverse: {e}"))?.len() as u32;
        if size != blocks {
            return Err(format!(
                "C counts {size} blocks along the thread, {blocks} different ones"
            ));
        }
        Ok(size)
    }

    fn check_usage(&mut self, used: u32) -> Verdict {
        let usage = self.ours.fs.usage().map_err(|e| format!("our usage: {e}"))?;
        if usage.blocks_used != used {
            return Err(format!("we count {} used blocks, C {used}", usage.blocks_used));
        }
        let free = self.setup.config.block_count - used;
        if usage.blocks_free != free {
            return Err(format!("we count {} free blocks of {free}", usage.blocks_free));
        }
        Ok(())
    }

    fn check_superblock(&mut self) -> Verdict {
        let ours = self.ours.fs.superblock();
        let c = self.c.fs_stat().map_err(|e| format!("C: fs_stat: {e}"))?;
        let ours = (
            [ours.version, ours.block_size, ours.block_count],
            [ours.name_max, ours.file_max, ours.attr_max],
        );
        let c =
            ([c.disk_version, c.block_size, c.block_count], [c.name_max, c.file_max, c.attr_max]);
        if ours != c {
            return Err(format!("our superblock says {ours:?}, that of C {c:?}"));
        }
        Ok(())
    }

    fn compare_ours(&mut self, when: &str) -> Verdict {
        let tree = self.ours.tree().map_err(|e| format!("we cannot read, {when}: {e}"))?;
        self.compare_tree("ours", &tree, when)?;
        self.compare_held(when)?;
        let counts = self.ours.fs.counts().map_err(|e| format!("our counts, {when}: {e}"))?;
        let directories = tree.values().filter(|e| e.is_dir()).count() as u64 - 1;
        let files = tree.len() as u64 - 1 - directories;
        if (counts.files, counts.directories) != (files, directories) {
            return Err(format!(
                "we count {} files and {} directories of {files} and {directories}, {when}",
                counts.files, counts.directories
            ));
        }
        Ok(())
    }

    fn compare_c(&mut self, when: &str) -> Verdict {
        let tree = self.c.tree(&self.setup.attr_types);
        let tree = tree.map_err(|e| format!("C cannot read, {when}: {e}"))?;
        self.compare_tree("C", &tree, when)
    }

    fn compare_tree(&self, who: &str, tree: &Tree, when: &str) -> Verdict {
        diff("the model", self.model.tree(), who, tree).map_err(|lines| format!("{when}:\n{lines}"))
    }
}

/// The C driver with those checks that a kernel makes before it calls a filesystem.
struct CSubject<'a>(&'a mut CLfs);

impl CSubject<'_> {
    fn expect_dir(&mut self, path: &[u8], want: bool) -> CResult<()> {
        match (self.0.stat(path)?, want) {
            (Info::Dir, false) => Err(CError::IsDir),
            (Info::File { .. }, true) => Err(CError::NotDir),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8], no_replace: bool) -> CResult<()> {
        let info = self.0.stat(from)?;
        if no_replace && self.0.stat(to).is_ok() {
            return Err(CError::Exist);
        }
        // The driver would cut the directory off the tree.
        if info == Info::Dir && to.starts_with(&join(from, b"")) {
            return Err(CError::Inval);
        }
        // Between the two commits of a move, the driver does not see the entry that follows the
        // moved one (`synthetic moves` in lfs_dir_getslice). Looking for free blocks just then,
        // because the second commit splits or relocates a pair, it would reuse that file's.
        self.0.find_free_blocks()?;
        self.0.rename(from, to)
    }

    fn call(&mut self, call: &Call) -> CResult<()> {
        match call {
            Call::Create(path) => match self.0.create(path) {
                // What the driver makes of every lack of space here.
                Err(CError::NameTooLong) if !name_too_long(path) => Err(CError::NoSpc),
                other => other,
            },
            Call::Mkdir(path) => self.0.mkdir(path),
            Call::Write { path, off, len, seed } => {
                self.0.write_at(path, *off, &pattern(*seed, *len))
            }
            Call::Truncate { path, size } => self.0.truncate(path, *size),
            Call::Unlink(path) => {
                self.expect_dir(path, false)?;
                self.0.remove(path)
            }
            Call::Rmdir(path) => {
                self.expect_dir(path, true)?;
                self.0.remove(path)
            }
            Call::Rename { from, to, no_replace } => self.rename(from, to, *no_replace),
            Call::SetAttr { path, ty, len, seed } => {
                self.0.setattr(path, *ty, &pattern(*seed, *len))
            }
            Call::RemoveAttr { path, ty } => {
                self.0.getattr(path, *ty)?;
                self.0.removeattr(path, *ty)
            }
        }
    }
}

fn name_too_long(path: &[u8]) -> bool {
    split(path).is_some_and(|(_, name)| name.len() > NAME_MAX)
}

impl Subject for CSubject<'_> {
    fn apply(&mut self, call: &Call) -> Result<(), Fail> {
        self.call(call).map_err(|e| match e {
            CError::NoEnt => Fail::NotFound,
            CError::Exist => Fail::Exists,
            CError::NotDir => Fail::NotDirectory,
            CError::IsDir => Fail::IsDirectory,
            CError::NotEmpty => Fail::NotEmpty,
            CError::NameTooLong => Fail::NameTooLong,
            CError::NoAttr => Fail::NoAttr,
            CError::NoSpc => Fail::NoSpace,
            CError::FBig => Fail::TooLarge,
            CError::Inval => Fail::Loop,
            other => Fail::Other(format!("{other:?}")),
        })
    }
}
