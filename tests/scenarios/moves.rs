//! Renames from pair to pair: complete ones, ones that are interrupted between their two commits,
//! and ones among open files.

use littlefs::bd::RamDevice;
use littlefs::check::{Severity, check};
use littlefs::fs::FileId;

use testkit::calls::{Call, Fail, Subject as _};
use testkit::clfs::Config;
use testkit::surgery::Surgeon;

use super::fixture::*;

/// Four directories. The first one holds what is moved: a file, or a directory with content.
fn four_dirs(config: &Config, is_dir: bool) -> Fixture {
    let mut fixture = Fixture::new(config.clone());
    for dir in ["a", "b", "c", "d"] {
        fixture.mkdir(dir);
        fixture.fill(&format!("{dir}/aaa"), 10, 1);
        fixture.fill(&format!("{dir}/zzz"), 10, 2);
    }
    if is_dir {
        fixture.mkdir("a/hello");
        fixture.mkdir("a/hello/hola");
        fixture.fill("a/hello/bonjour", 900, 3);
    } else {
        fixture.fill("a/hello", 900, 3);
    }
    fixture.power_cycle();
    fixture
}

#[test]
fn entry_moves_across_directories() {
    for is_dir in [false, true] {
        for (block_size, block_count, prog_size) in GEOMETRIES {
            let config = Config::new(block_size, block_count, prog_size);
            let mut fixture = four_dirs(&config, is_dir);
            fixture.rename("a/hello", "c/hello");
            fixture.fails(rename("a/hello", "b/hello"), Fail::NotFound);
            fixture.power_cycle();
            fixture.rename("c/hello", "c/hello");
            fixture.rename("c/hello", "c/other");
            fixture.rename("c/other", "hello");
            fixture.power_cycle();
        }
    }
}

/// The state before or after the first commit of a move, and what follows.
#[test]
fn interrupted_move_is_honoured_and_finished() {
    for is_dir in [false, true] {
        for (block_size, block_count, prog_size) in GEOMETRIES {
            for target_lost in [false, true] {
                let config = Config::new(block_size, block_count, prog_size);
                let mut fixture = four_dirs(&config, is_dir);
                let before = (fixture.ours.image(), fixture.model.tree().clone());
                fixture.rename("a/hello", "c/hello");
                fixture.flush();
                let moved = fixture.model.tree().clone();

                // The commit that deletes the source is lost, and maybe the one before it.
                let mut surgeon = Surgeon::new(&config, fixture.ours.image());
                let original = Surgeon::new(&config, before.0);
                surgeon.restore(surgeon.dir("a"), &original);
                if target_lost {
                    surgeon.restore(surgeon.dir("c"), &original);
                }
                let tree = if target_lost { before.1 } else { moved };
                let (place, pending) = if target_lost { ("a", 0) } else { ("c", 1) };

                let dev = RamDevice::from_image(geometry(&config), surgeon.image.clone());
                let report = check(std::sync::Arc::new(dev)).expect("check");
                let notes = report.findings.iter().filter(|f| f.severity == Severity::Note);
                let moves = notes.filter(|f| f.code == "move-pending").count();
                assert_eq!(moves, pending, "{:#?}", report.findings);
                assert!(report.is_clean(), "{:#?}", report.findings);

                // Any first write finishes it: one elsewhere, to the source, or the next hop.
                let firsts = [
                    mkdir("new"),
                    create("a/new"),
                    create("c/new"),
                    rename(&format!("{place}/hello"), "d/hello"),
                    rename(&format!("{place}/hello"), "b/hello"),
                    rename("a/zzz", "c/zzz"),
                ];
                for first in firsts {
                    let mut fixture =
                        Fixture::over(config.clone(), surgeon.image.clone(), tree.clone());
                    fixture.ok(first);
                    fixture.power_cycle();
                    fixture.fill("a/hello2", 30, 1);
                    fixture.power_cycle();
                }
            }
        }
    }
}

/// The pairs in between are removed while an entry is being moved.
#[test]
fn directories_of_former_stops_are_removed() {
    for is_dir in [false, true] {
        for flush_between in [false, true] {
            let config = Config::new(512, 128, 16);
            let mut fixture = four_dirs(&config, is_dir);
            for dir in ["b", "c"] {
                fixture.unlink(&format!("{dir}/aaa"));
                fixture.unlink(&format!("{dir}/zzz"));
            }
            for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
                fixture.rename(&format!("{from}/hello"), &format!("{to}/hello"));
                if flush_between {
                    fixture.power_cycle();
                }
            }
            fixture.rmdir("b");
            fixture.rmdir("c");
            fixture.power_cycle();
            fixture.fails(rmdir("a"), Fail::NotEmpty);
        }
    }
}

