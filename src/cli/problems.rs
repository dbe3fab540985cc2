//! Problems that do not stop a command.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::{entry, exit};
use crate::Littlefs;
use crate::check::show;
use crate::error::Suspicion;
use crate::transfer::{Extracted, expand};

/// The problems of one command. Each is printed on stderr when it occurs.
#[derive(Debug)]
pub struct Problems {
    image: String,
    /// What was left out.
    left_out: Vec<Problem>,
    /// What may be wrong.
    suspect: Vec<Problem>,
}

/// A problem in JSON.
#[derive(Debug, Serialize)]
pub struct Problem {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    message: String,
}

impl Problem {
    fn new(path: &[u8], why: &impl fmt::Display) -> Self {
        Self { path: entry::text(path), path_base64: entry::base64(path), message: why.to_string() }
    }
}

impl Problems {
    /// The problems of a command that reads `image`, which is the file at `path`. If the whole image
    /// is suspect, that comes first; the user was told when the image was opened.
    pub fn new(path: &Path, image: &Littlefs) -> Self {
        let problem = |s: &Suspicion| Problem::new(&[b"/", &s.path[..]].concat(), &s.why);
        let suspect = image.suspicions().iter().map(problem).collect();
        Self { image: show(path.as_os_str().as_bytes()), left_out: Vec::new(), suspect }
    }

    /// Tell about a problem with the entry at `path`.
    fn tell(&self, path: &[u8], why: impl fmt::Display) -> Problem {
        let shown = [b"/", path].concat();
        // if stderr is closed, the message is dropped
        let _ = writeln!(io::stderr(), "littlefs: {}: {}: {why}", self.image, show(&shown));
        Problem::new(&shown, &why)
    }

    /// Add a problem because of which the entry at `path` was left out.
    pub fn add(&mut self, path: &[u8], why: impl fmt::Display) {
        self.left_out.push(self.tell(path, why));
    }

    /// Add a problem because of which the content of the file at `path` may be wrong.
    pub fn add_suspect(&mut self, path: &[u8], why: impl fmt::Display) {
        self.suspect.push(self.tell(path, why));
    }

    /// Add a problem if the directory at `path`, which is shown without its content, cannot be
    /// read.
    pub fn examine_dir(&mut self, image: &Littlefs, path: &[u8]) {
        if let Err(e) = image.storage(path) {
            self.add_suspect(path, e);
        }
    }

    /// Add the problems of an extraction.
    pub fn add_extracted(&mut self, done: &Extracted) {
        done.left_out.iter().for_each(|left| self.add(&left.path, &left.problem));
        done.suspect.iter().for_each(|suspect| self.add_suspect(&suspect.path, suspect));
    }

    /// The requested paths, with patterns expanded. A path or pattern that matches nothing is a
    /// problem.
    pub fn expand(&mut self, image: &Littlefs, asked: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        for path in asked {
            match expand(image, path) {
                Ok(found) => paths.extend(found),
                Err(e) => self.add(path.strip_prefix(b"/").unwrap_or(path), e.reason()),
            }
        }
        paths
    }

    /// All problems, for JSON.
    pub fn all(&self) -> Vec<&Problem> {
        self.left_out.iter().chain(&self.suspect).collect()
    }

    /// What was left out, for JSON.
    pub fn left_out(&self) -> &[Problem] {
        &self.left_out
    }

    /// What may be wrong, for JSON.
    pub fn suspect(&self) -> &[Problem] {
        &self.suspect
    }

    /// Whether the command has failed: something was left out, and nothing was done.
    pub fn is_failure(&self, anything_done: bool) -> bool {
        !self.left_out.is_empty() && !anything_done
    }

    /// The exit status: success if there were no problems, failure if everything was left out, and
    /// a separate status if only a part was left out, or something may be wrong.
    pub fn status(&self, anything_done: bool) -> ExitCode {
        ExitCode::from(match (self.all().is_empty(), self.is_failure(anything_done)) {
            (true, _) => exit::SUCCESS,
            (false, true) => exit::FAILURE,
            (false, false) => exit::LEFT_OUT,
        })
    }
}
