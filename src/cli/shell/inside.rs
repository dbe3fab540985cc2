//! Completion of paths inside an image, for shells.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, Args, Parser};

use super::words::{Partial, split_partial};
use super::{cli_command, resolve};
use crate::cli::{CliError, ImageArgs};
use crate::show::Show;

/// How long an answer may take. After that time, no candidates are offered.
const TIME: Duration = Duration::from_millis(700);
/// Largest number of candidates.
const MOST: usize = 2000;

/// The kind of completion that a word of a command line can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A path inside the image.
    Inside,
    /// A file of the host, or a path inside the image.
    Both,
    /// A file of the host, or something else.
    Local,
    /// An option.
    Option,
}

/// The options for finding the image.
const IMAGE_OPTIONS: &[&str] =
    &["offset", "partition", "page", "unpack_limit", "block_size", "dialect", "journal", "at"];

/// Commands whose arguments, except for the image, are all paths inside the image.
const INSIDE: &[&str] = &[
    "ls", "tree", "du", "cat", "stat", "extract", "cp", "mv", "rm", "mkdir", "touch", "truncate",
    "ln", "edit",
];

/// A command line with only an image.
#[derive(Parser)]
struct OnlyImage {
    #[command(flatten)]
    image: ImageArgs,
}

/// Print the completions of the last word of a command line if it is a path inside an image. The
/// completions that are installed with this program call this.
#[derive(Args, Debug)]
pub struct CompleteArgs {
    /// The command line up to the cursor
    line: OsString,
}

