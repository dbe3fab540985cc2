//! States: a journal holds what the filesystem was at each flush, and the image never changes.

use std::sync::Arc;

use littlefs::bd::BlockDevice;
use littlefs::transactions::{At, Fate, Reason};

use crate::fixture::{Fixture, MemoryFile, assert_same, create, geometry, last, read, write};
use testkit::calls::{Call, Model, Subject};
use testkit::random::Random;
use testkit::tree::Tree;

/// A call that usually has an effect on this tree.
pub fn random_call(rng: &mut Random, tree: &Tree) -> Call {
    let paths: Vec<&Vec<u8>> = tree.keys().filter(|path| !path.is_empty()).collect();
    let any = |rng: &mut Random| match paths.len() {
        0 => b"none".to_vec(),
        n => paths[rng.below(n)].clone(),
    };
    let dirs: Vec<&Vec<u8>> =
        tree.iter().filter(|(_, e)| e.is_dir()).map(|(path, _)| path).collect();
    let name = |rng: &mut Random| {
        let name = format!("{}{}", ["a", "bb", "a-longer-name-"][rng.below(3)], rng.below(9));
        testkit::tree::join(dirs[rng.below(dirs.len())], name.as_bytes())
    };
    let size = [0, 20, 200, 3000, 20_000][rng.below(5)] + 1 + rng.below(50) as u32;
    match rng.below(12) {
        0..3 => Call::Create(name(rng)),
        3 => Call::Mkdir(name(rng)),
        4..7 => {
            let off = rng.below(2000) as u32;
            Call::Write { path: any(rng), off, len: size, seed: rng.below(256) as u8 }
        }
        7 => Call::Truncate { path: any(rng), size },
        8 => Call::Unlink(any(rng)),
        9 => Call::Rmdir(any(rng)),
        10 => Call::Rename { from: any(rng), to: name(rng), no_replace: rng.below(2) == 0 },
        _ => Call::SetAttr { path: any(rng), ty: 0x74, len: 8, seed: rng.below(256) as u8 },
    }
}

/// Random calls, flushes, savepoints, reverts and remounts. Every state that can be reached has the
/// content of the model at that time.
fn run(block_size: u32, block_count: u32, seed: u64, steps: usize) {
    let fixture = Fixture::new(geometry(block_size, block_count));
    let file = fixture.journal();
    let mut rng = Random(seed);
    let mut model = Model::new(255);
    // What each state is to hold, and what the savepoints name.
    let mut states = vec![(0, model.clone())];
    let mut names: Vec<(String, u64)> = Vec::new();
    let (mut dev, mut ours) = fixture.live(&file);
    for step in 0..steps {
        match rng.below(40) {
            0..30 => {
                let call = random_call(&mut rng, model.tree());
                let mut next = model.clone();
                let expected = next.apply(&call);
                let found = ours.apply(&call);
                // some calls flush what is before them first
                if last(&file) > states.last().expect("the base").0 {
                    states.push((last(&file), model.clone()));
                }
                if format!("{found:?}").contains("NoSpace") {
                    continue;
                }
                assert_eq!(found.is_ok(), expected.is_ok(), "{call:?}: {found:?}, {expected:?}");
                if found.is_ok() {
                    model = next;
                }
                continue;
            }
            30..35 => {
                let syncs = file.syncs();
                let size = file.bytes().len();
                ours.fs.flush().expect("flush");
                let grown = file.bytes().len() > size;
                assert_eq!(file.syncs() - syncs, u64::from(grown), "one sync for each flush");
            }
            35 => {
                let name = format!("s{}", rng.below(5));
                ours.fs.flush().expect("flush");
                dev.save(&name).expect("saved");
                names.retain(|(n, _)| *n != name);
                names.push((name, last(&file)));
            }
            36 => {
                ours.fs.flush().expect("flush");
                let to = states[rng.below(states.len())].0;
                dev.revert(to).expect("reverted");
                states.retain(|(n, _)| *n <= to);
                names.retain(|(_, n)| *n <= to);
                model = states.last().expect("the base").1.clone();
                (dev, ours) = fixture.live(&file);
            }
            _ => {
                // unmounted, or not even that
                if rng.below(2) == 0 {
                    ours.fs.flush().expect("flush");
                } else {
                    model = states.last().expect("the base").1.clone();
                }
                (dev, ours) = fixture.live(&file);
            }
        }
        let number = last(&file);
        if states.last().is_none_or(|(last, _)| *last < number) {
            states.push((number, model.clone()));
        }
        assert_same(&format!("live, step {step}"), model.tree(), &ours.tree().expect("readable"));
    }
    fixture.assert_unchanged();
    assert_states(&fixture, &file, &states, names);
}

