//! A metadata pair in memory: its entries as the next flush will write them, and which of them are
//! on disk already.
//!
//! Operations change the entries. [`Mdir::encode_append`] encodes the difference between memory and
//! disk as one commit, and [`Mdir::encode_compact`] encodes everything as one commit. Nothing here
//! does I/O.

pub mod store;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::disk::commit::{BlockFull, Commit, Layout, Writer};
use crate::disk::entry::Content;
use crate::disk::log::{Log, Packed, PackedEntry};
use crate::disk::{BLOCK_NULL, GState, List, Pair, Part, Tail, name, part, tag};
use crate::error::{Corrupt, StructFault};
use crate::slots::SlotId;

/// A directory, during one mount. No other directory ever gets the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId(pub(crate) SlotId);

impl DirId {
    /// How often a place in the table of directories can be used. With this limit, [`Self::number`]
    /// fits into 48 bits.
    pub(crate) const USES: u32 = 1 << 16;

    /// A number below 2^48 that no other directory has or ever had. It is 0 for the root, and small
    /// for the directories that were added first.
    pub fn number(self) -> u64 {
        self.0.number()
    }
}

/// An open file. No other open file ever gets the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(crate) SlotId);

/// A pending move of an entry that is on disk from one pair to another.
pub type MoveId = u32;

/// How many bytes a compacted pair keeps free beside its entries: for the revision, tail, global
/// state and CRC.
pub const RESERVED: u32 = 40;
/// How many bytes a commit that is appended takes beside its entries, without padding: a tail (12),
/// the global state (16), the forward CRC (12), and the CRC (8).
const APPENDED_MAX: u32 = 48;
/// If the log has this many bytes more than twice what its entries need, the entries get a copy of
/// their bytes, so that the log need not stay in memory.
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
    /// The superblock entry, id 0 of the root. It is never shown.
    Superblock,
    /// A type of name that this library does not know. It is kept, but never shown.
    Other(u16),
    /// An id that has content but no name. It is kept, but never shown. The C driver counts its
    /// blocks as used.
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

/// If other entries of the directory have the same name: whether the C driver finds this entry by
/// the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Double {
    /// No other entry is known to have the name.
    No,
    /// The C driver opens this entry.
    Found,
    /// The C driver opens another entry. This one is kept, but not shown.
    Hidden,
}

/// An entry's struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The content itself.
    Inline(Part),
    /// A CTZ list. The head is null as long as the first blocks of the file are not written.
    Ctz(List),
    /// A directory's first pair.
    Dir {
        /// The pair, as the entry names it.
        pair: Pair,
        /// The directory at that pair; `None` if the pair cannot be read.
        dir: Option<DirId>,
    },
    /// Anything else. It is kept as it was found.
    Raw(u16, Part),
    /// There is no struct.
    Missing,
}

impl Data {
    /// A file with blocks, none of which is written yet.
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

    /// Make copies of the bytes that it shares with others.
    pub fn detach(&mut self) {
        if let Some(bytes) = self.part() {
            bytes.detach();
        }
    }

    /// Its bytes, if it holds any. They may be shared.
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

/// A user attribute. If it has no data, it will be deleted.
#[derive(Debug, Clone)]
pub struct Attr {
    /// Its type.
    pub ty: u8,
    /// Its data.
    pub data: Option<Part>,
    /// Whether this value is not on disk yet.
    pub dirty: bool,
}

impl Attr {
    /// How many bytes of a compacted pair it takes.
    fn size_on_disk(&self) -> u32 {
        self.data.as_ref().map_or(0, |data| 4 + data.len() as u32)
    }

    /// Make copies of the bytes that it shares with others.
    pub fn detach(&mut self) {
        if let Some(data) = &mut self.data {
            data.detach();
        }
    }
}

/// The role of an entry in pending moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes part in no move.
    Live,
    /// It moves to this pair. On disk, it is still in the source pair.
    Arriving(MoveId),
    /// It moves to another pair. On disk, it is still in this pair.
    Leaving(MoveId),
    /// The arriving entry of the same name will replace it. On disk, it is still in this pair.
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
    /// The open file that holds its changed content.
    pub file: Option<FileId>,
    /// Its role in pending moves.
    pub role: Role,
    /// Its id on disk.
    pub did: Option<u16>,
    /// Whether `data` is not on disk yet.
    pub dirty: bool,
    /// Whether this entry is still on disk in the pair from which it was split off. This ends when
    /// the split is flushed.
    pub inherited: bool,
    /// How many of its bytes are not counted, because they are counted for the arriving entry that
    /// replaces it.
    pub discount: u32,
    /// Whether other entries have the same name.
    pub double: Double,
}

