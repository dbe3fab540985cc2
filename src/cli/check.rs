//! `littlefs check`: is an image sound?

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{CliError, ImageArgs, exit};
use crate::check::{self, Finding, Repairs, Report, Severity};
use crate::error::Error;

/// Verify an image, and repair it if asked to
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs check dump.bin                  look only
  littlefs check --repair dump.bin         mend what can be mended without guessing
  littlefs check --json dump.bin | jq '.findings[].code'

Exit status, as for fsck(8):
  0   no errors (notes are none)
  1   errors were found, and all are repaired
  4   errors were found, and some or all are left as they are
  8   the image cannot be examined
  16  wrong usage")]
#[allow(clippy::struct_excessive_bools)]
pub struct CheckArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Repair what can be repaired without guessing; nothing is ever given up
    #[arg(long)]
    repair: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// As --repair: what fsck(8) passes for unattended checks
    #[arg(short = 'p', short_alias = 'a', conflicts_with_all = ["yes", "no"])]
    preen: bool,

    /// As --repair: there is nothing else to say yes to
    #[arg(short = 'y', conflicts_with = "no")]
    yes: bool,

    /// Only look, which is the default
    #[arg(short = 'n', conflicts_with = "repair")]
    no: bool,

    /// Check in any case, which is the default
    #[arg(short = 'f')]
    _force: bool,
}

impl CheckArgs {
    fn wants_repair(&self) -> bool {
        self.repair || self.preen || self.yes
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// What was repaired; the findings are those that are left.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    repairs: &'a [String],
}

/// Run the command.
///
/// # Errors
/// When the image cannot be examined.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let cannot = |e: CliError| e.with_code(exit::CHECK_OPERATIONAL);
    let path = args.image.image.display();
    let failed = |e: Error| CliError::new(exit::CHECK_OPERATIONAL, format_args!("{path}: {e}"));
    let opened = args.image.open().map_err(cannot)?;
    let mut report = check::check(opened.device.clone()).map_err(failed)?;
    let missing = opened.missing;
    if missing > 0 {
        report.findings.insert(
            0,
            Finding {
                severity: Severity::Error,
                code: "truncated",
                place: "the image's end".to_owned(),
                message: format!(
                    "{missing} bytes of the filesystem are missing; read the image again"
                ),
            },
        );
    }
    let mut repairs = Repairs::default();
    if args.wants_repair() && missing == 0 && needs_repair(&report) {
        drop(opened);
        let device = args.image.open_writable().map_err(cannot)?;
        repairs = check::repair(device.clone()).map_err(failed)?;
        if let Some(e) = &repairs.stopped {
            log::warn!("{path}: not everything was repaired: {e}");
        }
        report = check::check(device).map_err(failed)?;
    }
    print(args, &report, &repairs.done).map_err(|e| cannot(e.into()))?;
    Ok(ExitCode::from(match (report.is_clean(), repairs.done.is_empty()) {
        (false, _) => exit::CHECK_ERRORS,
        (true, true) => 0,
        (true, false) => exit::CHECK_REPAIRED,
    }))
}

/// Whether there is an error, or something that the next write would finish.
fn needs_repair(report: &Report) -> bool {
    let pending = |f: &Finding| matches!(f.code, "sync-pending" | "move-pending");
    !report.is_clean() || report.findings.iter().any(pending)
}

fn print(args: &CheckArgs, report: &Report, repairs: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return writeln!(out, "{}", serde_json::to_string_pretty(&Output { report, repairs })?);
    }
    for repair in repairs {
        writeln!(out, "repaired: {repair}")?;
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
    for (code, n) in &report.omitted {
        writeln!(out, "and {n} more of [{code}]")?;
    }
    let verdict = if errors == 0 { "clean" } else { "damaged" };
    let count = |n, what| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let (errors, notes) = (count(errors, "error"), count(notes, "note"));
    writeln!(out, "{}: {verdict}, {errors}, {notes}", args.image.image.display())
}
