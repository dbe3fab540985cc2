//! Printing JSON.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ArgMatches;
use serde::Serialize;

use super::CliError;

/// Whether JSON was requested, and nothing has been printed yet.
static IS_DUE: AtomicBool = AtomicBool::new(false);

/// Note that the command was asked for JSON.
pub fn request() {
    IS_DUE.store(true, Ordering::Relaxed);
}

/// Whether a command line has the flag `--json`.
pub fn is_requested(matches: &ArgMatches) -> bool {
    matches!(matches.try_get_one("json"), Ok(Some(true)))
        || matches.subcommand().is_some_and(|(_, matches)| is_requested(matches))
}

/// What is printed if a command has nothing else to print.
#[derive(Serialize)]
struct Failed<'a> {
    error: &'a str,
}

/// If JSON was requested and nothing was printed, print the failure of the command as JSON. If this
/// fails, too, the error is dropped, because it is also reported on stderr.
pub fn print_failure(e: &CliError) {
    if IS_DUE.load(Ordering::Relaxed) {
        let _ = print_json(&Failed { error: &e.message });
    }
}

/// Print the findings of a command on stdout.
///
/// # Errors
/// If the output cannot be written.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    write_json(&mut io::stdout(), value)
}

/// Write the findings of a command to `out`.
///
/// # Errors
/// If the output cannot be written.
pub fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    IS_DUE.store(false, Ordering::Relaxed);
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)
}
