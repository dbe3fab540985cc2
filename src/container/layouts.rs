//! Where programs for some chips have their filesystems when no partition table describes them.
//! This explains a filesystem that was found, and shows where to look for one that was not found.
//! It never decides which filesystem is used.

use std::io;

use super::{Found, ReadAt, read_lenient, rp2};
use crate::disk::read_u32_le;

/// How many bytes at the start of the flash are looked at to recognise the chip.
const HEAD: usize = 0x4000;

/// A chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// Espressif's ESP8266.
    Esp8266,
    /// Raspberry Pi's RP2040.
    Rp2040,
    /// Raspberry Pi's RP2350.
    Rp2350,
    /// Nordic's nRF52 with a SoftDevice.
    Nrf52,
}

impl Chip {
    /// The name that people use for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Esp8266 => "ESP8266",
            Self::Rp2040 => "RP2040",
            Self::Rp2350 => "RP2350",
            Self::Nrf52 => "nRF52",
        }
    }
}

/// A part of the flash that a layout reserves for a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// The name that the project with this layout uses.
    pub name: &'static str,
    /// Position in the flash in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The chip that a program is for, and where programs for it have filesystems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The chip.
    pub chip: Chip,
    /// The size of the flash in bytes, if the program says it.
    pub flash: Option<u64>,
    /// The size of the dump in bytes.
    size: u64,
    /// The places of filesystems.
    pub areas: Vec<Area>,
}

const fn area(name: &'static str, at: u64, end: u64) -> Area {
    Area { name, at, len: end - at }
}

/// The linker maps of Arduino for ESP8266 (`eagle.flash.NAME.ld`), by the size of the flash.
const ESP8266: &[(u64, &[Area])] = &[
    (
        512 << 10,
        &[
            area("512k32", 0x7_3000, 0x7_b000),
            area("512k64", 0x6_b000, 0x7_b000),
            area("512k128", 0x5_b000, 0x7_b000),
        ],
    ),
    (
        1 << 20,
        &[
            area("1m64", 0xe_b000, 0xf_b000),
            area("1m128", 0xd_b000, 0xf_b000),
            area("1m144", 0xd_7000, 0xf_b000),
            area("1m160", 0xd_3000, 0xf_b000),
            area("1m192", 0xc_b000, 0xf_b000),
            area("1m256", 0xb_b000, 0xf_b000),
            area("1m512", 0x7_b000, 0xf_b000),
        ],
    ),
    (
        2 << 20,
        &[
            area("2m64", 0x1f_0000, 0x1f_b000),
            area("2m128", 0x1e_0000, 0x1f_b000),
            area("2m256", 0x1c_0000, 0x1f_b000),
            area("2m512", 0x18_0000, 0x1f_a000),
            area("2m1m", 0x10_0000, 0x1f_a000),
        ],
    ),
    (
        4 << 20,
        &[
            area("4m1m", 0x30_0000, 0x3f_a000),
            area("4m2m", 0x20_0000, 0x3f_a000),
            area("4m3m", 0x10_0000, 0x3f_a000),
        ],
    ),
    (8 << 20, &[area("8m6m", 0x20_0000, 0x7f_a000), area("8m7m", 0x10_0000, 0x7f_a000)]),
    (16 << 20, &[area("16m14m", 0x20_0000, 0xff_a000), area("16m15m", 0x10_0000, 0xff_a000)]),
];

/// Adafruit's core for nRF52, and MeshCore's second filesystem.
const NRF52: &[Area] = &[
    area("InternalFS of nRF52840", 0xe_d000, 0xf_4000),
    area("InternalFS of nRF52832 and nRF52833", 0x6_d000, 0x7_4000),
    area("ExtraFS of MeshCore", 0xd_4000, 0xe_d000),
];

impl Layout {
    /// Recognise the program at the start of a source. Positions count from the start of the
    /// source.
    ///
    /// # Errors
    /// If the size of the source cannot be determined.
    pub fn recognise(source: &dyn ReadAt) -> io::Result<Option<Self>> {
        let size = source.size()?;
        let (head, _) = read_lenient(source, 0, HEAD);
        Ok(if let Some(flash) = esp8266(&head) {
            let of_flash = ESP8266.iter().find(|(size, _)| *size == flash);
            let areas = of_flash.map(|(_, areas)| areas.to_vec()).unwrap_or_default();
            Some(Self { chip: Chip::Esp8266, flash: Some(flash), size, areas })
        } else if rp2::has_boot2(&head) {
            Some(Self { chip: Chip::Rp2040, flash: None, size, areas: Vec::new() })
        } else if rp2::has_block(&head) {
            Some(Self { chip: Chip::Rp2350, flash: None, size, areas: Vec::new() })
        } else if has_softdevice(&head) {
            Some(Self { chip: Chip::Nrf52, flash: None, size, areas: NRF52.to_vec() })
        } else {
            None
        })
    }

    /// The area that begins where a filesystem begins. If there are several, it is the one closest
    /// in size.
    pub fn area_of(&self, found: &Found) -> Option<Area> {
        let begins_there = |area: &&Area| area.at == found.at;
        match self.chip {
            Chip::Esp8266 => {
                // The header often has the size of a smaller flash, so the maps for all sizes are
                // searched.
                let all = ESP8266.iter().flat_map(|(_, areas)| *areas).filter(begins_there);
                all.min_by_key(|area| area.len.abs_diff(found.len())).copied()
            }
            Chip::Nrf52 => self.areas.iter().find(begins_there).copied(),
            // their filesystems end at the end of the flash, or before its last sectors, which
            // emulate an EEPROM
            Chip::Rp2040 | Chip::Rp2350 => {
                let eeprom = if self.chip == Chip::Rp2040 { 0x1000 } else { 0x2000 };
                let end = found.at.saturating_add(found.len());
                let name = match self.size.checked_sub(end)? {
                    0 => "MicroPython",
                    rest if rest == eeprom || rest == 0x1000 => "arduino-pico",
                    _ => return None,
                };
                Some(Area { name, at: found.at, len: found.len() })
            }
        }
    }
}

/// The size of the flash according to the header of a program for the ESP8266. The header has a
/// magic, a number of segments, mode, size and speed, and an entry point in the instruction RAM.
fn esp8266(head: &[u8]) -> Option<u64> {
    let (&segments, &mode, &size) = (head.get(1)?, head.get(2)?, head.get(3)?);
    let entry = read_u32_le(head, 4)?;
    let is_one = head.first() == Some(&0xe9)
        && (1..=16).contains(&segments)
        && mode <= 3
        && (0x4010_0000..0x4011_0000).contains(&entry);
    let flash = match size >> 4 {
        0 => 512 << 10,
        1 => 256 << 10,
        2 => 1 << 20,
        3 => 2 << 20,
        4 => 4 << 20,
        8 => 8 << 20,
        9 => 16 << 20,
        _ => return None,
    };
    is_one.then_some(flash)
}

/// Whether a SoftDevice follows the master boot record. It is recognised by the magic of its
/// information block.
fn has_softdevice(head: &[u8]) -> bool {
    read_u32_le(head, 0x3004) == Some(0x51b1_e5db)
}
