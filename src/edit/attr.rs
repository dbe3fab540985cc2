//! Setting and removing user attributes.

use super::source::{Paths, Source};
use super::{EditError, Refusals, Step, What, at};
use crate::convention::Field;
use crate::error::Error;
use crate::time::system_time;
use crate::{Littlefs, Metadata, SetMetadata};

/// A value to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The user attribute of this type, as stored.
    Raw(u8, Vec<u8>),
    /// A field of the image's convention: a time in nanoseconds since 1970, permission bits, or the
    /// number of an owner or a group.
    Meant(Field, i64),
}

/// Set a user attribute of entries, or a field of the image's convention.
///
/// # Errors
/// [`EditError::Refused`] if an entry does not exist, the value is too large for the image, or the
/// convention cannot store it. [`EditError::Image`] when the image fails.
pub fn set_attr(image: &Littlefs, paths: Paths<'_>, value: &Value) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    let sources = paths.find(image, &mut refusals)?;
    let limit = image.limits().attr_max;
    for source in &sources {
        let len = match value {
            Value::Raw(_, data) => data.len(),
            Value::Meant(..) => 0,
        };
        if len as u64 > u64::from(limit) {
            let why = format!("the value has {len} bytes, but the image allows only {limit}");
            refusals.add(&source.path, why);
        }
    }
    std::mem::take(&mut refusals).end()?;
    let mut steps = Vec::new();
    for source in &sources {
        let path = &source.path;
        match value {
            Value::Raw(ty, data) => image.set_attr(path, *ty, data).map_err(at(path))?,
            Value::Meant(field, value) => set_meant(image, source, *field, *value, &mut refusals)?,
        }
        steps.push(Step::new(What::Changed, path));
    }
    refusals.end()?;
    Ok(steps)
}

fn set_meant(
    image: &Littlefs,
    source: &Source,
    field: Field,
    value: i64,
    refusals: &mut Refusals,
) -> Result<(), EditError> {
    let path = &source.path;
    let (time, number) = (Some(system_time(value)), u32::try_from(value).ok());
    let mut set = SetMetadata::default();
    match field {
        Field::Mtime => set.modified = time,
        Field::Atime => set.accessed = time,
        Field::Ctime => set.changed = time,
        Field::Birth => set.created = time,
        Field::Mode => set.permissions = number,
        Field::Uid => set.uid = number,
        Field::Gid => set.gid = number,
        Field::Fixed(_) => {}
    }
    image.set_metadata(path, &set).map_err(at(path))?;
    let there = image.metadata(path).map_err(at(path))?;
    // the convention may be unable to store the value, or only for an entry of this kind
    if meant(&there, field).is_none() {
        refusals.add(
            path,
            "the attributes of the image cannot store this; --attrs NAME selects other attributes",
        );
    }
    Ok(())
}

/// The value of a field of an entry, in the form of [`Value::Meant`].
pub fn meant(metadata: &Metadata, field: Field) -> Option<i64> {
    let time = |time: Option<std::time::SystemTime>| time.map(crate::time::nanos);
    match field {
        Field::Mtime => time(metadata.modified()),
        Field::Atime => time(metadata.accessed()),
        Field::Ctime => time(metadata.changed()),
        Field::Birth => time(metadata.created()),
        Field::Mode => metadata.permissions().map(i64::from),
        Field::Uid => metadata.uid().map(i64::from),
        Field::Gid => metadata.gid().map(i64::from),
        Field::Fixed(_) => None,
    }
}

/// Remove a user attribute of entries.
///
/// # Errors
/// [`EditError::Refused`] if an entry does not exist, or has no such attribute.
/// [`EditError::Image`] when the image fails.
pub fn remove_attr(image: &Littlefs, paths: Paths<'_>, ty: u8) -> Result<Vec<Step>, EditError> {
    let mut refusals = Refusals::default();
    let mut steps = Vec::new();
    for source in paths.find(image, &mut refusals)? {
        match image.remove_attr(&source.path, ty) {
            Ok(()) => steps.push(Step::new(What::Changed, &source.path)),
            Err(Error::NoAttr) => {
                refusals.add(&source.path, format!("has no attribute of type {ty:#04x}"));
            }
            Err(e) => return Err(at(&source.path)(e)),
        }
    }
    refusals.end()?;
    Ok(steps)
}
