//! `littlefs mount`: serve an image as a directory.

use std::fs;
use std::io::{self, Write};
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::SystemTime;

use clap::Args;

use super::attach;
use super::daemon::{self, Side, Starter};
use super::info::bytes;
use super::logging;
use super::notify::{self, notify};
use super::options::{self, MountOptions};
use super::remount;
use super::umount::detach_dead;
use super::{CliError, exit};
use crate::bd::{BlockDevice, JournalDevice};
use crate::convention::{Codec, Convention};
use crate::files::{self, Directory};
use crate::fs::{Fs, OpenOptions};
use crate::fuse::status::{self, AS_ASKED, About};
use crate::fuse::{self, Access, MountFlags, MountRequest, Session};
use crate::image::{self, Opened, Source};
use crate::journal::{self, Attached, Named};
use crate::show::Show;
use crate::sys::{self, Severity, Signals, Unmount};
use crate::vfs::{Atime, DefaultModes, Filesystem, ROOT_INO, Volume, VolumeOptions};

/// Blocks of files that are followed before the mount is announced, so that damage which forbids
/// writing is known by then. Larger images go on with this in the background.
const MAPPED_AT_MOUNT: u32 = 16 << 10;

/// Mount an image on a directory
#[derive(Args, Debug)]
#[command(after_help = help("\
Examples:
  littlefs mount dump.bin /mnt                   read and write; 'littlefs umount /mnt' ends it
  littlefs mount -o ro dump.bin /mnt             only look
  littlefs mount -o offset=0x100000 flash.bin d  the filesystem starts 1 MiB into the file
  littlefs mount -o partition=spiffs esp.bin d   by its name in an ESP32's partition table
  littlefs mount flash.uf2 d                     read-only: UF2, HEX, DFU, gzip, xz, zstd...
  littlefs mount -o prog_size=256 pico.bin d     write as an RP2040 does
  littlefs mount --journal j dump.bin d          changes go to the file j, dump.bin stays as it is
  littlefs mount -o journal=j,at=3 dump.bin d    as it was after transaction 3 of j"))]
pub struct MountArgs {
    /// Stay in the foreground, with messages on stderr
    #[arg(short, long)]
    pub(super) foreground: bool,

    /// Leave the call of mount(2) to 'littlefs attach', which has the privilege for it
    #[arg(long, requires = "foreground", hide = true)]
    pub(super) unattached: bool,

    /// Descriptors of image and journal, which are opened already: what 'littlefs run' passes on
    #[arg(long, value_name = "FD,FD", value_delimiter = ',', requires = "journal", hide = true)]
    pub(super) inherited: Vec<u32>,

    /// Append changes to FILE, and leave the image as it is (-o journal=FILE)
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,

    /// Do not say what was mounted
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

    /// Nobody looks at where the filesystem is found
    #[arg(long, hide = true)]
    pub(super) unattended: bool,

    /// Mount options, separated by commas; may be repeated, what comes later wins
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) options: Vec<String>,

    /// File or block device that holds the filesystem
    pub(super) image: PathBuf,

    /// Directory to mount it on
    pub(super) mountpoint: PathBuf,
}

/// The help's end: examples, then the options of `-o`.
fn help(examples: &str) -> String {
    let rest = "\
Sizes may be hexadecimal with 0x, and end in K, M or G.

Signals:
  SIGTERM, SIGINT  write everything, unmount, and end, even while files are open
  SIGUSR1          write everything
  SIGHUP           read what to log again: a filter as in RUST_LOG, like 'debug', in
                   ~/.config/littlefs/log, or else /etc/littlefs/log; without these, as started.
                   In the foreground, when the terminal is closed: as SIGTERM";
    format!("{examples}\n\n{}\n\n{rest}", options::help())
}

