//! Writing transactions at the end of a journal.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::encode::{Place, Samples, encode};
use super::extents::{Extents, Piece, Source};
use super::file::JournalFile;
use super::format::{self, Head, Kind, Record};
use super::history::History;
use super::scan::{Entry, Payload, Scan};
use super::{Layers, Reason, State};
use crate::bd::file::check_size;
use crate::time::now;

/// Changed bytes in memory.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    /// These bytes, from a position on.
    Bytes {
        all: Arc<[u8]>,
        at: usize,
        /// Whether the old content of their blocks is unrelated, so that a comparison is not
        /// worthwhile.
        fresh: bool,
    },
    /// All bytes are 0xFF.
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

    pub fn is_fresh(&self) -> bool {
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
    /// The id of the journal.
    id: u64,
    /// The sequence number of the next entry.
    sequence: u64,
    /// Checksum of the last entry.
    checksum: u32,
    /// The byte after everything that was written, which may include part of a transaction.
    end: u64,
    /// The byte after the reserved zeros.
    reserved: u64,
    /// The transaction that was begun.
    begun: Option<Begun>,
    /// Whether a transaction was already synced, so that more will probably follow.
    syncs_again: bool,
    /// Whether the content on disk is unknown after a failure.
    poisoned: bool,
    /// Samples of file data that this mount has written.
    samples: Samples,
}

#[derive(Clone)]
struct Begun {
    head: Head,
    start: u64,
    sum: crc32fast::Hasher,
}

impl Appender {
    pub fn new(scan: &Scan, history: History) -> Self {
        Self {
            history,
            id: scan.header.id,
            sequence: scan.entries.len() as u64 + 1,
            checksum: scan.checksum,
            end: scan.end,
            reserved: scan.end,
            begun: None,
            syncs_again: false,
            poisoned: false,
            samples: Samples::default(),
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

    /// Called before anything is written.
    fn check(&mut self, file: &dyn JournalFile) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other(Reason::Poisoned));
        }
        self.check_size(file)
    }

    /// Fail if somebody truncated the file, because the missing part would become a hole.
    ///
    /// # Errors
    /// [`Shortened`](crate::error::Shortened) if it was, and the errors of the system. Nothing can
    /// be written from then on.
    pub fn check_size(&mut self, file: &dyn JournalFile) -> io::Result<()> {
        check_size(file.size(), self.end).inspect_err(|_| self.poisoned = true)
    }

    /// Whether the content on disk is unknown after a failure, so that nothing may be written any
    /// more.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Whether a part of a transaction is in the file.
    pub fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    fn new_transaction(&self) -> Begun {
        let head = self.head(Kind::Transaction, self.history.next);
        Begun { head, start: self.end, sum: head.hasher() }
    }

    /// Begin a transaction, even if nothing changes.
    pub fn begin(&mut self) {
        if self.begun.is_none() {
            self.begun = Some(self.new_transaction());
        }
    }

    /// Write pending changes before the end of their transaction.
    ///
    /// # Errors
    /// If an earlier write has failed, the file was truncated, or it cannot be written.
    pub fn spill(&mut self, layers: &Layers, state: &RwLock<State>) -> io::Result<()> {
        self.check(&*layers.file)?;
        self.write(layers, state, false).map(drop)
    }

    /// End the transaction, if anything was changed, and wait until it is on disk.
    ///
    /// # Errors
    /// Those of [`Self::spill`]. After a failed sync, it is not known what is on disk.
    pub fn finish(&mut self, layers: &Layers, state: &RwLock<State>) -> io::Result<()> {
        self.check(&*layers.file)?;
        let Some(Begun { head, start, sum }) = self.write(layers, state, true)? else {
            return Ok(());
        };
        if self.syncs_again && self.end > self.reserved {
            self.reserved = self.end + layers.file.reserve(self.end);
        }
        self.syncs_again = true;
        self.sync(&*layers.file)?;
        self.ended(Entry { head, start, end: self.end, payload: Payload::None }, sum.finalize());
        Ok(())
    }

    /// Cut off reserved zeros, or a transaction without an end.
    pub fn close(&self, file: &dyn JournalFile) {
        let end = self.begun.as_ref().map_or(self.end, |begun| begun.start);
        // if this fails, the next process that writes to the journal does it
        if !self.poisoned && (self.reserved > end || self.begun.is_some()) {
            let _ = file.truncate(end);
        }
    }

    /// Append pending changes to a transaction, and with `last` also its end. After that, the
    /// changes are no longer pending. Returns the transaction, if there is one.
    fn write(
        &mut self,
        layers: &Layers,
        state: &RwLock<State>,
        last: bool,
    ) -> io::Result<Option<Begun>> {
        let encoded = {
            let state = state.read();
            let before = self.begun.as_ref().map_or(self.end, |begun| begun.start);
            encode(layers, &state.written, &state.pending, &mut self.samples, before)?
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
        for (Record { start, len, source }, place) in encoded.records {
            let source = match (source, place) {
                (Source::File(at), Place::Here) => Source::File(records_at + at),
                (source, _) => source,
            };
            state.written.insert(start, len, source);
        }
        (state.pending, state.pending_bytes) = (Extents::default(), 0);
        Ok(Some(begun))
    }

    /// Append an entry that is not a transaction, about the transaction with this number or the
    /// last one, and wait until the entry is on disk.
    ///
    /// # Errors
    /// Those of [`Self::finish`].
    pub fn append(
        &mut self,
        file: &dyn JournalFile,
        kind: Kind,
        number: Option<u64>,
        payload: Payload,
    ) -> Result<(), Reason> {
        self.check(file)?;
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
        file.sync().inspect_err(|_| self.poisoned = true)?;
        self.check_size(file)
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
