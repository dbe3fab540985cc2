//! Every command that only reads accepts every form that can be read. Every command that writes
//! refuses them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::generators::*;
use testkit::desk::Desk;

/// An image in every form, by the name of its file.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let image = image();
    let rp2040 = flash(0x20_0000, &[(0, &[7; 256]), (0x1c_0000, &image)]);
    vec![
        ("plain.uf2", uf2(&image, 0x1010_0000)),
        ("whole.uf2", uf2(&rp2040, 0x1000_0000)),
        ("plain.hex", intel_hex(&image, 0x1000_0000)),
        ("plain.srec", srec(&image, 0x0800_0000)),
        ("plain.dfu", dfuse(&[(0x0800_0000, &image)])),
        ("parts.dfu", dfuse(&[(0x1000, &image[..9000]), (0x1000 + 9000, &image[9000..])])),
        ("suffix.dfu", with_dfu_suffix(image.clone())),
        ("plain.img.gz", compressed("gzip", &image)),
        ("plain.img.xz", compressed("xz", &image)),
        ("plain.img.zst", compressed("zstd", &image)),
        (
            "twice.gz",
            [compressed("gzip", &image[..5000]), compressed("gzip", &image[5000..])].concat(),
        ),
        (
            "twice.zst",
            [compressed("zstd", &image[..5000]), compressed("zstd", &image[5000..])].concat(),
        ),
        ("plain.uf2.gz", compressed("gzip", &uf2(&image, 0x1010_0000))),
        ("esp32.bin.gz", compressed("gzip", &esp32(&image))),
        ("esp32.bin", esp32(&image)),
        ("rp2040.bin", rp2040),
    ]
}

#[test]
fn what_only_reads_reads_through() {
    let desk = Desk::new();
    desk.file("a.img", &image());
    for (name, bytes) in forms() {
        desk.file(name, &bytes);
        assert_eq!(desk.ok(&["cat", name, "hello.txt"]).stdout, b"hi\n", "{name}");
        assert_eq!(desk.ok(&["cat", name, "www/big.bin"]).stdout, big(), "{name}");
        assert_eq!(desk.ok(&["ls", "-R", name]).text().matches("big.bin").count(), 1, "{name}");
        for command in ["tree", "du"] {
            assert!(desk.ok(&[command, name]).text().contains("www"), "{command} {name}");
        }
        assert!(desk.ok(&["stat", name, "hello.txt"]).text().contains("hello.txt"), "{name}");
        assert!(desk.ok(&["check", name]).text().contains("clean"), "{name}");
        assert_eq!(desk.ok(&["kv", name, "get", "hello.txt"]).stdout, b"hi\n", "{name}");
        for args in [&["diff", "a.img"][..], &["diff", "-q"], &["verify", "a.img"], &["map"]] {
            let other: &[&str] = if args == ["diff", "-q"] { &["a.img"] } else { &[] };
            desk.ok(&[args, &[name], other].concat());
        }
        desk.ok(&["map", "a.img", name]).text();
        desk.ok(&["inspect", name, "superblock"]).text();
        let info = desk.ok(&["info", "--json", name]).json();
        assert_eq!((&info["block_count"], &info["files"]), (&64.into(), &2.into()), "{name}");
        let out = format!("out-{name}");
        desk.ok(&["extract", name, "-C", &out]);
        assert_eq!(desk.read(&format!("{out}/www/big.bin")), big(), "{name}");
        desk.ok(&["get", name, "hello.txt", &format!("{out}/again")]);
        assert!(desk.read(name) == bytes, "{name} was written");
    }
}

#[test]
fn what_wraps_an_image_is_named() {
    let desk = Desk::new();
    let image = image();
    desk.file("a.uf2.xz", &compressed("xz", &uf2(&image, 0x1010_0000)));
    let info = desk.ok(&["info", "--json", "a.uf2.xz"]).json();
    assert_eq!(info["formats"], serde_json::json!(["xz", "UF2"]));
    desk.file("esp.bin", &esp32(&image));
    let info = desk.ok(&["info", "--json", "esp.bin"]).json();
    assert_eq!((&info["offset"], &info["partition"]), (&0x29_0000.into(), &"spiffs".into()));
    assert_eq!(info["formats"], serde_json::json!([]));
}

