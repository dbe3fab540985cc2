//! `littlefs mkfs`: make an empty filesystem.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::{check_is_file, not_stdio};
use super::shape::ShapeArgs;
use super::{CliError, parse_bytes};
use crate::bd::file::{fill, read_up_to};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::disk::superblock::VERSION_1_1;
use crate::files::Place;
use crate::image::{self, Container, Located, Reason, SEARCH_DEVICE, locate, wipe};
use crate::journal::interruption;
use crate::profile::Profile;
use crate::show::{Show, cause};
use crate::transfer::Failure;
use crate::{FormatOptions, Misfit};

/// How many bytes are examined for content that must not be overwritten.
const LOOKED_AT: usize = 64 << 10;
/// Smallest block of the C driver, in bytes.
const DRIVER_BLOCK_SIZE_MIN: u32 = 128;

/// Make an empty littlefs in a file or on a block device
#[derive(Args, Debug)]
#[command(mut_arg("disk_version", |arg| arg.help(
    "Version of the format: 2.1, or 2.0 for drivers older than littlefs 2.6 ('littlefs create' can \
     also make version 1) [default: 2.1]")), after_help = "\
Examples:
  littlefs mkfs --size 1M new.img                       256 blocks of 4096 bytes
  littlefs mkfs --profile arduino-esp8266 --size 1000K esp.img
                                                        for an ESP8266: blocks of 8192 bytes
  littlefs mkfs --disk-version 2.0 --size 64K old.img   for drivers older than littlefs 2.6
  littlefs mkfs /dev/sdx1                               as large as the device

Give the block size of the device that the image is for, and the size if you know it. The block size
is the number of bytes that the device erases at once (4096 for most NOR flash). Without --size and
--block-count, the filesystem fills an existing file or device.")]
pub struct MkfsArgs {
    /// File (made if it does not exist) or block device
    #[arg(value_parser = not_stdio())]
    pub(super) image: PathBuf,

    #[command(flatten)]
    pub(super) shape: ShapeArgs,

    /// Number of blocks
    #[arg(long, value_name = "N", conflicts_with = "size")]
    pub(super) block_count: Option<u32>,

    /// Size of the filesystem: a multiple of the block size, like 65536, 512K, 1M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(super) size: Option<u64>,

    /// Fail if devices of this family would refuse the image (--profile only warns)
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    pub(super) check_profile: Option<&'static Profile>,

    /// Fill all free blocks with 0xFF, for flash programmers, instead of leaving holes
    #[arg(long)]
    pub(super) fill: bool,

    /// Overwrite existing content, which cannot be read afterwards
    #[arg(long)]
    pub(super) force: bool,

    /// Do not print what was made
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Run the command.
///
/// # Errors
/// When the geometry is impossible, something would be overwritten, or writing fails.
pub fn run(args: &MkfsArgs) -> Result<ExitCode, CliError> {
    check_is_file(&args.image)?;
    if args.options().chosen_disk_version() == VERSION_1_1 {
        return Err(args.fail(
            "mkfs cannot make version 1; 'littlefs create' can, also from an empty directory",
        ));
    }
    let asked = args.options().geometry().map_err(|e| args.fail(e))?;
    args.check_profile()?;
    let (container, created) = args.open(asked.is_some())?;
    let geometry = args.format(container, asked)?;
    if let Some(created) = created {
        created.keep();
    }
    let version = args.options().chosen_disk_version();
    if !args.quiet {
        writeln!(
            io::stdout(),
            "{}: littlefs {}.{}, {} blocks of {} bytes",
            args.image.show(),
            version >> 16,
            version & 0xffff,
            geometry.block_count,
            geometry.block_size
        )?;
    }
    if geometry.block_size < DRIVER_BLOCK_SIZE_MIN {
        log::warn!("the C driver refuses blocks of less than {DRIVER_BLOCK_SIZE_MIN} bytes");
    }
    Ok(ExitCode::SUCCESS)
}

impl MkfsArgs {
    /// An error about the image.
    fn fail(&self, why: impl fmt::Display) -> CliError {
        CliError::failure(format_args!("{}: {why}", self.image.show()))
    }

    /// The options for the new filesystem. Without --block-count and --size, its size is not
    /// decided yet.
    fn options(&self) -> FormatOptions {
        let options = self.shape.options();
        match (self.block_count, self.size) {
            (Some(count), _) => options.block_count(count),
            (None, Some(size)) => options.size(size),
            (None, None) => options,
        }
    }