/// Files are open for writing while a rename creates and deletes entries next to them.
struct OpenFiles(Vec<(&'static str, FileId)>);

impl OpenFiles {
    fn open(fixture: &mut Fixture, names: &[&'static str], seed: u8) -> Self {
        let open = |name: &&'static str| {
            fixture.truncate(name, 0);
            let file = fixture.open(name);
            fixture.write(name, 0, 7, seed);
            (*name, file)
        };
        Self(names.iter().map(open).collect())
    }

    fn close(self, fixture: &mut Fixture) {
        for (name, file) in self.0 {
            assert_eq!(fixture.ours.read(file).expect("read"), fixture.expected(name), "{name}");
            fixture.write(name, 7, 20, 8);
            fixture.ours.fs.close_file(file);
        }
    }
}

#[test]
fn rename_between_open_neighbours() {
    let neighbours = ["0.before", "2.in_between", "4.after"];
    for over in [false, true] {
        for flush_before in [false, true] {
            on_each_geometry(|fixture| {
                fixture.create("1.move_me");
                for name in neighbours {
                    fixture.fill(name, 7, 1);
                }
                for (seed, from, to) in
                    [(4, "1.move_me", "3.move_me"), (7, "3.move_me", "1.move_me")]
                {
                    if over {
                        fixture.fill(to, 9, 2);
                    }
                    let open = OpenFiles::open(fixture, &neighbours, seed);
                    if flush_before {
                        fixture.flush();
                    }
                    fixture.rename(from, to);
                    fixture.flush();
                    open.close(fixture);
                    fixture.power_cycle();
                }
            });
        }
    }
}

#[test]
fn rename_across_directories_between_open_neighbours() {
    let neighbours = ["dir.1/0.before", "dir.1/2.after", "dir.2/0.before", "dir.2/2.after"];
    for cycles in [None, Some(1)] {
        let setup = |config: Config| match cycles {
            None => Fixture::new(config),
            Some(cycles) => Fixture::with_cycles(config, cycles),
        };
        for (block_size, block_count, prog_size) in GEOMETRIES {
            let mut fixture = setup(Config::new(block_size, block_count, prog_size));
            fixture.mkdir("dir.1");
            fixture.mkdir("dir.2");
            for name in neighbours {
                fixture.fill(name, 7, 1);
            }
            for (seed, from, to) in [(5, "dir.1", "dir.2"), (9, "dir.2", "dir.1")] {
                let (from, to) = (format!("{from}/1.move_me"), format!("{to}/1.move_me"));
                fixture.fill(&from, 10, 1);
                fixture.fill(&to, 11, 2);
                fixture.power_cycle();
                let open = OpenFiles::open(&mut fixture, &neighbours, seed);
                fixture.rename(&from, &to);
                fixture.flush();
                open.close(&mut fixture);
                fixture.power_cycle();
            }
        }
    }
}

/// The pairs of a move, and the pair before them in the thread, move to other blocks.
#[test]
fn move_while_its_pairs_relocate() {
    for (from, to) in [
        ("parent/1.move_me", "parent/child/1.move_me"),
        ("parent/child/1.move_me", "parent/1.move_me"),
        ("parent/sibling/1.move_me", "parent/child/1.move_me"),
        ("parent/child/1.move_me", "parent/sibling/1.move_me"),
    ] {
        for cycles in [1, 2, 3] {
            for warm_up in 0..4 {
                let mut fixture = Fixture::with_cycles(Config::new(512, 256, 16), cycles);
                for dir in ["parent", "parent/child", "parent/sibling"] {
                    fixture.mkdir(dir);
                    fixture.fill(&format!("{dir}/0.before"), 7, 1);
                    fixture.fill(&format!("{dir}/2.after"), 7, 2);
                }
                fixture.fill(from, 8, 3);
                // Pairs come to their limit at different moments.
                for i in 0..warm_up {
                    for dir in ["parent", "parent/child"] {
                        let path = format!("{dir}/0.before").into_bytes();
                        fixture.ok(Call::SetAttr { path, ty: b'A', len: 60, seed: i });
                    }
                    fixture.flush();
                }
                let names = ["parent/0.before", "parent/child/2.after", "parent/sibling/0.before"];
                let open = OpenFiles::open(&mut fixture, &names, 4);
                fixture.rename(from, to);
                fixture.flush();
                open.close(&mut fixture);
                fixture.power_cycle();
                fixture.rename(to, from);
                fixture.power_cycle();
            }
        }
    }
}

/// Renames that are not allowed change nothing.
#[test]
fn refused_renames() {
    on_each_geometry(|fixture| {
        fixture.mkdir("a");
        fixture.mkdir("a/b");
        fixture.create("a/f");
        fixture.create("g");
        let no_replace = |from: &str, to: &str| Call::Rename {
            from: from.into(),
            to: to.into(),
            no_replace: true,
        };
        fixture.fails(no_replace("g", "a/f"), Fail::Exists);
        fixture.fails(rename("a", "a/b/c"), Fail::Loop);
        fixture.fails(rename("g", "a"), Fail::IsDirectory);
        fixture.fails(rename("a", "g"), Fail::NotDirectory);
        assert_eq!(fixture.ours.apply(&rename("a/b", "a/f")), Err(Fail::NotDirectory));
    });
}
