//! `littlefs diff`: the differences between two images, directories or tar streams.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::gathering::{GatherArgs, not_gathered};
use super::{CliError, exit, journal, parse_place, print_json, tell_warnings};
use crate::image::{Page, Place};
use crate::journal::{Change, ChangeKind};
use crate::show::Show;
use crate::transactions::At;
use crate::transfer::{Comparison, Difference, Input, Side, diff, gather};
use crate::{Error, OpenOptions};

/// The position of the signature in a tar archive, in bytes, and the signature.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// List the paths that differ between two images, directories or tar streams
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs diff before.img after.img         which files changed?
  littlefs diff dump.bin data                does the device hold what is in the directory data?
  tar -cf - data | littlefs diff dump.bin -
  littlefs diff --journal-b j dump.bin dump.bin
                                             what the transactions of a journal changed
Each line has a letter and a path: A means that it is only in B, D that it is only in A, M that it
is in both but differs, and R that a file has another name. Two images are compared with all their
user attributes. The attributes of a directory or tar stream are compared only with --metadata, as
far as the image stores them.

Exit status: 0 if the two are the same, 1 if they differ, 2 if they cannot be compared, or if the
result may be wrong or outdated, because an image, or the file that contains it, is damaged.")]
pub struct DiffArgs {
    /// Image, directory, tar archive, or '-' for a tar stream on standard input
    a: PathBuf,

    /// Image, directory, tar archive or '-' to compare with A
    b: PathBuf,

    #[command(flatten)]
    states: States,

    #[command(flatten)]
    gather: GatherArgs,

    /// Also compare modes, owners and times, if both sides have them
    #[arg(long)]
    metadata: bool,

    /// Only count the differences
    #[arg(long)]
    stat: bool,

    /// Print nothing; the exit status is the answer
    #[arg(short, long, conflicts_with_all = ["stat", "json"])]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the filesystem of each image is, and which of its states to use.
#[derive(Args, Debug)]
struct States {
    /// Byte of A at which the filesystem starts; auto (default): 0, or else the place of the only
    /// filesystem that is found
    #[arg(long, value_name = "BYTES", value_parser = parse_place, conflicts_with = "partition_a")]
    offset_a: Option<Place>,

    /// Byte of B at which the filesystem starts; auto (default): 0, or else the place of the only
    /// filesystem that is found
    #[arg(long, value_name = "BYTES", value_parser = parse_place, conflicts_with = "partition_b")]
    offset_b: Option<Place>,

    /// Use the partition of this name in A, or the filesystem with this number
    #[arg(long, value_name = "NAME|N", value_parser = Place::partition)]
    partition_a: Option<Place>,

    /// Use the partition of this name in B, or the filesystem with this number
    #[arg(long, value_name = "NAME|N", value_parser = Place::partition)]
    partition_b: Option<Place>,

    /// Page and spare bytes, like 2048+64, if A is a dump of NAND flash with spare bytes
    #[arg(long, value_name = "PAGE", value_parser = Page::parse)]
    page_a: Option<Page>,

    /// Page and spare bytes, like 2048+64, if B is a dump of NAND flash with spare bytes
    #[arg(long, value_name = "PAGE", value_parser = Page::parse)]
    page_b: Option<Page>,

    /// Use A with the transactions of this journal
    #[arg(long, value_name = "FILE")]
    journal_a: Option<PathBuf>,

    /// Use B with the transactions of this journal
    #[arg(long, value_name = "FILE")]
    journal_b: Option<PathBuf>,

    /// With --journal-a: use the state after this transaction, or at this savepoint
    #[arg(long, value_name = "STATE", requires = "journal_a")]
    at_a: Option<String>,

