//! Building images from directories and tar streams, and getting them out again, without a mount.

mod building;
mod extracting;
mod fixture;
mod inputs;
