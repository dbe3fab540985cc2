//! The shell on a terminal: lines are edited, remembered and completed.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::inside::{Wanted, candidates, look};
use super::words::{Partial, quote, split_partial};
use super::{BUILT_IN, COMMANDS, Next, Shell, cli_command, resolve, without_end};
use crate::cli::{CliError, ImageArgs};
use crate::show::Show;

/// Read lines and run them until there are no more.
///
/// # Errors
/// When the terminal fails.
pub fn interact(shell: &mut Shell) -> Result<(), CliError> {
    let failed = |e: ReadlineError| CliError::failure(format_args!("the terminal failed: {e}"));
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .history_ignore_space(true)
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Completing, FileHistory> =
        Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Completing::new(shell)));
    let history = history();
    if let Some(path) = &history {
        // on the first run, there is no history
        let _ = editor.load_history(path);
    }
    loop {
        if let Some(helper) = editor.helper_mut() {
            helper.directory.clone_from(&shell.directory);
        }
        let prompt = format!("littlefs:/{}> ", shell.directory.show());
        match editor.readline(&prompt) {
            Ok(line) => {
                if shell.line(line.as_bytes()) == Next::End {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(failed(e)),
        }
    }
    if let Some(path) = &history
        && let Err(e) = editor.save_history(path)
    {
        log::info!("{}: cannot save the history: {e}", path.show());
    }
    Ok(())
}

/// The file with the history. Its directory is made if it does not exist.
fn history() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| Path::new(value).is_absolute());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")))?;
    let dir = state.join("littlefs");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("history"))
}

struct Completing {
    /// The image, and the options to find it, as words of a command line.
    image: Vec<Vec<u8>>,
    args: ImageArgs,
    directory: Vec<u8>,
    files: FilenameCompleter,
}

impl Completing {
    fn new(shell: &Shell) -> Self {
        let words = shell.image.in_words().into_iter();
        let image = words.chain([OsString::from(&shell.image.image)]);
        Self {
            image: image.map(OsString::into_vec).collect(),
            args: shell.image.clone(),
            directory: shell.directory.clone(),
            files: FilenameCompleter::new(),
        }
    }

    /// The paths inside the image, relative to the current directory, that begin with `word`.
    fn inside(&self, word: &[u8]) -> Vec<Pair> {
        let start = word.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        let (dir, name) = word.split_at(start);
        let mut from = resolve(&self.directory, dir);
        from.truncate(without_end(&from).len());
        if !from.is_empty() {
            from.push(b'/');
        }
        let found = candidates(self.args.clone(), [&from[..], name].concat());
        let pair = |path: Vec<u8>| {
            let name = path.get(from.len()..).unwrap_or_default();
            pair(name, &[dir, name].concat())
        };
        found.into_iter().map(pair).collect()
    }

    fn options(command: &str, word: &[u8]) -> Vec<Pair> {
        let program = cli_command();
        let Some(command) = program.find_subcommand(command) else { return Vec::new() };
        let longs = command.get_arguments().filter_map(|arg| arg.get_long());
        let options = longs.map(|long| format!("--{long}"));
        let options = options.filter(|option| option.as_bytes().starts_with(word));
        options.map(|option| pair(option.as_bytes(), option.as_bytes())).collect()
    }
}

fn pair(shown: &[u8], word: &[u8]) -> Pair {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Pair { display: text(shown), replacement: text(&quote(word)) }
}

/// A command, followed by a space.
fn command(name: &[u8]) -> Pair {
    let name = String::from_utf8_lossy(name).into_owned();
    Pair { replacement: format!("{name} "), display: name }
}

impl Completer for Completing {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = line.get(..pos).unwrap_or(line);
        let Partial { words, last, start } = split_partial(line.as_bytes());
        let Some((verb, rest)) = words.split_first() else {
            let all = COMMANDS.iter().chain(BUILT_IN).map(|name| name.as_bytes());
            let begun = all.filter(|name| name.starts_with(&last));
            return Ok((start, begun.map(command).collect()));
        };
        let name = String::from_utf8_lossy(verb);
        let wanted = match &*name {
            "cd" => {
                let mut paths = self.inside(&last);
                paths.retain(|path| path.display.ends_with('/'));
                return Ok((start, paths));
            }
            "lcd" => Wanted::Local,
            _ => {
                let words = [std::slice::from_ref(verb), &self.image, rest].concat();
                look(&words, &last).0
            }
        };
        Ok(match wanted {
            Wanted::Inside => (start, self.inside(&last)),
            Wanted::Option => (start, Self::options(&name, &last)),
            Wanted::Local => self.files.complete(line, pos, context)?,
            Wanted::Both => {
                let inside = self.inside(&last);
                match inside.is_empty() {
                    true => self.files.complete(line, pos, context)?,
                    false => (start, inside),
                }
            }
        })
    }
}

impl Helper for Completing {}
impl Hinter for Completing {
    type Hint = String;
}
impl Validator for Completing {}
impl Highlighter for Completing {
    fn highlight_candidate<'c>(&self, candidate: &'c str, _: CompletionType) -> Cow<'c, str> {
        Cow::Borrowed(candidate)
    }
}
