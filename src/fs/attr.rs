//! User attributes (SPEC: `0x3xx` USERATTR).

use super::dir::Place;
use super::{DirId, Fs, ROOT};
use crate::error::{Error, Result};
use crate::mdir::{Attr, Kind};

/// What an attribute belongs to.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The entry of that name in a directory.
    Entry(DirId, &'a [u8]),
    /// The root directory; its attributes stand at the superblock entry.
    Root,
}

impl Fs {
    fn attr_place(&mut self, at: At) -> Result<Place> {
        match at {
            At::Entry(dir, name) => self.find(dir, name)?.ok_or(Error::NotFound),
            At::Root => {
                let pair = self.dir(ROOT)?.pairs[0];
                let at = self.mdir(pair)?.entries.iter().position(|e| e.kind == Kind::Superblock);
                Ok(Place { pair, at: at.ok_or(Error::NotFound)? })
            }
        }
    }

    /// The data of attribute `ty`.
    pub fn get_attr(&mut self, at: At, ty: u8) -> Result<Vec<u8>> {
        let place = self.attr_place(at)?;
        let attr = self.entry(place)?.attrs.iter().find(|a| a.ty == ty);
        attr.and_then(|a| a.data.as_deref()).map(<[u8]>::to_vec).ok_or(Error::NoAttr)
    }

    /// The types of all attributes, ascending.
    pub fn list_attrs(&mut self, at: At) -> Result<Vec<u8>> {
        let place = self.attr_place(at)?;
        let attrs = self.entry(place)?.attrs.iter();
        let mut types: Vec<u8> = attrs.filter(|a| a.data.is_some()).map(|a| a.ty).collect();
        types.sort_unstable();
        Ok(types)
    }

    /// Set attribute `ty` to `data`.
    pub fn set_attr(&mut self, at: At, ty: u8, data: &[u8]) -> Result<()> {
        self.begin()?;
        if data.len() as u32 > self.superblock.attr_max {
            return Err(Error::AttrTooLarge);
        }
        self.with_space(|fs| fs.put_attr(at, ty, Some(data)))
    }

    /// Remove attribute `ty`.
    pub fn remove_attr(&mut self, at: At, ty: u8) -> Result<()> {
        self.begin()?;
        self.get_attr(at, ty)?;
        self.put_attr(at, ty, None)
    }

    fn put_attr(&mut self, at: At, ty: u8, data: Option<&[u8]>) -> Result<()> {
        let new = data.map_or(0, |d| 4 + d.len() as u32);
        let mut place = self.attr_place(at)?;
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
            match e.attrs.iter_mut().find(|a| a.ty == ty) {
                Some(a) => *a = attr,
                None => e.attrs.push(attr),
            }
        });
        Ok(())
    }
}
