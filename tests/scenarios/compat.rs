//! Versions: this library reads and continues what C has written, and C what this library has
//! written.
//!
//! `tests/python` does the same with another version of the C driver.

use littlefs::bd::Geometry;
use littlefs::disk::log::Log;
use littlefs::disk::{Pair, Superblock};
use littlefs::error::{Error, Unsupported};
use littlefs::fs::OpenOptions;

use testkit::clfs::{CError, CLfs, Config, V2_0, V2_1};
use testkit::ours::Ours;
use testkit::surgery::Surgeon;

use super::fixture::*;

/// Directories, files, and files in directories, named after the side that creates them.
fn populate(fixture: &mut Fixture, who: &str) {
    for i in 0..5u32 {
        fixture.mkdir(&format!("{who}.d{i}"));
        fixture.fill(&format!("{who}.f{i}"), 7 * 1000 * i, i as u8 + 1);
        fixture.fill(&format!("{who}.d{i}/file"), 90 * i, i as u8 + 9);
    }
}

fn populate_c(c: &mut CLfs, who: &str) {
    for i in 0..5u32 {
        let path = |what: &str| format!("{who}.{what}").into_bytes();
        c.mkdir(&path(&format!("d{i}"))).expect("mkdir");
        let bytes = testkit::calls::pattern(i as u8 + 1, 7 * 1000 * i);
        c.write_file(&path(&format!("f{i}")), &bytes).expect("write");
        let bytes = testkit::calls::pattern(i as u8 + 9, 90 * i);
        c.write_file(&path(&format!("d{i}/file")), &bytes).expect("write");
    }
}

#[test]
fn each_goes_on_where_the_other_stopped() {
    for disk_version in [V2_0, V2_1] {
        for (block_size, block_count, prog_size) in GEOMETRIES {
            let config = Config { disk_version, ..Config::new(block_size, block_count, prog_size) };
            let mut c = CLfs::fresh(&config).expect("format");
            populate_c(&mut c, "c1");
            let tree = c.tree(&ATTR_TYPES).expect("read");
            let mut fixture = Fixture::over(config.clone(), c.unmount(), tree);
            populate(&mut fixture, "we2");
            fixture.write("c1.f4", 100, 50, 99);
            fixture.rename("c1.d1", "we2.d1/c1");
            fixture.power_cycle();
            // The version stays as it was.
            assert_eq!(fixture.ours.fs.superblock().version, disk_version);

            let mut c = CLfs::mount(fixture.ours.image(), &config).expect("mount");
            populate_c(&mut c, "c3");
            c.append(b"we2.f3", b"more").expect("append");
            c.remove(b"we2.d0/file").expect("remove");
            let tree = c.tree(&ATTR_TYPES).expect("read");
            let mut fixture = Fixture::over(config.clone(), c.unmount(), tree);
            fixture.fill("last", 100, 1);
            fixture.power_cycle();
        }
    }
}

/// A driver of an older disk version refuses a newer image. This library refuses versions that do
/// not exist yet.
#[test]
fn unknown_versions_are_refused() {
    for (version, known) in [
        (0x0001_0007, false),
        (0x0002_0000, true),
        (0x0002_0001, true),
        (0x0002_0002, false),
        (0x0003_0000, false),
    ] {
        let config = Config::new(512, 64, 16);
        let mut fixture = Fixture::new(config.clone());
        fixture.fill("test", 10, 1);
        fixture.flush();
        let mut surgeon = Surgeon::new(&config, fixture.ours.image());
        let (_, mut log) = surgeon.fetch(Pair::SUPERBLOCK);
        let sb = Superblock { version, ..Superblock::of(&log).expect("superblock") };
        set_superblock(&mut log, sb);
        surgeon.rewrite(Pair::SUPERBLOCK, &log);
        let geometry = Geometry::new(512, 64).expect("possible");
        match Ours::open(geometry, surgeon.image.clone(), &OpenOptions::default()) {
            Ok(_) => assert!(known, "{version:#x}"),
            Err(Error::Unsupported(Unsupported::Version(v))) => {
                assert!(!known && v == version, "{version:#x}");
            }
            Err(e) => panic!("{version:#x}: {e}"),
        }
        let c = CLfs::mount(surgeon.image, &config).map(drop);
        assert_eq!(c, if known { Ok(()) } else { Err(CError::Inval) });
    }
}

fn set_superblock(log: &mut Log, sb: Superblock) {
    let entry = log.entries.first_mut().expect("the superblock entry");
    entry.data = Some((littlefs::disk::tag::INLINESTRUCT, sb.to_bytes().into()));
}
