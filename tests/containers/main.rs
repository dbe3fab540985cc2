//! Files that hold a filesystem in some other form or place: recognised, read through, never written,
//! and taken apart and put together again.

#[path = "../common/mod.rs"]
mod common;

mod choosing;
mod hostile;
mod layouts;
mod make;
mod mounting;
mod nand;
mod reading;
mod recipes;
mod scanning;
mod tools;
mod uf2;
mod wrapping;

use common::desk;
