//! `littlefs check`: check whether an image is sound.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::changing::of_changer;
use super::output::not_stdio;
use super::undo::Backing;
use super::{CliError, ImageArgs, exit, write_json};
use crate::bd::BlockDevice;
use crate::check::{self, Finding, Mode, Repair, Repairs, Report, Severity, Totals};
use crate::error::Error;
#[cfg(feature = "mount")]
use crate::image::Place;
use crate::image::{Dialect, Opened, Reason};
use crate::journal::finish_interrupted;
use crate::show::{self, Show};

/// Check an image, and repair it on request
#[derive(Args, Debug)]
#[command(mut_args(of_changer))]
#[command(after_help = "\
Examples:
  littlefs check dump.bin                  only look
  littlefs check --repair dump.bin         repair what needs no guessing
  littlefs check -y dump.bin               repair everything, and print what is lost
  littlefs check -y --backup before dump.bin
                                           the same; 'littlefs undo before dump.bin' undoes it
  littlefs check --json dump.bin | jq '.findings[].code'

If the UF2, hex or DFU file around the image is known to be damaged, this is an error, too, and
nothing is repaired.

Images of littlefs version 1 and images that chamelon wrote are checked by the rules of their
formats, and never repaired: convert them. With -y, the rest of broken files and directories is kept
in the directory lost+found of the image.

Exit status, as for fsck(8):
  0   no errors (notes are not errors)
  1   errors were found, and all are repaired
  4   errors were found, and some or all of them are left
  8   the image cannot be checked
  16  wrong usage",
    group = ArgGroup::new("repairs").args(["repair", "preen", "yes"]).multiple(true))]
pub struct CheckArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Repair what can be repaired without guessing and without losing anything
    #[arg(long)]
    repair: bool,

    /// Save what repairs change in this new file, so that 'littlefs undo' can restore it
    #[arg(long, value_name = "FILE", requires = "repairs", value_parser = not_stdio())]
    backup: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Show progress on standard error; the default if that is a terminal
    #[arg(long)]
    progress: bool,

    /// The same as --repair; fsck(8) passes this option for unattended checks
    #[arg(short = 'p', short_aliases = ['a', 'r'], conflicts_with_all = ["yes", "no"])]
    preen: bool,

    /// Repair everything, even if content is lost
    #[arg(short = 'y', conflicts_with = "no")]
    yes: bool,

    /// Only check, and change nothing; the default
    #[arg(short = 'n', conflicts_with = "repair")]
    no: bool,

    /// Check even if the image seems clean; this is always done
    #[arg(short = 'f')]
    _force: bool,
}

impl CheckArgs {
    /// If no place is given, only take a filesystem that starts at the first byte. Nobody watches
    /// the repairs at boot, so a filesystem that was found only by searching must not be repaired.
    #[cfg(feature = "mount")]
    pub(super) fn only_where_told(&mut self) {
        if self.image.partition.is_none() {
            self.image.offset.get_or_insert(Place::At(0));
        }
    }

    fn mode(&self) -> Option<Mode> {
        match (self.yes, self.repair || self.preen) {
            (true, _) => Some(Mode::Yes),
            (false, true) => Some(Mode::Preen),
            (false, false) => None,
        }
    }

    fn check(&self, dialect: Dialect, device: Arc<dyn BlockDevice>) -> Result<Report, Error> {
        if !self.progress && !io::stderr().is_terminal() {
            return dialect.check(&device, &|_| ());
        }
        let all = u64::from(device.geometry().block_count);
        let show = |used: u64| {
            // if the line cannot be written, the check goes on
            let _ = write!(io::stderr(), "\rchecking: {:3}% of the image", used * 100 / all.max(1));
        };
        show(0);
        let report = dialect.check(&device, &show);
        let _ = write!(io::stderr(), "\r{:30}\r", "");
        report
    }
}

