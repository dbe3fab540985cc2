//! Writes man pages and shell completions.
//!
//! usage: littlefs-docs DIRECTORY

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

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

/// `man1/littlefs.1`, `man1/littlefs-mount.1`..., `man8/mount.littlefs.8`..., `completions/...`
fn write_all(directory: &Path) -> io::Result<()> {
    let mut commands = littlefs::cli::command_lines().into_iter();
    let Some(mut program) = commands.next() else { return Ok(()) };
    let completions = made(directory, "completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut program, "littlefs", &completions)?;
    }
    let man1 = made(directory, "man1")?;
    program.build();
    for sub in program.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let name = format!("littlefs-{}", sub.get_name());
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
    let name_static: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let version = env!("CARGO_PKG_VERSION");
    let command = command.name(name_static).version(version).disable_help_subcommand(true);
    let mut page = Vec::new();
    clap_mangen::Man::new(command).section(section).render(&mut page)?;
    fs::write(directory.join(format!("{name}.{section}")), page)
}
