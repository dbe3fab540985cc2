//! The driver's configuration, the memory device under it, and the allocation that holds both.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use littlefs2_sys as sys;

use super::{CError, CResult};

/// Disk version 2.0.
pub const V2_0: u32 = 0x0002_0000;
/// Disk version 2.1.
pub const V2_1: u32 = 0x0002_0001;

/// What a build of the driver is configured with, and how its device behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks; 0 takes the number from the superblock (not for formatting).
    pub block_count: u32,
    /// Granularity of reads in bytes.
    pub read_size: u32,
    /// Granularity of programs in bytes.
    pub prog_size: u32,
    /// Bytes per cache: a multiple of read and prog size, a divisor of the block size.
    pub cache_size: u32,
    /// Bytes of the allocator's window, eight blocks each.
    pub lookahead_size: u32,
    /// Erases of a pair before it moves; -1 never.
    pub block_cycles: i32,
    /// Version to write, and the newest to accept.
    pub disk_version: u32,
    /// Limits; 0 takes the superblock's, or the driver's default when formatting.
    pub name_max: u32,
    pub file_max: u32,
    pub attr_max: u32,
    /// Largest inline file; 0 derives it from the cache, `u32::MAX` never inlines.
    pub inline_max: u32,
    /// Bytes of a block that metadata may use; 0 for all.
    pub metadata_max: u32,
    /// What an erased byte reads as: 0xFF, or 0x00 as mklittlefs has it.
    pub erased: u8,
    /// Refuse to program bytes that are not erased.
    pub strict_erase: bool,
    /// Erases that a block stands: after one more its programs fail.
    pub life: u32,
    /// Erases that the blocks, from the first on, have stood before.
    pub worn: Vec<u32>,
}

impl Config {
    /// A driver of version 2.1 for this geometry, with the smallest cache from 64 bytes that
    /// holds the prog size (the whole block where that is smaller), and an allocator that sees
    /// all blocks at once.
    pub fn new(block_size: u32, block_count: u32, prog_size: u32) -> Self {
        Self {
            block_size,
            block_count,
            read_size: 1,
            prog_size,
            cache_size: prog_size.max(64).min(block_size),
            lookahead_size: block_count / 8 + 1,
            block_cycles: -1,
            disk_version: V2_1,
            name_max: 0,
            file_max: 0,
            attr_max: 0,
            inline_max: 0,
            metadata_max: 0,
            erased: 0xff,
            strict_erase: true,
            life: u32::MAX,
            worn: Vec::new(),
        }
    }

    /// Panics on what the driver would only assert.
    fn validate(&self, image_len: usize) {
        assert!(self.block_size >= 128, "block size {} is below 128", self.block_size);
        assert!(self.read_size > 0 && self.prog_size > 0 && self.cache_size > 0);
        assert!(self.lookahead_size > 0 && self.block_cycles != 0);
        assert!(self.cache_size.is_multiple_of(self.read_size), "{self:?}");
        assert!(self.cache_size.is_multiple_of(self.prog_size), "{self:?}");
        assert!(self.block_size.is_multiple_of(self.cache_size), "{self:?}");
        assert!(self.name_max <= sys::LFS_NAME_MAX && self.attr_max <= sys::LFS_ATTR_MAX);
        assert!(self.file_max <= sys::LFS_FILE_MAX && self.metadata_max <= self.block_size);
        assert!(matches!(self.disk_version, V2_0 | V2_1), "{self:?}");
        let size = u64::from(self.block_size) * u64::from(self.block_count);
        assert!(size <= image_len as u64, "image of {image_len} bytes is too short for {self:?}");
    }
}

/// What the driver asks its device, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceCounts {
    pub reads: u64,
    pub progs: u64,
    pub erases: u64,
}

/// The memory under the driver.
struct Device {
    image: Vec<u8>,
    config: Config,
    counts: DeviceCounts,
    /// The first thing the driver did that a chip would not do.
    violation: Option<String>,
    /// Erases of each block.
    erases: Vec<u32>,
    /// Programs and erases until the power fails; none when it does not.
    writes_left: Option<u64>,
}

