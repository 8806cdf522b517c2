//! Which ports connect() may take, and which TIME-WAIT sockets it may reuse.
//!
//! Follows `__inet_hash_connect` (net/ipv4/inet_hashtables.c) and `tcp_twsk_unique`
//! (net/ipv4/tcp_ipv4.c). Knows nothing of single sockets' counts (see `census`).

use super::ports::{PortRange, PortSet};
use super::settings::Settings;
use super::snapshot::{Destination, PortSets};

/// After so long the second has changed for certain.
const LONGEST_SECOND_MS: u16 = 1_000;

/// The ephemeral range, sorted by what connect() does with each port.
#[derive(Clone, Debug)]
pub(super) struct PortPool {
    pub(super) range: PortRange,
    /// Ports in use that connect() skips for every destination all the same; `None` if not probed.
    pub(super) bind_owned: Option<u32>,
    /// Ports inside the range that are not reserved: what bind(addr, 0) draws from.
    pub(super) unreserved: PortSet,
    /// Ports that identify an outgoing socket: in the range, not reserved, nothing listens.
    pub(super) outgoing: PortSet,
    /// Ports that connect() may take: `outgoing` without those that are bound or bind-owned.
    pub(super) usable: PortSet,
    /// `ip_local_port_step_width` is not 0.
    pub(super) tries_at_random: bool,
}

impl PortPool {
    /// `None` while the range is unknown.
    pub(super) fn new(settings: &Settings, sets: &PortSets) -> Option<Self> {
        let range = settings.port_range?;
        let mut unreserved = PortSet::of_range(range);
        if let Some(reserved) = &sets.reserved {
            unreserved.subtract(reserved);
        }
        let mut outgoing = unreserved.clone();
        outgoing.subtract(&sets.listening);
        let mut usable = outgoing.clone();
        usable.subtract(&sets.bound);
        Some(Self {
            range,
            bind_owned: None,
            unreserved,
            outgoing,
            usable,
            tries_at_random: settings
                .ip_local_port_step_width
                .is_some_and(|width| width > 0),
        })
    }

    /// Usable ports that turned out to be closed to connect(): bind-owned where a socket uses them,
    /// otherwise blocked by a socket that this kernel does not list (bound and unconnected, Linux < 6.8).
    pub(super) fn close(&mut self, closed: &PortSet, in_use: &PortSet) {
        let mut closed = closed.clone();
        closed.intersect_with(&self.usable);
        self.bind_owned = Some(closed.len_within(in_use));
        self.usable.subtract(&closed);
    }
}

/// When connect() may reuse a TIME-WAIT socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReuseRule {
    /// Of whatever destination.
    everywhere: bool,
    /// With an end on a loopback address, or bound to the device `lo`, whatever their addresses.
    pub(super) on_loopback: bool,
    /// It is old enough if it is older than this.
    older_than_ms: u32,
    /// It has a timestamp if it is younger than this: older ones were made with `tcp_timestamps` off.
    younger_than_ms: u32,
    /// Whether it is unknown if connect() reuses the ports of FIN-WAIT-2 sockets without a process too.
    pub(super) orphans_in_doubt: bool,
}

impl ReuseRule {
    /// A sysctl that could not be read counts as off: headroom is not promised on a guess.
    pub(super) fn new(settings: &Settings, moment: Moment) -> Self {
        let is_on = settings.tcp_timestamps.is_some_and(|value| value != 0);
        // What matters is the time-wait socket's own timestamp, whatever the sysctl is by now.
        let changed_ms = moment.timestamps_changed_ms;
        let (has_any, since_ms, younger_than_ms) = if is_on {
            (true, 0, changed_ms.unwrap_or(u32::MAX))
        } else {
            (changed_ms.is_some(), changed_ms.unwrap_or(0), u32::MAX)
        };
        // Without the sysctl (Linux < 6.14), the second of CLOCK_MONOTONIC must have changed.
        let second_ms = moment.milliseconds_of_second.unwrap_or(LONGEST_SECOND_MS);
        let delay_ms = settings.tcp_tw_reuse_delay_ms.unwrap_or(second_ms.into());
        let allows = |value| has_any && settings.tcp_tw_reuse == Some(value);
        Self {
            everywhere: allows(1),
            on_loopback: allows(2),
            older_than_ms: u32::try_from(delay_ms).unwrap_or(u32::MAX).max(since_ms),
            younger_than_ms,
            // The sysctl is younger than the fix.
            orphans_in_doubt: (allows(1) || allows(2))
                && !moment.orphans_keep_ports
                && settings.tcp_tw_reuse_delay_ms.is_none(),
        }
    }

    /// Whether a TIME-WAIT socket of this age is reusable where reuse is allowed.
    pub(super) const fn is_old_enough(self, age_ms: u32) -> bool {
        self.older_than_ms < age_ms && age_ms <= self.younger_than_ms
    }

    /// Whether reuse is allowed for a destination.
    pub(super) fn allows(self, destination: &Destination) -> bool {
        let is_loopback = destination.src_addr.is_loopback() || destination.dst_addr.is_loopback();
        self.everywhere || (self.on_loopback && is_loopback)
    }
}

