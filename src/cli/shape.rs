//! The form of a new filesystem: the options that `mkfs`, `create` and `clone` share.

use clap::{Arg, Args, ValueEnum};

use super::{parse_bytes_u32, parse_number};
use crate::FormatOptions;
use crate::disk::superblock::{
    ATTR_MAX, FILE_MAX, NAME_MAX, VERSION_1_1, VERSION_2_0, VERSION_2_1,
};
use crate::profile::Profile;

/// Block size, version and limits.
#[derive(Args, Debug)]
pub struct ShapeArgs {
    /// Take the block size, the longest name and the largest attribute from this family of devices,
    /// unless you give other values: micropython-rp2, micropython-esp32, esp-idf, arduino-esp8266,
    /// arduino-pico, zephyr, nuttx, nanoframework, phoenix, ardupilot-nor
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    pub profile: Option<&'static Profile>,

    /// Block size in bytes, a multiple of 4 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_u32)]
    pub block_size: Option<u32>,

    /// Version of the format: 2.1, or 2.0 for drivers older than littlefs 2.6, or 1 for drivers
    /// older than littlefs 2.0 [default: 2.1]
    #[arg(long, value_name = "VERSION")]
    pub disk_version: Option<AnyVersion>,

    /// Longest file name, in bytes; a driver built for shorter names refuses the image
    /// [default: 255]
    #[arg(long, value_name = "N",
          value_parser = |text: &str| parse_number(text, 1, NAME_MAX))]
    pub name_max: Option<u32>,

    /// Largest file, in bytes [default: 2147483647]
    #[arg(long, value_name = "N",
          value_parser = |text: &str| parse_number(text, 1, FILE_MAX))]
    pub file_max: Option<u32>,

    /// Largest user attribute, in bytes [default: 1022]
    #[arg(long, value_name = "N",
          value_parser = |text: &str| parse_number(text, 1, ATTR_MAX))]
    pub attr_max: Option<u32>,
}

/// A version of the format on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DiskVersion {
    /// Without forward CRCs.
    #[value(name = "2.0")]
    V2_0,
    /// With forward CRCs.
    #[value(name = "2.1")]
    V2_1,
}

/// A version of the format, version 1 included.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AnyVersion {
    /// Another format, in which there are no user attributes.
    #[value(name = "1")]
    V1,
    /// Without forward CRCs.
    #[value(name = "2.0")]
    V2_0,
    /// With forward CRCs.
    #[value(name = "2.1")]
    V2_1,
}

impl From<DiskVersion> for AnyVersion {
    fn from(version: DiskVersion) -> Self {
        match version {
            DiskVersion::V2_0 => Self::V2_0,
            DiskVersion::V2_1 => Self::V2_1,
        }
    }
}

impl From<AnyVersion> for u32 {
    fn from(version: AnyVersion) -> Self {
        match version {
            AnyVersion::V1 => VERSION_1_1,
            AnyVersion::V2_0 => VERSION_2_0,
            AnyVersion::V2_1 => VERSION_2_1,
        }
    }
}

impl From<DiskVersion> for u32 {
    fn from(version: DiskVersion) -> Self {
        match version {
            DiskVersion::V2_0 => VERSION_2_0,
            DiskVersion::V2_1 => VERSION_2_1,
        }
    }
}

/// Change the help of an option whose default is its value in IMAGE.
pub fn as_in_image(arg: Arg) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split(" [default").next().unwrap_or_default().to_owned();
    arg.help(help + " [default: as in IMAGE]")
}

impl ShapeArgs {
    /// The same options for the library.
    pub fn options(&self) -> FormatOptions {
        let set = |options: FormatOptions, value, set: fn(FormatOptions, u32) -> FormatOptions| {
            match value {
                Some(value) => set(options, value),
                None => options,
            }
        };
        let mut options = FormatOptions::new();
        if let Some(profile) = self.profile {
            options = options.profile(profile);
        }
        options = set(options, self.block_size, FormatOptions::block_size);
        options = set(options, self.disk_version.map(u32::from), FormatOptions::disk_version);
        options = set(options, self.file_max, FormatOptions::file_max);
        options = set(options, self.name_max, FormatOptions::name_max);
        set(options, self.attr_max, FormatOptions::attr_max)
    }
}
