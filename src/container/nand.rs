//! Dumps of NAND flash with spare bytes: bytes behind each page that do not belong to the content.

use std::fmt;
use std::io;

use super::half::{Budget, Half};
use super::{Evidence, ReadAt, candidate};

/// How many bytes of content a page has, and how many spare bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Bytes of content.
    pub data: u32,
    /// Spare bytes.
    pub spare: u32,
}

/// The pages of common chips. A page may be read in parts, and each part then has its share of the
/// spare bytes.
pub const COMMON: [Page; 9] = [
    Page { data: 2048, spare: 64 },
    Page { data: 2048, spare: 128 },
    Page { data: 4096, spare: 128 },
    Page { data: 4096, spare: 224 },
    Page { data: 4096, spare: 256 },
    Page { data: 8192, spare: 448 },
    Page { data: 512, spare: 16 },
    Page { data: 512, spare: 32 },
    Page { data: 1024, spare: 32 },
];
/// Largest part of a page, in bytes.
const PART_MAX: u32 = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

impl Page {
    /// A page as it is written in options, such as `2048+64`.
    ///
    /// # Errors
    /// A sentence that says how a page is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('+').and_then(|(data, spare)| {
            Some(Self { data: data.parse().ok()?, spare: spare.parse().ok()? })
        });
        let possible = |page: &Self| {
            (1..=PART_MAX).contains(&page.data) && (1..=PART_MAX).contains(&page.spare)
        };
        parts.filter(possible).ok_or_else(|| {
            format!(
                "'{text}' is not a page size: give the bytes of content and the spare bytes, \
                 like 2048+64"
            )
        })
    }

    /// Bytes of content and spare bytes together.
    pub fn len(self) -> u64 {
        u64::from(self.data) + u64::from(self.spare)
    }

    /// Whether the page has no bytes, which is impossible.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.spare)
    }
}

/// A dump without its spare bytes.
pub struct Nand<S> {
    dump: S,
    page: Page,
}

impl<S: ReadAt> Nand<S> {
    /// The content of `dump`, without its spare bytes.
    pub fn new(dump: S, page: Page) -> Self {
        Self { dump, page }
    }

    /// The pages of the dump.
    pub fn page(&self) -> Page {
        self.page
    }

    /// The blocks of `block_size` bytes, counted from byte `at`, whose first page is marked as bad:
    /// its first spare byte is not 0xFF. No more than `count` blocks are looked at.
    ///
    /// # Errors
    /// If the dump cannot be read.
    pub fn bad_blocks(&self, at: u64, block_size: u32, count: u32) -> io::Result<Vec<u32>> {
        let mut bad = Vec::new();
        for block in 0..count {
            let start = at.saturating_add(u64::from(block) * u64::from(block_size));
            let page = start / u64::from(self.page.data);
            let spare = page.saturating_mul(self.page.len()) + u64::from(self.page.data);
            let mut mark = [0xff];
            if self.dump.read_up_to(spare, &mut mark)? == 0 {
                break;
            }
            if mark != [0xff] {
                bad.push(block);
            }
        }
        Ok(bad)
    }
}

impl<S: ReadAt> ReadAt for Nand<S> {
    fn size(&self) -> io::Result<u64> {
        let size = self.dump.size()?;
        let data = u64::from(self.page.data);
        let rest = (size % self.page.len()).min(data);
        Ok(size / self.page.len() * data + rest)
    }