    /// Check, before anything is written, that the devices of the profile would accept the
    /// filesystem.
    fn check_profile(&self) -> Result<(), CliError> {
        let Some(profile) = self.check_profile.or(self.shape.profile) else { return Ok(()) };
        let misfits = self.options().misfits(profile).map_err(|e| self.fail(e))?;
        if self.check_profile.is_some() && misfits.iter().any(Misfit::is_refused) {
            return Err(self.fail(Failure::Misfits(profile, misfits)));
        }
        for misfit in misfits {
            log::warn!("{}: {misfit}", self.image.show());
        }
        Ok(())
    }

    /// The file or device, locked, for writing. A missing file is made if `may_create` is true.
    fn open(&self, may_create: bool) -> Result<(Container, Option<Created<'_>>), CliError> {
        // finished later, that change would overwrite the new filesystem
        if let Some(e) = interruption(&self.image) {
            return Err(e.into());
        }
        match Container::open(&self.image, false) {
            Ok(container) if container.writable => Ok((container, None)),
            Ok(_) => Err(self.fail(format_args!("cannot be changed: {}", image::WRITE_PROTECTED))),
            Err(Reason::NotFound) if may_create => {
                let container = Container::create(&self.image).map_err(|e| match e {
                    Reason::NotFound => self.fail("the directory does not exist"),
                    e => self.fail(e),
                })?;
                let file = container.file.try_clone().map_err(|e| self.fail(e))?;
                Ok((container, Some(Created { path: &self.image, file: Some(file) })))
            }
            Err(Reason::NotFound) => {
                Err(self.fail("no such file; give --size or --block-count to make one"))
            }
            Err(reason) => Err(self.fail(reason)),
        }
    }

    fn format(&self, container: Container, asked: Option<Geometry>) -> Result<Geometry, CliError> {
        let geometry = match asked {
            Some(asked) => asked,
            None if container.size == 0 => {
                return Err(self.fail("is empty; give --size or --block-count"));
            }
            None => {
                let block_size = self.options().chosen_block_size();
                let count = container.size / u64::from(block_size.max(1));
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                Geometry::new(block_size, count).map_err(|e| self.fail(e))?
            }
        };
        if container.is_device && container.size < geometry.size() {
            return Err(self.fail(format_args!(
                "the device has {} bytes, but the filesystem needs {}; give a smaller --size or \
                 --block-count",
                container.size,
                geometry.size()
            )));
        }
        if let Some(what) = self.found_in(&container)? {
            if !self.force {
                return Err(self.fail(format_args!("{what}; --force overwrites it")));
            }
            self.discard(&container, geometry)?;
        }
        // discarding the old content may have emptied the file
        let size = container.file.metadata().map_err(|e| self.fail(e))?.len();
        if !container.is_device && size < geometry.size() {
            container.file.set_len(geometry.size()).map_err(|e| self.fail(e))?;
        }
        if self.fill {
            fill(&container.file, 0, geometry.size()).map_err(|e| self.fail(e))?;
        }

        let device = FileDevice::new(container.file, 0, geometry);
        self.options().format(&device).map_err(|e| self.fail(e))?;
        device.sync().map_err(|e| self.fail(crate::Error::from(e)))?;
        Ok(geometry)
    }

    /// The kind of content that would be overwritten, if there is any.
    fn found_in(&self, container: &Container) -> Result<Option<&'static str>, CliError> {
        let look = || -> io::Result<Option<&'static str>> {
            match locate(&container.file, 0, SEARCH_DEVICE)? {
                Located::Nothing { .. } => {}
                _ => return Ok(Some("holds a littlefs already")),
            }
            let mut start = vec![0; LOOKED_AT];
            let read = read_up_to(&container.file, 0, &mut start)?;
            let start = &start[..read];
            let is_blank = start.iter().all(|&b| b == 0) || start.iter().all(|&b| b == 0xff);
            Ok((!is_blank).then_some("holds something else already"))
        };
        look().map_err(|e| self.fail(e))
    }

    /// Make old content unreachable, especially old superblocks of any block size.
    fn discard(&self, container: &Container, geometry: Geometry) -> Result<(), CliError> {
        let file = &container.file;
        let discarded = if !container.is_device && container.size <= geometry.size() {
            file.set_len(0)
        } else {
            // Only the filesystem's part of a larger container may be wiped.
            wipe(file, 0, geometry.size())
        };
        // This must be durable before the new filesystem is: no crash may leave a mixture of both.
        discarded.and_then(|()| file.sync_all()).map_err(|e| self.fail(e))
    }
}

/// A file that this command made. Dropping this removes the file, unless it is kept.
struct Created<'a> {
    path: &'a Path,
    /// `None` once the file is kept.
    file: Option<File>,
}

impl Created<'_> {
    fn keep(mut self) {
        self.file = None;
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && let Err(e) = Place::new(self.path).and_then(|place| place.remove(file))
        {
            log::warn!("{}: cannot remove the incomplete file: {}", self.path.show(), cause(&e));
        }
    }
}
