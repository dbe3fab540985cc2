//! `littlefs info`: facts about an image.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{CliError, ImageArgs, exit, write_json};
use crate::Misfit;
use crate::check::show;
use crate::fs::{Fs, OpenOptions};
use crate::image::{Dialect, Opened, Source};
use crate::profile::Profile;
use crate::show::{self, Show};

/// Show version, geometry, limits and usage of an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs info dump.bin
  littlefs info --json dump.bin | jq .blocks_free
  littlefs info --offset 0x200000 flash.bin     the filesystem starts inside a flash dump
  littlefs info --profile esp-idf fs.bin        can devices with ESP-IDF read it?

The image is only read, and can be mounted read-only at the same time. In a dump of a whole flash,
and in UF2, hex, DFU and compressed files, the filesystem is found automatically; 'littlefs scan'
lists everything that is in such a file.

Exit status: 0; 1 if it failed, or if devices of the --profile would refuse the image; 2 if what it
shows may be wrong or outdated, because the image is damaged, or the file around it.")]
pub struct InfoArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// Show why devices of this family would refuse the image, or have trouble with it
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    profile: Option<&'static Profile>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed; the field names are the JSON keys.
#[derive(Serialize)]
struct Info {
    dialect: &'static str,
    disk_version: String,
    block_size: u32,
    block_count: u32,
    blocks_used: u32,
    blocks_free: u32,
    name_max: u32,
    file_max: u32,
    attr_max: u32,
    files: u64,
    directories: u64,
    /// Missing for version 1, whose images do not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    prog_size: Option<u32>,
    offset: u64,
    image_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    compacted_bytes: u64,
    /// Formats that the image is wrapped in, the outermost first.
    formats: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    misfits: Option<Vec<MisfitJson>>,
}

#[derive(Serialize)]
struct MisfitJson {
    refused: bool,
    message: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, or its tree cannot be walked.
pub fn run(args: &InfoArgs) -> Result<ExitCode, CliError> {
    let mut found = args.image.find()?;
    let opened = found.open()?;
    let (mut info, is_suspect) = Info::gather(&opened)
        .map_err(|e| CliError::failure(format_args!("{}: {e}", args.image.image.show())))?;
    if let Some(profile) = args.profile {
        info.misfits = Some(args.misfits(&found.image, profile)?);
    }
    let mut out = io::stdout().lock();
    if args.json {
        write_json(&mut out, &info)?;
    } else {
        info.print(&mut out)?;
        args.print_misfits(&mut out, &info)?;
    }
    let refused = info.misfits.iter().flatten().any(|misfit| misfit.refused);
    Ok(match (refused, is_suspect) {
        (true, _) => exit::FAILURE.into(),
        (false, true) => exit::LEFT_OUT.into(),
        (false, false) => ExitCode::SUCCESS,
    })
}

impl InfoArgs {
    fn misfits(&self, image: &Source, profile: &Profile) -> Result<Vec<MisfitJson>, CliError> {
        let image = self.image.tree_options(true).open_source(image);
        let found = image.map_err(CliError::failure)?.misfits(profile).map_err(|e| {
            let image = self.image.image.show();
            CliError::failure(format_args!("{image}: {}: {}", show(&e.path), e.error))
        })?;
        let json = |misfit: &Misfit| MisfitJson {
            refused: misfit.is_refused(),
            message: misfit.to_string(),
        };
        Ok(found.iter().map(json).collect())
    }

