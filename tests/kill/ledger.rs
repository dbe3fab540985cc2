//! What one thread has done to its files, and which states of them may exist after a crash.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use testkit::mounted::noise;

/// The size of a page of the kernel in bytes.
const PAGE: usize = 4096;

/// The state of a name: no entry, a directory, or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    Dir,
    /// A file with the first `len` bytes of the content of `id`. The id is 0 for an empty file that
    /// was found.
    File {
        id: u32,
        len: usize,
    },
}

/// What was done since the last state that is known to be on disk. After a crash, a file is in one
/// of these states.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The states: the durable one is first, and the latest one is last.
    states: BTreeMap<String, Vec<State>>,
    /// Renames that are not known to be durable: the id of the file, the old name and the new name.
    renames: Vec<(u32, String, String)>,
}

/// The content of an id. A file holds the beginning of it. It starts with its id.
pub fn content(id: u32, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend(noise(len.saturating_sub(4), id));
    bytes.truncate(len);
    bytes
}

impl Ledger {
    /// The latest state of a name.
    pub fn now(&self, name: &str) -> State {
        self.states.get(name).and_then(|s| s.last()).cloned().unwrap_or(State::Absent)
    }

    /// The names whose latest state satisfies `wanted`.
    pub fn names(&self, wanted: impl Fn(&State) -> bool) -> Vec<String> {
        let latest = self.states.iter().filter(|(_, s)| s.last().is_some_and(&wanted));
        latest.map(|(name, _)| name.clone()).collect()
    }

    /// Note that a name is about to get this state.
    pub fn expect(&mut self, name: &str, state: State) {
        self.states.entry(name.to_owned()).or_insert_with(|| vec![State::Absent]).push(state);
    }

    /// Note that a file is about to move. It must be possible to tell both names apart from any of
    /// their states.
    pub fn expect_rename(&mut self, from: &str, to: &str) {
        let State::File { id, len } = self.now(from) else { panic!("{from} is no file") };
        self.expect(to, State::File { id, len });
        self.expect(from, State::Absent);
        self.renames.push((id, from.to_owned(), to.to_owned()));
    }

    /// Note that an fsync of the file with this name has returned: the file is on disk as it is
    /// now.
    pub fn synced(&mut self, name: &str) {
        let now = self.now(name);
        let State::File { id, .. } = now else { panic!("{name} is no file") };
        self.states.insert(name.to_owned(), vec![now]);
        // The moved object is on disk under its new name, so no longer under an older one.
        let moved: Vec<String> =
            self.renames.iter().filter(|r| r.0 == id).map(|r| r.1.clone()).collect();
        for from in moved.iter().filter(|from| *from != name) {
            let states = self.states.get_mut(from).expect("a renamed file has states");
            states.retain(|s| !is_file(s, id));
        }
        self.renames.retain(|r| r.0 != id);
    }

    /// Note that an fsync of a directory has returned: everything is on disk as it is now.
    pub fn all_synced(&mut self) {
        self.states.retain(|_, states| {
            *states = states.split_off(states.len() - 1);
            states[0] != State::Absent
        });
        self.renames.clear();
    }

    /// Check the directory after a crash: each name must be in one of its states, and each renamed
    /// file must have exactly one of its names. What is found is the new durable state.
    pub fn recover(&mut self, dir: &Path) -> Result<(), String> {
        let mut found: BTreeMap<String, State> = BTreeMap::new();
        let mut read = |path: &Path, name: String| -> io::Result<bool> {
            let state = if path.is_dir() { State::Dir } else { identify(&fs::read(path)?) };
            let is_dir = state == State::Dir;
            found.insert(name, state);
            Ok(is_dir)
        };
        let mut todo = vec![String::new()];
        while let Some(prefix) = todo.pop() {
            let list = fs::read_dir(dir.join(&prefix)).map_err(|e| format!("{prefix}: {e}"))?;
            for entry in list {
                let entry = entry.map_err(|e| format!("{prefix}: {e}"))?;
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if read(&entry.path(), name.clone()).map_err(|e| format!("{name}: {e}"))? {
                    todo.push(format!("{name}/"));
                }
            }
        }

        let mut wrong = String::new();
        for name in found.keys().filter(|name| !self.states.contains_key(*name)) {
            wrong += &format!("{name}: was not made, or removed durably\n");
        }
        for (name, states) in &self.states {
            let state = found.get(name).unwrap_or(&State::Absent);
            if !is_between(states, state) && !states.iter().any(|s| admits(s, state)) {
                wrong += &format!("{name}: is {state:?}, but may only be one of {states:?}\n");
            }
        }
        for (id, from, to) in &self.renames {
            let count = found.values().filter(|s| is_file(s, *id)).count();
            // Gone altogether is right only when it was removed after, or not there before.
            let absent_is_right = !self.durable(*id) || !self.lives(*id);
            if count > 1 || (count == 0 && !absent_is_right) {
                wrong += &format!("rename {from} -> {to}: {count} names show file {id}\n");
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        self.states = found.into_iter().map(|(name, state)| (name, vec![state])).collect();
        self.renames.clear();
        Ok(())
    }

    /// Whether a file was on disk, under any name.
    fn durable(&self, id: u32) -> bool {
        let first =
            |s: &Vec<State>| matches!(s.first(), Some(State::File { id: it, .. }) if *it == id);
        self.states.values().any(first)
    }

    /// Whether a file was neither removed nor replaced.
    fn lives(&self, id: u32) -> bool {
        let last =
            |s: &Vec<State>| matches!(s.last(), Some(State::File { id: it, .. }) if *it == id);
        self.states.values().any(last)
    }
}

/// The id of a file, from its content. Other content has no id.
fn identify(bytes: &[u8]) -> State {
    let id = bytes.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    match id {
        Some(id) if content(id, bytes.len()) == bytes => State::File { id, len: bytes.len() },
        None if bytes.is_empty() => State::File { id: 0, len: 0 },
        _ => State::File { id: u32::MAX, len: bytes.len() },
    }
}

/// Whether a state that was found is the recorded one. An empty file does not show its id.
fn admits(recorded: &State, found: &State) -> bool {
    recorded == found
        || matches!((recorded, found), (State::File { len: 0, .. }, State::File { id: 0, len: 0 }))
}

/// Whether a file that was found ends at a page between two recorded sizes, where the kernel
/// divides a write.
fn is_between(recorded: &[State], found: &State) -> bool {
    let State::File { id, len } = *found else { return false };
    if len % PAGE != 0 {
        return false;
    }
    let lens = || {
        recorded.iter().filter_map(|s| match s {
            State::File { id: it, len } if *it == id => Some(*len),
            _ => None,
        })
    };
    lens().min().is_some_and(|min| min <= len) && lens().max().is_some_and(|max| len <= max)
}

fn is_file(state: &State, id: u32) -> bool {
    matches!(state, State::File { id: it, .. } if *it == id)
}
