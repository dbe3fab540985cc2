//! `littlefs attr`: the user attributes of entries.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::changing::ChangeArgs;
use super::changing::of_changer;
use super::editing::{NamesArgs, edit};
use super::entry::EntryJson;
use super::problems::{Problem, Problems};
use super::{CliError, ImageArgs, date, input, print_json};
use crate::convention::{Choice, Field};
use crate::edit::{self, Value, meant};
use crate::{Error, Littlefs};

/// List, read, set and remove the user attributes of files and directories
#[derive(Args, Debug)]
#[command(mut_args(of_changer))]
#[command(after_help = "\
Examples:
  littlefs attr dump.bin list etc/config.txt
  littlefs attr dump.bin get etc/config.txt 0x74 | xxd
  littlefs attr dump.bin get etc/config.txt modified
  littlefs attr dump.bin set etc/config.txt 0x80 'any text'
  littlefs attr dump.bin set etc/config.txt 0x80 hex:00ff12
  littlefs attr dump.bin set etc/config.txt 0x80 < value
  littlefs attr dump.bin set 'www/*' modified 2026-03-14T15:09:26Z
  littlefs attr dump.bin set --attrs unix bin/tool mode 0755
  littlefs attr dump.bin rm etc/config.txt 0x80

TYPE is a number from 0 to 0xff, or a name: modified (mtime), accessed (atime), changed (ctime) and
created are times, mode is octal, uid and gid are numbers. The convention of the image tells how
these are stored. VALUE is a text, or bytes in hexadecimal after 'hex:'. If it is '-' or missing, it
is read from standard input. Patterns for PATH are expanded inside the image: quote them.

