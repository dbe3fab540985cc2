//! Images of littlefs version 1: they are read as their driver reads them, checked, and converted.

mod commands;
mod converting;
mod creating;
mod inspecting;
mod reading;
mod verdicts;

use std::process::Command;
use std::sync::Arc;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::disk::Superblock;
use littlefs::fs::Fs;
use littlefs::v1::show;
use testkit::ours::{open_view, tree_of};
use testkit::tree::{Entry, Tree};
use testkit::v1::V1;

/// The superblock that the program finds in an image.
fn superblock_of(image: &[u8]) -> Superblock {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), image).expect("written");
    let options = littlefs::image::Options { read_only: true, ..Default::default() };
    let opened = littlefs::image::open(file.path(), &options).expect("opens");
    opened.superblock
}

fn device(image: &[u8]) -> Arc<dyn BlockDevice> {
    let sb = superblock_of(image);
    let geometry = Geometry::new(sb.block_size, sb.block_count).expect("possible");
    Arc::new(RamDevice::from_image(geometry, image.to_vec()))
}

/// An image, opened in the way in which it is shown.
fn shown(image: &[u8]) -> Fs {
    open_view(show(device(image), superblock_of(image)).expect("a view"))
}

fn tree(image: &[u8]) -> Tree {
    tree_of(&mut shown(image)).expect("readable")
}

/// Bytes that are different for each file.
fn content(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A tree that is being made.
struct Model(Tree);

impl Model {
    fn new() -> Self {
        Self(Tree::from([(Vec::new(), Entry::dir())]))
    }

    fn dir(&mut self, path: &str) -> &mut Self {
        self.0.insert(path.into(), Entry::dir());
        self
    }

    fn file(&mut self, path: &str, bytes: Vec<u8>) -> &mut Self {
        self.0.insert(path.into(), Entry::file(bytes));
        self
    }
}

/// Flat and deep directories, of one pair and of several, empty, small and large files.
fn varied(block_size: u32) -> Tree {
    let mut model = Model::new();
    for (i, dir) in ["a", "a/b", "a/b/c", "a/b/c/d", "e", "empty"].into_iter().enumerate() {
        model.dir(dir);
        if i < 5 {
            model.file(&format!("{dir}/file{i}"), content(i, 37 * i));
        }
    }
    for i in 0..40 {
        model.file(&format!("e/number-{i}"), content(i, i % 7));
    }
    model.file("large", content(8, 9 * block_size as usize + 5));
    model.file("exact", content(9, block_size as usize));
    model.0
}

/// An image with the tree of `varied`.
fn sample(block_size: u32) -> V1 {
    V1::of(block_size, 200, &varied(block_size))
}

fn same(what: &str, image: &[u8], model: &Tree) {
    testkit::tree::diff(what, &tree(image), "stored", model).unwrap();
}

/// Exit code, standard output and standard error.
fn littlefs(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    let out = command.args(args).env_remove("RUST_LOG").output().expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (out.status.code().expect("no signal"), text(out.stdout), text(out.stderr))
}

/// A directory of its own, with an image in it.
fn file(image: &[u8]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("old.img");
    std::fs::write(&path, image).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (dir, path)
}