/// Check that the journal has each of these states, and that the savepoints with these names lead
/// to theirs.
fn assert_states(
    fixture: &Fixture,
    file: &Arc<MemoryFile>,
    states: &[(u64, Model)],
    names: Vec<(String, u64)>,
) {
    let (_, history) = read(&**file).expect("sound");
    for (number, model) in states {
        assert_same(&format!("state {number}"), model.tree(), &fixture.tree_at(file, *number));
    }
    for (name, number) in names {
        assert_eq!(history.find(&At::Name(name)).expect("there"), number);
    }
    assert!(states.len() >= 10, "too little happened");
    for t in history.transactions.iter().filter(|t| t.fate == Fate::Reverted) {
        assert!(matches!(history.find(&At::Number(t.number)), Err(Reason::Reverted(_))));
    }
}

#[test]
fn every_state_holds_what_the_filesystem_had() {
    for (block_size, block_count, seed) in [
        (128, 2048, 6),
        (512, 512, 3),
        (512, 512, 4),
        (4096, 64, 7),
        (4096, 128, 6),
        (65536, 16, 8),
    ] {
        run(block_size, block_count, seed, 500);
    }
}

#[test]
fn a_flush_without_changes_appends_nothing() {
    let fixture = Fixture::new(geometry(4096, 64));
    let file = fixture.journal();
    let (dev, mut ours) = fixture.live(&file);
    ours.apply(&create("a")).expect("created");
    ours.fs.flush().expect("flush");
    let (size, syncs) = (file.bytes().len(), file.syncs());
    ours.fs.flush().expect("flush");
    dev.barrier().expect("barrier");
    dev.sync().expect("sync");
    // the same bytes once more are no change
    let mut block = vec![0; 4096];
    dev.read(0, 0, &mut block).expect("read");
    dev.erase(0).expect("erase");
    dev.prog(0, 0, &block).expect("prog");
    dev.sync().expect("sync");
    assert_eq!((file.bytes().len(), file.syncs()), (size, syncs));
}

#[test]
fn only_what_changed_is_appended() {
    let fixture = Fixture::new(geometry(4096, 256));
    let file = fixture.journal();
    let (dev, mut ours) = fixture.live(&file);
    for i in 0..40 {
        ours.apply(&create(&format!("file{i}"))).expect("created");
    }
    ours.fs.flush().expect("flush");
    // a compaction that changes one byte of a block
    let mut block = vec![0; 4096];
    dev.read(0, 0, &mut block).expect("read");
    block[2000] ^= 1;
    let before = file.bytes().len();
    dev.erase(0).expect("erase");
    dev.prog(0, 0, &block).expect("prog");
    dev.sync().expect("sync");
    // head, one record, its end and the checksum
    assert_eq!(file.bytes().len() - before, 48 + (12 + 1) + 4 + 4);
    // an erase is one record, whatever was there
    let before = file.bytes().len();
    dev.erase(0).expect("erase");
    dev.sync().expect("sync");
    assert!(file.bytes().len() - before < 48 + 3 * 12 + 8 + 60, "{}", file.bytes().len() - before);
    dev.read(0, 0, &mut block).expect("read");
    assert!(block.iter().all(|b| *b == 0xff));
}

#[test]
fn large_flushes_are_written_ahead_and_count_as_a_whole() {
    let fixture = Fixture::new(geometry(4096, 8192));
    let file = fixture.journal();
    let (_, mut ours) = fixture.live(&file);
    ours.apply(&create("big")).expect("created");
    for i in 0..20 {
        ours.apply(&write("big", i << 20, 1 << 20, i as u8)).expect("written");
    }
    let header = file.bytes().len();
    // the filesystem keeps part of it in memory, but not all
    let ahead = file.bytes().len();
    ours.fs.flush().expect("flush");
    assert!(file.writes.lock().len() > 1, "not all in one");
    assert!(file.writes.lock().iter().all(|(_, data)| data.len() < 10 << 20), "memory");
    assert_eq!(file.syncs(), 1);
    assert_eq!((last(&file), header), (1, ahead.min(header)));
    let expected = ours.tree().expect("readable");
    assert_same("after", &expected, &fixture.tree_at(&file, 1));
    // without its last byte nothing of it counts
    let mut bytes = file.bytes();
    bytes.pop();
    let cut = crate::fixture::MemoryFile::new(bytes);
    assert_eq!(last(&cut), 0);
    assert_eq!(fixture.tree_at(&cut, 0).len(), 1);
    fixture.assert_unchanged();
}

