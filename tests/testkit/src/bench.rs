//! What the benchmark programs share.

use std::fs::File;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use littlefs::bd::{BlockDevice, FileDevice, Geometry, IoResult};
use littlefs::fs::{FormatOptions, Fs, OpenOptions};

/// Bytes per block, everywhere.
pub const BLOCK_SIZE: u32 = 4096;

/// Whether this is a benchmark run. `cargo test --all-targets` builds and starts these programs,
/// too; then they must do nothing.
pub fn is_asked_for() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Whether the part `name` must run: the arguments name this part, or no part at all.
pub fn wants(name: &str) -> bool {
    let mut parts = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    parts.peek().is_none() || parts.any(|part| part == name)
}

/// Where images are made: `BENCH_DIR`, or the system's temporary directory.
pub fn dir() -> PathBuf {
    std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A file device that counts its reads.
pub struct Counted {
    dev: FileDevice,
    reads: AtomicU64,
}

impl Counted {
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl BlockDevice for Counted {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }
    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.dev.read(block, off, buf)
    }
    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.dev.prog(block, off, data)
    }
    fn erase(&self, block: u32) -> IoResult<()> {
        self.dev.erase(block)
    }
    fn rewrite(&self, block: u32, data: &[u8]) -> IoResult<()> {
        self.dev.rewrite(block, data)
    }
    fn barrier(&self) -> IoResult<()> {
        self.dev.barrier()
    }
    fn sync(&self) -> IoResult<()> {
        self.dev.sync()
    }
}

/// An image in a sparse file without a name.
pub struct Image {
    file: File,
    geometry: Geometry,
}

impl Image {
    /// Make and format an image of `block_count` blocks.
    pub fn format(block_count: u32) -> Self {
        let geometry = Geometry::new(BLOCK_SIZE, block_count).expect("geometry");
        let file = tempfile::tempfile_in(dir()).expect("temporary file");
        file.set_len(geometry.size()).expect("set_len");
        let image = Self { file, geometry };
        Fs::format(&*image.device(), &FormatOptions::default()).expect("format");
        image
    }

    /// A device on the image.
    pub fn device(&self) -> Arc<Counted> {
        let file = self.file.try_clone().expect("clone of the file");
        let dev = FileDevice::new(file, 0, self.geometry);
        Arc::new(Counted { dev, reads: AtomicU64::new(0) })
    }

    /// Open the filesystem. Files of up to 512 bytes are inline.
    pub fn open(&self) -> Fs {
        Fs::open(self.device(), &options()).expect("open")
    }

    /// Make the kernel drop the file from the page cache.
    pub fn drop_cache(&self) {
        self.file.sync_all().expect("sync");
        let done = Command::new("dd")
            .args(["oflag=nocache", "conv=notrunc", "count=0", "status=none"])
            .stdin(Stdio::null())
            .stdout(self.file.try_clone().expect("clone of the file"))
            .status()
            .expect("dd");
        assert!(done.success(), "dd could not drop the file's pages");
    }
}

/// Options with which files of up to an eighth of a block are inline.
pub fn options() -> OpenOptions {
    OpenOptions { inline_max: Some(BLOCK_SIZE / 8), ..OpenOptions::default() }
}

/// How long `op` takes. The time does not include dropping its result.
pub fn timed<T>(op: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let made = black_box(op());
    let time = start.elapsed();
    drop(made);
    time
}

/// The microseconds for each of `n` operations.
pub fn us_each(time: Duration, n: usize) -> String {
    let us = time.as_secs_f64() * 1e6 / n as f64;
    match us {
        ..10.0 => format!("{us:.2}"),
        ..100.0 => format!("{us:.1}"),
        _ => format!("{us:.0}"),
    }
}

/// Print a row of a markdown table.
pub fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Print the head of a markdown table.
pub fn head(title: &str, columns: &[&str]) {
    println!("\n{title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

/// Peak resident memory of this process in MiB.
pub fn peak_mib() -> u64 {
    crate::peak_kib("self") / 1024
}
