//! Key-value loads through the library, compared with SQLite and LMDB on the same disk.
//!
//! `cargo run --release --manifest-path benches/kv/Cargo.toml [-- [--dir DIR] [COUNT...]]` prints
//! two markdown tables for each number of entries, by default 100,000 and 1,000,000. A table has a
//! row for each load, and a column for each store. DIR says where the data is stored; the default
//! is `BENCH_DIR`, or the system's temporary directory. Keys have 16 bytes, values 100.
//!
//! `--count COUNT` prints another table instead: the calls and bytes that each put of ours costs
//! the device.
//!
//! The loads are those of LevelDB's db_bench. Every put is one change, or part of a batch of 1000,
//! which is made completely or not at all. In the first table, every put or batch is durable when
//! it returns. In the second one, nothing is synced until the end of the load. This sync is part of
//! the measured time, and a crash before it may lose everything. For each table, each store runs in
//! a process of its own, so that its memory can be measured.

mod count;
mod lfs;
mod lmdb;
mod sqlite;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::bench;
use testkit::bench::{timed, us_each};
use testkit::random::Random;

/// How many puts fillseqsync and fillrandsync have, if puts are synced.
const SYNCED: usize = 1000;
/// How many puts the other loads have at most, if puts are synced.
const SYNCED_MAX: usize = 100_000;
/// How many puts a batch has.
const BATCH: usize = 1000;
/// How many gets `readrandom` has at most.
const READS_MAX: usize = 200_000;

pub type Key = [u8; 16];
pub type Value = [u8; 100];

/// When puts are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Each when it returns.
    Each,
    /// All of them at the end.
    AtTheEnd,
}

impl Durable {
    const ALL: [Self; 2] = [Self::Each, Self::AtTheEnd];

    fn name(self) -> &'static str {
        match self {
            Self::Each => "every put or batch synced",
            Self::AtTheEnd => "nothing synced until the end",
        }
    }
}

/// The calls that the loads make.
pub trait Store {
    /// Set the value of `key`.
    fn put(&mut self, key: &Key, value: &Value);
    /// Set all of these entries, or none.
    fn put_all(&mut self, entries: &[(Key, Value)]);
    /// Make all puts durable.
    fn sync(&mut self);
    /// The value of a key that exists.
    fn get(&mut self, key: &Key) -> Value;
    /// Read all entries in ascending or descending order of their keys. Returns their number.
    fn scan(&mut self, reverse: bool) -> usize;
}

/// What is done with a store.
pub type Use<'a> = &'a mut dyn FnMut(&mut dyn Store);

/// Make a store for `count` entries in `dir`, and pass it to `run`.
type With = fn(dir: &Path, count: usize, durable: Durable, run: Use<'_>);

const STORES: [(&str, With); 3] =
    [("littlefs-progs", lfs::with), ("SQLite", sqlite::with), ("LMDB", lmdb::with)];

/// The loads, and what SQLite 3.7.17 took for them in a study of 2014: microseconds per operation,
/// 1,000,000 entries on tmpfs, Core i7-3520M at 2.9 GHz.
const LOADS: [(&str, &str); 10] = [
    ("fillseqsync", "23.2"),
    ("fillrandsync", "28.0"),
    ("fillseq", "11.5"),
    ("fillseqbatch", "5.65"),
    ("fillrandom", "17.1"),
    ("fillrandbatch", "13.3"),
    ("overwrite", "26.4"),
    ("readrandom", "9.23"),
    ("readseq", "2.90"),
    ("readreverse", "2.79"),
];

/// The rows after the loads. The study measured the size on disk after fillseq.
const SIZES: [(&str, &str); 2] = [("peak memory, MiB", ""), ("on disk, MiB", "151")];

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut dir = bench::dir();
    if args.first().is_some_and(|flag| flag == "--dir") && args.len() > 1 {
        dir = PathBuf::from(args.remove(1));
        args.remove(0);
    }
    if let [flag, store, durable, count] = &args[..]
        && flag == "--store"
    {
        let (_, with) = STORES.iter().find(|(name, _)| name == store).expect("a store");
        let durable = Durable::ALL.into_iter().find(|d| d.name() == durable).expect("a durability");
        let mut bench = Bench {
            with: *with,
            count: count.parse().expect("a count"),
            durable,
            dir,
            rng: Random(7),
        };
        return bench.run();
    }
    if let [flag, count] = &args[..]
        && flag == "--count"
    {
        return count::table(count.parse().expect("a count"));
    }
    let counts: Vec<usize> = match args.is_empty() {
        true => vec![100_000, 1_000_000],
        false => args.iter().map(|a| a.parse().expect("a number of entries")).collect(),
    };
    for count in counts {
        for durable in Durable::ALL {
            compare(&dir, count, durable);
        }
    }
}

