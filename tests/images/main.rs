//! Images as devices write them. They are read byte for byte as the C driver reads them, changed,
//! and read back by the C driver.
//!
//! The images are made here by the C driver, configured as on well-known devices.
//! `LITTLEFS_EXTRA_IMAGES` may name a directory with more images (`*.img`, `*.bin`).

use std::path::Path;

use littlefs::bd::Geometry;
use littlefs::error::Error;
use littlefs::fs::{OpenOptions, ROOT};
use testkit::calls::{Call, Model, Subject};
use testkit::clfs::{CLfs, Config, V2_0, V2_1};
use testkit::ours::Ours;
use testkit::tree::{Attrs, Tree, diff, join, show};

/// The types of attributes that these images use.
const ATTR_TYPES: [u8; 3] = [0x00, 0x74, 0xff];

/// The driver as it is built for a device.
fn profiles() -> Vec<(&'static str, Config)> {
    let esp8266 = Config::new(8192, 125, 64);
    let esp_idf = Config::new(4096, 96, 128);
    let rp2 = Config::new(4096, 64, 256);
    let zephyr = Config::new(4096, 96, 16);
    let fuse = Config::new(512, 400, 512);
    let nanoframework = Config::new(4096, 200, 256);
    let esp32 = Config::new(4096, 96, 32);
    let arduino_pico = Config::new(4096, 64, 256);
    let ardupilot = Config::new(65536, 64, 256);
    vec![
        (
            "ESP8266 Arduino core",
            Config { disk_version: V2_0, name_max: 31, block_cycles: 16, ..esp8266 },
        ),
        (
            "ESP-IDF component",
            Config {
                read_size: 128,
                cache_size: 512,
                lookahead_size: 128,
                block_cycles: 512,
                ..esp_idf
            },
        ),
        (
            "MicroPython on RP2",
            Config {
                disk_version: V2_0,
                read_size: 256,
                cache_size: 1024,
                block_cycles: 100,
                ..rp2
            },
        ),
        (
            "Zephyr",
            Config {
                read_size: 16,
                cache_size: 64,
                lookahead_size: 32,
                block_cycles: 512,
                ..zephyr
            },
        ),
        ("littlefs-fuse", Config { read_size: 512, cache_size: 512, lookahead_size: 8192, ..fuse }),
        (
            "nanoFramework",
            Config { attr_max: 4, inline_max: u32::MAX, block_cycles: 100, ..nanoframework },
        ),
        (
            "MicroPython on ESP32",
            Config {
                disk_version: V2_0,
                read_size: 32,
                cache_size: 128,
                lookahead_size: 32,
                block_cycles: 100,
                ..esp32
            },
        ),
        ("arduino-pico", Config { read_size: 256, block_cycles: 16, ..arduino_pico }),
        (
            "ArduPilot on NOR flash",
            Config { metadata_max: 4096, read_size: 256, block_cycles: 75_000, ..ardupilot },
        ),
        ("mklittlefs", Config { erased: 0, strict_erase: false, ..Config::new(4096, 64, 256) }),
    ]
}

/// How many bytes of an attribute the driver reads.
fn attr_len(config: &Config, len: u32) -> u32 {
    if config.attr_max == 0 { len } else { len.min(config.attr_max) }
}

fn geometry(config: &Config) -> Geometry {
    Geometry::new(config.block_size, config.block_count).expect("a possible geometry")
}

