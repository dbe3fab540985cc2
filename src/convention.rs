//! What devices store in user attributes: a table of conventions, and the code that reads and
//! writes attributes according to it.
//!
//! littlefs has user attributes (each has a type of 8 bits, and up to 1022 bytes), but no standard
//! for their meaning. An attribute is decoded by type *and* length, because types collide; an
//! attribute whose length is not in the table is not touched. `docs/attributes.md` describes each
//! convention.

use std::collections::BTreeMap;

/// How many attributes of each type and length an image holds.
pub type AttrUsage = BTreeMap<(u8, u16), u32>;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The meaning of a part of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Last access.
    Atime,
    /// Last change of the content.
    Mtime,
    /// Last change of the inode.
    Ctime,
    /// Creation. It replaces the time of the last change where that is missing.
    Birth,
    /// Type and permission bits, as in `st_mode`.
    Mode,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// A fixed value that new entries need, and that is never changed.
    Fixed(u32),
}

/// How a part of an attribute is stored, always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A number: 32 bits.
    Number,
    /// Seconds since 1970: 32 bits without sign.
    Seconds32,
    /// Seconds since 1970: 64 bits with sign.
    Seconds64,
    /// Nanoseconds since 1970: 64 bits without sign.
    Nanos64,
    /// Seconds since 1970 and nanoseconds of the second: 32 bits each. Nanoseconds leave two bits
    /// free. These are bits 32 and 33 of the seconds, which have a sign; both bits are zero from
    /// 1970 to 2106.
    SecondsNanos,
    /// Days since 1970, 32 bits, and picoseconds of the day, 64 bits, without sign.
    DaysPicos,
}

impl Format {
    const fn width(self) -> usize {
        match self {
            Self::Number | Self::Seconds32 => 4,
            Self::Seconds64 | Self::Nanos64 | Self::SecondsNanos => 8,
            Self::DaysPicos => 12,
        }
    }

    fn read(self, bytes: &[u8]) -> Option<i64> {
        let u32_at = |at: usize| {
            let bytes = bytes.get(at..at + 4)?;
            Some(i64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
        };
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(match self {
            Self::Number => u32_at(0)?,
            Self::Seconds32 => u32_at(0)? * NANOS,
            Self::Seconds64 => u64_at(0)?.cast_signed().saturating_mul(NANOS),
            Self::Nanos64 => i64::try_from(u64_at(0)?).unwrap_or(i64::MAX),
            Self::SecondsNanos => {
                let (low, nanos) = (u32_at(0)?, u32_at(4)?);
                // 34 bits with sign
                let seconds = (low | (nanos >> 30) << 32) << 30 >> 30;
                seconds * NANOS + (nanos & 0x3fff_ffff).min(NANOS - 1)
            }
            Self::DaysPicos => {
                let of_day = i64::try_from(u64_at(4)? / 1000).unwrap_or(i64::MAX);
                u32_at(0)?.saturating_mul(DAY * NANOS).saturating_add(of_day.min(DAY * NANOS - 1))
            }
        })
    }

    /// Store `value`, or the nearest value that can be stored.
    fn write(self, value: i64, bytes: &mut [u8]) {
        let positive = value.max(0);
        let seconds = u32::try_from(positive / NANOS).unwrap_or(u32::MAX).to_le_bytes();
        let stored: Vec<u8> = match self {
            Self::Number => u32::try_from(positive).unwrap_or(u32::MAX).to_le_bytes().into(),
            Self::Seconds32 => seconds.into(),
            Self::Seconds64 => value.div_euclid(NANOS).to_le_bytes().into(),
            Self::Nanos64 => positive.to_le_bytes().into(),
            Self::SecondsNanos => {
                let limit = (1 << 33) * NANOS;
                let value = value.clamp(-limit, limit - 1);
                let (seconds, nanos) = (value.div_euclid(NANOS), value.rem_euclid(NANOS));
                let high = (seconds >> 32 & 3) << 30;
                [seconds as u32, (high | nanos) as u32].map(u32::to_le_bytes).concat()
            }
            Self::DaysPicos => {
                // 64 bits of nanoseconds are far fewer days than 32 bits hold
                let days = (positive / (DAY * NANOS)) as u32;
                let picos = (positive % (DAY * NANOS)) as u64 * 1000;
                [&days.to_le_bytes()[..], &picos.to_le_bytes()[..]].concat()
            }
        };
        bytes.copy_from_slice(&stored);
    }
}

/// One attribute: its type and length, and its parts, each with field, offset and format.
#[derive(Debug)]
struct Row {
    ty: u8,
    len: u16,
    parts: &'static [(Field, usize, Format)],
}

/// What kind of entry attributes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A file.
    File,
    /// A directory other than the root.
    Dir,
    /// The root directory.
    Root,
}

