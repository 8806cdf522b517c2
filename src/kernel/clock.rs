//! The kernel's clock, as far as the age of sockets is compared with it.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, its part below a second: `ktime_get_seconds()` counts whole ones.
pub(crate) fn milliseconds_of_second() -> u16 {
    let nanoseconds = clock_gettime(ClockId::Monotonic).tv_nsec;
    u16::try_from(nanoseconds / 1_000_000).unwrap_or_default()
}
