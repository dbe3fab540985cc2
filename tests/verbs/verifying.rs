//! `verify`: it finds what the C driver has written since, block by block, and nothing else.

use littlefs::bd::{Geometry, RamDevice};
use littlefs::map::{DifferenceKind as Kind, Verdict, verify};

use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

fn device(config: &Config, image: &[u8]) -> RamDevice {
    let geometry = Geometry::new(config.block_size, config.block_count).expect("possible");
    RamDevice::from_image(geometry, image.to_vec())
}

fn verdict(config: &Config, image: &[u8], dump: &[u8]) -> Verdict {
    verify(&device(config, image), &device(config, dump)).expect("a sound image")
}

/// The paths, and how they differ.
fn found(config: &Config, image: &[u8], dump: &[u8]) -> Vec<(String, Kind)> {
    let text = |path: Vec<u8>| String::from_utf8(path).expect("UTF-8");
    let all = verdict(config, image, dump).differences.into_iter();
    all.map(|difference| (text(difference.path), difference.kind)).collect()
}

fn made_by_c(config: &Config) -> CLfs {
    let mut fs = CLfs::fresh(config).expect("a filesystem");
    fs.mkdir(b"etc").expect("a directory");
    fs.write_file(b"etc/large", &[7; 9000]).expect("a file");
    fs.write_file(b"etc/small", b"small").expect("a file");
    fs.write_file(b"gone", &[8; 9000]).expect("a file");
    fs.remove(b"gone").expect("it goes");
    fs
}

/// What the traversal of the C driver does not reach can change without a difference. In what it
/// reaches, only the bytes after commits and after the ends of files can.
#[test]
fn only_bytes_in_use_count() {
    for config in [Config::new(512, 64, 16), Config::new(4096, 16, 256)] {
        let mut fs = made_by_c(&config);
        let used = fs.blocks().expect("a traversal");
        let image = fs.unmount();
        let same = verdict(&config, &image, &image);
        assert_eq!((same.blocks as usize, same.differences), (used.len(), Vec::new()));
        let size = config.block_size as usize;
        let mut dump = image.clone();
        for block in (0..config.block_count).filter(|block| !used.contains(block)) {
            dump[block as usize * size..][..size].fill(0xa5);
        }
        assert_eq!(found(&config, &image, &dump), []);
        let mut counted = 0;
        for at in (0..image.len()).step_by(7) {
            let mut dump = image.clone();
            dump[at] ^= 0x10;
            let differences = verdict(&config, &image, &dump).differences;
            let block = (at / size) as u32;
            counted += usize::from(!differences.is_empty());
            assert!(differences.is_empty() || used.contains(&block), "byte {at}");
            // the C driver reads the same of a dump that is called the same
            if differences.is_empty() && used.contains(&block) {
                let mut fs = CLfs::mount(dump, &config).expect("a filesystem");
                assert_eq!(fs.read_file(b"etc/large").expect("a file"), [7; 9000], "byte {at}");
                assert_eq!(fs.read_file(b"etc/small").expect("a file"), b"small", "byte {at}");
            }
        }
        // a list of 9000 bytes, every seventh of which was changed, and some of the metadata
        assert!(counted > 9000 / 7, "{counted}");
    }
}

