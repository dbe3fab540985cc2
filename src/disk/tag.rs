//! Metadata tags (SPEC: Metadata tags).
//!
//! ```text
//! [----            32             ----]
//! [1|--  11   --|--  10  --|--  10  --]
//!  ^      ^          ^          ^- length in bytes, 0x3ff: deleted
//!  |      |          '------------ id, 0x3ff: belongs to no entry
//!  |      '----------------------- type3 = type1 (3 bits), chunk (8 bits)
//!  '------------------------------ invalid
//! ```

use super::num::{low8, low16};

/// The id in tags that belong to the pair and not to an entry.
pub const ID_NONE: u16 = 0x3ff;
/// The length that marks a deleted attribute.
pub const LEN_DELETED: u16 = 0x3ff;
/// The largest length of data, in bytes.
pub const LEN_MAX: u32 = 0x3fe;
/// The value with which the first tag of a block is XORed.
pub const FIRST: u32 = 0xffff_ffff;

/// Type1: names.
pub const NAME: u16 = 0x000;
/// Type1: structs.
pub const STRUCT: u16 = 0x200;
/// Type1: user attributes. The chunk is the type of the attribute.
pub const USERATTR: u16 = 0x300;
/// Type1: tails.
pub const TAIL: u16 = 0x600;

/// Name of a regular file.
pub const REG: u16 = 0x001;
/// Name of a directory.
pub const DIR: u16 = 0x002;
/// Name of the superblock entry.
pub const SUPERBLOCK: u16 = 0x0ff;
/// Pointer to a directory's first pair.
pub const DIRSTRUCT: u16 = 0x200;
/// File content in the tag.
pub const INLINESTRUCT: u16 = 0x201;
/// Head and size of a CTZ list.
pub const CTZSTRUCT: u16 = 0x202;
/// Insertion of an id.
pub const CREATE: u16 = 0x401;
/// Removal of an id.
pub const DELETE: u16 = 0x4ff;
/// End of a commit. The lowest bit of the chunk is the valid bit that the next tag must have.
pub const CCRC: u16 = 0x500;
/// Checksum of the erased bytes after the commit (disk version 2.1).
pub const FCRC: u16 = 0x5ff;
/// Next pair of the thread; it belongs to another directory.
pub const SOFTTAIL: u16 = 0x600;
/// Next pair of the same directory.
pub const HARDTAIL: u16 = 0x601;
/// Delta of the global state.
pub const MOVESTATE: u16 = 0x7ff;

/// One tag, after the XOR with the tag before it was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// Make a tag with an 11-bit type, an id, and the length of its data in bytes.
    pub fn new(type3: u16, id: u16, len: u16) -> Self {
        Self(
            (u32::from(type3 & 0x7ff) << 20)
                | (u32::from(id & 0x3ff) << 10)
                | u32::from(len & 0x3ff),
        )
    }

    /// Whether the valid bit says that this tag was written.
    pub fn is_valid(self) -> bool {
        self.0 & 0x8000_0000 == 0
    }

    /// The 11-bit type.
    pub fn type3(self) -> u16 {
        low16((self.0 >> 20) & 0x7ff)
    }

    /// The 3-bit type, in the form of a type3 with chunk 0.
    pub fn type1(self) -> u16 {
        self.type3() & 0x700
    }

    /// The low 8 bits of the type.
    pub fn chunk(self) -> u8 {
        low8(self.0 >> 20)
    }

    /// Whether this is the CRC of a commit, whatever its chunk.
    pub fn is_ccrc(self) -> bool {
        self.type3() & 0x780 == CCRC
    }

    /// The name of the type in SPEC.md, without `LFS_TYPE_`.
    #[cfg(feature = "inspect")]
    pub fn name(self) -> &'static str {
        match self.type3() {
            REG => "REG",
            DIR => "DIR",
            SUPERBLOCK => "SUPERBLOCK",
            DIRSTRUCT => "DIRSTRUCT",
            INLINESTRUCT => "INLINESTRUCT",
            CTZSTRUCT => "CTZSTRUCT",
            CREATE => "CREATE",
            DELETE => "DELETE",
            FCRC => "FCRC",
            SOFTTAIL => "SOFTTAIL",
            HARDTAIL => "HARDTAIL",
            MOVESTATE => "MOVESTATE",
            _ if self.is_ccrc() => "CCRC",
            _ => match self.type1() {
                NAME => "NAME",
                STRUCT => "STRUCT",
                USERATTR => "USERATTR",
                0x400 => "SPLICE",
                CCRC => "CRC",
                TAIL => "TAIL",
                0x700 => "GSTATE",
                _ => "FROM",
            },
        }
    }

    /// The id.
    pub fn id(self) -> u16 {
        low16((self.0 >> 10) & 0x3ff)
    }

    /// Whether the tag marks an attribute as deleted.
    pub fn is_deleted(self) -> bool {
        self.0 & 0x3ff == u32::from(LEN_DELETED)
    }

    /// How many bytes of data follow the tag.
    pub fn size(self) -> u32 {
        if self.is_deleted() { 0 } else { self.0 & 0x3ff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_as_they_were_encoded() {
        let t = Tag::new(USERATTR + 0x74, 5, 12);
        assert_eq!((t.type1(), t.chunk(), t.id(), t.size()), (USERATTR, 0x74, 5, 12));
        assert!(t.is_valid() && !t.is_deleted());
        let d = Tag::new(DELETE, 1, LEN_DELETED);
        assert!(d.is_deleted() && d.size() == 0);
        assert!(Tag::new(CCRC + 1, ID_NONE, 8).is_ccrc() && !Tag::new(FCRC, ID_NONE, 8).is_ccrc());
    }
}
