//! `mount -o grow`: the filesystem fills its file, device or partition.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use testkit::clfs::{CLfs, Config};
use testkit::mounted::{Mounted, littlefs, noise, output, run};

fn blocks(image: &std::path::Path) -> u64 {
    let out = run(littlefs().args(["info", "--json"]).arg(image));
    let info: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    info["block_count"].as_u64().expect("a number")
}

#[test]
fn it_fills_its_file() {
    let mut m = Mounted::new("256K");
    fs::write(m.path("before"), noise(50_000, 1)).expect("written");
    m.unmount();
    m.mount("grow");
    m.unmount();
    assert_eq!(blocks(&m.image()), 64, "there was nothing to fill");
    let file = OpenOptions::new().write(true).open(m.image()).expect("there");
    file.set_len(512 << 10).expect("a size");
    m.mount("grow");
    fs::write(m.path("after"), noise(300_000, 2)).expect("there is room");
    m.unmount();
    assert_eq!(blocks(&m.image()), 128);
    let config = Config { erased: 0, strict_erase: false, ..Config::new(4096, 128, 16) };
    let mut c = CLfs::mount(fs::read(m.image()).expect("readable"), &config).expect("C mounts");
    assert_eq!(c.read_file(b"before").expect("there"), noise(50_000, 1));
    assert_eq!(c.read_file(b"after").expect("there"), noise(300_000, 2));

    // what follows may be somebody else's
    let mut file = OpenOptions::new().write(true).open(m.image()).expect("there");
    file.seek(SeekFrom::End(0)).expect("a seek");
    file.write_all(&[0x55; 8192]).expect("written");
    let out = output(littlefs().args(["mount", "-o", "grow"]).arg(m.image()).arg(m.dir()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && said.contains("there is something after the filesystem"),
        "{said}"
    );
    let out = output(littlefs().args(["mount", "-o", "ro,grow"]).arg(m.image()).arg(m.dir()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("cannot be written"), "{said}");
    assert_eq!(blocks(&m.image()), 128);
}
