//! The options of `mount -o`.

use std::time::Duration;

use super::profile::Profile;
use super::{parse_bytes, parse_bytes_u32};
use crate::convention::{AttrUsage, CONVENTIONS, Convention};
use crate::fuse::Access;
use crate::vfs::Atime;

/// A change is written at the latest this long after it was made, unless `commit=` says otherwise.
const DEFAULT_COMMIT: Duration = Duration::from_secs(5);
/// Longest `commit=`, in seconds: a day.
const MAX_COMMIT: u64 = 24 * 3600;

/// How long the next request is looked for before sleeping, unless `poll=` says otherwise.
const DEFAULT_POLL: Duration = Duration::from_micros(50);
/// Longest `poll=`, in microseconds.
const MAX_POLL: u32 = 1000;

/// Options that mount(8), fstab(5), systemd or the kernel's generic layer use themselves, and
/// those that change nothing here: reading a directory leaves its access time alone, and everything
/// not `sync` is asynchronous.
const ACCEPTED: &[&str] = &[
    "async",
    "auto",
    "defaults",
    "diratime",
    "group",
    "iversion",
    "loud",
    "mand",
    "nodiratime",
    "noauto",
    "nofail",
    "nogroup",
    "noiversion",
    "nomand",
    "noowner",
    "nouser",
    "nousers",
    "owner",
    "silent",
    "user",
    "users",
    "_netdev",
];
/// Beginnings of options that are comments to us.
const ACCEPTED_PREFIXES: &[&str] = &["x-", "X-", "comment=", "user="];

/// What `-o` asked for.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct MountOptions {
    /// `ro`
    pub read_only: bool,
    /// `block_size=`, in bytes
    pub block_size: Option<u32>,
    /// `block_count=`
    pub block_count: Option<u32>,
    /// `offset=`, in bytes
    pub offset: u64,
    /// `prog_size=`, in bytes
    pub prog_size: Option<u32>,
    /// `inline_max=`, in bytes
    pub inline_max: Option<u32>,
    /// `block_cycles=`
    pub block_cycles: Option<u32>,
    /// `commit=`
    pub commit: Duration,
    /// `sync`
    pub sync: bool,
    /// `dirsync`
    pub dirsync: bool,
    /// `writeback`
    pub writeback: bool,
    /// `uid=`
    pub uid: Option<u32>,
    /// `gid=`
    pub gid: Option<u32>,
    /// `umask=`, for files and directories
    pub umask: Option<u16>,
    /// `fmask=`, for files
    pub fmask: Option<u16>,
    /// `dmask=`, for directories
    pub dmask: Option<u16>,
    /// `allow_other`, `allow_root`
    pub access: Access,
    /// `default_permissions`
    pub default_permissions: bool,
    /// `dev`
    pub dev: bool,
    /// `suid`
    pub suid: bool,
    /// `exec`
    pub exec: bool,
    /// `poll=`
    pub poll: Duration,
    /// `noatime`, `relatime`, `strictatime`
    pub atime: Atime,
    /// `attrs=`; by the profile unless given
    pub attrs: Option<Attrs>,
    /// `profile=`
    pub profile: Option<&'static Profile>,
    /// `user_xattr`; by the convention unless given
    pub user_xattr: Option<bool>,
    /// `auto_unmount`
    pub auto_unmount: bool,
}

/// What `attrs=` says: by which convention user attributes keep times, owners and modes.
#[derive(Debug, Clone, Copy)]
pub enum Attrs {
    /// The one that the image uses, if any.
    Auto,
    /// None.
    None,
    /// This one.
    Of(&'static Convention),
}

impl Attrs {
    fn parse(name: &str) -> Result<Self, String> {
        match (name, Convention::named(name)) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::None),
            (_, Some(convention)) => Ok(Self::Of(convention)),
            (_, None) => {
                let names: Vec<&str> = CONVENTIONS.iter().map(|c| c.name).collect();
                Err(format!("'{name}' is none of auto, none, {}", names.join(", ")))
            }
        }
    }
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            block_size: None,
            block_count: None,
            offset: 0,
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
            auto_unmount: false,
        }
    }
}