/// What a census has to know of the time at which its dump is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_MONOTONIC of the kernel that has the sockets, its part below a second. `None` if unknown.
    pub(crate) milliseconds_of_second: Option<u16>,
    /// How long ago `tcp_timestamps` was last seen switched the other way; `None` if never.
    pub(crate) timestamps_changed_ms: Option<u32>,
    /// The kernel is known to have the fix of 2024 by which connect() reuses no port in FIN-WAIT-2.
    pub(crate) orphans_keep_ports: bool,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_owned_ports_are_counted_once_and_only_inside_the_range() {
        let reserved: PortSet = [99, 100, 105, 111].into_iter().collect();
        let sets = PortSets {
            reserved: Some(reserved),
            listening: [105, 106, 80].into_iter().collect(),
            bound: [106, 107].into_iter().collect(),
            ..PortSets::default()
        };
        let settings = Settings {
            port_range: PortRange::new(100, 110),
            ..Settings::default()
        };
        let mut pool = PortPool::new(&settings, &sets).unwrap();
        let counts = [&pool.unreserved, &pool.outgoing, &pool.usable].map(PortSet::len);
        assert_eq!(counts, [9, 8, 7]);
        assert_eq!(
            pool.usable.iter().collect::<Vec<_>>(),
            [101, 102, 103, 104, 108, 109, 110]
        );
        assert!(pool.outgoing.contains(107) && !pool.outgoing.contains(106));
        // 101 is in use, 102 is not; the others are not usable anyway.
        let closed = [101, 102, 105, 107, 4_000].into_iter().collect();
        pool.close(&closed, &[101, 103, 107].into_iter().collect());
        assert_eq!((pool.usable.len(), pool.bind_owned), (5, Some(1)));
        assert_eq!(
            pool.usable.iter().collect::<Vec<_>>(),
            [103, 104, 108, 109, 110]
        );
    }

    fn settings(reuse: i64, timestamps: i64, delay: Option<i64>) -> Settings {
        Settings {
            tcp_tw_reuse: Some(reuse),
            tcp_timestamps: Some(timestamps),
            tcp_tw_reuse_delay_ms: delay,
            ..Settings::default()
        }
    }

    /// The age above which a TIME-WAIT socket is reusable.
    fn limit(settings: &Settings, src: &str, dst: &str) -> Option<u32> {
        let (src_addr, dst_addr) = (src.parse().unwrap(), dst.parse().unwrap());
        let rule = ReuseRule::new(settings, Moment::default());
        let destination = Destination {
            src_addr,
            dst_addr,
            dst_port: 1,
        };
        rule.allows(&destination).then_some(rule.older_than_ms)
    }

    #[test]
    fn reuse_needs_timestamps_and_for_value_two_a_loopback_end() {
        let outside = ("192.0.2.1", "198.51.100.1");
        let at = |reuse, timestamps, ends: (&str, &str)| {
            limit(&settings(reuse, timestamps, Some(50)), ends.0, ends.1)
        };
        assert_eq!(at(1, 1, outside), Some(50));
        assert_eq!(at(1, 2, outside), Some(50));
        for (reuse, timestamps) in [(0, 1), (2, 1), (1, 0), (3, 1), (-1, 1)] {
            let got = at(reuse, timestamps, outside);
            assert_eq!(
                got, None,
                "tcp_tw_reuse {reuse}, tcp_timestamps {timestamps}"
            );
        }
        for loopback in [
            ("127.0.0.1", outside.1),
            (outside.0, "127.9.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(at(2, 1, loopback), Some(50));
        }
        assert_eq!(limit(&Settings::default(), "::1", "::1"), None);
    }

    #[test]
    fn on_the_device_lo_value_two_reuses_whatever_the_addresses() {
        let allows =
            |reuse| ReuseRule::new(&settings(reuse, 1, None), Moment::default()).on_loopback;
        // With 1 every destination is.
        assert_eq!([0, 1, 2].map(allows), [false, false, true]);
    }

    #[test]
    fn a_delay_no_kernel_would_have_makes_nothing_reusable() {
        for delay in [-5, i64::MAX] {
            let limit = limit(&settings(1, 1, Some(delay)), "::1", "::1");
            assert_eq!(limit, Some(u32::MAX));
        }
    }

    #[test]
    fn without_a_delay_sysctl_the_second_must_have_changed() {
        let moment = Moment {
            milliseconds_of_second: Some(300),
            ..Moment::default()
        };
        let rule = ReuseRule::new(&settings(1, 1, None), moment);
        assert!(!rule.is_old_enough(300) && rule.is_old_enough(301));
        let rule = ReuseRule::new(&settings(1, 1, None), Moment::default());
        assert!(!rule.is_old_enough(1_000) && rule.is_old_enough(1_001));
        let rule = ReuseRule::new(&settings(1, 1, Some(500)), moment);
        assert!(!rule.is_old_enough(500) && rule.is_old_enough(501));
    }

    #[test]
    fn what_counts_is_whether_timestamps_were_on_when_time_wait_began() {
        let changed = |timestamps, timestamps_changed_ms| {
            let moment = Moment {
                timestamps_changed_ms,
                ..Moment::default()
            };
            let rule = ReuseRule::new(&settings(1, timestamps, Some(100)), moment);
            let allows = rule.everywhere;
            [100, 101, 5_000, 5_001].map(|age| allows && rule.is_old_enough(age))
        };
        assert_eq!(changed(1, None), [false, true, true, true]);
        assert_eq!(changed(0, None), [false; 4]);
        // Turned off 5 s ago: what is older has them. Turned on: what is younger.
        assert_eq!(changed(0, Some(5_000)), [false, false, false, true]);
        assert_eq!(changed(1, Some(5_000)), [false, true, true, false]);
    }
}
