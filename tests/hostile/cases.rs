//! One image for each kind of false information that somebody has thought of.

use littlefs::disk::commit::Writer;
use littlefs::disk::superblock::MAGIC;
use littlefs::disk::{GState, Pair, Superblock, Tail, tag};

use testkit::builder::{
    BLOCK, Builder, COUNT, hard, moving, put_ctz, put_dir, put_inline, put_superblock, soft,
    superblock,
};

/// An image, and what is expected of it.
pub struct Case {
    pub name: &'static str,
    pub image: Builder,
    /// Paths that can be read.
    pub readable: &'static [&'static str],
    /// Paths that exist and are damaged.
    pub broken: &'static [&'static str],
    /// Paths that are not shown.
    pub absent: &'static [&'static str],
    /// The codes that the verifier reports.
    pub codes: &'static [&'static str],
}

fn case(name: &'static str, image: &Builder) -> Case {
    let image = image.clone();
    Case { name, image, readable: &[], broken: &[], absent: &[], codes: &[] }
}

/// All cases.
pub fn all() -> Vec<Case> {
    let directories = [tails(), directories(), odd_directories(), unthreaded_directories()];
    let others = [lists(), names(), global_state(), superblocks(), logs(), long_logs()];
    directories.into_iter().chain(others).flatten().collect()
}

/// A root with a sound file, and with the directory `dir` in pair {2, 3}.
fn root_with_dir(b: &mut Builder, tail: Tail) -> &mut Builder {
    b.root(tail, |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_inline(w, 2, b"good", b"good");
    })
}

fn tails() -> Vec<Case> {
    let good: &[&str] = &["good"];
    let with_dir: &[&str] = &["dir", "dir/file", "good"];
    let mut cases = Vec::new();
    let mut add = |name, tail, dir_tail, readable, broken, codes| {
        let mut b = Builder::new();
        root_with_dir(&mut b, tail).small_dir([2, 3], dir_tail);
        cases.push(Case { readable, broken, codes, ..case(name, &b) });
    };
    add("tail to itself", soft([2, 3]), soft([2, 3]), with_dir, &[], &["thread-loop"]);
    add("tail to the root", soft([2, 3]), soft([0, 1]), with_dir, &[], &["thread-loop"]);
    add("hardtail to the root", soft([2, 3]), hard([1, 0]), with_dir, &[], &["thread-loop"]);
    add("root's tail to itself", soft([0, 1]), Tail::END, with_dir, &[], &["thread-loop"]);
    add("root's hardtail to itself", hard([0, 1]), Tail::END, with_dir, &[], &["thread-loop"]);
    add("tail of one block twice", soft([2, 3]), soft([5, 5]), with_dir, &[], &["thread-broken"]);
    add("tail far outside", soft([2, 3]), soft([9999, 10000]), with_dir, &[], &["thread-broken"]);
    add("tail half null", soft([2, 3]), soft([u32::MAX, 5]), with_dir, &[], &[]);
    add("tail to erased blocks", soft([2, 3]), soft([8, 9]), with_dir, &[], &["thread-broken"]);
    add("tail shares a block", soft([2, 3]), soft([3, 4]), with_dir, &[], &["thread-loop"]);
    add("hardtail into a child", hard([2, 3]), Tail::END, good, &["dir"], &["tree-loop"]);
    cases
}

