//! `littlefs recover`: what comes back, and that nothing wrong is ever called checked or complete.

mod common;

#[path = "recover/cases.rs"]
mod cases;
#[path = "recover/past.rs"]
mod past;
#[path = "recover/share.rs"]
mod share;
#[path = "recover/truth.rs"]
mod truth;
#[path = "recover/version1.rs"]
mod version1;
