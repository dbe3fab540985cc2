//! `littlefs verify`: check whether a dump that was read back holds the image that was flashed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{CliError, ImageArgs, exit, of_input, parse_place, print_json, source};
use crate::image;
use crate::map::{self, BlockDifference, Difference, DifferenceKind, Verdict};
use crate::show::{self, Show};

/// How many blocks are listed for a path.
const BLOCKS_SHOWN: usize = 8;

/// Compare the image that was flashed with a dump that was read back
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs verify new.img dump.bin                does the flash, read back as dump.bin, match?
  littlefs verify new.img --dump-offset 0x290000 flash.bin
                                                  the dump is of the whole flash
  littlefs verify new.img --dump-partition storage flash.bin
  littlefs verify --json new.img dump.bin | jq -r '.differences[].path'

Every block that the filesystem of IMAGE uses is compared with the same block of DUMP. Free blocks,
the rest of a file's last block, the bytes after the last commit of a metadata block, and the block
of each metadata pair that holds its older state are not compared, because flashing tools may leave
them out or erase them. For each path that differs, a line is printed with the blocks, counted from
the start of the filesystem, and the first byte that differs, counted from the start of DUMP. If the
device has run since it was flashed, it may have written to its filesystem: then 'littlefs diff
IMAGE DUMP' shows which files are different.

Exit status: 0 if the dump matches the image, 1 if something differs, 2 if they cannot be compared,
or if the result may be wrong or outdated, because an image, or the file that contains it, is
damaged.")]
pub struct VerifyArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// The dump that was read back, of the filesystem alone or of the whole flash, in any format
    /// that IMAGE may have; '-' is standard input
    dump: PathBuf,

    /// Byte of DUMP at which the filesystem starts (0x for hexadecimal; K, M and G multiply by
    /// 1024); auto (default): 0, or else the place of the only filesystem that is found
    #[arg(long, value_name = "BYTES", value_parser = parse_place,
          conflicts_with = "dump_partition")]
    dump_offset: Option<image::Place>,

    /// Use the partition of this name in DUMP, or the filesystem with this number
    #[arg(long, value_name = "NAME|N", value_parser = image::Place::partition)]
    dump_partition: Option<image::Place>,

    /// Page and spare bytes, like 2048+64, if DUMP is a dump of NAND flash with spare bytes
    /// [default: recognised automatically]
    #[arg(long, value_name = "PAGE", value_parser = image::Page::parse)]
    dump_page: Option<image::Page>,

    /// Print nothing; the exit status is the answer
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    same: bool,
    block_size: u32,
    block_count: u32,
    blocks_used: u32,
    bytes_compared: u64,
    dump_offset: u64,
    differences: &'a [Difference],
}

/// Run the command.
///
/// # Errors
/// When one of the two cannot be read, or the image is damaged.
pub fn run(args: &VerifyArgs) -> Result<ExitCode, CliError> {
    compare(args).map_err(|e| e.with_code(exit::DIFF_TROUBLE))
}

fn compare(args: &VerifyArgs) -> Result<ExitCode, CliError> {
    let stdin = Path::new("-");
    if args.dump == stdin && args.image.image == stdin {
        return Err(CliError::failure("standard input can be read only once"));
    }
    let image = args.image.open()?;
    let shown = image.path.show().to_string();
    let geometry = image.stored.geometry();
    let options = image::Options {
        place: args.dump_partition.or(args.dump_offset).unwrap_or(image::Place::Auto),
        page: args.dump_page,
        unpack_limit: args.image.unpack_limit,
        read_only: true,
        ..image::Options::default()
    };
    let source = source(&args.dump, args.image.unpack_limit).map_err(of_input);
    let source = source.map_err(CliError::failure)?;
    let dump = image::blocks_at(&source, &options, geometry).map_err(CliError::failure)?;
    let dump_offset = dump.offset;
    let end = (dump.missing > 0).then(|| dump_offset + geometry.size() - dump.missing);
    for note in &dump.notes {
        log::warn!("{note}");
    }
    let verdict =
        map::verify_dialect(image.dialect, Some(image.superblock), &*image.stored, &*dump.device)
            .map_err(|e| CliError::failure(format_args!("{shown}: {e}")))?;
    let same = verdict.differences.is_empty();
    if args.json {
        print_json(&Output {
            same,
            block_size: geometry.block_size,
            block_count: geometry.block_count,
            blocks_used: verdict.blocks,
            bytes_compared: verdict.bytes,
            dump_offset,
            differences: &verdict.differences,
        })?;
    } else if !args.quiet {
        report(&verdict, dump_offset, geometry.block_size, end)?;
    }
    Ok(match (!image.suspicions.is_empty() || dump.incomplete, same) {
        (true, _) => exit::DIFF_TROUBLE.into(),
        (false, false) => exit::DIFF_DIFFERENT.into(),
        (false, true) => ExitCode::SUCCESS,
    })
}

/// Print what differs. `end` is the byte at which a truncated dump ends.
fn report(verdict: &Verdict, offset: u64, block_size: u32, end: Option<u64>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Verdict { blocks, bytes, differences } = verdict;
    if differences.is_empty() {
        let blocks = show::count(*blocks, "used block", "used blocks");
        return writeln!(out, "same: {} in {blocks}", show::bytes(*bytes));
    }
    for Difference { path, kind, blocks } in differences {
        let what = match kind {
            DifferenceKind::Content => "its content differs",
            DifferenceKind::Entry => "its entry differs",
            DifferenceKind::Missing => "only in the image",
            DifferenceKind::Added => "only in the dump",
            DifferenceKind::Rewritten => "its directory was written again, with the same entries",
            DifferenceKind::Lost => "its directory cannot be read in the dump",
        };
        let places: Vec<String> =
            blocks.iter().take(BLOCKS_SHOWN).map(|b| place(b, offset, block_size, end)).collect();
        let more = match blocks.len().saturating_sub(BLOCKS_SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        writeln!(out, "{}: {what}: {}{more}", path.show(), places.join("; "))?;
    }
    Ok(())
}

fn place(difference: &BlockDifference, offset: u64, block_size: u32, end: Option<u64>) -> String {
    let BlockDifference { block, offset: first, .. } = *difference;
    let at = offset + u64::from(block) * u64::from(block_size) + u64::from(first);
    match end {
        Some(end) if at == end && first > 0 => {
            format!("block {block:#x}, in which the dump ends at byte {end:#x}")
        }
        Some(end) if at >= end => format!("block {block:#x}, which the dump lacks"),
        _ => format!("block {block:#x}, from byte {at:#x} of the dump on"),
    }
}
