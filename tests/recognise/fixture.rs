//! Images made by the C driver, files that contain them, and how these open.

use std::path::Path;
use std::process::Command;

use littlefs::disk::crc;
use littlefs::image::{self, OpenError, Opened, Options, Place};

use testkit::clfs::{CLfs, Config};

/// A small device whose images are made quickly.
pub fn small() -> Config {
    Config::new(512, 64, 16)
}

/// A flash chip like those of the ESP32.
pub fn flash() -> Config {
    Config::new(4096, 32, 128)
}

/// Directories, small files and large ones: this tree shows where its filesystem starts.
pub fn with_tree(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format");
    c.mkdir(b"dir").expect("mkdir");
    c.write_file(b"dir/inside", b"content").expect("write");
    let large = vec![0x33; 5 * config.block_size as usize];
    c.write_file(b"large", &large).expect("write");
    c.unmount()
}

/// One list of blocks and no directory.
pub fn with_list(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format");
    c.write_file(b"large", &vec![0x33; 5 * config.block_size as usize]).expect("write");
    c.unmount()
}

/// Small files in the root: only the superblocks show where this filesystem starts.
pub fn without_tree(config: &Config) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("format");
    c.write_file(b"small", b"content").expect("write");
    c.unmount()
}

/// Open a file with these bytes, and check that this has changed nothing in it.
pub fn open(bytes: &[u8], options: &Options) -> Result<Opened, OpenError> {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), bytes).expect("write");
    let opened = image::open(file.path(), options);
    assert!(std::fs::read(file.path()).expect("read") == bytes, "opening changed the file");
    opened
}

pub fn open_at(bytes: &[u8], offset: u64) -> Result<Opened, OpenError> {
    open(bytes, &Options { place: Place::At(offset), ..Options::default() })
}

/// The message of a refusal.
pub fn refusal(bytes: &[u8]) -> String {
    match open_at(bytes, 0) {
        Ok(_) => panic!("it opened"),
        Err(e) => e.to_string(),
    }
}

/// Exit code, standard output and standard error of `littlefs`.
pub fn littlefs(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    let output = command.args(args).env_remove("RUST_LOG").output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

/// A file with these bytes, in a directory of its own.
pub fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("write");
    let path = path.to_str().expect("UTF-8").to_owned();
    (dir, path)
}

pub fn read(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(path)).expect("read")
}

/// The block of a superblock in version 1 (SPEC.md of version 1).
pub fn version1_block(rev: u32, block_size: u32, block_count: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for word in [rev, 52, 2, 3] {
        block.extend(word.to_le_bytes());
    }
    block.extend([0x2e, 20, 0, 8]);
    for word in [2, 3, block_size, block_count, 0x0001_0001_u32] {
        block.extend(word.to_le_bytes());
    }
    block.extend(b"littlefs");
    block.extend(crc::crc(crc::SEED, &block).to_le_bytes());
    block.resize(block_size as usize, 0xff);
    block
}

/// An empty image of version 1.
pub fn version1(block_size: u32, block_count: u32) -> Vec<u8> {
    let mut image = version1_block(2, block_size, block_count);
    image.extend(version1_block(1, block_size, block_count));
    let mut root: Vec<u8> =
        [1, 20, u32::MAX, u32::MAX].into_iter().flat_map(u32::to_le_bytes).collect();
    root.extend(crc::crc(crc::SEED, &root).to_le_bytes());
    image.extend(root);
    image.resize((block_size * block_count) as usize, 0xff);
    image
}
