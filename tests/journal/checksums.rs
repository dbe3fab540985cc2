//! Correcting the checksums of a journal after a mutation, so that the mutation is not noticed by
//! them.

use littlefs::transactions::format::{HEAD_SIZE, Header};
use littlefs::transactions::scan::Scan;

/// Correct the checksum of every entry that `scan` found in the bytes before they were mutated.
pub fn mend(bytes: &mut [u8], scan: &Scan) {
    let header = bytes.get(..scan.header_len as usize).unwrap_or_default();
    let Ok((_, _, mut previous)) = Header::from_bytes(header) else { return };
    for entry in &scan.entries {
        let (start, end) = (entry.start as usize, entry.end as usize);
        let Some(entry) = bytes.get_mut(start..end) else { return };
        let fields = HEAD_SIZE - 4;
        entry[fields - 4..fields].copy_from_slice(&previous.to_le_bytes());
        let sum = crc32fast::hash(&entry[..fields]);
        entry[fields..HEAD_SIZE].copy_from_slice(&sum.to_le_bytes());
        let mut sum = crc32fast::Hasher::new();
        sum.update(&entry[..fields]);
        sum.update(&entry[HEAD_SIZE..end - start - 4]);
        previous = sum.finalize();
        entry[end - start - 4..].copy_from_slice(&previous.to_le_bytes());
    }
}
