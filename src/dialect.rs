//! Showing an image of another dialect as a sound littlefs of version 2 to all layers above.
//!
//! The code of a dialect reads metadata into directories ([`tree`]), and tells where the bytes of
//! files are ([`Lists`]). [`View`] is a device that shows both as a littlefs, for reading only.

pub mod tree;
mod view;

use crate::bd::BlockDevice;
use crate::disk::ListIndex;
#[cfg(feature = "inspect")]
use crate::disk::{Pair, Tail};
use crate::error::Result;

pub use tree::Tree;
pub use view::View;

/// What a dialect has read from an image.
#[cfg(feature = "inspect")]
pub(crate) struct Reading {
    /// Its directories.
    pub tree: Tree,
    /// The pairs of its thread; `None` if the dialect has no thread.
    pub thread: Option<Vec<Pair>>,
}

/// A metadata pair as its dialect reads it.
#[cfg(feature = "inspect")]
pub(crate) struct LivePair {
    /// The active block, then the other one.
    pub pair: Pair,
    /// How many bytes of the active block are in use.
    pub used: u32,
    /// How many entries it has.
    pub entries: usize,
    /// The next pair of the directory or of the thread.
    pub tail: Option<Tail>,
}

/// How a dialect stores the content of a file in a list of blocks.
pub trait Lists: Send + Sync {
    /// The blocks of the list that ends with block `head` and holds `size` bytes, in the order of
    /// the file.
    ///
    /// # Errors
    /// If a pointer leads out of the image, if the list has more blocks than the image, or if it
    /// cannot be read.
    fn load(&self, dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>>;

    /// The index of the block that holds byte `pos` of a file, for blocks of `block_size` bytes,
    /// and the offset of the byte in that block.
    fn locate(&self, block_size: u32, pos: u32) -> (ListIndex, u32);
}
