//! The program under the names of other tools, which scripts and build systems call. Under each
//! name, the program takes the command line that the source of the tool defines, and prints the
//! output that scripts read. It differs where that is safer: if an image cannot be completed, it is
//! not made at all, and the command fails.

mod littlefs_fuse;
mod littlefs_python;
mod mklittlefs;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use super::problems::Problems;
use super::{CliError, exit, help, tell_warnings};
use crate::transfer::{
    Created, Creation, Extracted, Extraction, Gather, Links, Manifest, Patterns, Placement, create,
    extract,
};
use crate::{Error, Littlefs, OpenOptions};

/// The exit code of `littlefs-python` for a wrong command line. It is that of Python's argparse.
const ARGPARSE_USAGE: u8 = 2;

/// A command line under one of the names.
pub enum Dropin {
    /// `mklittlefs`
    Mklittlefs(mklittlefs::Mklittlefs),
    /// `littlefs-python`
    LittlefsPython(littlefs_python::LittlefsPython),
    /// `lfs`
    LittlefsFuse(littlefs_fuse::LittlefsFuse),
}

/// Parse the arguments if the first one, the name of the program, is one of the names.
///
/// # Errors
/// Wrong usage, and the exit code for it.
pub fn parse(args: &[OsString]) -> Option<Result<Dropin, (clap::Error, u8)>> {
    fn as_<T: Parser>(
        args: &[OsString],
        dropin: fn(T) -> Dropin,
        usage: u8,
    ) -> Option<Result<Dropin, (clap::Error, u8)>> {
        Some(help::parse::<T>(args).map(dropin).map_err(|e| (e, usage)))
    }
    let name = Path::new(args.first()?).file_name()?;
    match name.as_bytes() {
        b"mklittlefs" => as_(args, Dropin::Mklittlefs, exit::FAILURE),
        b"littlefs-python" => as_(args, Dropin::LittlefsPython, ARGPARSE_USAGE),
        b"lfs" => as_(args, Dropin::LittlefsFuse, exit::FAILURE),
        _ => None,
    }
}

impl Dropin {
    /// Whether it becomes a daemon.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Self::LittlefsFuse(args) if args.mounts())
    }

    /// Run the command.
    ///
    /// # Errors
    /// If the command fails; the error says why.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Mklittlefs(args) => args.run(),
            Self::LittlefsPython(args) => args.run(),
            Self::LittlefsFuse(args) => args.run(),
        }
    }
}

/// Options to collect everything. `links` says how symbolic links are treated.
fn gathering(links: Links, exclude: &[&str], latest: Option<i64>) -> Result<Gather, CliError> {
    let exclude = Patterns::new(exclude).map_err(CliError::failure)?;
    Ok(Gather { exclude, links, owner: None, latest })
}

/// Make the image. An existing one is replaced.
fn make(image: &Path, manifest: &Manifest, how: &Creation) -> Result<Created, CliError> {
    let placement = Placement::New { overwrite: true };
    create(image, placement, manifest, how, &|_| ())
        .map_err(|e| CliError::failure(format_args!("{}: {e}", image.display())))
}

/// Open an image for reading.
fn open(image: &Path, options: OpenOptions) -> Result<Littlefs, CliError> {
    let image = options.read_only(true).open(image).map_err(|e| match e {
        // this error already names the file
        Error::Image(e) => CliError::failure(e),
        e => CliError::failure(format_args!("{}: {e}", image.display())),
    })?;
    tell_warnings(&image);
    Ok(image)
}

/// Copy everything out of an image. If some entries cannot be copied, the rest is copied, and then
/// the command fails.
fn unpack(image: &Littlefs, path: &Path, target: &Path) -> Result<(Extracted, ExitCode), CliError> {
    let done = extract(image, &[Vec::new()], target, Extraction::default(), &|_| ())
        .map_err(|e| CliError::of_file(target, &e))?;
    let mut problems = Problems::new(path, image);
    problems.add_extracted(&done);
    let all_well = problems.all().is_empty();
    let code = if all_well { ExitCode::SUCCESS } else { exit::FAILURE.into() };
    Ok((done, code))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Option<Result<Dropin, (clap::Error, u8)>> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_lines_are_consistent() {
        mklittlefs::Mklittlefs::command().debug_assert();
        littlefs_python::LittlefsPython::command().debug_assert();
        littlefs_fuse::LittlefsFuse::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_build_systems_are_understood() {
        for line in [
            // PlatformIO for ESP8266 and Raspberry Pi, arduino-littlefs-upload
            "mklittlefs -c data -p 256 -b 8192 -s 1024000 littlefs.bin",
            // PlatformIO for ESP32
            "/opt/mklittlefs -c data -s 1441792 -p 256 -b 4096 littlefs.bin",
            "mklittlefs -c data -s 0x160000 -a -r 256 -m 256 -e 16 -t 64 -d 5 fs.bin",
            "mklittlefs -u out -b 4096 fs.bin",
            "mklittlefs -l fs.bin",
            "mklittlefs -c data -T list.txt -s 65536 fs.bin",
            // esp_littlefs
            "littlefs-python create data fs.bin -v --fs-size=0x10000 --name-max=64 --block-size=4096",
            "littlefs-python create data --block-size 4kb --block-count 16 --compact --no-pad",
            "littlefs-python extract fs.bin out --block-size 4096",
            "littlefs-python list fs.bin --block-size 4096",
            // littlefs-fuse
            "lfs /dev/loop0 /mnt",
            "lfs --stat /dev/loop0",
            "lfs --format -b=4096 --block_count=64 -d=v2.0 image",
            "lfs -f -s -o allow_other,ro --read_size=16 --lookahead_size=8192 image /mnt",
            "lfs -d image /mnt",
        ] {
            assert!(matches!(parsed(line), Some(Ok(_))), "{line}");
        }
        for (line, code) in [
            ("mklittlefs fs.bin", exit::FAILURE),
            ("mklittlefs -c data -l fs.bin", exit::FAILURE),
            ("littlefs-python create data --fs-size 4096", ARGPARSE_USAGE),
            ("littlefs-python create data --block-size 4096", ARGPARSE_USAGE),
            ("lfs --stat", exit::FAILURE),
        ] {
            assert!(matches!(parsed(line), Some(Err((_, found))) if found == code), "{line}");
        }
        assert!(parsed("littlefs create").is_none());
    }
}
