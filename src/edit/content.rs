//! Reading the content of one file for editing, and writing it back.

use super::{EditError, Refusals, Step, What, at, clean, split};
use crate::Littlefs;
use crate::error::Error;

/// The content of the regular file at `path`; `None` if it does not exist, but its directory does.
///
/// # Errors
/// [`EditError::Refused`] if it is not a regular file, or its directory does not exist.
/// [`EditError::Image`] when the image cannot be read.
pub fn content(image: &Littlefs, path: &[u8]) -> Result<Option<Vec<u8>>, EditError> {
    let mut refusals = Refusals::default();
    let Some(clean) = clean(path) else {
        refusals.add(path, "'..' is not allowed in paths inside an image");
        return refusals.end().map(|()| None);
    };
    match image.metadata(&clean) {
        Ok(metadata) if metadata.is_file() => {
            if path.ends_with(b"/") {
                return Err(at(&clean)(Error::NotDirectory));
            }
            return Ok(Some(image.read(&clean).map_err(at(&clean))?));
        }
        Ok(_) => refusals.add(&clean, "is not a regular file"),
        Err(Error::NotFound) if !path.ends_with(b"/") => {
            let dir = split(&clean).0;
            if !image.metadata(dir).map_err(at(dir))?.is_dir() {
                refusals.add(dir, Error::NotDirectory.to_string());
            }
        }
        Err(e) => return Err(at(&clean)(e)),
    }
    refusals.end().map(|()| None)
}

/// Replace the content of the file at `path` with `after`; `before` is the content that was read
/// for editing. The file keeps its attributes.
///
/// # Errors
/// Those of [`content`]. Also [`EditError::Refused`] if somebody else has changed the file in the
/// meantime, and [`EditError::Image`] when the image has no space.
pub fn replace(
    image: &Littlefs,
    path: &[u8],
    before: Option<&[u8]>,
    after: &[u8],
) -> Result<Vec<Step>, EditError> {
    let now = content(image, path)?;
    let path = clean(path).unwrap_or_default();
    if now.as_deref() != before {
        let mut refusals = Refusals::default();
        refusals.add(&path, "was changed by somebody else in the meantime");
        refusals.end()?;
    }
    image.write(&path, after).map_err(at(&path))?;
    let what = if before.is_some() { What::Changed } else { What::Created };
    Ok(vec![Step::new(what, &path)])
}
