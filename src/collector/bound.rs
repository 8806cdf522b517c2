//! Which sockets are bound and unconnected, dumped no more often than it pays.
//!
//! The kernel finds them by iterating over all sockets of all network namespaces that have a local port, those in
//! TIME-WAIT and those accepted included (Linux 6.18: 175 to 240 ns each, 35 ms with 200,000 in TIME-WAIT, against 60 ms
//! for the whole dump). On most hosts that is little. Where it is not, the last reading serves for five
//! minutes, unless a ratio is near its limit: then every port counts, and they are dumped every time.
//! Elsewhere it matters little: ports that programs bind and do not connect are few, and are kept either
//! long or for a moment. In other namespaces than the exporter's they are then dumped near a limit only. Listening
//! sockets have a table of their own and are read every time.

use std::time::{Duration, Instant};

use crate::domain::advice::thresholds::RATIO_WARNING;
use crate::domain::snapshot::{PortUsage, SocketSummary};
use crate::domain::socket::PortOwner;

/// Up to this many sockets they are dumped every time: 17 to 24 ms.
const QUICK_SOCKETS: u64 = 100_000;

/// How long a reading serves where a dump is long: at a scrape every 15 s one in twenty dumps, which
/// adds 3 % to the CPU time of the others with 200,000 in TIME-WAIT, and 7 % with 100,000 accepted.
const SERVES_FOR: Duration = Duration::from_secs(300);

/// The bound sockets as they were read last.
pub(super) struct BoundSockets {
    last: Option<(Instant, Vec<PortOwner>)>,
    /// When a ratio was seen near its limit last. Serves as long as a reading does, so that a ratio
    /// that goes up and down has none read twice.
    near_limit: Option<Instant>,
    /// Whether it does not matter how old a reading is elsewhere.
    near_limit_only: bool,
}

impl BoundSockets {
    pub(super) const fn new(near_limit_only: bool) -> Self {
        Self {
            last: None,
            near_limit: None,
            near_limit_only,
        }
    }

    /// Whether they are to be dumped, for which the kernel iterates over this many sockets. If that is unknown, they are.
    pub(super) fn are_due(&self, now: Instant, sockets: Option<u64>) -> bool {
        let is_quick = sockets.is_none_or(|sockets| sockets <= QUICK_SOCKETS);
        let is_recent = |time: Instant| now.saturating_duration_since(time) < SERVES_FOR;
        let serves = self.last.as_ref().is_some_and(|(read, _)| is_recent(*read));
        is_quick || !(serves || self.near_limit_only) || self.near_limit.is_some_and(is_recent)
    }

    /// Keeps those among the owners that were read just now.
    pub(super) fn note(&mut self, now: Instant, owners: &[PortOwner]) {
        let bound = owners.iter().filter(|owner| !owner.listening);
        self.last = Some((now, bound.copied().collect()));
    }

    /// Those kept last.
    pub(super) fn noted(&self) -> &[PortOwner] {
        self.last.as_ref().map_or(&[], |(_, owners)| owners)
    }

    /// Whether a sum made with those kept last can be exported. If not, they are due now.
    pub(super) fn suffice_for(&mut self, summary: &SocketSummary, now: Instant) -> bool {
        let ratio = summary.ports.as_ref().map(highest_ratio);
        let is_near = ratio >= Some(RATIO_WARNING);
        if is_near {
            self.near_limit = Some(now);
        }
        let were_read_now = self.last.as_ref().is_some_and(|(read, _)| *read == now);
        were_read_now || !is_near
    }
}

