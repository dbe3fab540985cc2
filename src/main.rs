//! The `littlefs` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    littlefs::cli::main(std::env::args_os())
}
