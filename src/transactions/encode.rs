//! Encoding changed bytes as records: only bytes that differ from before are stored, and bytes that
//! are already in the file are stored as a reference.
//!
//! littlefs rewrites a file from the first changed byte on. Each rewritten block is at another
//! place, but has nearly the same bytes as before at the same offsets. So two samples of each
//! written block are remembered. A later block with the same sample is compared with the block from
//! which the sample comes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use super::Layers;
use super::append::Pending;
use super::extents::{Extents, Piece, Source};
use super::format::{self, RECORD_MAX, Record};
use crate::bd::Geometry;

/// Bytes compared at a time.
const CHUNK: usize = 64 << 10;
/// Up to this many equal bytes between changed ones are written, too, because a new record costs 12
/// bytes.
const GAP: usize = 16;
/// A run of at least this many identical bytes gets a record of its own.
const FILL: usize = 48;
/// It is worthwhile to refer to bytes in the file if there are at least this many, because such a
/// record costs 20 bytes.
const AGAIN: usize = 64;
/// Bytes of a sample.
const SAMPLE: usize = 32;
/// How many samples are remembered; they take 9 MiB of memory.
const SAMPLES_MAX: usize = 1 << 18;

/// Records that will be written. Positions of bytes are counted as [`Place`] says.
#[derive(Default)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub records: Vec<(Record, Place)>,
}

/// The point from which the position of bytes in the file is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the start of these records.
    Here,
    /// From the start of the file.
    Before,
}

/// The place where each sample was last seen, by the hash of the sample: the first byte of its
/// unit.
#[derive(Default)]
pub(super) struct Samples(HashMap<u64, u64>);

/// How many bytes are compared at a time: a block, or a part of a large one.
fn unit(g: Geometry) -> u64 {
    u64::from(g.block_size).min(CHUNK as u64)
}

impl Samples {
    /// The hashes of the samples of a unit that begins at byte `off` of its block.
    fn of(off: u64, data: &[u8]) -> impl Iterator<Item = u64> {
        [data.len() / 4, data.len() / 4 * 3].into_iter().filter_map(move |at| {
            let sample = data.get(at..at + SAMPLE)?;
            // a sample without written bytes is of no use
            let tells = sample.iter().any(|b| !matches!(b, 0 | 0xff));
            tells.then(|| {
                let mut hasher = DefaultHasher::new();
                (off, at, sample).hash(&mut hasher);
                hasher.finish()
            })
        })
    }

    fn find(&self, off: u64, data: &[u8]) -> Option<u64> {
        Self::of(off, data).find_map(|hash| self.0.get(&hash).copied())
    }

    fn add(&mut self, off: u64, data: &[u8], start: u64) {
        if self.0.len() >= SAMPLES_MAX {
            self.0.clear();
        }
        self.0.extend(Self::of(off, data).map(|hash| (hash, start)));
    }
}

/// The records that turn the written content into `pending`. They may refer to bytes in the file
/// before position `before`.
pub(super) fn encode(
    layers: &Layers,
    written: &Extents<Source>,
    pending: &Extents<Pending>,
    samples: &mut Samples,
    before: u64,
) -> io::Result<Encoded> {
    let g = layers.geometry;
    let block_size = u64::from(g.block_size);
    let mut out = Encoded::default();
    let (mut new, mut old) = (vec![0; CHUNK], vec![0; CHUNK]);
    for (start, len, piece) in pending.iter() {
        let mut at = start;
        while at < start + len {
            let off = at % block_size;
            let to_end = unit(g) - off % unit(g);
            let n = to_end.min(block_size - off).min(start + len - at);
            let (new, old) = (&mut new[..n as usize], &mut old[..n as usize]);
            piece.skip(at - start).copy_to(new);
            let former = match piece.is_fresh() {
                false => Some(at),
                true => samples.find(off, new),
            };
            match former {
                None => out.put(g, at, new),
                // the sample may come from the end of the filesystem, where the unit is shorter
                Some(former) if former + n > g.size() => out.put(g, at, new),
                Some(former) => {
                    layers.read_written(written, former, old).map_err(|e| e.source)?;
                    if former == at && !piece.is_fresh() {
                        for (from, to) in differing(old, new, GAP) {
                            out.put(g, at + from as u64, &new[from..to]);
                        }
                    } else {
                        out.put_again(g, at, new, old, former, written, before);
                    }
                }
            }
            if piece.is_fresh() {
                samples.add(off, new, at);
            }
            at += n;
        }
    }
    Ok(out)
}

