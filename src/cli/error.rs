//! The failure of a command.

use std::fmt;
use std::io;
use std::path::Path;

use super::exit;
use crate::show::{self, Show};

/// Why a command failed: what to print, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// Printed on stderr after `littlefs: `.
    pub message: String,
    /// Exit code of the program.
    pub code: u8,
}

impl CliError {
    /// A failure with an exit code from [`exit`].
    pub fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code }
    }

    /// A failure without an exit code of its own.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self::new(exit::FAILURE, message)
    }

    /// The failure of an operation on a file of the host.
    pub fn of_file(path: &Path, e: &io::Error) -> Self {
        Self::failure(format_args!("{}: {}", path.show(), show::cause(e)))
    }

    /// The same failure with another exit code.
    pub fn with_code(self, code: u8) -> Self {
        if self.is_closed_pipe() { self } else { Self { code, ..self } }
    }

    /// Whether nobody reads the output any more, as after `| head`. The work is done, so this is a
    /// success.
    pub fn is_closed_pipe(&self) -> bool {
        self.code == exit::SUCCESS
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// For a failed write of a command's own output.
impl From<io::Error> for CliError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(exit::SUCCESS, "nobody reads the output");
        }
        Self::failure(format_args!("cannot write the output: {}", show::cause(&e)))
    }
}
