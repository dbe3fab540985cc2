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
mod error;
mod exit;
mod extract;
mod gathering;
mod get;
mod help;
mod image_args;
mod info;
mod input;
mod inspect;
mod journal;
mod json;
mod kv;
mod ln;
mod logging;
mod ls;
mod map;
mod mkdir;
mod mkfs;
mod mv;
mod number;
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

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, Subcommand};

use self::error::CliError;
use self::image_args::{Chosen, ImageArgs, of_input, parse_place, quoted, source, tell_warnings};
use self::json::{print_json, write_json};
use self::number::{parse_bytes, parse_bytes_u32, parse_number};
use self::shell::Session;
use crate::show;
use crate::sys::Signals;

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
  put, cp, mv, rm, mkdir, touch, truncate, ln, attr set, attr rm, edit
                            also 128+N: interrupted by signal N
  ls, tree, du, cat, stat, attr list, get, extract, info
                            also 2: done, but something was left out, or may be wrong or outdated
  diff, verify              0 same, 1 different, 2 failed, or may be wrong or outdated
  check                     0 clean, 1 repaired, 4 errors left, 8 could not check, 16 wrong usage
  journal verify            0 sound, 4 damaged, 8 could not check; 1 wrong usage
  shell                     that of the last command
  inspect, map              also 2: something is damaged
  recover                   0 done, 1 nothing found, 2 some files are partial
  bench                     also 2: something was left out; 128+N: ended by signal N
  mount, umount             also 32: could not be mounted or unmounted
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
            return ExitCode::from(e.code);
        }
        json::print_failure(&e);
        if journal {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        for command in command_lines() {
            command.debug_assert();
        }
    }
}
