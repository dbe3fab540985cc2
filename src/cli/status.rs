//! `littlefs status`: the state of live mounts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::info::bytes;
use super::table::{self, Entry};
use super::{CliError, date, write_json};
use crate::files;
use crate::fs::Flush;
use crate::fuse::daemon::Daemon;
use crate::fuse::do_aside;
use crate::fuse::held::{Now, Stray};
use crate::fuse::status::{self, Status};
use crate::show::{self, Show, base64_unless_text};
use crate::vfs::Filesystem;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show the state of a mount: what is not written yet, caches, operations, errors
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs status                                      all mounts, one on each line
  littlefs status /mnt                                 everything about one mount
  littlefs status --json /mnt | jq .filesystem.unwritten.bytes

The daemon is asked through the mount, so everybody who has access to the mount may ask. Asking
writes nothing and does not wait: while a long flush is running, less is shown.")]
pub struct StatusArgs {
    /// Any directory or file in the mount, or the image
    target: Option<PathBuf>,

    /// Print one JSON object; without TARGET, an array of them
    #[arg(long)]
    json: bool,
}

/// What is printed about a mount; the field names are the JSON keys.
#[derive(Serialize)]
struct Mounted {
    #[serde(flatten)]
    names: Names,
    mount_options: String,
    /// Files of the mount that are no longer at their paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    strays: Vec<StrayJson>,
    #[serde(flatten)]
    status: Status,
}

/// An image or a journal that is no longer at its path.
#[derive(Serialize)]
struct StrayJson {
    file: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    descriptor: String,
    #[serde(skip)]
    stray: Stray,
}

/// Image and directory: as text, and as bytes if they are not UTF-8.
#[derive(Serialize)]
struct Names {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_base64: Option<String>,
    mountpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mountpoint_base64: Option<String>,
    #[serde(skip)]
    image_path: PathBuf,
    #[serde(skip)]
    directory: PathBuf,
}

impl Names {
    fn of(entry: &Entry) -> Self {
        let (image_path, directory) = (entry.source.clone(), entry.mountpoint.clone());
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let bytes = |path: &Path| base64_unless_text(path.as_os_str().as_bytes());
        Self {
            image: text(&image_path),
            image_base64: bytes(&image_path),
            mountpoint: text(&directory),
            mountpoint_base64: bytes(&directory),
            image_path,
            directory,
        }
    }
}

impl From<Stray> for StrayJson {
    fn from(stray: Stray) -> Self {
        let (state, path) = match &stray.now {
            Now::Nowhere => ("deleted", None),
            Now::At(path) => ("moved", Some(path)),
            Now::Somewhere => ("moved", None),
        };
        Self {
            file: if stray.is_journal { "journal" } else { "image" },
            state,
            path: path.map(|path| path.to_string_lossy().into_owned()),
            path_base64: path.and_then(|path| base64_unless_text(path.as_os_str().as_bytes())),
            descriptor: stray.descriptor.display().to_string(),
            stray,
        }
    }
}

impl fmt::Display for StrayJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} was {}", self.file, self.stray)
    }
}

