//! The changes of one file are made durable or dropped, and those of others are not touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use littlefs::bd::emu::EmuDevice;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Severity, check};
use littlefs::fs::Durability;
use littlefs::{Error, File, FileOptions, FormatOptions, Littlefs, OpenOptions};

const GEOMETRY: Geometry = Geometry { block_size: 512, block_count: 400 };

fn formatted() -> (Arc<RamDevice>, Littlefs) {
    let dev = Arc::new(RamDevice::new(GEOMETRY));
    let fs = FormatOptions::new().open_new(dev.clone()).expect("format");
    (dev, fs)
}

/// The content of the device now, as after a power loss.
fn on_disk(dev: &RamDevice) -> Littlefs {
    let copy = Arc::new(RamDevice::new(GEOMETRY));
    for block in 0..GEOMETRY.block_count {
        let mut bytes = vec![0; GEOMETRY.block_size as usize];
        dev.read(block, 0, &mut bytes).expect("read");
        copy.rewrite(block, &bytes).expect("rewrite");
    }
    let report = check(copy.clone()).expect("check");
    let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    Littlefs::open_device(copy).expect("open")
}

fn writer(fs: &Littlefs, path: &str) -> File {
    FileOptions::new().read(true).write(true).create(true).open(fs, path).expect("open")
}

fn put(file: &File, content: &[u8]) {
    file.set_len(0).expect("set_len");
    file.write_at(content, 0).expect("write_at");
}

/// Contents of every kind: empty, small enough for the directory, in blocks, in many blocks.
fn contents() -> [Vec<u8>; 4] {
    [Vec::new(), vec![1; 20], vec![2; 900], vec![3; 9000]]
}

#[test]
fn syncing_a_file_leaves_the_changes_of_others_in_memory() {
    for before in contents() {
        for after in contents() {
            let (dev, fs) = formatted();
            fs.write("other", &before).expect("write");
            fs.set_attr("other", 1, "before").expect("set_attr");
            fs.flush().expect("flush");
            let (mine, other) = (writer(&fs, "mine"), writer(&fs, "other"));
            put(&mine, b"mine");
            put(&other, &after);
            other.set_attr(1, "after").expect("set_attr");
            other.set_attr(2, "added").expect("set_attr");
            for round in 0..2 {
                mine.write_at(&[round], 0).expect("write_at");
                mine.sync_all().expect("sync_all");
                let disk = on_disk(&dev);
                assert_eq!(disk.read("mine").expect("mine"), [round, b'i', b'n', b'e']);
                assert_eq!(disk.read("other").expect("other"), before);
                assert_eq!(disk.attrs("other").expect("attrs"), [(1, b"before".to_vec())]);
                assert_eq!(fs.read("other").expect("other"), after);
                assert_eq!(fs.attr("other", 1).expect("attr"), b"after");
            }
            other.sync_all().expect("sync_all");
            let disk = on_disk(&dev);
            assert_eq!(disk.read("other").expect("other"), after);
            assert_eq!(disk.attrs("other").expect("attrs").len(), 2);
        }
    }
}

#[test]
fn a_new_file_that_is_not_synced_is_empty_on_disk() {
    let (dev, fs) = formatted();
    let (mine, other) = (writer(&fs, "mine"), writer(&fs, "other"));
    put(&mine, b"mine");
    put(&other, &[7; 5000]);
    mine.sync_all().expect("sync_all");
    assert!(on_disk(&dev).read("other").expect("other").is_empty());
    fs.flush().expect("flush");
    assert_eq!(on_disk(&dev).read("other").expect("other"), [7; 5000]);
    fs.remove_file("mine").expect("remove");
    mine.sync_all().expect("nothing to be made durable");
    assert!(on_disk(&dev).exists("mine").expect("mine"));
}

#[test]
fn discarding_restores_what_is_durable() {
    for before in contents() {
        for after in contents() {
            let (dev, fs) = formatted();
            fs.write("f", &before).expect("write");
            fs.set_attr("f", 1, "before").expect("set_attr");
            fs.flush().expect("flush");
            let used = fs.usage().expect("usage");
            let file = writer(&fs, "f");
            put(&file, &after);
            file.set_attr(1, "after").expect("set_attr");
            fs.set_attr("f", 2, "added").expect("set_attr");
            let reader = fs.open_file("f").expect("open");
            file.discard().expect("discard");
            let mut read = vec![0; before.len() + 1];
            assert_eq!(reader.read_at(&mut read, 0).expect("read_at"), before.len());
            assert_eq!(read[..before.len()], before);
            assert_eq!(fs.attrs("f").expect("attrs"), [(1, b"before".to_vec())]);
            fs.flush().expect("flush");
            assert_eq!(on_disk(&dev).read("f").expect("f"), before);
            assert_eq!(fs.usage().expect("usage"), used);
            // Nothing is left to be dropped, and the file goes on as any other.
            file.discard().expect("discard");
            put(&file, &after);
            fs.flush().expect("flush");
            file.discard().expect("discard");
            assert_eq!(on_disk(&dev).read("f").expect("f"), after);
        }
    }
    let (_, fs) = formatted();
    let file = writer(&fs, "new");
    put(&file, &[1; 3000]);
    file.discard().expect("discard");
    assert!(file.is_empty() && fs.exists("new").expect("new"));
    fs.remove_file("new").expect("remove");
    assert!(matches!(file.discard(), Err(Error::NotFound)));
}

