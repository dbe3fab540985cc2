//! What happens after a panic: a filesystem that an operation left half changed is never written.
//!
//! The `littlefs` program aborts on a panic, which is one more crash that the image survives. But
//! programs that use the library may catch panics, and no lock of theirs need know that the state
//! in memory is broken.

#[cfg(feature = "mount")]
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::Fs;
use crate::error::{Error, Result};

/// What is said of a filesystem that a panic unwound through.
const REASON: &str = "an internal error interrupted an operation";

/// Whether a panic ever unwound through an operation on the filesystem.
#[derive(Debug, Default)]
pub(super) struct Panicked(Arc<AtomicBool>);

/// An operation that is running. When it is dropped by a panic, the filesystem refuses changes
/// from then on: what the operation has changed in memory is unknown, and must not reach the image.
#[must_use = "it has to live as long as the operation"]
pub(super) struct Running {
    panicked: Arc<AtomicBool>,
    /// The thread was panicking before: the operation is part of cleaning up.
    unwinding: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() && !self.unwinding && !self.panicked.swap(true, Ordering::Relaxed) {
            ::log::error!("{REASON}; nothing is written from now on, reads go on");
        }
    }
}

impl Fs {
    /// Note that an operation runs which may change what is in memory.
    pub(super) fn run(&self) -> Running {
        Running { panicked: Arc::clone(&self.panicked.0), unwinding: thread::panicking() }
    }

    /// # Errors
    /// When changes are refused.
    pub(super) fn writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Whether changes are refused: as asked, because of damage, after a failed sync, or after a
    /// panic in the middle of an operation.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.panicked.0.load(Ordering::Relaxed)
    }

    /// Take changes from now on, where they were refused because that was asked for.
    ///
    /// # Errors
    /// Why that is impossible.
    #[cfg(feature = "mount")]
    pub fn become_writable(&mut self) -> io::Result<()> {
        if let Some(why) = self.turned_read_only() {
            return Err(io::Error::other(why.to_owned()));
        }
        self.durable.dev().become_writable()?;
        self.read_only = false;
        Ok(())
    }

    /// Why changes are refused, where nobody asked for that.
    pub fn turned_read_only(&self) -> Option<&str> {
        let panicked = self.panicked.0.load(Ordering::Relaxed).then_some(REASON);
        self.turned_read_only.as_deref().or(panicked)
    }
}
