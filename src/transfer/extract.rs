//! Writing the content of an image into a directory of the host.
//!
//! Nothing is ever written outside of that directory, whatever names the image has, and whoever
//! changes the directory in the meantime. Every entry is made under its plain name, relative to the
//! open descriptor of its directory, and symbolic links on the host are never followed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType as HostType, Mode, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Progress;
use super::manifest::split;
use crate::check::show;
use crate::convention::device_numbers;
use crate::error::Error;
use crate::files::{self, create_in as create_file, open_dir, unnamed};
use crate::show::cause;
use crate::{FileType, Littlefs, Metadata};

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;
/// The longest target of a symbolic link that the host accepts, in bytes.
const TARGET_MAX: u64 = 4095;
/// How many temporary names are tried; some may be taken by earlier runs that were interrupted.
const TRIES: u32 = 1000;
const NANOS: i64 = 1_000_000_000;

/// How to write to the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extraction {
    /// Give entries the owners and the set-id and sticky bits of the image, and make devices. Only
    /// root can do this, and it should be done only for a trusted image.
    pub preserve: bool,
    /// The numbers of the device and the inode of files that no extracted file may replace, such as
    /// the image itself.
    pub inputs: [Option<(u64, u64)>; 2],
}

/// Why an entry was left out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It cannot be read in the image.
    Image(Error),
    /// It cannot be written on the host.
    Host(io::Error),
    /// Devices are made only on request.
    Device,
    /// The host does not accept its name or its target; the text says why.
    Unfit(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(e) => write!(f, "cannot be read in the image: {e}"),
            Self::Host(e) => write!(f, "cannot be written: {}", cause(e)),
            Self::Device => f.write_str("is a device, FIFO or socket; --preserve makes these"),
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

/// An entry of the image that was not extracted.
#[derive(Debug)]
pub struct LeftOut {
    /// Its path in the image.
    pub path: Vec<u8>,
    /// Why.
    pub problem: Problem,
}

impl LeftOut {
    /// An entry at `path` that was left out because of `problem`.
    pub(super) fn new(path: &[u8], problem: Problem) -> Self {
        let problem = match problem {
            Problem::Image(Error::InvalidName) => Problem::Unfit(
                "no file on Linux can have this name; 'littlefs check -p' gives it another one",
            ),
            problem => problem,
        };
        Self { path: path.to_vec(), problem }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: {}", show(&self.path), self.problem)
    }
}

/// A file that was extracted, although its content may be wrong.
#[derive(Debug)]
pub struct Suspect {
    /// Its path in the image.
    pub path: Vec<u8>,
    /// What is damaged.
    pub error: Error,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "was extracted, but its content may be wrong: {}", self.error)
    }
}

/// What was written to the host.
#[derive(Debug, Default)]
pub struct Extracted {
    /// Files, and whatever else is not a directory.
    pub files: u64,
    /// Directories, without the one that everything was written to.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The entries that were left out, in order.
    pub left_out: Vec<LeftOut>,
    /// The files with traces of damage that could be read to their end.
    pub suspect: Vec<Suspect>,
}

impl Extracted {
    /// Note that the file at `path` was extracted. A damaged list may lead to the wrong blocks,
    /// even if all of them can be read.
    pub(super) fn examine(&mut self, path: &[u8], content: &crate::File) {
        if let Err(error) = content.check() {
            self.suspect.push(Suspect { path: path.to_vec(), error });
        }
    }
}

/// The destination of files on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    /// They go into this directory, under their own names.
    Into(PathBuf),
    /// There is only one file, and this is its new name. If a symbolic link has this name, the file
    /// to which the link leads is replaced, and not the link.
    As(PathBuf),
}

/// Write the entries at `paths` in the image, with everything below them, into the directory
/// `target` of the host, under their paths in the image. Existing files are replaced; entries are
/// added to existing directories. `progress` is called with the bytes written so far.
///
/// A damaged entry, or one that the host does not accept, is left out, and the rest is extracted.
///
/// # Errors
/// When `target` cannot be made or opened.
pub fn extract(
    image: &Littlefs,
    paths: &[Vec<u8>],
    target: &Path,
    how: Extraction,
    progress: &Progress<'_>,
) -> io::Result<Extracted> {
    let mut sink = Sink::new(image, target, how, progress)?;
    for path in paths {
        if sink.enter_parents(path) {
            sink.extract(path);
        }
        sink.leave_to(0);
    }
    Ok(sink.done)
}

