//! Making entries, and changing their times and sizes.

use std::time::SystemTime;

use super::source::Paths;
use super::{EditError, Refusals, Step, What, above, at, clean, join, split};
use crate::check::show;
use crate::error::Error;
use crate::transfer::Refusal;
use crate::{FileOptions, Littlefs, SetMetadata};

/// The longest target of a symbolic link that Linux follows, in bytes.
const LINK_MAX: usize = 4095;

/// The clean path of an entry that will be made.
fn wanted(path: &[u8]) -> Result<Vec<u8>, EditError> {
    clean(path).ok_or_else(|| refused(path, "'..' is not allowed in paths inside an image"))
}

fn refused(path: &[u8], why: &str) -> EditError {
    EditError::Refused(vec![Refusal { path: path.to_vec(), why: why.to_owned() }])
}

/// Make directories like mkdir(1). With `parents`, missing parent directories are made, too, and
/// existing directories are no error.
///
/// # Errors
/// When an entry exists already, or a parent directory does not exist.
pub fn make_dirs(
    image: &Littlefs,
    paths: &[Vec<u8>],
    parents: bool,
) -> Result<Vec<Step>, EditError> {
    let mut steps = Vec::new();
    for path in paths {
        let path = wanted(path)?;
        if !parents {
            match image.create_dir(&path) {
                Ok(()) => steps.push(Step::new(What::Created, &path)),
                Err(Error::NotFound) => {
                    let why = lacks_directory(image, &path).unwrap_or_default();
                    return Err(refused(&path, &format!("{why}; -p makes it, too")));
                }
                Err(e) => return Err(at(&path)(e)),
            }
            continue;
        }
        let mut dir = Vec::new();
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            dir = join(&dir, name);
            match image.create_dir(&dir) {
                Ok(()) => steps.push(Step::new(What::Created, &dir)),
                Err(Error::Exists) if image.metadata(&dir).map_err(at(&dir))?.is_dir() => {}
                Err(e) => return Err(at(&dir)(e)),
            }
        }
    }
    Ok(steps)
}

/// Why nothing can be made at a path, if a directory above it does not exist.
fn lacks_directory(image: &Littlefs, path: &[u8]) -> Option<String> {
    let is_missing = |dir: &&[u8]| image.exists(dir).is_ok_and(|exists| !exists);
    let missing = above(path).filter(is_missing).last()?;
    Some(format!("the directory /{} does not exist", show(missing)))
}

/// Set the time of entries to `time` like touch(1), if the image stores times. With `create`,
/// missing entries are made as empty files. Without `time`, the current time is used.
///
/// # Errors
/// When the directory of a new file does not exist, a pattern matches nothing, or the image fails.
pub fn touch(
    image: &Littlefs,
    paths: Paths<'_>,
    create: bool,
    time: Option<SystemTime>,
) -> Result<Vec<Step>, EditError> {
    let now = Some(time.unwrap_or_else(SystemTime::now));
    let set = SetMetadata { modified: now, accessed: now, ..SetMetadata::default() };
    let mut steps = Vec::new();
    for_each(image, paths, create, &mut |path, is_there| {
        if !is_there {
            image.write_with(path, b"", &set).map_err(at(path))?;
            steps.push(Step::new(What::Created, path));
        } else if image.convention().is_some() {
            image.set_metadata(path, &set).map_err(at(path))?;
            steps.push(Step::new(What::Changed, path));
        } else if time.is_some() {
            return Err(refused(
                path,
                "the time cannot be set, because the image stores no times; --attrs chooses how to \
                 store them",
            ));
        }
        Ok(())
    })?;
    Ok(steps)
}

/// The new size of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// This many bytes.
    To(u64),
    /// Larger by this many bytes.
    Grow(u64),
    /// Smaller by this many bytes, or empty.
    Shrink(u64),
}

impl Length {
    fn of(self, before: u64) -> u64 {
        match self {
            Self::To(size) => size,
            Self::Grow(by) => before.saturating_add(by),
            Self::Shrink(by) => before.saturating_sub(by),
        }
    }
}

