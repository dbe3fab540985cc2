//! Random operations that shrink well: they choose an entry by its index among the existing ones,
//! and a size by its relation to the geometry. They become calls only when they run.

use proptest::prelude::*;

use crate::calls::{Call, Model};
use crate::comparison::{Comparison, Setup, Verdict};
use crate::tree::{Entry, Tree, join, show};

/// How a name is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    /// One of the files.
    File(u8),
    /// One of the directories, the root among them.
    Dir(u8),
    /// One of all entries.
    Any(u8),
    /// One of the entries that have attributes.
    WithAttr(u8),
    /// An entry that does not exist.
    Missing,
}

/// A name in a directory. It may exist or not.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    dir: Pick,
    name: u8,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub enum Len {
    /// This many.
    Bytes(u8),
    /// The size of a file with this many blocks, and some bytes more or less.
    Blocks(u8, i8),
    /// A part of four blocks, in 256ths.
    Part(u8),
}

/// Where a write starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    End,
    /// At a part of the file, in 256ths.
    Within(u8),
    /// Behind the end of the file.
    Beyond(u8),
}

/// One step of a test.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Create(Slot),
    /// Create a file and write it.
    Fill(Slot, Len, u8),
    Write(Pick, Start, Len, u8),
    Truncate(Pick, Len),
    Mkdir(Slot),
    Unlink(Pick),
    Rmdir(Pick),
    Rename(Pick, Slot, bool),
    RenameOver(Pick, Pick, bool),
    SetAttr(Pick, u8, u8, u8),
    RemoveAttr(Pick, u8),
    /// Keep a file open in this library.
    Hold(Pick),
    WriteHeld(Len, u8),
    Release,
    Flush,
    Compare,
    Reopen,
    Exchange,
}

/// The values from which operations are made, for one geometry.
pub struct Palette {
    names: Vec<Vec<u8>>,
    attr_types: Vec<u8>,
    attr_len: u32,
    block_size: u32,
}

impl Palette {
    /// Names and attributes that fit into a metadata block of this size.
    pub fn new(setup: &Setup) -> Self {
        let block_size = setup.config.block_size;
        // Prefixes of each other, since the order of names depends on those; not only ASCII.
        let mut names: Vec<Vec<u8>> = ["a", "ab", "abc", "b", "B", "a.b", "zz", " ", "~x"]
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .chain([b"\xff\xfe".to_vec(), b"\x01".to_vec(), vec![b'y'; 256]])
            .collect();
        let longest: &[usize] = match block_size {
            ..256 => &[14],
            256..1024 => &[20, 90],
            _ => &[60, 200, 255],
        };
        names.extend(longest.iter().map(|&len| vec![b'l'; len]));
        names.extend((0..12).map(|i| format!("file{i}").into_bytes()));
        let attr_len = match block_size {
            ..256 => 6,
            256..1024 => 40,
            _ => 300,
        };
        Self { names, attr_types: setup.attr_types.clone(), attr_len, block_size }
    }

    fn pick(&self, tree: &Tree, pick: Pick) -> Vec<u8> {
        choose(tree.iter(), pick)
    }

    /// Like `pick`, for what is not possible with the root.
    fn pick_below_root(&self, tree: &Tree, pick: Pick) -> Vec<u8> {
        choose(tree.iter().filter(|(path, _)| !path.is_empty()), pick)
    }

    fn slot(&self, tree: &Tree, slot: Slot) -> Vec<u8> {
        let dir = self.pick(tree, slot.dir);
        join(&dir, &self.names[usize::from(slot.name) % self.names.len()])
    }

    fn len(&self, len: Len) -> u32 {
        match len {
            Len::Bytes(n) => u32::from(n),
            Len::Blocks(blocks, delta) => {
                let capacity: u32 = (0..u32::from(blocks))
                    .map(|i| if i == 0 { 0 } else { 4 * (i.trailing_zeros() + 1) })
                    .map(|pointers| self.block_size - pointers)
                    .sum();
                capacity.saturating_add_signed(i32::from(delta))
            }
            Len::Part(n) => (u64::from(n) * u64::from(self.block_size) * 4 / 256) as u32,
        }
    }

    /// The call with which an operation starts; `None` for operations on the whole filesystem.
    fn call(&self, model: &Model, op: Op) -> Option<Call> {
        let tree = model.tree();
        Some(match op {
            Op::Create(slot) | Op::Fill(slot, ..) => Call::Create(self.slot(tree, slot)),
            Op::Write(pick, start, len, seed) => {
                let path = self.pick_below_root(tree, pick);
                let size = model.bytes(&path).len() as u32;
                let off = match start {
                    Start::End => size,
                    Start::Within(part) => (u64::from(size) * u64::from(part) / 256) as u32,
                    Start::Beyond(gap) => size + u32::from(gap),
                };
                Call::Write { path, off, len: self.len(len).max(1), seed }
            }
            Op::Truncate(pick, len) => {
                Call::Truncate { path: self.pick_below_root(tree, pick), size: self.len(len) }
            }
            Op::Mkdir(slot) => Call::Mkdir(self.slot(tree, slot)),
            Op::Unlink(pick) => Call::Unlink(self.pick_below_root(tree, pick)),
            Op::Rmdir(pick) => Call::Rmdir(self.pick_below_root(tree, pick)),
            Op::Rename(pick, slot, no_replace) => {
                let from = self.pick_below_root(tree, pick);
                Call::Rename { from, to: self.slot(tree, slot), no_replace }
            }
            Op::RenameOver(from, to, no_replace) => {
                let from = self.pick_below_root(tree, from);
                Call::Rename { from, to: self.pick_below_root(tree, to), no_replace }
            }
            Op::SetAttr(pick, ty, len, seed) => {
                let (path, ty) = (self.pick(tree, pick), self.attr_type(ty));
                Call::SetAttr { path, ty, len: u32::from(len) * self.attr_len / 255, seed }
            }
            Op::RemoveAttr(pick, ty) => {
                Call::RemoveAttr { path: self.pick(tree, pick), ty: self.attr_type(ty) }
            }
            _ => return None,
        })
    }

