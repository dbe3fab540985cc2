//! Blocks that fail from the start, and blocks that wear out.

use std::sync::Arc;

use littlefs::bd::emu::{BadBlock, EmuDevice};
use littlefs::bd::{BlockDevice, Geometry, IoResult};
use littlefs::error::{Error, Result};
use littlefs::fs::{FormatOptions, Fs, OpenOptions};
use parking_lot::Mutex;

use crate::common::calls::pattern;
use crate::common::clfs::{CLfs, Config};

use super::lab::geometry;
use super::power::World;

const MODES: [BadBlock; 5] = [
    BadBlock::ProgError,
    BadBlock::EraseError,
    BadBlock::ReadError,
    BadBlock::ProgNoop,
    BadBlock::EraseNoop,
];

/// Blocks that become bad after a number of erases.
struct WearDevice {
    emu: EmuDevice,
    mode: BadBlock,
    /// Erases that each block still stands.
    life: Mutex<Vec<u32>>,
}

impl BlockDevice for WearDevice {
    fn geometry(&self) -> Geometry {
        self.emu.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.emu.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.emu.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        if let Some(left) = self.life.lock().get_mut(block as usize) {
            if *left == 0 {
                self.emu.set_bad(block, self.mode);
            }
            *left = left.saturating_sub(1);
        }
        self.emu.erase(block)
    }

    fn barrier(&self) -> IoResult<()> {
        self.emu.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.emu.sync()
    }

    fn wants_read_back(&self) -> bool {
        true
    }
}

fn device(config: &Config, mode: BadBlock, life: impl Fn(u32) -> u32) -> Arc<WearDevice> {
    // A bad block that is not erased holds what was there once.
    let image = vec![0x5a; geometry(config).size() as usize];
    let emu = EmuDevice::unrecorded(geometry(config), image, true);
    let life: Vec<u32> = (0..config.block_count).map(life).collect();
    for (block, _) in life.iter().enumerate().filter(|(_, life)| **life == 0) {
        emu.set_bad(block as u32, mode);
    }
    Arc::new(WearDevice { emu, mode, life: Mutex::new(life) })
}

fn open(dev: &Arc<WearDevice>, config: &Config, cycles: Option<u32>) -> Result<World> {
    let options = OpenOptions {
        prog_size: Some(config.prog_size),
        block_cycles: cycles,
        ..OpenOptions::default()
    };
    Ok(World { fs: Fs::open(dev.clone(), &options)? })
}

/// Directories with long names and a file in each, written around bad blocks and read again, by
/// us and by C.
fn tree_around(config: &Config, mode: BadBlock, life: impl Fn(u32) -> u32, what: &str) {
    let what = &format!("{what}, {mode:?}, {config:?}");
    let dev = device(config, mode, life);
    Fs::format(&*dev, &FormatOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut w = open(&dev, config, None).unwrap_or_else(|e| panic!("{what}: {e}"));
    let name = |i: u32| i.to_string().repeat(40);
    let file = |i: u32| format!("{0}/{0}", name(i));
    for i in 1..8 {
        let outcome =
            w.mkdir(&name(i)).and_then(|()| w.put(&file(i), &pattern(i as u8, 64 * i * i)));
        outcome.unwrap_or_else(|e| panic!("{what}, step {i}: {e}"));
    }
    let mut w = open(&dev, config, None).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut c = CLfs::mount(dev.emu.image(), config).unwrap_or_else(|e| panic!("{what}: {e}"));
    for i in 1..8 {
        let want = pattern(i as u8, 64 * i * i);
        assert_eq!(w.get(&file(i)), Some(want.clone()), "{what}");
        assert_eq!(c.read_file(file(i).as_bytes()), Ok(want), "{what}");
    }
}

fn configs() -> [Config; 2] {
    [Config::new(512, 128, 16), Config::new(512, 128, 512)]
}

#[test]
fn one_bad_block() {
    for config in configs() {
        for mode in MODES {
            for bad in 2..config.block_count {
                tree_around(&config, mode, |b| u32::from(b != bad) * 1_000_000, &bad.to_string());
            }
        }
    }
}

#[test]
fn half_of_the_blocks_are_bad() {
    for config in configs() {
        for mode in MODES {
            let half = config.block_count / 2;
            tree_around(&config, mode, |b| u32::from(b < 2 || b > half) * 1_000_000, "first half");
            tree_around(&config, mode, |b| u32::from(b < half) * 1_000_000, "second half");
            tree_around(&config, mode, |b| u32::from(b < 2 || b % 2 == 0) * 1_000_000, "odd");
            tree_around(&config, mode, |b| u32::from(b < 2 || b % 2 == 1) * 1_000_000, "even");
        }
    }
}

/// Without a good superblock block there is nothing to format.
#[test]
fn bad_superblocks() {
    for config in configs() {
        for mode in MODES {
            let dev = device(&config, mode, |b| u32::from(b > 1) * 1_000_000);
            assert!(Fs::format(&*dev, &FormatOptions::default()).is_err(), "{mode:?}");
            assert!(open(&dev, &config, None).is_err(), "{mode:?}");
        }
    }
}

/// How many rounds of rewriting ten files a device stands. After the last, all files still read.
fn rounds_until_worn(config: &Config, mode: BadBlock, life: u32, dir: Option<&str>) -> u32 {
    let dev = device(config, mode, |b| if b < 2 && dir.is_some() { u32::MAX } else { life });
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let cycles = Some(life / 2);
    let mut w = open(&dev, config, cycles).expect("open");
    dir.map_or(Ok(()), |dir| w.mkdir(dir)).expect("mkdir");
    let path = |i: u32| dir.map_or(format!("test{i}"), |dir| format!("{dir}/test{i}"));
    let size = |round: u32, i: u32| 1 << ((round.wrapping_mul(i + 7) >> 1) % 10 + 2);
    for round in 0.. {
        w = match open(&dev, config, cycles) {
            Ok(w) => w,
            Err(e) => panic!("{mode:?}, round {round}: {e}"),
        };
        for i in 0..10 {
            match w.put(&path(i), &pattern(i as u8 + 1, size(round, i))) {
                Ok(()) => {}
                Err(Error::NoSpace | Error::Io(_)) => {
                    let mut w = open(&dev, config, cycles).expect("open a worn image");
                    for i in 0..10 {
                        let bytes = w.get(&path(i)).expect("still there");
                        assert_eq!(bytes, pattern(i as u8 + 1, bytes.len() as u32), "{mode:?}");
                    }
                    return round;
                }
                Err(e) => panic!("{mode:?}, round {round}: {e}"),
            }
        }
        for i in 0..10 {
            assert_eq!(w.get(&path(i)), Some(pattern(i as u8 + 1, size(round, i))), "{mode:?}");
        }
        assert!(round < 100_000, "never worn out");
    }
    unreachable!("rounds go on until the device is worn");
}

#[test]
fn device_wears_out() {
    for mode in MODES {
        let rounds = rounds_until_worn(&Config::new(512, 128, 16), mode, 10, Some("roadrunner"));
        assert!(rounds > 10, "{mode:?}: worn out after {rounds} rounds");
    }
}

/// Twice the blocks last about twice as long.
#[test]
fn wear_is_spread() {
    let rounds = |blocks| {
        let config = Config::new(512, blocks, 16);
        rounds_until_worn(&config, BadBlock::ProgError, 20, Some("roadrunner"))
    };
    let (half, whole) = (rounds(128), rounds(256));
    assert!(whole * 10 > half * 16, "{half} rounds with 128 blocks, {whole} with 256");
}
