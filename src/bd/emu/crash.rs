//! Crash images: the possible contents of the disk after a loss of power.
//!
//! The model: every write before the last completed barrier is on disk. Any subset of the writes
//! after it can be on disk, in any order. Within each of these writes, each sector of 512 bytes
//! (counted from the start of the file) can be on disk or not.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::Hasher;

use super::Event;

/// Bytes that a disk writes as a whole.
const SECTOR: usize = crate::bd::SECTOR as usize;
/// If there are at most this many writes or pieces of writes, all subsets are tried.
const EXHAUSTIVE: usize = 6;

/// How an image was made, for messages.
#[derive(Debug, Clone)]
pub enum Cut {
    /// All writes up to event `at`, in order.
    Linear {
        /// Index in the log.
        at: usize,
    },
    /// These events after the barrier at or before `from`, in this order.
    Writes {
        /// Index in the log of the first event after the barrier.
        from: usize,
        /// Indices in the log.
        events: Vec<usize>,
    },
    /// Like `Writes`, but only single sectors of the writes.
    Torn {
        /// Index in the log of the first event after the barrier.
        from: usize,
        /// The sectors that were written, each as the index of its event in the log and its first
        /// byte in the image.
        pieces: Vec<(usize, usize)>,
    },
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One crash image.
pub struct Crash {
    /// How it was made.
    pub cut: Cut,
    /// Index in the log of the first event after all writes that the image contains. This is the
    /// earliest moment at which the crash can have happened.
    pub reached: usize,
    /// All bytes.
    pub image: Vec<u8>,
}

/// Part of a write within one sector.
#[derive(Clone, Copy)]
struct Piece {
    event: usize,
    start: usize,
    end: usize,
}

/// What is still to be tried between two barriers.
enum Stage {
    Linear(usize),
    Subsets(u32),
    RandomWrites(usize),
    TornSubsets(u32),
    RandomTorn(usize),
    Done,
}

/// All distinct crash images of a log, made one at a time.
pub struct Crashes<'a> {
    log: &'a [Event],
    /// The image with everything that is durable before `from`.
    base: Vec<u8>,
    from: usize,
    to: usize,
    stage: Stage,
    /// Events of the epoch that write.
    writes: Vec<usize>,
    pieces: Vec<Piece>,
    samples: usize,
    rng: u64,
    seen: HashSet<u64>,
}

impl<'a> Crashes<'a> {
    /// Crash images of the device that held `base` when `log` began. If there are too many,
    /// `samples` images of each kind are chosen by `seed` between two barriers.
    pub fn new(base: Vec<u8>, log: &'a [Event], samples: usize, seed: u64) -> Self {
        let mut c = Self {
            log,
            base,
            from: 0,
            to: 0,
            stage: Stage::Done,
            writes: Vec::new(),
            pieces: Vec::new(),
            samples,
            rng: seed,
            seen: HashSet::new(),
        };
        c.begin_epoch();
        c
    }

