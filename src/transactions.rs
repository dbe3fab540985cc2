//! Append-only transactions: a device whose changes go to a journal, while the device below stays
//! as it is. [`crate::journal`] opens journals together with their images.
//!
//! Nothing is written to the file before [`BlockDevice::sync`], except changes beyond 8 MiB. A
//! transaction is valid only when its end is in the file, so a barrier costs nothing, and a sync is
//! one `fdatasync`. `docs/journal.md` describes what can be done with the file.
//!
//! Memory holds about 40 bytes for each run of changed bytes ([`extents`]), and the changes that
//! are not in the file yet.

mod append;
mod encode;
mod error;
pub mod extents;
pub mod file;
pub mod format;
pub mod history;
pub mod scan;

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::bd::{BlockDevice, Geometry, IoResult, byte_offset, check_range};
use crate::error::{IoError, IoOp};

pub use error::{NAME_RULE, Reason};
pub use file::JournalFile;
pub use history::{At, Fate, History, Savepoint, Transaction};

use append::{Appender, Pending};
use extents::{Extents, Source};
use format::{Fingerprint, Kind, Record};
use scan::{Payload, Scan};

/// If the changes in memory have more bytes than this, they are written before their transaction
/// ends.
const PENDING_MAX: u64 = 8 << 20;
/// If two pieces are at most this far apart, the bytes between them are read as well.
const CLOSE: u64 = 64 << 10;

/// A device that combines the device below with a journal.
pub struct JournalDevice {
    layers: Layers,
    /// Held during each change. Lock order: this lock first, then `state`.
    appender: Option<Mutex<Appender>>,
    state: RwLock<State>,
}

/// The places where bytes can be.
struct Layers {
    geometry: Geometry,
    base: Arc<dyn BlockDevice>,
    file: Arc<dyn JournalFile>,
}

/// The places of changed bytes. Bytes that are in neither map are in the device below.
#[derive(Default)]
struct State {
    /// Bytes that are in the file.
    written: Extents<Source>,
    /// Bytes that are only in memory. They replace those in the file.
    pending: Extents<Pending>,
    /// Bytes that were put into `pending`.
    pending_bytes: u64,
}

/// A piece of a read.
enum Origin {
    Base,
    File(u64),
    Byte(u8),
    Memory(Pending),
}

impl JournalDevice {
    /// The state with this number, for reading only.
    ///
    /// # Errors
    /// If there is no such state, or the file cannot be read.
    pub fn past(
        base: Arc<dyn BlockDevice>,
        file: Arc<dyn JournalFile>,
        history: &History,
        number: u64,
    ) -> Result<Self, Reason> {
        let mut this = Self::at_base(base, file);
        history.find(&At::Number(number))?;
        for t in history.live().take_while(|t| t.number <= number) {
            this.advance(t)?;
        }
        Ok(this)
    }

    /// The state of the device below, for reading only.
    pub fn at_base(base: Arc<dyn BlockDevice>, file: Arc<dyn JournalFile>) -> Self {
        let layers = Layers { geometry: base.geometry(), base, file };
        Self { layers, appender: None, state: RwLock::default() }
    }

