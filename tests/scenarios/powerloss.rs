//! Scenarios with power losses: what littlefs calls reentrant tests, and torn metadata.

use littlefs::disk::Pair;
use littlefs::error::Result;
use littlefs::fs::Node;

use testkit::calls::pattern;
use testkit::clfs::{CLfs, Config};
use testkit::surgery::Surgeon;

use super::fixture::{Fixture, GEOMETRIES, data_bytes};
use super::power::{World, reentrant};

/// Small images, so that pairs are compacted and blocks are used again during the scenario.
fn configs() -> [Config; 3] {
    [Config::new(512, 128, 16), Config::new(512, 128, 512), Config::new(4096, 128, 256)]
}

/// Each name has its old or its new state.
fn many_names(make: fn(&mut World, &str) -> Result<()>) {
    for config in configs() {
        reentrant(&config, None, |w| {
            let n = 6;
            w.mkdir("hi")?;
            for i in 0..n {
                let (hi, hello) = (format!("hi/hi{i}"), format!("hi/hello{i}"));
                if !w.has(&hi) && !w.has(&hello) {
                    make(w, &hi)?;
                }
                assert!(w.has(&hi) != w.has(&hello), "{hi} and {hello}: both or neither");
                if w.has(&hi) {
                    w.rename(&hi, &hello)?;
                }
            }
            assert_eq!(w.list("hi").len(), n);
            for i in 0..n {
                w.remove(&format!("hi/hello{i}"))?;
            }
            w.remove("hi")
        });
    }
}

#[test]
fn directories_are_made_renamed_and_removed() {
    many_names(World::mkdir);
}

#[test]
fn files_are_made_renamed_and_removed() {
    many_names(|w, path| w.put(path, path.as_bytes()));
}

/// A file is rewritten completely, and synced at the end.
#[test]
fn file_is_rewritten() {
    for config in configs() {
        for size in [32, 3000] {
            reentrant(&config, None, |w| {
                let all = pattern(1, size);
                let found = w.get("avacado").unwrap_or_default();
                assert!(found.is_empty() || found == all, "{} bytes", found.len());
                w.edit("avacado", |fs, file| {
                    fs.truncate(file, 0)?;
                    for (i, chunk) in all.chunks(65).enumerate() {
                        fs.write(file, 65 * i as u64, chunk)?;
                    }
                    Ok(())
                })?;
                w.sync()
            });
        }
    }
}

/// A file grows piece by piece, and each piece is synced. It always has whole pieces.
#[test]
fn file_grows_by_synced_pieces() {
    for config in configs() {
        for (chunk, count) in [(7, 12), (65, 12), (1023, 7)] {
            reentrant(&config, None, |w| {
                let all = pattern(3, chunk * count);
                loop {
                    let found = w.get("avacado").unwrap_or_default();
                    assert!(found.len().is_multiple_of(chunk as usize));
                    assert_eq!(found, all[..found.len()]);
                    let Some(next) = all[found.len()..].chunks(chunk as usize).next() else {
                        return Ok(());
                    };
                    w.edit("avacado", |fs, file| fs.write(file, found.len() as u64, next))?;
                    w.sync()?;
                }
            });
        }
    }
}

/// Files that were written before the power loss are all there.
#[test]
fn synced_files_stay() {
    for config in configs() {
        reentrant(&config, None, |w| {
            for i in 0..12u8 {
                let name = format!("file_{i}");
                // Synced in this order, so they are there in this order.
                if i > 0 {
                    assert_eq!(w.get(&format!("file_{}", i - 1)), Some(pattern(i - 1, 40)));
                }
                w.put(&name, &pattern(i, 40))?;
            }
            Ok(())
        });
    }
}

/// Open files grow by turns.
#[test]
fn interleaved_files_grow() {
    for config in configs() {
        reentrant(&config, None, |w| {
            let names = ["a", "b", "c", "d"];
            for step in 1..=5u32 {
                for name in names {
                    let have = w.get(name).unwrap_or_default();
                    assert_eq!(have, pattern(name.as_bytes()[0], have.len() as u32));
                    assert!(have.len() % 100 == 0);
                    if have.len() as u32 >= 100 * step {
                        continue;
                    }
                    let all = pattern(name.as_bytes()[0], 100 * step);
                    w.edit(name, |fs, file| {
                        fs.write(
                            file,
                            u64::from(100 * (step - 1)),
                            &all[100 * (step as usize - 1)..],
                        )
                    })?;
                }
                w.sync()?;
            }
            Ok(())
        });
    }
}

