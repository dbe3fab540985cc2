//! A metadata pair in memory: its entries as they are to become, and what of them is on disk.
//!
//! Operations change the entries; [`Mdir::encode_append`] and [`Mdir::encode_compact`] lay out the
//! difference from the last commit, or everything, as one commit. Nothing here does I/O.

pub mod store;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::disk::commit::{BlockFull, Commit, Layout, Writer};
use crate::disk::entry::Content;
use crate::disk::log::{Log, Packed, PackedEntry};
use crate::disk::{BLOCK_NULL, GState, List, Pair, Part, Tail, name, part, tag};
use crate::error::{Corrupt, StructFault};
use crate::slots::SlotId;

/// A directory, for the life of the mount. No other directory ever gets the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId(pub(crate) SlotId);

impl DirId {
    /// How often a place in the table of directories is used: so many that [`Self::number`] takes
    /// no more than 48 bits.
    pub(crate) const USES: u32 = 1 << 16;

    /// A number that no other directory has or ever had: 0 for the root, and small ones for those
    /// that were there at first. Less than 2^48.
    pub fn number(self) -> u64 {
        self.0.number()
    }
}

/// An open file object. No other ever gets the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(crate) SlotId);

/// A pending move of a durable entry from one pair to another.
pub type MoveId = u32;

/// Bytes a compacted pair keeps free beside its entries: revision, tail, global state, CRC.
pub const RESERVED: u32 = 40;
/// If the log is more than this many bytes longer than twice what its entries take, the entries get a
/// copy of their bytes, so that the log need not stay in memory.
const TRIM_MIN: u32 = 512;
/// A pair is split before it holds this many entries.
pub const COUNT_MAX: usize = 0xff;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// The superblock entry: id 0 of the root, never shown.
    Superblock,
    /// A name type this library does not know: kept, never shown.
    Other(u16),
    /// An id that has content but no name: kept, never shown. The C driver counts its blocks as
    /// used.
    Nameless,
}

impl Kind {
    fn from_type(ty: u16) -> Self {
        match ty {
            tag::REG => Self::File,
            tag::DIR => Self::Dir,
            tag::SUPERBLOCK => Self::Superblock,
            other => Self::Other(other),
        }
    }

    fn to_type(self) -> Option<u16> {
        match self {
            Self::File => Some(tag::REG),
            Self::Dir => Some(tag::DIR),
            Self::Superblock => Some(tag::SUPERBLOCK),
            Self::Other(ty) => Some(ty),
            Self::Nameless => None,
        }
    }
}

/// Whether the C driver finds an entry under its name, where others of its directory have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Double {
    /// No other entry has the name, as far as is known.
    No,
    /// It is the one that the C driver opens.
    Found,
    /// The C driver opens another: this one is kept and not shown.
    Hidden,
}

/// An entry's struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The content itself.
    Inline(Part),
    /// A CTZ list; the head is null while the file's first blocks are not written yet.
    Ctz(List),
    /// A directory's first pair.
    Dir {
        /// As the entry names it.
        pair: Pair,
        /// Which directory that is; `None` when the pair cannot be read.
        dir: Option<DirId>,
    },
    /// Anything else: kept as found.
    Raw(u16, Part),
    /// No struct at all.
    Missing,
}

impl Data {
    /// A file in blocks of which none is written yet.
    pub const EMPTY_LIST: Self = Self::Ctz(List { head: BLOCK_NULL, size: 0 });

    fn from_packed(packed: PackedEntry<'_>) -> Self {
        match packed.content() {
            Content::Inline(_) => Self::Inline(packed.data_part()),
            Content::List(list) => Self::Ctz(list),
            Content::Dir(pair) => Self::Dir { pair, dir: None },
            Content::Short { ty } | Content::Unknown { ty } => Self::Raw(ty, packed.data_part()),
            Content::Missing => Self::Missing,
        }
    }

    /// Copy the bytes that it shares with others.
    pub fn detach(&mut self) {
        if let Some(bytes) = self.part() {
            bytes.detach();
        }
    }

    /// Its bytes, if it has some that may be shared.
    fn part(&mut self) -> Option<&mut Part> {
        match self {
            Self::Inline(bytes) | Self::Raw(_, bytes) => Some(bytes),
            Self::Ctz(_) | Self::Dir { .. } | Self::Missing => None,
        }
    }

