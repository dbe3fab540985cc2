//! Directories of the host from which images are made, and images made from them in memory.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::transfer::{
    Created, Creation, Failure, Gather, GatherError, Input, Links, Manifest, Patterns, Size,
    create_in, gather,
};
use littlefs::{FormatOptions, Littlefs};
use tempfile::TempDir;

use testkit::tree::{Entry, Tree, join};

/// Bytes that are different for each file.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

/// A directory of the host.
pub struct Host {
    dir: TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Make a file, and the directories that contain it.
    pub fn file(&self, path: &str, content: &[u8]) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
        self
    }

    pub fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.at(path)).expect("a directory");
        self
    }

    /// The content of the directory. Links and special files are left out.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
        let mut todo = vec![(self.path().to_owned(), Vec::new())];
        while let Some((dir, path)) = todo.pop() {
            for entry in fs::read_dir(dir).expect("a directory") {
                let entry = entry.expect("an entry");
                let path = join(&path, entry.file_name().as_encoded_bytes());
                if entry.file_type().expect("a type").is_dir() {
                    tree.insert(path.clone(), Entry::dir());
                    todo.push((entry.path(), path));
                } else {
                    tree.insert(path, Entry::file(fs::read(entry.path()).expect("content")));
                }
            }
        }
        tree
    }

    /// Many entries of many sizes: names that are prefixes of each other, empty and large files,
    /// empty and deep directories, and enough names in one directory that it must be split.
    pub fn varied() -> Self {
        let host = Self::new();
        for (i, len) in [0, 1, 8, 63, 64, 65, 100, 127, 500, 4000, 4096, 4097, 9000, 70_000]
            .into_iter()
            .enumerate()
        {
            host.file(&format!("sizes/{len}"), &pattern(len, i as u8));
        }
        for i in 0..150 {
            host.file(&format!("many/{}", "x".repeat(1 + i % 20) + &i.to_string()), b"small");
        }
        for name in ["a", "ab", "abc", "abcd", "b"] {
            host.file(&format!("prefixes/{name}"), name.as_bytes());
        }
        host.dir("empty").dir("deep/er/and/deeper").file("deep/er/and/deeper/file", b"there");
        host
    }
}

pub fn how() -> Gather {
    Gather { exclude: Patterns::default(), links: Links::Follow, owner: None, latest: None }
}

pub fn manifest(paths: &[&Path], how: &Gather) -> Result<Manifest, GatherError> {
    gather(paths.iter().map(|path| Input::Path(path.to_path_buf())).collect(), how)
}

/// An image built in a file without a name.
pub fn build(
    manifest: &Manifest,
    format: FormatOptions,
    size: Size,
) -> Result<(Vec<u8>, Created), Failure> {
    let file = tempfile::tempfile().expect("a temporary file");
    let how = Creation::new(format, size);
    let created = create_in(&file, 0, manifest, &how, &|_| ())?;
    Ok((bytes(file), created))
}

pub fn bytes(mut file: File) -> Vec<u8> {
    use std::io::Seek;
    file.rewind().expect("a rewind");
    let mut image = Vec::new();
    file.read_to_end(&mut image).expect("an image");
    image
}

/// An image in memory, opened.
pub fn open(image: Vec<u8>, geometry: Geometry) -> Littlefs {
    Littlefs::open_device(Arc::new(RamDevice::from_image(geometry, image))).expect("an image")
}
