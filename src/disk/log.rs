//! Reading a metadata block by replaying its commits (SPEC: Directories / Metadata pairs).

mod ids;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::num::{low32, widen};
use super::part::Part;
use super::{GState, Pair, Tag, Tail, crc, read_u32_be, read_u32_le, tag};
use crate::bd::BLOCK_SIZE_MAX;
use ids::Ids;
pub use ids::{Packed, PackedEntry};

/// What a metadata log holds after its last valid commit.
///
/// Its entries are either a list or still [`Packed`].
#[derive(Debug, Clone, Default)]
pub struct Log<E = Vec<RawEntry>> {
    /// Revision count.
    pub rev: u32,
    /// End of the last valid commit, with its padding, in bytes from the start of the block.
    pub off: u32,
    /// The value with which the first tag of the next commit is XORed.
    pub etag: u32,
    /// Entries, at the index of their id. An entry without a name type only keeps the place of its
    /// id.
    pub entries: E,
    /// The tail, if one was ever written.
    pub tail: Option<Tail>,
    /// This pair's delta of the global state.
    pub gdelta: GState,
    /// The forward CRC of the last commit: how many bytes it covers, and the CRC.
    pub fcrc: Option<(u32, u32)>,
    /// Bitwise OR of the ends of all commits. Its trailing zeros show the program size of the
    /// writer.
    pub ends: u32,
    /// The first thing in the log that no driver writes, and that some drivers may not cope with.
    pub oddity: Option<Oddity>,
    /// How many commits were replayed.
    pub commits: u32,
    /// A checksum of the CRCs of all commits, which is different for different content.
    pub seed: u32,
    /// Why there are no more commits.
    pub end: LogFault,
}

/// Why a log ends: what is wrong with the commit that would come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFault {
    /// There is no room for another tag, or not even for the revision.
    Full,
    /// Nothing was written there: the next tag reads 0xFF, and so do all bytes that the forward CRC
    /// of the last commit covers.
    #[default]
    Erased,
    /// A tag of the commit is not valid.
    NoTag,
    /// A tag of the commit, or its data, reaches beyond the block.
    TagTooLong,
    /// The CRC of the commit does not match its bytes.
    WrongCrc,
    /// It creates more entries than there are ids.
    TooManyEntries,
}

impl fmt::Display for LogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the block ends before the first commit does",
            Self::Erased | Self::NoTag => "it does not begin with a commit",
            Self::TagTooLong => "a tag of the first commit reaches beyond the block",
            Self::WrongCrc => "the CRC of the first commit does not match its bytes",
            Self::TooManyEntries => "the first commit has too many entries",
        })
    }
}

/// Something in a valid commit that no driver writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// A name, struct or attribute of no entry: its tag has the id 0x3ff.
    NoEntry,
    /// The deletion of this id, although there are not so many entries.
    DeleteBeyond(u16),
    /// A tail with less than the 8 bytes of a pair.
    ShortTail,
    /// A delta of the global state with less than its 12 bytes.
    ShortDelta,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry => f.write_str("a tag of an entry that has no id"),
            Self::DeleteBeyond(id) => write!(f, "the deletion of entry {id}, which does not exist"),
            Self::ShortTail => f.write_str("a tail that is too short for a pair"),
            Self::ShortDelta => f.write_str("a delta of the global state that is too short"),
        }
    }
}

impl<E> Log<E> {
    /// The same log, with its entries in another form.
    fn map<F>(self, form: impl FnOnce(E) -> F) -> Log<F> {
        Log {
            entries: form(self.entries),
            rev: self.rev,
            off: self.off,
            etag: self.etag,
            tail: self.tail,
            gdelta: self.gdelta,
            fcrc: self.fcrc,
            ends: self.ends,
            oddity: self.oddity,
            commits: self.commits,
            seed: self.seed,
            end: self.end,
        }
    }
}

impl Log<Packed> {
    /// The same log with a list of its entries. They share the bytes of the log.
    pub fn unpack(self) -> Log {
        self.map(|packed| packed.unpack())
    }
}

