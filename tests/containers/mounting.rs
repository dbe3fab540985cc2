//! Mounting containers: wrapped images are read-only, and so are filesystems that were found
//! without anybody watching.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use crate::generators::*;
use testkit::desk::Desk;

/// A mount that ends with the test.
struct Mount<'a>(&'a Desk);

impl Mount<'_> {
    fn is_writable(&self) -> bool {
        std::fs::write(self.0.path("mnt/new"), b"new").is_ok()
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        self.0.ok(&["umount", "mnt"]);
    }
}

/// Run the program under a name, and return its output.
fn called<'a>(desk: &'a Desk, name: &str, args: &[&str]) -> (Output, String, Option<Mount<'a>>) {
    let link = desk.path(&format!("bin/{name}"));
    if !link.exists() {
        desk.dir("bin").dir("mnt");
        symlink(env!("CARGO_BIN_EXE_littlefs"), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command.args(args).current_dir(desk.path(".")).env_remove("RUST_LOG");
    let output = command.output().expect("the program should start");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mounted = output.status.success().then(|| Mount(desk));
    (output, said, mounted)
}

#[test]
fn what_is_wrapped_is_mounted_read_only() {
    let desk = Desk::new();
    let image = image();
    for (name, bytes) in [
        ("a.uf2", uf2(&image, 0x1010_0000)),
        ("a.hex", intel_hex(&image, 0)),
        ("a.img.gz", compressed("gzip", &image)),
        ("nand.bin", with_spare(&image, 2048, 64)),
    ] {
        desk.file(name, &bytes);
        let page: &[&str] = if name == "nand.bin" { &["-o", "page=2048+64"] } else { &[] };
        let args = [&["mount"][..], page, &[name, "mnt"]].concat();
        let (_, said, mount) = called(&desk, "littlefs", &args);
        let mount = mount.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(said.contains("littlefs unwrap") && said.contains("opened read-only"), "{said}");
        assert_eq!(desk.read("mnt/www/big.bin"), big(), "{name}");
        assert!(!mount.is_writable(), "{name}");
        drop(mount);
        assert!(desk.read(name) == bytes, "{name}");
    }
}

/// The dump of an ESP32, each time in another file: if another test makes a mount namespace, a
/// mount of this test lives on in it for a moment, and its image stays in use.
fn dump(desk: &Desk, number: usize) -> String {
    let name = format!("esp{number}.bin");
    desk.file(&name, &esp32(&image()));
    name
}

#[test]
fn a_place_is_given_by_options() {
    let desk = Desk::new();
    let options = ["partition=spiffs", "offset=0x290000", "offset=auto", "partition=1", "rw"];
    for (i, option) in options.into_iter().enumerate() {
        let name = dump(&desk, i);
        let (_, said, mount) = called(&desk, "littlefs", &["mount", "-o", option, &name, "mnt"]);
        let mount = mount.unwrap_or_else(|| panic!("{option}: {said}"));
        assert!(mount.is_writable(), "{option}: {said}");
        let status = desk.ok(&["status", "--json", "mnt"]).json();
        assert_eq!(
            status["about"]["offset"].as_u64().or(status["offset"].as_u64()),
            Some(0x29_0000)
        );
    }
    let (output, said, _) =
        called(&desk, "littlefs", &["mount", "-o", "partition=other", &dump(&desk, 9), "mnt"]);
    assert_eq!(output.status.code(), Some(32), "{said}");
    assert!(said.contains("no partition is called other"), "{said}");
}

/// For mount(8), fstab and services: what they find without being told is read-only.
#[test]
fn what_is_found_while_nobody_looks_is_read_only() {
    let desk = Desk::new();
    // the second as mount.fuse3 calls it, with a whole path
    for (i, name) in ["mount.littlefs", "littlefs"].into_iter().enumerate() {
        let options = ["rw", "offset=auto", "partition=spiffs", "offset=0x290000"];
        for (j, option) in options.into_iter().enumerate() {
            let path = desk.path(&dump(&desk, 10 * i + j));
            let path = path.to_str().expect("UTF-8");
            let (_, said, mount) = called(&desk, name, &[path, "mnt", "-o", option]);
            let mount = mount.unwrap_or_else(|| panic!("{name} {option}: {said}"));
            assert_eq!(mount.is_writable(), option != "rw", "{name} {option}: {said}");
            let is_said = said.contains("offset=auto to accept what is found");
            assert_eq!(is_said, option == "rw", "{name} {option}: {said}");
        }
    }
    // a filesystem at the first byte is no discovery
    desk.file("plain.img", &image());
    let (_, said, mount) = called(&desk, "mount.littlefs", &["plain.img", "mnt"]);
    assert!(mount.unwrap_or_else(|| panic!("{said}")).is_writable(), "{said}");
}

/// At boot, fsck repairs only what starts at the first byte. `run` works on what is found.
#[test]
fn other_commands_keep_to_it() {
    let desk = Desk::new();
    desk.file("esp.bin", &esp32(&image()));
    let (output, said, _) = called(&desk, "fsck.littlefs", &["-a", "esp.bin"]);
    assert!(!output.status.success() && said.contains("no littlefs starts here"), "{said}");
    desk.ok(&["run", "esp.bin", "--", "sh", "-c", "echo done > ran.txt"]);
    assert_eq!(desk.ok(&["cat", "esp.bin", "ran.txt"]).stdout, b"done\n");
}
