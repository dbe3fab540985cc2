//! `littlefs convert`: convert an image in another dialect to littlefs.

use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, Args, ValueEnum};
use serde::Serialize;

use super::output::{check_is_file, not_stdio};
use super::shape::DiskVersion;
use super::undo::Backing;
use super::{CliError, ImageArgs, parse_bytes_u32, write_json};
use crate::convert::{Failure, Job, Outcome, Step, convert};
use crate::image::{self, Dialect};
use crate::show::{self, Show};

/// Convert an image of version 1, or one that chamelon wrote, to littlefs version 2
#[derive(Args, Debug)]
#[command(
    mut_args(without_journal),
    after_help = "\
Examples:
  littlefs convert --from v1 dump.img                 in place
  littlefs convert --from v1 dump.img new.img         leave the old image as it is
  littlefs convert --from v1 --to-block-size 4096 dump.img new.img
                                                      with larger blocks
  littlefs convert --from chamelon /dev/sdx1 new.img  from a device, only into a file

'v1' is littlefs version 1; 'chamelon' is the dialect of chamelon, the store of MirageOS. The new
image has the block size and block count of the old one, unless you give others, and all its files,
with their times. It is written to a file beside the old one, read back, compared and checked, and
only then takes its place. So an interruption leaves the old image or the new one, and perhaps a
file .littlefs-..., which you can remove. The new image belongs to the owner of the old one, and
only the owner can write to it."
)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub image: ImageArgs,

    /// New image [default: IMAGE itself]
    #[arg(value_parser = not_stdio())]
    pub out: Option<PathBuf>,

    /// The dialect of IMAGE
    #[arg(long, value_name = "DIALECT")]
    pub from: Origin,

    /// Version of the format: 2.1, or 2.0 for drivers older than littlefs 2.6
    #[arg(long, value_name = "VERSION", default_value = "2.1")]
    pub disk_version: DiskVersion,

    /// Block size of OUT, in bytes [default: that of IMAGE]
    #[arg(long, value_name = "BYTES", requires = "out", value_parser = parse_bytes_u32)]
    pub to_block_size: Option<u32>,

    /// Number of blocks of OUT [default: that of IMAGE]
    #[arg(long, value_name = "N", requires = "out")]
    pub block_count: Option<u32>,

    /// Leave out damaged parts, and list them
    #[arg(long)]
    pub salvage: bool,

    /// Save the old image in this new file, so that 'littlefs undo' can restore it
    #[arg(long, value_name = "FILE", conflicts_with = "out", value_parser = not_stdio())]
    pub backup: Option<PathBuf>,

    /// Overwrite OUT
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Do not print what was made
    #[arg(short, long)]
    pub quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Show progress on standard error; the default if that is a terminal
    #[arg(long)]
    pub progress: bool,
}

/// What can be converted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Origin {
    /// littlefs version 1
    V1,
    /// The dialect of chamelon, MirageOS's store
    Chamelon,
}

