//! Repair: what it repairs, what it reports, and what it leaves alone. C littlefs judges the
//! result.

mod damages;
mod duplicate_names;
mod hidden_commits;
mod interrupted;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use damages::Preen;
use littlefs::bd::emu::{BadBlock, EmuDevice};
use littlefs::bd::{BlockDevice, Geometry, IoResult, RamDevice};
use littlefs::check::{Mode, Severity, check, repair};
use littlefs::disk::{GState, Tail, tag};
use littlefs::error::{IoError, IoOp};
use littlefs::fs::{Fs, Node, OpenOptions, ROOT};
use testkit::builder::{
    Builder, hard, moving, put_ctz, put_dir, put_inline, put_superblock, soft, superblock,
};
use testkit::clfs::{CLfs, Config};
use testkit::tree::{Kind, Tree};

/// Check that after a repair, there is nothing to find, and C sees `files`: paths and contents.
fn mends(name: &str, image: &Builder, codes: &[&str], files: &[(&str, &str)]) -> Tree {
    let dev = Arc::new(RamDevice::from_image(image.geometry, image.bytes.clone()));
    let before = check(dev.clone()).expect("examined");
    for code in codes {
        assert!(before.findings.iter().any(|f| f.code == *code), "{name}: {before:#?}");
    }
    let repairs = repair(dev.clone(), Mode::Preen).expect("opens");
    assert!(repairs.stopped.is_none(), "{name}: {repairs:?}");
    assert!(!repairs.done.is_empty(), "{name}: says what it did");
    let after = check(dev.clone()).expect("examined");
    assert!(after.findings.is_empty(), "{name}: {:#?}\n{repairs:#?}", after.findings);
    assert!(
        repair(dev.clone(), Mode::Preen).expect("opens").done.is_empty(),
        "{name}: once is enough"
    );

    let g = image.geometry;
    let config = Config::new(g.block_size, g.block_count, 16);
    let mut c = CLfs::mount(dev.image(), &config).expect("C mounts");
    let tree = c.tree(&[]).expect("C reads");
    for (path, content) in files {
        let entry = tree.get(path.as_bytes()).unwrap_or_else(|| panic!("{name}: {path}: {tree:?}"));
        let Kind::File(bytes) = &entry.kind else { panic!("{name}: {path} is no file") };
        assert_eq!(bytes.escape_ascii().to_string(), *content, "{name}: {path}");
    }
    c.write_file(b"device", &[1; 2000]).expect("C writes");
    c.mkconsistent().expect("mkconsistent");
    let image = c.unmount();
    let report = check(Arc::new(RamDevice::from_image(g, image))).expect("examined");
    assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    tree
}

#[test]
fn directories_the_thread_misses_are_threaded() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_dir(w, 1, b"a", [2, 3]);
        put_dir(w, 2, b"b", [4, 5]);
    });
    b.small_dir([2, 3], hard([6, 7]));
    b.pair([6, 7], |w| put_inline(w, 0, b"more", b"more"));
    b.pair([4, 5], |w| put_dir(w, 0, b"deep", [8, 9])).small_dir([8, 9], Tail::END);
    let files = [("a/file", "content"), ("a/more", "more"), ("b/deep/file", "content")];
    mends("unthreaded", &b, &["unthreaded"], &files);
}

#[test]
fn directories_without_a_name_come_to_lost_and_found() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_inline(w, 1, b"good", b"good"));
    b.pair([2, 3], |w| {
        put_inline(w, 0, b"file", b"content");
        put_dir(w, 1, b"inner", [4, 5]);
        w.tail(soft([4, 5]));
    });
    b.small_dir([4, 5], soft([6, 7]));
    b.pair([6, 7], |w| w.tail(soft([8, 9]))).small_dir([8, 9], Tail::END);
    let files = [
        ("good", "good"),
        ("lost+found/dir-2/file", "content"),
        ("lost+found/dir-2/inner/file", "content"),
        ("lost+found/dir-8/file", "content"),
    ];
    mends("orphans", &b, &["orphan"], &files);
}

