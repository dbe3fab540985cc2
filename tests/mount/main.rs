//! Real mounts with FUSE: every operation, real programs, and what is in the image after each of
//! them.
//!
//! Each test ends with `Mounted::finish`, which unmounts and compares what the mount has shown with
//! what C littlefs reads from the image.

mod at_home;
mod chamelon;
mod command;
mod damaged;
mod durability;
mod failing;
mod gone;
mod growing;
mod kernel_cache;
mod listing;
mod memory;
mod modes;
mod open_files;
mod operations;
mod programs;
mod random;
mod refusals;
mod signals;
mod status;
mod stored;
mod times;
mod trouble;
mod trust;
mod unmounting;
mod users;
mod v1;
