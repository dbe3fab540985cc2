//! Reports as text, for people.

use std::fmt::{self, Display, Formatter, Write};

use super::half::{CommitReport, Effect, HalfReport, HalfState, TagReport};
use super::superblock::version;
use super::survey::Problem;
use super::{
    BlockReport, DirReport, EntryReport, FileReport, GStateReport, LogReport, MetadataReport,
    MovedEntry, PairReport, PairSummary, SuperblockReport, TreeEntry, TreeReport,
};
use crate::disk::{Pair, Superblock};
use crate::show;

/// How many bytes of data are shown in a line.
const SNIPPET: usize = 16;
/// How many characters of a value are shown if the other half is shown beside it.
pub(super) const VALUE: usize = 44;
/// The separator between the two halves.
const GAP: &str = "  |  ";

/// Two groups of lines, side by side.
pub(super) fn side_by_side(
    f: &mut Formatter<'_>,
    left: &[String],
    right: &[String],
) -> fmt::Result {
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    for at in 0..left.len().max(right.len()) {
        let [left, right] = [left, right].map(|half| half.get(at).map_or("", String::as_str));
        let line = format!("{left:<width$}{GAP}{right}");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The beginning of a value that is too long for its line.
pub(super) fn shortened(value: String, max: usize) -> String {
    if value.chars().count() <= max {
        return value;
    }
    value.chars().take(max.saturating_sub(3)).collect::<String>() + "..."
}

/// A few bytes in one line: as text if all of them are visible characters, otherwise in
/// hexadecimal.
pub(super) fn snippet(data: &[u8]) -> String {
    let shown = data.get(..SNIPPET).unwrap_or(data);
    let more = if data.len() > shown.len() { "..." } else { "" };
    let visible = |&b: &u8| b.is_ascii_graphic() || b == b' ';
    match std::str::from_utf8(shown) {
        Ok(text) if !text.is_empty() && shown.iter().all(visible) => format!("'{text}'{more}"),
        _ => format!("{}{more}", super::hex(shown)),
    }
}

/// A superblock, in words.
pub(super) fn superblock_words(superblock: &Superblock) -> String {
    let Superblock { block_size, block_count, name_max, file_max, attr_max, .. } = superblock;
    format!(
        "version {}, {block_count} blocks of {block_size} bytes, limits: names {name_max}, files \
         {file_max}, attributes {attr_max} bytes",
        version(superblock)
    )
}

/// Bytes in the format of `hexdump -C`.
pub(super) fn hexdump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let mut hex = String::new();
        for (i, byte) in chunk.iter().enumerate() {
            // writing to a string does not fail
            let _ = write!(hex, "{}{byte:02x}", if i == 8 { "  " } else { " " });
        }
        let text = |&b: &u8| if b.is_ascii_graphic() || b == b' ' { b as char } else { '.' };
        let text: String = chunk.iter().map(text).collect();
        let _ = writeln!(out, "  {:#06x} {hex:<50} |{text}|", line * 16);
    }
    out
}

fn pair(blocks: [u32; 2]) -> Pair {
    Pair(blocks)
}

fn problems(f: &mut Formatter<'_>, problems: &[Problem], more: u64) -> fmt::Result {
    for Problem { place, message } in problems {
        writeln!(f, "damage: {place}: {message}")?;
    }
    if more > 0 {
        writeln!(f, "damage: and {more} more")?;
    }
    Ok(())
}

pub(super) fn damage(f: &mut Formatter<'_>, damage: &[String]) -> fmt::Result {
    damage.iter().try_for_each(|what| writeln!(f, "damage: {what}"))
}

