//! Removing entries.

use super::source::Paths;
use super::{EditError, Refusals, Step, What, above, at};
use crate::Littlefs;
use crate::error::Error;

/// Remove entries like rm(1): files, and with `recursive`, also directories with everything in
/// them. An entry inside a removed directory is not reported separately. `stop` is called before
/// each entry.
///
/// # Errors
/// [`EditError::Refused`] if an entry does not exist (unless that is allowed), for a directory
/// without `recursive`, for the root directory, and for a directory that has an entry which no path
/// can name.
pub fn remove(
    image: &Littlefs,
    paths: Paths<'_>,
    recursive: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    for asked in paths.asked {
        if matches!(asked.rsplit(|&b| b == b'/').find(|part| !part.is_empty()), Some(b".")) {
            refusals.add(asked, "'.' cannot be removed; give the name of the directory");
        }
    }
    let sources = paths.find(image, &mut refusals)?;
    let roots = sources.iter().filter(|source| recursive && source.metadata.is_dir());
    let roots: std::collections::HashSet<&[u8]> = roots.map(|source| &source.path[..]).collect();
    let mut all = Vec::new();
    for source in &sources {
        let path = &source.path[..];
        if path.is_empty() {
            refusals.add(path, "the root directory cannot be removed");
        } else if above(path).any(|dir| roots.contains(dir)) {
            // it is removed together with the directory
        } else if !source.metadata.is_dir() {
            all.push((path.to_vec(), false));
        } else if recursive {
            all.push((path.to_vec(), true));
            gather(image, path, &mut all, &mut refusals)?;
        } else {
            refusals.add(path, "is a directory; give -r to remove directories");
        }
    }
    refusals.end()?;
    // the content of a directory comes after it in the list, but must be removed first
    let mut steps = Vec::new();
    for (path, is_dir) in all.iter().rev() {
        if stop() {
            return Err(EditError::Stopped(steps.len()));
        }
        let removed = if *is_dir { image.remove_dir(path) } else { image.remove_file(path) };
        removed.map_err(at(path))?;
        steps.push(Step::new(What::Removed, path));
    }
    Ok(steps)
}

/// Everything below a directory, each directory before its entries.
fn gather(
    image: &Littlefs,
    path: &[u8],
    all: &mut Vec<(Vec<u8>, bool)>,
    refusals: &mut Refusals,
) -> Result<(), EditError> {
    for entry in image.walk(path).map_err(at(path))? {
        match entry {
            Ok(entry) => all.push((entry.path().to_vec(), entry.metadata().is_dir())),
            Err(e) if matches!(e.error, Error::InvalidName) => refusals.add(
                &e.path,
                "no path can lead to an entry of this name; 'littlefs check --repair' gives it \
                 another name",
            ),
            Err(e) => refusals.add(&e.path, e.error.to_string()),
        }
    }
    Ok(())
}
