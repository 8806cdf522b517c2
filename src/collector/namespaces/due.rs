//! Which namespaces are dumped in a run, and whether the last dump of one serves. Pure.
//!
//! **Invariant:** the last dump of a namespace never serves where one of its ratios can have reached
//! [`ALWAYS_FRESH_FROM`]. Two bounds say so, each by itself: how many sockets there are now, and what was in use at the
//! last dump plus all that was opened since.

use std::time::{Duration, Instant};

use crate::domain::settings::Settings;
use crate::domain::snapshot::{Counts, Outcome, PortUsage, Reading};

/// connect() becomes slow when half of the ports are in use, since it searches one parity first.
pub(super) const ALWAYS_FRESH_FROM: f64 = 0.4;

/// What a namespace says of itself in some 70 us, whatever the host has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// The kernel's socket counts.
    pub(super) sockets: Counts,
    /// `snmp`.
    pub(super) opens: Counts,
    /// `ip_local_port_range` and `ip_local_reserved_ports`, as they are written.
    pub(super) port_settings: String,
}

impl Check {
    /// Connections opened so far, by either side.
    fn opened(&self) -> Option<u64> {
        let count = |name| self.opens.get(name);
        Some(count("ActiveOpens")?.saturating_add(count("PassiveOpens")?))
    }

    /// Sockets of programs, of any protocol.
    fn used(&self) -> Option<u64> {
        self.sockets.get("used")
    }

    /// TCP sockets that use a port: at most those that are counted and, since bound ones are not, all
    /// others of any protocol.
    fn sockets(&self) -> Option<u64> {
        let tcp = self
            .sockets
            .get("tw")?
            .saturating_add(self.sockets.get("inuse")?);
        Some(tcp.saturating_add(self.used()?))
    }

    /// No ratio is above this, whatever the sockets are: each uses one port, and may make one unusable.
    pub(super) fn highest_ratio(&self, settings: &Settings) -> f64 {
        let ports = unreserved(settings).zip(self.sockets());
        ports.map_or(1.0, |(ports, sockets)| {
            share(sockets, ports.saturating_sub(sockets))
        })
    }
}

fn share(part: u64, whole: u64) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    if whole == 0 {
        1.0
    } else {
        float(part) / float(whole)
    }
}

/// Ports of the range that are not reserved.
fn unreserved(settings: &Settings) -> Option<u64> {
    let range = settings.port_range?;
    let reserved = settings.reserved_ports.as_ref()?;
    let inside = (range.min()..=range.max()).filter(|port| reserved.contains(*port));
    let inside = u32::try_from(inside.count()).unwrap_or(u32::MAX);
    Some(range.ports().saturating_sub(inside).into())
}

/// The last dump of a namespace.
#[derive(Clone, Debug)]
pub(super) struct LastDump {
    pub(super) at: Instant,
    pub(super) outcome: Outcome,
    /// As it was before the dump began.
    check: Check,
    settings: Settings,
    /// Ports in use towards the fullest destination or on the fullest address.
    most: Option<u64>,
    usable: u64,
}

