//! Mounts an image while a command runs:
//! `cargo run --example mount -- IMAGE DIRECTORY COMMAND [ARGUMENT...]`.
//!
//! Needs the right to mount: root, or `fusermount3` from the package fuse3.

use std::error::Error;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use littlefs::fuse::MountOptions;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [image, directory, command, arguments @ ..] = &arguments[..] else {
        return Err("usage: mount IMAGE DIRECTORY COMMAND [ARGUMENT...]".into());
    };
    let mounted = MountOptions::default().mount(image, directory)?;
    let status = Command::new(command).args(arguments).status();
    // Even if the command has failed, keep what it has written, or return an error.
    mounted.finish()?;
    Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
