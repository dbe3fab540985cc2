//! `littlefs create`: make an image with content.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::gathering::{GatherArgs, not_gathered};
use super::output::{Begun, Replaced, Target, check_is_file, not_stdio};
use super::progress::Progress;
use super::shape::{AnyVersion, ShapeArgs};
use super::{CliError, info, parse_bytes, parse_bytes_u32, print_json};
use crate::FormatOptions;
use crate::convention::Choice;
use crate::image::{OpenError, Place};
use crate::profile::Profile;
use crate::show::{self, Show};
use crate::sys;
use crate::transfer::{self, Created, Creation, Failure, Input, Manifest, Placement, Size};

/// Make an image with the content of directories, files or a tar stream
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs create --size 1M new.img data          the content of the directory data
  littlefs create --size min --free 64K new.img data
                                                  as small as possible, with some room
  littlefs create --profile esp-idf --size 0x160000 fs.bin data
                                                  for ESP-IDF, with times
  tar -cf - . | littlefs create --size 1M new.img -
  littlefs create --into --offset 0x290000 flash.bin data
                                                  replace the filesystem inside a flash dump
  littlefs create --into --partition spiffs flash.bin data
                                                  the same, by the name in its partition table

The root directory of the image gets the content of each directory, each file, and the content of a
tar stream ('-', standard input). Only names and content are stored, unless --attrs or --profile
selects a convention that stores times, owners or modes.

The image is written to a temporary file beside IMAGE, and gets its name when it is complete, so a
failure leaves everything as it was. The same input makes the same bytes, on any machine and at any
time. If times are stored, set SOURCE_DATE_EPOCH to the latest time that may occur, as for other
reproducible builds. Free blocks are filled with 0xFF, like erased flash.

Exit status: 0, or 1 if it failed; then nothing was written.")]
pub struct CreateArgs {
    /// File to make
    #[arg(value_parser = not_stdio())]
    image: PathBuf,

    /// Directories, files, or '-' for a tar stream on standard input
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,

    /// Size of the filesystem: a multiple of the block size, like 65536, 512K or 1M; 'min' is the
    /// smallest size that holds everything
    #[arg(long, value_name = "BYTES|min", value_parser = parse_size,
          conflicts_with = "block_count")]
    size: Option<SizeArg>,

    /// Number of blocks
    #[arg(long, value_name = "N")]
    block_count: Option<u32>,

    /// With --size min: make the filesystem larger by this many bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    free: Option<u64>,

    /// Leave out the free blocks at the end, so that the file is shorter than its filesystem; this
    /// program adds them again when it first writes to the image
    #[arg(long, conflicts_with = "into")]
    no_pad: bool,

    /// Replace the filesystem at --offset or in --partition of the dump IMAGE, and keep everything
    /// else
    #[arg(long)]
    into: bool,

    /// With --into: byte of IMAGE at which the filesystem starts
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "into")]
    offset: Option<u64>,

    /// With --into: use the partition of this name in an ESP32's table, or the filesystem with this
    /// number in the list of 'littlefs scan'
    #[arg(long, value_name = "NAME|N", value_parser = Place::partition, requires = "into",
          conflicts_with = "offset")]
    partition: Option<Place>,

    #[command(flatten)]
    shape: ShapeArgs,

    /// Program size of the device, to which commits are aligned [default: 16]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_u32)]
    prog_size: Option<u32>,

    /// Largest file that is stored in the blocks of its directory; at most the device's cache size
    /// [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_u32)]
    inline_max: Option<u32>,

    /// Store times (and, with some values, owners and modes) by this convention: unix stores
    /// everything; also micropython, esp-idf, arduino, ... [default: that of the profile, else
    /// none]
    #[arg(long, value_name = "NAME", value_parser = Choice::parse)]
    attrs: Option<Choice>,

    #[command(flatten)]
    gather: GatherArgs,

    /// Fail if devices of this family would refuse the image (--profile only warns)
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    check_profile: Option<&'static Profile>,

    /// Write the files on which the image depends into this file, as a rule for make or ninja; a
    /// file that holds such a rule already is overwritten, and no other
    #[arg(long, value_name = "FILE")]
    depfile: Option<PathBuf>,

    /// Overwrite IMAGE if it exists; with --into, also if it is a block device
    #[arg(long)]
    force: bool,

    /// Do not print what was made
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum SizeArg {
    Bytes(u64),
    Min,
}

