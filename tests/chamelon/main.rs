//! Images of chamelon's dialect: they are read as chamelon reads them, told apart from littlefs,
//! checked, and converted.

mod commands;
mod converting;
mod reading;
mod recognition;
mod verdicts;

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::chamelon::{recognise, show};
use littlefs::disk::{Superblock, superblock};
use littlefs::fs::Fs;
use testkit::chamelon::Chamelon;
use testkit::ours::{open_view, tree_of};
use testkit::tree::{Entry, Tree};

/// The type of the attribute with the time of a value.
const TIME: u8 = 0x74;

fn superblock_of(image: &[u8]) -> Superblock {
    superblock::probe(image).expect("a superblock").0
}

fn device(image: &[u8]) -> Arc<dyn BlockDevice> {
    let sb = superblock_of(image);
    let geometry = Geometry::new(sb.block_size, sb.block_count).expect("possible");
    Arc::new(RamDevice::from_image(geometry, image.to_vec()))
}

fn is_recognised(image: &[u8]) -> bool {
    recognise(&*device(image), &superblock_of(image))
}

/// An image, opened in the way in which it is shown.
fn shown(image: &[u8]) -> Fs {
    open_view(show(device(image), superblock_of(image)).expect("a view"))
}

/// An image as it is shown, without times.
fn tree(image: &[u8]) -> Tree {
    let mut tree = tree_of(&mut shown(image)).expect("readable");
    for (path, entry) in &mut tree {
        let time = entry.attrs.remove(&TIME);
        assert_eq!(time.is_some(), !entry.is_dir(), "time of {}", path.escape_ascii());
    }
    tree
}

/// Bytes that are different for each value.
fn value(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The first result of `attempt`. It is tried again as long as there is none, because a program
/// that another test starts may hold a copy of a lock for a moment.
fn once_free<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(result) = attempt() {
            return result;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain for a lock");
}

/// The result of a command, once nobody else holds a lock on the image.
fn output(command: &mut Command) -> Output {
    once_free(|| {
        let out = command.env_remove("RUST_LOG").output().expect("starts");
        let in_use = String::from_utf8_lossy(&out.stderr).contains(": in use by ");
        (!in_use).then_some(out)
    })
}

/// An image and what it should hold.
struct Store {
    chamelon: Chamelon,
    model: Tree,
}

impl Store {
    fn new(block_size: usize, block_count: u32, prog_size: usize) -> Self {
        let chamelon = Chamelon::format(block_size, block_count, prog_size);
        Self { chamelon, model: Tree::from([(Vec::new(), Entry::dir())]) }
    }

    fn mkdir(&mut self, path: &str) {
        self.chamelon.mkdir(path);
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            self.model.entry(path[..end].into()).or_insert_with(Entry::dir);
        }
    }

    fn set(&mut self, path: &str, data: Vec<u8>) {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.mkdir(dir);
        }
        self.chamelon.set(path, &data);
        self.model.insert(path.into(), Entry::file(data));
    }

    fn remove(&mut self, path: &str) {
        self.chamelon.remove(path);
        let below = format!("{path}/").into_bytes();
        self.model.retain(|p, _| p != path.as_bytes() && !p.starts_with(&below));
    }

    /// The image is recognised, and shown as it should be.
    fn verify(&self) {
        let image = &self.chamelon.image;
        assert!(is_recognised(image), "not recognised");
        testkit::tree::diff("shown", &tree(image), "stored", &self.model).unwrap();
    }
}

/// An image with flat and deep directories, of one pair and of several, with removed and replaced
/// values, and with small values and a large one.
fn varied(block_size: usize, block_count: u32, prog_size: usize) -> Store {
    let mut s = Store::new(block_size, block_count, prog_size);
    for (i, dir) in ["a", "a/b", "a/b/c", "a/b/c/d", "e", "f"].into_iter().enumerate() {
        s.mkdir(dir);
        s.set(&format!("{dir}/v{i}"), value(i, 9 * i));
    }
    for i in 0..4 {
        s.set(&format!("e/{i}"), value(i, 3));
    }
    for i in [0, 3] {
        s.remove(&format!("e/{i}"));
    }
    for i in [1, 3] {
        s.set(&format!("e/{i}"), value(i + 20, 5));
    }
    s.remove("f");
    s.set("flat", value(7, block_size / 8));
    s.set("large", value(8, 6 * block_size));
    // where a directory has several pairs chamelon can replace, and not remove
    s.set("flat", value(9, (block_size / 4).min(1022)));
    for i in 0..if block_size < 1000 { 30 } else { 5 } {
        s.set(&format!("a/b/{i}"), value(i, 20));
    }
    s
}
