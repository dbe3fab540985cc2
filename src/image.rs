//! Image files: opening one by path, whatever it is, with an error that says what to do next.

mod container;
mod error;
mod holder;
mod locate;

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::check::{Report, Severity};
use crate::dialect::View;
use crate::error::{IoError, IoOp};
use crate::fs::Fs;
use crate::show::Show;
use crate::{chamelon, v1};

pub use crate::container::{Doubt, Evidence, Found, Half, Kind};
pub use crate::disk::Superblock;
pub use container::{Container, Source};
pub use error::{OpenError, Reason};
pub use holder::{Holder, holder};
pub use locate::{Located, SEARCH_DEVICE, SEARCH_FILE, at_block_size, at_root, locate, wipe};

/// A way of writing littlefs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Version 2, as SPEC.md has it.
    Littlefs,
    /// As chamelon does, which is only read.
    Chamelon,
    /// Version 1, which is only read.
    V1,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Littlefs, Self::Chamelon, Self::V1];

    /// What options and output call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Littlefs => "littlefs",
            Self::V1 => "v1",
            Self::Chamelon => "chamelon",
        }
    }

    /// The dialect of that name, or none for `auto`.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn named(name: &str) -> Result<Option<Self>, String> {
        match Self::ALL.into_iter().find(|d| d.name() == name) {
            None if name != "auto" => {
                Err(format!("'{name}' is none of auto, littlefs, chamelon, v1"))
            }
            dialect => Ok(dialect),
        }
    }

    /// Why an image of it cannot be written; none of the one that can be.
    pub fn unwritable(self) -> Option<Reason> {
        match self {
            Self::Littlefs => None,
            Self::V1 => Some(Reason::Version1),
            Self::Chamelon => Some(Reason::Chamelon),
        }
    }

    /// Examine an image of it by its own rules.
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
    /// Insist on this block size, in bytes, instead of what the image says.
    pub block_size: Option<u32>,
    /// Insist on this number of blocks.
    pub block_count: Option<u32>,
    /// Byte position of the filesystem in the file.
    pub offset: u64,
    /// Open for reading only, sharing the image with other readers.
    pub read_only: bool,
    /// Insist on this dialect, instead of the one that is recognised.
    pub dialect: Option<Dialect>,
    /// Unless for reading only: keep readers away from an image whose dialect is only read, too.
    pub exclusive: bool,
}

/// An image that was found to hold a littlefs, locked against other users.
pub struct Opened {
    /// The blocks of a littlefs: of another dialect, as it is shown. The lock on the file is
    /// released when `file` and the last clone of this and of `stored` drop.
    pub device: Arc<dyn BlockDevice>,
    /// The blocks as they are in the file.
    pub stored: Arc<dyn BlockDevice>,
    /// How the image is written.
    pub dialect: Dialect,
    /// Asked for, or because the file cannot be written or is truncated, or because of its
    /// dialect, or because it is doubtful.
    pub read_only: bool,
    /// Whether the file was opened for writing, and locked against everybody else.
    pub writable: bool,
    /// The root's copy of the superblock; after an expansion those before it may differ.
    pub superblock: Superblock,
    /// Bytes in the whole file or device.
    pub image_size: u64,
    /// Byte position of the filesystem in the file.
    pub offset: u64,
    /// Bytes missing at the end of a truncated image, else 0.
    pub missing: u64,
    /// Bytes that a compacted image lacks at its end, all of them of free blocks, else 0. Before
    /// anything is written it gets them.
    pub compacted: u64,
    /// Which of blocks 0 and 1 holds no valid superblock, where the other serves.
    pub lost: Option<u32>,
    /// Why this may not be the filesystem that was meant: then it is read-only.
    pub doubt: Option<Doubt>,
    /// What the user should know, one sentence each, beginning with the path.
    pub notes: Vec<String>,
    /// The path it was found at.
    pub path: PathBuf,
    /// The file itself, with its lock.
    pub file: File,
    /// What was known of the file when it was found, before anything was written to it.
    pub metadata: Metadata,
}

/// Open and lock the image at `path`, and find the filesystem's geometry in it.
///
/// # Errors
/// One [`Reason`] for each way an image can be unusable.
pub fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    open_found(&Source::find(path)?, options)
}

/// The same for what was found already.
///
/// # Errors
/// As [`open`].
pub fn open_found(source: &Source, options: &Options) -> Result<Opened, OpenError> {
    try_open(source, options).map_err(|reason| source.refused(reason))
}

