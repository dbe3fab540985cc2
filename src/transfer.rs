//! Moving trees between the host and images without a mount: directories and tar streams become
//! images, and images become directories and tar streams.
//!
//! [`gather`] collects what is to be stored into a [`Manifest`], which is in a fixed order, so that
//! the same input makes the same image on any machine. [`create_in`] writes a manifest into a new
//! image; [`extract`] and [`to_tar`] write what an image holds to the host. [`diff`](diff()) compares trees
//! of any kind.

mod build;
mod create;
mod diff;
mod extract;

mod gather;
mod glob;
mod manifest;
mod pattern;
mod place;
mod put;
mod sizing;
mod tar_in;
mod tar_out;
mod version1;

pub use build::Refusal;
pub use create::{Created, Creation, Failure, Size, create_in};
pub use diff::{Comparison, DiffError, Difference, Side, diff};
pub use extract::{Extracted, Extraction, Landing, LeftOut, Problem, extract, get};
pub use gather::{Gather, GatherError, Input, Links, gather};
pub use glob::{GlobError, expand};
pub use manifest::{Item, Kind, Manifest, Stat};
pub use pattern::Patterns;
pub use place::{Placement, create};
pub use put::{Destination, Put, PutError, check, put};
pub use tar_out::to_tar;

/// What a long transfer tells of its progress: bytes of content moved so far.
pub type Progress<'a> = dyn Fn(u64) + 'a;