impl LastDump {
    /// Nothing where it came to nothing.
    pub(super) fn new(
        at: Instant,
        outcome: &Outcome,
        check: Check,
        settings: Settings,
    ) -> Option<Self> {
        let Some(Reading::Sockets(sockets)) = &outcome.value else {
            return None;
        };
        let ports = sockets.ports.as_ref()?;
        Some(Self {
            at,
            outcome: outcome.clone(),
            check,
            settings,
            most: most_in_use(ports),
            usable: ports.usable.into(),
        })
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    /// Whether it must not be exported again: a ratio may have become high, the settings have changed, or it is
    /// another namespace.
    pub(super) fn is_outdated(&self, now: &Check, settings: &Settings) -> bool {
        if now.port_settings != self.check.port_settings || *settings != self.settings {
            return true;
        }
        let is_another = now.opened() < self.check.opened();
        is_another || now.highest_ratio(settings).min(self.highest_ratio(now)) >= ALWAYS_FRESH_FROM
    }

    /// No ratio has come above this since, but by sockets that were only bound in the place of others.
    fn highest_ratio(&self, now: &Check) -> f64 {
        let bound = || {
            let opened = now.opened()?.checked_sub(self.check.opened()?)?;
            // Further sockets may listen, and make a port unusable that an accepted one is left with.
            let more = now.used()?.saturating_sub(self.check.used()?);
            let most = self.most?.saturating_add(opened).saturating_add(more);
            Some(share(most, self.usable.saturating_sub(more)))
        };
        bound().unwrap_or(1.0)
    }
}

/// What any ratio of the dump was made of; `None` where that was not counted. The ports of listeners are of accepted
/// sockets, which use ports of their own once the listener has gone.
fn most_in_use(ports: &PortUsage) -> Option<u64> {
    let destinations = ports.by_destination.as_ref()?;
    let exported = destinations.exported.iter();
    let exported = exported.map(|one| one.in_use.total()).max();
    let sources = ports.by_source.iter().flatten();
    let source = sources.map(|one| u64::from(one.ports)).max();
    let most = exported.max(source).max(Some(destinations.other.total()));
    Some(most?.saturating_add(ports.blocked.into()))
}

/// How many of those whose last dump serves are dumped all the same, so that each has its turn before its dump is
/// too old, evenly over time.
#[derive(Debug, Default)]
pub(super) struct Turns {
    credit: f64,
    last: Option<Instant>,
}

impl Turns {
    /// For a run among so many.
    pub(super) fn take(&mut self, now: Instant, among: usize, max_age: Duration) -> usize {
        let passed = self
            .last
            .replace(now)
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let among_now = f64::from(u32::try_from(among).unwrap_or(u32::MAX));
        let due = among_now * (passed.as_secs_f64() / max_age.as_secs_f64().max(f64::MIN_POSITIVE));
        self.credit = (self.credit + due).min(among_now);
        let whole = (0..among).take_while(|_| {
            let has_one = self.credit >= 1.0;
            self.credit -= f64::from(u8::from(has_one));
            has_one
        });
        whole.count()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::census::{Census, Moment};
    use crate::domain::options::CensusOptions;
    use crate::domain::ports::{PortRange, PortSet};
    use crate::domain::snapshot::Source;
    use crate::domain::socket::{PortOwner, Socket, TcpState};

    fn check(time_wait: u64, in_use: u64, opened: u64) -> Check {
        Check {
            sockets: [("tw", time_wait), ("inuse", in_use), ("used", in_use)]
                .into_iter()
                .collect(),
            opens: [("ActiveOpens", opened), ("PassiveOpens", 0)]
                .into_iter()
                .collect(),
            port_settings: "40000 40999\n\n".to_owned(),
        }
    }

    fn settings() -> Settings {
        Settings {
            port_range: PortRange::new(40_000, 40_999),
            reserved_ports: Some(PortSet::new()),
            ..Settings::default()
        }
    }

    /// A dump of so many outgoing sockets to one destination, and so many accepted ones.
    fn dump(outgoing: u16, accepted: u16, opened: u64) -> LastDump {
        let listener = PortOwner {
            addr: "::1".parse().unwrap(),
            port: 80,
            listening: true,
            v6_only: false,
        };
        let owners = [listener];
        let mut census = Census::new(
            CensusOptions::default(),
            &settings(),
            Moment::default(),
            &owners,
        );
        let end = |src_port, dst_port| Socket {
            src_port,
            dst_port,
            src_addr: "192.0.2.1".parse().unwrap(),
            dst_addr: "198.51.100.1".parse().unwrap(),
            state: TcpState::Established,
            remaining_ms: 0,
            is_on_loopback_device: false,
        };
        for index in 0..outgoing {
            census.add(&end(40_000 + index, 443));
        }
        for index in 0..accepted {
            census.add(&end(80, 1_024 + index));
        }
        let outcome = Outcome::whole(Some(census.finish(Source::Netlink, 0)), Duration::ZERO);
        let in_use = u64::from(outgoing + accepted);
        LastDump::new(
            Instant::now(),
            &outcome,
            check(0, in_use, opened),
            settings(),
        )
        .unwrap()
    }

    #[test]
    fn what_is_counted_now_can_be_too_little_whatever_was_opened_meanwhile() {
        let last = dump(10, 0, 1_000);
        assert!(!last.is_outdated(&check(200, 20, 500_000), &settings()));
        assert!(last.is_outdated(&check(260, 20, 500_000), &settings()));
    }

    #[test]
    fn a_servers_many_sockets_are_no_ratio_as_long_as_nothing_is_opened() {
        let last = dump(10, 5_000, 1_000);
        assert!(!last.is_outdated(&check(0, 5_010, 1_000), &settings()));
        assert!(!last.is_outdated(&check(0, 5_010, 1_389), &settings()));
        assert!(last.is_outdated(&check(0, 5_010, 1_390), &settings()));
        // Of those that came without being opened any may be bound.
        assert!(!last.is_outdated(&check(0, 5_150, 1_000), &settings()));
        assert!(last.is_outdated(&check(0, 5_600, 1_000), &settings()));
    }

    #[test]
    fn other_settings_and_another_namespace_need_a_dump_at_once() {
        let last = dump(10, 0, 1_000);
        let now = check(0, 10, 1_000);
        assert!(!last.is_outdated(&now, &settings()));
        let narrower = Check {
            port_settings: "40000 40499\n\n".to_owned(),
            ..now.clone()
        };
        assert!(last.is_outdated(&narrower, &settings()));
        let reuse = Settings {
            tcp_tw_reuse: Some(1),
            ..settings()
        };
        assert!(last.is_outdated(&now, &reuse));
        assert!(last.is_outdated(&check(0, 10, 999), &settings()));
        let unknown = Check {
            opens: Counts::default(),
            sockets: Counts::default(),
            ..now
        };
        assert!(last.is_outdated(&unknown, &settings()));
    }

    #[test]
    fn each_has_its_turn_once_in_the_time_and_evenly() {
        let (mut turns, mut now) = (Turns::default(), Instant::now());
        let max_age = Duration::from_secs(300);
        assert_eq!(turns.take(now, 100, max_age), 0);
        let mut dumped = 0;
        for _ in 0..20 {
            now += Duration::from_secs(15);
            let some = turns.take(now, 100, max_age);
            assert!((4..=6).contains(&some), "{some}");
            dumped += some;
        }
        assert!((99..=100).contains(&dumped), "{dumped}");
        // After a long time all are due, and no more than all.
        assert_eq!(
            turns.take(now + Duration::from_secs(3_000), 100, max_age),
            100
        );
        assert!(turns.take(now + Duration::from_secs(3_001), 100, max_age) <= 1);
    }
}