/// Run the loads on every store and print the table.
fn compare(dir: &Path, count: usize, durable: Durable) {
    let exe = std::env::current_exe().expect("own path");
    let results = STORES.map(|(name, _)| {
        let out = Command::new(&exe)
            .arg("--dir")
            .arg(dir)
            .args(["--store", name, durable.name(), &count.to_string()])
            .output()
            .expect("a process for the store");
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().map(String::from).collect::<Vec<_>>()
    });
    let title = format!("{count} entries, {}, microseconds per operation", durable.name());
    let columns = [&["load"][..], &STORES.map(|(name, _)| name), &["SQLite in 2014"]].concat();
    bench::head(&title, &columns);
    for (i, (load, then)) in LOADS.iter().chain(&SIZES).enumerate() {
        let cells: Vec<String> = results.iter().map(|r| r[i].clone()).collect();
        bench::row(&[&[load.to_string()][..], &cells, &[then.to_string()]].concat());
    }
}

fn key(i: usize) -> Key {
    format!("{i:016}").into_bytes().try_into().expect("16 digits")
}

fn value(i: usize, version: u64) -> Value {
    let mut value = [b'v'; 100];
    value[..8].copy_from_slice(&(i as u64).to_le_bytes());
    value[8..16].copy_from_slice(&version.to_le_bytes());
    value
}

/// Put entries one by one, and sync.
fn fill(store: &mut dyn Store, order: impl Iterator<Item = usize>, version: u64) -> Duration {
    timed(|| {
        order.for_each(|i| store.put(&key(i), &value(i, version)));
        store.sync();
    })
}

/// Put entries in batches, and sync.
fn fill_by_batches(store: &mut dyn Store, order: impl Iterator<Item = usize>) -> Duration {
    let mut order = order.peekable();
    timed(|| {
        while order.peek().is_some() {
            let some = order.by_ref().take(BATCH);
            let entries: Vec<_> = some.map(|i| (key(i), value(i, 0))).collect();
            store.put_all(&entries);
        }
        store.sync();
    })
}

fn tell(time: Duration, n: usize) {
    println!("{}", us_each(time, n));
}

/// The loads of one store.
struct Bench {
    with: With,
    count: usize,
    durable: Durable,
    dir: PathBuf,
    rng: Random,
}

impl Bench {
    /// Run `run` on a new store. Returns how many MiB the store takes at the end.
    fn fresh(&self, run: Use<'_>) -> u64 {
        let dir = tempfile::tempdir_in(&self.dir).expect("temporary directory");
        (self.with)(dir.path(), self.count, self.durable, run);
        space(dir.path())
    }

    /// The first `n` of all entries in a random order. An entry takes only four bytes, because this
    /// list is part of the memory that is measured.
    fn shuffled(&mut self, n: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..self.count as u32).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.rng.below(i + 1));
        }
        all.truncate(n);
        all
    }

    /// Print the time of each load in order, then the peak memory and the size on disk.
    fn run(&mut self) {
        let count = self.count;
        let (few, most) = match self.durable {
            Durable::Each => (SYNCED.min(count), SYNCED_MAX.min(count)),
            Durable::AtTheEnd => (count, count),
        };
        let shuffled = self.shuffled(count);
        let random = |n: usize| shuffled[..n].iter().map(|&i| i as usize);
        self.fresh(&mut |store| tell(fill(store, 0..few, 0), few));
        self.fresh(&mut |store| tell(fill(store, random(few), 0), few));
        self.fresh(&mut |store| tell(fill(store, 0..most, 0), most));
        self.fresh(&mut |store| tell(fill_by_batches(store, 0..count), count));
        self.fresh(&mut |store| tell(fill(store, random(most), 0), most));
        let again = self.shuffled(most);
        let reads: Vec<u32> =
            (0..count.min(READS_MAX)).map(|_| self.rng.below(count) as u32).collect();
        let space = self.fresh(&mut |store| {
            tell(fill_by_batches(store, random(count)), count);
            tell(fill(store, again.iter().map(|&i| i as usize), 1), most);
            let time = timed(|| {
                for i in reads.iter().map(|&i| i as usize) {
                    let found = store.get(&key(i));
                    assert!(found == value(i, 1) || most < count && found == value(i, 0), "{i}");
                }
            });
            tell(time, reads.len());
            tell(timed(|| assert_eq!(store.scan(false), count)), count);
            tell(timed(|| assert_eq!(store.scan(true), count)), count);
        });
        println!("{}\n{space}", bench::peak_mib());
    }
}

/// How many MiB the files in `dir` take.
fn space(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).expect("directory");
    let sizes = files.map(|f| f.and_then(|f| f.metadata()).expect("file").blocks() * 512);
    sizes.sum::<u64>() >> 20
}