/// Set the size of files like truncate(1). Added bytes read as zeros. With `create`, missing files
/// are made.
///
/// # Errors
/// Those of [`touch`]. Also when an entry is not a regular file, or when the image does not allow
/// the size or has no space for it.
pub fn truncate(
    image: &Littlefs,
    paths: Paths<'_>,
    create: bool,
    length: Length,
) -> Result<Vec<Step>, EditError> {
    let mut steps = Vec::new();
    for_each(image, paths, create, &mut |path, is_there| {
        if is_there && !image.metadata(path).map_err(at(path))?.is_file() {
            return Err(refused(path, "is not a regular file"));
        }
        let set = || -> Result<bool, Error> {
            let file = FileOptions::new().write(true).create(create).open(image, path)?;
            let (before, size) = (file.len(), length.of(file.len()));
            if size != before {
                file.set_len(size)?;
            }
            file.close()?;
            Ok(size != before)
        };
        let changed = set().map_err(at(path))?;
        match (is_there, changed) {
            (false, _) => steps.push(Step::new(What::Created, path)),
            (true, true) => steps.push(Step::new(What::Changed, path)),
            (true, false) => {}
        }
        Ok(())
    })?;
    Ok(steps)
}

type Act<'a> = dyn FnMut(&[u8], bool) -> Result<(), EditError> + 'a;

/// Call `act` with each existing path. With `create`, call it with missing paths, too. Its second
/// argument tells whether the path exists.
fn for_each(
    image: &Littlefs,
    paths: Paths<'_>,
    create: bool,
    act: &mut Act<'_>,
) -> Result<(), EditError> {
    let mut refusals = Refusals::default();
    for asked in paths.asked {
        let path = wanted(asked)?;
        let is_pattern = !paths.literal && path.iter().any(|b| b"*?[{".contains(b));
        if image.exists(&path).map_err(at(&path))? || is_pattern {
            let one = Paths { asked: std::slice::from_ref(asked), ..paths };
            for source in one.find(image, &mut refusals)? {
                act(&source.path, true)?;
            }
        } else if !create {
            // a missing path is ignored, as by `touch -c`
        } else if asked.ends_with(b"/") {
            refusals.add(&path, Error::NotDirectory.to_string());
        } else if let Some(why) = lacks_directory(image, &path) {
            refusals.add(&path, why + "; 'littlefs mkdir -p' makes it");
        } else {
            act(&path, false)?;
        }
    }
    refusals.end()
}

/// Make a symbolic link at `path` that leads to `to`, like `ln -s`. If `path` is a directory and
/// `exact` is false, the link is made in it, under the last name of `to`. With `force`, an existing
/// file is replaced.
///
/// # Errors
/// [`EditError::Refused`] if the image cannot store links, if `to` is not a possible target, or if
/// an entry exists already.
pub fn link(
    image: &Littlefs,
    to: &[u8],
    path: &[u8],
    exact: bool,
    force: bool,
) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    let mut link = wanted(path)?;
    let is_dir = |path: &[u8]| match image.metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(Error::NotFound | Error::NotDirectory) => Ok(false),
        Err(e) => Err(at(path)(e)),
    };
    if !exact && is_dir(&link)? {
        let end = to.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
        link = join(&link, split(to.get(..end).unwrap_or_default()).1);
    } else if path.ends_with(b"/") {
        refusals.add(&link, Error::NotDirectory.to_string());
    } else if let Some(why) = lacks_directory(image, &link) {
        refusals.add(&link, why + "; 'littlefs mkdir -p' makes it");
    }
    if to.is_empty() || to.len() > LINK_MAX || to.contains(&0) {
        refusals.add(
            &link,
            format!("the target of a link must have 1 to {LINK_MAX} bytes, without NUL"),
        );
    }
    if !image.convention().is_some_and(|c| c.special_files) {
        refusals.add(
            &link,
            "the image stores no symbolic links; give '--attrs unix' to let it store them (an \
             image of littlefs version 1 must be converted first, with 'littlefs convert --from \
             v1')",
        );
    }
    refusals.end()?;
    if force {
        match image.remove_file(&link) {
            Ok(()) | Err(Error::NotFound) => {}
            Err(e) => return Err(at(&link)(e)),
        }
    }
    image.symlink(to, &link).map_err(at(&link))?;
    Ok(vec![Step::new(What::Created, &link)])
}