/// The same, but like cp(1): without the parent directories of each path.
///
/// # Errors
/// When the directory that the files go to cannot be opened, or when the new name of a file is a
/// symbolic link that does not lead to a plain file.
pub fn get(
    image: &Littlefs,
    paths: &[Vec<u8>],
    landing: &Landing,
    how: Extraction,
    progress: &Progress<'_>,
) -> io::Result<Extracted> {
    let is_file = |path: &Vec<u8>| image.metadata(path).is_ok_and(|metadata| metadata.is_file());
    let behind;
    let (target, name) = match landing {
        Landing::Into(dir) => (dir.as_path(), None),
        // the root directory has no name of its own
        Landing::As(dir) if paths.iter().all(Vec::is_empty) => (dir.as_path(), None),
        Landing::As(path) => {
            behind = match paths.iter().all(is_file) {
                true => files::behind_link(path)?,
                false => path.clone(),
            };
            let path = &behind;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            (dir.unwrap_or(Path::new(".")), path.file_name())
        }
    };
    let mut sink = Sink::new(image, target, how, progress)?;
    for path in paths {
        if let Some(root) = sink.open.first_mut() {
            root.path = split(path).0.to_vec();
        }
        sink.renamed = name.map(|name| (path.clone(), name.as_bytes().to_vec()));
        sink.extract(path);
        sink.leave_to(0);
    }
    Ok(sink.done)
}

/// A directory of the host on the path to the present entry.
struct Open {
    /// Its path in the image.
    path: Vec<u8>,
    fd: OwnedFd,
    /// The metadata that is set when the directory is complete.
    finish: Finish,
}

impl Open {
    /// The directory that everything is written to. Its metadata does not change.
    fn root(dir: File) -> Self {
        Self { path: Vec::new(), fd: dir.into(), finish: Finish::default() }
    }
}

struct Sink<'a> {
    image: &'a Littlefs,
    how: Extraction,
    progress: &'a Progress<'a>,
    open: Vec<Open>,
    /// An entry that gets another name on the host.
    renamed: Option<(Vec<u8>, Vec<u8>)>,
    done: Extracted,
}

impl<'a> Sink<'a> {
    fn new(
        image: &'a Littlefs,
        target: &Path,
        how: Extraction,
        progress: &'a Progress<'a>,
    ) -> io::Result<Self> {
        files::make_dirs(target)?;
        // the path that the user gave may contain symbolic links
        let open = vec![Open::root(File::open(target.join("."))?)];
        Ok(Self { image, how, progress, open, renamed: None, done: Extracted::default() })
    }
}

impl Sink<'_> {
    fn extract(&mut self, path: &[u8]) {
        let metadata = match self.image.metadata(path) {
            Ok(metadata) => metadata,
            Err(e) => return self.leave_out(path, Problem::Image(e)),
        };
        let put = path.is_empty() || self.put(path, &metadata);
        if !put || !metadata.is_dir() {
            return;
        }
        match self.image.walk(path) {
            Ok(walk) => self.put_all(walk),
            Err(e) => self.leave_out(path, Problem::Image(e)),
        }
    }

    fn put_all(&mut self, mut walk: crate::Walk) {
        while let Some(next) = walk.next() {
            match next {
                Ok(entry) => {
                    let (dir, _) = split(entry.path());
                    let depth = self.open.iter().rposition(|open| open.path == dir);
                    self.leave_to(depth.unwrap_or(0));
                    let put = depth.is_some() && self.put(entry.path(), entry.metadata());
                    if !put && entry.metadata().is_dir() {
                        walk.skip_dir();
                    }
                }
                Err(e) => self.leave_out(&e.path, Problem::Image(e.error)),
            }
        }
    }

    fn leave_out(&mut self, path: &[u8], problem: Problem) {
        self.done.left_out.push(LeftOut::new(path, problem));
    }

    /// Make the directories above an entry that was requested by its path.
    fn enter_parents(&mut self, path: &[u8]) -> bool {
        let (dir, _) = split(path);
        let ends = dir.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        let parents: Vec<usize> = ends.chain((!dir.is_empty()).then_some(dir.len())).collect();
        parents.into_iter().all(|end| match self.image.metadata(&path[..end]) {
            Ok(metadata) => self.put(&path[..end], &metadata),
            Err(e) => {
                self.leave_out(path, Problem::Image(e));
                false
            }
        })
    }

    /// Close the directories below the one at this depth. They are complete.
    fn leave_to(&mut self, depth: usize) {
        while self.open.len() > depth + 1 {
            let Some(open) = self.open.pop() else { return };
            if let Err(e) = open.finish.apply(&open.fd) {
                self.leave_out(&open.path, host(e));
            }
        }
    }

    /// Make the entry in the innermost open directory. A new directory becomes the innermost one.
    /// Returns whether the entry was made.
    fn put(&mut self, path: &[u8], metadata: &Metadata) -> bool {
        let made = match (self.refusal(path, metadata), metadata.file_type()) {
            (Some(why), _) => Err(Problem::Unfit(why)),
            (None, FileType::Dir) => self.put_dir(path, metadata),
            (None, FileType::File) => self.put_file(path, metadata),
            (None, FileType::Symlink) => self.put_link(path, metadata),
            (None, _) => self.put_node(path, metadata),
        };
        match made {
            Ok(()) if metadata.is_dir() => self.done.directories += 1,
            Ok(()) => self.done.files += 1,
            Err(problem) => {
                self.leave_out(path, problem);
                return false;
            }
        }
        true
    }
}

