//! One of the two superblocks is lost. The other one is written only if something shows that the
//! filesystem starts here.

use littlefs::container::{Doubt, Kind};
use littlefs::image::{OpenError, Reason};

use crate::fixture::*;
use testkit::clfs::{CLfs, Config};

/// What a block may hold that does not hold a superblock any more.
const LOSSES: [fn(&mut [u8]); 4] = [
    |block| block.fill(0xff),
    |block| block.fill(0),
    |block| block[20] ^= 1,
    |block| block.iter_mut().for_each(|b| *b = b.rotate_left(3) ^ 0x5a),
];

fn lose(image: &mut [u8], config: &Config, block: usize, loss: fn(&mut [u8])) {
    let size = config.block_size as usize;
    loss(&mut image[block * size..][..size]);
}

/// The image with both halves of the first pair made as new as the newer one.
fn settled(mut image: Vec<u8>, config: &Config) -> Vec<u8> {
    let size = config.block_size as usize;
    image.copy_within(size..2 * size, 0);
    image
}

/// A flash chip that contains the image and something else around it.
fn in_flash(image: &[u8], before: usize) -> Vec<u8> {
    let around = |n: usize| (0..n).map(|i| (i * 7 % 251) as u8);
    let mut flash: Vec<u8> = around(before).collect();
    flash.extend(image);
    flash.extend(around(64 << 10));
    flash
}

/// Whether it opens for writing. If it does not, this returns the doubt.
fn doubt_at(bytes: &[u8], at: u64) -> Option<Doubt> {
    let opened = open_at(bytes, at).expect("should open");
    assert_eq!(opened.read_only, opened.doubt.is_some());
    assert_eq!(opened.doubt.is_some() || opened.lost.is_some(), !opened.notes.is_empty());
    opened.doubt
}

#[test]
fn a_block_early_or_late_is_not_written() {
    for config in [small(), flash()] {
        let block = u64::from(config.block_size);
        for image in [with_tree(&config), with_list(&config), without_tree(&config)] {
            let start = 16 * block;
            let bytes = in_flash(&image, start as usize);
            assert_eq!(doubt_at(&bytes, start), None);
            for wrong in [start - block, start + block] {
                assert_eq!(doubt_at(&bytes, wrong), Some(Doubt::PartOf(start)), "{config:?}");
            }
        }
    }
}

/// A tree behind the superblock shows where the filesystem starts, whatever the other half holds.
#[test]
fn the_tree_tells_where_a_lone_half_belongs() {
    for config in [small(), flash()] {
        let block = u64::from(config.block_size);
        for image in [with_tree(&config), with_list(&config)] {
            let image = settled(image, &config);
            for (lost, loss) in [0, 1].into_iter().flat_map(|lost| LOSSES.map(|l| (lost, l))) {
                let mut image = image.clone();
                lose(&mut image, &config, lost, loss);
                assert_eq!(doubt_at(&image, 0), None, "{config:?}, block {lost}");
                let start = 16 * block;
                let bytes = in_flash(&image, start as usize);
                assert_eq!(doubt_at(&bytes, start), None, "{config:?}, block {lost}");
                let wrong = if lost == 0 { start + block } else { start - block };
                assert_eq!(doubt_at(&bytes, wrong), Some(Doubt::BetterAt(start)), "{config:?}");
            }
        }
    }
}

/// If the start is one block too far on, each pair consists of halves of two pairs. So when a
/// directory is damaged, the wrong place may lead to more blocks than the right one.
#[test]
fn a_damaged_tree_does_not_move_the_filesystem() {
    for config in [small(), flash()] {
        let block = config.block_size as usize;
        let mut c = CLfs::fresh(&config).expect("format");
        for i in 0..8 {
            let dir = format!("d{i}");
            c.mkdir(dir.as_bytes()).expect("mkdir");
            // both blocks of each pair get a commit
            for n in 0..40 {
                let path = format!("{dir}/{dir}{}", n % 3);
                c.write_file(path.as_bytes(), &[n; 100]).expect("write");
            }
        }
        let image = settled(c.unmount(), &config);
        for damaged in 1..9 {
            for loss in LOSSES {
                let mut image = image.clone();
                image[damaged * 2 * block..][..2 * block].fill(0x5a);
                lose(&mut image, &config, 0, loss);
                assert_eq!(doubt_at(&image, 0), None, "{config:?}, pair {damaged}");
                let start = 16 * block as u64;
                let bytes = in_flash(&image, start as usize);
                assert_eq!(doubt_at(&bytes, start), None, "{config:?}, pair {damaged}");
                let wrong = start + block as u64;
                assert_eq!(doubt_at(&bytes, wrong), Some(Doubt::BetterAt(start)), "{config:?}");
            }
        }
    }
}