/// A set of attributes that belong together.
#[derive(Debug)]
pub struct Convention {
    /// Its name in `-o attrs=`.
    pub name: &'static str,
    /// The software that writes it.
    pub who: &'static str,
    /// Whether its writers also give attributes to directories.
    on_dirs: bool,
    /// Whether a file may stand for a symbolic link, a device, a FIFO or a socket.
    pub special_files: bool,
    rows: &'static [Row],
}

const fn row(ty: u8, len: u16, parts: &'static [(Field, usize, Format)]) -> Row {
    Row { ty, len, parts }
}

use Field::{Atime, Birth, Ctime, Fixed, Gid, Mode, Mtime, Uid};
use Format::{DaysPicos, Nanos64, Number, Seconds32, Seconds64, SecondsNanos};

/// Every convention known. If a type has several lengths, the first one is written if the image has
/// no attribute of that type yet. If several conventions explain an image equally well, the first
/// one is used.
pub static CONVENTIONS: &[Convention] = &[
    Convention {
        name: "unix",
        who: "Linux, as proposed for littlefs-fuse",
        on_dirs: true,
        special_files: true,
        rows: &[
            row(
                b'T',
                24,
                &[(Ctime, 0, SecondsNanos), (Mtime, 8, SecondsNanos), (Atime, 16, SecondsNanos)],
            ),
            row(b'U', 12, &[(Uid, 0, Number), (Gid, 4, Number), (Mode, 8, Number)]),
        ],
    },
    Convention {
        name: "micropython",
        who: "MicroPython, CircuitPython",
        on_dirs: false,
        special_files: false,
        rows: &[row(1, 8, &[(Mtime, 0, Nanos64)])],
    },
    Convention {
        name: "esp-idf",
        who: "esp_littlefs",
        on_dirs: false,
        special_files: false,
        rows: &[row(b't', 8, &[(Mtime, 0, Seconds64)]), row(b't', 4, &[(Mtime, 0, Seconds32)])],
    },
    Convention {
        name: "arduino",
        who: "arduino-pico, Arduino for ESP8266, mklittlefs",
        on_dirs: true,
        special_files: false,
        rows: &[
            row(b't', 8, &[(Mtime, 0, Seconds64)]),
            row(b't', 4, &[(Mtime, 0, Seconds32)]),
            row(b'c', 8, &[(Birth, 0, Seconds64)]),
            row(b'c', 4, &[(Birth, 0, Seconds32)]),
        ],
    },
    Convention {
        name: "esp-idf-2019",
        who: "esp_littlefs before July 2020",
        on_dirs: false,
        special_files: false,
        rows: &[row(0, 8, &[(Mtime, 0, Seconds64)])],
    },
    Convention {
        name: "nuttx",
        who: "NuttX",
        on_dirs: true,
        special_files: false,
        rows: &[row(
            0,
            40,
            &[
                (Mode, 4, Number),
                (Uid, 8, Number),
                (Gid, 12, Number),
                (Atime, 16, Nanos64),
                (Mtime, 24, Nanos64),
                (Ctime, 32, Nanos64),
            ],
        )],
    },
    Convention {
        name: "nanoframework",
        who: ".NET nanoFramework",
        on_dirs: false,
        special_files: false,
        // FileAttributes.Normal; a file without it does not exist for the device
        rows: &[row(0, 4, &[(Fixed(0x80), 0, Number)])],
    },
    Convention {
        name: "picoruby",
        who: "PicoRuby",
        on_dirs: false,
        special_files: false,
        rows: &[row(1, 4, &[(Mtime, 0, Seconds32)])],
    },
    Convention {
        name: "ardupilot",
        who: "ArduPilot",
        on_dirs: false,
        special_files: false,
        rows: &[row(b'M', 4, &[(Mtime, 0, Seconds32)]), row(b'M', 8, &[(Mtime, 0, Seconds64)])],
    },
    Convention {
        name: "phoenix",
        who: "Phoenix-RTOS",
        on_dirs: true,
        special_files: false,
        rows: &[
            row(0xfb, 8, &[(Atime, 0, Seconds64)]),
            row(0xfa, 8, &[(Ctime, 0, Seconds64)]),
            row(0xf9, 8, &[(Mtime, 0, Seconds64)]),
            row(0xf8, 4, &[(Uid, 0, Number)]),
            row(0xf7, 4, &[(Gid, 0, Number)]),
            row(0xf6, 4, &[(Mode, 0, Number)]),
        ],
    },
    Convention {
        name: "chamelon",
        who: "chamelon",
        on_dirs: false,
        special_files: false,
        rows: &[row(b't', 12, &[(Mtime, 0, DaysPicos)])],
    },
];

