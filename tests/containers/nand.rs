//! Dumps of NAND flash with spare bytes.

use crate::generators::*;
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

/// A filesystem with the blocks of NAND flash: 64 pages of 2048 bytes.
fn image() -> Vec<u8> {
    let mut c = CLfs::fresh(&Config::new(128 << 10, 32, 2048)).expect("format");
    c.mkdir(b"www").expect("mkdir");
    c.write_file(b"hello.txt", b"hi\n").expect("write");
    c.write_file(b"www/big.bin", &big().repeat(20)).expect("write");
    c.unmount()
}

#[test]
fn dumps_are_read_without_their_spare_bytes() {
    let desk = Desk::new();
    let image = image();
    for (page, spare) in [(2048, 64), (2048, 128), (4096, 224), (4096, 256)] {
        let dump = with_spare(&image, page, spare);
        desk.file("nand.bin", &dump);
        let option = format!("{page}+{spare}");
        for args in [&["cat", "--page", &option][..], &["cat"]] {
            let ran = desk.ok(&[args, &["nand.bin", "www/big.bin"]].concat());
            assert_eq!(ran.stdout, big().repeat(20), "{args:?}");
            let said = format!("pages of {option}");
            assert!(ran.stderr.contains(&said), "{args:?}: {}", ran.stderr);
        }
        desk.ok(&["check", "--page", &option, "nand.bin"]);
        let ran = desk.fails(&["kv", "nand.bin", "set", "a", "b"], 1, &["littlefs unwrap"]);
        assert!(ran.stderr.contains("NAND dump with spare bytes"), "{}", ran.stderr);
        let scan = desk.ok(&["scan", "--json", "nand.bin"]).json();
        assert_eq!(scan["files"][0]["page"], option);
        let command = format!("littlefs mount -o ro,page={option},offset=0x0 nand.bin DIR");
        assert_eq!(scan["files"][0]["filesystems"][0]["command"], command);
        desk.ok(&["unwrap", "--force", "nand.bin", "raw"]);
        assert!(desk.read("raw") == image, "{option}");
        assert!(desk.read("nand.bin") == dump, "it was written");
    }
}

/// The content of the spare bytes does not matter. Whatever the page is, it must be given if
/// nothing shows it.
#[test]
fn a_page_that_is_not_usual_is_given() {
    let desk = Desk::new();
    let dump: Vec<u8> = image()
        .chunks(2048)
        .enumerate()
        .flat_map(|(i, page)| [page, &[i as u8; 100]].concat())
        .collect();
    desk.file("nand.bin", &dump);
    assert_eq!(desk.ok(&["cat", "--page", "2048+100", "nand.bin", "hello.txt"]).stdout, b"hi\n");
    desk.fails(&["ls", "--page", "2048+100", "nand.bin", "none"], 1, &["none"]);
    for wrong in ["2048", "2048+0", "x+64", "0+64", "9999999+1"] {
        desk.fails(&["ls", "--page", wrong, "nand.bin"], 1, &["like 2048+64"]);
    }
    // compressed, too
    desk.file("nand.bin.gz", &compressed("gzip", &dump));
    let ran = desk.ok(&["cat", "--page", "2048+100", "nand.bin.gz", "hello.txt"]);
    assert_eq!(ran.stdout, b"hi\n");
}

#[test]
fn blocks_marked_as_bad_are_named() {
    let desk = Desk::new();
    let mut dump = with_spare(&image(), 2048, 64);
    let block = 64 * (2048 + 64);
    for bad in [20, 31] {
        dump[bad * block + 2048] = 0;
    }
    desk.file("nand.bin", &dump);
    let ran = desk.ok(&["ls", "nand.bin"]);
    assert!(ran.stderr.contains("marked these blocks as bad: 20, 31"), "{}", ran.stderr);
    let notes = desk.ok(&["scan", "--json", "nand.bin"]).json()["files"][0]["notes"].to_string();
    assert!(notes.contains("bad: 20, 31"), "{notes}");
}

/// If a tool leaves out bad blocks, the blocks behind them are in lower places.
#[test]
fn blocks_that_moved_down_are_named() {
    let desk = Desk::new();
    let block = 64 * (2048 + 64);
    let whole = with_spare(&image(), 2048, 64);
    desk.file("nand.bin", &whole);
    let at_home = desk.ok(&["ls", "--page", "2048+64", "nand.bin"]);
    assert!(!at_home.stderr.contains("the content of block"), "{}", at_home.stderr);
    let mut c = CLfs::fresh(&Config::new(128 << 10, 32, 2048)).expect("format");
    c.write_file(b"filler", &vec![7; 600_000]).expect("write");
    c.mkdir(b"www").expect("mkdir");
    c.write_file(b"www/big.bin", &big().repeat(20)).expect("write");
    c.remove(b"filler").expect("remove");
    let used = c.blocks().expect("a traversal");
    let whole = with_spare(&c.unmount(), 2048, 64);
    let free: Vec<usize> = (2..32).filter(|block| !used.contains(&(*block as u32))).collect();
    assert!(free[2] < *used.last().expect("blocks") as usize, "{free:?} {used:?}");
    for count in [1, 3] {
        let mut dump = whole.clone();
        for &left_out in free[..count].iter().rev() {
            dump.drain(left_out * block..(left_out + 1) * block);
        }
        desk.file("nand.bin", &dump);
        let ran = desk.run(&["check", "--page", "2048+64", "nand.bin"]);
        assert_ne!(ran.code, 0, "{}", ran.text());
        let said = format!("leaves out {count} blocks before it");
        assert!(ran.stderr.contains(&said), "{count}: {}", ran.stderr);
        let scan = desk.run(&["scan", "--json", "--page", "2048+64", "nand.bin"]).json();
        assert!(scan["files"][0]["notes"].to_string().contains(&said), "{scan}");
    }
}
