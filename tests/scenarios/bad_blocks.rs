//! Blocks that fail from the start, and blocks that wear out.

use std::sync::Arc;

use littlefs::bd::emu::{BadBlock, EmuDevice};
use littlefs::bd::{BlockDevice, Geometry, IoResult};
use littlefs::error::Result;
use littlefs::fs::{FormatOptions, Fs, OpenOptions};
use parking_lot::Mutex;

use testkit::calls::pattern;
use testkit::clfs::{CLfs, Config};

use super::fixture::geometry;
use super::power::World;

pub const MODES: [BadBlock; 5] = [
    BadBlock::ProgError,
    BadBlock::EraseError,
    BadBlock::ReadError,
    BadBlock::ProgNoop,
    BadBlock::EraseNoop,
];

/// Blocks that become bad after a number of erases.
pub struct WearDevice {
    pub emu: EmuDevice,
    mode: BadBlock,
    /// How many erases each block still endures.
    pub life: Mutex<Vec<u32>>,
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

pub fn device(config: &Config, mode: BadBlock, life: impl Fn(u32) -> u32) -> Arc<WearDevice> {
    // A bad block that is not erased holds what was there once.
    let image = vec![0x5a; geometry(config).size() as usize];
    let emu = EmuDevice::unrecorded(geometry(config), image, true);
    let life: Vec<u32> = (0..config.block_count).map(life).collect();
    for (block, _) in life.iter().enumerate().filter(|(_, life)| **life == 0) {
        emu.set_bad(block as u32, mode);
    }
    Arc::new(WearDevice { emu, mode, life: Mutex::new(life) })
}

pub fn open(dev: &Arc<WearDevice>, config: &Config, cycles: Option<u32>) -> Result<World> {
    let options = OpenOptions {
        prog_size: Some(config.prog_size),
        block_cycles: cycles,
        ..OpenOptions::default()
    };
    Ok(World { fs: Fs::open(dev.clone(), &options)? })
}

/// Directories with long names, and a file in each, are written around bad blocks, and read again
/// by this library and by C.
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

/// Formatting is impossible without a good superblock block.
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

/// The last entry of a later pair moves to another directory. The pair of that directory, the pair
/// before the source, or any other pair meets a bad block. The move is carried out nevertheless.
#[test]
fn last_entry_of_a_pair_moves_around_a_bad_block() {
    for prog_size in [16, 512] {
        let config = Config::new(512, 64, prog_size);
        let prepared = device(&config, BadBlock::ProgError, |_| u32::MAX);
        Fs::format(&*prepared, &FormatOptions::default()).expect("format");
        let mut w = open(&prepared, &config, None).expect("open");
        w.mkdir("parent").expect("mkdir");
        w.mkdir("other").expect("mkdir");
        w.put("other/x", b"").expect("put");
        (0..32).for_each(|i| w.put(&format!("parent/file{i:03}"), b"content").expect("put"));
        for i in (1..32).filter(|i| *i != 17) {
            w.remove(&format!("parent/file{i:03}")).expect("remove");
        }
        for mode in MODES {
            for bad in 2..config.block_count {
                let is_used = w.fs.used_blocks().expect("usage")(bad);
                if mode == BadBlock::ReadError && is_used {
                    continue;
                }
                let emu = EmuDevice::unrecorded(geometry(&config), prepared.emu.image(), true);
                let life = Mutex::new(vec![u32::MAX; config.block_count as usize]);
                let dev = Arc::new(WearDevice { emu, mode, life });
                let mut w = open(&dev, &config, None).expect("open");
                dev.emu.set_bad(bad, mode);
                let what = format!("{mode:?}, block {bad}, prog size {prog_size}");
                w.rename("parent/file017", "other/moved").unwrap_or_else(|e| panic!("{what}: {e}"));
                for mut w in [w, open(&dev, &config, None).expect("open again")] {
                    assert!(w.fs.warnings().is_empty(), "{what}: {:?}", w.fs.warnings());
                    assert_eq!(w.list("parent"), ["file000"], "{what}");
                    assert_eq!(w.get("other/moved").as_deref(), Some(&b"content"[..]), "{what}");
                }
                let mut c = CLfs::mount(dev.emu.image(), &config).expect("C mounts");
                assert_eq!(c.read_file(b"other/moved"), Ok(b"content".to_vec()), "{what}");
                assert_eq!(c.list(b"parent").map(|l| l.len()), Ok(1), "{what}");
            }
        }
    }
}