impl Sink<'_> {
    /// The innermost open directory, and the name of the entry there.
    fn place<'p>(&'p self, path: &'p [u8]) -> Result<(BorrowedFd<'p>, &'p [u8]), Problem> {
        let open = self.open.last().ok_or(Problem::Unfit("no directory of the host is open"))?;
        let name = match &self.renamed {
            Some((renamed, name)) if renamed == path => name,
            _ => split(path).1,
        };
        Ok((open.fd.as_fd(), name))
    }

    /// Why the entry must not replace what has its name on the host, if there is such a reason: the
    /// command reads from that file, or the system may need it, as it needs /dev/null.
    fn refusal(&self, path: &[u8], metadata: &Metadata) -> Option<&'static str> {
        use rustix::fs::FileType as Host;
        let (parent, name) = self.place(path).ok()?;
        let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if self.how.inputs.contains(&Some((there.st_dev, there.st_ino))) {
            return Some("on the host, the image or its journal has this name");
        }
        let replaces = matches!(metadata.file_type(), FileType::File | FileType::Symlink);
        match Host::from_raw_mode(there.st_mode) {
            Host::RegularFile | Host::Directory | Host::Symlink => None,
            _ if !replaces => None,
            _ => Some(
                "on the host, a device, FIFO or socket has this name, and is not replaced; \
                 'littlefs cat' can write into it",
            ),
        }
    }

    fn put_dir(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Problem> {
        let (parent, name) = self.place(path)?;
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(host(e)),
        }
        let fd = open_dir(parent, name).map_err(|e| match e {
            Errno::NOTDIR | Errno::LOOP => {
                Problem::Unfit("the host has something other than a directory under this name")
            }
            e => host(e),
        })?;
        let finish = self.finish(metadata);
        self.open.push(Open { path: path.to_vec(), fd, finish });
        Ok(())
    }

    fn put_file(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Problem> {
        let (parent, name) = self.place(path)?;
        let content = self.image.open_file(path).map_err(Problem::Image)?;
        let new = NewFile::create(parent, name)?;
        let copied = self.copy(&content, &new.file).and_then(|bytes| {
            self.finish(metadata).apply(&new.file).map_err(host)?;
            Ok(bytes)
        });
        match copied {
            Ok(bytes) => {
                new.keep(parent, name)?;
                self.done.bytes += bytes;
                self.done.examine(path, &content);
                Ok(())
            }
            Err(problem) => {
                new.remove(parent, name);
                Err(problem)
            }
        }
    }

    /// Copy the whole content of a file of the image. Returns the number of bytes.
    fn copy(&self, content: &crate::File, mut to: &File) -> Result<u64, Problem> {
        let mut buf = vec![0; PIECE.min(usize::try_from(content.len()).unwrap_or(PIECE))];
        let mut at = 0;
        loop {
            let read = content.read_at(&mut buf, at).map_err(Problem::Image)?;
            if read == 0 {
                return Ok(at);
            }
            to.write_all(&buf[..read]).map_err(Problem::Host)?;
            at += read as u64;
            (self.progress)(self.done.bytes + at);
        }
    }

    fn put_link(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Problem> {
        let (parent, name) = self.place(path)?;
        if metadata.is_empty() || metadata.len() > TARGET_MAX {
            return Err(Problem::Unfit("no symbolic link can have a target of this length"));
        }
        let target = self.image.read(path).map_err(Problem::Image)?;
        if target.contains(&0) {
            return Err(Problem::Unfit("no symbolic link can have this target"));
        }
        replace(parent, name, || rustix::fs::symlinkat(&target[..], parent, name))?;
        let finish = self.finish(metadata);
        if let Some((uid, gid)) = finish.owner {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags).map_err(host)?;
        }
        if let Some(times) = finish.times {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(parent, name, &times, flags).map_err(host)?;
        }
        Ok(())
    }

    fn put_node(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Problem> {
        if !self.how.preserve {
            return Err(Problem::Device);
        }
        let (parent, name) = self.place(path)?;
        let (major, minor) = match metadata.file_type() {
            FileType::BlockDevice | FileType::CharDevice => {
                let content = self.image.read(path).map_err(Problem::Image)?;
                device_numbers(&content)
                    .ok_or(Problem::Unfit("the image does not store which device it is"))?
            }
            _ => (0, 0),
        };
        let ty = HostType::from_raw_mode(metadata.file_type().mode_bits());
        let mode = Mode::from_raw_mode(metadata.permissions().unwrap_or(0o600) & 0o777);
        let device = rustix::fs::makedev(major, minor);
        replace(parent, name, || rustix::fs::mknodat(parent, name, ty, mode, device))?;
        if let Some((uid, gid)) = self.finish(metadata).owner {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags).map_err(host)?;
        }
        Ok(())
    }

    /// The metadata that an entry gets when its content is complete.
    fn finish(&self, metadata: &Metadata) -> Finish {
        let kept = if self.how.preserve { 0o7777 } else { 0o777 };
        let owner = metadata.uid().zip(metadata.gid()).filter(|_| self.how.preserve);
        Finish {
            times: times(metadata),
            mode: metadata.permissions().map(|mode| Mode::from_raw_mode(mode & kept)),
            owner: owner.map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid))),
        }
    }
}

