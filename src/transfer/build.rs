//! Putting the entries of a manifest into an empty filesystem.

use std::fmt;
use std::io;

use super::Progress;
use super::manifest::{Item, Kind, Manifest, Stat};
use crate::check::show;
use crate::convention::{Codec, Meta, Target, device_content};
use crate::disk::name;
use crate::error::Error;
use crate::fs::{At, Content, DirId, Fs, Node, ROOT};

/// A file of at most this many bytes is read as a whole, and stored with a single search for its
/// name.
const WHOLE_MAX: u64 = 1 << 20;
/// How many bytes of a larger file are read at a time.
const PIECE: usize = 1 << 20;

/// How many changed metadata pairs are held in memory before they are written. Each may hold a
/// hundred entries, and an entry takes about two hundred bytes of memory.
const PAIRS_HELD: usize = 512;

/// How many bytes of metadata pairs are kept in memory. Stored entries are not needed again, except
/// for the directories of the next entry.
const CACHE: usize = 4 << 20;

/// An entry that the image cannot store, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its path.
    pub path: Vec<u8>,
    /// The reason, as part of a sentence.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", show(&self.path), self.why)
    }
}

/// Why a filesystem could not be filled.
#[derive(Debug)]
pub(super) enum BuildError {
    /// All entries that the filesystem cannot store.
    Refused(Vec<Refusal>),
    /// The content of an entry cannot be read on the host.
    Unreadable(Vec<u8>, io::Error),
    /// The filesystem failed.
    Fs(Error),
}

impl From<Error> for BuildError {
    fn from(e: Error) -> Self {
        Self::Fs(e)
    }
}

/// The entries that a filesystem cannot store, given its limits for names and files, and whether it
/// can store links and devices.
pub(super) fn refusals(
    manifest: &Manifest,
    name_max: u32,
    file_max: u32,
    special_files: bool,
) -> Vec<Refusal> {
    let why = |item: &Item| -> Option<String> {
        let (_, name) = item.split();
        if !name::is_presentable(name) {
            return Some("no file can have this name".to_owned());
        }
        if name.len() as u64 > u64::from(name_max) {
            let len = name.len();
            return Some(format!("the name has {len} bytes, but the image allows only {name_max}"));
        }
        if item.size > u64::from(file_max) {
            let size = item.size;
            return Some(format!(
                "the file has {size} bytes, but the image allows only {file_max}"
            ));
        }
        let what = match item.kind {
            Kind::Symlink if !special_files => "symbolic links",
            Kind::Special { .. } if !special_files => "devices, FIFOs and sockets",
            _ => return None,
        };
        Some(format!(
            "{what} can be stored only with --attrs=unix; give that option, or leave the entry out \
             with --exclude"
        ))
    };
    let refused = |item: &Item| Some(Refusal { path: item.path.to_vec(), why: why(item)? });
    manifest.items.iter().filter_map(refused).collect()
}

/// Store every entry, and flush. `progress` is called with the bytes of content that were stored so
/// far.
///
/// # Errors
/// One [`BuildError`] for each reason.
pub(super) fn build(
    fs: &mut Fs,
    manifest: &Manifest,
    codec: Option<&Codec>,
    root_attrs: &[(u8, Vec<u8>)],
    progress: &Progress<'_>,
) -> Result<(), BuildError> {
    fs.limit_cache(CACHE);
    let mut builder = Builder { fs, manifest, codec, progress, stored: 0, buf: Vec::new() };
    let mut refused = Vec::new();
    let mut dir = (ROOT, &[][..]);
    for item in &manifest.items {
        let (parent, name) = item.split();
        if dir.1 != parent {
            dir = match builder.directory(parent) {
                // the entry's directory was refused
                Err(BuildError::Fs(Error::NotFound)) if !refused.is_empty() => continue,
                found => (found?, parent),
            };
        }
        if builder.fs.dirty_pairs() > PAIRS_HELD {
            builder.fs.flush()?;
        }
        // only the filesystem code knows how long a name can be that fits into a metadata block
        match builder.store(dir.0, name, item) {
            Err(BuildError::Fs(e @ (Error::NameTooLong | Error::AttrTooLarge))) => {
                let why = match e {
                    Error::NameTooLong => {
                        "the name is too long for a metadata block of this block size"
                    }
                    _ => {
                        "a user attribute is larger than the image allows, or than a metadata block"
                    }
                };
                refused.push(Refusal { path: item.path.to_vec(), why: why.to_owned() });
            }
            other => other?,
        }
    }
    if !refused.is_empty() {
        return Err(BuildError::Refused(refused));
    }
    if let Some((codec, stat)) = codec.zip(manifest.root.as_ref()) {
        for (ty, data) in codec.initial(&meta(stat), Target::Root) {
            fs.set_attr(At::Root, ty, &data)?;
        }
    }
    let copied = manifest.root_attrs()?;
    for (ty, data) in copied.iter().chain(root_attrs) {
        fs.set_attr(At::Root, *ty, data)?;
    }
    Ok(fs.flush()?)
}

