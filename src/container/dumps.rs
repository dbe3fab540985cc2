//! Dumps in text: what xxd, `xxd -p` and `hexdump -C` print.
//!
//! ```text
//! xxd           00000010: f00f fff7 6c69 7474 6c65 6673 2ff0 0010  ....littlefs/...
//! hexdump -C    00000010  f0 0f ff f7 6c 69 74 74  6c 65 66 73 2f f0 00 10  |....littlefs/...|
//! xxd -p        f00ffff76c6974746c6566732ff00010
//! ```
//!
//! A line that is a single `*` stands for rows like the one before, up to the address that follows.

use std::io::{BufRead, BufReader};

use super::reader::Stream;
use super::records::decode_hex;
use super::trouble::Trouble;
use super::{Kind, ReadAt};

/// Characters of a line: more than any of these programs prints.
const LINE_MAX: usize = 4096;
/// Bytes that rows left out stand for, given out at a time.
const CHUNK: usize = 64 << 10;

/// Takes content: its address, and the bytes.
pub type Visit<'v> = dyn FnMut(u64, &[u8]) -> Result<(), Trouble> + 'v;

/// Read all rows, and give their bytes to `visit`; rows left out stand for at most `limit` bytes.
///
/// # Errors
/// When the file cannot be read, a row is damaged, or `visit` fails.
pub fn read(
    source: &dyn ReadAt,
    kind: Kind,
    limit: u64,
    visit: &mut Visit<'_>,
) -> Result<(), Trouble> {
    let mut text = BufReader::with_capacity(CHUNK, Stream::new(source));
    let (mut line, mut row, mut digits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut number, mut end, mut repeated) = (0_u64, 0_u64, false);
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut text, LINE_MAX as u64);
        if limited.read_until(b'\n', &mut line).map_err(Trouble::Io)? == 0 {
            return Ok(());
        }
        number += 1;
        let damaged = |what: &str| Trouble::Damaged(format!("line {number}: {what}"));
        let shown = line.trim_ascii();
        if shown.is_empty() {
            continue;
        }
        if shown == b"*" && kind != Kind::HexDigits {
            repeated = true;
            continue;
        }
        digits.clear();
        let address = parse(kind, shown, &mut digits).ok_or_else(|| damaged("is no row"))?;
        let address = address.unwrap_or(end);
        if repeated && address > end {
            if address - end > limit {
                return Err(Trouble::TooLarge { limit });
            }
            repeat(&row, end, address, visit)?;
        }
        repeated = false;
        decode_hex(&digits, &mut row).ok_or_else(|| damaged("is no row"))?;
        visit(address, &row)?;
        end = address.saturating_add(row.len() as u64);
    }
}

/// The address that a line begins with, if it has one, and its digits.
fn parse(kind: Kind, line: &[u8], digits: &mut Vec<u8>) -> Option<Option<u64>> {
    let (address, rest) = match kind {
        Kind::HexDigits => {
            digits.extend_from_slice(line);
            return Some(None);
        }
        Kind::HexDump => {
            let colon = line.iter().position(|&b| b == b':')?;
            let rest = line.get(colon + 1..)?;
            // two spaces part the bytes from the characters they stand for
            let end = rest.windows(2).position(|pair| pair == b"  ").unwrap_or(rest.len());
            (line.get(..colon)?, rest.get(..end)?)
        }
        _ => {
            let end = line.iter().position(|&b| b == b'|').unwrap_or(line.len());
            let line = line.get(..end)?;
            line.split_at(line.iter().position(|&b| b == b' ').unwrap_or(line.len()))
        }
    };
    digits.extend(rest.iter().filter(|&&b| b != b' '));
    let address = std::str::from_utf8(address).ok()?;
    u64::from_str_radix(address, 16).ok().map(Some)
}

/// The bytes of rows that were left out.
fn repeat(row: &[u8], from: u64, to: u64, visit: &mut Visit<'_>) -> Result<(), Trouble> {
    if row.is_empty() {
        return Ok(());
    }
    let rows = row.repeat(CHUNK / row.len().min(CHUNK));
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(rows.len());
        visit(at, rows.get(..len).unwrap_or_default())?;
        at += len as u64;
    }
    Ok(())
}
