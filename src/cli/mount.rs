//! `littlefs mount`: serve an image as a directory.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use clap::Args;

use super::attach;
use super::daemon::{self, Side, Starter};
use super::info::bytes;
use super::logging;
use super::notify::{self, notify};
use super::options::{self, Given};
use super::output::not_stdio;
use super::remount;
use super::umount::detach_dead;
use super::{CliError, exit};
use crate::files::Directory;
use crate::fuse::{
    self, Found, MountError, MountOptions, MountRequest, Mounted, Prepared, Session,
};
use crate::image::{self, Source};
use crate::journal::Named;
use crate::show::Show;
use crate::sys::{self, Severity, Signals};
use crate::transfer;
use crate::vfs::Volume;

/// Mount an image on a directory
#[derive(Args, Debug)]
#[command(after_help = help("\
Examples:
  littlefs mount dump.bin /mnt                   read and write; 'littlefs umount /mnt' ends it
  littlefs mount -o ro dump.bin /mnt             read-only
  littlefs mount -o offset=0x100000 flash.bin d  the filesystem starts 1 MiB into the file
  littlefs mount -o partition=spiffs esp.bin d   a partition of an ESP32, by its name
  littlefs mount flash.uf2 d                     read-only: UF2, HEX, DFU, gzip, xz, zstd...
  littlefs mount -o prog_size=256 pico.bin d     write as an RP2040 does
  littlefs mount --journal j dump.bin d          changes go to the file j; dump.bin stays as it is
  littlefs mount -o journal=j,at=3 dump.bin d    the state after transaction 3 of j"))]
pub struct MountArgs {
    /// Stay in the foreground, with messages on stderr
    #[arg(short, long)]
    pub(super) foreground: bool,

    /// Let 'littlefs attach', which has the privilege, call mount(2)
    #[arg(long, requires = "foreground", hide = true)]
    pub(super) unattached: bool,

    /// Descriptors of the image and the journal, which 'littlefs run' has opened and passes on
    #[arg(long, value_name = "FD,FD", value_delimiter = ',', requires = "journal", hide = true)]
    pub(super) inherited: Vec<u32>,

    /// Append changes to FILE, and leave the image as it is (-o journal=FILE)
    #[arg(long, value_name = "FILE", value_parser = not_stdio())]
    pub(super) journal: Option<PathBuf>,

    /// Do not print what was mounted
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Ignore options that are unknown
    #[arg(short, long)]
    pub(super) sloppy: bool,

    /// Only check the options
    #[arg(skip)]
    pub(super) fake: bool,

    /// mount(8) gives the options, from the command line or a line in fstab
    #[arg(skip)]
    pub(super) by_mount: bool,

    /// Nobody reads the message that says where the filesystem was found
    #[arg(long, hide = true)]
    pub(super) unattended: bool,

    /// Mount options, separated by commas; may be repeated, later options win
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) options: Vec<String>,

    /// File or block device that holds the filesystem; standard input cannot be mounted
    #[arg(value_parser = not_stdio())]
    pub(super) image: PathBuf,

    /// Directory to mount it on
    pub(super) mountpoint: PathBuf,
}

/// The end of the help: examples, then the options of `-o`.
fn help(examples: &str) -> String {
    let rest = "\
Sizes may be hexadecimal, with 0x in front, and may end in K, M or G.

Signals:
  SIGTERM, SIGINT  write everything, unmount, and end, even while files are open
  SIGUSR1          write everything
  SIGHUP           read the log filter again, in the syntax of RUST_LOG (like 'debug'), from
                   ~/.config/littlefs/log, or else /etc/littlefs/log. If neither exists, the
                   filter from the start applies again. If the mount is in the foreground and its
                   terminal is closed, SIGHUP acts as SIGTERM";
    format!("{examples}\n\n{}\n\n{rest}", options::help())
}

