//! Going into the background. The caller waits until the daemon is ready or has failed; from then
//! on, the daemon's messages go to the system's log.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use super::umount::detach_dead;
use super::{CliError, exit};
use crate::show::Show;
use crate::sys::{self, Fork, Severity};

/// The side of the split on which this process is.
pub enum Side {
    /// The process that the user started. It waits for the daemon.
    Caller(Starting),
    /// The process that becomes the daemon.
    Daemon(Starter),
}

/// A daemon that is starting.
pub struct Starting {
    pid: i32,
    ready: PipeReader,
}

/// Tells the caller that the daemon is ready. Until then, the daemon has the caller's terminal, and
/// reports its errors there.
pub struct Starter {
    ready: PipeWriter,
}

/// Keeps standard error connected to the system's log; dropping it delivers the last messages.
pub struct SystemLog {
    forwarder: Option<JoinHandle<()>>,
}

/// Split off a daemon. This must be called before any thread is started.
///
/// # Errors
/// The errors of the system.
pub fn split() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    Ok(match sys::fork()? {
        Fork::Parent(pid) => Side::Caller(Starting { pid, ready: reader }),
        Fork::Child => Side::Daemon(Starter { ready: writer }),
    })
}

/// Start a process that unmounts `mountpoint` if this process dies without doing so. This must be
/// called before any thread is started, and before the image is locked.
///
/// # Errors
/// The errors of the system.
pub fn unmount_after_death(mountpoint: &Path) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    if let Fork::Parent(_) = sys::fork()? {
        // The pipe stays open as long as this process lives.
        std::mem::forget(writer);
        return Ok(());
    }
    drop(writer);
    // A signal to the daemon's process group, or the end of its terminal, must not end this process
    // first.
    let detached = File::options().read(true).write(true).open("/dev/null").and_then(|null| {
        sys::new_session()?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(rustix::stdio::dup2_stderr(&null)?)
    });
    if detached.is_ok() {
        let _ = std::env::set_current_dir("/");
        let _ = reader.read(&mut [0]);
        let _ = detach_dead(mountpoint);
    }
    std::process::exit(0)
}

impl Starting {
    /// Wait for the daemon. This returns success once it is ready; otherwise the daemon has printed
    /// the reason, and this returns its exit code.
    ///
    /// # Errors
    /// When the daemon ended without an exit code of its own.
    pub fn wait(mut self) -> Result<ExitCode, CliError> {
        let failed = |e: io::Error| CliError::new(exit::MOUNT_FAILURE, e);
        if self.ready.read(&mut [0]).map_err(failed)? > 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let status = sys::wait_for(self.pid).map_err(failed)?;
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code) if code != 0 => Ok(ExitCode::from(code)),
            _ => Err(CliError::new(
                exit::MOUNT_FAILURE,
                match status.signal() {
                    Some(signal) => format!("the daemon was killed by signal {signal}"),
                    None => "the daemon ended before it was ready".to_owned(),
                },
            )),
        }
    }
}

impl Starter {
    /// Release the caller's terminal and directory, and tell the caller that the daemon is ready.
    /// From now on, log messages name `image`.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn ready(mut self, image: &Path) -> io::Result<SystemLog> {
        // This must not happen earlier: while something is being mounted on an automount point,
        // systemd lets only its own process group pass that point.
        sys::new_session()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        std::env::set_current_dir("/")?;
        let image = image.show().to_string();
        log_panics(image.clone());
        let log = SystemLog::start(image)?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // If the caller is gone, the failure does not matter.
        let _ = self.ready.write_all(&[1]);
        Ok(log)
    }
}

impl SystemLog {
    fn start(image: String) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let forwarder = thread::Builder::new()
            .name("syslog".to_owned())
            .spawn(move || forward(reader, &image))?;
        rustix::stdio::dup2_stderr(&writer)?;
        Ok(Self { forwarder: Some(forwarder) })
    }
}

impl Drop for SystemLog {
    fn drop(&mut self) {
        // When standard error is replaced, the forwarder sees the end of the pipe.
        let null = File::options().write(true).open("/dev/null");
        if null.is_ok_and(|null| rustix::stdio::dup2_stderr(null).is_ok())
            && let Some(forwarder) = self.forwarder.take()
        {
            let _ = forwarder.join();
        }
    }
}

fn forward(reader: PipeReader, image: &str) {
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let (severity, text) = message(&String::from_utf8_lossy(&line), image);
        sys::syslog(severity, &text);
    }
}

/// Let the panicking thread itself write the message to the system's log. The process aborts, so
/// the thread that forwards standard error can no longer do it.
fn log_panics(image: String) {
    std::panic::set_hook(Box::new(move |panic| {
        sys::syslog(Severity::Error, &format!("{image}: {}", last_words(panic)));
    }));
}

/// The message about a panic.
fn last_words(panic: &dyn fmt::Display) -> String {
    format!(
        "internal error, please report it: {panic}; the mount ends here, as in a crash: changes \
         that were not synced are lost, everything else is safe"
    )
    .replace('\n', " ")
}

/// The severity and the text with which a line on standard error goes to the system's log. The text
/// names the image, because several mounts write to the same log.
fn message(line: &str, image: &str) -> (Severity, String) {
    let text = line.strip_prefix("littlefs: ").unwrap_or(line);
    let (severity, text) = match text.split_once(": ") {
        Some(("warning", text)) => (Severity::Warning, text),
        Some(("info", text)) => (Severity::Info, text),
        _ => (Severity::Error, text),
    };
    let named = text.starts_with(image);
    (severity, if named { text.to_owned() } else { format!("{image}: {text}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_line() {
        let said = last_words(&"panicked at src/fs.rs:1:2:\nwhy");
        assert!(said.contains("panicked at src/fs.rs:1:2: why; the mount ends here"), "{said}");
    }

    #[test]
    fn the_log_names_the_image_once() {
        for (line, severity, text) in [
            ("littlefs: flush failed: why", Severity::Error, "/i: flush failed: why"),
            ("littlefs: warning: odd", Severity::Warning, "/i: odd"),
            ("littlefs: info: /i: fine", Severity::Info, "/i: fine"),
            ("a line of a library", Severity::Error, "/i: a line of a library"),
        ] {
            assert_eq!(message(line, "/i"), (severity, text.to_owned()));
        }
    }
}
