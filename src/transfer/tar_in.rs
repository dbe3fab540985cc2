//! Tar streams as the source of an image. A stream is read once, and the content of its files is
//! kept in a nameless temporary file until it is stored.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, BufWriter, Read, Write};

use hashbrown::HashTable;
use tar::{Archive, Entry, EntryType, Header};

use super::gather::{Collector, GatherError};
use super::manifest::{Item, Kind, Source, Stat, split};
use crate::disk::superblock::FILE_MAX;
use crate::show::count;

const NANOS: i64 = 1_000_000_000;
/// The first bytes of compressed streams, and the programs that unpack them.
const COMPRESSED: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "zcat"),
    (b"\xfd7zXZ", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "zstdcat"),
    (b"BZh", "bzcat"),
];
/// Bytes of a tar header.
const HEADER_SIZE: usize = 512;

/// Add the content of the stream. If it has several entries with one path, the last one counts, as
/// when the stream is extracted.
pub(super) fn add(collector: &mut Collector<'_>, stream: &mut dyn Read) -> Result<(), GatherError> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let head = peek(&mut stream).map_err(GatherError::Tar)?;
    let spool = tempfile::tempfile().map_err(GatherError::Tar)?;
    let clone = spool.try_clone().map_err(GatherError::Tar)?;
    let mut reader = TarReader {
        collector,
        spool: BufWriter::with_capacity(1 << 16, spool),
        spooled: 0,
        found: Found::default(),
    };
    let mut archive = Archive::new(head.chain(stream));
    for (entry, before) in archive.entries().map_err(GatherError::Tar)?.zip(0..) {
        let done = entry.map_err(GatherError::Tar).and_then(|entry| reader.add(entry));
        done.map_err(|e| in_words(e, before))?;
    }
    reader.spool.flush().map_err(GatherError::Tar)?;
    reader.add_implied_directories();
    collector.manifest.spool = Some(clone);
    Ok(())
}

/// Look at the first header of the stream, which shows whether it is a tar stream.
fn peek(stream: &mut impl Read) -> io::Result<io::Cursor<Vec<u8>>> {
    let mut head = Vec::with_capacity(HEADER_SIZE);
    stream.take(HEADER_SIZE as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
    }
    let not_tar = |message: String| Err(io::Error::new(io::ErrorKind::InvalidData, message));
    if let Some((_, tool)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        let message = format!("it is compressed; unpack it with '{tool}' first");
        return not_tar(message);
    }
    if !is_header(&head) {
        return not_tar(
            "it has no tar header at its start; 'tar -cf - -C DIR .' writes a tar archive"
                .to_owned(),
        );
    }
    Ok(io::Cursor::new(head))
}

/// Whether these bytes are the header of an entry, or the zeros that end a stream.
fn is_header(head: &[u8]) -> bool {
    if head.len() < HEADER_SIZE {
        return false;
    }
    let header = Header::from_byte_slice(head);
    let field = &header.as_old().cksum;
    // the field of the sum itself counts as spaces
    let sum = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>();
    let expected = (sum(head) + 8 * u32::from(b' ')).wrapping_sub(sum(field));
    head.iter().all(|&b| b == 0) || header.cksum().is_ok_and(|sum| sum == expected)
}

/// The same error in plain words if the stream is to blame, and not the system. `before` counts the
/// entries that could be read.
fn in_words(e: GatherError, before: u64) -> GatherError {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match e {
        GatherError::Tar(e)
            if matches!(e.kind(), InvalidData | InvalidInput | Other | UnexpectedEof) =>
        {
            let entries = count(before, "entry", "entries");
            let message = format!("it is damaged, or ends too early, after {entries}");
            GatherError::Tar(io::Error::new(e.kind(), message))
        }
        e => e,
    }
}

struct TarReader<'c, 'a> {
    collector: &'c mut Collector<'a>,
    spool: BufWriter<File>,
    /// How many bytes are in the spool.
    spooled: u64,
    found: Found,
}

/// The indices of the items by path. Only indices are stored, because a stream may have very many
/// items.
#[derive(Default)]
struct Found {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Found {
    fn get(&self, items: &[Item], path: &[u8]) -> Option<usize> {
        let is_it = |&at: &u32| items.get(at as usize).is_some_and(|item| *item.path == *path);
        self.table.find(self.hasher.hash_one(path), is_it).map(|&at| at as usize)
    }

    /// Note the last item. Its path must not be noted yet.
    fn push(&mut self, items: &[Item]) {
        let Some(item) = items.last() else { return };
        let hash =
            |&at: &u32| self.hasher.hash_one(items.get(at as usize).map_or(&[][..], |i| &i.path));
        let at = items.len() as u32 - 1;
        self.table.insert_unique(self.hasher.hash_one(&item.path[..]), at, hash);
    }
}

impl TarReader<'_, '_> {
    fn add<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), GatherError> {
        let raw = entry.path_bytes().into_owned();
        let Some(path) = normalized(&raw) else { return Err(GatherError::Outside(raw)) };
        let how = self.collector.how;
        if how.exclude.matches_any(&path) {
            return Ok(());
        }
        let stat = self.collector.adjusted(stat(&mut entry).map_err(GatherError::Tar)?);
        let ty = entry.header().entry_type();
        if path.is_empty() {
            if ty == EntryType::Directory {
                self.collector.manifest.root = Some(stat);
            }
            return Ok(());
        }
        let item = match ty {
            EntryType::Directory => {
                Item { path, kind: Kind::Dir, size: 0, stat, source: Source::Nothing }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let at = self.spooled;
                let size = self.spool_content(&mut entry)?;
                Item { path, kind: Kind::File, size, stat, source: Source::Spool(at) }
            }
            EntryType::Link => self.hard_link(&entry, path)?,
            EntryType::Symlink => {
                if !self.collector.takes_link(&path) {
                    return Ok(());
                }
                let target = entry.link_name_bytes().unwrap_or_default();
                let source = Source::Bytes(target[..].into());
                Item { path, kind: Kind::Symlink, size: target.len() as u64, stat, source }
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let rdev = device_number(&entry).map_err(GatherError::Tar)?;
                Item { path, kind: Kind::Special { rdev }, size: 0, stat, source: Source::Nothing }
            }
            // headers that only describe other headers make no item
            _ => return Ok(()),
        };
        self.put(item);
        Ok(())
    }