fn directories() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, pair, readable, broken, codes| {
        let mut b = Builder::new();
        b.root(soft([2, 3]), |w| {
            put_dir(w, 1, b"dir", [2, 3]);
            put_dir(w, 2, b"evil", pair);
            put_inline(w, 3, b"good", b"good");
        });
        b.small_dir([2, 3], Tail::END);
        cases.push(Case { readable, broken, codes, ..case(name, &b) });
    };
    let good: &[&str] = &["dir", "dir/file", "good"];
    let evil: &[&str] = &["evil"];
    add("directory is the root", [0, 1], good, evil, &["tree-loop"]);
    add("directory twice", [2, 3], &["dir/file", "good"], evil, &["tree-loop"]);
    add("directory twice, turned", [3, 2], &["dir/file", "good"], evil, &["tree-loop"]);
    add("directory of one block twice", [7, 7], good, evil, &["directory-broken"]);
    add("directory outside", [COUNT, COUNT + 1], good, evil, &["directory-broken"]);
    add("directory null", [u32::MAX; 2], good, evil, &["directory-broken"]);
    add("directory of erased blocks", [7, 8], good, evil, &["directory-broken"]);
    add("directory half a known one", [0, 9], good, evil, &["tree-loop"]);
    cases
}

/// Directories that contain one another, or lack a pair, or are very deep.
fn odd_directories() -> Vec<Case> {
    let mut cases = Vec::new();

    let mut b = Builder::new();
    root_with_dir(&mut b, soft([2, 3])).pair([2, 3], |w| {
        put_dir(w, 0, b"itself", [2, 3]);
        put_dir(w, 1, b"parent", [0, 1]);
        put_inline(w, 2, b"z", b"z");
    });
    cases.push(Case {
        readable: &["good", "dir", "dir/z"],
        broken: &["dir/itself", "dir/parent"],
        codes: &["tree-loop"],
        ..case("a directory that contains itself", &b)
    });

    let mut b = Builder::new();
    root_with_dir(&mut b, soft([2, 3])).pair([2, 3], |w| {
        put_inline(w, 0, b"a", b"a");
        w.tail(hard([4, 5]));
    });
    b.pair([4, 5], |w| put_inline(w, 0, b"b", b"b"));
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"cut", [4, 5]);
        put_dir(w, 2, b"dir", [2, 3]);
        put_inline(w, 3, b"good", b"good");
    });
    cases.push(Case {
        readable: &["good", "dir/a"],
        codes: &["tree-loop"],
        ..case("a directory that begins in the middle of another", &b)
    });

    let mut b = Builder::new();
    root_with_dir(&mut b, soft([2, 3])).pair([2, 3], |w| {
        put_inline(w, 0, b"a", b"a");
        w.tail(hard([4, 5]));
    });
    cases.push(Case {
        readable: &["good", "dir", "dir/a"],
        codes: &["thread-broken", "directory-broken"],
        ..case("a directory whose second pair is gone", &b)
    });

    // each pair one level deeper: a path as long as the image
    let mut b = Builder::with_geometry(128, 512);
    b.root(soft([2, 3]), |w| put_dir(w, 1, &[b'd'; 16], [2, 3]));
    for i in (2..508).step_by(2) {
        b.pair([i, i + 1], |w| {
            put_dir(w, 0, &[b'd'; 16], [i + 2, i + 3]);
            w.tail(soft([i + 2, i + 3]));
        });
    }
    b.pair([508, 509], |_| {});
    cases.push(case("deep nesting", &b));
    cases
}

/// Directories that are only in the thread, or only in the tree.
fn unthreaded_directories() -> Vec<Case> {
    let mut cases = Vec::new();

    let mut b = Builder::new();
    root_with_dir(&mut b, Tail::END).small_dir([2, 3], Tail::END);
    cases.push(Case {
        readable: &["good", "dir", "dir/file"],
        codes: &["unthreaded"],
        ..case("a directory the thread misses", &b)
    });

    let mut b = Builder::new();
    root_with_dir(&mut b, Tail::END).small_dir([2, 3], hard([2, 3]));
    cases.push(Case {
        readable: &["good", "dir/file"],
        codes: &["unthreaded", "tree-loop"],
        ..case("a directory the thread misses, with a loop", &b)
    });

    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_inline(w, 1, b"good", b"good"));
    b.small_dir([2, 3], Tail::END);
    cases.push(Case {
        readable: &["good"],
        codes: &["orphan"],
        ..case("a directory without a name", &b)
    });
    cases
}

