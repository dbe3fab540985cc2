//! Functions for the repair of damaged files: using a map of free blocks that was made elsewhere,
//! moving the remains of files aside, and shortening files.

use std::collections::HashMap;

use super::pairs::PairIx;
use super::repair::numbered;
use super::{DirId, FileId, Fs, Node};
use crate::alloc::Alloc;
use crate::disk::Pair;
use crate::error::{Error, Result};
use crate::mdir::Data;

/// How many bytes are copied at a time.
const COPY: usize = 64 << 10;

impl Fs {
    /// Let all blocks that are not in `used` count as free, even if lists that cannot be followed
    /// name them.
    pub(crate) fn adopt_map(&mut self, used: Alloc) {
        self.space.adopt(used);
        Pair::SUPERBLOCK.0.into_iter().for_each(|b| self.space.pin(b));
        for b in self.thread.iter().flat_map(|(_, p)| p.blocks.0) {
            self.space.mark(b);
        }
    }

    /// Move entries to `NAME.part` in `lost+found`. Each entry is given by the active block of its
    /// pair and its id. Returns the old and the new path of each. Entries that are there already,
    /// or for which there is no space, are left out.
    pub(crate) fn set_aside(
        &mut self,
        entries: &[(u32, u16)],
    ) -> Result<Vec<Option<(String, String)>>> {
        let _running = self.begin()?;
        let by_block: HashMap<u32, PairIx> =
            self.thread.iter().map(|(ix, p)| (p.blocks.0[0], ix)).collect();
        // all names are looked up first, because the first move already changes ids
        let mut names = Vec::new();
        for (block, id) in entries {
            let Some(&ix) = by_block.get(block) else {
                names.push(None);
                continue;
            };
            let dir = self.pair(ix).dir;
            let e = self.mdir(ix)?.entries.iter().find(|e| e.did == Some(*id));
            names.push(dir.zip(e.map(|e| e.name.to_box())));
        }
        let mut moved = Vec::new();
        for place in names {
            moved.push(match place {
                Some((dir, name)) => match self.set_aside_one(dir, &name) {
                    Ok(paths) => paths,
                    Err(Error::NoSpace) => None,
                    Err(e) => return Err(e),
                },
                None => None,
            });
        }
        self.flush()?;
        Ok(moved)
    }

    fn set_aside_one(&mut self, dir: DirId, name: &[u8]) -> Result<Option<(String, String)>> {
        let lost = self.lost_and_found()?;
        if dir == lost {
            return Ok(None);
        }
        let new = self.unused_name(lost, &[name, b".part"].concat())?;
        self.rename(dir, name, lost, &new, true)?;
        let path = |fs: &Self, dir, name| fs.path_of(dir) + &String::from_utf8_lossy(name);
        Ok(Some((path(self, dir, name), path(self, lost, &new))))
    }

    /// Shorten files that are larger than `file_max` to this size. If there is space, the bytes
    /// after that, at most `file_max` of them, go to a file in `lost+found`. Returns the paths of
    /// both.
    pub(crate) fn shorten_files(&mut self) -> Result<Vec<(String, Option<String>)>> {
        let _running = self.run();
        let max = self.superblock.file_max;
        let mut large = Vec::new();
        for ix in self.thread.ids() {
            let Some(dir) = self.pair(ix).dir else { continue };
            for e in &self.mdir(ix)?.entries {
                if matches!(e.data, Data::Ctz(list) if list.size > max) && e.is_visible() {
                    large.push((dir, e.name.to_box()));
                }
            }
        }
        let mut done = Vec::new();
        for (dir, name) in large {
            let file = self.open_file(dir, &name)?;
            let rest = match self.keep_rest(file, &name) {
                Err(Error::NoSpace) => None,
                rest => Some(rest?),
            };
            self.flush()?;
            self.truncate(file, u64::from(max))?;
            self.close_file(file);
            self.flush()?;
            done.push((self.path_of(dir) + &String::from_utf8_lossy(&name), rest));
        }
        Ok(done)
    }

    /// Copy the bytes after `file_max` to a new file, up to the largest size of a file. An
    /// interrupted repair may have left such a copy, or a part of it. Then that copy is continued.
    fn keep_rest(&mut self, file: FileId, name: &[u8]) -> Result<String> {
        let max = self.superblock.file_max;
        let size = self.file_size(file)?.min(max.saturating_mul(2)) - max;
        let lost = self.lost_and_found()?;
        let part = self.name_of_rest(lost, &[name, b".part"].concat(), file, size)?;
        let made = self.find(lost, &part)?.is_none();
        if made {
            self.create(lost, &part)?;
        }
        let target = self.open_file(lost, &part)?;
        let off = self.file_size(target)?;
        let copied = self.copy_rest(file, target, off, size);
        self.close_file(target);
        if let Err(e) = copied {
            if made {
                self.unlink(lost, &part)?;
            }
            return Err(e);
        }
        Ok(self.path_of(lost) + &String::from_utf8_lossy(&part))
    }

    /// The first of `name`, `name~1`... in `lost` that does not exist, or that holds the beginning
    /// of the bytes of `file` after `file_max`. There are `size` such bytes.
    fn name_of_rest(
        &mut self,
        lost: DirId,
        name: &[u8],
        file: FileId,
        size: u32,
    ) -> Result<Box<[u8]>> {
        for n in 0..u32::MAX {
            let candidate = numbered(name, n, self.superblock.name_max as usize);
            let fits = match self.lookup(lost, &candidate) {
                Ok(Node::File { size: there }) if there <= size => {
                    let target = self.open_file(lost, &candidate)?;
                    let same = self.is_rest(file, target);
                    self.close_file(target);
                    same?
                }
                Ok(_) | Err(Error::Corrupt(_)) => false,
                Err(Error::NotFound) => !self.is_shadowed(lost, &candidate)?,
                Err(e) => return Err(e),
            };
            if fits {
                return Ok(candidate.into());
            }
        }
        Err(Error::NoSpace)
    }

    /// Whether the content of `target` is the beginning of what `file` holds after `file_max`.
    fn is_rest(&mut self, file: FileId, target: FileId) -> Result<bool> {
        let max = self.superblock.file_max;
        let size = self.file_size(target)?;
        for off in (0..size).step_by(COPY) {
            let len = COPY.min((size - off) as usize);
            let mut read = |file, off| self.read(file, off, len).and_then(|plan| plan.run());
            match (read(file, u64::from(max) + u64::from(off)), read(target, u64::from(off))) {
                (Ok(a), Ok(b)) if a == b => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Copy the bytes `off` to `size` of what `file` holds after `file_max`.
    fn copy_rest(&mut self, file: FileId, target: FileId, off: u32, size: u32) -> Result<()> {
        let max = u64::from(self.superblock.file_max);
        for off in (off..size).step_by(COPY) {
            let len = COPY.min((size - off) as usize);
            let bytes = self.read(file, max + u64::from(off), len).and_then(|plan| plan.run())?;
            self.write(target, u64::from(off), &bytes)?;
        }
        Ok(())
    }
}
