//! Partition tables: the firmware's own description of the parts of its flash.

use std::fmt;

use super::Found;

/// The name of a partition, of at most 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label {
    bytes: [u8; 16],
    len: u8,
}

impl Label {
    /// A label with the bytes of `name`; `None` if there are too many.
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes, len: name.len() as u8 })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What made a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// ESP-IDF, for all chips except the ESP8266.
    EspIdf,
    /// A program for RP2040 or RP2350, in its binary info.
    BinaryInfo,
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub label: Label,
    /// Its type: 0 for a program, 1 for data.
    pub ty: u8,
    /// Its subtype, with the numbers of ESP-IDF.
    pub subtype: u8,
    /// Its position in the source in bytes.
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Whether its content is encrypted if flash encryption is on.
    pub encrypted: bool,
}

impl Partition {
    /// What the partition holds according to its subtype.
    pub fn subtype_name(&self) -> Option<&'static str> {
        Some(match (self.ty, self.subtype) {
            (0, _) => "app",
            (1, 0x00) => "ota",
            (1, 0x01) => "phy",
            (1, 0x02) => "nvs",
            (1, 0x03) => "coredump",
            (1, 0x04) => "nvs_keys",
            (1, 0x05) => "efuse",
            (1, 0x06) => "undefined",
            (1, 0x80) => "esphttpd",
            (1, 0x81) => "fat",
            (1, 0x82) => "spiffs",
            (1, 0x83) => "littlefs",
            (1, 0x8f) => "romfs",
            _ => return None,
        })
    }
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What made the table.
    pub origin: Origin,
    /// Its position in the source in bytes.
    pub at: u64,
    /// Its entries.
    pub partitions: Vec<Partition>,
    /// Whether its MD5 is right; `None` if it has no MD5.
    pub md5: Option<bool>,
}

impl Table {
    /// How many of these filesystems begin where a partition begins, if the partitions are moved by
    /// `moved`.
    pub(super) fn hits(&self, all: &[Found], moved: impl Fn(u64) -> Option<u64>) -> usize {
        let begins = |found: &&Found| self.partitions.iter().any(|p| moved(p.at) == Some(found.at));
        all.iter().filter(begins).count()
    }
}