fn lists() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, head, size, spoil: &dyn Fn(&mut Builder), broken, codes| {
        let mut b = Builder::new();
        b.root(Tail::END, |w| {
            put_ctz(w, 1, b"evil", head, size);
            put_inline(w, 2, b"good", b"good");
            put_ctz(w, 3, b"large", 33, 900);
        });
        b.list(&[32, 33]).list(&[20, 21, 22, 23, 24, 25, 26, 27]);
        spoil(&mut b);
        cases.push(Case { readable: &["good", "large"], broken, codes, ..case(name, &b) });
    };
    let size = Builder::new().size_of(8);
    let evil: &[&str] = &["evil"];
    add("list sound", 27, size, &|_| (), &[], &[]);
    add("list outside", COUNT, size, &|_| (), evil, &["ctz-range"]);
    add("list null", u32::MAX, 1, &|_| (), evil, &["ctz-range"]);
    add("list points outside", 27, size, &|b| _ = b.point(24, 4000), evil, &["ctz-range"]);
    add("list loops", 27, size, &|b| _ = b.point(24, 26), &[], &["block-shared"]);
    add("list is its own", 27, size, &|b| _ = b.point(27, 27), &[], &["block-shared"]);
    add("list shared", 33, 900, &|_| (), &[], &["block-shared"]);
    add("list runs into metadata", 27, size, &|b| _ = b.point(21, 1), &[], &["block-shared"]);
    add(
        "list with a wrong skip pointer",
        27,
        size,
        &|b| {
            b.block_mut(24)[4..8].copy_from_slice(&21_u32.to_le_bytes());
        },
        &[],
        &["ctz-pointer"],
    );
    add("size beyond the image", 27, 1 << 20, &|_| (), evil, &["ctz-too-long"]);
    add("size beyond the format", 27, u32::MAX, &|_| (), evil, &["ctz-too-long", "file-too-large"]);
    add("size beyond the list", 27, size + 1, &|_| (), &[], &[]);
    add("size 0", 27, 0, &|_| (), &[], &[]);

    // every file claims the same list, as long as the image
    let mut b = Builder::with_geometry(128, 512);
    let all: Vec<u32> = (2..512).collect();
    b.list(&all);
    let size = b.size_of(400);
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"d", [2, 3]));
    for i in (2..60).step_by(2) {
        b.pair([i, i + 1], |w| {
            for id in 0..3 {
                put_ctz(w, id, &[b'a' + id as u8, i as u8], 401, size);
            }
            w.tail(hard([i + 2, i + 3]));
        });
    }
    cases.push(Case { codes: &["block-shared"], ..case("all files share all blocks", &b) });
    cases
}

fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, bytes: &[u8], codes, absent| {
        let mut b = Builder::new();
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"good", b"good");
            put_inline(w, 2, bytes, b"evil");
            put_inline(w, 3, b"other", b"other");
        });
        cases.push(Case { readable: &["good", "other"], absent, codes, ..case(name, &b) });
    };
    let impossible: &[&str] = &["name-impossible"];
    add("name with a slash", b"h/a", impossible, &["h/a"]);
    add("name with a NUL", b"h\0", impossible, &["h\0"]);
    add("name of a dot", b".", impossible, &["."]);
    add("name of two dots", b"..", impossible, &[".."]);
    add("name of nothing", b"", impossible, &[""]);
    add("name over-long", &[b'h'; 300], &["name-too-long"], &[]);
    add("name twice", b"good", &["name-duplicate"], &[]);
    add("name out of order", b"a", &["name-order"], &[]);
    add("name of control characters", b"h\x1b[2J\r\n", &[], &[]);
    add("name of no character set", b"\xff\xfe", &["name-order"], &[]);
    add("name of a prefix", b"goodness", &["name-order"], &[]);
    cases
}