    /// The last state, for reading and writing. Changes are appended at the end of the journal. An
    /// incomplete entry that a crash left after the end is cut off.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn live(
        base: Arc<dyn BlockDevice>,
        file: Arc<dyn JournalFile>,
        scan: &Scan,
        history: History,
    ) -> Result<Self, Reason> {
        if scan.torn > 0 {
            file.truncate(scan.end)?;
        }
        let mut this = Self::past(base, file, &history, history.last())?;
        this.appender = Some(Mutex::new(Appender::new(scan, history)));
        Ok(this)
    }

    /// Apply the next transaction. Returns the runs of bytes that it changes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn advance(&mut self, t: &Transaction) -> Result<Vec<(u64, u64)>, Reason> {
        let mut changed = Vec::new();
        let (file, g) = (&*self.layers.file, self.layers.geometry);
        let written = &mut self.state.get_mut().written;
        scan::read_records(file, g, t.place, &mut |Record { start, len, source }| {
            written.insert(start, len, source);
            changed.push((start, len));
        })?;
        Ok(changed)
    }

    /// The runs of bytes that differ from the device below, in order: start and length.
    pub fn changed(&self) -> Vec<(u64, u64)> {
        self.state.read().written.iter().map(|(start, len, _)| (start, len)).collect()
    }

    /// Give the present state a name, durably. All changes must have been synced before.
    ///
    /// # Errors
    /// When the name is not allowed, the device is read-only, or the file cannot be written.
    pub fn save(&self, name: &str) -> Result<(), Reason> {
        if !format::is_name(name) {
            return Err(Reason::BadName(name.to_owned()));
        }
        let Some(appender) = &self.appender else {
            return Err(read_only().into());
        };
        let mut appender = appender.lock();
        if appender.is_begun() || !self.state.read().pending.is_empty() {
            return Err(io::Error::other("not everything is synced").into());
        }
        appender.append(&*self.layers.file, Kind::Savepoint, None, Payload::Name(name.to_owned()))
    }

    /// Go back to the state with this number, durably. After that, the device must not be used any
    /// more, because it still shows the state before the revert.
    ///
    /// # Errors
    /// When the state cannot be reached, and when the file cannot be written.
    pub fn revert(&self, number: u64) -> Result<(), Reason> {
        let Some(appender) = &self.appender else { return Err(read_only().into()) };
        let mut appender = appender.lock();
        appender.history().find(&At::Number(number))?;
        appender.append(&*self.layers.file, Kind::Revert, Some(number), Payload::None)
    }

    /// Note, durably, that the content of this device, which has this fingerprint, is now being
    /// copied to the device below.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_commit(&self, fingerprint: Fingerprint) -> Result<(), Reason> {
        self.append_commit(Kind::CommitBegun, fingerprint)
    }

    /// Note, durably, that the device below has the content of this one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_commit(&self, fingerprint: Fingerprint) -> Result<(), Reason> {
        self.append_commit(Kind::CommitDone, fingerprint)
    }

    fn append_commit(&self, kind: Kind, fingerprint: Fingerprint) -> Result<(), Reason> {
        let Some(appender) = &self.appender else { return Err(read_only().into()) };
        let payload = Payload::Fingerprint(fingerprint);
        appender.lock().append(&*self.layers.file, kind, None, payload)
    }

    /// End a transaction even if it changes nothing.
    pub(crate) fn finish_even_if_empty(&self) -> Result<(), Reason> {
        let Some(appender) = &self.appender else { return Err(read_only().into()) };
        let mut appender = appender.lock();
        appender.begin();
        Ok(appender.finish(&self.layers, &self.state)?)
    }

    /// The number of the last transaction; 0 if the device is read-only.
    pub fn last(&self) -> u64 {
        self.appender.as_ref().map_or(0, |appender| appender.lock().history().last())
    }

    /// The state before the `littlefs run` that is running or was interrupted.
    pub fn before_run(&self) -> Option<u64> {
        self.appender.as_ref()?.lock().history().run
    }

    /// The number of the state that has this name.
    pub fn savepoint(&self, name: &str) -> Option<u64> {
        let appender = self.appender.as_ref()?.lock();
        appender.history().find(&At::Name(name.to_owned())).ok()
    }

    /// The last savepoint, if there is one.
    pub fn last_savepoint(&self) -> Option<String> {
        let appender = self.appender.as_ref()?.lock();
        appender.history().savepoints().last().map(|s| s.name.clone())
    }

    /// The pieces that make up `len` bytes from byte `start` on, in order.
    fn pieces(&self, start: u64, len: u64) -> Vec<(u64, Origin)> {
        let state = self.state.read();
        let mut pieces = Vec::new();
        let mut written = |start, len| {
            for (_, len, source) in state.written.segments(start, len) {
                let from = match source {
                    None => Origin::Base,
                    Some(Source::File(at)) => Origin::File(at),
                    Some(Source::Byte(byte)) => Origin::Byte(byte),
                };
                pieces.push((len, from));
            }
            std::mem::take(&mut pieces)
        };
        if state.pending.is_empty() {
            return written(start, len);
        }
        let mut found = Vec::new();
        for (start, len, pending) in state.pending.segments(start, len) {
            match pending {
                None => found.extend(written(start, len)),
                Some(pending) => found.push((len, Origin::Memory(pending))),
            }
        }
        found
    }

    fn change(&self, start: u64, len: usize, pending: Pending) -> IoResult<()> {
        let Some(appender) = &self.appender else {
            return Err(failed(IoOp::Prog, read_only()));
        };
        let mut appender = appender.lock();
        let full = {
            let mut state = self.state.write();
            state.pending_bytes += pending.memory();
            state.pending.insert(start, len as u64, pending);
            state.pending_bytes > PENDING_MAX
        };
        if full {
            appender.spill(&self.layers, &self.state).map_err(|e| failed(IoOp::Prog, e))?;
        }
        Ok(())
    }
}

impl Drop for JournalDevice {
    fn drop(&mut self) {
        if let Some(appender) = &mut self.appender {
            appender.get_mut().close(&*self.layers.file);
        }
    }
}

impl Layers {
    /// Fill `buf` from byte `start`, without pending changes.
    fn read_written(&self, written: &Extents<Source>, start: u64, buf: &mut [u8]) -> IoResult<()> {
        let mut rest = buf;
        for (at, len, source) in written.segments(start, rest.len() as u64) {
            let (part, behind) = rest.split_at_mut(len as usize);
            match source {
                None => self.read_base(at, part, false).map(drop)?,
                Some(Source::File(at)) => self.read_file(at, part, false).map(drop)?,
                Some(Source::Byte(byte)) => part.fill(byte),
            }
            rest = behind;
        }
        Ok(())
    }

