//! Files that hold a filesystem in some other form or place: recognised, read through, never written,
//! and taken apart and put together again.

mod common;

#[path = "containers/choosing.rs"]
mod choosing;
#[path = "verbs/desk.rs"]
#[expect(dead_code)]
mod desk;
#[path = "containers/hostile.rs"]
mod hostile;
#[path = "containers/layouts.rs"]
mod layouts;
#[path = "containers/make.rs"]
mod make;
#[path = "containers/mounting.rs"]
mod mounting;
#[path = "containers/nand.rs"]
mod nand;
#[path = "containers/reading.rs"]
mod reading;
#[path = "containers/recipes.rs"]
mod recipes;
#[path = "containers/scanning.rs"]
mod scanning;
#[path = "containers/tools.rs"]
mod tools;
#[path = "containers/uf2.rs"]
mod uf2;
#[path = "containers/wrapping.rs"]
mod wrapping;