fn global_state() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, state: GState, readable, codes| {
        let mut b = Builder::new();
        let sb = superblock(b.geometry);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_dir(w, 1, b"dir", [2, 3]);
            put_inline(w, 2, b"good", b"good");
            w.tail(soft([2, 3]));
            w.gdelta(state);
        });
        b.small_dir([2, 3], Tail::END);
        cases.push(Case { readable, codes, ..case(name, &b) });
    };
    let all: &[&str] = &["dir", "dir/file", "good"];
    add("move of the superblock", moving([0, 1], 0), all, &["move-lost"]);
    add("move of an id that is not there", moving([0, 1], 77), all, &["move-lost"]);
    add("move of an id of no entry", moving([2, 3], 0x3ff), all, &["move-lost"]);
    add("move out of a pair that is not there", moving([60, 61], 1), all, &["move-lost"]);
    add("move out of blocks outside", moving([6000, 6001], 1), all, &["move-lost"]);
    add("move of a directory", moving([0, 1], 1), &["good"], &["move-pending"]);
    add("sync without reason", GState::default().with_sync(true), all, &["sync-pending"]);
    add("move and sync", moving([2, 3], 0).with_sync(true), &["dir", "good"], &["move-pending"]);
    cases
}

fn superblocks() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, change: &dyn Fn(&mut Superblock)| {
        let mut b = Builder::new();
        let mut sb = superblock(b.geometry);
        change(&mut sb);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_inline(w, 1, b"good", b"good");
        });
        cases.push(case(name, &b));
    };
    add("superblock of a future version", &|s| s.version = 0x0002_0007);
    add("superblock of another major version", &|s| s.version = 0x0003_0000);
    add("superblock of other blocks", &|s| s.block_size = 4096);
    add("superblock of no blocks", &|s| (s.block_size, s.block_count) = (0, 0));
    add("superblock of a giant", &|s| s.block_count = u32::MAX);
    add("superblock without limits", &|s| (s.name_max, s.file_max, s.attr_max) = (0, 0, 0));
    add("superblock of tiny limits", &|s| (s.name_max, s.file_max, s.attr_max) = (1, 1, 1));

    // the chain: each copy says something else, the last counts
    let mut b = Builder::new();
    let sb = superblock(b.geometry);
    b.pair([0, 1], |w| {
        put_superblock(w, Superblock { name_max: 32, ..sb });
        w.tail(hard([2, 3]));
    });
    b.pair([2, 3], |w| {
        put_superblock(w, sb);
        put_inline(w, 1, b"good", b"good");
    });
    cases.push(Case {
        readable: &["good"],
        codes: &["superblock-outdated"],
        ..case("superblocks that differ", &b)
    });

    let mut b = Builder::new();
    b.pair([0, 1], |w| {
        put_superblock(w, sb);
        w.tail(hard([2, 3]));
    });
    b.pair([2, 3], |w| {
        put_superblock(w, Superblock { block_count: 9, ..sb });
    });
    cases.push(case("superblocks that disagree on the geometry", &b));

    // a directory that takes itself for the root
    let mut b = Builder::new();
    root_with_dir(&mut b, soft([2, 3])).pair([2, 3], |w| {
        put_superblock(w, sb);
        put_inline(w, 1, b"inner", b"inner");
    });
    cases.push(case("a superblock in a directory", &b));

    let mut b = Builder::new();
    b.pair([0, 1], |w| w.tag(tag::SUPERBLOCK, 0, MAGIC));
    cases.push(case("a superblock without content", &b));
    let mut b = Builder::new();
    b.pair([0, 1], |w| {
        w.tag(tag::SUPERBLOCK, 0, b"littlefx");
        w.tag(tag::INLINESTRUCT, 0, &sb.to_bytes());
    });
    cases.push(case("a superblock of another name", &b));
    cases.push(case("nothing", &Builder::new()));
    cases
}

