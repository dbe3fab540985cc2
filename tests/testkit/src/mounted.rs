//! A mount that ends with the test, and ways to look at it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::clfs::{CLfs, Config};
use crate::tree::{Entry, Tree, diff, join};

/// Bytes per block of these images.
pub const BLOCK_SIZE: u32 = 4096;
/// The longest time to wait for something in the background.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, without environment variables that would change its behaviour.
pub fn littlefs() -> Command {
    let mut command = Command::new(crate::program());
    command.env_remove("RUST_LOG");
    command
}

/// Run a command, which must succeed. Returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Run a command, whether it succeeds or not.
pub fn output(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(e) => panic!("{:?} is needed by the tests: {e}", command.get_program()),
    }
}

/// Run a shell script as root, which must succeed; `$1` and so on are `args`. A user other than
/// root needs sudo without a password.
pub fn as_root(script: &str, args: &[&Path]) -> String {
    let script = format!("set -eu\n{script}");
    let mut shell = Command::new("sh");
    if !is_root() {
        shell = Command::new("sudo");
        shell.args(["-n", "sh"]);
    }
    run(shell.arg("-c").arg(script).arg("sh").args(args))
}

/// The beginning of scripts that run in their own mount namespace: it unmounts the mounts of other
/// tests, which would otherwise stay in the namespace.
pub const ALONE: &str = r#"
    grep ' - fuse.littlefs ' /proc/self/mountinfo | cut -d ' ' -f 5 | while read -r other; do
        umount -i -l "$other" || true
    done
"#;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    run(Command::new("id").arg("-u")) == "0\n"
}

/// Run a shell script in `dir`, which must succeed; `$1` and so on are `args`.
pub fn sh(dir: &Path, script: &str, args: &[&Path]) -> String {
    let script = format!("set -eu\n{script}");
    run(Command::new("sh").arg("-c").arg(script).arg("sh").args(args).current_dir(dir))
}

/// Run a Python script in `dir`, which must succeed. This is for system calls that the Rust library
/// does not have.
pub fn python(dir: &Path, script: &str) -> String {
    run(Command::new("python3").arg("-c").arg(script).current_dir(dir))
}

/// Wait until `done` returns true. This panics with `what` if it never does.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image that is mounted on a directory. Both are temporary. Dropping this unmounts.
pub struct Mounted {
    scratch: TempDir,
    options: String,
    mounted: bool,
}

impl Mounted {
    /// A new image of `size`, as mkfs reads it, mounted.
    pub fn new(size: &str) -> Self {
        Self::with_options(size, "rw")
    }

    /// Like [`Mounted::new`], with mount options.
    pub fn with_options(size: &str, options: &str) -> Self {
        let mut this = Self::unmounted(size);
        this.mount(options);
        this
    }

    /// A new image that is not mounted.
    pub fn unmounted(size: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory should be made");
        fs::create_dir(scratch.path().join("mnt")).expect("mkdir should succeed");
        let this = Self { scratch, options: String::new(), mounted: false };
        run(littlefs().args(["mkfs", "--size", size]).arg(this.image()));
        this
    }

    pub fn mount(&mut self, options: &str) {
        run(littlefs().args(["mount", "-o", options]).arg(self.image()).arg(self.dir()));
        self.mounted = true;
        options.clone_into(&mut self.options);
    }

    /// Note that it was mounted in another way.
    pub fn adopt(&mut self, options: &str) {
        self.mounted = true;
        options.clone_into(&mut self.options);
    }

    pub fn unmount(&mut self) {
        // A program that another test starts just now may hold a copy of an open file until it
        // runs.
        let mut kept_alive = false;
        wait_until("the mount to be unused", || {
            let out = output(littlefs().arg("umount").arg(self.dir()));
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() || said.contains("busy"), "{said}");
            kept_alive = said.contains("another mount namespace");
            out.status.success()
        });
        // By another test's namespace, which was made just now; see `ALONE`.
        if kept_alive {
            wait_until("the image's lock", || self.is_free());
        }
        self.mounted = false;
    }

    /// Unmount and mount again.
    pub fn remount(&mut self) {
        self.unmount();
        let options = self.options.clone();
        self.mount(&options);
    }

    /// Note that the mount has ended, or will end, in another way.
    pub fn unmounted_elsewhere(&mut self) {
        self.mounted = false;
        wait_until("the mount to disappear", || !is_mounted(&self.dir()));
        wait_until("the image's lock", || self.is_free());
    }

    /// The directory of the mount.
    pub fn dir(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The image.
    pub fn image(&self) -> PathBuf {
        self.scratch.path().join("image")
    }

    /// A path beside the mount, in the filesystem of the host.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Whether nobody holds a lock on the image.
    pub fn is_free(&self) -> bool {
        let image = fs::File::open(self.image()).expect("the image should open");
        image.try_lock().is_ok()
    }

    /// The process id of the daemon.
    pub fn daemon(&self) -> String {
        let pattern = format!("mount .*{}", self.image().display());
        run(Command::new("pgrep").args(["-f", &pattern])).trim().to_owned()
    }

    /// Unmount. The image must be sound, and C littlefs must find in it what the mount has shown.
    pub fn finish(mut self) {
        let shown = walk(&self.dir());
        self.unmount();
        self.compare(&shown);
    }

    /// Check that the unmounted image is sound and has this content.
    pub fn compare(&self, shown: &Tree) {
        run(littlefs().arg("check").arg(self.image()));
        let held = c_tree(&self.image());
        if let Err(differences) = diff("the mount", shown, "C littlefs", &held) {
            panic!("the image differs from what the mount showed:\n{differences}");
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted && is_mounted(&self.dir()) {
            // A failed test may have left it busy.
            let _ = Command::new("fusermount3").arg("-uz").arg(self.dir()).status();
        }
    }
}

/// Whether something is mounted on `dir`.
pub fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table should open");
    let dir = dir.to_str().expect("temporary directories have simple names");
    table.lines().any(|line| line.split(' ').nth(4) == Some(dir))
}

/// What C littlefs reads from an image.
pub fn c_tree(image: &Path) -> Tree {
    let bytes = fs::read(image).expect("the image should be readable");
    let blocks = bytes.len() as u32 / BLOCK_SIZE;
    let config = Config::new(BLOCK_SIZE, blocks, 16);
    let mut c = CLfs::mount(bytes, &config).expect("C littlefs should mount the image");
    c.tree(&[]).expect("C littlefs should read everything")
}

/// Everything below a directory.
pub fn walk(dir: &Path) -> Tree {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    let mut todo = vec![(dir.to_owned(), Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("a directory should be readable") {
            let entry = entry.expect("an entry should be readable");
            let path = join(&path, entry.file_name().as_bytes());
            let kind = if entry.file_type().expect("an entry has a type").is_dir() {
                todo.push((entry.path(), path.clone()));
                Entry::dir()
            } else {
                Entry::file(fs::read(entry.path()).expect("a file should be readable"))
            };
            assert!(tree.insert(path, kind).is_none(), "an entry was listed twice");
        }
    }
    tree
}

/// Bytes that look random and are the same at each call.
pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..len).map(|_| next()).collect()
}
