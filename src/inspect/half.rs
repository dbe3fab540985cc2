//! One block of a metadata pair: its commits and tags, and what a driver would do next.

use serde::Serialize;

use super::hex;
use super::text::{snippet, superblock_words};
use crate::disk::dissect::{Commit, Dissection, Forward, Placed, Stop};
use crate::disk::entry::Content;
use crate::disk::{GState, List, Pair, Superblock, Tag, superblock, tag};
use crate::image::Dialect;
use crate::show::{self, Show};

/// Bytes that no commit can use, because the C driver reserves them for the CRC tag.
const RESERVED: u32 = 8;

/// Whether a tag still has an effect after everything that was written later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It has an effect.
    Live,
    /// It has no effect any more: a later tag has replaced it, or its entry was deleted, or it is
    /// the tag that ends a commit.
    Past,
    /// It has no effect: no valid CRC covers it, or its commit is hidden behind a damaged one.
    Torn,
}

/// One tag.
#[derive(Debug, Clone, Serialize)]
pub struct TagReport {
    /// Its offset in the block, in bytes; its data begins 4 bytes later.
    pub offset: u32,
    /// The 11-bit type.
    pub r#type: u16,
    /// Its name in SPEC.md, without `LFS_TYPE_`.
    pub name: &'static str,
    /// The id; `None` for tags of the pair itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Bytes of data; for a CRC tag, including the padding.
    pub size: u32,
    /// Whether the length field marks the attribute as deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Whether it has an effect.
    pub effect: Effect,
    /// The id that its entry has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_now: Option<u16>,
    /// What the data means.
    pub value: String,
    /// The data; for a CRC tag, only the CRC.
    pub data_hex: String,
}

/// A forward CRC, and whether the bytes after the commit still match it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ForwardReport {
    /// How many bytes it covers.
    pub size: u32,
    /// The CRC in the tag.
    pub stored: u32,
    /// The CRC of the bytes as they are now, if they are inside the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<u32>,
    /// Whether the two are equal.
    pub matches: bool,
}

/// One commit, or the tags after the last commit that a driver reads.
#[derive(Debug, Clone, Serialize)]
pub struct CommitReport {
    /// Its first byte in the block.
    pub offset: u32,
    /// The byte after its end, padding included.
    pub end: u32,
    /// Whether its CRC matches.
    pub valid: bool,
    /// Whether it is behind a commit whose CRC does not match. No driver reads it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// The CRC that is stored; `None` if there is no CRC tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_stored: Option<u32>,
    /// The CRC of the bytes as they are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_computed: Option<u32>,
    /// Bytes of padding at the end.
    pub padding: u32,
    /// Its forward CRC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fcrc: Option<ForwardReport>,
    /// All tags, in their order.
    pub tags: Vec<TagReport>,
}

/// The state of a half within its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HalfState {
    /// It is valid, and has the newer revision, so it is in force.
    Live,
    /// It is valid, but older.
    Superseded,
    /// No commit in it is valid.
    Invalid,
    /// It cannot be read.
    Unreadable,
}

impl HalfState {
    /// Whether it holds a valid commit.
    pub fn is_valid(self) -> bool {
        matches!(self, Self::Live | Self::Superseded)
    }
}

/// What a driver does with its next write to the pair.
#[derive(Debug, Clone, Serialize)]
pub struct AppendReport {
    /// Whether it appends a commit to this block; otherwise it compacts the pair into the other
    /// block.
    pub appends: bool,
    /// How many bytes a commit in this block may have.
    pub room: u32,
    /// The reason.
    pub reason: String,
}

/// One block of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct HalfReport {
    /// Its address.
    pub block: u32,
    /// Its state within the pair.
    pub state: HalfState,
    /// Its revision count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The commits that a driver reads, then one whose CRC does not match, if there is one, and the
    /// hidden ones behind it.
    pub commits: Vec<CommitReport>,
    /// The end of the last valid commit, in bytes from the start of the block.
    pub end: u32,
    /// How many bytes follow after that, up to the last byte that does not read 0xFF.
    pub trailing: u32,
    /// Why there are no more commits, in words.
    pub stop: String,
    /// What a driver does with its next write, if this half is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<AppendReport>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HalfReport {
    /// A report about a block that holds these bytes, in a dialect of version 2.
    pub(super) fn new(block: u32, bytes: &[u8], dialect: Dialect) -> Self {
        let mut half = Self {
            block,
            state: HalfState::Invalid,
            revision: None,
            commits: Vec::new(),
            end: 0,
            trailing: 0,
            stop: "too small for a revision".to_owned(),
            append: None,
            error: None,
        };
        let Some(mut taken) = Dissection::of(bytes) else { return half };
        let is_chamelon = dialect == Dialect::Chamelon;
        if is_chamelon {
            forget_zeros(&mut taken, bytes);
        }
        half.revision = Some(taken.rev);
        half.end = taken.end;
        half.trailing = taken.erased_from - taken.end;
        half.stop = stop_words(&taken);
        if !taken.commits.is_empty() {
            half.state = HalfState::Superseded;
        }
        let effects = if is_chamelon { taken.effects_of_fixed_ids() } else { taken.effects() };
        let mut effects = effects.into_iter();
        for commit in &taken.commits {
            half.commits.push(CommitReport::valid(commit, bytes, &mut effects));
        }
        if !taken.open.is_empty() {
            half.commits.push(CommitReport::torn(&taken, bytes));
        }
        half.commits.extend(taken.behind.iter().map(|commit| CommitReport::behind(commit, bytes)));
        half
    }

    /// A report about a block that cannot be read.
    pub(super) fn unreadable(block: u32, error: String) -> Self {
        let mut half = Self::new(block, &[], Dialect::Littlefs);
        half.state = HalfState::Unreadable;
        half.error = Some(error);
        half
    }

    /// Add the facts that hold only for the live half, in a filesystem with this superblock.
    pub(super) fn make_live(&mut self, bytes: &[u8], superblock: Option<Superblock>) {
        self.state = HalfState::Live;
        self.append =
            Dissection::of(bytes).map(|taken| AppendReport::of(&taken, bytes, superblock));
    }
}

