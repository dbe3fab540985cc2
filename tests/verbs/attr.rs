//! `attr`: the C driver reads what it sets, and it reads what the C driver sets.

use testkit::clfs::{CError, CLfs, Config};
use testkit::desk::Desk;

fn driver(desk: &Desk) -> CLfs {
    desk.check("new.img");
    CLfs::mount(desk.read("new.img"), &Config::new(4096, 64, 16)).expect("the driver takes it")
}

#[test]
fn attributes_are_set_as_the_driver_reads_them() {
    let desk = Desk::with_image();
    desk.ok(&["attr", "new.img", "set", "etc/config.txt", "0x80", "text"]);
    desk.ok(&["attr", "new.img", "set", "etc/config.txt", "129", "hex:00fF"]);
    desk.ok(&["attr", "new.img", "set", "/", "0x80", "of the root"]);
    desk.ok(&["attr", "new.img", "set", "www", "0", ""]);
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(desk.fed(&["attr", "new.img", "set", "www/*.html", "0xff"], &all).code, 0);
    assert_eq!(desk.fed(&["attr", "new.img", "set", "empty", "0xff", "-"], &all).code, 0);
    let mut fs = driver(&desk);
    assert_eq!(fs.getattr(b"etc/config.txt", 0x80).as_deref(), Ok(&b"text"[..]));
    assert_eq!(fs.getattr(b"etc/config.txt", 0x81).as_deref(), Ok(&b"\0\xff"[..]));
    assert_eq!(fs.getattr(b"/", 0x80).as_deref(), Ok(&b"of the root"[..]));
    assert_eq!(fs.getattr(b"www", 0).as_deref(), Ok(&b""[..]));
    assert_eq!(fs.getattr(b"www/index.html", 0xff).as_ref(), Ok(&all));
    assert_eq!(fs.getattr(b"empty", 0xff).as_ref(), Ok(&all));
    fs.setattr(b"etc/config.txt", 0x80, b"by the driver\n\0").expect("an attribute");
    desk.file("new.img", &fs.unmount());
    assert_eq!(
        desk.ok(&["attr", "new.img", "get", "etc/config.txt", "0x80"]).stdout,
        b"by the driver\n\0"
    );
    let said = desk.ok(&["attr", "new.img", "list", "--json", "etc/*"]).json();
    assert_eq!(said["entries"][0]["path"], "/etc/config.txt");
    let attributes = &said["entries"][0]["attributes"];
    assert_eq!((&attributes[1]["type"], &attributes[1]["length"]), (&0x81.into(), &2.into()));
    assert_eq!(attributes[1]["data_base64"], "AP8=");
    assert!(
        desk.ok(&["attr", "new.img", "list", "etc/config.txt"])
            .text()
            .contains("0x81     2 bytes  00ff")
    );
    desk.ok(&["attr", "new.img", "rm", "etc/config.txt", "0x81"]);
    desk.ok(&["attr", "new.img", "rm", "--atomic", "/", "0x80"]);
    let mut fs = driver(&desk);
    assert_eq!(fs.getattr(b"etc/config.txt", 0x81), Err(CError::NoAttr));
    assert_eq!(fs.getattr(b"/", 0x80), Err(CError::NoAttr));
}

#[test]
fn what_attributes_say_has_names() {
    let desk = Desk::with_image();
    let time = "2026-03-14T15:09:26.500000000Z";
    let set = |more: &[&str]| desk.ok(&[&["attr", "new.img", "set"], more].concat());
    desk.fails(&["attr", "new.img", "set", "etc/config.txt", "mode", "0600"], 1, &["--attrs NAME"]);
    set(&["--attrs", "unix", "etc/config.txt", "mode", "0640"]);
    set(&["etc/config.txt", "modified", time]);
    set(&["etc/config.txt", "uid", "1000"]);
    set(&["/", "gid", "5"]);
    let mut fs = driver(&desk);
    let owner = fs.getattr(b"etc/config.txt", b'U').expect("an owner");
    assert_eq!(owner, [1000_u32, 0, 0o100_640].map(u32::to_le_bytes).concat());
    assert_eq!(fs.getattr(b"/", b'U').expect("an owner")[4..8], 5_u32.to_le_bytes());
    let get =
        |name: &str| desk.ok(&["attr", "new.img", "get", "etc/config.txt", name]).text().to_owned();
    assert_eq!(
        (get("mode"), get("mtime"), get("uid")),
        ("0640\n".into(), format!("{time}\n"), "1000\n".into())
    );
    let json = desk.ok(&["attr", "new.img", "get", "--json", "etc/config.txt", "mtime"]).json();
    assert_eq!((&json["name"], &json["value"]), (&"modified".into(), &time.into()));
    // what the convention has no place for
    let image = desk.read("new.img");
    for (args, words) in [
        (
            &["set", "--attrs", "micropython", "etc/config.txt", "uid", "1"][..],
            &["cannot store"][..],
        ),
        (&["set", "--attrs", "micropython", "www", "modified", "@0"], &["/www: ", "cannot store"]),
        (&["set", "etc/config.txt", "mode", "0999"], &["not a mode in octal"]),
        (&["set", "etc/config.txt", "mtime", "yesterday"], &["is not a time"]),
        (&["set", "etc/config.txt", "uid", "-1"], &["is not a number"]),
        (&["set", "etc/config.txt", "0x100", "x"], &["0x100", "modified"]),
        (&["set", "etc/config.txt", "0x80", "hex:0"], &["two hexadecimal digits"]),
        (&["set", "gone", "0x80", "x"], &["/gone: no such file"]),
        (&["set", "etc/config.txt", "0x80", &"x".repeat(1023)], &["1023 bytes", "1022"]),
        (&["rm", "etc/config.txt", "0x80"], &["has no attribute of type 0x80"]),
        (&["rm", "etc/config.txt", "mode"], &["'mode' is not a number"]),
        (&["rm", "www/*", "0x80"], &["2 of the changes"]),
        (&["get", "etc/config.txt", "0x80"], &["has no attribute of type 0x80"]),
        (&["get", "etc/config.txt", "created"], &["no value of 'created' is stored for it"]),
        (&["list", "gone"], &["/gone"]),
    ] {
        desk.fails(&[&["attr", "new.img"], args].concat(), 1, words);
        assert!(desk.read("new.img") == image, "{args:?} changed the image");
    }
    set(&["-n", "etc/config.txt", "mode", "0600"]);
    assert!(desk.read("new.img") == image);
}

/// What is stored by another convention than that of the image is not shown without an option.
#[test]
fn another_convention_than_that_of_the_image_is_noted() {
    let desk = Desk::with_image();
    let told = |attrs| {
        let set = ["attr", "new.img", "set", "--attrs", attrs, "etc/config.txt", "mtime", "@9"];
        desk.ok(&set).stderr
    };
    assert_eq!(told("arduino"), "", "it has no attributes yet");
    // the attributes of esp-idf look the same
    assert_eq!(told("arduino"), "");
    let note = told("unix");
    assert!(note.contains("attributes of the convention esp-idf; "), "{note}");
    assert!(note.contains("--attrs unix") && note.contains("-o attrs=unix"), "{note}");
}
