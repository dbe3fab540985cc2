//! Why an image cannot be mounted, in words.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::show::{Show, cause};

/// Why an image cannot be mounted. The text names the file or the directory, and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum MountError {
    /// The image or its journal cannot be opened.
    Open(Error),
    /// There is a filesystem in the image, but it cannot be used.
    Filesystem {
        /// The image.
        image: PathBuf,
        /// What is wrong with it.
        error: Error,
    },
    /// The attributes of the requested convention are larger than the image allows.
    Attributes {
        /// The image.
        image: PathBuf,
        /// The name of the convention.
        convention: &'static str,
        /// The largest attribute of the convention, in bytes.
        largest: u32,
        /// The largest attribute that the image allows, in bytes.
        attr_max: u32,
    },
    /// There is no usable directory to mount on.
    Directory {
        /// The path that was given.
        mountpoint: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The system refused to mount.
    Refused {
        /// The directory.
        mountpoint: PathBuf,
        /// The system's error, or what `fusermount3` said.
        error: io::Error,
    },
    /// It is mounted, but does not answer; it was unmounted again.
    Silent {
        /// The directory.
        mountpoint: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Filesystem { image, error } => {
                let image = image.show();
                write!(f, "{image}: {error}; 'littlefs check {image}' lists all damage")
            }
            Self::Attributes { image, convention, largest, attr_max } => write!(
                f,
                "{}: attrs={convention} needs attributes of {largest} bytes, but the image allows \
                 only {attr_max}; use attrs=none, or an image made with 'littlefs mkfs --attr-max \
                 {largest}'",
                image.show(),
            ),
            Self::Directory { mountpoint, error } => about_directory(f, mountpoint, error),
            Self::Refused { mountpoint, error } => about_refusal(f, mountpoint, error),
            Self::Silent { mountpoint, error } => {
                write!(f, "{}: the mount does not answer: {}", mountpoint.show(), cause(error))
            }
        }
    }
}

impl std::error::Error for MountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) | Self::Filesystem { error, .. } => Some(error),
            Self::Attributes { .. } => None,
            Self::Directory { error, .. }
            | Self::Refused { error, .. }
            | Self::Silent { error, .. } => Some(error),
        }
    }
}

impl<E: Into<Error>> From<E> for MountError {
    fn from(e: E) -> Self {
        Self::Open(e.into())
    }
}

fn about_directory(f: &mut fmt::Formatter<'_>, path: &Path, error: &io::Error) -> fmt::Result {
    let shown = path.show();
    match error.kind() {
        io::ErrorKind::NotFound => {
            write!(f, "{shown}: no such directory; 'mkdir -p {shown}' makes it")
        }
        io::ErrorKind::PermissionDenied => {
            write!(f, "{shown}: permission denied; mount on a directory of your own")
        }
        io::ErrorKind::NotADirectory => write!(
            f,
            "{shown}: not a directory; the image comes first, then the directory to mount it on"
        ),
        _ => write!(f, "{shown}: {}", cause(error)),
    }
}

fn about_refusal(f: &mut fmt::Formatter<'_>, path: &Path, error: &io::Error) -> fmt::Result {
    let text = error.to_string();
    let text = text.trim_end();
    let at = path.show();
    if text.contains("user_allow_other") {
        return write!(
            f,
            "cannot mount on {at}: allow_other and allow_root need 'user_allow_other' in \
             /etc/fuse.conf"
        );
    }
    let no_driver = [libc::ENOENT, libc::ENODEV, libc::ENXIO];
    let remedy = if error.raw_os_error().is_some_and(|errno| no_driver.contains(&errno)) {
        "; are /dev/fuse and fusermount3 there? 'modprobe fuse' loads the driver; fusermount3 is \
         in the package fuse3"
    } else if text.contains("no write access") {
        "; mount on a directory of your own, or as root"
    } else if text.contains("/dev/fuse") || error.kind() == io::ErrorKind::PermissionDenied {
        "; to mount, you must be able to run fusermount3 and to open /dev/fuse: mount as root, or \
         change their permissions"
    } else if text.contains("not permitted") {
        "; fusermount3 must be set-user-id root, as the package fuse3 installs it; in a \
         container, the right to mount is needed (CAP_SYS_ADMIN)"
    } else {
        ""
    };
    write!(f, "cannot mount on {at}: {text}{remedy}")
}
