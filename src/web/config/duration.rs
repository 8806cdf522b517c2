//! A time as Go's `time.ParseDuration` reads it: `1s`, `1.5h`, `1m30s`, `200ms`.
//!
//! Two things that Go takes are refused: a time below zero, and a bare number other than 0, which
//! the YAML reader of exporter-toolkit takes for nanoseconds and nobody means so.

use std::time::Duration;

/// As long as Go can say, in seconds: 2 to the power of 63 nanoseconds.
const LONGEST: f64 = 9_223_372_036.854_776;

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |what| {
        format!(
            "time: {what} duration {text:?}: write a number and a unit, as in 1s, 500ms or 1m30s"
        )
    };
    let invalid = || wrong("invalid");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut seconds = 0.0;
    let mut rest = unsigned;
    loop {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit = match unit {
            "ns" => 1e-9,
            // Both letters that look like it.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => return Err(wrong("missing unit in")),
            _ => return Err(invalid()),
        };
        seconds += number * unit;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if text.starts_with('-') && seconds > 0.0 {
        return Err(format!(
            "time: negative duration {text:?}; 0 switches the limit off"
        ));
    }
    if seconds > LONGEST {
        return Err(invalid());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
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
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("1h1m1.1s", 3_661_100_000_000),
        ] {
            assert_eq!(parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_is_refused_with_an_example() {
        for text in [
            "", "-", "+", ".", ".s", "s", "1d", "1 s", "1s ", "one", "1s-1s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let says = |text: &str| parse(text).unwrap_err();
        assert!(says("5").contains("missing unit"));
        assert!(says("1s5").contains("missing unit"));
        assert!(says("-1s").contains("negative duration"));
        assert!(parse("2500000h").is_ok());
        assert!(parse("3000000h").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}|[-+0-9.hmsnu]{0,40}") {
            let _any = parse(&text);
        }
    }
}
