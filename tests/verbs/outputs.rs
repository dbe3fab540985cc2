//! Files that commands write as their output: what happens to a file that has the name already, and
//! after an error.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use testkit::desk::Desk;

/// The commands that write one file, without its name, and the arguments after it.
const COMMANDS: [(&[&str], &[&str]); 9] = [
    (&["map", "--format", "html", "-o"], &["new.img"]),
    (&["map", "--json", "-o"], &["new.img"]),
    (&["extract", "--to-tar"], &["new.img"]),
    (&["wrap", "--format", "hex", "--base", "0", "new.img"], &[]),
    (&["unwrap", "new.hex"], &[]),
    (&["clone", "new.img"], &[]),
    (&["create", "--size", "256K"], &["data"]),
    (&["convert", "--from", "v1", "v1.img"], &[]),
    (&["journal", "export", "--at", "0", "j"], &[]),
];

fn desk() -> Desk {
    let desk = Desk::with_image();
    desk.ok(&["wrap", "--format", "hex", "--base", "0", "new.img", "new.hex"]);
    desk.ok(&["create", "-q", "--size", "256K", "--disk-version", "1", "v1.img", "data"]);
    desk.ok(&["mkdir", "--journal", "j", "new.img", "more"]);
    desk
}

fn with<'a>(command: &(&[&'a str], &[&'a str]), output: &'a str) -> Vec<&'a str> {
    [command.0, &[output], command.1].concat()
}

#[test]
fn an_existing_file_is_overwritten_only_by_force() {
    let desk = desk();
    symlink("out", desk.path("link")).expect("a link");
    let is_whole = |args: &[&str]| {
        assert_ne!(desk.read("out"), b"precious", "{args:?}");
        assert!(fs::symlink_metadata(desk.path("link")).expect("a link").is_symlink());
    };
    for command in &COMMANDS {
        for name in ["out", "link"] {
            desk.file("out", b"precious");
            fs::set_permissions(desk.path("out"), PermissionsExt::from_mode(0o640)).expect("chmod");
            let mut args = with(command, name);
            // 'journal export' does not follow links
            let is_link = command.0[0] == "journal" && name == "link";
            let why = if is_link { "link: " } else { "--force" };
            desk.fails(&args, 1, &[&format!("{name}: "), why]);
            assert_eq!(desk.read("out"), b"precious", "{args:?}");
            if is_link {
                continue;
            }
            args.push("--force");
            desk.ok(&args);
            is_whole(&args);
        }
        fs::remove_file(desk.path("out")).expect("a removal");
        desk.ok(&with(command, "out"));
        is_whole(command.0);
    }
    for name in ["out.svg", "out.tar"] {
        desk.file(name, b"precious");
        fs::set_permissions(desk.path(name), PermissionsExt::from_mode(0o640)).expect("chmod");
    }
    desk.ok(&["map", "--force", "-o", "out.svg", "new.img"]);
    desk.ok(&["extract", "--force", "--to-tar", "out.tar", "new.img"]);
    for name in ["out.svg", "out.tar"] {
        let mode = fs::metadata(desk.path(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}: the mode of the old file");
    }
    desk.fails(&["extract", "--force", "new.img"], 1, &["--to-tar"]);
}

/// No output is larger than the limit allows, so each command fails in the middle.
#[test]
fn after_an_error_the_name_refers_to_what_was_there_before() {
    let desk = desk();
    let before = desk.names(".");
    let limited = |args: &[&str], limit| {
        let mut command = Command::new("sh");
        let script = format!("ulimit -f {limit}; exec \"$@\"");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_littlefs")]);
        command.args(args).current_dir(desk.path(".")).output().expect("sh")
    };
    for command in &COMMANDS {
        let ran = limited(&with(command, "out"), 1);
        assert_eq!(ran.status.code(), Some(1), "{command:?}: {ran:?}");
        assert_eq!(desk.names("."), before, "{command:?}");
        desk.file("out", b"precious");
        let mut args = with(command, "out");
        args.push("--force");
        let ran = limited(&args, 1);
        assert_eq!(ran.status.code(), Some(1), "{command:?}: {ran:?}");
        assert_eq!(desk.read("out"), b"precious", "{command:?}");
        fs::remove_file(desk.path("out")).expect("a removal");
        assert_eq!(desk.names("."), before, "{command:?}");
    }
    // the rule names many long paths, but the image has only short names
    let long = format!("in/{}", format!("{}/", "long".repeat(50)).repeat(4));
    (0..60).for_each(|i| _ = desk.file(&format!("{long}{i}"), b""));
    let small = ["create", "-q", "--block-size", "512", "--size", "8K", "small.img", &long];
    desk.ok(&small);
    let ran = limited(&[&small[..], &["--force", "--depfile", "d"]].concat(), 32);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("d: file too large"), "{ran:?}");
    assert!(!desk.path("d").exists());
}