/// A file or a directory is moved from directory to directory. It is always in exactly one of them.
#[test]
fn entry_moves_around() {
    for config in configs() {
        for is_dir in [false, true] {
            reentrant(&config, None, |w| {
                let places = ["a/hello", "b/hello", "c/hello", "d/hello"];
                for dir in ["a", "b", "c", "d"] {
                    w.mkdir(dir)?;
                }
                let found: Vec<_> = places.into_iter().filter(|p| w.has(p)).collect();
                assert!(found.len() <= 1, "{found:?}");
                if found.is_empty() {
                    if is_dir {
                        w.mkdir("d/new")?;
                        w.put("d/new/ciao", &pattern(5, 600))?;
                        w.rename("d/new", "a/hello")?;
                    } else {
                        w.put("d/new", &pattern(5, 600))?;
                        w.rename("d/new", "a/hello")?;
                    }
                }
                for hop in places.windows(2) {
                    if w.has(hop[0]) {
                        w.rename(hop[0], hop[1])?;
                    }
                    assert!(!w.has(hop[0]));
                }
                let file = if is_dir { "d/hello/ciao" } else { "d/hello" };
                assert_eq!(w.get(file), Some(pattern(5, 600)));
                Ok(())
            });
        }
    }
}

/// A file is overwritten in places, and each change is synced.
#[test]
fn file_is_overwritten_in_places() {
    for config in configs() {
        for count in [4u32, 132] {
            reentrant(&config, None, |w| {
                let (old, new) = (b"kittycatcat", b"doggodogdog");
                let all = old.repeat(count as usize);
                let found = w.get("kitty").unwrap_or_default();
                for piece in found.chunks(11) {
                    assert!(piece == old || piece == new, "{}", piece.escape_ascii());
                }
                if found.is_empty() {
                    w.put("kitty", &all)?;
                }
                for i in (0..count).step_by(1 + count as usize / 5) {
                    w.edit("kitty", |fs, file| fs.write(file, u64::from(11 * i), new))?;
                    w.sync()?;
                }
                Ok(())
            });
        }
    }
}

/// A file is shortened and written again. It always has one of its lengths, with the content for
/// that length.
#[test]
fn file_is_cut_and_rewritten() {
    for config in configs() {
        for (small, medium) in [(4, 33), (4, 513), (512, 1025), (0, 512)] {
            reentrant(&config, None, |w| {
                let states = [b"hair".repeat(512), b"bald".repeat(512), b"comb".repeat(512)];
                let sizes = [2048, medium, small];
                let found = w.get("baldy").unwrap_or_default();
                let known =
                    found.is_empty() || states.iter().zip(sizes).any(|(s, len)| found == s[..len]);
                assert!(known, "{} bytes", found.len());
                for (state, size) in states.iter().zip(sizes) {
                    w.edit("baldy", |fs, file| {
                        fs.truncate(file, size as u64)?;
                        fs.write(file, 0, &state[..size])
                    })?;
                    w.sync()?;
                }
                Ok(())
            });
        }
    }
}

/// Numbers that look random and are the same each time.
pub struct Dice(pub u32);

impl Dice {
    pub fn roll(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 12) % below
    }

    /// A path in directories of three levels, with a few names.
    pub fn path(&mut self) -> [String; 3] {
        let mut name = || char::from(b'a' + self.roll(3) as u8);
        let (a, b, c) = (name(), name(), name());
        [format!("{a}"), format!("{a}/{b}"), format!("{a}/{b}/{c}")]
    }
}

/// Directories of three levels are created from the outside in, and removed from the inside out.
pub fn grow_or_prune(w: &mut World, path: &[String; 3]) -> Result<()> {
    if w.stat(&path[2])?.is_none() {
        return path.iter().try_for_each(|dir| w.mkdir(dir));
    }
    for dir in path.iter().rev() {
        match w.stat(dir)? {
            Some(Node::Dir(_)) if w.list(dir).is_empty() => w.remove(dir)?,
            found => assert!(found.is_some(), "{dir} has vanished"),
        }
    }
    Ok(())
}

