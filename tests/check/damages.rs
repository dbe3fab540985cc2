//! One image for each kind of damage, and what `-p` and `-y` do with it.

mod lists;

use littlefs::disk::commit::Writer;
use littlefs::disk::{ListIndex, Tail, ctz, tag};

use testkit::builder::{
    Builder, hard, moving, put_ctz, put_dir, put_inline, put_superblock, soft, superblock,
};

/// What `-p` repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preen {
    /// All of the damage.
    Mends,
    /// Nothing. Every byte of the image stays the same.
    Leaves,
    /// Other things, but not this damage.
    Partly,
}

/// An image with one kind of damage.
pub struct Damage {
    pub name: &'static str,
    /// The first finding of the check.
    pub code: &'static str,
    pub image: Builder,
    pub preen: Preen,
    /// Whether `-y` gives something up.
    pub loses: bool,
    /// All files after `-y`, with their content: bytes, or one byte that is repeated.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// The content in the image of a file whose blocks [`Builder::list`] has filled.
fn content(b: &Builder, list: &[u32], size: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, &block) in list.iter().enumerate() {
        let at = ctz::data_offset(ListIndex(i as u32)) as usize;
        bytes.extend_from_slice(&b.clone().block_mut(block)[at..]);
    }
    bytes.truncate(size as usize);
    bytes
}

/// The blocks of the list that most damages are about.
const LIST: [u32; 8] = [20, 21, 22, 23, 24, 25, 26, 27];
/// The blocks of another list, which is sound.
const SOUND: [u32; 2] = [32, 33];
const SOUND_SIZE: u32 = 900;

/// A root with the file `evil`, which has `size` bytes and the head 27, and two sound files.
fn with_list(head: u32, size: u32, spoil: impl FnOnce(&mut Builder)) -> Builder {
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_ctz(w, 1, b"evil", head, size);
        put_inline(w, 2, b"good", b"good");
        put_ctz(w, 3, b"large", SOUND[1], SOUND_SIZE);
    });
    b.list(&SOUND).list(&LIST);
    spoil(&mut b);
    b
}

fn sound_files(b: &Builder) -> Vec<(&'static str, Vec<u8>)> {
    vec![("good", b"good".to_vec()), ("large", content(b, &SOUND, SOUND_SIZE))]
}

/// All kinds of damage.
pub fn all() -> Vec<Damage> {
    let of_directories =
        [broken_directories(), moved_directories(), cut_off_directories(), threads()];
    let of_entries = [structs(), moves(), unnamed(), not_in_the_thread(), names()];
    let mut all = lists::all();
    all.extend(of_directories.into_iter().flatten());
    all.extend(of_entries.into_iter().flatten());
    all.push(together());
    all
}