impl Convention {
    /// The convention of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CONVENTIONS.iter().find(|c| c.name == name)
    }

    /// The convention that explains the most attributes of an image, if any explains some.
    pub fn recognise(usage: &AttrUsage) -> Option<&'static Self> {
        let mut best = None;
        let mut most = 0;
        for c in CONVENTIONS {
            let explained = c.explained(usage);
            if explained > most {
                (best, most) = (Some(c), explained);
            }
        }
        best
    }

    /// How many attributes of an image it explains.
    fn explained(&self, usage: &AttrUsage) -> u64 {
        let counts = self.rows.iter().filter_map(|r| usage.get(&(r.ty, r.len)));
        counts.map(|&n| u64::from(n)).sum()
    }

    /// What the user should know before attributes are stored by this convention in an image whose
    /// attributes all follow others. Some conventions store times in the same way.
    pub(crate) fn note_on(&self, usage: &AttrUsage) -> Option<String> {
        let other = Self::recognise(usage).filter(|_| self.explained(usage) == 0)?;
        Some(format!(
            "the image has attributes of the convention {}; attributes of the convention {} are \
             shown only with --attrs {}, or with -o attrs={} for a mount",
            other.name, self.name, self.name, self.name
        ))
    }

    fn row(&self, ty: u8, len: usize) -> Option<&'static Row> {
        self.rows.iter().find(|r| r.ty == ty && usize::from(r.len) == len)
    }

    fn has(&self, field: Field) -> bool {
        self.rows.iter().flat_map(|r| r.parts).any(|&(f, ..)| f == field)
    }

    /// Whether it keeps owners and modes.
    pub fn has_owners(&self) -> bool {
        self.has(Mode)
    }
}

/// Which convention the user attributes of an image follow.
#[derive(Debug, Clone, Copy, Default)]
pub enum Choice {
    /// The one that the attributes of the image already follow, if there is one.
    #[default]
    AsImage,
    /// None: attributes are neither read for their meaning nor written.
    None,
    /// This one.
    By(&'static Convention),
}

impl Choice {
    /// `auto`, `none`, or the name of a convention.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::AsImage),
            "none" => Ok(Self::None),
            _ => Convention::named(name).map(Self::By).ok_or_else(|| {
                let names = CONVENTIONS.iter().map(|c| c.name);
                let names: Vec<&str> = ["auto", "none"].into_iter().chain(names).collect();
                format!("'{name}' is not one of {}", names.join(", "))
            }),
        }
    }

    /// The convention for an image with this use of attributes.
    pub fn of(self, usage: &AttrUsage) -> Option<&'static Convention> {
        match self {
            Self::AsImage => Convention::recognise(usage),
            Self::None => None,
            Self::By(convention) => Some(convention),
        }
    }
}

