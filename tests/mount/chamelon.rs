//! Images of chamelon are mounted read-only, with their times.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use testkit::chamelon::{manifest, sha1, written};
use testkit::mounted::{Mounted, as_root, c_tree, littlefs, output, walk};
use testkit::tree::Kind;

fn refusal(command: &mut Command) -> String {
    let out = output(command);
    assert!(!out.status.success(), "{command:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn what_chamelon_wrote_is_mounted_read_only() {
    let mut m = Mounted::unmounted("512K");
    fs::write(m.image(), written()).expect("written");
    let out = output(littlefs().arg("mount").arg(m.image()).arg(m.dir()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let remedy = format!("'littlefs convert --from chamelon {}'", m.image().display());
    assert!(said.contains(&remedy) && said.contains("read-only"), "{said}");
    m.adopt("ro");

    let manifest = manifest();
    let mut values = 0;
    for (path, entry) in walk(&m.dir()) {
        let path = String::from_utf8(path).expect("a name");
        if let Kind::File(bytes) = entry.kind {
            let sums = (bytes.len() as u64, sha1(&bytes));
            assert_eq!(Some(&sums), manifest.get(&path), "{path}");
            values += 1;
        }
    }
    assert_eq!(values, manifest.len());
    // 20 November 2026, 10:47:21.250772215
    let meta = fs::metadata(m.path("z-large")).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_795_171_641, 250_772_215));

    let e = fs::write(m.path("new"), b"1").expect_err("read-only");
    assert_eq!(e.raw_os_error(), Some(libc::EROFS));
    let said = refusal(littlefs().args(["mount", "-o", "remount,rw"]).arg(m.image()).arg(m.dir()));
    assert!(said.contains(&remedy), "{said}");
    let mut journal = littlefs();
    journal.args(["mount", "--journal"]).arg(m.beside("journal")).arg(m.image()).arg(m.dir());
    let said = refusal(&mut journal);
    assert!(said.contains("'littlefs convert --from chamelon "), "{said}");
    assert!(!m.beside("journal").exists());
    // others may look meanwhile
    assert!(output(littlefs().arg("info").arg(m.image())).status.success());
    m.unmount();
    assert!(fs::read(m.image()).expect("readable") == written(), "the image was changed");
}

#[test]
fn the_dialect_can_be_given() {
    let mut m = Mounted::unmounted("512K");
    let said =
        refusal(littlefs().args(["mount", "-o", "dialect=camel"]).arg(m.image()).arg(m.dir()));
    assert!(
        said.contains("'dialect=camel'") && said.contains("auto, littlefs, chamelon"),
        "{said}"
    );
    m.mount("dialect=littlefs");
    fs::write(m.path("file"), b"1").expect("written");
    m.unmount();
    fs::write(m.image(), written()).expect("written");
    m.mount("ro,dialect=chamelon");
    assert_eq!(fs::read(m.path("many/key-000")).expect("readable").len(), 7);
    m.unmount();
    m.mount("dialect=auto,ro");
    m.unmount();
}

#[test]
fn a_block_device_is_read_and_converted_to_a_file() {
    let m = Mounted::unmounted("512K");
    fs::write(m.image(), written()).expect("written");
    let new = m.beside("new.img");
    let said = as_root(
        r#"device=$(losetup --show -f "$2"); trap 'losetup -d "$device"' EXIT
        "$1" info "$device" | grep ^dialect
        "$1" convert --from chamelon "$device" 2>&1 && exit 1
        "$1" convert --from chamelon "$device" "$3"; cmp "$device" "$2""#,
        &[Path::new(env!("CARGO_BIN_EXE_littlefs")), &m.image(), &new],
    );
    assert!(said.contains("dialect       chamelon"), "{said}");
    assert!(
        said.contains("a block device cannot be converted in place; give a file as OUT"),
        "{said}"
    );
    assert_eq!(c_tree(&new).len(), 1 + 36 + 10);
}