#[test]
fn names_become_possible_and_unique() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_inline(w, 1, b"", b"0");
        put_inline(w, 2, b"..", b"1");
        put_dir(w, 3, b"a/b", [2, 3]);
        put_inline(w, 4, b"a_b", b"3");
        put_inline(w, 5, b"a_b~1", b"4");
    });
    b.small_dir([2, 3], Tail::END);
    let files = [
        ("unnamed", "0"),
        ("dotdot", "1"),
        ("a_b~2/file", "content"),
        ("a_b", "3"),
        ("a_b~1", "4"),
    ];
    mends("names", &b, &["name-impossible"], &files);
}

#[test]
fn directories_are_sorted() {
    let names = ["z", "b", "a", "ab", "abc", "m", "c", "y", "k"];
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    for (i, three) in names.chunks(3).enumerate() {
        let pair = 2 + 2 * i as u32;
        b.pair([pair, pair + 1], |w| {
            for (id, name) in three.iter().enumerate() {
                put_inline(w, id as u16, name.as_bytes(), name.as_bytes());
            }
            w.tail(if i < 2 { hard([pair + 2, pair + 3]) } else { Tail::END });
        });
    }
    let paths: Vec<String> = names.iter().map(|n| format!("dir/{n}")).collect();
    let files: Vec<(&str, &str)> =
        paths.iter().map(String::as_str).zip(names.iter().copied()).collect();
    let tree = mends("order", &b, &["name-order"], &files);
    assert_eq!(tree.len(), 2 + names.len());
}

#[test]
fn an_empty_pair_leaves_its_directory() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    b.small_dir([2, 3], hard([4, 5])).pair([4, 5], |w| w.tail(hard([6, 7])));
    b.pair([6, 7], |w| put_inline(w, 0, b"x", b"x"));
    mends("empty pair", &b, &["pair-empty"], &[("dir/file", "content"), ("dir/x", "x")]);
}

#[test]
fn what_was_interrupted_is_finished() {
    for state in [moving([0, 1], 1), moving([50, 51], 1), GState::default().with_sync(true)] {
        let mut b = Builder::new();
        let sb = superblock(b.geometry);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_inline(w, 1, b"gone", b"gone");
            put_inline(w, 2, b"good", b"good");
            w.gdelta(state);
        });
        mends("pending", &b, &[], &[("good", "good")]);
    }
}

/// The thread still names the old blocks of the pair of a directory.
#[test]
fn the_thread_follows_the_tree() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [3, 4]));
    b.small_dir([2, 3], Tail::END);
    b.pair([4, 3], |w| put_inline(w, 0, b"new", b"new"));
    mends("half-orphan", &b, &["half-orphan"], &[("dir/new", "new")]);
}

/// The same for the first write, also without the sync bit: until the thread names the new blocks,
/// an old block that is free here is in use there.
#[test]
fn the_first_write_lets_the_thread_follow_the_tree() {
    for has_nameless in [false, true] {
        let mut b = Builder::new();
        b.root(soft([6, 7]), |w| {
            put_dir(w, 1, b"before", [6, 7]);
            put_dir(w, 2, b"dir", [3, 4]);
        });
        // A directory that has lost its name, so that the sync bit must not be set.
        let next = if has_nameless { [8, 9] } else { [2, 3] };
        b.small_dir([6, 7], soft(next)).small_dir([8, 9], soft([2, 3]));
        b.small_dir([2, 3], Tail::END);
        b.pair([4, 3], |w| put_inline(w, 0, b"new", b"new"));
        let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
        let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens");
        // Fill the image, so that every block that counts as free is written.
        fs.create(ROOT, b"large").expect("created");
        let file = fs.open_file(ROOT, b"large").expect("opened");
        let used = fs.usage().expect("usage").blocks_used;
        let size = (b.geometry.block_count - used - 4) * (b.geometry.block_size - 8);
        fs.write(file, 0, &vec![7; size as usize]).expect("written");
        fs.close_file(file);
        fs.flush().expect("flushed");
        let codes: Vec<_> = check(dev.clone()).expect("examined").findings;
        let codes: Vec<_> = codes.iter().map(|f| f.code).collect();
        assert_eq!(codes, if has_nameless { &["orphan"][..] } else { &[] });
        let files = files_in(&dev);
        assert_eq!(files["dir/new"], b"new");
        assert!(files["large"].len() == size as usize && files["large"].iter().all(|&b| b == 7));
        if !has_nameless {
            assert!(files_in_c("filled", dev.image(), b.geometry) == files);
        }
    }
}

