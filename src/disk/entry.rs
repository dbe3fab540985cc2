//! What the struct tag of an entry says about its content (SPEC: `0x2xx` STRUCT).
//!
//! No module outside `disk` may look into the bytes of a struct tag. A test below finds modules
//! that do.

use super::commit::Writer;
use super::list::List;
use super::log::RawEntry;
use super::{Pair, Part, tag};

/// Type and data of a struct tag, in the form of [`RawEntry::data`].
type Struct = (u16, Part);

/// The content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// The content itself, which is the data of the tag.
    Inline(&'a [u8]),
    /// A CTZ list.
    List(List),
    /// A directory, whose first pair is this one.
    Dir(Pair),
    /// A struct of a known type whose data is too short.
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
    /// The content that the struct of `entry` describes.
    pub fn of(entry: &'a RawEntry) -> Self {
        let Some((ty, data)) = &entry.data else { return Self::Missing };
        Self::decode(*ty, data)
    }

    /// The content that a struct tag of type `ty` with this data describes.
    pub fn decode(ty: u16, data: &'a [u8]) -> Self {
        let short = Self::Short { ty };
        match ty {
            tag::INLINESTRUCT => Self::Inline(data),
            tag::CTZSTRUCT => List::from_bytes(data).map_or(short, Self::List),
            tag::DIRSTRUCT => Pair::from_bytes(data).map_or(short, Self::Dir),
            _ => Self::Unknown { ty },
        }
    }

    /// Whether this library knows struct tags of type `ty`.
    pub fn is_known(ty: u16) -> bool {
        !matches!(Self::decode(ty, &[]), Self::Unknown { .. })
    }

    /// The list, if the content is one.
    pub fn list(self) -> Option<List> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The first pair of the directory, if the content is one.
    pub fn dir(self) -> Option<Pair> {
        match self {
            Self::Dir(pair) => Some(pair),
            _ => None,
        }
    }

    /// Whether the struct has the type of directories, even if its data is too short.
    pub fn is_of_directory(self) -> bool {
        matches!(self, Self::Dir(_) | Self::Short { ty: tag::DIRSTRUCT })
    }

    /// Type and data of the struct tag for this content. `None` if there is no struct, or if only
    /// the type of the struct is known.
    pub fn to_struct(self) -> Option<Struct> {
        match self {
            Self::Inline(data) => Some((tag::INLINESTRUCT, data.into())),
            Self::List(list) => Some((tag::CTZSTRUCT, list.to_bytes().into())),
            Self::Dir(pair) => Some((tag::DIRSTRUCT, pair.to_bytes().into())),
            Self::Short { .. } | Self::Unknown { .. } | Self::Missing => None,
        }
    }

    /// Put the struct tag for this content of entry `id` into a commit.
    pub fn put(self, id: u16, w: &mut Writer) {
        match self {
            Self::Inline(data) => w.tag(tag::INLINESTRUCT, id, data),
            Self::List(list) => w.tag(tag::CTZSTRUCT, id, &list.to_bytes()),
            Self::Dir(pair) => w.tag(tag::DIRSTRUCT, id, &pair.to_bytes()),
            Self::Short { .. } | Self::Unknown { .. } | Self::Missing => {}
        }
    }
}

/// The pairs of directories that the entries of a log name.
pub fn dirs(entries: &[RawEntry]) -> impl Iterator<Item = Pair> {
    entries.iter().filter_map(|entry| Content::of(entry).dir())
}

/// The CTZ lists that the entries of a log name.
pub fn lists(entries: &[RawEntry]) -> impl Iterator<Item = List> {
    entries.iter().filter_map(|entry| Content::of(entry).list())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn content_is_decoded_as_it_was_encoded() {
        let contents = [
            Content::Inline(b"text"),
            Content::Inline(b""),
            Content::List(List { head: 7, size: 4711 }),
            Content::Dir(Pair([3, 9])),
        ];
        for content in contents {
            let (ty, data) = content.to_struct().expect("a struct");
            assert_eq!(Content::decode(ty, &data), content);
            let longer = [&data, &b"behind"[..]].concat();
            let same = Content::decode(ty, &longer) == content;
            assert_eq!(same, !matches!(content, Content::Inline(_)), "what is behind is ignored");
        }
    }

    /// Words in code that decodes or encodes struct tags.
    const OF_STRUCTS: [&str; 4] = ["DIRSTRUCT", "INLINESTRUCT", "CTZSTRUCT", "Pair([head"];

    fn look_for_decoders(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                look_for_decoders(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("source text");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let decodes = |line: &&str| OF_STRUCTS.iter().any(|word| line.contains(word));
                found
                    .extend(code.filter(decodes).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }

    #[test]
    fn no_code_outside_disk_decodes_struct_tags() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        look_for_decoders(&src, &mut found);
        let (here, elsewhere): (Vec<String>, Vec<String>) =
            found.into_iter().partition(|line| line.contains("/src/disk/"));
        assert!(!here.is_empty(), "the search finds what it looks for");
        assert!(elsewhere.is_empty(), "use disk::entry::Content: {elsewhere:#?}");
    }

    #[test]
    fn missing_short_and_unknown_structs_are_distinguished() {
        for ty in [tag::CTZSTRUCT, tag::DIRSTRUCT] {
            assert_eq!(Content::decode(ty, &[0; 7]), Content::Short { ty });
        }
        assert_eq!(Content::decode(0x203, &[0; 8]), Content::Unknown { ty: 0x203 });
        let entry = RawEntry::default();
        assert_eq!(Content::of(&entry), Content::Missing);
        assert!(Content::decode(tag::DIRSTRUCT, &[]).is_of_directory());
        assert!(!Content::decode(tag::CTZSTRUCT, &[]).is_of_directory());
    }
}