#[test]
fn a_full_disk_loses_nothing_and_writing_goes_on_later() {
    let fixture = Fixture::new(geometry(512, 512));
    let file = fixture.journal();
    let (_, mut ours) = fixture.live(&file);
    ours.apply(&create("a")).expect("created");
    ours.apply(&write("a", 0, 3000, 1)).expect("written");
    ours.fs.flush().expect("flush");
    let full = file.bytes().len() as u64 + 100;
    file.full_at.store(full, std::sync::atomic::Ordering::Relaxed);
    ours.apply(&write("a", 0, 9000, 2)).expect("written");
    ours.fs.flush().expect_err("the disk is full");
    assert_eq!(last(&file), 1);
    file.full_at.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    if !ours.fs.is_read_only() {
        ours.fs.flush().expect("flush");
        assert_eq!(last(&file), 2);
        let expected = ours.tree().expect("readable");
        assert_same("after", &expected, &fixture.tree_at(&file, 2));
    }
}

#[test]
fn a_reader_never_waits_for_what_it_need_not() {
    let fixture = Fixture::new(geometry(512, 64));
    let file = fixture.journal();
    let (dev, _) = fixture.live(&file);
    let data: Vec<u8> = (0..1024).map(|i| i as u8).collect();
    dev.rewrite(20, &data).expect("rewrite");
    dev.sync().expect("sync");
    dev.prog(21, 10, b"pending").expect("prog");
    dev.erase(23).expect("erase");
    let mut model = vec![0; 6 * 512];
    fixture.base.read(19, 0, &mut model).expect("read");
    model[512..1536].copy_from_slice(&data);
    model[1034..1041].copy_from_slice(b"pending");
    model[2048..2560].fill(0xff);
    for now in [true, false] {
        for (from, lens) in [(0, [7, 1000, 2000]), (500, [12, 1, 600]), (1030, [4, 7, 900])] {
            let mut parts = lens.map(|len| vec![0; len]);
            let mut slices = parts.each_mut().map(|part| std::io::IoSliceMut::new(part));
            let block = 19 + from / 512;
            assert!(dev.read_parts(block, from % 512, &mut slices, now).expect("read"));
            let all = parts.concat();
            assert!(all == model[from as usize..from as usize + all.len()], "{from}");
        }
    }
    assert!(dev.read(63, 1, &mut [0; 512]).is_err() && dev.prog(64, 0, b"x").is_err());
}

/// littlefs writes all of a file from the first changed byte. The journal need not do that.
#[test]
fn what_stands_in_the_journal_is_not_appended_again() {
    for block_size in [512, 4096, 131_072] {
        let fixture = Fixture::new(geometry(block_size, (8 << 20) / block_size));
        let file = fixture.journal();
        let (_, mut ours) = fixture.live(&file);
        ours.apply(&create("db")).expect("created");
        let id = ours.open_file(b"db").expect("open");
        let noise = testkit::mounted::noise(600_000, 1);
        ours.fs.write(id, 0, &noise).expect("write");
        ours.fs.flush().expect("flush");
        for (round, off) in [0, 100, 300_000, 5].into_iter().enumerate() {
            let before = file.bytes().len();
            ours.fs
                .write(id, off, &testkit::mounted::noise(4096, 2 + round as u32))
                .expect("write");
            ours.fs.flush().expect("flush");
            let grown = file.bytes().len() - before;
            // what was written, and some words for each block of the file
            let blocks = 600_000 / block_size as usize + 2;
            let most = 4096 + blocks * 64 + 2 * block_size.min(65536) as usize + 500;
            assert!(grown < most, "{block_size}: {grown} of {most}");
            let expected = ours.tree().expect("readable");
            assert_same("after", &expected, &fixture.tree_at(&file, last(&file)));
        }
        ours.fs.close_file(id);
        // and a mount later, where nothing is remembered
        let (_, mut later) = fixture.live(&file);
        assert_same("later", &ours.tree().expect("tree"), &later.tree().expect("tree"));
        fixture.assert_unchanged();
    }
}
