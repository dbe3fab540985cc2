//! Making an image from a manifest.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Progress;
use super::build::{BuildError, Refusal, build, refusals};
use super::manifest::{Kind, Manifest};
use super::verify::verify;
use super::{sizing, version1};
use crate::bd::file::fill;
use crate::bd::fresh::FreshDevice;
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::check::{Finding, show};
use crate::disk::superblock::VERSION_1_1;
use crate::error::{Error, IoError, IoOp, Unsupported};
use crate::fs::Fs;
use crate::image::Reason;
use crate::journal::JournalError;
use crate::profile::Profile;
use crate::show;
use crate::{FormatOptions, Misfit, OpenOptions, PathError};

/// The number of blocks of a new filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// This many blocks.
    Blocks(u32),
    /// As few blocks as the content needs, plus some free space.
    Least {
        /// The minimum number of free bytes.
        free: u64,
    },
    /// As many blocks as the filesystem has that is replaced in the dump.
    AsBefore,
}

/// The form of a new image.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Block size, version and limits, and how times, owners and modes are stored. Without a
    /// convention, only names and content are stored. The size in these options is ignored.
    pub format: FormatOptions,
    /// Number of blocks.
    pub size: Size,
    /// Leave out the free blocks at the end of the image.
    pub compact: bool,
    /// User attributes of the root directory in addition to those of the convention: type and
    /// value.
    pub root_attrs: Vec<(u8, Vec<u8>)>,
    /// Make no image that the devices of this family would refuse.
    pub check: Option<&'static Profile>,
}

impl Creation {
    /// A form with the usual values for everything else.
    pub fn new(format: FormatOptions, size: Size) -> Self {
        Self { format, size, compact: false, root_attrs: Vec::new(), check: None }
    }
}

/// Facts about the new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Blocks of the filesystem.
    pub geometry: Geometry,
    /// Blocks in use.
    pub blocks_used: u32,
    /// Files, and all other entries that are not directories.
    pub files: u64,
    /// Directories without the root.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes of the image. They are fewer than those of the filesystem if free blocks at the end
    /// are left out.
    pub image_size: u64,
    /// The properties that do not suit the devices of the given family, if one was given.
    pub misfits: Vec<Misfit>,
    /// The differences from the given options.
    pub warnings: Vec<String>,
}

