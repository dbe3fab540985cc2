//! A directory to work in, with the program.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal should end it"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).expect("JSON")
    }
}

/// The directory in which the program runs.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A desk with a directory `data`, and with the image `new.img` that was made from it.
    pub fn with_image() -> Self {
        let desk = Self::new();
        desk.file("data/etc/config.txt", b"colour = blue\n")
            .file("data/www/index.html", b"<title>x</title>")
            .file("data/www/js/app.js", &[b'j'; 9000])
            .file("data/www/.hidden", b"")
            .dir("data/empty");
        desk.ok(&["create", "-q", "--size", "256K", "new.img", "data"]);
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
        self
    }

    pub fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.path(name)).expect("a directory");
        self
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The names in a directory, sorted.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).expect("a directory");
        let name = |e: fs::DirEntry| e.file_name().into_string().expect("UTF-8");
        let mut names: Vec<String> = entries.map(|e| name(e.expect("an entry"))).collect();
        names.sort();
        names
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::program());
        command.args(args).current_dir(self.0.path());
        command.env_remove("RUST_LOG").env_remove("SOURCE_DATE_EPOCH").env("TZ", "UTC");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).stdin(Stdio::null()).output().expect("the program should start"))
    }

    /// Run it with these bytes on standard input.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program should start");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // it may have had enough before the end
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("an end");
        feeder.join().expect("the feeder");
        Ran::of(output)
    }

    /// Run it, expecting success.
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran
    }

    /// Run it. It must fail with this exit code, and standard error must contain all of these
    /// words.
    pub fn fails(&self, args: &[&str], code: i32, words: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?}: no {word:?} in {}", ran.stderr);
        }
        ran
    }

    /// Check that the image is sound.
    pub fn check(&self, image: &str) {
        self.ok(&["check", image]);
    }
}

/// A tar stream of a directory, made by tar(1).
pub fn tar_of(dir: &Path) -> Vec<u8> {
    let out = Command::new("tar").arg("-C").arg(dir).args(["-cf", "-", "."]).output();
    let out = out.expect("tar");
    assert!(out.status.success());
    out.stdout
}