/// The files that every image of a directory keeps.
fn kept(more: &[(&'static str, &str)]) -> Vec<(&'static str, Vec<u8>)> {
    more.iter().map(|(path, bytes)| (*path, bytes.as_bytes().to_vec())).collect()
}

/// Entries of directories that lead to blocks which cannot belong to the directory.
fn broken_directories() -> Vec<Damage> {
    let mut damages = Vec::new();
    let mut add = |name, code, pair| {
        let mut b = Builder::new();
        b.root(soft([2, 3]), |w| {
            put_dir(w, 1, b"dir", [2, 3]);
            put_dir(w, 2, b"evil", pair);
            put_inline(w, 3, b"good", b"good");
        });
        b.small_dir([2, 3], Tail::END);
        let files = kept(&[("dir/file", "content"), ("good", "good")]);
        damages.push(Damage { name, code, image: b, preen: Preen::Leaves, loses: true, files });
    };
    add("an erased directory", "directory-broken", [7, 8]);
    add("a directory outside", "directory-broken", [4000, 4001]);
    add("a directory of one block", "directory-broken", [7, 7]);
    add("the root below itself", "tree-loop", [0, 1]);
    add("a directory twice", "tree-loop", [3, 2]);
    add("half a directory", "tree-loop", [0, 9]);

    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    b.small_dir([2, 3], hard([4, u32::MAX]));
    damages.push(Damage {
        name: "a null hardtail",
        code: "directory-broken",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files: kept(&[("dir/file", "content")]),
    });
    damages
}

/// Entries of directories that lead nowhere, although the thread still has the directories.
fn moved_directories() -> Vec<Damage> {
    let mut damages = Vec::new();

    // the entry of a directory leads nowhere, and the thread still has it
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [8, 9]));
    b.small_dir([2, 3], Tail::END);
    damages.push(Damage {
        name: "a directory the thread remembers",
        code: "directory-broken",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files: kept(&[("lost+found/dir-2/file", "content")]),
    });

    // the entry names the old blocks of a directory that has moved; of one of them, the thread
    // knows the new pair
    let mut b = Builder::new();
    b.root(soft([4, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    b.small_dir([4, 3], Tail::END);
    damages.push(Damage {
        name: "a directory that has moved",
        code: "directory-broken",
        image: b,
        preen: Preen::Leaves,
        loses: false,
        files: kept(&[("dir/file", "content")]),
    });

    // two entries could be its own
    let mut b = Builder::new();
    b.root(soft([4, 3]), |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_dir(w, 2, b"other", [3, 5]);
    });
    b.small_dir([4, 3], Tail::END);
    damages.push(Damage {
        name: "a directory that may have moved",
        code: "directory-broken",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files: kept(&[("lost+found/dir-3/file", "content")]),
    });
    damages
}

/// Directories and threads of which a pair is gone, so that what came behind it is cut off.
fn cut_off_directories() -> Vec<Damage> {
    let mut damages = Vec::new();

    // the second of three pairs is gone, and the thread with it
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_dir(w, 2, b"later", [8, 9]);
        put_inline(w, 3, b"good", b"good");
    });
    b.small_dir([2, 3], hard([4, 5])).small_dir([8, 9], Tail::END);
    damages.push(Damage {
        name: "a directory cut off",
        code: "thread-broken",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files: kept(&[("dir/file", "content"), ("later/file", "content"), ("good", "good")]),
    });

    // the first pair of a directory is gone; one below it follows another in the thread
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"dir", [2, 3]);
        put_dir(w, 2, b"later", [8, 9]);
    });
    b.small_dir([8, 9], soft([10, 11])).pair([10, 11], |w| {
        put_inline(w, 0, b"deep", b"deep");
        put_dir(w, 1, b"deeper", [12, 13]);
    });
    b.small_dir([12, 13], Tail::END);
    damages.push(Damage {
        name: "what follows another directory",
        code: "directory-broken",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files: kept(&[
            ("later/file", "content"),
            ("lost+found/dir-a/deep", "deep"),
            ("lost+found/dir-a/deeper/file", "content"),
        ]),
    });
    damages
}

fn threads() -> Vec<Damage> {
    let mut damages = Vec::new();
    let mut add = |name, code, tail, dir_tail| {
        let mut b = Builder::new();
        b.root(tail, |w| {
            put_dir(w, 1, b"dir", [2, 3]);
            put_inline(w, 2, b"good", b"good");
            put_dir(w, 3, b"other", [4, 5]);
        });
        b.small_dir([2, 3], dir_tail).pair([4, 5], |w| {
            put_inline(w, 0, b"file", b"content");
            // a share of the global state of which the rest is lost
            w.gdelta(moving([2, 3], 0));
        });
        let files = kept(&[("dir/file", "content"), ("other/file", "content"), ("good", "good")]);
        damages.push(Damage { name, code, image: b, preen: Preen::Leaves, loses: false, files });
    };
    add("a tail to erased blocks", "thread-broken", soft([2, 3]), soft([60, 61]));
    add("a tail outside", "thread-broken", soft([4000, 4001]), Tail::END);
    add("a tail of one block", "thread-broken", soft([2, 3]), soft([9, 9]));
    add("a tail back to the root", "thread-loop", soft([2, 3]), soft([0, 1]));
    add("a tail to itself", "thread-loop", soft([2, 3]), soft([3, 2]));
    add("a tail to half a pair", "thread-loop", soft([2, 3]), soft([3, 4]));

    // the new copy of a relocated pair has the delta that names the move
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_inline(w, 1, b"gone", b"gone");
        put_dir(w, 2, b"dir", [3, 4]);
    });
    b.small_dir([2, 3], soft([60, 61]));
    b.pair([4, 3], |w| {
        put_inline(w, 0, b"file", b"content");
        w.gdelta(moving([0, 1], 1));
    });
    damages.push(Damage {
        name: "a broken thread, and a move",
        code: "thread-broken",
        image: b,
        preen: Preen::Leaves,
        loses: false,
        files: kept(&[("dir/file", "content"), ("gone", "gone")]),
    });
    damages
}

