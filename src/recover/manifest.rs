//! The outcome of a recovery, for people and for programs: the origin of each result, and how
//! reliable it is.

use std::fmt::{self, Write};

use super::{Grade, Origin, Recovered, Recovery, Saved};
use crate::show::{self, Show};

/// The list of results.
#[derive(Debug, serde::Serialize)]
pub struct Manifest {
    block_size: u32,
    block_count: u32,
    has_filesystem: bool,
    metadata_blocks: usize,
    lost_metadata_blocks: usize,
    /// How many results are checked.
    pub checked: usize,
    /// How many results are complete.
    pub complete: usize,
    /// How many results are partial, including those with nothing left but the name.
    pub partial: usize,
    results: Vec<Entry>,
}

#[derive(Debug, serde::Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    /// The path of the written file below the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_base64: Option<String>,
    #[serde(skip)]
    shown: String,
    /// Whether the directory in the path is known. If not, it is only a guess.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory_known: Option<bool>,
    grade: Grade,
    size: u64,
    present: u64,
    missing: Vec<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_block: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    reasons: Vec<&'static str>,
}

impl Manifest {
    /// The manifest of a recovery whose results had these outcomes. `date` formats a time in
    /// nanoseconds since 1970.
    pub fn new(recovery: &Recovery, saved: &[Saved], date: &dyn Fn(i64) -> String) -> Self {
        let count = |grade| recovery.files.iter().filter(|file| file.grade == grade).count();
        let entries = recovery.files.iter().zip(saved);
        Self {
            block_size: recovery.block_size,
            block_count: recovery.block_count,
            has_filesystem: recovery.has_filesystem,
            metadata_blocks: recovery.metadata_blocks,
            lost_metadata_blocks: recovery.lost_metadata_blocks,
            checked: count(Grade::Checked),
            complete: count(Grade::Complete),
            partial: count(Grade::Partial),
            results: entries.map(|(file, saved)| Entry::new(file, saved, date)).collect(),
        }
    }
}

impl Entry {
    fn new(file: &Recovered, saved: &Saved, date: &dyn Fn(i64) -> String) -> Self {
        let path = file.path.as_ref().map(|path| [b"/", &path[..]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let place = match saved {
            Saved::As(place) => Some(place),
            Saved::Nothing | Saved::TooMuch => None,
        };
        let mut reasons = file.reasons.clone();
        match saved {
            Saved::Nothing => reasons.push("no byte of it is left, so it was not written"),
            Saved::TooMuch => {
                reasons.push("very many results share its blocks, so it was not written")
            }
            Saved::As(_) => {}
        }
        let shown = path.as_deref().map_or_else(|| "-".to_owned(), |path| path.show().to_string());
        Self {
            shown: place.map_or(shown, |place| place.show().to_string()),
            path_base64: path.as_deref().and_then(crate::show::base64_unless_text),
            path: path.as_deref().map(text),
            file_base64: place.and_then(|place| crate::show::base64_unless_text(place)),
            file: place.map(|place| text(place)),
            directory_known: file.path.as_ref().map(|_| file.placed),
            grade: file.grade,
            size: file.size,
            present: file.present(),
            missing: file.missing.iter().map(|range| [range.start, range.end]).collect(),
            modified: file.modified.map(date),
            head_block: file.head_block,
            origin: file.origin.clone(),
            reasons,
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checked => "checked",
            Self::Complete => "complete",
            Self::Partial => "partial",
        })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block_count, block_size, metadata_blocks, lost_metadata_blocks, .. } = self;
        writeln!(
            f,
            "{}: {} checked, {} complete, {} partial",
            show::count(self.results.len(), "result", "results"),
            self.checked,
            self.complete,
            self.partial
        )?;
        writeln!(
            f,
            "{block_count} blocks of {block_size} bytes; blocks with metadata: {metadata_blocks}, \
             of which {lost_metadata_blocks} do not belong to the present filesystem"
        )?;
        if !self.has_filesystem {
            writeln!(
                f,
                "the image has no filesystem now, so everything that was found is a result"
            )?;
        }
        self.results.iter().try_for_each(|entry| entry.fmt(f))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.shown)?;
        let mut line = |key: &str, value: &dyn fmt::Display| writeln!(f, "    {key:<9}{value}");
        line("grade", &self.grade)?;
        if let Some(path) = &self.path {
            let supposed =
                if self.directory_known == Some(false) { " (directory supposed)" } else { "" };
            line("path", &format_args!("{}{supposed}", path.show()))?;
        }
        line("size", &show::bytes(self.size))?;
        if let Some(modified) = &self.modified {
            line("modified", modified)?;
        }
        if let Some(origin) = &self.origin {
            line("from", origin)?;
        }
        if let Some(head) = self.head_block {
            line("list", &format_args!("ends with block {head}"))?;
        }
        for [start, end] in &self.missing {
            line("missing", &format_args!("bytes {start} to {}", end.saturating_sub(1)))?;
        }
        for reason in &self.reasons {
            line("because", reason)?;
        }
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, revision, commit, pair, state, ended } = self;
        let mut text = format!("commit {commit} of block {block}, revision {revision}");
        if let Some([a, b]) = pair {
            write!(text, "; pair {a}, {b}: state {state}")?;
            if let Some(ended) = ended {
                write!(text, " until {ended}")?;
            }
        }
        f.write_str(&text)
    }
}
