//! Converting an image in another dialect to littlefs version 2.
//!
//! The new image is written to a new file, read back and compared, checked, and made durable before
//! it gets its name. A conversion in place gives it the name of the old image by one rename(2). So
//! whatever interrupts the conversion, the file of that name is either the complete old image or
//! the complete new one.

mod failure;
mod target;

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::bd::file::{copy, fill};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::check::{self, Severity};
use crate::error::Error;
use crate::fs::{At, DirId, FileId, FormatOptions, Fs, Node, OpenOptions, ROOT};
use crate::image::Opened;
use crate::mdir::RESERVED;

pub use failure::Failure;

use target::Target;

/// Bytes of a value that are copied or compared at a time.
const PIECE: usize = 1 << 20;
/// The name limit of the new image, in bytes, unless the old image has longer names.
const NAME_MAX: u32 = 255;
/// The minimum bytes that an entry takes in its directory in addition to its name.
const ENTRY: u32 = 4 + 12;
/// How many times the number of blocks is doubled to find out how many are needed.
const DOUBLINGS: u32 = 6;

/// A conversion.
pub struct Job<'a> {
    /// The image, open and locked.
    pub source: &'a Opened,
    /// The new image; `None` to replace the old one.
    pub out: Option<&'a Path>,
    /// Replace an existing file at `out`.
    pub overwrite: bool,
    /// Leave out what cannot be read.
    pub salvage: bool,
    /// Version of the new image, major in the high 16 bits.
    pub disk_version: u32,
    /// Block size of the new image, in bytes; by default that of the old one.
    pub block_size: Option<u32>,
    /// Number of blocks of the new image. By default it is the old one's number, or the number that
    /// fills the old one's size.
    pub block_count: Option<u32>,
}

/// The progress of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This many bytes of values are in the new image.
    Copied(u64),
    /// This many of them have been read back.
    Compared(u64),
    /// The new image is complete and durable, but has no name yet.
    Written,
    /// It has its name.
    Named,
}

/// What was converted.
#[derive(Debug)]
pub struct Outcome {
    /// Values.
    pub files: u64,
    /// Dictionaries, without the root.
    pub directories: u64,
    /// Bytes of all values.
    pub bytes: u64,
    /// Geometry of the new image.
    pub geometry: Geometry,
    /// What was left out, or is damaged: path or place, and the reason.
    pub doubts: Vec<(String, String)>,
    /// Paths of entries that were left out although the old image lists them.
    lost: BTreeSet<String>,
}

/// Convert an image of another dialect, calling `step` with the progress. After a failure, or an
/// interruption at any step before [`Step::Named`], nothing has changed.
///
/// # Errors
/// One [`Failure`] for each reason.
pub fn convert(job: &Job<'_>, step: &dyn Fn(Step)) -> Result<Outcome, Failure> {
    let before = job.source.file.metadata()?;
    let doubts = judge(job)?;
    let g = geometry(job)?;
    let (target, offset) = match job.out {
        None => (Target::in_place(job.source)?, job.source.offset),
        Some(out) => (Target::new(out, job.source, job.overwrite)?, 0),
    };
    let file = target.begin()?;
    if job.out.is_none() {
        copy_around(job.source, file.file(), g)?;
    }
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut old = Fs::open(Arc::clone(&job.source.device), &read_only).map_err(unwritable)?;
    let (device, mut outcome) = match make(job, &mut old, file.file(), offset, g, step) {
        Err(Failure::Unwritable(Error::NoSpace)) => {
            let needed = needed(job, &mut old, file.file(), g);
            return Err(Failure::NoSpace { geometry: g, needed });
        }
        made => made?,
    };
    outcome.doubts.splice(0..0, doubts);
    let mut new = Fs::open(device.clone(), &read_only).map_err(unwritable)?;
    compare(&mut old, &mut new, &outcome, step)?;
    let report = check::check(device).map_err(unwritable)?;
    if let Some(f) = report.findings.into_iter().find(|f| f.severity == Severity::Error) {
        return Err(Failure::Differs(format!("{}: {}", f.place, f.message)));
    }
    file.file().sync_all()?;
    step(Step::Written);
    if state(&before) != state(&job.source.file.metadata()?) {
        return Err(Failure::Changed);
    }
    target.put(file)?;
    step(Step::Named);
    Ok(outcome)
}

