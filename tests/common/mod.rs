//! Code shared by the integration tests.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code, unused_imports)]

pub mod arena;
pub mod builder;
pub mod calls;
pub mod chamelon;
pub mod clfs;
#[cfg(feature = "cli")]
pub mod desk;
#[cfg(feature = "mount")]
pub mod mounted;
pub mod ops;
pub mod ours;
pub mod python;
pub mod surgery;
pub mod tree;
pub mod v1;
