//! Times, as people read and write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time in seconds since 1970, in local time: `2026-03-14 15:09:26`.
pub fn local(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned(TimeZone::system()).strftime("%F %T").to_string()
}

/// A time in nanoseconds since 1970, in local time, to the minute: `2026-03-14 15:09`.
pub fn local_minutes(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
    time.to_zoned(TimeZone::system()).strftime("%F %R").to_string()
}

/// A time in nanoseconds since 1970, in UTC, in the format of ISO 8601.
pub fn utc(nanos: i64) -> String {
    format!("{:.9}", Timestamp::from_nanosecond(nanos.into()).unwrap_or_default())
}

/// A time in seconds since 1970, in UTC, in the format of asctime(3): `Sat Mar 14 15:09:26 2026`.
pub fn asctime(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%a %b %e %T %Y").to_string()
}

/// Parse a time in a form that people write: with its offset from UTC, as a date and local time, or
/// as `@` and seconds since 1970. Returns nanoseconds since 1970.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("'{text}' is not a time (like 2026-03-14T15:09:26Z, 2026-03-14 15:09, @0)");
    let moment: Option<Timestamp> = match text.strip_prefix('@') {
        Some(seconds) => seconds.parse().ok().and_then(|at| Timestamp::from_second(at).ok()),
        None => text.parse().ok().or_else(|| {
            let here: DateTime = text.parse().ok()?;
            here.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
        }),
    };
    let nanos = moment.ok_or_else(wrong)?.as_nanosecond();
    i64::try_from(nanos).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_understood() {
        let second = 1_773_500_966_000_000_000;
        assert_eq!(parse("2026-03-14T15:09:26Z"), Ok(second));
        assert_eq!(parse("2026-03-14 16:09:26+01:00"), Ok(second));
        assert_eq!(parse("@1773500966"), Ok(second));
        assert_eq!(parse("@-1"), Ok(-1_000_000_000));
        assert_eq!(local_minutes(parse("2026-03-14 15:09").expect("a time")), "2026-03-14 15:09");
        assert!(parse("2026-03-14").is_ok());
        for wrong in ["", "@", "@x", "yesterday", "2026-13-01", "@99999999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_moment_has_a_date() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_700_000_000_000_000_005, "2023-11-14T22:13:20.000000005Z"),
            (-500_000_000, "1969-12-31T23:59:59.500000000Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ] {
            assert_eq!(utc(nanos), text);
        }
        assert_eq!(local(u64::MAX).len(), local(0).len());
        assert_eq!(asctime(1_773_500_966), "Sat Mar 14 15:09:26 2026");
        assert_eq!(asctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(asctime(i64::MAX), asctime(0));
    }
}