/// The metadata in the attributes of an entry, or the metadata to store there; times are in
/// nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// Last access.
    pub atime: Option<i64>,
    /// Last change of the content.
    pub mtime: Option<i64>,
    /// Last change of the inode.
    pub ctime: Option<i64>,
    /// Creation.
    pub birth: Option<i64>,
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

impl Meta {
    fn get(&self, field: Field) -> Option<i64> {
        match field {
            Atime => self.atime,
            Mtime => self.mtime,
            Ctime => self.ctime,
            Birth => self.birth,
            Mode => self.mode.map(i64::from),
            Uid => self.uid.map(i64::from),
            Gid => self.gid.map(i64::from),
            Fixed(_) => None,
        }
    }

    fn set(&mut self, field: Field, value: i64) {
        // numbers have 32 bits
        let number = Some(value as u32);
        match field {
            Atime => self.atime = Some(value),
            Mtime => self.mtime = Some(value),
            Ctime => self.ctime = Some(value),
            Birth => self.birth = Some(value),
            Mode => self.mode = number,
            Uid => self.uid = number,
            Gid => self.gid = number,
            Fixed(_) => {}
        }
    }
}

/// Reads and writes the attributes of one image.
#[derive(Debug, Clone)]
pub struct Codec {
    convention: &'static Convention,
    /// For each type, the row with the length for new attributes: the length that the image uses
    /// most.
    preferred: Vec<&'static Row>,
}

impl Codec {
    /// Make a codec for an image with this use of attributes.
    pub fn new(convention: &'static Convention, usage: &AttrUsage) -> Self {
        let count = |r: &Row| usage.get(&(r.ty, r.len)).copied().unwrap_or(0);
        let mut preferred: Vec<&'static Row> = Vec::new();
        for row in convention.rows {
            match preferred.iter_mut().find(|p| p.ty == row.ty) {
                Some(p) if count(row) > count(p) => *p = row,
                Some(_) => {}
                None => preferred.push(row),
            }
        }
        Self { convention, preferred }
    }