    fn read_base(&self, at: u64, part: &mut [u8], now: bool) -> IoResult<bool> {
        let block_size = u64::from(self.geometry.block_size);
        // the position is within the geometry, so both numbers fit
        let (block, off) = ((at / block_size) as u32, (at % block_size) as u32);
        self.base.read_parts(block, off, &mut [IoSliceMut::new(part)], now)
    }

    fn read_file(&self, at: u64, part: &mut [u8], now: bool) -> IoResult<bool> {
        if self.file.read_now(at, part) {
            return Ok(true);
        }
        if now {
            return Ok(false);
        }
        let read = self.file.read(at, part).map_err(|e| failed(IoOp::Read, e))?;
        if read < part.len() {
            let e = io::Error::new(io::ErrorKind::UnexpectedEof, "the journal was cut short");
            return Err(failed(IoOp::Read, e));
        }
        Ok(true)
    }
}

impl BlockDevice for JournalDevice {
    fn geometry(&self) -> Geometry {
        self.layers.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.read_parts(block, off, &mut [IoSliceMut::new(buf)], false).map(drop)
    }

    fn read_parts(
        &self,
        block: u32,
        off: u32,
        parts: &mut [IoSliceMut<'_>],
        now: bool,
    ) -> IoResult<bool> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let start = check_range(self.layers.geometry, IoOp::Read, block, off, len)?;
        let pieces = self.pieces(start, len as u64);
        if let [(_, Origin::Base)] = pieces[..] {
            return self.layers.base.read_parts(block, off, parts, now);
        }
        let mut parts = parts.iter_mut();
        let mut room: &mut [u8] = &mut [];
        let mut at = start;
        for (mut len, mut from) in pieces {
            while len > 0 {
                while room.is_empty() {
                    let Some(part) = parts.next() else { return Ok(true) };
                    room = part;
                }
                let n = room.len().min(usize::try_from(len).unwrap_or(usize::MAX));
                let (part, behind) = std::mem::take(&mut room).split_at_mut(n);
                room = behind;
                let filled = match &from {
                    Origin::Base => self.layers.read_base(at, part, now)?,
                    Origin::File(there) => self.layers.read_file(*there, part, now)?,
                    Origin::Byte(byte) => {
                        part.fill(*byte);
                        true
                    }
                    Origin::Memory(pending) => {
                        pending.copy_to(part);
                        true
                    }
                };
                if !filled {
                    return Ok(false);
                }
                from = from.skip(n as u64);
                at += n as u64;
                len -= n as u64;
            }
        }
        Ok(true)
    }

    fn will_read(&self, block: u32, count: u32) {
        self.layers.base.will_read(block, count);
        let g = self.layers.geometry;
        let count = count.min(g.block_count.saturating_sub(block));
        let start = byte_offset(g, block, 0);
        let len = u64::from(count) * u64::from(g.block_size);
        // one hint covers pieces that are close to each other
        let mut run: Option<(u64, u64)> = None;
        for (len, origin) in self.pieces(start, len) {
            let Origin::File(at) = origin else { continue };
            match &mut run {
                Some((_, end)) if *end <= at && at - *end < CLOSE => *end = at + len,
                run => {
                    if let Some((at, end)) = run.replace((at, at + len)) {
                        self.layers.file.will_read(at, end - at);
                    }
                }
            }
        }
        if let Some((at, end)) = run {
            self.layers.file.will_read(at, end - at);
        }
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let start = check_range(self.layers.geometry, IoOp::Prog, block, off, data.len())?;
        self.change(start, data.len(), Pending::bytes(data, false))
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let len = self.layers.geometry.block_size as usize;
        let start = check_range(self.layers.geometry, IoOp::Erase, block, 0, len)?;
        self.change(start, len, Pending::Erased)
    }

    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        let start = check_range(self.layers.geometry, IoOp::Prog, block, 0, data.len())?;
        self.change(start, data.len(), Pending::bytes(data, true))
    }

    fn barrier(&self) -> IoResult<()> {
        Ok(())
    }

    fn sync(&self) -> IoResult<()> {
        match &self.appender {
            None => Ok(()),
            Some(appender) => {
                let mut appender = appender.lock();
                let finished = appender.finish(&self.layers, &self.state);
                // If the write itself failed, for example on a full disk, the changes are still in
                // memory.
                let op = if appender.is_poisoned() { IoOp::Sync } else { IoOp::Prog };
                finished.map_err(|e| failed(op, e))
            }
        }
    }

    fn still_whole(&self) -> IoResult<()> {
        self.layers.base.still_whole()?;
        match &self.appender {
            None => Ok(()),
            Some(appender) => {
                (appender.lock().check_size(&*self.layers.file)).map_err(|e| failed(IoOp::Sync, e))
            }
        }
    }
}

impl Origin {
    fn skip(self, by: u64) -> Self {
        use extents::Piece;
        match self {
            Self::File(at) => Self::File(at + by),
            Self::Memory(pending) => Self::Memory(pending.skip(by)),
            other => other,
        }
    }
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

fn failed(op: IoOp, source: io::Error) -> IoError {
    IoError { op, block: None, source }
}
