//! What `check` reports for an image of chamelon.

use std::collections::BTreeSet;

use super::{device, value, varied};
use littlefs::chamelon::check;
use littlefs::check::{Finding, Report, Severity};
use testkit::chamelon::{Chamelon, written};

fn report(image: &[u8]) -> Report {
    check(&*device(image), &|_| ()).expect("can be examined")
}

fn errors(image: &[u8]) -> Vec<Finding> {
    let findings = report(image).findings.into_iter();
    findings.filter(|f| f.severity == Severity::Error).collect()
}

fn codes(image: &[u8]) -> BTreeSet<&'static str> {
    errors(image).iter().map(|f| f.code).collect()
}

#[test]
fn a_sound_image_is_clean() {
    for image in [written(), varied(512, 400, 16).chamelon.image] {
        let report = report(&image);
        assert!(report.is_clean(), "{:#?}", report.findings);
        let codes: Vec<_> = report.findings.iter().map(|f| f.code).collect();
        assert_eq!(codes, ["dialect"]);
    }
    let totals = report(&written()).totals;
    assert_eq!((totals.files, totals.directories, totals.blocks_used), (36, 10, 48));
}

/// When chamelon starts, it forgets the first block of every list.
#[test]
fn a_value_that_chamelon_overwrote_is_named() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("d/old", &value(1, 2000));
    c.restart();
    c.set("new", &value(2, 2000));
    let found = errors(&c.image);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].code, &*found[0].place), ("block-shared", "/d/old"));
    let message = &found[0].message;
    assert!(message.contains("bytes 0..512 are lost") && message.contains("/new"), "{message}");

    // both in their first block: the times tell
    let mut c = Chamelon::format(512, 128, 16);
    c.set("b-old", &value(1, 700));
    c.restart();
    c.set("a-new", &value(2, 300));
    let found = errors(&c.image);
    assert_eq!((found.len(), &*found[0].place), (1, "/b-old"), "{found:#?}");

    // by metadata
    let mut c = Chamelon::format(512, 128, 16);
    c.set("old", &value(1, 2000));
    c.restart();
    c.mkdir("dir");
    let found = errors(&c.image);
    assert_eq!((found.len(), &*found[0].place), (1, "/old"), "{found:#?}");
    assert!(found[0].message.contains("metadata of /dir"), "{found:#?}");
}

/// A value of 1023 or 1024 bytes in blocks of 4096 bytes does not fit into the tag that chamelon
/// uses for it.
#[test]
fn a_value_that_chamelon_itself_cannot_read_spoils_nothing_else() {
    for size in [1023, 1024] {
        let mut c = Chamelon::format(4096, 64, 16);
        c.set("before", b"1");
        c.set("spoilt", &vec![0xa5; size]);
        assert_eq!(codes(&c.image), BTreeSet::from(["commit-broken"]));
    }
}

#[test]
fn every_damage_has_its_code() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("d/large", &value(1, 9000));
    c.set("e/f/g", &value(2, 9));
    let sound = c.image.clone();
    let dir = c.pairs("d")[0];
    let inner = c.pairs("e/f")[0];
    let fill = |image: &mut [u8], block: u32| {
        image[block as usize * 512..][..512].fill(0x5a);
    };

    let mut image = sound.clone();
    fill(&mut image, inner.0);
    assert_eq!(codes(&image), BTreeSet::new(), "the twin serves");
    fill(&mut image, inner.1);
    let found = errors(&image);
    assert_eq!((found.len(), found[0].code, &*found[0].place), (1, "directory-broken", "/e/f"));

    // a directory that names the root, or another
    for (target, code) in
        [((0, 1), "tree-loop"), (dir, "tree-loop"), ((900, 901), "directory-broken")]
    {
        let mut c = c.clone();
        c.link("e", "loop", target);
        assert_eq!(codes(&c.image), BTreeSet::from([code]), "{target:?}");
    }

    // the last block of the list names the one before by its first pointer
    for (head, size, code) in [
        (5000, 9000, "ctz-range"),
        (9, 0x7fff_0000, "ctz-too-long"),
        (9, 0x8000_0000, "ctz-too-long"),
    ] {
        let mut c = c.clone();
        c.point("e", "lost", head, size);
        assert!(codes(&c.image).contains(code), "{code}: {:?}", codes(&c.image));
    }
}