pub(super) fn parse_size(text: &str) -> Result<SizeArg, String> {
    match text {
        "min" => Ok(SizeArg::Min),
        _ => parse_bytes(text)
            .map(SizeArg::Bytes)
            .map_err(|e| format!("{e}, or 'min' for the smallest size that holds everything")),
    }
}

/// A size of this many bytes, in blocks of the size in `format`.
pub(super) fn of_bytes(format: &FormatOptions, size: u64) -> Result<Size, CliError> {
    let asked = format.clone().size(size).geometry().map_err(CliError::failure)?;
    Ok(Size::Blocks(asked.map_or(0, |geometry| geometry.block_count)))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    block_size: u32,
    block_count: u32,
    blocks_used: u32,
    blocks_free: u32,
    files: u64,
    directories: u64,
    bytes: u64,
    image_size: u64,
}

/// One rule: the image depends on every file and directory that was collected.
fn rule(image: &Path, manifest: &Manifest) -> Vec<u8> {
    let mut rule = make_name(image);
    rule.push(b':');
    for path in manifest.host_paths() {
        rule.extend_from_slice(b" \\\n  ");
        rule.extend(make_name(&path));
    }
    rule.push(b'\n');
    rule
}

/// Whether a file that begins with these bytes looks like one that [`rule`] has made: a target, and
/// then only lines that continue the rule.
fn is_rule(start: &[u8]) -> bool {
    let mut lines = start.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or(start);
    let mut goes_on = first.ends_with(b" \\");
    let target = first.strip_suffix(b" \\").unwrap_or(first).strip_suffix(b":");
    target.is_some_and(|name| !name.is_empty() && !name.contains(&0))
        && lines.all(|line| {
            let fits = match goes_on {
                // the last line may be cut off
                true => line.starts_with(b"  ") || b"  ".starts_with(line),
                false => line.is_empty(),
            };
            goes_on = line.ends_with(b" \\");
            fits
        })
}

/// A path with the escapes of a makefile.
fn make_name(path: &Path) -> Vec<u8> {
    let mut name = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'#' | b':' => name.push(b'\\'),
            b'$' => name.push(b'$'),
            _ => {}
        }
        name.push(byte);
    }
    name
}