/// Do not report zeros after the last commit. chamelon leaves them there, and reads no further.
fn forget_zeros(taken: &mut Dissection, bytes: &[u8]) {
    let behind = bytes.get(taken.end as usize..).unwrap_or_default();
    if behind.get(..4).is_none_or(|word| word == [0; 4]) {
        taken.open.clear();
        taken.behind.clear();
        taken.stop = Stop::Invalid;
        let written = behind.iter().rposition(|&b| b != 0).map_or(0, |at| at as u32 + 1);
        taken.erased_from = taken.end + written;
    }
}

impl AppendReport {
    /// This follows `lfs_dir_fetchmatch` and `lfs_dir_compact` of the C driver.
    fn of(taken: &Dissection, bytes: &[u8], superblock: Option<Superblock>) -> Self {
        let room = (bytes.len() as u32).saturating_sub(taken.end).saturating_sub(RESERVED);
        let forward = taken.commits.last().and_then(|commit| commit.forward);
        let fcrc = superblock.is_none_or(Superblock::has_fcrc);
        let stops_clean = taken.open.is_empty() && taken.stop == Stop::Invalid;
        let (appends, reason) = match forward {
            _ if room < 4 => (false, "the block is full".to_owned()),
            _ if !stops_clean => {
                let at = taken.end;
                (false, format!("the bytes at {at:#x} look like a tag, as after a torn commit"))
            }
            None if fcrc => (false, "the last commit has no forward CRC".to_owned()),
            Some(f) if fcrc && !f.matches() => (
                false,
                format!("the {} bytes after the last commit do not match its forward CRC", f.size),
            ),
            _ if taken.erased_from > taken.end => (
                true,
                "the next bytes are free; littlefs-progs compacts, because not all bytes after \
                 them are erased"
                    .to_owned(),
            ),
            Some(_) if fcrc => {
                (true, "the bytes after the last commit match its forward CRC".to_owned())
            }
            _ => (
                true,
                "nothing is written after the last commit, which has no forward CRC".to_owned(),
            ),
        };
        Self { appends, room, reason }
    }
}

impl CommitReport {
    fn valid(
        commit: &Commit,
        bytes: &[u8],
        effects: &mut impl Iterator<Item = Option<u16>>,
    ) -> Self {
        let is_superblock = names_superblock(&commit.tags, bytes);
        let tags: Vec<TagReport> = commit
            .tags
            .iter()
            .zip(effects)
            .map(|(placed, effect)| {
                let mut report = TagReport::new(*placed, bytes, is_superblock);
                report.effect = if effect.is_some() { Effect::Live } else { Effect::Past };
                report.id_now = effect.filter(|&id| id != tag::ID_NONE);
                report
            })
            .collect();
        let last = commit.tags.last().map_or(0, |placed| placed.tag.size());
        Self {
            offset: commit.start,
            end: commit.end,
            valid: true,
            hidden: false,
            crc_stored: Some(commit.stored),
            crc_computed: Some(commit.computed),
            padding: last.saturating_sub(4),
            fcrc: commit.forward.map(ForwardReport::from),
            tags,
        }
    }

    /// A commit that no driver reads, because it is behind a damaged one.
    fn behind(commit: &Commit, bytes: &[u8]) -> Self {
        let without_effect = |mut tag: TagReport| {
            tag.effect = Effect::Torn;
            tag
        };
        let report = Self::valid(commit, bytes, &mut std::iter::repeat(None));
        let tags = report.tags.into_iter().map(without_effect).collect();
        Self { valid: commit.is_valid(), hidden: true, tags, ..report }
    }

