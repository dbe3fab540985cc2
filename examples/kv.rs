//! Counts its own starts in an image that is used as a key-value store:
//! `cargo run --example kv -- IMAGE`.

use littlefs::kv::{Error, Key, Options, Result, Store};

fn main() -> Result<()> {
    let image = std::env::args_os().nth(1).expect("usage: kv IMAGE");
    let opened = littlefs::image::open(image.as_ref(), &littlefs::image::Options::default())
        .unwrap_or_else(|e| panic!("{e}"));
    let store = Store::connect(opened.device, &Options::default())?;
    let count = Key::new("starts/count")?;
    let last = Key::new("starts/last")?;
    // Whatever interrupts this, either both values change or neither does.
    let starts = store.batch(|batch| {
        let starts = match batch.get(&count) {
            Ok(text) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            Err(Error::NotFound(_)) => 0,
            Err(e) => return Err(e),
        } + 1;
        batch.set(&count, starts.to_string().as_bytes())?;
        batch.set(&last, format!("process {}", std::process::id()).as_bytes())?;
        Ok(starts)
    })?;
    println!("started {starts} times");
    store.disconnect()
}