    /// With --journal-b: use the state after this transaction, or at this savepoint
    #[arg(long, value_name = "STATE", requires = "journal_b")]
    at_b: Option<String>,
}

impl States {
    /// How to open A and B.
    fn options(&self) -> [OpenOptions; 2] {
        let a = (self.offset_a, self.partition_a, self.page_a, &self.journal_a, &self.at_a);
        let b = (self.offset_b, self.partition_b, self.page_b, &self.journal_b, &self.at_b);
        [a, b].map(|(offset, partition, page, journal, at)| {
            let place = partition.or(offset).unwrap_or(Place::Auto);
            let mut options = OpenOptions::new().read_only(true).place(place);
            if let Some(page) = page {
                options = options.page(page);
            }
            if let Some(journal) = journal {
                options = options.journal(journal);
            }
            match at {
                Some(at) => options.at(At::parse(at)),
                None => options,
            }
        })
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    changes: Vec<ChangeJson<'a>>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct ChangeJson<'a> {
    #[serde(flatten)]
    change: &'a Change,
    content: bool,
    metadata: bool,
}

#[derive(Serialize)]
struct Counts {
    added: usize,
    modified: usize,
    deleted: usize,
    renamed: usize,
}

/// Run the command.
///
/// # Errors
/// When one of the two cannot be read.
pub fn run(args: &DiffArgs) -> Result<ExitCode, CliError> {
    compare(args).map_err(|e| e.with_code(exit::DIFF_TROUBLE))
}

fn compare(args: &DiffArgs) -> Result<ExitCode, CliError> {
    let stdin = Path::new("-");
    if args.a == stdin && args.b == stdin {
        return Err(CliError::failure("standard input can be read only once"));
    }
    let [how_a, how_b] = args.states.options();
    let (a, b) = (args.side(&args.a, &how_a)?, args.side(&args.b, &how_b)?);
    let how = Comparison { exclude: args.gather.options()?.exclude, metadata: args.metadata };
    let found = diff(&a, &b, &how).map_err(CliError::failure)?;
    if !args.quiet {
        args.report(&found)?;
    }
    Ok(match (is_suspect(&a) || is_suspect(&b), found.is_empty()) {
        (true, _) => exit::DIFF_TROUBLE.into(),
        (false, false) => exit::DIFF_DIFFERENT.into(),
        (false, true) => ExitCode::SUCCESS,
    })
}

impl DiffArgs {
    fn side(&self, path: &Path, options: &OpenOptions) -> Result<Side, CliError> {
        let how = self.gather.options()?;
        let collect =
            |input| gather(vec![input], &how).map(Side::Host).map_err(|e| not_gathered(e, path));
        if path == Path::new("-") {
            return collect(Input::Tar(&mut io::stdin().lock()));
        }
        let fail = |e: io::Error| CliError::of_file(path, &e);
        let metadata = fs::metadata(path).map_err(fail)?;
        if metadata.is_dir() {
            return collect(Input::Path(path.to_owned()));
        }
        if metadata.is_file() && is_tar(path).map_err(fail)? {
            return collect(Input::Tar(&mut File::open(path).map_err(fail)?));
        }
        let image = options.open(path).map_err(|e| match e {
            // these errors already name the file
            Error::Image(e) => CliError::failure(e),
            Error::Journal(e) => CliError::failure(e),
            e => CliError::failure(format_args!("{}: {e}", path.show())),
        })?;
        tell_warnings(&image);
        Ok(Side::Image(image))
    }

    fn report(&self, found: &[Difference]) -> Result<(), CliError> {
        let count = |kind| found.iter().filter(|d| d.change.kind == kind).count();
        let counts = Counts {
            added: count(ChangeKind::Added),
            modified: count(ChangeKind::Modified),
            deleted: count(ChangeKind::Deleted),
            renamed: count(ChangeKind::Renamed),
        };
        if self.json {
            let changes = found
                .iter()
                .map(|Difference { change, content, metadata }| ChangeJson {
                    change,
                    content: *content,
                    metadata: *metadata,
                })
                .collect();
            return Ok(print_json(&Output { changes, counts })?);
        }
        let mut out = io::stdout().lock();
        if self.stat {
            let Counts { added, modified, deleted, renamed } = counts;
            writeln!(
                out,
                "{added} added, {modified} modified, {deleted} deleted, {renamed} renamed"
            )?;
            return Ok(());
        }
        for Difference { change, content, metadata } in found {
            let only = if *metadata && !content { " (attributes only)" } else { "" };
            writeln!(out, "{}{only}", journal::line(change))?;
        }
        Ok(())
    }
}

/// Whether what was read of a side may be wrong or outdated.
fn is_suspect(side: &Side) -> bool {
    matches!(side, Side::Image(image) if !image.suspicions().is_empty())
}

/// Whether the file is a tar archive, according to its first header.
fn is_tar(path: &Path) -> io::Result<bool> {
    let (at, magic) = TAR_MAGIC;
    let mut head = Vec::new();
    File::open(path)?.take((at + magic.len()) as u64).read_to_end(&mut head)?;
    Ok(head.get(at..) == Some(magic))
}