#[test]
fn trees_grow_and_shrink() {
    for config in configs() {
        reentrant(&config, None, |w| {
            let mut dice = Dice(1);
            (0..20).try_for_each(|_| grow_or_prune(w, &dice.path()))
        });
    }
}

#[test]
fn trees_grow_and_shrink_while_pairs_move() {
    for cycles in [1, 3] {
        for config in configs() {
            reentrant(&config, Some(cycles), |w| {
                let mut dice = Dice(2);
                (0..15).try_for_each(|_| grow_or_prune(w, &dice.path()))
            });
        }
    }
}

#[test]
fn trees_are_renamed_while_pairs_move() {
    for config in configs() {
        reentrant(&config, Some(1), |w| {
            let mut dice = Dice(3);
            for _ in 0..15 {
                let (from, to) = (dice.path(), dice.path());
                if w.has(&from[2]) && !w.has(&to[2]) {
                    w.mkdir(&to[0])?;
                    w.mkdir(&to[1])?;
                    w.rename(&from[2], &to[2])?;
                } else {
                    grow_or_prune(w, &from)?;
                }
            }
            Ok(())
        });
    }
}

/// Formatting is done completely or not at all, and there is always a superblock while it moves.
#[test]
fn superblock_is_made_and_expands() {
    for config in configs() {
        for cycles in [None, Some(1), Some(2)] {
            reentrant(&config, cycles, |w| {
                for i in 0..12u8 {
                    w.put("dummy", &[i; 3])?;
                    assert_eq!(w.list(""), ["dummy"]);
                    w.remove("dummy")?;
                }
                Ok(())
            });
        }
    }
}

/// An image with a directory and a file in it. Returns the pair of the directory, too.
fn notebook(config: &Config) -> (Fixture, Surgeon, Pair) {
    let mut fixture = Fixture::new(config.clone());
    fixture.mkdir("notebook");
    fixture.create("notebook/paper");
    for i in 0..5 {
        fixture.write("notebook/paper", 5 * i, 5, 1);
        fixture.flush();
    }
    fixture.power_cycle();
    let surgeon = Surgeon::new(config, fixture.ours.image());
    let (pair, _) = surgeon.fetch(surgeon.dir("notebook"));
    (fixture, surgeon, pair)
}

/// This library and C read the image as it was before it was damaged, and can write to it.
fn goes_on(fixture: Fixture, image: Vec<u8>) {
    let tree = fixture.model.tree().clone();
    let mut c = CLfs::mount(image.clone(), &fixture.config).expect("C mounts");
    assert_eq!(data_bytes(&c.tree(&[]).expect("C reads")), data_bytes(&tree));
    let mut fixture = Fixture::over(fixture.config, image, tree);
    // An append leaves the other block as it is.
    fixture.notes = &["pair-half-dead"];
    for i in 5..10 {
        fixture.write("notebook/paper", 5 * i, 5, 2);
        fixture.flush();
    }
    fixture.power_cycle();
}

/// A block that holds a newer revision and nothing else.
#[test]
fn only_the_revision_was_written() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        for dead in [0xff, 0x00] {
            let config = Config::new(block_size, block_count, prog_size);
            let (fixture, mut surgeon, pair) = notebook(&config);
            let rev = surgeon.fetch(pair).1.rev;
            let block = surgeon.block(pair.0[1]);
            block.fill(dead);
            block[..4].copy_from_slice(&(rev + 1).to_le_bytes());
            goes_on(fixture, surgeon.image);
        }
    }
}

/// A byte of the next program unit was written, so the bytes after the last commit are not erased.
#[test]
fn part_of_a_commit_was_written() {
    for (block_size, block_count, prog_size) in [(512, 128, 16), (4096, 32, 256), (8192, 32, 64)] {
        for byte in [0, prog_size / 2, prog_size - 1] {
            for value in [0x33, 0xcc, 0x00] {
                let config = Config::new(block_size, block_count, prog_size);
                let (fixture, mut surgeon, pair) = notebook(&config);
                let off = surgeon.fetch(pair).1.off + byte;
                if off < block_size {
                    surgeon.block(pair.0[0])[off as usize] = value;
                }
                goes_on(fixture, surgeon.image);
            }
        }
    }
}