/// A command that would write names the two commands that make it possible, and changes nothing.
#[test]
fn a_write_to_a_wrapped_file_names_the_way() {
    let desk = Desk::new();
    let image = image();
    desk.file("data", b"x");
    for (name, bytes, back) in [
        ("a.uf2", uf2(&image, 0x1010_0000), true),
        ("a.hex", intel_hex(&image, 0), true),
        ("a.srec", srec(&image, 0), true),
        ("a.dfu", dfuse(&[(0, &image)]), true),
        ("a.gz", compressed("gzip", &image), false),
        ("a.xz", compressed("xz", &image), false),
        ("a.zst", compressed("zstd", &image), false),
        ("suffix.dfu", with_dfu_suffix(image.clone()), false),
    ] {
        desk.file(name, &bytes);
        let unwrap = format!("'littlefs unwrap {name} RAW'");
        let wrap = format!("'littlefs wrap --like {name} RAW NEW'");
        let words = if back { vec![&unwrap[..], &wrap[..]] } else { vec![&unwrap[..]] };
        for args in [
            &["put", name, "data", "/data"][..],
            &["kv", name, "set", "a", "b"],
            &["create", "--into", name, "data"],
            &["kv", "--journal", "j", name, "set", "a", "b"],
            &["run", name, "--", "true"],
        ] {
            let ran = desk.run(args);
            assert_ne!(ran.code, 0, "{args:?}");
            for word in &words {
                assert!(ran.stderr.contains(word), "{args:?}: no {word:?} in {}", ran.stderr);
            }
        }
        assert!(desk.read(name) == bytes, "{name} was written");
        assert!(!desk.path("j").exists(), "a journal was left");
    }
}

/// Damage inside is reported, and not repaired.
#[test]
fn repairs_of_a_wrapped_file_are_refused() {
    let desk = Desk::new();
    let mut damaged = include_bytes!("../corpus/half-orphan.img").to_vec();
    damaged.resize(64 << 10, 0xff);
    let bytes = compressed("gzip", &damaged);
    desk.file("a.gz", &bytes);
    let ran = desk.fails(&["check", "-n", "a.gz"], 4, &[]);
    assert!(ran.text().contains("[half-orphan]"), "{}", ran.text());
    desk.fails(&["check", "-y", "a.gz"], 8, &["littlefs unwrap a.gz RAW"]);
    assert!(desk.read("a.gz") == bytes);
}

/// Formats that are recognised and cannot be read. Nothing in them is taken for a filesystem.
#[test]
fn what_is_not_read_through_is_named() {
    let desk = Desk::new();
    let image = image();
    let stored = |magic: &[u8]| [magic, &[0; 30], &image].concat();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend(&image);
    for (name, bytes, remedy) in [
        ("bzip2", stored(b"BZh91AY&SY"), "bzip2 -d"),
        ("lz4", stored(b"\x04\x22\x4d\x18"), "lz4 -d"),
        ("zip", stored(b"PK\x03\x04"), "unzip"),
        ("7-Zip", stored(b"7z\xbc\xaf\x27\x1c"), "7z x"),
        ("ELF", stored(b"\x7fELF"), "objcopy -O binary"),
        ("qcow2", stored(b"QFI\xfb"), "qemu-img convert"),
        ("tar", tar, "tar -x"),
    ] {
        desk.file("f", &bytes);
        for args in [&["ls", "f"][..], &["ls", "--offset", "40", "f"], &["scan", "f"]] {
            let ran = desk.fails(args, 1, &[&format!("in the format {name}"), remedy]);
            assert!(!ran.stderr.contains("offset="), "{name}: {}", ran.stderr);
        }
    }
}

/// A dump with rows that are missing is damaged: only `*` stands for rows that are left out.
#[test]
fn missing_lines_of_dumps_are_damage() {
    let desk = Desk::new();
    desk.file("image", &image());
    let dump = |program: &str, options: &[&str]| {
        let output = Command::new(program).args(options).arg(desk.path("image")).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
        String::from_utf8(output.stdout).expect("text")
    };
    let bytes = image();
    let rows = |show: fn(usize, &[u8]) -> String| -> Vec<String> {
        bytes.chunks(16).enumerate().map(|(i, row)| show(i * 16, row)).collect()
    };
    let xxd = rows(|at, row| {
        let words = row.chunks(2).map(|w| format!(" {:02x}{:02x}", w[0], w[1]));
        format!("{at:08x}:{}  ......\n", words.collect::<String>())
    });
    let columns = rows(|at, row| {
        let hex: String = row.iter().map(|b| format!(" {b:02x}")).collect();
        format!("{at:08x} {hex}  |......|\n")
    });
    let lines = |text: String| text.lines().map(|l| format!("{l}\n")).collect::<Vec<_>>();
    for (name, all) in [
        ("xxd", xxd),
        ("columns", columns),
        ("od", lines(dump("od", &["-v"]))),
        ("od -x", lines(dump("od", &["-v", "-A", "x", "-t", "x1z"]))),
    ] {
        desk.file("whole", all.concat().as_bytes());
        assert_eq!(desk.ok(&["cat", "whole", "www/big.bin"]).stdout, big(), "{name}");
        // erased rows at the end of the filesystem
        let at = all.len() - 100;
        let cut = [&all[..at - 10], &all[at..at + 20], &all[at + 21..]];
        desk.file("cut", cut.map(<[String]>::concat).concat().as_bytes());
        let address = format!("{:#x}", at * 16);
        let told = format!(
            "lines are missing before address {address} and at 1 more place, and read as erased"
        );
        let ran = desk.fails(&["cat", "cut", "www/big.bin"], 2, &[&told]);
        assert_eq!(ran.stdout, big(), "{name}");
        let found = desk.fails(&["check", "cut"], 4, &[&told]).text().to_owned();
        assert!(found.contains("[container-damaged]"), "{name}: {found}");
        desk.fails(&["clone", "cut", "clone.img"], 1, &[&told]);
        assert!(!desk.path("clone.img").exists(), "{name}");
        // an address after zero rows is where the dump begins
        desk.file("late", all[16..].concat().as_bytes());
        let said = desk.run(&["ls", "late"]).stderr;
        assert!(!said.contains("lines are missing"), "{name}: {said}");
    }
}

