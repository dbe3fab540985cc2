//! Images that are made from manifests: what the C driver reads in them, how large they are, and
//! that the same manifest always makes the same image.

use std::fs;
use std::time::{Duration, SystemTime};

use littlefs::FormatOptions;
use littlefs::bd::Geometry;
use littlefs::convention::{Choice, Convention};
use littlefs::transfer::{Creation, Failure, Size, create_in};

use super::fixture::{Host, build, bytes, how, manifest, open, pattern};
use testkit::clfs::{CLfs, Config};
use testkit::tree::{Kind, Tree, diff};

/// The block and program sizes of devices, in bytes.
const SHAPES: [(u32, u32); 6] =
    [(256, 16), (512, 64), (1024, 16), (4096, 16), (4096, 256), (8192, 64)];

fn format(block_size: u32, prog_size: u32) -> FormatOptions {
    FormatOptions::new().block_size(block_size).prog_size(prog_size)
}

/// The driver for an image. It makes the same files inline as this library.
fn driver(block_size: u32, block_count: u32, prog_size: u32) -> Config {
    Config { inline_max: 64.min(block_size / 8), ..Config::new(block_size, block_count, prog_size) }
}

#[test]
fn the_c_driver_reads_what_was_built_and_writes_on() {
    let host = Host::varied();
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    for (block_size, prog_size) in SHAPES {
        let count = (1 << 20) / block_size;
        let (image, created) =
            build(&manifest, format(block_size, prog_size), Size::Blocks(count)).expect("an image");
        assert_eq!(image.len() as u64, created.geometry.size());
        let mut c = CLfs::mount(image, &driver(block_size, count, prog_size)).expect("a mount");
        let tree = c.tree(&[]).expect("a tree");
        diff("C", &tree, "the directory", &host.tree()).expect("the same");
        assert_eq!(c.fs_size().expect("a count"), created.blocks_used, "{block_size}");
        c.write_file(b"many/more", &pattern(3000, 9)).expect("a write");
        c.remove(b"sizes/9000").expect("a removal");
        assert_eq!(c.read_file(b"many/more").expect("a read"), pattern(3000, 9));
    }
}

/// The same tree, made by the C driver in the same order.
fn blocks_of_c(tree: &Tree, config: &Config) -> u32 {
    let mut c = CLfs::fresh(config).expect("an image");
    for (path, entry) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        match &entry.kind {
            Kind::Dir => c.mkdir(path).expect("a directory"),
            Kind::File(content) => c.write_file(path, content).expect("a file"),
        }
    }
    c.fs_size().expect("a count")
}

#[test]
fn no_more_blocks_are_used_than_by_the_c_driver() {
    let host = Host::varied();
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    for (block_size, prog_size) in SHAPES {
        let count = (1 << 20) / block_size;
        let (_, created) =
            build(&manifest, format(block_size, prog_size), Size::Blocks(count)).expect("an image");
        let c = blocks_of_c(&host.tree(), &driver(block_size, count, prog_size));
        assert!(created.blocks_used <= c, "{block_size}: {} for {c}", created.blocks_used);
    }
}

#[test]
fn the_least_size_is_the_least() {
    let host = Host::varied();
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    for (block_size, prog_size) in SHAPES {
        let format = || format(block_size, prog_size);
        let least = Size::Least { free: 0 };
        let (image, created) = build(&manifest, format(), least).expect("an image");
        let count = created.geometry.block_count;
        assert_eq!(created.blocks_used, count);
        let config = driver(block_size, count, prog_size);
        let tree = CLfs::mount(image, &config).expect("a mount").tree(&[]).expect("a tree");
        diff("C", &tree, "the directory", &host.tree()).expect("the same");
        match build(&manifest, format(), Size::Blocks(count - 1)) {
            Err(Failure::NoSpace { needed, .. }) => assert_eq!(needed, Some(count)),
            Err(e) => panic!("{e}"),
            Ok((_, created)) => panic!("{created:?}"),
        }
        let room = Size::Least { free: 10_000 };
        let (_, roomy) = build(&manifest, format(), room).expect("an image");
        assert_eq!(roomy.geometry.block_count, count + 10_000_u32.div_ceil(block_size));
    }
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    let first = Host::varied();
    // another place, and another order in the directory
    let second = Host::new();
    for (path, entry) in first.tree().iter().rev() {
        let path = std::str::from_utf8(path).expect("a name");
        match &entry.kind {
            Kind::Dir => second.dir(path),
            Kind::File(content) => second.file(path, content),
        };
    }
    let built = |host: &Host, choice: Choice| {
        let gather = littlefs::transfer::Gather {
            latest: Some(1_600_000_000),
            owner: Some((0, 0)),
            ..how()
        };
        let manifest = manifest(&[host.path()], &gather).expect("a manifest");
        let format = FormatOptions::new().convention(choice);
        build(&manifest, format, Size::Blocks(256)).expect("an image").0
    };
    assert_eq!(built(&first, Choice::None), built(&second, Choice::None));
    let unix = || Choice::By(Convention::named("unix").expect("a convention"));
    assert_eq!(built(&first, unix()), built(&second, unix()));
    assert_ne!(built(&first, unix()), built(&second, Choice::None));
}

