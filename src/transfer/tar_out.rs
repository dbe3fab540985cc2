//! Writing the content of an image as a tar stream.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::extract::{Extracted, LeftOut, Problem};
use crate::convention::device_numbers;
use crate::time::nanos;
use crate::{FileType, Littlefs, Metadata};

const NANOS: i64 = 1_000_000_000;
/// Files of at most this many bytes are read once, and larger ones twice.
const SMALL_MAX: usize = 4 << 20;

/// Write the entries at `paths` in the image, with everything below them, as a tar stream with
/// paths from the root on. Metadata that the image does not store is always the same: the time is
/// 0, the owner is 0, files have the mode 0644 and directories 0755. `progress` is called with the
/// bytes of content written so far.
///
/// Damaged entries are left out, and the rest is written.
///
/// # Errors
/// When the stream cannot be written.
pub fn to_tar(
    image: &Littlefs,
    paths: &[Vec<u8>],
    stream: impl Write,
    progress: &super::Progress<'_>,
) -> io::Result<Extracted> {
    let mut writer =
        TarWriter { image, builder: Builder::new(stream), progress, done: Extracted::default() };
    for path in paths {
        writer.add_tree(path)?;
    }
    writer.builder.into_inner()?.flush()?;
    Ok(writer.done)
}

struct TarWriter<'a, W: Write> {
    image: &'a Littlefs,
    builder: Builder<W>,
    progress: &'a super::Progress<'a>,
    done: Extracted,
}

impl<W: Write> TarWriter<'_, W> {
    fn add_tree(&mut self, path: &[u8]) -> io::Result<()> {
        let metadata = match self.image.metadata(path) {
            Ok(metadata) => metadata,
            Err(e) => return self.leave_out(path, Problem::Image(e)),
        };
        // the root directory is included only if it has metadata
        if !path.is_empty() || metadata.permissions().is_some() {
            self.add(path, &metadata)?;
        }
        if !metadata.is_dir() {
            return Ok(());
        }
        match self.image.walk(path) {
            Ok(walk) => {
                for next in walk {
                    match next {
                        Ok(entry) => self.add(entry.path(), entry.metadata())?,
                        Err(e) => self.leave_out(&e.path, Problem::Image(e.error))?,
                    }
                }
            }
            Err(e) => self.leave_out(path, Problem::Image(e))?,
        }
        Ok(())
    }

    /// Note that an entry is left out. The stream continues.
    fn leave_out(&mut self, path: &[u8], problem: Problem) -> io::Result<()> {
        self.done.left_out.push(LeftOut::new(path, problem));
        Ok(())
    }

    fn add(&mut self, path: &[u8], metadata: &Metadata) -> io::Result<()> {
        let mut header = header(metadata);
        let name = match (path, metadata.is_dir()) {
            ([], _) => b"./".to_vec(),
            (path, true) => [path, b"/"].concat(),
            (path, false) => path.to_vec(),
        };
        match metadata.file_type() {
            FileType::File => return self.add_file(path, &name, header, metadata),
            FileType::Dir => {}
            FileType::Symlink => {
                let target = match self.image.read(path) {
                    Ok(target) => target,
                    Err(e) => return self.leave_out(path, Problem::Image(e)),
                };
                self.add_times(metadata)?;
                self.done.files += 1;
                return self.builder.append_link(&mut header, os_path(&name), os_path(&target));
            }
            FileType::BlockDevice | FileType::CharDevice => {
                let content = self.image.read(path).ok();
                let Some((major, minor)) = content.as_deref().and_then(device_numbers) else {
                    let why = "the image does not store which device it is";
                    return self.leave_out(path, Problem::Unfit(why));
                };
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
            }
            FileType::Fifo => {}
            FileType::Socket => {
                let why = "is a socket, which cannot be stored in a tar stream";
                return self.leave_out(path, Problem::Unfit(why));
            }
        }
        if metadata.is_dir() {
            self.done.directories += 1;
        } else {
            self.done.files += 1;
        }
        self.add_times(metadata)?;
        self.builder.append_data(&mut header, os_path(&name), io::empty())
    }

    fn add_file(
        &mut self,
        path: &[u8],
        name: &[u8],
        mut header: Header,
        metadata: &Metadata,
    ) -> io::Result<()> {
        // The header comes first and cannot be taken back. So a file is read to its end once before
        // any part of it is written.
        let opened = self.image.open_file(path).and_then(|file| Ok((read_through(&file)?, file)));
        let (small, file) = match opened {
            Ok(opened) => opened,
            Err(e) => return self.leave_out(path, Problem::Image(e)),
        };
        self.done.examine(path, &file);
        header.set_size(file.len());
        self.add_times(metadata)?;
        let name = os_path(name);
        match small {
            Some(bytes) => self.builder.append_data(&mut header, name, &bytes[..])?,
            None => self.builder.append_data(&mut header, name, file)?,
        }
        self.done.bytes += metadata.len();
        self.done.files += 1;
        (self.progress)(self.done.bytes);
        Ok(())
    }

    /// Add times with a fraction of a second, which the header cannot store.
    fn add_times(&mut self, metadata: &Metadata) -> io::Result<()> {
        let Some(time) = metadata.modified().map(nanos) else { return Ok(()) };
        if time >= 0 && time % NANOS == 0 {
            return Ok(());
        }
        let seconds = pax_seconds(time);
        self.builder.append_pax_extensions([("mtime", seconds.as_bytes())])
    }
}

/// Read a file to its end, to check that it can be read. Returns its content if it is small.
fn read_through(file: &crate::File) -> Result<Option<Vec<u8>>, crate::Error> {
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap_or(SMALL_MAX).min(SMALL_MAX)];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut bytes, at)?;
        at += read as u64;
        if at >= file.len() || read == 0 {
            break;
        }
    }
    Ok((file.len() <= SMALL_MAX as u64).then_some(bytes))
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(match metadata.file_type() {
        FileType::Dir => EntryType::Directory,
        FileType::Symlink => EntryType::Symlink,
        FileType::Fifo => EntryType::Fifo,
        FileType::BlockDevice => EntryType::Block,
        FileType::CharDevice => EntryType::Char,
        FileType::File | FileType::Socket => EntryType::Regular,
    });
    let usual = if metadata.is_dir() { 0o755 } else { 0o644 };
    header.set_mode(metadata.permissions().unwrap_or(usual));
    header.set_uid(metadata.uid().unwrap_or(0).into());
    header.set_gid(metadata.gid().unwrap_or(0).into());
    let seconds = metadata.modified().map_or(0, |time| nanos(time).div_euclid(NANOS));
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    header.set_size(0);
    header
}

/// A time in the form of pax headers: seconds with a fraction.
fn pax_seconds(time: i64) -> String {
    let sign = if time < 0 { "-" } else { "" };
    let time = time.unsigned_abs();
    format!("{sign}{}.{:09}", time / 1_000_000_000, time % 1_000_000_000)
}

fn os_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_sign_and_a_fraction() {
        assert_eq!(pax_seconds(1_500_000_000), "1.500000000");
        assert_eq!(pax_seconds(-1_250_000_000), "-1.250000000");
        assert_eq!(pax_seconds(-1), "-0.000000001");
    }
}