impl MountOptions {
    /// Options from comma-separated lists; what comes later wins. What is unknown or wrong is an
    /// error, or ignored with a warning where the caller is `sloppy`.
    ///
    /// # Errors
    /// A sentence that names the option that is unknown or wrong.
    pub fn parse<S: AsRef<str>>(lists: &[S], sloppy: bool) -> Result<Self, String> {
        let mut options = Self::default();
        for option in lists.iter().flat_map(|list| list.as_ref().split(',')) {
            let set = match option.split_once('=') {
                _ if option.is_empty() => Ok(()),
                Some((name, value)) => options.set_value(name, value, option),
                None => options.set_flag(option),
            };
            match set {
                Err(e) if sloppy => log::warn!("{e}; ignored"),
                result => result?,
            }
        }
        Ok(options)
    }

    /// By which convention user attributes are used in an image that has these.
    pub fn convention(&self, usage: &AttrUsage) -> Option<&'static Convention> {
        match (self.attrs, self.profile) {
            (Some(Attrs::Of(convention)), _) => Some(convention),
            (Some(Attrs::None), _) => None,
            (None, Some(profile)) => profile.convention(),
            (Some(Attrs::Auto), _) | (None, None) => Convention::recognise(usage),
        }
    }

    /// Whether the convention was asked for, rather than found in the image.
    pub fn chooses_convention(&self) -> bool {
        match self.attrs {
            Some(attrs) => !matches!(attrs, Attrs::Auto),
            None => self.profile.is_some(),
        }
    }

    fn set_flag(&mut self, name: &str) -> Result<(), String> {
        match name {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dirsync = true,
            "writeback" => self.writeback = true,
            "allow_other" => self.access = Access::Everybody,
            "allow_root" => self.access = Access::OwnerAndRoot,
            "auto_unmount" => self.auto_unmount = true,
            "default_permissions" => self.default_permissions = true,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "noatime" => self.atime = Atime::Never,
            "atime" | "relatime" | "nostrictatime" => self.atime = Atime::Relative,
            "strictatime" | "norelatime" => self.atime = Atime::Always,
            // times never make a write of their own, so this is how it always is
            "lazytime" | "nolazytime" => {}
            "user_xattr" => self.user_xattr = Some(true),
            "nouser_xattr" => self.user_xattr = Some(false),
            _ if is_accepted(name) => {}
            "block_size" | "block_count" | "offset" | "prog_size" | "inline_max"
            | "block_cycles" | "commit" | "poll" | "uid" | "gid" | "umask" | "fmask" | "dmask"
            | "attrs" | "profile" => {
                return Err(format!("mount option '{name}' needs a value: {name}=..."));
            }
            _ => return Err(format!("unknown mount option '{name}'")),
        }
        Ok(())
    }

    fn set_value(&mut self, name: &str, value: &str, option: &str) -> Result<(), String> {
        let in_option = |e: String| format!("mount option '{option}': {e}");
        let bytes = |value| parse_bytes_u32(value).map(Some).map_err(in_option);
        match name {
            "block_size" => self.block_size = bytes(value)?,
            "prog_size" => self.prog_size = bytes(value)?,
            "inline_max" => self.inline_max = bytes(value)?,
            "offset" => self.offset = parse_bytes(value).map_err(in_option)?,
            "block_count" => self.block_count = Some(number(value, option)?),
            "block_cycles" => self.block_cycles = Some(number(value, option)?),
            "attrs" => self.attrs = Some(Attrs::parse(value).map_err(in_option)?),
            "profile" => self.profile = Some(Profile::named(value).map_err(in_option)?),
            "uid" => self.uid = Some(number(value, option)?),
            "gid" => self.gid = Some(number(value, option)?),
            "umask" => self.umask = Some(mask(value, option)?),
            "fmask" => self.fmask = Some(mask(value, option)?),
            "dmask" => self.dmask = Some(mask(value, option)?),
            "commit" => {
                self.commit = match number(value, option)? {
                    // As ext4 has it.
                    0 => DEFAULT_COMMIT,
                    seconds => Duration::from_secs(u64::from(seconds).min(MAX_COMMIT)),
                }
            }
            "poll" => {
                let micros = number(value, option)?;
                if micros > MAX_POLL {
                    return Err(format!("mount option '{option}': at most {MAX_POLL}"));
                }
                self.poll = Duration::from_micros(u64::from(micros));
            }
            _ if is_accepted(option) => {}
            _ => return Err(format!("unknown mount option '{option}'")),
        }
        Ok(())
    }
}