/// Run the command: in the background it returns twice, in the caller once the filesystem
/// answers, and in the daemon at the end of the mount.
///
/// # Errors
/// When the mount fails, or the last flush does.
pub fn run(args: &MountArgs) -> Result<ExitCode, CliError> {
    if remount::is_asked_for(&args.options) {
        return remount::run(&args.mountpoint, &args.options, args.by_mount);
    }
    // mount(8) leaves out 'suid' and 'dev', because they are the default of every filesystem. What
    // ordinary users mount has neither all the same.
    let defaults = if args.by_mount && sys::effective_uid() == 0 { "suid,dev" } else { "" };
    let given = args.options.iter().map(String::as_str);
    let lists: Vec<&str> = iter::once(defaults).chain(given).collect();
    let mut options = MountOptions::parse(&lists, args.sloppy).map_err(CliError::failure)?;
    options.journal = args.journal.clone().or(options.journal);
    if options.at.is_some() && options.journal.is_none() {
        return Err(CliError::failure("mount option 'at' needs 'journal=FILE'"));
    }
    if args.fake {
        return Ok(ExitCode::SUCCESS);
    }
    let mount = Mount::new(args, options)?;
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

/// What is to be mounted: files that are open, and paths that stay right when the directory changes.
struct Mount {
    /// The file that the image is in.
    source: Source,
    journal: Option<Named>,
    directory: Directory,
    image: PathBuf,
    mountpoint: PathBuf,
    options: MountOptions,
    /// Somebody else calls mount(2).
    unattached: bool,
    /// Nobody has looked at where the filesystem is in the file, nor does now.
    unattended: bool,
    /// The end of the terminal ends the mount.
    on_terminal: bool,
    /// Do not say what was mounted.
    quiet: bool,
}

impl Mount {
    fn new(args: &MountArgs, mut options: MountOptions) -> Result<Self, CliError> {
        let shown = args.mountpoint.show();
        match detach_dead(&args.mountpoint) {
            Ok(false) => {}
            Ok(true) => log::warn!("{shown}: unmounted what was left of a mount whose daemon died"),
            Err(e) => {
                let what = "holds what is left of a mount whose daemon died";
                return Err(mount_failure(format_args!(
                    "{shown}: {what}, which cannot be unmounted: {e} ('umount -l {shown}' may, as \
                     root)"
                )));
            }
        }
        let directory = Directory::find(&args.mountpoint).map_err(|e| {
            mount_failure(match e.kind() {
                io::ErrorKind::NotFound => {
                    format!("{shown}: no such directory; 'mkdir -p {shown}' makes it")
                }
                io::ErrorKind::PermissionDenied => {
                    format!("{shown}: permission denied; mount on a directory of your own")
                }
                io::ErrorKind::NotADirectory => format!(
                    "{shown}: not a directory; the image comes first, then the directory to mount \
                     it on"
                ),
                _ => format!("{shown}: {e}"),
            })
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
        Ok(Self {
            source: source.map_err(mount_failure)?,
            journal: journal.transpose().map_err(mount_failure)?,
            image,
            mountpoint: directory.path(),
            directory,
            unattended: (args.unattended || args.unattached || notify::is_service())
                && options.place.is_none(),
            options,
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
            // Whatever the level is, as of any other filesystem.
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
        let umask = sys::umask();
        if self.options.auto_unmount {
            daemon::unmount_after_death(&self.mountpoint).map_err(mount_failure)?;
        }
        // Before any thread starts: all of them are to share the heap, and leave the signals alone.
        sys::share_heap();
        let signals = Signals::block().map_err(mount_failure)?;
        let (opened, savepoints) = self.open_image()?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        let at_image = |e: &dyn std::fmt::Display| {
            let image = self.image.show();
            mount_failure(format_args!("{image}: {e}; 'littlefs check {image}' tells more"))
        };
        let profile = self.options.profile;
        let block_size = opened.device.geometry().block_size;
        let mut fs = Fs::open(
            opened.device.clone(),
            &OpenOptions {
                read_only: opened.read_only,
                prog_size: self.options.prog_size.or(profile.and_then(|p| p.prog_size)),
                inline_max: (self.options.inline_max)
                    .or(profile.and_then(|p| p.inline_max(block_size))),
                block_cycles: self.options.block_cycles,
                // they are logged below, with the image's name
                quiet: true,
            },
        )
        .map_err(|e| at_image(&e))?;
        for warning in fs.warnings() {
            log::warn!("{}: {warning}", self.image.show());
        }
        // what cannot be read now is tried again, and reported, in the background
        let _ = fs.map_early(MAPPED_AT_MOUNT);
        let read_only = fs.is_read_only();
        let about = self.about(&opened, fs.turned_read_only());
        let convention = self.convention(&fs)?;
        let filesystem = Filesystem::of(&fs);
        let volume = Arc::new(Volume::new(
            fs,
            self.volume_options(umask, convention, opened.metadata.modified()),
        ));
        if let Some(savepoints) = savepoints {
            volume.keep_savepoints(savepoints);
        }
        let request = MountRequest {
            source: &self.image,
            mountpoint: &self.directory,
            access: self.options.access,
            flags: MountFlags {
                read_only,
                dev: self.options.dev,
                suid: self.options.suid,
                exec: self.options.exec,
                atime: self.options.atime != Atime::Never,
            },
            default_permissions: volume.keeps_owners() || self.checks_permissions(umask),
            writeback: self.writeback(),
            poll: self.options.poll,
            about,
        };
        let session = if self.unattached {
            wait_for_mount(&volume, &request, &signals)
        } else {
            fuse::mount(Arc::clone(&volume), &request)
        }
        .map_err(|e| mount_failure(explain(&self.mountpoint, &e)))?;
        // It may have another name by now.
        self.mountpoint = self.directory.path();
        let what = self.describe(&filesystem, block_size, convention, &request.about);
        Ok(Running { mount: self, what, signals, volume, session, device: opened.device })
    }

    /// Open the image, under its journal if there is one to be, which keeps savepoints.
    fn open_image(&mut self) -> Result<(Opened, Option<Arc<JournalDevice>>), CliError> {
        let options = image::Options { auto_for_reading: self.unattended, ..self.options.image() };
        let Some(journal) = &mut self.journal else {
            return Ok((image::open_found(&self.source, &options).map_err(mount_failure)?, None));
        };
        let at_state = self.options.at.as_ref();
        let attached = journal::attach(journal, &self.source, &options, at_state);
        let Attached { image, device } = attached.map_err(mount_failure)?;
        let writes = !image.read_only;
        Ok((image, writes.then_some(device)))
    }

    /// By which convention user attributes are used.
    fn convention(&self, fs: &Fs) -> Result<Option<&'static Convention>, CliError> {
        let convention = self.options.convention(fs.attr_usage());
        let Some(c) = convention else { return Ok(None) };
        let attr_max = fs.superblock().attr_max;
        let largest = Codec::new(c, fs.attr_usage()).largest();
        if largest > attr_max {
            let why = format!(
                "{}: attrs={} needs attributes of {largest} bytes, and the image allows {attr_max}",
                self.image.show(),
                c.name,
            );
            if self.options.chooses_convention() {
                return Err(mount_failure(format_args!(
                    "{why}; use attrs=none, or an image made with 'littlefs mkfs --attr-max \
                     {largest}'"
                )));
            }
            log::warn!("{why}; they are left alone");
            return Ok(None);
        }
        log::info!("{}: attributes as {} has them (attrs={})", self.image.show(), c.who, c.name);
        Ok(convention)
    }

    /// What `status` says of the mount; `turned` is why the filesystem is read-only, if it is so
    /// unasked.
    fn about(&self, opened: &Opened, turned: Option<&str>) -> About {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let dialect = opened.dialect.unwritable().map(|reason| reason.about(&self.image.show()));
        let read_only = match turned {
            _ if self.options.at.is_some() => Some("a past state of a journal (-o at=)"),
            _ if !opened.wrapped.is_empty() => Some("what wraps the image is only read"),
            _ if opened.doubt.is_some() => Some("it may not be the filesystem that is meant"),
            _ if dialect.is_some() => dialect.as_deref(),
            _ if opened.missing > 0 => Some("the image is truncated"),
            Some(turned) => Some(turned),
            // The last reason, because it is the only one that can go while it is mounted.
            None if self.options.read_only => Some(AS_ASKED),
            None if opened.read_only => Some("the image cannot be written"),
            None => None,
        };
        About {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mounted_at: now.unwrap_or_default().as_secs(),
            offset: opened.offset,
            profile: self.options.profile.map(|p| p.name.to_owned()),
            journal: status::Journal::new(self.options.journal.as_deref()),
            read_only: read_only.map(str::to_owned),
        }
    }

    /// What is mounted, in a line.
    fn describe(
        &self,
        fs: &Filesystem,
        block_size: u32,
        convention: Option<&Convention>,
        about: &About,
    ) -> String {
        let (version, blocks, free) = (&fs.disk_version, fs.block_count, fs.blocks_free);
        let mut line = format!(
            "{} on {}: littlefs {version}, {blocks} blocks of {block_size} bytes, {} used, {free} \
             free ({})",
            self.image.show(),
            self.mountpoint.show(),
            fs.blocks_used,
            bytes(u64::from(free) * u64::from(block_size))
        );
        let profile = about.profile.as_ref().map(|profile| format!("profile={profile}"));
        let attrs = convention.map(|c| format!("attrs={}", c.name));
        let journal = about.journal.path().map(|journal| format!("journal={}", journal.show()));
        let read_only = about.read_only.as_ref().map(|why| format!("read-only: {why}"));
        for part in [profile, attrs, journal, read_only].into_iter().flatten() {
            line.push_str(", ");
            line.push_str(&part);
        }
        line
    }

    /// `image_time` is when the image was changed last, if that is known.
    fn volume_options(
        &self,
        umask: u16,
        convention: Option<&'static Convention>,
        image_time: io::Result<SystemTime>,
    ) -> VolumeOptions {
        let o = &self.options;
        // What the kernel remembers is for everybody who is in: only the permission bits keep
        // others than root from it.
        let others = if o.access == Access::OwnerAndRoot { 0o077 } else { 0 };
        VolumeOptions {
            uid: o.uid.unwrap_or_else(sys::effective_uid),
            gid: o.gid.unwrap_or_else(sys::effective_gid),
            file_modes: self.modes(o.fmask, 0o666, umask),
            dir_modes: self.modes(o.dmask, 0o777, umask),
            withheld: others,
            user_xattr: o.user_xattr.unwrap_or(convention.is_some_and(|c| c.special_files)),
            convention,
            default_time: image_time.unwrap_or_else(|_| SystemTime::now()),
            atime: o.atime,
            sync: o.sync,
            dirsync: o.dirsync,
            commit: o.commit,
        }
    }

    /// Permission bits where the image keeps none: `all` of them less the caller's `umask`, unless
    /// there is a mask for them among the options.
    fn modes(&self, mask: Option<u16>, all: u16, umask: u16) -> DefaultModes {
        let mask = mask.or(self.options.umask);
        let bits = mask.map_or(all & !umask, |mask| 0o777 & !mask);
        DefaultModes { bits, mask }
    }

    /// Whether the kernel is to check permission bits, at the price of a request for each change
    /// in a directory. Where only the mounting user has access it matters only if the bits deny
    /// that user something.
    fn checks_permissions(&self, umask: u16) -> bool {
        let o = &self.options;
        let umask = o.umask.unwrap_or(umask);
        let denied = (o.fmask.unwrap_or(umask) | o.dmask.unwrap_or(umask)) & 0o700;
        o.default_permissions
            || o.access != Access::Owner
            || denied != 0
            || o.uid.is_some_and(|uid| uid != sys::effective_uid())
    }

    /// With `sync` nothing is to wait in the kernel, either.
    fn writeback(&self) -> bool {
        self.options.writeback && !self.options.sync
    }
}

/// Whether this process has a controlling terminal, and that is not gone.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// SIGHUP, which daemons take for a wish to read their settings again.
fn read_settings() {
    match logging::reload() {
        Ok(what) => log::info!("{what}"),
        Err(e) => log::warn!("{e}"),
    }
}

/// Have somebody else mount it. systemd runs that one when it is told that we are ready.
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

fn explain(mountpoint: &Path, e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.trim_end();
    let at = mountpoint.show();
    if text.contains("user_allow_other") {
        return format!(
            "cannot mount on {at}: allow_other and allow_root need 'user_allow_other' in \
             /etc/fuse.conf"
        );
    }
    let no_driver = [libc::ENOENT, libc::ENODEV, libc::ENXIO];
    let remedy = if e.raw_os_error().is_some_and(|errno| no_driver.contains(&errno)) {
        "; are /dev/fuse and fusermount3 there? 'modprobe fuse' loads the driver; fusermount3 is in \
         the package fuse3"
    } else if text.contains("no write access") {
        "; mount on a directory of your own, or as root"
    } else if text.contains("/dev/fuse") || e.kind() == io::ErrorKind::PermissionDenied {
        "; whoever mounts needs to run fusermount3 and to open /dev/fuse: mount as root, or see to \
         their permissions"
    } else if text.contains("not permitted") {
        "; fusermount3 has to be set-user-id root, as the package fuse3 installs it; in a container \
         the right to mount is needed (CAP_SYS_ADMIN)"
    } else {
        ""
    };
    format!("cannot mount on {at}: {text}{remedy}")
}

/// What wakes the main thread.
enum Event {
    /// The filesystem was unmounted.
    Ended(io::Result<()>),
    /// A signal asks to end.
    Signal(i32),
}

/// A mount that is ready to serve.
struct Running {
    mount: Mount,
    /// What is mounted, for people.
    what: String,
    signals: Signals,
    volume: Arc<Volume>,
    session: Session,
    /// Holds the lock on the image.
    device: Arc<dyn BlockDevice>,
}

impl Running {
    /// Serve until unmounted or asked to end; `ready` is called once the filesystem answers, and
    /// told what is mounted.
    fn serve(self, ready: impl FnOnce(&str) -> io::Result<()>) -> Result<ExitCode, CliError> {
        let Self { mount, what, signals, volume, session, device } = self;
        let (sender, events) = mpsc::channel();
        spawn("session", {
            let sender = sender.clone();
            move || drop(sender.send(Event::Ended(session.run())))
        })?;
        let say = || {
            if !mount.quiet {
                // Nobody need listen.
                let _ = writeln!(io::stdout(), "{what}");
            }
        };
        if let Err(e) = answers(&mount.mountpoint).map(|()| say()).and_then(|()| ready(&what)) {
            // The session's thread keeps the mount: end that first.
            let _ = unmount(&mount.mountpoint, Unmount::Lazily);
            return Err(mount_failure(format_args!(
                "{}: the mount does not answer: {e}",
                mount.mountpoint.show()
            )));
        }
        notify(&format!("READY=1\nSTATUS={} on {}", mount.image.show(), mount.mountpoint.show()));
        notify::start_watchdog(mount.mountpoint.clone()).map_err(mount_failure)?;
        spawn("signals", move || wait_for_signals(&signals, &sender))?;
        let flusher = spawn("flusher", {
            let (volume, mountpoint) = (Arc::clone(&volume), mount.mountpoint.clone());
            let writeback = mount.writeback();
            move || {
                let pull = || pull_pages(&mountpoint);
                volume.run_flusher(writeback.then_some(&pull));
            }
        })?;
        let mapper = spawn("mapper", {
            let volume = Arc::clone(&volume);
            move || volume.run_mapper()
        })?;

        let frozen = wait_for_end(&mount, &volume, &events);
        notify("STOPPING=1");
        let flushed = match frozen {
            Some(flushed) => flushed,
            None => {
                volume.stop();
                let _ = (flusher.join(), mapper.join());
                volume.flush()
            }
        };
        log::logger().flush();
        // Last of all the lock: whoever takes it sees everything. (Where requests are frozen, the
        // end of the process releases it.)
        drop(volume);
        drop(device);
        match flushed {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(e) => Err(CliError::failure(format_args!(
                "{}: the last changes could not be written: {e}",
                mount.image.show()
            ))),
        }
    }
}

fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, CliError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(mount_failure)
}

/// Whether the root directory of the mount can be asked for.
fn answers(mountpoint: &Path) -> io::Result<()> {
    let root = fs::metadata(mountpoint)?;
    if root.ino() == ROOT_INO { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn wait_for_signals(signals: &Signals, events: &Sender<Event>) {
    while let Ok(signal) = signals.wait() {
        if events.send(Event::Signal(signal)).is_err() {
            break;
        }
    }
}

/// Wait until the filesystem is unmounted. When a signal asks to end and somebody still uses the
/// filesystem, requests are frozen after the last flush, whose result is returned.
fn wait_for_end(
    mount: &Mount,
    volume: &Volume,
    events: &Receiver<Event>,
) -> Option<crate::Result<()>> {
    let mountpoint = &mount.mountpoint;
    loop {
        match events.recv() {
            Ok(Event::Signal(libc::SIGUSR1)) => {
                pull_pages(mountpoint);
                if volume.flush().is_ok() {
                    log::info!("signal: everything is in {}", mount.image.show());
                }
            }
            Ok(Event::Signal(libc::SIGHUP)) if !mount.on_terminal || has_terminal() => {
                read_settings();
            }
            Ok(Event::Signal(signal)) => {
                log::info!("signal {signal}: unmounting {}", mountpoint.show());
                pull_pages(mountpoint);
                // Most of the work while requests are still answered; a failure shows again below.
                let _ = volume.flush();
                // Who may not mount may not unmount, either; systemd does it afterwards.
                if !mount.unattached {
                    if unmount(mountpoint, Unmount::Unused).is_ok() {
                        continue;
                    }
                    if let Err(e) = unmount(mountpoint, Unmount::Lazily) {
                        log::error!("cannot unmount {}: {e}", mountpoint.show());
                    }
                }
                return Some(volume.flush_and_freeze());
            }
            Ok(Event::Ended(Err(e))) => {
                log::error!("cannot serve {}: {e}", mountpoint.show());
                return None;
            }
            Ok(Event::Ended(Ok(()))) | Err(_) => return None,
        }
    }
}

/// Make the kernel send the pages it holds for us. Not to be called by a thread that serves
/// requests.
fn pull_pages(mountpoint: &Path) {
    let pulled = files::open(mountpoint).and_then(|root| sys::syncfs(&root));
    if let Err(e) = pulled {
        log::warn!("{}: cannot fetch what the kernel holds: {e}", mountpoint.show());
    }
}

/// Unmount by ourselves when we may, else through `fusermount3`.
pub(super) fn unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    match sys::unmount(mountpoint, how) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        result => return result,
    }
    let output = Command::new("fusermount3")
        .arg(if how == Unmount::Lazily { "-uz" } else { "-u" })
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("fusermount3: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}
