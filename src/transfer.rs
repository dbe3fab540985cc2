//! Moving trees between the host and images without a mount: directories and tar streams become
//! images, and images become directories and tar streams.
//!
//! [`gather`] collects the entries to store in a [`Manifest`], which has a fixed order, so the same
//! input makes the same image on any machine. [`create_in`] writes a manifest into a new image, and
//! [`clone`](clone()) copies an image; [`resize`](resize()) changes its size; [`extract`] and
//! [`to_tar`] write the content of an image to the host. [`diff`](diff()) compares trees of any
//! kind.

mod build;
mod clone;
mod create;
mod diff;
mod extract;

mod gather;
mod glob;
mod manifest;
mod pattern;
mod place;
mod put;
mod resize;
mod sizing;
mod step;
mod sync;
mod tar_in;
mod tar_out;
mod verify;
mod version1;

pub use build::Refusal;
pub use clone::{Cloning, Original, clone};
pub use create::{Created, Creation, Failure, Size, create_in};
pub use diff::{Comparison, DiffError, Difference, Side, diff};
pub use extract::{Extracted, Extraction, Landing, LeftOut, Problem, Suspect, extract, get};
pub use gather::{Gather, GatherError, Input, Links, gather};
pub use glob::{GlobError, expand};
pub use manifest::{Item, Kind, Manifest, Stat};
pub use pattern::Patterns;
pub(crate) use place::replace_image;
pub use place::{Placement, create};
pub use put::{Destination, Put, PutError, check, put};
pub use resize::{NewSize, Resizing, grow, resize};
pub use step::{Step, What};
pub use sync::{Synced, sync};
pub use tar_out::to_tar;
pub(crate) use version1::name_max as name_max_of_version1;

/// Called during a long transfer with the number of bytes of content that were moved so far.
pub type Progress<'a> = dyn Fn(u64) + 'a;
