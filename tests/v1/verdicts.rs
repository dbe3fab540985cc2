//! What `check` reports for an image.

use std::collections::BTreeSet;

use super::{content, device, sample};
use littlefs::bd::BlockDevice;
use littlefs::check::{Report, Severity};
use littlefs::image::Dialect;
use littlefs::inspect::survey::Survey;
use littlefs::map::Map;
use littlefs::v1::check;
use testkit::v1::{Entry, MOVED, V1};

fn report(image: &[u8]) -> Report {
    check(&*device(image), &|_| ()).expect("can be examined")
}

/// The codes of errors and of notes, and the places that they name.
fn found(image: &[u8]) -> BTreeSet<(bool, &'static str, String)> {
    let findings = report(image).findings.into_iter();
    let found = findings.filter(|f| f.code != "dialect");
    found.map(|f| (f.severity == Severity::Error, f.code, f.place)).collect()
}

/// The one error or note there is. The map shows damage if it is an error.
fn only(image: &[u8]) -> (bool, &'static str, String) {
    let found = found(image);
    assert_eq!(found.len(), 1, "{found:?}");
    let survey = |dev: &dyn BlockDevice| Survey::of_dialect(dev, Dialect::V1, None);
    let map = Map::with_survey(&*device(image), u32::MAX, survey).expect("can be mapped");
    assert_eq!(map.summary().damaged, found.iter().any(|(error, ..)| *error), "{found:?}");
    found.into_iter().next().expect("one")
}

fn error(code: &'static str, place: &str) -> (bool, &'static str, String) {
    (true, code, place.to_owned())
}

fn note(code: &'static str, place: &str) -> (bool, &'static str, String) {
    (false, code, place.to_owned())
}

fn pair(v1: &V1, at: usize) -> String {
    let [a, b] = v1.thread[at].blocks;
    format!("{{{a:#x}, {b:#x}}}")
}

#[test]
fn a_sound_image_is_clean() {
    for block_size in [104, 512] {
        let v1 = sample(block_size);
        let report = report(&v1.image());
        let codes: Vec<_> = report.findings.iter().map(|f| f.code).collect();
        assert_eq!(codes, ["dialect"]);
        assert_eq!((report.totals.files, report.totals.directories), (47, 6));
        assert_eq!(report.totals.block_count, 200);
        let free = (4..200).filter(|&block| {
            let at = block as usize * block_size as usize;
            v1.image()[at..at + block_size as usize].iter().all(|&b| b == 0xff)
        });
        assert_eq!(report.totals.blocks_used, 200 - free.count() as u64);
    }
}

#[test]
fn moves() {
    let mut v1 = sample(512);
    v1.entry("large").kind |= MOVED;
    assert_eq!(only(&v1.image()), note("move-pending", "/large"));
    let mut new = v1.entry("large").clone();
    new.kind &= !MOVED;
    new.name = b"new".to_vec();
    let at = v1.last_pair("a");
    v1.append(at, new);
    assert_eq!(only(&v1.image()), note("move-pending", "/large"));
}

#[test]
fn the_thread() {
    // a directory that was removed, or is being made
    let mut v1 = sample(512);
    v1.directory();
    let last = v1.thread.len() - 1;
    assert_eq!(only(&v1.image()), note("orphan", &pair(&v1, last)));
    // one that the thread does not know
    let mut v1 = sample(512);
    let at = v1.last_pair("empty");
    let gone = v1.thread.remove(at);
    let mut image = v1.image();
    let start = gone.blocks[0] as usize * 512;
    let block = testkit::v1::metadata(9, false, [u32::MAX; 2], Vec::new());
    image[start..start + block.len()].copy_from_slice(&block);
    assert_eq!(
        only(&image),
        error("unthreaded", &format!("{{{:#x}, {:#x}}}", gone.blocks[0], gone.blocks[1]))
    );
    // one of whose blocks was replaced: the thread has the old one
    let mut v1 = sample(512);
    let at = v1.last_pair("empty");
    let new = [v1.thread[at].blocks[0], v1.allocate()];
    v1.entry("empty").words = new;
    let place = format!("{{{:#x}, {:#x}}}", new[0], new[1]);
    assert_eq!(only(&v1.image()), note("half-orphan", &place));
    // it comes back, or ends in nothing
    let mut v1 = sample(512);
    let last = v1.thread.len() - 1;
    let mut image = v1.image();
    let start = v1.thread[last].blocks[0] as usize * 512;
    let root = u64::from(v1.root[0]) | u64::from(v1.root[1]) << 32;
    image[start + 8..start + 16].copy_from_slice(&root.to_le_bytes());
    testkit::v1::mend(&mut image[start..start + 512]);
    assert_eq!(only(&image), error("thread-loop", "{0x2, 0x3}"));
    image[start + 8..start + 16].copy_from_slice(&(190_u64 | 191 << 32).to_le_bytes());
    testkit::v1::mend(&mut image[start..start + 512]);
    assert_eq!(only(&image), error("thread-broken", "{0xbe, 0xbf}"));
    v1.thread.truncate(1);
    let image = v1.image();
    assert!(found(&image).iter().all(|(error, ..)| *error));
}

