//! Workloads: operations and flushes, and how they are run over an emulated device.

use std::sync::Arc;

use littlefs::bd::emu::{BadBlock, EmuDevice, Event};
use littlefs::bd::{BlockDevice, Geometry};
use littlefs::fs::{Durability, FormatOptions, Fs, OpenOptions};

use super::oracle::State;
use super::random::Rng;
use testkit::calls::{Call, Fail, Model, Subject};
use testkit::clfs::{Config, V2_1};
use testkit::ours::Ours;
use testkit::tree::diff;

/// The type of the attribute that identifies an object, whatever its name is.
pub const ID: u8 = 0x49;
/// The type of the attribute that workloads change.
pub const ATTR: u8 = 0x61;
/// Longest name.
pub const NAME_MAX: usize = 255;

/// The shape of an image, and how it is mounted.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub block_size: u32,
    pub block_count: u32,
    pub prog_size: u32,
    pub version: u32,
    pub block_cycles: Option<u32>,
    pub durability: Durability,
    pub bad_blocks: Option<BadBlocks>,
}

/// Blocks that fail one after the other during a workload.
#[derive(Clone, Copy, Debug)]
pub struct BadBlocks {
    pub mode: BadBlock,
    /// One more block fails before one of this many flushes.
    pub one_in: usize,
    /// How many blocks fail in all.
    pub most: usize,
    /// The seed that chooses them.
    pub seed: u64,
}

/// All ways in which a block can fail.
pub const BAD_BLOCKS: [BadBlock; 5] = [
    BadBlock::ProgError,
    BadBlock::EraseError,
    BadBlock::ReadError,
    BadBlock::ProgNoop,
    BadBlock::EraseNoop,
];

impl BadBlocks {
    pub fn new(mode: BadBlock, seed: u64) -> Self {
        Self { mode, one_in: 1 + seed as usize % 3, most: 20, seed }
    }

    /// Perhaps let one more block fail. If it holds something, it can still be read.
    fn strike(&mut self, rng: &mut Rng, dev: &EmuDevice, fs: &mut Fs) -> Result<(), String> {
        if self.most == 0 || rng.below(self.one_in) > 0 {
            return Ok(());
        }
        // the superblock pair cannot move
        let block = 2 + rng.below(dev.geometry().block_count as usize - 2) as u32;
        let is_used = fs.used_blocks().map_err(|e| format!("usage: {e}"))?(block);
        if self.mode != BadBlock::ReadError || !is_used {
            dev.set_bad(block, self.mode);
            self.most -= 1;
        }
        Ok(())
    }
}

impl Setup {
    pub const fn new(block_size: u32, block_count: u32, prog_size: u32) -> Self {
        Self {
            block_size,
            block_count,
            prog_size,
            version: V2_1,
            block_cycles: None,
            durability: Durability::Full,
            bad_blocks: None,
        }
    }

    pub fn geometry(&self) -> Geometry {
        Geometry::new(self.block_size, self.block_count).expect("geometry")
    }

    pub fn options(&self, read_only: bool) -> OpenOptions {
        OpenOptions {
            read_only,
            prog_size: Some(self.prog_size),
            block_cycles: self.block_cycles,
            durability: self.durability,
            inline_max: None,
            ..OpenOptions::default()
        }
    }

    /// The C driver for the same images. Bytes that flash could not program can be programmed in a
    /// file.
    pub fn c_config(&self) -> Config {
        let mut config = Config::new(self.block_size, self.block_count, self.prog_size);
        config.disk_version = self.version;
        config.strict_erase = false;
        config
    }

    pub fn format(&self) -> Vec<u8> {
        let options = FormatOptions { disk_version: self.version, ..FormatOptions::default() };
        Ours::format(self.geometry(), &options).expect("format")
    }
}

/// One step of a workload.
#[derive(Clone, Debug)]
pub enum Step {
    Call(Call),
    Flush,
}

/// A workload that is built call by call. Paths are relative to the root.
#[derive(Default)]
pub struct Script {
    pub steps: Vec<Step>,
    ids: u32,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn call(&mut self, call: Call) -> &mut Self {
        self.steps.push(Step::Call(call));
        self
    }

    fn identify(&mut self, path: &str) -> &mut Self {
        self.ids += 1;
        let (seed, len) = (1 + (self.ids % 255) as u8, 4 + self.ids / 255);
        self.call(Call::SetAttr { path: path.into(), ty: ID, len, seed })
    }

    pub fn mkdir(&mut self, path: &str) -> &mut Self {
        self.call(Call::Mkdir(path.into()));
        self.identify(path)
    }

    /// A new file of `len` bytes.
    pub fn create(&mut self, path: &str, len: u32) -> &mut Self {
        self.call(Call::Create(path.into()));
        self.identify(path);
        if len > 0 { self.write(path, 0, len) } else { self }
    }

    pub fn write(&mut self, path: &str, off: u32, len: u32) -> &mut Self {
        let seed = 1 + (self.steps.len() % 255) as u8;
        self.call(Call::Write { path: path.into(), off, len, seed })
    }

    pub fn truncate(&mut self, path: &str, size: u32) -> &mut Self {
        self.call(Call::Truncate { path: path.into(), size })
    }

    pub fn unlink(&mut self, path: &str) -> &mut Self {
        self.call(Call::Unlink(path.into()))
    }

    pub fn rmdir(&mut self, path: &str) -> &mut Self {
        self.call(Call::Rmdir(path.into()))
    }

