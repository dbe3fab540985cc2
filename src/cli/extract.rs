//! `littlefs extract`: copy the content of an image to a directory, or into a tar stream.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{Replaced, Target, not_stdio};
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

With --to-tar, FILE gets its name when the tar stream is complete. If that fails, or if nothing
could be extracted, FILE is as it was before. An existing FILE is overwritten only with --force. A
pipe or a character device is written to directly.

Exit status: 0, 1 if it failed, 2 if it finished but something was left out, or may be wrong.")]
pub struct ExtractArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Write into this directory; made if it does not exist
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", conflicts_with = "to_tar",
          value_parser = not_stdio())]
    directory: PathBuf,

    /// Write a tar stream into this file; '-' for standard output
    #[arg(long, value_name = "FILE")]
    to_tar: Option<PathBuf>,

    /// With --to-tar: overwrite FILE if it exists
    #[arg(long, requires = "to_tar")]
    force: bool,

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
    let target = args.target()?;
    let to_stdout = target.as_ref().is_some_and(Target::is_stdout);
    if to_stdout && args.json {
        return Err(CliError::failure("--json and a tar stream cannot both go to standard output"));
    }
    if to_stdout && io::stdout().is_terminal() {
        let message = "a tar stream is not written to a terminal; redirect standard output";
        return Err(CliError::failure(message));
    }
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let paths = problems.expand(&image, &args.image.asked(&args.paths));
    let bar = Progress::new("extracting", content_size(&image), args.quiet);
    let progress = |bytes| bar.at(bytes);
    let begun = target.as_ref().map(Target::begin).transpose()?;
    let done = match &begun {
        None => {
            let how = Extraction { preserve: args.preserve, inputs: args.image.inputs() };
            extract(&image, &paths, &args.directory, how, &progress)
                .map_err(|e| CliError::of_file(&args.directory, &e))?
        }
        Some(begun) => to_tar(&image, &paths, io::BufWriter::new(begun.file()), &progress)
            .map_err(|e| begun.failed(e))?,
    };
    drop(bar);
    problems.add_extracted(&done);
    let Extracted { files, directories, bytes, .. } = done;
    let any = files + directories > 0;
    // if nothing could be read, the old file of this name is worth more than an empty archive
    if let Some(begun) = begun.filter(|_| !problems.is_failure(any)) {
        begun.finish()?;
    }
    if args.json {
        let (left_out, suspect) = (problems.left_out(), problems.suspect());
        print_json(&Output { files, directories, bytes, left_out, suspect })?;
    } else if !args.quiet && !to_stdout {
        let (files, directories) = (show::files(files), show::directories(directories));
        writeln!(io::stdout(), "{files}, {directories}, {}", show::bytes(bytes))?;
    }
    Ok(problems.status(any))
}

impl ExtractArgs {
    /// The file for the tar stream, if one is to be written.
    fn target(&self) -> Result<Option<Target<'_>>, CliError> {
        let Some(file) = &self.to_tar else { return Ok(None) };
        Target::find(file, Replaced::ByForce(self.force), &self.image.inputs()).map(Some)
    }
}

/// Bytes of content in the whole image, as far as the image can be read.
fn content_size(image: &Littlefs) -> u64 {
    let Ok(walk) = image.walk("") else { return 0 };
    walk.flatten().map(|entry| entry.metadata().len()).sum()
}
