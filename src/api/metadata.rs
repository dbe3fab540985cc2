//! Metadata of an entry: kind and size come from the format, everything else from a convention.

use std::time::SystemTime;

use super::path::Place;
use super::{Core, Littlefs, nanos};
use crate::convention::{Codec, Meta, Target};
use crate::error::{Error, Result};
use crate::fs::{At, Attrs, Node, ROOT, Storage};
use crate::sys;
use crate::time::system_time;

/// Permission bits of new files, if a convention stores modes.
const FILE_MODE: u32 = 0o644;
/// Permission bits of new directories.
const DIR_MODE: u32 = 0o755;
/// Permission bits of symbolic links.
const LINK_MODE: u32 = 0o777;

/// The type of an entry. littlefs itself has only files and directories. The other types are files
/// to which a convention gives another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link. Its target is the content of the file.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block device. Its number is the content of the file.
    BlockDevice,
    /// A character device. Its number is the content of the file.
    CharDevice,
}

impl FileType {
    /// The type bits of `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Dir => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::BlockDevice => libc::S_IFBLK,
            Self::CharDevice => libc::S_IFCHR,
        }
    }

    /// The type of a file whose attributes have this `mode`.
    pub(crate) fn of_file(mode: u32) -> Self {
        let special =
            [Self::Symlink, Self::Fifo, Self::Socket, Self::BlockDevice, Self::CharDevice];
        let bits = mode & libc::S_IFMT;
        special.into_iter().find(|t| t.mode_bits() == bits).unwrap_or(Self::File)
    }

    fn permissions(self) -> u32 {
        match self {
            Self::Dir => DIR_MODE,
            Self::Symlink => LINK_MODE,
            _ => FILE_MODE,
        }
    }
}

/// The metadata of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    file_type: FileType,
    len: u32,
    meta: Meta,
}

impl Metadata {
    /// The metadata of `node`, which has the user attributes `attrs`.
    pub(super) fn new(codec: Option<&Codec>, node: Node, attrs: &mut Attrs<'_>) -> Self {
        let meta = codec.map(|codec| codec.read(attrs)).unwrap_or_default();
        let special = codec.is_some_and(|codec| codec.convention().special_files);
        let (file_type, len) = match node {
            Node::Dir(_) => (FileType::Dir, 0),
            Node::File { size } if special => (FileType::of_file(meta.mode.unwrap_or(0)), size),
            Node::File { size } => (FileType::File, size),
        };
        Self { file_type, len, meta }
    }

    /// The type of the entry.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Dir
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::File
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    /// The size of the content in bytes; 0 for a directory.
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The time of the last change of the content. If the image stores only the time of creation,
    /// this returns that time. `None` if the image stores neither.
    pub fn modified(&self) -> Option<SystemTime> {
        self.meta.mtime.or(self.meta.birth).map(system_time)
    }

    /// The time of the last access; `None` if the image does not store it.
    pub fn accessed(&self) -> Option<SystemTime> {
        self.meta.atime.map(system_time)
    }

    /// The time of the last change of the content or the metadata; `None` if the image does not
    /// store it.
    pub fn changed(&self) -> Option<SystemTime> {
        self.meta.ctime.map(system_time)
    }

    /// The time of creation; `None` if the image does not store it.
    pub fn created(&self) -> Option<SystemTime> {
        self.meta.birth.map(system_time)
    }

    /// Permission bits, including the set-id and sticky bits; `None` if the image does not store
    /// them.
    pub fn permissions(&self) -> Option<u32> {
        self.meta.mode.map(|mode| mode & 0o7777)
    }

    /// The number of the owner; `None` if the image does not store it.
    pub fn uid(&self) -> Option<u32> {
        self.meta.uid
    }

    /// The number of the group; `None` if the image does not store it.
    pub fn gid(&self) -> Option<u32> {
        self.meta.gid
    }
}

/// The metadata to set. For an existing entry, a value of `None` is left as it is. A new entry gets
/// the usual value instead: the current time, the user and group of the caller, and the permissions
/// 0644, or 0755 for a directory.
///
/// The convention of the image decides which values can be stored. The others are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetMetadata {
    /// The time of the last change of the content.
    pub modified: Option<SystemTime>,
    /// The time of the last access.
    pub accessed: Option<SystemTime>,
    /// The time of the last change of the content or the metadata. The default is the current time.
    pub changed: Option<SystemTime>,
    /// The time of creation.
    pub created: Option<SystemTime>,
    /// Permission bits, including the set-id and sticky bits.
    pub permissions: Option<u32>,
    /// The number of the owner.
    pub uid: Option<u32>,
    /// The number of the group.
    pub gid: Option<u32>,
}

impl SetMetadata {
    /// All values in `metadata`, to give one entry the metadata of another.
    pub fn like(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified(),
            accessed: metadata.accessed(),
            changed: metadata.changed(),
            created: metadata.created(),
            permissions: metadata.permissions(),
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }

    /// The values for an existing entry of this type, which changes at the time `now`.
    pub(super) fn meta(&self, file_type: FileType, now: i64) -> Meta {
        Meta {
            atime: nanos(self.accessed),
            mtime: nanos(self.modified),
            ctime: nanos(self.changed).or(Some(now)),
            birth: nanos(self.created),
            mode: self.permissions.map(|mode| file_type.mode_bits() | (mode & 0o7777)),
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// The values for a new entry of this type, which is made at the time `now`.
    fn meta_of_new(&self, codec: &Codec, file_type: FileType, now: i64) -> Meta {
        let mtime = nanos(self.modified).unwrap_or(now);
        let given = self.meta(file_type, mtime);
        let mut meta = Meta {
            atime: given.atime.or(Some(mtime)),
            mtime: Some(mtime),
            birth: given.birth.or(Some(mtime)),
            ..given
        };
        if codec.convention().has_owners() {
            let mode = file_type.mode_bits() | file_type.permissions();
            meta.mode = meta.mode.or(Some(mode));
            meta.uid = meta.uid.or_else(|| Some(sys::effective_uid()));
            meta.gid = meta.gid.or_else(|| Some(sys::effective_gid()));
        }
        meta
    }
}

impl Core {
    /// The metadata of the entry at `place`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, and an error if it is damaged or cannot be
    /// read.
    pub fn metadata(&mut self, place: Place<'_>) -> Result<Metadata> {
        let codec = self.codec.as_ref();
        match place {
            Place::Root => {
                let node = Node::Dir(ROOT);
                self.fs.with_attrs(At::Root, |attrs| Metadata::new(codec, node, attrs))
            }
            Place::Entry(dir, name) => {
                let node = self.fs.lookup(dir, name)?;
                self.fs.with_attrs(place.at(), |attrs| Metadata::new(codec, node, attrs))
            }
        }
    }

    /// The user attributes of a new entry.
    pub fn initial_attrs(&self, file_type: FileType, set: &SetMetadata) -> Vec<(u8, Vec<u8>)> {
        let Some(codec) = &self.codec else { return Vec::new() };
        let meta = set.meta_of_new(codec, file_type, self.now());
        codec.initial(&meta, target(file_type))
    }

    /// Store `meta` in the user attributes of `at`, as far as the convention has a place for it.
    ///
    /// # Errors
    /// Those of [`Fs::set_attr`](crate::fs::Fs::set_attr).
    pub fn put_meta(&mut self, at: At<'_>, meta: &Meta, target: Target) -> Result<()> {
        let Some(codec) = &self.codec else { return Ok(()) };
        let changes = self.fs.with_attrs(at, |attrs| codec.write(attrs, meta, target))?;
        changes.iter().try_for_each(|(ty, data)| self.fs.set_attr(at, *ty, data))
    }

    /// Note that the content of `at` has just changed. If there is no space for the new time, this
    /// is not an error, because the change itself has been made.
    pub fn touch(&mut self, at: At<'_>, target: Target) {
        if self.codec.is_none() {
            return;
        }
        let now = Some(self.now());
        let meta = Meta { mtime: now, ctime: now, ..Meta::default() };
        if let Err(e) = self.put_meta(at, &meta, target) {
            log::warn!("the time of a change is not stored: {e}");
        }
    }
}

/// The rules of the convention that apply to an entry of this type.
pub(super) fn target(file_type: FileType) -> Target {
    if file_type == FileType::Dir { Target::Dir } else { Target::File }
}

impl Littlefs {
    /// The metadata of the entry at `path`.
    ///
    /// # Errors
    /// If there is no such entry, or it is damaged.
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        let mut core = self.core();
        let place = core.place(path.as_ref())?;
        core.metadata(place)
    }

    /// Where the content of the entry at `path` is stored.
    ///
    /// # Errors
    /// If there is no such entry, or it is damaged.
    pub fn storage(&self, path: impl AsRef<[u8]>) -> Result<Storage> {
        let mut core = self.core();
        match core.place(path.as_ref())? {
            Place::Root => core.fs.storage_of_dir(ROOT),
            Place::Entry(dir, name) => core.fs.storage(dir, name),
        }
    }

    /// Whether there is an entry at `path`.
    ///
    /// # Errors
    /// If this cannot be known, because the path is not valid or a directory in it is damaged.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        let mut core = self.core();
        match core.place(path.as_ref()).and_then(|place| core.node(place)) {
            Ok(_) => Ok(true),
            Err(Error::NotFound | Error::NotDirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Set times, permissions and owner of the entry at `path`, as far as the convention of the
    /// image can store them.
    ///
    /// # Errors
    /// If there is no such entry, if the filesystem is read-only, or if there is no space.
    pub fn set_metadata(&self, path: impl AsRef<[u8]>, set: &SetMetadata) -> Result<()> {
        let mut core = self.core();
        let place = core.place(path.as_ref())?;
        let file_type = core.metadata(place)?.file_type;
        let target = match place {
            Place::Root => Target::Root,
            Place::Entry(..) => target(file_type),
        };
        let meta = set.meta(file_type, core.now());
        core.put_meta(place.at(), &meta, target)
    }

    /// The target of the symbolic link at `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the entry is not a symbolic link, and the errors of
    /// [`Littlefs::read`].
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut core = self.core();
        let place = core.place(path.as_ref())?;
        if !core.metadata(place)?.is_symlink() {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let (dir, name) = place.entry()?;
        core.fs.read_value(dir, name)
    }
}
