//! Random workloads: many operations between flushes, in a handful of directories.

use super::script::{NAME_MAX, Script, Step};
use testkit::calls::{Model, Subject};
use testkit::tree::{Tree, join};

/// A small random generator, so that the tests are the same in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Generates calls that succeed if there is space.
struct Maker {
    rng: Rng,
    model: Model,
    script: Script,
}

impl Maker {
    fn pick(&mut self, want: impl Fn(&Tree, &Vec<u8>) -> bool) -> Option<String> {
        let tree = self.model.tree();
        let paths: Vec<&Vec<u8>> = tree.keys().filter(|p| want(tree, p)).collect();
        let n = paths.len();
        let i = self.rng.below(n);
        paths.get(i).map(|p| String::from_utf8_lossy(p).into_owned())
    }

    fn file(&mut self) -> Option<String> {
        self.pick(|tree, p| !tree[p].is_dir())
    }

    fn dir(&mut self) -> Option<String> {
        self.pick(|tree, p| tree[p].is_dir() && p.iter().filter(|&&b| b == b'/').count() < 3)
    }

    /// A name in a directory, which exists or not.
    fn place(&mut self) -> Option<String> {
        let dir = self.dir()?;
        let name = format!("{}{}", ["a", "b", "quite-long-"][self.rng.below(3)], self.rng.below(9));
        Some(String::from_utf8_lossy(&join(dir.as_bytes(), name.as_bytes())).into_owned())
    }

    fn one(&mut self, sizes: &[u32]) -> Option<()> {
        let size = sizes[self.rng.below(sizes.len())];
        let off = self.rng.below(size as usize + 40) as u32;
        match self.rng.below(24) {
            0..=6 => {
                let path = self.place()?;
                self.script.create(&path, size);
            }
            7..=9 => {
                let path = self.place()?;
                self.script.mkdir(&path);
            }
            10..=14 => {
                let from = if self.rng.below(3) == 0 {
                    self.dir().filter(|d| !d.is_empty())
                } else {
                    None
                };
                let from = match from {
                    Some(dir) => dir,
                    None => self.file()?,
                };
                let to = self.place()?;
                self.script.rename(&from, &to);
            }
            15..=16 => {
                let path = self.file()?;
                self.script.write(&path, off, 1 + size / 2);
            }
            17 => {
                let path = self.file()?;
                self.script.truncate(&path, off);
            }
            18 => {
                let path = self.pick(|_, _| true)?;
                self.script.attr(&path, off % 20);
            }
            19..=21 => {
                let path = self.file()?;
                self.script.unlink(&path);
            }
            _ => {
                let path = self.pick(|tree, p| {
                    let below = join(p, b"");
                    tree[p].is_dir() && !p.is_empty() && !tree.keys().any(|q| q.starts_with(&below))
                })?;
                self.script.rmdir(&path);
            }
        }
        Some(())
    }

    /// Keep the calls from index `at` if all of them are possible.
    fn settle(&mut self, at: usize) {
        let mut next = self.model.clone();
        let fits = self.script.steps[at..].iter().all(|step| match step {
            Step::Call(call) => next.apply(call).is_ok(),
            Step::Flush => true,
        });
        match fits {
            true => self.model = next,
            false => self.script.steps.truncate(at),
        }
    }
}

/// Do `flushes` times up to `batch` operations on files of these sizes, and then a flush.
pub fn random(seed: u64, flushes: usize, batch: usize, sizes: &[u32]) -> Script {
    let mut maker = Maker { rng: Rng(seed), model: Model::new(NAME_MAX), script: Script::new() };
    for _ in 0..flushes {
        for _ in 0..1 + maker.rng.below(batch) {
            let at = maker.script.steps.len();
            _ = maker.one(sizes);
            maker.settle(at);
        }
        maker.script.flush();
    }
    maker.script
}
