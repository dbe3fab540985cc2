//! The options of a mount, and what they mean for the volume and for the kernel.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::session::{Access, MountFlags};
use crate::convention::{AttrUsage, Choice, Convention};
use crate::image::{self, Dialect, Page, Place};
use crate::profile::Profile;
use crate::sys;
use crate::transactions::At;
use crate::vfs::{Atime, DefaultModes, VolumeOptions};

/// The longest time until a change is written, unless [`MountOptions::commit`] is set.
pub(crate) const DEFAULT_COMMIT: Duration = Duration::from_secs(5);

/// How long to poll for the next request before sleeping, unless [`MountOptions::poll`] is set.
const DEFAULT_POLL: Duration = Duration::from_micros(50);

/// How to mount an image. The fields are the options of `littlefs mount -o`. Its help describes
/// each of them.
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
    /// Require this block size, in bytes.
    pub block_size: Option<u32>,
    /// Require this number of blocks.
    pub block_count: Option<u32>,
    /// Use this dialect instead of the one that is recognised.
    pub dialect: Option<Dialect>,
    /// Where the filesystem is in the file; by default, it is searched for.
    pub place: Option<Place>,
    /// The page size of a dump of NAND flash with spare bytes.
    pub page: Option<Page>,
    /// Unpack at most this many bytes of a compressed or wrapped image; by default 4 GiB.
    pub unpack_limit: Option<u64>,
    /// The program size of the device, in bytes; by default, it is inferred from the image.
    pub prog_size: Option<u32>,
    /// The largest inline file, in bytes; by default, it is inferred from the image.
    pub inline_max: Option<u32>,
    /// The number of erases after which a metadata pair moves to other blocks; by default, pairs
    /// never move.
    pub block_cycles: Option<u32>,
    /// How many bytes of metadata, changed or not, and of unwritten content are kept in memory; by
    /// default 40 MiB.
    pub cache: Option<u64>,
    /// The longest time until a change is in the image.
    pub commit: Duration,
    /// Write every change at once.
    pub sync: bool,
    /// Write every change of a directory at once.
    pub dirsync: bool,
    /// Let the kernel gather small writes.
    pub writeback: bool,
    /// Owner of entries that have none in the image; by default the user of this process.
    pub uid: Option<u32>,
    /// Group of entries that have none in the image; by default the group of this process.
    pub gid: Option<u32>,
    /// If the image stores no modes: permission bits that no entry has. By default, the umask of
    /// this process is used, but only until the bits are changed.
    pub umask: Option<u16>,
    /// Like `umask`, for files only.
    pub fmask: Option<u16>,
    /// Like `umask`, for directories only.
    pub dmask: Option<u16>,
    /// Who may use the mount; by default only the user of this process.
    pub access: Access,
    /// Let the kernel check permission bits even if only the user of this process has access.
    pub default_permissions: bool,
    /// Honour device nodes.
    pub dev: bool,
    /// Honour set-user-id bits.
    pub suid: bool,
    /// Let programs be run.
    pub exec: bool,
    /// How long to poll for the next request before sleeping; if zero, do not poll.
    pub poll: Duration,
    /// When reading updates access times.
    pub atime: Atime,
    /// The convention by which user attributes store times, owners and modes; by default, the
    /// convention of the profile or of the image.
    pub attrs: Option<Choice>,
    /// Write as this family of devices does, except for options that are set.
    pub profile: Option<&'static Profile>,
    /// Show user attributes as extended attributes; the default depends on the convention.
    pub user_xattr: Option<bool>,
    /// Leave the image as it is, and append changes to the journal in this file, which is made if
    /// it is missing.
    pub journal: Option<PathBuf>,
    /// With [`Self::journal`]: show this state of the journal, read-only.
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
            cache: None,
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

    /// The convention to use in an image that has these user attributes.
    pub(crate) fn convention(&self, usage: &AttrUsage) -> Option<&'static Convention> {
        match (self.attrs, self.profile) {
            (None, Some(profile)) => profile.convention(),
            (choice, _) => choice.unwrap_or_default().of(usage),
        }
    }

    /// Whether the convention was given by an option, rather than found in the image.
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

    /// How the volume shows metadata that the image does not store. `umask` is the umask of this
    /// process, and `image_time` is the time of the last change of the image.
    pub(super) fn volume(
        &self,
        umask: u16,
        convention: Option<&'static Convention>,
        image_time: SystemTime,
    ) -> VolumeOptions {
        // The caches of the kernel serve every user of the mount. With allow_root, only the
        // permission bits keep out users other than root.
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
            stored: None,
        }
    }

    /// Permission bits if the image stores none: `all` without the `umask` of this process, unless
    /// the options have a mask.
    fn modes(&self, mask: Option<u16>, all: u16, umask: u16) -> DefaultModes {
        let mask = mask.or(self.umask);
        let bits = mask.map_or(all & !umask, |mask| 0o777 & !mask);
        DefaultModes { bits, mask }
    }

    /// Whether the kernel must check permission bits, which costs a request for each change in a
    /// directory. If only the mounting user has access, this is needed only if the bits deny that
    /// user something.
    pub(super) fn checks_permissions(&self, umask: u16) -> bool {
        let umask = self.umask.unwrap_or(umask);
        let denied = (self.fmask.unwrap_or(umask) | self.dmask.unwrap_or(umask)) & 0o700;
        self.default_permissions
            || self.access != Access::Owner
            || denied != 0
            || self.uid.is_some_and(|uid| uid != sys::effective_uid())
    }

    /// Whether the kernel gathers writes. It does not with `sync`, because then no write may wait
    /// in the kernel.
    pub(super) fn gathers_writes(&self) -> bool {
        self.writeback && !self.sync
    }
}
