//! `littlefs du`: how many blocks of an image files and directories use.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::problems::{Problem, Problems};
use super::{CliError, ImageArgs, entry, info, print_json};
use crate::Littlefs;
use crate::check::show;

/// Show how many blocks files and directories use
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs du dump.bin             each directory, including everything below it
  littlefs du -a dump.bin www      files, too
  littlefs du -s dump.bin '*'      one line for each entry of the root directory

A file that is stored inside its directory uses no block of its own. A directory uses two blocks for
each of its metadata pairs. Exit status: 0, 1 if nothing could be shown, 2 if something is damaged,
does not exist, or may be wrong.")]
pub struct DuArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns [default: the root directory]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Show files, too
    #[arg(short)]
    all: bool,

    /// Show only a total for each PATH
    #[arg(short, conflicts_with = "all")]
    summarize: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    block_size: u32,
    entries: &'a [Row],
    errors: Vec<&'a Problem>,
}

/// An entry, including everything below it.
#[derive(Serialize)]
struct Row {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    blocks: u64,
    size: u64,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the output cannot be written.
pub fn run(args: &DuArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let mut rows = Vec::new();
    for path in problems.expand(&image, &args.image.asked(&args.paths)) {
        add(args, &image, &path, &mut problems, &mut rows);
    }
    let block_size = image.geometry().block_size;
    if args.json {
        print_json(&Output { block_size, entries: &rows, errors: problems.all() })?;
        return Ok(problems.status(!rows.is_empty()));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    for row in &rows {
        let size = info::bytes(row.blocks * u64::from(block_size));
        let unit = if row.blocks == 1 { "block " } else { "blocks" };
        writeln!(out, "{:>7} {unit}  {size:>11}  {}", row.blocks, show(row.path.as_bytes()))?;
    }
    out.flush()?;
    Ok(problems.status(!rows.is_empty()))
}

/// A directory on the path to the present entry, with the blocks counted for it so far.
struct Level {
    path: Vec<u8>,
    blocks: u64,
    size: u64,
}

/// Add the row of `path`, after the rows of the entries below it.
fn add(args: &DuArgs, image: &Littlefs, path: &[u8], problems: &mut Problems, rows: &mut Vec<Row>) {
    let (metadata, own) = match (image.metadata(path), image.storage(path)) {
        (Ok(metadata), Ok(storage)) => (metadata, u64::from(storage.blocks())),
        (Err(e), _) | (_, Err(e)) => return problems.add(path, e),
    };
    if !metadata.is_dir() {
        return rows.push(row(path, own, metadata.len()));
    }
    let mut open = vec![Level { path: path.to_vec(), blocks: own, size: 0 }];
    let mut walk = match image.walk(path) {
        Ok(walk) => walk,
        Err(e) => return problems.add(path, e),
    };
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                problems.add(&e.path, e.error);
                continue;
            }
        };
        close_to(entry.depth(), &mut open, args, rows);
        let blocks = match image.storage(entry.path()) {
            Ok(storage) => u64::from(storage.blocks()),
            Err(e) => {
                problems.add(entry.path(), e);
                if entry.metadata().is_dir() {
                    // the walk would report the same error again
                    walk.skip_dir();
                }
                continue;
            }
        };
        if entry.metadata().is_dir() {
            open.push(Level { path: entry.path().to_vec(), blocks, size: 0 });
            continue;
        }
        if let Some(dir) = open.last_mut() {
            dir.blocks += blocks;
            dir.size += entry.metadata().len();
        }
        if args.all {
            rows.push(row(entry.path(), blocks, entry.metadata().len()));
        }
    }
    close_to(0, &mut open, args, rows);
    rows.extend(open.pop().map(|level| row(&level.path, level.blocks, level.size)));
}

/// Add the totals of the directories below this depth to their parents. These directories are
/// complete.
fn close_to(depth: usize, open: &mut Vec<Level>, args: &DuArgs, rows: &mut Vec<Row>) {
    while open.len() > depth + 1 {
        let Some(level) = open.pop() else { return };
        if !args.summarize {
            rows.push(row(&level.path, level.blocks, level.size));
        }
        if let Some(around) = open.last_mut() {
            around.blocks += level.blocks;
            around.size += level.size;
        }
    }
}

fn row(path: &[u8], blocks: u64, size: u64) -> Row {
    let shown = [b"/", path].concat();
    Row { path: entry::text(&shown), path_base64: entry::base64(&shown), blocks, size }
}
