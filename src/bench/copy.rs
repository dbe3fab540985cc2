//! Steps in an image: reading it, and writing to a copy.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use super::{Interrupt, Place, STEP_TIME, Step, Watch, run};
use crate::bd::{BlockDevice, FileDevice};
use crate::inspect::survey::Survey;
use crate::{FileOptions, Littlefs};

/// The name of the directory that is made in the copy.
const DIRECTORY: &str = "littlefs-bench";
/// How many bytes are read at a time.
const CHUNK: usize = 256 << 10;

/// Open an image with `open`, walk over its tree, and read its files. Nothing is written.
///
/// # Errors
/// If the image cannot be opened or read.
pub fn reading(
    open: &dyn Fn() -> io::Result<Littlefs>,
    interrupt: Interrupt<'_>,
) -> io::Result<Vec<Step>> {
    let mut watch = Watch { steps: Vec::new(), interrupt };
    let mut opened = None;
    watch.step("open", 20, |_| {
        opened = Some(open()?);
        Ok(0)
    })?;
    let Some(image) = opened else { return Ok(watch.steps) };
    watch.steps.push(walk(&image)?);
    watch.steps.push(read(&image)?);
    Ok(watch.steps)
}

fn walk(image: &Littlefs) -> io::Result<Step> {
    let start = Instant::now();
    let mut operations = 0;
    for entry in image.walk("/")? {
        entry.map_err(io::Error::other)?;
        operations += 1;
    }
    Ok(Step { name: "walk the tree", operations, bytes: 0, seconds: start.elapsed().as_secs_f64() })
}

/// Read files until the step has taken long enough.
fn read(image: &Littlefs) -> io::Result<Step> {
    let (start, mut operations, mut bytes) = (Instant::now(), 0, 0);
    let mut buf = vec![0; CHUNK];
    'files: for entry in image.walk("/")? {
        let entry = entry.map_err(io::Error::other)?;
        if !entry.metadata().is_file() {
            continue;
        }
        let file = image.open_file(entry.path())?;
        operations += 1;
        let mut at = 0;
        while at < file.len() {
            let read = file.read_at(&mut buf, at)? as u64;
            if read == 0 {
                break;
            }
            at += read;
            bytes += read;
            if start.elapsed() > STEP_TIME * 2 {
                break 'files;
            }
        }
    }
    Ok(Step { name: "read files", operations, bytes, seconds: start.elapsed().as_secs_f64() })
}

/// Do all steps in a copy of the filesystem on `dev`, which is a temporary file.
///
/// # Errors
/// If the copy cannot be made, if a step fails, or if what is read differs from what was written.
pub fn in_copy(dev: &dyn BlockDevice, interrupt: Interrupt<'_>) -> io::Result<Vec<Step>> {
    let file = copy(dev, interrupt)?;
    let device = Arc::new(FileDevice::new(file, 0, dev.geometry()));
    let image = Littlefs::open_device(device)?;
    let usage = image.usage()?;
    let free = u64::from(usage.blocks_free) * u64::from(usage.block_size);
    image.create_dir(DIRECTORY)?;
    let mut watch = Watch { steps: Vec::new(), interrupt };
    run(&mut Image(&image), free, &mut watch)?;
    Ok(watch.steps)
}

/// Copy the blocks that are in use. The others become holes.
fn copy(dev: &dyn BlockDevice, interrupt: Interrupt<'_>) -> io::Result<File> {
    let geometry = dev.geometry();
    let survey = Survey::new(dev);
    let file = tempfile::tempfile()?;
    file.set_len(geometry.size())?;
    let mut bytes = vec![0; geometry.block_size as usize];
    for block in (0..geometry.block_count).filter(|&block| survey.use_of(block).is_some()) {
        interrupt()?;
        dev.read(block, 0, &mut bytes).map_err(|e| e.source)?;
        file.write_all_at(&bytes, u64::from(block) * u64::from(geometry.block_size))?;
    }
    Ok(file)
}

struct Image<'a>(&'a Littlefs);

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

impl Place for Image<'_> {
    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let file = self.0.create_file(path(name))?;
        file.write_at(content, 0)?;
        Ok(file.sync_all()?)
    }

    fn put_large(&mut self, name: &str, pieces: u64, piece: &[u8]) -> io::Result<()> {
        let file = self.0.create_file(path(name))?;
        for n in 0..pieces {
            file.write_at(piece, n * piece.len() as u64)?;
        }
        Ok(file.sync_all()?)
    }

    fn patch(&mut self, name: &str, at: u64, content: &[u8]) -> io::Result<()> {
        let file = FileOptions::new().write(true).open(self.0, path(name))?;
        file.write_at(content, at)?;
        Ok(file.sync_all()?)
    }

    fn get(&mut self, name: &str, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.open_file(path(name))?.read_at(buf, at)?)
    }

    fn list(&mut self) -> io::Result<u64> {
        let entries = self.0.read_dir(DIRECTORY)?;
        entries.into_iter().try_fold(0, |count, entry| entry.map(|_| count + 1)).map_err(Into::into)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        Ok(self.0.rename(path(from), path(to))?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        Ok(self.0.remove_file(path(name))?)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(self.0.flush()?)
    }
}
