//! Opening and making images and devices.

use std::fs;
use std::sync::Arc;

use littlefs::bd::{BlockDevice, FileDevice, Geometry, RamDevice};
use littlefs::convention::{Choice, Convention};
use littlefs::fs::{Fs, OpenOptions as EngineOptions, ROOT, Storage};
use littlefs::image::Reason;
use littlefs::profile::Profile;
use littlefs::transactions::At;
use littlefs::{Error, FormatOptions, Littlefs, OpenOptions, ReadOnlyReason};

use super::{device, empty};

#[test]
fn an_image_file_is_made_and_opened() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("new.img");
    let fs = Littlefs::create(&path, 1 << 20).expect("create");
    assert_eq!(fs.geometry(), Geometry::new(4096, 256).expect("a geometry"));
    fs.write("f", "x").expect("write");
    let Err(Error::Image(e)) = Littlefs::open(&path) else { panic!("the image is in use") };
    assert!(matches!(e.reason, Reason::InUse(_)), "{e}");
    fs.close().expect("close");
    let fs = Littlefs::open(&path).expect("open");
    assert_eq!(fs.read("f").expect("read"), b"x");
    assert_eq!(fs.read_only_reason(), None);
    drop(fs);

    let Err(Error::Image(e)) = Littlefs::create(&path, 1 << 20) else { panic!("exists") };
    assert!(e.to_string().contains("new.img"), "{e}");
    let missing = dir.path().join("missing.img");
    for size in [0, 4096, 5000] {
        let made = FormatOptions::new().size(size).create(&missing);
        assert!(matches!(made.err(), Some(Error::Unsupported(_))), "{size}");
    }
    assert!(matches!(FormatOptions::new().create(&missing).err(), Some(Error::Invalid(_))));
    let made = FormatOptions::new().size(1 << 20).name_max(2000).create(&missing);
    assert!(matches!(made.err(), Some(Error::Invalid(_))));
    let Err(Error::Image(e)) = Littlefs::open(&missing) else { panic!("no file was left") };
    assert!(matches!(e.reason, Reason::NotFound), "{e}");
}

#[test]
fn read_only_has_a_reason() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.img");
    Littlefs::create(&path, 1 << 18).expect("create").close().expect("close");
    let fs = OpenOptions::new().read_only(true).open(&path).expect("open");
    assert_eq!(fs.read_only_reason(), Some(ReadOnlyReason::Asked));
    assert!(matches!(fs.write("f", ""), Err(Error::ReadOnly)));
    assert!(matches!(fs.create_file("f").err(), Some(Error::ReadOnly)));
    fs.flush().expect("nothing to flush");
    drop(fs);

    let mut permissions = fs::metadata(&path).expect("metadata").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).expect("chmod");
    let fs = Littlefs::open(&path).expect("open");
    assert_eq!(fs.read_only_reason(), Some(ReadOnlyReason::WriteProtected));
    assert_eq!(fs.warnings().len(), 1, "{:?}", fs.warnings());

    let dev = device();
    let fs = FormatOptions::new().open_new(dev.clone()).expect("format");
    fs.create_dir("d").expect("create_dir");
    fs.close().expect("close");
    // The root names a pair of the directory that is not there any more.
    for block in 2..dev.geometry().block_count {
        dev.erase(block).expect("erase");
    }
    let fs = Littlefs::open_device(dev).expect("open");
    let Some(ReadOnlyReason::Damage(why)) = fs.read_only_reason() else { panic!("damaged") };
    assert!(why.contains("metadata pair"), "{why}");
    // it still tells what it is, and reading it fails
    let mut walk = fs.walk("/").expect("walk");
    let entry = walk.next().expect("an entry").expect("that can be read");
    assert!(entry.path() == b"d" && entry.metadata().is_dir());
    let damaged = walk.next().expect("an error").expect_err("damaged");
    assert_eq!(damaged.path, b"d");
    assert!(matches!(damaged.error, Error::Corrupt(_)), "{damaged}");
    assert!(walk.next().is_none());
    assert!(fs.metadata("d").expect("metadata").is_dir());
    assert!(fs.attrs("d").expect("attrs").is_empty());
    let entry = fs.read_dir("/").expect("read_dir").next().expect("an entry").expect("a name");
    assert!(entry.name() == b"d" && entry.metadata().expect("metadata").is_dir());
    let read = fs.read_dir("d").expect("read_dir").next().expect("an error");
    assert!(matches!(read.err(), Some(Error::Corrupt(_))));
    assert!(matches!(fs.metadata("d/x").err(), Some(Error::Corrupt(_))));
    assert!(matches!(fs.read("d").err(), Some(Error::IsDirectory)));
    assert_eq!(fs.usage().expect("usage").blocks_used, 2, "the blocks of the root");
}

