//! Moving entries.

use std::collections::HashSet;

use super::source::{Paths, Target};
use super::{EditError, Refusals, Step, What, above, at};
use crate::Littlefs;

/// Move entries like mv(1): into a directory, or a single one to a new path. A file may replace a
/// file, and a directory an empty directory. Content and attributes are kept. `stop` is called
/// before each entry.
///
/// # Errors
/// [`EditError::Refused`] if an entry does not exist, or the move is impossible: a directory into
/// itself, a file in place of a directory or the other way round, several entries to the same path.
pub fn rename(
    image: &Littlefs,
    paths: Paths<'_>,
    target: Target<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    let sources = paths.find(image, &mut refusals)?;
    if sources.is_empty() {
        refusals.end()?;
        return Ok(Vec::new());
    }
    let all: HashSet<&[u8]> = sources.iter().map(|source| &source.path[..]).collect();
    for source in &sources {
        if above(&source.path).any(|dir| all.contains(dir)) {
            refusals.add(&source.path, "is in a directory that is also moved");
        }
    }
    let planned = target.of(image, &sources, &mut refusals)?;
    refusals.end()?;
    let mut steps = Vec::new();
    for (source, to) in planned {
        if stop() {
            return Err(EditError::Stopped(steps.len()));
        }
        image.rename(&source.path, &to).map_err(at(&to))?;
        steps.push(Step::from(What::Moved, &source.path, &to));
    }
    Ok(steps)
}
