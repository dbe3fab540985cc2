//! How the cost of an operation changes while directories, files and images grow.
//!
//! `cargo bench --bench growth [-- directory file image space]` prints one markdown table for each
//! of these parts. It uses the library with an image in a file, which it makes in `BENCH_DIR`.

use std::time::Duration;

use littlefs::fs::{DirId, Fs, ROOT};
use testkit::bench;
use testkit::bench::{BLOCK_SIZE, Image, head, row, timed, us_each, wants};
use testkit::random::Random;

fn main() {
    if !bench::is_asked_for() {
        return;
    }
    if wants("directory") {
        directory();
    }
    if wants("file") {
        file();
    }
    if wants("image") {
        image();
    }
    if wants("space") {
        space();
    }
}

fn name(i: usize) -> Vec<u8> {
    format!("file{i:08}").into_bytes()
}

fn dirs(fs: &mut Fs, count: usize) -> Vec<DirId> {
    (0..count).map(|i| fs.mkdir(ROOT, &name(i)).expect("mkdir")).collect()
}

/// The same 100,000 entries in directories of different sizes, so that syncs have the same share in
/// each row.
fn directory() {
    const TOTAL: usize = 100_000;
    head(
        "One directory: microseconds per operation, 100,000 operations and their flush",
        &["entries in a directory", "create", "lookup", "list, per entry", "unlink"],
    );
    for entries in [1_000, 10_000, TOTAL] {
        let img = Image::format(1 << 17);
        let mut fs = img.open();
        let dirs = dirs(&mut fs, TOTAL / entries);
        fs.flush().expect("flush");
        let mut rng = Random(1);
        let mut each = |fs: &mut Fs, op: &mut dyn FnMut(&mut Fs, DirId, &[u8])| -> Duration {
            let order: Vec<Vec<Vec<u8>>> = dirs
                .iter()
                .map(|_| rng.shuffled(entries).into_iter().map(name).collect())
                .collect();
            timed(|| {
                for (&dir, names) in dirs.iter().zip(&order) {
                    names.iter().for_each(|n| op(fs, dir, n));
                }
                fs.flush().expect("flush");
            })
        };
        let create = each(&mut fs, &mut |fs, d, n| fs.create(d, n).expect("create"));
        let lookup = each(&mut fs, &mut |fs, d, n| _ = fs.lookup(d, n).expect("lookup"));
        let list = timed(|| {
            for &d in &dirs {
                assert_eq!(fs.list(d).expect("list").len(), entries);
            }
        });
        let unlink = each(&mut fs, &mut |fs, d, n| fs.unlink(d, n).expect("unlink"));
        let times = [create, lookup, list, unlink].map(|t| us_each(t, TOTAL));
        row(&[&[entries.to_string()][..], &times].concat());
    }
}

fn file() {
    const READS: usize = 20_000;
    const APPENDS: usize = 2_000;
    const SYNCED: usize = 100;
    head(
        "One file: microseconds per operation of 4 KiB",
        &[
            "MiB in the file",
            "open, ms",
            "free map, ms",
            "random read",
            "append",
            "append and sync",
            "sequential read of 128 KiB, per 4 KiB",
        ],
    );
    for mib in [1usize, 64, 1024] {
        let img = Image::format(mib as u32 * 256 * 3 / 2 + 8192);
        let mut fs = img.open();
        fs.create(ROOT, b"file").expect("create");
        let id = fs.open_file(ROOT, b"file").expect("open");
        let piece = vec![0x5a; 1 << 20];
        for i in 0..mib {
            fs.write(id, (i << 20) as u64, &piece).expect("write");
        }
        fs.close_file(id);
        fs.flush().expect("flush");

        let mut fs = img.open();
        let mut opened = None;
        let open = timed(|| opened = Some(fs.open_file(ROOT, b"file").expect("open")));
        let id = opened.expect("opened above");
        let mut rng = Random(1);
        let blocks = (mib << 20) / BLOCK_SIZE as usize;
        let offsets: Vec<u64> =
            (0..READS).map(|_| rng.below(blocks) as u64 * u64::from(BLOCK_SIZE)).collect();
        let mut read = |off: u64, len: usize| {
            let bytes = fs.read(id, off, len).expect("read").run().expect("read");
            assert_eq!(bytes.len(), len);
        };
        let random = timed(|| offsets.iter().for_each(|&off| read(off, 4096)));
        let rounds = (256 / mib).max(1);
        let sequential = timed(|| {
            for _ in 0..rounds {
                (0..mib as u64 * 8).for_each(|i| read(i * (128 << 10), 128 << 10));
            }
        });
        let map = timed(|| fs.usage().expect("usage"));
        let mut end = (mib << 20) as u64;
        let mut append = |fs: &mut Fs| {
            fs.write(id, end, &piece[..4096]).expect("write");
            end += 4096;
        };
        let held = timed(|| {
            (0..APPENDS).for_each(|_| append(&mut fs));
            fs.flush().expect("flush");
        });
        let synced = timed(|| {
            for _ in 0..SYNCED {
                append(&mut fs);
                fs.flush().expect("flush");
            }
        });
        row(&[
            mib.to_string(),
            format!("{:.2}", open.as_secs_f64() * 1e3),
            format!("{:.2}", map.as_secs_f64() * 1e3),
            us_each(random, READS),
            us_each(held, APPENDS),
            us_each(synced, SYNCED),
            us_each(sequential, rounds * blocks),
        ]);
    }
}