/// Run the command.
///
/// # Errors
/// If there is no littlefs mount there, or its daemon does not answer.
pub fn run(args: &StatusArgs) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    let Some(target) = &args.target else { return list(&mut out, args.json) };
    let entry = find(target)?;
    let mounted = Mounted::ask(&entry)
        .map_err(|e| CliError::failure(format_args!("{}: {}", target.show(), why(&entry, &e))))?;
    if args.json {
        write_json(&mut out, &mounted)?;
    } else {
        // A daemon's report about itself may be false, or may contain control characters that harm
        // a terminal.
        let mut text = Vec::new();
        mounted.print(&mut text)?;
        out.write_all(show::message(&String::from_utf8_lossy(&text)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// List all mounts. If one does not answer, the others are still listed.
fn list(out: &mut impl Write, json: bool) -> Result<ExitCode, CliError> {
    let entries = table::all().map_err(CliError::failure)?;
    let asked: Vec<_> = entries.iter().map(|entry| (entry, Mounted::ask(entry))).collect();
    if json {
        let answers: Vec<_> =
            asked.iter().filter_map(|(_, mounted)| mounted.as_ref().ok()).collect();
        write_json(out, &answers)?;
    }
    let mut all_answer = true;
    for (entry, mounted) in &asked {
        match mounted {
            Ok(mounted) if !json => writeln!(out, "{}", mounted.line())?,
            Ok(_) => {}
            Err(e) => {
                all_answer = false;
                log::warn!("{}: {}", entry.mountpoint.show(), why(entry, e));
            }
        }
    }
    if entries.is_empty() && !json {
        writeln!(out, "no littlefs is mounted ('littlefs mount IMAGE DIR' mounts one)")?;
    }
    Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The mount that the argument names.
fn find(target: &Path) -> Result<Entry, CliError> {
    let shown = target.show();
    let entry = match table::lookup(target).map_err(CliError::failure)? {
        Some(entry) => entry,
        None => {
            // Every path is in some mount, at least in that of the root. So if no mount is found,
            // the path does not exist.
            target.symlink_metadata().map_err(|e| CliError::of_file(target, &e))?;
            let held = table::holding(target).map_err(CliError::failure)?;
            held.ok_or_else(|| CliError::failure(format_args!("{shown}: not mounted")))?
        }
    };
    if entry.is_littlefs {
        return Ok(entry);
    }
    Err(CliError::failure(format_args!(
        "{shown}: not in a littlefs mount, but in {} on {}; 'littlefs status' lists the littlefs \
         mounts",
        entry.fs_type,
        entry.mountpoint.show()
    )))
}

/// Why a littlefs mount did not answer, and what to do about it.
fn why(entry: &Entry, e: &io::Error) -> String {
    let at = entry.mountpoint.show();
    match e.raw_os_error() {
        Some(libc::ENOTTY | libc::ENOSYS | libc::EINVAL) => {
            "the program that serves this mount does not answer this question: it is another \
             littlefs driver (such as littlefs-fuse), or an older littlefs-progs"
                .to_owned()
        }
        Some(libc::ENOTCONN | libc::ECONNABORTED) => format!(
            "the daemon of this mount has died; run 'littlefs umount {at}' to remove the mount, \
             and then mount the image again, which finishes what was interrupted"
        ),
        Some(libc::EACCES | libc::EPERM) => {
            "you have no access to this mount; ask as the user who mounted it, or mount it with \
             -o allow_other"
                .to_owned()
        }
        _ if e.kind() == io::ErrorKind::TimedOut => format!(
            "the daemon of this mount does not answer; 'littlefs umount -l {at}' removes the mount"
        ),
        _ => show::cause(e),
    }
}

/// Ask the daemon of a mount for its status. A daemon, for example that of a hostile user, may
/// never answer, and would then block the process that asks. So a separate process asks.
///
/// # Errors
/// The errors of the system, and [`io::ErrorKind::TimedOut`] when there is no answer.
pub(super) fn ask(entry: &Entry) -> io::Result<Status> {
    let answer = do_aside(&[], PATIENCE, || {
        let answer = status::ask(&files::open(&entry.mountpoint)?)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer?.ok_or(io::ErrorKind::TimedOut)?;
    Ok(serde_json::from_str(&answer)?)
}

/// The same, through a file or directory of the mount.
pub(super) fn ask_file(file: &File) -> io::Result<Status> {
    Ok(serde_json::from_slice(&status::ask(file)?)?)
}

/// The files of a mount that are no longer at their paths, as far as this process can see that.
fn strays(entry: &Entry, status: &Status) -> Vec<StrayJson> {
    let mut daemons = Daemon::serving(entry.connection());
    if daemons.is_empty() {
        // not every kernel shows which process serves a mount
        daemons.extend(i32::try_from(status.about.pid).ok().and_then(Daemon::named));
    }
    let journal = status.about.journal.path();
    let paths: Vec<&Path> = iter::once(&*entry.source).chain(journal.as_deref()).collect();
    daemons.iter().flat_map(|daemon| Stray::of(daemon, &paths)).map(Into::into).collect()
}

impl Mounted {
    fn ask(entry: &Entry) -> io::Result<Self> {
        let status = ask(entry)?;
        Ok(Self {
            names: Names::of(entry),
            mount_options: entry.options.join(","),
            strays: strays(entry, &status),
            status,
        })
    }

    /// Why nothing can be changed: the daemon's reason, or that the kernel refuses changes. `None`
    /// if the mount is writable.
    fn read_only(&self) -> Option<&str> {
        let by_kernel = self.mount_options.split(',').any(|option| option == "ro");
        let remounted =
            by_kernel.then_some("it was remounted read-only ('-o remount,rw' makes it writable)");
        self.status.about.read_only.as_deref().or(remounted)
    }

    fn line(&self) -> String {
        let Status { about, volume, .. } = &self.status;
        let state = match &volume.filesystem {
            Some(fs) if fs.unwritten.pairs == 0 && fs.unwritten.files == 0 => {
                "everything written".to_owned()
            }
            Some(fs) => format!(
                "{} of content and {} unwritten",
                bytes(fs.unwritten.bytes),
                show::count(fs.unwritten.pairs, "metadata pair", "metadata pairs")
            ),
            None => "busy".to_owned(),
        };
        let access = if self.read_only().is_some() { "read-only" } else { "read and write" };
        let mut line = format!(
            "{} on {}: process {}, {access}, {state}",
            self.names.image_path.show(),
            self.names.directory.show(),
            about.pid
        );
        self.strays.iter().for_each(|stray| line.push_str(&format!(", {stray}")));
        line
    }

    /// Say what has become of the files, and how to save them.
    fn print_strays(&self, out: &mut impl Write) -> io::Result<()> {
        let directory = self.names.directory.show();
        for stray in &self.strays {
            write!(out, "warning       {stray}")?;
            if stray.stray.now == Now::Nowhere {
                let copy = stray.stray.descriptor.show();
                write!(
                    out,
                    "; the file that is mounted has no name any more, and an unmount deletes it: \
                     'sync {directory} && cp {copy} NEWFILE' saves it"
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Status { about, volume, operations, errors } = &self.status;
        writeln!(out, "image         {}", self.names.image_path.show())?;
        if about.offset > 0 {
            writeln!(out, "offset        {} bytes", about.offset)?;
        }
        if let Some(journal) = about.journal.path() {
            writeln!(out, "journal       {}", journal.show())?;
        }
        writeln!(out, "mounted on    {}", self.names.directory.show())?;
        self.print_strays(out)?;
        let since = date::local(about.mounted_at);
        writeln!(out, "mounted at    {since}, {} ago", duration(volume.uptime))?;
        writeln!(out, "daemon        process {}, littlefs-progs {}", about.pid, about.program)?;
        match self.read_only() {
            Some(why) => writeln!(out, "access        read-only: {why}")?,
            None => writeln!(out, "access        read and write")?,
        }
        if let Some(profile) = &about.profile {
            writeln!(out, "profile       {profile}")?;
        }
        writeln!(out, "attributes    {}", volume.attrs.as_deref().unwrap_or("none"))?;
        match (&volume.filesystem, volume.flushing) {
            (Some(fs), _) => print_filesystem(out, fs, volume.block_size, volume.dirty_since)?,
            (None, Some(since)) => {
                writeln!(out, "flush         running for {}", duration(since))?;
            }
            (None, None) => writeln!(out, "filesystem    busy with a request")?,
        }
        let inodes = &volume.inodes;
        let (known, open) = (inodes.known, inodes.open_files);
        let rate = rate(inodes.hits, inodes.misses);
        let open = show::files(open);
        writeln!(out, "inodes        {known} known, {open} open; {rate}")?;
        let total: u64 = operations.values().sum();
        writeln!(out, "operations    {total}{}", each(operations))?;
        let total: u64 = errors.values().sum();
        writeln!(out, "errors        {total}{}", each(errors))
    }
}

fn print_filesystem(
    out: &mut impl Write,
    fs: &Filesystem,
    block_size: u32,
    dirty_since: Option<f64>,
) -> io::Result<()> {
    let size = |blocks| bytes(u64::from(blocks) * u64::from(block_size));
    writeln!(
        out,
        "format        littlefs {}, {} blocks of {block_size} bytes ({})",
        fs.disk_version,
        fs.block_count,
        size(fs.block_count)
    )?;
    let (prog_size, inline_max) = (fs.prog_size, fs.inline_max);
    // version 1 has no inline files, and a mount cannot write to it
    if !fs.disk_version.starts_with("1.") {
        writeln!(
            out,
            "writing       prog size {prog_size}, files up to {inline_max} bytes inline"
        )?;
    }
    let (used, free) = (fs.blocks_used, fs.blocks_free);
    let used = show::blocks(used);
    writeln!(out, "space         {used} used, {free} free ({})", size(free))?;
    let unwritten = &fs.unwritten;
    if unwritten.files == 0 && unwritten.pairs == 0 {
        writeln!(out, "unwritten     nothing")?;
    } else {
        let since = dirty_since.map(|since| format!(", for {}", duration(since)));
        writeln!(
            out,
            "unwritten     {} of content, {}, {}{}",
            bytes(unwritten.bytes),
            show::count(unwritten.files, "large file", "large files"),
            show::count(unwritten.pairs, "metadata pair", "metadata pairs"),
            since.unwrap_or_default()
        )?;
    }
    let flushes = &fs.flushes;
    match &flushes.last {
        None => writeln!(out, "last flush    none yet")?,
        Some(last) => writeln!(out, "last flush    {}", ended(last))?,
    }
    if let Some(failed) =
        flushes.last_failed.as_ref().filter(|_| flushes.last != flushes.last_failed)
    {
        writeln!(out, "last failure  {}", ended(failed))?;
    }
    writeln!(out, "flushes       {} done, {} failed", flushes.done, flushes.failed)?;
    let cache = &fs.pair_cache;
    writeln!(
        out,
        "pair cache    {} of {}, {} of {}; {}",
        cache.cached,
        show::count(cache.pairs, "pair", "pairs"),
        bytes(cache.bytes),
        bytes(cache.bytes_max),
        rate(cache.hits, cache.misses)
    )
}

fn ended(flush: &Flush) -> String {
    let (at, ago, took) = (date::local(flush.at), duration(flush.ago), duration(flush.took));
    let result = flush.error.as_ref().map_or("done".to_owned(), |e| format!("failed: {e}"));
    format!("{at}, {ago} ago, took {took}: {result}")
}

fn rate(hits: u64, misses: u64) -> String {
    match hits + misses {
        0 => "not used yet".to_owned(),
        all => format!("{:.1} % of {all} accesses hit", hits as f64 * 100.0 / all as f64),
    }
}

/// The individual counts, the largest first.
fn each(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut text = String::new();
    for (i, (name, count)) in sorted.into_iter().enumerate() {
        text.push_str(if i == 0 { ": " } else { ", " });
        text.push_str(&format!("{name} {count}"));
    }
    text
}

/// A time span for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} hours", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_and_rates_are_readable() {
        for (seconds, text) in [
            (0.0, "0 us"),
            (0.0042, "4 ms"),
            (1.25, "1.2 s"),
            (600.0, "10 min"),
            (9e4, "25.0 hours"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(400_000.0), "4.6 days");
        assert_eq!(rate(0, 0), "not used yet");
        assert_eq!(rate(3, 1), "75.0 % of 4 accesses hit");
        let counts = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 5)]);
        assert_eq!(each(&counts), ": b 5, a 1");
        assert_eq!(each(&BTreeMap::new()), "");
    }

    /// A daemon of another version may report fewer or more values.
    #[test]
    fn the_report_of_another_version_is_shown() {
        let status: Status = serde_json::from_str(r#"{"pid": 7, "new": [], "errors": {"EIO": 1}}"#)
            .expect("understood");
        assert_eq!((status.about.pid, status.errors["EIO"]), (7, 1));
        assert!(status.volume.filesystem.is_none());
    }
}
