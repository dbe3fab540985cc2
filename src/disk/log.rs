//! Reading a metadata block: replaying its commits (SPEC: Directories / Metadata pairs).

use super::{GState, Pair, Tag, Tail, crc, read_u32_le, tag};

/// What a metadata log holds after its last valid commit.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Revision count.
    pub rev: u32,
    /// End of the last valid commit, padding included, in bytes from the block's start.
    pub off: u32,
    /// What the next commit's first tag is XORed with.
    pub etag: u32,
    /// Entries by id; one without a name type keeps its id's place only.
    pub entries: Vec<RawEntry>,
    /// The tail, if one was ever written.
    pub tail: Option<Tail>,
    /// This pair's delta of the global state.
    pub gdelta: GState,
    /// The forward CRC of the last commit: size in bytes, CRC.
    pub fcrc: Option<(u32, u32)>,
    /// Bitwise OR of the ends of all commits: its trailing zeros tell the writer's prog size.
    pub ends: u32,
    /// Whether it holds tags that no driver writes, which some may stumble over.
    pub odd: bool,
    /// Commits replayed.
    pub commits: u32,
    /// CRCs of all commits folded together: differs whenever the content does.
    pub seed: u32,
}

/// One id of a log.
#[derive(Debug, Clone, Default)]
pub struct RawEntry {
    /// Type of the name tag, if a name was written.
    pub name_type: Option<u16>,
    /// The name.
    pub name: Box<[u8]>,
    /// Type and data of the struct.
    pub data: Option<(u16, Box<[u8]>)>,
    /// User attributes: type and data, in the order written.
    pub attrs: Vec<(u8, Box<[u8]>)>,
}

/// Outcome of [`parse`].
#[derive(Debug, Clone)]
pub enum Parsed {
    /// The log goes on after the bytes given: read more and parse again.
    NeedMore,
    /// No commit is valid; the revision, if the bytes hold one.
    Empty,
    /// At least one commit is valid.
    Log(Box<Log>),
}

/// Replay the metadata log in `bytes`, which are the first bytes of a block of `block_size`.
///
/// Never fails on any input: what follows the last valid commit is not read.
pub fn parse(bytes: &[u8], block_size: usize) -> Parsed {
    let limit = block_size.min(bytes.len());
    let partial = limit < block_size;
    let Some(rev) = read_u32_le(bytes, 0) else {
        return if partial { Parsed::NeedMore } else { Parsed::Empty };
    };
    let mut log = Log { rev, seed: rev, ..Log::default() };
    let mut ptag = tag::FIRST;
    let mut off = 4;
    // where the commit being read starts, and its tags, applied once its CRC holds
    let mut start = 0;
    let mut commit: Vec<(Tag, usize)> = Vec::with_capacity(limit / 32);
    loop {
        let Some(raw) = bytes[..limit].get(off..off + 4) else {
            if partial {
                return Parsed::NeedMore;
            }
            break;
        };
        let t = Tag(u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]) ^ ptag);
        if !t.is_valid() {
            break;
        }
        let data_at = off + 4;
        let next = data_at + t.size() as usize;
        if next > block_size {
            break;
        }
        ptag = t.0;
        if t.is_ccrc() {
            let Some(stored) = read_u32_le(&bytes[..limit], data_at) else {
                if partial && data_at + 4 <= block_size {
                    return Parsed::NeedMore;
                }
                break;
            };
            let sum = crc::crc(crc::SEED, &bytes[start..data_at]);
            if stored != sum {
                break;
            }
            if commit.iter().filter(|(t, _)| t.type3() == tag::CREATE).count() + log.entries.len()
                > usize::from(tag::ID_NONE)
            {
                // more ids than a tag can name
                break;
            }
            log.seed = crc::crc(log.seed, &sum.to_le_bytes());
            log.commits += 1;
            log.fcrc = None;
            for (t, at) in commit.drain(..) {
                apply(&mut log, t, &bytes[at..at + t.size() as usize]);
            }
            ptag ^= u32::from(t.chunk() & 1) << 31;
            log.off = next as u32;
            log.ends |= log.off;
            log.etag = ptag;
            start = next;
        } else {
            if next > limit {
                return Parsed::NeedMore;
            }
            commit.push((t, data_at));
        }
        off = next;
    }
    if log.off == 0 { Parsed::Empty } else { Parsed::Log(Box::new(log)) }
}

/// Let one tag of a valid commit take effect.
fn apply(log: &mut Log, t: Tag, data: &[u8]) {
    let id = usize::from(t.id());
    let has_id = t.id() != tag::ID_NONE;
    log.odd |= match t.type3() {
        tag::DELETE => id >= log.entries.len(),
        tag::MOVESTATE => data.len() < usize::from(GState::SIZE),
        _ => match t.type1() {
            tag::TAIL => data.len() < 8,
            tag::NAME | tag::STRUCT | tag::USERATTR => !has_id,
            _ => false,
        },
    };
    match (t.type1(), t.type3()) {
        (tag::NAME, ty) if has_id => {
            // an id may appear without a CREATE tag: after a compaction none has one
            if id >= log.entries.len() {
                log.entries.resize_with(id + 1, RawEntry::default);
            }
            if let Some(e) = log.entries.get_mut(id) {
                e.name_type = Some(ty);
                e.name = data.into();
            }
        }
        (_, tag::CREATE) if has_id && log.entries.len() < usize::from(tag::ID_NONE) => {
            if id > log.entries.len() {
                log.entries.resize_with(id, RawEntry::default);
            }
            log.entries.insert(id, RawEntry::default());
        }
        (_, tag::DELETE) if id < log.entries.len() => {
            log.entries.remove(id);
        }
        (tag::STRUCT, ty) => {
            if let Some(e) = log.entries.get_mut(id) {
                e.data = (!t.is_deleted()).then(|| (ty, data.into()));
            }
        }
        (tag::USERATTR, _) => {
            if let Some(e) = log.entries.get_mut(id) {
                e.attrs.retain(|(ty, _)| *ty != t.chunk());
                if !t.is_deleted() {
                    e.attrs.push((t.chunk(), data.into()));
                }
            }
        }
        (tag::TAIL, ty) => {
            if let Some(pair) = Pair::from_bytes(data) {
                log.tail = Some(Tail { pair, hard: ty & 1 != 0 });
            }
        }
        (_, tag::MOVESTATE) => {
            if let Some(delta) = GState::from_bytes(data) {
                log.gdelta = delta;
            }
        }
        (_, tag::FCRC) => {
            log.fcrc = read_u32_le(data, 0).zip(read_u32_le(data, 4));
        }
        _ => {}
    }
}