/// What a device holds after some use: directories, inline files, files that end near a block
/// boundary, attributes, and the traces of changes and removals.
fn used_image(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format and mount");
    let block = config.block_size;
    for dir in ["www", "www/css", "www/js", "lib", "lib/deep", "lib/deep/er", "log", "empty"] {
        c.mkdir(dir.as_bytes()).expect("mkdir");
    }
    let sizes = [0, 1, 63, 64, 65, block / 8, block / 8 + 1, block - 1, block, block + 1];
    let more = [2 * block - 4, 2 * block - 3, 3 * block, 5 * block + 7];
    for (i, &size) in sizes.iter().chain(&more).enumerate() {
        let path = format!("www/js/{size}.js");
        let bytes = testkit::calls::pattern(i as u8 + 1, size);
        c.write_file(path.as_bytes(), &bytes).expect("write");
    }
    for i in 0..40u32 {
        let path = format!("log/{i:03}.txt");
        c.write_file(path.as_bytes(), format!("line {i}\n").as_bytes()).expect("write");
        c.setattr(path.as_bytes(), 0x74, &i.to_le_bytes()).expect("setattr");
    }
    for i in (0..40).step_by(3) {
        c.remove(format!("log/{i:03}.txt").as_bytes()).expect("remove");
    }
    for i in 0..200u32 {
        c.append(b"log/001.txt", &[b'0' + (i % 10) as u8; 9]).expect("append");
    }
    c.rename(b"log/002.txt", b"lib/deep/er/moved.txt").expect("rename a file");
    c.rename(b"www/css", b"lib/css").expect("rename a directory");
    c.write_at(format!("www/js/{}.js", 3 * block).as_bytes(), block, b"patched").expect("patch");
    c.truncate(format!("www/js/{block}.js").as_bytes(), 10).expect("truncate");
    c.setattr(b"", 0x00, b"root").expect("setattr of the root");
    let long = vec![7; attr_len(config, 40) as usize];
    c.setattr(b"lib/deep", 0xff, &long).expect("setattr of a directory");
    c.remove(b"empty").expect("rmdir");
    c.write_file(b"\xc3\xa4 b.bin", b"\xff\xff\xff\xff").expect("write");
    c.unmount()
}

fn open(config: &Config, image: Vec<u8>, read_only: bool) -> Ours {
    // who never inlines a file cannot change one that is, either
    let inline_max = (config.inline_max == u32::MAX).then_some(0);
    let options = OpenOptions { read_only, inline_max, ..OpenOptions::default() };
    Ours::open(geometry(config), image, &options).expect("open")
}

/// What C reads after it has finished what was interrupted. Before that, its own listings miss the
/// entry after a half-moved one.
fn c_tree(config: &Config, image: &[u8]) -> Tree {
    let mut c = CLfs::mount(image.to_vec(), config).expect("C mounts");
    c.mkconsistent().expect("mkconsistent");
    c.tree(&ATTR_TYPES).expect("C reads")
}

/// The tree without attributes whose types C was not asked for.
fn known_attrs(mut tree: Tree) -> Tree {
    for entry in tree.values_mut() {
        let attrs = std::mem::take(&mut entry.attrs);
        entry.attrs =
            attrs.into_iter().filter(|(ty, _)| ATTR_TYPES.contains(ty)).collect::<Attrs>();
    }
    tree
}

/// This library reads what C reads, and changes nothing.
fn check_reading(name: &str, config: &Config, image: &[u8]) -> Tree {
    let want = c_tree(config, image);
    for read_only in [true, false] {
        let mut ours = open(config, image.to_vec(), read_only);
        let tree = known_attrs(ours.tree().expect("we read"));
        diff("C", &want, "ours", &tree).unwrap_or_else(|lines| panic!("{name}:\n{lines}"));
        assert_eq!(ours.fs.is_read_only(), read_only, "{name}");
        assert_eq!(ours.image(), image, "{name}: reading changed the image");
        if read_only {
            assert!(matches!(ours.fs.mkdir(ROOT, b"new"), Err(Error::ReadOnly)), "{name}");
        }
    }
    want
}

