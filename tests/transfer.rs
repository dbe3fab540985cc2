//! Building images from directories and tar streams, and getting them out again, without a mount.

mod common;

#[path = "transfer/building.rs"]
mod building;
#[path = "transfer/extracting.rs"]
mod extracting;
#[path = "transfer/inputs.rs"]
mod inputs;
#[path = "transfer/lab.rs"]
mod lab;