/// A commit of the root was interrupted, and the only directory cannot be read: a repair must be
/// able to go on. If something else is in the place of the lost superblock, the filesystem may be
/// an old one.
#[test]
fn an_interrupted_commit_is_not_doubtful_because_the_tree_is_damaged() {
    for config in [small(), flash()] {
        let block = config.block_size as usize;
        let mut c = CLfs::fresh(&config).expect("format");
        c.mkdir(b"dir").expect("mkdir");
        let mut image = settled(c.unmount(), &config);
        image[2 * block..].fill(0x5a);
        for lost in [0, 1] {
            for (loss, doubt) in LOSSES.into_iter().zip([false, false, false, true]) {
                let mut image = image.clone();
                lose(&mut image, &config, lost, loss);
                let found = doubt_at(&image, 0);
                let expected = doubt.then_some(Doubt::LeadsNowhere);
                assert_eq!(found, expected, "{config:?}, block {lost}");
            }
        }
    }
}

/// Without a tree, the size of a file that is only the image shows it, or what is left of the other
/// half. Nothing else does.
#[test]
fn an_empty_filesystem_of_one_half_is_written_where_its_place_is_clear() {
    let config = flash();
    let block = u64::from(config.block_size);
    for lost in [0, 1] {
        for loss in LOSSES {
            let mut image = without_tree(&config);
            lose(&mut image, &config, lost, loss);
            assert_eq!(doubt_at(&image, 0), None, "block {lost} of a file of its own");
            let mut longer = image.clone();
            longer.resize(image.len() + 100, 0xff);
            assert_eq!(doubt_at(&longer, 0), None, "block {lost} of a file with more bytes");
        }
    }
    // in a flash chip whose other blocks are erased, either place is as good
    let start = 4 * block;
    for (lost, other) in [(0, start + block), (1, start - block)] {
        let mut image = without_tree(&config);
        lose(&mut image, &config, lost, LOSSES[0]);
        let bytes = [vec![0xff; start as usize], image, vec![0xff; 1 << 16]].concat();
        assert_eq!(doubt_at(&bytes, start), Some(Doubt::EitherAt(other)));
        assert_eq!(doubt_at(&bytes, other), Some(Doubt::EitherAt(start)));
    }
    // what was written over the lost superblock tells no more than an erased block does
    for (lost, other) in [(0, start + block), (1, start - block)] {
        let mut image = without_tree(&config);
        lose(&mut image, &config, lost, LOSSES[3]);
        for around in [0xff, 0x5a] {
            let filled = |n: usize| vec![around; n];
            let bytes = [filled(start as usize), image.clone(), filled(1 << 16)].concat();
            assert_eq!(doubt_at(&bytes, start), Some(Doubt::EitherAt(other)), "block {lost}");
            assert_eq!(doubt_at(&bytes, other), Some(Doubt::EitherAt(start)), "block {lost}");
        }
    }
    // an interrupted commit leaves a block that once was a superblock
    for lost in [0, 1] {
        let mut image = without_tree(&config);
        lose(&mut image, &config, lost, LOSSES[2]);
        let bytes = [vec![0xff; start as usize], image, vec![0xff; 1 << 16]].concat();
        assert_eq!(doubt_at(&bytes, start), None);
    }
}

/// A dump may start a block too late. Its first block is then the second superblock.
#[test]
fn a_file_without_its_first_block_is_not_written() {
    for config in [small(), flash()] {
        let block = config.block_size as usize;
        let cut = settled(without_tree(&config), &config)[block..].to_vec();
        for behind in [0, 2 * block, 1 << 16] {
            for fill in [0xff, 0x5a] {
                let bytes = [cut.clone(), vec![fill; behind]].concat();
                let doubt = match open_at(&bytes, 0) {
                    Ok(opened) => opened.doubt.filter(|_| opened.read_only),
                    Err(OpenError { reason: Reason::Doubtful(doubt), .. }) => Some(doubt),
                    Err(e) => panic!("{e}"),
                };
                assert_eq!(doubt, Some(Doubt::Beheaded), "{behind} bytes behind it");
            }
        }
    }
}

