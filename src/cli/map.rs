//! `littlefs map`: the use of every block of an image.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use console::{Style, Term};
use serde::Serialize;

use super::output::{Replaced, Target};
use super::{CliError, ImageArgs, exit, json, of_input, quoted};
use crate::bd::BlockDevice;
use crate::image::{self, Opened};
use crate::inspect::Problem;
use crate::inspect::survey::Survey;
use crate::map::{self, Class, Map, Run, Summary};
use crate::show::Show;
use crate::sys;

/// The columns of a text map if the width of the terminal is unknown.
const COLUMNS: usize = 64;
/// The columns for the addresses to the left of the map.
const MARGIN: usize = 12;
/// Rows of a text map.
const ROWS: usize = 32;

/// Show what each block of an image is used for
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs map dump.bin                        in the terminal, with a legend and figures
  littlefs map -o dump.html dump.bin           a page for a browser, in a single file
  littlefs map -o dump.svg dump.bin            a picture
  littlefs map before.bin after.bin            mark the blocks in which two images differ
  littlefs map --journal j --at 3 dump.bin dump.bin
                                               what a journal changed, up to its transaction 3
  littlefs map --json dump.bin | jq .free.histogram

Free blocks are also read, to find out which of them are erased. Terminals show colours, unless
NO_COLOR is set. docs/map.md explains the map. The file of -o gets its name when it is complete. If
it exists, it is overwritten only with --force.

Exit status: 0, 1 if no map could be made, 2 if the map shows damage, or may be wrong or outdated,
because the image, or the file that contains it, is damaged.")]
pub struct MapArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// A second image: mark the blocks that differ from it
    #[arg(value_name = "IMAGE2")]
    other: Option<PathBuf>,

    /// Write the map to this file instead of standard output ('-')
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite FILE if it exists
    #[arg(long)]
    force: bool,

    /// The form of the map [default: by the extension of FILE, else text]
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,

    /// The same as --format json
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Characters with a legend
    Text,
    /// An interactive page for a browser, in a single file
    Html,
    /// A picture
    Svg,
    /// One object
    Json,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    summary: Summary,
    runs: Vec<Run>,
    problems: &'a [Problem],
}

/// Run the command.
///
/// # Errors
/// When an image cannot be opened or has too many blocks, or the map cannot be written.
pub fn run(args: &MapArgs) -> Result<ExitCode, CliError> {
    let format = args.format()?;
    if format == Format::Json {
        json::request();
    }
    let target = args.target()?;
    let opened = args.image.open()?;
    let mut map = make(&opened)?;
    let compare = |path| args.compare(&opened, &mut map, path, format);
    let other = args.other.as_deref().map(compare).transpose()?;
    let text = match format {
        Format::Html => args.page(&map, other.as_ref())?,
        Format::Svg => map::svg(&map),
        Format::Json => {
            let output =
                Output { summary: map.summary(), runs: map.runs(), problems: &map.survey.problems };
            serde_json::to_string_pretty(&output).map_err(io::Error::from)? + "\n"
        }
        Format::Text => {
            let width = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
            let columns = width.map_or(COLUMNS, |width| width.saturating_sub(MARGIN));
            let coloured = args.output.is_none()
                && io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            map::text(&map, columns, ROWS, |class, changed, text| match coloured {
                true => style(class, changed).apply_to(text).to_string(),
                false => text.to_owned(),
            })
        }
    };
    match &target {
        Some(target) => {
            let begun = target.begin()?;
            begun.file().write_all(text.as_bytes()).map_err(|e| begun.failed(e))?;
            begun.finish()?;
        }
        None => io::stdout().write_all(text.as_bytes())?,
    }
    if !map.summary().damaged && opened.suspicions.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // whoever does not see the map at once would see only the exit status
    if target.is_some() || matches!(format, Format::Html | Format::Svg) {
        let image = args.image.image.show();
        log::warn!(
            "{image}: is damaged; the map shows where, and 'littlefs check' says what it is"
        );
    }
    Ok(exit::LEFT_OUT.into())
}

