//! Where the content of entries is stored.

use super::open_files::Body;
use super::{DirId, FileId, Fs, Node};
use crate::disk::ctz;
use crate::error::{Error, Result};
use crate::mdir::Data;

/// Where the content of an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// Inline, in a metadata pair of its directory: a small file (SPEC: `0x201` INLINESTRUCT).
    Inline,
    /// In a list of data blocks (SPEC: `0x202` CTZSTRUCT).
    List {
        /// How many blocks the list has.
        blocks: u32,
        /// Address of the last block, from which readers follow the list. `None` if a part of the
        /// content is only in memory.
        head: Option<u32>,
    },
    /// In metadata pairs, of two blocks each: a directory (SPEC: `0x200` DIRSTRUCT).
    Pairs {
        /// How many pairs.
        pairs: u32,
        /// The blocks of the first pair.
        first: [u32; 2],
    },
}

impl Storage {
    /// How many blocks belong to this entry alone.
    pub fn blocks(self) -> u32 {
        match self {
            Self::Inline => 0,
            Self::List { blocks, .. } => blocks,
            Self::Pairs { pairs, .. } => pairs.saturating_mul(2),
        }
    }
}

impl Fs {
    /// Where the content of the entry `name` in `dir` is stored.
    ///
    /// # Errors
    /// If there is no such entry, or it is damaged.
    pub fn storage(&mut self, dir: DirId, name: &[u8]) -> Result<Storage> {
        let _running = self.run();
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let e = self.entry(place)?;
        match (e.file, &e.data) {
            (Some(file), _) => Ok(self.storage_of_file(file)),
            (None, &Data::Ctz(list)) => {
                let blocks = list.blocks(self.layout.block_size);
                Ok(Storage::List { blocks, head: Some(list.head) })
            }
            (None, _) => match self.node(place)? {
                Node::Dir(child) => self.storage_of_dir(child),
                Node::File { .. } => Ok(Storage::Inline),
            },
        }
    }

    /// Where the entries of a directory are stored.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn storage_of_dir(&self, dir: DirId) -> Result<Storage> {
        let pairs = &self.dir(dir)?.pairs;
        let first = pairs.first().ok_or(Error::NotFound)?;
        Ok(Storage::Pairs { pairs: pairs.len() as u32, first: self.pair(*first).blocks.0 })
    }

    fn storage_of_file(&self, file: FileId) -> Storage {
        let file = self.file(file);
        match &file.body {
            Body::Inline | Body::Detached(_) => Storage::Inline,
            Body::Ctz(_) => {
                Storage::List { blocks: ctz::blocks(self.layout.block_size, file.size), head: None }
            }
        }
    }
}
