//! The common parts of the commands that change entries inside an image.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::changing::{ChangeArgs, Changing, Ended, Operation};
use super::{CliError, ImageArgs, entry, print_json};
use crate::edit::{EditError, Paths};
use crate::transfer::Step;

/// How paths inside the image are understood.
#[derive(Args, Debug)]
pub struct NamesArgs {
    /// Take every PATH literally: no PATH is a pattern
    #[arg(long)]
    literal: bool,
}

impl NamesArgs {
    /// The paths for the library.
    pub fn paths<'a>(&self, asked: &'a [Vec<u8>]) -> Paths<'a> {
        Paths { asked, literal: self.literal, may_miss: false }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    changes: Vec<StepJson>,
    dry_run: bool,
}

/// A step in JSON.
#[derive(Serialize)]
pub struct StepJson {
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_base64: Option<String>,
}

impl From<&Step> for StepJson {
    fn from(step: &Step) -> Self {
        let path = [b"/", &step.path[..]].concat();
        let from = step.from.as_ref().map(|from| [b"/", &from[..]].concat());
        Self {
            change: step.what.name(),
            path: entry::text(&path),
            path_base64: entry::base64(&path),
            from: from.as_deref().map(entry::text),
            from_base64: from.as_deref().and_then(entry::base64),
        }
    }
}

/// Change the image by `operation`, and print what was done if an option asks for that. Otherwise
/// success is silent, as for the usual commands of the same names.
///
/// # Errors
/// If the image cannot be opened or changed, or the output cannot be written.
pub fn edit(
    image: &ImageArgs,
    change: &ChangeArgs,
    operation: &mut Operation<'_, Vec<Step>, EditError>,
) -> Result<ExitCode, CliError> {
    let steps = Changing::begin(image, change)?.run(operation)?;
    report(&steps, change)
}

/// Print the steps that were made, if an option asks for that.
///
/// # Errors
/// If the output cannot be written.
pub fn report(steps: &[Step], change: &ChangeArgs) -> Result<ExitCode, CliError> {
    if change.json {
        let changes = steps.iter().map(StepJson::from).collect();
        print_json(&Output { changes, dry_run: change.dry_run })?;
    } else if change.dry_run && !change.quiet {
        let mut out = io::BufWriter::new(io::stdout().lock());
        steps.iter().try_for_each(|step| writeln!(out, "would be {step}"))?;
        out.flush()?;
    } else {
        steps.iter().for_each(|step| log::info!("{step}"));
    }
    Ok(ExitCode::SUCCESS)
}

impl Ended for EditError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}