/// Make the new filesystem at byte `offset` of `file`.
fn make(
    job: &Job<'_>,
    old: &mut Fs,
    file: &File,
    offset: u64,
    g: Geometry,
    step: &dyn Fn(Step),
) -> Result<(Arc<FileDevice>, Outcome), Failure> {
    let len = file.metadata()?.len().max(offset.saturating_add(g.size()));
    file.set_len(len)?;
    let device = Arc::new(FileDevice::new(file.try_clone()?, offset, g));
    let mut new = format(job, old, device.clone())?;
    let (doubts, lost) = (Vec::new(), BTreeSet::new());
    let outcome = Outcome { files: 0, directories: 0, bytes: 0, geometry: g, doubts, lost };
    let salvage = job.salvage;
    let outcome = Copier { old, new: &mut new, g, salvage, outcome, step }.copy()?;
    new.flush().map_err(unwritable)?;
    Ok((device, outcome))
}

/// How many blocks of this size are enough. This is found by building the image with more blocks in
/// `file`, which has no name and is not needed any more.
fn needed(job: &Job<'_>, old: &mut Fs, file: &File, g: Geometry) -> Option<u32> {
    for doubling in 1..=DOUBLINGS {
        let block_count = g.block_count.checked_mul(1 << doubling)?;
        let larger = Geometry::new(g.block_size, block_count).ok()?;
        match make(job, old, file, 0, larger, &|_| ()) {
            Err(Failure::Unwritable(Error::NoSpace)) => {}
            Err(_) => return None,
            Ok((device, _)) => {
                let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
                let mut new = Fs::open(device, &read_only).ok()?;
                return Some(new.usage().ok()?.blocks_used);
            }
        }
    }
    None
}

fn unwritable(e: Error) -> Failure {
    Failure::Unwritable(e)
}

