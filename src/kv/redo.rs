//! The redo value: the changes of a batch, kept in the image until they are applied.
//!
//! All integers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `KVBATCH1` |
//! | 8 | time of the batch: nanoseconds since 1970, signed |
//! | | one record for each key, sorted |
//! | 4 | CRC-32 of everything before, as in a commit (SPEC: `0x5xx` CRC) |
//!
//! | bytes of a record | what |
//! |---|---|
//! | 1 | 0: the key is removed; 1: it is set; 2: it is set, and has a time of its own |
//! | 4 | length of the key |
//! | | the key: segments with `/` between them |
//! | 8 | with 2: the time |
//! | 4 | with 1 and 2: length of the value |
//! | | with 1 and 2: the value |
//!
//! Every record has the new content of a key, never the difference from the old content. So
//! applying some or all of them again has the same result.

use std::collections::BTreeMap;

use super::{Key, Result};
use crate::disk::crc;

const MAGIC: &[u8; 8] = b"KVBATCH1";
const GONE: u8 = 0;
const SET: u8 = 1;
const SET_WITH_TIME: u8 = 2;

/// The change that a batch makes to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The key is removed, whatever it refers to.
    Gone,
    /// The key is set, whatever it referred to before.
    Set {
        /// The new value.
        data: Vec<u8>,
        /// The time of the value, if it is not the time of the batch.
        time: Option<i64>,
    },
}

/// The changes of a batch. A removed key can be followed by keys that are set inside it; a key that
/// is set has no keys inside it.
pub(super) type Changes = BTreeMap<Key, Change>;

/// The redo value for a batch that is made at `time`.
///
/// # Errors
/// If it would be larger than the largest possible file.
pub(super) fn encode(changes: &Changes, time: i64) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(time.to_le_bytes());
    let put = |bytes: &mut Vec<u8>, part: &[u8]| -> Result<()> {
        let len = u32::try_from(part.len()).map_err(|_| crate::Error::FileTooLarge)?;
        bytes.extend(len.to_le_bytes());
        bytes.extend(part);
        Ok(())
    };
    for (key, change) in changes {
        match change {
            Change::Gone => {
                bytes.push(GONE);
                put(&mut bytes, key.as_bytes())?;
            }
            Change::Set { data, time } => {
                bytes.push(if time.is_some() { SET_WITH_TIME } else { SET });
                put(&mut bytes, key.as_bytes())?;
                bytes.extend(time.map(i64::to_le_bytes).into_iter().flatten());
                put(&mut bytes, data)?;
            }
        }
    }
    let sum = crc::crc(crc::SEED, &bytes);
    bytes.extend(sum.to_le_bytes());
    Ok(bytes)
}

/// The changes in a redo value, and the time of its batch; `None` if the bytes are not a redo
/// value.
pub(super) fn decode(bytes: &[u8]) -> Option<(Changes, i64)> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc::crc(crc::SEED, content) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let time = take_time(&mut rest)?;
    let mut changes = Changes::new();
    while let Some((&op, tail)) = rest.split_first() {
        rest = tail;
        let key = Key::new(take(&mut rest)?).ok()?;
        let change = match op {
            GONE => Change::Gone,
            SET => Change::Set { data: take(&mut rest)?.to_vec(), time: None },
            SET_WITH_TIME => {
                let time = Some(take_time(&mut rest)?);
                Change::Set { data: take(&mut rest)?.to_vec(), time }
            }
            _ => return None,
        };
        if key.is_root() || super::is_reserved(&key) {
            return None;
        }
        changes.insert(key, change);
    }
    Some((changes, time))
}

/// Take the next part, which begins with its length, from `rest`.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = tail;
    Some(part)
}

fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let (time, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(i64::from_le_bytes(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        let key = |path| Key::new(path).expect("a key");
        Changes::from([
            (key("a"), Change::Gone),
            (key("a/b"), Change::Set { data: b"value".to_vec(), time: None }),
            (key("a/c"), Change::Set { data: Vec::new(), time: Some(-5) }),
        ])
    }

    #[test]
    fn encoded_changes_are_decoded() {
        let bytes = encode(&changes(), 77).expect("encode");
        assert_eq!(decode(&bytes), Some((changes(), 77)));
        let empty = encode(&Changes::new(), 0).expect("encode");
        assert_eq!((empty.len(), decode(&empty)), (20, Some((Changes::new(), 0))));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = encode(&changes(), 77).expect("encode");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "{at} bytes");
        }
        // the checksum is right, but the lengths are not
        let with_sum = |mut bytes: Vec<u8>| {
            let sum = crc::crc(crc::SEED, &bytes);
            bytes.extend(sum.to_le_bytes());
            bytes
        };
        let head = &bytes[..16];
        for tail in [
            &[1, 255, 255, 255, 255][..],
            &[3, 1, 0, 0, 0, b'a'],
            &[0, 0, 0, 0, 0],
            &[0, 9, 0, 0, 0, b'.', b'k', b'v', b'-', b'b', b'a', b't', b'c', b'h'],
            &[0, 2, 0, 0, 0, b'.', b'.'],
            &[2, 1, 0, 0, 0, b'a', 0],
        ] {
            assert_eq!(decode(&with_sum([head, tail].concat())), None, "{tail:?}");
        }
    }
}
