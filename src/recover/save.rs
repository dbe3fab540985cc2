//! Writing the results into a directory on the host.
//!
//! The directory is empty at the start. Every file is made under its plain name, relative to the
//! open descriptor of its directory, so no name in an image can lead out of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::{Grade, Recovered, Recovery, Source};
use crate::bd::BlockDevice;
use crate::disk::{ListIndex, ctz, name};
use crate::files::{create_in, make_dirs, open_dir};
use crate::show::cause;

/// The directory for files with a name.
const FILES: &[u8] = b"files";
/// The directory for lists without an entry.
const LISTS: &[u8] = b"lists";
/// How many bytes a name on the host may have before something is appended to it.
const NAME_MAX: usize = 220;
/// How deeply directories may be nested.
const DEPTH_MAX: usize = 64;
/// The maximum number of bytes that are written, unless the image is large. A hostile image can
/// name the same blocks in very many lists.
const BYTES_MAX: u64 = 32 << 20;
/// The same limit as a multiple of the size of the image. The larger limit applies.
const SIZES_MAX: u64 = 16;

/// Why the files could not be written.
#[derive(Debug)]
pub enum SaveError {
    /// The directory is not empty.
    NotEmpty,
    /// Not all results could be written.
    Incomplete {
        /// How many were written before.
        written: usize,
        /// How many there are.
        all: usize,
        /// What the system reported.
        error: io::Error,
    },
    /// The system reported an error.
    Io(io::Error),
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty => f.write_str("is not empty; give a new directory"),
            Self::Incomplete { written: 0, error, .. } => {
                write!(f, "no result could be written: {}", cause(error))
            }
            Self::Incomplete { written, all, error } => write!(
                f,
                "only {written} of {all} results could be written, and no list of them: {}; they \
                 are complete and stay there, so give a new directory for the next attempt",
                cause(error)
            ),
            Self::Io(e) => f.write_str(&cause(e)),
        }
    }
}

impl std::error::Error for SaveError {}

impl From<io::Error> for SaveError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The outcome for a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It was written to this path below the directory.
    As(Vec<u8>),
    /// No byte of it is left.
    Nothing,
    /// It was not written, because very many results name the same blocks.
    TooMuch,
}

/// Write the files of a recovery into the directory `target`, which is made if it does not exist.
/// Returns the outcome for each file, in the order of the files.
///
/// # Errors
/// If the directory is not empty, or cannot be written. Results that were written before that stay
/// there.
pub fn save(
    recovery: &Recovery,
    dev: &dyn BlockDevice,
    target: &Path,
) -> Result<(File, Vec<Saved>), SaveError> {
    make_dirs(target)?;
    // the path that the user gave may lead through symbolic links
    let root = File::open(target.join("."))?;
    if std::fs::read_dir(target)?.next().is_some() {
        return Err(SaveError::NotEmpty);
    }
    let size = dev.geometry().size();
    let mut budget = BYTES_MAX.max(size.saturating_mul(SIZES_MAX));
    let mut saved = Vec::with_capacity(recovery.files.len());
    let mut writer = Writer { root: root.as_fd().try_clone_to_owned()?, last: None, dev };
    for (file, place) in recovery.files.iter().zip(places(&recovery.files)) {
        let bytes = file.present();
        saved.push(if bytes == 0 && file.size > 0 {
            Saved::Nothing
        } else if bytes > budget {
            Saved::TooMuch
        } else {
            budget -= bytes;
            writer.write(&place, file).map_err(|error| {
                let written = saved.iter().filter(|saved| matches!(saved, Saved::As(_))).count();
                if written == 0 {
                    writer.remove_dirs(&place);
                }
                SaveError::Incomplete { written, all: recovery.files.len(), error }
            })?;
            Saved::As(place.join(&b'/'))
        });
    }
    Ok((root, saved))
}

impl Recovered {
    /// How many bytes of content exist.
    pub fn present(&self) -> u64 {
        let missing: u64 = self.missing.iter().map(|range| range.end - range.start).sum();
        self.size.saturating_sub(missing)
    }
}

