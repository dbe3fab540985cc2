//! Formatting, limits, growth of the superblock chain, and images that do not fit the file or
//! device that holds them.

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::disk::Superblock;
use littlefs::disk::superblock::{VERSION_2_0, VERSION_2_1};
use littlefs::error::{Error, Unsupported};
use littlefs::fs::{FormatOptions, Fs, OpenOptions};

use testkit::clfs::{CLfs, Config};
use testkit::ours::Ours;
use testkit::surgery::Surgeon;

use super::fixture::*;

#[test]
fn format_and_open() {
    on_each_geometry(|fixture| {
        fixture.power_cycle();
        // Magic and revision in both blocks, where other tools look for them.
        let image = fixture.ours.image();
        for block in [0, fixture.config.block_size as usize] {
            assert_eq!(&image[block + 8..block + 16], b"littlefs");
        }
        assert_eq!(fixture.free(), fixture.config.block_count - 2);
    });
}

#[test]
fn blank_and_foreign_images_do_not_open() {
    let geometry = Geometry::new(4096, 16).expect("possible");
    for byte in [0x00, 0xff, 0x5a] {
        let image = vec![byte; geometry.size() as usize];
        let outcome = Ours::open(geometry, image, &OpenOptions::default());
        assert!(matches!(outcome, Err(Error::Corrupt(_))));
    }
}

#[test]
fn limits_are_kept_in_the_superblock() {
    for version in [VERSION_2_0, VERSION_2_1] {
        for (name_max, file_max, attr_max) in [(255, 0x7fff_ffff, 1022), (20, 60_000, 50)] {
            let config = Config { disk_version: version, ..Config::new(512, 256, 16) };
            let options = FormatOptions {
                disk_version: version,
                name_max,
                file_max,
                attr_max,
                prog_size: None,
            };
            let image = Ours::format(geometry(&config), &options).expect("format");
            let ours = Ours::open(geometry(&config), image.clone(), &OpenOptions::default())
                .expect("open");
            let want = Superblock {
                version,
                block_size: 512,
                block_count: 256,
                name_max,
                file_max,
                attr_max,
            };
            assert_eq!(ours.fs.superblock(), want);
            let mut c = CLfs::mount(image, &config).expect("C mounts");
            let stat = c.fs_stat().expect("stat");
            assert_eq!(
                (stat.name_max, stat.file_max, stat.attr_max),
                (name_max, file_max, attr_max)
            );
            assert_eq!(stat.disk_version, version);
        }
    }
    let geometry = Geometry::new(4096, 16).expect("possible");
    let bad = [
        FormatOptions { name_max: 0, ..FormatOptions::default() },
        FormatOptions { name_max: 1023, ..FormatOptions::default() },
        FormatOptions { file_max: 0x8000_0000, ..FormatOptions::default() },
        FormatOptions { attr_max: 1023, ..FormatOptions::default() },
    ];
    for options in bad {
        assert!(matches!(Ours::format(geometry, &options), Err(Error::Invalid(_))), "{options:?}");
    }
}

/// The root is written so often that its blocks wear out. The superblock stays behind, and the root
#[test]
fn superblock_expands() {
    for cycles in [1, 2, 5] {
        for power_cycles in [false, true] {
            let mut fixture = Fixture::with_cycles(Config::new(512, 256, 16), cycles);
            for i in 0..40u32 {
                fixture.create("dummy");
                fixture.flush();
                fixture.unlink("dummy");
                fixture.flush();
                if power_cycles && i % 4 == 0 {
                    fixture.power_cycle();
                }
            }
            fixture.fill("dummy", 20, 1);
            fixture.power_cycle();
            let surgeon = Surgeon::new(&fixture.config, fixture.ours.image());
            assert_ne!(surgeon.root(), surgeon.thread()[0], "not expanded");
            let image = fixture.ours.image();
            for block in [0, 512] {
                assert_eq!(&image[block + 8..block + 16], b"littlefs");
            }
        }
    }
}

/// If the size is not given, it is taken from the superblock.
#[test]
fn size_comes_from_the_superblock() {
    on_each_geometry(|fixture| {
        fixture.fill("test", 6, 1);
        fixture.flush();
        let dev = RamDevice::from_image(geometry(&fixture.config), fixture.ours.image());
        let sb = littlefs::fs::root_superblock(&dev).expect("superblock");
        assert_eq!(sb.block_size, fixture.config.block_size);
        assert_eq!(sb.block_count, fixture.config.block_count);
    });
}

/// The core relies on the given geometry: a superblock with fewer or more blocks is refused.
#[test]
fn other_block_counts_are_refused() {
    let config = Config::new(4096, 32, 16);
    let image = Ours::format(geometry(&config), &FormatOptions::default()).expect("format");
    for blocks in [2, 16, 31, 33, 64] {
        let mut image = image.clone();
        image.resize(blocks as usize * 4096, 0xff);
        let geometry = Geometry::new(4096, blocks).expect("possible");
        let outcome = Ours::open(geometry, image, &OpenOptions::default());
        assert!(matches!(outcome, Err(Error::Unsupported(Unsupported::Geometry(_)))), "{blocks}");
    }
}

/// The smallest possible image: only a superblock pair, which can hold small files.
#[test]
fn two_blocks() {
    let mut fixture = Fixture::new(Config::new(512, 2, 16));
    fixture.fill("test", 6, 1);
    fixture.power_cycle();
    fixture.fails(mkdir("dir"), testkit::calls::Fail::NoSpace);
    fixture.unlink("test");
}

/// C lets the filesystem grow, and this library continues with the larger one.
#[test]
fn image_grown_by_c() {
    let small = Config::new(512, 32, 16);
    let large = Config::new(512, 128, 16);
    let mut fixture = Fixture::new(small.clone());
    fixture.fill("test", 3000, 1);
    fixture.mkdir("dir");
    fixture.power_cycle();
    let mut image = fixture.ours.image();
    image.resize(512 * 128, 0xff);
    let mut c = CLfs::mount(image, &Config { block_count: 0, ..large.clone() }).expect("mount");
    c.grow(128).expect("grow");
    let tree = fixture.model.tree().clone();
    let mut fixture = Fixture::over(large, c.unmount(), tree);
    assert_eq!(fixture.ours.fs.superblock().block_count, 128);
    fixture.fill("dir/large", 40_000, 2);
    fixture.power_cycle();
}

/// After formatting, nothing is left of the metadata that filled the blocks before.
#[test]
fn format_over_an_old_image() {
    let mut fixture = Fixture::new(Config::new(512, 64, 16));
    for i in 0..30 {
        fixture.fill(&format!("old{i}"), 40, 1);
        fixture.flush();
    }
    let dev = Arc::new(RamDevice::from_image(geometry(&fixture.config), fixture.ours.image()));
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let tree = [(Vec::new(), testkit::tree::Entry::dir())].into();
    let mut fixture = Fixture::over(fixture.config.clone(), dev.image(), tree);
    fixture.fill("new", 1000, 1);
    fixture.power_cycle();
}