#[test]
fn blocks_and_pairs() {
    let v1 = sample(512);
    let at = v1.last_pair("e");
    let start = |i: usize| v1.thread[at].blocks[i] as usize * 512;
    // the newer block was not written to its end
    let mut image = v1.image();
    let newer = v1.thread[at].rev;
    let mut torn = testkit::v1::metadata(newer + 1, false, [u32::MAX; 2], vec![0; 50]);
    torn[30] ^= 1;
    image[start(1)..start(1) + torn.len()].copy_from_slice(&torn);
    assert_eq!(only(&image), note("pair-half-dead", &pair(&v1, at)));
    // no block of a directory is whole
    for i in 0..2 {
        image[start(i)..start(i) + 512].fill(0);
    }
    let found = found(&image);
    assert!(found.iter().any(|f| f.1 == "directory-broken" && f.2 == "/e"), "{found:?}");
    // an entry leaves its block
    let mut image = v1.image();
    image[start(0) + 19] = 255;
    testkit::v1::mend(&mut image[start(0)..start(0) + 512]);
    assert!(self::found(&image).contains(&error("entry-broken", &pair(&v1, at))));
}

#[test]
fn entries() {
    let mut v1 = sample(512);
    v1.entry("exact").attrs = vec![0xc1, 1, 2, 3, 4];
    assert_eq!(only(&v1.image()), note("attributes", "/exact"));
    let mut v1 = sample(512);
    let words = v1.list(b"other");
    v1.append(0, Entry { kind: 0x11, name: b"exact".to_vec(), words, attrs: Vec::new() });
    assert_eq!(only(&v1.image()), error("name-duplicate", "/exact"));
    let mut v1 = sample(512);
    let words = v1.list(b"x");
    v1.append(0, Entry { kind: 0x11, name: b"..".to_vec(), words, attrs: Vec::new() });
    assert_eq!(only(&v1.image()), note("name-impossible", "/.."));
}

#[test]
fn lists() {
    let mut v1 = sample(512);
    v1.entry("large").words[0] = 200;
    assert_eq!(only(&v1.image()), error("ctz-range", "/large"));
    let mut v1 = sample(512);
    v1.entry("large").words[1] = 0x7fff_ffff;
    assert_eq!(only(&v1.image()), error("ctz-too-long", "/large"));
    let mut v1 = sample(512);
    v1.entry("large").words = v1.entry("exact").words;
    assert_eq!(only(&v1.image()), error("block-shared", "/large"));
    // in metadata
    let mut v1 = sample(512);
    v1.entry("exact").words[0] = v1.root[1];
    assert_eq!(only(&v1.image()), error("block-shared", "/exact"));
    // pointers of block 4 of a list: to 3, 2 and 0
    let mut v1 = sample(512);
    let [head, size] = v1.list(&content(5, 512 + 508 + 504 + 508 + 100));
    v1.append(
        0,
        Entry { kind: 0x11, name: b"list".to_vec(), words: [head, size], attrs: Vec::new() },
    );
    let mut image = v1.image();
    image[head as usize * 512 + 8] ^= 1;
    assert_eq!(only(&image), error("ctz-pointer", "/list"));
}
