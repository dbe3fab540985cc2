//! Image files: opening an image by its path, whatever its format. If it cannot be opened, the
//! error says what to do.

mod blocks;
mod body;
mod container;
mod error;
mod holder;
mod locate;
mod place;
mod wrapping;

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bd::{BlockDevice, Geometry};
use crate::check::{Finding, Report, Severity};
use crate::dialect::View;
use crate::error::Suspicion;
#[cfg(any(feature = "cli", feature = "mount"))]
use crate::fs::Usage;
use crate::show::Show;
use crate::{chamelon, v1};

pub use crate::container::uf2::family_named as uf2_family;
pub use crate::container::wrap::{Replaced, Target as WrapTarget};
pub use crate::container::{
    Area, Doubt, Evidence, Found, Kind, Label, Layout, Origin, Page, Partition, ReadAt,
    SEARCH_DEVICE, SEARCH_FILE, Survey, Table, Trouble,
};
pub use crate::disk::Superblock;
pub use blocks::{Blocks, blocks_at, open_blocks};
pub use container::{Container, Source};
pub(crate) use error::WRITE_PROTECTED;
pub(crate) use error::of_wrapped;
pub use error::{OpenError, Reason};
pub use holder::{Holder, holder};
pub(crate) use holder::{InUse, LockError, lock};
pub use locate::{Located, at_block_size, at_root, locate, wipe};
pub use place::{Place, space_of};
pub use wrapping::{Contents, TakenOut, cut_short, put_back, scan, take_out, wrap_up};

use body::{Absent, Body};
use place::Chosen;

/// A dialect of the littlefs format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// Version 2, as SPEC.md describes it.
    Littlefs,
    /// The dialect of chamelon. It is only read.
    Chamelon,
    /// Version 1. It is only read.
    V1,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 3] = [Self::Littlefs, Self::Chamelon, Self::V1];

    /// The name in options and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Littlefs => "littlefs",
            Self::V1 => "v1",
            Self::Chamelon => "chamelon",
        }
    }

    /// The dialect with this name; `None` for `auto`.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn named(name: &str) -> Result<Option<Self>, String> {
        match Self::ALL.into_iter().find(|d| d.name() == name) {
            None if name != "auto" => {
                Err(format!("'{name}' is not one of auto, littlefs, chamelon and v1"))
            }
            dialect => Ok(dialect),
        }
    }

    /// Why an image of this dialect cannot be written; `None` if it can be written.
    pub fn unwritable(self) -> Option<Reason> {
        match self {
            Self::Littlefs => None,
            Self::V1 => Some(Reason::Version1),
            Self::Chamelon => Some(Reason::Chamelon),
        }
    }

    /// Codes of errors that do not matter when everything is copied, because they lose nothing:
    /// chamelon itself follows only the first pointer of each block of a list, and the tree of
    /// version 1 does not depend on its thread.
    pub(crate) fn harmless(self) -> &'static [&'static str] {
        match self {
            Self::Littlefs => &[],
            Self::V1 => &["thread-broken", "thread-loop", "unthreaded"],
            Self::Chamelon => &["block-shared", "ctz-pointer"],
        }
    }

    /// Check an image of this dialect by the rules of the dialect.
    pub(crate) fn check(
        self,
        device: &Arc<dyn BlockDevice>,
        progress: &dyn Fn(u64),
    ) -> crate::Result<Report> {
        match self {
            Self::Littlefs => crate::check::check_with(Arc::clone(device), progress),
            Self::V1 => v1::check(&**device, progress),
            Self::Chamelon => chamelon::check(&**device, progress),
        }
    }
}

/// How to open an image.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Require this block size in bytes, instead of taking the one in the image.
    pub block_size: Option<u32>,
    /// Require this number of blocks.
    pub block_count: Option<u32>,
    /// Where the filesystem is in the file.
    pub place: Place,
    /// Open for reading only. Other readers may open the image at the same time.
    pub read_only: bool,
    /// Require this dialect, instead of recognising one.
    pub dialect: Option<Dialect>,
    /// If [`Place::Auto`] finds the filesystem elsewhere than at the first byte, open it for
    /// reading only.
    pub auto_for_reading: bool,
    /// The pages of a dump of NAND flash that includes the spare bytes.
    pub page: Option<Page>,
    /// How many bytes of a compressed or wrapped image may be unpacked. The default is 4 GiB.
    pub unpack_limit: Option<u64>,
    /// If the image is not opened for reading only, lock out other readers even if its dialect can
    /// only be read.
    pub exclusive: bool,
}

