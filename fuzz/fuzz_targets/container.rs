//! Recognises, unpacks and searches any file, and packs the unpacked bytes again: the file must not
//! change. The first byte chooses the parser, or lets the content of the file decide.
#![no_main]

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use littlefs::container::{Page, ReadAt, Survey, nand, unwrap, wrap};
use littlefs::image::{self, Kind, Options, Place, Source};
use littlefs_fuzz::PARSERS;

/// How many bytes are unpacked at most.
const LIMIT: u64 = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&selector, data)) = data.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file takes bytes");
    match PARSERS.get(usize::from(selector)) {
        Some(&kind) => parse(file.path(), kind, data),
        None => open(file.path(), data),
    }
    assert!(fs::read(file.path()).expect("read") == data, "the file was changed");
});

/// Open the file as every command does, and search it as `scan` does.
fn open(path: &Path, data: &[u8]) {
    let _ = Survey::new(&data, u64::MAX);
    let _ = nand::recognise(&data);
    for page in [None, Some(Page { data: 512, spare: 16 })] {
        let options =
            |place| Options { place, page, unpack_limit: Some(LIMIT), ..Options::default() };
        let source = Source::find(path).expect("a file");
        let _ = image::scan(&source, &options(Place::Auto));
        let label = Place::partition("spiffs").expect("a name");
        for place in [Place::Auto, Place::At(0), Place::At(88), label] {
            let _ = image::open(path, &options(place));
        }
    }
}

/// Read the file as one format. Unpacking and packing again must change nothing.
fn parse(path: &Path, kind: Kind, data: &[u8]) {
    let file = Arc::new(File::open(path).expect("open"));
    let Ok(unwrapped) = unwrap::unwrap(&file, kind, LIMIT) else { return };
    let size = unwrapped.bytes.size().expect("a size");
    let _ = unwrapped.bytes.read_up_to(size / 2, &mut [0; 4096]);
    let is_damaged = unwrapped.remarks.damage.is_some();
    if !kind.can_be_made() || size > LIMIT || unwrapped.kinds.len() > 1 || is_damaged {
        return;
    }
    let mut out = tempfile::tempfile().expect("a temporary file");
    let replaced = wrap::replace(&unwrapped.bytes, &file, &unwrapped, unwrapped.base, &out);
    let replaced = replaced.expect("what was read can be written");
    assert_eq!((replaced.changed, replaced.added), (0, 0));
    let mut back = Vec::new();
    out.rewind().and_then(|()| out.read_to_end(&mut back)).expect("read");
    assert_eq!(back.len(), data.len());
    if kind != Kind::DfuSe {
        // packing corrects a wrong checksum of the format
        assert!(back == data, "other bytes");
    }
}