impl Log {
    /// Put the entries into the given order. `order` lists their present ids.
    pub fn reorder(&mut self, order: &[u16]) {
        let mut entries = std::mem::take(&mut self.entries);
        let take = |&id: &u16| entries.get_mut(usize::from(id)).map(std::mem::take);
        self.entries = order.iter().filter_map(take).collect();
    }
}

/// What a log holds for one id. The entries that [`parse`] returns share the bytes of the log.
#[derive(Debug, Clone, Default)]
pub struct RawEntry {
    /// Type of the name tag, if a name was written.
    pub name_type: Option<u16>,
    /// The name.
    pub name: Part,
    /// Type and data of the struct.
    pub data: Option<(u16, Part)>,
    /// User attributes: type and data, in the order in which they were written.
    pub attrs: Part<(u8, Part)>,
}

/// Outcome of [`parse`].
#[derive(Debug, Clone)]
pub enum Parsed<L = Box<Log>> {
    /// The log continues beyond the given bytes: read more and parse again.
    NeedMore,
    /// No commit is valid, for this reason.
    Empty(LogFault),
    /// At least one commit is valid.
    Log(L),
}

/// Replay the metadata log in `bytes`, the first bytes of a block of `block_size` bytes.
///
/// This accepts any input: the log ends before the first commit that is not valid. The number of
/// allocations does not depend on the number of entries.
pub fn parse(bytes: &[u8], block_size: usize) -> Parsed {
    replay(bytes, block_size, |_, _| ())
}

/// Like [`parse`], for callers that may not need the entries.
pub fn parse_packed(bytes: &[u8], block_size: usize) -> Parsed<Log<Packed>> {
    replay_packed(bytes, block_size, |_, _| ())
}

/// Like [`parse_packed`], for a log that ends with these bytes, which are not copied. `None` if no
/// commit is valid.
pub fn parse_shared(bytes: Arc<[u8]>) -> Option<Log<Packed>> {
    match replay_ids(&bytes, bytes.len(), |_, _| ()) {
        Parsed::Log((log, ids)) => Some(log.map(|()| ids.pack(bytes))),
        Parsed::Empty(_) | Parsed::NeedMore => None,
    }
}

/// One step of a log's replay.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A tag of a valid commit, with its data. The log contains its effect.
    Tag(Tag, &'a [u8]),
    /// The end of that commit. What the log holds now is what a driver would have found at that
    /// time.
    Commit,
}

/// A log that is being replayed.
pub struct Replay<'a> {
    bytes: &'a [u8],
    /// What the log holds up to here, except for its entries, which are in `ids`.
    log: Log<()>,
    ids: Ids,
}

