//! The table of all options of `-o`, from which the parser, the help and the manual page are made.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::{Given, MAX_COMMIT, MAX_POLL};
use crate::cli::help::{WIDTH_MAX, wrap};
use crate::cli::{parse_bytes, parse_bytes_u32, parse_place};
use crate::convention::Choice;
use crate::fuse::{Access, Atime, DEFAULT_COMMIT};
use crate::image::{Dialect, Page, Place};
use crate::profile::Profile;
use crate::transactions::At;

/// Options that belong together.
pub struct Group {
    /// The title of the group.
    pub title: &'static str,
    /// The options.
    pub items: &'static [Item],
}

/// Options that are explained together.
pub struct Item {
    /// Each name, and its effect.
    pub names: &'static [(&'static str, Set)],
    /// The explanation of the options.
    pub help: &'static str,
}

/// The effect of an option.
pub enum Set {
    /// It has no value.
    Flag(fn(&mut Given)),
    /// It has a value of this kind. An error need not name the option.
    Value(&'static str, fn(&mut Given, &str) -> Result<(), String>),
    /// It has no effect here: it is for other programs, or requests behaviour that this program
    /// always has.
    Nothing,
    /// It has no effect, like all options that begin with this name.
    Prefix,
}

use Set::{Flag, Nothing, Prefix, Value};

/// Every option.
pub static GROUPS: &[Group] = &[
    Group {
        title: "Image",
        items: &[
            Item {
                names: &[(
                    "offset",
                    Value("BYTES", |o, v| some(&mut o.mount.place, parse_place(v))),
                )],
                help: "byte of IMAGE at which the filesystem starts; auto (default): 0, or else \
                       the place of the only filesystem that is found. If mount(8), fstab or a \
                       service finds a filesystem elsewhere than at byte 0, it mounts it \
                       read-only, unless offset=auto is given",
            },
            Item {
                names: &[(
                    "partition",
                    Value("PARTITION", |o, v| some(&mut o.mount.place, Place::partition(v))),
                )],
                help: "the name of a partition in the dump's partition table, or the number of a \
                       filesystem in the list of 'littlefs scan IMAGE'",
            },
            Item {
                names: &[("page", Value("PAGE", |o, v| some(&mut o.mount.page, Page::parse(v))))],
                help: "page and spare bytes, like 2048+64, if IMAGE is a dump of NAND flash with \
                       spare bytes (read-only; default: recognised automatically)",
            },
            Item {
                names: &[(
                    "unpack_limit",
                    Value("BYTES", |o, v| some(&mut o.mount.unpack_limit, parse_bytes(v))),
                )],
                help: "unpack at most this much of a compressed or wrapped image (default: 4G), \
                       into the directory that TMPDIR names",
            },
            Item {
                names: &[(
                    "block_size",
                    Value("BYTES", |o, v| some(&mut o.mount.block_size, bytes(v))),
                )],
                help: "require this block size",
            },
            Item {
                names: &[(
                    "block_count",
                    Value("N", |o, v| some(&mut o.mount.block_count, number(v))),
                )],
                help: "require this number of blocks",
            },
            Item {
                names: &[(
                    "dialect",
                    Value("NAME", |o, v| set(&mut o.mount.dialect, Dialect::named(v))),
                )],
                help: "dialect of IMAGE: littlefs, v1 (littlefs version 1, read-only) or chamelon \
                       (as chamelon writes it, read-only); auto (default): recognised \
                       automatically. See docs/v1.md and docs/chamelon.md",
            },
            Item {
                names: &[("journal", Value("FILE", |o, v| some(&mut o.mount.journal, file(v))))],
                help: "leave IMAGE as it is, and append every flush to FILE as a transaction; \
                       FILE is made if it does not exist (littlefs-journal(1))",
            },
            Item {
                names: &[("at", Value("STATE", |o, v| some(&mut o.mount.at, state(v))))],
                help: "with journal=: show the state after the transaction of this number (0: the \
                       image itself), or at the savepoint of this name, read-only",
            },
            Item {
                names: &[("grow", Flag(|o| o.grow = true))],
                help: "before mounting, let the filesystem grow until it fills the file, device \
                       or partition that it is in (littlefs-resize(1))",
            },
        ],
    },
    Group {
        title: "Device",
        items: &[
            Item {
                names: &[(
                    "profile",
                    Value("NAME", |o, v| some(&mut o.mount.profile, Profile::named(v))),
                )],
                help: "write as this family of devices does; sets prog_size, inline_max and \
                       attrs, unless you give them: micropython-rp2, micropython-esp32, esp-idf, \
                       arduino-esp8266, arduino-pico, zephyr, nuttx, nanoframework, phoenix, \
                       ardupilot-nor",
            },
            Item {
                names: &[(
                    "prog_size",
                    Value("BYTES", |o, v| some(&mut o.mount.prog_size, bytes(v))),
                )],
                help: "program size of the device: commits end on multiples of this (default: as \
                       in the image, else 16)",
            },
            Item {
                names: &[(
                    "inline_max",
                    Value("BYTES", |o, v| some(&mut o.mount.inline_max, bytes(v))),
                )],
                help: "largest file that is stored in its directory (default: as in the image, \
                       else 64)",
            },
            Item {
                names: &[(
                    "block_cycles",
                    Value("N", |o, v| some(&mut o.mount.block_cycles, number(v))),
                )],
                help: "move a metadata block after this many erases (default: never)",
            },
        ],
    },
    Group {
        title: "Writing",
        items: &[
            Item {
                names: &[
                    ("ro", Flag(|o| o.mount.read_only = true)),
                    ("rw", Flag(|o| o.mount.read_only = false)),
                ],
                help: "read-only, or read and write (default)",
            },
            Item {
                names: &[("commit", Value("SECONDS", |o, v| set(&mut o.mount.commit, commit(v))))],
                help: "write a change to the image after this time at the latest (default: 5); it \
                       is written earlier if there is no request for a quarter of a second",
            },
            Item {
                names: &[
                    ("sync", Flag(|o| o.mount.sync = true)),
                    ("dirsync", Flag(|o| o.mount.dirsync = true)),
                    ("async", Flag(|o| o.mount.sync = false)),
                ],
                help: "sync: write every change at once; dirsync: every change of a directory; \
                       async (default): calls return before their changes are on disk",
            },
            Item {
                names: &[("writeback", Flag(|o| o.mount.writeback = true))],
                help: "let the kernel gather small writes; then only close and fsync report that \
                       there is no space",
            },
        ],
    },
    Group {
        title: "Attributes",
        items: &[
            Item {
                names: &[(
                    "attrs",
                    Value("NAME", |o, v| some(&mut o.mount.attrs, Choice::parse(v))),
                )],
                help: "store times (and, with some values, owners and modes) in user attributes \
                       by this convention: unix, micropython, esp-idf, arduino, nuttx, phoenix, \
                       ...; none; auto (default): the one that the image uses. See \
                       docs/attributes.md",
            },
            Item {
                names: &[
                    ("user_xattr", Flag(|o| o.mount.user_xattr = Some(true))),
                    ("nouser_xattr", Flag(|o| o.mount.user_xattr = Some(false))),
                ],
                help: "show user attributes as extended attributes, user.littlefs.0xNN, or do not \
                       (default: only with attrs=unix)",
            },
            Item {
                names: &[
                    ("noatime", Flag(|o| o.mount.atime = Atime::Never)),
                    ("relatime", Flag(|o| o.mount.atime = Atime::Relative)),
                    ("strictatime", Flag(|o| o.mount.atime = Atime::Always)),
                ],
                help: "whether a read changes the access time: never; only if it is older than the \
                       last change, or older than a day (default); always",
            },
            Item {
                names: &[
                    ("atime", Flag(|o| o.mount.atime = Atime::Relative)),
                    ("nostrictatime", Flag(|o| o.mount.atime = Atime::Relative)),
                ],
                help: "the same as relatime",
            },
            Item {
                names: &[("norelatime", Flag(|o| o.mount.atime = Atime::Always))],
                help: "the same as strictatime",
            },
            Item {
                names: &[("lazytime", Nothing), ("nolazytime", Nothing)],
                help: "accepted, without effect: access times alone never cause a write",
            },
        ],
    },
    Group {
        title: "Permissions",
        items: &[
            Item {
                names: &[
                    ("uid", Value("N", |o, v| some(&mut o.mount.uid, number(v)))),
                    ("gid", Value("N", |o, v| some(&mut o.mount.gid, number(v)))),
                ],
                help: "owner and group of entries that have none in the image (default: yours)",
            },
            Item {
                names: &[
                    ("umask", Value("MASK", |o, v| some(&mut o.mount.umask, mask(v)))),
                    ("fmask", Value("MASK", |o, v| some(&mut o.mount.fmask, mask(v)))),
                    ("dmask", Value("MASK", |o, v| some(&mut o.mount.dmask, mask(v)))),
                ],
                help: "if the image stores no modes: permission bits, in octal, that are taken \
                       away from 0777, for everything, for files, for directories (default: files \
                       are 0666 and directories 0777, less your umask)",
            },
            Item {
                names: &[("allow_other", Flag(|o| o.mount.access = Access::Everybody))],
                help: "let other users in, as the permission bits allow",
            },
            Item {
                names: &[("allow_root", Flag(|o| o.mount.access = Access::OwnerAndRoot))],
                help: "let root in as well, but nobody else: group and others lose their \
                       permission bits",
            },
            Item {
                names: &[("default_permissions", Flag(|o| o.mount.default_permissions = true))],
                help: "let the kernel check permission bits even if only you have access; without \
                       this option, owner and mode do not restrict you",
            },
            Item {
                names: &[
                    ("dev", Flag(|o| o.mount.dev = true)),
                    ("nodev", Flag(|o| o.mount.dev = false)),
                    ("suid", Flag(|o| o.mount.suid = true)),
                    ("nosuid", Flag(|o| o.mount.suid = false)),
                    ("exec", Flag(|o| o.mount.exec = true)),
                    ("noexec", Flag(|o| o.mount.exec = false)),
                ],
                help: "as in mount(8) (default: nodev,nosuid,exec; if root mounts by mount(8) or \
                       fstab: dev,suid,exec)",
            },
        ],
    },
    Group {
        title: "Daemon and kernel",
        items: &[
            Item {
                names: &[("auto_unmount", Flag(|o| o.auto_unmount = true))],
                help: "unmount if the daemon dies, instead of leaving a mount that does not answer",
            },
            Item {
                names: &[(
                    "cache",
                    Value("BYTES", |o, v| some(&mut o.mount.cache, parse_bytes(v))),
                )],
                help: "limit the memory for cached and unwritten data to this (default: 40M; less \
                       than 256K counts as 256K)",
            },
            Item {
                names: &[("poll", Value("MICROSECONDS", |o, v| set(&mut o.mount.poll, poll(v))))],
                help: "how long to poll for the next request before sleeping (default: 50; 0: do \
                       not poll)",
            },
        ],
    },
    Group {
        title: "For mount(8), fstab and systemd",
        items: &[
            Item {
                // `remount` is handled before the options are parsed.
                names: &[("remount", Nothing)],
                help: "change ro, rw, dev, suid, exec, atime or their opposites for the mount on \
                       MOUNTPOINT (as root); rw is possible only if the option ro is the only \
                       reason why the mount is read-only, and nobody else reads the image",
            },
            Item {
                names: &[
                    ("defaults", Nothing),
                    ("auto", Nothing),
                    ("noauto", Nothing),
                    ("nofail", Nothing),
                    ("owner", Nothing),
                    ("noowner", Nothing),
                    ("group", Nothing),
                    ("nogroup", Nothing),
                    ("user", Nothing),
                    ("user", Value("NAME", |_, _| Ok(()))),
                    ("nouser", Nothing),
                    ("users", Nothing),
                    ("nousers", Nothing),
                    ("_netdev", Nothing),
                    ("comment", Value("TEXT", |_, _| Ok(()))),
                    ("x-", Prefix),
                    ("X-", Prefix),
                    ("diratime", Nothing),
                    ("nodiratime", Nothing),
                    ("iversion", Nothing),
                    ("noiversion", Nothing),
                    ("mand", Nothing),
                    ("nomand", Nothing),
                    ("silent", Nothing),
                    ("loud", Nothing),
                ],
                help: "accepted: they are for other programs, or make no difference here",
            },
        ],
    },
];

/// The most characters of a line of labels, so that it fits into any terminal.
const LABEL_MAX: usize = 76;
/// Column in which explanations begin.
const COLUMN: usize = 23;

/// Every name with its effect.
pub fn names() -> impl Iterator<Item = &'static (&'static str, Set)> {
    GROUPS.iter().flat_map(|group| group.items).flat_map(|item| item.names)
}