    pub fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        self.call(Call::Rename { from: from.into(), to: to.into(), no_replace: false })
    }

    pub fn attr(&mut self, path: &str, len: u32) -> &mut Self {
        let seed = 1 + (self.steps.len() % 255) as u8;
        self.call(Call::SetAttr { path: path.into(), ty: ATTR, len, seed })
    }

    pub fn flush(&mut self) -> &mut Self {
        self.steps.push(Step::Flush);
        self
    }

    /// Files `prefix00`, `prefix01` and so on, of `len` bytes each.
    pub fn fill(&mut self, prefix: &str, count: u32, len: u32) -> &mut Self {
        for i in 0..count {
            self.create(&format!("{prefix}{i:02}"), len);
        }
        self
    }
}

/// What may be on disk while these events are written.
pub struct Segment {
    /// The end of the events in the log.
    pub end: usize,
    /// The last state that is known to be durable.
    pub old: usize,
    /// Newest state.
    pub new: usize,
    /// Whether a flush has failed since the old state. Then parts of all states in between may be
    /// on disk.
    pub failed: bool,
}

/// A workload that was run.
pub struct Run {
    pub base: Vec<u8>,
    pub log: Vec<Event>,
    pub segments: Vec<Segment>,
    pub states: Vec<State>,
    /// For each flush: the number of events at its end, and the index of the state that it wrote.
    pub flushes: Vec<(usize, usize)>,
}

impl Run {
    /// The image at the end.
    pub fn image(&self) -> Vec<u8> {
        let mut image = self.base.clone();
        for event in &self.log {
            if let Event::Write { start, data } = event {
                image[*start..start + data.len()].copy_from_slice(data);
            }
        }
        image
    }

    /// How many barriers and syncs there were.
    pub fn barriers(&self) -> usize {
        self.log.iter().filter(|event| **event == Event::Barrier).count()
    }

    /// The states that a crash after event `at` may show: pairs of the state before a flush and the
    /// state after it. If flushes are only ordered, all of them that were not ordered by a barrier
    /// before `at` may be missing, but none of them may be there without those before it.
    pub fn possible(&self, at: usize) -> Vec<(usize, usize)> {
        let new = self.segment(at).new;
        let is_ordered =
            |end: usize| end <= at && self.log[end.saturating_sub(1)..at].contains(&Event::Barrier);
        let mut possible = Vec::new();
        let mut newer = new;
        for &(end, state) in self.flushes.iter().rev().filter(|(_, state)| *state <= new) {
            possible.push((state, newer));
            newer = state;
            if is_ordered(end) {
                return possible;
            }
        }
        possible.push((0, newer));
        possible
    }

    /// What a crash after event `at` is compared with.
    pub fn segment(&self, at: usize) -> &Segment {
        let i = self.segments.partition_point(|s| s.end < at);
        &self.segments[i.min(self.segments.len() - 1)]
    }
}

/// Run `steps` on a new image, and check what every flush has left.
pub fn run(setup: &Setup, steps: &[Step]) -> Result<Run, String> {
    let base = setup.format();
    let read_back = setup.bad_blocks.is_some();
    let dev = Arc::new(EmuDevice::recorded(setup.geometry(), base.clone(), read_back));
    let mut bad = setup.bad_blocks;
    let mut rng = Rng(bad.map_or(0, |b| b.seed));
    let mut ours = Ours::open(setup.geometry(), base.clone(), &setup.options(false))
        .map_err(|e| format!("open: {e}"))?;
    ours.fs = Fs::open(dev.clone(), &setup.options(false)).map_err(|e| format!("open: {e}"))?;
    let mut model = Model::new(NAME_MAX);
    let mut states = vec![State::new(model.tree())?];
    let mut segments = Vec::new();
    let mut flushes = Vec::new();
    let (mut old, mut failed) = (0, false);
    for (i, step) in steps.iter().enumerate() {
        if let (Step::Flush, Some(bad)) = (step, &mut bad) {
            bad.strike(&mut rng, &dev, &mut ours.fs)?;
        }
        let before = states.len() - 1;
        let (begin, flushed_before) = (dev.log_len(), ours.fs.flushes().done);
        let mut flushed = false;
        match step {
            Step::Call(call) => {
                let mut next = model.clone();
                let expected = next.apply(call);
                match (ours.apply(call), expected) {
                    (Ok(()), Ok(())) => {
                        model = next;
                        states.push(State::new(model.tree())?);
                    }
                    (Err(Fail::NoSpace), _) | (Err(_), Err(_)) => {}
                    (got, expected) => {
                        return Err(format!("step {i}, {call:?}: {got:?}, not {expected:?}"));
                    }
                }
            }
            Step::Flush => match ours.fs.flush() {
                Ok(()) => flushed = true,
                Err(littlefs::Error::NoSpace) => failed = true,
                Err(e) => return Err(format!("step {i}, flush: {e}")),
            },
        }
        // an operation may flush what was pending before it
        let end = dev.log_len();
        let by_itself = end > begin && dev.is_ordered();
        segments.push(Segment { end, old, new: before, failed });
        if flushed {
            let image = dev.image();
            let mut again = Ours::open(setup.geometry(), image, &setup.options(true))
                .map_err(|e| format!("step {i}, open: {e}"))?;
            let tree = again.tree().map_err(|e| format!("step {i}, read: {e}"))?;
            diff("the model", model.tree(), "the flushed image", &tree)
                .map_err(|e| format!("step {i}: {e}"))?;
        }
        if ours.fs.flushes().done > flushed_before {
            flushes.push((end, before));
        }
        if flushed || (by_itself && matches!(step, Step::Call(_))) {
            (old, failed) = (before, false);
        }
    }
    if setup.durability == Durability::Ordered {
        ours.fs.flush_and_sync().map_err(|e| format!("sync: {e}"))?;
        if !dev.is_ordered() {
            return Err("the end is not durable".into());
        }
    }
    Ok(Run { base, log: dev.take_log(), segments, states, flushes })
}
