//! Patterns of names to leave out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::manifest::split;

/// Shell patterns of entries to leave out, as for `tar --exclude`. A pattern without `/` matches
/// names anywhere, and one with `/` matches paths from the root of the image. The content of a
/// directory that is left out is also left out.
#[derive(Debug, Default)]
pub struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    /// Compile patterns. A `/` at the start or at the end is removed: `/logs/` stands for `logs` in
    /// the root directory.
    ///
    /// # Errors
    /// A sentence that names the pattern that cannot be understood.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let trimmed = pattern.trim_end_matches('/');
            let is_path = trimmed.contains('/');
            let glob = GlobBuilder::new(trimmed.trim_start_matches('/'))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|e| {
                    format!("the pattern '{pattern}' cannot be understood: {}", e.kind())
                })?;
            if is_path { &mut paths } else { &mut names }.add(glob);
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|e| e.to_string());
        Ok(Self { names: build(names)?, paths: build(paths)? })
    }

    /// Whether the path of the entry itself matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.names.is_match(OsStr::from_bytes(split(path).1))
            || self.paths.is_match(OsStr::from_bytes(path))
    }

    /// Whether the entry of this path, or a directory above it, matches.
    pub fn matches_any(&self, path: &[u8]) -> bool {
        let mut rest = path;
        while !rest.is_empty() {
            if self.matches(rest) {
                return true;
            }
            rest = split(rest).0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_anywhere_and_paths_from_the_root() {
        let p = Patterns::new(["*~", ".git", "/logs", "a/*.bak", "docs/**/x"]).expect("patterns");
        for path in
            ["b~", "deep/er/b~", ".git", "x/.git", "logs", "a/1.bak", "docs/x", "docs/1/2/x"]
        {
            assert!(p.matches(path.as_bytes()), "{path}");
        }
        for path in ["b~c", "x/logs", "a/b/1.bak", "git", "a", ""] {
            assert!(!p.matches_any(path.as_bytes()), "{path}");
        }
        assert!(p.matches_any(b".git/config") && p.matches_any(b"logs/a/b"));
        assert!(p.matches(b"\xff\xfe~"), "names need not be UTF-8");
        let e = Patterns::new(["a["]).expect_err("no pattern");
        assert!(e.contains("'a['"), "{e}");
    }
}
