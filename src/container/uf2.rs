//! UF2: blocks of 512 bytes that boot loaders accept as files (<https://github.com/microsoft/uf2>).
//!
//! ```text
//! bytes  0-7    magic words 0x0a324655 0x9e5d5157
//! bytes  8-11   flags
//! bytes 12-15   address, or offset in a file
//! bytes 16-19   bytes of content
//! bytes 20-27   number of the block, blocks in all
//! bytes 28-31   family of processors, or size of a file
//! bytes 32-507  content, then tags, an MD5 of flash in the last 24
//! bytes 508-511 magic word 0x0ab16f30
//! ```

use std::collections::HashMap;

use super::content::Group;
use super::trouble::{Remarks, Trouble};
use super::{ReadAt, reader::Blocks};
use crate::disk::read_u32_le;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Where content starts in a block.
pub const DATA_AT: usize = 32;
/// The largest number of content bytes in a block.
const DATA_MAX: usize = 476;
/// The magic words at the start of a block.
pub const MAGIC: [u8; 8] = *b"UF2\n\x57\x51\x5d\x9e";
/// The magic word at the end of a block.
pub const MAGIC_END: [u8; 4] = *b"\x30\x6f\xb1\x0a";
/// The flag of a block whose content is not for the main flash.
const NOT_MAIN_FLASH: u32 = 0x0001;
/// The flag of a block that holds a part of a file.
const FILE_CONTAINER: u32 = 0x1000;
/// The flag of a block that names its family.
pub const HAS_FAMILY: u32 = 0x2000;
/// The flag of a block in which the last 24 bytes before the magic word are an MD5 and the range
/// that it covers.
pub const HAS_MD5: u32 = 0x4000;
/// How many blocks of a run are remembered.
const RUN_MAX: usize = 1 << 23;
/// The families of the RP2040 and its relatives. One device accepts all of them.
const RP2: std::ops::RangeInclusive<u32> = 0xe48b_ff56..=0xe48b_ff5b;
/// Family and address of a block without meaning that occurs in files for the RP2350.
const IGNORED: (u32, u32) = (0xe48b_ff57, 0x10ff_ff00);

/// The names of families (utils/uf2families.json).
const FAMILIES: &[(&str, u32)] = &[
    ("rp2040", 0xe48b_ff56),
    ("absolute", 0xe48b_ff57),
    ("data", 0xe48b_ff58),
    ("rp2350-arm-s", 0xe48b_ff59),
    ("rp2350-riscv", 0xe48b_ff5a),
    ("rp2350-arm-ns", 0xe48b_ff5b),
    ("esp8266", 0x7eab_61ed),
    ("esp32", 0x1c5f_21b0),
    ("esp32s2", 0xbfdd_4eee),
    ("esp32s3", 0xc47e_5767),
    ("esp32c2", 0x2b88_d29c),
    ("esp32c3", 0xd42b_a06c),
    ("esp32c5", 0xf71c_0343),
    ("esp32c6", 0x540d_df62),
    ("esp32c61", 0x77d8_50c4),
    ("esp32h2", 0x3327_26f6),
    ("esp32p4", 0x3d30_8e94),
    ("nrf52840", 0xada5_2840),
    ("nrf52833", 0x621e_937a),
    ("samd21", 0x68ed_2b88),
    ("samd51", 0x5511_4460),
    ("stm32f4", 0x5775_5a57),
    ("stm32h7", 0x6db6_6082),
    ("stm32wl", 0x2146_0ff0),
];

/// The name of a family; `None` if this table has none.
pub fn family_name(family: u32) -> Option<&'static str> {
    FAMILIES.iter().find(|(_, number)| *number == family).map(|(name, _)| *name)
}

/// The family of this name or number. A number is hexadecimal and begins with 0x.
///
/// # Errors
/// A sentence that lists the names.
pub fn family_named(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let named = FAMILIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    number.or(named.map(|(_, number)| *number)).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        format!(
            "'{text}' is not a family: give a number like 0xe48bff56, or one of {}",
            names.join(", ")
        )
    })
}