/// An image that `fill` makes, and the files that are there after `-y`.
fn of_entry(
    name: &'static str,
    code: &'static str,
    preen: Preen,
    loses: bool,
    files: &[(&'static str, &str)],
    fill: &dyn Fn(&mut Builder),
) -> Damage {
    let mut image = Builder::new();
    fill(&mut image);
    Damage { name, code, image, preen, loses, files: kept(files) }
}

/// The only file that some of the images keep.
const GOOD: &[(&str, &str)] = &[("good", "good")];

/// Entries whose struct is missing, too short, or of the wrong type.
fn structs() -> Vec<Damage> {
    let mut damages = Vec::new();
    damages.push(of_entry("no struct", "bad-struct", Preen::Leaves, true, GOOD, &|b| {
        b.root(Tail::END, |w| {
            w.tag(tag::REG, 1, b"bare");
            put_inline(w, 2, b"good", b"good");
        });
    }));
    damages.push(of_entry("a short struct", "bad-struct", Preen::Leaves, true, GOOD, &|b| {
        b.root(Tail::END, |w| {
            w.tag(tag::DIR, 1, b"evil");
            w.tag(tag::DIRSTRUCT, 1, &[1, 2, 3]);
            put_inline(w, 2, b"good", b"good");
        });
    }));
    let dir = &[("dir/file", "content"), ("good", "good")];
    damages.push(of_entry(
        "a superblock without content",
        "bad-struct",
        Preen::Leaves,
        true,
        dir,
        &|b| {
            b.root(soft([2, 3]), |w| {
                put_dir(w, 1, b"dir", [2, 3]);
                put_inline(w, 2, b"good", b"good");
            });
            b.pair([2, 3], |w| {
                w.tag(tag::SUPERBLOCK, 0, littlefs::disk::superblock::MAGIC);
                put_inline(w, 1, b"file", b"content");
            });
        },
    ));
    let both = &[("evil", "text"), ("good", "good")];
    damages.push(of_entry(
        "a directory with text",
        "bad-struct",
        Preen::Leaves,
        false,
        both,
        &|b| {
            b.root(Tail::END, |w| {
                w.tag(tag::DIR, 1, b"evil");
                w.tag(tag::INLINESTRUCT, 1, b"text");
                put_inline(w, 2, b"good", b"good");
            });
        },
    ));
    let both = &[("evil/file", "content"), ("good", "good")];
    damages.push(of_entry(
        "a file with a directory's pair",
        "bad-struct",
        Preen::Partly,
        false,
        both,
        &|b| {
            b.root(soft([2, 3]), |w| {
                w.tag(tag::REG, 1, b"evil");
                w.tag(tag::DIRSTRUCT, 1, &littlefs::disk::Pair([2, 3]).to_bytes());
                put_inline(w, 2, b"good", b"good");
            });
            b.small_dir([2, 3], Tail::END);
        },
    ));
    damages
}

/// Moves that cannot have been made, and the move of a directory beside a damaged entry.
fn moves() -> Vec<Damage> {
    let mut damages = Vec::new();
    let moved = &[("d/x", "x"), ("d/y", "y"), ("good", "good")];
    damages.push(of_entry(
        "no struct, and a moved directory",
        "bad-struct",
        Preen::Partly,
        true,
        moved,
        &|b| {
            b.root(soft([2, 3]), |w| {
                w.tag(tag::REG, 1, b"bare");
                put_dir(w, 2, b"d", [3, 4]);
                put_inline(w, 3, b"good", b"good");
            });
            b.pair([2, 3], |w| {
                put_inline(w, 0, b"gone", b"gone");
                put_inline(w, 1, b"x", b"x");
                put_inline(w, 2, b"y", b"y");
                w.gdelta(moving([2, 3], 0));
            });
            b.pair([4, 3], |w| {
                put_inline(w, 0, b"x", b"x");
                put_inline(w, 1, b"y", b"y");
            });
        },
    ));
    damages.push(of_entry(
        "a move of the superblock",
        "move-lost",
        Preen::Leaves,
        false,
        GOOD,
        &|b| {
            let sb = superblock(b.geometry);
            b.pair([0, 1], |w| {
                put_superblock(w, sb);
                put_inline(w, 1, b"good", b"good");
                w.gdelta(moving([0, 1], 0));
            });
        },
    ));
    damages.push(of_entry("a move of nothing", "move-lost", Preen::Mends, false, GOOD, &|b| {
        let sb = superblock(b.geometry);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_inline(w, 1, b"good", b"good");
            w.gdelta(moving([0, 1], 77));
        });
    }));
    damages
}

