//! The CRC that littlefs uses everywhere: CRC-32 with polynomial 0x04c11db7, reflected, with a
//! given seed, and not inverted at the end.

use super::num::widen;

/// The seed of the CRC of a commit.
pub const SEED: u32 = 0xffff_ffff;

/// The CRC of `data`, continued from `crc`.
pub fn crc(crc: u32, data: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new_with_initial(!crc);
    h.update(data);
    !h.finalize()
}

/// The CRC of this many erased bytes: what a forward CRC is if nothing is behind its commit.
pub fn erased(count: u32) -> u32 {
    let chunk = [0xff; 64];
    let mut left = widen(count);
    let mut sum = SEED;
    while left > 0 {
        let now = left.min(chunk.len());
        sum = crc(sum, &chunk[..now]);
        left = left.saturating_sub(now);
    }
    sum
}

/// The CRC from which `crc` was continued by this many zero bytes.
///
/// The CRC is linear: if the same bytes have two CRCs because they were continued from two others,
/// the XOR of the two is what zero bytes make of the XOR of those others. So this also shows which
/// change of earlier bytes explains a wrong CRC.
pub fn before_zeros(mut crc: u32, count: usize) -> u32 {
    for _ in 0..count.saturating_mul(8) {
        // a step right that took out a 1 has put in the polynomial, whose highest bit is 1
        crc = if crc >> 31 == 0 { crc << 1 } else { ((crc ^ 0xedb8_8320) << 1) | 1 };
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as SPEC.md defines it.
    fn slow(mut crc: u32, data: &[u8]) -> u32 {
        for &b in data {
            crc ^= u32::from(b);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
        }
        crc
    }

    #[test]
    fn agrees_with_the_definition_and_can_be_continued() {
        let data: Vec<u8> = (0..=255).collect();
        assert_eq!(crc(SEED, &data), slow(SEED, &data));
        assert_eq!(crc(crc(SEED, &data[..100]), &data[100..]), crc(SEED, &data));
    }
    #[test]
    fn zero_bytes_can_be_undone() {
        for seed in [SEED, 0, 1, 0x8000_0000, 0x1234_5678] {
            assert_eq!(before_zeros(crc(seed, &[0; 77]), 77), seed);
        }
        // what has changed in the middle of some bytes follows from the two CRCs
        let (mut data, change) = ([7; 100], 0x0030_0201_u32);
        let right = crc(SEED, &data);
        data[40..44].iter_mut().zip(change.to_le_bytes()).for_each(|(byte, bits)| *byte ^= bits);
        assert_eq!(before_zeros(right ^ crc(SEED, &data), 60), change);
    }
}
