//! What the fuzz targets share.

// This is not in testkit, because it needs the feature `inspect`. With it in testkit, all tests
// would be built with that feature, even those that show that the library works without it.
#[path = "../../tests/hostile/reports.rs"]
pub mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Report, Severity};
use littlefs::disk::superblock::probe_version1;
use littlefs::disk::{Superblock, superblock};
use littlefs::fs::{DirId, Fs, Node, ROOT};
use littlefs::image::{Dialect, Kind};
use littlefs::recover::{Grade, recover_from};
use testkit::{mutate, v1};

/// The parsers of the target `container`. The first byte of an input is the index of one; with any
/// other byte, the format is recognised by the content.
pub const PARSERS: [Kind; 12] = [
    Kind::Uf2,
    Kind::IntelHex,
    Kind::Srec,
    Kind::DfuSe,
    Kind::Dfu,
    Kind::Gzip,
    Kind::Zstd,
    Kind::Xz,
    Kind::HexDump,
    Kind::HexDumpColumns,
    Kind::HexDigits,
    Kind::NumberDump,
];

/// The size of the largest image that is used, in bytes.
const SIZE_MAX: u64 = 64 << 10;

/// The image in `data` with corrected CRCs, so that mutations are not rejected because of a CRC.
pub fn device(data: &[u8]) -> Option<Arc<RamDevice>> {
    let (sb, _) = superblock::probe(data)?;
    let g = Geometry::new(sb.block_size, sb.block_count).ok()?;
    if g.size() > SIZE_MAX {
        return None;
    }
    let mut bytes = data.to_vec();
    bytes.resize(g.size() as usize, 0xff);
    bytes.chunks_exact_mut(g.block_size as usize).for_each(mutate::mend);
    Some(Arc::new(RamDevice::from_image(g, bytes)))
}

/// The same for an image of version 1, together with its superblock.
pub fn device_of_version1(data: &[u8]) -> Option<(Superblock, Arc<RamDevice>)> {
    let block_size = u32::from_le_bytes(data.get(28..32)?.try_into().ok()?);
    let block_count = u32::from_le_bytes(data.get(32..36)?.try_into().ok()?);
    let g = Geometry::new(block_size, block_count).ok().filter(|g| g.size() <= SIZE_MAX)?;
    let mut bytes = data.to_vec();
    bytes.resize(g.size() as usize, 0xff);
    bytes.chunks_exact_mut(block_size as usize).for_each(v1::mend);
    let (sb, _) = probe_version1(&bytes)?;
    Some((sb, Arc::new(RamDevice::from_image(g, bytes))))
}

/// Search for lost files. All results must be readable, and only partial ones may miss bytes.
pub fn recover(dev: &dyn BlockDevice, dialect: Dialect) {
    let recovery = recover_from(dev, dialect, &|_| ()).expect("readable");
    for file in &recovery.files {
        let mut read = 0;
        file.read(dev, &mut |at, piece| {
            assert!(at + piece.len() as u64 <= file.size, "{file:?}");
            read += piece.len() as u64;
            Ok(())
        })
        .expect("readable");
        assert_eq!(read, file.present(), "{file:?}");
        if file.grade != Grade::Partial {
            let is_whole = file.path.is_some() && file.missing.is_empty() && read == file.size;
            assert!(is_whole, "{file:?}");
        }
    }
}

/// All entries by path: the content of each file that can be read, and `None` for everything else.
pub type Tree = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Read everything in the filesystem.
pub fn walk(fs: &mut Fs) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for name in fs.list(dir).unwrap_or_default() {
            let path = [&path[..], b"/", &name].concat();
            let content = match fs.lookup(dir, &name) {
                Ok(Node::Dir(child)) => {
                    todo.push((child, path.clone()));
                    None
                }
                Ok(Node::File { .. }) => read(fs, dir, &name),
                Err(_) => None,
            };
            tree.insert(path, content);
        }
        assert!(todo.len() < 1 << 16, "the tree has no end");
    }
    let _ = (fs.usage(), fs.counts());
    tree
}

fn read(fs: &mut Fs, dir: DirId, name: &[u8]) -> Option<Vec<u8>> {
    let file = fs.open_file(dir, name).ok()?;
    let size = fs.file_size(file).ok()? as usize;
    let content = fs.read(file, 0, size).and_then(|plan| plan.run());
    fs.close_file(file);
    content.ok()
}

/// The codes of the errors in a report.
pub fn errors(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect()
}
