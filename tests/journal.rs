//! Journals: append-only transactions over an image that stays as it is.

mod common;

#[path = "journal/crash.rs"]
mod crash;

#[path = "journal/lab.rs"]
mod lab;
#[path = "journal/states.rs"]
mod states;
