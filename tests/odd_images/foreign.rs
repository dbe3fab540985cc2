//! Images of other writers: directories that are not in the thread or not sorted, blocks that are
//! erased to zero, and superblock chains that have grown.

use std::collections::BTreeSet;

use littlefs::check::Severity;
use littlefs::disk::Pair;

use crate::fixture::*;
use testkit::calls::{Call, Fail, Model, Subject};
use testkit::clfs::Config;
use testkit::surgery::Surgeon;

/// Directories that are not in the thread, one at a time and all together.
const UNTHREADED: [&[&str]; 5] = [&["a/sub"], &["a"], &["many"], &["z"], &["b", "many", "a/sub"]];

fn unthreaded(config: &Config, dirs: &[&str]) -> Surgeon {
    let mut surgeon = Surgeon::new(config, make(config).unmount());
    dirs.iter().for_each(|dir| surgeon.unthread(dir));
    surgeon
}

/// They are read like directories in the thread, and can be changed without damage.
#[test]
fn unthreaded_directories_are_read_and_changed() {
    for config in configs() {
        for dirs in UNTHREADED {
            let surgeon = unthreaded(&config, dirs);
            let name = format!("{config:?}, {dirs:?} unthreaded");
            let tree = c_tree(&config, &surgeon.image);
            assert!(codes(&config, &surgeon.image, Severity::Error).contains(&"unthreaded"));
            check_reading(&name, &config, &surgeon.image, &tree);

            let mut ours = open(&config, &surgeon.image, false);
            assert!(!ours.fs.warnings().is_empty(), "{name}");
            let mut model = Model::from_tree(tree, 255);
            let mut calls = changes();
            for dir in dirs {
                let path = |name: &str| format!("{dir}/{name}").into_bytes();
                calls.extend([
                    Call::Create(path("~inside")),
                    Call::Write { path: path("~inside"), off: 0, len: 1300, seed: 8 },
                    Call::Mkdir(path("~below")),
                    Call::Create(path("~below/file")),
                    Call::Rename {
                        from: path("~inside"),
                        to: b"outside".into(),
                        no_replace: false,
                    },
                    Call::Rename { from: path("~below"), to: path("below"), no_replace: true },
                ]);
            }
            for call in &calls {
                assert_eq!(ours.apply(call), model.apply(call), "{name}: {call:?}");
                ours.fs.flush().expect("flush");
            }
            let image = ours.image();
            same(&name, model.tree(), "ours", &ours.tree().expect("we read"));
            let mut again = open(&config, &image, false);
            same(&name, model.tree(), "ours again", &again.tree().expect("we read"));
            // C reads it, too; it must not write before the thread is whole.
            let mut c = testkit::clfs::CLfs::mount(image.clone(), &config).expect("C mounts");
            same(&name, model.tree(), "C", &c.tree(&ATTR_TYPES).expect("C reads"));
            let errors = codes(&config, &image, Severity::Error);
            assert!(errors.iter().all(|&code| code == "unthreaded"), "{name}: {errors:?}");
        }
    }
}

/// However full the image becomes, their blocks are not used for anything else.
#[test]
fn blocks_of_unthreaded_directories_are_kept() {
    for config in configs() {
        for dirs in UNTHREADED {
            let surgeon = unthreaded(&config, dirs);
            let name = format!("{config:?}, {dirs:?} unthreaded");
            let tree = c_tree(&config, &surgeon.image);
            let mut ours = open(&config, &surgeon.image, false);
            let mut model = Model::from_tree(tree, 255);
            let mut full = 0;
            for i in 0..2000u32 {
                let path = format!("fill-{i}").into_bytes();
                let calls =
                    [Call::Create(path.clone()), Call::Write { path, off: 0, len: 700, seed: 3 }];
                for call in &calls {
                    match ours.apply(call) {
                        Ok(()) => model.apply(call).expect("as we do"),
                        Err(Fail::NoSpace) => full += 1,
                        Err(Fail::NotFound) => {}
                        Err(e) => panic!("{name}: {call:?}: {e:?}"),
                    }
                }
                if full > 4 {
                    break;
                }
            }
            assert!(full > 4, "{name}: never full");
            ours.fs.flush().expect("flush");
            let mut again = open(&config, &ours.image(), false);
            same(&name, model.tree(), "ours", &again.tree().expect("we read"));
        }
    }
}

/// A directory that is not in the thread can be removed like any other, and then its blocks are
/// free.
#[test]
fn unthreaded_directory_is_removed() {
    for config in configs() {
        for dir in ["z", "a/sub"] {
            let surgeon = unthreaded(&config, &[dir]);
            let mut ours = open(&config, &surgeon.image, false);
            let mut model = Model::from_tree(c_tree(&config, &surgeon.image), 255);
            let file = if dir == "z" { "z/file" } else { "a/sub/deep" };
            for call in [Call::Unlink(file.into()), Call::Rmdir(dir.into())] {
                assert_eq!(ours.apply(&call), Ok(()));
                assert_eq!(model.apply(&call), Ok(()));
            }
            ours.fs.flush().expect("flush");
            let name = format!("{config:?}, {dir} removed");
            assert_eq!(codes(&config, &ours.image(), Severity::Error), [""; 0], "{name}");
            check_reading(&name, &config, &ours.image(), model.tree());
            check_reading(&name, &config, &ours.image(), &c_tree(&config, &ours.image()));
        }
    }
}

