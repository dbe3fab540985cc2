//! Images that a driver would not make in one piece: unthreaded or unsorted directories, work that
//! was interrupted, dead halves of pairs, expanded superblocks, blocks erased to zero.
//!
//! Each kind has its expected outcome: what a read-only mount shows, what the first write mends,
//! and that nothing is ever damaged.

mod common;

#[path = "odd_images/bench.rs"]
mod bench;
#[path = "odd_images/dead_halves.rs"]
mod dead_halves;
#[path = "odd_images/foreign.rs"]
mod foreign;
#[path = "odd_images/interrupted.rs"]
mod interrupted;
