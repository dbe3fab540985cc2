//! The content of a container: bytes at addresses. The gaps between them read as erased.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::trouble::{Remarks, Trouble};
use super::{ReadAt, SEARCH_FILE, Scan};
use crate::files;

/// How many pieces are kept. After neighbours are merged, a real file has some dozens.
const PIECES_MAX: usize = 1 << 20;
/// How many different contents of one container are distinguished: families, files or memories.
const GROUPS_MAX: usize = 64;
/// How many bytes are buffered or compared at a time.
const CHUNK: usize = 64 << 10;

/// A piece of the content, and where its bytes are in the spool.
#[derive(Debug, Clone, Copy)]
struct Piece {
    address: u64,
    len: u64,
    from: u64,
}

/// The place in the spool of a piece whose bytes are missing, and read as erased.
const NOWHERE: u64 = u64::MAX;

impl Piece {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.len)
    }
}

/// Which of several contents of one container a piece belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// There is only one content.
    Only,
    /// The content for a family of processors.
    Family(u32),
    /// The file of this name.
    File(String),
    /// The memory of this number.
    Memory(u8),
}

/// The bytes of a container, unpacked into an unlinked file.
#[derive(Debug)]
pub struct Content {
    spool: File,
    /// The pieces in ascending order of their addresses, without overlaps.
    pieces: Vec<Piece>,
    /// The lowest address. Its byte is at position 0.
    base: u64,
    size: u64,
}

impl Content {
    /// The first `len` bytes of a file, unchanged.
    ///
    /// # Errors
    /// If the system has no more file descriptors.
    pub fn part(file: &File, len: u64) -> io::Result<Self> {
        let pieces = vec![Piece { address: 0, len, from: 0 }];
        Ok(Self { spool: file.try_clone()?, pieces, base: 0, size: len })
    }

    /// The lowest address.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Address and length of each piece, in ascending order of the addresses.
    pub fn pieces(&self) -> Vec<(u64, u64)> {
        self.stretches(1).into_iter().map(|(at, len)| (at + self.base, len)).collect()
    }

    /// The stretches of bytes that have fewer than `gap` erased bytes between them: position and
    /// length of each.
    pub fn stretches(&self, gap: u64) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        for piece in &self.pieces {
            let at = piece.address - self.base;
            match all.last_mut() {
                Some((start, len)) if at - (*start + *len) < gap => *len = at + piece.len - *start,
                _ => all.push((at, piece.len)),
            }
        }
        all
    }
}

impl ReadAt for Content {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
        let len = len.min(buf.len());
        let buf = &mut buf[..len];
        buf.fill(0xff);
        read_pieces(&self.spool, &self.pieces, self.base.saturating_add(start), buf)?;
        Ok(len)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        let address = self.base.saturating_add(start);
        let first = self.pieces.partition_point(|p| p.end() <= address);
        let piece = self.pieces.get(first..)?.iter().find(|piece| piece.from != NOWHERE)?;
        Some(piece.address.max(address) - self.base)
    }
}

/// Fill the bytes of `buf` that pieces cover. `buf` begins at `address`.
fn read_pieces(spool: &File, pieces: &[Piece], address: u64, buf: &mut [u8]) -> io::Result<()> {
    let end = address.saturating_add(buf.len() as u64);
    let first = pieces.partition_point(|piece| piece.end() <= address);
    for piece in pieces.get(first..).unwrap_or_default() {
        if piece.address >= end {
            break;
        }
        if piece.from == NOWHERE {
            continue;
        }
        let (from, to) = (piece.address.max(address), piece.end().min(end));
        let part = &mut buf[(from - address) as usize..(to - address) as usize];
        spool.read_exact_at(part, piece.from + (from - piece.address))?;
    }
    Ok(())
}

/// Collects the pieces of a container.
pub struct Gatherer {
    spool: BufWriter<File>,
    written: u64,
    limit: u64,
    groups: Vec<(Group, Vec<Piece>)>,
    /// The addresses at which contents begin of which the first bytes are missing.
    starts: Vec<(Group, u64)>,
}

impl Gatherer {
    /// Begin to collect, with at most `limit` bytes.
    ///
    /// # Errors
    /// If no temporary file can be made.
    pub fn new(limit: u64) -> Result<Self, Trouble> {
        let spool = files::temporary().map_err(Trouble::Spool)?;
        let spool = BufWriter::with_capacity(CHUNK, spool);
        Ok(Self { spool, written: 0, limit, groups: Vec::new(), starts: Vec::new() })
    }

