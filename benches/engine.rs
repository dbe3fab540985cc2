//! The engine compared with the C driver, each on a device in memory.
//!
//! `CFLAGS=-DLFS_NO_ASSERT cargo bench --bench engine [-- FILTER]` measures with Criterion and
//! prints a markdown table of the medians at the end. Blocks have 4096 bytes. The C driver gets a
//! cache of one block, inline files of up to 512 bytes, and a lookahead over the whole device. It
//! makes every call durable. Ours keeps changes in memory, so the measured time includes the flush.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::fs::{FormatOptions, Fs, Node, ROOT};

use testkit::bench;
use testkit::bench::{BLOCK_SIZE, timed, us_each};
use testkit::clfs::{CLfs, Config};
use testkit::random::Random;

/// Size in bytes of the files that are read and written.
const FILE: usize = 16 << 20;
/// Bytes of one sequential read or write.
const CHUNK: usize = 64 << 10;
const SMALL: usize = 100;
const LARGE: usize = 5_000;
const DIR: &[u8] = b"dir";

/// For each case: the name, the number of operations, and the medians of ours and of theirs.
type Results = RefCell<Vec<(String, usize, Duration, Duration)>>;

fn main() {
    if !bench::is_asked_for() {
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let results = Results::default();
    let mut bench = Bench { criterion: &mut criterion, results: &results };
    for n in [SMALL, LARGE] {
        entries(&mut bench, n);
    }
    content(&mut bench);
    whole(&mut bench);
    criterion.final_summary();

    bench::head(
        "Microseconds per operation, medians",
        &["case", "operations", "littlefs-progs", "C littlefs", "times faster"],
    );
    for (name, n, ours, theirs) in results.into_inner() {
        let times = theirs.as_secs_f64() / ours.as_secs_f64();
        let cells = [name, n.to_string(), us_each(ours, n), us_each(theirs, n)];
        bench::row(&[&cells[..], &[format!("{times:.1}")]].concat());
    }
}

struct Bench<'a> {
    criterion: &'a mut Criterion,
    results: &'a Results,
}

impl Bench<'_> {
    /// Measure `n` operations on both sides. Each function prepares what it needs, and returns how
    /// long the operations took.
    fn pair(
        &mut self,
        name: &str,
        n: usize,
        mut ours: impl FnMut() -> Duration,
        mut theirs: impl FnMut() -> Duration,
    ) {
        let mut group = self.criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        let mut medians = Vec::new();
        let sides: [(&str, &mut dyn FnMut() -> Duration); 2] =
            [("littlefs-progs", &mut ours), ("C littlefs", &mut theirs)];
        for (side, run) in sides {
            let mut times = Vec::new();
            group.bench_function(side, |b| {
                b.iter_custom(|rounds| {
                    let taken: Vec<Duration> = (0..rounds).map(|_| run()).collect();
                    times.extend_from_slice(&taken);
                    taken.iter().sum()
                });
            });
            times.sort_unstable();
            medians.extend(times.get(times.len() / 2).copied());
        }
        group.finish();
        if let [ours, theirs] = medians[..] {
            self.results.borrow_mut().push((name.into(), n, ours, theirs));
        }
    }
}

fn geometry() -> Geometry {
    Geometry::new(BLOCK_SIZE, 16384).expect("geometry")
}

fn config() -> Config {
    let g = geometry();
    Config {
        cache_size: BLOCK_SIZE,
        read_size: 16,
        strict_erase: false,
        ..Config::new(g.block_size, g.block_count, 16)
    }
}

/// Our engine on `image`.
fn open(image: Vec<u8>) -> Fs {
    let dev = RamDevice::from_image(geometry(), image);
    Fs::open(Arc::new(dev), &bench::options()).expect("open")
}

/// The C driver on `image`.
fn mount(image: Vec<u8>) -> CLfs {
    CLfs::mount(image, &config()).expect("mount")
}

/// A new image with the content that `fill` creates.
fn image(fill: impl FnOnce(&mut Fs)) -> Vec<u8> {
    let dev = Arc::new(RamDevice::new(geometry()));
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let mut fs = Fs::open(dev.clone(), &bench::options()).expect("open");
    fill(&mut fs);
    fs.flush().expect("flush");
    drop(fs);
    dev.image()
}

fn name(i: usize) -> Vec<u8> {
    format!("file{i:06}").into_bytes()
}

fn path(i: usize) -> Vec<u8> {
    [DIR, b"/", &name(i)].concat()
}

fn shuffled(n: usize, form: fn(usize) -> Vec<u8>) -> Vec<Vec<u8>> {
    Random(n as u64).shuffled(n).into_iter().map(form).collect()
}