/// The rows of a dump. Unless `all` is true, `*` is in place of rows that repeat.
fn rows(image: &[u8], row: fn(usize, &[u8]) -> String, all: bool) -> String {
    let (mut text, mut last, mut starred) = (String::new(), &[][..], false);
    for (i, bytes) in image.chunks(16).enumerate() {
        let same = !all && bytes == last;
        if !same {
            text += &row(i * 16, bytes);
        } else if !starred {
            text += "*\n";
        }
        (starred, last) = (same, bytes);
    }
    text
}

/// A row as xxd prints it.
fn xxd(at: usize, row: &[u8]) -> String {
    let words = row.chunks(2).map(|w| format!(" {:02x}{:02x}", w[0], w[1]));
    format!("{at:08x}:{}  ...: ab.  ......\n", words.collect::<String>())
}

/// Text that shows bytes, with all rows, or with `*` in place of rows that repeat.
#[test]
fn dumps_in_text_are_read_through() {
    let desk = Desk::new();
    let image = image();
    let columns = |at: usize, row: &[u8]| {
        let hex = |half: &[u8]| half.iter().map(|b| format!(" {b:02x}")).collect::<String>();
        format!("{at:08x} {} {}  |........::  ....|\n", hex(&row[..8]), hex(&row[8..]))
    };
    let plain =
        |_: usize, row: &[u8]| row.iter().map(|b| format!("{b:02X}")).collect::<String>() + "\n";
    let end = format!("{:08x}\n", image.len());
    for (name, text) in [
        ("columns", rows(&image, columns, true) + &end),
        ("columns-short", rows(&image, columns, false) + &end),
        ("xxd", rows(&image, xxd, true)),
        ("xxd-short", rows(&image, xxd, false).trim_end_matches("*\n").to_owned()),
        ("plain", rows(&image, plain, true)),
    ] {
        desk.file(name, text.as_bytes());
        assert_eq!(desk.ok(&["cat", name, "www/big.bin"]).stdout, big(), "{name}");
        desk.ok(&["unwrap", "--force", name, "raw"]);
        let raw = desk.read("raw");
        assert!(raw == image[..raw.len()], "{name}");
        assert!(name == "xxd-short" || raw.len() == image.len(), "{name}: {}", raw.len());
        desk.fails(&["kv", name, "set", "a", "b"], 1, &["littlefs unwrap"]);
    }
}

/// Text that shows words, as hexdump and od print it.
#[test]
fn dumps_of_words_are_read_through() {
    let desk = Desk::new();
    let image = image();
    let words = |at: usize, row: &[u8]| {
        let words = row.chunks(2).map(|w| format!(" {:02x}{:02x}", w[1], w[0]));
        format!("{at:07x}{}\n", words.collect::<String>())
    };
    desk.file(
        "hexdump",
        (rows(&image, words, false) + &format!("{:07x}\n", image.len())).as_bytes(),
    );
    let od: [&[&str]; 7] = [
        &[],
        &["-v"],
        &["-x"],
        &["-A", "x", "-t", "x1z"],
        &["-t", "o1"],
        &["-t", "x8", "-v"],
        &["-A", "n", "-t", "x1", "-v"],
    ];
    desk.file("odd", &[&image[..], b"end"].concat());
    for (i, options) in od.iter().enumerate() {
        let output = Command::new("od").args(*options).arg(desk.path("odd")).output();
        desk.file(&format!("od{i}"), &output.expect("od, which is part of coreutils").stdout);
        desk.ok(&["unwrap", "--force", &format!("od{i}"), "raw"]);
        let raw = desk.read("raw");
        assert!(raw == desk.read("odd"), "od {options:?}: {}", raw.len());
    }
    for name in ["hexdump", "od0", "od6"] {
        assert_eq!(desk.ok(&["cat", name, "www/big.bin"]).stdout, big(), "{name}");
        desk.fails(&["kv", name, "set", "a", "b"], 1, &["littlefs unwrap"]);
    }
}