impl TagReport {
    /// One line: mark, offset, type, name, id, size and value. The mark is a minus if the tag has
    /// no effect any more.
    fn line(&self, value_max: usize) -> String {
        let mark = match self.effect {
            Effect::Live => ' ',
            Effect::Past if self.name == "CCRC" => ' ',
            Effect::Past => '-',
            Effect::Torn => '!',
        };
        let id = self.id.map_or("-".to_owned(), |id| id.to_string());
        let mut value = self.value.clone();
        if let Some(now) = self.id_now.filter(|now| Some(*now) != self.id) {
            let _ = write!(value, " (now id {now})");
        }
        let value = shortened(value, value_max);
        let Self { offset, r#type, name, size, .. } = self;
        format!("{mark}{offset:#06x} {type:03x} {name:<12} {id:>4} {size:>5}  {value}")
    }
}

impl CommitReport {
    fn lines(&self, number: usize, is_last: bool, value_max: usize, out: &mut Vec<String>) {
        let verdict = match (self.valid, self.crc_stored.zip(self.crc_computed)) {
            (true, _) if self.hidden => {
                "CRC matches, but no driver reads this, because of the damage before it".to_owned()
            }
            (true, _) => "CRC matches".to_owned(),
            (false, Some((_, computed))) => format!("torn: the bytes give CRC {computed:#010x}"),
            (false, None) => "torn: no CRC".to_owned(),
        };
        let (from, to) = (self.offset, self.end);
        out.push(format!("commit {number}, bytes {from:#x}..{to:#x}: {verdict}"));
        out.extend(self.tags.iter().map(|tag| tag.line(value_max)));
        if self.padding > 0 {
            out.push(format!(" {:#06x} padding, {}", to - self.padding, show::bytes(self.padding)));
        }
        if let Some(fcrc) = &self.fcrc {
            let verdict = match (fcrc.matches, fcrc.computed) {
                (true, _) => "matches".to_owned(),
                (false, _) if !is_last => {
                    "no longer applies, because the next commit follows".to_owned()
                }
                (false, Some(sum)) => format!("does not match; these bytes give {sum:#010x}"),
                (false, None) => "extends beyond the block".to_owned(),
            };
            out.push(format!(" FCRC of the next {} {verdict}", show::bytes(fcrc.size)));
        }
    }
}

impl HalfReport {
    fn lines(&self, value_max: usize) -> Vec<String> {
        let state = match self.state {
            HalfState::Live => "live",
            HalfState::Superseded => "superseded",
            HalfState::Invalid => "no valid commit",
            HalfState::Unreadable => "cannot be read",
        };
        let revision = self.revision.map_or(String::new(), |rev| format!(", revision {rev}"));
        let mut out = vec![format!("block {:#x}: {state}{revision}", self.block)];
        for (number, commit) in self.commits.iter().enumerate() {
            commit.lines(number, number + 1 == self.commits.len(), value_max, &mut out);
        }
        if self.error.is_none() {
            out.push(format!("end at {:#x}: {}", self.end, self.stop));
            let trailing = match self.trailing {
                0 => "erased".to_owned(),
                n => show::bytes(n) + " written",
            };
            out.push(format!("after the end: {trailing}"));
        }
        out
    }
}

impl Display for HalfReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.lines(usize::MAX).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        append(f, self)
    }
}

fn append(f: &mut Formatter<'_>, half: &HalfReport) -> fmt::Result {
    let Some(append) = &half.append else { return Ok(()) };
    let what = if append.appends { "appends" } else { "compacts" };
    let (reason, room) = (&append.reason, show::bytes(append.room));
    writeln!(f, "next write: a device {what}: {reason}; room for {room}")
}

impl Display for PairReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let used_as = self.used_as.as_deref().unwrap_or("which nothing names");
        writeln!(f, "pair {}, {used_as}", pair(self.pair))?;
        if let [left, right] = &self.halves[..] {
            side_by_side(f, &left.lines(VALUE), &right.lines(VALUE))?;
        }
        if let Some(live) = self.live() {
            append(f, live)?;
        }
        writeln!(f, "tail: {}", self.tail.as_deref().unwrap_or("none"))?;
        if let Some(delta) = &self.delta {
            writeln!(f, "delta of the global state: {delta}")?;
        }
        writeln!(f, "holds {}", show::count(self.entries.len(), "id", "ids"))?;
        self.entries.iter().try_for_each(|entry| write!(f, "{entry}"))?;
        damage(f, &self.damage)
    }
}

impl Display for EntryReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { id, r#type, name, content, .. } = self;
        writeln!(f, "{id:>5} {:<10} \"{name}\": {content}", r#type.unwrap_or("unnamed"))?;
        for attribute in &self.attributes {
            let (ty, length) = (attribute.r#type, show::bytes(attribute.length));
            writeln!(f, "      attribute {ty:#04x}, {length}: {}", attribute.words)?;
        }
        Ok(())
    }
}

impl Display for SuperblockReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "opened with {} blocks of {} bytes", self.block_count, self.block_size)?;
        for copy in &self.copies {
            let state = match (copy.counts, copy.live) {
                (true, _) => "counts",
                (false, true) => "live, not the root's",
                (false, false) => "superseded",
            };
            let (block, revision, words) = (copy.block, copy.revision, &copy.words);
            writeln!(f, "block {block:#x}, revision {revision}, {state}: {words}")?;
        }
        problems(f, &self.problems, 0)
    }
}

impl Display for FileReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}, {}", self.path, self.r#type, show::bytes(self.size))?;
        writeln!(f, "entry: id {} of pair {}", self.id, pair(self.pair))?;
        writeln!(f, "content: {}", self.storage)?;
        if let Some(data) = &self.inline_hex {
            let byte = |at: usize| u8::from_str_radix(data.get(at..at + 2)?, 16).ok();
            let bytes: Vec<u8> = (0..data.len()).step_by(2).filter_map(byte).collect();
            write!(f, "{}", hexdump(&bytes))?;
        }
        if !self.blocks.is_empty() {
            writeln!(f, " index  block       file position  bytes  pointers to")?;
        }
        for block in &self.blocks {
            let pointers: Vec<String> = block.pointers.iter().map(|p| format!("{p:#x}")).collect();
            let mark = if block.agrees && block.shared_with.is_none() { ' ' } else { '!' };
            writeln!(
                f,
                "{mark}{:>5}  {:<10} {:>14} {:>6}  {}",
                block.index,
                format!("{:#x}", block.block),
                block.position,
                block.bytes,
                pointers.join(" ")
            )?;
        }
        for attribute in &self.attributes {
            let (ty, length) = (attribute.r#type, show::bytes(attribute.length));
            writeln!(f, "attribute {ty:#04x}, {length}: {}", attribute.words)?;
        }
        damage(f, &self.damage)
    }
}

