//! Real mounts with FUSE: every operation, real programs, and what is in the image after each of
//! them.
//!
//! Each test ends with `Mounted::finish`, which unmounts and compares what the mount has shown with
//! what C littlefs reads from the image.

mod attributes;
mod chamelon;
mod command;
mod damaged;
mod durability;
mod failing;
mod growing;
mod host_errors;
mod kernel_cache;
mod listing;
mod memory;
mod modes;
mod open_files;
mod operations;
mod other_users;
mod programs;
mod random;
mod refusals;
mod replaced_images;
mod signals;
mod status;
mod system_programs;
mod times;
mod unmounting;
mod users;
mod v1;
