//! Shell patterns for paths inside an image, which shells cannot expand.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobMatcher};

use crate::check::show;
use crate::error::Error;
use crate::{Littlefs, PathError};

/// Why a path or pattern matches nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum GlobError {
    /// No entry has this path, and it is not a pattern.
    NotFound(Vec<u8>),
    /// No entry matches the pattern.
    NoMatch(Vec<u8>),
    /// The pattern is not valid; the text says why.
    Pattern(Vec<u8>, String),
    /// A directory that the pattern leads to cannot be read.
    Unreadable(PathError),
}

impl GlobError {
    /// The reason, without the path or pattern.
    pub fn reason(&self) -> String {
        match self {
            Self::NotFound(_) => "no such file or directory".to_owned(),
            Self::NoMatch(_) => "nothing matches this pattern".to_owned(),
            Self::Pattern(_, why) => format!("the pattern cannot be understood: {why}"),
            Self::Unreadable(e) => e.error.to_string(),
        }
    }
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotFound(path) | Self::NoMatch(path) | Self::Pattern(path, _)) = self else {
            return f.write_str(&self.reason());
        };
        write!(f, "{}: {}", show(path), self.reason())
    }
}

impl std::error::Error for GlobError {}

/// The paths that `path` matches, without a leading `/`. If there is an entry with the path `path`,
/// it is the only one. Otherwise these are all entries that match `path` as a shell pattern (`*`,
/// `?`, `[...]`, `{a,b}`, and `**` for any number of directories), in the order of the directories.
/// As in shells, a name that begins with a dot is matched only by a pattern that begins with a dot.
///
/// # Errors
/// When there are no such paths.
pub fn expand(image: &Littlefs, path: &[u8]) -> Result<Vec<Vec<u8>>, GlobError> {
    let parts: Vec<&[u8]> =
        path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let clean = parts.join(&b'/');
    match image.exists(&clean) {
        Ok(true) => return Ok(vec![clean]),
        Ok(false) => {}
        Err(error) => return Err(GlobError::Unreadable(PathError { path: clean, error })),
    }
    let is_pattern = |part: &[u8]| part.iter().any(|b| b"*?[{".contains(b));
    let Some(literal) = parts.iter().position(|part| is_pattern(part)) else {
        return Err(GlobError::NotFound(path.to_vec()));
    };
    let start = parts[..literal].join(&b'/');
    let matcher = compile(&clean).map_err(|why| GlobError::Pattern(path.to_vec(), why))?;
    // without `**`, nothing below the level of the pattern's last part can match
    let deepest = (!clean.windows(2).any(|w| w == b"**")).then_some(parts.len() - literal - 1);
    find(image, &start, &matcher, deepest, path)
}

fn compile(pattern: &[u8]) -> Result<GlobMatcher, String> {
    let text = std::str::from_utf8(pattern).map_err(|_| "it is not UTF-8".to_owned())?;
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|e| e.kind().to_string())
}

/// Whether every name in `path` that begins with a dot is matched by a part of the pattern that
/// also begins with a dot.
fn dots_are_named(pattern: &[u8], path: &[u8]) -> bool {
    let has_dot = |part: &[u8]| part.starts_with(b".");
    let named = |part: &[u8]| part != b"." && part.split(|&b| b"{,".contains(&b)).any(has_dot);
    !path.split(|&b| b == b'/').any(has_dot) || pattern.split(|&b| b == b'/').any(named)
}

fn find(
    image: &Littlefs,
    start: &[u8],
    matcher: &GlobMatcher,
    deepest: Option<usize>,
    pattern: &[u8],
) -> Result<Vec<Vec<u8>>, GlobError> {
    let no_match = || GlobError::NoMatch(pattern.to_vec());
    let mut walk = match image.walk(start) {
        Ok(walk) => walk,
        Err(Error::NotFound | Error::NotDirectory) => return Err(no_match()),
        Err(error) => return Err(GlobError::Unreadable(PathError { path: start.to_vec(), error })),
    };
    let mut found = Vec::new();
    while let Some(entry) = walk.next() {
        // damage is reported when the entry is used
        let (path, depth, is_dir) = match entry {
            Ok(entry) => {
                let is_dir = entry.metadata().is_dir();
                (entry.path().to_vec(), Some(entry.depth()), is_dir)
            }
            Err(e) => (e.path, None, false),
        };
        let is_shown = dots_are_named(pattern, path.get(start.len()..).unwrap_or_default());
        if is_shown && matcher.is_match(OsStr::from_bytes(&path)) {
            found.push(path);
        }
        if is_dir && (!is_shown || (deepest.is_some() && depth >= deepest)) {
            walk.skip_dir();
        }
    }
    if found.is_empty() { Err(no_match()) } else { Ok(found) }
}
