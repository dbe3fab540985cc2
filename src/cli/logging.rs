//! Logging to standard error, and changing what is logged while a daemon runs. What is logged
//! depends on the first of these that exists: for daemons, a file with a filter in the syntax of
//! `RUST_LOG`, which is read at the start and again on SIGHUP; then `RUST_LOG`; then `-v`. Errors
//! and warnings that a daemon repeats are only counted (`repeats`).

mod repeats;

use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use env_filter::Filter;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Mutex, RwLock};

use repeats::Repeats;

use crate::files;
use crate::show::{self, Show};

/// The file with the filter for daemons of users who have no file of their own.
const SYSTEM_FILE: &str = "/etc/littlefs/log";
/// The file with the user's own filter, below the directory of the user's settings.
const USER_FILE: &str = "littlefs/log";
/// How many bytes of such a file are read at most.
const FILE_MAX: u64 = 4096;

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    /// Writes every message that it gets.
    writer: env_logger::Logger,
    filter: RwLock<Filter>,
    /// How often `-v` was given.
    verbose: u8,
    /// In a daemon, the recent messages of each level at which repetitions are counted.
    repeats: Option<[Mutex<Repeats>; 2]>,
}

/// The levels at which repetitions are counted.
const COUNTED: [Level; 2] = [Level::Error, Level::Warn];

impl Logger {
    /// The recent messages of this level, if its repetitions are counted.
    fn repeats(&self, level: Level) -> Option<&Mutex<Repeats>> {
        let at = COUNTED.iter().position(|&counted| counted == level)?;
        self.repeats.as_ref()?.get(at)
    }

    fn write(&self, level: Level, target: &str, lines: Vec<String>) {
        for line in lines {
            let args = format_args!("{line}");
            self.writer.log(&Record::builder().level(level).target(target).args(args).build());
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.read().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.read().matches(record) {
            return;
        }
        match self.repeats(record.level()) {
            None => self.writer.log(record),
            Some(repeats) => {
                let lines = repeats.lock().say(record.args().to_string(), Instant::now());
                self.write(record.level(), record.target(), lines);
            }
        }
    }

    /// Write the counts of all repeated messages, and flush the writer.
    fn flush(&self) {
        for level in COUNTED {
            if let Some(repeats) = self.repeats(level) {
                let lines = repeats.lock().finish(Instant::now());
                self.write(level, module_path!(), lines);
            }
        }
        self.writer.flush();
    }
}

/// Log to stderr: warnings by default, more with `verbose`. For a `journal`, each line begins with
/// its priority, as sd-daemon(3) defines. A `daemon` reads the files, and counts repetitions. This
/// must be called only once.
pub fn init(verbose: u8, journal: bool, daemon: bool) {
    let logger = LOGGER.get_or_init(|| Logger {
        writer: writer(journal),
        filter: RwLock::new(started(verbose)),
        verbose,
        repeats: daemon.then(Default::default),
    });
    log::set_max_level(logger.filter.read().filter());
    let _ = log::set_logger(logger);
    if daemon && let Err(e) = reload() {
        log::warn!("{e}");
    }
}

/// Read the filter again. Returns a sentence that says what is logged now.
///
/// # Errors
/// A sentence that says what is wrong with the file. In this case nothing changes.
pub fn reload() -> Result<String, String> {
    let Some(logger) = LOGGER.get() else { return Ok(String::new()) };
    let (filter, by) = match from_files(&files())? {
        Some((filter, path)) => (filter, format!("{} says", path.show())),
        None => (started(logger.verbose), "at the start".to_owned()),
    };
    log::set_max_level(filter.filter());
    *logger.filter.write() = filter;
    Ok(format!("logging as {by}, up to {}", log::max_level().as_str().to_lowercase()))
}

/// The filter that the command line and the environment request.
fn started(verbose: u8) -> Filter {
    let (ours, others) = match verbose {
        0 => (LevelFilter::Warn, LevelFilter::Warn),
        1 => (LevelFilter::Info, LevelFilter::Warn),
        2 => (LevelFilter::Debug, LevelFilter::Info),
        _ => (LevelFilter::Trace, LevelFilter::Trace),
    };
    let mut builder = env_filter::Builder::new();
    match env::var("RUST_LOG") {
        Ok(spec) if !spec.is_empty() => builder.filter_level(LevelFilter::Warn).parse(&spec),
        _ => builder.filter_level(others).filter_module("littlefs", ours),
    };
    builder.build()
}

/// The files that may hold the filter, in the order in which they are tried.
fn files() -> Vec<PathBuf> {
    let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let settings = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let settings = settings.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    let own = settings.map(|settings| settings.join(USER_FILE));
    own.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// The filter in the first file that exists, and the path of that file; `None` if that file is
/// empty.
fn from_files(files: &[PathBuf]) -> Result<Option<(Filter, &Path)>, String> {
    for path in files {
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.show());
        let file = match files::open_plain(path) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => continue,
            Err(e) => return Err(wrong(&e)),
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text).map_err(|e| wrong(&e))?;
        let mut lines = text.lines().map(str::trim);
        let Some(spec) = lines.find(|line| !line.is_empty() && !line.starts_with('#')) else {
            return Ok(None);
        };
        let mut builder = env_filter::Builder::new();
        builder.filter_level(LevelFilter::Warn);
        builder.try_parse(spec).map_err(|e| {
            wrong(&format_args!(
                "{e}; a filter is a level (error, warn, info, debug or trace), or a list like \
                 'warn,littlefs::fuse=debug'"
            ))
        })?;
        return Ok(Some((builder.build(), path)));
    }
    Ok(None)
}

/// Whether the file does not exist, or this user cannot see it.
fn is_absent(e: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(e.kind(), NotFound | NotADirectory | PermissionDenied)
}

fn writer(journal: bool) -> env_logger::Logger {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |out, record| {
            let text = show::message(&record.args().to_string());
            match record.level() {
                level if journal => {
                    let priority = match level {
                        Level::Error => 3,
                        Level::Warn => 4,
                        Level::Info => 6,
                        Level::Debug | Level::Trace => 7,
                    };
                    // Each line needs a priority, because the journal treats every line as a
                    // separate message.
                    text.lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
                }
                Level::Error => writeln!(out, "littlefs: {text}"),
                Level::Warn => writeln!(out, "littlefs: warning: {text}"),
                Level::Info => writeln!(out, "littlefs: info: {text}"),
                Level::Debug | Level::Trace => {
                    writeln!(out, "littlefs: {}: {text}", record.target())
                }
            }
        })
        .build()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_file_that_exists_is_used() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = [dir.path().join("own"), dir.path().join("system")];
        let level = || from_files(&files).map(|found| found.map(|(filter, _)| filter.filter()));
        assert_eq!(level(), Ok(None));
        fs::write(&files[1], "info\n").expect("write");
        assert_eq!(level(), Ok(Some(LevelFilter::Info)));
        fs::write(&files[0], "# while looking for it\n\n littlefs::fuse=trace \n").expect("write");
        assert_eq!(level(), Ok(Some(LevelFilter::Trace)));
        fs::write(&files[0], "littlefs=loud\n").expect("write");
        let e = level().expect_err("no level");
        assert!(e.contains("own: ") && e.contains("debug"), "{e}");
        fs::write(&files[0], "").expect("write");
        assert_eq!(level(), Ok(None));
    }
}
