//! Journals: append-only transactions over an image that stays as it is.

#[path = "../common/mod.rs"]
mod common;

mod commit;
mod crash;
mod hostile;
mod lab;
mod live;
mod mend;
mod program;
mod run;
mod states;

use common::mounted;
