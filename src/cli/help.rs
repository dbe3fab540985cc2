//! Formatting the help for the width of the terminal.
//!
//! clap wraps the descriptions of options. The texts below them (`after_help`) have their own
//! layout: paragraphs, and indented lines with columns, such as examples. Their lines are at most
//! [`WIDTH_MAX`] characters long in the source, and are wrapped again here.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, Parser};
use console::Term;

use super::json;

/// The help is at most this wide, in characters, because long lines are hard to read.
pub const WIDTH_MAX: usize = 100;
/// The help is at least this wide, even if the terminal is not: narrower columns hold no words.
const WIDTH_MIN: usize = 50;
/// Lines that are indented by this many characters or more continue a description.
const DEEP: usize = 8;
/// A description that has less room than this beside its label goes to the lines below it.
const ROOM_MIN: usize = 24;

/// Parse a command line, and note whether it asks for JSON. Help, which clap returns as an error, is
/// formatted for the width of the terminal.
///
/// # Errors
/// Those of clap, which include the help and the version.
pub fn parse<T: Parser>(args: &[OsString]) -> Result<T, clap::Error> {
    let parsed = T::command().try_get_matches_from(args).and_then(|mut matches| {
        if json::is_requested(&matches) {
            json::request();
        }
        T::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut T::command()))
    });
    parsed.map_err(|e| {
        let shows_help = matches!(
            e.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        if !shows_help {
            return e;
        }
        let width = width();
        let command = laid_out(T::command(), width).term_width(width);
        command.try_get_matches_from(args).err().unwrap_or(e)
    })
}

/// The width for a text: that of the terminal, or the value of `COLUMNS`, within limits.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || Term::stdout().size_checked().map(|(_, columns)| columns.into());
    columns.or_else(terminal).unwrap_or(WIDTH_MAX).clamp(WIDTH_MIN, WIDTH_MAX)
}

/// The command and its subcommands, with the texts below their options wrapped to this width.
fn laid_out(command: Command, width: usize) -> Command {
    let command = match command.get_after_help().map(|text| fill(&text.to_string(), width)) {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(|sub| laid_out(sub, width))
}

/// Wrap the lines of a text. Lines that are not indented are joined to paragraphs. In an indented
/// line, the text after the last gap of two spaces or more is a description. It stays in its
/// column, and so do the lines that continue it. If the column leaves too little room, the
/// description begins below its label.
fn fill(text: &str, width: usize) -> String {
    let mut filled: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let column = column(line);
        let (label, description) = line.split_at(column);
        let mut description = description.to_owned();
        let continues = |next: &str| !next.is_empty() && !line.is_empty() && indent(next) == column;
        if column == 0 || column >= DEEP {
            while let Some(next) = lines.next_if(|next| continues(next)) {
                description.push(' ');
                description.push_str(next.trim_start());
            }
        }
        if column > DEEP && width < column + ROOM_MIN {
            let lines_at = |indent: usize, text: &str| {
                let lines = wrap(text, width.saturating_sub(indent)).into_iter();
                lines.map(move |line| format!("{:indent$}{line}", ""))
            };
            filled.extend(lines_at(indent(line), label));
            filled.extend(lines_at(DEEP, &description));
            continue;
        }
        let mut wrapped = wrap(&description, width.saturating_sub(column)).into_iter();
        filled.push(format!("{label}{}", wrapped.next().unwrap_or_default()));
        filled.extend(wrapped.map(|rest| format!("{:column$}{rest}", "")));
    }
    filled.join("\n")
}

/// The column in which the description in a line begins. For a line without a gap, it is the
/// indentation of the line.
fn column(line: &str) -> usize {
    let start = indent(line);
    let gap = line.get(start..).filter(|_| start > 0).and_then(|text| text.rfind("  "));
    gap.map_or(start, |at| start + at + 2)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Split a text between words into lines of at most this many characters. A longer word gets a line
/// of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const TEXT: &str = "\
Examples:
  littlefs ls dump.bin    a list of everything
  littlefs ls --long --recursive dump.bin
                          the same, with sizes
                          and times

The first line of a paragraph
and the second.";

    #[test]
    fn columns_and_paragraphs_keep_their_shape() {
        let narrow = "\
Examples:
  littlefs ls dump.bin    a list of everything
  littlefs ls --long --recursive dump.bin
                          the same, with sizes and
                          times

The first line of a paragraph and the second.";
        assert_eq!(fill(TEXT, 50), narrow);
        assert_eq!(fill(narrow, 50), narrow);
    }

    #[test]
    fn descriptions_without_room_go_below_their_labels() {
        let narrow = "\
Examples:
  littlefs ls dump.bin
        a list of everything
  littlefs ls --long --recursive dump.bin
        the same, with sizes and times

The first line of a paragraph and the
second.";
        assert_eq!(fill(TEXT, 42), narrow);
    }

    #[test]
    fn the_texts_below_the_options_fit_in_every_terminal() {
        for width in [50, 60, 80, 100] {
            let program = laid_out(super::super::Cli::command(), width);
            for command in program.get_subcommands() {
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                // a word that is longer stands alone in its line
                let wide =
                    text.lines().find(|line| line.len() > width && line.trim().contains(' '));
                assert_eq!(wide, None, "{} at {width}", command.get_name());
            }
        }
    }

    #[test]
    fn the_help_of_every_command_fits_in_a_terminal_of_80_columns() {
        let wide = |command: &Command| {
            let text = command.clone().render_long_help().to_string();
            let line = text.lines().find(|line| line.len() > 80)?;
            Some(format!("{}: {line}", command.get_name()))
        };
        let mut program = laid_out(super::super::Cli::command(), 80).term_width(80);
        program.build();
        let commands =
            || program.get_subcommands().flat_map(|c| [c].into_iter().chain(c.get_subcommands()));
        let wide: Vec<String> = commands().filter_map(wide).collect();
        assert_eq!(wide, Vec::<String>::new());
        assert!(commands().count() > 50);
    }
}