    /// Add an item, or replace an earlier one with the same path.
    fn put(&mut self, item: Item) {
        let items = &mut self.collector.manifest.items;
        match self.found.get(items, &item.path) {
            Some(at) => items[at] = item,
            None => {
                items.push(item);
                self.found.push(items);
            }
        }
    }

    /// Keep the content of a file. If the file is too large for any image, only the part is kept
    /// that is needed to notice this.
    fn spool_content(&mut self, entry: &mut impl Read) -> Result<u64, GatherError> {
        let most = u64::from(FILE_MAX) + 1;
        let size = io::copy(&mut entry.take(most), &mut self.spool).map_err(GatherError::Tar)?;
        self.spooled += size;
        Ok(size)
    }

    /// Make an item for a hard link. littlefs has no hard links, so the content is stored again.
    fn hard_link<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        path: Box<[u8]>,
    ) -> Result<Item, GatherError> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let items = &self.collector.manifest.items;
        let found = normalized(&target)
            .and_then(|target| self.found.get(items, &target))
            .and_then(|at| items.get(at));
        match found {
            Some(item) if item.kind != Kind::Dir => Ok(Item { path, ..item.clone() }),
            _ => Err(GatherError::LinkTarget { path: path.into(), target }),
        }
    }

    /// Add directories that occur in the stream only in the paths of other entries.
    fn add_implied_directories(&mut self) {
        let items = &self.collector.manifest.items;
        let mut implied: HashSet<Box<[u8]>> = HashSet::new();
        for item in items {
            let (mut dir, _) = item.split();
            while !dir.is_empty()
                && self.found.get(items, dir).is_none()
                && implied.insert(dir.into())
            {
                (dir, _) = split(dir);
            }
        }
        let stat = Stat { mtime: None, mode: libc::S_IFDIR | 0o755, uid: 0, gid: 0 };
        let stat = self.collector.adjusted(stat);
        let dirs = implied.into_iter().map(|path| Item {
            path,
            kind: Kind::Dir,
            size: 0,
            stat,
            source: Source::Nothing,
        });
        self.collector.manifest.items.extend(dirs);
    }
}

/// The path in the image for a path of a tar stream or of a list: without a leading `/` and without
/// `.`; `None` if it leads out of the image.
pub(super) fn normalized(path: &[u8]) -> Option<Box<[u8]>> {
    let parts = path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/').into())
}

fn stat<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Stat> {
    let mut mtime = entry.header().mtime().map_or(0, seconds);
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten().filter(|e| e.key_bytes() == b"mtime") {
            mtime = extension.value().ok().and_then(decimal_nanos).unwrap_or(mtime);
        }
    }
    let header = entry.header();
    let ty = match header.entry_type() {
        EntryType::Directory => libc::S_IFDIR,
        EntryType::Symlink => libc::S_IFLNK,
        EntryType::Fifo => libc::S_IFIFO,
        EntryType::Char => libc::S_IFCHR,
        EntryType::Block => libc::S_IFBLK,
        _ => libc::S_IFREG,
    };
    let usual = if ty == libc::S_IFDIR { 0o755 } else { 0o644 };
    // some programs leave these fields empty
    let id = |id: io::Result<u64>| u32::try_from(id.unwrap_or(0)).unwrap_or(u32::MAX);
    Ok(Stat {
        mtime: Some(mtime),
        mode: ty | header.mode().unwrap_or(usual) & 0o7777,
        uid: id(header.uid()),
        gid: id(header.gid()),
    })
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(NANOS)
}

/// Nanoseconds from a decimal number of seconds, as in pax headers.
fn decimal_nanos(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    let nanos = if whole.starts_with('-') { -nanos } else { nanos };
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

/// The number of a device, as the kernel encodes it; 0 for a FIFO.
fn device_number<R: Read>(entry: &Entry<'_, R>) -> io::Result<u32> {
    let header = entry.header();
    if header.entry_type() == EntryType::Fifo {
        return Ok(0);
    }
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    Ok((minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_stay_inside() {
        let n = |path: &str| {
            normalized(path.as_bytes()).map(|p| String::from_utf8_lossy(&p).into_owned())
        };
        assert_eq!(n("./a/b/").as_deref(), Some("a/b"));
        assert_eq!(n("//a/./b").as_deref(), Some("a/b"));
        assert_eq!(n("./").as_deref(), Some(""));
        assert_eq!(n("a/../b"), None);
        assert_eq!(n("/.."), None);
        assert_eq!(n("..a/b..").as_deref(), Some("..a/b.."));
    }

    #[test]
    fn pax_times_have_fractions_and_signs() {
        assert_eq!(decimal_nanos("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(decimal_nanos("-1.25"), Some(-1_250_000_000));
        assert_eq!(decimal_nanos("7"), Some(7_000_000_000));
        assert_eq!(decimal_nanos("0.1234567891"), Some(123_456_789));
        assert_eq!(decimal_nanos("x"), None);
        assert_eq!(decimal_nanos("99999999999999"), None);
    }
}
