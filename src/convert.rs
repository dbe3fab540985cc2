//! Making a littlefs of an image in another dialect.
//!
//! The new image is written to a file of its own, read back and compared, checked, and made durable
//! before it gets its name; in place, that is one rename(2). So whatever interrupts it, under the
//! name there is the old image or the new one, complete.

mod target;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::bd::file::{copy, fill};
use crate::bd::{FileDevice, Geometry};
use crate::check::{self, Finding, Severity};
use crate::error::{Error, Unsupported};
use crate::fs::{At, DirId, FileId, FormatOptions, Fs, Node, OpenOptions, ROOT};
use crate::image::{Opened, Reason};

use target::Target;

/// Bytes of a value copied or compared at once.
const PIECE: usize = 1 << 20;
/// Longest name of the new image, in bytes, unless the old one has longer ones.
const NAME_MAX: u32 = 255;
/// Findings that no value is lost by: what chamelon reads is read.
const HARMLESS: [&str; 2] = ["block-shared", "ctz-pointer"];

/// What is to be converted, and how.
pub struct Job<'a> {
    /// The image, open, with nobody else there.
    pub source: &'a Opened,
    /// The new image; none to replace the old one.
    pub out: Option<&'a Path>,
    /// Replace what is at `out`.
    pub overwrite: bool,
    /// Leave out what cannot be read.
    pub salvage: bool,
    /// Version of the new image, major in the high 16 bits.
    pub disk_version: u32,
    /// Blocks of the new image; as many as the old one has where none.
    pub block_count: Option<u32>,
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of values are in the new image.
    Copied(u64),
    /// So many of them have been read back.
    Compared(u64),
    /// The new image is complete and durable, but under no name.
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
    /// What was left out, or is not what it was: path or place, and why.
    pub doubts: Vec<(String, String)>,
    /// Paths of what was left out although the old image lists it.
    lost: BTreeSet<String>,
}

