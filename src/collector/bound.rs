//! Which sockets are merely bound, asked for no more often than it pays.
//!
//! The kernel finds them by walking over all sockets that have a local port, those in TIME-WAIT and
//! those accepted included (Linux 6.18: 175 ns each, 35 ms with 200,000 in TIME-WAIT, against 61 ms for
//! the whole dump). On most hosts that is little. Where it is not, what was read last is used for two
//! minutes: ports that programs bind and do not connect are few, and either held for long or for
//! a moment. Listening sockets stand in a table of their own and are read every time.

use std::time::{Duration, Instant};

use crate::domain::snapshot::SocketStatistics;
use crate::domain::socket::PortOwner;

/// Up to so many sockets the walk is made every time: 17 ms. More than one destination can hold of
/// any range, so that one at its limit is told to the port.
const QUICK_WALK_SOCKETS: u64 = 100_000;

/// How long a reading serves where the walk is long: at a scrape every 15 s, one of eight walks.
const SERVES_FOR: Duration = Duration::from_mins(2);

/// The bound sockets as they were read last.
#[derive(Debug, Default)]
pub(super) struct BoundSockets {
    last: Option<(Instant, Vec<PortOwner>)>,
}

impl BoundSockets {
    /// Whether they are to be read anew. Without figures there is no guess, and they are.
    pub(super) fn are_due(&self, now: Instant, statistics: Option<&SocketStatistics>) -> bool {
        let walked = statistics
            .and_then(|figures| Some(figures.in_use?.saturating_add(figures.time_wait_buckets?)));
        let is_quick = walked.is_none_or(|sockets| sockets <= QUICK_WALK_SOCKETS);
        let serves = |(read, _): &(Instant, _)| now.saturating_duration_since(*read) < SERVES_FOR;
        is_quick || !self.last.as_ref().is_some_and(serves)
    }

    /// Notes those among the owners that were read just now.
    pub(super) fn note(&mut self, now: Instant, owners: &[PortOwner]) {
        let bound = owners.iter().filter(|owner| !owner.listening);
        self.last = Some((now, bound.copied().collect()));
    }

    /// Those noted last.
    pub(super) fn noted(&self) -> &[PortOwner] {
        self.last.as_ref().map_or(&[], |(_, owners)| owners)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MANY: SocketStatistics = statistics(200_000);

    const fn statistics(time_wait: u64) -> SocketStatistics {
        SocketStatistics {
            time_wait_buckets: Some(time_wait),
            in_use: Some(10),
            orphans: None,
        }
    }

    fn owner(port: u16, listening: bool) -> PortOwner {
        PortOwner {
            addr: "::1".parse().unwrap(),
            port,
            listening,
            v6_only: false,
        }
    }

    #[test]
    fn a_quick_walk_is_made_every_time() {
        let (mut bound, now) = (BoundSockets::default(), Instant::now());
        assert!(bound.are_due(now, Some(&statistics(QUICK_WALK_SOCKETS - 10))));
        bound.note(now, &[]);
        assert!(bound.are_due(now, Some(&statistics(QUICK_WALK_SOCKETS - 10))));
        assert!(!bound.are_due(now, Some(&statistics(QUICK_WALK_SOCKETS - 9))));
    }

    #[test]
    fn a_long_walk_is_made_when_nothing_was_read_for_two_minutes() {
        let (mut bound, now) = (BoundSockets::default(), Instant::now());
        assert!(bound.are_due(now, Some(&MANY)));
        bound.note(now, &[owner(1, true), owner(2, false)]);
        assert_eq!(bound.noted(), [owner(2, false)]);
        assert!(!bound.are_due(now + Duration::from_secs(119), Some(&MANY)));
        assert!(bound.are_due(now + SERVES_FOR, Some(&MANY)));
    }

    #[test]
    fn without_figures_it_is_made_every_time() {
        let (mut bound, now) = (BoundSockets::default(), Instant::now());
        bound.note(now, &[]);
        assert!(bound.are_due(now, None));
        assert!(bound.are_due(now, Some(&SocketStatistics::default())));
    }
}