/// What could be read of a damaged image is wanted, but an archive without anything is not.
#[test]
fn a_tar_stream_has_what_could_be_read() {
    let desk = Desk::with_image();
    let report = desk.ok(&["inspect", "--json", "new.img", "file", "www/js/app.js"]).json();
    let block = report[0]["blocks"][0]["block"].as_u64();
    let block = block.unwrap_or_else(|| panic!("a block in {report}"));
    let mut image = desk.read("new.img");
    image.truncate(usize::try_from(block * 4096).expect("an offset"));
    desk.file("cut.img", &image);
    desk.fails(&["extract", "--to-tar", "out.tar", "cut.img"], 2, &["app.js"]);
    let list = Command::new("tar").args(["-tf", "out.tar"]).current_dir(desk.path(".")).output();
    let list = String::from_utf8(list.expect("tar").stdout).expect("UTF-8");
    assert!(list.contains("etc/config.txt") && !list.contains("app.js"), "{list}");
    let whole = desk.read("out.tar");
    let force = ["extract", "--force", "--to-tar"];
    let none = [&force[..], &["out.tar", "cut.img", "www/js/app.js"]].concat();
    desk.fails(&none, 1, &["app.js"]);
    desk.fails(&[&force[..], &["out.tar", "cut.img", "no*thing"]].concat(), 1, &["no*thing"]);
    assert!(desk.read("out.tar") == whole);
    desk.fails(&[&force[..], &["new.tar", "cut.img", "www/js/app.js"]].concat(), 1, &[]);
    assert!(!desk.path("new.tar").exists());
    // an empty image is no error
    desk.ok(&["mkfs", "-q", "--size", "64K", "empty.img"]);
    desk.ok(&[&force[..], &["out.tar", "empty.img"]].concat());
    assert!(desk.read("out.tar") != whole);
}

#[test]
fn pipes_and_devices_are_written_to_directly() {
    let desk = Desk::with_image();
    let svg = desk.ok(&["map", "--format", "svg", "new.img"]).stdout;
    let tar = desk.ok(&["extract", "--to-tar", "-", "new.img"]).stdout;
    let map = ["map", "--format", "svg", "new.img", "-o"];
    let extract = ["extract", "new.img", "--to-tar"];
    for (args, expected) in [(&map[..], &svg), (&extract[..], &tar)] {
        let to = |output| [args, &[output]].concat();
        assert!(desk.ok(&to("/dev/stdout")).stdout == *expected, "{args:?}");
        desk.ok(&to("/dev/null"));
        desk.fails(&to("/dev/full"), 1, &["/dev/full: no space left"]);
        desk.fails(&to("data"), 1, &["data: "]);
        // standard output may be a file, which is continued as the shell has opened it
        desk.file("log", b"before\n");
        let log = fs::OpenOptions::new().append(true).open(desk.path("log")).expect("a file");
        let ran = desk.command(&to("/dev/stdout")).stdout(log).status().expect("a run");
        assert!(ran.success() && desk.read("log") == [b"before\n", &expected[..]].concat());

        let made = Command::new("mkfifo").arg(desk.path("fifo")).status().expect("mkfifo");
        assert!(made.success());
        let mut reader = Command::new("cat");
        let reader = reader.arg(desk.path("fifo")).stdout(Stdio::piped()).spawn().expect("cat");
        desk.ok(&to("fifo"));
        assert!(reader.wait_with_output().expect("an end").stdout == *expected, "{args:?}");
        fs::remove_file(desk.path("fifo")).expect("a removal");
    }
    desk.fails(&["extract", "--json", "--to-tar", "/dev/stdout", "new.img"], 1, &["--json"]);
}

