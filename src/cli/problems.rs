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
use crate::transfer::{LeftOut, expand};

/// The problems of one command. Each is printed on stderr when it occurs.
#[derive(Debug)]
pub struct Problems {
    image: String,
    found: Vec<Problem>,
}

/// A problem in JSON.
#[derive(Debug, Serialize)]
pub struct Problem {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    message: String,
}

impl Problems {
    /// An empty list of problems for the image at `image`.
    pub fn new(image: &Path) -> Self {
        Self { image: show(image.as_os_str().as_bytes()), found: Vec::new() }
    }

    /// Add a problem with the entry at `path`.
    pub fn add(&mut self, path: &[u8], why: impl fmt::Display) {
        let shown = [b"/", path].concat();
        // if stderr is closed, the message is dropped
        let _ = writeln!(io::stderr(), "littlefs: {}: {}: {why}", self.image, show(&shown));
        self.found.push(Problem {
            path: entry::text(&shown),
            path_base64: entry::base64(&shown),
            message: why.to_string(),
        });
    }

    /// Add the entries that an extraction left out.
    pub fn add_left_out(&mut self, left_out: &[LeftOut]) {
        left_out.iter().for_each(|left| self.add(&left.path, &left.problem));
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

    /// The problems, for JSON.
    pub fn list(&self) -> &[Problem] {
        &self.found
    }

    /// The exit status: success if there were no problems, failure if nothing was done, and a
    /// separate status if only a part was left out.
    pub fn status(&self, anything_done: bool) -> ExitCode {
        ExitCode::from(match (self.found.is_empty(), anything_done) {
            (true, _) => 0,
            (false, true) => exit::LEFT_OUT,
            (false, false) => exit::FAILURE,
        })
    }
}
