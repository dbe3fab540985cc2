//! Copying entries.

use super::source::{Paths, Source, Target, in_the_way};
use super::{EditError, Refusals, Step, What, at, join};
use crate::error::Error;
use crate::{Littlefs, Metadata};

/// A planned copy.
struct Planned {
    from: Vec<u8>,
    to: Vec<u8>,
    metadata: Metadata,
}

/// Copy entries like cp(1): into a directory, or a single one to a new path. With `recursive`,
/// directories are copied with everything in them, and entries are added to existing directories. A
/// copy has the content and the user attributes of its source, and therefore its times and its
/// mode. `stop` is called before each entry.
///
/// # Errors
/// [`EditError::Refused`] if an entry does not exist, or a copy is impossible: a directory without
/// `recursive` or into itself, a file in place of a directory or the other way round, several
/// entries to the same path.
pub fn copy(
    image: &Littlefs,
    paths: Paths<'_>,
    target: Target<'_>,
    recursive: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    let sources = paths.find(image, &mut refusals)?;
    if sources.is_empty() {
        refusals.end()?;
        return Ok(Vec::new());
    }
    let mut planned = Vec::new();
    for (source, to) in target.of(image, &sources, &mut refusals)? {
        if source.metadata.is_dir() && !recursive {
            refusals.add(&source.path, "is a directory; give -r to copy directories");
        } else {
            plan(image, source, to, &mut planned, &mut refusals)?;
        }
    }
    refusals.end()?;
    let mut steps = Vec::new();
    let mut new_dirs = Vec::new();
    for Planned { from, to, metadata } in &planned {
        if stop() {
            return Err(EditError::Stopped(steps.len()));
        }
        if !metadata.is_dir() {
            image.copy(from, to).map_err(at(to))?;
        } else {
            match image.create_dir(to) {
                Ok(()) => new_dirs.push((from, to)),
                Err(Error::Exists) => continue,
                Err(e) => return Err(at(to)(e)),
            }
        }
        steps.push(Step::from(What::Copied, from, to));
    }
    // directories are finished last, because adding entries to them changes their times
    for (from, to) in new_dirs.into_iter().rev() {
        image.copy_attrs(from, to).map_err(at(to))?;
    }
    Ok(steps)
}

/// A source and everything below it, each directory before its entries.
fn plan(
    image: &Littlefs,
    source: &Source,
    to: Vec<u8>,
    planned: &mut Vec<Planned>,
    refusals: &mut Refusals,
) -> Result<(), EditError> {
    let from = &source.path;
    if source.metadata.is_dir() {
        let is_new = !image.exists(&to).map_err(at(&to))?;
        planned.push(Planned { from: from.clone(), to: to.clone(), metadata: source.metadata });
        for entry in image.walk(from).map_err(at(from))? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    refusals.add(&e.path, e.error.to_string());
                    continue;
                }
            };
            let rest = entry.path().get(from.len() + 1..).unwrap_or_default();
            let to = join(&to, rest);
            if !is_new && let Some(why) = in_the_way(image, entry.metadata(), &to)? {
                refusals.add(&to, why);
            }
            let (from, metadata) = (entry.path().to_vec(), *entry.metadata());
            planned.push(Planned { from, to, metadata });
        }
    } else {
        planned.push(Planned { from: from.clone(), to, metadata: source.metadata });
    }
    Ok(())
}
