//! Files that were made to do harm: there is an answer, in time and memory that the size of the
//! file bounds.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use littlefs::bd::BlockDevice;
use littlefs::check::check;
use littlefs::journal::{Changes, Journal, Mode};
use littlefs::transactions::format::{Head, Kind, entry};
use littlefs::transactions::{At, JournalDevice};
use littlefs::{fs::Fs, image};

use crate::checksums::mend;
use crate::fixture::{Fixture, MemoryFile, geometry, options, read};
use crate::states::random_call;
use testkit::calls::{Call, Model, Subject};
use testkit::random::Random;

fn journal(fixture: &Fixture) -> Vec<u8> {
    let file = fixture.journal();
    let mut rng = Random(99);
    let mut model = Model::new(255);
    let (dev, mut ours) = fixture.live(&file);
    for step in 0..6 {
        for _ in 0..6 {
            let call: Call = random_call(&mut rng, model.tree());
            let mut next = model.clone();
            if next.apply(&call).is_ok() && ours.apply(&call).is_ok() {
                model = next;
            }
        }
        ours.fs.flush().expect("flush");
        if step % 2 == 1 {
            dev.save(&format!("s{step}")).expect("saved");
        }
    }
    file.bytes()
}

/// Do everything with the journal that is possible, whatever the result is.
fn use_it(fixture: &Fixture, file: &Arc<MemoryFile>) -> bool {
    let Ok((_, history)) = read(&**file) else { return false };
    for number in [history.base, history.last(), 3] {
        let dev = JournalDevice::past(fixture.base.clone(), file.clone(), &history, number);
        let Ok(dev) = dev else { continue };
        let g = dev.geometry();
        let mut all = vec![0; g.size() as usize];
        dev.read(0, 0, &mut all).expect("what was found whole reads");
        let dev: Arc<dyn BlockDevice> = Arc::new(dev);
        let _ = check(dev.clone());
        let _ = Fs::open(dev, &options());
    }
    true
}

#[test]
fn mutated_journals_are_refused_or_read() {
    let fixture = Fixture::new(geometry(512, 128));
    let good = journal(&fixture);
    let (scan, _) = read(&*MemoryFile::new(good.clone())).expect("sound");
    let scratch = tempfile::tempdir().expect("a directory");
    let (path, image_path) = (scratch.path().join("j"), scratch.path().join("image"));
    fs::write(&image_path, fixture.base.image()).expect("write");
    let mut rng = Random(1234);
    let mut read_through = 0;
    for round in 0..1500 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
                2 => bytes[at..].iter_mut().take(4).for_each(|b| *b = 0xff),
                // words that structure it: kinds and lengths of records, numbers
                _ => {
                    let e = &scan.entries[rng.below(scan.entries.len())];
                    let at = e.start as usize + rng.below(80).min((e.end - e.start) as usize - 1);
                    bytes[at] = bytes[at].wrapping_add([1, 16, 255][rng.below(3)]);
                }
            }
        }
        mend(&mut bytes, &scan);
        if rng.below(10) == 0 {
            bytes.truncate(rng.below(bytes.len()));
        }
        read_through += u32::from(use_it(&fixture, &MemoryFile::new(bytes.clone())));
        if round % 5 == 0 {
            fs::write(&path, &bytes).expect("write");
            let Ok(journal) = Journal::open(&path, Mode::Read) else { continue };
            let options = image::Options { read_only: true, ..journal.image_options() };
            let Ok(opened) = image::open(&image_path, &options) else { continue };
            let Ok(mut changes) = Changes::new(&journal, &opened) else { continue };
            for t in journal.history().live() {
                let _ = changes.next(t);
            }
            let _ = Changes::between(&journal, &opened, &At::Last, &At::Number(0));
        }
    }
    assert!(read_through > 300, "{read_through} were read");
    fixture.assert_unchanged();
}

/// An entry with a correct checksum that follows these bytes.
fn append(bytes: &mut Vec<u8>, kind: Kind, number: u64, body: &[u8]) {
    let (scan, _) = read(&*MemoryFile::new(bytes.clone())).expect("sound");
    let head = Head {
        kind,
        sequence: scan.entries.len() as u64 + 1,
        number,
        time: 0,
        id: scan.header.id,
        previous: scan.checksum,
    };
    bytes.extend(entry(&head, body).0);
}

