//! docs/recipes.md: our command lines work on what the other tools would have read, and what should
//! arrive does arrive.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::generators::*;
use testkit::clfs::{CLfs, Config, V2_0};
use testkit::desk::Desk;
use testkit::tree::{Entry, Kind, Tree};
use testkit::v1::V1;

const RECIPES: &str = include_str!("../../docs/recipes.md");
/// Programs of other projects. Their lines are not run.
const OTHERS: [&str; 9] =
    ["esptool", "picotool", "part", "where", "pyocd", "openocd", "dd", "pio", "idf.py"];
/// The lines that are run: those of our program, those inside a mount, and those that replace a
/// program by a link.
const RUN: [&str; 7] = ["littlefs", "mklittlefs", "littlefs-python", "cp", "sed", "ln", "ls"];
/// Programs that the last ones replace, below the home directory and the project.
const REPLACED: [(&str, &str); 5] = [
    ("PlatformIO", ".platformio/packages/tool-mklittlefs/mklittlefs"),
    ("Arduino IDE", ".arduino15/packages/esp32/tools/mklittlefs/4.0.2/mklittlefs"),
    ("Arduino IDE", ".arduino15/packages/esp8266/tools/mklittlefs/3.1.0/mklittlefs"),
    ("Arduino IDE", ".arduino15/packages/rp2040/tools/pqt-mklittlefs/4.1.0/mklittlefs"),
    ("ESP-IDF", "build/littlefs_py_venv/bin/littlefs-python"),
];
const BLUE: &[u8] = b"colour = blue\n";
const RED: &[u8] = b"colour = red\n";

/// A filesystem as the C driver of a device leaves it.
fn filesystem(block_size: u32, block_count: u32, prog_size: u32) -> Vec<u8> {
    by_driver(&Config::new(block_size, block_count, prog_size))
}

fn by_driver(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format");
    c.write_file(b"config.txt", BLUE).expect("write");
    c.mkdir(b"log").expect("mkdir");
    c.write_file(b"log/old", b"gone\n").expect("write");
    c.remove(b"log/old").expect("remove");
    c.unmount()
}

/// The directory in which the recipes start.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.dir("mnt").dir("bin").file("data/config.txt", RED);
    for name in ["littlefs", "mklittlefs", "littlefs-python"] {
        symlink(env!("CARGO_BIN_EXE_littlefs"), desk.path("bin").join(name)).expect("a link");
    }
    desk
}

/// The files that each section finds, as read from its device.
fn read_from_device(desk: &Desk, title: &str) {
    match title {
        title if title.starts_with("ESP32") => {
            desk.file("flash.bin", &esp32(&filesystem(4096, 64, 128)));
        }
        "ESP8266" => {
            let config = Config { disk_version: V2_0, name_max: 32, ..Config::new(8192, 253, 64) };
            desk.file("fs.bin", &by_driver(&config));
        }
        "RP2040 and RP2350" => {
            let image = filesystem(4096, 352, 256);
            let whole = flash(0x20_0000, &[(0xa_0000, &image)]);
            desk.file("flash.bin", &whole).file("flash.uf2", &uf2(&whole, 0x1000_0000));
        }
        title if title.starts_with("MicroPython") => {
            desk.file("vfs.bin", &filesystem(4096, 240, 128));
        }
        title if title.starts_with("nRF52") => {
            let tree = Tree::from([(b"config.txt".to_vec(), Entry::file(BLUE.into()))]);
            desk.file("internal.bin", &V1::of(128, 224, &tree).image());
        }
        "Zephyr" => {
            desk.file("storage.bin", &filesystem(4096, 8, 16));
        }
        "NuttX" => {
            desk.file("nuttx.bin", &filesystem(4096, 64, 256));
        }
        "A log that was deleted" => {
            desk.file("flash.bin", &esp32(&filesystem(4096, 64, 128)))
                .file("vfs.bin", &filesystem(4096, 240, 128));
        }
        _ => {
            for (_, program) in REPLACED.iter().filter(|(section, _)| *section == title) {
                desk.file(program, b"the original");
            }
        }
    }
}

/// What the C driver finds in an image: the content of its files.
fn files(image: Vec<u8>, config: &Config) -> Vec<(String, Vec<u8>)> {
    let mut c = CLfs::mount(image, config).expect("the driver mounts it");
    let mut files = Vec::new();
    for (path, entry) in c.tree(&[]).expect("the driver reads it") {
        if let Kind::File(bytes) = entry.kind {
            files.push((String::from_utf8(path).expect("UTF-8"), bytes));
        }
    }
    files
}