    fn size_on_disk(&self) -> u32 {
        match self {
            Self::Inline(d) => 4 + d.len() as u32,
            Self::Ctz(_) | Self::Dir { .. } => 12,
            Self::Raw(_, d) => 4 + d.len() as u32,
            Self::Missing => 0,
        }
    }

    fn encode(&self, id: u16, w: &mut Writer) {
        match self {
            Self::Inline(d) => Content::Inline(d).put(id, w),
            Self::Ctz(list) => Content::List(*list).put(id, w),
            Self::Dir { pair, .. } => Content::Dir(*pair).put(id, w),
            Self::Raw(ty, d) => w.tag(*ty, id, d),
            Self::Missing => {}
        }
    }
}

/// A user attribute; without data it is to be deleted.
#[derive(Debug, Clone)]
pub struct Attr {
    /// Its type.
    pub ty: u8,
    /// Its data.
    pub data: Option<Part>,
    /// Whether this is not on disk yet.
    pub dirty: bool,
}

impl Attr {
    /// Bytes of a compacted pair it takes.
    fn size_on_disk(&self) -> u32 {
        self.data.as_ref().map_or(0, |data| 4 + data.len() as u32)
    }

    /// Copy the bytes that it shares with others.
    pub fn detach(&mut self) {
        if let Some(data) = &mut self.data {
            data.detach();
        }
    }
}

/// The part an entry plays in pending moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An ordinary entry.
    Live,
    /// Moved here; on disk it is still at its source.
    Arriving(MoveId),
    /// Moved away; on disk still here.
    Leaving(MoveId),
    /// To be replaced by the arriving entry of the same name; on disk still here.
    Replaced(MoveId),
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: Part,
    /// What it is.
    pub kind: Kind,
    /// Its struct.
    pub data: Data,
    /// Its user attributes.
    pub attrs: Part<Attr>,
    /// The open file that overlays its content.
    pub file: Option<FileId>,
    /// Its part in pending moves.
    pub role: Role,
    /// Its id on disk.
    pub did: Option<u16>,
    /// Whether `data` is not on disk yet.
    pub dirty: bool,
    /// Whether, until a split is flushed, the pair that was split holds this entry on disk.
    pub inherited: bool,
    /// Bytes not counted because the arriving entry that replaces this one takes them.
    pub discount: u32,
    /// Whether others have its name.
    pub double: Double,
}

impl Entry {
    /// A new entry, nowhere on disk.
    pub fn new(name: &[u8], kind: Kind, data: Data) -> Self {
        Self::with_name(name.into(), kind, data)
    }

    /// An entry as it is on disk under the id `did`, without its attributes.
    fn on_disk(did: u16, packed: PackedEntry<'_>) -> Self {
        let kind = packed.name_type().map_or(Kind::Nameless, Kind::from_type);
        let entry = Self::with_name(packed.name_part(), kind, Data::from_packed(packed));
        Self { did: Some(did), dirty: false, ..entry }
    }

    fn with_name(name: Part, kind: Kind, data: Data) -> Self {
        Self {
            name,
            kind,
            data,
            attrs: Part::default(),
            file: None,
            role: Role::Live,
            did: None,
            dirty: true,
            inherited: false,
            discount: 0,
            double: Double::No,
        }
    }

    /// The damage of an entry whose struct does not say where its content is.
    pub fn bad_struct(&self, pair: Pair, id: u16) -> Corrupt {
        let why = match &self.data {
            Data::Missing => StructFault::Missing,
            Data::Raw(ty, data) => match Content::decode(*ty, data) {
                Content::Short { ty } => StructFault::TooShort { ty },
                _ => StructFault::UnknownType { ty: *ty },
            },
            Data::Inline(_) | Data::Ctz(_) | Data::Dir { .. } => StructFault::OfAnotherKind,
        };
        Corrupt::BadStruct { pair, id, why }
    }

    /// Copy the bytes that it shares with others, so that it does not keep a whole log in memory.
    pub fn detach(&mut self) {
        self.name.detach();
        self.data.detach();
        for a in self.attrs.make_mut() {
            a.detach();
        }
    }

