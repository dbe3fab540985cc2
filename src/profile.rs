//! The table of families of devices.

use crate::convention::Convention;
use crate::disk::superblock::VERSION_2_0;

/// A family of devices: how it makes and writes its images. Where a value is `None`, the profile
/// changes nothing.
#[derive(Debug)]
pub struct Profile {
    /// What `--profile` and `-o profile=` call it.
    pub name: &'static str,
    /// Bytes in a block of a new image.
    pub block_size: Option<u32>,
    /// Longest name in a new image, in bytes; the driver refuses images that allow longer ones.
    pub name_max: Option<u32>,
    /// Largest user attribute in a new image, in bytes.
    pub attr_max: Option<u32>,
    /// The newest version of the format that the family's drivers read, if it is not 2.1.
    pub disk_version: Option<u32>,
    /// Bytes that commits are aligned to.
    pub prog_size: Option<u32>,
    /// The size of the driver's cache, in bytes. Inline files are no larger than this.
    pub cache_size: Option<u32>,
    /// How it uses user attributes.
    attrs: Option<&'static str>,
}

const NOTHING: Profile = Profile {
    name: "",
    block_size: None,
    name_max: None,
    attr_max: None,
    disk_version: None,
    prog_size: None,
    cache_size: None,
    attrs: None,
};

/// Every profile known.
pub static PROFILES: &[Profile] = &[
    Profile {
        name: "micropython-rp2",
        block_size: Some(4096),
        prog_size: Some(256),
        cache_size: Some(1024),
        attrs: Some("micropython"),
        ..NOTHING
    },
    Profile {
        name: "micropython-esp32",
        block_size: Some(4096),
        prog_size: Some(32),
        cache_size: Some(128),
        attrs: Some("micropython"),
        ..NOTHING
    },
    Profile {
        name: "esp-idf",
        block_size: Some(4096),
        name_max: Some(64),
        prog_size: Some(128),
        cache_size: Some(512),
        attrs: Some("esp-idf"),
        ..NOTHING
    },
    Profile {
        name: "arduino-esp8266",
        block_size: Some(8192),
        name_max: Some(32),
        disk_version: Some(VERSION_2_0),
        prog_size: Some(64),
        cache_size: Some(64),
        attrs: Some("arduino"),
        ..NOTHING
    },
    Profile {
        name: "arduino-pico",
        block_size: Some(4096),
        prog_size: Some(256),
        cache_size: Some(256),
        attrs: Some("arduino"),
        ..NOTHING
    },
    Profile {
        name: "zephyr",
        block_size: Some(4096),
        prog_size: Some(16),
        cache_size: Some(64),
        ..NOTHING
    },
    Profile { name: "nuttx", attrs: Some("nuttx"), ..NOTHING },
    Profile {
        name: "nanoframework",
        attr_max: Some(4),
        cache_size: Some(0),
        attrs: Some("nanoframework"),
        ..NOTHING
    },
    Profile { name: "phoenix", attrs: Some("phoenix"), ..NOTHING },
    Profile {
        name: "ardupilot-nor",
        block_size: Some(65536),
        prog_size: Some(256),
        attrs: Some("ardupilot"),
        ..NOTHING
    },
];

impl Profile {
    /// The profile with this name.
    ///
    /// # Errors
    /// A sentence that lists all names.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        PROFILES.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
            format!("there is no profile '{name}'; the profiles are {}", names.join(", "))
        })
    }

    /// The convention by which the devices use user attributes, if they do.
    pub fn convention(&self) -> Option<&'static Convention> {
        self.attrs.and_then(Convention::named)
    }

    /// The largest inline file in an image with blocks of `block_size` bytes.
    pub fn inline_max(&self, block_size: u32) -> Option<u32> {
        self.cache_size.map(|size| size.min(block_size / 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convention::{AttrUsage, Codec};

    #[test]
    fn the_table_is_consistent() {
        for p in PROFILES {
            assert_eq!(Profile::named(p.name).expect("named").block_size, p.block_size);
            assert_eq!(p.convention().is_some(), p.attrs.is_some(), "{}", p.name);
            let fits = |size: u32| p.block_size.is_none_or(|block| block.is_multiple_of(size));
            assert!(p.prog_size.is_none_or(fits), "{}", p.name);
            let codec = p.convention().map(|c| Codec::new(c, &AttrUsage::new()));
            let largest = codec.map_or(0, |codec| codec.largest());
            assert!(p.attr_max.is_none_or(|max| max >= largest), "{}", p.name);
        }
        let e = Profile::named("pico").expect_err("no such profile");
        assert!(e.contains("'pico'") && e.contains("arduino-pico"), "{e}");
        assert_eq!(Profile::named("micropython-rp2").expect("named").inline_max(4096), Some(512));
    }
}
