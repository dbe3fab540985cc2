//! Putting an image into a format that flashing tools accept: into a new file, or into a copy of an
//! existing file in place of its content.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use md5::{Digest, Md5};

use super::content::Group;
use super::trouble::{Remarks, Trouble};
use super::uf2::{BLOCK, DATA_AT, HAS_MD5};
use super::{Kind, ReadAt, Unwrapped, dfu, records, uf2};
use crate::disk::read_u32_le;

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;
/// How many bytes of content a new UF2 block gets.
const UF2_LEN: usize = 256;
/// How many bytes of content each new record has that fills a gap of the file.
const ADDED_LEN: usize = 256;
/// Where the MD5 and its range are in a UF2 block.
const MD5_AT: usize = 484;

/// The format to write, and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The format: UF2, Intel HEX, S-records or DfuSe.
    pub kind: Kind,
    /// The address of the first byte.
    pub base: u32,
    /// The family of processors that a UF2 file is for.
    pub family: Option<u32>,
}

/// Write all bytes of `raw` in a format.
///
/// # Errors
/// If `raw` cannot be read, if it has more bytes than the format has addresses, or if the output
/// fails.
pub fn wrap(raw: &dyn ReadAt, target: Target, out: &mut impl Write) -> Result<(), Trouble> {
    let size = raw.size().map_err(Trouble::Io)?;
    if u64::from(target.base) + size > 1 << 32 {
        return Err(Trouble::NoAddress { size, base: target.base });
    }
    if size == 0 {
        return Err(Trouble::Empty);
    }
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut encoded) = (0_u64, Vec::new());
    let mut whole = Vec::new();
    while at < size {
        let read = raw.read_up_to(at, &mut chunk).map_err(Trouble::Io)?;
        if read == 0 {
            break;
        }
        let (data, address) = (&chunk[..read], target.base + at as u32);
        encoded.clear();
        match target.kind {
            Kind::Uf2 => {
                let count = size.div_ceil(UF2_LEN as u64) as u32;
                for (i, part) in data.chunks(UF2_LEN).enumerate() {
                    let done = (i * UF2_LEN) as u32;
                    let number = ((at + u64::from(done)) / UF2_LEN as u64) as u32;
                    let block = uf2::encode(address + done, part, number, count, target.family);
                    encoded.extend(block);
                }
            }
            Kind::DfuSe => whole.extend_from_slice(data),
            kind => records::encode(kind, address, data, &mut encoded),
        }
        out.write_all(&encoded).map_err(Trouble::Io)?;
        at += read as u64;
    }
    encoded.clear();
    match target.kind {
        Kind::Uf2 => {}
        Kind::DfuSe => encoded = dfu::encode(&[(target.base, whole)]),
        kind => records::encode_end(kind, &mut encoded),
    }
    out.write_all(&encoded).map_err(Trouble::Io)
}

/// What was done to put an image into a copy of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Records whose content changed.
    pub changed: u64,
    /// Records that were added because the file had gaps.
    pub added: u64,
}

/// The image that replaces the content of a file.
struct Image<'a> {
    raw: &'a dyn ReadAt,
    /// The address of its first byte, and of the byte after its last.
    base: u64,
    end: u64,
}

impl Image<'_> {
    /// The bytes of the image for these addresses. Where the image has none, the old bytes stay.
    fn instead_of(&self, address: u64, old: &[u8]) -> io::Result<Vec<u8>> {
        let mut new = old.to_vec();
        let from = self.base.saturating_sub(address).min(new.len() as u64) as usize;
        let to = self.end.saturating_sub(address).min(new.len() as u64) as usize;
        if let Some(part) = new.get_mut(from..to) {
            self.raw.read_up_to((address + from as u64).saturating_sub(self.base), part)?;
        }
        Ok(new)
    }
}

