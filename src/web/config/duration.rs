//! A time as Go's `time.ParseDuration` reads it: `1s`, `1.5h`, `1m30s`, `200ms`.
//!
//! Two things that Go takes are refused: a time below zero, and a bare number other than 0, which
//! the YAML reader of exporter-toolkit takes for nanoseconds and nobody means so.

use std::time::Duration;

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of this form.
    #[error("time: invalid duration {text:?}: write a number and a unit, as in 1s, 500ms or 1m30s")]
    Invalid {
        /// What stands there.
        text: String,
    },
    /// Numbers without a unit.
    #[error("time: missing unit in duration {text:?}: write 1s, 500ms or 1m30s")]
    NoUnit {
        /// What stands there.
        text: String,
    },
    /// Below zero.
    #[error("time: negative duration {text:?}; 0 switches the limit off")]
    Negative {
        /// What stands there.
        text: String,
    },
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// As long as Go can say.
const LONGEST_NANOS: u128 = 9_223_372_036_854_775_807;

/// Reads a time.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid {
        text: text.to_owned(),
    };
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0_u128;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        if number.is_empty() {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(DurationError::NoUnit {
                text: text.to_owned(),
            });
        }
        let unit = nanos_of(unit).ok_or_else(invalid)?;
        nanos += times(number, unit).ok_or_else(invalid)?;
        if nanos > LONGEST_NANOS {
            return Err(invalid());
        }
        rest = after;
    }
    if is_negative && nanos > 0 {
        return Err(DurationError::Negative {
            text: text.to_owned(),
        });
    }
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| invalid())?;
    let below = u32::try_from(nanos % NANOS_PER_SECOND).map_err(|_| invalid())?;
    Ok(Duration::new(seconds, below))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn nanos_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // Both letters that look like it.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3_600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// `number` is digits with at most one point among them.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok().map(u128::from),
    };
    // Finer than a nanosecond is nothing.
    let fraction = fraction.get(..fraction.len().min(15)).unwrap_or_default();
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1m30s", 90_000_000_000),
            ("100ms", 100_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("1h1m1.1s", 3_661_100_000_000),
        ] {
            assert_eq!(parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        for text in [
            "", "-", "+", ".", ".s", "s", "1d", "1 s", "1s ", "one", "1s-1s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(matches!(parse("5"), Err(DurationError::NoUnit { .. })));
        assert!(matches!(parse("1s5"), Err(DurationError::NoUnit { .. })));
        assert!(matches!(parse("-1s"), Err(DurationError::Negative { .. })));
        assert!(parse("9223372036854775807ns").is_ok());
        assert!(parse("9223372036854775808ns").is_err());
        assert!(parse("3000000h").is_err());
    }

    proptest! {
        #[test]
        fn whatever_stands_there_nothing_panics(text in "\\PC{0,24}|[-+0-9.hmsnu]{0,40}") {
            let _any = parse(&text);
        }
    }
}
