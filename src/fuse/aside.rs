//! Calls that may wait for a daemon that never answers are made in a separate process. Such a
//! process can be left behind. A thread cannot: the kernel does not let a process end while one of
//! its threads waits for the answer to a request that the daemon has already read.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::daemon::{self, Daemon};
use crate::sys;

/// Run `work`, which sends requests to a daemon, in a separate process. Wait as long as one of
/// `daemons` makes progress, and for `patience` after the last progress. Returns the result of
/// `work`, or `None` after that time. The text that `work` returns must be short. This must be
/// called while there is only one thread, and `work` must not use open files.
///
/// # Errors
/// The error of `work`, or of the system.
pub fn do_aside(
    daemons: &[Daemon],
    patience: Duration,
    work: impl FnOnce() -> io::Result<String>,
) -> io::Result<Option<String>> {
    let Some((child, mut answer)) = sys::fork_apart()? else {
        let (errno, words) = match work() {
            Ok(words) => (0, words),
            Err(e) => match e.raw_os_error() {
                Some(errno) => (errno, String::new()),
                None => (-1, e.to_string()),
            },
        };
        let _ = io::stdout().write_all(format!("{errno} {words}").as_bytes());
        let _ = io::stdout().flush();
        std::process::exit(0)
    };
    if !daemon::wait_for(answer.as_fd(), daemons, patience) {
        // This withdraws a request that the daemon has not read yet.
        let _ = sys::kill(child, libc::SIGKILL);
        return Ok(None);
    }
    let mut said = String::new();
    answer.read_to_string(&mut said)?;
    sys::wait_for(child)?;
    match said.split_once(' ').map(|(errno, words)| (errno.parse(), words)) {
        Some((Ok(0), words)) => Ok(Some(words.to_owned())),
        Some((Ok(-1), words)) => Err(io::Error::other(words.to_owned())),
        Some((Ok(errno), _)) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::other("the process that asks the daemon was killed")),
    }
}
