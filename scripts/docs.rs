//! Writes man pages and shell completions.
//!
//! usage: littlefs-docs DIRECTORY

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use littlefs::cli::options;

mod completions;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: littlefs-docs DIRECTORY");
        return ExitCode::FAILURE;
    };
    match write_all(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("littlefs-docs: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Write `man1/littlefs.1`, `man1/littlefs-mount.1`..., `man8/mount.littlefs.8`... and
/// `completions/...` into a directory.
///
/// # Errors
/// The errors of the system.
pub fn write_all(directory: &Path) -> io::Result<()> {
    let mut commands = littlefs::cli::command_lines().into_iter();
    let Some(mut program) = commands.next() else { return Ok(()) };
    let written = made(directory, "completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut program, "littlefs", &written)?;
        let text = fs::read_to_string(&path)?;
        let text = match shell {
            Shell::Bash => completions::bash(&text).map_err(io::Error::other)?,
            Shell::Zsh => completions::zsh(&text).map_err(io::Error::other)?,
            _ => completions::fish(&text),
        };
        fs::write(path, text)?;
    }
    let man1 = made(directory, "man1")?;
    program.build();
    for sub in program.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let name = format!("littlefs-{}", sub.get_name());
        // the subcommands of `littlefs journal` and similar commands have pages, too
        for inner in sub.get_subcommands().filter(|c| c.get_name() != "help") {
            let called = format!("littlefs {} {}", sub.get_name(), inner.get_name());
            let page = format!("{name}-{}", inner.get_name());
            man_page(inner.clone().bin_name(called), &page, "1", &man1)?;
        }
        man_page(sub.clone().bin_name(format!("littlefs {}", sub.get_name())), &name, "1", &man1)?;
    }
    man_page(program, "littlefs", "1", &man1)?;
    let man8 = made(directory, "man8")?;
    for helper in commands {
        let name = helper.get_name().to_owned();
        man_page(helper, &name, "8", &man8)?;
    }
    Ok(())
}

fn made(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    fs::create_dir_all(&path).map(|()| path)
}

fn man_page(command: Command, name: &str, section: &str, directory: &Path) -> io::Result<()> {
    let extra = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let name_static: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let command = command.name(name_static).disable_help_subcommand(true);
    let man = Man::new(command)
        .section(section)
        .source(concat!("littlefs-progs ", env!("CARGO_PKG_VERSION")))
        .manual("littlefs-progs");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    // The options of -o get a section of their own.
    let table = options::help();
    let (extra, rest) = extra.split_once(&table).map_or((&*extra, None), |(a, b)| (a, Some(b)));
    extra_sections(extra).to_writer(&mut page)?;
    if let Some(rest) = rest {
        mount_options().to_writer(&mut page)?;
        extra_sections(rest).to_writer(&mut page)?;
    }
    fs::write(directory.join(format!("{name}.{section}")), page)
}

/// The sections for the text after the help. If a paragraph begins with a line like `Examples:`,
/// this line becomes its heading. Indented lines keep their line breaks.
fn extra_sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut headed = false;
    for paragraph in text.split("\n\n").map(|p| p.trim_matches('\n')).filter(|p| !p.is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let heading = first.strip_suffix(':').filter(|_| rest.starts_with(' '));
        let body = match heading {
            Some(heading) => {
                roff.control("SH", [&*heading.to_uppercase()]);
                rest
            }
            None if headed => {
                roff.control("PP", []);
                paragraph
            }
            None => {
                roff.control("SH", ["NOTES"]);
                paragraph
            }
        };
        headed = true;
        let mut shaped = false;
        for line in body.lines() {
            if line.starts_with(' ') != shaped {
                shaped = !shaped;
                roff.control(if shaped { "nf" } else { "fi" }, []);
            }
            roff.text([roman(line)]);
        }
        if shaped {
            roff.control("fi", []);
        }
    }
    roff
}

fn mount_options() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["MOUNT OPTIONS"]);
    roff.text([roman("The options that -o takes, separated by commas.")]);
    for group in options::table::GROUPS {
        roff.control("SS", [group.title]);
        for item in group.items {
            roff.control("TP", []);
            roff.text([bold(item.label())]);
            roff.text([roman(item.help)]);
        }
    }
    roff.control("PP", []);
    roff
}
