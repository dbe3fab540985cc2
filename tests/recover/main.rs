//! `littlefs recover`: what comes back, and that a wrong result is never called checked or
//! complete.

mod cases;
mod hidden;
mod past;
mod share;
mod truth;
mod version1;