/// Blocks in use are counted as far as they can be found, whatever prevents that the image is
/// written.
#[test]
fn blocks_are_counted_where_nothing_can_be_written() {
    let dev = device();
    let fs = FormatOptions::new().open_new(dev.clone()).expect("format");
    for name in ["a", "b", "c"] {
        fs.write(name, vec![1; 40_000]).expect("write");
    }
    fs.close().expect("close");
    let count = |dev: &Arc<RamDevice>, read_only| {
        let fs = OpenOptions::new().read_only(read_only).open_device(dev.clone()).expect("open");
        let used = fs.usage().expect("usage").blocks_used;
        (used, fs.write("d", vec![1; 9000]).is_ok())
    };
    let image = dev.image();
    assert_eq!(count(&dev, true), (2 + 3 * 10, false));
    assert_eq!(count(&dev, false), (2 + 3 * 10, true));
    // the last block of a list leads out of the image, or to a block of another list
    let head = |name: &[u8]| {
        let mut fs = Fs::open(dev.clone(), &EngineOptions::default()).expect("open");
        match fs.storage(ROOT, name).expect("storage") {
            Storage::List { head: Some(head), .. } => head,
            other => panic!("{other:?}"),
        }
    };
    let (last, of_another) = (head(b"b"), head(b"a"));
    for to in [4000, of_another] {
        let dev = Arc::new(RamDevice::from_image(dev.geometry(), image.clone()));
        let mut block = vec![0; 4096];
        dev.read(last, 0, &mut block).expect("read");
        block[..4].copy_from_slice(&to.to_le_bytes());
        dev.rewrite(last, &block).expect("rewrite");
        for read_only in [true, false] {
            let (used, written) = count(&dev, read_only);
            assert!(!written || (!read_only && to == of_another), "{to}, {read_only}");
            // a list that cannot be followed counts according to its size, and a block that two
            // lists share counts once
            let expected = if to == 4000 { 2 + 3 * 10 } else { 2 + 2 * 10 + 1 };
            assert_eq!(used, expected, "{to}, {read_only}");
        }
    }
}

/// If more is requested than the filesystem can store inline, its limit is used, and a note says
/// so.
#[test]
fn inline_max_is_at_most_what_the_filesystem_allows() {
    for (attr_max, most) in [(None, 512), (Some(100), 100)] {
        let options = FormatOptions::new().inline_max(1 << 20);
        let options = attr_max.map_or(options.clone(), |max| options.attr_max(max));
        let dev = device();
        let fs = options.open_new(dev.clone()).expect("format");
        assert_eq!(fs.limits().inline_max, most);
        let words = ["inline_max=1048576", &format!("up to {most} bytes")];
        let said = |w: &String| words.iter().all(|word| w.contains(word));
        assert!(fs.warnings().iter().any(said), "{:?}", fs.warnings());
        for size in [most, most + 1] {
            fs.write(format!("f{size}"), vec![1; size as usize]).expect("write");
        }
        fs.close().expect("close");
        assert!(littlefs::check::check(dev.clone()).expect("examined").is_clean());
        let fs = OpenOptions::new().inline_max(most).open_device(dev).expect("open");
        assert!(fs.warnings().is_empty(), "{:?}", fs.warnings());
    }
}

#[test]
fn the_block_count_need_not_be_known() {
    let small = device();
    let fs = FormatOptions::new().open_new(small.clone()).expect("format");
    fs.write("f", vec![3; 20_000]).expect("write");
    fs.close().expect("close");
    let large = Arc::new(RamDevice::new(Geometry::new(4096, 1000).expect("a geometry")));
    for block in 0..small.geometry().block_count {
        let mut bytes = vec![0; 4096];
        small.read(block, 0, &mut bytes).expect("read");
        large.rewrite(block, &bytes).expect("rewrite");
    }
    let fs = Littlefs::open_device(large).expect("open");
    assert_eq!(fs.geometry().block_count, 256);
    assert_eq!(fs.read("f").expect("read"), vec![3; 20_000]);
    assert!(matches!(fs.write("g", vec![4; 1 << 20]), Err(Error::NoSpace)));
    fs.write("g", vec![4; 50_000]).expect("write");
    fs.flush().expect("flush");
}

#[test]
fn the_offset_leads_into_a_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("flash.bin");
    fs::write(&path, vec![0x5a; 3 << 18]).expect("write");
    let file = fs::File::options().read(true).write(true).open(&path).expect("open");
    let part = FileDevice::new(file, 1 << 18, Geometry::new(4096, 64).expect("a geometry"));
    let made = FormatOptions::new().open_new(Arc::new(part)).expect("format");
    made.write("f", "x").expect("write");
    made.close().expect("close");
    let fs = OpenOptions::new().offset(1 << 18).open(&path).expect("open");
    assert_eq!(fs.read("f").expect("read"), b"x");
    drop(fs);
    let Err(Error::Image(e)) = Littlefs::open(&path) else { panic!("nothing at the start") };
    assert!(matches!(e.reason, Reason::Elsewhere(_)), "{e}");
}