#[test]
fn text_that_is_no_dump_is_refused() {
    let desk = Desk::new();
    desk.file("broken", (rows(&image(), xxd, true) + "zz\n").as_bytes());
    desk.fails(&["ls", "broken"], 1, &["line 16385: is not a row of a dump"]);
    // prose and numbers are none
    for text in [
        "deadbeef: this is a note\n",
        "12345678\n",
        "0000: \n",
        "1 2 3\n4 5 6\n",
        "20261126 1234 4321\n20261127 1234 1\n",
        "000000 zz\n000001 zz\n",
        "12 34\n",
    ] {
        desk.file("notes.txt", text.repeat(40).as_bytes());
        desk.fails(&["ls", "notes.txt"], 1, &["not a littlefs image"]);
    }
}

/// Images and dumps whose first bytes happen to be those of a format.
#[test]
fn what_only_begins_like_a_format_is_an_image() {
    let desk = Desk::new();
    let image = image();
    for start in [&b"UF2\n"[..], b"\x1f\x8b\x08\0", b"\x7fELF", b"PK\x03\x04", b":100", b"S104"] {
        // the first four bytes are the revision of block 0
        let mut image = image.clone();
        image[..4].copy_from_slice(&start[..4]);
        desk.file("a.img", &image).ok(&["ls", "a.img"]);
    }
    for start in [&b":not a record\n"[..], b"S9", b"UF2\n\x57\x51\x5d\x9e", b"\x1f\x8b\x07"] {
        let mut dump = start.to_vec();
        dump.resize(4096, 0);
        desk.file("a.bin", &[dump, image.clone()].concat());
        assert!(desk.ok(&["ls", "a.bin"]).stderr.contains("starts at offset=4096"));
    }
}

/// A small filesystem in memory. It ends with the test.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path) -> Self {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=12k", "littlefs-test"]).arg(at);
        assert!(command.status().expect("mount").success(), "a tmpfs can be mounted, as root");
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0).status();
        assert!(std::thread::panicking() || status.expect("umount").success());
    }
}

/// If there is no space for unpacking, for a pipe, or for trying a change, the error names the
/// directory and says what to do.
#[test]
fn no_room_for_temporary_files_is_told() {
    let desk = Desk::new();
    desk.dir("tmp").file("a.img", &image()).file("big", &vec![7; 200_000]);
    // what is read where it stands needs no room
    let in_place = ["suffix.dfu", "esp32.bin", "rp2040.bin"];
    let forms: Vec<_> = forms().into_iter().filter(|(name, _)| !in_place.contains(name)).collect();
    for (name, bytes) in &forms {
        desk.file(name, bytes);
    }
    let tmp = desk.path("tmp");
    let _mount = Tmpfs::mount(&tmp);
    let run = |args: &[&str], input: Stdio, dir: &Path| {
        let output = desk.command(args).env("TMPDIR", dir).stdin(input).output();
        let output = output.expect("the program should start");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let before = desk.read("a.img");
    for (name, _) in forms {
        let (code, said) = run(&["ls", name], Stdio::null(), &tmp);
        assert_eq!(code, Some(1), "{name}: {said}");
        let words = ["no space left on device", "set TMPDIR to a directory with room", name];
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    let pipe = || {
        let mut cat = Command::new("cat").arg(desk.path("a.img")).stdout(Stdio::piped()).spawn();
        Stdio::from(cat.as_mut().expect("cat").stdout.take().expect("a pipe"))
    };
    for args in [&["ls", "-"][..], &["put", "--dry-run", "a.img", "big", "/"]] {
        let (code, said) = run(args, pipe(), &tmp);
        assert_ne!(code, Some(0), "{args:?}: {said}");
        assert!(said.contains("set TMPDIR to a directory with room"), "{args:?}: {said}");
    }
    let (code, said) = run(&["ls", "-"], pipe(), Path::new("/does/not/exist"));
    assert!(code == Some(1) && said.contains("set TMPDIR to another directory"), "{said}");
    let (code, said) = run(&["ls", "--unpack-limit", "1000", "-"], pipe(), Path::new("/tmp"));
    assert!(code == Some(1) && said.contains("is longer than 1000 bytes"), "{said}");
    assert!(desk.read("a.img") == before, "it was written");
}