/// The place of each result: its directories and its name. The newest version of a file keeps its
/// name, the names of older versions end in a number, and the names of partial files say that they
/// are partial.
fn places(files: &[Recovered]) -> Vec<Vec<Vec<u8>>> {
    let wanted: Vec<Vec<Vec<u8>>> = files.iter().map(wanted).collect();
    let dirs: BTreeSet<&[Vec<u8>]> =
        wanted.iter().flat_map(|path| (1..path.len()).map(|n| &path[..n])).collect();
    let mut versions: HashMap<&[Vec<u8>], usize> = HashMap::new();
    let mut taken: HashSet<Vec<Vec<u8>>> = HashSet::new();
    let mut places = Vec::with_capacity(files.len());
    for (file, path) in files.iter().zip(&wanted) {
        let version = versions.entry(path).or_default();
        let place = loop {
            *version += 1;
            let mut place = path.clone();
            if let Some(name) = place.last_mut() {
                if *version > 1 {
                    name.extend(format!(".~{version}~").bytes());
                }
                if file.grade == Grade::Partial && file.path.is_some() {
                    name.extend(b".partial");
                }
            }
            if !dirs.contains(&place[..]) && taken.insert(place.clone()) {
                break place;
            }
        };
        places.push(place);
    }
    places
}

fn wanted(file: &Recovered) -> Vec<Vec<u8>> {
    let Some(path) = &file.path else {
        let block = file.head_block.unwrap_or_default();
        return vec![LISTS.to_vec(), format!("block-{block}").into_bytes()];
    };
    let mut parts = vec![FILES.to_vec()];
    for part in path.split(|&b| b == b'/') {
        let mut part = name::presentable(part);
        part.truncate(NAME_MAX);
        parts.push(part);
    }
    if parts.len() > DEPTH_MAX {
        parts.drain(1..parts.len() - DEPTH_MAX);
    }
    parts
}

struct Writer<'a> {
    root: OwnedFd,
    /// The directory of the last file.
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
    dev: &'a dyn BlockDevice,
}

impl Writer<'_> {
    /// Write a result. If that fails, no part of it stays there.
    fn write(&mut self, place: &[Vec<u8>], file: &Recovered) -> io::Result<()> {
        let Some((name, dir)) = place.split_last() else { return Ok(()) };
        let parent = match self.last.take() {
            Some((path, fd)) if path == dir => fd,
            _ => self.make(dir)?,
        };
        let out = create_in(parent.as_fd(), name)?;
        self.fill(&out, file).inspect_err(|_| {
            // if this fails, too, the first error is reported
            let _ = rustix::fs::unlinkat(&parent, &name[..], AtFlags::empty());
        })?;
        self.last = Some((dir.to_vec(), parent));
        Ok(())
    }

    /// Remove the directories that were made for a result, if they are empty.
    fn remove_dirs(&self, place: &[Vec<u8>]) {
        let mut dir = place.split_last().map_or(place, |(_, dir)| dir);
        while let Some((name, above)) = dir.split_last() {
            let Ok(parent) = self.make(above) else { return };
            if rustix::fs::unlinkat(&parent, &name[..], AtFlags::REMOVEDIR).is_err() {
                return;
            }
            dir = above;
        }
    }

    fn make(&self, dir: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for part in dir {
            match rustix::fs::mkdirat(&at, &part[..], Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            at = open_dir(at.as_fd(), part)?;
        }
        Ok(at)
    }

    /// Write the content. Missing parts read as zeros.
    fn fill(&self, out: &File, file: &Recovered) -> io::Result<()> {
        file.read(self.dev, &mut |at, bytes| out.write_all_at(bytes, at))?;
        if file.size > out.metadata()?.len() {
            out.set_len(file.size)?;
        }
        Ok(())
    }
}

impl Recovered {
    /// Pass the content that exists to `take`, piece by piece: the position in the file, and the
    /// bytes.
    ///
    /// # Errors
    /// If the image cannot be read; and the errors of `take`.
    pub fn read(
        &self,
        dev: &dyn BlockDevice,
        take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let blocks = match &self.source {
            Source::Inline(bytes) => return take(0, bytes),
            Source::Blocks(blocks) => blocks,
        };
        let block_size = dev.geometry().block_size;
        let mut bytes = vec![0; block_size as usize];
        for (i, block) in blocks.iter().enumerate() {
            let (i, Some(block)) = (ListIndex(i as u32), *block) else { continue };
            let start = ctz::start(block_size, i);
            dev.read(block, 0, &mut bytes).map_err(|e| e.source)?;
            let content = bytes.get(ctz::data_offset(i) as usize..).unwrap_or_default();
            let left = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
            take(start, &content[..content.len().min(left)])?;
        }
        Ok(())
    }

    /// The whole content, with zeros in place of missing parts.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn content(&self, dev: &dyn BlockDevice) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.size).unwrap_or(0)];
        self.read(dev, &mut |at, bytes| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if let Some(piece) = content.get_mut(at..).and_then(|c| c.get_mut(..bytes.len())) {
                piece.copy_from_slice(bytes);
            }
            Ok(())
        })?;
        Ok(content)
    }
}
