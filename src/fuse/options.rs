//! How to mount, and what follows from it for the volume and the kernel.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::session::{Access, MountFlags};
use crate::bd::journal::At;
use crate::convention::{AttrUsage, Choice, Convention};
use crate::image::{self, Dialect, Page, Place};
use crate::profile::Profile;
use crate::sys;
use crate::vfs::{Atime, DefaultModes, VolumeOptions};

/// How long a change waits at most before it is written, unless [`MountOptions::commit`] says
/// otherwise.
pub(crate) const DEFAULT_COMMIT: Duration = Duration::from_secs(5);

/// How long the next request is looked for before sleeping, unless [`MountOptions::poll`] says
/// otherwise.
const DEFAULT_POLL: Duration = Duration::from_micros(50);

/// How to mount an image. The fields are the options of `littlefs mount -o`, whose help tells more
/// about each.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use littlefs::fuse::MountOptions;
///
/// let mut options = MountOptions::default();
/// options.read_only = true;
/// let mounted = options.mount("flash.bin", "/mnt")?;
/// println!("{}", std::fs::read_to_string("/mnt/boot.py")?);
/// mounted.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MountOptions {
    /// Refuse changes, and never write.
    pub read_only: bool,
    /// Insist on this block size, in bytes, instead of what the image says.
    pub block_size: Option<u32>,
    /// Insist on this number of blocks.
    pub block_count: Option<u32>,
    /// Insist on this dialect, instead of the one that is recognised.
    pub dialect: Option<Dialect>,
    /// Where the filesystem is in the file; looked for by default.
    pub place: Option<Place>,
    /// The pages of a dump of NAND flash that has its spare bytes.
    pub page: Option<Page>,
    /// Unpack so many bytes of a compressed or wrapped image; by default 4 GiB.
    pub unpack_limit: Option<u64>,
    /// The device's program size, in bytes, instead of the one that is inferred from the image.
    pub prog_size: Option<u32>,
    /// The largest file that is stored in its directory's blocks, in bytes, instead of the one that
    /// is inferred from the image.
    pub inline_max: Option<u32>,
    /// After how many erases a metadata pair moves to other blocks; never by default.
    pub block_cycles: Option<u32>,
    /// A change is in the image at the latest this long after it was made.
    pub commit: Duration,
    /// Write every change at once.
    pub sync: bool,
    /// Write every change of a directory at once.
    pub dirsync: bool,
    /// Let the kernel gather small writes.
    pub writeback: bool,
    /// Owner of what has none in the image; by default the user of this process.
    pub uid: Option<u32>,
    /// Group of what has none in the image; by default the group of this process.
    pub gid: Option<u32>,
    /// Permission bits that nothing has where the image keeps none; by default the umask of this
    /// process, but only until the bits are changed.
    pub umask: Option<u16>,
    /// The same for files alone.
    pub fmask: Option<u16>,
    /// The same for directories alone.
    pub dmask: Option<u16>,
    /// Who may use the mount; by default only the user of this process.
    pub access: Access,
    /// Let the kernel check permission bits even where only the user of this process has access.
    pub default_permissions: bool,
    /// Honour device nodes.
    pub dev: bool,
    /// Honour set-user-id bits.
    pub suid: bool,
    /// Let programs be run.
    pub exec: bool,
    /// How long to look for the next request before sleeping; not at all if zero.
    pub poll: Duration,
    /// When reading updates access times.
    pub atime: Atime,
    /// By which convention user attributes keep times, owners and modes; by default as the profile
    /// or the image has it.
    pub attrs: Option<Choice>,
    /// Write as a family of devices does, in all that is not set by itself.
    pub profile: Option<&'static Profile>,
    /// Show user attributes as extended attributes; by default as the convention has it.
    pub user_xattr: Option<bool>,
    /// Leave the image as it is, and append changes to the journal in this file, which is made if it
    /// is missing.
    pub journal: Option<PathBuf>,
    /// With [`Self::journal`]: the image as it was at this state of the journal, for reading only.
    pub at: Option<At>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            block_size: None,
            block_count: None,
            dialect: None,
            place: None,
            page: None,
            unpack_limit: None,
            prog_size: None,
            inline_max: None,
            block_cycles: None,
            commit: DEFAULT_COMMIT,
            sync: false,
            dirsync: false,
            writeback: false,
            uid: None,
            gid: None,
            umask: None,
            fmask: None,
            dmask: None,
            access: Access::Owner,
            default_permissions: false,
            dev: false,
            suid: false,
            exec: true,
            poll: DEFAULT_POLL,
            atime: Atime::Relative,
            attrs: None,
            profile: None,
            user_xattr: None,
            journal: None,
            at: None,
        }
    }
}

