//! `littlefs extract`: copy the content of an image to a directory, or into a tar stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::problems::{Problem, Problems};
use super::progress::Progress;
use super::{CliError, ImageArgs, print_json};
use crate::Littlefs;
use crate::show;
use crate::transfer::{Extracted, Extraction, extract, to_tar};

/// Copy files and directories out of an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs extract dump.bin -C out               everything, into the directory out
  littlefs extract dump.bin www 'log/*.txt'      some of it, into the current directory
  littlefs extract --to-tar - dump.bin | tar -t  as a tar stream

Entries keep the path that they have in the image. Existing files are replaced; entries are added to
existing directories. Symbolic links in a path are never followed, so nothing is written outside
DIR. Times, modes and links are set if the image stores them. Damaged files are left out, each with
a message, and the rest is extracted.

Exit status: 0, 1 if it failed, 2 if it finished but something was left out, or may be wrong.")]
pub struct ExtractArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Write into this directory; made if it does not exist
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", conflicts_with = "to_tar")]
    directory: PathBuf,

    /// Write a tar stream into this file; '-' for standard output
    #[arg(long, value_name = "FILE")]
    to_tar: Option<PathBuf>,

    /// Also set owners and set-id bits, and make device nodes (only as root, and for trusted
    /// images)
    #[arg(short, long, conflicts_with = "to_tar")]
    preserve: bool,

    /// Do not print what was done
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    files: u64,
    directories: u64,
    bytes: u64,
    left_out: &'a [Problem],
    suspect: &'a [Problem],
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the destination cannot be written.
pub fn run(args: &ExtractArgs) -> Result<ExitCode, CliError> {
    let to_stdout = args.to_tar.as_deref() == Some(Path::new("-"));
    if to_stdout && args.json {
        return Err(CliError::failure("--json and a tar stream cannot both go to standard output"));
    }
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image);
    let paths = problems.expand(&image, &args.image.asked(&args.paths));
    let done = match &args.to_tar {
        None => {
            let bar = Progress::new("extracting", content_size(&image), args.quiet);
            let how = Extraction { preserve: args.preserve, inputs: args.image.inputs() };
            extract(&image, &paths, &args.directory, how, &|bytes| bar.at(bytes))
                .map_err(|e| CliError::failure(format_args!("{}: {e}", args.directory.display())))?
        }
        Some(file) => write_tar(args, &image, &paths, file)?,
    };
    problems.add_extracted(&done);
    let Extracted { files, directories, bytes, .. } = done;
    if args.json {
        let (left_out, suspect) = (problems.list(), problems.suspect());
        print_json(&Output { files, directories, bytes, left_out, suspect })?;
    } else if !args.quiet && !to_stdout {
        let (files, directories) = (show::files(files), show::directories(directories));
        writeln!(io::stdout(), "{files}, {directories}, {}", show::bytes(bytes))?;
    }
    Ok(problems.status(files + directories > 0))
}

fn write_tar(
    args: &ExtractArgs,
    image: &Littlefs,
    paths: &[Vec<u8>],
    file: &Path,
) -> Result<Extracted, CliError> {
    let bar = Progress::new("extracting", content_size(image), args.quiet);
    let failed = |e: io::Error| match e.kind() {
        // the reader of the stream has closed it
        io::ErrorKind::BrokenPipe => CliError::from(e),
        _ => CliError::failure(format_args!("{}: {e}", file.display())),
    };
    let progress = |bytes| bar.at(bytes);
    if file != Path::new("-") {
        args.image.refuse_as_output(file)?;
        let out = io::BufWriter::new(File::create(file).map_err(failed)?);
        return to_tar(image, paths, out, &progress).map_err(failed);
    }
    let out = io::stdout();
    if out.is_terminal() {
        let message = "a tar stream is not written to a terminal; redirect standard output";
        return Err(CliError::failure(message));
    }
    to_tar(image, paths, io::BufWriter::new(out.lock()), &progress).map_err(failed)
}

/// Bytes of content in the whole image, as far as the image can be read.
fn content_size(image: &Littlefs) -> u64 {
    let Ok(walk) = image.walk("") else { return 0 };
    walk.flatten().map(|entry| entry.metadata().len()).sum()
}
