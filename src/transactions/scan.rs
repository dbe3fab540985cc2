//! Reading a journal from its start to the last complete entry.

use std::io;

use super::Reason;
use super::extents::Source;
use super::file::JournalFile;
use super::format::{
    self, BadHeader, ENTRY_MAGIC, Fingerprint, HEAD_SIZE, HEADER_FIXED, Head, Header, Kind, Next,
    PATH_MAX, Record,
};
use crate::bd::Geometry;
use crate::show;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// How many possible entries after a broken one are examined. After a crash, there are none.
const HEADS_MAX: u32 = 64;

/// The content of an entry in addition to its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing, or records.
    None,
    /// The name of a savepoint.
    Name(String),
    /// The fingerprint that the image will have after the commit.
    Fingerprint(Fingerprint),
}

/// A whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its head.
    pub head: Head,
    /// The position in the file at which it starts.
    pub start: u64,
    /// The byte after its end.
    pub end: u64,
    /// Its content.
    pub payload: Payload,
}

/// A journal that was read.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Its header.
    pub header: Header,
    /// Bytes of the header.
    pub header_len: u64,
    /// All entries that are whole, in order.
    pub entries: Vec<Entry>,
    /// The byte after the last entry.
    pub end: u64,
    /// The checksum of the last entry.
    pub checksum: u32,
    /// How many bytes follow after that. They belong to an entry that a crash cut short.
    pub torn: u64,
    /// Whether all these bytes are zero, as the space is that a mount reserves while it writes.
    pub reserved: bool,
}

impl Scan {
    /// What to tell the user about the bytes after the last whole entry, if there are any.
    pub fn about_torn(&self) -> Option<String> {
        let torn = (self.torn > 0).then(|| show::bytes(self.torn))?;
        Some(format!(
            "after the last entry that is used, there is a part of an entry ({torn}): a crash \
             interrupted it, it was damaged, or a mount is writing it"
        ))
    }
}

/// Reads forward through a file, up to the size that it had when this was made.
pub struct Reader<'a> {
    file: &'a dyn JournalFile,
    buf: Vec<u8>,
    /// The position in the file of the first byte of `buf`.
    base: u64,
    /// The index in `buf` of the byte that is read next.
    next: usize,
    limit: u64,
}

impl<'a> Reader<'a> {
    /// A reader of the bytes from `at` to `limit`.
    pub fn new(file: &'a dyn JournalFile, at: u64, limit: u64) -> Self {
        Self { file, buf: Vec::new(), base: at, next: 0, limit }
    }

    /// The position in the file of the byte that is read next.
    pub fn position(&self) -> u64 {
        self.base + self.next as u64
    }

    /// Some of the next bytes, without consuming them. Empty at the end.
    fn peek(&mut self) -> io::Result<&[u8]> {
        if self.next == self.buf.len() {
            self.base = self.position();
            self.next = 0;
            let left = self.limit.saturating_sub(self.base);
            self.buf.resize(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)), 0);
            let read = self.file.read(self.base, &mut self.buf)?;
            self.buf.truncate(read);
        }
        Ok(&self.buf[self.next..])
    }

    /// Whether all bytes up to the end are zero.
    fn is_zero(&mut self) -> io::Result<bool> {
        loop {
            let there = self.peek()?;
            if there.is_empty() || there.iter().any(|b| *b != 0) {
                return Ok(there.is_empty());
            }
            self.next = self.buf.len();
        }
    }

    /// Fill `out`; false if the file ends before that.
    fn fill(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let mut done = 0;
        while done < out.len() {
            let there = self.peek()?;
            if there.is_empty() {
                return Ok(false);
            }
            let n = there.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&there[..n]);
            self.next += n;
            done += n;
        }
        Ok(true)
    }

    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut out = [0; N];
        Ok(self.fill(&mut out)?.then_some(out))
    }

    /// Skip `len` bytes, and add them to `sum` if that is given; false if the file ends before
    /// that.
    fn pass(&mut self, mut len: u64, mut sum: Option<&mut crc32fast::Hasher>) -> io::Result<bool> {
        if self.position().saturating_add(len) > self.limit {
            return Ok(false);
        }
        while len > 0 {
            let Some(sum) = sum.as_deref_mut().filter(|_| len > 0) else {
                let here = self.position() + len;
                if here <= self.base + self.buf.len() as u64 {
                    self.next += len as usize;
                } else {
                    (self.base, self.next) = (here, 0);
                    self.buf.clear();
                }
                return Ok(true);
            };
            let there = self.peek()?;
            if there.is_empty() {
                return Ok(false);
            }
            let n = there.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            sum.update(&there[..n]);
            self.next += n;
            len -= n as u64;
        }
        Ok(true)
    }
}