/// An image that holds a littlefs. It is locked against other users.
pub struct Opened {
    /// The blocks of the littlefs. An image of another dialect is shown as a littlefs. The lock on
    /// the file is released when `file` and the last clones of `device` and `stored` are dropped.
    pub device: Arc<dyn BlockDevice>,
    /// The blocks as they are in the file.
    pub stored: Arc<dyn BlockDevice>,
    /// The dialect of the image.
    pub dialect: Dialect,
    /// Whether it is read-only: because this was requested, because the file cannot be written or
    /// is truncated, because of its dialect, or because of a doubt.
    pub read_only: bool,
    /// Whether the file was opened for writing and is locked exclusively.
    pub writable: bool,
    /// The superblock of the root. In an expanded chain, the superblocks before it may differ.
    pub superblock: Superblock,
    /// Size of the whole file or device in bytes.
    pub image_size: u64,
    /// Position of the filesystem in bytes, in the file or in the content that is wrapped in it.
    pub offset: u64,
    /// The name of the partition that begins there.
    pub label: Option<Label>,
    /// Whether the filesystem was found by a search, and does not start at the first byte.
    pub automatic: bool,
    /// The formats in which the image is wrapped, the outermost first.
    pub wrapped: Vec<Kind>,
    /// The address of the first byte of the content, if the format has addresses.
    pub base: u64,
    /// How many bytes are missing at the end of a truncated image, or 0.
    pub missing: u64,
    /// How many bytes a compacted image lacks at its end, or 0. They all belong to free blocks.
    /// Before anything is written, the file is extended by them.
    pub compacted: u64,
    /// Which of blocks 0 and 1 has no valid superblock, if the other one is used.
    pub lost: Option<u32>,
    /// Why this may not be the filesystem that was meant. If there is a doubt, the image is
    /// read-only.
    pub doubt: Option<Doubt>,
    /// What is missing or damaged in the container of the image. If something is, any part of the
    /// content may be wrong.
    pub incomplete: Option<String>,
    /// What in it may not be what was written last, as far as opening it showed that.
    pub suspicions: Vec<Suspicion>,
    /// What the user should know. Each note is a sentence that begins with the path.
    pub notes: Vec<String>,
    /// The path at which the image was found.
    pub path: PathBuf,
    /// The file itself, with its lock.
    pub file: File,
    /// The metadata that the file had when it was found, before anything was written to it.
    pub metadata: Metadata,
}

impl Opened {
    /// The finding about the container of the image, if it is damaged.
    pub(crate) fn container_finding(&self) -> Option<Finding> {
        let message = self.incomplete.as_ref()?;
        let message = format!("{message}; any part of the filesystem may be wrong");
        let place = "the file".to_owned();
        Some(Finding { severity: Severity::Error, code: "container-damaged", place, message })
    }
}

#[cfg(any(feature = "cli", feature = "mount"))]
impl Opened {
    /// How many blocks of an image of version 1 are used and free. The littlefs as which it is
    /// shown has other metadata. `None` for all other images, which have the counts of their
    /// filesystem.
    ///
    /// # Errors
    /// If the root directory cannot be read.
    pub(crate) fn usage_as_stored(&self) -> crate::Result<Option<Usage>> {
        if self.dialect != Dialect::V1 {
            return Ok(None);
        }
        let blocks_used = v1::usage(&*self.stored)?;
        let blocks_free = self.superblock.block_count.saturating_sub(blocks_used);
        Ok(Some(Usage { blocks_used, blocks_free }))
    }
}

/// Open and lock the image at `path`, and find the geometry of its filesystem.
///
/// # Errors
/// One [`Reason`] for each way in which an image can be unusable.
pub fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    open_found(&Source::find(path)?, options)
}

