//! The library as its users see it: paths, files and directories, in memory and in image files.

#[cfg(feature = "transfer")]
mod changing;
mod entries;
mod files;
#[cfg(feature = "mount")]
mod mounted;
mod opening;
mod unsaved;

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::convention::{Choice, Convention};
use littlefs::{FormatOptions, Littlefs};

/// A device of 256 blocks of 4096 bytes.
fn device() -> Arc<RamDevice> {
    Arc::new(RamDevice::new(Geometry::new(4096, 256).expect("a geometry")))
}

/// An empty filesystem in memory.
fn empty() -> Littlefs {
    FormatOptions::new().open_new(device()).expect("format")
}

fn unix() -> Choice {
    Choice::By(Convention::named("unix").expect("unix"))
}
