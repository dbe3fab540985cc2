//! Writing transactions at the end of a journal.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::extents::{Extents, Piece, Source};
use super::file::JournalFile;
use super::format::{self, Head, Kind, RECORD_MAX, Record};
use super::history::History;
use super::scan::{Entry, Payload, Scan};
use super::{Layers, Reason, State, now};
use crate::bd::Geometry;

/// Bytes compared with what they replace at a time.
const CHUNK: usize = 64 << 10;
/// So many equal bytes between changed ones are written along: a record costs 12.
const GAP: usize = 16;
/// So many equal bytes are a record of their own.
const FILL: usize = 48;

/// Changed bytes in memory.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    /// These, from a position on.
    Bytes {
        all: Arc<[u8]>,
        at: usize,
        /// They go to blocks that held something else: not worth a comparison.
        fresh: bool,
    },
    /// All are 0xFF.
    Erased,
}

impl Pending {
    pub fn bytes(data: &[u8], fresh: bool) -> Self {
        Self::Bytes { all: data.into(), at: 0, fresh }
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> u64 {
        match self {
            Self::Bytes { all, .. } => all.len() as u64 + 64,
            Self::Erased => 64,
        }
    }

    /// Fill `out` with its first bytes.
    pub fn copy_to(&self, out: &mut [u8]) {
        match self {
            Self::Bytes { all, at, .. } => out.copy_from_slice(&all[*at..*at + out.len()]),
            Self::Erased => out.fill(0xff),
        }
    }

    fn is_fresh(&self) -> bool {
        matches!(self, Self::Bytes { fresh: true, .. })
    }
}

impl Piece for Pending {
    fn skip(&self, by: u64) -> Self {
        let mut piece = self.clone();
        if let Self::Bytes { at, .. } = &mut piece {
            *at += by as usize;
        }
        piece
    }
}

/// The end of the file, where entries are appended.
pub(super) struct Appender {
    history: History,
    /// Id of the journal.
    id: u64,
    /// Number of the next entry.
    sequence: u64,
    /// Checksum of the last.
    checksum: u32,
    /// Byte behind what was written, which may be part of a transaction.
    end: u64,
    /// The transaction that was begun.
    begun: Option<Begun>,
    /// What is on disk is unknown.
    poisoned: bool,
}

#[derive(Clone)]
struct Begun {
    head: Head,
    start: u64,
    sum: crc32fast::Hasher,
}

/// Records to be written, and where their bytes will be from the start of them.
#[derive(Default)]
struct Encoded {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl Appender {
    pub fn new(scan: &Scan, history: History) -> Self {
        Self {
            history,
            id: scan.header.id,
            sequence: scan.entries.len() as u64 + 1,
            checksum: scan.checksum,
            end: scan.end,
            begun: None,
            poisoned: false,
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    fn head(&self, kind: Kind, number: u64) -> Head {
        Head {
            kind,
            sequence: self.sequence,
            number,
            time: now(),
            id: self.id,
            previous: self.checksum,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.poisoned { Err(io::Error::other(Reason::Poisoned)) } else { Ok(()) }
    }

    fn new_transaction(&self) -> Begun {
        let head = self.head(Kind::Transaction, self.history.next);
        Begun { head, start: self.end, sum: head.hasher() }
    }

    /// Let there be a transaction, whether anything changes or not.
    pub fn begin(&mut self) {
        if self.begun.is_none() {
            self.begun = Some(self.new_transaction());
        }
    }

    /// Write what is pending ahead of the end of its transaction.
    pub fn spill(&mut self, layers: &Layers, state: &RwLock<State>) -> io::Result<()> {
        self.check()?;
        self.write(layers, state, false).map(drop)
    }

    /// End the transaction, if anything was changed, and wait until it is on disk.
    pub fn finish(&mut self, layers: &Layers, state: &RwLock<State>) -> io::Result<()> {
        self.check()?;
        let Some(Begun { head, start, sum }) = self.write(layers, state, true)? else {
            return Ok(());
        };
        self.sync(&*layers.file)?;
        self.ended(Entry { head, start, end: self.end, payload: Payload::None }, sum.finalize());
        Ok(())
    }

    /// Append what is pending to a transaction, and with `last` its end; what is written then
    /// counts as written. Returns the transaction, unless there is none.
    fn write(
        &mut self,
        layers: &Layers,
        state: &RwLock<State>,
        last: bool,
    ) -> io::Result<Option<Begun>> {
        let encoded = {
            let state = state.read();
            encode(layers, &state.written, &state.pending)?
        };
        if self.begun.is_none() && encoded.records.is_empty() {
            let mut state = state.write();
            (state.pending, state.pending_bytes) = (Extents::default(), 0);
            return Ok(None);
        }
        let mut out = Vec::with_capacity(encoded.bytes.len() + format::HEAD_SIZE + 8);
        let mut begun = self.begun.clone().unwrap_or_else(|| self.new_transaction());
        if begun.start == self.end {
            out.extend(begun.head.to_bytes());
        }
        let records_at = self.end + out.len() as u64;
        let body = out.len();
        out.extend(&encoded.bytes);
        if last {
            format::put_end(&mut out);
        }
        begun.sum.update(&out[body..]);
        if last {
            out.extend(begun.sum.clone().finalize().to_le_bytes());
        }
        layers.file.write(self.end, &out)?;
        self.end += out.len() as u64;
        self.begun = (!last).then(|| begun.clone());

        let mut state = state.write();
        for Record { start, len, source } in encoded.records {
            let source = match source {
                Source::File(at) => Source::File(records_at + at),
                byte @ Source::Byte(_) => byte,
            };
            state.written.insert(start, len, source);
        }
        (state.pending, state.pending_bytes) = (Extents::default(), 0);
        Ok(Some(begun))
    }

    /// Append an entry that is not a transaction, about the transaction of this number or the
    /// last, and wait until it is on disk.
    pub fn append(
        &mut self,
        file: &dyn JournalFile,
        kind: Kind,
        number: Option<u64>,
        payload: Payload,
    ) -> Result<(), Reason> {
        self.check()?;
        let head = self.head(kind, number.unwrap_or_else(|| self.history.last()));
        let body = match &payload {
            Payload::None => Vec::new(),
            Payload::Name(name) => {
                let mut body = (name.len() as u16).to_le_bytes().to_vec();
                body.extend(name.as_bytes());
                body
            }
            Payload::Fingerprint(fingerprint) => fingerprint.to_vec(),
        };
        let (bytes, sum) = format::entry(&head, &body);
        let start = self.end;
        file.write(start, &bytes)?;
        self.end += bytes.len() as u64;
        self.sync(file)?;
        self.ended(Entry { head, start, end: self.end, payload }, sum);
        Ok(())
    }

    fn sync(&mut self, file: &dyn JournalFile) -> io::Result<()> {
        file.sync().inspect_err(|_| self.poisoned = true)
    }

    fn ended(&mut self, entry: Entry, sum: u32) {
        self.sequence += 1;
        self.checksum = sum;
        if let Err(what) = self.history.add(&entry) {
            log::error!("entry {} {what}", entry.head.sequence);
            self.poisoned = true;
        }
    }
}

/// The records that make `pending` of what is written.
fn encode(
    layers: &Layers,
    written: &Extents<Source>,
    pending: &Extents<Pending>,
) -> io::Result<Encoded> {
    let g = layers.geometry;
    let mut out = Encoded::default();
    let (mut new, mut old) = (vec![0; CHUNK], vec![0; CHUNK]);
    for (start, len, piece) in pending.iter() {
        let mut done = 0;
        while done < len {
            let n = CHUNK.min(usize::try_from(len - done).unwrap_or(CHUNK));
            let (at, new, old) = (start + done, &mut new[..n], &mut old[..n]);
            piece.skip(done).copy_to(new);
            if piece.is_fresh() {
                out.put(g, at, new);
            } else {
                layers.read_written(written, at, old).map_err(|e| e.source)?;
                for (from, to) in differing(old, new) {
                    out.put(g, at + from as u64, &new[from..to]);
                }
            }
            done += n as u64;
        }
    }
    Ok(out)
}

/// Runs of bytes that differ, or nearly: start and end.
fn differing(old: &[u8], new: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < new.len() {
        // whole stretches that are equal at the speed of memory
        let equal = old[at..].iter().zip(&new[at..]).take_while(|(a, b)| a == b).count();
        at += equal;
        if at == new.len() {
            break;
        }
        let different = old[at..].iter().zip(&new[at..]).take_while(|(a, b)| a != b).count();
        match runs.last_mut() {
            Some((_, end)) if at - *end < GAP => *end = at + different,
            _ => runs.push((at, at + different)),
        }
        at += different;
    }
    runs
}

impl Encoded {
    /// Append records that make the bytes from `start` on `data`.
    fn put(&mut self, g: Geometry, start: u64, data: &[u8]) {
        let mut literal = 0;
        let mut at = 0;
        while at < data.len() {
            let byte = data[at];
            if byte != 0 && byte != 0xff {
                at += 1;
                continue;
            }
            let run = data[at..].iter().take_while(|b| **b == byte).count();
            // alone it is shorter in any case
            if run >= FILL || (run == data.len() && run > 1) {
                self.put_literal(g, start + literal as u64, &data[literal..at]);
                self.put_byte(g, start + at as u64, run, byte);
                literal = at + run;
            }
            at += run;
        }
        self.put_literal(g, start + literal as u64, &data[literal..]);
    }

    fn put_literal(&mut self, g: Geometry, start: u64, data: &[u8]) {
        let mut at = start;
        for piece in data.chunks(RECORD_MAX) {
            format::put_data(&mut self.bytes, g, at, piece);
            let source = Source::File((self.bytes.len() - piece.len()) as u64);
            self.records.push(Record { start: at, len: piece.len() as u64, source });
            at += piece.len() as u64;
        }
    }

    fn put_byte(&mut self, g: Geometry, start: u64, len: usize, byte: u8) {
        // a chunk is never longer than a record may be
        format::put_byte(&mut self.bytes, g, start, len, byte);
        self.records.push(Record { start, len: len as u64, source: Source::Byte(byte) });
    }
}
