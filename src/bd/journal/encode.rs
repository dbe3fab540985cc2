//! Changed bytes as records: what differs from before, and what stands in the file already only by
//! its place.
//!
//! littlefs writes a file anew from the first changed byte on, each block at another place but with
//! nearly the same bytes as its former self at the same offset. So of blocks written, two samples
//! are remembered, and a block with such a sample is compared with the one it comes from.

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
/// So many equal bytes between changed ones are written along: a record costs 12.
const GAP: usize = 16;
/// So many equal bytes are a record of their own.
const FILL: usize = 48;
/// So many bytes are worth a look for where they stand already: such a record costs 20.
const AGAIN: usize = 64;
/// Bytes of a sample.
const SAMPLE: usize = 32;
/// Samples remembered: 9 MiB of memory.
const SAMPLES_MAX: usize = 1 << 18;

/// Records to be written; where their bytes will be is counted from the start of them.
#[derive(Default)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub records: Vec<(Record, Place)>,
}

/// What the position of bytes in the file is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the start of these records.
    Here,
    /// From the start of the file.
    Before,
}

/// Where samples of blocks were last seen, by their hash: the first byte of the unit.
#[derive(Default)]
pub(super) struct Samples(HashMap<u64, u64>);

/// What is compared at once: a block, or a part of a large one.
fn unit(g: Geometry) -> u64 {
    u64::from(g.block_size).min(CHUNK as u64)
}

impl Samples {
    /// The hashes of the samples of a unit that begins at byte `off` of its block.
    fn of(off: u64, data: &[u8]) -> impl Iterator<Item = u64> {
        [data.len() / 4, data.len() / 4 * 3].into_iter().filter_map(move |at| {
            let sample = data.get(at..at + SAMPLE)?;
            // what is not written tells nothing
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

/// The records that make `pending` of what is written. Bytes in the file count as written up to
/// `before`.
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
                // a sample may be of the end of the filesystem, and shorter
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

/// Runs of bytes that differ, or nearly, with at most `gap` equal ones between: start and end.
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

    /// Append records that make the bytes from `start` on `data`, of which `old`, at `former`, has
    /// a part.
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
        // what is to be written out, begun in front of what is not
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
        // a unit is never longer than a record may be
        format::put_byte(&mut self.bytes, g, start, len, byte);
        let record = Record { start, len: len as u64, source: Source::Byte(byte) };
        self.records.push((record, Place::Here));
    }
}