/// The entries of each pair of these directories, in reverse order or shuffled.
fn unsorted(config: &Config, dirs: &[&str], reverse: bool) -> Surgeon {
    let mut surgeon = Surgeon::new(config, make(config).unmount());
    for dir in dirs {
        for pair in surgeon.pairs_of(surgeon.dir(dir)) {
            let (pair, mut log) = surgeon.fetch(pair);
            // The superblock entry stays where it is.
            let first = usize::from(dir.is_empty());
            if reverse {
                log.entries[first..].reverse();
            } else {
                let half = (log.entries.len() - first) / 2;
                log.entries[first..].rotate_left(half);
            }
            surgeon.rewrite(pair, &log);
        }
    }
    surgeon
}

#[test]
fn unsorted_directories_are_read_and_changed() {
    for config in configs() {
        for reverse in [false, true] {
            for dirs in [&["a"][..], &["many"], &[""], &["", "a", "b", "many"]] {
                let tree = c_tree(&config, &make(&config).unmount());
                let surgeon = unsorted(&config, dirs, reverse);
                let name = format!("{config:?}, {dirs:?} unsorted");
                assert_eq!(codes(&config, &surgeon.image, Severity::Error), ["name-order"]);
                check_reading(&name, &config, &surgeon.image, &tree);

                let mut ours = open(&config, &surgeon.image, false);
                let mut model = Model::from_tree(tree, 255);
                let names: Vec<_> =
                    model.tree().keys().filter(|p| !p.is_empty()).cloned().collect();
                // Every name is found where it stands, so none comes twice.
                for path in &names {
                    assert_eq!(
                        ours.apply(&Call::Create(path.clone())),
                        Err(Fail::Exists),
                        "{name}"
                    );
                }
                for call in &changes() {
                    assert_eq!(ours.apply(call), model.apply(call), "{name}: {call:?}");
                    ours.fs.flush().expect("flush");
                }
                let image = ours.image();
                check_reading(&name, &config, &image, model.tree());
                let errors = codes(&config, &image, Severity::Error);
                assert!(errors.iter().all(|&code| code == "name-order"), "{name}: {errors:?}");
                // C lists what it may not find.
                let mut c = testkit::clfs::CLfs::mount(image, &config).expect("C mounts");
                for dir in ["", "a", "b", "many"] {
                    let listed = c.list(dir.as_bytes()).expect("C lists");
                    let listed: BTreeSet<_> = listed.into_iter().map(|(name, _)| name).collect();
                    let parent = |p: &Vec<u8>| {
                        let at = p.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
                        (p[..at.saturating_sub(1)].to_vec(), p[at..].to_vec())
                    };
                    let want: BTreeSet<_> = model
                        .tree()
                        .keys()
                        .filter(|p| !p.is_empty())
                        .map(parent)
                        .filter(|(parent, _)| parent == dir.as_bytes())
                        .map(|(_, name)| name)
                        .collect();
                    assert_eq!(listed, want, "{name}: C lists {dir}");
                }
            }
        }
    }
}

/// mklittlefs erases with zeros, so the bytes after the commits of its images are not 0xFF.
#[test]
fn blocks_are_erased_to_zero() {
    for config in configs() {
        let config = Config { erased: 0, strict_erase: false, ..config };
        let image = make(&config).unmount();
        let tree = c_tree(&config, &image);
        let name = format!("{config:?}");
        assert_eq!(codes(&config, &image, Severity::Error), [""; 0]);
        check_reading(&name, &config, &image, &tree);
        check_writing(&name, &config, &image, &tree, &["debris"]);
    }
}

/// The superblock chain of an image whose root has worn out, made by C.
#[test]
fn superblock_has_expanded() {
    for config in configs() {
        let config = Config { block_cycles: 1, ..config };
        let mut c = make(&config);
        for i in 0..60u8 {
            c.write_file(b"top", &[i; 30]).expect("write");
            c.setattr(b"", 0x74, &[i; 8]).expect("setattr");
        }
        let image = c.unmount();
        let surgeon = Surgeon::new(&config, image.clone());
        let name = format!("{config:?}");
        assert!(!surgeon.root().same(Pair::SUPERBLOCK), "{name}: not expanded");
        let tree = c_tree(&config, &image);
        assert_eq!(codes(&config, &image, Severity::Error), [""; 0], "{name}");
        check_reading(&name, &config, &image, &tree);
        check_writing(&name, &config, &image, &tree, &["superblock-outdated", "pair-half-dead"]);

        // Either half of each pair of the chain may die.
        for pair in [Pair::SUPERBLOCK, surgeon.root()] {
            let mut surgeon = Surgeon::new(&config, image.clone());
            let (pair, log) = surgeon.fetch(pair);
            if config.prog_size < config.block_size {
                surgeon.rewrite(pair, &log);
                surgeon.block(pair.0[0]).fill(0x5a);
                check_reading(&name, &config, &surgeon.image, &tree);
                check_writing(
                    &name,
                    &config,
                    &surgeon.image,
                    &tree,
                    &["superblock-outdated", "pair-half-dead", "debris"],
                );
            }
        }
    }
}