/// Changes of many kinds, for a tree of any shape.
fn edits(tree: &Tree, config: &Config) -> Vec<Call> {
    let block_size = config.block_size;
    let attr = |len| attr_len(config, len);
    let paths = |dirs| {
        tree.iter()
            .filter(move |(p, e)| e.is_dir() == dirs && !p.is_empty())
            .map(|(p, _)| p.clone())
    };
    let mut calls = vec![
        Call::Mkdir(b"new".to_vec()),
        Call::Create(b"new/inline".to_vec()),
        Call::Write { path: b"new/inline".to_vec(), off: 0, len: 30, seed: 9 },
        Call::Create(b"new/large".to_vec()),
        Call::Write { path: b"new/large".to_vec(), off: 0, len: 3 * block_size, seed: 10 },
        Call::SetAttr { path: b"new".to_vec(), ty: 0x74, len: attr(8), seed: 3 },
        Call::SetAttr { path: Vec::new(), ty: 0x74, len: attr(8), seed: 4 },
    ];
    for (i, path) in paths(false).enumerate() {
        let name = format!("moved{i}").into_bytes();
        calls.push(match i % 7 {
            0 => Call::Write { path, off: 5, len: 20, seed: i as u8 },
            1 => Call::Unlink(path),
            2 => Call::Rename { from: path, to: join(b"new", &name), no_replace: true },
            3 => Call::Truncate { path, size: 3 },
            4 => Call::SetAttr { path, ty: 0xff, len: attr(12), seed: i as u8 },
            5 => Call::Write { path, off: 700, len: block_size + 1, seed: i as u8 },
            _ => continue,
        });
    }
    if let Some(from) = paths(true).next() {
        calls.push(Call::Rename { from, to: b"new/tree".to_vec(), no_replace: true });
    }
    calls
}

/// This library changes the image. C reads the result, changes it in turn, and this library reads
/// that.
fn check_editing(name: &str, config: &Config, image: &[u8], tree: &Tree) {
    let mut ours = open(config, image.to_vec(), false);
    let name_max = ours.fs.superblock().name_max as usize;
    let mut model = Model::from_tree(known_attrs(tree.clone()), name_max);
    for (i, call) in edits(tree, config).iter().enumerate() {
        ours.apply(call).unwrap_or_else(|e| panic!("{name}: {call:?}: {e:?}"));
        model.apply(call).unwrap_or_else(|e| panic!("{name}: {call:?} in the model: {e:?}"));
        if i % 10 == 9 {
            ours.fs.flush().expect("flush");
        }
    }
    ours.fs.flush().expect("flush");

    let image = ours.image();
    let mut c = CLfs::mount(image.clone(), config).expect("C mounts what we wrote");
    let tree = c.tree(&ATTR_TYPES).expect("C reads what we wrote");
    diff("model", model.tree(), "C", &tree).unwrap_or_else(|lines| panic!("{name}:\n{lines}"));
    let used = c.fs_size().expect("size");
    assert_eq!(ours.fs.usage().expect("usage").blocks_used, used, "{name}: blocks used");
    c.mkconsistent().expect("mkconsistent");
    assert_eq!(c.image(), image, "{name}: C found something to repair");

    // The device goes on with the same metadata pairs: this is where wrongly erased space shows.
    for i in 0..30u8 {
        c.write_file(format!("new/device{}", i % 4).as_bytes(), &[i; 50]).expect("C writes");
        c.append(b"new/inline", &[i; 3]).expect("C appends");
    }
    c.rename(b"new/device0", b"device").expect("C renames");
    check_reading(name, config, &c.unmount());
}

#[test]
fn images_of_known_devices() {
    for (name, config) in profiles() {
        let image = used_image(&config);
        let tree = check_reading(name, &config, &image);
        check_editing(name, &config, &image, &tree);
    }
}

