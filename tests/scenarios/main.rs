//! The scenarios of littlefs's own test suite, for this library. `docs/scenarios.md` names for each
//! case of that suite the scenario here.
//!
//! After every scenario, the verifier and C littlefs judge the image (see `fixture`).

mod alloc;
mod attrs;
mod bad_blocks;
mod compat;
mod dirs;
mod entries;
mod evil;
mod files;
mod fixture;
mod moves;
mod orphans;
mod paths;
mod power;
mod powerloss;
mod relocations;
mod seek;
mod superblocks;
mod truncate;
mod wear;
