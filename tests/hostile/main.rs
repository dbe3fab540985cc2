//! Images with false information: whatever the bytes are, there is an answer in bounded time and
//! memory, and never a panic. What is not damaged can still be read, and is never damaged by this
//! library.

mod cases;
mod chamelon;
mod every_operation;
mod large;
mod no_loss;
mod reports;
mod v1;
mod verbs;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cases::Case;
use every_operation::do_everything;
use littlefs::bd::Geometry;
use littlefs::disk::superblock;
use testkit::builder::Builder;
use testkit::mutate;

/// For every crafted image, what must be readable can be read, each damage has its own error, and
/// the verifier names the damage.
#[test]
fn crafted_images() {
    let scratch = tempfile::tempfile().expect("scratch file");
    let mut failed = Vec::new();
    for case in cases::all() {
        if catch_unwind(AssertUnwindSafe(|| judge(&case, &scratch))).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn judge(case: &Case, scratch: &File) {
    let Builder { geometry, bytes } = &case.image;
    let outcome = do_everything(case.name, *geometry, bytes, scratch);
    let show = |path: &str| format!("{}: {path}: {:?}", case.name, outcome.seen);
    for path in case.readable {
        let what = outcome.seen.get(path.as_bytes());
        assert!(matches!(what, Some(Ok(_))), "{}", show(path));
    }
    for path in case.broken {
        let what = outcome.seen.get(path.as_bytes());
        assert!(matches!(what, Some(Err(e)) if e.starts_with("damaged")), "{}", show(path));
    }
    for path in case.absent {
        assert!(!outcome.seen.contains_key(path.as_bytes()), "{}", show(path));
    }
    for code in case.codes {
        assert!(outcome.codes.contains(code), "{}: no {code}: {:?}", case.name, outcome.codes);
    }
}

/// Real images with a few bytes changed: anywhere, and in metadata with corrected CRCs.
#[test]
fn corrupted_images() {
    let scratch = tempfile::tempfile().expect("scratch file");
    let mut failed = Vec::new();
    for (base, geometry, image) in mutate::bases() {
        for seed in 0..mutate::rounds() {
            let bytes = mutate::corrupt(&image, geometry, seed);
            let name = format!("{base}, seed {seed}");
            let run = || do_everything(&name, geometry, &bytes, &scratch);
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The images in tests/corpus, each with its name. Erased bytes at their ends are left out there.
fn corpus_images() -> Vec<(String, Geometry, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let paths = std::fs::read_dir(dir).expect("tests/corpus");
    let image = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("entry").path();
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes.resize(64 << 10, 0xff);
        let (sb, _) = superblock::probe(&bytes).expect("a superblock");
        let geometry = Geometry::new(sb.block_size, sb.block_count).expect("possible");
        bytes.resize(geometry.size() as usize, 0xff);
        (path.display().to_string(), geometry, bytes)
    };
    paths.map(image).collect()
}

/// Images that the fuzzers and this test have found.
#[test]
fn corpus() {
    let scratch = tempfile::tempfile().expect("scratch file");
    for (name, geometry, bytes) in corpus_images() {
        do_everything(&name, geometry, &bytes, &scratch);
    }
}
