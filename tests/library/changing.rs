//! Changes that are made completely or not at all.

use std::fs;

use littlefs::change::{Failed, How, change};
use littlefs::{Error, FormatOptions, Littlefs, OpenOptions};

/// More new metadata pairs than are held in memory with a cache of 4 MiB.
fn fill(fs: &Littlefs) -> Result<(), Error> {
    (0..4200).try_for_each(|i| fs.create_dir(i.to_string()))?;
    fs.write("large", vec![7; 1 << 20])
}

/// Changes that exceed the memory go to the journal, several times, and not into the image.
#[test]
fn an_atomic_change_may_exceed_the_memory() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("i.img");
    let image = FormatOptions::new().block_size(512).size(8 << 20).create(&path).expect("create");
    image.write("old", "kept").expect("write");
    image.close().expect("close");
    let before = fs::read(&path).expect("read");

    let how = How { dry_run: false, atomic: true };
    let options = OpenOptions::new().cache(4 << 20);
    let failed = change(&path, &options, how, &mut |image| {
        fill(image)?;
        assert!(image.flushes().done > 0, "this is to be more than fits into memory");
        assert!(fs::read(&path).expect("read") == before, "the image is written too early");
        image.write("no/directory", "")
    });
    let Err(Failed::Operation { why: Error::NotFound, written: false }) = failed else {
        panic!("{failed:?}")
    };
    assert!(fs::read(&path).expect("read") == before);
    assert_eq!(fs::read_dir(dir.path()).expect("read_dir").count(), 1, "the journal is removed");

    change(&path, &options, how, &mut fill).expect("change");
    let image = Littlefs::open(&path).expect("open");
    assert_eq!(image.counts().expect("counts").files, 2);
    assert_eq!(image.read("old").expect("read"), b"kept");
    assert!(image.read("large").expect("read").iter().all(|&b| b == 7));
    assert_eq!(fs::read_dir(dir.path()).expect("read_dir").count(), 1);
}