    fn attr_type(&self, n: u8) -> u8 {
        self.attr_types[usize::from(n) % self.attr_types.len()]
    }

    /// Perform one operation on both sides, and add the calls that it has become to `log`.
    pub fn run(&self, sides: &mut Comparison, op: Op, log: &mut Vec<String>) -> Verdict {
        if let Some(call) = self.call(sides.model(), op) {
            log.push(format!("{call:?}"));
            let done = sides.call(&call)?;
            if let (Op::Fill(_, len, seed), Call::Create(path), true) = (op, call, done) {
                let write = Call::Write { path, off: 0, len: self.len(len).max(1), seed };
                log.push(format!("{write:?}"));
                sides.call(&write)?;
            }
            return Ok(());
        }
        log.push(format!("{op:?}"));
        match op {
            Op::Hold(pick) => {
                let path = self.pick_below_root(sides.model().tree(), pick);
                log.push(format!("  {}", show(&path)));
                sides.hold(&path)
            }
            Op::WriteHeld(len, seed) => sides.write_held(self.len(len).max(1), seed),
            Op::Release => {
                sides.release();
                Ok(())
            }
            Op::Flush => sides.flush(),
            Op::Compare => sides.compare(),
            Op::Reopen => sides.reopen(),
            _ => sides.exchange(),
        }
    }
}

fn choose<'a>(entries: impl Iterator<Item = (&'a Vec<u8>, &'a Entry)>, pick: Pick) -> Vec<u8> {
    let (n, wanted): (u8, fn(&Entry) -> bool) = match pick {
        Pick::File(n) => (n, |e| !e.is_dir()),
        Pick::Dir(n) => (n, Entry::is_dir),
        Pick::Any(n) => (n, |_| true),
        Pick::WithAttr(n) => (n, |e| !e.attrs.is_empty()),
        Pick::Missing => (0, |_| false),
    };
    let candidates: Vec<_> = entries.filter(|(_, e)| wanted(e)).map(|(path, _)| path).collect();
    match candidates.get(usize::from(n) % candidates.len().max(1)) {
        Some(path) => path.to_vec(),
        None => b"missing".to_vec(),
    }
}

fn any_pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => any::<u8>().prop_map(Pick::File),
        4 => any::<u8>().prop_map(Pick::Dir),
        4 => any::<u8>().prop_map(Pick::Any),
        1 => Just(Pick::Missing),
    ]
}

fn file() -> impl Strategy<Value = Pick> {
    prop_oneof![30 => any::<u8>().prop_map(Pick::File), 1 => any_pick()]
}

fn dir() -> impl Strategy<Value = Pick> {
    prop_oneof![30 => any::<u8>().prop_map(Pick::Dir), 1 => any_pick()]
}

fn with_attr() -> impl Strategy<Value = Pick> {
    prop_oneof![8 => any::<u8>().prop_map(Pick::WithAttr), 1 => any_pick()]
}

fn slot() -> impl Strategy<Value = Slot> {
    (dir(), any::<u8>()).prop_map(|(dir, name)| Slot { dir, name })
}

fn len() -> impl Strategy<Value = Len> {
    prop_oneof![
        4 => any::<u8>().prop_map(Len::Bytes),
        3 => (0..6u8, -9..=9i8).prop_map(|(blocks, delta)| Len::Blocks(blocks, delta)),
        2 => any::<u8>().prop_map(Len::Part),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        3 => Just(Start::End),
        3 => any::<u8>().prop_map(Start::Within),
        1 => any::<u8>().prop_map(Start::Beyond),
    ]
}

/// Any operation. Those that create something are more frequent than those that remove it, so that
/// long runs fill the image.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => slot().prop_map(Op::Create),
        12 => (slot(), len(), any::<u8>()).prop_map(|(s, l, seed)| Op::Fill(s, l, seed)),
        14 => (file(), start(), len(), any::<u8>()).prop_map(|(p, s, l, seed)| Op::Write(p, s, l, seed)),
        6 => (file(), len()).prop_map(|(p, l)| Op::Truncate(p, l)),
        10 => slot().prop_map(Op::Mkdir),
        6 => file().prop_map(Op::Unlink),
        4 => dir().prop_map(Op::Rmdir),
        9 => (any_pick(), slot(), prop::bool::weighted(0.2)).prop_map(|(p, s, n)| Op::Rename(p, s, n)),
        5 => (any_pick(), any_pick(), prop::bool::weighted(0.1)).prop_map(|(p, t, n)| Op::RenameOver(p, t, n)),
        7 => (any_pick(), any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(p, t, l, seed)| Op::SetAttr(p, t, l, seed)),
        4 => (with_attr(), any::<u8>()).prop_map(|(p, t)| Op::RemoveAttr(p, t)),
        4 => file().prop_map(Op::Hold),
        4 => (len(), any::<u8>()).prop_map(|(l, seed)| Op::WriteHeld(l, seed)),
        1 => Just(Op::Release),
        5 => Just(Op::Flush),
        2 => Just(Op::Compare),
        2 => Just(Op::Reopen),
        3 => Just(Op::Exchange),
    ]
}