/// The same if the dump was filled up to the right size. Read from there, every file would have the
/// content of another one.
#[test]
fn a_file_without_its_first_block_and_of_the_right_size_is_not_written() {
    for config in [small(), flash()] {
        let block = config.block_size as usize;
        let mut c = CLfs::fresh(&config).expect("format");
        for i in 0..8_u8 {
            c.write_file(&[b'f', b'0' + i], &vec![i; block - 40]).expect("write");
        }
        let whole = settled(c.unmount(), &config);
        let shifted = [&whole[block..], &vec![0xff; block]].concat();
        let opened = open_at(&shifted, 0).expect("readable");
        assert!(opened.read_only, "{config:?}");
        assert_eq!(opened.doubt, Some(Doubt::Beheaded), "{config:?}");
        // a superblock that was being written is no reason for doubt
        let mut torn = whole;
        torn[block..2 * block].fill(0xff);
        let opened = open_at(&torn, 0).expect("readable");
        assert_eq!((opened.read_only, opened.doubt), (false, None), "{config:?}");
    }
}

/// A piece of a dump that is as long as the filesystem, but starts a block early, so that the last
/// block is missing.
#[test]
fn a_piece_that_starts_a_block_early_is_not_written() {
    for config in [small(), flash()] {
        let block = config.block_size as usize;
        for image in [with_tree(&config), with_list(&config)] {
            let image = settled(image, &config);
            for loss in LOSSES {
                let mut image = image.clone();
                lose(&mut image, &config, 1, loss);
                for before in [0xff, 0x5a] {
                    let end = image.len() - block;
                    let bytes = [&vec![before; block], &image[..end]].concat();
                    let doubt = doubt_at(&bytes, 0);
                    let start = block as u64;
                    let expected = [Some(Doubt::BetterAt(start)), Some(Doubt::EitherAt(start))];
                    assert!(expected.contains(&doubt), "{config:?}: {doubt:?}");
                }
            }
        }
    }
}

/// Every image that the C driver can mount after a power loss in the first commits of a filesystem
/// opens for writing here, if it is a file of its own.
#[test]
fn a_cut_in_the_first_commits_refuses_nothing() {
    type Step = fn(&mut CLfs);
    let steps: [Step; 3] = [
        |c| _ = c.write_file(b"boot", b"1"),
        |c| _ = c.mkdir(b"d"),
        |c| (0..40).for_each(|i| _ = c.write_file(b"boot", &[i; 40])),
    ];
    let mut mounted = 0;
    for config in [small(), flash(), Config::new(512, 16, 512)] {
        let size = config.block_size as usize * config.block_count as usize;
        let blank = |fill: u8| vec![fill; size];
        let mut images = Vec::new();
        let mut cut = 0;
        loop {
            let (image, done) = CLfs::interrupted_format(blank(0xff), &config, cut);
            images.push(image);
            cut += 1;
            if done {
                break;
            }
        }
        for step in steps {
            for cut in 0..30 {
                let mut c = CLfs::fresh(&config).expect("format");
                c.cut_power_after(cut);
                step(&mut c);
                images.push(c.unmount());
            }
        }
        for image in images {
            if CLfs::mount(image.clone(), &config).is_ok() {
                mounted += 1;
                assert_eq!(doubt_at(&image, 0), None, "{config:?}");
            }
        }
    }
    assert!(mounted > 200, "{mounted} of the images mount");
}

/// NAND flash that was read with its spare bytes: what follows the first page is in other places.
/// If it is not clear what the pages are, the image stays doubtful.
#[test]
fn a_dump_with_spare_bytes_is_not_written() {
    let config = Config::new(16 << 10, 32, 512);
    for image in [with_tree(&config), with_list(&config), without_tree(&config)] {
        for (page, spare) in [(512, 16), (2048, 64), (4096, 224)] {
            let pages = image.chunks(page).map(|p| [p, &vec![0xff; spare][..]].concat());
            let dump = pages.collect::<Vec<_>>().concat();
            let opened = open_at(&dump, 0).expect("should open");
            let doubtful = matches!(opened.doubt, Some(Doubt::Stretched(_)));
            assert!(
                doubtful || opened.wrapped == [Kind::Nand],
                "{page}+{spare}: {:?}",
                opened.doubt
            );
            assert!(opened.read_only);
        }
    }
}

