//! Directories: many of them, nested ones, listings during changes, and everything that is refused.

use littlefs::error::Error;
use littlefs::fs::{Node, ROOT};

use testkit::calls::Fail;

use super::lab::*;

#[test]
fn empty_root() {
    on_each_geometry(|lab| {
        assert_eq!(lab.names(""), [""; 0]);
        lab.power_cycle();
        assert_eq!(lab.names(""), [""; 0]);
    });
}

/// The names `prefix000` to `prefix{n-1}`.
fn numbered(prefix: &str, n: u32) -> Vec<String> {
    (0..n).map(|i| format!("{prefix}{i:03}")).collect()
}

fn many(make: fn(&mut Lab, &str), remove: fn(&mut Lab, &str)) {
    for n in [3, 14, 47, 60] {
        on_each_geometry(|lab| {
            let names = numbered("test", n);
            names.iter().for_each(|name| make(lab, name));
            // Digits in a common length: our order is the order of creation.
            assert_eq!(lab.names(""), names);
            lab.power_cycle();
            assert_eq!(lab.names(""), names);

            for (i, name) in names.iter().enumerate() {
                lab.rename(name, &format!("tedd{i:03}"));
            }
            lab.power_cycle();
            assert_eq!(lab.names(""), numbered("tedd", n));

            // Over names that are taken.
            for (i, name) in numbered("tedd", n).iter().enumerate().skip(1) {
                lab.rename(name, &format!("tedd{:03}", i - 1));
            }
            lab.power_cycle();

            for name in numbered("tedd", n - 1) {
                remove(lab, &name);
            }
            assert_eq!(lab.names(""), [""; 0]);
        });
    }
}

#[test]
fn many_directories() {
    many(Lab::mkdir, Lab::rmdir);
}

#[test]
fn many_files() {
    many(|lab, name| lab.fill(name, 20, name.len() as u8), Lab::unlink);
}

#[test]
fn nested_directories_move_and_go() {
    on_each_geometry(|lab| {
        for dir in ["potato", "potato/baked", "potato/sweet", "potato/fried"] {
            lab.mkdir(dir);
        }
        lab.create("burito");
        lab.power_cycle();
        lab.fails(rmdir("potato"), Fail::NotEmpty);
        lab.rmdir("potato/sweet");
        lab.mkdir("coldpotato");
        lab.rename("potato/baked", "coldpotato/baked");
        lab.rename("potato/fried", "coldpotato/fried");
        lab.rmdir("potato");
        lab.rename("coldpotato", "hotpotato");
        lab.power_cycle();
        assert_eq!(lab.names("hotpotato"), ["baked", "fried"]);

        // Over an empty directory, and not over one that is not.
        lab.mkdir("warmpotato");
        lab.mkdir("warmpotato/mushy");
        lab.fails(rename("hotpotato", "warmpotato"), Fail::NotEmpty);
        lab.rmdir("warmpotato/mushy");
        lab.rename("hotpotato", "warmpotato");
        lab.power_cycle();
        lab.fails(rename("warmpotato", "warmpotato/fried/itself"), Fail::Loop);
        lab.fails(rmdir("warmpotato"), Fail::NotEmpty);
        lab.rmdir("warmpotato/baked");
        lab.rmdir("warmpotato/fried");
        lab.rmdir("warmpotato");
        assert_eq!(lab.names(""), ["burito"]);
    });
}

#[test]
fn directory_is_emptied_and_removed() {
    for n in [10, 27, 46] {
        on_each_geometry(|lab| {
            lab.mkdir("prickly-pear");
            let names = numbered("prickly-pear/cactus", n);
            names.iter().for_each(|name| lab.mkdir(name));
            lab.power_cycle();
            lab.fails(rmdir("prickly-pear"), Fail::NotEmpty);
            names.iter().for_each(|name| lab.rmdir(name));
            lab.rmdir("prickly-pear");
            lab.fails(rmdir("prickly-pear"), Fail::NotFound);
            lab.power_cycle();
            assert_eq!(lab.free(), lab.config.block_count - 2);
        });
    }
}

/// Each entry is removed when the listing has reached it. All other entries are listed.
#[test]
fn entries_vanish_during_a_listing() {
    on_each_geometry(|lab| {
        lab.mkdir("prickly-pear");
        let n = 12;
        for name in numbered("prickly-pear/cactus", n) {
            lab.mkdir(&name);
        }
        lab.power_cycle();
        let dir = find_dir(&mut lab.ours.fs, b"prickly-pear").expect("there");
        let listed = lab.ours.fs.list(dir).expect("list");
        assert_eq!(listed.len() as u32, n);
        for (i, name) in listed.iter().enumerate() {
            assert!(matches!(lab.ours.fs.lookup(dir, name), Ok(Node::Dir(_))));
            if i % 3 == 1 {
                lab.rmdir(&format!("prickly-pear/cactus{i:03}"));
                assert!(matches!(lab.ours.fs.lookup(dir, name), Err(Error::NotFound)));
            }
        }
        assert_eq!(lab.names("prickly-pear").len() as u32, n - 4);
    });
}

#[test]
fn wrong_kinds_are_refused() {
    on_each_geometry(|lab| {
        lab.mkdir("potato");
        lab.create("burito");
        lab.power_cycle();
        for name in ["potato", "burito"] {
            lab.fails(mkdir(name), Fail::Exists);
            lab.fails(create(name), Fail::Exists);
        }
        lab.fails(write("tomato", 0, 1, 1), Fail::NotFound);
        lab.fails(write("potato", 0, 1, 1), Fail::IsDirectory);
        lab.fails(truncate("potato", 0), Fail::IsDirectory);
        lab.fails(rmdir("burito"), Fail::NotDirectory);
        lab.fails(unlink("potato"), Fail::IsDirectory);
        lab.fails(create("burito/below"), Fail::NotDirectory);
        lab.fails(mkdir("tomato/below"), Fail::NotFound);
        lab.create("tacoto");
        lab.fails(rename("tacoto", "potato"), Fail::IsDirectory);
        lab.fails(rename("potato", "tacoto"), Fail::NotDirectory);
        lab.fails(rename("tomato", "tacoto"), Fail::NotFound);
        assert!(matches!(lab.ours.fs.open_file(ROOT, b"potato"), Err(Error::IsDirectory)));
        lab.power_cycle();
        assert_eq!(lab.names(""), ["burito", "potato", "tacoto"]);
    });
}
