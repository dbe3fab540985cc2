//! `littlefs shell`: run commands in an image without naming the image each time.

pub mod inside;
mod line;
mod words;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use clap::{Args, CommandFactory};

use super::changing::of_changer;
use super::{CliError, ImageArgs, exit};
use crate::show::{Show, cause};
use crate::sys::Signals;

/// Work in an image as in a shell
#[derive(Args, Debug)]
#[command(mut_args(of_changer))]
#[command(mut_arg("image", |arg| arg.help("File or block device with the filesystem")),
    after_help = "\
Examples:
  littlefs shell dump.bin
  littlefs shell --read-only --offset 1M flash.bin
  littlefs shell dump.bin < commands.txt             ends at the first command that fails
  printf 'mkdir log\\nput new.txt log\\n' | littlefs shell dump.bin

In the shell:
  ls tree du cat stat get extract info check map     commands that read
  put cp mv rm mkdir touch truncate ln attr edit     commands that change the image, before the next
                                                     prompt
  cd [DIR], pwd                                      the current directory in the image; '..' leads
                                                     up
  lcd [DIR]                                          the current directory on the host
  ! COMMAND                                          run a command of your shell
  help [COMMAND], exit [STATUS]                      or Ctrl-D

The commands have their usual options. Words are separated and quoted as in sh, and '#' begins a
comment. Patterns, quoted or not, are expanded inside the image; --literal prevents that. Nothing is
kept open between two commands, so others can use the image in the meantime. On a terminal, lines
can be edited, Tab completes commands, options and paths, and lines are remembered in
$XDG_STATE_HOME/littlefs/history, by default ~/.local/state/littlefs/history.

Exit status: that of the last command; 1 if the image cannot be opened.")]
pub struct ShellArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Refuse every change of the image
    #[arg(long)]
    read_only: bool,
}

/// The commands of the program that can be used in the shell.
const COMMANDS: &[&str] = &[
    "ls", "tree", "du", "cat", "stat", "get", "extract", "put", "cp", "mv", "rm", "mkdir", "touch",
    "truncate", "ln", "attr", "edit", "info", "check", "map",
];
/// The commands of the shell itself.
const BUILT_IN: &[&str] = &["cd", "pwd", "lcd", "help", "exit", "quit"];

/// The facts that the shell passes to the commands that it runs.
#[derive(Debug)]
pub struct Session {
    /// The current directory in the image, without `/` in front.
    pub directory: Vec<u8>,
    /// Whether changes are refused.
    pub read_only: bool,
}

static SESSION: OnceLock<Session> = OnceLock::new();

/// Note that this process runs a command for a shell.
pub fn begin_session(session: Session) {
    // this is set once, when the command line is parsed
    let _ = SESSION.set(session);
}

/// The session of the shell that runs this command, if there is one.
pub fn session() -> Option<&'static Session> {
    SESSION.get()
}

/// Check that this command does not run in a shell that refuses all changes.
///
/// # Errors
/// If it does.
pub fn check_changeable() -> Result<(), CliError> {
    match session() {
        Some(session) if session.read_only => Err(CliError::failure(
            "the shell was started with --read-only, so nothing can be changed",
        )),
        _ => Ok(()),
    }
}

/// The command line of the whole program.
fn cli_command() -> clap::Command {
    super::Cli::command()
}