/// The new copy of a relocated pair has ended a move, which the old copy in the thread still names:
/// the id of the move means another entry in the new copy.
#[test]
fn a_move_that_a_relocated_pair_has_ended_hides_nothing() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [3, 4]));
    b.pair([2, 3], |w| {
        for (id, name) in [(0, b"a"), (1, b"b"), (2, b"c")] {
            put_inline(w, id, name, name);
        }
        w.gdelta(moving([2, 3], 0));
    });
    b.pair([4, 3], |w| {
        put_inline(w, 0, b"b", b"b");
        put_inline(w, 1, b"c", b"c");
    });
    let tree = mends("ended move", &b, &["half-orphan"], &[("dir/b", "b"), ("dir/c", "c")]);
    assert!(!tree.contains_key(&b"dir/a"[..]));

    // so the verifier looks at the entry that has the id now
    b.pair([4, 3], |w| put_ctz(w, 0, b"b", 9999, 1800));
    let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
    let found = check(dev).expect("examined").findings;
    assert!(found.iter().any(|f| f.place == "/dir/b"), "{found:#?}");
    assert!(found.iter().all(|f| !f.code.starts_with("move-")), "{found:#?}");
}

/// The new copy of a relocated pair passes over a removed directory, whose delta it has taken over:
/// that delta counts once.
#[test]
fn a_delta_that_a_relocated_pair_has_taken_over_counts_once() {
    let mut b = Builder::new();
    let gone = moving([0, 1], 1);
    let sb = superblock(b.geometry);
    b.pair([0, 1], |w| {
        put_superblock(w, sb);
        put_inline(w, 1, b"gone", b"gone");
        put_dir(w, 2, b"dir", [3, 4]);
        put_inline(w, 3, b"good", b"good");
        w.tail(soft([2, 3]));
        w.gdelta(GState::default().with_sync(true));
    });
    b.small_dir([2, 3], soft([6, 7]));
    b.pair([6, 7], |w| w.gdelta(gone));
    b.pair([4, 3], |w| {
        put_inline(w, 0, b"file", b"content");
        w.gdelta(gone);
    });
    let files = &[("dir/file", "content"), ("good", "good")];
    let tree = mends("delta taken over", &b, &["half-orphan", "move-pending"], files);
    assert!(!tree.contains_key(&b"gone"[..]));
}

/// Without the sync bit, no driver has left such a copy, and the move is doubtful: nothing is
/// written.
#[test]
fn a_move_that_another_relocated_pair_cancels_is_doubtful() {
    let mut b = Builder::new();
    let gone = moving([0, 1], 1);
    b.root(soft([2, 3]), |w| {
        put_inline(w, 1, b"gone", b"gone");
        put_dir(w, 2, b"dir", [3, 4]);
    });
    b.small_dir([2, 3], soft([6, 7]));
    b.pair([6, 7], |w| w.gdelta(gone));
    b.pair([4, 3], |w| {
        put_inline(w, 0, b"file", b"content");
        w.gdelta(gone);
    });
    let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
    let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens");
    assert!(fs.is_read_only());
    assert!(fs.warnings().iter().any(|w| w.contains("a move out of")), "{:?}", fs.warnings());
    assert!(fs.create(ROOT, b"new").is_err());
    drop(fs);
    let report = check(dev.clone()).expect("examined");
    assert!(report.findings.iter().any(|f| f.code == "half-orphan"), "{report:#?}");
    for mode in [Mode::Preen, Mode::Yes] {
        assert!(repair(dev.clone(), mode).expect("opens").stopped.is_some());
    }
    assert!(dev.image() == b.bytes, "nothing was written");
}

