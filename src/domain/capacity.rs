//! Which ports connect() may take, and which TIME-WAIT sockets it may take over.
//!
//! Follows `__inet_hash_connect` (net/ipv4/inet_hashtables.c) and `tcp_twsk_unique`
//! (net/ipv4/tcp_ipv4.c). Knows nothing of single sockets' counts (see `census`).

use super::ports::{PortRange, PortSet};
use super::settings::Settings;
use super::snapshot::Destination;
use super::socket::PortOwner;

/// `tcp_tw_reuse_delay` where the kernel has no such setting: the one second that
/// `tcp_twsk_unique` had built in, in milliseconds.
const BUILT_IN_REUSE_DELAY_MS: u32 = 1_000;

/// The ephemeral range, sorted by what connect() does with each port.
#[derive(Clone, Debug)]
pub(super) struct PortPool {
    pub(super) range: PortRange,
    /// Ports inside the range that are reserved.
    pub(super) reserved: u32,
    /// Unreserved ports inside the range that something listens on.
    pub(super) listeners: u32,
    /// Unreserved ports inside the range that a listening or merely bound socket owns. connect()
    /// skips them for every destination, whatever their address and family.
    pub(super) blocked: u32,
    /// Ports inside the range that are not reserved: what bind(addr, 0) draws from.
    pub(super) unreserved: PortSet,
    /// Ports that tell an outgoing socket: in the range, not reserved, nothing listens.
    pub(super) outgoing: PortSet,
    /// Ports that connect() may take: `outgoing` less those that are merely bound.
    pub(super) usable: PortSet,
}

impl PortPool {
    pub(super) fn new(range: PortRange, reserved: Option<&PortSet>, owners: &[PortOwner]) -> Self {
        let mut unreserved = PortSet::of_range(range);
        if let Some(reserved) = reserved {
            unreserved.subtract(reserved);
        }
        let mut outgoing = unreserved.clone();
        let mut usable = unreserved.clone();
        for owner in owners {
            usable.remove(owner.port);
            if owner.listening {
                outgoing.remove(owner.port);
            }
        }
        Self {
            range,
            reserved: range.ports() - unreserved.len(),
            listeners: unreserved.len() - outgoing.len(),
            blocked: unreserved.len() - usable.len(),
            unreserved,
            outgoing,
            usable,
        }
    }
}

/// When connect() may take over a TIME-WAIT socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReuseRule {
    scope: ReuseScope,
    delay_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReuseScope {
    Nowhere,
    Loopback,
    Everywhere,
}

impl ReuseRule {
    /// A setting that could not be read counts as off: headroom is not promised on a guess.
    pub(super) fn new(settings: &Settings) -> Self {
        let timestamps = settings.tcp_timestamps.is_some_and(|value| value != 0);
        let scope = match settings.tcp_tw_reuse {
            Some(1) if timestamps => ReuseScope::Everywhere,
            Some(2) if timestamps => ReuseScope::Loopback,
            _ => ReuseScope::Nowhere,
        };
        let delay_ms = settings
            .tcp_tw_reuse_delay_ms
            .map_or(BUILT_IN_REUSE_DELAY_MS, |delay| {
                u32::try_from(delay).unwrap_or(u32::MAX)
            });
        Self { scope, delay_ms }
    }

    /// The age in milliseconds that a TIME-WAIT socket must exceed where reuse is allowed at all.
    pub(super) const fn delay_ms(self) -> u32 {
        self.delay_ms
    }

    /// The age in milliseconds that a TIME-WAIT socket of this destination must exceed to be
    /// reusable; `u32::MAX`, which none does, where it never is.
    pub(super) fn age_limit_ms(self, destination: &Destination) -> u32 {
        let allowed = match self.scope {
            ReuseScope::Nowhere => false,
            ReuseScope::Loopback => {
                destination.src_addr.is_loopback() || destination.dst_addr.is_loopback()
            }
            ReuseScope::Everywhere => true,
        };
        if allowed { self.delay_ms } else { u32::MAX }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn owner(port: u16, listening: bool) -> PortOwner {
        PortOwner {
            addr: "::1".parse().unwrap(),
            port,
            listening,
            v6_only: false,
        }
    }

    #[test]
    fn reserved_and_owned_ports_are_counted_once_and_only_inside_the_range() {
        let reserved: PortSet = [99, 100, 105, 111].into_iter().collect();
        let owners = [
            owner(105, true),
            owner(106, true),
            owner(106, false),
            owner(107, false),
            owner(80, true),
        ];
        let pool = PortPool::new(PortRange::new(100, 110).unwrap(), Some(&reserved), &owners);
        assert_eq!((pool.reserved, pool.listeners, pool.blocked), (2, 1, 2));
        assert_eq!(
            pool.usable.iter().collect::<Vec<_>>(),
            [101, 102, 103, 104, 108, 109, 110]
        );
        assert!(pool.outgoing.contains(107) && !pool.outgoing.contains(106));
    }

    fn settings(reuse: i64, timestamps: i64, delay: Option<i64>) -> Settings {
        Settings {
            tcp_tw_reuse: Some(reuse),
            tcp_timestamps: Some(timestamps),
            tcp_tw_reuse_delay_ms: delay,
            ..Settings::default()
        }
    }

    fn limit(settings: &Settings, src: &str, dst: &str) -> u32 {
        let (src_addr, dst_addr) = (src.parse().unwrap(), dst.parse().unwrap());
        ReuseRule::new(settings).age_limit_ms(&Destination {
            src_addr,
            dst_addr,
            dst_port: 1,
        })
    }

    #[test]
    fn reuse_needs_timestamps_and_for_value_two_a_loopback_end() {
        let outside = ("192.0.2.1", "198.51.100.1");
        assert_eq!(limit(&settings(1, 1, None), outside.0, outside.1), 1_000);
        assert_eq!(limit(&settings(1, 2, Some(50)), outside.0, outside.1), 50);
        for (reuse, timestamps) in [(0, 1), (2, 1), (1, 0), (3, 1), (-1, 1)] {
            let got = limit(&settings(reuse, timestamps, None), outside.0, outside.1);
            assert_eq!(
                got,
                u32::MAX,
                "tcp_tw_reuse {reuse}, tcp_timestamps {timestamps}"
            );
        }
        assert_eq!(
            limit(&settings(2, 1, None), "127.0.0.1", "192.0.2.1"),
            1_000
        );
        assert_eq!(
            limit(&settings(2, 1, None), "192.0.2.1", "127.9.0.1"),
            1_000
        );
        assert_eq!(limit(&settings(2, 1, None), "::1", "::1"), 1_000);
        assert_eq!(limit(&Settings::default(), "::1", "::1"), u32::MAX);
    }

    #[test]
    fn a_delay_no_kernel_would_have_makes_nothing_reusable() {
        assert_eq!(limit(&settings(1, 1, Some(-5)), "::1", "::1"), u32::MAX);
        assert_eq!(
            limit(&settings(1, 1, Some(i64::MAX)), "::1", "::1"),
            u32::MAX
        );
    }
}