/// Resolve a path that was given in the directory `from`. `..` leads up, but not above the root.
/// The result for a path that ends in `.` or `..` ends in `/.`, because some commands must refuse
/// such paths.
pub fn resolve(from: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start = if path.starts_with(b"/") { b"" } else { from };
    let all = start.split(|&b| b == b'/').chain(path.split(|&b| b == b'/'));
    for part in all.filter(|part| !matches!(*part, b"" | b".")) {
        match part {
            b".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let last = path.rsplit(|&b| b == b'/').find(|part| !part.is_empty());
    let mut resolved = parts.join(&b'/');
    if matches!(last, Some(b"." | b"..")) {
        resolved.extend_from_slice(b"/.");
    } else if path.ends_with(b"/") && !resolved.is_empty() {
        resolved.push(b'/');
    }
    resolved
}

/// A resolved path without a `/` or `/.` at its end.
fn without_end(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/.").or(path.strip_suffix(b"/")).unwrap_or(path)
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or a line of a script cannot be parsed.
pub fn run(args: &ShellArgs) -> Result<ExitCode, CliError> {
    if args.image.image == Path::new("-") {
        return Err(CliError::failure(
            "standard input is for commands, so IMAGE must be the name of a file",
        ));
    }
    // report a bad image before the user types anything
    drop(args.image.open_tree()?);
    let mut shell = Shell::new(args)?;
    match io::stdin().is_terminal() {
        true => line::interact(&mut shell)?,
        false => shell.script(&mut io::stdin().lock())?,
    }
    Ok(ExitCode::from(shell.status))
}

struct Shell {
    program: PathBuf,
    image: ImageArgs,
    read_only: bool,
    /// The current directory in the image, without `/` in front.
    directory: Vec<u8>,
    /// The exit status of the last command.
    status: u8,
    /// Keeps Ctrl-C from ending the shell, because it is meant for the commands.
    signals: Signals,
    is_interactive: bool,
}

/// Whether the shell continues.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    End,
}

impl Shell {
    fn new(args: &ShellArgs) -> Result<Self, CliError> {
        let mut image = args.image.clone();
        // the path is made absolute, so that it names the same file after `lcd`
        image.image = std::path::absolute(&image.image)?;
        image.journal = image.journal.map(std::path::absolute).transpose()?;
        let is_interactive = io::stdin().is_terminal();
        let blocked: &[libc::c_int] =
            if is_interactive { &[libc::SIGINT, libc::SIGQUIT] } else { &[] };
        Ok(Self {
            program: env::current_exe()?,
            image,
            read_only: args.read_only,
            directory: Vec::new(),
            status: exit::SUCCESS,
            signals: Signals::block_these(blocked).map_err(CliError::failure)?,
            is_interactive,
        })
    }

    /// Run every line as a command, until one fails or ends the shell.
    fn script(&mut self, input: &mut dyn BufRead) -> Result<(), CliError> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if self.line(&line) == Next::End {
                break;
            }
            if self.status != exit::SUCCESS {
                log::warn!(
                    "line {number} failed, so the script ended there; what earlier lines have \
                     changed stays changed"
                );
                break;
            }
        }
        Ok(())
    }

    /// Run a line, and print its failure.
    fn line(&mut self, line: &[u8]) -> Next {
        let words = match line.trim_ascii().strip_prefix(b"!") {
            Some(command) => {
                self.outside(command);
                return Next::Line;
            }
            None => words::split(line),
        };
        let done = match words {
            Err(words::Unclosed) => Err(CliError::failure("a quote is not closed")),
            Ok(words) => match words.split_first() {
                None => return Next::Line,
                Some((verb, rest)) => match (&verb[..], rest) {
                    (b"exit" | b"quit", []) => return Next::End,
                    (b"exit" | b"quit", [status]) => match exit_status(status) {
                        Ok(status) => {
                            self.status = status;
                            return Next::End;
                        }
                        Err(e) => Err(e),
                    },
                    (verb, rest) => self.command(verb, rest),
                },
            },
        };
        self.status = done.unwrap_or_else(|e| {
            super::complain(&e);
            e.code
        });
        Next::Line
    }

    fn command(&mut self, verb: &[u8], rest: &[Vec<u8>]) -> Result<u8, CliError> {
        match (verb, rest) {
            (b"cd", []) => self.change_directory(b"/"),
            (b"cd", [dir]) => self.change_directory(dir),
            (b"pwd", []) => {
                writeln!(io::stdout(), "/{}", self.directory.show())?;
                Ok(exit::SUCCESS)
            }
            (b"lcd", []) => {
                writeln!(io::stdout(), "{}", env::current_dir()?.show())?;
                Ok(exit::SUCCESS)
            }
            (b"lcd", [dir]) => {
                let dir = OsStr::from_bytes(dir);
                env::set_current_dir(dir).map_err(|e| CliError::of_file(Path::new(dir), &e))?;
                Ok(exit::SUCCESS)
            }
            (b"help", []) => help(),
            (b"help", [verb]) if is_command(verb) => {
                self.wait(Command::new(&self.program).arg(OsStr::from_bytes(verb)).arg("--help"))
            }
            (verb, rest) if is_command(verb) => {
                let mut command = Command::new(&self.program);
                let mut inside = OsString::from("--inside=");
                inside.push(OsStr::from_bytes(&self.directory));
                command.arg(inside).args(self.read_only.then_some("--only-read"));
                command.arg(OsStr::from_bytes(verb)).args(self.image.in_words());
                // after `--`, IMAGE cannot be taken for an option
                command.arg(&self.image.image);
                command.args(rest.iter().map(|word| OsStr::from_bytes(word)));
                self.wait(&mut command)
            }
            (verb, _) => Err(CliError::failure(format_args!(
                "{}: not a command of this shell, or wrong arguments; 'help' lists the commands",
                verb.show()
            ))),
        }
    }

    fn change_directory(&mut self, path: &[u8]) -> Result<u8, CliError> {
        let mut to = resolve(&self.directory, path);
        to.truncate(without_end(&to).len());
        if to.iter().any(|b| b"*?[{\\".contains(b)) {
            return Err(CliError::failure(format_args!(
                "{}: cannot be the current directory, because paths in it would be treated as \
                 patterns",
                path.show()
            )));
        }
        if !inside::is_dir(&self.image, b"", &to)? {
            return Err(CliError::failure(format_args!("{}: not a directory", path.show())));
        }
        self.directory = to;
        Ok(exit::SUCCESS)
    }

    /// Run a command in the shell of the host.
    fn outside(&mut self, line: &[u8]) {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(OsString::from_vec(line.trim_ascii().to_vec()));
        self.status = self.wait(&mut command).unwrap_or_else(|e| {
            super::complain(&e);
            e.code
        });
    }

    /// Run a program and wait for its end.
    fn wait(&self, command: &mut Command) -> Result<u8, CliError> {
        if !self.is_interactive {
            // the command must not read the rest of the script
            command.stdin(Stdio::null());
        }
        self.signals.leave_to(command);
        let status = command.status().map_err(|e| {
            let program = command.get_program().show();
            CliError::failure(format_args!("{program}: {}", cause(&e)))
        })?;
        // signals that came while the program ran were meant for it
        while self.signals.pending().is_some() {}
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(exit::FAILURE),
            (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(exit::FAILURE),
        })
    }
}

