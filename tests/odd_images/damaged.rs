//! Images of C with damage of the kinds that flash memory and tools cause: a pair that went back to
//! an earlier state, a block that was lost, a write that never arrived, a flipped byte.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::bd::emu::{EmuDevice, Event};
use littlefs::check::{Finding, Mode, check, repair};
use littlefs::error::Error;
use littlefs::fs::ROOT;

use crate::fixture::*;
use testkit::clfs::{CLfs, CResult, Config};
use testkit::random::Random;
use testkit::tree::Tree;

/// How many damaged images there are of each configuration. `ODD_ROUNDS` asks for more.
fn rounds() -> u64 {
    std::env::var("ODD_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

/// States of one filesystem, from which damaged images are put together.
fn states(config: &Config) -> Vec<Vec<u8>> {
    let mut c = make(config);
    c.mkdir(b"b/empty").expect("mkdir");
    let mut states = vec![c.image()];
    let renames: [(&[u8], &[u8]); 9] = [
        (b"a/file", b"b/moved"),
        (b"a/last", b"z/moved"),
        (b"a/sub", b"b/sub"),
        (b"many/entry-07", b"a/from-many"),
        (b"b/moved", b"many/entry-07x"),
        (b"top", b"a/top"),
        (b"b/sub", b"b/empty"),
        (b"z", b"a/z"),
        (b"a/z/moved", b"top"),
    ];
    for (i, (from, to)) in renames.into_iter().enumerate() {
        c.rename(from, to).expect("rename");
        states.push(c.image());
        c.write_file(format!("many/new-{i}").as_bytes(), &[i as u8; 30]).expect("write");
        c.mkdir(format!("a/d{i}").as_bytes()).expect("mkdir");
        states.push(c.image());
        c.append(b"b/file", &[i as u8; 100]).expect("append");
        states.push(c.image());
    }
    states
}

/// A state with one or two blocks damaged, and what was done to them.
fn damaged(states: &[Vec<u8>], config: &Config, seed: u64) -> (String, Vec<u8>) {
    let mut r = Random(seed);
    let now = r.below(states.len());
    let mut image = states[now].clone();
    let mut what = format!("state {now}");
    let size = config.block_size as usize;
    let used: Vec<usize> = (0..image.len() / size)
        .filter(|b| image[b * size..][..size].iter().any(|&byte| byte != 0xff))
        .collect();
    for _ in 0..1 + r.below(2) {
        let block = used[r.below(used.len())];
        let bytes = &mut image[block * size..][..size];
        match r.below(4) {
            0 => {
                let from = r.below(now + 1);
                bytes.copy_from_slice(&states[from][block * size..][..size]);
                what += &format!(", block {block} as in state {from}");
            }
            1 => {
                bytes.fill(0xff);
                what += &format!(", block {block} erased");
            }
            2 => {
                let end = bytes.iter().rposition(|&b| b != 0xff).unwrap_or(0) + 1;
                let at = r.below(end);
                bytes[at..].fill(0xff);
                what += &format!(", block {block} erased from {at}");
            }
            _ => {
                let at = r.below(size);
                bytes[at] ^= 1 << r.below(8);
                what += &format!(", block {block} flipped at {at}");
            }
        }
    }
    (what, image)
}

/// What C reads after it has finished what was interrupted. While a move is pending, C does not
/// find the entry behind the one that was moved.
fn settled_in_c(config: &Config, image: &[u8]) -> CResult<Tree> {
    let mut c = CLfs::mount(image.to_vec(), config)?;
    c.mkconsistent()?;
    c.tree(&ATTR_TYPES)
}

/// Check that C reads the same as we do, now and after a first write, and that a check agrees.
fn check_sound(name: &str, config: &Config, image: &[u8]) {
    let mut ours = open(config, image, false);
    let shown = ours.tree().expect("we read");
    let theirs = settled_in_c(config, image);
    assert_eq!(theirs.as_ref().map(|_| ()), Ok(()), "{name}: C cannot read");
    same(name, &shown, "C", &theirs.expect("read"));

    if let Err(e) = ours.fs.mkdir(ROOT, b"a-new-one") {
        assert!(matches!(e, Error::NoSpace), "{name}: {e}");
    }
    ours.fs.flush().expect("flush");
    let (shown, image) = (ours.tree().expect("we read"), ours.image());
    let after = report(config, &image);
    assert!(after.is_clean(), "{name}: after a write: {:#?}", after.findings);
    same(name, &shown, "C after a write", &settled_in_c(config, &image).expect("C reads"));
}

/// Check that a repair which is cut off at any write, and is run again, ends like one that is not.
fn check_interruptions(name: &str, config: &Config, image: &[u8], whole: &[u8], log: Vec<Event>) {
    let want = open(config, whole, true).tree().expect("we read");
    let mut cut = image.to_vec();
    let writes = log.into_iter().filter_map(|event| match event {
        Event::Write { start, data } => Some((start, data)),
        Event::Barrier => None,
    });
    for (i, (start, data)) in writes.enumerate() {
        cut[start..start + data.len()].copy_from_slice(&data);
        let dev = Arc::new(RamDevice::from_image(geometry(config), cut.clone()));
        repair(dev.clone(), Mode::Yes).expect("it could be repaired before");
        let found = open(config, &dev.image(), true).tree().expect("we read");
        same(&format!("{name}, cut after write {i}"), &want, "the second attempt", &found);
    }
}

#[test]
fn what_check_calls_sound_is_read_alike_by_c() {
    for config in configs() {
        for block_cycles in [-1, 2] {
            let config = Config { block_cycles, ..config.clone() };
            let states = states(&config);
            let (mut sound, mut mended) = (0, 0);
            for seed in 0..rounds() {
                let (what, image) = damaged(&states, &config, seed);
                let name = format!("{config:?}, seed {seed}: {what}");
                let dev = Arc::new(EmuDevice::new(geometry(&config), image.clone()));
                // without any superblock, there is nothing to check
                let Ok(found) = check(dev.clone()) else { continue };
                if found.is_clean() {
                    check_sound(&name, &config, &image);
                    sound += 1;
                }
                let Ok(repairs) = repair(dev.clone(), Mode::Yes) else {
                    let lost = |f: &Finding| f.code == "superblock-missing";
                    assert!(found.findings.iter().any(lost), "{name}: {:#?}", found.findings);
                    continue;
                };
                let left = check(dev.clone()).expect("it could be repaired");
                assert!(left.is_clean(), "{name}: {:?} {:#?}", repairs.stopped, left.findings);
                let whole = dev.image();
                check_sound(&format!("{name}, repaired"), &config, &whole);
                check_interruptions(&name, &config, &image, &whole, dev.take_log());
                mended += u32::from(!found.is_clean());
            }
            assert!(sound > 0 && mended > 0, "{config:?}: {sound} sound, {mended} mended");
        }
    }
}