/// All files that this program reads.
fn files_in(dev: &Arc<RamDevice>) -> BTreeMap<String, Vec<u8>> {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(dev.clone(), &options).expect("opens");
    let mut files = BTreeMap::new();
    let mut todo = vec![(ROOT, String::new())];
    while let Some((dir, path)) = todo.pop() {
        for name in fs.list(dir).expect("lists") {
            let child = format!("{path}{}", String::from_utf8_lossy(&name));
            match fs.lookup(dir, &name) {
                Ok(Node::Dir(d)) => todo.push((d, child + "/")),
                Ok(Node::File { size }) => {
                    let Ok(file) = fs.open_file(dir, &name) else { continue };
                    let bytes = fs.read(file, 0, size as usize).and_then(|plan| plan.run());
                    files.extend(bytes.ok().map(|bytes| (child, bytes)));
                    fs.close_file(file);
                }
                Err(_) => {}
            }
        }
    }
    files
}

/// All files that the C driver reads.
fn files_in_c(name: &str, image: Vec<u8>, g: Geometry) -> BTreeMap<String, Vec<u8>> {
    let mut c = CLfs::mount(image, &Config::new(g.block_size, g.block_count, 16))
        .unwrap_or_else(|e| panic!("{name}: C mounts: {e:?}"));
    let tree = c.tree(&[]).unwrap_or_else(|e| panic!("{name}: C reads: {e:?}"));
    let files = tree.into_iter().filter_map(|(path, e)| match e.kind {
        Kind::File(bytes) => Some((String::from_utf8_lossy(&path).into_owned(), bytes)),
        Kind::Dir => None,
    });
    files.collect()
}

/// What `-p` and `-y` do with every kind of damage.
#[test]
fn every_kind_of_damage() {
    for d in damages::all() {
        let (name, g) = (d.name, d.image.geometry);
        let dev = Arc::new(RamDevice::from_image(g, d.image.bytes.clone()));
        let before = check(dev.clone()).expect("examined");
        let errors = before.findings.iter().filter(|f| f.severity == Severity::Error);
        let codes: Vec<&str> = errors.map(|f| f.code).collect();
        assert!(codes.contains(&d.code), "{name}: {before:#?}");

        let repairs = repair(dev.clone(), Mode::Preen).expect("opens");
        assert!(repairs.done.iter().all(|r| !r.given_up), "{name}: {repairs:#?}");
        let after = check(dev.clone()).expect("examined");
        match d.preen {
            Preen::Mends => {
                assert!(after.is_clean(), "{name}: {repairs:#?} {after:#?}");
                assert!(repairs.done.iter().any(|r| r.code == d.code), "{name}: {repairs:#?}");
            }
            Preen::Leaves => assert!(dev.image() == d.image.bytes, "{name}: {repairs:#?}"),
            Preen::Partly => assert!(!after.is_clean(), "{name}: {repairs:#?}"),
        }

        let dev = Arc::new(RamDevice::from_image(g, d.image.bytes.clone()));
        let repairs = repair(dev.clone(), Mode::Yes).expect("opens");
        assert!(repairs.stopped.is_none(), "{name}: {repairs:#?}");
        assert!(repairs.done.iter().any(|r| r.code == d.code), "{name}: {repairs:#?}");
        assert_eq!(repairs.done.iter().any(|r| r.given_up), d.loses, "{name}: {repairs:#?}");
        let after = check(dev.clone()).expect("examined");
        assert!(after.is_clean(), "{name}: {after:#?}\n{repairs:#?}");
        let want: BTreeMap<String, Vec<u8>> =
            d.files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        let ours = files_in(&dev);
        let paths = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&ours), paths(&want), "{name}: {repairs:#?}");
        assert!(ours == want, "{name}: contents");
        // what is of an unknown type C takes for a file that it cannot open
        if !before.findings.iter().any(|f| f.code == "type-unknown") {
            assert!(files_in_c(name, dev.image(), g) == want, "{name}: as C reads it");
        }
        assert!(repair(dev, Mode::Yes).expect("opens").done.is_empty(), "{name}: once is enough");
    }
}

