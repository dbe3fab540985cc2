//! Where the content of an entry is, as its struct tag says (SPEC: `0x2xx` STRUCT).

use super::log::RawEntry;
use super::{Pair, tag};

/// The content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes, which stand in the tag itself.
    Inline(&'a [u8]),
    /// A CTZ list.
    List {
        /// Address of its last block, from which it is followed.
        head: u32,
        /// Bytes of content.
        size: u32,
    },
    /// A directory that begins with this pair.
    Dir(Pair),
    /// A struct of a known type that is too short to say anything.
    Short {
        /// The 11-bit type of the tag.
        ty: u16,
    },
    /// A struct of a type that this library does not know.
    Unknown {
        /// The 11-bit type of the tag.
        ty: u16,
    },
    /// No struct at all.
    Missing,
}

impl<'a> Content<'a> {
    /// What the struct of `entry` says.
    pub fn of(entry: &'a RawEntry) -> Self {
        let Some((ty, data)) = &entry.data else { return Self::Missing };
        Self::decode(*ty, data)
    }

    /// What a struct tag of type `ty` with this data says.
    pub fn decode(ty: u16, data: &'a [u8]) -> Self {
        match (ty, Pair::from_bytes(data)) {
            (tag::INLINESTRUCT, _) => Self::Inline(data),
            (tag::CTZSTRUCT, Some(Pair([head, size]))) => Self::List { head, size },
            (tag::DIRSTRUCT, Some(pair)) => Self::Dir(pair),
            (tag::CTZSTRUCT | tag::DIRSTRUCT, None) => Self::Short { ty },
            _ => Self::Unknown { ty },
        }
    }
}
