//! Containers with false information: they cause an error that says so, in bounded time and memory.

use crate::generators::*;
use testkit::desk::Desk;

fn set(mut bytes: Vec<u8>, at: usize, word: u32) -> Vec<u8> {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    bytes
}

#[test]
fn lying_lengths_are_named() {
    let desk = Desk::new();
    let image = image();
    let dfu = dfuse(&[(0, &image)]);
    let hex = |record: &[u8]| {
        [hex_record(&[16, 0, 0, 0, 1]).as_bytes(), record, &intel_hex(&image, 0)].concat()
    };
    for (what, bytes, words) in [
        (
            "UF2 with more content than fits",
            set(uf2(&image, 0), 16, 500),
            "a file in the format UF2, but it is damaged: 500 bytes of content",
        ),
        (
            "DfuSe whose element ends elsewhere",
            set(dfu.clone(), 11 + 274 + 4, u32::MAX),
            "extend beyond its end",
        ),
        ("DfuSe with more elements", set(dfu.clone(), 11 + 270, 1 << 30), "it is damaged"),
        ("DfuSe without a target", set(dfu.clone(), 11, 0), "no target starts at byte 11"),
        ("DfuSe that is cut short", dfu[..9000].to_vec(), "extend beyond its end"),
        ("a record of another length", hex(b""), "line 1: is not as long as it says"),
        ("no record", [&intel_hex(&image, 0)[..], b"hello\n"].concat(), "is not a record"),
        ("gzip that is cut short", compressed("gzip", &image)[..500].to_vec(), "breaks off"),
        ("xz that is cut short", compressed("xz", &image)[..500].to_vec(), "breaks off"),
        ("zstd that is cut short", compressed("zstd", &image)[..500].to_vec(), "breaks off"),
        (
            "gzip with another sum",
            {
                let mut bytes = compressed("gzip", &image);
                let at = bytes.len() - 6;
                bytes[at] ^= 1;
                bytes
            },
            "breaks off",
        ),
    ] {
        desk.file("f", &bytes);
        let code = desk.run(&["info", "f"]);
        assert_eq!(code.code, 1, "{what}");
        // a first record with a wrong length is no record, and the file no Intel HEX
        let is_hex = what.starts_with("a record");
        assert!(is_hex || code.stderr.contains(words), "{what}: {}", code.stderr);
    }
    let bad = [&intel_hex(&image, 0)[..100], b":10000000000102\r\n"].concat();
    let line = bad.split(|&b| b == b'\n').count();
    desk.file("f", &bad);
    desk.fails(&["info", "f"], 1, &[&format!("line {}", line - 1)]);
}

/// A wrong checksum of a DFU file is no reason to show nothing, because the content may be right.
#[test]
fn a_wrong_checksum_is_said() {
    let desk = Desk::new();
    for bytes in [dfuse(&[(0, &image())]), with_dfu_suffix(image())] {
        let mut bytes = bytes;
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        desk.file("a.dfu", &bytes);
        let ran = desk.fails(&["ls", "a.dfu"], 2, &["its checksum is wrong"]);
        assert!(ran.text().contains("www"), "{}", ran.text());
    }
}

/// Gigabytes of zeros from a few kilobytes. The user sets the limit.
#[test]
fn compression_bombs_are_stopped() {
    let desk = Desk::new();
    let zeros = vec![0; 8 << 20];
    for (program, name) in [("gzip", "a.gz"), ("xz", "a.xz"), ("zstd", "a.zst")] {
        desk.file(name, &compressed(program, &zeros));
        let words = ["larger than 1048576 bytes", "--unpack-limit"];
        desk.fails(&["ls", "--unpack-limit", "1M", name], 1, &words);
        desk.fails(&["scan", "--unpack-limit", "1M", name], 1, &words);
        desk.fails(&["ls", name], 1, &["not a littlefs image"]);
    }
    // one in the other in the other
    let mut nested = image();
    for _ in 0..6 {
        nested = compressed("gzip", &nested);
    }
    desk.file("nested.gz", &nested);
    desk.fails(&["ls", "nested.gz"], 1, &["too many formats are nested in it"]);
}

