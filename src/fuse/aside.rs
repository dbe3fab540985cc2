//! What may wait for a daemon that never answers is done by a process of its own: it can be left
//! behind, where a thread could not, because the kernel lets no process end that waits for an
//! answer to a request that the daemon has read.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::daemon::{self, Daemon};
use crate::sys;

/// Have `work` done, which asks a daemon, and wait as long as one of `daemons` makes progress, and
/// `patience` after the last sign of it: what came of it, or nothing when it was given up. The
/// words that `work` returns are to be few. To be called while there is one thread; `work` may not
/// use anything that is open.
///
/// # Errors
/// What `work` says, or the system.
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
        // What the daemon has not read yet is taken back by that.
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
