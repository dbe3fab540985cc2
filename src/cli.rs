//! The command line: arguments, logging and exit codes; one module per command.

mod attr;
mod bench;
mod cat;
mod changing;
mod check;
mod clone;
mod convert;
mod cp;
mod create;
mod date;
mod diff;
mod dropin;
mod du;
mod edit;
mod editing;
mod entry;
mod extract;
mod gathering;
mod get;
mod help;
mod info;
mod inspect;
mod journal;
mod kv;
mod ln;
mod logging;
mod ls;
mod map;
mod mkdir;
mod mkfs;
mod mv;
mod order;
mod output;
mod problems;
mod progress;
mod put;
mod recover;
mod resize;
mod rm;
mod scan;
mod shape;
mod shell;
mod stat;
mod touch;
mod tree;
mod truncate;
mod undo;
mod verify;
mod wrap;

#[cfg(feature = "mount")]
mod attach;
#[cfg(feature = "mount")]
mod daemon;
#[cfg(feature = "mount")]
mod helpers;
#[cfg(feature = "mount")]
mod mount;
#[cfg(feature = "mount")]
mod notify;
#[cfg(feature = "mount")]
mod remount;
#[cfg(feature = "mount")]
mod run;
#[cfg(feature = "mount")]
mod status;
#[cfg(feature = "mount")]
mod table;
#[cfg(feature = "mount")]
mod umount;

internal! {
    #[cfg(feature = "mount")]
    mod options;
}

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand};
use serde::Serialize;

use self::shell::Session;
use crate::convention::Choice;
use crate::image::{self, OpenError, Source};
use crate::journal::Named;
use crate::show::{self, Show};
use crate::sys::{self, Signals};
use crate::transactions::At;
use crate::{Error, Littlefs};

/// Exit codes, as mount(8) and fsck(8) define them.
mod exit {
    /// Success.
    pub const SUCCESS: u8 = 0;
    /// Any failure without a code of its own, and wrong usage.
    pub const FAILURE: u8 = 1;
    /// mount(8): the mount failed.
    #[cfg(feature = "mount")]
    pub const MOUNT_FAILURE: u8 = 32;
    /// Done, but something was left out.
    pub const LEFT_OUT: u8 = 2;
    /// diff(1): there are differences.
    pub const DIFF_DIFFERENT: u8 = 1;
    /// diff(1): the two could not be compared.
    pub const DIFF_TROUBLE: u8 = 2;
    /// env(1), timeout(1): the program itself failed, not the command that it runs.
    pub const RUN_FAILURE: u8 = 125;
    /// env(1), timeout(1): the command cannot be run.
    #[cfg(feature = "mount")]
    pub const RUN_CANNOT: u8 = 126;
    /// env(1), timeout(1): there is no such command.
    #[cfg(feature = "mount")]
    pub const RUN_NOT_FOUND: u8 = 127;
    /// fsck(8): errors were found and repaired.
    pub const CHECK_REPAIRED: u8 = 1;
    /// fsck(8): errors were left uncorrected.
    pub const CHECK_ERRORS: u8 = 4;
    /// fsck(8): the image could not be examined.
    pub const CHECK_OPERATIONAL: u8 = 8;
    /// fsck(8): wrong usage.
    pub const CHECK_USAGE: u8 = 16;
}

/// Why a command failed: what to print, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// Printed on stderr after `littlefs: `.
    pub message: String,
    /// Exit code of the program.
    pub code: u8,
}

impl CliError {
    /// A failure with an exit code from [`exit`].
    pub fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code }
    }

    /// A failure without an exit code of its own.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self::new(exit::FAILURE, message)
    }

    /// The failure of an operation on a file of the host.
    pub fn of_file(path: &Path, e: &io::Error) -> Self {
        Self::failure(format_args!("{}: {}", path.show(), show::cause(e)))
    }

    /// The same failure with another exit code.
    pub fn with_code(self, code: u8) -> Self {
        if self.is_closed_pipe() { self } else { Self { code, ..self } }
    }

    /// Whether nobody reads the output any more, as after `| head`. The work is done, so this is a
    /// success.
    fn is_closed_pipe(&self) -> bool {
        self.code == exit::SUCCESS
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// For a failed write of a command's own output.
impl From<io::Error> for CliError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(exit::SUCCESS, "nobody reads the output");
        }
        Self::failure(format_args!("cannot write the output: {}", show::cause(&e)))
    }
}

