//! `create` and `extract`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use testkit::desk::{Desk, tar_of};
use testkit::python::python;

/// Whether two directories have the same content according to diff(1).
fn same(a: &Path, b: &Path) {
    let out = Command::new("diff").arg("-r").args([a, b]).output().expect("diff");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn what_goes_in_comes_out() {
    let desk = Desk::with_image();
    let said = desk.ok(&["create", "--size", "min", "min.img", "data"]);
    assert!(said.text().contains("4 files, 4 directories"), "{}", said.text());
    assert!(said.text().contains(", 0 free"), "{}", said.text());
    for image in ["new.img", "min.img"] {
        desk.check(image);
        let said = desk.ok(&["extract", image, "-C", "out"]);
        assert_eq!(said.text(), "4 files, 4 directories, 9030 bytes\n");
        same(&desk.path("data"), &desk.path("out"));
        fs::remove_dir_all(desk.path("out")).expect("removed");
    }
    assert_eq!(desk.names("."), ["data", "min.img", "new.img"], "nothing is left behind");
    let json = desk.ok(&["create", "--json", "--block-count", "64", "third.img", "data"]).json();
    assert_eq!((&json["block_count"], &json["files"]), (&64.into(), &4.into()));
    let used = json["blocks_used"].as_u64().expect("a number");
    assert_eq!(json["blocks_free"], 64 - used);
}

#[test]
fn tar_streams_go_in_and_come_out() {
    let desk = Desk::with_image();
    let stream = tar_of(&desk.path("data"));
    let ran = desk.fed(&["create", "--size", "256K", "tar.img", "-"], &stream);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(desk.read("tar.img"), desk.read("new.img"), "the same image as from the directory");
    let out = desk.ok(&["extract", "--to-tar", "-", "new.img"]);
    let again = desk.fed(&["create", "--size", "256K", "again.img", "-"], &out.stdout);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(desk.read("again.img"), desk.read("new.img"));
    desk.ok(&["extract", "--to-tar", "out.tar", "new.img", "www"]);
    assert_eq!(tar::Archive::new(&desk.read("out.tar")[..]).entries().expect("entries").count(), 5);

    let cut = desk.fed(&["create", "--size", "256K", "cut.img", "-"], &stream[..2000]);
    assert_eq!(cut.code, 1);
    assert!(cut.stderr.contains("ends too early, after"), "{}", cut.stderr);
    assert!(!desk.path("cut.img").exists(), "nothing was written");
}

#[test]
fn what_is_there_is_replaced_only_on_request() {
    let desk = Desk::with_image();
    let before = desk.read("new.img");
    desk.fails(&["create", "--size", "64K", "new.img", "data"], 1, &["new.img", "--force"]);
    assert_eq!(desk.read("new.img"), before);
    fs::set_permissions(desk.path("new.img"), PermissionsExt::from_mode(0o600)).expect("a mode");
    desk.ok(&["create", "--force", "--size", "64K", "new.img", "data"]);
    assert_eq!(desk.read("new.img").len(), 65536);
    let mode = desk.path("new.img").metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // a failure keeps what is there, and leaves nothing behind
    let before = desk.read("new.img");
    desk.file("large", &[1; 100_000]);
    let args = ["create", "--force", "--size", "64K", "new.img", "data", "large"];
    desk.fails(&args, 1, &["does not fit", "needs", "--size"]);
    assert_eq!(desk.read("new.img"), before);
    assert_eq!(desk.names("."), ["data", "large", "new.img"]);
}

#[test]
fn limits_are_named_before_anything_is_written() {
    let desk = Desk::with_image();
    desk.file(&format!("data/{}", "n".repeat(40)), b"")
        .file(&format!("data/{}", "m".repeat(41)), b"");
    let args = ["create", "--profile", "arduino-esp8266", "--size", "1000K", "esp.img", "data"];
    let ran =
        desk.fails(&args, 1, &["40 bytes", "41 bytes", "allows only 32", "nothing was written"]);
    assert_eq!(ran.stderr.matches("allows only 32").count(), 2, "{}", ran.stderr);
    assert!(!desk.path("esp.img").exists());
    desk.fails(&["create", "x.img", "data"], 1, &["--size"]);
    desk.fails(&["create", "--size", "5000", "x.img", "data"], 1, &["5000", "4096", "8192"]);
    desk.fails(&["create", "--size", "64K", "--free", "4K", "x.img", "data"], 1, &["--size min"]);
    desk.fails(&["create", "--size", "64K", "x.img", "gone"], 1, &["gone", "no such file"]);
    desk.fails(&["create", "--size", "64K", "no/x.img", "data"], 1, &["no/x.img"]);
    desk.fails(&["create", "--size", "64K", "--exclude", "a[", "x.img", "data"], 1, &["'a['"]);
    assert_eq!(desk.names("."), ["data", "new.img"]);
}

#[test]
fn the_same_input_makes_the_same_bytes_elsewhere() {
    let (a, b) = (Desk::with_image(), Desk::with_image());
    let build = |desk: &Desk, epoch: Option<&str>| {
        let args = [
            "create", "--force", "--attrs", "unix", "--owner", "0:0", "--size", "256K", "unix.img",
            "data",
        ];
        let mut command = desk.command(&args);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let out = command.output().expect("a run");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        desk.read("unix.img")
    };
    assert_eq!(a.read("new.img"), b.read("new.img"));
    assert_eq!(build(&a, Some("1500000000")), build(&b, Some("1500000000")));
    let modified = a.ok(&["stat", "--json", "unix.img", "etc/config.txt"]).json();
    assert_eq!(modified["entries"][0]["modified"], "2017-07-14T02:40:00.000000000Z");
    let mut wrong = a.command(&["create", "--size", "64K", "x.img", "data"]);
    let out = wrong.env("SOURCE_DATE_EPOCH", "soon").output().expect("a run");
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn a_filesystem_inside_a_dump_is_replaced() {
    let desk = Desk::with_image();
    let mut dump = vec![0xa5; 3 << 20];
    // as an old driver made it, with short names
    desk.ok(&["mkfs", "--size", "512K", "--disk-version", "2.0", "--name-max", "32", "old.img"]);
    dump[1 << 20..(1 << 20) + (512 << 10)].copy_from_slice(&desk.read("old.img"));
    desk.file("dump.bin", &dump);
    desk.fails(&["create", "--into", "dump.bin", "data"], 1, &["--offset"]);
    assert_eq!(desk.read("dump.bin"), dump);
    desk.ok(&["create", "--into", "--offset", "1M", "dump.bin", "data"]);
    let now = desk.read("dump.bin");
    assert_eq!(now.len(), dump.len());
    assert_eq!(now[..1 << 20], dump[..1 << 20]);
    assert_eq!(now[(1 << 20) + (512 << 10)..], dump[(1 << 20) + (512 << 10)..]);
    desk.file("part.img", &now[1 << 20..(1 << 20) + (512 << 10)]);
    desk.check("part.img");
    let info = desk.ok(&["info", "--json", "part.img"]).json();
    assert_eq!(
        (&info["block_count"], &info["disk_version"], &info["name_max"], &info["files"]),
        (&128.into(), &"2.0".into(), &32.into(), &4.into())
    );
    let args = ["create", "--into", "--offset", "1M", "--size", "4M", "dump.bin", "data"];
    desk.fails(&args, 1, &["beyond the end"]);
    desk.fails(&["create", "--into", "--offset", "1M", "gone.bin", "data"], 1, &["gone.bin"]);
    assert_eq!(desk.read("dump.bin"), now);
}

#[test]
fn a_block_device_is_written_on_request_only() {
    let desk = Desk::with_image();
    File::create(desk.path("disk")).expect("a file").set_len(1 << 20).expect("a size");
    let out = Command::new("losetup").args(["--find", "--show"]).arg(desk.path("disk")).output();
    let out = out.expect("losetup");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let device = String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned();
    let refused = desk.run(&["create", "--size", "512K", &device, "data"]);
    let made = desk.run(&["create", "--force", "--size", "512K", &device, "data"]);
    let too_large = desk.run(&["create", "--force", "--size", "2M", &device, "data"]);
    let listed = desk.run(&["ls", &device]);
    let freed = Command::new("losetup").args(["--detach", &device]).status().expect("losetup");
    assert!(freed.success());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(too_large.code, 1, "{}", too_large.stderr);
    assert_eq!(listed.text(), "empty\netc\nwww\n");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let desk = Desk::with_image();
    desk.dir("small").file("data/large", &[7; 3 << 20]);
    let mount = |args: &[&str]| {
        let status = Command::new("mount").args(args).arg(desk.path("small")).status();
        assert!(status.expect("mount").success());
    };
    mount(&["-t", "tmpfs", "-o", "size=1M", "none"]);
    let create = desk.run(&["create", "--size", "4M", "small/x.img", "data"]);
    let left = desk.names("small");
    let extract = desk.run(&["create", "-q", "--size", "4M", "big.img", "data"]);
    let out = desk.run(&["extract", "big.img", "-C", "small/out"]);
    let large = desk.path("small/out/large").exists();
    let conf = fs::read(desk.path("small/out/etc/config.txt"));
    let unmounted = Command::new("umount").arg(desk.path("small")).status().expect("umount");
    assert!(unmounted.success());
    assert_eq!(create.code, 1);
    assert!(create.stderr.contains("no space left on device"), "{}", create.stderr);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(extract.code, 0);
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("/large"), "{}", out.stderr);
    assert!(!large, "half a file");
    assert_eq!(conf.expect("the rest goes on"), b"colour = blue\n");
}

#[test]
fn littlefs_python_reads_ours_and_we_read_its() {
    let desk = Desk::with_image();
    let python = python();
    let run = |args: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "littlefs"]).args(args).current_dir(desk.path("."));
        let out = command.output().expect("python");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    run(&["extract", "new.img", "theirs", "--block-size", "4096"]);
    same(&desk.path("data"), &desk.path("theirs"));
    run(&["create", "data", "python.img", "--block-size", "4096", "--fs-size", "256kb"]);
    desk.check("python.img");
    desk.ok(&["extract", "-q", "python.img", "-C", "ours"]);
    same(&desk.path("data"), &desk.path("ours"));
    let names = |listing: &str| listing.lines().count();
    assert_eq!(
        names(&run(&["list", "new.img", "--block-size", "4096"])),
        names(&run(&["list", "python.img", "--block-size", "4096"]))
    );
}