#[test]
fn entries_that_contradict_each_other_are_named() {
    let fixture = Fixture::new(geometry(512, 128));
    let good = journal(&fixture);
    let last = read(&*MemoryFile::new(good.clone())).expect("sound").1.last();
    let name = [&[1, 0][..], b"x"].concat();
    for (kind, number, body, words) in [
        (Kind::Savepoint, 3, name, "names a state that is not the last"),
        (Kind::Revert, 77, vec![], "reverts to a state that cannot be reached"),
        (Kind::CommitBegun, 1, vec![0; 32], "commits a state that is not the last"),
        (Kind::CommitDone, last, vec![0; 32], "ends a commit that was never begun"),
        (Kind::Transaction, last, 0xf000_0000_u32.to_le_bytes().to_vec(), "number of another"),
        (Kind::Transaction, u64::MAX, 0xf000_0000_u32.to_le_bytes().to_vec(), "number of another"),
    ] {
        let mut bytes = good.clone();
        append(&mut bytes, kind, number, &body);
        let e = read(&*MemoryFile::new(bytes)).expect_err(words).to_string();
        assert!(e.contains(words) && e.contains("damaged"), "{e}");
    }
    let begun = |fingerprint: u8, kind, number, body: &[u8]| {
        let mut bytes = good.clone();
        append(&mut bytes, Kind::CommitBegun, last, &[fingerprint; 32]);
        append(&mut bytes, kind, number, body);
        read(&*MemoryFile::new(bytes))
    };
    assert!(begun(1, Kind::CommitDone, last, &[2; 32]).is_err());
    assert!(begun(1, Kind::Revert, 0, &[]).is_err());
    assert!(begun(1, Kind::CommitDone, last, &[1; 32]).is_ok());
}

/// Many entries that each undo, name or repeat something, and headers in a torn end, take linear
/// time.
#[test]
fn time_and_memory_are_bounded_by_the_size() {
    let fixture = Fixture::new(geometry(512, 128));
    let start = Instant::now();
    let header = fixture.header();
    let mut bytes = header.to_bytes();
    let (scan, _) = read(&*MemoryFile::new(bytes.clone())).expect("sound");
    let (mut sequence, mut previous) = (0, scan.checksum);
    let mut add = |bytes: &mut Vec<u8>, kind, number, body: &[u8]| {
        sequence += 1;
        let head = Head { kind, sequence, number, time: 0, id: header.id, previous };
        let (entry, sum) = entry(&head, body);
        bytes.extend(entry);
        previous = sum;
    };
    let end = 0xf000_0000_u32.to_le_bytes();
    for number in 1..30_000 {
        add(&mut bytes, Kind::Transaction, number, &end);
        add(
            &mut bytes,
            Kind::Savepoint,
            number,
            &[&[5, 0][..], format!("n{number:04}").get(..5).expect("five").as_bytes()].concat(),
        );
    }
    for _ in 0..30_000 {
        add(&mut bytes, Kind::Revert, 1, &[]);
    }
    // one record of a byte after the other
    let mut records = Vec::new();
    for i in 0..100_000_u32 {
        records.extend((2 << 28 | 1_u32).to_le_bytes());
        records.extend((i % 128).to_le_bytes());
        records.extend((i * 7 % 512).to_le_bytes());
    }
    records.extend(end);
    add(&mut bytes, Kind::Transaction, 30_000, &records);
    // and an end that looks like many entries
    let torn = Head {
        kind: Kind::Transaction,
        sequence: 1 << 40,
        number: 1,
        time: 0,
        id: header.id,
        previous: 0,
    };
    for _ in 0..50_000 {
        bytes.extend(torn.to_bytes());
        bytes.extend((1 << 28 | 0x0fff_u32).to_le_bytes());
    }
    let file = MemoryFile::new(bytes);
    let e = read(&*file).expect_err("odd").to_string();
    assert!(e.contains("a crash cannot have left the bytes after it"), "{e}");
    let mut bytes = file.bytes();
    bytes.truncate(bytes.len() - 50_000 * 52);
    let file = MemoryFile::new(bytes);
    assert!(use_it(&fixture, &file));
    let (_, history) = read(&*file).expect("sound");
    assert_eq!((history.last(), history.savepoints().len()), (30_000, 1));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