struct Builder<'a> {
    fs: &'a mut Fs,
    manifest: &'a Manifest,
    codec: Option<&'a Codec>,
    progress: &'a Progress<'a>,
    stored: u64,
    buf: Vec<u8>,
}

impl Builder<'_> {
    fn directory(&mut self, path: &[u8]) -> Result<DirId, BuildError> {
        let mut dir = ROOT;
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            match self.fs.lookup(dir, name)? {
                Node::Dir(found) => dir = found,
                Node::File { .. } => return Err(Error::NotDirectory.into()),
            }
        }
        Ok(dir)
    }

    fn store(&mut self, dir: DirId, name: &[u8], item: &Item) -> Result<(), BuildError> {
        let target = if item.kind == Kind::Dir { Target::Dir } else { Target::File };
        let mut attrs = match self.codec {
            Some(codec) => codec.initial(&meta(&item.stat), target),
            None => Vec::new(),
        };
        attrs.extend(self.manifest.attrs(item)?);
        match item.kind {
            Kind::Dir => {
                self.fs.mkdir_with_attrs(dir, name, &attrs)?;
            }
            Kind::Special { rdev } => {
                let content: &[u8] = if rdev == 0 { &[] } else { &device_content(rdev) };
                self.fs.set_value(dir, name, Content::Bytes(content), &|_| attrs.clone())?;
            }
            Kind::File | Kind::Symlink => {
                self.store_content(dir, name, item, attrs)?;
                self.stored += item.size;
                (self.progress)(self.stored);
            }
        }
        Ok(())
    }

    fn store_content(
        &mut self,
        dir: DirId,
        name: &[u8],
        item: &Item,
        attrs: Vec<(u8, Vec<u8>)>,
    ) -> Result<(), BuildError> {
        let unreadable = |e| BuildError::Unreadable(item.path.to_vec(), e);
        let mut content = self.manifest.open(item).map_err(unreadable)?;
        if item.size <= WHOLE_MAX {
            content.fill(&mut self.buf, PIECE).map_err(unreadable)?;
            self.fs.set_value(dir, name, Content::Bytes(&self.buf), &|_| attrs.clone())?;
            return Ok(());
        }
        self.fs.create_with_attrs(dir, name, &attrs)?;
        let file = self.fs.open_file(dir, name)?;
        let mut at = 0;
        while at < item.size {
            content.fill(&mut self.buf, PIECE).map_err(unreadable)?;
            self.fs.write(file, at, &self.buf)?;
            at += self.buf.len() as u64;
            (self.progress)(self.stored + at);
        }
        self.fs.close_file(file);
        Ok(())
    }
}

/// The metadata to store for an entry. On the host, the times of creation and of the last access
/// differ from copy to copy, so the time of the last change replaces them.
fn meta(stat: &Stat) -> Meta {
    Meta {
        atime: stat.mtime,
        mtime: stat.mtime,
        ctime: stat.mtime,
        birth: stat.mtime,
        mode: Some(stat.mode),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
    }
}
