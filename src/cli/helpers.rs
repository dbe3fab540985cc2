//! The program under the names that mount(8), umount(8), mkfs(8) and fsck(8) look for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{ArgAction, Args, Parser};

use super::check::CheckArgs;
use super::mkfs::MkfsArgs;
use super::mount::{self, MountArgs};
use super::umount::{self, UmountArgs};
use super::{CliError, exit, help, table};
use crate::files;
use crate::show::{Show, cause};
use crate::sys;

/// Mount a littlefs image; mount(8) runs this for 'mount -t littlefs'
#[derive(Parser, Debug)]
#[command(
    name = "mount.littlefs",
    version,
    after_help = "\
In /etc/fstab:
  /srv/flash.img  /mnt/flash  littlefs  noauto,user  0  0

As with any filesystem, set-user-id bits and device nodes take effect on root's mounts, unless
nosuid and nodev are given; give both for images of unknown origin. ('littlefs mount' has nosuid and
nodev by default, and ordinary users cannot change that.) '-o remount' sets ro or rw, and the flags
suid, dev, exec and atime or their opposites. A remount to rw is possible if only the option ro made
the mount read-only, and nobody else reads the image. littlefs-mount(1) lists the other options."
)]
pub struct MountHelper {
    /// File or block device that holds the filesystem
    image: PathBuf,

    /// Directory to mount it on
    mountpoint: PathBuf,

    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,

    /// Ignore options that are unknown
    #[arg(short = 's')]
    sloppy: bool,

    /// Do everything except mounting
    #[arg(short = 'f')]
    fake: bool,

    #[command(flatten)]
    call: CallArgs,
}

/// The arguments that mount(8) and umount(8) add for both helpers.
#[derive(Args, Debug)]
struct CallArgs {
    /// Accepted, without effect: there is no /etc/mtab to write
    #[arg(short = 'n')]
    _no_mtab: bool,

    /// Print what is done; more with each repetition
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,

    /// Use the mount namespace of this process, or of this file
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,

    /// Type of the filesystem, as given or as in the mount table
    #[arg(short = 't', value_name = "TYPE")]
    _fs_type: Option<String>,
}

/// Unmount a littlefs image; umount(8) runs this for littlefs mounts
#[derive(Parser, Debug)]
#[command(name = "umount.littlefs", version)]
pub struct UmountHelper {
    #[command(flatten)]
    args: UmountArgs,

    /// Remount read-only if the mount is in use and so cannot be unmounted
    #[arg(short = 'r')]
    read_only: bool,

    #[command(flatten)]
    call: CallArgs,
}

/// Make an empty littlefs; mkfs(8) runs this for 'mkfs -t littlefs'
#[derive(Parser, Debug)]
#[command(name = "mkfs.littlefs", version)]
pub struct MkfsHelper {
    #[command(flatten)]
    args: MkfsArgs,

    /// Print more
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,
}

/// Check a littlefs; fsck(8) runs this for 'fsck -t littlefs', and for lines of fstab
#[derive(Parser, Debug)]
#[command(name = "fsck.littlefs")]
pub struct FsckHelper {
    #[command(flatten)]
    args: CheckArgs,

    /// Accepted, without effect: the descriptor to which fsck(8) wants progress to be written
    #[arg(short = 'C', value_name = "FD")]
    _progress_to: Option<i32>,

    /// Accepted, without effect: no title is shown
    #[arg(short = 'T')]
    _no_title: bool,

    /// Accepted, without effect: an image that is mounted for writing is never checked
    #[arg(short = 'M')]
    _not_mounted: bool,

    /// Print more
    #[arg(short = 'v', visible_short_alias = 'V', action = ArgAction::Count)]
    verbose: u8,
}

/// A command line under one of the names.
pub enum Helper {
    /// `mount.littlefs`, `mount.fuse.littlefs`
    Mount(MountHelper),
    /// `umount.littlefs`, `umount.fuse.littlefs`
    Umount(UmountHelper),
    /// `umount.fuse`
    UmountFuse(UmountHelper),
    /// `mkfs.littlefs`
    Mkfs(MkfsHelper),
    /// `fsck.littlefs`
    Fsck(FsckHelper),
}

/// Parse the arguments if the first one, the name of the program, is one of the names.
///
/// # Errors
/// Wrong usage, and the exit code for it.
pub fn parse(args: &[OsString]) -> Option<Result<Helper, (clap::Error, u8)>> {
    fn as_<T: Parser>(
        args: &[OsString],
        helper: fn(T) -> Helper,
        usage: u8,
    ) -> Option<Result<Helper, (clap::Error, u8)>> {
        Some(help::parse::<T>(args).map(helper).map_err(|e| (e, usage)))
    }
    let name = Path::new(args.first()?).file_name()?;
    match name.as_bytes() {
        b"mount.littlefs" | b"mount.fuse.littlefs" => as_(args, Helper::Mount, exit::FAILURE),
        b"umount.littlefs" | b"umount.fuse.littlefs" => as_(args, Helper::Umount, exit::FAILURE),
        b"umount.fuse" => as_(args, Helper::UmountFuse, exit::FAILURE),
        b"mkfs.littlefs" => as_(args, Helper::Mkfs, exit::FAILURE),
        b"fsck.littlefs" => as_(args, Helper::Fsck, exit::CHECK_USAGE),
        _ => None,
    }
}