/// Numbers that change if somebody else writes to a file or renames it.
fn state(meta: &Metadata) -> (u64, [i64; 4]) {
    (meta.size(), [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}

/// Check the old image. It must have no harmful damage, unless damaged parts may be left out.
fn judge(job: &Job<'_>) -> Result<Vec<(String, String)>, Failure> {
    let report = job.source.dialect.check(&job.source.stored, &|_| ()).map_err(unwritable)?;
    let errors = job.source.container_finding().into_iter().chain(report.findings);
    let errors = errors.filter(|f| f.severity == Severity::Error);
    let (harmless, lossy): (Vec<_>, Vec<_>) =
        errors.partition(|f| job.source.dialect.harmless().contains(&f.code));
    if !lossy.is_empty() && !job.salvage {
        return Err(Failure::Damaged(lossy));
    }
    Ok(harmless.into_iter().chain(lossy).map(|f| (f.place, f.message)).collect())
}

fn geometry(job: &Job<'_>) -> Result<Geometry, Failure> {
    let old = job.source.stored.geometry();
    let block_size = job.block_size.unwrap_or(old.block_size);
    let filling = old.size() / u64::from(block_size.max(1));
    let block_count = job.block_count.unwrap_or(u32::try_from(filling).unwrap_or(u32::MAX));
    Geometry::new(block_size, block_count).map_err(Failure::Geometry)
}

/// Copy everything around the filesystem from the old file to the new one.
fn copy_around(source: &Opened, new: &File, geometry: Geometry) -> io::Result<()> {
    let Opened { offset, image_size, .. } = *source;
    if offset > 0 || image_size > geometry.size() {
        copy(&source.file, new, image_size)?;
        fill(new, offset, geometry.size())?;
    }
    Ok(())
}

/// Make an empty filesystem that suits the content of the old one.
fn format(job: &Job<'_>, old: &Fs, device: Arc<FileDevice>) -> Result<Fs, Failure> {
    let options = FormatOptions {
        disk_version: job.disk_version,
        name_max: old.superblock().name_max.max(NAME_MAX),
        ..FormatOptions::default()
    };
    Fs::format(&*device, &options).map_err(unwritable)?;
    // the view of an old image may have another block size, and another one may be requested for
    // the new image
    let Geometry { block_size, .. } = device.geometry();
    let unit = 1 << block_size.trailing_zeros().min(31);
    let same = block_size == old.superblock().block_size;
    let options = OpenOptions {
        prog_size: Some(old.prog_size().min(unit)),
        inline_max: same.then(|| old.inline_max()),
        ..OpenOptions::default()
    };
    Fs::open(device, &options).map_err(unwritable)
}

/// Copies everything from one filesystem to another.
struct Copier<'a> {
    old: &'a mut Fs,
    new: &'a mut Fs,
    /// Geometry of the new filesystem.
    g: Geometry,
    salvage: bool,
    outcome: Outcome,
    step: &'a dyn Fn(Step),
}

impl Copier<'_> {
    fn copy(mut self) -> Result<Outcome, Failure> {
        let mut todo = vec![(ROOT, ROOT, String::new())];
        while let Some((from, to, path)) = todo.pop() {
            let names = match self.old.list(from) {
                Ok(names) => names,
                Err(e) => {
                    self.lose(&path, e)?;
                    continue;
                }
            };
            for name in names {
                let path = format!("{path}/{}", check::show(&name));
                match self.old.lookup(from, &name) {
                    Ok(Node::Dir(dir)) => {
                        // a directory that cannot be read is left out
                        if let Err(e) = self.old.is_empty(dir) {
                            self.lose(&path, e)?;
                            continue;
                        }
                        let new = self.new.mkdir(to, &name);
                        let new = new.map_err(|e| self.unstorable(e, &path, &name))?;
                        self.outcome.directories += 1;
                        todo.push((dir, new, path));
                    }
                    Ok(Node::File { size }) => {
                        self.check_room(&name, &path, size)?;
                        self.copy_file(from, to, &name, &path)?;
                    }
                    Err(e) => self.lose(&path, e)?,
                }
            }
        }
        Ok(self.outcome)
    }

    /// Check that a metadata block can hold the name of a file together with the struct for its
    /// content, because the filesystem would notice a failure only later.
    fn check_room(&self, name: &[u8], path: &str, size: u32) -> Result<(), Failure> {
        let inline = if size <= self.new.inline_max() { size.saturating_add(4) } else { u32::MAX };
        let entry = 4 + name.len() as u32 + inline.min(12);
        if entry.saturating_add(RESERVED) <= self.g.block_size {
            return Ok(());
        }
        Err(self.unstorable(Error::NameTooLong, path, name))
    }

    /// Why an entry of this name cannot be made.
    fn unstorable(&self, e: Error, path: &str, name: &[u8]) -> Failure {
        let Error::NameTooLong = e else { return Failure::Unwritable(e) };
        let block_size = self.g.block_size;
        let max = block_size.saturating_sub(RESERVED + ENTRY);
        Failure::NameTooLong { path: path.to_owned(), len: name.len(), max, block_size }
    }

    /// Leave out an entry that cannot be read, if the options allow that.
    fn lose(&mut self, path: &str, e: Error) -> Result<(), Failure> {
        if !self.salvage {
            return Err(Failure::Unreadable(path.to_owned(), e));
        }
        self.outcome.doubts.push((path.to_owned(), format!("left out: {e}")));
        self.outcome.lost.insert(path.to_owned());
        Ok(())
    }

    fn copy_file(
        &mut self,
        from: DirId,
        to: DirId,
        name: &[u8],
        path: &str,
    ) -> Result<(), Failure> {
        let attrs = attrs(self.old, At::Entry(from, name)).map_err(unwritable)?;
        let created = self.new.create_with_attrs(to, name, &attrs);
        created.map_err(|e| self.unstorable(e, path, name))?;
        let source = match self.old.open_file(from, name) {
            Ok(source) => source,
            Err(e) => {
                self.new.unlink(to, name).map_err(unwritable)?;
                return self.lose(path, e);
            }
        };
        let target = self.new.open_file(to, name).map_err(unwritable)?;
        let copied = self.copy_bytes(source, target);
        self.old.close_file(source);
        self.new.close_file(target);
        match copied? {
            Ok(()) => self.outcome.files += 1,
            Err(e) => {
                self.new.unlink(to, name).map_err(unwritable)?;
                self.lose(path, e)?;
            }
        }
        Ok(())
    }

    /// The outer error is about the target, the inner one about the source.
    fn copy_bytes(&mut self, from: FileId, to: FileId) -> Result<Result<(), Error>, Failure> {
        let mut at = 0;
        loop {
            let bytes = match self.old.read(from, at, PIECE).and_then(|plan| plan.run()) {
                Ok(bytes) => bytes,
                Err(e) => return Ok(Err(e)),
            };
            if bytes.is_empty() {
                return Ok(Ok(()));
            }
            self.new.write(to, at, &bytes).map_err(unwritable)?;
            at += bytes.len() as u64;
            self.outcome.bytes += bytes.len() as u64;
            (self.step)(Step::Copied(self.outcome.bytes));
        }
    }
}