/// Run the command. If it goes into the background, this returns twice: in the caller when the
/// filesystem is ready, and in the daemon at the end of the mount.
///
/// # Errors
/// When the mount or the last flush fails.
pub fn run(args: &MountArgs) -> Result<ExitCode, CliError> {
    if remount::is_asked_for(&args.options) {
        return remount::run(&args.mountpoint, &args.options, args.by_mount);
    }
    // mount(8) does not pass 'suid' and 'dev', because they are the default of every filesystem.
    // The mounts of ordinary users still have neither option.
    let defaults = if args.by_mount && sys::effective_uid() == 0 { "suid,dev" } else { "" };
    let given = args.options.iter().map(String::as_str);
    let lists: Vec<&str> = iter::once(defaults).chain(given).collect();
    let mut given = Given::parse(&lists, args.sloppy).map_err(CliError::failure)?;
    let options = &mut given.mount;
    options.journal = args.journal.clone().or(options.journal.take());
    if options.at.is_some() && options.journal.is_none() {
        return Err(CliError::failure("mount option 'at' needs 'journal=FILE' as well"));
    }
    if args.fake {
        return Ok(ExitCode::SUCCESS);
    }
    let mount = Mount::new(args, given)?;
    if args.foreground {
        return mount.start()?.serve(|_| Ok(()));
    }
    match daemon::split().map_err(mount_failure)? {
        Side::Caller(starting) => starting.wait(),
        Side::Daemon(starter) => mount.serve_in_background(starter),
    }
}

fn mount_failure(e: impl std::fmt::Display) -> CliError {
    CliError::new(exit::MOUNT_FAILURE, e)
}

/// What is to be mounted: open files, and paths that stay valid when the current directory changes.
struct Mount {
    found: Found,
    directory: Directory,
    image: PathBuf,
    options: MountOptions,
    /// Whether a separate process unmounts the filesystem if this process dies.
    auto_unmount: bool,
    /// Whether the filesystem grows, before it is mounted, until it fills its file, device or
    /// partition.
    grow: bool,
    /// Whether another process calls mount(2).
    unattached: bool,
    /// Whether the mount ends when the terminal closes.
    on_terminal: bool,
    /// Whether the message about what was mounted is left out.
    quiet: bool,
}

impl Mount {
    fn new(args: &MountArgs, given: Given) -> Result<Self, CliError> {
        let Given { mount: mut options, auto_unmount, grow } = given;
        let shown = args.mountpoint.show();
        match detach_dead(&args.mountpoint) {
            Ok(false) => {}
            Ok(true) => {
                log::warn!("{shown}: unmounted the remains of a mount whose daemon had died")
            }
            Err(e) => return Err(mount_failure(format_args!("{shown}: {e}"))),
        }
        let directory = Directory::find(&args.mountpoint).map_err(|error| {
            mount_failure(MountError::Directory { mountpoint: args.mountpoint.clone(), error })
        })?;
        let image = match fs::canonicalize(&args.image) {
            Ok(path) => path,
            Err(_) => std::path::absolute(&args.image).unwrap_or_else(|_| args.image.clone()),
        };
        // The daemon changes to another directory.
        if let Some(journal) = &mut options.journal {
            *journal = std::path::absolute(&*journal).map_err(mount_failure)?;
        }
        let mut inherited = args.inherited.iter().copied();
        let source = match inherited.next() {
            Some(number) => Source::inherited(&image, number),
            None => Source::find(&image),
        };
        let journal = options.journal.as_deref().map(|path| match inherited.next() {
            Some(number) => Named::inherited(path, number),
            None => Named::find(path),
        });
        let found = Found {
            source: source.map_err(mount_failure)?,
            journal: journal.transpose().map_err(mount_failure)?,
            unattended: (args.unattended || args.unattached || notify::is_service())
                && options.place.is_none(),
        };
        Ok(Self {
            found,
            image,
            directory,
            options,
            auto_unmount,
            grow,
            unattached: args.unattached,
            on_terminal: args.foreground && has_terminal() && !Signals::hangup_is_ignored(),
            quiet: args.quiet,
        })
    }