#[derive(Parser)]
#[command(
    name = "littlefs",
    version,
    about = "Mount, make, inspect and check littlefs images",
    after_help = "\
Examples:
  littlefs info dump.bin              what is in this image?
  littlefs scan flash.bin             which filesystems are in this dump, and where?
  littlefs mount dump.bin /mnt        mount it; cp, vi, rsync, git... work there
  littlefs umount /mnt                unmount, and wait until the image is complete
  littlefs status /mnt                is everything written? what is it doing?
  littlefs check dump.bin             is it sound?
  littlefs verify new.img dump.bin    does the flash, read back as dump.bin, match?
  littlefs inspect dump.bin pair 0,1  every tag of a metadata pair; also file, dir, block...
  littlefs map dump.bin               what is each block used for?
  littlefs mkfs --size 1M new.img     make an empty image
  littlefs create --size 1M new.img data
                                      make an image from a directory
  littlefs clone --size min dump.bin small.img
                                      make a compacted copy
  littlefs extract dump.bin -C out    copy everything out of the image, without a mount
  littlefs ls dump.bin                list its files; also tree, cat, stat, du, get
  littlefs recover dump.bin -C found  bring back what was deleted or overwritten
  littlefs rm dump.bin log.txt        change it; also put, cp, mv, mkdir, ln, attr, edit
  littlefs shell dump.bin             a prompt for all of these commands
  littlefs kv new.img set greeting hi use it as a key-value store

Exit status:
  all commands              0 done, 1 failed or wrong usage, except as follows
  put cp mv rm mkdir touch truncate ln attr edit
                            also 128+N: interrupted by signal N
  ls tree du cat stat get extract
                            also 2: done, but something was left out
  diff verify               0 same, 1 different, 2 failed
  check                     0 clean, 1 repaired, 4 errors left, 8 could not check, 16 wrong usage
  shell                     that of the last command
  inspect map               also 2: something is damaged
  recover                   0 done, 1 nothing found, 2 some files are partial
  bench                     also 2: something was left out, 128+N: ended by signal N
  mount umount              also 32: could not be mounted or unmounted
  run                       that of the program; 125 failed, 126 cannot run, 127 not found

If NO_COLOR is set, help and errors on a terminal have no colours.

An image is a plain file or a block device. Its block size and block count are read from the image.
'littlefs COMMAND --help' describes a command. RUST_LOG selects what is logged (for example 'debug',
or 'warn,littlefs::fuse=debug')."
)]
struct Cli {
    /// Log more to stderr (-v info, -vv debug, -vvv everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// The current directory in the image, which the shell passes to its commands
    #[arg(long, hide = true, value_name = "DIR")]
    inside: Option<OsString>,

    /// Refuse changes, because the shell is read-only
    #[arg(long, hide = true, requires = "inside")]
    only_read: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "mount")]
    Mount(mount::MountArgs),
    #[cfg(feature = "mount")]
    Umount(umount::UmountArgs),
    #[cfg(feature = "mount")]
    Status(status::StatusArgs),
    Mkfs(mkfs::MkfsArgs),
    Create(create::CreateArgs),
    Clone(clone::CloneArgs),
    Extract(extract::ExtractArgs),
    Ls(ls::LsArgs),
    Tree(tree::TreeArgs),
    Du(du::DuArgs),
    Cat(cat::CatArgs),
    Stat(stat::StatArgs),
    Get(get::GetArgs),
    Put(put::PutArgs),
    Cp(cp::CpArgs),
    Mv(mv::MvArgs),
    Rm(rm::RmArgs),
    Mkdir(mkdir::MkdirArgs),
    Touch(touch::TouchArgs),
    Truncate(truncate::TruncateArgs),
    Ln(ln::LnArgs),
    Attr(attr::AttrArgs),
    Edit(edit::EditArgs),
    Shell(shell::ShellArgs),
    Diff(diff::DiffArgs),
    Verify(verify::VerifyArgs),
    Info(info::InfoArgs),
    Inspect(inspect::InspectArgs),
    Map(map::MapArgs),
    Scan(scan::ScanArgs),
    Check(check::CheckArgs),
    Recover(recover::RecoverArgs),
    Bench(bench::BenchArgs),
    Journal(journal::JournalArgs),
    Kv(kv::KvArgs),
    Convert(convert::ConvertArgs),
    Resize(resize::ResizeArgs),
    Undo(undo::UndoArgs),
    Unwrap(wrap::UnwrapArgs),
    Wrap(wrap::WrapArgs),
    #[cfg(feature = "mount")]
    Run(run::RunArgs),
    #[cfg(feature = "mount")]
    #[command(hide = true)]
    Attach(attach::AttachArgs),
    #[command(hide = true)]
    CompletePaths(shell::inside::CompleteArgs),
}

