//! Directories: many of them, nested ones, listings during changes, and everything that is refused.

use littlefs::error::Error;
use littlefs::fs::{Node, ROOT};

use testkit::calls::Fail;

use super::fixture::*;

#[test]
fn empty_root() {
    on_each_geometry(|fixture| {
        assert_eq!(fixture.names(""), [""; 0]);
        fixture.power_cycle();
        assert_eq!(fixture.names(""), [""; 0]);
    });
}

/// The names `prefix000` to `prefix{n-1}`.
fn numbered(prefix: &str, n: u32) -> Vec<String> {
    (0..n).map(|i| format!("{prefix}{i:03}")).collect()
}

fn many(make: fn(&mut Fixture, &str), remove: fn(&mut Fixture, &str)) {
    for n in [3, 14, 47, 60] {
        on_each_geometry(|fixture| {
            let names = numbered("test", n);
            names.iter().for_each(|name| make(fixture, name));
            // Digits in a common length: our order is the order of creation.
            assert_eq!(fixture.names(""), names);
            fixture.power_cycle();
            assert_eq!(fixture.names(""), names);

            for (i, name) in names.iter().enumerate() {
                fixture.rename(name, &format!("tedd{i:03}"));
            }
            fixture.power_cycle();
            assert_eq!(fixture.names(""), numbered("tedd", n));

            // Over names that are taken.
            for (i, name) in numbered("tedd", n).iter().enumerate().skip(1) {
                fixture.rename(name, &format!("tedd{:03}", i - 1));
            }
            fixture.power_cycle();

            for name in numbered("tedd", n - 1) {
                remove(fixture, &name);
            }
            assert_eq!(fixture.names(""), [""; 0]);
        });
    }
}

#[test]
fn many_directories() {
    many(Fixture::mkdir, Fixture::rmdir);
}

#[test]
fn many_files() {
    many(|fixture, name| fixture.fill(name, 20, name.len() as u8), Fixture::unlink);
}

#[test]
fn nested_directories_move_and_go() {
    on_each_geometry(|fixture| {
        for dir in ["potato", "potato/baked", "potato/sweet", "potato/fried"] {
            fixture.mkdir(dir);
        }
        fixture.create("burito");
        fixture.power_cycle();
        fixture.fails(rmdir("potato"), Fail::NotEmpty);
        fixture.rmdir("potato/sweet");
        fixture.mkdir("coldpotato");
        fixture.rename("potato/baked", "coldpotato/baked");
        fixture.rename("potato/fried", "coldpotato/fried");
        fixture.rmdir("potato");
        fixture.rename("coldpotato", "hotpotato");
        fixture.power_cycle();
        assert_eq!(fixture.names("hotpotato"), ["baked", "fried"]);

        // Over an empty directory, and not over one that is not.
        fixture.mkdir("warmpotato");
        fixture.mkdir("warmpotato/mushy");
        fixture.fails(rename("hotpotato", "warmpotato"), Fail::NotEmpty);
        fixture.rmdir("warmpotato/mushy");
        fixture.rename("hotpotato", "warmpotato");
        fixture.power_cycle();
        fixture.fails(rename("warmpotato", "warmpotato/fried/itself"), Fail::Loop);
        fixture.fails(rmdir("warmpotato"), Fail::NotEmpty);
        fixture.rmdir("warmpotato/baked");
        fixture.rmdir("warmpotato/fried");
        fixture.rmdir("warmpotato");
        assert_eq!(fixture.names(""), ["burito"]);
    });
}

#[test]
fn directory_is_emptied_and_removed() {
    for n in [10, 27, 46] {
        on_each_geometry(|fixture| {
            fixture.mkdir("prickly-pear");
            let names = numbered("prickly-pear/cactus", n);
            names.iter().for_each(|name| fixture.mkdir(name));
            fixture.power_cycle();
            fixture.fails(rmdir("prickly-pear"), Fail::NotEmpty);
            names.iter().for_each(|name| fixture.rmdir(name));
            fixture.rmdir("prickly-pear");
            fixture.fails(rmdir("prickly-pear"), Fail::NotFound);
            fixture.power_cycle();
            assert_eq!(fixture.free(), fixture.config.block_count - 2);
        });
    }
}

/// Each entry is removed when the listing has reached it. All other entries are listed.
#[test]
fn entries_vanish_during_a_listing() {
    on_each_geometry(|fixture| {
        fixture.mkdir("prickly-pear");
        let n = 12;
        for name in numbered("prickly-pear/cactus", n) {
            fixture.mkdir(&name);
        }
        fixture.power_cycle();
        let dir = find_dir(&mut fixture.ours.fs, b"prickly-pear").expect("there");
        let listed = fixture.ours.fs.list(dir).expect("list");
        assert_eq!(listed.len() as u32, n);
        for (i, name) in listed.iter().enumerate() {
            assert!(matches!(fixture.ours.fs.lookup(dir, name), Ok(Node::Dir(_))));
            if i % 3 == 1 {
                fixture.rmdir(&format!("prickly-pear/cactus{i:03}"));
                assert!(matches!(fixture.ours.fs.lookup(dir, name), Err(Error::NotFound)));
            }
        }
        assert_eq!(fixture.names("prickly-pear").len() as u32, n - 4);
    });
}

#[test]
fn wrong_kinds_are_refused() {
    on_each_geometry(|fixture| {
        fixture.mkdir("potato");
        fixture.create("burito");
        fixture.power_cycle();
        for name in ["potato", "burito"] {
            fixture.fails(mkdir(name), Fail::Exists);
            fixture.fails(create(name), Fail::Exists);
        }
        fixture.fails(write("tomato", 0, 1, 1), Fail::NotFound);
        fixture.fails(write("potato", 0, 1, 1), Fail::IsDirectory);
        fixture.fails(truncate("potato", 0), Fail::IsDirectory);
        fixture.fails(rmdir("burito"), Fail::NotDirectory);
        fixture.fails(unlink("potato"), Fail::IsDirectory);
        fixture.fails(create("burito/below"), Fail::NotDirectory);
        fixture.fails(mkdir("tomato/below"), Fail::NotFound);
        fixture.create("tacoto");
        fixture.fails(rename("tacoto", "potato"), Fail::IsDirectory);
        fixture.fails(rename("potato", "tacoto"), Fail::NotDirectory);
        fixture.fails(rename("tomato", "tacoto"), Fail::NotFound);
        assert!(matches!(fixture.ours.fs.open_file(ROOT, b"potato"), Err(Error::IsDirectory)));
        fixture.power_cycle();
        assert_eq!(fixture.names(""), ["burito", "potato", "tacoto"]);
    });
}
