//! Blocks: CTZ lists, and who uses what.

use std::collections::BTreeMap;

use super::owners::Owner;
use super::{Checker, bytes_of};
use crate::disk::{ctz, read_u32_le};
use crate::error::Error;
use crate::mdir::store;

/// Blocks from one report of progress to the next.
const PROGRESS_STEP: u64 = 1024;

impl Checker<'_> {
    /// Count `block` as used by pair `pair`, or by the file of entry `file` there. False, and an
    /// error, if something else uses it.
    pub(super) fn claim(&mut self, block: u32, pair: usize, file: Option<u16>) -> bool {
        let owner = Owner { pair, file };
        let Some(other) = self.owners.claim(block, owner) else {
            if self.owners.used().is_multiple_of(PROGRESS_STEP) {
                (self.progress)(self.owners.used());
            }
            return true;
        };
        // the pair is not in the table of pairs before its own blocks are counted
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

    /// Follow the CTZ list of entry `id` of pair `pair`, every pointer of it.
    pub(super) fn check_file(&mut self, path: &str, pair: usize, id: u16, head: u32, size: u32) {
        if self.limits.is_some_and(|s| size > s.file_max) {
            self.error("file-too-large", path, format_args!("{size} bytes exceed file_max"));
        }
        let count = ctz::blocks(self.g.block_size, size);
        if count > self.g.block_count {
            self.error(
                "ctz-too-long",
                path,
                format_args!("claims {size} bytes, more than the image has"),
            );
            return;
        }
        // blocks yet to come, by index, that earlier pointers name
        let mut expected: BTreeMap<u32, u32> = BTreeMap::new();
        let mut sound = true;
        let mut block = head;
        for i in (0..count).rev() {
            let lost = bytes_of(self.g.block_size, i, size).to;
            if block >= self.g.block_count {
                self.error(
                    "ctz-range",
                    path,
                    format_args!(
                        "block {i} of its list is {block:#x}, outside the image: the first {lost} \
                         bytes cannot be read"
                    ),
                );
                return;
            }
            // what follows is shared as well, or a loop: one finding says enough
            if !self.claim(block, pair, Some(id)) {
                return;
            }
            let n = ctz::pointers(i);
            let mut ptrs = [0; 4 * 32];
            let ptrs = &mut ptrs[..4 * n as usize];
            if let Err(e) = self.dev.read(block, 0, ptrs) {
                self.error("ctz-unreadable", path, Error::Io(e));
                return;
            }
            let mut agree = expected.remove(&i).is_none_or(|e| e == block);
            for k in 1..n {
                if let Some(p) = read_u32_le(ptrs, 4 * k as usize) {
                    agree &= expected.insert(i - (1 << k), p).is_none_or(|e| e == p);
                }
            }
            if sound && !agree {
                sound = false;
                self.error(
                    "ctz-pointer",
                    path,
                    format_args!(
                        "the pointers of block {i} of its list disagree: after a seek, other data \
                         may be read"
                    ),
                );
            }
            if let Some(p) = read_u32_le(ptrs, 0) {
                block = p;
            }
        }
    }
}
