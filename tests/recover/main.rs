//! `littlefs recover`: what comes back, and that a wrong result is never called checked or
//! complete.

mod command;
mod correctness;
mod damaged;
mod hidden;
mod histories;
mod how_much;
mod version1;