    /// The tags after the last valid commit.
    fn torn(taken: &Dissection, bytes: &[u8]) -> Self {
        let is_superblock = names_superblock(&taken.open, bytes);
        let (crc_stored, crc_computed) = match taken.stop {
            Stop::Mismatch { stored, computed } => (Some(stored), Some(computed)),
            _ => (None, None),
        };
        let behind = |placed: &Placed| placed.off + 4 + placed.tag.size();
        let tag = |placed: &Placed| TagReport::new(*placed, bytes, is_superblock);
        Self {
            offset: taken.end,
            end: taken.open.last().map_or(taken.end, behind),
            valid: false,
            hidden: false,
            crc_stored,
            crc_computed,
            padding: 0,
            fcrc: None,
            tags: taken.open.iter().map(tag).collect(),
        }
    }
}

impl From<Forward> for ForwardReport {
    fn from(forward: Forward) -> Self {
        let Forward { size, stored, computed } = forward;
        Self { size, stored, computed, matches: forward.matches() }
    }
}

impl TagReport {
    fn new(placed: Placed, bytes: &[u8], is_superblock: bool) -> Self {
        let Placed { off, tag: t } = placed;
        let mut data = placed.data(bytes);
        if t.is_ccrc() {
            // the rest of the data is padding
            data = data.get(..4).unwrap_or(data);
        }
        Self {
            offset: off,
            r#type: t.type3(),
            name: t.name(),
            id: (t.id() != tag::ID_NONE).then(|| t.id()),
            size: t.size(),
            deleted: t.is_deleted(),
            effect: Effect::Torn,
            id_now: None,
            value: value(t, data, is_superblock),
            data_hex: hex(data),
        }
    }
}

/// Whether id 0 is the superblock entry, according to these tags.
fn names_superblock(tags: &[Placed], bytes: &[u8]) -> bool {
    tags.iter().any(|placed| {
        placed.tag.type3() == tag::SUPERBLOCK && placed.data(bytes) == superblock::MAGIC
    })
}

/// What the data of a tag means; `is_superblock` says whether id 0 of its commit is the superblock
/// entry.
fn value(t: Tag, data: &[u8], is_superblock: bool) -> String {
    if t.is_deleted() && t.type1() != tag::NAME && t.type3() != tag::DELETE {
        return "deleted".to_owned();
    }
    match (t.type1(), t.type3()) {
        (tag::NAME, _) => format!("\"{}\"", data.show()),
        (tag::STRUCT, ty) => match Content::decode(ty, data) {
            Content::Inline(data) if is_superblock && t.id() == 0 => {
                match Superblock::from_bytes(data) {
                    Some(superblock) => superblock_words(&superblock),
                    None => "too short for a superblock".to_owned(),
                }
            }
            Content::Inline(data) => snippet(data),
            Content::List(List { head, size }) => {
                format!("head {head:#x}, {}", show::bytes(size))
            }
            Content::Dir(pair) => pair.to_string(),
            Content::Short { .. } => "too short".to_owned(),
            Content::Unknown { .. } | Content::Missing => snippet(data),
        },
        (tag::USERATTR, _) => format!("type {:#04x}: {}", t.chunk(), snippet(data)),
        (tag::TAIL, _) => match Pair::from_bytes(data) {
            Some(pair) if pair.is_null() => "end of the thread".to_owned(),
            Some(pair) => format!("to {pair}"),
            None => "too short".to_owned(),
        },
        (_, tag::MOVESTATE) => {
            GState::from_bytes(data).map_or("too short".to_owned(), gstate_words)
        }
        (_, tag::FCRC) => {
            match (crate::disk::read_u32_le(data, 0), crate::disk::read_u32_le(data, 4)) {
                (Some(size), Some(sum)) => format!("{size} bytes, {sum:#010x}"),
                _ => "too short".to_owned(),
            }
        }
        _ if t.is_ccrc() => match crate::disk::read_u32_le(data, 0) {
            Some(sum) => format!("{sum:#010x}"),
            None => "too short".to_owned(),
        },
        _ if data.is_empty() => String::new(),
        _ => snippet(data),
    }
}

/// A global state, or a delta of one.
pub(super) fn gstate_words(state: GState) -> String {
    let mut words = Vec::new();
    if state.needs_sync() {
        words.push("orphans possible".to_owned());
    }
    if let Some((pair, id)) = state.pending_move() {
        words.push(format!("pending move of id {id} in {pair}"));
    }
    if words.is_empty() {
        words.push(if state.is_zero() { "nothing".to_owned() } else { hex(&state.to_bytes()) });
    }
    words.join(", ")
}

fn stop_words(taken: &Dissection) -> String {
    match taken.stop {
        Stop::Full => "the block is full".to_owned(),
        Stop::Invalid if taken.open.is_empty() => "no tag was written after it".to_owned(),
        Stop::Invalid => "the tags after it have no CRC".to_owned(),
        Stop::TooLong => "the next tag extends beyond the block".to_owned(),
        Stop::Mismatch { stored, computed } => {
            format!("the CRC {stored:#010x} does not match the bytes, which give {computed:#010x}")
        }
        Stop::TooManyIds => "it creates more entries than there are ids".to_owned(),
    }
}
