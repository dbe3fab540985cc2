//! `littlefs kv`: an image as a key-value store.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::changing::of_changer;
use super::{CliError, ImageArgs, date, input, parse_bytes, parse_bytes_u32, print_json};
use crate::ReadOnlyReason;
use crate::convention::Choice;
use crate::kv::{Batch, Durability, Error, Key, Kind, Options, Store};
use crate::show::Show;
use crate::time;

/// Use an image as a key-value store
#[derive(Args, Debug)]
#[command(mut_args(of_changer))]
#[command(after_help = "\
Examples:
  littlefs kv dump.bin list                          the keys at the top level
  littlefs kv dump.bin get wifi/ssid
  littlefs kv dump.bin set wifi/ssid 'my network'    also makes the dictionary wifi
  littlefs kv dump.bin set firmware < new.bin        any bytes, from standard input
  littlefs kv dump.bin exists wifi                   value, dictionary or none
  littlefs kv dump.bin rename wifi network/wifi
  littlefs kv dump.bin digest / --json | jq -r .sha256
  littlefs kv --times chamelon dump.bin set a b      with a time, as chamelon stores it
  littlefs kv dump.bin batch <<'END'                 all of it, or nothing
  {\"op\": \"set\", \"key\": \"boot/count\", \"value\": \"2\"}
  {\"op\": \"remove\", \"key\": \"boot/failed\"}
  END

A value is a file, and a dictionary is a directory. '/' separates the segments of a key. get, list,
exists, size, digest and last-modified only read, and others can read the image at the same time.
The other commands lock the image, and their change is on disk when they end.

Exit status: 0, or 1 for any failure, for example if a key does not exist.")]
pub struct KvArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// How times are stored: auto (as the image does), none, or by a convention: chamelon, unix,
    /// micropython, esp-idf, arduino, ...
    #[arg(long, global = true, value_name = "NAME", default_value = "auto",
          value_parser = Choice::parse)]
    times: Choice,

    /// Largest value that is stored in the blocks of its dictionary [default: the largest in the
    /// image, at least 64]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_u32)]
    inline_max: Option<u32>,

    /// How long each step of a change waits: full (until it is on the medium), or ordered (it does
    /// not wait, but the steps reach the medium in their order). In both cases, everything is on
    /// the medium when the command ends
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value = "full")]
    sync: SyncArg,

    /// Limit the memory for cached and unwritten data to this; less than 256K counts as 256K
    /// [default: 40M]
    #[arg(long, global = true, value_name = "BYTES", value_parser = parse_bytes)]
    cache: Option<u64>,

    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

/// What each step of a change waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SyncArg {
    Full,
    Ordered,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a value, or part of it, to standard output
    Get {
        /// The key
        key: OsString,
        /// Skip this many bytes at the start
        #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_bytes)]
        from: u64,
        /// Write at most this many bytes
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        length: Option<u64>,
    },
    /// Set a value; missing dictionaries are made
    Set {
        /// The key
        key: OsString,
        /// The value; if it is '-' or missing, it is read from standard input
        value: Option<OsString>,
    },
    /// Overwrite a part of a value, or append to it
    SetPartial {
        /// The key
        key: OsString,
        /// Where to begin; if this is beyond the end, begin at the end
        #[arg(value_parser = parse_bytes)]
        offset: u64,
        /// The bytes to write; if it is '-' or missing, they are read from standard input
        value: Option<OsString>,
    },
    /// List the content of a dictionary; names of dictionaries end in '/'
    List {
        /// The key of the dictionary
        #[arg(default_value = "/")]
        key: OsString,
    },
    /// Print whether a key refers to a value, a dictionary or nothing: value, dictionary, none
    Exists {
        /// The key
        key: OsString,
    },
    /// Print the size of a value, or of all values in a dictionary, in bytes
    Size {
        /// The key
        #[arg(default_value = "/")]
        key: OsString,
    },
    /// Print the SHA-256 of a value, or of everything in a dictionary
    Digest {
        /// The key
        #[arg(default_value = "/")]
        key: OsString,
    },
    /// Print when a value was last changed; for a dictionary, the time of its newest value
    LastModified {
        /// The key
        #[arg(default_value = "/")]
        key: OsString,
    },
    /// Rename a value or a dictionary; if the new key is a dictionary, move it there
    Rename {
        /// The key
        source: OsString,
        /// The new key
        dest: OsString,
    },
    /// Remove a value, or a dictionary with everything in it; it is not an error if it does not
    /// exist
    Remove {
        /// The key
        key: OsString,
    },
    /// Make a value of this many zero bytes
    Allocate {
        /// The key, which must not exist yet
        key: OsString,
        /// Bytes
        #[arg(value_parser = parse_bytes)]
        size: u64,
    },
    /// Make all changes that standard input lists, or none of them
    #[command(after_help = "\
