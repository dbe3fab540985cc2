//! The bytes that are searched for filesystems: the bytes of the file, or the content that is
//! wrapped in it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::place::Chosen;
use super::{Container, Kind, Options, Page, Reason};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::container::moved::{self, Moved};
use crate::container::{Found, Nand, ReadAt, Unwrapped, Window, nand, unwrap};
use crate::disk::Superblock;
use crate::fs::Fs;
use crate::show::Show;

/// An open file, and the format of its content.
pub(super) struct Body {
    /// Holds the lock.
    file: File,
    /// Whether the file was opened for writing.
    writable: bool,
    layer: Layer,
}

/// What an image file does not hold of its filesystem, at the end.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// Nothing: the file holds the whole filesystem.
    None,
    /// Some blocks in use. This many bytes are missing in the truncated file.
    Missing(u64),
    /// Only free blocks. This many bytes were left out of the compacted file.
    LeftOut(u64),
}

impl Absent {
    /// How many bytes are missing in a truncated file, or 0.
    pub fn missing(self) -> u64 {
        match self {
            Self::Missing(bytes) => bytes,
            Self::None | Self::LeftOut(_) => 0,
        }
    }

    /// How many bytes were left out of a compacted file, or 0.
    pub fn left_out(self) -> u64 {
        match self {
            Self::LeftOut(bytes) => bytes,
            Self::None | Self::Missing(_) => 0,
        }
    }
}

/// The formats between the file and the bytes.
enum Layer {
    /// Nothing.
    Plain,
    /// A format that wraps the bytes.
    Wrapped(Unwrapped),
    /// Spare bytes behind each page, perhaps with a format around them.
    Nand(Unwrapped, Arc<Nand<Arc<dyn ReadAt>>>),
}