fn logs() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, codes, content: &dyn Fn(&mut Writer)| {
        let mut b = Builder::new();
        root_with_dir(&mut b, soft([2, 3])).pair([2, 3], content);
        cases.push(Case { readable: &["good"], codes, ..case(name, &b) });
    };
    add("ids up to the limit", &["ids-many"], &|w| put_inline(w, 0x3fe, b"last", b"last"));
    add("id of no entry", &[], &|w| put_inline(w, 0x3ff, b"none", b"none"));
    add("ids beyond the limit", &["ids-many"], &|w| {
        put_inline(w, 0x3fe, b"last", b"last");
        for _ in 0..30 {
            w.tag(tag::CREATE, 0, &[]);
            put_inline(w, 0, b"x", b"");
        }
    });
    add("deletion of what is not there", &[], &|w| w.tag(tag::DELETE, 5, &[]));
    add("a name without a struct", &["bad-struct"], &|w| w.tag(tag::REG, 0, b"bare"));
    add("a struct without a name", &[], &|w| w.tag(tag::INLINESTRUCT, 0, b"data"));
    add("a directory with a file's struct", &["bad-struct"], &|w| {
        w.tag(tag::DIR, 0, b"x");
        w.tag(tag::INLINESTRUCT, 0, b"data");
    });
    add("short structs", &["bad-struct"], &|w| {
        w.tag(tag::DIR, 0, b"a");
        w.tag(tag::DIRSTRUCT, 0, &[1, 2, 3]);
        w.tag(tag::REG, 1, b"b");
        w.tag(tag::CTZSTRUCT, 1, &[1]);
    });
    add("unknown types", &["type-unknown"], &|w| {
        w.tag(0x033, 0, b"odd");
        w.tag(0x277, 0, b"odd");
        w.tag(0x123, 0, b"odd");
        w.tag(0x7f0, 0, b"odd");
    });
    add("a short tail and a short state", &[], &|w| {
        w.tag(tag::SOFTTAIL, tag::ID_NONE, &[1, 2]);
        w.tag(tag::MOVESTATE, tag::ID_NONE, &[1, 2]);
    });
    cases
}

/// Logs that have very many tags or commits, or claim to have them.
fn long_logs() -> Vec<Case> {
    let mut cases = Vec::new();

    // ten thousand commits in one block
    let mut b = Builder::with_geometry(1 << 19, 2);
    let layout = littlefs::disk::commit::Layout { prog_size: 4, fcrc: false, ..b.layout() };
    b.root(Tail::END, |w| put_inline(w, 1, b"good", b"0"));
    let littlefs::disk::log::Parsed::Log(log) = littlefs::disk::log::parse(b.block_mut(0), 1 << 19)
    else {
        panic!("the root parses")
    };
    let (mut off, mut etag) = (log.off, log.etag);
    for i in 0..10_000u32 {
        let mut w = Writer::append(layout, off, etag);
        w.tag(tag::INLINESTRUCT, 1, &[i as u8]);
        let commit = w.finish().expect("fits");
        let at = commit.start as usize;
        b.block_mut(0)[at..at + commit.bytes.len()].copy_from_slice(&commit.bytes);
        (off, etag) = (commit.end(), commit.etag);
    }
    cases.push(Case { readable: &["good"], ..case("ten thousand commits", &b) });

    // entries made and deleted over and over
    let mut b = Builder::with_geometry(1 << 15, 2);
    b.root(Tail::END, |w| {
        w.tag(tag::REG, 0x3fe, b"last");
        for _ in 0..1000 {
            w.tag(tag::DELETE, 1, &[]);
            w.tag(tag::REG, 0x3fe, b"last");
        }
    });
    cases.push(case("ids that come and go", &b));

    // a forward CRC over more than the image
    for size in [0, 3, BLOCK, BLOCK + 1, u32::MAX] {
        let mut b = Builder::new();
        let words = Pair([size, 0x1234_5678]).to_bytes();
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"good", b"good");
            w.tag(tag::FCRC, tag::ID_NONE, &words);
        });
        let name = "a forward CRC of any size";
        cases.push(Case { readable: &["good"], ..case(name, &b) });
    }
    cases
}
