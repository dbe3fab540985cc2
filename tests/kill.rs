//! A daemon killed with SIGKILL at any moment under load, and many processes at once on one mount;
//! commands that rebuild an image, killed at every call.
//!
//! `LITTLEFS_KILL_FACTOR=N` kills N times as often.

mod common;

#[path = "kill/ledger.rs"]
mod ledger;
#[path = "kill/load.rs"]
mod load;
#[path = "mount/mounted.rs"]
#[expect(dead_code)]
mod mounted;
#[path = "kill/parallel.rs"]
mod parallel;
#[path = "kill/rebuilding.rs"]
mod rebuilding;
#[path = "kill/sigkill.rs"]
mod sigkill;
