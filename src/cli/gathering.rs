//! How files of the host are collected: the options that `create` and `put` share.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::CliError;
use crate::show::{self, Show};
use crate::transfer::{Gather, GatherError, Links, Patterns};

/// What to leave out, links and owners.
#[derive(Args, Debug)]
pub struct GatherArgs {
    /// Leave out entries that match this shell pattern, with everything below them. A pattern
    /// without '/' matches names anywhere, one with '/' matches paths from the root of the image
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Leave out entries that match the patterns in this file, one on each line; empty lines and
    /// lines that begin with '#' are ignored
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// What to do with symbolic links: 'follow' takes their targets, 'store' takes the links
    /// themselves (needs --attrs=unix), and 'refuse' fails with a list of them
    #[arg(long, value_name = "HOW", default_value = "follow")]
    links: LinksArg,

    /// Take this owner and group for everything, instead of those of the files
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
    /// The same options for the library.
    ///
    /// # Errors
    /// When a pattern cannot be understood, a file of patterns cannot be read, or
    /// `SOURCE_DATE_EPOCH` is not a number.
    pub fn options(&self) -> Result<Gather, CliError> {
        let mut patterns = self.exclude.clone();
        for path in &self.exclude_from {
            let text = fs::read_to_string(path).map_err(|e| CliError::of_file(path, &e))?;
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

/// Why no files were collected. `archive` is the tar archive among them, or `-` for standard input.
pub fn not_gathered(e: GatherError, archive: &Path) -> CliError {
    match e {
        GatherError::Tar(e) => {
            let name = match archive == Path::new("-") {
                true => "standard input".to_owned(),
                false => archive.show().to_string(),
            };
            let why = show::cause(&e);
            CliError::failure(format_args!("{name} cannot be read as a tar archive: {why}"))
        }
        e => CliError::failure(e),
    }
}

/// The upper limit for all times in the image, in seconds since 1970. Reproducible builds set it.
///
/// # Errors
/// When `SOURCE_DATE_EPOCH` is not a number.
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
