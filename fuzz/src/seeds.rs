//! Writes the seeds of every target to `fuzz/corpus`: images that are made here, those of
//! tests/corpus (from the C driver, or found by fuzzing), and mount options.

use std::fs;
use std::path::Path;

use littlefs::container::Kind;
use littlefs::container::wrap::{Target, wrap};
use littlefs::disk::superblock;
use littlefs_fuzz::PARSERS;
use testkit::mutate;
use testkit::tree::{Entry, Tree};
use testkit::v1::{MOVED, V1};

/// An input for the target `kv`: the number of operations, then every kind of operation.
const KV_SCRIPT: [u8; 25] =
    [8, 0, 0, 5, 0, 4, 200, 3, 2, 1, 4, 0, 3, 5, 0, 0, 2, 2, 3, 1, 5, 0, 3, 6, 3];

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets = [
        "pair",
        "mount",
        "inspect",
        "recover",
        "change",
        "repair",
        "kv",
        "options",
        "chamelon",
        "journal",
        "v1",
        "container",
    ];
    for target in targets {
        fs::create_dir_all(corpus.join(target))?;
    }
    let mut images: Vec<(String, usize, Vec<u8>)> = mutate::bases()
        .into_iter()
        .map(|(name, g, image)| (name.replace(' ', ""), g.block_size as usize, image))
        .collect();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus"))? {
        let entry = entry?;
        let image = fs::read(entry.path())?;
        if let Some((superblock, _)) = superblock::probe(&image) {
            let name = entry.file_name().to_string_lossy().into_owned();
            images.push((name, superblock.block_size as usize, image));
        }
    }
    for (name, block_size, image) in images {
        for (format, bytes) in wrapped(&image) {
            fs::write(corpus.join("container").join(format!("{name}.{format}")), bytes)?;
        }
        for target in ["mount", "inspect", "change", "chamelon"] {
            fs::write(corpus.join(target).join(&name), &image)?;
        }
        fs::write(corpus.join("repair").join(&name), [&[7, 0], &image[..]].concat())?;
        let shift = (block_size / 128).ilog2() as u8;
        fs::write(corpus.join("recover").join(&name), [&[shift | 0x80], &image[..]].concat())?;
        fs::write(corpus.join("kv").join(&name), [&KV_SCRIPT[..], &image].concat())?;
        for (k, block) in image.chunks(block_size).enumerate() {
            if block.iter().any(|&b| b != 0xff) {
                fs::write(corpus.join("pair").join(format!("{name}-{k}")), block)?;
            }
        }
    }
    fs::write(corpus.join("v1").join("small"), version1())?;
    let options = [
        "ro,block_size=4K,block_count=256,offset=0x1000,prog_size=16",
        "uid=1000,gid=100,umask=022,fmask=0133,dmask=0,commit=30",
        "defaults,noauto,nofail,_netdev,x-systemd.automount,allow_other,sync",
    ];
    for (i, list) in options.iter().enumerate() {
        fs::write(corpus.join("options").join(format!("list{i}")), list)?;
    }
    fs::write(corpus.join("kv").join("fresh"), KV_SCRIPT)?;
    // a transaction of two records, a savepoint, and a revert to the state before both
    let mut seed = vec![0, 1, 32, 0];
    for word in [0x1000_0004_u32, 2, 8, 0x6566_696c, 0x2000_0200, 3, 0, 0xf000_0000] {
        seed.extend(word.to_le_bytes());
    }
    seed.extend([1, 1, 3, 0, 1, 0, b'x', 2, 0, 0, 0]);
    fs::write(corpus.join("journal").join("entries"), seed)?;
    Ok(())
}

/// An image of version 1 with a rename and a removal that were interrupted.
fn version1() -> Vec<u8> {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    for dir in ["a", "a/b"] {
        tree.insert(dir.into(), Entry::dir());
        for (i, len) in [0, 9, 200, 1500].into_iter().enumerate() {
            tree.insert(format!("{dir}/{i}").into(), Entry::file(vec![7; len]));
        }
    }
    let mut image = V1::of(128, 128, &tree);
    image.entry("a/1").kind |= MOVED;
    image.directory();
    image.image()
}

/// The image in each format that can be made, and as text dumps. Each is there twice: once for its
/// parser, and once to be recognised.
fn wrapped(image: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (selector, kind) in PARSERS.into_iter().enumerate() {
        let mut out = Vec::new();
        match kind {
            kind if kind.can_be_made() => {
                let target = Target { kind, base: 0x1000, family: Some(0xe48b_ff56) };
                if wrap(&image, target, &mut out).is_err() {
                    continue;
                }
            }
            Kind::Dfu => out.extend([image, &[0; 8], b"UFD\x10", &[0; 4]].concat()),
            Kind::HexDump | Kind::HexDumpColumns | Kind::NumberDump | Kind::HexDigits => {
                out.extend(text(image, kind));
            }
            _ => continue,
        }
        for first in [selector as u8, 0xff] {
            all.push((format!("{kind:?}-{first}"), [&[first], &out[..]].concat()));
        }
    }
    all
}

fn text(image: &[u8], kind: Kind) -> Vec<u8> {
    let row = |(i, row): (usize, &[u8])| {
        let digits: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
        match kind {
            Kind::HexDump => format!("{:08x}: {}  ....\n", i * 16, digits.join(" ")),
            Kind::HexDumpColumns => format!("{:08x}  {}  |....|\n", i * 16, digits.join(" ")),
            Kind::NumberDump => format!("{:06x} {}\n", i * 16, digits.join(" ")),
            _ => digits.concat() + "\n",
        }
    };
    image.chunks(16).enumerate().map(row).collect::<String>().into_bytes()
}
