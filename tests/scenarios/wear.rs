//! Wear: how long a device lasts whose blocks endure a number of erases, and how evenly its blocks
//! are erased, with this library and with the C driver.

use littlefs::bd::emu::BadBlock;
use littlefs::error::Error;
use littlefs::fs::{FormatOptions, Fs};

use testkit::calls::pattern;
use testkit::clfs::{CError, CLfs, Config};

use super::bad_blocks::{MODES, WearDevice, device, open};
use super::power::World;

const FILES: u32 = 10;

/// What is repeated: ten files are rewritten, in a directory or in the root.
#[derive(Clone, Debug)]
struct Load {
    config: Config,
    dir: Option<&'static str>,
    /// How many erases a block endures.
    life: u32,
}

impl Load {
    fn path(&self, i: u32) -> String {
        self.dir.map_or(format!("test{i}"), |dir| format!("{dir}/test{i}"))
    }

    /// 4 to 2048 bytes.
    fn size(round: u32, i: u32) -> u32 {
        let mut n = (round << 8 | i).wrapping_mul(0x9e37_79b9);
        n ^= n >> 15;
        4 << ((n.wrapping_mul(0x85eb_ca6b) >> 13) % 10)
    }

    fn cycles(&self) -> u32 {
        self.life / 2
    }
}

/// The number of rounds until a write finds no block. What was written before can still be read.
fn our_rounds(load: &Load, mode: BadBlock) -> u32 {
    let dev = device(&load.config, mode, |_| load.life);
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let mount = || open(&dev, &load.config, Some(load.cycles()));
    load.dir.map_or(Ok(()), |dir| mount()?.mkdir(dir)).expect("mkdir");
    for round in 0.. {
        let mut w = mount().unwrap_or_else(|e| panic!("{load:?}, {mode:?}, round {round}: {e}"));
        for i in 0..FILES {
            match w.put(&load.path(i), &pattern(i as u8 + 1, Load::size(round, i))) {
                Ok(()) => {}
                Err(Error::NoSpace | Error::Io(_) | Error::ReadOnly) => {
                    all_there(load, &mut mount().expect("open a worn image"), &dev);
                    return round;
                }
                Err(e) => panic!("{load:?}, {mode:?}, round {round}: {e}"),
            }
        }
        assert!(round < 100_000, "never worn out");
    }
    unreachable!("rounds go on until the device is worn");
}

/// Every file has content that was written to it at some time, according to this library and to C.
fn all_there(load: &Load, w: &mut World, dev: &WearDevice) {
    let mut c = CLfs::mount(dev.emu.image(), &load.config).expect("C mounts a worn image");
    for i in 0..FILES {
        let Some(bytes) = w.get(&load.path(i)) else { continue };
        assert_eq!(bytes, pattern(i as u8 + 1, bytes.len() as u32), "{load:?}");
        assert_eq!(c.read_file(load.path(i).as_bytes()), Ok(bytes), "{load:?}");
    }
}

/// Like the above, with the C driver.
fn c_rounds(load: &Load) -> u32 {
    let cycles = load.cycles() as i32;
    let mut config = Config { life: load.life, block_cycles: cycles, ..load.config.clone() };
    let mut image = CLfs::format(&config).expect("format");
    config.worn = vec![1, 1];
    for round in 0.. {
        let mut c = CLfs::mount(image, &config).expect("mount");
        if let (0, Some(dir)) = (round, load.dir) {
            c.mkdir(dir.as_bytes()).expect("mkdir");
        }
        for i in 0..FILES {
            let bytes = pattern(i as u8 + 1, Load::size(round, i));
            match c.write_file(load.path(i).as_bytes(), &bytes) {
                Ok(()) => {}
                Err(CError::NoSpc) => return round,
                Err(e) => panic!("{load:?}, round {round}: {e}"),
            }
        }
        config.worn = c.erases();
        image = c.unmount();
    }
    unreachable!("rounds go on until the device is worn");
}

/// Geometries: block size, number of blocks, program size. If both sizes are the same, nothing is
/// appended.
const SHAPES: [(u32, u32, u32); 5] =
    [(512, 128, 16), (512, 128, 512), (512, 256, 64), (4096, 128, 4096), (4096, 128, 256)];

fn load((block_size, blocks, prog_size): (u32, u32, u32), dir: Option<&'static str>) -> Load {
    // files up to the same size are inline
    let config = Config { inline_max: 64, ..Config::new(block_size, blocks, prog_size) };
    Load { config, dir, life: 10 }
}

#[test]
fn a_device_lasts_as_long_as_in_the_hands_of_c() {
    for shape in SHAPES {
        for dir in [Some("roadrunner"), None] {
            for life in [10, 20] {
                let load = Load { life, ..load(shape, dir) };
                let (ours, theirs) = (our_rounds(&load, BadBlock::ProgError), c_rounds(&load));
                println!("{shape:?}, {dir:?}, {life} erases: {ours} rounds, C {theirs}");
                assert!(ours * 10 >= theirs * 8, "{load:?}: {ours} rounds, C {theirs}");
            }
        }
    }
}

#[test]
fn what_was_written_outlives_the_device() {
    for mode in MODES {
        let load = load((512, 128, 16), Some("roadrunner"));
        let rounds = our_rounds(&load, mode);
        assert!(rounds > 50, "{mode:?}: worn out after {rounds} rounds");
    }
}

/// A device with twice as many blocks lasts about twice as long.
#[test]
fn wear_is_spread_over_all_blocks() {
    let rounds = |blocks| {
        let load = Load { life: 20, ..load((512, blocks, 16), Some("roadrunner")) };
        our_rounds(&load, BadBlock::ProgError)
    };
    let (half, whole) = (rounds(128), rounds(256));
    assert!(whole * 10 > half * 16, "{half} rounds with 128 blocks, {whole} with 256");
}

/// One small file is rewritten many times. No block, including blocks 0 and 1, is erased much more
/// often than C erases any block.
#[test]
fn no_block_is_erased_much_more_often_than_others() {
    for (shape, cycles) in SHAPES.into_iter().flat_map(|s| [(s, 5), (s, 100)]) {
        let load = Load { life: u32::MAX, ..load(shape, None) };
        let dev = device(&load.config, BadBlock::ProgError, |_| load.life);
        Fs::format(&*dev, &FormatOptions::default()).expect("format");
        let mut w = open(&dev, &load.config, Some(cycles)).expect("open");
        let config = Config { block_cycles: cycles as i32, ..load.config.clone() };
        let mut c = CLfs::fresh(&config).expect("C formats and mounts");
        w.mkdir("d").expect("mkdir");
        c.mkdir(b"d").expect("C's mkdir");
        for i in 0..1000u32 {
            w.put("d/f", &i.to_le_bytes()).expect("put");
            c.write_file(b"d/f", &i.to_le_bytes()).expect("C writes");
        }
        let ours: Vec<u32> = dev.life.lock().iter().map(|left| load.life - left).collect();
        let theirs = c.erases();
        let most = |erases: &[u32]| erases.iter().copied().fold(0, u32::max);
        println!(
            "{shape:?}, {cycles} cycles: at most {}, C {}; blocks 0 and 1 {:?}, C {:?}",
            most(&ours),
            most(&theirs),
            &ours[..2],
            &theirs[..2]
        );
        assert!(most(&ours) <= most(&theirs) + most(&theirs) / 5 + 2, "{shape:?}, {cycles} cycles");
    }
}
