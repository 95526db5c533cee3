//! Durations as an operator writes them: `365d`, `72h`, `30m`.

use std::time::Duration;

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number, no unit, or a unit that we do not know.
    #[error("a duration is a whole number and a unit: 365d, 72h, 30m or 45s")]
    Shape,
    /// It is zero, or longer than a hundred years.
    #[error("a duration is between one second and a hundred years")]
    Range,
}

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;
/// Keeps every end that follows from a duration far inside what a timestamp can say.
const MAX_S: u64 = 100 * 366 * DAY_S;

/// Parses a whole number followed by `d`, `h`, `m` or `s`.
///
/// # Errors
/// [`DurationError`] when the text has another shape, is zero, or is absurdly long.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit = text.chars().last().ok_or(DurationError::Shape)?;
    let unit_s = match unit {
        'd' => DAY_S,
        'h' => HOUR_S,
        'm' => MINUTE_S,
        's' => 1,
        _ => return Err(DurationError::Shape),
    };
    let number = text.strip_suffix(unit).ok_or(DurationError::Shape)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::Shape);
    }
    // Only digits, so parsing can fail by size alone.
    let number: u64 = number.parse().map_err(|_| DurationError::Range)?;
    let seconds = number.checked_mul(unit_s).ok_or(DurationError::Range)?;
    if (1..=MAX_S).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(DurationError::Range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_a_unit_are_durations() {
        for (text, seconds) in [
            ("365d", 31_536_000),
            ("72h", 259_200),
            ("30m", 1800),
            ("45s", 45),
            ("007h", 25_200),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_explained() {
        for text in [
            "", "d", "5", "5 d", "+5d", "-5d", "1.5h", "5D", "5w", "٣d", "d5",
        ] {
            assert_eq!(parse(text), Err(DurationError::Shape), "{text:?}");
        }
        for text in ["0d", "0s", "99999999999999999999d", "36601d"] {
            assert_eq!(parse(text), Err(DurationError::Range), "{text:?}");
        }
    }
}