impl Device {
    /// The bytes of an access, or the reason why there are none.
    fn range(&mut self, block: u32, off: u32, size: u32, unit: u32) -> Result<&mut [u8], String> {
        let Config { block_size, .. } = self.config;
        if !off.is_multiple_of(unit) || !size.is_multiple_of(unit) {
            return Err(format!("not aligned to {unit}"));
        }
        if u64::from(off) + u64::from(size) > u64::from(block_size) {
            return Err("beyond the end of the block".into());
        }
        let start = block as usize * block_size as usize + off as usize;
        self.image
            .get_mut(start..start + size as usize)
            .ok_or_else(|| "beyond the end of the image".into())
    }

    fn is_bad(&self, block: u32) -> bool {
        self.erases.get(block as usize).is_some_and(|&n| n > self.config.life)
    }

    fn prog(&mut self, block: u32, off: u32, data: &[u8]) -> Result<(), String> {
        let Config { prog_size, erased, strict_erase, .. } = self.config;
        let target = self.range(block, off, data.len() as u32, prog_size)?;
        if strict_erase && let Some(at) = target.iter().position(|&b| b != erased) {
            return Err(format!("byte {} of the block is {:#04x}", off as usize + at, target[at]));
        }
        target.copy_from_slice(data);
        Ok(())
    }

    /// Whether this write still happens.
    fn has_power(&mut self) -> bool {
        match &mut self.writes_left {
            Some(0) => false,
            Some(n) => {
                *n -= 1;
                true
            }
            None => true,
        }
    }

    /// The driver's return code of an access, keeping the first violation.
    fn answer(&mut self, what: &str, block: u32, off: u32, result: Result<(), String>) -> c_int {
        match result {
            Ok(()) => 0,
            Err(why) => {
                self.violation.get_or_insert(format!("{what} of block {block} at {off}: {why}"));
                sys::lfs_error_LFS_ERR_IO
            }
        }
    }
}

/// The device behind a callback's configuration.
///
/// # Safety
/// `config` is the one a live `Driver` handed to the C code, and no other borrow of its device
/// exists: the driver's methods borrow it only between calls into C.
unsafe fn device<'a>(config: *const sys::lfs_config) -> &'a RefCell<Device> {
    // SAFETY: `context` points to the device inside the same live allocation (see Driver::boxed).
    unsafe { &*(*config).context.cast::<RefCell<Device>>() }
}

unsafe extern "C" fn on_read(
    config: *const sys::lfs_config,
    block: u32,
    off: u32,
    buffer: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: called by the C driver with the configuration it was given.
    let mut dev = unsafe { device(config) }.borrow_mut();
    // SAFETY: the driver passes a buffer of `size` bytes, which it owns.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size as usize) };
    dev.counts.reads += 1;
    let unit = dev.config.read_size;
    let result = dev.range(block, off, size, unit).map(|bytes| buffer.copy_from_slice(bytes));
    dev.answer("read", block, off, result)
}

unsafe extern "C" fn on_prog(
    config: *const sys::lfs_config,
    block: u32,
    off: u32,
    buffer: *const c_void,
    size: u32,
) -> c_int {
    // SAFETY: called by the C driver with the configuration it was given.
    let mut dev = unsafe { device(config) }.borrow_mut();
    // SAFETY: the driver passes a buffer of `size` bytes, which it does not change meanwhile.
    let data = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), size as usize) };
    dev.counts.progs += 1;
    if !dev.has_power() {
        return sys::lfs_error_LFS_ERR_IO;
    }
    if dev.is_bad(block) {
        return sys::lfs_error_LFS_ERR_CORRUPT;
    }
    let result = dev.prog(block, off, data);
    dev.answer("prog", block, off, result)
}

unsafe extern "C" fn on_erase(config: *const sys::lfs_config, block: u32) -> c_int {
    // SAFETY: called by the C driver with the configuration it was given.
    let mut dev = unsafe { device(config) }.borrow_mut();
    dev.counts.erases += 1;
    if !dev.has_power() {
        return sys::lfs_error_LFS_ERR_IO;
    }
    if let Some(n) = dev.erases.get_mut(block as usize) {
        *n += 1;
    }
    let Config { block_size, erased, .. } = dev.config;
    let result = dev.range(block, 0, block_size, 1).map(|bytes| bytes.fill(erased));
    dev.answer("erase", block, 0, result)
}