/// Write a copy of `like` to `out`, in which the bytes of `raw` replace the content. The first byte
/// of `raw` has the address `base`. Records that do not change stay the same byte for byte. If
/// `like` has gaps, records are added there for bytes that are not erased.
///
/// # Errors
/// If a file cannot be read or written, `like` is of a format that this program does not write, or
/// a part of `like` is missing or damaged.
pub fn replace(
    raw: &dyn ReadAt,
    like: &File,
    content: &Unwrapped,
    base: u64,
    out: &File,
) -> Result<Replaced, Trouble> {
    let kind = match content.kinds[..] {
        [kind] if kind.can_be_made() => kind,
        [kind, ..] => return Err(Trouble::NotMade(kind)),
        [] => return Err(Trouble::Empty),
    };
    // otherwise the copy would be as incomplete as the file, or look complete without being so
    if let Some(what) = &content.remarks.damage {
        return Err(Trouble::Incomplete(what.clone()));
    }
    copy(like, out)?;
    let size = raw.size().map_err(Trouble::Io)?;
    let image = Image { raw, base, end: base.saturating_add(size) };
    let mut replaced = Replaced::default();
    let added = gaps(&image, content)?;
    replaced.added = added.len() as u64;
    let mut remarks = Remarks::default();
    match kind {
        Kind::Uf2 => replace_uf2(&image, like, &content.group, &added, out, &mut replaced)?,
        Kind::DfuSe => {
            dfu::read(like, &mut remarks, &mut |at, group, address, old| {
                if *group == content.group {
                    let new = image.instead_of(address.into(), old).map_err(Trouble::Io)?;
                    put(out, at, old, &new, &mut replaced)?;
                }
                Ok(())
            })?;
            add_elements(like, &added, out)?;
        }
        kind => {
            let end = records::read(like, kind, &mut remarks, &mut |record| {
                replace_record(&image, record, out, &mut replaced)
            })?;
            add_records(like, kind, &added, end, out)?;
        }
    }
    Ok(replaced)
}

fn copy(from: &File, to: &File) -> Result<(), Trouble> {
    let (mut chunk, mut at) = (vec![0; CHUNK], 0);
    loop {
        let read = from.read_up_to(at, &mut chunk).map_err(Trouble::Io)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all_at(&chunk[..read], at).map_err(Trouble::Io)?;
        at += read as u64;
    }
}

fn put(
    out: &File,
    at: u64,
    old: &[u8],
    new: &[u8],
    replaced: &mut Replaced,
) -> Result<(), Trouble> {
    if old != new {
        out.write_all_at(new, at).map_err(Trouble::Io)?;
        replaced.changed += 1;
    }
    Ok(())
}

/// The bytes of the image for which the file has no records, except erased ones.
fn gaps(image: &Image<'_>, content: &Unwrapped) -> Result<Vec<(u32, Vec<u8>)>, Trouble> {
    let mut added = Vec::new();
    for (from, to) in content.gaps(image.base, image.end) {
        let mut at = from;
        while at < to {
            let end = to.min(at - at % ADDED_LEN as u64 + ADDED_LEN as u64);
            let mut bytes = vec![0xff; (end - at) as usize];
            image.raw.read_up_to(at - image.base, &mut bytes).map_err(Trouble::Io)?;
            if bytes.iter().any(|&b| b != 0xff) {
                let address = u32::try_from(at).map_err(|_| Trouble::TooManyPieces)?;
                added.push((address, bytes));
            }
            at = end;
        }
    }
    Ok(added)
}

fn replace_uf2(
    image: &Image<'_>,
    like: &File,
    wanted: &Group,
    added: &[(u32, Vec<u8>)],
    out: &File,
    replaced: &mut Replaced,
) -> Result<(), Trouble> {
    let mut remarks = Remarks::default();
    let mut last: Option<(u64, Vec<u8>)> = None;
    let mut runs = 0_u32;
    uf2::read(like, &mut remarks, &mut |at, group, block| {
        if group != wanted {
            return Ok(());
        }
        runs += u32::from(read_u32_le(block.bytes, 20) == Some(0));
        let address = block.address.into();
        let new = image.instead_of(address, block.data).map_err(Trouble::Io)?;
        put(out, at + DATA_AT as u64, block.data, &new, replaced)?;
        if new != block.data && block.flags & HAS_MD5 != 0 {
            let word = |p| read_u32_le(block.bytes, MD5_AT + p).unwrap_or(0);
            let mut of = vec![0xff; (word(4) as usize).min(CHUNK)];
            if u64::from(word(0)) == address && of.len() == new.len() {
                of.copy_from_slice(&new);
            } else {
                let from = u64::from(word(0)).saturating_sub(image.base);
                image.raw.read_up_to(from, &mut of).map_err(Trouble::Io)?;
            }
            let sum = Md5::digest(&of);
            out.write_all_at(&sum, at + MD5_AT as u64 + 8).map_err(Trouble::Io)?;
        }
        last = Some((at, block.bytes.to_vec()));
        Ok(())
    })?;
    let Some((_, like_block)) = last.filter(|_| !added.is_empty()) else { return Ok(()) };
    let count = read_u32_le(&like_block, 24).unwrap_or(0);
    let flags = read_u32_le(&like_block, 8).unwrap_or(0);
    let family = (flags & uf2::HAS_FAMILY != 0).then(|| read_u32_le(&like_block, 28)).flatten();
    // If the block numbers of the file form one run, the new blocks continue it. If the numbers
    // start again within the file, the new blocks form another run.
    let (first, all) = match runs {
        0 | 1 => (count, count.saturating_add(added.len() as u32)),
        _ => (0, added.len() as u32),
    };
    if runs <= 1 {
        uf2::read(like, &mut remarks, &mut |at, group, _| {
            if group == wanted {
                out.write_all_at(&all.to_le_bytes(), at + 24).map_err(Trouble::Io)?;
            }
            Ok(())
        })?;
    }
    let mut at = like.size().map_err(Trouble::Io)?.next_multiple_of(BLOCK as u64);
    for (i, (address, data)) in added.iter().enumerate() {
        let block = uf2::encode(*address, data, first.saturating_add(i as u32), all, family);
        out.write_all_at(&block, at).map_err(Trouble::Io)?;
        at += BLOCK as u64;
    }
    Ok(())
}

