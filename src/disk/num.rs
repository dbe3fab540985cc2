//! Conversions between the 32-bit numbers of the format and the numbers of this machine.

const _: () = assert!(usize::BITS >= u32::BITS, "offsets and lengths are indices in memory");

/// An offset, a length or a number of things, as an index in memory. The assertion above shows that
/// nothing is lost.
#[expect(clippy::as_conversions, reason = "lossless, and From is not implemented for usize")]
pub const fn widen(n: u32) -> usize {
    n as usize
}

/// An index or a length in memory as a number of 32 bits; the largest such number if it does not
/// fit. Offsets in a block always fit.
pub fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The low 32 bits. No offset in a block has more.
pub const fn low32(n: usize) -> u32 {
    let [first, second, third, fourth, ..] = n.to_le_bytes();
    u32::from_le_bytes([first, second, third, fourth])
}

/// The low 16 bits.
pub const fn low16(n: u32) -> u16 {
    let [first, second, ..] = n.to_le_bytes();
    u16::from_le_bytes([first, second])
}

/// The low 8 bits.
pub const fn low8(n: u32) -> u8 {
    let [first, ..] = n.to_le_bytes();
    first
}