/// Runs of bytes that differ: start and end. Runs with at most `gap` equal bytes between them are
/// joined.
fn differing(old: &[u8], new: &[u8], gap: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < new.len() {
        let equal = old[at..].iter().zip(&new[at..]).take_while(|(a, b)| a == b).count();
        at += equal;
        if at == new.len() {
            break;
        }
        let different = old[at..].iter().zip(&new[at..]).take_while(|(a, b)| a != b).count();
        match runs.last_mut() {
            Some((_, end)) if at - *end < gap => *end = at + different,
            _ => runs.push((at, at + different)),
        }
        at += different;
    }
    runs
}

impl Encoded {
    /// Append records that set the bytes from `start` on to `data`.
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
            // in this case a record of its own is always shorter
            if run >= FILL || (run == data.len() && run > 1) {
                self.put_literal(g, start + literal as u64, &data[literal..at]);
                self.put_byte(g, start + at as u64, run, byte);
                literal = at + run;
            }
            at += run;
        }
        self.put_literal(g, start + literal as u64, &data[literal..]);
    }

    /// Append records that set the bytes from `start` on to `data`. Parts of `data` that are equal
    /// to `old`, the bytes at `former`, can be stored as references.
    #[expect(clippy::too_many_arguments)]
    fn put_again(
        &mut self,
        g: Geometry,
        start: u64,
        data: &[u8],
        old: &[u8],
        former: u64,
        written: &Extents<Source>,
        before: u64,
    ) {
        // the start of the bytes that must be written out, in front of the next reference
        let mut literal = 0;
        let mut equal_from = 0;
        let mut equal = |this: &mut Self, from: usize, to: usize| {
            if to - from < AGAIN {
                return;
            }
            let mut at = from;
            for (_, len, source) in written.segments(former + from as u64, (to - from) as u64) {
                let len = len as usize;
                match source {
                    Some(Source::File(there)) if len >= AGAIN && there + len as u64 <= before => {
                        this.put(g, start + literal as u64, &data[literal..at]);
                        format::put_again(&mut this.bytes, g, start + at as u64, len, there);
                        let source = Source::File(there);
                        let record = Record { start: start + at as u64, len: len as u64, source };
                        this.records.push((record, Place::Before));
                        literal = at + len;
                    }
                    _ => {}
                }
                at += len;
            }
        };
        for (from, to) in differing(old, data, AGAIN) {
            equal(self, equal_from, from);
            equal_from = to;
        }
        equal(self, equal_from, data.len());
        self.put(g, start + literal as u64, &data[literal..]);
    }

    fn put_literal(&mut self, g: Geometry, start: u64, data: &[u8]) {
        let mut at = start;
        for piece in data.chunks(RECORD_MAX) {
            format::put_data(&mut self.bytes, g, at, piece);
            let source = Source::File((self.bytes.len() - piece.len()) as u64);
            let record = Record { start: at, len: piece.len() as u64, source };
            self.records.push((record, Place::Here));
            at += piece.len() as u64;
        }
    }

    fn put_byte(&mut self, g: Geometry, start: u64, len: usize, byte: u8) {
        // one record is enough, because a unit is never longer than the longest record
        format::put_byte(&mut self.bytes, g, start, len, byte);
        let record = Record { start, len: len as u64, source: Source::Byte(byte) };
        self.records.push((record, Place::Here));
    }
}
