//! Creating, removing, renaming and copying entries, and reading and writing whole files.

use super::file::File;
use super::metadata::{FileType, SetMetadata, target};
use super::path::{Place, components};
use super::{Core, Littlefs};
use crate::convention::{Meta, Target};
use crate::error::{Error, Result};
use crate::fs::{At, Attrs, Content, DirId, Node, ROOT};

/// Files of up to this many bytes are read while the filesystem is locked, because opening them
/// would take longer.
const READ_AT_ONCE: u32 = 64 << 10;
/// How many bytes are copied at a time.
const COPY: usize = 256 << 10;

impl Littlefs {
    /// The content of the file at `path`.
    ///
    /// # Errors
    /// If there is no such file, or its content cannot be read.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut core = self.core();
        let (dir, name) = match core.place(path.as_ref())? {
            Place::Root => return Err(Error::IsDirectory),
            Place::Entry(dir, name) => (dir, name),
        };
        match core.fs.lookup(dir, name)? {
            Node::File { size } if size > READ_AT_ONCE => {}
            // this returns an error for a directory
            _ => return core.fs.read_value(dir, name),
        }
        drop(core);
        let file = self.open_file(path)?;
        let mut content = vec![0; usize::try_from(file.len()).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut content, 0)?;
        content.truncate(read);
        Ok(content)
    }

    /// Replace the content of the file at `path`, or create the file. Its directory must exist.
    /// Users who have the file open keep the old content.
    ///
    /// # Errors
    /// If `path` is a directory, if the directory that contains it does not exist, if the image
    /// does not allow such a file, if the filesystem is read-only, or if there is no space. Then
    /// nothing is changed.
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        self.write_with(path, content, &SetMetadata::default())
    }

    /// Like [`Littlefs::write`], and set the metadata of the file at the same time.
    ///
    /// # Errors
    /// Those of [`Littlefs::write`].
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
    /// [`Error::Exists`] if there is an entry already, [`Error::Invalid`] if the convention of the
    /// image cannot store symbolic links, and the errors of [`Littlefs::write`].
    pub fn symlink(&self, target: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Result<()> {
        self.make_special(path, FileType::Symlink, target, &SetMetadata::default())
    }

    /// Make a special file at `path`: a symbolic link, whose `content` is its target; a device,
    /// whose content is its number; or a FIFO or a socket, without content.
    ///
    /// # Errors
    /// Those of [`Littlefs::symlink`].
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

    /// Make a directory. The directory that contains it must exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is an entry already. Also if the directory that should contain it
    /// does not exist, the name is not valid, the filesystem is read-only, or there is no space.
    pub fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.create_dir_with(path, &SetMetadata::default())
    }

    /// Like [`Littlefs::create_dir`], and set the metadata of the directory at the same time.
    ///
    /// # Errors
    /// Those of [`Littlefs::create_dir`].
    pub fn create_dir_with(&self, path: impl AsRef<[u8]>, set: &SetMetadata) -> Result<()> {
        let mut core = self.core();
        match core.place(path.as_ref())? {
            Place::Root => Err(Error::Exists),
            Place::Entry(dir, name) => core.make_dir(dir, name, set).map(|_| ()),
        }
    }

    /// Make a directory, and the directories above it that do not exist.
    ///
    /// # Errors
    /// [`Error::NotDirectory`] if one of them is a file, and the errors of
    /// [`Littlefs::create_dir`].
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

    /// Remove the file at `path`. Users who have it open keep its content.
    ///
    /// # Errors
    /// [`Error::IsDirectory`] for a directory. Also if there is no such file, or the filesystem is
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
    /// [`Error::NotEmpty`] if it has entries, [`Error::NotDirectory`] for a file. Also if there is
    /// no such directory, or the filesystem is read-only.
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
    /// Those of [`Littlefs::remove_dir`]. If an entry cannot be removed, the entries before it have
    /// been removed already.
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
                        // the remaining entries are listed again when this directory has been
                        // removed
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

    /// Rename the entry `from` to `to`, as rename(2) does: a file replaces a file, and a directory
    /// replaces an empty directory. Files stay open under the new name.
    ///
    /// # Errors
    /// If `from` does not exist, if the types do not match, if a directory would be moved into
    /// itself, if the filesystem is read-only, or if there is no space.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        self.core().rename(from.as_ref(), to.as_ref(), false)
    }

    /// Like [`Littlefs::rename`], but an existing entry `to` is not replaced.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is an entry `to`, and the errors of [`Littlefs::rename`].
    pub fn rename_new(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        self.core().rename(from.as_ref(), to.as_ref(), true)
    }

    /// Copy the file `from` to the file `to`, with its content and its user attributes. An existing
    /// file `to` is replaced. Returns the number of bytes of content.
    ///
    /// # Errors
    /// If `from` is not a file or cannot be read, and the errors of [`Littlefs::write`]. After an
    /// error, no incomplete new file is left.
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
            // the first error is the one to return
            let _ = self.remove_file(to);
        }
        copied
    }

    /// Give the entry at `to` exactly the user attributes of the entry at `from`. If the image
    /// stores times, owner and mode, they are copied, too, because they are user attributes.
    ///
    /// # Errors
    /// If there is no such entry, if the filesystem is read-only, or if there is no space.
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
    /// Set the content of the file at `path`, and its type.
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

    /// Note that entries of `dir` have just been added or removed.
    pub fn dir_changed(&mut self, dir: DirId) {
        let target = if dir == ROOT { Target::Root } else { Target::Dir };
        self.touch(At::Dir(dir), target);
    }
}