    /// Bytes of a compacted pair it takes.
    pub fn size_on_disk(&self) -> u32 {
        let attrs: u32 = self.attrs.iter().map(Attr::size_on_disk).sum();
        4 + self.name.len() as u32 + self.data.size_on_disk() + attrs
    }

    /// The attributes it has, as types and data.
    pub fn present(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.attrs.iter().filter_map(|a| Some((a.ty, a.data.as_deref()?)))
    }

    /// Bytes it adds to those of the entries beside it.
    fn weight(&self) -> u32 {
        self.size_on_disk().saturating_sub(self.discount)
    }

    /// Whether it can be looked up and listed: a file or a directory here and not moved away,
    /// of a name Linux can hold, and that the C driver opens under this name.
    pub fn is_visible(&self) -> bool {
        self.double != Double::Hidden && self.could_be_visible()
    }

    /// Whether it could be looked up and listed, were it not for another of the same name.
    pub fn is_hidden_double(&self) -> bool {
        self.double == Double::Hidden && self.could_be_visible()
    }

    /// Whether it is visible, or hidden by nothing but another of its name.
    pub fn could_be_visible(&self) -> bool {
        matches!(self.role, Role::Live | Role::Arriving(_))
            && matches!(self.kind, Kind::File | Kind::Dir)
            && name::is_presentable(&self.name)
    }

    /// Whether it changed since it was written, or never was.
    pub fn is_dirty(&self) -> bool {
        self.did.is_none() || self.dirty || self.attrs.iter().any(|a| a.dirty)
    }

    fn encode_all(&self, id: u16, w: &mut Writer) {
        if let Some(ty) = self.kind.to_type() {
            w.tag(ty, id, &self.name);
        }
        self.data.encode(id, w);
        for a in &self.attrs {
            if let Some(data) = &a.data {
                w.tag(tag::USERATTR + u16::from(a.ty), id, data);
            }
        }
    }

    fn encode_changes(&self, id: u16, w: &mut Writer) {
        if self.dirty {
            self.data.encode(id, w);
        }
        for a in self.attrs.iter().filter(|a| a.dirty) {
            match &a.data {
                Some(data) => w.tag(tag::USERATTR + u16::from(a.ty), id, data),
                None => w.delete_attr(id, a.ty),
            }
        }
    }
}

/// Which entries a commit writes.
#[derive(Debug, Clone, Copy)]
pub struct Select {
    /// The move whose target this commit is: the arriving entry is written, the replaced deleted.
    pub arrive: Option<MoveId>,
    /// The move whose source this commit is: the leaving entry is deleted.
    pub leave: Option<MoveId>,
}

impl Select {
    /// Everything that is not part of a pending move.
    pub const ALL: Self = Self { arrive: None, leave: None };

    fn includes(&self, e: &Entry) -> bool {
        match e.role {
            Role::Live => true,
            Role::Arriving(m) => self.arrive == Some(m),
            Role::Leaving(m) => self.leave != Some(m),
            Role::Replaced(m) => self.arrive != Some(m),
        }
    }
}

/// Where the log of a pair ends on disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogEnd {
    /// Revision of the active block.
    pub rev: u32,
    /// Bytes up to the end of the last commit.
    pub off: u32,
    /// What the next commit's first tag is XORed with.
    pub etag: u32,
}

/// The entries of one metadata pair.
///
/// The entries that were read share the bytes of their log and one list of attributes. An entry that
/// is inserted later has its own copy, so that it does not keep the log of another pair in memory.
#[derive(Debug, Clone, Default)]
pub struct Mdir {
    /// In the order of their ids.
    pub entries: Vec<Entry>,
    /// Ids in use on disk.
    disk_count: u16,
    /// Bytes of all entries in a compacted pair.
    size: u32,
    /// How many attributes the entries have.
    attr_count: usize,
    /// The most bytes that the entries share.
    shared: u32,
}

