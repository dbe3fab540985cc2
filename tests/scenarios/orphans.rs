//! Pairs that are in the thread but do not belong to a directory, and the sync bit, which says that
//! there are some.

use littlefs::disk::{GState, Pair, Tail};
use littlefs::fs::Usage;

use testkit::clfs::{CLfs, Config};
use testkit::surgery::Surgeon;
use testkit::tree::Tree;

use super::fixture::*;
use super::powerloss::Dice;

fn tree_of(config: &Config, image: &[u8]) -> Tree {
    let mut c = CLfs::mount(image.to_vec(), config).expect("C mounts");
    c.mkconsistent().expect("mkconsistent");
    c.tree(&ATTR_TYPES).expect("C reads")
}

/// Open an image that is not in order, write to it, and check that it is in order.
fn first_write_mends(config: &Config, image: Vec<u8>, used_after: u32) {
    let tree = tree_of(config, &image);
    let mut fixture = Fixture::over(config.clone(), image.clone(), tree);
    assert!(!fixture.ours.fs.is_dirty(), "opening changed something");
    assert!(fixture.ours.image() == image, "opening wrote something");
    fixture.mkdir("parent/otherchild");
    fixture.power_cycle();
    let Usage { blocks_used, .. } = fixture.ours.fs.usage().expect("usage");
    assert_eq!(blocks_used, used_after);
}

/// A directory was removed from the tree, but not from the thread.
#[test]
fn removed_directory_is_still_threaded() {
    for prog_size in [16, 256, 512] {
        let config = Config::new(512, 64, prog_size);
        let mut c = CLfs::fresh(&config).expect("format");
        for dir in ["parent", "parent/orphan", "parent/child"] {
            c.mkdir(dir.as_bytes()).expect("mkdir");
        }
        let before = Surgeon::new(&config, c.image());
        let orphan = before.dir("parent/orphan");
        c.remove(b"parent/orphan").expect("remove");
        let mut after = Surgeon::new(&config, c.unmount());
        // Whoever leads to the orphan commits last.
        let leads = |pair: &Pair| before.fetch(*pair).1.tail.is_some_and(|t| t.pair.same(orphan));
        let predecessor = before.thread().into_iter().find(leads).expect("threaded");
        after.restore(predecessor, &before);
        assert!(after.gstate().needs_sync());
        assert!(after.thread().iter().any(|pair| pair.same(orphan)));
        first_write_mends(&config, after.image, 8);
    }
}

/// The sync bit is set, although there is nothing to repair.
#[test]
fn sync_bit_without_orphans() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let config = Config::new(block_size, block_count, prog_size);
        let mut fixture = Fixture::new(config.clone());
        fixture.mkdir("parent");
        fixture.flush();
        let mut surgeon = Surgeon::new(&config, fixture.ours.image());
        if surgeon.fetch(Pair::SUPERBLOCK).1.off == block_size {
            let log = surgeon.fetch(Pair::SUPERBLOCK).1;
            let gdelta = GState::default().with_sync(true);
            surgeon.rewrite(Pair::SUPERBLOCK, &littlefs::disk::log::Log { gdelta, ..log });
        } else {
            surgeon.commit(Pair::SUPERBLOCK, |w| w.gdelta(GState::default().with_sync(true)));
        }
        assert!(surgeon.gstate().needs_sync());
        first_write_mends(&config, surgeon.image, 6);
    }
}

/// Empty pairs in the thread that no directory names, at its start and at its end.
#[test]
fn orphans_leave_the_thread() {
    for orphans in 1..4u32 {
        for at_end in [false, true] {
            let config = Config::new(512, 64, 16);
            let mut fixture = Fixture::new(config.clone());
            fixture.mkdir("parent");
            fixture.flush();
            let mut surgeon = Surgeon::new(&config, fixture.ours.image());
            let thread = surgeon.thread();
            let at = if at_end { thread[thread.len() - 1] } else { thread[0] };
            let mut tail = surgeon.fetch(at).1.tail.unwrap_or(Tail::END);
            for i in 0..orphans {
                let pair = Pair([40 + 2 * i, 41 + 2 * i]);
                surgeon.write_new(pair, tail);
                tail = Tail { pair, hard: false };
            }
            surgeon.commit(at, |w| {
                w.tail(tail);
                w.gdelta(GState::default().with_sync(true));
            });
            assert_eq!(surgeon.thread().len(), thread.len() + orphans as usize);
            first_write_mends(&config, surgeon.image, 6);
        }
    }
}

/// Directories are created and removed at random, and their remains, too.
#[test]
fn trees_grow_and_shrink_at_random() {
    for cycles in [None, Some(1), Some(10)] {
        for (block_size, block_count, prog_size) in [(512, 256, 16), (4096, 128, 256)] {
            let config = Config::new(block_size, block_count, prog_size);
            let mut fixture = match cycles {
                None => Fixture::new(config),
                Some(cycles) => Fixture::with_cycles(config, cycles),
            };
            let mut dice = Dice(7);
            for step in 0..400 {
                let path = dice.path();
                let (target, exists) = (&path[2], |fixture: &Fixture, p: &String| {
                    fixture.model.tree().contains_key(p.as_bytes())
                });
                if step % 5 == 4 {
                    let to = dice.path();
                    let free = !exists(&fixture, &to[2]) && exists(&fixture, &to[1]);
                    if exists(&fixture, target) && free {
                        fixture.rename(target, &to[2]);
                    }
                } else if exists(&fixture, target) {
                    for dir in path.iter().rev() {
                        if children(fixture.model.tree(), dir).is_empty() {
                            fixture.rmdir(dir);
                        }
                    }
                } else {
                    for dir in &path {
                        if !exists(&fixture, dir) {
                            fixture.mkdir(dir);
                        }
                    }
                }
                fixture.flush();
                if step % 50 == 49 {
                    fixture.power_cycle();
                }
            }
        }
    }
}
