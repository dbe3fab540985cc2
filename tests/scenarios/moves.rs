//! Renames from pair to pair: complete ones, ones that are interrupted between their two commits,
//! and ones among open files.

use littlefs::bd::RamDevice;
use littlefs::check::{Severity, check};
use littlefs::fs::FileId;

use testkit::calls::{Call, Fail, Subject as _};
use testkit::clfs::Config;
use testkit::surgery::Surgeon;

use super::lab::*;

/// Four directories. The first one holds what is moved: a file, or a directory with content.
fn four_dirs(config: &Config, is_dir: bool) -> Lab {
    let mut lab = Lab::new(config.clone());
    for dir in ["a", "b", "c", "d"] {
        lab.mkdir(dir);
        lab.fill(&format!("{dir}/aaa"), 10, 1);
        lab.fill(&format!("{dir}/zzz"), 10, 2);
    }
    if is_dir {
        lab.mkdir("a/hello");
        lab.mkdir("a/hello/hola");
        lab.fill("a/hello/bonjour", 900, 3);
    } else {
        lab.fill("a/hello", 900, 3);
    }
    lab.power_cycle();
    lab
}

#[test]
fn entry_moves_across_directories() {
    for is_dir in [false, true] {
        for (block_size, block_count, prog_size) in GEOMETRIES {
            let config = Config::new(block_size, block_count, prog_size);
            let mut lab = four_dirs(&config, is_dir);
            lab.rename("a/hello", "c/hello");
            lab.fails(rename("a/hello", "b/hello"), Fail::NotFound);
            lab.power_cycle();
            lab.rename("c/hello", "c/hello");
            lab.rename("c/hello", "c/other");
            lab.rename("c/other", "hello");
            lab.power_cycle();
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
                let mut lab = four_dirs(&config, is_dir);
                let before = (lab.ours.image(), lab.model.tree().clone());
                lab.rename("a/hello", "c/hello");
                lab.flush();
                let moved = lab.model.tree().clone();

                // The commit that deletes the source is lost, and maybe the one before it.
                let mut surgeon = Surgeon::new(&config, lab.ours.image());
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
                    let mut lab = Lab::over(config.clone(), surgeon.image.clone(), tree.clone());
                    lab.ok(first);
                    lab.power_cycle();
                    lab.fill("a/hello2", 30, 1);
                    lab.power_cycle();
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
            let mut lab = four_dirs(&config, is_dir);
            for dir in ["b", "c"] {
                lab.unlink(&format!("{dir}/aaa"));
                lab.unlink(&format!("{dir}/zzz"));
            }
            for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
                lab.rename(&format!("{from}/hello"), &format!("{to}/hello"));
                if flush_between {
                    lab.power_cycle();
                }
            }
            lab.rmdir("b");
            lab.rmdir("c");
            lab.power_cycle();
            lab.fails(rmdir("a"), Fail::NotEmpty);
        }
    }
}

/// Files are open for writing while a rename creates and deletes entries next to them.
struct OpenFiles(Vec<(&'static str, FileId)>);

impl OpenFiles {
    fn open(lab: &mut Lab, names: &[&'static str], seed: u8) -> Self {
        let open = |name: &&'static str| {
            lab.truncate(name, 0);
            let file = lab.open(name);
            lab.write(name, 0, 7, seed);
            (*name, file)
        };
        Self(names.iter().map(open).collect())
    }

    fn close(self, lab: &mut Lab) {
        for (name, file) in self.0 {
            assert_eq!(lab.ours.read(file).expect("read"), lab.expected(name), "{name}");
            lab.write(name, 7, 20, 8);
            lab.ours.fs.close_file(file);
        }
    }
}

#[test]
fn rename_between_open_neighbours() {
    let neighbours = ["0.before", "2.in_between", "4.after"];
    for over in [false, true] {
        for flush_before in [false, true] {
            on_each_geometry(|lab| {
                lab.create("1.move_me");
                for name in neighbours {
                    lab.fill(name, 7, 1);
                }
                for (seed, from, to) in
                    [(4, "1.move_me", "3.move_me"), (7, "3.move_me", "1.move_me")]
                {
                    if over {
                        lab.fill(to, 9, 2);
                    }
                    let open = OpenFiles::open(lab, &neighbours, seed);
                    if flush_before {
                        lab.flush();
                    }
                    lab.rename(from, to);
                    lab.flush();
                    open.close(lab);
                    lab.power_cycle();
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
            None => Lab::new(config),
            Some(cycles) => Lab::with_cycles(config, cycles),
        };
        for (block_size, block_count, prog_size) in GEOMETRIES {
            let mut lab = setup(Config::new(block_size, block_count, prog_size));
            lab.mkdir("dir.1");
            lab.mkdir("dir.2");
            for name in neighbours {
                lab.fill(name, 7, 1);
            }
            for (seed, from, to) in [(5, "dir.1", "dir.2"), (9, "dir.2", "dir.1")] {
                let (from, to) = (format!("{from}/1.move_me"), format!("{to}/1.move_me"));
                lab.fill(&from, 10, 1);
                lab.fill(&to, 11, 2);
                lab.power_cycle();
                let open = OpenFiles::open(&mut lab, &neighbours, seed);
                lab.rename(&from, &to);
                lab.flush();
                open.close(&mut lab);
                lab.power_cycle();
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
                let mut lab = Lab::with_cycles(Config::new(512, 256, 16), cycles);
                for dir in ["parent", "parent/child", "parent/sibling"] {
                    lab.mkdir(dir);
                    lab.fill(&format!("{dir}/0.before"), 7, 1);
                    lab.fill(&format!("{dir}/2.after"), 7, 2);
                }
                lab.fill(from, 8, 3);
                // Pairs come to their limit at different moments.
                for i in 0..warm_up {
                    for dir in ["parent", "parent/child"] {
                        let path = format!("{dir}/0.before").into_bytes();
                        lab.ok(Call::SetAttr { path, ty: b'A', len: 60, seed: i });
                    }
                    lab.flush();
                }
                let names = ["parent/0.before", "parent/child/2.after", "parent/sibling/0.before"];
                let open = OpenFiles::open(&mut lab, &names, 4);
                lab.rename(from, to);
                lab.flush();
                open.close(&mut lab);
                lab.power_cycle();
                lab.rename(to, from);
                lab.power_cycle();
            }
        }
    }
}

/// Renames that are not allowed change nothing.
#[test]
fn refused_renames() {
    on_each_geometry(|lab| {
        lab.mkdir("a");
        lab.mkdir("a/b");
        lab.create("a/f");
        lab.create("g");
        let no_replace = |from: &str, to: &str| Call::Rename {
            from: from.into(),
            to: to.into(),
            no_replace: true,
        };
        lab.fails(no_replace("g", "a/f"), Fail::Exists);
        lab.fails(rename("a", "a/b/c"), Fail::Loop);
        lab.fails(rename("g", "a"), Fail::IsDirectory);
        lab.fails(rename("a", "g"), Fail::NotDirectory);
        assert_eq!(lab.ours.apply(&rename("a/b", "a/f")), Err(Fail::NotDirectory));
    });
}
