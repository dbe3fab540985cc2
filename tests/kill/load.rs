//! The work of one thread in its own directory, until the mount ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ledger::{Ledger, State, content};

/// How many names a thread uses. They are few, so that they are often replaced, moved and removed.
const NAMES: u64 = 12;
/// The size of the largest file in bytes. So there are inline files, and files of several blocks.
const LONGEST: usize = 20_000;

/// The directory of a thread, what the thread did there, and its random numbers.
pub struct Load {
    pub dir: PathBuf,
    pub ledger: Ledger,
    next_id: u32,
    random: u64,
    pub fsyncs: u64,
    pub operations: u64,
}

impl Load {
    pub fn new(dir: PathBuf, seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { dir, ledger: Ledger::default(), next_id: 1, random, fsyncs: 0, operations: 0 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn pick(&mut self, names: &[String]) -> Option<String> {
        match names.len() as u64 {
            0 => None,
            n => Some(names[self.random(n) as usize].clone()),
        }
    }

    /// A name for a file: in the thread's directory, or in one below it.
    fn name(&mut self) -> String {
        let n = self.random(NAMES);
        let dirs = self.ledger.names(|s| *s == State::Dir);
        match self.pick(&dirs) {
            Some(dir) if self.random(2) == 0 => format!("{dir}/f{n}"),
            _ => format!("f{n}"),
        }
    }

    /// Work until the mount fails. This is how the work always ends.
    pub fn run(&mut self) {
        loop {
            match self.step() {
                Ok(()) => self.operations += 1,
                Err(e) if is_dead(&e) => break,
                Err(e) => {
                    let list = |dir: &Path| {
                        let entries = fs::read_dir(dir).map(|d| d.flatten().map(|e| e.file_name()));
                        entries.map(|names| names.collect::<Vec<_>>())
                    };
                    let top = self.dir.parent().expect("a directory of the mount");
                    panic!(
                        "operation {}: {e}\n{}: {:?}\n{}: {:?}",
                        self.operations,
                        top.display(),
                        list(top),
                        self.dir.display(),
                        list(&self.dir)
                    )
                }
            }
        }
    }

    /// Do one thing. The ledger is told of it before the call, and of a sync after the sync.
    pub fn step(&mut self) -> io::Result<()> {
        let files = self.ledger.names(|s| matches!(s, State::File { .. }));
        // Files a crash left empty do not tell which they are.
        let known = self.ledger.names(|s| matches!(s, State::File { id: 1.., .. }));
        match self.random(16) {
            0..4 => {
                let name = self.name();
                self.create(&name)
            }
            4..8 => self.pick(&known).map_or(Ok(()), |name| self.append(&name)),
            8..12 => {
                let to = self.name();
                let from = self.pick(&known).filter(|from| *from != to);
                from.map_or(Ok(()), |from| self.rename(&from, &to))
            }
            12 => self.pick(&files).map_or(Ok(()), |name| self.unlink(&name)),
            13 => {
                let name = format!("d{}", self.random(3));
                self.directory(&name)
            }
            14 => self.pick(&files).map_or(Ok(()), |name| self.sync(&name)),
            _ => self.sync_all(),
        }
    }

    /// Write a file beside its name, and rename it, so that the old file is replaced. Writing in
    /// place would truncate it.
    fn create(&mut self, name: &str) -> io::Result<()> {
        if self.ledger.now(name) != State::Absent {
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let len = 4 + self.random(LONGEST as u64) as usize;
        self.ledger.expect(name, State::File { id, len: 0 });
        self.ledger.expect(name, State::File { id, len });
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.dir.join(name))?;
        file.write_all(&content(id, len))?;
        self.maybe_sync(name, &file)
    }

    fn append(&mut self, name: &str) -> io::Result<()> {
        let State::File { id, len } = self.ledger.now(name) else { return Ok(()) };
        let to = len + 1 + self.random(3000) as usize;
        if to > LONGEST {
            return Ok(());
        }
        self.ledger.expect(name, State::File { id, len: to });
        let mut file = OpenOptions::new().append(true).open(self.dir.join(name))?;
        file.write_all(&content(id, to)[len..])?;
        self.maybe_sync(name, &file)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.ledger.expect_rename(from, to);
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn unlink(&mut self, name: &str) -> io::Result<()> {
        self.ledger.expect(name, State::Absent);
        fs::remove_file(self.dir.join(name))
    }

    /// Create a directory, or remove it if it is empty.
    fn directory(&mut self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        if self.ledger.now(name) == State::Absent {
            self.ledger.expect(name, State::Dir);
            return fs::create_dir(path);
        }
        let below = format!("{name}/");
        if self.ledger.names(|s| *s != State::Absent).iter().any(|n| n.starts_with(&below)) {
            return Ok(());
        }
        self.ledger.expect(name, State::Absent);
        fs::remove_dir(path)
    }

    fn maybe_sync(&mut self, name: &str, file: &File) -> io::Result<()> {
        if self.random(3) == 0 {
            file.sync_all()?;
            self.ledger.synced(name);
            self.fsyncs += 1;
        }
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.dir.join(name))?.sync_data()?;
        self.ledger.synced(name);
        self.fsyncs += 1;
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        sync_dir(&self.dir)?;
        self.ledger.all_synced();
        self.fsyncs += 1;
        Ok(())
    }
}

/// Put everything in the filesystem on disk.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether a mount gives this error after its daemon has ended.
fn is_dead(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)
}