/// Like [`open`], for an image that was found before.
///
/// # Errors
/// Those of [`open`].
pub fn open_found(source: &Source, options: &Options) -> Result<Opened, OpenError> {
    open_as_needed(source, options).map_err(|reason| source.refused(reason))
}

/// Why an image cannot be opened with the given options.
enum Obstacle {
    /// It cannot be opened at all.
    Refused(Reason),
    /// It can only be opened for reading. The text tells the user why, unless the image itself
    /// shows it.
    OnlyForReading(Option<String>),
    /// It is a dump of NAND flash that includes the spare bytes, with pages like this.
    SpareBytes(Page),
}

impl<E: Into<Reason>> From<E> for Obstacle {
    fn from(e: E) -> Self {
        Self::Refused(e.into())
    }
}

/// Open the image with the given options, or with those that turn out to be necessary. For each
/// attempt, the file is closed and opened again, because an image that is only read is shared with
/// other readers.
fn open_as_needed(source: &Source, options: &Options) -> Result<Opened, Reason> {
    match try_open(source, options) {
        Ok(opened) => Ok(opened),
        Err(Obstacle::Refused(reason)) => Err(reason),
        Err(Obstacle::SpareBytes(page)) => {
            open_as_needed(source, &Options { page: Some(page), ..*options })
        }
        Err(Obstacle::OnlyForReading(note)) => {
            let mut opened = open_as_needed(source, &Options { read_only: true, ..*options })?;
            opened.notes.splice(0..0, note);
            Ok(opened)
        }
    }
}

fn try_open(source: &Source, options: &Options) -> Result<Opened, Obstacle> {
    let path = source.path();
    let container = source.container(options.read_only)?;
    if container.size == 0 {
        return Err(Reason::Empty.into());
    }
    let mut notes = Vec::new();
    if !container.writable && !options.read_only {
        let (shown, what) = (path.show(), if container.is_device { "device" } else { "file" });
        notes.push(format!("{shown}: the {what} cannot be written, so it is opened read-only"));
    }
    let limit = if container.is_device { SEARCH_DEVICE } else { SEARCH_FILE };
    if !options.read_only
        && let Some(kind) = Body::kind_of(&container, options)?
    {
        let note = Reason::Wrapped(kind).at(path) + "; opened read-only";
        return Err(Obstacle::OnlyForReading(Some(note)));
    }
    let body = Body::of(container, options)?;
    let chosen = choose(&body, limit, path, options)?;
    let Found { at: offset, lost, doubt, label, .. } = chosen.found;
    let superblock = chosen.superblock;
    let geometry = Geometry::new(superblock.block_size, superblock.block_count)?;
    let image_size = body.bytes().size()?;
    let absent = lacks(&body, offset, geometry, doubt, options)?;
    let (missing, compacted) = (absent.missing(), absent.left_out());
    body.remark(path, &chosen, &mut notes);
    if missing > 0 {
        notes.push(format!(
            "{}: truncated: the file lacks the last {missing} of the {} bytes of its filesystem",
            path.show(),
            geometry.size()
        ));
    }
    let (writable, wrapped, base) = (body.is_writable(), body.kinds(), body.base());
    let incomplete = body.incomplete().map(str::to_owned);
    let file = body.file()?;
    let stored = body.into_device(offset, geometry, absent);
    let dialect = dialect_of(&stored, &superblock, options.dialect)?;
    if dialect != Dialect::Littlefs && writable && !options.exclusive {
        let why = dialect.unwritable().map(|reason| reason.at(path) + "; opened read-only");
        return Err(Obstacle::OnlyForReading(why));
    }
    let mut suspicions: Vec<Suspicion> = incomplete.iter().map(Suspicion::of_image).collect();
    let (device, suspect) = show(dialect, &stored, path, superblock, &mut notes)?;
    suspicions.extend(suspect);
    Ok(Opened {
        device,
        stored,
        dialect,
        read_only: !writable || dialect != Dialect::Littlefs || doubt.is_some(),
        writable,
        superblock,
        image_size,
        offset,
        label,
        automatic: chosen.automatic,
        wrapped,
        base,
        missing,
        compacted,
        lost,
        doubt,
        incomplete,
        suspicions,
        notes,
        path: path.to_owned(),
        file,
        metadata: source.metadata().clone(),
    })
}