#[test]
fn damaged_files_and_hostile_targets_do_not_stop_the_rest() {
    let desk = Desk::with_image();
    // the file's last block is beyond the image, as its pointer says
    let stat = desk.ok(&["stat", "--json", "new.img", "www/js/app.js"]).json();
    let pair = desk.ok(&["stat", "--json", "new.img", "www/js"]).json();
    let head =
        u32::try_from(stat["entries"][0]["head_block"].as_u64().expect("a block")).expect("u32");
    let block = pair["entries"][0]["pair"][0].as_u64().expect("a block");
    let image = desk.read("new.img");
    // the second block of the list names the first: make it name one outside
    let at = head as usize * 4096;
    let file = File::options().write(true).open(desk.path("new.img")).expect("the image");
    file.write_all_at(&0x00ff_ffff_u32.to_le_bytes(), at as u64).expect("a write");
    assert_ne!(image[at..at + 4], [0xff, 0xff, 0xff, 0], "block {head}, pair {block}");
    let ran = desk.run(&["extract", "new.img", "-C", "out"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("/www/js/app.js"), "{}", ran.stderr);
    assert_eq!(desk.read("out/etc/config.txt"), b"colour = blue\n");
    assert!(!desk.path("out/www/js/app.js").exists());
    let tar = desk.run(&["extract", "new.img", "--to-tar", "-"]);
    assert_eq!(tar.code, 2);
    let entries = tar::Archive::new(&tar.stdout[..]).entries().expect("entries").count();
    assert_eq!(entries, 7, "all but the damaged one");
    assert_eq!(desk.run(&["cat", "new.img", "www/js/app.js"]).code, 1);
    assert_eq!(desk.run(&["cat", "new.img", "etc/config.txt", "www/js/app.js"]).code, 2);

    desk.dir("trap").dir("outside");
    symlink(desk.path("outside"), desk.path("trap/etc")).expect("a link");
    let ran = desk.run(&["extract", "new.img", "etc", "-C", "trap"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(desk.names("outside").is_empty());
}
