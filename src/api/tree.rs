//! Creating, removing, renaming and copying entries; content as a whole.

use super::file::File;
use super::metadata::{FileType, SetMetadata, target};
use super::path::{Place, components};
use super::{Core, Littlefs};
use crate::convention::{Meta, Target};
use crate::error::{Error, Result};
use crate::fs::{At, Attrs, Content, DirId, Node, ROOT};

/// Files up to this many bytes are read with the filesystem locked; opening them would cost more.
const READ_AT_ONCE: u32 = 64 << 10;
/// Bytes copied at once.
const COPY: usize = 256 << 10;

impl Littlefs {
    /// The content of the file at `path`.
    ///
    /// # Errors
    /// When there is no such file, or its content cannot be read.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut core = self.core();
        let (dir, name) = match core.place(path.as_ref())? {
            Place::Root => return Err(Error::IsDirectory),
            Place::Entry(dir, name) => (dir, name),
        };
        match core.fs.lookup(dir, name)? {
            Node::File { size } if size > READ_AT_ONCE => {}
            // of a directory it is an error
            _ => return core.fs.read_value(dir, name),
        }
        drop(core);
        let file = self.open_file(path)?;
        let mut content = vec![0; usize::try_from(file.len()).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut content, 0)?;
        content.truncate(read);
        Ok(content)
    }

    /// Set the content of the file at `path`, which is made if it is not there. Its directory must
    /// exist. Whoever has the file open goes on with what it was.
    ///
    /// # Errors
    /// When there is a directory at `path` or none around it, the image's limits forbid it, the
    /// filesystem is read-only, or there is no space. Then nothing is changed.
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        self.write_with(path, content, &SetMetadata::default())
    }

    /// The same, and set metadata of the file with it.
    ///
    /// # Errors
    /// As [`Littlefs::write`].
    pub fn write_with(
        &self,
        path: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
        set: &SetMetadata,
    ) -> Result<()> {
        self.core().write_as(path.as_ref(), FileType::File, content.as_ref(), set)
    }

    /// Make a symbolic link at `path` that leads to `target`.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is an entry already, [`Error::Invalid`] if the image's convention
    /// knows no symbolic links, and as [`Littlefs::write`].
    pub fn symlink(&self, target: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Result<()> {
        self.make_special(path, FileType::Symlink, target, &SetMetadata::default())
    }

    /// Make a file at `path` that stands for something else: a symbolic link, whose `content` is its
    /// target, a device, whose content is its number, a FIFO or a socket without content.
    ///
    /// # Errors
    /// As [`Littlefs::symlink`].
    pub fn make_special(
        &self,
        path: impl AsRef<[u8]>,
        file_type: FileType,
        content: impl AsRef<[u8]>,
        set: &SetMetadata,
    ) -> Result<()> {
        let mut core = self.core();
        if matches!(file_type, FileType::File | FileType::Dir) {
            return Err(Error::Invalid(
                "this call makes special files only, not files or directories",
            ));
        }
        if !core.codec.as_ref().is_some_and(|codec| codec.convention().special_files) {
            return Err(Error::Invalid("the attributes of the image cannot mark special files"));
        }
        let place = core.place(path.as_ref())?;
        match core.node(place) {
            Err(Error::NotFound) => {}
            Ok(_) => return Err(Error::Exists),
            Err(e) => return Err(e),
        }
        core.write_as(path.as_ref(), file_type, content.as_ref(), set)
    }

    /// Make a directory. The one around it must exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is an entry already; when there is no directory around it, the
    /// name is impossible, the filesystem is read-only, or there is no space.
    pub fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.create_dir_with(path, &SetMetadata::default())
    }

    /// The same, and set metadata of the directory with it.
    ///
    /// # Errors
    /// As [`Littlefs::create_dir`].
    pub fn create_dir_with(&self, path: impl AsRef<[u8]>, set: &SetMetadata) -> Result<()> {
        let mut core = self.core();
        match core.place(path.as_ref())? {
            Place::Root => Err(Error::Exists),
            Place::Entry(dir, name) => core.make_dir(dir, name, set).map(|_| ()),
        }
    }

    /// Make a directory and those around it, as far as they are missing.
    ///
    /// # Errors
    /// [`Error::NotDirectory`] if one of them is a file, and as [`Littlefs::create_dir`].
    pub fn create_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let mut core = self.core();
        let mut dir = ROOT;
        for name in components(path.as_ref())? {
            dir = match core.child(dir, name) {
                Err(Error::NotFound) => core.make_dir(dir, name, &SetMetadata::default())?,
                child => child?,
            };
        }
        Ok(())
    }

    /// Remove the file at `path`. Whoever has it open goes on with its content.
    ///
    /// # Errors
    /// [`Error::IsDirectory`] for a directory; when there is no such file, or the filesystem is
    /// read-only.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let mut core = self.core();
        match core.place(path.as_ref())? {
            Place::Root => Err(Error::IsDirectory),
            Place::Entry(dir, name) => {
                core.fs.unlink(dir, name)?;
                core.dir_changed(dir);
                Ok(())
            }
        }
    }

    /// Remove the empty directory at `path`.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there are entries in it, [`Error::NotDirectory`] for a file; when there
    /// is no such directory, or the filesystem is read-only.
    pub fn remove_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let mut core = self.core();
        let (dir, name) = core.place(path.as_ref())?.entry()?;
        core.fs.rmdir(dir, name)?;
        core.dir_changed(dir);
        Ok(())
    }

    /// Remove the directory at `path` with everything in it.
    ///
    /// # Errors
    /// As [`Littlefs::remove_dir`]. If one of the entries cannot be removed, those before it are gone.
    pub fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let mut core = self.core();
        let (dir, name) = core.place(path.as_ref())?.entry()?;
        let mut open = vec![(dir, Box::from(name), core.child(dir, name)?)];
        while let Some((parent, name, dir)) = open.last() {
            let (parent, dir) = (*parent, *dir);
            let nodes = core.fs.nodes(dir, None, false)?;
            if nodes.is_empty() {
                core.fs.rmdir(parent, name)?;
                open.pop();
                continue;
            }
            for (name, node) in nodes {
                match node {
                    Node::Dir(child) => {
                        // The rest is found again when this one is gone.
                        open.push((dir, name, child));
                        break;
                    }
                    Node::File { .. } => core.fs.unlink(dir, &name)?,
                }
            }
        }
        core.dir_changed(dir);
        Ok(())
    }

    /// Rename the entry `from` to `to`, as rename(2): a file replaces a file, a directory an empty
    /// directory. Open files follow.
    ///
    /// # Errors
    /// When `from` does not exist, the kinds do not match, a directory would go below itself, the
    /// filesystem is read-only, or there is no space.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        self.core().rename(from.as_ref(), to.as_ref(), false)
    }

    /// The same, unless there is an entry `to` already.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is, and as [`Littlefs::rename`].
    pub fn rename_new(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        self.core().rename(from.as_ref(), to.as_ref(), true)
    }

    /// Copy the file `from` to the file `to`, content and user attributes, and say how many bytes
    /// it has. What `to` was is replaced, and its attributes with it.
    ///
    /// # Errors
    /// When `from` is no file or cannot be read, and as [`Littlefs::write`]. A new file `to` is not
    /// left behind half copied.
    pub fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let source = self.open_file(from)?;
        let is_new = !self.exists(to)?;
        if !is_new && self.is_same(from, to)? {
            return Ok(source.len());
        }
        let copied = self.copy_content(&source, to).and_then(|len| {
            self.copy_attrs(from, to)?;
            Ok(len)
        });
        if copied.is_err() && is_new {
            // the first error is the one that matters
            let _ = self.remove_file(to);
        }
        copied
    }

    /// Give the entry at `to` the user attributes of the one at `from`, and no others: times, owner and
    /// mode are among them, where the image keeps these.
    ///
    /// # Errors
    /// When there is no such entry, the filesystem is read-only, or there is no space.
    pub fn copy_attrs(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let attrs = self.attrs(from)?;
        for (ty, _) in self.attrs(&to)? {
            if !attrs.iter().any(|(kept, _)| *kept == ty) {
                self.remove_attr(&to, ty)?;
            }
        }
        attrs.iter().try_for_each(|(ty, data)| self.set_attr(&to, *ty, data))
    }

    fn copy_content(&self, source: &File, to: &[u8]) -> Result<u64> {
        let target = self.create_file(to)?;
        let mut buf = vec![0; COPY];
        let mut done = 0;
        loop {
            let read = source.read_at(&mut buf, done)?;
            if read == 0 {
                break;
            }
            target.write_at(&buf[..read], done)?;
            done += read as u64;
        }
        target.close()?;
        Ok(done)
    }

    /// Whether two paths lead to the same entry.
    fn is_same(&self, a: &[u8], b: &[u8]) -> Result<bool> {
        Ok(components(a)?.eq(components(b)?))
    }
}