    /// Add bytes at an address.
    ///
    /// # Errors
    /// If there would be more bytes than the limit, or they cannot be written.
    pub fn add(&mut self, group: &Group, address: u64, data: &[u8]) -> Result<(), Trouble> {
        if data.is_empty() {
            return Ok(());
        }
        let len = data.len() as u64;
        if self.written.saturating_add(len) > self.limit {
            return Err(Trouble::TooLarge { limit: self.limit });
        }
        self.spool.write_all(data).map_err(Trouble::Spool)?;
        let piece = Piece { address, len, from: self.written };
        self.written += len;
        let known = self.groups.iter().position(|(g, _)| g == group);
        let index = match known {
            Some(index) => index,
            None if self.groups.len() == GROUPS_MAX => return Err(Trouble::TooManyPieces),
            None => {
                self.groups.push((group.clone(), Vec::new()));
                self.groups.len() - 1
            }
        };
        let pieces = &mut self.groups[index].1;
        let is_full = pieces.len() == PIECES_MAX;
        match pieces.last_mut() {
            Some(last) if last.end() == address && last.from + last.len == piece.from => {
                last.len += len;
            }
            _ if is_full => return Err(Trouble::TooManyPieces),
            _ => pieces.push(piece),
        }
        Ok(())
    }

    /// Note that the content of a group begins at this address, although its first bytes may be
    /// missing.
    pub fn begin(&mut self, group: &Group, address: u64) {
        self.starts.push((group.clone(), address));
    }

    /// The content, and its group. If there are several groups, it is the first one that holds a
    /// superblock, or otherwise the first one.
    ///
    /// # Errors
    /// If there is no content, or if pieces contradict each other.
    pub fn finish(self, remarks: &mut Remarks) -> Result<(Content, Group), Trouble> {
        let spool = self.spool.into_inner().map_err(|e| Trouble::Spool(e.into_error()))?;
        let several = self.groups.len() > 1;
        let mut chosen: Option<(Content, Group)> = None;
        for (group, pieces) in self.groups {
            let file = spool.try_clone().map_err(Trouble::Io)?;
            let start = self.starts.iter().filter(|(g, _)| *g == group).map(|(_, at)| *at).min();
            let content = Content::of(file, pieces)?.beginning(start);
            let is_wanted = several && {
                let scan = Scan::new(&content, 0, SEARCH_FILE).map_err(Trouble::Io)?;
                !scan.halves.is_empty()
            };
            if is_wanted {
                chosen = Some((content, group));
                break;
            }
            chosen.get_or_insert((content, group));
        }
        if several && let Some((_, group)) = &chosen {
            remarks.note(format!("it has several contents; {group} is used"));
        }
        chosen.ok_or(Trouble::Empty)
    }
}

impl Content {
    /// The same content, which begins at the address `start` if that is lower. The bytes from there
    /// to the first piece are missing.
    fn beginning(mut self, start: Option<u64>) -> Self {
        if let Some(len) = start.and_then(|start| self.base.checked_sub(start)).filter(|&n| n > 0) {
            self.base -= len;
            self.size += len;
            self.pieces.insert(0, Piece { address: self.base, len, from: NOWHERE });
        }
        self
    }

    fn of(spool: File, mut pieces: Vec<Piece>) -> Result<Self, Trouble> {
        pieces.sort_by(|a, b| match a.address.cmp(&b.address) {
            Ordering::Equal => a.from.cmp(&b.from),
            other => other,
        });
        let mut merged: Vec<Piece> = Vec::new();
        for piece in pieces {
            // The pieces are in ascending order, and no merged piece ends behind the last one. So a
            // piece can overlap only with the last one.
            let Some(last) = merged.last_mut() else {
                merged.push(piece);
                continue;
            };
            let overlap = last.end().saturating_sub(piece.address).min(piece.len);
            same_bytes(&spool, last, &piece, overlap)?;
            match last.end() {
                _ if overlap == piece.len => {}
                end if end == piece.address && last.from + last.len == piece.from => {
                    last.len += piece.len;
                }
                _ => {
                    last.len -= overlap;
                    if last.len == 0 {
                        merged.pop();
                    }
                    merged.push(piece);
                }
            }
        }
        let base = merged.first().map_or(0, |piece| piece.address);
        let size = merged.last().map_or(0, Piece::end) - base;
        Ok(Self { spool, pieces: merged, base, size })
    }
}

/// Check that the first `len` bytes of `piece` and `known` are the same: a piece may occur twice,
/// but only with the same content.
fn same_bytes(spool: &File, known: &Piece, piece: &Piece, len: u64) -> Result<(), Trouble> {
    let size = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
    let (mut old, mut new) = (vec![0; size], vec![0; size]);
    let mut done = 0;
    while done < len {
        let n = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
        let (old, new) = (&mut old[..n], &mut new[..n]);
        let at = known.from + (piece.address - known.address) + done;
        spool.read_exact_at(old, at).map_err(Trouble::Io)?;
        spool.read_exact_at(new, piece.from + done).map_err(Trouble::Io)?;
        if old != new {
            return Err(Trouble::Contradiction { address: piece.address + done });
        }
        done += n as u64;
    }
    Ok(())
}
