//! Images for devices and for builds: `info --profile`, `create --check-profile` and `--depfile`.

use std::process::Command;

use testkit::desk::Desk;

#[test]
fn what_devices_refuse_or_stumble_over_is_told() {
    let desk = Desk::with_image();
    desk.ok(&["info", "--profile", "arduino-pico", "new.img"]);
    let told = desk.run(&["info", "--profile", "arduino-esp8266", "new.img"]);
    assert_eq!(told.code, 1);
    for words in [
        "refuses it: its blocks have 4096 bytes, but those of the devices have 8192",
        "refuses it: it allows names of 255 bytes",
        "refuses it: it has version 2.1 of the format, but the devices only read versions up to 2.0",
    ] {
        assert!(told.text().contains(words), "{words}: {}", told.text());
    }
    let json = desk.run(&["info", "--json", "--profile", "nanoframework", "new.img"]).json();
    assert_eq!(json["misfits"][0]["refused"], true);
    assert!(json["misfits"][0]["message"].as_str().expect("text").contains("attributes of 1022"));

    // what the profile makes suits it
    let made =
        desk.ok(&["create", "--profile", "arduino-esp8266", "--size", "256K", "a.img", "data"]);
    assert_eq!(made.stderr, "");
    let suits = desk.ok(&["info", "--profile", "arduino-esp8266", "a.img"]);
    assert!(suits.text().contains("arduino-esp8266 suits it"), "{}", suits.text());
    assert_eq!(desk.ok(&["info", "--json", "a.img"]).json()["disk_version"], "2.0");
    let made = desk.ok(&["mkfs", "--profile", "arduino-esp8266", "--size", "64K", "empty.img"]);
    assert!(made.text().contains("littlefs 2.0"), "{}", made.text());

    // a file in its directory that is larger than the cache is no reason to refuse the image
    desk.file("large/inline", &[b'i'; 200]);
    let args = ["create", "-q", "--inline-max", "256", "--name-max", "32", "--block-size", "8192"];
    let rest = ["--disk-version", "2.0", "--size", "64K", "i.img", "large"];
    desk.ok(&[&args[..], &rest].concat());
    let told = desk.ok(&["info", "--profile", "arduino-esp8266", "i.img"]);
    assert!(
        told.text().contains("has trouble: 1 file is stored in its directory"),
        "{}",
        told.text()
    );
    assert!(told.text().contains(" /inline\n"), "{}", told.text());
}

#[test]
fn no_image_is_made_that_devices_would_refuse() {
    let desk = Desk::with_image();
    let args = ["create", "--check-profile", "esp-idf", "--size", "256K", "x.img", "data"];
    let words =
        ["profile esp-idf would refuse", "make it with --name-max 64", "nothing was written"];
    desk.fails(&args, 1, &words);
    assert!(!desk.path("x.img").exists());
    desk.ok(&[&args[..], &["--name-max", "64"]].concat());
    let mkfs = ["mkfs", "--check-profile", "esp-idf", "--size", "256K", "m.img"];
    desk.fails(&mkfs, 1, &words);
    assert!(!desk.path("m.img").exists());
    desk.ok(&[&mkfs[..], &["--name-max", "64"]].concat());
    // with --profile alone it is a warning
    let args = ["create", "--profile", "esp-idf", "--name-max", "100", "--size", "256K", "y.img"];
    let made = desk.ok(&[&args[..], &["data"]].concat());
    assert!(made.stderr.contains("names of 100 bytes"), "{}", made.stderr);
    assert!(desk.path("y.img").exists());
}

#[test]
fn make_builds_again_what_has_changed() {
    let desk = Desk::new();
    desk.file("data/a", b"a").file("data/sub/name with # and $", b"b");
    let makefile = format!(
        "fs.img:\n\t{} create -q --force --size 64K --depfile fs.d fs.img data\n\ttouch fs.img\n\
         -include fs.d\n",
        env!("CARGO_BIN_EXE_littlefs")
    );
    desk.file("Makefile", makefile.as_bytes());
    let make = || {
        let out = Command::new("make").current_dir(desk.path(".")).output().expect("make");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    // so that no two things are of one tick of the clock
    let age = |path: &str, seconds: u64| {
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        std::fs::File::open(desk.path(path)).and_then(|f| f.set_modified(past)).expect("a time");
    };
    for path in ["data/a", "data/sub/name with # and $", "data/sub", "data"] {
        age(path, 100);
    }
    assert!(make().contains("create"));
    assert!(make().contains("up to date"), "{}", String::from_utf8_lossy(&desk.read("fs.d")));
    age("fs.img", 50);
    desk.file("data/sub/name with # and $", b"c");
    assert!(make().contains("create"), "a file changed");
    age("data/sub/name with # and $", 100);
    age("fs.img", 50);
    assert!(make().contains("up to date"));
    desk.file("data/sub/new", b"n");
    age("data/sub/new", 100);
    assert!(make().contains("create"), "a file came");
}