fn try_open(source: &Source, options: &Options) -> Result<Opened, Reason> {
    let path = source.path();
    let container = source.container(options.read_only)?;
    let mut notes = Vec::new();
    if !container.writable && !options.read_only {
        let what = if container.is_device { "device" } else { "file" };
        notes.push(format!("{}: the {what} cannot be written, opened read-only", path.show()));
    }
    let (found, superblock) = find_superblock(&container, options)?;
    let Found { lost, doubt, .. } = found;
    let shown = path.show();
    if let Some(doubt) = doubt {
        notes.push(format!("{shown}: {doubt}; nothing can be written to it"));
    } else if let Some(block) = lost {
        notes.push(format!(
            "{shown}: the superblock in block {block} is lost; the one in block {} serves",
            1 - block
        ));
    }
    let geometry = Geometry::new(superblock.block_size, superblock.block_count)?;

    let present = container.size.saturating_sub(options.offset);
    let absent = geometry.size().saturating_sub(present);
    let is_compacted =
        absent > 0 && is_compacted(&container.file, options.offset, geometry, present);
    let (missing, compacted) = if is_compacted { (0, absent) } else { (absent, 0) };
    if let Some(doubt) = doubt.filter(|_| !options.read_only) {
        if missing > 0 {
            return Err(Reason::Doubtful(doubt));
        }
        // to be shared with other readers, like everything that is only read
        drop(container);
        return try_open(source, &Options { read_only: true, ..*options });
    }
    if missing > 0 {
        if !options.read_only {
            return Err(Reason::Truncated { geometry, missing });
        }
        notes.push(format!(
            "{}: truncated: {missing} of the {} bytes of its filesystem are missing at the end",
            path.show(),
            geometry.size()
        ));
    }
    let Container { file, writable, size, .. } = container;
    let open = if is_compacted { FileDevice::compacted } else { FileDevice::new };
    let stored: Arc<dyn BlockDevice> = Arc::new(open(file.try_clone()?, options.offset, geometry));
    let dialect = dialect_of(&stored, &superblock, options.dialect)?;
    if dialect != Dialect::Littlefs && writable && !options.exclusive {
        // to be shared with other readers, like everything that is only read
        drop((stored, file));
        let mut opened = try_open(source, &Options { read_only: true, ..*options })?;
        if let Some(reason) = opened.dialect.unwritable() {
            opened.notes.insert(0, reason.at(path) + "; opened read-only");
        }
        return Ok(opened);
    }
    let device = show(dialect, &stored, path, superblock, &mut notes)?;
    Ok(Opened {
        device,
        stored,
        dialect,
        read_only: !writable || dialect != Dialect::Littlefs || doubt.is_some(),
        writable,
        superblock,
        image_size: size,
        offset: options.offset,
        missing,
        compacted,
        lost,
        doubt,
        notes,
        path: path.to_owned(),
        file,
        metadata: source.metadata().clone(),
    })
}

/// Whether an image of which only the first `present` bytes are there holds every block in use: then
/// it is as its maker wanted it, and not truncated. What cannot be read to its end is truncated.
fn is_compacted(file: &File, offset: u64, geometry: Geometry, present: u64) -> bool {
    let end = || -> crate::Result<u32> {
        let device = FileDevice::new(file.try_clone().map_err(read_failed)?, offset, geometry);
        Fs::used_end_of(Arc::new(device))
    };
    end().is_ok_and(|end| u64::from(end) * u64::from(geometry.block_size) <= present)
}

fn read_failed(source: std::io::Error) -> crate::Error {
    IoError { op: IoOp::Read, block: None, source }.into()
}

/// How an image is written, which its version decides, or what chamelon leaves in it.
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

/// The littlefs that an image is shown as.
fn show(
    dialect: Dialect,
    stored: &Arc<dyn BlockDevice>,
    path: &Path,
    superblock: Superblock,
    notes: &mut Vec<String>,
) -> Result<Arc<dyn BlockDevice>, Reason> {
    let shown: crate::Result<(View, Report)> = match dialect {
        Dialect::Littlefs => return Ok(Arc::clone(stored)),
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
            note += &format!("; {more} more, which 'littlefs check {path}' lists");
        }
        notes.push(note);
    }
    Ok(Arc::new(view))
}

/// The filesystem and the superblock of its root, of a version and geometry that suit the options.
fn find_superblock(
    container: &Container,
    options: &Options,
) -> Result<(Found, Superblock), Reason> {
    let Container { file, size, is_device, .. } = container;
    let offset = options.offset;
    if *size == 0 {
        return Err(Reason::Empty);
    }
    if offset >= *size {
        return Err(Reason::OffsetBeyondEnd { offset, size: *size });
    }
    if let Some(kind) = Kind::of(file)? {
        return Err(Reason::Wrapped(kind));
    }
    let limit = if *is_device { SEARCH_DEVICE } else { SEARCH_FILE };
    let search = || locate(file, offset, limit)?.into_found();
    let found = match options.block_size {
        Some(given) => match at_block_size(file, offset, given, limit) {
            Some(found) => found,
            None => match search()? {
                found if found.superblock.block_size != given => {
                    let found = found.superblock.block_size;
                    return Err(Reason::WrongBlockSize { given, found });
                }
                found => found,
            },
        },
        None => search()?,
    };
    let superblock = at_root(file, offset, supported(found.superblock)?);
    supported(superblock)?;
    match options.block_count {
        Some(given) if given != superblock.block_count => {
            Err(Reason::WrongBlockCount { given, found: superblock.block_count })
        }
        _ => Ok((found, superblock)),
    }
}

fn supported(superblock: Superblock) -> Result<Superblock, Reason> {
    if superblock.is_supported() || superblock.is_version1() {
        Ok(superblock)
    } else {
        Err(Reason::UnknownVersion(superblock.version))
    }
}
