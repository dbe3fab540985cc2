//! Trees written to the host, and tar streams: they have what is in the image, and nothing is
//! written outside the target.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use littlefs::bd::{Geometry, RamDevice};
use littlefs::convention::{Choice, Convention};
use littlefs::transfer::{Extraction, Problem, Size, extract, to_tar};
use littlefs::{FileType, FormatOptions, Littlefs, SetMetadata};

use super::fixture::{Host, build, how, manifest, open};
use testkit::tree::diff;

const ALL: &[Vec<u8>] = &[Vec::new()];

fn of_host(host: &Host) -> Littlefs {
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    let (image, created) =
        build(&manifest, FormatOptions::new(), Size::Blocks(256)).expect("an image");
    open(image, created.geometry)
}

fn unix() -> Littlefs {
    let convention = Convention::named("unix").expect("a convention");
    let device = RamDevice::new(Geometry::new(4096, 64).expect("a geometry"));
    let format = FormatOptions::new().convention(Choice::By(convention));
    format.open_new(std::sync::Arc::new(device)).expect("an image")
}

#[test]
fn what_was_put_in_comes_out() {
    let host = Host::varied();
    let fs = of_host(&host);
    let out = Host::new();
    let done = extract(&fs, ALL, &out.at("new/dir"), Extraction::default(), &|_| ()).expect("done");
    assert!(done.left_out.is_empty(), "{:?}", done.left_out);
    let expected = host.tree();
    let files = expected.values().filter(|e| !e.is_dir()).count() as u64;
    assert_eq!((done.files, done.directories), (files, expected.len() as u64 - files - 1));
    let out = out.tree();
    let inner = out.iter().filter_map(|(p, e)| {
        let p = p.strip_prefix(b"new/dir")?;
        Some((p.strip_prefix(b"/").unwrap_or(p).to_vec(), e.clone()))
    });
    diff("extracted", &inner.collect(), "the source", &expected).expect("the same");
}

#[test]
fn single_paths_come_with_the_directories_around_them() {
    let fs = of_host(&Host::varied());
    let out = Host::new();
    let paths = [b"deep/er/and/deeper/file".to_vec(), b"prefixes".to_vec(), b"gone".to_vec()];
    let done = extract(&fs, &paths, out.path(), Extraction::default(), &|_| ()).expect("done");
    assert_eq!(fs::read(out.at("deep/er/and/deeper/file")).expect("a file"), b"there");
    assert_eq!(fs::read_dir(out.at("prefixes")).expect("a directory").count(), 5);
    assert!(!out.at("sizes").exists());
    assert_eq!(done.left_out.len(), 1);
    assert_eq!(done.left_out[0].path, b"gone");
}

#[test]
fn what_is_there_is_replaced_but_links_are_not_followed() {
    let fs = unix();
    fs.write("file", "new").expect("a file");
    fs.create_dir("dir").expect("a directory");
    fs.write("dir/inner", "inner").expect("a file");
    fs.symlink("target", "link").expect("a link");
    let (out, outside) = (Host::new(), Host::new());
    outside.file("victim", b"untouched").dir("dir");
    symlink(outside.at("victim"), out.at("file")).expect("a link");
    symlink(outside.at("dir"), out.at("dir")).expect("a link");
    out.file("link", b"old");
    let done = extract(&fs, ALL, out.path(), Extraction::default(), &|_| ()).expect("done");
    assert_eq!(fs::read(outside.at("victim")).expect("a file"), b"untouched");
    assert!(fs::read_dir(outside.at("dir")).expect("a directory").next().is_none());
    assert_eq!(fs::read(out.at("file")).expect("a file"), b"new");
    assert!(out.at("file").symlink_metadata().expect("a file").is_file());
    assert_eq!(fs::read_link(out.at("link")).expect("a link"), std::path::Path::new("target"));
    let left: Vec<&[u8]> = done.left_out.iter().map(|l| &l.path[..]).collect();
    assert_eq!(left, [b"dir"], "a link in the place of a directory");
    // in the other direction: a directory where a file is to be
    let out = Host::new();
    out.dir("file/full");
    let done = extract(&fs, ALL, out.path(), Extraction::default(), &|_| ()).expect("done");
    assert!(out.at("file/full").is_dir());
    assert_eq!(done.left_out.len(), 1);
    let left: Vec<_> = fs::read_dir(out.path()).expect("a directory").collect();
    assert_eq!(left.len(), 3, "no temporary file is left: {left:?}");
}