impl Item {
    /// Its names, as the user writes them: `uid=N, gid=N`.
    pub fn label(&self) -> String {
        let written = self.names.iter().map(|(name, set)| match set {
            Value(value, _) => format!("{name}={value}"),
            Prefix => format!("{name}..."),
            Flag(_) | Nothing => (*name).to_owned(),
        });
        written.collect::<Vec<_>>().join(", ")
    }
}

/// The table as the help shows it.
pub fn help() -> String {
    let mut text = "Options for -o, separated by commas:".to_owned();
    for Group { title, items } in GROUPS {
        let _ = write!(text, "\n\n{title}:");
        for item in *items {
            let label = item.label();
            let lines = wrap(item.help, WIDTH_MAX - COLUMN);
            let mut labels = wrap(&label, LABEL_MAX);
            let last = labels.pop().unwrap_or_default();
            for line in labels {
                let _ = write!(text, "\n  {line}");
            }
            let beside = last.len() + 3 < COLUMN;
            let _ = write!(text, "\n  {last}");
            for (i, line) in lines.iter().enumerate() {
                if i == 0 && beside {
                    let _ = write!(text, "{:1$}{line}", "", COLUMN - 2 - last.len());
                } else {
                    let _ = write!(text, "\n{:COLUMN$}{line}", "");
                }
            }
        }
    }
    text
}

