//! Mounts, changes and repairs any image. No change and no repair may add a new kind of error, and
//! no error may be left after `-y`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::check::{Mode, check, repair};
use littlefs::error::Result;
use littlefs::fs::{At, Fs, OpenOptions, ROOT};
use littlefs_fuzz::errors;

fn change(fs: &mut Fs) -> Result<()> {
    if let Some(name) = fs.list(ROOT)?.into_iter().next() {
        let _ = fs.unlink(ROOT, &name).or_else(|_| fs.rename(ROOT, &name, ROOT, b"renamed", true));
    }
    let dir = fs.mkdir(ROOT, b"~dir")?;
    fs.create(dir, b"new")?;
    let file = fs.open_file(dir, b"new")?;
    let written = fs.write(file, 100, &[7; 2000]);
    fs.close_file(file);
    written?;
    fs.flush()?;
    fs.set_attr(At::Entry(dir, b"new"), 0x74, b"time")?;
    fs.rename(dir, b"new", ROOT, b"moved", false)?;
    fs.rmdir(ROOT, b"~dir")?;
    fs.flush()
}

fuzz_target!(|data: &[u8]| {
    let Some(dev) = littlefs_fuzz::device(data) else { return };
    let Ok(before) = check(dev.clone()) else { return };
    let Ok(mut fs) = Fs::open(dev.clone(), &OpenOptions::default()) else { return };
    let changed = change(&mut fs);
    littlefs_fuzz::walk(&mut fs);
    drop(fs);
    let after = check(dev.clone()).expect("examined as before");
    assert!(errors(&after).is_subset(&errors(&before)), "{changed:?}: {:#?}", after.findings);
    let repairs = repair(dev.clone(), Mode::Preen);
    let mended = check(dev.clone()).expect("examined as before");
    let left = errors(&mended);
    assert!(left.is_subset(&errors(&after)), "{repairs:?}: {:#?}", mended.findings);
    let repairs = repair(dev.clone(), Mode::Yes);
    let mended = check(dev).expect("examined as before");
    // without enough space, some errors have to stay
    let all = repairs.as_ref().is_ok_and(|r| r.stopped.is_none());
    assert!(!all || errors(&mended).is_empty(), "{repairs:#?}: {:#?}", mended.findings);
});