/// A device such as /dev/null must not become a file because it was named as the destination.
#[test]
fn get_and_extract_do_not_replace_fifos() {
    use std::os::unix::fs::FileTypeExt;
    let desk = Desk::new();
    desk.file("data/a", b"content").dir("out");
    desk.ok(&["create", "-q", "--size", "64K", "new.img", "data"]);
    let made = std::process::Command::new("mkfifo").arg(desk.path("out/a")).status();
    assert!(made.expect("mkfifo").success());
    for args in [&["get", "new.img", "a", "out/a"][..], &["extract", "new.img", "-C", "out"]] {
        desk.fails(args, 1, &["/a: on the host, a device, FIFO or socket has this name"]);
        let kind = std::fs::symlink_metadata(desk.path("out/a")).expect("still there").file_type();
        assert!(kind.is_fifo(), "{args:?}");
    }
}

/// The name may be that of a file that is precious.
#[test]
fn a_depfile_replaces_only_a_depfile() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    let create = ["create", "-q", "--force", "--size", "256K", "--depfile"];
    let to = |depfile| [&create[..], &[depfile, "made.img", "data"]].concat();
    for other in [&image[..], b"text", b"name: value\n", b"all: a b\n\tcc a b\n", b"\n"] {
        desk.file("d", other);
        desk.fails(&to("d"), 1, &["d: exists already, and is not what this command writes there"]);
        assert!(desk.read("d") == other && !desk.path("made.img").exists());
    }
    fs::remove_file(desk.path("d")).expect("a removal");
    desk.ok(&to("d"));
    let rule = desk.read("d");
    assert!(rule.starts_with(b"made.img: \\\n"));
    for own in [&b""[..], b"other.img: \\\n  elsewhere\n", &rule] {
        desk.file("d", own);
        desk.ok(&to("d"));
        assert_eq!(desk.read("d"), rule);
    }
}

/// An image without its depfile would not be made again when its sources change.
#[test]
fn no_image_is_made_if_its_depfile_cannot_be_written() {
    let desk = Desk::with_image();
    symlink("nothing", desk.path("link")).expect("a link");
    desk.dir("dir");
    for (depfile, word) in [
        ("no/d", "no/d: the directory does not exist"),
        ("dir", "dir: is a directory"),
        ("link", "link: is a symbolic link that leads to nothing"),
        ("made.img", "read or made by the command"),
        ("./data/../made.img", "read or made by the command"),
        ("/dev/full", "/dev/full: no space left"),
    ] {
        desk.fails(
            &["create", "--size", "256K", "--depfile", depfile, "made.img", "data"],
            1,
            &[word],
        );
        assert!(!desk.path("made.img").exists(), "{depfile}");
    }
}

#[test]
fn an_output_that_must_be_a_file_is_not_a_stream() {
    let desk = desk();
    // so that a program that would replace it does no harm
    symlink("/proc/self/fd/1", desk.path("stdout")).expect("a link");
    symlink("nothing", desk.path("link")).expect("a link");
    assert!(Command::new("mkfifo").arg(desk.path("fifo")).status().expect("mkfifo").success());
    for command in COMMANDS.iter().filter(|(args, _)| !["map", "extract"].contains(&args[0])) {
        for (name, word) in [
            ("-", "give a name, or './-' if the name is '-'"),
            ("stdout", "stdout: is standard output, but this output cannot be written as a stream"),
            ("fifo", "fifo: is neither a plain file nor a block device, but"),
            // 'journal export' does not follow links
            ("link", if command.0[0] == "journal" { "link: " } else { "leads to nothing" }),
        ] {
            let args = with(command, name);
            let ran = desk.fails(&args, 1, &[word]);
            assert!(ran.stdout.is_empty() && !ran.stderr.contains("--force"), "{}", ran.stderr);
            assert!(!desk.path("-").exists() && desk.path("stdout").is_symlink(), "{args:?}");
        }
        desk.ok(&with(command, "./-"));
        fs::remove_file(desk.path("-")).expect("a removal");
    }
    for (args, code) in [
        (&["extract", "new.img", "-C", "-"][..], 1),
        (&["recover", "new.img", "-C", "-"], 1),
        (&["mkfs", "--size", "64K", "-"], 1),
        (&["put", "--journal", "-", "new.img", "data/etc/config.txt", "/"], 1),
        (&["ls", "--journal", "-", "new.img"], 1),
        (&["journal", "log", "-"], 1),
        (&["journal", "verify", "j", "--image", "-"], 1),
        (&["check", "-y", "--backup", "-", "new.img"], 16),
        (&["undo", "-", "new.img"], 1),
    ] {
        desk.fails(args, code, &["'-'", "'./-'"]);
        assert!(!desk.path("-").exists(), "{args:?}");
    }
}

