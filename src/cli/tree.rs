//! `littlefs tree`: show the directories of an image as a tree.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::problems::Problems;
use super::{CliError, ImageArgs};
use crate::Littlefs;
use crate::check::show;

/// Show the directories of an image as a tree
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs tree dump.bin
  littlefs tree -L 2 -s dump.bin www      two levels, with sizes

'littlefs ls -R --json' prints the same for programs. Exit status: 0, 1 if nothing could be shown, 2
if something is damaged, does not exist, or may be wrong.")]
pub struct TreeArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Directories in the image, or patterns [default: the root directory]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Also show names that begin with a dot
    #[arg(short)]
    all: bool,

    /// Show only this many levels
    #[arg(short = 'L', value_name = "LEVELS", value_parser = clap::value_parser!(u64).range(1..))]
    levels: Option<u64>,

    /// Show the sizes of files, in bytes
    #[arg(short)]
    sizes: bool,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the output cannot be written.
pub fn run(args: &TreeArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let mut shown = Shown::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut anything = false;
    for path in problems.expand(&image, &args.image.asked(&args.paths)) {
        anything = true;
        writeln!(out, "/{}", show(&path))?;
        if image.metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            show_tree(args, &image, path, &mut problems, &mut shown, &mut out)?;
        }
    }
    let Shown { directories, files } = shown;
    if anything {
        writeln!(
            out,
            "\n{}, {}",
            crate::show::directories(directories),
            crate::show::files(files)
        )?;
    }
    out.flush()?;
    Ok(problems.status(anything))
}

#[derive(Default)]
struct Shown {
    directories: u64,
    files: u64,
}

/// A directory on the path to the present entry, with the part of it that is still to be shown.
struct Level {
    dir: Vec<u8>,
    /// The remaining rows, the last one first.
    rest: Vec<Row>,
}

struct Row {
    name: Vec<u8>,
    is_dir: bool,
    size: u64,
}

fn show_tree(
    args: &TreeArgs,
    image: &Littlefs,
    dir: Vec<u8>,
    problems: &mut Problems,
    shown: &mut Shown,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut open = vec![Level { rest: rows(args, image, &dir, problems), dir }];
    while let Some(level) = open.last_mut() {
        let Some(row) = level.rest.pop() else {
            open.pop();
            continue;
        };
        let slash: &[u8] = if level.dir.is_empty() { b"" } else { b"/" };
        let path = [&level.dir, slash, &row.name].concat();
        let above = open.len() - 1;
        for level in &open[..above] {
            out.write_all(if level.rest.is_empty() { "    " } else { "│   " }.as_bytes())?;
        }
        let is_last = open.last().is_none_or(|level| level.rest.is_empty());
        write!(out, "{}{}", if is_last { "└── " } else { "├── " }, show(&row.name))?;
        if args.sizes && !row.is_dir {
            write!(out, " ({})", row.size)?;
        }
        writeln!(out, "{}", if row.is_dir { "/" } else { "" })?;
        if !row.is_dir {
            shown.files += 1;
            continue;
        }
        shown.directories += 1;
        if args.levels.is_none_or(|levels| (open.len() as u64) < levels) {
            open.push(Level { rest: rows(args, image, &path, problems), dir: path });
        } else {
            problems.examine_dir(image, &path);
        }
    }
    Ok(())
}

/// The rows to show for a directory, the last one first.
fn rows(args: &TreeArgs, image: &Littlefs, dir: &[u8], problems: &mut Problems) -> Vec<Row> {
    let mut rows = Vec::new();
    let entries = match image.read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            problems.add(dir, e);
            return rows;
        }
    };
    for entry in entries {
        match entry {
            Ok(entry) if entry.name().starts_with(b".") && !args.all => {}
            Ok(entry) => match entry.metadata() {
                Ok(metadata) => rows.push(Row {
                    name: entry.name().to_vec(),
                    is_dir: metadata.is_dir(),
                    size: metadata.len(),
                }),
                Err(e) => problems.add(&[dir, b"/", entry.name()].concat(), e),
            },
            Err(e) => {
                problems.add(dir, e);
                break;
            }
        }
    }
    rows.sort_by(|a, b| b.name.cmp(&a.name));
    rows
}
