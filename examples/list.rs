//! Lists everything in an image, with sizes: `cargo run --example list -- IMAGE`.

use littlefs::{OpenOptions, Result};

fn main() -> Result<()> {
    let image = std::env::args_os().nth(1).expect("usage: list IMAGE");
    let fs = OpenOptions::new().read_only(true).open(image)?;
    for entry in fs.walk("/")? {
        // If something is damaged, the error says where it is, and the walk goes on.
        match entry {
            Ok(entry) => {
                let slash = if entry.metadata().is_dir() { "/" } else { "" };
                let path = String::from_utf8_lossy(entry.path());
                println!("{:>10} {path}{slash}", entry.metadata().len());
            }
            Err(e) => eprintln!("{e}"),
        }
    }
    let usage = fs.usage()?;
    println!("{} of {} blocks are free", usage.blocks_free, usage.blocks);
    Ok(())
}
