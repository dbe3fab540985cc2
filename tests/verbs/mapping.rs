//! `map`: its blocks are those that the C driver uses.

use littlefs::bd::{Geometry, RamDevice};
use littlefs::map::{Change, Class, Map};

use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

fn device(config: &Config, image: &[u8]) -> RamDevice {
    let geometry = Geometry::new(config.block_size, config.block_count).expect("possible");
    RamDevice::from_image(geometry, image.to_vec())
}

fn map_of(config: &Config, image: &[u8]) -> Map {
    Map::new(&device(config, image), config.block_count).expect("not too large")
}

#[test]
fn blocks_are_used_where_the_driver_uses_them() {
    for config in [Config::new(512, 256, 16), Config::new(4096, 64, 256)] {
        let mut fs = CLfs::fresh(&config).expect("a filesystem");
        fs.mkdir(b"etc").expect("a directory");
        fs.write_file(b"etc/large", &[7; 9000]).expect("a file");
        fs.write_file(b"gone", &[8; 9000]).expect("a file");
        fs.write_file(b"small", b"9").expect("a file");
        fs.remove(b"gone").expect("it goes");
        let used = fs.blocks().expect("a traversal");
        let image = fs.unmount();
        let map = map_of(&config, &image);
        for (at, block) in map.blocks.iter().enumerate() {
            assert_eq!(
                used.contains(&(at as u32)),
                !block.class.is_free(),
                "block {at}: {block:?}"
            );
            let bytes = &image[at * config.block_size as usize..][..config.block_size as usize];
            let erased = bytes.iter().all(|&b| b == 0xff);
            assert!(
                !block.class.is_free() || erased == (block.class == Class::Erased),
                "block {at}"
            );
        }
        let large = map.blocks.iter().filter(|b| map.owner(b) == "/etc/large").count();
        assert_eq!(large, 9000_usize.div_ceil(config.block_size as usize - 8));
        let summary = map.summary();
        assert!(!summary.damaged && summary.files == 1, "{summary:?}");
        let free = summary.free.histogram.iter().map(|extent| extent.blocks).sum::<u32>();
        assert_eq!(free as usize + used.len(), map.blocks.len());
        let runs = map.runs();
        assert_eq!(runs.iter().map(|run| run.count as usize).sum::<usize>(), map.blocks.len());
    }
}

#[test]
fn a_second_image_shows_what_changed() {
    let config = Config::new(512, 64, 16);
    let mut fs = CLfs::fresh(&config).expect("a filesystem");
    fs.write_file(b"kept", &[1; 2000]).expect("a file");
    let before = fs.image();
    fs.write_file(b"new", &[2; 1000]).expect("a file");
    let after = fs.unmount();
    let mut map = map_of(&config, &after);
    let other = map_of(&config, &before);
    map.compare(&device(&config, &after), &other, &device(&config, &before)).expect("alike");
    for (at, block) in map.blocks.iter().enumerate() {
        let range = at * 512..(at + 1) * 512;
        assert_eq!(block.change == Change::Same, before[range.clone()] == after[range], "{at}");
        if map.owner(block) == "/new" {
            assert_eq!(block.change, Change::Use);
        }
    }
}

#[test]
fn the_program_writes_text_json_and_svg() {
    let desk = Desk::with_image();
    let text = desk.ok(&["map", "new.img"]).text().to_owned();
    let (cells, legend) = text.split_once("\n\n").expect("a legend");
    assert!(cells.starts_with("       0x0 Ss") || cells.starts_with("       0x0 sS"), "{text}");
    assert!(legend.contains("file data") && legend.contains("free runs:"), "{text}");
    assert!(!text.contains('\x1b'), "no colours without a terminal: {text}");
    let json = desk.ok(&["map", "--json", "new.img"]).json();
    assert_eq!((&json["block_count"], &json["classes"]["data"]), (&64.into(), &3.into()));
    let path = |run: &serde_json::Value| run["path"] == "/www/js/app.js" && run["count"] == 3;
    assert!(json["runs"].as_array().expect("runs").iter().any(path), "{json}");
    desk.ok(&["map", "-o", "new.svg", "new.img"]);
    let svg = String::from_utf8(desk.read("new.svg")).expect("UTF-8");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("file data"));
    desk.file("data/more", &[b'm'; 5000]);
    desk.ok(&["create", "-q", "--size", "256K", "next.img", "data"]);
    let changed = desk.ok(&["map", "--json", "next.img", "new.img"]).json();
    assert!(changed["changed"].as_u64().expect("a count") >= 2, "{changed}");
    desk.fails(&["map", "gone.img"], 1, &["gone.img"]);
    // where the exit status tells of damage, the text says what it is
    let mut image = desk.read("new.img");
    let tree = desk.ok(&["inspect", "--json", "new.img", "dir", "/etc"]).json();
    for block in tree[0]["pairs"][0]["pair"].as_array().expect("a pair") {
        image[block.as_u64().expect("a block") as usize * 4096..][..4096].fill(0);
    }
    desk.file("hurt.img", &image);
    let hurt = desk.run(&["map", "hurt.img"]);
    assert!(hurt.code == 2 && hurt.text().contains("\ndamage: "), "{}", hurt.text());
    // a file that lies about its blocks: nothing is there to be mapped
    let mut image = desk.read("new.img");
    image.truncate(20480);
    desk.file("cut.img", &image);
    let cut = desk.run(&["map", "--json", "cut.img"]);
    assert_eq!(cut.json()["missing"], 59, "{}", cut.stderr);
}
