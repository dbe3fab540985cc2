//! The configuration of the driver, the memory device under it, and the allocation that holds both.

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

/// The configuration of a build of the driver, and how its device behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes per block.
    pub block_size: u32,
    /// The number of blocks. With 0, it is taken from the superblock (not for formatting).
    pub block_count: u32,
    /// Granularity of reads in bytes.
    pub read_size: u32,
    /// Granularity of programs in bytes.
    pub prog_size: u32,
    /// Bytes per cache. This is a multiple of the read size and the program size, and divides the
    /// block size.
    pub cache_size: u32,
    /// Bytes of the window of the allocator. Each byte stands for eight blocks.
    pub lookahead_size: u32,
    /// The erases after which a pair moves; -1 for never.
    pub block_cycles: i32,
    /// The version to write, which is also the newest one to accept.
    pub disk_version: u32,
    /// Limits. With 0, the limit of the superblock is used, or for formatting the default of the
    /// driver.
    pub name_max: u32,
    pub file_max: u32,
    pub attr_max: u32,
    /// The largest inline file. With 0, it is derived from the cache; with `u32::MAX`, no file is
    /// inline.
    pub inline_max: u32,
    /// How many bytes of a block metadata may use; 0 for all.
    pub metadata_max: u32,
    /// The value of erased bytes: 0xFF, or 0x00 as in mklittlefs.
    pub erased: u8,
    /// Whether programming bytes that are not erased is refused.
    pub strict_erase: bool,
    /// How many erases a block endures. After one more, programming it fails.
    pub life: u32,
    /// How many erases the blocks have had already, from the first block on.
    pub worn: Vec<u32>,
}

impl Config {
    /// A driver of version 2.1 for this geometry. Its cache is the smallest one of at least 64
    /// bytes that holds the program size, or the whole block if that is smaller. Its allocator sees
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

    /// Panics if the driver would only assert.
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

/// Counts of the requests of the driver to its device.
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
    /// The first request that a chip would not accept.
    violation: Option<String>,
    /// Erases of each block.
    erases: Vec<u32>,
    /// How many programs and erases remain until the power fails; `None` if it does not fail.
    writes_left: Option<u64>,
}

impl Device {
    /// The bytes of an access, or the reason why it is not possible.
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

    /// Whether this write still takes place.
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

    /// The return code of the driver for an access. The first violation is kept.
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

/// The device for the configuration that a callback gets.
///
/// # Safety
/// `config` must be the one that a live `Driver` has passed to the C code, and there must be no
/// other borrow of its device: the methods of the driver borrow it only between calls into C.
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

/// Everything to which the C code keeps pointers, in one allocation that never moves.
struct Driver {
    lfs: MaybeUninit<sys::lfs_t>,
    config: sys::lfs_config,
    device: RefCell<Device>,
}

/// Owns a `Driver` as long as the C code may use it.
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

    /// Turn a result of the driver into ours. This panics if the driver has misused its device.
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

    /// Let all writes after the next `writes` ones fail.
    pub(super) fn cut_power_after(&self, writes: u64) {
        self.device().borrow_mut().writes_left = Some(writes);
    }

    pub(super) fn erases(&self) -> Vec<u32> {
        self.device().borrow().erases.clone()
    }

    pub(super) fn counts(&self) -> DeviceCounts {
        self.device().borrow().counts
    }

    /// Take the image out. The driver must not be called after that.
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