impl Replay<'_> {
    /// The last tail that was written up to here.
    pub fn tail(&self) -> Option<Tail> {
        self.log.tail
    }

    /// The number of ids.
    pub fn id_count(&self) -> usize {
        self.ids.len()
    }

    /// The type of the name tag of an id, if it has one.
    pub fn name_type(&self, id: usize) -> Option<u16> {
        self.ids.name_type(id)
    }

    /// A copy of what the log holds for an id.
    pub fn entry(&self, id: usize) -> Option<RawEntry> {
        self.ids.entry(id, self.bytes)
    }

    /// Apply the tags of a valid commit, each with the place of its data. `sum` is the CRC of the
    /// commit.
    fn apply_commit(
        &mut self,
        commit: &[(Tag, u32)],
        sum: u32,
        seen: &mut impl FnMut(&Self, Step<'_>),
    ) {
        self.log.seed = crc::crc(self.log.seed, &sum.to_le_bytes());
        self.log.commits = self.log.commits.saturating_add(1);
        self.log.fcrc = None;
        for &(t, at) in commit {
            let start = widen(at);
            let data = &self.bytes[start..start.saturating_add(widen(t.size()))];
            self.apply(t, at, data);
            seen(self, Step::Tag(t, data));
        }
    }

    /// Apply one tag of a valid commit. Its data starts at byte `at`.
    fn apply(&mut self, t: Tag, at: u32, data: &[u8]) {
        let Self { log, ids, .. } = self;
        let mut oddity = None;
        match (t.type1(), t.type3()) {
            (tag::NAME, _) => {
                oddity = (t.id() == tag::ID_NONE).then_some(Oddity::NoEntry);
                ids.set_name(t, at);
            }
            (tag::STRUCT, _) => {
                oddity = (t.id() == tag::ID_NONE).then_some(Oddity::NoEntry);
                ids.set_struct(t, at);
            }
            (tag::USERATTR, _) => {
                oddity = (t.id() == tag::ID_NONE).then_some(Oddity::NoEntry);
                ids.set_attr(t, at);
            }
            (_, tag::CREATE) => ids.create(t.id()),
            (_, tag::DELETE) => {
                let is_beyond = usize::from(t.id()) >= ids.len();
                oddity = is_beyond.then_some(Oddity::DeleteBeyond(t.id()));
                ids.delete(t.id());
            }
            (tag::TAIL, ty) => match Pair::from_bytes(data) {
                Some(pair) => log.tail = Some(Tail { pair, hard: ty & 1 != 0 }),
                None => oddity = Some(Oddity::ShortTail),
            },
            (_, tag::MOVESTATE) => match GState::from_bytes(data) {
                Some(delta) => log.gdelta = delta,
                None => oddity = Some(Oddity::ShortDelta),
            },
            (_, tag::FCRC) => {
                log.fcrc = read_u32_le(data, 0).zip(read_u32_le(data, 4));
            }
            _ => {}
        }
        log.oddity = log.oddity.or(oddity);
    }
}

/// Like [`parse`], and call `seen` for each step in the order of the log, with what the log holds
/// after the step. Only complete commits are replayed. Between two tags of a commit, the log is in
/// a state that never existed on disk, because each CREATE and DELETE shifts ids.
pub fn replay(bytes: &[u8], block_size: usize, seen: impl FnMut(&Replay<'_>, Step<'_>)) -> Parsed {
    match replay_packed(bytes, block_size, seen) {
        Parsed::NeedMore => Parsed::NeedMore,
        Parsed::Empty(why) => Parsed::Empty(why),
        Parsed::Log(log) => Parsed::Log(Box::new(log.unpack())),
    }
}

fn replay_packed(
    bytes: &[u8],
    block_size: usize,
    seen: impl FnMut(&Replay<'_>, Step<'_>),
) -> Parsed<Log<Packed>> {
    match replay_ids(bytes, block_size, seen) {
        Parsed::NeedMore => Parsed::NeedMore,
        Parsed::Empty(why) => Parsed::Empty(why),
        Parsed::Log((log, ids)) => {
            let end = bytes.len().min(widen(log.off));
            Parsed::Log(log.map(|()| ids.pack(bytes[..end].into())))
        }
    }
}

/// Replay a log. The result is what it holds, apart from its ids, and the ids.
fn replay_ids(
    bytes: &[u8],
    block_size: usize,
    mut seen: impl FnMut(&Replay<'_>, Step<'_>),
) -> Parsed<(Log<()>, Ids)> {
    let size = block_size.min(widen(BLOCK_SIZE_MAX));
    let bytes = &bytes[..bytes.len().min(size)];
    let block = Block { bytes, size };
    let Some(rev) = read_u32_le(bytes, 0) else {
        return if block.is_partial() { Parsed::NeedMore } else { Parsed::Empty(LogFault::Full) };
    };
    let log = Log { rev, seed: rev, etag: tag::FIRST, ..Log::default() };
    let mut now = Replay { bytes, log, ids: Ids::with_capacity(bytes.len() / 64) };
    let mut tags = Vec::with_capacity(bytes.len() / 32);
    let end = loop {
        match block.read_commit(&now.log, &mut tags) {
            Next::NeedMore => return Parsed::NeedMore,
            Next::End(why) => break why,
            // a tag cannot hold so many ids
            Next::Commit(c)
                if c.creates > usize::from(tag::ID_NONE).saturating_sub(now.ids.len()) =>
            {
                break LogFault::TooManyEntries;
            }
            Next::Commit(commit) => {
                now.apply_commit(&tags, commit.sum, &mut seen);
                now.log.off = commit.end;
                now.log.ends |= commit.end;
                now.log.etag = commit.etag;
                seen(&now, Step::Commit);
            }
        }
    };
    let Replay { mut log, ids, .. } = now;
    log.end = end;
    if log.off == 0 {
        return Parsed::Empty(end);
    }
    Parsed::Log((log, ids))
}

