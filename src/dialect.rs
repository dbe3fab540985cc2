//! Showing an image of another dialect as a sound littlefs of version 2, to everything above.
//!
//! A dialect reads its metadata into directories ([`tree`]), and says where the bytes of its files
//! are ([`Lists`]). [`View`] is the device that shows the two as a littlefs, for reading only.

pub mod tree;
mod view;

use crate::bd::BlockDevice;
#[cfg(feature = "inspect")]
use crate::check::Report;
#[cfg(feature = "inspect")]
use crate::disk::{Pair, Tail};
use crate::error::Result;

pub use tree::Tree;
pub use view::View;

/// What a dialect reads of an image.
#[cfg(feature = "inspect")]
pub(crate) struct Reading {
    /// Its directories.
    pub tree: Tree,
    /// The pairs of its thread; none if it links none.
    pub thread: Option<Vec<Pair>>,
    /// What was found on the way.
    pub report: Report,
}

/// A metadata pair as a dialect reads it.
#[cfg(feature = "inspect")]
pub(crate) struct LivePair {
    /// The block that counts, and the other.
    pub pair: Pair,
    /// Bytes of the block that counts that are in use.
    pub used: u32,
    /// Entries in it.
    pub entries: usize,
    /// The next pair of the directory, or of the thread.
    pub tail: Option<Tail>,
}

/// How a dialect stores the content of a file in a list of blocks.
pub trait Lists: Send + Sync {
    /// The blocks of the list that ends with block `head` and holds `size` bytes, in the order of
    /// the file.
    ///
    /// # Errors
    /// When a pointer leaves the image, the list is longer than that, or cannot be read.
    fn load(&self, dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>>;

    /// The index of the block that holds byte `pos` of a file, in blocks of `block_size` bytes, and
    /// the position of that byte in the block.
    fn locate(&self, block_size: u32, pos: u32) -> (u32, u32);
}