impl Command {
    fn run(&self) -> Result<ExitCode, CliError> {
        match self {
            #[cfg(feature = "mount")]
            Self::Mount(args) => mount::run(args),
            #[cfg(feature = "mount")]
            Self::Umount(args) => umount::run(args),
            #[cfg(feature = "mount")]
            Self::Status(args) => status::run(args),
            Self::Mkfs(args) => mkfs::run(args),
            Self::Create(args) => create::run(args),
            Self::Clone(args) => clone::run(args),
            Self::Extract(args) => extract::run(args),
            Self::Ls(args) => ls::run(args),
            Self::Tree(args) => tree::run(args),
            Self::Du(args) => du::run(args),
            Self::Cat(args) => cat::run(args),
            Self::Stat(args) => stat::run(args),
            Self::Get(args) => get::run(args),
            Self::Put(args) => put::run(args),
            Self::Cp(args) => cp::run(args),
            Self::Mv(args) => mv::run(args),
            Self::Rm(args) => rm::run(args),
            Self::Mkdir(args) => mkdir::run(args),
            Self::Touch(args) => touch::run(args),
            Self::Truncate(args) => truncate::run(args),
            Self::Ln(args) => ln::run(args),
            Self::Attr(args) => attr::run(args),
            Self::Edit(args) => edit::run(args),
            Self::Shell(args) => shell::run(args),
            Self::CompletePaths(args) => shell::inside::run(args),
            Self::Diff(args) => diff::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Info(args) => info::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Map(args) => map::run(args),
            Self::Scan(args) => scan::run(args),
            Self::Check(args) => check::run(args),
            Self::Recover(args) => recover::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Journal(args) => journal::run(args),
            Self::Kv(args) => kv::run(args),
            Self::Convert(args) => convert::run(args),
            Self::Resize(args) => resize::run(args),
            Self::Undo(args) => undo::run(args),
            Self::Unwrap(args) => wrap::run_unwrap(args),
            Self::Wrap(args) => wrap::run_wrap(args),
            #[cfg(feature = "mount")]
            Self::Run(args) => run::run(args),
            #[cfg(feature = "mount")]
            Self::Attach(args) => attach::run(args),
        }
    }

    /// Whether the command becomes a daemon at some point.
    fn is_daemon(&self) -> bool {
        #[cfg(feature = "mount")]
        return matches!(self, Self::Mount(_));
        #[cfg(not(feature = "mount"))]
        false
    }

    /// Whether its messages go to systemd's journal, so that each message needs its priority. This
    /// is true only if standard error is not redirected before the end.
    fn speaks_to_journal(&self) -> bool {
        #[cfg(feature = "mount")]
        return !matches!(self, Self::Mount(args) if !args.foreground)
            && notify::stderr_is_journal();
        #[cfg(not(feature = "mount"))]
        false
    }
}

/// How to find the filesystem in an image: options that the commands share which only read.
#[derive(Args, Debug, Clone)]
pub(crate) struct ImageArgs {
    /// File or block device with the filesystem; '-' is standard input, which can only be read
    pub image: PathBuf,

