//! How long a socket has been in TIME-WAIT, by the time that it has left.

use super::settings::Settings;
use super::snapshot::AGE_BANDS;

/// How long TIME-WAIT lasts: `TCP_TIMEWAIT_LEN` in include/net/tcp.h, in milliseconds. A constant
/// of the kernel that no sysctl changes, but for that of [`time_wait_ms`].
pub(crate) const TIME_WAIT_MS: u32 = 60_000;

/// How long TIME-WAIT lasts on this kernel: Alibaba Cloud Linux has `tcp_tw_timeout`.
pub(crate) fn time_wait_ms(settings: &Settings) -> u32 {
    let seconds = settings.tcp_tw_timeout_seconds;
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    seconds.map_or(TIME_WAIT_MS, |seconds| seconds.saturating_mul(1_000))
}

/// The window in which sockets count towards the close rate, in milliseconds.
pub(crate) const CLOSE_RATE_WINDOW_MS: u32 = 10_000;

/// The age bands, youngest first, lower bound inclusive: their names (from-to in seconds), and the first age
/// that no longer belongs to each. The last one takes all that is older.
pub(crate) const BANDS: [(&str, u32); AGE_BANDS] = [
    ("0-1", 1_000),
    ("1-5", 5_000),
    ("5-15", 15_000),
    ("15-30", 30_000),
    ("30-45", 45_000),
    ("45-60", u32::MAX),
];

/// The age of a TIME-WAIT socket in milliseconds. A timer with more time left than TIME-WAIT lasts (a
/// kernel built with another length) counts as just begun.
pub(crate) const fn age_ms(time_wait_ms: u32, remaining_ms: u32) -> u32 {
    time_wait_ms.saturating_sub(remaining_ms)
}

/// Which of [`BANDS`] an age belongs to.
pub(crate) fn band_index(age_ms: u32) -> usize {
    BANDS
        .iter()
        .take(AGE_BANDS - 1)
        .filter(|(_, end_ms)| age_ms >= *end_ms)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_belongs_to_a_band_and_the_upper_does_not() {
        let band_of = |age: u32| BANDS.get(band_index(age)).map(|(name, _)| *name);
        for (age, name) in [
            (0, "0-1"),
            (999, "0-1"),
            (1_000, "1-5"),
            (4_999, "1-5"),
            (5_000, "5-15"),
            (15_000, "15-30"),
            (30_000, "30-45"),
            (45_000, "45-60"),
            (60_000, "45-60"),
            (u32::MAX, "45-60"),
        ] {
            assert_eq!(band_of(age), Some(name), "{age} ms");
        }
    }

    #[test]
    fn a_timer_outside_sixty_seconds_is_clamped() {
        assert_eq!(age_ms(TIME_WAIT_MS, 60_001), 0);
        assert_eq!(age_ms(TIME_WAIT_MS, u32::MAX), 0);
        assert_eq!(age_ms(TIME_WAIT_MS, 0), 60_000);
    }

    #[test]
    fn where_time_wait_has_another_length_ages_follow_it() {
        let lasts = |seconds| {
            time_wait_ms(&Settings {
                tcp_tw_timeout_seconds: seconds,
                ..Settings::default()
            })
        };
        assert_eq!(age_ms(lasts(None), 15_000), 45_000);
        assert_eq!(age_ms(lasts(Some(20)), 15_000), 5_000);
        assert_eq!([lasts(Some(600)), lasts(Some(-1))], [600_000, 60_000]);
    }
}