impl Display for LogReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: id {} of pair {}", self.path, self.id, pair(self.pair))?;
        let mut last = None;
        for step in &self.steps {
            if last.replace((step.block, step.commit)) != Some((step.block, step.commit)) {
                let (block, revision, commit) = (step.block, step.revision, step.commit);
                let state = if block == self.pair[0] { "live" } else { "superseded" };
                writeln!(f, "block {block:#x} ({state}), revision {revision}, commit {commit}")?;
            }
            writeln!(f, "{}", step.tag.line(usize::MAX))?;
        }
        Ok(())
    }
}

impl Display for BlockReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { block, image_position: at, used_as, .. } = self;
        writeln!(f, "block {block:#x} of the filesystem, at byte {at:#x} of the image: {used_as}")?;
        writeln!(f, "written: {}", show::bytes(self.written))?;
        if !self.pointers.is_empty() {
            let pointers: Vec<String> = self.pointers.iter().map(|p| format!("{p:#x}")).collect();
            writeln!(f, "pointers to: {}", pointers.join(" "))?;
        }
        match &self.metadata {
            Some(MetadataReport::Log(half)) => write!(f, "{half}")?,
            Some(MetadataReport::Version1(half)) => write!(f, "{half}")?,
            None => write!(f, "{}", self.dump)?,
        }
        damage(f, &self.damage)
    }
}

impl Display for PairSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [live, other] = self.revisions.map(|rev| match rev {
            u32::MAX => "-".to_owned(),
            rev => rev.to_string(),
        });
        let (ids, used) = (show::count(self.ids, "id", "ids"), show::bytes(self.used_bytes));
        write!(f, "{}, revisions {live} and {other}, {ids}, {used}", pair(self.pair))?;
        match self.tail {
            Some(tail) if self.hard => write!(f, ", hardtail to {}", pair(tail))?,
            Some(tail) => write!(f, ", softtail to {}", pair(tail))?,
            None if self.threaded == Some(true) => write!(f, ", end of the thread")?,
            None => {}
        }
        if self.threaded == Some(false) {
            write!(f, ", not in the thread")?;
        }
        Ok(())
    }
}

impl Display for TreeEntry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = if self.size == 1 { "byte " } else { "bytes" };
        write!(f, "{:<10} {:>10} {unit}  ", self.r#type, self.size)?;
        match (self.id, self.pair) {
            (Some(id), Some(blocks)) => write!(f, "id {id} of {}, ", pair(blocks))?,
            _ => write!(f, "no entry, ")?,
        }
        match (self.storage, self.head) {
            ("list", Some(head)) => write!(f, "{}, head {head:#x}", show::blocks(self.count))?,
            ("pairs", _) => f.write_str(&show::count(self.count, "pair", "pairs"))?,
            (storage, _) => write!(f, "{storage}")?,
        }
        write!(f, "  {}", self.path)
    }
}

impl Display for TreeReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let order = self.thread_whole.map_or("", |_| ", in the order of the thread");
        writeln!(f, "pairs{order}:")?;
        for summary in &self.pairs {
            let of = match (&summary.directory, summary.superblock) {
                (Some(path), _) => path.as_str(),
                (None, true) => "(superblock)",
                (None, false) => "(no directory)",
            };
            writeln!(f, "  {summary}  {of}")?;
        }
        writeln!(f, "entries:")?;
        self.entries.iter().try_for_each(|entry| writeln!(f, "  {entry}"))?;
        problems(f, &self.problems, self.more_problems)
    }
}

impl Display for DirReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.id, self.entry_pair) {
            (Some(id), Some(blocks)) => {
                writeln!(f, "{}: entry: id {id} of pair {}", self.path, pair(blocks))?;
            }
            _ => writeln!(f, "{}: no entry of its own", self.path)?,
        }
        for summary in &self.pairs {
            writeln!(f, "pair {summary}")?;
        }
        self.entries.iter().try_for_each(|entry| writeln!(f, "  {entry}"))?;
        for MovedEntry { name, pair: blocks, id } in &self.moved {
            let blocks = pair(*blocks);
            writeln!(f, "moved: id {id} of {blocks}, \"{name}\": its rename was interrupted")?;
        }
        problems(f, &self.problems, 0)
    }
}

impl Display for GStateReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "sum: {}: {}", self.sum_hex, self.value)?;
        for contribution in &self.contributions {
            let of = contribution.directory.as_deref().unwrap_or("(no directory)");
            let (blocks, delta) = (pair(contribution.pair), &contribution.delta_hex);
            writeln!(f, "  {delta} from pair {blocks}, {of}")?;
        }
        if !self.thread_whole {
            writeln!(
                f,
                "damage: the thread is broken, so deltas are missing, and the sum is meaningless"
            )?;
        }
        Ok(())
    }
}
