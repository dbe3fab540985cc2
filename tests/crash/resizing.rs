//! Resizing in place: wherever it is cut off, the image is sound and has the old or the new size,
//! also for the C driver.

use std::collections::BTreeSet;
use std::sync::Arc;

use littlefs::bd::emu::EmuDevice;
use littlefs::bd::emu::crash::Crashes;
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Mode, Severity, check, repair};
use littlefs::fs::{Fs, OpenOptions, root_superblock};

use super::explore::factor;
use testkit::clfs::{CLfs, Config};
use testkit::tree::{Tree, diff};

const ATTRS: [u8; 2] = [0x74, 0x75];

/// An image with files and directories in all its parts. Its superblock chain has two pairs.
fn spread(config: &Config) -> (Vec<u8>, Tree) {
    let worn = Config { block_cycles: 1, ..config.clone() };
    let mut c = CLfs::fresh(&worn).expect("a new image");
    for i in 0..60_u8 {
        c.write_file(b"top", &[i; 30]).expect("written");
        c.setattr(b"", 0x74, &[i; 8]).expect("an attribute");
    }
    let size = config.block_size as usize;
    for i in 0..6_u8 {
        let dir = format!("dir{i}").into_bytes();
        c.mkdir(&dir).expect("mkdir");
        for (name, blocks) in [("list", 3), ("gone", 6), ("long", 5)] {
            let path = [&dir[..], b"/", name.as_bytes()].concat();
            c.write_file(&path, &vec![i + 1; blocks * size - 50]).expect("written");
        }
        c.write_file(&[&dir[..], b"/inline"].concat(), &[i; 20]).expect("written");
        c.setattr(&[&dir[..], b"/inline"].concat(), 0x75, &[i; 5]).expect("an attribute");
    }
    for i in 0..6 {
        c.remove(format!("dir{i}/gone").as_bytes()).expect("removed");
    }
    let tree = c.tree(&ATTRS).expect("readable");
    (c.unmount(), tree)
}

fn device(config: &Config, count: u32, image: &[u8]) -> Arc<RamDevice> {
    let mut image = image.to_vec();
    image.resize(config.block_size as usize * count as usize, 0xff);
    let geometry = Geometry::new(config.block_size, count).expect("possible");
    Arc::new(RamDevice::from_image(geometry, image))
}

/// What the C driver reads with a fixed number of blocks, or, if that is 0, with any number.
fn c_reads(config: &Config, block_count: u32, image: &[u8], name: &str, tree: &Tree) {
    let config = Config { block_count, strict_erase: false, ..config.clone() };
    let mut c = CLfs::mount(image.to_vec(), &config).unwrap_or_else(|e| panic!("{name}: {e}"));
    diff("the C driver's", &c.tree(&ATTRS).expect("readable"), "before", tree)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    c.write_file(b"one more", &[7; 900]).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Check that the image has the old or the new size, is sound and has everything. `check` shows
/// whether the superblocks differ, and `-p` makes them agree.
fn stands(config: &Config, sizes: [u32; 2], image: &[u8], name: &str, tree: &Tree) -> u32 {
    let most = *sizes.iter().max().expect("two");
    let whole = device(config, most, image);
    let count = root_superblock(&*whole).expect("a superblock").block_count;
    assert!(sizes.contains(&count), "{name}: {count} blocks");
    let bytes = whole.image();
    let bytes = &bytes[..config.block_size as usize * count as usize];
    let dev = device(config, count, bytes);
    let report = check(dev.clone()).expect("examined");
    assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    let differ = report.findings.iter().any(|f| f.code == "superblock-size");
    c_reads(config, 0, &whole.image(), name, tree);
    let fixed = Config { block_count: count, strict_erase: false, ..config.clone() };
    assert_eq!(CLfs::mount(bytes.to_vec(), &fixed).is_err(), differ, "{name}");
    let repairs = repair(dev.clone(), Mode::Preen).expect("opens");
    assert_eq!(repairs.stopped, None, "{name}");
    let mended: Vec<_> = repairs.done.iter().map(|repair| repair.code).collect();
    assert_eq!(mended.contains(&"superblock-size"), differ, "{name}: {mended:?}");
    let report = check(dev.clone()).expect("examined");
    let left = report.findings.iter().any(|f| f.code == "superblock-size");
    assert!(!left && report.is_clean(), "{name}: {:#?}", report.findings);
    c_reads(config, count, &dev.image(), name, tree);
    count
}

#[test]
fn cut_off_at_every_write() {
    for (block_size, old) in [(512, 160), (128, 400)] {
        let config = Config::new(block_size, old, 16);
        let (image, tree) = spread(&config);
        let dev = device(&config, old, &image);
        let used = Fs::open(dev, &OpenOptions::default()).and_then(|mut fs| fs.usage());
        let used = used.expect("opens").blocks_used;
        for new in [used + (old - used) / 3, old + 50] {
            let geometry = Geometry::new(block_size, old).expect("possible");
            let emu = Arc::new(EmuDevice::new(geometry, image.clone()));
            let fs = Fs::open(emu.clone(), &OpenOptions::default()).expect("opens");
            fs.resize(new).unwrap_or_else(|e| panic!("{old} to {new} of {block_size}: {e}"));
            let log = emu.take_log();
            let (mut images, mut seen) = (0, BTreeSet::new());
            for crash in Crashes::new(image.clone(), &log, 20 * factor(), 1) {
                let name = format!("{old} to {new} blocks of {block_size}, {}", crash.cut);
                seen.insert(stands(&config, [old, new], &crash.image, &name, &tree));
                images += 1;
            }
            assert_eq!(stands(&config, [new, new], &emu.image(), "at the end", &tree), new);
            assert!(seen == BTreeSet::from([old, new]) && images >= 3, "{seen:?} of {images}");
        }
    }
}

/// With too few blocks, nothing is lost, and the size stays.
#[test]
fn without_room() {
    let config = Config::new(512, 160, 16);
    let (image, tree) = spread(&config);
    for new in [2, 20, 60] {
        let dev = device(&config, 160, &image);
        let fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens");
        let e = fs.resize(new).expect_err("too few");
        assert!(matches!(e, littlefs::Error::NoSpace), "{new}: {e}");
        stands(&config, [160, 160], &dev.image(), &format!("{new} blocks"), &tree);
    }
}

/// lfs_fs_grow writes only the superblock of the root. `-p` writes the others.
#[test]
fn grown_by_c() {
    let config = Config::new(512, 160, 16);
    let (mut image, tree) = spread(&config);
    image.resize(512 * 200, 0xff);
    let any = Config { block_count: 0, strict_erase: false, ..config.clone() };
    let mut c = CLfs::mount(image, &any).expect("mounts");
    c.grow(200).expect("grown");
    let image = c.unmount();
    let report = check(device(&config, 200, &image)).expect("examined");
    let found: Vec<_> = report.findings.iter().map(|f| (f.severity, f.code)).collect();
    assert!(found.contains(&(Severity::Note, "superblock-size")), "{found:?}");
    assert_eq!(stands(&config, [200, 200], &image, "grown by C", &tree), 200);
}