One change on each line, as a JSON object:
  {\"op\": \"set\", \"key\": \"a/b\", \"value\": \"text\"}
  {\"op\": \"set-partial\", \"key\": \"a/b\", \"offset\": 4, \"value\": \"text\"}
  {\"op\": \"allocate\", \"key\": \"a/c\", \"size\": 4096}
  {\"op\": \"rename\", \"key\": \"a/b\", \"to\": \"a/d\"}
  {\"op\": \"remove\", \"key\": \"a\"}
For bytes that are not text, use \"base64\" instead of \"value\", and \"key_base64\" and
\"to_base64\" instead of \"key\" and \"to\". Empty lines are ignored. After a crash, all of the
changes are there, or none.")]
    Batch,
}

impl Command {
    fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Get { .. }
                | Self::List { .. }
                | Self::Exists { .. }
                | Self::Size { .. }
                | Self::Digest { .. }
                | Self::LastModified { .. }
        )
    }

    /// The key that needs space, if the command makes or changes a value.
    fn key(&self) -> Option<&OsString> {
        match self {
            Self::Set { key, .. } | Self::SetPartial { key, .. } | Self::Allocate { key, .. } => {
                Some(key)
            }
            Self::Rename { dest, .. } => Some(dest),
            _ => None,
        }
    }
}

/// Text, or bytes that are not text.
#[derive(Serialize)]
struct Bytes {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Serialize)]
struct KeyName {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

impl From<&Key> for KeyName {
    fn from(key: &Key) -> Self {
        match String::from_utf8([b"/", key.as_bytes()].concat()) {
            Ok(text) => Self { key: Some(text), key_base64: None },
            Err(e) => Self { key: None, key_base64: Some(STANDARD.encode(e.as_bytes())) },
        }
    }
}

/// What is printed with `--json`: a key, and the result for it.
#[derive(Serialize)]
struct Answer<T> {
    #[serde(flatten)]
    key: KeyName,
    #[serde(flatten)]
    what: T,
}

#[derive(Serialize)]
struct KindIs {
    kind: &'static str,
}

#[derive(Serialize)]
struct Size {
    size: u64,
}

#[derive(Serialize)]
struct Digest {
    sha256: String,
}

#[derive(Serialize)]
struct LastModified {
    last_modified: String,
    seconds: i64,
    nanoseconds: u32,
}

/// A line of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    op: Op,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    base64: Option<String>,
    offset: Option<u64>,
    size: Option<u64>,
    to: Option<String>,
    to_base64: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Op {
    Set,
    SetPartial,
    Allocate,
    Rename,
    Remove,
}

/// A change of a batch.
enum Change {
    Set(Key, Vec<u8>),
    SetPartial(Key, u64, Vec<u8>),
    Allocate(Key, u64),
    Rename(Key, Key),
    Remove(Key),
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the operation fails.
pub fn run(args: &KvArgs) -> Result<ExitCode, CliError> {
    let changes = args.command.changes();
    let opened = match changes {
        true => args.image.open_writable()?,
        false => args.image.open()?,
    };
    // the whole batch must be valid before anything is written to the image
    let changed = opened.metadata.modified();
    let path = args.image.image.show();
    let failed = |e: Error| CliError::failure(format_args!("{path}: {e}"));
    let options = Options {
        read_only: !changes,
        times: args.times,
        changed: changed.unwrap_or(SystemTime::UNIX_EPOCH),
        inline_max: args.inline_max,
        cache: args.cache,
        durability: match args.sync {
            SyncArg::Full => Durability::Full,
            SyncArg::Ordered => Durability::Ordered,
        },
        ..Options::default()
    };
    let store = Store::connect(opened.device, &options).map_err(failed)?;
    if let Some(damage) = store.damage().filter(|_| changes) {
        let why = ReadOnlyReason::Damage(damage);
        return Err(CliError::failure(format_args!("{path}: cannot be changed: {why}")));
    }
    match &args.command {
        Command::Batch => {
            let changes = read_batch(io::stdin().lock())?;
            let mut at = None;
            let done = store.batch(|b| {
                changes.iter().try_for_each(|(line, change)| {
                    at = Some(*line);
                    change.apply(b)
                })?;
                at = None;
                Ok(())
            });
            done.map_err(|e| match at {
                Some(line) => {
                    CliError::failure(format_args!("{path}: line {line} of the batch: {e}"))
                }
                None => failed(e),
            })?;
        }
        command => args.one(&store, command).map_err(|e| match e {
            // this error is about the image; the others name the key themselves
            Failure::Store(e @ Error::NoSpace) => match command.key().map(parse_key) {
                Some(Ok(key)) => CliError::failure(format_args!("{path}: {key}: {e}")),
                _ => failed(e),
            },
            Failure::Store(e) => failed(e),
            Failure::Cli(e) => e,
        })?,
    }
    store.disconnect().map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// What stopped a command.
enum Failure {
    Store(Error),
    Cli(CliError),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Store(e)
    }
}

impl From<CliError> for Failure {
    fn from(e: CliError) -> Self {
        Self::Cli(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Cli(e.into())
    }
}

impl KvArgs {
    fn one(&self, store: &Store, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Get { key, from, length } => {
                let key = parse_key(key)?;
                let length =
                    length.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
                let value = store.get_partial(&key, *from, length)?;
                if self.json {
                    self.print(&key, as_text(value), "")?;
                } else {
                    let mut out = io::stdout().lock();
                    out.write_all(&value)?;
                    // flush now, because at the end of the program a failure could no longer be
                    // reported
                    out.flush()?;
                }
            }
            Command::Set { key, value } => {
                store.set(&parse_key(key)?, &input::value(value.as_ref())?)?
            }
            Command::SetPartial { key, offset, value } => {
                store.set_partial(&parse_key(key)?, *offset, &input::value(value.as_ref())?)?;
            }
            Command::List { key } => self.list(store.list(&parse_key(key)?)?)?,
            Command::Exists { key } => {
                let key = parse_key(key)?;
                let kind = store.exists(&key)?.map_or("none", name_of);
                self.print(&key, KindIs { kind }, kind)?;
            }
            Command::Size { key } => {
                let key = parse_key(key)?;
                let size = store.size(&key)?;
                self.print(&key, Size { size }, &size.to_string())?;
            }
            Command::Digest { key } => {
                let key = parse_key(key)?;
                let sha256: String =
                    store.digest(&key)?.iter().map(|byte| format!("{byte:02x}")).collect();
                self.print(&key, Digest { sha256: sha256.clone() }, &sha256)?;
            }
            Command::LastModified { key } => {
                let key = parse_key(key)?;
                let nanos = time::nanos(store.last_modified(&key)?);
                let text = date::utc(nanos);
                let what = LastModified {
                    last_modified: text.clone(),
                    seconds: nanos.div_euclid(1_000_000_000),
                    nanoseconds: nanos.rem_euclid(1_000_000_000) as u32,
                };
                self.print(&key, what, &text)?;
            }
            Command::Rename { source, dest } => {
                store.rename(&parse_key(source)?, &parse_key(dest)?)?;
            }
            Command::Remove { key } => store.remove(&parse_key(key)?)?,
            Command::Allocate { key, size } => store.allocate(&parse_key(key)?, *size, None)?,
            Command::Batch => {}
        }
        Ok(())
    }

    /// Print `what` if JSON was requested, and `text` otherwise.
    fn print(&self, key: &Key, what: impl Serialize, text: &str) -> io::Result<()> {
        if self.json {
            print_json(&Answer { key: key.into(), what })
        } else {
            writeln!(io::stdout(), "{text}")
        }
    }

    fn list(&self, entries: Vec<(Key, Kind)>) -> io::Result<()> {
        if self.json {
            let answer = |(key, kind): &(Key, Kind)| Answer {
                key: key.into(),
                what: KindIs { kind: name_of(*kind) },
            };
            return print_json(&entries.iter().map(answer).collect::<Vec<_>>());
        }
        // Scripts get the bytes themselves; on a terminal, control characters are escaped.
        let for_people = io::stdout().is_terminal();
        let mut out = io::BufWriter::new(io::stdout().lock());
        for (key, kind) in entries {
            out.write_all(b"/")?;
            match for_people {
                true => write!(out, "{}", key.as_bytes().show())?,
                false => out.write_all(key.as_bytes())?,
            }
            out.write_all(if kind == Kind::Dictionary { b"/\n" } else { b"\n" })?;
        }
        out.flush()
    }
}

impl Change {
    fn apply(&self, batch: &mut Batch<'_>) -> Result<(), Error> {
        match self {
            Self::Set(key, value) => batch.set(key, value),
            Self::SetPartial(key, offset, value) => batch.set_partial(key, *offset, value),
            Self::Allocate(key, size) => batch.allocate(key, *size, None),
            Self::Rename(source, dest) => batch.rename(source, dest),
            Self::Remove(key) => batch.remove(key),
        }
    }
}

impl Line {
    fn change(self) -> Result<Change, String> {
        let Self { op, key, key_base64, value, base64, offset, size, to, to_base64 } = self;
        let key = key_of(key, key_base64, "key")?.ok_or("no \"key\"")?;
        let to = key_of(to, to_base64, "to")?;
        let value = bytes_of(value, base64, "value", "base64")?;
        let allowed = [
            ("offset", offset.is_some(), op == Op::SetPartial),
            ("size", size.is_some(), op == Op::Allocate),
            ("to", to.is_some(), op == Op::Rename),
            ("value", value.is_some(), matches!(op, Op::Set | Op::SetPartial)),
        ];
        for (name, given, expected) in allowed {
            match (given, expected) {
                (true, false) => return Err(format!("\"{name}\" does not belong to this change")),
                (false, true) => return Err(format!("no \"{name}\"")),
                _ => {}
            }
        }
        Ok(match (op, value, offset, size, to) {
            (Op::SetPartial, Some(value), Some(offset), ..) => {
                Change::SetPartial(key, offset, value)
            }
            (Op::Set, Some(value), ..) => Change::Set(key, value),
            (Op::Allocate, .., Some(size), _) => Change::Allocate(key, size),
            (Op::Rename, .., Some(to)) => Change::Rename(key, to),
            _ => Change::Remove(key),
        })
    }
}

/// The changes that `input` lists, with the numbers of their lines.
fn read_batch(input: impl BufRead) -> Result<Vec<(usize, Change)>, CliError> {
    let mut changes = Vec::new();
    for (i, line) in input.lines().enumerate() {
        let wrong =
            |why: &str| CliError::failure(format_args!("line {} of the batch: {why}", i + 1));
        let line = line.map_err(|e| wrong(&e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|e| {
            // the text is one line, so its number says nothing
            let (text, column) = (e.to_string(), e.column());
            let place = format!(" at line {} column {column}", e.line());
            wrong(&format!("column {column}: {}", text.strip_suffix(&place).unwrap_or(&text)))
        })?;
        changes.push((i + 1, line.change().map_err(|e| wrong(&e))?));
    }
    Ok(changes)
}

fn key_of(text: Option<String>, base64: Option<String>, name: &str) -> Result<Option<Key>, String> {
    let bytes = bytes_of(text, base64, name, &format!("{name}_base64"))?;
    bytes.map(|bytes| Key::new(bytes).map_err(|e| e.to_string())).transpose()
}

fn bytes_of(
    text: Option<String>,
    base64: Option<String>,
    name: &str,
    base64_name: &str,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{base64_name}\"")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(text)) => {
            STANDARD.decode(text).map(Some).map_err(|e| format!("\"{base64_name}\": {e}"))
        }
        (None, None) => Ok(None),
    }
}

fn parse_key(key: &OsString) -> Result<Key, CliError> {
    Key::new(key.as_bytes()).map_err(CliError::failure)
}

fn as_text(bytes: Vec<u8>) -> Bytes {
    match String::from_utf8(bytes) {
        Ok(text) => Bytes { value: Some(text), base64: None },
        Err(e) => Bytes { value: None, base64: Some(STANDARD.encode(e.as_bytes())) },
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Value => "value",
        Kind::Dictionary => "dictionary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_batch_are_checked() {
        let read = |text: &str| read_batch(text.as_bytes());
        let good = r#"{"op":"set","key":"a","base64":"/w=="}

            {"op":"set-partial","key":"a","offset":1,"value":"x"}
            {"op":"rename","key_base64":"/w==","to":"b"}
            {"op":"remove","key":"b"}
            {"op":"allocate","key":"b","size":3}"#;
        let changes = read(good).expect("a batch");
        assert_eq!(changes.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert!(matches!(&changes[0].1, Change::Set(_, value) if value == &[0xff]));
        for (wrong, why) in [
            ("nonsense", "line 1"),
            (r#"{"op":"set","key":"a"}"#, "no \"value\""),
            (r#"{"op":"set","value":"a"}"#, "no \"key\""),
            (r#"{"op":"set","key":"a","value":"a","base64":""}"#, "both"),
            (r#"{"op":"set","key":"a","base64":"?"}"#, "base64"),
            (r#"{"op":"set","key":"..","value":""}"#, ".."),
            (r#"{"op":"remove","key":"a","value":"a"}"#, "does not belong"),
            (r#"{"op":"rename","key":"a"}"#, "no \"to\""),
            (r#"{"op":"put","key":"a"}"#, "put"),
            (r#"{"op":"remove","key":"a","more":1}"#, "more"),
        ] {
            let e = read(wrong).map(|_| ()).expect_err(wrong);
            assert!(e.message.contains(why), "{wrong}: {e}");
        }
    }
}