/// For the type `fuse.littlefs`, mount.fuse3 runs `littlefs IMAGE DIR -o OPTIONS`, without a
/// command. A first argument with a slash is the image to be mounted, because no command has a
/// slash in its name. Like mount(8), this prints nothing about the mount.
pub fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|first| {
        let first = first.as_bytes();
        first.contains(&b'/') && !first.starts_with(b"-")
    }) {
        args.splice(1..1, ["mount", "--quiet", "--unattended"].map(OsString::from));
    }
    args
}

/// The command lines for these names.
#[cfg(any(test, feature = "internals"))]
pub(super) fn command_lines() -> [clap::Command; 4] {
    use clap::CommandFactory;
    [MountHelper::command(), UmountHelper::command(), MkfsHelper::command(), FsckHelper::command()]
}

impl Helper {
    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        match self {
            Self::Mount(MountHelper { call: CallArgs { verbose, .. }, .. })
            | Self::Umount(UmountHelper { call: CallArgs { verbose, .. }, .. })
            | Self::UmountFuse(UmountHelper { call: CallArgs { verbose, .. }, .. })
            | Self::Mkfs(MkfsHelper { verbose, .. })
            | Self::Fsck(FsckHelper { verbose, .. }) => *verbose,
        }
    }

    /// Whether it becomes a daemon.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Self::Mount(_))
    }

    /// Run the command.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Mount(helper) => {
                enter(helper.call.namespace.as_deref())?;
                mount::run(&MountArgs {
                    foreground: false,
                    // as mount(8) does
                    quiet: helper.call.verbose == 0,
                    journal: None,
                    unattached: false,
                    inherited: Vec::new(),
                    sloppy: helper.sloppy,
                    fake: helper.fake,
                    by_mount: true,
                    unattended: true,
                    options: helper.options,
                    image: helper.image,
                    mountpoint: helper.mountpoint,
                })
            }
            Self::Umount(helper) => {
                enter(helper.call.namespace.as_deref())?;
                umount::run_or_read_only(&helper.args, helper.read_only)
            }
            Self::UmountFuse(helper) => {
                enter(helper.call.namespace.as_deref())?;
                let entry = table::lookup(&helper.args.target).map_err(CliError::failure)?;
                if entry.is_some_and(|entry| entry.is_littlefs) {
                    umount::run_or_read_only(&helper.args, helper.read_only)
                } else {
                    Err(helper.pass_on())
                }
            }
            Self::Mkfs(helper) => super::mkfs::run(&helper.args),
            Self::Fsck(mut helper) => {
                helper.args.only_where_told();
                super::check::run(&helper.args)
            }
        }
    }
}

impl UmountHelper {
    /// For root, umount(8) looks only at the part `fuse` of the type, so it calls this program for
    /// the mounts of other daemons, too. umount(8) must treat these mounts as it would without this
    /// program.
    fn pass_on(&self) -> CliError {
        let mut umount = Command::new("umount");
        umount.arg("--internal-only");
        for (set, flag) in [
            (self.args.force, "--force"),
            (self.args.lazy, "--lazy"),
            (self.args.quiet, "--quiet"),
            (self.read_only, "--read-only"),
            (self.call.verbose > 0, "--verbose"),
        ] {
            umount.args(set.then_some(flag));
        }
        let e = umount.arg(&self.args.target).exec();
        CliError::failure(format_args!("umount: {}", cause(&e)))
    }
}

/// Enter another mount namespace. It is given by the number of a process, or by a file such as
/// /proc/1/ns/mnt.
fn enter(namespace: Option<&Path>) -> Result<(), CliError> {
    let Some(given) = namespace else { return Ok(()) };
    let is_pid = given.as_os_str().as_bytes().iter().all(u8::is_ascii_digit);
    let path = if is_pid { Path::new("/proc").join(given).join("ns/mnt") } else { given.into() };
    files::open(&path).and_then(|file| sys::enter_mount_namespace(&file)).map_err(|e| {
        CliError::new(exit::MOUNT_FAILURE, format_args!("{}: {}", path.show(), cause(&e)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Result<Helper, (clap::Error, u8)>> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_lines_of_the_callers_are_understood() {
        for line in [
            "/sbin/mount.littlefs /i /d -s -n -f -v -o rw,noatime -t littlefs",
            "mount.fuse.littlefs /i /d -o rw -N /proc/7/fd/3",
            "umount.fuse.littlefs /d -f -l -n -r -v -t fuse.littlefs -N 1",
            "umount.littlefs /d",
            "mkfs.littlefs -v --size 1M /i",
            "/sbin/fsck.littlefs -a -C0 -T -M /i",
            "fsck.littlefs -p -f -V -C 3 /i",
            "fsck.littlefs -r /i",
            "fsck.littlefs -n /i",
            "fsck.littlefs -y /i",
        ] {
            assert!(matches!(parsed(line), Some(Ok(_))), "{line}");
        }
        assert!(matches!(parsed("fsck.littlefs"), Some(Err((_, exit::CHECK_USAGE)))));
        assert!(matches!(parsed("mount.littlefs /i"), Some(Err((_, exit::FAILURE)))));
        assert!(parsed("littlefs mount").is_none());
    }

    #[test]
    fn an_image_without_a_command_is_mounted() {
        let line = |text: &str| -> Vec<OsString> { text.split(' ').map(OsString::from).collect() };
        let mounted = with_command(line("littlefs /srv/i /mnt -o rw"));
        assert_eq!(mounted, line("littlefs mount --quiet --unattended /srv/i /mnt -o rw"));
        for other in ["littlefs", "littlefs info /srv/i", "littlefs --a/b", "littlefs i /mnt"] {
            assert_eq!(with_command(line(other)), line(other));
        }
    }
}
