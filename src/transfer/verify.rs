//! Checking a new image that was copied from another one, before it gets its name.

use std::sync::Arc;

use super::create::Failure;
use super::diff::{Comparison, DiffError, Side, diff};
use super::pattern::Patterns;
use crate::bd::BlockDevice;
use crate::check::{Severity, show};
use crate::convention::Choice;
use crate::disk::superblock::{VERSION_1_1, probe_version1};
use crate::error::Error;
use crate::image::Dialect;
use crate::{Littlefs, OpenOptions, v1};

/// Check the new image of this version on a device, and compare it with the image from which it was
/// copied.
///
/// # Errors
/// [`Failure::Differs`] if something is wrong with it; the text says where.
pub(super) fn verify(
    stored: &Arc<dyn BlockDevice>,
    version: u32,
    original: &Littlefs,
) -> Result<(), Failure> {
    let (dialect, device) = shown(stored, version)?;
    is_sound(dialect, stored)?;
    let copy = OpenOptions::new().read_only(true).convention(Choice::None).open_device(device)?;
    if original.attrs("")? != copy.attrs("")? {
        return Err(Failure::Differs("/".to_owned()));
    }
    let how = Comparison { exclude: Patterns::default(), metadata: true };
    let differences = diff(&Side::Image(original.clone()), &Side::Image(copy), &how);
    match differences.map_err(failed)?.first() {
        Some(difference) => Err(Failure::Differs(show(&difference.change.path).to_string())),
        None => Ok(()),
    }
}

/// Check an image with the verifier.
///
/// # Errors
/// [`Failure::Differs`] with the first error that it finds.
pub(super) fn is_sound(dialect: Dialect, stored: &Arc<dyn BlockDevice>) -> Result<(), Failure> {
    let report = dialect.check(stored, &|_| ())?;
    match report.findings.into_iter().find(|f| f.severity == Severity::Error) {
        Some(f) => Err(Failure::Differs(format!("{}: {}", f.place, f.message))),
        None => Ok(()),
    }
}

/// The dialect of a new image of this version, and a device that shows the image as littlefs
/// version 2.
fn shown(
    stored: &Arc<dyn BlockDevice>,
    version: u32,
) -> Result<(Dialect, Arc<dyn BlockDevice>), Failure> {
    if version != VERSION_1_1 {
        return Ok((Dialect::Littlefs, Arc::clone(stored)));
    }
    let mut block = vec![0; stored.geometry().block_size as usize];
    stored.read(0, 0, &mut block).map_err(Error::from)?;
    let probed = probe_version1(&block);
    let (superblock, _) = probed.ok_or_else(|| Failure::Differs("the superblock".to_owned()))?;
    Ok((Dialect::V1, Arc::new(v1::show(Arc::clone(stored), superblock)?.0)))
}

fn failed(e: DiffError) -> Failure {
    match e {
        DiffError::Image(e) => e.into(),
        DiffError::Host(path, e) => Failure::Unreadable(path, e),
    }
}