/// The global state may name the source of a move by one right block and a wrong one, if damage has
/// brought back an old state of a pair. Like the C driver, we hide the entry. But it may not be the
/// one that was moved, so nothing deletes it.
#[test]
fn an_entry_behind_one_block_of_its_pair_is_not_deleted() {
    for wrong in [99, 9999, u32::MAX] {
        for source in [[2, wrong], [wrong, 2], [3, wrong], [wrong, 3]] {
            let mut b = Builder::new();
            b.root(soft([2, 3]), |w| {
                put_dir(w, 1, b"dir", [2, 3]);
                w.gdelta(moving(source, 0));
            });
            b.pair([2, 3], |w| {
                put_inline(w, 0, b"innocent", b"content");
                put_inline(w, 1, b"other", b"other");
            });
            let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
            let before = files_in(&dev);
            assert_eq!(before.keys().collect::<Vec<_>>(), ["dir/other"], "{source:?}");
            let fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens");
            assert!(fs.is_read_only(), "{source:?}");
            let report = check(dev.clone()).expect("examined");
            assert!(report.findings.iter().any(|f| f.code == "move-lost"), "{report:#?}");
            assert!(!report.is_clean(), "{report:#?}");

            assert_eq!(repair(dev.clone(), Mode::Preen).expect("opens").done.len(), 0);
            assert!(dev.image() == b.bytes, "{source:?}: -p has written");
            repair(dev.clone(), Mode::Yes).expect("opens");
            let report = check(dev.clone()).expect("examined");
            assert!(report.is_clean(), "{source:?}: {:#?}", report.findings);
            let after = files_in(&dev);
            assert_eq!(after.keys().collect::<Vec<_>>(), ["dir/innocent", "dir/other"]);
            assert!(files_in_c("one block", dev.image(), b.geometry) == after, "as C reads it");
        }
    }
}

/// While a move is pending, two entries may name the same list. But no list may have a block of
/// metadata, because removing the file would free that block.
#[test]
fn a_list_in_the_superblock_frees_nothing() {
    for state in [GState::default().with_sync(true), moving([2, 3], 0)] {
        for head in [0, 1, 2, 3] {
            let mut b = Builder::new();
            let sb = superblock(b.geometry);
            b.pair([0, 1], |w| {
                put_superblock(w, sb);
                put_dir(w, 1, b"dir", [2, 3]);
                put_ctz(w, 2, b"evil", head, 400);
                w.tail(soft([2, 3]));
                w.gdelta(state);
            });
            b.small_dir([2, 3], Tail::END);
            let what = format!("{state:?}, head {head}");
            let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
            let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("open");
            let _ = fs.unlink(ROOT, b"evil").and_then(|()| fs.flush());
            for i in 0..b.geometry.block_count {
                let name = format!("new{i}");
                let done = fs.create(ROOT, name.as_bytes()).and_then(|()| {
                    let file = fs.open_file(ROOT, name.as_bytes())?;
                    fs.write(file, 0, &[7; 500])?;
                    fs.close_file(file);
                    fs.flush()
                });
                if done.is_err() {
                    break;
                }
            }
            drop(fs);
            let mut fs = Fs::open(dev, &OpenOptions::default());
            let fs = fs.as_mut().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(matches!(fs.lookup(ROOT, b"dir"), Ok(Node::Dir(_))), "{what}");
        }
    }
}

/// On a device that writes nothing, a repair reports just that. It does not claim to be done, and
/// does not report lack of space.
#[test]
fn a_device_that_writes_nothing() {
    for d in damages::all() {
        for how in [BadBlock::ProgError, BadBlock::ProgNoop] {
            let (name, g) = (d.name, d.image.geometry);
            let emu = EmuDevice::unrecorded(g, d.image.bytes.clone(), true);
            (0..g.block_count).for_each(|block| emu.set_bad(block, how));
            let repairs = repair(Arc::new(emu), Mode::Yes).expect("opens");
            let stopped = repairs.stopped.as_deref().unwrap_or_default();
            assert!(stopped.contains("input/output error"), "{name}, {how:?}: {repairs:#?}");
        }
    }
}