Exit status: 0, or 1 for any failure, for example if the attribute does not exist. A failure changes
nothing.")]
pub struct AttrArgs {
    #[command(flatten)]
    image: ImageArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List all attributes of entries, and their meaning
    List {
        /// Files and directories in the image, or a pattern
        path: OsString,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Write the value of an attribute to standard output
    Get {
        /// A file or directory in the image
        path: OsString,
        /// A number from 0 to 0xff, or a name such as modified or mode
        #[arg(value_name = "TYPE", value_parser = parse_kind)]
        kind: Kind,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Set an attribute of entries
    Set {
        /// Files and directories in the image, or a pattern
        path: OsString,
        /// A number from 0 to 0xff, or a name such as modified or mode
        #[arg(value_name = "TYPE", value_parser = parse_kind)]
        kind: Kind,
        /// The value; if it is '-' or missing, it is read from standard input
        #[arg(allow_negative_numbers = true)]
        value: Option<OsString>,
        #[command(flatten)]
        names: NamesArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Remove an attribute of entries
    Rm {
        /// Files and directories in the image, or a pattern
        path: OsString,
        /// A number from 0 to 0xff
        #[arg(value_name = "TYPE", value_parser = parse_type)]
        kind: u8,
        #[command(flatten)]
        names: NamesArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// How attributes are shown.
#[derive(Args, Debug)]
struct ReadingArgs {
    /// Interpret attributes by this convention: unix, micropython, esp-idf, arduino, ... [default:
    /// the one that the image uses]
    #[arg(long, value_name = "NAME", value_parser = Choice::parse)]
    attrs: Option<Choice>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What to read or set.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The attribute of this type.
    Raw(u8),
    /// A field that the convention of the image stores in attributes.
    Meant(Field),
}

/// The names of the fields. The first name of each is the one that is printed.
const FIELDS: &[(Field, &[&str])] = &[
    (Field::Mtime, &["modified", "mtime"]),
    (Field::Atime, &["accessed", "atime"]),
    (Field::Ctime, &["changed", "ctime"]),
    (Field::Birth, &["created", "birth", "btime"]),
    (Field::Mode, &["mode"]),
    (Field::Uid, &["uid"]),
    (Field::Gid, &["gid"]),
];

/// What `list --json` prints.
#[derive(Serialize)]
struct Listed<'a> {
    entries: &'a [Facts],
    errors: Vec<&'a Problem>,
}

#[derive(Serialize)]
struct Facts {
    #[serde(flatten)]
    entry: EntryJson,
    attributes: Vec<Attribute>,
}

/// An attribute in JSON.
#[derive(Serialize)]
pub struct Attribute {
    r#type: u8,
    length: usize,
    data_base64: String,
}

impl Attribute {
    /// The attribute of this type and data.
    pub fn new(ty: u8, data: &[u8]) -> Self {
        Self { r#type: ty, length: data.len(), data_base64: STANDARD.encode(data) }
    }
}

/// What `get --json` prints about a field.
#[derive(Serialize)]
struct Said<'a> {
    name: &'a str,
    value: String,
}

/// Run the command.
///
/// # Errors
/// If the image cannot be read or changed, or has no such attribute.
pub fn run(args: &AttrArgs) -> Result<ExitCode, CliError> {
    let image = &args.image;
    match &args.command {
        Command::List { path, reading } => list(image, path, reading),
        Command::Get { path, kind, reading } => get(image, path, *kind, reading),
        Command::Set { path, kind, value, names, change } => {
            let value = parse_value(*kind, bytes(value.as_ref())?)?;
            let asked = [image.inside(path)];
            edit(image, change, &mut |image, _| edit::set_attr(image, names.paths(&asked), &value))
        }
        Command::Rm { path, kind, names, change } => {
            let asked = [image.inside(path)];
            edit(image, change, &mut |image, _| {
                edit::remove_attr(image, names.paths(&asked), *kind)
            })
        }
    }
}

fn list(args: &ImageArgs, path: &OsString, how: &ReadingArgs) -> Result<ExitCode, CliError> {
    let image = args.open_tree_by(how.attrs)?;
    let mut problems = Problems::new(&args.image, &image);
    let mut facts = Vec::new();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for path in problems.expand(&image, &[args.inside(path)]) {
        let found = image.metadata(&path).and_then(|m| Ok((m, image.attrs(&path)?)));
        let (metadata, attrs) = match found {
            Ok(found) => found,
            Err(e) => {
                problems.add(&path, e);
                continue;
            }
        };
        if !how.json {
            writeln!(out, "/{}", crate::check::show(&path))?;
            for (ty, data) in &attrs {
                let shown: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(out, "  {ty:#04x}  {:4} bytes  {shown}", data.len())?;
            }
            for (field, names) in FIELDS {
                if let Some(value) = meant(&metadata, *field) {
                    writeln!(out, "  {:<10} {}", names[0], text(*field, value))?;
                }
            }
        }
        let attributes = attrs.iter().map(|(ty, data)| Attribute::new(*ty, data)).collect();
        facts.push(Facts { entry: EntryJson::new(&image, &path, &metadata), attributes });
    }
    out.flush()?;
    if how.json {
        print_json(&Listed { entries: &facts, errors: problems.all() })?;
    }
    Ok(problems.status(!facts.is_empty()))
}

fn get(
    args: &ImageArgs,
    path: &OsString,
    kind: Kind,
    how: &ReadingArgs,
) -> Result<ExitCode, CliError> {
    let image = args.open_tree_by(how.attrs)?;
    let path = args.inside(path);
    let failed = |e: &dyn std::fmt::Display| {
        let (image, path) = (args.image.display(), crate::check::show(&path));
        CliError::failure(format_args!("{image}: {path}: {e}"))
    };
    match kind {
        Kind::Raw(ty) => {
            let data = image.attr(&path, ty).map_err(|e| match e {
                Error::NoAttr => failed(&format_args!("has no attribute of type {ty:#04x}")),
                e => failed(&e),
            })?;
            match how.json {
                true => print_json(&Attribute::new(ty, &data))?,
                false => io::stdout().write_all(&data)?,
            }
        }
        Kind::Meant(field) => {
            let name = FIELDS.iter().find(|(f, _)| *f == field).map_or("", |(_, names)| names[0]);
            let value = said(&image, &path, field).map_err(|e| match e {
                Error::NoAttr => failed(&format_args!("no value of '{name}' is stored for it")),
                e => failed(&e),
            })?;
            match how.json {
                true => print_json(&Said { name, value })?,
                false => writeln!(io::stdout(), "{value}")?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn said(image: &Littlefs, path: &[u8], field: Field) -> Result<String, Error> {
    let value = meant(&image.metadata(path)?, field).ok_or(Error::NoAttr)?;
    Ok(text(field, value))
}

fn is_time(field: Field) -> bool {
    matches!(field, Field::Mtime | Field::Atime | Field::Ctime | Field::Birth)
}

fn text(field: Field, value: i64) -> String {
    match field {
        Field::Mode => format!("{value:04o}"),
        field if is_time(field) => date::utc(value),
        _ => value.to_string(),
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    match FIELDS.iter().find(|(_, names)| names.contains(&text)) {
        Some((field, _)) => Ok(Kind::Meant(*field)),
        None => parse_type(text).map(Kind::Raw).map_err(|e| {
            let names: Vec<&str> = FIELDS.iter().map(|(_, names)| names[0]).collect();
            format!("{e}, nor one of the names {}", names.join(", "))
        }),
    }
}

fn parse_type(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u8::from_str_radix(hex, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("'{text}' is not a number from 0 to 0xff"))
}

/// The bytes of a value, from the command line or from standard input.
fn bytes(value: Option<&OsString>) -> Result<Vec<u8>, CliError> {
    match value.and_then(|value| value.as_bytes().strip_prefix(b"hex:")) {
        Some(hex) => unhex(hex).ok_or_else(|| {
            CliError::failure(
                "the value after 'hex:' must have two hexadecimal digits for each byte",
            )
        }),
        None => input::value(value),
    }
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [a, b] => u8::try_from(digit(*a)? << 4 | digit(*b)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

fn parse_value(kind: Kind, bytes: Vec<u8>) -> Result<Value, CliError> {
    let field = match kind {
        Kind::Raw(ty) => return Ok(Value::Raw(ty, bytes)),
        Kind::Meant(field) => field,
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let value = match field {
        Field::Mode => u32::from_str_radix(text, 8)
            .ok()
            .filter(|&mode| mode <= 0o7777 && !text.starts_with('+'))
            .map(i64::from)
            .ok_or_else(|| format!("'{text}' is not a mode in octal, like 0644")),
        field if is_time(field) => date::parse(text),
        _ => text.parse::<u32>().map(i64::from).map_err(|_| format!("'{text}' is not a number")),
    };
    value.map(|value| Value::Meant(field, value)).map_err(CliError::failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_values_are_checked() {
        assert_eq!(parse_type("0x74"), Ok(0x74));
        assert_eq!(parse_type("255"), Ok(255));
        for wrong in ["", "256", "0x100", "-1", "+1", "0x", "0x+1", "t"] {
            assert!(parse_type(wrong).is_err(), "{wrong}");
        }
        assert_eq!(unhex(b"00fF"), Some(vec![0, 255]));
        assert_eq!(unhex(b""), Some(Vec::new()));
        assert_eq!(unhex(b"0").or(unhex(b"0g")).or(unhex("ä0".as_bytes())), None);
        let mode = |text: &str| parse_value(Kind::Meant(Field::Mode), text.into());
        assert_eq!(mode("0755\n"), Ok(Value::Meant(Field::Mode, 0o755)));
        for wrong in ["", "8", "10000", "+7", "-1"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