fn image() {
    const IN_DIR: usize = 1_000;
    const CREATES: usize = 1_000;
    head(
        "Small files (16 bytes each) in directories of 1,000",
        &[
            "files",
            "pairs",
            "device reads per pair at mount",
            "mount, µs per pair: warm",
            "cold",
            "first ls of 1,000, ms",
            "first usage, ms",
            "second usage, µs",
            "create, µs",
            "peak memory, MiB",
        ],
    );
    for files in [1_000, 100_000, 1_000_000] {
        let img = Image::format(files as u32 / 8 + 8192);
        let mut fs = img.open();
        for dir in dirs(&mut fs, files / IN_DIR) {
            for i in 0..IN_DIR {
                fs.create(dir, &name(i)).expect("create");
                let id = fs.open_file(dir, &name(i)).expect("open");
                fs.write(id, 0, &[7; 16]).expect("write");
                fs.close_file(id);
            }
        }
        fs.flush().expect("flush");
        let pairs = fs.usage().expect("usage").blocks_used as usize / 2;
        drop(fs);

        img.drop_cache();
        let cold = timed(|| img.open());
        let dev = img.device();
        let mut opened = None;
        let warm = timed(|| opened = Some(Fs::open(dev.clone(), &bench::options()).expect("open")));
        let mut fs = opened.expect("opened above");
        let reads = dev.reads() as f64 / pairs as f64;
        let mut listed = ROOT;
        let ls = timed(|| {
            if let Ok(littlefs::fs::Node::Dir(d)) = fs.lookup(ROOT, &name(0)) {
                listed = d;
            }
            assert_eq!(fs.list(listed).expect("list").len(), IN_DIR);
        });
        let usage = timed(|| fs.usage().expect("usage"));
        let again = timed(|| fs.usage().expect("usage"));
        let new = fs.mkdir(ROOT, b"new").expect("mkdir");
        let create = timed(|| {
            (0..CREATES).for_each(|i| fs.create(new, &name(i)).expect("create"));
            fs.flush().expect("flush");
        });
        row(&[
            files.to_string(),
            pairs.to_string(),
            format!("{reads:.2}"),
            us_each(warm, pairs),
            us_each(cold, pairs),
            format!("{:.2}", ls.as_secs_f64() * 1e3),
            format!("{:.2}", usage.as_secs_f64() * 1e3),
            us_each(again, 1),
            us_each(create, CREATES),
            bench::peak_mib().to_string(),
        ]);
    }
}

/// An image of 1 GiB that fills up with files, some of which are removed again.
fn space() {
    const COUNT: u32 = 1 << 18;
    const OPS: usize = 500;
    head(
        "Free space of 1 GiB: microseconds per operation, with its share of one flush for 500",
        &["free", "create", "write of 16 KiB"],
    );
    let img = Image::format(COUNT);
    let mut fs = img.open();
    let filler = fs.mkdir(ROOT, b"filler").expect("mkdir");
    let trial = fs.mkdir(ROOT, b"trial").expect("mkdir");
    let mut rng = Random(1);
    let mut filled = 0;
    for percent in [90, 50, 20, 10, 5, 2] {
        // leave room for the trial itself
        while fs.usage().expect("usage").blocks_free > COUNT / 100 * percent {
            fs.create(filler, &name(filled)).expect("create");
            let id = fs.open_file(filler, &name(filled)).expect("open");
            let size = 4096 * (1 + rng.below(32));
            fs.write(id, 0, &vec![1; size]).expect("write");
            fs.close_file(id);
            // after every third file, one is removed, so that free blocks are scattered
            if filled % 3 == 2 {
                fs.unlink(filler, &name(filled - rng.below(2))).expect("unlink");
            }
            filled += 1;
            if filled % 1000 == 0 {
                fs.flush().expect("flush");
            }
        }
        fs.flush().expect("flush");
        let create = timed(|| {
            (0..OPS).for_each(|i| fs.create(trial, &name(i)).expect("create"));
            fs.flush().expect("flush");
        });
        let write = timed(|| {
            for i in 0..OPS {
                let id = fs.open_file(trial, &name(i)).expect("open");
                fs.write(id, 0, &[2; 16384]).expect("write");
                fs.close_file(id);
            }
            fs.flush().expect("flush");
        });
        (0..OPS).for_each(|i| fs.unlink(trial, &name(i)).expect("unlink"));
        fs.flush().expect("flush");
        row(&[format!("{percent} %"), us_each(create, OPS), us_each(write, OPS)]);
    }
}