/// A finding, and the command that shows its place.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    #[serde(skip_serializing_if = "Option::is_none")]
    inspect: Option<String>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output<'a> {
    findings: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    omitted: &'a BTreeMap<&'static str, u64>,
    totals: Totals,
    /// What was repaired. The findings in the report are those that are left.
    repairs: &'a [Repair],
    /// Why no more was repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a str>,
    /// The exit status.
    exit: u8,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be examined.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let cannot = |e: CliError| e.with_code(exit::CHECK_OPERATIONAL);
    let path = args.image.image.show();
    let failed = |e: Error| CliError::new(exit::CHECK_OPERATIONAL, format_args!("{path}: {e}"));
    let mut found = args.image.find().map_err(cannot)?;
    if args.mode().is_some() && args.image.journal.is_none() {
        // what the interrupted change has not written yet is no damage
        finish_interrupted(&found.image).map_err(|e| cannot(e.into()))?;
    }
    let opened = found.open().map_err(cannot)?;
    let dialect = opened.dialect;
    let mut report = args.check(dialect, opened.stored.clone()).map_err(failed)?;
    let missing = opened.missing;
    if missing > 0 {
        report.findings.insert(
            0,
            Finding {
                severity: Severity::Error,
                code: "truncated",
                place: "the image's end".to_owned(),
                message: format!(
                    "the filesystem lacks {}; read the image from the device again",
                    show::bytes(missing)
                ),
            },
        );
    }
    let of_superblock = superblock_finding(&opened);
    report.findings.splice(0..0, of_superblock.clone());
    report.findings.splice(0..0, opened.container_finding());
    let mut repairs = Repairs::default();
    let backup = args.backup.as_deref();
    if !needs_repair(&report) {
        if let Some(backup) = backup {
            log::warn!("{}: no undo file was made: nothing needs a repair", backup.show());
        }
    } else if let Some(mode) = args.mode() {
        let refused = refused(&opened);
        drop(opened);
        if let Some(reason) = refused {
            repairs.stopped = Some(match reason {
                Reason::Version1 if !report.is_clean() => salvaging(args),
                _ => reason.about(&path),
            });
        } else {
            let opened = found.open_writable().map_err(cannot)?;
            let backup = Backing::begin(backup, &opened).map_err(cannot)?;
            repairs = check::repair(backup.device(), mode).map_err(failed)?;
            backup.end().map_err(cannot)?;
            report = args.check(dialect, opened.device).map_err(failed)?;
            let left = of_superblock
                .filter(|found| repairs.done.iter().all(|repair| repair.code != found.code));
            report.findings.splice(0..0, left);
        }
        if let Some(why) = &repairs.stopped {
            let what = if repairs.done.is_empty() { "nothing" } else { "not everything" };
            log::warn!("{path}: {what} was repaired: {why}");
        }
    }
    let exit = match (report.is_clean(), repairs.done.is_empty()) {
        (false, _) => exit::CHECK_ERRORS,
        (true, true) => 0,
        (true, false) => exit::CHECK_REPAIRED,
    };
    match print(args, &report, &repairs, exit) {
        // The result is the same if only the beginning of the output is read.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(cannot(e.into())),
        _ => Ok(ExitCode::from(exit)),
    }
}

/// Why this image is not repaired, whatever its damage is.
fn refused(opened: &Opened) -> Option<Reason> {
    let Opened { missing, doubt, .. } = *opened;
    // a conversion would refuse it as well
    let is_cut = missing > 0 && doubt.is_none();
    let cut = is_cut.then(|| Reason::Truncated { geometry: opened.stored.geometry(), missing });
    let incomplete = opened.incomplete.clone().map(Reason::Incomplete);
    incomplete.or(cut).or_else(|| opened.dialect.unwritable()).or(doubt.map(Reason::Doubtful))
}

/// Why a damaged image of version 1 is not repaired, and what to do instead.
fn salvaging(args: &CheckArgs) -> String {
    let image = args.image.in_shell();
    let image = image.trim_end();
    format!(
        "a littlefs of version 1 is not repaired; first bring back what was lost with 'littlefs \
         recover {image} -C DIR', then 'littlefs convert --from v1 --salvage {image}' makes a \
         sound image of version 2, and lists what it leaves out"
    )
}

