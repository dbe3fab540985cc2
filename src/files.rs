//! Using files through descriptors, so that each name is resolved only once.
//!
//! Everybody who may write to a directory can put another file, a link, a FIFO or a device under
//! any name in it, at any moment. So a path is resolved once, and from then on only the open
//! descriptor stands for the file. New files are made, and names changed, relative to the open
//! directory, and a name is replaced or removed only while it still refers to the file that was
//! opened.

mod output;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
#[cfg(feature = "cli")]
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;
#[cfg(any(feature = "mount", feature = "transfer"))]
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, fcntl_setfl, openat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::show::{Show, cause};

pub use output::Output;

/// The names of incomplete files begin with this; an interruption may leave some of them.
const PREFIX: &str = ".littlefs-";
/// How many bytes of a stream are copied at a time.
#[cfg(feature = "cli")]
const SPOOL_CHUNK: usize = 256 << 10;
/// How many names are tried for a new file before giving up.
const NAMES_MAX: u32 = 100;

/// Flags for every open: do not wait for a FIFO, a terminal or a modem, and do not make a terminal
/// the controlling one.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Open `path` for reading, whatever it is, without waiting for anything.
///
/// # Errors
/// The errors of the system; ENXIO for a socket.
pub fn open(path: &Path) -> io::Result<File> {
    opened(openat(CWD, path, OFlags::RDONLY | ALWAYS, Mode::empty()))
}

/// Like [`open`], for a path that must name a plain file.
///
/// # Errors
/// The errors of the system, or an error that says that it is not a plain file.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let file = open(path).map_err(|e| match e.raw_os_error() {
        Some(libc::ENXIO | libc::ENODEV) => not_plain(),
        _ => e,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_plain()) }
}

fn not_plain() -> io::Error {
    io::Error::other("is not a plain file")
}

/// Open `path` only to see what it is; links are followed.
///
/// # Errors
/// The errors of the system.
#[cfg(feature = "transfer")]
pub fn look(path: &Path) -> io::Result<File> {
    Ok(File::from(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
}

/// The path of the plain file to which the symbolic link at `path` leads, or `path` itself if there
/// is no link.
///
/// # Errors
/// The errors of the system, [`replaced`], and an error that says what to do if the link leads to
/// nothing or to something other than a plain file.
#[cfg(feature = "transfer")]
pub fn behind_link(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {}
        _ => return Ok(path.to_owned()),
    }
    let file = look(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => leads_to_nothing(),
        _ => e,
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(
            "is a symbolic link to something other than a plain file; give the name of a file",
        ));
    }
    let real = fs::canonicalize(path)?;
    if Place::new(&real)?.holds(&file)? { Ok(real) } else { Err(replaced()) }
}

/// Another descriptor of standard output.
///
/// # Errors
/// The errors of the system.
#[cfg(feature = "cli")]
pub fn stdout() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 0)?))
}

/// Open a file from [`look`] for writing. For a FIFO, this waits until somebody reads it.
///
/// # Errors
/// The errors of the system, and [`replaced`].
#[cfg(feature = "cli")]
pub fn open_to_write(file: &File, path: &Path) -> io::Result<File> {
    let mut flags = OFlags::WRONLY | ALWAYS;
    flags.set(OFlags::NONBLOCK, !file.metadata()?.file_type().is_fifo());
    open_again(file, path, flags)
}

/// Open a file again, through its descriptor. If /proc does not show this process (for example, in
/// the mount namespace of another container), `path` is tried, which must still refer to the same
/// file.
///
/// # Errors
/// The errors of the system, and [`replaced`].
pub(crate) fn reopen(file: &File, path: &Path, flags: OFlags) -> io::Result<File> {
    open_again(file, path, flags | ALWAYS)
}

fn open_again(file: &File, path: &Path, flags: OFlags) -> io::Result<File> {
    let again = match openat(CWD, proc_path(file), flags, Mode::empty()) {
        Err(Errno::NOENT) => openat(CWD, path, flags, Mode::empty()),
        again => again,
    };
    let again = opened(again)?;
    if same(&again.metadata()?, &file.metadata()?) { Ok(again) } else { Err(replaced()) }
}

