//! `littlefs clone`: a compacted copy of an image.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, Args};

use super::create::{SizeArg, failed, of_bytes, parse_size, report};
use super::output::{check_is_file, not_stdio};
use super::progress::Progress;
use super::shape::{ShapeArgs, as_in_image};
use super::{CliError, ImageArgs};
use crate::profile::Profile;
use crate::transfer::{self, Cloning, Failure, Original, Size};

/// Make a compacted copy of an image, which can have another size, block size or version
#[derive(Args, Debug)]
#[command(mut_args(of_clone))]
#[command(after_help = "\
Examples:
  littlefs clone dump.bin copy.img                    the same filesystem, compacted
  littlefs clone --size min dump.bin small.img        as small as possible
  littlefs clone --size 4M --block-size 8K dump.bin large.img
                                                      with another size, and larger blocks
  littlefs clone --profile esp-idf dump.bin fs.bin    for another family of devices
  littlefs clone --partition spiffs flash.bin fs.img  a filesystem inside a flash dump

The copy has all files and directories, with all their user attributes, even those that are unknown
to this program. Everything else is new: revisions start from the beginning, content that was
overwritten or removed is not copied, and an interrupted operation appears as finished or as not
begun. Size, block size, version and limits are those of IMAGE unless you give others. A copy of an
image of version 1 also has version 1; --disk-version 2.1 makes a copy of version 2, as 'littlefs
convert' does.

The copy is written to a temporary file beside OUT, read back, compared with IMAGE and checked, and
only then gets its name. It belongs to the owner of IMAGE, and only those who can read IMAGE can
read it. A damaged image is refused, and so is one in a damaged UF2, hex or DFU file. The same image
makes the same bytes.

Exit status: 0, or 1 if it failed; then nothing was written.")]
pub struct CloneArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// File to make
    #[arg(value_parser = not_stdio())]
    out: PathBuf,

    /// Size of the copy: a multiple of its block size, like 65536, 512K or 1M; 'min' is the
    /// smallest size that holds everything [default: that of IMAGE]
    #[arg(long, value_name = "BYTES|min", value_parser = parse_size)]
    size: Option<SizeArg>,

    #[command(flatten)]
    shape: ShapeArgs,

    /// Fail if devices of this family would refuse the image (--profile only warns)
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    check_profile: Option<&'static Profile>,

    /// Overwrite OUT
    #[arg(long)]
    force: bool,

    /// Do not print what was made
    #[arg(short, long)]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Adapt a shared option to this command.
fn of_clone(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        // in this command, --block-size means the block size of the copy
        "image_block_size" => arg.long("image-block-size"),
        "block_size" | "disk_version" | "name_max" | "file_max" | "attr_max" => as_in_image(arg),
        _ => arg,
    }
}

/// Run the command.
///
/// # Errors
/// When IMAGE is damaged or cannot be read, or the copy does not fit or cannot be written.
pub fn run(args: &CloneArgs) -> Result<ExitCode, CliError> {
    check_is_file(&args.out)?;
    let of_image = |e| failed(&args.image.image, e);
    let original = Original::new(&args.image.open()?).map_err(of_image)?;
    let manifest = original.manifest().map_err(of_image)?;
    let format = args.shape.options();
    let size = match args.size {
        None => None,
        Some(SizeArg::Min) => Some(Size::Least { free: 0 }),
        Some(SizeArg::Bytes(bytes)) => Some(of_bytes(&original.format(&format), bytes)?),
    };
    let how = Cloning { format, size, check: args.check_profile };
    let bar = Progress::new("cloning", manifest.bytes(), args.quiet);
    let cloned = transfer::clone(&original, &manifest, &args.out, args.force, &how, &|b| bar.at(b));
    drop(bar);
    let cloned = cloned.map_err(|e| match e {
        Failure::Source(_) | Failure::Unreadable(..) => of_image(e),
        e => failed(&args.out, e),
    })?;
    report(&args.out, &cloned, args.quiet, args.json)?;
    Ok(ExitCode::SUCCESS)
}