/// Content and superblocks without a name.
fn unnamed() -> Vec<Damage> {
    let mut damages = Vec::new();
    let both = &[("good", "good"), ("unnamed", "text")];
    damages.push(of_entry(
        "content without a name",
        "id-unused",
        Preen::Mends,
        false,
        both,
        &|b| {
            b.root(Tail::END, |w| {
                w.tag(tag::CREATE, 1, &[]);
                w.tag(tag::INLINESTRUCT, 1, b"text");
                put_inline(w, 2, b"good", b"good");
            });
        },
    ));
    let both = &[("good", "good"), ("unnamed/file", "content")];
    damages.push(of_entry(
        "a directory whose name went elsewhere",
        "id-unused",
        Preen::Mends,
        false,
        both,
        &|b| {
            b.root(soft([2, 3]), |w| {
                w.tag(tag::CREATE, 1, &[]);
                w.tag(tag::DIRSTRUCT, 1, &littlefs::disk::Pair([2, 3]).to_bytes());
                put_inline(w, 2, b"good", b"good");
            });
            b.small_dir([2, 3], Tail::END);
        },
    ));
    damages.push(of_entry(
        "no superblock in the chain",
        "superblock-damaged",
        Preen::Mends,
        false,
        GOOD,
        &|b| {
            b.pair([0, 1], |w| {
                let sb = superblock(littlefs::bd::Geometry::new(512, 128).expect("possible"));
                w.tag(tag::SUPERBLOCK, 0, b"\xc5ittlefs");
                w.tag(tag::INLINESTRUCT, 0, &sb.to_bytes());
                w.tail(hard([4, 5]));
            });
            b.pair([4, 5], |w| {
                put_superblock(
                    w,
                    superblock(littlefs::bd::Geometry::new(512, 128).expect("possible")),
                );
                put_inline(w, 1, b"good", b"good");
                // a repair that takes blocks 0 and 1 for a removed directory would free them
                w.gdelta(littlefs::disk::GState::default().with_sync(true));
            });
        },
    ));
    damages.push(of_entry("ids without names", "id-unused", Preen::Mends, false, GOOD, &|b| {
        b.root(Tail::END, |w| put_inline(w, 9, b"good", b"good"));
    }));
    damages.push(of_entry("an odd log", "log-odd", Preen::Mends, false, GOOD, &|b| {
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"good", b"good");
            w.tag(tag::DELETE, 9, &[]);
        });
    }));
    damages
}

