//! Making a directory of an image equal to a directory of the host by writing only the differences.

use std::collections::HashSet;

use super::Progress;
use super::build::Refusal;
use super::manifest::{Item, Kind, Manifest, split};
use super::pattern::Patterns;
use super::put::{
    self, Destination, PIECE, Put, PutError, clean, file_type, put_item, set_metadata,
};
use super::step::{Step, What};
use crate::error::Error;
use crate::{FileType, Littlefs, Metadata, PathError};

/// The changes that made both equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// What was written: different files, and missing directories.
    pub put: Put,
    /// Files that were already the same.
    pub unchanged: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// All steps, in order.
    pub steps: Vec<Step>,
}

/// Make the directory `dest` of the image hold the entries of `manifest`, in memory. Files with the
/// same content are not written. Owners and modes are set if they differ and the image stores them.
/// If only the time differs, nothing is written.
///
/// With `delete`, entries that the manifest does not have are removed, and so are entries of
/// another kind that are in the way. Entries that the patterns leave out are kept. `stop` is called
/// before each entry.
///
/// # Errors
/// Those of [`put()`](super::put()) and [`check`](super::check()).
pub fn sync(
    image: &Littlefs,
    manifest: &Manifest,
    dest: &[u8],
    delete: Option<&Patterns>,
    progress: &Progress<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Synced, PutError> {
    let dest = clean(dest);
    let mut done = Synced::default();
    let failed = |error| PutError::Image(PathError { path: dest.clone(), error });
    match image.metadata(&dest) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(failed(Error::NotDirectory)),
        Err(Error::NotFound) => {
            image.create_dir(&dest).map_err(failed)?;
            done.put.directories += 1;
            done.steps.push(Step::new(What::Created, &dest));
        }
        Err(e) => return Err(failed(e)),
    }
    if let Some(kept) = delete {
        remove(image, manifest, &dest, kept, &mut done)?;
    }
    let into = Destination::Into(dest);
    put::check(image, manifest, &into)?;
    let mut buf = Vec::new();
    let mut passed = 0;
    for item in manifest.items() {
        if stop() {
            return Err(PutError::Stopped(done.put));
        }
        let path = into.of(&item.path);
        update(image, manifest, item, &path, &mut buf, &|at| progress(passed + at), &mut done)?;
        passed += item.size;
        progress(passed);
    }
    Ok(done)
}

/// Write one entry, if it differs.
fn update(
    image: &Littlefs,
    manifest: &Manifest,
    item: &Item,
    path: &[u8],
    buf: &mut Vec<u8>,
    progress: &Progress<'_>,
    done: &mut Synced,
) -> Result<(), PutError> {
    let failed = |error| PutError::Image(PathError { path: path.to_vec(), error });
    let there = match image.metadata(path) {
        Ok(there) => Some(there),
        Err(Error::NotFound) => None,
        Err(e) => return Err(failed(e)),
    };
    let is_same = match &there {
        Some(there) => has_content(image, manifest, item, path, there, buf)?,
        None => false,
    };
    match &there {
        Some(there) if is_same && has_owner(item, there) => {
            done.unchanged += u64::from(item.kind != Kind::Dir);
            return Ok(());
        }
        Some(_) if is_same => {
            image.set_metadata(path, &set_metadata(item)).map_err(failed)?;
            done.put.files += u64::from(item.kind != Kind::Dir);
        }
        _ => {
            put_item(image, manifest, item, path, buf, progress)?;
            done.put.bytes += item.size;
            match item.kind {
                Kind::Dir => done.put.directories += 1,
                _ => done.put.files += 1,
            }
        }
    }
    let what = if there.is_some() { What::Changed } else { What::Created };
    done.steps.push(Step::new(what, path));
    Ok(())
}

/// Whether the owner and mode in the image are those of the host, as far as the image stores them.
fn has_owner(item: &Item, there: &Metadata) -> bool {
    there.permissions().is_none_or(|mode| mode == item.stat.mode & 0o7777)
        && there.uid().is_none_or(|uid| uid == item.stat.uid)
        && there.gid().is_none_or(|gid| gid == item.stat.gid)
}

/// Whether the entry at `path` is of the same kind and has the same content.
fn has_content(
    image: &Littlefs,
    manifest: &Manifest,
    item: &Item,
    path: &[u8],
    there: &Metadata,
    buf: &mut Vec<u8>,
) -> Result<bool, PutError> {
    if there.file_type() != file_type(item) {
        return Ok(false);
    }
    if there.file_type() == FileType::Dir {
        return Ok(true);
    }
    if there.len() != item.size {
        return Ok(false);
    }
    let failed = |error| PutError::Image(PathError { path: path.to_vec(), error });
    let unreadable = |e| PutError::Unreadable(item.path.to_vec(), e);
    let mut content = manifest.open(item).map_err(unreadable)?;
    let file = image.open_file(path).map_err(failed)?;
    let mut stored = vec![0; PIECE.min(usize::try_from(item.size).unwrap_or(PIECE))];
    let mut at = 0;
    while at < item.size {
        content.fill(buf, PIECE).map_err(unreadable)?;
        let stored = stored.get_mut(..buf.len()).unwrap_or_default();
        match file.read_at(stored, at) {
            Ok(read) if stored.get(..read) == Some(&buf[..]) => at += read as u64,
            Ok(_) => return Ok(false),
            // damaged content differs, so that it is replaced
            Err(Error::Corrupt(_)) => return Ok(false),
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(true)
}

/// Remove entries that the manifest does not have, or has as another kind.
fn remove(
    image: &Littlefs,
    manifest: &Manifest,
    dest: &[u8],
    kept: &Patterns,
    done: &mut Synced,
) -> Result<(), PutError> {
    let wanted = |item: &Item| (item.path.to_vec(), item.kind == Kind::Dir);
    let wanted: std::collections::HashMap<Vec<u8>, bool> =
        manifest.items().iter().map(wanted).collect();
    let start = if dest.is_empty() { 0 } else { dest.len() + 1 };
    let mut gone: Vec<(Vec<u8>, bool)> = Vec::new();
    let mut holding: HashSet<Vec<u8>> = HashSet::new();
    let mut refused = Vec::new();
    let failed = |path: &[u8], error| PutError::Image(PathError { path: path.to_vec(), error });
    for entry in image.walk(dest).map_err(|e| failed(dest, e))? {
        let (path, is_dir) = match &entry {
            Ok(entry) => (entry.path(), entry.metadata().is_dir()),
            Err(e) => (&e.path[..], false),
        };
        let below = path.get(start..).unwrap_or_default();
        if kept.matches_any(below) {
            // keep the directories above the entry as well
            let mut dir = split(below).0;
            while !dir.is_empty() && holding.insert(dir.to_vec()) {
                dir = split(dir).0;
            }
        } else if let Err(e) = entry {
            refused.push(Refusal { path: e.path, why: format!("cannot be removed: {}", e.error) });
        } else if wanted.get(below) != Some(&is_dir) {
            gone.push((path.to_vec(), is_dir));
        }
    }
    if !refused.is_empty() {
        return Err(PutError::Refused(refused));
    }
    for (path, is_dir) in gone.iter().rev() {
        if *is_dir && path.get(start..).is_some_and(|below| holding.contains(below)) {
            continue;
        }
        let removed = if *is_dir { image.remove_dir(path) } else { image.remove_file(path) };
        removed.map_err(|e| failed(path, e))?;
        done.removed += 1;
        done.steps.push(Step::new(What::Removed, path));
    }
    Ok(())
}