/// Open the file of descriptor `number` of this process again, for reading.
///
/// # Errors
/// The errors of the system.
#[cfg(all(feature = "cli", feature = "mount"))]
pub fn inherited(number: u32) -> io::Result<File> {
    open(Path::new(&format!("/proc/self/fd/{number}")))
}

/// A descriptor of `file` that programs inherit if they are started while it exists.
///
/// # Errors
/// The errors of the system.
#[cfg(all(feature = "cli", feature = "mount"))]
pub fn pass_on(file: &File) -> io::Result<OwnedFd> {
    Ok(rustix::io::dup(file)?)
}

/// Prepare a descriptor that was opened with [`ALWAYS`] for normal reading and writing.
fn opened(fd: rustix::io::Result<OwnedFd>) -> io::Result<File> {
    let fd = fd?;
    fcntl_setfl(&fd, OFlags::empty())?;
    Ok(File::from(fd))
}

/// Make a file in an open directory, under a plain name that is not taken.
///
/// # Errors
/// The errors of the system; EEXIST for a name that is taken, even by a link.
pub fn create_in(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// Open a directory by its plain name in another one; no link is followed.
///
/// # Errors
/// The errors of the system; ENOTDIR or ELOOP if it is not a directory.
pub fn open_dir(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Make a directory and those above it, unless they exist.
///
/// # Errors
/// The errors of the system. If a file is in the way, the text of the error says so.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => io::Error::new(
            io::ErrorKind::NotADirectory,
            "a file is in the place of this directory, or of one above it; give another directory",
        ),
        _ => e,
    })
}

/// Whether both describe the same file.
pub fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// A file without a name in `$TMPDIR`, which is gone when it is closed.
///
/// # Errors
/// The errors of the system.
pub(crate) fn temporary() -> io::Result<File> {
    let place = Place::new(&std::env::temp_dir().join("spool"))?;
    place.begin()?.file.try_clone()
}

/// A message that says why something cannot be stored in a file of [`temporary`], and what to do.
pub(crate) fn no_room(e: &io::Error) -> String {
    let dir = std::env::temp_dir();
    let (dir, is_full) = (dir.show(), e.kind() == ErrorKind::StorageFull);
    let advice = if is_full { "a directory with room" } else { "another directory" };
    format!("cannot be kept in {dir}: {}; set TMPDIR to {advice}", cause(e))
}

/// Copy a whole stream, at most `limit` bytes, into a nameless file in `$TMPDIR`, which disappears
/// when it is closed. The file is for reading only.
///
/// # Errors
/// The errors of the system, or an error that says what to do.
#[cfg(feature = "cli")]
pub fn spool(stream: &mut impl io::Read, limit: u64) -> io::Result<File> {
    let room = |e: io::Error| io::Error::other(no_room(&e));
    let mut file = temporary().map_err(room)?;
    let (mut chunk, mut written) = (vec![0; SPOOL_CHUNK], 0_u64);
    loop {
        let n = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        written += n as u64;
        if written > limit {
            let message = format!("is longer than {limit} bytes; give a larger --unpack-limit");
            return Err(io::Error::other(message));
        }
        io::Write::write_all(&mut file, &chunk[..n]).map_err(room)?;
    }
    file.set_permissions(Permissions::from_mode(0o400))?;
    Ok(file)
}

/// The error for a symbolic link in the place of a new file.
fn leads_to_nothing() -> io::Error {
    io::Error::other(
        "is a symbolic link that leads to nothing; remove the link, or give the name to which it \
         leads",
    )
}

/// The error for a name that now refers to another file than before.
pub fn replaced() -> io::Error {
    io::Error::other("was replaced by another file in the meantime; try again")
}

