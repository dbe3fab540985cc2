//! `lfs`, the program of littlefs-fuse: mounting, `--format` and `--stat`.

use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::super::convert::{self, ConvertArgs, Origin};
use super::super::mkfs::{self, MkfsArgs};
#[cfg(feature = "mount")]
use super::super::mount::{self, MountArgs};
use super::super::shape::{AnyVersion, DiskVersion, ShapeArgs};
use super::super::{Chosen, CliError, ImageArgs, exit};
use crate::disk::superblock::{VERSION_2_0, VERSION_2_1};
use crate::files;
use crate::image::{Place, Reason};
use crate::{Error, OpenOptions};

/// The error number of the C driver for a damaged filesystem.
const LFS_ERR_CORRUPT: u8 = 84;

/// Mount, format and describe littlefs images, as littlefs-fuse does
#[derive(Parser, Debug)]
#[command(
    name = "lfs",
    disable_version_flag = true,
    version = concat!("as littlefs-progs ", env!("CARGO_PKG_VERSION")),
    after_help = "\
This is littlefs-progs under the name of littlefs-fuse's program; 'littlefs mount', 'littlefs mkfs'
and 'littlefs info' can do more."
)]
pub struct LittlefsFuse {
    /// Options of the mount (littlefs-mount(1)), separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,

    /// Stay in the foreground
    #[arg(short)]
    foreground: bool,

    /// Accepted, without effect: requests are always served in order
    #[arg(short)]
    single: bool,

    /// Describe the filesystem instead of mounting it
    #[arg(long, conflicts_with_all = ["format", "migrate", "mountpoint"])]
    stat: bool,

    /// Format instead of mounting: all existing content is lost
    #[arg(long, conflicts_with_all = ["migrate", "mountpoint"])]
    format: bool,

    /// Convert a filesystem of version 1 instead of mounting it
    #[arg(long, conflicts_with = "mountpoint")]
    migrate: bool,

    /// Version of the format for --format and --migrate, like 2.0; -d without a version means -f
    #[arg(short = 'd', long = "disk_version", value_name = "VERSION", num_args = 0..=1,
          require_equals = true, default_missing_value = "")]
    disk_version: Option<String>,

    /// Bytes of a block
    #[arg(short, long = "block_size", value_name = "N", require_equals = true)]
    block_size: Option<u32>,

    /// Number of blocks
    #[arg(long = "block_count", value_name = "N", require_equals = true)]
    block_count: Option<u32>,

    /// Move a metadata block after this many erases
    #[arg(long = "block_cycles", value_name = "N", require_equals = true)]
    block_cycles: Option<u32>,

    /// Accepted, without effect: any number of bytes can be read
    #[arg(long = "read_size", value_name = "N", require_equals = true)]
    read_size: Option<u32>,

    /// Commits end on multiples of this many bytes
    #[arg(long = "prog_size", value_name = "N", require_equals = true)]
    prog_size: Option<u32>,

    /// Accepted, without effect: caches have no fixed size
    #[arg(long = "cache_size", value_name = "N", require_equals = true)]
    cache_size: Option<u32>,

    /// Accepted, without effect: all free blocks are known
    #[arg(long = "lookahead_size", value_name = "N", require_equals = true)]
    lookahead_size: Option<u32>,

    /// With --format: longest file name, in bytes
    #[arg(long = "name_max", value_name = "N", require_equals = true)]
    name_max: Option<u32>,

    /// With --format: largest file, in bytes
    #[arg(long = "file_max", value_name = "N", require_equals = true)]
    file_max: Option<u32>,

    /// With --format: largest user attribute, in bytes
    #[arg(long = "attr_max", value_name = "N", require_equals = true)]
    attr_max: Option<u32>,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// File or block device that holds the filesystem
    device: PathBuf,

    /// Directory to mount it on
    #[arg(required_unless_present_any = ["stat", "format", "migrate"])]
    mountpoint: Option<PathBuf>,
}

impl LittlefsFuse {
    /// Whether this is a mount.
    pub fn mounts(&self) -> bool {
        self.mountpoint.is_some()
    }

    /// Run the command.
    ///
    /// # Errors
    /// If the command fails; the error says why.
    pub fn run(self) -> Result<ExitCode, CliError> {
        if self.stat {
            return self.stat();
        }
        if self.format {
            return self.format();
        }
        match self.mountpoint.clone() {
            Some(mountpoint) => self.mount(mountpoint),
            None => self.migrate(),
        }
    }

    fn migrate(self) -> Result<ExitCode, CliError> {
        convert::run(&ConvertArgs {
            disk_version: self.disk_version()?.unwrap_or(DiskVersion::V2_1),
            image: ImageArgs {
                image: self.device,
                offset: Some(Place::At(0)),
                partition: None,
                page: None,
                unpack_limit: None,
                block_size: self.block_size,
                dialect: Chosen(None),
                journal: None,
                at: None,
            },
            out: None,
            from: Origin::V1,
            to_block_size: None,
            block_count: None,
            salvage: false,
            backup: None,
            force: false,
            quiet: true,
            json: false,
            progress: false,
        })
    }