impl MountOptions {
    /// How to open the image.
    pub(crate) fn image(&self) -> image::Options {
        image::Options {
            block_size: self.block_size,
            block_count: self.block_count,
            place: self.place.unwrap_or(Place::Auto),
            page: self.page,
            unpack_limit: self.unpack_limit,
            read_only: self.read_only,
            dialect: self.dialect,
            ..image::Options::default()
        }
    }

    /// By which convention user attributes are used in an image that has these.
    pub(crate) fn convention(&self, usage: &AttrUsage) -> Option<&'static Convention> {
        match (self.attrs, self.profile) {
            (None, Some(profile)) => profile.convention(),
            (choice, _) => choice.unwrap_or_default().of(usage),
        }
    }

    /// Whether the convention was asked for, rather than found in the image.
    pub(super) fn chooses_convention(&self) -> bool {
        match self.attrs {
            Some(attrs) => !matches!(attrs, Choice::AsImage),
            None => self.profile.is_some(),
        }
    }

    /// Flags for the kernel.
    pub(super) fn flags(&self, read_only: bool) -> MountFlags {
        MountFlags {
            read_only,
            dev: self.dev,
            suid: self.suid,
            exec: self.exec,
            atime: self.atime != Atime::Never,
        }
    }

    /// How the volume shows what the image does not say. `umask` is that of this process;
    /// `image_time` is when the image was changed last.
    pub(super) fn volume(
        &self,
        umask: u16,
        convention: Option<&'static Convention>,
        image_time: SystemTime,
    ) -> VolumeOptions {
        // What the kernel remembers is for everybody who is in: only the permission bits keep
        // others than root from it.
        let others = if self.access == Access::OwnerAndRoot { 0o077 } else { 0 };
        VolumeOptions {
            uid: self.uid.unwrap_or_else(sys::effective_uid),
            gid: self.gid.unwrap_or_else(sys::effective_gid),
            file_modes: self.modes(self.fmask, 0o666, umask),
            dir_modes: self.modes(self.dmask, 0o777, umask),
            withheld: others,
            user_xattr: self.user_xattr.unwrap_or(convention.is_some_and(|c| c.special_files)),
            convention,
            default_time: image_time,
            atime: self.atime,
            sync: self.sync,
            dirsync: self.dirsync,
            commit: self.commit,
        }
    }

    /// Permission bits where the image keeps none: `all` of them less this process's `umask`, unless
    /// there is a mask for them among the options.
    fn modes(&self, mask: Option<u16>, all: u16, umask: u16) -> DefaultModes {
        let mask = mask.or(self.umask);
        let bits = mask.map_or(all & !umask, |mask| 0o777 & !mask);
        DefaultModes { bits, mask }
    }

    /// Whether the kernel is to check permission bits, at the price of a request for each change
    /// in a directory. Where only the mounting user has access it matters only if the bits deny
    /// that user something.
    pub(super) fn checks_permissions(&self, umask: u16) -> bool {
        let umask = self.umask.unwrap_or(umask);
        let denied = (self.fmask.unwrap_or(umask) | self.dmask.unwrap_or(umask)) & 0o700;
        self.default_permissions
            || self.access != Access::Owner
            || denied != 0
            || self.uid.is_some_and(|uid| uid != sys::effective_uid())
    }

    /// Whether writes wait in the kernel: with `sync` nothing is to wait there, either.
    pub(super) fn gathers_writes(&self) -> bool {
        self.writeback && !self.sync
    }
}