/// Give a new file the owner, group and mode of another, as far as this user may change them. Only
/// the owner gets the right to write. Users who cannot read the other file cannot read the new one.
///
/// # Errors
/// The errors of the system.
pub fn take_access(file: &File, from: &Metadata) -> io::Result<()> {
    let refused = |result: io::Result<()>| match result {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(true),
        result => result.map(|()| false),
    };
    let own = file.metadata()?;
    let mut mode = from.mode() & 0o755;
    if own.gid() != from.gid() && refused(fchown(file, None, Some(from.gid())))? {
        // the group differs, so it gets only the rights that everybody has
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    if own.uid() != from.uid() {
        refused(fchown(file, Some(from.uid()), None))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// A directory to be used as a mount point. It is opened without looking inside, because that would
/// trigger the mount of an automount point.
#[cfg(feature = "mount")]
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

#[cfg(feature = "mount")]
impl Directory {
    /// The directory at `path`; links are followed.
    ///
    /// # Errors
    /// The errors of the system; ENOTDIR if it is not a directory.
    pub fn find(path: &Path) -> io::Result<Self> {
        // without O_DIRECTORY, which would look inside
        let fd = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let file = File::from(fd);
        if !file.metadata()?.is_dir() {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Self { file, path: fs::canonicalize(path)? })
    }

    /// Its present path, without links; if /proc does not tell, the path at which it was found.
    pub fn path(&self) -> PathBuf {
        let now = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        now.unwrap_or_else(|_| self.path.clone())
    }

    /// Its type and permissions.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Call `act` while this directory is the working directory of the process, so that "." refers
    /// to it, whatever happens to its name.
    ///
    /// # Errors
    /// The errors of the system, and those of `act`.
    pub fn within<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let before = openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(&self.file)?;
        let result = act();
        rustix::process::fchdir(&before)?;
        result
    }
}

/// A name in an open directory.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// The last name of `path`, in the directory that `path` leads to now.
    ///
    /// # Errors
    /// The errors of the system, and one if `path` does not end in a name.
    pub fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Errno::ISDIR.into());
        }
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: openat(CWD, parent, flags, Mode::empty())?, name })
    }

    /// The last name of `path`, which must not be taken.
    ///
    /// # Errors
    /// Those of [`Place::new`], and an error that says what to do if a symbolic link that leads to
    /// nothing has this name.
    pub fn free(path: &Path) -> io::Result<Self> {
        let place = Self::new(path)?;
        match statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(leads_to_nothing()),
            Err(_) => Ok(place),
        }
    }

    /// Whether both are the same name in the same directory.
    ///
    /// # Errors
    /// The errors of the system.
    #[cfg(feature = "cli")]
    pub fn is_same_as(&self, other: &Self) -> io::Result<bool> {
        let (a, b) = (rustix::fs::fstat(&self.directory)?, rustix::fs::fstat(&other.directory)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) && self.name == other.name)
    }

    /// The name of `file`, which was opened at `path`: links are followed.
    ///
    /// # Errors
    /// The errors of the system, and [`replaced`].
    pub fn of(file: &File, path: &Path) -> io::Result<Self> {
        let place = Self::new(&fs::canonicalize(path)?)?;
        if place.holds(file)? { Ok(place) } else { Err(replaced()) }
    }

    /// This name with `suffix`, in the same directory.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn with_suffix(&self, suffix: impl AsRef<OsStr>) -> io::Result<Self> {
        let mut name = self.name.clone();
        name.push(suffix);
        Ok(Self { directory: self.directory.try_clone()?, name })
    }

    /// Open the file of this name for reading; no link is followed.
    ///
    /// # Errors
    /// The errors of the system; ELOOP for a link.
    pub fn open(&self) -> io::Result<File> {
        self.open_as(OFlags::RDONLY)
    }

    /// Open the file of this name only to see what it is; no link is followed.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn look(&self) -> io::Result<File> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.directory, &self.name, flags, Mode::empty())?))
    }

    fn open_as(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | ALWAYS;
        opened(openat(&self.directory, &self.name, flags, Mode::empty()))
    }

    /// Open a file of this name again, through its descriptor.
    ///
    /// # Errors
    /// The errors of the system, and [`replaced`].
    pub(crate) fn reopen(&self, file: &File, flags: OFlags) -> io::Result<File> {
        let again = match reopen(file, Path::new(""), flags) {
            Err(e) if e.kind() == ErrorKind::NotFound => self.open_as(flags)?,
            again => again?,
        };
        let is_same = same(&again.metadata()?, &file.metadata()?);
        if is_same && self.holds(file)? { Ok(again) } else { Err(replaced()) }
    }

    /// Whether the name refers to `file`.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn holds(&self, file: &File) -> io::Result<bool> {
        let meta = file.metadata()?;
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (meta.dev(), meta.ino())),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Remove the name if it refers to `file`.
    ///
    /// # Errors
    /// The errors of the system, and [`replaced`].
    pub fn remove(&self, file: &File) -> io::Result<()> {
        if !self.holds(file)? {
            return Err(replaced());
        }
        Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
    }

    /// Make a file that will get this name. Until then, only this user can use it. If the
    /// filesystem allows it, the file has no name at first, so nothing is left behind if this
    /// process ends early, in whatever way.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn begin(&self) -> io::Result<NewFile<'_>> {
        let mode = Mode::RUSR | Mode::WUSR;
        if let Some(file) = unnamed(&self.directory, mode) {
            return Ok(NewFile { place: self, temporary: None, file, put: false });
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let make = |name: &OsStr| openat(&self.directory, name, flags | OFlags::CLOEXEC, mode);
        let (temporary, fd) = self.temporary(make)?;
        Ok(NewFile { place: self, temporary: Some(temporary), file: fd.into(), put: false })
    }

    /// Let `make` create something in this directory under a name that is not taken.
    fn temporary<T>(
        &self,
        mut make: impl FnMut(&OsStr) -> rustix::io::Result<T>,
    ) -> io::Result<(Self, T)> {
        for _ in 0..NAMES_MAX {
            let number = RandomState::new().hash_one(std::process::id());
            let name = OsString::from(format!("{PREFIX}{number:016x}"));
            match make(&name) {
                Ok(made) => {
                    return Ok((Self { directory: self.directory.try_clone()?, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Make the names in the directory durable.
    fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        File::from(openat(&self.directory, ".", flags, Mode::empty())?).sync_all()
    }
}

/// A new file without a name in `directory`, if its filesystem has such files and they can be named
/// later.
pub(crate) fn unnamed(directory: impl AsFd, mode: Mode) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = File::from(openat(directory, ".", flags, mode).ok()?);
    // /proc may be missing, or may belong to another namespace
    let shown = fs::metadata(proc_path(&file)).ok()?;
    same(&shown, &file.metadata().ok()?).then_some(file)
}

/// Give a file from [`unnamed`] a name that is not taken.
///
/// # Errors
/// The errors of the system; EEXIST if the name is taken.
pub(crate) fn name(file: &File, directory: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::linkat(CWD, proc_path(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

fn proc_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// A file that does not have its name yet; removed on drop.
#[derive(Debug)]
pub struct NewFile<'a> {
    place: &'a Place,
    /// Its temporary name, if it has one.
    temporary: Option<Place>,
    file: File,
    put: bool,
}

impl NewFile<'_> {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Give the file its name, durably. With `old`, the name must still refer to `old`, which is
    /// replaced. Without `old`, the name must not be taken.
    ///
    /// # Errors
    /// The errors of the system, and [`replaced`].
    pub fn put(mut self, old: Option<&File>) -> io::Result<()> {
        let to = self.place;
        if self.temporary.is_none() && old.is_none() {
            name(&self.file, &to.directory, &to.name)?;
            return to.sync();
        }
        if self.temporary.is_none() {
            // a file without a name cannot replace another file directly
            let (temporary, ()) = to.temporary(|free| name(&self.file, &to.directory, free))?;
            self.temporary = Some(temporary);
        }
        let Some(from) = &self.temporary else { return Err(replaced()) };
        let names = (&from.directory, &from.name, &to.directory, &to.name);
        if !from.holds(&self.file)? {
            return Err(replaced());
        }
        match old {
            Some(old) if to.holds(old)? => renameat(names.0, names.1, names.2, names.3)?,
            Some(_) => return Err(replaced()),
            None => put_new(names)?,
        }
        self.put = true;
        self.place.sync()
    }
}

/// Rename a file to a name that is not taken.
fn put_new(names: (&OwnedFd, &OsString, &OwnedFd, &OsString)) -> io::Result<()> {
    let (from_dir, from, to_dir, to) = names;
    match renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
        // not every filesystem supports this flag
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty())?;
            Ok(unlinkat(from_dir, from, AtFlags::empty())?)
        }
        result => Ok(result?),
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let (false, Some(temporary)) = (self.put, &self.temporary) {
            // if somebody else put another file there, that file is left alone
            let _ = temporary.remove(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("temporary directory")
    }

    fn is_replaced(e: &io::Error) -> bool {
        e.to_string().contains("replaced")
    }

    #[test]
    fn a_name_that_refers_to_another_file_is_left_alone() {
        let dir = directory();
        let (path, other) = (dir.path().join("a"), dir.path().join("other"));
        fs::write(&path, "old").expect("write");
        fs::write(&other, "other").expect("write");
        let file = open(&path).expect("open");
        let place = Place::of(&file, &path).expect("its place");
        fs::rename(&path, dir.path().join("moved")).expect("rename");
        symlink(&other, &path).expect("symlink");

        let new = place.begin().expect("a new file");
        assert!(is_replaced(&new.put(Some(&file)).expect_err("not its name any more")));
        assert!(is_replaced(&place.remove(&file).expect_err("not its name any more")));
        assert!(is_replaced(&Place::of(&file, &path).expect_err("leads elsewhere")));
        assert!(place.open().is_err(), "a link");
        assert_eq!(fs::read(&other).expect("read"), b"other");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 3, "nothing is left behind");

        // the directory also stays the one that was opened
        fs::remove_file(&path).expect("unlink");
        let elsewhere = directory();
        let moved = elsewhere.path().join("d");
        fs::rename(dir.path(), &moved).expect("rename");
        fs::create_dir(dir.path()).expect("mkdir");
        let new = place.begin().expect("a new file");
        new.file().write_all(b"new").expect("write");
        new.put(None).expect("put");
        assert_eq!(fs::read(moved.join("a")).expect("read"), b"new");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_file_is_opened_again_by_its_descriptor() {
        let dir = directory();
        let path = dir.path().join("a");
        fs::write(&path, "one").expect("write");
        let file = open(&path).expect("open");
        fs::rename(&path, dir.path().join("b")).expect("rename");
        fs::write(&path, "two").expect("write");
        let mut text = String::new();
        let mut again = reopen(&file, &path, OFlags::RDWR).expect("reopen");
        again.read_to_string(&mut text).expect("read");
        assert_eq!(text, "one");
    }

    // This test changes the working directory. That is safe, because no other test here uses
    // relative paths.
    #[cfg(feature = "mount")]
    #[test]
    fn a_directory_stays_the_one_that_was_found() {
        let dir = directory();
        let (path, moved) = (dir.path().join("d"), dir.path().join("moved"));
        fs::create_dir(&path).expect("mkdir");
        let found = Directory::find(&path).expect("a directory");
        assert_eq!(found.path(), fs::canonicalize(&path).expect("resolved"));
        fs::rename(&path, &moved).expect("rename");
        symlink("/", &path).expect("symlink");
        assert_eq!(found.path(), fs::canonicalize(&moved).expect("resolved"));
        let before = std::env::current_dir().expect("a directory");
        let inside = found.within(|| fs::metadata(".")).expect("inside");
        std::env::set_current_dir(before).expect("back");
        assert!(same(&inside, &fs::metadata(&moved).expect("stat")));
        fs::write(dir.path().join("file"), "").expect("write");
        let e = Directory::find(&dir.path().join("file")).expect_err("no directory");
        assert_eq!(e.kind(), ErrorKind::NotADirectory);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn anything_but_a_plain_file_is_refused_at_once() {
        let dir = directory();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
        for path in [&*path, &*socket, dir.path(), Path::new("/dev/null")] {
            let e = open_plain(path).expect_err("no plain file");
            assert!(e.to_string().contains("plain file"), "{}: {e}", path.display());
        }
    }

    #[test]
    fn others_cannot_write_to_a_new_file() {
        let dir = directory();
        let path = dir.path().join("a");
        fs::write(&path, "").expect("write");
        let place = Place::new(&dir.path().join("b")).expect("a place");
        for (mode, expected) in [(0o600, 0o600), (0o666, 0o644), (0o4770, 0o750), (0o444, 0o444)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            let new = place.begin().expect("a new file");
            assert_eq!(new.file().metadata().expect("stat").mode() & 0o7777, 0o600);
            take_access(new.file(), &fs::metadata(&path).expect("stat")).expect("taken");
            assert_eq!(new.file().metadata().expect("stat").mode() & 0o7777, expected);
        }
    }
}
