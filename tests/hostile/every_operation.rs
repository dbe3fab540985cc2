//! What is done with an image, and what it may cost.

#![expect(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::Arc;

use super::reports::see;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Finding, Mode, Report, Severity, check, repair};
use littlefs::error::{Error, Result};
use littlefs::fs::{At, DirId, Fs, Node, OpenOptions, ROOT};
use littlefs::image;
use littlefs::kv;
use littlefs::recover::{Manifest, Saved, recover};
use testkit::clfs::{CError, CLfs, Config};

/// The most that any step may cost for an image of 64 KiB.
const BYTES_MAX: isize = 64 << 20;
const NANOSECONDS_MAX: u64 = 1_000_000_000;

/// Counts how much memory each thread holds, and the most that it has ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Note that the held memory changes. Returns false if it is far too much, so that the test runs
/// out of memory, and not the machine.
fn count(change: isize) -> bool {
    let held = HELD.get() + change;
    if change > 0 && held > 8 * BYTES_MAX {
        return false;
    }
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    true
}

// SAFETY: everything is passed on to the system's allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !count(size as isize - layout.size() as isize) {
            return null_mut();
        }
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let _ = count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The processor time of this thread in nanoseconds, so that other processes do not count.
fn cpu_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Run one step. This panics if the step panics or costs too much.
pub fn bounded<T>(name: &str, step: &str, f: impl FnOnce() -> T) -> T {
    let (held, start) = (HELD.get(), cpu_time());
    PEAK.set(held);
    let result = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(panic) => {
            eprintln!("{name}: {step} panicked");
            resume_unwind(panic);
        }
    };
    let (bytes, time) = (PEAK.get() - held, cpu_time() - start);
    assert!(bytes <= BYTES_MAX, "{name}: {step} took {bytes} bytes of memory");
    assert!(time <= NANOSECONDS_MAX, "{name}: {step} took {} ms", time / 1_000_000);
    result
}

fn read_only() -> OpenOptions {
    OpenOptions { read_only: true, ..OpenOptions::default() }
}

/// What a path refers to: a directory, or the checksum of a file, or why it cannot be read.
pub type Seen = BTreeMap<Vec<u8>, Result<Option<u32>, String>>;

/// Read everything.
pub fn walk(fs: &mut Fs) -> Seen {
    let mut seen = Seen::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for name in fs.list(dir).unwrap_or_default() {
            let child =
                if path.is_empty() { name.to_vec() } else { [&path[..], b"/", &name].concat() };
            let what = match fs.lookup(dir, &name) {
                Ok(Node::Dir(d)) => {
                    if !seen.contains_key(&child) {
                        todo.push((d, child.clone()));
                    }
                    fs.list(d).map(|_| None)
                }
                Ok(Node::File { .. }) => read_file(fs, dir, &name).map(Some),
                Err(e) => Err(e),
            };
            for ty in fs.list_attrs(At::Entry(dir, &name)).unwrap_or_default() {
                let _ = fs.get_attr(At::Entry(dir, &name), ty);
            }
            seen.entry(child).or_insert(what.map_err(|e| e.to_string()));
        }
    }
    seen
}

fn read_file(fs: &mut Fs, dir: DirId, name: &[u8]) -> Result<u32> {
    let file = fs.open_file(dir, name)?;
    let size = u64::from(fs.file_size(file).expect("is open"));
    let mut sum = 0;
    let mut off = 0;
    let mut result = Ok(());
    while off < size {
        match fs.read(file, off, 16 << 10).and_then(|plan| plan.run()) {
            Ok(bytes) if !bytes.is_empty() => {
                sum = littlefs::disk::crc::crc(sum, &bytes);
                off += bytes.len() as u64;
            }
            Ok(_) => break,
            Err(e) => {
                result = Err(e);
                break;
            }
        }
    }
    fs.close_file(file);
    result.map(|()| sum)
}

/// Make a few changes of every kind. Damage may prevent some of them.
fn change(fs: &mut Fs, victim: &[u8]) -> Result<()> {
    if !victim.is_empty() {
        fs.unlink(ROOT, victim)?;
        fs.flush()?;
    }
    fs.create(ROOT, b"~new")?;
    let file = fs.open_file(ROOT, b"~new")?;
    let written = fs.write(file, 0, &[7; 3000]);
    fs.close_file(file);
    written?;
    fs.flush()?;
    let dir = fs.mkdir(ROOT, b"~dir")?;
    fs.create(dir, b"a")?;
    fs.flush()?;
    fs.rename(ROOT, b"~new", dir, b"b", false)?;
    fs.set_attr(At::Entry(dir, b"a"), 0x74, b"1234")?;
    fs.flush()?;
    fs.unlink(dir, b"a")?;
    fs.unlink(dir, b"b")?;
    fs.rmdir(ROOT, b"~dir")?;
    fs.flush()
}

fn errors(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect()
}

