//! littlefs images: read, made and changed without a device, and mounted on Linux.
//!
//! ```
//! # fn main() -> littlefs::Result<()> {
//! use std::io::{Read, Write};
//!
//! use littlefs::Littlefs;
//!
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let path = dir.path().join("new.img");
//! // A new image file of 1 MiB; `Littlefs::open` opens an existing one.
//! let fs = Littlefs::create(&path, 1 << 20)?;
//!
//! // Whole files at once, or through `std::io::Read` and `Write`.
//! fs.create_dir_all("etc/app")?;
//! fs.write("etc/app/config.txt", "colour = blue\n")?;
//! let mut log = fs.create_file("log.txt")?;
//! writeln!(log, "started").expect("room for a line");
//! log.close()?;
//!
//! // A directory, and everything below it.
//! for entry in fs.read_dir("etc")? {
//!     let entry = entry?;
//!     assert_eq!((entry.name(), entry.metadata()?.is_dir()), (&b"app"[..], true));
//! }
//! assert_eq!(fs.walk("/")?.count(), 4);
//!
//! // Until this call, all changes are only in memory.
//! fs.close()?;
//!
//! let fs = Littlefs::open(&path)?;
//! let mut text = String::new();
//! fs.open_file("/log.txt")?.read_to_string(&mut text).expect("text");
//! assert_eq!(text, "started\n");
//! # Ok(())
//! # }
//! ```
//!
//! - [`Littlefs`] is an open filesystem. [`OpenOptions`] opens one with options, also on any
//!   [`bd::BlockDevice`], and [`FormatOptions`] makes one.
//! - [`File`] is an open file, [`FileOptions`] opens one.
//! - Times, owners, modes and symbolic links are stored in user attributes, by one of several
//!   [`convention`]s; the one that an image uses is recognised.
//! - [`Error`] has one variant for each cause that a caller can act on.
//! - [`kv`] is a key-value store in an image, with atomic batches.
//!
//! `docs/library.md` explains how the parts fit together, and when changes are durable.
//!
//! # Features
//!
//! - `mount` (default): the module `fuse`, which mounts images with FUSE.
//! - `cli` (default): the module `cli`, which has everything that the program `littlefs` does.
//! - `compression` (default): images in gzip, xz and zstd files are read.
//! - `transfer` (default): [`transfer`] and [`change`], which copy directories and tar streams into
//!   images and back.
//! - `inspect` (default): [`inspect`] and [`map`], which look into images tag by tag and block by
//!   block.
//! - `serde`: reports can be serialized. `mount`, `cli` and `inspect` need it.
//! - `docs`: the program `littlefs-docs`, which writes man pages and completions.
//! - `internals`: makes the layers below the public interface visible (`disk`, `mdir`, `fs`...),
//!   which may change with any version. It is for this package's own tests.
//!
//! Without default features this is the library alone.
//!
//! # Layers
//!
//! Each layer uses only those before it:
//!
//! | layer | modules | job |
//! |---|---|---|
//! | base | [`error`], `files`, `show`, `slots`, `sys`, `time` | errors that a caller can act on; files by descriptor; names for people; tables with ids; system calls; times |
//! | device | [`bd`] | blocks in files and in memory |
//! | transactions | [`transactions`] | a device that appends its changes to a journal; the engine does not use it |
//! | format | `disk`, [`convention`], [`profile`] | the bytes of SPEC.md and of user attributes, without I/O; what families of devices need |
//! | engine | `mdir`, `alloc` | metadata pairs and the free map |
//! | filesystem | `fs` | directories, files and attributes, all in memory; flush |
//! | verify | [`check`] | the verifier, and repair |
//! | dialect | `dialect`, `v1`, `chamelon` | shows images in other dialects, version 1 among them, as littlefs |
//! | container | `container` | recognises the format of a file, reads the content inside the format, finds filesystems in it; makes such files |
//! | image | [`image`] | opening an image by path |
//! | journal | [`journal`] | opening journals with their images: commit, squash, compare |
//! | backup | [`backup`] | saves what an image held before it is rewritten in place |
//! | convert | [`convert`] | a new image with the content of another |
//! | recover | [`recover`] | brings back deleted, overwritten and cut-off files |
//! | interface | [`Littlefs`] and the other types of this module | paths, files, directories |
//! | inspect | [`inspect`] | images tag by tag and block by block, for people and programs |
//! | map | [`map`] | what each block of an image is used for |
//! | transfer | [`transfer`] | directories and tar streams to images and back, without a mount |
//! | change | [`change`] | one change to an image, which is tried completely before anything is written |
//! | edit | [`edit`] | removes, moves, copies and makes entries inside an image |
//! | bench | [`mod@bench`] | measures the speed, and reports the environment that it depends on |
//! | volume | `vfs` | inode numbers, caches, locks |
//! | store | [`kv`] | values and dictionaries under keys; it does not use the volume |
//! | adapter | `fuse` | FUSE requests to volume calls |
//! | program | `cli` | the commands |

#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "internals"),
    warn(clippy::missing_errors_doc, clippy::missing_panics_doc)
)]
// Neither an image nor a container may end the program.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

/// Compiles the code of the guide as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Guide;

/// Declares modules that are not part of the public interface: public with the feature `internals`,
/// for this package's own tests, benchmarks and fuzzers, and private otherwise, so that the
/// compiler reports code that nothing uses.
macro_rules! internal {
    ($($(#[$attribute:meta])* mod $name:ident;)*) => {$(
        #[cfg(feature = "internals")]
        $(#[$attribute])*
        pub mod $name;
        #[cfg(not(feature = "internals"))]
        $(#[$attribute])*
        mod $name;
    )*};
}

internal! {
    mod alloc;
    mod chamelon;
    mod container;
    mod dialect;
    mod disk;
    mod files;
    mod fs;
    mod mdir;
    mod show;
    mod v1;
    #[cfg(feature = "mount")]
    mod vfs;
}

mod api;
pub mod backup;
pub mod bd;
#[cfg(all(feature = "inspect", feature = "transfer"))]
pub mod bench;
#[cfg(feature = "transfer")]
pub mod change;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod convention;
pub mod convert;
#[cfg(feature = "transfer")]
pub mod edit;
pub mod error;
// The program needs more of this module than the library makes public.
#[cfg(feature = "mount")]
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub mod fuse;
pub mod image;
#[cfg(feature = "inspect")]
pub mod inspect;
pub mod journal;
pub mod kv;
#[cfg(feature = "inspect")]
pub mod map;
pub mod profile;
pub mod recover;
mod slots;
// The daemon and its commands need most of these calls; the library alone needs few.
#[cfg_attr(not(all(feature = "cli", feature = "mount")), allow(dead_code))]
mod sys;
mod time;
pub mod transactions;
#[cfg(feature = "transfer")]
pub mod transfer;

pub use api::{
    DirEntry, File, FileOptions, FileType, FormatOptions, Limits, Littlefs, Metadata, Misfit,
    OpenOptions, PathError, ReadDir, ReadOnlyReason, SetMetadata, Usage, Walk, WalkEntry,
};
pub use error::{Error, Result, Suspicion};
pub use fs::{Counts, Durability, Flush, Flushes, Storage, Unwritten};
