//! `littlefs stat`: show everything that an image stores about entries.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use super::attr::Attribute;
use super::entry::{EntryJson, mode_string, storage_name, type_name};
use super::problems::{Problem, Problems};
use super::{CliError, ImageArgs, date, print_json};
use crate::check::show;
use crate::show;
use crate::time::nanos;
use crate::{Error, Littlefs, Metadata, Storage};

/// How many bytes of an attribute are shown.
const SHOWN_MAX: usize = 32;

/// Show everything that an image stores about files and directories
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs stat dump.bin etc/config.txt
  littlefs stat --json dump.bin / | jq '.entries[0].attributes'

The storage of a file is 'inline' if its content is in the blocks of its directory; otherwise it has
blocks of its own. For a directory, the number of its metadata pairs is shown. Attributes are shown
by type, as they are stored. Exit status: 0, 1 if nothing could be shown, 2 if something is
damaged, does not exist, or may be wrong.")]
pub struct StatArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Files and directories in the image, or patterns
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    entries: &'a [Facts],
    errors: Vec<&'a Problem>,
}

/// What is known about one entry.
#[derive(Serialize)]
struct Facts {
    #[serde(flatten)]
    entry: EntryJson,
    storage: &'static str,
    blocks: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_block: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<[u32; 2]>,
    attributes: Vec<Attribute>,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or the output cannot be written.
pub fn run(args: &StatArgs) -> Result<ExitCode, CliError> {
    let image = args.image.open_tree()?;
    let mut problems = Problems::new(&args.image.image, &image);
    let mut facts = Vec::new();
    let mut out = io::stdout().lock();
    for path in problems.expand(&image, &args.image.asked(&args.paths)) {
        match gather(&image, &path) {
            Ok((metadata, storage, attrs)) => {
                // a damaged directory still has an entry, but its pairs cannot be read
                let storage = storage.map_err(|e| problems.add(&path, e)).ok();
                if !args.json {
                    print(&mut out, &image, &path, &metadata, storage, &attrs)?;
                }
                facts.push(Facts::new(&image, &path, &metadata, storage, &attrs));
            }
            Err(e) => problems.add(&path, e),
        }
    }
    if args.json {
        print_json(&Output { entries: &facts, errors: problems.all() })?;
    }
    Ok(problems.status(!facts.is_empty()))
}

type Attrs = Vec<(u8, Vec<u8>)>;

fn gather(
    image: &Littlefs,
    path: &[u8],
) -> Result<(Metadata, Result<Storage, Error>, Attrs), Error> {
    Ok((image.metadata(path)?, image.storage(path), image.attrs(path)?))
}

impl Facts {
    fn new(
        image: &Littlefs,
        path: &[u8],
        metadata: &Metadata,
        storage: Option<Storage>,
        attrs: &Attrs,
    ) -> Self {
        let (head_block, pair) = match storage {
            Some(Storage::List { head, .. }) => (head, None),
            Some(Storage::Pairs { first, .. }) => (None, Some(first)),
            Some(Storage::Inline) | None => (None, None),
        };
        Self {
            entry: EntryJson::new(image, path, metadata),
            storage: storage.map_or("unreadable", storage_name),
            blocks: storage.map_or(0, Storage::blocks),
            head_block,
            pair,
            attributes: attrs.iter().map(|(ty, data)| Attribute::new(*ty, data)).collect(),
        }
    }
}

fn print(
    out: &mut impl Write,
    image: &Littlefs,
    path: &[u8],
    metadata: &Metadata,
    storage: Option<Storage>,
    attrs: &Attrs,
) -> io::Result<()> {
    writeln!(out, "path        /{}", show(path))?;
    writeln!(out, "type        {}", type_name(metadata.file_type()))?;
    if let Some(Ok(target)) = metadata.is_symlink().then(|| image.read(path)) {
        writeln!(out, "target      {}", show(&target))?;
    }
    writeln!(out, "size        {}", show::bytes(metadata.len()))?;
    match storage {
        None => writeln!(out, "storage     cannot be read")?,
        Some(Storage::Inline) => writeln!(out, "storage     inline, in its directory's blocks")?,
        Some(Storage::List { blocks, head: Some(head) }) => {
            let blocks = show::blocks(blocks);
            writeln!(out, "storage     {blocks}, the last one is block {head}")?;
        }
        Some(Storage::List { blocks, head: None }) => {
            writeln!(out, "storage     {}", show::blocks(blocks))?;
        }
        Some(Storage::Pairs { pairs, first: [a, b] }) => {
            let pairs = show::count(pairs, "metadata pair", "metadata pairs");
            writeln!(out, "storage     {pairs}, the first in blocks {a} and {b}")?;
        }
    }
    if let (Some(uid), Some(gid)) = (metadata.uid(), metadata.gid()) {
        writeln!(out, "owner       {uid}:{gid}")?;
    }
    if let Some(mode) = metadata.permissions() {
        writeln!(out, "mode        {mode:04o} ({})", mode_string(metadata))?;
    }
    let times: [(&str, Option<SystemTime>); 4] = [
        ("modified", metadata.modified()),
        ("accessed", metadata.accessed()),
        ("changed", metadata.changed()),
        ("created", metadata.created()),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            writeln!(out, "{name:<11} {}", date::utc(nanos(time)))?;
        }
    }
    for (ty, data) in attrs {
        let shown: String = data.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
        let more = if data.len() > SHOWN_MAX { "..." } else { "" };
        let len = show::bytes(data.len());
        writeln!(out, "attribute   type {ty:#04x}, {len}: {shown}{more}")?;
    }
    Ok(())
}
