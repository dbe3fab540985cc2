//! The CRC that littlefs uses everywhere: CRC-32 with polynomial 0x04c11db7, reflected, with a
//! given seed, and not inverted at the end.

/// The seed of the CRC of a commit.
pub const SEED: u32 = 0xffff_ffff;

/// The CRC of `data`, continued from `crc`.
pub fn crc(crc: u32, data: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new_with_initial(!crc);
    h.update(data);
    !h.finalize()
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
}