/// The finding about the two blocks in which this filesystem has its superblocks, if there is one.
fn superblock_finding(opened: &Opened) -> Option<Finding> {
    let (severity, code, message) = match (opened.doubt, opened.lost) {
        (Some(doubt), _) => (Severity::Error, "superblock-doubtful", doubt.to_string()),
        (None, Some(_)) => {
            let message = "holds no valid superblock; the other one is used, and may show an \
                           older state: if files are missing, run 'littlefs recover' before \
                           anything is written"
                .to_owned();
            (Severity::Note, "superblock-lost", message)
        }
        (None, None) => return None,
    };
    let place = format!("block {}", opened.lost.unwrap_or(0));
    Some(Finding { severity, code, place, message })
}

/// Whether there is an error, or a note about something that a repair puts in order.
fn needs_repair(report: &Report) -> bool {
    let mendable = ["sync-pending", "move-pending", "superblock-size", "superblock-lost"];
    !report.is_clean() || report.findings.iter().any(|f| mendable.contains(&f.code))
}

/// The command that shows the place of a finding.
fn to_inspect(args: &CheckArgs, finding: &Finding) -> Option<String> {
    let what = what_to_inspect(finding.code, &finding.place)?;
    Some(format!("littlefs inspect {}{what}", args.image.in_shell()))
}

/// The arguments with which `littlefs inspect` shows the place of a finding.
fn what_to_inspect(code: &str, place: &str) -> Option<String> {
    if let Some(pair) = place.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return Some(format!("pair {}", pair.replace(", ", ",")));
    }
    if place.starts_with("block 0x") {
        return Some(place.to_owned());
    }
    // a path that was shortened or escaped cannot be passed to the command
    let is_whole = place.starts_with('/') && !place.contains(['\\', '\'']);
    let what = match (place, code) {
        ("global state", _) => "gstate",
        ("superblock", _) | (_, "superblock-lost" | "superblock-doubtful") => "superblock",
        ("the image's end" | "the file", _) | (_, "dialect") => return None,
        (_, "directory-broken" | "tree-loop" | "unthreaded" | "half-orphan") if is_whole => "dir",
        (_, "name-duplicate" | "name-order" | "name-too-long") if is_whole => "log",
        (_, "block-shared" | "file-too-large") if is_whole => "file",
        (_, code) if is_whole && code.starts_with("ctz-") => "file",
        // the entry is in one of the pairs of its directory
        (_, "move-pending" | "attributes" | "bad-struct") if is_whole => {
            let (dir, _) = place.rsplit_once('/')?;
            return Some(format!("dir '{dir}/'"));
        }
        _ => return Some("tree".to_owned()),
    };
    Some(if is_whole { format!("{what} '{place}'") } else { what.to_owned() })
}

fn print(args: &CheckArgs, report: &Report, repairs: &Repairs, exit: u8) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Repairs { done, stopped } = repairs;
    if args.json {
        let inspect = |finding| to_inspect(args, finding);
        let show = |finding| Shown { finding, inspect: inspect(finding) };
        let output = Output {
            findings: report.findings.iter().map(show).collect(),
            omitted: &report.omitted,
            totals: report.totals,
            repairs: done,
            stopped: stopped.as_deref(),
            exit,
        };
        return write_json(&mut out, &output);
    }
    for Repair { code, place, message, given_up } in done {
        let what = if *given_up { "given up" } else { "repaired" };
        writeln!(out, "{what}: {place}: {message} [{code}]")?;
    }
    let (mut errors, mut notes) = (0_u64, 0_u64);
    for finding in &report.findings {
        let Finding { severity, code, place, message } = finding;
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
        if let Some(command) = to_inspect(args, finding) {
            writeln!(out, "  see: {command}")?;
        }
    }
    for (code, n) in &report.omitted {
        writeln!(out, "and {n} more of [{code}]")?;
    }
    let verdict = if errors == 0 { "clean" } else { "damaged" };
    let errors = show::count(errors, "error", "errors");
    let notes = show::count(notes, "note", "notes");
    writeln!(out, "{}: {verdict}, {errors}, {notes}", args.image.image.show())
}