/// The status with which the shell ends, as the argument of `exit`.
fn exit_status(word: &[u8]) -> Result<u8, CliError> {
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.ok_or_else(|| {
        let word = word.show();
        CliError::failure(format_args!("exit: '{word}' is not a status: give a number up to 255"))
    })
}

fn is_command(word: &[u8]) -> bool {
    COMMANDS.iter().any(|command| command.as_bytes() == word)
}

fn help() -> Result<u8, CliError> {
    let program = cli_command();
    let mut out = io::stdout().lock();
    for name in COMMANDS {
        let about = program.find_subcommand(name).and_then(|command| command.get_about());
        writeln!(out, "  {name:<10} {}", about.map(ToString::to_string).unwrap_or_default())?;
    }
    writeln!(out, "  cd [DIR]   Change the current directory in the image; pwd prints it")?;
    writeln!(out, "  lcd [DIR]  Change the current directory on the host, or print it")?;
    writeln!(out, "  ! COMMAND  Run a command of the system's shell")?;
    writeln!(out, "  help COMMAND describes a command; exit [STATUS] or Ctrl-D ends the shell")?;
    Ok(exit::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_takes_an_image_first() {
        let program = cli_command();
        for name in COMMANDS {
            let command = program.find_subcommand(name).expect(name);
            let first = command.get_positionals().next().expect(name);
            assert_eq!(first.get_id(), "image", "{name}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_current_directory() {
        for (from, path, is) in [
            ("", "", ""),
            ("", "a", "a"),
            ("a/b", "", "a/b"),
            ("a/b", "c", "a/b/c"),
            ("a/b", "/c/", "c/"),
            ("a/b", "../c", "a/c"),
            ("a/b", "../../../c", "c"),
            ("a/b", "..", "a/."),
            ("a/b", ".", "a/b/."),
            ("a", "b/./c", "a/b/c"),
            ("a", "/", ""),
            ("a.", "", "a."),
        ] {
            let resolved = resolve(from.as_bytes(), path.as_bytes());
            assert_eq!(resolved, is.as_bytes(), "{path} in {from}");
            assert_eq!(
                without_end(&resolved),
                is.trim_end_matches("/.").trim_end_matches('/').as_bytes()
            );
        }
    }
}