    /// Byte of IMAGE at which the filesystem starts (0x for hexadecimal; K, M and G multiply by
    /// 1024); auto (default): 0, or else the place of the only filesystem that is found
    #[arg(long, value_name = "BYTES", value_parser = parse_place, conflicts_with = "partition")]
    pub offset: Option<image::Place>,

    /// Use the partition of this name in the dump's partition table, or the filesystem with this
    /// number in the list of 'littlefs scan'
    #[arg(long, value_name = "NAME|N", value_parser = image::Place::partition)]
    pub partition: Option<image::Place>,

    /// Page and spare bytes, like 2048+64, if IMAGE is a dump of NAND flash with spare bytes
    /// [default: recognised automatically]
    #[arg(long, value_name = "PAGE", value_parser = image::Page::parse)]
    pub page: Option<image::Page>,

    /// Unpack at most this much of a compressed or wrapped image, or read at most this much from
    /// standard input [default: 4G]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub unpack_limit: Option<u64>,

    /// Use this block size instead of the one in the image
    #[arg(id = "image_block_size", long = "block-size", value_name = "BYTES",
          value_parser = parse_bytes_u32)]
    pub block_size: Option<u32>,

    /// Dialect of IMAGE: 'littlefs', 'v1' (littlefs version 1), 'chamelon' (as chamelon writes it),
    /// or 'auto' to recognise it
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = Chosen::named)]
    pub dialect: Chosen,

    /// Read IMAGE with the transactions of this journal (littlefs-journal(1))
    #[arg(long, value_name = "FILE", value_parser = output::not_stdio())]
    pub journal: Option<PathBuf>,

    /// With --journal: show the state after this transaction, or at this savepoint
    #[arg(long, value_name = "STATE", requires = "journal")]
    pub at: Option<String>,
}

/// The file at `path`, or the content of standard input, of which at most `limit` bytes are read.
fn source(path: &Path, limit: Option<u64>) -> Result<Source, OpenError> {
    match path == Path::new("-") {
        true => Source::standard_input(limit),
        false => Source::find(path),
    }
}

/// The same error about a file that need not be an image: making a new image is no remedy if there
/// is no such file.
fn of_input(e: OpenError) -> OpenError {
    match e.reason {
        image::Reason::NotFound if e.path != Path::new("-") => {
            OpenError { reason: image::Reason::Io(rustix::io::Errno::NOENT.into()), ..e }
        }
        _ => e,
    }
}

/// Where a filesystem starts: a number of bytes, or `auto`.
fn parse_place(text: &str) -> Result<image::Place, String> {
    match text {
        "auto" => Ok(image::Place::Auto),
        bytes => match parse_bytes(bytes) {
            Ok(at) => Ok(image::Place::At(at)),
            Err(e) => Err(format!("{e}; use a number of bytes, or auto")),
        },
    }
}

/// A path as it is written in a shell.
fn quoted(path: &Path) -> String {
    let shown = path.show().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !shown.is_empty() && shown.chars().all(plain) {
        return shown;
    }
    format!("'{}'", shown.replace('\'', "'\\''"))
}

/// The dialect that was requested; `None` means that it is recognised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen(pub Option<image::Dialect>);

impl Chosen {
    fn named(name: &str) -> Result<Self, String> {
        image::Dialect::named(name).map(Self)
    }
}

impl ImageArgs {
    fn place(&self) -> image::Place {
        self.partition.or(self.offset).unwrap_or(image::Place::Auto)
    }

    fn options(&self, read_only: bool) -> image::Options {
        image::Options {
            block_size: self.block_size,
            place: self.place(),
            page: self.page,
            unpack_limit: self.unpack_limit,
            read_only,
            dialect: self.dialect.0,
            ..image::Options::default()
        }
    }

    /// The files that are read, by their identities: the image and the journal.
    fn inputs(&self) -> [Option<(u64, u64)>; 2] {
        [Some(&self.image), self.journal.as_ref()].map(|path| sys::identity(path?).ok())
    }

