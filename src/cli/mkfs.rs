//! `littlefs mkfs`: make an empty filesystem.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{CliError, parse_bytes, parse_bytes_u32};
use crate::bd::file::{fill, read_up_to};
use crate::bd::{BlockDevice, FileDevice, Geometry};
use crate::disk::superblock::{ATTR_MAX, FILE_MAX, NAME_MAX, VERSION_2_0, VERSION_2_1};
use crate::files::Place;
use crate::fs::{FormatOptions, Fs};
use crate::image::{Container, Located, Reason, SEARCH_DEVICE, locate, wipe};
use crate::profile::Profile;
use crate::show::Show;

/// Bytes looked at for something that should not be overwritten.
const LOOKED_AT: usize = 64 << 10;
/// Bytes in a block, unless something else is asked for.
const DEFAULT_BLOCK_SIZE: u32 = 4096;
/// Smallest block of the C driver, in bytes.
const DRIVER_BLOCK_SIZE_MIN: u32 = 128;

/// Make an empty littlefs in a file or on a block device
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs mkfs --size 1M new.img                       256 blocks of 4096 bytes
  littlefs mkfs --profile arduino-esp8266 --size 1000K esp.img
                                                        for an ESP8266: blocks of 8192 bytes
  littlefs mkfs --disk-version 2.0 --size 64K old.img   for drivers older than littlefs 2.6
  littlefs mkfs /dev/sdx1                               as large as the device

Give the block size, and where it is known the size, of the device that is to use the image:
the block size is that of an erase (4096 for most NOR flash). Without --size and --block-count
an existing file or device is used as far as it goes.")]
pub struct MkfsArgs {
    /// File (made when there is none) or block device
    image: PathBuf,

    /// Block size, longest name and largest attribute as a family of devices has them, each unless
    /// given: micropython-rp2, micropython-esp32, esp-idf, arduino-esp8266, arduino-pico, zephyr,
    /// nuttx, nanoframework, phoenix, ardupilot-nor
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    profile: Option<&'static Profile>,

    /// Bytes in a block, a multiple of 4 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_u32)]
    block_size: Option<u32>,

    /// Number of blocks
    #[arg(long, value_name = "N", conflicts_with = "size")]
    block_count: Option<u32>,

    /// Size of the filesystem: a multiple of the block size, like 65536, 512K, 1M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    size: Option<u64>,

    /// Version of the format: 2.1, or 2.0 for drivers older than littlefs 2.6
    #[arg(long, value_name = "VERSION", default_value = "2.1")]
    disk_version: DiskVersion,

    /// Longest file name, in bytes; a driver built for shorter names refuses the image
    /// [default: 255]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(NAME_MAX)))]
    name_max: Option<u32>,

    /// Largest file, in bytes
    #[arg(long, value_name = "N", default_value_t = FormatOptions::default().file_max,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(FILE_MAX)))]
    file_max: u32,

    /// Largest user attribute, in bytes [default: 1022]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTR_MAX)))]
    attr_max: Option<u32>,

    /// Write 0xFF over all of it, as a flash programmer wants it, instead of leaving holes
    #[arg(long)]
    fill: bool,

    /// Overwrite what is there; nothing of it can be read afterwards
    #[arg(long)]
    force: bool,
}

/// A version of the format, as people write it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DiskVersion {
    /// Without forward CRCs.
    #[value(name = "2.0")]
    V2_0,
    /// With them.
    #[value(name = "2.1")]
    V2_1,
}

impl From<DiskVersion> for u32 {
    fn from(version: DiskVersion) -> Self {
        match version {
            DiskVersion::V2_0 => VERSION_2_0,
            DiskVersion::V2_1 => VERSION_2_1,
        }
    }
}

/// Run the command.
///
/// # Errors
/// When the geometry is impossible, something would be overwritten, or writing fails.
pub fn run(args: &MkfsArgs) -> Result<ExitCode, CliError> {
    let asked = args.asked_geometry()?;
    let (container, created) = args.open(asked.is_some())?;
    let geometry = args.format(container, asked)?;
    if let Some(created) = created {
        created.keep();
    }
    let version = u32::from(args.disk_version);
    writeln!(
        io::stdout(),
        "{}: littlefs {}.{}, {} blocks of {} bytes",
        args.image.show(),
        version >> 16,
        version & 0xffff,
        geometry.block_count,
        geometry.block_size
    )?;
    if geometry.block_size < DRIVER_BLOCK_SIZE_MIN {
        log::warn!("the C driver refuses blocks below {DRIVER_BLOCK_SIZE_MIN} bytes");
    }
    Ok(ExitCode::SUCCESS)
}

