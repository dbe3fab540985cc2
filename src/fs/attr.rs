//! User attributes (SPEC: `0x3xx` USERATTR).

use super::dir::Place;
use super::value::Attrs;
use super::{DirId, FileId, Fs, Node, ROOT};
use crate::error::{Error, Result};
use crate::mdir::{Attr, Kind};

/// The thing that an attribute belongs to.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The entry with this name in a directory.
    Entry(DirId, &'a [u8]),
    /// The root directory. Its attributes are stored with the superblock entry.
    Root,
    /// A directory, wherever its entry is.
    Dir(DirId),
    /// An open file, wherever its entry is.
    File(FileId),
}

impl Fs {
    fn attr_place(&mut self, at: At) -> Result<Place> {
        match at {
            At::Entry(dir, name) => self.find(dir, name)?.ok_or(Error::NotFound),
            At::Dir(dir) if dir != ROOT => {
                // the entry can be read even if the directory itself cannot
                let d = self.dirs.get(dir).filter(|d| d.alive).ok_or(Error::NotFound)?;
                let (parent, name) = (d.parent, d.name.clone());
                self.find(parent, &name)?.ok_or(Error::NotFound)
            }
            At::File(file) => {
                self.opened(file)?;
                self.place_of(file)
            }
            At::Root | At::Dir(_) => {
                let pair = self.dir(ROOT)?.pairs[0];
                let at = self.mdir(pair)?.entries.iter().position(|e| e.kind == Kind::Superblock);
                Ok(Place { pair, at: at.ok_or(Error::NotFound)? })
            }
        }
    }

    /// The data of attribute `ty`.
    ///
    /// # Errors
    /// [`Error::NoAttr`] if there is none of this type, [`Error::NotFound`] if there is no such
    /// entry, and an error if its pair cannot be read.
    pub fn get_attr(&mut self, at: At, ty: u8) -> Result<Vec<u8>> {
        let _running = self.run();
        let place = self.attr_place(at)?;
        let attr = self.entry(place)?.attrs.iter().find(|a| a.ty == ty);
        attr.and_then(|a| a.data.as_deref()).map(<[u8]>::to_vec).ok_or(Error::NoAttr)
    }

    /// Call `read` with all attributes, and return its result.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, and an error if its pair cannot be read.
    pub fn with_attrs<T>(&mut self, at: At, read: impl FnOnce(&mut Attrs<'_>) -> T) -> Result<T> {
        let _running = self.run();
        let place = self.attr_place(at)?;
        Ok(read(&mut self.entry(place)?.present()))
    }

    /// What `name` in `dir` refers to, and the result of `read` for its attributes.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`].
    pub fn lookup_with_attrs<T>(
        &mut self,
        dir: DirId,
        name: &[u8],
        read: impl FnOnce(&mut Attrs<'_>) -> T,
    ) -> Result<(Node, T)> {
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let node = self.node(place)?;
        Ok((node, read(&mut self.entry(place)?.present())))
    }

    /// The types of all attributes, in ascending order.
    ///
    /// # Errors
    /// Those of [`Fs::with_attrs`].
    pub fn list_attrs(&mut self, at: At) -> Result<Vec<u8>> {
        let _running = self.run();
        let place = self.attr_place(at)?;
        let attrs = self.entry(place)?.attrs.iter();
        let mut types: Vec<u8> = attrs.filter(|a| a.data.is_some()).map(|a| a.ty).collect();
        types.sort_unstable();
        Ok(types)
    }

    /// The attributes of a new entry.
    pub(super) fn new_attrs(&self, attrs: &[(u8, Vec<u8>)]) -> Result<Vec<Attr>> {
        attrs.iter().try_for_each(|(_, data)| self.check_attr(data))?;
        let attr =
            |(ty, data): &(u8, Vec<u8>)| Attr { ty: *ty, data: Some(data[..].into()), dirty: true };
        Ok(attrs.iter().map(attr).collect())
    }

    fn check_attr(&self, data: &[u8]) -> Result<()> {
        if data.len() as u32 > self.superblock.attr_max { Err(Error::AttrTooLarge) } else { Ok(()) }
    }

    /// Set attribute `ty` to `data`.
    ///
    /// # Errors
    /// [`Error::AttrTooLarge`] if `data` is longer than `attr_max`, [`Error::NoSpace`],
    /// [`Error::ReadOnly`], and the errors of [`Fs::with_attrs`].
    pub fn set_attr(&mut self, at: At, ty: u8, data: &[u8]) -> Result<()> {
        let _running = self.begin()?;
        self.check_attr(data)?;
        self.with_room(|fs| fs.put_attr(at, ty, Some(data)))
    }

    /// Remove attribute `ty`.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and the errors of [`Fs::get_attr`].
    pub fn remove_attr(&mut self, at: At, ty: u8) -> Result<()> {
        let _running = self.begin()?;
        self.get_attr(at, ty)?;
        self.put_attr(at, ty, None)
    }

    fn put_attr(&mut self, at: At, ty: u8, data: Option<&[u8]>) -> Result<()> {
        let new = data.map_or(0, |d| 4 + d.len() as u32);
        let mut place = self.attr_place(at)?;
        if let Some(file) = self.entry(place)?.file {
            self.keep_saved(file)?;
        }
        loop {
            let attrs = &self.entry(place)?.attrs;
            let old = attrs.iter().find(|a| a.ty == ty).and_then(|a| a.data.as_ref());
            let old = old.map_or(0, |d| 4 + d.len() as u32);
            let fits = new <= old || self.grow_in_place(place.pair, new - old)?;
            place = self.attr_place(at)?;
            if fits {
                break;
            }
        }
        self.mdir_mut(place.pair)?.update(place.at, |e| {
            let attr = Attr { ty, data: data.map(Into::into), dirty: true };
            e.attrs.change(|attrs| match attrs.iter_mut().find(|a| a.ty == ty) {
                Some(a) => *a = attr,
                None => attrs.push(attr),
            });
        });
        Ok(())
    }
}
