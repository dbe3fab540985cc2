//! This program reads what other tools make, and the other tools accept what it makes: esptool,
//! intelhex and uf2utils from PyPI, dfu-util and SRecord from Debian.

use std::path::Path;
use std::process::Command;

use crate::generators::*;
use testkit::desk::Desk;
use testkit::python::python_with;

const PACKAGES: [&str; 3] = ["esptool==5.6.0", "intelhex==2.3.0", "uf2utils==0.9.8"];

/// Run a program at the desk. It must succeed.
fn run(desk: &Desk, program: &Path, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).current_dir(desk.path("."));
    let output = command.output().unwrap_or_else(|e| {
        panic!("{} is needed by the tests (scripts/deps.sh): {e}", program.display())
    });
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program:?} {args:?}: {}", String::from_utf8_lossy(&said));
}

/// Check that the file is read without a warning, and holds the image at this address.
fn reads(desk: &Desk, name: &str, base: u64) {
    assert_eq!(desk.ok(&["cat", name, "www/big.bin"]).stdout, big(), "{name}");
    let report = desk.ok(&["scan", "--json", name]).json();
    let file = &report["files"][0];
    let at = file["base"].as_u64().zip(file["filesystems"][0]["offset"].as_u64());
    assert_eq!(at.map(|(base, offset)| base + offset), Some(base), "{name}: {report}");
    assert_eq!(file["notes"], serde_json::json!([]), "{name}");
}

#[test]
fn esptool() {
    let python = python_with(&PACKAGES);
    let desk = Desk::new();
    desk.file("fs.bin", &image()).file("app.bin", &[0xe9; 0x3000]);
    for format in ["uf2", "hex", "raw"] {
        for inputs in [&["0x290000", "fs.bin"][..], &["0x10000", "app.bin", "0x290000", "fs.bin"]] {
            let merge = ["-m", "esptool", "--chip", "esp32", "merge-bin", "-f", format, "-o", "m"];
            run(&desk, &python, &[&merge[..], inputs].concat());
            reads(&desk, "m", 0x29_0000);
            if format == "raw" {
                continue;
            }
            // changed and put back, it is as esptool would have made it
            desk.ok(&["unwrap", "--force", "m", "raw"]);
            desk.ok(&["put", "-q", "raw", "app.bin", "/app.bin"]);
            desk.ok(&["wrap", "--force", "--like", "m", "raw", "new"]);
            let report = desk.ok(&["scan", "--json", "raw"]).json();
            let at = report["files"][0]["filesystems"][0]["offset"].as_u64().expect("an offset");
            let fs = desk.read("raw")[at as usize..][..0x4_0000].to_vec();
            desk.file("changed.bin", &fs);
            let inputs: Vec<&str> =
                inputs.iter().map(|i| if *i == "fs.bin" { "changed.bin" } else { i }).collect();
            run(&desk, &python, &[&merge[..], &inputs].concat());
            if format == "uf2" {
                assert!(desk.read("new") == desk.read("m"), "{inputs:?}");
            } else {
                reads(&desk, "m", 0x29_0000);
            }
        }
    }
}

#[test]
fn intelhex() {
    let python = python_with(&PACKAGES);
    let desk = Desk::new();
    desk.file("fs.bin", &image());
    let script = "import sys, intelhex; i = intelhex.IntelHex(); \
                  i.loadbin('fs.bin', 0xed000); i.write_hex_file('a.hex', byte_count=32)";
    run(&desk, &python, &["-c", script]);
    reads(&desk, "a.hex", 0xed000);
    desk.ok(&["wrap", "--format", "hex", "--base", "0x100ed004", "fs.bin", "b.hex"]);
    let script = "import intelhex; i = intelhex.IntelHex('b.hex'); \
                  assert i.minaddr() == 0x100ed004; i.tobinfile('b.bin')";
    run(&desk, &python, &["-c", script]);
    assert!(desk.read("b.bin") == image());
}

#[test]
fn uf2utils() {
    let python = python_with(&PACKAGES);
    let desk = Desk::new();
    desk.file("fs.bin", &image());
    desk.ok(&[
        "wrap",
        "--format",
        "uf2",
        "--family",
        "rp2040",
        "--base",
        "0x101c0000",
        "fs.bin",
        "a",
    ]);
    let extract = python.with_file_name("uf2extract");
    run(&desk, &extract, &["--out", "b", "a"]);
    assert!(desk.read("b") == image());
    // and what was put back
    desk.ok(&["unwrap", "a", "raw"]);
    desk.ok(&["kv", "raw", "set", "new", "value"]);
    desk.ok(&["wrap", "--like", "a", "raw", "c"]);
    run(&desk, &extract, &["--out", "d", "c"]);
    assert!(desk.read("d") == desk.read("raw"));
}

#[test]
fn dfu_util() {
    let desk = Desk::new();
    desk.file("fs.bin", &image()).file("app.bin", &[1; 3001]);
    let program = Path::new("dfuse-pack");
    run(&desk, program, &["-b", "0x08000000:fs.bin", "a.dfu"]);
    reads(&desk, "a.dfu", 0x0800_0000);
    run(&desk, program, &["-b", "0x08000000:app.bin", "-b", "0x08100000:fs.bin", "b.dfu"]);
    reads(&desk, "b.dfu", 0x0810_0000);
    desk.file("c.dfu", &image());
    run(&desk, Path::new("dfu-suffix"), &["-a", "c.dfu"]);
    reads(&desk, "c.dfu", 0);
    // ours, new and put back
    desk.ok(&["wrap", "--format", "dfu", "--base", "0x08000000", "fs.bin", "d.dfu"]);
    run(&desk, Path::new("dfu-suffix"), &["-c", "d.dfu"]);
    run(&desk, program, &["-d", "d.dfu"]);
    desk.ok(&["unwrap", "b.dfu", "raw"]);
    desk.ok(&["kv", "raw", "set", "new", "value"]);
    desk.ok(&["wrap", "--like", "b.dfu", "raw", "e.dfu"]);
    run(&desk, Path::new("dfu-suffix"), &["-c", "e.dfu"]);
    run(&desk, program, &["-d", "e.dfu"]);
}

#[test]
fn srecord() {
    let desk = Desk::new();
    let program = Path::new("srec_cat");
    desk.file("fs.bin", &image());
    for (format, base) in
        [("-motorola", "0x08000000"), ("-intel", "0x08000000"), ("-motorola", "0")]
    {
        run(&desk, program, &["fs.bin", "-binary", "-offset", base, "-o", "a", format]);
        let wanted = u64::from_str_radix(base.trim_start_matches("0x"), 16).expect("hex");
        reads(&desk, "a", wanted);
    }
    for (ours, theirs) in [("srec", "-motorola"), ("hex", "-intel")] {
        desk.ok(&["wrap", "--force", "--format", ours, "--base", "0x1000", "fs.bin", "b"]);
        run(&desk, program, &["b", theirs, "-offset", "-0x1000", "-o", "c", "-binary"]);
        assert!(desk.read("c") == image(), "{ours}");
    }
    // with gaps, which are filled: its count of records is right again
    let mut raw = image();
    let split =
        ["fs.bin", "-binary", "-crop", "0", "0x8000", "0x10000", "0x40000", "-o", "a", "-motorola"];
    run(&desk, program, &split);
    desk.ok(&["unwrap", "a", "raw"]);
    raw[0x8000..0x10000].fill(7);
    desk.file("raw", &raw);
    desk.ok(&["wrap", "--like", "a", "raw", "new"]);
    run(&desk, program, &["new", "-motorola", "-o", "c", "-binary"]);
    assert!(desk.read("c") == raw);
}