    fn print_misfits(&self, out: &mut impl Write, info: &Info) -> io::Result<()> {
        let (Some(profile), Some(misfits)) = (self.profile, &info.misfits) else { return Ok(()) };
        if misfits.is_empty() {
            writeln!(out, "{:<13} suits it", profile.name)?;
        }
        for MisfitJson { refused, message } in misfits {
            let verdict = if *refused { "refuses it" } else { "has trouble" };
            writeln!(out, "{:<13} {verdict}: {message}", profile.name)?;
        }
        Ok(())
    }
}

impl Info {
    /// The facts, and whether they may be wrong or outdated.
    fn gather(opened: &Opened) -> crate::Result<(Self, bool)> {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let mut fs = Fs::open(opened.device.clone(), &options)?;
        // for another dialect: the superblock as it is stored, not as it is shown
        let usage = fs.usage()?;
        let usage = opened.usage_as_stored()?.unwrap_or(usage);
        let (superblock, blocks_free) = match opened.dialect {
            Dialect::Littlefs => (fs.superblock(), usage.blocks_free),
            Dialect::V1 | Dialect::Chamelon => {
                let superblock = opened.superblock;
                (superblock, superblock.block_count.saturating_sub(usage.blocks_used))
            }
        };
        let counts = fs.counts()?;
        let is_suspect = !opened.suspicions.is_empty() || fs.suspect().is_some();
        let info = Self {
            dialect: opened.dialect.name(),
            disk_version: format!("{}.{}", superblock.version >> 16, superblock.version & 0xffff),
            block_size: superblock.block_size,
            block_count: superblock.block_count,
            blocks_used: usage.blocks_used,
            blocks_free,
            name_max: superblock.name_max,
            file_max: superblock.file_max,
            attr_max: superblock.attr_max,
            files: counts.files,
            directories: counts.directories,
            prog_size: (opened.dialect != Dialect::V1).then(|| fs.prog_size()),
            offset: opened.offset,
            image_size: opened.image_size,
            formats: opened.wrapped.iter().map(|kind| kind.name()).collect(),
            partition: opened.label.map(|label| label.to_string()),
            misfits: None,
            compacted_bytes: opened.compacted,
        };
        Ok((info, is_suspect))
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let size = |blocks| bytes(u64::from(blocks) * u64::from(self.block_size));
        if self.dialect != Dialect::Littlefs.name() {
            let dialect = self.dialect;
            writeln!(
                out,
                "dialect       {dialect} (mounts are read-only; 'littlefs convert --from \
                 {dialect}' converts it to littlefs version 2)"
            )?;
        }
        writeln!(out, "disk version  {}", self.disk_version)?;
        writeln!(
            out,
            "geometry      {} blocks of {} bytes ({})",
            self.block_count,
            self.block_size,
            size(self.block_count)
        )?;
        let blocks = |n: u32| format!("{} ({})", show::blocks(n), size(n));
        writeln!(out, "used          {}", blocks(self.blocks_used))?;
        writeln!(out, "free          {}", blocks(self.blocks_free))?;
        writeln!(out, "files         {}", self.files)?;
        writeln!(out, "directories   {}", self.directories)?;
        writeln!(
            out,
            "limits        names {}, files {}, attributes {}",
            show::bytes(self.name_max),
            show::bytes(self.file_max),
            show::bytes(self.attr_max)
        )?;
        if let Some(prog_size) = self.prog_size {
            writeln!(out, "prog size     {} (inferred)", show::bytes(prog_size))?;
        }
        if !self.formats.is_empty() {
            writeln!(out, "format        {} (read-only)", self.formats.join(", "))?;
        }
        writeln!(out, "offset        {}", self.offset)?;
        if let Some(partition) = &self.partition {
            writeln!(out, "partition     {partition}")?;
        }
        write!(out, "image size    {} bytes", self.image_size)?;
        match self.compacted_bytes {
            0 => writeln!(out),
            n => {
                writeln!(out, ", compacted: without {} of free blocks at the end", show::bytes(n))
            }
        }
    }
}

/// A size for people, in the largest unit in which it is at least 1.
pub(super) fn bytes(n: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let one = 1_u64 << shift;
        if n.is_multiple_of(one) && n > 0 {
            return format!("{} {unit}", n >> shift);
        }
        if n > one {
            return format!("{:.1} {unit}", n as f64 / one as f64);
        }
    }
    show::bytes(n)
}
