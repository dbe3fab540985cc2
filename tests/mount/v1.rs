//! Images of version 1 are mounted read-only.

use std::fs;

use crate::common::tree::{Entry, Tree};
use crate::common::v1::{MOVED, V1};
use crate::mounted::{Mounted, littlefs, output, walk};

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
    let mut shown = walk(&m.dir());
    shown.entry(Vec::new()).or_insert_with(Entry::dir);
    crate::common::tree::diff("mounted", &shown, "stored", &tree).unwrap();
    let e = fs::write(m.path("new"), b"1").expect_err("read-only");
    assert_eq!(e.raw_os_error(), Some(libc::EROFS));
    // others may look meanwhile
    assert!(output(littlefs().arg("info").arg(m.image())).status.success());
    m.unmount();
    assert!(fs::read(m.image()).expect("readable") == image, "the image was changed");
}
