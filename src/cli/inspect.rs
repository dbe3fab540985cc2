//! `littlefs inspect`: every tag, every pointer, and the meaning of every byte.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{CliError, ImageArgs, exit, parse_bytes_u32};
use crate::bd::Geometry;
use crate::disk::Pair;
use crate::image::{Blocks, Dialect, Opened, open_blocks};
use crate::inspect::{Inspector, Report};
use crate::show::Show;

/// Show the content of an image, tag by tag and block by block
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs inspect dump.bin superblock             every copy of the superblock
  littlefs inspect dump.bin pair 0,1               both halves of a metadata pair, side by side
  littlefs inspect dump.bin block 0x1f             what uses a block, and its content
  littlefs inspect dump.bin file etc/config.txt    where its content is, with all pointers
  littlefs inspect dump.bin dir etc                the pairs and entries of a directory
  littlefs inspect dump.bin tree                   all pairs and all entries
  littlefs inspect dump.bin gstate                 the global state, and the pairs that contribute
                                                   to it
  littlefs inspect dump.bin log etc/config.txt     what each commit did to an entry
  littlefs inspect --json dump.bin pair 0,1 | jq '.[0].halves[].commits[].tags[].name'
  littlefs inspect --raw dump.bin block 5 | xxd    the bytes themselves

Blocks are counted from the start of the filesystem, which may be inside IMAGE; 'block' also says at
which byte of IMAGE the block is. Tags have the names of littlefs's SPEC.md. If no superblock is
found in an image, give --block-size (and --dialect v1 if the image had version 1). docs/inspect.md
explains the output.

Exit status: 0, 1 if nothing could be shown, 2 if something that was shown is damaged.")]
pub struct InspectArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// What to show
    #[arg(value_name = "WHAT")]
    what: What,

    /// For 'pair' two block addresses (like 0,1 or 0x4,0x5), for 'block' one, for 'file', 'dir' and
    /// 'log' a path
    #[arg(value_name = "WHICH")]
    which: Option<OsString>,

    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,

    /// Write the bytes of the blocks themselves, one block after the other (not for 'tree' and
    /// 'gstate')
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// All copies of the superblock
    Superblock,
    /// Both halves of a metadata pair
    Pair,
    /// One block
    Block,
    /// A file, with the blocks of its content
    File,
    /// A directory, with its pairs
    Dir,
    /// All pairs and all entries
    Tree,
    /// The global state
    Gstate,
    /// The history of an entry
    Log,
}

/// Run the command.
///
/// # Errors
/// When the image cannot be opened, when it does not hold what was asked for, or when the output
/// cannot be written.
pub fn run(args: &InspectArgs) -> Result<ExitCode, CliError> {
    let inspector = open(&args.image)?;
    let failed = |e: &dyn Display| {
        let which =
            args.which.as_deref().map_or(String::new(), |which| format!("{}: ", which.show()));
        CliError::failure(format_args!("{}: {which}{e}", args.image.image.show()))
    };
    let which = args.which.as_deref().map(OsStrExt::as_bytes);
    let needed = |what: &str| which.ok_or_else(|| failed(&format_args!("give the {what} to show")));
    if matches!(args.what, What::Superblock | What::Tree | What::Gstate) && which.is_some() {
        return Err(failed(&"'superblock', 'tree' and 'gstate' take no further argument"));
    }
    let blocks;
    let damaged = match args.what {
        What::Superblock => {
            let report = match inspector.version1() {
                Some(version1) => version1.superblock(),
                None => inspector.superblock(),
            };
            blocks = report.copies.iter().map(|copy| copy.block).collect();
            args.print(&[report])?
        }
        What::Pair => {
            let pair = parse_pair(needed("blocks")?).map_err(|e| failed(&e))?;
            blocks = inspector.blocks_of_pair(pair).map_err(|e| failed(&e))?;
            match inspector.version1() {
                Some(version1) => args.print(&[version1.pair(pair).map_err(|e| failed(&e))?])?,
                None => args.print(&[inspector.pair(pair).map_err(|e| failed(&e))?])?,
            }
        }
        What::Block => {
            let block = parse_block(needed("block")?).map_err(|e| failed(&e))?;
            blocks = vec![block];
            args.print(&[inspector.block(block).map_err(|e| failed(&e))?])?
        }
        What::File => {
            let reports = inspector.file(needed("file")?).map_err(|e| failed(&e))?;
            let of = |report: &crate::inspect::FileReport| match report.blocks.is_empty() {
                true => vec![report.pair[0]],
                false => report.blocks.iter().rev().map(|block| block.block).collect(),
            };
            blocks = reports.iter().flat_map(of).collect();
            args.print(&reports)?
        }
        What::Dir => {
            let reports = inspector.dir(needed("directory")?).map_err(|e| failed(&e))?;
            blocks = reports.iter().flat_map(|dir| &dir.pairs).flat_map(|pair| pair.pair).collect();
            args.print(&reports)?
        }
        What::Log => {
            let path = needed("file or directory")?;
            let damaged;
            (blocks, damaged) = args.print_logs(&inspector, path, &failed)?;
            damaged
        }
        What::Tree | What::Gstate if args.raw => {
            return Err(failed(
                &"--raw is not possible for 'tree' and 'gstate', which are not in single blocks",
            ));
        }
        What::Tree => {
            blocks = Vec::new();
            args.print(&[inspector.tree()])?
        }
        What::Gstate if inspector.dialect() != Dialect::Littlefs => {
            return Err(failed(&without_gstate(inspector.dialect())));
        }
        What::Gstate => {
            blocks = Vec::new();
            args.print(&[inspector.gstate()])?
        }
    };
    if args.raw {
        write_raw(&inspector, blocks, &failed)?;
    }
    Ok(if damaged { exit::LEFT_OUT.into() } else { ExitCode::SUCCESS })
}