#[test]
fn what_was_in_the_file_before_makes_no_difference() {
    let host = Host::varied();
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    let how = Creation::new(FormatOptions::new(), Size::Blocks(128));
    let image = |fill: u8| {
        let file = tempfile::tempfile().expect("a temporary file");
        std::io::Write::write_all(&mut &file, &vec![fill; 128 * 4096]).expect("content");
        create_in(&file, 0, &manifest, &how, &|_| ()).expect("an image");
        bytes(file)
    };
    assert_eq!(image(0), image(0x5a));
}

#[test]
fn a_compact_image_ends_behind_the_last_block_in_use() {
    let host = Host::varied();
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    let how = Creation { compact: true, ..Creation::new(FormatOptions::new(), Size::Blocks(1024)) };
    let file = tempfile::tempfile().expect("a temporary file");
    let created = create_in(&file, 0, &manifest, &how, &|_| ()).expect("an image");
    let mut image = bytes(file);
    assert_eq!(created.image_size, image.len() as u64);
    assert_eq!(image.len() as u64, u64::from(created.blocks_used) * 4096);
    image.resize(1024 * 4096, 0xff);
    let mut c = CLfs::mount(image, &driver(4096, 1024, 16)).expect("a mount");
    diff("C", &c.tree(&[]).expect("a tree"), "the directory", &host.tree()).expect("the same");
}

#[test]
fn times_owners_modes_and_links_are_kept_by_convention() {
    let host = Host::new();
    host.file("file", b"content").dir("dir");
    std::os::unix::fs::symlink("../file", host.at("dir/link")).expect("a link");
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 500);
    let file = fs::File::options().write(true).open(host.at("file")).expect("a file");
    file.set_modified(time).expect("a time");
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    file.set_permissions(permissions).expect("a mode");
    let gather = littlefs::transfer::Gather {
        links: littlefs::transfer::Links::Store,
        owner: Some((12, 34)),
        ..how()
    };
    let manifest = manifest(&[host.path()], &gather).expect("a manifest");
    let unix = Choice::By(Convention::named("unix").expect("a convention"));
    let format = FormatOptions::new().convention(unix);
    let (image, created) = build(&manifest, format, Size::Blocks(64)).expect("an image");
    let fs = open(image, created.geometry);
    let found = fs.metadata("file").expect("a file");
    assert_eq!(found.modified(), Some(time));
    assert_eq!((found.permissions(), found.uid(), found.gid()), (Some(0o640), Some(12), Some(34)));
    assert_eq!(fs.read_link("dir/link").expect("a link"), b"../file");
    assert!(fs.metadata("dir").expect("a directory").modified().is_some());
}

#[test]
fn what_the_image_cannot_hold_is_named_all_at_once() {
    let host = Host::new();
    host.file("fits", b"x")
        .file("a-name-that-is-too-long", b"x")
        .file("another/of-those-names", b"");
    host.file("large", &pattern(5000, 1));
    std::os::unix::fs::symlink("fits", host.at("link")).expect("a link");
    let gather = littlefs::transfer::Gather { links: littlefs::transfer::Links::Store, ..how() };
    let manifest = manifest(&[host.path()], &gather).expect("a manifest");
    let format = FormatOptions::new().name_max(8).file_max(4096);
    match build(&manifest, format, Size::Blocks(64)) {
        Err(Failure::Refused(refused)) => {
            let paths: Vec<&[u8]> = refused.iter().map(|r| &r.path[..]).collect();
            let expected: [&[u8]; 4] =
                [b"a-name-that-is-too-long", b"large", b"link", b"another/of-those-names"];
            assert_eq!(paths, expected);
            let text = Failure::Refused(refused).to_string();
            assert!(text.contains("23 bytes, but the image allows only 8"), "{text}");
            assert!(text.contains("5000 bytes, but the image allows only 4096"), "{text}");
            assert!(text.contains("--attrs=unix"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_too_long_for_a_block_are_named() {
    let host = Host::new();
    host.file(&"n".repeat(200), b"x").file("ok", b"x");
    let manifest = manifest(&[host.path()], &how()).expect("a manifest");
    match build(&manifest, format(128, 16), Size::Blocks(64)) {
        Err(Failure::Refused(refused)) => {
            assert_eq!(refused.len(), 1);
            assert!(refused[0].to_string().contains("block size"), "{}", refused[0]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn impossible_geometries_are_refused() {
    let manifest = manifest(&[Host::new().path()], &how()).expect("a manifest");
    for (block_size, count) in [(4096, 1), (4095, 10), (64, 10), (1 << 25, 10)] {
        let format = FormatOptions::new().block_size(block_size);
        match build(&manifest, format, Size::Blocks(count)) {
            Err(Failure::Geometry(_)) => {}
            other => panic!("{block_size} x {count}: {other:?}"),
        }
    }
    let g = Geometry::new(4096, 2).expect("a geometry");
    let (image, created) =
        build(&manifest, FormatOptions::new(), Size::Least { free: 0 }).expect("an image");
    assert_eq!((image.len() as u64, created.geometry), (g.size(), g), "an empty image");
}