    fn read_up_to(&self, start: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (data, whole) = (u64::from(self.page.data), self.page.len());
        let pages = (CHUNK as u64 / whole).max(1);
        let mut raw = vec![0; usize::try_from(pages * whole).unwrap_or(CHUNK)];
        let mut done = 0;
        while done < buf.len() {
            let at = start.saturating_add(done as u64);
            let (page, mut off) = (at / data, at % data);
            let wanted = (off + (buf.len() - done) as u64).div_ceil(data).min(pages);
            let wanted = usize::try_from(wanted * whole).unwrap_or(CHUNK).min(raw.len());
            let read = self.dump.read_up_to(page.saturating_mul(whole), &mut raw[..wanted])?;
            let before = done;
            for page in raw[..read].chunks(whole as usize) {
                let content = page.get(off as usize..).unwrap_or_default();
                let len = (data - off).min(content.len() as u64) as usize;
                let len = len.min(buf.len() - done);
                buf[done..done + len].copy_from_slice(&content[..len]);
                done += len;
                off = 0;
            }
            if done == before {
                break;
            }
        }
        Ok(done)
    }

    fn data_from(&self, start: u64) -> Option<u64> {
        let (data, whole) = (u64::from(self.page.data), self.page.len());
        let in_dump = (start / data).saturating_mul(whole).saturating_add(start % data);
        let at = self.dump.data_from(in_dump)?;
        // from a position in the spare bytes of a page, the next content is the end of the page's
        // content
        let found = (at / whole).saturating_mul(data).saturating_add((at % whole).min(data));
        Some(found.max(start))
    }
}

/// How many pages a block of NAND flash has.
const PAGES_PER_BLOCK: std::ops::RangeInclusive<u32> = 32..=256;

/// The page of a dump whose filesystem starts at its first byte. It is recognised if exactly one of
/// the common pages puts both superblocks, and the pairs and lists that they lead to, in the right
/// place.
///
/// # Errors
/// If the size of the dump cannot be determined.
pub fn recognise(dump: &dyn ReadAt) -> io::Result<Option<Page>> {
    let Some(half) = Half::read(dump, 0, &mut Budget(u64::MAX)) else { return Ok(None) };
    let block_size = half.superblock.block_size;
    let size = dump.size()?;
    let mut best: Option<(u32, Page)> = None;
    let mut tied = false;
    for page in COMMON {
        let pages = block_size / page.data;
        if !block_size.is_multiple_of(page.data)
            || !PAGES_PER_BLOCK.contains(&pages)
            || !size.is_multiple_of(page.len())
        {
            continue;
        }
        let content = Nand::new(dump, page);
        let empty = super::Scan::default();
        let found = candidate::judge(&content, 0, block_size, || &empty);
        let Some(found) = found.filter(|found| found.lost.is_none() && found.doubt.is_none())
        else {
            continue;
        };
        let evidence = Evidence::gather(&content, 0, &found.superblock);
        if evidence.bad > 0 {
            continue;
        }
        match best {
            Some((good, _)) if good > evidence.good => {}
            Some((good, _)) if good == evidence.good => tied = true,
            _ => {
                best = Some((evidence.good, page));
                tied = false;
            }
        }
    }
    Ok(best.filter(|_| !tied).map(|(_, page)| page))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that is one large gap, except for 64 bytes at `data`.
    struct Sparse {
        size: u64,
        data: u64,
    }

    impl ReadAt for Sparse {
        fn size(&self) -> io::Result<u64> {
            Ok(self.size)
        }

        fn read_up_to(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            panic!("a gap is not read")
        }

        fn data_from(&self, start: u64) -> Option<u64> {
            (start < self.data + 64).then_some(start.max(self.data))
        }
    }

    #[test]
    fn gaps_of_the_dump_are_gaps_without_its_spare_bytes() {
        let page = Page { data: 512, spare: 16 };
        // 5 bytes into the content of page 1000, and 5 bytes into its spare bytes
        for (data, found) in [(1000 * 528 + 5, 1000 * 512 + 5), (1000 * 528 + 517, 1001 * 512)] {
            let nand = Nand::new(Sparse { size: 1 << 40, data }, page);
            assert_eq!(nand.data_from(7), Some(found));
            assert_eq!(nand.data_from(found + 2), Some(found + 2));
            assert_eq!(nand.data_from(found + 600), None);
        }
    }
}