#[test]
fn a_journal_takes_the_changes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (image, journal) = (dir.path().join("a.img"), dir.path().join("a.journal"));
    Littlefs::create(&image, 1 << 18).expect("create").close().expect("close");
    let before = fs::read(&image).expect("read");
    let over = || OpenOptions::new().journal(&journal);
    for content in ["one", "two"] {
        let fs = over().open(&image).expect("open");
        fs.write("f", content).expect("write");
        fs.close().expect("close");
    }
    assert_eq!(fs::read(&image).expect("read"), before);
    assert_eq!(over().open(&image).expect("open").read("f").expect("read"), b"two");
    let past = over().at(At::parse("1")).open(&image).expect("open");
    assert_eq!(past.read("f").expect("read"), b"one");
    assert_eq!(past.read_only_reason(), Some(ReadOnlyReason::PastState));
    let Err(Error::Journal(e)) = over().at(At::parse("9")).open(&image) else { panic!("no 9") };
    assert!(e.to_string().contains("a.journal"), "{e}");
    let alone = OpenOptions::new().at(At::parse("1")).open(&image);
    assert!(matches!(alone.err(), Some(Error::Invalid(_))));
}

#[test]
fn a_profile_sets_limits_and_the_way_to_write() {
    let profile = Profile::named("esp-idf").expect("esp-idf");
    let options = FormatOptions::new().profile(profile);
    let fs = options.open_new(device()).expect("format");
    let limits = fs.limits();
    assert_eq!((limits.name_max, limits.prog_size, limits.inline_max), (64, 128, 512));
    assert_eq!(fs.convention().map(|c| c.name), Some("esp-idf"));
    let fs = options.name_max(100).prog_size(16).open_new(device()).expect("format");
    assert_eq!((fs.limits().name_max, fs.limits().prog_size), (100, 16));
    assert!(FormatOptions::new().prog_size(48).open_new(device()).is_err());
}

#[test]
fn a_convention_needs_attributes_large_enough() {
    let dev = device();
    drop(FormatOptions::new().attr_max(4).open_new(dev.clone()).expect("format"));
    let unix = Choice::By(Convention::named("unix").expect("unix"));
    let asked = OpenOptions::new().convention(unix).open_device(dev.clone());
    assert!(matches!(asked.err(), Some(Error::AttrTooLarge)));
    let found = OpenOptions::new().convention(Choice::AsImage).open_device(dev).expect("open");
    assert!(found.convention().is_none());
}

#[test]
fn the_same_changes_at_a_fixed_time_give_the_same_image() {
    let build = |names: [&str; 3]| {
        let dev = device();
        let unix = Choice::By(Convention::named("unix").expect("unix"));
        FormatOptions::new().format(&*dev).expect("format");
        let options = OpenOptions::new().convention(unix).time(std::time::SystemTime::UNIX_EPOCH);
        let fs = options.open_device(dev.clone()).expect("open");
        for name in names {
            fs.write(name, name).expect("write");
        }
        fs.close().expect("close");
        let mut image = vec![0; 256 * 4096];
        dev.read(0, 0, &mut image).expect("read");
        image
    };
    assert_eq!(build(["a", "b", "c"]), build(["c", "a", "b"]));
}

#[test]
fn nothing_is_pending_in_a_new_image() {
    assert!(!empty().is_pending());
}

/// The C driver was interrupted in the middle of a rename.
#[test]
fn a_pending_move_is_told_without_being_finished() {
    let mut bytes = fs::read("tests/corpus/c-move-pending.img").expect("read");
    bytes.resize(64 << 10, 0xff);
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("i.img");
    fs::write(&path, &bytes).expect("write");

    let image = Littlefs::open(&path).expect("open");
    assert!(image.is_pending());
    let count = image.walk("/").expect("walk").filter(|entry| entry.is_ok()).count();
    image.flush().expect("nothing to flush");
    assert!(image.is_pending());
    assert!(fs::read(&path).expect("read") == bytes, "reading and asking change nothing");

    image.write("new", "").expect("write");
    image.flush().expect("flush");
    assert!(!image.is_pending(), "the first change finishes it");
    drop(image);
    let image = Littlefs::open(&path).expect("open");
    assert!(!image.is_pending());
    assert_eq!(image.walk("/").expect("walk").count(), count + 1);
}