impl MkfsArgs {
    fn block_size(&self) -> u32 {
        let of_profile = self.profile.and_then(|p| p.block_size);
        self.block_size.or(of_profile).unwrap_or(DEFAULT_BLOCK_SIZE)
    }

    /// An error about the image.
    fn fail(&self, why: impl fmt::Display) -> CliError {
        CliError::failure(format_args!("{}: {why}", self.image.show()))
    }

    /// What --block-count or --size ask for, checked before any file is touched.
    fn asked_geometry(&self) -> Result<Option<Geometry>, CliError> {
        match (self.block_count, self.size) {
            (Some(block_count), _) => self.geometry(u64::from(block_count)).map(Some),
            (None, Some(size)) => {
                let block_size = u64::from(self.block_size());
                if block_size > 0 && size % block_size != 0 {
                    let below = size - size % block_size;
                    return Err(self.fail(format_args!(
                        "impossible geometry: size {size} is not a multiple of the block size \
                         {block_size}; {below} and {} are",
                        below.saturating_add(block_size)
                    )));
                }
                self.geometry(size / block_size.max(1)).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    fn geometry(&self, block_count: u64) -> Result<Geometry, CliError> {
        let block_count = u32::try_from(block_count).unwrap_or(u32::MAX);
        Geometry::new(self.block_size(), block_count).map_err(|e| self.fail(e))
    }

    /// The locked file or device, for writing; made here when there is none and `may_create`.
    fn open(&self, may_create: bool) -> Result<(Container, Option<Created<'_>>), CliError> {
        match Container::open(&self.image, false) {
            Ok(container) if container.writable => Ok((container, None)),
            Ok(_) => Err(self.fail("is write-protected")),
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
            None => self.geometry(container.size / u64::from(self.block_size().max(1)))?,
        };
        if container.is_device && container.size < geometry.size() {
            return Err(self.fail(format_args!(
                "the device has {} bytes, {} were asked for",
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
        // discarding may have emptied the file
        let size = container.file.metadata().map_err(|e| self.fail(e))?.len();
        if !container.is_device && size < geometry.size() {
            container.file.set_len(geometry.size()).map_err(|e| self.fail(e))?;
        }
        if self.fill {
            fill(&container.file, 0, geometry.size()).map_err(|e| self.fail(e))?;
        }

        let device = FileDevice::new(container.file, 0, geometry);
        let default = FormatOptions::default();
        let of_profile = |get: fn(&Profile) -> Option<u32>| self.profile.and_then(get);
        let options = FormatOptions {
            disk_version: self.disk_version.into(),
            name_max: self.name_max.or(of_profile(|p| p.name_max)).unwrap_or(default.name_max),
            file_max: self.file_max,
            attr_max: self.attr_max.or(of_profile(|p| p.attr_max)).unwrap_or(default.attr_max),
            prog_size: None,
        };
        Fs::format(&device, &options).map_err(|e| self.fail(e))?;
        device.sync().map_err(|e| self.fail(crate::Error::from(e)))?;
        Ok(geometry)
    }

    /// What would be overwritten, if anything.
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

    /// Make what is there unreachable, old superblocks of any block size above all.
    fn discard(&self, container: &Container, geometry: Geometry) -> Result<(), CliError> {
        let file = &container.file;
        let discarded = if !container.is_device && container.size <= geometry.size() {
            file.set_len(0)
        } else {
            // Only the filesystem's part of a larger container is ours.
            wipe(file, 0, geometry.size())
        };
        // Durable before the new filesystem is: no crash may leave a mixture of both.
        discarded.and_then(|()| file.sync_all()).map_err(|e| self.fail(e))
    }
}

/// A file made by this command; removed again on drop, unless it is kept.
struct Created<'a> {
    path: &'a Path,
    /// None once it is to be kept.
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
            log::warn!("{}: cannot remove it again: {e}", self.path.show());
        }
    }
}