/// Directories without a name, or without a place in the thread.
fn not_in_the_thread() -> Vec<Damage> {
    let mut damages = Vec::new();
    let lost = &[("good", "good"), ("lost+found/dir-2/file", "content")];
    // the sync bit makes it look like a removed directory
    damages.push(of_entry(
        "a directory lost or removed",
        "orphan",
        Preen::Leaves,
        true,
        lost,
        &|b| {
            b.root(soft([2, 3]), |w| {
                put_inline(w, 1, b"good", b"good");
                w.tag(tag::DIR, 2, b"evil");
                w.gdelta(littlefs::disk::GState::default().with_sync(true));
            });
            b.small_dir([2, 3], Tail::END);
        },
    ));
    let both = &[("dir/file", "content"), ("good", "good")];
    damages.push(of_entry(
        "a directory the thread misses",
        "unthreaded",
        Preen::Mends,
        false,
        both,
        &|b| {
            b.root(Tail::END, |w| {
                put_dir(w, 1, b"dir", [2, 3]);
                put_inline(w, 2, b"good", b"good");
            });
            b.small_dir([2, 3], Tail::END);
        },
    ));
    damages.push(of_entry(
        "a directory without a name",
        "orphan",
        Preen::Mends,
        false,
        lost,
        &|b| {
            b.root(soft([2, 3]), |w| put_inline(w, 1, b"good", b"good"));
            b.small_dir([2, 3], Tail::END);
        },
    ));
    damages.push(of_entry(
        "a directory that moved",
        "half-orphan",
        Preen::Mends,
        false,
        &[("d/new", "x")],
        &|b| {
            b.root(soft([2, 3]), |w| put_dir(w, 1, b"d", [3, 4]));
            b.small_dir([2, 3], Tail::END);
            b.pair([4, 3], |w| put_inline(w, 0, b"new", b"x"));
        },
    ));
    let both = &[("dir/file", "content"), ("dir/x", "x")];
    damages.push(of_entry("an empty pair", "pair-empty", Preen::Mends, false, both, &|b| {
        b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
        b.small_dir([2, 3], hard([4, 5])).pair([4, 5], |w| w.tail(hard([6, 7])));
        b.pair([6, 7], |w| put_inline(w, 0, b"x", b"x"));
    }));
    damages
}

fn names() -> Vec<Damage> {
    let mut damages = Vec::new();
    let mut add = |name, code, bytes: &[u8], now: &'static str| {
        let mut b = Builder::new();
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"good", b"good");
            put_inline(w, 2, bytes, b"evil");
            put_inline(w, 3, b"other", b"other");
        });
        let files = kept(&[("good", "good"), (now, "evil"), ("other", "other")]);
        damages.push(Damage { name, code, image: b, preen: Preen::Mends, loses: false, files });
    };
    add("a slash", "name-impossible", b"h/a", "h_a");
    add("no name", "name-impossible", b"", "unnamed");
    add("a wrong order", "name-order", b"a", "a");
    let long: &'static str = "h".repeat(255).leak();
    add("a long name", "name-too-long", &[b'h'; 256], long);

    // the device opens the last
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_inline(w, 1, b"good", b"good");
        put_inline(w, 2, b"same", b"first");
        put_inline(w, 3, b"same", b"last");
    });
    damages.push(Damage {
        name: "a name twice",
        code: "name-duplicate",
        image: b,
        preen: Preen::Leaves,
        loses: false,
        files: kept(&[("good", "good"), ("lost+found/same", "first"), ("same", "last")]),
    });

    // names hide behind entries of a type that must stay where it is
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    b.pair([2, 3], |w| {
        w.tag(0x033, 0, b"x");
        put_inline(w, 1, b"y", b"y");
        w.tail(hard([4, 5]));
    });
    b.pair([4, 5], |w| {
        w.tag(0x033, 0, b"b");
        put_inline(w, 1, b"c", b"c");
        put_inline(w, 2, b"z", b"z");
    });
    damages.push(Damage {
        name: "a name behind an unknown type",
        code: "name-order",
        image: b,
        preen: Preen::Mends,
        loses: false,
        files: kept(&[("dir/c", "c"), ("dir/y", "y"), ("dir/z", "z")]),
    });
    damages.extend(of_unknown_type_and_known());
    damages
}