/// Metadata that is set last, because writing content changes the times, and because the mode may
/// forbid writing.
#[derive(Default)]
struct Finish {
    times: Option<Timestamps>,
    mode: Option<Mode>,
    owner: Option<(Uid, Gid)>,
}

impl Finish {
    fn apply(&self, fd: impl AsFd) -> rustix::io::Result<()> {
        // a change of the owner clears set-id bits, so the mode is set after it
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&fd, mode)?;
        }
        self.times.as_ref().map_or(Ok(()), |times| rustix::fs::futimens(&fd, times))
    }
}

/// The times of an entry, as far as the image stores them.
fn times(metadata: &Metadata) -> Option<Timestamps> {
    let modified = metadata.modified()?;
    let accessed = metadata.accessed().unwrap_or(modified);
    Some(Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) })
}

fn timespec(time: SystemTime) -> Timespec {
    let nanos = crate::time::nanos(time);
    Timespec { tv_sec: nanos.div_euclid(NANOS), tv_nsec: nanos.rem_euclid(NANOS) }
}

/// A file of the host that is being written. If the filesystem allows it, the file has no name
/// until it is complete, so an interruption leaves no incomplete file. Otherwise it has its final
/// name, or a temporary one if that name is taken. An existing file is replaced only by a complete
/// one.
struct NewFile {
    file: File,
    named: Named,
}

/// The name that a new file has while it is written.
enum Named {
    Not,
    Finally,
    Otherwise(String),
}

impl NewFile {
    fn create(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Problem> {
        // the usual mode of a new file, which the umask restricts
        if let Some(file) = unnamed(parent, Mode::from_raw_mode(0o666)) {
            return Ok(Self { file, named: Named::Not });
        }
        match create_file(parent, name) {
            Ok(file) => return Ok(Self { file, named: Named::Finally }),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(host(e)),
        }
        let (temporary, file) = free_name(|free| create_file(parent, free.as_bytes()))?;
        Ok(Self { file, named: Named::Otherwise(temporary) })
    }

    /// Give the file its name.
    fn keep(self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Problem> {
        let temporary = match self.named {
            Named::Finally => return Ok(()),
            Named::Otherwise(temporary) => temporary,
            Named::Not => match files::name(&self.file, parent, OsStr::from_bytes(name)) {
                Err(Errno::EXIST) => {
                    free_name(|free| files::name(&self.file, parent, OsStr::new(free)))?.0
                }
                named => return named.map_err(host),
            },
        };
        rustix::fs::renameat(parent, &*temporary, parent, name).map_err(|e| {
            let _ = rustix::fs::unlinkat(parent, &*temporary, AtFlags::empty());
            taken(e)
        })
    }

    /// Remove the incomplete file. If this fails, the file stays. In both cases it is reported as
    /// left out.
    fn remove(self, parent: BorrowedFd<'_>, name: &[u8]) {
        let name = match &self.named {
            Named::Not => return,
            Named::Finally => name,
            Named::Otherwise(temporary) => temporary.as_bytes(),
        };
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
}

/// Let `make` create something under a name that is not taken.
fn free_name<T>(
    mut make: impl FnMut(&str) -> rustix::io::Result<T>,
) -> Result<(String, T), Problem> {
    for n in 0..TRIES {
        let name = format!(".littlefs-extract-{}-{n}", std::process::id());
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(host(e)),
        }
    }
    Err(host(Errno::EXIST))
}

/// Let `make` create something. An existing entry of the name is replaced, unless it is a
/// directory.
fn replace(
    parent: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn() -> rustix::io::Result<()>,
) -> Result<(), Problem> {
    match make() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(taken)?;
            make().map_err(host)
        }
        made => made.map_err(host),
    }
}

fn host(e: Errno) -> Problem {
    Problem::Host(e.into())
}

/// The problem if an existing entry of the host cannot be replaced.
fn taken(e: Errno) -> Problem {
    match e {
        Errno::ISDIR => Problem::Unfit("the host has a directory of this name"),
        e => host(e),
    }
}
