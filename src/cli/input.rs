//! Input of commands from standard input.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use super::CliError;
use crate::show::cause;

/// The bytes of a value: those on the command line, or for none or `-`, those on standard input.
///
/// # Errors
/// If standard input cannot be read.
pub fn value(given: Option<&OsString>) -> Result<Vec<u8>, CliError> {
    if let Some(value) = given.filter(|&value| value != "-") {
        return Ok(value.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|e| {
        CliError::failure(format_args!("cannot read the value from standard input: {}", cause(&e)))
    })?;
    Ok(bytes)
}