    /// The convention.
    pub fn convention(&self) -> &'static Convention {
        self.convention
    }

    /// Bytes of the largest attribute that it gives to entries.
    pub fn largest(&self) -> u32 {
        self.preferred.iter().map(|row| u32::from(row.len)).max().unwrap_or(0)
    }

    /// Whether attributes of this type are the convention's.
    pub fn owns(&self, ty: u8) -> bool {
        self.preferred.iter().any(|row| row.ty == ty)
    }

    /// The meaning of `attrs`.
    pub fn read<'a>(&self, attrs: impl Iterator<Item = (u8, &'a [u8])>) -> Meta {
        let mut meta = Meta::default();
        for (ty, data) in attrs {
            let Some(row) = self.convention.row(ty, data.len()) else { continue };
            for &(field, at, format) in row.parts {
                if let Some(value) = data.get(at..).and_then(|bytes| format.read(bytes)) {
                    meta.set(field, value);
                }
            }
        }
        meta
    }

    /// The attributes of an entry of kind `target` that must change so that they store `meta`.
    /// Existing attributes keep their length, and attributes that are not in the table stay as they
    /// are.
    pub fn write<'a>(
        &self,
        attrs: impl Iterator<Item = (u8, &'a [u8])>,
        meta: &Meta,
        target: Target,
    ) -> Vec<(u8, Vec<u8>)> {
        let old: Vec<(u8, &[u8])> = attrs.filter(|&(ty, _)| self.owns(ty)).collect();
        let mut changes = Vec::new();
        for &preferred in &self.preferred {
            let found = old.iter().find(|(ty, _)| *ty == preferred.ty).map(|&(_, data)| data);
            let (row, mut data) = match found {
                Some(data) => match self.convention.row(preferred.ty, data.len()) {
                    Some(row) => (row, data.to_vec()),
                    None => continue,
                },
                None => {
                    let says = |&(field, ..): &(Field, usize, Format)| meta.get(field).is_some();
                    if !self.is_given_to(target) || !preferred.parts.iter().any(says) {
                        continue;
                    }
                    (preferred, vec![0; usize::from(preferred.len)])
                }
            };
            for &(field, at, format) in row.parts {
                if let (Some(value), Some(bytes)) =
                    (meta.get(field), data.get_mut(at..at + format.width()))
                {
                    format.write(value, bytes);
                }
            }
            if found != Some(&data[..]) {
                changes.push((row.ty, data));
            }
        }
        changes
    }

    /// The attributes of a new entry of kind `target`, with the metadata `meta`.
    pub fn initial(&self, meta: &Meta, target: Target) -> Vec<(u8, Vec<u8>)> {
        let mut attrs = self.write(std::iter::empty(), meta, target);
        if self.is_given_to(target) {
            for row in &self.preferred {
                for &(field, at, format) in row.parts {
                    if let Fixed(value) = field {
                        let mut data = vec![0; usize::from(row.len)];
                        format.write(i64::from(value), &mut data[at..at + format.width()]);
                        attrs.push((row.ty, data));
                    }
                }
            }
        }
        attrs
    }

    /// Whether entries of this kind get attributes that they do not have yet. No device gives
    /// attributes to the root directory, so it gets them only in the convention that stores
    /// everything.
    fn is_given_to(&self, target: Target) -> bool {
        match target {
            Target::File => true,
            Target::Dir => self.convention.on_dirs,
            Target::Root => self.convention.special_files,
        }
    }

    /// A time, in nanoseconds since 1970, as it would be read again after it was stored.
    pub fn rounded(&self, time: i64) -> i64 {
        let mut parts = self.preferred.iter().flat_map(|row| row.parts);
        let Some(&(.., format)) = parts.find(|&&(field, ..)| field == Mtime) else { return time };
        let mut bytes = [0; 12];
        format.write(time, &mut bytes[..format.width()]);
        format.read(&bytes).unwrap_or(time)
    }
}

/// Size in bytes of the content of a device file: its major and minor number, 32 bits each,
/// little-endian.
pub const DEVICE_SIZE: usize = 8;

