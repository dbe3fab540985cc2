//! docs/recipes.md: our command lines work on what the other tools would have read.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::generators::*;
use testkit::clfs::{CLfs, Config, V2_0};
use testkit::desk::Desk;

const RECIPES: &str = include_str!("../../docs/recipes.md");
/// Programs of other projects. Their lines are not run.
const OTHERS: [&str; 6] = ["esptool", "picotool", "mpremote", "pyocd", "openocd", "dd"];
/// The lines that are run: those of our program, and those inside a mount.
const RUN: [&str; 5] = ["littlefs", "mklittlefs", "littlefs-python", "cp", "sed"];

/// A filesystem as the C driver of a device leaves it.
fn filesystem(block_size: u32, block_count: u32, prog_size: u32) -> Vec<u8> {
    by_driver(&Config::new(block_size, block_count, prog_size))
}

fn by_driver(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format");
    c.write_file(b"config.txt", b"colour = blue\n").expect("write");
    c.mkdir(b"log").expect("mkdir");
    c.write_file(b"log/old", b"gone\n").expect("write");
    c.remove(b"log/old").expect("remove");
    c.unmount()
}

/// The directory in which the recipes start.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.dir("mnt").dir("bin").file("data/config.txt", b"colour = red\n");
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
            let make = "create -q --disk-version 1 --block-size 128 --size 28K internal.bin data";
            desk.ok(&make.split(' ').collect::<Vec<_>>());
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
        _ => (),
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
            let program = line.split(' ').next().expect("a program");
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
            let run = shell.env("PATH", path).env_remove("RUST_LOG").output().expect("sh");
            // What is mounted while a line fails would stay.
            if !run.status.success() {
                let _ = Command::new("umount").arg("-l").arg(desk.path("mnt")).output();
            }
            assert!(run.status.success(), "{title}: {line}: {run:?}");
        }
    }
    assert!(lines > 30, "{lines}");
}
