//! Changes inside an image by path, as the commands of coreutils make them: removing, moving,
//! copying and making entries.
//!
//! Each operation checks everything before it changes anything. If parts of it are impossible, the
//! error has all reasons at once ([`EditError::Refused`]). All changes are in memory until the
//! image is flushed; [`change`](crate::change) makes an operation a single change.
//!
//! | file | what is there |
//! |---|---|
//! | `source` | the entries that paths and patterns stand for |
//! | `remove` | `rm` |
//! | `rename` | `mv` |
//! | `copy` | `cp` |
//! | `make` | `mkdir`, `touch`, `truncate` and `ln -s` |
//! | `attr` | `attr set` and `attr rm` |
//! | `content` | `edit` |

mod attr;
mod content;
mod copy;
mod make;
mod remove;
mod rename;
mod source;

use std::fmt;

pub use attr::{Value, meant, remove_attr, set_attr};
pub use content::{content, replace};
pub use copy::copy;
pub use make::{Length, link, make_dirs, touch, truncate};
pub use remove::remove;
pub use rename::rename;
pub use source::{Paths, Target};

use crate::PathError;
use crate::check::show;
use crate::error::{Error, Trouble};
use crate::show;
use crate::transfer::{Refusal, Step, What};

/// Why an operation was not done.
#[derive(Debug)]
pub enum EditError {
    /// Something is impossible or does not exist. The list has all such paths, each with the
    /// reason. Nothing was changed.
    Refused(Vec<Refusal>),
    /// Access to the image failed.
    Image(PathError),
    /// The operation was told to stop after this many steps.
    Stopped(usize),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |refusal: &Refusal| format!("/{}: {}", show(&refusal.path), refusal.why);
        match self {
            Self::Refused(all) => match &all[..] {
                [only] => f.write_str(&line(only)),
                all => {
                    writeln!(f, "{} of the changes cannot be made:", all.len())?;
                    let lines: Vec<String> = all.iter().map(|r| format!("  {}", line(r))).collect();
                    f.write_str(&lines.join("\n"))
                }
            },
            Self::Image(e) => write!(f, "/{}: {}", show(&e.path), e.error),
            Self::Stopped(steps) => {
                write!(f, "interrupted after {}", show::count(*steps, "change", "changes"))
            }
        }
    }
}

impl std::error::Error for EditError {}

impl From<PathError> for EditError {
    fn from(e: PathError) -> Self {
        Self::Image(e)
    }
}

impl Trouble for EditError {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::Image(e) if e.is_no_space())
    }
}

/// What was refused so far.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, path: &[u8], why: impl Into<String>) {
        self.0.push(Refusal { path: path.to_vec(), why: why.into() });
    }

    /// An error if there are any refusals.
    fn end(self) -> Result<(), EditError> {
        if self.0.is_empty() { Ok(()) } else { Err(EditError::Refused(self.0)) }
    }
}

/// A function that turns an error of the image into one about `path`.
fn at(path: &[u8]) -> impl FnOnce(Error) -> EditError + '_ {
    move |error| EditError::Image(PathError { path: path.to_vec(), error })
}

/// A path without empty components and `.`; `None` if it contains `..`.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> =
        path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}

/// The directory and the name of a clean path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Whether `path` is `dir`, or below it. Both must be clean.
fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// The directories above a clean path, the innermost first, without the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(split(path).0), |dir| Some(split(dir).0))
        .take_while(|dir| !dir.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(clean(b"//a/./b/").as_deref(), Some(&b"a/b"[..]));
        assert_eq!(clean(b"/").as_deref(), Some(&b""[..]));
        assert_eq!(clean(b"a/../b"), None);
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
        assert_eq!(above(b"a/b/c").collect::<Vec<_>>(), [&b"a/b"[..], b"a"]);
        assert_eq!(above(b"a").count() + above(b"").count(), 0);
    }
}
