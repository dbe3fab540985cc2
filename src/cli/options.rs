//! The options of `mount -o`.

internal! {
    mod table;
}

use crate::fuse::MountOptions;

pub use table::help;
use table::{Set, names};

/// Largest value of `commit=`, in seconds: a day.
const MAX_COMMIT: u64 = 24 * 3600;
/// Largest value of `poll=`, in microseconds.
const MAX_POLL: u32 = 1000;

/// The options that were given with `-o`.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// How to mount.
    pub mount: MountOptions,
    /// `auto_unmount`
    pub auto_unmount: bool,
    /// `grow`
    pub grow: bool,
}

impl Given {
    /// Parse comma-separated lists; later options override earlier ones. An unknown or wrong option
    /// is an error, or is ignored with a warning if `sloppy` is true.
    ///
    /// # Errors
    /// A sentence that names the option that is unknown or wrong.
    pub fn parse<S: AsRef<str>>(lists: &[S], sloppy: bool) -> Result<Self, String> {
        let mut options = Self::default();
        let each = lists.iter().flat_map(|list| list.as_ref().split(','));
        for option in each.filter(|option| !option.is_empty()) {
            match options.set(option) {
                Err(e) if sloppy => log::warn!("{e}; ignored"),
                result => result?,
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let mut needs = None;
        for (known, set) in names() {
            match (set, value) {
                (Set::Prefix, _) if option.starts_with(known) => return Ok(()),
                _ if *known != name => {}
                (Set::Flag(set), None) => {
                    set(self);
                    return Ok(());
                }
                (Set::Value(_, set), Some(value)) => {
                    return set(self, value).map_err(|e| format!("mount option '{option}': {e}"));
                }
                (Set::Nothing, None) => return Ok(()),
                (Set::Value(..), None) => needs = Some("needs a value: NAME=..."),
                _ => needs = Some("takes no value"),
            }
        }
        Err(match needs {
            Some(needs) => format!("mount option '{option}' {}", needs.replace("NAME", name)),
            None => {
                format!("unknown mount option '{option}' ('littlefs mount --help' lists them all)")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::convention::AttrUsage;
    use crate::fuse::Access;
    use crate::image::Place;
    use crate::profile::PROFILES;

    fn parse(list: &str) -> Result<MountOptions, String> {
        Given::parse(&[list], false).map(|given| given.mount)
    }

    #[test]
    fn values() {
        let o = parse(
            "block_size=4K,block_count=256,offset=0x1000,prog_size=16,inline_max=64,commit=30",
        )
        .expect("valid");
        assert_eq!((o.block_size, o.block_count), (Some(4096), Some(256)));
        assert_eq!(o.place, Some(Place::At(4096)));
        assert_eq!((o.prog_size, o.inline_max), (Some(16), Some(64)));
        assert_eq!(o.commit, Duration::from_secs(30));
        let o = parse("uid=1000,gid=100,umask=022,fmask=0133,dmask=0").expect("valid");
        assert_eq!((o.uid, o.gid), (Some(1000), Some(100)));
        assert_eq!((o.umask, o.fmask, o.dmask), (Some(0o22), Some(0o133), Some(0)));
    }

    #[test]
    fn a_later_option_overrides_an_earlier_one() {
        let given = Given::parse(&["ro,allow_other", "rw,allow_root,umask=1,umask=2"], false);
        let o = given.expect("valid").mount;
        assert!(!o.read_only);
        assert_eq!((o.access, o.umask), (Access::OwnerAndRoot, Some(2)));
    }

    #[test]
    fn options_for_other_programs_are_accepted() {
        let o = parse(
            "defaults,noauto,nofail,user,users,_netdev,noatime,x-systemd.automount,x-gvfs-show,\
             X-mount.mkdir=0755,comment=a,user=joe,dev,suid,noexec,relatime,lazytime,async,,",
        )
        .expect("valid");
        assert!(o.dev && o.suid && !o.exec);
    }

    #[test]
    fn an_error_names_the_wrong_option() {
        for (list, name) in [
            ("ro,frobnicate", "'frobnicate'"),
            ("frob=1", "'frob=1'"),
            ("block_size", "'block_size'"),
            ("block_size=big", "'block_size=big'"),
            ("umask=9", "'umask=9'"),
            ("umask=01000", "'umask=01000'"),
            ("uid=-1", "'uid=-1'"),
            ("uid=", "'uid='"),
            ("ro=1", "'ro=1' takes no value"),
            ("uid", "'uid' needs a value: uid=..."),
            ("lazytime=1", "'lazytime=1' takes no value"),
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
    fn every_profile_is_in_the_help() {
        let help = help();
        for profile in PROFILES {
            assert!(help.contains(profile.name), "{}", profile.name);
        }
    }

    #[test]
    fn sloppy_parsing_keeps_the_right_options() {
        let given = Given::parse(&["ro,frobnicate,umask=9,uid=7"], true);
        let o = given.expect("sloppy").mount;
        assert_eq!((o.read_only, o.umask, o.uid), (true, None, Some(7)));
    }

    #[test]
    fn commit_zero_is_the_default() {
        assert_eq!(parse("commit=0").expect("valid").commit, MountOptions::default().commit);
    }
}