/// Why no image was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// No littlefs has this geometry.
    Geometry(Unsupported),
    /// All entries that the image cannot store.
    Refused(Vec<Refusal>),
    /// A file of the host cannot be read.
    Unreadable(Vec<u8>, io::Error),
    /// The content needs more blocks than there are.
    NoSpace {
        /// The available geometry.
        geometry: Geometry,
        /// The number of blocks that would be enough, if that could be found out.
        needed: Option<u32>,
    },
    /// The new image cannot be written.
    Unwritable(Error),
    /// The file or device for the image cannot be used.
    Target(Reason),
    /// Devices of the given family would refuse the image.
    Misfits(&'static Profile, Vec<Misfit>),
    /// A change of the image that was there was interrupted. Finished later, it would overwrite
    /// the new image.
    Interrupted(JournalError),
    /// The file exists already.
    Exists,
    /// A block device is overwritten only on request.
    Device,
    /// The dump holds something at this place that must not be replaced.
    Occupied {
        /// Its position, in bytes.
        offset: u64,
        /// A description of it.
        what: &'static str,
    },
    /// The size of the filesystem was not given.
    NoSize,
    /// User attributes were requested for an image of version 1.
    NoAttributes,
    /// An entry that was to be copied into an image of version 1 has user attributes. This is the
    /// first such path.
    HasAttributes(Vec<u8>),
    /// The original image is damaged.
    Damaged(Vec<Finding>),
    /// A part of the original image cannot be read.
    Source(PathError),
    /// The new image would replace the original.
    SameFile,
    /// The file to be replaced belongs to another user, but the new file would not.
    Owner(u32),
    /// Content after the filesystem, at these bytes of the file, is in the way.
    InTheWay(Range<u64>),
    /// The new image does not have the right content, because of a bug; the text says where.
    Differs(String),
    /// The filesystem would reach beyond the end of the dump or device.
    Beyond {
        /// The filesystem.
        geometry: Geometry,
        /// The bytes that are available.
        room: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry(e) => e.fmt(f),
            Self::Interrupted(e) => e.fmt(f),
            Self::Refused(entries) => {
                let count = show::count(entries.len(), "entry", "entries");
                writeln!(f, "{count} cannot be stored in the image:")?;
                entries.iter().try_for_each(|refusal| writeln!(f, "  {refusal}"))?;
                f.write_str("nothing was written")
            }
            Self::Unreadable(path, e) => {
                write!(f, "{}: cannot be read: {}", show(path), crate::show::cause(e))
            }
            Self::NoSpace { geometry, needed } => no_space(f, *geometry, *needed),
            Self::Unwritable(e) => e.fmt(f),
            Self::Target(reason) => reason.fmt(f),
            Self::Misfits(profile, misfits) => {
                writeln!(f, "devices of the profile {} would refuse the image:", profile.name)?;
                misfits.iter().try_for_each(|misfit| writeln!(f, "  {misfit}"))?;
                f.write_str("nothing was written")
            }
            Self::Exists => f.write_str("exists already; --force replaces it"),
            Self::Device => f.write_str("is a block device; --force writes to it"),
            Self::Occupied { offset, what } => write!(
                f,
                "at byte {offset} there is {what}; give the --offset or --partition of the \
                 filesystem that is to be replaced ('littlefs scan' lists them), or --force"
            ),
            Self::NoSize => f.write_str(
                "there is no filesystem whose size could be kept; give --size or --block-count",
            ),
            Self::NoAttributes => f.write_str(
                "littlefs version 1 has no attributes, so it cannot store times, owners, modes or \
                 symbolic links: leave out --attrs and --profile, or make a littlefs of version 2 \
                 ('littlefs convert --from v1')",
            ),
            Self::HasAttributes(path) => write!(
                f,
                "/{}: has user attributes, which version 1 cannot store; to make an image without \
                 them, use 'littlefs extract' and 'littlefs create --disk-version 1'",
                show(path)
            ),
            Self::Damaged(findings) => {
                for Finding { place, message, .. } in findings.iter().take(3) {
                    write!(f, "{place}: {message}; ")?;
                }
                f.write_str(
                    "a damaged image cannot be copied: 'littlefs check' lists all damage (with -p \
                     or -y, it repairs what it can), and 'littlefs extract' copies what can be \
                     read",
                )
            }
            Self::Source(e) => write!(f, "/{}: {}", show(&e.path), e.error),
            Self::SameFile => f.write_str("is the image itself; give the new image another name"),
            Self::Owner(uid) => write!(
                f,
                "belongs to user {uid}, and the new file would not: run the command as that user, \
                 or make a copy with 'littlefs clone'"
            ),
            Self::InTheWay(range) => write!(
                f,
                "there is something after the filesystem, in bytes {} to {}; --force overwrites it",
                range.start, range.end
            ),
            Self::Differs(what) => write!(f, "the new image is wrong: {what}; please report this"),
            Self::Beyond { geometry: g, room } => write!(
                f,
                "{} blocks of {} bytes reach beyond the end of the partition, file or device: \
                 there is only room for {}",
                g.block_count,
                g.block_size,
                show::bytes(*room)
            ),
        }
    }
}

fn no_space(f: &mut fmt::Formatter<'_>, g: Geometry, needed: Option<u32>) -> fmt::Result {
    write!(f, "the content does not fit into {} blocks of {} bytes", g.block_count, g.block_size)?;
    let Some(needed) = needed else {
        return f.write_str("; use a larger --size, or --size min");
    };
    let more = u64::from(needed.saturating_sub(g.block_count));
    let size = u64::from(needed) * u64::from(g.block_size);
    write!(
        f,
        ": it needs {needed}, which is {} ({} bytes) more; use --size {size}, or --size min",
        show::count(more, "block", "blocks"),
        more * u64::from(g.block_size)
    )
}

impl std::error::Error for Failure {}

impl From<Unsupported> for Failure {
    fn from(e: Unsupported) -> Self {
        Self::Geometry(e)
    }
}

impl From<PathError> for Failure {
    fn from(e: PathError) -> Self {
        Self::Source(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Unwritable(e)
    }
}

impl Creation {
    pub(super) fn geometry(&self, block_count: u32) -> Result<Geometry, Failure> {
        Ok(Geometry::new(self.format.chosen_block_size(), block_count)?)
    }

