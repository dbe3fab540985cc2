//! Listing everything in a file, taking images out of the files in which they are wrapped, and
//! putting them back.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::body::{Absent, Body};
use super::{Container, Found, Kind, OpenError, Options, Page, Reason, Source, Superblock, Survey};
use crate::bd::Geometry;
use crate::container::wrap::{self, Replaced, Target};
use crate::files::{self, Output, Place};

/// How many bytes are copied at a time.
const CHUNK: usize = 256 << 10;

/// If a file leaves out the erased end of a filesystem, the filesystem is written out up to this
/// size in bytes.
const FILESYSTEM_MAX: u64 = 4 << 30;

/// What is in a file.
#[derive(Debug)]
pub struct Contents {
    /// The formats around the bytes, the outermost first.
    pub formats: Vec<Kind>,
    /// The pages of a dump of NAND flash with spare bytes.
    pub page: Option<Page>,
    /// The address of the first byte, if the format has addresses.
    pub base: u64,
    /// How many bytes there are without the formats around them.
    pub size: u64,
    /// The filesystems and partition tables.
    pub survey: Survey,
    /// For each filesystem, how many bytes are missing at its end.
    pub missing: Vec<u64>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Search the whole file.
///
/// # Errors
/// If the file cannot be opened or read, or the content inside its format cannot be read.
pub fn scan(source: &Source, options: &Options) -> Result<Contents, OpenError> {
    let look = || -> Result<Contents, Reason> {
        let body = open_body(source, options)?;
        let (survey, size) = (Survey::new(body.bytes(), u64::MAX)?, body.bytes().size()?);
        let (formats, page, base) = (body.kinds(), body.page(), body.base());
        let missing =
            survey.found.iter().map(|found| missing(&body, found)).collect::<Result<_, _>>()?;
        let mut notes = body.notes();
        notes.extend(survey.found.iter().flat_map(|found| body.bad_blocks(found)));
        Ok(Contents { formats, page, base, size, survey, missing, notes })
    };
    look().map_err(|reason| source.refused(reason))
}

/// How many bytes of a filesystem are missing at its end.
fn missing(body: &Body, found: &Found) -> Result<u64, Reason> {
    let Superblock { block_size, block_count, .. } = found.superblock;
    match Geometry::new(block_size, block_count) {
        Ok(geometry) => body.lacks(found.at, geometry).map(Absent::missing),
        Err(_) => Ok(0),
    }
}

/// Notes about the filesystems in the plain file at `path` that end beyond the end of the file.
///
/// # Errors
/// If the file cannot be opened or read.
pub fn cut_short(path: &Path) -> Result<Vec<String>, OpenError> {
    let look = || -> Result<Vec<String>, Reason> {
        let file = Source::find(path).map_err(|e| e.reason)?.container(true)?;
        let body = Body::plain(file);
        let mut notes = Vec::new();
        for found in Survey::new(body.bytes(), u64::MAX)?.found {
            let missing = missing(&body, &found)?;
            if missing > 0 {
                notes.push(format!(
                    "the filesystem at byte {} is truncated: {missing} bytes are missing at its \
                     end, and will be missing in the new file, too",
                    found.at
                ));
            }
        }
        Ok(notes)
    };
    look().map_err(|reason| OpenError { path: path.to_owned(), reason })
}

fn open_body(source: &Source, options: &Options) -> Result<Body, Reason> {
    let container = source.container(true)?;
    if container.size == 0 {
        return Err(Reason::Empty);
    }
    let body = Body::of(container, options)?;
    match body.spare_bytes(options)? {
        Some(page) => Body::of(source.container(true)?, &Options { page: Some(page), ..*options }),
        None => Ok(body),
    }
}

/// What [`take_out`] wrote.
#[derive(Debug, Clone)]
pub struct TakenOut {
    /// The formats around the bytes, the outermost first.
    pub formats: Vec<Kind>,
    /// The address of the first byte.
    pub base: u64,
    /// How many bytes were written.
    pub size: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Write the content of a file to a new file. Gaps become erased bytes. If there are
/// several stretches that are far apart, the one that begins at the address `base` is taken, or the
/// one that begins with a filesystem.
///
/// # Errors
/// If nothing is wrapped in the file, if the content inside its format cannot be read, or if the
/// new file cannot be written.
pub fn take_out(
    source: &Source,
    raw: &Path,
    base: Option<u64>,
    overwrite: bool,
    options: &Options,
) -> Result<TakenOut, OpenError> {
    let refused = |reason| source.refused(reason);
    let body = open_body(source, options).map_err(refused)?;
    if body.kinds().is_empty() {
        return Err(refused(Reason::NotWrapped));
    }
    let (at, size) = stretch(&body, base).map_err(refused)?;
    let at_raw = |e: io::Error| OpenError { path: raw.to_owned(), reason: e.into() };
    let target = output(raw, overwrite, &[&body.file().map_err(at_raw)?])?;
    let new = target.begin().map_err(at_raw)?;
    let mut out = new.file();
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    while done < size {
        let part = usize::try_from(size - done).unwrap_or(CHUNK).min(CHUNK);
        let read = body.bytes().read_up_to(at + done, &mut chunk[..part]);
        let read = read.map_err(|e| refused(e.into()))?;
        // after the end of the content, everything is erased
        chunk[read..part].fill(0xff);
        out.write_all(&chunk[..part]).map_err(at_raw)?;
        done += part as u64;
    }
    target.put(new).map_err(at_raw)?;
    let (formats, base, notes) = (body.kinds(), body.base() + at, body.notes());
    Ok(TakenOut { formats, base, size: done, notes })
}

/// The stretch that is meant: its position and length. If a filesystem ends with erased blocks that
/// the file leaves out, the stretch extends to the end of the filesystem.
fn stretch(body: &Body, base: Option<u64>) -> Result<(u64, u64), Reason> {
    let (at, mut len) = stretch_in_file(body, base)?;
    if body.kinds().last().is_some_and(|kind| kind.has_addresses()) {
        for found in Survey::new(body.bytes(), u64::MAX)?.meant() {
            let is_inside = (at..at.saturating_add(len)).contains(&found.at);
            let end = found.at.saturating_add(found.len());
            if is_inside && end > at.saturating_add(len) && found.len() <= FILESYSTEM_MAX {
                len = end - at;
            }
        }
    }
    Ok((at, len))
}

fn stretch_in_file(body: &Body, base: Option<u64>) -> Result<(u64, u64), Reason> {
    let all = body.stretches()?;
    let covers = |&&(at, len): &&(u64, u64), position: u64| (at..at + len).contains(&position);
    if let Some(address) = base {
        let position = address.checked_sub(body.base());
        let found = position.and_then(|p| all.iter().find(|s| covers(s, p)).map(|s| (p, s)));
        let (position, &(at, len)) = found.ok_or(Reason::NothingAt(address))?;
        return Ok((position, at + len - position));
    }
    if let [only] = all[..] {
        return Ok(only);
    }
    let survey = Survey::new(body.bytes(), u64::MAX)?;
    let mut with_filesystem =
        all.iter().filter(|stretch| survey.found.iter().any(|found| covers(stretch, found.at)));
    match (with_filesystem.next(), with_filesystem.next()) {
        (Some(only), None) => Ok(*only),
        _ => {
            let bases = all.iter().map(|(at, len)| (at + body.base(), *len)).collect();
            Err(Reason::SeveralStretches(bases))
        }
    }
}

/// Write the image at `raw` to a new file in a format.
///
/// # Errors
/// If one of the files cannot be read or written.
pub fn wrap_up(raw: &Path, target: Target, new: &Path, overwrite: bool) -> Result<(), OpenError> {
    let at_raw = |reason| OpenError { path: raw.to_owned(), reason };
    let at_new = |e: io::Error| OpenError { path: new.to_owned(), reason: e.into() };
    let image = Container::open(raw, true).map_err(at_raw)?;
    let output = output(new, overwrite, &[&image.file])?;
    let file = output.begin().map_err(at_new)?;
    let mut out = BufWriter::new(file.file());
    wrap::wrap(&image.file, target, &mut out)
        .map_err(|trouble| at_new(io::Error::other(trouble.to_string())))?;
    out.flush().map_err(at_new)?;
    drop(out);
    output.put(file).map_err(at_new)
}

/// Write a copy of the file `like` to a new file, in which the bytes of the image at `raw` replace
/// the content from the address `base`. Without an address, this is the content that [`take_out`]
/// takes.
///
/// # Errors
/// If one of the files cannot be read or written, or if `like` has a format that this program does
/// not write.
pub fn put_back(
    raw: &Path,
    like: &Path,
    base: Option<u64>,
    new: &Path,
    overwrite: bool,
) -> Result<Replaced, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |reason| OpenError { path, reason }
    };
    let image = Container::open(raw, true).map_err(at(raw))?;
    let like_file = Container::open(like, true).map_err(at(like))?;
    let body = Body::of(like_file, &Options::default()).map_err(at(like))?;
    let like_file = body.file().map_err(|e| at(like)(e.into()))?;
    let (position, len) = stretch(&body, base).map_err(at(like))?;
    let kind = body.kind().ok_or_else(|| at(like)(Reason::NoPattern))?;
    let unwrapped = body.unwrapped().ok_or_else(|| at(like)(Reason::NoPattern))?;
    let (given, base) = (base, unwrapped.base + position);

