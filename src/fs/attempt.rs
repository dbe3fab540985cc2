//! When an operation is tried again. This one policy is for operations that find no space, and for
//! operations that cannot be combined with changes which wait for a flush.
//!
//! An operation that needs a flush first returns [`Attempt::FlushFirst`]. Before that, it changes
//! nothing that would disturb a second attempt. An operation that finds no space is tried once more
//! after a flush, because a flush frees the blocks of what was removed. It is not tried again if
//! the caller does not allow such a flush ([`Hold`]).

use super::Fs;
use crate::error::{Error, Result};

/// An operation that is not done after this many flushes would request flushes for ever.
const ATTEMPTS_MAX: usize = 3;

/// Whether an operation was done, or must be tried again after a flush.
pub(super) enum Attempt<T> {
    Done(T),
    FlushFirst,
}

/// Which flushes the caller does not allow, because it may want to drop all changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Every flush is allowed.
    Nothing,
    /// An operation that finds no space fails at once.
    Space,
    /// Nothing is flushed. An operation that needs a flush first fails like one that finds no
    /// space, and the memory for changes has no limit.
    All,
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
    /// Run `op` until it is done. Flush whenever it requests this, and once in each attempt that
    /// finds no space.
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
                Attempt::FlushFirst if self.held == Hold::All => return Err(Error::NoSpace),
                Attempt::FlushFirst => self.flush()?,
            }
        }
        Err(Error::Internal("an operation asks for flushes again and again"))
    }

    /// Like [`Fs::attempt`], for an operation that never requests a flush.
    pub(super) fn with_room<T>(&mut self, mut op: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.attempt(|fs| op(fs).map(Attempt::Done))
    }

    /// Whether a flush is allowed, and may make space.
    fn a_flush_may_free(&self) -> bool {
        self.held == Hold::Nothing && (self.is_dirty() || self.space.has_retired())
    }
}
