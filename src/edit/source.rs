//! The entries that paths and patterns match, and the new paths of moved and copied ones.

use std::collections::HashSet;

use super::{EditError, Refusals, at, clean, is_within, split};
use crate::error::Error;
use crate::transfer::{Destination, GlobError, expand};
use crate::{FileType, Littlefs, Metadata};

/// Requested paths inside an image.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// The paths, or patterns.
    pub asked: &'a [Vec<u8>],
    /// Whether they are never treated as patterns. A path that exists is never treated as one.
    pub literal: bool,
    /// Whether paths and patterns that match nothing are ignored.
    pub may_miss: bool,
}

/// An entry that exists.
pub(super) struct Source {
    /// Its path, without `/` in front.
    pub path: Vec<u8>,
    pub metadata: Metadata,
}

impl Paths<'_> {
    /// The entries, each once. Paths that match nothing are refused.
    pub(super) fn find(
        self,
        image: &Littlefs,
        refusals: &mut Refusals,
    ) -> Result<Vec<Source>, EditError> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for asked in self.asked {
            for path in self.expand(image, asked, refusals)? {
                let metadata = match image.metadata(&path) {
                    Ok(metadata) => metadata,
                    // it is damaged, or was removed in the meantime
                    Err(error) => {
                        refusals.add(&path, error.to_string());
                        continue;
                    }
                };
                if asked.ends_with(b"/") && !metadata.is_dir() {
                    refusals.add(&path, Error::NotDirectory.to_string());
                } else if seen.insert(path.clone()) {
                    found.push(Source { path, metadata });
                }
            }
        }
        Ok(found)
    }

    fn expand(
        self,
        image: &Littlefs,
        asked: &[u8],
        refusals: &mut Refusals,
    ) -> Result<Vec<Vec<u8>>, EditError> {
        let Some(path) = clean(asked) else {
            refusals.add(asked, "'..' is not allowed in paths inside an image");
            return Ok(Vec::new());
        };
        let is_there = image.exists(&path).map_err(at(&path))?;
        let error = match (is_there, self.literal) {
            (true, _) => return Ok(vec![path]),
            (false, true) => GlobError::NotFound(path),
            (false, false) => match expand(image, asked) {
                Ok(paths) => return Ok(paths),
                Err(error) => error,
            },
        };
        match error {
            GlobError::Unreadable(e) => return Err(e.into()),
            GlobError::NotFound(_) | GlobError::NoMatch(_) if self.may_miss => {}
            error => refusals.add(clean(asked).as_deref().unwrap_or(asked), error.reason()),
        }
        Ok(Vec::new())
    }
}

/// The destination of moved and copied entries.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A directory of the image for the entries, or the new path of a single entry.
    pub path: &'a [u8],
    /// Whether `path` is the new path of a single entry, even if it names a directory.
    pub exact: bool,
}

impl Target<'_> {
    /// The new path of each source. Impossible ones are refused.
    pub(super) fn of<'s>(
        self,
        image: &Littlefs,
        sources: &'s [Source],
        refusals: &mut Refusals,
    ) -> Result<Vec<(&'s Source, Vec<u8>)>, EditError> {
        let destination = self.destination(image, sources)?;
        let mut planned = Vec::new();
        let mut taken = HashSet::new();
        for source in sources {
            if source.path.is_empty() {
                refusals.add(&source.path, "the root directory cannot be moved or copied");
                continue;
            }
            let to = destination.of(split(&source.path).1);
            if to == source.path {
                refusals.add(&source.path, "source and destination are the same");
            } else if source.metadata.is_dir() && is_within(&to, &source.path) {
                refusals.add(&source.path, "a directory cannot go into itself");
            } else if !taken.insert(to.clone()) {
                refusals.add(&source.path, "another entry of the same name goes to the same place");
            } else if let Some(why) = in_the_way(image, &source.metadata, &to)? {
                refusals.add(&to, why);
            } else {
                planned.push((source, to));
            }
        }
        Ok(planned)
    }

    fn destination(self, image: &Littlefs, sources: &[Source]) -> Result<Destination, EditError> {
        let path = match sources {
            // only the new path of a directory may end with a slash
            [only] if only.metadata.is_dir() => {
                let end = self.path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
                self.path.get(..end).unwrap_or_default()
            }
            _ => self.path,
        };
        match self.exact {
            true => Ok(Destination::named(image, path, sources.len())?),
            false => Ok(Destination::like_cp(image, path, sources.len())?),
        }
    }
}

/// Why an entry cannot take the path `to`, because of an entry that exists there.
pub(super) fn in_the_way(
    image: &Littlefs,
    source: &Metadata,
    to: &[u8],
) -> Result<Option<&'static str>, EditError> {
    let there = match image.metadata(to) {
        Ok(there) => there,
        Err(Error::NotFound | Error::NotDirectory) => return Ok(None),
        Err(e) => return Err(at(to)(e)),
    };
    Ok(match (source.file_type(), there.file_type()) {
        (FileType::Dir, FileType::Dir) => None,
        (FileType::Dir, _) => Some("a directory cannot replace a file"),
        (_, FileType::Dir) => Some("a file cannot replace a directory"),
        _ => None,
    })
}
