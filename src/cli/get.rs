//! `littlefs get`: copy files out of an image, like cp(1).

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::problems::{Problem, Problems};
use super::{CliError, ImageArgs, cat, output, print_json};
use crate::show::{self, Show};
use crate::transfer::{Extracted, Extraction, Landing, get};

/// Copy files out of an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs get dump.bin etc/config.txt .        into the current directory
  littlefs get dump.bin etc/config.txt old.txt  under another name
  littlefs get -r dump.bin www 'log/*' backup/  directories, too

As with cp, DEST is a directory into which the files are copied, or the new name of a single file;
if it is a symbolic link, the file behind the link is replaced. With '-' as DEST, a single file is
written to standard output, as by 'littlefs cat'. 'littlefs extract' keeps the paths that files have
in the image.

Exit status: 0, 1 if nothing was copied, 2 if something was left out or may be wrong.")]
pub struct GetArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files in the image, or patterns
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// The destination on the host; '-' is standard output
    dest: PathBuf,

    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,

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
pub fn run(args: &GetArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let mut paths = problems.expand(&image, &args.image.asked(&args.paths));
    if !args.recursive {
        paths.retain(|path| {
            let is_dir = image.metadata(path).is_ok_and(|metadata| metadata.is_dir());
            if is_dir {
                problems.add(path, "is a directory; give -r to copy directories");
            }
            !is_dir
        });
    }
    if output::is_stdout(&args.dest) {
        if args.json || paths.len() > 1 || args.paths.len() > 1 {
            return Err(CliError::failure(format_args!(
                "{}: standard output gets the content of a single file, and no JSON object; \
                 'littlefs cat' writes several files, one after the other",
                args.dest.show()
            )));
        }
        return cat::write_files(&image, &paths, problems);
    }
    let landing = landing(&args.dest, paths.len(), args.paths.len())?;
    let how = Extraction { inputs: args.image.inputs(), ..Extraction::default() };
    let done = get(&image, &paths, &landing, how, &|_| ())
        .map_err(|e| CliError::of_file(&args.dest, &e))?;
    problems.add_extracted(&done);
    let Extracted { files, directories, bytes, .. } = done;
    if args.json {
        let (left_out, suspect) = (problems.left_out(), problems.suspect());
        print_json(&Output { files, directories, bytes, left_out, suspect })?;
    } else if !args.quiet {
        let (files, directories) = (show::files(files), show::directories(directories));
        writeln!(io::stdout(), "{files}, {directories}, {}", show::bytes(bytes))?;
    }
    Ok(problems.status(files + directories > 0))
}

/// Whether the destination is a directory for the files, or the name of the only file.
fn landing(local: &Path, found: usize, asked: usize) -> Result<Landing, CliError> {
    if local.is_dir() {
        return Ok(Landing::Into(local.to_owned()));
    }
    if found > 1 || asked > 1 || local.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let local = local.display();
        return Err(CliError::failure(format_args!("{local}: no such directory")));
    }
    let parent = local.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let parent = parent.display();
        return Err(CliError::failure(format_args!("{parent}: no such directory")));
    }
    Ok(Landing::As(local.to_owned()))
}