impl Entry {
    /// A new entry, which is not on disk anywhere.
    pub fn new(name: &[u8], kind: Kind, data: Data) -> Self {
        Self::with_name(name.into(), kind, data)
    }

    /// The entry that has the id `did` on disk, without its attributes.
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

    /// The error for an entry whose struct does not say where its content is.
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

    /// Make copies of the bytes that it shares with others, so that it does not keep a whole log in
    /// memory.
    pub fn detach(&mut self) {
        self.name.detach();
        self.data.detach();
        for a in self.attrs.make_mut() {
            a.detach();
        }
    }

    /// How many bytes of a compacted pair it takes.
    pub fn size_on_disk(&self) -> u32 {
        let attrs: u32 = self.attrs.iter().map(Attr::size_on_disk).sum();
        4 + self.name.len() as u32 + self.data.size_on_disk() + attrs
    }

    /// Its attributes, as types and data.
    pub fn present(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.attrs.iter().filter_map(|a| Some((a.ty, a.data.as_deref()?)))
    }

    /// How many bytes it adds to the pair.
    fn weight(&self) -> u32 {
        self.size_on_disk().saturating_sub(self.discount)
    }

    /// Whether it can be looked up and listed: it is a file or a directory, does not move away and
    /// will not be replaced, Linux can hold its name, and the C driver opens it by this name.
    pub fn is_visible(&self) -> bool {
        self.double != Double::Hidden && self.could_be_visible()
    }

    /// Whether it could be looked up and listed if no other entry had the same name.
    pub fn is_hidden_double(&self) -> bool {
        self.double == Double::Hidden && self.could_be_visible()
    }

    /// Whether it is visible, or only another entry of the same name hides it.
    pub fn could_be_visible(&self) -> bool {
        matches!(self.role, Role::Live | Role::Arriving(_))
            && matches!(self.kind, Kind::File | Kind::Dir)
            && name::is_presentable(&self.name)
    }

    /// Whether it has changed since it was written, or was never written.
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
    /// The commit to the target of this move: it writes the arriving entry, and deletes the
    /// replaced one.
    pub arrive: Option<MoveId>,
    /// The commit to the source of this move: it deletes the leaving entry.
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Revision of the active block.
    pub rev: u32,
    /// The end of the last commit, in bytes.
    pub off: u32,
    /// The value with which the first tag of the next commit is XORed.
    pub etag: u32,
}

impl LogEnd {
    /// Where this log ends.
    pub fn of<E>(log: &Log<E>) -> Self {
        Self { rev: log.rev, off: log.off, etag: log.etag }
    }
}

/// The entries of one metadata pair.
///
/// The entries that were read share the bytes of their log and one list of attributes. An entry
/// that is inserted later has its own copy, so that it does not keep the log of another pair in
/// memory.
#[derive(Debug, Clone, Default)]
pub struct Mdir {
    /// The entries, in the order of their ids.
    pub entries: Vec<Entry>,
    /// How many ids are in use on disk.
    disk_count: u16,
    /// How many bytes all entries take in a compacted pair.
    size: u32,
    /// How many attributes the entries have.
    attr_count: usize,
    /// An upper bound of the bytes that the entries share.
    shared: u32,
}

