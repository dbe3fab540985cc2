//! Makes an image of a directory: `cargo run --example build -- DIR IMAGE SIZE_IN_BYTES`.

use std::error::Error;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use littlefs::Littlefs;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, image, size] = &args[..] else { panic!("usage: build DIR IMAGE SIZE_IN_BYTES") };
    let new = Littlefs::create(image, size.parse()?)?;
    add(&new, Path::new(dir), b"")?;
    let usage = new.usage()?;
    new.close()?;
    println!("{image}: {} of {} blocks used", usage.blocks_used, usage.blocks);
    Ok(())
}

/// Copy everything in the directory `from` to the directory `to` of the image.
fn add(new: &Littlefs, from: &Path, to: &[u8]) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let path = [to, b"/", entry.file_name().as_bytes()].concat();
        if entry.file_type()?.is_dir() {
            new.create_dir(&path)?;
            add(new, &entry.path(), &path)?;
        } else {
            new.write(&path, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
