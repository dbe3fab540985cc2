//! Commits behind a damaged one: no driver reads them, but what they hold comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Finding, Severity, check};
use littlefs::disk::dissect::{Commit, Dissection};
use littlefs::recover::{Grade, Recovery, Source, recover};

use testkit::clfs::{CLfs, Config};
use testkit::random::Random;

const BLOCK_SIZE: usize = 1024;
const BLOCK_COUNT: u32 = 32;
const PROG_SIZE: u32 = 16;

/// An image, and all that each file ever contained.
struct Written {
    image: Vec<u8>,
    contents: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

/// Some files in the root, rewritten many times, so that its log has many commits. One of them is
/// too large for the log.
fn written() -> Written {
    let config = Config::new(BLOCK_SIZE as u32, BLOCK_COUNT, PROG_SIZE);
    let mut c = CLfs::fresh(&config).expect("a filesystem");
    let mut contents = BTreeSet::new();
    for round in 0..4 {
        for name in ["boot.count", "state", "list"] {
            let text = format!("{name} {round} ");
            let bytes = text.repeat(if name == "list" { 200 } else { 2 }).into_bytes();
            c.write_file(name.as_bytes(), &bytes).expect("written");
            contents.insert((name.as_bytes().to_vec(), bytes));
        }
    }
    c.remove(b"state").expect("removed");
    c.write_file(b"last", b"the newest file").expect("written");
    contents.insert((b"last".to_vec(), b"the newest file".to_vec()));
    // each file is made with an empty commit of its own
    for name in ["boot.count", "state", "list", "last"] {
        contents.insert((name.as_bytes().to_vec(), Vec::new()));
    }
    Written { image: c.unmount(), contents }
}

fn device(image: &[u8]) -> RamDevice {
    let geometry = Geometry::new(BLOCK_SIZE as u32, BLOCK_COUNT).expect("possible");
    RamDevice::from_image(geometry, image.to_vec())
}

/// The block of the root that is in force.
fn live_block(image: &[u8]) -> usize {
    let revision = |block: usize| {
        u32::from_le_bytes(image[block * BLOCK_SIZE..][..4].try_into().expect("four bytes"))
    };
    usize::from(revision(1).wrapping_sub(revision(0)).cast_signed() > 0)
}

fn content(file: &littlefs::recover::Recovered, image: &[u8]) -> Option<Vec<u8>> {
    match &file.source {
        Source::Inline(bytes) => Some(bytes.to_vec()),
        Source::Blocks(blocks) => {
            let mut content = Vec::new();
            for (index, block) in blocks.iter().enumerate() {
                let start = (*block)? as usize * BLOCK_SIZE;
                let pointers = if index == 0 { 0 } else { 4 * (index.trailing_zeros() + 1) };
                content.extend_from_slice(&image[start..][..BLOCK_SIZE][pointers as usize..]);
            }
            content.truncate(file.size as usize);
            Some(content)
        }
    }
}

/// Check that everything that is called checked or complete was once written in this way.
fn check_truth(at: &str, found: &Recovery, image: &[u8], written: &Written) {
    for file in found.files.iter().filter(|file| file.grade != Grade::Partial) {
        let path = file.path.clone().expect("such a result has an entry");
        let content = content(file, image).expect("all of its blocks are known");
        assert!(written.contents.contains(&(path, content)), "{at}: {file:?}");
    }
}

#[test]
fn whichever_byte_of_a_log_changes_nothing_wrong_is_called_checked_or_complete() {
    let written = written();
    let start = live_block(&written.image) * BLOCK_SIZE;
    let log = Dissection::of(&written.image[start..start + BLOCK_SIZE]).expect("a log");
    let (mut hidden, mut newest) = (0, 0);
    for offset in 4..BLOCK_SIZE {
        for mask in [0x01, 0x10, 0xff] {
            let mut image = written.image.clone();
            image[start + offset] ^= mask;
            let dev = device(&image);
            let found = recover(&dev, &|_| ()).expect("readable");
            let at = format!("byte {offset:#x} ^ {mask:#x}");
            check_truth(&at, &found, &image, &written);
            let report = check(Arc::new(dev)).expect("examined");
            let finding = report.findings.iter().find(|finding| finding.code == "commits-hidden");
            if let Some(finding) = finding {
                hidden += 1;
                // the forward CRC of the commit before shows that what is hidden is later
                let has_proof = offset >= log.commits[0].end as usize;
                assert_eq!(finding.severity == Severity::Error, has_proof, "{at}");
                newest += u32::from(found.files.iter().any(|file| {
                    file.path.as_deref() == Some(b"last") && file.grade == Grade::Checked
                }));
            }
        }
    }
    // all changes of all commits but the last one are found, except in padding
    let (_, others) = log.commits.split_last().expect("commits");
    let length = |commit: &Commit| commit.tags.last().expect("a CRC").off + 8 - commit.start.max(4);
    assert_eq!(hidden, 3 * others.iter().map(length).sum::<u32>());
    // the newest file is damaged itself, or checked
    assert!(newest * 50 > hidden * 48, "{newest} of {hidden}");
}

/// Bytes that read 0xFF in the middle of a log do not look like its end.
#[test]
fn erased_bytes_in_a_log_are_an_error() {
    let written = written();
    let start = live_block(&written.image) * BLOCK_SIZE;
    let log = Dissection::of(&written.image[start..start + BLOCK_SIZE]).expect("a log");
    let (_, others) = log.commits.split_last().expect("commits");
    let mut damaged = 0;
    for commit in &others[1..] {
        for count in 1..=commit.tags.len() {
            for tags in commit.tags.windows(count) {
                let (first, last) = (tags[0].off as usize, tags[tags.len() - 1].off as usize);
                // if all that the forward CRC covers reads 0xFF, it proves nothing
                if first == commit.start as usize && last + 4 - first >= PROG_SIZE as usize {
                    continue;
                }
                let mut image = written.image.clone();
                image[start + first..start + last + 4].fill(0xff);
                let report = check(Arc::new(device(&image))).expect("examined");
                let is_it =
                    |f: &Finding| f.code == "commits-hidden" && f.severity == Severity::Error;
                assert!(report.findings.iter().any(is_it), "{first:#x}..{last:#x}: {report:?}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 30, "{damaged}");
}

/// Two or three changes in one commit: which of its tags are right is not known.
#[test]
fn however_a_commit_is_damaged_nothing_wrong_is_called_checked_or_complete() {
    let written = written();
    let start = live_block(&written.image) * BLOCK_SIZE;
    let log = Dissection::of(&written.image[start..start + BLOCK_SIZE]).expect("a log");
    let mut random = Random(31);
    let mut hidden = 0;
    for round in 0..4000 {
        let commit = &log.commits[random.below(log.commits.len())];
        let first = commit.start.max(4);
        let mut image = written.image.clone();
        let tag = commit.tags[random.below(commit.tags.len())].off;
        let mut offsets = vec![tag + random.below(4) as u32];
        for _ in 0..1 + random.below(2) {
            offsets.push(first + random.below((commit.end - first) as usize) as u32);
        }
        for offset in &offsets {
            image[start + *offset as usize] ^= 1 << random.below(8);
        }
        let dev = device(&image);
        let found = recover(&dev, &|_| ()).expect("readable");
        check_truth(&format!("round {round}, bytes {offsets:?}"), &found, &image, &written);
        let report = check(Arc::new(dev)).expect("examined");
        hidden += u32::from(report.findings.iter().any(|finding| finding.code == "commits-hidden"));
    }
    assert!(hidden > 2000, "{hidden}");
}

#[test]
fn the_first_commit_of_the_newer_block_may_be_the_damaged_one() {
    let written = written();
    let mut image = written.image.clone();
    // a byte of the superblock's magic number
    let magic = live_block(&image) * BLOCK_SIZE + 10;
    image[magic] ^= 4;
    let dev = device(&image);
    let found = recover(&dev, &|_| ()).expect("readable");
    check_truth("the first commit", &found, &image, &written);
    let last = found.files.iter().find(|file| file.path.as_deref() == Some(b"last"));
    assert_eq!(last.map(|file| file.grade), Some(Grade::Checked), "{:?}", found.files);
    let report = check(Arc::new(dev)).expect("examined");
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"pair-half-dead") && codes.contains(&"commits-hidden"), "{codes:?}");
    assert!(report.is_clean(), "it is a note: {:?}", report.findings);
}