impl MapArgs {
    /// The file for the map, if it does not go to standard output.
    fn target(&self) -> Result<Option<Target<'_>>, CliError> {
        let Some(output) = &self.output else { return Ok(None) };
        let other = self.other.as_deref().and_then(|other| sys::identity(other).ok());
        let [image, journal] = self.image.inputs();
        let replaced = Replaced::ByForce(self.force);
        Target::find(output, replaced, &[image, journal, other]).map(Some)
    }

    /// Mark the blocks in which a second image differs. Returns the map of that image, which only a
    /// page shows.
    fn compare(
        &self,
        opened: &Opened,
        map: &mut Map,
        path: &Path,
        format: Format,
    ) -> Result<Map, CliError> {
        let options = image::Options {
            place: image::Place::Auto,
            read_only: true,
            ..image::Options::default()
        };
        let other = image::open(path, &options).map_err(of_input).map_err(CliError::failure)?;
        let mut there = make(&other)?;
        let failed = |e: String| CliError::failure(format_args!("{}: {e}", path.show()));
        map.compare(&*opened.stored, &there, &*other.stored).map_err(failed)?;
        if format == Format::Html {
            there.compare(&*other.stored, map, &*opened.stored).map_err(failed)?;
        }
        Ok(there)
    }

    fn page(&self, map: &Map, other: Option<&Map>) -> Result<String, CliError> {
        let labels = |label, path: &Path, words: &str| map::Labels {
            label,
            title: path.file_name().unwrap_or(path.as_os_str()).show().to_string(),
            command: format!("littlefs inspect {words}"),
        };
        let mut maps = vec![(map, labels("A", &self.image.image, &self.image.in_shell()))];
        if let (Some(other), Some(path)) = (other, &self.other) {
            maps.push((other, labels("B", path, &format!("{} ", quoted(path)))));
        }
        map::html(&maps)
            .map_err(|e| CliError::failure(format_args!("{}: {e}", self.image.image.show())))
    }

    /// The form of the map.
    ///
    /// # Errors
    /// If the extension of the output file belongs to another form, such as png.
    fn format(&self) -> Result<Format, CliError> {
        if self.json {
            return Ok(Format::Json);
        }
        let end = self.output.as_deref().and_then(Path::extension);
        let Some((path, end)) = self.output.as_deref().zip(end).filter(|_| self.format.is_none())
        else {
            return Ok(self.format.unwrap_or(Format::Text));
        };
        match end.to_str() {
            Some("html" | "htm") => Ok(Format::Html),
            Some("json") => Ok(Format::Json),
            Some("svg") => Ok(Format::Svg),
            Some("txt") => Ok(Format::Text),
            _ => Err(CliError::failure(format_args!(
                "{}: the extension does not tell the form of the map: use .html, .svg, .json or \
                 .txt, or give --format",
                path.show()
            ))),
        }
    }
}

fn make(opened: &Opened) -> Result<Map, CliError> {
    let geometry = opened.stored.geometry();
    let there = geometry.size().saturating_sub(opened.missing);
    let present = u32::try_from(there / u64::from(geometry.block_size)).unwrap_or(u32::MAX);
    let survey =
        |dev: &dyn BlockDevice| Survey::of_dialect(dev, opened.dialect, Some(opened.superblock));
    Map::with_survey(&*opened.stored, present, survey)
        .map_err(|e| CliError::failure(format_args!("{}: {e}", opened.path.show())))
}

/// The colours of the map in a terminal; blocks that differ from the second image are reversed.
fn style(class: Class, changed: bool) -> Style {
    let style = Style::new().force_styling(true);
    let style = match class {
        Class::Erased => style.black().bright(),
        Class::Written => style.white(),
        Class::Stale => style.magenta(),
        Class::Data => style.blue().bright(),
        Class::Other => style.green(),
        Class::Live => style.green().bright(),
        Class::SuperblockOther => style.yellow(),
        Class::SuperblockLive => style.yellow().bright(),
        Class::Unreachable => style.magenta().bright(),
        Class::Shared | Class::Bad => style.red().bright(),
    };
    if changed { style.reverse() } else { style }
}