#[test]
fn what_the_driver_changed_is_named_by_path() {
    let config = Config::new(512, 64, 16);
    let image = made_by_c(&config).unmount();
    let after = |change: &dyn Fn(&mut CLfs)| {
        let mut fs = CLfs::mount(image.clone(), &config).expect("a filesystem");
        change(&mut fs);
        found(&config, &image, &fs.unmount())
    };
    assert_eq!(after(&|_| {}), []);
    let is = |path: &str, kind| (path.to_owned(), kind);
    let small = after(&|fs| fs.write_file(b"etc/small", b"other").expect("a file"));
    assert_eq!(small, [is("/etc/small", Kind::Entry)]);
    let added = after(&|fs| fs.write_file(b"etc/new", b"new").expect("a file"));
    assert_eq!(added, [is("/etc/new", Kind::Added)]);
    let missing = after(&|fs| fs.remove(b"etc/large").expect("it goes"));
    assert_eq!(missing, [is("/etc/large", Kind::Missing)]);
    let deep = after(&|fs| fs.mkdir(b"var").expect("a directory"));
    assert!(deep.contains(&is("/var", Kind::Added)), "{deep:?}");
    // many changes to one file, so that its pair is compacted into the other block
    let often = after(&|fs| {
        for _ in 0..40 {
            fs.write_file(b"etc/small", b"other").expect("a file");
        }
        fs.write_file(b"etc/small", b"small").expect("a file");
    });
    assert_eq!(often, [is("/etc", Kind::Rewritten)]);
}

#[test]
fn a_flash_that_failed_is_named_by_block() {
    let config = Config::new(512, 64, 16);
    let image = made_by_c(&config).unmount();
    // nothing was flashed at all
    let nothing = verdict(&config, &image, &vec![0xff; image.len()]);
    let kinds = |kind| nothing.differences.iter().filter(move |d| d.kind == kind).count();
    assert_eq!((kinds(Kind::Lost), kinds(Kind::Content)), (2, 1), "{nothing:?}");
    // one block of a file was not
    let large = nothing.differences.iter().find(|d| d.kind == Kind::Content).expect("a file");
    assert_eq!(large.path, b"/etc/large");
    let block = large.blocks[3].block;
    let mut dump = image.clone();
    dump[block as usize * 512..][..512].fill(0xff);
    let one = verdict(&config, &image, &dump).differences;
    assert_eq!((one.len(), one[0].blocks.len(), one[0].blocks[0].block), (1, 1, block));
    assert_eq!((&*one[0].path, one[0].blocks[0].offset), (&b"/etc/large"[..], 0));
}

/// No byte is named that a truncated dump does not have.
#[test]
fn a_truncated_dump_is_said_to_end() {
    let desk = Desk::new();
    let content: Vec<u8> = (0..100_000_u32).map(|i| (i / 7) as u8 | 1).collect();
    desk.file("data/large", &content).ok(&["create", "-q", "--size", "256K", "a.img", "data"]);
    let image = desk.read("a.img");
    desk.file("cut", &image[..50_000]);
    let said = desk.fails(&["verify", "a.img", "cut"], 1, &["lacks the last 212144"]);
    let text = said.text();
    assert!(text.contains("block 0xc, in which the dump ends at byte 0xc350; block 0xd, which"));
    assert!(text.contains("block 0xd, which the dump lacks;") && !text.contains("from byte"));
    let blocks =
        &desk.run(&["verify", "--json", "a.img", "cut"]).json()["differences"][0]["blocks"];
    assert_eq!((&blocks[0]["block"], &blocks[0]["offset"]), (&12.into(), &848.into()));
    desk.file("cut", &image[..12 * 4096]);
    let said = desk.fails(&["verify", "a.img", "cut"], 1, &[]);
    assert!(said.text().contains("block 0xc, which the dump lacks;"), "{said:?}");
}

