//! The fingerprint by which a journal recognises the state of its image.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::bd::BlockDevice;
use crate::disk::{Pair, entry};
use crate::error::{Error, Result};
use crate::mdir::store;
use crate::transactions::format::Fingerprint;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// SHA-256 over the geometry, and over the place, the revision and the log bytes of every metadata
/// pair that the thread or the tree leads to. Every change of a file changes one of these, so the
/// blocks of file data are not read.
///
/// # Errors
/// If neither block of the superblock pair holds a valid commit, or a block cannot be read.
pub fn fingerprint(dev: &dyn BlockDevice) -> Result<Fingerprint> {
    let g = dev.geometry();
    let mut sum = Sha256::new();
    sum.update(g.block_size.to_le_bytes());
    sum.update(g.block_count.to_le_bytes());
    let mut seen = HashSet::new();
    let mut todo = vec![Pair::SUPERBLOCK];
    let mut buf = vec![0; CHUNK.min(g.block_size as usize)];
    while let Some(pair) = todo.pop() {
        if !pair.0.iter().all(|&block| seen.insert(block)) {
            continue;
        }
        let fetched = match store::fetch(dev, pair) {
            Ok(fetched) => fetched,
            // damaged pairs are part of the state, too
            Err(Error::Corrupt(_)) if pair != Pair::SUPERBLOCK => {
                sum.update(pair.to_bytes());
                continue;
            }
            Err(e) => return Err(e),
        };
        if let Some(e) = fetched.unreadable {
            return Err(e.into());
        }
        sum.update(fetched.pair.to_bytes());
        let (block, end) = (fetched.pair.0[0], fetched.log.off);
        sum.update(end.to_le_bytes());
        let mut at = 0;
        while at < end {
            let n = buf.len().min((end - at) as usize);
            dev.read(block, at, &mut buf[..n])?;
            sum.update(&buf[..n]);
            at += n as u32;
        }
        todo.extend(entry::dirs(&fetched.log.entries));
        todo.extend(fetched.log.tail.map(|tail| tail.pair).filter(|pair| !pair.is_null()));
    }
    Ok(sum.finalize().into())
}

/// The first 64 bits of a SHA-256.
pub(super) fn hash64(bytes: &[u8]) -> u64 {
    let sum: Fingerprint = Sha256::digest(bytes).into();
    sum.iter().take(8).fold(0, |all, b| all << 8 | u64::from(*b))
}
