//! A short self-test of speed, for bug reports: the same steps in an image and in a directory.
//!
//! Each step is repeated until it has taken long enough or was done often enough. Written content
//! is read back and compared. [`in_copy`] writes to a copy of an image, and [`in_directory`] writes
//! to a directory that it creates and removes.

mod copy;
mod directory;
mod environment;

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use copy::{in_copy, reading};
pub use directory::in_directory;
pub use environment::{Environment, filesystem_of};

/// After a step has taken this long, it is not repeated any more.
const STEP_TIME: Duration = Duration::from_millis(500);
/// How many small files are made.
const FILES: u64 = 100;
/// The size of a small file in bytes.
const SMALL: usize = 100;
/// The size of the large file in bytes, if there is space for it.
const LARGE: u64 = 4 << 20;
/// How many bytes are read or written at a time.
const PIECE: usize = 64 << 10;
/// How many bytes are overwritten at a time.
const PATCH: usize = 4 << 10;

/// How long one step took.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// How often it was done.
    pub operations: u64,
    /// How many bytes of content were read or written.
    pub bytes: u64,
    /// How long all repetitions took together.
    pub seconds: f64,
}

impl Step {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9)
    }

    /// Bytes per second.
    pub fn throughput(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-9)
    }
}

/// A function that is called between operations. If it returns an error, the self-test ends and
/// removes what it has made.
pub type Interrupt<'a> = &'a dyn Fn() -> io::Result<()>;

/// Where files are made: an image, or a directory of the system. Names refer to files in the one
/// directory that the self-test makes.
trait Place {
    /// Make a file, or replace its whole content, and make that durable.
    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Make a large file that consists of `pieces` copies of `piece`, written one by one, and make
    /// it durable.
    fn put_large(&mut self, name: &str, pieces: u64, piece: &[u8]) -> io::Result<()>;
    /// Overwrite a part of a file, and make that durable.
    fn patch(&mut self, name: &str, at: u64, content: &[u8]) -> io::Result<()>;
    /// Read from position `at` of a file into `buf`, as far as there is content. Returns the number
    /// of bytes.
    fn get(&mut self, name: &str, at: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// The number of entries.
    fn list(&mut self) -> io::Result<u64>;
    /// Rename a file.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Remove a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Make everything durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Measures the time of steps.
struct Watch<'a> {
    steps: Vec<Step>,
    interrupt: Interrupt<'a>,
}

impl Watch<'_> {
    /// Do something up to `most` times, until it has taken long enough or there is no more space.
    /// `act` returns how many bytes it has read or written. Returns how often it was done.
    fn step(
        &mut self,
        name: &'static str,
        most: u64,
        mut act: impl FnMut(u64) -> io::Result<u64>,
    ) -> io::Result<u64> {
        let (mut operations, mut bytes) = (0, 0);
        let start = Instant::now();
        while operations < most && (operations == 0 || start.elapsed() < STEP_TIME) {
            (self.interrupt)()?;
            match act(operations) {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                moved => bytes += moved?,
            }
            operations += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        if operations > 0 {
            self.steps.push(Step { name, operations, bytes, seconds });
        }
        Ok(operations)
    }
}

/// Do all steps in a place with `free` bytes of free space. Steps for which there is no space are
/// left out.
fn run(place: &mut dyn Place, free: u64, watch: &mut Watch<'_>) -> io::Result<()> {
    small_files(place, watch)?;
    large_file(place, free, watch)?;
    watch.step("sync", 1, |_| place.sync().map(|()| 0))?;
    Ok(())
}

fn small_files(place: &mut dyn Place, watch: &mut Watch<'_>) -> io::Result<()> {
    let content = |n: u64| (0..SMALL).map(|i| (i as u64 * 7 + n) as u8).collect::<Vec<u8>>();
    let name = |n: u64| format!("small-{n}");
    let made = watch.step("create and sync", FILES, |n| {
        place.put(&name(n), &content(n))?;
        Ok(SMALL as u64)
    })?;
    watch.step("list", FILES.min(made), |_| {
        // a file that did not fit may be listed, too
        let listed = place.list()?;
        if listed == made || listed == made + 1 { Ok(0) } else { Err(wrong("the directory")) }
    })?;
    watch.step("read small files", made, |n| {
        let mut buf = [0; SMALL + 1];
        let read = place.get(&name(n), 0, &mut buf)?;
        same(&name(n), buf.get(..read), &content(n))
    })?;
    let renamed = |n: u64| format!("renamed-{n}");
    let moved = watch.step("rename", made, |n| place.rename(&name(n), &renamed(n)).map(|()| 0))?;
    watch.step("remove", moved, |n| place.remove(&renamed(n)).map(|()| 0))?;
    Ok(())
}

fn large_file(place: &mut dyn Place, free: u64, watch: &mut Watch<'_>) -> io::Result<()> {
    let piece: Vec<u8> = (0..PIECE).map(|i| (i / 251 + i) as u8).collect();
    let pieces = (LARGE.min(free / 8) / PIECE as u64).max(1);
    let size = pieces * PIECE as u64;
    let written = watch.step("write and sync", 1, |_| {
        place.put_large("large", pieces, &piece)?;
        Ok(size)
    })?;
    let mut buf = vec![0; PIECE];
    watch.step("read", written * pieces * 16, |n| {
        let read = place.get("large", n % pieces * PIECE as u64, &mut buf)?;
        same("large", buf.get(..read), &piece)
    })?;
    let patch = vec![b'p'; PATCH];
    watch.step("overwrite and sync", written * FILES, |n| {
        // the positions are spread over the whole file
        place.patch("large", n * 7919 * PATCH as u64 % (size - PATCH as u64), &patch)?;
        Ok(PATCH as u64)
    })?;
    Ok(())
}

fn same(name: &str, read: Option<&[u8]>, written: &[u8]) -> io::Result<u64> {
    match read {
        Some(read) if read == written => Ok(read.len() as u64),
        _ => Err(wrong(name)),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("{what} does not hold what was written: please report this"))
}
