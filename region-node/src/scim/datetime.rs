//! Moments as SCIM writes and reads them (RFC 7643 section 2.3.5, `xsd:dateTime`).

use std::fmt;

use jiff::civil;
use shared::Timestamp;

/// A moment that is written as `2026-11-24T01:17:01.123Z`; one that no calendar has as the first.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub Timestamp);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0.as_millis()).unwrap_or_default();
        write!(f, "{moment:.3}")
    }
}

/// The moment as text.
#[must_use]
pub fn format(timestamp: Timestamp) -> String {
    Written(timestamp).to_string()
}

/// Reads a moment with an offset or `Z`; one without either is read as UTC, a date alone as its
/// first moment. Exact to the nanosecond.
#[must_use]
pub fn parse(text: &str) -> Option<jiff::Timestamp> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment);
    }
    // "+" of an offset that a form decoder took for a blank.
    if let Ok(moment) = text.replacen(' ', "+", 1).parse::<jiff::Timestamp>() {
        return Some(moment);
    }
    let local = text.parse::<civil::DateTime>().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(local).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_milliseconds() {
        assert_eq!(
            format(Timestamp(1_795_483_021_120)),
            "2026-11-24T01:17:01.120Z"
        );
        assert_eq!(format(Timestamp(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn offsets_fractions_and_bare_dates_are_read() {
        let same = [
            "2015-10-10T21:38:21.8617979Z",
            "2015-10-10T14:38:21.8617979-07:00",
            "2015-10-10T21:38:21.8617979",
            "2015-10-10T23:38:21.8617979 02:00",
        ];
        for text in same {
            assert_eq!(parse(text), parse(same[0]), "{text}");
            assert!(parse(text).is_some());
        }
        assert!(parse("2026-01-01").is_some());
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "5"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