#[test]
fn a_dash_is_standard_output() {
    let desk = Desk::with_image();
    symlink("/proc/self/fd/1", desk.path("stdout")).expect("a link");
    let svg = desk.ok(&["map", "--format", "svg", "new.img"]).stdout;
    let create = ["create", "-q", "--size", "256K", "--depfile"];
    desk.ok(&[&create[..], &["d", "made.img", "data"]].concat());
    for name in ["-", "stdout"] {
        assert!(desk.ok(&["map", "--format", "svg", "-o", name, "new.img"]).stdout == svg);
        let args = [&create[..], &["--force", name, "made.img", "data"]].concat();
        let args: Vec<&str> = args.into_iter().filter(|arg| *arg != "--force").collect();
        fs::remove_file(desk.path("made.img")).expect("a removal");
        assert_eq!(desk.ok(&args).stdout, desk.read("d"));
        let content = desk.ok(&["get", "new.img", "etc/config.txt", name]).stdout;
        assert_eq!(content, desk.read("data/etc/config.txt"));
        let words = [&format!("{name}: standard output gets"), "'littlefs cat'"];
        desk.fails(&["get", "new.img", "etc/config.txt", "file", name], 1, &words);
        desk.fails(&["get", "--json", "new.img", "etc/config.txt", name], 1, &words);
        desk.fails(&["get", "new.img", "gone", name], 1, &["/gone: no such file"]);
        assert!(!desk.path("-").exists() && desk.path("stdout").is_symlink(), "{name}");
    }
}

/// As cp(1) does. Inside a directory, a link is replaced, because the user did not name it.
#[test]
fn get_writes_through_the_link_that_is_named() {
    let desk = Desk::with_image();
    let content = desk.read("data/etc/config.txt");
    desk.file("far/target", b"old").file("out/untouched", b"old").dir("dir");
    for (link, target) in [
        ("link", "far/target"),
        ("chain", "link"),
        ("to_dir", "dir"),
        ("to_nothing", "nothing"),
        ("to_fifo", "fifo"),
        ("to_image", "new.img"),
        ("out/config.txt", "untouched"),
    ] {
        symlink(target, desk.path(link)).expect("a link");
    }
    assert!(Command::new("mkfifo").arg(desk.path("fifo")).status().expect("mkfifo").success());
    let get = |to: &'static str| ["get", "-q", "new.img", "etc/config.txt", to];
    for link in ["link", "chain"] {
        desk.file("far/target", b"old").ok(&get(link));
        assert!(desk.path(link).is_symlink() && desk.read("far/target") == content, "{link}");
        assert_eq!(desk.names("far"), ["target"]);
    }
    desk.ok(&get("to_dir"));
    assert_eq!(desk.read("dir/config.txt"), content);
    desk.fails(&get("to_nothing"), 1, &["to_nothing: is a symbolic link that leads to nothing"]);
    desk.fails(&get("to_fifo"), 1, &["to_fifo: is a symbolic link to something other than"]);
    let before = desk.read("new.img");
    desk.fails(&get("to_image"), 1, &["the image or its journal has this name"]);
    assert!(desk.read("new.img") == before && !desk.path("nothing").exists());
    desk.ok(&get("out"));
    assert!(!desk.path("out/config.txt").is_symlink());
    assert_eq!(desk.read("out/untouched"), b"old");
    assert_eq!(desk.read("out/config.txt"), content);
}

/// Half of the results without a list of them would be taken for all.
#[test]
fn a_recovery_that_fails_says_what_it_left() {
    let desk = Desk::new();
    desk.file("data/z/large", &[7; 40_000]).file("data/a/tiny", b"tiny");
    desk.ok(&["create", "-q", "--size", "256K", "x.img", "data"]);
    let limited = |verb: &str| {
        let script = format!("ulimit -f 16; exec \"$0\" {verb}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_littlefs")]).current_dir(desk.path("."));
        let output = command.output().expect("sh");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    desk.ok(&["rm", "x.img", "z/large"]);
    let said = limited("recover x.img -C found");
    assert!(said.contains("found: no result could be written: file too large"), "{said}");
    assert!(desk.names("found").is_empty());
    desk.ok(&["rm", "x.img", "a/tiny"]);
    let said = limited("recover x.img -C found");
    assert!(said.contains("found: only 1 of 2 results could be written, and no list"), "{said}");
    assert_eq!(desk.read("found/files/a/tiny"), b"tiny");
    assert!(!desk.path("found/files/z/large").exists() && !desk.path("found/MANIFEST").exists());
}