    /// The path inside the image that an argument names.
    fn inside(&self, path: &OsStr) -> Vec<u8> {
        match shell::session() {
            Some(session) => shell::resolve(&session.directory, path.as_bytes()),
            None => path.as_bytes().to_vec(),
        }
    }

    /// The paths inside the image that the arguments name. Without arguments, it is the root
    /// directory.
    fn asked(&self, paths: &[OsString]) -> Vec<Vec<u8>> {
        match paths {
            [] => vec![self.inside(OsStr::new(""))],
            paths => paths.iter().map(|path| self.inside(path)).collect(),
        }
    }

    /// The file that is named, or the content of standard input.
    fn source(&self) -> Result<Source, CliError> {
        source(&self.image, self.unpack_limit).map_err(CliError::failure)
    }

    /// The named files, which can be opened several times.
    fn find(&self) -> Result<Found<'_>, CliError> {
        let image = self.source()?;
        let journal = self.journal.as_deref().map(Named::find).transpose()?;
        Ok(Found { args: self, image, journal })
    }

    /// How to open the image as a tree of files.
    fn tree_options(&self, read_only: bool) -> crate::OpenOptions {
        let mut options = crate::OpenOptions::new().read_only(read_only).place(self.place());
        if let Some(page) = self.page {
            options = options.page(page);
        }
        if let Some(limit) = self.unpack_limit {
            options = options.unpack_limit(limit);
        }
        if let Some(block_size) = self.block_size {
            options = options.block_size(block_size);
        }
        if let Some(dialect) = self.dialect.0 {
            options = options.dialect(dialect);
        }
        if let Some(journal) = &self.journal {
            options = options.journal(journal);
        }
        match &self.at {
            Some(at) => options.at(At::parse(at)),
            None => options,
        }
    }

    /// The options for opening the image, as words of a command line.
    fn in_words(&self) -> Vec<OsString> {
        let partition = match self.partition {
            Some(image::Place::Partition(label)) => Some(label.to_string()),
            _ => None,
        };
        let offset = match self.offset {
            Some(image::Place::At(offset)) => Some(offset.to_string()),
            Some(image::Place::Auto) => Some("auto".to_owned()),
            _ => None,
        };
        let texts = [
            ("offset", offset),
            ("partition", partition),
            ("page", self.page.map(|page| page.to_string())),
            ("unpack-limit", self.unpack_limit.map(|limit| limit.to_string())),
            ("block-size", self.block_size.map(|size| size.to_string())),
            ("dialect", self.dialect.0.map(|dialect| dialect.name().to_owned())),
            ("at", self.at.clone()),
        ];
        let mut words = Vec::new();
        for (name, text) in texts {
            words.extend(text.map(|text| OsString::from(format!("--{name}={text}"))));
        }
        if let Some(journal) = &self.journal {
            let mut word = OsString::from("--journal=");
            word.push(journal);
            words.push(word);
        }
        words
    }

    /// The image and the options to open it, as words for a shell, followed by a space.
    fn in_shell(&self) -> String {
        let words = self
            .in_words()
            .into_iter()
            .filter(|word| word != "--offset=0" && word != "--offset=auto");
        let options = words.map(|word| quoted(Path::new(&word)) + " ");
        options.collect::<String>() + &quoted(&self.image) + " "
    }

    /// Open the image as a tree of files, read-only and shared with other readers; notes go to
    /// stderr.
    fn open_tree(&self) -> Result<Littlefs, CliError> {
        self.open_tree_by(None)
    }

    /// The same, with this convention for user attributes.
    fn open_tree_by(&self, attrs: Option<Choice>) -> Result<Littlefs, CliError> {
        let mut options = self.tree_options(true);
        if let Some(choice) = attrs {
            options = options.convention(choice);
        }
        let image = options.open_source(&self.source()?).map_err(|e| match e {
            // these errors already name the file
            Error::Image(e) => CliError::failure(e),
            Error::Journal(e) => CliError::failure(e),
            e => CliError::failure(format_args!("{}: {e}", self.image.display())),
        })?;
        tell_warnings(&image);
        Ok(image)
    }

    /// Open for reading only, sharing the image with other readers; notes go to stderr.
    fn open(&self) -> Result<image::Opened, CliError> {
        self.find()?.open()
    }

    /// The path of the image, which is to be changed.
    fn changeable(&self) -> Result<&Path, CliError> {
        match self.image == Path::new("-") {
            true => Err(CliError::failure(
                "standard input can only be read: give the name of an image file",
            )),
            false => Ok(&self.image),
        }
    }

    /// Open for writing, locked against everybody else; notes go to stderr.
    fn open_writable(&self) -> Result<image::Opened, CliError> {
        self.changeable()?;
        let opened = self.find()?.open_writable()?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        Ok(opened)
    }
}