/// A block whose log is read.
struct Block<'a> {
    /// All bytes of the block, or the first ones.
    bytes: &'a [u8],
    /// How many bytes the block has, at most [`BLOCK_SIZE_MAX`].
    size: usize,
}

/// What follows in a log.
enum Next {
    /// The log continues beyond the given bytes.
    NeedMore,
    /// No valid commit follows, for this reason.
    End(LogFault),
    /// A valid commit follows.
    Commit(Commit),
}

/// A commit whose CRC is right.
struct Commit {
    /// Its CRC.
    sum: u32,
    /// How many ids it creates.
    creates: usize,
    /// Where it ends, with its padding.
    end: u32,
    /// The value with which the first tag of the next commit is XORed.
    etag: u32,
}

impl Block<'_> {
    /// Read the commit that follows what `log` holds, and replace `tags` by its tags, each with the
    /// place of its data. They may be applied only if this returns a commit, because a torn commit
    /// must not have any effect.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "`off` is at most `BLOCK_SIZE_MAX`, far below 2^32, and each tag creates one id"
    )]
    fn read_commit(&self, log: &Log<()>, tags: &mut Vec<(Tag, u32)>) -> Next {
        tags.clear();
        let (start, mut ptag, mut creates) = (log.off, log.etag, 0);
        // the revision count is part of the first commit
        let mut off = widen(start.max(4));
        loop {
            let data_at = off + 4;
            let Some(word) = read_u32_be(self.bytes, off) else {
                return match (self.is_partial(), tags.is_empty()) {
                    (true, _) => Next::NeedMore,
                    (false, true) => Next::End(LogFault::Full),
                    (false, false) => Next::End(LogFault::TagTooLong),
                };
            };
            let t = Tag(word ^ ptag);
            let next = data_at + widen(t.size());
            if !t.is_valid() {
                return if tags.is_empty() { self.end_of(log) } else { Next::End(LogFault::NoTag) };
            }
            if next > self.size {
                return Next::End(LogFault::TagTooLong);
            }
            if t.is_ccrc() {
                return self.check_commit(widen(start), t, data_at, creates);
            }
            if next > self.bytes.len() {
                return Next::NeedMore;
            }
            creates += usize::from(t.type3() == tag::CREATE);
            tags.push((t, low32(data_at)));
            (off, ptag) = (next, t.0);
        }
    }

    /// Why no commit follows what `log` holds. What is in the place of its first tag is not a valid
    /// tag.
    fn end_of(&self, log: &Log<()>) -> Next {
        let start = widen(log.off.max(4));
        // an erased tag alone proves nothing: its bytes may have changed
        let covered = log.fcrc.map_or(0, |(size, _)| widen(size)).max(4);
        let end = start.saturating_add(covered).min(self.size);
        let bytes = &self.bytes[start.min(self.bytes.len())..end.min(self.bytes.len())];
        match bytes.iter().all(|&byte| byte == 0xff) {
            true if end > self.bytes.len() => Next::NeedMore,
            true => Next::End(LogFault::Erased),
            false => Next::End(LogFault::NoTag),
        }
    }

    /// Check the commit at byte `start`. Its last tag is `t`, whose data, the CRC, is at byte `at`.
    fn check_commit(&self, start: usize, t: Tag, at: usize, creates: usize) -> Next {
        let Some(stored) = read_u32_le(self.bytes, at) else {
            let in_block = at.saturating_add(4) <= self.size;
            return if self.is_partial() && in_block {
                Next::NeedMore
            } else {
                Next::End(LogFault::TagTooLong)
            };
        };
        let sum = crc::crc(crc::SEED, &self.bytes[start..at]);
        if stored != sum {
            return Next::End(LogFault::WrongCrc);
        }
        let end = low32(at).saturating_add(t.size());
        let etag = t.0 ^ (u32::from(t.chunk() & 1) << 31);
        Next::Commit(Commit { sum, creates, end, etag })
    }

    /// Whether the block has more bytes than were given.
    fn is_partial(&self) -> bool {
        self.bytes.len() < self.size
    }
}

