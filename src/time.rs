//! Times in nanoseconds since 1970. The years 1677 to 2262 fit into 64 bits; other times become the
//! nearest one that fits.

use std::time::{Duration, SystemTime};

/// A time in nanoseconds.
pub fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN + 1, |n| -n),
    }
}

/// The reverse of [`nanos`].
pub fn system_time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let time = if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// This moment.
pub fn now() -> i64 {
    nanos(SystemTime::now())
}