/// Run the command.
///
/// # Errors
/// When the content cannot be read or does not fit, or the image cannot be written.
pub fn run(args: &CreateArgs) -> Result<ExitCode, CliError> {
    let how = args.creation()?;
    let placement = match args.into {
        true => Placement::Into {
            place: args.partition.unwrap_or(Place::At(args.offset.unwrap_or(0))),
            overwrite: args.force,
        },
        false => Placement::New { overwrite: args.force },
    };
    check_is_file(&args.image)?;
    let manifest = args.manifest()?;
    let depfile = args.depfile(&manifest)?;
    let depfile = depfile.as_ref().map(|depfile| args.depend(depfile, &manifest)).transpose()?;
    let bar = Progress::new("writing", manifest.bytes(), args.quiet);
    let created = transfer::create(&args.image, placement, &manifest, &how, &|b| bar.at(b));
    drop(bar);
    let created = created.map_err(|e| failed(&args.image, e))?;
    depfile.map_or(Ok(()), Begun::finish)?;
    report(&args.image, &created, args.quiet, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Why an image was not made at `path`.
pub(super) fn failed(path: &Path, e: Failure) -> CliError {
    match e {
        Failure::Target(reason) => CliError::failure(OpenError { path: path.to_owned(), reason }),
        e => CliError::failure(format_args!("{}: {e}", path.show())),
    }
}

/// Print what was made at `path`.
pub(super) fn report(path: &Path, created: &Created, quiet: bool, json: bool) -> io::Result<()> {
    for misfit in &created.misfits {
        log::warn!("{}: {misfit}", path.show());
    }
    for warning in &created.warnings {
        log::warn!("{}: {warning}", path.show());
    }
    let &Created { geometry: g, blocks_used, files, directories, bytes, image_size, .. } = created;
    let blocks_free = g.block_count - blocks_used;
    let (block_size, block_count) = (g.block_size, g.block_count);
    if json {
        return print_json(&Output {
            block_size,
            block_count,
            blocks_used,
            blocks_free,
            files,
            directories,
            bytes,
            image_size,
        });
    }
    if quiet {
        return Ok(());
    }
    let (files, directories) = (show::files(files), show::directories(directories));
    let size = |blocks: u32| info::bytes(u64::from(blocks) * u64::from(block_size));
    writeln!(
        io::stdout(),
        "{}: {block_count} blocks of {block_size} bytes: {files}, {directories}; \
         {} used, {blocks_free} free ({})",
        path.show(),
        show::blocks(blocks_used),
        size(blocks_free)
    )
}

impl CreateArgs {
    fn creation(&self) -> Result<Creation, CliError> {
        let mut format = self.shape.options();
        if let Some(prog_size) = self.prog_size {
            format = format.prog_size(prog_size);
        }
        if let Some(inline_max) = self.inline_max {
            format = format.inline_max(inline_max);
        }
        if let Some(choice) = self.attrs {
            format = format.convention(choice);
        }
        if self.no_pad && matches!(self.shape.disk_version, Some(AnyVersion::V1)) {
            return Err(CliError::failure(
                "--no-pad is not possible for version 1: without its free blocks, the image would \
                 seem truncated",
            ));
        }
        if self.free.is_some() && !matches!(self.size, Some(SizeArg::Min)) {
            return Err(CliError::failure("--free needs --size min"));
        }
        let size = match (self.size, self.block_count) {
            (Some(SizeArg::Min), _) => Size::Least { free: self.free.unwrap_or(0) },
            (Some(SizeArg::Bytes(size)), _) => of_bytes(&format, size)?,
            (None, Some(count)) => Size::Blocks(count),
            (None, None) if self.into => Size::AsBefore,
            (None, None) => {
                return Err(CliError::failure(
                    "give the size of the filesystem: --size BYTES, --size min or --block-count N",
                ));
            }
        };
        let (compact, check) = (self.no_pad, self.check_profile);
        Ok(Creation { compact, check, ..Creation::new(format, size) })
    }

    /// The file for the dependencies, if one is to be written. As in every build, an old one is
    /// overwritten; `--force` is not about this file.
    fn depfile(&self, manifest: &Manifest) -> Result<Option<Target<'_>>, CliError> {
        let Some(depfile) = &self.depfile else { return Ok(None) };
        let sources = manifest.host_paths().into_iter();
        let files = sources.chain([self.image.clone()]).map(|path| sys::identity(&path).ok());
        let target = Target::find(depfile, Replaced::Own(is_rule), &files.collect::<Vec<_>>())?;
        target.check_apart(&self.image)?;
        Ok(Some(target))
    }

    /// Write the dependencies. This is done before the image is made, so that nothing is made if
    /// they cannot be written. A file gets its name afterwards.
    fn depend<'t>(
        &self,
        depfile: &'t Target<'_>,
        manifest: &Manifest,
    ) -> Result<Begun<'t>, CliError> {
        let begun = depfile.begin()?;
        begun.file().write_all(&rule(&self.image, manifest)).map_err(|e| begun.failed(e))?;
        Ok(begun)
    }

    fn manifest(&self) -> Result<Manifest, CliError> {
        if self.sources.iter().filter(|path| *path == Path::new("-")).count() > 1 {
            return Err(CliError::failure("standard input can be read only once"));
        }
        let mut stdin = io::stdin().lock();
        let mut stream: Option<&mut dyn Read> = Some(&mut stdin);
        let mut inputs = Vec::new();
        for path in &self.sources {
            match stream.take_if(|_| path == Path::new("-")) {
                Some(stream) => inputs.push(Input::Tar(stream)),
                None => inputs.push(Input::Path(path.clone())),
            }
        }
        transfer::gather(inputs, &self.gather.options()?)
            .map_err(|e| not_gathered(e, Path::new("-")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rule_looks_like_a_rule() {
        let target = make_name(Path::new("a b:c.img"));
        let target = String::from_utf8(target).expect("UTF-8");
        for own in ["", " \\\n  data \\\n  data/a\\ b\n", " \\\n  data \\\n "] {
            assert!(is_rule(format!("{target}:{own}").as_bytes()), "{own}");
        }
        for other in [
            "",
            "text",
            ":",
            ": \\\n  a\n",
            "services:\n  web:\n  db:\n",
            "name: value\n",
            "all: \\\n  a\n\tcc a\n",
            "all: a b\n\tcc a\n",
            "a\0b: \\\n  a\n",
        ] {
            assert!(!is_rule(other.as_bytes()), "{other:?}");
        }
    }
}