fn set<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

fn some<T>(field: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    set(field, value.map(Some))
}

fn file(value: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err("must name a file".to_owned()) } else { Ok(value.into()) }
}

fn state(value: &str) -> Result<At, String> {
    if value.is_empty() { Err("must name a state".to_owned()) } else { Ok(At::parse(value)) }
}

fn bytes(value: &str) -> Result<u32, String> {
    parse_bytes_u32(value)
}

fn number(value: &str) -> Result<u32, String> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| format!("'{value}' is not a number"))
}

fn mask(value: &str) -> Result<u16, String> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let mask = if digits { u16::from_str_radix(value, 8).ok() } else { None };
    mask.filter(|&mask| mask <= 0o777)
        .ok_or_else(|| format!("'{value}' is not an octal mask (like 022)"))
}

fn commit(value: &str) -> Result<Duration, String> {
    Ok(match number(value)? {
        // 0 means the default, as for ext4.
        0 => DEFAULT_COMMIT,
        seconds => Duration::from_secs(u64::from(seconds).min(MAX_COMMIT)),
    })
}

fn poll(value: &str) -> Result<Duration, String> {
    match number(value)? {
        micros if micros <= MAX_POLL => Ok(Duration::from_micros(u64::from(micros))),
        _ => Err(format!("must be at most {MAX_POLL}")),
    }
}
