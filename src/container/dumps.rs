//! Text dumps: the output of xxd, hexdump and od.
//!
//! ```text
//! xxd           00000010: f00f fff7 6c69 7474 6c65 6673 2ff0 0010  ....littlefs/...
//! hexdump -C    00000010  f0 0f ff f7 6c 69 74 74  6c 65 66 73 2f f0 00 10  |....littlefs/...|
//! xxd -p        f00ffff76c6974746c6566732ff00010
//! hexdump       0000010 0ff0 f7ff 696c 7474 656c 7366 f02f 1000
//! od            0000020 007760 173777 064554 072164 062554 071546 170057 010000
//! ```
//!
//! hexdump and od print numbers of one, two, four or eight bytes, which are read here with the
//! lowest byte first, and addresses in octal or hexadecimal. A line that is a single `*` stands for
//! copies of the row before it, up to the address that follows. A last line that is only an address
//! gives the size.

use std::io::{BufRead, BufReader};

use super::reader::Stream;
use super::records::decode_hex;
use super::trouble::{Remarks, Trouble};
use super::{Kind, ReadAt, read_lenient};

/// A line has at most this many characters. None of these programs prints more.
const LINE_MAX: usize = 4096;
/// How many bytes of omitted rows are passed on at a time.
const CHUNK: usize = 64 << 10;

/// Receives content: its address and its bytes.
pub type Visit<'v> = dyn FnMut(u64, &[u8]) -> Result<(), Trouble> + 'v;

/// Read all rows, and pass their bytes to `visit`. All omitted rows together may stand for no more
/// than `limit` bytes. If rows are missing, that is added to `remarks`.
///
/// # Errors
/// If the file cannot be read, a row is damaged, or `visit` fails.
pub fn read(
    source: &dyn ReadAt,
    kind: Kind,
    limit: u64,
    remarks: &mut Remarks,
    visit: &mut Visit<'_>,
) -> Result<(), Trouble> {
    let mut text = BufReader::with_capacity(CHUNK, Stream::new(source));
    let numbers = match kind {
        Kind::NumberDump => Some(recognised(source)?),
        _ => None,
    };
    let (mut line, mut row, mut digits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut number, mut end, mut repeated, mut has_rows) = (0_u64, 0_u64, false, false);
    // the last row may be padded with zeros: it ends at the address that the next line gives
    let mut held: Option<u64> = None;
    let mut gaps = Gaps::default();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut text, LINE_MAX as u64);
        if limited.read_until(b'\n', &mut line).map_err(Trouble::Io)? == 0 {
            gaps.report(remarks);
            return held.map_or(Ok(()), |at| visit(at, &row));
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
        let address = match numbers {
            Some(numbers) => numbers.address(shown).map(Some),
            None => parse(kind, shown, &mut digits),
        };
        let address = address.ok_or_else(|| damaged("is not a row of a dump"))?.unwrap_or(end);
        if let Some(at) = held.take() {
            row.truncate(usize::try_from(address.saturating_sub(at)).unwrap_or(usize::MAX));
            visit(at, &row)?;
            end = at.saturating_add(row.len() as u64);
        }
        if repeated && address > end {
            if address - end > limit {
                return Err(Trouble::TooLarge { limit });
            }
            repeat(&row, end, address, visit)?;
        } else if has_rows && address > end {
            gaps.add(address);
        }
        (repeated, has_rows) = (false, true);
        if let Some(numbers) = numbers {
            row.clear();
            numbers.row(shown, &mut row).ok_or_else(|| damaged("is not a row of a dump"))?;
            held = Some(address);
            continue;
        }
        decode_hex(&digits, &mut row).ok_or_else(|| damaged("is not a row of a dump"))?;
        visit(address, &row)?;
        end = address.saturating_add(row.len() as u64);
    }
}

/// Places where the address is higher than the rows before it explain, without a `*`.
#[derive(Default)]
struct Gaps {
    /// The address after the first of them.
    first: Option<u64>,
    /// How many there are after that.
    more: u64,
}

impl Gaps {
    fn add(&mut self, address: u64) {
        match self.first {
            None => self.first = Some(address),
            Some(_) => self.more = self.more.saturating_add(1),
        }
    }

