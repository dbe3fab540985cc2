//! Mounting and unmounting through `fusermount3`, which has the right to do this. Ordinary users do
//! not have it.
//!
//! It mounts the filesystem, and sends the descriptor of the FUSE device over a socket. An
//! environment variable tells it the number of the socket. It needs a path to mount on. It gets
//! ".", and runs in the directory that was opened, because this path cannot lead elsewhere.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::session::{Access, MountRequest};
use crate::sys::{self, Unmount};

/// The program, unless [`PROGRAM_VARIABLE`] names another one.
const PROGRAM: &str = "fusermount3";
/// The environment variable that names another program, as for libfuse.
const PROGRAM_VARIABLE: &str = "FUSERMOUNT_PATH";
/// The environment variable that tells the program the number of the socket.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Unmount directly if this process has the right, otherwise through `fusermount3`.
///
/// # Errors
/// The error of the system, or the message of `fusermount3`.
pub fn unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    match sys::unmount(mountpoint, how) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        result => return result,
    }
    let output = Command::new(PROGRAM)
        .arg(if how == Unmount::Lazily { "-uz" } else { "-u" })
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{PROGRAM}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}

/// Mount as `request` says, and return the FUSE device. This must be called before any thread
/// starts that runs programs, because these would inherit the socket.
///
/// # Errors
/// The error of the system, or the message of `fusermount3`.
pub fn mount(request: &MountRequest<'_>) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    let program = env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(program);
    command.arg("-o").arg(options(request)).args(["--", "."]);
    command.env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = request.mountpoint.within(|| {
        fcntl_setfd(&theirs, FdFlags::empty())?;
        command.spawn()
    });
    drop(theirs);
    let device = child.and_then(|child| {
        let device = receive(&ours);
        let output = child.wait_with_output()?;
        device?.ok_or_else(|| {
            io::Error::other(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        })
    })?;
    fcntl_setfd(&device, FdFlags::CLOEXEC)?;
    Ok(device)
}

/// The options of a mount, separated by commas.
fn options(request: &MountRequest<'_>) -> OsString {
    let flags = request.flags;
    let mut options = b"fsname=".to_vec();
    options.extend(escaped(request.source));
    let either = |set, yes, no| if set { yes } else { no };
    for option in [
        "subtype=littlefs",
        either(flags.read_only, "ro", "rw"),
        either(flags.dev, "dev", "nodev"),
        either(flags.suid, "suid", "nosuid"),
        either(flags.exec, "exec", "noexec"),
        either(flags.atime, "", "noatime"),
        either(request.default_permissions, "default_permissions", ""),
        either(request.access == Access::Owner, "", "allow_other"),
    ] {
        if !option.is_empty() {
            options.push(b',');
            options.extend(option.as_bytes());
        }
    }
    OsString::from_vec(options)
}

/// The source as a mount option: a comma would be the end of the option unless it is escaped.
fn escaped(source: &Path) -> Vec<u8> {
    let bytes = OsStr::as_bytes(source.as_os_str()).iter();
    let escape = |&b: &u8| if matches!(b, b'\\' | b',') { vec![b'\\', b] } else { vec![b] };
    bytes.flat_map(escape).collect()
}

/// The descriptor that is sent over the socket; `None` if the socket is closed without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result.map(drop)?,
        }
    }
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(fds.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_a_path_do_not_end_the_option() {
        assert_eq!(escaped(Path::new("/a,b\\c")), b"/a\\,b\\\\c");
        assert_eq!(escaped(Path::new(OsStr::from_bytes(b"/\xff"))), b"/\xff");
    }
}
