//! The scenarios of littlefs's own test suite, told to our library. `docs/scenarios.md` maps each
//! of its cases to one of these.
//!
//! After every scenario the verifier and C littlefs judge the image (see `lab`).

mod common;

#[path = "scenarios/alloc.rs"]
mod alloc;
#[path = "scenarios/attrs.rs"]
mod attrs;
#[path = "scenarios/bad_blocks.rs"]
mod bad_blocks;
#[path = "scenarios/compat.rs"]
mod compat;
#[path = "scenarios/dirs.rs"]
mod dirs;
#[path = "scenarios/entries.rs"]
mod entries;
#[path = "scenarios/evil.rs"]
mod evil;
#[path = "scenarios/files.rs"]
mod files;
#[path = "scenarios/lab.rs"]
mod lab;
#[path = "scenarios/moves.rs"]
mod moves;
#[path = "scenarios/orphans.rs"]
mod orphans;
#[path = "scenarios/paths.rs"]
mod paths;
#[path = "scenarios/power.rs"]
mod power;
#[path = "scenarios/powerloss.rs"]
mod powerloss;
#[path = "scenarios/relocations.rs"]
mod relocations;
#[path = "scenarios/seek.rs"]
mod seek;
#[path = "scenarios/superblocks.rs"]
mod superblocks;
#[path = "scenarios/truncate.rs"]
mod truncate;
#[path = "scenarios/wear.rs"]
mod wear;