/// The state of the search for a name.
#[derive(Clone, Copy)]
struct Best {
    tag: Tag,
    /// Whether `tag` has the name. If not, the name would be inserted where `tag` is.
    found: bool,
}

/// The id under which the C driver finds `name` in the block `bytes`, up to its last valid commit.
/// `None` if it does not find it.
///
/// If several entries have the name, the order of the log decides, not the order of the ids. The
/// last one in the log counts, unless it was deleted later, or a greater name was written later
/// under an id that is not higher. This is what `lfs_dir_fetchmatch` does with
/// `lfs_dir_find_match`.
pub fn find_as_c(bytes: &[u8], name: &[u8]) -> Option<u16> {
    let mut best: Option<Best> = None;
    let at_most = |t: Tag, best: Option<Best>| best.is_none_or(|b| t.id() <= b.tag.id());
    replay(bytes, bytes.len(), |_, step| {
        let Step::Tag(t, data) = step else { return };
        let splice = match t.type3() {
            tag::DELETE => -1,
            tag::CREATE => 1,
            _ => 0,
        };
        match &mut best {
            Some(b) if splice < 0 && t.id() == b.tag.id() => b.found = false,
            Some(b) if splice != 0 && t.id() <= b.tag.id() => {
                b.tag = Tag::new(b.tag.type3(), b.tag.id().saturating_add_signed(splice), 0);
            }
            _ => {}
        }
        // this takes names of files, of directories and of unknown types, but not of superblocks
        if t.type1() != tag::NAME || t.chunk() & 0x80 != 0 {
            return;
        }
        // the comparison of the C driver: if one name is a prefix of the other, the longer one is
        // less
        match super::name::cmp(data, name) {
            Ordering::Equal => best = Some(Best { tag: t, found: true }),
            _ if best.is_some_and(|b| b.tag.type3() == t.type3() && b.tag.id() == t.id()) => {
                best = None;
            }
            Ordering::Greater if at_most(t, best) => best = Some(Best { tag: t, found: false }),
            _ => {}
        }
    });
    best.filter(|b| b.found).map(|b| b.tag.id())
}

/// The order in which the ids of `log`, which was read from the block `bytes`, must be written so
/// that the C driver still finds the same entry under each name. The entry that it finds now must
/// be written after all others of that name. `None` if this order is the present one.
pub fn order_as_c(log: &Log, bytes: &[u8]) -> Option<Vec<u16>> {
    let mut last: HashMap<&[u8], usize> = HashMap::new();
    let mut doubles: HashSet<&[u8]> = HashSet::new();
    for (i, e) in log.entries.iter().enumerate().filter(|(_, e)| e.name_type.is_some()) {
        if last.insert(&*e.name, i).is_some() {
            doubles.insert(&*e.name);
        }
    }
    let mut order: Vec<u16> = (0..).take(log.entries.len()).collect();
    let mut changed = false;
    for name in doubles {
        let found = find_as_c(bytes, name).and_then(|id| order.iter().position(|&o| o == id));
        let is_it = |&id: &u16| log.entries.get(usize::from(id)).is_some_and(|e| *e.name == *name);
        if let (Some(from), Some(to)) = (found, order.iter().rposition(is_it))
            && from < to
        {
            order[from..=to].rotate_left(1);
            changed = true;
        }
    }
    changed.then_some(order)
}
