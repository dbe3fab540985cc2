//! Power cuts: whatever is left of the end of the file that was not synced, everything synced is
//! there, and each transaction is complete or not there at all.

use littlefs::transactions::Reason;

use crate::fixture::{Fixture, MemoryFile, assert_same, geometry, last, read};
use crate::states::random_call;
use testkit::calls::{Call, Model, Subject};
use testkit::random::Random;

/// A journal of several transactions, savepoints and a revert. After each sync, its length, the
/// number of the state, and the content of the state are recorded.
fn history(fixture: &Fixture, seed: u64) -> (Vec<u8>, Vec<(usize, u64, Model)>) {
    let file = fixture.journal();
    let mut rng = Random(seed);
    let mut model = Model::new(255);
    let mut synced = vec![(file.bytes().len(), 0, model.clone())];
    let (mut dev, mut ours) = fixture.live(&file);
    for step in 0..10 {
        for _ in 0..6 {
            let call: Call = random_call(&mut rng, model.tree());
            let mut next = model.clone();
            if next.apply(&call).is_ok() {
                ours.apply(&call).expect("there is space");
                model = next;
            }
        }
        ours.fs.flush().expect("flush");
        synced.push((file.bytes().len(), last(&file), model.clone()));
        if step == 3 {
            dev.save("here").expect("saved");
            synced.push((file.bytes().len(), last(&file), model.clone()));
        }
        if step == 6 {
            let (_, number, at) = synced[3].clone();
            dev.revert(number).expect("reverted");
            model = at;
            synced.push((file.bytes().len(), number, model.clone()));
            (dev, ours) = fixture.live(&file);
        }
    }
    (file.bytes(), synced)
}

/// What a crash can leave of bytes that were not synced: nothing, zeros, or old content of the
/// disk.
fn tails(rng: &mut Random, rest: &[u8]) -> Vec<Vec<u8>> {
    let mut tails = vec![Vec::new(), vec![0; rest.len()]];
    for _ in 0..3 {
        // sector by sector, counted from anywhere
        let mut tail = rest.to_vec();
        for sector in tail.chunks_mut(512) {
            match rng.below(4) {
                0 => sector.fill(0),
                1 => sector.iter_mut().for_each(|b| *b = rng.below(256) as u8),
                _ => {}
            }
        }
        let len = rng.below(tail.len() + 1);
        tail.truncate(len);
        tails.push(tail);
    }
    tails
}

#[test]
fn after_a_power_cut_everything_synced_is_there() {
    let fixture = Fixture::new(geometry(512, 512));
    let (bytes, synced) = history(&fixture, 11);
    let mut rng = Random(12);
    let mut cuts = 0;
    for (i, (len, number, model)) in synced.iter().enumerate() {
        let next = synced.get(i + 1);
        let end = next.map_or(bytes.len(), |(len, ..)| *len);
        let rest = &bytes[*len..end];
        // every prefix near the seams, and some between
        let mut lens: Vec<usize> = (0..rest.len().min(60)).collect();
        lens.extend(rest.len().saturating_sub(12)..rest.len());
        lens.extend((0..20).map(|_| rng.below(rest.len().max(1))));
        let mut left: Vec<Vec<u8>> = lens.into_iter().map(|n| rest[..n].to_vec()).collect();
        left.extend(tails(&mut rng, rest));
        for tail in left {
            let whole = tail == rest && next.is_some();
            let file = MemoryFile::new([&bytes[..*len], &tail].concat());
            let (number, model) = match next {
                Some((_, number, model)) if whole => (*number, model),
                _ => (*number, model),
            };
            let (scan, history) = read(&*file).expect("a crash is no damage");
            assert_eq!(history.last(), number);
            if cuts % 16 == 0 || !tail.is_empty() && cuts % 5 == 0 {
                assert_same("after the cut", model.tree(), &fixture.tree_at(&file, number));
                // and it goes on
                let (_, mut ours) = fixture.live(&file);
                assert_eq!(file.bytes().len() as u64, scan.end, "the torn end is cut off");
                ours.apply(&Call::Mkdir(b"after".to_vec())).expect("mkdir");
                ours.fs.flush().expect("flush");
                assert!(last(&file) > number);
                assert_same(
                    "after going on",
                    &ours.tree().expect("tree"),
                    &fixture.tree_at(&file, last(&file)),
                );
            }
            cuts += 1;
        }
    }
    assert!(cuts > 500, "{cuts}");
    fixture.assert_unchanged();
}

#[test]
fn damage_in_the_middle_is_no_power_cut() {
    let fixture = Fixture::new(geometry(512, 512));
    let (bytes, synced) = history(&fixture, 21);
    let (start, end) = (synced[0].0, synced[synced.len() - 2].0);
    let mut rng = Random(22);
    for _ in 0..300 {
        let at = start + rng.below(end - start);
        let mut bad = bytes.clone();
        bad[at] ^= 1 << rng.below(8);
        match read(&*MemoryFile::new(bad)) {
            Err(Reason::Damaged { at: found, what }) => {
                assert!(found as usize <= at, "{what}");
                assert!(what.contains("is intact"), "{what}");
            }
            other => panic!("byte {at}: {:?}", other.map(|(_, history)| history)),
        }
    }
    // two transactions in each other's place
    let (a, b, c) = (synced[0].0, synced[1].0, synced[2].0);
    let swapped = [&bytes[..a], &bytes[b..c], &bytes[a..b], &bytes[c..]].concat();
    assert!(matches!(read(&*MemoryFile::new(swapped)), Err(Reason::Damaged { .. })));
    let dropped = [&bytes[..a], &bytes[b..]].concat();
    assert!(matches!(read(&*MemoryFile::new(dropped)), Err(Reason::Damaged { .. })));
}

/// A journal inside the image to which it belongs.
#[test]
fn a_copy_of_the_journal_in_a_torn_transaction_is_only_data() {
    let fixture = Fixture::new(geometry(4096, 256));
    let file = fixture.journal();
    let (_, mut ours) = fixture.live(&file);
    for name in ["a", "b", "c"] {
        ours.apply(&Call::Create(name.into())).expect("created");
        ours.fs.flush().expect("flush");
    }
    let synced = file.bytes();
    let id = ours.open_file(b"c").expect("open");
    ours.fs.write(id, 0, &synced).expect("write");
    ours.fs.close_file(id);
    ours.fs.flush().expect("flush");
    let all = file.bytes();
    assert!(all[synced.len()..].windows(4).filter(|w| w == b"lfsE").count() > 3);
    for cut in [all.len() - 1, all.len() - 30, synced.len() + 500] {
        assert_eq!(last(&MemoryFile::new(all[..cut].to_vec())), 3);
    }
}
