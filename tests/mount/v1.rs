//! Images of version 1 are mounted read-only.

use std::fs;
use std::process::Command;

use crate::status::status;
use testkit::mounted::{Mounted, littlefs, output, run, walk};
use testkit::tree::{Entry, Tree};
use testkit::v1::{MOVED, V1};

#[test]
fn an_image_of_version_1_is_mounted_read_only() {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    tree.insert(b"dir".to_vec(), Entry::dir());
    for i in 0..40_u8 {
        tree.insert(format!("dir/{i}").into(), Entry::file(vec![i; 90 * usize::from(i)]));
    }
    let mut v1 = V1::of(128, 2000, &tree);
    v1.entry("dir/7").kind |= MOVED;
    let image = v1.image();

    let mut m = Mounted::unmounted("512K");
    fs::write(m.image(), &image).expect("written");
    let out = output(littlefs().arg("mount").arg(m.image()).arg(m.dir()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let remedy = format!("'littlefs convert --from v1 {}'", m.image().display());
    assert!(said.contains(&remedy) && said.contains("read-only"), "{said}");
    m.adopt("ro");
    // the warning says why, and the line does not repeat it
    let line = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(line.ends_with(", read-only\n") && line.contains(": littlefs 1.1, "), "{line}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // everybody counts the same blocks
    let info = run(littlefs().args(["info", "--json"]).arg(m.image()));
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    let (used, free) = (&info["blocks_used"], &info["blocks_free"]);
    assert!(line.contains(&format!(" {used} used, {free} free (")), "{line} {info}");
    let status = status(&m.dir());
    for key in ["disk_version", "block_count", "blocks_used", "blocks_free"] {
        assert_eq!(status["filesystem"][key], info[key], "{key}: {status}");
    }
    assert!(status["read_only"].as_str().expect("a reason").contains("version 1"), "{status}");
    // nothing is ever written to it
    let text = run(littlefs().arg("status").arg(m.dir()));
    assert!(text.contains("\nformat ") && !text.contains("\nwriting "), "{text}");
    let df = run(Command::new("stat").args(["-f", "-c", "%b %f"]).arg(m.dir()));
    assert_eq!(df.trim(), format!("{} {free}", info["block_count"]));
    let mut shown = walk(&m.dir());
    shown.entry(Vec::new()).or_insert_with(Entry::dir);
    testkit::tree::diff("mounted", &shown, "stored", &tree).unwrap();
    let e = fs::write(m.path("new"), b"1").expect_err("read-only");
    assert_eq!(e.raw_os_error(), Some(libc::EROFS));
    // others may look meanwhile
    assert!(output(littlefs().arg("info").arg(m.image())).status.success());
    m.unmount();
    assert!(fs::read(m.image()).expect("readable") == image, "the image was changed");
}
