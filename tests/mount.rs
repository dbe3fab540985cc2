//! Real mounts through FUSE: every operation, real programs, and what is in the image after each.
//!
//! Each test ends with `Mounted::finish`, which unmounts and compares what the mount showed with
//! what C littlefs reads from the image.

mod common;

#[path = "mount/at_home.rs"]
mod at_home;
#[path = "mount/chamelon.rs"]
mod chamelon;
#[path = "mount/command.rs"]
mod command;
#[path = "mount/damaged.rs"]
mod damaged;
#[path = "mount/durability.rs"]
mod durability;
#[path = "mount/failing.rs"]
mod failing;
#[path = "mount/growing.rs"]
mod growing;
#[path = "mount/kernel_cache.rs"]
mod kernel_cache;
#[path = "mount/listing.rs"]
mod listing;
#[path = "mount/memory.rs"]
mod memory;
#[path = "mount/modes.rs"]
mod modes;
#[path = "mount/mounted.rs"]
mod mounted;
#[path = "mount/open_files.rs"]
mod open_files;
#[path = "mount/operations.rs"]
mod operations;
#[path = "mount/programs.rs"]
mod programs;
#[path = "mount/random.rs"]
mod random;
#[path = "mount/refusals.rs"]
mod refusals;
#[path = "mount/signals.rs"]
mod signals;
#[path = "mount/status.rs"]
mod status;
#[path = "mount/stored.rs"]
mod stored;
#[path = "mount/times.rs"]
mod times;
#[path = "mount/trouble.rs"]
mod trouble;
#[path = "mount/trust.rs"]
mod trust;
#[path = "mount/unmounting.rs"]
mod unmounting;
#[path = "mount/users.rs"]
mod users;
#[path = "mount/v1.rs"]
mod v1;
