//! Looking inside an image: every tag of a metadata pair, every pointer of a file, and the user of
//! each block.
//!
//! An [`Inspector`] answers one question about an image with a report. A report can be serialized,
//! and displayed as text for people. Damage is not an error: it is part of the report, and
//! [`Report::is_damaged`] says whether there is any. `docs/inspect.md` explains the output.

mod file;
mod half;
mod log;
mod pair;
mod place;
mod superblock;
pub mod survey;
mod text;
mod tree;
pub mod version1;

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use crate::bd::{BlockDevice, Geometry, IoResult};
use crate::disk::{Pair, Superblock};
use crate::image::Dialect;

pub use file::{AttributeReport, FileReport, ListBlock};
pub use half::{
    AppendReport, CommitReport, Effect, ForwardReport, HalfReport, HalfState, TagReport,
};
pub use log::{LogReport, LogStep};
pub use pair::{EntryReport, PairReport};
pub use place::{BlockReport, MetadataReport};
pub use superblock::{SuperblockCopy, SuperblockReport};
pub use survey::Problem;
pub use tree::{DirReport, GStateReport, MovedEntry, PairSummary, TreeEntry, TreeReport};

use survey::Survey;

/// The limit for reported entries of one path. A hostile directory may hold a name a thousand
/// times.
const FOUND_MAX: usize = 16;

/// A report about a part of an image.
pub trait Report: fmt::Display {
    /// Whether something in this part is damaged.
    fn is_damaged(&self) -> bool;
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unanswered {
    /// The filesystem does not have this block.
    OutOfRange {
        /// The given block.
        block: u32,
        /// How many blocks there are.
        block_count: u32,
    },
    /// The tree has no entry with that path.
    NotFound,
    /// It is a directory, but a file is needed.
    IsADirectory,
    /// It is not a directory, but one is needed.
    NotADirectory,
    /// The root directory has no entry of its own.
    IsRoot,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { block, block_count } => {
                write!(f, "there is no block {block:#x}: the filesystem has {block_count} blocks")
            }
            Self::NotFound => f.write_str("no such file or directory in the tree"),
            Self::IsADirectory => f.write_str("is a directory; use 'dir' instead of 'file'"),
            Self::NotADirectory => f.write_str("is not a directory; use 'file' instead of 'dir'"),
            Self::IsRoot => {
                f.write_str("the root directory has no entry of its own; use 'superblock' instead")
            }
        }
    }
}

impl std::error::Error for Unanswered {}

/// Looks into one image without changing anything.
pub struct Inspector {
    dev: Arc<dyn BlockDevice>,
    dialect: Dialect,
    /// The superblock with which the image was opened, if its dialect is not littlefs.
    superblock: Option<Superblock>,
    /// Byte position of block 0 in the image file, or in the content that is wrapped in it.
    offset: u64,
    survey: OnceCell<Survey>,
}

impl Inspector {
    /// An inspector of the littlefs on `dev`, which may be damaged.
    pub fn new(dev: Arc<dyn BlockDevice>) -> Self {
        Self::of_dialect(dev, Dialect::Littlefs, None)
    }

    /// An inspector of the image on `dev`, which is written in `dialect` and has this superblock;
    /// `None` if the superblock is lost.
    pub fn of_dialect(
        dev: Arc<dyn BlockDevice>,
        dialect: Dialect,
        superblock: Option<Superblock>,
    ) -> Self {
        Self { dev, dialect, superblock, offset: 0, survey: OnceCell::new() }
    }

    /// The same inspector, for a filesystem that starts at this byte of the image file, or of the
    /// content that is wrapped in it.
    #[must_use]
    pub fn starting_at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The dialect of the image.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Size and number of blocks.
    pub fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }

    /// A walk over the whole filesystem. It is made only once.
    pub fn survey(&self) -> &Survey {
        self.survey.get_or_init(|| {
            let survey = Survey::of_dialect(&*self.dev, self.dialect, self.superblock);
            survey.unwrap_or_else(|e| Survey::without_root(self.geometry(), &e))
        })
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// When the device fails.
    pub fn bytes(&self, block: u32) -> IoResult<Vec<u8>> {
        let mut bytes = vec![0; self.geometry().block_size as usize];
        self.dev.read(block, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn in_range(&self, block: u32) -> Result<(), Unanswered> {
        let block_count = self.geometry().block_count;
        if block >= block_count {
            return Err(Unanswered::OutOfRange { block, block_count });
        }
        Ok(())
    }

    /// The entries at `path`. There are several if a directory holds a name more than once.
    fn find(&self, path: &[u8]) -> Result<Vec<usize>, Unanswered> {
        let mut found = self.survey().find(path);
        found.truncate(FOUND_MAX);
        if found.is_empty() { Err(Unanswered::NotFound) } else { Ok(found) }
    }

    /// The blocks that a report about `pair` describes.
    ///
    /// # Errors
    /// If one of them is outside the filesystem.
    pub fn blocks_of_pair(&self, pair: Pair) -> Result<Vec<u32>, Unanswered> {
        pair.0.iter().try_for_each(|&block| self.in_range(block))?;
        Ok(pair.0.to_vec())
    }
}

/// Bytes in hexadecimal, in the form for JSON.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
