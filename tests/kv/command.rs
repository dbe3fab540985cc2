//! `littlefs kv`, used as users use it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use littlefs::image::{self, Opened, Options, Reason};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::helpers::bytes;

/// The result of a run.
struct Ran {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

/// A directory with an image of 64 blocks.
struct Shell {
    dir: TempDir,
    image: String,
}

impl Shell {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let image = dir.path().join("test.img").to_str().expect("UTF-8").to_owned();
        let shell = Self { dir, image };
        let made = shell.run(&["mkfs", "--size", "256K", &shell.image], b"");
        assert_eq!(made.code, 0, "{}", made.stderr);
        shell
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_littlefs"))
            .args(args)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program should start");
        // a command that does not read it may be gone already
        let _ = child.stdin.take().expect("stdin").write_all(input);
        let out = child.wait_with_output().expect("output");
        Ran {
            code: out.status.code().expect("no signal should end it"),
            stdout: out.stdout,
            stderr: String::from_utf8(out.stderr).expect("UTF-8"),
        }
    }

    /// Run `littlefs kv IMAGE args`. It must succeed and print nothing on standard error.
    fn kv_with(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let ran = self.run(&[&["kv", &self.image][..], args].concat(), input);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{args:?}");
        ran.stdout
    }

    /// The image, locked. A program that another test starts may hold a copy of a lock for a
    /// moment.
    fn open(&self, read_only: bool) -> Opened {
        let options = Options { read_only, ..Options::default() };
        for _ in 0..1000 {
            match image::open(self.image.as_ref(), &options) {
                Err(e) if matches!(e.reason, Reason::InUse(_)) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => return opened.expect("open"),
            }
        }
        panic!("{}: in use all the time", self.image);
    }

    fn kv(&self, args: &[&str]) -> String {
        String::from_utf8(self.kv_with(args, b"")).expect("UTF-8")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kv(args)).expect("JSON")
    }

    /// Run it. It must fail with exit code 1 and one error in our form that contains all of these
    /// words.
    fn fails(&self, args: &[&str], input: &[u8], words: &[&str]) {
        let ran = self.run(&[&["kv", &self.image][..], args].concat(), input);
        assert_eq!(ran.code, 1, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("littlefs: "), "{args:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?}: no {word:?} in {}", ran.stderr);
        }
        assert!(ran.stdout.is_empty());
    }

    fn check(&self) {
        assert_eq!(self.run(&["check", &self.image], b"").code, 0);
    }
}

/// The rules of chamelon's src/dune, in the same order.
#[test]
fn values_come_and_go() {
    let shell = Shell::new();
    assert_eq!(shell.kv(&["list", "/"]), "");
    // big
    let colossal = bytes(9, 128 << 10);
    shell.kv_with(&["set", "colossal.bak", "-"], &colossal);
    assert_eq!(shell.kv(&["list", "/"]), "/colossal.bak\n");
    assert!(shell.kv_with(&["get", "colossal.bak"], b"") == colossal);
    shell.kv(&["remove", "/colossal.bak"]);
    // rootdir
    shell.kv(&["set", "autoexec.bat", "CLS"]);
    assert_eq!(shell.kv(&["get", "autoexec.bat"]), "CLS");
    shell.kv(&["set", "config.sys", ""]);
    assert_eq!(shell.kv(&["get", "config.sys"]), "");
    assert_eq!(shell.kv(&["exists", "config.sys"]), "value\n");
    shell.kv(&["remove", "config.sys"]);
    shell.kv(&["remove", "config.sys"]);
    shell.fails(&["get", "config.sys"], b"", &["config.sys: no such key", &shell.image]);
    shell.kv(&["remove", "autoexec.bat"]);
    // rewrite
    shell.kv(&["set", "diary.txt", "Dear diary, today I ate cheese. It was great."]);
    let again = "Dear diary, today I ate cheese. It was a nice sharp cheddar. Delicious.";
    shell.kv(&["set", "diary.txt", again]);
    assert_eq!(shell.kv(&["get", "diary.txt"]), again);
    // subdir
    shell.kv(&["set", "secrets/mom_dont_look", "I SAID NOT TO LOOK JEEZ"]);
    assert_eq!(shell.kv(&["list", "/secrets"]), "/secrets/mom_dont_look\n");
    assert_eq!(shell.kv(&["get", "secrets/mom_dont_look"]), "I SAID NOT TO LOOK JEEZ");
    shell.kv(&["remove", "secrets"]);
    shell.fails(&["list", "/secrets"], b"", &["/secrets: no such key"]);
    // runtest
    let source = fs::read(file!()).expect("this file");
    shell.kv_with(&["set", "command.rs"], &source);
    assert!(shell.kv_with(&["get", "command.rs"], b"") == source);
    shell.check();
}