/// One block.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// All bytes of the block.
    pub bytes: &'a [u8],
    /// Flags.
    pub flags: u32,
    /// Address of the content.
    pub address: u32,
    /// The content.
    pub data: &'a [u8],
    number: u32,
    count: u32,
    family: u32,
}

impl<'a> Block<'a> {
    /// The block in these bytes; `None` if they are not a block.
    ///
    /// # Errors
    /// If it claims more content than fits.
    pub fn of(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        if bytes.len() < BLOCK || !bytes.starts_with(&MAGIC) || !bytes.ends_with(&MAGIC_END) {
            return Ok(None);
        }
        let word = |at| read_u32_le(bytes, at).unwrap_or(0);
        let len = word(16) as usize;
        if len > DATA_MAX {
            return Err(format!("{len} bytes of content do not fit into a block"));
        }
        Ok(Some(Self {
            bytes,
            flags: word(8),
            address: word(12),
            data: bytes.get(DATA_AT..DATA_AT + len).unwrap_or_default(),
            number: word(20),
            count: word(24),
            family: word(28),
        }))
    }

    /// The content that it belongs to; `None` if the block must be ignored.
    pub fn group(&self) -> Option<Group> {
        if self.flags & FILE_CONTAINER != 0 {
            let name = self.bytes.get(DATA_AT + self.data.len()..DATA_AT + DATA_MAX)?;
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            return Some(Group::File(String::from_utf8_lossy(name).into_owned()));
        }
        if self.flags & NOT_MAIN_FLASH != 0 || (self.family, self.address) == IGNORED {
            return None;
        }
        Some(match self.family {
            _ if self.flags & HAS_FAMILY == 0 => Group::Only,
            family if RP2.contains(&family) => Group::Family(*RP2.start()),
            family => Group::Family(family),
        })
    }
}

/// A run of blocks that are numbered together.
#[derive(Default)]
struct Run {
    /// Address and length of the content of each block, by its number. Ignored blocks have none.
    blocks: HashMap<u32, Option<(u32, usize)>>,
    /// How many blocks it should have.
    count: u32,
    /// The contents that its blocks are for. More than two are not listed.
    groups: Vec<Group>,
}

/// What is missing in all runs of a file.
#[derive(Default)]
struct Missing {
    /// Blocks.
    all: u64,
    /// Blocks at the beginning of a run.
    first: u64,
    /// Whether the places of some of the first ones are unknown.
    lost: bool,
    /// Where runs really begin of which the first blocks are missing.
    starts: Vec<(Group, u64)>,
}

impl Run {
    /// Whether `block` belongs to another run. A repeated block belongs to the same run.
    fn ends_before(&self, block: &Block<'_>) -> bool {
        let known = self.blocks.get(&block.number).copied().flatten();
        known.is_some_and(|(address, _)| address != block.address)
            || (block.count != self.count && self.count != 0)
            || self.blocks.len() == RUN_MAX
    }

    fn add(&mut self, group: &Group, block: &Block<'_>) {
        self.count = block.count;
        self.blocks.insert(block.number, Some((block.address, block.data.len())));
        if self.groups.len() < 2 && !self.groups.contains(group) {
            self.groups.push(group.clone());
        }
    }

    /// Count a block that is ignored. Comments in a file are numbered together with its content.
    fn pass_over(&mut self, block: &Block<'_>) {
        if block.flags & NOT_MAIN_FLASH != 0 && !self.ends_before(block) {
            self.count = block.count;
            self.blocks.entry(block.number).or_insert(None);
        }
    }

    /// Where the content of this run begins, if each block continues the one before it. Only the
    /// last block may be shorter than the others. One block alone shows no pattern.
    fn start(&self) -> Option<(Group, u64)> {
        let [group] = &self.groups[..] else { return None };
        let len = |place: &Option<(u32, usize)>| place.map_or(0, |(_, len)| len);
        let step = self.blocks.values().map(len).max()?;
        let mut start = None;
        for (&number, &place) in &self.blocks {
            let (address, len) = place?;
            let before = u64::from(number) * step as u64;
            let of_this = u64::from(address).checked_sub(before)?;
            let is_last = number.checked_add(1) == Some(self.count);
            if (len != step && !is_last) || start.is_some_and(|start| start != of_this) {
                return None;
            }
            start = Some(of_this);
        }
        start.filter(|_| self.blocks.len() > 1).map(|start| (group.clone(), start))
    }

