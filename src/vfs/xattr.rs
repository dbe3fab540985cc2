//! Extended attributes: `user.littlefs.0xNN` is the user attribute of type NN. If the convention of
//! the image stores everything that a Linux filesystem stores, any other `user.` name works as
//! well. All of these attributes are in one user attribute.
//!
//! If the device keeps savepoints, setting `user.littlefs.savepoint` on the root makes a savepoint.
//! The value is the name of the new savepoint, and reading it returns the name of the last one.
//!
//! ```text
//! type 'X' (0x58), repeated:
//! byte  0      length of the name
//! bytes 1-2    length of the value, little-endian
//! then the name, without "user.", and the value
//! ```

use super::flusher::Change;
use super::inode::Entry;
use super::{ROOT_INO, VfsError, VfsResult, Volume};
use crate::error::Error;
use crate::fs::Fs;

/// The type that holds names and values.
const PAIRS: u8 = b'X';
const USER: &[u8] = b"user.";
const RAW: &[u8] = b"littlefs.0x";
/// The attribute that makes savepoints.
const SAVEPOINT: &[u8] = b"user.littlefs.savepoint";

/// Whether setting an attribute may create it, replace it, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetMode {
    /// Both.
    Any,
    /// Create it. Fail if it exists.
    Create,
    /// Replace it. Fail if it does not exist.
    Replace,
}

/// What the name of an extended attribute stands for.
enum Name<'a> {
    /// The user attribute of this type.
    Raw(u8),
    /// A name in the user attribute [`PAIRS`].
    Pair(&'a [u8]),
}

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

impl Volume {
    /// Whether user attributes are shown as extended attributes.
    pub fn has_xattrs(&self) -> bool {
        self.options.user_xattr
    }

    /// Whether any extended attribute can be set. Without [`Self::has_xattrs`], this is only the
    /// one for savepoints.
    pub fn takes_xattrs(&self) -> bool {
        self.has_xattrs() || self.savepoints.get().is_some()
    }

    /// Whether an attribute stands for the savepoints, and is not in the image.
    pub fn is_savepoint(&self, ino: u64, name: &[u8]) -> bool {
        ino == ROOT_INO && name == SAVEPOINT && self.savepoints.get().is_some()
    }

    /// Make everything durable and give that state a name.
    fn save(&self, name: &[u8], mode: SetMode) -> VfsResult<()> {
        let savepoints = self.savepoints.get().ok_or(VfsError::NotSupported)?;
        let there = savepoints.exists(name);
        match mode {
            SetMode::Create if there => return Err(VfsError::AttrExists),
            SetMode::Replace if !there => return Err(Error::NoAttr.into()),
            _ => {}
        }
        // with the core locked, so that no change comes between the flush and the savepoint
        let mut core = self.core();
        self.flush_core(&mut core)?;
        savepoints.save(name)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// If there is no such attribute, or the inode is gone.
    pub fn get_xattr(&self, ino: u64, name: &[u8]) -> VfsResult<Vec<u8>> {
        if self.is_savepoint(ino, name) {
            let last = self.savepoints.get().and_then(|savepoints| savepoints.last());
            return Ok(last.ok_or(Error::NoAttr)?.into_bytes());
        }
        let name = self.xattr_name(name)?;
        let entry = self.entry(ino).ok_or(Error::NoAttr)?;
        let mut core = self.core();
        Ok(match name {
            Name::Raw(ty) => core.get_attr(entry.at(), ty)?,
            Name::Pair(name) => {
                let data = pairs_of(&mut core, &entry)?;
                let found = parse(&data)?.into_iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| value.to_vec()).ok_or(Error::NoAttr)?
            }
        })
    }

    /// The names of all extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    /// If the inode is gone, or cannot be read.
    pub fn list_xattrs(&self, ino: u64) -> VfsResult<Vec<u8>> {
        let mut names = Vec::new();
        let Some(entry) = self.entry(ino) else { return Ok(names) };
        let mut core = self.core();
        for ty in core.list_attrs(entry.at())? {
            if !self.is_managed(ty) {
                names.extend_from_slice(format!("user.littlefs.{ty:#04x}\0").as_bytes());
            }
        }
        if self.has_pairs() {
            for (name, _) in parse(&pairs_of(&mut core, &entry)?)? {
                names.extend_from_slice(&[USER, name, b"\0"].concat());
            }
        }
        Ok(names)
    }

    /// Set an extended attribute.
    ///
    /// # Errors
    /// If the name is not one of those that can be set, if the value is too long or has no space,
    /// or if `flags` forbid it.
    pub fn set_xattr(&self, ino: u64, name: &[u8], value: &[u8], mode: SetMode) -> VfsResult<()> {
        if self.is_savepoint(ino, name) {
            return self.save(value, mode);
        }
        if !self.has_xattrs() {
            return Err(VfsError::NotSupported);
        }
        let name = self.xattr_name(name)?;
        let ((), mut core) = self.with_space(|core| {
            let entry = self.entry(ino).ok_or(Error::NotFound)?;
            let (ty, there, data) = match name {
                Name::Raw(ty) => {
                    let there = core.list_attrs(entry.at())?.contains(&ty);
                    (ty, there, value.to_vec())
                }
                Name::Pair(name) => {
                    let old = pairs_of(core, &entry)?;
                    let mut pairs = parse(&old)?;
                    let before = pairs.len();
                    pairs.retain(|(n, _)| *n != name);
                    let there = pairs.len() < before;
                    pairs.push((name, value));
                    (PAIRS, there, encode(&pairs)?)
                }
            };
            match mode {
                SetMode::Create if there => return Err(VfsError::AttrExists),
                SetMode::Replace if !there => return Err(Error::NoAttr.into()),
                _ => {}
            }
            self.check_managed(&name)?;
            Ok(core.set_attr(entry.at(), ty, &data)?)
        })?;
        self.xattr_changed(&mut core, ino)
    }

