//! A daemon killed with SIGKILL at any moment under load, and many processes at once on one mount;
//! commands that rebuild an image, killed at every call.
//!
//! `LITTLEFS_KILL_FACTOR=N` kills N times as often.

mod ledger;
mod load;
mod parallel;
mod rebuilding;
mod sigkill;