    let at_new = |e: io::Error| OpenError { path: new.to_owned(), reason: e.into() };
    let output = output(new, overwrite, &[&image.file, &like_file])?;
    if given.is_none() && kind.can_be_made() && image.size < len {
        return Err(at(raw)(Reason::TooShort { size: image.size, wanted: len }));
    }
    let out = output.begin().map_err(at_new)?;
    let replaced = wrap::replace(&image.file, &like_file, unwrapped, base, out.file());
    let replaced = replaced.map_err(|trouble| at(like)(Reason::Unreadable(kind, trouble)))?;
    output.put(out).map_err(at_new)?;
    Ok(replaced)
}

/// The place for a file at `path`, which must not be one of the `inputs`. A file that will be
/// replaced is locked.
fn output(path: &Path, overwrite: bool, inputs: &[&File]) -> Result<Output, OpenError> {
    let at_path = |e: io::Error| OpenError { path: path.to_owned(), reason: e.into() };
    let there = match Source::find(path) {
        Ok(there) => there,
        Err(OpenError { reason: Reason::NotFound, .. }) => {
            let at_new = |e| OpenError { path: path.to_owned(), reason: Reason::of_new(e) };
            return Ok(Output::new(Place::free(path).map_err(at_new)?, None));
        }
        Err(e) => return Err(e),
    };
    for input in inputs {
        if files::same(there.metadata(), &input.metadata().map_err(at_path)?) {
            let why = "is also the file that is read; write to another file, and rename that \
                       afterwards";
            return Err(at_path(io::Error::other(why)));
        }
    }
    if !there.metadata().is_file() {
        return Err(at_path(io::Error::other("is not a plain file")));
    }
    if !overwrite {
        return Err(at_path(io::Error::other("exists already; --force overwrites it")));
    }
    let locked = there.container(false).map_err(|reason| there.refused(reason))?;
    Ok(Output::new(there.place().map_err(at_path)?, Some(locked.file)))
}
