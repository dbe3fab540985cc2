//! A key-value load through the library, beside SQLite and LMDB on the same disk.
//!
//! `cargo run --release --manifest-path benches/kv/Cargo.toml [-- COUNT...]` prints a markdown
//! table of loads by stores for each number of entries, by default 100,000 and 1,000,000.
//! `BENCH_DIR` says where the data goes. Keys have 16 bytes, values 100.
//!
//! The loads are those of LevelDB's db_bench. Every put is a change of its own, or of a batch of
//! 1000 that is made wholly or not at all; without `sync` it need not be durable before the load
//! ends, which is when everything is synced, as part of the measured time.
//! Each store runs in a process of its own, so that its memory can be told.

mod lfs;
mod lmdb;
mod sqlite;
#[path = "../../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Rng, timed, us_each};

/// Puts of the loads that sync each.
const SYNCED: usize = 500;
/// Puts of a batch.
const BATCH: usize = 1000;
/// Most gets of `readrandom`.
const READS_MAX: usize = 200_000;

pub type Key = [u8; 16];
pub type Value = [u8; 100];

/// What a load asks of a store.
pub trait Store {
    /// Set the value of `key`.
    fn put(&mut self, key: &Key, value: &Value);
    /// Set all of these, or none.
    fn put_all(&mut self, entries: &[(Key, Value)]);
    /// Everything put is durable.
    fn sync(&mut self);
    /// The value of a key that is there.
    fn get(&mut self, key: &Key) -> Value;
    /// Read all entries in the order of their keys, or against it; their number.
    fn scan(&mut self, reverse: bool) -> usize;
}

/// Make a store in `dir`; with `synced` every put is to be durable when it returns.
type Make = fn(dir: &Path, count: usize, synced: bool) -> Box<dyn Store>;

const STORES: [(&str, Make); 3] =
    [("littlefs-progs", lfs::make), ("SQLite", sqlite::make), ("LMDB", lmdb::make)];

const LOADS: [&str; 10] = [
    "fillseqsync",
    "fillrandsync",
    "fillseq",
    "fillseqbatch",
    "fillrandom",
    "fillrandbatch",
    "overwrite",
    "readrandom",
    "readseq",
    "readreverse",
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, store, count] = &args[..]
        && flag == "--store"
    {
        let (_, make) = STORES.iter().find(|(name, _)| name == store).expect("a store");
        return run(*make, count.parse().expect("a count"));
    }
    let counts: Vec<usize> = match args.is_empty() {
        true => vec![100_000, 1_000_000],
        false => args.iter().map(|a| a.parse().expect("a number of entries")).collect(),
    };
    for count in counts {
        compare(count);
    }
}

/// Run the loads on every store and print the table.
fn compare(count: usize) {
    let exe = std::env::current_exe().expect("own path");
    let results = STORES.map(|(name, _)| {
        let out = Command::new(&exe)
            .args(["--store", name, &count.to_string()])
            .output()
            .expect("a process for the store");
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().map(String::from).collect::<Vec<_>>()
    });
    let title = format!("{count} entries, microseconds an operation");
    support::head(&title, &[&["load"][..], &STORES.map(|(name, _)| name)].concat());
    for (i, load) in LOADS.iter().chain(&["peak memory, MiB", "on disk, MiB"]).enumerate() {
        let cells: Vec<String> = results.iter().map(|r| r[i].clone()).collect();
        support::row(&[&[load.to_string()][..], &cells].concat());
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

/// Print the time of each load, in their order, then the peak memory and the space taken.
fn run(make: Make, count: usize) {
    let mut rng = Rng(7);
    let shuffled = rng.shuffled(count);
    let in_order: Vec<usize> = (0..count).collect();
    let fill = |store: &mut dyn Store, order: &[usize], version| {
        timed(|| {
            order.iter().for_each(|&i| store.put(&key(i), &value(i, version)));
            store.sync();
        })
    };
    let fill_by_batches = |store: &mut dyn Store, order: &[usize]| {
        timed(|| {
            for some in order.chunks(BATCH) {
                let entries: Vec<_> = some.iter().map(|&i| (key(i), value(i, 0))).collect();
                store.put_all(&entries);
            }
            store.sync();
        })
    };
    let tell = |time: Duration, n: usize| println!("{}", us_each(time, n));
    let fresh = || tempfile::tempdir_in(support::dir()).expect("temporary directory");

    for order in [&in_order, &shuffled] {
        let dir = fresh();
        tell(fill(&mut *make(dir.path(), count, true), &order[..SYNCED], 0), SYNCED);
    }
    let dir = fresh();
    tell(fill(&mut *make(dir.path(), count, false), &in_order, 0), count);
    let dir = fresh();
    tell(fill_by_batches(&mut *make(dir.path(), count, false), &in_order), count);
    let dir = fresh();
    let mut store = make(dir.path(), count, false);
    tell(fill(&mut *store, &shuffled, 0), count);
    let other = fresh();
    tell(fill_by_batches(&mut *make(other.path(), count, false), &shuffled), count);
    drop(other);
    let again = rng.shuffled(count);
    tell(fill(&mut *store, &again, 1), count);
    let reads: Vec<usize> = (0..count.min(READS_MAX)).map(|_| rng.below(count)).collect();
    let time = timed(|| {
        for &i in &reads {
            assert!(store.get(&key(i)) == value(i, 1), "value {i}");
        }
    });
    tell(time, reads.len());
    tell(timed(|| assert_eq!(store.scan(false), count)), count);
    tell(timed(|| assert_eq!(store.scan(true), count)), count);
    drop(store);
    println!("{}\n{}", support::peak_mib(), space(dir.path()));
}

/// MiB that the files in `dir` take.
fn space(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).expect("directory");
    let sizes = files.map(|f| f.and_then(|f| f.metadata()).expect("file").blocks() * 512);
    sizes.sum::<u64>() >> 20
}
