//! Journals: transactions that are appended to a file, over an image that does not change.

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
