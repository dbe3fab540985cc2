//! The bytes that filesystems are looked for in: those of the file, or what is wrapped in it.

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

/// An open file, and what was found in it.
pub(super) struct Body {
    /// Holds the lock.
    file: File,
    /// Whether the file was opened for writing.
    writable: bool,
    layer: Layer,
}

/// What stands between the file and the bytes.
enum Layer {
    /// Nothing.
    Plain,
    /// A format that holds them.
    Wrapped(Unwrapped),
    /// Spare bytes behind each page, and perhaps a format around those.
    Nand(Unwrapped, Arc<Nand<Arc<dyn ReadAt>>>),
}

impl Body {
    /// The outermost format of what a file holds.
    pub fn kind_of(container: &Container, options: &Options) -> Result<Option<Kind>, Reason> {
        Ok(Kind::of(&container.file)?.or(options.page.map(|_| Kind::Nand)))
    }

    /// Recognise what the file is.
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

    /// Bytes of a filesystem at `at` that are missing at the end, and bytes that its maker left out
    /// there. An image that holds every block in use is as its maker wanted it; and formats that hold
    /// pieces at addresses leave out what is erased.
    pub fn lacks(&self, at: u64, geometry: Geometry) -> Result<(u64, u64), Reason> {
        let present = self.bytes().size()?.saturating_sub(at);
        let absent = geometry.size().saturating_sub(present);
        if absent == 0 {
            return Ok((0, 0));
        }
        let device: Arc<dyn BlockDevice> = match &self.layer {
            Layer::Plain => Arc::new(FileDevice::new(self.file.try_clone()?, at, geometry)),
            Layer::Wrapped(content) => {
                Arc::new(Window::new(Arc::clone(&content.bytes), at, geometry))
            }
            Layer::Nand(_, nand) => Arc::new(Window::new(Arc::clone(nand), at, geometry)),
        };
        let holds_all = || {
            // What cannot be read to its end is truncated.
            let end = Fs::used_end_of(device);
            end.is_ok_and(|end| u64::from(end) * u64::from(geometry.block_size) <= present)
        };
        let has_addresses = self.kinds().last().is_some_and(|kind| kind.has_addresses());
        Ok(if has_addresses || holds_all() { (0, absent) } else { (absent, 0) })
    }

    /// Another descriptor of the file, with its lock.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The bytes without what is around them.
    pub fn bytes(&self) -> &dyn ReadAt {
        match &self.layer {
            Layer::Plain => &self.file,
            Layer::Wrapped(unwrapped) => &*unwrapped.bytes,
            Layer::Nand(_, nand) => &**nand,
        }
    }

    /// Whether they can be written.
    pub fn is_writable(&self) -> bool {
        self.writable && matches!(self.layer, Layer::Plain)
    }

    /// What was in the file, if something was.
    pub fn unwrapped(&self) -> Option<&Unwrapped> {
        match &self.layer {
            Layer::Plain => None,
            Layer::Wrapped(unwrapped) | Layer::Nand(unwrapped, _) => Some(unwrapped),
        }
    }

    /// Formats around the bytes, the outermost first.
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

    /// What there is to say of what is around the bytes.
    pub fn notes(&self) -> Vec<String> {
        self.unwrapped().map(|unwrapped| unwrapped.notes.clone()).unwrap_or_default()
    }

    /// Stretches of bytes with long gaps between them, position and length of each.
    pub fn stretches(&self) -> Result<Vec<(u64, u64)>, Reason> {
        match &self.layer {
            Layer::Wrapped(unwrapped) => Ok(unwrapped.stretches.clone()),
            Layer::Plain | Layer::Nand(..) => Ok(vec![(0, self.bytes().size()?)]),
        }
    }

    /// The pages that a plain file has, if it is a dump with spare bytes beyond doubt.
    pub fn spare_bytes(&self, options: &Options) -> Result<Option<Page>, Reason> {
        match self.layer {
            Layer::Plain if options.page.is_none() => Ok(nand::recognise(&self.file)?),
            _ => Ok(None),
        }
    }

    /// The blocks from byte `offset` on; of a compacted image some are left out at the end. The lock is
    /// held as long as they are there.
    pub fn into_device(
        self,
        offset: u64,
        geometry: Geometry,
        is_compacted: bool,
    ) -> Arc<dyn BlockDevice> {
        match self.layer {
            Layer::Plain if is_compacted => {
                Arc::new(FileDevice::compacted(self.file, offset, geometry))
            }
            Layer::Plain => Arc::new(FileDevice::new(self.file, offset, geometry)),
            Layer::Wrapped(unwrapped) => Arc::new(Window::new(unwrapped.bytes, offset, geometry)),
            Layer::Nand(_, nand) => Arc::new(Window::new(nand, offset, geometry)),
        }
    }

    /// What is to be said of bad blocks in a dump of NAND flash.
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
        // Nothing is known of where the blocks of version 1 were.
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

    /// What is to be said of a filesystem in it.
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
                "{path}: the superblock in block {block} is lost; the one in block {} is used",
                1 - block
            ));
        }
    }
}