    fn report(&self, remarks: &mut Remarks) {
        let Some(address) = self.first else { return };
        let more = match self.more {
            0 => String::new(),
            1 => " and at 1 more place".to_owned(),
            n => format!(" and at {n} more places"),
        };
        remarks.damaged(format!(
            "lines are missing before address {address:#x}{more}, and read as erased"
        ));
    }
}

/// The address at the beginning of a line, if there is one. The digits of the line are put into
/// `digits`.
fn parse(kind: Kind, line: &[u8], digits: &mut Vec<u8>) -> Option<Option<u64>> {
    let (address, rest) = match kind {
        Kind::HexDigits => {
            digits.extend(line.iter().filter(|&&b| b != b' '));
            return Some(None);
        }
        Kind::HexDump => {
            let colon = line.iter().position(|&b| b == b':')?;
            let rest = line.get(colon + 1..)?;
            // two spaces separate the bytes from the characters that they stand for
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

/// Pass on the bytes of rows that were omitted.
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

/// The format of a dump by hexdump or od.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The radix of addresses: 8 or 16.
    address_radix: u32,
    /// The radix of numbers: 8 or 16.
    radix: u32,
    /// How many digits a number has.
    digits: usize,
    /// How many bytes a number stands for.
    bytes: usize,
}

/// The numbers that these programs print: digits, radix and bytes.
const NUMBERS: [(usize, u32, usize); 8] =
    [(2, 16, 1), (4, 16, 2), (8, 16, 4), (16, 16, 8), (3, 8, 1), (6, 8, 2), (11, 8, 4), (22, 8, 8)];

impl Numbers {
    /// The format of the dump that begins with this text. `None` if no two of its rows follow each
    /// other as in a dump.
    pub fn of(start: &[u8]) -> Option<Self> {
        let mut lines = start.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.next()?;
        let mut words = words(first);
        let (address, word) = (words.next()?, words.next()?);
        let (digits, radix, bytes) = *NUMBERS
            .iter()
            .find(|(digits, radix, _)| *digits == word.len() && number(word, *radix).is_some())?;
        if !(6..=16).contains(&address.len()) {
            return None;
        }
        let mut before = first;
        for line in lines.filter(|line| !line.is_empty()) {
            for address_radix in [16, 8] {
                let numbers = Self { address_radix, radix, digits, bytes };
                let mut row = Vec::new();
                numbers.row(before, &mut row);
                let behind = numbers.address(before)?.checked_add(row.len() as u64);
                if !row.is_empty() && numbers.address(line) == behind {
                    return Some(numbers);
                }
            }
            // omitted rows give no evidence of the format
            before = if line == b"*" { before } else { line };
        }
        None
    }

    /// The address at the beginning of a line.
    fn address(self, line: &[u8]) -> Option<u64> {
        number(words(line).next()?, self.address_radix)
    }

    /// The bytes of a line.
    fn row(self, line: &[u8], row: &mut Vec<u8>) -> Option<()> {
        for word in words(line).skip(1) {
            let value = number(word, self.radix).filter(|_| word.len() == self.digits)?;
            if self.bytes < 8 && value >> (8 * self.bytes) > 0 {
                return None;
            }
            row.extend_from_slice(value.to_le_bytes().get(..self.bytes)?);
        }
        Some(())
    }
}

/// The words of a line, up to the characters that the bytes stand for.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = line.iter().position(|&b| b == b'>').unwrap_or(line.len());
    let line = line.get(..end).unwrap_or_default();
    line.split(|&b| b == b' ').filter(|word| !word.is_empty())
}

fn number(word: &[u8], radix: u32) -> Option<u64> {
    let digits = word.iter().all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(word)
        .ok()
        .filter(|_| digits)
        .and_then(|w| u64::from_str_radix(w, radix).ok())
}

/// The format of a file that was already recognised as a dump.
fn recognised(source: &dyn ReadAt) -> Result<Numbers, Trouble> {
    let (start, _) = read_lenient(source, 0, LINE_MAX);
    Numbers::of(&start).ok_or_else(|| Trouble::Damaged("line 1: is not a row of a dump".to_owned()))
}
