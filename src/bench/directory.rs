//! Steps in a directory of the system, which may be in a mounted image.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Interrupt, Place, Step, Watch, run};

/// Do all steps in a new directory inside `dir`, which is removed afterwards.
///
/// # Errors
/// The errors of the system, and if what is read differs from what was written.
pub fn in_directory(dir: &Path, interrupt: Interrupt<'_>) -> io::Result<Vec<Step>> {
    let free = rustix::fs::statvfs(dir)?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let path = dir.join(format!("littlefs-bench-{}", std::process::id()));
    // an existing directory of this name belongs to somebody else
    fs::create_dir(&path)?;
    let mut watch = Watch { steps: Vec::new(), interrupt };
    let done = run(&mut Directory(path.clone()), free, &mut watch);
    let removed = fs::remove_dir_all(&path);
    done?;
    removed?;
    Ok(watch.steps)
}

struct Directory(PathBuf);

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Place for Directory {
    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.path(name))?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn put_large(&mut self, name: &str, pieces: u64, piece: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.path(name))?;
        for _ in 0..pieces {
            file.write_all(piece)?;
        }
        file.sync_all()
    }

    fn patch(&mut self, name: &str, at: u64, content: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.write_all_at(content, at)?;
        file.sync_all()
    }

    fn get(&mut self, name: &str, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        crate::bd::file::read_up_to(&File::open(self.path(name))?, at, buf)
    }

    fn list(&mut self) -> io::Result<u64> {
        fs::read_dir(&self.0)?.try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&mut self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
