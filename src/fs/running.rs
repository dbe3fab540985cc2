//! Protection after a panic: if a panic has left a filesystem half changed in memory, it is never
//! written.
//!
//! The `littlefs` program aborts on a panic. For the image, this is like any other crash. But
//! programs that use the library may catch panics, and the locks do not show that the state in
//! memory is broken.

#[cfg(feature = "mount")]
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::Fs;
use crate::error::{Error, Result};

/// The reason that is given for refusing changes after a panic.
const REASON: &str = "an internal error interrupted an operation";

/// Whether a panic has ever unwound through an operation on the filesystem.
#[derive(Debug, Default)]
pub(super) struct Panicked(Arc<AtomicBool>);

/// An operation in progress. If a panic drops it, the filesystem refuses changes from then on: it
/// is not known what the operation has changed in memory, and this must not reach the image.
#[must_use = "it has to live as long as the operation"]
pub(super) struct Running {
    panicked: Arc<AtomicBool>,
    /// Whether the thread was panicking already when the operation began, because the operation is
    /// part of the cleanup.
    unwinding: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() && !self.unwinding && !self.panicked.swap(true, Ordering::Relaxed) {
            ::log::error!("{REASON}; from now on, nothing is written, but reads still work");
        }
    }
}

impl Fs {
    /// Note that an operation begins that may change what is in memory.
    pub(super) fn run(&self) -> Running {
        Running { panicked: Arc::clone(&self.panicked.0), unwinding: thread::panicking() }
    }

    /// Check that changes are allowed.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if changes are refused.
    pub(super) fn writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Whether changes are refused: because the caller requested that, because of damage, after a
    /// failed sync, or after a panic in an operation.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.panicked.0.load(Ordering::Relaxed)
    }

    /// Accept changes from now on, if they were refused only because the caller had requested that.
    ///
    /// # Errors
    /// Why this is impossible.
    #[cfg(feature = "mount")]
    pub fn become_writable(&mut self) -> io::Result<()> {
        if let Some(why) = self.turned_read_only() {
            return Err(io::Error::other(why.to_owned()));
        }
        self.durable.dev().become_writable()?;
        self.read_only = false;
        Ok(())
    }

    /// Why changes are refused, although the caller had not requested that.
    pub fn turned_read_only(&self) -> Option<&str> {
        let panicked = self.panicked.0.load(Ordering::Relaxed).then_some(REASON);
        self.turned_read_only.as_deref().or(panicked)
    }
}