/// Why nothing was converted, and nothing changed.
#[derive(Debug)]
pub enum Failure {
    /// The old image has damage that loses something.
    Damaged(Vec<Finding>),
    /// Something of the old image cannot be read: its path.
    Unreadable(String, Error),
    /// The new image has no room.
    NoSpace(Geometry),
    /// The new image cannot be written.
    Unwritable(Error),
    /// The old image is on a block device.
    Device,
    /// There is something under the name of the new image.
    Exists,
    /// The new image is to be something else than a plain file, or cannot be opened.
    Target(Reason),
    /// The new image would be the old one.
    SameFile,
    /// The file to be replaced is another user's, whose it would not stay.
    Owner(u32),
    /// Somebody changed the old image meanwhile.
    Changed,
    /// The new image does not hold what the old one does: where. A bug.
    Differs(String),
    /// The geometry asked for is impossible.
    Geometry(Unsupported),
    /// The system failed.
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(findings) => {
                for Finding { place, message, .. } in findings.iter().take(3) {
                    write!(f, "{place}: {message}; ")?;
                }
                f.write_str("'littlefs check' lists all damage, --salvage leaves out what is lost")
            }
            Self::Unreadable(path, e) => write!(f, "{path}: {e}; --salvage leaves it out"),
            Self::NoSpace(g) => write!(
                f,
                "a littlefs of {} blocks of {} bytes has no room for all of it; give OUT and a \
                 larger --block-count",
                g.block_count, g.block_size
            ),
            Self::Unwritable(e) => write!(f, "the new image cannot be written: {e}"),
            Self::Device => f.write_str(
                "a block device cannot be converted in place; give OUT, a file, and copy that to \
                 the device",
            ),
            Self::Exists => f.write_str("exists; --force overwrites it"),
            Self::Target(reason) => reason.fmt(f),
            Self::SameFile => f.write_str("is the image itself; leave OUT out to convert in place"),
            Self::Owner(uid) => write!(
                f,
                "belongs to user {uid}, whose it would not stay: convert it as that user, or to \
                 another file (OUT)"
            ),
            Self::Changed => f.write_str("was changed meanwhile; convert it again"),
            Self::Differs(what) => write!(f, "the new image is wrong: {what}; please report this"),
            Self::Geometry(e) => e.fmt(f),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Convert an image of chamelon's, telling `step` how far it is. On a failure, and when it is ended
/// at any step before [`Step::Named`], everything is as it was.
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
    let len = file.file().metadata()?.len().max(offset.saturating_add(g.size()));
    file.file().set_len(len)?;
    let device = Arc::new(FileDevice::new(file.file().try_clone()?, offset, g));

    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut old = Fs::open(Arc::clone(&job.source.device), &read_only).map_err(unwritable)?;
    let mut new = format(job, &old, device.clone())?;
    let no_space = |e| match e {
        Failure::Unwritable(Error::NoSpace) => Failure::NoSpace(g),
        e => e,
    };
    let outcome =
        Outcome { files: 0, directories: 0, bytes: 0, geometry: g, doubts, lost: BTreeSet::new() };
    let copier = Copier { old: &mut old, new: &mut new, salvage: job.salvage, outcome, step };
    let outcome = copier.copy().map_err(no_space)?;
    new.flush().map_err(unwritable).map_err(no_space)?;
    drop(new);
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

fn unwritable(e: Error) -> Failure {
    Failure::Unwritable(e)
}

/// What changes when somebody else writes to a file, or gives it another name.
fn state(meta: &Metadata) -> (u64, [i64; 4]) {
    (meta.size(), [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}

/// Examine the old image. What is damaged must be harmless, or given up.
fn judge(job: &Job<'_>) -> Result<Vec<(String, String)>, Failure> {
    let report = job.source.dialect.check(&job.source.stored, &|_| ()).map_err(unwritable)?;
    let errors = report.findings.into_iter().filter(|f| f.severity == Severity::Error);
    let (harmless, lossy): (Vec<_>, Vec<_>) = errors.partition(|f| HARMLESS.contains(&f.code));
    if !lossy.is_empty() && !job.salvage {
        return Err(Failure::Damaged(lossy));
    }
    Ok(harmless.into_iter().chain(lossy).map(|f| (f.place, f.message)).collect())
}

fn geometry(job: &Job<'_>) -> Result<Geometry, Failure> {
    let old = job.source.stored.geometry();
    let block_count = job.block_count.unwrap_or(old.block_count);
    Geometry::new(old.block_size, block_count).map_err(Failure::Geometry)
}

/// What is around the filesystem in the old file belongs to the new one, too.
fn copy_around(source: &Opened, new: &File, geometry: Geometry) -> io::Result<()> {
    let Opened { offset, image_size, .. } = *source;
    if offset > 0 || image_size > geometry.size() {
        copy(&source.file, new, image_size)?;
        fill(new, offset, geometry.size())?;
    }
    Ok(())
}

/// An empty filesystem that suits what the old one holds.
fn format(job: &Job<'_>, old: &Fs, device: Arc<FileDevice>) -> Result<Fs, Failure> {
    let options = FormatOptions {
        disk_version: job.disk_version,
        name_max: old.superblock().name_max.max(NAME_MAX),
        ..FormatOptions::default()
    };
    Fs::format(&*device, &options).map_err(unwritable)?;
    let options = OpenOptions {
        prog_size: Some(old.prog_size()),
        inline_max: Some(old.inline_max()),
        ..OpenOptions::default()
    };
    Fs::open(device, &options).map_err(unwritable)
}

/// Copies everything from one filesystem to another.
struct Copier<'a> {
    old: &'a mut Fs,
    new: &'a mut Fs,
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
                        let new = self.new.mkdir(to, &name).map_err(unwritable)?;
                        self.outcome.directories += 1;
                        todo.push((dir, new, path));
                    }
                    Ok(Node::File { .. }) => self.copy_file(from, to, &name, &path)?,
                    Err(e) => self.lose(&path, e)?,
                }
            }
        }
        Ok(self.outcome)
    }

    /// Something cannot be read: leave it out if that was asked for.
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
        self.new.create_with_attrs(to, name, &attrs).map_err(unwritable)?;
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

    /// The outer error is the target's, the inner one the source's.
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

/// Read everything back: the new filesystem has what the old one has, but for what was lost.
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
