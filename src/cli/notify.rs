//! Telling systemd the state of the daemon (sd_notify(3)), if systemd asks for that.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::sys;

/// Send a message such as `READY=1` to systemd. If nobody listens, nothing happens.
pub fn notify(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(e) = send(&socket, state)
    {
        log::warn!("cannot send a message to systemd: {e}");
    }
}

fn send(socket: &OsString, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.connect_addr(&address)?;
    sender.send(state.as_bytes()).map(drop)
}

/// Whether somebody waits for the message that this process is ready, as systemd does for a
/// service.
pub fn is_service() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// The period in which systemd's watchdog expects a message from this process; `None` if it expects
/// none.
fn watchdog_period() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let micros = number("WATCHDOG_USEC").filter(|&micros| micros > 0)?;
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    for_us.then(|| Duration::from_micros(micros))
}

/// Send messages to systemd's watchdog as long as the mount answers. If the daemon hangs, a call to
/// the mount hangs as well. So no message is sent, and systemd restarts the service.
///
/// # Errors
/// When no thread can be started.
pub fn start_watchdog(mountpoint: PathBuf) -> io::Result<()> {
    let Some(period) = watchdog_period() else { return Ok(()) };
    let ask = move || {
        while sys::statfs(&mountpoint).is_ok() {
            notify("WATCHDOG=1");
            thread::sleep(period / 3);
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(ask).map(drop)
}

/// Whether standard error goes to systemd's journal, which accepts a priority before each line.
pub fn stderr_is_journal() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stderr
        .and_then(|file| file.metadata())
        .is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}