/// Use the image as a key-value store: read everything, and change something.
fn use_as_store(dev: Arc<RamDevice>, read_only: bool) -> Result<(), kv::Error> {
    let options = kv::Options { read_only, ..kv::Options::default() };
    let store = kv::Store::connect(dev, &options)?;
    let mut todo = vec![kv::Key::root()];
    while let Some(key) = todo.pop() {
        let _ = (store.size(&key), store.digest(&key), store.last_modified(&key));
        for (key, kind) in store.list(&key).unwrap_or_default() {
            match kind {
                kv::Kind::Dictionary => todo.push(key),
                kv::Kind::Value => _ = store.get(&key),
            }
        }
        let _ = store.values_reversed(&key).map(|values| values.take_while(|v| v.is_ok()).count());
    }
    let key = |path: &str| kv::Key::new(path);
    store.set(&key("~d/value")?, &[7; 900])?;
    store.batch(|b| {
        b.rename(&key("~d")?, &key("~e")?)?;
        b.set(&key("~f/value")?, b"8")
    })?;
    store.remove(&key("~e")?)?;
    store.remove(&key("~f")?)?;
    store.disconnect()
}

/// The result for an image.
pub struct Outcome {
    /// What can be read. `None` if the image cannot be opened.
    pub seen: Seen,
    /// The codes of all findings.
    pub codes: BTreeSet<&'static str>,
}

/// Do everything with an image. This panics if anything panics, takes too long or uses too much
/// memory, or if writing to the image makes it worse.
pub fn do_everything(name: &str, geometry: Geometry, bytes: &[u8], scratch: &File) -> Outcome {
    scratch.set_len(0).expect("truncate");
    scratch.write_all_at(bytes, 0).expect("write");
    bounded(name, "probe", || {
        let _ = image::locate(scratch, 0, image::SEARCH_FILE);
    });
    let device = Arc::new(RamDevice::from_image(geometry, bytes.to_vec()));
    let report = bounded(name, "check", || check(device));
    let codes = report.iter().flat_map(|r| &r.findings).map(|f| f.code).collect();
    let image = Image { name, geometry, bytes, report };
    see(image.device(), &|what, ask| bounded(name, &format!("inspect {what}"), ask));
    image.recovered();
    let Some(seen) = image.read() else { return Outcome { seen: Seen::new(), codes } };
    image.changed(&seen);
    image.used_as_store();
    image.repaired(&seen);
    image.repaired_with_losses(&seen, &codes);
    Outcome { seen, codes }
}

/// An image, and what the verifier says about it.
struct Image<'a> {
    name: &'a str,
    geometry: Geometry,
    bytes: &'a [u8],
    report: Result<Report>,
}

