//! Which namespaces are dumped in a run, and whether the last dump of one serves. Pure.
//!
//! **Invariant:** the last dump of a namespace never serves where one of its ratios had reached [`ALWAYS_FRESH_FROM`], or
//! can have reached it since. Two bounds say so, each by itself: how many sockets there are now, and what was in use at the
//! last dump plus all that was opened since.

use std::time::{Duration, Instant};

use crate::collector::bound::highest_ratio;
use crate::collector::sockets::connections;
use crate::domain::collectors::CollectorId;
use crate::domain::ports::PortSet;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Outcome, PortUsage, Reading, Snapshot};

/// Two fifths: connect() becomes slow when half of the ports are in use, since it searches one parity first.
const ALWAYS_FRESH_FROM: (u32, u32) = (2, 5);

/// Why a namespace is dumped, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A ratio may have become high, or no older dump may be exported.
    AtOnce,
    /// It has no dump yet, or none that serves, and is far from its limit.
    First,
    /// Its last dump serves until it is too old.
    InTurn,
}

/// What a namespace reports of itself in each run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Check {
    /// TCP sockets that use a port, but those that are only bound.
    tcp: Option<u64>,
    /// Sockets of programs, of any protocol.
    used: Option<u64>,
    /// Connections opened so far, by either side.
    opened: Option<u64>,
}

impl Check {
    pub(super) fn new(files: &Snapshot) -> Self {
        let opens = |name| files.count(CollectorId::Snmp, name);
        let opened = opens("ActiveOpens").zip(opens("PassiveOpens"));
        Self {
            tcp: files.socket_counts().and_then(connections),
            used: files.socket_counts().and_then(|counts| counts.get("used")),
            opened: opened.map(|(active, passive)| active.saturating_add(passive)),
        }
    }

    /// Whether there are so few sockets that no ratio can be high, whatever they are: each uses one port, and may make
    /// one unusable. Any socket may be a TCP socket that is only bound.
    fn is_small(&self, settings: &Settings) -> Option<bool> {
        let sockets = self.tcp?.saturating_add(self.used?);
        let mut ports = PortSet::of_range(settings.port_range?);
        ports.subtract(settings.reserved_ports.as_ref()?);
        let usable = u64::from(ports.len()).saturating_sub(sockets);
        Some(is_low(sockets, usable))
    }

    /// Whether and how urgently a namespace with this last dump is dumped.
    pub(super) fn need(&self, last: Option<&LastDump>, settings: &Settings) -> Need {
        let is_small = || self.is_small(settings) == Some(true);
        match last.filter(|last| last.is_of(self, settings)) {
            Some(last) if last.is_low() && (last.serves(self) == Some(true) || is_small()) => {
                Need::InTurn
            }
            _ if is_small() => Need::First,
            _ => Need::AtOnce,
        }
    }
}

/// Whether a ratio is below [`ALWAYS_FRESH_FROM`].
fn is_low(in_use: u64, usable: u64) -> bool {
    let (part, whole) = ALWAYS_FRESH_FROM;
    in_use.saturating_mul(whole.into()) < usable.saturating_mul(part.into())
}

/// The last dump of a namespace.
#[derive(Clone, Debug)]
pub(super) struct LastDump {
    pub(super) at: Instant,
    pub(super) outcome: Outcome,
    /// As it was before the dump began.
    pub(super) check: Check,
    pub(super) settings: Settings,
}

impl LastDump {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    /// Nothing where the dump failed.
    fn ports(&self) -> Option<&PortUsage> {
        match self.outcome.value.as_ref()? {
            Reading::Sockets(sockets) => sockets.ports.as_ref(),
            _ => None,
        }
    }

    /// Whether all of its ratios are: a high one is not exported again once its sockets may have gone.
    fn is_low(&self) -> bool {
        let (part, whole) = ALWAYS_FRESH_FROM;
        let ratio = self.ports().map(highest_ratio);
        ratio.is_some_and(|ratio| ratio < f64::from(part) / f64::from(whole))
    }

    /// Whether it is of the same namespace, with the same settings.
    fn is_of(&self, now: &Check, settings: &Settings) -> bool {
        *settings == self.settings && now.opened >= self.check.opened
    }