/// Values that a mount has written, and more values next to them. Here, another program of this
/// library takes the place of the mount. (chamelon's justfile: read, hardtail.)
#[test]
fn what_others_wrote_is_there() {
    use testkit::clfs::{CLfs, Config};
    let shell = Shell::new();
    let image = fs::read(&shell.image).expect("the image");
    let mut config = Config::new(4096, 64, 16);
    config.strict_erase = false;
    let mut c = CLfs::mount(image, &config).expect("mount");
    c.mkdir(b"lib").expect("mkdir");
    c.mkdir(b"empty").expect("mkdir");
    for n in 1..=10 {
        c.write_file(format!("lib/{n}").as_bytes(), &bytes(n, 500)).expect("write");
    }
    fs::write(&shell.image, c.unmount()).expect("write");
    for n in 1..=20 {
        shell.kv(&["set", &format!("lib/moar{n}"), &format!("moar data yey {n}")]);
    }
    assert!(shell.kv_with(&["get", "lib/10"], b"") == bytes(10, 500));
    assert_eq!(shell.kv(&["get", "lib/moar2"]), "moar data yey 2");
    assert_eq!(shell.kv(&["list", "lib"]).lines().count(), 30);
    assert_eq!(shell.kv(&["list"]), "/empty/\n/lib/\n");
    assert_eq!(shell.kv(&["exists", "empty"]), "dictionary\n");
    let image = fs::read(&shell.image).expect("the image");
    let mut c = CLfs::mount(image, &config).expect("mount");
    assert_eq!(c.read_file(b"lib/moar20").expect("read"), b"moar data yey 20");
    shell.check();
}

#[test]
fn every_operation_has_its_command() {
    let shell = Shell::new();
    shell.kv(&["set", "a/b", "hello world"]);
    assert_eq!(shell.kv(&["get", "a/b", "--from", "6"]), "world");
    assert_eq!(shell.kv(&["get", "a/b", "--from", "2", "--length", "3"]), "llo");
    shell.kv(&["set-partial", "a/b", "6", "there"]);
    shell.kv_with(&["set-partial", "a/b", "100"], b"!");
    assert_eq!(shell.kv(&["get", "/a/b"]), "hello there!");
    for (key, kind) in [("a/b", "value"), ("a", "dictionary"), ("/", "dictionary"), ("x/y", "none")]
    {
        assert_eq!(shell.kv(&["exists", key]), format!("{kind}\n"));
        assert_eq!(shell.json(&["exists", key, "--json"])["kind"], kind);
    }
    assert_eq!(shell.kv(&["size", "a"]), "12\n");
    assert_eq!(shell.json(&["--json", "size"]), json!({"key": "/", "size": 12}));
    shell.kv_with(&["set", "a/abc"], b"abc");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(shell.kv(&["digest", "a/abc"]), format!("{abc}\n"));
    assert_eq!(shell.json(&["digest", "a/abc", "--json"])["sha256"], abc);
    assert_eq!(shell.kv(&["digest"]).len(), 65);
    shell.kv(&["rename", "a", "c"]);
    assert_eq!(shell.kv(&["list", "c"]), "/c/abc\n/c/b\n");
    shell.kv(&["allocate", "c/zeros", "2K"]);
    assert_eq!(shell.kv_with(&["get", "c/zeros"], b""), vec![0; 2048]);
    shell.fails(&["allocate", "c/zeros", "1"], b"", &["/c/zeros: exists already"]);
    assert_eq!(shell.json(&["list", "/", "--json"]), json!([{"key": "/c", "kind": "dictionary"}]));
    shell.kv_with(&["set", "binary"], &[0, 255]);
    assert_eq!(
        shell.json(&["get", "binary", "--json"]),
        json!({"key": "/binary", "base64": "AP8="})
    );
    assert_eq!(shell.json(&["get", "c/abc", "--json"]), json!({"key": "/c/abc", "value": "abc"}));
    shell.kv(&["remove", "c"]);
    assert_eq!(shell.kv(&["list"]), "/binary\n");
    shell.check();
}

#[test]
fn keys_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let shell = Shell::new();
    let odd = std::ffi::OsStr::from_bytes(b"d/\xff\n");
    let run = |command: &str| {
        Command::new(env!("CARGO_BIN_EXE_littlefs"))
            .args(["kv", "--json", &shell.image, command])
            .arg(odd)
            .stdin(Stdio::null())
            .output()
            .expect("run")
    };
    assert!(run("set").status.success());
    let found: Value = serde_json::from_slice(&run("get").stdout).expect("JSON");
    assert_eq!(found, json!({"key_base64": "L2Qv/wo=", "value": ""}));
    assert_eq!(shell.kv_with(&["list", "d"], b""), b"/d/\xff\n\n");
}

#[test]
fn times_are_told_and_kept() {
    let shell = Shell::new();
    let file_time = fs::metadata(&shell.image).and_then(|m| m.modified()).expect("a time");
    let seconds = file_time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    shell.run(&["kv", "--times", "chamelon", &shell.image, "set", "a", "1"], b"");
    let told = shell.json(&["last-modified", "a", "--json"]);
    let at = told["seconds"].as_u64().expect("seconds");
    assert!((seconds..seconds + 100).contains(&at), "{told}");
    let text = shell.kv(&["last-modified", "a"]);
    assert_eq!(text.trim_end(), told["last_modified"]);
    assert!(text.len() == 31 && text.starts_with("20") && text.ends_with("Z\n"), "{text}");
    // 4 bytes of days, 8 of picoseconds of the day
    let image = fs::read(&shell.image).expect("the image");
    let days = ((at / 86_400) as u32).to_le_bytes();
    assert!(image.windows(4).any(|w| w == days));
    shell.fails(&["--times", "sundial", "list"], b"", &["sundial", "chamelon"]);
}