impl Mdir {
    /// What a log holds.
    pub fn from_log(log: &Log<Packed>) -> Self {
        let disk_count = log.entries.len() as u16;
        let mut entries = Vec::with_capacity(log.entries.len());
        let mut attrs: Vec<Attr> = Vec::new();
        // the index of each entry that has attributes, and the end of its attributes in `attrs`
        let mut ends: Vec<(usize, u32)> = Vec::new();
        for (id, packed) in (0..).zip(log.entries.iter()) {
            if packed.is_empty() {
                // nothing was ever stored under this id
                continue;
            }
            let before = attrs.len();
            let attr = |(ty, data)| Attr { ty, data: Some(data), dirty: false };
            attrs.extend(packed.attr_parts().map(attr));
            if attrs.len() > before {
                ends.push((entries.len(), attrs.len() as u32));
            }
            entries.push(Entry::on_disk(id, packed));
        }
        let size = entries.iter().map(Entry::size_on_disk).sum::<u32>()
            + attrs.iter().map(Attr::size_on_disk).sum::<u32>();
        let mut mdir =
            Self { entries, disk_count, size, attr_count: attrs.len(), shared: log.off };
        mdir.trim(&mut attrs);
        let attrs: Arc<[Attr]> = attrs.into();
        let mut start = 0;
        for (at, end) in ends {
            if let Some(e) = mdir.entries.get_mut(at) {
                e.attrs = Part::of(&attrs, start..end);
            }
            start = end;
        }
        mdir
    }

    /// If the entries and their attributes are a small part of the log from which they were read,
    /// let them share a copy of their own bytes, so that the rest of the log is freed.
    fn trim(&mut self, attrs: &mut [Attr]) {
        if self.shared > 2 * self.size + TRIM_MIN {
            let parts = self.entries.iter_mut().flat_map(|e| [Some(&mut e.name), e.data.part()]);
            part::gather(parts.chain(attrs.iter_mut().map(|a| a.data.as_mut())).flatten());
            self.shared = self.size;
        }
    }

    /// Bytes of all entries in a compacted pair.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Rough bytes of memory held.
    pub fn footprint(&self) -> usize {
        // this is asked for after every change, so it must not look at every entry
        self.entries.len() * size_of::<Entry>()
            + self.attr_count * size_of::<Attr>()
            + self.size.max(self.shared) as usize
            + 128
    }

    /// Whether nothing of an ordinary entry is here, nor waits to go.
    pub fn is_vacant(&self) -> bool {
        self.entries.is_empty()
    }

    /// The index of the entry `name` that `is_it`; entries are sorted when `sorted`.
    pub fn find(&self, name: &[u8], sorted: bool, is_it: impl Fn(&Entry) -> bool) -> Option<usize> {
        let start = if sorted { self.lower_bound(name) } else { 0 };
        let mut here = self.entries[start..].iter();
        let found = if sorted {
            here.take_while(|e| *e.name == *name).position(is_it)
        } else {
            here.position(|e| *e.name == *name && is_it(e))
        };
        found.map(|i| start + i)
    }

    /// Where `name` belongs among sorted entries; behind the superblock entry.
    pub fn lower_bound(&self, name: &[u8]) -> usize {
        self.entries.partition_point(|e| {
            e.kind == Kind::Superblock || name::cmp(&e.name, name) == Ordering::Less
        })
    }

    /// Where `name` goes when order cannot be relied on: before the first greater name.
    pub fn first_greater(&self, name: &[u8]) -> Option<usize> {
        self.entries.iter().position(|e| {
            e.kind != Kind::Superblock && name::cmp(&e.name, name) == Ordering::Greater
        })
    }

    /// Whether `added` entries more, and `grown` bytes more of all, leave it below both the number of
    /// entries that splits it and `limit` bytes.
    pub fn takes(&self, added: usize, grown: u32, limit: u32) -> bool {
        self.size.saturating_add(grown) <= limit && self.entries.len() + added < COUNT_MAX
    }

    /// Put `e` before the entry at `at`.
    pub fn insert(&mut self, at: usize, mut e: Entry) {
        e.detach();
        self.size += e.weight();
        self.attr_count += e.attrs.len();
        self.entries.insert(at, e);
    }

    /// Take out the entry at `at`.
    pub fn remove(&mut self, at: usize) -> Entry {
        let e = self.entries.remove(at);
        self.size -= e.weight();
        self.attr_count -= e.attrs.len();
        e
    }