impl Core {
    /// Set the content of the file at `path`, and what it is.
    fn write_as(
        &mut self,
        path: &[u8],
        file_type: FileType,
        content: &[u8],
        set: &SetMetadata,
    ) -> Result<()> {
        let Place::Entry(dir, name) = self.place(path)? else { return Err(Error::IsDirectory) };
        let initial = self.initial_attrs(file_type, set);
        let now = self.now();
        let mut meta = set.meta(file_type, now);
        meta.mtime = meta.mtime.or(Some(now));
        let codec = self.codec.as_ref();
        let existed = std::cell::Cell::new(false);
        let changes = |attrs: Option<&mut Attrs<'_>>| match (attrs, codec) {
            (Some(attrs), codec) => {
                existed.set(true);
                codec.map(|codec| codec.write(attrs, &meta, Target::File)).unwrap_or_default()
            }
            (None, _) => initial.clone(),
        };
        self.fs.set_value(dir, name, Content::Bytes(content), &changes)?;
        if !existed.get() {
            self.dir_changed(dir);
        }
        Ok(())
    }

    fn make_dir(&mut self, dir: DirId, name: &[u8], set: &SetMetadata) -> Result<DirId> {
        let attrs = self.initial_attrs(FileType::Dir, set);
        let child = self.fs.mkdir_with_attrs(dir, name, &attrs)?;
        self.dir_changed(dir);
        Ok(child)
    }

    fn rename(&mut self, from: &[u8], to: &[u8], no_replace: bool) -> Result<()> {
        let (dir, name) = self.place(from)?.entry()?;
        let (to_dir, to_name) = self.place(to)?.entry()?;
        self.fs.rename(dir, name, to_dir, to_name, no_replace)?;
        if (dir, name) == (to_dir, to_name) {
            return Ok(());
        }
        let file_type = match self.fs.lookup(to_dir, to_name)? {
            Node::Dir(_) => FileType::Dir,
            Node::File { .. } => FileType::File,
        };
        let meta = Meta { ctime: Some(self.now()), ..Meta::default() };
        if let Err(e) = self.put_meta(At::Entry(to_dir, to_name), &meta, target(file_type)) {
            log::warn!("the time of a change is not stored: {e}");
        }
        self.dir_changed(dir);
        if to_dir != dir {
            self.dir_changed(to_dir);
        }
        Ok(())
    }

    /// Entries of `dir` came or went just now.
    pub fn dir_changed(&mut self, dir: DirId) {
        let target = if dir == ROOT { Target::Root } else { Target::Dir };
        self.touch(At::Dir(dir), target);
    }
}
