//! `littlefs scan`: list all filesystems, partition tables and containers in files.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::info::bytes;
use super::{CliError, entry, exit, of_input, parse_bytes, print_json, quoted, source};
use crate::image::{self, Found, Options, Origin, Page};
use crate::show::{self, Show};

/// List every filesystem and partition table in files
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs scan flash.bin                       what is in this dump, and where?
  littlefs scan --json *.bin | jq '.files[].filesystems[].offset'
  littlefs scan firmware.uf2                    also searches UF2, hex, DFU and compressed files

Each file is read completely. Exit status: 0, or 1 if a file has no filesystem or cannot be read.")]
pub struct ScanArgs {
    /// Files or block devices; '-' is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Page and spare bytes, like 2048+64, if the files are dumps of NAND flash with spare bytes
    /// [default: recognised automatically]
    #[arg(long, value_name = "PAGE", value_parser = Page::parse)]
    page: Option<Page>,

    /// Unpack at most this much of a compressed or wrapped image, and read at most this much from
    /// standard input [default: 4G]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    unpack_limit: Option<u64>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    files: Vec<Output>,
}

/// What is printed about a file; the field names are the JSON keys.
#[derive(Serialize)]
#[serde(untagged)]
enum Output {
    Read(Contents),
    Unreadable {
        file: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_base64: Option<String>,
        error: String,
    },
}

#[derive(Serialize)]
struct Contents {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_base64: Option<String>,
    formats: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// Address of byte 0 in formats that have addresses.
    base: u64,
    size: u64,
    filesystems: Vec<Filesystem>,
    partition_tables: Vec<Table>,
    /// The chip that the program at the start is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    chip: Option<Chip>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Filesystem {
    number: usize,
    offset: u64,
    size: u64,
    version: String,
    block_size: u32,
    block_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    /// The layout that has a filesystem at this place.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<Area>,
    sound: bool,
    /// Why it is not sound, or which part is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    /// The command that opens the filesystem.
    command: String,
}

#[derive(Serialize)]
struct Chip {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flash_size: Option<u64>,
    /// Places where such programs usually have a filesystem.
    layouts: Vec<Area>,
}

#[derive(Serialize)]
struct Area {
    name: &'static str,
    offset: u64,
    size: u64,
}

#[derive(Serialize)]
struct Table {
    kind: &'static str,
    offset: u64,
    /// Whether its MD5 is correct, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<bool>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    label: String,
    r#type: u8,
    subtype: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtype_name: Option<&'static str>,
    offset: u64,
    size: u64,
    encrypted: bool,
}

/// Run the command.
///
/// # Errors
/// When standard input is named twice, or the result cannot be printed.
pub fn run(args: &ScanArgs) -> Result<ExitCode, CliError> {
    let options =
        Options { page: args.page, unpack_limit: args.unpack_limit, ..Options::default() };
    if args.files.iter().filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(CliError::failure("standard input can be read only once"));
    }
    let mut out = io::stdout().lock();
    let (mut all, mut complete) = (Vec::new(), true);
    for file in &args.files {
        let found = source(file, args.unpack_limit).map_err(of_input);
        let output = match found.and_then(|source| image::scan(&source, &options)) {
            Ok(contents) => Output::Read(Contents::new(file, &contents)),
            Err(e) => {
                log::error!("{e}");
                let error = e.reason.to_string();
                let (file, file_base64) = named(file);
                Output::Unreadable { file, file_base64, error }
            }
        };
        complete &= matches!(&output, Output::Read(contents) if !contents.filesystems.is_empty());
        match output {
            output if args.json => all.push(output),
            Output::Read(contents) => contents.print(&mut out)?,
            Output::Unreadable { .. } => {}
        }
    }
    if args.json {
        print_json(&Report { files: all })?;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
}

