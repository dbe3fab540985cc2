//! What the fuzz targets share.

#[path = "../../tests/hostile/mutate.rs"]
pub mod mutate;

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::disk::superblock;
use littlefs::fs::{DirId, Fs, Node, ROOT};

/// Largest image tried, in bytes.
const SIZE_MAX: u64 = 64 << 10;

/// The image in `data` with all CRCs made good, so that mutations get past them.
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

/// Read everything there is; what is damaged is passed over.
pub fn walk(fs: &mut Fs) {
    let mut todo = vec![ROOT];
    while let Some(dir) = todo.pop() {
        for name in fs.list(dir).unwrap_or_default() {
            match fs.lookup(dir, &name) {
                Ok(Node::Dir(child)) => todo.push(child),
                Ok(Node::File { .. }) => read(fs, dir, &name),
                Err(_) => {}
            }
        }
        assert!(todo.len() < 1 << 16, "the tree has no end");
    }
    let _ = (fs.usage(), fs.counts());
}

fn read(fs: &mut Fs, dir: DirId, name: &[u8]) {
    let Ok(file) = fs.open_file(dir, name) else { return };
    let size = fs.file_size(file) as usize;
    if let Ok(plan) = fs.read(file, 0, size) {
        let _ = plan.run();
    }
    fs.close_file(file);
}
