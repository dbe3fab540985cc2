//! `littlefs run`: run a program in an image. Its changes are kept only if it succeeds.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::options::Given;
use super::output::not_stdio;
use super::{CliError, exit};
use crate::fuse::MountOptions;
use crate::image::{self, Source};
use crate::journal::{self, Journal, Mode, Named, OwnJournal};
use crate::show::{Show, cause};
use crate::sys::{self, Signals};
use crate::transactions::At;
use crate::transactions::history::RUN;

/// Run a program in an image; commit its changes if it succeeds, and drop them if it fails
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs run dump.bin -- make install           all of it, or nothing
  littlefs run dump.bin -- sh -c 'rm *.log && cp /srv/new.cfg cfg.js'
  littlefs run --journal j dump.bin -- ./upgrade  keeps the journal, for 'littlefs journal'

CMD runs with the mounted image as its working directory; LITTLEFS_ROOT has the path of that
directory. If CMD exits with 0, everything that was done in the mount until then is committed to
IMAGE, as by 'littlefs journal commit', including what was in the journal before. If CMD exits with
another status, or a signal ends it, the journal goes back to its former state, and IMAGE stays as
it was. Programs that CMD leaves in the background lose the mount. If the image stores no modes, all
files have mode 0777 less your umask, so programs in it can be run.

Signals are passed on to CMD. The exit status is that of CMD, 128+N if signal N ended it, 127 if the
program does not exist, 126 if it cannot be run, and 125 if anything else failed.")]
pub struct RunArgs {
    /// The journal; made if it does not exist, and kept (default: IMAGE.run, which is removed at
    /// the end)
    #[arg(long, value_name = "FILE", value_parser = not_stdio())]
    journal: Option<PathBuf>,

    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,

    /// The image; standard input cannot be mounted
    #[arg(value_parser = not_stdio())]
    image: PathBuf,

    /// The program, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Run the command.
///
/// # Errors
/// When something other than CMD failed.
pub fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    try_run(args).map(ExitCode::from).map_err(|e| match e.code {
        exit::RUN_CANNOT | exit::RUN_NOT_FOUND => e,
        _ => e.with_code(exit::RUN_FAILURE),
    })
}

fn try_run(args: &RunArgs) -> Result<u8, CliError> {
    let given = Given::parse(&args.options, false).map_err(CliError::failure)?;
    let options = given.mount;
    if options.read_only || options.journal.is_some() || options.at.is_some() {
        let message = "mount options 'ro', 'journal' and 'at' are not possible here";
        return Err(CliError::failure(message));
    }
    // This must happen before any thread is started, because only the thread that passes signals on
    // may receive them. `cli::main` has blocked SIGXFSZ, and the program must not inherit that.
    let passed_on = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGXFSZ];
    let signals = Signals::block_these(&passed_on).map_err(CliError::failure)?;
    let image = Source::find(&args.image).map_err(CliError::failure)?;
    let mut journal = match &args.journal {
        Some(path) => OwnJournal::given(Named::find(path)?),
        None => OwnJournal::beside(&image)?,
    };
    let before = begin(journal.named_mut(), &image, &options)?;

    let mount = Daemon::start(journal.named(), &image, args, &signals)?;
    let ran = mount.run(&args.command, signals);
    let succeeded = ran.as_ref().is_ok_and(ExitStatus::success);
    let written = mount.stop(succeeded);

    let mut committed = written;
    if succeeded && committed.is_ok() {
        committed = journal.commit(&image).map_err(CliError::from);
    }
    let opened = Journal::open_found(journal.named(), Mode::Write)?;
    if opened.history().begun.is_some() {
        return Err(interrupted(journal, &image, committed.err()));
    }
    if opened.history().run.is_some() {
        // if there are no changes, this only notes that no run is in progress any more
        opened.revert(&At::Number(before))?;
    }
    drop(journal);
    let status = ran?;
    if succeeded {
        committed.map_err(|e| CliError { message: format!("nothing was changed: {e}"), ..e })?;
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit::RUN_FAILURE),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(exit::RUN_FAILURE),
        (None, None) => exit::RUN_FAILURE,
    })
}

/// The error if the image is only partly changed. The journal, which has the rest, is kept.
fn interrupted(mut journal: OwnJournal, image: &Source, e: Option<CliError>) -> CliError {
    journal.keep();
    let (path, image) = (journal.named().path().show(), image.path().show());
    let why = e.map(|e| format!("{e}; ")).unwrap_or_default();
    CliError::failure(format_args!(
        "{why}the commit was interrupted; finish it with 'littlefs journal commit {path} {image}'"
    ))
}

/// Check that the image and the journal are sound, and set a savepoint at the state that a failure
/// restores. Returns that state.
fn begin(journal: &mut Named, image: &Source, options: &MountOptions) -> Result<u64, CliError> {
    let image_options = image::Options { read_only: false, ..options.image() };
    let attached = journal::attach(journal, image, &image_options, None)?;
    let before = attached.device.last();
    let path = journal.path().show();
    if attached.device.before_run().is_some_and(|number| number < before) {
        return Err(CliError::failure(format_args!(
            "{path}: holds changes of a run that was interrupted: 'littlefs journal revert --to \
             {RUN} {path}' drops them, 'littlefs journal commit' keeps them",
        )));
    }
    let saved = attached.device.save(RUN);
    saved.map_err(|e| CliError::failure(format_args!("{path}: {e}")))?;
    Ok(before)
}

