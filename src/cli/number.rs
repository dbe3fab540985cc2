//! Numbers on the command line.

/// A number of bytes: decimal or 0x hexadecimal, with an optional K, M or G (powers of 1024).
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a number of bytes (like 4096, 0x1000, 4K, 2M or 1G)");
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let (digits, radix) = match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (number, 10),
    };
    if digits.starts_with('+') {
        return Err(wrong());
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| wrong())?;
    value.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// [`parse_bytes`] for sizes that fit 32 bits.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_bytes_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_bytes(text)?).map_err(|_| format!("'{text}' is too large"))
}

/// A decimal number from `least` to `most`.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("it must be a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_hex_and_suffixes() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("0x1000"), Ok(4096));
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("3M"), Ok(3 << 20));
        assert_eq!(parse_bytes("70G"), Ok(70 << 30));
        for wrong in ["", "K", "-1", "+1", "0x", "4 K", "1T", "4KB", "99999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert!(parse_bytes_u32("4G").is_err());
    }
}