/// Replace the digits of a record and its checksum. The letters keep their case.
fn replace_record(
    image: &Image<'_>,
    record: records::Record<'_>,
    out: &File,
    replaced: &mut Replaced,
) -> Result<(), Trouble> {
    let new = image.instead_of(record.address.into(), record.data).map_err(Trouble::Io)?;
    if new == record.data {
        return Ok(());
    }
    let mut digits = vec![0; 2 * new.len() + 2];
    out.read_exact_at(&mut digits, record.at).map_err(Trouble::Io)?;
    let lower = digits.iter().any(u8::is_ascii_lowercase);
    let mut check = Vec::new();
    let old_check = digits.get(2 * new.len()..).unwrap_or_default();
    records::decode_hex(old_check, &mut check).ok_or(Trouble::Empty)?;
    // the checksum is the one's or the two's complement of the sum, so it decreases by as much as
    // the sum increases
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
    let old_check = check.first().copied().unwrap_or(0);
    let new_check = old_check.wrapping_add(sum(record.data)).wrapping_sub(sum(&new));
    let text: String = new.iter().chain([&new_check]).map(|b| format!("{b:02X}")).collect();
    let text = if lower { text.to_lowercase() } else { text };
    out.write_all_at(text.as_bytes(), record.at).map_err(Trouble::Io)?;
    replaced.changed += 1;
    Ok(())
}

/// Add records before the one that ends the file.
fn add_records(
    like: &File,
    kind: Kind,
    added: &[(u32, Vec<u8>)],
    end: u64,
    out: &File,
) -> Result<(), Trouble> {
    if added.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for (address, data) in added {
        records::encode(kind, *address, data, &mut text);
    }
    let size = like.size().map_err(Trouble::Io)?;
    let mut rest = vec![0; usize::try_from(size.saturating_sub(end)).unwrap_or(0).min(CHUNK)];
    let read = like.read_up_to(end, &mut rest).map_err(Trouble::Io)?;
    rest.truncate(read);
    if kind == Kind::Srec {
        let lines = text.iter().filter(|&&b| b == b'\n').count();
        rest = records::with_raised_count(&rest, u32::try_from(lines).unwrap_or(u32::MAX));
    }
    text.extend(rest);
    out.write_all_at(&text, end).map_err(Trouble::Io)
}

/// Add elements after those of the last target, and correct the checksum.
fn add_elements(like: &File, added: &[(u32, Vec<u8>)], out: &File) -> Result<(), Trouble> {
    let size = like.size().map_err(Trouble::Io)?;
    let has_suffix = dfu::checksum(like)?.is_some();
    let body = if has_suffix { size - dfu::SUFFIX } else { size };
    let mut suffix = vec![0; (size - body) as usize];
    like.read_up_to(body, &mut suffix).map_err(Trouble::Io)?;
    let mut elements = Vec::new();
    for (address, data) in added {
        elements.extend(address.to_le_bytes());
        elements.extend((data.len() as u32).to_le_bytes());
        elements.extend(data);
    }
    if !elements.is_empty() {
        let target = dfu::last_target(like)?;
        for (at, more) in
            [(6, elements.len()), (target + 266, elements.len()), (target + 270, added.len())]
        {
            let mut word = [0; 4];
            like.read_up_to(at, &mut word).map_err(Trouble::Io)?;
            let word = u32::from_le_bytes(word).saturating_add(more as u32);
            out.write_all_at(&word.to_le_bytes(), at).map_err(Trouble::Io)?;
        }
        out.write_all_at(&elements, body).map_err(Trouble::Io)?;
    }
    if has_suffix {
        let at = body + elements.len() as u64;
        out.write_all_at(&suffix, at).map_err(Trouble::Io)?;
        if let Some((_, right)) = dfu::checksum(out)? {
            out.write_all_at(&right.to_le_bytes(), at + 12).map_err(Trouble::Io)?;
        }
    }
    Ok(())
}