impl Origin {
    fn dialect(self) -> Dialect {
        match self {
            Self::V1 => Dialect::V1,
            Self::Chamelon => Dialect::Chamelon,
        }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output {
    image: String,
    disk_version: String,
    block_size: u32,
    block_count: u32,
    files: u64,
    directories: u64,
    bytes: u64,
    doubts: Vec<Doubt>,
}

/// A part that was left out, or that is damaged in the old image.
#[derive(Serialize)]
struct Doubt {
    place: String,
    message: String,
}

/// An image cannot be converted together with a journal.
fn without_journal(arg: Arg) -> Arg {
    if matches!(arg.get_id().as_str(), "journal" | "at") { arg.hide(true) } else { arg }
}

/// Run the command.
///
/// # Errors
/// When IMAGE is not of that dialect, is in use or damaged, or the new image cannot be written. In
/// all cases nothing was changed.
pub fn run(args: &ConvertArgs) -> Result<ExitCode, CliError> {
    let path = &args.image.image;
    let in_image =
        |why: &dyn std::fmt::Display| CliError::failure(format_args!("{}: {why}", path.show()));
    if args.image.journal.is_some() {
        return Err(in_image(
            &"an image cannot be converted together with a journal; commit the journal first",
        ));
    }
    args.out.as_deref().map_or(Ok(()), check_is_file)?;
    let in_place = args.out.is_none();
    let options = image::Options { exclusive: true, ..args.image.options(!in_place) };
    let found = args.image.find()?.image;
    let source = image::open_found(&found, &options).map_err(CliError::failure)?;
    for note in &source.notes {
        log::warn!("{note}");
    }
    if source.dialect != args.from.dialect() {
        return Err(in_image(&match (source.dialect, args.from) {
            (Dialect::Littlefs, Origin::V1) => "is already a littlefs of version 2",
            (Dialect::Littlefs, Origin::Chamelon) => {
                "is already a littlefs: nothing shows that chamelon wrote it; give --dialect \
                 chamelon if it did"
            }
            (Dialect::V1, _) => "is a littlefs of version 1; convert it with --from v1",
            (Dialect::Chamelon, _) => "was written by chamelon; convert it with --from chamelon",
        }));
    }
    if in_place && !source.writable {
        return Err(in_image(&"cannot be written; give OUT"));
    }
    if in_place && source.metadata.nlink() > 1 {
        log::warn!("{}: has other hard links, which still refer to the old image", path.show());
    }
    let job = Job {
        source: &source,
        out: args.out.as_deref(),
        overwrite: args.force,
        salvage: args.salvage,
        disk_version: args.disk_version.into(),
        block_size: args.to_block_size,
        block_count: args.block_count,
    };
    let backup = Backing::begin(args.backup.as_deref(), &source)?;
    backup.keep_all()?;
    let show = args.progress || (io::stderr().is_terminal() && !args.quiet);
    let outcome = convert(&job, &|step| {
        if show {
            show_step(step)
        }
    });
    if show {
        let _ = write!(io::stderr(), "\r{:40}\r", "");
    }
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(e) => {
            backup.discard();
            return Err(match (&e, &args.out) {
                (Failure::Exists | Failure::Target(_) | Failure::SameFile, Some(out)) => {
                    CliError::failure(format_args!("{}: {e}", out.show()))
                }
                _ => in_image(&e),
            });
        }
    };
    backup.end_with(path, outcome.geometry)?;
    for (place, message) in &outcome.doubts {
        log::warn!("{}: {place}: {message}", path.show());
    }
    report(args, outcome)?;
    Ok(ExitCode::SUCCESS)
}

/// Show the progress in a line. If the line cannot be written, the conversion continues.
fn show_step(step: Step) {
    let _ = match step {
        Step::Copied(bytes) => write!(io::stderr(), "\rcopied: {} KiB", bytes >> 10),
        Step::Compared(bytes) => write!(io::stderr(), "\rcompared: {} KiB", bytes >> 10),
        Step::Written | Step::Named => Ok(()),
    };
}

fn report(args: &ConvertArgs, outcome: Outcome) -> io::Result<()> {
    let version = u32::from(args.disk_version);
    let geometry = outcome.geometry;
    let output = Output {
        image: args.out.as_ref().unwrap_or(&args.image.image).show().to_string(),
        disk_version: format!("{}.{}", version >> 16, version & 0xffff),
        block_size: geometry.block_size,
        block_count: geometry.block_count,
        files: outcome.files,
        directories: outcome.directories,
        bytes: outcome.bytes,
        doubts: outcome
            .doubts
            .into_iter()
            .map(|(place, message)| Doubt { place, message })
            .collect(),
    };
    if args.quiet && !args.json {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    if args.json {
        return write_json(&mut out, &output);
    }
    let Output { image, disk_version, block_size, block_count, files, directories, bytes, .. } =
        output;
    writeln!(
        out,
        "{image}: littlefs {disk_version}, {block_count} blocks of {block_size} bytes: {} of {}, \
         {}",
        show::files(files),
        show::bytes(bytes),
        show::directories(directories)
    )
}
