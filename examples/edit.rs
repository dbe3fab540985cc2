//! Replaces text in a file of an image, either completely or not at all:
//! `cargo run --example edit -- IMAGE PATH OLD NEW`.

use littlefs::{Littlefs, Result};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, image, path, old, new] = &args[..] else { panic!("usage: edit IMAGE PATH OLD NEW") };
    let fs = Littlefs::open(image)?;
    let text = String::from_utf8(fs.read(path)?).expect("a file of text");
    fs.write(path, text.replace(old, new))?;
    println!("{path}: {} times", text.matches(old.as_str()).count());
    // Up to this point, the image is unchanged. `close` writes the new file to it.
    fs.close()
}