fn dir(fs: &mut Fs) -> littlefs::fs::DirId {
    match fs.lookup(ROOT, DIR) {
        Ok(Node::Dir(dir)) => dir,
        other => panic!("no directory: {other:?}"),
    }
}

/// The cases with one directory of `n` files.
fn entries(bench: &mut Bench<'_>, n: usize) {
    let empty = image(|fs| _ = fs.mkdir(ROOT, DIR).expect("mkdir"));
    let full = image(|fs| {
        let dir = fs.mkdir(ROOT, DIR).expect("mkdir");
        shuffled(n, name).iter().for_each(|f| fs.create(dir, f).expect("create"));
    });
    let (names, paths) = (shuffled(n, name), shuffled(n, path));
    let title = |what: &str| format!("{what}, directory of {n}");

    bench.pair(
        &title("create"),
        n,
        || {
            let mut fs = open(empty.clone());
            timed(|| {
                let dir = dir(&mut fs);
                names.iter().for_each(|f| fs.create(dir, f).expect("create"));
                fs.flush().expect("flush");
            })
        },
        || {
            let mut c = mount(empty.clone());
            timed(|| paths.iter().for_each(|f| c.create(f).expect("create")))
        },
    );
    bench.pair(
        &title("remove"),
        n,
        || {
            let mut fs = open(full.clone());
            timed(|| {
                let dir = dir(&mut fs);
                names.iter().for_each(|f| fs.unlink(dir, f).expect("unlink"));
                fs.flush().expect("flush");
            })
        },
        || {
            let mut c = mount(full.clone());
            timed(|| paths.iter().for_each(|f| c.remove(f).expect("remove")))
        },
    );
    let (mut fs, mut c) = (open(full.clone()), mount(full));
    let dir = dir(&mut fs);
    bench.pair(
        &title("lookup"),
        n,
        || timed(|| names.iter().for_each(|f| _ = black_box(fs.lookup(dir, f).expect("lookup")))),
        || timed(|| paths.iter().for_each(|f| _ = black_box(c.stat(f).expect("stat")))),
    );
    bench.pair(
        &title("list"),
        n,
        || timed(|| assert_eq!(fs.list(dir).expect("list").len(), n)),
        || timed(|| assert_eq!(c.list(DIR).expect("list").len(), n)),
    );
}

/// The name of the file in the cases with one file.
const FILE_NAME: &[u8] = b"file";

/// Images for the cases with one file: one in which it is empty, and one in which it is full.
struct OneFile {
    data: Vec<u8>,
    empty: Vec<u8>,
    full: Vec<u8>,
}

impl OneFile {
    fn new() -> Self {
        let data: Vec<u8> = (0..FILE).map(|i| (i / 7) as u8).collect();
        let empty = image(|fs| fs.create(ROOT, FILE_NAME).expect("create"));
        let full = image(|fs| {
            fs.create(ROOT, FILE_NAME).expect("create");
            let id = fs.open_file(ROOT, FILE_NAME).expect("open");
            fs.write(id, 0, &data).expect("write");
            fs.close_file(id);
        });
        Self { data, empty, full }
    }
}

/// Places in the file at random.
fn offsets(n: usize) -> Vec<u32> {
    let mut random = Random(3);
    (0..n).map(|_| (random.below(FILE / 4096) * 4096) as u32).collect()
}

/// The cases with one file.
fn content(bench: &mut Bench<'_>) {
    let file = OneFile::new();
    sequential_writes(bench, &file);
    reads(bench, &file);
    overwrites(bench, &file);
    for (size, start, image) in [("an empty file", 0, &file.empty), ("16 MiB", FILE, &file.full)] {
        appends(bench, &format!("append of 100 bytes to {size}, each synced"), start, image);
    }
}

fn sequential_writes(bench: &mut Bench<'_>, OneFile { data, empty, .. }: &OneFile) {
    bench.pair(
        "sequential write of 64 KiB",
        FILE / CHUNK,
        || {
            let mut fs = open(empty.clone());
            timed(|| {
                let id = fs.open_file(ROOT, FILE_NAME).expect("open");
                for (i, chunk) in data.chunks(CHUNK).enumerate() {
                    fs.write(id, (i * CHUNK) as u64, chunk).expect("write");
                }
                fs.close_file(id);
                fs.flush().expect("flush");
            })
        },
        || {
            let mut c = mount(empty.clone());
            let write = |f: &mut testkit::clfs::OpenFile<'_>| {
                data.chunks(CHUNK).try_for_each(|chunk| f.write_all(chunk))
            };
            timed(|| c.open(FILE_NAME, write).expect("write"))
        },
    );
}