/// If there is also a broken list, `-p` still repairs everything else, and writes only to erased
/// blocks.
#[test]
fn a_broken_list_does_not_keep_the_rest_from_repair() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_ctz(w, 1, b"broken", 27, 3000);
        put_inline(w, 2, b"same", b"1");
        put_inline(w, 3, b"sa/me", b"2");
    });
    b.small_dir([2, 3], Tail::END).list(&[20, 21, 22, 23, 24, 25, 26, 27]).point(27, 4000);
    // a block may hold what the list has lost
    for block in 40..120 {
        b.block_mut(block).fill(block as u8);
    }
    let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
    let repairs = repair(dev.clone(), Mode::Preen).expect("opens");
    assert!(repairs.stopped.is_none(), "{repairs:?}");
    let after = check(dev.clone()).expect("examined");
    let errors = after.findings.iter().filter(|f| f.severity == Severity::Error);
    assert_eq!(errors.map(|f| f.code).collect::<Vec<_>>(), ["ctz-range"]);
    let files = files_in(&dev);
    assert_eq!(files["sa_me"], b"2");
    assert_eq!(files["lost+found/dir-2/file"], b"content");
    let image = dev.image();
    let bytes = |image: &[u8], block: usize| image[block * 512..][..512].to_vec();
    for block in (20..28).chain(40..120) {
        assert!(bytes(&image, block) == bytes(&b.bytes, block), "block {block}");
    }
}

/// A disk with a block that cannot be read until it is written.
struct Sick {
    disk: RamDevice,
    bad: AtomicU32,
}

impl BlockDevice for Sick {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let last = block + (off + buf.len() as u32).saturating_sub(1) / self.geometry().block_size;
        let bad = self.bad.load(Relaxed);
        if (block..=last).contains(&bad) {
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(IoError { op: IoOp::Read, block: Some(bad), source });
        }
        self.disk.read(block, off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.disk.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let _ = self.bad.compare_exchange(block, u32::MAX, Relaxed, Relaxed);
        self.disk.erase(block)
    }

    fn barrier(&self) -> IoResult<()> {
        self.disk.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.disk.sync()
    }
}

/// `-p` leaves blocks that cannot be read alone, and `-y` continues without them.
#[test]
fn blocks_that_cannot_be_read() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_ctz(w, 2, b"large", 26, 3500);
    });
    b.small_dir([2, 3], Tail::END).list(&[20, 21, 22, 23, 24, 25, 26, 27]);
    for (bad, code) in [(3, "pair-unreadable"), (25, "ctz-unreadable")] {
        let disk = RamDevice::from_image(b.geometry, b.bytes.clone());
        let dev = Arc::new(Sick { disk, bad: AtomicU32::new(bad) });
        let report = check(dev.clone()).expect("examined");
        assert!(report.findings.iter().any(|f| f.code == code), "{report:#?}");
        repair(dev.clone(), Mode::Preen).expect("opens");
        assert_eq!(dev.disk.image(), b.bytes, "{code}");
        let repairs = repair(dev.clone(), Mode::Yes).expect("opens");
        assert!(repairs.done.iter().any(|r| r.code == code && r.given_up), "{repairs:#?}");
        let after = check(dev.clone()).expect("examined");
        assert!(after.is_clean(), "{after:#?}");
        let files = files_in_c(code, dev.disk.image(), b.geometry);
        assert_eq!(files["dir/file"], b"content");
        if bad == 25 {
            // block 5 of the list, which is all 5s, reads zeros
            let part = &files["lost+found/large.part"];
            assert_eq!(part.len(), 3500);
            assert!(!part.contains(&5) && part[2600] == 0 && part[3400] == 6, "{part:?}");
        }
    }
}

#[test]
fn notes_are_no_errors() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| put_inline(w, 1, b"f", b"f"));
    let end = b.geometry.block_size as usize - 1;
    b.block_mut(0)[end] = 0;
    let note = |b: &Builder, code: &str| {
        let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
        let report = check(dev).expect("examined");
        assert!(report.is_clean(), "{report:#?}");
        assert!(report.findings.iter().any(|f| f.code == code), "{code}: {report:#?}");
    };
    note(&b, "debris");

    // a commit as a driver of disk version 2.0 leaves it
    let mut b = Builder::new();
    let sb = superblock(b.geometry);
    let layout = littlefs::disk::commit::Layout { fcrc: false, ..b.layout() };
    let mut w = littlefs::disk::commit::Writer::compact(layout, 1);
    put_superblock(&mut w, sb);
    w.tag(tag::REG, 1, b"f");
    w.tag(tag::INLINESTRUCT, 1, b"f");
    let commit = w.finish().expect("fits");
    b.block_mut(0)[..commit.bytes.len()].copy_from_slice(&commit.bytes);
    note(&b, "commit-closed");
}