/// The start of an old filesystem, and a newer one in blocks that were free in the old one.
#[test]
fn what_was_written_over_an_old_filesystem_is_named() {
    let config = flash();
    let mut bytes = without_tree(&config);
    lose(&mut bytes, &config, 1, LOSSES[3]);
    let newer = with_tree(&Config { block_count: 20, ..config.clone() });
    bytes[8 * 4096..][..newer.len()].copy_from_slice(&newer);
    assert_eq!(doubt_at(&bytes, 0), Some(Doubt::Covers(8 * 4096)));
    assert_eq!(doubt_at(&bytes, 8 * 4096), None);

    // everything but the first superblock was written over
    let mut bytes = settled(with_tree(&config), &config);
    bytes[4096..].fill(0x5a);
    assert_eq!(doubt_at(&bytes, 0), Some(Doubt::LeadsNowhere));
}

#[test]
fn commands_name_the_doubt_and_write_nothing() {
    let config = flash();
    let image = with_tree(&config);
    let (_dir, path) = file("dump.bin", &in_flash(&image, 0x10000));
    let before = read(&path);
    let early = "0xf000";
    let words = ["belongs to the filesystem at offset=65536 (0x10000)", "which is whole"];
    for args in [
        vec!["info", "--offset", early, &path],
        vec!["check", "-y", "--offset", early, &path],
        vec!["kv", "--offset", early, &path, "set", "a", "b"],
    ] {
        let (code, out, err) = littlefs(&args);
        assert_eq!(
            code,
            if args[0] == "info" {
                0
            } else if args[0] == "check" {
                4
            } else {
                1
            }
        );
        for word in words {
            assert!(err.contains(word), "{args:?}: {err}");
        }
        if args[0] == "check" {
            assert!(out.contains("[superblock-doubtful]"), "{out}");
        }
    }
    let journal = path.clone() + ".journal";
    let args = ["kv", "--offset", early, "--journal", &journal, &path, "set", "a", "b"];
    let (code, _, err) = littlefs(&args);
    assert!(code == 1 && err.contains(words[0]), "{err}");
    assert!(read(&path) == before);

    let mut lost = image;
    lose(&mut lost, &config, 0, LOSSES[0]);
    let (_dir, path) = file("lost.img", &lost);
    let (code, out, err) = littlefs(&["check", &path]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("note: block 0: holds no valid superblock") && out.contains("clean"));
    assert!(err.contains("the superblock in block 0 is lost; the one in block 1 is used"), "{err}");
    for said in [out, err] {
        assert!(said.contains("may show an older state"), "{said}");
        assert!(said.contains("run 'littlefs recover' before anything is written"), "{said}");
    }
}

/// If the only filesystem in a dump is doubtful, and is not at the start of the file, then commands
/// that were not told where it is name the place and the doubt.
#[test]
fn a_doubtful_filesystem_elsewhere_is_named() {
    let config = flash();
    let mut image = settled(without_tree(&config), &config);
    lose(&mut image, &config, 1, LOSSES[3]);
    let mut bytes = vec![0xff; 0x3000];
    bytes.extend(&image);
    let (_dir, path) = file("dump.bin", &bytes);
    for args in [vec!["info", &path], vec!["ls", &path], vec!["kv", &path, "set", "a", "b"]] {
        let (code, _, err) = littlefs(&args);
        assert_eq!(code, 1, "{args:?}: {err}");
        for word in
            ["offset=12288 (0x3000)", "doubtful: one of its two superblocks is lost", "--offset"]
        {
            assert!(err.contains(word), "{args:?}: {err}");
        }
    }
    let (code, out, err) = littlefs(&["ls", "--offset", "0x3000", &path]);
    assert_eq!(code, 0, "{out}{err}");
    // searching for lost files changes nothing, so there the only place is taken
    let searched = |args: &[&str]| {
        let found = tempfile::tempdir().expect("a directory");
        let dir = found.path().to_str().expect("a path").to_owned();
        let (code, out, err) = littlefs(&[args, &["-C", &dir, &path]].concat());
        let is_chosen =
            err.contains("searching the only filesystem that was found, at offset=12288");
        assert_eq!(is_chosen, args.len() == 1, "{err}");
        (code, out.replace(&dir, "DIR"))
    };
    assert_eq!(searched(&["recover"]), searched(&["recover", "--offset", "0x3000"]));
    assert!(read(&path) == bytes);
}