impl Body {
    /// The outermost format of a file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn kind_of(container: &Container, options: &Options) -> Result<Option<Kind>, Reason> {
        Ok(Kind::of(&container.file)?.or(options.page.map(|_| Kind::Nand)))
    }

    /// The bytes of a file as they are, whatever format they may have.
    pub fn plain(container: Container) -> Self {
        let Container { file, writable, .. } = container;
        Self { file, writable, layer: Layer::Plain }
    }

    /// Recognise the format of a file.
    ///
    /// # Errors
    /// [`Reason::Unreadable`] if the format is damaged or would unpack to more than is allowed, and
    /// an error if the file cannot be read.
    pub fn of(container: Container, options: &Options) -> Result<Self, Reason> {
        let Container { file, writable, .. } = container;
        let limit = options.unpack_limit.unwrap_or(unwrap::LIMIT);
        let mut unwrapped = match (Kind::of(&file)?, options.page) {
            (None, None) => return Ok(Self { file, writable, layer: Layer::Plain }),
            (None, Some(_)) => Unwrapped::plain(file.try_clone()?)?,
            (Some(kind), _) => unwrap::unwrap(&Arc::new(file.try_clone()?), kind, limit)
                .map_err(|trouble| Reason::Unreadable(kind, trouble))?,
        };
        let layer = match options.page {
            None => Layer::Wrapped(unwrapped),
            Some(page) => {
                unwrapped.kinds.push(Kind::Nand);
                let nand = Arc::new(Nand::new(Arc::clone(&unwrapped.bytes), page));
                Layer::Nand(unwrapped, nand)
            }
        };
        Ok(Self { file, writable, layer })
    }

    /// What the file does not hold of the filesystem at `at`. If the file holds all blocks that are
    /// in use, the others were left out on purpose. Formats with addresses leave out erased bytes,
    /// unless the file is known to be damaged.
    ///
    /// # Errors
    /// If the size of the file cannot be determined.
    pub fn lacks(&self, at: u64, geometry: Geometry) -> Result<Absent, Reason> {
        let present = self.bytes().size()?.saturating_sub(at);
        let absent = geometry.size().saturating_sub(present);
        if absent == 0 {
            return Ok(Absent::None);
        }
        let device: Arc<dyn BlockDevice> = match &self.layer {
            Layer::Plain => Arc::new(FileDevice::new(self.file.try_clone()?, at, geometry)),
            Layer::Wrapped(content) => {
                Arc::new(Window::new(Arc::clone(&content.bytes), at, geometry))
            }
            Layer::Nand(_, nand) => Arc::new(Window::new(Arc::clone(nand), at, geometry)),
        };
        let holds_all = || {
            // if blocks in use are missing or cannot be read, the image is truncated
            let end = Fs::used_end_of(device);
            end.is_ok_and(|end| u64::from(end) * u64::from(geometry.block_size) <= present)
        };
        let is_complete = self.unwrapped().is_some_and(|content| {
            self.incomplete().is_none()
                && content.kinds.last().is_some_and(|kind| kind.has_addresses())
        });
        Ok(match is_complete || holds_all() {
            true => Absent::LeftOut(absent),
            false => Absent::Missing(absent),
        })
    }

    /// Another descriptor of the file. It shares the lock.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The bytes without the formats around them.
    pub fn bytes(&self) -> &dyn ReadAt {
        match &self.layer {
            Layer::Plain => &self.file,
            Layer::Wrapped(unwrapped) => &*unwrapped.bytes,
            Layer::Nand(_, nand) => &**nand,
        }
    }

    /// Whether the bytes can be written.
    pub fn is_writable(&self) -> bool {
        self.writable && matches!(self.layer, Layer::Plain)
    }

    /// The content that is wrapped in the file; `None` for a plain file.
    pub fn unwrapped(&self) -> Option<&Unwrapped> {
        match &self.layer {
            Layer::Plain => None,
            Layer::Wrapped(unwrapped) | Layer::Nand(unwrapped, _) => Some(unwrapped),
        }
    }

    /// The formats around the bytes, the outermost first.
    pub fn kinds(&self) -> Vec<Kind> {
        self.unwrapped().map(|unwrapped| unwrapped.kinds.clone()).unwrap_or_default()
    }

    /// The outermost format.
    pub fn kind(&self) -> Option<Kind> {
        self.kinds().first().copied()
    }

    /// The pages of a dump with spare bytes.
    pub fn page(&self) -> Option<Page> {
        match &self.layer {
            Layer::Nand(_, nand) => Some(nand.page()),
            Layer::Plain | Layer::Wrapped(_) => None,
        }
    }

    /// The address of the first byte.
    pub fn base(&self) -> u64 {
        self.unwrapped().map_or(0, |unwrapped| unwrapped.base)
    }

    /// Notes about the formats around the bytes.
    pub fn notes(&self) -> Vec<String> {
        self.unwrapped().map(|unwrapped| unwrapped.remarks.notes.clone()).unwrap_or_default()
    }

    /// What is missing or damaged in the container around the bytes, if something is.
    pub fn incomplete(&self) -> Option<&str> {
        self.unwrapped()?.remarks.damage.as_deref()
    }

    /// Whether bytes are missing before the first one, and it is not known how many.
    pub fn start_is_lost(&self) -> bool {
        self.unwrapped().is_some_and(|unwrapped| unwrapped.remarks.start_is_lost)
    }

    /// The reason why no filesystem can be used, with the damage that may be its cause.
    pub fn because_incomplete(&self, reason: Reason) -> Reason {
        match self.incomplete() {
            Some(what) => Reason::InIncomplete(what.to_owned(), Box::new(reason)),
            None => reason,
        }
    }

    /// The stretches of bytes with long gaps between them: position and length of each.
    ///
    /// # Errors
    /// If the size of the file cannot be determined.
    pub fn stretches(&self) -> Result<Vec<(u64, u64)>, Reason> {
        match &self.layer {
            Layer::Wrapped(unwrapped) => Ok(unwrapped.stretches.clone()),
            Layer::Plain | Layer::Nand(..) => Ok(vec![(0, self.bytes().size()?)]),
        }
    }

    /// The pages of a plain file that is certainly a dump with spare bytes, although the options do
    /// not give any.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn spare_bytes(&self, options: &Options) -> Result<Option<Page>, Reason> {
        match self.layer {
            Layer::Plain if options.page.is_none() => Ok(nand::recognise(&self.file)?),
            _ => Ok(None),
        }
    }

    /// The blocks from byte `offset`. The lock is held as long as the device exists.
    pub fn into_device(
        self,
        offset: u64,
        geometry: Geometry,
        absent: Absent,
    ) -> Arc<dyn BlockDevice> {
        let is_truncated = matches!(absent, Absent::Missing(_));
        match self.layer {
            Layer::Plain if is_truncated => {
                Arc::new(Window::truncated(self.file, offset, geometry))
            }
            Layer::Plain if matches!(absent, Absent::LeftOut(_)) => {
                Arc::new(FileDevice::compacted(self.file, offset, geometry))
            }
            Layer::Plain => Arc::new(FileDevice::new(self.file, offset, geometry)),
            Layer::Wrapped(Unwrapped { bytes, .. }) if is_truncated => {
                Arc::new(Window::truncated(bytes, offset, geometry))
            }
            Layer::Wrapped(Unwrapped { bytes, .. }) => {
                Arc::new(Window::new(bytes, offset, geometry))
            }
            Layer::Nand(_, nand) if is_truncated => {
                Arc::new(Window::truncated(nand, offset, geometry))
            }
            Layer::Nand(_, nand) => Arc::new(Window::new(nand, offset, geometry)),
        }
    }

    /// Notes about bad blocks in a dump of NAND flash.
    pub fn bad_blocks(&self, found: &Found) -> Vec<String> {
        let Layer::Nand(_, nand) = &self.layer else { return Vec::new() };
        let Superblock { block_size, block_count, .. } = found.superblock;
        let Ok(geometry) = Geometry::new(block_size, block_count) else { return Vec::new() };
        let mut notes = Vec::new();
        let bad = nand.bad_blocks(found.at, block_size, block_count).unwrap_or_default();
        if !bad.is_empty() {
            let bad: Vec<String> = bad.iter().map(u32::to_string).collect();
            notes.push(format!("the flash has marked these blocks as bad: {}", bad.join(", ")));
        }
        // in version 1, there is no way to find out whether blocks have moved
        let window = Window::new(Arc::clone(nand), found.at, geometry);
        let moved = if found.superblock.is_version1() { Vec::new() } else { moved::find(&window) };
        notes.extend(moved.iter().map(|Moved { block, by }| {
            let place = block - by;
            format!(
                "the content of block {block} is in block {place}: the dump leaves out {by} \
                 blocks before it, perhaps because they are bad, so everything after them is at \
                 too low an address"
            )
        }));
        notes
    }

    /// Add notes about a filesystem in this file.
    pub fn remark(&self, path: &Path, chosen: &Chosen, notes: &mut Vec<String>) {
        let path = path.show();
        let found = &chosen.found;
        notes.extend(self.notes().iter().map(|note| format!("{path}: {note}")));
        if let Some(page) = self.page() {
            notes.push(format!("{path}: read as a dump of NAND flash with pages of {page}"));
        }
        notes.extend(self.bad_blocks(found).iter().map(|note| format!("{path}: {note}")));
        if chosen.automatic {
            let partition = match found.label {
                Some(label) => format!(", partition {label}"),
                None => String::new(),
            };
            let at = found.at;
            notes
                .push(format!("{path}: its filesystem starts at offset={at} ({at:#x}){partition}"));
        }
        if let Some(doubt) = found.doubt {
            notes.push(format!("{path}: {doubt}; so it is read-only"));
        } else if let Some(block) = found.lost {
            notes.push(format!(
                "{path}: the superblock in block {block} is lost; the one in block {} is used, and \
                 may show an older state; if files are missing, run 'littlefs recover' before \
                 anything is written",
                1 - block
            ));
        }
    }
}