fn attrs(fs: &mut Fs, at: At<'_>) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    let types = fs.list_attrs(at)?;
    types.into_iter().map(|ty| Ok((ty, fs.get_attr(at, ty)?))).collect()
}

/// Read everything back, and check that the new filesystem has the content of the old one, except
/// for what was left out.
fn compare(
    old: &mut Fs,
    new: &mut Fs,
    outcome: &Outcome,
    step: &dyn Fn(Step),
) -> Result<(), Failure> {
    let differs = |path: &str| Failure::Differs(path.to_owned());
    let mut done = 0;
    let mut todo = vec![(ROOT, ROOT, String::new())];
    while let Some((from, to, path)) = todo.pop() {
        if outcome.lost.contains(&path) {
            continue;
        }
        let names = old.list(from).map_err(unwritable)?;
        let mut found: BTreeSet<Box<[u8]>> =
            new.list(to).map_err(unwritable)?.into_iter().collect();
        for name in names {
            let path = format!("{path}/{}", check::show(&name));
            let is_there = found.remove(&name);
            if outcome.lost.contains(&path) && !is_there {
                continue;
            }
            if !is_there {
                return Err(differs(&path));
            }
            let nodes = (old.lookup(from, &name), new.lookup(to, &name));
            match nodes {
                (Ok(Node::Dir(from)), Ok(Node::Dir(to))) => todo.push((from, to, path)),
                (Ok(Node::File { size }), Ok(Node::File { size: other })) if size == other => {
                    let (at, other) = (At::Entry(from, &name), At::Entry(to, &name));
                    let same_attrs = attrs(old, at).map_err(unwritable)?
                        == attrs(new, other).map_err(unwritable)?;
                    if !same_attrs || !same_bytes(old, from, new, to, &name)? {
                        return Err(differs(&path));
                    }
                    done += u64::from(size);
                    step(Step::Compared(done));
                }
                _ => return Err(differs(&path)),
            }
        }
        if let Some(name) = found.first() {
            return Err(differs(&format!("{path}/{}", check::show(name))));
        }
    }
    Ok(())
}

fn same_bytes(
    old: &mut Fs,
    from: DirId,
    new: &mut Fs,
    to: DirId,
    name: &[u8],
) -> Result<bool, Failure> {
    let read = |fs: &mut Fs, file, at| fs.read(file, at, PIECE).and_then(|plan| plan.run());
    let a = old.open_file(from, name).map_err(unwritable)?;
    let b = new.open_file(to, name).map_err(unwritable)?;
    let mut at = 0;
    let same = loop {
        let bytes = read(old, a, at).map_err(unwritable)?;
        if bytes != read(new, b, at).map_err(unwritable)? {
            break false;
        }
        if bytes.is_empty() {
            break true;
        }
        at += bytes.len() as u64;
    };
    old.close_file(a);
    new.close_file(b);
    Ok(same)
}