    /// Remove an extended attribute.
    ///
    /// # Errors
    /// If there is no such attribute, or it cannot be removed.
    pub fn remove_xattr(&self, ino: u64, name: &[u8]) -> VfsResult<()> {
        let name = self.xattr_name(name)?;
        self.check_managed(&name)?;
        let entry = self.entry(ino).ok_or(Error::NoAttr)?;
        let mut core = self.core();
        match name {
            Name::Raw(ty) => core.remove_attr(entry.at(), ty)?,
            Name::Pair(name) => {
                let old = pairs_of(&mut core, &entry)?;
                let mut pairs = parse(&old)?;
                let before = pairs.len();
                pairs.retain(|(n, _)| *n != name);
                match pairs.len() {
                    n if n == before => return Err(Error::NoAttr.into()),
                    0 => core.remove_attr(entry.at(), PAIRS)?,
                    _ => core.set_attr(entry.at(), PAIRS, &encode(&pairs)?)?,
                }
            }
        }
        self.xattr_changed(&mut core, ino)
    }

    fn xattr_changed(&self, core: &mut Fs, ino: u64) -> VfsResult<()> {
        let now = self.now();
        if let Some(inode) = self.inodes.lock().get_mut(ino) {
            inode.status_changed(now);
        }
        self.store(core, ino);
        Ok(self.settle(core, Change::Entries)?)
    }

    fn xattr_name<'a>(&self, name: &'a [u8]) -> VfsResult<Name<'a>> {
        let name = name.strip_prefix(USER).ok_or(VfsError::NotSupported)?;
        if let Some(digits) = name.strip_prefix(RAW) {
            let is_hex = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex);
            let ty = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
            return ty.map(Name::Raw).ok_or(VfsError::NotSupported);
        }
        if self.has_pairs() { Ok(Name::Pair(name)) } else { Err(VfsError::NotSupported) }
    }

    fn has_pairs(&self) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.convention().special_files)
    }

    /// Whether the mount itself writes the user attributes of this type. Setting them directly
    /// would bypass the permissions that they hold.
    fn is_managed(&self, ty: u8) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.owns(ty)) || (self.has_pairs() && ty == PAIRS)
    }

    fn check_managed(&self, name: &Name<'_>) -> VfsResult<()> {
        match name {
            Name::Raw(ty) if self.is_managed(*ty) => Err(VfsError::NotPermitted),
            _ => Ok(()),
        }
    }
}

fn pairs_of(core: &mut Fs, entry: &Entry) -> VfsResult<Vec<u8>> {
    match core.get_attr(entry.at(), PAIRS) {
        Err(Error::NoAttr) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

fn parse(mut data: &[u8]) -> VfsResult<Pairs<'_>> {
    let mut pairs = Vec::new();
    while let [name_len, low, high, rest @ ..] = data {
        let (name_len, value_len) =
            (usize::from(*name_len), usize::from(u16::from_le_bytes([*low, *high])));
        let split = rest.split_at_checked(name_len);
        let Some((name, Some((value, rest)))) =
            split.map(|(name, rest)| (name, rest.split_at_checked(value_len)))
        else {
            break;
        };
        pairs.push((name, value));
        data = rest;
    }
    if data.is_empty() {
        Ok(pairs)
    } else {
        Err(Error::Invalid(
            "the user attribute 0x58 of this entry was not written as a list of extended \
             attributes; 'setfattr -x user.littlefs.0x58' removes it",
        )
        .into())
    }
}

fn encode(pairs: &Pairs<'_>) -> VfsResult<Vec<u8>> {
    let mut data = Vec::new();
    for (name, value) in pairs {
        let too_large = |_| Error::AttrTooLarge;
        data.push(u8::try_from(name.len()).map_err(too_large)?);
        data.extend(u16::try_from(value.len()).map_err(too_large)?.to_le_bytes());
        data.extend_from_slice(name);
        data.extend_from_slice(value);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_written() {
        let pairs: Pairs<'_> = vec![(b"a", b""), (b"comment", b"some text")];
        let data = encode(&pairs).expect("small");
        assert_eq!(data[..4], [1, 0, 0, b'a']);
        assert_eq!(parse(&data).expect("valid"), pairs);
        assert!(parse(&[]).expect("valid").is_empty());
        for cut in 1..data.len() {
            assert_eq!(parse(&data[..cut]).is_ok(), cut == 4, "{cut}");
        }
        assert!(encode(&vec![(b"a", &vec![0; 1 << 16])]).is_err());
    }
}
