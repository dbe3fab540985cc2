//! `littlefs bench`: a short self-test of speed, for bug reports.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{CliError, exit, info, print_json};
use crate::bd::Geometry;
use crate::bench::{self, Environment, Step};
use crate::image::{self, Dialect, Place, Source};
use crate::show::Show;
use crate::sys::Signals;

/// Measure the speed for a bug report, and show what the speed depends on
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  littlefs bench dump.bin                an image, without a mount
  littlefs bench /mnt                    a mounted image, or any other directory
  littlefs bench --json dump.bin > bench.json

IMAGE is only read: writes go to a temporary copy in TMPDIR. For DIR, the test makes a directory
'littlefs-bench-' with a number in it, and removes it at the end, even if it is interrupted.
Everything that is written is read back and compared. The test takes some seconds. Its output names
no files, users or machines. Figures from a busy machine mean little: look at its load.

Exit status: 0, 1 if nothing could be measured, 2 if something was left out, 128+N if signal N ended
it.")]
pub struct BenchArgs {
    /// File or block device that holds a filesystem, or a directory
    #[arg(value_name = "IMAGE|DIR")]
    target: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Output {
    environment: Environment,
    target: Target,
    /// For an image: opening and reading it.
    reading: Vec<Step>,
    /// Writing to a copy of the image, or in the directory.
    writing: Vec<Step>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Target {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_count: Option<u32>,
    /// Type and options of the filesystem that it is on.
    filesystem: Option<String>,
    /// Type and options of the filesystem that the temporary copy is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_filesystem: Option<String>,
}

/// Run the command.
///
/// # Errors
/// If the image cannot be opened or read, or the directory cannot be written.
pub fn run(args: &BenchArgs) -> Result<ExitCode, CliError> {
    let signals = Signals::block_these(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
    let signals = signals.map_err(CliError::failure)?;
    let caught = Cell::new(None);
    let interrupt = || {
        if caught.get().is_none() {
            caught.set(signals.pending());
        }
        match caught.get() {
            None => Ok(()),
            Some(_) => Err(io::Error::other("interrupted")),
        }
    };
    let path = args.target.show();
    let measured = match args.target.is_dir() {
        true => directory(&args.target, &interrupt),
        false => image(&args.target, &interrupt),
    };
    let output = measured.map_err(|e| match caught.get() {
        Some(signal) => {
            let code = u8::try_from(128 + signal).unwrap_or(exit::FAILURE);
            CliError::new(code, format_args!("{path}: interrupted by signal {signal}"))
        }
        None => e,
    })?;
    if args.json {
        print_json(&output)?;
    } else {
        io::stdout().write_all(text(&output).as_bytes())?;
    }
    Ok(if output.notes.is_empty() { ExitCode::SUCCESS } else { exit::LEFT_OUT.into() })
}

fn directory(dir: &Path, interrupt: bench::Interrupt<'_>) -> Result<Output, CliError> {
    let writing = bench::in_directory(dir, interrupt).map_err(|e| CliError::of_file(dir, &e))?;
    let target = Target {
        kind: "directory",
        dialect: None,
        block_size: None,
        block_count: None,
        filesystem: bench::filesystem_of(dir),
        copy_filesystem: None,
    };
    let environment = Environment::here();
    Ok(Output { environment, target, reading: Vec::new(), writing, notes: Vec::new() })
}

fn image(path: &Path, interrupt: bench::Interrupt<'_>) -> Result<Output, CliError> {
    let failed =
        |e: &dyn std::fmt::Display| CliError::failure(format_args!("{}: {e}", path.show()));
    let source = Source::find(path).map_err(CliError::failure)?;
    let options = image::Options { read_only: true, place: Place::Auto, ..Default::default() };
    let opened = image::open_found(&source, &options).map_err(CliError::failure)?;
    let Geometry { block_size, block_count } = opened.stored.geometry();
    let target = Target {
        kind: if opened.wrapped.is_empty() { "image" } else { "wrapped image" },
        dialect: Some(opened.dialect.name()),
        block_size: Some(block_size),
        block_count: Some(block_count),
        filesystem: bench::filesystem_of(path),
        copy_filesystem: bench::filesystem_of(&std::env::temp_dir()),
    };
    let open = || {
        let options = crate::OpenOptions::new().read_only(true).place(Place::Auto);
        Ok(options.open_source(&source)?)
    };
    let reading = bench::reading(&open, interrupt).map_err(|e| failed(&e))?;
    let mut notes = Vec::new();
    let mut writing = Vec::new();
    if opened.dialect != Dialect::Littlefs || opened.missing > 0 {
        notes.push("writing was not measured: the image can only be read".to_owned());
    } else {
        match bench::in_copy(&*opened.device, interrupt) {
            Ok(steps) => writing = steps,
            Err(e) => {
                // an interruption is not a failure of the step
                interrupt().map_err(|e| failed(&e))?;
                notes.push(format!("writing to a copy failed: {e}"));
            }
        }
    }
    let environment = Environment::here();
    Ok(Output { environment, target, reading, writing, notes })
}

fn text(output: &Output) -> String {
    let Output { environment, target, reading, writing, notes } = output;
    let mut out = String::new();
    // writing to a string does not fail
    let mut line = |text: std::fmt::Arguments<'_>| _ = writeln!(out, "{text}");
    let build = if environment.optimised { "" } else { " (not optimised)" };
    line(format_args!(
        "littlefs-progs {}{build}, Linux {}",
        environment.version, environment.kernel
    ));
    line(format_args!(
        "{}, {} processors, {} of memory, load {:.1}",
        environment.processor,
        environment.processors,
        info::bytes(environment.memory),
        environment.load
    ));
    let filesystem = |name: &Option<String>| name.clone().unwrap_or("an unknown filesystem".into());
    match (target.block_size, target.block_count) {
        (Some(size), Some(count)) => line(format_args!(
            "{} of {count} blocks of {size} bytes ({}), on {}; copy on {}",
            target.kind,
            target.dialect.unwrap_or_default(),
            filesystem(&target.filesystem),
            filesystem(&target.copy_filesystem)
        )),
        _ => line(format_args!("{} on {}", target.kind, filesystem(&target.filesystem))),
    }
    for (title, steps) in [("reading", reading), ("writing", writing)] {
        if steps.is_empty() {
            continue;
        }
        line(format_args!(
            "\n{title:<20} {:>10} {:>10} {:>12} {:>10}",
            "times", "ms", "per second", "MiB/s"
        ));
        for step in steps {
            let throughput = match step.bytes {
                0 => String::new(),
                _ => format!("{:.2}", step.throughput() / f64::from(1 << 20)),
            };
            let row = format!(
                "{:<20} {:>10} {:>10.1} {:>12.0} {throughput:>10}",
                step.name,
                step.operations,
                step.seconds * 1e3,
                step.rate()
            );
            line(format_args!("{}", row.trim_end()));
        }
    }
    for note in notes {
        line(format_args!("\n{note}"));
    }
    out
}