impl Mdir {
    /// The entries of a log.
    pub fn from_log(log: &Log<Packed>) -> Self {
        let disk_count = log.entries.len() as u16;
        // with room for two more entries, because otherwise adding one would copy all of them
        let mut entries = Vec::with_capacity(log.entries.len() + 2);
        let mut attrs: Vec<Attr> = Vec::new();
        // the index of each entry that has attributes, and the end of its attributes in `attrs`
        let mut ends: Vec<(usize, u32)> = Vec::new();
        for (id, packed) in (0..).zip(log.entries.iter()) {
            if packed.is_empty() {
                // nothing was ever stored with this id
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
        let mut mdir = Self { entries, disk_count, size, attr_count: attrs.len(), shared: log.off };
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
    /// give them copies of their own bytes, so that the rest of the log is freed.
    fn trim(&mut self, attrs: &mut [Attr]) {
        if self.shared > 2 * self.size + TRIM_MIN {
            let parts = self.entries.iter_mut().flat_map(|e| [Some(&mut e.name), e.data.part()]);
            part::gather(parts.chain(attrs.iter_mut().map(|a| a.data.as_mut())).flatten());
            self.shared = self.size;
        }
    }

    /// How many bytes all entries take in a compacted pair.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Approximately how many bytes of memory it takes.
    pub fn footprint(&self) -> usize {
        // this is called after every change, so it must not look at every entry
        self.entries.len() * size_of::<Entry>()
            + self.attr_count * size_of::<Attr>()
            + self.size.max(self.shared) as usize
            + 128
    }

    /// Whether it holds no entries at all, not even one that waits to move away.
    pub fn is_vacant(&self) -> bool {
        self.entries.is_empty()
    }

    /// The index of the entry `name` for which `is_it` is true. `sorted` says whether the entries
    /// are sorted.
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

    /// The place for `name` among sorted entries; it is after the superblock entry.
    pub fn lower_bound(&self, name: &[u8]) -> usize {
        self.entries.partition_point(|e| {
            e.kind == Kind::Superblock || name::cmp(&e.name, name) == Ordering::Less
        })
    }

    /// The place for `name` if the entries may be out of order: before the first greater name.
    pub fn first_greater(&self, name: &[u8]) -> Option<usize> {
        self.entries.iter().position(|e| {
            e.kind != Kind::Superblock && name::cmp(&e.name, name) == Ordering::Greater
        })
    }

    /// Whether, with `added` more entries and `grown` more bytes, it still has fewer entries than a
    /// pair that must be split, and at most `limit` bytes.
    pub fn takes(&self, added: usize, grown: u32, limit: u32) -> bool {
        self.size.saturating_add(grown) <= limit && self.entries.len() + added < COUNT_MAX
    }

    /// Insert `e` before the entry at `at`.
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

    /// Change the entry at `at`, and update the counts of sizes.
    pub fn update<R>(&mut self, at: usize, change: impl FnOnce(&mut Entry) -> R) -> R {
        let e = &mut self.entries[at];
        let (size, attr_count) = (self.size - e.weight(), self.attr_count - e.attrs.len());
        let r = change(e);
        (self.size, self.attr_count) = (size + e.weight(), attr_count + e.attrs.len());
        r
    }

    /// Split off the entries from `at` on. Their new pair is not on disk yet.
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

    /// Whether anything is not on disk yet, including moves.
    pub fn is_dirty(&self) -> bool {
        self.entries.iter().any(|e| e.role != Role::Live) || self.has_changes(&Select::ALL)
    }

    /// The difference from what is on disk, as a commit to append.
    ///
    /// # Errors
    /// [`BlockFull`] if the commit does not fit behind `end`, or there are too many entries.
    pub fn encode_append(
        &self,
        layout: Layout,
        end: LogEnd,
        select: &Select,
        tail: Option<Tail>,
        gdelta: Option<GState>,
    ) -> Result<Commit, BlockFull> {
        let mut w = Writer::append(layout, end.off, end.etag);
        let included = || self.entries.iter().filter(|e| select.includes(e));
        if included().count() >= COUNT_MAX {
            return Err(BlockFull);
        }
        if included().filter(|e| e.did.is_some()).count() < usize::from(self.disk_count) {
            let mut keep = vec![false; usize::from(self.disk_count)];
            for did in included().filter_map(|e| e.did) {
                if let Some(k) = keep.get_mut(usize::from(did)) {
                    *k = true;
                }
            }
            for id in (0..self.disk_count).rev().filter(|id| !keep[usize::from(*id)]) {
                w.tag(tag::DELETE, id, &[]);
            }
        }
        for (id, e) in included().enumerate() {
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

    /// Whether the commit of [`Self::encode_append`] certainly fits. This does not encode it.
    pub fn appends_certainly(&self, layout: Layout, end: LogEnd, select: &Select) -> bool {
        let mut kept = 0;
        let mut bytes = APPENDED_MAX;
        for e in self.entries.iter().filter(|e| select.includes(e)) {
            kept += u32::from(e.did.is_some());
            if e.is_dirty() {
                // a CREATE tag, and a tag for each attribute that is deleted
                bytes += 4 + e.size_on_disk() + 4 * e.attrs.len() as u32;
            }
        }
        // a DELETE tag for each of the others
        bytes += 4 * u32::from(self.disk_count).saturating_sub(kept);
        let all = end.off.saturating_add(bytes).checked_next_multiple_of(layout.prog_size);
        self.entries.len() < COUNT_MAX && all.is_some_and(|all| all <= layout.block_size)
    }

    /// Everything, as the first commit of an erased block.
    ///
    /// # Errors
    /// [`BlockFull`] if it does not fit into a block.
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
                // the id is created without a name
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

    /// Note that a commit of `select` is on disk. This updates the ids, marks what was written as
    /// clean, and finishes moves.
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

    /// Note that entry `id` of the log was deleted by a commit of its own.
    pub fn deleted_on_disk(&mut self, id: u16) {
        if let Some(at) = self.entries.iter().position(|e| e.did == Some(id)) {
            self.remove(at);
        }
        self.disk_count = self.disk_count.saturating_sub(1);
        for e in &mut self.entries {
            e.did = e.did.map(|did| if did > id { did - 1 } else { did });
        }
    }

    /// Note that the directory `dir` has other blocks now.
    pub fn readdress_dir(&mut self, id: DirId, blocks: Pair) {
        for e in &mut self.entries {
            if let Data::Dir { pair, dir: Some(d) } = &mut e.data
                && *d == id
            {
                *pair = blocks;
            }
        }
    }

    /// Put entries that are all on disk into another order, which is given as ids. The entries keep
    /// their ids.
    pub fn reorder(&mut self, order: &[u16]) {
        self.entries.sort_by_key(|e| order.iter().position(|o| Some(*o) == e.did));
    }

    /// Note that the entries were written to disk in this order. `order` lists the ids that they
    /// had before.
    pub fn renumber(&mut self, order: &[u16]) {
        for e in &mut self.entries {
            let new = order.iter().position(|o| Some(*o) == e.did);
            e.did = e.did.and(new.and_then(|id| u16::try_from(id).ok()));
        }
    }

    /// Note that the pair was written without entries, so nothing of it is on disk.
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
    fn a_commit_that_certainly_fits_can_be_appended() {
        let (tail, gdelta) = (Some(Tail::END), Some(GState::default()));
        let (mut certain, mut fits) = (0, 0);
        for (prog_size, off) in [4, 16, 256, 1024].into_iter().flat_map(|prog_size| {
            (0..=4096).step_by(prog_size as usize).map(move |off| (prog_size, off))
        }) {
            let layout = Layout { block_size: 4096, prog_size, fcrc: true };
            let end = LogEnd { off, ..LogEnd::default() };
            let mut mdir = Mdir::from_log(&log(0));
            mdir.remove(0);
            mdir.update(0, |e| {
                e.attrs.change(|attrs| {
                    attrs.iter_mut().for_each(|a| {
                        (a.data, a.dirty) = (None, true);
                    })
                })
            });
            mdir.insert(1, Entry::new(b"new", Kind::File, Data::Inline(vec![5; 99].into())));
            let is_certain = mdir.appends_certainly(layout, end, &Select::ALL);
            let appended = mdir.encode_append(layout, end, &Select::ALL, tail, gdelta);
            assert!(appended.is_ok() || !is_certain, "{prog_size} {off}");
            certain += u32::from(is_certain);
            fits += u32::from(appended.is_ok());
        }
        assert!(certain > fits * 9 / 10, "{certain} of {fits}");
    }

    #[test]
    fn an_inserted_entry_does_not_keep_its_old_log_in_memory() {
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
