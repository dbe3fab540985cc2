//! The content of a file without what is wrapped around it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::content::{Content, Gatherer, Group};
#[cfg(feature = "compression")]
use super::packed;
use super::trouble::{Remarks, Trouble};
use super::{Kind, ReadAt, dfu, dumps, records, uf2};

/// How many bytes are unpacked unless the caller allows more.
pub const LIMIT: u64 = 4 << 30;
/// How deeply compressed files may be nested.
const DEPTH_MAX: usize = 4;

/// The content of a file that wraps an image.
pub struct Unwrapped {
    /// The formats around the content, the outermost first.
    pub kinds: Vec<Kind>,
    /// The content.
    pub bytes: Arc<dyn ReadAt>,
    /// The address of its first byte, if the format has addresses.
    pub base: u64,
    /// The stretches of bytes that long gaps separate: position and length of each.
    pub stretches: Vec<(u64, u64)>,
    /// Address and length of each piece.
    pub pieces: Vec<(u64, u64)>,
    /// Which of several contents this is.
    pub group: Group,
    /// What the user should know.
    pub remarks: Remarks,
}

impl Unwrapped {
    /// The bytes of a file, unchanged.
    ///
    /// # Errors
    /// If the size of the file cannot be determined.
    pub fn plain(file: File) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self {
            kinds: Vec::new(),
            bytes: Arc::new(file),
            base: 0,
            stretches: vec![(0, size)],
            pieces: vec![(0, size)],
            group: Group::Only,
            remarks: Remarks::default(),
        })
    }
}

impl Unwrapped {
    /// The gaps between the addresses `from` and `to`: where each begins and ends.
    pub fn gaps(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut all, mut at) = (Vec::new(), from);
        for &(address, len) in &self.pieces {
            if address > at {
                all.push((at, address.min(to)));
            }
            at = at.max(address.saturating_add(len));
            if at >= to {
                break;
            }
        }
        if at < to {
            all.push((at, to));
        }
        all
    }
}

/// The content, and the file it came from. The lock on the file is held as long as the content
/// exists.
struct Held<S> {
    content: S,
    _file: Arc<File>,
}

impl<S: ReadAt> ReadAt for Held<S> {
    fn size(&self) -> io::Result<u64> {
        self.content.size()
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.content.read_up_to(start, buf)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        self.content.data_from(start)
    }
}

/// A gap of at least this many bytes separates two stretches.
const LONG_GAP: u64 = 16 << 20;

/// The content of a file of this kind, but no more than `limit` bytes.
///
/// # Errors
/// If the file is damaged, has more content, or is of a kind that is only recognised.
pub fn unwrap(file: &Arc<File>, kind: Kind, limit: u64) -> Result<Unwrapped, Trouble> {
    let mut kinds = vec![kind];
    let mut remarks = Remarks::default();
    let mut unpacked: Option<Arc<File>> = None;
    loop {
        let (source, kind) = match (&unpacked, kinds.last()) {
            (unpacked, Some(&kind)) => (unpacked.as_ref().unwrap_or(file), kind),
            (_, None) => return Err(Trouble::Empty),
        };
        if !kind.is_compressed() {
            let (content, group) = read(source, kind, limit, &mut remarks)?;
            let (base, stretches) = (content.base(), content.stretches(LONG_GAP));
            let pieces = content.pieces();
            let bytes = Arc::new(Held { content, _file: Arc::clone(file) });
            return Ok(Unwrapped { kinds, bytes, base, stretches, pieces, group, remarks });
        }
        let inner = Arc::new(unpack(source, kind, limit)?);
        match Kind::of(&*inner).map_err(Trouble::Io)? {
            Some(_) if kinds.len() == DEPTH_MAX => return Err(Trouble::TooDeep),
            Some(kind) => {
                kinds.push(kind);
                unpacked = Some(inner);
            }
            None => {
                let size = inner.size().map_err(Trouble::Io)?;
                if size == 0 {
                    return Err(Trouble::Empty);
                }
                let bytes = Arc::new(Held { content: inner, _file: Arc::clone(file) });
                let stretches = vec![(0, size)];
                let group = Group::Only;
                let pieces = stretches.clone();
                return Ok(Unwrapped { kinds, bytes, base: 0, stretches, pieces, group, remarks });
            }
        }
    }
}

#[cfg(feature = "compression")]
fn unpack(source: &File, kind: Kind, limit: u64) -> Result<File, Trouble> {
    packed::unpack(source, kind, limit)
}

#[cfg(not(feature = "compression"))]
fn unpack(_source: &File, kind: Kind, _limit: u64) -> Result<File, Trouble> {
    Err(Trouble::OnlyNamed(kind))
}

/// Read a format whose records have addresses.
fn read(
    source: &File,
    kind: Kind,
    limit: u64,
    remarks: &mut Remarks,
) -> Result<(Content, Group), Trouble> {
    let mut gatherer = Gatherer::new(limit)?;
    match kind {
        Kind::Uf2 => {
            let starts = uf2::read(source, remarks, &mut |_, group, block| {
                gatherer.add(group, block.address.into(), block.data)
            })?;
            starts.iter().for_each(|(group, address)| gatherer.begin(group, *address));
        }
        Kind::IntelHex | Kind::Srec => {
            records::read(source, kind, remarks, &mut |record| {
                gatherer.add(&Group::Only, record.address.into(), record.data)
            })?;
        }
        Kind::HexDump | Kind::HexDumpColumns | Kind::NumberDump | Kind::HexDigits => {
            dumps::read(source, kind, limit, remarks, &mut |address, bytes| {
                gatherer.add(&Group::Only, address, bytes)
            })?;
        }
        Kind::DfuSe => dfu::read(source, remarks, &mut |_, group, address, data| {
            gatherer.add(group, address.into(), data)
        })?,
        Kind::Dfu => {
            if dfu::checksum(source)?.is_some_and(|(found, right)| found != right) {
                remarks.damaged("its checksum is wrong, so any part of it may be damaged");
            }
            let size = source.size().map_err(Trouble::Io)?;
            let content = Content::part(source, size.saturating_sub(dfu::SUFFIX));
            return content.map(|content| (content, Group::Only)).map_err(Trouble::Io);
        }
        _ => return Err(Trouble::OnlyNamed(kind)),
    }
    gatherer.finish(remarks)
}
