//! Images that a driver would not make in one piece: unthreaded or unsorted directories, work that
//! was interrupted, dead halves of pairs, expanded superblocks, blocks erased to zero.
//!
//! Each kind has its expected outcome: what a read-only mount shows, what the first write mends,
//! and that nothing is ever damaged.

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod dead_halves;
mod foreign;
mod interrupted;
