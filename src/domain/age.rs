//! How long a socket has been in TIME-WAIT, told from the time it has left.

use super::snapshot::AGE_BANDS;

/// How long TIME-WAIT lasts: `TCP_TIMEWAIT_LEN` in include/net/tcp.h, in milliseconds. A constant
/// of the kernel that no setting changes.
pub const TIME_WAIT_MS: u32 = 60_000;

/// The window in which sockets count towards the close rate, in milliseconds.
pub const CLOSE_RATE_WINDOW_MS: u32 = 10_000;

/// One band of ages: its name and its upper bound, in milliseconds, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// From-to in seconds.
    pub name: &'static str,
    /// The first age that no longer belongs to it. The last band takes all that is older.
    pub end_ms: u32,
}

/// The age bands, youngest first, lower bound inclusive.
pub const BANDS: [Band; AGE_BANDS] = [
    Band {
        name: "0-1",
        end_ms: 1_000,
    },
    Band {
        name: "1-5",
        end_ms: 5_000,
    },
    Band {
        name: "5-15",
        end_ms: 15_000,
    },
    Band {
        name: "15-30",
        end_ms: 30_000,
    },
    Band {
        name: "30-45",
        end_ms: 45_000,
    },
    Band {
        name: "45-60",
        end_ms: u32::MAX,
    },
];

/// The age of a TIME-WAIT socket in milliseconds. A timer with more than 60 s left (a kernel built
/// with another length) counts as just begun.
#[inline]
#[must_use]
pub const fn age_ms(remaining_ms: u32) -> u32 {
    TIME_WAIT_MS.saturating_sub(remaining_ms)
}

/// Which of [`BANDS`] an age belongs to.
#[inline]
#[must_use]
pub fn band_index(age_ms: u32) -> usize {
    BANDS
        .iter()
        .take(AGE_BANDS - 1)
        .filter(|band| age_ms >= band.end_ms)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_belongs_to_a_band_and_the_upper_does_not() {
        let band_of = |age: u32| BANDS.get(band_index(age)).map(|band| band.name);
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
        assert_eq!(age_ms(60_001), 0);
        assert_eq!(age_ms(u32::MAX), 0);
        assert_eq!(age_ms(0), 60_000);
    }
}
