//! Points in time as files and people write them.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last second that can be shown: 9999-12-31T23:59:59Z.
pub(super) const LAST: i64 = 253_402_300_799;

/// Returns a point in time as RFC 3339 has it, in UTC and whole seconds.
pub fn shown_time(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// Returns the point in time that is written as RFC 3339 has it; `None` for one before 1970 or, in UTC, after 9999, which
/// could not be shown again.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (0..=LAST).contains(&time.unix_timestamp()).then_some(())?;
    Some(time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_could_not_be_shown_again_is_no_time() {
        let last = parse_time("9999-12-31T23:59:59Z").unwrap();
        assert_eq!(shown_time(last), "9999-12-31T23:59:59Z");
        assert_eq!(parse_time("9999-12-31T23:59:59-23:00"), None);
        assert_eq!(parse_time("0001-01-01T00:00:00Z"), None);
    }
}
