//! When an operation is tried again: the one policy for what lacks space, and for what cannot go
//! together with changes that wait.
//!
//! Operations that find a reason to flush first say so ([`Attempt::FlushFirst`]) and have changed
//! nothing by then that a second try would meet. An operation that finds no space is tried once
//! more after a flush, because a flush frees what was removed; not where the caller has asked that
//! nothing be flushed ([`Fs::hold`]).

use super::Fs;
use crate::error::{Error, Result};

/// An operation that is not done after so many flushes asks for them without end.
const ATTEMPTS_MAX: usize = 3;

/// Whether an operation was done, or needs everything flushed first and another try.
pub(super) enum Attempt<T> {
    Done(T),
    FlushFirst,
}

impl<T> Attempt<T> {
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(value) => Attempt::Done(f(value)),
            Self::FlushFirst => Attempt::FlushFirst,
        }
    }
}

impl Fs {
    /// Run `op` until it is done, flushing whenever it asks for that, and once each time if there
    /// was no space.
    pub(super) fn attempt<T>(
        &mut self,
        mut op: impl FnMut(&mut Self) -> Result<Attempt<T>>,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS_MAX {
            let tried = match op(self) {
                Err(Error::NoSpace) if self.a_flush_may_free() => {
                    self.flush()?;
                    op(self)
                }
                tried => tried,
            };
            match tried? {
                Attempt::Done(value) => return Ok(value),
                Attempt::FlushFirst => self.flush()?,
            }
        }
        Err(Error::Invalid("an operation asks for flushes without end"))
    }

    /// The same of an operation that never asks for a flush.
    pub(super) fn with_room<T>(
        &mut self,
        mut op: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.attempt(|fs| op(fs).map(Attempt::Done))
    }

    /// Whether there may be more space after a flush, and one is allowed.
    fn a_flush_may_free(&self) -> bool {
        !self.held && (self.is_dirty() || self.space.has_retired())
    }
}
