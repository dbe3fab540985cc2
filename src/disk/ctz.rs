//! CTZ skip-lists: index arithmetic (SPEC: `0x202` CTZSTRUCT, DESIGN: CTZ skip-lists).
//!
//! Block `i > 0` of a file starts with `ctz(i) + 1` pointers, the k-th to block `i - 2^k`; then
//! comes data. Block 0 is all data.

/// Pointers at the start of block `i`.
pub fn pointers(i: u32) -> u32 {
    if i == 0 { 0 } else { i.trailing_zeros() + 1 }
}

/// The blocks of the file that the pointers of block `i` lead to, in their order.
pub fn targets(i: u32) -> impl Iterator<Item = u32> {
    (0..pointers(i)).map(move |k| i - (1 << k))
}

/// Offset in bytes of the first data byte in block `i`.
pub fn data_offset(i: u32) -> u32 {
    4 * pointers(i)
}

/// Which block holds byte `pos` of a file, and at which offset of that block.
///
/// Up to block `i` there are `2i - popcount(i)` pointers: one in every block but the first, one more in
/// every second of those, and so on. With these 4 bytes each, the byte at offset `off` of block `i` has
/// `pos = i * (block_size - 8) + 4 * popcount(i) + off`. Without the popcount this gives an `i` that is
/// never too small; DESIGN.md shows that one correction by `popcount(i - 1) + 2` makes it right.
pub fn locate(block_size: u32, pos: u32) -> (u32, u32) {
    let b = u64::from(block_size) - 8;
    let pos = u64::from(pos);
    let i = pos / b;
    if i == 0 {
        return (0, pos as u32);
    }
    let i = (pos - 4 * (u64::from((i - 1).count_ones()) + 2)) / b;
    (i as u32, (pos - b * i - 4 * u64::from(i.count_ones())) as u32)
}

/// The file position of the first data byte of block `i`.
pub fn start(block_size: u32, i: u32) -> u64 {
    if i == 0 {
        return 0;
    }
    let b = u64::from(block_size) - 8;
    b * u64::from(i) + 4 * u64::from(i.count_ones()) + u64::from(data_offset(i))
}

/// Blocks of a file of `size` bytes.
pub fn blocks(block_size: u32, size: u32) -> u32 {
    match size.checked_sub(1) {
        None => 0,
        Some(last) => locate(block_size, last).0 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_from_counting_data_bytes() {
        for bs in [104, 128, 512, 4096] {
            let mut pos = 0u32;
            for i in 0..300 {
                assert_eq!(start(bs, i), u64::from(pos), "block {i} of {bs}");
                assert_eq!(locate(bs, pos), (i, data_offset(i)));
                let capacity = bs - data_offset(i);
                pos += capacity;
                assert_eq!(locate(bs, pos - 1), (i, bs - 1));
                assert_eq!(blocks(bs, pos), i + 1);
            }
        }
        assert_eq!(blocks(4096, 0), 0);
        assert!(blocks(104, 0x7fff_ffff) > 20_000_000);
    }
}