fn is_accepted(option: &str) -> bool {
    ACCEPTED.contains(&option) || ACCEPTED_PREFIXES.iter().any(|p| option.starts_with(p))
}

fn number(value: &str, option: &str) -> Result<u32, String> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| format!("mount option '{option}': '{value}' is not a number"))
}

fn mask(value: &str, option: &str) -> Result<u16, String> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let mask = if digits { u16::from_str_radix(value, 8).ok() } else { None };
    mask.filter(|&mask| mask <= 0o777).ok_or_else(|| {
        format!("mount option '{option}': '{value}' is not an octal mask (like 022)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, String> {
        MountOptions::parse(&[list], false)
    }

    #[test]
    fn values() {
        let o = parse(
            "block_size=4K,block_count=256,offset=0x1000,prog_size=16,inline_max=64,commit=30",
        )
        .expect("valid");
        assert_eq!((o.block_size, o.block_count, o.offset), (Some(4096), Some(256), 4096));
        assert_eq!((o.prog_size, o.inline_max), (Some(16), Some(64)));
        assert_eq!(o.commit, Duration::from_secs(30));
        let o = parse("uid=1000,gid=100,umask=022,fmask=0133,dmask=0").expect("valid");
        assert_eq!((o.uid, o.gid), (Some(1000), Some(100)));
        assert_eq!((o.umask, o.fmask, o.dmask), (Some(0o22), Some(0o133), Some(0)));
    }

    #[test]
    fn later_wins() {
        let o = MountOptions::parse(&["ro,allow_other", "rw,allow_root,umask=1,umask=2"], false);
        let o = o.expect("valid");
        assert!(!o.read_only);
        assert_eq!((o.access, o.umask), (Access::OwnerAndRoot, Some(2)));
    }

    #[test]
    fn the_options_of_others_are_accepted() {
        let o = parse(
            "defaults,noauto,nofail,user,users,_netdev,noatime,x-systemd.automount,x-gvfs-show,\
             X-mount.mkdir=0755,comment=a,user=joe,dev,suid,noexec,relatime,lazytime,async,,",
        )
        .expect("valid");
        assert!(o.dev && o.suid && !o.exec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (list, name) in [
            ("ro,frobnicate", "'frobnicate'"),
            ("frob=1", "'frob=1'"),
            ("block_size", "'block_size'"),
            ("block_size=big", "'block_size=big'"),
            ("umask=9", "'umask=9'"),
            ("umask=01000", "'umask=01000'"),
            ("uid=-1", "'uid=-1'"),
            ("uid=", "'uid='"),
            ("ro=1", "'ro=1'"),
        ] {
            let e = parse(list).expect_err(list);
            assert!(e.contains(name), "{list}: {e}");
        }
    }

    #[test]
    fn a_profile_gives_way_to_other_options() {
        let used = AttrUsage::from([((1, 8), 1)]);
        let name = |list| parse(list).expect("valid").convention(&used).map(|c| c.name);
        assert_eq!(name(""), Some("micropython"));
        assert_eq!(name("attrs=auto,profile=arduino-pico"), Some("micropython"));
        assert_eq!(name("profile=arduino-pico"), Some("arduino"));
        assert_eq!(name("profile=arduino-pico,attrs=unix"), Some("unix"));
        assert_eq!(name("profile=zephyr"), None);
        assert_eq!(name("attrs=none"), None);
        for (list, names) in [("attrs=linux", "micropython"), ("profile=esp", "esp-idf")] {
            let e = parse(list).expect_err(list);
            assert!(e.contains(list) && e.contains(names), "{e}");
        }
    }

    #[test]
    fn the_sloppy_get_what_is_right() {
        let o = MountOptions::parse(&["ro,frobnicate,umask=9,uid=7"], true).expect("sloppy");
        assert_eq!((o.read_only, o.umask, o.uid), (true, None, Some(7)));
    }

    #[test]
    fn commit_zero_is_the_default() {
        assert_eq!(parse("commit=0").expect("valid").commit, DEFAULT_COMMIT);
    }
}