/// Print the warnings from opening an image on stderr.
fn tell_warnings(image: &Littlefs) {
    for warning in image.warnings() {
        log::warn!("{warning}");
    }
}

/// Warn if a change of the image at `path` was interrupted and is not finished.
fn tell_interruption(path: &Path) {
    if let Some(e) = crate::journal::interruption(path) {
        log::warn!("{e}");
    }
}

/// An image, and its journal if one was named. Each refers to the same file, however often it is
/// opened.
struct Found<'a> {
    args: &'a ImageArgs,
    image: Source,
    journal: Option<Named>,
}

impl Found<'_> {
    fn open_as(&mut self, read_only: bool) -> Result<image::Opened, CliError> {
        let options = self.args.options(read_only);
        let Some(journal) = &mut self.journal else {
            match read_only {
                true => tell_interruption(&self.args.image),
                false => crate::journal::finish_interrupted(&self.image)?,
            }
            return image::open_found(&self.image, &options).map_err(CliError::failure);
        };
        let at = self.args.at.as_deref().map(At::parse);
        Ok(crate::journal::attach(journal, &self.image, &options, at.as_ref())?.image)
    }

    /// Open for reading only, sharing the image with other readers; notes go to stderr.
    fn open(&mut self) -> Result<image::Opened, CliError> {
        let opened = self.open_as(true)?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        Ok(opened)
    }

    /// Open for writing, locked against everybody else.
    fn open_writable(&mut self) -> Result<image::Opened, CliError> {
        if let Some(at) = &self.args.at {
            return Err(CliError::failure(format_args!(
                "state {at} is a past state, which cannot be changed"
            )));
        }
        shell::check_changeable()?;
        self.args.changeable()?;
        let opened = self.open_as(false)?;
        if let Some(reason) = opened.dialect.unwritable() {
            return Err(CliError::failure(self.image.refused(reason)));
        }
        if let Some(&kind) = opened.wrapped.first() {
            return Err(CliError::failure(self.image.refused(image::Reason::Wrapped(kind))));
        }
        if let Some(doubt) = opened.doubt {
            return Err(CliError::failure(self.image.refused(image::Reason::Doubtful(doubt))));
        }
        if opened.read_only {
            let path = self.args.image.show();
            let why = image::WRITE_PROTECTED;
            return Err(CliError::failure(format_args!("{path}: cannot be changed: {why}")));
        }
        Ok(opened)
    }
}

/// The command lines of `littlefs` and of its other names. Documentation and completions are
/// generated from them.
#[cfg(any(test, feature = "internals"))]
pub fn command_lines() -> Vec<clap::Command> {
    let program = [<Cli as clap::CommandFactory>::command()].into_iter();
    #[cfg(feature = "mount")]
    let program = program.chain(helpers::command_lines());
    program.collect()
}

