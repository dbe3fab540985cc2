//! Exit codes, as mount(8), fsck(8), diff(1) and env(1) define them.

/// Success.
pub const SUCCESS: u8 = 0;
/// Any failure without a code of its own, and wrong usage.
pub const FAILURE: u8 = 1;
/// mount(8): the mount failed.
#[cfg(feature = "mount")]
pub const MOUNT_FAILURE: u8 = 32;
/// Done, but something was left out, or may be wrong or outdated.
pub const LEFT_OUT: u8 = 2;
/// diff(1): there are differences.
pub const DIFF_DIFFERENT: u8 = 1;
/// diff(1): the two could not be compared, or the result may be wrong or outdated.
pub const DIFF_TROUBLE: u8 = 2;
/// env(1), timeout(1): the program itself failed, not the command that it runs.
pub const RUN_FAILURE: u8 = 125;
/// env(1), timeout(1): the command cannot be run.
#[cfg(feature = "mount")]
pub const RUN_CANNOT: u8 = 126;
/// env(1), timeout(1): there is no such command.
#[cfg(feature = "mount")]
pub const RUN_NOT_FOUND: u8 = 127;
/// fsck(8): errors were found and repaired.
pub const CHECK_REPAIRED: u8 = 1;
/// fsck(8): errors were left uncorrected.
pub const CHECK_ERRORS: u8 = 4;
/// fsck(8): the image could not be examined.
pub const CHECK_OPERATIONAL: u8 = 8;
/// fsck(8): wrong usage.
pub const CHECK_USAGE: u8 = 16;