    /// Count what is missing in this run.
    fn end(self, missing: &mut Missing) {
        if self.groups.is_empty() {
            return;
        }
        let lacks = u64::from(self.count).saturating_sub(self.blocks.len() as u64);
        let first = self.blocks.keys().min().map_or(0, |&number| u64::from(number)).min(lacks);
        missing.all += lacks;
        missing.first += first;
        if first > 0 {
            match self.start() {
                Some(start) => missing.starts.push(start),
                None => missing.lost = true,
            }
        }
    }
}

impl Missing {
    /// A sentence about it.
    fn describe(&self) -> String {
        let &Self { all, first, lost, .. } = self;
        let what = match (all, first) {
            (1, 1) => "its first block is missing".to_owned(),
            (n, first) if n == first => format!("its first {n} blocks are missing"),
            (1, _) => "1 of its blocks is missing".to_owned(),
            (n, 0) => format!("{n} of its blocks are missing"),
            (n, first) => {
                format!("{n} of its blocks are missing, {first} of them at its beginning")
            }
        };
        match (lost, all) {
            (true, _) => format!(
                "{what}; offsets are counted from the first block that is there, because nothing \
                 shows the addresses before it"
            ),
            (false, 1) => format!("{what}, and reads as erased"),
            (false, _) => format!("{what}, and read as erased"),
        }
    }
}

/// Read all blocks, and pass those with content to `visit`, with their positions in the file.
/// Returns the addresses at which contents begin of which the first blocks are missing, if the
/// numbers and the addresses of the other blocks show them.
///
/// # Errors
/// If the file cannot be read, a block is impossible, or `visit` fails.
pub fn read(
    source: &dyn ReadAt,
    remarks: &mut Remarks,
    visit: &mut dyn FnMut(u64, &Group, Block<'_>) -> Result<(), Trouble>,
) -> Result<Vec<(Group, u64)>, Trouble> {
    let mut blocks = Blocks::new(source, BLOCK);
    let (mut strange, mut missing, mut run) = (0_u64, Missing::default(), Run::default());
    while let Some((at, bytes)) = blocks.next().map_err(Trouble::Io)? {
        let block = Block::of(bytes).map_err(|e| {
            Trouble::Damaged(format!("{e}, in block {} at byte {at}", at / BLOCK as u64))
        })?;
        let Some(block) = block else {
            strange += 1;
            continue;
        };
        let Some(group) = block.group() else {
            run.pass_over(&block);
            continue;
        };
        // when the numbers start again, another file begins
        if run.ends_before(&block) {
            std::mem::take(&mut run).end(&mut missing);
        }
        run.add(&group, &block);
        visit(at, &group, block)?;
    }
    run.end(&mut missing);
    if strange > 0 {
        remarks.note(match strange {
            1 => "1 of its blocks is not a UF2 block, and was skipped".to_owned(),
            n => format!("{n} of its blocks are not UF2 blocks, and were skipped"),
        });
    }
    if missing.all > 0 {
        remarks.damaged(missing.describe());
        remarks.start_is_lost |= missing.lost;
    }
    Ok(missing.starts)
}

/// A block of a new file.
pub fn encode(address: u32, data: &[u8], number: u32, count: u32, family: Option<u32>) -> Vec<u8> {
    let mut block = MAGIC.to_vec();
    let flags = if family.is_some() { HAS_FAMILY } else { 0 };
    let len = data.len() as u32;
    for word in [flags, address, len, number, count, family.unwrap_or(0)] {
        block.extend(word.to_le_bytes());
    }
    block.extend(data);
    block.resize(BLOCK - MAGIC_END.len(), 0);
    block.extend(MAGIC_END);
    block
}
