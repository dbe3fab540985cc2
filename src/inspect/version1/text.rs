//! Reports of version 1 as text, for people.

use std::fmt::{self, Display, Formatter};

use super::super::half::HalfState;
use super::super::text::{VALUE, damage, shortened, side_by_side};
use super::{EntryReport, HalfReport, LogReport, PairReport};
use crate::disk::Pair;
use crate::show;

impl EntryReport {
    /// One line: mark, offset, type, name of the type, the lengths of data, attributes and name,
    /// and the meaning. The mark is `m` if the entry is marked as moved, and `!` if no valid CRC
    /// covers it.
    fn line(&self, counts: bool, value_max: usize) -> String {
        let mark = match (counts, self.moved) {
            (false, _) => '!',
            (true, true) => 'm',
            (true, false) => ' ',
        };
        let Self { offset, type_byte, entry_length, attribute_length, name_length, .. } = self;
        let ty = self.r#type.unwrap_or("unknown");
        let moved = if self.moved { ", moved" } else { "" };
        let value = shortened(format!("\"{}\": {}{moved}", self.name, self.content), value_max);
        format!(
            "{mark}{offset:#06x} {type_byte:02x} {ty:<10} {entry_length:>3} {attribute_length:>3} \
             {name_length:>3}  {value}"
        )
    }
}

fn state(state: HalfState) -> &'static str {
    match state {
        HalfState::Live => "live",
        HalfState::Superseded => "superseded",
        HalfState::Invalid => "not valid",
        HalfState::Unreadable => "cannot be read",
    }
}

impl HalfReport {
    fn lines(&self, value_max: usize) -> Vec<String> {
        let revision = self.revision.map_or(String::new(), |rev| format!(", revision {rev}"));
        let mut out = vec![format!("block {:#x}: {}{revision}", self.block, state(self.state))];
        if self.error.is_some() {
            return out;
        }
        let size = show::bytes(self.size);
        out.push(match (self.crc_stored, self.crc_computed) {
            (Some(stored), Some(computed)) if stored == computed => {
                format!("{size} in use: CRC matches")
            }
            (Some(stored), Some(computed)) => {
                format!("{size} in use: CRC {stored:#010x}, the bytes give {computed:#010x}")
            }
            _ => format!("{size} in use, which is impossible"),
        });
        let tail = match (self.tail, self.continues) {
            (None, false) => "end of the thread".to_owned(),
            (None, true) => "goes on, but there is no tail".to_owned(),
            (Some(tail), true) => format!("{}, of the same directory", Pair(tail)),
            (Some(tail), false) => format!("{}, of another directory", Pair(tail)),
        };
        if self.crc_stored.is_some() {
            out.push(format!("tail: {tail}"));
        }
        out.extend(self.entries.iter().map(|entry| entry.line(self.is_valid(), value_max)));
        out.extend(self.broken_at.map(|at| format!("!{at:#06x} an entry that leaves its block")));
        if self.trailing > 0 {
            out.push(format!("after the end: {} written", show::bytes(self.trailing)));
        }
        out
    }
}

impl Display for HalfReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.lines(usize::MAX).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Display for PairReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let used_as = self.used_as.as_deref().unwrap_or("which nothing names");
        writeln!(f, "pair {}, {used_as}", Pair(self.pair))?;
        if let [left, right] = &self.halves[..] {
            side_by_side(f, &left.lines(VALUE), &right.lines(VALUE))?;
        }
        damage(f, &self.damage)
    }
}

impl Display for LogReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: entry {} of pair {}", self.path, self.id, Pair(self.pair))?;
        for step in &self.steps {
            let (block, revision) = (step.block, step.revision);
            writeln!(f, "block {block:#x} ({}), revision {revision}", state(step.state))?;
            match &step.entry {
                Some(entry) => writeln!(f, "{}", entry.line(true, usize::MAX))?,
                None => writeln!(f, " no entry of that name")?,
            }
        }
        Ok(())
    }
}
