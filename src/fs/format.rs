//! Making an empty filesystem.

use super::Fs;
use crate::bd::BlockDevice;
use crate::disk::commit::{Layout, Writer};
use crate::disk::entry::Content;
use crate::disk::superblock::{ATTR_MAX, FILE_MAX, MAGIC, NAME_MAX, Superblock, VERSION_2_1};
use crate::disk::tag;
use crate::error::{Error, Result, Unsupported};
use crate::mdir::store;

/// The properties of a new filesystem.
#[derive(Debug, Clone, Copy)]
pub struct FormatOptions {
    /// The disk version, with the major number in the high 16 bits: 0x00020000 or 0x00020001.
    pub disk_version: u32,
    /// The longest name in bytes; at most 1022.
    pub name_max: u32,
    /// The largest file in bytes; at most 2147483647.
    pub file_max: u32,
    /// The largest user attribute in bytes; at most 1022.
    pub attr_max: u32,
    /// The program size of the device in bytes, to which the commit is aligned. It must divide the
    /// block size. With `None`, the commit is aligned to 16 bytes. Every device accepts this: a
    /// device with larger program units compacts before it appends.
    pub prog_size: Option<u32>,
}

impl Default for FormatOptions {
    /// The values that the C driver uses by default.
    fn default() -> Self {
        Self {
            disk_version: VERSION_2_1,
            name_max: 255,
            file_max: FILE_MAX,
            attr_max: ATTR_MAX,
            prog_size: None,
        }
    }
}

impl Fs {
    /// Write an empty filesystem to `dev`, whatever it holds.
    ///
    /// Both blocks of the superblock pair are erased first, and a barrier follows. So no crash can
    /// bring back an old superblock.
    ///
    /// # Errors
    /// If the options are outside what the format allows, or the device fails.
    pub fn format(dev: &dyn BlockDevice, options: &FormatOptions) -> Result<()> {
        let g = dev.geometry();
        if options.name_max == 0 || options.name_max > NAME_MAX {
            return Err(Error::Invalid("name_max must be 1 to 1022 bytes"));
        }
        if options.file_max == 0 || options.file_max > FILE_MAX {
            return Err(Error::Invalid("file_max must be 1 to 2147483647 bytes"));
        }
        if options.attr_max > ATTR_MAX {
            return Err(Error::Invalid("attr_max must be at most 1022 bytes"));
        }
        let sb = Superblock {
            version: options.disk_version,
            block_size: g.block_size,
            block_count: g.block_count,
            name_max: options.name_max,
            file_max: options.file_max,
            attr_max: options.attr_max,
        };
        if !sb.is_supported() {
            return Err(Unsupported::Version(sb.version).into());
        }
        let prog_size = match options.prog_size {
            Some(n) if n == 0 || !g.block_size.is_multiple_of(n) => {
                return Err(Error::Invalid("prog_size must divide the block size"));
            }
            Some(n) => n,
            None if g.block_size.is_multiple_of(16) => 16,
            None => 4,
        };
        dev.erase(0)?;
        dev.erase(1)?;
        dev.barrier()?;
        let layout = Layout { block_size: g.block_size, prog_size, fcrc: sb.has_fcrc() };
        // Block 0 is written first, as in the C driver, because only block 0 shows where the
        // filesystem starts.
        for (block, rev) in [(0, 1), (1, 2)] {
            let mut w = Writer::compact(layout, rev);
            w.tag(tag::SUPERBLOCK, 0, MAGIC);
            Content::Inline(&sb.to_bytes()).put(0, &mut w);
            let commit = w.finish().map_err(|_| Error::NoSpace)?;
            store::write_commit(dev, block, &commit)?;
            dev.barrier()?;
        }
        dev.sync()?;
        Ok(())
    }
}
