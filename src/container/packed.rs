//! Compressed files. They are unpacked into an unlinked file in `$TMPDIR`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream as xz;
use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::reader::Stream;
use super::trouble::Trouble;
use super::{Kind, ReadAt};
use crate::files;
use crate::show;

/// How many bytes are unpacked at a time.
const CHUNK: usize = 256 << 10;

/// How many bytes of memory unpacking may use.
const MEMORY_MAX: u64 = 256 << 20;

/// Unpack a compressed file, but no more than `limit` bytes.
///
/// # Errors
/// If the file is damaged or holds more, or if there is no space for its content.
pub fn unpack(source: &dyn ReadAt, kind: Kind, limit: u64) -> Result<File, Trouble> {
    let input = BufReader::with_capacity(CHUNK, Stream::new(source));
    match kind {
        Kind::Gzip => spool(MultiGzDecoder::new(input), kind, limit),
        Kind::Xz => {
            let stream = xz::Stream::new_stream_decoder(MEMORY_MAX, xz::CONCATENATED)
                .map_err(|e| Trouble::Damaged(e.to_string()))?;
            spool(XzDecoder::new_stream(input, stream), kind, limit)
        }
        Kind::Zstd => spool(Frames::new(input), kind, limit),
        _ => Err(Trouble::OnlyNamed(kind)),
    }
}

fn spool(mut packed: impl Read, kind: Kind, limit: u64) -> Result<File, Trouble> {
    let mut file = files::temporary().map_err(Trouble::Spool)?;
    let mut chunk = vec![0; CHUNK];
    let mut written = 0_u64;
    loop {
        let n = match packed.read(&mut chunk) {
            Ok(0) => return Ok(file),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) if e.raw_os_error().is_some() => return Err(Trouble::Io(e)),
            Err(e) if needs_memory(&e) => return Err(Trouble::Memory { limit: MEMORY_MAX }),
            Err(e) => {
                let written = show::bytes(written);
                let what = format!("the {kind} stream breaks off after {written} ({e})");
                return Err(Trouble::Damaged(what));
            }
        };
        written += n as u64;
        if written > limit {
            return Err(Trouble::TooLarge { limit });
        }
        file.write_all(chunk.get(..n).unwrap_or_default()).map_err(Trouble::Spool)?;
    }
}

/// Whether unpacking failed because it needs more memory than it may use.
fn needs_memory(e: &io::Error) -> bool {
    e.kind() == ErrorKind::OutOfMemory
        || e.get_ref().and_then(|e| e.downcast_ref()) == Some(&xz::Error::MemLimit)
}

/// The frames of a zstd file, one after the other.
struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    /// Whether the decoder is inside a frame whose content has not been read to its end.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(input: R) -> Self {
        Self { input, decoder: FrameDecoder::new(), inside: false }
    }

    /// Begin the next frame, or skip one that has no content.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.input) {
            Ok(()) => self.inside = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut skipped = (&mut self.input).take(u64::from(length));
                io::copy(&mut skipped, &mut io::sink())?;
            }
            Err(
                FrameDecoderError::WindowSizeTooBig { .. }
                | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig { .. }),
            ) => return Err(ErrorKind::OutOfMemory.into()),
            Err(e) => return Err(io::Error::other(e.to_string())),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.inside = false;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(sum)) if stored != sum => Err(io::Error::other("wrong checksum")),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside {
                if self.input.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin()?;
                continue;
            }
            if self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.input, one);
                decoded.map_err(|e| io::Error::other(e.to_string()))?;
            }
            match self.decoder.read(buf)? {
                0 if self.decoder.is_finished() => self.end()?,
                0 if buf.is_empty() => return Ok(0),
                0 => {}
                n => return Ok(n),
            }
        }
    }
}