/// The highest ratio of a destination or of the ports available to bind(addr, 0).
pub(super) fn highest_ratio(ports: &PortUsage) -> f64 {
    let sources = ports.by_source.iter().flatten();
    let ratios = sources.map(|source| source.exhaustion_ratio);
    ratios.fold(ports.worst_ratio.ipv4.max(ports.worst_ratio.ipv6), f64::max)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::census::{Census, Moment};
    use crate::domain::options::CensusOptions;
    use crate::domain::ports::PortRange;
    use crate::domain::settings::Settings;
    use crate::domain::snapshot::{Source, SourceUsage};

    const MANY: Option<u64> = Some(200_000);

    fn owner(port: u16, listening: bool) -> PortOwner {
        PortOwner {
            addr: "::1".parse().unwrap(),
            port,
            listening,
            v6_only: false,
        }
    }

    /// A summary in which the worst destination and the fullest address have these ratios.
    fn summary(worst_ratio: f64, pool_ratio: f64) -> SocketSummary {
        let owners = [];
        let settings = Settings {
            port_range: PortRange::new(40_000, 40_099),
            ..Settings::default()
        };
        let census = Census::new(
            CensusOptions::default(),
            &settings,
            Moment::default(),
            &owners,
        );
        let mut summary = census.finish(Source::Netlink, 0);
        let ports = summary.ports.as_mut().unwrap();
        ports.worst_ratio.ipv6 = worst_ratio;
        ports.by_source = Some(vec![SourceUsage {
            src_addr: "127.0.0.1".parse().unwrap(),
            ports: 1,
            listened: 0,
            on_wildcards: 0,
            exhaustion_ratio: pool_ratio,
        }]);
        summary
    }

    #[test]
    fn a_short_dump_is_made_every_time() {
        let (mut bound, now) = (BoundSockets::new(false), Instant::now());
        assert!(bound.are_due(now, Some(QUICK_SOCKETS)));
        bound.note(now, &[]);
        assert!(bound.are_due(now, Some(QUICK_SOCKETS)));
        assert!(!bound.are_due(now, Some(QUICK_SOCKETS + 1)));
    }

    #[test]
    fn a_long_dump_is_made_after_five_minutes() {
        let (mut bound, now) = (BoundSockets::new(false), Instant::now());
        assert!(bound.are_due(now, MANY));
        bound.note(now, &[owner(1, true), owner(2, false)]);
        assert_eq!(bound.noted(), [owner(2, false)]);
        assert!(!bound.are_due(now + Duration::from_secs(299), MANY));
        assert!(bound.are_due(now + SERVES_FOR, MANY));
    }

    #[test]
    fn near_a_limit_and_for_five_minutes_afterwards_it_is_made_every_time() {
        for near in [summary(0.75, 0.0), summary(0.0, 0.75)] {
            let (mut bound, begin) = (BoundSockets::new(false), Instant::now());
            let after = |seconds| begin + Duration::from_secs(seconds);
            bound.note(begin, &[]);
            assert!(bound.suffice_for(&summary(0.74, 0.74), after(15)));
            assert!(!bound.are_due(after(30), MANY));
            // They were read before this scrape, when the ratio was low.
            assert!(!bound.suffice_for(&near, after(30)));
            assert!(bound.are_due(after(30), MANY));
            bound.note(after(31), &[]);
            assert!(bound.suffice_for(&near, after(31)));
            assert!(bound.are_due(after(45), MANY));
            bound.note(after(45), &[]);
            assert!(bound.suffice_for(&summary(0.1, 0.1), after(45)));
            assert!(bound.are_due(after(330), MANY));
            bound.note(after(330), &[]);
            assert!(!bound.are_due(after(331), MANY));
        }
    }

    #[test]
    fn a_dump_of_unknown_length_is_made_every_time() {
        let (mut bound, now) = (BoundSockets::new(false), Instant::now());
        bound.note(now, &[]);
        assert!(bound.are_due(now, None));
    }

    #[test]
    fn in_other_namespaces_a_long_dump_is_made_near_a_limit_only() {
        let (mut bound, now) = (BoundSockets::new(true), Instant::now());
        assert!(bound.are_due(now, Some(QUICK_SOCKETS)));
        assert!(!bound.are_due(now, MANY));
        assert!(!bound.suffice_for(&summary(0.75, 0.0), now));
        assert!(bound.are_due(now, MANY));
    }
}