#[test]
fn former_content_without_room_is_an_error_that_changes_nothing() {
    let (_, fs) = formatted();
    fs.write("a", vec![1; 64]).expect("write");
    fs.flush().expect("flush");
    let file = writer(&fs, "a");
    file.set_len(0).expect("set_len");
    // As much as the directory holds when no block is left for another pair; without the flush that
    // no space would ask for, which would make the change durable.
    fs.hold(true);
    let free = fs.usage().expect("usage").blocks_free as usize;
    let mut sizes = (0..free * 512).rev().step_by(512);
    sizes.find(|&size| fs.write("full", vec![0; size]).is_ok()).expect("a size that fits");
    assert_eq!(fs.usage().expect("usage").blocks_free, 0);
    let mut n = 0;
    while fs.write(format!("b{n:02}"), vec![2; 20]).is_ok() {
        n += 1;
    }
    while fs.write(format!("c{n:03}"), "").is_ok() {
        n += 1;
    }
    assert!(n > 0 && matches!(file.discard(), Err(Error::NoSpace)));
    assert!(fs.read("a").expect("a").is_empty());
    for name in ["b00", "b01", "b02"] {
        fs.remove_file(name).expect("remove");
    }
    file.discard().expect("there is room again");
    assert_eq!(fs.read("a").expect("a"), [1; 64]);
    fs.flush().expect("flush");
}

/// A small random generator, so that the tests are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The files as they are in memory, and as they are on disk.
#[derive(Default)]
struct Model {
    memory: BTreeMap<String, Vec<u8>>,
    disk: BTreeMap<String, Vec<u8>>,
}

#[test]
fn a_model_agrees_after_each_of_many_steps() {
    for seed in 1..=30 {
        let (dev, fs) = formatted();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut model = Model::default();
        let names: Vec<String> = (0..5).map(|i| format!("f{i}")).collect();
        let files: Vec<File> = names.iter().map(|name| writer(&fs, name)).collect();
        fs.flush().expect("flush");
        for name in &names {
            model.memory.insert(name.clone(), Vec::new());
            model.disk.insert(name.clone(), Vec::new());
        }
        for _ in 0..120 {
            let i = numbers.below(5) as usize;
            let (name, file) = (&names[i], &files[i]);
            let content = model.memory.get_mut(name).expect("a file");
            match numbers.below(10) {
                0..=3 => {
                    let at = numbers.below(content.len() as u64 + 200) as usize;
                    let data = vec![numbers.below(256) as u8; numbers.below(1500) as usize];
                    file.write_at(&data, at as u64).expect("write_at");
                    if !data.is_empty() {
                        content.resize(content.len().max(at + data.len()), 0);
                        content[at..at + data.len()].copy_from_slice(&data);
                    }
                }
                4 | 5 => {
                    let len = numbers.below(content.len() as u64 + 100);
                    file.set_len(len).expect("set_len");
                    content.resize(len as usize, 0);
                }
                6 => {
                    file.discard().expect("discard");
                    content.clone_from(&model.disk[name]);
                }
                7 | 8 => {
                    file.sync_all().expect("sync_all");
                    model.disk.insert(name.clone(), content.clone());
                }
                _ => {
                    fs.flush().expect("flush");
                    model.disk.clone_from(&model.memory);
                }
            }
            for (name, content) in &model.memory {
                assert_eq!(&fs.read(name).expect("read"), content, "{seed}: {name} in memory");
            }
            let disk = on_disk(&dev);
            for (name, content) in &model.disk {
                assert_eq!(&disk.read(name).expect("read"), content, "{seed}: {name} on disk");
            }
        }
        for (name, file) in names.iter().zip(files) {
            fs.remove_file(name).expect("remove");
            file.close().expect("close");
        }
        fs.flush().expect("flush");
        assert_eq!(fs.usage().expect("usage").blocks_used, 2, "{seed}: nothing is lost");
    }
}

/// A flush that happens because memory is full waits for its last writes only if it is told to.
/// What the program asks for always waits.
#[test]
fn only_early_flushes_may_leave_writes_to_a_later_one() {
    let geometry = Geometry { block_size: 512, block_count: 4000 };
    for durability in [Durability::Full, Durability::Ordered] {
        let image = vec![0xff; geometry.size() as usize];
        let dev = Arc::new(EmuDevice::recorded(geometry, image, false));
        FormatOptions::new().format(&*dev).expect("format");
        let options = OpenOptions::new().cache(256 << 10).durability(durability);
        let fs = options.open_device(dev.clone()).expect("open");
        let early = (0..4000).find(|i| {
            fs.write(i.to_string(), b"").expect("write");
            fs.flushes().done > 0
        });
        let early = early.expect("more files than fit into memory");
        assert_eq!(dev.is_ordered(), durability == Durability::Full, "after {early} files");
        fs.flush().expect("flush");
        assert!(dev.is_ordered(), "flush has to wait");
        let file = writer(&fs, "last");
        put(&file, b"content");
        file.sync_all().expect("sync");
        assert!(dev.is_ordered(), "sync_all has to wait");
        let fs = Littlefs::open_device(dev).expect("open");
        assert_eq!(fs.read_dir("/").expect("list").count(), early + 2);
    }
}