/// Parse the arguments (the first is the program's name), run the command, and report its failure.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // A write beyond the limit on file sizes (`ulimit -f`) must be an error. By default, its signal
    // would kill the process in the middle of an operation. If blocking the signal fails, the
    // default behaviour stays.
    let _ = Signals::block_these(&[libc::SIGXFSZ]);
    match dropin::parse(&args) {
        Some(Ok(dropin)) => {
            logging::init(0, false, dropin.is_daemon());
            return finish(dropin.run(), false);
        }
        Some(Err((e, code))) => return usage(&e, code, None),
        None => {}
    }
    #[cfg(feature = "mount")]
    let args = match helpers::parse(&args) {
        Some(Ok(helper)) => {
            logging::init(helper.verbose(), false, helper.is_daemon());
            return finish(helper.run(), false);
        }
        Some(Err((e, code))) => return usage(&e, code, None),
        None => helpers::with_command(args),
    };
    match help::parse::<Cli>(&args) {
        Ok(cli) => {
            let journal = cli.command.speaks_to_journal();
            logging::init(cli.verbose, journal, cli.command.is_daemon());
            if let Some(directory) = cli.inside {
                let directory = directory.into_encoded_bytes();
                shell::begin_session(Session { directory, read_only: cli.only_read });
            }
            finish(cli.command.run(), journal)
        }
        Err(e) => {
            let command = args.iter().skip(1).find(|a| !a.as_encoded_bytes().starts_with(b"-"));
            let code = match command.and_then(|command| command.to_str()) {
                Some("check") => exit::CHECK_USAGE,
                Some("diff" | "verify") => exit::DIFF_TROUBLE,
                Some("run") => exit::RUN_FAILURE,
                _ => exit::FAILURE,
            };
            let program = <Cli as clap::CommandFactory>::command();
            usage(&e, code, order::hint(&program, &args).as_deref())
        }
    }
}

/// Report the failure of a command, with its priority if it goes to systemd's journal. Returns the
/// exit code.
fn finish(result: Result<ExitCode, CliError>, journal: bool) -> ExitCode {
    result.unwrap_or_else(|e| {
        if e.is_closed_pipe() {
            log::debug!("{e}");
        } else if journal {
            let _ = writeln!(io::stderr(), "<3>{}", show::message(&e.message));
        } else {
            complain(&e);
        }
        ExitCode::from(e.code)
    })
}

/// Print an error on stderr. If stderr is closed, the error is dropped.
fn complain(message: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "littlefs: {}", show::message(&message.to_string()));
}

/// Print the output of clap: help on stdout, and errors in the form of this program on stderr, with
/// a hint if there is one.
fn usage(e: &clap::Error, code: u8, hint: Option<&str>) -> ExitCode {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // The pipe may be closed, as by `littlefs --help | head -1`. That is not a failure.
        let _ = e.print();
        return ExitCode::SUCCESS;
    }
    // without the tip to pass an unknown option as a file name, which is hardly ever meant
    let text = e.to_string();
    let is_wanted = |part: &&str| !part.trim_start().starts_with("tip: to pass '");
    let mut parts: Vec<&str> = text.split("\n\n").filter(is_wanted).collect();
    let hint = hint.map(|hint| format!("  tip: {hint}"));
    if let Some(hint) = &hint {
        parts.insert(1.min(parts.len()), hint);
    }
    let text = parts.join("\n\n");
    if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        complain(&format_args!("no command given\n\n{}", text.trim_end()));
    } else {
        complain(&text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    }
    ExitCode::from(code)
}

/// Print the findings of a command as JSON.
fn print_json(value: &impl Serialize) -> io::Result<()> {
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(value)?)
}

/// A number of bytes: decimal or 0x hexadecimal, with an optional K, M or G (powers of 1024).
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a number of bytes (like 4096, 0x1000, 4K, 2M or 1G)");
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let (digits, radix) = match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (number, 10),
    };
    if digits.starts_with('+') {
        return Err(wrong());
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| wrong())?;
    value.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// [`parse_bytes`] for sizes that fit 32 bits.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_bytes_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_bytes(text)?).map_err(|_| format!("'{text}' is too large"))
}

/// A decimal number from `least` to `most`.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("it must be a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_hex_and_suffixes() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("0x1000"), Ok(4096));
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("3M"), Ok(3 << 20));
        assert_eq!(parse_bytes("70G"), Ok(70 << 30));
        for wrong in ["", "K", "-1", "+1", "0x", "4 K", "1T", "4KB", "99999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert!(parse_bytes_u32("4G").is_err());
    }

    #[test]
    fn command_line_is_consistent() {
        for command in command_lines() {
            command.debug_assert();
        }
    }
}