#[test]
fn the_program_compares_an_image_with_dumps_of_all_forms() {
    let desk = Desk::with_image();
    let ran = desk.ok(&["verify", "new.img", "new.img"]);
    assert!(ran.text().starts_with("same: ") && ran.text().ends_with(" used blocks\n"), "{ran:?}");
    let json = desk.ok(&["verify", "--json", "new.img", "new.img"]).json();
    assert_eq!((&json["same"], &json["differences"]), (&true.into(), &serde_json::json!([])));
    let used = desk.ok(&["info", "--json", "new.img"]).json()["blocks_used"].clone();
    assert_eq!(json["blocks_used"], used);

    // a dump of the whole flash, and one in a format with addresses that leaves out what is erased
    let image = desk.read("new.img");
    let flash = [&vec![0x5a; 0x10000][..], &image, &vec![0xff; 0x8000]].concat();
    desk.file("flash.bin", &flash);
    for place in [&[][..], &["--dump-offset", "0x10000"], &["--dump-partition", "1"]] {
        desk.ok(&[&["verify", "new.img", "flash.bin"], place].concat());
    }
    desk.ok(&["wrap", "--format", "uf2", "new.img", "new.uf2"]);
    desk.ok(&["verify", "new.img", "new.uf2"]);
    desk.ok(&["verify", "new.uf2", "flash.bin"]);
    desk.ok(&["verify", "flash.bin", "--offset", "64K", "new.uf2"]);

    // an unlucky flash: the superblock is lost, so that the place has to be said
    let mut broken = flash.clone();
    broken[0x10000..0x12000].fill(0xff);
    desk.file("broken.bin", &broken);
    let ran = desk.run(&["verify", "new.img", "broken.bin", "--dump-offset", "0x10000"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("no filesystem is found at offset=65536"), "{ran:?}");
    assert!(ran.text().contains("/: its directory cannot be read in the dump: block "), "{ran:?}");
    let app = flash.windows(64).rposition(|w| *w == [b'j'; 64]).expect("a file");
    let mut worn = flash;
    worn[app] = b'i';
    desk.file("worn.bin", &worn);
    let ran = desk.run(&["verify", "new.img", "worn.bin"]);
    let line = format!("from byte {app:#x} of the dump on\n");
    assert_eq!(ran.code, 1);
    assert!(ran.text().starts_with("/www/js/app.js: its content differs: block "), "{ran:?}");
    assert!(ran.text().ends_with(&line) && ran.text().lines().count() == 1, "{ran:?}");
    assert_eq!(desk.run(&["verify", "-q", "new.img", "worn.bin"]).text(), "");
    let json = desk.run(&["verify", "--json", "new.img", "worn.bin"]).json();
    assert_eq!(json["differences"][0]["kind"], "content");
    assert_eq!(json["differences"][0]["blocks"][0]["bytes"], 1);
    assert_eq!(json["dump_offset"], 65536);

    desk.ok(&["create", "-q", "--size", "128K", "--block-size", "2048", "other.img", "data"]);
    let ran = desk.run(&["verify", "new.img", "other.img"]);
    let said =
        "other.img: holds another filesystem: 64 blocks of 2048 bytes instead of 64 blocks of 4096";
    assert!(ran.code == 1 && ran.stderr.contains(said), "{ran:?}");

    desk.file("short.bin", &image[..0x4000]);
    assert_eq!(desk.run(&["verify", "new.img", "short.bin"]).code, 1);
    desk.file("empty", b"").file("noise", &[7; 5000]);
    desk.fails(&["verify", "noise", "new.img"], 2, &["noise: not a littlefs image"]);
    desk.fails(&["verify", "new.img", "empty"], 2, &["empty: "]);
    desk.fails(&["verify", "new.img", "none"], 2, &["none: no such file"]);
    desk.fails(&["verify", "new.img"], 2, &["<DUMP>"]);
    desk.fails(&["verify", "-", "-"], 2, &["only once"]);
    assert_eq!(desk.fed(&["verify", "new.img", "-"], &image).code, 0);
    assert_eq!(desk.fed(&["verify", "-", "flash.bin"], &image).code, 0);
    assert_eq!(desk.run(&["verify", "new.img", "noise"]).code, 1);
}

#[test]
fn diff_takes_dumps_of_all_forms() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    desk.file("flash.bin", &[&vec![0x5a; 0x10000][..], &image].concat());
    desk.ok(&["wrap", "--format", "hex", "new.img", "new.hex"]);
    desk.ok(&["diff", "flash.bin", "new.hex"]);
    desk.ok(&["diff", "--offset-a", "64K", "flash.bin", "data"]);
    desk.ok(&["diff", "--partition-b", "1", "data", "flash.bin"]);
    desk.fails(&["diff", "--offset-a", "32K", "flash.bin", "data"], 2, &["flash.bin: "]);
}