#[test]
fn the_command_exits_as_fsck_does() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    let run = |args: &[&str]| {
        let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_littlefs"))
            .arg("check")
            .args(args)
            .arg(&path)
            .output()
            .expect("runs");
        (status.code().expect("exits"), String::from_utf8_lossy(&stdout).into_owned())
    };
    let mut b = Builder::new();
    b.root(Tail::END, |w| put_dir(w, 1, b"d", [2, 3])).small_dir([2, 3], Tail::END);
    for option in ["--repair", "-p", "-a", "-y", "-fy"] {
        std::fs::write(&path, &b.bytes).expect("write");
        for look in ["-n", "-f", "-fn"] {
            assert_eq!(run(&[look]).0, 4);
        }
        assert_eq!(std::fs::read(&path).expect("read"), b.bytes, "looking changes nothing");
        let (code, out) = run(&[option]);
        assert_eq!(code, 1, "{option}: {out}");
        assert!(out.contains("repaired: /d/: was put into the thread [unthreaded]"), "{out}");
        assert_eq!(run(&[option]).0, 0);
    }
    std::fs::write(&path, &b.bytes).expect("write");
    let (code, out) = run(&["--repair", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["repairs"].as_array().map(Vec::len)), (1, Some(1)), "{json:#}");
    assert_eq!(json["totals"]["directories"], 1);
    for wrong in [["-n", "-y"], ["-p", "-n"], ["--repair", "-n"], ["-p", "-y"]] {
        assert_eq!(run(&wrong).0, 16, "{wrong:?}");
    }

    assert_eq!((&json["exit"], &json["repairs"][0]["code"]), (&1.into(), &"unthreaded".into()));

    b.root(Tail::END, |w| put_dir(w, 1, b"d", [60, 61]));
    std::fs::write(&path, &b.bytes).expect("write");
    let (code, out) = run(&["-p", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["exit"]), (4, &4.into()), "{json:#}");
    for key in ["severity", "code", "place", "message"] {
        assert!(json["findings"][0][key].is_string(), "{key}: {json:#}");
    }
    let stopped = json["stopped"].as_str().expect("why");
    assert!(
        stopped.contains("before you use -y, run 'littlefs recover', or add --backup"),
        "{stopped}"
    );
    assert_eq!(std::fs::read(&path).expect("read"), b.bytes);
    for options in [&["-y"][..], &["--repair", "-y"], &["-y", "--progress"]] {
        std::fs::write(&path, &b.bytes).expect("write");
        let (code, out) = run(options);
        assert_eq!(code, 1, "{options:?}: {out}");
        assert!(out.contains("given up: /d: its entry was removed"), "{out}");
        assert!(out.contains("run 'littlefs recover' now, before anything else"), "{out}");
        assert_eq!(run(&[]).0, 0);
    }
}

/// A large unsorted directory needs one pass, and files that are open here stay open for C.
#[test]
fn sorting_scales() {
    let g = Geometry::new(512, 2048).expect("possible");
    let mut b = Builder::with_geometry(g.block_size, g.block_count);
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    for i in 0..40_u32 {
        let pair = 2 + 2 * i;
        b.pair([pair, pair + 1], |w| {
            for id in 0..10_u16 {
                let name = format!("{:08x}", (i * 10 + u32::from(id)).wrapping_mul(0x9e37_79b9));
                put_inline(w, id, name.as_bytes(), &[]);
            }
            w.tail(if i < 39 { hard([pair + 2, pair + 3]) } else { Tail::END });
        });
    }
    let tree = mends("large", &b, &["name-order"], &[]);
    assert_eq!(tree.len(), 402);
    let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
    let mut fs = Fs::open(dev, &OpenOptions::default()).expect("opens");
    assert_eq!(fs.list(ROOT).expect("lists").len(), 1);
}