/// The power fails at any moment on a device. Opened read-only, this library sees what C sees, and
/// writes nothing. Opened for writing, it finishes what the device has begun before its own first
/// write.
#[test]
fn images_of_interrupted_devices() {
    type Step = fn(&mut CLfs) -> testkit::clfs::CResult<()>;
    let steps: [(&str, Step); 6] = [
        ("rename across directories", |c| c.rename(b"a/file", b"b/moved")),
        ("rename of a directory", |c| c.rename(b"a/sub", b"b/sub")),
        ("rename over an empty directory", |c| c.rename(b"a/sub", b"b/empty")),
        ("mkdir", |c| c.mkdir(b"a/new")),
        ("rmdir", |c| c.remove(b"b/empty")),
        ("write", |c| c.write_file(b"b/other", &[5; 1500])),
    ];
    for disk_version in [V2_0, V2_1] {
        let config = Config { disk_version, ..Config::new(512, 64, 16) };
        let mut c = CLfs::fresh(&config).expect("format and mount");
        for dir in ["a", "b", "a/sub", "b/empty"] {
            c.mkdir(dir.as_bytes()).expect("mkdir");
        }
        for file in ["a/file", "a/sub/file", "b/other"] {
            c.write_file(file.as_bytes(), &[1; 700]).expect("write");
        }
        let before = c.unmount();
        for (what, step) in steps {
            for writes in 0.. {
                let mut c = CLfs::mount(before.clone(), &config).expect("mount");
                c.cut_power_after(writes);
                let finished = step(&mut c).is_ok();
                let name = format!("{what}, power cut after {writes} writes");
                check_interrupted(&name, &config, &c.unmount());
                if finished {
                    break;
                }
            }
        }
    }
}

fn check_interrupted(name: &str, config: &Config, image: &[u8]) {
    let want = check_reading(name, config, image);
    let mut ours = open(config, image.to_vec(), false);
    let call = Call::Create(b"first write".to_vec());
    ours.apply(&call).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    ours.fs.flush().expect("flush");
    let mut model = Model::from_tree(want, 255);
    model.apply(&call).expect("the name is free");

    let image = ours.image();
    let mut c = CLfs::mount(image.clone(), config).expect("C mounts what we repaired");
    let tree = c.tree(&ATTR_TYPES).expect("C reads what we repaired");
    diff("model", model.tree(), "C", &tree).unwrap_or_else(|lines| panic!("{name}:\n{lines}"));
    assert_eq!(
        ours.fs.usage().expect("usage").blocks_used,
        c.fs_size().expect("size"),
        "{name}: blocks used"
    );
    c.mkconsistent().expect("mkconsistent");
    assert_eq!(c.image(), image, "{name}: C found something left to repair");
}

/// Images from elsewhere. Their geometry is in the superblock.
#[test]
fn extra_images() {
    let Some(dir) = std::env::var_os("LITTLEFS_EXTRA_IMAGES") else { return };
    for entry in std::fs::read_dir(dir).expect("LITTLEFS_EXTRA_IMAGES is a directory") {
        let path = entry.expect("directory entry").path();
        if path.extension().is_some_and(|ext| ext == "img" || ext == "bin") {
            check_extra_image(&path);
        }
    }
}

fn check_extra_image(path: &Path) {
    let name = path.display().to_string();
    let image = std::fs::read(path).expect("readable image");
    let Some(config) = config_of(&image) else {
        eprintln!("{name}: skipped: no superblock at its start");
        return;
    };
    let readable = CLfs::mount(image.clone(), &config).and_then(|mut c| c.tree(&ATTR_TYPES));
    let tree = match readable {
        Ok(tree) => tree,
        Err(e) => {
            eprintln!("{name}: skipped: {e}");
            return;
        }
    };
    eprintln!("{name}: {} entries, {}", tree.len(), show(tree.keys().last().expect("the root")));
    check_reading(&name, &config, &image);
    check_editing(&name, &config, &image, &tree);
}

/// A driver for the image, from the compacted superblock at the start of block 0 (SPEC: 0x0ff and
/// 0x201 tags). Erased bytes of images from elsewhere may have any value.
fn config_of(image: &[u8]) -> Option<Config> {
    if image.get(8..16)? != b"littlefs" {
        return None;
    }
    let word = |i: usize| Some(u32::from_le_bytes(image.get(i..i + 4)?.try_into().ok()?));
    let (version, block_size, block_count) = (word(20)?, word(24)?, word(28)?);
    let config = Config::new(block_size, block_count, 1);
    Some(Config { disk_version: version, cache_size: block_size, strict_erase: false, ..config })
}
