//! Checking CTZ lists, and accounting for the user of each block.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::owners::Owner;
use super::{Checker, bytes_of};
use crate::disk::List;
use crate::disk::list::{self, Broken, Met, Place};
use crate::error::Error;
use crate::mdir::store;

/// How many blocks are accounted for between two reports of progress.
const PROGRESS_STEP: u64 = 1024;

impl Checker<'_> {
    /// Note that `block` is used by pair `pair`, or by the file of its entry `file`. If something
    /// else uses the block already, this is reported as an error, and the result is false.
    pub(super) fn claim(&mut self, block: u32, pair: usize, file: Option<u16>) -> bool {
        let owner = Owner { pair, file };
        let Some(other) = self.owners.claim(block, owner) else {
            if self.owners.used().is_multiple_of(PROGRESS_STEP) {
                (self.progress)(self.owners.used());
            }
            return true;
        };
        // the blocks of a pair are claimed before the pair is in the table
        let here = match self.pairs.get(pair) {
            Some(_) => self.describe(owner),
            None => "another metadata pair".to_owned(),
        };
        let message = format!(
            "is used by {} and by {here}: a write to one damages the other",
            self.describe(other)
        );
        self.error("block-shared", format_args!("block {block:#x}"), message);
        false
    }

    fn describe(&self, owner: Owner) -> String {
        let Some(p) = self.pairs.get(owner.pair) else { return "a metadata pair".to_owned() };
        let Some(id) = owner.file else { return format!("metadata pair {}", p.pair) };
        let log = store::read_log(&*self.dev, p.pair.0[0]);
        match log.ok().flatten().as_ref().and_then(|l| l.entries.get(usize::from(id))) {
            Some(e) => format!("file {}", self.path(p.dir.unwrap_or(0), &e.name)),
            None => format!("entry {id} of {}", p.pair),
        }
    }

    /// Follow the CTZ list of entry `id` of pair `pair`, with all its pointers.
    pub(super) fn check_file(&mut self, path: &str, pair: usize, id: u16, list: List) {
        let size = list.size;
        if self.limits.is_some_and(|s| size > s.file_max) {
            self.error("file-too-large", path, format_args!("{size} bytes exceed file_max"));
        }
        let (g, dev) = (self.g, Arc::clone(&self.dev));
        let mut sound = true;
        let visit = |met: Met<'_>| {
            match met {
                // The blocks before this one are shared, too, or the list is a loop. One finding is
                // enough.
                Met::Block(at) if !self.claim(at.block, pair, Some(id)) => {
                    return ControlFlow::Break(());
                }
                Met::Pointers { at, agrees: false, .. } if sound => {
                    sound = false;
                    let message = format_args!(
                        "the pointers of block {} of its list disagree: after a seek, other data \
                         may be read",
                        at.index
                    );
                    self.error("ctz-pointer", path, message);
                }
                Met::Block(_) | Met::Pointers { .. } => {}
            }
            ControlFlow::Continue(())
        };
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        let Err(broken) = list::follow(g, list, read, visit) else { return };
        let code = code_of(&broken);
        match broken {
            Broken::TooLong { .. } => {
                self.error(code, path, format_args!("claims {size} bytes, more than the image has"))
            }
            Broken::Outside(Place { index, block }) => {
                let lost = bytes_of(g.block_size, index, size).to;
                let message = format_args!(
                    "block {index} of its list is {block:#x}, outside the image: the first {lost} \
                     bytes cannot be read"
                );
                self.error(code, path, message);
            }
            other => self.error(code, path, Error::of_list(list, other)),
        }
    }
}

/// The code of the finding that a list could not be followed to its beginning.
pub(crate) fn code_of<E>(broken: &Broken<E>) -> &'static str {
    match broken {
        Broken::TooLong { .. } => "ctz-too-long",
        Broken::Outside(_) | Broken::Loop { .. } => "ctz-range",
        Broken::Unreadable { .. } => "ctz-unreadable",
    }
}