/// Run the command. The first line of the output says whether files of the host are possible, too.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &CompleteArgs) -> Result<ExitCode, CliError> {
    let Partial { mut words, last, .. } = split_partial(args.line.as_bytes());
    if words.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // remove the program's own name
    words.remove(0);
    let (wanted, image) = look(&words, &last);
    let word = match wanted {
        Wanted::Inside => "inside",
        Wanted::Both => "both",
        Wanted::Local | Wanted::Option => return Ok(ExitCode::SUCCESS),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{word}")?;
    for path in image.map(|image| candidates(image, last)).unwrap_or_default() {
        out.write_all(&path)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The kind of completion for the word `last` after `words`, the first of which is the command; and
/// the image, if it is known.
pub fn look(words: &[Vec<u8>], last: &[u8]) -> (Wanted, Option<ImageArgs>) {
    let program = cli_command();
    let mut words = words.iter().map(Vec::as_slice).peekable();
    while words.next_if(|word| word.starts_with(b"-")).is_some() {}
    let name = words.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let Some(mut command) = program.find_subcommand(name) else { return (Wanted::Local, None) };
    let mut image: Vec<OsString> = vec!["image".into()];
    let mut positionals: Vec<&[u8]> = Vec::new();
    let mut escaped = false;
    while let Some(word) = words.next() {
        if !escaped && word == b"--" {
            escaped = true;
            continue;
        }
        if escaped || !word.starts_with(b"-") || word == b"-" {
            let sub = std::str::from_utf8(word).ok().and_then(|name| command.find_subcommand(name));
            match sub {
                Some(sub) if !positionals.is_empty() => command = sub,
                _ => positionals.push(word),
            }
            continue;
        }
        let (arg, value) = option_of(command, word);
        let Some(arg) = arg.filter(|arg| arg.get_action().takes_values()) else { continue };
        let value = match value {
            Some(value) => value,
            None => match words.next() {
                Some(value) => value,
                // the word to complete is the value of this option
                None => return (Wanted::Local, None),
            },
        };
        if IMAGE_OPTIONS.contains(&arg.get_id().as_str()) {
            let long = arg.get_long().unwrap_or_default();
            let value = [format!("--{long}=").as_bytes(), value].concat();
            image.push(OsString::from_vec(value));
        }
    }
    if last.starts_with(b"-") && !escaped {
        return (Wanted::Option, None);
    }
    let wanted = match (name, command.get_name(), positionals.len()) {
        (_, _, 0) => Wanted::Local,
        ("put", _, 1) => Wanted::Local,
        ("put", ..) => Wanted::Both,
        ("get", _, 1) => Wanted::Inside,
        ("get", ..) => Wanted::Both,
        ("attr", "list" | "get" | "set" | "rm", 1) => Wanted::Inside,
        (name, ..) if INSIDE.contains(&name) => Wanted::Inside,
        _ => return (Wanted::Local, None),
    };
    let Some(first) = positionals.first() else { return (wanted, None) };
    image.extend(["--".into(), OsString::from_vec(first.to_vec())]);
    (wanted, OnlyImage::try_parse_from(image).ok().map(|only| only.image))
}

/// The option that a word names, and the value that it has in the same word.
fn option_of<'c, 'w>(
    command: &'c clap::Command,
    word: &'w [u8],
) -> (Option<&'c Arg>, Option<&'w [u8]>) {
    let find = |is_it: &dyn Fn(&Arg) -> bool| command.get_arguments().find(|arg| is_it(arg));
    if let Some(long) = word.strip_prefix(b"--") {
        let end = long.iter().position(|&b| b == b'=');
        let name = long.get(..end.unwrap_or(long.len())).unwrap_or_default();
        let arg = find(&|arg| arg.get_long().is_some_and(|long| long.as_bytes() == name));
        return (arg, end.and_then(|end| long.get(end + 1..)));
    }
    // among several short options in a word, only the last one can have a value
    for (at, &letter) in word.iter().enumerate().skip(1) {
        let letter = char::from(letter);
        let arg =
            find(&|arg| arg.get_short_and_visible_aliases().is_some_and(|s| s.contains(&letter)));
        if arg.is_some_and(|arg| arg.get_action().takes_values()) {
            return (arg, word.get(at + 1..).filter(|value| !value.is_empty()));
        }
    }
    (None, None)
}

/// The paths inside the image that begin with this word; directories end in a slash. There are none
/// if the image cannot be opened in time. Names that a terminal cannot show are left out.
pub fn candidates(image: ImageArgs, word: Vec<u8>) -> Vec<Vec<u8>> {
    let (found, answer) = mpsc::channel();
    // Reading from a slow device cannot be interrupted. So a thread does it, and the caller may
    // continue without an answer.
    let begun = Instant::now();
    let spawned = thread::Builder::new().spawn(move || {
        let _ = found.send(find(&image, &word, begun).unwrap_or_default());
    });
    match spawned {
        Ok(_) => answer.recv_timeout(TIME).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn find(image: &ImageArgs, word: &[u8], begun: Instant) -> Option<Vec<Vec<u8>>> {
    // the image must not be read from standard input
    let source = crate::image::Source::find(&image.image).ok()?;
    let fs = image.tree_options(true).open_source(&source).ok()?;
    let start = word.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (dir, prefix) = word.split_at(start);
    let mut paths = Vec::new();
    for entry in fs.read_dir(image.inside(std::ffi::OsStr::from_bytes(dir))).ok()? {
        let entry = entry.ok()?;
        let name = entry.name();
        let is_shown = name.starts_with(prefix)
            && (!name.starts_with(b".") || prefix.starts_with(b"."))
            && std::str::from_utf8(name).is_ok_and(|text| text.show().to_string() == text);
        if is_shown {
            let is_dir = entry.metadata().is_ok_and(|metadata| metadata.is_dir());
            paths.push([dir, name, if is_dir { b"/" } else { b"" }].concat());
        }
        if paths.len() >= MOST || begun.elapsed() > TIME {
            break;
        }
    }
    Some(paths)
}

/// Whether a path, relative to the directory `from`, is a directory in the image.
///
/// # Errors
/// If the image cannot be opened, or the path does not exist.
pub fn is_dir(image: &ImageArgs, from: &[u8], path: &[u8]) -> Result<bool, CliError> {
    let fs = image.open_tree()?;
    let path = resolve(from, path);
    let metadata =
        fs.metadata(&path).map_err(|e| CliError::failure(format_args!("{}: {e}", path.show())))?;
    Ok(metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> (Wanted, Option<String>) {
        let Partial { words, last, .. } = split_partial(line.as_bytes());
        let (wanted, image) = look(&words, &last);
        (wanted, image.map(|image| image.image.to_string_lossy().into_owned()))
    }

    #[test]
    fn the_position_of_a_word_decides_its_completion() {
        let some = |wanted, image: &str| (wanted, Some(image.to_owned()));
        for (line, is) in [
            ("ls ", (Wanted::Local, None)),
            ("ls i", (Wanted::Local, None)),
            ("ls i ", some(Wanted::Inside, "i")),
            ("-v ls i a/", some(Wanted::Inside, "i")),
            ("ls -la 'my image' a", some(Wanted::Inside, "my image")),
            ("ls --offset 4K i ", some(Wanted::Inside, "i")),
            ("ls --offset=4K i ", some(Wanted::Inside, "i")),
            ("ls i --off", (Wanted::Option, None)),
            ("ls i -- --off", some(Wanted::Inside, "i")),
            ("ls i --offset ", (Wanted::Local, None)),
            ("truncate -cs 5 i ", some(Wanted::Inside, "i")),
            ("truncate -s5 i ", some(Wanted::Inside, "i")),
            ("put i ", some(Wanted::Local, "i")),
            ("put i a ", some(Wanted::Both, "i")),
            ("get i a", some(Wanted::Inside, "i")),
            ("get i a ", some(Wanted::Both, "i")),
            ("attr i ", (Wanted::Local, None)),
            ("attr i get ", some(Wanted::Inside, "i")),
            ("attr i get a ", (Wanted::Local, None)),
            ("check i ", (Wanted::Local, None)),
            ("nonsense i ", (Wanted::Local, None)),
        ] {
            assert_eq!(wanted(line), is, "{line}");
        }
    }
}