    fn disk_version(&self) -> Result<Option<DiskVersion>, CliError> {
        match self.disk_version.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => parse_version(text).map(Some),
        }
    }

    fn stat(&self) -> Result<ExitCode, CliError> {
        let mut options = OpenOptions::new().place(Place::Auto);
        if let Some(block_size) = self.block_size {
            options = options.block_size(block_size);
        }
        if let Some(block_count) = self.block_count {
            options = options.block_count(block_count);
        }
        let fail = |e: Error| {
            let code = code_of(&e);
            let device = self.device.display();
            match e {
                // this error already names the file
                Error::Image(e) => CliError::new(code, e),
                e => CliError::new(code, format_args!("{device}: {e}")),
            }
        };
        let image = options.read_only(true).open(&self.device).map_err(fail)?;
        let (usage, limits) = (image.usage().map_err(fail)?, image.limits());
        let mut out = io::stdout().lock();
        let version = limits.disk_version;
        writeln!(out, "disk_version: lfs{}.{}", version >> 16, version & 0xffff)?;
        writeln!(out, "block_size: {}", usage.block_size)?;
        writeln!(out, "block_count: {}", usage.blocks)?;
        for (what, blocks) in
            [("used", usage.blocks_used), ("free", usage.blocks.saturating_sub(usage.blocks_used))]
        {
            let percent = 100.0 * f64::from(blocks) / f64::from(usage.blocks.max(1));
            writeln!(out, "  {what}: {blocks}/{} ({percent:.1}%)", usage.blocks)?;
        }
        writeln!(out, "name_max: {}", limits.name_max)?;
        writeln!(out, "file_max: {}", limits.file_max)?;
        writeln!(out, "attr_max: {}", limits.attr_max)?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(self) -> Result<ExitCode, CliError> {
        let block_size = match self.block_size {
            Some(block_size) => block_size,
            None => self.sector_size()?,
        };
        let disk_version = self.disk_version()?.map(AnyVersion::from);
        mkfs::run(&MkfsArgs {
            image: self.device,
            shape: ShapeArgs {
                profile: None,
                block_size: Some(block_size),
                disk_version,
                name_max: self.name_max,
                file_max: self.file_max,
                attr_max: self.attr_max,
            },
            block_count: self.block_count,
            size: None,
            check_profile: None,
            fill: false,
            force: true,
            quiet: true,
        })
    }

    /// The default block size for a block device, in bytes.
    fn sector_size(&self) -> Result<u32, CliError> {
        let fail = |e: io::Error| CliError::of_file(&self.device, &e);
        let device = files::open(&self.device).map_err(fail)?;
        if !device.metadata().map_err(fail)?.file_type().is_block_device() {
            return Err(CliError::failure(format_args!(
                "{}: is not a block device, so its block size is not known: give -b=BYTES",
                self.device.display()
            )));
        }
        rustix::fs::ioctl_blksszget(&device).map_err(|e| fail(e.into()))
    }

    #[cfg(feature = "mount")]
    fn mount(self, mountpoint: PathBuf) -> Result<ExitCode, CliError> {
        let mut options = self.options;
        for (name, value) in [
            ("block_size", self.block_size),
            ("block_count", self.block_count),
            ("block_cycles", self.block_cycles),
            ("prog_size", self.prog_size),
        ] {
            options.extend(value.map(|value| format!("{name}={value}")));
        }
        mount::run(&MountArgs {
            // libfuse's -d implies the foreground, too
            foreground: self.foreground || self.disk_version.as_deref() == Some(""),
            unattached: false,
            inherited: Vec::new(),
            journal: None,
            quiet: true,
            sloppy: false,
            fake: false,
            by_mount: false,
            unattended: false,
            options,
            image: self.device,
            mountpoint,
        })
    }

    #[cfg(not(feature = "mount"))]
    fn mount(self, _: PathBuf) -> Result<ExitCode, CliError> {
        Err(CliError::failure(
            "this program was built without the feature 'mount', so it cannot mount",
        ))
    }
}

/// Parse a version with any prefix that the original accepts.
fn parse_version(text: &str) -> Result<DiskVersion, CliError> {
    let bare = ["littlefs", "lfs", "v"].iter().find_map(|prefix| text.strip_prefix(prefix));
    match bare.unwrap_or(text) {
        "2.0" => Ok(DiskVersion::V2_0),
        "2.1" => Ok(DiskVersion::V2_1),
        _ => Err(CliError::failure(format_args!(
            "invalid disk version: \"{text}\"; possible are {} and {}",
            dotted(VERSION_2_0),
            dotted(VERSION_2_1)
        ))),
    }
}

fn dotted(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}

/// The exit code of the original: the error number of the system or of the C driver.
fn code_of(e: &Error) -> u8 {
    let errno = match e {
        Error::Image(open) => match &open.reason {
            Reason::NotFound => libc::ENOENT,
            Reason::PermissionDenied => libc::EACCES,
            Reason::Directory => libc::EISDIR,
            Reason::InUse(_) => libc::EBUSY,
            Reason::UnknownVersion(_)
            | Reason::WrongBlockSize { .. }
            | Reason::WrongBlockCount { .. }
            | Reason::Geometry(_) => libc::EINVAL,
            Reason::Io(e) => e.raw_os_error().unwrap_or(libc::EIO),
            _ => return LFS_ERR_CORRUPT,
        },
        Error::Corrupt(_) => return LFS_ERR_CORRUPT,
        _ => libc::EIO,
    };
    u8::try_from(errno).unwrap_or(exit::FAILURE)
}