    /// Format `device`, and put the content of the manifest into it.
    pub(super) fn fill(
        &self,
        device: Arc<dyn BlockDevice>,
        manifest: &Manifest,
        progress: &Progress<'_>,
    ) -> Result<Fs, BuildError> {
        self.format.format(&*device)?;
        let options = self.format.open_options();
        let mut fs = Fs::open(device, &options.engine(self.format.chosen_block_size()))?;
        fs.allocate_from_the_start();
        let codec = options.codec(&fs)?;
        let special_files = codec.as_ref().is_some_and(|c| c.convention().special_files);
        let limits = fs.superblock();
        let refused = refusals(manifest, limits.name_max, limits.file_max, special_files);
        if !refused.is_empty() {
            return Err(BuildError::Refused(refused));
        }
        build(&mut fs, manifest, codec.as_ref(), &self.root_attrs, progress)?;
        Ok(fs)
    }
}

/// Write a new filesystem with the content of `manifest` into `file`, from byte `offset` on, and
/// sync it. Nobody else may use the file yet. Its old content at this place is overwritten. Free
/// blocks read as 0xFF, like erased flash. The same manifest always gives the same bytes. If the
/// content comes from another image, it is read back and compared, and the new image is checked.
///
/// # Errors
/// One [`Failure`] for each reason. After an error, the content of the file is undefined.
pub fn create_in(
    file: &File,
    offset: u64,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let version = how.format.chosen_disk_version();
    let created = match version {
        VERSION_1_1 => version1::create_in(file, offset, manifest, how, progress)?,
        _ => create_version2(file, offset, manifest, how, progress)?,
    };
    if let Some(original) = &manifest.image {
        let file = file.try_clone().map_err(unwritable)?;
        let stored: Arc<dyn BlockDevice> =
            Arc::new(FileDevice::new(file, offset, created.geometry));
        verify(&stored, version, original)?;
    }
    Ok(created)
}

fn create_version2(
    file: &File,
    offset: u64,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let (geometry, mut fs) = match how.size {
        Size::Blocks(count) => {
            let geometry = how.geometry(count)?;
            let filled = fill_file(file, offset, geometry, manifest, how, progress);
            (geometry, filled.map_err(|e| failure(e, geometry, || sizing::needed(manifest, how)))?)
        }
        Size::Least { free } => sizing::fill_least(file, offset, manifest, how, free, progress)?,
        Size::AsBefore => return Err(Failure::NoSize),
    };
    let blocks_used = fs.usage()?.blocks_used;
    let end = erase_free_blocks(file, offset, &mut fs, geometry, how.compact)?;
    file.sync_all().map_err(unwritable)?;
    let misfits = misfits(file, offset, geometry, how)?;
    let directories = manifest.items.iter().filter(|item| item.kind == Kind::Dir).count() as u64;
    Ok(Created {
        geometry,
        blocks_used,
        files: manifest.items.len() as u64 - directories,
        directories,
        bytes: manifest.bytes(),
        image_size: end,
        misfits,
        warnings: fs.warnings().to_vec(),
    })
}

/// The properties of the image just built that do not suit the devices.
fn misfits(
    file: &File,
    offset: u64,
    geometry: Geometry,
    how: &Creation,
) -> Result<Vec<Misfit>, Failure> {
    let Some(profile) = how.check.or(how.format.chosen_profile()) else { return Ok(Vec::new()) };
    let file = file.try_clone().map_err(unwritable)?;
    let device = Arc::new(FileDevice::new(file, offset, geometry));
    let image = OpenOptions::new().read_only(true).open_device(device)?;
    let found = image.misfits(profile).map_err(|e| e.error)?;
    match how.check {
        Some(profile) if found.iter().any(Misfit::is_refused) => {
            Err(Failure::Misfits(profile, found))
        }
        _ => Ok(found),
    }
}

pub(super) fn unwritable(source: io::Error) -> Failure {
    Error::from(IoError { op: IoOp::Prog, block: None, source }).into()
}

/// Build the filesystem in the file, with this many blocks.
pub(super) fn fill_file(
    file: &File,
    offset: u64,
    geometry: Geometry,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Fs, BuildError> {
    let file = file.try_clone();
    let file = file.map_err(|source| IoError { op: IoOp::Prog, block: None, source });
    let device = FreshDevice::new(file.map_err(Error::from)?, offset, geometry);
    how.fill(Arc::new(device), manifest, progress)
}

/// The failure to report. `needed` finds out how many blocks would be enough.
pub(super) fn failure(
    e: BuildError,
    geometry: Geometry,
    needed: impl FnOnce() -> Result<u32, Failure>,
) -> Failure {
    match e {
        BuildError::Refused(refused) => Failure::Refused(refused),
        BuildError::Unreadable(path, e) => Failure::Unreadable(path, e),
        BuildError::Fs(Error::NoSpace) => Failure::NoSpace { geometry, needed: needed().ok() },
        BuildError::Fs(e) => Failure::Unwritable(e),
    }
}

/// Make free blocks read as erased, or with `compact`, end the file after the last block in use.
/// Returns the size of the filesystem in the file.
fn erase_free_blocks(
    file: &File,
    offset: u64,
    fs: &mut Fs,
    geometry: Geometry,
    compact: bool,
) -> Result<u64, Failure> {
    let size = u64::from(geometry.block_size);
    let end = if compact { fs.used_end()? } else { geometry.block_count };
    let is_used = fs.used_blocks()?;
    let mut block = 0;
    while block < end {
        let free = (block..end).take_while(|&b| !is_used(b)).count() as u32;
        let start = offset + u64::from(block) * size;
        fill(file, start, u64::from(free) * size).map_err(unwritable)?;
        block += free + 1;
    }
    Ok(u64::from(end) * size)
}