    fn serve_in_background(self, starter: Starter) -> Result<ExitCode, CliError> {
        let mut log = None;
        let image = self.image.clone();
        let result = self.start()?.serve(|what| {
            log = Some(starter.ready(&image)?);
            // This is logged at every level, as for any other filesystem.
            sys::syslog(Severity::Info, what);
            Ok(())
        });
        if let (Err(e), Some(_)) = (&result, &log) {
            log::error!("{e}");
            return Ok(ExitCode::from(e.code));
        }
        result
    }

    /// Open the image and mount it.
    fn start(mut self) -> Result<Running, CliError> {
        if self.auto_unmount {
            daemon::unmount_after_death(&self.directory.path()).map_err(mount_failure)?;
        }
        // This must happen before any thread starts, because all threads must share the heap and
        // must not receive the signals.
        sys::share_heap();
        let signals = Signals::block().map_err(mount_failure)?;
        if self.grow {
            self.grow_filesystem()?;
        }
        let prepared = Prepared::open(&self.image, &mut self.found, &self.options);
        let prepared = prepared.map_err(mount_failure)?;
        let request = prepared.request(&self.directory);
        let session = if self.unattached {
            wait_for_mount(&prepared.volume, &request, &signals)
        } else {
            fuse::mount(Arc::clone(&prepared.volume), &request)
        };
        // A daemon must not keep a directory busy.
        let _ = std::env::set_current_dir("/");
        let read_only = prepared.about.read_only.clone();
        let reason = |why: &String| format!("read-only: {why}");
        let logged = self.describe(&prepared, read_only.as_ref().map(reason));
        // if nobody has asked for it, a warning has told the user why
        let asked = self.options.read_only || self.options.at.is_some();
        let short = |why| if asked { reason(why) } else { "read-only".to_owned() };
        let printed = self.describe(&prepared, read_only.as_ref().map(short));
        let mounted = Mounted::start(prepared, session, &self.directory).map_err(mount_failure)?;
        Ok(Running { mount: self, logged, printed, signals, mounted })
    }

    /// Let the filesystem grow until it fills its file, device or partition, before it is mounted.
    fn grow_filesystem(&mut self) -> Result<(), CliError> {
        let shown = self.image.show().to_string();
        let refused = |why: &dyn Display| mount_failure(format_args!("{shown}: grow: {why}"));
        if self.found.journal.is_some() {
            return Err(refused(
                &"an image with a journal cannot be resized; commit the journal first",
            ));
        }
        let unattended = self.found.unattended;
        let options = image::Options { auto_for_reading: unattended, ..self.options.image() };
        let opened = image::open_found(&self.found.source, &options).map_err(mount_failure)?;
        if opened.read_only {
            return Err(refused(&"the image file cannot be written"));
        }
        if let Some(new) = transfer::grow(&opened).map_err(|e| refused(&e))? {
            log::info!("{shown}: has {} blocks now", new.block_count);
            // the options may require the old number of blocks
            self.options.block_count = None;
        }
        Ok(())
    }

    /// One line about the mount. It ends with `read_only`, if the mount is.
    fn describe(&self, prepared: &Prepared, read_only: Option<String>) -> String {
        let Prepared { filesystem: fs, convention, about, .. } = prepared;
        let block_size = prepared.geometry().block_size;
        let (version, blocks, free) = (&fs.disk_version, fs.block_count, fs.blocks_free);
        let mut line = format!(
            "{} on {}: littlefs {version}, {blocks} blocks of {block_size} bytes, {} used, {free} \
             free ({})",
            self.image.show(),
            self.directory.path().show(),
            fs.blocks_used,
            bytes(u64::from(free) * u64::from(block_size))
        );
        let profile = about.profile.as_ref().map(|profile| format!("profile={profile}"));
        let attrs = convention.map(|c| format!("attrs={}", c.name));
        let journal = about.journal.path().map(|journal| format!("journal={}", journal.show()));
        for part in [profile, attrs, journal, read_only].into_iter().flatten() {
            line.push_str(", ");
            line.push_str(&part);
        }
        line
    }
}

/// Whether this process has a controlling terminal that still exists.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// Handle SIGHUP: daemons read their settings again.
fn read_settings() {
    match logging::reload() {
        Ok(what) => log::info!("{what}"),
        Err(e) => log::warn!("{e}"),
    }
}