/// The filesystem in `body` that the options name, or the only one that can be meant.
fn choose(body: &Body, limit: u64, path: &Path, options: &Options) -> Result<Chosen, Obstacle> {
    let chosen = match place::find(body.bytes(), limit, options) {
        Ok(chosen) if chosen.found.doubt.is_none() => chosen,
        doubtful => match body.spare_bytes(options)? {
            Some(page) => return Err(Obstacle::SpareBytes(page)),
            None => doubtful.map_err(|reason| body.because_incomplete(reason))?,
        },
    };
    if chosen.found.doubt.is_some() && body.start_is_lost() && options.place == Place::Auto {
        // the filesystem may begin in the bytes that are missing, and nothing shows where
        return Err(body.because_incomplete(Reason::Elsewhere(vec![chosen.found])).into());
    }
    if chosen.automatic && options.auto_for_reading && !options.read_only {
        return Err(Obstacle::OnlyForReading(Some(format!(
            "{}: opened read-only, because the start of its filesystem was not given: give \
             offset={}, or offset=auto to accept what is found",
            path.show(),
            chosen.found.at
        ))));
    }
    Ok(chosen)
}

/// What the file does not hold of the filesystem. It may only be opened for reading if that are
/// blocks in use.
fn lacks(
    body: &Body,
    offset: u64,
    geometry: Geometry,
    doubt: Option<Doubt>,
    options: &Options,
) -> Result<Absent, Obstacle> {
    let absent = match body.lacks(offset, geometry)? {
        // if this may be another filesystem, its metadata does not show which blocks were left out
        Absent::LeftOut(bytes) if doubt.is_some() => Absent::Missing(bytes),
        absent => absent,
    };
    let missing = absent.missing();
    match doubt {
        _ if options.read_only => {}
        Some(doubt) if missing > 0 => return Err(Reason::Doubtful(doubt).into()),
        Some(_) => return Err(Obstacle::OnlyForReading(None)),
        None if missing > 0 => return Err(Reason::Truncated { geometry, missing }.into()),
        None => {}
    }
    Ok(absent)
}

/// The dialect of an image, which its version or the traces of chamelon show.
fn dialect_of(
    stored: &Arc<dyn BlockDevice>,
    superblock: &Superblock,
    given: Option<Dialect>,
) -> Result<Dialect, Reason> {
    match (superblock.is_version1(), given) {
        (true, None | Some(Dialect::V1)) => Ok(Dialect::V1),
        (true, Some(_)) => Err(Reason::Version1),
        (false, Some(Dialect::V1)) => Err(Reason::NotVersion1(superblock.version)),
        (false, Some(given)) => Ok(given),
        (false, None) => match chamelon::recognise(&**stored, superblock) {
            true => Ok(Dialect::Chamelon),
            false => Ok(Dialect::Littlefs),
        },
    }
}

/// The device that shows an image of this dialect as a littlefs, and the first directory that may
/// have other entries.
fn show(
    dialect: Dialect,
    stored: &Arc<dyn BlockDevice>,
    path: &Path,
    superblock: Superblock,
    notes: &mut Vec<String>,
) -> Result<(Arc<dyn BlockDevice>, Option<Suspicion>), Reason> {
    let shown: crate::Result<(View, Report)> = match dialect {
        Dialect::Littlefs => return Ok((Arc::clone(stored), None)),
        Dialect::V1 => v1::show(Arc::clone(stored), superblock),
        Dialect::Chamelon => chamelon::show(Arc::clone(stored), superblock),
    };
    let (view, report) = shown.map_err(|e| Reason::DialectDamaged(dialect, e))?;
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error);
    if let Some(first) = errors.clone().next() {
        let path = path.show();
        let mut note = format!("{path}: {}: {}", first.place, first.message);
        if errors.clone().nth(1).is_some() {
            let more = errors.count() - 1;
            note += &format!("; 'littlefs check {path}' lists {more} more");
        }
        notes.push(note);
    }
    let suspect = view.suspect().cloned();
    Ok((Arc::new(view), suspect))
}