#[test]
fn a_temporary_directory_without_room_is_named() {
    let desk = Desk::new();
    desk.file("a.gz", &compressed("gzip", &image()));
    let mut command = desk.command(&["ls", "a.gz"]);
    let output = command.env("TMPDIR", desk.path("none")).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("its content cannot be kept in") && said.contains("set TMPDIR to "),
        "{said}"
    );
    // nothing of what was unpacked is left, and nothing could be found while it was there
    desk.dir("tmp");
    let mut command = desk.command(&["ls", "a.gz"]);
    assert!(command.env("TMPDIR", desk.path("tmp")).status().expect("starts").success());
    assert!(desk.names("tmp").is_empty());
}

/// As many pieces as there are bytes, addresses at both ends of 32 bits, and very many families.
#[test]
fn what_no_tool_writes_costs_no_more() {
    let desk = Desk::new();
    let far = [uf2(&image(), 0), uf2(&[1; 256], 0xffff_ff00)].concat();
    desk.file("far.uf2", &far);
    assert!(desk.ok(&["ls", "far.uf2"]).text().contains("hello.txt"));
    desk.ok(&["scan", "far.uf2"]);
    desk.ok(&["unwrap", "far.uf2", "raw"]);
    assert!(desk.read("raw") == image(), "not 4 GiB");
    let families: Vec<u8> = (0..200)
        .flat_map(|family| {
            let blocks = uf2_blocks(&[1; 256], 0).into_iter();
            joined(&blocks.map(|block| Uf2 { family, ..block }).collect::<Vec<_>>())
        })
        .collect();
    desk.file("families.uf2", &families);
    desk.fails(&["ls", "families.uf2"], 1, &["too many pieces"]);
    // tables of tables
    let entry = partition("a", (1, 0x82), 0x1000, 0x1000, 0);
    desk.file("tables.bin", &entry.repeat(20_000));
    desk.fails(&["ls", "tables.bin"], 1, &["not a littlefs image"]);
    let scan = desk.run(&["scan", "--json", "tables.bin"]).json();
    let tables = scan["files"][0]["partition_tables"].as_array().expect("a list").len();
    assert!(tables <= 16, "{tables}");
}

/// Records that overlap take no more time than others, and are compared.
#[test]
fn what_overlaps_is_read_if_it_agrees() {
    let desk = Desk::new();
    let image = image();
    let count = (image.len() - 240) as u32 / 16;
    let mut blocks: Vec<Uf2> = (0..count)
        .map(|number| {
            let at = number as usize * 16;
            let data = image[at..at + 256].to_vec();
            Uf2 { flags: 0x2000, address: at as u32, data, number, count, family: RP2040 }
        })
        .collect();
    blocks.reverse();
    let bytes = |blocks: &[Uf2]| blocks.iter().flat_map(Uf2::bytes).collect::<Vec<u8>>();
    desk.file("a.uf2", &bytes(&blocks));
    desk.ok(&["unwrap", "a.uf2", "raw"]);
    assert!(desk.read("raw") == image);
    assert_eq!(desk.ok(&["cat", "a.uf2", "www/big.bin"]).stdout, big());
    for at in [0, 100, 255] {
        let mut blocks = blocks.clone();
        blocks[700].data[at] ^= 1;
        desk.file("a.uf2", &bytes(&blocks));
        desk.fails(&["ls", "a.uf2"], 1, &["two contents for address"]);
    }
}

#[test]
fn what_holds_nothing_or_needs_too_much_memory_is_said() {
    let desk = Desk::new();
    for program in ["gzip", "xz", "zstd"] {
        desk.file("nothing", &compressed(program, b""));
        desk.fails(&["ls", "nothing"], 1, &["it has no content"]);
        desk.fails(&["scan", "nothing"], 1, &["it has no content"]);
    }
    // a window of terabytes, by its second byte
    desk.file("window.zst", b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00");
    desk.fails(&["ls", "window.zst"], 1, &["needs more than 256 MiB of memory"]);
}
