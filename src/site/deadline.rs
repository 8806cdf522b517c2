//! How long a scrape may take.
//!
//! Only reads the header; who keeps the time is the collector.

use std::time::Duration;

use hyper::HeaderMap;

/// What Prometheus says it will wait, in seconds.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// For a scraper that names no time. Prometheus' own default is 10 s, the longest in common use 60 s.
pub(super) const DEFAULT: Duration = Duration::from_secs(30);

/// What the way to Prometheus and back is given, encoding included: half a second, but at most this share of a short
/// time.
const MARGIN: Duration = Duration::from_millis(500);
const MARGIN_SHARE: u32 = 4;

/// Enough for the small files, however little the scraper leaves.
const SHORTEST: Duration = Duration::from_millis(50);

/// A longer time is no scraper's, and would let anyone keep a slot indefinitely.
const LONGEST: Duration = Duration::from_secs(600);

/// How long this scrape may take until it answers with what it has.
pub(super) fn time_allowed(headers: &HeaderMap) -> Duration {
    let mut values = headers.get_all(TIMEOUT_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return DEFAULT;
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        // Refuses NaN, the infinite and the negative.
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|timeout| !timeout.is_zero() && *timeout <= LONGEST)
        .map_or(DEFAULT, |timeout| {
            let margin = MARGIN.min(timeout / MARGIN_SHARE);
            timeout.saturating_sub(margin).max(SHORTEST)
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(value: &str) -> Duration {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT_HEADER, value.parse().unwrap());
        time_allowed(&headers)
    }

    #[test]
    fn half_a_second_is_reserved_or_a_quarter_of_a_short_timeout() {
        for (header, milliseconds) in [
            ("600", 599_500),
            ("10", 9_500),
            ("10.000000", 9_500),
            ("2", 1_500),
            ("1", 750),
            ("0.6", 450),
            ("0.1", 75),
        ] {
            assert_eq!(allowed(header), Duration::from_millis(milliseconds));
        }
    }

    #[test]
    fn a_short_timeout_is_never_zero() {
        for value in ["0.06", "0.01", "1e-9"] {
            assert_eq!(allowed(value), SHORTEST);
        }
    }

    #[test]
    fn an_invalid_timeout_is_ignored() {
        for value in [
            "", "0", "-0", "-1", "NaN", "inf", "-inf", "1e300", "600.1", "ten", "1,5", "1e-30",
        ] {
            assert_eq!(allowed(value), DEFAULT, "{value}");
        }
        assert_eq!(time_allowed(&HeaderMap::new()), DEFAULT);
        let mut twice = HeaderMap::new();
        twice.append(TIMEOUT_HEADER, "1".parse().unwrap());
        twice.append(TIMEOUT_HEADER, "2".parse().unwrap());
        assert_eq!(time_allowed(&twice), DEFAULT);
        let mut binary = HeaderMap::new();
        binary.append(
            TIMEOUT_HEADER,
            hyper::header::HeaderValue::from_bytes(b"\xff").unwrap(),
        );
        assert_eq!(time_allowed(&binary), DEFAULT);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_the_time_is_bounded(value in "[ -~]{0,12}") {
            let time = allowed(&value);
            prop_assert!((SHORTEST..LONGEST).contains(&time));
        }
    }
}