/// A name that a file has, and an entry of an unknown type before or behind it.
fn of_unknown_type_and_known() -> Vec<Damage> {
    let unknown = |w: &mut Writer, id| w.tag(0x033, id, b"x");
    let one_pair = |unknown_id: u16| {
        let mut b = Builder::new();
        b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
        b.pair([2, 3], |w| {
            for id in 0..2 {
                match id == unknown_id {
                    true => unknown(w, id),
                    false => put_inline(w, id, b"x", b"x"),
                }
            }
        });
        b
    };
    let mut later = Builder::new();
    later.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    later.pair([2, 3], |w| {
        put_inline(w, 0, b"x", b"x");
        w.tail(hard([4, 5]));
    });
    later.pair([4, 5], |w| unknown(w, 0));
    let damage = |name, image| Damage {
        name,
        code: "name-duplicate",
        image,
        preen: Preen::Leaves,
        loses: false,
        files: kept(&[("lost+found/x", "x")]),
    };
    let mut twice = Builder::new();
    twice.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    twice.pair([2, 3], |w| {
        put_inline(w, 0, b"y", b"y");
        unknown(w, 1);
        unknown(w, 2);
        put_inline(w, 3, b"b", b"b");
    });
    vec![
        Damage {
            name: "a name of an unknown type twice",
            code: "name-order",
            image: twice,
            preen: Preen::Mends,
            loses: false,
            files: kept(&[("dir/b", "b"), ("dir/y", "y")]),
        },
        damage("a name of an unknown type, and then of a file", one_pair(0)),
        damage("a name of a file, and then of an unknown type", one_pair(1)),
        damage("a name of a file, and of an unknown type in the next pair", later),
    ]
}

/// Many kinds of damage at once.
fn together() -> Damage {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_dir(w, 1, b"a", [2, 3]);
        put_dir(w, 2, b"b", [4, 5]);
        put_dir(w, 3, b"evil", [60, 61]);
        put_ctz(w, 4, b"evil", 4000, 700);
        put_ctz(w, 5, b"large", SOUND[1], SOUND_SIZE);
    });
    b.small_dir([2, 3], soft([2, 3]));
    b.pair([4, 5], |w| {
        put_inline(w, 0, b"same", b"1");
        put_inline(w, 1, b"same", b"2");
        w.tail(hard([6, 7]));
    });
    b.pair([6, 7], |w| {
        put_inline(w, 0, b"first", b"3");
        put_ctz(w, 1, b"evil", SOUND[1], SOUND_SIZE);
        put_ctz(w, 2, b"evil2", LIST[6], 3500);
        w.tail(soft([8, 9]));
    });
    b.pair([8, 9], |w| {
        put_inline(w, 0, b"lost", b"4");
        put_dir(w, 1, b"below", [10, 11]);
    });
    b.small_dir([10, 11], Tail::END);
    b.list(&LIST).list(&SOUND).point(LIST[5], 4000);
    let large = content(&b, &SOUND, SOUND_SIZE);
    // only the pointer of block 5 is bad, and block 6 has one to block 4
    let part = content(&b, &LIST, 3500);
    let mut files = kept(&[
        ("a/file", "content"),
        ("b/same", "2"),
        ("lost+found/same", "1"),
        ("b/first", "3"),
        ("lost+found/dir-8/lost", "4"),
        ("lost+found/dir-8/below/file", "content"),
    ]);
    files.extend([("large", large.clone()), ("b/evil", large), ("lost+found/evil2.part", part)]);
    Damage {
        name: "much at once",
        code: "thread-loop",
        image: b,
        preen: Preen::Leaves,
        loses: true,
        files,
    }
}