#[test]
fn a_batch_is_read_from_standard_input() {
    let shell = Shell::new();
    shell.kv(&["set", "boot/failed", "yes"]);
    let batch = br#"
{"op": "set", "key": "boot/count", "value": "2"}
{"op": "set", "key": "bytes", "base64": "AP8="}
{"op": "set-partial", "key": "boot/count", "offset": 9, "value": "7"}
{"op": "allocate", "key": "zeros", "size": 3}
{"op": "rename", "key": "zeros", "to": "boot"}
{"op": "remove", "key": "boot/failed"}
"#;
    shell.kv_with(&["batch"], batch);
    assert_eq!(shell.kv(&["list", "boot"]), "/boot/count\n/boot/zeros\n");
    assert_eq!(shell.kv(&["get", "boot/count"]), "27");
    assert_eq!(shell.kv_with(&["get", "bytes"], b""), [0, 255]);
    let before = fs::read(&shell.image).expect("the image");
    let wrong = br#"{"op": "set", "key": "a", "value": "1"}
{"op": "set", "key": "boot", "value": "2"}"#;
    shell.fails(&["batch"], wrong, &["line 2", "/boot: is a dictionary, not a value"]);
    shell.fails(&["batch"], b"{\"op\": \"set\"}", &["line 1", "no \"key\""]);
    assert!(fs::read(&shell.image).expect("the image") == before, "nothing was changed");
    shell.check();
}

#[test]
fn errors_name_image_and_key() {
    let shell = Shell::new();
    shell.kv(&["set", "d/v", "1"]);
    for (args, words) in [
        (&["get", "d"][..], "/d: is a dictionary, not a value"),
        (&["list", "d/v"], "/d/v: is a value, not a dictionary"),
        (&["set", "d/v/x", "1"], "/d/v: is a value, not a dictionary"),
        (&["rename", "nothing", "x"], "/nothing: no such key"),
        (&["rename", "d", "d/e"], "/d: cannot be moved into itself, to /d/e"),
        (&["remove", "/"], "the top-level dictionary cannot be removed"),
        (&["get", "a/../b"], "'.' and '..' cannot be segments"),
        (&["allocate", "huge", "1G"], "/huge: no space left"),
        (&["set", ".kv-batch", "x"], "the store uses this name itself; choose another key"),
    ] {
        shell.fails(args, b"", &[words]);
    }
    let nothing = shell.run(&["kv", "/nowhere.img", "list"], b"");
    assert!(nothing.code == 1 && nothing.stderr.contains("/nowhere.img"), "{}", nothing.stderr);
    assert_eq!(shell.run(&["kv", &shell.image], b"").code, 1, "no command");
    let image = shell.dir.path().join("offset.img");
    let bytes = [vec![0xff; 8192], fs::read(&shell.image).expect("the image")].concat();
    fs::write(&image, bytes).expect("write");
    let image = image.to_str().expect("UTF-8");
    let found =
        shell.run(&["kv", "--offset", "8K", "--block-size", "4096", image, "get", "d/v"], b"");
    assert_eq!((found.code, &found.stdout[..]), (0, &b"1"[..]), "{}", found.stderr);
}

/// A command that only reads shares the image with other readers, and one that changes it does not.
#[test]
fn readers_share_an_image_and_writers_do_not() {
    let shell = Shell::new();
    shell.kv(&["set", "a", "1"]);
    let reader = shell.open(true);
    assert_eq!(shell.kv(&["get", "a"]), "1");
    shell.fails(&["set", "a", "2"], b"", &["in use"]);
    drop(reader);
    let writer = shell.open(false);
    shell.fails(&["get", "a"], b"", &["in use"]);
    drop(writer);
    // until no copy of the lock is left
    drop(shell.open(false));
    shell.kv(&["set", "a", "2"]);
}

/// However the steps of a change are synced, the next command sees the change.
#[test]
fn a_change_is_there_whatever_its_steps_wait_for() {
    let shell = Shell::new();
    for how in ["full", "ordered"] {
        shell.kv_with(&["--sync", how, "set", "a/b", how], b"");
        assert_eq!(shell.kv_with(&["get", "a/b"], b""), how.as_bytes());
        let batch = format!(r#"{{"op": "set", "key": "{how}/x", "value": "1"}}"#);
        shell.kv_with(&["batch", &format!("--sync={how}")], batch.as_bytes());
        assert_eq!(shell.kv_with(&["get", &format!("{how}/x")], b""), b"1");
    }
    let ran = shell.run(&["kv", "--sync", "never", &shell.image, "list"], b"");
    assert!(ran.code != 0 && ran.stderr.contains("ordered"), "{}", ran.stderr);
}