#[test]
fn times_and_modes_are_set_and_set_id_bits_only_on_request() {
    let fs = unix();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_400_000_000, 7000);
    let set = SetMetadata {
        modified: Some(time),
        permissions: Some(0o4711),
        uid: Some(1234),
        gid: Some(99),
        ..SetMetadata::default()
    };
    fs.create_dir_with("dir", &SetMetadata { permissions: Some(0o555), ..set })
        .expect("a directory");
    fs.write_with("dir/file", "x", &set).expect("a file");
    fs.set_metadata("dir", &SetMetadata { modified: Some(time), ..SetMetadata::default() })
        .expect("a time");
    fs.make_special("null", FileType::CharDevice, [1, 0, 0, 0, 3, 0, 0, 0], &set)
        .expect("a device");
    let out = Host::new();
    let done = extract(&fs, ALL, out.path(), Extraction::default(), &|_| ()).expect("done");
    let meta = out.at("dir/file").metadata().expect("a file");
    assert_eq!(meta.modified().expect("a time"), time);
    assert_eq!(meta.permissions().mode() & 0o7777, 0o711);
    assert_ne!(meta.uid(), 1234);
    let dir = out.at("dir").metadata().expect("a directory");
    assert_eq!((dir.modified().expect("a time"), dir.permissions().mode() & 0o7777), (time, 0o555));
    assert!(matches!(done.left_out[..], [ref l] if matches!(l.problem, Problem::Device)));

    let out = Host::new();
    let preserve = Extraction { preserve: true, ..Extraction::default() };
    let done = extract(&fs, ALL, out.path(), preserve, &|_| ()).expect("done");
    assert!(done.left_out.is_empty(), "as root: {:?}", done.left_out);
    let meta = out.at("dir/file").metadata().expect("a file");
    assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777), (1234, 99, 0o4711));
    assert_eq!(out.at("null").metadata().expect("a device").rdev(), libc::makedev(1, 3));
}

#[test]
fn a_tar_stream_holds_the_same() {
    let fs = unix();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_400_000_000, 7000);
    let set = SetMetadata { modified: Some(time), ..SetMetadata::default() };
    let long = "n".repeat(150);
    fs.write_with("file", "content", &set).expect("a file");
    fs.create_dir("dir").expect("a directory");
    fs.write(format!("dir/{long}"), vec![7; 100_000]).expect("a file");
    fs.symlink("some/where", "dir/link").expect("a link");
    let mut stream = Vec::new();
    let done = to_tar(&fs, ALL, &mut stream, &|_| ()).expect("a stream");
    assert!(done.left_out.is_empty());
    let mut again = Vec::new();
    to_tar(&fs, ALL, &mut again, &|_| ()).expect("a stream");
    assert_eq!(stream, again, "the same each time");

    let out = Host::new();
    let file = out.at("stream.tar");
    fs::write(&file, &stream).expect("a file");
    let mut command = std::process::Command::new("tar");
    let ran = command.arg("-xpf").arg(&file).arg("-C").arg(out.path()).status();
    assert!(ran.expect("tar").success());
    assert_eq!(fs::read(out.at("file")).expect("a file"), b"content");
    assert_eq!(out.at("file").metadata().expect("a file").modified().expect("a time"), time);
    assert_eq!(fs::read(out.at(&format!("dir/{long}"))).expect("a file"), vec![7; 100_000]);
    assert_eq!(fs::read_link(out.at("dir/link")).expect("a link").as_os_str(), "some/where");
}