/// Check that the section has brought the content to where it should be.
fn arrived(desk: &Desk, title: &str) {
    let one = |colour: &[u8]| vec![("config.txt".to_string(), colour.to_vec())];
    let holds = |name: &str, config: &Config| {
        assert_eq!(files(desk.read(name), config), one(RED), "{title}: {name}");
    };
    match title {
        title if title.starts_with("ESP32") => {
            let (before, after) = (esp32(&filesystem(4096, 64, 128)), desk.read("flash.bin"));
            let (at, end) = (0x29_0000, 0x2d_0000);
            let image = after[at..end].to_vec();
            assert_eq!(files(image, &Config::new(4096, 64, 128)), one(b"colour = green\n"));
            assert!(before[..at] == after[..at] && before[end..] == after[end..], "around it");
        }
        "ESP8266" => {
            let config = Config { disk_version: V2_0, name_max: 32, ..Config::new(8192, 253, 64) };
            holds("fs.bin", &config);
        }
        "RP2040 and RP2350" => {
            let config = Config::new(4096, 352, 256);
            for name in ["flash.bin", "raw.bin"] {
                let image = desk.read(name)[0xa_0000..].to_vec();
                assert_eq!(files(image, &config), one(RED), "{name}");
            }
            desk.ok(&["unwrap", "new.uf2", "again.bin"]);
            assert_eq!(desk.read("again.bin"), desk.read("raw.bin"), "wrapped and unwrapped");
        }
        title if title.starts_with("MicroPython") => {
            holds("vfs.bin", &Config::new(4096, 240, 128));
            holds("new.bin", &Config::new(4096, 240, 128));
        }
        title if title.starts_with("nRF52") => {
            assert_eq!(desk.read("backup/config.txt"), BLUE);
            let ran = desk.ok(&["info", "internal.bin"]);
            assert!(ran.text().contains("224 blocks of 128 bytes"), "{}", ran.text());
            assert!(ran.text().contains("disk version  1.1"), "{}", ran.text());
            assert_eq!(desk.ok(&["cat", "internal.bin", "config.txt"]).stdout, RED);
        }
        "Zephyr" => holds("storage.bin", &Config::new(4096, 8, 16)),
        "NuttX" => holds("nuttx.bin", &Config::new(4096, 64, 256)),
        "A log that was deleted" => {
            for dir in ["found", "found2"] {
                let found =
                    Command::new("grep").args(["-rlx", "gone"]).arg(desk.path(dir)).output();
                assert!(!found.expect("grep").stdout.is_empty(), "{dir}: {:?}", desk.names(dir));
            }
        }
        "PlatformIO" => holds("littlefs.bin", &Config::new(4096, 352, 64)),
        "Arduino IDE" => {
            let config = Config { disk_version: V2_0, name_max: 32, ..Config::new(8192, 253, 64) };
            holds("esp8266.bin", &config);
        }
        "ESP-IDF" => holds("storage.bin", &Config { name_max: 64, ..Config::new(4096, 352, 128) }),
        title if title.starts_with("Images in CI") => {
            holds("fs.img", &Config::new(4096, 352, 128));
            let depends = String::from_utf8(desk.read("fs.d")).expect("UTF-8");
            assert!(depends.contains("data/config.txt"), "{depends}");
        }
        _ => panic!("{title}: what should arrive?"),
    }
    for (_, program) in REPLACED.iter().filter(|(section, _)| *section == title) {
        let run = Command::new(desk.path(program)).arg("--version").output().expect(program);
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("littlefs-progs"), "{program}: {run:?}");
    }
}

#[test]
fn every_command_line_of_the_recipes_works() {
    let mut lines = 0;
    for section in RECIPES.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').expect("a title");
        let desk = desk();
        read_from_device(&desk, title);
        for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
            let program = line.split([' ', '=']).next().expect("a program");
            if OTHERS.contains(&program) {
                if line.ends_with(" back.bin") {
                    // what was flashed before
                    desk.file("back.bin", &desk.read("fs.bin"));
                }
                continue;
            }
            assert!(RUN.contains(&program), "{title}: who runs {line}?");
            lines += 1;
            let path = format!("{}:/usr/bin:/bin", desk.path("bin").display());
            let mut shell = Command::new("sh");
            shell.args(["-c", line]).current_dir(desk.path("."));
            shell.env("PATH", path).env("HOME", desk.path(".")).env_remove("RUST_LOG");
            let run = shell.output().expect("sh");
            // What is mounted while a line fails would stay.
            if !run.status.success() {
                let _ = Command::new("umount").arg("-l").arg(desk.path("mnt")).output();
            }
            assert!(run.status.success(), "{title}: {line}: {run:?}");
        }
        arrived(&desk, title);
    }
    assert!(lines > 30, "{lines}");
}
