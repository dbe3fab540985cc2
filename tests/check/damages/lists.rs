//! Damaged lists, and files that share blocks.

use littlefs::disk::{ListIndex, Tail, ctz};

use super::{Damage, LIST, Preen, SOUND, SOUND_SIZE, content, sound_files, with_list};
use testkit::builder::{Builder, put_ctz, put_inline, put_superblock, superblock};

/// All of them.
pub fn all() -> Vec<Damage> {
    let others = vec![shared_and_broken(), shared_ends(), too_large()];
    broken_lists().into_iter().chain(shared_lists()).chain(others).collect()
}

/// Files that use the last blocks of other files.
const WHOLE: [&str; 6] = ["a0", "b0", "c0", "d0", "e0", "f0"];
const MIXED: [&str; 6] = ["a1", "b1", "c1", "d1", "e1", "f1"];

/// An image with a damaged list, and the file that `evil` has become after `-y`.
fn of_list(
    name: &'static str,
    code: &'static str,
    preen: Preen,
    loses: bool,
    image: Builder,
    evil: Option<(&'static str, Vec<u8>)>,
) -> Damage {
    let mut files = sound_files(&image);
    files.extend(evil);
    Damage { name, code, image, preen, loses, files }
}

/// Where the content of this block of the list starts in the file.
fn start(block: u32) -> usize {
    ctz::start(512, ListIndex(block)) as usize
}

/// The size of a file that fills the blocks of the list.
fn whole() -> u32 {
    Builder::new().size_of(8)
}

/// Lists with pointers or sizes that cannot be right.
fn broken_lists() -> Vec<Damage> {
    let whole = whole();
    let mut damages = Vec::new();

    // the pointer from block 6 of the list to the one before leads nowhere; block 4 and what is
    // before it can still be reached, block 5 cannot
    let b = with_list(27, whole, |b| _ = b.point(26, 4000));
    let mut bytes = content(&b, &LIST, whole);
    bytes[start(5)..start(6)].fill(0);
    damages.push(of_list(
        "a hole",
        "ctz-range",
        Preen::Leaves,
        true,
        b,
        Some(("lost+found/evil.part", bytes)),
    ));

    // every way to the beginning is gone
    let b = with_list(27, whole, |b| {
        b.point(25, 4000);
        b.block_mut(26)[4..8].copy_from_slice(&4000_u32.to_le_bytes());
    });
    let bytes = content(&b, &LIST, whole)[start(5)..].to_vec();
    damages.push(of_list(
        "no beginning",
        "ctz-range",
        Preen::Leaves,
        true,
        b,
        Some(("lost+found/evil.part", bytes)),
    ));

    let b = with_list(4000, whole, |_| ());
    damages.push(of_list("no list", "ctz-range", Preen::Leaves, true, b, None));
    let b = with_list(27, 1 << 20, |_| ());
    damages.push(of_list("too long", "ctz-too-long", Preen::Leaves, true, b, None));

    let b = with_list(27, whole, |b| {
        b.block_mut(24)[4..8].copy_from_slice(&21_u32.to_le_bytes());
    });
    let bytes = content(&b, &LIST, whole);
    damages.push(of_list(
        "skip pointer",
        "ctz-pointer",
        Preen::Leaves,
        false,
        b,
        Some(("evil", bytes)),
    ));
    damages
}

/// Lists with blocks of other files, or of a pair.
fn shared_lists() -> Vec<Damage> {
    let whole = whole();
    let mut damages = Vec::new();
    let b = with_list(33, SOUND_SIZE, |_| ());
    let bytes = content(&b, &SOUND, SOUND_SIZE);
    damages.push(of_list(
        "shared file",
        "block-shared",
        Preen::Mends,
        false,
        b,
        Some(("evil", bytes)),
    ));

    // the end is its own, the beginning another's
    let b = with_list(27, whole, |b| {
        b.list(&[32, 33, 22, 23, 24, 25, 26, 27]);
    });
    let bytes = content(&b, &[32, 33, 22, 23, 24, 25, 26, 27], whole);
    damages.push(of_list(
        "shared beginning",
        "block-shared",
        Preen::Mends,
        false,
        b,
        Some(("evil", bytes)),
    ));

    // a block of the root's pair is also the first block of the file; the file is copied before
    // the root is written
    let b = with_list(27, whole, |b| _ = b.list(&[1, 21, 22, 23, 24, 25, 26, 27]));
    let bytes = content(&b, &[1, 21, 22, 23, 24, 25, 26, 27], whole);
    damages.push(of_list(
        "shared with a pair",
        "block-shared",
        Preen::Mends,
        false,
        b,
        Some(("evil", bytes)),
    ));
    damages
}

/// Block 5 of the list belongs to another file, and another pointer leads nowhere. Only the second
/// pointer of block 6 leads to the blocks before block 5. The copy of a file that is repaired first
/// must not overwrite them.
fn shared_and_broken() -> Damage {
    let whole = whole();
    let mut b = with_list(27, whole, |b| {
        b.point(26, SOUND[1]);
        b.block_mut(24)[4..8].copy_from_slice(&4000_u32.to_le_bytes());
    });
    let sb = superblock(b.geometry);
    b.pair([0, 1], |w| {
        put_superblock(w, sb);
        put_ctz(w, 1, b"early", SOUND[1], SOUND_SIZE);
        put_ctz(w, 2, b"evil", 27, whole);
        put_inline(w, 3, b"good", b"good");
        put_ctz(w, 4, b"large", SOUND[1], SOUND_SIZE);
        w.tail(Tail::END);
    });
    let mut bytes = content(&b, &LIST, whole);
    bytes[start(5)..start(6)].copy_from_slice(&b.block_mut(SOUND[1])[4..]);
    let mut files = sound_files(&b);
    files.extend([("evil", bytes), ("early", content(&b, &SOUND, SOUND_SIZE))]);
    let (name, code, preen) = ("shared and broken", "block-shared", Preen::Partly);
    Damage { name, code, image: b, preen, loses: true, files }
}

/// The end of each file is the whole of another file, and the beginning is its own. Nothing but the
/// files themselves says what is in the first blocks, so no copy may be written over these.
fn shared_ends() -> Damage {
    let mut b = Builder::new();
    let pairs: Vec<(u32, u32)> = (0..6).map(|i| (2 + i, 40 + i)).collect();
    b.root(Tail::END, |w| {
        for (i, &(_, end)) in pairs.iter().enumerate() {
            put_ctz(w, 1 + 2 * i as u16, WHOLE[i].as_bytes(), end, 512);
            put_ctz(w, 2 + 2 * i as u16, MIXED[i].as_bytes(), end, 1000);
        }
    });
    for &(beginning, end) in &pairs {
        b.block_mut(beginning).fill(beginning as u8);
        b.block_mut(end).fill(end as u8);
        b.point(end, beginning);
    }
    let mut files = Vec::new();
    for (i, &(beginning, end)) in pairs.iter().enumerate() {
        files.push((WHOLE[i], content(&b, &[end], 512)));
        files.push((MIXED[i], content(&b, &[beginning, end], 1000)));
    }
    let (name, code) = ("shared ends", "block-shared");
    Damage { name, code, image: b, preen: Preen::Mends, loses: false, files }
}

/// The limits of the superblock are below the file's size.
fn too_large() -> Damage {
    let mut b = Builder::new();
    let sb = littlefs::disk::Superblock { file_max: 1000, ..superblock(b.geometry) };
    b.pair([0, 1], |w| {
        put_superblock(w, sb);
        put_ctz(w, 1, b"evil", LIST[3], 1800);
    });
    b.list(&LIST);
    let bytes = content(&b, &LIST, 1800);
    Damage {
        name: "too large",
        code: "file-too-large",
        preen: Preen::Leaves,
        loses: true,
        files: vec![
            ("evil", bytes[..1000].to_vec()),
            ("lost+found/evil.part", bytes[1000..].to_vec()),
        ],
        image: b,
    }
}
