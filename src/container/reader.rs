//! Reading a source from its start to its end.

use std::io::{self, Read};

use super::ReadAt;

/// How many bytes are read at a time.
const CHUNK: usize = 256 << 10;

/// A source as a stream.
pub struct Stream<'a> {
    source: &'a dyn ReadAt,
    at: u64,
}

impl<'a> Stream<'a> {
    /// A stream that begins with the first byte.
    pub fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, at: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_up_to(self.at, buf)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A source in blocks of one size. A shorter block at the end is left out.
pub struct Blocks<'a> {
    source: &'a dyn ReadAt,
    size: usize,
    chunk: Vec<u8>,
    /// The position of the chunk in the source.
    chunk_at: u64,
    /// How many bytes of the chunk were returned.
    done: usize,
}

impl<'a> Blocks<'a> {
    /// Blocks of `size` bytes.
    pub fn new(source: &'a dyn ReadAt, size: usize) -> Self {
        Self { source, size, chunk: Vec::new(), chunk_at: 0, done: 0 }
    }

    /// The next block, and its position.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        if self.done + self.size > self.chunk.len() {
            self.chunk_at += self.done as u64;
            self.done = 0;
            self.chunk.resize(CHUNK / self.size.max(1) * self.size, 0);
            let read = self.source.read_up_to(self.chunk_at, &mut self.chunk)?;
            self.chunk.truncate(read);
        }
        let start = self.done;
        let Some(block) = self.chunk.get(start..start + self.size) else { return Ok(None) };
        self.done += self.size;
        Ok(Some((self.chunk_at + start as u64, block)))
    }
}