    /// Whether no ratio can have become high since, but by sockets that were only bound in the place of others.
    fn serves(&self, now: &Check) -> Option<bool> {
        let opened = now.opened?.checked_sub(self.check.opened?)?;
        // Further sockets may listen, and make a port unusable that an accepted one is left with.
        let more = now.used?.saturating_sub(self.check.used?);
        let ports = self.ports()?;
        let most = most_in_use(ports)?.saturating_add(opened);
        let usable = u64::from(ports.usable).saturating_sub(more);
        Some(is_low(most.saturating_add(more), usable))
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

/// How many namespaces are re-read although their last dump is still valid: evenly over time, each before its dump
/// is too old. Contains until when turns were taken.
#[derive(Debug, Default)]
pub(super) struct Turns(Option<Instant>);

impl Turns {
    /// The number for one run among this many namespaces.
    pub(super) fn take(&mut self, now: Instant, among: usize, max_age: Duration) -> usize {
        let all = u32::try_from(among).unwrap_or(u32::MAX);
        let each = (max_age / all.max(1)).max(Duration::from_nanos(1));
        let since = *self.0.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        let due = u32::try_from(passed.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        self.0 = Some(if due < all { since + each * due } else { now });
        usize::try_from(due.min(all)).unwrap_or(among)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::census::{Census, Moment};
    use crate::domain::options::CensusOptions;
    use crate::domain::ports::PortRange;
    use crate::domain::snapshot::Source;
    use crate::domain::socket::{PortOwner, Socket, TcpState};

    fn check(time_wait: u64, in_use: u64, opened: u64) -> Check {
        Check {
            tcp: Some(time_wait + in_use),
            used: Some(in_use),
            opened: Some(opened),
        }
    }

    fn settings() -> Settings {
        Settings {
            port_range: PortRange::new(40_000, 40_999),
            reserved_ports: Some(PortSet::new()),
            ..Settings::default()
        }
    }

    /// A dump of this many outgoing sockets to one destination, and this many accepted ones.
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
        LastDump {
            at: Instant::now(),
            outcome,
            check: check(0, in_use, opened),
            settings: settings(),
        }
    }

    fn is_outdated(last: &LastDump, now: &Check, settings: &Settings) -> bool {
        now.need(Some(last), settings) != Need::InTurn
    }

    #[test]
    fn so_few_sockets_need_no_dump_whatever_was_opened_meanwhile() {
        let last = dump(10, 0, 1_000);
        assert!(!is_outdated(&last, &check(200, 20, 500_000), &settings()));
        assert!(is_outdated(&last, &check(260, 20, 500_000), &settings()));
    }

    #[test]
    fn a_high_ratio_is_not_exported_again_when_its_sockets_have_gone() {
        let last = dump(450, 0, 1_000);
        assert_eq!(
            check(0, 3, 1_000).need(Some(&last), &settings()),
            Need::First
        );
    }

    #[test]
    fn many_sockets_of_a_server_need_no_dump_as_long_as_nothing_is_opened() {
        let last = dump(10, 5_000, 1_000);
        assert!(!is_outdated(&last, &check(0, 5_010, 1_000), &settings()));
        assert!(!is_outdated(&last, &check(0, 5_010, 1_389), &settings()));
        assert!(is_outdated(&last, &check(0, 5_010, 1_390), &settings()));
        // Additional sockets that were not opened may all be bound.
        assert!(!is_outdated(&last, &check(0, 5_150, 1_000), &settings()));
        assert!(is_outdated(&last, &check(0, 5_600, 1_000), &settings()));
    }

    #[test]
    fn changed_sysctls_and_a_new_namespace_need_a_dump_at_once() {
        let last = dump(10, 0, 1_000);
        let now = check(0, 10, 1_000);
        assert!(!is_outdated(&last, &now, &settings()));
        let narrower = Settings {
            port_range: PortRange::new(40_000, 40_499),
            ..settings()
        };
        assert!(is_outdated(&last, &now, &narrower));
        let reuse = Settings {
            tcp_tw_reuse: Some(1),
            ..settings()
        };
        assert!(is_outdated(&last, &now, &reuse));
        assert!(is_outdated(&last, &check(0, 10, 999), &settings()));
        let unknown = Check {
            tcp: None,
            opened: None,
            ..now
        };
        assert!(is_outdated(&last, &unknown, &settings()));
    }

    #[test]
    fn each_is_dumped_once_per_maximum_age_and_evenly() {
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
