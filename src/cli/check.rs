//! `littlefs check`: is an image sound?

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::{CliError, ImageArgs, exit};
use crate::check::{self, Finding, Report, Severity};

/// Verify an image without changing it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs check dump.bin
  littlefs check --json dump.bin | jq '.findings[].code'

Exit status, as for fsck(8):
  0   no errors (notes are none)
  4   errors were found, and left as they are
  8   the image cannot be examined
  16  wrong usage")]
pub struct CheckArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be examined.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let cannot = |e: CliError| e.with_code(exit::CHECK_OPERATIONAL);
    let path = args.image.image.display();
    let opened = args.image.open().map_err(cannot)?;
    let mut report = check::check(opened.device.clone())
        .map_err(|e| CliError::new(exit::CHECK_OPERATIONAL, format_args!("{path}: {e}")))?;
    if opened.missing > 0 {
        report.findings.insert(
            0,
            Finding {
                severity: Severity::Error,
                code: "truncated",
                place: "the image's end".to_owned(),
                message: format!(
                    "{} bytes of the filesystem are missing; read the image again",
                    opened.missing
                ),
            },
        );
    }
    print(args, &report).map_err(|e| cannot(e.into()))?;
    let is_error = |finding: &Finding| matches!(finding.severity, Severity::Error);
    let sound = !report.findings.iter().any(is_error);
    Ok(ExitCode::from(if sound { 0 } else { exit::CHECK_ERRORS }))
}

fn print(args: &CheckArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return writeln!(out, "{}", serde_json::to_string_pretty(report)?);
    }
    let (mut errors, mut notes) = (0_u64, 0_u64);
    for Finding { severity, code, place, message } in &report.findings {
        let severity = match severity {
            Severity::Error => {
                errors += 1;
                "error"
            }
            Severity::Note => {
                notes += 1;
                "note"
            }
        };
        writeln!(out, "{severity}: {place}: {message} [{code}]")?;
    }
    let verdict = if errors == 0 { "clean" } else { "damaged" };
    let count = |n, what| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let (errors, notes) = (count(errors, "error"), count(notes, "note"));
    writeln!(out, "{}: {verdict}, {errors}, {notes}", args.image.image.display())
}