    /// Distinct images so far.
    pub fn distinct(&self) -> usize {
        self.seen.len()
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng = self.rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.rng >> 33) as usize) % n.max(1)
    }

    /// Set up the writes from `from` to the next barrier.
    fn begin_epoch(&mut self) {
        let rest = &self.log[self.from..];
        let len = rest.iter().position(|e| *e == Event::Barrier).unwrap_or(rest.len());
        self.to = self.from + len;
        self.writes = (self.from..self.to).collect();
        self.pieces.clear();
        for &event in &self.writes {
            let Event::Write { start, data } = &self.log[event] else { continue };
            let (mut at, end) = (*start, start + data.len());
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                self.pieces.push(Piece { event, start: at, end: next });
                at = next;
            }
        }
        self.stage = Stage::Linear(0);
    }

    /// Make all writes of the epoch durable and go on to the next one. Returns false at the end of
    /// the log.
    fn next_epoch(&mut self) -> bool {
        for event in self.from..self.to {
            if let Event::Write { start, data } = &self.log[event] {
                self.base[*start..start + data.len()].copy_from_slice(data);
            }
        }
        self.from = self.to + 1;
        if self.from >= self.log.len() {
            self.stage = Stage::Done;
            return false;
        }
        self.begin_epoch();
        true
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// A random selection of `items`, which keeps a random share of them; about every second time
    /// in a random order.
    fn sample<T: Copy>(&mut self, items: &[T]) -> Vec<T> {
        let density = 1 + self.below(7);
        let mut some: Vec<T> = items.iter().copied().filter(|_| self.below(8) < density).collect();
        if self.below(2) == 0 {
            self.shuffle(&mut some);
        }
        some
    }

    fn of_writes(&self, events: Vec<usize>) -> Crash {
        let mut image = self.base.clone();
        for &event in &events {
            if let Event::Write { start, data } = &self.log[event] {
                image[*start..start + data.len()].copy_from_slice(data);
            }
        }
        let reached = events.iter().max().map_or(self.from, |e| e + 1);
        Crash { cut: Cut::Writes { from: self.from, events }, reached, image }
    }

    fn of_pieces(&self, pieces: &[Piece]) -> Crash {
        let mut image = self.base.clone();
        for p in pieces {
            if let Event::Write { start, data } = &self.log[p.event] {
                image[p.start..p.end].copy_from_slice(&data[p.start - start..p.end - start]);
            }
        }
        let reached = pieces.iter().map(|p| p.event + 1).max().unwrap_or(self.from);
        let pieces = pieces.iter().map(|p| (p.event, p.start)).collect();
        Crash { cut: Cut::Torn { from: self.from, pieces }, reached, image }
    }

    /// The next image, which may have been made before.
    fn candidate(&mut self) -> Option<Crash> {
        loop {
            match self.stage {
                Stage::Linear(n) if n <= self.writes.len() => {
                    self.stage = Stage::Linear(n + 1);
                    let mut crash = self.of_writes(self.writes[..n].to_vec());
                    crash.cut = Cut::Linear { at: crash.reached };
                    return Some(crash);
                }
                Stage::Linear(_) if self.writes.len() <= EXHAUSTIVE => {
                    self.stage = Stage::Subsets(0);
                }
                Stage::Linear(_) => self.stage = Stage::RandomWrites(0),
                Stage::Subsets(set) if set < 1 << self.writes.len() => {
                    self.stage = Stage::Subsets(set + 1);
                    return Some(self.of_writes(chosen(&self.writes, set)));
                }
                Stage::Subsets(_) => self.stage = Stage::RandomWrites(self.samples * 3 / 4),
                Stage::RandomWrites(n) if n < self.samples && self.writes.len() > 1 => {
                    self.stage = Stage::RandomWrites(n + 1);
                    let writes = std::mem::take(&mut self.writes);
                    let events = self.sample(&writes);
                    self.writes = writes;
                    return Some(self.of_writes(events));
                }
                Stage::RandomWrites(_) if self.pieces.len() == self.writes.len() => {
                    if !self.next_epoch() {
                        return None;
                    }
                }
                Stage::RandomWrites(_) if self.pieces.len() <= EXHAUSTIVE => {
                    self.stage = Stage::TornSubsets(0);
                }
                Stage::RandomWrites(_) => self.stage = Stage::RandomTorn(0),
                Stage::TornSubsets(set) if set < 1 << self.pieces.len() => {
                    self.stage = Stage::TornSubsets(set + 1);
                    return Some(self.of_pieces(&chosen(&self.pieces, set)));
                }
                Stage::RandomTorn(n) if n < self.samples => {
                    self.stage = Stage::RandomTorn(n + 1);
                    let pieces = std::mem::take(&mut self.pieces);
                    let some = self.sample(&pieces);
                    self.pieces = pieces;
                    return Some(self.of_pieces(&some));
                }
                Stage::TornSubsets(_) | Stage::RandomTorn(_) => {
                    if !self.next_epoch() {
                        return None;
                    }
                }
                Stage::Done => return None,
            }
        }
    }
}

impl Iterator for Crashes<'_> {
    type Item = Crash;

    fn next(&mut self) -> Option<Crash> {
        loop {
            let crash = self.candidate()?;
            let mut hasher = DefaultHasher::new();
            hasher.write(&crash.image);
            if self.seen.insert(hasher.finish()) {
                return Some(crash);
            }
        }
    }
}

/// The items whose bits are set.
fn chosen<T: Copy>(items: &[T], set: u32) -> Vec<T> {
    items.iter().enumerate().filter(|(i, _)| set >> i & 1 != 0).map(|(_, item)| *item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(start: usize, len: usize, byte: u8) -> Event {
        Event::Write { start, data: vec![byte; len] }
    }

    #[test]
    fn subsets_start_again_after_a_barrier() {
        let log = [write(0, 1, 1), write(1, 1, 2), Event::Barrier, write(2, 1, 3)];
        let images: HashSet<Vec<u8>> =
            Crashes::new(vec![0; 3], &log, 10, 1).map(|c| c.image).collect();
        let expected = [[0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 2, 0], [1, 2, 3]];
        assert_eq!(images, expected.into_iter().map(Vec::from).collect());
    }

    #[test]
    fn writes_tear_at_sectors_of_the_file() {
        let log = [write(500, 24, 1)];
        let crashes: Vec<Crash> = Crashes::new(vec![0; 1024], &log, 10, 1).collect();
        let ones: HashSet<usize> =
            crashes.iter().map(|c| c.image.iter().filter(|&&b| b == 1).count()).collect();
        assert_eq!((crashes.len(), ones), (4, HashSet::from([0, 12, 24])));
    }

    #[test]
    fn overlapping_writes_come_in_either_order() {
        let log = [write(0, 2, 1), write(1, 2, 2)];
        let images: HashSet<Vec<u8>> =
            Crashes::new(vec![0; 3], &log, 100, 1).map(|c| c.image).collect();
        assert!(images.contains(&vec![1, 1, 2]) && images.contains(&vec![1, 2, 2]));
        assert_eq!(images.len(), 5);
    }
}