/// The mount. A separate process serves it, and does not outlive this one.
struct Daemon {
    child: Child,
    scratch: TempDir,
    /// Receives the messages that the daemon would send to systemd.
    _notified: UnixDatagram,
}

impl Daemon {
    fn start(
        journal: &Named,
        image: &Source,
        args: &RunArgs,
        signals: &Signals,
    ) -> Result<Self, CliError> {
        let failed = |e: io::Error| CliError::failure(format_args!("cannot mount: {}", cause(&e)));
        let scratch = tempfile::Builder::new().prefix("littlefs-").tempdir().map_err(failed)?;
        let mountpoint = scratch.path().join("mnt");
        fs::create_dir(&mountpoint).map_err(failed)?;
        let socket = scratch.path().join("ready");
        let ready = UnixDatagram::bind(&socket).map_err(failed)?;
        ready.set_read_timeout(Some(Duration::from_millis(20))).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["mount", "-f", "--journal"]).arg(journal.path());
        // Pass the open files, because their names may refer to other files by now.
        let passed = [image.pass_on(), journal.pass_on()].map(|file| file.map_err(failed));
        let [passed_image, passed_journal] = passed;
        let (passed_image, passed_journal) = (passed_image?, passed_journal?);
        let numbers = (passed_image.as_raw_fd(), passed_journal.as_raw_fd());
        command.arg("--inherited").arg(format!("{},{}", numbers.0, numbers.1));
        // `offset=auto` finds the same filesystem as before. With a mask, files are executable as
        // on vfat, so programs in the image can be run.
        command.arg("-o").arg(format!("offset=auto,umask={:o}", sys::umask()));
        for list in &args.options {
            command.arg("-o").arg(list);
        }
        command.arg("--").arg(&args.image).arg(&mountpoint);
        command.env("NOTIFY_SOCKET", &socket).env_remove("WATCHDOG_USEC");
        // the daemon must not write to the standard output of CMD
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // signals from the terminal must reach only CMD
        command.process_group(0);
        sys::end_with_parent(&mut command);
        signals.leave_to(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        // CMD must not inherit these descriptors
        drop((passed_image, passed_journal));
        let mut message = [0; 512];
        loop {
            if let Ok(n) = ready.recv(&mut message)
                && message[..n].starts_with(b"READY=1")
            {
                return Ok(Self { child, scratch, _notified: ready });
            }
            if child.try_wait().map_err(failed)?.is_some() {
                // the daemon has printed the reason
                return Err(CliError::failure("the image could not be mounted"));
            }
        }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    /// Run a program in the mount, pass signals on to it, and wait for its end.
    fn run(&self, command: &[OsString], signals: Signals) -> Result<ExitStatus, CliError> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(CliError::failure("no command given"));
        };
        let root = self.root();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&root).env("LITTLEFS_ROOT", &root);
        signals.leave_to(&mut command);
        let mut child = command.spawn().map_err(|e| {
            let code = match e.kind() {
                ErrorKind::NotFound => exit::RUN_NOT_FOUND,
                _ => exit::RUN_CANNOT,
            };
            CliError::new(code, format_args!("{}: {}", program.show(), cause(&e)))
        })?;
        // `None` once CMD has ended; its process number may then belong to another process.
        let pid = Arc::new(Mutex::new(i32::try_from(child.id()).ok()));
        thread::spawn({
            let pid = Arc::clone(&pid);
            move || {
                while let Ok((signal, by_terminal)) = signals.wait_and_tell() {
                    let pid = pid.lock();
                    if let Some(pid) = pid.filter(|_| !by_terminal) {
                        let _ = sys::kill(pid, signal);
                    }
                }
            }
        });
        let status = sys::wait_for_end(&child).and_then(|()| {
            *pid.lock() = None;
            child.wait()
        });
        status.map_err(CliError::failure)
    }

    /// End the mount. If the changes are to be kept, they are on disk when this returns without an
    /// error.
    fn stop(mut self, counts: bool) -> Result<(), CliError> {
        let lost = |e: &dyn std::fmt::Display| {
            CliError::failure(format_args!("the changes of the program could not be written: {e}"))
        };
        let written = match counts {
            // This writes mapped pages, too. It must happen now, while a failure can still be
            // reported.
            true => File::open(self.root())
                .and_then(|root| sys::syncfs(&root).and_then(|()| root.sync_all())),
            false => Ok(()),
        };
        let ended = i32::try_from(self.child.id())
            .map_err(io::Error::other)
            .and_then(|pid| sys::kill(pid, libc::SIGTERM))
            .and_then(|()| self.child.wait());
        written.map_err(|e| lost(&e))?;
        match ended {
            Ok(status) if status.success() || !counts => Ok(()),
            Ok(status) => Err(lost(&status)),
            Err(e) => Err(lost(&e)),
        }
    }
}