fn reads(bench: &mut Bench<'_>, OneFile { full, .. }: &OneFile) {
    let (mut fs, mut c) = (open(full.clone()), mount(full.clone()));
    bench.pair(
        "sequential read of 64 KiB",
        FILE / CHUNK,
        || {
            timed(|| {
                let id = fs.open_file(ROOT, FILE_NAME).expect("open");
                for off in (0..FILE).step_by(CHUNK) {
                    black_box(fs.read(id, off as u64, CHUNK).expect("read").run().expect("read"));
                }
                fs.close_file(id);
            })
        },
        || {
            let mut buf = vec![0; CHUNK];
            timed(|| {
                c.open(FILE_NAME, |f| (0..FILE / CHUNK).try_for_each(|_| f.read_exact(&mut buf)))
                    .expect("read")
            })
        },
    );
    let reads = offsets(1000);
    bench.pair(
        "random read of 4 KiB in 16 MiB",
        reads.len(),
        || {
            timed(|| {
                let id = fs.open_file(ROOT, FILE_NAME).expect("open");
                for &off in &reads {
                    black_box(fs.read(id, off.into(), 4096).expect("read").run().expect("read"));
                }
                fs.close_file(id);
            })
        },
        || {
            let mut buf = vec![0; 4096];
            timed(|| {
                c.open(FILE_NAME, |f| {
                    reads.iter().try_for_each(|&off| {
                        f.seek(off)?;
                        f.read_exact(&mut buf)
                    })
                })
                .expect("read")
            })
        },
    );
}

fn overwrites(bench: &mut Bench<'_>, OneFile { full, .. }: &OneFile) {
    let writes = offsets(50);
    bench.pair(
        "random overwrite of 4 KiB in 16 MiB",
        writes.len(),
        || {
            let mut fs = open(full.clone());
            timed(|| {
                let id = fs.open_file(ROOT, FILE_NAME).expect("open");
                for &off in &writes {
                    fs.write(id, off.into(), &[0x11; 4096]).expect("write");
                }
                fs.close_file(id);
                fs.flush().expect("flush");
            })
        },
        || {
            let mut c = mount(full.clone());
            timed(|| {
                c.open(FILE_NAME, |f| {
                    writes.iter().try_for_each(|&off| {
                        f.seek(off)?;
                        f.write_all(&[0x11; 4096])
                    })
                })
                .expect("write")
            })
        },
    );
}

/// Append to the file in `image`, whose size is `start`.
fn appends(bench: &mut Bench<'_>, name: &str, start: usize, image: &[u8]) {
    const APPENDS: usize = 500;
    bench.pair(
        name,
        APPENDS,
        || {
            let mut fs = open(image.to_vec());
            timed(|| {
                let id = fs.open_file(ROOT, FILE_NAME).expect("open");
                for i in 0..APPENDS {
                    fs.write(id, (start + i * 100) as u64, &[0x22; 100]).expect("write");
                    fs.flush().expect("flush");
                }
                fs.close_file(id);
            })
        },
        || {
            let mut c = mount(image.to_vec());
            timed(|| {
                c.open(FILE_NAME, |f| {
                    f.seek(start as u32)?;
                    (0..APPENDS).try_for_each(|_| {
                        f.write_all(&[0x22; 100])?;
                        f.sync()
                    })
                })
                .expect("append")
            })
        },
    );
}

/// The cases with the whole filesystem.
fn whole(bench: &mut Bench<'_>) {
    const DIRS: usize = 20;
    const FILES: usize = 10_000;
    let full = image(|fs| {
        for d in 0..DIRS {
            let dir = fs.mkdir(ROOT, &name(d)).expect("mkdir");
            for f in 0..FILES / DIRS {
                fs.create(dir, &name(f)).expect("create");
                let id = fs.open_file(dir, &name(f)).expect("open");
                // one file in ten is a list of blocks
                let size = if f % 10 == 0 { 5000 } else { 50 };
                fs.write(id, 0, &vec![1; size]).expect("write");
                fs.close_file(id);
            }
        }
    });
    bench.pair(
        "mount, 10,000 files",
        1,
        || {
            let image = full.clone();
            timed(|| open(image))
        },
        || {
            let image = full.clone();
            timed(|| mount(image))
        },
    );
    bench.pair(
        "used space after mount, 10,000 files",
        1,
        || {
            let mut fs = open(full.clone());
            timed(|| fs.usage().expect("usage"))
        },
        || {
            let mut c = mount(full.clone());
            timed(|| c.fs_size().expect("size"))
        },
    );
}
