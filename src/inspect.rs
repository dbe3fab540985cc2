//! Seeing inside: every tag of a metadata pair, every pointer of a file, and who uses which block.
//!
//! An [`Inspector`] answers one question about an image with a report. A report can be serialized,
//! and displays as text for people. Damage is no error: it is part of the report, and
//! [`Report::is_damaged`] tells whether there is some. `docs/inspect.md` explains what is shown.

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

/// Entries of one path that are reported: a hostile directory may hold a name a thousand times.
const FOUND_MAX: usize = 16;

/// What can be said of part of an image.
pub trait Report: fmt::Display {
    /// Whether something is damaged there.
    fn is_damaged(&self) -> bool;
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unanswered {
    /// The filesystem has fewer blocks.
    OutOfRange {
        /// The block that was asked for.
        block: u32,
        /// How many blocks there are.
        block_count: u32,
    },
    /// The tree holds no entry of that path.
    NotFound,
    /// It is a directory, and files were asked for.
    IsADirectory,
    /// It is no directory.
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
            Self::IsRoot => f.write_str(
                "the root directory has no entry; 'superblock' shows what is in its place",
            ),
        }
    }
}

impl std::error::Error for Unanswered {}

/// Looks into one image, and changes nothing.
pub struct Inspector {
    dev: Arc<dyn BlockDevice>,
    dialect: Dialect,
    /// What the image was opened with, where its dialect is another than littlefs.
    superblock: Option<Superblock>,
    /// Byte position of block 0 in the image file, or in what is wrapped in it.
    offset: u64,
    survey: OnceCell<Survey>,
}

impl Inspector {
    /// To look into the littlefs on `dev`, sound or not.
    pub fn new(dev: Arc<dyn BlockDevice>) -> Self {
        Self::of_dialect(dev, Dialect::Littlefs, None)
    }

    /// To look into the image on `dev`, which is written as `dialect` and has this superblock; none
    /// where it is lost.
    pub fn of_dialect(
        dev: Arc<dyn BlockDevice>,
        dialect: Dialect,
        superblock: Option<Superblock>,
    ) -> Self {
        Self { dev, dialect, superblock, offset: 0, survey: OnceCell::new() }
    }

    /// The same for a filesystem that starts at this byte of the image file, or of what is wrapped in it.
    #[must_use]
    pub fn starting_at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// How the image is written.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Size and number of blocks.
    pub fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }

    /// A walk over the whole filesystem, which is done once.
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

    /// The entries at `path`; more than one where a name is there more than once.
    fn find(&self, path: &[u8]) -> Result<Vec<usize>, Unanswered> {
        let mut found = self.survey().find(path);
        found.truncate(FOUND_MAX);
        if found.is_empty() { Err(Unanswered::NotFound) } else { Ok(found) }
    }

    /// The blocks that a report about `pair` speaks of.
    ///
    /// # Errors
    /// When one is outside the filesystem.
    pub fn blocks_of_pair(&self, pair: Pair) -> Result<Vec<u32>, Unanswered> {
        pair.0.iter().try_for_each(|&block| self.in_range(block))?;
        Ok(pair.0.to_vec())
    }
}

/// Bytes in hexadecimal, as JSON has them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
