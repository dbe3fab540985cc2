//! How the memory for cached state is divided.
//!
//! One number of bytes limits the content that is kept in memory: copies of content on disk as well
//! as content that waits to be written. Metadata pairs get one half of it, and unwritten content of
//! files gets one quarter. Changed pairs may take three quarters of the half for pairs, so that
//! pairs that are only read find room, too. The last quarter is for memory that is not counted: for
//! the many small pieces of a pair, the memory allocator needs up to two thirds more than their
//! size, and a flush needs memory for its commits.
//!
//! The budget does not include what must be known about each pair and each block (some hundred
//! bytes for a pair, a bit for a block), pairs in which a name occurs twice, the table of open
//! files, and what a single operation needs.

/// The default: about 80,000 small entries, and 10 MiB of content.
const CACHE_DEFAULT: usize = 40 << 20;
/// With less than this, an operation would hardly ever find in memory what it needs.
const CACHE_MIN: usize = 256 << 10;

/// A number of bytes for cached state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget(usize);

impl Budget {
    /// This many bytes; `None` for the default.
    pub fn new(bytes: Option<u64>) -> Self {
        let bytes = bytes.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Self(bytes.unwrap_or(CACHE_DEFAULT).max(CACHE_MIN))
    }

    /// For metadata pairs.
    pub fn pairs(self) -> usize {
        self.0 / 2
    }

    /// For content of files that is not written yet.
    pub fn content(self) -> usize {
        self.0 / 4
    }

    /// How many changed pairs are held. Each takes some hundred bytes in addition to its content.
    pub fn changed_pairs(self) -> usize {
        self.0 / 4096
    }

    /// How many files with unwritten content are held. Each takes some hundred bytes in addition to
    /// its content.
    pub fn files(self) -> usize {
        self.0 / 4096
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::bd::{Geometry, RamDevice};
    use crate::fs::{FormatOptions, Fs, OpenOptions, ROOT};

    /// Check the counts of cached and changed content, and return their sum with the content of
    /// files.
    fn held(fs: &mut Fs) -> usize {
        fs.thread.count_changed();
        let contents = |fs: &Fs, dirty_only: bool| -> usize {
            let dirty = fs.thread.dirty();
            let of = fs.thread.iter().filter(|(ix, _)| !dirty_only || dirty.contains(ix));
            of.map(|(_, p)| p.footprint()).sum()
        };
        assert_eq!(fs.thread.cached_bytes(), contents(fs, false));
        assert_eq!(fs.thread.dirty_bytes(), contents(fs, true));
        fs.thread.cached_bytes() + fs.files.dirty_bytes()
    }

    /// However much is changed and read, the content in memory stays within the budget, except for
    /// what a single operation adds.
    #[test]
    fn changed_and_unchanged_content_share_the_budget() {
        let g = Geometry::new(512, 60_000).expect("geometry");
        let dev = Arc::new(RamDevice::new(g));
        Fs::format(&*dev, &FormatOptions::default()).expect("format");
        let cache = 512 << 10;
        let options = OpenOptions { cache: Some(cache), ..OpenOptions::default() };
        let mut fs = Fs::open(dev.clone(), &options).expect("open");
        let (mut most, mut changed) = (0, 0);
        for i in 0..20_000_u32 {
            // the names are in an order that jumps from pair to pair
            let name = format!("{:05}", i * 7919 % 20_000);
            fs.create(ROOT, name.as_bytes()).expect("create");
            let file = fs.open_file(ROOT, name.as_bytes()).expect("open");
            fs.write(file, 0, &vec![1; if i % 16 == 0 { 3000 } else { 20 }]).expect("write");
            fs.close_file(file);
            if i % 100 == 0 {
                most = most.max(held(&mut fs));
                changed = changed.max(fs.thread.dirty_bytes());
            }
            if i % 5000 == 0 {
                let dir = fs.mkdir(ROOT, format!("d{i}").as_bytes()).expect("mkdir");
                fs.rename(ROOT, name.as_bytes(), dir, b"moved", false).expect("rename");
            }
        }
        for i in (0..20_000_u32).step_by(3) {
            let _ = fs.lookup(ROOT, format!("{:05}", i * 31 % 20_000).as_bytes());
            if i % 300 == 0 {
                most = most.max(held(&mut fs));
            }
        }
        assert!(fs.flushes().done > 10, "{} flushes", fs.flushes().done);
        // Logs that opening keeps are counted, too. They are the logs of the smallest names. The
        // cache is filled with other pairs, until one of these logs is unpacked at the moment when
        // other content is evicted.
        fs.flush().expect("flush");
        let mut fs = Fs::open(dev, &options).expect("open again");
        assert!(held(&mut fs) > 0, "opening keeps nothing");
        let nearly_full = fs.thread.cache_max() / 10 * 9;
        let mut others = (0..20_000).rev();
        while fs.thread.cached_bytes() < nearly_full {
            let name = format!("{:05}", others.next().expect("enough names"));
            let _ = fs.lookup(ROOT, name.as_bytes());
        }
        for i in 0..2_000 {
            let _ = fs.lookup(ROOT, format!("{i:05}").as_bytes());
            most = most.max(held(&mut fs));
        }
        let cache = cache as usize;
        assert!(most <= cache + (16 << 10), "{most} bytes of {cache}");
        assert!(most > cache / 3, "only {most} bytes of {cache} were used");
        assert!(changed > cache / 6, "changes were flushed at {changed} bytes");
    }
}