impl Contents {
    fn new(file: &Path, contents: &image::Contents) -> Self {
        let image::Contents { formats, page, base, size, survey, notes, .. } = contents;
        let filesystems = survey.found.iter().enumerate();
        let filesystems =
            filesystems.map(|(i, found)| Filesystem::new(i + 1, found, file, contents));
        let tables = survey.tables.iter().map(|table| Table {
            kind: match table.origin {
                Origin::EspIdf => "esp-idf",
                Origin::BinaryInfo => "binary-info",
            },
            offset: table.at,
            md5: table.md5,
            partitions: table.partitions.iter().map(Partition::new).collect(),
        });
        let mut notes = notes.clone();
        if let Some(e) = &survey.failed {
            notes.push(format!("some bytes cannot be read: {e}"));
        }
        let (file, file_base64) = named(file);
        Self {
            file,
            file_base64,
            formats: formats.iter().map(|kind| kind.name()).collect(),
            page: page.map(|page| page.to_string()),
            base: *base,
            size: *size,
            filesystems: filesystems.collect(),
            partition_tables: tables.collect(),
            chip: survey.layout.as_ref().map(|layout| Chip {
                name: layout.chip.name(),
                flash_size: layout.flash,
                layouts: layout.areas.iter().map(Area::new).collect(),
            }),
            notes,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}: {}", self.file.as_str().show(), bytes(self.size))?;
        for format in &self.formats {
            write!(out, ", {format}")?;
        }
        if let Some(page) = &self.page {
            write!(out, ", pages of {page}")?;
        }
        if self.base > 0 {
            write!(out, ", from address {:#x}", self.base)?;
        }
        writeln!(out)?;
        if let Some(chip) = &self.chip {
            let flash = match chip.flash_size {
                Some(size) => format!(", which states {} of flash", bytes(size)),
                None => String::new(),
            };
            writeln!(out, "  a program for {}{flash}", chip.name)?;
        }
        for table in &self.partition_tables {
            let (what, md5) = match (table.kind, table.md5) {
                ("binary-info", _) => ("binary info", ""),
                (_, Some(true)) => ("partition table", ", MD5 correct"),
                (_, Some(false)) => ("partition table", ", MD5 wrong"),
                (_, None) => ("partition table", ", no MD5"),
            };
            writeln!(out, "  {what} at {:#x}{md5}", table.offset)?;
            for p in &table.partitions {
                let subtype = match p.subtype_name {
                    Some(name) => name.to_owned(),
                    None => format!("{:#x}/{:#x}", p.r#type, p.subtype),
                };
                let encrypted = if p.encrypted { ", encrypted" } else { "" };
                writeln!(
                    out,
                    "    {:16} {subtype:9} {:#10x}+{:#x}{encrypted}",
                    p.label, p.offset, p.size
                )?;
            }
        }
        for filesystem in &self.filesystems {
            filesystem.print(out)?;
        }
        if self.filesystems.is_empty() {
            writeln!(out, "  no littlefs")?;
            for area in self.chip.iter().flat_map(|chip| &chip.layouts) {
                let Area { name, offset, size } = area;
                writeln!(
                    out,
                    "    in the layout {name}, it would be at {offset:#x}, {}",
                    bytes(*size)
                )?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  note: {}", note.as_str().show()))
    }
}

impl Filesystem {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let partition = match &self.partition {
            Some(label) => format!(", partition {label}"),
            None => String::new(),
        };
        let sound = if self.sound { "" } else { ", doubtful" };
        writeln!(
            out,
            "  {}: offset {} ({:#x}){partition}, littlefs {}, {} blocks of {} bytes ({}){sound}",
            self.number,
            self.offset,
            self.offset,
            self.version,
            self.block_count,
            self.block_size,
            bytes(self.size)
        )?;
        if let Some(remark) = &self.remark {
            writeln!(out, "     {remark}")?;
        }
        if let Some(area) = &self.layout {
            let size = match area.size == self.size {
                true => String::new(),
                false => format!(" of {}", bytes(area.size)),
            };
            writeln!(out, "     this is where the layout {} has a filesystem{size}", area.name)?;
        }
        writeln!(out, "     {}", self.command.as_str().show())
    }

    fn new(number: usize, found: &Found, file: &Path, contents: &image::Contents) -> Self {
        let image::Superblock { version, block_size, block_count, .. } = found.superblock;
        let missing = contents.missing.get(number - 1).copied().unwrap_or(0);
        let remark = match (found.doubt, found.lost) {
            (Some(doubt), _) => Some(doubt.to_string()),
            _ if missing > 0 => {
                Some(format!("truncated: it lacks {} at its end", show::bytes(missing)))
            }
            (None, Some(block)) => Some(format!("the superblock in block {block} is lost")),
            (None, None) => None,
        };
        let layout = contents.survey.layout.as_ref();
        let mut options = Vec::new();
        let is_version1 = found.superblock.is_version1();
        if found.doubt.is_some() || missing > 0 || is_version1 || !contents.formats.is_empty() {
            options.push("ro".to_owned());
        }
        options.extend(contents.page.map(|page| format!("page={page}")));
        options.push(format!("offset={:#x}", found.at));
        // standard input cannot be mounted
        let file = if file == Path::new("-") { "FILE".to_owned() } else { quoted(file) };
        Self {
            number,
            offset: found.at,
            size: found.len(),
            version: format!("{}.{}", version >> 16, version & 0xffff),
            block_size,
            block_count,
            partition: found.label.map(|label| label.to_string()),
            layout: layout.and_then(|layout| layout.area_of(found)).map(|area| Area::new(&area)),
            sound: found.doubt.is_none() && missing == 0,
            remark,
            command: format!("littlefs mount -o {} {file} DIR", options.join(",")),
        }
    }
}

/// A path in the form for JSON.
fn named(path: &Path) -> (String, Option<String>) {
    let bytes = path.as_os_str().as_bytes();
    (entry::text(bytes), entry::base64(bytes))
}

impl Area {
    fn new(area: &image::Area) -> Self {
        Self { name: area.name, offset: area.at, size: area.len }
    }
}

impl Partition {
    fn new(partition: &image::Partition) -> Self {
        Self {
            label: partition.label.to_string(),
            r#type: partition.ty,
            subtype: partition.subtype,
            subtype_name: partition.subtype_name(),
            offset: partition.at,
            size: partition.len,
            encrypted: partition.encrypted,
        }
    }
}