unsafe extern "C" fn on_sync(_config: *const sys::lfs_config) -> c_int {
    0
}

/// Everything the C code keeps pointers to, in one allocation that never moves.
struct Driver {
    lfs: MaybeUninit<sys::lfs_t>,
    config: sys::lfs_config,
    device: RefCell<Device>,
}

/// Owner of a `Driver`, for as long as the C code may use it.
pub(super) struct Boxed(NonNull<Driver>);

impl Boxed {
    pub(super) fn new(image: Vec<u8>, config: &Config) -> Self {
        config.validate(image.len());
        let mut erases = config.worn.clone();
        erases.resize(image.len() / config.block_size as usize, 0);
        let driver = Box::new(Driver {
            lfs: MaybeUninit::zeroed(),
            config: sys::lfs_config {
                context: std::ptr::null_mut(),
                read: Some(on_read),
                prog: Some(on_prog),
                erase: Some(on_erase),
                sync: Some(on_sync),
                read_size: config.read_size,
                prog_size: config.prog_size,
                block_size: config.block_size,
                block_count: config.block_count,
                block_cycles: config.block_cycles,
                cache_size: config.cache_size,
                lookahead_size: config.lookahead_size,
                // `lfs_fs_gc` is to look for free blocks, and to compact nothing.
                compact_thresh: u32::MAX,
                name_max: config.name_max,
                file_max: config.file_max,
                attr_max: config.attr_max,
                metadata_max: config.metadata_max,
                inline_max: config.inline_max,
                disk_version: config.disk_version,
                ..Default::default()
            },
            device: RefCell::new(Device {
                image,
                config: config.clone(),
                counts: DeviceCounts::default(),
                violation: None,
                erases,
                writes_left: None,
            }),
        });
        let driver = NonNull::from(Box::leak(driver));
        // SAFETY: freshly leaked, so valid and not shared yet.
        unsafe { (*driver.as_ptr()).config.context = (&raw mut (*driver.as_ptr()).device).cast() };
        Self(driver)
    }

    pub(super) fn lfs(&self) -> *mut sys::lfs_t {
        // SAFETY: the allocation lives as long as `self`; only a pointer is made.
        unsafe { (&raw mut (*self.0.as_ptr()).lfs).cast() }
    }

    pub(super) fn config(&self) -> *const sys::lfs_config {
        // SAFETY: as above.
        unsafe { &raw const (*self.0.as_ptr()).config }
    }

    fn device(&self) -> &RefCell<Device> {
        // SAFETY: the allocation lives as long as `self`, and the device is only ever shared.
        unsafe { &(*self.0.as_ptr()).device }
    }

    /// Turn a result of the driver into ours; panics when the driver misused its device.
    pub(super) fn check(&self, code: i32) -> CResult<u32> {
        if let Some(violation) = self.device().borrow_mut().violation.take() {
            panic!("C littlefs did what flash cannot: {violation}");
        }
        u32::try_from(code).map_err(|_| CError::from_code(code))
    }

    /// A copy of the image as it is.
    pub(super) fn image(&self) -> Vec<u8> {
        self.device().borrow().image.clone()
    }

    /// Fail every write after the next `writes` ones.
    pub(super) fn cut_power_after(&self, writes: u64) {
        self.device().borrow_mut().writes_left = Some(writes);
    }

    pub(super) fn erases(&self) -> Vec<u32> {
        self.device().borrow().erases.clone()
    }

    pub(super) fn counts(&self) -> DeviceCounts {
        self.device().borrow().counts
    }

    /// The image, leaving none: the driver must not be called any more.
    pub(super) fn take_image(&self) -> Vec<u8> {
        std::mem::take(&mut self.device().borrow_mut().image)
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        // SAFETY: made by Box::leak in `new`, and freed only here.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