/// Read the records of a transaction whose entry starts at byte `start`, and report each. Their
/// bytes are added to `sum` if it is given. False if they violate the format or the file ends
/// before their end.
fn records(
    reader: &mut Reader<'_>,
    g: Geometry,
    start: u64,
    mut sum: Option<&mut crc32fast::Hasher>,
    tell: &mut dyn FnMut(Record),
) -> io::Result<bool> {
    loop {
        let Some(word) = reader.array::<4>()? else { return Ok(false) };
        if let Some(sum) = sum.as_deref_mut() {
            sum.update(&word);
        }
        let next = Next::of(u32::from_le_bytes(word));
        let (len, source) = match next {
            Some(Next::End) => return Ok(true),
            Some(Next::Data(len)) => (len, Source::File(0)),
            Some(Next::Byte(byte, len)) => (len, Source::Byte(byte)),
            Some(Next::Again(len)) => (len, Source::File(0)),
            None => return Ok(false),
        };
        let Some(place) = reader.array::<8>()? else { return Ok(false) };
        let Some(at) = format::place(g, place, len) else { return Ok(false) };
        if let Some(sum) = sum.as_deref_mut() {
            sum.update(&place);
        }
        let mut record = Record { start: at, len: u64::from(len), source };
        if matches!(next, Some(Next::Again(_))) {
            let Some(there) = reader.array::<8>()? else { return Ok(false) };
            if let Some(sum) = sum.as_deref_mut() {
                sum.update(&there);
            }
            let there = u64::from_le_bytes(there);
            if there.checked_add(record.len).is_none_or(|end| end > start) {
                return Ok(false);
            }
            record.source = Source::File(there);
        } else if matches!(next, Some(Next::Data(_))) {
            record.source = Source::File(reader.position());
            if !reader.pass(record.len, sum.as_deref_mut())? {
                return Ok(false);
            }
        }
        tell(record);
    }
}

/// Read one entry and check it; `None` if it is not whole.
fn entry(
    reader: &mut Reader<'_>,
    g: Geometry,
    wanted: &dyn Fn(&Head) -> bool,
) -> io::Result<Option<(Entry, u32)>> {
    let start = reader.position();
    let head = reader.array::<HEAD_SIZE>()?.and_then(|bytes| Head::from_bytes(&bytes));
    let Some(head) = head.filter(|head| wanted(head)) else { return Ok(None) };
    let mut sum = head.hasher();
    let payload = match head.kind {
        Kind::Transaction => {
            if !records(reader, g, start, Some(&mut sum), &mut |_| ())? {
                return Ok(None);
            }
            Payload::None
        }
        Kind::Savepoint => {
            let Some(len) = reader.array::<2>()? else { return Ok(None) };
            let mut name = vec![0; usize::from(u16::from_le_bytes(len))];
            if !reader.fill(&mut name)? {
                return Ok(None);
            }
            sum.update(&len);
            sum.update(&name);
            let name = String::from_utf8(name).ok().filter(|name| format::is_name(name));
            match name {
                Some(name) => Payload::Name(name),
                None => return Ok(None),
            }
        }
        Kind::Revert => Payload::None,
        Kind::CommitBegun | Kind::CommitDone => {
            let Some(fingerprint) = reader.array::<32>()? else { return Ok(None) };
            sum.update(&fingerprint);
            Payload::Fingerprint(fingerprint)
        }
    };
    let sum = sum.finalize();
    if reader.array::<4>()? != Some(sum.to_le_bytes()) {
        return Ok(None);
    }
    Ok(Some((Entry { head, start, end: reader.position(), payload }, sum)))
}

/// Read and check all of a journal.
///
/// # Errors
/// When it is not a journal, or is damaged before its last entry, which a crash cannot cause.
pub fn scan(file: &dyn JournalFile) -> Result<Scan, Reason> {
    match scan_part(file)? {
        (scan, None) => Ok(scan),
        (_, Some(damage)) => Err(damage),
    }
}

