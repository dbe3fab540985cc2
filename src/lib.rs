//! littlefs images on Linux: the format, the engine, a mountable volume and its tools.
//!
//! Layers, each using only those before it:
//!
//! | layer | modules | job |
//! |---|---|---|
//! | base | [`error`] | outcomes a caller can act on |
//! | device | [`bd`] | blocks in files and in memory |
//! | format | [`disk`], [`convention`] | the bytes of SPEC.md and of user attributes, pure |
//! | engine | [`mdir`], [`alloc`] | metadata pairs and the free map |
//! | filesystem | [`fs`] | directories, files, attributes, all on cached state; flush |
//! | verify | [`check`] | the read-only verifier |
//! | image | [`chamelon`], [`image`] | another dialect shown as littlefs; finding a filesystem in a file |
//! | journal | [`journal`] | append-only transactions over an image: commit, squash, compare |
//! | convert | [`convert`] | a new image with the content of another |
//! | volume | [`vfs`] | inode numbers, caches, locks |
//! | store | [`kv`] | values and dictionaries by keys; beside the volume |
//! | adapter | [`fuse`] | FUSE requests to volume calls |
//! | program | [`cli`] | the commands |

#![warn(missing_docs)]

pub mod alloc;
pub mod bd;
pub mod chamelon;
pub mod check;
pub mod cli;
pub mod convention;
pub mod convert;
pub mod disk;
pub mod error;
pub mod fs;
pub mod fuse;
pub mod image;
pub mod journal;
pub mod kv;
pub mod mdir;
mod sys;
mod time;
pub mod vfs;

pub use error::{Error, Result};
