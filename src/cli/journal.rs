//! `littlefs journal`: listing the transactions of a journal, and operations on them.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{check_is_file, not_stdio};
use super::{CliError, date, exit, write_json};
#[cfg(feature = "mount")]
use super::{status, table};
use crate::image;
use crate::journal::{self, Change, ChangeKind, Changes, Journal, JournalError, Mode, Why};
use crate::show::{self, Show, base64_unless_text};
use crate::sys;
use crate::transactions::{At, Fate, Reason, Transaction};

/// List the transactions of a journal, apply them to the image, or drop them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs mount --journal j dump.bin /mnt     changes go to j; dump.bin stays as it is
  littlefs journal log j                       the transactions, and the paths that each changed
  littlefs journal diff j 0 12                 everything up to transaction 12
  littlefs journal save j before-upgrade       give the last state a name
  littlefs journal revert --to before-upgrade j
  littlefs journal export --at 12 j old.bin    the image as it was then
  littlefs journal commit j dump.bin           write everything into dump.bin
  littlefs journal squash j                    keep only the net change

STATE is the number of a transaction (0: the image as it was) or the name of a savepoint. If the
image is needed, it is opened at the path that it had when the journal was made, unless --image
names another path. log, show, diff, verify and export can be used while the journal is mounted.")]
pub struct JournalArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the transactions and the paths that each changed (A added, M modified, D deleted, R
    /// renamed)
    Log {
        #[command(flatten)]
        source: Source,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show one transaction
    Show {
        #[command(flatten)]
        source: Source,
        /// Its number, or a savepoint after it
        state: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the paths that differ between two states
    Diff {
        #[command(flatten)]
        source: Source,
        /// The first state
        from: String,
        /// The second state
        to: String,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Apply everything to the image; this also finishes a commit that was interrupted
    Commit {
        /// The journal
        #[arg(value_parser = not_stdio())]
        file: PathBuf,
        /// The image it belongs to
        #[arg(value_parser = not_stdio())]
        image: PathBuf,
    },
    /// Drop the transactions after a state
    Revert {
        /// The journal
        #[arg(value_parser = not_stdio())]
        file: PathBuf,
        /// The state to go back to (default: the image, so that no transaction is left)
        #[arg(long, value_name = "STATE")]
        to: Option<String>,
    },
    /// Replace all transactions with one that has their net change
    Squash {
        #[command(flatten)]
        source: Source,
    },
    /// Read and check every byte; the exit status is 0 if the journal is sound, 4 if it is damaged,
    /// and 8 if it cannot be checked or does not belong to IMAGE
    Verify {
        /// The journal
        #[arg(value_parser = not_stdio())]
        file: PathBuf,
        /// Also check whether it belongs to this image
        #[arg(long, value_name = "IMAGE", value_parser = not_stdio())]
        image: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the image as it was in a state
    Export {
        #[command(flatten)]
        source: Source,
        /// File to write
        #[arg(value_parser = not_stdio())]
        out: PathBuf,
        /// The state
        #[arg(long, value_name = "STATE")]
        at: String,
        /// Overwrite OUT
        #[arg(long)]
        force: bool,
    },
    /// Give the last state a name; a name that exists already moves to this state
    Save {
        /// The journal
        #[arg(value_parser = not_stdio())]
        file: PathBuf,
        /// The name: not a number, without '-' at the start, and without spaces and commas
        name: String,
    },
}

impl Action {
    /// Check that the journal is not given as its image, too.
    fn check_apart(&self) -> Result<(), CliError> {
        let (file, image, code) = match self {
            Self::Log { source, .. }
            | Self::Show { source, .. }
            | Self::Diff { source, .. }
            | Self::Squash { source }
            | Self::Export { source, .. } => (&source.file, &source.image, exit::FAILURE),
            Self::Verify { file, image, .. } => (file, image, exit::CHECK_OPERATIONAL),
            // these open the image only after the journal, or do not take one
            Self::Commit { .. } | Self::Revert { .. } | Self::Save { .. } => return Ok(()),
        };
        let identity = image.as_ref().and_then(|image| sys::identity(image).ok());
        match identity {
            Some(image) if sys::identity(file).ok() == Some(image) => Err(CliError::new(
                code,
                format_args!(
                    "{}: is given as the journal and as its image; --image names the image",
                    file.show()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// A journal and its image.
#[derive(Args, Debug)]
struct Source {
    /// The journal
    #[arg(value_parser = not_stdio())]
    file: PathBuf,

    /// The image that it belongs to (default: the path that it had when the journal was made)
    #[arg(long, value_name = "IMAGE", value_parser = not_stdio())]
    image: Option<PathBuf>,
}

impl Source {
    fn open(&self) -> Result<(Journal, image::Opened), JournalError> {
        let journal = Journal::open(&self.file, Mode::Read)?;
        let image = journal.open_image(self.image.as_deref())?;
        Ok((journal, image))
    }
}

impl From<JournalError> for CliError {
    fn from(e: JournalError) -> Self {
        Self::failure(e)
    }
}

/// Run the command.
///
/// # Errors
/// When a file cannot be opened, read or written, or the two do not belong together.
pub fn run(args: &JournalArgs) -> Result<ExitCode, CliError> {
    args.action.check_apart()?;
    let mut out = io::stdout().lock();
    match &args.action {
        Action::Log { source, json } => log(&mut out, source, *json)?,
        Action::Show { source, state, json } => show(&mut out, source, state, *json)?,
        Action::Diff { source, from, to, json } => {
            let (journal, image) = source.open()?;
            let changes = Changes::between(&journal, &image, &At::parse(from), &At::parse(to))?;
            if *json {
                write_json(&mut out, &changes)?;
            } else {
                changes.iter().try_for_each(|change| writeln!(out, "{}", line(change)))?;
            }
        }
        Action::Commit { file, image } => {
            let done = journal::commit(file, image)?;
            let what = if done.resumed { "finished committing" } else { "committed" };
            writeln!(
                out,
                "{}: {what} state {}, {} written",
                image.show(),
                done.number,
                show::bytes(done.bytes)
            )?;
        }
        Action::Revert { file, to } => {
            let journal = Journal::open(file, Mode::Write)?;
            let to = match to {
                Some(to) => At::parse(to),
                None => At::Number(journal.history().base),
            };
            let number = journal.revert(&to)?;
            writeln!(out, "{}: back at state {number}", file.show())?;
        }
        Action::Squash { source } => {
            let done = journal::squash(&source.file, source.image.as_deref())?;
            writeln!(
                out,
                "{}: one transaction, number {}; {} of {} left",
                source.file.show(),
                done.number,
                show::bytes(done.after),
                done.before
            )?;
        }
        Action::Verify { file, image, json } => {
            return verify(&mut out, file, image.as_deref(), *json);
        }
        Action::Export { source, out: path, at, force } => {
            check_is_file(path)?;
            let state = At::parse(at);
            let image = source.image.as_deref();
            let number = journal::export(&source.file, image, &state, path, *force)?;
            writeln!(out, "{}: the image in state {number}", path.show())?;
        }
        Action::Save { file, name } => {
            let number = save(file, name)?;
            writeln!(out, "{}: state {number} is '{name}'", file.show())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A transaction as it is printed; the field names are the JSON keys.
#[derive(Serialize)]
struct Shown {
    number: u64,
    /// Seconds since 1970.
    time: f64,
    bytes: u64,
    fate: &'static str,
    savepoints: Vec<String>,
    /// Missing if they are no longer known.
    changes: Option<Vec<Change>>,
}

#[derive(Serialize)]
struct Log {
    image: String,
    /// The bytes of the path, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_base64: Option<String>,
    /// The number of the state that the image has.
    base: u64,
    last: u64,
    bytes: u64,
    torn_bytes: u64,
    savepoints: Vec<Named>,
    transactions: Vec<Shown>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    state: u64,
    time: f64,
}

impl Shown {
    fn new(journal: &Journal, t: &Transaction, changes: Option<Vec<Change>>) -> Self {
        let here = journal.history().savepoints().into_iter().filter(|s| s.number == t.number);
        Self {
            number: t.number,
            time: seconds(t.time),
            bytes: t.bytes(),
            fate: match t.fate {
                Fate::Live => "live",
                Fate::Reverted => "reverted",
                Fate::Committed => "committed",
            },
            savepoints: here.map(|s| s.name.clone()).collect(),
            changes,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (time, bytes) = (date::local(self.time as u64), show::bytes(self.bytes));
        write!(out, "{:>6}  {time}  {bytes}", self.number)?;
        if self.fate != "live" {
            write!(out, ", {}, so its paths are no longer known", self.fate)?;
        }
        for name in &self.savepoints {
            write!(out, ", savepoint {}", name.show())?;
        }
        writeln!(out)?;
        for change in self.changes.iter().flatten() {
            writeln!(out, "        {}", line(change))?;
        }
        Ok(())
    }
}

fn log(out: &mut impl Write, source: &Source, json: bool) -> Result<(), CliError> {
    let journal = Journal::open(&source.file, Mode::Read)?;
    // The list is useful even without the paths.
    let mut changes = match journal.open_image(source.image.as_deref()) {
        Ok(image) => Some(Changes::new(&journal, &image)?),
        Err(e) => {
            log::warn!(
                "the paths that changed are not listed, because that needs the image (--image \
                 tells where it is): {e}"
            );
            None
        }
    };
    let history = journal.history();
    let mut transactions = Vec::new();
    for t in &history.transactions {
        let changed = match &mut changes {
            Some(changes) if t.fate == Fate::Live => {
                let file = source.file.show();
                Some(changes.next(t).map_err(|e| CliError::failure(format_args!("{file}: {e}")))?)
            }
            _ => None,
        };
        transactions.push(Shown::new(&journal, t, changed));
    }
    let scan = journal.scanned();
    let path = journal.image_path();
    let log = Log {
        image: path.to_string_lossy().into_owned(),
        image_base64: base64_unless_text(path.as_os_str().as_bytes()),
        base: history.base,
        last: history.last(),
        bytes: scan.end,
        torn_bytes: scan.torn,
        savepoints: (history.savepoints().iter())
            .map(|s| Named { name: s.name.clone(), state: s.number, time: seconds(s.time) })
            .collect(),
        transactions,
    };
    if json {
        return Ok(write_json(out, &log)?);
    }
    write!(out, "{}: for {}", source.file.show(), path.show())?;
    match history.begun {
        Some(_) => writeln!(out, ", whose commit was interrupted")?,
        None => writeln!(out, ", which is at state {}", log.base)?,
    }
    // savepoints after a transaction are printed with it
    let without = |s: &&Named| history.transaction(s.state).is_none();
    for Named { name, time, .. } in log.savepoints.iter().filter(without) {
        writeln!(out, "{:>6}  {}  savepoint {}", log.base, date::local(*time as u64), name.show())?;
    }
    for transaction in &log.transactions {
        transaction.print(out)?;
    }
    Ok(())
}

fn show(out: &mut impl Write, source: &Source, state: &str, json: bool) -> Result<(), CliError> {
    let (journal, image) = source.open()?;
    let history = journal.history();
    let failed =
        |reason: Reason| CliError::failure(format_args!("{}: {reason}", source.file.show()));
    let number = history.find(&At::parse(state)).map_err(failed)?;
    let Some(t) = history.transaction(number) else {
        let e = format!("state {number} is the image itself, not a transaction");
        return Err(CliError::failure(format_args!("{}: {e}", source.file.show())));
    };
    let before = history.live().take_while(|t| t.number < number).last();
    let before = At::Number(before.map_or(history.base, |t| t.number));
    let changes = Changes::between(&journal, &image, &before, &At::Number(number))?;
    let shown = Shown::new(&journal, t, Some(changes));
    if json { Ok(write_json(out, &shown)?) } else { Ok(shown.print(out)?) }
}

/// The result of a check of a journal; the field names are the JSON keys.
#[derive(Serialize)]
struct Verified {
    sound: bool,
    /// What is wrong.
    damage: Option<String>,
    /// Whole entries, up to the damage.
    entries: usize,
    transactions: usize,
    /// The last state that can be reached.
    last: u64,
    /// Bytes in whole entries.
    bytes: u64,
    /// Bytes after the whole entries.
    torn_bytes: u64,
    /// What is to be said about these bytes.
    #[serde(skip)]
    torn: Option<String>,
    /// Whether a commit was begun but not finished.
    commit_interrupted: bool,
}

fn verify(
    out: &mut impl Write,
    file: &Path,
    image: Option<&Path>,
    json: bool,
) -> Result<ExitCode, CliError> {
    let failed = |e: JournalError| {
        let is_damage = matches!(e.why, Why::Journal(Reason::Damaged { .. }));
        let code = if is_damage { exit::CHECK_ERRORS } else { exit::CHECK_OPERATIONAL };
        CliError::from(e).with_code(code)
    };
    let (journal, damage) = Journal::open_damaged(file).map_err(failed)?;
    if image.is_some() && damage.is_none() {
        journal.open_image(image).map_err(failed)?;
    }
    let (scan, history) = (journal.scanned(), journal.history());
    let found = Verified {
        sound: damage.is_none(),
        damage: damage.map(|reason| reason.to_string()),
        entries: scan.entries.len(),
        transactions: history.transactions.len(),
        last: history.last(),
        bytes: scan.end,
        torn_bytes: scan.torn,
        torn: scan.about_torn(),
        commit_interrupted: history.begun.is_some(),
    };
    let code = if found.sound { exit::SUCCESS } else { exit::CHECK_ERRORS };
    let printed = match json {
        true => write_json(out, &found),
        false => found.print(out, file),
    };
    match printed.map_err(CliError::from) {
        // The result is the same if only the beginning of the output is read.
        Err(e) if !e.is_closed_pipe() => Err(e.with_code(exit::CHECK_OPERATIONAL)),
        _ => Ok(ExitCode::from(code)),
    }
}

impl Verified {
    fn print(&self, out: &mut impl Write, file: &Path) -> io::Result<()> {
        let damage = self.damage.as_deref().unwrap_or("sound");
        writeln!(out, "{}: {}", file.show(), damage.show())?;
        let what = if self.sound { "it has" } else { "its sound part has" };
        writeln!(
            out,
            "{what} {} in {} and {}; the last state is {}",
            show::count(self.transactions, "transaction", "transactions"),
            show::count(self.entries, "entry", "entries"),
            show::bytes(self.bytes),
            self.last
        )?;
        if let Some(torn) = self.torn.as_ref().filter(|_| self.sound) {
            writeln!(out, "{torn}")?;
        }
        if self.commit_interrupted {
            writeln!(out, "{}", Reason::CommitBegun)?;
        }
        Ok(())
    }
}

/// Set a savepoint. If the journal is mounted, only the daemon of the mount can do that.
fn save(file: &Path, name: &str) -> Result<u64, CliError> {
    match Journal::open(file, Mode::Write) {
        Ok(journal) => Ok(journal.save(name)?),
        Err(e) => {
            if let Why::InUse(_) = e.why
                && let Some(dir) = mounted_on(file)
            {
                return Err(CliError::failure(format_args!(
                    "{}: is mounted on {dir}; 'setfattr -n user.littlefs.savepoint -v {name} \
                     {dir}' (from the package attr) makes a savepoint there",
                    file.show(),
                    dir = dir.show()
                )));
            }
            Err(e.into())
        }
    }
}

/// The directory on which the journal is mounted for writing; always `None`, because this build
/// cannot mount.
#[cfg(not(feature = "mount"))]
fn mounted_on(_file: &Path) -> Option<PathBuf> {
    None
}

/// The directory on which the journal is mounted for writing.
#[cfg(feature = "mount")]
fn mounted_on(file: &Path) -> Option<PathBuf> {
    let file = std::fs::canonicalize(file).ok()?;
    let entries = table::all().ok()?;
    let found = entries.into_iter().find(|entry| {
        status::ask(entry).is_ok_and(|status| {
            let journal = status.about.journal.path();
            let journal = journal.and_then(|path| std::fs::canonicalize(path).ok());
            status.about.read_only.is_none() && journal.as_ref() == Some(&file)
        })
    });
    found.map(|entry| entry.mountpoint)
}

/// A change in one line, for people.
pub(super) fn line(change: &Change) -> String {
    match &change.from {
        Some(from) if change.kind == ChangeKind::Renamed => {
            format!("R {} -> {}", from.show(), change.path.show())
        }
        _ => format!("{} {}", change.kind.letter(), change.path.show()),
    }
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