    /// Change the entry at `at`, keeping count of sizes.
    pub fn update<R>(&mut self, at: usize, change: impl FnOnce(&mut Entry) -> R) -> R {
        let e = &mut self.entries[at];
        let (size, attr_count) = (self.size - e.weight(), self.attr_count - e.attrs.len());
        let r = change(e);
        (self.size, self.attr_count) = (size + e.weight(), attr_count + e.attrs.len());
        r
    }

    /// Split off the entries from `at` on; in their new pair nothing of them is on disk.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut entries = self.entries.split_off(at);
        for e in &mut entries {
            e.inherited |= e.did.take().is_some();
        }
        let size = entries.iter().map(Entry::weight).sum();
        let attr_count = entries.iter().map(|e| e.attrs.len()).sum();
        self.size -= size;
        self.attr_count -= attr_count;
        Self { entries, disk_count: 0, size, attr_count, shared: self.shared }
    }

    /// Whether a commit of `select` would leave no entry on disk.
    pub fn empties(&self, select: &Select) -> bool {
        !self.entries.iter().any(|e| select.includes(e))
    }

    /// Whether a commit of `select` would write an entry or delete one.
    pub fn has_changes(&self, select: &Select) -> bool {
        let mut kept = 0;
        for e in self.entries.iter().filter(|e| select.includes(e)) {
            if e.is_dirty() {
                return true;
            }
            kept += 1;
        }
        kept != usize::from(self.disk_count)
    }

    /// Whether anything here is not on disk, moves included.
    pub fn is_dirty(&self) -> bool {
        self.entries.iter().any(|e| e.role != Role::Live) || self.has_changes(&Select::ALL)
    }

    /// The difference from what is on disk as one commit behind the others.
    pub fn encode_append(
        &self,
        layout: Layout,
        end: LogEnd,
        select: &Select,
        tail: Option<Tail>,
        gdelta: Option<GState>,
    ) -> Result<Commit, BlockFull> {
        let mut w = Writer::append(layout, end.off, end.etag);
        let included: Vec<&Entry> = self.entries.iter().filter(|e| select.includes(e)).collect();
        if included.len() >= COUNT_MAX {
            return Err(BlockFull);
        }
        let mut keep = vec![false; usize::from(self.disk_count)];
        for did in included.iter().filter_map(|e| e.did) {
            if let Some(k) = keep.get_mut(usize::from(did)) {
                *k = true;
            }
        }
        for id in (0..self.disk_count).rev().filter(|id| !keep[usize::from(*id)]) {
            w.tag(tag::DELETE, id, &[]);
        }
        for (id, e) in included.iter().enumerate() {
            let id = id as u16;
            if e.did.is_none() {
                w.tag(tag::CREATE, id, &[]);
                e.encode_all(id, &mut w);
            } else {
                e.encode_changes(id, &mut w);
            }
        }
        if let Some(tail) = tail {
            w.tail(tail);
        }
        if let Some(delta) = gdelta {
            w.gdelta(delta);
        }
        w.finish()
    }

    /// Everything as the first commit of an erased block.
    pub fn encode_compact(
        &self,
        layout: Layout,
        rev: u32,
        select: &Select,
        tail: Tail,
        gdelta: GState,
    ) -> Result<Commit, BlockFull> {
        let mut w = Writer::compact(layout, rev);
        for (id, e) in self.entries.iter().filter(|e| select.includes(e)).enumerate() {
            if e.kind == Kind::Nameless {
                // no name makes its id
                w.tag(tag::CREATE, id as u16, &[]);
            }
            e.encode_all(id as u16, &mut w);
        }
        if !tail.pair.is_null() {
            w.tail(tail);
        }
        if !gdelta.is_zero() {
            w.gdelta(gdelta);
        }
        w.finish()
    }

    /// A commit of `select` is on disk: ids, dirt and finished moves follow.
    pub fn committed(&mut self, select: &Select) {
        self.entries.retain(|e| match e.role {
            Role::Replaced(m) => select.arrive != Some(m),
            Role::Leaving(m) => select.leave != Some(m),
            _ => true,
        });
        let mut id = 0;
        for e in &mut self.entries {
            if !select.includes(e) {
                continue;
            }
            if matches!(e.role, Role::Arriving(_)) {
                e.role = Role::Live;
            }
            e.did = Some(id);
            id += 1;
            e.dirty = false;
            e.inherited = false;
            if e.attrs.iter().any(|a| a.dirty || a.data.is_none()) {
                e.attrs.change(|attrs| {
                    attrs.retain(|a| a.data.is_some());
                    attrs.iter_mut().for_each(|a| a.dirty = false);
                });
            }
        }
        self.disk_count = id;
        self.size = self.entries.iter().map(Entry::weight).sum();
        self.attr_count = self.entries.iter().map(|e| e.attrs.len()).sum();
    }

    /// Entry `id` of the log was deleted by a commit of its own.
    pub fn deleted_on_disk(&mut self, id: u16) {
        if let Some(at) = self.entries.iter().position(|e| e.did == Some(id)) {
            self.remove(at);
        }
        self.disk_count = self.disk_count.saturating_sub(1);
        for e in &mut self.entries {
            e.did = e.did.map(|did| if did > id { did - 1 } else { did });
        }
    }

    /// Directory `dir` has other blocks now.
    pub fn readdress_dir(&mut self, id: DirId, blocks: Pair) {
        for e in &mut self.entries {
            if let Data::Dir { pair, dir: Some(d) } = &mut e.data
                && *d == id
            {
                *pair = blocks;
            }
        }
    }

    /// Put entries that are all on disk into another order, given as ids; the ids stay theirs.
    pub fn reorder(&mut self, order: &[u16]) {
        self.entries.sort_by_key(|e| order.iter().position(|o| Some(*o) == e.did));
    }

    /// What is on disk was written in another order, given as ids before.
    pub fn renumber(&mut self, order: &[u16]) {
        for e in &mut self.entries {
            let new = order.iter().position(|o| Some(*o) == e.did);
            e.did = e.did.and(new.and_then(|id| u16::try_from(id).ok()));
        }
    }

    /// The pair was written as an empty one: nothing of it is on disk.
    pub fn nothing_on_disk(&mut self) {
        self.disk_count = 0;
        self.entries.iter_mut().for_each(|e| e.did = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log::{Parsed, parse_packed};

    /// A log with two entries, of which the second has two attributes. Before its content, it had
    /// `before` bytes of other content.
    fn log(before: usize) -> Log<Packed> {
        let block_size = 8192;
        let mut w = Writer::compact(Layout { block_size, prog_size: 16, fcrc: false }, 1);
        for (id, name) in [(0, b"a1"), (1, b"b2")] {
            w.tag(tag::REG, id, name);
            for start in (0..before).step_by(500) {
                Content::Inline(&vec![7; 500.min(before - start)]).put(id, &mut w);
            }
            Content::Inline(b"data").put(id, &mut w);
        }
        w.tag(tag::USERATTR + 1, 1, b"attr");
        w.tag(tag::USERATTR + 2, 1, b"");
        let bytes = w.finish().expect("it fits").bytes;
        match parse_packed(&bytes, bytes.len()) {
            Parsed::Log(log) => log,
            other => panic!("no log: {other:?}"),
        }
    }

    fn check(mdir: &Mdir) {
        let e = &mdir.entries[1];
        assert_eq!(*e.name, *b"b2");
        assert_eq!(e.data, Data::Inline((*b"data").into()));
        let attrs: Vec<(u8, &[u8])> = e.present().collect();
        assert_eq!(attrs, [(1, &b"attr"[..]), (2, b"")]);
        assert_eq!(mdir.entries.iter().map(Entry::size_on_disk).sum::<u32>(), mdir.size());
        assert_eq!(mdir.entries.iter().map(|e| e.attrs.len()).sum::<usize>(), mdir.attr_count);
    }

    #[test]
    fn entries_share_their_log_unless_it_is_much_longer() {
        for (before, is_shared) in [(0, true), (200, true), (400, false), (3000, false)] {
            let log = log(before);
            let mdir = Mdir::from_log(&log);
            check(&mdir);
            assert_eq!(log.entries.is_shared(), is_shared, "{before}");
            assert!(mdir.footprint() < 2048);
        }
    }

    #[test]
    fn an_entry_that_is_inserted_keeps_no_other_log_in_memory() {
        let log = log(0);
        let mut source = Mdir::from_log(&log);
        let mut target = Mdir::default();
        for at in 0..2 {
            target.insert(at, source.remove(0));
        }
        check(&target);
        assert!(!log.entries.is_shared());
    }
}
