//! `littlefs ls`: list files and directories in an image.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use console::Term;
use serde::Serialize;

use super::entry::{EntryJson, mode_string};
use super::problems::{Problem, Problems};
use super::{CliError, ImageArgs, date, print_json};
use crate::check::show;
use crate::time::nanos;
use crate::{Littlefs, Metadata};

/// Spaces between columns of names.
const GAP: usize = 2;

/// List files and directories in an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs ls dump.bin                    the root directory
  littlefs ls -l dump.bin www '*.js'      a directory, and the files that match a pattern
  littlefs ls -R --json dump.bin | jq -r '.entries[].path'

Modes, owners and times are shown if the image stores them; question marks stand for modes that are
not stored. Patterns are expanded inside the image: quote them. Exit status: 0, 1 if nothing could
be listed, 2 if something is damaged, does not exist, or may be wrong.")]
pub struct LsArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns [default: the root directory]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// One line for each entry: mode, owner, size in bytes, time of change, name
    #[arg(short)]
    long: bool,

    /// Also show names that begin with a dot
    #[arg(short)]
    all: bool,

    /// Also list all directories below
    #[arg(short = 'R')]
    recursive: bool,

    /// One name on each line; the default unless standard output is a terminal
    #[arg(short = '1')]
    one: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    entries: &'a [EntryJson],
    errors: Vec<&'a Problem>,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the output cannot be written.
pub fn run(args: &LsArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let asked = problems.expand(&image, &args.image.asked(&args.paths));
    let mut lister = Lister {
        args,
        image: &image,
        problems,
        json: Vec::new(),
        listed: false,
        out: io::stdout(),
    };
    let is_dir = |path: &Vec<u8>| image.metadata(path).is_ok_and(|m| m.is_dir());
    let (dirs, files): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_dir);
    let headed = args.recursive || dirs.len() + files.len() > 1;
    lister.list_files(files)?;
    for dir in dirs {
        lister.list_dir(dir, headed)?;
    }
    if args.json {
        print_json(&Output { entries: &lister.json, errors: lister.problems.all() })?;
    }
    Ok(lister.problems.status(lister.listed))
}

/// An entry to be shown.
struct Row {
    path: Vec<u8>,
    name: String,
    metadata: Metadata,
}

struct Lister<'a> {
    args: &'a LsArgs,
    image: &'a Littlefs,
    problems: Problems,
    json: Vec<EntryJson>,
    /// Whether something was already shown.
    listed: bool,
    out: io::Stdout,
}

impl Lister<'_> {
    /// List entries that the arguments name.
    fn list_files(&mut self, paths: Vec<Vec<u8>>) -> Result<(), CliError> {
        let mut rows = Vec::new();
        for path in paths {
            match self.image.metadata(&path) {
                Ok(metadata) => rows.push(Row { name: show(&path), path, metadata }),
                Err(e) => self.problems.add(&path, e),
            }
        }
        if rows.is_empty() { Ok(()) } else { self.show(&rows) }
    }

    /// List the entries of a directory, and with `-R` those of all directories below it.
    fn list_dir(&mut self, dir: Vec<u8>, headed: bool) -> Result<(), CliError> {
        let mut todo = vec![dir];
        while let Some(dir) = todo.pop() {
            let rows = self.read_dir(&dir);
            if headed && !self.args.json {
                let gap = if self.listed { "\n" } else { "" };
                writeln!(self.out, "{gap}/{}:", show(&dir))?;
            }
            self.show(&rows)?;
            let below = rows.into_iter().filter(|row| row.metadata.is_dir());
            if self.args.recursive {
                todo.extend(below.rev().map(|row| row.path));
            } else {
                below.for_each(|row| self.problems.examine_dir(self.image, &row.path));
            }
        }
        Ok(())
    }

    fn read_dir(&mut self, dir: &[u8]) -> Vec<Row> {
        let mut rows = Vec::new();
        let entries = match self.image.read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => {
                self.problems.add(dir, e);
                return rows;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    self.problems.add(dir, e);
                    break;
                }
            };
            if entry.name().starts_with(b".") && !self.args.all {
                continue;
            }
            let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
            let path = [dir, slash, entry.name()].concat();
            match entry.metadata() {
                Ok(metadata) => rows.push(Row { path, name: show(entry.name()), metadata }),
                Err(e) => self.problems.add(&path, e),
            }
        }
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        rows
    }

    fn show(&mut self, rows: &[Row]) -> Result<(), CliError> {
        self.listed = true;
        if self.args.json {
            let entry = |row: &Row| EntryJson::new(self.image, &row.path, &row.metadata);
            self.json.extend(rows.iter().map(entry));
            return Ok(());
        }
        let mut out = self.out.lock();
        if self.args.long {
            return Ok(show_long(&mut out, self.image, rows)?);
        }
        if !self.args.one && self.out.is_terminal() {
            return Ok(show_columns(&mut out, rows, usize::from(Term::stdout().size().1))?);
        }
        for row in rows {
            writeln!(out, "{}", row.name)?;
        }
        Ok(())
    }
}

fn show_long(out: &mut impl Write, image: &Littlefs, rows: &[Row]) -> io::Result<()> {
    let owner = |row: &Row| match (row.metadata.uid(), row.metadata.gid()) {
        (Some(uid), Some(gid)) => format!("{uid}:{gid} "),
        _ => String::new(),
    };
    let owners = rows.iter().map(|row| owner(row).len()).max().unwrap_or(0);
    let sizes = rows.iter().map(|row| row.metadata.len().to_string().len()).max().unwrap_or(0);
    let date = |row: &Row| match row.metadata.modified() {
        Some(time) => date::local_minutes(nanos(time)),
        None => "-".to_owned(),
    };
    let dates = rows.iter().map(|row| date(row).len()).max().unwrap_or(0);
    for row in rows {
        let metadata = &row.metadata;
        let (mode, owner, date) = (mode_string(metadata), owner(row), date(row));
        let size = metadata.len();
        write!(out, "{mode} {owner:<owners$}{size:>sizes$} {date:<dates$} {}", row.name)?;
        match metadata.is_symlink().then(|| image.read(&row.path)) {
            Some(Ok(target)) => writeln!(out, " -> {}", show(&target))?,
            _ => writeln!(out)?,
        }
    }
    Ok(())
}

/// Print names in as many columns as fit. The order goes down each column.
fn show_columns(out: &mut impl Write, rows: &[Row], width: usize) -> io::Result<()> {
    let lens: Vec<usize> = rows.iter().map(|row| console::measure_text_width(&row.name)).collect();
    let fits = |lines: usize| {
        let columns = lens.chunks(lines).map(|column| column.iter().max().unwrap_or(&0) + GAP);
        columns.sum::<usize>() <= width + GAP
    };
    let lines = (1..=rows.len()).find(|&lines| fits(lines)).unwrap_or(rows.len()).max(1);
    let widths: Vec<usize> =
        lens.chunks(lines).map(|column| column.iter().max().unwrap_or(&0) + GAP).collect();
    for line in 0..lines {
        let mut pad = 0;
        for (column, width) in widths.iter().enumerate() {
            let at = column * lines + line;
            let Some((row, len)) = rows.get(at).zip(lens.get(at)) else { continue };
            write!(out, "{:pad$}{}", "", row.name)?;
            pad = width - len;
        }
        if !rows.is_empty() {
            writeln!(out)?;
        }
    }
    Ok(())
}