/// Let another process mount the filesystem. systemd starts that process when it learns that this
/// one is ready.
fn wait_for_mount(
    volume: &Arc<Volume>,
    request: &MountRequest<'_>,
    signals: &Signals,
) -> io::Result<Session> {
    let unattached = attach::offer(request)?;
    notify("READY=1\nSTATUS=waiting to be mounted");
    loop {
        match signals.wait()? {
            libc::SIGUSR1 => {
                return fuse::serve(Arc::clone(volume), request, unattached.device.into());
            }
            libc::SIGHUP => read_settings(),
            signal => {
                let why = format!("ended by signal {signal} before it was mounted");
                return Err(io::Error::other(why));
            }
        }
    }
}

/// An event that wakes the main thread.
enum Event {
    /// The filesystem was unmounted.
    Ended,
    /// A signal arrived.
    Signal(i32),
}

/// A mount that is being served.
struct Running {
    mount: Mount,
    /// One line about the mount, for the system's log.
    logged: String,
    /// The same for the terminal, on which the warnings are, too.
    printed: String,
    signals: Signals,
    mounted: Mounted,
}

impl Running {
    /// Serve until the filesystem is unmounted or a signal ends the mount. `ready` gets the line
    /// for the system's log.
    fn serve(self, ready: impl FnOnce(&str) -> io::Result<()>) -> Result<ExitCode, CliError> {
        let Self { mount, logged, printed, signals, mut mounted } = self;
        if !mount.quiet {
            // It does not matter if nobody reads this.
            let _ = writeln!(io::stdout(), "{printed}");
        }
        ready(&logged).map_err(mount_failure)?;
        let mountpoint = mounted.mountpoint().to_owned();
        notify(&format!("READY=1\nSTATUS={} on {}", mount.image.show(), mountpoint.show()));
        notify::start_watchdog(mountpoint).map_err(mount_failure)?;
        let (sender, events) = mpsc::channel();
        spawn("end", {
            let (end, sender) = (mounted.end(), sender.clone());
            move || {
                end.wait();
                let _ = sender.send(Event::Ended);
            }
        })?;
        spawn("signals", move || wait_for_signals(&signals, &sender))?;

        let flushed = wait_for_end(&mount, &mut mounted, &events);
        log::logger().flush();
        // The lock is released last, so the next process that takes it sees all changes in the
        // image. (If requests are frozen, the end of the process releases it.)
        drop(mounted);
        match flushed {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(e) => Err(CliError::failure(format_args!(
                "{}: the last changes could not be written: {e}",
                mount.image.show()
            ))),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(mount_failure)
}

fn wait_for_signals(signals: &Signals, events: &Sender<Event>) {
    while let Ok(signal) = signals.wait() {
        if events.send(Event::Signal(signal)).is_err() {
            break;
        }
    }
}

/// Wait until the filesystem is unmounted or a signal ends the mount. Returns the result of the
/// last flush.
fn wait_for_end(
    mount: &Mount,
    mounted: &mut Mounted,
    events: &Receiver<Event>,
) -> crate::Result<()> {
    loop {
        match events.recv() {
            Ok(Event::Signal(libc::SIGUSR1)) => {
                if mounted.flush().is_ok() {
                    log::info!("signal: everything is in {}", mount.image.show());
                }
            }
            Ok(Event::Signal(libc::SIGHUP)) if !mount.on_terminal || has_terminal() => {
                read_settings();
            }
            Ok(Event::Signal(signal)) => {
                log::info!("signal {signal}: unmounting {}", mounted.mountpoint().show());
                // A process that must not mount must not unmount, either. systemd unmounts the
                // filesystem afterwards.
                let flushed =
                    if mount.unattached { Some(mounted.freeze()) } else { mounted.leave() };
                if let Some(flushed) = flushed {
                    notify("STOPPING=1");
                    return flushed;
                }
            }
            Ok(Event::Ended) | Err(_) => {
                notify("STOPPING=1");
                return mounted.close();
            }
        }
    }
}
