//! Going into the background: the caller waits until the daemon is ready or has failed, and the
//! daemon's messages then go to the system's log.

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

/// Which side of the split this process is.
pub enum Side {
    /// The process the user started; what to wait for.
    Caller(Starting),
    /// The daemon to be.
    Daemon(Starter),
}

/// A daemon on its way.
pub struct Starting {
    pid: i32,
    ready: PipeReader,
}

/// Tells the caller that the daemon is ready. Until then the daemon has the caller's terminal,
/// and reports its own errors there.
pub struct Starter {
    ready: PipeWriter,
}

/// Keeps standard error connected with the system's log; dropping it delivers what is under way.
pub struct SystemLog {
    forwarder: Option<JoinHandle<()>>,
}

/// Split off a daemon. To be called before any thread is started.
///
/// # Errors
/// The system's.
pub fn split() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    Ok(match sys::fork()? {
        Fork::Parent(pid) => Side::Caller(Starting { pid, ready: reader }),
        Fork::Child => Side::Daemon(Starter { ready: writer }),
    })
}

/// Have a process of its own unmount `mountpoint` when this process dies without doing so. To be
/// called before any thread is started, and before the image is locked.
///
/// # Errors
/// The system's.
pub fn unmount_after_death(mountpoint: &Path) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    if let Fork::Parent(_) = sys::fork()? {
        // Open for as long as this process lives.
        std::mem::forget(writer);
        return Ok(());
    }
    drop(writer);
    // Nothing that ends the daemon's group or closes its terminal may end this process first.
    let detached = File::options().read(true).write(true).open("/dev/null").and_then(|null| {
        sys::new_session()?;
        sys::redirect(io::stdin(), &null)?;
        sys::redirect(io::stdout(), &null)?;
        sys::redirect(io::stderr(), &null)
    });
    if detached.is_ok() {
        let _ = std::env::set_current_dir("/");
        let _ = reader.read(&mut [0]);
        let _ = detach_dead(mountpoint);
    }
    std::process::exit(0)
}

impl Starting {
    /// Wait for the daemon: success once it is ready, else its own exit code, after it has
    /// reported why.
    ///
    /// # Errors
    /// When it ended without a word.
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
    /// Let go of the caller's terminal and directory, and tell it that all is well. What is logged
    /// from now on names `image`.
    ///
    /// # Errors
    /// The system's.
    pub fn ready(mut self, image: &Path) -> io::Result<SystemLog> {
        // Only now: systemd lets nobody but its own process group pass an automount point while
        // something is being mounted there.
        sys::new_session()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        std::env::set_current_dir("/")?;
        let image = image.show().to_string();
        log_panics(image.clone());
        let log = SystemLog::start(image)?;
        sys::redirect(io::stdin(), &null)?;
        sys::redirect(io::stdout(), &null)?;
        // A caller that is gone need not be told.
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
        sys::redirect(io::stderr(), &writer)?;
        Ok(Self { forwarder: Some(forwarder) })
    }
}

impl Drop for SystemLog {
    fn drop(&mut self) {
        // With standard error gone the forwarder sees the end of the pipe.
        let null = File::options().write(true).open("/dev/null");
        if null.and_then(|null| sys::redirect(io::stderr(), null)).is_ok()
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

/// Have a panic written to the system's log by the thread that panics: the process aborts, and the
/// thread that forwards standard error with it.
fn log_panics(image: String) {
    std::panic::set_hook(Box::new(move |panic| {
        sys::syslog(Severity::Error, &format!("{image}: {}", last_words(panic)));
    }));
}

/// What a panic leaves to be said.
fn last_words(panic: &dyn fmt::Display) -> String {
    format!(
        "internal error, please report it: {panic}; the mount ends here, as in a crash: what was \
         not synced is lost, all else is safe"
    )
    .replace('\n', " ")
}

/// What a line on standard error is in the system's log, where several mounts meet.
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