/// Major and minor number of the device that a file with this content stands for, if it is one.
pub fn device_numbers(content: &[u8]) -> Option<(u32, u32)> {
    let [a, b, c, d, e, f, g, h] = <[u8; DEVICE_SIZE]>::try_from(content).ok()?;
    Some((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

/// The number in the content of a device file, as the kernel encodes it; 0 if the content is no
/// such number.
pub fn device_number(content: &[u8]) -> u32 {
    let Some((major, minor)) = device_numbers(content) else { return 0 };
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12
}

/// The content of a device file with the number `rdev`.
pub fn device_content(rdev: u32) -> [u8; DEVICE_SIZE] {
    let major = rdev >> 8 & 0xfff;
    let minor = (rdev & 0xff) | (rdev >> 12 & 0xfff00);
    let mut content = [0; DEVICE_SIZE];
    content[..4].copy_from_slice(&major.to_le_bytes());
    content[4..].copy_from_slice(&minor.to_le_bytes());
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000 * NANOS + 123_456_789;

    fn codec(name: &str) -> Codec {
        Codec::new(Convention::named(name).expect(name), &AttrUsage::new())
    }

    fn again(codec: &Codec, meta: &Meta) -> Meta {
        let attrs = codec.initial(meta, Target::File);
        codec.read(attrs.iter().map(|(ty, data)| (*ty, &data[..])))
    }

    fn full() -> Meta {
        Meta {
            atime: Some(NOW),
            mtime: Some(NOW + 5 * NANOS),
            ctime: Some(NOW + 9 * NANOS),
            birth: Some(NOW),
            mode: Some(0o100_640),
            uid: Some(1000),
            gid: Some(100),
        }
    }

    #[test]
    fn the_table_is_consistent() {
        for c in CONVENTIONS {
            assert_eq!(Convention::named(c.name).expect("named").who, c.who);
            for (i, row) in c.rows.iter().enumerate() {
                for &(field, at, format) in row.parts {
                    assert!(at + format.width() <= usize::from(row.len), "{}: {field:?}", c.name);
                }
                let same = c.rows[..i].iter().any(|r| (r.ty, r.len) == (row.ty, row.len));
                assert!(!same, "{}: type {} twice", c.name, row.ty);
            }
            assert!(u32::from(c.has(Uid)) + u32::from(c.has(Gid)) == 2 * u32::from(c.has(Mode)));
        }
    }

    #[test]
    fn written_values_are_read_back() {
        for c in CONVENTIONS {
            let codec = Codec::new(c, &AttrUsage::new());
            let once = again(&codec, &full());
            assert_eq!(again(&codec, &once), once, "{}", c.name);
            if let Some(mtime) = once.mtime {
                assert!(NOW + 5 * NANOS - mtime < NANOS, "{}: {mtime}", c.name);
            }
            assert_eq!(once.mode.is_some(), c.has_owners());
        }
        let mut expected = full();
        expected.birth = None;
        assert_eq!(again(&codec("unix"), &full()), expected);
    }

    #[test]
    fn bytes_are_stored_as_devices_store_them() {
        let meta = Meta { mtime: Some(NOW), ..Meta::default() };
        let seconds = 1_700_000_000_u32.to_le_bytes();
        let wide = 1_700_000_000_u64.to_le_bytes();
        for (name, ty, bytes) in [
            ("micropython", 1, &NOW.to_le_bytes()[..]),
            ("picoruby", 1, &seconds[..]),
            ("esp-idf", b't', &wide[..]),
            ("esp-idf-2019", 0, &wide[..]),
            ("arduino", b't', &wide[..]),
            ("ardupilot", b'M', &seconds[..]),
        ] {
            let attrs = codec(name).initial(&meta, Target::File);
            assert_eq!(attrs, [(ty, bytes.to_vec())], "{name}");
        }
        let days = [&19675_u32.to_le_bytes()[..], &80_000_123_456_789_000_u64.to_le_bytes()[..]];
        let attrs = codec("chamelon").initial(&meta, Target::File);
        assert_eq!(attrs, [(b't', days.concat())]);
        let attrs = codec("nanoframework").initial(&meta, Target::File);
        assert_eq!(attrs, [(0, vec![0x80, 0, 0, 0])]);
        let attrs = codec("unix").initial(&full(), Target::File);
        assert_eq!(
            attrs[0].1[..8],
            [&1_700_000_009_u32.to_le_bytes()[..], &[0x15, 0xcd, 0x5b, 7]].concat()
        );
        assert_eq!(attrs[1], (b'U', [[232, 3, 0, 0], [100, 0, 0, 0], [0xa0, 0x81, 0, 0]].concat()));
        assert_eq!(
            codec("nuttx").initial(&full(), Target::File)[0].1[..8],
            [0, 0, 0, 0, 0xa0, 0x81, 0, 0]
        );
        assert_eq!(codec("phoenix").initial(&full(), Target::Dir).len(), 6);
    }

    #[test]
    fn existing_lengths_are_kept_and_unknown_lengths_are_not_touched() {
        let codec = codec("arduino");
        let meta = Meta { mtime: Some(NOW), birth: Some(NOW), ..Meta::default() };
        let old: [(u8, &[u8]); 2] = [(b't', &[1, 0, 0, 0]), (b'c', &[1, 2, 3])];
        let new = codec.write(old.into_iter(), &meta, Target::File);
        assert_eq!(new, [(b't', 1_700_000_000_u32.to_le_bytes().to_vec())]);
        let again = codec.write([(b't', &new[0].1[..])].into_iter(), &meta, Target::Root);
        assert!(again.is_empty(), "nothing changed, and a root without attributes gets none");
        let used = AttrUsage::from([((b't', 4), 3), ((b't', 8), 1)]);
        let codec = Codec::new(codec.convention(), &used);
        assert_eq!(codec.initial(&meta, Target::File)[0].1.len(), 4, "as the image has most");
    }

    #[test]
    fn the_version_of_a_nuttx_record_is_kept() {
        let mut record = vec![0; 40];
        record[0] = 7;
        let meta = Meta { mtime: Some(1), ..Meta::default() };
        let new = codec("nuttx").write([(0, &record[..])].into_iter(), &meta, Target::File);
        record[24] = 1;
        assert_eq!(new, [(0, record)]);
    }

    #[test]
    fn a_time_out_of_range_becomes_the_nearest_one_that_fits() {
        let clamp = |name: &str, time| {
            let meta = Meta { mtime: Some(time), ..Meta::default() };
            let stored = again(&codec(name), &meta).mtime.expect("mtime");
            assert_eq!(codec(name).rounded(time), stored);
            stored
        };
        for time in [-1, 0, (1 << 32) * NANOS + 5, (3 << 31) * NANOS + 7, -(1 << 32) * NANOS] {
            assert_eq!(clamp("unix", time), time);
        }
        assert_eq!(clamp("unix", i64::MAX), (1 << 33) * NANOS - 1);
        assert_eq!(clamp("unix", i64::MIN), -(1 << 33) * NANOS);
        assert_eq!(clamp("picoruby", i64::MAX), i64::from(u32::MAX) * NANOS);
        assert_eq!(clamp("esp-idf", -1), -NANOS);
        assert_eq!(clamp("micropython", -1), 0);
        let hostile =
            codec("esp-idf").read([(b't', &[0xff; 7][..]), (b't', &[0x7f; 8][..])].into_iter());
        assert_eq!(hostile.mtime, Some(i64::MAX));
        let hostile = codec("chamelon").read([(b't', &[0xff; 12][..])].into_iter());
        assert_eq!(hostile.mtime, Some(i64::MAX));
        let hostile = codec("unix").read([(b'T', &[0xff; 24][..])].into_iter());
        assert_eq!(hostile.mtime, Some(-1));
    }

    #[test]
    fn images_are_recognised() {
        let name = |usage: &[((u8, u16), u32)]| {
            Convention::recognise(&usage.iter().copied().collect()).map(|c| c.name)
        };
        assert_eq!(name(&[]), None);
        assert_eq!(name(&[((7, 3), 5)]), None);
        assert_eq!(name(&[((1, 8), 5)]), Some("micropython"));
        assert_eq!(name(&[((1, 4), 5)]), Some("picoruby"));
        assert_eq!(name(&[((b't', 8), 5)]), Some("esp-idf"));
        assert_eq!(name(&[((b't', 4), 5), ((b'c', 4), 5)]), Some("arduino"));
        assert_eq!(name(&[((b't', 12), 5)]), Some("chamelon"));
        assert_eq!(name(&[((0, 40), 1)]), Some("nuttx"));
        assert_eq!(name(&[((0, 4), 1)]), Some("nanoframework"));
        assert_eq!(name(&[((0, 8), 1)]), Some("esp-idf-2019"));
        assert_eq!(name(&[((b'T', 24), 1), ((b'U', 12), 1), ((1, 8), 1)]), Some("unix"));
        assert_eq!(name(&[((0xf9, 8), 1)]), Some("phoenix"));
        assert_eq!(name(&[((b'M', 8), 1)]), Some("ardupilot"));
    }

    #[test]
    fn device_numbers_are_read_as_written() {
        for (major, minor) in [(0, 0), (8, 1), (0xfff, 0xfffff), (259, 0x12345)] {
            let rdev = (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
            let content = device_content(rdev);
            assert_eq!(content[..4], u32::to_le_bytes(major));
            assert_eq!(content[4..], u32::to_le_bytes(minor));
            assert_eq!(device_number(&content), rdev);
        }
        assert_eq!(device_number(b"1234567"), 0);
    }
}