impl Image<'_> {
    /// A new device with this image.
    fn device(&self) -> Arc<RamDevice> {
        Arc::new(RamDevice::from_image(self.geometry, self.bytes.to_vec()))
    }

    fn recovered(&self) {
        let (name, dev) = (self.name, self.device());
        bounded(name, "recover", || {
            let recovery = recover(&*dev, &|_| ()).expect("readable");
            for file in &recovery.files {
                file.read(&*dev, &mut |_, _| Ok(())).expect("readable");
            }
            let saved = vec![Saved::Nothing; recovery.files.len()];
            let manifest = Manifest::new(&recovery, &saved, &|time| time.to_string());
            let json = serde_json::to_vec(&manifest).expect("JSON");
            assert!(!json.is_empty() && !manifest.to_string().is_empty());
        });
        assert_eq!(dev.image(), self.bytes, "{name}: recovering changed the image");
    }

    /// What can be read. `None` if the image cannot be opened.
    fn read(&self) -> Option<Seen> {
        let (name, dev) = (self.name, self.device());
        let seen = bounded(name, "read", || {
            let mut fs = Fs::open(dev.clone(), &read_only()).ok()?;
            let seen = walk(&mut fs);
            let _ = (fs.usage(), fs.counts());
            assert!(matches!(fs.create(ROOT, b"~"), Err(Error::ReadOnly)));
            Some(seen)
        });
        assert_eq!(dev.image(), self.bytes, "{name}: reading changed the image");
        seen
    }

    /// Remove a file of the root, and make and change new entries: no other entry may change.
    fn changed(&self, seen: &Seen) {
        let (name, dev) = (self.name, self.device());
        let mut in_root =
            seen.iter().filter(|(path, what)| matches!(what, Ok(Some(_))) && !path.contains(&b'/'));
        let victim = in_root.next_back().map(|(path, _)| path.clone()).unwrap_or_default();
        let changed = bounded(name, "write", || {
            let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens as before");
            change(&mut fs, &victim)
        });
        let after = bounded(name, "read again", || {
            let mut fs = Fs::open(dev.clone(), &read_only()).expect("opens after changes");
            walk(&mut fs)
        });
        // a file that claims blocks of metadata shows what is written there
        let over_metadata = self
            .report
            .iter()
            .flat_map(|r| &r.findings)
            .any(|f| f.code == "block-shared" && f.message.contains("metadata pair"));
        for (path, what) in seen.iter().filter(|(p, _)| !p.starts_with(b"~") && **p != victim) {
            if what.is_ok() && !over_metadata {
                let now = after.get(path);
                assert_eq!(now, Some(what), "{name}: {} after {changed:?}", path.escape_ascii());
            }
        }
        let _ = self.assert_no_new_errors(&dev, "write", &changed);
    }

    fn used_as_store(&self) {
        let (name, dev) = (self.name, self.device());
        for read_only in [true, false] {
            let used = bounded(name, "kv", || use_as_store(dev.clone(), read_only));
            let refused = used.is_err() && dev.image() == self.bytes;
            assert!(!read_only || refused, "{name}: {used:?}");
            let _ = self.assert_no_new_errors(&dev, "kv", &used);
        }
    }

    /// Repair what can be repaired without a loss.
    fn repaired(&self, seen: &Seen) {
        let (name, dev) = (self.name, self.device());
        let repairs =
            bounded(name, "repair", || repair(dev.clone(), Mode::Preen)).expect("opens as before");
        let mended = self.assert_no_new_errors(&dev, "repair", &repairs);
        if let (Ok(before), Ok(after)) = (&self.report, &mended) {
            assert!(
                after.totals.files >= before.totals.files,
                "{name}: {repairs:?}: {before:?} {after:?}"
            );
        }
        self.assert_kept("repaired", seen, &dev);
    }

    /// Repair everything.
    fn repaired_with_losses(&self, seen: &Seen, codes: &BTreeSet<&'static str>) {
        let (name, dev) = (self.name, self.device());
        let repairs = bounded(name, "repair -y", || repair(dev.clone(), Mode::Yes));
        let repairs = repairs.expect("opens as before");
        let mended =
            bounded(name, "check repaired -y", || check(dev.clone())).expect("opens as before");
        assert!(mended.is_clean(), "{name}: {repairs:#?}: {:#?}", mended.findings);
        self.assert_kept("repaired -y", seen, &dev);
        if !codes.contains("superblock-outdated") && !is_beyond_c(self.geometry, self.bytes) {
            c_reads(name, &dev, codes.contains("type-unknown"));
        }
        let again = bounded(name, "repair again", || repair(dev.clone(), Mode::Yes));
        let again = again.expect("opens");
        assert!(again.done.is_empty() && again.stopped.is_none(), "{name}: {again:#?}");
    }

    /// Check that `step`, which gave this result, has added no errors. Returns what the verifier
    /// says now.
    fn assert_no_new_errors(
        &self,
        dev: &Arc<RamDevice>,
        step: &str,
        result: &dyn Debug,
    ) -> Result<Report> {
        let name = self.name;
        let now = bounded(name, &format!("check after {step}"), || check(dev.clone()));
        if let (Ok(before), Ok(after)) = (&self.report, &now) {
            let new: Vec<_> = errors(after).difference(&errors(before)).copied().collect();
            assert!(new.is_empty(), "{name}: after {step}, {result:?}: {:#?}", after.findings);
        }
        now
    }

    /// Check that every file that could be read, and is not damaged itself, still has its content:
    /// at its path, or elsewhere if its path was damaged.
    fn assert_kept(&self, step: &str, seen: &Seen, dev: &Arc<RamDevice>) {
        let (name, Ok(report)) = (self.name, &self.report) else { return };
        let after =
            bounded(name, step, || walk(&mut Fs::open(dev.clone(), &read_only()).expect("opens")));
        let everywhere: BTreeSet<u32> = after.values().filter_map(|w| *w.as_ref().ok()?).collect();
        let own = |f: &Finding| f.severity == Severity::Error && f.code != "unthreaded";
        // the message names a file that shares blocks; the place names a damaged file
        let text: String = report
            .findings
            .iter()
            .filter(|f| own(f))
            .flat_map(|f| [&f.place, " ", &f.message, "\n"].map(str::to_owned))
            .collect();
        for (path, what) in seen {
            let Ok(Some(sum)) = what else { continue };
            let shown = String::from_utf8_lossy(path);
            if text.contains(&*shown) || !report.omitted.is_empty() {
                continue;
            }
            match after.get(path) {
                Some(Ok(Some(now))) => assert_eq!(now, sum, "{name}, {step}: {shown}"),
                _ => {
                    assert!(everywhere.contains(sum), "{name}, {step}: {shown} is gone: {after:?}")
                }
            }
        }
    }
}

/// Whether the C driver refuses the superblock, because its limits are larger than those of the
/// driver.
fn is_beyond_c(g: Geometry, bytes: &[u8]) -> bool {
    let config = Config::new(g.block_size, g.block_count, 16);
    g.block_size < 128 || matches!(CLfs::mount(bytes.to_vec(), &config), Err(CError::Inval))
}

/// The C driver mounts the image and reads every file. It takes an entry of an unknown type for a
/// file that it cannot open.
fn c_reads(name: &str, dev: &RamDevice, unknown: bool) {
    let g = dev.geometry();
    let config = Config::new(g.block_size, g.block_count, 16);
    let mut c = CLfs::mount(dev.image(), &config).unwrap_or_else(|e| panic!("{name}: C: {e:?}"));
    match c.tree(&[]) {
        Err(CError::IsDir) if unknown => {}
        tree => _ = tree.unwrap_or_else(|e| panic!("{name}: C reads: {e:?}")),
    }
}