/// The same. If there is damage, this returns the part before it, together with the damage.
///
/// # Errors
/// When it is not a journal.
pub fn scan_part(file: &dyn JournalFile) -> Result<(Scan, Option<Reason>), Reason> {
    let limit = file.size()?;
    let mut start = vec![0; HEADER_FIXED + PATH_MAX + 4];
    let read = file.read(0, &mut start)?;
    start.truncate(read);
    let (header, header_len, checksum) = Header::from_bytes(&start).map_err(|bad| match bad {
        BadHeader::NotJournal => Reason::NotJournal,
        BadHeader::Version(version) => Reason::UnknownVersion(version),
        BadHeader::Damaged => Reason::Damaged { at: 0, what: "its header is damaged".to_owned() },
    })?;
    let g = header.geometry;
    let mut scan = Scan {
        header,
        header_len,
        entries: Vec::new(),
        end: 0,
        checksum,
        torn: 0,
        reserved: false,
    };
    scan.end = header_len;
    let mut reader = Reader::new(file, header_len, limit);
    loop {
        let sequence = scan.entries.len() as u64 + 1;
        let follows = |head: &Head| {
            head.id == scan.header.id && head.sequence == sequence && head.previous == scan.checksum
        };
        match entry(&mut reader, g, &follows)? {
            Some((entry, sum)) => {
                scan.end = entry.end;
                scan.checksum = sum;
                scan.entries.push(entry);
            }
            None => break,
        }
    }
    scan.torn = limit.saturating_sub(scan.end);
    if scan.torn == 0 {
        return Ok((scan, None));
    }
    scan.reserved = Reader::new(file, scan.end, limit).is_zero()?;
    match no_entry_behind(file, &scan, limit) {
        Err(damage @ Reason::Damaged { .. }) => Ok((scan, Some(damage))),
        result => result.map(|()| (scan, None)),
    }
}

/// Check that no complete entry follows the broken one. A crash only cuts the last entry short, so
/// otherwise something else damaged the journal.
fn no_entry_behind(file: &dyn JournalFile, scan: &Scan, limit: u64) -> Result<(), Reason> {
    let broken = scan.entries.len() as u64 + 1;
    let later = |head: &Head| head.id == scan.header.id && head.sequence > broken;
    let mut reader = Reader::new(file, scan.end + 1, limit);
    let mut heads = 0;
    while heads < HEADS_MAX {
        // go to the next byte that may be the first one of a head
        let there = reader.peek()?;
        if there.is_empty() {
            return Ok(());
        }
        let Some(skip) = there.iter().position(|b| *b == ENTRY_MAGIC[0]) else {
            reader.next = reader.buf.len();
            continue;
        };
        reader.next += skip;
        let at = reader.position();
        let mut head = [0; HEAD_SIZE];
        let is_head = match reader.buf.get(reader.next..reader.next + HEAD_SIZE) {
            Some(bytes) => {
                head.copy_from_slice(bytes);
                true
            }
            None => file.read(at, &mut head)? == HEAD_SIZE,
        };
        reader.next += 1;
        if is_head && Head::from_bytes(&head).is_some_and(|head| later(&head)) {
            heads += 1;
            let mut ahead = Reader::new(file, at, limit);
            let g = scan.header.geometry;
            if let Some((found, _)) = entry(&mut ahead, g, &later)? {
                return Err(Reason::Damaged {
                    at: scan.end,
                    what: format!(
                        "entry {broken} is damaged (byte {}), but entry {} after it is intact",
                        scan.end, found.head.sequence
                    ),
                });
            }
        }
    }
    let what = format!(
        "entry {broken} is damaged (byte {}), and a crash cannot have left the bytes after it",
        scan.end
    );
    Err(Reason::Damaged { at: scan.end, what })
}

/// Report the records of a transaction that [`scan`] found complete.
///
/// # Errors
/// When the file cannot be read, or has been changed since.
pub fn read_records(
    file: &dyn JournalFile,
    g: Geometry,
    transaction: (u64, u64),
    tell: &mut dyn FnMut(Record),
) -> Result<(), Reason> {
    let (start, end) = transaction;
    let mut reader = Reader::new(file, start + HEAD_SIZE as u64, end);
    if records(&mut reader, g, start, None, tell)? {
        return Ok(());
    }
    let what = format!("the transaction at byte {start} changed while it was read");
    Err(Reason::Damaged { at: start, what })
}
