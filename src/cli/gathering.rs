//! What is collected on the host: the options that `create` and `put` share.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::CliError;
use crate::transfer::{Gather, Links, Patterns};

/// What to leave out, links and owners.
#[derive(Args, Debug)]
pub struct GatherArgs {
    /// Leave out what matches this shell pattern, and all below it: without '/' a name anywhere,
    /// with '/' a path from the root of the image
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Leave out what matches the patterns in this file, one a line; empty lines and those that begin
    /// with '#' do not count
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// What becomes of symbolic links: 'follow' stores what they lead to, 'store' the links
    /// themselves, which needs --attrs=unix, and 'refuse' ends with an error that lists them
    #[arg(long, value_name = "HOW", default_value = "follow")]
    links: LinksArg,

    /// Owner and group of everything, where they are kept, instead of those of the files here
    #[arg(long, value_name = "UID[:GID]", value_parser = parse_owner)]
    owner: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinksArg {
    Follow,
    Store,
    Refuse,
}

impl GatherArgs {
    /// The same for the library.
    ///
    /// # Errors
    /// When a pattern cannot be understood, a file of patterns cannot be read, or
    /// `SOURCE_DATE_EPOCH` is no number.
    pub fn options(&self) -> Result<Gather, CliError> {
        let mut patterns = self.exclude.clone();
        for path in &self.exclude_from {
            let text = fs::read_to_string(path)
                .map_err(|e| CliError::failure(format_args!("{}: {e}", path.display())))?;
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            patterns.extend(lines.map(str::to_owned));
        }
        Ok(Gather {
            exclude: Patterns::new(&patterns).map_err(CliError::failure)?,
            links: match self.links {
                LinksArg::Follow => Links::Follow,
                LinksArg::Store => Links::Store,
                LinksArg::Refuse => Links::Refuse,
            },
            owner: self.owner,
            latest: source_date_epoch()?,
        })
    }
}

/// The time that no time in what is built may exceed, in seconds since 1970, as reproducible builds set
/// it.
///
/// # Errors
/// When `SOURCE_DATE_EPOCH` is no number.
pub fn source_date_epoch() -> Result<Option<i64>, CliError> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(CliError::failure(format_args!(
                "SOURCE_DATE_EPOCH is '{text}', which is not a number of seconds"
            ))),
        },
        _ => Ok(None),
    }
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("'{text}' is not a user number, or user and group like 1000:100");
    let number = |text: &str| text.parse().map_err(|_| wrong());
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => number(text).map(|uid| (uid, uid)),
    }
}