/// Write the blocks themselves to standard output.
fn write_raw(
    inspector: &Inspector,
    blocks: Vec<u32>,
    failed: &dyn Fn(&dyn Display) -> CliError,
) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    for block in blocks {
        let bytes = inspector
            .bytes(block)
            .map_err(|e| failed(&format_args!("block {block:#x} cannot be read: {}", e.source)))?;
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Why the dialect has no global state to show.
fn without_gstate(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V1 => {
            "littlefs of version 1 has no global state: entries that were being moved have a mark \
             of their own, which 'pair' shows"
        }
        _ => "chamelon keeps no global state",
    }
}

impl InspectArgs {
    /// Print the reports, unless --raw is given. Returns whether they show damage.
    fn print<R: Report + Serialize>(&self, reports: &[R]) -> Result<bool, CliError> {
        if self.json {
            super::print_json(&reports)?;
        } else if !self.raw {
            let mut out = io::BufWriter::new(io::stdout().lock());
            for (at, report) in reports.iter().enumerate() {
                write!(out, "{}{report}", if at > 0 { "\n" } else { "" })?;
            }
            out.flush()?;
        }
        Ok(reports.iter().any(Report::is_damaged))
    }

    /// Print the histories of the entries at `path`. Returns the blocks that hold them, and whether
    /// they show damage.
    fn print_logs(
        &self,
        inspector: &Inspector,
        path: &[u8],
        failed: &dyn Fn(&dyn Display) -> CliError,
    ) -> Result<(Vec<u32>, bool), CliError> {
        if let Some(version1) = inspector.version1() {
            let reports = version1.log(path).map_err(|e| failed(&e))?;
            let blocks = reports.iter().flat_map(|report| report.pair).collect();
            return Ok((blocks, self.print(&reports)?));
        }
        let reports = inspector.log(path).map_err(|e| failed(&e))?;
        let blocks = reports.iter().flat_map(|report| report.pair).collect();
        Ok((blocks, self.print(&reports)?))
    }
}

/// The blocks of the image. Without a superblock, the block size must be given.
fn open(args: &ImageArgs) -> Result<Inspector, CliError> {
    let mut found = args.find()?;
    let error = match found.open() {
        Ok(opened) => {
            let Opened { stored, dialect, superblock, offset, .. } = opened;
            let inspector = Inspector::of_dialect(stored, dialect, Some(superblock));
            return Ok(inspector.starting_at(offset));
        }
        Err(e) => e,
    };
    if args.block_size.is_none() || args.journal.is_some() {
        return Err(error);
    }
    let blocks = open_blocks(&found.image, &args.options(true), &|_, _| None);
    let Ok(Blocks { device, offset, notes, .. }) = blocks else { return Err(error) };
    for note in notes {
        log::warn!("{note}");
    }
    let Geometry { block_size, block_count } = device.geometry();
    log::warn!("{error}; shown as {block_count} blocks of {block_size} bytes");
    let dialect = args.dialect.0.unwrap_or(Dialect::Littlefs);
    Ok(Inspector::of_dialect(device, dialect, None).starting_at(offset))
}

fn parse_block(text: &[u8]) -> Result<u32, String> {
    let text = String::from_utf8_lossy(text);
    parse_bytes_u32(&text).map_err(|_| "is not the address of a block (like 5 or 0x5)".to_owned())
}

fn parse_pair(text: &[u8]) -> Result<Pair, String> {
    let wrong = || "is not two addresses of blocks (like 0,1 or 0x4,0x5)".to_owned();
    let mut parts = text.split(|&b| b == b',').map(parse_block);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(a)), Some(Ok(b)), None) => Ok(Pair([a, b])),
        _ => Err(wrong()),
    }
}
